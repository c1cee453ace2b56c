/*
 * Tables that the stream could not keep right are copied again, while following is stopped.
 *
 * NOTES: why nothing is lost or doubled
 * The applier has stopped at P. Then, in this order: barrier, snapshot SX, marker W (flushed, behind SX). The rows that
 * SX shows replace the table's rows, and in the same transaction the ledger's line of the table gets SX and W. When
 * following goes on from P, a change of this table is skipped exactly when SX shows its transaction; all others apply.
 * A crash before that commit leaves the table suspect with its old rows and its old picture, after it the new ones.
 *
 * A table whose definition differs on the two sides, or that the destination does not have, stays suspect: somebody has
 * to make them alike first. Both sides are compared anew, as SX shows the source. So does one that was rewritten
 * between snapshot and lock: the next round takes it.
 *
 * The source's transaction is open for the whole round; each table's lock is held in a subtransaction of its own.
 *
 * Nobody follows meanwhile, and who wants to alter the table on the source waits for us: so nothing here waits for
 * others for long. An old transaction at the barrier ends the round, a lock on the destination's table passes it over.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ledger/relations.h"
#include "engine/promote/strangers.h"
#include "engine/seam/shapes.h"
#include "pg/copy.h"
#include "pg/lock_timeout.h"
#include "pg/quote.h"
#include "worker/run.h"

#include <stdio.h>
#include <string.h>

enum { EMPTY_WAIT_MS = 2000 };
#define BARRIER_US (10 * USEC_PER_SEC)
#define SQLSTATE_LOCK_TIMEOUT "55P03"
/* Which of the servers behind an address it is: two do not start within the same microsecond. */
#define STARTED_SQL "pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())::text"

typedef struct Again {
    Run *run;
    Arena *arena;
    DbConn *source; /* its transaction shows SX */
    const LedgerRelation *suspects;
    size_t count;
    const DriftVec *drifts; /* as last compared */
    bool held;              /* a table waits for nothing but these */
    SeamBlocked blocked;
    void *blocked_context;
    const char *picture;
    Lsn w;
} Again;

static bool is_suspect(const PlanTable *table, void *context, bool *ret_wanted, Error *err) {
    const Again *again = context;

    (void)err;
    *ret_wanted = false;
    for (size_t i = 0; i < again->count; i++)
        *ret_wanted |= again->suspects[i].suspect != NULL && again->suspects[i].oid == table->oid;
    return true;
}

/* Whatever was passed while changes were still followed: those that committed since then, and which the stream has had
 * already, need not be visible yet. */
static bool pass_barrier(const Again *again, bool *ret_passed, Error *err) {
    *ret_passed = false;
    return failpoint("again.before_snapshot", err) &&
           seam_barrier_within(again->run->source, &again->run->stop, BARRIER_US, again->blocked,
                               again->blocked_context, ret_passed, err);
}

/* An address of several hosts may have led to a standby, whose snapshot shows another moment than barrier and marker
 * are of. */
static bool is_same_server(const Again *again, const char *started, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(again->run->source, "SELECT " STARTED_SQL, 0, NULL, &row, err))
        return false;
    if (strcmp(db_text(row, 0, 0), started) == 0)
        return true;
    error_set(err, REASON_CONNECTION_LOST,
              "the source's address has led to another server (started %s) than before (started %s)", started,
              db_text(row, 0, 0));
    err->retryable = true;
    return false;
}

static bool open_snapshot(Again *again, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    Run *run = again->run;

    if (!db_open(&run->source_target, "copy again", &run->stop, &again->source, err) ||
        !db_exec(again->source, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err))
        return false;
    const char *sql =
        arena_printf(again->arena, "SELECT %s, " STARTED_SQL, snapshot_picture_sql(db_version(again->source)));
    if (!db_query(again->source, sql, 0, NULL, &row, err) || !is_same_server(again, db_text(row, 0, 1), err))
        return error_wrap(err, "taking a snapshot to copy tables again");
    again->picture = arena_strdup(again->arena, db_text(row, 0, 0));
    return failpoint("again.before_marker", err) && seam_marker(run->source, "copy again", &again->w, err);
}

/* Gives back all locks taken since lock_table(); the snapshot stays. An ALTER TABLE that waits for this table, and the
 * application behind it, need not wait for the others. */
static bool unlock_table(const Again *again, Error *err) {
    return db_exec(again->source, "ROLLBACK TO again; RELEASE again", err);
}

/* As the snapshot has the source's definitions. What was compared before may be of another time: a label that has
 * changed its meaning since would be copied as it is called now, into a type where it means what it did. And the shape
 * noted would be that of now (note_shape), so that nobody would ever look. */
static bool compare_definitions(Again *again, bool *ret_compared, Error *err) {
    DriftVec *drifts = arena_new_of(again->arena, DriftVec);

    *drifts = (DriftVec){0};
    if (!db_exec(again->source, "SAVEPOINT again", err))
        return false;
    *ret_compared = run_compare_briefly(again->run, again->source, again->arena, drifts, err);
    again->drifts = drifts;
    if (*ret_compared)
        return unlock_table(again, err); /* printing an expression locks its table */
    log_info("not copied again now: %s", err->message);
    return !db_is_broken(again->source) && !db_is_broken(again->run->dest) && drift_error_passes(err);
}

/* Same comparison as in the load: a rewritten or truncated table would be copied as empty. */
static bool lock_table(Again *again, const PlanTable *table, bool *ret_same, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = arena_printf(again->arena,
                                   "SET LOCAL lock_timeout = '2s'; LOCK TABLE ONLY %s IN ACCESS SHARE MODE;"
                                   " SELECT pg_catalog.pg_relation_filenode(%u)",
                                   table->quoted, table->oid);

    if (!db_exec(again->source, "SAVEPOINT again", err))
        return false;
    if (!db_query_last(again->source, sql, &row, err)) {
        log_info("not copied again now: %s: %s", table->display, err->message);
        *ret_same = false;
        return !db_is_broken(again->source) && unlock_table(again, err);
    }
    *ret_same = (uint32_t)db_int64(row, 0, 0) == table->filenode;
    return *ret_same || unlock_table(again, err);
}

/* TRUNCATE where it can be had; tables that others refer to by a foreign key refuse it in replica role, too. Without
 * where the transaction that empties a table must not fill it (plan_spares_wal()). */
static bool truncate_or_delete(DbConn *dest, const PlanTable *table, bool no_truncate, Error *err) {
    if (no_truncate)
        return db_execf(dest, err, "DELETE FROM ONLY %s", table->quoted);
    if (!db_exec(dest, "SAVEPOINT emptying", err))
        return false;
    if (db_execf(dest, err, "TRUNCATE ONLY %s", table->quoted))
        return true;
    return strcmp(err->sqlstate, "0A000") == 0 && db_exec(dest, "ROLLBACK TO emptying", err) &&
           db_execf(dest, err, "DELETE FROM ONLY %s", table->quoted);
}

/* Who reads it on the destination must not keep the source's table from being altered. An autovacuum there gives way.
 */
static bool empty_table(const Again *again, const PlanTable *table, StringVec *ret_back, Error *err) {
    DbConn *dest = again->run->dest;

    return lock_timeout_set(dest, NULL, EMPTY_WAIT_MS, LOCK_TIMEOUT_MOST_MS, NULL, err) &&
           finish_not_valid_aside(dest, again->arena, table->quoted, ret_back, err) &&
           truncate_or_delete(dest, table, again->run->load.no_freeze, err) &&
           db_exec(dest, "SET LOCAL lock_timeout = 0", err);
}

static bool pump(Again *again, const PlanTable *table, Error *err) {
    const char *form = table->binary ? "binary" : "text";
    const char *list = table->columns[0] == '\0' ? "" : arena_printf(again->arena, " (%s)", table->columns);
    DbSide side = DB_SOURCE;
    DbCopyResult copied = {0};
    const DbCopy copy = {
        .source = again->source,
        .dest = again->run->dest,
        .source_sql = arena_printf(again->arena, "COPY (SELECT %s FROM ONLY %s) TO STDOUT (FORMAT %s)", table->columns,
                                   table->quoted, form),
        .dest_sql = arena_printf(again->arena, "COPY %s%s FROM STDIN (FORMAT %s)", table->quoted, list, form),
    };

    if (!db_copy_pump(&copy, &copied, &side, err))
        return error_wrap(err, "copying table %s again", table->display);
    tracker_add_copied(again->run->tracker, 0, copied.bytes, copied.rows);
    return true;
}

/* As the snapshot shows it. */
static bool note_shape(Again *again, const PlanTable *table, Error *err) {
    Shapes shapes = {0};

    return shapes_read(again->source, again->arena, &again->run->names, table->oid, &shapes, err) &&
           (shapes.count != 1 || shape_renew(again->run->dest, &shapes, err));
}

static bool note_copied(Again *again, const PlanTable *table, Error *err) {
    const char *const snapshot[] = {again->picture, again->run->identity.source_system,
                                    lsn_format(again->arena, again->w)};
    const char *const relation[] = {arena_printf(again->arena, "%u", table->oid), table->schema, table->name,
                                    arena_printf(again->arena, "%u", table->filenode), table->columns_hash};
    DbConn *dest = again->run->dest;

    return db_query(
               dest,
               "INSERT INTO pgcrane.snapshot"
               " (id, snapshot_id, picture, system_identifier, postmaster_start, keeper_pid, w)"
               " SELECT coalesce(pg_catalog.max(id), 0) + 1, '', $1, $2, '', '0', $3::pg_lsn FROM pgcrane.snapshot",
               3, snapshot, NULL, err) &&
           db_exec_rows(dest,
                        "UPDATE pgcrane.relation SET snapshot = (SELECT pg_catalog.max(id) FROM pgcrane.snapshot),"
                        " schema_name = $2, table_name = $3, filenode = $4::oid, columns_hash = $5, suspect = NULL"
                        " WHERE oid = $1::oid",
                        5, relation, 1, err);
}

/* *ret_copied false: the destination's table was in use, and stays suspect for now. */
static bool copy_table(Again *again, const PlanTable *table, bool *ret_copied, Error *err) {
    Run *run = again->run;
    const char *role = run->replica_role ? "SET LOCAL session_replication_role = replica" : "SELECT 1";
    StringVec back = {0}; /* constraints that go while it is copied */

    *ret_copied = false;
    bool emptied = ledger_begin(run->dest, &run->ledger, err) && db_exec(run->dest, role, err) &&
                   db_exec(run->dest, run->write_settings.local, err) && empty_table(again, table, &back, err);
    bool in_use = !emptied && !db_is_broken(run->dest) && strcmp(err->sqlstate, SQLSTATE_LOCK_TIMEOUT) == 0;
    if (emptied && pump(again, table, err) && finish_not_valid_back(run->dest, &back, err) &&
        note_copied(again, table, err) && note_shape(again, table, err) && failpoint("again.before_commit", err) &&
        ledger_commit(run->dest, err)) {
        *ret_copied = true;
        return true;
    }
    db_rollback(run->dest);
    if (in_use)
        log_info("not copied again now: %s: %s", table->display, err->message);
    return in_use;
}

/* Does the destination have it in a form that takes all its rows? */
static bool fits(Again *again, const PlanTable *table, bool *ret_fits, Error *err) {
    PlanTable copy = *table;
    const Plan plan = {.tables = &copy, .count = 1};
    DriftVec own = {0};

    bool fires = false;

    *ret_fits = false;
    if (!strangers_stand(again->run->dest, table->schema, table->name, again->run->replica_role, &fires, err))
        return false;
    if (fires && !again->run->options.data_only) /* it would change what is copied, too */
        return true;
    if (!plan_check_dest(again->run->dest, again->arena, &plan, err))
        return err->reason == REASON_TABLE_CHANGED;
    if (!drift_of_table(again->run->source, again->arena, table->oid, again->drifts, &own, err))
        return false;
    *ret_fits = own.len == 0;
    again->held |= own.len > 0;
    return true;
}

/* *ret_ready false: it stays suspect for now. */
static bool is_ready(Again *again, const PlanTable *table, bool *ret_ready, Error *err) {
    *ret_ready = false;
    if (table->is_void || table->via != NULL)
        return true;
    return fits(again, table, ret_ready, err) && (!*ret_ready || lock_table(again, table, ret_ready, err));
}

static bool copy_tables(Again *again, size_t *ret_copied, Error *err) {
    Plan plan = {0};
    bool passed = false, compared = false;

    if (!pass_barrier(again, &passed, err))
        return false;
    if (!passed)
        return true;
    if (!open_snapshot(again, err) || !compare_definitions(again, &compared, err))
        return false;
    if (!compared)
        return true;
    if (!plan_read(again->source, again->arena, is_suspect, again, &plan, err))
        return false;
    for (size_t i = 0; i < plan.count; i++) {
        const PlanTable *table = &plan.tables[i];
        bool ready = false, copied = false;

        if (!is_ready(again, table, &ready, err))
            return false;
        if (!ready)
            continue;
        run_event(again->run, "info", "copying table %s again (%lld MB)", table->display,
                  (long long)(table->bytes >> 20));
        if (!copy_table(again, table, &copied, err) || !unlock_table(again, err))
            return false;
        *ret_copied += copied;
    }
    return true;
}

static bool any_suspect(const LedgerRelation *relations, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (relations[i].suspect != NULL)
            return true;
    return false;
}

bool run_copy_again(Run *run, SeamBlocked blocked, void *context, size_t *ret_copied, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Again again = {.run = run, .arena = arena, .blocked = blocked, .blocked_context = context};
    LedgerRelation *relations = NULL;

    *ret_copied = 0;
    if (!relations_read(run->dest, arena, &relations, &again.count, err))
        return false;
    again.suspects = relations;
    if (!any_suspect(relations, again.count))
        return true;
    bool ok = copy_tables(&again, ret_copied, err);
    db_closep(&again.source);
    return ok;
}

/* Tables that were dropped on the source wait for nothing any more. */
static bool forget_dropped(Run *run, const LedgerRelation *relations, size_t count, Error *err) {
    for (size_t i = 0; i < count; i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        CLEANUP(db_result_freep) DbResult *row = NULL;
        const char *const oid[] = {arena_printf(arena, "%u", relations[i].oid)};

        if (relations[i].suspect == NULL || !relations[i].is_new)
            continue;
        if (!db_query(run->source, "SELECT 1 FROM pg_catalog.pg_class WHERE oid = $1::oid", 1, oid, &row, err))
            return error_wrap(err, "looking for tables that wait for a copy");
        if (db_rows(row) == 0 &&
            !(ledger_begin(run->dest, &run->ledger, err) &&
              db_query(run->dest, "DELETE FROM pgcrane.relation WHERE oid = $1::oid", 1, oid, NULL, err) &&
              ledger_commit(run->dest, err))) {
            db_rollback(run->dest);
            return false;
        }
    }
    return true;
}

/* Without stopping anything: is there a suspect table that both sides have in the same form? */
bool run_has_ready_suspects(Run *run, const DriftVec *drifts, bool *ret_has, bool *ret_held, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Again again = {.run = run, .arena = arena, .drifts = drifts};
    LedgerRelation *relations = NULL;
    Plan plan = {0};

    *ret_has = false;
    *ret_held = false;
    if (!relations_read(run->dest, arena, &relations, &again.count, err))
        return false;
    again.suspects = relations;
    if (!any_suspect(relations, again.count))
        return true;
    if (!forget_dropped(run, relations, again.count, err) || !db_exec(run->source, "BEGIN READ ONLY", err) ||
        !plan_read(run->source, arena, is_suspect, &again, &plan, err) || !db_exec(run->source, "COMMIT", err))
        return false;
    for (size_t i = 0; i < plan.count && !*ret_has; i++)
        if (plan.tables[i].via == NULL && !fits(&again, &plan.tables[i], ret_has, err))
            return false;
    *ret_held = again.held;
    return true;
}
