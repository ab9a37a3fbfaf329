/*
 * A mixture of four logistic distributions, as the outputs of a net tell it: what coder `net` takes the probabilities of
 * binary decisions from, or (mode interp) has among what it mixes.
 */
#ifndef DD_MIXTURE_H
#define DD_MIXTURE_H

#include "column.h"
#include "logistic.h"
#include "net.h"

/* Around a centre, from which everything here is measured. */
typedef struct {
	dd_v4 weight, mean, deviation, inverse;
	uint64_t centre;
	unsigned low; /* coder net in mode lattice: a cell has 2^low indices */
} dd_mixture;

/*
 * Of the outputs (logits, means, logarithms of deviations), whose unit is `scale`; no deviation is below `least`. The
 * centre is the whole number next to the mixture's mean, which is relative to `from`.
 */
static inline dd_mixture dd_mixture_of(const int16_t *o, float scale, float least, uint64_t from)
{
	dd_v4 logit = {o[0], o[1], o[2], o[3]}, mean = {o[4], o[5], o[6], o[7]}, spread = {o[8], o[9], o[10], o[11]};
	float top = logit[0], middle;
	dd_mixture m;

	for (int k = 1; k < 4; k++)
		top = logit[k] > top ? logit[k] : top;
	m.weight = dd_exp4((logit - dd_v4_all(top)) * dd_v4_all(1.0f / DD_NET_ONE));
	m.weight /= dd_v4_all(dd_v4_sum(m.weight));
	mean *= dd_v4_all(4.0f / DD_NET_ONE * scale);
	m.deviation = dd_exp4(spread * dd_v4_all(1.0f / DD_NET_ONE)) * dd_v4_all(scale) + dd_v4_all(least);
	m.inverse = dd_v4_all(1.0f) / m.deviation;
	middle = dd_clampf(dd_v4_sum(m.weight * mean), 0x1p40f);
	m.centre = from + (uint64_t)((int64_t)(middle + (middle < 0 ? -0.5f : 0.5f)));
	m.mean = mean - dd_v4_all((float)(int64_t)(m.centre - from));
	return m;
}

/* How much of the mixture is beyond a place: below it, or above it. */
static inline float dd_mixture_beyond(const dd_mixture *m, bool below, float at)
{
	dd_v4 x = (m->mean - dd_v4_all(at)) * m->inverse;

	return dd_v4_sum(m->weight * dd_squash4(below ? -x : x));
}

#endif
