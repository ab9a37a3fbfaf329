/*
 * The executor's side of aggregation: from segment to segment, one row of transition states per group.
 *
 * A group's rows may come in several pieces, which the aggregation above puts together. So nothing is remembered but the
 * group at hand: it ends where the next piece belongs to another one.
 *
 * The scan below is never asked for a row. It says which segments there are and where in them the limits on time lie; its
 * clauses are checked, and its columns computed, once for a whole segment where they are about keys, and for single rows
 * only where nothing else will do.
 */
#include "agg.h"

#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif
#include "executor/executor.h"
#include "executor/instrument.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "pgtime.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* Add what is next of the segment to the group at hand, which it belongs to. */
static void
add(DdaggScan *agg)
{
	TupleTableSlot *row = agg->scan->companion->slot;
	uint32 first = agg->next, end;
	int64 n;

	ResetExprContext(agg->custom.ss.ps.ps_ExprContext);
	if (agg->whole) {
		n = ddagg_rows(agg);
		for (int i = 0; i < agg->noutputs; i++)
			if (agg->states[i])
				ddagg_state_add_stats(agg->states[i], ddagg_stats_of(agg, agg->states[i]), row, n, agg->memory);
		agg->whole = false;
		return;
	}
	end = ddagg_run_end(agg);
	agg->run = end - first;
	n = end - first;
	if (agg->keep)
		for (uint32 i = first; i < end; i++)
			n -= !agg->keep[i];
	for (int i = 0; i < agg->naggregated; i++)
		ddagg_column_pick(&agg->columns[i], agg->scan->context, agg->keep, first, end);
	for (int i = 0; i < agg->noutputs; i++)
		if (agg->states[i])
			ddagg_state_add_rows(agg->states[i], row, agg->keep, first, end, n, agg->memory);
	agg->rows += n;
	agg->next = end;
	CHECK_FOR_INTERRUPTS();
}

/* Is there anything left of the segment turned to? */
static bool
more(DdaggScan *agg)
{
	while (agg->keep && agg->next < agg->end && !agg->keep[agg->next])
		agg->next++;
	return agg->whole || agg->next < agg->end;
}

/* The row of the next group into `slot`, which stays empty after the last one. */
static void
next_group(DdaggScan *agg, TupleTableSlot *slot)
{
	while (TupIsNull(slot)) {
		if (!more(agg)) {
			if (ddagg_next_segment(agg))
				continue;
			if (agg->open)
				ddagg_close_group(agg, slot);
			return;
		}
		ddagg_compute(agg, agg->whole || !agg->by_time ? ddagg_limit(agg, agg->scan->table->t_min)
												 : agg->scan->segment->times[agg->next], &agg->here);
		if (agg->open && !ddagg_same(agg, &agg->group, &agg->here))
			ddagg_close_group(agg, slot);
		if (!agg->open)
			ddagg_open_group(agg);
		ResetExprContext(agg->child->ss.ps.ps_ExprContext);
		add(agg);
	}
}

static TupleTableSlot *
fetch(ScanState *node)
{
	DdaggScan *agg = (DdaggScan *)node;
	Instrumentation *below = agg->child->ss.ps.instrument;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	int64 rows = agg->rows;
	MemoryContext old;

	ExecClearTuple(slot);
	if (below)
		InstrStartNode(below);
	/* The scan below reads segments into this; we are called in one that is reset with each row. */
	old = MemoryContextSwitchTo(agg->scan->context);
	for (int i = 0; i < agg->nfilters && !agg->ready; i++)
		ddagg_filter_start(agg->filters[i], agg->child->ss.ps.ps_ExprContext);
	agg->ready = true;
	next_group(agg, slot);
	MemoryContextSwitchTo(old);
	if (below)
		InstrStopNode(below, (double)(agg->rows - rows));
	ddagg_share_counts(agg);
	return slot;
}

static bool
recheck(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
execute(CustomScanState *node)
{
	return ExecScan(&node->ss, fetch, recheck);
}

/* ---- begin and end ---- */

static DdaggColumn *
find_column(DdaggScan *agg, AttrNumber attno)
{
	for (int i = 0; i < agg->ncolumns; i++)
		if (agg->columns[i].attno == attno)
			return &agg->columns[i];
	agg->columns[agg->ncolumns].attno = attno;
	ddagg_column_bind(&agg->columns[agg->ncolumns], agg->scan->companion_rel, agg->scan->table);
	return &agg->columns[agg->ncolumns++];
}

/* Clauses of the scan below: about keys only, simple ones about one column, others. */
static void
sort_clauses(DdaggScan *agg)
{
	const ForeignScan *plan = (ForeignScan *)agg->child->ss.ps.plan;
	PlanState *parent = &agg->child->ss.ps;
	Index relid = plan->scan.scanrelid;
	List *of_segments = NIL, *of_rows = NIL;
	ListCell *cell;

	agg->filters = palloc0(sizeof(DdaggFilter *) * Max(list_length(plan->scan.plan.qual), 1));
	foreach (cell, plan->scan.plan.qual) {
		DdaggFilter *filter;

		if (ddagg_is_of_keys(agg->scan->table->foreign, relid, lfirst(cell)))
			of_segments = lappend(of_segments, lfirst(cell));
		else if ((filter = ddagg_filter_create(lfirst(cell), relid, agg->scan->table, parent)) != NULL) {
			filter->column = find_column(agg, filter->attno);
			agg->filters[agg->nfilters++] = filter;
		} else
			of_rows = lappend(of_rows, lfirst(cell));
	}
	agg->segment_qual = ExecInitQual(of_segments, parent);
	agg->row_qual = ExecInitQual(of_rows, parent);
}

static void
make_outputs(DdaggScan *agg, List *packed)
{
	const DdfdwTable *table = agg->scan->table;
	ListCell *cell;

	agg->outputs = palloc0(sizeof(DdaggOutput) * Max(list_length(packed), 1));
	agg->states = palloc0(sizeof(DdaggState *) * Max(list_length(packed), 1));
	foreach (cell, packed) {
		DdaggOutput *output = &agg->outputs[agg->noutputs];
		const DdfdwBinding *binding;
		bool is_key;

		*output = ddagg_output_unpack(lfirst(cell));
		binding = output->kind != DDAGG_GROUP && output->place > 0 ? &table->columns[output->place - 1] : NULL;
		is_key = binding && binding->source == DDFDW_KEY;
		if (output->kind != DDAGG_GROUP)
			agg->states[agg->noutputs] =
				ddagg_state_create(output, binding && !is_key ? find_column(agg, output->place) : NULL,
								   is_key ? binding->main : InvalidAttrNumber, agg->custom.ss.ps.ps_ExprContext);
		agg->noutputs++;
	}
	agg->naggregated = agg->ncolumns;
}

static DdaggValues
make_values(const DdaggScan *agg)
{
	return (DdaggValues){palloc0(sizeof(Datum) * Max(agg->noutputs, 1)), palloc0(sizeof(bool) * Max(agg->noutputs, 1))};
}

static void
begin(CustomScanState *node, EState *estate, int eflags)
{
	DdaggScan *agg = (DdaggScan *)node;
	const CustomScan *plan = (CustomScan *)node->ss.ps.plan;
	const List *flags = list_nth(plan->custom_private, DDAGG_PRIVATE_FLAGS);
	const String *zone = list_nth(plan->custom_private, DDAGG_PRIVATE_ZONE);
	PlanState *child = ExecInitNode(linitial(plan->custom_plans), estate, eflags);

	node->custom_ps = list_make1(child);
	agg->child = castNode(ForeignScanState, child);
	agg->scan = agg->child->fdw_state;
	agg->by_time = linitial_int(flags);
	agg->order = (DdaggOrder)lsecond_int(flags);
	agg->zone = zone ? pg_tzset(zone->sval) : session_timezone;
	agg->memory = AllocSetContextCreate(estate->es_query_cxt, "ddstore group", ALLOCSET_SMALL_SIZES);
	agg->last = AllocSetContextCreate(estate->es_query_cxt, "ddstore group", ALLOCSET_SMALL_SIZES);
	agg->columns = palloc0(sizeof(DdaggColumn) * agg->scan->table->natts);
	agg->stats = palloc0(sizeof(DdaggStats) * agg->scan->table->natts);
	agg->computed = ExecTypeFromTL(child->plan->targetlist);
	make_outputs(agg, linitial(plan->custom_private));
	sort_clauses(agg);
	agg->group = make_values(agg);
	agg->here = make_values(agg);
	agg->there = make_values(agg);
	for (int i = 0; i < agg->scan->table->natts; i++)
		if (agg->scan->table->columns[i].source == DDFDW_TIME)
			agg->time = i + 1;
	for (int i = 0; i < agg->scan->segment->ncolumns; i++)
		agg->need_time |= agg->scan->segment->columns[i].binding->source == DDFDW_TIME;
}

static void
rescan(CustomScanState *node)
{
	DdaggScan *agg = (DdaggScan *)node;
	PlanState *child = &agg->child->ss.ps;

	if (node->ss.ps.chgParam)
		UpdateChangedParamSet(child, node->ss.ps.chgParam);
	ExecReScan(child);
	agg->open = agg->whole = agg->ready = false;
	agg->next = agg->end = 0;
}

static void
end(CustomScanState *node)
{
	ExecEndNode(linitial(node->custom_ps));
}

static void
explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	const DdaggScan *agg = (DdaggScan *)node;

	if (!es->analyze)
		return;
	ExplainPropertyInteger("Segments From Statistics", NULL, agg->from_statistics, es);
	ExplainPropertyInteger("Segments From Rows", NULL, agg->from_rows, es);
	ExplainPropertyInteger("Rows Aggregated", NULL, agg->rows, es);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "DDStoreAggregate",
	.BeginCustomScan = begin,
	.ExecCustomScan = execute,
	.EndCustomScan = end,
	.ReScanCustomScan = rescan,
	.EstimateDSMCustomScan = ddagg_estimate_dsm,
	.InitializeDSMCustomScan = ddagg_initialize_dsm,
	.ReInitializeDSMCustomScan = ddagg_reinitialize_dsm,
	.InitializeWorkerCustomScan = ddagg_initialize_worker,
	.ShutdownCustomScan = ddagg_shutdown,
	.ExplainCustomScan = explain,
};

static Node *
create_state(CustomScan *plan)
{
	DdaggScan *agg = (DdaggScan *)newNode(sizeof(DdaggScan), T_CustomScanState);

	agg->custom.methods = &exec_methods;
	return (Node *)agg;
}

const CustomScanMethods ddagg_scan_methods = {.CustomName = "DDStoreAggregate", .CreateCustomScanState = create_state};
