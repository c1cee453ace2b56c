/*
 * One run of a worker, as the command line sees it: started, listened to, stopped, reaped.
 *
 * Not thread-safe; one per process, because it takes over the signals (SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT).
 */
#pragma once

#include "common/json.h"
#include "model/options.h"

/* What a run needs beside its worker, such as tunnels. */
typedef struct SessionCompanion {
    void *context;
    /* Before the worker is started; may still set the input's options. */
    bool (*prepare)(void *context, Error *err);
    /* At least each second: a line for people, NULL = nothing more. In the arena. */
    const char *(*news)(void *context, Arena *arena, bool *ret_bad);
    /* Why the run failed: may know it better. */
    void (*explain)(void *context, Error *failure);
} SessionCompanion;

typedef struct SessionInput {
    const MigrateOptions *options; /* state_dir is absolute */
    const char *action;            /* of START; NULL = "migrate" */
    const char *job_id;            /* which it has to be; NULL = any */
    const char *resume_command;    /* what to type to go on, without secrets; NULL = nothing to say */
    const json_t *promote;         /* the body of a PROMOTE to send as soon as it follows; the run ends with that */
    const char *login_remedy;      /* what to do when a server refuses the login; NULL = the usual */
    /* Of the service: */
    const char *folder; /* where the control plane is from the beginning on; NULL = in state_dir, by the job's id */
    const char *name;   /* of what is done there, for job.json */
    int64_t run;        /* the service's number of this run */
    const json_t *more; /* further fields of START */
    const SessionCompanion *companion; /* NULL = none */
} SessionInput;

/* Returns the exit code. Everything there is to say has been said. */
int session_run(const SessionInput *input);
