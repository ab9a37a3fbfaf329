/* Encoding a column: a survey of its rows, the header, and the coder's payload. */
#include "encode.h"

#include "net.h"

/* First index, number of exact rows, and (DD_LOW_AUTO) how many low bits of a residual are noise (coder bsc: nothing). */
static void survey(dd_column *c, const dd_rows *rows)
{
	uint64_t lengths = 0, values = 0, any = 0, q1 = 0, q2 = 0;
	bool seen = false, whole = c->mode == DD_MODE_INTERP || c->coder == DD_CODER_RANS || c->coder == DD_CODER_NET;

	c->escapes = 0;
	c->first = 0;
	for (uint32_t i = 0; i < c->n; i++) {
		uint64_t centre;

		if (rows->class != NULL && rows->class[i] != DD_ROW_VALUE) {
			c->escapes += rows->class[i] == DD_ROW_EXACT;
			continue;
		}
		if (c->mode == DD_MODE_RAW)
			continue;
		if (!seen) {
			q1 = q2 = rows->index[i];
			c->first = (int64_t)q1;
			seen = true;
		}
		if (whole && rows->class == NULL)
			break;
		if (whole)
			continue;
		centre = dd_centre_index(c->centre, (uint64_t)c->drift, q1, q2,
					 rows->predictions != NULL ? dd_model_index(c, rows->predictions[i]) : 0);
		any |= rows->index[i] - centre;
		lengths += dd_bit_length(dd_zigzag((int64_t)(rows->index[i] - centre)) >> 1);
		values++;
		q2 = q1;
		q1 = rows->index[i];
	}
	if (c->low == DD_LOW_AUTO) {
		uint64_t mean = values > 0 ? lengths / values : 0, most = 62;

		if (whole) /* rans and net leave out bits of each residual by its own size */
			c->low = 0;
		else if (c->coder == DD_CODER_BSC) /* those that are zero in all of them */
			c->low = any == 0 ? 0 : (unsigned)__builtin_ctzll(any | 1ull << 62);
		else
			c->low = (unsigned)(mean < c->modelled ? 0 : mean - c->modelled < most ? mean - c->modelled : most);
	}
}

size_t dd_encode_workspace(const dd_column *c, const dd_model *model)
{
	size_t size = dd_column_workspace(c, model), fit = c->mode == DD_MODE_INTERP ? dd_interp_fit_size(c) : 0;

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
	if (c->mode == DD_MODE_INTERP && !c->weighed)
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
