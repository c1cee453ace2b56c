/* `pgcrane keeper`: holds one exported snapshot of the source open (keeper.h says how it lives and ends). */
#include "engine/snapshot/keeper.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "engine/snapshot/lease.h"
#include "engine/snapshot/snapshot.h"
#include "pg/query.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { KEEPER_FD = 3, PARAMETERS_MAX = 64 * 1024 };
#define LEASE_POLL_US (2 * USEC_PER_SEC)

typedef struct KeeperJob {
    const char *conninfo;
    const char *job_id;
    int64_t lease_us;
} KeeperJob;

static bool read_parameters(Arena *arena, KeeperJob *ret_job, Error *err) {
    CLEANUP(buf_fini) Buf text;
    CLEANUP(json_freep) json_t *json = NULL;

    buf_init(&text, PARAMETERS_MAX);
    for (;;) {
        char *room = buf_reserve(&text, 4096);

        if (room == NULL)
            return buf_ok(&text, "the keeper's parameters", err);
        ssize_t got = read(KEEPER_FD, room, 4096);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno(err, REASON_SYSTEM, "reading the keeper's parameters");
        if (got == 0)
            break;
        text.len += (size_t)got;
    }
    if (!json_parse(text.data, text.len, &json, err))
        return false;
    *ret_job = (KeeperJob){
        .conninfo = arena_strdup(arena, json_get_string(json, "conninfo", "")),
        .job_id = arena_strdup(arena, json_get_string(json, "job_id", "")),
        .lease_us = json_get_int(json, "lease_us", 0),
    };
    return true;
}

static void answer(json_t *message) {
    CLEANUP(json_freep) json_t *owned = message;
    CLEANUP(buf_fini) Buf text;
    Error ignored;

    buf_init(&text, PARAMETERS_MAX);
    json_print(owned, 0, &text);
    if (!fd_write_all(KEEPER_FD, text.data, text.len, &ignored))
        _exit(1); /* nobody listens: nobody can ever use this snapshot */
    (void)close(KEEPER_FD);
}

static bool export_snapshot(DbConn *source, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = arena_printf(arena,
                                   "SELECT pg_catalog.pg_export_snapshot(), %s,"
                                   " (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),"
                                   " pg_catalog.pg_postmaster_start_time()::text, pg_catalog.pg_backend_pid()::text",
                                   snapshot_picture_sql(db_version(source)));

    if (!db_exec(source, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err) ||
        !db_query(source, sql, 0, NULL, &row, err))
        return error_wrap(err, "exporting a snapshot");
    answer(json_pack("{s:s, s:s, s:s, s:s, s:s}", "snapshot_id", db_text(row, 0, 0), "picture", db_text(row, 0, 1),
                     "system_identifier", db_text(row, 0, 2), "postmaster_start", db_text(row, 0, 3), "pid",
                     db_text(row, 0, 4)));
    return true;
}

/* Whether no worker is attached: then the lock can be had exclusively, for a moment. */
static bool worker_is_absent(DbConn *source, const char *job_id, bool *ret_absent, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    char key[16];

    (void)snprintf(key, sizeof(key), "%d", lease_key(job_id));
    if (!db_query(source,
                  "SELECT CASE WHEN pg_catalog.pg_try_advisory_lock(" LEASE_CLASS ", $1::integer)"
                  " THEN pg_catalog.pg_advisory_unlock(" LEASE_CLASS ", $1::integer) ELSE false END",
                  1, (const char *const[]){key}, &row, err))
        return false;
    *ret_absent = db_bool(row, 0, 0);
    return true;
}

static bool hold(DbConn *source, const KeeperJob *job, Error *err) {
    int64_t last_seen = clock_now_us();

    for (;;) {
        bool absent = false;

        /* Wakes at once when the server ends the session, which is how a worker releases us. */
        if (stop_wait_fd(NULL, db_socket(source), POLLIN, clock_now_us() + LEASE_POLL_US) == WAIT_READY)
            return error_set(err, REASON_CONNECTION_LOST, "released");
        if (!worker_is_absent(source, job->job_id, &absent, err))
            return error_wrap(err, "holding the snapshot");
        if (!absent)
            last_seen = clock_now_us();
        else if (clock_now_us() - last_seen > job->lease_us)
            return error_set(err, REASON_TIMED_OUT, "no worker came back within the lease");
    }
}

int keeper_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(db_closep) DbConn *source = NULL;
    KeeperJob job = {0};
    Error err = {0};

    (void)argc;
    (void)argv;
    log_init(STDERR_FILENO, LOG_INFO);
    log_thread_name("keeper");
    if (!read_parameters(arena, &job, &err) ||
        !db_open(&(DbTarget){.side = DB_SOURCE, .conninfo = job.conninfo, .job_id = job.job_id}, "keeper", NULL,
                 &source, &err) ||
        !export_snapshot(source, &err)) {
        log_error_value(LOG_ERROR, &err);
        answer(json_pack("{s:s, s:s, s:s}", "error", err.message, "reason", error_reason_name(err.reason), "remedy",
                         err.remedy));
        return 1;
    }
    if (!hold(source, &job, &err))
        log_info("keeper ends: %s", err.message);
    return 0;
}
