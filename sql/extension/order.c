/*
 * A scan in the order of time, or of keys and then of time: segments are opened only when their turn comes, so that a
 * LIMIT decodes few of them.
 *
 * Segments of a series may overlap, those of several series do. The ones that may hold wanted rows are listed, by the
 * prefix of keys and by the time at which they begin; a heap merges the open ones, and the next is opened when the heap has
 * gone past its beginning. Where too many would be open at once, the rest of that prefix is sorted instead.
 */
#include "fdw.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/sortsupport.h"
#include "utils/tuplesort.h"
#include "utils/typcache.h"

typedef struct Candidate {
	ItemPointerData tid;
	int64 first; /* of its times, in the direction of the scan */
	Datum *keys;
	bool *nulls;
} Candidate;

typedef struct Open {
	DdfdwSegment *segment;
	const Candidate *candidate;
	uint32 row, end; /* the next one and the one after the last, counted in the direction of the scan */
	uint32 want;	 /* rows that its columns are decoded to, once one of its rows comes out */
	bool used, decoded;
} Open;

struct DdfdwOrder {
	bool descending;
	AttrNumber time; /* of the foreign table */
	int nkeys;
	AttrNumber *attnos; /* of the segment table */
	SortSupport sorts;
	List *columns;

	MemoryContext context; /* of the list; reset when the scan restarts */
	Candidate *candidates;
	int count, next, group_end; /* how many, the next to open, the first with another prefix of keys */
	bool listed, emitted;		/* since the scan started: the list is made; the heap's first row came out */
	Open **heap;
	int open, space;
	List *pool; /* every Open there is */
	Tuplesortstate *sort;
	TupleTableSlot *sorted;
};

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
static int64
in_direction(const DdfdwOrder *order, int64 time)
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
	candidate->first = in_direction(order, order->descending ? t_max : t_min);
	candidate->keys = palloc(sizeof(Datum) * order->nkeys);
	candidate->nulls = palloc(sizeof(bool) * order->nkeys);
	for (int i = 0; i < order->nkeys; i++) {
		Form_pg_attribute att = TupleDescAttr(row->tts_tupleDescriptor, order->attnos[i] - 1);
		Datum key = slot_getattr(row, order->attnos[i], &candidate->nulls[i]);

		if (!candidate->nulls[i])
			candidate->keys[i] = datumCopy(key, att->attbyval, att->attlen);
	}
}

/* List what may hold wanted rows. */
static void
list_segments(DdfdwScan *scan)
{
	DdfdwOrder *order = scan->order;
	int space = 64;
	MemoryContext old = MemoryContextSwitchTo(order->context);

	order->candidates = palloc(sizeof(Candidate) * space);
	for (;;) {
		bool found;

		MemoryContextSwitchTo(scan->context);
		found = ddfdw_companion_next(scan->companion);
		MemoryContextSwitchTo(order->context);
		if (!found)
			break;
		if (order->count == space) {
			space *= 2;
			order->candidates = repalloc_huge(order->candidates, sizeof(Candidate) * space);
		}
		add_candidate(scan, &order->candidates[order->count++], scan->companion->slot);
	}
	MemoryContextSwitchTo(old);
	qsort_arg(order->candidates, order->count, sizeof(Candidate), by_beginning, order);
	order->listed = true;
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
	order->open = order->count = order->next = order->group_end = 0;
	order->listed = order->emitted = false;
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
	return in_direction(order, open->segment->times[row_of(order, open)]);
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
take(DdfdwScan *scan, const Candidate *candidate)
{
	DdfdwOrder *order = scan->order;
	ItemPointerData tid = candidate->tid;
	Open *best = NULL;
	ListCell *cell;

	foreach (cell, order->pool) {
		Open *open = lfirst(cell);

		if (open->used)
			continue;
		best = open;
		if (open->segment->loaded && ItemPointerEquals(&open->segment->key.tid, &tid))
			break;
	}
	if (best == NULL) {
		best = palloc0(sizeof *best);
		best->segment = order->pool == NIL ? scan->segment
										   : ddfdw_segment_create(scan->table, scan->companion_rel, order->columns, true,
																  scan->companion->snapshot);
		best->segment->timing = scan->segment->timing;
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
fetch(DdfdwScan *scan, const Candidate *candidate)
{
	TupleTableSlot *row = scan->companion->slot;
	ItemPointerData tid = candidate->tid;

	CHECK_FOR_INTERRUPTS();
	if (!table_tuple_fetch_row_version(scan->companion_rel, &tid, scan->companion->snapshot, row))
		elog(ERROR, "a segment of \"%s\" disappeared", RelationGetRelationName(scan->companion_rel));
	return row;
}

/* Open the next segment listed: decode its times. */
static void
open_next(DdfdwScan *scan)
{
	DdfdwOrder *order = scan->order;
	const Candidate *candidate = &order->candidates[order->next++];
	TupleTableSlot *row = fetch(scan, candidate);
	Open *open = take(scan, candidate);
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
	open->candidate = candidate;
	open->decoded = false;
	open->row = order->descending ? segment->n - open->want : first;
	open->end = order->descending ? segment->n - first : open->want;
	push(scan, open);
}

static bool
next_in_group(const DdfdwOrder *order)
{
	return order->next < order->group_end;
}

/* Turn to the segments with the next prefix of keys. */
static void
start_group(DdfdwOrder *order)
{
	order->group_end = order->next + 1;
	while (order->group_end < order->count &&
		   compare_prefix(order, &order->candidates[order->next], &order->candidates[order->group_end]) == 0)
		order->group_end++;
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

/* Fill the slot with the heap's first row. */
static void
emit(DdfdwScan *scan, TupleTableSlot *slot)
{
	DdfdwOrder *order = scan->order;
	Open *top = order->heap[0];

	if (!top->decoded) {
		TupleTableSlot *row = fetch(scan, top->candidate);

		top->segment->filled = scan->segment->filled;
		ddfdw_segment_columns(top->segment, row, top->want);
		ExecClearTuple(row);
		add_counts(scan, top->segment);
		top->decoded = true;
	}
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

/* Too many are open: sort what is left of their group. */
static void
sort_rest(DdfdwScan *scan, TupleTableSlot *slot)
{
	DdfdwOrder *order = scan->order;
	Form_pg_attribute att = TupleDescAttr(slot->tts_tupleDescriptor, order->time - 1);
	TypeCacheEntry *type = lookup_type_cache(att->atttypid, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
	Oid before = order->descending ? type->gt_opr : type->lt_opr, collation = InvalidOid;
	bool nulls_first = false;

	if (order->sorted == NULL)
		order->sorted = MakeSingleTupleTableSlot(slot->tts_tupleDescriptor, &TTSOpsMinimalTuple);
	order->sort = tuplesort_begin_heap(slot->tts_tupleDescriptor, 1, &order->time, &before, &collation, &nulls_first, work_mem,
									   NULL, TUPLESORT_NONE);
	for (;;) {
		while (order->open > 0) {
			CHECK_FOR_INTERRUPTS();
			emit(scan, slot);
			tuplesort_puttupleslot(order->sort, slot);
			if (++order->heap[0]->row >= order->heap[0]->end)
				pop(order);
		}
		if (!next_in_group(order))
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

/* The next row; false when there is none. */
bool
ddfdw_order_next(DdfdwScan *scan, TupleTableSlot *slot)
{
	DdfdwOrder *order = scan->order;

	if (!order->listed)
		list_segments(scan);
	if (order->emitted) /* only now: the slot pointed into the segment */
		advance(order);
	order->emitted = false;
	for (;;) {
		if (order->sort) {
			if (next_sorted(order, slot))
				return true;
		} else if (order->open > 0 &&
				   !(next_in_group(order) && order->candidates[order->next].first < time_of(order, order->heap[0]))) {
			emit(scan, slot);
			order->emitted = true;
			return true;
		} else if (order->open > 0 && !has_room(scan))
			sort_rest(scan, slot);
		else if (order->next < order->count) {
			if (!next_in_group(order))
				start_group(order);
			open_next(scan);
		} else
			return false;
	}
}
