/*
 * The planner's side of aggregation: a path for queries that group the rows of one managed table.
 *
 *   Finalize Aggregate
 *     -> Append
 *          -> Partial Aggregate
 *               -> Seq Scan on t                   hot rows, aggregated as ever
 *          -> Custom Scan (DDStoreAggregate)       one row per segment and group: transition states
 *               -> Foreign Scan on t_cold          segments, as without aggregation
 *
 * The foreign table is a child of the managed one, where a wrapper's GetForeignUpperPaths is never asked. So this is a
 * hook; it is set in time, for the wrapper's library is loaded no later than a query's tables are looked at.
 */
#include "agg.h"

#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/appendinfo.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "optimizer/prep.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"

static bool enable_aggregate = true;
static create_upper_paths_hook_type previous_hook;

/* The table that is grouped: cold rows, and the hot ones if it is the managed table itself. And by what. */
typedef struct Grouped {
	RelOptInfo *input;
	RelOptInfo *cold, *hot;				 /* hot: NULL when there is none, or it is known to be empty */
	AppendRelInfo *cold_info, *hot_info; /* NULL: the cold table is queried by itself */
	Oid foreign;
	PathTarget *partial, *cold_partial; /* of the input, of its cold rows */
	DdaggShape shape;
	double groups;
} Grouped;

static bool
is_cold(RelOptInfo *rel)
{
	return rel && rel->fdwroutine && rel->fdwroutine->BeginForeignScan == ddfdw_begin;
}

/* Columns that were added and that no segment has yet: the scan of rows knows what they read. */
static bool
lacks_columns(const RelOptInfo *cold, Oid foreign)
{
	for (AttrNumber attno = 1; attno <= cold->max_attr; attno++)
		if (get_atttype(foreign, attno) != InvalidOid && ddfdw_column_source(foreign, attno) == DDFDW_MISSING)
			return true;
	return false;
}

static bool
find_tables(PlannerInfo *root, RelOptInfo *input, Grouped *grouped)
{
	RangeTblEntry *entry;
	ListCell *cell;

	memset(grouped, 0, sizeof *grouped);
	grouped->input = input;
	if (input->reloptkind != RELOPT_BASEREL || IS_DUMMY_REL(input))
		return false;
	entry = planner_rt_fetch(input->relid, root);
	if (entry->rtekind != RTE_RELATION || entry->tablesample || entry->securityQuals)
		return false;
	if (is_cold(input))
		grouped->cold = input;
	else if (entry->relkind != RELKIND_RELATION)
		return false;
	foreach (cell, root->append_rel_list) {
		AppendRelInfo *info = lfirst_node(AppendRelInfo, cell);
		RelOptInfo *child = root->simple_rel_array[info->child_relid];

		if (info->parent_relid != input->relid)
			continue;
		if (grouped->hot_info == NULL && planner_rt_fetch(info->child_relid, root)->relid == entry->relid) {
			grouped->hot_info = info;
			grouped->hot = IS_DUMMY_REL(child) ? NULL : child;
		} else if (grouped->cold == NULL && is_cold(child)) {
			grouped->cold_info = info;
			grouped->cold = child;
		} else
			return false;
	}
	if (grouped->cold == NULL || IS_DUMMY_REL(grouped->cold) || !bms_is_empty(grouped->cold->lateral_relids))
		return false;
	grouped->foreign = planner_rt_fetch(grouped->cold->relid, root)->relid;
	if (lacks_columns(grouped->cold, grouped->foreign))
		return false;
	return (grouped->hot_info == NULL) == (grouped->cold_info == NULL);
}

/* Clauses are checked per segment where that will do, so each has to say the same whenever it is asked. */
static bool
are_stable(List *clauses)
{
	ListCell *cell;

	foreach (cell, clauses) {
		RestrictInfo *clause = lfirst_node(RestrictInfo, cell);

		if (clause->pseudoconstant || clause->security_level > 0 || contain_volatile_functions((Node *)clause->clause) ||
			contain_subplans((Node *)clause->clause))
			return false;
	}
	return true;
}

static List *
group_clause(PlannerInfo *root)
{
#if PG_VERSION_NUM >= 160000
	return root->processed_groupClause;
#else
	return root->parse->groupClause;
#endif
}

/* What a partial aggregation returns: the groups, the columns that depend on them, and states. */
static PathTarget *
partial_target(PlannerInfo *root, const PathTarget *final, Node *having)
{
	PathTarget *target = create_empty_pathtarget();
	List *others = NIL;
	ListCell *cell;

	foreach (cell, final->exprs) {
		Index ref = get_pathtarget_sortgroupref(final, foreach_current_index(cell));

		if (ref && get_sortgroupref_clause_noerr(ref, group_clause(root)))
			add_column_to_pathtarget(target, lfirst(cell), ref);
		else
			others = lappend(others, lfirst(cell));
	}
	others = lappend(others, having);
	add_new_columns_to_pathtarget(
		target, pull_var_clause((Node *)others, PVC_INCLUDE_AGGREGATES | PVC_RECURSE_WINDOWFUNCS | PVC_INCLUDE_PLACEHOLDERS));
	foreach (cell, target->exprs)
		if (IsA(lfirst(cell), Aggref)) {
			Aggref *partial = makeNode(Aggref);

			memcpy(partial, lfirst(cell), sizeof(Aggref));
			mark_partial_aggref(partial, AGGSPLIT_INITIAL_SERIAL);
			lfirst(cell) = partial;
		}
	return set_pathtarget_cost_width(root, target);
}

static PathTarget *
child_target(PlannerInfo *root, PathTarget *target, AppendRelInfo *info)
{
	PathTarget *child = copy_pathtarget(target);

	if (info)
		child->exprs = (List *)adjust_appendrel_attrs(root, (Node *)target->exprs, 1, &info);
	return child;
}

static RelOptInfo *
partial_rel(RelOptInfo *of, PathTarget *target)
{
	RelOptInfo *rel = makeNode(RelOptInfo);

	rel->reloptkind = RELOPT_UPPER_REL;
	rel->relids = of->relids;
	rel->reltarget = target;
	rel->consider_parallel = of->consider_parallel;
	return rel;
}

/* Hash or plain; sorted without a column to sort by where every group clause is redundant but there is one. */
static AggStrategy
strategy(PlannerInfo *root)
{
	if (group_clause(root))
		return AGG_HASHED;
	return root->parse->groupClause ? AGG_SORTED : AGG_PLAIN;
}

/* How many series there are, as far as statistics tell. */
static double
count_series(PlannerInfo *root, const Grouped *grouped)
{
	RelOptInfo *cold = grouped->cold;
	List *keys = NIL;

	for (AttrNumber attno = 1; attno <= cold->max_attr; attno++)
		if (get_atttype(grouped->foreign, attno) != InvalidOid &&
			ddfdw_column_source(grouped->foreign, attno) == DDFDW_KEY) {
			Oid type, collation;
			int32 typmod;

			get_atttypetypmodcoll(grouped->foreign, attno, &type, &typmod, &collation);
			keys = lappend(keys, makeVar(cold->relid, attno, type, typmod, collation, 0));
		}
	return keys == NIL ? 1.0 : estimate_num_groups(root, keys, cold->rows, NULL, NULL);
}

/*
 * Segments cut by a limit on time or by two groups are decoded, the others cost no more than their row in the segment
 * table. A clause that is about neither keys nor time has everything decoded.
 */
static void
cost_aggregate(PlannerInfo *root, const Grouped *grouped, CustomPath *path)
{
	const DdaggShape *shape = &grouped->shape;
	double processes = 1;
	RelOptInfo *cold = grouped->cold;
	DdfdwEstimate estimate = ddfdw_estimate(root, cold, grouped->foreign, cold->baserestrictinfo);
	double decoded = shape->from_rows ? estimate.segments : 0, limits = 0;
	double columns = list_length(shape->attnos);
	QualCost quals = {0, 0}, one;
	Cost run, row;
	ListCell *cell;

	foreach (cell, cold->baserestrictinfo) {
		RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
		DdfdwCond cond;

		if (ddfdw_classify(root, cold, grouped->foreign, clause, &cond) &&
			ddfdw_column_source(grouped->foreign, cond.attno) == DDFDW_TIME)
			limits++;
		else if (!ddagg_is_of_keys(grouped->foreign, cold->relid, (Node *)clause->clause)) {
			cost_qual_eval_node(&one, (Node *)clause->clause, root);
			quals.startup += one.startup;
			quals.per_tuple += one.per_tuple;
			decoded = estimate.segments;
		}
	}
	if (limits > 0)
		decoded = Max(decoded, limits * count_series(root, grouped));
	if (shape->by_time)
		decoded = Max(decoded, grouped->groups);
	decoded = Min(decoded, estimate.segments);
	run = estimate.fetch + estimate.segments * (list_length(shape->outputs) + 1) * cpu_operator_cost;
	/* No row is handed over: what remains is a small part of an operator's cost. */
	row = columns * (estimate.decode + 0.1 * cpu_operator_cost) + quals.per_tuple;
	run += decoded * (estimate.segment_rows * row + estimate.segment_fetch);
	path->path.rows = clamp_row_est(Min(shape->by_time || group_clause(root) ? grouped->groups + estimate.segments : 1.0, cold->rows));
	if (path->path.parallel_workers > 0) {
		processes = path->path.parallel_workers;
		if (parallel_leader_participation)
			processes += Max(1.0 - 0.3 * path->path.parallel_workers, 0.0); /* as for scans */
		processes = Min(processes, estimate.segments);
	}
	path->path.startup_cost = quals.startup + random_page_cost;
	path->path.total_cost = path->path.startup_cost + run / processes + path->path.rows * cpu_tuple_cost;
}

static Plan *plan_aggregate(PlannerInfo *root, RelOptInfo *rel, CustomPath *best, List *tlist, List *clauses,
							List *custom_plans);

static const CustomPathMethods path_methods = {.CustomName = "DDStoreAggregate", .PlanCustomPath = plan_aggregate};

/* `scan` is of the cold table; with workers, one process's share of it. */
static Path *
cold_path(PlannerInfo *root, const Grouped *grouped, Path *scan)
{
	PathTarget *source = child_target(root, grouped->input->reltarget, grouped->cold_info);
	const DdaggShape *shape = &grouped->shape;
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = partial_rel(grouped->cold, grouped->cold_partial);
	path->path.pathtarget = grouped->cold_partial;
	path->path.parallel_aware = path->path.parallel_safe = scan->parallel_workers > 0;
	path->path.parallel_workers = scan->parallel_workers;
	path->methods = &path_methods;
	path->custom_paths = list_make1(create_projection_path(root, grouped->cold, scan, source));
	path->custom_private = list_make4(shape->outputs, list_make2_int(shape->by_time, shape->order),
									  shape->zone ? makeString(shape->zone) : NULL, shape->attnos);
	cost_aggregate(root, grouped, path);
	return (Path *)path;
}

static Path *
hot_path(PlannerInfo *root, const Grouped *grouped, Path *scan)
{
	PathTarget *source = child_target(root, grouped->input->reltarget, grouped->hot_info);
	PathTarget *target = child_target(root, grouped->partial, grouped->hot_info);
	AggClauseCosts costs = {0};

	get_agg_clause_costs(root, AGGSPLIT_INITIAL_SERIAL, &costs);
	return (Path *)create_agg_path(root, partial_rel(grouped->hot, target),
								   (Path *)create_projection_path(root, grouped->hot, scan, source), target, strategy(root),
								   AGGSPLIT_INITIAL_SERIAL, group_clause(root), NIL, &costs,
								   Min(grouped->groups, clamp_row_est(scan->rows)));
}

/* A path for the aggregation of these scans; with workers, their parts are gathered. */
static void
add_aggregation(PlannerInfo *root, const Grouped *grouped, Path *cold, Path *hot, RelOptInfo *output, List *having)
{
	RelOptInfo *rel = partial_rel(grouped->input, grouped->partial);
	AggClauseCosts costs = {0};
	int workers = cold->parallel_workers;
	Path *path = cold_path(root, grouped, cold);

	if (hot) {
		List *parts = list_make2(hot_path(root, grouped, hot), path);

		path = (Path *)create_append_path(root, rel, workers > 0 ? NIL : parts, workers > 0 ? parts : NIL, NIL, NULL,
										  Max(workers, hot->parallel_workers), workers > 0 && enable_parallel_append, -1);
	}
	if (workers > 0) {
		double rows = path->rows * path->parallel_workers;

		path = (Path *)create_gather_path(root, rel, path, grouped->partial, NULL, &rows);
	}
	get_agg_clause_costs(root, AGGSPLIT_FINAL_DESERIAL, &costs);
	add_path(output, (Path *)create_agg_path(root, output, path, output->reltarget, strategy(root), AGGSPLIT_FINAL_DESERIAL,
											 group_clause(root), having, &costs, grouped->groups));
}

static bool
is_supported(PlannerInfo *root, RelOptInfo *input, const GroupPathExtraData *extra, Grouped *grouped)
{
	const Query *query = root->parse;

	return query->commandType == CMD_SELECT && !query->groupingSets && !query->rowMarks && !query->hasTargetSRFs &&
		   !root->hasNonPartialAggs && !root->hasNonSerialAggs && root->qual_security_level == 0 &&
		   (group_clause(root) == NIL || extra->flags & GROUPING_CAN_USE_HASH) && find_tables(root, input, grouped) &&
		   are_stable(grouped->cold->baserestrictinfo);
}

static void
add_aggregate_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, const GroupPathExtraData *extra)
{
	List *group = group_clause(root), *having = (List *)extra->havingQual;
	Grouped grouped;
	Path *cold, *hot;

	if (!enable_aggregate || !is_supported(root, input, extra, &grouped))
		return;
	grouped.partial = partial_target(root, output->reltarget, extra->havingQual);
	grouped.cold_partial = child_target(root, grouped.partial, grouped.cold_info);
	if (!ddagg_shape(root, grouped.cold, grouped.foreign, grouped.cold_partial, group, &grouped.shape))
		return;
	grouped.groups = 1;
	if (group)
		grouped.groups =
			estimate_num_groups(root, get_sortgrouplist_exprs(group, extra->targetList), input->rows, NULL, NULL);
	cold = grouped.cold->cheapest_total_path;
	hot = grouped.hot ? grouped.hot->cheapest_total_path : NULL;
	if (!IsA(cold, ForeignPath) || cold->param_info || (hot && hot->param_info))
		return;
	add_aggregation(root, &grouped, cold, hot, output, having);
	if (!output->consider_parallel || grouped.cold->partial_pathlist == NIL ||
		(grouped.hot && grouped.hot->partial_pathlist == NIL))
		return;
	cold = linitial(grouped.cold->partial_pathlist);
	hot = grouped.hot ? linitial(grouped.hot->partial_pathlist) : NULL;
	add_aggregation(root, &grouped, cold, hot, output, having);
}

static void
upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input, RelOptInfo *output, void *extra)
{
	if (previous_hook)
		previous_hook(root, stage, input, output, extra);
	if (stage == UPPERREL_GROUP_AGG)
		add_aggregate_paths(root, input, output, extra);
}

/* The columns that rows are decoded for: of aggregates, of clauses not answered by whole segments, of groups. */
static List *
row_columns(RelOptInfo *cold, Oid foreign, const ForeignScan *scan, List *attnos)
{
	Index relid = scan->scan.scanrelid;
	Bitmapset *attrs = NULL;
	List *columns = NIL;
	ListCell *cell;
	int attr = -1;

	foreach (cell, scan->scan.plan.qual)
		pull_varattnos(lfirst(cell), relid, &attrs);
	foreach (cell, scan->scan.plan.targetlist)
		if (!IsA(lfirst_node(TargetEntry, cell)->expr, Var))
			pull_varattnos((Node *)lfirst_node(TargetEntry, cell)->expr, relid, &attrs);
	foreach (cell, attnos)
		attrs = bms_add_member(attrs, lfirst_int(cell) - FirstLowInvalidHeapAttributeNumber);
	for (AttrNumber attno = 1; attno <= cold->max_attr; attno++)
		if (get_atttype(foreign, attno) != InvalidOid && ddfdw_column_source(foreign, attno) == DDFDW_KEY)
			attrs = bms_add_member(attrs, attno - FirstLowInvalidHeapAttributeNumber);
	while ((attr = bms_next_member(attrs, attr)) >= 0) {
		AttrNumber attno = attr + FirstLowInvalidHeapAttributeNumber;

		if (attno > 0 && ddfdw_column_source(foreign, attno) != DDFDW_ABSENT)
			columns = lappend_int(columns, attno);
	}
	return columns;
}

/* The scan below is not asked for rows: it knows the segments, and its expressions are evaluated here. */
static Plan *
plan_aggregate(PlannerInfo *root, RelOptInfo *rel, CustomPath *best, List *tlist, List *clauses, List *custom_plans)
{
	CustomScan *plan = makeNode(CustomScan);
	ForeignScan *scan = linitial_node(ForeignScan, custom_plans);
	RelOptInfo *cold = root->simple_rel_array[scan->scan.scanrelid];
	Oid foreign = planner_rt_fetch(cold->relid, root)->relid;
	List *outputs = NIL;
	ListCell *cell, *packed;

	scan->fdw_scan_tlist = scan->fdw_recheck_quals = NIL;
	forboth (cell, tlist, packed, linitial(best->custom_private)) {
		DdaggOutput output = ddagg_output_unpack(lfirst(packed));

		if (output.kind == DDAGG_GROUP) {
			TargetEntry *entry = tlist_member(lfirst_node(TargetEntry, cell)->expr, scan->scan.plan.targetlist);

			if (entry == NULL)
				elog(ERROR, "a group is not among the columns of the scan");
			output.place = entry->resno;
		}
		outputs = lappend(outputs, ddagg_output_pack(&output));
	}
	list_nth_cell(scan->fdw_private, DDFDW_PRIVATE_COLUMNS)->ptr_value =
		row_columns(cold, foreign, scan, list_nth(best->custom_private, DDAGG_PRIVATE_COLUMNS));
	list_nth_cell(scan->fdw_private, DDFDW_PRIVATE_ORDER)->ptr_value = NIL;
	plan->scan.plan.targetlist = tlist;
	plan->custom_scan_tlist = copyObject(tlist);
	plan->custom_plans = custom_plans;
	plan->custom_private = list_make3(outputs, list_nth(best->custom_private, DDAGG_PRIVATE_FLAGS),
									  list_nth(best->custom_private, DDAGG_PRIVATE_ZONE));
	plan->methods = &ddagg_scan_methods;
	return (Plan *)plan;
}

void
ddagg_init(void)
{
	DefineCustomBoolVariable("ddstore.enable_aggregate", "Aggregate cold rows where they are decoded.",
							 "Whole segments are then answered from their statistics.", &enable_aggregate, true, PGC_USERSET,
							 GUC_EXPLAIN, NULL, NULL, NULL);
	RegisterCustomScanMethods(&ddagg_scan_methods);
	previous_hook = create_upper_paths_hook;
	create_upper_paths_hook = upper_paths;
}
