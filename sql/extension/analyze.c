/*
 * ANALYZE: a sample of cold rows, so that the planner knows how many rows a series or a time range has.
 *
 * Decoding everything would take as long as a full scan, so rows are sampled from a random choice of segments.
 */
#include "fdw.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "common/pg_prng.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define SAMPLED_SEGMENTS 300

typedef struct Candidate {
	ItemPointerData tid;
	uint32 n;
} Candidate;

/* Every segment the snapshot sees is counted; a uniform sample of them, in physical order, is kept. */
static int
choose_segments(const DdfdwTable *table, Relation companion, Snapshot snapshot, Candidate *chosen, double *total_rows)
{
	TupleTableSlot *slot = table_slot_create(companion, NULL);
	TableScanDesc scan = table_beginscan(companion, snapshot, 0, NULL);
	int64 seen = 0;
	int kept = 0;

	*total_rows = 0;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
		bool null;
		int32 n = DatumGetInt32(slot_getattr(slot, table->n, &null));
		int place = kept;

		CHECK_FOR_INTERRUPTS();
		if (null || n < 1)
			continue;
		*total_rows += n;
		if (kept == SAMPLED_SEGMENTS) {
			uint64 random = pg_prng_uint64_range(&pg_global_prng_state, 0, (uint64)seen);

			place = random < SAMPLED_SEGMENTS ? (int)random : SAMPLED_SEGMENTS;
		} else
			kept++;
		seen++;
		if (place < SAMPLED_SEGMENTS)
			chosen[place] = (Candidate){slot->tts_tid, (uint32)n};
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return kept;
}

static int
by_tid(const void *a, const void *b)
{
	return ItemPointerCompare(&((Candidate *)a)->tid, &((Candidate *)b)->tid);
}

static List *
all_columns(const DdfdwTable *table)
{
	List *attnos = NIL;

	for (int i = 0; i < table->natts; i++)
		if (table->columns[i].source != DDFDW_ABSENT)
			attnos = lappend_int(attnos, i + 1);
	return attnos;
}

static int
acquire_sample(Relation foreign, int elevel, HeapTuple *rows, int targrows, double *total_rows, double *dead_rows)
{
	Relation companion = ddfdw_open_companion(RelationGetRelid(foreign));
	DdfdwTable *table = ddfdw_bind(foreign, companion);
	Snapshot snapshot = GetActiveSnapshot();
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ddstore analyze", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	TupleTableSlot *slot = table_slot_create(companion, NULL);
	DdfdwSegment *segment = ddfdw_segment_create(table, companion, all_columns(table), true, snapshot);
	Candidate *chosen = palloc(sizeof(Candidate) * SAMPLED_SEGMENTS);
	int nchosen = choose_segments(table, companion, snapshot, chosen, total_rows), sampled = 0;
	Datum *values = palloc0(sizeof(Datum) * table->natts);
	bool *nulls = palloc(sizeof(bool) * table->natts);
	double remaining = 0;

	*dead_rows = 0;
	memset(nulls, true, sizeof(bool) * table->natts);
	qsort(chosen, nchosen, sizeof(Candidate), by_tid);
	for (int i = 0; i < nchosen; i++)
		remaining += chosen[i].n;
	for (int i = 0; i < nchosen && sampled < targrows; i++) {
		if (!table_tuple_fetch_row_version(companion, &chosen[i].tid, snapshot, slot))
			continue;
		CHECK_FOR_INTERRUPTS();
		ddfdw_segment_times(segment, slot);
		ddfdw_segment_columns(segment, slot, segment->n);
		for (uint32 row = 0; row < segment->n; row++) {
			/* Selection sampling: exactly targrows of the remaining rows, each as likely as any other. */
			if (remaining-- * pg_prng_double(&pg_global_prng_state) >= targrows - sampled)
				continue;
			ddfdw_segment_emit(segment, row, values, nulls);
			MemoryContextSwitchTo(outer);
			rows[sampled++] = heap_form_tuple(RelationGetDescr(foreign), values, nulls);
			MemoryContextSwitchTo(context);
		}
	}
	MemoryContextSwitchTo(outer);
	ddfdw_segment_release(segment);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(context);
	table_close(companion, NoLock);
	ereport(elevel, errmsg("\"%s\": sampled %d of %.0f rows from %d segments", RelationGetRelationName(foreign), sampled,
						   *total_rows, nchosen));
	return sampled;
}

bool
ddfdw_analyze(Relation foreign, AcquireSampleRowsFunc *func, BlockNumber *pages)
{
	Relation companion = ddfdw_open_companion(RelationGetRelid(foreign));

	*func = acquire_sample;
	*pages = RelationGetNumberOfBlocks(companion);
	if (OidIsValid(companion->rd_rel->reltoastrelid)) {
		Relation toast = table_open(companion->rd_rel->reltoastrelid, AccessShareLock);

		*pages += RelationGetNumberOfBlocks(toast);
		table_close(toast, AccessShareLock);
	}
	*pages = Max(*pages, 1);
	table_close(companion, NoLock);
	return true;
}
