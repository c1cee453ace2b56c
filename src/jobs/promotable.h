/*
 * May a promote of a whole job begin?
 *
 * Contract
 * - A promote of a whole job opens all of its databases, or none: an application whose databases are half on the one
 *   server and half on the other is worse off than before. So each has to follow its source, or to be promoted already,
 *   when the wish is taken (promotable_check(), in its transaction), and once more before the first session is told
 *   (supervise/decide.c): what has become of a database in between ends the promote before it began.
 * - Names what is in the way, why, and what to do; JOB_STATE.
 */
#pragma once

#include "common/vec.h"
#include "jobs/job.h"

/* One database of the job. */
typedef struct Promotable {
    const char *database, *state, *phase; /* names, as the API shows them */
    const char *error;                    /* what it has failed with; "" = nothing that is known */
    bool needs_anew;                      /* that is an error which no resume mends (anew.h) */
    bool has_followed; /* since it was begun anew last: one whose session begins again comes to that by itself */
} Promotable;

/* Begun with {.arena, .job}; the rest is promotable_add()'s. */
typedef struct PromotableList {
    Arena *arena;
    const char *job; /* full name */
    StringVec out, fit, anew;
    const char *why; /* the first that is known; NULL = none */
    bool is_over;    /* one of them comes to it by a resume, and not by itself */
} PromotableList;

void promotable_add(PromotableList *list, const Promotable *one);
/* False: something is in the way. */
bool promotable_end(const PromotableList *list, Error *err);

/* Of a job that is at work, by what the store has of its databases. For bodies of store_write(). */
NODISCARD bool promotable_check(StoreTx *tx, Arena *arena, const Record *job, Error *err);
