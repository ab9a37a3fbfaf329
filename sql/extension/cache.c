/*
 * Decoded columns of segments, kept in this process from query to query: at most ddstore.segment_cache of them.
 *
 * What is kept is found by the very row version it was decoded from (table, file, place, inserting transaction, id), which
 * never changes: whoever rewrites a segment makes another one. Whether a query may see that row, and whether its user may,
 * is found out by the scan of the segment table as ever; the cache is asked afterwards.
 */
#include "fdw.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "executor/tuptable.h"
#include "lib/ilist.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

/* What an entry takes beside its values: this much is counted, lest tiny segments make a crowd of entries. */
#define OVERHEAD 256

struct DdfdwCached {
	DdfdwCacheKey key;
	dlist_node recency;
	Size size;
	int pins;
	bool listed; /* false: unpinning it frees it */
	DdfdwDecoded decoded; /* within this entry's memory */
};

typedef struct Slot {
	DdfdwCacheKey key;
	DdfdwCached *entry;
} Slot;

static int limit_kb = 16 * 1024;
static MemoryContext context; /* NULL until the first entry */
static HTAB *slots;
static dlist_head by_recency; /* most recent first */
static Size total;

static void
unlist(DdfdwCached *entry)
{
	hash_search(slots, &entry->key, HASH_REMOVE, NULL);
	dlist_delete(&entry->recency);
	total -= entry->size;
	entry->listed = false;
	if (entry->pins == 0)
		pfree(entry);
}

static void
shrink(Size size)
{
	while (total > size)
		unlist(dlist_tail_element(DdfdwCached, recency, &by_recency));
}

static void
assign_limit(int new_limit, void *extra)
{
	if (context)
		shrink((Size)new_limit * 1024);
}

/* A table was changed, dropped or emptied (or, without an oid, any may have been): nothing will ask for its rows again. */
static void
forget_relation(Datum arg, Oid relation)
{
	dlist_mutable_iter at;

	if (context == NULL)
		return;
	dlist_foreach_modify(at, &by_recency)
	{
		DdfdwCached *entry = dlist_container(DdfdwCached, recency, at.cur);

		if (!OidIsValid(relation) || entry->key.relation == relation)
			unlist(entry);
	}
}

/* When the library is loaded. */
void
ddfdw_cache_init(void)
{
	DefineCustomIntVariable("ddstore.segment_cache", "Decoded values of segments that each session keeps.",
							"0 keeps none. Parallel workers start with an empty cache.", &limit_kb, limit_kb, 0, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, assign_limit, NULL);
	CacheRegisterRelcacheCallback(forget_relation, (Datum)0);
}

static void
create(void)
{
	HASHCTL control = {.keysize = sizeof(DdfdwCacheKey), .entrysize = sizeof(Slot)};

	/* Small blocks: whatever takes a kilobyte has one of its own, which goes back when it is freed. */
	control.hcxt = AllocSetContextCreate(TopMemoryContext, "ddstore segment cache", ALLOCSET_SMALL_SIZES);
	slots = hash_create("ddstore segment cache", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&by_recency);
	total = 0;
	context = control.hcxt;
}

/* The version of the segment's row in `row`, of whichever column. */
DdfdwCacheKey
ddfdw_cache_key(Relation companion, int64 id, TupleTableSlot *row)
{
	HeapTuple tuple = ExecFetchSlotHeapTuple(row, false, NULL);
	DdfdwCacheKey key = {.id = id, .relation = RelationGetRelid(companion)};

#if PG_VERSION_NUM >= 160000
	key.file = companion->rd_locator.relNumber;
#else
	key.file = companion->rd_node.relNode;
#endif
	key.inserter = HeapTupleHeaderGetRawXmin(tuple->t_data);
	key.tid = row->tts_tid;
	return key;
}

static DdfdwCacheKey
key_of(const DdfdwCacheKey *row, AttrNumber attno, Oid type)
{
	DdfdwCacheKey key = *row;

	key.attno = attno;
	key.type = type;
	return key;
}

/* The column as far as it is kept, pinned; NULL when nothing of it is. */
DdfdwCached *
ddfdw_cache_find(const DdfdwCacheKey *row, AttrNumber attno, Oid type)
{
	DdfdwCacheKey key = key_of(row, attno, type);
	Slot *slot = total > 0 ? hash_search(slots, &key, HASH_FIND, NULL) : NULL;

	if (slot == NULL)
		return NULL;
	dlist_move_head(&by_recency, &slot->entry->recency);
	slot->entry->pins++;
	return slot->entry;
}

static DdfdwCached *
copy(const DdfdwCacheKey *key, const DdfdwDecoded *from, Size head, Size size)
{
	DdfdwCached *entry = MemoryContextAllocHuge(context, size);
	Datum *values = (Datum *)((char *)entry + MAXALIGN(sizeof *entry));
	char *base = (char *)entry + head;

	entry->key = *key;
	entry->pins = 0;
	entry->decoded = *from;
	entry->decoded.values = memcpy(values, from->values, sizeof(Datum) * from->rows);
	if (from->nulls)
		entry->decoded.nulls = memcpy(values + from->rows, from->nulls, from->rows);
	if (from->base == NULL)
		return entry;
	entry->decoded.base = memcpy(base, from->base, from->base_len);
	for (uint32 i = 0; i < from->rows; i++)
		if (from->nulls == NULL || !from->nulls[i])
			values[i] = PointerGetDatum(base + (DatumGetPointer(from->values[i]) - from->base));
	return entry;
}

/*
 * Keep a copy of a column's first rows. `filled` is what this scan put in so far: a scan that is longer than the cache does
 * not push its own entries out again.
 */
void
ddfdw_cache_keep(const DdfdwCacheKey *row, AttrNumber attno, Oid type, const DdfdwDecoded *decoded, Size *filled)
{
	DdfdwCacheKey key = key_of(row, attno, type);
	Size limit = (Size)limit_kb * 1024;
	Size head = MAXALIGN(sizeof(DdfdwCached)) + MAXALIGN(sizeof(Datum) * decoded->rows + (decoded->nulls ? decoded->rows : 0));
	Size size = head + decoded->base_len;
	DdfdwCached *entry;
	Slot *slot;

	if (*filled + size + OVERHEAD > limit || IsParallelWorker()) /* a worker's ends with its query */
		return;
	if (context == NULL)
		create();
	slot = hash_search(slots, &key, HASH_FIND, NULL);
	if (slot)
		unlist(slot->entry);
	shrink(limit - size - OVERHEAD);
	entry = copy(&key, decoded, head, size);
	entry->size = size + OVERHEAD;
	slot = hash_search(slots, &key, HASH_ENTER_NULL, NULL);
	if (slot == NULL) {
		pfree(entry);
		return;
	}
	slot->entry = entry;
	entry->listed = true;
	dlist_push_head(&by_recency, &entry->recency);
	total += entry->size;
	*filled += entry->size;
}

/* What it holds, as long as it is pinned. */
const DdfdwDecoded *
ddfdw_cached(const DdfdwCached *entry)
{
	return &entry->decoded;
}

void
ddfdw_cache_unpin(DdfdwCached *entry)
{
	if (--entry->pins == 0 && !entry->listed)
		pfree(entry);
}
