/*
 * The first row of a segment, before anything of the segment is decoded: its time and keys are known from the segment table.
 *
 * A merge with other tables looks at these alone, and a LIMIT may well be satisfied by a hot row. So such a row is handed out in
 * a slot of its own kind, which has the segment decoded once somebody asks for more of it.
 */
#include "order.h"

#include "executor/executor.h"
#include "utils/datum.h"

typedef struct PromiseSlot {
	VirtualTupleTableSlot virtual;
	DdfdwScan *scan; /* NULL once the promise is kept */
} PromiseSlot;

static TupleTableSlotOps promise_ops;

/* Have all of the row. */
static void
keep(TupleTableSlot *slot)
{
	PromiseSlot *promise = (PromiseSlot *)slot;
	DdfdwScan *scan = promise->scan;
	MemoryContext old;

	if (scan == NULL)
		return;
	promise->scan = NULL;
	old = MemoryContextSwitchTo(scan->context);
	ddfdw_order_keep(scan, slot->tts_values, slot->tts_isnull);
	MemoryContextSwitchTo(old);
	slot->tts_nvalid = slot->tts_tupleDescriptor->natts;
}

static void
get_some_attributes(TupleTableSlot *slot, int natts)
{
	keep(slot);
}

static void
clear(TupleTableSlot *slot)
{
	((PromiseSlot *)slot)->scan = NULL;
	TTSOpsVirtual.clear(slot);
}

static void
materialize(TupleTableSlot *slot)
{
	keep(slot);
	TTSOpsVirtual.materialize(slot);
}

static HeapTuple
copy_heap_tuple(TupleTableSlot *slot)
{
	keep(slot);
	return TTSOpsVirtual.copy_heap_tuple(slot);
}

#if PG_VERSION_NUM >= 180000
static MinimalTuple
copy_minimal_tuple(TupleTableSlot *slot, Size extra)
{
	keep(slot);
	return TTSOpsVirtual.copy_minimal_tuple(slot, extra);
}
#else
static MinimalTuple
copy_minimal_tuple(TupleTableSlot *slot)
{
	keep(slot);
	return TTSOpsVirtual.copy_minimal_tuple(slot);
}
#endif

/* When the library is loaded. */
void
ddfdw_promise_init(void)
{
	promise_ops = TTSOpsVirtual;
	promise_ops.base_slot_size = sizeof(PromiseSlot);
	promise_ops.clear = clear;
	promise_ops.getsomeattrs = get_some_attributes;
	promise_ops.materialize = materialize;
	promise_ops.copy_heap_tuple = copy_heap_tuple;
	promise_ops.copy_minimal_tuple = copy_minimal_tuple;
}

TupleTableSlot *
ddfdw_promise_slot(EState *estate, TupleDesc desc)
{
	return ExecInitExtraTupleSlot(estate, desc, &promise_ops);
}

/* Promise the segment's row of that time; `row` is the segment's in the segment table. Keys are copied to the current context. */
void
ddfdw_promise(DdfdwScan *scan, TupleTableSlot *slot, TupleTableSlot *row, int64 time)
{
	int known = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * known);
	for (int i = 0; i < scan->segment->ncolumns; i++) {
		const DdfdwColumn *column = &scan->segment->columns[i];
		const DdfdwBinding *binding = column->binding;
		Datum *value = &slot->tts_values[column->place];
		bool *null = &slot->tts_isnull[column->place];

		if (binding->source == DDFDW_TIME) {
			*value = Int64GetDatum(time);
			*null = false;
		} else if (binding->source == DDFDW_KEY) {
			Form_pg_attribute att = TupleDescAttr(row->tts_tupleDescriptor, binding->main - 1);

			*value = slot_getattr(row, binding->main, null);
			if (!*null)
				*value = datumCopy(*value, att->attbyval, att->attlen);
		} else
			known = Min(known, column->place);
	}
	ExecStoreVirtualTuple(slot);
	slot->tts_nvalid = known;
	((PromiseSlot *)slot)->scan = scan;
}
