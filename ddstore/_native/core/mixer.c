/* The mixer's tables and starting state. */
#include "mixer.h"

/* 65536 / (1 + exp(-x)) at x = (i - 32) / 4: constants of the format, interpolated linearly between. */
static const uint16_t logistic[65] = {
	22,    28,    36,    47,    60,	   77,	  98,	 126,	162,   208,   267,   342,   439,
	562,   720,   922,   1179,  1506,  1921,  2446,	 3108,	3938,  4971,  6249,  7812,  9702,
	11955, 14595, 17625, 21025, 24743, 28693, 32768, 36843, 40793, 44511, 47911, 50941, 53581,
	55834, 57724, 59287, 60565, 61598, 62428, 63090, 63615, 64030, 64357, 64614, 64816, 64974,
	65097, 65194, 65269, 65328, 65374, 65410, 65438, 65459, 65476, 65489, 65500, 65508, 65514,
};

void dd_mixer_start(dd_mixer *mx)
{
	uint32_t filled = 0;

	for (uint32_t i = 0; i < 4096; i++) {
		uint32_t a = logistic[i >> 6], b = logistic[(i >> 6) + 1];

		mx->squash[i] = (uint16_t)(a + (((b - a) * (i & 63)) >> 6));
	}
	/* stretch is squash inverted: the logit at which squash first exceeds the probability */
	for (int32_t d = -2047; d <= 2047; d++) {
		uint32_t upto = mx->squash[d + 2048] >> 4;

		for (; filled <= upto; filled++)
			mx->stretch[filled] = (int16_t)d;
	}
	for (; filled < 4096; filled++)
		mx->stretch[filled] = 2047;
	dd_slot_rates(mx->rate);
	for (uint32_t k = 0; k < DD_CONTEXTS; k++)
		for (uint32_t i = 0; i < DD_SLOTS; i++)
			mx->slot[k][i] = DD_SLOT_START;
	for (uint32_t node = 0; node < DD_NODES; node++)
		for (uint32_t k = 0; k < DD_CONTEXTS; k++)
			mx->weight[node][k] = DD_MIX_ONE * 3 / 10;
	for (uint32_t k = 0; k < DD_CONTEXTS; k++)
		mx->context[k] = 0;
}
