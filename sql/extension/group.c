/*
 * Groups of an aggregation: the one at hand, its row when it ends, and how far it reaches into a segment.
 */
#include "agg.h"

#include "executor/executor.h"
#include "executor/tuptable.h"
#include "utils/datum.h"
#include "utils/memutils.h"

/* What the scan below makes of the segment's key and this time. It lives until the expression context is reset. */
void
ddagg_compute(DdaggScan *agg, int64 time, DdaggValues *values)
{
	ScanState *below = &agg->child->ss;
	TupleTableSlot *slot = below->ss_ScanTupleSlot;

	slot->tts_values[agg->time - 1] = Int64GetDatum(time);
	slot->tts_isnull[agg->time - 1] = false;
	below->ps.ps_ExprContext->ecxt_scantuple = slot;
	if (below->ps.ps_ProjInfo)
		slot = ExecProject(below->ps.ps_ProjInfo);
	for (int i = 0; i < agg->noutputs; i++)
		if (agg->outputs[i].kind == DDAGG_GROUP)
			values->datums[i] = slot_getattr(slot, agg->outputs[i].place, &values->nulls[i]);
}

bool
ddagg_same(const DdaggScan *agg, const DdaggValues *a, const DdaggValues *b)
{
	for (int i = 0; i < agg->noutputs; i++) {
		Form_pg_attribute att;

		if (agg->outputs[i].kind != DDAGG_GROUP)
			continue;
		att = TupleDescAttr(agg->computed, agg->outputs[i].place - 1);
		if (a->nulls[i] != b->nulls[i] ||
			(!a->nulls[i] && !datum_image_eq(a->datums[i], b->datums[i], att->attbyval, att->attlen)))
			return false;
	}
	return true;
}

/* Does a row of this time, and of the segment's key, belong to the group at hand? */
static bool
belongs(DdaggScan *agg, int64 time)
{
	bool result;

	ddagg_compute(agg, time, &agg->there);
	result = ddagg_same(agg, &agg->group, &agg->there);
	ResetExprContext(agg->child->ss.ps.ps_ExprContext);
	return result;
}

/* Make the group of agg->here the one at hand. */
void
ddagg_open_group(DdaggScan *agg)
{
	MemoryContext old = MemoryContextSwitchTo(agg->memory);

	for (int i = 0; i < agg->noutputs; i++) {
		if (agg->states[i])
			ddagg_state_reset(agg->states[i]);
		else {
			Form_pg_attribute att = TupleDescAttr(agg->computed, agg->outputs[i].place - 1);

			agg->group.nulls[i] = agg->here.nulls[i];
			if (!agg->here.nulls[i])
				agg->group.datums[i] = datumCopy(agg->here.datums[i], att->attbyval, att->attlen);
		}
	}
	MemoryContextSwitchTo(old);
	agg->open = true;
}

/* The group's row, which lives until the next one is made. */
void
ddagg_close_group(DdaggScan *agg, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(agg->memory), next;

	for (int i = 0; i < agg->noutputs; i++) {
		if (agg->states[i])
			slot->tts_values[i] = ddagg_state_result(agg->states[i], &slot->tts_isnull[i]);
		else {
			slot->tts_values[i] = agg->group.datums[i];
			slot->tts_isnull[i] = agg->group.nulls[i];
		}
	}
	MemoryContextSwitchTo(old);
	ExecStoreVirtualTuple(slot);
	next = agg->last;
	MemoryContextReset(next);
	agg->last = agg->memory;
	agg->memory = next;
	agg->open = false;
}

/*
 * The end of the rows from agg->next on that belong to the group at hand. Where these stand together it is looked for by
 * doubling and halving, and first of all where the length of the last such run has it: times are often regular.
 */
uint32
ddagg_run_end(DdaggScan *agg)
{
	const int64 *times = agg->scan->segment->times;
	uint32 low = agg->next + 1, high = agg->end, step = 1; /* all before low belong, none from high on */
	bool doubling = true;

	if (!agg->by_time)
		return agg->end;
	if (!agg->together) {
		while (low < high && belongs(agg, times[low]))
			low++;
		return low;
	}
	if (agg->run > 1 && agg->run < high - agg->next) {
		uint32 guess = agg->next + agg->run;

		if (belongs(agg, times[guess - 1]))
			low = guess;
		else
			high = guess - 1;
	}
	while (low < high) {
		uint32 probe = doubling ? Min(low + step - 1, high - 1) : low + (high - low) / 2;

		if (belongs(agg, times[probe])) {
			low = probe + 1;
			step *= 2;
		} else {
			high = probe;
			doubling = false;
		}
	}
	return low;
}
