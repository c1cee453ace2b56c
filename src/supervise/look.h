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
    JobView view;
    SeatPicture *pictures;
    SeatOrder *orders;
    Decision decision;
    Error why; /* of a fact without a seat */
    bool has_why;
} Look;

/* Databases that the job names; NULL = all of the source. Borrowed. */
const json_t *databases_named(const Record *job);
const char *database_at(const json_t *list, size_t at);
/* Is the object's database part of the job? */
bool is_selected(const Look *look, size_t at);
/* Of the store, or of somebody else who has the job: not the job's own trouble. */
bool is_of_the_store(const Error *err);
/* The decision and the orders, from the pictures as they are. */
void look_decide(Look *look);
/* The look's decision is this fact. */
void look_tells(Look *look, JobEvent fact, const Error *why);

/* Roles and empty databases on the destination, and the list of databases, before the first session of each
 * (instance.c). Behind the look's own decision, which it may take the place of. */
NODISCARD bool instance_look(Look *look, Error *err);
bool is_prepared_database(const Record *object);
