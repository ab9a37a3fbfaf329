/* Encoder only: values to bins, and the exact check of what is read back. Loops are written to vectorise. */
#include "quantize.h"

#define SMALL 2251799813685248.0 /* 2^51 */

DD_INLINE double load(dd_type type, const void *values, uint32_t i)
{
	return type == DD_FLOAT32 ? (double)((const float *)values)[i] : ((const double *)values)[i];
}

static int64_t load_integer(dd_type type, const void *values, uint32_t i)
{
	switch (type) {
	case DD_INT16:
		return ((const int16_t *)values)[i];
	case DD_INT32:
		return ((const int32_t *)values)[i];
	default:
		return ((const int64_t *)values)[i];
	}
}

DD_INLINE uint64_t bits_of(double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof bits);
	return bits;
}

/* Half to even, as the default rounding has it. */
static double nearest(double v)
{
	double size = v < 0 ? -v : v, whole = size < 4503599627370496.0 ? (size + 4503599627370496.0) - 4503599627370496.0 : size;

	return v < 0 ? -whole : whole;
}

/* Casts beyond int64 are undefined in C: such a value ends in some bin, and the check of the bound finds it there. */
static int64_t to_integer(double v)
{
	return v > -9.2e18 && v < 9.2e18 ? (int64_t)v : 0;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

DD_INLINE double largest_of(dd_type type, const void *values, uint32_t n)
{
	double most[4] = {0, 0, 0, 0}; /* four chains: one would wait for itself */
	uint32_t i = 0;

	for (; i + 4 <= n; i += 4)
		for (unsigned k = 0; k < 4; k++) {
			double size = __builtin_fabs(load(type, values, i + k));

			most[k] = size > most[k] ? size : most[k];
		}
	for (; i < n; i++)
		most[0] = __builtin_fabs(load(type, values, i)) > most[0] ? __builtin_fabs(load(type, values, i)) : most[0];
	for (unsigned k = 1; k < 4; k++)
		most[0] = most[k] > most[0] ? most[k] : most[0];
	return most[0];
}

double dd_largest(dd_type type, const void *values, uint32_t n)
{
	return type == DD_FLOAT32 ? largest_of(DD_FLOAT32, values, n) : largest_of(DD_FLOAT64, values, n);
}

/* Both kinds of float bins where nothing is too large for doubles to hold whole numbers: no branch, no conversion. */
DD_INLINE void small_steps(const dd_bins *b, dd_type type, const void *values, uint32_t n, uint64_t *index)
{
	for (uint32_t i = 0; i < n; i++)
		index[i] = bits_of((load(type, values, i) - b->offset) / b->step + DD_WHOLE) - bits_of(DD_WHOLE);
}

DD_INLINE void small_grid(const dd_bins *b, dd_type type, const void *values, uint32_t n, uint64_t *index)
{
	/* Rounding from the middle of a bin is flooring from its start, and never meets a tie. */
	double middle = (double)b->low + ((double)b->width - 1) / 2, width = (double)b->width;

	for (uint32_t i = 0; i < n; i++) {
		double numerator = (load(type, values, i) * b->den + DD_WHOLE) - DD_WHOLE;

		index[i] = bits_of((numerator - middle) / width + DD_WHOLE) - bits_of(DD_WHOLE);
	}
}

static void quantize_floats(const dd_bins *b, dd_type type, const void *values, uint32_t n, uint64_t *index)
{
	double most = dd_largest(type, values, n);

	if (b->kind == DD_LATTICE_STEP) {
		if ((most + __builtin_fabs(b->offset)) / b->step < SMALL) {
			if (type == DD_FLOAT32)
				small_steps(b, DD_FLOAT32, values, n, index);
			else
				small_steps(b, DD_FLOAT64, values, n, index);
			return;
		}
		for (uint32_t i = 0; i < n; i++)
			index[i] = (uint64_t)to_integer(nearest((load(type, values, i) - b->offset) / b->step));
		return;
	}
	if (most * b->den + __builtin_fabs((double)b->low) + (double)b->width < SMALL) {
		if (type == DD_FLOAT32)
			small_grid(b, DD_FLOAT32, values, n, index);
		else
			small_grid(b, DD_FLOAT64, values, n, index);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint64_t numerator = (uint64_t)to_integer(nearest(load(type, values, i) * b->den));

		index[i] = (uint64_t)floor_divide((int64_t)(numerator - (uint64_t)b->low), b->width);
	}
}

static void quantize_ordinals(const dd_bins *b, dd_type type, const void *values, uint32_t n, uint64_t *index)
{
	for (uint32_t i = 0; i < n; i++) {
		int64_t bits = type == DD_FLOAT32 ? ((const int32_t *)values)[i] : ((const int64_t *)values)[i];
		int64_t top = type == DD_FLOAT32 ? INT32_MIN : INT64_MIN;
		int64_t order = bits < 0 ? top - bits : bits; /* sign and magnitude to two's complement */

		index[i] = (uint64_t)order;
	}
	for (uint32_t i = 0; i < n && b->width > 1; i++)
		index[i] = (uint64_t)floor_divide((int64_t)(index[i] - (uint64_t)b->low), b->width);
}

void dd_quantize(const dd_bins *b, dd_type type, const void *values, uint32_t n, uint64_t *index)
{
	if (b->kind == DD_LATTICE_ORDINAL) {
		quantize_ordinals(b, type, values, n, index);
	} else if (type >= DD_FLOAT32) {
		quantize_floats(b, type, values, n, index);
	} else {
		for (uint32_t i = 0; i < n; i++)
			index[i] = (uint64_t)load_integer(type, values, i) - (uint64_t)b->low;
		for (uint32_t i = 0; i < n && b->width > 1; i++)
			index[i] = (uint64_t)floor_divide((int64_t)index[i], b->width);
	}
}

static uint32_t integer_violations(dd_type type, const void *values, const void *read, uint32_t n,
				   const double *allowed, bool each, uint8_t *beyond)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < n; i++) {
		int64_t x = load_integer(type, values, i), y = load_integer(type, read, i);
		double most = allowed[each ? i : 0];
		uint64_t distance = x > y ? (uint64_t)x - (uint64_t)y : (uint64_t)y - (uint64_t)x;
		uint64_t limit = most >= 9223372036854775808.0 ? 1ull << 63 : (uint64_t)most;

		beyond[i] = distance > limit;
		count += beyond[i];
	}
	return count;
}

/* Whether all of them are so clearly within the bound that no closer look is needed: the usual case. */
DD_INLINE bool clearly_within(dd_type type, const void *values, const void *read, uint32_t from, uint32_t to,
			      const double *allowed, bool each)
{
	int64_t doubtful = 0;

	for (uint32_t i = from; i < to; i++) {
		double x = load(type, values, i), y = load(type, read, i), most = allowed[each ? i : 0];

		/* Rounding is monotone: a rounded distance below the bound was below it before. */
		doubtful |= (__builtin_fabs(x - y) < most ? 0 : -1) & (x == y ? 0 : -1);
		if (type == DD_FLOAT32)
			doubtful |= (double)__builtin_fabsf((float)x - (float)y) <= most ? 0 : -1;
	}
	return doubtful == 0;
}

DD_INLINE bool within(dd_type type, double x, double y, double most)
{
	/* Knuth's TwoSum: distance + error is x - y exactly, so that a tie with the bound is decided rightly. */
	double distance = x - y, turned = distance - x, error = (x - (distance - turned)) + (-y - turned);
	double size = __builtin_fabs(distance);

	if (!(size < most) && !(size == most && (distance < 0 ? -error : error) <= 0))
		return false;
	/* PostgreSQL subtracts float4 in float4: that rounded distance must hold the bound as well. */
	return type != DD_FLOAT32 || (double)__builtin_fabsf((float)x - (float)y) <= most;
}

DD_INLINE uint32_t float_violations(dd_type type, const void *values, const void *read, uint32_t n,
				    const double *allowed, bool each, uint8_t *beyond)
{
	enum { SOME = 256 };
	uint32_t count = 0;

	memset(beyond, 0, n);
	for (uint32_t from = 0, to; from < n; from = to) {
		to = n - from < SOME ? n : from + SOME;
		if (clearly_within(type, values, read, from, to, allowed, each))
			continue;
		for (uint32_t i = from; i < to; i++) {
			beyond[i] = !within(type, load(type, values, i), load(type, read, i), allowed[each ? i : 0]);
			count += beyond[i];
		}
	}
	return count;
}

uint32_t dd_violations(dd_type type, const void *values, const void *read, uint32_t n, const double *allowed, bool each,
		       uint8_t *beyond)
{
	if (type < DD_FLOAT32)
		return integer_violations(type, values, read, n, allowed, each, beyond);
	if (type == DD_FLOAT32)
		return each ? float_violations(DD_FLOAT32, values, read, n, allowed, true, beyond)
			    : float_violations(DD_FLOAT32, values, read, n, allowed, false, beyond);
	return each ? float_violations(DD_FLOAT64, values, read, n, allowed, true, beyond)
		    : float_violations(DD_FLOAT64, values, read, n, allowed, false, beyond);
}
