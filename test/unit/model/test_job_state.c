/* The table of a job's life: nothing unreachable, nothing without a way out, no row in another one's shadow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/job_state.h"

enum { VIEWS = 32 };

/* One of all combinations of what guards look at. */
static JobView view_of(JobState state, JobPhase phase, int bits) {
    return (JobView){state,           phase,           (bits & 1) != 0, (bits & 2) != 0,
                     (bits & 4) != 0, (bits & 8) != 0, (bits & 16) != 0};
}

static bool any_view_takes(JobState state, JobPhase phase, JobEvent event) {
    for (int bits = 0; bits < VIEWS; bits++) {
        const JobView view = view_of(state, phase, bits);

        if (job_event_is_allowed(&view, event))
            return true;
    }
    return false;
}

typedef struct Reached {
    bool at[JOB_STATE_MAX_][JOB_PHASE_MAX_];
} Reached;

/* From CREATING, where a job begins. */
static Reached reach(void) {
    Reached reached = {0};
    bool more = true;

    reached.at[JOB_CREATING][JOB_PHASE_NONE] = true;
    while (more) {
        more = false;
        for (size_t i = 0; i < job_transitions_count; i++) {
            const JobTransition *row = &job_transitions[i];

            if (reached.at[row->from][row->from_phase] && !reached.at[row->to][row->to_phase])
                more = reached.at[row->to][row->to_phase] = true;
        }
    }
    return reached;
}

static void test_each_row_is_reached_and_says_why(void **state UNUSED) {
    const Reached reached = reach();

    for (size_t i = 0; i < job_transitions_count; i++) {
        const JobTransition *row = &job_transitions[i];

        assert_true(reached.at[row->from][row->from_phase]);
        assert_true(strlen(row->comment) > 3);
    }
}

static void test_each_row_is_taken_by_some_job(void **state UNUSED) {
    for (size_t i = 0; i < job_transitions_count; i++) {
        const JobTransition *row = &job_transitions[i];
        bool taken = false;

        for (int bits = 0; bits < VIEWS; bits++) {
            const JobView view = view_of(row->from, row->from_phase, bits);
            Error err;

            taken |= job_transition_find(&view, row->event, &err) == row;
        }
        if (!taken)
            print_error("row %zu is in the shadow of another: %s\n", i, row->comment);
        assert_true(taken);
    }
}

static void test_only_deleted_is_the_end(void **state UNUSED) {
    const Reached reached = reach();

    for (JobState from = 0; from < JOB_STATE_MAX_; from++)
        for (JobPhase phase = 0; phase < JOB_PHASE_MAX_; phase++) {
            if (!reached.at[from][phase])
                continue;
            bool leaves = false;
            for (JobEvent event = 0; event < EVENT_MAX_; event++)
                leaves |= any_view_takes(from, phase, event);
            assert_int_equal(leaves, from != JOB_DELETED);
        }
    assert_true(reached.at[JOB_DELETED][JOB_PHASE_NONE]);
    assert_true(reached.at[JOB_COMPLETED][JOB_PHASE_NONE]);
}

/* Whatever a guard says: a worker that dies or fails is never without consequence, and a job can always be deleted. */
static void test_a_worker_may_end_at_any_time(void **state UNUSED) {
    const Reached reached = reach();

    for (JobState from = 0; from < JOB_STATE_MAX_; from++)
        for (JobPhase phase = 0; phase < JOB_PHASE_MAX_; phase++)
            for (int bits = 0; reached.at[from][phase] && bits < VIEWS; bits++) {
                const JobView view = view_of(from, phase, bits);

                if (job_state_has_worker(from)) {
                    assert_true(job_event_is_allowed(&view, EVENT_WORKER_LOST));
                    assert_true(job_event_is_allowed(&view, EVENT_FATAL));
                }
                if (from != JOB_DELETING && from != JOB_DELETED)
                    assert_true(job_event_is_allowed(&view, EVENT_USER_DELETE));
            }
}

/* A client that repeats its POST is told the same, at once or while nothing else has happened. */
static void test_a_wish_that_was_taken_is_met(void **state UNUSED) {
    for (size_t i = 0; i < job_transitions_count; i++) {
        const JobTransition *row = &job_transitions[i];

        for (int bits = 0; bits < VIEWS; bits++) {
            JobView after = view_of(row->to, row->to_phase, bits);

            after.has_failed = false; /* whoever has is begun again by each wish */
            if (job_event_verb(row->event) == NULL) {
                assert_false(job_wish_is_met(&after, row->event));
                continue;
            }
            if (!job_wish_is_met(&after, row->event))
                print_error("%s leads to %s, where it is not met\n", row->comment, job_state_name(row->to));
            assert_true(job_wish_is_met(&after, row->event));
            assert_false(job_event_is_allowed(&after, row->event)); /* or which of both is meant? */
        }
    }
}

/* How far it has come is lost by RESTARTING and DELETING alone, and with a server that is lost. */
static void test_a_phase_is_kept(void **state UNUSED) {
    for (size_t i = 0; i < job_transitions_count; i++) {
        const JobTransition *row = &job_transitions[i];
        bool gives_up = row->to == JOB_RESTARTING || row->to == JOB_DELETING || row->to == JOB_COMPLETED;

        if (row->from_phase >= JOB_PHASE_FULL_DUMP && !gives_up && row->event != EVENT_DEST_LOST)
            assert_true(row->to_phase >= MIN(row->from_phase, JOB_PHASE_CDC));
    }
}

static JobView walk(JobView view, const JobEvent *events, size_t count) {
    for (size_t i = 0; i < count; i++) {
        Error err;
        const JobTransition *row = job_transition_find(&view, events[i], &err);

        if (row == NULL)
            fail_msg("%s", err.message);
        view.state = row->to;
        view.phase = row->to_phase;
        view.is_prepared |= events[i] == EVENT_PREPARED;
    }
    return view;
}

static void test_whole_lives(void **state UNUSED) {
    static const JobEvent continuous[] = {EVENT_PREPARED,     EVENT_USER_START,  EVENT_WORKER_READY, EVENT_DUMP_DONE,
                                          EVENT_CAUGHT_UP,    EVENT_FELL_BEHIND, EVENT_CAUGHT_UP,    EVENT_USER_PROMOTE,
                                          EVENT_PROMOTE_DONE, EVENT_USER_DELETE, EVENT_PURGED};
    static const JobEvent stopped[] = {EVENT_PREPARED,       EVENT_USER_START,  EVENT_WORKER_READY, EVENT_USER_STOP,
                                       EVENT_WORKER_STOPPED, EVENT_USER_RESUME, EVENT_WORKER_READY, EVENT_WORKER_LOST,
                                       EVENT_WORKER_READY,   EVENT_DUMP_DONE};
    const JobView begun = {.state = JOB_CREATING, .is_continuous = true, .may_retry = true};
    JobView view = walk(begun, continuous, COUNT_OF(continuous));

    assert_int_equal(view.state, JOB_DELETED);
    view = walk(begun, stopped, COUNT_OF(stopped));
    assert_int_equal(view.state, JOB_RUNNING);
    assert_int_equal(view.phase, JOB_PHASE_CDC);
    const JobView once = {.state = JOB_CREATING, .may_retry = true};
    view = walk(once, stopped, COUNT_OF(stopped));
    assert_int_equal(view.state, JOB_COMPLETED);
    assert_int_equal(view.phase, JOB_PHASE_NONE);
}

static void test_what_is_refused_says_what_is_allowed(void **state UNUSED) {
    const JobView completed = {.state = JOB_COMPLETED};
    const JobView following = {.state = JOB_RUNNING, .phase = JOB_PHASE_CDC, .is_continuous = true};
    Error err = {0};

    assert_null(job_transition_find(&completed, EVENT_USER_START, &err));
    assert_int_equal(err.reason, REASON_JOB_STATE);
    assert_string_equal(err.message, "a job that is COMPLETED cannot take start; allowed: delete");
    assert_null(job_transition_find(&following, EVENT_USER_RESTART, &err));
    assert_string_equal(err.message,
                        "a job that is RUNNING in CDC cannot take restart; allowed: stop, promote, delete");
    assert_null(job_transition_find(&following, EVENT_DUMP_DONE, &err));
    assert_non_null(strstr(err.message, "cannot take DUMP_DONE"));
}

static void test_names(void **state UNUSED) {
    for (JobState at = 0; at < JOB_STATE_MAX_; at++)
        assert_int_equal(job_state_from_name(job_state_name(at)), at);
    for (JobPhase phase = 0; phase < JOB_PHASE_MAX_; phase++)
        assert_int_equal(job_phase_from_name(job_phase_name(phase)), phase);
    assert_int_equal(job_state_from_name("running"), JOB_STATE_MAX_);
    assert_int_equal(job_phase_from_name(""), JOB_PHASE_MAX_);
    for (JobEvent event = 0; event < EVENT_MAX_; event++)
        assert_true(strlen(job_event_name(event)) > 0 && strlen(job_event_meaning(event)) > 0);
    for (JobAction action = 0; action < ACTION_MAX_; action++)
        assert_true(strlen(job_action_name(action)) > 0 && strlen(job_action_meaning(action)) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_row_is_reached_and_says_why),
        cmocka_unit_test(test_each_row_is_taken_by_some_job),
        cmocka_unit_test(test_only_deleted_is_the_end),
        cmocka_unit_test(test_a_worker_may_end_at_any_time),
        cmocka_unit_test(test_a_wish_that_was_taken_is_met),
        cmocka_unit_test(test_a_phase_is_kept),
        cmocka_unit_test(test_whole_lives),
        cmocka_unit_test(test_what_is_refused_says_what_is_allowed),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
