/* Decoding a column: header, checks, then one pass over the rows. docs/format.md is the specification. */
#include "column.h"

#include "btae.h"

static const char damaged[] = "checksum mismatch: the bytes are damaged";

static dd_status parse(const uint8_t *bytes, size_t len, dd_column *c, dd_reader *r, dd_error *err)
{
	unsigned version, kind;
	uint64_t n, escapes;

	if (len < 12)
		return dd_fail(err, DD_CORRUPT, "too short for a column");
	*r = (dd_reader){bytes + len - 4, bytes + len, false};
	if (dd_get_le(r, 4) != dd_crc32c(0, bytes, len - 4))
		return dd_fail(err, DD_CORRUPT, damaged);
	*r = (dd_reader){bytes, bytes + len - 4, false};
	version = dd_get_u8(r);
	if (version != DD_FORMAT_VERSION)
		return dd_fail(err, DD_UNSUPPORTED, "written by a newer format version: upgrade ddstore");
	*c = (dd_column){0};
	c->mode = (dd_mode)dd_get_u8(r);
	c->type = (dd_type)dd_get_u8(r);
	c->flags = dd_get_u8(r);
	n = dd_get_varint(r);
	escapes = dd_get_varint(r);
	if (c->mode > DD_MODE_LINEAR)
		return dd_fail(err, DD_UNSUPPORTED, "unknown mode: upgrade ddstore");
	if (c->type < DD_INT16 || c->type > DD_FLOAT64 || c->flags > 15 || n == 0 || n > DD_MAX_ROWS || escapes > n)
		return dd_fail(err, DD_CORRUPT, "impossible column header");
	c->n = (uint32_t)n;
	c->escapes = (uint32_t)escapes;
	if (c->mode == DD_MODE_RAW)
		return r->bad ? dd_fail(err, DD_CORRUPT, "truncated header") : DD_OK;

	kind = dd_get_u8(r);
	c->lattice = (dd_lattice_kind)(kind & 3);
	c->centre = (dd_centre)(kind >> 2);
	c->low = dd_get_u8(r);
	if (c->lattice == DD_LATTICE_STEP) {
		c->step = dd_get_f64(r);
		c->offset = dd_get_f64(r);
	} else if (c->lattice == DD_LATTICE_LEVELS) {
		uint64_t levels = dd_get_varint(r);

		if (levels == 0 || levels > DD_MAX_LEVELS)
			return dd_fail(err, DD_CORRUPT, "impossible number of levels");
		c->levels = (uint32_t)levels;
		c->level_at = r->p;
		for (uint32_t i = 0; i < c->levels; i++)
			dd_get_varint(r);
	} else {
		c->mul = dd_get_zigzag(r);
		c->add = dd_get_zigzag(r);
		c->den = c->lattice == DD_LATTICE_GRID ? dd_get_varint(r) : 1;
	}
	c->first = dd_get_zigzag(r);
	c->drift = dd_get_zigzag(r);
	if (c->mode == DD_MODE_BTAE) {
		c->model_crc = (uint32_t)dd_get_le(r, 4);
		c->latents_crc = (uint32_t)dd_get_le(r, 4);
		c->base = dd_get_zigzag(r);
		c->scale = dd_get_zigzag(r);
	}
	if (r->bad)
		return dd_fail(err, DD_CORRUPT, "truncated header");
	if (kind > 11 || c->low > 62 || c->scale < 0 || c->scale > DD_SCALE_MAX ||
	    c->den > (uint64_t)1 << 53 || (c->lattice == DD_LATTICE_GRID && c->den == 0) ||
	    (c->centre == DD_CENTRE_MODEL) != (c->mode == DD_MODE_BTAE) ||
	    (c->type < DD_FLOAT32 && (c->lattice != DD_LATTICE_GRID || c->den != 1)))
		return dd_fail(err, DD_CORRUPT, "impossible lattice");
	return DD_OK;
}

/* Lattice index -> value, in the column's own type. */
DD_INLINE void put_index(const dd_column *c, dd_type type, dd_lattice_kind lattice, uint64_t q, void *values, uint32_t i)
{
	uint64_t k = q * (uint64_t)c->mul + (uint64_t)c->add;
	double v;

	if (lattice == DD_LATTICE_LEVELS)
		k = (uint64_t)c->level[q < c->levels ? q : c->levels - 1]; /* only damaged bytes lead beyond the list */
	if (lattice >= DD_LATTICE_ORDINAL) {
		/* Two's complement order -> sign and magnitude: the inverse of the encoder's monotone map. */
		if (type == DD_FLOAT32) {
			uint32_t o = (uint32_t)k, bits = o >> 31 ? (0u - o) | 0x80000000u : o;

			memcpy((float *)values + i, &bits, sizeof bits);
		} else {
			uint64_t bits = k >> 63 ? (0 - k) | 1ull << 63 : k;

			memcpy((double *)values + i, &bits, sizeof bits);
		}
		return;
	}
	switch (type) {
	case DD_INT16:
		((uint16_t *)values)[i] = (uint16_t)k;
		return;
	case DD_INT32:
		((uint32_t *)values)[i] = (uint32_t)k;
		return;
	case DD_INT64:
		((uint64_t *)values)[i] = k;
		return;
	default:
		break;
	}
	if (lattice == DD_LATTICE_GRID)
		v = (double)(int64_t)k / (double)c->den;
	else
		v = (double)(int64_t)q * c->step + c->offset;
	if (type == DD_FLOAT32)
		((float *)values)[i] = (float)v;
	else
		((double *)values)[i] = c->flags & DD_FLAG_VIA_FLOAT32 ? (double)(float)v : v;
}

static void put_bits(dd_type type, uint64_t bits, void *values, uint32_t i)
{
	size_t width = dd_type_width(type);
	uint8_t little[8];

	for (unsigned b = 0; b < 8; b++)
		little[b] = (uint8_t)(bits >> (8 * b));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	for (unsigned b = 0; b < width; b++)
		((uint8_t *)values)[i * width + b] = little[width - 1 - b];
#else
	memcpy((uint8_t *)values + i * width, little, width);
#endif
}

static uint64_t exception_bits(dd_type type, unsigned class, dd_coder *io)
{
	switch (class) {
	case DD_ROW_NAN:
		return type == DD_FLOAT32 ? 0x7fc00000u : 0x7ff8000000000000u;
	case DD_ROW_NEGATIVE_ZERO:
		return type == DD_FLOAT32 ? 0x80000000u : 1ull << 63;
	case DD_ROW_EXACT:
		return dd_rc_decode_bits(&io->dec, (unsigned)dd_type_width(type) * 8);
	default:
		return 0; /* NULL */
	}
}

/* The one loop over rows; `type` and `lattice` are constants at each call, so that each pair gets a tight loop. */
DD_INLINE void decode_rows(const dd_column *c, dd_type type, dd_lattice_kind lattice, const int32_t *predictions,
			   dd_mixer *mx, dd_coder *io, uint32_t want, void *values, uint8_t *valid)
{
	dd_history h;
	bool raw = c->mode == DD_MODE_RAW, exceptions = (c->flags & DD_FLAG_EXCEPTIONS) != 0;

	dd_history_start(&h, c->centre, c->low, c->drift, c->first);
	for (uint32_t i = 0; i < want; i++) {
		unsigned class = exceptions ? dd_code_class(&h, mx, io, true, 0) : DD_ROW_VALUE;

		if (class != DD_ROW_VALUE)
			put_bits(type, exception_bits(type, class, io), values, i);
		else if (raw)
			put_bits(type, dd_rc_decode_bits(&io->dec, (unsigned)dd_type_width(type) * 8), values, i);
		else {
			uint64_t model = predictions != NULL ? dd_model_index(c, predictions[i]) : 0;

			put_index(c, type, lattice, dd_code_index(&h, mx, io, true, model, 0), values, i);
		}
		if (valid != NULL)
			valid[i] = class != DD_ROW_NULL;
	}
}

DD_INLINE void linear_rows(const dd_column *c, dd_type type, dd_lattice_kind lattice, uint32_t want, void *values,
			   uint8_t *valid)
{
	for (uint32_t i = 0; i < want; i++)
		put_index(c, type, lattice, (uint64_t)c->first + i * (uint64_t)c->drift, values, i);
	if (valid != NULL)
		memset(valid, 1, want);
}

/* The ordinals of the levels, from their differences. */
static void list_levels(dd_column *c, int64_t *level)
{
	dd_reader r = {c->level_at, c->level_at + (size_t)c->levels * 10, false}; /* parse() has read them once */
	uint64_t at = 0;

	for (uint32_t i = 0; i < c->levels; i++) {
		uint64_t step = dd_get_varint(&r);

		at = i == 0 ? (uint64_t)dd_unzigzag(step) : at + step;
		level[i] = (int64_t)at;
	}
	c->level = level;
}

size_t dd_column_workspace(const dd_column *c, const dd_model *model)
{
	size_t size = dd_align(sizeof(dd_mixer));
	dd_btae btae;

	size += dd_align(c->levels * sizeof(int64_t));
	if (c->mode == DD_MODE_BTAE && model != NULL && dd_btae_open(model->btae, model->btae_len, &btae, NULL) == DD_OK) {
		size_t windows = (c->n + btae.window - 1) / btae.window;

		size += dd_align(windows * btae.window * sizeof(int32_t));
		size += dd_btae_scratch(&btae);
	}
	return size;
}

dd_status dd_column_predict(const dd_column *c, const uint8_t *latents, size_t latents_len, const dd_model *model,
			    uint32_t rows, uint8_t *workspace, const int32_t **predictions, dd_error *err)
{
	uint8_t *at = workspace + dd_align(sizeof(dd_mixer)) + dd_align(c->levels * sizeof(int64_t));
	dd_btae btae;
	size_t windows, bytes;
	dd_status status;

	if (model == NULL)
		return dd_fail(err, DD_CORRUPT, "this column needs its model");
	if (model->crc != c->model_crc)
		return dd_fail(err, DD_CORRUPT, "the model given is not the one this column was encoded with");
	status = dd_btae_open(model->btae, model->btae_len, &btae, err);
	if (status != DD_OK)
		return status;
	windows = (c->n + btae.window - 1) / btae.window;
	bytes = windows * dd_btae_latent_bytes(&btae);
	if (latents_len != bytes || dd_crc32c(0, latents, latents_len) != c->latents_crc)
		return dd_fail(err, DD_CORRUPT, "the latents are damaged or belong to another column");
	dd_btae_predict(&btae, latents, (rows + btae.window - 1) / btae.window, (int32_t *)(void *)at,
			at + dd_align(windows * btae.window * sizeof(int32_t)));
	*predictions = (const int32_t *)(const void *)at;
	return DD_OK;
}

dd_status dd_model_open(const uint8_t *bytes, size_t len, dd_model *model, dd_error *err)
{
	dd_btae btae;
	dd_reader r;

	if (len < 5)
		return dd_fail(err, DD_CORRUPT, "too short for a model");
	r = (dd_reader){bytes + len - 4, bytes + len, false};
	model->crc = (uint32_t)dd_get_le(&r, 4);
	if (model->crc != dd_crc32c(0, bytes, len - 4))
		return dd_fail(err, DD_CORRUPT, damaged);
	model->btae = bytes;
	model->btae_len = len - 4;
	return dd_btae_open(model->btae, model->btae_len, &btae, err);
}

dd_status dd_column_peek(const uint8_t *residual, size_t residual_len, const dd_model *model, dd_column_info *info,
			 dd_error *err)
{
	dd_column c;
	dd_reader r;
	dd_status status = parse(residual, residual_len, &c, &r, err);

	if (status != DD_OK)
		return status;
	*info = (dd_column_info){.type = c.type,
				 .mode = c.mode,
				 .n = c.n,
				 .has_invalid = (c.flags & DD_FLAG_NULLS) != 0,
				 .needs_model = c.mode == DD_MODE_BTAE,
				 .model_crc = c.model_crc,
				 .escapes = c.escapes,
				 .exact = (c.flags & DD_FLAG_EXACT) != 0,
				 .workspace = dd_column_workspace(&c, model)};
	return DD_OK;
}

dd_status dd_column_decode(const uint8_t *residual, size_t residual_len, const uint8_t *latents, size_t latents_len,
			   const dd_model *model, dd_type type, uint32_t n, uint32_t want, void *values, uint8_t *valid,
			   void *workspace, size_t workspace_len, dd_error *err)
{
	const int32_t *predictions = NULL;
	dd_mixer *mx = workspace;
	dd_coder io;
	dd_column c;
	dd_reader r;
	dd_status status = parse(residual, residual_len, &c, &r, err);

	if (status != DD_OK)
		return status;
	if (c.type != type || c.n != n)
		return dd_fail(err, DD_CORRUPT, "the column's type or count is not its segment's");
	if (want > n || (valid == NULL && (c.flags & DD_FLAG_NULLS)) || workspace_len < dd_column_workspace(&c, model))
		return dd_fail(err, DD_INVALID, "bad arguments to dd_column_decode");
	if (c.mode == DD_MODE_BTAE) {
		status = dd_column_predict(&c, latents, latents_len, model, want, workspace, &predictions, err);
		if (status != DD_OK)
			return status;
	}
	if (c.lattice == DD_LATTICE_LEVELS)
		list_levels(&c, (int64_t *)(void *)((uint8_t *)workspace + dd_align(sizeof(dd_mixer))));
	if (c.mode != DD_MODE_LINEAR) {
		dd_mixer_start(mx);
		dd_rc_decoder_start(&io.dec, r.p, r.end);
	}

#define ROWS(T, L)                                                                                  \
	do {                                                                                         \
		if (c.mode == DD_MODE_LINEAR)                                                        \
			linear_rows(&c, T, L, want, values, valid);                                  \
		else                                                                                 \
			decode_rows(&c, T, L, predictions, mx, &io, want, values, valid);            \
	} while (0)
	switch (c.lattice * 8 + c.type) {
	case DD_LATTICE_GRID * 8 + DD_INT16:
		ROWS(DD_INT16, DD_LATTICE_GRID);
		break;
	case DD_LATTICE_GRID * 8 + DD_INT32:
		ROWS(DD_INT32, DD_LATTICE_GRID);
		break;
	case DD_LATTICE_GRID * 8 + DD_INT64:
		ROWS(DD_INT64, DD_LATTICE_GRID);
		break;
	case DD_LATTICE_GRID * 8 + DD_FLOAT32:
		ROWS(DD_FLOAT32, DD_LATTICE_GRID);
		break;
	case DD_LATTICE_GRID * 8 + DD_FLOAT64:
		ROWS(DD_FLOAT64, DD_LATTICE_GRID);
		break;
	default:
		ROWS(c.type, c.lattice);
	}
#undef ROWS
	return DD_OK;
}

dd_status dd_times_decode(const uint8_t *bytes, size_t len, uint32_t n, uint32_t want, int64_t *time, void *workspace,
			  size_t workspace_len, dd_error *err)
{
	dd_column_info info;
	dd_status status = dd_column_peek(bytes, len, NULL, &info, err);

	if (status != DD_OK)
		return status;
	if (info.has_invalid || info.needs_model || !info.exact)
		return dd_fail(err, DD_CORRUPT, "these bytes are no timestamps");
	return dd_column_decode(bytes, len, NULL, 0, NULL, DD_INT64, n, want, time, NULL, workspace, workspace_len, err);
}
