/*
 * Coder 4: an index is coded by the distribution that the series' density net gives for it, a mixture of four logistic
 * ones. It is told in binary decisions, each with the probability that the mixture has for it: outwards from its mean in
 * cells about as wide as it is itself, and then within the cell.
 */
#include "coder.h"
#include "mixture.h"
#include "rangecoder.h"

enum {
	STEPS = 20,	/* cells on one side that are told by the mixture; beyond, by their number */
	BISECTED = 8,	/* bits of a place within a cell that are; the others are at even odds */
	LOW_MOST = 40
};
#define NARROWEST 0.02f /* deviation of a part, in indices */
#define LEAST 24u /* of 65536: what a decision that looks sure may still be */

typedef struct {
	dd_net_state net;
	dd_rc_decoder in;
	uint16_t class[DD_ROW_CLASSES][DD_ROW_CLASSES - 1], length[64];
	unsigned last; /* class of the row before */
} state;

/* Cells are half as wide as the mixture on the average. */
static inline unsigned low_of(const dd_mixture *m)
{
	float width = dd_clampf(0.5f * dd_v4_sum(m->weight * m->deviation), 0x1p40f);
	unsigned low = dd_bit_length((uint64_t)width);

	return low < LOW_MOST ? low : LOW_MOST;
}

/* Is it in the part of the whole? */
DD_INLINE unsigned decide(dd_rc_io *io, bool decoding, float part, float whole, unsigned bit)
{
	float p = 65536.0f * part / (whole + 1e-12f);

	p = p > (float)LEAST ? p < 65536.0f - (float)LEAST ? p : 65536.0f - (float)LEAST : (float)LEAST;
	return dd_rc_code(io, decoding, (uint32_t)p, bit);
}

/* A decision that learns how often it is a 1. */
DD_INLINE unsigned learn(dd_rc_io *io, bool decoding, uint16_t *p, unsigned bit)
{
	bit = dd_rc_code(io, decoding, *p, bit);
	*p = (uint16_t)(*p + (((bit ? 65504 : 32) - (int32_t)*p) >> 5));
	return bit;
}

/* A number above 0: its length in unary, then its bits. */
DD_INLINE uint64_t code_far(state *s, dd_rc_io *io, bool decoding, uint64_t far)
{
	unsigned bits = decoding ? 1 : dd_bit_length(far);

	for (unsigned b = 1; b < 64; b++) {
		unsigned stop = learn(io, decoding, &s->length[b], bits == b);

		if (decoding)
			bits = b + !stop;
		if (stop)
			break;
	}
	return (uint64_t)1 << (bits - 1) | dd_rc_code_bits(io, decoding, far, bits - 1);
}

/* Which cell: 0 is around the centre. Where it starts, if the mixture has told it all the way. */
DD_INLINE int64_t code_cell(state *s, const dd_mixture *m, dd_rc_io *io, bool decoding, int64_t cell, float *from,
			    bool *told)
{
	float width = (float)((uint64_t)1 << m->low), low = -0.5f - (m->low > 0 ? 0.5f * width : 0.0f), edge, mass, next;
	float below = dd_mixture_beyond(m, true, low), above = dd_mixture_beyond(m, false, low + width);
	uint64_t away;
	unsigned negative, steps;

	*from = low;
	*told = true;
	if (decide(io, decoding, 1.0f - below - above, 1.0f, cell == 0))
		return 0;
	negative = decide(io, decoding, below, below + above, cell < 0);
	away = negative ? ~(uint64_t)cell : (uint64_t)cell - 1;
	edge = negative ? low : low + width;
	mass = negative ? below : above;
	for (steps = 0; steps < STEPS; steps++, edge += negative ? -width : width, mass = next) {
		next = dd_mixture_beyond(m, negative, negative ? edge - width : edge + width);
		if (decide(io, decoding, mass - next, mass, away == steps))
			break;
	}
	*from = negative ? edge - width : edge;
	*told = steps < STEPS;
	away = *told ? steps : code_far(s, io, decoding, away - STEPS + 1) + STEPS - 1;
	return (int64_t)(negative ? ~away : away + 1);
}

/* Where in a cell, which starts at `from`. */
DD_INLINE uint64_t code_place(const dd_mixture *m, dd_rc_io *io, bool decoding, float from, bool told, uint64_t place)
{
	unsigned plain = told ? m->low > BISECTED ? m->low - BISECTED : 0 : m->low;
	float width = (float)((uint64_t)1 << m->low);
	bool below = from < 0;
	float lower = dd_mixture_beyond(m, below, from), upper = dd_mixture_beyond(m, below, from + width);
	uint64_t value = 0;

	for (unsigned b = m->low; b-- > plain;) {
		float middle;
		unsigned bit;

		width *= 0.5f;
		middle = dd_mixture_beyond(m, below, from + width);
		bit = decide(io, decoding, below ? upper - middle : middle - upper, below ? upper - lower : lower - upper,
			     (unsigned)(place >> b) & 1);
		from += bit ? width : 0.0f;
		lower = bit ? middle : lower;
		upper = bit ? upper : middle;
		value = value << 1 | bit;
	}
	return value << plain | dd_rc_code_bits(io, decoding, place, plain);
}

DD_INLINE uint64_t code_index(state *s, dd_rc_io *io, bool decoding, uint64_t index)
{
	uint64_t half, place = 0, offset;
	int64_t cell;
	dd_mixture m;
	float from;
	bool told;

	dd_net_look(&s->net);
	dd_net_run(&s->net);
	m = dd_mixture_of(s->net.output, s->net.scale, NARROWEST, dd_net_last(&s->net));
	m.low = low_of(&m);
	half = m.low > 0 ? (uint64_t)1 << (m.low - 1) : 0;
	offset = index - m.centre + half;
	cell = code_cell(s, &m, io, decoding, (int64_t)offset >> m.low, &from, &told);
	if (m.low > 0)
		place = code_place(&m, io, decoding, from, told, offset & (((uint64_t)1 << m.low) - 1));
	index = decoding ? m.centre - half + ((uint64_t)cell << m.low) + place : index;
	dd_net_push(&s->net, index);
	return index;
}

DD_INLINE unsigned code_class(state *s, dd_rc_io *io, bool decoding, unsigned class)
{
	unsigned k;

	for (k = 0; k + 1 < DD_ROW_CLASSES; k++)
		if (learn(io, decoding, &s->class[s->last][k], class == k))
			break;
	s->last = k;
	return k;
}

static size_t workspace(const dd_column *c)
{
	(void)c;
	return dd_align(sizeof(state));
}

static void start(const dd_column *c, state *s)
{
	dd_net_start(&s->net, c->net, (uint64_t)c->first, (uint64_t)c->base, c->unit);
	for (unsigned i = 0; i < DD_ROW_CLASSES; i++)
		for (unsigned k = 0; k + 1 < DD_ROW_CLASSES; k++)
			s->class[i][k] = 32768;
	for (unsigned i = 0; i < 64; i++)
		s->length[i] = 32768;
	s->last = DD_ROW_VALUE;
}

static dd_status open(const dd_column *c, const uint8_t *payload, const uint8_t *end, void *memory, dd_error *err)
{
	state *s = memory;

	(void)err;
	start(c, s);
	dd_rc_decoder_start(&s->in, payload, end);
	return DD_OK;
}

static void decode(const dd_column *c, void *memory, const int32_t *predictions, uint32_t rows, uint64_t *word,
		   uint8_t *class)
{
	state *s = memory;
	dd_rc_io io = {.dec = s->in};
	bool exceptions = (c->flags & DD_FLAG_EXCEPTIONS) != 0;

	(void)predictions;
	for (uint32_t i = 0; i < rows; i++) {
		unsigned k = exceptions ? code_class(s, &io, true, 0) : DD_ROW_VALUE;

		if (exceptions)
			class[i] = (uint8_t)k;
		if (k == DD_ROW_VALUE)
			word[i] = code_index(s, &io, true, 0);
		else
			word[i] = k == DD_ROW_EXACT ? dd_rc_decode_bits(&io.dec, dd_type_width(c->type) * 8) : 0;
	}
	s->in = io.dec;
}

static void encode(const dd_column *c, const dd_rows *rows, void *memory, dd_writer *w)
{
	uint8_t *floor = w->p;
	state *s = memory;
	dd_rc_io io;

	start(c, s);
	dd_rc_encoder_start(&io.enc, *w);
	for (uint32_t i = 0; i < c->n && !io.enc.out.full; i++) {
		unsigned k = rows->class != NULL ? rows->class[i] : DD_ROW_VALUE;

		if (c->flags & DD_FLAG_EXCEPTIONS)
			code_class(s, &io, false, k);
		if (k == DD_ROW_VALUE)
			code_index(s, &io, false, rows->index[i]);
		else if (k == DD_ROW_EXACT)
			dd_rc_encode_bits(&io.enc, rows->bits[i], dd_type_width(c->type) * 8);
	}
	*w = dd_rc_finish(&io.enc, floor);
}

const dd_coder dd_coder_net = {workspace, open, decode, encode};
