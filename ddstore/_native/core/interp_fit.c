/* The weights of mode interp, fitted to a column: encoder only. */
#include "encode.h"
#include "levels_encode.h"

enum { ROUNDS = 3, UNKNOWNS = DD_INTERP_WEIGHTS };

typedef struct {
	double a[DD_INTERP_SETS][UNKNOWNS][UNKNOWNS + 1];
} equations;

/*
 * A row at `x` whose neighbours' sum is `sum`, with what is known of it as departures from that. Squared errors count less
 * the larger they are: a residual of many steps costs its logarithm.
 */
static void add_row(equations *e, const dd_column *c, const uint64_t *departure, uint64_t sum, unsigned set, uint64_t x,
		    uint64_t exact)
{
	double per = 0.5 / (double)c->width, target, off, weight, known[UNKNOWNS];

	for (unsigned i = 0; i < UNKNOWNS; i++)
		known[i] = (double)(int64_t)departure[i] * per;
	/* The row's own value stands width / 2 above the point that predicts it best. */
	target = ((double)(int64_t)(2 * x - sum) - (double)c->width + 1.0) * per;
	off = ((double)(int64_t)(128 * x - exact) / 128.0 - 0.5 * (double)c->width + 0.5) * 2.0 * per;
	weight = 1.0 / (1.0 + 16.0 * off * off);
	for (unsigned i = 0; i < UNKNOWNS; i++) {
		double weighed = weight * known[i];

		for (unsigned j = 0; j <= i; j++)
			e->a[set][i][j] += weighed * known[j];
		e->a[set][i][UNKNOWNS] += weighed * target;
	}
}

static void solve(double a[UNKNOWNS][UNKNOWNS + 1], int8_t *weight)
{
	for (unsigned i = 0; i < UNKNOWNS; i++) {
		for (unsigned j = 0; j < i; j++) /* symmetric: the other half was not collected */
			a[j][i] = a[i][j];
		a[i][i] += 3.0; /* what is never seen stays 0 */
	}
	for (unsigned i = 0; i < UNKNOWNS; i++) /* positive definite: no pivoting */
		for (unsigned j = 0; j < UNKNOWNS; j++) {
			double factor = a[j][i] / a[i][i];

			for (unsigned k = i; k <= UNKNOWNS && j != i; k++)
				a[j][k] -= factor * a[i][k];
		}
	for (unsigned i = 0; i < UNKNOWNS; i++) {
		double w = a[i][UNKNOWNS] / a[i][i] * 64.0;

		w = w > -127.0 ? w < 127.0 ? w : 127.0 : -127.0;
		weight[i] = (int8_t)(w < 0 ? w - 0.5 : w + 0.5);
	}
}

/* Quantize as the coder will, and collect what the weights should have been. */
static void run(const dd_column *c, const uint64_t *x, const int64_t *side, uint32_t count, uint64_t *m, equations *e)
{
	uint32_t stride = 1u << c->stride;

	m[0] = (uint64_t)c->first - c->width / 2;
	for (uint32_t i = stride; i < count; i += stride)
		m[i] = m[i - stride] + c->width * (uint64_t)dd_interp_steps(x[i], m[i - stride], c->width);
	for (stride /= 2; stride > 0; stride /= 2)
		for (uint32_t i = stride; i < count; i += 2 * stride) {
			dd_interp_near at = dd_interp_look(m, side, count, i, stride);
			unsigned set = dd_interp_set(stride);
			uint64_t exact = dd_interp_predict(&at, c->weight[set]), lowest = dd_interp_round(exact), sum = at.a + at.b;
			uint64_t departure[UNKNOWNS] = {2 * at.a - sum,	 2 * at.a2 - sum, 2 * at.a3 - sum,
							2 * at.a4 - sum, 2 * at.b3 - sum, at.side};

			m[i] = lowest + c->width * (uint64_t)dd_interp_steps(x[i], lowest, c->width);
			add_row(e, c, departure, sum, set, x[i], exact);
		}
}

/* The same under coder rans. */
static void run_levels(const dd_column *c, const uint64_t *x, uint32_t count, void *memory, equations *e)
{
	double per = 1.0 / (double)c->width;
	dd_levels l;

	dd_levels_start(&l, count, c->stride, memory);
	dd_levels_anchor(&l, c, x, count, NULL);
	for (uint32_t s = (1u << c->stride) / 2; s > 0; s /= 2) {
		uint32_t rows = dd_interp_rows(count, s);
		unsigned set = dd_interp_set(s);
		dd_levels_taps taps = dd_levels_taps_of(c->weight[set]);

		for (uint32_t j = 0; j < rows; j++) {
			const uint64_t *m = l.m + j;
			uint64_t sum = m[0] + m[1], exact = dd_levels_predict(m, &taps), lowest = dd_interp_round(exact);
			uint64_t own = x[(size_t)(2 * j + 1) * s];
			uint64_t departure[UNKNOWNS] = {2 * m[0] - sum,	 2 * m[-1] - sum, 2 * m[2] - sum, 2 * m[-2] - sum, 2 * m[3] - sum, 0};

			dd_levels_put(&l, c, j, lowest, dd_levels_steps(own, lowest, c->width, per), 0);
			add_row(e, c, departure, sum, set, own, exact);
		}
		dd_levels_complete(&l, rows);
	}
}

size_t dd_interp_fit_size(const dd_column *c)
{
	size_t own = dd_align(sizeof(equations)) + dd_align(c->n * sizeof(uint64_t));

	return own + (c->coder == DD_CODER_RANS ? dd_levels_size(c->n) : (c->sides > 0 ? 2 : 1) * c->n * sizeof(uint64_t));
}

void dd_interp_fit(dd_column *c, const dd_rows *rows, void *memory)
{
	equations *e = memory;
	uint64_t *x = (uint64_t *)(void *)((uint8_t *)memory + dd_align(sizeof *e)), *m = x + (dd_align(c->n * sizeof *x) / sizeof *x);
	int64_t *side = (int64_t *)(void *)(m + c->n);
	uint32_t count = 0;

	memset(c->weight, 0, sizeof c->weight);
	for (uint32_t i = 0; i < c->n; i++)
		if (rows->class == NULL || rows->class[i] == DD_ROW_VALUE) {
			if (c->sides > 0)
				side[count] = dd_side_index(&c->side[0], i);
			x[count++] = rows->index[i];
		}
	for (unsigned round = 0; round < ROUNDS && count > 0; round++) {
		memset(e, 0, sizeof *e);
		if (c->coder == DD_CODER_RANS)
			run_levels(c, x, count, m, e);
		else
			run(c, x, c->sides > 0 ? side : NULL, count, m, e);
		for (unsigned set = 0; set < DD_INTERP_SETS; set++)
			solve(e->a[set], c->weight[set]);
	}
}
