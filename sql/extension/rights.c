/*
 * Who may read what: the segments behind a foreign table, and a cold table by its own name.
 */
#include "fdw.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

/*
 * The executor checks the caller's right on the table named in the query (for a managed table that is the parent,
 * as always with inheritance), so callers need no right on segments. What it cannot know is whether this foreign
 * table may look there: it may where its owner could look directly.
 */
void
ddfdw_check_access(Oid foreign, Oid relation)
{
	ddfdw_check_owner(foreign, relation, ACL_SELECT);
	if (check_enable_rls(relation, ddfdw_owner(foreign), true) == RLS_ENABLED)
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
	ListCell *cell;
	Oid user;

	if (!is_named(estate, rti, &user))
		return;
	foreach (cell, ddfdw_parents(foreign))
		if (check_enable_rls(lfirst_oid(cell), user, true) == RLS_ENABLED)
			ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied for foreign table %s", get_rel_name(foreign)),
					errdetail("The row-level security of table \"%s\" cannot be applied to it.",
							  get_rel_name(lfirst_oid(cell))),
					errhint("Read from \"%s\": its cold rows follow its policies.", get_rel_name(lfirst_oid(cell))));
}
