/*
 * Mode `interp` under coder `rans`: coarse to fine, where a row is predicted from decoded rows of coarser levels only, and
 * so is the table that its residual is coded under. Hence a level decodes as one batch.
 *
 * Points of a level stand side by side, those of the rows at multiples of 2s; the rows between them make of them the
 * points at multiples of s. Behind either end the last point goes on.
 */
#ifndef DD_LEVELS_H
#define DD_LEVELS_H

#include "interp.h"
#include "rans.h"

enum { DD_LEVELS_EDGE = 4 }; /* points behind either end */
enum { DD_LEVELS_ANCHORS = DD_INTERP_SETS }; /* the group of contexts of anchors, behind those of the levels */

/* Points and residuals (clipped to +-127) of what is decoded, and room for the next level's. */
typedef struct {
	uint64_t *m, *next_m;
	int8_t *e, *next_e;
	uint32_t count; /* points in m */
} dd_levels;

static inline size_t dd_levels_points(uint32_t n)
{
	return dd_align(((size_t)n + 2 * DD_LEVELS_EDGE) * sizeof(uint64_t));
}

static inline size_t dd_levels_residuals(uint32_t n)
{
	return dd_align((size_t)n + 2 * DD_LEVELS_EDGE);
}

static inline size_t dd_levels_size(uint32_t n)
{
	return dd_levels_points(n) + dd_levels_points(n / 2 + 1) + dd_levels_residuals(n) + dd_levels_residuals(n / 2 + 1);
}

/* The rows that are anchors, of `values`. */
static inline uint32_t dd_levels_anchors(uint32_t values, unsigned stride)
{
	return ((values - 1) >> stride) + 1;
}

/* Start where, after `stride` levels, all points of n rows are in the larger room. */
static inline void dd_levels_start(dd_levels *l, uint32_t n, unsigned stride, void *memory)
{
	uint8_t *at = memory;
	uint64_t *m[2];
	int8_t *e[2];

	for (unsigned k = 0; k < 2; k++) {
		m[k] = (uint64_t *)(void *)at + DD_LEVELS_EDGE;
		at += dd_levels_points(k == 0 ? n : n / 2 + 1);
	}
	for (unsigned k = 0; k < 2; k++) {
		e[k] = (int8_t *)at + DD_LEVELS_EDGE;
		at += dd_levels_residuals(k == 0 ? n : n / 2 + 1);
	}
	*l = (dd_levels){m[stride & 1], m[~stride & 1], e[stride & 1], e[~stride & 1], 0};
}

/* So many points are there: both ends go on. */
static inline void dd_levels_there(dd_levels *l, uint32_t count)
{
	l->count = count;
	for (int k = 1; k <= DD_LEVELS_EDGE; k++) {
		l->m[-k] = l->m[0];
		l->e[-k] = l->e[0];
		l->m[(int64_t)count - 1 + k] = l->m[count - 1];
		l->e[(int64_t)count - 1 + k] = l->e[count - 1];
	}
}

/* The next level's points are complete. */
static inline void dd_levels_next(dd_levels *l, uint32_t count)
{
	uint64_t *m = l->m;
	int8_t *e = l->e;

	l->m = l->next_m;
	l->e = l->next_e;
	l->next_m = m;
	l->next_e = e;
	dd_levels_there(l, count);
}

DD_INLINE uint32_t dd_levels_kind(int64_t x)
{
	return (uint32_t)(x > 0) | (uint32_t)(x < 0) << 1;
}

enum { DD_LEVELS_PIECE = 512 }; /* rows whose contexts are made at a time */

/*
 * The contexts of at most DD_LEVELS_PIECE rows from `from` on: a level of activity, of the residuals around and
 * of how the points around bend, and which way both go.
 */
static inline void dd_levels_contexts(const dd_levels *l, uint64_t width, uint32_t from, uint32_t rows, uint8_t *context)
{
	unsigned bits = dd_bit_length(width), shift = bits > 2 ? bits - 2 : 0;
	const uint64_t *m = l->m + from;
	const int8_t *e = l->e + from;
	uint16_t size[DD_LEVELS_PIECE + 2 * DD_LEVELS_EDGE], near[DD_LEVELS_PIECE];

	for (uint32_t j = 0; j < rows + 2 * DD_LEVELS_EDGE; j++) {
		int16_t own = e[(int64_t)j - DD_LEVELS_EDGE];

		size[j] = (uint16_t)(own < 0 ? -own : own);
	}
	for (uint32_t j = 0; j < rows; j++) {
		const uint16_t *s = size + DD_LEVELS_EDGE + j;

		near[j] = (uint16_t)(4 * (s[0] + s[1]) + 2 * (s[-1] + s[2]) + s[-2] + s[3] + s[-3] + s[4]);
	}
	for (uint32_t j = 0; j < rows; j++) {
		int64_t bend = (int64_t)(m[j] + m[j + 1] - m[(int64_t)j - 1] - m[j + 2]);
		uint64_t bent = ((uint64_t)bend ^ (uint64_t)(bend >> 63)) >> shift;
		uint64_t activity = bent < 2047 ? near[j] + bent : 2047;

		activity = activity < 2047 ? activity : 2047;
		context[j] = (uint8_t)(dd_bit_length(activity) * DD_RANS_PAST + 4 * dd_levels_kind(bend) + dd_levels_kind(e[j] + e[j + 1]));
	}
}

/* Residuals of tokens as contexts know them. */
static inline void dd_levels_clipped(int8_t *clipped)
{
	memset(clipped, 0, DD_RANS_TOKENS);
	clipped[DD_TOKEN_PLAIN] = 127;
	for (unsigned token = DD_TOKEN_FIRST; token < DD_RANS_TOKENS; token++) {
		uint32_t least = dd_rans_least((token - DD_TOKEN_FIRST) / 2), size = least < 127 ? least : 127;

		clipped[token] = (int8_t)((token - DD_TOKEN_FIRST) & 1 ? -(int)size : (int)size);
	}
}

/* What the points around a row count for its prediction, 128 in all: a set of weights of departures from the mean of two. */
typedef struct {
	uint64_t a, b, a3, b3, a5, b5;
} dd_levels_taps;

static inline dd_levels_taps dd_levels_taps_of(const int8_t *w)
{
	int64_t mean = 64 - (w[0] + w[1] + w[2] + w[3] + w[4]);

	return (dd_levels_taps){(uint64_t)(mean + 2 * w[0]), (uint64_t)mean, (uint64_t)(int64_t)(2 * w[1]), (uint64_t)(int64_t)(2 * w[2]),
				(uint64_t)(int64_t)(2 * w[3]), (uint64_t)(int64_t)(2 * w[4])};
}

/* The prediction, times 128, of the row that follows this point. */
DD_INLINE uint64_t dd_levels_predict(const uint64_t *m, const dd_levels_taps *t)
{
	return t->a * m[0] + t->b * m[1] + t->a3 * m[-1] + t->b3 * m[2] + t->a5 * m[-2] + t->b5 * m[3];
}

/* Put row j of a level between the points around it: `e` steps from its prediction. */
DD_INLINE void dd_levels_put(dd_levels *l, const dd_column *c, uint32_t j, uint64_t lowest, uint64_t e, int8_t clipped)
{
	l->next_m[2 * (size_t)j] = l->m[j];
	l->next_m[2 * (size_t)j + 1] = lowest + c->width * e;
	l->next_e[2 * (size_t)j] = l->e[j];
	l->next_e[2 * (size_t)j + 1] = clipped;
}

/* All `rows` rows of a level are put. */
static inline void dd_levels_complete(dd_levels *l, uint32_t rows)
{
	if (rows < l->count) {
		l->next_m[2 * (size_t)rows] = l->m[rows];
		l->next_e[2 * (size_t)rows] = l->e[rows];
	}
	dd_levels_next(l, l->count + rows);
}

/* levels_encode.c */
size_t dd_levels_encode_workspace(const dd_column *c);
void dd_levels_encode(const dd_column *c, const dd_rows *rows, void *memory, dd_writer *w);

#endif
