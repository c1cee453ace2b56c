/*
 * The migration's lock on the source (source_lock.h).
 *
 * A migration's id is made of both databases: system identifier and oid. Servers that are physical copies of each other
 * (pg_basebackup, a clone of the disk, an image) have those alike. So two migrations of one source to two such servers
 * have one id, each with the lock of its own destination, and would take each other's slot, streams and lanes for what
 * a run of theirs had left.
 *
 * NOTES
 * - Taken behind the destination's. Two runs that each have their own destination's wait for this one alone, and the
 *   second is refused when its patience ends.
 * - The worker is killed: its session goes with its sockets. Where the server does not hear of that, the next run knows
 *   the session from worker.lock, and ends it (worker/holder.c); a run elsewhere is refused, with the session's name.
 * - The connection is lost: the run connects again and takes the lock again, from its own old session if need be. What
 *   another run has taken meanwhile it keeps, and this one ends.
 * - A node of the service that is lost and lives on: the run that shall go on seizes. Who has the lock says by a
 * second, shared one which job of the service it works for; the same job means the same destination. It is taken first,
 * so that nobody has the one without the other.
 */
#include "engine/ledger/source_lock.h"

#include "common/clock.h"
#include "common/hash.h"

#include <stdio.h>

/* "pgcl": not the destination's, which may be the same database by mistake (preflight tells that). The second half is a
 * hash of the id; of the owner's, "pgco", of id and owner. */
#define LOCK_CLASS "1885561708"
#define OWNER_CLASS "1885561711"
#define PAUSE_US (100 * USEC_PER_MSEC)

enum { KEY_MAX = 16 };

/* As an argument of the functions, and as pg_locks shows it. */
typedef struct Key {
    char given[KEY_MAX], shown[KEY_MAX];
} Key;

static Key make_key(const char *text) {
    Key key;
    uint32_t hash = hash_text32(text);

    (void)snprintf(key.given, sizeof(key.given), "%d", (int32_t)hash);
    (void)snprintf(key.shown, sizeof(key.shown), "%u", hash);
    return key;
}

#define IS_HELD(l, class, key)                                                                                         \
    " " l ".locktype = 'advisory' AND " l ".granted AND " l                                                            \
    ".classid = " class " AND " l ".objid = " key "::oid"                                                              \
                        " AND " l ".database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = "               \
                        "pg_catalog.current_database())"

static bool refuse(DbConn *source, const Key *job, Error *err) {
    CLEANUP(db_result_freep) DbResult *holder = NULL;

    if (!db_query(source,
                  "SELECT l.pid, CASE WHEN a.backend_start IS NULL THEN '?' ELSE coalesce(a.client_addr::text, 'local')"
                  " END FROM pg_catalog.pg_locks l"
                  " LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)"
                  " WHERE" IS_HELD("l", LOCK_CLASS, "$1"),
                  1, (const char *const[]){job->shown}, &holder, err))
        return error_wrap(err, "looking for the other run");
    const char *pid = db_rows(holder) > 0 ? db_text(holder, 0, 0) : "?";

    (void)error_set(err, REASON_FENCED,
                    "another pgcrane works on the source under this migration's id (source session %s, client %s)", pid,
                    db_rows(holder) > 0 ? db_text(holder, 0, 1) : "?");
    return error_remedy(err,
                        "let it finish, or give it up there: pgcrane abort; when it moves the database to another"
                        " server, this destination is a physical copy of that one (pg_basebackup, a clone, an image):"
                        " take one with an initdb of its own; if no pgcrane has that session any more, on the source:"
                        " SELECT pg_terminate_backend(%s);",
                        pid);
}

static bool end_same_owner(DbConn *source, const Key *job, const Key *owner, Error *err) {
    return db_query(source,
                    "SELECT pg_catalog.pg_terminate_backend(l.pid) FROM pg_catalog.pg_locks l"
                    " JOIN pg_catalog.pg_locks o ON o.pid = l.pid"
                    " WHERE l.pid <> pg_catalog.pg_backend_pid() AND" IS_HELD("l", LOCK_CLASS, "$1") " AND" IS_HELD(
                        "o", OWNER_CLASS, "$2"),
                    2, (const char *const[]){job->shown, owner->shown}, NULL, err) ||
           error_wrap(err, "ending the session of a run that is not to go on");
}

static bool note_owner(DbConn *source, const Key *owner, Error *err) {
    return db_query(source, "SELECT pg_catalog.pg_try_advisory_lock_shared(" OWNER_CLASS ", $1::integer)", 1,
                    (const char *const[]){owner->given}, NULL, err) ||
           error_wrap(err, "saying whose run this is");
}

static bool try_lock(DbConn *source, const Key *job, bool *ret_got, Error *err) {
    CLEANUP(db_result_freep) DbResult *got = NULL;

    if (!db_query(source, "SELECT pg_catalog.pg_try_advisory_lock(" LOCK_CLASS ", $1::integer)", 1,
                  (const char *const[]){job->given}, &got, err))
        return error_wrap(err, "taking the migration's lock on the source");
    *ret_got = db_bool(got, 0, 0);
    return true;
}

bool source_lock(DbConn *source, const LedgerIdentity *identity, bool seizes, const LedgerHolder *left, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Key job = make_key(identity->job_id);
    const char *whose = identity->owner != NULL ? identity->owner : "";
    const Key owner = make_key(arena_printf(arena, "%s %s", identity->job_id, whose));
    bool is_owned = whose[0] != '\0';
    int64_t deadline = clock_now_us() + LEDGER_LOCK_PATIENCE_US;

    if (is_owned && !note_owner(source, &owner, err))
        return false;
    for (;;) {
        bool got = false;

        if (!try_lock(source, &job, &got, err))
            return false;
        if (got)
            return true;
        if (!ledger_end_holder(source, left, err) || (seizes && is_owned && !end_same_owner(source, &job, &owner, err)))
            return false;
        if (clock_now_us() > deadline)
            return refuse(source, &job, err);
        if (stop_wait_fd(db_stop(source), -1, 0, clock_now_us() + PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
}
