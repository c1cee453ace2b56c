/*
 * What is to be done about a job, given how it stands and what each of its databases' sessions last said.
 *
 * A seat is the place of one database of a job, where a session (session/control.h, the process that runs a migration)
 * is, was, or shall be. Looking is level-triggered: the same picture gives the same decision, however often it is asked
 * for, so a daemon that begins anew, or another node, needs no memory of what was decided before.
 *
 * Contract
 * - Pure: no store, no files, no clock, no memory. Safe in any thread.
 * - At most one fact comes of a look; it is told (jobs/fact.h), the job loaded again and looked at again.
 * - Orders are idempotent: each may be carried out again until the seat shows that it was heard.
 */
#pragma once

#include "common/vec.h"
#include "model/job_state.h"

/* X(name, meaning) */
#define SEAT_STATES(X)                                                                                                 \
    X(IDLE, "nothing was begun, or not on this node")                                                                  \
    X(BEGINNING, "a process was started and has said nothing yet")                                                     \
    X(CHECKING, "the checks before the copy")                                                                          \
    X(COPYING, "the copy is under way")                                                                                \
    X(FOLLOWING, "changes are applied, more than the threshold behind")                                                \
    X(READY, "changes are applied, less than the threshold behind")                                                    \
    X(PROMOTING, "the promote that is wished is under way, or waits for its turn")                                     \
    X(UNDONE, "the promote that is wished was taken back: changes are applied again")                                  \
    X(DONE, "ended: everything is done")                                                                               \
    X(STOPPED, "ended, as it was asked to")                                                                            \
    X(FAILED, "ended with an error")                                                                                   \
    X(LOST, "ended without a word, or on a node that has not the job any more")                                        \
    X(REMOVED, "what it made is removed, or it never made anything")

typedef enum SeatState {
#define X(name, meaning) SEAT_##name,
    SEAT_STATES(X)
#undef X
        SEAT_STATE_MAX_,
} SeatState;

const char *seat_state_name(SeatState state);
/* Is there a process? */
bool seat_is_alive(SeatState state);

/* X(name, meaning) */
#define SEAT_ORDERS(X)                                                                                                 \
    X(NOTHING, "leave it alone")                                                                                       \
    X(START, "start a session that goes on from what is committed")                                                    \
    X(START_ANEW, "start a session that empties the destination first")                                                \
    X(STOP, "ask the session to stop")                                                                                 \
    X(PROMOTE, "ask the session to promote")                                                                           \
    X(CANCEL, "ask the session to take the promote back")                                                              \
    X(REMOVE, "start a session that removes what was made")

typedef enum SeatOrder {
#define X(name, meaning) ORDER_##name,
    SEAT_ORDERS(X)
#undef X
        ORDER_MAX_,
} SeatOrder;

const char *seat_order_name(SeatOrder order);

typedef enum SeatDue { DUE_NOTHING, DUE_START, DUE_REMOVE } SeatDue;

typedef struct Seat {
    SeatState state;
    SeatDue due;        /* asked for by an action of the job and not begun yet */
    bool anew;          /* the destination is to be emptied, and no session has come to that yet */
    bool removing;      /* its last session removes what others made */
    bool told;          /* of FAILED: it had, beside others that worked, before the job was asked to stop */
    bool refused;       /* of FAILED: the checks found errors, nothing was changed */
    bool stopping;      /* it has heard that it shall stop */
    bool wishes;        /* its promote is asked for: of this database alone, or of the whole job */
    bool wish_heard;    /* it has heard of that */
    bool wish_is_own;   /* it is of this database alone */
    bool cancelling;    /* ... and that is to be taken back */
    bool may_start;     /* now: it has a place among those that copy, and no pause to wait for */
    bool may_try_again; /* of one that is over: beside others that work it is begun again by itself, when may_start */
} Seat;

typedef struct Decision {
    bool has_fact;
    JobEvent fact;
    size_t about; /* the seat whose error the fact is about; count = of none */
} Decision;

/* orders: room for `count`. With a fact they are all ORDER_NOTHING but for STOP. */
Decision decide(const JobView *job, const Seat *seats, size_t count, SeatOrder *ret_orders);
/* Of a database that is no part of the job any more: what was made of it is removed, and no fact comes of it. */
SeatOrder decide_apart(const Seat *seat);
