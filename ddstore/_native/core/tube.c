/*
 * Tube search: any path that stays within the bound is legal, so look for the one that is cheapest to code.
 *
 * Viterbi; a state is (index of this row, index of the row before), each relative to its row's lowest legal index.
 */
#include "tube.h"

#include <float.h>

typedef float scores[DD_TUBE_WIDTH][DD_TUBE_WIDTH];

static unsigned slot(int64_t difference)
{
	int64_t d = difference < -DD_TUBE_REACH ? -DD_TUBE_REACH : difference > DD_TUBE_REACH ? DD_TUBE_REACH : difference;

	return (unsigned)(d + DD_TUBE_REACH);
}

void dd_tube(const int64_t *low, const uint8_t *width, uint32_t n, const float *cost, uint8_t *scratch, int64_t *path)
{
	scores score, next;
	float best = FLT_MAX;
	unsigned a = 0, b = 0;

	for (unsigned i = 0; i < width[1]; i++)
		for (unsigned j = 0; j < width[0]; j++)
			score[i][j] = cost[slot(0) * DD_TUBE_COSTS + slot(low[1] + i - low[0] - j)];
	for (uint32_t row = 2; row < n; row++) {
		uint8_t *back = scratch + DD_TUBE_SCRATCH(row);
		float least = FLT_MAX;

		for (unsigned j = 0; j < width[row - 1]; j++) {
			const float *from[DD_TUBE_WIDTH];

			for (unsigned k = 0; k < width[row - 2]; k++)
				from[k] = cost + slot(low[row - 1] + j - low[row - 2] - k) * DD_TUBE_COSTS;
			for (unsigned i = 0; i < width[row]; i++) {
				unsigned d = slot(low[row] + i - low[row - 1] - j), which = 0;
				float sum = FLT_MAX;

				for (unsigned k = 0; k < width[row - 2]; k++) {
					float s = score[j][k] + from[k][d];

					which = s < sum ? k : which;
					sum = s < sum ? s : sum;
				}
				next[i][j] = sum;
				back[i * DD_TUBE_WIDTH + j] = (uint8_t)which;
				least = sum < least ? sum : least;
			}
		}
		/* Only differences matter: subtracting the least keeps floats precise over a million rows. */
		for (unsigned i = 0; i < width[row]; i++)
			for (unsigned j = 0; j < width[row - 1]; j++)
				score[i][j] = next[i][j] - least;
	}
	for (unsigned i = 0; i < width[n - 1]; i++)
		for (unsigned j = 0; j < width[n - 2]; j++)
			if (score[i][j] < best) {
				best = score[i][j];
				a = i;
				b = j;
			}
	path[n - 1] = low[n - 1] + a;
	path[n - 2] = low[n - 2] + b;
	for (uint32_t row = n - 1; row >= 2; row--) {
		unsigned k = scratch[DD_TUBE_SCRATCH(row) + a * DD_TUBE_WIDTH + b];

		path[row - 2] = low[row - 2] + k;
		a = b;
		b = k;
	}
}
