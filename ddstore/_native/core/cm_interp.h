/*
 * Mode `interp` under coder `cm`: anchors first, then level by level, each row under contexts of both sides. Coder `net`
 * does the same, but rows are predicted by a net, and the mixture that it makes is mixed with the rest.
 */
#ifndef DD_CM_INTERP_H
#define DD_CM_INTERP_H

#include "cm_residual.h"
#include "inet.h"
#include "interp.h"

typedef struct {
	uint64_t *m;	     /* fine lattice points */
	int8_t *step;	     /* residuals, clipped to +-3 */
	const int64_t *side; /* NULL: no other column */
	dd_inet_state *net;  /* NULL: none */
	uint32_t count;
	dd_density density;
	float fast_scale[4], slow_scale[4];
	uint32_t fast, slow; /* moving averages of |residual| in 1/64 */
	uint32_t run;
} dd_interp;

static inline size_t dd_interp_size(uint32_t n)
{
	return dd_align(n * sizeof(uint64_t)) + dd_align(n);
}

static inline void dd_interp_start(dd_interp *s, const dd_column *c, uint32_t count, const int64_t *side, dd_inet_state *net,
				   void *memory)
{
	*s = (dd_interp){.m = memory, .side = side, .net = net, .count = count, .density.fours = 2};
	s->step = (int8_t *)memory + dd_align(c->n * sizeof(uint64_t));
}

/* Each level starts from what it cannot know. */
static inline void dd_interp_level(dd_interp *s, const dd_column *c)
{
	for (unsigned k = 0; k < 4; k++)
		s->fast_scale[k] = s->slow_scale[k] = (float)c->width;
	s->fast = s->slow = 32;
	s->run = 0;
}

DD_INLINE int64_t dd_interp_residual(dd_interp *s, const dd_column *c, dd_cm_mixer *m, dd_rc_io *io, bool decoding,
				     const float *ahead, const dd_mixture *mixture, uint32_t i, int64_t e)
{
	float width = (float)c->width, moved;
	uint64_t size;
	int32_t scaled;

	for (unsigned k = 0; k < 4; k++) {
		unsigned h = k / 2, lane = k % 2 * 2;

		s->density.centre[h][lane] = s->density.centre[h][lane + 1] = ahead[k];
		s->density.inverse[h][lane] = 1.0f / (s->fast_scale[k] * 0.6f + 0.02f * width);
		s->density.inverse[h][lane + 1] = 1.0f / (s->slow_scale[k] * 0.6f + 0.02f * width);
	}
	if (mixture != NULL) { /* its parts, in the places of two predictions */
		s->density.centre[1] = mixture->mean;
		s->density.inverse[1] = mixture->inverse;
	}
	e = dd_cm_residual(m, NULL, &s->density, mixture, io, decoding, width, 0.5f * width, e);
	s->step[i] = (int8_t)dd_cm_clip(e, 3);
	if (s->net != NULL)
		s->net->size[i] = dd_inet_size_of(e);
	moved = (float)e * width;
	for (unsigned k = 0; k < 4; k++) {
		float off = moved > ahead[k] ? moved - ahead[k] : ahead[k] - moved;

		s->fast_scale[k] += (off - s->fast_scale[k]) * 0.12f;
		s->slow_scale[k] += (off - s->slow_scale[k]) * 0.02f;
	}
	size = dd_cm_size(e);
	scaled = size > 1u << 20 ? 1 << 26 : (int32_t)(size * 64);
	s->fast = (uint32_t)((int32_t)s->fast + (scaled - (int32_t)s->fast) / 4);
	s->slow = (uint32_t)((int32_t)s->slow + (scaled - (int32_t)s->slow) / 16);
	s->run = e == 0 ? s->run + 1 : 0;
	return e;
}

/* Anchors are coded around the anchor before. */
DD_INLINE void dd_interp_anchor(dd_interp *s, const dd_column *c, dd_cm_mixer *m, dd_rc_io *io, bool decoding,
				uint32_t i, uint32_t stride, const uint64_t *x)
{
	uint64_t before = s->m[i - stride];
	float ahead[4] = {0, 0, 0, 0};
	int8_t e1 = s->step[i - stride];
	uint32_t fast = dd_bit_length(s->fast >> 2);

	m->contexts = 3;
	m->context[0] = dd_hash(40, (uint32_t)(int32_t)e1);
	m->context[1] = dd_hash(41, fast);
	m->context[2] = dd_hash(42, dd_bit_length(s->slow >> 2));
	m->choice[0] = (fast > 15 ? 15 : fast) * 4;
	m->choice[1] = m->choice[2] = 0;
	m->map_context[0] = m->map_context[1] = 0;
	s->m[i] = before + c->width * (uint64_t)dd_interp_residual(s, c, m, io, decoding, ahead, NULL, i,
								   decoding ? 0 : dd_interp_steps(x[i], before, c->width));
}

DD_INLINE void dd_interp_contexts(const dd_interp *s, const dd_column *c, const dd_interp_near *at, const float *ahead,
				  uint32_t i, uint32_t stride, dd_cm_mixer *m)
{
	const int8_t *step = s->step;
	float per = 1.0f / (float)c->width;
	int32_t l1 = i >= 2 * stride ? step[i - 2 * stride] : 0, l2 = i >= 4 * stride ? step[i - 4 * stride] : 0;
	int32_t a = step[i - stride], b = s->count - i > stride ? step[i + stride] : 0;
	int32_t a3 = i >= 3 * stride ? step[i - 3 * stride] : 0, b3 = s->count - i > 3 * stride ? step[i + 3 * stride] : 0;
	uint32_t set = dd_interp_set(stride), *x = m->context, fast = dd_bit_length(s->fast >> 2),
		 slow = dd_bit_length(s->slow >> 2), parents = (uint32_t)((a < 0 ? -a : a) + (b < 0 ? -b : b));
	uint32_t cousins = (uint32_t)((a3 < 0 ? -a3 : a3) + (b3 < 0 ? -b3 : b3)),
		 left = (uint32_t)((l1 < 0 ? -l1 : l1) * 4 + (l2 < 0 ? -l2 : l2));
	float slope = (float)(int64_t)(at->b - at->a) * per, bend = (float)(int64_t)(at->a + at->b - at->a3 - at->b3) * per;
	float other = (float)(int64_t)at->side * 0.5f * per;
	uint32_t steep = dd_cm_log(slope < 0 ? -slope : slope, 1.0f, 3), bent = dd_cm_log(bend < 0 ? -bend : bend, 1.0f, 3);
	int32_t slope2 = dd_cm_round(slope * 2, 20), bend2 = dd_cm_round(bend * 2, 20);
	int32_t learnt = dd_cm_round((ahead[2] - ahead[1]) * per * 8, 20), line = dd_cm_round((ahead[2] - ahead[0]) * per * 4, 20);
	int32_t other4 = dd_cm_round(other * 4, 20);

	x[0] = dd_hash(dd_hash(21, (uint32_t)(l1 * 8 + l2)), set);
	x[1] = dd_hash(dd_hash(22, (uint32_t)(a * 8 + b)), (uint32_t)l1 * 8 + set * 64);
	x[2] = dd_hash(dd_hash(23, fast), slow);
	x[3] = dd_hash(dd_hash(24, (uint32_t)slope2), (uint32_t)bend2);
	x[4] = dd_hash(dd_hash(25, (uint32_t)learnt), fast);
	x[5] = dd_hash(dd_hash(26, steep), bent + slow * 32);
	x[6] = dd_hash(dd_hash(27, (uint32_t)line), (uint32_t)learnt);
	x[7] = dd_hash(dd_hash(28, parents), cousins * 64 + left);
	x[8] = dd_hash(dd_hash(29, s->run > 31 ? 31 : s->run), set);
	x[9] = dd_hash(dd_hash(30, (uint32_t)dd_cm_round((ahead[3] - ahead[2]) * per * 2, 20)), (uint32_t)slope2);
	x[10] = dd_hash(dd_hash(31, fast), parents * 32 + steep);
	x[11] = dd_hash(dd_hash(32, dd_cm_log(s->fast_scale[2], (float)c->width, 4)),
			dd_cm_log(s->slow_scale[2], (float)c->width, 4) * 16 + set);
	x[12] = dd_hash(dd_hash(33, (uint32_t)bend2), (uint32_t)learnt);
	m->contexts = 13;
	if (s->side != NULL) {
		x[13] = dd_hash(dd_hash(34, (uint32_t)other4), set);
		x[14] = dd_hash(dd_hash(35, (uint32_t)other4), fast);
		m->contexts = 15;
	}
	m->choice[0] = (fast > 15 ? 15 : fast) * 4 + (set > 3 ? 3 : set);
	m->choice[1] = (uint32_t)(dd_cm_clip(learnt, 7) + 7) * 8 + (steep > 7 ? 7 : steep);
	m->choice[2] = s->run > 20 ? 20 : s->run;
	m->map_context[0] = x[2] & 255;
	m->map_context[1] = x[1] & 255;
}

DD_INLINE void dd_interp_row(dd_interp *s, const dd_column *c, dd_cm_mixer *m, dd_rc_io *io, bool decoding, uint32_t i,
			     uint32_t stride, const uint64_t *x)
{
	dd_interp_near at = dd_interp_look(s->m, s->side, s->count, i, stride);
	uint64_t exact = 0, lowest, sum = at.a + at.b;
	dd_mixture mixture;
	float ahead[4];

	if (s->net != NULL) {
		uint32_t row = i / (2 * stride), rows = dd_interp_rows(s->count, stride) - row;

		if (row % DD_INET_PIECE == 0)
			dd_inet_look(s->net, row, rows < DD_INET_PIECE ? rows : DD_INET_PIECE);
		mixture = dd_inet_mixture(s->net, row % DD_INET_PIECE);
		lowest = mixture.centre;
	} else {
		exact = dd_interp_predict(&at, c->weight[dd_interp_set(stride)]);
		lowest = dd_interp_round(exact);
	}
	ahead[0] = (float)(int64_t)(sum - 2 * lowest) * 0.5f;
	ahead[1] = at.inner ? (float)(int64_t)(9 * sum - at.a3 - at.b3 - 16 * lowest) * 0.0625f : ahead[0];
	ahead[2] = s->net != NULL ? 0.0f : (float)(int64_t)(exact - 128 * lowest) * 0.0078125f;
	ahead[3] = (float)(int64_t)(2 * at.a - at.a2 - lowest);
	dd_interp_contexts(s, c, &at, ahead, i, stride, m);
	s->m[i] = lowest + c->width * (uint64_t)dd_interp_residual(s, c, m, io, decoding, ahead, s->net != NULL ? &mixture : NULL, i,
								   decoding ? 0 : dd_interp_steps(x[i], lowest, c->width));
}

/* Code all rows. `x`: each row's highest legal point; encoder only. */
DD_INLINE void dd_interp_code(dd_interp *s, const dd_column *c, dd_cm_mixer *m, dd_rc_io *io, bool decoding,
			      const uint64_t *x)
{
	uint32_t stride = 1u << c->stride;

	dd_interp_level(s, c);
	s->m[0] = (uint64_t)c->first - c->width / 2;
	s->step[0] = 0;
	for (uint32_t i = stride; i < s->count && !(decoding && dd_stopped(c)); i += stride)
		dd_interp_anchor(s, c, m, io, decoding, i, stride, x);
	for (stride /= 2; stride > 0; stride /= 2) {
		dd_interp_level(s, c);
		if (s->net != NULL)
			dd_inet_level(s->net, s->m, s->step, s->count, stride);
		for (uint32_t i = stride; i < s->count && !(decoding && dd_stopped(c)); i += 2 * stride)
			dd_interp_row(s, c, m, io, decoding, i, stride, x);
	}
}

#endif
