/* job.json, status.json and the lock: what is kept, what is struck out, and which job is meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/fd.h"
#include "session/job_files.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Fixture {
    Arena *arena;
    char folder[40];
    MigrateOptions options;
} Fixture;

static int setup(void **state) {
    static const char pattern[] = "/tmp/pgcrane-jobs-XXXXXX";
    Fixture *this = calloc(1, sizeof(*this));
    this->arena = arena_new();
    memcpy(this->folder, pattern, sizeof(pattern));
    options_init(&this->options);
    this->options.source = "postgresql://app:hush@old/shop";
    this->options.dest = "host=new sslpassword=hush2";
    *state = this;
    return mkdtemp(this->folder) != NULL ? 0 : -1;
}

static int teardown(void **state) {
    Fixture *this = *state;
    Error err;
    bool removed = fd_remove_tree(this->folder, &err);
    arena_free(this->arena);
    free(this);
    return removed ? 0 : -1;
}

static Job make_job(const Fixture *this, const char *id) {
    Job job = {
        .id = id,
        .folder = arena_printf(this->arena, "%s/%s", this->folder, id),
        .source = "app@old/shop",
        .dest = "app@new/shop",
        .options = this->options,
    };
    Error err;
    if (!fd_make_dirs(job.folder, &err) || !job_write(&job, &err))
        fail_msg("%s", err.message);
    return job;
}

static void write_state(const Job *job, JobState state) {
    Error err;
    JobStatus status = {.state = state, .phase = "CDC", .pid = 4711};
    if (!job_status_write(job, &status, NULL, &err))
        fail_msg("%s", err.message);
}

static void finds(const Fixture *this, const char *given, const char *id) {
    Job job;
    Error err;
    if (!job_find(this->arena, this->folder, given, &job, &err))
        fail_msg("%s: %s", given, err.message);
    assert_string_equal(job.id, id);
}

static void finds_none(const Fixture *this, const char *given, ErrorReason reason, const char *message) {
    Job job = {.id = "untouched"};
    Error err;
    assert_false(job_find(this->arena, this->folder, given, &job, &err));
    assert_int_equal(err.reason, reason);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" is not in: %s", message, err.message);
    assert_string_equal(job.id, "untouched");
}

static void test_there_and_back(void **state) {
    Fixture *this = *state;
    this->options.follow = true;
    this->options.fence = "locks";
    this->options.restart = this->options.dry_run = this->options.yes = this->options.json = true;
    make_job(this, "a1");
    Job job;
    Error err;
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 1024 * 1024);
    assert_true(fd_read_file(arena_printf(this->arena, "%s/a1/job.json", this->folder), &text, &err));
    assert_null(strstr(text.data, "hush"));
    assert_true(job_read(this->arena, this->folder, "a1", &job, &err));
    assert_string_equal(job.source, "app@old/shop");
    assert_string_equal(job.options.source, "user='app' dbname='shop' host='old'");
    assert_string_equal(job.options.dest, "host='new'");
    assert_true(job.source_struck && job.dest_struck);
    assert_true(job.options.follow);
    assert_string_equal(job.options.fence, "locks");
    assert_string_equal(job.options.state_dir, this->folder);
    assert_false(job.options.restart || job.options.dry_run || job.options.yes || job.options.json);
    assert_string_equal(job.fingerprint, options_fingerprint(this->arena, &this->options));

    /* Written again: since when it is there, and that there were passwords, stays known. */
    const char *created_at = job.created_at;
    this->options.source = "host=old";
    this->options.dest = "host=new";
    usleep(2000);
    make_job(this, "a1");
    assert_true(job_read(this->arena, this->folder, "a1", &job, &err));
    assert_string_equal(job.created_at, created_at);
    assert_true(job.source_struck && job.dest_struck);
}

static void test_find(void **state) {
    Fixture *this = *state;
    finds_none(this, NULL, REASON_NO_JOB, "there is no migration in ");
    Job first = make_job(this, "abc1");
    finds(this, NULL, "abc1");
    finds(this, "a", "abc1");
    Job second = make_job(this, "abd2");
    make_job(this, "abd");
    finds_none(this, NULL, REASON_USAGE, "there are 3 migrations in ");
    finds_none(this, "ab", REASON_USAGE, "abc1, abd, abd2");
    finds_none(this, "x", REASON_NO_JOB, "there is no migration x in ");
    finds_none(this, "../abc1", REASON_NO_JOB, "there is no migration ../abc1");
    finds(this, "abc", "abc1");
    finds(this, "abd", "abd"); /* whole, though another one begins so */
    write_state(&first, JOB_COMPLETED);
    write_state(&second, JOB_COMPLETED);
    finds(this, NULL, "abd"); /* the only one that is not complete */
    Error err;
    assert_true(job_forget(first.folder, &err) && job_forget(first.folder, &err));
    finds_none(this, "abc", REASON_NO_JOB, "abc");
}

static void test_status(void **state) {
    Fixture *this = *state;
    Job job = make_job(this, "a1");
    JobStatus status;
    Error err;
    assert_true(job_status_read(this->arena, &job, &status, NULL, &err));
    assert_int_equal(status.state, JOB_NOT_STARTED);
    assert_false(status.running || status.has_progress || status.has_error);

    CLEANUP(fd_close) int lock = -1;
    assert_true(job_lock(job.folder, &lock, &err));
    assert_true(lock >= 0);
    int second = 77;
    assert_true(job_lock(job.folder, &second, &err));
    assert_int_equal(second, -1);
    write_state(&job, JOB_RUNNING);
    CLEANUP(json_freep) json_t *json = NULL;
    assert_true(job_status_read(this->arena, &job, &status, &json, &err));
    assert_int_equal(status.state, JOB_RUNNING);
    assert_int_equal(status.pid, 4711);
    assert_true(status.running && json_get_bool(json, "running", false));
    assert_string_equal(json_get_string(json, "state", ""), "RUNNING");
    assert_string_equal(json_get_string(json, "phase", ""), "CDC");

    fd_close(&lock); /* the process is gone, and said nothing */
    CLEANUP(json_freep) json_t *lost = NULL;
    assert_true(job_status_read(this->arena, &job, &status, &lost, &err));
    assert_int_equal(status.state, JOB_STOPPED);
    assert_int_equal(status.error.reason, REASON_WORKER_LOST);
    assert_string_equal(json_get_string(json_get_object(lost, "error"), "reason", ""), "WORKER_LOST");
    assert_string_equal(json_get_string(lost, "state", ""), "STOPPED");
}

static void test_status_with_all(void **state) {
    Fixture *this = *state;
    Job job = make_job(this, "a1");
    JobStatus failed = {.state = JOB_FAILED, .phase = "FULL_DUMP"}, status;
    Progress sent = {.rows_done = 5};
    Error error, err;
    error_set(&error, REASON_DISK_FULL, "no room");
    CLEANUP(json_freep)
    json_t *said = json_pack("{s:o, s:o}", "progress", progress_to_json(&sent), "error", wire_error_to_json(&error));
    failed.run = 7;
    assert_true(job_status_write(&job, &failed, said, &err));
    assert_true(job_status_read(this->arena, &job, &status, NULL, &err));
    assert_int_equal(status.state, JOB_FAILED);
    assert_string_equal(status.phase, "FULL_DUMP");
    assert_true(status.has_progress && status.has_error);
    assert_int_equal(status.run, 7);
    assert_int_equal(status.progress.rows_done, 5);
    assert_int_equal(status.error.reason, REASON_DISK_FULL);
    assert_string_equal(status.error.message, "no room");
}

static void test_bad_files(void **state) {
    Fixture *this = *state;
    Job job = make_job(this, "a1");
    JobStatus status;
    Error err;
    const char *path = arena_printf(this->arena, "%s/status.json", job.folder);
    assert_true(fd_write_file(path, "{\"pid\":", 7, 0600, &err));
    assert_false(job_status_read(this->arena, &job, &status, NULL, &err));
    assert_non_null(strstr(err.message, "a1/status.json"));
    path = arena_printf(this->arena, "%s/job.json", job.folder);
    assert_true(fd_write_file(path, "{}", 2, 0600, &err));
    assert_false(job_read(this->arena, this->folder, "a1", &job, &err));
    assert_non_null(strstr(err.message, "a1/job.json"));
}

static void test_phases(void **state UNUSED) {
    Progress progress = {0};
    progress.phases[PHASE_SEAM].state = PHASE_RUNNING;
    assert_string_equal(job_phase_of(&progress), "PREPARING_THE_DUMP");
    progress.phases[PHASE_SCHEMA].state = PHASE_RUNNING;
    assert_string_equal(job_phase_of(&progress), "FULL_DUMP");
    static const struct {
        CdcState state;
        const char *phase;
    } cases[] = {{CDC_CATCHING_UP, "CDC"}, {CDC_FOLLOWING, "CDC"},
                 {CDC_RETRYING, "CDC"},    {CDC_PROMOTING, "PROMOTE_IN_PROGRESS"},
                 {CDC_NONE, "FULL_DUMP"},  {CDC_PROMOTED, "PROMOTE_IN_PROGRESS"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        progress.cdc.state = cases[i].state;
        assert_string_equal(job_phase_of(&progress), cases[i].phase);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_find, setup, teardown),
        cmocka_unit_test_setup_teardown(test_status, setup, teardown),
        cmocka_unit_test_setup_teardown(test_status_with_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
        cmocka_unit_test(test_phases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
