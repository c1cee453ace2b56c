/*
 * All checks before anything is changed: every finding at once, each with the SQL or command that mends it.
 *
 * Reads only; both connections are idle (no transaction) before and after. Runs every check even when earlier ones
 * found errors; a check that cannot run because of missing privileges becomes a finding itself. An Error is only for a
 * lost connection or stop. checks.def is the table of all checks.
 */
#pragma once

#include "model/finding.h"
#include "model/options.h"
#include "pg/query.h"

typedef struct PreflightInput {
    DbConn *source;
    DbConn *dest;
    const MigrateOptions *options;
    bool resuming; /* the destination holds our own unfinished work: emptiness and clashes are not checked */
    const char *state_dir;
} PreflightInput;

NODISCARD bool preflight_run(Arena *arena, const PreflightInput *input, FindingVec *ret_findings, Error *err);

/* A statement that lists what a user has in a database: (key, kind, DROP's word or "", name), where two databases have
 * the same key the objects clash (content.c). */
extern const char preflight_objects_sql[];

/* The table, for documentation. */
typedef struct CheckInfo {
    const char *id;
    Severity severity;
    const char *side;
    const char *google; /* the code of Google's MigrationJobVerificationError that is nearest */
    const char *help;
} CheckInfo;
extern const CheckInfo preflight_checks[];
extern const size_t preflight_checks_count;
