/* Encoder only: what values are, which bins they fall into, and whether what is read back keeps the bound. */
#ifndef DD_QUANTIZE_H
#define DD_QUANTIZE_H

#include "column.h"

/* Bins of a lattice, in terms of where values lie rather than of what is read back. */
typedef struct {
	dd_lattice_kind kind; /* not levels: those are searched for */
	int64_t low, width;   /* grid: the first numerator of bin 0, numerators per bin; ordinal: ordinals likewise */
	double den;	      /* grid of a float type */
	double step, offset;  /* step */
} dd_bins;

/* The largest magnitude of n floats that are not NaN. */
double dd_largest(dd_type type, const void *values, uint32_t n);

/* The index of the bin that holds each value: n of them. */
void dd_quantize(const dd_bins *bins, dd_type type, const void *values, uint32_t n, uint64_t *index);

/*
 * Where |x - y| <= allowed fails, in exact arithmetic: `beyond` gets n bytes, 1 there; returns how many. `allowed` has
 * one element, or n if `each`. Values are finite; what is read back and is not finite fails.
 */
uint32_t dd_violations(dd_type type, const void *values, const void *read, uint32_t n, const double *allowed, bool each,
		       uint8_t *beyond);

/*
 * The dd_row_class of each value: DD_ROW_VALUE where a lattice may hold it (finite, normal or 0.0). `valid` may be NULL.
 * Returns how many are not DD_ROW_VALUE.
 */
uint32_t dd_classify(dd_type type, const void *values, const uint8_t *valid, uint32_t n, uint8_t *class);

/* A sum of finite doubles, exact: limbs of 32 bits and room for carries, in units of 2^-1074. */
#define DD_SUM_LIMBS 68u
typedef struct {
	int64_t limb[DD_SUM_LIMBS];
} dd_sum;

/* Add all finite values; returns how many were not. */
uint32_t dd_sum_add(dd_sum *sum, dd_type type, const void *values, uint32_t n);

/* n times the order-0 entropy of the differences of neighbours, in bits: how rough a path is. */
float dd_roughness(const uint64_t *index, uint32_t n);

/* That of the path of the whole numbers nearest to places - shift, which are below 2^51. */
float dd_phase_roughness(const double *place, double shift, uint32_t n);

/*
 * Of rows whose index is not the last one, which share coder cm would foretell by matches, less those that it would foretell
 * wrongly: of all, or only where many on end were the same, which ever is more.
 */
size_t dd_foretold_size(uint32_t n); /* of the memory */
float dd_foretold(const uint64_t *index, uint32_t n, void *memory);

/* The decimal or binary grid that floats lie on: whole numbers / den, perhaps rounded to float32 on the way. */
typedef struct {
	uint32_t hits; /* values on it; 0: there is no such grid */
	uint64_t den;
	bool via_float32;
	int64_t origin, pitch; /* of the numerators of those on it: one of them, and what divides the distances from it */
} dd_grid;

/*
 * The coarsest grid (in the order of trial) that holds every value, and the coarsest that holds all but a fiftieth. Values
 * are finite and not -0.0, n > 0.
 */
void dd_find_grids(dd_type type, const void *values, uint32_t n, dd_grid *all, dd_grid *most);

/* Origin and pitch of integers, whose den is 1. */
void dd_integer_grid(dd_type type, const void *values, uint32_t n, dd_grid *grid);

#endif
