/* The weights of mode interp, fitted to a column: encoder only. */
#include "encode.h"
#include "interp.h"

enum { ROUNDS = 3, UNKNOWNS = DD_INTERP_WEIGHTS };

typedef struct {
	double a[DD_INTERP_SETS][UNKNOWNS][UNKNOWNS + 1];
} equations;

/* Squared errors count less the larger they are: a residual of many steps costs its logarithm. */
static void add_row(equations *e, const dd_column *c, const dd_interp_near *at, unsigned set, uint64_t x, uint64_t exact)
{
	uint64_t sum = at->a + at->b;
	double per = 0.5 / (double)c->width, target, off, weight;
	double known[UNKNOWNS] = {(double)(int64_t)(2 * at->a - sum) * per,  (double)(int64_t)(2 * at->a2 - sum) * per,
				  (double)(int64_t)(2 * at->a3 - sum) * per, (double)(int64_t)(2 * at->a4 - sum) * per,
				  (double)(int64_t)(2 * at->b3 - sum) * per, (double)(int64_t)at->side * per};

	/* The row's own value stands width / 2 above the point that predicts it best. */
	target = ((double)(int64_t)(2 * x - sum) - (double)c->width + 1.0) * per;
	off = ((double)(int64_t)(128 * x - exact) / 128.0 - 0.5 * (double)c->width + 0.5) * 2.0 * per;
	weight = 1.0 / (1.0 + 16.0 * off * off);
	for (unsigned i = 0; i < UNKNOWNS; i++) {
		for (unsigned j = 0; j < UNKNOWNS; j++)
			e->a[set][i][j] += weight * known[i] * known[j];
		e->a[set][i][UNKNOWNS] += weight * known[i] * target;
	}
}

static void solve(double a[UNKNOWNS][UNKNOWNS + 1], int8_t *weight)
{
	for (unsigned i = 0; i < UNKNOWNS; i++)
		a[i][i] += 3.0; /* what is never seen stays 0 */
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
			uint64_t exact = dd_interp_predict(&at, c->weight[set]), lowest = dd_interp_round(exact);

			m[i] = lowest + c->width * (uint64_t)dd_interp_steps(x[i], lowest, c->width);
			add_row(e, c, &at, set, x[i], exact);
		}
}

size_t dd_interp_fit_size(const dd_column *c)
{
	return dd_align(sizeof(equations)) + (c->sides > 0 ? 3 : 2) * c->n * sizeof(uint64_t);
}

void dd_interp_fit(dd_column *c, const dd_rows *rows, void *memory)
{
	equations *e = memory;
	uint64_t *x = (uint64_t *)(void *)((uint8_t *)memory + dd_align(sizeof *e)), *m = x + c->n;
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
		run(c, x, c->sides > 0 ? side : NULL, count, m, e);
		for (unsigned set = 0; set < DD_INTERP_SETS; set++)
			solve(e->a[set], c->weight[set]);
	}
}
