/* Entry points of the extension. */
#include "agg.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#pragma GCC visibility push(default) /* as in options.c */
PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(ddstore_fdw_handler);
PG_FUNCTION_INFO_V1(ddstore_extension_version);
extern void _PG_init(void);
#pragma GCC visibility pop

void
_PG_init(void)
{
	ddfdw_trust_init();
	ddfdw_cache_init();
	ddfdw_sources_init();
	ddfdw_modify_init();
	ddfdw_promise_init();
	ddagg_init();
	MarkGUCPrefixReserved("ddstore");
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
	routine->AddForeignUpdateTargets = ddfdw_add_targets;
	routine->BeginForeignModify = ddfdw_begin_modify;
	routine->ExecForeignInsert = ddfdw_exec_insert;
	routine->ExecForeignUpdate = ddfdw_exec_update;
	routine->ExecForeignDelete = ddfdw_exec_delete;
	routine->EndForeignModify = ddfdw_end_modify;
	routine->ExecForeignTruncate = ddfdw_truncate;
	routine->GetForeignRowMarkType = ddfdw_row_mark;
	routine->RefetchForeignRow = ddfdw_lock_row;
	PG_RETURN_POINTER(routine);
}

Datum
ddstore_extension_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(DDSTORE_EXTENSION_VERSION));
}
