/*
 * ddstore.shrink(): pages at the end of a table that hold nothing go back to the system, a bounded number at a time.
 *
 * VACUUM does so in one go, under a lock that keeps everybody else out; here each call is a step that takes it for
 * milliseconds, and never waits for it, since others would then wait behind. Which pages may go is looked up before, and
 * again under the lock, when they are in memory and nobody can write.
 *
 * A page may go when none of its line pointers is used: then no snapshot sees a row of it, no index entry leads there (VACUUM
 * frees a line pointer only after the entries that led to it are gone), and no transaction under way, prepared ones
 * included, has written to it.
 */
#include "fdw.h"

#include "access/multixact.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/storage.h"
#include "commands/tablecmds.h"
#include "commands/vacuum.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#pragma GCC visibility push(default) /* as in options.c */
PG_FUNCTION_INFO_V1(ddstore_shrink);
#pragma GCC visibility pop

static bool
is_bare(Relation rel, BlockNumber block)
{
	Buffer buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, NULL);
	Page page = BufferGetPage(buffer);
	bool bare = true;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (!PageIsNew(page)) {
		OffsetNumber last = PageGetMaxOffsetNumber(page);

		for (OffsetNumber i = FirstOffsetNumber; bare && i <= last; i++)
			bare = !ItemIdIsUsed(PageGetItemId(page, i));
	}
	UnlockReleaseBuffer(buffer);
	return bare;
}

/* Where the bare pages at the end begin; those before "from" are not looked at. */
static BlockNumber
bare_from(Relation rel, BlockNumber from, BlockNumber end)
{
	while (end > from && is_bare(rel, end - 1)) {
		CHECK_FOR_INTERRUPTS();
		end--;
	}
	return end;
}

static BlockNumber
less(BlockNumber pages, BlockNumber most)
{
	return pages > most ? pages - most : 0;
}

/* The planner divides the rows that the last VACUUM found by the pages of then: these are other ones now. */
static void
note_pages(Relation rel, BlockNumber pages)
{
	BlockNumber visible, frozen;

	visibilitymap_count(rel, &visible, &frozen);
	vac_update_relstats(rel, pages, rel->rd_rel->reltuples, visible,
#if PG_VERSION_NUM >= 180000
						frozen,
#endif
						rel->rd_rel->relhasindex, InvalidTransactionId, InvalidMultiXactId, NULL, NULL, true);
}

/*
 * The truncation is on disk in WAL before it happens, so all WAL is that lies before it: what others have written goes there
 * now, not under the lock. Up to the last whole page, since the end of WAL need not be one that can be asked for.
 */
static void
flush_wal(void)
{
	XLogRecPtr end = GetXLogInsertRecPtr();

	XLogFlush(end - end % XLOG_BLCKSZ);
}

/* What VACUUM would look at, and that this session has nothing open in the table. */
static void
check_table(Relation rel)
{
	if ((rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_TOASTVALUE) ||
		rel->rd_rel->relam != HEAP_TABLE_AM_OID || IsCatalogRelation(rel) || RELATION_IS_OTHER_TEMP(rel))
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not an ordinary table", RelationGetRelationName(rel)));
	CheckTableNotInUse(rel, "shrink");
}

/*
 * Give back up to so many pages at the end of a table, or of its TOAST. Returns how many; NULL where somebody uses the
 * table just now. Like VACUUM's, it is done whatever becomes of the transaction.
 */
Datum
ddstore_shrink(PG_FUNCTION_ARGS)
{
	Oid oid = PG_GETARG_OID(0);
	int32 most = PG_GETARG_INT32(1);
	Relation rel;
	BlockNumber from, end;
	bool busy = false;

	PreventCommandIfReadOnly("ddstore.shrink()");
	if (most <= 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the number of pages must be above 0, not %d", most));
	if (!ddfdw_is_owner(oid))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of table %s", get_rel_name(oid)));
	if (!ConditionalLockRelationOid(oid, AccessShareLock))
		PG_RETURN_NULL();
	rel = table_open(oid, NoLock);
	check_table(rel);
	end = RelationGetNumberOfBlocks(rel);
	from = bare_from(rel, less(end, most), end);
	if (from < end) {
		flush_wal();
		busy = !ConditionalLockRelation(rel, AccessExclusiveLock);
	}
	if (from < end && !busy) {
		end = RelationGetNumberOfBlocks(rel); /* more, if somebody wrote meanwhile */
		from = bare_from(rel, Max(from, less(end, most)), end);
		if (from < end) {
			RelationTruncate(rel, from);
			note_pages(rel, from);
		}
		/* Whoever comes next learns of the new size before it looks. Standbys keep the lock until the transaction ends. */
		UnlockRelation(rel, AccessExclusiveLock);
	}
	table_close(rel, AccessShareLock);
	if (busy)
		PG_RETURN_NULL();
	PG_RETURN_INT32(end - from);
}
