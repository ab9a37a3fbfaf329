/*
 * What mode `adaptive` makes of its filters' predictions (kind 16): a cascade of sign-error least mean squares, each stage
 * over what the one before it left, and one prediction mixed from all of them by recursive least squares.
 *
 * Floats and doubles with + - * / in one fixed order. A stage's weights grow by at most 20 a row, so they stay finite.
 */
#ifndef DD_CM_CASCADE_H
#define DD_CM_CASCADE_H

#include "cm_filters.h"

enum {
	DD_CASCADE_STAGES = 3,
	DD_CASCADE_TAPS = 256,	 /* at most */
	DD_CASCADE_ROOM = 1024,	 /* rows until a stage's past is moved back to the end of its memory */
	DD_CASCADE_MIXED = 6	 /* predictions: of three filters, and of the cascade after each stage */
};

#define DD_CASCADE_MOST 1000.0f /* of what a stage predicts, and of what it is shown */

/* What history is read at any row. */
typedef float dd_v4_any __attribute__((vector_size(16), aligned(4)));

typedef struct {
	float w[DD_CASCADE_TAPS] __attribute__((aligned(16)));
	float past[DD_CASCADE_TAPS + DD_CASCADE_ROOM]; /* from `at` on: the last ones first */
	unsigned taps, at;
	float rate, size; /* `size`: moving average of what was to be predicted, without its sign */
	float predicted;
} dd_stage;

typedef struct {
	dd_stage stage[DD_CASCADE_STAGES];
	double sum[DD_CASCADE_STAGES + 1]; /* the first filter's prediction, and with each stage's added */
	dd_rls mix;
	double mixed;
} dd_cascade;

static inline void dd_cascade_start(dd_cascade *s)
{
	static const unsigned taps[DD_CASCADE_STAGES] = {DD_CASCADE_TAPS, 32, 16};
	static const float rate[DD_CASCADE_STAGES] = {0.0003f, 0.0008f, 0.002f};

	memset(s, 0, sizeof *s);
	for (unsigned k = 0; k < DD_CASCADE_STAGES; k++) {
		s->stage[k].taps = taps[k];
		s->stage[k].rate = rate[k];
		s->stage[k].size = 1.0f;
		s->stage[k].at = DD_CASCADE_ROOM;
	}
	dd_rls_start(&s->mix, DD_CASCADE_MIXED, 0.998);
	s->mix.w[0] = 1.0;
}

static inline float dd_stage_predict(dd_stage *s)
{
	const dd_v4 *w = (const dd_v4 *)(const void *)s->w;
	const dd_v4_any *x = (const dd_v4_any *)(const void *)(s->past + s->at);
	dd_v4 even = w[0] * x[0], odd = w[1] * x[1];

	for (unsigned i = 2; i < s->taps / 4; i += 2) {
		even += w[i] * x[i];
		odd += w[i + 1] * x[i + 1];
	}
	s->predicted = dd_clampf(dd_v4_sum(even + odd), DD_CASCADE_MOST);
	return s->predicted;
}

/* `shown`: what was to be predicted. */
static inline void dd_stage_learn(dd_stage *s, float shown)
{
	dd_v4 *w = (dd_v4 *)(void *)s->w;
	const dd_v4_any *x = (const dd_v4_any *)(const void *)(s->past + s->at);
	float off, step = s->rate / (0.1f + s->size);

	shown = dd_clampf(shown, DD_CASCADE_MOST);
	off = shown - s->predicted;
	step = off > 0 ? step : off < 0 ? -step : 0.0f;
	for (unsigned i = 0; i < s->taps / 4; i++)
		w[i] += x[i] * dd_v4_all(step);
	s->size += ((shown < 0 ? -shown : shown) - s->size) * 0.005f;
	if (s->at == 0) {
		s->at = DD_CASCADE_ROOM;
		memcpy(s->past + s->at, s->past, s->taps * sizeof *s->past);
	}
	s->past[--s->at] = shown;
}

/* From what the three filters predict, in their unit: what they and the cascade predict together. */
static inline double dd_cascade_predict(dd_cascade *s, const double *filtered)
{
	s->sum[0] = filtered[0];
	for (unsigned k = 0; k < DD_CASCADE_STAGES; k++) {
		s->sum[k + 1] = s->sum[k] + (double)dd_stage_predict(&s->stage[k]);
		s->mix.x[k] = filtered[k];
		s->mix.x[DD_CASCADE_MIXED - 1 - k] = s->sum[k + 1];
	}
	return s->mixed = dd_rls_predict(&s->mix);
}

static inline void dd_cascade_learn(dd_cascade *s, double moved)
{
	for (unsigned k = 0; k < DD_CASCADE_STAGES; k++)
		dd_stage_learn(&s->stage[k], (float)(moved - s->sum[k]));
	dd_rls_learn(&s->mix, moved - s->mixed);
}

#endif
