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

/*
 * Count the rows of each class, and find the exact ones, which come behind the runs: `r` moves on to what is behind both.
 * `left` is how many rows the first run has, if there are no runs to tell.
 */
static inline dd_status dd_open_runs(const dd_column *c, dd_reader *r, uint32_t count[8], uint32_t *left,
				     const uint8_t **exact, dd_error *err)
{
	size_t size = (size_t)c->escapes * dd_type_width(c->type);

	*left = 0;
	if (!(c->flags & DD_FLAG_EXCEPTIONS))
		*left = count[DD_ROW_VALUE] = c->n;
	else if (!dd_count_runs(c, r, count))
		return dd_fail(err, DD_CORRUPT, "impossible runs of rows");
	if (count[DD_ROW_EXACT] != c->escapes || (size_t)(r->end - r->p) < size)
		return dd_fail(err, DD_CORRUPT, "impossible number of exact rows");
	*exact = r->p;
	r->p += size;
	return DD_OK;
}

#endif
