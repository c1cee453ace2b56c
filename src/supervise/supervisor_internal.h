/* What the files of the supervisor share. All of it belongs to its one thread. */
#pragma once

#include "jobs/job.h"
#include "supervise/launch.h"
#include "supervise/seat.h"
#include "supervise/supervisor.h"

enum { HELD_NAME_MAX = STORE_NAME_MAX };

/* A job whose lease this node has. */
typedef struct Held {
    char name[HELD_NAME_MAX + 1];
    int64_t epoch;
    int64_t next_progress_us; /* clock_now_us(): when it is written again */
    json_t *progress;         /* as written last; NULL = not yet */
    json_t *asked;            /* {folder of a session, or what it does: clock_now_us() when that was seen first} */
    int64_t copying;          /* databases that copy, or begin to: they share the node with those of other jobs */
    int64_t instance_us;      /* clock_now_us(): when the instance's session is begun again; 0 = no pause */
    int64_t guard_us;         /* ... and the one that hands the destination back */
    bool at_rest;             /* nothing is to be done: the lease can go */
} Held;

struct Supervisor {
    SupervisorConfig config;
    Arena *arena;
    Stop stop;
    const char *home; /* this state folder, over restarts: seats are on it */
    const char *node; /* this start of a daemon: leases are its */
    Children *children;
    Held **held;
    size_t held_count, held_room;
    int64_t next_beat_us, next_scan_us, next_instances_us, next_guards_us;
    bool store_away; /* said once */
};

/* ---- Leases (lease.c) ---- */

Held *held_find(const Supervisor *this, const char *job);
/* The lease of the job, in a body of store_write(): acquires it when it is free. *ret_epoch 0: another node has it. */
NODISCARD bool lease_take(const Supervisor *this, StoreTx *tx, const char *job, int64_t *ret_epoch, Error *err);
/* In the same transaction, for what is over with it. */
NODISCARD bool lease_give_back(const Supervisor *this, StoreTx *tx, const char *job, int64_t epoch, Error *err);
/* Behind the commit of lease_take(). */
Held *held_add(Supervisor *this, const char *job, int64_t epoch);
void held_drop(Supervisor *this, Held *held);
/* LEASE_LOST */
NODISCARD bool lease_check(const Supervisor *this, StoreTx *tx, const Held *held, Error *err);
/* Beat, and renewal of what is held; drops what is lost. */
NODISCARD bool leases_renew(Supervisor *this, Error *err);
NODISCARD bool leases_release(Supervisor *this, bool all, Error *err);

/* ---- Work ---- */

/* Entries of the outbox (actions.c). *ret_some: there were any. */
NODISCARD bool actions_take(Supervisor *this, bool *ret_some, Error *err);
/* Jobs that somebody should have, and nobody has (scan.c). */
NODISCARD bool jobs_scan(Supervisor *this, Error *err);
/* One look at a job that is held, and what follows from it (look.c). */
NODISCARD bool job_look(Supervisor *this, Held *held, Error *err);

/* One look at an errand, an entry of the outbox (errands.c). *ret_over false: it is to be looked at again soon. */
typedef struct ErrandEnd {
    bool over;
    bool soon;       /* not over, and quick: looked at again at once */
    const char *say; /* statusMessage of its operation from now on, "" = none; NULL = as it is */
    bool refused;
    json_t *status;   /* why it was refused; the caller's */
    const char *type; /* of the response; NULL = none */
    json_t *answer;   /* the response; the caller's; NULL = the resource as it is stored */
    json_t *apart; /* members of the response for those alone who may ask for the errand; the caller's; NULL = none */
    json_t *metadata;  /* members that the operation's metadata gets; the caller's; NULL = none */
    const char *owner; /* for `extra` */
    StoreBody extra;   /* what else is part of the end, with the ErrandEnd's `context`; NULL = nothing */
    void *context;
} ErrandEnd;
NODISCARD bool errand_look(Supervisor *this, Arena *arena, const StoreAction *action, ErrandEnd *ret_end, Error *err);
/* Behind its end: removes what its sessions left in the state folder. */
void errand_tidy(const Supervisor *this, const StoreAction *action);

/* SPAWN_FAILED: databases of a job at work that have failed, or wait to be begun again, are due at once (errands.c). */
NODISCARD bool objects_begin_failed(StoreTx *tx, const char *name, bool *ret_later, Error *err);

/* A process that is of no database of a job, and is known as a session is: by its folder and its number. */
typedef struct Process {
    const char *name; /* for people */
    json_t *run;      /* the keys of a seat (seat.h); borrowed */
    const char *folder;
    int64_t launch; /* as of a SeatInput; 0 = it is begun for none */
} Process;
NODISCARD bool process_look(const Supervisor *this, Arena *arena, const Process *process, SeatPicture *ret_picture,
                            Error *err);

/* STATE_DIR/sessions/UID/NUMBER-OF-THE-DATABASE */
const char *seat_folder(const Supervisor *this, Arena *arena, const Record *job, const Record *object);
/* All objects of a job, in the arena; records_fini() for them. */
NODISCARD bool objects_load(StoreTx *tx, Arena *arena, const char *job, Record **ret_objects, size_t *ret_count,
                            Error *err);
void records_fini(Record *records, size_t count);
/* What a session is told at its beginning (start.c): {"name", "run", "action", "options", "source", "dest", "more"?}.
 * New reference, with secrets. */
typedef struct StartOrder {
    const Record *job;
    const Record *object; /* NULL: of the instance as a whole */
    int64_t run;
    SeatOrder order;
    int64_t lanes;
    bool dry_run;        /* only look */
    bool is_check;       /* of a dry run: errors that are found of the instance are told, and do not end it */
    const json_t *apart; /* of a check of the instance: databases of the job that need no room any more; NULL = none */
    const json_t *mends; /* of a dry run: findings to mend (worker/dry_run.c); NULL = none */
    bool seize;          /* another session of this seat, should one live, is not to go on */
    SeatForce force;     /* of a removal */
    const char *action;  /* NULL = what the order says: "demote", "release" */
    const json_t *names; /* of the instance: exactly these; NULL = as the job has it */
    const json_t *over;  /* of the instance: databases that are the application's already; NULL = none */
    const json_t *known; /* of the instance: what else there is is guarded, too; NULL = it is not */
    const json_t *databases; /* of "release", or to be guarded when the instance is made ready; NULL = all of the job */
    bool allow_non_empty;    /* of "demote" */
} StartOrder;
NODISCARD bool start_message(const Supervisor *this, StoreTx *tx, Arena *arena, const StartOrder *order,
                             json_t **ret_start, Error *err);
