/* Fields of bits, least significant first: a checked reader that goes on with zeros, and a writer. */
#ifndef DD_BITS_H
#define DD_BITS_H

#include "bytes.h"

typedef struct {
	const uint8_t *p, *end;
	uint64_t at; /* in bits */
} dd_bit_reader;

/* The next 57 bits or more. */
static inline uint64_t dd_bits_peek(const dd_bit_reader *r)
{
	uint64_t past = r->at >> 3, there = (uint64_t)(r->end - r->p), v = 0;

	if (there >= past + 8)
		v = dd_load_le64(r->p + past);
	else
		for (uint64_t i = past; i < there; i++)
			v |= (uint64_t)r->p[i] << (8 * (i - past));
	return v >> (r->at & 7);
}

/* `bits` <= 57 */
static inline uint64_t dd_bits_get(dd_bit_reader *r, unsigned bits)
{
	uint64_t v = dd_bits_peek(r) & ((1ull << bits) - 1);

	r->at += bits;
	return v;
}

/* `bits` <= 64 */
static inline uint64_t dd_bits_get_wide(dd_bit_reader *r, unsigned bits)
{
	uint64_t low = dd_bits_get(r, bits < 32 ? bits : 32);

	return bits > 32 ? low | dd_bits_get(r, bits - 32) << 32 : low;
}

typedef struct {
	dd_writer *out;
	uint64_t held;
	unsigned count; /* bits held, below 32 between calls */
} dd_bit_writer;

/* `bits` <= 32, nothing above them set */
static inline void dd_bits_put(dd_bit_writer *w, uint64_t v, unsigned bits)
{
	w->held |= v << w->count;
	w->count += bits;
	if (w->count >= 32) {
		dd_put_le(w->out, w->held & UINT32_MAX, 4);
		w->held >>= 32;
		w->count -= 32;
	}
}

/* `bits` <= 64 */
static inline void dd_bits_put_wide(dd_bit_writer *w, uint64_t v, unsigned bits)
{
	dd_bits_put(w, v & UINT32_MAX & ((1ull << (bits < 32 ? bits : 32)) - 1), bits < 32 ? bits : 32);
	if (bits > 32)
		dd_bits_put(w, v >> 32, bits - 32);
}

/* The last bits, and zeros up to a whole byte. */
static inline void dd_bits_flush(dd_bit_writer *w)
{
	dd_put_le(w->out, w->held, (w->count + 7) / 8);
	w->held = 0;
	w->count = 0;
}

#endif
