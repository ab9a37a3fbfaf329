/*
 * The coded columns of the segment held, whether or not the query names them: a column may be coded on the condition of
 * others of its segment, which are found by their checksums and decoded first (docs/format.md).
 */
#include "fdw.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define CHECKSUM_SIZE 4

struct DdfdwCoded {
	const char *name; /* its parts are called "<name>_<part>" */
	int name_len;
	AttrNumber residual, latents, model; /* of the segment table, or invalid where it has none */

	/* of the segment held */
	bool named; /* looked at for its checksum */
	bool there; /* and has one */
	uint32 crc;
	bool opened; /* bytes and info are known */
	DdfdwBytes bytes;
	dd_column_info info;
	bool whole;	  /* another column needs all its rows */
	bool decoding;
	uint32 rows; /* decoded */
	DdfdwBuffer values, valid;
	const bool *nulls;
};

void *
ddfdw_reserve(DdfdwSegment *segment, DdfdwBuffer *buffer, Size size)
{
	if (buffer->size < size) {
		if (buffer->data)
			pfree(buffer->data);
		buffer->data = NULL;
		buffer->size = 0;
		buffer->data = MemoryContextAlloc(segment->context, size);
		buffer->size = size;
	}
	return buffer->data;
}

/* 16-byte aligned, which palloc does not promise */
void *
ddfdw_reserve_workspace(DdfdwSegment *segment, Size size)
{
	return (void *)TYPEALIGN(16, ddfdw_reserve(segment, &segment->workspace, size + 16));
}

/* A copy, for the segment outlives the slot and with it the page of the segment table; empty for NULL. */
DdfdwBytes
ddfdw_fetch_bytes(TupleTableSlot *row, AttrNumber attno)
{
	bool null;
	Datum value = slot_getattr(row, attno, &null);
	DdfdwBytes bytes = {NULL, 0};

	if (!null) {
		struct varlena *copy = PG_DETOAST_DATUM_COPY(value);

		bytes.data = (const uint8_t *)VARDATA_ANY(copy);
		bytes.len = VARSIZE_ANY_EXHDR(copy);
	}
	return bytes;
}

/* The column of a part "c<number>_<part>"; NULL when the attribute is none. */
static DdfdwCoded *
owner(DdfdwSegment *segment, const char *attname, const char **part)
{
	DdfdwCoded *coded;
	int len = 1 + strspn(attname + 1, "0123456789");

	if (attname[0] != 'c' || len == 1 || attname[len] != '_')
		return NULL;
	*part = attname + len + 1;
	for (int i = segment->ncoded; i-- > 0;) { /* parts of one column stand together */
		coded = &segment->coded[i];
		if (coded->name_len == len && strncmp(coded->name, attname, len) == 0)
			return coded;
	}
	coded = &segment->coded[segment->ncoded++];
	coded->name = attname;
	coded->name_len = len;
	return coded;
}

/* List the coded columns of the segment table: also those whose column of the foreign table was dropped. */
void
ddfdw_coded_create(DdfdwSegment *segment)
{
	TupleDesc desc = RelationGetDescr(segment->companion);

	segment->coded = palloc0(sizeof(DdfdwCoded) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++) {
		Form_pg_attribute att = TupleDescAttr(desc, i);
		const char *part;
		DdfdwCoded *coded = att->attisdropped ? NULL : owner(segment, NameStr(att->attname), &part);

		if (coded == NULL)
			continue;
		if (att->atttypid == BYTEAOID && strcmp(part, "residual") == 0)
			coded->residual = att->attnum;
		else if (att->atttypid == BYTEAOID && strcmp(part, "latents") == 0)
			coded->latents = att->attnum;
		else if (att->atttypid == INT8OID && strcmp(part, "model") == 0)
			coded->model = att->attnum;
	}
}

DdfdwCoded *
ddfdw_coded_of(DdfdwSegment *segment, AttrNumber residual)
{
	for (int i = 0; i < segment->ncoded; i++)
		if (segment->coded[i].residual == residual)
			return &segment->coded[i];
	return NULL;
}

/* Turn to another segment. */
void
ddfdw_coded_forget(DdfdwSegment *segment)
{
	for (int i = 0; i < segment->ncoded; i++) {
		DdfdwCoded *coded = &segment->coded[i];

		coded->named = coded->opened = coded->whole = coded->decoding = false;
		coded->rows = 0;
	}
}

static void
open_column(DdfdwSegment *segment, DdfdwCoded *coded, TupleTableSlot *row)
{
	dd_error err = {DD_OK, "", NULL};

	if (coded->opened)
		return;
	coded->bytes = ddfdw_fetch_bytes(row, coded->residual);
	if (dd_column_peek(coded->bytes.data, coded->bytes.len, NULL, &coded->info, &err) != DD_OK)
		ddfdw_damaged(segment, coded->residual, err.status, err.what);
	if (coded->info.n != segment->n)
		ddfdw_damaged(segment, coded->residual, DD_CORRUPT, "it is of another length");
	coded->opened = true;
}

/* Its checksum, the last bytes: what is stored out of line is not read for it. */
static void
name_column(DdfdwCoded *coded, TupleTableSlot *row)
{
	bool null;
	Datum value = slot_getattr(row, coded->residual, &null);
	Size size = null ? 0 : toast_raw_datum_size(value) - VARHDRSZ;

	coded->named = true;
	coded->there = size >= CHECKSUM_SIZE;
	if (coded->there) {
		struct varlena *tail = PG_DETOAST_DATUM_SLICE(value, size - CHECKSUM_SIZE, CHECKSUM_SIZE);
		const uint8_t *bytes = (const uint8_t *)VARDATA_ANY(tail);

		coded->crc = (uint32)bytes[0] | (uint32)bytes[1] << 8 | (uint32)bytes[2] << 16 | (uint32)bytes[3] << 24;
	}
}

/* The k-th column that `coded` is conditioned on. */
static DdfdwCoded *
find_side(DdfdwSegment *segment, const DdfdwCoded *coded, unsigned k, TupleTableSlot *row)
{
	for (int i = 0; i < segment->ncoded; i++) {
		DdfdwCoded *other = &segment->coded[i];

		if (other->residual == InvalidAttrNumber)
			continue;
		if (!other->named)
			name_column(other, row);
		if (other->there && other->crc == coded->info.side_crc[k])
			return other;
	}
	ddfdw_damaged(segment, coded->residual, DD_CORRUPT, "the segment lacks a column that it is conditioned on");
}

/*
 * Note which columns others need whole, before any is decoded, so that none is decoded twice: a column that the query
 * asks for by itself may end early.
 */
void
ddfdw_coded_plan(DdfdwSegment *segment, DdfdwCoded *coded, TupleTableSlot *row)
{
	check_stack_depth();
	open_column(segment, coded, row);
	for (unsigned k = 0; k < coded->info.sides; k++) {
		DdfdwCoded *side = find_side(segment, coded, k, row);

		if (!side->whole) {
			side->whole = true;
			ddfdw_coded_plan(segment, side, row);
		}
	}
}

/*
 * What stops decoding when it starts for the `turn`-th time: any interrupt at first. Most cancel the query; one that does not
 * lets it start again, and after some of these only a cancellation stops it, so that it comes to its end.
 */
const volatile int *
ddfdw_stop(int turn)
{
	if (!INTERRUPTS_CAN_BE_PROCESSED())
		return NULL;
	return turn < 3 ? &InterruptPending : &QueryCancelPending;
}

/* At least the first `want` rows, after the columns that this one is conditioned on. */
static void
decode(DdfdwSegment *segment, DdfdwCoded *coded, TupleTableSlot *row, uint32 want)
{
	dd_side sides[DD_SIDES_MOST];
	const dd_model *model = NULL;
	DdfdwBytes latents = {NULL, 0};
	uint8_t *valid = NULL;
	DdfdwDecoder decoder;
	dd_error err = {DD_OK, "", NULL};
	dd_status status;
	void *workspace;
	Size width;
	int turns = 0;

	if (coded->rows >= want)
		return;
	check_stack_depth();
	if (coded->decoding)
		ddfdw_damaged(segment, coded->residual, DD_CORRUPT, "it is conditioned on itself");
	coded->decoding = true;
	open_column(segment, coded, row);
	if (coded->whole)
		want = segment->n;
	for (unsigned k = 0; k < coded->info.sides; k++) {
		DdfdwCoded *side = find_side(segment, coded, k, row);

		decode(segment, side, row, segment->n);
		sides[k] = (dd_side){side->crc, side->info.type, side->values.data};
	}
	/* After those: a model is valid until the next one is asked for. */
	if (coded->model != InvalidAttrNumber) {
		bool null;
		Datum id = slot_getattr(row, coded->model, &null);

		if (!null && (model = ddfdw_models_get(segment->models, DatumGetInt64(id), &err)) == NULL)
			ddfdw_damaged(segment, coded->model, err.status, err.what);
		segment->modelled |= !null;
	}
	if (coded->latents != InvalidAttrNumber)
		latents = ddfdw_fetch_bytes(row, coded->latents);
	if (model && dd_column_peek(coded->bytes.data, coded->bytes.len, model, &coded->info, &err) != DD_OK)
		ddfdw_damaged(segment, coded->residual, err.status, err.what);
	if (coded->info.workspace > MaxAllocSize - 64)
		ddfdw_damaged(segment, coded->residual, DD_CORRUPT, "it needs too much memory");
	decoder = ddfdw_decoder(segment, coded->residual, coded->info.coder);
	width = coded->info.type == DD_INT64 || coded->info.type == DD_FLOAT64 ? sizeof(int64) : sizeof(int32);
	ddfdw_reserve(segment, &coded->values, width * want);
	if (coded->info.has_invalid)
		valid = ddfdw_reserve(segment, &coded->valid, want);
	workspace = ddfdw_reserve_workspace(segment, coded->info.workspace);
	do {
		CHECK_FOR_INTERRUPTS();
		err.stop = ddfdw_stop(turns++);
		status = decoder(coded->bytes.data, coded->bytes.len, latents.data, latents.len, model, sides, coded->info.sides,
						 coded->info.type, segment->n, want, coded->values.data, valid, workspace,
						 coded->info.workspace, &err);
	} while (status == DD_STOPPED);
	if (status != DD_OK)
		ddfdw_damaged(segment, coded->residual, status, err.what);
	for (uint32 i = 0; valid && i < want; i++)
		valid[i] = !valid[i]; /* the core says what is valid, PostgreSQL what is NULL */
	coded->nulls = (const bool *)valid;
	coded->rows = want;
	coded->decoding = false;
	CHECK_FOR_INTERRUPTS();
}

/*
 * At least the first `want` values, which are of `type`, and which of them are NULL (*nulls: NULL when none is). Both live
 * until the next segment. A column is decoded once, whoever needs it; ddfdw_coded_plan comes first.
 */
void *
ddfdw_coded_values(DdfdwSegment *segment, DdfdwCoded *coded, TupleTableSlot *row, dd_type type, uint32 want,
				   const bool **nulls)
{
	decode(segment, coded, row, want);
	if (coded->info.type != type)
		ddfdw_damaged(segment, coded->residual, DD_CORRUPT, "it is of another type");
	*nulls = coded->nulls;
	return coded->values.data;
}
