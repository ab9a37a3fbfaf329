/*
 * Who may read what: the segments behind a foreign table, and a cold table by its own name.
 */
#include "fdw.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

/*
 * The executor checks the caller's right on the table named in the query (for a managed table that is the parent,
 * as always with inheritance), so callers need no right on segments. What it cannot know is whether this foreign
 * table may look there: it may where its owner could look directly.
 */
void
ddfdw_check_access(Oid foreign, Oid relation)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(foreign));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", foreign);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);

	if (pg_class_aclcheck(relation, owner, ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for table %s", get_rel_name(relation)),
				errdetail("The owner \"%s\" of foreign table \"%s\" may not SELECT from it.",
						  GetUserNameFromId(owner, false), get_rel_name(foreign)));
	if (check_enable_rls(relation, owner, true) == RLS_ENABLED)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot read segments from table \"%s\": it has row-level security", get_rel_name(relation)),
				errhint("Put the policy on the managed table."));
}

/* Is the table named in the query, rather than reached through one that it inherits from? And for whom is it read? */
static bool
is_named(EState *estate, Index rti, Oid *user)
{
	RangeTblEntry *rte = exec_rt_fetch(rti, estate);

#if PG_VERSION_NUM >= 160000
	if (rte->perminfoindex == 0)
		return false;
	*user = getRTEPermissionInfo(estate->es_rteperminfos, rte)->checkAsUser;
#else
	if (rte->requiredPerms == 0)
		return false;
	*user = rte->checkAsUser;
#endif
	return true;
}

/*
 * The policies of a managed table hold for its cold rows where a query names that table: the planner adds them. A
 * foreign table has none of its own, so to whom they apply may not name the cold table instead, whatever right on it
 * was granted. Asked with every execution: a plan that is kept may be run by another role.
 */
void
ddfdw_check_policies(EState *estate, Index rti, Oid foreign)
{
	Relation inherits;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;
	Oid user;

	if (!is_named(estate, rti, &user))
		return;
	inherits = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(foreign));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
		Oid parent = ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent;

		if (check_enable_rls(parent, user, true) == RLS_ENABLED)
			ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied for foreign table %s", get_rel_name(foreign)),
					errdetail("The row-level security of table \"%s\" cannot be applied to it.", get_rel_name(parent)),
					errhint("Read from \"%s\": its cold rows follow its policies.", get_rel_name(parent)));
	}
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
}
