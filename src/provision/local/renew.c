/*
 * Another certificate, before the one that an instance has ends: without a restart, and without a client that is shut
 * out.
 *
 * The authority's key was thrown away (tls.c), so another certificate has another authority, which clients that check
 * it must know before it is used. So it goes in two steps, by the days that are left:
 *
 *   less than 365   the next one is made, in tls.next. What is told as the authority (tls/ca.crt, the endpoint's `ca`)
 *                   is both from then on, one behind the other; and the status' trouble says until when clients have
 *                   to take it
 *   less than 60    tls and tls.next are exchanged, by one step of the file system; the servers are told to read them,
 *                   and the old one is removed. Not before both were told for 30 days, if there is time: the service
 * may have been away, or the clock far ahead for a moment
 *
 * Behind which of these a process or the machine may go down; the next tend() finds:
 *
 *   half of tls.next.new     thrown away
 *   tls.next                 whole; what is told is completed
 *   both are told            nothing is done twice
 *   exchanged                a certificate with years left, and a tls.next: servers that run are told to read (again,
 *                            or at last), and it is removed. One that starts meanwhile reads the new one
 *   the end, as noted        is struck out before the exchange, and asked for anew
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/fd.h"
#include "common/proc.h"
#include "provision/local/internal.h"
#include "provision/local/tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DATE_MAX = 4096, PEM_MAX = 64 * 1024 };

#define DAY_US (24 * 3600 * USEC_PER_SEC)

static const int64_t next_us = 365 * DAY_US, exchange_us = 60 * DAY_US, told_least_us = 30 * DAY_US;
static const char noted_step[] = "certificate", told_step[] = "authorities", next_name[] = "tls.next";

/* ---- When it ends ---- */

/* "notAfter=Nov 27 15:09:56 2036 GMT" */
static bool read_end(const char *text, int64_t *ret_end_us) {
    static const char prefix[] = "notAfter=";
    struct tm end = {0};

    if (strncmp(text, prefix, strlen(prefix)) != 0 ||
        strptime(text + strlen(prefix), "%b %d %H:%M:%S %Y GMT", &end) == NULL)
        return false;
    *ret_end_us = (int64_t)timegm(&end) * USEC_PER_SEC;
    return true;
}

static bool ask_end(Local *local, int64_t *ret_end_us, Error *err) {
    const char *file = arena_printf(local->arena, "%s/server.crt", local->tls);
    const char *const argv[] = {OPENSSL, "x509", "-noout", "-enddate", "-in", file, NULL};
    CLEANUP(buf_fini) Buf out;

    buf_init(&out, DATE_MAX);
    if (!proc_capture(&(ProcSpec){.argv = argv}, local->call->stop, &out, err))
        return error_wrap(err, "when the certificate of instance %s ends", local->id);
    if (!read_end(out.data, ret_end_us)) {
        error_set(err, REASON_PROVISION_FAILED, "nobody knows when %s ends: openssl says \"%.100s\"", file, out.data);
        return error_remedy(err, "openssl x509 -noout -enddate -in %s", file);
    }
    return provision_journal_note(local->journal, noted_step, json_pack("{s:I}", "end_us", (json_int_t)*ret_end_us),
                                  err);
}

static bool find_end(Local *local, int64_t *ret_end_us, Error *err) {
    *ret_end_us = json_get_int(provision_journal_get(local->journal, noted_step), "end_us", 0);
    return *ret_end_us > 0 || ask_end(local, ret_end_us, err);
}

static const char *day_of(Arena *arena, int64_t wall_us) {
    return arena_strndup(arena, clock_rfc3339(arena, wall_us), strlen("2026-11-23"));
}

/* ---- The next one ---- */

static bool read_authority(const char *folder, Arena *arena, Buf *text, Error *err) {
    return fd_read_file(arena_printf(arena, "%s/ca.crt", folder), text, err);
}

static bool tell_both(const Local *local, const char *next, Error *err) {
    CLEANUP(buf_fini) Buf told;
    CLEANUP(buf_fini) Buf coming;
    const char *path = arena_printf(local->arena, "%s/ca.crt", local->tls);

    buf_init(&told, PEM_MAX);
    buf_init(&coming, PEM_MAX);
    if (!read_authority(local->tls, local->arena, &told, err) || !read_authority(next, local->arena, &coming, err))
        return false;
    return strstr(told.data, coming.data) != NULL ||
           place_write(local, path, arena_printf(local->arena, "%s%s", told.data, coming.data), err);
}

static bool make_next(const Local *local, const char *next, Error *err) {
    if (!place_exists(next)) {
        local_tell(local, "instance %s: its certificate ends within a year, the next one is made", local->id);
        if (!tls_make_named(local, next_name, err) || !failpoint("provision.renew.made", err))
            return false;
    }
    if (!tell_both(local, next, err) || !failpoint("provision.renew.told", err))
        return false;
    return provision_journal_get(local->journal, told_step) != NULL ||
           provision_journal_note(local->journal, told_step, json_pack("{s:I}", "told_us", (json_int_t)clock_wall_us()),
                                  err);
}

static bool is_due(const Local *local, int64_t left_us) {
    int64_t told_us = json_get_int(provision_journal_get(local->journal, told_step), "told_us", 0);

    return left_us < told_least_us || (left_us < exchange_us && clock_wall_us() - told_us >= told_least_us);
}

/* ---- The change ---- */

static bool exchange(Local *local, Error *err) {
    CLEANUP(fd_close) int folder = open(local->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    local_tell(local, "instance %s: its certificate is exchanged", local->id);
    if (!provision_journal_strike(local->journal, noted_step, err) ||
        !provision_journal_strike(local->journal, told_step, err))
        return false;
    if (folder < 0 || renameat2(folder, "tls", folder, next_name, RENAME_EXCHANGE) != 0 || fsync(folder) != 0)
        return error_errno(err, REASON_SYSTEM, "cannot exchange %s and %s/%s", local->tls, local->folder, next_name);
    return failpoint("provision.renew.exchanged", err);
}

/* What is called the next one by then is the last one. */
static bool take_effect(Local *local, const char *last, Error *err) {
    return server_reload(local, &local->primary, err) && server_reload(local, &local->standby, err) &&
           failpoint("provision.renew.reloaded", err) && tree_remove(last, err);
}

bool tls_renew(Local *local, const char **ret_notice, Error *err) {
    const char *next = arena_printf(local->arena, "%s/%s", local->folder, next_name);
    int64_t end_us = 0, now_us = clock_wall_us();

    *ret_notice = NULL;
    if (!find_end(local, &end_us, err))
        return false;
    if (end_us - now_us >= next_us)
        return !place_exists(next) || take_effect(local, next, err);
    if (!make_next(local, next, err))
        return false;
    if (is_due(local, end_us - now_us))
        return exchange(local, err) && take_effect(local, next, err);
    *ret_notice = arena_printf(local->arena,
                               "its certificate ends on %s, and another one takes its place on %s: clients that check "
                               "it have to take the authority that is told since, which has both, until then",
                               day_of(local->arena, end_us), day_of(local->arena, end_us - exchange_us));
    return true;
}
