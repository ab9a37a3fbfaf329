/* Encoder only: code lengths to choose by. Counts that cost c_i bits each: times_log(sum) - sum of times_log(c_i). */
#ifndef DD_ENTROPY_H
#define DD_ENTROPY_H

#include "column.h"

/* n log2 n, near enough to choose by (no libm: log2(1 + m) is a polynomial). */
static inline float dd_times_log(uint32_t n)
{
	uint32_t e;
	float m;

	if (n < 2)
		return 0;
	e = dd_bit_length(n) - 1;
	m = (float)n / (float)(1u << e) - 1.0f;
	return (float)n * ((float)e + m * (1.4387f + m * (-0.6778f + m * (0.3235f - m * 0.0844f))));
}

#endif
