/* From a coder's words to values of the column's type: tight loops without a dependence from row to row. */
#include "coder.h"

/* The type's own bits, from the low end of each word. */
static void put_bits(const dd_column *c, const uint64_t *word, uint32_t rows, void *values)
{
	switch (dd_type_width(c->type)) {
	case 2:
		for (uint32_t i = 0; i < rows; i++)
			((uint16_t *)values)[i] = (uint16_t)word[i];
		break;
	case 4:
		for (uint32_t i = 0; i < rows; i++)
			((uint32_t *)values)[i] = (uint32_t)word[i];
		break;
	default:
		memcpy(values, word, rows * sizeof *word);
	}
}

/* Two's complement order -> sign and magnitude: the inverse of the encoder's monotone map. */
static void put_ordinals(const dd_column *c, const uint64_t *order, uint32_t rows, void *values)
{
	if (c->type == DD_FLOAT32) {
		for (uint32_t i = 0; i < rows; i++) {
			uint32_t o = (uint32_t)order[i];

			((uint32_t *)values)[i] = o >> 31 ? (0u - o) | 0x80000000u : o;
		}
	} else {
		for (uint32_t i = 0; i < rows; i++) {
			uint64_t o = order[i];

			((uint64_t *)values)[i] = o >> 63 ? (0 - o) | 1ull << 63 : o;
		}
	}
}

/* What becomes of a whole number, and of the double that it makes. */
typedef enum { AS_IT_IS, DIVIDED, STEPPED } making;
typedef enum { TO_FLOAT32, VIA_FLOAT32, VIA_SHORTEST, TO_FLOAT64 } rounding;

static bool all_small(const uint64_t *number, uint32_t rows)
{
	uint64_t beyond = 0;

	for (uint32_t i = 0; i < rows; i++)
		beyond |= number[i] + (1ull << 51);
	return beyond >> 52 == 0;
}

/* Vectors have no conversion from int64; a number of up to 52 bits can be added to the bits of 2^52 + 2^51 instead. */
DD_INLINE double to_double(uint64_t number, bool small)
{
	uint64_t bits = number + 0x4338000000000000u;
	double v;

	if (!small)
		return (double)(int64_t)number;
	memcpy(&v, &bits, sizeof v);
	return v - DD_WHOLE;
}

/* All but `c`, `number`, `rows` and `values` are constants at each call, so that each combination is a tight loop. */
DD_INLINE void make_floats(const dd_column *c, const uint64_t *number, uint32_t rows, void *values, making how,
			   rounding to, bool small)
{
	double den = (double)c->den, step = c->step, offset = c->offset;

	for (uint32_t i = 0; i < rows; i++) {
		double v = to_double(number[i], small);

		if (how == DIVIDED)
			v /= den;
		else if (how == STEPPED)
			v = v * step + offset;
		if (to == TO_FLOAT32)
			((float *)values)[i] = (float)v;
		else if (to == VIA_FLOAT32)
			((double *)values)[i] = (double)(float)v;
		else
			((double *)values)[i] = to == VIA_SHORTEST ? dd_shortest((float)v) : v;
	}
}

DD_INLINE void round_floats(const dd_column *c, const uint64_t *number, uint32_t rows, void *values, making how, bool small)
{
	if (c->type == DD_FLOAT32)
		make_floats(c, number, rows, values, how, TO_FLOAT32, small);
	else if (c->flags & DD_FLAG_SHORTEST)
		make_floats(c, number, rows, values, how, VIA_SHORTEST, small);
	else if (c->flags & DD_FLAG_VIA_FLOAT32)
		make_floats(c, number, rows, values, how, VIA_FLOAT32, small);
	else
		make_floats(c, number, rows, values, how, TO_FLOAT64, small);
}

static void put_floats(const dd_column *c, const uint64_t *number, uint32_t rows, void *values, making how)
{
	if (!all_small(number, rows))
		round_floats(c, number, rows, values, how, false);
	else if (how == STEPPED)
		round_floats(c, number, rows, values, STEPPED, true);
	else if (how == DIVIDED)
		round_floats(c, number, rows, values, DIVIDED, true);
	else
		round_floats(c, number, rows, values, AS_IT_IS, true);
}

void dd_reconstruct(const dd_column *c, const uint64_t *index, uint32_t rows, void *values)
{
	uint64_t mul = (uint64_t)c->mul, add = (uint64_t)c->add, number[DD_BLOCK];

	if (c->mode == DD_MODE_RAW) {
		put_bits(c, index, rows, values);
		return;
	}
	switch (c->lattice) {
	case DD_LATTICE_STEP:
		put_floats(c, index, rows, values, STEPPED);
		break;
	case DD_LATTICE_LEVELS:
		for (uint32_t i = 0; i < rows; i++) /* only damaged bytes lead beyond the list */
			number[i] = (uint64_t)c->level[index[i] < c->levels ? index[i] : c->levels - 1];
		put_ordinals(c, number, rows, values);
		break;
	default:
		for (uint32_t i = 0; i < rows; i++)
			number[i] = index[i] * mul + add;
		if (c->lattice == DD_LATTICE_ORDINAL)
			put_ordinals(c, number, rows, values);
		else if (c->type < DD_FLOAT32)
			put_bits(c, number, rows, values);
		else
			put_floats(c, number, rows, values, c->den == 1 ? AS_IT_IS : DIVIDED);
	}
}

void dd_reconstruct_exceptions(const dd_column *c, const uint64_t *word, const uint8_t *class, uint32_t rows,
			       void *values, uint8_t *valid)
{
	bool narrow = c->type == DD_FLOAT32;

	for (uint32_t i = 0; i < rows; i++) {
		uint64_t bits = 0; /* NULL */

		if (valid != NULL)
			valid[i] = class[i] != DD_ROW_NULL;
		if (class[i] == DD_ROW_VALUE)
			continue;
		if (class[i] == DD_ROW_NAN)
			bits = narrow ? 0x7fc00000u : 0x7ff8000000000000u;
		else if (class[i] == DD_ROW_NEGATIVE_ZERO)
			bits = narrow ? 0x80000000u : 1ull << 63;
		else if (class[i] == DD_ROW_EXACT)
			bits = word[i];
		put_bits(c, &bits, 1, (uint8_t *)values + (size_t)i * dd_type_width(c->type));
	}
}
