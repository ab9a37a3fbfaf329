/* The one checked reader (and writer) of stored bytes: past the end it reads zeros and remembers that it did. */
#ifndef DD_BYTES_H
#define DD_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define DD_INLINE static inline __attribute__((always_inline))

typedef struct {
	const uint8_t *p, *end;
	bool bad;
} dd_reader;

static inline uint8_t dd_get_u8(dd_reader *r)
{
	if (r->p == r->end) {
		r->bad = true;
		return 0;
	}
	return *r->p++;
}

static inline uint64_t dd_get_le(dd_reader *r, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)dd_get_u8(r) << (8 * i);
	return v;
}

/* Two bytes, wherever they lie. */
static inline uint32_t dd_load_le16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap16(v);
#endif
	return v;
}

/* Eight bytes, wherever they lie. */
static inline uint64_t dd_load_le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

/* LEB128, at most ten bytes and canonical: an overlong or overflowing one is bad. */
static inline uint64_t dd_get_varint(dd_reader *r)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t b = dd_get_u8(r);

		if (shift == 63 && b > 1)
			break;
		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80)) {
			if (b == 0 && shift > 0)
				break;
			return v;
		}
	}
	r->bad = true;
	return 0;
}

static inline int64_t dd_unzigzag(uint64_t v)
{
	return (int64_t)((v >> 1) ^ (0 - (v & 1)));
}

static inline uint64_t dd_zigzag(int64_t v)
{
	return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static inline int64_t dd_get_zigzag(dd_reader *r)
{
	return dd_unzigzag(dd_get_varint(r));
}

static inline double dd_get_f64(dd_reader *r)
{
	uint64_t bits = dd_get_le(r, 8);
	double v;

	memcpy(&v, &bits, sizeof v);
	return v;
}

typedef struct {
	uint8_t *p, *end;
	bool full;
} dd_writer;

static inline void dd_put_u8(dd_writer *w, uint8_t v)
{
	if (w->p == w->end)
		w->full = true;
	else
		*w->p++ = v;
}

static inline void dd_put_le(dd_writer *w, uint64_t v, unsigned bytes)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	if ((size_t)(w->end - w->p) >= bytes) {
		memcpy(w->p, &v, bytes);
		w->p += bytes;
		return;
	}
#endif
	for (unsigned i = 0; i < bytes; i++)
		dd_put_u8(w, (uint8_t)(v >> (8 * i)));
}

static inline void dd_put_varint(dd_writer *w, uint64_t v)
{
	while (v >= 0x80) {
		dd_put_u8(w, (uint8_t)(v | 0x80));
		v >>= 7;
	}
	dd_put_u8(w, (uint8_t)v);
}

static inline void dd_put_zigzag(dd_writer *w, int64_t v)
{
	dd_put_varint(w, dd_zigzag(v));
}

static inline void dd_put_f64(dd_writer *w, double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof bits);
	dd_put_le(w, bits, 8);
}

#endif
