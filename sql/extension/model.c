/*
 * Shared models (ddstore.model), read by id under the query's snapshot and kept for the scan.
 *
 * Segments of one series follow one another and share their model, so a few entries are enough; a scan over ten
 * thousand series must not hold ten thousand models.
 */
#include "fdw.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define CACHED_MODELS 32

typedef struct Entry {
	bool used;
	int64 id;
	MemoryContext context; /* holds the bytes */
	dd_model model;
} Entry;

struct DdfdwModels {
	Oid foreign, oid;
	Snapshot snapshot;
	MemoryContext context;
	bool checked; /* the right to read them */
	Relation rel, index; /* opened with the first model */
	AttrNumber bytes;
	TupleTableSlot *slot;
	int next; /* entry to replace */
	Entry entries[CACHED_MODELS];
};

DdfdwModels *
ddfdw_models_create(Oid foreign, Snapshot snapshot, MemoryContext parent)
{
	DdfdwModels *models = MemoryContextAllocZero(parent, sizeof *models);

	models->foreign = foreign;
	models->snapshot = snapshot;
	models->context = AllocSetContextCreate(parent, "ddstore models", ALLOCSET_DEFAULT_SIZES);
	return models;
}

/* Find the models. One tells something about the data it was trained on, so they are guarded like the segments. */
void
ddfdw_models_check_access(DdfdwModels *models)
{
	Oid wrapper;

	if (models->checked)
		return;
	/* The models are in the schema the extension was created in, whatever the search path says. */
	wrapper = GetForeignServer(GetForeignTable(models->foreign)->serverid)->fdwid;
	models->oid = get_relname_relid("model", get_func_namespace(GetForeignDataWrapper(wrapper)->fdwhandler));
	if (OidIsValid(models->oid))
		ddfdw_check_access(models->foreign, models->oid);
	models->checked = true;
}

static void
open_relation(DdfdwModels *models)
{
	AttrNumber id;

	ddfdw_models_check_access(models);
	if (!OidIsValid(models->oid))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("a segment refers to a shared model, but the table \"model\" does not exist"),
				errhint("Run \"ddstore migrate\"."));
	models->rel = table_open(models->oid, AccessShareLock);
	id = get_attnum(models->oid, "id");
	models->bytes = get_attnum(models->oid, "bytes");
	if (get_atttype(models->oid, id) != INT8OID || get_atttype(models->oid, models->bytes) != BYTEAOID ||
		(models->index = ddfdw_open_index(models->rel, id)) == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("table \"%s\" is not DDStore's table of models", RelationGetRelationName(models->rel)),
				errhint("Run \"ddstore migrate\"."));
	models->slot = table_slot_create(models->rel, NULL);
}

/* Copy the bytes of a model into the entry's context; false when there is no such model. */
static bool
fetch(DdfdwModels *models, int64 id, Entry *entry, const uint8_t **bytes, size_t *len)
{
	ScanKeyData key;
	IndexScanDesc scan;
	bool found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = index_beginscan(models->rel, models->index, models->snapshot,
#if PG_VERSION_NUM >= 180000
						   NULL,
#endif
						   1, 0);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, models->slot);
	if (found) {
		bool null;
		Datum value = slot_getattr(models->slot, models->bytes, &null);

		found = !null;
		if (found) {
			MemoryContext old = MemoryContextSwitchTo(entry->context);
			struct varlena *copy = PG_DETOAST_DATUM_COPY(value);

			MemoryContextSwitchTo(old);
			*bytes = (const uint8_t *)VARDATA_ANY(copy);
			*len = VARSIZE_ANY_EXHDR(copy);
		}
	}
	ExecClearTuple(models->slot);
	index_endscan(scan);
	return found;
}

/* The model of that id, valid until the next call; NULL, with the reason in `err`, when it is missing or damaged. */
const dd_model *
ddfdw_models_get(DdfdwModels *models, int64 id, dd_error *err)
{
	MemoryContext old;
	Entry *entry;
	const uint8_t *bytes;
	size_t len;
	bool found;

	for (int i = 0; i < CACHED_MODELS; i++)
		if (models->entries[i].used && models->entries[i].id == id)
			return &models->entries[i].model;

	entry = &models->entries[models->next];
	models->next = (models->next + 1) % CACHED_MODELS;
	entry->used = false;
	old = MemoryContextSwitchTo(models->context);
	if (entry->context)
		MemoryContextReset(entry->context);
	else
		entry->context = AllocSetContextCreate(models->context, "ddstore model", ALLOCSET_DEFAULT_SIZES);
	if (models->rel == NULL)
		open_relation(models);
	found = fetch(models, id, entry, &bytes, &len);
	MemoryContextSwitchTo(old);
	if (!found) {
		err->status = DD_CORRUPT;
		err->what = "its model does not exist";
		return NULL;
	}
	if (dd_model_open(bytes, len, &entry->model, err) != DD_OK)
		return NULL;
	entry->id = id;
	entry->used = true;
	return &entry->model;
}

void
ddfdw_models_close(DdfdwModels *models)
{
	if (models->slot)
		ExecDropSingleTupleTableSlot(models->slot);
	if (models->index)
		index_close(models->index, AccessShareLock);
	if (models->rel)
		table_close(models->rel, AccessShareLock);
}
