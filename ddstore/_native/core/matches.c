/* Encoder only: whether rows come again, so that coder cm can foretell them. */
#include "cm_match.h"
#include "quantize.h"

/*
 * In long columns places are noted and looked up at one row in eight: a third of the time, and the same share to a few
 * percent. The logarithm of that.
 */
static unsigned seldom(uint32_t n)
{
	return n < 1u << 15 ? 0 : 3;
}

static uint32_t places(uint32_t n)
{
	return (n >> seldom(n)) + 1;
}

size_t dd_foretold_size(uint32_t n)
{
	return dd_match_size(places(n));
}

/* dd_match_move at rows that their hash chooses: what comes again has the same ones chosen, and is met a few rows later. */
DD_INLINE void move(dd_match *x, const uint64_t *q, uint32_t at, unsigned bits)
{
	dd_match_follow(x, q, at);
	for (unsigned i = 0; i < DD_MATCH_HASHES; i++)
		if (dd_match_hash(x, i, q[at - 1]) >> 1 >> (31 - bits) == 0)
			dd_match_look(x, q, at, dd_match_place(x, i));
}

float dd_foretold(const uint64_t *index, uint32_t n, void *memory)
{
	dd_match *x = dd_match_start(memory, places(n));
	int32_t moves = 0, all = 0, late = 0; /* right ones less wrong ones; and of those after many that were the same */

	for (uint32_t i = 1; i < n; i++) {
		int32_t right;

		move(x, index, i, seldom(n));
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
