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
#include "utils/lsyscache.h"
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

static bool
is_current_of(const Query *query)
{
	const Node *quals = query->jointree->quals;

	/* It cannot be combined with other conditions; the planner has made a list of it by now. */
	if (quals && IsA(quals, List))
		quals = list_length((const List *)quals) == 1 ? linitial((const List *)quals) : NULL;
	return quals && IsA(quals, CurrentOfExpr);
}

/* PostgreSQL would refuse these by itself, but some only once a compacted row is reached, and none says what to do. */
void
ddfdw_check_statement(PlannerInfo *root, Index rti, Oid foreign)
{
	if (!bms_is_member(rti, root->all_result_relids))
		return;
	if (root->parse->commandType == CMD_MERGE)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot MERGE into compacted rows of \"%s\"", get_rel_name(ddfdw_hot_table(foreign))),
				errhint("MERGE INTO ONLY it, after SELECT ddstore.unseal(...) in the same transaction has made the "
						"rows concerned ordinary ones."));
	if (is_current_of(root->parse))
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("WHERE CURRENT OF finds no compacted rows of \"%s\"", get_rel_name(ddfdw_hot_table(foreign))),
				errhint("Name the row by its key and time; or declare the cursor for ONLY the table, and change that, "
						"for rows not yet compacted."));
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
	mine->changes = ddfdw_open_changes(node->ps.state, RelationGetRelid(target->ri_RelationDesc), target);
}

void
ddfdw_end_modify(EState *estate, ResultRelInfo *target)
{
	ModifyNode *mine = target->ri_FdwState;

	if (mine && mine->changes)
		ddfdw_close_changes(mine->changes);
}

/* The place of a row as ddfdw_identify() wrote it: its segment and its number there. */
int64
ddfdw_place(Datum ctid, const char *table, uint32 *row)
{
	ItemPointer tid = (ItemPointer)DatumGetPointer(ctid);
	uint64 place;

	if (ItemPointerGetBlockNumberNoCheck(tid) == InvalidBlockNumber)
		ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("cannot change a compacted row of \"%s\": its segment has too high a number", table),
				errhint("\"ddstore release\" turns every row back into an ordinary one."));
	place = (uint64)ItemPointerGetBlockNumberNoCheck(tid) << 16 | ItemPointerGetOffsetNumberNoCheck(tid);
	*row = (uint32)(place & ((1 << ROW_BITS) - 1));
	return (int64)(place >> ROW_BITS);
}

/* Find the segment of this number, and how many rows it has; its place, if it is there. */
bool
ddfdw_find_segment(Relation companion, const DdfdwTable *table, int64 id, Snapshot snapshot, ItemPointer tid, uint32 *n)
{
	Relation index = ddfdw_open_index(companion, table->id);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool null, found;

	ScanKeyInit(&key, table->id, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = systable_beginscan(companion, index ? RelationGetRelid(index) : InvalidOid, index != NULL, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found) {
		*tid = tuple->t_self;
		*n = DatumGetInt32(heap_getattr(tuple, table->n, RelationGetDescr(companion), &null));
	}
	systable_endscan(scan);
	if (index)
		index_close(index, AccessShareLock);
	return found;
}

/* Begin to keep what becomes of a segment's rows. */
DdfdwTouched *
ddfdw_touch(DdfdwChanges *changes, int64 id)
{
	bool found;
	DdfdwTouched *touched = hash_search(changes->segments, &id, HASH_ENTER, &found);

	if (!found) {
		MemoryContext old = MemoryContextSwitchTo(changes->context);

		memset((char *)touched + sizeof touched->id, 0, sizeof *touched - sizeof touched->id);
		if (!ddfdw_find_segment(changes->companion, changes->table, id, changes->estate->es_snapshot, &touched->tid,
								&touched->n))
			ddfdw_too_late("change", changes->hot);
		touched->changed = palloc0(touched->n / 8 + 1);
		touched->deleted = palloc0(touched->n / 8 + 1);
		MemoryContextSwitchTo(old);
	}
	return touched;
}

/* The segment and row that the plan's row stands for. */
static DdfdwTouched *
find_row(ModifyNode *mine, TupleTableSlot *plan_slot, uint32 *row)
{
	DdfdwChanges *changes = mine->changes;
	bool null;
	Datum ctid = ExecGetJunkAttribute(plan_slot, mine->ctid, &null);
	DdfdwTouched *touched;

	if (null)
		elog(ERROR, "ctid is NULL");
	touched = ddfdw_touch(changes, ddfdw_place(ctid, RelationGetRelationName(changes->hot), row));
	if (*row >= touched->n)
		elog(ERROR, "segment " INT64_FORMAT " of \"%s\" has no row %u", touched->id,
			 RelationGetRelationName(changes->companion), *row);
	return touched;
}

/* Statement triggers that want to see all changed rows at once get none from foreign tables. */
static void
check_triggers(const DdfdwChanges *changes, bool wants_rows)
{
	if (wants_rows)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot change compacted rows of \"%s\": a trigger of it has transition tables (REFERENCING)",
					   RelationGetRelationName(changes->hot)),
				errhint("Make it a row trigger; or SELECT ddstore.unseal(...) first, in the same transaction."));
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

	check_triggers(changes, triggers && (triggers->trig_update_old_table || triggers->trig_update_new_table));
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

	check_triggers(changes, triggers && triggers->trig_delete_old_table);
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
