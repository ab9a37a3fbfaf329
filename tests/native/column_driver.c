/*
 * Decodes every column on standard input and prints a checksum of what came out.
 *
 * Input: records of u8 type, u32 n, u32 want, u32 length of residual, latents and model, then those bytes.
 * Built plainly at several optimisation levels it shows that decoding is bit-exact; built with sanitizers and fed
 * mutated records (checksums mended here, as an attacker would) it shows that no bytes do harm. With libFuzzer,
 * -DFUZZING turns one record into one input.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ddstore.h"

static uint32_t u32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void mend(uint8_t *bytes, uint32_t len)
{
	if (len >= 4) {
		uint32_t crc = dd_crc32c(0, bytes, len - 4);

		for (int i = 0; i < 4; i++)
			bytes[len - 4 + i] = (uint8_t)(crc >> (8 * i));
	}
}

static uint8_t *copy(const uint8_t *bytes, uint32_t len)
{
	uint8_t *own = malloc(len > 0 ? len : 1); /* its own block: the sanitizer sees every over-read */

	for (uint32_t i = 0; i < len; i++)
		own[i] = bytes[i];
	return own;
}

/* Returns the record's length, 0 when there is no whole record. */
static size_t one(const uint8_t *p, size_t len, int mending, uint32_t *sum, unsigned counts[8])
{
	uint32_t n, want, sizes[3];
	size_t used = 21;
	uint8_t *part[3];
	dd_error err = {DD_OK, NULL};
	dd_column_info info;
	dd_model model;
	dd_status status = DD_OK;

	if (len < used)
		return 0;
	n = u32(p + 1);
	want = u32(p + 5);
	for (int i = 0; i < 3; i++)
		sizes[i] = u32(p + 9 + 4 * i);
	for (int i = 0; i < 3; i++) {
		if (len - used < sizes[i])
			return 0;
		part[i] = copy(p + used, sizes[i]);
		used += sizes[i];
	}
	if (mending) {
		mend(part[0], sizes[0]);
		mend(part[2], sizes[2]);
	}
	if (sizes[2] > 0)
		status = dd_model_open(part[2], sizes[2], &model, &err);
	if (status == DD_OK)
		status = dd_column_peek(part[0], sizes[0], sizes[2] > 0 ? &model : NULL, &info, &err);
	if (status == DD_OK && n > 0 && n <= DD_MAX_ROWS && want <= n) {
		void *workspace = aligned_alloc(16, (info.workspace + 15) & ~(size_t)15);
		uint8_t *values = malloc((size_t)want * 8 + 1), *valid = malloc((size_t)want + 1);

		status = dd_column_decode(part[0], sizes[0], part[1], sizes[1], sizes[2] > 0 ? &model : NULL,
					  NULL, 0, (dd_type)p[0], n, want, values, valid, workspace, info.workspace, &err);
		if (status == DD_OK) {
			size_t width = p[0] == DD_INT16 ? 2 : p[0] == DD_INT32 || p[0] == DD_FLOAT32 ? 4 : 8;

			*sum = dd_crc32c(*sum, values, want * width);
			*sum = dd_crc32c(*sum, valid, want);
		}
		free(workspace);
		free(values);
		free(valid);
	}
	counts[status & 7]++;
	for (int i = 0; i < 3; i++)
		free(part[i]);
	return used;
}

#ifdef FUZZING
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t sum = 0;
	unsigned counts[8] = {0};

	one(data, size, 1, &sum, counts);
	return 0;
}
#else
int main(int argc, char **argv)
{
	size_t len = 0, room = 1 << 20, used;
	uint8_t *in = malloc(room), *p;
	uint32_t sum = 0;
	unsigned counts[8] = {0};

	(void)argv;
	for (size_t got; (got = fread(in + len, 1, room - len, stdin)) > 0;) {
		len += got;
		if (len == room)
			in = realloc(in, room *= 2);
	}
	for (p = in; (used = one(p, len, argc > 1, &sum, counts)) > 0; p += used)
		len -= used;
	printf("%08x ok=%u corrupt=%u unsupported=%u invalid=%u\n", (unsigned)sum, counts[DD_OK], counts[DD_CORRUPT],
	       counts[DD_UNSUPPORTED], counts[DD_INVALID]);
	free(in);
	return 0;
}
#endif
