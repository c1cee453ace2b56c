/*
 * One consistent picture of the source, held by a keeper process.
 *
 * NOTES: crash points
 * - Worker dies before the keeper answered: the keeper sees its descriptor closed, and nobody recorded its snapshot. No
 * worker attaches to it, so its lease would run out anyway; it ends at once when it cannot write its answer.
 * - Worker dies between the answer and the ledger's row: the same, after the lease. The next run takes a new snapshot;
 * nothing was copied under the lost one.
 * - Worker dies later: the next run attaches, imports, compares, goes on. If the lease ran out between: SNAPSHOT_LOST,
 * a new one.
 * - Keeper dies: lanes in mid-COPY finish their chunk (their own transaction holds the snapshot); the next import fails
 *   with SNAPSHOT_LOST.
 * - Source restarts: all sessions end. A snapshot id may exist again with another content: the picture differs, or
 *   pg_postmaster_start_time() does.
 */
#include "engine/snapshot/snapshot.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "common/proc.h"
#include "pg/quote.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/snapshot/lease.h"

enum { KEEPER_ANSWER_MAX = 64 * 1024 };
#define KEEPER_ANSWER_US (60 * USEC_PER_SEC)

bool snapshot_attach(DbConn *source, const char *job_id, Error *err) {
    char key[16];

    (void)snprintf(key, sizeof(key), "%d", lease_key(job_id));
    return db_query(source, "SELECT pg_catalog.pg_advisory_lock_shared(" LEASE_CLASS ", $1::integer)", 1,
                    (const char *const[]){key}, NULL, err) ||
           error_wrap(err, "attaching to the source's snapshot");
}

const char *snapshot_picture_sql(int server_version) {
    return server_version >= 130000 ? "pg_catalog.pg_current_snapshot()::text"
                                    : "pg_catalog.txid_current_snapshot()::text";
}

char *snapshot_begin_sql(Arena *arena, const LedgerSnapshot *snapshot) {
    return arena_printf(arena, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT %s;",
                        sql_literal(arena, snapshot->snapshot_id));
}

/* What PostgreSQL says when a snapshot id does not exist or its transaction ended: invalid_parameter_value (to 17),
 * undefined_object (18), object_not_in_prerequisite_state (the exporter is gone). */
bool snapshot_judge_error(Error *err) {
    static const char *const states[] = {"22023", "42704", "55000"};
    char message[ERROR_MESSAGE_MAX];

    for (size_t i = 0; i < COUNT_OF(states); i++)
        if (strcmp(err->sqlstate, states[i]) == 0 && strstr(err->message, "snapshot") != NULL) {
            (void)snprintf(message, sizeof(message), "%s", err->message);
            return error_set(err, REASON_SNAPSHOT_LOST, "the snapshot is gone: %.300s", message);
        }
    return false;
}

bool snapshot_begin(DbConn *source, const LedgerSnapshot *snapshot, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = arena_printf(arena, "%s SELECT %s, pg_catalog.pg_postmaster_start_time()::text",
                                   snapshot_begin_sql(arena, snapshot), snapshot_picture_sql(db_version(source)));

    if (!db_query_last(source, sql, &row, err)) {
        db_rollback(source);
        return snapshot_judge_error(err);
    }
    if (strcmp(db_text(row, 0, 0), snapshot->picture) == 0 &&
        strcmp(db_text(row, 0, 1), snapshot->postmaster_start) == 0)
        return true;
    db_rollback(source);
    return error_set(err, REASON_SNAPSHOT_LOST, "the snapshot's id shows another picture: the source was restarted");
}

bool snapshot_find(DbConn *source, DbConn *dest, Arena *arena, LedgerSnapshot *ret_snapshot, bool *ret_alive,
                   Error *err) {
    LedgerSnapshot snapshot;

    if (!ledger_last_snapshot(dest, arena, &snapshot, err))
        return false;
    bool alive = snapshot.id != 0 && snapshot_begin(source, &snapshot, err);
    if (alive)
        db_rollback(source);
    else if (snapshot.id != 0 && err->reason != REASON_SNAPSHOT_LOST)
        return error_wrap(err, "importing the earlier snapshot");
    *ret_alive = alive;
    *ret_snapshot = snapshot;
    return true;
}

/* The parameters go over the descriptor, never through argv or the environment. */
static bool send_parameters(int fd, const SnapshotParams *params, Error *err) {
    CLEANUP(json_freep)
    json_t *message = json_pack("{s:s, s:s, s:I}", "conninfo", params->source_conninfo, "job_id", params->job_id,
                                "lease_us", (json_int_t)params->lease_us);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, KEEPER_ANSWER_MAX);
    json_print(message, 0, &text);
    if (!buf_ok(&text, "the keeper's parameters", err) || !fd_write_all(fd, text.data, text.len, err))
        return false;
    if (shutdown(fd, SHUT_WR) != 0)
        return error_errno(err, REASON_SYSTEM, "shutdown");
    return true;
}

static bool read_answer(int fd, const Stop *stop, Buf *answer, Error *err) {
    int64_t deadline = clock_now_us() + KEEPER_ANSWER_US;

    for (;;) {
        char *room = buf_reserve(answer, 4096);

        if (room == NULL)
            return buf_ok(answer, "the keeper's answer", err);
        switch (stop_wait_fd(stop, fd, POLLIN, deadline)) {
        case WAIT_STOPPED:
            return error_set(err, REASON_CANCELLED, "stopped while the snapshot was taken");
        case WAIT_TIMEOUT:
            return error_set(err, REASON_TIMED_OUT, "the source gave no snapshot within 60 s");
        case WAIT_READY:
            break;
        }
        ssize_t got = read(fd, room, 4096);
        if (got < 0)
            return error_errno(err, REASON_SYSTEM, "reading the keeper's answer");
        if (got == 0)
            return true;
        answer->len += (size_t)got;
    }
}

static bool parse_answer(Arena *arena, const Buf *answer, LedgerSnapshot *ret_snapshot, Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;

    if (answer->len == 0)
        return error_set(err, REASON_SNAPSHOT_LOST, "the snapshot's keeper ended before it answered");
    if (!json_parse(answer->data, answer->len, &json, err))
        return error_wrap(err, "the keeper's answer");
    const char *failure = json_get_string(json, "error", NULL);
    if (failure != NULL) {
        ErrorReason reason = error_reason_from_name(json_get_string(json, "reason", ""));

        (void)error_set(err, reason == REASON_MAX_ ? REASON_SNAPSHOT_LOST : reason, "taking a snapshot: %s", failure);
        return error_remedy(err, "%s", json_get_string(json, "remedy", ""));
    }
    *ret_snapshot = (LedgerSnapshot){
        .snapshot_id = arena_strdup(arena, json_get_string(json, "snapshot_id", "")),
        .picture = arena_strdup(arena, json_get_string(json, "picture", "")),
        .system_identifier = arena_strdup(arena, json_get_string(json, "system_identifier", "")),
        .postmaster_start = arena_strdup(arena, json_get_string(json, "postmaster_start", "")),
        .keeper_pid = arena_strdup(arena, json_get_string(json, "pid", "")),
    };
    return true;
}

static bool start_keeper(const SnapshotParams *params, int fd, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *self = NULL;
    pid_t pid = 0;

    if (!proc_self_path(arena, &self, err))
        return false;
    const char *const argv[] = {self, "keeper", params->job_id, NULL};
    return proc_spawn(&(ProcSpec){.argv = argv, .stderr_fd = params->log_fd, .fd3 = fd, .new_session = true}, &pid,
                      err);
}

bool snapshot_take(DbConn *dest, const Ledger *ledger, Arena *arena, const SnapshotParams *params, const Stop *stop,
                   LedgerSnapshot *ret_snapshot, Error *err) {
    CLEANUP(fd_close) int ours = -1;
    CLEANUP(fd_close) int theirs = -1;
    CLEANUP(buf_fini) Buf answer;
    LedgerSnapshot snapshot;
    int pair[2];

    buf_init(&answer, KEEPER_ANSWER_MAX);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_errno(err, REASON_SYSTEM, "socketpair");
    ours = pair[0];
    theirs = pair[1];
    if (!start_keeper(params, theirs, err))
        return error_wrap(err, "starting the snapshot's keeper");
    fd_close(&theirs);
    if (!send_parameters(ours, params, err) || !read_answer(ours, stop, &answer, err) ||
        !parse_answer(arena, &answer, &snapshot, err) || !failpoint("snapshot.exported", err) ||
        !ledger_add_snapshot(dest, ledger, &snapshot, err))
        return false;
    log_info("snapshot %d id=%s picture=%s", snapshot.id, snapshot.snapshot_id, snapshot.picture);
    *ret_snapshot = snapshot;
    return failpoint("snapshot.recorded", err);
}

bool snapshot_release(DbConn *source, const LedgerSnapshot *snapshot, Error *err) {
    if (snapshot->id == 0)
        return true;
    /* The pid alone could be another session's after a restart of the source: the name and the moment must fit as well.
     */
    return db_query(source,
                    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                    " WHERE pid = $1::integer AND application_name LIKE 'pgcrane % keeper'"
                    " AND pg_catalog.pg_postmaster_start_time()::text = $2",
                    2, (const char *const[]){snapshot->keeper_pid, snapshot->postmaster_start}, NULL, err) ||
           error_wrap(err, "ending the snapshot's keeper");
}
