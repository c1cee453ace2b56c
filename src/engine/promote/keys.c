/*
 * Foreign keys that wait for OPEN, because the applier may not leave them out.
 *
 * In OPEN they are added NOT VALID: no row is read while nobody can write. Rows that come from then on are checked.
 * Reading those that are there is left for afterwards, in the ledger: statements that run one by one, each in a
 * transaction of its own, whoever finds them (a run that was killed, too).
 *
 * Partitioned tables before PostgreSQL 18 refuse NOT VALID. As in the load, each leaf gets the key under the root's
 * name; when all of them are validated, the root's own statement takes them over without looking at a row.
 */
#include "engine/promote/waiting.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "pg/event_triggers.h"
#include "pg/lock_timeout.h"
#include "pg/quote.h"

#include <string.h>

#define NOTE "a comment on a foreign key"

enum { TREE_VERSION = 120000, PARTITIONED_VERSION = 180000, PAUSE_MAX_S = 5, LEFT_WAIT_MS = 2000 };

/* clang-format off */
static const char leaves_sql[] =
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)"
    " FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) t"
    " JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE t.isleaf AND c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k"
    "  WHERE k.conrelid = c.oid AND k.conname = $2) ORDER BY c.oid";
/* clang-format on */

static bool ends_with(const char *text, const char *end) {
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static bool leave_for_later(DbConn *dest, const char *what, const char *sql, Error *err) {
    return db_query(dest, "INSERT INTO pgcrane.after_open (what, sql) VALUES ($1, $2)", 2,
                    (const char *const[]){what, sql}, NULL, err);
}

/* `table` may be a leaf of the key's table. */
static bool add_not_valid(const Promote *promote, Arena *arena, const Acting *key, const char *table, Error *err) {
    DbConn *dest = promote->params->dest;
    const char *name = sql_ident(arena, key->name);
    bool stays = ends_with(key->definition, " NOT VALID") || ends_with(key->definition, " NOT ENFORCED");

    if (!db_execf(dest, err, "ALTER TABLE %s%s ADD CONSTRAINT %s %s%s",
                  key->relkind == 'p' && table == key->quoted ? "" : "ONLY ", table, name, key->definition,
                  stays ? "" : " NOT VALID"))
        return false;
    return stays || leave_for_later(dest, acting_display(arena, key),
                                    arena_printf(arena, "ALTER TABLE %s VALIDATE CONSTRAINT %s", table, name), err);
}

/* No pg_partition_tree() to list them, and no NOT VALID: the rows are checked under the fence. */
static bool add_at_once(const Promote *promote, const Acting *key, Arena *arena, Error *err) {
    return db_execf(promote->params->dest, err, "ALTER TABLE %s ADD CONSTRAINT %s %s", key->quoted,
                    sql_ident(arena, key->name), key->definition);
}

static bool add_to_leaves(const Promote *promote, Arena *arena, const Acting *key, Error *err) {
    CLEANUP(db_result_freep) DbResult *leaves = NULL;
    DbConn *dest = promote->params->dest;

    if (!db_query(dest, leaves_sql, 2, (const char *const[]){key->quoted, key->name}, &leaves, err))
        return false;
    for (int i = 0; i < db_rows(leaves); i++)
        if (!add_not_valid(promote, arena, key, db_text(leaves, i, 0), err))
            return false;
    return leave_for_later(dest, acting_display(arena, key),
                           arena_printf(arena, "ALTER TABLE %s ADD CONSTRAINT %s %s", key->quoted,
                                        sql_ident(arena, key->name), key->definition),
                           err);
}

bool waiting_add_keys(const Promote *promote, const WaitingWork *work, Error *err) {
    DbConn *dest = promote->params->dest;

    for (size_t i = 0; i < work->keys.len; i++) {
        const Acting *key = &work->keys.items[i];
        bool by_leaves = key->relkind == 'p' && db_version(dest) < PARTITIONED_VERSION;
        bool ok = !by_leaves                        ? add_not_valid(promote, work->arena, key, key->quoted, err)
                  : db_version(dest) < TREE_VERSION ? add_at_once(promote, key, work->arena, err)
                                                    : add_to_leaves(promote, work->arena, key, err);

        if (!ok)
            return error_wrap(err, "adding %s", acting_display(work->arena, key));
    }
    for (size_t i = 0; i < work->key_notes.len; i++)
        if (!leave_for_later(dest, NOTE, work->key_notes.items[i], err))
            return false;
    return true;
}

/* ---- Afterwards ---- */

typedef struct AfterOpen {
    DbConn *dest;
    const Ledger *ledger;
    void (*event)(void *context, const char *level, const char *text);
    void *context;
} AfterOpen;

/* The destination is in use: whoever comes after us waits behind our lock while we wait for it. */
static bool run_left(const AfterOpen *after, const char *no, const char *sql, Error *err) {
    DbConn *dest = after->dest;

    if (ledger_begin(dest, after->ledger, err) &&
        lock_timeout_set(dest, NULL, LEFT_WAIT_MS, LOCK_TIMEOUT_MOST_MS, NULL, err) && db_exec(dest, sql, err) &&
        db_query(dest, "DELETE FROM pgcrane.after_open WHERE no = $1::integer", 1, (const char *const[]){no}, NULL,
                 err) &&
        ledger_commit(dest, err))
        return true;
    if (!db_is_broken(dest))
        db_rollback(dest);
    return false;
}

/* A lock is tried for again and again, until it comes or somebody stops us: giving up would end the run, or leave the
 * key as it is, because of a transaction that happens to be long. */
static bool run_left_patiently(const AfterOpen *after, const char *no, const char *what, const char *sql, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();

    for (int i = 1; !run_left(after, no, sql, err); i++) {
        if (err->reason != REASON_LOCK_BUSY || db_is_broken(after->dest))
            return false;
        log_error_value(LOG_INFO, err);
        if (i == 1)
            after->event(after->context, "warning",
                         arena_printf(scratch, "%s is not validated yet: %s; trying until its tables can be locked",
                                      what, err->message));
        if (stop_wait_fd(db_stop(after->dest), -1, 0, clock_now_us() + MIN(i, PAUSE_MAX_S) * USEC_PER_SEC) ==
            WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
    return true;
}

static void tell_failed(DbConn *dest, Arena *arena, const char *what, const char *sql, const Error *why,
                        NotMovedVec *not_moved) {
    bool by_rows = strncmp(why->sqlstate, "23", 2) == 0;
    const char *triggers = by_rows ? "" : event_triggers_on(dest, arena, "ALTER TABLE");
    const char *mend =
        triggers[0] == '\0' ? "mend the rows" : arena_printf(arena, "see to the event triggers (%s)", triggers);
    NotMoved item = {.kind = "not validated",
                     .object = arena_strdup(arena, what),
                     .reason = arena_printf(arena, "%s; %s, then on the destination: %s", why->message, mend, sql),
                     .sql = arena_strdup(arena, sql)};

    log_error_value(LOG_ERROR, why);
    if (strcmp(what, NOTE) != 0) /* of a key that is in the list itself */
        vec_push(arena, not_moved, item);
}

bool promote_finish_keys(DbConn *dest, const Ledger *ledger, Arena *arena, NotMovedVec *not_moved,
                         void (*event)(void *context, const char *level, const char *text), void *context, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const AfterOpen after = {.dest = dest, .ledger = ledger, .event = event, .context = context};

    if (!db_query(dest, "SELECT no, what, sql FROM pgcrane.after_open ORDER BY no", 0, NULL, &rows, err))
        return error_wrap(err, "reading what is left to do after the promote");
    for (int i = 0; i < db_rows(rows); i++) {
        if (run_left_patiently(&after, db_text(rows, i, 0), db_text(rows, i, 1), db_text(rows, i, 2), err)) {
            if (!failpoint("promote.after_validate", err))
                return false;
            continue;
        }
        if (err->sqlstate[0] == '\0' || err->retryable)
            return error_wrap(err, "validating %s", db_text(rows, i, 1));
        tell_failed(dest, arena, db_text(rows, i, 1), db_text(rows, i, 2), err, not_moved);
    }
    return true;
}
