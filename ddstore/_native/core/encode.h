/* The encoder of one column: lattice indices in, bytes out. Choosing the lattice is the caller's work. */
#ifndef DD_ENCODE_H
#define DD_ENCODE_H

#include "coder.h"

#define DD_LOW_AUTO 255u

/*
 * Encode n = c->n rows. `index` holds each row's lattice index; `class` (or NULL: all values) its dd_row_class;
 * or, in mode interp, the highest point of the fine lattice that is legal for it (as are width - 1 points below);
 * `bits` the column type's own bits, needed for rows of class DD_ROW_EXACT and, in raw mode, for all values.
 * Fills c->first, c->low (when DD_LOW_AUTO, by c->modelled), c->plain and c->escapes. DD_NOSPACE when the result would exceed `capacity`.
 */
size_t dd_encode_workspace(const dd_column *c, const dd_model *model); /* bytes, 16-byte aligned */
dd_status dd_column_encode(dd_column *c, const uint64_t *index, const uint8_t *class, const uint64_t *bits,
			   const uint8_t *latents, size_t latents_len, const dd_model *model, uint8_t *out,
			   size_t capacity, size_t *len, void *workspace, size_t workspace_len, dd_error *err);

/* interp_fit.c: fill c->weight, for rows whose index is their highest legal point, in so much memory. */
size_t dd_interp_fit_size(const dd_column *c);
void dd_interp_fit(dd_column *c, const dd_rows *rows, void *memory);

#endif
