/* The density net: its section, its inputs, and its layers. */
#include "net.h"

#include "integer.h"

#define HEADER 28u
#define MOST_LEVEL 8.0f /* deviations from the mean */
#define LARGE 6.0f	/* times the slowest average: a large move */

/* ---- the section ---- */

static uint32_t lag_at(const dd_net *net, uint32_t k)
{
	return dd_read16(net->lag + 2 * k);
}

static bool lags_sound(const dd_net *net)
{
	for (uint32_t k = 0, last = 0; k < net->lags; last = lag_at(net, k++))
		if (lag_at(net, k) <= last || lag_at(net, k) >= DD_NET_LAG_MOST)
			return false;
	return true;
}

static bool shifts_sound(const dd_net *net)
{
	const uint8_t *p = net->tensors;

	return dd_check_linear(&p, net->lags + DD_NET_EXTRAS, net->hidden[0]) &&
	       dd_check_linear(&p, net->hidden[0], net->hidden[1]) &&
	       dd_check_linear(&p, net->hidden[1], DD_NET_OUTPUTS);
}

dd_status dd_net_open(const uint8_t *bytes, size_t len, dd_net *net, dd_error *err)
{
	size_t size;
	uint32_t pace;

	memset(net, 0, sizeof *net);
	if (len < HEADER || memcmp(bytes, "DNET", 4) != 0)
		return dd_fail(err, DD_CORRUPT, "DNET section has no header");
	if (bytes[4] != 1)
		return dd_fail(err, DD_UNSUPPORTED, "DNET section has an unknown version");
	dd_net n = {
		.lag = bytes + HEADER,
		.lags = bytes[5],
		.hidden = {bytes[6], bytes[7]},
		.mean_bits = dd_read64(bytes + 12),
		.std_bits = dd_read64(bytes + 20),
	};
	pace = (uint32_t)(dd_read64(bytes + 4) >> 32);
	memcpy(&n.pace, &pace, sizeof n.pace);
	if (n.lags < 1 || n.lags > DD_NET_LAGS_MOST || n.hidden[0] < 1 || n.hidden[0] > DD_NET_HIDDEN_MOST ||
	    n.hidden[1] < 1 || n.hidden[1] > DD_NET_HIDDEN_MOST)
		return dd_fail(err, DD_CORRUPT, "DNET section has impossible sizes");
	if (!dd_moments_sound(n.mean_bits, n.std_bits) || !(n.pace >= 0 && n.pace <= 1e9f))
		return dd_fail(err, DD_CORRUPT, "DNET section has an impossible mean, deviation or pace");
	size = HEADER + 2 * n.lags + dd_linear_bytes(n.lags + DD_NET_EXTRAS, n.hidden[0]) +
	       dd_linear_bytes(n.hidden[0], n.hidden[1]) + dd_linear_bytes(n.hidden[1], DD_NET_OUTPUTS);
	if (len != size)
		return dd_fail(err, DD_CORRUPT, "DNET section has the wrong length");
	n.tensors = n.lag + 2 * n.lags;
	if (!lags_sound(&n))
		return dd_fail(err, DD_CORRUPT, "DNET section has impossible lags");
	if (!shifts_sound(&n))
		return dd_fail(err, DD_CORRUPT, "DNET section has an impossible shift");
	*net = n;
	return DD_OK;
}

static void unpack(dd_net_layer *layer, const uint8_t **p, uint32_t inputs, uint32_t rows)
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

/* ---- inputs ---- */

void dd_net_start(dd_net_state *s, const dd_net *net, uint64_t first, uint64_t base, float unit)
{
	const uint8_t *p = net->tensors;

	memset(s, 0, offsetof(dd_net_state, layer));
	unpack(&s->layer[0], &p, net->lags + DD_NET_EXTRAS, net->hidden[0]);
	unpack(&s->layer[1], &p, net->hidden[0], net->hidden[1]);
	unpack(&s->layer[2], &p, net->hidden[1], DD_NET_OUTPUTS);
	s->lags = net->lags;
	for (uint32_t k = 0; k < net->lags; k++)
		s->lag[k] = lag_at(net, k);
	for (s->at = 0; s->at < DD_NET_LAG_MOST; s->at++)
		s->past[s->at] = first;
	s->since = 0;
	s->quick = s->slow = s->slowest = net->pace;
	s->base = base;
	s->unit = unit;
}

/* log2(1 + y) in 1/1024, linear between powers of two; y is not negative. */
static inline int32_t logarithm(float y)
{
	int32_t bits;

	y += 1.0f;
	memcpy(&bits, &y, sizeof bits);
	bits = (bits - 0x3f800000) >> 13;
	return bits < INT16_MAX ? bits : INT16_MAX;
}

static inline float magnitude(int64_t move)
{
	float y = (float)move;

	return y < 0 ? -y : y;
}

/* Between -512 and 512, with a period of 2048. */
static inline int32_t triangle(int32_t x)
{
	int32_t place = (x & 2047) - 1024;

	return (place < 0 ? -place : place) - 512;
}

static void look_at_level(dd_net_state *s, int16_t *x)
{
	float y = (float)(int64_t)(dd_net_last(s) - s->base) * s->unit;
	int32_t level = (int32_t)(dd_clampf(y, MOST_LEVEL) * 1024.0f);

	x[0] = (int16_t)(2 * level);
	x[1] = (int16_t)(8 * triangle(level));
	x[2] = (int16_t)(8 * triangle(level + 512));
}

void dd_net_look(dd_net_state *s)
{
	const uint64_t *now = s->past + s->at - 1;
	int16_t *x = s->input;
	float inverse;

	s->scale = 0.5f * s->quick + 0.5f * s->slow + 0.2f;
	inverse = 1.0f / s->scale;
	for (uint32_t k = 0; k < s->lags; k++, x++) {
		int64_t move = (int64_t)(now[-(int64_t)s->lag[k]] - *now);
		int32_t size = logarithm(magnitude(move) * inverse);

		*x = (int16_t)(move < 0 ? -size : size);
	}
	for (int k = 1; k <= 8; k++, x++) {
		int64_t move = (int64_t)(now[-k] - *now);

		*x = (int16_t)(1024 * (move < -8 ? -8 : move > 8 ? 8 : move));
	}
	*x++ = (int16_t)logarithm(16.0f * s->quick);
	*x++ = (int16_t)logarithm(16.0f * s->slow);
	*x++ = (int16_t)logarithm(16.0f * s->slowest);
	look_at_level(s, x);
	x += 3;
	*x++ = (int16_t)logarithm((float)s->since);
	*x++ = (int16_t)(16 * (s->since < 2047 ? s->since : 2047));
}

void dd_net_push(dd_net_state *s, uint64_t index)
{
	float size = magnitude((int64_t)(index - dd_net_last(s)));

	s->since = size > LARGE * s->slowest + 1.0f ? 0 : s->since + (s->since < UINT16_MAX);
	s->quick += 0.12f * (size - s->quick);
	s->slow += 0.02f * (size - s->slow);
	s->slowest += 0.002f * (size - s->slowest);
	if (s->at == 2 * DD_NET_LAG_MOST) {
		memcpy(s->past, s->past + DD_NET_LAG_MOST, DD_NET_LAG_MOST * sizeof *s->past);
		s->at = DD_NET_LAG_MOST;
	}
	s->past[s->at++] = index;
}

/* ---- layers ---- */

/* |weight| <= 2**7, |x| <= 2**15, at most 2**7 of them: |sum| <= 2**29. */
static void linear(const dd_net_layer *layer, const int16_t *restrict x, int16_t *restrict y)
{
	const int16_t *w = layer->weight;

	for (uint32_t r = 0; r < layer->rows; r++, w += layer->width) {
		int32_t sum = 0;

		for (uint32_t k = 0; k < layer->width; k += 32)
			sum += dd_dot32(w + k, x + k);
		y[r] = dd_clamp16(dd_round_shift(sum, layer->shift[r]) + layer->bias[r]);
	}
}

void dd_net_run(dd_net_state *s)
{
	linear(&s->layer[0], s->input, s->hidden[0]);
	dd_gelu(s->hidden[0], s->layer[0].rows);
	linear(&s->layer[1], s->hidden[0], s->hidden[1]);
	dd_gelu(s->hidden[1], s->layer[1].rows);
	linear(&s->layer[2], s->hidden[1], s->output);
}
