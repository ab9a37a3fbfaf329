/*
 * Which grouped queries can be answered from segments: their groups and their aggregates.
 *
 * All rows of a segment have the same key, and are in the order of time. So groups may depend on keys, and on time; what
 * is aggregated is a plain column.
 */
#include "agg.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* A plan must be copyable. */
List *
ddagg_output_pack(const DdaggOutput *output)
{
	List *packed = list_make4_int(output->kind, output->place, (int)output->type, (int)output->aggregate);

	return lappend_int(packed, (int)output->collation);
}

DdaggOutput
ddagg_output_unpack(const List *packed)
{
	DdaggOutput output = {
		.kind = list_nth_int(packed, 0),
		.place = list_nth_int(packed, 1),
		.type = (Oid)list_nth_int(packed, 2),
		.aggregate = (Oid)list_nth_int(packed, 3),
		.collation = (Oid)list_nth_int(packed, 4),
	};

	return output;
}

/* The sources of the columns in an expression, as bits; that of DDFDW_ABSENT for what is no column of this table. */
static int
sources(Oid foreign, Index relid, Node *expr)
{
	List *vars = pull_var_clause(expr, PVC_INCLUDE_AGGREGATES | PVC_INCLUDE_WINDOWFUNCS | PVC_INCLUDE_PLACEHOLDERS);
	int found = 0;
	ListCell *cell;

	foreach (cell, vars) {
		Var *var = lfirst(cell);

		if (!IsA(var, Var) || var->varno != (int)relid || var->varattno <= 0)
			found |= 1 << DDFDW_ABSENT;
		else
			found |= 1 << ddfdw_column_source(foreign, var->varattno);
	}
	list_free(vars);
	return found;
}

/* Does the expression have one value in each segment? */
bool
ddagg_is_of_keys(Oid foreign, Index relid, Node *expr)
{
	return (sources(foreign, relid, expr) & ~(1 << DDFDW_KEY)) == 0;
}

/* The value of an argument that is a literal text; NULL when it is none. */
static char *
literal(FuncExpr *call, int argument)
{
	Const *constant = list_nth(call->args, argument);

	return IsA(constant, Const) && !constant->constisnull && constant->consttype == TEXTOID
			   ? TextDatumGetCString(constant->constvalue)
			   : NULL;
}

/*
 * The function falls only where clocks are put back in this time zone (NULL: the session's): a day that begins at midnight
 * may then begin twice. There can be one such zone.
 */
static bool
add_zone(DdaggShape *shape, char *zone)
{
	if (shape->order == DDAGG_TOGETHER_IN_ZONE)
		return zone == shape->zone || (zone && shape->zone && strcmp(zone, shape->zone) == 0);
	shape->order = DDAGG_TOGETHER_IN_ZONE;
	shape->zone = zone;
	return true;
}

/* Which argument the function never falls with, the others being constant; -1 when unknown. */
static int
rising_argument(Oid foreign, FuncExpr *call, DdaggShape *shape)
{
	Oid wrapper, schema;
	const char *name;
	char *zone;

	switch (call->funcid) {
	case F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP:
	case F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ:
	case F_DATE_TRUNC_TEXT_TIMESTAMP: return 1;
	case F_DATE_TIMESTAMP: return 0;
	case F_DATE_TRUNC_TEXT_TIMESTAMPTZ: return add_zone(shape, NULL) ? 1 : -1;
	case F_DATE_TIMESTAMPTZ:
	case F_TIMESTAMP_TIMESTAMPTZ: return add_zone(shape, NULL) ? 0 : -1;
	case F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT: return (zone = literal(call, 2)) && add_zone(shape, zone) ? 1 : -1;
	case F_TIMEZONE_TEXT_TIMESTAMPTZ: return (zone = literal(call, 0)) && add_zone(shape, zone) ? 1 : -1;
	/* Of local times those that clocks skip come out later than the ones that follow. UTC skips none. */
	case F_TIMEZONE_TEXT_TIMESTAMP: return (zone = literal(call, 0)) && strcmp(zone, "UTC") == 0 ? 1 : -1;
	default: break;
	}
	/* Those of DDStore, in the schema that the extension was created in. */
	wrapper = GetForeignServer(GetForeignTable(foreign)->serverid)->fdwid;
	schema = get_func_namespace(GetForeignDataWrapper(wrapper)->fdwhandler);
	name = get_func_name(call->funcid);
	if (name && get_func_namespace(call->funcid) == schema &&
		(strcmp(name, "time_bucket") == 0 || strcmp(name, "month_bucket") == 0))
		return 1;
	return -1;
}

/* Does the expression never fall while time rises, as far as shape->order says? */
static bool
is_rising(Oid foreign, Index relid, Node *expr, DdaggShape *shape)
{
	FuncExpr *call = (FuncExpr *)expr;
	ListCell *cell;
	int rising;

	if (IsA(expr, Var))
		return true;
	if (!IsA(expr, FuncExpr) || (rising = rising_argument(foreign, call, shape)) < 0 || rising >= list_length(call->args))
		return false;
	foreach (cell, call->args)
		if (foreach_current_index(cell) != rising && !ddagg_is_of_keys(foreign, relid, lfirst(cell)))
			return false;
	return is_rising(foreign, relid, list_nth(call->args, rising), shape);
}

static bool
add_group(RelOptInfo *rel, Oid foreign, Expr *expr, bool grouped, DdaggShape *shape)
{
	DdaggOutput output = {.kind = DDAGG_GROUP};
	int found = sources(foreign, rel->relid, (Node *)expr);

	if (contain_volatile_functions((Node *)expr) || contain_subplans((Node *)expr))
		return false;
	if (found & ~(1 << DDFDW_KEY | 1 << DDFDW_TIME))
		return false;
	if (found & 1 << DDFDW_TIME) {
		/* The time itself makes a group of almost every row. */
		if (!grouped || IsA(expr, Var))
			return false;
		shape->by_time = true;
		if (shape->order != DDAGG_SCATTERED && !is_rising(foreign, rel->relid, (Node *)expr, shape))
			shape->order = DDAGG_SCATTERED;
	}
	shape->outputs = lappend(shape->outputs, ddagg_output_pack(&output));
	return true;
}

/* Is it an aggregate of pg_catalog that keeps the least or greatest value, and NULL without any? */
static bool
keeps_one_value(Oid aggregate, Oid type)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	Form_pg_aggregate form;
	bool null, found;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_aggregate)GETSTRUCT(tuple);
	SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &null);
	found = null && OidIsValid(form->aggsortop) && OidIsValid(form->aggcombinefn) && !OidIsValid(form->aggfinalfn) &&
			form->aggtranstype == type && func_strict(form->aggtransfn) && aggregate < FirstGenbkiObjectId;
	ReleaseSysCache(tuple);
	return found;
}

/* What the aggregate is, for the type of numbers that it is of. */
static DdaggKind
known_kind(Oid aggregate)
{
	switch (aggregate) {
	case F_COUNT_: return DDAGG_COUNT_ROWS;
	case F_COUNT_ANY: return DDAGG_COUNT;
	case F_SUM_INT2:
	case F_SUM_INT4:
	case F_SUM_INT8:
	case F_SUM_FLOAT4:
	case F_SUM_FLOAT8: return DDAGG_SUM;
	case F_AVG_INT2:
	case F_AVG_INT4:
	case F_AVG_INT8:
	case F_AVG_FLOAT4:
	case F_AVG_FLOAT8: return DDAGG_AVG;
	case F_MIN_INT2:
	case F_MIN_INT4:
	case F_MIN_INT8:
	case F_MIN_FLOAT4:
	case F_MIN_FLOAT8:
	case F_MIN_DATE:
	case F_MIN_TIME:
	case F_MIN_TIMESTAMP:
	case F_MIN_TIMESTAMPTZ: return DDAGG_MIN;
	case F_MAX_INT2:
	case F_MAX_INT4:
	case F_MAX_INT8:
	case F_MAX_FLOAT4:
	case F_MAX_FLOAT8:
	case F_MAX_DATE:
	case F_MAX_TIME:
	case F_MAX_TIMESTAMP:
	case F_MAX_TIMESTAMPTZ: return DDAGG_MAX;
	default: return DDAGG_EXTREME;
	}
}

static bool
is_moment(Oid type)
{
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID || type == TIMEOID;
}

static bool
add_aggregate(RelOptInfo *rel, Oid foreign, Aggref *aggref, DdaggShape *shape)
{
	DdaggOutput output = {.kind = known_kind(aggref->aggfnoid), .aggregate = aggref->aggfnoid,
						  .collation = aggref->inputcollid};
	Expr *argument;
	Var *var;
	DdfdwSource source;

	if (aggref->aggdistinct || aggref->aggorder || aggref->aggfilter || aggref->aggdirectargs || aggref->aggvariadic ||
		aggref->aggkind != AGGKIND_NORMAL || aggref->agglevelsup != 0)
		return false;
	if (output.kind == DDAGG_COUNT_ROWS) {
		shape->outputs = lappend(shape->outputs, ddagg_output_pack(&output));
		return true;
	}
	if (list_length(aggref->args) != 1)
		return false;
	argument = linitial_node(TargetEntry, aggref->args)->expr;
	output.type = exprType((Node *)argument);
	while (IsA(argument, RelabelType))
		argument = ((RelabelType *)argument)->arg;
	var = (Var *)argument;
	if (!IsA(var, Var) || var->varno != (int)rel->relid || var->varattno <= 0 || var->varlevelsup != 0)
		return false;
	output.place = var->varattno;
	source = ddfdw_column_source(foreign, var->varattno);
	if (source == DDFDW_KEY && (output.kind == DDAGG_MIN || output.kind == DDAGG_MAX))
		output.kind = DDAGG_EXTREME;
	if ((output.kind == DDAGG_SUM || output.kind == DDAGG_AVG) && source != DDFDW_NATIVE)
		return false;
	if (output.kind == DDAGG_EXTREME && !keeps_one_value(output.aggregate, output.type))
		return false;
	if (source == DDFDW_NATIVE)
		shape->from_rows |= output.kind == DDAGG_EXTREME ||
							((output.kind == DDAGG_MIN || output.kind == DDAGG_MAX) && is_moment(output.type));
	if (source != DDFDW_ABSENT)
		shape->attnos = list_append_unique_int(shape->attnos, output.place);
	shape->outputs = lappend(shape->outputs, ddagg_output_pack(&output));
	return true;
}

/* What there is to do for a partial result of these columns over `rel`; false when it cannot be done here. */
bool
ddagg_shape(PlannerInfo *root, RelOptInfo *rel, Oid foreign, PathTarget *target, List *group, DdaggShape *shape)
{
	ListCell *cell;

	memset(shape, 0, sizeof *shape);
	shape->order = DDAGG_TOGETHER;
	foreach (cell, target->exprs) {
		Expr *expr = lfirst(cell);
		Index ref = get_pathtarget_sortgroupref(target, foreach_current_index(cell));

		if (IsA(expr, Aggref)) {
			if (!add_aggregate(rel, foreign, (Aggref *)expr, shape))
				return false;
		} else if (!add_group(rel, foreign, expr, ref != 0 && get_sortgroupref_clause_noerr(ref, group) != NULL, shape))
			return false;
	}
	return true;
}
