/*
 * All checks before anything is changed: every finding at once, each with the SQL or command that mends it.
 *
 * Reads only; both connections are idle (no transaction) before and after. Runs every check even when earlier ones
 * found errors; a check that cannot run because of missing privileges becomes a finding itself. An Error is only for a
 * lost connection or stop. checks.def is the table of all checks.
 */
#pragma once

#include "model/estimate.h"
#include "model/finding.h"
#include "model/options.h"
#include "pg/client_bins.h"
#include "pg/query.h"

typedef struct PreflightInput {
    DbConn *source;
    DbConn *dest;
    const MigrateOptions *options;
    bool resuming; /* the destination holds our own unfinished work: emptiness and clashes are not checked */
    const char *state_dir;
    bool dest_absent;              /* its database is yet to be made: `dest` is another one of the server */
    bool instance_follows;         /* roles and database are made before the migration begins (engine/instance) */
    const ClientBin *pg_dump;      /* what the definitions are read with; path NULL = none is used, or was found */
    const DbTarget *source_target; /* for further sessions; NULL = none are tried */
    const Stop *stop;
} PreflightInput;

/* ret_estimate may be NULL; see model/estimate.h. */
NODISCARD bool preflight_run(Arena *arena, const PreflightInput *input, FindingVec *ret_findings,
                             Estimate *ret_estimate, Error *err);

/* Notes which findings have a safe mend that our roles may carry out: each is tried, in a transaction that is rolled
 * back. An Error is for a lost connection or stop. */
NODISCARD bool preflight_try_mends(const PreflightInput *input, FindingVec *findings, Error *err);

/* What a safe mend (model/finding.h) is to be carried out. */
typedef struct Mend {
    const char *side; /* "source" or "destination" */
    const char *statement;
} Mend;
typedef VEC(Mend) MendVec;

/* What has become of one side's statements. */
typedef enum MendState { MEND_NOT, MEND_DONE, MEND_UNKNOWN } MendState;
typedef struct MendOutcome {
    MendState source, dest;
} MendOutcome;

typedef struct MendOrder {
    const MendVec *mends;
    /* Called before the first COMMIT, with UNKNOWN for each side that there are statements for, and in the end with
     * what has become of them, also when that is a failure: whoever hears nothing of it in between has to look. */
    bool (*tell)(void *context, const MendOutcome *outcome, Error *err);
    void *context;
} MendOrder;

/* Runs exactly these statements, or none: each has to be the fix of a mendable one of `findings`, found just now;
 * else FINDINGS_CHANGED. One transaction per side. Both are committed behind the last statement of either: only when
 * the second COMMIT fails is one side mended and the other not, which harms nothing. */
NODISCARD bool preflight_mend(const PreflightInput *input, const FindingVec *findings, const MendOrder *order,
                              Error *err);

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
