/* Coder 1, decoding: read the tables, decode tokens lane by lane in step, then turn tokens into indices. */
#include "rans.h"

#include "bits.h"

/* A slot of a table: token, then the slot's distance from the token's first one, then the token's frequency - 1. */
typedef uint32_t slot;
typedef slot table[DD_RANS_TOTAL];

enum { SMALL_TOKENS = DD_TOKEN_FIRST + 2 * DD_RANS_DIRECT }; /* those below have no plain bits behind them */

/* A token's residual: its least magnitude, more of it in plain bits, all ones where it is negative. */
typedef struct {
	uint64_t sign;
	uint32_t least, extra;
} part;

typedef struct {
	uint32_t x[DD_RANS_LANES];
	dd_rans_history history[DD_RANS_LANES];
	const uint8_t *word, *word_end;
	dd_bit_reader plain;
	uint64_t q1, q2;
	bool seldom;	/* few tokens take a word */
	uint32_t steps; /* of each lane, done */
	uint32_t row;	/* rows handed out */
	uint8_t table_of[DD_RANS_CONTEXTS];
	uint32_t effect[256];
	part parts[DD_RANS_TOKENS];
	int8_t small[SMALL_TOKENS];
	table tables[DD_RANS_TABLES];
	uint8_t token[]; /* c->n of them */
} state;

static size_t workspace(const dd_column *c)
{
	size_t decoding = sizeof(state) + c->n, encoding = dd_rans_encode_workspace(c);

	return dd_align(decoding > encoding ? decoding : encoding);
}

static void fill(slot *at, unsigned token, uint32_t frequency)
{
	for (uint32_t i = 0; i < frequency; i++)
		at[i] = token | i << 8 | (frequency - 1) << 20;
}

/* A frequency has a bit length, near that of the one before it, and up to three bits below the leading one. */
static bool read_frequency(dd_bit_reader *r, unsigned *length, uint32_t *frequency)
{
	uint64_t ahead = dd_bits_peek(r) | 1ull << 26;
	unsigned change = (unsigned)__builtin_ctzll(ahead), more;
	int to = (int)*length + (int)((change >> 1) ^ (0u - (change & 1)));

	r->at += change + 1;
	if (to < 0 || to > (int)DD_RANS_BITS)
		return false;
	*length = (unsigned)to;
	more = to < 2 ? 0 : to < 4 ? (unsigned)to - 1 : 3;
	*frequency = to == 0 ? 0 : (uint32_t)(1u << more | dd_bits_get(r, more)) << ((unsigned)to - 1 - more);
	return true;
}

/* One table: a bit whether it ever occurs; which token takes what the others leave; the others' frequencies. */
static bool read_table(dd_bit_reader *r, const uint8_t *used, unsigned count, slot *slots)
{
	uint32_t frequency[DD_RANS_TOKENS], sum = 0, at = 0;
	unsigned rest, length = 8;

	rest = (unsigned)dd_bits_get(r, dd_bit_length(count - 1));
	if (rest >= count)
		return false;
	for (unsigned i = 0; i < count; i++) {
		frequency[i] = 0;
		if (i != rest && !read_frequency(r, &length, &frequency[i]))
			return false;
		sum += frequency[i];
	}
	if (sum >= DD_RANS_TOTAL)
		return false;
	frequency[rest] = DD_RANS_TOTAL - sum;
	for (unsigned i = 0; i < count; i++) {
		fill(slots + at, used[i], frequency[i]);
		at += frequency[i];
	}
	return true;
}

static bool read_tables(dd_bit_reader *r, state *s)
{
	uint8_t used[DD_RANS_TOKENS], split[DD_RANS_LEVELS];
	unsigned count = 0, tables = 1, top = (unsigned)dd_bits_get(r, 8);

	if (top >= DD_RANS_TOKENS)
		return false;
	for (unsigned token = 0; token <= top; token++)
		if (dd_bits_get(r, 1))
			used[count++] = (uint8_t)token;
	if (count == 0)
		return false;
	for (unsigned level = 0; level < DD_RANS_LEVELS; level++)
		split[level] = (uint8_t)dd_bits_get(r, 2);
	fill(s->tables[0], DD_TOKEN_ZERO, DD_RANS_TOTAL); /* where nothing is ever coded */
	for (unsigned level = 0; level < DD_RANS_LEVELS; level++) {
		uint8_t *to = s->table_of + level * DD_RANS_PAST, parts[DD_RANS_PAST];
		unsigned mask = split[level] == DD_RANS_ONE ? 0 : split[level] == DD_RANS_BY_LAST ? 3 : DD_RANS_PAST - 1;

		if (split[level] == DD_RANS_AS_BELOW) {
			if (level == 0)
				return false;
			memcpy(to, to - DD_RANS_PAST, DD_RANS_PAST);
			continue;
		}
		for (unsigned part = 0; part <= mask; part++) {
			parts[part] = 0;
			if (!dd_bits_get(r, 1))
				continue;
			if (tables == DD_RANS_TABLES || !read_table(r, used, count, s->tables[tables]))
				return false;
			parts[part] = (uint8_t)tables++;
		}
		for (unsigned past = 0; past < DD_RANS_PAST; past++)
			to[past] = parts[past & mask];
	}
	return true;
}

static dd_status open(const dd_column *c, const uint8_t *payload, const uint8_t *end, void *memory, dd_error *err)
{
	state *s = memory;
	dd_bit_reader bits = {payload, end, 0};
	dd_reader r;
	uint64_t words;

	if (!read_tables(&bits, s) || bits.at > 8 * (uint64_t)(end - payload))
		return dd_fail(err, DD_CORRUPT, "impossible frequencies");
	r = (dd_reader){payload + (bits.at + 7) / 8, end, false};
	for (unsigned lane = 0; lane < DD_RANS_LANES; lane++) {
		s->x[lane] = (uint32_t)(dd_get_varint(&r) + DD_RANS_LOW);
		s->history[lane] = (dd_rans_history){0, 0};
	}
	words = dd_get_varint(&r);
	if (r.bad || words > (uint64_t)(end - r.p) / 2)
		return dd_fail(err, DD_CORRUPT, "truncated payload");
	s->word = r.p;
	s->word_end = r.p + 2 * words;
	s->seldom = words < c->n / 8;
	s->plain = (dd_bit_reader){s->word_end, end, 0};
	s->q1 = s->q2 = (uint64_t)c->first;
	s->steps = s->row = 0;
	for (unsigned token = 0; token < 256; token++)
		s->effect[token] = token < DD_RANS_TOKENS ? dd_rans_effect(token) : 0;
	memset(s->parts, 0, sizeof s->parts);
	memset(s->small, 0, sizeof s->small);
	for (unsigned token = DD_TOKEN_FIRST; token < DD_RANS_TOKENS; token++) {
		unsigned bucket = (token - DD_TOKEN_FIRST) / 2;

		s->parts[token] = (part){0ull - ((token - DD_TOKEN_FIRST) & 1), dd_rans_least(bucket), dd_rans_extra(bucket)};
		if (bucket < DD_RANS_DIRECT)
			s->small[token] = (int8_t)((token - DD_TOKEN_FIRST) & 1 ? -(int)bucket - 1 : (int)bucket + 1);
	}
	return DD_OK;
}

/*
 * One token of one lane. Constants at each call: `checked`, whether the words may end here; `seldom`, whether states are
 * refilled so seldom that a branch foresees it. Otherwise it is as good as random, and there is none.
 */
DD_INLINE uint8_t step(const state *s, uint32_t *x, dd_rans_history *h, const uint8_t **word, const uint8_t *end,
		       bool checked, bool seldom)
{
	slot e = s->tables[s->table_of[dd_rans_context(h)]][*x & (DD_RANS_TOTAL - 1)];
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
	dd_rans_push(h, s->effect[e & 255]);
	return (uint8_t)e;
}

/* Whole steps of all lanes as long as there are words for each; returns the step it stopped at. */
DD_INLINE uint32_t whole_steps(const state *s, uint8_t *token, uint32_t *x, dd_rans_history *h, const uint8_t **word,
			       uint32_t from, uint32_t upto, uint32_t length, bool seldom)
{
	for (; from < upto && s->word_end - *word >= (ptrdiff_t)(2 * DD_RANS_LANES); from++) {
#pragma GCC unroll 8
		for (unsigned lane = 0; lane < DD_RANS_LANES; lane++)
			token[lane * length + from] = step(s, &x[lane], &h[lane], word, s->word_end, false, seldom);
	}
	return from;
}

static void decode_steps(const dd_column *c, state *s, uint32_t upto)
{
	uint32_t length = dd_rans_lane_rows(c->n), before = (DD_RANS_LANES - 1) * length, i, whole;
	uint32_t x[DD_RANS_LANES];
	dd_rans_history h[DD_RANS_LANES];
	const uint8_t *word = s->word;

	memcpy(x, s->x, sizeof x);
	memcpy(h, s->history, sizeof h);
	whole = c->n > before ? c->n - before : 0; /* rows of the last lane, the shortest */
	whole = upto < whole ? upto : whole;
	if (s->seldom)
		i = whole_steps(s, s->token, x, h, &word, s->steps, whole, length, true);
	else
		i = whole_steps(s, s->token, x, h, &word, s->steps, whole, length, false);
	for (; i < upto; i++)
		for (unsigned lane = 0; lane < DD_RANS_LANES && lane * length + i < c->n; lane++)
			s->token[lane * length + i] = step(s, &x[lane], &h[lane], &word, s->word_end, true, true);
	memcpy(s->x, x, sizeof x);
	memcpy(s->history, h, sizeof h);
	s->word = word;
	s->steps = i;
}

/* The residual that a token and its plain bits stand for. */
DD_INLINE uint64_t residual(state *s, unsigned token, unsigned low)
{
	part p = s->parts[token];
	uint64_t e = p.least + dd_bits_get(&s->plain, p.extra);

	e = (e ^ p.sign) - p.sign;
	return low > 0 ? e << low | dd_bits_get_wide(&s->plain, low) : e;
}

/* How tokens of a block become residuals. */
typedef enum {
	SMALL, /* they say all */
	MOSTLY_SMALL,
	LARGE, /* so often with plain bits that no branch would foresee it */
	ODD    /* low bits apart, rows that are no values, or residuals in plain bits altogether */
} difficulty;

static difficulty look_at(const uint8_t *token, uint32_t rows, unsigned low)
{
	uint32_t odd = 0, large = 0;

	for (uint32_t i = 0; i < rows; i++) {
		odd |= token[i] < DD_TOKEN_ZERO;
		large += token[i] >= SMALL_TOKENS;
	}
	if (odd || low > 0)
		return ODD;
	return large == 0 ? SMALL : large < rows / 8 ? MOSTLY_SMALL : LARGE;
}

/* `centre` and `how` are constants at each call. */
DD_INLINE void put_indices(const dd_column *c, state *s, dd_centre centre, difficulty how, const uint8_t *token,
			   const int32_t *predictions, uint32_t rows, uint64_t *word)
{
	uint64_t q1 = s->q1, q2 = s->q2;

	for (uint32_t i = 0; i < rows; i++) {
		uint64_t e;

		if (how == ODD && token[i] < DD_TOKEN_PLAIN) {
			word[i] = token[i] + 1 == DD_ROW_EXACT ? dd_bits_get_wide(&s->plain, dd_type_width(c->type) * 8) : 0;
			continue;
		}
		if (how == SMALL || (how == MOSTLY_SMALL && token[i] < SMALL_TOKENS))
			e = (uint64_t)(int64_t)s->small[token[i]];
		else if (how == ODD && token[i] == DD_TOKEN_PLAIN)
			e = dd_bits_get_wide(&s->plain, 64);
		else
			e = residual(s, token[i], how == ODD ? c->low : 0);
		word[i] = dd_centre_index(centre, (uint64_t)c->drift, q1, q2,
					  centre == DD_CENTRE_MODEL ? dd_model_index(c, predictions[i]) : 0) + e;
		q2 = q1;
		q1 = word[i];
	}
	s->q1 = q1;
	s->q2 = q2;
}

DD_INLINE void put_block(const dd_column *c, state *s, dd_centre centre, const uint8_t *token,
			 const int32_t *predictions, uint32_t rows, uint64_t *word)
{
	switch (look_at(token, rows, c->low)) {
	case SMALL:
		put_indices(c, s, centre, SMALL, token, predictions, rows, word);
		break;
	case MOSTLY_SMALL:
		put_indices(c, s, centre, MOSTLY_SMALL, token, predictions, rows, word);
		break;
	case LARGE:
		put_indices(c, s, centre, LARGE, token, predictions, rows, word);
		break;
	default:
		put_indices(c, s, centre, ODD, token, predictions, rows, word);
	}
}

static void decode(const dd_column *c, void *memory, const int32_t *predictions, uint32_t rows, uint64_t *word,
		   uint8_t *class)
{
	state *s = memory;
	uint32_t length = dd_rans_lane_rows(c->n), steps = s->row + rows < length ? s->row + rows : length;
	const uint8_t *token = s->token + s->row;

	if (s->steps < steps)
		decode_steps(c, s, steps);
	if (c->flags & DD_FLAG_EXCEPTIONS)
		for (uint32_t i = 0; i < rows; i++)
			class[i] = token[i] < DD_TOKEN_PLAIN ? token[i] + 1 : DD_ROW_VALUE;
	if (c->centre == DD_CENTRE_LAST)
		put_block(c, s, DD_CENTRE_LAST, token, NULL, rows, word);
	else if (c->centre == DD_CENTRE_LINEAR)
		put_block(c, s, DD_CENTRE_LINEAR, token, NULL, rows, word);
	else
		put_block(c, s, DD_CENTRE_MODEL, token, predictions, rows, word);
	s->row += rows;
}

const dd_coder dd_coder_rans = {workspace, open, decode, dd_rans_encode};
