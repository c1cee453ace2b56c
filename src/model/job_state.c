/*
 * The table of a job's life.
 *
 * NOTES
 * A worker may die at any moment and another one goes on from what is committed in the destination (engine/ledger), so
 * a lost worker never changes how far a job has come: RESUMING keeps the phase. Only RESTARTING throws the copy away.
 *
 * The worker reports in order: WORKER_READY, DUMP_DONE, CAUGHT_UP and FELL_BEHIND in turns, then the promote. A worker
 * that resumes and finds the copy whole says DUMP_DONE again when the job was still called FULL_DUMP: the daemon may
 * have died between the fact and its row. In CDC that fact has no row, and is dropped.
 *
 * READY_FOR_PROMOTE is a fact about now: who stops or fails in it has CDC behind him. Lost workers are counted since
 * the job went forward, and to come to it is that; so none of its own is one too many.
 */
#include "model/job_state.h"

#include <stdio.h>
#include <string.h>

#define S(name) JOB_##name
#define P(name) JOB_PHASE_##name
#define E(name) EVENT_##name
#define A(name) ACTION_##name

static bool is_continuous(const JobView *job) {
    return job->is_continuous;
}

static bool is_unprepared(const JobView *job) {
    return !job->is_prepared;
}

static bool may_retry(const JobView *job) {
    return job->may_retry;
}

static bool is_recoverable(const JobView *job) {
    return job->is_recoverable;
}

static bool has_failed(const JobView *job) {
    return job->has_failed;
}

const JobGuardInfo job_guards[] = {
    {is_continuous, "CONTINUOUS", "the job is CONTINUOUS, not ONE_TIME"},
    {is_unprepared, "UNPREPARED", "its destination was never ready"},
    {may_retry, "MAY_RETRY", "not too many workers were lost since it went forward or was asked for something"},
    {is_recoverable, "RECOVERABLE", "its last error may pass without anybody's doing"},
    {has_failed, "SOME_FAILED", "some of its databases have failed, beside others"},
};
const size_t job_guards_count = COUNT_OF(job_guards);

/* clang-format off */
const JobTransition job_transitions[] = {
    /* the destination is being made ready */
    {S(CREATING),    P(NONE),                E(PREPARED),       NULL,           S(NOT_STARTED), P(NONE),                A(NOTHING),      "the destination is ready"},
    {S(CREATING),    P(NONE),                E(FATAL),          NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "the destination could not be made ready"},
    {S(CREATING),    P(NONE),                E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted while its destination was made ready"},

    /* the beginning */
    {S(NOT_STARTED), P(NONE),                E(USER_START),     NULL,           S(STARTING),    P(NONE),                A(SPAWN_WORKER), "start asked for"},
    {S(NOT_STARTED), P(NONE),                E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted before it began"},
    {S(STARTING),    P(NONE),                E(WORKER_READY),   NULL,           S(RUNNING),     P(FULL_DUMP),           A(NOTHING),      "the copy has begun"},
    {S(STARTING),    P(NONE),                E(VERIFY_REFUSED), NULL,           S(NOT_STARTED), P(NONE),                A(NOTHING),      "the checks found errors; nothing was changed"},
    {S(STARTING),    P(NONE),                E(FATAL),          NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "it could not begin"},
    {S(STARTING),    P(NONE),                E(WORKER_LOST),    may_retry,      S(STARTING),    P(NONE),                A(SPAWN_WORKER), "the worker was lost while starting: another one"},
    {S(STARTING),    P(NONE),                E(WORKER_LOST),    NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "the worker was lost again and again while starting"},
    {S(STARTING),    P(NONE),                E(USER_STOP),      NULL,           S(STOPPING),    P(NONE),                A(ASK_STOP),     "stop asked for while starting"},
    {S(STARTING),    P(NONE),                E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted while starting"},
    {S(RESTARTING),  P(NONE),                E(WORKER_READY),   NULL,           S(RUNNING),     P(FULL_DUMP),           A(NOTHING),      "the copy has begun"},
    {S(RESTARTING),  P(NONE),                E(VERIFY_REFUSED), NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "the checks found errors; the destination is as it was"},
    {S(RESTARTING),  P(NONE),                E(FATAL),          NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "it could not begin"},
    {S(RESTARTING),  P(NONE),                E(WORKER_LOST),    may_retry,      S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "the worker was lost while beginning anew: another one"},
    {S(RESTARTING),  P(NONE),                E(WORKER_LOST),    NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "the worker was lost again and again while beginning anew"},
    {S(RESTARTING),  P(NONE),                E(USER_STOP),      NULL,           S(STOPPING),    P(NONE),                A(ASK_STOP),     "stop asked for while beginning anew"},
    {S(RESTARTING),  P(NONE),                E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted while beginning anew"},

    /* the copy */
    {S(RUNNING),     P(FULL_DUMP),           E(DUMP_DONE),      is_continuous,  S(RUNNING),     P(CDC),                 A(NOTHING),      "the copy is whole; changes are applied"},
    {S(RUNNING),     P(FULL_DUMP),           E(DUMP_DONE),      NULL,           S(COMPLETED),   P(NONE),                A(TIDY_SOURCE),  "the copy is whole"},

    /* a server that the service made, filled in load mode */
    {S(STARTING),    P(NONE),                 E(DEST_LOST),      may_retry,      S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "the server that is filled went down: it is made anew, and so is the copy"},
    {S(STARTING),    P(NONE),                 E(DEST_LOST),      NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "the server that is filled went down again and again"},
    {S(RESTARTING),  P(NONE),                 E(DEST_LOST),      may_retry,      S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "the server that is filled went down: it is made anew, and so is the copy"},
    {S(RESTARTING),  P(NONE),                 E(DEST_LOST),      NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "the server that is filled went down again and again"},
    {S(RUNNING),     P(FULL_DUMP),            E(DEST_LOST),      may_retry,      S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "the server that is filled went down: it is made anew, and so is the copy"},
    {S(RUNNING),     P(FULL_DUMP),            E(DEST_LOST),      NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "the server that is filled went down again and again"},
    {S(RESUMING),    P(FULL_DUMP),            E(DEST_LOST),      may_retry,      S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "the server that is filled went down: it is made anew, and so is the copy"},
    {S(RESUMING),    P(FULL_DUMP),            E(DEST_LOST),      NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "the server that is filled went down again and again"},

    /* following */
    {S(RUNNING),     P(CDC),                 E(CAUGHT_UP),      NULL,           S(RUNNING),     P(READY_FOR_PROMOTE),   A(NOTHING),      "the lag is under the threshold"},
    {S(RUNNING),     P(READY_FOR_PROMOTE),   E(FELL_BEHIND),    NULL,           S(RUNNING),     P(CDC),                 A(NOTHING),      "the lag is over the threshold"},
    {S(RUNNING),     P(CDC),                 E(PROMOTE_DONE),   NULL,           S(COMPLETED),   P(NONE),                A(TIDY_SOURCE),  "the last of the databases is promoted"},
    {S(RUNNING),     P(READY_FOR_PROMOTE),   E(PROMOTE_DONE),   NULL,           S(COMPLETED),   P(NONE),                A(TIDY_SOURCE),  "the last of the databases is promoted"},
    {S(RUNNING),     P(CDC),                 E(USER_PROMOTE),   NULL,           S(RUNNING),     P(PROMOTE_IN_PROGRESS), A(ASK_PROMOTE),  "promote asked for; it waits for the lag"},
    {S(RUNNING),     P(READY_FOR_PROMOTE),   E(USER_PROMOTE),   NULL,           S(RUNNING),     P(PROMOTE_IN_PROGRESS), A(ASK_PROMOTE),  "promote asked for"},

    /* while a worker works */
    {S(RUNNING),     P(FULL_DUMP),           E(USER_RESUME),    has_failed,     S(RUNNING),     P(FULL_DUMP),           A(SPAWN_FAILED), "resume asked for: databases that have failed go on"},
    {S(RUNNING),     P(CDC),                 E(USER_RESUME),    has_failed,     S(RUNNING),     P(CDC),                 A(SPAWN_FAILED), "resume asked for: databases that have failed go on"},
    {S(RUNNING),     P(READY_FOR_PROMOTE),   E(USER_RESUME),    has_failed,     S(RUNNING),     P(READY_FOR_PROMOTE),   A(SPAWN_FAILED), "resume asked for: databases that have failed go on"},
    {S(RUNNING),     P(FULL_DUMP),           E(USER_STOP),      NULL,           S(STOPPING),    P(FULL_DUMP),           A(ASK_STOP),     "stop asked for during the copy"},
    {S(RUNNING),     P(FULL_DUMP),           E(FATAL),          NULL,           S(FAILED),      P(FULL_DUMP),           A(NOTHING),      "failed during the copy"},
    {S(RUNNING),     P(FULL_DUMP),           E(WORKER_LOST),    may_retry,      S(RESUMING),    P(FULL_DUMP),           A(SPAWN_WORKER), "the worker was lost during the copy: another one goes on"},
    {S(RUNNING),     P(FULL_DUMP),           E(WORKER_LOST),    NULL,           S(FAILED),      P(FULL_DUMP),           A(NOTHING),      "the worker was lost again and again during the copy"},
    {S(RUNNING),     P(FULL_DUMP),           E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted during the copy"},
    {S(RUNNING),     P(CDC),                 E(USER_STOP),      NULL,           S(STOPPING),    P(CDC),                 A(ASK_STOP),     "stop asked for while following"},
    {S(RUNNING),     P(CDC),                 E(FATAL),          NULL,           S(FAILED),      P(CDC),                 A(NOTHING),      "failed while following"},
    {S(RUNNING),     P(CDC),                 E(WORKER_LOST),    may_retry,      S(RESUMING),    P(CDC),                 A(SPAWN_WORKER), "the worker was lost while following: another one goes on"},
    {S(RUNNING),     P(CDC),                 E(WORKER_LOST),    NULL,           S(FAILED),      P(CDC),                 A(NOTHING),      "the worker was lost again and again while following"},
    {S(RUNNING),     P(CDC),                 E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted while following"},
    {S(RUNNING),     P(READY_FOR_PROMOTE),   E(USER_STOP),      NULL,           S(STOPPING),    P(CDC),                 A(ASK_STOP),     "stop asked for while following"},
    {S(RUNNING),     P(READY_FOR_PROMOTE),   E(FATAL),          NULL,           S(FAILED),      P(CDC),                 A(NOTHING),      "failed while following"},
    {S(RUNNING),     P(READY_FOR_PROMOTE),   E(WORKER_LOST),    NULL,           S(RESUMING),    P(CDC),                 A(SPAWN_WORKER), "the worker was lost while following: another one goes on"},
    {S(RUNNING),     P(READY_FOR_PROMOTE),   E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted while following"},

    /* the promote: nobody stops it but itself; behind open there is no way back */
    {S(RUNNING),     P(PROMOTE_IN_PROGRESS), E(PROMOTE_DONE),   NULL,           S(COMPLETED),   P(NONE),                A(TIDY_SOURCE),  "the destination is the primary"},
    {S(RUNNING),     P(PROMOTE_IN_PROGRESS), E(PROMOTE_UNDONE), NULL,           S(RUNNING),     P(CDC),                 A(NOTHING),      "the promote was taken back; following goes on"},
    {S(RUNNING),     P(PROMOTE_IN_PROGRESS), E(FATAL),          NULL,           S(FAILED),      P(PROMOTE_IN_PROGRESS), A(NOTHING),      "the promote failed"},
    {S(RUNNING),     P(PROMOTE_IN_PROGRESS), E(WORKER_LOST),    may_retry,      S(RESUMING),    P(PROMOTE_IN_PROGRESS), A(SPAWN_WORKER), "the worker was lost in the promote: another one finishes it"},
    {S(RUNNING),     P(PROMOTE_IN_PROGRESS), E(WORKER_LOST),    NULL,           S(FAILED),      P(PROMOTE_IN_PROGRESS), A(NOTHING),      "the worker was lost again and again in the promote"},
    {S(RUNNING),     P(PROMOTE_IN_PROGRESS), E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted in the promote"},

    /* stopping: what the worker still brought about counts */
    {S(STOPPING),    P(FULL_DUMP),           E(DUMP_DONE),      is_continuous,  S(STOPPING),    P(CDC),                 A(NOTHING),      "the copy became whole while stopping"},
    {S(STOPPING),    P(FULL_DUMP),           E(DUMP_DONE),      NULL,           S(COMPLETED),   P(NONE),                A(TIDY_SOURCE),  "the copy became whole while stopping"},
    {S(STOPPING),    P(NONE),                E(WORKER_READY),   NULL,           S(STOPPING),    P(FULL_DUMP),           A(NOTHING),      "the copy began while stopping"},
    {S(STOPPING),    P(NONE),                E(WORKER_STOPPED), NULL,           S(STOPPED),     P(NONE),                A(NOTHING),      "stopped; nothing was copied"},
    {S(STOPPING),    P(NONE),                E(WORKER_LOST),    NULL,           S(STOPPED),     P(NONE),                A(NOTHING),      "stopped, since the worker is gone; nothing was copied"},
    {S(STOPPING),    P(NONE),                E(FATAL),          NULL,           S(FAILED),      P(NONE),                A(NOTHING),      "failed while stopping"},
    {S(STOPPING),    P(NONE),                E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted while stopping"},
    {S(STOPPING),    P(FULL_DUMP),           E(WORKER_STOPPED), NULL,           S(STOPPED),     P(FULL_DUMP),           A(NOTHING),      "stopped; what is copied is kept"},
    {S(STOPPING),    P(FULL_DUMP),           E(WORKER_LOST),    NULL,           S(STOPPED),     P(FULL_DUMP),           A(NOTHING),      "stopped, since the worker is gone; what is copied is kept"},
    {S(STOPPING),    P(FULL_DUMP),           E(FATAL),          NULL,           S(FAILED),      P(FULL_DUMP),           A(NOTHING),      "failed while stopping"},
    {S(STOPPING),    P(FULL_DUMP),           E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted while stopping"},
    {S(STOPPING),    P(CDC),                 E(WORKER_STOPPED), NULL,           S(STOPPED),     P(CDC),                 A(NOTHING),      "stopped; the slot keeps WAL on the source"},
    {S(STOPPING),    P(CDC),                 E(WORKER_LOST),    NULL,           S(STOPPED),     P(CDC),                 A(NOTHING),      "stopped, since the worker is gone; the slot keeps WAL on the source"},
    {S(STOPPING),    P(CDC),                 E(FATAL),          NULL,           S(FAILED),      P(CDC),                 A(NOTHING),      "failed while stopping"},
    {S(STOPPING),    P(CDC),                 E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted while stopping"},

    /* stopped or failed: what is committed is there to go on from */
    {S(STOPPED),     P(NONE),                E(USER_RESUME),    NULL,           S(STARTING),    P(NONE),                A(SPAWN_WORKER), "resume asked for"},
    {S(STOPPED),     P(NONE),                E(USER_RESTART),   NULL,           S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "restart asked for"},
    {S(STOPPED),     P(NONE),                E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted"},
    {S(STOPPED),     P(FULL_DUMP),           E(USER_RESUME),    NULL,           S(RESUMING),    P(FULL_DUMP),           A(SPAWN_WORKER), "resume asked for"},
    {S(STOPPED),     P(FULL_DUMP),           E(USER_RESTART),   NULL,           S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "restart asked for"},
    {S(STOPPED),     P(FULL_DUMP),           E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted"},
    {S(STOPPED),     P(CDC),                 E(USER_RESUME),    NULL,           S(RESUMING),    P(CDC),                 A(SPAWN_WORKER), "resume asked for"},
    {S(STOPPED),     P(CDC),                 E(USER_RESTART),   NULL,           S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "restart asked for"},
    {S(STOPPED),     P(CDC),                 E(USER_PROMOTE),   NULL,           S(RESUMING),    P(PROMOTE_IN_PROGRESS), A(SPAWN_WORKER), "promote asked for while stopped"},
    {S(STOPPED),     P(CDC),                 E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted"},
    {S(FAILED),      P(NONE),                E(USER_RESUME),    is_unprepared,  S(CREATING),    P(NONE),                A(PREPARE),      "resume asked for: the destination once more"},
    {S(FAILED),      P(NONE),                E(USER_RESTART),   is_unprepared,  S(CREATING),    P(NONE),                A(PREPARE),      "restart asked for: the destination once more"},
    {S(FAILED),      P(NONE),                E(USER_RESUME),    NULL,           S(STARTING),    P(NONE),                A(SPAWN_WORKER), "resume asked for after a failure"},
    {S(FAILED),      P(NONE),                E(RETRY_DUE),      is_recoverable, S(STARTING),    P(NONE),                A(SPAWN_WORKER), "the cause may have passed: trying again"},
    {S(FAILED),      P(NONE),                E(USER_RESTART),   NULL,           S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "restart asked for after a failure"},
    {S(FAILED),      P(NONE),                E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted"},
    {S(FAILED),      P(FULL_DUMP),           E(USER_RESUME),    NULL,           S(RESUMING),    P(FULL_DUMP),           A(SPAWN_WORKER), "resume asked for after a failure"},
    {S(FAILED),      P(FULL_DUMP),           E(RETRY_DUE),      is_recoverable, S(RESUMING),    P(FULL_DUMP),           A(SPAWN_WORKER), "the cause may have passed: trying again"},
    {S(FAILED),      P(FULL_DUMP),           E(USER_RESTART),   NULL,           S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "restart asked for after a failure"},
    {S(FAILED),      P(FULL_DUMP),           E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted"},
    {S(FAILED),      P(CDC),                 E(USER_RESUME),    NULL,           S(RESUMING),    P(CDC),                 A(SPAWN_WORKER), "resume asked for after a failure"},
    {S(FAILED),      P(CDC),                 E(RETRY_DUE),      is_recoverable, S(RESUMING),    P(CDC),                 A(SPAWN_WORKER), "the cause may have passed: trying again"},
    {S(FAILED),      P(CDC),                 E(USER_RESTART),   NULL,           S(RESTARTING),  P(NONE),                A(SPAWN_ANEW),   "restart asked for after a failure"},
    {S(FAILED),      P(CDC),                 E(USER_PROMOTE),   NULL,           S(RESUMING),    P(PROMOTE_IN_PROGRESS), A(SPAWN_WORKER), "promote asked for after a failure"},
    {S(FAILED),      P(CDC),                 E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted"},
    {S(FAILED),      P(PROMOTE_IN_PROGRESS), E(USER_PROMOTE),   NULL,           S(RESUMING),    P(PROMOTE_IN_PROGRESS), A(SPAWN_WORKER), "promote asked for again"},
    {S(FAILED),      P(PROMOTE_IN_PROGRESS), E(USER_RESUME),    NULL,           S(RESUMING),    P(PROMOTE_IN_PROGRESS), A(SPAWN_WORKER), "resume asked for after a failed promote"},
    {S(FAILED),      P(PROMOTE_IN_PROGRESS), E(RETRY_DUE),      is_recoverable, S(RESUMING),    P(PROMOTE_IN_PROGRESS), A(SPAWN_WORKER), "the cause may have passed: promoting again"},
    {S(FAILED),      P(PROMOTE_IN_PROGRESS), E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted"},

    /* going on */
    {S(RESUMING),    P(FULL_DUMP),           E(WORKER_READY),   NULL,           S(RUNNING),     P(FULL_DUMP),           A(NOTHING),      "the copy goes on"},
    {S(RESUMING),    P(FULL_DUMP),           E(VERIFY_REFUSED), NULL,           S(FAILED),      P(FULL_DUMP),           A(NOTHING),      "the checks found errors"},
    {S(RESUMING),    P(FULL_DUMP),           E(FATAL),          NULL,           S(FAILED),      P(FULL_DUMP),           A(NOTHING),      "the copy could not go on"},
    {S(RESUMING),    P(FULL_DUMP),           E(WORKER_LOST),    may_retry,      S(RESUMING),    P(FULL_DUMP),           A(SPAWN_WORKER), "the worker was lost before it went on: another one"},
    {S(RESUMING),    P(FULL_DUMP),           E(WORKER_LOST),    NULL,           S(FAILED),      P(FULL_DUMP),           A(NOTHING),      "the worker was lost again and again before it went on"},
    {S(RESUMING),    P(FULL_DUMP),           E(USER_STOP),      NULL,           S(STOPPING),    P(FULL_DUMP),           A(ASK_STOP),     "stop asked for before it went on"},
    {S(RESUMING),    P(FULL_DUMP),           E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted before it went on"},
    {S(RESUMING),    P(CDC),                 E(WORKER_READY),   NULL,           S(RUNNING),     P(CDC),                 A(NOTHING),      "following goes on"},
    {S(RESUMING),    P(CDC),                 E(VERIFY_REFUSED), NULL,           S(FAILED),      P(CDC),                 A(NOTHING),      "the checks found errors"},
    {S(RESUMING),    P(CDC),                 E(FATAL),          NULL,           S(FAILED),      P(CDC),                 A(NOTHING),      "following could not go on"},
    {S(RESUMING),    P(CDC),                 E(WORKER_LOST),    may_retry,      S(RESUMING),    P(CDC),                 A(SPAWN_WORKER), "the worker was lost before it went on: another one"},
    {S(RESUMING),    P(CDC),                 E(WORKER_LOST),    NULL,           S(FAILED),      P(CDC),                 A(NOTHING),      "the worker was lost again and again before it went on"},
    {S(RESUMING),    P(CDC),                 E(USER_STOP),      NULL,           S(STOPPING),    P(CDC),                 A(ASK_STOP),     "stop asked for before it went on"},
    {S(RESUMING),    P(CDC),                 E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted before it went on"},
    {S(RESUMING),    P(PROMOTE_IN_PROGRESS), E(WORKER_READY),   NULL,           S(RUNNING),     P(PROMOTE_IN_PROGRESS), A(ASK_PROMOTE),  "the promote goes on"},
    {S(RESUMING),    P(PROMOTE_IN_PROGRESS), E(VERIFY_REFUSED), NULL,           S(FAILED),      P(PROMOTE_IN_PROGRESS), A(NOTHING),      "the checks found errors"},
    {S(RESUMING),    P(PROMOTE_IN_PROGRESS), E(FATAL),          NULL,           S(FAILED),      P(PROMOTE_IN_PROGRESS), A(NOTHING),      "the promote could not go on"},
    {S(RESUMING),    P(PROMOTE_IN_PROGRESS), E(WORKER_LOST),    may_retry,      S(RESUMING),    P(PROMOTE_IN_PROGRESS), A(SPAWN_WORKER), "the worker was lost before the promote went on: another one"},
    {S(RESUMING),    P(PROMOTE_IN_PROGRESS), E(WORKER_LOST),    NULL,           S(FAILED),      P(PROMOTE_IN_PROGRESS), A(NOTHING),      "the worker was lost again and again before the promote went on"},
    {S(RESUMING),    P(PROMOTE_IN_PROGRESS), E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted before the promote went on"},

    /* the end */
    {S(COMPLETED),   P(NONE),                E(USER_DELETE),    NULL,           S(DELETING),    P(NONE),                A(PURGE),        "deleted"},
    {S(DELETING),    P(NONE),                E(FATAL),          NULL,           S(DELETING),    P(NONE),                A(NOTHING),      "not everything could be removed: it is tried again"},
    {S(DELETING),    P(NONE),                E(RETRY_DUE),      NULL,           S(DELETING),    P(NONE),                A(PURGE),        "removing what is left"},
    {S(DELETING),    P(NONE),                E(PURGED),         NULL,           S(DELETED),     P(NONE),                A(NOTHING),      "gone"},
};
/* clang-format on */
const size_t job_transitions_count = COUNT_OF(job_transitions);

/* What a wish has led to already, so that asking again is no error. JOB_PHASE_MAX_ = whatever the phase. */
static const struct {
    JobEvent wish;
    JobState state;
    JobPhase phase;
} wishes_met[] = {
    {E(USER_START), S(STARTING), JOB_PHASE_MAX_},
    {E(USER_START), S(RUNNING), P(FULL_DUMP)},
    {E(USER_STOP), S(STOPPING), JOB_PHASE_MAX_},
    {E(USER_STOP), S(STOPPED), JOB_PHASE_MAX_},
    {E(USER_RESUME), S(RESUMING), JOB_PHASE_MAX_},
    {E(USER_RESUME), S(RUNNING), P(FULL_DUMP)},
    {E(USER_RESUME), S(RUNNING), P(CDC)},
    {E(USER_RESUME), S(RUNNING), P(READY_FOR_PROMOTE)},
    {E(USER_RESTART), S(RESTARTING), JOB_PHASE_MAX_},
    {E(USER_RESTART), S(CREATING), JOB_PHASE_MAX_},
    {E(USER_RESUME), S(STARTING), JOB_PHASE_MAX_},
    {E(USER_RESUME), S(CREATING), JOB_PHASE_MAX_},
    {E(USER_PROMOTE), S(RUNNING), P(PROMOTE_IN_PROGRESS)},
    {E(USER_PROMOTE), S(RESUMING), P(PROMOTE_IN_PROGRESS)},
    {E(USER_DELETE), S(DELETING), JOB_PHASE_MAX_},
    {E(USER_DELETE), S(DELETED), JOB_PHASE_MAX_},
};

static const bool has_worker[JOB_STATE_MAX_] = {
    [S(STARTING)] = true, [S(RUNNING)] = true, [S(STOPPING)] = true, [S(RESUMING)] = true, [S(RESTARTING)] = true,
};

static const JobTransition *find(const JobView *job, JobEvent event) {
    for (size_t i = 0; i < job_transitions_count; i++) {
        const JobTransition *row = &job_transitions[i];

        if (row->from == job->state && row->from_phase == job->phase && row->event == event &&
            (row->guard == NULL || row->guard(job)))
            return row;
    }
    return NULL;
}

bool job_event_is_allowed(const JobView *job, JobEvent event) {
    return find(job, event) != NULL;
}

/* "start, delete", or "nothing". */
static void list_allowed(const JobView *job, char *text, size_t size) {
    size_t used = 0;

    (void)snprintf(text, size, "nothing");
    for (JobEvent event = 0; event < EVENT_MAX_; event++)
        if (job_event_verb(event) != NULL && find(job, event) != NULL && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "", job_event_verb(event));
}

const JobTransition *job_transition_find(const JobView *job, JobEvent event, Error *err) {
    const JobTransition *row = find(job, event);
    char allowed[200];

    if (row != NULL)
        return row;
    list_allowed(job, allowed, sizeof(allowed));
    const char *verb = job_event_verb(event);
    bool in_phase = job->phase != JOB_PHASE_NONE;
    error_set(err, REASON_JOB_STATE, "a job that is %s%s%s cannot take %s; allowed: %s", job_state_name(job->state),
              in_phase ? " in " : "", in_phase ? job_phase_name(job->phase) : "",
              verb != NULL ? verb : job_event_name(event), allowed);
    return NULL;
}

bool job_wish_is_met(const JobView *job, JobEvent event) {
    for (size_t i = 0; i < COUNT_OF(wishes_met); i++)
        if (wishes_met[i].wish == event && wishes_met[i].state == job->state &&
            (wishes_met[i].phase == JOB_PHASE_MAX_ || wishes_met[i].phase == job->phase))
            return true;
    return false;
}

bool job_state_has_worker(JobState state) {
    return has_worker[state];
}

/* ---- Names ---- */

#define X(name) #name,
static const char *const state_names[] = {JOB_STATES(X)};
static const char *const phase_names[] = {JOB_PHASES(X)};
#undef X

typedef struct EventText {
    const char *name, *verb, *meaning;
} EventText;

static const EventText event_texts[] = {
#define X(name, verb, meaning) {#name, verb, meaning},
    JOB_EVENTS(X)
#undef X
};

static const struct {
    const char *name, *meaning;
} action_texts[] = {
#define X(name, meaning) {#name, meaning},
    JOB_ACTIONS(X)
#undef X
};

const char *job_state_name(JobState state) {
    return state_names[state];
}

const char *job_phase_name(JobPhase phase) {
    return phase_names[phase];
}

const char *job_event_name(JobEvent event) {
    return event_texts[event].name;
}

const char *job_event_verb(JobEvent event) {
    return event_texts[event].verb;
}

const char *job_event_meaning(JobEvent event) {
    return event_texts[event].meaning;
}

const char *job_action_name(JobAction action) {
    return action_texts[action].name;
}

const char *job_action_meaning(JobAction action) {
    return action_texts[action].meaning;
}

const char *job_guard_name(JobGuard guard) {
    for (size_t i = 0; i < job_guards_count; i++)
        if (job_guards[i].guard == guard)
            return job_guards[i].name;
    return "";
}

JobState job_state_from_name(const char *name) {
    for (JobState state = 0; state < JOB_STATE_MAX_; state++)
        if (strcmp(state_names[state], name) == 0)
            return state;
    return JOB_STATE_MAX_;
}

JobPhase job_phase_from_name(const char *name) {
    for (JobPhase phase = 0; phase < JOB_PHASE_MAX_; phase++)
        if (strcmp(phase_names[phase], name) == 0)
            return phase;
    return JOB_PHASE_MAX_;
}
