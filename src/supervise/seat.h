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
    X(HOME, "home")             /* the node that has it */                                                             \
    X(LAUNCH, "launch")         /* of the job, that it was begun for last */                                           \
    X(SETTLED, "settled")       /* of the job, up to which the destination needs no emptying */                        \
    X(MOVED, "moved")           /* sessions of more than one node had it */                                            \
    X(REMOVING, "removing")     /* its last session removes */                                                         \
    X(REMOVED, "removed")       /* nothing of it is left */                                                            \
    X(LOSSES, "losses")         /* sessions lost since anything went forward */                                        \
    X(RETRY_AT_US, "retryAtUs") /* wall clock: not begun again by itself before */

#define X(name, key) extern const char seat_run_##name[];
SEAT_RUN_KEYS(X)
#undef X

enum { SEAT_LOSSES_MAX = 5 };

typedef struct SeatInput {
    const Record *object;
    const char *node;     /* this one */
    const char *folder;   /* of the seat on this node */
    const char *wish;     /* of the promote that the job wishes; NULL = it wishes none */
    bool is_deleting;     /* the job is */
    int64_t launch, anew; /* of the job's run */
    bool has_child;       /* a process that this daemon started for this number still lives */
    bool child_ended;     /* ... has ended */
    int64_t now_wall_us;
} SeatInput;

typedef struct SeatPicture {
    Seat seat; /* may_start but for places, which the caller gives out */
    const char *database;
    int64_t run;
    bool has_status; /* of this number */
    JobStatus status;
    json_t *said; /* all of status.json; the picture's: seat_picture_fini() */
    bool has_error;
    Error error; /* of FAILED, LOST, STOPPED and UNDONE */
} SeatPicture;

NODISCARD bool seat_look(Arena *arena, const SeatInput *input, SeatPicture *ret_picture, Error *err);
void seat_picture_fini(SeatPicture *picture);

/* Of one that is over: is nothing of its session left that may still have the migration's lock? */
bool seat_said_its_end(const SeatPicture *picture);

const char *seat_database(const Record *object);
/* State, phase and error as the API shows them. */
ObjectNews seat_news(const SeatPicture *picture, const JobView *job);
