/*
 * Parallel aggregation: every process aggregates the segments that the scan below lets it claim. What is shared here are
 * the counts for EXPLAIN.
 */
#include "agg.h"

#include "access/parallel.h"
#include "port/atomics.h"

struct DdaggShared {
	pg_atomic_uint64 from_statistics, from_rows, rows;
};

Size
ddagg_estimate_dsm(CustomScanState *node, ParallelContext *context)
{
	return sizeof(DdaggShared);
}

void
ddagg_initialize_dsm(CustomScanState *node, ParallelContext *context, void *coordinate)
{
	DdaggShared *shared = coordinate;

	pg_atomic_init_u64(&shared->from_statistics, 0);
	pg_atomic_init_u64(&shared->from_rows, 0);
	pg_atomic_init_u64(&shared->rows, 0);
	((DdaggScan *)node)->shared = shared;
}

/* Counts are totals over all loops. */
void
ddagg_reinitialize_dsm(CustomScanState *node, ParallelContext *context, void *coordinate)
{
}

void
ddagg_initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate)
{
	((DdaggScan *)node)->shared = coordinate;
}

/* Move this process's counts to the common ones. */
void
ddagg_share_counts(DdaggScan *agg)
{
	ddfdw_share_counts(agg->scan);
	if (agg->shared == NULL)
		return;
	pg_atomic_fetch_add_u64(&agg->shared->from_statistics, agg->from_statistics);
	pg_atomic_fetch_add_u64(&agg->shared->from_rows, agg->from_rows);
	pg_atomic_fetch_add_u64(&agg->shared->rows, agg->rows);
	agg->from_statistics = agg->from_rows = agg->rows = 0;
}

/* Before the shared memory goes: keep the counts of all processes. */
void
ddagg_shutdown(CustomScanState *node)
{
	DdaggScan *agg = (DdaggScan *)node;

	if (agg->shared == NULL)
		return;
	ddagg_share_counts(agg);
	agg->from_statistics = pg_atomic_read_u64(&agg->shared->from_statistics);
	agg->from_rows = pg_atomic_read_u64(&agg->shared->from_rows);
	agg->rows = pg_atomic_read_u64(&agg->shared->rows);
	agg->shared = NULL;
}
