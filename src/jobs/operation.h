/*
 * Long-running operations: what a mutation is answered with, and what tells later how it went.
 *
 * Contract
 * - All of it is part of the transaction of what the operation is about: a job's new state and its operation cannot
 * differ.
 * - An operation is over once: operation_finish() and operation_fail() of one that is over, or that was deleted, change
 *   nothing and are no error.
 * - Operations that are over are removed after OPERATION_KEPT_US (operation_prune()).
 */
#pragma once

#include "jobs/record.h"

#define OPERATION_KEPT_US (INT64_C(7) * 24 * 3600 * 1000000)

typedef struct OperationOrder {
    const char *name;    /* of operation_new_name(), chosen before the transaction: a body may run again */
    const char *target;  /* full name of the resource */
    const char *verb;    /* "create", "start", ... */
    const char *version; /* "v1" */
} OperationOrder;

/* "projects/P/locations/L/operations/operation-MS-US-XXXXXXXX-XXXXXXXX" */
const char *operation_new_name(Arena *arena, const char *location);

/* Not over yet. */
NODISCARD bool operation_create(StoreTx *tx, Arena *arena, const OperationOrder *order, Error *err);
/* `type` is that of the response: "MigrationJob", ...; NULL = google.protobuf.Empty, and no resource. */
NODISCARD bool operation_finish(StoreTx *tx, Arena *arena, const char *name, const char *type, const json_t *resource,
                                Error *err);
/* status: google.rpc.Status (model/status.h). */
NODISCARD bool operation_fail(StoreTx *tx, Arena *arena, const char *name, const json_t *status, Error *err);
/* Notes that it was asked for and adds the outbox action OPERATION_CANCEL of the target, with {"operation": name}, for
 * whoever carries it out: it may still end well. Nothing for one that is over. NO_RESOURCE. */
NODISCARD bool operation_cancel(StoreTx *tx, Arena *arena, const char *name, Error *err);
#define OPERATION_CANCEL "CANCEL_OPERATION"
/* OPERATION_RUNNING while it is not over. */
NODISCARD bool operation_delete(StoreTx *tx, const char *name, Error *err);
/* Members that its response has for those alone who may ask for such an operation, such as text that may hold data of
 * users: operation_render_whole(). Before its end; `members` stays the caller's. */
NODISCARD bool operation_keep_apart(StoreTx *tx, Arena *arena, const char *name, json_t *members, Error *err);
/* Sets metadata.statusMessage of one that is under way; "" takes it away. */
NODISCARD bool operation_say(StoreTx *tx, Arena *arena, const char *name, const char *text, Error *err);
/* Sets a member of the metadata of one that is under way, of this service's own. `value` stays the caller's. */
NODISCARD bool operation_note(StoreTx *tx, Arena *arena, const char *name, const char *key, json_t *value, Error *err);
/* Was it asked to end? An operation that is not there was not. */
NODISCARD bool operation_is_cancelled(StoreTx *tx, const char *name, bool *ret_cancelled, Error *err);
/* Is it there and not over? */
NODISCARD bool operation_is_running(StoreTx *tx, const char *name, bool *ret_running, Error *err);

/* google.longrunning.Operation. New reference. */
json_t *operation_render(const Record *operation);
/* The same with what is kept apart. */
json_t *operation_render_whole(const Record *operation);
