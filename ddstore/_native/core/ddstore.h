/*
 * The public face of the DDStore core: decode and encode one column of one segment.
 *
 * C11, no dependencies, no globals, no allocation: the caller owns all memory. Every decoder is total: any
 * bytes either decode or return DD_CORRUPT, within the declared count and the given workspace.
 * The byte format is docs/format.md.
 */
#ifndef DDSTORE_H
#define DDSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DD_FORMAT_VERSION 1u
#define DD_MAX_ROWS 1048576u /* rows in one segment, at most */

typedef enum {
	DD_OK = 0,
	DD_CORRUPT = 1,	  /* the bytes are damaged, or are not what the caller says they are */
	DD_UNSUPPORTED = 2, /* a format version, mode or coder this build does not know */
	DD_NOSPACE = 3,	  /* the encoder's output buffer is too small; libbsc finds no memory */
	DD_INVALID = 4,	  /* the caller broke the contract (type, count, missing model) */
	DD_STOPPED = 5	  /* the caller asked to stop: what was decoded is worth nothing */
} dd_status;

typedef enum { DD_INT16 = 1, DD_INT32 = 2, DD_INT64 = 3, DD_FLOAT32 = 4, DD_FLOAT64 = 5 } dd_type;

typedef enum {
	DD_MODE_RAW = 0,     /* the column type's own bits */
	DD_MODE_LATTICE = 1, /* lattice indices coded around the last ones */
	DD_MODE_BTAE = 2,    /* lattice indices coded around a learned prediction */
	DD_MODE_LINEAR = 3,  /* lattice indices advance by a constant: nothing more is stored */
	DD_MODE_INTERP = 4,  /* fine lattice, coarse to fine, predicted from both sides */
	DD_MODE_ADAPTIVE = 5 /* lattice indices coded around what adaptive filters predict */
} dd_mode;

/* What happened, for a person; static text only, so nothing to free. */
typedef struct {
	dd_status status;
	const char *what;
	/* The caller's own, NULL if it has none: decoding ends soon after this is not 0, and must find it so to its end. */
	const volatile int *stop;
} dd_error;

/* A checked model: it points into the bytes given, which must outlive it. */
typedef struct {
	const uint8_t *section; /* BTAE, DNET or INET */
	size_t section_len;
	uint32_t crc; /* CRC32C of the section: a segment names the model it needs by it */
} dd_model;

dd_status dd_model_open(const uint8_t *bytes, size_t len, dd_model *model, dd_error *err);

#define DD_SIDES_MOST 3u

/*
 * Another column of the same segment row, decoded, on whose condition a column was coded: all n values (0 where NULL).
 * A column is named by its checksum, the last four bytes of its residual (little-endian).
 */
typedef struct {
	uint32_t crc;
	dd_type type;
	const void *values;
} dd_side;

/* What a column's residual bytes say about themselves. */
typedef struct {
	dd_type type;
	dd_mode mode;
	unsigned coder;   /* which entropy coder: a number of docs/format.md */
	uint32_t n;	      /* rows */
	bool has_invalid; /* some rows are NULL */
	bool needs_model;
	uint32_t model_crc;
	uint32_t escapes; /* rows stored bit-exact beside the lattice */
	bool exact;	      /* every row comes back bit-exact by construction (lossless) */
	unsigned sides;	  /* how many other columns decoding needs, and which */
	uint32_t side_crc[DD_SIDES_MOST];
	size_t workspace; /* bytes dd_column_decode needs; bounded by n and constants */
} dd_column_info;

dd_status dd_column_peek(const uint8_t *residual, size_t residual_len, const dd_model *model_or_null,
			 dd_column_info *info, dd_error *err);

/*
 * Decode the first `want` rows (want <= n; n must equal the segment row's count) of a column into `values`
 * (want elements of `type`; 0 where NULL) and `valid` (want bytes, 1 = not NULL; may be NULL only when
 * !has_invalid). `latents` may be NULL when empty. `sides` are the info's own, in its order. `workspace` is 16-byte
 * aligned.
 */
dd_status dd_column_decode(const uint8_t *residual, size_t residual_len, const uint8_t *latents, size_t latents_len,
			   const dd_model *model_or_null, const dd_side *sides, unsigned n_sides, dd_type type, uint32_t n,
			   uint32_t want, void *values, uint8_t *valid, void *workspace, size_t workspace_len,
			   dd_error *err);

/*
 * The same for bytes of which the caller knows that DDStore wrote them: coder 3, libbsc, is decoded, too. It may damage
 * memory when they are anything else, and checksums show accidents only. dd_column_decode refuses it: DD_UNSUPPORTED.
 */
dd_status dd_column_decode_trusting(const uint8_t *residual, size_t residual_len, const uint8_t *latents,
				    size_t latents_len, const dd_model *model_or_null, const dd_side *sides,
				    unsigned n_sides, dd_type type, uint32_t n, uint32_t want, void *values,
				    uint8_t *valid, void *workspace, size_t workspace_len, dd_error *err);

/*
 * Timestamps (any int64 unit) are a lossless DD_INT64 column without NULLs: decode the first `want` of n.
 * The workspace is what dd_column_peek says.
 */
dd_status dd_times_decode(const uint8_t *bytes, size_t len, uint32_t n, uint32_t want, int64_t *time, void *workspace,
			  size_t workspace_len, dd_error *err);

uint32_t dd_crc32c(uint32_t crc, const uint8_t *bytes, size_t len);

#endif
