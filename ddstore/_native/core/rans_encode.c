/* Coder 1, encoding: tokens and their contexts, the tables that describe them in the fewest bits, then the states. */
#include "bits.h"
#include "entropy.h"
#include "rans.h"

typedef struct {
	uint64_t inverse; /* of the frequency */
	uint16_t first, frequency;
} symbol;

typedef symbol table[DD_RANS_TOKENS];

/*
 * x / f is x * inverse >> this, for every f up to DD_RANS_TOTAL and every x below f << (32 - DD_RANS_BITS): f * inverse
 * exceeds 2^44 by no more than f, and x * f is below 2^44.
 */
#define DD_RANS_INVERSE 44u

typedef uint32_t counts[DD_RANS_TOKENS];

enum { DD_RANS_NEAR = 128 };

typedef struct {
	counts count[DD_RANS_LEVELS][DD_RANS_PAST];
	counts merged[DD_RANS_PAST], part[DD_RANS_PAST];
	table tables[DD_RANS_TABLES];
	uint8_t split[DD_RANS_LEVELS], table_of[DD_RANS_CONTEXTS];
	uint8_t used[DD_RANS_TOKENS];
	unsigned used_count;
	uint32_t effect[DD_RANS_TOKENS];
	uint8_t extra[DD_RANS_TOKENS]; /* plain bits of a residual */
	uint8_t near[2 * DD_RANS_NEAR]; /* the tokens of small residuals, from -DD_RANS_NEAR */
	uint16_t *words;
	uint8_t *token, *context;
} state;

size_t dd_rans_encode_workspace(const dd_column *c)
{
	return dd_align(sizeof(state)) + (size_t)c->n * 4;
}

static unsigned token_of(uint64_t e)
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

/* A row's residual. */
DD_INLINE uint64_t residual_of(const dd_column *c, const dd_rows *rows, dd_centre centre, uint32_t i, uint64_t q1,
			       uint64_t q2)
{
	uint64_t model = centre == DD_CENTRE_MODEL ? dd_model_index(c, rows->predictions[i]) : 0;

	return rows->index[i] - dd_centre_index(centre, (uint64_t)c->drift, q1, q2, model);
}

/* Each row's token. */
DD_INLINE void find_tokens(const dd_column *c, const dd_rows *rows, dd_centre centre, state *s)
{
	uint64_t q1 = (uint64_t)c->first, q2 = q1;

	for (uint32_t i = 0; i < c->n; i++) {
		unsigned class = rows->class != NULL ? rows->class[i] : DD_ROW_VALUE;
		uint64_t e;

		if (class != DD_ROW_VALUE) {
			s->token[i] = (uint8_t)(DD_TOKEN_CLASS + class - 1);
			continue;
		}
		e = (uint64_t)((int64_t)residual_of(c, rows, centre, i, q1, q2) >> c->low);
		s->token[i] = (uint8_t)(e + DD_RANS_NEAR < 2 * DD_RANS_NEAR ? s->near[e + DD_RANS_NEAR] : token_of(e));
		q2 = q1;
		q1 = rows->index[i];
	}
}

/* Each row's context, and how often it meets which token. Lanes go in step: their chains of dependences overlap. */
static void find_contexts(const dd_column *c, state *s)
{
	uint32_t length = dd_rans_lane_rows(c->n);
	dd_rans_history h[DD_RANS_LANES] = {{0, 0}};

	for (uint32_t i = 0; i < length; i++)
#pragma GCC unroll 8
		for (unsigned lane = 0; lane < DD_RANS_LANES; lane++) {
			uint32_t row = lane * length + i;
			unsigned context = dd_rans_context(&h[lane]);

			if (row >= c->n)
				break;
			s->context[row] = (uint8_t)context;
			s->count[context / DD_RANS_PAST][context % DD_RANS_PAST][s->token[row]]++;
			dd_rans_push(&h[lane], s->effect[s->token[row]]);
		}
}

/* What tokens leave open, row by row. */
static void write_plain(const dd_column *c, const dd_rows *rows, const state *s, dd_bit_writer *w)
{
	uint64_t q1 = (uint64_t)c->first, q2 = q1;

	for (uint32_t i = 0; i < c->n; i++) {
		unsigned token = s->token[i], extra;
		uint64_t r, e;

		if (token < DD_TOKEN_PLAIN) {
			if (token + 1 == DD_ROW_EXACT)
				dd_bits_put_wide(w, rows->bits[i], dd_type_width(c->type) * 8);
			continue;
		}
		extra = s->extra[token];
		if (extra > 0 || c->low > 0) {
			r = residual_of(c, rows, c->centre, i, q1, q2);
			e = (uint64_t)((int64_t)r >> c->low);
			if (token == DD_TOKEN_PLAIN) {
				dd_bits_put_wide(w, r, 64);
			} else {
				dd_bits_put(w, ((e >> 63 ? 0 - e : e) - 1) & ((1ull << extra) - 1), extra);
				dd_bits_put_wide(w, r & ((1ull << c->low) - 1), c->low);
			}
		}
		q2 = q1;
		q1 = rows->index[i];
	}
}

/* Bits to describe a table and to code these tokens with it. */
static float price(const state *s, const uint32_t *count, float table_price)
{
	uint32_t total = 0;
	float bits = 0, description = 8.0f;

	for (unsigned i = 0; i < s->used_count; i++) {
		uint32_t n = count[s->used[i]];

		total += n;
		bits -= dd_times_log(n);
		description += n > 0 ? 4.5f : 1.2f;
	}
	return total == 0 ? 0 : bits + dd_times_log(total) + description + table_price;
}

/* Sum the counts of contexts whose pasts agree under the mask. */
static void gather(const state *s, counts *count, unsigned mask, counts *part)
{
	for (unsigned past = 0; past <= mask; past++)
		memset(part[past], 0, sizeof part[past]);
	for (unsigned past = 0; past < DD_RANS_PAST; past++)
		for (unsigned i = 0; i < s->used_count; i++)
			part[past & mask][s->used[i]] += count[past][s->used[i]];
}

static unsigned mask_of(unsigned split)
{
	return split == DD_RANS_ONE ? 0 : split == DD_RANS_BY_LAST ? 3 : DD_RANS_PAST - 1;
}

typedef struct {
	unsigned split, tables;
	float bits;
} choice;

/* The cheapest split of these contexts, of one level or of several merged. */
static choice cheapest(state *s, counts *count, float table_price)
{
	choice best = {0};

	for (unsigned split = DD_RANS_ONE; split <= DD_RANS_BY_BOTH; split++) {
		choice c = {split, 0, (float)mask_of(split) + 1};

		gather(s, count, mask_of(split), s->part);
		for (unsigned part = 0; part <= mask_of(split); part++) {
			float bits = price(s, s->part[part], table_price);

			c.bits += bits;
			c.tables += bits > 0;
		}
		if (split == DD_RANS_ONE || c.bits < best.bits)
			best = c;
	}
	return best;
}

/* Add a level's counts to the merged ones. */
static void merge(state *s, unsigned level)
{
	for (unsigned past = 0; past < DD_RANS_PAST; past++)
		for (unsigned i = 0; i < s->used_count; i++)
			s->merged[past][s->used[i]] += s->count[level][past][s->used[i]];
}

/* Merge levels upwards where one set of tables for both is cheaper; each set is split as is cheapest for it. */
static unsigned choose_splits(state *s, float table_price)
{
	unsigned start = 0, tables = 1;
	choice below;

	memcpy(s->merged, s->count[0], sizeof s->merged);
	below = cheapest(s, s->merged, table_price);
	for (unsigned level = 1; level < DD_RANS_LEVELS; level++) {
		choice alone = cheapest(s, s->count[level], table_price), both;

		merge(s, level);
		both = cheapest(s, s->merged, table_price);
		s->split[level] = DD_RANS_AS_BELOW;
		if (both.bits <= below.bits + alone.bits) {
			below = both;
			continue;
		}
		s->split[start] = (uint8_t)below.split;
		tables += below.tables;
		start = level;
		below = alone;
		memcpy(s->merged, s->count[level], sizeof s->merged);
	}
	s->split[start] = (uint8_t)below.split;
	return tables + below.tables;
}

/* To at most four significant bits. */
static uint32_t rounded(float f)
{
	uint32_t n = f < 1 ? 1 : (uint32_t)(f + 0.5f), drop = dd_bit_length(n) > 4 ? dd_bit_length(n) - 4 : 0;

	return drop == 0 ? n : ((n + (1u << (drop - 1))) >> drop) << drop;
}

/* Frequencies for these counts, as they can be described; returns which used token takes the rest. */
static unsigned share_out(const state *s, const uint32_t *count, symbol *t)
{
	uint32_t total = 0, sum = 0, at = 0;
	unsigned rest = 0;
	float owed = 0;

	for (unsigned i = 0; i < s->used_count; i++) {
		total += count[s->used[i]];
		if (count[s->used[i]] > count[s->used[rest]])
			rest = i;
	}
	for (unsigned i = 0; i < s->used_count; i++) {
		uint32_t n = count[s->used[i]], f = 0;

		if (n > 0 && i != rest) {
			float share = (float)n * (float)DD_RANS_TOTAL / (float)total;

			f = rounded(share + owed);
			owed += share - (float)f;
		}
		t[s->used[i]].frequency = (uint16_t)f;
		sum += f;
	}
	while (sum >= DD_RANS_TOTAL) { /* take from the largest: with many rare tokens, 1 for each is too much */
		unsigned most = rest == 0 ? 1 : 0, drop;

		for (unsigned i = 0; i < s->used_count; i++)
			if (i != rest && t[s->used[i]].frequency > t[s->used[most]].frequency)
				most = i;
		drop = dd_bit_length(t[s->used[most]].frequency - 1u);
		t[s->used[most]].frequency -= (uint16_t)(1u << (drop > 4 ? drop - 4 : 0));
		sum -= 1u << (drop > 4 ? drop - 4 : 0);
	}
	t[s->used[rest]].frequency = (uint16_t)(DD_RANS_TOTAL - sum);
	for (unsigned i = 0; i < s->used_count; i++) {
		symbol *own = &t[s->used[i]];

		own->first = (uint16_t)at;
		own->inverse = own->frequency > 0 ? (1ull << DD_RANS_INVERSE) / own->frequency + 1 : 0;
		at += own->frequency;
	}
	return rest;
}

static void write_table(const state *s, const symbol *t, unsigned rest, dd_bit_writer *w)
{
	unsigned before = 8;

	dd_bits_put(w, rest, dd_bit_length(s->used_count - 1));
	for (unsigned i = 0; i < s->used_count; i++) {
		uint32_t f = t[s->used[i]].frequency, length = dd_bit_length(f);
		int change = (int)length - (int)before;
		unsigned zeros = (unsigned)(change < 0 ? -2 * change - 1 : 2 * change);

		if (i == rest)
			continue;
		dd_bits_put(w, 1ull << zeros, zeros + 1);
		if (length >= 2) {
			unsigned more = length < 4 ? length - 1 : 3;

			dd_bits_put(w, (f >> (length - 1 - more)) & ((1u << more) - 1), more);
		}
		before = length;
	}
}

static void write_tables(state *s, dd_bit_writer *w)
{
	unsigned top = s->used[s->used_count - 1], tables = 1;

	dd_bits_put(w, top, 8);
	for (unsigned token = 0, i = 0; token <= top; token++) {
		dd_bits_put(w, s->used[i] == token, 1);
		i += s->used[i] == token;
	}
	for (unsigned level = 0; level < DD_RANS_LEVELS; level++)
		dd_bits_put(w, s->split[level], 2);
	for (unsigned level = 0; level < DD_RANS_LEVELS; level++) {
		unsigned mask = mask_of(s->split[level]);
		uint8_t *to = s->table_of + level * DD_RANS_PAST;

		if (s->split[level] == DD_RANS_AS_BELOW) {
			memcpy(to, to - DD_RANS_PAST, DD_RANS_PAST);
			continue;
		}
		memcpy(s->merged, s->count[level], sizeof s->merged);
		for (unsigned more = level + 1; more < DD_RANS_LEVELS && s->split[more] == DD_RANS_AS_BELOW; more++)
			merge(s, more);
		gather(s, s->merged, mask, s->part);
		for (unsigned part = 0; part <= mask; part++) {
			uint32_t total = 0;
			uint8_t set = 0;

			for (unsigned i = 0; i < s->used_count; i++)
				total += s->part[part][s->used[i]];
			dd_bits_put(w, total > 0, 1);
			if (total > 0) {
				unsigned rest = share_out(s, s->part[part], s->tables[tables]);

				write_table(s, s->tables[tables], rest, w);
				set = (uint8_t)tables++;
			}
			for (unsigned past = 0; past < DD_RANS_PAST; past++)
				if ((past & mask) == part)
					to[past] = set;
		}
	}
	dd_bits_flush(w);
}

static void write_tokens(const dd_column *c, const state *s, dd_writer *w)
{
	uint32_t length = dd_rans_lane_rows(c->n), x[DD_RANS_LANES];
	uint16_t *end = s->words + c->n, *at = end;

	for (unsigned lane = 0; lane < DD_RANS_LANES; lane++)
		x[lane] = DD_RANS_LOW;
	for (uint32_t i = length; i-- > 0;) {
#pragma GCC unroll 8
		for (unsigned lane = DD_RANS_LANES; lane-- > 0;) {
			uint32_t row = lane * length + i, full, whole;
			const symbol *t;

			if (row >= c->n)
				continue;
			t = &s->tables[s->table_of[s->context[row]]][s->token[row]];
			/* As good as random, hence no branch. There is room: a row takes a word at most. */
			full = x[lane] >> (32 - DD_RANS_BITS) >= t->frequency;
			at[-1] = (uint16_t)x[lane];
			at -= full;
			x[lane] >>= 16 * full;
			whole = (uint32_t)(x[lane] * t->inverse >> DD_RANS_INVERSE);
			x[lane] += whole * (DD_RANS_TOTAL - t->frequency) + t->first; /* whole f + rest to whole TOTAL + rest + first */
		}
	}
	for (unsigned lane = 0; lane < DD_RANS_LANES; lane++)
		dd_put_varint(w, x[lane] - DD_RANS_LOW);
	dd_put_varint(w, (uint64_t)(end - at));
	for (; at < end; at++)
		dd_put_le(w, *at, 2);
}

void dd_rans_encode(const dd_column *c, const dd_rows *rows, void *memory, dd_writer *w)
{
	state *s = memory;
	dd_bit_writer bits = {w, 0, 0};
	uint32_t seen[DD_RANS_TOKENS] = {0};

	memset(s->count, 0, sizeof s->count);
	s->words = (uint16_t *)(void *)((uint8_t *)memory + dd_align(sizeof(state)));
	s->token = (uint8_t *)(s->words + c->n);
	s->context = s->token + c->n;
	for (unsigned token = 0; token < DD_RANS_TOKENS; token++) {
		s->effect[token] = dd_rans_effect(token);
		s->extra[token] = token >= DD_TOKEN_FIRST ? (uint8_t)dd_rans_extra((token - DD_TOKEN_FIRST) / 2) : 0;
	}
	s->extra[DD_TOKEN_PLAIN] = 64;
	for (int e = -DD_RANS_NEAR; e < DD_RANS_NEAR; e++)
		s->near[e + DD_RANS_NEAR] = (uint8_t)token_of((uint64_t)(int64_t)e);
	if (c->centre == DD_CENTRE_LAST && rows->class == NULL) {
		dd_rows plain = {rows->index, NULL, NULL, NULL};

		find_tokens(c, &plain, DD_CENTRE_LAST, s);
	} else {
		find_tokens(c, rows, c->centre, s);
	}
	find_contexts(c, s);
	for (unsigned k = 0; k < DD_RANS_CONTEXTS; k++)
		for (unsigned token = 0; token < DD_RANS_TOKENS; token++)
			seen[token] += s->count[k / DD_RANS_PAST][k % DD_RANS_PAST][token];
	s->used_count = 0;
	for (unsigned token = 0; token < DD_RANS_TOKENS; token++)
		if (seen[token] > 0)
			s->used[s->used_count++] = (uint8_t)token;
	for (float table_price = 0; choose_splits(s, table_price) > DD_RANS_TABLES; table_price = 2 * table_price + 64)
		;
	write_tables(s, &bits);
	write_tokens(c, s, w);
	if (c->low > 0 || seen[DD_TOKEN_PLAIN] > 0 || seen[DD_ROW_EXACT - 1] > 0 ||
	    s->used[s->used_count - 1] >= DD_TOKEN_FIRST + 2 * DD_RANS_DIRECT) {
		write_plain(c, rows, s, &bits);
		dd_bits_flush(&bits);
	}
}
