/* The net of mode `interp`: its section, its inputs, and its layers. */
#include "inet.h"

#include "interp.h"
#include "layers.h"

#define HEADER 8u
enum {
	POINTS = 5,	/* on either side: how far they are from the middle of both neighbours */
	NEAR_POINTS = 3, /* of which in widths, too */
	STEPS = 4	/* on either side: their residuals */
};

/* ---- the section ---- */

dd_status dd_inet_open(const uint8_t *bytes, size_t len, dd_net *net, dd_error *err)
{
	dd_net n = {0};

	*net = n;
	if (len < HEADER || memcmp(bytes, "INET", 4) != 0)
		return dd_fail(err, DD_CORRUPT, "INET section has no header");
	if (bytes[4] != 1)
		return dd_fail(err, DD_UNSUPPORTED, "INET section has an unknown version");
	n.hidden[0] = bytes[5];
	n.hidden[1] = bytes[6];
	n.tensors = bytes + HEADER;
	if (n.hidden[0] < 1 || n.hidden[0] > DD_NET_HIDDEN_MOST || n.hidden[1] < 1 || n.hidden[1] > DD_NET_HIDDEN_MOST ||
	    bytes[7] != 0)
		return dd_fail(err, DD_CORRUPT, "INET section has impossible sizes");
	if (len != HEADER + dd_layers_bytes(DD_INET_INPUTS, n.hidden))
		return dd_fail(err, DD_CORRUPT, "INET section has the wrong length");
	if (!dd_layers_sound(n.tensors, DD_INET_INPUTS, n.hidden))
		return dd_fail(err, DD_CORRUPT, "INET section has an impossible shift");
	*net = n;
	return DD_OK;
}

/* ---- memory ---- */

/* Points of the coarsest of two levels, of n rows, and those behind either end. */
static size_t points_most(uint32_t n)
{
	return (size_t)n / 2 + 1 + 2 * DD_INET_EDGE;
}

size_t dd_inet_size(uint32_t n)
{
	size_t points = points_most(n);

	return dd_align(sizeof(dd_inet_state)) + dd_align(points * sizeof(uint64_t)) + dd_align((points + 1) * sizeof(uint32_t)) +
	       dd_align(points) + dd_align(n);
}

dd_inet_state *dd_inet_start(void *memory, const dd_net *net, uint32_t n, uint64_t width)
{
	uint8_t *at = (uint8_t *)memory + dd_align(sizeof(dd_inet_state));
	size_t points = points_most(n);
	dd_inet_state *s = memory;

	memset(s, 0, offsetof(dd_inet_state, layer));
	dd_layers_unpack(s->layer, net, DD_INET_INPUTS);
	s->width = (float)width;
	s->per = 1.0f / s->width;
	s->point = (uint64_t *)(void *)at + DD_INET_EDGE;
	at += dd_align(points * sizeof(uint64_t));
	s->sum = (uint32_t *)(void *)at + DD_INET_EDGE;
	at += dd_align((points + 1) * sizeof(uint32_t));
	s->step = (int8_t *)at + DD_INET_EDGE;
	s->size = at + dd_align(points);
	s->size[0] = 0;
	return s;
}

void dd_inet_level(dd_inet_state *net, const uint64_t *m, const int8_t *step, uint32_t count, uint32_t s)
{
	uint32_t last = (count - 1) / (2 * s), sum = 0;

	net->set = dd_interp_set(s);
	for (int64_t j = -DD_INET_EDGE; j <= (int64_t)last + DD_INET_EDGE; j++) {
		size_t row = (size_t)(j < 0 ? 0 : j < last ? j : last) * 2 * s; /* behind either end the last point goes on */

		net->point[j] = m[row];
		net->step[j] = step[row];
		net->sum[j] = sum;
		sum += net->size[row];
	}
	net->sum[(int64_t)last + DD_INET_EDGE + 1] = sum;
}

/* ---- inputs ---- */

static inline uint32_t size_at(const uint32_t *sum, int k)
{
	return sum[k + 1] - sum[k];
}

/* Mean size of the residuals of r points on either side. */
static inline float wide(const uint32_t *sum, int r)
{
	return (float)(sum[1 + r] - sum[1 - r]) / (float)(2 * r);
}

/* A number of widths, up to 4 of them. */
static inline int16_t near_input(float moved)
{
	return (int16_t)(dd_clampf(moved, 4.0f) * 2048.0f);
}

static inline int16_t log_input(float y)
{
	int32_t log = dd_input_log(y);

	return (int16_t)(log <= INT16_MAX / 2 ? 2 * log : INT16_MAX);
}

static void look_at_row(dd_inet_state *net, uint32_t k, uint32_t j)
{
	const uint64_t *p = net->point + j;
	const uint32_t *sum = net->sum + j;
	const int8_t *step = net->step + j;
	int16_t *x = net->input[k];
	uint64_t middle = p[0] + (uint64_t)((int64_t)(p[1] - p[0]) >> 1);
	float near = (float)(2 * (size_at(sum, 0) + size_at(sum, 1)) + size_at(sum, -1) + size_at(sum, 2)) * (1.0f / 6.0f);
	int64_t turn = (int64_t)(p[0] + p[1] - p[-1] - p[2]);
	float bend = dd_magnitude(turn) * net->per * 0.0625f;
	float wider = wide(sum, 8), widest = wide(sum, 32), scale, inverse;

	scale = 0.15f + 0.3f * near + 0.3f * wider + 0.1f * widest + 0.5f * bend;
	inverse = net->per / scale;
	for (int a = 0; a < POINTS; a++)
		for (int side = 0; side < 2; side++) {
			int64_t off = (int64_t)(p[side ? 1 + a : -a] - middle);
			int16_t log = log_input(dd_magnitude(off) * inverse);

			*x++ = (int16_t)(off < 0 ? -log : log);
			if (a < NEAR_POINTS && (a > 0 || side > 0)) /* the nearest two are one number */
				*x++ = near_input((float)off * net->per);
		}
	for (int a = 0; a < STEPS; a++) {
		*x++ = (int16_t)(2048 * step[-a]);
		*x++ = (int16_t)(2048 * step[1 + a]);
	}
	*x++ = log_input(16.0f * near);
	*x++ = log_input(16.0f * wider);
	*x++ = log_input(16.0f * widest);
	*x++ = log_input(16.0f * scale);
	for (unsigned set = 0; set + 1 < DD_INTERP_SETS; set++)
		*x++ = net->set == set ? 4096 : 0;
	*x = near_input((float)turn * net->per * 0.0625f); /* where a cubic through four points passes */
	net->middle[k] = middle;
	net->scale[k] = scale;
}

void dd_inet_look(dd_inet_state *net, uint32_t from, uint32_t rows)
{
	for (uint32_t k = 0; k < rows; k++)
		look_at_row(net, k, from + k);
	for (uint32_t k = 0; k < rows; k++)
		dd_layers_run(net->layer, net->input[k], net->hidden, net->output[k]);
}
