/* Encoding a column: the mirror of column.c, sharing its every prediction through residual.h. */
#include "encode.h"

static void put_header(const dd_column *c, dd_writer *w)
{
	dd_put_u8(w, DD_FORMAT_VERSION);
	dd_put_u8(w, (uint8_t)c->mode);
	dd_put_u8(w, (uint8_t)c->type);
	dd_put_u8(w, (uint8_t)c->flags);
	dd_put_varint(w, c->n);
	dd_put_varint(w, c->escapes);
	if (c->mode == DD_MODE_RAW)
		return;
	dd_put_u8(w, (uint8_t)(c->lattice | (unsigned)c->centre << 2));
	dd_put_u8(w, (uint8_t)c->low);
	if (c->lattice == DD_LATTICE_STEP) {
		dd_put_f64(w, c->step);
		dd_put_f64(w, c->offset);
	} else if (c->lattice == DD_LATTICE_LEVELS) {
		dd_put_varint(w, c->levels);
		for (uint32_t i = 0; i < c->levels; i++) {
			if (i == 0)
				dd_put_zigzag(w, c->level[0]);
			else
				dd_put_varint(w, (uint64_t)c->level[i] - (uint64_t)c->level[i - 1]);
		}
	} else {
		dd_put_zigzag(w, c->mul);
		dd_put_zigzag(w, c->add);
		if (c->lattice == DD_LATTICE_GRID)
			dd_put_varint(w, c->den);
	}
	dd_put_zigzag(w, c->first);
	dd_put_zigzag(w, c->drift);
	if (c->mode == DD_MODE_BTAE) {
		dd_put_le(w, c->model_crc, 4);
		dd_put_le(w, c->latents_crc, 4);
		dd_put_zigzag(w, c->base);
		dd_put_zigzag(w, c->scale);
	}
}

/* First index, number of exact rows, and (DD_LOW_AUTO) how many low bits of a residual are noise. */
static void survey(dd_column *c, const uint64_t *index, const uint8_t *class, const int32_t *predictions)
{
	uint64_t lengths = 0, values = 0;
	bool seen = false;
	dd_history h;

	c->escapes = 0;
	c->first = 0;
	dd_history_start(&h, c->centre, 0, c->drift, 0);
	for (uint32_t i = 0; i < c->n; i++) {
		uint64_t centre;

		if (class != NULL && class[i] != DD_ROW_VALUE) {
			c->escapes += class[i] == DD_ROW_EXACT;
			continue;
		}
		if (!seen) {
			c->first = (int64_t)index[i];
			dd_history_start(&h, c->centre, 0, c->drift, c->first);
			seen = true;
		}
		centre = dd_history_centre(&h, predictions != NULL ? dd_model_index(c, predictions[i]) : 0);
		lengths += dd_bit_length(dd_zigzag((int64_t)(index[i] - centre)) >> 1);
		values++;
		h.q2 = h.q1;
		h.q1 = index[i];
	}
	if (c->low == DD_LOW_AUTO) {
		uint64_t mean = values > 0 ? lengths / values : 0;

		c->low = mean > 4 ? (unsigned)(mean - 4) : 0;
	}
}

dd_status dd_column_encode(dd_column *c, const uint64_t *index, const uint8_t *class, const uint64_t *bits,
			   const uint8_t *latents, size_t latents_len, const dd_model *model, uint8_t *out,
			   size_t capacity, size_t *len, void *workspace, size_t workspace_len, dd_error *err)
{
	unsigned width = (unsigned)dd_type_width(c->type) * 8;
	const int32_t *predictions = NULL;
	dd_mixer *mx = workspace;
	dd_history h;
	dd_coder io;
	dd_writer w = {out, out + capacity, false};

	if (c->n == 0 || c->n > DD_MAX_ROWS || workspace_len < dd_column_workspace(c, model))
		return dd_fail(err, DD_INVALID, "bad arguments to dd_column_encode");
	if (c->mode == DD_MODE_BTAE) {
		dd_status status;

		c->model_crc = model != NULL ? model->crc : 0;
		c->latents_crc = dd_crc32c(0, latents, latents_len);
		status = dd_column_predict(c, latents, latents_len, model, c->n, workspace, &predictions, err);
		if (status != DD_OK)
			return status;
	}
	survey(c, index, class, predictions);
	put_header(c, &w);
	if (c->mode != DD_MODE_LINEAR) {
		uint8_t *floor = w.p;

		dd_mixer_start(mx);
		dd_rc_encoder_start(&io.enc, w);
		dd_history_start(&h, c->centre, c->low, c->drift, c->first);
		for (uint32_t i = 0; i < c->n && !io.enc.out.full; i++) {
			unsigned k = class != NULL ? class[i] : DD_ROW_VALUE;

			if (c->flags & DD_FLAG_EXCEPTIONS)
				dd_code_class(&h, mx, &io, false, k);
			if (k == DD_ROW_EXACT || (k == DD_ROW_VALUE && c->mode == DD_MODE_RAW))
				dd_rc_encode_bits(&io.enc, bits[i], width);
			else if (k == DD_ROW_VALUE)
				dd_code_index(&h, mx, &io, false,
					      predictions != NULL ? dd_model_index(c, predictions[i]) : 0, index[i]);
		}
		w = dd_rc_finish(&io.enc, floor);
	}
	if (!w.full)
		dd_put_le(&w, dd_crc32c(0, out, (size_t)(w.p - out)), 4);
	if (w.full)
		return dd_fail(err, DD_NOSPACE, "the encoded column does not fit");
	*len = (size_t)(w.p - out);
	return DD_OK;
}
