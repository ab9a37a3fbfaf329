/*
 * Models: the input is a byte that chooses damage and windows, then what section.h makes a section of. Sections that are
 * opened are run: whatever the weights, nothing overflows.
 */
#include "section.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len, given, windows, latents;
	uint8_t *section;
	int32_t *out;
	dd_model model;
	dd_btae btae;

	if (size < 13)
		return 0;
	section = make_section(data + 1, size - 1, &len);
	given = len;
	if (data[0] & 1) { /* another length, or bytes that section.h would not write */
		given = len * data[0] / 255;
		section[len * data[size - 1] / 256] ^= data[size - 2];
		section = with_checksum(BYTES, section, given);
	}
	if (dd_model_open(section, given + 4, &model, NULL) != DD_OK ||
	    dd_btae_open(model.section, model.section_len, &btae, NULL) != DD_OK)
		return 0;
	windows = 1 + data[0] % 3;
	latents = windows * dd_btae_latent_bytes(&btae);
	if (dd_btae_scratch(&btae) > DD_BTAE_MAX_SCRATCH)
		abort();
	if (btae.tokens * btae.layers > 24 && data[0] != 255)
		return 0; /* attention takes the square of that */
	out = block(VALUES, windows * dd_btae_window(&btae) * sizeof(int32_t));
	dd_btae_predict(&btae, repeated(LATENTS, data, size, latents), windows, out,
			block(WORKSPACE, dd_btae_scratch(&btae)));
	look_at(out, windows * dd_btae_window(&btae) * sizeof(int32_t));
	return 0;
}
