/*
 * The options of foreign tables, read once: every query's planning asks for them dozens of times.
 *
 * A change of options or columns invalidates the table's relation, which drops what is remembered here. Names are looked up
 * anew by every query, as the caller may: only what they are is remembered.
 */
#include "fdw.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

typedef struct Source {
	Oid foreign; /* the key */
	NameData schema, companion;
	int natts;
	DdfdwOption *columns;
} Source;

static HTAB *sources;

static void
forget(Source *source)
{
	if (source->columns)
		pfree(source->columns);
	hash_search(sources, &source->foreign, HASH_REMOVE, NULL);
}

static void
forget_relation(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS status;
	Source *source;

	if (sources == NULL)
		return;
	if (OidIsValid(relation)) {
		if ((source = hash_search(sources, &relation, HASH_FIND, NULL)) != NULL)
			forget(source);
		return;
	}
	hash_seq_init(&status, sources);
	while ((source = hash_seq_search(&status)) != NULL)
		forget(source);
}

/* When the library is loaded. */
void
ddfdw_sources_init(void)
{
	CacheRegisterRelcacheCallback(forget_relation, (Datum)0);
}

static const char *
option_of(List *options, const char *name)
{
	ListCell *cell;

	foreach (cell, options) {
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0)
			return defGetString(option);
	}
	return NULL;
}

static const Source *
remember(Oid foreign)
{
	const char *segments = option_of(GetForeignTable(foreign)->options, "segments");
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(foreign));
	DdfdwOption *columns;
	int natts;
	RangeVar *companion;
	Source *source;
	bool found;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", foreign);
	natts = ((Form_pg_class)GETSTRUCT(tuple))->relnatts;
	ReleaseSysCache(tuple);
	if (segments == NULL)
		ereport(ERROR, errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				errmsg("foreign table \"%s\" lacks the option \"segments\"", get_rel_name(foreign)));
	columns = palloc0(sizeof(DdfdwOption) * Max(natts, 1));
	companion = makeRangeVarFromNameList(ddfdw_parse_segments(segments));
	for (int i = 0; i < natts; i++) {
		List *options = GetForeignColumnOptions(foreign, i + 1);
		const char *value = option_of(options, "segment_column");

		if (value == NULL) {
			columns[i].source = option_of(options, "missing") ? DDFDW_MISSING : DDFDW_ABSENT;
			continue;
		}
		columns[i].source = ddfdw_parse_segment_column(value);
		strlcpy(columns[i].name, value, sizeof columns[i].name);
	}
	if (sources == NULL) {
		HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(Source), .hcxt = CacheMemoryContext};

		sources = hash_create("ddstore tables", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	source = hash_search(sources, &foreign, HASH_ENTER, &found);
	if (found && source->columns) /* the look-ups above came here themselves */
		pfree(source->columns);
	namestrcpy(&source->schema, companion->schemaname);
	namestrcpy(&source->companion, companion->relname);
	source->natts = 0;
	source->columns = NULL;
	source->columns = MemoryContextAlloc(CacheMemoryContext, sizeof(DdfdwOption) * Max(natts, 1));
	source->natts = natts;
	memcpy(source->columns, columns, sizeof(DdfdwOption) * natts);
	pfree(columns);
	return source;
}

/* Valid until catalogs are looked at. */
static const Source *
source_of(Oid foreign)
{
	const Source *source = sources ? hash_search(sources, &foreign, HASH_FIND, NULL) : NULL;

	return source ? source : remember(foreign);
}

/* What the column's option says; DDFDW_ABSENT when it has none, DDFDW_MISSING when it has a value for every row. */
DdfdwOption
ddfdw_column_option(Oid foreign, AttrNumber attno)
{
	static const DdfdwOption absent = {DDFDW_ABSENT, ""};
	const Source *source = source_of(foreign);

	return attno >= 1 && attno <= source->natts ? source->columns[attno - 1] : absent;
}

DdfdwSource
ddfdw_column_source(Oid foreign, AttrNumber attno)
{
	return ddfdw_column_option(foreign, attno).source;
}

Oid
ddfdw_companion_oid(Oid foreign)
{
	const Source *source = source_of(foreign);
	NameData schema = source->schema, companion = source->companion;

	return RangeVarGetRelid(makeRangeVar(NameStr(schema), NameStr(companion), -1), NoLock, false);
}
