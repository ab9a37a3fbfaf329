/*
 * From decoded columns to the executor's rows, one call each.
 *
 * A row costs less than the layers through which PostgreSQL asks a foreign table for it, so the node's function is our own:
 * it does what ExecScan does. What is the same in all rows of a segment is filled in once.
 */
#include "fdw.h"

#include "executor/executor.h"
#include "executor/instrument.h"
#include "miscadmin.h"

/* Turn to the rows of a segment. */
static void
present(DdfdwScan *scan, TupleTableSlot *slot)
{
	const DdfdwSegment *segment = scan->segment;

	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	scan->nfeeds = 0;
	for (int i = 0; i < segment->ncolumns; i++) {
		const DdfdwColumn *column = &segment->columns[i];
		Datum *value = &slot->tts_values[column->place];
		bool *null = &slot->tts_isnull[column->place];

		if (column->stride == 0) {
			*value = column->datums[0];
			*null = column->nulls && column->nulls[0];
			continue;
		}
		*null = false;
		scan->feeds[scan->nfeeds++] = (DdfdwFeed){column->datums, column->nulls, value, null};
	}
}

static bool
turn_segment(ForeignScanState *node, DdfdwScan *scan, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	bool found;

	if (!scan->started)
		ddfdw_scan_start(node);
	found = !scan->empty && ddfdw_scan_segment(node);
	ddfdw_share_counts(scan);
	MemoryContextSwitchTo(old);
	if (!found) {
		scan->row = scan->end = 0;
		return false;
	}
	present(scan, slot);
	return true;
}

/* Somebody took the slot away from us, or made it own its row, so that values may lead into what is freed now. */
static void
reclaim(DdfdwScan *scan, TupleTableSlot *slot)
{
	bool lost = TTS_SHOULDFREE(slot);

	ExecClearTuple(slot);
	if (lost && scan->row < scan->end)
		present(scan, slot);
	slot->tts_flags &= ~TTS_FLAG_EMPTY;
	slot->tts_nvalid = slot->tts_tupleDescriptor->natts;
}

/* Fill the slot with the next row as segments are found; false when there is none. */
static inline bool
next_row(ForeignScanState *node, DdfdwScan *scan, TupleTableSlot *slot)
{
	uint32 row;

	if (unlikely(scan->row >= scan->end) && !turn_segment(node, scan, slot))
		return false;
	if (unlikely(slot->tts_flags & (TTS_FLAG_EMPTY | TTS_FLAG_SHOULDFREE)))
		reclaim(scan, slot);
	row = scan->row++;
	for (int i = 0; i < scan->nfeeds; i++) {
		const DdfdwFeed *feed = &scan->feeds[i];

		*feed->value = feed->values[row];
		if (feed->nulls)
			*feed->null = feed->nulls[row];
	}
	return true;
}

static TupleTableSlot *
next_in_order(ForeignScanState *node, DdfdwScan *scan, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(scan->context);

	if (!scan->started)
		ddfdw_scan_start(node);
	slot = scan->empty ? NULL : ddfdw_order_next(scan, slot);
	scan->empty = slot == NULL;
	MemoryContextSwitchTo(old);
	return slot;
}

/* The next row before any clause is looked at, as PostgreSQL's own function asks for it. */
TupleTableSlot *
ddfdw_iterate(ForeignScanState *node)
{
	DdfdwScan *scan = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	if (scan->order)
		return next_in_order(node, scan, slot);
	if (!next_row(node, scan, slot))
		return ExecClearTuple(slot);
	if (scan->identified)
		ddfdw_identify(&slot->tts_tid, scan->segment->id, scan->row - 1);
	return slot;
}

/* In the place of ExecForeignScan where nothing is left to be done with a row. */
static TupleTableSlot *
execute_plain(PlanState *state)
{
	ForeignScanState *node = (ForeignScanState *)state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	CHECK_FOR_INTERRUPTS();
	return next_row(node, node->fdw_state, slot) ? slot : NULL;
}

/* In the place of ExecForeignScan. */
static TupleTableSlot *
execute(PlanState *state)
{
	ForeignScanState *node = (ForeignScanState *)state;
	const DdfdwScan *scan = node->fdw_state;
	ExprContext *context = state->ps_ExprContext;

	for (;;) {
		TupleTableSlot *slot;

		CHECK_FOR_INTERRUPTS();
		ResetExprContext(context);
		slot = ddfdw_iterate(node);
		if (TupIsNull(slot))
			return NULL;
		if (scan->identified)
			slot->tts_tableOid = scan->table->foreign;
		context->ecxt_scantuple = slot;
		if (state->qual == NULL || ExecQual(state->qual, context))
			return state->ps_ProjInfo ? ExecProject(state->ps_ProjInfo) : slot;
		InstrCountFiltered1(node, 1);
	}
}

/* Where a column goes: the slot is a row of the table, unless the plan says of which columns it is. */
static int
place_of(const ForeignScan *plan, AttrNumber attno)
{
	ListCell *cell;

	foreach (cell, plan->fdw_scan_tlist)
		if (castNode(Var, lfirst_node(TargetEntry, cell)->expr)->varattno == attno)
			return lfirst_node(TargetEntry, cell)->resno - 1;
	return attno - 1;
}

/* Have rows made here. When a row is checked anew after waiting for a lock, PostgreSQL has it from elsewhere. */
void
ddfdw_rows_begin(ForeignScanState *node)
{
	DdfdwScan *scan = node->fdw_state;
	const ForeignScan *plan = (ForeignScan *)node->ss.ps.plan;

	for (int i = 0; i < scan->segment->ncolumns; i++)
		scan->segment->columns[i].place = place_of(plan, scan->segment->columns[i].attno);
	scan->feeds = palloc(sizeof(DdfdwFeed) * Max(scan->segment->ncolumns, 1));
	scan->identified = plan->fsSystemCol;
	if (node->ss.ps.state->es_epq_active)
		return;
	node->ss.ps.ExecProcNode = node->ss.ps.qual || node->ss.ps.ps_ProjInfo || scan->order ? execute : execute_plain;
	if (scan->order && !scan->identified)
		ddfdw_order_promising(scan->order, node->ss.ps.state, node->ss.ss_ScanTupleSlot->tts_tupleDescriptor);
}
