/*
 * UPDATE and DELETE of compacted rows: noting, row by row, what is to be done (changes.c says when it is).
 *
 * The executor knows a compacted row by its ctid: the segment's number in the upper 28 bits, the row's in the other 20.
 *
 * Row triggers, constraints and policies are those of the table, not those of the foreign table: to whoever wrote the
 * statement there is one table.
 */
#include "modify.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "nodes/makefuncs.h"
#include "optimizer/appendinfo.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#define ROW_BITS 20
#define MAX_SEGMENT ((INT64CONST(1) << (48 - ROW_BITS)) - 2)

/* What a modifying plan node keeps. */
typedef struct ModifyNode {
	DdfdwChanges *changes; /* NULL for INSERT, which is refused */
	AttrNumber ctid, whole_row; /* in the plan's rows; whole_row may be invalid */
} ModifyNode;

void
ddfdw_identify(ItemPointer tid, int64 segment, uint32 row)
{
	if (segment < 0 || segment > MAX_SEGMENT)
		ItemPointerSetInvalid(tid);
	else {
		uint64 place = (uint64)segment << ROW_BITS | row;

		ItemPointerSet(tid, (BlockNumber)(place >> 16), (OffsetNumber)(place & 0xFFFF));
	}
}

static bool
has_delete_trigger(Oid relid)
{
	Relation rel = table_open(relid, AccessShareLock);
	bool found = rel->trigdesc && rel->trigdesc->trig_delete_before_row;

	table_close(rel, NoLock);
	return found;
}

/* The columns by which a changed row is found, and, where a DELETE needs it, the row itself; for UPDATE it always comes. */
void
ddfdw_add_targets(PlannerInfo *root, Index rtindex, RangeTblEntry *rte, Relation foreign)
{
	Var *ctid = makeVar(rtindex, SelfItemPointerAttributeNumber, TIDOID, -1, InvalidOid, 0);

	add_row_identity_var(root, ctid, rtindex, "ctid");
	if (root->parse->commandType == CMD_DELETE &&
		(root->parse->returningList != NIL || has_delete_trigger(ddfdw_hot_table(RelationGetRelid(foreign)))))
		add_row_identity_var(root, makeVar(rtindex, InvalidAttrNumber, RECORDOID, -1, InvalidOid, 0), rtindex, "wholerow");
}

void
ddfdw_begin_modify(ModifyTableState *node, ResultRelInfo *target, List *fdw_private, int subplan_index, int eflags)
{
	List *columns = outerPlanState(node)->plan->targetlist;
	ModifyNode *mine;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	mine = palloc0(sizeof *mine);
	target->ri_FdwState = mine;
	if (node->operation == CMD_INSERT)
		return;
	mine->ctid = ExecFindJunkAttributeInTlist(columns, "ctid");
	mine->whole_row = ExecFindJunkAttributeInTlist(columns, "wholerow");
	mine->changes = ddfdw_open_changes(node->ps.state, target);
}

void
ddfdw_end_modify(EState *estate, ResultRelInfo *target)
{
	ModifyNode *mine = target->ri_FdwState;

	if (mine && mine->changes)
		ddfdw_close_changes(mine->changes);
}

static void
find_segment(DdfdwChanges *changes, DdfdwTouched *touched)
{
	Relation index = ddfdw_open_index(changes->companion, changes->table->id);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	MemoryContext old;
	Datum n;
	bool null;

	ScanKeyInit(&key, changes->table->id, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(touched->id));
	scan = systable_beginscan(changes->companion, index ? RelationGetRelid(index) : InvalidOid, index != NULL,
							  changes->estate->es_snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "segment " INT64_FORMAT " of \"%s\" is not there", touched->id,
			 RelationGetRelationName(changes->companion));
	touched->tid = tuple->t_self;
	n = heap_getattr(tuple, changes->table->n, RelationGetDescr(changes->companion), &null);
	touched->n = null ? 0 : (uint32)DatumGetInt32(n);
	systable_endscan(scan);
	if (index)
		index_close(index, AccessShareLock);
	old = MemoryContextSwitchTo(changes->context);
	touched->changed = palloc0(touched->n / 8 + 1);
	touched->deleted = palloc0(touched->n / 8 + 1);
	touched->ndeleted = touched->nupdated = touched->capacity = 0;
	touched->updated = NULL;
	MemoryContextSwitchTo(old);
}

/* The segment and row that the plan's row stands for. */
static DdfdwTouched *
find_row(ModifyNode *mine, TupleTableSlot *plan_slot, uint32 *row)
{
	DdfdwChanges *changes = mine->changes;
	bool null, found;
	Datum ctid = ExecGetJunkAttribute(plan_slot, mine->ctid, &null);
	uint64 place;
	int64 id;
	DdfdwTouched *touched;

	if (null || (ItemPointerGetBlockNumberNoCheck((ItemPointer)DatumGetPointer(ctid)) == InvalidBlockNumber))
		ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("cannot change a compacted row of \"%s\": its segment has too high a number",
					   RelationGetRelationName(changes->hot)),
				errhint("\"ddstore release\" turns every row back into an ordinary one."));
	place = (uint64)ItemPointerGetBlockNumberNoCheck((ItemPointer)DatumGetPointer(ctid)) << 16 |
			ItemPointerGetOffsetNumberNoCheck((ItemPointer)DatumGetPointer(ctid));
	id = (int64)(place >> ROW_BITS);
	*row = (uint32)(place & ((1 << ROW_BITS) - 1));
	touched = hash_search(changes->segments, &id, HASH_ENTER, &found);
	if (!found)
		find_segment(changes, touched);
	if (*row >= touched->n)
		elog(ERROR, "segment " INT64_FORMAT " of \"%s\" has no row %u", id, RelationGetRelationName(changes->companion),
			 *row);
	return touched;
}

static void
note_update(DdfdwChanges *changes, DdfdwTouched *touched, uint32 row)
{
	MemoryContext old;

	if (touched->nupdated == 0) {
		changes->planned += touched->n;
		ddfdw_check_limit(changes, changes->planned); /* no need to go on to the end to find that out */
	}
	old = MemoryContextSwitchTo(changes->context);
	if (touched->nupdated == touched->capacity) {
		touched->capacity = Max(2 * touched->capacity, 8);
		touched->updated = touched->updated ? repalloc(touched->updated, sizeof(DdfdwNewRow) * touched->capacity)
											: palloc(sizeof(DdfdwNewRow) * touched->capacity);
	}
	touched->updated[touched->nupdated].row = row;
	touched->updated[touched->nupdated++].tuple = ExecCopySlotHeapTuple(changes->new_row);
	touched->changed[row / 8] |= 1 << row % 8;
	MemoryContextSwitchTo(old);
}

/* Values of a row in another layout; from stays what it is, and to lives as long as from's values. */
static void
copy_row(TupleTableSlot *from, TupleTableSlot *to, const TupleConversionMap *map)
{
	slot_getallattrs(from);
	ExecClearTuple(to);
	for (int i = 0; i < to->tts_tupleDescriptor->natts; i++) {
		AttrNumber source = map ? map->attrMap->attnums[i] : i + 1;

		to->tts_isnull[i] = source == 0 || from->tts_isnull[source - 1];
		to->tts_values[i] = to->tts_isnull[i] ? (Datum)0 : from->tts_values[source - 1];
	}
	ExecStoreVirtualTuple(to);
}

/* The row as the statement found it, in the layout of the foreign table. */
static HeapTuple
old_row(ModifyNode *mine, TupleTableSlot *plan_slot)
{
	HeapTuple tuple = palloc0(sizeof *tuple);
	bool null = true;
	Datum row = (Datum)0;

	if (mine->whole_row != InvalidAttrNumber)
		row = ExecGetJunkAttribute(plan_slot, mine->whole_row, &null);
	if (null)
		elog(ERROR, "the plan does not return the compacted rows that it changes");
	tuple->t_data = DatumGetHeapTupleHeader(row);
	tuple->t_len = HeapTupleHeaderGetDatumLength(tuple->t_data);
	ItemPointerSetInvalid(&tuple->t_self);
	return tuple;
}

/* The same in the layout of the table, as triggers get it. */
static HeapTuple
old_hot_row(ModifyNode *mine, TupleTableSlot *plan_slot)
{
	HeapTuple tuple = old_row(mine, plan_slot);

	return mine->changes->to_hot ? execute_attr_map_tuple(tuple, mine->changes->to_hot) : tuple;
}

/* BEFORE triggers; false: leave the row alone. */
static bool
fire_before_update(ModifyNode *mine, TupleTableSlot *plan_slot)
{
	DdfdwChanges *changes = mine->changes;
	TM_FailureData failure;

	return ExecBRUpdateTriggers(changes->hot_estate, NULL, changes->hot_info, NULL, old_hot_row(mine, plan_slot),
								changes->new_row,
#if PG_VERSION_NUM >= 160000
								NULL,
#endif
								&failure
#if PG_VERSION_NUM >= 180000
								,
								false
#endif
	);
}

static bool
fire_before_delete(ModifyNode *mine, TupleTableSlot *plan_slot)
{
	DdfdwChanges *changes = mine->changes;

	return ExecBRDeleteTriggers(changes->hot_estate, NULL, changes->hot_info, NULL, old_hot_row(mine, plan_slot), NULL
#if PG_VERSION_NUM >= 160000
								,
								NULL, NULL
#endif
#if PG_VERSION_NUM >= 180000
								,
								false
#endif
	);
}

TupleTableSlot *
ddfdw_exec_update(EState *estate, ResultRelInfo *target, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	ModifyNode *mine = target->ri_FdwState;
	DdfdwChanges *changes = mine->changes;
	TriggerDesc *triggers = changes->hot_info->ri_TrigDesc;
	TupleConstr *constraints = RelationGetDescr(changes->hot)->constr;
	bool rewritten = false;
	DdfdwTouched *touched;
	uint32 row;

	ResetPerTupleExprContext(changes->hot_estate);
	touched = find_row(mine, plan_slot, &row);
	if (ddfdw_is_set(touched->changed, row))
		return NULL; /* a join found it twice: as with any table, the first change counts */
	copy_row(slot, changes->new_row, changes->to_hot);
	if (triggers && triggers->trig_update_before_row) {
		if (!fire_before_update(mine, plan_slot))
			return NULL;
		rewritten = true;
	}
	if (constraints && constraints->has_generated_stored) {
		ExecComputeStoredGenerated(changes->hot_info, changes->hot_estate, changes->new_row, CMD_UPDATE);
		rewritten = true;
	}
	if (rewritten)
		copy_row(changes->new_row, slot, changes->to_cold);
	if (target->ri_WithCheckOptions != NIL)
		ExecWithCheckOptions(WCO_RLS_UPDATE_CHECK, target, slot, estate);
	if (constraints)
		ExecConstraints(changes->hot_info, changes->new_row, changes->hot_estate);
	note_update(changes, touched, row);
	return slot;
}

TupleTableSlot *
ddfdw_exec_delete(EState *estate, ResultRelInfo *target, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	ModifyNode *mine = target->ri_FdwState;
	DdfdwChanges *changes = mine->changes;
	TriggerDesc *triggers = changes->hot_info->ri_TrigDesc;
	DdfdwTouched *touched;
	uint32 row;

	ResetPerTupleExprContext(changes->hot_estate);
	touched = find_row(mine, plan_slot, &row);
	if (ddfdw_is_set(touched->changed, row))
		return NULL;
	if (triggers && triggers->trig_delete_before_row && !fire_before_delete(mine, plan_slot))
		return NULL;
	if (ddfdw_max_unsealed_rows == 0)
		ddfdw_check_limit(changes, 1);
	touched->changed[row / 8] |= 1 << row % 8;
	touched->deleted[row / 8] |= 1 << row % 8;
	touched->ndeleted++;
	if (target->ri_projectReturning)
		ExecForceStoreHeapTuple(old_row(mine, plan_slot), slot, false);
	return slot;
}

TupleTableSlot *
ddfdw_exec_insert(EState *estate, ResultRelInfo *target, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot insert into \"%s\": it holds compacted rows", RelationGetRelationName(target->ri_RelationDesc)),
			errhint("Insert into the table it inherits from; late rows are compacted with the others."));
	return NULL;
}
