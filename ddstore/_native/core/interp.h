/*
 * Mode `interp`: coarse to fine, each row predicted from decoded rows on both sides, and quantized around that prediction.
 *
 * The lattice is a fine one; `width` of its points in a row are legal for every row (any of them keeps the bound), so the
 * residual moves in steps of `width`. A smooth stretch costs next to nothing: no border of a coarse lattice is crossed.
 */
#ifndef DD_INTERP_H
#define DD_INTERP_H

#include "column.h"


/* Rows at odd multiples of s. */
static inline uint32_t dd_interp_rows(uint32_t values, uint32_t s)
{
	return values > s ? (values - s - 1) / (2 * s) + 1 : 0;
}

/* What is known around row i at distance s. All indices are of fine lattice points. */
typedef struct {
	uint64_t a, a2, a3, a4, b, b3; /* a at i - s, a2 at i - 2s, ..; b at i + s, b3 at i + 3s */
	uint64_t side;		       /* twice the side's own departure from its neighbours */
	bool inner;		       /* a3 and b3 are real */
} dd_interp_near;

static inline unsigned dd_interp_set(uint32_t s)
{
	unsigned set = dd_bit_length(s) - 1;

	return set < DD_INTERP_SETS ? set : DD_INTERP_SETS - 1;
}

/* `m` holds the rows at multiples of 2s, and those of s before i. */
static inline dd_interp_near dd_interp_look(const uint64_t *m, const int64_t *side, uint32_t count, uint32_t i, uint32_t s)
{
	dd_interp_near at = {.a = m[i - s]};
	uint32_t right = count - i > s ? i + s : i - s;

	at.b = m[right];
	at.a2 = i >= 2 * s ? m[i - 2 * s] : at.a;
	at.a3 = i >= 3 * s ? m[i - 3 * s] : at.a;
	at.a4 = i >= 4 * s ? m[i - 4 * s] : at.a2;
	at.b3 = count - i > 3 * s ? m[i + 3 * s] : at.b;
	at.inner = i >= 3 * s && count - i > 3 * s;
	if (side != NULL)
		at.side = 2 * (uint64_t)side[i] - (uint64_t)side[i - s] - (uint64_t)side[right];
	return at;
}

/* The prediction times 128: the mean of both neighbours and weighed departures from it. */
static inline uint64_t dd_interp_predict(const dd_interp_near *at, const int8_t *w)
{
	uint64_t sum = at->a + at->b;

	return 64 * sum + (uint64_t)(int64_t)w[0] * (2 * at->a - sum) + (uint64_t)(int64_t)w[1] * (2 * at->a2 - sum) +
	       (uint64_t)(int64_t)w[2] * (2 * at->a3 - sum) + (uint64_t)(int64_t)w[3] * (2 * at->a4 - sum) +
	       (uint64_t)(int64_t)w[4] * (2 * at->b3 - sum) + (uint64_t)(int64_t)w[5] * at->side;
}

static inline uint64_t dd_interp_round(uint64_t times128)
{
	return (uint64_t)((int64_t)(times128 + 64) >> 7);
}

/* The step, in units of `width`, from a lowest legal point to the one that `x` allows; encoder only. */
static inline int64_t dd_interp_steps(uint64_t x, uint64_t lowest, uint64_t width)
{
	int64_t d = (int64_t)(x - lowest), w = (int64_t)width;

	return d >= 0 ? d / w : -(-(d + 1) / w) - 1;
}

#endif
