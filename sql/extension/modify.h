/*
 * Changes of compacted rows: what modify.c notes while a statement runs, and unseal.c carries out at its end; and what
 * lock.c and range.c, which change nothing, share with these.
 */
#ifndef DDSTORE_MODIFY_H
#define DDSTORE_MODIFY_H

#include "fdw.h"

#include "access/tupconvert.h"
#include "utils/hsearch.h"

/* What becomes of one row of a segment. */
typedef struct DdfdwNewRow {
	uint32 row;
	HeapTuple tuple; /* in the layout of the table */
} DdfdwNewRow;

/* A segment with rows that a statement changes. */
typedef struct DdfdwTouched {
	int64 id; /* hash key */
	ItemPointerData tid;
	uint32 n;
	uint8 *changed, *deleted; /* bits by row; what is deleted is changed, too */
	uint32 ndeleted, nupdated, capacity;
	bool whole; /* taken apart even if nothing in it changes */
	DdfdwNewRow *updated;
} DdfdwTouched;

/* All that one execution of a statement changes behind one foreign table, by however many of its nodes. */
typedef struct DdfdwChanges {
	struct DdfdwChanges *next; /* in the list of all executions under way */
	EState *estate;			   /* of the statement */
	int users;				   /* nodes that have not ended */
	Relation foreign, hot, companion;
	DdfdwTable *table;
	TupleConversionMap *to_hot, *to_cold; /* NULL: the same layout */
	EState *hot_estate;					  /* for triggers, constraints and indexes of the table */
	ResultRelInfo *hot_info;
	TupleTableSlot *old_row, *new_row; /* in the layout of the table */
	HTAB *segments;
	int64 planned; /* rows of segments with rows to update */
	MemoryContext context;
} DdfdwChanges;

extern int ddfdw_max_unsealed_rows;

static inline bool
ddfdw_is_set(const uint8 *bits, uint32 row)
{
	return bits[row / 8] >> (row % 8) & 1;
}

/* ---- modify.c ---- */

extern int64 ddfdw_place(Datum ctid, const char *table, uint32 *row);
extern bool ddfdw_find_segment(Relation companion, const DdfdwTable *table, int64 id, Snapshot snapshot,
							   ItemPointer tid, uint32 *n);
extern DdfdwTouched *ddfdw_touch(DdfdwChanges *changes, int64 id);

/* ---- changes.c ---- */

extern DdfdwChanges *ddfdw_open_changes(EState *estate, Oid foreign, ResultRelInfo *target);
extern void ddfdw_close_changes(DdfdwChanges *changes);

/* ---- unseal.c ---- */

extern void ddfdw_unseal(DdfdwChanges *changes);
extern void ddfdw_check_limit(const DdfdwChanges *changes, int64 rows);
extern List *ddfdw_stored_columns(const DdfdwTable *table);
_Noreturn extern void ddfdw_too_late(const char *what, Relation hot);

/* ---- owner.c ---- */

extern Oid ddfdw_hot_table(Oid foreign);
extern Datum ddfdw_call_as_owner(Oid foreign, const char *function, int nargs, Oid *types, Datum *values, const char *nulls);

#endif
