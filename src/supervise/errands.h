/* What the files that look at errands share. */
#pragma once

#include "supervise/look.h"

typedef struct Errands {
    Supervisor *this;
    Arena *arena;
    const StoreAction *action;
    const json_t *args;
    const char *operation; /* its name */
    bool is_cancelled;     /* it was asked to end */
    const char *folder;
    bool needs_job;
    Record job; /* as it is, or as it is meant to be */
    json_t *start;
    const Record *object; /* whose session is begun; NULL = of the instance */
    const json_t *apart;  /* names of databases that are looked at no more; NULL = none */
    bool is_check;        /* sessions tell all that they find, errors too, and go on */
    const json_t *mends;  /* for that session to carry out; NULL = none */
} Errands;

/* Sessions of an errand: each has a name of the errand's own, that of its database as a rule. */
NODISCARD bool errand_session_look(const Errands *errands, const char *name, SeatPicture *ret_picture, Error *err);
NODISCARD bool errand_session_start(Errands *errands, const Record *object, const char *name, Error *err);
bool errand_session_is_begun(const SeatPicture *picture);
bool errand_session_is_over(const SeatPicture *picture);

void errand_refuse(const Error *why, ErrandEnd *end);
/* Is the database one of objectConfigs? */
bool is_named_in(const json_t *list, const char *database);

/* PROMOTE_OBJECTS (promotes.c) */
NODISCARD bool promote_objects(Errands *errands, ErrandEnd *end, Error *err);
/* VERIFY (verify.c) */
NODISCARD bool verify_job(Errands *errands, ErrandEnd *end, Error *err);
/* Statements that it was asked to carry out; NULL = none. */
const json_t *verify_fixes(const Errands *errands);
