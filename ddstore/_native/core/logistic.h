/*
 * exp, log and the logistic function in float, four at a time, from + - * / and the bits of a float: the same on every
 * CPU, as DESIGN's third invariant asks. Relative errors are about 1e-6; nothing here is NaN or infinite.
 */
#ifndef DD_LOGISTIC_H
#define DD_LOGISTIC_H

#include <stdint.h>
#include <string.h>

typedef float dd_v4 __attribute__((vector_size(16)));
typedef int32_t dd_i4 __attribute__((vector_size(16)));
typedef uint32_t dd_u4 __attribute__((vector_size(16)));

static inline dd_v4 dd_v4_all(float x)
{
	return (dd_v4){x, x, x, x};
}

static inline dd_v4 dd_v4_pick(dd_i4 yes, dd_v4 a, dd_v4 b)
{
	return (dd_v4)((yes & (dd_i4)a) | (~yes & (dd_i4)b));
}

/* Clamp; NaN becomes `low`. */
static inline dd_v4 dd_v4_clamp(dd_v4 x, float low, float high)
{
	x = dd_v4_pick(x > dd_v4_all(low), x, dd_v4_all(low));
	return dd_v4_pick(x < dd_v4_all(high), x, dd_v4_all(high));
}

static inline float dd_clampf(float x, float limit)
{
	return x > -limit ? x < limit ? x : limit : -limit;
}

static inline float dd_v4_sum(dd_v4 x)
{
	return (x[0] + x[1]) + (x[2] + x[3]);
}

#define DD_EXP_LIMIT 20.0f
#define DD_EXP_MOST 4.851652e8f /* exp(DD_EXP_LIMIT) */

/* exp(x), x clamped to +-DD_EXP_LIMIT. */
static inline dd_v4 dd_exp4(dd_v4 x)
{
	const dd_v4 magic = dd_v4_all(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
	dd_v4 t = dd_v4_clamp(x, -DD_EXP_LIMIT, DD_EXP_LIMIT) * dd_v4_all(1.44269504f), whole = t + magic, r, p;
	dd_i4 power = (dd_i4)whole - (dd_i4)magic;

	r = t - (whole - magic);
	p = r * dd_v4_all(0.00133335581f) + dd_v4_all(0.00961812911f);
	p = p * r + dd_v4_all(0.0555041087f);
	p = p * r + dd_v4_all(0.240226507f);
	p = p * r + dd_v4_all(0.693147181f);
	p = p * r + dd_v4_all(1.0f);
	return (dd_v4)((dd_u4)p + ((dd_u4)power << 23));
}

/* log(x) of normal positive floats. */
static inline dd_v4 dd_log4(dd_v4 x)
{
	dd_i4 bits = (dd_i4)x, power = (bits - 0x3f3504f3) >> 23; /* the mantissa goes to [sqrt 1/2, sqrt 2) */
	dd_v4 m = (dd_v4)((dd_u4)bits - ((dd_u4)power << 23)), s = (m - dd_v4_all(1.0f)) / (m + dd_v4_all(1.0f)), s2 = s * s, p;

	p = s2 * dd_v4_all(0.285714286f) + dd_v4_all(0.4f);
	p = p * s2 + dd_v4_all(0.666666667f);
	p = p * s2 + dd_v4_all(2.0f);
	return s * p + __builtin_convertvector(power, dd_v4) * dd_v4_all(0.693147181f);
}

/* 1 / (1 + exp(-x)) */
static inline dd_v4 dd_squash4(dd_v4 x)
{
	return dd_v4_all(1.0f) / (dd_v4_all(1.0f) + dd_exp4(-x));
}

#endif
