/* Integer arithmetic of the learned models: linear layers of int8 weights as docs/format.md has them, GELU, rounding. */
#ifndef DD_INTEGER_H
#define DD_INTEGER_H

#include "column.h"

#define DD_MAX_SHIFT 15

/* C leaves >> of a negative number to the compiler; the format needs the arithmetic one, as every compiler has it. */
_Static_assert((-3 >> 1) == -2, "arithmetic right shift needed");

static inline uint16_t dd_read16(const uint8_t *p)
{
	return (uint16_t)(p[0] | (unsigned)p[1] << 8);
}

static inline uint64_t dd_read64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

static inline int32_t dd_signed16(const uint8_t *p)
{
	int32_t v = dd_read16(p);

	return v < 32768 ? v : v - 65536;
}

static inline int16_t dd_signed8(uint8_t v)
{
	return (int16_t)(v < 128 ? v : v - 256);
}

static inline bool dd_finite_bits(uint64_t bits)
{
	return (bits >> 52 & 0x7ff) != 0x7ff;
}

/* A mean, which is finite, and a standard deviation, which is finite and above zero. */
static inline bool dd_moments_sound(uint64_t mean_bits, uint64_t std_bits)
{
	return dd_finite_bits(mean_bits) && dd_finite_bits(std_bits) && std_bits != 0 && !(std_bits >> 63);
}

static inline size_t dd_linear_bytes(size_t inputs, size_t outputs)
{
	return outputs * (3 + inputs);
}

/* Steps over a linear layer; false when one of its shifts is out of range. */
static inline bool dd_check_linear(const uint8_t **p, size_t inputs, size_t outputs)
{
	for (size_t r = 0; r < outputs; r++)
		if ((*p)[r] < 1 || (*p)[r] > DD_MAX_SHIFT)
			return false;
	*p += dd_linear_bytes(inputs, outputs);
	return true;
}

static inline int32_t dd_clamp(int32_t v, int32_t low, int32_t high)
{
	return v < low ? low : v > high ? high : v;
}

static inline int16_t dd_clamp16(int32_t v)
{
	return (int16_t)dd_clamp(v, INT16_MIN, INT16_MAX);
}

/* v / 2**shift, halves up */
static inline int32_t dd_round_shift(int32_t v, int32_t shift)
{
	return (v + (INT32_C(1) << (shift - 1))) >> shift;
}

/* Of a fixed length, so that the compiler unrolls it into vectors at any level. */
static inline int32_t dd_dot32(const int16_t *a, const int16_t *b)
{
	int32_t sum = 0;

	for (int i = 0; i < 32; i++)
		sum += a[i] * b[i];
	return sum;
}

/* relu(x) - |x| max(0, 1 - |x| / 2.5)**2 / 2, Q12 */
static inline void dd_gelu(int16_t *restrict x, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int32_t magnitude = x[i] < 0 ? -x[i] : x[i];
		int32_t v = magnitude < 10240 ? 10240 - magnitude : 0;	/* 2.5 - |x| */
		int32_t half_square = ((v * v) >> 11) * 20972 >> 15; /* (v / 2.5)**2 / 2 in Q16; 51200 * 20972 < 2**31 */
		/* half_square is 0 where |x| >= 2.5, so the product stays below 10240 * 2**15 */
		int32_t dip = (magnitude * half_square + 32768) >> 16;

		x[i] = (int16_t)((x[i] > 0 ? x[i] : 0) - dip);
	}
}

#endif
