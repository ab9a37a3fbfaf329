/* Encoder only: whether rows come again, so that coder cm can foretell them. */
#include "cm_match.h"
#include "quantize.h"

size_t dd_foretold_size(uint32_t n)
{
	return dd_match_size(n);
}

float dd_foretold(const uint64_t *index, uint32_t n, void *memory)
{
	dd_match *x = dd_match_start(memory, n);
	int32_t moves = 0, all = 0, late = 0; /* right ones less wrong ones; and of those after many that were the same */

	for (uint32_t i = 1; i < n; i++) {
		int32_t right;

		dd_match_move(x, index, i);
		if (index[i] == index[i - 1])
			continue;
		moves++;
		if (x->from == 0)
			continue;
		right = index[x->from] == index[i] ? 1 : -1;
		all += right;
		late += x->same < DD_MATCH_FAR ? 0 : right;
	}
	return moves > 0 ? (float)(all > late ? all : late) / (float)moves : 0;
}
