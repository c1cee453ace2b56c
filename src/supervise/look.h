/* What the files that look at a job share. */
#pragma once

#include "supervise/supervisor_internal.h"

typedef struct Look {
    Supervisor *this;
    Held *held;
    Arena *arena;
    Record job;
    Record *objects;
    size_t count;
    bool has_instance; /* the destination is a server that the service made (destination.h): */
    Record instance;
    bool holds; /* it is not ready: nothing is begun */
    bool *out;  /* of each object, as it was loaded: is_deselected() */
    JobView view;
    SeatPicture *pictures;
    SeatOrder *orders;
    Decision decision;
    Error why; /* of a fact without a seat */
    bool has_why;
    json_t *details;     /* more of why: findings; NULL = none */
    bool instance_lives; /* a session of the instance does */
    const char *waits;   /* for what of the instance as a whole, for people; NULL = for nothing */
} Look;

/* Is the object's database part of the job? */
bool is_selected(const Look *look, size_t at);
/* Of the store, or of somebody else who has the job: not the job's own trouble. */
bool is_of_the_store(const Error *err);
/* The decision and the orders, from the pictures as they are. */
void look_decide(Look *look);
/* The look's decision is this fact. */
void look_decides(Look *look, JobEvent fact, const Error *why);
/* Known, and no part of the job (any more): what was made for it is removed, as if it were a job to be deleted. One
 * that is chosen again meanwhile is removed first: half of it would be none to go on from. */
bool is_deselected(const Look *look, size_t at);
/* Is the job deleted by force? */
bool look_is_forced(const Look *look);
int64_t lanes_of_machine(void);
int64_t places_of_job(const Look *look);
/* Name of the promote that is wished of the database: its own, or the job's; NULL = none. */
const char *wish_at(const Look *look, size_t at);

/* The fact that was decided, with the news of objects, in one transaction (tell.c). */
NODISCARD bool look_tell(Look *look, Error *err);
/* Progress, now and then. */
NODISCARD bool look_tell_progress(Look *look, Error *err);

/* The order of a seat (carry_out.c). */
NODISCARD bool look_carry_out(Look *look, size_t at, Error *err);
/* Asks a session to stop; ends the process of one that does not come to it. */
NODISCARD bool look_stop(Look *look, const char *folder, const SeatPicture *picture, Error *err);

/* ... and of one that has heard, and does not come to its end either. */
void look_mind_stopping(const Look *look, const char *folder, const SeatPicture *picture);

/* Roles and empty databases on the destination, and the list of databases, before the first session of each
 * (instance.c). Behind the look's own decision, which it may take the place of. */
NODISCARD bool instance_look(Look *look, Error *err);
/* The promote of the whole job waits for it: no session hears of the promote yet. */
bool instance_keeps_promote(const Look *look);
/* The job is in a promote of all its databases, whatever its state, and sessions may have heard of that. */
bool instance_let_promote_through(const Look *look);
/* Is a session of the instance at work on this node, which is to have it? Asks its folder. */
bool instance_session_lives(const Supervisor *this, Arena *arena, const Record *job);
bool is_prepared_database(const Record *object);
/* It is to be made once more. Changes the loaded record only. */
void instance_session_forget(Record *object);
/* The session that makes the databases ready is due once more. */
void instance_session_again(Record *job);
