/*
 * How large a table of segments is, and what its values cost to decode, as its statistics tell.
 */
#include "fdw.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "optimizer/optimizer.h"
#include "optimizer/plancat.h"
#include "storage/bufmgr.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Assumed rows per segment until the segment table was analyzed: the default of ddstore.managed_table. */
#define DEFAULT_SEGMENT_ROWS 16384.0

/* Assumed segments per page of the segment table, whose rows keep no more than 2 kB beside TOAST, until then. */
#define DEFAULT_PAGE_SEGMENTS 16.0

/*
 * Decoding a value, against cpu_tuple_cost for handing over a row. Those of `fast` take 8 ns, and as much again for the segment
 * around them; the strong coder takes about a microsecond, by which `archive` codes most and `balanced` what pays for it.
 */
#define FAST_COST 1.0
#define BALANCED_COST 20.0
#define ARCHIVE_COST 70.0
/* Regular times take a nanosecond, others what values of `fast` take. */
#define TIME_COST 0.5

typedef double (*Measure)(Datum value);

/* Mean of what is measured of a column's values, by its statistics; 0 when there are none. */
static double
mean(Oid companion, const char *column, Oid type, Measure measure)
{
	AttrNumber attno = get_attnum(companion, column);
	HeapTuple tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(companion), Int16GetDatum(attno), BoolGetDatum(false));
	AttStatsSlot slot;
	double common = 0, common_share = 0, rest = 0;

	if (!HeapTupleIsValid(tuple))
		return 0;
	if (get_atttype(companion, attno) == type) {
		if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_MCV, InvalidOid, ATTSTATSSLOT_VALUES | ATTSTATSSLOT_NUMBERS)) {
			for (int i = 0; i < slot.nvalues && i < slot.nnumbers; i++) {
				common += slot.numbers[i] * measure(slot.values[i]);
				common_share += slot.numbers[i];
			}
			free_attstatsslot(&slot);
		}
		if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_HISTOGRAM, InvalidOid, ATTSTATSSLOT_VALUES)) {
			for (int i = 0; i < slot.nvalues; i++)
				rest += measure(slot.values[i]) / slot.nvalues;
			free_attstatsslot(&slot);
		} else if (common_share > 0)
			rest = common / common_share;
	}
	ReleaseSysCache(tuple);
	return common + Max(1.0 - common_share, 0.0) * rest;
}

static double
rows(Datum n)
{
	return DatumGetInt32(n);
}

/* By the profile in the record of how a segment was written. */
static double
decoding(Datum written)
{
	Jsonb *record = DatumGetJsonbP(written);
	JsonbValue *profile =
		JB_ROOT_IS_OBJECT(record) ? getKeyJsonValueFromContainer(&record->root, "profile", strlen("profile"), NULL) : NULL;

	if (profile == NULL || profile->type != jbvString)
		return FAST_COST;
	if (profile->val.string.len == 8 && memcmp(profile->val.string.val, "balanced", 8) == 0)
		return BALANCED_COST;
	if (profile->val.string.len == 7 && memcmp(profile->val.string.val, "archive", 7) == 0)
		return ARCHIVE_COST;
	return FAST_COST;
}

DdfdwSize
ddfdw_size(Relation companion)
{
	DdfdwSize size = {0};
	Oid oid = RelationGetRelid(companion);
	BlockNumber pages;
	double visible;

	estimate_rel_size(companion, NULL, &pages, &size.segments, &visible);
	size.heap_pages = size.pages = RelationGetNumberOfBlocks(companion);
	if (companion->rd_rel->reltuples < 0)
		size.segments = size.pages * DEFAULT_PAGE_SEGMENTS; /* never analyzed: the guess would be for small rows */
	size.segments = clamp_row_est(size.segments);
	size.segment_rows = mean(oid, "n", INT4OID, rows);
	if (size.segment_rows < 1.0)
		size.segment_rows = DEFAULT_SEGMENT_ROWS;
	size.decode = cpu_tuple_cost * Max(mean(oid, "written", JSONBOID, decoding), FAST_COST);
	size.decode_time = cpu_tuple_cost * TIME_COST;
	if (OidIsValid(companion->rd_rel->reltoastrelid)) {
		Relation toast = table_open(companion->rd_rel->reltoastrelid, AccessShareLock);

		size.pages += RelationGetNumberOfBlocks(toast);
		table_close(toast, AccessShareLock);
	}
	return size;
}
