/* A column's header: what stands before the coded residuals, shared by decoder and encoder. */
#ifndef DD_COLUMN_H
#define DD_COLUMN_H

#include "ddstore.h"
#include "residual.h"

/* Which reconstruction values are legal. */
typedef enum {
	DD_LATTICE_GRID = 0,	/* (q * mul + add) / den, rounded once to the column's type */
	DD_LATTICE_STEP = 1,	/* q * step + offset, in doubles, then the column's type */
	DD_LATTICE_ORDINAL = 2, /* the (q * mul + add)-th number of the column's floating-point type */
	DD_LATTICE_LEVELS = 3	/* the q-th of a list of numbers of the column's floating-point type */
} dd_lattice_kind;

#define DD_MAX_LEVELS 4096u

enum {
	DD_FLAG_EXCEPTIONS = 1, /* each row begins with its class */
	DD_FLAG_NULLS = 2,	/* some of them are NULL */
	DD_FLAG_EXACT = 4,	/* lossless by construction */
	DD_FLAG_VIA_FLOAT32 = 8 /* grid values are rounded to float32 on their way to float64 */
};

typedef struct {
	dd_type type;
	dd_mode mode;
	unsigned flags;
	uint32_t n, escapes;
	/* lattice, for every mode but raw */
	dd_lattice_kind lattice;
	int64_t mul, add;
	uint64_t den;
	double step, offset;
	uint32_t levels;	 /* how many; their ordinals stand in the header */
	const uint8_t *level_at; /* decoder: where */
	const int64_t *level;	 /* encoder: the ordinals, ascending */
	int64_t first, drift;
	dd_centre centre;
	unsigned low;
	/* BTAE: index = base + round(prediction * scale / 2^32) */
	uint32_t model_crc, latents_crc;
	int64_t base, scale;
} dd_column;

#define DD_SCALE_MAX ((int64_t)1 << 42) /* prediction < 2^20 times scale stays inside int64 */

static inline size_t dd_align(size_t size)
{
	return (size + 15) & ~(size_t)15;
}

static inline size_t dd_type_width(dd_type type)
{
	switch (type) {
	case DD_INT16:
		return 2;
	case DD_INT32:
	case DD_FLOAT32:
		return 4;
	default:
		return 8;
	}
}

static inline uint64_t dd_model_index(const dd_column *c, int32_t prediction)
{
	return (uint64_t)c->base + (uint64_t)((prediction * c->scale + ((int64_t)1 << 31)) >> 32);
}

static inline dd_status dd_fail(dd_error *err, dd_status status, const char *what)
{
	if (err != NULL)
		*err = (dd_error){status, what};
	return status;
}

/* Workspace: the coder's state, then the levels or (BTAE) predictions and scratch, 16-byte aligned. */
size_t dd_column_workspace(const dd_column *c, const dd_model *model);

/* Predictions of the model for the first `rows` rows, as int32 in the workspace behind `used`. */
dd_status dd_column_predict(const dd_column *c, const uint8_t *latents, size_t latents_len, const dd_model *model,
			    uint32_t rows, uint8_t *workspace, const int32_t **predictions, dd_error *err);

#endif
