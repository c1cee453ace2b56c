/* What is to be done about a job: facts by what all seats show, and an order for each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "supervise/decide.h"

enum { SEATS_MAX = 3 };

typedef struct Case {
    JobState state;
    JobPhase phase;
    SeatState seats[SEATS_MAX]; /* up to the first IDLE behind the first */
    size_t count;
    bool has_fact;
    JobEvent fact;
} Case;

#define FACT(state, phase, fact, count, ...)                                                                           \
    { JOB_##state, JOB_PHASE_##phase, {__VA_ARGS__}, count, true, EVENT_##fact }
#define NONE(state, phase, count, ...)                                                                                 \
    { JOB_##state, JOB_PHASE_##phase, {__VA_ARGS__}, count, false, EVENT_MAX_ }

/* clang-format off */
static const Case cases[] = {
    NONE(STARTING, NONE, 1, SEAT_BEGINNING),
    NONE(STARTING, NONE, 1, SEAT_CHECKING),
    FACT(STARTING, NONE, WORKER_READY, 1, SEAT_COPYING),
    FACT(STARTING, NONE, WORKER_READY, 1, SEAT_DONE),
    FACT(STARTING, NONE, WORKER_LOST, 1, SEAT_LOST),
    FACT(STARTING, NONE, WORKER_LOST, 1, SEAT_STOPPED),
    FACT(STARTING, NONE, FATAL, 1, SEAT_FAILED),
    NONE(STARTING, NONE, 2, SEAT_CHECKING, SEAT_FAILED),
    FACT(STARTING, NONE, WORKER_READY, 2, SEAT_COPYING, SEAT_FAILED),
    FACT(STARTING, NONE, WORKER_LOST, 2, SEAT_LOST, SEAT_FAILED),
    FACT(RESTARTING, NONE, WORKER_READY, 2, SEAT_COPYING, SEAT_READY),
    FACT(RESUMING, CDC, WORKER_READY, 1, SEAT_FOLLOWING),
    NONE(RESUMING, CDC, 2, SEAT_FOLLOWING, SEAT_CHECKING),

    NONE(RUNNING, FULL_DUMP, 2, SEAT_COPYING, SEAT_READY),
    FACT(RUNNING, FULL_DUMP, DUMP_DONE, 2, SEAT_FOLLOWING, SEAT_READY),
    FACT(RUNNING, FULL_DUMP, DUMP_DONE, 1, SEAT_DONE),
    NONE(RUNNING, FULL_DUMP, 2, SEAT_READY, SEAT_FAILED),
    NONE(RUNNING, FULL_DUMP, 2, SEAT_COPYING, SEAT_LOST),
    FACT(RUNNING, FULL_DUMP, FATAL, 2, SEAT_DONE, SEAT_FAILED),
    FACT(RUNNING, FULL_DUMP, WORKER_LOST, 2, SEAT_DONE, SEAT_LOST),
    NONE(RUNNING, CDC, 1, SEAT_FOLLOWING),
    FACT(RUNNING, CDC, CAUGHT_UP, 1, SEAT_READY),
    FACT(RUNNING, CDC, CAUGHT_UP, 2, SEAT_READY, SEAT_DONE),
    NONE(RUNNING, CDC, 2, SEAT_READY, SEAT_FAILED),
    FACT(RUNNING, CDC, CAUGHT_UP, 2, SEAT_READY, SEAT_PROMOTING),
    NONE(RUNNING, CDC, 1, SEAT_PROMOTING),
    FACT(RUNNING, CDC, PROMOTE_DONE, 2, SEAT_DONE, SEAT_DONE),
    FACT(RUNNING, READY_FOR_PROMOTE, PROMOTE_DONE, 1, SEAT_DONE),
    NONE(RUNNING, READY_FOR_PROMOTE, 2, SEAT_READY, SEAT_PROMOTING),
    NONE(RUNNING, READY_FOR_PROMOTE, 2, SEAT_DONE, SEAT_UNDONE),
    FACT(RUNNING, CDC, FATAL, 1, SEAT_FAILED),
    NONE(RUNNING, READY_FOR_PROMOTE, 1, SEAT_READY),
    NONE(RUNNING, READY_FOR_PROMOTE, 2, SEAT_READY, SEAT_BEGINNING),
    FACT(RUNNING, READY_FOR_PROMOTE, FELL_BEHIND, 2, SEAT_READY, SEAT_FOLLOWING),
    FACT(RUNNING, READY_FOR_PROMOTE, FELL_BEHIND, 2, SEAT_READY, SEAT_FAILED),
    NONE(RUNNING, PROMOTE_IN_PROGRESS, 2, SEAT_PROMOTING, SEAT_DONE),
    NONE(RUNNING, PROMOTE_IN_PROGRESS, 2, SEAT_PROMOTING, SEAT_UNDONE),
    FACT(RUNNING, PROMOTE_IN_PROGRESS, PROMOTE_UNDONE, 2, SEAT_DONE, SEAT_UNDONE),
    FACT(RUNNING, PROMOTE_IN_PROGRESS, PROMOTE_DONE, 2, SEAT_DONE, SEAT_DONE),
    FACT(RUNNING, PROMOTE_IN_PROGRESS, FATAL, 2, SEAT_DONE, SEAT_FAILED),
    FACT(RUNNING, PROMOTE_IN_PROGRESS, PROMOTE_UNDONE, 2, SEAT_FAILED, SEAT_UNDONE),

    NONE(STOPPING, CDC, 1, SEAT_READY),
    FACT(STOPPING, NONE, WORKER_READY, 1, SEAT_COPYING),
    FACT(STOPPING, FULL_DUMP, DUMP_DONE, 1, SEAT_FOLLOWING),
    FACT(STOPPING, CDC, WORKER_LOST, 2, SEAT_STOPPED, SEAT_LOST),
    FACT(STOPPING, CDC, WORKER_STOPPED, 2, SEAT_STOPPED, SEAT_DONE),
    FACT(STOPPING, CDC, FATAL, 2, SEAT_STOPPED, SEAT_FAILED),
    FACT(STOPPING, NONE, WORKER_STOPPED, 2, SEAT_STOPPED, SEAT_IDLE),

    NONE(DELETING, NONE, 2, SEAT_REMOVED, SEAT_READY),
    FACT(DELETING, NONE, PURGED, 2, SEAT_REMOVED, SEAT_REMOVED),
    FACT(DELETING, NONE, FATAL, 2, SEAT_REMOVED, SEAT_FAILED),
    NONE(FAILED, CDC, 1, SEAT_FAILED),
    NONE(STOPPED, CDC, 1, SEAT_STOPPED),
    NONE(COMPLETED, NONE, 1, SEAT_DONE),
};
/* clang-format on */

/* A stop that finds nothing new to fail went well; the error of one that fails on the way is told, not the old one. */
static void test_stop_beside_a_failure(void **state UNUSED) {
    const JobView running = {.state = JOB_RUNNING, .phase = JOB_PHASE_CDC};
    const JobView stopping = {.state = JOB_STOPPING, .phase = JOB_PHASE_CDC};
    Seat seats[] = {{.state = SEAT_FAILED, .told = true}, {.state = SEAT_STOPPED}};
    SeatOrder orders[2];

    Decision decision = decide(&stopping, seats, 2, orders);
    assert_true(decision.has_fact);
    assert_int_equal(decision.fact, EVENT_WORKER_STOPPED);
    seats[1].state = SEAT_FAILED;
    decision = decide(&stopping, seats, 2, orders);
    assert_true(decision.has_fact);
    assert_int_equal(decision.fact, EVENT_FATAL);
    assert_int_equal(decision.about, 1);
    decision = decide(&running, seats, 2, orders);
    assert_int_equal(decision.fact, EVENT_FATAL);
    assert_int_equal(decision.about, 0);
}

static void test_facts(void **state UNUSED) {
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        const Case *this = &cases[at];
        const JobView view = {.state = this->state, .phase = this->phase, .is_continuous = true};
        Seat seats[SEATS_MAX] = {0};
        SeatOrder orders[SEATS_MAX];

        for (size_t seat = 0; seat < this->count; seat++)
            seats[seat].state = this->seats[seat];
        const Decision decision = decide(&view, seats, this->count, orders);
        if (decision.has_fact != this->has_fact || (decision.has_fact && decision.fact != this->fact))
            fail_msg("case %zu: %s", at, decision.has_fact ? job_event_name(decision.fact) : "no fact");
    }
}

/* Each fact that is decided has a row in the job's own table. */
static void test_facts_are_taken(void **state UNUSED) {
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        const JobView view = {.state = cases[at].state, .phase = cases[at].phase, .is_continuous = true};

        if (cases[at].has_fact && !job_event_is_allowed(&view, cases[at].fact))
            fail_msg("case %zu: %s has no row", at, job_event_name(cases[at].fact));
    }
}

static void test_refused_is_no_failure(void **state UNUSED) {
    const JobView view = {.state = JOB_STARTING}, goes_on = {.state = JOB_RESUMING, .phase = JOB_PHASE_CDC};
    Seat seats[2] = {{.state = SEAT_FAILED, .refused = true}, {.state = SEAT_FAILED, .refused = true}};
    SeatOrder orders[2];

    assert_int_equal(decide(&view, seats, 2, orders).fact, EVENT_VERIFY_REFUSED);
    assert_int_equal(decide(&goes_on, seats, 2, orders).fact, EVENT_VERIFY_REFUSED);
    seats[1].refused = false;
    const Decision decision = decide(&view, seats, 2, orders);
    assert_int_equal(decision.fact, EVENT_FATAL);
    assert_int_equal(decision.about, 0);
}

/* A wish puts an end to what was: the seat is begun again, and its old error is not told once more. */
static void test_due_is_not_over(void **state UNUSED) {
    const JobView view = {.state = JOB_RESUMING, .phase = JOB_PHASE_CDC};
    Seat seat = {.state = SEAT_FAILED, .due = DUE_START, .may_start = true};
    SeatOrder order;

    assert_false(decide(&view, &seat, 1, &order).has_fact);
    assert_int_equal(order, ORDER_START);
    seat.anew = true;
    (void)decide(&view, &seat, 1, &order);
    assert_int_equal(order, ORDER_START_ANEW);
    seat.may_start = false;
    (void)decide(&view, &seat, 1, &order);
    assert_int_equal(order, ORDER_NOTHING);
}

static void test_one_of_two_is_tried_again(void **state UNUSED) {
    const JobView view = {.state = JOB_RUNNING, .phase = JOB_PHASE_CDC};
    Seat seats[2] = {{.state = SEAT_READY}, {.state = SEAT_LOST, .may_start = true, .may_try_again = true}};
    SeatOrder orders[2];

    assert_false(decide(&view, seats, 2, orders).has_fact);
    assert_int_equal(orders[0], ORDER_NOTHING);
    assert_int_equal(orders[1], ORDER_START);
    seats[1].may_try_again = false;
    (void)decide(&view, seats, 2, orders);
    assert_int_equal(orders[1], ORDER_NOTHING);
}

static void test_orders(void **state UNUSED) {
    static const struct {
        JobState state;
        JobPhase phase;
        Seat seat;
        SeatOrder order;
    } rows[] = {
        {JOB_RUNNING, JOB_PHASE_PROMOTE_IN_PROGRESS, {.state = SEAT_READY, .wishes = true}, ORDER_PROMOTE},
        {JOB_RUNNING,
         JOB_PHASE_PROMOTE_IN_PROGRESS,
         {.state = SEAT_PROMOTING, .wishes = true, .wish_heard = true},
         ORDER_NOTHING},
        {JOB_RUNNING, JOB_PHASE_CDC, {.state = SEAT_FOLLOWING, .wishes = true}, ORDER_PROMOTE},
        {JOB_RUNNING, JOB_PHASE_CDC, {.state = SEAT_FOLLOWING, .wishes = true, .cancelling = true}, ORDER_CANCEL},
        {JOB_RUNNING,
         JOB_PHASE_CDC,
         {.state = SEAT_PROMOTING, .wishes = true, .wish_heard = true, .cancelling = true},
         ORDER_CANCEL},
        {JOB_RUNNING,
         JOB_PHASE_CDC,
         {.state = SEAT_UNDONE, .wishes = true, .wish_heard = true, .cancelling = true},
         ORDER_NOTHING},
        {JOB_RUNNING,
         JOB_PHASE_READY_FOR_PROMOTE,
         {.state = SEAT_PROMOTING, .wishes = true, .wish_heard = true},
         ORDER_NOTHING},
        {JOB_RUNNING, JOB_PHASE_PROMOTE_IN_PROGRESS, {.state = SEAT_CHECKING}, ORDER_NOTHING},
        {JOB_RUNNING, JOB_PHASE_CDC, {.state = SEAT_FOLLOWING}, ORDER_NOTHING},
        {JOB_RUNNING, JOB_PHASE_CDC, {.state = SEAT_READY, .due = DUE_START}, ORDER_NOTHING},
        {JOB_RUNNING, JOB_PHASE_CDC, {.state = SEAT_READY, .due = DUE_START, .anew = true}, ORDER_STOP},
        {JOB_STOPPING, JOB_PHASE_CDC, {.state = SEAT_READY}, ORDER_STOP},
        {JOB_STOPPING, JOB_PHASE_CDC, {.state = SEAT_READY, .stopping = true}, ORDER_NOTHING},
        {JOB_STOPPING, JOB_PHASE_CDC, {.state = SEAT_BEGINNING}, ORDER_STOP},
        {JOB_FAILED, JOB_PHASE_CDC, {.state = SEAT_COPYING}, ORDER_STOP},
        {JOB_FAILED, JOB_PHASE_CDC, {.state = SEAT_FAILED, .due = DUE_START, .may_start = true}, ORDER_NOTHING},
        {JOB_DELETING, JOB_PHASE_NONE, {.state = SEAT_READY, .due = DUE_REMOVE}, ORDER_STOP},
        {JOB_DELETING, JOB_PHASE_NONE, {.state = SEAT_STOPPED, .due = DUE_REMOVE}, ORDER_REMOVE},
        {JOB_DELETING, JOB_PHASE_NONE, {.state = SEAT_CHECKING, .removing = true}, ORDER_NOTHING},
        {JOB_DELETING, JOB_PHASE_NONE, {.state = SEAT_LOST, .removing = true}, ORDER_NOTHING},
        {JOB_DELETING, JOB_PHASE_NONE, {.state = SEAT_LOST, .removing = true, .may_start = true}, ORDER_REMOVE},
    };

    for (size_t at = 0; at < COUNT_OF(rows); at++) {
        const JobView view = {.state = rows[at].state, .phase = rows[at].phase};
        SeatOrder order;

        (void)decide(&view, &rows[at].seat, 1, &order);
        if (order != rows[at].order)
            fail_msg("row %zu: %s", at, seat_order_name(order));
    }
}

/* None is told of a promote of the whole job until all can take it; from the first that has heard on, all go on. */
static void test_a_promote_of_all_waits(void **state UNUSED) {
    const JobView view = {.state = JOB_RUNNING, .phase = JOB_PHASE_PROMOTE_IN_PROGRESS};
    Seat seats[2] = {{.state = SEAT_READY, .wishes = true}, {.state = SEAT_CHECKING, .wishes = true}};
    SeatOrder orders[2];

    assert_false(decide(&view, seats, 2, orders).has_fact);
    assert_int_equal(orders[0], ORDER_NOTHING);
    seats[0].wish_is_own = true;
    (void)decide(&view, seats, 2, orders);
    assert_int_equal(orders[0], ORDER_PROMOTE);
    seats[0].wish_is_own = false;
    seats[1].state = SEAT_DONE;
    (void)decide(&view, seats, 2, orders);
    assert_int_equal(orders[0], ORDER_PROMOTE);
    seats[1] = (Seat){.state = SEAT_FAILED, .may_try_again = true};
    assert_false(decide(&view, seats, 2, orders).has_fact);
    seats[1].may_try_again = false;
    const Decision decision = decide(&view, seats, 2, orders);
    assert_true(decision.has_fact && decision.fact == EVENT_PROMOTE_UNDONE && decision.about == 1);
    assert_int_equal(orders[0], ORDER_NOTHING);
    seats[0].wish_heard = true;
    assert_false(decide(&view, seats, 2, orders).has_fact);
}

/* A removal that fails is tried again when its pause is over, whatever the job does. */
static void test_apart(void **state UNUSED) {
    Seat seat = {.state = SEAT_READY, .due = DUE_REMOVE};

    assert_int_equal(decide_apart(&seat), ORDER_STOP);
    seat.state = SEAT_STOPPED;
    assert_int_equal(decide_apart(&seat), ORDER_REMOVE);
    seat = (Seat){.state = SEAT_FAILED, .removing = true, .may_try_again = true};
    assert_int_equal(decide_apart(&seat), ORDER_NOTHING);
    seat.may_start = true;
    assert_int_equal(decide_apart(&seat), ORDER_REMOVE);
    seat.state = SEAT_REMOVED;
    assert_int_equal(decide_apart(&seat), ORDER_NOTHING);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),           cmocka_unit_test(test_stop_beside_a_failure),
        cmocka_unit_test(test_facts_are_taken), cmocka_unit_test(test_refused_is_no_failure),
        cmocka_unit_test(test_due_is_not_over), cmocka_unit_test(test_one_of_two_is_tried_again),
        cmocka_unit_test(test_orders),          cmocka_unit_test(test_a_promote_of_all_waits),
        cmocka_unit_test(test_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
