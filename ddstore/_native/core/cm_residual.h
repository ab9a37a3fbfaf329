/* One residual as the strong mixer's decisions: zero?, sign, distance in unary, then Elias-gamma, then its low bits. */
#ifndef DD_CM_RESIDUAL_H
#define DD_CM_RESIDUAL_H

#include "cm_density.h"
#include "cm_match.h"
#include "mixture.h"

/* Nodes: the first 16 share a bucket; 17 .. 79 length of a tail, 81 .. 143 its top mantissa bit, 144 .. row class. */
enum {
	DD_CM_ZERO = 0,
	DD_CM_SIGN = 1,
	DD_CM_UNARY = 2,
	DD_CM_UNARIES = 12,
	DD_CM_LENGTH = 16,
	DD_CM_TOP = 80,
	DD_CM_CLASS = 144
};

static inline uint64_t dd_cm_size(int64_t e)
{
	return e < 0 ? 0 - (uint64_t)e : (uint64_t)e;
}

static inline int32_t dd_cm_clip(int64_t v, int32_t limit)
{
	return (int32_t)(v < -limit ? -limit : v > limit ? limit : v);
}

/* floor(x + 1/2), clipped; NaN becomes -limit. */
static inline int32_t dd_cm_round(double x, int32_t limit)
{
	x = x > -limit ? x < limit ? x : limit : -limit;
	return (int32_t)(x + limit + 0.5) - limit;
}

/* Bit length of a scale in units of `one` / 2^steps. */
static inline uint32_t dd_cm_log(float scale, float one, unsigned steps)
{
	float x = scale * (float)(1u << steps) / one;

	return dd_bit_length((uint64_t)(x > 0 ? x < 1e15f ? x : 1e15f : 0));
}

/* A decision in which a bit may be foretold. */
DD_INLINE unsigned dd_cm_told(dd_cm_mixer *m, dd_match *x, dd_rc_io *io, bool decoding, unsigned node, unsigned told,
			      unsigned bit)
{
	unsigned class = node < DD_CM_BUCKET ? node : node < DD_CM_TOP ? 14 : 15;

	if (x == NULL)
		return dd_cm_code(m, io, decoding, node, bit);
	dd_match_expect(x, m, class, told, m->input + DD_CM_TOLD);
	bit = dd_cm_code(m, io, decoding, node, bit);
	dd_match_learn(x, m, bit);
	return bit;
}

DD_INLINE uint64_t dd_cm_tail(dd_cm_mixer *m, dd_match *x, dd_density *d, dd_rc_io *io, bool decoding, uint64_t told,
			      uint64_t tail)
{
	float *logit = m->input + DD_CM_CONTEXTS;
	unsigned bits = decoding ? 1 : dd_bit_length(tail), told_bits = dd_bit_length(told), top;

	for (unsigned b = 1; b < 64; b++) {
		unsigned stop;

		dd_density_step(d, logit);
		stop = dd_cm_told(m, x, io, decoding, DD_CM_LENGTH + b, told_bits == b, bits == b);
		if (decoding)
			bits = b + !stop;
		if (stop)
			break;
		if (b > 1)
			dd_density_widen(d);
	}
	if (bits == 1)
		return 1;
	memset(logit, 0, DD_CM_EXPERTS * sizeof *logit);
	memset(logit + DD_DENSITY_THIRD, 0, 4 * sizeof *logit);
	top = dd_cm_told(m, x, io, decoding, DD_CM_TOP + bits - 1, (unsigned)(told >> (bits - 2)) & 1,
			 (unsigned)(tail >> (bits - 2)) & 1);
	tail = (uint64_t)(2 | top) << (bits - 2) | dd_rc_code_bits(io, decoding, tail, bits - 2);
	if (x != NULL)
		x->on = x->on && tail == told;
	return tail;
}

/* What a net's mixture thinks of a decision, as a logit among the mixer's inputs. */
static inline float dd_cm_mixed(float for_, float against)
{
	return dd_density_logit(dd_v4_all(for_), dd_v4_all(against))[0];
}

/* Beyond an edge outwards, that much of the mixture is left: is it in the next cell, beyond which there is `next`? */
static inline float dd_cm_mixed_step(float left, float next)
{
	return left > 1e-9f ? dd_cm_mixed((left - next) / left, next / left) : 0.0f;
}

/*
 * Cell e lies between e * width - shift and (e + 1) * width - shift, in the densities' unit. The caller has set
 * contexts and densities, what is foretold (x NULL: nothing ever is), and the mixture that a net made (NULL: none did).
 */
DD_INLINE int64_t dd_cm_residual(dd_cm_mixer *m, dd_match *x, dd_density *d, const dd_mixture *net, dd_rc_io *io, bool decoding,
				 float width, float shift, int64_t e)
{
	float *logit = m->input + DD_CM_CONTEXTS;
	uint64_t away = decoding || e == 0 ? 0 : dd_cm_size(e) - 1, told = x != NULL ? dd_cm_size(x->e) - 1 : 0;
	float *mixed = &m->input[DD_CM_NET], below = 0, above = 0, left, next = 0;
	unsigned negative, i;

	dd_cm_mixer_symbol(m);
	if (net != NULL) {
		below = dd_mixture_beyond(net, true, -shift);
		above = dd_mixture_beyond(net, false, width - shift);
		*mixed = dd_cm_mixed(1.0f - below - above, below + above);
	}
	dd_density_zero(d, -shift, width - shift, logit);
	if (dd_cm_told(m, x, io, decoding, DD_CM_ZERO, x != NULL && x->e == 0, e == 0))
		return 0;
	dd_density_sign(d, logit);
	if (net != NULL)
		*mixed = dd_cm_mixed(below, above);
	negative = dd_cm_told(m, x, io, decoding, DD_CM_SIGN, x != NULL && x->e < 0, e < 0);
	dd_density_walk(d, negative, negative ? -shift : width - shift, width);
	left = negative ? below : above;
	for (i = 0; i < DD_CM_UNARIES; i++, left = next) {
		dd_density_step(d, logit);
		if (net != NULL) {
			float edge = (float)(i + 1) * width;

			next = dd_mixture_beyond(net, negative, negative ? -shift - edge : width - shift + edge);
			*mixed = dd_cm_mixed_step(left, next);
		}
		if (dd_cm_told(m, x, io, decoding, DD_CM_UNARY + i, told == i, away == i))
			break;
	}
	if (net != NULL)
		*mixed = 0;
	if (i < DD_CM_UNARIES)
		away = i;
	else
		away = dd_cm_tail(m, x, d, io, decoding, told - DD_CM_UNARIES + 1, away - DD_CM_UNARIES + 1) + DD_CM_UNARIES - 1;
	return (int64_t)(negative ? 0 - (away + 1) : away + 1);
}

/* The `low` bits below cell e, whose cell starts at `from`; the lowest `plain` of them at even odds. */
DD_INLINE uint64_t dd_cm_low_bits(dd_cm_mixer *m, dd_match *x, dd_density *d, dd_rc_io *io, bool decoding, unsigned low,
				  unsigned plain, float from, uint64_t bits)
{
	float width = (float)(1ull << low);
	uint32_t prefix = 1;
	uint64_t value = 0;

	dd_density_cell(d, from, from + width);
	for (unsigned b = low; b-- > plain;) {
		unsigned bit, depth = low - 1 - b, node = DD_MATCH_LOW_NODE + (depth < 16 ? depth : 15);

		width *= 0.5f;
		dd_density_half(d, from + width, m->low_input + 8);
		if (x != NULL) {
			dd_match_expect(x, m, node, (unsigned)(x->r >> b) & 1, m->low_input + DD_CM_LOW_TOLD);
			depth += x->on ? DD_CM_LOW_DEPTHS : 0;
		}
		bit = dd_cm_code_low(m, io, decoding, depth, prefix, (unsigned)(bits >> b) & 1);
		if (x != NULL)
			dd_match_learn(x, m, bit);
		dd_density_half_is(d, bit);
		from += bit ? width : 0;
		prefix = prefix << 1 | bit;
		value = value << 1 | bit;
	}
	return value << plain | dd_rc_code_bits(io, decoding, bits, plain);
}

#endif
