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
	INSTR_TIME_SET_ZERO(*start);
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
	dd_error err = {DD_OK, "", NULL};
	dd_column_info info;
	dd_status status;
	void *workspace;
	bool sorted = true;
	int turns = 0;

	if (dd_column_peek(bytes.data, bytes.len, NULL, &info, &err) != DD_OK)
		ddfdw_damaged(segment, attno, err.status, err.what);
	if (info.n != n || info.workspace > MaxAllocSize - 64)
		ddfdw_damaged(segment, attno, DD_CORRUPT, "it is of another length");
	segment->times = ddfdw_reserve(segment, &segment->time_buffer, sizeof(int64) * n);
	workspace = ddfdw_reserve_workspace(segment, info.workspace);
	do {
		CHECK_FOR_INTERRUPTS();
		err.stop = ddfdw_stop(turns++);
		status = dd_times_decode(bytes.data, bytes.len, n, n, segment->times, workspace, info.workspace, &err);
	} while (status == DD_STOPPED);
	if (status != DD_OK)
		ddfdw_damaged(segment, attno, err.status, err.what);
	for (uint32 i = 1; i < n; i++)
		sorted &= segment->times[i - 1] <= segment->times[i];
	if (!sorted || segment->times[0] != DatumGetInt64(fetch(segment, row, segment->table->t_min)) ||
		segment->times[n - 1] != DatumGetInt64(fetch(segment, row, segment->table->t_max)))
		ddfdw_damaged(segment, attno, DD_CORRUPT, "its times are not sorted from t_min to t_max");
}

/* Count the segment held as decoded if anything of it was, otherwise as found in the cache. */
static void
count(DdfdwSegment *segment, bool decoded)
{
	if (decoded && !segment->missed) {
		segment->segments_decoded++;
		segment->cache_hits -= segment->hit;
		segment->missed = true;
	} else if (!decoded && !segment->missed && !segment->hit) {
		segment->cache_hits++;
		segment->hit = true;
	}
}

static void
unpin(DdfdwCached **pin)
{
	if (*pin)
		ddfdw_cache_unpin(*pin);
	*pin = NULL;
}

/* A column of the segment held, as far as it is in the cache; pinned in *pin. */
static const DdfdwDecoded *
look_up(DdfdwSegment *segment, AttrNumber attno, Oid type, DdfdwCached **pin)
{
	const DdfdwDecoded *found;

	unpin(pin);
	*pin = ddfdw_cache_find(&segment->key, attno, type);
	if (*pin == NULL)
		return NULL;
	found = ddfdw_cached(*pin);
	if (found->modelled)
		ddfdw_models_check_access(segment->models);
	return found;
}

static void
load_times(DdfdwSegment *segment, TupleTableSlot *row)
{
	AttrNumber attno = segment->table->time;
	const DdfdwDecoded *found = look_up(segment, attno, INT8OID, &segment->cached_times);

	if (found)
		segment->times = (int64 *)found->values;
	else {
		DdfdwDecoded decoded = {.rows = segment->n};

		decode_times(segment, row);
		decoded.values = (Datum *)segment->times;
		ddfdw_cache_keep(&segment->key, attno, INT8OID, &decoded, &segment->filled);
		CHECK_FOR_INTERRUPTS();
	}
	count(segment, found == NULL);
}

/* Let go of what the cache lent. Also when the scan's memory is freed after an error. */
static void
unpin_all(void *arg)
{
	DdfdwSegment *segment = arg;

	unpin(&segment->cached_times);
	for (int i = 0; i < segment->ncolumns; i++)
		unpin(&segment->columns[i].cached);
}

static void
unload(DdfdwSegment *segment)
{
	segment->loaded = segment->trusted = segment->modelled = segment->hit = segment->missed = false;
	segment->decoded = 0;
	unpin_all(segment);
}

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
	segment->models = ddfdw_models_create(table->foreign, snapshot, CurrentMemoryContext);
	ddfdw_coded_create(segment);
	segment->columns = palloc0(sizeof(DdfdwColumn) * Max(list_length(attnos), 1));
	foreach (cell, attnos) {
		DdfdwColumn *column = &segment->columns[segment->ncolumns++];

		column->attno = (AttrNumber)lfirst_int(cell);
		column->place = column->attno - 1;
		column->binding = &table->columns[column->attno - 1];
		column->coded = column->binding->native ? ddfdw_coded_of(segment, column->binding->main) : NULL;
		column->stride = column->binding->source == DDFDW_KEY || column->binding->source == DDFDW_MISSING ? 0 : 1;
		segment->need_time |= column->binding->source == DDFDW_TIME;
	}
	segment->callback.func = unpin_all;
	segment->callback.arg = segment;
	MemoryContextRegisterResetCallback(segment->context, &segment->callback);
	return segment;
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

	if (segment->loaded && ItemPointerEquals(&segment->key.tid, &row->tts_tid))
		return;
	unload(segment);
	ddfdw_coded_forget(segment);
	MemoryContextReset(segment->detoast);
	old = MemoryContextSwitchTo(segment->detoast);
	segment->id = DatumGetInt64(fetch(segment, row, segment->table->id));
	n = DatumGetInt32(fetch(segment, row, segment->table->n));
	if (n < 1 || n > (int32)DD_MAX_ROWS)
		ddfdw_damaged(segment, segment->table->n, DD_CORRUPT, "no segment has so many rows");
	segment->n = n;
	segment->key = ddfdw_cache_key(segment->companion, segment->id, row);
	if (segment->need_time) {
		clock_start(segment, &start);
		load_times(segment, row);
		clock_stop(segment, &start);
	}
	MemoryContextSwitchTo(old);
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
	column->base = typbyval && binding->element == binding->type ? NULL : (const char *)array;
	column->base_len = VARSIZE_ANY(array);
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

static bool
is_coded(const DdfdwColumn *column)
{
	return column->binding->native != 0;
}

/* The attribute by which the cache knows the column. */
static AttrNumber
cache_attno(const DdfdwColumn *column)
{
	return column->binding->source == DDFDW_ARRAY ? column->binding->array : column->binding->main;
}

/* Pin what the cache has. How many rows to decode of the rest: all of them where it has some, but too few. */
static uint32
consult_cache(DdfdwSegment *segment, uint32 want)
{
	for (int i = 0; i < segment->ncolumns; i++) {
		DdfdwColumn *column = &segment->columns[i];
		const DdfdwDecoded *found =
			is_coded(column) ? look_up(segment, cache_attno(column), column->binding->type, &column->cached) : NULL;

		if (found && found->rows < want)
			want = segment->n;
	}
	return want;
}

/* Decode the first `want` rows of a column, or take them from the cache. */
static void
load_column(DdfdwSegment *segment, DdfdwColumn *column, TupleTableSlot *row, uint32 want)
{
	if (column->cached) {
		const DdfdwDecoded *found = ddfdw_cached(column->cached);

		column->datums = (Datum *)found->values;
		column->nulls = found->nulls;
		count(segment, false);
		return;
	}
	column->base = NULL;
	column->base_len = 0;
	if (column->binding->source == DDFDW_ARRAY)
		load_array(segment, column, row, want);
	else
		load_coded(segment, column, row, want);
	count(segment, true);
	if (!segment->trusted) {
		DdfdwDecoded decoded = {want, column->datums, column->nulls, column->base, column->base_len, segment->modelled};

		ddfdw_cache_keep(&segment->key, cache_attno(column), column->binding->type, &decoded, &segment->filled);
	}
	CHECK_FOR_INTERRUPTS();
}

/* Have the first `want` rows of the columns the query needs. */
void
ddfdw_segment_columns(DdfdwSegment *segment, TupleTableSlot *row, uint32 want)
{
	MemoryContext old;
	instr_time start;

	if (segment->decoded >= want)
		return;
	/* Asked for more of the same segment, a rescan is walking through it: decode the rest at once. */
	if (segment->decoded > 0)
		want = segment->n;
	old = MemoryContextSwitchTo(segment->detoast);
	clock_start(segment, &start);
	want = consult_cache(segment, want);
	for (int i = 0; i < segment->ncolumns; i++) {
		DdfdwColumn *column = &segment->columns[i];

		if (column->cached && ddfdw_cached(column->cached)->rows < want)
			unpin(&column->cached);
		if (column->coded && !column->cached && !slot_attisnull(row, column->binding->main))
			ddfdw_coded_plan(segment, column->coded, row);
	}
	for (int i = 0; i < segment->ncolumns; i++) {
		DdfdwColumn *column = &segment->columns[i];

		if (column->binding->source == DDFDW_TIME) {
			column->datums = (Datum *)segment->times;
			column->nulls = NULL;
		} else if (column->binding->source == DDFDW_KEY)
			load_key(column, row);
		else if (column->binding->source == DDFDW_MISSING) {
			column->key = column->binding->missing;
			column->datums = &column->key;
			column->nulls = NULL;
		} else
			load_column(segment, column, row, want);
	}
	clock_stop(segment, &start);
	MemoryContextSwitchTo(old);
	if (segment->missed)
		segment->rows_decoded += want;
	segment->decoded = want;
}

void
ddfdw_segment_emit(const DdfdwSegment *segment, uint32 row, Datum *values, bool *nulls)
{
	for (int i = 0; i < segment->ncolumns; i++) {
		const DdfdwColumn *column = &segment->columns[i];
		Size at = (Size)row * column->stride;

		values[column->place] = column->datums[at];
		nulls[column->place] = column->nulls && column->nulls[at];
	}
}

void
ddfdw_segment_release(DdfdwSegment *segment)
{
	ddfdw_models_close(segment->models);
}
