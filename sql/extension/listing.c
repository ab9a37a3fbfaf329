/*
 * The segments of an ordered scan, in the order in which they are opened.
 *
 * All that may hold wanted rows are listed and sorted: what is later in the index may begin earlier. Only from the latest of one
 * series to its first does the index itself return them in order, one after the other, however many there are.
 */
#include "order.h"

#include "access/stratnum.h"
#include "utils/datum.h"

static int
compare_prefix(const DdfdwOrder *order, const Candidate *a, const Candidate *b)
{
	int result = 0;

	for (int i = 0; i < order->nkeys && result == 0; i++)
		result = ApplySortComparator(a->keys[i], a->nulls[i], b->keys[i], b->nulls[i], &order->sorts[i]);
	return result;
}

static int
by_beginning(const void *a, const void *b, void *arg)
{
	const Candidate *x = a, *y = b;
	int result = compare_prefix(arg, x, y);

	return result != 0 ? result : (x->first > y->first) - (x->first < y->first);
}

/* -t would overflow for the least of all times; ~t turns the order around as well. */
int64
ddfdw_in_direction(const DdfdwOrder *order, int64 time)
{
	return order->descending ? ~time : time;
}

static void
add_candidate(DdfdwScan *scan, Candidate *candidate, TupleTableSlot *row)
{
	DdfdwOrder *order = scan->order;
	bool null;
	int64 t_min = DatumGetInt64(slot_getattr(row, scan->table->t_min, &null));
	int64 t_max = DatumGetInt64(slot_getattr(row, scan->table->t_max, &null));

	candidate->tid = row->tts_tid;
	candidate->first = ddfdw_in_direction(order, order->descending ? t_max : t_min);
	candidate->keys = palloc(sizeof(Datum) * order->nkeys);
	candidate->nulls = palloc(sizeof(bool) * order->nkeys);
	for (int i = 0; i < order->nkeys; i++) {
		Form_pg_attribute att = TupleDescAttr(row->tts_tupleDescriptor, order->attnos[i] - 1);
		Datum key = slot_getattr(row, order->attnos[i], &candidate->nulls[i]);

		if (!candidate->nulls[i])
			candidate->keys[i] = datumCopy(key, att->attbyval, att->attlen);
	}
}

/* Take the next segment from the segment table; false when there is none. */
static bool
add_next(DdfdwScan *scan)
{
	DdfdwOrder *order = scan->order;
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	bool found = ddfdw_companion_next(scan->companion);

	MemoryContextSwitchTo(order->context);
	if (found) {
		if (order->count == order->space_listed) {
			order->space_listed = Max(64, 2 * order->space_listed);
			order->candidates = order->candidates
									? repalloc_huge(order->candidates, sizeof(Candidate) * order->space_listed)
									: palloc(sizeof(Candidate) * order->space_listed);
		}
		add_candidate(scan, &order->candidates[order->count++], scan->companion->slot);
		ExecClearTuple(scan->companion->slot);
	}
	MemoryContextSwitchTo(old);
	return found;
}

/* Does the index return segments by their last times? It does when one value of each of its columns before is asked for. */
static bool
index_is_by_time(const DdfdwScan *scan)
{
	const DdfdwCompanion *companion = scan->companion;

	if (companion->index == NULL)
		return false;
	for (int column = 1; column <= IndexRelationGetNumberOfKeyAttributes(companion->index); column++) {
		bool fixed = false;

		if (companion->index->rd_index->indkey.values[column - 1] == scan->table->t_max)
			return (companion->index->rd_indoption[column - 1] & INDOPTION_DESC) == 0;
		for (int i = 0; i < companion->nkeys; i++) {
			const DdfdwCheck *check = &companion->checks[i];

			fixed |= check->index_attno == column &&
					 (check->flags == 0 ? check->strategy == BTEqualStrategyNumber : (check->flags & SK_SEARCHNULL) != 0);
		}
		if (!fixed)
			return false;
	}
	return false;
}

/* List what may hold wanted rows: all of it, or none yet where the index returns it in order. */
void
ddfdw_list_segments(DdfdwScan *scan)
{
	DdfdwOrder *order = scan->order;

	order->listed = true;
	order->streaming = order->descending && order->nkeys == 0 && index_is_by_time(scan);
	scan->companion->direction = order->streaming ? BackwardScanDirection : ForwardScanDirection;
	if (order->streaming) {
		order->streaming = add_next(scan);
		return;
	}
	while (add_next(scan))
		;
	if (order->count > 0)
		qsort_arg(order->candidates, order->count, sizeof(Candidate), by_beginning, order);
}

/* Is the next segment to open one of those that are merged now? */
bool
ddfdw_next_in_group(DdfdwScan *scan)
{
	DdfdwOrder *order = scan->order;

	if (order->streaming && order->next == order->count && order->group_end == order->count) {
		order->streaming = add_next(scan);
		order->group_end = order->count;
	}
	return order->next < order->group_end;
}

/* Turn to the segments with the next prefix of keys; false when there are none. */
bool
ddfdw_start_group(DdfdwOrder *order)
{
	order->group_end = order->next;
	while (order->group_end < order->count &&
		   compare_prefix(order, &order->candidates[order->next], &order->candidates[order->group_end]) == 0)
		order->group_end++;
	return order->next < order->group_end;
}
