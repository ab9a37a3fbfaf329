/*
 * The executor's side: from segment to segment; rows.c has their rows.
 *
 * Segments are read under the query's own snapshot, as the hot rows are: a row that a compaction is moving just now is
 * seen in exactly one of the two places.
 */
#include "fdw.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

static void
add_bound(DdfdwScan *scan, int cond, StrategyNumber strategy)
{
	DdfdwTimeBound *bound = &scan->bounds[scan->nbounds++];

	bound->cond = cond;
	bound->lower = strategy == BTGreaterEqualStrategyNumber || strategy == BTGreaterStrategyNumber;
	fmgr_info(ddfdw_cond_function(&scan->conds[cond], strategy), &bound->function);
}

static void
make_bounds(DdfdwScan *scan)
{
	scan->bounds = palloc0(sizeof(DdfdwTimeBound) * Max(2 * scan->nconds, 1));
	for (int i = 0; i < scan->nconds; i++) {
		if (scan->table->columns[scan->conds[i].attno - 1].source != DDFDW_TIME)
			continue;
		if (scan->conds[i].strategy == BTEqualStrategyNumber) {
			add_bound(scan, i, BTGreaterEqualStrategyNumber);
			add_bound(scan, i, BTLessEqualStrategyNumber);
		} else
			add_bound(scan, i, scan->conds[i].strategy);
	}
}

static void
unpack_conds(DdfdwScan *scan, List *packed)
{
	ListCell *cell;

	scan->conds = palloc(sizeof(DdfdwCond) * Max(list_length(packed), 1));
	scan->values = palloc0(sizeof(Datum) * Max(list_length(packed), 1));
	foreach (cell, packed)
		scan->conds[scan->nconds++] = ddfdw_cond_unpack(lfirst(cell));
}

void
ddfdw_begin(ForeignScanState *node, int eflags)
{
	ForeignScan *plan = (ForeignScan *)node->ss.ps.plan;
	EState *estate = node->ss.ps.state;
	DdfdwScan *scan = palloc0(sizeof *scan);
	List *columns;
	MemoryContext old;

	scan->context = AllocSetContextCreate(estate->es_query_cxt, "ddstore scan", ALLOCSET_DEFAULT_SIZES);
	scan->params = AllocSetContextCreate(scan->context, "ddstore conditions", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scan->context);
	node->fdw_state = scan;
	ddfdw_check_policies(estate, plan->scan.scanrelid, RelationGetRelid(node->ss.ss_currentRelation));
	scan->companion_rel = ddfdw_open_companion(RelationGetRelid(node->ss.ss_currentRelation));
	scan->table = ddfdw_bind(node->ss.ss_currentRelation, scan->companion_rel);
	unpack_conds(scan, list_nth(plan->fdw_private, DDFDW_PRIVATE_CONDS));
	make_bounds(scan);
	scan->exprs = ExecInitExprList(plan->fdw_exprs, &node->ss.ps);
	columns = list_nth(plan->fdw_private, DDFDW_PRIVATE_COLUMNS);
	scan->order = ddfdw_order_create(scan->table, list_nth(plan->fdw_private, DDFDW_PRIVATE_ORDER), columns);
	scan->segment = ddfdw_segment_create(scan->table, scan->companion_rel, columns, scan->order || scan->nbounds > 0,
										 estate->es_snapshot);
	scan->segment->timing = (estate->es_instrument & INSTRUMENT_TIMER) != 0;
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		scan->companion =
			ddfdw_companion_open(scan->companion_rel, scan->table, scan->conds, scan->nconds, estate->es_snapshot);
	ddfdw_rows_begin(node);
	MemoryContextSwitchTo(old);
}

/* Evaluate the conditions, with the parameters of now. A NULL makes its clause, hence the whole WHERE, never true. */
static void
evaluate(ForeignScanState *node, DdfdwScan *scan)
{
	const ForeignScan *plan = (ForeignScan *)node->ss.ps.plan;
	int next = 0;

	MemoryContextReset(scan->params);
	scan->empty = false;
	for (int i = 0; i < scan->nconds; i++) {
		int16 typlen;
		bool typbyval, null;
		Datum value;
		MemoryContext old;

		if (scan->conds[i].kind == DDFDW_IS_NULL || scan->conds[i].kind == DDFDW_IS_NOT_NULL)
			continue;
		value = ExecEvalExprSwitchContext(list_nth(scan->exprs, next), node->ss.ps.ps_ExprContext, &null);
		if (null) {
			scan->empty = true;
			return;
		}
		get_typlenbyval(exprType(list_nth(plan->fdw_exprs, next++)), &typlen, &typbyval);
		old = MemoryContextSwitchTo(scan->params);
		scan->values[i] = datumCopy(value, typbyval, typlen);
		MemoryContextSwitchTo(old);
	}
}

void
ddfdw_scan_start(ForeignScanState *node)
{
	DdfdwScan *scan = node->fdw_state;

	scan->started = true;
	scan->scans++;
	scan->position = 0;
	evaluate(node, scan);
	if (!scan->empty) {
		MemoryContext old = MemoryContextSwitchTo(scan->context);

		ddfdw_companion_rescan(scan->companion, scan->values);
		if (scan->order)
			ddfdw_order_reset(scan->order);
		MemoryContextSwitchTo(old);
	}
}

/* The first row of [low, high) at which the bound begins (lower) or ceases (upper) to hold; times are sorted. */
static uint32
search(const DdfdwScan *scan, DdfdwTimeBound *bound, const int64 *times, uint32 low, uint32 high)
{
	while (low < high) {
		uint32 middle = low + (high - low) / 2;
		bool holds = DatumGetBool(
			FunctionCall2Coll(&bound->function, InvalidOid, Int64GetDatum(times[middle]), scan->values[bound->cond]));

		if (holds == bound->lower)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Turn to the next segment that may hold wanted rows; false when there is none. Call in the scan's context. */
bool
ddfdw_scan_advance(ForeignScanState *node)
{
	DdfdwScan *scan = node->fdw_state;

	if (!scan->started)
		ddfdw_scan_start(node);
	while (!scan->empty && ddfdw_companion_next(scan->companion))
		if (ddfdw_claim(scan)) {
			scan->matched++;
			return true;
		}
	scan->empty = true;
	return false;
}

/* The rows of a segment that are inside the bounds on time: [*first, *end). */
void
ddfdw_scan_bounds(DdfdwScan *scan, const DdfdwSegment *segment, uint32 *first, uint32 *end)
{
	*first = 0;
	*end = segment->n;
	for (int i = 0; i < scan->nbounds; i++) {
		DdfdwTimeBound *bound = &scan->bounds[i];

		if (bound->lower)
			*first = search(scan, bound, segment->times, *first, *end);
		else
			*end = search(scan, bound, segment->times, *first, *end);
	}
}

/* Are all times from t_min to t_max inside the bounds? */
bool
ddfdw_scan_covers(DdfdwScan *scan, int64 t_min, int64 t_max)
{
	for (int i = 0; i < scan->nbounds; i++) {
		DdfdwTimeBound *bound = &scan->bounds[i];

		if (!DatumGetBool(FunctionCall2Coll(&bound->function, InvalidOid, Int64GetDatum(bound->lower ? t_min : t_max),
											scan->values[bound->cond])))
			return false;
	}
	return true;
}

/* Turn to the next segment with a row inside the bounds on time; false when there is none. */
bool
ddfdw_scan_segment(ForeignScanState *node)
{
	DdfdwScan *scan = node->fdw_state;
	TupleTableSlot *row = scan->companion->slot;

	while (ddfdw_scan_advance(node)) {
		ddfdw_segment_times(scan->segment, row);
		ddfdw_scan_bounds(scan, scan->segment, &scan->row, &scan->end);
		if (scan->row < scan->end) {
			ddfdw_segment_columns(scan->segment, row, scan->end);
			return true;
		}
	}
	return false;
}

void
ddfdw_rescan(ForeignScanState *node)
{
	DdfdwScan *scan = node->fdw_state;

	scan->started = false;
	scan->row = scan->end = 0;
}

void
ddfdw_end(ForeignScanState *node)
{
	DdfdwScan *scan = node->fdw_state;

	if (scan == NULL)
		return;
	if (scan->companion)
		ddfdw_companion_close(scan->companion);
	if (scan->order)
		ddfdw_order_end(scan);
	ddfdw_segment_release(scan->segment);
	table_close(scan->companion_rel, NoLock);
	MemoryContextDelete(scan->context);
	node->fdw_state = NULL;
}
