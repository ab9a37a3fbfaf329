/* Mode `interp` under coder `rans`, decoding: classes of rows, tables, then level by level. */
#include "levels.h"
#include "runs.h"

typedef struct {
	dd_runs runs;
	const uint64_t *point; /* of the next row that is a value */
	dd_levels levels;
	uint32_t x[DD_RANS_LANES];
	const uint8_t *word, *word_end;
	dd_bit_reader plain;
	bool seldom; /* few tokens take a word */
	dd_rans_parts parts;
	int8_t clipped[DD_RANS_TOKENS]; /* a token's residual */
	uint8_t table_of[DD_RANS_GROUPS * DD_RANS_CONTEXTS];
	dd_rans_table tables[DD_RANS_TABLES];
	uint8_t context[DD_LEVELS_PIECE], token[DD_LEVELS_PIECE];
} state;

static size_t workspace(const dd_column *c)
{
	size_t decoding = dd_align(sizeof(state)) + dd_levels_size(c->n), encoding = dd_levels_encode_workspace(c);

	return decoding > encoding ? decoding : encoding;
}

/* Tokens of rows under these contexts, dealt to the lanes in turn. */
DD_INLINE void some_tokens(state *s, const uint8_t *table_of, uint32_t rows, bool seldom)
{
	const uint8_t *word = s->word;
	uint32_t x[DD_RANS_LANES], j = 0;

	memcpy(x, s->x, sizeof x);
	for (; rows - j >= DD_RANS_LANES && s->word_end - word >= (ptrdiff_t)(2 * DD_RANS_LANES); j += DD_RANS_LANES) {
#pragma GCC unroll 8
		for (unsigned k = 0; k < DD_RANS_LANES; k++)
			s->token[j + k] = dd_rans_token(s->tables[table_of[s->context[j + k]]], &x[k], &word, s->word_end, false, seldom);
	}
	for (; j < rows; j++)
		s->token[j] = dd_rans_token(s->tables[table_of[s->context[j]]], &x[j % DD_RANS_LANES], &word, s->word_end, true, true);
	memcpy(s->x, x, sizeof x);
	s->word = word;
}

static void tokens(state *s, unsigned group, uint32_t rows)
{
	const uint8_t *table_of = s->table_of + group * DD_RANS_CONTEXTS;

	if (s->seldom)
		some_tokens(s, table_of, rows, true);
	else
		some_tokens(s, table_of, rows, false);
}

/* The residual of a token; `small` if nothing of it is in plain bits. */
DD_INLINE uint64_t residual(state *s, unsigned token, bool small)
{
	if (small || (token < DD_SMALL_TOKENS && token != DD_TOKEN_PLAIN))
		return (uint64_t)(int64_t)s->parts.small[token];
	return token == DD_TOKEN_PLAIN ? dd_bits_get_wide(&s->plain, 64) : dd_rans_residual(&s->parts, &s->plain, token, 0);
}

static void anchors(const dd_column *c, state *s, uint32_t count)
{
	dd_levels *l = &s->levels;
	uint32_t rows;

	l->m[0] = (uint64_t)c->first - c->width / 2;
	l->e[0] = 0;
	memset(s->context, 0, sizeof s->context);
	for (uint32_t at = 1; at < count && !dd_stopped(c); at += rows) {
		rows = count - at < DD_LEVELS_PIECE ? count - at : DD_LEVELS_PIECE;
		tokens(s, DD_LEVELS_ANCHORS, rows);
		for (uint32_t j = 0; j < rows; j++) {
			l->m[at + j] = l->m[at + j - 1] + c->width * residual(s, s->token[j], false);
			l->e[at + j] = s->clipped[s->token[j]];
		}
	}
	dd_levels_there(l, count);
}

/* Rows from `at` on, of which there are tokens. `small` is constant at each call. */
DD_INLINE void put_rows(const dd_column *c, state *s, unsigned set, uint32_t at, uint32_t rows, bool small)
{
	dd_levels_taps taps = dd_levels_taps_of(c->weight[set]);
	dd_levels l = s->levels;

	for (uint32_t j = 0; j < rows; j++) {
		uint64_t lowest = dd_interp_round(dd_levels_predict(l.m + at + j, &taps));

		dd_levels_put(&l, c, at + j, lowest, residual(s, s->token[j], small), s->clipped[s->token[j]]);
	}
}

/* All rows at odd multiples of `distance`. */
static void level(const dd_column *c, state *s, uint32_t values, uint32_t distance)
{
	uint32_t all = dd_interp_rows(values, distance), rows;
	unsigned set = dd_interp_set(distance);
	dd_levels *l = &s->levels;

	for (uint32_t at = 0; at < all && !dd_stopped(c); at += rows) {
		bool small = true;

		rows = all - at < DD_LEVELS_PIECE ? all - at : DD_LEVELS_PIECE;
		dd_levels_contexts(l, c->width, at, rows, s->context);
		tokens(s, set, rows);
		for (uint32_t j = 0; j < rows; j++)
			small &= s->token[j] < DD_SMALL_TOKENS && s->token[j] != DD_TOKEN_PLAIN;
		if (small)
			put_rows(c, s, set, at, rows, true);
		else
			put_rows(c, s, set, at, rows, false);
	}
	dd_levels_complete(l, all);
}

static dd_status read_tables_and_words(const dd_column *c, state *s, dd_reader r, dd_error *err)
{
	dd_bit_reader bits = {r.p, r.end, 0};
	uint64_t words;

	if (!dd_rans_read_tables(&bits, DD_RANS_GROUPS, DD_TOKEN_PLAIN, s->tables, s->table_of) ||
	    bits.at > 8 * (uint64_t)(r.end - r.p))
		return dd_fail(err, DD_CORRUPT, "impossible frequencies");
	r.p += (bits.at + 7) / 8;
	for (unsigned lane = 0; lane < DD_RANS_LANES; lane++)
		s->x[lane] = (uint32_t)(dd_get_varint(&r) + DD_RANS_LOW);
	words = dd_get_varint(&r);
	if (r.bad || words > (uint64_t)(r.end - r.p) / 2)
		return dd_fail(err, DD_CORRUPT, "truncated payload");
	s->word = r.p;
	s->word_end = r.p + 2 * words;
	s->seldom = words < c->n / 8;
	s->plain = (dd_bit_reader){s->word_end, r.end, 0};
	return DD_OK;
}

static dd_status open(const dd_column *c, const uint8_t *payload, const uint8_t *end, void *memory, dd_error *err)
{
	state *s = memory;
	dd_reader r = {payload, end, false};
	uint32_t count[8] = {0}, values;
	dd_status status;

	status = dd_runs_open(&s->runs, c, &r, count, err);
	values = count[DD_ROW_VALUE];
	if (status == DD_OK && values > 1) /* the first is in the header */
		status = read_tables_and_words(c, s, r, err);
	if (values == 0 || status != DD_OK)
		return status;
	dd_rans_parts_fill(&s->parts);
	dd_levels_clipped(s->clipped);
	dd_levels_start(&s->levels, values, c->stride, (uint8_t *)memory + dd_align(sizeof *s));
	anchors(c, s, dd_levels_anchors(values, c->stride));
	for (uint32_t distance = (1u << c->stride) / 2; distance > 0 && !dd_stopped(c); distance /= 2)
		level(c, s, values, distance);
	s->point = s->levels.m;
	return DD_OK; /* where it was stopped, whoever calls asks next */
}

static void decode(const dd_column *c, void *memory, const int32_t *predictions, uint32_t rows, uint64_t *word,
		   uint8_t *class)
{
	unsigned width = dd_type_width(c->type);
	state *s = memory;

	(void)predictions;
	if (!(c->flags & DD_FLAG_EXCEPTIONS)) {
		memcpy(word, s->point, rows * sizeof *word);
		s->point += rows;
		return;
	}
	for (uint32_t i = 0; i < rows; i++) {
		unsigned k = dd_runs_next(&s->runs);

		class[i] = (uint8_t)k;
		word[i] = 0;
		if (k == DD_ROW_VALUE)
			word[i] = *s->point++;
		else if (k == DD_ROW_EXACT)
			word[i] = dd_take_le(&s->runs.exact, width);
	}
}

const dd_coder dd_coder_levels = {workspace, open, decode, dd_levels_encode};
