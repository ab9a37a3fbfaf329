/* The coders, by their numbers. */
#include "coder.h"

const dd_coder *dd_coder_numbered(unsigned number)
{
	switch (number) {
	case DD_CODER_MIX:
		return &dd_coder_mix;
	case DD_CODER_RANS:
		return &dd_coder_rans;
	case DD_CODER_CM:
		return &dd_coder_cm;
	case DD_CODER_NET:
		return &dd_coder_net;
	case DD_CODER_BSC:
		return &dd_coder_bsc;
	default:
		return NULL;
	}
}

const dd_coder *dd_coder_of(const dd_column *c)
{
	if (c->coder == DD_CODER_RANS && c->mode == DD_MODE_INTERP)
		return &dd_coder_levels;
	if (c->coder == DD_CODER_NET && c->mode == DD_MODE_INTERP)
		return &dd_coder_cm;
	return dd_coder_numbered(c->coder);
}
