/* A column's header, read and written. docs/format.md is the specification. */
#include "coder.h"

/* Infinities make NaNs, whose sign is the CPU's choice. */
static bool finite_number(double x)
{
	return x - x == 0;
}

/* Which coders code which modes, and which can be conditioned on other columns. */
bool dd_header_fits(const dd_column *c)
{
	bool cm = c->coder == DD_CODER_CM, net = c->coder == DD_CODER_NET;

	if ((c->flags & DD_FLAG_SIDES) && !cm)
		return false;
	if ((c->flags & DD_FLAG_SHAPES) && (!cm || c->mode == DD_MODE_INTERP || (c->flags & DD_FLAG_SIDES)))
		return false;
	if ((c->flags & DD_FLAG_MATCHES) && (!cm || c->mode == DD_MODE_INTERP))
		return false;
	if ((c->flags & DD_FLAG_SHORTEST) && (c->type != DD_FLOAT64 || !(c->flags & DD_FLAG_VIA_FLOAT32)))
		return false;
	if (c->centre == DD_CENTRE_LEVEL && (c->mode != DD_MODE_LATTICE || cm || net))
		return false;
	switch (c->mode) {
	case DD_MODE_RAW:
	case DD_MODE_LINEAR:
		return c->coder == 0;
	case DD_MODE_BTAE:
		return !cm && !net;
	case DD_MODE_INTERP:
		return cm || net || c->coder == DD_CODER_RANS;
	case DD_MODE_ADAPTIVE:
		return cm;
	default:
		return !net || c->centre == DD_CENTRE_LAST;
	}
}

/* How many weights are stored of a set: coder rans has no other column to weigh, and a net does without any. */
static unsigned weights_of(const dd_column *c)
{
	return c->coder == DD_CODER_NET ? 0 : c->coder == DD_CODER_RANS ? DD_INTERP_WEIGHTS - 1 : DD_INTERP_WEIGHTS;
}

static void get_interp(dd_column *c, dd_reader *r)
{
	c->width = dd_get_varint(r);
	c->stride = dd_get_u8(r);
	for (unsigned s = 0; s < DD_INTERP_SETS; s++)
		for (unsigned k = 0; k < weights_of(c); k++)
			c->weight[s][k] = (int8_t)dd_get_u8(r);
}

static void get_parameters(dd_column *c, dd_reader *r)
{
	c->plain = c->coder == DD_CODER_CM ? dd_get_u8(r) : 0;
	if (c->mode == DD_MODE_INTERP)
		get_interp(c, r);
	c->sides = c->flags & DD_FLAG_SIDES ? dd_get_u8(r) : 0;
	for (unsigned k = 0; k < c->sides && k < DD_SIDES_MOST; k++) {
		c->side[k].crc = (uint32_t)dd_get_le(r, 4);
		c->side[k].scale = dd_get_f64(r);
		c->side[k].offset = dd_get_f64(r);
		c->side[k].low = dd_get_u8(r);
	}
}

bool dd_header_impossible(const dd_column *c)
{
	if (c->plain > c->low || c->sides > DD_SIDES_MOST || ((c->flags & DD_FLAG_SIDES) && c->sides == 0))
		return true;
	for (unsigned k = 0; k < c->sides; k++)
		if (c->side[k].low > 62)
			return true;
	return c->mode == DD_MODE_INTERP &&
	       (c->width == 0 || c->width > (uint64_t)1 << 40 || c->stride > DD_INTERP_STRIDE_MOST || c->low > 0 ||
		c->lattice > DD_LATTICE_STEP);
}

static void put_parameters(const dd_column *c, dd_writer *w)
{
	if (c->coder == DD_CODER_CM)
		dd_put_u8(w, (uint8_t)c->plain);
	if (c->mode == DD_MODE_INTERP) {
		dd_put_varint(w, c->width);
		dd_put_u8(w, (uint8_t)c->stride);
		for (unsigned s = 0; s < DD_INTERP_SETS; s++)
			for (unsigned k = 0; k < weights_of(c); k++)
				dd_put_u8(w, (uint8_t)c->weight[s][k]);
	}
	if (c->flags & DD_FLAG_SIDES)
		dd_put_u8(w, (uint8_t)c->sides);
	for (unsigned k = 0; k < c->sides; k++) {
		dd_put_le(w, c->side[k].crc, 4);
		dd_put_f64(w, c->side[k].scale);
		dd_put_f64(w, c->side[k].offset);
		dd_put_u8(w, (uint8_t)c->side[k].low);
	}
}

static void get_net(dd_column *c, dd_reader *r)
{
	uint32_t bits;

	c->model_crc = (uint32_t)dd_get_le(r, 4);
	if (c->mode == DD_MODE_INTERP)
		return;
	c->base = dd_get_zigzag(r);
	bits = (uint32_t)dd_get_le(r, 4);
	memcpy(&c->unit, &bits, sizeof bits);
}

static void put_net(const dd_column *c, dd_writer *w)
{
	uint32_t bits;

	memcpy(&bits, &c->unit, sizeof bits);
	dd_put_le(w, c->model_crc, 4);
	if (c->mode == DD_MODE_INTERP)
		return;
	dd_put_zigzag(w, c->base);
	dd_put_le(w, bits, 4);
}

/* A level is measured in a finite unit, and a cell has as many indices as the net makes it have. */
static bool impossible_net(const dd_column *c)
{
	return !(c->unit >= 0 && c->unit <= 1e18f) || c->low > 0 || c->drift != 0 || c->centre != DD_CENTRE_LAST;
}

dd_status dd_header_read(const uint8_t *bytes, size_t len, dd_column *c, dd_reader *r, dd_error *err)
{
	unsigned version, kind, coding;
	uint64_t n, escapes;

	*r = (dd_reader){bytes, bytes + len, false};
	version = dd_get_u8(r);
	if (version != DD_FORMAT_VERSION)
		return dd_fail(err, DD_UNSUPPORTED, "written by a newer format version: upgrade ddstore");
	*c = (dd_column){0};
	coding = dd_get_u8(r);
	c->mode = (dd_mode)(coding & 15);
	c->coder = coding >> 4;
	c->type = (dd_type)dd_get_u8(r);
	c->flags = dd_get_u8(r);
	n = dd_get_varint(r);
	escapes = dd_get_varint(r);
	if (c->mode > DD_MODE_ADAPTIVE)
		return dd_fail(err, DD_UNSUPPORTED, "unknown mode: upgrade ddstore");
	if (dd_coder_numbered(c->coder) == NULL)
		return dd_fail(err, DD_UNSUPPORTED, "unknown coder: upgrade ddstore");
	if (c->type < DD_INT16 || c->type > DD_FLOAT64 || n == 0 || n > DD_MAX_ROWS || escapes > n ||
	    !dd_header_fits(c))
		return dd_fail(err, DD_CORRUPT, "impossible column header");
	c->n = (uint32_t)n;
	c->escapes = (uint32_t)escapes;
	if (c->mode == DD_MODE_RAW)
		return r->bad ? dd_fail(err, DD_CORRUPT, "truncated header") : DD_OK;

	kind = dd_get_u8(r);
	c->lattice = (dd_lattice_kind)(kind & 3);
	c->centre = (dd_centre)(kind >> 2 & 3);
	c->cascade = kind & DD_KIND_CASCADE;
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
	get_parameters(c, r);
	if (c->coder == DD_CODER_NET)
		get_net(c, r);
	if (r->bad)
		return dd_fail(err, DD_CORRUPT, "truncated header");
	if (dd_header_impossible(c))
		return dd_fail(err, DD_CORRUPT, "impossible parameters of the coder");
	if (c->coder == DD_CODER_NET && impossible_net(c))
		return dd_fail(err, DD_CORRUPT, "impossible parameters of the coder");
	if ((kind & ~DD_KIND_CASCADE) > 15 || (c->cascade && c->mode != DD_MODE_ADAPTIVE) || c->low > 62 ||
	    c->scale < 0 || c->scale > DD_SCALE_MAX || c->den > (uint64_t)1 << 53 ||
	    (c->lattice == DD_LATTICE_GRID && c->den == 0) ||
	    (c->centre == DD_CENTRE_MODEL) != (c->mode == DD_MODE_BTAE) || !finite_number(c->step) || !finite_number(c->offset) ||
	    (c->type < DD_FLOAT32 && (c->lattice != DD_LATTICE_GRID || c->den != 1)))
		return dd_fail(err, DD_CORRUPT, "impossible lattice");
	return DD_OK;
}

dd_status dd_header_parse(const uint8_t *bytes, size_t len, dd_column *c, dd_reader *r, dd_error *err)
{
	if (len < 12)
		return dd_fail(err, DD_CORRUPT, "too short for a column");
	*r = (dd_reader){bytes + len - 4, bytes + len, false};
	if (dd_get_le(r, 4) != dd_crc32c(0, bytes, len - 4))
		return dd_fail(err, DD_CORRUPT, "checksum mismatch: the bytes are damaged");
	return dd_header_read(bytes, len - 4, c, r, err);
}

/* The ordinals of the levels, from their differences. */
void dd_header_levels(dd_column *c, int64_t *level)
{
	dd_reader r = {c->level_at, c->level_at + (size_t)c->levels * 10, false}; /* dd_header_parse has read them once */
	uint64_t at = 0;

	for (uint32_t i = 0; i < c->levels; i++) {
		uint64_t step = dd_get_varint(&r);

		at = i == 0 ? (uint64_t)dd_unzigzag(step) : at + step;
		level[i] = (int64_t)at;
	}
	c->level = level;
}

void dd_header_write(const dd_column *c, dd_writer *w)
{
	dd_put_u8(w, DD_FORMAT_VERSION);
	dd_put_u8(w, (uint8_t)((unsigned)c->mode | c->coder << 4));
	dd_put_u8(w, (uint8_t)c->type);
	dd_put_u8(w, (uint8_t)c->flags);
	dd_put_varint(w, c->n);
	dd_put_varint(w, c->escapes);
	if (c->mode == DD_MODE_RAW)
		return;
	dd_put_u8(w, (uint8_t)(c->lattice | (unsigned)c->centre << 2 | (c->cascade ? DD_KIND_CASCADE : 0)));
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
	put_parameters(c, w);
	if (c->coder == DD_CODER_NET)
		put_net(c, w);
}
