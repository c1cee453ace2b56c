/*
 * The embedded control plane: what the process that runs a migration offers to other terminals.
 *
 * It keeps job.json and status.json (job_files.h), and listens on control.sock in the job's folder. A client speaks as
 * wire.h says: it may send PROMOTE and STOP, and hears EVENT, PROGRESS, PROMOTED, REPORT, FAILED and DONE as the worker
 * said them, the present PROGRESS first. A request that is refused is answered by FAILED, to that client alone.
 *
 * Contract
 * - Nothing here blocks: a client that does not read is dropped when CLIENT_BACKLOG_MAX bytes wait for it, and is sent
 *   no progress before. Only control_closep() waits, for at most a second, until clients have the last word.
 * - What fails here is no reason to end a migration. The lock is kept as long as the process lives, also when the disk
 *   is full: what could not be written, or the socket that could not be made, is tried again each second.
 * - Owned by one thread: everything goes through the session's one poll loop.
 */
#pragma once

#include "session/job_files.h"
#include "wire/wire.h"

#include <poll.h>

typedef struct Control Control;

/* A client's PROMOTE or STOP. False: refused, *err goes to that client. */
typedef bool (*ControlRequest)(void *context, WireType type, const json_t *body, Error *err);

typedef struct ControlParams {
    int64_t run;    /* the service's number of this run, 0 = none: in status.json */
    const Job *job; /* copied; options hold the passwords, which are not written */
    ControlRequest request;
    void *context;
} ControlParams;

enum { CONTROL_CLIENTS_MAX = 16, CONTROL_FDS_MAX = CONTROL_CLIENTS_MAX + 1 };

/* *ret_control NULL: another process runs this migration. Fails without a folder and a lock alone. */
NODISCARD bool control_open(const ControlParams *params, Control **ret_control, Error *err);
void control_closep(Control **control); /* NULL is fine */

/* Descriptors to poll, at most CONTROL_FDS_MAX, and what poll said about the same ones. */
size_t control_poll_fds(Control *control, struct pollfd *fds);
void control_serve(Control *control, const struct pollfd *fds, size_t count);
/* Milliseconds until control_tick() wants to be called, -1 = no need. */
int control_timeout(const Control *control);
/* What has changed with the files and the socket: FAILS sets *err, WORKS comes after it. Each is said once. */
typedef enum ControlNews { CONTROL_NO_NEWS, CONTROL_FAILS, CONTROL_WORKS } ControlNews;
ControlNews control_tick(Control *control, Error *err);

/* A message of the worker: relayed, and noted for status.json. */
void control_message(Control *control, WireType type, const json_t *body, const Progress *progress);
/* For status.json alone, at once. Takes over `value`. */
void control_note(Control *control, const char *key, json_t *value);
void control_stopping(Control *control);
/* The last word: writes status.json (with `forget` removes it and job.json instead), then tells clients DONE, or FAILED
 * when error is not NULL. False when the files could not be written. */
NODISCARD bool control_end(Control *control, const Error *error, bool forget, Error *err);
