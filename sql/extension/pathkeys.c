/*
 * In what order the rows of a foreign table can come: by any of its keys, then by time.
 */
#include "fdw.h"

#include "access/stratnum.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/typcache.h"

static Var *
make_column(RelOptInfo *rel, Oid foreign, AttrNumber attno)
{
	Oid type, collation;
	int32 typmod;

	get_atttypetypmodcoll(foreign, attno, &type, &typmod, &collation);
	return makeVar(rel->relid, attno, type, typmod, collation, 0);
}

static Oid
ordering_operator(const PathKey *pathkey, Oid type, bool *descending)
{
#if PG_VERSION_NUM >= 180000
	*descending = pathkey->pk_cmptype == COMPARE_GT;
	return get_opfamily_member_for_cmptype(pathkey->pk_opfamily, type, type, pathkey->pk_cmptype);
#else
	*descending = pathkey->pk_strategy == BTGreaterStrategyNumber;
	return get_opfamily_member(pathkey->pk_opfamily, type, type, pathkey->pk_strategy);
#endif
}

/* Is the pathkey about this column, and an order that segments can be put in? */
static bool
describes(const PathKey *pathkey, RelOptInfo *rel, Oid foreign, AttrNumber attno, DdfdwSource source, DdfdwSortColumn *column)
{
	Var *var = make_column(rel, foreign, attno);
	EquivalenceMember *member = find_ec_member_matching_expr(pathkey->pk_eclass, (Expr *)var, rel->relids);

	if (member == NULL)
		return false;
	/* Times are compared as the integers they are: that is their type's own order, which no other family promises. */
	if (source == DDFDW_TIME && pathkey->pk_opfamily != lookup_type_cache(var->vartype, TYPECACHE_BTREE_OPFAMILY)->btree_opf)
		return false;
	column->attno = attno;
	column->opno = ordering_operator(pathkey, member->em_datatype, &column->descending);
	column->collation = pathkey->pk_eclass->ec_collation;
	column->nulls_first = pathkey->pk_nulls_first;
	return OidIsValid(column->opno);
}

static List *
sort_pack(const DdfdwSortColumn *column)
{
	List *packed = list_make4_int(column->attno, (int)column->opno, (int)column->collation, column->descending);

	return lappend_int(packed, column->nulls_first);
}

DdfdwSortColumn
ddfdw_sort_unpack(const List *packed)
{
	DdfdwSortColumn column = {
		.attno = (AttrNumber)list_nth_int(packed, 0),
		.opno = (Oid)list_nth_int(packed, 1),
		.collation = (Oid)list_nth_int(packed, 2),
		.descending = list_nth_int(packed, 3) != 0,
		.nulls_first = list_nth_int(packed, 4) != 0,
	};

	return column;
}

/*
 * As much of the order the query wants as segments can be put in, with its *pathkeys: columns that end with time, or NIL. A
 * key that the query compares with a constant is in none of the pathkeys.
 */
List *
ddfdw_order_of_query(PlannerInfo *root, RelOptInfo *rel, Oid foreign, List **pathkeys)
{
	Bitmapset *attrs = NULL;
	List *order = NIL;
	ListCell *cell;

	*pathkeys = NIL;
	if (root->query_pathkeys == NIL)
		return NIL;
	/* Rows that are sorted in between lose their ctid, by which UPDATE and DELETE know them. */
	pull_varattnos((Node *)rel->reltarget->exprs, rel->relid, &attrs);
	if (bms_is_member(SelfItemPointerAttributeNumber - FirstLowInvalidHeapAttributeNumber, attrs))
		return NIL;
	foreach (cell, root->query_pathkeys) {
		PathKey *pathkey = lfirst_node(PathKey, cell);
		bool found = false;

		if (pathkey->pk_eclass->ec_has_volatile)
			return NIL;
		for (AttrNumber attno = 1; attno <= rel->max_attr && !found; attno++) {
			DdfdwSource source = ddfdw_column_source(foreign, attno);
			DdfdwSortColumn column;

			if ((source != DDFDW_TIME && source != DDFDW_KEY) || !describes(pathkey, rel, foreign, attno, source, &column))
				continue;
			found = true;
			order = lappend(order, sort_pack(&column));
			*pathkeys = lappend(*pathkeys, pathkey);
			if (source == DDFDW_TIME)
				return order;
		}
		if (!found)
			break;
	}
	return NIL;
}

/* About how many series there are among rows of one prefix of the order: so many segments are open at once. */
double
ddfdw_open_at_once(PlannerInfo *root, RelOptInfo *rel, Oid foreign, List *order)
{
	List *keys = NIL;

	for (AttrNumber attno = 1; attno <= rel->max_attr; attno++) {
		bool fixed = ddfdw_column_source(foreign, attno) != DDFDW_KEY;
		ListCell *cell;

		foreach (cell, order)
			fixed |= ddfdw_sort_unpack(lfirst(cell)).attno == attno;
		foreach (cell, rel->baserestrictinfo) {
			DdfdwCond cond;

			fixed = fixed || (ddfdw_classify(root, rel, foreign, lfirst_node(RestrictInfo, cell), &cond) && cond.attno == attno &&
							  (cond.kind == DDFDW_IS_NULL ||
							   (cond.kind == DDFDW_OP && cond.strategy == BTEqualStrategyNumber)));
		}
		if (!fixed)
			keys = lappend(keys, make_column(rel, foreign, attno));
	}
	return keys == NIL ? 1.0 : estimate_num_groups(root, keys, rel->rows, NULL, NULL);
}
