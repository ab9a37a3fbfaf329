/*
 * For tools/asan: memory that the extension pallocs ends in a stretch that may not be touched.
 *
 * AddressSanitizer guards what malloc returns, and a memory context cuts many chunks out of one such block. So every
 * chunk is made longer, its tail is poisoned, and the poison is lifted before PostgreSQL frees or reuses the memory.
 */
#ifndef DDSTORE_ASAN_PALLOC_H
#define DDSTORE_ASAN_PALLOC_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/memutils.h"
#include "utils/palloc.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include <sanitizer/asan_interface.h>

#define GUARD_SIZE 32
#define CHUNK_HEADER (PG_VERSION_NUM >= 160000 ? 8 : 16)

typedef struct DdGuard {
	MemoryContextCallback callback;
	char *tail;
} DdGuard;

static inline void
dd_guard_lift(void *guard)
{
	ASAN_UNPOISON_MEMORY_REGION(((DdGuard *)guard)->tail, GUARD_SIZE);
}

static inline void *
dd_guarded(MemoryContext context, Size size, bool zero)
{
	DdGuard *guard = MemoryContextAlloc(context, sizeof *guard);
	char *chunk;

	if (!AllocSizeIsValid(size))
		elog(ERROR, "invalid memory alloc request size %zu", size);
	chunk = MemoryContextAllocExtended(context, size + GUARD_SIZE,
									   MCXT_ALLOC_HUGE | (zero ? MCXT_ALLOC_ZERO : 0));
	guard->tail = chunk + size;
	guard->callback.func = dd_guard_lift;
	guard->callback.arg = guard;
	ASAN_POISON_MEMORY_REGION(guard->tail, GUARD_SIZE);
	MemoryContextRegisterResetCallback(context, &guard->callback);
	return chunk;
}

/* Bytes out of a table end where they end, not where their chunk does. */
static inline struct varlena *
dd_guarded_copy(struct varlena *value)
{
	struct varlena *plain = pg_detoast_datum(value);

	return memcpy(dd_guarded(CurrentMemoryContext, VARSIZE(plain), false), plain, VARSIZE(plain));
}

/* A chunk that is freed by itself may be reused at once; all of it is PostgreSQL's again. */
static inline void
dd_guard_free(void *chunk)
{
	ASAN_UNPOISON_MEMORY_REGION(chunk, GetMemoryChunkSpace(chunk) - CHUNK_HEADER);
	pfree(chunk);
}

/* One that grows loses its guard. */
static inline void *
dd_guard_resize(void *chunk, Size size)
{
	ASAN_UNPOISON_MEMORY_REGION(chunk, GetMemoryChunkSpace(chunk) - CHUNK_HEADER);
	return repalloc_huge(chunk, size);
}

#define palloc(size) dd_guarded(CurrentMemoryContext, size, false)
#define palloc0(size) dd_guarded(CurrentMemoryContext, size, true)
#define MemoryContextAlloc(context, size) dd_guarded(context, size, false)
#define MemoryContextAllocZero(context, size) dd_guarded(context, size, true)
#undef PG_DETOAST_DATUM_COPY
#define PG_DETOAST_DATUM_COPY(datum) dd_guarded_copy((struct varlena *)DatumGetPointer(datum))
#define pfree(chunk) dd_guard_free(chunk)
#define repalloc(chunk, size) dd_guard_resize(chunk, size)
#define repalloc_huge(chunk, size) dd_guard_resize(chunk, size)

#endif
