/*
 * Deleting hot rows that become cold, as the compactor does.
 *
 * To an UPDATE or DELETE that waits for such a row, or began before it went, a mere DELETE would say that the row is gone:
 * under READ COMMITTED it would silently do nothing, though the row is in a segment now. So the row is marked as moved
 * elsewhere, as rows are that go to another partition, and such a statement fails with serialization_failure.
 */
#include "fdw.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#pragma GCC visibility push(default) /* as in options.c */
PG_FUNCTION_INFO_V1(ddstore_move_rows);
#pragma GCC visibility pop

/* What a DELETE would check, and that it would do nothing else. */
static void
check_delete(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;
	const char *name = RelationGetRelationName(rel);

	PreventCommandIfReadOnly("DELETE");
	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID || IsSystemRelation(rel))
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not an ordinary table", name));
	if (pg_class_aclcheck(RelationGetRelid(rel), GetUserId(), ACL_DELETE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, name);
	if (check_enable_rls(RelationGetRelid(rel), InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("row-level security of \"%s\" applies to role \"%s\"", name, GetUserNameFromId(GetUserId(), false)),
				errhint("Compact it as its owner."));
	if (triggers && (triggers->trig_delete_before_row || triggers->trig_delete_after_row ||
					 triggers->trig_delete_before_statement || triggers->trig_delete_after_statement))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("\"%s\" has a trigger on DELETE, or a foreign key refers to it", name),
				errhint("Compaction would fire it for every row: drop or disable it."));
	CheckCmdReplicaIdentity(rel, CMD_DELETE);
}

/* Delete the rows at these places, which become cold: exactly these, or none. */
Datum
ddstore_move_rows(PG_FUNCTION_ARGS)
{
	ArrayType *places = PG_GETARG_ARRAYTYPE_P(1);
	Relation rel = table_open(PG_GETARG_OID(0), RowExclusiveLock);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);
	Datum *tids;
	bool *nulls;
	int count;

	check_delete(rel);
	deconstruct_array(places, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT, &tids, &nulls, &count);
	for (int i = 0; i < count; i++) {
		ItemPointer place = (ItemPointer)DatumGetPointer(tids[i]);
		TM_FailureData failure;

		CHECK_FOR_INTERRUPTS();
		/* Nothing below looks whether there is such a page, nor, unless it is fetched first, whether there is a row. */
		if (nulls[i] || !ItemPointerIsValid(place) || ItemPointerGetBlockNumber(place) >= blocks ||
			!table_tuple_fetch_row_version(rel, place, GetActiveSnapshot(), row) ||
			table_tuple_delete(rel, place, GetCurrentCommandId(true), GetActiveSnapshot(), InvalidSnapshot, true, &failure,
							   true) != TM_Ok)
			ereport(ERROR, errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access due to concurrent update"));
	}
	ExecDropSingleTupleTableSlot(row);
	table_close(rel, NoLock);
	PG_RETURN_INT64(count);
}
