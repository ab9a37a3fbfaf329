/*
 * Decodes every column on standard input and prints a checksum of what came out.
 *
 * Input: records of u8 type, u32 n, u32 want, u32 length of residual, latents, model and sides, then those bytes. Sides are
 * u8 type and n values each, in the order in which the residual names them.
 * Built plainly at several optimisation levels it shows that decoding is bit-exact; built with sanitizers and fed
 * mutated records (checksums mended here, as an attacker would) it shows that no bytes do harm.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static unsigned type_width(unsigned type)
{
	return type == DD_INT16 ? 2 : type == DD_INT32 || type == DD_FLOAT32 ? 4 : 8;
}

/* The columns that a record brings along, under the names that the residual has for them; returns how many. */
static unsigned take_sides(const uint8_t *bytes, size_t len, uint32_t n, const dd_column_info *info, dd_side *sides)
{
	unsigned count = 0;

	for (size_t size; count < info->sides && len > 0; count++, bytes += size, len -= size) {
		unsigned type = bytes[0];

		size = 1 + (size_t)n * type_width(type);
		if (len < size)
			break;
		sides[count] = (dd_side){info->side_crc[count], (dd_type)type, copy(bytes + 1, (uint32_t)(size - 1))};
	}
	return count;
}

enum { RESIDUAL, LATENTS, MODEL, SIDES, PARTS };

typedef struct {
	uint8_t *bytes;
	uint32_t size;
} part;

/* Decode `want` rows `times` times, in memory that held other things before: the rows have to be the same. */
static dd_status decode(const part *parts, const dd_model *model, const dd_column_info *info, dd_type type, uint32_t n,
			uint32_t want, unsigned times, uint32_t *sum)
{
	size_t width = type_width(type), size = (size_t)want * width;
	uint8_t *workspace = aligned_alloc(16, (info->workspace + 15) & ~(size_t)15);
	dd_side sides[DD_SIDES_MOST];
	unsigned given = take_sides(parts[SIDES].bytes, parts[SIDES].size, n, info, sides);
	uint32_t sums[2] = {*sum, *sum};
	dd_status status = DD_OK;

	for (unsigned i = 0; i < times && status == DD_OK; i++) {
		uint8_t *values = malloc(size + 1), *valid = malloc((size_t)want + 1); /* their own: over-reads show */
		dd_error err = {DD_OK, NULL, NULL};

		memset(workspace, i == 0 ? 0x5a : 0xff, info->workspace);
		status = dd_column_decode(parts[RESIDUAL].bytes, parts[RESIDUAL].size, parts[LATENTS].bytes, parts[LATENTS].size,
					  model, sides, given, type, n, want, values, valid, workspace, info->workspace, &err);
		if (status == DD_OK)
			sums[i] = dd_crc32c(dd_crc32c(sums[i], values, size), valid, want);
		if (status == DD_OK && want > 0) {
			const volatile int stop = 1;

			err.stop = &stop;
			if (dd_column_decode(parts[RESIDUAL].bytes, parts[RESIDUAL].size, parts[LATENTS].bytes,
					     parts[LATENTS].size, model, sides, given, type, n, want, values, valid, workspace,
					     info->workspace, &err) != DD_STOPPED) {
				fprintf(stderr, "decoding goes on although it was asked to stop\n");
				exit(1);
			}
		}
		free(values);
		free(valid);
	}
	if (times > 1 && sums[0] != sums[1] && status == DD_OK) {
		fprintf(stderr, "what is decoded depends on what the memory held before\n");
		exit(1);
	}
	*sum = sums[0];
	for (unsigned k = 0; k < given; k++)
		free((void *)(uintptr_t)sides[k].values);
	free(workspace);
	return status;
}

/* Returns the record's length, 0 when there is no whole record. */
static size_t one(const uint8_t *p, size_t len, int mending, uint32_t *sum, unsigned counts[8])
{
	enum { HEAD = 9 + 4 * PARTS };
	size_t used = HEAD;
	uint32_t n, want;
	part parts[PARTS];
	dd_column_info info;
	dd_model model, *given = NULL;
	dd_error err = {DD_OK, NULL, NULL};
	dd_status status = DD_OK;

	if (len < HEAD)
		return 0;
	n = u32(p + 1);
	want = u32(p + 5);
	for (unsigned i = 0; i < PARTS; i++) {
		parts[i].size = u32(p + 9 + 4 * i);
		if (len - used < parts[i].size)
			return 0;
		parts[i].bytes = copy(p + used, parts[i].size);
		used += parts[i].size;
	}
	if (mending) {
		mend(parts[RESIDUAL].bytes, parts[RESIDUAL].size);
		mend(parts[MODEL].bytes, parts[MODEL].size);
	}
	if (parts[MODEL].size > 0) {
		given = &model;
		status = dd_model_open(parts[MODEL].bytes, parts[MODEL].size, &model, &err);
	}
	if (status == DD_OK)
		status = dd_column_peek(parts[RESIDUAL].bytes, parts[RESIDUAL].size, given, &info, &err);
	if (status == DD_OK && n > 0 && n <= DD_MAX_ROWS && want <= n)
		status = decode(parts, given, &info, (dd_type)p[0], n, want, mending ? 1 : 2, sum);
	counts[status & 7]++;
	for (unsigned i = 0; i < PARTS; i++)
		free(parts[i].bytes);
	return used;
}

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
