/* The density net: its section, its inputs, and its layers. */
#include "net.h"

#include "layers.h"

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
	size = HEADER + 2 * n.lags + dd_layers_bytes(n.lags + DD_NET_EXTRAS, n.hidden);
	if (len != size)
		return dd_fail(err, DD_CORRUPT, "DNET section has the wrong length");
	n.tensors = n.lag + 2 * n.lags;
	if (!lags_sound(&n))
		return dd_fail(err, DD_CORRUPT, "DNET section has impossible lags");
	if (!dd_layers_sound(n.tensors, n.lags + DD_NET_EXTRAS, n.hidden))
		return dd_fail(err, DD_CORRUPT, "DNET section has an impossible shift");
	*net = n;
	return DD_OK;
}

/* ---- inputs ---- */

void dd_net_start(dd_net_state *s, const dd_net *net, uint64_t first, uint64_t base, float unit)
{
	memset(s, 0, offsetof(dd_net_state, layer));
	dd_layers_unpack(s->layer, net, net->lags + DD_NET_EXTRAS);
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
		int32_t size = dd_input_log(dd_magnitude(move) * inverse);

		*x = (int16_t)(move < 0 ? -size : size);
	}
	for (int k = 1; k <= 8; k++, x++) {
		int64_t move = (int64_t)(now[-k] - *now);

		*x = (int16_t)(1024 * (move < -8 ? -8 : move > 8 ? 8 : move));
	}
	*x++ = (int16_t)dd_input_log(16.0f * s->quick);
	*x++ = (int16_t)dd_input_log(16.0f * s->slow);
	*x++ = (int16_t)dd_input_log(16.0f * s->slowest);
	look_at_level(s, x);
	x += 3;
	*x++ = (int16_t)dd_input_log((float)s->since);
	*x++ = (int16_t)(16 * (s->since < 2047 ? s->since : 2047));
}

void dd_net_push(dd_net_state *s, uint64_t index)
{
	float size = dd_magnitude((int64_t)(index - dd_net_last(s)));

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

void dd_net_run(dd_net_state *s)
{
	dd_layers_run(s->layer, s->input, s->hidden, s->output);
}
