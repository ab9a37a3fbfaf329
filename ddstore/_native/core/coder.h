/*
 * What an entropy coder is: it turns a payload into one word per row, and back.
 *
 * A row's word is its lattice index (class DD_ROW_VALUE), the column type's own bits (DD_ROW_EXACT, and every value
 * in raw mode), or 0. Turning words into values is reconstruct.c's work, the same for all coders.
 *
 * A new coder is one file: its constant of type dd_coder, declared below and listed in coder.c under its number.
 */
#ifndef DD_CODER_H
#define DD_CODER_H

#include "column.h"

#define DD_BLOCK 512u /* rows decoded at a time: their words stay in the first-level cache */

/* Rows to encode: one word and class each; `class` is NULL when all are values. */
typedef struct {
	const uint64_t *index;	    /* lattice indices, where the class is DD_ROW_VALUE; NULL in raw mode */
	const uint64_t *bits;	    /* the type's own bits, for DD_ROW_EXACT and raw mode; NULL if there are neither */
	const uint8_t *class;
	const int32_t *predictions; /* mode btae, otherwise NULL */
} dd_rows;

typedef struct {
	/* Bytes of state, 16-byte aligned, that decoding and encoding such a column need; bounded by c->n. */
	size_t (*workspace)(const dd_column *c);
	/* Prepare to decode a payload. Damage that shows only here is DD_CORRUPT. */
	dd_status (*open)(const dd_column *c, const uint8_t *payload, const uint8_t *end, void *state, dd_error *err);
	/*
	 * The next `rows` rows, at most DD_BLOCK, in order: any payload gives some words within the time that the rows
	 * take. `class` is written only for columns of DD_FLAG_EXCEPTIONS. `predictions` are those rows' own, or NULL.
	 */
	void (*decode)(const dd_column *c, void *state, const int32_t *predictions, uint32_t rows, uint64_t *word,
		       uint8_t *class);
	/* Append the payload of all c->n rows; a writer that fills up is the caller's to notice. NULL: this build lacks it. */
	void (*encode)(const dd_column *c, const dd_rows *rows, void *state, dd_writer *w);
} dd_coder;

/* Numbers of the format. */
enum { DD_CODER_MIX = 0, DD_CODER_RANS = 1, DD_CODER_CM = 2, DD_CODER_BSC = 3, DD_CODER_NET = 4 };

/* dd_coder_bsc allocates, which no other part of the core does: libbsc cannot be kept from it. */
extern const dd_coder dd_coder_mix, dd_coder_rans, dd_coder_cm, dd_coder_bsc, dd_coder_net, dd_coder_levels;

#define DD_BSC_ABSENT \
	"it is coded by libbsc, which this build has not: see \"Segments of libbsc\" in docs/operations.md"
#define DD_BSC_UNTRUSTED "it is coded by libbsc, which decodes only bytes that are trusted"

/* NULL for a number that this build does not know. */
const dd_coder *dd_coder_numbered(unsigned number);

/* The one of a column: coders rans and net have others for mode interp. */
const dd_coder *dd_coder_of(const dd_column *c);

#endif
