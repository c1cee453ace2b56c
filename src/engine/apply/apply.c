/*
 * Applies a sealed batch to the destination (apply.h).
 *
 * NOTES: crash points
 * Data and position are one transaction, committed durably (the control of synchronous_commit is ours). A crash before
 * COMMIT leaves neither; after it both. A COMMIT whose reply is lost: the next run reads the position from the ledger
 * and goes on from there; what the stream sends again below it is dropped by the receiver. The compare-and-set makes a
 * second applier, or one that lost its place, fail.
 *
 * Parts are run together first, set-wise and in one pipeline. When that fails, each alone under its own savepoint; what
 * fails then goes one by one. Most tables never fail, so what it costs to begin again is not worth a savepoint for each
 * part; a table that did (it passes unique values on) goes one by one at once for its next parts.
 *
 * In replica role neither foreign keys nor deferrable unique constraints are checked, as in any logical replication:
 * the source has checked them, and what is wrong in the destination besides is found when it is validated. Where the
 * role may not be set, constraints are deferred as far as they let themselves be: tables of one transaction are not
 * changed in the order of its statements. Of a table without identity, into which we only insert, the unique ones are
 * not: rows that are gone on the source are still here, so a value that is there already is nothing unusual, and has to
 * be known of its row. Which of the two rows stays does not matter, the table is compared when writes have stopped.
 */
#include "engine/apply/apply.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "engine/apply/apply_internal.h"

#include <stdio.h>
#include <string.h>

bool apply_session_setup(DbConn *dest, bool *ret_replica, Error *err) {
    Error refused = {0};

    /* Generic plans with index nested loops: a custom plan of a large array may choose to hash the whole table. */
    if (!db_exec(dest,
                 "SET synchronous_commit = on; SET enable_hashjoin = off; SET enable_mergejoin = off;"
                 " SET enable_seqscan = off",
                 err) ||
        (db_version(dest) >= APPLY_PLAN_CACHE_VERSION &&
         !db_exec(dest, "SET plan_cache_mode = force_generic_plan", err)))
        return error_wrap(err, "setting up the applier's session");
    *ret_replica = db_exec(dest, "SET session_replication_role = replica", &refused);
    if (!*ret_replica)
        log_warning("session_replication_role cannot be set: %s", refused.message);
    return *ret_replica || !db_is_broken(dest) || (*err = refused, false);
}

bool apply_begin(DbConn *dest, const Ledger *ledger, Error *err) {
    return ledger_begin(dest, ledger, err) && db_exec(dest, "SET CONSTRAINTS ALL DEFERRED", err);
}

/* ---- Parts ---- */

enum { TROUBLE_MAX = 7 };

void count_rows(ApplyCounts *counts, BatchOp op, int64_t rows) {
    counts->inserts += op == BATCH_INSERT ? rows : 0;
    counts->updates += op == BATCH_UPDATE ? rows : 0;
    counts->deletes += op == BATCH_DELETE ? rows : 0;
}

static void count_groups(ApplyCounts *counts, const BatchPart *part) {
    for (size_t i = 0; i < part->groups_count; i++)
        count_rows(counts, part->groups[i].op, (int64_t)part->groups[i].rows_count);
}

static bool run_serial(DbConn *dest, const BatchPart *part, ApplyCounts *counts, Error *err) {
    if (!one_by_one_run(dest, part, err))
        return false;
    for (size_t i = 0; i < part->changes_count; i++)
        count_rows(counts, part->changes[i].op, 1);
    counts->serial_parts++;
    return true;
}

/* A table whose rows pass a unique value on is like that by nature: the next parts of it do not try set-wise first. */
static void note_failure(ApplyTrouble *trouble) {
    trouble->failures = MIN(trouble->failures + 1, (unsigned)TROUBLE_MAX);
    trouble->parts = 1u << trouble->failures;
}

static bool undo_groups(DbConn *dest, Error *err) {
    return db_exec(dest, "ROLLBACK TO parts; RELEASE parts", err);
}

static bool run_alone(DbConn *dest, const BatchPart *part, ApplyCounts *counts, Error *err) {
    if (groups_run(dest, part, 1, err)) {
        count_groups(counts, part);
        table_of(part)->trouble->failures = 0;
        return true;
    }
    if (!one_by_one_may_help(dest, err))
        return false;
    note_failure(table_of(part)->trouble);
    log_info("%s; its changes go one by one", err->message);
    return undo_groups(dest, err) && run_serial(dest, part, counts, err);
}

static bool run_together(DbConn *dest, const BatchPart *parts, size_t count, ApplyCounts *counts, Error *err) {
    bool ok = count > 1 && groups_run(dest, parts, count, err);

    for (size_t i = 0; ok && i < count; i++)
        count_groups(counts, &parts[i]);
    if (ok)
        return true;
    if (count > 1 && (!one_by_one_may_help(dest, err) || !undo_groups(dest, err)))
        return false;
    for (size_t i = 0; i < count; i++)
        if (parts[i].groups_count > 0 && !run_alone(dest, &parts[i], counts, err))
            return false;
    return true;
}

enum { WIDE_SAMPLE = 16, WIDE_BYTES = 16 << 10, HUGE_BYTES = 4 << 20 };

/* Rows so large that an array of them costs more (quoting, and taking it apart again) than a statement each; COPY has
 * to look for its ends in them as well. Still larger ones are inserted by COPY, which takes them in pieces. */
static bool is_wide(const BatchPart *part) {
    size_t sample = MIN(part->changes_count, (size_t)WIDE_SAMPLE);
    size_t bytes = 0;

    if (part->groups_count == 0)
        return false;
    for (size_t i = 0; i < sample; i++)
        for (uint16_t c = 0; c < part->changes[i].new_tuple.count; c++)
            bytes += part->changes[i].new_tuple.values[c].len;
    return bytes > sample * WIDE_BYTES && (part->groups[0].op != BATCH_INSERT || bytes < sample * HUGE_BYTES);
}

/* Not inserts that would take more than a statement each. */
static bool is_better_alone(const BatchPart *part) {
    const ApplyTable *table = table_of(part);
    bool inserts = part->groups_count > 0 && part->groups[0].op == BATCH_INSERT;

    return is_wide(part) && table->batch.identity != 'f' &&
           !(inserts && (apply_is_loose(table, BATCH_INSERT) || table->has_always_identity));
}

/* A set-wise update finds rows by their whole image and gives new values beside it: two lists of columns in one, which
 * has a limit (the server's MaxTupleAttributeNumber). */
static bool is_too_broad(const BatchPart *part) {
    enum { COLUMNS_MAX = 1600 };
    const BatchTable *table = part->table;

    for (size_t i = 0; table->identity == 'f' && i < part->groups_count; i++)
        if (part->groups[i].op == BATCH_UPDATE && 2 * table->columns_count > COLUMNS_MAX)
            return true;
    return false;
}

static bool goes_one_by_one(const BatchPart *part) {
    ApplyTrouble *trouble = table_of(part)->trouble;

    if (part->is_serial || is_better_alone(part) || is_too_broad(part))
        return true;
    if (trouble->parts == 0 || part->groups_count == 0)
        return false;
    trouble->parts--;
    return true;
}

/* Tables do not wait for one another: nothing that spans them is checked before the end of the transaction. */
bool apply_parts(DbConn *dest, const BatchPart *parts, size_t count, ApplyCounts *counts, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    BatchPart *together = arena_array(arena, BatchPart, MAX(count, 1));
    bool *alone = arena_array(arena, bool, MAX(count, 1));
    size_t gathered = 0;

    for (size_t i = 0; i < count; i++) {
        alone[i] = goes_one_by_one(&parts[i]);
        if (!alone[i])
            together[gathered++] = parts[i];
    }
    if (gathered > 0 && !run_together(dest, together, gathered, counts, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (alone[i] && !run_serial(dest, &parts[i], counts, err))
            return false;
    return failpoint("apply.after_parts", err);
}

bool apply_commit(DbConn *dest, int lane, Lsn from, Lsn to, int64_t transactions, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *sql = arena_printf(arena,
                                   "UPDATE pgcrane.position SET lsn = '%s', transactions = transactions + %lld"
                                   " WHERE lane = %d AND lsn = '%s'",
                                   lsn_format(arena, to), (long long)transactions, lane, lsn_format(arena, from));

    if (!db_exec_rows(dest, sql, 0, NULL, 1, err)) {
        if (err->reason != REASON_ROW_COUNT)
            return error_wrap(err, "moving the position");
        return error_set(err, REASON_FENCED, "the position of lane %d is not where this run left it", lane);
    }
    return failpoint("apply.before_commit", err) && ledger_commit(dest, err) && failpoint("apply.after_commit", err);
}
