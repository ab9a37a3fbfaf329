/* Classes of rows as runs: how coders tell them that do not code them row by row. */
#ifndef DD_RUNS_H
#define DD_RUNS_H

#include "column.h"

/* Rows on end of one class. */
static inline uint64_t dd_get_run(dd_reader *r, unsigned *class)
{
	uint64_t run = dd_get_varint(r);

	*class = (unsigned)(run & 7);
	return (run >> 3) + 1;
}

static inline void dd_put_run(dd_writer *w, uint32_t length, unsigned class)
{
	dd_put_varint(w, (uint64_t)(length - 1) << 3 | class);
}

/* How many rows of each class; false when the runs are not those of n rows. */
static inline bool dd_count_runs(const dd_column *c, dd_reader *r, uint32_t count[8])
{
	uint64_t length;
	unsigned class;

	for (uint32_t rows = 0; rows < c->n; rows += (uint32_t)length) {
		length = dd_get_run(r, &class);
		if (r->bad || class >= DD_ROW_CLASSES || length > c->n - rows)
			return false;
		count[class] += (uint32_t)length;
	}
	return true;
}

/* The rows of a column, class by class, as they are read. */
typedef struct {
	dd_reader runs; /* what is left of them */
	uint32_t left;	/* rows of the current one */
	unsigned class; /* of its rows */
	const uint8_t *exact; /* of the next row that has one */
} dd_runs;

/* A little-endian number of so many bytes. */
static inline uint64_t dd_take_le(const uint8_t **from, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned b = 0; b < bytes; b++)
		v |= (uint64_t)(*from)[b] << (8 * b);
	*from += bytes;
	return v;
}

/* Count the rows of each class, and find the exact ones, which come behind the runs: `r` moves on to what is behind both. */
static inline dd_status dd_runs_open(dd_runs *s, const dd_column *c, dd_reader *r, uint32_t count[8], dd_error *err)
{
	size_t size = (size_t)c->escapes * dd_type_width(c->type);

	*s = (dd_runs){.runs = *r, .class = DD_ROW_VALUE};
	if (!(c->flags & DD_FLAG_EXCEPTIONS))
		s->left = count[DD_ROW_VALUE] = c->n;
	else if (!dd_count_runs(c, r, count))
		return dd_fail(err, DD_CORRUPT, "impossible runs of rows");
	if (count[DD_ROW_EXACT] != c->escapes || (size_t)(r->end - r->p) < size)
		return dd_fail(err, DD_CORRUPT, "impossible number of exact rows");
	s->exact = r->p;
	r->p += size;
	return DD_OK;
}

/* The class of the next row. */
static inline unsigned dd_runs_next(dd_runs *s)
{
	if (s->left == 0)
		s->left = (uint32_t)dd_get_run(&s->runs, &s->class);
	s->left--;
	return s->class;
}

/* The same, written: runs, then the bits of exact rows. */
static inline void dd_put_runs(const dd_column *c, const dd_rows *rows, dd_writer *w)
{
	uint32_t from = 0;

	if (rows->class == NULL)
		return;
	for (uint32_t i = 1; i <= c->n; i++)
		if (i == c->n || rows->class[i] != rows->class[from]) {
			dd_put_run(w, i - from, rows->class[from]);
			from = i;
		}
	for (uint32_t i = 0; i < c->n; i++)
		if (rows->class[i] == DD_ROW_EXACT)
			dd_put_le(w, rows->bits[i], dd_type_width(c->type));
}

#endif
