/* Encoder only: the cheapest path inside a tube. */
#ifndef DD_TUBE_H
#define DD_TUBE_H

#include "ddstore.h"

#define DD_TUBE_WIDTH 8u  /* legal indices per row, at most */
#define DD_TUBE_REACH 40  /* index differences beyond this cost as much as this */
#define DD_TUBE_COSTS (2 * DD_TUBE_REACH + 1)

/* Bytes of scratch for n rows: one back pointer per row and pair of states. */
#define DD_TUBE_SCRATCH(n) ((size_t)(n) * DD_TUBE_WIDTH * DD_TUBE_WIDTH)

/*
 * Row i may take any index low[i] .. low[i] + width[i] - 1 (1 <= width <= DD_TUBE_WIDTH). Writes the path that
 * minimises the sum of cost[d1 + REACH][d + REACH] over rows, d being the index's difference from the row before and
 * d1 that row's own (both clipped to +-REACH): Viterbi over pairs of neighbouring indices. n >= 2.
 */
void dd_tube(const int64_t *low, const uint8_t *width, uint32_t n, const float *cost, uint8_t *scratch, int64_t *path);

#endif
