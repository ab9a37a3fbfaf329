/*
 * One residual: the difference between a row's lattice index and its prediction, as binary decisions under
 * contexts made of what both sides already know. Shared word for word by encoder and decoder.
 */
#ifndef DD_RESIDUAL_H
#define DD_RESIDUAL_H

#include "column.h"
#include "mixer.h"

/* Nodes: 0 zero?, 1 sign, 2..13 unary magnitude, 14..77 bit length, 78..141 top mantissa bit, 142.. row class */
enum {
	DD_NODE_ZERO = 0,
	DD_NODE_SIGN = 1,
	DD_NODE_UNARY = 2,
	DD_UNARY = 12,
	DD_NODE_LENGTH = DD_NODE_UNARY + DD_UNARY,
	DD_NODE_TOP = DD_NODE_LENGTH + 64,
	DD_NODE_CLASS = DD_NODE_TOP + 64
};

/* Lattice indices wrap modulo 2^64, as both sides do the same arithmetic; hence unsigned. */
typedef struct {
	dd_centre centre;
	unsigned low;	       /* bits of a residual that carry no structure and are coded plainly */
	uint64_t drift;	       /* added to the last index under DD_CENTRE_LAST */
	uint64_t q1, q2;       /* last lattice indices */
	int64_t e1, e2, e3;    /* last residuals >> low */
	uint32_t fast, slow;   /* moving averages of |residual| in 1/64 */
	uint32_t run;	       /* zero residuals in a row */
	unsigned class1;       /* class of the last row */
} dd_history;

static inline void dd_history_start(dd_history *h, dd_centre centre, unsigned low, int64_t drift, int64_t first)
{
	uint64_t q = (uint64_t)first;

	*h = (dd_history){.centre = centre, .low = low, .drift = (uint64_t)drift, .q1 = q, .q2 = q};
}

static inline int32_t dd_clip(int64_t v, int32_t limit)
{
	return (int32_t)(v < -limit ? -limit : v > limit ? limit : v);
}

_Static_assert(-2 >> 1 == -1, "the format needs arithmetic right shifts of negative numbers");

static inline int64_t dd_shift_right(uint64_t v, unsigned bits)
{
	return (int64_t)v >> bits;
}

static inline uint64_t dd_history_centre(const dd_history *h, uint64_t model)
{
	return dd_centre_index(h->centre, h->drift, h->q1, h->q2, model);
}

static inline void dd_history_contexts(const dd_history *h, uint64_t centre, dd_mixer *mx)
{
	unsigned low = h->low;
	uint32_t fast = dd_bit_length(h->fast >> 2), slow = dd_bit_length(h->slow >> 2);
	int32_t e1 = dd_clip(h->e1, 15), e2 = dd_clip(h->e2, 15);
	int32_t ahead = dd_clip(dd_shift_right(h->q1 - centre, low), 31);
	uint32_t level = (uint32_t)dd_shift_right(h->q1, low);

	mx->context[0] = dd_hash(1, (uint32_t)(e1 * 64 + e2));
	if (h->centre == DD_CENTRE_MODEL) {
		mx->context[1] = dd_hash(2, (uint32_t)(ahead * 64 + dd_clip(e1, 3)));
		mx->context[2] = dd_hash(3, (uint32_t)dd_shift_right(centre, low));
	} else {
		mx->context[1] = dd_hash(2, level);
		mx->context[2] = dd_hash(dd_hash(3, level), (uint32_t)dd_shift_right(h->q2, low));
	}
	mx->context[3] = dd_hash(4, fast * 64 + (uint32_t)dd_clip(e1, 3) * 8 + (h->run > 15 ? 15 : h->run) * 8192);
	mx->context[4] = dd_hash(dd_hash(5, slow * 64 + fast),
				 (uint32_t)(dd_clip((int64_t)e1 + e2 + dd_clip(h->e3, 15), 20) * 128 + ahead));
}

static inline void dd_history_push(dd_history *h, uint64_t q, int64_t e)
{
	uint64_t size = e < 0 ? 0 - (uint64_t)e : (uint64_t)e;
	int32_t scaled = size > 1u << 20 ? 1 << 26 : (int32_t)(size * 64);

	h->fast = (uint32_t)((int32_t)h->fast + (scaled - (int32_t)h->fast) / 4);
	h->slow = (uint32_t)((int32_t)h->slow + (scaled - (int32_t)h->slow) / 16);
	h->run = e == 0 ? h->run + 1 : 0;
	h->e3 = h->e2;
	h->e2 = h->e1;
	h->e1 = e;
	h->q2 = h->q1;
	h->q1 = q;
}

/* Zero?, sign, unary up to DD_UNARY, then an Elias-gamma tail whose top mantissa bit is modelled too. */
DD_INLINE int64_t dd_code_magnitude(dd_mixer *mx, dd_rc_io *io, bool decoding, int64_t e)
{
	uint64_t m = 0, tail;
	unsigned negative = 0, bits, top = 0;

	if (dd_mixer_code(mx, io, decoding, DD_NODE_ZERO, e == 0))
		return 0;
	negative = dd_mixer_code(mx, io, decoding, DD_NODE_SIGN, e < 0);
	if (!decoding)
		m = (e < 0 ? 0 - (uint64_t)e : (uint64_t)e) - 1;
	for (unsigned i = 0; i < DD_UNARY; i++) {
		if (dd_mixer_code(mx, io, decoding, DD_NODE_UNARY + i, m == i)) {
			m = i;
			goto done;
		}
	}
	tail = m - DD_UNARY + 1;
	bits = decoding ? 1 : dd_bit_length(tail);
	for (unsigned b = 1; b < 64; b++) {
		unsigned stop = dd_mixer_code(mx, io, decoding, DD_NODE_LENGTH + b, bits == b);

		if (decoding)
			bits = b + !stop;
		if (stop)
			break;
	}
	if (bits > 1) {
		top = dd_mixer_code(mx, io, decoding, DD_NODE_TOP + bits - 1, (unsigned)(tail >> (bits - 2)) & 1);
		tail = (uint64_t)(2 | top) << (bits - 2) | dd_rc_code_bits(io, decoding, tail, bits - 2);
	} else if (decoding) {
		tail = 1;
	}
	m = tail + DD_UNARY - 1;
done:
	return (int64_t)(negative ? 0 - (m + 1) : m + 1);
}

/* Code one row's lattice index; returns it. */
DD_INLINE uint64_t dd_code_index(dd_history *h, dd_mixer *mx, dd_rc_io *io, bool decoding, uint64_t model, uint64_t q)
{
	uint64_t centre = dd_history_centre(h, model), r = q - centre;
	int64_t e = 0;

	dd_history_contexts(h, centre, mx);
	if (!decoding)
		e = dd_shift_right(r, h->low);
	e = dd_code_magnitude(mx, io, decoding, e);
	r = (uint64_t)e << h->low | dd_rc_code_bits(io, decoding, r, h->low);
	q = centre + r;
	dd_history_push(h, q, e);
	return q;
}

/* Code whether a row is a value or which exception, given what the row before it was. */
DD_INLINE unsigned dd_code_class(dd_history *h, dd_mixer *mx, dd_rc_io *io, bool decoding, unsigned class)
{
	unsigned c;

	for (unsigned k = 0; k < DD_CONTEXTS; k++)
		mx->context[k] = dd_hash(16 + k, h->class1);
	for (c = 0; c + 1 < DD_ROW_CLASSES; c++)
		if (dd_mixer_code(mx, io, decoding, DD_NODE_CLASS + c, class == c))
			break;
	h->class1 = c;
	return c;
}

#endif
