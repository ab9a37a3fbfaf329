/*
 * The planner's side: how many rows, at what cost, by which paths.
 *
 * Nothing is read but statistics: those of the foreign table (ANALYZE fills them) for selectivity, and those of the segment
 * table for the rest (size.c).
 */
#include "fdw.h"

#include <math.h>

#include "access/table.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "utils/lsyscache.h"

void
ddfdw_get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid foreign)
{
	DdfdwSize *size = palloc0(sizeof *size);
	/* The lock is kept to the end of the transaction, so that what was planned is still there to be executed. */
	Relation companion = ddfdw_open_companion(foreign);

	ddfdw_check_statement(root, rel->relid, foreign);
	*size = ddfdw_size(companion);
	table_close(companion, NoLock);

	rel->fdw_private = size;
	rel->pages = (BlockNumber)Min(size->pages, (double)MaxBlockNumber);
	rel->tuples = size->segments * size->segment_rows;
	set_baserel_size_estimates(root, rel);
}

/* Attribute numbers the scan has to fill in, ascending. */
static List *
needed_columns(RelOptInfo *rel, Oid foreign, List *clauses)
{
	Bitmapset *attrs = NULL;
	List *columns = NIL;
	ListCell *cell;
	bool all;

	pull_varattnos((Node *)rel->reltarget->exprs, rel->relid, &attrs);
	foreach (cell, clauses)
		pull_varattnos((Node *)lfirst_node(RestrictInfo, cell)->clause, rel->relid, &attrs);
	all = bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, attrs); /* the whole row */
	for (AttrNumber attno = 1; attno <= rel->max_attr; attno++)
		if ((all || bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, attrs)) &&
			get_atttype(foreign, attno) != InvalidOid && ddfdw_column_source(foreign, attno) != DDFDW_ABSENT)
			columns = lappend_int(columns, attno);
	return columns;
}

static bool
finds_segments(Oid foreign, const DdfdwCond *cond)
{
	return ddfdw_column_source(foreign, cond->attno) != DDFDW_NATIVE;
}

/* Of clauses that hold of single segments, how many segments they leave. */
static double
matching_segments(PlannerInfo *root, RelOptInfo *rel, Oid foreign, List *clauses)
{
	const DdfdwSize *size = rel->fdw_private;
	List *pruning = NIL;
	DdfdwCond cond;
	ListCell *cell;

	foreach (cell, clauses)
		/* How values are spread over segments nobody knows: conditions on them are taken to leave out none. */
		if (ddfdw_classify(root, rel, foreign, lfirst_node(RestrictInfo, cell), &cond) && finds_segments(foreign, &cond))
			pruning = lappend(pruning, lfirst(cell));
	return Min(clauselist_selectivity(root, pruning, rel->relid, JOIN_INNER, NULL) * size->segments + 1.0, size->segments);
}

DdfdwEstimate
ddfdw_estimate(PlannerInfo *root, RelOptInfo *rel, Oid foreign, List *clauses)
{
	const DdfdwSize *size = rel->fdw_private;
	DdfdwEstimate estimate = {
		.segments = matching_segments(root, rel, foreign, clauses),
		.segment_rows = size->segment_rows,
		.segment_fetch = random_page_cost + (size->pages - size->heap_pages) / size->segments * seq_page_cost,
		.decode = size->decode,
	};

	estimate.fetch = estimate.segments * (size->heap_pages / size->segments * seq_page_cost + cpu_index_tuple_cost);
	return estimate;
}

/*
 * Does every row of the segments found, within the limits on time that are looked up in them, satisfy the clause? Of `key =
 * ANY` that depends on whether there is an index.
 */
static bool
is_settled(Oid foreign, const DdfdwCond *cond)
{
	return finds_segments(foreign, cond) && cond->kind != DDFDW_ANY;
}

/* What it takes to have the columns of one row. */
static Cost
row_cost(const DdfdwSize *size, Oid foreign, const List *columns)
{
	Cost cost = 0;
	const ListCell *cell;

	foreach (cell, columns)
		switch (ddfdw_column_source(foreign, lfirst_int(cell))) {
		case DDFDW_TIME: cost += size->decode_time; break;
		case DDFDW_KEY: break;
		default: cost += size->decode;
		}
	return cost;
}

/* What checking a row takes. */
static QualCost
check_cost(PlannerInfo *root, RelOptInfo *rel, Oid foreign, const List *clauses)
{
	List *left = NIL;
	QualCost cost;
	DdfdwCond cond;
	const ListCell *cell;

	foreach (cell, clauses)
		if (!ddfdw_classify(root, rel, foreign, lfirst_node(RestrictInfo, cell), &cond) || !is_settled(foreign, &cond))
			left = lappend(left, lfirst(cell));
	cost_qual_eval(&cost, left, root);
	return cost;
}

/*
 * One path: clauses that hold of single segments decide how many of them are fetched and decoded. With workers, the path
 * of one process among them.
 */
static ForeignPath *
make_path(PlannerInfo *root, RelOptInfo *rel, Oid foreign, ParamPathInfo *param, int workers, List *pathkeys, List *order)
{
	const DdfdwSize *size = rel->fdw_private;
	List *clauses = param ? list_concat_copy(param->ppi_clauses, rel->baserestrictinfo) : rel->baserestrictinfo;
	double rows = param ? param->ppi_rows : rel->rows;
	Cost row = row_cost(size, foreign, needed_columns(rel, foreign, clauses));
	QualCost quals = check_cost(root, rel, foreign, clauses);
	double fetched, decoded;
	double processes = workers;
	ForeignPath *path;
	Cost startup, total;

	fetched = matching_segments(root, rel, foreign, clauses);
	decoded = fetched * size->segment_rows;
	if (workers > 0) {
		if (parallel_leader_participation)
			processes += Max(1.0 - 0.3 * workers, 0.0); /* as the planner reckons with the leader elsewhere */
		processes = Min(processes, fetched);
		rows = clamp_row_est(rows / processes);
		decoded /= processes;
	}

	startup = quals.startup + rel->reltarget->cost.startup + random_page_cost;
	total = startup + fetched * (random_page_cost + cpu_index_tuple_cost) + fetched / size->segments * size->pages * seq_page_cost;
	total += decoded * (row + cpu_tuple_cost + quals.per_tuple) + rows * rel->reltarget->cost.per_tuple;
	/* No row comes out before its segment is decoded. */
	startup += Min(size->segment_rows, decoded) * row;
	if (order) {
		double open = Min(ddfdw_open_at_once(root, rel, foreign, order), fetched);

		/* All segments are listed, the times of those open at once are decoded, each row goes through the heap. */
		startup += fetched * (cpu_tuple_cost + cpu_operator_cost);
		startup += open * (random_page_cost + size->segment_rows * size->decode_time);
		total = Max(total, startup) + fetched * cpu_tuple_cost + rows * cpu_operator_cost * (1.0 + log2(open + 1.0));
	}

	path = create_foreignscan_path(root, rel, NULL, rows,
#if PG_VERSION_NUM >= 180000
								   0,
#endif
								   startup, Max(total, startup), pathkeys, param ? param->ppi_req_outer : rel->lateral_relids, NULL,
#if PG_VERSION_NUM >= 170000
								   NIL,
#endif
								   order);
	path->path.parallel_aware = workers > 0;
	path->path.parallel_workers = workers;
	return path;
}

/*
 * Workers pay by what is decoded, so their number follows from the size the rows would have in a heap. At least one:
 * without a partial path here, the hot rows beside could not be scanned in parallel either.
 */
static int
worker_count(RelOptInfo *rel)
{
	double pages = rel->tuples * (rel->reltarget->width + SizeofHeapTupleHeader) / BLCKSZ;

	return Max(compute_parallel_worker(rel, pages, -1, max_parallel_workers_per_gather), 1);
}

/* A parameterized path for a join clause by which segments can be pruned, once per set of outer relations. */
static void
add_join_path(PlannerInfo *root, RelOptInfo *rel, Oid foreign, RestrictInfo *clause, List **seen)
{
	Relids outer;
	ParamPathInfo *param;
	DdfdwCond cond;

	if (!join_clause_is_movable_to(clause, rel) || !ddfdw_classify(root, rel, foreign, clause, &cond) ||
		!finds_segments(foreign, &cond))
		return;
	outer = bms_union(clause->clause_relids, rel->lateral_relids);
	outer = bms_del_member(outer, rel->relid);
	if (bms_is_empty(outer))
		return;
	param = get_baserel_parampathinfo(root, rel, outer);
	if (list_member_ptr(*seen, param))
		return;
	*seen = lappend(*seen, param);
	add_path(rel, (Path *)make_path(root, rel, foreign, param, 0, NIL, NIL));
}

/* Paths in the order of the query, where its segments come in one and are few enough to be open at once. */
static void
add_ordered_path(PlannerInfo *root, RelOptInfo *rel, Oid foreign, ParamPathInfo *param)
{
	const DdfdwSize *size = rel->fdw_private;
	List *pathkeys, *order = ddfdw_order_of_query(root, rel, foreign, &pathkeys);

	if (order && Min(ddfdw_open_at_once(root, rel, foreign, order), size->segments) * size->segment_rows * sizeof(Datum) <=
					 DDFDW_OPEN_BYTES)
		add_path(rel, (Path *)make_path(root, rel, foreign, param, 0, pathkeys, order));
}

typedef struct EquivalenceTarget {
	Oid foreign;
	AttrNumber attno;
} EquivalenceTarget;

static bool
is_target(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec, EquivalenceMember *em, void *arg)
{
	const EquivalenceTarget *target = arg;
	Expr *column = ddfdw_bound_column(rel, target->foreign, em->em_expr);

	return column != NULL && ((Var *)column)->varattno == target->attno;
}

void
ddfdw_get_paths(PlannerInfo *root, RelOptInfo *rel, Oid foreign)
{
	List *seen = NIL;
	ListCell *cell;
	ParamPathInfo *param =
		bms_is_empty(rel->lateral_relids) ? NULL : get_baserel_parampathinfo(root, rel, rel->lateral_relids);

	add_path(rel, (Path *)make_path(root, rel, foreign, param, 0, NIL, NIL));
	add_ordered_path(root, rel, foreign, param);
	if (rel->consider_parallel && bms_is_empty(rel->lateral_relids) && max_parallel_workers_per_gather > 0)
		add_partial_path(rel, (Path *)make_path(root, rel, foreign, NULL, worker_count(rel), NIL, NIL));
	foreach (cell, rel->joininfo)
		add_join_path(root, rel, foreign, lfirst_node(RestrictInfo, cell), &seen);
	if (!rel->has_eclass_joins)
		return;
	for (AttrNumber attno = 1; attno <= rel->max_attr; attno++) {
		EquivalenceTarget target = {foreign, attno};
		DdfdwSource source = ddfdw_column_source(foreign, attno);

		if (source != DDFDW_KEY && source != DDFDW_TIME)
			continue;
		foreach (cell, generate_implied_equalities_for_column(root, rel, is_target, &target, rel->lateral_referencers))
			add_join_path(root, rel, foreign, lfirst_node(RestrictInfo, cell), &seen);
	}
}

/* May rows consist of the columns of `tlist` alone, all that is needed, so that nothing has to be projected? */
static bool
suffices(Index relid, const List *tlist, const List *columns)
{
	const ListCell *cell;

	if (tlist == NIL || list_length(tlist) != list_length(columns))
		return false;
	foreach (cell, tlist) {
		const Var *var = (Var *)lfirst_node(TargetEntry, cell)->expr;

		if (!IsA(var, Var) || var->varno != (int)relid)
			return false;
	}
	foreach (cell, columns) {
		const ListCell *entry;
		bool found = false;

		foreach (entry, tlist)
			found |= ((Var *)lfirst_node(TargetEntry, entry)->expr)->varattno == lfirst_int(cell);
		if (!found)
			return false;
	}
	return true;
}

ForeignScan *
ddfdw_get_plan(PlannerInfo *root, RelOptInfo *rel, Oid foreign, ForeignPath *best, List *tlist, List *scan_clauses,
			   Plan *outer)
{
	List *conds = NIL, *values = NIL, *settled = NIL, *left = NIL, *columns, *order = best->fdw_private;
	ListCell *cell;
	bool alone;

	foreach (cell, scan_clauses) {
		RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
		DdfdwCond cond;
		bool found = ddfdw_classify(root, rel, foreign, clause, &cond);

		if (found && is_settled(foreign, &cond))
			settled = lappend(settled, clause);
		else
			left = lappend(left, clause);
		if (!found)
			continue;
		conds = lappend(conds, ddfdw_cond_pack(&cond));
		if (cond.value)
			values = lappend(values, cond.value);
	}
	columns = needed_columns(rel, foreign, left);
	if (order) /* too many open segments are sorted by it */
		columns = list_append_unique_int(columns, ddfdw_sort_unpack(llast(order)).attno);
	/* Where PostgreSQL wants to check a row anew, the whole of it is among what is wanted. */
	alone = suffices(rel->relid, tlist, columns);
	/* What is not settled stays with the executor: pruning only ever leaves out segments in which none can be true. */
	return make_foreignscan(tlist, extract_actual_clauses(left, false), rel->relid, values,
							list_make3(conds, columns, order), alone ? copyObject(tlist) : NIL,
							alone ? NIL : extract_actual_clauses(settled, false), outer);
}
