/*
 * WHERE clauses on one column, checked on whole columns of a segment, and on whole segments.
 *
 * "column OP value" of numbers, and "column IS [NOT] NULL". All others are left to the executor's row by row.
 */
#include "agg.h"

#include <math.h>

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

static Var *
plain_column(Expr *expr, Index relid)
{
	Var *var = (Var *)expr;

	return IsA(expr, Var) && var->varno == (int)relid && var->varattno > 0 ? var : NULL;
}

/* What the operator means in the order of numbers; 0 for nothing. */
static StrategyNumber
strategy_of(Oid operator, Oid type, bool *negated)
{
	Oid family = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
	StrategyNumber strategy = get_op_opfamily_strategy(operator, family);

	*negated = false;
	if (strategy == 0 && OidIsValid(operator = get_negator(operator))) {
		strategy = get_op_opfamily_strategy(operator, family);
		*negated = strategy == BTEqualStrategyNumber;
		if (!*negated)
			return 0;
	}
	return strategy;
}

static DdaggFilter *
create_comparison(OpExpr *clause, Index relid, const DdfdwTable *table, PlanState *parent)
{
	DdaggFilter *filter;
	Expr *left, *right, *value;
	Var *var;
	Oid operator = clause->opno, type;
	StrategyNumber strategy;
	bool negated;

	if (list_length(clause->args) != 2)
		return NULL;
	left = linitial(clause->args);
	right = lsecond(clause->args);
	if ((var = plain_column(left, relid)) != NULL)
		value = right;
	else if ((var = plain_column(right, relid)) != NULL) {
		value = left;
		operator = get_commutator(operator);
	} else
		return NULL;
	type = exprType((Node *)value);
	if (table->columns[var->varattno - 1].source != DDFDW_NATIVE || !OidIsValid(operator) ||
		!(ddfdw_is_integer(var->vartype) ? ddfdw_is_integer(type) : ddfdw_is_float(var->vartype) && ddfdw_is_float(type)) ||
		contain_var_clause((Node *)value) || (strategy = strategy_of(operator, type, &negated)) == 0)
		return NULL;
	filter = palloc0(sizeof *filter);
	filter->kind = negated ? DDAGG_NOT_EQUAL : DDAGG_COMPARE;
	filter->attno = var->varattno;
	filter->strategy = strategy;
	filter->type = type;
	filter->value = ExecInitExpr(value, parent);
	return filter;
}

/* A clause of a plan that can be checked on whole columns, else NULL. */
DdaggFilter *
ddagg_filter_create(Expr *clause, Index relid, const DdfdwTable *table, PlanState *parent)
{
	DdaggFilter *filter;
	NullTest *test = (NullTest *)clause;
	Var *var;
	DdfdwSource source;

	if (IsA(clause, OpExpr))
		return create_comparison((OpExpr *)clause, relid, table, parent);
	if (!IsA(clause, NullTest) || test->argisrow || (var = plain_column(test->arg, relid)) == NULL)
		return NULL;
	source = table->columns[var->varattno - 1].source;
	if (source == DDFDW_KEY || source == DDFDW_ABSENT)
		return NULL;
	filter = palloc0(sizeof *filter);
	filter->kind = test->nulltesttype == IS_NULL ? DDAGG_IS_NULL : DDAGG_IS_NOT_NULL;
	filter->attno = var->varattno;
	return filter;
}

/* Evaluate the value, with the parameters of now. */
void
ddagg_filter_start(DdaggFilter *filter, ExprContext *context)
{
	Datum value;

	if (filter->value == NULL)
		return;
	value = ExecEvalExprSwitchContext(filter->value, context, &filter->never);
	if (filter->never)
		return;
	switch (filter->type) {
	case INT2OID: filter->i = DatumGetInt16(value); break;
	case INT4OID: filter->i = DatumGetInt32(value); break;
	case INT8OID: filter->i = DatumGetInt64(value); break;
	case FLOAT4OID: filter->f = (double)DatumGetFloat4(value); break;
	default: filter->f = DatumGetFloat8(value); break;
	}
}

static bool
satisfies(const DdaggFilter *filter, int comparison)
{
	switch (filter->strategy) {
	case BTLessStrategyNumber: return comparison < 0;
	case BTLessEqualStrategyNumber: return comparison <= 0;
	case BTGreaterEqualStrategyNumber: return comparison >= 0;
	case BTGreaterStrategyNumber: return comparison > 0;
	default: return (comparison == 0) == (filter->kind == DDAGG_COMPARE);
	}
}

/* As far as a segment's statistics tell. */
DdaggVerdict
ddagg_filter_verdict(const DdaggFilter *filter, const DdaggStats *stats, int64 n)
{
	int low, high;

	if (filter->never)
		return DDAGG_NO_ROW;
	if (!stats->known)
		return DDAGG_SOME_ROWS;
	if (filter->kind == DDAGG_IS_NULL)
		return stats->count == 0 ? DDAGG_ALL_ROWS : stats->count == n ? DDAGG_NO_ROW : DDAGG_SOME_ROWS;
	if (stats->count == 0)
		return DDAGG_NO_ROW;
	if (filter->kind == DDAGG_IS_NOT_NULL)
		return stats->count == n ? DDAGG_ALL_ROWS : DDAGG_SOME_ROWS;
	if (!stats->ranged)
		return DDAGG_SOME_ROWS;
	if (filter->column->is_float) {
		low = float8_cmp_internal(stats->low.f, filter->f);
		high = float8_cmp_internal(stats->high.f, filter->f);
	} else {
		low = (stats->low.i > filter->i) - (stats->low.i < filter->i);
		high = (stats->high.i > filter->i) - (stats->high.i < filter->i);
	}
	if (filter->strategy == BTEqualStrategyNumber) {
		bool all = low == 0 && high == 0, none = low > 0 || high < 0;

		if (filter->kind == DDAGG_NOT_EQUAL) {
			bool swap = all;

			all = none;
			none = swap;
		}
		return none ? DDAGG_NO_ROW : all && stats->count == n ? DDAGG_ALL_ROWS : DDAGG_SOME_ROWS;
	}
	/* The order makes the ends of the range speak for all between. */
	if (!satisfies(filter, low) && !satisfies(filter, high))
		return DDAGG_NO_ROW;
	return satisfies(filter, low) && satisfies(filter, high) && stats->count == n ? DDAGG_ALL_ROWS : DDAGG_SOME_ROWS;
}

#define EACH(condition)                       \
	for (uint32 i = first; i < end; i++)      \
		keep[i] &= (bool)(condition)

static void
apply_ints(const DdaggFilter *filter, const int64 *values, bool *keep, uint32 first, uint32 end)
{
	const int64 value = filter->i;

	switch (filter->strategy) {
	case BTLessStrategyNumber: EACH(values[i] < value); break;
	case BTLessEqualStrategyNumber: EACH(values[i] <= value); break;
	case BTGreaterEqualStrategyNumber: EACH(values[i] >= value); break;
	case BTGreaterStrategyNumber: EACH(values[i] > value); break;
	default:
		if (filter->kind == DDAGG_COMPARE)
			EACH(values[i] == value);
		else
			EACH(values[i] != value);
	}
}

/* NaN is greater than every number, and equal to itself: with the value a number, a comparison's negation says so. */
static void
apply_floats(const DdaggFilter *filter, const double *values, bool *keep, uint32 first, uint32 end)
{
	const double value = filter->f;

	if (isnan(value)) {
		EACH(satisfies(filter, float8_cmp_internal(values[i], value)));
		return;
	}
	switch (filter->strategy) {
	case BTLessStrategyNumber: EACH(values[i] < value); break;
	case BTLessEqualStrategyNumber: EACH(values[i] <= value); break;
	case BTGreaterEqualStrategyNumber: EACH(!(values[i] < value)); break;
	case BTGreaterStrategyNumber: EACH(!(values[i] <= value)); break;
	default:
		if (filter->kind == DDAGG_COMPARE)
			EACH(values[i] == value);
		else
			EACH(values[i] != value);
	}
}

/* Keep no row that does not satisfy the filter. */
void
ddagg_filter_apply(const DdaggFilter *filter, bool *keep, uint32 first, uint32 end)
{
	const DdaggColumn *column = filter->column;
	const bool *nulls = column->nulls;

	if (filter->kind == DDAGG_IS_NULL) {
		EACH(nulls && nulls[i]);
		return;
	}
	if (nulls)
		EACH(!nulls[i]);
	if (filter->kind == DDAGG_IS_NOT_NULL)
		return;
	if (column->is_float)
		apply_floats(filter, column->floats, keep, first, end);
	else
		apply_ints(filter, column->ints, keep, first, end);
}
