/*
 * Coder 2: strong context mixing; and coder 4 in mode interp, which is the same with a net. Row classes and exact rows
 * come first, then the indices of the rows that are values, in the order of rows (modes lattice and adaptive) or from
 * coarse to fine (mode interp).
 */
#include "cm_causal.h"
#include "cm_interp.h"
#include "coder.h"

typedef struct {
	dd_cm_mixer *mixer;
	dd_rc_decoder in;
	dd_causal causal;
	dd_interp interp;
	uint8_t *class;	 /* of all rows; NULL: all are values */
	uint64_t *exact; /* the bits of exact rows, in order */
	uint32_t exacts; /* how many of them have been handed out */
	uint32_t row, values; /* rows handed out, and values among them */
	int64_t *side[DD_SIDES_MOST];
} state;

typedef struct {
	size_t mixer, class, side, net, indices, exact, size;
} layout;

static layout lay_out(const dd_column *c)
{
	layout at = {.mixer = dd_align(sizeof(state))};

	at.class = at.mixer + dd_cm_mixer_size(c->n);
	at.side = at.class + (c->flags & DD_FLAG_EXCEPTIONS ? dd_align(c->n) : 0);
	at.net = at.side + c->sides * dd_align(c->n * sizeof(int64_t));
	at.indices = at.net + (c->coder == DD_CODER_NET ? dd_inet_size(c->n) : 0);
	/* Last, as an encoder, which does without, learns their number only after it has asked for memory. */
	at.exact = at.indices + (c->mode == DD_MODE_INTERP ? dd_interp_size(c->n) : dd_causal_size(c));
	at.size = at.exact + dd_align(c->escapes * sizeof(uint64_t));
	return at;
}

static size_t workspace(const dd_column *c)
{
	return lay_out(c).size;
}

static state *start(const dd_column *c, void *memory)
{
	layout at = lay_out(c);
	uint8_t *base = memory;
	state *s = memory;

	memset(s, 0, sizeof *s);
	s->mixer = dd_cm_mixer_start(base + at.mixer, c->n, c->flags & DD_FLAG_MATCHES, c->cascade);
	if (c->coder == DD_CODER_NET)
		dd_cm_mixer_with_net(s->mixer);
	if (c->flags & DD_FLAG_EXCEPTIONS)
		s->class = base + at.class;
	s->exact = (uint64_t *)(void *)(base + at.exact);
	for (unsigned k = 0; k < c->sides; k++)
		s->side[k] = (int64_t *)(void *)(base + at.side + k * dd_align(c->n * sizeof(int64_t)));
	return s;
}

/* Classes of all rows and bits of the exact ones; returns how many rows are values, UINT32_MAX if that cannot be. */
DD_INLINE uint32_t code_classes(const dd_column *c, state *s, dd_rc_io *io, bool decoding, const dd_rows *rows)
{
	unsigned last = DD_ROW_VALUE, last2 = DD_ROW_VALUE, width = dd_type_width(c->type) * 8;
	uint32_t values = 0, exacts = 0, run = 0;
	dd_cm_mixer *m = s->mixer;

	if (s->class == NULL)
		return c->n;
	memset(m->input + DD_CM_CONTEXTS, 0, DD_CM_EXPERTS * sizeof *m->input);
	for (uint32_t i = 0; i < c->n && !(decoding && dd_stopped(c)); i++) {
		unsigned class = decoding ? 0 : rows->class[i], k;

		m->contexts = 3;
		m->context[0] = dd_hash(50, last);
		m->context[1] = dd_hash(51, last * 8 + last2);
		m->context[2] = dd_hash(52, last * 64 + dd_bit_length(run));
		dd_cm_mixer_symbol(m);
		for (k = 0; k + 1 < DD_ROW_CLASSES; k++)
			if (dd_cm_code(m, io, decoding, DD_CM_CLASS + k, class == k))
				break;
		s->class[i] = (uint8_t)k;
		if (k == DD_ROW_EXACT) {
			if (exacts == c->escapes)
				return UINT32_MAX;
			if (decoding)
				s->exact[exacts] = dd_rc_decode_bits(&io->dec, width);
			else
				dd_rc_encode_bits(&io->enc, rows->bits[i], width);
			exacts++;
		}
		values += k == DD_ROW_VALUE;
		run = k == last ? run + 1 : 0;
		last2 = last;
		last = k;
	}
	return values;
}

/* What the other columns read back at the rows that are values here, as whole numbers. */
static void gather_sides(const dd_column *c, state *s)
{
	for (unsigned k = 0; k < c->sides; k++) {
		uint32_t v = 0;

		for (uint32_t i = 0; i < c->n; i++)
			if (s->class == NULL || s->class[i] == DD_ROW_VALUE)
				s->side[k][v++] = dd_side_index(&c->side[k], i);
	}
}

static void start_rows(const dd_column *c, state *s, uint32_t values)
{
	layout at = lay_out(c);
	uint8_t *base = (uint8_t *)s, *memory = base + at.indices;

	gather_sides(c, s);
	if (c->mode == DD_MODE_INTERP) {
		dd_inet_state *net = c->coder == DD_CODER_NET ? dd_inet_start(base + at.net, c->net, c->n, c->width) : NULL;

		dd_interp_start(&s->interp, c, values, c->sides > 0 ? s->side[0] : NULL, net, memory);
	} else {
		dd_causal_start(&s->causal, c, values, memory);
		for (unsigned k = 0; k < c->sides; k++)
			s->causal.side[k] = s->side[k];
	}
}

static dd_status open(const dd_column *c, const uint8_t *payload, const uint8_t *end, void *memory, dd_error *err)
{
	state *s = start(c, memory);
	dd_rc_io io;
	uint32_t values;

	dd_rc_decoder_start(&io.dec, payload, end);
	values = code_classes(c, s, &io, true, NULL);
	if (values == UINT32_MAX)
		return dd_fail(err, DD_CORRUPT, "more exact rows than the column's header says");
	if (dd_stopped(c))
		return DD_OK; /* which whoever calls asks next */
	start_rows(c, s, values);
	if (c->mode == DD_MODE_INTERP && values > 0)
		dd_interp_code(&s->interp, c, s->mixer, &io, true, NULL);
	s->in = io.dec;
	return DD_OK;
}

static void decode(const dd_column *c, void *memory, const int32_t *predictions, uint32_t rows, uint64_t *word,
		   uint8_t *class)
{
	state *s = memory;
	dd_rc_io io = {.dec = s->in};

	(void)predictions;
	for (uint32_t i = 0; i < rows; i++, s->row++) {
		unsigned k = s->class != NULL ? s->class[s->row] : DD_ROW_VALUE;

		if (s->class != NULL)
			class[i] = (uint8_t)k;
		if (k == DD_ROW_EXACT)
			word[i] = s->exact[s->exacts++];
		else if (k != DD_ROW_VALUE)
			word[i] = 0;
		else if (c->mode == DD_MODE_INTERP)
			word[i] = s->interp.m[s->values++];
		else
			word[i] = dd_causal_code(&s->causal, c, s->mixer, &io, true, 0);
	}
	s->in = io.dec;
}

static void encode(const dd_column *c, const dd_rows *rows, void *memory, dd_writer *w)
{
	state *s = start(c, memory);
	uint8_t *floor = w->p;
	uint32_t values;
	dd_rc_io io;

	dd_rc_encoder_start(&io.enc, *w);
	values = code_classes(c, s, &io, false, rows);
	start_rows(c, s, values);
	if (c->mode == DD_MODE_INTERP) {
		uint64_t *x = s->interp.m; /* a row's own point is read before it is overwritten with the one stored */
		uint32_t v = 0;

		for (uint32_t i = 0; i < c->n; i++)
			if (s->class == NULL || s->class[i] == DD_ROW_VALUE)
				x[v++] = rows->index[i];
		if (values > 0)
			dd_interp_code(&s->interp, c, s->mixer, &io, false, x);
	} else {
		for (uint32_t i = 0; i < c->n && !io.enc.out.full; i++)
			if (s->class == NULL || s->class[i] == DD_ROW_VALUE)
				dd_causal_code(&s->causal, c, s->mixer, &io, false, rows->index[i]);
	}
	*w = dd_rc_finish(&io.enc, floor);
}

const dd_coder dd_coder_cm = {workspace, open, decode, encode};
