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
} Errands;

void errand_refuse(const Error *why, ErrandEnd *end);
/* Is the database one of objectConfigs? */
bool is_named_in(const json_t *list, const char *database);

/* PROVISION, DEPROVISION, READ_LOG (servers.c) */
NODISCARD bool provision(Errands *errands, ErrandEnd *end, Error *err);
NODISCARD bool deprovision(Errands *errands, ErrandEnd *end, Error *err);
NODISCARD bool read_log(Errands *errands, ErrandEnd *end, Error *err);

/* PROMOTE_OBJECTS (promotes.c) */
NODISCARD bool promote_objects(Errands *errands, ErrandEnd *end, Error *err);
