/*
 * One column of the segment turned to: what the segment table says of it, and its rows.
 *
 * Statistics are of what is read back, so they answer for the rows. One that is missing, or of another type, is not known:
 * then the column is decoded.
 */
#include "agg.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/lsyscache.h"

/* As ddfdw_reserve, for buffers that are no segment's. */
void *
ddagg_reserve(MemoryContext context, DdfdwBuffer *buffer, Size size)
{
	if (buffer->size < size) {
		if (buffer->data)
			pfree(buffer->data);
		buffer->data = NULL;
		buffer->size = 0;
		buffer->data = MemoryContextAlloc(context, size);
		buffer->size = size;
	}
	return buffer->data;
}

/* The attribute "<column>_<part>" of the segment table, if it is of that type. */
static AttrNumber
find_part(Relation companion, const char *column, int length, const char *part, Oid type)
{
	char name[NAMEDATALEN];
	AttrNumber attno;

	snprintf(name, sizeof name, "%.*s_%s", length, column, part);
	attno = get_attnum(RelationGetRelid(companion), name);
	return attno > 0 && TupleDescAttr(RelationGetDescr(companion), attno - 1)->atttypid == type ? attno : 0;
}

/* `column` has its attno. */
void
ddagg_column_bind(DdaggColumn *column, Relation companion, const DdfdwTable *table)
{
	const DdfdwBinding *binding = &table->columns[column->attno - 1];
	AttrNumber stored = binding->source == DDFDW_ARRAY ? binding->array : binding->main;
	const char *name;
	int length;

	column->binding = binding;
	column->is_float = ddfdw_is_float(binding->type);
	column->is_number = binding->source == DDFDW_NATIVE || binding->source == DDFDW_MOMENT || binding->source == DDFDW_TIME;
	if (binding->source == DDFDW_TIME) {
		column->min = table->t_min;
		column->max = table->t_max;
	}
	if (binding->source != DDFDW_NATIVE && binding->source != DDFDW_MOMENT && binding->source != DDFDW_ARRAY)
		return;
	name = NameStr(TupleDescAttr(RelationGetDescr(companion), stored - 1)->attname);
	length = strcspn(name, "_");
	column->count = find_part(companion, name, length, "count", INT4OID);
	if (binding->source == DDFDW_NATIVE) {
		column->min = find_part(companion, name, length, "min", binding->type);
		column->max = find_part(companion, name, length, "max", binding->type);
		column->sum = find_part(companion, name, length, "sum", column->is_float ? FLOAT8OID : NUMERICOID);
	}
}

static int64
to_int(const DdaggColumn *column, Datum value)
{
	switch (column->binding->type) {
	case INT2OID: return DatumGetInt16(value);
	case INT4OID:
	case DATEOID: return DatumGetInt32(value);
	default: return DatumGetInt64(value);
	}
}

static double
to_float(const DdaggColumn *column, Datum value)
{
	return column->binding->type == FLOAT4OID ? (double)DatumGetFloat4(value) : DatumGetFloat8(value);
}

void
ddagg_column_stats(const DdaggColumn *column, const DdfdwTable *table, TupleTableSlot *row, DdaggStats *stats)
{
	DdfdwSource source = column->binding->source;
	Datum low, high;
	bool null, low_null, high_null;
	int64 n = DatumGetInt32(slot_getattr(row, table->n, &null));

	memset(stats, 0, sizeof *stats);
	if (source == DDFDW_ABSENT) {
		stats->known = true;
		return;
	}
	if (source == DDFDW_KEY) {
		stats->known = true;
		stats->count = slot_attisnull(row, column->binding->main) ? 0 : n;
		return;
	}
	if (source == DDFDW_TIME) {
		stats->known = true;
		stats->count = n;
	} else if (column->count > 0) {
		stats->count = DatumGetInt32(slot_getattr(row, column->count, &null));
		stats->known = !null && stats->count >= 0 && stats->count <= n;
	}
	if (!stats->known || stats->count == 0)
		return;
	if (column->min > 0 && column->max > 0) {
		low = slot_getattr(row, column->min, &low_null);
		high = slot_getattr(row, column->max, &high_null);
		stats->ranged = !low_null && !high_null;
		if (stats->ranged && column->is_float) {
			stats->low.f = to_float(column, low);
			stats->high.f = to_float(column, high);
		} else if (stats->ranged) {
			stats->low.i = to_int(column, low);
			stats->high.i = to_int(column, high);
		}
	}
	if (column->sum > 0) {
		stats->sum = slot_getattr(row, column->sum, &null);
		stats->summed = !null;
	}
}

/*
 * Turn to the first `end` rows of the segment decoded. Integers are read where they lie, as 8 bytes each, whatever their
 * type; so are floats, but float4 are widened.
 */
void
ddagg_column_decoded(DdaggColumn *column, const DdfdwSegment *segment, uint32 end)
{
	StaticAssertStmt(sizeof(Datum) == sizeof(int64), "integers are read as Datum");

	for (int i = 0; column->decoded == NULL && i < segment->ncolumns; i++)
		if (segment->columns[i].attno == column->attno)
			column->decoded = &segment->columns[i];
	if (column->decoded == NULL) /* it reads as NULL */
		return;
	column->nulls = column->decoded->nulls;
	if (!column->is_number)
		return;
	column->ints = (const int64 *)column->decoded->datums;
	column->floats = (const double *)column->decoded->datums;
	if (column->binding->type == FLOAT4OID) {
		double *wide = ddagg_reserve(segment->context, &column->wide, sizeof(double) * end);

		for (uint32 i = 0; i < end; i++)
			wide[i] = (double)DatumGetFloat4(column->decoded->datums[i]);
		column->floats = wide;
	}
}

/* Pick the values of rows first .. end - 1 that are kept (NULL: all) and not NULL. Of what is no number they are counted. */
void
ddagg_column_pick(DdaggColumn *column, MemoryContext context, const bool *keep, uint32 first, uint32 end)
{
	const bool *nulls = column->nulls;
	uint32 n = 0;

	column->picked = 0;
	if (column->decoded == NULL)
		return;
	if (nulls == NULL && keep == NULL) {
		column->picked = end - first;
		column->picked_ints = column->ints + first;
		column->picked_floats = column->floats + first;
		return;
	}
	if (!column->is_number) {
		for (uint32 i = first; i < end; i++)
			n += (keep == NULL || keep[i]) && (nulls == NULL || !nulls[i]);
		column->picked = n;
		return;
	}
	/* Bits are moved, so that one loop does for integers and floats. One more is written than picked, at most. */
	{
		const uint64 *values = column->is_float ? (const uint64 *)column->floats : (const uint64 *)column->ints;
		uint64 *picks = ddagg_reserve(context, &column->picks, sizeof(uint64) * (end - first + 1));

		if (nulls == NULL)
			for (uint32 i = first; i < end; i++) {
				picks[n] = values[i];
				n += keep[i];
			}
		else
			for (uint32 i = first; i < end; i++) {
				picks[n] = values[i];
				n += !nulls[i] & (keep == NULL || keep[i]);
			}
		column->picked_ints = (const int64 *)picks;
		column->picked_floats = (const double *)picks;
	}
	column->picked = n;
}
