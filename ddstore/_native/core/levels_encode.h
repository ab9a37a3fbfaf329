/* Mode `interp` under coder `rans`: what its encoder and the fit of its weights share. */
#ifndef DD_LEVELS_ENCODE_H
#define DD_LEVELS_ENCODE_H

#include "levels.h"

/* dd_interp_steps without its division, unless it is far: `per` is 1 / width. */
DD_INLINE uint64_t dd_levels_steps(uint64_t x, uint64_t lowest, uint64_t width, double per)
{
	int64_t d = (int64_t)(x - lowest), e, over;
	double about = (double)d * per;

	if (d >= (int64_t)1 << 50 || d <= -((int64_t)1 << 50))
		return (uint64_t)dd_interp_steps(x, lowest, width);
	e = (int64_t)about - (about < 0); /* one off at most, either way */
	over = d - e * (int64_t)width;
	return (uint64_t)(e - (over < 0) + (over >= (int64_t)width));
}

/* Put the anchors of these rows, whose highest legal points are `x`, and list their residuals unless `e` is NULL. */
static inline void dd_levels_anchor(dd_levels *l, const dd_column *c, const uint64_t *x, uint32_t values, uint64_t *e)
{
	uint32_t count = dd_levels_anchors(values, c->stride);

	l->m[0] = (uint64_t)c->first - c->width / 2;
	l->e[0] = 0;
	for (uint32_t k = 1; k < count; k++) {
		uint64_t steps = (uint64_t)dd_interp_steps(x[(size_t)k << c->stride], l->m[k - 1], c->width);

		l->m[k] = l->m[k - 1] + c->width * steps;
		if (e != NULL)
			e[k - 1] = steps;
	}
	dd_levels_there(l, count);
}

#endif
