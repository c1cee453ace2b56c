/* What the files of a session share: one run of a worker, as the command line sees it (session.c). */
#pragma once

#include "cli/promoted.h"
#include "cli/screen.h"
#include "cli/session.h"
#include "session/control.h"
#include "wire/wire.h"

#include <sys/types.h>

typedef enum Outcome { OUTCOME_NONE, OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_LOST } Outcome;

typedef struct Session {
    const SessionInput *input;
    const MigrateOptions *options;
    Arena *arena;
    Control *control; /* NULL until the job is known, and when there is none */
    const char *job_id;
    Screen screen;
    Wire *wire;
    pid_t worker;
    int signal_fd;
    int stops; /* how often we were asked to stop */
    Outcome outcome;
    Error failure; /* of OUTCOME_FAILED and OUTCOME_LOST */
    int64_t left;  /* of an abort: what may be its doing, and was left on the source */
    size_t finding_errors;
    bool failure_printed; /* as a line of --json, because the worker itself told it */
    bool output_lost;     /* standard output failed: said once */
    bool promoting;       /* a PROMOTE is under way: */
    int64_t promote_no;   /* the last one's number, of those that this session has sent */
    bool kept_back;       /* the message at hand is not for clients */
    bool cancel_sent;     /* it is to be taken back */
    bool promote_sent;    /* that of the input */
    json_t *waiting;      /* options of a PROMOTE that was asked for before following; NULL = none */
    const char *wish;     /* the service's name for the promote that was asked for last; NULL = none */
    bool has_promoted;
    Promoted promoted; /* the last one's end */
    bool unproven;     /* says the report */
} Session;

/* ---- Promotes (session_promote.c) ---- */

bool session_is_abort(const Session *session);
/* A PROMOTE of whoever asks: its own run's options stand for what the body does not say. */
NODISCARD bool session_request_promote(Session *session, const json_t *body, Error *err);
/* {"wish", "result": as PROMOTED, when it is over} in status.json: the service finds out from the file which promote it
 * asked for has come to which end, also when it was not there to hear it. */
void session_note_wish(const Session *session, const json_t *result);
/* When it follows: what was asked for before that, and what the run is for. */
NODISCARD bool session_promote_that_waited(Session *session, Error *err);
NODISCARD bool session_promote_when_following(Session *session, Error *err);
