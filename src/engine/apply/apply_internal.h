/* What the files of the applier share. */
#pragma once

#include "engine/apply/apply.h"

enum { APPLY_PLAN_CACHE_VERSION = 120000 }; /* before it there is no plan_cache_mode */

static inline const ApplyTable *table_of(const BatchPart *part) {
    return (const ApplyTable *)(const void *)part->table;
}

void count_rows(ApplyCounts *counts, BatchOp op, int64_t rows);

/* --- groups.c --- */

/* The groups of parts that are not serial, set-wise and in few round trips, under a savepoint named "parts". After a
 * failure it is still there (unless the connection is broken). */
NODISCARD bool groups_run(DbConn *dest, const BatchPart *parts, size_t count, Error *err);

/* --- one_by_one.c --- */

/* May changes one by one succeed where this error came up, or at least name the row? */
bool one_by_one_may_help(const DbConn *dest, const Error *err);
/* The part's changes one by one in source order. CONFLICT when one of them fails. */
NODISCARD bool one_by_one_run(DbConn *dest, const BatchPart *part, Error *err);
