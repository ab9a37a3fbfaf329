/*
 * The BTAE's decoder in integers: latent bits and shared weights in, predicted windows out.
 *
 * What it computes is specified in docs/format.md (BTAE section) and is, bit for bit, what ddstore/model/btae.py
 * simulates when it trains. Any section that dd_btae_open accepts decodes without overflow, whatever its weights say.
 */
#ifndef DD_BTAE_H
#define DD_BTAE_H

#include "ddstore.h"

#define DD_BTAE_MAX_WINDOW 1024u
#define DD_BTAE_MAX_LATENTS 256u
#define DD_BTAE_MAX_TOKENS 256u
#define DD_BTAE_MAX_LAYERS 4u
#define DD_BTAE_FRACTION_BITS 12	   /* of a prediction */
#define DD_BTAE_LIMIT (INT32_C(1) << 20) /* |prediction| is at most this: 256 standard deviations */

/* A section checked in place: it points into the bytes given, which must outlive it. */
typedef struct {
	const uint8_t *tensors;
	uint32_t window, latents, patch, tokens, layers;
	uint64_t mean_bits, std_bits; /* IEEE doubles; mean is finite, std finite and above zero */
} dd_btae;

/* Accepts exactly the sections that are whole: right magic, version, sizes, shifts and length. */
dd_status dd_btae_open(const uint8_t *bytes, size_t len, dd_btae *btae, dd_error *err);

static inline uint32_t dd_btae_window(const dd_btae *btae)
{
	return btae->window;
}

static inline uint32_t dd_btae_latents(const dd_btae *btae)
{
	return btae->latents;
}

/* Bytes of packed latents per window: bit i is bit 7 - i % 8 of byte i / 8; padding bits are ignored. */
static inline size_t dd_btae_latent_bytes(const dd_btae *btae)
{
	return (btae->latents + 7u) / 8u;
}

static inline uint64_t dd_btae_mean_bits(const dd_btae *btae)
{
	return btae->mean_bits;
}

static inline uint64_t dd_btae_std_bits(const dd_btae *btae)
{
	return btae->std_bits;
}

/* Bytes of scratch that dd_btae_predict needs; at most DD_BTAE_MAX_SCRATCH. */
#define DD_BTAE_MAX_SCRATCH 524288u
size_t dd_btae_scratch(const dd_btae *btae);

/*
 * Predict n_windows windows: `latents` holds n_windows * dd_btae_latent_bytes bytes (may be NULL when that is 0), `out`
 * receives n_windows * window values (x - mean) / std in Q12. `scratch` is 16-byte aligned and is overwritten.
 */
void dd_btae_predict(const dd_btae *btae, const uint8_t *latents, size_t n_windows, int32_t *out, void *scratch);

#endif
