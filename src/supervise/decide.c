/*
 * What is to be done about a job.
 *
 * NOTES
 * A fact is about all seats, a row of the table below: every seat is in one of the states `all`, and at least one in
 * one of `some`. The first row that fits counts, so failures stand above what else might be said of the same picture.
 *
 * A promote of the whole job is for all databases or for none (jobs/promotable.h): the wish was taken when all followed
 * their sources, but any may have failed, or been lost, before the first session is told of it.
 *
 * One database that fails or is lost does not take the others with it: as long as one seat works, those that may be
 * tried again are, by themselves, and the job goes on. Only when nothing works any more is it the job that failed or
 * was lost. So a job of one database takes each row of the job's own table, and one of many is patient with a few.
 *
 * So a stop is about those that work. One that had failed before, and was told then, does not make it fail; one that
 * fails on the way does.
 *
 * A seat that is due is not over, whatever its last session said: that is what a wish (resume) or a retry is for. One
 * that was stopped by somebody else than the job (the machine went down) is as good as lost.
 */
#include "supervise/decide.h"

#define IN(name) (1U << SEAT_##name)
#define WORKING (IN(COPYING) | IN(FOLLOWING) | IN(READY) | IN(PROMOTING) | IN(UNDONE))
#define ALIVE (IN(BEGINNING) | IN(CHECKING) | WORKING)
#define FOLLOWS (IN(FOLLOWING) | IN(READY) | IN(PROMOTING) | IN(UNDONE))
#define OVER (IN(DONE) | IN(STOPPED) | IN(FAILED) | IN(LOST))
#define ONE_BY_ONE (IN(PROMOTING) | IN(UNDONE) | IN(DONE)) /* databases that are promoted by themselves */
/* A process that has given its lock back and is not reaped yet is BEGINNING for a moment: it says nothing of any lag.
 */
#define UP_TO_DATE (IN(READY) | ONE_BY_ONE | IN(BEGINNING))
#define ANY (~0U)

#define S(name) JOB_##name
#define P(name) JOB_PHASE_##name
#define ANY_PHASE JOB_PHASE_MAX_

typedef struct FactRow {
    JobState state;
    JobPhase phase;
    unsigned all, some;
    JobEvent fact;
} FactRow;

/* clang-format off */
static const FactRow fact_rows[] = {
    {S(STARTING),   ANY_PHASE,              OVER,                               IN(LOST) | IN(STOPPED),   EVENT_WORKER_LOST},
    {S(STARTING),   ANY_PHASE,              OVER,                               IN(FAILED),               EVENT_FATAL},
    {S(STARTING),   ANY_PHASE,              WORKING | OVER,                     WORKING | IN(DONE),       EVENT_WORKER_READY},
    {S(RESTARTING), ANY_PHASE,              OVER,                               IN(LOST) | IN(STOPPED),   EVENT_WORKER_LOST},
    {S(RESTARTING), ANY_PHASE,              OVER,                               IN(FAILED),               EVENT_FATAL},
    {S(RESTARTING), ANY_PHASE,              WORKING | OVER,                     WORKING | IN(DONE),       EVENT_WORKER_READY},
    {S(RESUMING),   ANY_PHASE,              OVER,                               IN(LOST) | IN(STOPPED),   EVENT_WORKER_LOST},
    {S(RESUMING),   ANY_PHASE,              OVER,                               IN(FAILED),               EVENT_FATAL},
    {S(RESUMING),   ANY_PHASE,              WORKING | OVER,                     WORKING | IN(DONE),       EVENT_WORKER_READY},

    {S(RUNNING),    ANY_PHASE,              OVER,                               IN(LOST) | IN(STOPPED),   EVENT_WORKER_LOST},
    {S(RUNNING),    ANY_PHASE,              OVER,                               IN(FAILED),               EVENT_FATAL},
    {S(RUNNING),    P(FULL_DUMP),           FOLLOWS | IN(DONE),                 ANY,                      EVENT_DUMP_DONE},
    {S(RUNNING),    P(CDC),                 IN(DONE),                           ANY,                      EVENT_PROMOTE_DONE},
    {S(RUNNING),    P(CDC),                 IN(READY) | ONE_BY_ONE,             IN(READY),                EVENT_CAUGHT_UP},
    {S(RUNNING),    P(READY_FOR_PROMOTE),   IN(DONE),                           ANY,                      EVENT_PROMOTE_DONE},
    {S(RUNNING),    P(READY_FOR_PROMOTE),   ANY,                                ~UP_TO_DATE,              EVENT_FELL_BEHIND},
    {S(RUNNING),    P(PROMOTE_IN_PROGRESS), IN(DONE),                           ANY,                      EVENT_PROMOTE_DONE},
    {S(RUNNING),    P(PROMOTE_IN_PROGRESS), IN(UNDONE) | OVER,                  IN(UNDONE),               EVENT_PROMOTE_UNDONE},

    {S(STOPPING),   P(NONE),                ANY,                                WORKING,                  EVENT_WORKER_READY},
    {S(STOPPING),   P(FULL_DUMP),           FOLLOWS | IN(DONE),                 ANY,                      EVENT_DUMP_DONE},
    {S(STOPPING),   ANY_PHASE,              OVER | IN(IDLE),                    IN(FAILED),               EVENT_FATAL},
    {S(STOPPING),   ANY_PHASE,              OVER | IN(IDLE),                    IN(LOST),                 EVENT_WORKER_LOST},
    {S(STOPPING),   ANY_PHASE,              OVER | IN(IDLE),                    ANY,                      EVENT_WORKER_STOPPED},

    {S(DELETING),   ANY_PHASE,              IN(REMOVED),                        ANY,                      EVENT_PURGED},
    {S(DELETING),   ANY_PHASE,              IN(REMOVED) | IN(FAILED),           IN(FAILED),               EVENT_FATAL},
};
/* clang-format on */

/* One that is due is as one that has not begun. */
static unsigned seen(const Seat *seat) {
    return 1U << (seat->due != DUE_NOTHING && !seat_is_alive(seat->state) ? SEAT_IDLE : seat->state);
}

static bool is_old_failure(const JobView *job, const Seat *seat) {
    return job->state == JOB_STOPPING && seat->state == SEAT_FAILED && seat->told;
}

static unsigned seen_by(const JobView *job, const Seat *seat) {
    return is_old_failure(job, seat) ? IN(STOPPED) : seen(seat);
}

static bool fits(const FactRow *row, const JobView *job, const Seat *seats, size_t count) {
    bool some = row->some == ANY;

    if (row->state != job->state || (row->phase != ANY_PHASE && row->phase != job->phase))
        return false;
    for (size_t at = 0; at < count; at++) {
        unsigned seat = seen_by(job, &seats[at]);

        if ((seat & row->all) == 0)
            return false;
        some = some || (seat & row->some) != 0;
    }
    return some;
}

/* When nothing was changed anywhere, or nothing more than was there before. */
static bool all_refused(const Seat *seats, size_t count) {
    for (size_t at = 0; at < count; at++)
        if (seats[at].state == SEAT_FAILED && !seats[at].refused)
            return false;
    return true;
}

/* A promote of the whole job that no session has heard of yet waits until all databases can take it: those that were
 * lost, or that go on with the job, come to follow first. From the first that has heard on there is no going back. */
static bool promote_waits(const JobView *job, const Seat *seats, size_t count) {
    bool waits = false;

    if (job->state != JOB_RUNNING || job->phase != JOB_PHASE_PROMOTE_IN_PROGRESS)
        return false;
    for (size_t at = 0; at < count; at++) {
        if (seats[at].wish_heard && !seats[at].wish_is_own)
            return false;
        waits = waits || (seen(&seats[at]) & (FOLLOWS | IN(DONE))) == 0;
    }
    return waits;
}

/* Nobody begins it again; count = there is none. */
static size_t given_up(const Seat *seats, size_t count) {
    size_t at = 0;

    while (at < count && ((seen(&seats[at]) & (IN(FAILED) | IN(LOST) | IN(STOPPED))) == 0 || seats[at].may_try_again))
        at++;
    return at;
}

/* Which error says why. */
static size_t seat_of(const JobView *job, JobEvent fact, const Seat *seats, size_t count) {
    static const unsigned states[EVENT_MAX_] = {
        [EVENT_FATAL] = IN(FAILED),
        [EVENT_VERIFY_REFUSED] = IN(FAILED),
        [EVENT_WORKER_LOST] = IN(LOST) | IN(STOPPED),
        [EVENT_PROMOTE_UNDONE] = IN(UNDONE),
    };
    size_t at = 0;

    while (at < count && ((1U << seats[at].state & states[fact]) == 0 || is_old_failure(job, &seats[at])))
        at++;
    return at == count && fact == EVENT_PROMOTE_UNDONE ? given_up(seats, count) : at;
}

static bool find_fact(const JobView *job, const Seat *seats, size_t count, JobEvent *ret_fact) {
    bool may_refuse = job->state == JOB_STARTING || job->state == JOB_RESTARTING || job->state == JOB_RESUMING;

    for (size_t at = 0; at < COUNT_OF(fact_rows); at++) {
        if (!fits(&fact_rows[at], job, seats, count))
            continue;
        bool refused = fact_rows[at].fact == EVENT_FATAL && may_refuse && all_refused(seats, count);
        *ret_fact = refused ? EVENT_VERIFY_REFUSED : fact_rows[at].fact;
        return true;
    }
    *ret_fact = EVENT_PROMOTE_UNDONE;
    return promote_waits(job, seats, count) && given_up(seats, count) < count;
}

/* ---- Orders ---- */

typedef enum Goal { GOAL_REST, GOAL_WORK, GOAL_STOP, GOAL_REMOVE } Goal;

static Goal goal_of(const JobView *job) {
    static const Goal goals[JOB_STATE_MAX_] = {
        [JOB_STARTING] = GOAL_WORK, [JOB_RESTARTING] = GOAL_WORK, [JOB_RESUMING] = GOAL_WORK,
        [JOB_RUNNING] = GOAL_WORK,  [JOB_STOPPING] = GOAL_STOP,   [JOB_DELETING] = GOAL_REMOVE,
    };

    return goals[job->state];
}

static SeatOrder stop_it(const Seat *seat) {
    return seat_is_alive(seat->state) && !seat->stopping ? ORDER_STOP : ORDER_NOTHING;
}

static SeatOrder start_it(const Seat *seat) {
    static const unsigned again = IN(LOST) | IN(STOPPED) | IN(FAILED);
    bool by_itself = (1U << seat->state & again) != 0 && seat->may_try_again;

    if (seat_is_alive(seat->state) && seat->due == DUE_START && seat->anew) /* it was asked to begin anew alone */
        return stop_it(seat);
    if (seat_is_alive(seat->state) || !seat->may_start || (seat->due != DUE_START && !by_itself))
        return ORDER_NOTHING;
    return seat->anew ? ORDER_START_ANEW : ORDER_START;
}

/* Whoever has not heard yet of a promote that was called off is told both at once (session/control.h). */
static SeatOrder promote_it(const Seat *seat) {
    if (seat->cancelling)
        return seat->state == SEAT_UNDONE ? ORDER_NOTHING : ORDER_CANCEL;
    return seat->wish_heard ? ORDER_NOTHING : ORDER_PROMOTE;
}

static SeatOrder work_on(const Seat *seat) {
    SeatOrder order = start_it(seat);

    if (order == ORDER_NOTHING && seat->wishes && !seat->stopping && (1U << seat->state & FOLLOWS) != 0)
        order = promote_it(seat);
    return order;
}

static SeatOrder remove_it(const Seat *seat) {
    bool again = seat->removing && seat->may_start &&
                 (seat->state == SEAT_LOST || (seat->state == SEAT_FAILED && seat->may_try_again));

    if (seat_is_alive(seat->state))
        return seat->removing ? ORDER_NOTHING : stop_it(seat);
    if (seat->state == SEAT_REMOVED)
        return ORDER_NOTHING;
    return seat->due == DUE_REMOVE || again ? ORDER_REMOVE : ORDER_NOTHING;
}

static SeatOrder order_of(Goal goal, const Seat *seat) {
    switch (goal) {
    case GOAL_WORK:
        return work_on(seat);
    case GOAL_REMOVE:
        return remove_it(seat);
    case GOAL_REST:
    case GOAL_STOP:
    default:
        return stop_it(seat);
    }
}

Decision decide(const JobView *job, const Seat *seats, size_t count, SeatOrder *ret_orders) {
    Decision decision = {.about = count};
    Goal goal = goal_of(job);

    bool waits = promote_waits(job, seats, count);

    decision.has_fact = count > 0 && find_fact(job, seats, count, &decision.fact);
    if (decision.has_fact)
        decision.about = seat_of(job, decision.fact, seats, count);
    for (size_t at = 0; at < count; at++) {
        SeatOrder order = order_of(goal, &seats[at]);
        if (order == ORDER_PROMOTE && waits && !seats[at].wish_is_own)
            order = ORDER_NOTHING;
        ret_orders[at] = decision.has_fact && order != ORDER_STOP ? ORDER_NOTHING : order;
    }
    return decision;
}

SeatOrder decide_apart(const Seat *seat) {
    return remove_it(seat);
}

/* ---- Names ---- */

#define X(name, meaning) #name,
static const char *const state_names[] = {SEAT_STATES(X)};
static const char *const order_names[] = {SEAT_ORDERS(X)};
#undef X

const char *seat_state_name(SeatState state) {
    return state_names[state];
}

const char *seat_order_name(SeatOrder order) {
    return order_names[order];
}

bool seat_is_alive(SeatState state) {
    return (1U << state & ALIVE) != 0;
}
