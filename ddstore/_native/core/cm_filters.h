/*
 * Predictions that adapt to what has been decoded: recursive least squares (a few coefficients, learnt fast) and
 * normalised least mean squares (many, learnt slowly), over the last index differences and those of other columns.
 *
 * Doubles and floats with + - * / in one fixed order. Whatever the bytes hold, a filter that leaves its range starts anew.
 */
#ifndef DD_CM_FILTERS_H
#define DD_CM_FILTERS_H

#include "logistic.h"

#define DD_RLS_MOST 26u /* coefficients; even */
#define DD_LMS_TAPS 32u

typedef double dd_v2d __attribute__((vector_size(16)));

typedef struct {
	double p[DD_RLS_MOST][DD_RLS_MOST] __attribute__((aligned(16))); /* inverse correlation */
	double w[DD_RLS_MOST], x[DD_RLS_MOST];
	unsigned n; /* coefficients in use, rounded up to even; the odd one's input stays 0 */
	double forget;
} dd_rls;

static inline void dd_rls_restart(dd_rls *r, double start)
{
	memset(r->p, 0, sizeof r->p);
	for (unsigned i = 0; i < r->n; i++)
		r->p[i][i] = start;
}

static inline void dd_rls_start(dd_rls *r, unsigned n, double forget)
{
	memset(r, 0, sizeof *r);
	r->n = (n + 1) & ~1u;
	r->forget = forget;
	dd_rls_restart(r, 1.0);
}

static inline double dd_dot_v2d(const double *a, const double *b, unsigned n)
{
	const dd_v2d *u = (const dd_v2d *)(const void *)a, *v = (const dd_v2d *)(const void *)b;
	dd_v2d sum = u[0] * v[0];

	for (unsigned i = 1; i < n / 2; i++)
		sum += u[i] * v[i];
	return sum[0] + sum[1];
}

static inline double dd_rls_predict(const dd_rls *r)
{
	return dd_dot_v2d(r->w, r->x, r->n);
}

/* `error`: what was to be predicted, less the prediction. */
static inline void dd_rls_learn(dd_rls *r, double error)
{
	double gain[DD_RLS_MOST] __attribute__((aligned(16))) = {0};
	double trace = 0, denominator = r->forget, step;
	dd_v2d grow = {1.0 / r->forget, 1.0 / r->forget}, shrink;

	for (unsigned i = 0; i < r->n; i++)
		gain[i] = dd_dot_v2d(r->p[i], r->x, r->n);
	denominator += dd_dot_v2d(gain, r->x, r->n);
	step = error / denominator;
	shrink = grow / (dd_v2d){denominator, denominator};
	for (unsigned i = 0; i < r->n; i++)
		r->w[i] += gain[i] * step;
	for (unsigned i = 0; i < r->n; i++) {
		dd_v2d *row = (dd_v2d *)(void *)r->p[i], own = {gain[i], gain[i]};
		const dd_v2d *g = (const dd_v2d *)(const void *)gain;

		/* gain[i] gain[j] first: the matrix has to stay symmetric to the last bit, or it runs away. */
		for (unsigned j = 0; j < r->n / 2; j++)
			row[j] = row[j] * grow - own * g[j] * shrink;
		trace += r->p[i][i];
	}
	if (!(trace < 1e9)) /* also NaN */
		dd_rls_restart(r, 1.0);
	if (!(step < 1e9 && step > -1e9))
		memset(r->w, 0, sizeof r->w);
}

typedef struct {
	float w[DD_LMS_TAPS] __attribute__((aligned(16))), x[DD_LMS_TAPS];
} dd_lms;

static inline float dd_lms_dot(const float *a, const float *b)
{
	const dd_v4 *u = (const dd_v4 *)(const void *)a, *v = (const dd_v4 *)(const void *)b;
	dd_v4 sum = u[0] * v[0];

	for (unsigned i = 1; i < DD_LMS_TAPS / 4; i++)
		sum += u[i] * v[i];
	return dd_v4_sum(sum);
}

static inline void dd_lms_learn(dd_lms *l, float error)
{
	float power = dd_lms_dot(l->x, l->x) * (1.0f / DD_LMS_TAPS), step = 0.002f * error / (0.1f + power);
	dd_v4 *w = (dd_v4 *)(void *)l->w;
	const dd_v4 *x = (const dd_v4 *)(const void *)l->x;

	for (unsigned i = 0; i < DD_LMS_TAPS / 4; i++)
		w[i] += x[i] * dd_v4_all(step);
	if (!(step < 1e9f && step > -1e9f))
		memset(l->w, 0, sizeof l->w);
}

#endif
