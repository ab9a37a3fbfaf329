/*
 * What the files of aggregation share: aggregates of cold rows made where the rows are decoded.
 *
 *   upper.c      paths for grouped queries            state.c   transition states, from rows and statistics
 *   target.c     which groups and aggregates can be   stats.c   a segment's statistics of one column, and its rows
 *   aggregate.c  the executor's side                  filter.c  WHERE clauses on whole columns
 *   turn.c       from segment to segment              group.c   from group to group
 *   workers.c    what processes share
 */
#ifndef DDSTORE_AGG_H
#define DDSTORE_AGG_H

#include "fdw.h"

#include "fmgr.h"
#include "nodes/extensible.h"

#if !defined(HAVE_INT128)
#error "DDStore adds up 8-byte integers in 16 bytes: it needs a compiler that has them"
#endif

/* ---- target.c ---- */

typedef enum {
	DDAGG_GROUP = 0, /* no aggregate: an expression that is the same in all rows of a group */
	DDAGG_COUNT_ROWS,
	DDAGG_COUNT,
	DDAGG_MIN,
	DDAGG_MAX,
	DDAGG_SUM,
	DDAGG_AVG,
	DDAGG_EXTREME, /* min or max of a type that only its own functions can compare, and of keys */
} DdaggKind;

/* One column of the partial result. */
typedef struct DdaggOutput {
	DdaggKind kind;
	int place; /* DDAGG_GROUP: in the target list of the scan below; else the aggregate's column, 0 for count(*) */
	Oid type;  /* of that column */
	Oid aggregate;
	Oid collation;
} DdaggOutput;

/* Do the rows of a group stand together, where rows are in the order of time? */
typedef enum {
	DDAGG_SCATTERED, /* not necessarily */
	DDAGG_TOGETHER,
	DDAGG_TOGETHER_IN_ZONE, /* as long as a time zone's clocks are not changed meanwhile */
} DdaggOrder;

/* What the planner needs to know of a query's groups. */
typedef struct DdaggShape {
	List *outputs;	   /* packed */
	bool by_time;	   /* groups depend on time */
	DdaggOrder order;
	char *zone;		/* DDAGG_TOGETHER_IN_ZONE: NULL for the session's */
	bool from_rows; /* some aggregate cannot be had from statistics */
	List *attnos;	/* that aggregates read */
} DdaggShape;

extern bool ddagg_shape(PlannerInfo *root, RelOptInfo *rel, Oid foreign, PathTarget *target, List *group, DdaggShape *shape);
extern bool ddagg_is_of_keys(Oid foreign, Index relid, Node *expr);
extern List *ddagg_output_pack(const DdaggOutput *output);
extern DdaggOutput ddagg_output_unpack(const List *packed);

/* ---- upper.c ---- */

extern void ddagg_init(void);

/* custom_private of the path and of the plan */
enum { DDAGG_PRIVATE_OUTPUTS, DDAGG_PRIVATE_FLAGS, DDAGG_PRIVATE_ZONE, DDAGG_PRIVATE_COLUMNS };

/* ---- stats.c ---- */

/* A column that is aggregated, or compared in WHERE. */
typedef struct DdaggColumn {
	AttrNumber attno; /* of the foreign table */
	const DdfdwBinding *binding;
	bool is_float;
	bool is_number; /* or a time: of which the core's values can be compared */
	AttrNumber count, min, max, sum; /* of the segment table; 0 where it has none */

	/* its rows, of the segment decoded */
	const DdfdwColumn *decoded;
	const int64 *ints;
	const double *floats;
	const bool *nulls; /* NULL: no NULLs */
	DdfdwBuffer wide;

	/* the values of some of these rows, NULLs left out */
	uint32 picked;
	const int64 *picked_ints;
	const double *picked_floats;
	DdfdwBuffer picks;
} DdaggColumn;

/* What a segment says of one column. A column that it says nothing of has to be decoded. */
typedef struct DdaggStats {
	bool known;	 /* count is */
	int64 count; /* of values that are not NULL */
	bool ranged; /* low and high are: count > 0 */
	union {
		int64 i;
		double f;
	} low, high;
	bool summed; /* sum is: count > 0 */
	Datum sum;	 /* numeric or float8 */
} DdaggStats;

extern void ddagg_column_bind(DdaggColumn *column, Relation companion, const DdfdwTable *table);
extern void ddagg_column_stats(const DdaggColumn *column, const DdfdwTable *table, TupleTableSlot *row, DdaggStats *stats);
extern void ddagg_column_decoded(DdaggColumn *column, const DdfdwSegment *segment, uint32 end);
extern void ddagg_column_pick(DdaggColumn *column, MemoryContext context, const bool *keep, uint32 first, uint32 end);
extern void *ddagg_reserve(MemoryContext context, DdfdwBuffer *buffer, Size size);

/* ---- filter.c ---- */

typedef enum { DDAGG_COMPARE, DDAGG_NOT_EQUAL, DDAGG_IS_NULL, DDAGG_IS_NOT_NULL } DdaggFilterKind;
typedef enum { DDAGG_NO_ROW, DDAGG_SOME_ROWS, DDAGG_ALL_ROWS } DdaggVerdict;

/* "column OP value", where value does not depend on the row; "column IS [NOT] NULL". */
typedef struct DdaggFilter {
	DdaggFilterKind kind;
	AttrNumber attno; /* of the foreign table */
	DdaggColumn *column;
	StrategyNumber strategy;
	Oid type; /* of the value */
	ExprState *value;

	/* of this scan */
	bool never; /* the value is NULL */
	int64 i;
	double f;
} DdaggFilter;

extern DdaggFilter *ddagg_filter_create(Expr *clause, Index relid, const DdfdwTable *table, PlanState *parent);
extern void ddagg_filter_start(DdaggFilter *filter, ExprContext *context);
extern DdaggVerdict ddagg_filter_verdict(const DdaggFilter *filter, const DdaggStats *stats, int64 n);
extern void ddagg_filter_apply(const DdaggFilter *filter, bool *keep, uint32 first, uint32 end);

/* ---- state.c ---- */

typedef struct DdaggState DdaggState;

extern DdaggState *ddagg_state_create(const DdaggOutput *output, DdaggColumn *column, AttrNumber key, ExprContext *context);
extern DdaggColumn *ddagg_state_column(const DdaggState *state);
extern void ddagg_state_reset(DdaggState *state);
extern bool ddagg_state_has_stats(const DdaggState *state, const DdaggStats *stats);
extern void ddagg_state_add_stats(DdaggState *state, const DdaggStats *stats, TupleTableSlot *row, int64 n,
								  MemoryContext group);
extern void ddagg_state_add_rows(DdaggState *state, TupleTableSlot *row, const bool *keep, uint32 first, uint32 end,
								 int64 n, MemoryContext group);
extern Datum ddagg_state_result(DdaggState *state, bool *null);

/* ---- aggregate.c ---- */

/* The values of a group, by output; of no meaning where that is an aggregate. */
typedef struct DdaggValues {
	Datum *datums;
	bool *nulls;
} DdaggValues;

typedef struct DdaggScan {
	CustomScanState custom;
	ForeignScanState *child;
	DdfdwScan *scan;
	bool by_time, together; /* groups depend on time, and stand together in the segment turned to */
	DdaggOrder order;
	struct pg_tz *zone;
	AttrNumber time; /* of the foreign table */

	int noutputs;
	DdaggOutput *outputs;
	TupleDesc computed;		   /* what the scan below computes for a row */
	DdaggState **states;	   /* by output; NULL for groups */
	int ncolumns, naggregated; /* those that are aggregated come first */
	DdaggColumn *columns;
	DdaggStats *stats; /* by column, of the segment turned to */
	int nfilters;
	DdaggFilter **filters;
	ExprState *segment_qual, *row_qual;
	bool need_time; /* wherever rows are decoded */
	bool ready;		/* filters have their values */

	bool open;					/* there is a group at hand */
	DdaggValues group;				/* its values */
	MemoryContext memory, last; /* its memory; that of the last one, whose row is being read */
	DdaggValues here, there;			/* of two rows */

	DdfdwBuffer keep_buffer;
	bool *keep;		  /* by row of the segment; NULL: all */
	bool whole;		  /* the segment turned to is answered by its statistics */
	uint32 next, end; /* otherwise the rows that are still to be added */
	uint32 run;		  /* rows of the last run of one group */

	int64 from_statistics, from_rows, rows;
	struct DdaggShared *shared; /* in a parallel scan, while it runs */
} DdaggScan;

extern const CustomScanMethods ddagg_scan_methods;

/* ---- group.c ---- */

extern void ddagg_compute(DdaggScan *agg, int64 time, DdaggValues *values);
extern bool ddagg_same(const DdaggScan *agg, const DdaggValues *a, const DdaggValues *b);
extern void ddagg_open_group(DdaggScan *agg);
extern void ddagg_close_group(DdaggScan *agg, TupleTableSlot *slot);
extern uint32 ddagg_run_end(DdaggScan *agg);

/* ---- turn.c ---- */

extern bool ddagg_next_segment(DdaggScan *agg);
extern int64 ddagg_rows(const DdaggScan *agg);
extern int64 ddagg_limit(const DdaggScan *agg, AttrNumber attno);
extern const DdaggStats *ddagg_stats_of(const DdaggScan *agg, const DdaggState *state);

/* ---- workers.c ---- */

typedef struct DdaggShared DdaggShared;

extern Size ddagg_estimate_dsm(CustomScanState *node, ParallelContext *context);
extern void ddagg_initialize_dsm(CustomScanState *node, ParallelContext *context, void *coordinate);
extern void ddagg_reinitialize_dsm(CustomScanState *node, ParallelContext *context, void *coordinate);
extern void ddagg_initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate);
extern void ddagg_share_counts(DdaggScan *agg);
extern void ddagg_shutdown(CustomScanState *node);

#endif
