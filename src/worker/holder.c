/*
 * The migration's lock, on the destination (ledger.h) and on the source (source_lock.h), and the sessions that have it,
 * remembered for whoever comes after them.
 *
 * A server finds out late that nobody is at the other end of a connection (pg/namesakes.h). Until then the session that
 * was left has the lock, and who comes next would be refused it by a run that is none: the one that has lost its
 * connection and connects again, and the one that is begun after it.
 *
 * NOTES
 * - The run itself knows its session: by the server's pid and the moment it began, which no other session of that
 *   server has. It is ended, if it still has the lock.
 * - For a run after it both stand in worker.lock, in the job's folder. A worker keeps that file locked for as long as
 * it lives (a lock of the open file: gone with the process, however that ends). Whoever gets the file's lock knows that
 *   the one before is dead, and that nobody uses its session.
 * - Two workers at once in one folder: the second does not get the file's lock, believes nothing, and is refused the
 *   migration's as before. One that was given the folder's copy on another machine believes nothing either.
 * - Killed behind the lock and before the file was written: the file tells of an earlier session, that is not there any
 *   more. The next run is refused the lock, and the message names whom to end.
 * - Killed after it connected to the source anew: the file tells of the source's session before that one. Likewise.
 * - The other one lives, on another machine: it is in no file here, and is left alone.
 */
#include "common/fd.h"
#include "common/log.h"
#include "common/machine.h"
#include "engine/ledger/source_lock.h"
#include "worker/run.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 4096 };

/* -1: another worker has it, or there can be none. */
static int lock_file(const char *path) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0 && fcntl(fd, F_OFD_SETLK, &whole) == 0)
        return fd;
    fd_close(&fd);
    return -1;
}

static void read_file(Run *run, const char *path) {
    CLEANUP(buf_fini) Buf text;
    CLEANUP(json_freep) json_t *json = NULL;
    Error ignored; /* nothing is known then */

    buf_init(&text, FILE_MAX);
    if (!fd_read_file(path, &text, &ignored) || text.len == 0 || !json_parse(text.data, text.len, &json, &ignored) ||
        strcmp(json_get_string(json, "machine", ""), machine_name(run->arena)) != 0)
        return;
    run->holder = (LedgerHolder){arena_strdup(run->arena, json_get_string(json, "session", NULL)),
                                 arena_strdup(run->arena, json_get_string(json, "begun", NULL))};
    run->source_holder = (LedgerHolder){arena_strdup(run->arena, json_get_string(json, "source_session", NULL)),
                                        arena_strdup(run->arena, json_get_string(json, "source_begun", NULL))};
    if (run->holder.begun == NULL)
        run->holder.pid = NULL;
    if (run->source_holder.begun == NULL)
        run->source_holder.pid = NULL;
}

/* In place: the lock is the open file's. What was half written is no JSON, and tells nothing. */
static bool write_file(const Run *run, Error *err) {
    CLEANUP(json_freep)
    json_t *json = json_pack("{s:s, s:s?, s:s?, s:s?, s:s?}", "machine", machine_name(run->arena), "session",
                             run->holder.pid, "begun", run->holder.begun, "source_session", run->source_holder.pid,
                             "source_begun", run->source_holder.begun);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, FILE_MAX);
    json_print(json, 0, &text);
    if (ftruncate(run->holder_fd, 0) != 0 || lseek(run->holder_fd, 0, SEEK_SET) != 0)
        return error_errno(err, REASON_SYSTEM, "cannot write worker.lock");
    return fd_write_all(run->holder_fd, text.data, text.len, err);
}

static bool note_holder(Run *run, Error *err) {
    Error why;

    if (!ledger_holder(run->dest, run->arena, &run->holder, err) ||
        (run->has_source_lock && !ledger_holder(run->source, run->arena, &run->source_holder, err)))
        return false;
    if (run->holder_fd >= 0 && !write_file(run, &why)) /* it helps the next run, and this one needs it not */
        log_error_value(LOG_WARNING, &why);
    return true;
}

static void look_for_predecessor(Run *run) {
    if (run->holder_fd >= 0 || run->state_dir == NULL)
        return;
    const char *path = arena_printf(run->arena, "%s/worker.lock", run->state_dir);
    run->holder_fd = lock_file(path);
    if (run->holder_fd >= 0 && run->holder.pid == NULL)
        read_file(run, path);
}

/* Seized from what this job has left at work, and from nobody else. Without the source (abort --dest-only) there is
 * nothing of it to be had. */
static bool take_locks(Run *run, Error *err) {
    LedgerIdentity found;
    bool exists = false, seizes = run->seizes;

    if (seizes && !ledger_peek(run->dest, run->arena, &exists, &found, err))
        return false;
    seizes = seizes && (!exists || run_is_owned(run, &found));
    if (seizes ? !ledger_seize(run->dest, run->identity.job_id, err)
               : !ledger_lock(run->dest, run->identity.job_id, &run->holder, err))
        return false;
    run->has_source_lock =
        run->source != NULL && source_lock(run->source, &run->identity, seizes, &run->source_holder, err);
    return run->has_source_lock || run->source == NULL;
}

bool run_lock(Run *run, Error *err) {
    look_for_predecessor(run);
    return take_locks(run, err) && note_holder(run, err);
}

bool run_lock_again(Run *run, Error *err) {
    return ledger_retake(run->dest, &run->ledger, &run->holder, err) && note_holder(run, err);
}

bool run_lock_source_again(Run *run, Error *err) {
    return !run->has_source_lock || (source_lock(run->source, &run->identity, false, &run->source_holder, err) &&
                                     ledger_holder(run->source, run->arena, &run->source_holder, err));
}
