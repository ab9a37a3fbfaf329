/*
 * The strong mixer of coder `cm`: some twenty contexts' adaptive probabilities and eight or twelve densities' opinions are
 * mixed by four sets of weights, each chosen by something else that is known; a second layer mixes the four, and two adaptive
 * maps correct the result (the PAQ construction: logistic mixing, gated sets of weights, secondary estimation).
 *
 * Slots are integers; weights are floats, used with + - * / in one fixed order.
 */
#ifndef DD_CM_MIXER_H
#define DD_CM_MIXER_H

#include "logistic.h"
#include "rangecoder.h"
#include "slot.h"

enum {
	DD_CM_CONTEXTS = 20,
	DD_CM_EXPERTS = 8,
	DD_CM_INPUTS = 32,	 /* contexts, experts, a constant, what is foretold, a zero */
	DD_CM_ALL_INPUTS = 36,	 /* and four more experts, in wide mixers */
	DD_CM_TOLD = 29,
	DD_CM_NET = DD_CM_CONTEXTS - 1, /* a net's opinion, where that context does not count */
	DD_CM_LOW_CONTEXTS = 5,
	DD_CM_LOW_INPUTS = 16,	 /* contexts, a constant, what is foretold, experts */
	DD_CM_MORE_LOW = 20,	 /* four more experts, as far from the first ones as above */
	DD_CM_ALL_LOW_INPUTS = 24,
	DD_CM_LOW_TOLD = 6,
	DD_CM_SETS = 4,
	DD_CM_BUCKET = 16,	 /* nodes of a context that lie together: one cache line */
	DD_CM_NODES = 160,
	DD_CM_LOW_DEPTHS = 64,	 /* and as many where a bit is foretold */
	DD_CM_MAP_STEPS = 33,
	DD_CM_MAP_ROWS = 16 * 256
};

/* Sizes of what chooses the weights of sets 1 to 3; set 0 goes by the node alone. */
enum { DD_CM_CHOICE1 = 64, DD_CM_CHOICE2 = 128, DD_CM_CHOICE3 = 48 };
#define DD_CM_ROWS (DD_CM_NODES + (DD_CM_CHOICE1 + DD_CM_CHOICE2 + DD_CM_CHOICE3) * DD_CM_BUCKET)

typedef struct {
	float input[DD_CM_ALL_INPUTS];
	float low_input[DD_CM_ALL_LOW_INPUTS];
	float weight[DD_CM_ROWS][DD_CM_ALL_INPUTS];
	float low_weight[2 * DD_CM_LOW_DEPTHS][DD_CM_ALL_LOW_INPUTS];
	float second[DD_CM_NODES][DD_CM_SETS];
	float map[2][DD_CM_MAP_ROWS][DD_CM_MAP_STEPS + 3];
	float stretch[4096];
	uint16_t rate[DD_SLOT_RATES];
	/* Set by the caller before each symbol: */
	uint32_t context[DD_CM_CONTEXTS];
	uint32_t low_context[DD_CM_LOW_CONTEXTS];
	unsigned contexts;	   /* how many of them count */
	uint32_t choice[3];	   /* of the weights of sets 1 to 3 */
	uint32_t map_context[2];   /* 8 bits each */
	/* Its own: */
	uint32_t *bucket[DD_CM_CONTEXTS]; /* of the current group of nodes */
	unsigned group;
	float speed, low_speed;
	bool wide; /* twelve experts */
	uint32_t decisions;
	unsigned bits, low_bits;   /* log2 of buckets in a context, of slots in a low context */
	uint32_t *slots, *low_slots;
} dd_cm_mixer;

/* Bytes, 16-byte aligned, for a column of n rows. */
size_t dd_cm_mixer_size(uint32_t n);
/* Lay a mixer out in that memory and start it; whether anything is ever foretold; whether there are twelve experts. */
dd_cm_mixer *dd_cm_mixer_start(void *memory, uint32_t n, bool told, bool wide);
/* Right after that: start from the opinion of a net. */
void dd_cm_mixer_with_net(dd_cm_mixer *m);
/* The caller has set the contexts of a new symbol: find their buckets. */
void dd_cm_mixer_symbol(dd_cm_mixer *m);
/* Nodes from 16 on lie in other buckets: find those. */
void dd_cm_mixer_group(dd_cm_mixer *m, unsigned group);

/* Probability of a 1 in 1/65536, never certain. */
static inline uint32_t dd_cm_sixteen(float p)
{
	int32_t p1 = (int32_t)(p * 65536.0f);

	return (uint32_t)(p1 < 1 ? 1 : p1 > 65535 ? 65535 : p1);
}

/* Of n inputs, and of four more from `more` on unless that is 0. */
DD_INLINE float dd_cm_dot(const float *w, const float *x, unsigned n, unsigned more)
{
	const dd_v4 *a = (const dd_v4 *)(const void *)w, *b = (const dd_v4 *)(const void *)x;
	dd_v4 even = a[0] * b[0], odd = a[1] * b[1];

	for (unsigned i = 2; i < n / 4; i += 2) {
		even += a[i] * b[i];
		odd += a[i + 1] * b[i + 1];
	}
	if (more > 0)
		even += a[more / 4] * b[more / 4];
	return dd_v4_sum(even + odd);
}

DD_INLINE void dd_cm_train(float *w, const float *x, unsigned n, unsigned more, float step)
{
	dd_v4 *a = (dd_v4 *)(void *)w;
	const dd_v4 *b = (const dd_v4 *)(const void *)x;

	for (unsigned i = 0; i < n / 4; i++)
		a[i] += b[i] * dd_v4_all(step);
	if (more > 0)
		a[more / 4] += b[more / 4] * dd_v4_all(step);
}

/* Weights learn fast at first; those of low bits do where there are twelve experts. */
static inline void dd_cm_slow_down(dd_cm_mixer *m)
{
	float old = 1.0f + (float)m->decisions * 2e-4f;

	m->speed = 0.003f + 0.008f / old;
	m->low_speed = m->wide ? 0.003f + 0.01f / old : 0.003f;
}

/* Code one decision; the caller has put the densities' logits into input[DD_CM_CONTEXTS ..]. */
DD_INLINE unsigned dd_cm_code(dd_cm_mixer *m, dd_rc_io *io, bool decoding, unsigned node, unsigned bit)
{
	unsigned near = node < DD_CM_BUCKET ? node : DD_CM_BUCKET - 1, at = node % DD_CM_BUCKET;
	uint32_t row[DD_CM_SETS] = {node, DD_CM_NODES + m->choice[0] * DD_CM_BUCKET + near,
				    DD_CM_NODES + (DD_CM_CHOICE1 + m->choice[1]) * DD_CM_BUCKET + near,
				    DD_CM_NODES + (DD_CM_CHOICE1 + DD_CM_CHOICE2 + m->choice[2]) * DD_CM_BUCKET + near};
	unsigned more = m->wide ? DD_CM_INPUTS : 0;
	float *second = m->second[node], *map[2] = {NULL, NULL}, part = 0, p, final, error;
	dd_v4 logit, chance;

	if (m->group != node / DD_CM_BUCKET)
		dd_cm_mixer_group(m, node / DD_CM_BUCKET);
	for (unsigned k = 0; k < m->contexts; k++)
		m->input[k] = m->stretch[m->bucket[k][at] >> 20];
	for (unsigned s = 0; s < DD_CM_SETS; s++)
		logit[s] = dd_cm_dot(m->weight[row[s]], m->input, DD_CM_INPUTS, more);
	logit = dd_v4_clamp(logit, -10.0f, 10.0f);
	chance = dd_squash4(logit);
	final = dd_clampf(dd_v4_sum(*(dd_v4 *)(void *)second * logit), 11.0f);
	p = dd_squash4(dd_v4_all(final))[0];
	error = p;
	if (node < DD_CM_BUCKET) {
		float place = (dd_clampf(final, 7.99f) + 8.0f) * 2.0f;
		int step = (int)place;
		float mean = 0;

		part = place - (float)step;
		for (unsigned k = 0; k < 2; k++) {
			map[k] = m->map[k][node * 256 + m->map_context[k]] + step;
			mean += map[k][0] * (1.0f - part) + map[k][1] * part;
		}
		p = 0.5f * p + 0.25f * mean;
	}
	bit = dd_rc_code(io, decoding, dd_cm_sixteen(p), bit);

	if ((m->decisions++ & 63) == 0)
		dd_cm_slow_down(m);
	error = (float)bit - error;
	chance = (dd_v4_all((float)bit) - chance) * dd_v4_all(m->speed);
	for (unsigned s = 0; s < DD_CM_SETS; s++)
		dd_cm_train(m->weight[row[s]], m->input, DD_CM_INPUTS, more, chance[s]);
	*(dd_v4 *)(void *)second += logit * dd_v4_all(error * 0.001f);
	for (unsigned k = 0; k < 2 && map[k] != NULL; k++) {
		map[k][0] += 0.02f * (1.0f - part) * ((float)bit - map[k][0]);
		map[k][1] += 0.02f * part * ((float)bit - map[k][1]);
	}
	for (unsigned k = 0; k < m->contexts; k++)
		dd_slot_learn(&m->bucket[k][at], m->rate, bit);
	return bit;
}

/* Code one low bit of a residual; `prefix` is 1 and the bits above it. The densities' logits are in low_input[8 ..]. */
DD_INLINE unsigned dd_cm_code_low(dd_cm_mixer *m, dd_rc_io *io, bool decoding, unsigned depth, uint32_t prefix,
				  unsigned bit)
{
	unsigned more = m->wide ? DD_CM_MORE_LOW : 0;
	float *w = m->low_weight[depth], p;
	uint32_t *slot[DD_CM_LOW_CONTEXTS];

	for (unsigned k = 0; k < DD_CM_LOW_CONTEXTS; k++) {
		slot[k] = &m->low_slots[((size_t)k << m->low_bits) +
					(dd_hash(m->low_context[k], prefix) >> (32 - m->low_bits))];
		m->low_input[k] = m->stretch[*slot[k] >> 20];
	}
	p = dd_squash4(dd_v4_all(dd_clampf(dd_cm_dot(w, m->low_input, DD_CM_LOW_INPUTS, more), 11.0f)))[0];
	bit = dd_rc_code(io, decoding, dd_cm_sixteen(p), bit);
	dd_cm_train(w, m->low_input, DD_CM_LOW_INPUTS, more, ((float)bit - p) * m->low_speed);
	for (unsigned k = 0; k < DD_CM_LOW_CONTEXTS; k++)
		dd_slot_learn(slot[k], m->rate, bit);
	return bit;
}

#endif
