/*
 * Modes: into load mode, out of it, and from one text of settings to another.
 *
 * LOAD is for a server whose content is worth the time to fill it again, and no more: one that goes down in it is made
 * anew, not recovered. PostgreSQL would recover it while fsync and full pages are on, as they are (settings.c); but
 * ALTER SYSTEM may have turned them off, and nobody shall bet a database on that. So there is a marker, the file "load"
 * in the instance's folder, {"boot", "synced"}, durable before a server may run so. What it says when a server is found
 * that does not run:
 *
 *   marker                 | pg_controldata | boot    | the data
 *   none                   | any            | any     | as after any crash: the server recovers
 *   "synced": false        | "shut down"    | same    | whole, in the memory of the system at least
 *   "synced": false        | "shut down"    | another | DAMAGED: pg_control came to the disk, the rest need not have
 *   "synced": false        | anything else  | any     | DAMAGED
 *   "synced": true         | any            | any     | on the disk, and written to with production settings since
 *
 * A server that runs with "synced": false and another boot was started by hand on
 * what a crash of the machine had left: DAMAGED, too. One of its processes that crashes is begun again by the server
 * itself, which is recovery under the same system, and no damage.
 *
 * The way out is one table of steps, `leave_steps`. Any of them may be the last one before a crash, and the way is
 * begun anew then. Behind which step the process dies (K), or the machine goes down (M):
 *
 *   stop      K: "shut down", same boot: goes on. M: another boot: DAMAGED.
 *   clean     the same; it changes nothing.
 *   sync      K: synchronizes again. M: DAMAGED, though it would not have to be: the marker does not say so yet.
 *   conf      K, M: as behind sync. A server that somebody starts now is one of production under a marker that says
 *             LOAD: should it crash, DAMAGED where nothing is lost; never the other way round.
 *   synced    From here on settings of production are all there are on the disk, and all data was on it before they
 *             were: whatever crashes, recovery is PostgreSQL's own, and the way goes on from the beginning: stop (of a
 *             server that runs with production settings, or none), sync (little to do), ...
 *   start     as behind synced.
 *   checkpoint, ask, note: as behind synced. ask: ALTER SYSTEM, or a file that somebody has changed, may have settings
 *             of LOAD; then the way fails, the marker stays, and the error names the setting.
 *   marker    done.
 *
 * The way in: marker ("synced": false), settings, start. K or M in between: a server of production under a marker of
 * LOAD, as above. Only an instance without anything that is worth keeping goes this way, so that is no loss.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/fd.h"
#include "pg/query.h"
#include "provision/local/internal.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { BOOT_MAX = 256, MARK_MAX = 4096, RELOAD_TRIES = 100 };

static const char clean_state[] = "shut down";

static bool read_boot(const Local *local, const char **ret_boot, Error *err) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, BOOT_MAX);
    if (!fd_read_file("/proc/sys/kernel/random/boot_id", &text, err))
        return false;
    *ret_boot = arena_strndup(local->arena, text.data, strcspn(text.data, "\n"));
    return true;
}

/* ---- The marker ---- */

static bool write_mark(const Local *local, bool synced, Error *err) {
    const char *boot = NULL;

    if (!read_boot(local, &boot, err))
        return false;
    const char *text =
        arena_printf(local->arena, "{\"boot\": \"%s\", \"synced\": %s}\n", boot, synced ? "true" : "false");
    return fd_write_file(local->marker, text, strlen(text), 0600, err);
}

bool mode_set_mark(const Local *local, Error *err) {
    return write_mark(local, false, err);
}

bool mode_remove_mark(Local *local, Error *err) {
    return place_remove_file(local->marker, err);
}

/* One that cannot be read is one of loading, of a boot that nobody knows. */
static bool read_mark(const Local *local, LoadMark *ret_mark, bool *ret_same_boot, Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;
    CLEANUP(buf_fini) Buf text;
    const char *boot = NULL;
    Error unread;

    buf_init(&text, MARK_MAX);
    *ret_mark = MARK_NONE;
    *ret_same_boot = true;
    if (!place_exists(local->marker))
        return true;
    if (!read_boot(local, &boot, err))
        return false;
    bool good = fd_read_file(local->marker, &text, &unread) && json_parse(text.data, text.len, &json, &unread);
    *ret_mark = good && json_get_bool(json, "synced", false) ? MARK_SYNCED : MARK_LOADING;
    *ret_same_boot = good && strcmp(json_get_string(json, "boot", ""), boot) == 0;
    return true;
}

bool mode_is_damaged(Local *local, LoadMark *ret_mark, bool *ret_damaged, Error *err) {
    const char *state = "";
    bool same_boot = true;

    *ret_damaged = false;
    if (!read_mark(local, ret_mark, &same_boot, err))
        return false;
    if (*ret_mark != MARK_LOADING || (same_boot && server_is_running(local, &local->primary, NULL)))
        return true;
    if (same_boot && !server_control(local, &local->primary, &state, NULL, err))
        return false;
    *ret_damaged = !same_boot || strcmp(state, clean_state) != 0;
    return true;
}

/* ---- Out of load mode ---- */

static bool stop(Local *local, Error *err) {
    local_tell(local, "instance %s: leaves load mode", local->id);
    return server_stop(local, &local->primary, "fast", err);
}

static bool clean(Local *local, Error *err) {
    LoadMark mark = MARK_NONE;
    bool damaged = false;

    if (!mode_is_damaged(local, &mark, &damaged, err))
        return false;
    return !damaged || error_set(err, REASON_PROVISION_DAMAGED,
                                 "instance %s did not stop cleanly in load mode: its content is lost", local->id);
}

/* All files of the data folder and of tablespaces, and the folders themselves. */
static bool sync_data(Local *local, Error *err) {
    const char *const argv[] = {"initdb", "--sync-only", "-D", local->primary.data, NULL};

    if (local_run(local, argv, err))
        return true;
    if (err->reason == REASON_CLIENT_FAILED)
        err->reason = REASON_PROVISION_FAILED;
    return error_wrap(err, "instance %s: its data cannot be brought to the disk", local->id);
}

static bool write_conf(Local *local, Error *err) {
    const char *hash = NULL;

    return conf_write(local, local->spec->mode, &hash, err);
}

static bool mark_synced(Local *local, Error *err) {
    return write_mark(local, true, err);
}

static bool start(Local *local, Error *err) {
    return server_start(local, &local->primary, err);
}

static bool checkpoint(Local *local, Error *err) {
    return session_exec(local, "CHECKPOINT", err);
}

/* other: what it may be beside; flag: whether the spec's flags may say something else. */
static const struct {
    const char *name, *value, *other;
    bool flag;
} asked[] = {
    {"fsync", "on", NULL, false},
    {"full_page_writes", "on", NULL, false},
    {"wal_level", "replica", "logical", false},
    {"autovacuum", "on", NULL, true},
    {"synchronous_commit", "on", NULL, true},
};

static bool has_flag(const Local *local, const char *name) {
    for (size_t at = 0; at < local->spec->flags.len; at++)
        if (strcasecmp(local->spec->flags.items[at].name, name) == 0)
            return true;
    return false;
}

static bool ask_one(const Local *local, DbConn *conn, size_t which, Error *err) {
    const char *const params[] = {asked[which].name};
    CLEANUP(db_result_freep) DbResult *result = NULL;

    if (!db_query(conn, "SELECT reset_val, coalesce(sourcefile, source) FROM pg_catalog.pg_settings WHERE name = $1", 1,
                  params, &result, err))
        return false;
    const char *value = db_rows(result) == 1 ? db_text(result, 0, 0) : "";
    if (strcmp(value, asked[which].value) == 0 ||
        (asked[which].other != NULL && strcmp(value, asked[which].other) == 0) ||
        (asked[which].flag && has_flag(local, asked[which].name)))
        return true;
    error_set(err, REASON_PROVISION_FAILED, "instance %s is not safe to use: %s is %s (by %s)", local->id,
              asked[which].name, value, db_rows(result) == 1 ? db_text(result, 0, 1) : "?");
    return error_remedy(err, "ALTER SYSTEM RESET %s; in the instance, then ask again", asked[which].name);
}

static bool ask(Local *local, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;

    if (!session_open(local, &local->primary, &conn, err))
        return false;
    for (size_t at = 0; at < COUNT_OF(asked); at++)
        if (!ask_one(local, conn, at, err))
            return false;
    return true;
}

static bool note_mode(Local *local, Error *err) {
    return provision_journal_note(local->journal, "mode",
                                  json_pack("{s:s}", "name", provision_mode_name(local->spec->mode)), err);
}

static const LocalStep leave_steps[] = {
    {"stop", stop},
    {"clean", clean},
    {"sync", sync_data},
    {"conf", write_conf},
    {"synced", mark_synced},
    {"start", start},
    {"checkpoint", checkpoint},
    {"ask", ask},
    {"note", note_mode},
    {"marker", mode_remove_mark},
};

/* ---- From one text of settings to another ---- */

static bool note_applied(Local *local, const char *hash, Error *err) {
    return provision_journal_note(local->journal, "applied", json_pack("{s:s}", "hash", hash), err);
}

/* A new session has what the postmaster has: it is asked until that is the file of now. */
static bool has_reloaded(const Local *local, const char *since, bool *ret_restart, Error *err) {
    static const char sql[] = "SELECT pg_catalog.pg_conf_load_time() >= $1::pg_catalog.timestamptz, "
                              "EXISTS (SELECT FROM pg_catalog.pg_settings WHERE pending_restart)";

    for (int tries = 0; tries < RELOAD_TRIES; tries++) {
        CLEANUP(db_closep) DbConn *conn = NULL;
        CLEANUP(db_result_freep) DbResult *result = NULL;
        if (!session_open(local, &local->primary, &conn, err) || !db_query(conn, sql, 1, &since, &result, err))
            return false;
        if (db_bool(result, 0, 0)) {
            *ret_restart = db_bool(result, 0, 1);
            return true;
        }
        if (stop_wait_fd(local->call->stop, -1, 0, clock_now_us() + 50 * USEC_PER_MSEC) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped while instance %s read its settings", local->id);
    }
    error_set(err, REASON_PROVISION_FAILED, "instance %s does not take its new settings", local->id);
    return error_remedy(err, "its log says why: %s", local->primary.log);
}

static bool reload(Local *local, bool *ret_restart, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    char *since = NULL;

    return session_open(local, &local->primary, &conn, err) &&
           db_query_value(conn, local->arena, "SELECT pg_catalog.clock_timestamp()::text", 0, NULL, &since, err) &&
           db_exec(conn, "SELECT pg_catalog.pg_reload_conf()", err) && has_reloaded(local, since, ret_restart, err);
}

/* Its applications do not lose their sessions by a promote: what a restart is needed for waits for the next one. */
static bool restart_for_settings(Local *local, Error *err) {
    const json_t *noted = provision_journal_get(local->journal, "mode");
    bool promotes = local->spec->mode == PROVISION_PRIMARY &&
                    strcmp(json_get_string(noted, "name", ""), provision_mode_name(PROVISION_PRIMARY)) != 0;

    if (promotes) {
        local_tell(local, "instance %s: some settings wait for a restart", local->id);
        return true;
    }
    local_tell(local, "instance %s: restarted, for settings that need it", local->id);
    return server_restart(local, &local->primary, err);
}

/* What keeps all sessions out, ours with them, may be the very setting that is to change. */
static bool take_settings(Local *local, Error *err) {
    bool restart = false;

    if (reload(local, &restart, err))
        return failpoint("provision.settle.reload", err) && (!restart || restart_for_settings(local, err));
    return err->reason == REASON_PROVISION_FAILED && !err->retryable && server_restart(local, &local->primary, err);
}

/* Left alone when it runs with these already. */
bool mode_settle(Local *local, Error *err) {
    const char *hash = NULL;

    if (!conf_write(local, local->spec->mode, &hash, err))
        return false;
    const char *applied = json_get_string(provision_journal_get(local->journal, "applied"), "hash", "");
    if (!server_is_running(local, &local->primary, NULL)) {
        if (!server_start(local, &local->primary, err))
            return false;
    } else if (strcmp(applied, hash) != 0 && !take_settings(local, err)) {
        return false;
    }
    return note_applied(local, hash, err) && note_mode(local, err) &&
           provision_journal_strike(local->journal, "trouble", err);
}

static bool enter(Local *local, Error *err) {
    const json_t *noted = provision_journal_get(local->journal, "mode");

    if (strcmp(json_get_string(noted, "name", ""), provision_mode_name(PROVISION_PRIMARY)) == 0) {
        error_set(err, REASON_PROVISION_REFUSED, "instance %s is the application's: a crash in load mode would cost it",
                  local->id);
        return error_remedy(err, "make another instance");
    }
    int64_t used_mb = json_get_int(provision_journal_get(local->journal, "disk"), "used_mb", -1);
    if (local->spec->disk_mb > 0 && used_mb > local->spec->disk_mb) {
        error_set(err, REASON_PROVISION_REFUSED, "instance %s takes %" PRId64 " MB, more than its limit of %" PRId64,
                  local->id, used_mb, local->spec->disk_mb);
        return error_remedy(err, "give it more disk, or drop what is in it");
    }
    if (!session_refuse_content(local, err))
        return false;
    local_tell(local, "instance %s: enters load mode", local->id);
    return mode_set_mark(local, err) && failpoint("provision.enter.marker", err);
}

bool mode_converge(Local *local, Error *err) {
    LoadMark mark = MARK_NONE;
    bool damaged = false;

    if (!mode_is_damaged(local, &mark, &damaged, err))
        return false;
    if (damaged)
        return error_set(err, REASON_PROVISION_DAMAGED, "instance %s went down in load mode: its content is lost",
                         local->id);
    if (mark != MARK_NONE && local->spec->mode != PROVISION_LOAD &&
        !local_steps(local, "leave", leave_steps, COUNT_OF(leave_steps), err))
        return false;
    if (mark != MARK_LOADING && local->spec->mode == PROVISION_LOAD && !enter(local, err))
        return false;
    return mode_settle(local, err) && session_password(local, err);
}
