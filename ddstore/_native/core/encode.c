/* Encoding a column: a survey of its rows, the header, and the coder's payload. */
#include "encode.h"

#include "net.h"

enum {
	LOW_MOST = 62,
	PROBES = 1024,
	RANS_MEAN = 26, /* bits of an average residual above which coder rans leaves some out of its tokens */
	RANS_TOLD = 12	/* how many it keeps then: tokens tell residuals of 31 bits, and others cost 64 */
};

/* What is known of a column's residuals, of those that were looked at. */
typedef struct {
	uint64_t any;	  /* bits that are 1 in one of them */
	uint64_t lengths; /* of all, together */
	uint64_t count;
} residuals;

static void add_residual(residuals *s, const dd_column *c, const dd_rows *rows, uint32_t i, uint64_t q1, uint64_t q2)
{
	uint64_t model = rows->predictions != NULL ? dd_model_index(c, rows->predictions[i]) : 0;
	uint64_t r = rows->index[i] - dd_centre_index(c->centre, (uint64_t)c->drift, q1, q2, model);

	s->any |= r;
	s->lengths += dd_bit_length(dd_zigzag((int64_t)r) >> 1);
	s->count++;
}

/* Are low bits left out of all residuals alike? Some ways of coding do so of each by its own size. */
static bool has_low(const dd_column *c)
{
	return c->mode != DD_MODE_INTERP && c->coder != DD_CODER_NET;
}

/* How many low bits of a residual are noise (coder bsc: nothing). */
static unsigned choose_low(const dd_column *c, const residuals *s)
{
	uint64_t mean = s->count > 0 ? s->lengths / s->count : 0, told = c->coder == DD_CODER_RANS ? RANS_TOLD : c->modelled;

	if (!has_low(c))
		return 0;
	if (c->coder == DD_CODER_BSC) /* those that are zero in all of them */
		return s->any == 0 ? 0 : (unsigned)__builtin_ctzll(s->any | 1ull << LOW_MOST);
	if (mean < told || (c->coder == DD_CODER_RANS && mean <= RANS_MEAN))
		return 0;
	return (unsigned)(mean - told < LOW_MOST ? mean - told : LOW_MOST);
}

/* Some residuals of a column all of whose rows are values. */
static void probe(residuals *s, const dd_column *c, const dd_rows *rows)
{
	uint32_t step = c->n / PROBES + 1;

	for (uint32_t i = 2; i < c->n; i += step)
		add_residual(s, c, rows, i, rows->index[i - 1], rows->index[i - 2]);
}

/* First index, number of exact rows, and (DD_LOW_AUTO) the low bits. */
static void survey(dd_column *c, const dd_rows *rows)
{
	bool look = c->low == DD_LOW_AUTO && has_low(c);
	residuals seen = {0};
	uint64_t q1 = 0, q2 = 0;
	uint32_t values = 0;

	c->escapes = 0;
	c->first = 0;
	for (uint32_t i = 0; i < c->n; i++) {
		if (rows->class != NULL && rows->class[i] != DD_ROW_VALUE) {
			c->escapes += rows->class[i] == DD_ROW_EXACT;
			continue;
		}
		if (c->mode == DD_MODE_RAW)
			continue;
		if (values++ == 0) {
			q1 = q2 = rows->index[i];
			c->first = (int64_t)q1;
		}
		if (rows->class == NULL && (!look || c->coder == DD_CODER_RANS)) {
			if (look)
				probe(&seen, c, rows);
			break;
		}
		if (look)
			add_residual(&seen, c, rows, i, q1, q2);
		q2 = q1;
		q1 = rows->index[i];
	}
	if (c->low == DD_LOW_AUTO)
		c->low = choose_low(c, &seen);
}

/* Does mode interp need weights? Coder net has a net instead. */
static bool fitted(const dd_column *c)
{
	return c->mode == DD_MODE_INTERP && c->coder != DD_CODER_NET && !c->weighed;
}

size_t dd_encode_workspace(const dd_column *c, const dd_model *model)
{
	size_t size = dd_column_workspace(c, model), fit = fitted(c) ? dd_interp_fit_size(c) : 0;

	return size > fit ? size : fit;
}

dd_status dd_column_encode(dd_column *c, const uint64_t *index, const uint8_t *class, const uint64_t *bits,
			   const uint8_t *latents, size_t latents_len, const dd_model *model, uint8_t *out,
			   size_t capacity, size_t *len, void *workspace, size_t workspace_len, dd_error *err)
{
	dd_rows rows = {index, bits, class, NULL};
	dd_writer w = {out, out + capacity, false};
	dd_net net;

	if (c->n == 0 || c->n > DD_MAX_ROWS || workspace_len < dd_encode_workspace(c, model))
		return dd_fail(err, DD_INVALID, "bad arguments to dd_column_encode");
	if (dd_coder_of(c)->encode == NULL)
		return dd_fail(err, DD_UNSUPPORTED, DD_BSC_ABSENT);
	if (c->mode == DD_MODE_BTAE) {
		dd_status status;

		c->model_crc = model != NULL ? model->crc : 0;
		c->latents_crc = dd_crc32c(0, latents, latents_len);
		status = dd_column_predict(c, latents, latents_len, model, c->n, workspace, &rows.predictions, err);
		if (status != DD_OK)
			return status;
	}
	if (c->coder == DD_CODER_NET) {
		dd_status status;

		c->model_crc = model != NULL ? model->crc : 0;
		status = dd_column_net(c, model, &net, err);
		if (status != DD_OK)
			return status;
	}
	survey(c, &rows);
	c->plain = c->coder == DD_CODER_CM && c->low > c->deep ? c->low - c->deep : 0;
	if (fitted(c))
		dd_interp_fit(c, &rows, workspace);
	dd_header_write(c, &w);
	if (c->mode != DD_MODE_LINEAR)
		dd_coder_of(c)->encode(c, &rows, workspace, &w);
	if (!w.full)
		dd_put_le(&w, dd_crc32c(0, out, (size_t)(w.p - out)), 4);
	if (w.full)
		return dd_fail(err, DD_NOSPACE, "the encoded column does not fit");
	*len = (size_t)(w.p - out);
	return DD_OK;
}
