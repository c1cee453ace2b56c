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

enum { ERRAND_NUMBER = 1 }; /* of each of its sessions: there is no second one */

void errand_refuse(const Error *why, ErrandEnd *end);
/* A session of the errand: each has a name of the errand's own, that of its database as a rule; "" = of the instance.
 */
NODISCARD bool errand_look_at(const Errands *errands, const char *database, SeatPicture *ret_picture, Error *err);
/* The same for another process, by its folder. */
NODISCARD bool errand_look_in(const Errands *errands, const char *folder, const char *name, SeatPicture *ret_picture,
                              Error *err);
/* Starts it, with errands->start, which is used up. */
NODISCARD bool errand_launch(Errands *errands, const char *database, Error *err);
NODISCARD bool errand_start(Errands *errands, const Record *object, const char *database, Error *err);
bool errand_is_begun(const SeatPicture *picture);
bool errand_is_over(const SeatPicture *picture);
/* Of the session of the instance, which is over: its findings that are errors, or what it failed with, or a good end.
 */
NODISCARD bool errand_conclude(const Errands *errands, const SeatPicture *picture, ErrandEnd *end, Error *err);

/* Is the database one of objectConfigs? */
bool is_named_in(const json_t *list, const char *database);

/* PROVISION, DEPROVISION, READ_LOG (servers.c) */
NODISCARD bool provision(Errands *errands, ErrandEnd *end, Error *err);
NODISCARD bool deprovision(Errands *errands, ErrandEnd *end, Error *err);
NODISCARD bool read_log(Errands *errands, ErrandEnd *end, Error *err);

/* PROMOTE_OBJECTS (promotes.c) */
NODISCARD bool promote_objects(Errands *errands, ErrandEnd *end, Error *err);
/* DEMOTE and RELEASE (demote.c) */
NODISCARD bool demote_destination(Errands *errands, ErrandEnd *end, Error *err);
NODISCARD bool release_destination(Errands *errands, ErrandEnd *end, Error *err);
/* VERIFY (verify.c) */
NODISCARD bool verify_job(Errands *errands, ErrandEnd *end, Error *err);
/* Statements that it was asked to carry out; NULL = none. */
const json_t *verify_fixes(const Errands *errands);
