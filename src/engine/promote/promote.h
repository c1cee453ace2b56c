/*
 * Promote: the application's writes stop on the source and begin on the destination, and nothing is between.
 *
 * Contract
 * - promote_run() walks the steps of PROMOTE_STEPS in order. Everything before OPEN can be undone, and is, when a step
 *   fails or the user stops it: locks released, the source writable as before, following untouched. OPEN is one
 *   transaction of the destination that does what only the new primary may have (triggers, rules, policies, event
 *   triggers, sequences) and marks the step "opened" in the ledger: from its COMMIT on the destination is the database.
 * - After a crash: promote_undo() makes the source writable again, unless the ledger's step "opened" is there: then it
 *   does nothing, and the caller only goes on closing (the journal's line went with OPEN's transaction).
 * - Failures: PROMOTE_REFUSED (something is to be mended first), CANCELLED, else PROMOTE_UNDONE (try again). With
 *   `unsettled`: the way back failed too, or it is not known whether OPEN was committed; the message says which.
 * - `stop` also ends what the control connections wait for, until OPEN's COMMIT is sent: from then on nothing does.
 * - Hooks are written down before the first of them runs, and taken off when they have run: that they are due in the
 * ledger, their commands in `folder` alone. After a crash, or a failure that was not settled, promote_run_left_hook()
 * runs the one that is due. So each runs at least once, where its command is known.
 * - `source` and `dest` may be broken or in a failed transaction after a failure: the caller reconnects.
 * - `--dry-run`: everything that can be tried without stopping a write, and an estimate of the outage.
 * - What is done on the source is in the journal first (kind JOURNAL_FENCE, name = what to set back).
 *
 * See promote.c for what each side holds at each point.
 */
#pragma once

#include "engine/ddl/drift.h"
#include "engine/ddl/unrepeated.h"
#include "engine/finish/finish.h"
#include "engine/follow/follow.h"
#include "engine/seam/seam.h"

#define JOURNAL_FENCE "fence"
#define PROMOTE_STEP_OPENED "opened"       /* in pgcrane.step */
#define PROMOTE_STEP_KEEP_SLOT "keep slot" /* with it, when the promote was asked for with --keep-slot */
#define PROMOTE_STEP_PROVEN "proven" /* written after it, when PromoteResult.proven: for the report of a later run */

/* Said to people, %s = the database. A session of it would be read-only, and the statement refused. */
#define PROMOTE_WRITABLE_SQL "BEGIN READ WRITE; ALTER DATABASE %s RESET default_transaction_read_only; COMMIT"

/* X(NAME, "for people") in order */
#define PROMOTE_STEPS(X)                                                                                               \
    X(LAG, "wait until the destination has caught up")                                                                 \
    X(PREPARE, "refresh materialized views, compare both catalogues, tables without identity")                         \
    X(HOOK_BEFORE, "run the hook before the fence")                                                                    \
    X(FENCE, "stop writes on the source")                                                                              \
    X(DRAIN, "apply everything up to the marker")                                                                      \
    X(COPY_REST, "sequences, large objects, tables that no stream carries")                                            \
    X(COMPARE, "compare both catalogues under the fence")                                                              \
    X(PROOF, "nothing changed after the marker")                                                                       \
    X(OPEN, "triggers, policies, event triggers: the destination is the database")                                     \
    X(HOOK_AFTER, "run the hook after the destination is open")

typedef enum PromoteStep {
#define X(name, help) PROMOTE_##name,
    PROMOTE_STEPS(X)
#undef X
        PROMOTE_STEP_MAX_,
} PromoteStep;

typedef struct PromoteParams {
    const MigrateOptions *options; /* fence, fence_timeout, lag_limit, hooks, recopy_limit, dry_run */
    const LoadParams *load;        /* archive, tables (plan), ledger, tracker */
    DbConn *source, *dest;         /* control connections, idle */
    const DbTarget *source_target, *dest_target;
    const char *job_id;
    const char *folder; /* of the job on this machine: what hooks there are */
    SeamNames names;
    const char *published; /* as of seam_check_published(); may be NULL */
    Follow *follow;
    const FollowTable *tables; /* all that are followed */
    size_t tables_count;
    const char *pg_dump; /* path: the source's definitions are read again; not used without an archive */
    /* An entry of the archive that is our own doing on the source. */
    bool (*is_own)(const TocEntry *entry);
    NotMovedVec *not_moved;
    DriftParams drift;
    const Stop *stop;
    void (*event)(void *context, const char *level, const char *text);
    void (*step)(void *context, PromoteStep step); /* it begins now; may be NULL */
    /* After OPEN's COMMIT, before the locks go: ends the following, or what `--fence locks` held back on the source
     * would still be applied. May be NULL. */
    void (*opened)(void *context);
    void *context;
} PromoteParams;

typedef struct PromoteResult {
    bool opened;
    bool proven;       /* the proof held, and the fence is known to have stood until the destination was open */
    int64_t outage_us; /* from the first write that could fail or wait to OPEN's COMMIT; dry run: the estimate */
    int64_t outage_with_hooks_us; /* from the begin of the hook before to the end of the hook after; 0 = no hook ran */
    /* Of a failure: the source may still be read-only, or the destination be open. As soon as both answer, the ledger's
     * step and promote_undo() settle it; until then nothing may be followed. */
    bool unsettled;
    const char *cause, *cause_remedy;   /* of a failure that was undone, or is unsettled: as PROMOTE_UNDONE says it */
    int64_t step_us[PROMOTE_STEP_MAX_]; /* 0: not done */
    Lsn marker;                         /* everything up to here is on the destination */
    int64_t sequences, large_objects, tables_copied; /* in COPY_REST */
    StringVec notes;
} PromoteResult;

NODISCARD bool promote_run(const PromoteParams *params, Arena *arena, PromoteResult *ret_result, Error *err);

/* Takes back what a promote that did not come to OPEN left on the source: its setting, and the sessions that logged in
 * under it. Nothing to undo is fine. `left`, in `arena`: sessions that stay read-only, for people, with the SQL. */
NODISCARD bool promote_undo(DbConn *source, DbConn *dest, const Ledger *ledger, Arena *arena, bool *ret_undone,
                            StringVec *left, Error *err);
/* Pure: the statement that sets back what a line of the journal (JOURNAL_FENCE) says, NULL when it is none of ours. */
const char *promote_setting_back_sql(Arena *arena, const char *database, const char *line);
/* What OPEN left for afterwards, foreign keys to be validated: each that fails is listed as not moved, and one whose
 * tables are locked is told as an event and tried again until the connection's stop. Once more does no harm. */
NODISCARD bool promote_finish_keys(DbConn *dest, const Ledger *ledger, Arena *arena, NotMovedVec *not_moved,
                                   void (*event)(void *context, const char *level, const char *text), void *context,
                                   Error *err);
typedef struct LeftHooks {
    const char *folder; /* as of PromoteParams */
    bool *told;         /* that one is due whose command is not there: set when it was, once is enough */
    void (*event)(void *context, const char *level, const char *text);
    void *context;
} LeftHooks;
/* The hook that an interrupted promote has left: the one after, when the destination is `opened`, else the one that
 * undoes. Its failure, or that this machine does not have its command, is an event of level "error"; false only when
 * the ledger cannot be read or written. */
NODISCARD bool promote_run_left_hook(DbConn *dest, const Ledger *ledger, bool opened, const LeftHooks *left,
                                     Error *err);
const char *promote_step_name(PromoteStep step);
const char *promote_step_help(PromoteStep step);
