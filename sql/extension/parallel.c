/*
 * Parallel scan: every process walks the same list of segments and decodes the ones it claims.
 *
 * The list is the same everywhere: one snapshot, one index (or the heap from its first page on), one set of conditions.
 * Walking it is cheap, since a segment's bytes are fetched only by the process that decodes it.
 */
#include "fdw.h"

#include "access/parallel.h"
#include "catalog/pg_class.h"
#include "port/atomics.h"
#include "utils/lsyscache.h"

struct DdfdwShared {
	pg_atomic_uint64 next; /* position in the list of the first segment nobody claimed */
	pg_atomic_uint64 scans, matched, segments_decoded, cache_hits, rows_decoded, microseconds;
};

bool
ddfdw_is_parallel_safe(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *rte)
{
	return get_rel_persistence(ddfdw_companion_oid(rte->relid)) != RELPERSISTENCE_TEMP;
}

Size
ddfdw_estimate_dsm(ForeignScanState *node, ParallelContext *context)
{
	return sizeof(DdfdwShared);
}

void
ddfdw_initialize_dsm(ForeignScanState *node, ParallelContext *context, void *coordinate)
{
	DdfdwShared *shared = coordinate;
	DdfdwScan *scan = node->fdw_state;

	pg_atomic_init_u64(&shared->next, 0);
	pg_atomic_init_u64(&shared->scans, scan->scans + 1); /* a plan may be started anew after a shutdown */
	pg_atomic_init_u64(&shared->matched, 0);
	pg_atomic_init_u64(&shared->segments_decoded, 0);
	pg_atomic_init_u64(&shared->cache_hits, 0);
	pg_atomic_init_u64(&shared->rows_decoded, 0);
	pg_atomic_init_u64(&shared->microseconds, 0);
	scan->shared = shared;
}

void
ddfdw_reinitialize_dsm(ForeignScanState *node, ParallelContext *context, void *coordinate)
{
	DdfdwShared *shared = coordinate;

	pg_atomic_write_u64(&shared->next, 0);
	pg_atomic_fetch_add_u64(&shared->scans, 1);
}

void
ddfdw_initialize_worker(ForeignScanState *node, shm_toc *toc, void *coordinate)
{
	((DdfdwScan *)node->fdw_state)->shared = coordinate;
}

/* Is the segment just reached this process's to decode? A claimed one is always still ahead in the list. */
bool
ddfdw_claim(DdfdwScan *scan)
{
	if (scan->shared == NULL)
		return true;
	if (scan->position == 0)
		scan->claimed = pg_atomic_fetch_add_u64(&scan->shared->next, 1);
	if (scan->position++ != scan->claimed)
		return false;
	scan->claimed = pg_atomic_fetch_add_u64(&scan->shared->next, 1);
	return true;
}

/* Move this process's counts to the common ones. */
void
ddfdw_share_counts(DdfdwScan *scan)
{
	DdfdwShared *shared = scan->shared;
	DdfdwSegment *segment = scan->segment;

	if (shared == NULL)
		return;
	pg_atomic_fetch_add_u64(&shared->matched, scan->matched);
	pg_atomic_fetch_add_u64(&shared->segments_decoded, segment->segments_decoded);
	pg_atomic_fetch_add_u64(&shared->cache_hits, segment->cache_hits);
	pg_atomic_fetch_add_u64(&shared->rows_decoded, segment->rows_decoded);
	pg_atomic_fetch_add_u64(&shared->microseconds, (uint64)(segment->milliseconds * 1000.0));
	scan->matched = segment->segments_decoded = segment->cache_hits = segment->rows_decoded = 0;
	segment->milliseconds = 0;
}

/* Before the shared memory goes: keep the counts of all processes for EXPLAIN. */
void
ddfdw_shutdown(ForeignScanState *node)
{
	DdfdwScan *scan = node->fdw_state;

	if (scan == NULL || scan->shared == NULL)
		return;
	ddfdw_share_counts(scan);
	scan->scans = pg_atomic_read_u64(&scan->shared->scans);
	scan->matched = pg_atomic_read_u64(&scan->shared->matched);
	scan->segment->segments_decoded = pg_atomic_read_u64(&scan->shared->segments_decoded);
	scan->segment->cache_hits = pg_atomic_read_u64(&scan->shared->cache_hits);
	scan->segment->rows_decoded = pg_atomic_read_u64(&scan->shared->rows_decoded);
	scan->segment->milliseconds = pg_atomic_read_u64(&scan->shared->microseconds) / 1000.0;
	scan->was_parallel = true;
	scan->shared = NULL;
}
