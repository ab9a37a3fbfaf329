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

#endif
