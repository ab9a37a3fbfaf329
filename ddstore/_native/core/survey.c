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

DD_INLINE double at(dd_type type, const void *values, uint32_t i)
{
	return type == DD_FLOAT32 ? (double)((const float *)values)[i] : ((const double *)values)[i];
}

/* Add m 2^(place - 1074). Each limb gets less than 2^32 at a time: a column's rows are far from its 2^63. */
DD_INLINE void add_at(dd_sum *sum, uint64_t m, int64_t sign, uint32_t place)
{
	uint32_t shift = place & 31;
	int64_t *limb = sum->limb + (place >> 5);

	limb[0] += ((int64_t)(m << shift & UINT32_MAX) ^ sign) - sign;
	limb[1] += ((int64_t)(m >> (32 - shift) & UINT32_MAX) ^ sign) - sign;
	limb[2] += ((int64_t)(m >> 1 >> (63 - shift)) ^ sign) - sign;
}

static uint32_t add_each(dd_sum *sum, dd_type type, const void *values, uint32_t n)
{
	uint32_t odd = 0;

	for (uint32_t i = 0; i < n; i++) {
		double v = at(type, values, i);
		uint64_t bits, m;
		uint32_t exponent;

		memcpy(&bits, &v, sizeof bits);
		exponent = bits >> 52 & 0x7ff;
		m = bits & ((1ull << 52) - 1);
		if (exponent == 0x7ff) {
			odd++;
			continue;
		}
		m |= (uint64_t)(exponent > 0) << 52;
		add_at(sum, m, -(int64_t)(bits >> 63), exponent - (exponent > 0));
	}
	return odd;
}

/*
 * Values that lie within a hundred bits of the largest, as nearly all do, are two whole numbers each, of 51 bits and of
 * the 50 below: those of a block are added before they meet the limbs. Returns whether they were; otherwise nothing is.
 */
DD_INLINE bool add_block(dd_sum *sum, dd_type type, const void *values, uint32_t from, uint32_t to, uint32_t exponent)
{
	const double whole = DD_WHOLE;
	uint64_t bits = (uint64_t)(1023 + 1073 - exponent) << 52; /* of what takes the largest to 51 bits */
	double unit, fine = 1125899906842624.0; /* 2^50 */
	int64_t one, lost = 0, sums[2] = {0, 0};

	memcpy(&unit, &bits, sizeof unit);
	memcpy(&one, &whole, sizeof one);
	for (uint32_t i = from; i < to; i++) {
		double v = at(type, values, i) * unit, h = v + whole, l, rest = (v - (h - whole)) * fine;
		int64_t hb, lb;

		l = rest + whole;
		memcpy(&hb, &h, sizeof hb);
		memcpy(&lb, &l, sizeof lb);
		sums[0] += hb - one;
		sums[1] += lb - one;
		lost |= l - whole == rest ? 0 : -1;
	}
	if (lost != 0)
		return false;
	for (unsigned k = 0; k < 2; k++)
		add_at(sum, sums[k] < 0 ? 0 - (uint64_t)sums[k] : (uint64_t)sums[k], sums[k] < 0 ? -1 : 0, exponent + 1 - 50 * k);
	return true;
}

DD_INLINE uint32_t add_blocks(dd_sum *sum, dd_type type, const void *values, uint32_t n)
{
	enum { SOME = 2048 };
	size_t width = dd_type_width(type);
	double peak = dd_largest(type, values, n);
	uint32_t exponent, odd = 0;
	uint64_t bits;

	memcpy(&bits, &peak, sizeof bits);
	exponent = (uint32_t)(bits >> 52);
	for (uint32_t from = 0, to; from < n; from = to) {
		to = n - from < SOME ? n : from + SOME;
		/* Multiplying by less than 1 could lose the smallest ones unnoticed. */
		if (exponent < 200 || exponent > 1073 || !add_block(sum, type, values, from, to, exponent))
			odd += add_each(sum, type, (const uint8_t *)values + from * width, to - from);
	}
	return odd;
}

uint32_t dd_sum_add(dd_sum *sum, dd_type type, const void *values, uint32_t n)
{
	return type == DD_FLOAT32 ? add_blocks(sum, DD_FLOAT32, values, n) : add_blocks(sum, DD_FLOAT64, values, n);
}

enum { REACH = 64, FAR = 2 * REACH + 1, BINS = FAR + 2 * 65, COPIES = 4 };

/* Small differences, then the bit lengths of others, up and down; in copies, as most add to the same bin. */
typedef uint32_t histogram[COPIES][BINS];

DD_INLINE void count_step(histogram count, uint32_t i, int64_t d)
{
	if (d >= -REACH && d <= REACH)
		count[i % COPIES][REACH + d]++;
	else
		count[i % COPIES][FAR + 2 * dd_bit_length(d < 0 ? 0 - (uint64_t)d : (uint64_t)d) + (d < 0)]++;
}

/* What n differences take. */
static float roughness_of(histogram count, uint32_t n)
{
	float bits = dd_times_log(n);

	for (unsigned i = 0; i < BINS; i++) {
		for (unsigned k = 1; k < COPIES; k++)
			count[0][i] += count[k][i];
		bits -= dd_times_log(count[0][i]);
		if (i > FAR)
			bits += (float)(((i - FAR) / 2 - 1) * count[0][i]);
	}
	return bits;
}

float dd_roughness(const uint64_t *index, uint32_t n)
{
	histogram count = {{0}};

	for (uint32_t i = 1; i < n; i++)
		count_step(count, i, (int64_t)(index[i] - index[i - 1]));
	return roughness_of(count, n > 0 ? n - 1 : 0);
}

float dd_phase_roughness(const double *place, double shift, uint32_t n)
{
	histogram count = {{0}};
	uint64_t before = 0;

	for (uint32_t i = 0; i < n; i++) {
		double whole = (place[i] - shift) + DD_WHOLE;
		uint64_t bits;

		memcpy(&bits, &whole, sizeof bits);
		if (i > 0)
			count_step(count, i, (int64_t)(bits - before));
		before = bits;
	}
	return roughness_of(count, n > 0 ? n - 1 : 0);
}

#define PROBES 64u
#define SMALL 2251799813685248.0 /* 2^51 */

static const uint64_t denominators[] = {
	1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000, 1000000000000,
	1u << 1, 1u << 2, 1u << 3, 1u << 4, 1u << 5, 1u << 6, 1u << 7, 1u << 8, 1u << 9, 1u << 10, 1u << 11, 1u << 12,
	1u << 13, 1u << 14, 1u << 15, 1u << 16,
};

/* Half to even; beyond 2^52 every double is whole. */
DD_INLINE double nearest(double v)
{
	double size = v < 0 ? -v : v, whole = (size + 4503599627370496.0) - 4503599627370496.0;

	whole = size < 4503599627370496.0 ? whole : size;
	return v < 0 ? -whole : whole;
}

/* The same of doubles below 2^51, in two additions. */
DD_INLINE double nearest_small(double v)
{
	return (v + DD_WHOLE) - DD_WHOLE;
}

DD_INLINE bool on_grid(double v, double den, bool via_float32, bool small)
{
	double back = (small ? nearest_small(v * den) : nearest(v * den)) / den;

	return (via_float32 ? (double)(float)back : back) == v;
}

/* How many of every `stride`-th value lie on the grid; stops once more than `misses` do not. */
DD_INLINE uint32_t count_hits(dd_type type, const void *values, uint32_t n, uint32_t stride, double den, bool via_float32,
			      bool small, uint32_t misses)
{
	enum { SOME = 256 };
	uint32_t seen = 0, hits = 0;

	for (uint32_t i = 0; i < n && seen - hits <= misses;)
		for (uint32_t stop = seen + SOME; i < n && seen < stop; i += stride, seen++)
			hits += on_grid(at(type, values, i), den, via_float32, small);
	return hits;
}

DD_INLINE uint32_t hits_of(dd_type type, const void *values, uint32_t n, uint32_t stride, double den, bool via_float32,
			   double peak, uint32_t misses)
{
	return peak * den < SMALL ? count_hits(type, values, n, stride, den, via_float32, true, misses)
				  : count_hits(type, values, n, stride, den, via_float32, false, misses);
}

static uint32_t float_hits(dd_type type, const void *values, uint32_t n, uint32_t stride, double den, bool via_float32,
			   double peak, uint32_t misses)
{
	if (type == DD_FLOAT32)
		return hits_of(DD_FLOAT32, values, n, stride, den, true, peak, misses);
	return via_float32 ? hits_of(DD_FLOAT64, values, n, stride, den, true, peak, misses)
			   : hits_of(DD_FLOAT64, values, n, stride, den, false, peak, misses);
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

/* Whether the numerators of so many values, all of them on the grid, are whole pitches apart from the origin. */
DD_INLINE bool all_pitched(dd_type type, const void *values, uint32_t from, uint32_t to, double den, double origin,
			   double pitch)
{
	int64_t off = 0;

	for (uint32_t i = from; i < to; i++) {
		double distance = nearest_small(at(type, values, i) * den) - origin;

		off |= nearest_small(distance / pitch) * pitch == distance ? 0 : -1;
	}
	return off == 0;
}

/* The greatest common divisor of all distances from the first numerator on the grid, which is the origin. */
DD_INLINE void find_pitch(dd_type type, const void *values, uint32_t n, double peak, dd_grid *grid)
{
	enum { SOME = 256 };
	double den = (double)grid->den;
	bool whole = grid->hits == n && peak * den < SMALL / 2; /* distances are small as well */
	uint64_t pitch = 0;
	bool seen = false;

	for (uint32_t from = 0, to; from < n && pitch != 1; from = to) {
		to = n - from < SOME ? n : from + SOME;
		if (whole && pitch > 0 &&
		    all_pitched(type, values, from, to, den, (double)grid->origin, (double)pitch))
			continue;
		for (uint32_t i = from; i < to && pitch != 1; i++) {
			double v = at(type, values, i);
			int64_t numerator;

			if (grid->hits < n && !on_grid(v, den, grid->via_float32 || type == DD_FLOAT32, false))
				continue;
			numerator = (int64_t)nearest(v * den);
			if (!seen)
				grid->origin = numerator;
			seen = true;
			pitch = common_divisor(distance(numerator, grid->origin), pitch);
		}
	}
	grid->pitch = pitch > 0 ? (int64_t)pitch : 1;
}

static void pitch_of(dd_type type, const void *values, uint32_t n, double peak, dd_grid *grid)
{
	if (type == DD_FLOAT32)
		find_pitch(DD_FLOAT32, values, n, peak, grid);
	else
		find_pitch(DD_FLOAT64, values, n, peak, grid);
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

			if (peak * den >= limit || float_hits(type, values, n, stride, den, via, peak, probes) < probes - probes / 14)
				continue;
			hits = float_hits(type, values, n, 1, den, via, peak, n / 50);
			if (n - hits > n / 50)
				continue;
			if (most->hits == 0)
				*most = (dd_grid){hits, denominators[k], via && type == DD_FLOAT64, 0, 1};
			if (hits == n)
				*all = (dd_grid){hits, denominators[k], via && type == DD_FLOAT64, 0, 1};
		}
	}
	if (all->hits > 0)
		pitch_of(type, values, n, peak, all);
	if (most->hits == n)
		*most = *all;
	else if (most->hits > 0)
		pitch_of(type, values, n, peak, most);
}
