/*
 * btae_driver CASES: decode every case of a file and print what came of it, one line each.
 * A case is four little-endian uint32 (section bytes, latent bytes, windows, windows per call), the section, the latents.
 * Prints "status" and, if that is 0, the FNV-1a 64 hash of the predictions' little-endian bytes.
 * Memory is allocated to the byte, so that a sanitizer sees one byte too far.
 */
#include "btae.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t read32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint8_t *read_exactly(FILE *f, size_t n)
{
	uint8_t *p = malloc(n ? n : 1);
	if (!p || fread(p, 1, n, f) != n)
		exit(3);
	return p;
}

static void decode(const dd_btae *b, const uint8_t *latents, size_t windows, size_t per_call)
{
	size_t values = windows * b->window, per_window = dd_btae_latent_bytes(b);
	int32_t *out = malloc(values * sizeof *out + 1);
	void *scratch = malloc(dd_btae_scratch(b));
	if (!out || !scratch || dd_btae_scratch(b) > DD_BTAE_MAX_SCRATCH)
		exit(4);
	for (size_t w = 0; w < windows; w += per_call) {
		size_t n = windows - w < per_call ? windows - w : per_call;
		dd_btae_predict(b, latents + w * per_window, n, out + w * b->window, scratch);
	}
	uint64_t hash = UINT64_C(14695981039346656037);
	for (size_t i = 0; i < values; i++)
		for (int shift = 0; shift < 32; shift += 8)
			hash = (hash ^ ((uint32_t)out[i] >> shift & 255)) * UINT64_C(1099511628211);
	printf("0 %016llx\n", (unsigned long long)hash);
	free(scratch);
	free(out);
}

int main(int argc, char **argv)
{
	FILE *f = argc == 2 ? fopen(argv[1], "rb") : NULL;
	if (!f)
		return 2;
	uint8_t head[16];
	while (fread(head, 1, sizeof head, f) == sizeof head) {
		size_t section_len = read32(head), latents_len = read32(head + 4);
		uint8_t *section = read_exactly(f, section_len), *latents = read_exactly(f, latents_len);
		dd_btae b;
		dd_error err = {DD_OK, "", NULL};
		dd_status status = dd_btae_open(section, section_len, &b, &err);
		size_t windows = read32(head + 8);
		if (status != DD_OK)
			printf("%d %s\n", (int)status, err.what);
		else if (windows * dd_btae_latent_bytes(&b) > latents_len)
			printf("9 too few latents\n");
		else
			decode(&b, latents, windows, read32(head + 12));
		free(latents);
		free(section);
	}
	fclose(f);
	return 0;
}
