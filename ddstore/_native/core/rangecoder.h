/*
 * Binary range coder (the LZMA construction: 32-bit range, carry by cache): 16-bit probabilities, and plain
 * bits at even odds. A decoder never reads past its end: it goes on with zeros, so the encoder drops the
 * zeros at its end and damaged bytes decode to something wrong but bounded.
 */
#ifndef DD_RANGECODER_H
#define DD_RANGECODER_H

#include "bytes.h"

#define DD_RC_TOP (1u << 24)

typedef struct {
	dd_writer out;
	uint64_t low;
	uint32_t range;
	uint32_t pending; /* bytes held back until a carry can no longer reach them */
	uint8_t cache;
	bool first;
} dd_rc_encoder;

static inline void dd_rc_encoder_start(dd_rc_encoder *rc, dd_writer out)
{
	*rc = (dd_rc_encoder){.out = out, .range = UINT32_MAX, .first = true};
}

static inline void dd_rc_shift_low(dd_rc_encoder *rc)
{
	if (rc->low < 0xff000000u || rc->low > UINT32_MAX) {
		uint8_t carry = (uint8_t)(rc->low >> 32);

		/* The first byte of this construction is always 0: not written. */
		if (!rc->first)
			dd_put_u8(&rc->out, (uint8_t)(rc->cache + carry));
		for (; rc->pending > 0; rc->pending--)
			dd_put_u8(&rc->out, (uint8_t)(0xff + carry));
		rc->first = false;
		rc->cache = (uint8_t)(rc->low >> 24);
	} else {
		rc->pending++;
	}
	rc->low = (rc->low & 0x00ffffffu) << 8;
}

/* Code `bit`, whose probability of being 1 is p1 / 65536; 0 < p1 < 65536. */
static inline void dd_rc_encode(dd_rc_encoder *rc, uint32_t p1, unsigned bit)
{
	uint32_t bound = (rc->range >> 16) * p1;

	if (bit) {
		rc->range = bound;
	} else {
		rc->low += bound;
		rc->range -= bound;
	}
	while (rc->range < DD_RC_TOP) {
		rc->range <<= 8;
		dd_rc_shift_low(rc);
	}
}

static inline void dd_rc_encode_bits(dd_rc_encoder *rc, uint64_t value, unsigned bits)
{
	while (bits > 0) {
		unsigned take = bits < 8 ? bits : 8;

		bits -= take;
		rc->range >>= take;
		rc->low += (uint64_t)rc->range * ((value >> bits) & ((1u << take) - 1));
		while (rc->range < DD_RC_TOP) {
			rc->range <<= 8;
			dd_rc_shift_low(rc);
		}
	}
}

/* Flush; returns the writer, trailing zeros dropped down to `floor`. */
static inline dd_writer dd_rc_finish(dd_rc_encoder *rc, uint8_t *floor)
{
	for (int i = 0; i < 5; i++)
		dd_rc_shift_low(rc);
	while (!rc->out.full && rc->out.p > floor && rc->out.p[-1] == 0)
		rc->out.p--;
	return rc->out;
}

typedef struct {
	const uint8_t *p, *end;
	uint32_t range, code;
} dd_rc_decoder;

static inline uint32_t dd_rc_next(dd_rc_decoder *rc)
{
	return rc->p < rc->end ? *rc->p++ : 0;
}

static inline void dd_rc_decoder_start(dd_rc_decoder *rc, const uint8_t *p, const uint8_t *end)
{
	*rc = (dd_rc_decoder){.p = p, .end = end, .range = UINT32_MAX};
	for (int i = 0; i < 4; i++)
		rc->code = rc->code << 8 | dd_rc_next(rc);
}

static inline void dd_rc_normalise(dd_rc_decoder *rc)
{
	while (rc->range < DD_RC_TOP) {
		rc->range <<= 8;
		rc->code = rc->code << 8 | dd_rc_next(rc);
	}
}

static inline unsigned dd_rc_decode(dd_rc_decoder *rc, uint32_t p1)
{
	uint32_t bound = (rc->range >> 16) * p1;
	unsigned bit = rc->code < bound;

	if (bit) {
		rc->range = bound;
	} else {
		rc->code -= bound;
		rc->range -= bound;
	}
	dd_rc_normalise(rc);
	return bit;
}

static inline uint64_t dd_rc_decode_bits(dd_rc_decoder *rc, unsigned bits)
{
	uint64_t value = 0;

	while (bits > 0) {
		unsigned take = bits < 8 ? bits : 8;
		uint32_t mask = (1u << take) - 1, v;

		bits -= take;
		rc->range >>= take;
		v = rc->code / rc->range;
		if (v > mask) /* only damaged bytes get here */
			v = mask;
		rc->code -= v * rc->range;
		value = value << take | v;
		dd_rc_normalise(rc);
	}
	return value;
}

/* Where the bits go to or come from: code that mirrors itself takes both, and one side compiles away. */
typedef struct {
	dd_rc_encoder enc;
	dd_rc_decoder dec;
} dd_rc_io;

/* A decision whose probability of being 1 is p1 / 65536; returns the bit. */
DD_INLINE unsigned dd_rc_code(dd_rc_io *io, bool decoding, uint32_t p1, unsigned bit)
{
	if (decoding)
		return dd_rc_decode(&io->dec, p1);
	dd_rc_encode(&io->enc, p1, bit);
	return bit;
}

/* The low `bits` bits of a value at even odds, fewer than 64; returns them. */
DD_INLINE uint64_t dd_rc_code_bits(dd_rc_io *io, bool decoding, uint64_t value, unsigned bits)
{
	if (decoding)
		return dd_rc_decode_bits(&io->dec, bits);
	value &= ((uint64_t)1 << bits) - 1;
	dd_rc_encode_bits(&io->enc, value, bits);
	return value;
}

#endif
