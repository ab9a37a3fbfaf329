/* A column's header: what stands before the payload, shared by every coder, decoder and encoder. */
#ifndef DD_COLUMN_H
#define DD_COLUMN_H

#include "bytes.h"
#include "ddstore.h"

#define DD_WHOLE 6755399441055744.0 /* 2^52 + 2^51: added to a double below 2^51, it leaves no fraction */

/* Which reconstruction values are legal. */
typedef enum {
	DD_LATTICE_GRID = 0,	/* (q * mul + add) / den, rounded once to the column's type */
	DD_LATTICE_STEP = 1,	/* q * step + offset, in doubles, then the column's type */
	DD_LATTICE_ORDINAL = 2, /* the (q * mul + add)-th number of the column's floating-point type */
	DD_LATTICE_LEVELS = 3	/* the q-th of a list of numbers of the column's floating-point type */
} dd_lattice_kind;

#define DD_MAX_LEVELS 4096u

/* What a lattice index is coded around. */
typedef enum { DD_CENTRE_LAST = 0, DD_CENTRE_LINEAR = 1, DD_CENTRE_MODEL = 2, DD_CENTRE_LEVEL = 3 } dd_centre;

/* What happened to a row; everything but a value is an exception and leaves the history of indices alone. */
typedef enum {
	DD_ROW_VALUE = 0,	  /* on the lattice */
	DD_ROW_NULL = 1,
	DD_ROW_NAN = 2,		  /* the canonical quiet NaN */
	DD_ROW_NEGATIVE_ZERO = 3,
	DD_ROW_EXACT = 4	  /* the column type's own bits follow */
} dd_row_class;
#define DD_ROW_CLASSES 5u

enum {
	DD_FLAG_EXCEPTIONS = 1, /* some rows are not simply values */
	DD_FLAG_NULLS = 2,	/* some of them are NULL */
	DD_FLAG_EXACT = 4,	/* lossless by construction */
	DD_FLAG_VIA_FLOAT32 = 8, /* grid values are rounded to float32 on their way to float64 */
	DD_FLAG_SIDES = 16,	/* coded on the condition of other columns */
	DD_FLAG_SHORTEST = 32,	/* that float32 is printed, as shortly as it can be, and parsed as a float64 */
	DD_FLAG_SHAPES = 64,	/* coder cm, rows in their order, no other columns: contexts of the last rows' shape */
	DD_FLAG_MATCHES = 128	/* coder cm, rows in their order: what followed when the last rows came before */
};

#define DD_KIND_CASCADE 16u /* in `kind`, beside lattice and centre: see `cascade` */

/* Another column of the segment, as whole numbers: round((value - offset) * scale). */
typedef struct {
	uint32_t crc; /* the last four bytes of that column name it */
	double scale, offset;
	unsigned low;		/* bits of its differences that carry little */
	dd_side given;		/* what the caller holds of it */
} dd_side_use;

enum { DD_INTERP_SETS = 5, DD_INTERP_WEIGHTS = 6, DD_INTERP_STRIDE_MOST = 16 };

typedef struct {
	dd_type type;
	dd_mode mode;
	unsigned coder; /* a number of coder.h */
	unsigned flags;
	uint32_t n, escapes;
	/* lattice, for every mode but raw */
	dd_lattice_kind lattice;
	int64_t mul, add;
	uint64_t den;
	double step, offset;
	uint32_t levels;	 /* how many; their ordinals stand in the header */
	const uint8_t *level_at; /* decoder: where */
	const int64_t *level;	 /* the ordinals, ascending */
	int64_t first, drift;
	dd_centre centre;
	bool cascade; /* coder cm in mode adaptive: densities around a cascade of filters, too */
	unsigned low;
	unsigned modelled; /* encoder: how many bits of an average residual are above those */
	unsigned deep;	   /* encoder: coder cm models at most so many of the low bits */
	unsigned plain; /* coder cm: of the low bits, how many are at even odds */
	unsigned sides;
	dd_side_use side[DD_SIDES_MOST];
	/* interp */
	uint64_t width; /* legal points on end of the fine lattice */
	unsigned stride; /* log2 of the distance of anchors */
	int8_t weight[DD_INTERP_SETS][DD_INTERP_WEIGHTS];
	bool weighed; /* encoder only: these are the weights to use */
	/* BTAE: index = base + round(prediction * scale / 2^32) */
	uint32_t model_crc, latents_crc;
	int64_t base, scale;
	/* coder net in mode lattice: how many standard deviations an index is; `base` is that of the mean */
	float unit;
	const struct dd_net *net;
	const volatile int *stop; /* as in dd_error; decoding only */
} dd_column;

#define DD_SCALE_MAX ((int64_t)1 << 42) /* prediction < 2^20 times scale stays inside int64 */

static inline bool dd_stopped(const dd_column *c)
{
	return c->stop != NULL && *c->stop != 0;
}

static inline size_t dd_align(size_t size)
{
	return (size + 15) & ~(size_t)15;
}

static inline unsigned dd_type_width(dd_type type)
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

static inline uint32_t dd_bit_length(uint64_t v)
{
	return v == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(v);
}

static inline uint64_t dd_model_index(const dd_column *c, int32_t prediction)
{
	return (uint64_t)c->base + (uint64_t)((prediction * c->scale + ((int64_t)1 << 31)) >> 32);
}

/* What the next index is coded around, given the last two (both c->first at the start). */
DD_INLINE uint64_t dd_centre_index(dd_centre centre, uint64_t drift, uint64_t q1, uint64_t q2, uint64_t model)
{
	switch (centre) {
	case DD_CENTRE_LAST:
		return q1 + drift;
	case DD_CENTRE_LINEAR:
		return q1 + (q1 - q2);
	case DD_CENTRE_LEVEL:
		return drift;
	default:
		return model;
	}
}

static inline dd_status dd_fail(dd_error *err, dd_status status, const char *what)
{
	if (err != NULL) {
		err->status = status;
		err->what = what;
	}
	return status;
}

/* sides.c */
int64_t dd_side_index(const dd_side_use *side, uint32_t row);
/* Take the caller's columns, which have to be the ones that the header names. */
dd_status dd_sides_take(dd_column *c, const dd_side *given, unsigned count, dd_error *err);

/* header.c. Parsing leaves the reader at the payload, its end before the checksum, which it has verified. */
dd_status dd_header_parse(const uint8_t *bytes, size_t len, dd_column *c, dd_reader *r, dd_error *err);
/* The same of bytes that may end anywhere behind the header: no checksum is looked at. */
dd_status dd_header_read(const uint8_t *bytes, size_t len, dd_column *c, dd_reader *r, dd_error *err);
bool dd_header_fits(const dd_column *c); /* does the coder code this mode? */
bool dd_header_impossible(const dd_column *c); /* of the parameters of coder cm and of mode interp */
void dd_header_write(const dd_column *c, dd_writer *w);
void dd_header_levels(dd_column *c, int64_t *level); /* list the levels of a parsed header there */

/* shortest.c */
double dd_shortest(float y);

/* reconstruct.c. Words of `rows` rows (coder.h) to elements of the column's type; only DD_ROW_VALUE ones matter. */
void dd_reconstruct(const dd_column *c, const uint64_t *word, uint32_t rows, void *values);
/* The rows that are no values, put in their places, and the validity of all (`valid` may be NULL without NULLs). */
void dd_reconstruct_exceptions(const dd_column *c, const uint64_t *word, const uint8_t *class, uint32_t rows,
			       void *values, uint8_t *valid);

/* column.c. Bytes that decoding or encoding needs: the coder's own, a block of rows, levels, predictions. */
size_t dd_column_workspace(const dd_column *c, const dd_model *model);

/* Take the net that coder net needs in the column's mode; `net` has to live as long as the column is decoded or encoded. */
dd_status dd_column_net(dd_column *c, const dd_model *model, struct dd_net *net, dd_error *err);

/* Predictions of the model for the first `rows` rows, as int32 in the workspace. */
dd_status dd_column_predict(const dd_column *c, const uint8_t *latents, size_t latents_len, const dd_model *model,
			    uint32_t rows, uint8_t *workspace, const int32_t **predictions, dd_error *err);

#endif
