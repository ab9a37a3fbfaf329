/*
 * From segment to segment of an aggregation: passed over, answered by its statistics, or decoded.
 */
#include "agg.h"

#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/timestamp.h"

/* Its key goes where the scan below has its rows, for clauses and groups. */
static void
load_key(DdaggScan *agg)
{
	TupleTableSlot *slot = agg->child->ss.ss_ScanTupleSlot, *row = agg->scan->companion->slot;
	const DdfdwTable *table = agg->scan->table;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * table->natts);
	for (int i = 0; i < table->natts; i++)
		if (table->columns[i].source == DDFDW_KEY)
			slot->tts_values[i] = slot_getattr(row, table->columns[i].main, &slot->tts_isnull[i]);
	ExecStoreVirtualTuple(slot);
}

/* How many rows it has; none if it does not say so credibly, which decoding complains of. */
int64
ddagg_rows(const DdaggScan *agg)
{
	bool null;
	int32 n = DatumGetInt32(slot_getattr(agg->scan->companion->slot, agg->scan->table->n, &null));

	return null || n < 1 || n > (int32)DD_MAX_ROWS ? 0 : n;
}

/* Which of its rows satisfy the filters, as far as its statistics tell. */
static DdaggVerdict
judge(DdaggScan *agg)
{
	DdaggVerdict verdict = agg->row_qual || ddagg_rows(agg) == 0 ? DDAGG_SOME_ROWS : DDAGG_ALL_ROWS;

	for (int i = 0; i < agg->ncolumns; i++)
		ddagg_column_stats(&agg->columns[i], agg->scan->table, agg->scan->companion->slot, &agg->stats[i]);
	for (int i = 0; i < agg->nfilters && ddagg_rows(agg) > 0; i++) {
		const DdaggFilter *filter = agg->filters[i];

		switch (ddagg_filter_verdict(filter, &agg->stats[filter->column - agg->columns], ddagg_rows(agg))) {
		case DDAGG_NO_ROW: return DDAGG_NO_ROW;
		case DDAGG_SOME_ROWS: verdict = DDAGG_SOME_ROWS; break;
		case DDAGG_ALL_ROWS: break;
		}
	}
	return verdict;
}

const DdaggStats *
ddagg_stats_of(const DdaggScan *agg, const DdaggState *state)
{
	const DdaggColumn *column = ddagg_state_column(state);

	return column ? &agg->stats[column - agg->columns] : NULL;
}

int64
ddagg_limit(const DdaggScan *agg, AttrNumber attno)
{
	bool null;

	return DatumGetInt64(slot_getattr(agg->scan->companion->slot, attno, &null));
}

/* Do the rows of a group stand together in it? */
static bool
stand_together(const DdaggScan *agg)
{
	Timestamp from = ddagg_limit(agg, agg->scan->table->t_min), to = ddagg_limit(agg, agg->scan->table->t_max);
	pg_time_t start, boundary;
	long int before, after;
	int before_dst, after_dst, found;

	if (agg->order != DDAGG_TOGETHER_IN_ZONE)
		return agg->order == DDAGG_TOGETHER;
	if (agg->zone == NULL || TIMESTAMP_NOT_FINITE(from) || TIMESTAMP_NOT_FINITE(to))
		return false;
	start = timestamptz_to_time_t(from);
	found = pg_next_dst_boundary(&start, &before, &before_dst, &boundary, &after, &after_dst, agg->zone);
	return found == 0 || (found == 1 && boundary > timestamptz_to_time_t(to));
}

/* Do its statistics answer for it, if all its rows are wanted? */
static bool
answered(DdaggScan *agg)
{
	bool result = ddagg_rows(agg) > 0;

	for (int i = 0; i < agg->noutputs && result; i++)
		if (agg->states[i])
			result = ddagg_state_has_stats(agg->states[i], ddagg_stats_of(agg, agg->states[i]));
	if (!result || !agg->by_time)
		return result;
	if (!agg->together)
		return false;
	ddagg_compute(agg, ddagg_limit(agg, agg->scan->table->t_min), &agg->here);
	ddagg_compute(agg, ddagg_limit(agg, agg->scan->table->t_max), &agg->there);
	result = ddagg_same(agg, &agg->here, &agg->there);
	ResetExprContext(agg->child->ss.ps.ps_ExprContext);
	return result;
}

/* Which of the rows decoded satisfy the clauses. */
static void
filter_rows(DdaggScan *agg)
{
	ExprContext *context = agg->child->ss.ps.ps_ExprContext;
	TupleTableSlot *slot = agg->child->ss.ss_ScanTupleSlot;
	bool *keep = ddagg_reserve(agg->scan->context, &agg->keep_buffer, agg->end);

	agg->keep = keep;
	memset(keep + agg->next, true, agg->end - agg->next);
	for (int i = 0; i < agg->nfilters; i++)
		ddagg_filter_apply(agg->filters[i], keep, agg->next, agg->end);
	context->ecxt_scantuple = slot;
	for (uint32 i = agg->next; agg->row_qual && i < agg->end; i++) {
		if (!keep[i])
			continue;
		CHECK_FOR_INTERRUPTS();
		ddfdw_segment_emit(agg->scan->segment, i, slot->tts_values, slot->tts_isnull);
		keep[i] = ExecQual(agg->row_qual, context);
		ResetExprContext(context);
	}
}

/* Decode its rows inside the limits on time; false when there is none. */
static bool
decode(DdaggScan *agg, bool cut, bool all)
{
	DdfdwScan *scan = agg->scan;
	DdfdwSegment *segment = scan->segment;
	TupleTableSlot *row = scan->companion->slot;
	bool need_time = cut || agg->need_time;

	if (segment->need_time != need_time)
		segment->loaded = false;
	segment->need_time = need_time;
	ddfdw_segment_times(segment, row);
	agg->next = 0;
	agg->end = segment->n;
	if (cut)
		ddfdw_scan_bounds(scan, segment, &agg->next, &agg->end);
	if (agg->next >= agg->end)
		return false;
	ddfdw_segment_columns(segment, row, agg->end);
	for (int i = 0; i < agg->ncolumns; i++)
		ddagg_column_decoded(&agg->columns[i], segment, agg->end);
	agg->keep = NULL;
	if (!all)
		filter_rows(agg);
	agg->from_rows++;
	return true;
}

/* Turn to the next segment with rows for us. */
bool
ddagg_next_segment(DdaggScan *agg)
{
	DdfdwScan *scan = agg->scan;

	while (ddfdw_scan_advance(agg->child)) {
		DdaggVerdict verdict;
		bool cut;

		ResetExprContext(agg->child->ss.ps.ps_ExprContext);
		load_key(agg);
		agg->child->ss.ps.ps_ExprContext->ecxt_scantuple = agg->child->ss.ss_ScanTupleSlot;
		if (!ExecQual(agg->segment_qual, agg->child->ss.ps.ps_ExprContext))
			continue;
		verdict = judge(agg);
		if (verdict == DDAGG_NO_ROW)
			continue;
		cut = !ddfdw_scan_covers(scan, ddagg_limit(agg, scan->table->t_min), ddagg_limit(agg, scan->table->t_max));
		agg->together = !agg->by_time || stand_together(agg);
		agg->whole = !cut && verdict == DDAGG_ALL_ROWS && answered(agg);
		if (agg->whole)
			agg->from_statistics++;
		if (agg->whole || decode(agg, cut, verdict == DDAGG_ALL_ROWS))
			return true;
	}
	return false;
}
