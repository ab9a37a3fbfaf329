/* The layers of a small net: int8 weights, int16 activations in Q12; and what floats become as its inputs. */
#ifndef DD_LAYERS_H
#define DD_LAYERS_H

#include "integer.h"
#include "net.h"

/* Steps over the three layers of a net; false when a shift is out of range. */
static inline bool dd_layers_sound(const uint8_t *p, size_t inputs, const uint32_t hidden[2])
{
	return dd_check_linear(&p, inputs, hidden[0]) && dd_check_linear(&p, hidden[0], hidden[1]) &&
	       dd_check_linear(&p, hidden[1], DD_NET_OUTPUTS);
}

static inline size_t dd_layers_bytes(size_t inputs, const uint32_t hidden[2])
{
	return dd_linear_bytes(inputs, hidden[0]) + dd_linear_bytes(hidden[0], hidden[1]) +
	       dd_linear_bytes(hidden[1], DD_NET_OUTPUTS);
}

static inline void dd_layer_unpack(dd_net_layer *layer, const uint8_t **p, uint32_t inputs, uint32_t rows)
{
	const uint8_t *bias = *p + rows, *weight = bias + 2 * rows;

	layer->rows = rows;
	layer->width = (inputs + 31) & ~31u;
	for (uint32_t r = 0; r < rows; r++) {
		int16_t *to = layer->weight + r * layer->width;

		layer->shift[r] = (*p)[r];
		layer->bias[r] = dd_signed16(bias + 2 * r);
		for (uint32_t k = 0; k < layer->width; k++)
			to[k] = k < inputs ? dd_signed8(weight[r * inputs + k]) : 0;
	}
	*p = weight + rows * inputs;
}

static inline void dd_layers_unpack(dd_net_layer layer[3], const dd_net *net, uint32_t inputs)
{
	const uint8_t *p = net->tensors;

	dd_layer_unpack(&layer[0], &p, inputs, net->hidden[0]);
	dd_layer_unpack(&layer[1], &p, net->hidden[0], net->hidden[1]);
	dd_layer_unpack(&layer[2], &p, net->hidden[1], DD_NET_OUTPUTS);
}

/* |weight| <= 2**7, |x| <= 2**15, at most 2**7 of them: |sum| <= 2**29. */
static inline void dd_layer_run(const dd_net_layer *layer, const int16_t *restrict x, int16_t *restrict y)
{
	const int16_t *w = layer->weight;

	for (uint32_t r = 0; r < layer->rows; r++, w += layer->width) {
		int32_t sum = 0;

		for (uint32_t k = 0; k < layer->width; k += 32)
			sum += dd_dot32(w + k, x + k);
		y[r] = dd_clamp16(dd_round_shift(sum, layer->shift[r]) + layer->bias[r]);
	}
}

/* Inputs to outputs. Behind the rows of the hidden layers there are zeros. */
static inline void dd_layers_run(const dd_net_layer layer[3], const int16_t *input, int16_t hidden[2][DD_NET_HIDDEN_MOST],
				 int16_t *output)
{
	dd_layer_run(&layer[0], input, hidden[0]);
	dd_gelu(hidden[0], layer[0].rows);
	dd_layer_run(&layer[1], hidden[0], hidden[1]);
	dd_gelu(hidden[1], layer[1].rows);
	dd_layer_run(&layer[2], hidden[1], output);
}

/* log2(1 + y) in 1/1024, linear between powers of two; y is not negative. */
static inline int32_t dd_input_log(float y)
{
	int32_t bits;

	y += 1.0f;
	memcpy(&bits, &y, sizeof bits);
	bits = (bits - 0x3f800000) >> 13;
	return bits < INT16_MAX ? bits : INT16_MAX;
}

static inline float dd_magnitude(int64_t move)
{
	float y = (float)move;

	return y < 0 ? -y : y;
}

#endif
