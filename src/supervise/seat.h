/*
 * The place of one database of a job: what is stored of it (in `run` of the job's object), and what its session last
 * said (status.json in its folder, session/job_files.h).
 *
 * Contract
 * - Results live in the arena. Reads files of the folder; changes none.
 * - A session is known by its number: `run` of the object, written to the store before the process is started, and
 *   written by that process into everything it says. What a file says of another number is of a time that is over.
 */
#pragma once

#include "jobs/job.h"
#include "model/progress.h"
#include "session/job_files.h"
#include "supervise/decide.h"

/* What stands in `run` of an object: X(NAME, key) */
#define SEAT_RUN_KEYS(X)                                                                                               \
    X(RUN, "run")               /* number of its last session; 0 = none yet */                                         \
    X(LAST, "last")             /* of its last session before it was taken out of the job */                           \
    X(HOME, "home")             /* the node that has it */                                                             \
    X(LAUNCH, "launch")         /* of the job, that it was begun for last */                                           \
    X(SETTLED, "settled")       /* of the job, up to which the destination needs no emptying */                        \
    X(MOVED, "moved")           /* sessions of more than one node had it */                                            \
    X(REMOVING, "removing")     /* its last session removes */                                                         \
    X(ORPHANS, "orphans")       /* ids of migrations into servers that were lost: still on the source */               \
    X(REMOVED, "removed")       /* nothing of it is left */                                                            \
    X(LOSSES, "losses")         /* sessions lost since anything went forward */                                        \
    X(RETRY_AT_US, "retryAtUs") /* wall clock: begun again by itself then; 0 = not known yet */                        \
    X(MIGRATION, "migration")   /* its id, which names what is made on the source */                                   \
    X(WORKED, "worked")         /* a session of it came past the checks */                                             \
    X(FOREIGN, "foreign")       /* somebody else's migration has kept one from that */                                 \
    X(FORCED, "forced")         /* removals begun since the job was deleted by force */                                \
    X(LEFT, "left")             /* what those could not remove, for people */                                          \
    X(PROMOTE, "promote")       /* of this database alone: promotes.h */                                               \
    X(RESTARTED, "restarted")   /* operation that it was begun anew for last */                                        \
    X(ENDED, "ended")           /* "promoted" or "copied": stays when files do not */                                  \
    X(HEARD, "heard")           /* {"run", "no"}: the last of its session's events that is in the job's log */         \
    X(REPORTED, "reported")     /* how much of its session is in the report: report.c */                               \
    X(TOLD, "told")             /* of a removal that failed: the error that is in the job's log */                     \
    X(BESIDE, "failedBeside")   /* its last session has failed while the job was RUNNING */                            \
    X(BY, "promotedBy")         /* promote of the whole job that has promoted it */

#define X(name, key) extern const char seat_run_##name[];
SEAT_RUN_KEYS(X)
#undef X

enum { SEAT_LOSSES_MAX = 5 };

/* A removal by force: both sides as ever, then each for itself. */
typedef enum SeatForce { FORCE_BOTH, FORCE_DEST_ONLY, FORCE_SOURCE_ONLY, FORCE_MAX_ } SeatForce;

typedef struct SeatInput {
    const Record *object;
    const char *node;     /* this one */
    const char *job;      /* full name; NULL = its sessions are of no database */
    const char *folder;   /* of the seat on this node */
    const char *wish;     /* name of the promote that is wished; NULL = none is */
    bool wish_is_own;     /* it is of this database alone */
    bool cancelling;      /* it is to be taken back */
    bool is_deleting;     /* the job is, or the database is no part of it any more */
    bool is_apart;        /* the latter: its removal is tried again without the job */
    bool is_forced;       /* the job is deleted by force: a side that is gone for good does not keep it */
    bool is_continuous;   /* the job is: what has come to its end is promoted */
    int64_t launch, anew; /* of the job's run */
    bool has_child;       /* a process that this daemon started for this number still lives */
    bool child_ended;     /* ... has ended */
    int64_t now_wall_us;
} SeatInput;

typedef struct SeatPicture {
    Seat seat; /* may_start but for places, which the caller gives out */
    const char *database;
    int64_t run;
    bool has_status;  /* of this number */
    bool past_checks; /* its session came to the work */
    bool is_loaded;   /* its copy is whole, and it waits for the destination to leave load mode */
    JobStatus status;
    json_t *said; /* all of status.json; the picture's: seat_picture_fini() */
    bool has_error;
    Error error;       /* of FAILED, LOST, STOPPED and UNDONE */
    bool given_up;     /* of REMOVED: not everything is */
    bool has_followed; /* since it was begun anew last */
    bool needs_anew;   /* its error is one that no resume mends (jobs/anew.h) */
    const char *ended; /* as seat_run_ENDED has it, or will; "" = it has not come to its end */
} SeatPicture;

NODISCARD bool seat_look(Arena *arena, const SeatInput *input, SeatPicture *ret_picture, Error *err);
void seat_picture_fini(SeatPicture *picture);

bool seat_is_promoted(const SeatPicture *picture);
/* It has come to its end, and is not asked to begin anew: what the destination has of it is the application's. */
bool seat_is_over(const SeatPicture *picture);

/* Its session has ended with an error, or too many were lost one behind another, and no wish has begun it again. */
bool seat_has_failed(const SeatPicture *picture);
/* "database b has FAILED: ...", and whether it is begun again by itself. */
const char *seat_failure_text(Arena *arena, const SeatPicture *picture);

/* Its session was to remove what was made for it, and could not: another one is begun by itself. */
bool seat_removal_has_failed(const SeatPicture *picture);

/* Of one that is over: is nothing of its session left that may still have the migration's lock? */
bool seat_said_its_end(const SeatPicture *picture);

/* May the migration whose id is known (`run` of the object) have made what the source has of that name? */
bool seat_may_have_made(const json_t *run);

const char *seat_database(const Record *object);
/* State, phase and error as the API shows them. */
ObjectNews seat_news(const SeatPicture *picture, const JobView *job);
