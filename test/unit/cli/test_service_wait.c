/* When pgcrane jobs wait ends, and how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/service/jobs.h"

#include <string.h>

static JobOutlook outlook(const char *wanted, const char *job) {
    CLEANUP(json_freep) json_t *json = job != NULL ? json_loads(job, 0, NULL) : NULL;
    JobWants wants;
    Error err;

    assert_true((json != NULL) == (job != NULL));
    if (!job_wants_read(wanted, &wants, &err))
        fail_msg("%s: %s", wanted, err.message);
    return job_outlook(&wants, json);
}

#define IN(state) "{\"state\": \"" state "\"}"
#define AT(state, phase) "{\"state\": \"" state "\", \"phase\": \"" phase "\"}"

static void test_states(void **state UNUSED) {
    assert_int_equal(outlook("COMPLETED", IN("COMPLETED")), JOB_REACHED);
    assert_int_equal(outlook("completed,failed", IN("FAILED")), JOB_REACHED);
    assert_int_equal(outlook("not-started", IN("NOT_STARTED")), JOB_REACHED);
    assert_int_equal(outlook("COMPLETED", AT("RUNNING", "CDC")), JOB_COMING);
    assert_int_equal(outlook("COMPLETED", IN("STARTING")), JOB_COMING);
    assert_int_equal(outlook("DELETED", IN("DELETING")), JOB_COMING);
    assert_int_equal(outlook("DELETED", NULL), JOB_REACHED);
    assert_int_equal(outlook("COMPLETED", NULL), JOB_STUCK);
}

/* Nobody works on it: to wait would be for ever. */
static void test_stuck(void **state UNUSED) {
    static const char *const states[] = {"NOT_STARTED", "STOPPED", "FAILED", "DRAFT"};
    for (size_t at = 0; at < COUNT_OF(states); at++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        assert_int_equal(outlook("COMPLETED", arena_printf(arena, IN("%s"), states[at])), JOB_STUCK);
    }
    assert_int_equal(outlook("RUNNING", IN("COMPLETED")), JOB_STUCK);
    assert_int_equal(outlook("COMPLETED", "{\"state\": \"FAILED\", \"nextRetryTime\": \"2026-11-29T04:00:00Z\"}"),
                     JOB_COMING);
    assert_int_equal(outlook("COMPLETED", IN("SOMETHING_NEW")), JOB_COMING);
}

/* One that was passed between two looks counts. */
static void test_phases(void **state UNUSED) {
    assert_int_equal(outlook("CDC", AT("RUNNING", "FULL_DUMP")), JOB_COMING);
    assert_int_equal(outlook("CDC", AT("RUNNING", "CDC")), JOB_REACHED);
    assert_int_equal(outlook("CDC", AT("RUNNING", "READY_FOR_PROMOTE")), JOB_REACHED);
    assert_int_equal(outlook("CDC", IN("COMPLETED")), JOB_REACHED);
    assert_int_equal(outlook("READY_FOR_PROMOTE", AT("RUNNING", "CDC")), JOB_COMING);
    assert_int_equal(outlook("CDC", AT("FAILED", "CDC")), JOB_STUCK);
    assert_int_equal(outlook("CDC", AT("RESUMING", "CDC")), JOB_COMING);
    assert_int_equal(outlook("CDC,FAILED", AT("FAILED", "FULL_DUMP")), JOB_REACHED);
    assert_int_equal(outlook("FULL_DUMP", IN("STARTING")), JOB_COMING);
    assert_int_equal(outlook("CDC", AT("RUNNING", "SOMETHING_NEW")), JOB_COMING);
}

static void test_words_that_are_none(void **state UNUSED) {
    static const char *const texts[] = {"", "NONE", "COMPLETED,", "DONE", ",", "RUNNING,CDCX"};
    for (size_t at = 0; at < COUNT_OF(texts); at++) {
        JobWants wants;
        Error err;

        /* a comma at the end means nothing */
        bool good = job_wants_read(texts[at], &wants, &err);
        assert_int_equal(good, strcmp(texts[at], "COMPLETED,") == 0);
        if (!good)
            assert_int_equal(err.reason, REASON_USAGE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_words_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
