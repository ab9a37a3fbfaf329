/* Coder 0: the decisions of residual.h, each predicted by the mixer and range-coded. Raw columns are its, too. */
#include "coder.h"
#include "residual.h"

typedef struct {
	dd_mixer mixer;
	dd_history history;
	dd_rc_decoder in;
} state;

static size_t workspace(const dd_column *c)
{
	(void)c;
	return dd_align(sizeof(state));
}

static dd_status open(const dd_column *c, const uint8_t *payload, const uint8_t *end, void *memory, dd_error *err)
{
	state *s = memory;

	(void)err;
	dd_mixer_start(&s->mixer);
	dd_history_start(&s->history, c->centre, c->low, c->drift, c->first);
	dd_rc_decoder_start(&s->in, payload, end);
	return DD_OK;
}

static void decode(const dd_column *c, void *memory, const int32_t *predictions, uint32_t rows, uint64_t *word,
		   uint8_t *class)
{
	state *s = memory;
	dd_mixer *mx = &s->mixer;
	dd_history h = s->history;
	dd_rc_io io = {.dec = s->in};
	unsigned width = dd_type_width(c->type) * 8;
	bool exceptions = (c->flags & DD_FLAG_EXCEPTIONS) != 0, raw = c->mode == DD_MODE_RAW;

	for (uint32_t i = 0; i < rows; i++) {
		unsigned k = exceptions ? dd_code_class(&h, mx, &io, true, 0) : DD_ROW_VALUE;

		if (exceptions)
			class[i] = (uint8_t)k;
		if (k == DD_ROW_EXACT || (k == DD_ROW_VALUE && raw))
			word[i] = dd_rc_decode_bits(&io.dec, width);
		else if (k == DD_ROW_VALUE)
			word[i] = dd_code_index(&h, mx, &io, true, predictions != NULL ? dd_model_index(c, predictions[i]) : 0, 0);
		else
			word[i] = 0;
	}
	s->history = h;
	s->in = io.dec;
}

static void encode(const dd_column *c, const dd_rows *rows, void *memory, dd_writer *w)
{
	state *s = memory;
	dd_mixer *mx = &s->mixer;
	dd_history h;
	dd_rc_io io;
	uint8_t *floor = w->p;
	unsigned width = dd_type_width(c->type) * 8;

	dd_mixer_start(mx);
	dd_history_start(&h, c->centre, c->low, c->drift, c->first);
	dd_rc_encoder_start(&io.enc, *w);
	for (uint32_t i = 0; i < c->n && !io.enc.out.full; i++) {
		unsigned k = rows->class != NULL ? rows->class[i] : DD_ROW_VALUE;

		if (c->flags & DD_FLAG_EXCEPTIONS)
			dd_code_class(&h, mx, &io, false, k);
		if (k == DD_ROW_EXACT || (k == DD_ROW_VALUE && c->mode == DD_MODE_RAW))
			dd_rc_encode_bits(&io.enc, rows->bits[i], width);
		else if (k == DD_ROW_VALUE)
			dd_code_index(&h, mx, &io, false,
				      rows->predictions != NULL ? dd_model_index(c, rows->predictions[i]) : 0,
				      rows->index[i]);
	}
	*w = dd_rc_finish(&io.enc, floor);
}

const dd_coder dd_coder_mix = {workspace, open, decode, encode};
