/*
 * SELECT ... FOR UPDATE, NO KEY UPDATE, SHARE and KEY SHARE of compacted rows.
 *
 * A compacted row has no place of its own for a lock, so its segment is locked, in the mode asked for. Whoever changes any
 * row of a segment deletes it, which waits for every mode: until the transaction ends nobody else changes the row that
 * was locked, nor those beside it. Readers go on, and so does whoever locks in a mode that agrees.
 */
#include "modify.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "utils/memutils.h"

/* What is remembered between the rows that a plan node locks. */
typedef struct LastLocked {
	int64 id;	 /* of a segment */
	bool locked; /* or passed over */
	MemoryContext context; /* reset with each row */
} LastLocked;

RowMarkType
ddfdw_row_mark(RangeTblEntry *rte, LockClauseStrength strength)
{
	switch (strength) {
	case LCS_FORKEYSHARE: return ROW_MARK_KEYSHARE;
	case LCS_FORSHARE: return ROW_MARK_SHARE;
	case LCS_FORNOKEYUPDATE: return ROW_MARK_NOKEYEXCLUSIVE;
	case LCS_FORUPDATE: return ROW_MARK_EXCLUSIVE;
	case LCS_NONE: break;
	}
	return ROW_MARK_COPY;
}

static LockTupleMode
mode_of(const ExecRowMark *mark)
{
	switch (mark->markType) {
	case ROW_MARK_KEYSHARE: return LockTupleKeyShare;
	case ROW_MARK_SHARE: return LockTupleShare;
	case ROW_MARK_NOKEYEXCLUSIVE: return LockTupleNoKeyExclusive;
	default: return LockTupleExclusive;
	}
}

/* Lock a segment; false: somebody else has, and it is to be passed over. */
static bool
lock_segment(EState *estate, const ExecRowMark *mark, Relation companion, ItemPointer tid)
{
	TupleTableSlot *segment = table_slot_create(companion, NULL);
	TM_FailureData failure;
	TM_Result result = table_tuple_lock(companion, tid, estate->es_snapshot, segment, estate->es_output_cid, mode_of(mark),
										mark->waitPolicy, 0, &failure);

	ExecDropSingleTupleTableSlot(segment);
	switch (result) {
	case TM_Ok:
	case TM_SelfModified: /* this transaction has taken it apart: its rows are locked as any that nobody else sees */
		return true;
	case TM_WouldBlock: return false;
	default: {
		Relation hot = table_open(ddfdw_hot_table(RelationGetRelid(mark->relation)), NoLock);

		ddfdw_too_late("lock", hot);
	}
	}
}

/*
 * Is this the only table whose rows the query locks? Then none of its rows is looked at again after another one had to
 * be waited for.
 */
static bool
is_alone(const EState *estate, const ExecRowMark *mark)
{
	for (Index i = 0; i < estate->es_range_table_size; i++) {
		const ExecRowMark *other = estate->es_rowmarks ? estate->es_rowmarks[i] : NULL;

		if (other && RowMarkRequiresRowShareLock(other->markType) && other->prti != mark->prti)
			return false;
	}
	return true;
}

/* The row, in the layout of the foreign table. */
static HeapTuple
read_row(EState *estate, Relation foreign, Relation companion, const DdfdwTable *table, ItemPointer tid, uint32 row)
{
	TupleDesc desc = RelationGetDescr(foreign);
	Datum *values = palloc0(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);
	TupleTableSlot *stored = table_slot_create(companion, NULL);
	DdfdwSegment *segment =
		ddfdw_segment_create(table, companion, ddfdw_stored_columns(table), true, estate->es_snapshot);
	HeapTuple tuple;

	memset(nulls, true, sizeof(bool) * desc->natts);
	if (!table_tuple_fetch_row_version(companion, tid, estate->es_snapshot, stored))
		elog(ERROR, "a segment of \"%s\" is not there", RelationGetRelationName(companion));
	ddfdw_segment_times(segment, stored);
	ddfdw_segment_columns(segment, stored, row + 1);
	ddfdw_segment_emit(segment, row, values, nulls);
	tuple = heap_form_tuple(desc, values, nulls);
	ddfdw_segment_release(segment);
	ExecDropSingleTupleTableSlot(stored);
	return tuple;
}

static LastLocked *
last_locked(EState *estate, ExecRowMark *mark)
{
	LastLocked *last = mark->ermExtra;

	if (last)
		return last;
	mark->ermExtra = last = MemoryContextAllocZero(estate->es_query_cxt, sizeof *last);
	last->id = -1;
	last->context = AllocSetContextCreate(estate->es_query_cxt, "ddstore lock", ALLOCSET_DEFAULT_SIZES);
	return last;
}

static HeapTuple
nothing(Relation foreign)
{
	TupleDesc desc = RelationGetDescr(foreign);
	bool *nulls = palloc(sizeof(bool) * desc->natts);

	memset(nulls, true, sizeof(bool) * desc->natts);
	return heap_form_tuple(desc, palloc0(sizeof(Datum) * desc->natts), nulls);
}

/* Lock a row that the query returns, and give it back; nothing where it is to be passed over. */
void
ddfdw_lock_row(EState *estate, ExecRowMark *mark, Datum rowid, TupleTableSlot *slot, bool *updated)
{
	Oid foreign = RelationGetRelid(mark->relation);
	LastLocked *last = last_locked(estate, mark);
	bool alone = is_alone(estate, mark);
	uint32 row, n;
	int64 id = ddfdw_place(rowid, RelationGetRelationName(mark->relation), &row);
	HeapTuple tuple = NULL;
	MemoryContext old;

	*updated = false;
	ExecClearTuple(slot);
	MemoryContextReset(last->context);
	old = MemoryContextSwitchTo(last->context);
	if (last->id != id || (last->locked && !alone)) {
		Relation companion = table_open(ddfdw_companion_oid(foreign), RowShareLock);
		DdfdwTable *table = ddfdw_bind(mark->relation, companion);
		ItemPointerData tid;

		ddfdw_check_owner(foreign, RelationGetRelid(companion), ACL_UPDATE);
		if (!ddfdw_find_segment(companion, table, id, estate->es_snapshot, &tid, &n))
			elog(ERROR, "segment " INT64_FORMAT " of \"%s\" is not there", id, RelationGetRelationName(companion));
		last->locked = lock_segment(estate, mark, companion, &tid);
		last->id = id;
		if (last->locked && !alone)
			tuple = read_row(estate, mark->relation, companion, table, &tid, row);
		table_close(companion, NoLock);
	}
	if (last->locked) {
		ExecForceStoreHeapTuple(tuple ? tuple : nothing(mark->relation), slot, false); /* of which nobody looks at NULLs */
		ExecMaterializeSlot(slot);
	}
	MemoryContextSwitchTo(old);
}
