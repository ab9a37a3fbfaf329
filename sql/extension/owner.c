/*
 * The table behind a foreign table, and what is done for its owner.
 *
 * Callers need rights on their table alone. What becomes of the segments is the business of the foreign table's owner,
 * whose rights are looked at, and in whose name the catalog is told.
 */
#include "modify.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* The tables that a table inherits from. */
List *
ddfdw_parents(Oid table)
{
	Relation inherits = table_open(InheritsRelationId, AccessShareLock);
	List *parents = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(table));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		parents = lappend_oid(parents, ((Form_pg_inherits)GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
	return parents;
}

/* The ordinary table that it inherits from, which takes its rows back. */
Oid
ddfdw_hot_table(Oid foreign)
{
	List *parents = ddfdw_parents(foreign);

	if (list_length(parents) != 1 || get_rel_relkind(linitial_oid(parents)) != RELKIND_RELATION)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot change rows of foreign table \"%s\": it inherits from no table that could take them",
					   get_rel_name(foreign)),
				errhint("Manage a table with \"ddstore adopt\", and change that."));
	return linitial_oid(parents);
}

Oid
ddfdw_owner(Oid foreign)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(foreign));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", foreign);
	owner = ((Form_pg_class)GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Does the relation belong to the current role, or to one whose rights it has? */
bool
ddfdw_is_owner(Oid relation)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relation, GetUserId());
#else
	return pg_class_ownercheck(relation, GetUserId());
#endif
}

/* May the owner of the foreign table do that to the relation? */
void
ddfdw_check_owner(Oid foreign, Oid relation, AclMode mode)
{
	Oid owner = ddfdw_owner(foreign);

	if (pg_class_aclcheck(relation, owner, mode) != ACLCHECK_OK)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for table %s", get_rel_name(relation)),
				errdetail("The owner \"%s\" of foreign table \"%s\" may not %s.", GetUserNameFromId(owner, false),
						  get_rel_name(foreign),
						  mode == ACL_SELECT   ? "SELECT from it"
						  : mode == ACL_DELETE ? "DELETE from it"
						  : mode == ACL_INSERT ? "INSERT into it"
						  : mode == ACL_UPDATE ? "lock rows of it"
											   : "TRUNCATE it"));
}

/*
 * Call a function of the catalog with the rights of the foreign table's owner, and return what it returns: 0 for NULL.
 * nulls is as SPI takes it, NULL where no argument is.
 */
Datum
ddfdw_call_as_owner(Oid foreign, const char *function, int nargs, Oid *types, Datum *values, const char *nulls)
{
	ForeignServer *server = GetForeignServer(GetForeignTable(foreign)->serverid);
	/* The catalog is in the schema the extension was created in, whatever the search path says. */
	Oid schema = get_func_namespace(GetForeignDataWrapper(server->fdwid)->fdwhandler);
	List *name = list_make2(makeString(get_namespace_name(schema)), makeString(pstrdup(function)));
	StringInfoData query;
	Oid user;
	int context, result;
	bool null;
	Datum answer;

	if (!OidIsValid(LookupFuncName(name, nargs, types, true)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("the catalog of DDStore lacks the function %s", NameListToString(name)),
				errhint("Bring the catalog up to date: \"ddstore migrate\"."));
	initStringInfo(&query);
	appendStringInfo(&query, "SELECT %s(", quote_qualified_identifier(get_namespace_name(schema), function));
	for (int i = 0; i < nargs; i++)
		appendStringInfo(&query, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoChar(&query, ')');

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(ddfdw_owner(foreign), context | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
	result = SPI_execute_with_args(query.data, nargs, types, values, nulls, false, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "%s failed: %s", query.data, SPI_result_code_string(result));
	answer = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null);
	if (null)
		answer = (Datum)0;
	else {
		Form_pg_attribute att = TupleDescAttr(SPI_tuptable->tupdesc, 0);

		answer = SPI_datumTransfer(answer, att->attbyval, att->attlen);
	}
	SPI_finish();
	SetUserIdAndSecContext(user, context);
	return answer;
}
