/* What every fuzz target needs: memory guarded to the byte, checksums mended, values made from the input. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sanitizer/asan_interface.h>

#include "ddstore.h"

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define FORGET(at, size) __msan_poison(at, size)
#endif
#endif
#ifndef FORGET
#define FORGET(at, size) ((void)(at), (void)(size))
#endif

enum { BYTES, LATENTS, SECTION, WORKSPACE, VALUES, VALID, SIDE, BLOCKS = SIDE + DD_SIDES_MOST };

/*
 * `size` bytes, 16-byte aligned, with nothing behind them that may be touched. Kept from input to input: fresh memory
 * of a coder's size would cost more than decoding does.
 */
static inline void *block(unsigned which, size_t size)
{
	static struct {
		uint8_t *at;
		size_t room;
	} kept[BLOCKS];

	if (kept[which].room < size + 16) {
		ASAN_UNPOISON_MEMORY_REGION(kept[which].at, kept[which].room);
		free(kept[which].at);
		kept[which].room = (size * 2 + 1024) & ~(size_t)15;
		kept[which].at = aligned_alloc(16, kept[which].room);
		if (kept[which].at == NULL)
			abort();
	}
	ASAN_UNPOISON_MEMORY_REGION(kept[which].at, kept[which].room);
	ASAN_POISON_MEMORY_REGION(kept[which].at + size, kept[which].room - size);
	FORGET(kept[which].at, size);
	return kept[which].at;
}

static inline void put_le32(uint8_t *at, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

/* `size` bytes and, behind them, the checksum that makes them whole. */
static inline uint8_t *with_checksum(unsigned which, const uint8_t *data, size_t size)
{
	uint8_t *bytes = block(which, size + 4);

	memcpy(bytes, data, size);
	put_le32(bytes + size, dd_crc32c(0, bytes, size));
	return bytes;
}

/* `size` bytes: the `len` > 0 ones given, over and over. */
static inline uint8_t *repeated(unsigned which, const uint8_t *data, size_t len, size_t size)
{
	uint8_t *bytes = block(which, size);
	size_t done = size < len ? size : len;

	memcpy(bytes, data, done);
	for (size_t more; done < size; done += more) {
		more = size - done < done ? size - done : done;
		memcpy(bytes + done, bytes, more);
	}
	return bytes;
}

/* What was decoded is looked at: a sanitizer that tracks initialisation complains of holes. */
static inline void look_at(const void *bytes, size_t size)
{
	static volatile unsigned odd;

	if (dd_crc32c(0, bytes, size) & 1)
		odd++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
