/*
 * Eight logistic densities over the next residual and, where there are twelve, four with heavy tails, each from a
 * prediction and a scale: what they think of every binary decision of the residual's code, as a logit for the mixer.
 *
 * With t = (edge - prediction) / scale and E = exp(t), the mass above an edge is 1 / (1 + E). Every logit is the
 * logarithm of a ratio of masses, multiplied out so that nothing cancels. With heavy tails E is 1 + 2t above the prediction
 * and 1 / (1 - 2t) below: beyond t the density falls as 1 / t^2.
 */
#ifndef DD_CM_DENSITY_H
#define DD_CM_DENSITY_H

#include "logistic.h"

enum {
	DD_DENSITY_FOURS = 3, /* at most; the third has heavy tails */
	DD_DENSITY_THIRD = 12 /* where the third four's logits stand, counted from the first: apart, as eight are mixed as ever */
};

typedef struct {
	unsigned fours;
	dd_v4 centre[DD_DENSITY_FOURS], inverse[DD_DENSITY_FOURS]; /* in the residual's own unit; 1 / scale */
	dd_v4 below[DD_DENSITY_FOURS], above[DD_DENSITY_FOURS];    /* E at the edges of residual 0 */
	/* Walking outwards: E at the edge reached, and what a cell multiplies it by. */
	dd_v4 at[DD_DENSITY_FOURS], factor[2];
	float edge, move; /* that edge, and how far the next one is */
	dd_v4 low[DD_DENSITY_FOURS], high[DD_DENSITY_FOURS];	   /* halving a cell: E at its edges */
} dd_density;

/* A mass that is a small difference of large ones may come out below 0. */
static inline dd_v4 dd_density_logit(dd_v4 for_, dd_v4 against)
{
	const dd_v4 tiny = dd_v4_all(1e-6f), zero = dd_v4_all(0.0f);

	for_ = dd_v4_pick(for_ > zero, for_, zero);
	against = dd_v4_pick(against > zero, against, zero);
	return dd_v4_clamp(dd_log4((for_ + tiny) / (against + tiny)), -8.0f, 8.0f);
}

static inline dd_v4 *dd_density_place(float *logit, unsigned h)
{
	return (dd_v4 *)(void *)(logit + (h < 2 ? 4 * h : DD_DENSITY_THIRD));
}

static inline dd_v4 dd_density_edge(const dd_density *d, unsigned h, float edge)
{
	dd_v4 t = (dd_v4_all(edge) - d->centre[h]) * d->inverse[h];
	dd_i4 above = t > dd_v4_all(0.0f);

	if (h < 2)
		return dd_exp4(t);
	t = dd_v4_clamp(dd_v4_all(1.0f) + dd_v4_pick(above, t, -t) * dd_v4_all(2.0f), 1.0f, 1e8f);
	return dd_v4_pick(above, t, dd_v4_all(1.0f) / t);
}

/* Is it 0, a cell from `from` to `to`? */
static inline void dd_density_zero(dd_density *d, float from, float to, float *logit)
{
	for (unsigned h = 0; h < d->fours; h++) {
		dd_v4 a = d->below[h] = dd_density_edge(d, h, from), b = d->above[h] = dd_density_edge(d, h, to);

		*dd_density_place(logit, h) = dd_density_logit(b - a, dd_v4_all(1.0f) + a + a + a * b);
	}
}

/* If not, is it negative? */
static inline void dd_density_sign(dd_density *d, float *logit)
{
	for (unsigned h = 0; h < d->fours; h++)
		*dd_density_place(logit, h) = dd_density_logit(d->below[h] * (dd_v4_all(1.0f) + d->above[h]),
							       dd_v4_all(1.0f) + d->below[h]);
}

/* Start to walk away from 0, whose cell ends at `edge`, in cells `width` wide. */
static inline void dd_density_walk(dd_density *d, unsigned negative, float edge, float width)
{
	for (unsigned h = 0; h < d->fours; h++)
		d->at[h] = negative ? dd_v4_all(1.0f) / d->below[h] : d->above[h];
	for (unsigned h = 0; h < 2; h++)
		d->factor[h] = dd_exp4(dd_v4_all(width) * d->inverse[h]);
	d->edge = edge;
	d->move = negative ? -width : width;
}

/* Given that it is beyond the edge reached: is it in the next cell? Moves on to that cell's far edge. */
static inline void dd_density_step(dd_density *d, float *logit)
{
	for (unsigned h = 0; h < 2; h++) {
		*dd_density_place(logit, h) = dd_density_logit(d->at[h] * (d->factor[h] - dd_v4_all(1.0f)),
							       dd_v4_all(1.0f) + d->at[h]);
		d->at[h] = dd_v4_clamp(d->at[h] * d->factor[h], 0.0f, DD_EXP_MOST);
	}
	if (d->fours > 2) {
		dd_v4 next = dd_density_edge(d, 2, d->edge += d->move);

		next = d->move < 0 ? dd_v4_all(1.0f) / next : next;
		*dd_density_place(logit, 2) = dd_density_logit(next - d->at[2], dd_v4_all(1.0f) + d->at[2]);
		d->at[2] = next;
	}
}

/* From here on cells are twice as wide. */
static inline void dd_density_widen(dd_density *d)
{
	for (unsigned h = 0; h < 2; h++)
		d->factor[h] = dd_v4_clamp(d->factor[h] * d->factor[h], 1.0f, DD_EXP_MOST);
	d->move *= 2;
}

/* Start to halve the cell from `from` to `to`. */
static inline void dd_density_cell(dd_density *d, float from, float to)
{
	for (unsigned h = 0; h < d->fours; h++) {
		d->low[h] = dd_density_edge(d, h, from);
		d->high[h] = dd_density_edge(d, h, to);
	}
}

/* Is it in the upper half? `at` keeps E at the middle for dd_density_half_is. */
static inline void dd_density_half(dd_density *d, float middle, float *logit)
{
	for (unsigned h = 0; h < d->fours; h++) {
		dd_v4 one = dd_v4_all(1.0f), m = d->at[h] = dd_density_edge(d, h, middle);

		*dd_density_place(logit, h) =
			dd_density_logit((d->high[h] - m) / (one + d->high[h]), (m - d->low[h]) / (one + d->low[h]));
	}
}

static inline void dd_density_half_is(dd_density *d, unsigned upper)
{
	for (unsigned h = 0; h < d->fours; h++) {
		if (upper)
			d->low[h] = d->at[h];
		else
			d->high[h] = d->at[h];
	}
}

#endif
