/* Encoder only: what a column's values are like. Their classes, exact sum, roughness and grid. */
#include "entropy.h"
#include "quantize.h"

static unsigned odd_class(dd_type type, uint64_t bits)
{
	bool narrow = type == DD_FLOAT32;

	if (bits == (narrow ? 0x7fc00000u : 0x7ff8000000000000u))
		return DD_ROW_NAN;
	return bits == (narrow ? 0x80000000u : 1ull << 63) ? DD_ROW_NEGATIVE_ZERO : DD_ROW_EXACT;
}

uint32_t dd_classify(dd_type type, const void *values, const uint8_t *valid, uint32_t n, uint8_t *class)
{
	const uint32_t *narrow = values;
	const uint64_t *wide = values;
	uint32_t odd = 0;

	/* An ordinary float has an exponent that is neither the least nor the greatest, or is 0.0. */
	if (type == DD_FLOAT32) {
		for (uint32_t i = 0; i < n; i++)
			class[i] = ((narrow[i] & 0x7f800000u) - 0x00800000u >= 0x7f000000u) & (narrow[i] != 0);
	} else if (type == DD_FLOAT64) {
		for (uint32_t i = 0; i < n; i++)
			class[i] = ((wide[i] >> 52 & 0x7ff) - 1 >= 0x7fe) & (wide[i] != 0);
	} else {
		memset(class, 0, n);
	}
	for (uint32_t i = 0; i < n; i++)
		odd += class[i];
	for (uint32_t i = 0; i < n && odd > 0; i++)
		if (class[i])
			class[i] = (uint8_t)odd_class(type, type == DD_FLOAT32 ? narrow[i] : wide[i]);
	if (valid == NULL)
		return odd;
	odd = 0;
	for (uint32_t i = 0; i < n; i++) {
		class[i] = valid[i] ? class[i] : DD_ROW_NULL;
		odd += class[i] != DD_ROW_VALUE;
	}
	return odd;
}

uint32_t dd_sum_add(dd_sum *sum, dd_type type, const void *values, uint32_t n)
{
	uint32_t odd = 0;

	for (uint32_t i = 0; i < n; i++) {
		double v = type == DD_FLOAT32 ? (double)((const float *)values)[i] : ((const double *)values)[i];
		uint64_t bits, m;
		uint32_t exponent, shift;
		int64_t sign, *limb;

		memcpy(&bits, &v, sizeof bits);
		exponent = bits >> 52 & 0x7ff;
		m = bits & ((1ull << 52) - 1);
		if (exponent == 0x7ff) {
			odd++;
			continue;
		}
		m |= (uint64_t)(exponent > 0) << 52;
		exponent -= exponent > 0;
		sign = -(int64_t)(bits >> 63);
		shift = exponent & 31;
		limb = sum->limb + (exponent >> 5);
		/* Each limb gets less than 2^32 at a time: a column's rows are far from its 2^63. */
		limb[0] += ((int64_t)(m << shift & UINT32_MAX) ^ sign) - sign;
		limb[1] += ((int64_t)(m >> (32 - shift) & UINT32_MAX) ^ sign) - sign;
		limb[2] += ((int64_t)(m >> 1 >> (63 - shift)) ^ sign) - sign;
	}
	return odd;
}

float dd_roughness(const uint64_t *index, uint32_t n)
{
	enum { REACH = 64, FAR = 2 * REACH + 1, BINS = FAR + 2 * 65, COPIES = 4 };
	/* Small differences, then the bit lengths of others, up and down; in copies, as most add to the same bin. */
	uint32_t count[COPIES][BINS] = {0};
	float bits = dd_times_log(n > 0 ? n - 1 : 0);

	for (uint32_t i = 1; i < n; i++) {
		int64_t d = (int64_t)(index[i] - index[i - 1]);

		if (d >= -REACH && d <= REACH)
			count[i % COPIES][REACH + d]++;
		else
			count[i % COPIES][FAR + 2 * dd_bit_length(d < 0 ? 0 - (uint64_t)d : (uint64_t)d) + (d < 0)]++;
	}
	for (unsigned i = 0; i < BINS; i++) {
		for (unsigned k = 1; k < COPIES; k++)
			count[0][i] += count[k][i];
		bits -= dd_times_log(count[0][i]);
		if (i > FAR)
			bits += (float)(((i - FAR) / 2 - 1) * count[0][i]);
	}
	return bits;
}

#define PROBES 64u

static const uint64_t denominators[] = {
	1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000, 1000000000000,
	1u << 1, 1u << 2, 1u << 3, 1u << 4, 1u << 5, 1u << 6, 1u << 7, 1u << 8, 1u << 9, 1u << 10, 1u << 11, 1u << 12,
	1u << 13, 1u << 14, 1u << 15, 1u << 16,
};

DD_INLINE double at(dd_type type, const void *values, uint32_t i)
{
	return type == DD_FLOAT32 ? (double)((const float *)values)[i] : ((const double *)values)[i];
}

/* Half to even; beyond 2^52 every double is whole. */
DD_INLINE double nearest(double v)
{
	double size = v < 0 ? -v : v, whole = (size + 4503599627370496.0) - 4503599627370496.0;

	whole = size < 4503599627370496.0 ? whole : size;
	return v < 0 ? -whole : whole;
}

DD_INLINE bool on_grid(double v, double den, bool via_float32)
{
	double back = nearest(v * den) / den;

	return (via_float32 ? (double)(float)back : back) == v;
}

/* How many of every `stride`-th value lie on the grid; stops once more than `misses` do not. */
DD_INLINE uint32_t count_hits(dd_type type, const void *values, uint32_t n, uint32_t stride, double den, bool via_float32,
			      uint32_t misses)
{
	enum { SOME = 256 };
	uint32_t seen = 0, hits = 0;

	for (uint32_t i = 0; i < n && seen - hits <= misses;)
		for (uint32_t stop = seen + SOME; i < n && seen < stop; i += stride, seen++)
			hits += on_grid(at(type, values, i), den, via_float32);
	return hits;
}

static uint32_t hits_of(dd_type type, const void *values, uint32_t n, uint32_t stride, double den, bool via_float32,
			uint32_t misses)
{
	if (type == DD_FLOAT32)
		return count_hits(DD_FLOAT32, values, n, stride, den, true, misses);
	return via_float32 ? count_hits(DD_FLOAT64, values, n, stride, den, true, misses)
			   : count_hits(DD_FLOAT64, values, n, stride, den, false, misses);
}

static uint64_t distance(int64_t a, int64_t b)
{
	return a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b != 0) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* The greatest common divisor of all distances from the first numerator on the grid, which is the origin. */
static void find_pitch(dd_type type, const void *values, uint32_t n, dd_grid *grid)
{
	double den = (double)grid->den;
	uint64_t pitch = 0;
	bool seen = false;

	for (uint32_t i = 0; i < n && pitch != 1; i++) {
		double v = at(type, values, i);
		int64_t numerator;

		if (grid->hits < n && !on_grid(v, den, grid->via_float32 || type == DD_FLOAT32))
			continue;
		numerator = (int64_t)nearest(v * den);
		if (!seen)
			grid->origin = numerator;
		seen = true;
		pitch = common_divisor(distance(numerator, grid->origin), pitch);
	}
	grid->pitch = pitch > 0 ? (int64_t)pitch : 1;
}

static int64_t integer_at(dd_type type, const void *values, uint32_t i)
{
	if (type == DD_INT16)
		return ((const int16_t *)values)[i];
	return type == DD_INT32 ? ((const int32_t *)values)[i] : ((const int64_t *)values)[i];
}

void dd_integer_grid(dd_type type, const void *values, uint32_t n, dd_grid *grid)
{
	int64_t origin = integer_at(type, values, 0), least = origin, most = origin;
	uint64_t pitch = 0;

	for (uint32_t i = 1; i < n; i++) {
		int64_t v = integer_at(type, values, i);

		least = v < least ? v : least;
		most = v > most ? v : most;
	}
	*grid = (dd_grid){n, 1, false, 0, 1};
	if (distance(most, least) >= 1ull << 62)
		return;
	for (uint32_t i = 1; i < n && pitch != 1; i++)
		pitch = common_divisor(distance(integer_at(type, values, i), origin), pitch);
	grid->origin = origin;
	grid->pitch = pitch > 0 ? (int64_t)pitch : 1;
}

void dd_find_grids(dd_type type, const void *values, uint32_t n, dd_grid *all, dd_grid *most)
{
	uint32_t stride = n > PROBES ? n / PROBES : 1, probes = (n + stride - 1) / stride;
	double peak = dd_largest(type, values, n);

	*all = *most = (dd_grid){0};
	for (unsigned via = type == DD_FLOAT32; via < 2 && all->hits == 0; via++) {
		/* float32 tells apart no more than 24 bits: a finer "grid" would fit anything. */
		double limit = via ? 16777216.0 : 9007199254740992.0;

		for (unsigned k = 0; k < sizeof denominators / sizeof *denominators && all->hits == 0; k++) {
			double den = (double)denominators[k];
			uint32_t hits;

			if (peak * den >= limit || hits_of(type, values, n, stride, den, via, probes) < probes - probes / 14)
				continue;
			hits = hits_of(type, values, n, 1, den, via, n / 50);
			if (n - hits > n / 50)
				continue;
			if (most->hits == 0)
				*most = (dd_grid){hits, denominators[k], via && type == DD_FLOAT64, 0, 1};
			if (hits == n)
				*all = (dd_grid){hits, denominators[k], via && type == DD_FLOAT64, 0, 1};
		}
	}
	if (all->hits > 0)
		find_pitch(type, values, n, all);
	if (most->hits == n)
		*most = *all;
	else if (most->hits > 0)
		find_pitch(type, values, n, most);
}
