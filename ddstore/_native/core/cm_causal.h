/*
 * Modes `lattice` and `adaptive` under coder `cm`: each index is coded around the last one, in the order of rows, under
 * contexts and densities made of all indices before it and of the other columns' indices around its row.
 */
#ifndef DD_CM_CAUSAL_H
#define DD_CM_CAUSAL_H

#include "cm_cascade.h"
#include "cm_residual.h"

enum {
	DD_CM_PAST = 40,
	DD_CM_MATCH = 6,
	DD_CM_ORDER = 16,
	DD_CM_SHORT_ORDER = 4,
	DD_CM_PREDICTIONS = 4,
	DD_CM_MIXED = 4, /* the prediction that a cascade adds */
	DD_CM_MORE_PREDICTIONS = 5
};

typedef struct {
	uint64_t *q;		     /* indices; DD_CM_PAST copies of the first stand before */
	const int64_t *side[DD_SIDES_MOST]; /* other columns' indices, of the same rows */
	uint32_t count, at;
	dd_rls rls, quick;
	dd_lms lms;
	dd_cascade *cascade;	     /* NULL: the filters alone predict */
	unsigned predictions, best;  /* how many, and the one that contexts are made of */
	dd_density density;
	float fast_scale[DD_CM_MORE_PREDICTIONS], slow_scale[DD_CM_MORE_PREDICTIONS];
	double size;		     /* moving average of |index difference| */
	int64_t e[4];		     /* the last residuals >> low */
	uint32_t fast, slow;	     /* moving averages of |e| in 1/64 */
	uint32_t run, run1, run2;    /* zero residuals on end: now, and the runs before */
	int64_t nonzero1, nonzero2;  /* the last residuals that were not zero */
	uint32_t signs;		     /* of the last four of them */
	uint32_t *seen;		     /* hash of the last indices -> where they were followed by what */
	unsigned seen_bits;
	uint32_t match, match_length;
	dd_match *again;	     /* instead of those, with flag 128; else NULL */
} dd_causal;

static inline unsigned dd_causal_seen_bits(uint32_t n)
{
	unsigned bits = dd_bit_length(n);

	return bits > 16 ? 16 : bits;
}

/* Bytes for a column's indices; up to the end of its cascade, behind them; and of where the last ones were seen, too. */
static inline size_t dd_causal_indices(const dd_column *c)
{
	return dd_align((c->n + DD_CM_PAST) * sizeof(uint64_t));
}

static inline size_t dd_causal_cascade(const dd_column *c)
{
	return dd_causal_indices(c) + (c->cascade ? dd_align(sizeof(dd_cascade)) : 0);
}

static inline size_t dd_causal_size(const dd_column *c)
{
	size_t seen = (size_t)4 << dd_causal_seen_bits(c->n);

	return dd_causal_cascade(c) + (c->flags & DD_FLAG_MATCHES ? dd_match_size(c->n) : seen);
}

static inline void dd_causal_start(dd_causal *s, const dd_column *c, uint32_t count, void *memory)
{
	float unit = (float)(1ull << c->low);

	memset(s, 0, sizeof *s);
	s->q = (uint64_t *)memory + DD_CM_PAST;
	for (unsigned k = 1; k <= DD_CM_PAST; k++)
		s->q[-(int)k] = (uint64_t)c->first;
	s->count = count;
	if (c->flags & DD_FLAG_MATCHES) {
		s->again = dd_match_start((uint8_t *)memory + dd_causal_cascade(c), c->n);
	} else {
		s->seen_bits = dd_causal_seen_bits(c->n);
		s->seen = (uint32_t *)(void *)((uint8_t *)memory + dd_causal_cascade(c));
		memset(s->seen, 0, (size_t)4 << s->seen_bits);
	}
	dd_rls_start(&s->rls, DD_CM_ORDER + 3 * c->sides, 0.9985);
	dd_rls_start(&s->quick, DD_CM_SHORT_ORDER, 0.98);
	if (c->cascade) {
		s->cascade = (dd_cascade *)(void *)((uint8_t *)memory + dd_causal_indices(c));
		dd_cascade_start(s->cascade);
	}
	s->predictions = c->cascade ? DD_CM_MORE_PREDICTIONS : DD_CM_PREDICTIONS;
	s->best = c->cascade ? DD_CM_MIXED : 1;
	s->density.fours = c->cascade ? 3 : 2;
	s->size = unit;
	for (unsigned k = 0; k < s->predictions; k++)
		s->fast_scale[k] = s->slow_scale[k] = unit;
}

static inline int64_t dd_causal_past(const dd_causal *s, unsigned k)
{
	return (int64_t)s->q[(int64_t)s->at - k];
}

/* How a side's index moved to row `at + ahead`; 0 beyond the ends. */
static inline int64_t dd_causal_move(const dd_causal *s, unsigned side, int ahead)
{
	int64_t row = (int64_t)s->at + ahead;

	if (row < 1 || row >= s->count)
		return 0;
	return (int64_t)((uint64_t)s->side[side][row] - (uint64_t)s->side[side][row - 1]);
}

static inline double dd_causal_within(double x, double limit)
{
	x = x < limit ? x : limit; /* NaN, too */
	return x > -limit ? x : -limit;
}

static inline void dd_causal_limit(const dd_causal *s, double *delta, unsigned from, unsigned to)
{
	for (unsigned k = from; k < to; k++)
		delta[k] = dd_causal_within(delta[k], 32.0 * s->size + 64.0);
}

/* Predictions of the next index difference: 0, three others, and what a cascade makes of these. */
static inline void dd_causal_predict(dd_causal *s, const dd_column *c, double *delta)
{
	double unit = 1.0 / (s->size + 0.5);

	delta[0] = 0;
	if (c->mode != DD_MODE_ADAPTIVE) {
		double step = (double)(int64_t)(s->q[(int64_t)s->at - 1] - s->q[(int64_t)s->at - 2]);

		delta[1] = step;
		delta[2] = 0.5 * step;
		delta[3] = 0.5 * (double)(int64_t)(s->q[(int64_t)s->at - 1] - s->q[(int64_t)s->at - 3]);
	} else {
		for (unsigned k = 0; k < DD_LMS_TAPS; k++) {
			double x = (double)(int64_t)(s->q[(int64_t)s->at - 1 - k] - s->q[(int64_t)s->at - 2 - k]) * unit;

			s->lms.x[k] = (float)x;
			if (k < DD_CM_ORDER)
				s->rls.x[k] = x;
			if (k < DD_CM_SHORT_ORDER)
				s->quick.x[k] = x;
		}
		for (unsigned k = 0; k < c->sides; k++) {
			s->rls.x[DD_CM_ORDER + 3 * k] = (double)dd_causal_move(s, k, 0) * unit;
			s->rls.x[DD_CM_ORDER + 3 * k + 1] = (double)dd_causal_move(s, k, -1) * unit;
			s->rls.x[DD_CM_ORDER + 3 * k + 2] = (double)dd_causal_move(s, k, 1) * unit;
		}
		delta[1] = dd_rls_predict(&s->rls) / unit;
		delta[2] = dd_rls_predict(&s->quick) / unit;
		delta[3] = (double)dd_lms_dot(s->lms.w, s->lms.x) / unit;
	}
	dd_causal_limit(s, delta, 1, DD_CM_PREDICTIONS);
	if (s->cascade != NULL) {
		double filtered[3] = {delta[1] * unit, delta[2] * unit, delta[3] * unit};

		delta[DD_CM_MIXED] = dd_cascade_predict(s->cascade, filtered) / unit;
		dd_causal_limit(s, delta, DD_CM_MIXED, DD_CM_MORE_PREDICTIONS);
	}
}

static inline uint32_t dd_causal_run(uint32_t run)
{
	static const uint8_t class[8] = {16, 17, 18, 18, 19, 19, 19, 19};

	return run < 16 ? run : run < 24 ? 16 : run < 32 ? 17 : run < 256 ? class[run >> 5] : 20;
}

/* Contexts of the other columns. */
DD_INLINE void dd_causal_side_contexts(const dd_causal *s, const dd_column *c, int32_t e1, int32_t whole, uint32_t level,
				       dd_cm_mixer *m)
{
	unsigned cut = c->side[0].low;
	int64_t o1 = dd_causal_move(s, 0, 0) >> cut, next = dd_causal_move(s, 0, 1) >> cut, o2 = 0;
	uint32_t around = 0, *x = m->context;

	for (int k = -2; k <= 3; k++)
		around = around * 5 + (uint32_t)(dd_cm_clip(dd_causal_move(s, 0, k) >> cut, 2) + 2);
	if (c->sides > 1)
		o2 = dd_causal_move(s, 1, 0) >> c->side[1].low;
	x[15] = dd_hash(dd_hash(16, around), (uint32_t)(e1 * 32) + (s->run > 7 ? 7 : s->run));
	x[16] = dd_hash(dd_hash(17, (uint32_t)dd_cm_clip(o1, 30)), (uint32_t)e1);
	x[17] = dd_hash(dd_hash(18, (uint32_t)dd_cm_clip(o1, 15)),
			(uint32_t)(dd_cm_clip(o2, 15) + dd_cm_clip(whole, 10) * 64));
	x[18] = dd_hash(dd_hash(19, (uint32_t)dd_cm_clip(o1, 15)),
			dd_hash((uint32_t)dd_cm_clip(next, 15), (uint32_t)e1));
	x[19] = dd_hash(dd_hash(20, (uint32_t)(s->side[0][s->at] >> cut)), level);
}

/* How the index moved from `from` rows ago to `to` rows ago. */
static inline int64_t dd_causal_slope(const dd_causal *s, unsigned low, unsigned to, unsigned from)
{
	return (int64_t)(s->q[(int64_t)s->at - to] - s->q[(int64_t)s->at - from]) >> low;
}

/* Classes of slopes: by octaves, and by half octaves. */
static inline uint32_t dd_causal_octave(int64_t slope)
{
	uint32_t class = dd_bit_length(dd_cm_size(slope));

	return slope < 0 ? 0 - class : class;
}

static inline uint32_t dd_causal_half_octave(int64_t slope)
{
	uint64_t size = dd_cm_size(slope);
	uint32_t bits = dd_bit_length(size), class = size < 4 ? (uint32_t)size : 2 * bits - 2 + (uint32_t)(size >> (bits - 2) & 1);

	return slope < 0 ? 0 - class : class;
}

/* Contexts of the waveform that the last 38 rows make: its slopes, over ever more rows with their distance. */
DD_INLINE void dd_causal_shape_contexts(const dd_causal *s, unsigned low, uint32_t level, uint32_t *x)
{
	static const uint8_t from[3][4] = {{1, 2, 4, 8}, {1, 3, 9, 24}, {6, 20, 38, 0}};
	uint32_t y[3][3];

	for (unsigned i = 0; i < 3; i++) {
		y[0][i] = dd_causal_half_octave(dd_causal_slope(s, low, from[0][i], from[0][i + 1]));
		y[1][i] = dd_causal_half_octave(dd_causal_slope(s, low, from[1][i], from[1][i + 1]));
		y[2][i] = dd_causal_half_octave(dd_causal_slope(s, low, 1, from[2][i]));
	}
	for (unsigned k = 0; k < 3; k++)
		x[15 + k] = dd_hash(dd_hash(60 + k, y[k][0] * 64 + y[k][1]), y[k][2]);
	x[18] = dd_hash(dd_hash(63, dd_causal_octave(dd_causal_slope(s, low, 1, 2)) * 64 +
					    dd_causal_octave(dd_causal_slope(s, low, 2, 5))),
			dd_causal_octave(dd_causal_slope(s, low, 5, 12)) * 64 +
				dd_causal_octave(dd_causal_slope(s, low, 12, 32)));
	x[19] = dd_hash(dd_hash(64, level >> 1), dd_causal_octave(dd_causal_slope(s, low, 1, 4)) * 64 +
							 dd_causal_octave(dd_causal_slope(s, low, 4, 16)));
}

/* Where something is foretold: contexts of it, and weights of its own. */
DD_INLINE void dd_causal_match_contexts(const dd_match *again, dd_cm_mixer *m)
{
	uint32_t e = (uint32_t)dd_cm_clip(again->e, 30), size = dd_cm_size(again->e) > 3 ? 3 : (uint32_t)dd_cm_size(again->e);

	m->context[12] = dd_hash(dd_hash(13, e), again->class);
	m->choice[2] = DD_CM_CHOICE3 - 6 + again->class / 3; /* runs take up to 41 */
	m->map_context[1] = 128 + again->class * 4 + size;
}

DD_INLINE void dd_causal_contexts(const dd_causal *s, const dd_column *c, const double *delta, dd_cm_mixer *m)
{
	unsigned low = c->low;
	float unit = (float)(1ull << low);
	uint32_t *x = m->context, fast = dd_bit_length(s->fast >> 2), slow = dd_bit_length(s->slow >> 2);
	uint32_t run = dd_causal_run(s->run), run1 = dd_causal_run(s->run1), run2 = dd_causal_run(s->run2);
	int32_t e1 = dd_cm_clip(s->e[0], 15), e2 = dd_cm_clip(s->e[1], 15), e3 = dd_cm_clip(s->e[2], 15), fine, half, whole;
	uint64_t q1 = s->q[(int64_t)s->at - 1], q2 = s->q[(int64_t)s->at - 2], near = 0, far = 0;
	uint32_t level = (uint32_t)((int64_t)q1 >> low), level2 = (uint32_t)((int64_t)q2 >> low), scale;
	double ahead = delta[s->best] - (double)c->drift;

	fine = dd_cm_round(ahead * 8 / unit, 200);
	half = dd_cm_round(ahead * 2 / unit, 100);
	whole = dd_cm_round(ahead / unit, 30);
	scale = dd_cm_log(s->fast_scale[s->best], unit, 3);
	for (unsigned k = 0; k < 4; k++) {
		near += s->q[(int64_t)s->at - 1 - k];
		far += s->q[(int64_t)s->at - 5 - k];
	}
	x[0] = dd_hash(1, (uint32_t)(e1 * 64 + e2));
	x[1] = dd_hash(2, level);
	x[2] = dd_hash(dd_hash(3, level), level2);
	x[3] = dd_hash(4, fast * 64 + (uint32_t)dd_cm_clip(e1, 3) * 8 + (s->run > 15 ? 15 : s->run) * 8192);
	x[4] = dd_hash(dd_hash(5, slow * 64 + fast), (uint32_t)dd_cm_clip((int64_t)e1 + e2 + e3, 20));
	x[5] = dd_hash(dd_hash(6, (uint32_t)(e1 * 64 + e2)), (uint32_t)(e3 * 64 + dd_cm_clip(s->e[3], 3)));
	x[6] = dd_hash(dd_hash(7, run * 32 + run1), run2);
	x[7] = dd_hash(dd_hash(8, (uint32_t)fine), scale);
	x[8] = dd_hash(dd_hash(9, run),
		       (uint32_t)(dd_cm_clip(s->nonzero1, 7) * 16 + dd_cm_clip(s->nonzero2, 7)));
	x[9] = dd_hash(dd_hash(10, run * 32 + run1),
		       (uint32_t)(dd_cm_clip(s->nonzero1, 2) * 8 + dd_cm_clip(s->nonzero2, 2)));
	x[10] = dd_hash(dd_hash(11, level), dd_hash((uint32_t)whole, slow));
	x[11] = dd_hash(dd_hash(12, s->signs), run > 8 ? 8 : run);
	x[12] = 13;
	if (s->match != 0) {
		int64_t e = (int64_t)(s->q[s->match] - q1) >> low;

		x[12] = dd_hash(dd_hash(13, (uint32_t)dd_cm_clip(e, 30)), s->match_length > 15 ? 15 : s->match_length);
	}
	x[13] = dd_hash(dd_hash(14, (uint32_t)((int64_t)near >> (low + 1))), (uint32_t)((int64_t)far >> 2 >> low)); /* low <= 62 */
	x[14] = dd_hash(dd_hash(15, (uint32_t)dd_cm_clip((int64_t)(q1 - s->q[(int64_t)s->at - 8]) >> low, 20)),
			(uint32_t)dd_cm_clip((int64_t)(q1 - s->q[(int64_t)s->at - 16]) >> low, 20));
	m->contexts = 15;
	if (c->sides > 0 || (c->flags & DD_FLAG_SHAPES))
		m->contexts = 20;
	if (c->sides > 0)
		dd_causal_side_contexts(s, c, e1, whole, level, m);
	else if (c->flags & DD_FLAG_SHAPES)
		dd_causal_shape_contexts(s, low, level, x);
	m->choice[0] = (fast > 15 ? 15 : fast) * 4 + (s->run > 3 ? 3 : s->run);
	m->choice[1] = (uint32_t)(dd_cm_clip(half, 7) + 7) * 8;
	scale = dd_cm_log(s->slow_scale[s->best], unit, 2);
	m->choice[1] += scale > 7 ? 7 : scale;
	m->choice[2] = run * 2 + (s->nonzero1 < 0);
	m->map_context[0] = dd_hash(x[7], 1) & 255;
	m->map_context[1] = dd_hash(x[0], 2) & 255;
	if (s->again != NULL && s->again->on)
		dd_causal_match_contexts(s->again, m);
}

static inline void dd_causal_densities(dd_causal *s, const double *delta, int64_t drift)
{
	static const uint8_t of[2][2 * DD_DENSITY_FOURS] = {{0, 1, 2, 3}, {0, DD_CM_MIXED, 2, 3, 1, DD_CM_MIXED}};
	float quick = s->cascade != NULL ? 0.45f : 0.6f, slow = s->cascade != NULL ? 0.8f : 0.6f;

	for (unsigned i = 0; i < 2 * s->density.fours; i++) {
		unsigned h = i / 2, lane = i % 2 * 2, k = of[s->cascade != NULL][i];
		float centre = (float)(delta[k] - (double)drift);

		s->density.centre[h][lane] = s->density.centre[h][lane + 1] = centre;
		s->density.inverse[h][lane] = 1.0f / (s->fast_scale[k] * quick + 0.15f);
		s->density.inverse[h][lane + 1] = 1.0f / (s->slow_scale[k] * slow + 0.15f);
	}
}

/* Where the last indices stood before: there the next one may be what it was then. */
static inline void dd_causal_match(dd_causal *s, uint64_t q)
{
	uint32_t hash = 0;

	if (s->match != 0 && s->q[s->match] == q) {
		s->match++;
		s->match_length++;
	} else {
		s->match = s->match_length = 0;
	}
	s->at++;
	for (unsigned k = 1; k <= DD_CM_MATCH; k++)
		hash = dd_hash(hash, (uint32_t)s->q[(int64_t)s->at - k]);
	hash >>= 32 - s->seen_bits;
	if (s->match == 0 && s->at > DD_CM_MATCH) {
		s->match = s->seen[hash];
		s->match_length = s->match != 0;
	}
	s->seen[hash] = s->at;
}

/* Beside a cascade, an outlier is no lesson: what a filter was off is held within four times what it is off on average. */
static inline void dd_causal_filters_learn(dd_causal *s, const double *delta, double moved, double unit)
{
	double off[DD_CM_PREDICTIONS];

	for (unsigned k = 1; k < DD_CM_PREDICTIONS; k++) {
		off[k] = moved - delta[k];
		if (s->cascade != NULL)
			off[k] = dd_causal_within(off[k], 4.0 * (double)s->slow_scale[k]);
	}
	if ((s->at & 1) == 0) /* as good at half the cost */
		dd_rls_learn(&s->rls, off[1] * unit);
	dd_rls_learn(&s->quick, off[2] * unit);
	dd_lms_learn(&s->lms, (float)(off[3] * unit));
	if (s->cascade != NULL)
		dd_cascade_learn(s->cascade, moved * unit);
}

static inline void dd_causal_learn(dd_causal *s, const dd_column *c, const double *delta, uint64_t q, int64_t e)
{
	double moved = (double)(int64_t)(q - s->q[(int64_t)s->at - 1]), unit = 1.0 / (s->size + 0.5);
	uint64_t size = dd_cm_size(e);
	int32_t scaled = size > 1u << 20 ? 1 << 26 : (int32_t)(size * 64);

	for (unsigned k = 0; k < s->predictions; k++) {
		float off = (float)(moved > delta[k] ? moved - delta[k] : delta[k] - moved);

		off = off < 1e6f * (float)s->size ? off : 1e6f * (float)s->size;
		s->fast_scale[k] += (off - s->fast_scale[k]) * 0.12f;
		s->slow_scale[k] += (off - s->slow_scale[k]) * 0.02f;
	}
	if (c->mode == DD_MODE_ADAPTIVE)
		dd_causal_filters_learn(s, delta, moved, unit);
	s->size += ((moved < 0 ? -moved : moved) - s->size) * 0.002;
	s->fast = (uint32_t)((int32_t)s->fast + (scaled - (int32_t)s->fast) / 4);
	s->slow = (uint32_t)((int32_t)s->slow + (scaled - (int32_t)s->slow) / 16);
	if (e == 0) {
		s->run++;
	} else {
		s->run2 = s->run1;
		s->run1 = s->run;
		s->run = 0;
		s->nonzero2 = s->nonzero1;
		s->nonzero1 = e;
		s->signs = (s->signs << 1 | (e < 0)) & 15;
	}
	s->e[3] = s->e[2];
	s->e[2] = s->e[1];
	s->e[1] = s->e[0];
	s->e[0] = e;
	s->q[s->at] = q;
	if (s->again != NULL)
		dd_match_move(s->again, s->q, ++s->at);
	else
		dd_causal_match(s, q);
}

/* Code the next index; returns it. */
DD_INLINE uint64_t dd_causal_code(dd_causal *s, const dd_column *c, dd_cm_mixer *m, dd_rc_io *io, bool decoding,
				  uint64_t q)
{
	uint64_t q1 = s->q[(int64_t)s->at - 1], q2 = s->q[(int64_t)s->at - 2], centre = q1 + (uint64_t)c->drift, r = q - centre;
	double delta[DD_CM_MORE_PREDICTIONS];
	float width = (float)(1ull << c->low);
	int64_t e;

	if (s->again != NULL)
		dd_match_foretell(s->again, s->q, centre, c->low);
	dd_causal_predict(s, c, delta);
	dd_causal_contexts(s, c, delta, m);
	dd_causal_densities(s, delta, c->drift);
	e = dd_cm_residual(m, s->again, &s->density, NULL, io, decoding, width, 0.5f, (int64_t)r >> c->low);
	if (c->low > 0) {
		double ahead = delta[s->best] - (double)c->drift;
		uint32_t near = (uint32_t)dd_cm_clip(e, 20), fine = (uint32_t)dd_cm_round(ahead * 8 / width, 200);

		m->low_context[0] = dd_hash(dd_hash(77, (uint32_t)q1), (uint32_t)e);
		m->low_context[1] = dd_hash(78, near);
		m->low_context[2] = dd_hash(dd_hash(79, (uint32_t)q1), dd_hash((uint32_t)q2, (uint32_t)e));
		m->low_context[3] = dd_hash(dd_hash(80, fine), near);
		m->low_context[4] = dd_hash(81, (uint32_t)(centre + ((uint64_t)e << c->low)));
		r = dd_cm_low_bits(m, s->again, &s->density, io, decoding, c->low, c->plain, (float)e * width - 0.5f, r);
		r = (uint64_t)e << c->low | (r & ((1ull << c->low) - 1));
	} else {
		r = (uint64_t)e;
	}
	q = centre + r;
	dd_causal_learn(s, c, delta, q, e);
	return q;
}

#endif
