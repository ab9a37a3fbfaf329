/* From a coder's words to values of the column's type: tight loops without a dependence from row to row. */
#include "coder.h"

typedef union {
	uint64_t bits;
	double number;
} dd_word;

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
static void put_ordinals(const dd_column *c, const dd_word *order, uint32_t rows, void *values)
{
	if (c->type == DD_FLOAT32) {
		for (uint32_t i = 0; i < rows; i++) {
			uint32_t o = (uint32_t)order[i].bits;

			((uint32_t *)values)[i] = o >> 31 ? (0u - o) | 0x80000000u : o;
		}
	} else {
		for (uint32_t i = 0; i < rows; i++) {
			uint64_t o = order[i].bits;

			((uint64_t *)values)[i] = o >> 63 ? (0 - o) | 1ull << 63 : o;
		}
	}
}

/* int64 -> double, in place. Vectors have no such conversion, but whole numbers of up to 52 bits need none. */
static void to_doubles(dd_word *word, uint32_t rows)
{
	uint64_t beyond = 0;

	for (uint32_t i = 0; i < rows; i++)
		beyond |= word[i].bits + (1ull << 51);
	if (beyond >> 52) {
		for (uint32_t i = 0; i < rows; i++)
			word[i].number = (double)(int64_t)word[i].bits;
		return;
	}
	for (uint32_t i = 0; i < rows; i++)
		word[i].bits += 0x4338000000000000u; /* the bits of 2^52 + 2^51: the sum is that double plus the number */
	for (uint32_t i = 0; i < rows; i++)
		word[i].number -= 6755399441055744.0;
}

static void put_floats(const dd_column *c, const dd_word *word, uint32_t rows, void *values)
{
	double *wide = values;

	if (c->type == DD_FLOAT32) {
		for (uint32_t i = 0; i < rows; i++)
			((float *)values)[i] = (float)word[i].number;
	} else if (c->flags & DD_FLAG_SHORTEST) {
		for (uint32_t i = 0; i < rows; i++)
			wide[i] = dd_shortest((float)word[i].number);
	} else if (c->flags & DD_FLAG_VIA_FLOAT32) {
		for (uint32_t i = 0; i < rows; i++)
			wide[i] = (double)(float)word[i].number;
	} else {
		memcpy(values, word, rows * sizeof *word);
	}
}

void dd_reconstruct(const dd_column *c, const uint64_t *index, uint32_t rows, void *values)
{
	uint64_t mul = (uint64_t)c->mul, add = (uint64_t)c->add;
	dd_word word[DD_BLOCK];

	if (c->mode == DD_MODE_RAW) {
		put_bits(c, index, rows, values);
		return;
	}
	switch (c->lattice) {
	case DD_LATTICE_STEP:
		memcpy(word, index, rows * sizeof *index);
		to_doubles(word, rows);
		for (uint32_t i = 0; i < rows; i++)
			word[i].number = word[i].number * c->step + c->offset;
		put_floats(c, word, rows, values);
		break;
	case DD_LATTICE_LEVELS:
		for (uint32_t i = 0; i < rows; i++) /* only damaged bytes lead beyond the list */
			word[i].bits = (uint64_t)c->level[index[i] < c->levels ? index[i] : c->levels - 1];
		put_ordinals(c, word, rows, values);
		break;
	default:
		for (uint32_t i = 0; i < rows; i++)
			word[i].bits = index[i] * mul + add;
		if (c->lattice == DD_LATTICE_ORDINAL) {
			put_ordinals(c, word, rows, values);
		} else if (c->type < DD_FLOAT32) {
			put_bits(c, &word->bits, rows, values);
		} else {
			double den = (double)c->den;

			to_doubles(word, rows);
			for (uint32_t i = 0; i < rows && den != 1; i++)
				word[i].number /= den;
			put_floats(c, word, rows, values);
		}
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
