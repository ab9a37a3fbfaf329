/*
 * One segment: its times and the columns a query needs, decoded into Datum arrays.
 *
 * Buffers are kept from segment to segment. What a segment says of itself is not believed before it is checked: its row
 * count before anything is allocated, its times against t_min and t_max by which it was chosen.
 */
#include "fdw.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

DdfdwSegment *
ddfdw_segment_create(const DdfdwTable *table, Relation companion, List *attnos, bool need_time, Snapshot snapshot)
{
	DdfdwSegment *segment = palloc0(sizeof *segment);
	ListCell *cell;

	segment->table = table;
	segment->companion = companion;
	segment->need_time = need_time;
	segment->context = CurrentMemoryContext;
	segment->detoast = AllocSetContextCreate(CurrentMemoryContext, "ddstore segment", ALLOCSET_DEFAULT_SIZES);
	segment->models = ddfdw_models_create(table->foreign, table->model, snapshot, CurrentMemoryContext);
	ddfdw_coded_create(segment);
	segment->columns = palloc0(sizeof(DdfdwColumn) * Max(list_length(attnos), 1));
	foreach (cell, attnos) {
		DdfdwColumn *column = &segment->columns[segment->ncolumns++];

		column->attno = (AttrNumber)lfirst_int(cell);
		column->binding = &table->columns[column->attno - 1];
		column->coded = column->binding->native ? ddfdw_coded_of(segment, column->binding->main) : NULL;
		column->stride = column->binding->source == DDFDW_KEY ? 0 : 1;
		segment->need_time |= column->binding->source == DDFDW_TIME;
	}
	return segment;
}

void
ddfdw_damaged(const DdfdwSegment *segment, AttrNumber attno, dd_status status, const char *what)
{
	const char *column = NameStr(TupleDescAttr(RelationGetDescr(segment->companion), attno - 1)->attname);

	if (status == DD_UNSUPPORTED)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("segment " INT64_FORMAT " of table \"%s\" cannot be read, column \"%s\": %s", segment->id,
					   RelationGetRelationName(segment->companion), column, what),
				errhint("It was written by a newer version: upgrade the extension."));
	if (status == DD_NOSPACE)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("segment " INT64_FORMAT " of table \"%s\" cannot be read, column \"%s\": %s", segment->id,
					   RelationGetRelationName(segment->companion), column, what));
	ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
			errmsg("segment " INT64_FORMAT " of table \"%s\" is damaged, column \"%s\": %s", segment->id,
				   RelationGetRelationName(segment->companion), column, what),
			errhint("Run \"ddstore verify\" to list damaged segments; the others stay readable."));
}

static Datum
fetch(const DdfdwSegment *segment, TupleTableSlot *row, AttrNumber attno)
{
	bool null;
	Datum value = slot_getattr(row, attno, &null);

	if (null)
		ddfdw_damaged(segment, attno, DD_CORRUPT, "it is NULL");
	return value;
}

static void
clock_start(const DdfdwSegment *segment, instr_time *start)
{
	if (segment->timing)
		INSTR_TIME_SET_CURRENT(*start);
}

static void
clock_stop(DdfdwSegment *segment, const instr_time *start)
{
	instr_time now;

	if (segment->timing) {
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, *start);
		segment->milliseconds += INSTR_TIME_GET_MILLISEC(now);
	}
}

static void
decode_times(DdfdwSegment *segment, TupleTableSlot *row)
{
	AttrNumber attno = segment->table->time;
	DdfdwBytes bytes = ddfdw_fetch_bytes(row, attno);
	uint32 n = segment->n;
	dd_error err = {DD_OK, ""};
	dd_column_info info;
	bool sorted = true;

	if (dd_column_peek(bytes.data, bytes.len, NULL, &info, &err) != DD_OK)
		ddfdw_damaged(segment, attno, err.status, err.what);
	if (info.n != n || info.workspace > MaxAllocSize - 64)
		ddfdw_damaged(segment, attno, DD_CORRUPT, "it is of another length");
	segment->times = ddfdw_reserve(segment, &segment->time_buffer, sizeof(int64) * n);
	if (dd_times_decode(bytes.data, bytes.len, n, n, segment->times, ddfdw_reserve_workspace(segment, info.workspace),
						info.workspace, &err) != DD_OK)
		ddfdw_damaged(segment, attno, err.status, err.what);
	for (uint32 i = 1; i < n; i++)
		sorted &= segment->times[i - 1] <= segment->times[i];
	if (!sorted || segment->times[0] != DatumGetInt64(fetch(segment, row, segment->table->t_min)) ||
		segment->times[n - 1] != DatumGetInt64(fetch(segment, row, segment->table->t_max)))
		ddfdw_damaged(segment, attno, DD_CORRUPT, "its times are not sorted from t_min to t_max");
}

/*
 * Turn to the segment in `row` and decode its times, if they are needed. A segment that was the last one decoded is not
 * decoded again (a nested loop asks for the same one over and over): under one snapshot a ctid names one row.
 */
void
ddfdw_segment_times(DdfdwSegment *segment, TupleTableSlot *row)
{
	MemoryContext old;
	instr_time start;
	int32 n;

	if (segment->loaded && ItemPointerEquals(&segment->tid, &row->tts_tid))
		return;
	segment->loaded = false;
	segment->decoded = 0;
	ddfdw_coded_forget(segment);
	MemoryContextReset(segment->detoast);
	old = MemoryContextSwitchTo(segment->detoast);
	segment->id = DatumGetInt64(fetch(segment, row, segment->table->id));
	n = DatumGetInt32(fetch(segment, row, segment->table->n));
	if (n < 1 || n > (int32)DD_MAX_ROWS)
		ddfdw_damaged(segment, segment->table->n, DD_CORRUPT, "no segment has so many rows");
	segment->n = n;
	if (segment->need_time) {
		clock_start(segment, &start);
		decode_times(segment, row);
		clock_stop(segment, &start);
		segment->segments_decoded++;
	}
	MemoryContextSwitchTo(old);
	segment->tid = row->tts_tid;
	segment->loaded = true;
}

static void
load_key(DdfdwColumn *column, TupleTableSlot *row)
{
	int16 typlen;
	bool typbyval;

	column->key = slot_getattr(row, column->binding->main, &column->key_null);
	if (!column->key_null) {
		get_typlenbyval(column->binding->type, &typlen, &typbyval);
		/* Detoasted here once rather than with each row by whoever looks at it. */
		column->key = typlen == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(column->key))
								   : datumCopy(column->key, typbyval, typlen);
	}
	column->datums = &column->key;
	column->nulls = &column->key_null;
}

/* 2- and 4-byte values as Datums; float4 travels as its bit pattern, as PostgreSQL has it. */
static void
widen(dd_type type, const void *raw, Datum *wide, uint32 count)
{
	if (type == DD_INT16) {
		const int16 *values = raw;

		for (uint32 i = 0; i < count; i++)
			wide[i] = Int16GetDatum(values[i]);
	} else {
		const int32 *values = raw;

		for (uint32 i = 0; i < count; i++)
			wide[i] = Int32GetDatum(values[i]);
	}
}

/* The first `want` rows of what the core coded. */
static void
load_coded(DdfdwSegment *segment, DdfdwColumn *column, TupleTableSlot *row, uint32 want)
{
	dd_type type = column->binding->native;
	void *values = ddfdw_coded_values(segment, column->coded, row, type, want, &column->nulls);

	if (type == DD_INT64 || type == DD_FLOAT64)
		column->datums = values;
	else {
		column->datums = ddfdw_reserve(segment, &column->wide, sizeof(Datum) * want);
		widen(type, values, column->datums, want);
	}
}

/* One element per row, or distinct ones and, coded by the core, which of them each row has. */
static void
load_array(DdfdwSegment *segment, DdfdwColumn *column, TupleTableSlot *row, uint32 want)
{
	const DdfdwBinding *binding = column->binding;
	/* A copy: the segment outlives the slot, and with it the page of the segment table. */
	ArrayType *array = DatumGetArrayTypePCopy(fetch(segment, row, binding->array));
	int16 typlen;
	bool typbyval, *nulls;
	char typalign;
	int count;
	Datum *elements;

	if (ARR_NDIM(array) > 1 || ARR_ELEMTYPE(array) != binding->element)
		ddfdw_damaged(segment, binding->array, DD_CORRUPT, "it is no list of the column's values");
	get_typlenbyvalalign(binding->element, &typlen, &typbyval, &typalign);
	deconstruct_array(array, binding->element, typlen, typbyval, typalign, &elements, &nulls, &count);
	for (int i = 0; binding->element != binding->type && i < count; i++)
		if (!nulls[i])
			elements[i] = GetAttributeByNum(DatumGetHeapTupleHeader(elements[i]), 1, &nulls[i]);
	if (slot_attisnull(row, binding->main)) {
		if (count != (int)segment->n)
			ddfdw_damaged(segment, binding->array, DD_CORRUPT, "the array does not have one element per row");
		column->datums = elements;
		column->nulls = nulls;
		return;
	}
	for (int i = 0; i < count; i++)
		if (nulls[i])
			ddfdw_damaged(segment, binding->array, DD_CORRUPT, "a distinct value is NULL");
	load_coded(segment, column, row, want);
	for (uint32 i = 0; i < want; i++) {
		int32 position = DatumGetInt32(column->datums[i]);

		if (column->nulls && column->nulls[i])
			column->datums[i] = (Datum)0;
		else if (position >= 0 && position < count)
			column->datums[i] = elements[position];
		else
			ddfdw_damaged(segment, binding->main, DD_CORRUPT, "a row has no value at its position");
	}
}

/* Decode the first `want` rows of the columns the query needs. */
void
ddfdw_segment_columns(DdfdwSegment *segment, TupleTableSlot *row, uint32 want)
{
	MemoryContext old;
	instr_time start;
	bool decoding = false;

	if (segment->decoded >= want)
		return;
	/* Asked for more of the same segment, a rescan is walking through it: decode the rest at once. */
	if (segment->decoded > 0)
		want = segment->n;
	old = MemoryContextSwitchTo(segment->detoast);
	clock_start(segment, &start);
	for (int i = 0; i < segment->ncolumns; i++)
		if (segment->columns[i].coded && !slot_attisnull(row, segment->columns[i].binding->main))
			ddfdw_coded_plan(segment, segment->columns[i].coded, row);
	for (int i = 0; i < segment->ncolumns; i++) {
		DdfdwColumn *column = &segment->columns[i];

		switch (column->binding->source) {
		case DDFDW_ABSENT: break;
		case DDFDW_TIME:
			column->datums = (Datum *)segment->times;
			column->nulls = NULL;
			break;
		case DDFDW_KEY: load_key(column, row); break;
		case DDFDW_ARRAY: load_array(segment, column, row, want); break;
		case DDFDW_MOMENT:
		case DDFDW_NATIVE: load_coded(segment, column, row, want); break;
		}
		decoding |= column->binding->native != 0;
		CHECK_FOR_INTERRUPTS();
	}
	clock_stop(segment, &start);
	MemoryContextSwitchTo(old);
	if (decoding && !segment->need_time && segment->decoded == 0)
		segment->segments_decoded++;
	if (decoding || segment->need_time)
		segment->rows_decoded += want;
	segment->decoded = want;
}

void
ddfdw_segment_emit(const DdfdwSegment *segment, uint32 row, Datum *values, bool *nulls)
{
	for (int i = 0; i < segment->ncolumns; i++) {
		const DdfdwColumn *column = &segment->columns[i];
		Size at = (Size)row * column->stride;

		values[column->attno - 1] = column->datums[at];
		nulls[column->attno - 1] = column->nulls && column->nulls[at];
	}
}

void
ddfdw_segment_release(DdfdwSegment *segment)
{
	ddfdw_models_close(segment->models);
}
