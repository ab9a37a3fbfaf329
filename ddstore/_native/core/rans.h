/*
 * Coder 1, shared by its two sides: tokens, the contexts they are coded under, and the tables of a column.
 *
 * A row is one token, coded by rANS under static tables that the payload describes, and for large residuals some plain
 * bits behind all tokens. Rows are dealt to DD_RANS_LANES consecutive runs that are decoded in step, each with a coder
 * state and a context of its own: their chains of dependences overlap.
 */
#ifndef DD_RANS_H
#define DD_RANS_H

#include "bits.h"
#include "coder.h"

#define DD_RANS_LANES 8u
#define DD_RANS_BITS 12u /* frequencies of a table sum to 1 << this */
#define DD_RANS_TOTAL (1u << DD_RANS_BITS)
#define DD_RANS_LOW (1u << 16) /* states are renormalised to at least this, 16 bits at a time */

/*
 * Tokens: a row's class less one (four of them), a residual coded in plain bits altogether, residual 0, then one for
 * each sign and magnitude: 1 to 8, and above in two buckets per octave, whose offset is coded in plain bits.
 */
enum {
	DD_TOKEN_CLASS = 0,
	DD_TOKEN_PLAIN = 4,
	DD_TOKEN_ZERO = 5,
	DD_TOKEN_FIRST = 6, /* + 2 * bucket + (residual < 0) */
	DD_RANS_DIRECT = 8,
	DD_SMALL_TOKENS = DD_TOKEN_FIRST + 2 * DD_RANS_DIRECT, /* those below have no plain bits behind them */
	DD_RANS_BUCKETS = 64,
	DD_RANS_TOKENS = DD_TOKEN_FIRST + 2 * DD_RANS_BUCKETS
};

/* The least magnitude of a bucket, and how many plain bits say how far above it the magnitude is. */
static inline uint32_t dd_rans_least(unsigned bucket)
{
	if (bucket < DD_RANS_DIRECT)
		return bucket + 1;
	return ((2u | (bucket & 1)) << ((bucket - DD_RANS_DIRECT) / 2 + 2)) + 1;
}

static inline unsigned dd_rans_extra(unsigned bucket)
{
	return bucket < DD_RANS_DIRECT ? 0 : (bucket - DD_RANS_DIRECT) / 2 + 2;
}

/*
 * A context is a level of activity, the bit length of a moving average of magnitudes, and the kinds of the last two
 * tokens: 0 zero, 1 above, 2 below, 3 no residual.
 */
#define DD_RANS_LEVELS 12u
#define DD_RANS_PAST 16u
#define DD_RANS_CONTEXTS (DD_RANS_LEVELS * DD_RANS_PAST)
#define DD_RANS_GROUPS 6u /* of contexts, at most: mode interp has one for each set of weights and one for anchors */

/* What a token does to its context, packed: its kind and, above, its size in the units of the average. */
static inline uint32_t dd_rans_effect(unsigned token)
{
	uint32_t size;

	if (token < DD_TOKEN_ZERO)
		return 3;
	if (token == DD_TOKEN_ZERO)
		return 0;
	size = dd_rans_least((token - DD_TOKEN_FIRST) / 2);
	return (size < 255 ? size : 255) << 7 | (1 + ((token - DD_TOKEN_FIRST) & 1));
}

typedef struct {
	uint32_t average; /* below 2^13 */
	uint32_t past;
} dd_rans_history;

DD_INLINE unsigned dd_rans_context(const dd_rans_history *h)
{
	unsigned level = (unsigned)__builtin_clz(h->average >> 1 | 1) ^ 31; /* the bit length of average >> 2 */

	return level * DD_RANS_PAST + h->past;
}

DD_INLINE void dd_rans_push(dd_rans_history *h, uint32_t effect)
{
	h->average += (uint32_t)(((int32_t)(effect >> 2) - (int32_t)h->average) >> 2);
	h->past = (h->past << 2 & (DD_RANS_PAST - 1)) | (effect & 3);
}

/* Which contexts share a table: how each level differs from the one below it. */
enum { DD_RANS_AS_BELOW = 0, DD_RANS_ONE = 1, DD_RANS_BY_LAST = 2, DD_RANS_BY_BOTH = 3 };
#define DD_RANS_TABLES 64u /* in one column; one of them for contexts that never occur */

static inline uint32_t dd_rans_lane_rows(uint32_t n)
{
	return (n + DD_RANS_LANES - 1) / DD_RANS_LANES;
}

/* A slot of a table: token, then the slot's distance from the token's first one, then the token's frequency - 1. */
typedef uint32_t dd_rans_slot;
typedef dd_rans_slot dd_rans_table[DD_RANS_TOTAL];

/*
 * The token that a state stands for; the state moves on. Constants at each call: `checked`, whether the words may end
 * here; `seldom`, whether states are refilled so seldom that a branch foresees it. Otherwise it is as good as random,
 * and there is none.
 */
DD_INLINE uint8_t dd_rans_token(const dd_rans_slot *table, uint32_t *x, const uint8_t **word, const uint8_t *end,
				bool checked, bool seldom)
{
	dd_rans_slot e = table[*x & (DD_RANS_TOTAL - 1)];
	uint32_t next = ((e >> 20) + 1) * (*x >> DD_RANS_BITS) + (e >> 8 & (DD_RANS_TOTAL - 1));
	uint32_t taken = next < DD_RANS_LOW;

	if (checked) {
		if (taken) {
			next = next << 16 | (*word < end ? dd_load_le16(*word) : 0);
			*word += *word < end ? 2 : 0;
		}
	} else if (seldom) {
		if (__builtin_expect(taken, 0)) {
			next = next << 16 | dd_load_le16(*word);
			*word += 2;
		}
	} else {
		next ^= (next ^ (next << 16 | dd_load_le16(*word))) & (0 - taken);
		*word += 2 * taken;
	}
	*x = next;
	return (uint8_t)e;
}

/* A token's residual: its least magnitude, more of it in plain bits, all ones where it is negative. */
typedef struct {
	uint64_t sign;
	uint32_t least, extra;
} dd_rans_part;

typedef struct {
	dd_rans_part part[DD_RANS_TOKENS];
	int8_t small[DD_SMALL_TOKENS]; /* all of it, where there are no plain bits */
} dd_rans_parts;

/* The residual that a token and its plain bits stand for. */
DD_INLINE uint64_t dd_rans_residual(const dd_rans_parts *p, dd_bit_reader *plain, unsigned token, unsigned low)
{
	dd_rans_part part = p->part[token];
	uint64_t e = part.least + dd_bits_get(plain, part.extra);

	e = (e ^ part.sign) - part.sign;
	return low > 0 ? e << low | dd_bits_get_wide(plain, low) : e;
}

/* rans_tables.c */
void dd_rans_parts_fill(dd_rans_parts *p);
/* The tables of so many groups of contexts, whose tokens are `least` or more; false where they cannot be. */
bool dd_rans_read_tables(dd_bit_reader *r, unsigned groups, unsigned least, dd_rans_table *table, uint8_t *table_of);

void dd_rans_encode(const dd_column *c, const dd_rows *rows, void *memory, dd_writer *w);
size_t dd_rans_encode_workspace(const dd_column *c);

#endif
