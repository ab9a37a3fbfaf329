/*
 * Entry points of the extension, and the refusal of writes to cold rows.
 *
 * UPDATE and DELETE on a managed table visit its cold rows too. They are refused only when such a row is about to
 * be changed, so that statements whose WHERE clause selects hot rows alone keep working.
 */
#include "fdw.h"

#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#pragma GCC visibility push(default) /* as in options.c */
PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(ddstore_fdw_handler);
PG_FUNCTION_INFO_V1(ddstore_extension_version);
#pragma GCC visibility pop

static TupleTableSlot *
refuse_insert(EState *estate, ResultRelInfo *target, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot insert into \"%s\": it holds compacted rows", RelationGetRelationName(target->ri_RelationDesc)),
			errhint("Insert into the table it inherits from; late rows are compacted with the others."));
	return NULL;
}

static TupleTableSlot *
refuse_update(EState *estate, ResultRelInfo *target, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot update a compacted row of \"%s\"", RelationGetRelationName(target->ri_RelationDesc)),
			errhint("UPDATE ONLY changes the rows not yet compacted; \"ddstore release\" turns every row back into an "
					"ordinary one."));
	return NULL;
}

static TupleTableSlot *
refuse_delete(EState *estate, ResultRelInfo *target, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot delete a compacted row of \"%s\"", RelationGetRelationName(target->ri_RelationDesc)),
			errhint("DELETE FROM ONLY removes rows not yet compacted; \"ddstore release\" turns every row back into an "
					"ordinary one."));
	return NULL;
}

static void
refuse_truncate(List *relations, DropBehavior behavior, bool restart_seqs)
{
	Relation first = linitial(relations);

	ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot truncate \"%s\": it holds compacted rows", RelationGetRelationName(first)),
			errhint("TRUNCATE ONLY empties the rows not yet compacted."));
}

Datum
ddstore_fdw_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = ddfdw_get_rel_size;
	routine->GetForeignPaths = ddfdw_get_paths;
	routine->GetForeignPlan = ddfdw_get_plan;
	routine->BeginForeignScan = ddfdw_begin;
	routine->IterateForeignScan = ddfdw_iterate;
	routine->ReScanForeignScan = ddfdw_rescan;
	routine->EndForeignScan = ddfdw_end;
	routine->ShutdownForeignScan = ddfdw_shutdown;
	routine->IsForeignScanParallelSafe = ddfdw_is_parallel_safe;
	routine->EstimateDSMForeignScan = ddfdw_estimate_dsm;
	routine->InitializeDSMForeignScan = ddfdw_initialize_dsm;
	routine->ReInitializeDSMForeignScan = ddfdw_reinitialize_dsm;
	routine->InitializeWorkerForeignScan = ddfdw_initialize_worker;
	routine->ExplainForeignScan = ddfdw_explain;
	routine->AnalyzeForeignTable = ddfdw_analyze;
	routine->ExecForeignInsert = refuse_insert;
	routine->ExecForeignUpdate = refuse_update;
	routine->ExecForeignDelete = refuse_delete;
	routine->ExecForeignTruncate = refuse_truncate;
	PG_RETURN_POINTER(routine);
}

Datum
ddstore_extension_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(DDSTORE_EXTENSION_VERSION));
}
