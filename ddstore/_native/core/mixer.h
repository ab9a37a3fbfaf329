/*
 * Context mixing, all in integers: a binary decision is predicted under several contexts at once, each keeping
 * an adaptive probability, and a small online-trained logistic mixer weighs them (the PAQ construction).
 *
 * Logits ("stretched" probabilities) are in 1/256 nat, clamped to +-2047; probabilities have 16 bits.
 */
#ifndef DD_MIXER_H
#define DD_MIXER_H

#include "rangecoder.h"
#include "slot.h"

#define DD_CONTEXTS 5u
#define DD_SLOT_BITS 12u
#define DD_SLOTS (1u << DD_SLOT_BITS)
#define DD_NODES 160u /* kinds of binary decision: each has mixer weights of its own */

#define DD_MIX_RATE 15	   /* weight += logit * error >> rate */
#define DD_MIX_ONE 65536
#define DD_MIX_MAX (64 * DD_MIX_ONE)

typedef struct {
	uint16_t squash[4096];	/* logit + 2048 -> probability */
	int16_t stretch[4096];	/* probability >> 4 -> logit */
	uint16_t rate[DD_SLOT_RATES];
	uint32_t slot[DD_CONTEXTS][DD_SLOTS];
	int32_t weight[DD_NODES][DD_CONTEXTS];
	uint32_t context[DD_CONTEXTS]; /* set by the caller before each symbol */
} dd_mixer;

void dd_mixer_start(dd_mixer *mx);

DD_INLINE unsigned dd_mixer_code(dd_mixer *mx, dd_rc_io *io, bool decoding, unsigned node, unsigned bit)
{
	uint32_t *slot[DD_CONTEXTS];
	int32_t logit[DD_CONTEXTS];
	int32_t *weight = mx->weight[node];
	int64_t dot = 0;
	int32_t d, error;
	uint32_t p1;

	for (unsigned k = 0; k < DD_CONTEXTS; k++) {
		uint32_t h = mx->context[k] + node * 0x9e3779b1u;

		h = (h ^ h >> 15) * 0x2c1b3c6du;
		slot[k] = &mx->slot[k][h >> (32 - DD_SLOT_BITS)];
		logit[k] = mx->stretch[*slot[k] >> 20];
		dot += (int64_t)weight[k] * logit[k];
	}
	d = (int32_t)(dot >> 16 < -2047 ? -2047 : dot >> 16 > 2047 ? 2047 : dot >> 16);
	p1 = mx->squash[d + 2048];
	bit = dd_rc_code(io, decoding, p1, bit);

	error = (bit ? 65535 : 0) - (int32_t)p1;
	for (unsigned k = 0; k < DD_CONTEXTS; k++) {
		int32_t w = weight[k] + ((logit[k] * error + (1 << (DD_MIX_RATE - 1))) >> DD_MIX_RATE);

		weight[k] = w < -DD_MIX_MAX ? -DD_MIX_MAX : w > DD_MIX_MAX ? DD_MIX_MAX : w;
		dd_slot_learn(slot[k], mx->rate, bit);
	}
	return bit;
}

#endif
