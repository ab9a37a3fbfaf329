/* The BTAE's decoder. Shapes: T samples, P per patch, N = T / P tokens; model width 32, 8 heads of 4, hidden width 64. */
#include "btae.h"

#include "integer.h"

#define DIM 32
#define HEADS 8
#define HEAD 4
#define HIDDEN 64
#define HEADER 32u

/*
 * A linear layer, unpacked: y[r] = round(sum_k w[r][k] * x[k] / 2**shift[r]) + bias[r].
 * |w| <= 2**7, |x| <= 2**15 and at most 2**6 inputs, or 2**8 of magnitude 2**12: |sum| <= 2**28.
 */
typedef struct {
	const int16_t *weight;
	const int32_t *shift;
	const int32_t *bias;
} linear;

typedef struct {
	linear qkv, proj, up, down;
	const int32_t *distance; /* heads x (2 N - 1), Q10: bias of key j for query i at j - i + N - 1 */
} layer;

typedef struct {
	linear augment, embed, head;
	layer layers[DD_BTAE_MAX_LAYERS];
	const int16_t *gate;	 /* N x 64, Q6 */
	const int32_t *position; /* N x 32, Q11 */
	/* activations of one window */
	int16_t *code;	   /* 64, Q12 */
	int16_t *stream;   /* N x 32, Q11 */
	int16_t *normed;   /* N x 32, Q12 */
	int16_t *wide;	   /* N x 96: q, k, v (Q11), or N x 64: gated code, hidden activations (Q12) */
	int16_t *mixed;	   /* N x 32, Q11 */
	int16_t *keys;	   /* 4 x N: one head's keys, transposed, then its values */
	int16_t *attention; /* N, Q14 */
	int32_t *scores;   /* N, Q10 */
} network;

/* ---- reading the section ---- */

static size_t tensor_bytes(const dd_btae *b)
{
	size_t n = b->tokens;
	size_t per_layer = dd_linear_bytes(DIM, 3 * DIM) + 2 * HEADS * (2 * n - 1) + dd_linear_bytes(DIM, DIM) +
			   dd_linear_bytes(DIM, HIDDEN) + dd_linear_bytes(HIDDEN, DIM);
	return dd_linear_bytes(b->latents, HIDDEN) + n * HIDDEN + dd_linear_bytes(HIDDEN, DIM) + n * DIM +
	       b->layers * per_layer + dd_linear_bytes(DIM, b->patch);
}

static bool check_shifts(const dd_btae *b)
{
	const uint8_t *p = b->tensors;
	size_t n = b->tokens;
	if (!dd_check_linear(&p, b->latents, HIDDEN))
		return false;
	p += n * HIDDEN;
	if (!dd_check_linear(&p, HIDDEN, DIM))
		return false;
	p += n * DIM;
	for (uint32_t i = 0; i < b->layers; i++) {
		if (!dd_check_linear(&p, DIM, 3 * DIM))
			return false;
		p += 2 * HEADS * (2 * n - 1);
		if (!dd_check_linear(&p, DIM, DIM) || !dd_check_linear(&p, DIM, HIDDEN) || !dd_check_linear(&p, HIDDEN, DIM))
			return false;
	}
	return dd_check_linear(&p, DIM, b->patch);
}

dd_status dd_btae_open(const uint8_t *bytes, size_t len, dd_btae *btae, dd_error *err)
{
	memset(btae, 0, sizeof *btae);
	if (len < HEADER || memcmp(bytes, "BTAE", 4) != 0)
		return dd_fail(err, DD_CORRUPT, "BTAE section has no header");
	if (bytes[4] != 1)
		return dd_fail(err, DD_UNSUPPORTED, "BTAE section has an unknown version");
	dd_btae b = {
		.tensors = bytes + HEADER,
		.layers = bytes[5],
		.window = dd_read16(bytes + 6),
		.latents = dd_read16(bytes + 8),
		.patch = dd_read16(bytes + 10),
		.mean_bits = dd_read64(bytes + 16),
		.std_bits = dd_read64(bytes + 24),
	};
	if (b.window < 1 || b.window > DD_BTAE_MAX_WINDOW || b.latents > DD_BTAE_MAX_LATENTS || b.patch < 1 ||
	    b.window % b.patch != 0 || b.window / b.patch > DD_BTAE_MAX_TOKENS || b.layers < 1 ||
	    b.layers > DD_BTAE_MAX_LAYERS || dd_read64(bytes + 8) >> 32 != 0)
		return dd_fail(err, DD_CORRUPT, "BTAE section has impossible sizes");
	b.tokens = b.window / b.patch;
	if (!dd_moments_sound(b.mean_bits, b.std_bits))
		return dd_fail(err, DD_CORRUPT, "BTAE section has an impossible mean or deviation");
	if (len - HEADER != tensor_bytes(&b))
		return dd_fail(err, DD_CORRUPT, "BTAE section has the wrong length");
	if (!check_shifts(&b))
		return dd_fail(err, DD_CORRUPT, "BTAE section has an impossible shift");
	*btae = b;
	return DD_OK;
}

/* ---- unpacking into scratch ---- */

/* Hands out aligned pieces of scratch; with base NULL it only measures. */
typedef struct {
	uint8_t *base;
	size_t used;
} arena;

static void *take(arena *a, size_t count, size_t size)
{
	void *p = a->base ? a->base + a->used : NULL;
	a->used += (count * size + 15) & ~(size_t)15;
	return p;
}

static const int16_t *unpack8(arena *a, const uint8_t **p, size_t count)
{
	int16_t *v = take(a, count, sizeof *v);
	for (size_t i = 0; v && i < count; i++)
		v[i] = dd_signed8((*p)[i]);
	*p += count;
	return v;
}

/* `width` bytes per value, times 2**scale */
static const int32_t *unpack32(arena *a, const uint8_t **p, size_t count, size_t width, int32_t scale)
{
	int32_t *v = take(a, count, sizeof *v);
	for (size_t i = 0; v && i < count; i++)
		v[i] = (width == 1 ? dd_signed8((*p)[i]) : dd_signed16(*p + 2 * i)) * scale;
	*p += width * count;
	return v;
}

static linear unpack_linear(arena *a, const uint8_t **p, size_t inputs, size_t outputs)
{
	linear l;
	l.shift = unpack32(a, p, outputs, 1, 1);
	l.bias = unpack32(a, p, outputs, 2, 1);
	l.weight = unpack8(a, p, inputs * outputs);
	return l;
}

static network unpack(const dd_btae *b, arena *a)
{
	network net;
	const uint8_t *p = b->tensors;
	size_t n = b->tokens;
	net.augment = unpack_linear(a, &p, b->latents, HIDDEN);
	net.gate = unpack8(a, &p, n * HIDDEN);
	net.embed = unpack_linear(a, &p, HIDDEN, DIM);
	net.position = unpack32(a, &p, n * DIM, 1, 64); /* Q5 -> Q11 */
	for (uint32_t i = 0; i < b->layers; i++) {
		layer *l = &net.layers[i];
		l->qkv = unpack_linear(a, &p, DIM, 3 * DIM);
		l->distance = unpack32(a, &p, HEADS * (2 * n - 1), 2, 1);
		l->proj = unpack_linear(a, &p, DIM, DIM);
		l->up = unpack_linear(a, &p, DIM, HIDDEN);
		l->down = unpack_linear(a, &p, HIDDEN, DIM);
	}
	net.head = unpack_linear(a, &p, DIM, b->patch);
	net.code = take(a, HIDDEN, sizeof(int16_t));
	net.stream = take(a, n * DIM, sizeof(int16_t));
	net.normed = take(a, n * DIM, sizeof(int16_t));
	net.wide = take(a, n * 3 * DIM, sizeof(int16_t));
	net.mixed = take(a, n * DIM, sizeof(int16_t));
	net.keys = take(a, 2 * n * HEAD, sizeof(int16_t));
	net.attention = take(a, n, sizeof(int16_t));
	net.scores = take(a, n, sizeof(int32_t));
	return net;
}

size_t dd_btae_scratch(const dd_btae *btae)
{
	arena a = {NULL, 0};
	(void)unpack(btae, &a);
	return a.used;
}

/* ---- arithmetic ---- */

/* As dd_dot32. */
static inline int32_t dot64(const int16_t *a, const int16_t *b)
{
	int32_t sum = 0;
	for (int i = 0; i < 64; i++)
		sum += a[i] * b[i];
	return sum;
}

/* floor(sqrt(v)) for v < 2**42 */
static uint32_t root(uint64_t v)
{
	uint64_t result = 0;
	for (uint64_t bit = UINT64_C(1) << 40; bit; bit >>= 2) {
		uint64_t trial = result + bit;
		bool fits = v >= trial;
		v -= fits ? trial : 0;
		result = (result >> 1) + (fits ? bit : 0);
	}
	return (uint32_t)result;
}

/* (x - mean) / deviation of each token's 32 values: Q11 -> Q12 */
static void norm(const int16_t *restrict x, int16_t *restrict y, size_t tokens)
{
	for (size_t n = 0; n < tokens; n++, x += DIM, y += DIM) {
		int32_t sum = 0;
		for (int i = 0; i < DIM; i++)
			sum += x[i];
		int32_t mean = (sum + DIM / 2) >> 5;
		uint64_t squares = 0; /* 32 terms below 2**32 + 2**18 */
		for (int i = 0; i < DIM; i++) {
			int64_t centred = x[i] - mean;
			squares += (uint64_t)(centred * centred);
		}
		int32_t deviation16 = (int32_t)root(8 * squares); /* 16 deviations */
		int32_t reciprocal = (INT32_C(1) << 30) / (deviation16 > 16 ? deviation16 : 16);
		/* deviation16 >= sqrt(8) |centred| - 1, so the product stays below 0.4 * 2**30 and y below 0.4 * 2**16 */
		for (int i = 0; i < DIM; i++)
			y[i] = (int16_t)(((x[i] - mean) * reciprocal + 8192) >> 14);
	}
}

/* 2**(score - max) / sum, Q10 -> Q14; the results add up to at most 2**14 */
static void softmax(const int32_t *restrict scores, int16_t *restrict out, size_t count)
{
	int32_t max = scores[0], sum = 0;
	for (size_t j = 1; j < count; j++)
		max = scores[j] > max ? scores[j] : max;
	for (size_t j = 0; j < count; j++) {
		int32_t z = max - scores[j], f = z & 1023, whole = z >> 10;
		int32_t p = 16384 - ((f * (11003 - ((2811 * f) >> 10))) >> 10); /* 2**-f, Q14 */
		out[j] = (int16_t)(p >> (whole < 15 ? whole : 15));
		sum += out[j];
	}
	int32_t reciprocal = (INT32_C(1) << 30) / sum; /* sum >= 2**14: the largest score adds that */
	for (size_t j = 0; j < count; j++)
		out[j] = (int16_t)((out[j] * reciprocal) >> 16);
}

/* ---- the network ---- */

/* Latent bits as +-1 in Q12 through the augmenting layer's first half */
static void augment(const network *net, const uint8_t *latents, size_t count)
{
	for (size_t r = 0; r < HIDDEN; r++) {
		const int16_t *w = net->augment.weight + r * count;
		int32_t sum = 0;
		for (size_t i = 0; i < count; i++)
			sum += latents[i / 8] >> (7 - i % 8) & 1 ? w[i] : -w[i];
		net->code[r] = dd_clamp16(dd_round_shift(sum * 4096, net->augment.shift[r]) + net->augment.bias[r]);
	}
	dd_gelu(net->code, HIDDEN);
}

static void embed(const network *net, size_t tokens)
{
	for (size_t n = 0; n < tokens; n++) {
		int16_t *x = net->wide;
		for (int i = 0; i < HIDDEN; i++)
			x[i] = dd_clamp16(dd_round_shift(net->code[i] * net->gate[n * HIDDEN + (size_t)i], 6));
		for (size_t r = 0; r < DIM; r++) {
			int32_t sum = dot64(net->embed.weight + r * HIDDEN, x);
			net->stream[n * DIM + r] = dd_clamp16(dd_round_shift(sum, net->embed.shift[r] + 1) + net->embed.bias[r] +
							   net->position[n * DIM + r]);
		}
	}
}

/* net->wide (q, k, v per token) -> net->mixed */
static void attend(const network *net, const int32_t *distance, size_t tokens)
{
	for (size_t h = 0; h < HEADS; h++, distance += 2 * tokens - 1) {
		int16_t *keys = net->keys, *values = keys + HEAD * tokens;
		for (size_t j = 0; j < tokens; j++)
			for (size_t e = 0; e < HEAD; e++) {
				keys[e * tokens + j] = net->wide[j * 3 * DIM + DIM + h * HEAD + e];
				values[e * tokens + j] = net->wide[j * 3 * DIM + 2 * DIM + h * HEAD + e];
			}
		for (size_t i = 0; i < tokens; i++) {
			const int16_t *q = net->wide + i * 3 * DIM + h * HEAD;
			const int32_t *bias = distance + (tokens - 1 - i);
			for (size_t j = 0; j < tokens; j++) {
				/* |q|, |k| <= 2**14: |sum| <= 2**30 */
				int32_t sum = q[0] * keys[j] + q[1] * keys[tokens + j] + q[2] * keys[2 * tokens + j] +
					      q[3] * keys[3 * tokens + j];
				net->scores[j] = dd_round_shift(sum, 13) + bias[j];
			}
			softmax(net->scores, net->attention, tokens);
			for (size_t e = 0; e < HEAD; e++) {
				int32_t sum = 0; /* weights add up to 2**14 and |v| <= 2**14: |sum| <= 2**28 */
				for (size_t j = 0; j < tokens; j++)
					sum += net->attention[j] * values[e * tokens + j];
				net->mixed[i * DIM + h * HEAD + e] = (int16_t)dd_round_shift(sum, 14);
			}
		}
	}
}

static void transform(const network *net, const layer *l, size_t tokens)
{
	norm(net->stream, net->normed, tokens);
	for (size_t n = 0; n < tokens; n++)
		for (size_t r = 0; r < 3 * DIM; r++) {
			int32_t sum = dd_dot32(l->qkv.weight + r * DIM, net->normed + n * DIM);
			net->wide[n * 3 * DIM + r] =
				(int16_t)dd_clamp(dd_round_shift(sum, l->qkv.shift[r] + 1) + l->qkv.bias[r], -16384, 16383);
		}
	attend(net, l->distance, tokens);
	for (size_t n = 0; n < tokens; n++)
		for (size_t r = 0; r < DIM; r++) {
			int32_t sum = dd_dot32(l->proj.weight + r * DIM, net->mixed + n * DIM);
			int16_t *h = net->stream + n * DIM + r;
			*h = dd_clamp16(*h + dd_round_shift(sum, l->proj.shift[r]) + l->proj.bias[r]);
		}
	norm(net->stream, net->normed, tokens);
	for (size_t n = 0; n < tokens; n++)
		for (size_t r = 0; r < HIDDEN; r++) {
			int32_t sum = dd_dot32(l->up.weight + r * DIM, net->normed + n * DIM);
			net->wide[n * HIDDEN + r] = dd_clamp16(dd_round_shift(sum, l->up.shift[r]) + l->up.bias[r]);
		}
	dd_gelu(net->wide, tokens * HIDDEN);
	for (size_t n = 0; n < tokens; n++)
		for (size_t r = 0; r < DIM; r++) {
			int32_t sum = dot64(l->down.weight + r * HIDDEN, net->wide + n * HIDDEN);
			int16_t *h = net->stream + n * DIM + r;
			*h = dd_clamp16(*h + dd_round_shift(sum, l->down.shift[r] + 1) + l->down.bias[r]);
		}
}

void dd_btae_predict(const dd_btae *btae, const uint8_t *latents, size_t n_windows, int32_t *out, void *scratch)
{
	arena a = {scratch, 0};
	const network net = unpack(btae, &a);
	size_t tokens = btae->tokens, patch = btae->patch;
	for (size_t w = 0; w < n_windows; w++) {
		augment(&net, latents, btae->latents);
		embed(&net, tokens);
		for (uint32_t i = 0; i < btae->layers; i++)
			transform(&net, &net.layers[i], tokens);
		norm(net.stream, net.normed, tokens);
		for (size_t n = 0; n < tokens; n++)
			for (size_t r = 0; r < patch; r++) {
				int32_t sum = dd_dot32(net.head.weight + r * DIM, net.normed + n * DIM);
				*out++ = dd_clamp(dd_round_shift(sum, net.head.shift[r]) + net.head.bias[r], -DD_BTAE_LIMIT,
					       DD_BTAE_LIMIT);
			}
		latents = latents ? latents + dd_btae_latent_bytes(btae) : NULL;
	}
}
