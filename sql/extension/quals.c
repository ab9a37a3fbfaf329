/*
 * WHERE clauses that say something about whole segments: "key OP value", "time OP value", "number OP value".
 *
 * Such a clause becomes a condition by which segments are pruned. The executor checks every clause again on every row
 * that comes out, so a clause that is not recognised here costs time, never a wrong answer. What counts as OP is left to
 * the column type's btree operator family: its members compare the bounds of a segment just as they compare a row.
 */
#include "fdw.h"

#include "access/stratnum.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* `expr` without binary-compatible casts, if it is a column that segments are found by or, say, have a least value of. */
static Expr *
pruning_column(RelOptInfo *rel, Oid foreign, Expr *expr)
{
	Var *var;

	while (expr && IsA(expr, RelabelType))
		expr = ((RelabelType *) expr)->arg;
	if (expr == NULL || !IsA(expr, Var))
		return NULL;
	var = (Var *) expr;
	if (var->varno != (int) rel->relid || var->varlevelsup != 0 || var->varattno <= 0)
		return NULL;
	switch (ddfdw_column_source(foreign, var->varattno)) {
	case DDFDW_TIME:
	case DDFDW_KEY: return expr;
	case DDFDW_NATIVE: return ddfdw_is_number(var->vartype) ? expr : NULL;
	default: return NULL;
	}
}

/* The same for columns by which segments are found: time and keys. */
Expr *
ddfdw_bound_column(RelOptInfo *rel, Oid foreign, Expr *expr)
{
	Expr *column = pruning_column(rel, foreign, expr);

	return column && ddfdw_column_source(foreign, ((Var *) column)->varattno) != DDFDW_NATIVE ? column : NULL;
}

/* Is the value the same for every row of one (re)scan? Values of other relations are: they arrive as parameters. */
static bool
row_independent(PlannerInfo *root, RelOptInfo *rel, Expr *value)
{
	return !bms_is_member(rel->relid, pull_varnos(root, (Node *) value)) && !contain_volatile_functions((Node *) value) &&
		   !contain_subplans((Node *) value);
}

/* Fill in what an operator means for the column's btree order; false when it means nothing. */
static bool
resolve_operator(DdfdwCond *cond, Oid column_type)
{
	TypeCacheEntry *type = lookup_type_cache(column_type, TYPECACHE_BTREE_OPFAMILY);
	int strategy;

	if (!OidIsValid(type->btree_opf) || !op_in_opfamily(cond->opno, type->btree_opf) || !op_strict(cond->opno))
		return false;
	get_op_opfamily_properties(cond->opno, type->btree_opf, false, &strategy, &cond->lefttype, &cond->righttype);
	if (cond->lefttype != type->btree_opintype)
		return false;
	cond->opfamily = type->btree_opf;
	cond->strategy = (StrategyNumber) strategy;
	return true;
}

/*
 * "time = x" and "number = x" need <= and >= of the same types for the two ends of a segment; operator families have them, but a
 * user-defined one might not.
 */
static bool
has_interval_operators(const DdfdwCond *cond)
{
	return OidIsValid(get_opfamily_member(cond->opfamily, cond->lefttype, cond->righttype, BTLessEqualStrategyNumber)) &&
		   OidIsValid(get_opfamily_member(cond->opfamily, cond->lefttype, cond->righttype, BTGreaterEqualStrategyNumber));
}

static bool
classify_operator(PlannerInfo *root, RelOptInfo *rel, Oid foreign, OpExpr *clause, DdfdwCond *cond)
{
	Expr *left, *right, *column;

	if (list_length(clause->args) != 2)
		return false;
	left = linitial(clause->args);
	right = lsecond(clause->args);
	cond->opno = clause->opno;
	if ((column = pruning_column(rel, foreign, left)) != NULL)
		cond->value = right;
	else if ((column = pruning_column(rel, foreign, right)) != NULL) {
		cond->value = left;
		cond->opno = get_commutator(clause->opno);
	}
	if (column == NULL || !OidIsValid(cond->opno) || !row_independent(root, rel, cond->value))
		return false;
	cond->kind = DDFDW_OP;
	cond->attno = ((Var *) column)->varattno;
	cond->collation = clause->inputcollid;
	return resolve_operator(cond, ((Var *) column)->vartype) &&
		   (ddfdw_column_source(foreign, cond->attno) == DDFDW_KEY || has_interval_operators(cond));
}

/* key = ANY (array), which is what IN becomes */
static bool
classify_any(PlannerInfo *root, RelOptInfo *rel, Oid foreign, ScalarArrayOpExpr *clause, DdfdwCond *cond)
{
	Expr *column = ddfdw_bound_column(rel, foreign, linitial(clause->args));

	if (column == NULL || !clause->useOr || ddfdw_column_source(foreign, ((Var *) column)->varattno) != DDFDW_KEY)
		return false;
	cond->kind = DDFDW_ANY;
	cond->attno = ((Var *) column)->varattno;
	cond->opno = clause->opno;
	cond->collation = clause->inputcollid;
	cond->value = lsecond(clause->args);
	return row_independent(root, rel, cond->value) && resolve_operator(cond, ((Var *) column)->vartype);
}

static bool
classify_null(RelOptInfo *rel, Oid foreign, NullTest *clause, DdfdwCond *cond)
{
	Expr *column = ddfdw_bound_column(rel, foreign, clause->arg);

	if (column == NULL || clause->argisrow || ddfdw_column_source(foreign, ((Var *) column)->varattno) != DDFDW_KEY)
		return false;
	cond->kind = clause->nulltesttype == IS_NULL ? DDFDW_IS_NULL : DDFDW_IS_NOT_NULL;
	cond->attno = ((Var *) column)->varattno;
	return true;
}

/* "flag" and "NOT flag": what the planner makes of "flag = true" and "flag = false" */
static bool
classify_bool(RelOptInfo *rel, Oid foreign, Expr *clause, DdfdwCond *cond)
{
	bool wanted = !is_notclause(clause);
	Expr *column = ddfdw_bound_column(rel, foreign, wanted ? clause : get_notclausearg(clause));

	if (column == NULL || ((Var *) column)->vartype != BOOLOID)
		return false;
	cond->kind = DDFDW_OP;
	cond->attno = ((Var *) column)->varattno;
	cond->opno = get_opfamily_member(BOOL_BTREE_FAM_OID, BOOLOID, BOOLOID, BTEqualStrategyNumber);
	cond->value = (Expr *) makeBoolConst(wanted, false);
	return resolve_operator(cond, BOOLOID);
}

bool
ddfdw_classify(PlannerInfo *root, RelOptInfo *rel, Oid foreign, RestrictInfo *clause, DdfdwCond *cond)
{
	Expr *expr = clause->clause;

	memset(cond, 0, sizeof *cond);
	/* A clause must not run before a security barrier's, unless it cannot tell anybody what it saw. */
	if (clause->pseudoconstant || !restriction_is_securely_promotable(clause, rel))
		return false;
	if (IsA(expr, OpExpr))
		return classify_operator(root, rel, foreign, (OpExpr *) expr, cond);
	if (IsA(expr, ScalarArrayOpExpr))
		return classify_any(root, rel, foreign, (ScalarArrayOpExpr *) expr, cond);
	if (IsA(expr, NullTest))
		return classify_null(rel, foreign, (NullTest *) expr, cond);
	return classify_bool(rel, foreign, expr, cond);
}

/* A plan must be copyable, so a condition travels as a list of integers; its value goes with the expressions. */
List *
ddfdw_cond_pack(const DdfdwCond *cond)
{
	List *packed = list_make4_int(cond->kind, cond->attno, (int) cond->opno, (int) cond->opfamily);

	packed = lappend_int(packed, cond->strategy);
	packed = lappend_int(packed, (int) cond->lefttype);
	packed = lappend_int(packed, (int) cond->righttype);
	return lappend_int(packed, (int) cond->collation);
}

DdfdwCond
ddfdw_cond_unpack(const List *packed)
{
	DdfdwCond cond = {
		.kind = list_nth_int(packed, 0),
		.attno = (AttrNumber) list_nth_int(packed, 1),
		.opno = (Oid) list_nth_int(packed, 2),
		.opfamily = (Oid) list_nth_int(packed, 3),
		.strategy = (StrategyNumber) list_nth_int(packed, 4),
		.lefttype = (Oid) list_nth_int(packed, 5),
		.righttype = (Oid) list_nth_int(packed, 6),
		.collation = (Oid) list_nth_int(packed, 7),
	};

	return cond;
}
