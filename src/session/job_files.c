/* What a migration keeps in its folder STATE_DIR/JOB: job.json, status.json and the lock. */
#include "session/job_files.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/machine.h"
#include "pg/strip.h"
#include "wire/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 64 * 1024 * 1024, SHOWN_MAX = 10, LOOKS = 10 };
#define LOOK_PAUSE_US (100 * USEC_PER_MSEC)

static bool has_begun(const Progress *progress, Phase phase) {
    return progress->phases[phase].state != PHASE_WAITING;
}

const char *job_phase_of(const Progress *progress) {
    CdcState cdc = progress->cdc.state;
    if (cdc == CDC_PROMOTING || cdc == CDC_PROMOTED)
        return "PROMOTE_IN_PROGRESS";
    if (cdc != CDC_NONE || progress->phases[PHASE_CDC].state == PHASE_RUNNING)
        return "CDC";
    return has_begun(progress, PHASE_SCHEMA) ? "FULL_DUMP" : "PREPARING_THE_DUMP";
}

/* --- files --- */

static bool write_json(const char *folder, const char *name, const json_t *json, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, FILE_MAX);
    json_print(json, 2, &text);
    buf_append_char(&text, '\n');
    const char *path = arena_printf(arena, "%s/%s", folder, name);
    return buf_ok(&text, path, err) && fd_write_file(path, text.data, text.len, 0600, err);
}

/* *ret_json NULL: there is no such file. */
static bool read_json(const char *folder, const char *name, json_t **ret_json, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf text;
    const char *path = arena_printf(arena, "%s/%s", folder, name);
    struct stat there;
    buf_init(&text, FILE_MAX);
    if (stat(path, &there) != 0) {
        *ret_json = NULL;
        return true;
    }
    if (!S_ISREG(there.st_mode)) /* a pipe would keep us waiting */
        return error_set(err, REASON_SYSTEM, "%s is no regular file", path);
    return fd_read_file(path, &text, err) &&
           (json_parse(text.data, text.len, ret_json, err) || error_wrap(err, "%s", path));
}

static bool remove_file(const char *folder, const char *name, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *path = arena_printf(arena, "%s/%s", folder, name);
    return unlink(path) == 0 || errno == ENOENT || error_errno(err, REASON_SYSTEM, "cannot remove %s", path);
}

bool job_forget(const char *folder, Error *err) {
    return remove_file(folder, "job.json", err) && remove_file(folder, "status.json", err);
}

bool job_lock(const char *folder, int *ret_fd, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *path = arena_printf(arena, "%s/control.lock", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot open %s", path);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) != 0) {
        bool taken = errno == EAGAIN || errno == EACCES;
        if (!taken)
            error_errno(err, REASON_SYSTEM, "cannot lock %s", path);
        fd_close(&fd);
        if (!taken)
            return false;
    }
    *ret_fd = fd;
    return true;
}

/* --- job.json --- */

/* What is said anew for each run. */
static void forget_run_options(MigrateOptions *options) {
    options->restart = options->dry_run = options->yes = options->source_only = options->dest_only = false;
    options->json = options->quiet = options->no_color = options->verbose = false;
}

/* A run from job.json itself has no password to strike out: it stays noted that there was one. */
static void put_struck(json_t *json, const json_t *before, const char *key, bool struck) {
    json_object_set_new(json, key, json_boolean(struck || json_get_bool(before, key, false)));
}

/* One that only looks at a source has no destination. */
static bool strip(Arena *arena, const char **conninfo, bool *ret_struck, Error *err) {
    return *conninfo == NULL || db_strip_secrets(arena, *conninfo, conninfo, ret_struck, err);
}

bool job_write(const Job *job, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    MigrateOptions options = job->options;
    bool source_struck = false, dest_struck = false;
    forget_run_options(&options);
    CLEANUP(json_freep) json_t *before = NULL;
    Error ignored; /* one that cannot be read is replaced */
    if (!read_json(job->folder, "job.json", &before, &ignored))
        before = NULL;
    const char *now = clock_rfc3339(arena, clock_wall_us());
    if (!strip(arena, &options.source, &source_struck, err) || !strip(arena, &options.dest, &dest_struck, err))
        return false;
    CLEANUP(json_freep) json_t *json = json_object();
    json_object_set_new(json, "job_id", json_string_lossy(job->id));
    json_object_set_new(json, "source", json_string_lossy(job->source));
    json_object_set_new(json, "dest", json_string_lossy(job->dest));
    json_object_set_new(json, "created_at", json_string(json_get_string(before, "created_at", now)));
    json_object_set_new(json, "fingerprint", json_string_lossy(options_fingerprint(arena, &options)));
    put_struck(json, before, "source_password_struck", source_struck);
    put_struck(json, before, "dest_password_struck", dest_struck);
    json_object_set_new(json, "options", options_to_json(&options));
    return write_json(job->folder, "job.json", json, err);
}

bool job_read(Arena *arena, const char *state_dir, const char *id, Job *ret_job, Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;
    Job job = {.id = arena_strdup(arena, id), .folder = arena_printf(arena, "%s/%s", state_dir, id)};
    if (!read_json(job.folder, "job.json", &json, err))
        return false;
    if (json == NULL)
        return error_set(err, REASON_NO_JOB, "there is no migration %s in %s", id, state_dir);
    if (!options_from_json(arena, json_get_object(json, "options"), &job.options, err))
        return error_wrap(err, "%s/job.json", job.folder);
    job.source = arena_strdup(arena, json_get_string(json, "source", ""));
    job.dest = arena_strdup(arena, json_get_string(json, "dest", ""));
    job.created_at = arena_strdup(arena, json_get_string(json, "created_at", ""));
    job.fingerprint = arena_strdup(arena, json_get_string(json, "fingerprint", ""));
    job.source_struck = json_get_bool(json, "source_password_struck", false);
    job.dest_struck = json_get_bool(json, "dest_password_struck", false);
    job.options.state_dir = arena_strdup(arena, state_dir);
    *ret_job = job;
    return true;
}

/* --- which job --- */

static int compare_ids(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool job_list(Arena *arena, const char *state_dir, StringVec *ret_ids, Error *err) {
    StringVec ids = {0};
    DIR *folder = opendir(state_dir);
    if (folder == NULL)
        return error_errno(err, REASON_SYSTEM, "cannot read %s", state_dir);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        const char *path = arena_printf(arena, "%s/%s/job.json", state_dir, entry->d_name);
        if (entry->d_name[0] != '.' && access(path, F_OK) == 0)
            vec_push(arena, &ids, arena_strdup(arena, entry->d_name));
    }
    closedir(folder);
    if (ids.len > 0)
        qsort(ids.items, ids.len, sizeof(*ids.items), compare_ids);
    *ret_ids = ids;
    return true;
}

static bool fail_several(Arena *arena, const char *state_dir, const StringVec *ids, Error *err) {
    const char *list = "";
    for (size_t at = 0; at < ids->len && at < SHOWN_MAX; at++)
        list = arena_printf(arena, "%s%s%s", list, at > 0 ? ", " : "", ids->items[at]);
    error_set(err, REASON_USAGE, "there are %zu migrations in %s: %s%s", ids->len, state_dir, list,
              ids->len > SHOWN_MAX ? ", ..." : "");
    return error_remedy(err, "name one of them, or the beginning of its id; pgcrane status shows them all");
}

static StringVec with_prefix(Arena *arena, const StringVec *ids, const char *prefix) {
    StringVec result = {0};
    for (size_t at = 0; at < ids->len; at++)
        if (strncmp(ids->items[at], prefix, strlen(prefix)) == 0)
            vec_push(arena, &result, ids->items[at]);
    return result;
}

/* Those that are not complete, or cannot be read. */
static StringVec unfinished(Arena *arena, const char *state_dir, const StringVec *ids) {
    StringVec result = {0};
    for (size_t at = 0; at < ids->len; at++) {
        Job job;
        JobStatus status;
        Error ignored;
        bool known = job_read(arena, state_dir, ids->items[at], &job, &ignored) &&
                     job_status_read(arena, &job, &status, NULL, &ignored);
        if (!known || status.state != JOB_COMPLETED)
            vec_push(arena, &result, ids->items[at]);
    }
    return result;
}

bool job_find(Arena *arena, const char *state_dir, const char *given, Job *ret_job, Error *err) {
    StringVec ids;
    if (!job_list(arena, state_dir, &ids, err))
        return false;
    StringVec found = given != NULL ? with_prefix(arena, &ids, given) : ids;
    if (found.len == 0 && given != NULL)
        return error_set(err, REASON_NO_JOB, "there is no migration %s in %s", given, state_dir);
    if (found.len == 0)
        return error_set(err, REASON_NO_JOB, "there is no migration in %s", state_dir);
    if (found.len > 1 && given == NULL) {
        StringVec open = unfinished(arena, state_dir, &found);
        found = open.len == 1 ? open : found;
    }
    if (found.len > 1 && (given == NULL || strcmp(found.items[0], given) != 0)) /* an exact id sorts first */
        return fail_several(arena, state_dir, &found, err);
    return job_read(arena, state_dir, found.items[0], ret_job, err);
}

/* --- status.json --- */

static const char *real_folder(Arena *arena, const char *folder) {
    char path[PATH_MAX];
    return arena_strdup(arena, realpath(folder, path) != NULL ? path : folder);
}

/* What every reader finds there, also when nothing was said yet. */
static void put_said(json_t *json, const json_t *said) {
    static const char *const always[] = {"progress", "error", "report"};

    for (size_t at = 0; at < COUNT_OF(always); at++)
        json_object_set_new(json, always[at], json_null());
    if (said != NULL)
        (void)json_object_update(json, (json_t *)(uintptr_t)said); /* is only read */
}

static json_t *status_to_json(const Job *job, const JobStatus *status, const json_t *said) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    json_t *json = json_object();
    json_object_set_new(json, "job_id", json_string_lossy(job->id));
    json_object_set_new(json, "state", json_string(job_state_name(status->state)));
    json_object_set_new(json, "phase", json_string_lossy(status->phase));
    json_object_set_new(json, "pid", json_integer(status->pid));
    json_object_set_new(json, "machine", json_string_lossy(machine_name(arena)));
    json_object_set_new(json, "folder", json_string_lossy(real_folder(arena, job->folder)));
    json_object_set_new(json, "updated_at", json_string(clock_rfc3339(arena, clock_wall_us())));
    json_object_set_new(json, "source", json_string_lossy(job->source));
    json_object_set_new(json, "dest", json_string_lossy(job->dest));
    if (status->run > 0)
        json_object_set_new(json, "run", json_integer(status->run));
    put_said(json, said);
    return json;
}

bool job_status_write(const Job *job, const JobStatus *status, const json_t *said, Error *err) {
    CLEANUP(json_freep) json_t *json = status_to_json(job, status, said);
    return write_json(job->folder, "status.json", json, err);
}

static JobState state_from_name(const char *name) {
    JobState state = job_state_from_name(name);
    return state == JOB_STATE_MAX_ ? JOB_NOT_STARTED : state;
}

/* Only asks, so that a look at the wrong moment cannot keep a process from taking the lock. */
static bool is_running(const char *folder) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(fd_close) int fd = open(arena_printf(arena, "%s/control.lock", folder), O_RDONLY | O_CLOEXEC);
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

static bool is_under_way(JobState state) {
    return state == JOB_STARTING || state == JOB_RUNNING || state == JOB_STOPPING;
}

/* Name and state, from "PID (NAME) S ...". */
static bool read_process(Arena *arena, const char *process, const char **ret_name, char *ret_state) {
    CLEANUP(buf_fini) Buf text;
    Error ignored; /* it has ended */
    buf_init(&text, FILE_MAX);
    if (!fd_read_file(arena_printf(arena, "/proc/%s/stat", process), &text, &ignored))
        return false;
    const char *from = text.len > 0 ? strchr(text.data, '(') : NULL;
    const char *to = from != NULL ? strrchr(from, ')') : NULL;
    if (to == NULL || to[1] == '\0')
        return false;
    *ret_name = arena_strndup(arena, from + 1, (size_t)(to - from - 1));
    *ret_state = to[2];
    return true;
}

/* A pgcrane of that number, perhaps another one. Whoever has ended but was not waited for does nothing any more. */
static bool may_live(Arena *arena, int64_t pid) {
    const char *name, *own;
    char state, ignored;
    return read_process(arena, arena_printf(arena, "%lld", (long long)pid), &name, &state) && state != 'Z' &&
           state != 'X' && read_process(arena, "self", &own, &ignored) && strcmp(name, own) == 0;
}

/* One that is just ending gives its files back before it is gone. */
static bool lives_on(Arena *arena, int64_t pid, int looks) {
    for (int look = 0; look < looks; look++) {
        if (look > 0)
            clock_sleep_us(LOOK_PAUSE_US);
        if (!may_live(arena, pid))
            return false;
    }
    return true;
}

/* A folder that was copied has the words of a process that never was here, and no lock of it. */
static const char *find_elsewhere(Arena *arena, const Job *job, const json_t *json, int64_t pid, int looks) {
    const char *machine = json_get_string(json, "machine", NULL);
    const char *folder = json_get_string(json, "folder", NULL);
    if (machine == NULL || folder == NULL) /* of an earlier version */
        return arena_printf(arena, "process %lld", (long long)pid);
    if (strcmp(machine, machine_name(arena)) != 0 || strcmp(folder, real_folder(arena, job->folder)) != 0)
        return arena_printf(arena, "process %lld on %s, folder %s", (long long)pid, machine, folder);
    return lives_on(arena, pid, looks)
               ? arena_printf(arena, "process %lld, which lives but has not the lock", (long long)pid)
               : NULL;
}

static void note_lost(JobStatus *status) {
    error_set(&status->error, REASON_WORKER_LOST, "process %lld ended without a word", (long long)status->pid);
    status->has_error = true;
    status->state = JOB_STOPPED;
}

/* What was found out here takes the place of what the file says. */
static void mend_json(json_t *json, const JobStatus *status) {
    json_object_set_new(json, "running", status->elsewhere != NULL ? json_null() : json_boolean(status->running));
    json_object_set_new(json, "state", json_string(job_state_name(status->state)));
    json_object_set_new(json, "error", status->has_error ? wire_error_to_json(&status->error) : json_null());
}

static bool read_progress(Arena *arena, const json_t *json, JobStatus *status, Error *err) {
    const json_t *progress = json_get_object(json, "progress");
    status->has_progress = progress != NULL;
    return progress == NULL || progress_from_json(arena, progress, &status->progress, err);
}

bool job_is_locked(const Job *job) {
    return is_running(job->folder);
}

static bool read_status(Arena *arena, const Job *job, int looks, JobStatus *ret_status, json_t **ret_json, Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;
    JobStatus status = {0};
    /* The lock first: one that ends between the two looks has written its last word. */
    status.running = is_running(job->folder);
    if (!read_json(job->folder, "status.json", &json, err))
        return false;
    if (json == NULL) /* it has just begun: nothing is written but job.json */
        json = status_to_json(job, &(JobStatus){.state = JOB_NOT_STARTED, .phase = ""}, NULL);
    status.state = state_from_name(json_get_string(json, "state", ""));
    status.phase = arena_strdup(arena, json_get_string(json, "phase", ""));
    status.pid = json_get_int(json, "pid", 0);
    status.run = json_get_int(json, "run", 0);
    status.updated_at = arena_strdup(arena, json_get_string(json, "updated_at", ""));
    const json_t *error = json_get_object(json, "error");
    status.has_error = error != NULL;
    if (error != NULL)
        wire_error_from_json(error, &status.error);
    if (!read_progress(arena, json, &status, err))
        return error_wrap(err, "%s/status.json", job->folder);
    if (!status.running && is_under_way(status.state)) {
        status.elsewhere = find_elsewhere(arena, job, json, status.pid, looks);
        if (status.elsewhere == NULL)
            note_lost(&status);
    }
    mend_json(json, &status);
    *ret_status = status;
    if (ret_json != NULL)
        *ret_json = json_incref(json);
    return true;
}

bool job_status_read(Arena *arena, const Job *job, JobStatus *ret_status, json_t **ret_json, Error *err) {
    return read_status(arena, job, LOOKS, ret_status, ret_json, err);
}

bool job_status_peek(Arena *arena, const Job *job, JobStatus *ret_status, json_t **ret_json, Error *err) {
    return read_status(arena, job, 1, ret_status, ret_json, err);
}
