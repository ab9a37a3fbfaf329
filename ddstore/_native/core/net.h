/*
 * The density net of coder `net`: the last indices of a column in, the distribution of the next one out.
 *
 * Its weights are int8, its activations int16; what it computes is specified in docs/format.md (DNET section). Any
 * section that dd_net_open accepts runs without overflow, whatever its weights say. Training asks this very code for the
 * inputs (python/net_py.c), so that they are written down once.
 */
#ifndef DD_NET_H
#define DD_NET_H

#include "logistic.h"
#include "column.h"

#define DD_NET_EXTRAS 16u	/* inputs that are not about one lag */
#define DD_NET_LAGS_MOST 112u	/* with the extras: 128 inputs */
#define DD_NET_LAG_MOST 1024u	/* rows */
#define DD_NET_HIDDEN_MOST 64u
#define DD_NET_PARTS 4u		/* logistic distributions in a mixture */
#define DD_NET_OUTPUTS (3u * DD_NET_PARTS)
#define DD_NET_ONE 4096.0f	/* inputs, activations and outputs are Q12 */

/* A section checked in place: it points into the bytes given, which must outlive it. */
typedef struct dd_net {
	const uint8_t *lag, *tensors;
	uint32_t lags, hidden[2];
	float pace;		      /* what the moving averages of |move| start from */
	uint64_t mean_bits, std_bits; /* of the column, in its own unit: an encoder's business */
} dd_net;

/* Accepts exactly the sections that are whole: right magic, version, sizes, lags, shifts and length. */
dd_status dd_net_open(const uint8_t *bytes, size_t len, dd_net *net, dd_error *err);

/* A layer, unpacked: rows of weights padded with zeros to whole blocks of 32. */
typedef struct {
	uint32_t rows, width;
	int32_t shift[DD_NET_HIDDEN_MOST], bias[DD_NET_HIDDEN_MOST];
	int16_t weight[DD_NET_HIDDEN_MOST * 128];
} dd_net_layer;

/* The net at work on one column. 16-byte aligned. */
typedef struct {
	int16_t input[128], hidden[2][DD_NET_HIDDEN_MOST], output[16];
	dd_net_layer layer[3];
	uint32_t lags, lag[DD_NET_LAGS_MOST];
	uint64_t past[2 * DD_NET_LAG_MOST]; /* indices; at least the last DD_NET_LAG_MOST of them */
	uint32_t at;			    /* where the next one goes */
	uint32_t since;			    /* rows since the last large move */
	float quick, slow, slowest;	    /* moving averages of |move| */
	float scale;			    /* of this row's moves: the unit of the outputs */
	uint64_t base;			    /* the index of the column's mean, and how many deviations an index is */
	float unit;
} dd_net_state;

void dd_net_start(dd_net_state *s, const dd_net *net, uint64_t first, uint64_t base, float unit);
void dd_net_look(dd_net_state *s);	    /* fill in the inputs and the scale of the next row */
void dd_net_run(dd_net_state *s);	    /* inputs to outputs */
void dd_net_push(dd_net_state *s, uint64_t index); /* that row's index, as it is */

static inline uint64_t dd_net_last(const dd_net_state *s)
{
	return s->past[s->at - 1];
}

#endif
