/* Mode `interp` under coder `rans`, encoding: quantize level by level, choose tables, then code backwards. */
#include "levels_encode.h"
#include "rans_encode.h"
#include "runs.h"

/* All rows that are values, but the first, in the order in which they are coded. */
typedef struct {
	uint64_t *x; /* in the order of rows: their highest legal points */
	uint64_t *e;
	uint16_t *words, *context;
	uint8_t *token;
	uint32_t values, coded;
	dd_levels levels;
	int8_t clipped[DD_RANS_TOKENS];
	dd_rans_coding coding;
} state;

static size_t state_size(void)
{
	return dd_align(offsetof(state, coding)) + dd_rans_coding_size(DD_RANS_GROUPS);
}

size_t dd_levels_encode_workspace(const dd_column *c)
{
	return state_size() + dd_levels_size(c->n) + (size_t)c->n * (2 * sizeof(uint64_t) + 2 * sizeof(uint16_t) + 1);
}

static state *start(const dd_column *c, void *memory)
{
	state *s = memory;

	s->x = (uint64_t *)(void *)((uint8_t *)memory + state_size() + dd_levels_size(c->n));
	s->e = s->x + c->n;
	s->words = (uint16_t *)(void *)(s->e + c->n);
	s->context = s->words + c->n;
	s->token = (uint8_t *)(s->context + c->n);
	s->values = s->coded = 0;
	dd_levels_clipped(s->clipped);
	dd_rans_coding_start(&s->coding, DD_RANS_GROUPS);
	return s;
}

/* The next row's residual is `e`, under this context. */
static unsigned add(state *s, unsigned context, uint64_t e)
{
	unsigned token = dd_rans_token_of(e);

	s->e[s->coded] = e;
	s->token[s->coded] = (uint8_t)token;
	s->context[s->coded++] = (uint16_t)context;
	s->coding.count[context][token]++;
	return token;
}

static void quantize_anchors(const dd_column *c, state *s)
{
	uint32_t count = dd_levels_anchors(s->values, c->stride);
	dd_levels *l = &s->levels;

	dd_levels_anchor(l, c, s->x, s->values, s->e);
	for (uint32_t k = 1; k < count; k++)
		l->e[k] = s->clipped[add(s, DD_LEVELS_ANCHORS * DD_RANS_CONTEXTS, s->e[k - 1])];
	dd_levels_there(l, count);
}

static void quantize_level(const dd_column *c, state *s, uint32_t distance)
{
	uint32_t all = dd_interp_rows(s->values, distance);
	unsigned set = dd_interp_set(distance);
	dd_levels_taps taps = dd_levels_taps_of(c->weight[set]);
	double per = 1.0 / (double)c->width;
	dd_levels *l = &s->levels;
	uint8_t context[DD_LEVELS_PIECE];

	for (uint32_t at = 0; at < all; at += DD_LEVELS_PIECE) {
		uint32_t rows = all - at < DD_LEVELS_PIECE ? all - at : DD_LEVELS_PIECE;

		dd_levels_contexts(l, c->width, at, rows, context);
		for (uint32_t j = at; j < at + rows; j++) {
			uint64_t lowest = dd_interp_round(dd_levels_predict(l->m + j, &taps));
			uint64_t e = dd_levels_steps(s->x[(size_t)(2 * j + 1) * distance], lowest, c->width, per);
			unsigned token = add(s, set * DD_RANS_CONTEXTS + context[j - at], e);

			dd_levels_put(l, c, j, lowest, e, s->clipped[token]);
		}
	}
	dd_levels_complete(l, all);
}

/* Code the `rows` rows before `end`, the last one first; they are dealt to the lanes in turn. */
static uint16_t *put_tokens(const state *s, uint32_t end, uint32_t rows, uint32_t *x, uint16_t *at)
{
	for (uint32_t j = rows; j-- > 0;) {
		uint32_t i = end - rows + j;

		dd_rans_put(&s->coding, s->context[i], s->token[i], &x[j % DD_RANS_LANES], &at);
	}
	return at;
}

static void write_tokens(const dd_column *c, const state *s, dd_writer *w)
{
	uint16_t *end = s->words + c->n, *at = end;
	uint32_t x[DD_RANS_LANES], left = s->coded;

	for (unsigned lane = 0; lane < DD_RANS_LANES; lane++)
		x[lane] = DD_RANS_LOW;
	for (uint32_t distance = 1; distance < 1u << c->stride; distance *= 2) {
		uint32_t rows = dd_interp_rows(s->values, distance);

		at = put_tokens(s, left, rows, x, at);
		left -= rows;
	}
	at = put_tokens(s, left, left, x, at);
	dd_rans_put_words(x, at, end, w);
}

void dd_levels_encode(const dd_column *c, const dd_rows *rows, void *memory, dd_writer *w)
{
	dd_bit_writer bits = {w, 0, 0};
	state *s = start(c, memory);

	dd_put_runs(c, rows, w);
	for (uint32_t i = 0; i < c->n; i++)
		if (rows->class == NULL || rows->class[i] == DD_ROW_VALUE)
			s->x[s->values++] = rows->index[i];
	if (s->values < 2) /* the first is in the header */
		return;
	dd_levels_start(&s->levels, s->values, c->stride, (uint8_t *)memory + state_size());
	quantize_anchors(c, s);
	for (uint32_t distance = (1u << c->stride) / 2; distance > 0; distance /= 2)
		quantize_level(c, s, distance);
	dd_rans_coding_write(&s->coding, &bits);
	write_tokens(c, s, w);
	for (uint32_t i = 0; i < s->coded; i++)
		if (s->token[i] == DD_TOKEN_PLAIN || s->token[i] >= DD_SMALL_TOKENS)
			dd_rans_put_plain(&bits, s->token[i], s->e[i], 0);
	dd_bits_flush(&bits);
}
