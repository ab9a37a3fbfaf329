/* Coder 1 in modes lattice and btae, decoding: tokens lane by lane in step, which are then turned into indices. */
#include "rans.h"

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
	dd_rans_parts parts;
	dd_rans_table tables[DD_RANS_TABLES];
	uint8_t token[]; /* c->n of them */
} state;

static size_t workspace(const dd_column *c)
{
	size_t decoding = sizeof(state) + c->n, encoding = dd_rans_encode_workspace(c);

	return dd_align(decoding > encoding ? decoding : encoding);
}

static dd_status open(const dd_column *c, const uint8_t *payload, const uint8_t *end, void *memory, dd_error *err)
{
	state *s = memory;
	dd_bit_reader bits = {payload, end, 0};
	dd_reader r;
	uint64_t words;

	if (!dd_rans_read_tables(&bits, 1, 0, s->tables, s->table_of) || bits.at > 8 * (uint64_t)(end - payload))
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
	dd_rans_parts_fill(&s->parts);
	return DD_OK;
}

/* One token of one lane. */
DD_INLINE uint8_t step(const state *s, uint32_t *x, dd_rans_history *h, const uint8_t **word, const uint8_t *end,
		       bool checked, bool seldom)
{
	uint8_t token = dd_rans_token(s->tables[s->table_of[dd_rans_context(h)]], x, word, end, checked, seldom);

	dd_rans_push(h, s->effect[token]);
	return token;
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
		large += token[i] >= DD_SMALL_TOKENS;
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
		if (how == SMALL || (how == MOSTLY_SMALL && token[i] < DD_SMALL_TOKENS))
			e = (uint64_t)(int64_t)s->parts.small[token[i]];
		else if (how == ODD && token[i] == DD_TOKEN_PLAIN)
			e = dd_bits_get_wide(&s->plain, 64);
		else
			e = dd_rans_residual(&s->parts, &s->plain, token[i], how == ODD ? c->low : 0);
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
	else if (c->centre == DD_CENTRE_LEVEL)
		put_block(c, s, DD_CENTRE_LEVEL, token, NULL, rows, word);
	else
		put_block(c, s, DD_CENTRE_MODEL, token, predictions, rows, word);
	s->row += rows;
}

const dd_coder dd_coder_rans = {workspace, open, decode, dd_rans_encode};
