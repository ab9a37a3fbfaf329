/*
 * From the start of a statement that may change compacted rows to the moment in which it does.
 *
 * A segment cannot be changed in place. While the statement runs, the rows it changes are only noted (modify.c); once all
 * of it has been executed, and before its AFTER triggers fire, the segments concerned are turned back into ordinary rows
 * with the changes made (unseal.c). So the statement itself sees none of its changes, as is usual, and a segment of which
 * every row is deleted is never unpacked.
 *
 * TRUNCATE, which empties the segment table at once, is here as well.
 */
#include "modify.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#endif

int ddfdw_max_unsealed_rows = 1000000;

static DdfdwChanges *all_changes = NULL; /* of the executions under way, the innermost first */
static ExecutorFinish_hook_type previous_finish = NULL;

static void
forget_changes(void *changes)
{
	for (DdfdwChanges **link = &all_changes; *link; link = &(*link)->next)
		if (*link == changes) {
			*link = (*link)->next;
			return;
		}
}

/* Columns the statement sets, by their numbers in the table, for triggers "UPDATE OF". */
static Bitmapset *
updated_columns(DdfdwChanges *changes, ResultRelInfo *target)
{
	Bitmapset *of_foreign = ExecGetUpdatedCols(target, changes->estate), *columns = NULL;

	for (int i = 0; i < RelationGetDescr(changes->hot)->natts; i++) {
		AttrNumber source = changes->to_hot ? changes->to_hot->attrMap->attnums[i] : i + 1;

		if (source > 0 && bms_is_member(source - FirstLowInvalidHeapAttributeNumber, of_foreign))
			columns = bms_add_member(columns, i + 1 - FirstLowInvalidHeapAttributeNumber);
	}
	return columns;
}

/* An execution state of its own for the table: it may be no target of the statement's plan, or one of another number. */
static void
prepare_hot(DdfdwChanges *changes, Bitmapset *updated)
{
	EState *estate = CreateExecutorState();
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	ResultRelInfo *info = makeNode(ResultRelInfo);

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(changes->hot);
	rte->relkind = changes->hot->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
#if PG_VERSION_NUM >= 160000
	{
		List *permissions = NIL;

		addRTEPermissionInfo(&permissions, rte)->updatedCols = updated;
#if PG_VERSION_NUM >= 180000
		ExecInitRangeTable(estate, list_make1(rte), permissions, bms_make_singleton(1));
#else
		ExecInitRangeTable(estate, list_make1(rte), permissions);
#endif
	}
#else
	rte->updatedCols = updated;
	ExecInitRangeTable(estate, list_make1(rte));
#endif
	estate->es_snapshot = changes->estate->es_snapshot;
	estate->es_output_cid = GetCurrentCommandId(true);
	InitResultRelInfo(info, changes->hot, 1, NULL, 0);
	ExecOpenIndices(info, false);
	changes->hot_estate = estate;
	changes->hot_info = info;
	changes->old_row = table_slot_create(changes->hot, NULL);
	changes->new_row = table_slot_create(changes->hot, NULL);
}

/* What an execution changes behind a foreign table; target is that of the node which changes it, NULL where none does. */
DdfdwChanges *
ddfdw_open_changes(EState *estate, Oid foreign, ResultRelInfo *target)
{
	DdfdwChanges *changes;
	HASHCTL hash = {.keysize = sizeof(int64), .entrysize = sizeof(DdfdwTouched)};
	MemoryContext context, old;
	MemoryContextCallback *callback;

	for (changes = all_changes; changes; changes = changes->next)
		if (changes->estate == estate && RelationGetRelid(changes->foreign) == foreign) {
			changes->users++;
			return changes;
		}
	context = AllocSetContextCreate(estate->es_query_cxt, "ddstore changes", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	changes = palloc0(sizeof *changes);
	changes->context = hash.hcxt = context;
	changes->estate = estate;
	changes->users = 1;
	changes->foreign = table_open(foreign, RowExclusiveLock);
	changes->hot = table_open(ddfdw_hot_table(foreign), RowExclusiveLock);
	changes->companion = table_open(ddfdw_companion_oid(foreign), RowExclusiveLock);
	changes->table = ddfdw_bind(changes->foreign, changes->companion);
	ddfdw_check_owner(foreign, RelationGetRelid(changes->companion), ACL_DELETE);
	ddfdw_check_owner(foreign, RelationGetRelid(changes->hot), ACL_INSERT);
	changes->to_hot = convert_tuples_by_name(RelationGetDescr(changes->foreign), RelationGetDescr(changes->hot));
	changes->to_cold = convert_tuples_by_name(RelationGetDescr(changes->hot), RelationGetDescr(changes->foreign));
	changes->segments = hash_create("ddstore changed segments", 64, &hash, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	prepare_hot(changes, target ? updated_columns(changes, target) : NULL);
	callback = palloc0(sizeof *callback);
	callback->func = forget_changes;
	callback->arg = changes;
	MemoryContextRegisterResetCallback(context, callback);
	changes->next = all_changes;
	all_changes = changes;
	MemoryContextSwitchTo(old);
	return changes;
}

void
ddfdw_close_changes(DdfdwChanges *changes)
{
	if (--changes->users > 0)
		return;
	if (hash_get_num_entries(changes->segments) > 0)
		elog(ERROR, "changes of compacted rows of \"%s\" were not carried out", RelationGetRelationName(changes->hot));
	ExecCloseIndices(changes->hot_info);
	ExecResetTupleTable(changes->hot_estate->es_tupleTable, false);
	ExecDropSingleTupleTableSlot(changes->old_row);
	ExecDropSingleTupleTableSlot(changes->new_row);
	table_close(changes->companion, NoLock);
	table_close(changes->hot, NoLock);
	table_close(changes->foreign, NoLock);
	FreeExecutorState(changes->hot_estate);
	MemoryContextDelete(changes->context); /* which takes it off the list */
}

/*
 * Everything the statement changes is known once its nodes are through, those of WITH included. The executor would run
 * these only now, and fire the AFTER triggers right after.
 */
static void
run_to_the_end(EState *estate)
{
	ListCell *cell;

	foreach (cell, estate->es_auxmodifytables) {
		PlanState *node = lfirst(cell);
		TupleTableSlot *slot;

		do {
			ResetPerTupleExprContext(estate);
			slot = ExecProcNode(node);
		} while (!TupIsNull(slot));
	}
}

static void
carry_out(EState *estate)
{
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

	estate->es_direction = ForwardScanDirection;
	run_to_the_end(estate);
	for (DdfdwChanges *changes = all_changes; changes; changes = changes->next)
		if (changes->estate == estate)
			ddfdw_unseal(changes);
	MemoryContextSwitchTo(old);
}

static void
finish(QueryDesc *query)
{
	for (DdfdwChanges *changes = all_changes; changes; changes = changes->next)
		if (changes->estate == query->estate) {
			carry_out(query->estate);
			break;
		}
	if (previous_finish)
		previous_finish(query);
	else
		standard_ExecutorFinish(query);
}

/* TRUNCATE of the table reaches its compacted rows, too; rights were checked on the table. */
void
ddfdw_truncate(List *relations, DropBehavior behavior, bool restart_seqs)
{
	ListCell *cell;

	foreach (cell, relations) {
		Oid foreign = RelationGetRelid((Relation)lfirst(cell)), oid = ddfdw_companion_oid(foreign), type = REGCLASSOID;
		Datum argument = ObjectIdGetDatum(oid);
		Relation companion;

		ddfdw_check_access(foreign, oid);
		ddfdw_check_owner(foreign, oid, ACL_TRUNCATE);
		companion = table_open(oid, AccessExclusiveLock);
		CheckTableNotInUse(companion, "TRUNCATE");
		ExecuteTruncateGuts(list_make1(companion), list_make1_oid(oid), NIL, DROP_RESTRICT, false
#if PG_VERSION_NUM >= 160000
							,
							false
#endif
		);
		table_close(companion, NoLock);
		ddfdw_call_as_owner(foreign, "forget_segments", 1, &type, &argument, NULL);
	}
}

void
ddfdw_modify_init(void)
{
	DefineCustomIntVariable(
		"ddstore.max_unsealed_rows", "Most compacted rows that one statement may turn back into ordinary ones.",
		"UPDATE and DELETE take every row of a segment out when they change some. 0: they change no compacted row.",
		&ddfdw_max_unsealed_rows, 1000000, 0, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
	previous_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish;
}
