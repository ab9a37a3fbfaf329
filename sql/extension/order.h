/*
 * What the files of ordered scans share: listing.c, which segments in which order; order.c, their rows; promise.c, rows of
 * segments that are not decoded yet.
 */
#ifndef DDSTORE_ORDER_H
#define DDSTORE_ORDER_H

#include "fdw.h"

#include "utils/sortsupport.h"
#include "utils/tuplesort.h"

typedef struct Candidate {
	ItemPointerData tid;
	int64 first; /* of its times, in the direction of the scan */
	Datum *keys;
	bool *nulls;
} Candidate;

typedef struct Open {
	DdfdwSegment *segment;
	ItemPointerData tid;
	uint32 row, end; /* the next one and the one after the last, counted in the direction of the scan */
	uint32 want;	 /* rows that its columns are decoded to, once one of its rows comes out */
	bool used, decoded;
} Open;

struct DdfdwOrder {
	bool descending;
	AttrNumber time; /* of the foreign table */
	int nkeys;
	AttrNumber *attnos; /* of the segment table */
	SortSupport sorts;
	List *columns;

	MemoryContext context; /* of the list; reset when the scan restarts */
	Candidate *candidates;
	int count, space_listed;	/* how many, and how many there is room for */
	int next, group_end;		/* the next to open, the first with another prefix of keys */
	bool streaming;				/* there may be more, which the index returns in order */
	bool listed, emitted;		/* since the scan started: the list is made; the heap's first row came out */
	Open **heap;
	int open, space;
	List *pool; /* every Open there is */
	Tuplesortstate *sort;
	TupleTableSlot *sorted;

	TupleTableSlot *promise; /* NULL where a row has to be whole at once */
	bool promised;			 /* the first row of the next segment was handed out, which is not open yet */
	MemoryContext keys;		 /* of the row promised */
};

/* ---- listing.c ---- */

extern int64 ddfdw_in_direction(const DdfdwOrder *order, int64 time);
extern void ddfdw_list_segments(DdfdwScan *scan);
extern bool ddfdw_next_in_group(DdfdwScan *scan);
extern bool ddfdw_start_group(DdfdwOrder *order);

/* ---- order.c ---- */

extern void ddfdw_order_keep(DdfdwScan *scan, Datum *values, bool *nulls);

/* ---- promise.c ---- */

extern TupleTableSlot *ddfdw_promise_slot(EState *estate, TupleDesc desc);
extern void ddfdw_promise(DdfdwScan *scan, TupleTableSlot *slot, TupleTableSlot *row, int64 time);

#endif
