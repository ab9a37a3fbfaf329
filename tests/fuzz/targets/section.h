/* BTAE sections made from a few bytes: whole ones are ten thousand bytes long, too many for a fuzzer to get right. */
#ifndef SECTION_H
#define SECTION_H

#include "btae.h"
#include "harness.h"

/* Step over a linear layer; its shifts come into their range. */
static inline size_t linear_layer(uint8_t *section, size_t at, size_t inputs, size_t outputs)
{
	for (size_t r = 0; section != NULL && r < outputs; r++)
		section[at + r] = 1 + section[at + r] % 15;
	return at + outputs * (3 + inputs);
}

/* The section's length; its shifts are mended where it is not NULL. */
static inline size_t lay_out_section(uint8_t *section, unsigned layers, size_t window, size_t latents, size_t patch)
{
	size_t n = window / patch, at = 32;

	at = linear_layer(section, at, latents, 64) + 64 * n;
	at = linear_layer(section, at, 64, 32) + 32 * n;
	for (unsigned l = 0; l < layers; l++) {
		at = linear_layer(section, at, 32, 96) + 16 * (2 * n - 1);
		at = linear_layer(section, at, 32, 32);
		at = linear_layer(section, at, 32, 64);
		at = linear_layer(section, at, 64, 32);
	}
	return linear_layer(section, at, 32, patch);
}

/*
 * The first 28 bytes of the seed are the section's header behind its magic; its weights are the seed, over and over. A
 * header with sizes that cannot be gets the tensors of one sample. There are four bytes of checksum behind `len`.
 */
static inline uint8_t *make_section(const uint8_t *seed, size_t seed_len, size_t *len)
{
	uint8_t head[32] = {'B', 'T', 'A', 'E'}, *section;
	unsigned layers, window, latents, patch;

	memcpy(head + 4, seed, seed_len < 28 ? seed_len : 28);
	layers = head[5];
	window = head[6] | (unsigned)head[7] << 8;
	latents = head[8] | (unsigned)head[9] << 8;
	patch = head[10] | (unsigned)head[11] << 8;
	if (layers < 1 || layers > 4 || window > 1024 || latents > 256 || patch < 1 || patch > window)
		layers = window = patch = 1, latents = 0;
	*len = lay_out_section(NULL, layers, window, latents, patch);
	section = repeated(SECTION, seed, seed_len, *len + 4);
	memcpy(section, head, sizeof head);
	lay_out_section(section, layers, window, latents, patch);
	put_le32(section + *len, dd_crc32c(0, section, *len));
	return section;
}

#endif
