/* Coder 1, shared by its encoders: tokens of residuals, and the tables that describe them in the fewest bits. */
#ifndef DD_RANS_ENCODE_H
#define DD_RANS_ENCODE_H

#include "rans.h"

typedef uint32_t dd_rans_counts[DD_RANS_TOKENS];

typedef struct {
	uint64_t inverse; /* of the frequency */
	uint16_t first, frequency;
} dd_rans_symbol;

/*
 * x / f is x * inverse >> this, for every f up to DD_RANS_TOTAL and every x below f << (32 - DD_RANS_BITS): f * inverse
 * exceeds 2^44 by no more than f, and x * f is below 2^44.
 */
#define DD_RANS_INVERSE 44u

typedef struct {
	dd_rans_symbol tables[DD_RANS_TABLES][DD_RANS_TOKENS];
	uint8_t split[DD_RANS_GROUPS][DD_RANS_LEVELS], table_of[DD_RANS_GROUPS * DD_RANS_CONTEXTS];
	uint8_t used[DD_RANS_TOKENS];
	unsigned groups, used_count;
	dd_rans_counts merged[DD_RANS_PAST], part[DD_RANS_PAST];
	dd_rans_counts count[]; /* how often each context meets each token: the encoder's to fill */
} dd_rans_coding;

static inline size_t dd_rans_coding_size(unsigned groups)
{
	return dd_align(sizeof(dd_rans_coding) + groups * DD_RANS_CONTEXTS * sizeof(dd_rans_counts));
}

static inline void dd_rans_coding_start(dd_rans_coding *t, unsigned groups)
{
	t->groups = groups;
	memset(t->count, 0, groups * DD_RANS_CONTEXTS * sizeof t->count[0]);
}

/* rans_write.c. From the counts: choose tables and describe them, to whole bytes. */
void dd_rans_coding_write(dd_rans_coding *t, dd_bit_writer *w);

/* Code a token; there is room before `at`, as a token takes a word at most. */
DD_INLINE void dd_rans_put(const dd_rans_coding *s, unsigned context, unsigned token, uint32_t *x, uint16_t **at)
{
	const dd_rans_symbol *t = &s->tables[s->table_of[context]][token];
	uint32_t full = *x >> (32 - DD_RANS_BITS) >= t->frequency, whole;

	/* As good as random, hence no branch. */
	(*at)[-1] = (uint16_t)*x;
	*at -= full;
	*x >>= 16 * full;
	whole = (uint32_t)(*x * t->inverse >> DD_RANS_INVERSE);
	*x += whole * (DD_RANS_TOTAL - t->frequency) + t->first; /* whole f + rest to whole TOTAL + rest + first */
}

/* The states and the words from `at` on. */
static inline void dd_rans_put_words(const uint32_t *x, const uint16_t *at, const uint16_t *end, dd_writer *w)
{
	for (unsigned lane = 0; lane < DD_RANS_LANES; lane++)
		dd_put_varint(w, x[lane] - DD_RANS_LOW);
	dd_put_varint(w, (uint64_t)(end - at));
	for (; at < end; at++)
		dd_put_le(w, *at, 2);
}

static inline unsigned dd_rans_token_of(uint64_t e)
{
	uint64_t m = (e >> 63 ? 0 - e : e) - 1;
	unsigned bits, bucket;

	if (e == 0)
		return DD_TOKEN_ZERO;
	if (m < DD_RANS_DIRECT) {
		bucket = (unsigned)m;
	} else {
		bits = dd_bit_length(m);
		if (bits > 31)
			return DD_TOKEN_PLAIN;
		bucket = DD_RANS_DIRECT + (bits - 4) * 2 + (unsigned)(m >> (bits - 2) & 1);
	}
	return DD_TOKEN_FIRST + 2 * bucket + (unsigned)(e >> 63);
}

/* What a token with plain bits behind it leaves open. */
static inline void dd_rans_put_plain(dd_bit_writer *w, unsigned token, uint64_t r, unsigned low)
{
	uint64_t e = (uint64_t)((int64_t)r >> low);

	if (token == DD_TOKEN_PLAIN) {
		dd_bits_put_wide(w, r, 64);
	} else {
		unsigned extra = token < DD_TOKEN_FIRST ? 0 : dd_rans_extra((token - DD_TOKEN_FIRST) / 2);

		dd_bits_put(w, ((e >> 63 ? 0 - e : e) - 1) & ((1ull << extra) - 1), extra);
		dd_bits_put_wide(w, r & ((1ull << low) - 1), low);
	}
}

#endif
