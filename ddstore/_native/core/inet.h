/*
 * The net of mode `interp`: points of coarser levels on both sides of a row in, the distribution of that row out, whose
 * mean is the row's prediction. Nothing of its own level is asked for, so a level's rows are looked at in batches.
 *
 * Its layers are those of the density net of coder `net`; what it computes is specified in docs/format.md (INET section).
 * Any section that dd_inet_open accepts runs without overflow. Training asks this very code for the inputs.
 */
#ifndef DD_INET_H
#define DD_INET_H

#include "mixture.h"

enum {
	DD_INET_INPUTS = 32,
	DD_INET_PIECE = 128, /* rows looked at in one go */
	DD_INET_EDGE = 32,   /* points behind either end */
	DD_INET_LARGEST = 64 /* a residual counts no more than that */
};

/* Accepts exactly the sections that are whole; fills the sizes and the tensors of a dd_net. */
dd_status dd_inet_open(const uint8_t *bytes, size_t len, dd_net *net, dd_error *err);

/* The net at work on one column. 16-byte aligned. */
typedef struct {
	int16_t input[DD_INET_PIECE][DD_INET_INPUTS], output[DD_INET_PIECE][DD_NET_OUTPUTS];
	int16_t hidden[2][DD_NET_HIDDEN_MOST];
	uint64_t middle[DD_INET_PIECE]; /* of both neighbours */
	float scale[DD_INET_PIECE];	/* unit of the outputs, in widths */
	dd_net_layer layer[3];
	float width, per; /* legal points on end, and 1 / width */
	/* The coarser level: its points side by side, their residuals clipped to +-3, and sums of sizes before each. */
	uint64_t *point;
	int8_t *step;
	uint32_t *sum;
	unsigned set;  /* of the level that is looked at */
	uint8_t *size; /* of all rows: |residual|, at most DD_INET_LARGEST; whoever codes writes it */
} dd_inet_state;

size_t dd_inet_size(uint32_t n);
dd_inet_state *dd_inet_start(void *memory, const dd_net *net, uint32_t n, uint64_t width);

/* Rows at multiples of 2s are known, of `count`: points and clipped residuals of all rows. */
void dd_inet_level(dd_inet_state *net, const uint64_t *m, const int8_t *step, uint32_t count, uint32_t s);

/* Inputs and outputs of at most DD_INET_PIECE rows of the level: from its `from`-th on. */
void dd_inet_look(dd_inet_state *net, uint32_t from, uint32_t rows);

static inline uint8_t dd_inet_size_of(int64_t e)
{
	uint64_t size = e < 0 ? 0 - (uint64_t)e : (uint64_t)e;

	return (uint8_t)(size < DD_INET_LARGEST ? size : DD_INET_LARGEST);
}

/* The distribution of the k-th row looked at. */
static inline dd_mixture dd_inet_mixture(const dd_inet_state *net, uint32_t k)
{
	return dd_mixture_of(net->output[k], net->scale[k] * net->width, 0.01f * net->width, net->middle[k]);
}

#endif
