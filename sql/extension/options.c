/*
 * Options, and what they mean: the segment table behind a foreign table and the columns behind its columns.
 *
 *   CREATE FOREIGN TABLE t_cold (time timestamptz OPTIONS (segment_column 'time'), v float8 OPTIONS (segment_column 'c3'),
 *                                added int OPTIONS (missing '5')) SERVER ddstore OPTIONS (segments 'ddstore.segment_7')
 *
 * The catalog of DDStore is never consulted: tables and columns may be renamed freely. Nothing in the segment table
 * is trusted either, since whoever owns a foreign table chooses it: its columns' types are checked here, its bytes by
 * the decoder.
 */
#include "fdw.h"

#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/typcache.h"

/* "time", or 'k' or 'c' and a column number */
DdfdwSource
ddfdw_parse_segment_column(const char *value)
{
	if (strcmp(value, "time") == 0)
		return DDFDW_TIME;
	if ((value[0] == 'k' || value[0] == 'c') && value[1] != '\0' && strlen(value) <= 12 &&
		strspn(value + 1, "0123456789") == strlen(value + 1))
		return value[0] == 'k' ? DDFDW_KEY : DDFDW_NATIVE; /* native or array: the segment table's columns tell */
	return DDFDW_ABSENT;
}

List *
ddfdw_parse_segments(const char *value)
{
	return stringToQualifiedNameList(value
#if PG_VERSION_NUM >= 160000
									 ,
									 NULL
#endif
	);
}

/* Until PostgreSQL 16 PGDLLEXPORT says nothing about visibility, and everything here is built hidden. */
#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(ddstore_fdw_validator);
#pragma GCC visibility pop

Datum
ddstore_fdw_validator(PG_FUNCTION_ARGS)
{
	List *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid catalog = PG_GETARG_OID(1);
	bool have_segments = false;
	ListCell *cell;

	foreach (cell, options) {
		DefElem *option = lfirst_node(DefElem, cell);

		if (catalog == ForeignTableRelationId && strcmp(option->defname, "segments") == 0) {
			if (list_length(ddfdw_parse_segments(defGetString(option))) != 2)
				ereport(ERROR, errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						errmsg("option \"segments\" must be 'schema.table', not '%s'", defGetString(option)));
			have_segments = true;
		} else if (catalog == AttributeRelationId && strcmp(option->defname, "segment_column") == 0) {
			if (ddfdw_parse_segment_column(defGetString(option)) == DDFDW_ABSENT)
				ereport(ERROR, errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						errmsg("option \"segment_column\" must be 'time', 'k<number>' or 'c<number>', not '%s'",
							   defGetString(option)));
		} else if (catalog == AttributeRelationId && strcmp(option->defname, "missing") == 0) {
			/* Any text; whether it is a value of the column's type is known when it is read. */
		} else
			ereport(ERROR, errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("invalid option \"%s\"", option->defname),
					errhint("A foreign table takes \"segments\", its columns take \"segment_column\" or \"missing\"; "
							"the wrapper and its server take none."));
	}
	if (catalog == ForeignTableRelationId && !have_segments)
		ereport(ERROR, errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				errmsg("option \"segments\" is required: the table that holds the segments"));
	PG_RETURN_VOID();
}

/* The segment table, opened; the lock is meant to be kept to the end of the transaction. */
Relation
ddfdw_open_companion(Oid foreign)
{
	Relation rel = table_open(ddfdw_companion_oid(foreign), AccessShareLock);

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not an ordinary table, so it holds no segments", RelationGetRelationName(rel)));
	return rel;
}

/* The attribute of that name and type, or invalid when there is none of that name. */
static AttrNumber
find_column(Relation rel, const char *name, Oid type)
{
	TupleDesc desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++) {
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || strcmp(NameStr(att->attname), name) != 0)
			continue;
		if (att->atttypid != type)
			ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
					errmsg("column \"%s\" of segment table \"%s\" has type %s, but %s is needed", name,
						   RelationGetRelationName(rel), format_type_be(att->atttypid), format_type_be(type)),
					errhint("The types of a managed table's columns cannot change while it has compacted rows; "
							"\"ddstore release\" it first."));
		return att->attnum;
	}
	return InvalidAttrNumber;
}

_Noreturn static void
missing_column(Relation rel, const char *name)
{
	ereport(ERROR, errcode(ERRCODE_UNDEFINED_COLUMN),
			errmsg("segment table \"%s\" has no column \"%s\"", RelationGetRelationName(rel), name));
}

static AttrNumber
need_column(Relation rel, const char *name, Oid type)
{
	AttrNumber attno = find_column(rel, name, type);

	if (attno == InvalidAttrNumber)
		missing_column(rel, name);
	return attno;
}

/*
 * The array of values of a type; there are no arrays of arrays, so these are the only field of a composite type.
 * The element's type goes to *element.
 */
static AttrNumber
find_array(Relation rel, const char *name, Oid type, Oid *element)
{
	Oid array_type = get_array_type(type);
	AttrNumber attno;
	TupleDesc row;

	*element = type;
	if (OidIsValid(array_type))
		return find_column(rel, name, array_type);
	attno = get_attnum(RelationGetRelid(rel), name);
	if (attno == InvalidAttrNumber)
		return attno;
	*element = get_element_type(TupleDescAttr(RelationGetDescr(rel), attno - 1)->atttypid);
	row = get_typtype(*element) == TYPTYPE_COMPOSITE ? lookup_rowtype_tupdesc(*element, -1) : NULL;
	if (row == NULL || row->natts != 1 || TupleDescAttr(row, 0)->atttypid != type)
		ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("column \"%s\" of segment table \"%s\" holds no values of type %s", name,
					   RelationGetRelationName(rel), format_type_be(type)));
	ReleaseTupleDesc(row);
	return attno;
}

/* As what the core codes values of this type; 0: it does not. */
static dd_type
native_type(Oid type)
{
	switch (type) {
	case INT2OID: return DD_INT16;
	case INT4OID: return DD_INT32;
	case INT8OID: return DD_INT64;
	case FLOAT4OID: return DD_FLOAT32;
	case FLOAT8OID: return DD_FLOAT64;
	case TIMESTAMPTZOID:
	case TIMESTAMPOID:
	case TIMEOID: return DD_INT64;
	case DATEOID: return DD_INT32;
	default: return 0;
	}
}

bool
ddfdw_is_integer(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID;
}

bool
ddfdw_is_float(Oid type)
{
	return type == FLOAT4OID || type == FLOAT8OID;
}

bool
ddfdw_is_number(Oid type)
{
	return ddfdw_is_integer(type) || ddfdw_is_float(type);
}

static void
bind_value(DdfdwBinding *binding, Relation companion, const char *column)
{
	char name[NAMEDATALEN];

	binding->native = native_type(binding->type);
	/* Whichever of the two there is must have the type of today: it may have been altered. */
	snprintf(name, sizeof name, "%s_min", column);
	binding->min = find_column(companion, name, binding->type);
	snprintf(name, sizeof name, "%s_max", column);
	binding->max = find_column(companion, name, binding->type);
	snprintf(name, sizeof name, "%s_array", column);
	binding->array = find_array(companion, name, binding->type, &binding->element);
	if (binding->array == InvalidAttrNumber && !binding->native)
		missing_column(companion, name);
	snprintf(name, sizeof name, "%s_residual", column);
	binding->main = need_column(companion, name, BYTEAOID);
	if (binding->array != InvalidAttrNumber) {
		binding->source = binding->native ? DDFDW_MOMENT : DDFDW_ARRAY;
		if (binding->source == DDFDW_ARRAY)
			binding->native = DD_INT32;
		return;
	}
	binding->source = DDFDW_NATIVE;
	snprintf(name, sizeof name, "%s_latents", column);
	need_column(companion, name, BYTEAOID);
	snprintf(name, sizeof name, "%s_model", column);
	need_column(companion, name, INT8OID);
}

/* A column that was added to the table and not to its segments, yet: PostgreSQL gave rows of before one value, or NULL. */
static void
bind_missing(DdfdwBinding *binding, Oid foreign, Form_pg_attribute att)
{
	Oid input, param;
	ListCell *cell;

	getTypeInputInfo(att->atttypid, &input, &param);
	foreach (cell, GetForeignColumnOptions(foreign, att->attnum)) {
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "missing") == 0)
			binding->missing = OidInputFunctionCall(input, defGetString(option), param, att->atttypmod);
	}
}

DdfdwTable *
ddfdw_bind(Relation foreign, Relation companion)
{
	TupleDesc desc = RelationGetDescr(foreign);
	DdfdwTable *table = palloc0(sizeof *table);
	Oid time_type = InvalidOid;

	ddfdw_check_access(RelationGetRelid(foreign), RelationGetRelid(companion));

	table->foreign = RelationGetRelid(foreign);
	table->companion = RelationGetRelid(companion);
	table->natts = desc->natts;
	table->columns = palloc0(sizeof(DdfdwBinding) * desc->natts);
	for (int i = 0; i < desc->natts; i++) {
		Form_pg_attribute att = TupleDescAttr(desc, i);
		DdfdwBinding *binding = &table->columns[i];
		DdfdwOption option = {DDFDW_ABSENT, ""};

		if (!att->attisdropped)
			option = ddfdw_column_option(table->foreign, att->attnum);
		if (option.source == DDFDW_ABSENT)
			continue;
		binding->source = option.source;
		binding->type = att->atttypid;
		if (binding->source == DDFDW_MISSING)
			bind_missing(binding, table->foreign, att);
		else if (binding->source == DDFDW_KEY)
			binding->main = need_column(companion, option.name, binding->type);
		else if (binding->source == DDFDW_NATIVE)
			bind_value(binding, companion, option.name);
		else if (binding->source == DDFDW_TIME)
			time_type = binding->type;
	}
	if (time_type != TIMESTAMPTZOID && time_type != TIMESTAMPOID && time_type != INT8OID)
		ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("foreign table \"%s\" needs a time column of type timestamptz, timestamp or bigint",
					   RelationGetRelationName(foreign)),
				errhint("Give one column the option segment_column 'time'."));
	table->id = need_column(companion, "id", INT8OID);
	table->t_min = need_column(companion, "t_min", time_type);
	table->t_max = need_column(companion, "t_max", time_type);
	table->n = need_column(companion, "n", INT4OID);
	table->time = need_column(companion, "time", BYTEAOID);
	for (int i = 0; i < desc->natts; i++)
		if (table->columns[i].source == DDFDW_TIME)
			table->columns[i].main = table->t_max;
	return table;
}
