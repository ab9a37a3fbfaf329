/*
 * ddstore.unseal(): the segments of a range back into ordinary rows, for statements that cannot reach compacted ones.
 *
 * Nothing of it is a change: no trigger fires, and what is read stays the same. Until the transaction ends nobody
 * compacts the table, so the rows are still ordinary ones when the next statement comes.
 */
#include "modify.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#pragma GCC visibility push(default) /* as in options.c */
PG_FUNCTION_INFO_V1(ddstore_unseal_range);
#pragma GCC visibility pop

/* Whoever may change rows may; but not where policies say which rows are theirs: segments hold others', too. */
static void
check_rights(Oid hot)
{
	if (pg_class_aclcheck(hot, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(hot, GetUserId(), ACL_UPDATE, ACLMASK_ANY) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(hot));
	if (check_enable_rls(hot, InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("row-level security of \"%s\" applies to role \"%s\"", get_rel_name(hot),
					   GetUserNameFromId(GetUserId(), false)),
				errhint("Do it as its owner."));
}

/* Turn the segments of these numbers back into ordinary rows; return how many. */
static int64
unseal(Oid foreign, ArrayType *numbers)
{
	EState *estate = CreateExecutorState();
	DdfdwChanges *changes;
	Datum *ids;
	bool *nulls;
	int count;
	int64 rows = 0;

	estate->es_snapshot = RegisterSnapshot(GetTransactionSnapshot());
	deconstruct_array(numbers, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids, &nulls, &count);
	changes = ddfdw_open_changes(estate, foreign, NULL);
	for (int i = 0; i < count; i++) {
		DdfdwTouched *touched = ddfdw_touch(changes, DatumGetInt64(ids[i]));

		CHECK_FOR_INTERRUPTS();
		touched->whole = true;
		rows += touched->n;
	}
	ddfdw_unseal(changes);
	ddfdw_close_changes(changes);
	UnregisterSnapshot(estate->es_snapshot);
	estate->es_snapshot = InvalidSnapshot;
	FreeExecutorState(estate);
	return rows;
}

/* The cold table, and as text the key as a JSON array, the first time and the one after the last; NULL is no limit. */
Datum
ddstore_unseal_range(PG_FUNCTION_ARGS)
{
	Oid foreign, companion, types[] = {REGCLASSOID, TEXTOID, TEXTOID, TEXTOID};
	Datum arguments[4], numbers;
	char nulls[4];

	PreventCommandIfReadOnly("ddstore.unseal()");
	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the table is NULL"));
	foreign = PG_GETARG_OID(0);
	companion = ddfdw_companion_oid(foreign);
	check_rights(ddfdw_hot_table(foreign));
	/* Those that write segments take ROW EXCLUSIVE: they wait, and readers do not. */
	LockRelationOid(companion, ShareRowExclusiveLock);
	for (int i = 0; i < 4; i++) {
		arguments[i] = PG_ARGISNULL(i) ? (Datum)0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	numbers = ddfdw_call_as_owner(foreign, "segments_of_range", 4, types, arguments, nulls);
	PG_RETURN_INT64(numbers ? unseal(foreign, DatumGetArrayTypeP(numbers)) : 0);
}
