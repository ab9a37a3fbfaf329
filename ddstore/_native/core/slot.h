/*
 * Adaptive probabilities, as both mixers keep them: a slot holds one of 22 bits and a 10-bit count of what it has seen, so
 * that a young slot learns fast and an old one slowly. Which slot a context takes is decided by its hash.
 */
#ifndef DD_SLOT_H
#define DD_SLOT_H

#include "column.h"

#define DD_SLOT_START (1u << 31) /* one half, seen nothing */
#define DD_SLOT_LIMIT 255u	 /* count at which a slot stops slowing down */
#define DD_SLOT_RATES (DD_SLOT_LIMIT + 1)

static inline uint32_t dd_hash(uint32_t a, uint32_t b)
{
	uint32_t x = (a + 0x9e3779b9u) * 0x85ebca6bu ^ b * 0xc2b2ae35u;

	x ^= x >> 15;
	x *= 0x2c1b3c6du;
	return x ^ x >> 13;
}

/* How far a slot moves towards what it sees, in 1/65536, by its count. */
static inline void dd_slot_rates(uint16_t *rate)
{
	for (uint32_t count = 0; count < DD_SLOT_RATES; count++)
		rate[count] = (uint16_t)(655360u / (10 * count + 16));
}

DD_INLINE void dd_slot_learn(uint32_t *slot, const uint16_t *rate, unsigned bit)
{
	uint32_t count = *slot & 1023;
	int32_t p = (int32_t)(*slot >> 10), target = bit ? (1 << 22) - 1 : 0;

	p += (int32_t)(((int64_t)(target - p) * rate[count]) >> 16);
	*slot = (uint32_t)p << 10 | (count < DD_SLOT_LIMIT ? count + 1 : count);
}

#endif
