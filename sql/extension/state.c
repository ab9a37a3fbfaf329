/*
 * Transition states of PostgreSQL's own aggregates, made from whole segments' statistics and from decoded rows.
 *
 * They are what the aggregates' transition functions would have come to, so its combine and final functions take them from
 * here. Sums of floats differ from theirs as those of other orders of rows do. avg of floats shares its state with the
 * variances, which come from row by row: the sum of squares is left NaN, which avg never looks at, and which keeps
 * combining from overflowing.
 */
#include "agg.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Up to so many values are handed to a transition function one by one; it takes as long to build the state by halves. */
#define FEW 64

struct DdaggState {
	DdaggKind kind;
	Oid type;		   /* of what is aggregated */
	bool is_float;
	Oid collation;
	DdaggColumn *column; /* NULL for count(*) and keys */
	AttrNumber key;	   /* of the segment table */

	/* DDAGG_EXTREME; sum and avg of int8, whose state only their own functions know */
	FmgrInfo transition, combine, serialize;
	AggState *caller; /* what these functions ask for the memory of their states */
	ExprContext *context;
	int16 typlen;
	bool typbyval;

	int64 count; /* values that are not NULL */
	int128 sum;
	double float_sum;
	int64 int_extreme;
	double float_extreme;
	Datum extreme;
};

/* Are states of this aggregate opaque? */
static bool
is_opaque(const DdaggOutput *output)
{
	return (output->kind == DDAGG_SUM || output->kind == DDAGG_AVG) && output->type == INT8OID;
}

/*
 * Functions of opaque states insist on being called by an aggregation, and ask it for a memory context only. Ours lives as
 * long as the state is being built.
 */
static void
find_functions(DdaggState *state, Oid aggregate, bool opaque)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	Form_pg_aggregate form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggregate);
	form = (Form_pg_aggregate)GETSTRUCT(tuple);
	fmgr_info(form->aggtransfn, &state->transition);
	if (opaque) {
		fmgr_info(form->aggcombinefn, &state->combine);
		fmgr_info(form->aggserialfn, &state->serialize);
		state->caller = makeNode(AggState);
		state->caller->curaggcontext = state->context;
	}
	ReleaseSysCache(tuple);
}

/* `context`: reset between rows. */
DdaggState *
ddagg_state_create(const DdaggOutput *output, DdaggColumn *column, AttrNumber key, ExprContext *context)
{
	DdaggState *state = palloc0(sizeof *state);

	state->kind = output->kind;
	state->type = output->type;
	state->is_float = ddfdw_is_float(output->type);
	state->collation = output->collation;
	state->column = column;
	state->key = key;
	state->context = context;
	if (state->kind == DDAGG_EXTREME || is_opaque(output)) {
		find_functions(state, output->aggregate, is_opaque(output));
		get_typlenbyval(state->type, &state->typlen, &state->typbyval);
	}
	return state;
}

DdaggColumn *
ddagg_state_column(const DdaggState *state)
{
	return state->column;
}

/* Begin anew; what the last state held is in the memory of its group. */
void
ddagg_state_reset(DdaggState *state)
{
	state->count = 0;
	state->sum = 0;
	state->float_sum = 0;
}

/* ---- adding ---- */

static void
extend_int(DdaggState *state, int64 value)
{
	if (state->count == 0 || (state->kind == DDAGG_MIN ? value < state->int_extreme : value > state->int_extreme))
		state->int_extreme = value;
}

static void
extend_float(DdaggState *state, double value)
{
	if (state->count == 0 || (state->kind == DDAGG_MIN ? float8_lt(value, state->float_extreme)
													   : float8_gt(value, state->float_extreme)))
		state->float_extreme = value;
}

/* One more value for a type's own function; the winner is copied only by keep_extreme(). */
static void
extend(DdaggState *state, Datum value)
{
	if (state->count++ == 0)
		state->extreme = value;
	else
		state->extreme = FunctionCall2Coll(&state->transition, state->collation, state->extreme, value);
}

/* Values read from rows go with the segment, the winner stays with the group. */
static void
keep_extreme(DdaggState *state, Datum before, int64 count, MemoryContext group)
{
	MemoryContext old;

	if (state->typbyval || state->count == 0 || (count > 0 && state->extreme == before))
		return;
	old = MemoryContextSwitchTo(group);
	state->extreme = state->typlen == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(state->extreme))
										 : datumCopy(state->extreme, state->typbyval, state->typlen);
	MemoryContextSwitchTo(old);
	if (count > 0)
		pfree(DatumGetPointer(before));
}

static void
extend_by_key(DdaggState *state, TupleTableSlot *row, int64 n, MemoryContext group)
{
	int64 count = state->count;
	Datum before = state->extreme, value;
	bool null;

	value = slot_getattr(row, state->key, &null);
	if (null || n == 0)
		return;
	if (state->kind == DDAGG_EXTREME) {
		MemoryContext old = MemoryContextSwitchTo(state->context->ecxt_per_tuple_memory);

		extend(state, value);
		MemoryContextSwitchTo(old);
		keep_extreme(state, before, count, group);
	} else
		state->count += n;
}

/* Can it be had without the rows? */
bool
ddagg_state_has_stats(const DdaggState *state, const DdaggStats *stats)
{
	if (state->column == NULL)
		return true;
	if (!stats->known)
		return false;
	if (stats->count == 0 || state->kind == DDAGG_COUNT)
		return true;
	if (state->kind == DDAGG_MIN || state->kind == DDAGG_MAX)
		return stats->ranged;
	return state->kind != DDAGG_EXTREME && stats->summed;
}

/* A sum of `count` integers, which is numeric, as 16 bytes. */
static int128
sum_of_numeric(Datum sum, int64 count)
{
	Datum n = DirectFunctionCall1(int8_numeric, Int64GetDatum(count));
	Datum quotient = DirectFunctionCall2(numeric_div_trunc, sum, n);
	Datum rest = DirectFunctionCall2(numeric_mod, sum, n);

	return (int128)DatumGetInt64(DirectFunctionCall1(numeric_int8, quotient)) * count +
		   DatumGetInt64(DirectFunctionCall1(numeric_int8, rest));
}

/* A whole segment of n rows. */
void
ddagg_state_add_stats(DdaggState *state, const DdaggStats *stats, TupleTableSlot *row, int64 n, MemoryContext group)
{
	if (state->key > 0) {
		extend_by_key(state, row, n, group);
		return;
	}
	if (state->column == NULL) {
		state->count += n;
		return;
	}
	if (stats->count == 0)
		return;
	if (state->kind == DDAGG_MIN || state->kind == DDAGG_MAX) {
		if (state->is_float)
			extend_float(state, state->kind == DDAGG_MIN ? stats->low.f : stats->high.f);
		else
			extend_int(state, state->kind == DDAGG_MIN ? stats->low.i : stats->high.i);
	} else if (state->kind != DDAGG_COUNT && state->is_float) {
		double sum = DatumGetFloat8(stats->sum);

		/* Numbers can add up to more than a float8 holds, which is an error, as it is row by row. */
		if (isinf(sum) && (!stats->ranged || (isfinite(stats->low.f) && isfinite(stats->high.f))))
			float_overflow_error();
		state->float_sum = float8_pl(state->float_sum, sum);
	} else if (state->kind != DDAGG_COUNT) {
		MemoryContext old = MemoryContextSwitchTo(state->context->ecxt_per_tuple_memory);

		state->sum += sum_of_numeric(stats->sum, stats->count);
		MemoryContextSwitchTo(old);
	}
	state->count += stats->count;
}

static void
add_floats(DdaggState *state, const double *values, uint32 count)
{
	double sum = 0;

	for (uint32 i = 0; i < count; i++)
		sum += values[i];
	if (!isfinite(sum)) { /* by way of infinities, or an overflow, which this tells apart */
		sum = 0;
		for (uint32 i = 0; i < count; i++)
			sum = float8_pl(sum, values[i]);
	}
	state->float_sum = float8_pl(state->float_sum, sum);
}

static void
add_ints(DdaggState *state, const int64 *values, uint32 count)
{
	if (state->type == INT8OID) {
		int128 sum = 0;

		for (uint32 i = 0; i < count; i++)
			sum += values[i];
		state->sum += sum;
	} else {
		int64 sum = 0; /* of at most 2^20 4-byte values */

		for (uint32 i = 0; i < count; i++)
			sum += values[i];
		state->sum += sum;
	}
}

static void
extend_floats(DdaggState *state, const double *values, uint32 count)
{
	double extreme = values[0];

	if (state->kind == DDAGG_MIN) {
		for (uint32 i = 1; i < count; i++)
			if (values[i] < extreme || isnan(extreme))
				extreme = values[i];
	} else {
		for (uint32 i = 1; i < count; i++)
			if (values[i] > extreme || isnan(values[i]))
				extreme = values[i];
	}
	extend_float(state, extreme);
}

static void
extend_ints(DdaggState *state, const int64 *values, uint32 count)
{
	int64 extreme = values[0];

	if (state->kind == DDAGG_MIN) {
		for (uint32 i = 1; i < count; i++)
			extreme = Min(extreme, values[i]);
	} else {
		for (uint32 i = 1; i < count; i++)
			extreme = Max(extreme, values[i]);
	}
	extend_int(state, extreme);
}

/* Rows of a type that only its own function compares. */
static void
extend_by_rows(DdaggState *state, const bool *keep, uint32 first, uint32 end, MemoryContext group)
{
	const DdaggColumn *column = state->column;
	int64 count = state->count;
	Datum before = state->extreme;
	MemoryContext old = MemoryContextSwitchTo(state->context->ecxt_per_tuple_memory);

	for (uint32 i = first; i < end; i++)
		if ((keep == NULL || keep[i]) && (column->nulls == NULL || !column->nulls[i]))
			extend(state, column->decoded->datums[i]);
	MemoryContextSwitchTo(old);
	keep_extreme(state, before, count, group);
}

/* Those of rows first .. end - 1 that are kept, n in number; the state's column has picked them. */
void
ddagg_state_add_rows(DdaggState *state, TupleTableSlot *row, const bool *keep, uint32 first, uint32 end, int64 n,
					 MemoryContext group)
{
	const DdaggColumn *column = state->column;

	if (state->key > 0) {
		extend_by_key(state, row, n, group);
		return;
	}
	if (column == NULL) {
		state->count += n;
		return;
	}
	if (column->picked == 0)
		return;
	switch (state->kind) {
	case DDAGG_EXTREME: extend_by_rows(state, keep, first, end, group); return; /* counts by itself */
	case DDAGG_MIN:
	case DDAGG_MAX:
		if (state->is_float)
			extend_floats(state, column->picked_floats, column->picked);
		else
			extend_ints(state, column->picked_ints, column->picked);
		break;
	case DDAGG_SUM:
	case DDAGG_AVG:
		if (state->is_float)
			add_floats(state, column->picked_floats, column->picked);
		else
			add_ints(state, column->picked_ints, column->picked);
		break;
	default: break;
	}
	state->count += column->picked;
}

/* ---- results ---- */

static Datum
call(DdaggState *state, FmgrInfo *function, Datum first, bool first_null, Datum second)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum result;

	InitFunctionCallInfoData(*fcinfo, function, function->fn_nargs, InvalidOid, (Node *)state->caller, NULL);
	fcinfo->args[0] = (NullableDatum){first, first_null};
	fcinfo->args[1] = (NullableDatum){second, false};
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		elog(ERROR, "function %u returned NULL", function->fn_oid);
	return result;
}

/* The state after `times` values of `value` more. */
static void
add_times(DdaggState *state, Datum *opaque, bool *none, int64 value, int64 times)
{
	Datum power;

	if (times <= FEW) {
		for (; times > 0; times--, *none = false)
			*opaque = call(state, &state->transition, *opaque, *none, Int64GetDatum(value));
		return;
	}
	power = call(state, &state->transition, (Datum)0, true, Int64GetDatum(value));
	for (;;) {
		if (times & 1) {
			*opaque = call(state, &state->combine, *opaque, *none, power);
			*none = false;
		}
		if ((times >>= 1) == 0)
			return;
		/* Combining changes its first argument and not its second, so that must be another one. */
		power = call(state, &state->combine, call(state, &state->combine, (Datum)0, true, power), false, power);
	}
}

/*
 * The opaque state of `count` values that add up to `sum`: that of any such values, so that of two that differ by one.
 */
static Datum
opaque_result(DdaggState *state)
{
	MemoryContext old = MemoryContextSwitchTo(state->context->ecxt_per_tuple_memory);
	int64 quotient = (int64)(state->sum / state->count), rest = (int64)(state->sum % state->count);
	Datum opaque = 0;
	bool none = true;

	if (rest < 0) {
		rest += state->count;
		quotient--;
	}
	add_times(state, &opaque, &none, quotient, state->count - rest);
	if (rest > 0)
		add_times(state, &opaque, &none, quotient + 1, rest);
	MemoryContextSwitchTo(old);
	return call(state, &state->serialize, opaque, false, (Datum)0);
}

static int64
narrow(int128 sum)
{
	if (sum < PG_INT64_MIN || sum > PG_INT64_MAX)
		ereport(ERROR, errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("bigint out of range"));
	return (int64)sum;
}

static Datum
sum_result(const DdaggState *state)
{
	float4 narrowed;

	switch (state->type) {
	case FLOAT8OID: return Float8GetDatum(state->float_sum);
	case FLOAT4OID:
		narrowed = (float4)state->float_sum;
		if (isinf(narrowed) && !isinf(state->float_sum))
			float_overflow_error();
		return Float4GetDatum(narrowed);
	default: return Int64GetDatum(narrow(state->sum));
	}
}

static Datum
avg_result(const DdaggState *state)
{
	Datum parts[3];

	if (state->is_float) {
		parts[0] = Float8GetDatum((double)state->count);
		parts[1] = Float8GetDatum(state->float_sum);
		parts[2] = Float8GetDatum(state->count == 0 ? 0 : get_float8_nan());
		return PointerGetDatum(construct_array(parts, 3, FLOAT8OID, sizeof(float8), true, TYPALIGN_DOUBLE));
	}
	parts[0] = Int64GetDatum(state->count);
	parts[1] = Int64GetDatum(narrow(state->sum));
	return PointerGetDatum(construct_array(parts, 2, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE));
}

static Datum
extreme_result(const DdaggState *state)
{
	switch (state->type) {
	case FLOAT4OID: return Float4GetDatum((float4)state->float_extreme);
	case FLOAT8OID: return Float8GetDatum(state->float_extreme);
	case INT2OID: return Int16GetDatum((int16)state->int_extreme);
	case INT4OID:
	case DATEOID: return Int32GetDatum((int32)state->int_extreme);
	default: return Int64GetDatum(state->int_extreme);
	}
}

/* The transition state, serialized if it is opaque, in the current memory context. */
Datum
ddagg_state_result(DdaggState *state, bool *null)
{
	bool opaque = state->caller != NULL;

	*null = false;
	if (state->kind == DDAGG_COUNT || state->kind == DDAGG_COUNT_ROWS)
		return Int64GetDatum(state->count);
	if (state->kind == DDAGG_AVG && !opaque)
		return avg_result(state);
	*null = state->count == 0;
	if (*null)
		return (Datum)0;
	if (opaque)
		return opaque_result(state);
	if (state->kind == DDAGG_EXTREME)
		return state->extreme;
	return state->kind == DDAGG_SUM ? sum_result(state) : extreme_result(state);
}
