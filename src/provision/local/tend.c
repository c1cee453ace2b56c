/*
 * What time asks for, and what makes an instance the application's.
 *
 * A call looks once, does what is due, and ends; how often it is called is the service's matter. What goes wrong with
 * one thing keeps none of the others from being done: it is told as the status' trouble, and is done again at the next
 * call.
 *
 * A server that went down is started, at first at once, then with pauses that double up to five minutes, until one has
 * run for five minutes: {"count", "last_us"} under "starts" of the journal, noted before the start, so that a process
 * that dies with it counts as well.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "provision/local/internal.h"
#include "provision/local/local.h"
#include "provision/local/tree.h"

#include <inttypes.h>
#include <string.h>

enum { LOGS_KEPT = 14, PAUSE_DOUBLINGS = 9, MB = 1024 * 1024 };

static const int64_t pause_most_us = 300 * USEC_PER_SEC, settled_us = 300 * USEC_PER_SEC;

typedef struct Tending {
    Local *local;
    const char *trouble; /* NULL = all is well */
} Tending;

static void add_trouble(Tending *tending, const char *text) {
    tending->trouble =
        tending->trouble == NULL ? text : arena_printf(tending->local->arena, "%s; %s", tending->trouble, text);
}

/* A stop is not the instance's trouble. */
static bool tell(Tending *tending, const Error *err) {
    const char *hint = err->remedy[0] != '\0' ? " - " : "";

    if (err->reason == REASON_CANCELLED || err->reason == REASON_FAILPOINT)
        return false;
    add_trouble(tending, arena_printf(tending->local->arena, "%s%s%s", err->message, hint, err->remedy));
    return true;
}

/* ---- Servers that went down ---- */

static bool may_start(const Local *local, const char *step) {
    const json_t *noted = provision_journal_get(local->journal, step);
    int64_t count = json_get_int(noted, "count", 0), last_us = json_get_int(noted, "last_us", 0);
    int64_t now_us = clock_wall_us();
    int64_t pause_us = count == 0 ? 0 : USEC_PER_SEC << MIN(count - 1, PAUSE_DOUBLINGS);

    return last_us > now_us || now_us - last_us >= MIN(pause_us, pause_most_us);
}

static bool note_start(Local *local, const char *step, Error *err) {
    int64_t count = json_get_int(provision_journal_get(local->journal, step), "count", 0);

    return provision_journal_note(
        local->journal, step,
        json_pack("{s:I, s:I}", "count", (json_int_t)(count + 1), "last_us", (json_int_t)clock_wall_us()), err);
}

/* For those who look while the next start waits; false, with the error of the start. */
static bool note_why(Local *local, const Error *why) {
    json_t *noted = json_deep_copy(provision_journal_get(local->journal, "starts"));
    Error unnoted;

    (void)json_object_set_new(noted, "why", json_string_lossy(why->message));
    if (!provision_journal_note(local->journal, "starts", noted, &unnoted))
        local_tell(local, "instance %s: %s", local->id, unnoted.message);
    return false;
}

static bool forget_starts(Local *local, const char *step, Error *err) {
    const json_t *noted = provision_journal_get(local->journal, step);

    return noted == NULL || clock_wall_us() - json_get_int(noted, "last_us", 0) < settled_us ||
           provision_journal_strike(local->journal, step, err);
}

static bool start_primary(Tending *tending, Error *err) {
    Local *local = tending->local;

    if (server_is_running(local, &local->primary, NULL))
        return forget_starts(local, "starts", err);
    if (!may_start(local, "starts")) {
        const char *why = json_get_string(provision_journal_get(local->journal, "starts"), "why", NULL);
        add_trouble(tending, why != NULL
                                 ? arena_printf(local->arena, "%s; its next start waits a while", why)
                                 : "it goes down again and again, so its next start waits a while; its log says "
                                   "why");
        return true;
    }
    local_tell(local, "instance %s: went down, and is started", local->id);
    if (!note_start(local, "starts", err) || !failpoint("provision.tend.start", err))
        return false;
    return server_start(local, &local->primary, err) || note_why(local, err);
}

static bool keep_standby(Tending *tending, Error *err) {
    Local *local = tending->local;

    if (!local->spec->regional)
        return standby_remove(local, err);
    if (server_is_running(local, &local->standby, NULL))
        return forget_starts(local, "standby_starts", err) && standby_keep(local, err);
    if (!may_start(local, "standby_starts"))
        add_trouble(tending, "its standby goes down again and again, so its next start waits a while");
    else
        return note_start(local, "standby_starts", err) && standby_keep(local, err);
    return true;
}

/* ---- Logs, disk ---- */

static bool trim_logs(const Local *local, const Server *server, Error *err) {
    TreeFile *files = NULL;
    size_t count = 0;

    if (!tree_list(local->arena, server->log, false, &files, &count, err))
        return false;
    for (size_t at = 0; at + LOGS_KEPT < count; at++)
        if (!tree_remove_in(server->log, files[at].name, err))
            return false;
    return true;
}

static bool measure(Tending *tending, Error *err) {
    Local *local = tending->local;
    int64_t limit_mb = local->spec->disk_mb, bytes = 0;

    if (!tree_size(local->folder, &bytes, err))
        return false;
    int64_t used_mb = (bytes + MB - 1) / MB;
    if (limit_mb > 0 && used_mb > limit_mb)
        add_trouble(tending, arena_printf(local->arena,
                                          "it takes %" PRId64 " MB of disk, more than its limit of %" PRId64
                                          " MB - it goes on; give it more, or drop what is in it",
                                          used_mb, limit_mb));
    if (used_mb == json_get_int(provision_journal_get(local->journal, "disk"), "used_mb", -1))
        return true;
    return provision_journal_note(local->journal, "disk", json_pack("{s:I}", "used_mb", (json_int_t)used_mb), err);
}

static bool note_trouble(Tending *tending, Error *err) {
    ProvisionJournal *journal = tending->local->journal;
    const char *noted = json_get_string(provision_journal_get(journal, "trouble"), "text", NULL);

    if (tending->trouble == NULL)
        return provision_journal_strike(journal, "trouble", err);
    if (noted != NULL && strcmp(noted, tending->trouble) == 0)
        return true;
    json_t *details = json_object();
    (void)json_object_set_new(details, "text", json_string_lossy(tending->trouble));
    return provision_journal_note(journal, "trouble", details, err);
}

static bool renew_certificate(Tending *tending, Error *err) {
    const char *notice = NULL;

    if (!tls_renew(tending->local, &notice, err))
        return false;
    if (notice != NULL)
        add_trouble(tending, notice);
    return true;
}

/* ---- All of it ---- */

static bool is_primary(const Local *local) {
    const char *mode = json_get_string(provision_journal_get(local->journal, "mode"), "name", "");

    return strcmp(mode, provision_mode_name(PROVISION_PRIMARY)) == 0;
}

static bool tend_primary(Tending *tending, Error *err) {
    Local *local = tending->local;

    if (!is_primary(local) || !server_is_running(local, &local->primary, NULL))
        return true;
    if (!keep_standby(tending, err) && !tell(tending, err))
        return false;
    return backup_make(local, err) || tell(tending, err);
}

static bool tend_one(Tending *tending, Error *err) {
    Local *local = tending->local;

    if (!start_primary(tending, err) && !tell(tending, err))
        return false;
    if (!tend_primary(tending, err))
        return false;
    if (!renew_certificate(tending, err) && !tell(tending, err))
        return false;
    if ((!trim_logs(local, &local->primary, err) || !trim_logs(local, &local->standby, err)) && !tell(tending, err))
        return false;
    return measure(tending, err) || tell(tending, err);
}

static bool is_whole(const Local *local) {
    return provision_journal_get(local->journal, "created") != NULL &&
           provision_journal_get(local->journal, "removing") == NULL;
}

bool local_tend(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err) {
    LoadMark mark = MARK_NONE;
    bool damaged = false;
    Local local;

    if (!local_open(call, spec->id, spec, &local, err))
        return false;
    if (!is_whole(&local))
        return local_status(&local, ret_status, err);
    if (!programs_known(&local, err) || !mode_is_damaged(&local, &mark, &damaged, err))
        return false;
    if (damaged)
        return local_status(&local, ret_status, err);
    Tending tending = {.local = &local};
    if (mark != MARK_NONE && spec->mode != PROVISION_LOAD)
        add_trouble(&tending, "its way out of load mode did not come to its end - reconfigure it again");
    else if (!tend_one(&tending, err))
        return false;
    return note_trouble(&tending, err) && local_status(&local, ret_status, err);
}

/* The first backup is due then, and made by the next tend(): the application need not wait for it. A standby that
 * cannot be had is no reason to have no backup either: tend() tries again. */
bool local_promote(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err) {
    ProvisionSpec primary = *spec;
    Local local;

    primary.mode = PROVISION_PRIMARY;
    if (!local_open_checked(call, &primary, &local, err) || !local_require_created(&local, err) ||
        !mode_converge(&local, err) || !failpoint("provision.promote.converged", err))
        return false;
    Tending tending = {.local = &local};
    if (!(spec->regional ? standby_keep(&local, err) : standby_remove(&local, err)) && !tell(&tending, err))
        return false;
    return note_trouble(&tending, err) && local_status(&local, ret_status, err);
}
