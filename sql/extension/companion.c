/*
 * Scan of the segment table: the segments that may hold wanted rows, under the query's snapshot.
 *
 * A condition on a key is a comparison with the key's column. A condition on time is one with t_max (lower bounds), t_min
 * (upper bounds) or both (equality), one on a number is one with its greatest and least value. Comparisons the index on (keys.., t_max, t_min) can answer become its scan keys, the
 * others are made on the rows it returns.
 */
#include "fdw.h"

#include "access/stratnum.h"
#include "access/visibilitymap.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* The function behind the condition's operator, or behind its family's operator of another strategy. */
Oid
ddfdw_cond_function(const DdfdwCond *cond, StrategyNumber strategy)
{
	if (strategy == cond->strategy)
		return get_opcode(cond->opno);
	return get_opcode(get_opfamily_member(cond->opfamily, cond->lefttype, cond->righttype, strategy));
}

static void
add_check(DdfdwCompanion *scan, AttrNumber attno, int number, const DdfdwCond *cond, StrategyNumber strategy)
{
	DdfdwCheck *check = &scan->checks[scan->nchecks++];

	memset(check, 0, sizeof *check);
	check->attno = attno;
	check->cond = number;
	if (cond->kind == DDFDW_IS_NULL || cond->kind == DDFDW_IS_NOT_NULL) {
		check->flags = SK_ISNULL | (cond->kind == DDFDW_IS_NULL ? SK_SEARCHNULL : SK_SEARCHNOTNULL);
		return;
	}
	check->flags = cond->kind == DDFDW_ANY ? SK_SEARCHARRAY : 0;
	check->strategy = strategy;
	check->subtype = cond->righttype;
	check->collation = cond->collation;
	fmgr_info(ddfdw_cond_function(cond, strategy), &check->function);
}

/* "low .. high may hold what satisfies the condition" */
static void
add_interval(DdfdwCompanion *scan, AttrNumber low, AttrNumber high, int number, const DdfdwCond *cond)
{
	StrategyNumber strategy = cond->strategy;
	bool equal = strategy == BTEqualStrategyNumber;

	if (equal || strategy == BTGreaterEqualStrategyNumber || strategy == BTGreaterStrategyNumber)
		add_check(scan, high, number, cond, equal ? BTGreaterEqualStrategyNumber : strategy);
	if (equal || strategy == BTLessEqualStrategyNumber || strategy == BTLessStrategyNumber)
		add_check(scan, low, number, cond, equal ? BTLessEqualStrategyNumber : strategy);
}

static void
make_checks(DdfdwCompanion *scan, const DdfdwTable *table, const DdfdwCond *conds, int nconds)
{
	scan->checks = palloc(sizeof(DdfdwCheck) * Max(2 * nconds, 1));
	for (int i = 0; i < nconds; i++) {
		const DdfdwBinding *binding = &table->columns[conds[i].attno - 1];

		if (binding->source == DDFDW_KEY)
			add_check(scan, binding->main, i, &conds[i], conds[i].strategy);
		else if (binding->source == DDFDW_TIME)
			add_interval(scan, table->t_min, table->t_max, i, &conds[i]);
		else if (binding->min != InvalidAttrNumber && binding->max != InvalidAttrNumber)
			add_interval(scan, binding->min, binding->max, i, &conds[i]);
	}
}

/* The index column that can answer a check, or 0. */
static AttrNumber
index_column(Relation index, const DdfdwCheck *check, const DdfdwCond *cond)
{
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++) {
		if (index->rd_index->indkey.values[i] != check->attno)
			continue;
		if (check->flags & SK_ISNULL)
			return i + 1;
		if (index->rd_opfamily[i] == cond->opfamily && index->rd_opcintype[i] == cond->lefttype &&
			index->rd_indcollation[i] == check->collation)
			return i + 1;
	}
	return 0;
}

static bool
usable(Relation index)
{
	Form_pg_index form = index->rd_index;

	return index->rd_rel->relam == BTREE_AM_OID && form->indisvalid && form->indisready && form->indislive &&
		   !form->indcheckxmin && RelationGetIndexPredicate(index) == NIL && RelationGetIndexExpressions(index) == NIL;
}

/* The index that answers most of the checks; NULL when none answers any. */
static Relation
choose_index(DdfdwCompanion *scan, const DdfdwCond *conds)
{
	List *indexes = RelationGetIndexList(scan->rel);
	Relation best = NULL;
	int best_answered = 0;
	ListCell *cell;

	foreach (cell, indexes) {
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		int answered = 0;

		if (usable(index))
			for (int i = 0; i < scan->nchecks; i++)
				answered += index_column(index, &scan->checks[i], &conds[scan->checks[i].cond]) > 0;
		if (answered > best_answered) {
			if (best)
				index_close(best, AccessShareLock);
			best = index;
			best_answered = answered;
		} else
			index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return best;
}

/* btree wants its keys in the order of its columns; checks it does not answer come last */
static int
by_index_column(const void *a, const void *b)
{
	AttrNumber x = ((const DdfdwCheck *)a)->index_attno, y = ((const DdfdwCheck *)b)->index_attno;

	return (x == 0) != (y == 0) ? (x == 0) - (y == 0) : (x > y) - (x < y);
}

DdfdwCompanion *
ddfdw_companion_open(Relation rel, const DdfdwTable *table, const DdfdwCond *conds, int nconds, Snapshot snapshot)
{
	DdfdwCompanion *scan = palloc0(sizeof *scan);

	scan->rel = rel;
	scan->snapshot = snapshot;
	scan->direction = ForwardScanDirection;
	scan->slot = table_slot_create(rel, NULL);
	make_checks(scan, table, conds, nconds);
	scan->index = choose_index(scan, conds);
	for (int i = 0; scan->index && i < scan->nchecks; i++) {
		scan->checks[i].index_attno = index_column(scan->index, &scan->checks[i], &conds[scan->checks[i].cond]);
		scan->nkeys += scan->checks[i].index_attno > 0;
	}
	qsort(scan->checks, scan->nchecks, sizeof(DdfdwCheck), by_index_column);
	scan->keys = palloc0(sizeof(ScanKeyData) * Max(scan->nkeys, 1));
	return scan;
}

/* (Re)start with these values of the conditions, none of them NULL; they must stay valid until the next rescan. */
void
ddfdw_companion_rescan(DdfdwCompanion *scan, Datum *values)
{
	scan->values = values;
	if (scan->index == NULL) {
		/* No synchronized scan: every rescan returns segments in the same order. */
		if (scan->heap_scan == NULL)
			scan->heap_scan = table_beginscan_strat(scan->rel, scan->snapshot, 0, NULL, true, false);
		else
			table_rescan(scan->heap_scan, NULL);
		return;
	}
	for (int i = 0; i < scan->nkeys; i++) {
		DdfdwCheck *check = &scan->checks[i];

		if (check->flags & SK_ISNULL)
			ScanKeyEntryInitialize(&scan->keys[i], check->flags, check->index_attno, InvalidStrategy, InvalidOid, InvalidOid,
								   InvalidOid, (Datum)0);
		else
			ScanKeyEntryInitializeWithInfo(&scan->keys[i], check->flags, check->index_attno, check->strategy, check->subtype,
										   check->collation, &check->function, values[check->cond]);
	}
	if (scan->index_scan == NULL)
		scan->index_scan = index_beginscan(scan->rel, scan->index, scan->snapshot,
#if PG_VERSION_NUM >= 180000
										   NULL,
#endif
										   scan->nkeys, 0);
	index_rescan(scan->index_scan, scan->keys, scan->nkeys, NULL, 0);
}

/* What the index did not answer. A NULL satisfies no comparison, as in SQL. */
static bool
passes(DdfdwCompanion *scan)
{
	for (int i = scan->nkeys; i < scan->nchecks; i++) {
		DdfdwCheck *check = &scan->checks[i];
		bool null;
		Datum value = slot_getattr(scan->slot, check->attno, &null);

		if (check->flags & SK_ISNULL) {
			if (null != ((check->flags & SK_SEARCHNULL) != 0))
				return false;
		} else if (check->flags & SK_SEARCHARRAY)
			continue; /* left to the executor: only a table without its index comes here */
		else if (null || !DatumGetBool(FunctionCall2Coll(&check->function, check->collation, value, scan->values[check->cond])))
			return false;
	}
	return true;
}

/* Advance to the next segment that may hold wanted rows. Call in a context that outlives the scan. */
bool
ddfdw_companion_next(DdfdwCompanion *scan)
{
	for (;;) {
		bool found;

		CHECK_FOR_INTERRUPTS();
		if (scan->index)
			found = index_getnext_slot(scan->index_scan, scan->direction, scan->slot);
		else
			found = table_scan_getnextslot(scan->heap_scan, ForwardScanDirection, scan->slot);
		if (!found)
			return false;
		if (passes(scan))
			return true;
	}
}

void
ddfdw_companion_close(DdfdwCompanion *scan)
{
	if (scan->index_scan)
		index_endscan(scan->index_scan);
	if (scan->heap_scan)
		table_endscan(scan->heap_scan);
	if (scan->index)
		index_close(scan->index, AccessShareLock);
	ExecDropSingleTupleTableSlot(scan->slot);
}

/* A usable index whose first column is `leading`, opened; any usable one for InvalidAttrNumber; NULL if there is none. */
Relation
ddfdw_open_index(Relation rel, AttrNumber leading)
{
	List *indexes = RelationGetIndexList(rel);
	Relation found = NULL;
	ListCell *cell;

	foreach (cell, indexes) {
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (usable(index) && (leading == InvalidAttrNumber || index->rd_index->indkey.values[0] == leading)) {
			found = index;
			break;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return found;
}

/*
 * How many segments the snapshot sees: for EXPLAIN ANALYZE, which would otherwise not know what the index pruned.
 * The index alone answers where the visibility map allows it.
 */
int64
ddfdw_companion_count(Relation rel, Snapshot snapshot)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Relation index = ddfdw_open_index(rel, InvalidAttrNumber);
	int64 count = 0;

	if (index) {
		Buffer map = InvalidBuffer;
		IndexScanDesc scan = index_beginscan(rel, index, snapshot,
#if PG_VERSION_NUM >= 180000
											 NULL,
#endif
											 0, 0);
		ItemPointer tid;

		scan->xs_want_itup = true; /* keeps the index page pinned, without which the visibility map may not be believed */
		index_rescan(scan, NULL, 0, NULL, 0);
		while ((tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL) {
			CHECK_FOR_INTERRUPTS();
			count += VM_ALL_VISIBLE(rel, ItemPointerGetBlockNumber(tid), &map) || index_fetch_heap(scan, slot);
		}
		if (BufferIsValid(map))
			ReleaseBuffer(map);
		index_endscan(scan);
		index_close(index, AccessShareLock);
	} else {
		TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

		while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
			CHECK_FOR_INTERRUPTS();
			count++;
		}
		table_endscan(scan);
	}
	ExecDropSingleTupleTableSlot(slot);
	return count;
}
