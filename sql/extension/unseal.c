/*
 * Segments back into ordinary rows, with a statement's changes made to them.
 *
 * In one transaction the segment's row is deleted and its rows are inserted into the table, so every reader sees each
 * of them exactly once. Rows that the statement does not change appear as if they had always been there: no INSERT
 * trigger fires. A row it updates is inserted as it is from now on, one it deletes is not inserted at all; unless AFTER
 * triggers, such as those of foreign keys, want to see the change: then it is inserted as it was and changed after that.
 */
#include "modify.h"

#include "access/heapam.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define BATCH_ROWS 1000

void
ddfdw_check_limit(const DdfdwChanges *changes, int64 rows)
{
	const char *table = RelationGetRelationName(changes->hot);

	if (rows <= ddfdw_max_unsealed_rows)
		return;
	if (ddfdw_max_unsealed_rows == 0)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot change compacted rows of \"%s\": ddstore.max_unsealed_rows is 0", table),
				errhint("UPDATE ONLY and DELETE FROM ONLY change the rows not yet compacted."));
	ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			errmsg("cannot turn " INT64_FORMAT " compacted rows of \"%s\" back into ordinary ones: the limit is %d", rows,
				   table, ddfdw_max_unsealed_rows),
			errdetail("All rows of a segment are taken out when some of them are changed."),
			errhint("Change fewer segments at a time, by key or by time, or raise ddstore.max_unsealed_rows."));
}

static int
by_id(const void *a, const void *b)
{
	int64 x = (*(DdfdwTouched *const *)a)->id, y = (*(DdfdwTouched *const *)b)->id;

	return (x > y) - (x < y);
}

/* Segments to be taken apart, in the order of their numbers: two statements lock them in the same order. */
static DdfdwTouched **
list_touched(DdfdwChanges *changes, int *count)
{
	DdfdwTouched **list = palloc(sizeof(DdfdwTouched *) * Max(hash_get_num_entries(changes->segments), 1));
	HASH_SEQ_STATUS walk;
	DdfdwTouched *touched;

	*count = 0;
	hash_seq_init(&walk, changes->segments);
	while ((touched = hash_seq_search(&walk)) != NULL)
		if (touched->whole || touched->nupdated + touched->ndeleted > 0)
			list[(*count)++] = touched;
	qsort(list, *count, sizeof(DdfdwTouched *), by_id);
	return list;
}

/*
 * Rows unpacked by this statement may be compacted again, but not lose anything a second time: remember the time ranges
 * of their series.
 */
static void
settle(DdfdwChanges *changes, DdfdwTouched **list, int count)
{
	Oid types[] = {REGCLASSOID, INT8ARRAYOID};
	Datum arguments[2], *ids = palloc(sizeof(Datum) * Max(count, 1));
	int kept = 0;

	for (int i = 0; i < count; i++)
		if (list[i]->ndeleted < list[i]->n)
			ids[kept++] = Int64GetDatum(list[i]->id);
	if (kept == 0)
		return;
	arguments[0] = ObjectIdGetDatum(RelationGetRelid(changes->companion));
	arguments[1] = PointerGetDatum(construct_array(ids, kept, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	ddfdw_call_as_owner(RelationGetRelid(changes->foreign), "settle_segments", 2, types, arguments, NULL);
}

/* What one call of ddfdw_unseal works with. */
typedef struct Unseal {
	DdfdwChanges *changes;
	DdfdwSegment *segment;
	TupleTableSlot *row;  /* of the segment table */
	TupleTableSlot *cold; /* a row in the layout of the foreign table */
	TupleTableSlot *batch[BATCH_ROWS];
	int nbatch;
	BulkInsertState bulk;
	MemoryContext batch_context;
	bool see_updated, see_deleted; /* triggers want to see it */
	int64 id; /* of the segment, for messages */
} Unseal;

static void
say_where(void *arg)
{
	Unseal *unseal = arg;

	errcontext("turning segment " INT64_FORMAT " of \"%s\" back into ordinary rows", unseal->id,
			   RelationGetRelationName(unseal->changes->hot));
}

void
ddfdw_too_late(const char *what, Relation hot)
{
	ereport(ERROR, errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			errmsg("could not %s compacted rows of \"%s\": another transaction has just changed some of the same segment",
				   what, RelationGetRelationName(hot)),
			errhint("Run the statement again: the rows are ordinary ones by now."));
}

/*
 * Has this transaction deleted the segment after the statement began, in a trigger or function that it called? That it
 * has locked it (lock.c) is no obstacle.
 */
static bool
deleted_meanwhile(TupleTableSlot *row)
{
	HeapTupleHeader header = ExecFetchSlotHeapTuple(row, false, NULL)->t_data;

	return !(header->t_infomask & HEAP_XMAX_INVALID) && !HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask) &&
		   TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(header));
}

/* Lock the segment by deleting its row. */
static void
delete_segment(Unseal *unseal, DdfdwTouched *touched)
{
	Relation companion = unseal->changes->companion;
	Snapshot snapshot = unseal->changes->estate->es_snapshot;
	TM_FailureData failure;

	if (!table_tuple_fetch_row_version(companion, &touched->tid, snapshot, unseal->row))
		elog(ERROR, "segment " INT64_FORMAT " of \"%s\" is not there", touched->id, RelationGetRelationName(companion));
	if (deleted_meanwhile(unseal->row))
		ereport(ERROR, errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				errmsg("compacted rows of \"%s\" were already changed by an operation triggered by the current command",
					   RelationGetRelationName(unseal->changes->hot)),
				errhint("Change such rows in an AFTER trigger, or in a statement of their own."));
	if (table_tuple_delete(companion, &touched->tid, GetCurrentCommandId(true), snapshot, InvalidSnapshot, true, &failure,
						   false) != TM_Ok)
		ddfdw_too_late("change", unseal->changes->hot);
}

static List *
insert_into_indexes(DdfdwChanges *changes, TupleTableSlot *slot, bool update, bool only_summarizing)
{
	return ExecInsertIndexTuples(changes->hot_info, slot, changes->hot_estate, update, false, NULL, NIL
#if PG_VERSION_NUM >= 160000
								 ,
								 only_summarizing
#endif
	);
}

static void
insert_batch(Unseal *unseal)
{
	DdfdwChanges *changes = unseal->changes;
	MemoryContext old = MemoryContextSwitchTo(unseal->batch_context);

	table_multi_insert(changes->hot, unseal->batch, unseal->nbatch, GetCurrentCommandId(true), 0, unseal->bulk);
	for (int i = 0; i < unseal->nbatch; i++)
		/* A deferrable constraint is checked later by a trigger; these rows fire none, so what it would find is final. */
		if (changes->hot_info->ri_NumIndices > 0 && insert_into_indexes(changes, unseal->batch[i], false, false) != NIL)
			ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
					errmsg("a compacted row of \"%s\" violates a deferrable unique constraint",
						   RelationGetRelationName(changes->hot)));
	MemoryContextSwitchTo(old);
	MemoryContextReset(unseal->batch_context);
	ResetPerTupleExprContext(changes->hot_estate);
	unseal->nbatch = 0;
}

/* One row of the segment held, as the table takes it. */
static void
fill_row(Unseal *unseal, uint32 row, TupleTableSlot *slot)
{
	DdfdwChanges *changes = unseal->changes;
	TupleDesc desc = RelationGetDescr(changes->hot);

	ddfdw_segment_emit(unseal->segment, row, unseal->cold->tts_values, unseal->cold->tts_isnull);
	ExecClearTuple(slot);
	for (int i = 0; i < desc->natts; i++) {
		AttrNumber source = changes->to_hot ? changes->to_hot->attrMap->attnums[i] : i + 1;

		slot->tts_isnull[i] = source == 0 || unseal->cold->tts_isnull[source - 1];
		slot->tts_values[i] = slot->tts_isnull[i] ? (Datum)0 : unseal->cold->tts_values[source - 1];
	}
	ExecStoreVirtualTuple(slot);
	if (desc->constr) {
		if (desc->constr->has_generated_stored)
			ExecComputeStoredGenerated(changes->hot_info, changes->hot_estate, slot, CMD_INSERT);
		ExecConstraints(changes->hot_info, slot, changes->hot_estate);
	}
}

/* Insert the segment's rows; places[i] becomes that of the i-th changed one. */
static void
insert_rows(Unseal *unseal, DdfdwTouched *touched, ItemPointerData *places)
{
	uint32 *numbers = palloc(sizeof(uint32) * BATCH_ROWS), changed = 0, updated = 0;

	ddfdw_segment_times(unseal->segment, unseal->row);
	if (unseal->segment->n != touched->n)
		elog(ERROR, "segment " INT64_FORMAT " has another number of rows than it had", touched->id);
	ddfdw_segment_columns(unseal->segment, unseal->row, touched->n);
	for (uint32 row = 0; row < touched->n; row++) {
		bool kept = unseal->see_deleted || !ddfdw_is_set(touched->deleted, row);

		CHECK_FOR_INTERRUPTS();
		if (kept) {
			if (unseal->batch[unseal->nbatch] == NULL)
				unseal->batch[unseal->nbatch] = table_slot_create(unseal->changes->hot, NULL);
			numbers[unseal->nbatch] = row;
			if (!unseal->see_updated && updated < touched->nupdated && touched->updated[updated].row == row)
				ExecForceStoreHeapTuple(touched->updated[updated++].tuple, unseal->batch[unseal->nbatch++], false);
			else
				fill_row(unseal, row, unseal->batch[unseal->nbatch++]);
		}
		if (unseal->nbatch == BATCH_ROWS || (row + 1 == touched->n && unseal->nbatch > 0)) {
			int count = unseal->nbatch;

			insert_batch(unseal);
			for (int i = 0; i < count; i++)
				if (ddfdw_is_set(touched->changed, numbers[i]))
					places[changed++] = unseal->batch[i]->tts_tid;
		}
	}
	pfree(numbers);
}

static void
update_row(Unseal *unseal, ItemPointer place, HeapTuple tuple)
{
	DdfdwChanges *changes = unseal->changes;
	List *recheck = NIL;
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;
#else
	bool indexes;
#endif

	ExecForceStoreHeapTuple(tuple, changes->new_row, false);
	simple_table_tuple_update(changes->hot, place, changes->new_row, changes->estate->es_snapshot, &indexes);
	if (changes->hot_info->ri_NumIndices > 0 && indexes)
#if PG_VERSION_NUM >= 160000
		recheck = insert_into_indexes(changes, changes->new_row, true, indexes == TU_Summarizing);
#else
		recheck = insert_into_indexes(changes, changes->new_row, true, false);
#endif
	ExecARUpdateTriggers(changes->hot_estate, changes->hot_info, NULL, NULL, place, NULL, changes->new_row, recheck, NULL,
						 false);
}

static int
by_row(const void *a, const void *b)
{
	uint32 x = ((const DdfdwNewRow *)a)->row, y = ((const DdfdwNewRow *)b)->row;

	return (x > y) - (x < y);
}

/* The changes that triggers want to see, of rows that were just inserted; places are those of the changed rows, in order. */
static void
change_rows(Unseal *unseal, DdfdwTouched *touched, ItemPointerData *places)
{
	DdfdwChanges *changes = unseal->changes;
	uint32 updated = 0;

	CommandCounterIncrement(); /* to see them */
	for (uint32 row = 0; row < touched->n; row++) {
		bool deleted = ddfdw_is_set(touched->deleted, row);

		if (!ddfdw_is_set(touched->changed, row) || (deleted && !unseal->see_deleted))
			continue;
		CHECK_FOR_INTERRUPTS();
		if (deleted) {
			simple_table_tuple_delete(changes->hot, places, changes->estate->es_snapshot);
			ExecARDeleteTriggers(changes->hot_estate, changes->hot_info, places, NULL, NULL, false);
		} else if (unseal->see_updated)
			update_row(unseal, places, touched->updated[updated++].tuple);
		ResetPerTupleExprContext(changes->hot_estate);
		places++;
	}
}

static void
unseal_segment(Unseal *unseal, DdfdwTouched *touched)
{
	ItemPointerData *places;

	unseal->id = touched->id;
	delete_segment(unseal, touched);
	if (touched->ndeleted == touched->n && !unseal->see_deleted)
		return; /* nothing is left of it */
	qsort(touched->updated, touched->nupdated, sizeof(DdfdwNewRow), by_row);
	places = palloc(sizeof(ItemPointerData) * (touched->nupdated + touched->ndeleted));
	insert_rows(unseal, touched, places);
	if (unseal->see_updated || unseal->see_deleted)
		change_rows(unseal, touched, places);
	pfree(places);
}

/* Columns of the foreign table that segments have something of. */
List *
ddfdw_stored_columns(const DdfdwTable *table)
{
	List *columns = NIL;

	for (int i = 0; i < table->natts; i++)
		if (table->columns[i].source != DDFDW_ABSENT)
			columns = lappend_int(columns, i + 1);
	return columns;
}

static Unseal *
open_unseal(DdfdwChanges *changes)
{
	Unseal *unseal = palloc0(sizeof *unseal);
	TriggerDesc *triggers = changes->hot_info->ri_TrigDesc;

	unseal->changes = changes;
	unseal->see_updated = triggers && triggers->trig_update_after_row;
	unseal->see_deleted = triggers && triggers->trig_delete_after_row;
	unseal->segment = ddfdw_segment_create(changes->table, changes->companion, ddfdw_stored_columns(changes->table),
										   true, changes->estate->es_snapshot);
	unseal->row = table_slot_create(changes->companion, NULL);
	unseal->cold = MakeSingleTupleTableSlot(RelationGetDescr(changes->foreign), &TTSOpsVirtual);
	memset(unseal->cold->tts_isnull, true, sizeof(bool) * unseal->cold->tts_tupleDescriptor->natts);
	unseal->bulk = GetBulkInsertState();
	unseal->batch_context = AllocSetContextCreate(CurrentMemoryContext, "ddstore rows", ALLOCSET_DEFAULT_SIZES);
	return unseal;
}

static void
close_unseal(Unseal *unseal)
{
	FreeBulkInsertState(unseal->bulk);
	table_finish_bulk_insert(unseal->changes->hot, 0);
	for (int i = 0; i < BATCH_ROWS && unseal->batch[i]; i++)
		ExecDropSingleTupleTableSlot(unseal->batch[i]);
	ExecDropSingleTupleTableSlot(unseal->cold);
	ExecDropSingleTupleTableSlot(unseal->row);
	ddfdw_segment_release(unseal->segment);
}

static bool
sets_key_or_time(DdfdwChanges *changes)
{
	Bitmapset *updated = ExecGetUpdatedCols(changes->hot_info, changes->hot_estate);

	for (int i = 0; i < RelationGetDescr(changes->hot)->natts; i++) {
		AttrNumber source = changes->to_hot ? changes->to_hot->attrMap->attnums[i] : i + 1;

		if (source > 0 && bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, updated) &&
			(changes->table->columns[source - 1].source == DDFDW_KEY ||
			 changes->table->columns[source - 1].source == DDFDW_TIME))
			return true;
	}
	return false;
}

/* The rows of the table that this transaction has written. */
static Datum
rows_written(DdfdwChanges *changes)
{
	ArrayBuildState *places = initArrayResult(TIDOID, CurrentMemoryContext, false);
	TupleTableSlot *slot = table_slot_create(changes->hot, NULL);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(changes->hot, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
		bool null;
		Datum xmin = slot_getsysattr(slot, MinTransactionIdAttributeNumber, &null);

		CHECK_FOR_INTERRUPTS();
		if (TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin)))
			accumArrayResult(places, PointerGetDatum(&slot->tts_tid), false, TIDOID, CurrentMemoryContext);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	return makeArrayResult(places, CurrentMemoryContext);
}

/*
 * A row that gets another key or time takes along what is remembered of the place where it was. Which rows of the table
 * the statement has moved nobody tells us; all that its transaction wrote are a few too many, and that is harmless.
 */
static void
settle_moved(DdfdwChanges *changes)
{
	Oid foreign = RelationGetRelid(changes->foreign), types[] = {REGCLASSOID, TIDARRAYOID};
	Datum arguments[2] = {ObjectIdGetDatum(RelationGetRelid(changes->companion))};

	if (!sets_key_or_time(changes) ||
		!DatumGetBool(ddfdw_call_as_owner(foreign, "has_settled", 1, types, arguments, NULL)))
		return;
	CommandCounterIncrement();
	arguments[1] = rows_written(changes);
	ddfdw_call_as_owner(foreign, "settle_rows", 2, types, arguments, NULL);
}

/* Carry out what was noted, and forget it. */
void
ddfdw_unseal(DdfdwChanges *changes)
{
	MemoryContext context = AllocSetContextCreate(changes->context, "ddstore unseal", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int count;
	DdfdwTouched **list = list_touched(changes, &count);
	HASH_SEQ_STATUS walk;
	DdfdwTouched *touched;
	int64 rows = 0;

	for (int i = 0; i < count; i++)
		rows += list[i]->n - list[i]->ndeleted;
	ddfdw_check_limit(changes, rows);
	if (count > 0) {
		Unseal *unseal = open_unseal(changes);
		ErrorContextCallback where = {error_context_stack, say_where, unseal};

		settle(changes, list, count);
		error_context_stack = &where;
		for (int i = 0; i < count; i++)
			unseal_segment(unseal, list[i]);
		error_context_stack = where.previous;
		close_unseal(unseal);
	}
	settle_moved(changes);
	hash_seq_init(&walk, changes->segments);
	while ((touched = hash_seq_search(&walk)) != NULL)
		hash_search(changes->segments, &touched->id, HASH_REMOVE, NULL);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
