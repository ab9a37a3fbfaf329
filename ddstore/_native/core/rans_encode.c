/* Coder 1 in modes lattice and btae, encoding: tokens and their contexts, their tables, then the states. */
#include "rans_encode.h"

enum { NEAR = 128 };

typedef struct {
	uint32_t effect[DD_RANS_TOKENS];
	uint8_t near[2 * NEAR]; /* the tokens of small residuals, from -NEAR */
	uint16_t *words;
	uint8_t *token, *context;
	dd_rans_coding coding;
} state;

/* The state ends with as many counts as one group of contexts has. */
static size_t state_size(void)
{
	return dd_align(offsetof(state, coding)) + dd_rans_coding_size(1);
}

size_t dd_rans_encode_workspace(const dd_column *c)
{
	return state_size() + (size_t)c->n * 4;
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
		s->token[i] = (uint8_t)(e + NEAR < 2 * NEAR ? s->near[e + NEAR] : dd_rans_token_of(e));
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
			s->coding.count[context][s->token[row]]++;
			dd_rans_push(&h[lane], s->effect[s->token[row]]);
		}
}

/* What tokens leave open, row by row. */
static void write_plain(const dd_column *c, const dd_rows *rows, const state *s, dd_bit_writer *w)
{
	uint64_t q1 = (uint64_t)c->first, q2 = q1;

	for (uint32_t i = 0; i < c->n; i++) {
		unsigned token = s->token[i];

		if (token < DD_TOKEN_PLAIN) {
			if (token + 1 == DD_ROW_EXACT)
				dd_bits_put_wide(w, rows->bits[i], dd_type_width(c->type) * 8);
			continue;
		}
		if (token == DD_TOKEN_PLAIN || token >= DD_SMALL_TOKENS || c->low > 0)
			dd_rans_put_plain(w, token, residual_of(c, rows, c->centre, i, q1, q2), c->low);
		q2 = q1;
		q1 = rows->index[i];
	}
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
			uint32_t row = lane * length + i;

			if (row < c->n)
				dd_rans_put(&s->coding, s->context[row], s->token[row], &x[lane], &at);
		}
	}
	dd_rans_put_words(x, at, end, w);
}

void dd_rans_encode(const dd_column *c, const dd_rows *rows, void *memory, dd_writer *w)
{
	state *s = memory;
	dd_bit_writer bits = {w, 0, 0};

	s->words = (uint16_t *)(void *)((uint8_t *)memory + state_size());
	s->token = (uint8_t *)(s->words + c->n);
	s->context = s->token + c->n;
	for (unsigned token = 0; token < DD_RANS_TOKENS; token++)
		s->effect[token] = dd_rans_effect(token);
	for (int e = -NEAR; e < NEAR; e++)
		s->near[e + NEAR] = (uint8_t)dd_rans_token_of((uint64_t)(int64_t)e);
	dd_rans_coding_start(&s->coding, 1);
	if (c->centre == DD_CENTRE_LAST && rows->class == NULL) {
		dd_rows plain = {rows->index, NULL, NULL, NULL};

		find_tokens(c, &plain, DD_CENTRE_LAST, s);
	} else {
		find_tokens(c, rows, c->centre, s);
	}
	find_contexts(c, s);
	dd_rans_coding_write(&s->coding, &bits);
	write_tokens(c, s, w);
	if (c->low > 0 || s->coding.used[0] <= DD_TOKEN_PLAIN || s->coding.used[s->coding.used_count - 1] >= DD_SMALL_TOKENS) {
		write_plain(c, rows, s, &bits);
		dd_bits_flush(&bits);
	}
}
