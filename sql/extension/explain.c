/*
 * EXPLAIN: which table holds the segments, by what they are pruned and, with ANALYZE, how many were.
 *
 * Counts are totals over all loops, as those of BUFFERS are.
 */
#include "fdw.h"

#include "access/stratnum.h"
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif
#include "executor/instrument.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

static char *
describe_conds(const DdfdwScan *scan, const ForeignScan *plan, ExplainState *es)
{
	List *context = set_deparse_context_plan(es->deparse_cxt, (Plan *)plan, NIL);
	ListCell *cell = list_head(plan->fdw_exprs);
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < scan->nconds; i++) {
		const DdfdwCond *cond = &scan->conds[i];
		const char *value = NULL;

		if (cond->kind == DDFDW_OP || cond->kind == DDFDW_ANY) {
			value = deparse_expression(lfirst(cell), context, es->verbose, false);
			cell = lnext(plan->fdw_exprs, cell);
		}
		appendStringInfo(&text, "%s(%s", i > 0 ? " AND " : "",
						 quote_identifier(get_attname(scan->table->foreign, cond->attno, false)));
		switch (cond->kind) {
		case DDFDW_OP: appendStringInfo(&text, " %s %s)", get_opname(cond->opno), value); break;
		case DDFDW_ANY: appendStringInfo(&text, " %s ANY (%s))", get_opname(cond->opno), value); break;
		case DDFDW_IS_NULL: appendStringInfoString(&text, " IS NULL)"); break;
		case DDFDW_IS_NOT_NULL: appendStringInfoString(&text, " IS NOT NULL)"); break;
		}
	}
	return text.data;
}

static char *
describe_order(const DdfdwScan *scan, List *order)
{
	StringInfoData text;
	ListCell *cell;

	initStringInfo(&text);
	foreach (cell, order) {
		DdfdwSortColumn column = ddfdw_sort_unpack(lfirst(cell));

		appendStringInfo(&text, "%s%s%s", cell == list_head(order) ? "" : ", ",
						 quote_identifier(get_attname(scan->table->foreign, column.attno, false)),
						 column.descending ? " DESC" : "");
	}
	return text.data;
}

void
ddfdw_explain(ForeignScanState *node, ExplainState *es)
{
	const DdfdwScan *scan = node->fdw_state;
	const ForeignScan *plan = (ForeignScan *)node->ss.ps.plan;
	Relation companion = scan->companion_rel;
	int64 total;

	ExplainPropertyText("Segments Table",
						quote_qualified_identifier(get_namespace_name(RelationGetNamespace(companion)),
												   RelationGetRelationName(companion)),
						es);
	if (scan->nconds > 0)
		ExplainPropertyText("Segment Cond", describe_conds(scan, plan, es), es);
	if (list_nth(plan->fdw_private, DDFDW_PRIVATE_ORDER) != NIL)
		ExplainPropertyText("Segment Order", describe_order(scan, list_nth(plan->fdw_private, DDFDW_PRIVATE_ORDER)), es);
	if (!es->analyze)
		return;
	/* A scan that is not parallel itself may still run within a parallel worker, whose counts are gone. */
	if (node->ss.ps.instrument && !scan->was_parallel && node->ss.ps.instrument->nloops > scan->scans)
		return;
	total = scan->scans == 0 ? 0 : scan->scans * ddfdw_companion_count(companion, node->ss.ps.state->es_snapshot);
	ExplainPropertyInteger("Segments Total", NULL, total, es);
	ExplainPropertyInteger("Segments Pruned", NULL, Max(total - scan->matched, 0), es);
	ExplainPropertyInteger("Segments Decoded", NULL, scan->segment->segments_decoded, es);
	ExplainPropertyInteger("Cache Hits", NULL, scan->segment->cache_hits, es);
	ExplainPropertyInteger("Rows Decoded", NULL, scan->segment->rows_decoded, es);
	if (es->timing)
		ExplainPropertyFloat("Decode Time", "ms", scan->segment->milliseconds, 3, es);
}
