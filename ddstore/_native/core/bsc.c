/*
 * Coder 3: residuals as narrow integers through libbsc's block sorter, as in the Deep Dict paper.
 *
 * Only in builds with DD_WITH_BSC; the others know its number and header, and say what they lack. libbsc keeps none of
 * the core's promises: it allocates for itself, it has globals, and bytes that it did not write can make it damage
 * memory. Hence dd_column_decode_trusting; what is checked below stops accidents, not attacks.
 */
#include "coder.h"
#include "residual.h"
#include "runs.h"

#ifdef DD_WITH_BSC
#include <libbsc.h>
#include <pthread.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error libbsc writes its numbers in the order of the machine
#endif

enum { CODER = LIBBSC_CODER_QLFC_ADAPTIVE, SORTER = LIBBSC_BLOCKSORTER_BWT, FEATURES = LIBBSC_FEATURE_FASTMODE };
enum { BLOCK_STORED = 0, BLOCK_CODED = SORTER | CODER << 5, BLOCK_MODE_AT = 8 };

typedef struct {
	dd_runs runs;
	const uint8_t *residual; /* of the next row that has one */
	unsigned width;
	uint64_t q1, q2;
} state;

/* The state, room for 8 bytes of each residual and, encoding, for the block made of them. */
static size_t workspace(const dd_column *c)
{
	return dd_align(sizeof(state)) + 2 * dd_align((size_t)c->n * 8 + LIBBSC_HEADER_SIZE);
}

static void initialise(void)
{
	bsc_init(FEATURES);
}

static void ready(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT; /* for libbsc's tables */

	pthread_once(&once, initialise);
}

static dd_status open(const dd_column *c, const uint8_t *payload, const uint8_t *end, void *memory, dd_error *err)
{
	state *s = memory;
	uint8_t *residual = (uint8_t *)memory + dd_align(sizeof *s);
	dd_reader r = {payload, end, false};
	uint32_t count[8] = {0};
	int block, data, mode;
	dd_status status;
	size_t size;

	*s = (state){.residual = residual, .q1 = (uint64_t)c->first, .q2 = (uint64_t)c->first};
	status = dd_runs_open(&s->runs, c, &r, count, err);
	if (status != DD_OK)
		return status;
	s->width = dd_get_u8(&r);
	size = (size_t)count[DD_ROW_VALUE] * s->width;
	if (r.bad || s->width > 8)
		return dd_fail(err, DD_CORRUPT, "impossible width of residuals");
	if (size == 0)
		return r.p == end ? DD_OK : dd_fail(err, DD_CORRUPT, "bytes behind the end");
	ready();
	if (r.end - r.p < LIBBSC_HEADER_SIZE ||
	    bsc_block_info(r.p, LIBBSC_HEADER_SIZE, &block, &data, FEATURES) != LIBBSC_NO_ERROR)
		return dd_fail(err, DD_CORRUPT, "no block of libbsc");
	memcpy(&mode, r.p + BLOCK_MODE_AT, sizeof mode);
	if (block != r.end - r.p || (size_t)data != size || (mode != BLOCK_STORED && mode != BLOCK_CODED))
		return dd_fail(err, DD_CORRUPT, "another block of libbsc than the column's");
	switch (bsc_decompress(r.p, block, residual, data, FEATURES)) {
	case LIBBSC_NO_ERROR:
		return DD_OK;
	case LIBBSC_NOT_ENOUGH_MEMORY:
		return dd_fail(err, DD_NOSPACE, "libbsc finds no memory");
	default:
		return dd_fail(err, DD_CORRUPT, "a damaged block of libbsc");
	}
}

static void decode(const dd_column *c, void *memory, const int32_t *predictions, uint32_t rows, uint64_t *word,
		   uint8_t *class)
{
	state *s = memory;
	unsigned unused = s->width > 0 ? 64 - 8 * s->width : 0;
	bool exceptions = (c->flags & DD_FLAG_EXCEPTIONS) != 0;

	for (uint32_t i = 0; i < rows; i++) {
		unsigned k = dd_runs_next(&s->runs);

		if (exceptions)
			class[i] = (uint8_t)k;
		if (k == DD_ROW_EXACT) {
			word[i] = dd_take_le(&s->runs.exact, dd_type_width(c->type));
		} else if (k == DD_ROW_VALUE) {
			uint64_t e = (uint64_t)dd_shift_right(dd_take_le(&s->residual, s->width) << unused, unused);
			uint64_t model = predictions != NULL ? dd_model_index(c, predictions[i]) : 0;

			word[i] = dd_centre_index(c->centre, (uint64_t)c->drift, s->q1, s->q2, model) + (e << c->low);
			s->q2 = s->q1;
			s->q1 = word[i];
		} else {
			word[i] = 0;
		}
	}
}

/* Residuals without their low bits, which are zeros; returns how many. `*width`: bytes that hold each, 0 for zeros. */
static uint32_t list_residuals(const dd_column *c, const dd_rows *rows, int64_t *residual, unsigned *width)
{
	uint64_t q1 = (uint64_t)c->first, q2 = q1, any = 0, widest = 0;
	uint32_t count = 0;

	for (uint32_t i = 0; i < c->n; i++) {
		uint64_t model = rows->predictions != NULL ? dd_model_index(c, rows->predictions[i]) : 0, q;
		int64_t e;

		if (rows->class != NULL && rows->class[i] != DD_ROW_VALUE)
			continue;
		q = rows->index[i];
		e = dd_shift_right(q - dd_centre_index(c->centre, (uint64_t)c->drift, q1, q2, model), c->low);
		any |= (uint64_t)e;
		widest |= e < 0 ? ~(uint64_t)e : (uint64_t)e;
		residual[count++] = e;
		q2 = q1;
		q1 = q;
	}
	*width = any == 0 ? 0 : dd_bit_length(widest) / 8 + 1;
	return count;
}

static void encode(const dd_column *c, const dd_rows *rows, void *memory, dd_writer *w)
{
	uint8_t *bytes = memory, *block = bytes + dd_align((size_t)c->n * 8);
	unsigned width;
	uint32_t count;
	int size;

	dd_put_runs(c, rows, w);
	count = list_residuals(c, rows, memory, &width);
	dd_put_u8(w, (uint8_t)width);
	if (width == 0)
		return;
	for (uint32_t i = 0; i < count; i++) /* in place: each moves down */
		memmove(bytes + (size_t)i * width, bytes + (size_t)i * 8, width);
	ready();
	size = bsc_compress(bytes, block, (int)(count * width), 0, 0, SORTER, CODER, FEATURES);
	if (size < 0 || size > w->end - w->p) {
		w->full = true;
		return;
	}
	memcpy(w->p, block, (size_t)size);
	w->p += size;
}

const dd_coder dd_coder_bsc = {workspace, open, decode, encode};

#else

static size_t workspace(const dd_column *c)
{
	(void)c;
	return 0;
}

static dd_status open(const dd_column *c, const uint8_t *payload, const uint8_t *end, void *memory, dd_error *err)
{
	(void)c, (void)payload, (void)end, (void)memory;
	return dd_fail(err, DD_UNSUPPORTED, DD_BSC_ABSENT);
}

const dd_coder dd_coder_bsc = {workspace, open, NULL, NULL};

#endif
