/*
 * A scan in the order of time, or of keys and then of time: segments are opened only when their turn comes, so that a
 * LIMIT decodes few of them.
 *
 * Segments of a series may overlap, those of several series do. The ones that may hold wanted rows are listed (listing.c), by
 * the prefix of keys and by the time at which they begin; a heap merges the open ones, and the next is opened when the heap has
 * gone past its beginning. Where too many would be open at once, the rest of that prefix is sorted instead.
 */
#include "order.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

/* The order a plan asks for; NULL when none. */
DdfdwOrder *
ddfdw_order_create(const DdfdwTable *table, List *packed, List *columns)
{
	DdfdwOrder *order;
	ListCell *cell;

	if (packed == NIL)
		return NULL;
	order = palloc0(sizeof *order);
	order->context = AllocSetContextCreate(CurrentMemoryContext, "ddstore order", ALLOCSET_DEFAULT_SIZES);
	order->keys = AllocSetContextCreate(CurrentMemoryContext, "ddstore promise", ALLOCSET_SMALL_SIZES);
	order->columns = columns;
	order->attnos = palloc(sizeof(AttrNumber) * list_length(packed));
	order->sorts = palloc0(sizeof(SortSupportData) * list_length(packed));
	foreach (cell, packed) {
		DdfdwSortColumn column = ddfdw_sort_unpack(lfirst(cell));
		SortSupport sort = &order->sorts[order->nkeys];

		if (table->columns[column.attno - 1].source == DDFDW_TIME) {
			order->time = column.attno;
			order->descending = column.descending;
			break;
		}
		order->attnos[order->nkeys++] = table->columns[column.attno - 1].main;
		sort->ssup_cxt = CurrentMemoryContext;
		sort->ssup_collation = column.collation;
		sort->ssup_nulls_first = column.nulls_first;
		PrepareSortSupportFromOrderingOp(column.opno, sort);
	}
	return order;
}

/* Let rows be promised. The slot outlives the scan: the executor clears it at the very end. */
void
ddfdw_order_promising(DdfdwOrder *order, EState *estate, TupleDesc desc)
{
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

	order->promise = ddfdw_promise_slot(estate, desc);
	MemoryContextSwitchTo(old);
}

/* Forget the list and what is open: before the scan restarts, and when it ends. */
void
ddfdw_order_reset(DdfdwOrder *order)
{
	ListCell *cell;

	if (order->sort)
		tuplesort_end(order->sort);
	order->sort = NULL;
	foreach (cell, order->pool)
		((Open *)lfirst(cell))->used = false;
	order->open = order->count = order->space_listed = order->next = order->group_end = 0;
	order->candidates = NULL;
	order->listed = order->emitted = order->streaming = order->promised = false;
	MemoryContextReset(order->context);
}

void
ddfdw_order_end(DdfdwScan *scan)
{
	ListCell *cell;

	ddfdw_order_reset(scan->order);
	if (scan->order->sorted)
		ExecDropSingleTupleTableSlot(scan->order->sorted);
	foreach (cell, scan->order->pool)
		if (((Open *)lfirst(cell))->segment != scan->segment)
			ddfdw_segment_release(((Open *)lfirst(cell))->segment);
}

static uint32
row_of(const DdfdwOrder *order, const Open *open)
{
	return order->descending ? open->segment->n - 1 - open->row : open->row;
}

static int64
time_of(const DdfdwOrder *order, const Open *open)
{
	return ddfdw_in_direction(order, open->segment->times[row_of(order, open)]);
}

static void
sift_down(DdfdwOrder *order)
{
	Open **heap = order->heap, *moving = heap[0];
	int64 time = time_of(order, moving);
	int at = 0;

	for (;;) {
		int child = 2 * at + 1;

		if (child + 1 < order->open && time_of(order, heap[child + 1]) < time_of(order, heap[child]))
			child++;
		if (child >= order->open || time_of(order, heap[child]) >= time)
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = moving;
}

static void
push(DdfdwScan *scan, Open *open)
{
	DdfdwOrder *order = scan->order;
	int64 time = time_of(order, open);
	int at = order->open++;

	if (order->open > order->space) {
		order->space = Max(16, 2 * order->space);
		order->heap = order->heap ? repalloc(order->heap, sizeof(Open *) * order->space)
								  : MemoryContextAlloc(scan->context, sizeof(Open *) * order->space);
	}
	for (; at > 0 && time < time_of(order, order->heap[(at - 1) / 2]); at = (at - 1) / 2)
		order->heap[at] = order->heap[(at - 1) / 2];
	order->heap[at] = open;
}

static void
pop(DdfdwOrder *order)
{
	order->heap[0]->used = false;
	order->heap[0] = order->heap[--order->open];
	if (order->open > 0)
		sift_down(order);
}

/* One that is free: best the one that had this segment last. */
static Open *
take(DdfdwScan *scan, ItemPointer tid)
{
	DdfdwOrder *order = scan->order;
	Open *best = NULL;
	ListCell *cell;

	foreach (cell, order->pool) {
		Open *open = lfirst(cell);

		if (open->used)
			continue;
		best = open;
		if (open->segment->loaded && ItemPointerEquals(&open->segment->key.tid, tid))
			break;
	}
	if (best == NULL) {
		best = palloc0(sizeof *best);
		best->segment = order->pool == NIL ? scan->segment
										   : ddfdw_segment_create(scan->table, scan->companion_rel, order->columns, true,
																  scan->companion->snapshot);
		best->segment->timing = scan->segment->timing;
		for (int i = 0; i < scan->segment->ncolumns; i++)
			best->segment->columns[i].place = scan->segment->columns[i].place;
		order->pool = lappend(order->pool, best);
	}
	best->used = true;
	return best;
}

/* Counts are shown from the scan's first segment. */
static void
add_counts(DdfdwScan *scan, DdfdwSegment *segment)
{
	DdfdwSegment *total = scan->segment;

	if (segment == total)
		return;
	total->segments_decoded += segment->segments_decoded;
	total->cache_hits += segment->cache_hits;
	total->rows_decoded += segment->rows_decoded;
	total->milliseconds += segment->milliseconds;
	total->filled += segment->filled;
	segment->segments_decoded = segment->cache_hits = segment->rows_decoded = 0;
	segment->milliseconds = 0;
	segment->filled = total->filled;
}

static TupleTableSlot *
fetch(DdfdwScan *scan, ItemPointer tid)
{
	TupleTableSlot *row = scan->companion->slot;

	CHECK_FOR_INTERRUPTS();
	if (!table_tuple_fetch_row_version(scan->companion_rel, tid, scan->companion->snapshot, row))
		elog(ERROR, "a segment of \"%s\" disappeared", RelationGetRelationName(scan->companion_rel));
	return row;
}

/* Open the next segment listed: decode its times. */
static void
open_next(DdfdwScan *scan)
{
	DdfdwOrder *order = scan->order;
	ItemPointerData tid = order->candidates[order->next++].tid;
	TupleTableSlot *row = fetch(scan, &tid);
	Open *open = take(scan, &tid);
	DdfdwSegment *segment = open->segment;
	uint32 first;

	scan->matched++;
	ddfdw_segment_times(segment, row);
	ddfdw_scan_bounds(scan, segment, &first, &open->want);
	ExecClearTuple(row);
	add_counts(scan, segment);
	open->used = first < open->want;
	if (!open->used)
		return;
	open->tid = tid;
	open->decoded = false;
	open->row = order->descending ? segment->n - open->want : first;
	open->end = order->descending ? segment->n - first : open->want;
	push(scan, open);
}

static bool
has_room(const DdfdwScan *scan)
{
	const DdfdwOrder *order = scan->order;
	Size size = 0;

	for (int i = 0; i < order->open; i++)
		size += sizeof(Datum) * order->heap[i]->segment->n * (order->heap[i]->decoded ? scan->segment->ncolumns + 1 : 1);
	return size < DDFDW_OPEN_BYTES;
}

/* The heap's first row, and its segment decoded. */
static Open *
top_decoded(DdfdwScan *scan)
{
	Open *top = scan->order->heap[0];

	if (!top->decoded) {
		TupleTableSlot *row = fetch(scan, &top->tid);

		top->segment->filled = scan->segment->filled;
		ddfdw_segment_columns(top->segment, row, top->want);
		ExecClearTuple(row);
		add_counts(scan, top->segment);
		top->decoded = true;
	}
	return top;
}

/* Fill the slot with the heap's first row. */
static void
emit(DdfdwScan *scan, TupleTableSlot *slot)
{
	DdfdwOrder *order = scan->order;
	const Open *top = top_decoded(scan);

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	ddfdw_segment_emit(top->segment, row_of(order, top), slot->tts_values, slot->tts_isnull);
	ddfdw_identify(&slot->tts_tid, top->segment->id, row_of(order, top));
	ExecStoreVirtualTuple(slot);
}

static void
advance(DdfdwOrder *order)
{
	if (++order->heap[0]->row >= order->heap[0]->end)
		pop(order);
	else if (order->open > 1)
		sift_down(order);
}

/*
 * Promise the first row of the next segment, whose turn it is: true if that is the one of which the segment table knows the
 * time, and not one that is cut off by a limit on time.
 */
static bool
promise(DdfdwScan *scan)
{
	DdfdwOrder *order = scan->order;
	Candidate *candidate = &order->candidates[order->next];
	int64 time = ddfdw_in_direction(order, candidate->first);
	MemoryContext old;
	TupleTableSlot *row;

	if (order->promise == NULL || !ddfdw_scan_covers(scan, time, time))
		return false;
	row = fetch(scan, &candidate->tid);
	ExecClearTuple(order->promise);
	MemoryContextReset(order->keys);
	old = MemoryContextSwitchTo(order->keys);
	ddfdw_promise(scan, order->promise, row, time);
	MemoryContextSwitchTo(old);
	ExecClearTuple(row);
	order->promised = true;
	return true;
}

/* Open the segment of which a row was promised. That row comes before all others: it is the heap's first. */
static void
open_promised(DdfdwOrder *order, DdfdwScan *scan)
{
	order->promised = false;
	open_next(scan);
	order->emitted = true;
}

/* All of the row promised. */
void
ddfdw_order_keep(DdfdwScan *scan, Datum *values, bool *nulls)
{
	const Open *top;

	open_promised(scan->order, scan);
	top = top_decoded(scan);
	ddfdw_segment_emit(top->segment, row_of(scan->order, top), values, nulls);
}

static AttrNumber
time_in_slot(const DdfdwScan *scan)
{
	for (int i = 0; i < scan->segment->ncolumns; i++)
		if (scan->segment->columns[i].attno == scan->order->time)
			return scan->segment->columns[i].place + 1;
	pg_unreachable(); /* the planner has put it among the columns */
}

/* Too many are open: sort what is left of their group. */
static void
sort_rest(DdfdwScan *scan, TupleTableSlot *slot)
{
	DdfdwOrder *order = scan->order;
	AttrNumber time = time_in_slot(scan);
	Form_pg_attribute att = TupleDescAttr(slot->tts_tupleDescriptor, time - 1);
	TypeCacheEntry *type = lookup_type_cache(att->atttypid, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
	Oid before = order->descending ? type->gt_opr : type->lt_opr, collation = InvalidOid;
	bool nulls_first = false;

	if (order->sorted == NULL)
		order->sorted = MakeSingleTupleTableSlot(slot->tts_tupleDescriptor, &TTSOpsMinimalTuple);
	order->sort = tuplesort_begin_heap(slot->tts_tupleDescriptor, 1, &time, &before, &collation, &nulls_first, work_mem,
									   NULL, TUPLESORT_NONE);
	for (;;) {
		while (order->open > 0) {
			CHECK_FOR_INTERRUPTS();
			emit(scan, slot);
			tuplesort_puttupleslot(order->sort, slot);
			if (++order->heap[0]->row >= order->heap[0]->end)
				pop(order);
		}
		if (!ddfdw_next_in_group(scan))
			break;
		open_next(scan);
	}
	ExecClearTuple(slot);
	tuplesort_performsort(order->sort);
}

static bool
next_sorted(DdfdwOrder *order, TupleTableSlot *slot)
{
	if (tuplesort_gettupleslot(order->sort, true, false, order->sorted, NULL)) {
		ExecCopySlot(slot, order->sorted);
		return true;
	}
	tuplesort_end(order->sort);
	order->sort = NULL;
	return false;
}

/* The next row, in `slot` or in one of a promise; NULL when there is none. */
TupleTableSlot *
ddfdw_order_next(DdfdwScan *scan, TupleTableSlot *slot)
{
	DdfdwOrder *order = scan->order;

	if (!order->listed)
		ddfdw_list_segments(scan);
	if (order->promised) { /* and nobody wanted to see it */
		ExecClearTuple(order->promise);
		open_promised(order, scan);
	}
	if (order->emitted) /* only now: the slot pointed into the segment */
		advance(order);
	order->emitted = false;
	for (;;) {
		if (order->sort) {
			if (next_sorted(order, slot))
				return slot;
		} else if (order->open > 0 &&
				   !(ddfdw_next_in_group(scan) && order->candidates[order->next].first < time_of(order, order->heap[0]))) {
			emit(scan, slot);
			order->emitted = true;
			return slot;
		} else if (order->open > 0 && !has_room(scan))
			sort_rest(scan, slot);
		else if (ddfdw_next_in_group(scan) || ddfdw_start_group(order)) {
			if (promise(scan))
				return order->promise;
			open_next(scan);
		} else
			return NULL;
	}
}
