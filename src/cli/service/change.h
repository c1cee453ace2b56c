/* What changes something: asked for once, followed to its end, told. */
#pragma once

#include "cli/service/show.h"

enum { CHANGE_PARAMS_MAX = 8 };

typedef struct Change {
    ClientMethod method;
    const char *path;
    const ClientParam *params; /* a request id is added; at most CHANGE_PARAMS_MAX */
    const json_t *body;
    const char *what; /* "the start of job shop", for errors */
    const char *done; /* "Job shop is started", for people */
    ShowKind kind;    /* of what comes out of it */
} Change;

/* The operation that answers. New reference. */
NODISCARD bool change_ask(Service *service, const Change *change, json_t **ret_operation, Error *err);
/* Waits until it is over, --timeout at most; *operation is replaced by how it ended. Fails as it failed. */
NODISCARD bool change_follow(Service *service, const char *what, json_t **operation, Error *err);
/* The operation, as --async shows it. Returns true. */
bool change_tell_operation(const Service *service, const json_t *operation);
/* All of it, and shows the end; with --async the operation. */
NODISCARD bool change_make(Service *service, const Change *change, Error *err);

/* The usual ones, of a thing of one kind, which is a "job" or the like and has commands of that name. What is asked of
 * whoever deletes it is `question`. */
typedef struct ChangeKind {
    const char *noun;
    ShowKind kind, kind_deleted;
} ChangeKind;

NODISCARD bool change_create(Service *service, const ChangeKind *of, const char *collection, ClientParam id,
                             const json_t *body, Error *err);
NODISCARD bool change_update(Service *service, const ChangeKind *of, const char *name, const json_t *body, Error *err);
NODISCARD bool change_delete(Service *service, const ChangeKind *of, const char *name, const char *question,
                             Error *err);
