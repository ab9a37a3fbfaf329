/*
 * DROP TABLE of a managed table: its cold table goes with it, and what the catalog has of it.
 *
 * PostgreSQL makes a child depend on its parent so that DROP asks for CASCADE, unless it is a partition. A cold table is as
 * little without its parent as a partition is, so it depends on it in the same way.
 */
#include "modify.h"

#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#pragma GCC visibility push(default) /* as in options.c */
PG_FUNCTION_INFO_V1(ddstore_depend_on_table);
PG_FUNCTION_INFO_V1(ddstore_forget_dropped);
#pragma GCC visibility pop

/* From now on the foreign table is dropped with the table that it inherits from. */
Datum
ddstore_depend_on_table(PG_FUNCTION_ARGS)
{
	Oid foreign = PG_GETARG_OID(0);
	ObjectAddress child, parent;

	if (get_rel_relkind(foreign) != RELKIND_FOREIGN_TABLE || !ddfdw_is_owner(foreign))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("relation %u is no foreign table of yours", foreign));
	ObjectAddressSet(child, RelationRelationId, foreign);
	ObjectAddressSet(parent, RelationRelationId, ddfdw_hot_table(foreign));
	if (deleteDependencyRecordsForSpecific(RelationRelationId, foreign, DEPENDENCY_NORMAL, RelationRelationId,
										   parent.objectId) > 0)
		recordDependencyOn(&child, &parent, DEPENDENCY_AUTO);
	PG_RETURN_VOID();
}

static bool
returns_rows(const char *query)
{
	int result = SPI_execute(query, false, 1);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "%s failed: %s", query, SPI_result_code_string(result));
	return SPI_processed > 0;
}

/*
 * An event trigger: whoever drops a managed table need have no right on the catalog, whose owner does the rest. That is
 * only ever asked to drop what belongs to tables that are gone.
 */
Datum
ddstore_forget_dropped(PG_FUNCTION_ARGS)
{
	Oid schema = get_func_namespace(fcinfo->flinfo->fn_oid), managed = get_relname_relid("managed_table", schema), user;
	char *name = get_namespace_name(schema);
	const char *quoted;
	StringInfoData query;
	int context;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		elog(ERROR, "forget_dropped() is for an event trigger");
	if (!OidIsValid(managed) ||
		!OidIsValid(LookupFuncName(list_make2(makeString(name), makeString("drop_orphans")), 0, NULL, true)))
		PG_RETURN_NULL(); /* no catalog, or an older one */
	quoted = quote_identifier(name);
	initStringInfo(&query);
	appendStringInfo(&query,
					 "SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() d JOIN %s.managed_table t"
					 " ON t.relation OPERATOR(pg_catalog.=) d.objid"
					 " WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass",
					 quoted);
	SPI_connect();
	if (returns_rows(query.data)) {
		resetStringInfo(&query);
		appendStringInfo(&query, "SELECT %s.drop_orphans()", quoted);
		GetUserIdAndSecContext(&user, &context);
		SetUserIdAndSecContext(ddfdw_owner(managed), context | SECURITY_LOCAL_USERID_CHANGE);
		returns_rows(query.data);
		SetUserIdAndSecContext(user, context);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
