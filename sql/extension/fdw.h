/*
 * What the files of the foreign-data wrapper share.
 *
 *   fdw.c        entry points                          companion.c  scan of the segment table, pruning
 *   options.c    options, table and column bindings    segment.c    one segment's rows into Datum arrays
 *   coded.c      its coded columns, in the order in which they need each other
 *   quals.c      WHERE clauses -> conditions           model.c      shared models, cached for the scan
 *   plan.c       costs, paths, plans                   scan.c       the executor's side
 *   explain.c    EXPLAIN                               analyze.c    ANALYZE
 *   parallel.c   segments shared out among processes   trust.c      columns coded by libbsc
 *   rights.c     who may read what                     owner.c      the table behind, and its owner
 *   cache.c      decoded columns, kept by the session  modify.c     UPDATE and DELETE, row by row
 *   changes.c    the statement around, TRUNCATE        unseal.c     segments back into ordinary rows
 *   order.c      rows in the order of keys and time    pathkeys.c   which order a query could use
 *   listing.c    segments in that order                rows.c       rows for the executor
 *   move.c       hot rows that become cold             range.c      unseal(): cold rows of a range that become hot
 *   lock.c       SELECT ... FOR UPDATE                 sources.c    options, remembered
 *   drop.c       DROP TABLE                            shrink.c     empty pages back to the system
 *   promise.c    rows of segments not decoded yet      size.c       sizes and costs of segment tables
 *
 * agg.h has what the files of aggregation share besides.
 */
#ifndef DDSTORE_FDW_H
#define DDSTORE_FDW_H

#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/tableam.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"
#include "portability/instr_time.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "ddstore.h"

#define DDSTORE_EXTENSION_VERSION "0.1.0"

#if !defined(USE_FLOAT8_BYVAL) || SIZEOF_DATUM != 8
#error "DDStore decodes 8-byte values straight into Datum arrays: it needs a 64-bit server"
#endif

/* ---- options.c: which column of the segment table feeds which column of the foreign table ---- */

typedef enum {
	DDFDW_ABSENT = 0, /* NULL in every row */
	DDFDW_TIME,
	DDFDW_KEY,
	DDFDW_NATIVE, /* numbers: coded by the core */
	DDFDW_MOMENT, /* times and dates: coded by the core, with an array that is empty and only tells the type */
	DDFDW_MISSING, /* nothing in any segment: one value in every row */
	DDFDW_ARRAY,  /* any other type: an array of the rows' values; or of distinct ones, and the core codes which */
} DdfdwSource;

/* One column of the foreign table. */
typedef struct DdfdwBinding {
	DdfdwSource source;
	Oid type;
	dd_type native;	 /* of what the core coded: DDFDW_NATIVE, DDFDW_MOMENT; DDFDW_ARRAY: positions in the array */
	AttrNumber main; /* k<id> or c<id>_residual; t_max for time */
	AttrNumber array; /* DDFDW_ARRAY */
	AttrNumber min, max; /* DDFDW_NATIVE: the least and greatest value, NULL where all are */
	Datum missing;	  /* DDFDW_MISSING */
	Oid element;	  /* of that array: the column's type; or, where that is an array itself, a row of one such value */
} DdfdwBinding;

/* A foreign table, its segment table ("companion") and how their columns correspond. */
typedef struct DdfdwTable {
	Oid foreign;
	Oid companion;
	int natts;
	DdfdwBinding *columns; /* [natts], by attribute number - 1 */
	AttrNumber id, t_min, t_max, n, time;
} DdfdwTable;

extern bool ddfdw_is_integer(Oid type);
extern bool ddfdw_is_float(Oid type);
extern bool ddfdw_is_number(Oid type);
extern DdfdwSource ddfdw_parse_segment_column(const char *value);
extern List *ddfdw_parse_segments(const char *value);
extern Relation ddfdw_open_companion(Oid foreign);
extern DdfdwTable *ddfdw_bind(Relation foreign, Relation companion);

/* ---- sources.c: options, remembered ---- */

/* The option of a column: "time", or 'k' or 'c' and a number. */
typedef struct DdfdwOption {
	DdfdwSource source; /* DDFDW_NATIVE for any 'c' */
	char name[16];
} DdfdwOption;

extern void ddfdw_sources_init(void);
extern DdfdwOption ddfdw_column_option(Oid foreign, AttrNumber attno);
extern DdfdwSource ddfdw_column_source(Oid foreign, AttrNumber attno);
extern Oid ddfdw_companion_oid(Oid foreign);

/* ---- owner.c ---- */

extern List *ddfdw_parents(Oid table);
extern Oid ddfdw_owner(Oid foreign);
extern bool ddfdw_is_owner(Oid relation);
extern void ddfdw_check_owner(Oid foreign, Oid relation, AclMode mode);

/* ---- rights.c ---- */

extern void ddfdw_check_access(Oid foreign, Oid relation);
extern void ddfdw_check_policies(EState *estate, Index rti, Oid foreign);

/* ---- quals.c: clauses that say something about whole segments ---- */

typedef enum { DDFDW_OP = 0, DDFDW_ANY, DDFDW_IS_NULL, DDFDW_IS_NOT_NULL } DdfdwCondKind;

/* "column OP value", where value does not depend on the row. Travels in fdw_private; the value in fdw_exprs. */
typedef struct DdfdwCond {
	DdfdwCondKind kind;
	AttrNumber attno; /* of the foreign table */
	Oid opno;		  /* column on the left */
	Oid opfamily;
	StrategyNumber strategy;
	Oid lefttype, righttype;
	Oid collation;
	Expr *value; /* at planning time only; NULL for IS [NOT] NULL */
} DdfdwCond;

extern bool ddfdw_classify(PlannerInfo *root, RelOptInfo *rel, Oid foreign, RestrictInfo *clause, DdfdwCond *cond);
extern Expr *ddfdw_bound_column(RelOptInfo *rel, Oid foreign, Expr *expr);
extern List *ddfdw_cond_pack(const DdfdwCond *cond);
extern DdfdwCond ddfdw_cond_unpack(const List *packed);

/* ---- size.c ---- */

typedef struct DdfdwSize {
	double segments;
	double segment_rows;
	double heap_pages; /* of the segment table */
	double pages;	   /* and its TOAST table */
	Cost decode;	   /* one value */
	Cost decode_time;
} DdfdwSize;

extern DdfdwSize ddfdw_size(Relation companion);

/* ---- plan.c ---- */

extern void ddfdw_get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid foreign);
extern void ddfdw_get_paths(PlannerInfo *root, RelOptInfo *rel, Oid foreign);
extern ForeignScan *ddfdw_get_plan(PlannerInfo *root, RelOptInfo *rel, Oid foreign, ForeignPath *best, List *tlist,
								   List *scan_clauses, Plan *outer);

/* What a scan with these clauses has to do, as the planner reckons. */
typedef struct DdfdwEstimate {
	double segments; /* that may hold wanted rows */
	double segment_rows;
	Cost fetch;			/* all their rows in the segment table */
	Cost segment_fetch; /* the bytes of one */
	Cost decode;		/* one value */
} DdfdwEstimate;

extern DdfdwEstimate ddfdw_estimate(PlannerInfo *root, RelOptInfo *rel, Oid foreign, List *clauses);

/* fdw_private of the plan */
enum { DDFDW_PRIVATE_CONDS, DDFDW_PRIVATE_COLUMNS, DDFDW_PRIVATE_ORDER };

/* ---- pathkeys.c: in what order rows can come ---- */

/* A column by which rows are ordered: any number of keys, then time. Travels in fdw_private. */
typedef struct DdfdwSortColumn {
	AttrNumber attno; /* of the foreign table */
	Oid opno;
	Oid collation;
	bool descending, nulls_first;
} DdfdwSortColumn;

extern List *ddfdw_order_of_query(PlannerInfo *root, RelOptInfo *rel, Oid foreign, List **pathkeys);
extern double ddfdw_open_at_once(PlannerInfo *root, RelOptInfo *rel, Oid foreign, List *order);
extern DdfdwSortColumn ddfdw_sort_unpack(const List *packed);

/* Decoded values of segments that an ordered scan may have open at once; what more there is it sorts. */
#define DDFDW_OPEN_BYTES ((Size)work_mem * 1024 * 8)

/* ---- companion.c: the segment table's rows that may hold wanted rows ---- */

/* One comparison of a column of the segment table with a value that is known when the scan (re)starts. */
typedef struct DdfdwCheck {
	AttrNumber attno;		/* of the segment table */
	AttrNumber index_attno; /* 0: not answered by the index */
	int cond;				/* whose value */
	int flags;				/* SK_* */
	StrategyNumber strategy;
	Oid subtype;
	Oid collation;
	FmgrInfo function;
} DdfdwCheck;

typedef struct DdfdwCompanion {
	Relation rel;
	Relation index; /* NULL: heap scan */
	Snapshot snapshot;
	ScanDirection direction; /* of the index */
	TupleTableSlot *slot; /* the current segment */
	IndexScanDesc index_scan;
	TableScanDesc heap_scan;
	int nchecks;
	DdfdwCheck *checks; /* those with index_attno first, in index order */
	int nkeys;
	ScanKey keys;
	Datum *values; /* by condition; set by ddfdw_companion_rescan */
} DdfdwCompanion;

extern DdfdwCompanion *ddfdw_companion_open(Relation rel, const DdfdwTable *table, const DdfdwCond *conds, int nconds,
											Snapshot snapshot);
extern void ddfdw_companion_rescan(DdfdwCompanion *scan, Datum *values);
extern bool ddfdw_companion_next(DdfdwCompanion *scan);
extern void ddfdw_companion_close(DdfdwCompanion *scan);
extern Oid ddfdw_cond_function(const DdfdwCond *cond, StrategyNumber strategy);
extern int64 ddfdw_companion_count(Relation rel, Snapshot snapshot);
extern Relation ddfdw_open_index(Relation rel, AttrNumber leading);

/* ---- model.c ---- */

typedef struct DdfdwModels DdfdwModels;

extern DdfdwModels *ddfdw_models_create(Oid foreign, Snapshot snapshot, MemoryContext parent);
extern const dd_model *ddfdw_models_get(DdfdwModels *models, int64 id, dd_error *err);
extern void ddfdw_models_check_access(DdfdwModels *models);
extern void ddfdw_models_close(DdfdwModels *models);

/* ---- cache.c: decoded columns of segments ---- */

typedef struct DdfdwCached DdfdwCached;

/*
 * A version of a row of a segment table, which is never changed and never gets the name of another while this process
 * lives; and one column of it. Compared byte by byte.
 */
typedef struct DdfdwCacheKey {
	int64 id;
	Oid relation, file;
	TransactionId inserter;
	Oid type;
	ItemPointerData tid;
	AttrNumber attno; /* of the segment table */
} DdfdwCacheKey;

StaticAssertDecl(sizeof(DdfdwCacheKey) == 32, "the key of the cache has no padding");

/* Decoded rows: pointers among the values lead into [base, base + base_len). */
typedef struct DdfdwDecoded {
	uint32 rows;
	const Datum *values;
	const bool *nulls; /* NULL: no NULLs */
	const char *base;
	Size base_len;
	bool modelled; /* decoded with the help of a shared model */
} DdfdwDecoded;

extern void ddfdw_cache_init(void);
extern DdfdwCacheKey ddfdw_cache_key(Relation companion, int64 id, TupleTableSlot *row);
extern DdfdwCached *ddfdw_cache_find(const DdfdwCacheKey *row, AttrNumber attno, Oid type);
extern void ddfdw_cache_keep(const DdfdwCacheKey *row, AttrNumber attno, Oid type, const DdfdwDecoded *decoded, Size *filled);
extern const DdfdwDecoded *ddfdw_cached(const DdfdwCached *entry);
extern void ddfdw_cache_unpin(DdfdwCached *entry);

/* ---- coded.c: the coded columns of one segment ---- */

typedef struct DdfdwSegment DdfdwSegment;
typedef struct DdfdwCoded DdfdwCoded;

typedef struct DdfdwBuffer {
	void *data;
	Size size;
} DdfdwBuffer;

typedef struct DdfdwBytes {
	const uint8_t *data;
	size_t len;
} DdfdwBytes;

extern void ddfdw_coded_create(DdfdwSegment *segment);
extern DdfdwCoded *ddfdw_coded_of(DdfdwSegment *segment, AttrNumber residual);
extern void ddfdw_coded_forget(DdfdwSegment *segment);
extern void ddfdw_coded_plan(DdfdwSegment *segment, DdfdwCoded *coded, TupleTableSlot *row);
extern void *ddfdw_coded_values(DdfdwSegment *segment, DdfdwCoded *coded, TupleTableSlot *row, dd_type type, uint32 want,
								const bool **nulls);
extern const volatile int *ddfdw_stop(int turn);
extern void *ddfdw_reserve(DdfdwSegment *segment, DdfdwBuffer *buffer, Size size);
extern void *ddfdw_reserve_workspace(DdfdwSegment *segment, Size size);
extern DdfdwBytes ddfdw_fetch_bytes(TupleTableSlot *row, AttrNumber attno);

/* ---- segment.c: the rows of one segment ---- */

/* A column the query needs. Row i is datums[i * stride]. */
typedef struct DdfdwColumn {
	AttrNumber attno; /* of the foreign table */
	int place;		  /* in the slot that rows are put in, from 0 */
	const DdfdwBinding *binding;
	DdfdwCoded *coded; /* NULL where the core coded nothing of it */
	int stride; /* 0: the same value in every row (keys) */
	Datum *datums;
	const bool *nulls; /* NULL: no NULLs */
	Datum key;
	bool key_null;
	DdfdwBuffer wide;
	const char *base; /* what the datums point into, when they are pointers */
	Size base_len;
	DdfdwCached *cached; /* which holds datums and nulls */
} DdfdwColumn;

struct DdfdwSegment {
	const DdfdwTable *table;
	Relation companion;
	DdfdwModels *models;
	int ncolumns;
	DdfdwColumn *columns;
	int ncoded;
	DdfdwCoded *coded;	   /* of all columns of the segment table */
	bool need_time;		   /* in the output, or to find the first and last row */
	MemoryContext context; /* the scan's: buffers live here and are reused */
	MemoryContext detoast; /* reset with each segment */
	int64 *times;
	DdfdwBuffer time_buffer, workspace;

	int64 id; /* of the segment held */
	DdfdwCacheKey key;
	bool loaded;
	uint32 n;		/* its rows */
	uint32 decoded; /* of which so many are decoded */
	bool trusted;	/* some of it was coded by libbsc: not to be kept */
	bool modelled;
	bool hit, missed; /* something of it came from the cache; had to be decoded */
	DdfdwCached *cached_times;
	MemoryContextCallback callback;
	Size filled; /* bytes put into the cache */

	bool timing;
	double milliseconds;
	int64 segments_decoded, rows_decoded;
	int64 cache_hits; /* segments of which nothing had to be decoded */
};

_Noreturn extern void ddfdw_damaged(const DdfdwSegment *segment, AttrNumber attno, dd_status status, const char *what);

extern DdfdwSegment *ddfdw_segment_create(const DdfdwTable *table, Relation companion, List *attnos, bool need_time,
										  Snapshot snapshot);
extern void ddfdw_segment_times(DdfdwSegment *segment, TupleTableSlot *row);
extern void ddfdw_segment_columns(DdfdwSegment *segment, TupleTableSlot *row, uint32 want);
extern void ddfdw_segment_emit(const DdfdwSegment *segment, uint32 row, Datum *values, bool *nulls);
extern void ddfdw_segment_release(DdfdwSegment *segment);

/* ---- trust.c ---- */

typedef dd_status (*DdfdwDecoder)(const uint8_t *residual, size_t residual_len, const uint8_t *latents,
								  size_t latents_len, const dd_model *model_or_null, const dd_side *sides,
								  unsigned n_sides, dd_type type, uint32_t n, uint32_t want, void *values,
								  uint8_t *valid, void *workspace, size_t workspace_len, dd_error *err);

extern void ddfdw_trust_init(void);
extern DdfdwDecoder ddfdw_decoder(DdfdwSegment *segment, AttrNumber attno, unsigned coder);

/* ---- scan.c ---- */

/* A condition on time, to find a segment's first and last wanted row among its sorted times. */
typedef struct DdfdwTimeBound {
	int cond;
	bool lower; /* false for the rows before some time, true for those from it on */
	FmgrInfo function;
} DdfdwTimeBound;

/* A column of the slot that has another value in each row. */
typedef struct DdfdwFeed {
	const Datum *values;
	const bool *nulls; /* NULL: no NULLs */
	Datum *value;
	bool *null;
} DdfdwFeed;

typedef struct DdfdwScan {
	DdfdwTable *table;
	Relation companion_rel;
	DdfdwCompanion *companion;
	DdfdwSegment *segment;
	int nconds;
	DdfdwCond *conds;
	List *exprs; /* ExprState of each condition, NULL for IS [NOT] NULL */
	Datum *values;
	int nbounds;
	DdfdwTimeBound *bounds;
	MemoryContext context; /* the scan's; Iterate is called in one that is reset with each row */
	MemoryContext params;  /* values of the conditions; reset with each rescan */
	bool started; /* conditions evaluated, scan positioned */
	bool empty;	  /* a condition cannot be true */
	uint32 row, end; /* of the current segment: the next row and the one after the last */
	int nfeeds;
	DdfdwFeed *feeds;
	bool identified; /* rows have a ctid: somebody asks for one */
	struct DdfdwOrder *order; /* NULL: as segments are found */
	int64 scans;	 /* starts and restarts */
	int64 matched;	 /* segments that were not pruned */

	struct DdfdwShared *shared; /* in a parallel scan, while it runs */
	uint64 position, claimed;	/* in the list of segments: the one reached, the next one to decode */
	bool was_parallel;
} DdfdwScan;

extern void ddfdw_begin(ForeignScanState *node, int eflags);
extern void ddfdw_rescan(ForeignScanState *node);
extern void ddfdw_end(ForeignScanState *node);
extern void ddfdw_scan_start(ForeignScanState *node);
extern bool ddfdw_scan_advance(ForeignScanState *node);
extern bool ddfdw_scan_segment(ForeignScanState *node);
extern bool ddfdw_scan_covers(DdfdwScan *scan, int64 t_min, int64 t_max);
extern void ddfdw_scan_bounds(DdfdwScan *scan, const DdfdwSegment *segment, uint32 *first, uint32 *end);

/* ---- rows.c ---- */

extern void ddfdw_rows_begin(ForeignScanState *node);
extern TupleTableSlot *ddfdw_iterate(ForeignScanState *node);

/* ---- order.c ---- */

typedef struct DdfdwOrder DdfdwOrder;

extern DdfdwOrder *ddfdw_order_create(const DdfdwTable *table, List *packed, List *columns);
extern void ddfdw_order_promising(DdfdwOrder *order, EState *estate, TupleDesc desc);
extern void ddfdw_order_reset(DdfdwOrder *order);
extern void ddfdw_order_end(DdfdwScan *scan);
extern TupleTableSlot *ddfdw_order_next(DdfdwScan *scan, TupleTableSlot *slot);

/* ---- promise.c ---- */

extern void ddfdw_promise_init(void);

/* ---- parallel.c ---- */

typedef struct DdfdwShared DdfdwShared;

extern bool ddfdw_is_parallel_safe(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *rte);
extern Size ddfdw_estimate_dsm(ForeignScanState *node, ParallelContext *context);
extern void ddfdw_initialize_dsm(ForeignScanState *node, ParallelContext *context, void *coordinate);
extern void ddfdw_reinitialize_dsm(ForeignScanState *node, ParallelContext *context, void *coordinate);
extern void ddfdw_initialize_worker(ForeignScanState *node, shm_toc *toc, void *coordinate);
extern void ddfdw_shutdown(ForeignScanState *node);
extern bool ddfdw_claim(DdfdwScan *scan);
extern void ddfdw_share_counts(DdfdwScan *scan);

/* ---- modify.c, changes.c, lock.c; modify.h has what these share with unseal.c, range.c and owner.c ---- */

extern void ddfdw_modify_init(void);
extern void ddfdw_identify(ItemPointer tid, int64 segment, uint32 row);
extern void ddfdw_check_statement(PlannerInfo *root, Index rti, Oid foreign);
extern void ddfdw_add_targets(PlannerInfo *root, Index rtindex, RangeTblEntry *rte, Relation foreign);
extern void ddfdw_begin_modify(ModifyTableState *node, ResultRelInfo *target, List *fdw_private, int subplan_index,
							   int eflags);
extern TupleTableSlot *ddfdw_exec_insert(EState *estate, ResultRelInfo *target, TupleTableSlot *slot,
										 TupleTableSlot *plan_slot);
extern TupleTableSlot *ddfdw_exec_update(EState *estate, ResultRelInfo *target, TupleTableSlot *slot,
										 TupleTableSlot *plan_slot);
extern TupleTableSlot *ddfdw_exec_delete(EState *estate, ResultRelInfo *target, TupleTableSlot *slot,
										 TupleTableSlot *plan_slot);
extern void ddfdw_end_modify(EState *estate, ResultRelInfo *target);
extern void ddfdw_truncate(List *relations, DropBehavior behavior, bool restart_seqs);
extern RowMarkType ddfdw_row_mark(RangeTblEntry *rte, LockClauseStrength strength);
extern void ddfdw_lock_row(EState *estate, ExecRowMark *mark, Datum rowid, TupleTableSlot *slot, bool *updated);

/* ---- explain.c, analyze.c ---- */

struct ExplainState;
extern void ddfdw_explain(ForeignScanState *node, struct ExplainState *es);
extern bool ddfdw_analyze(Relation foreign, AcquireSampleRowsFunc *func, BlockNumber *pages);

#endif
