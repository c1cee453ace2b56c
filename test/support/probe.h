/*
 * What the programs that the integration tests drive (X_probe.c) have in common: they say what they did as JSON
 * objects, one a line, and some are told step by step what to do.
 *
 * Whoever takes probe_run_steps() defines `struct Probe`.
 */
#pragma once

#include "common/error.h"
#include "common/json.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct Probe Probe;

/* Takes the message. One call a line: threads may say something at once. */
static inline void say(json_t *message) {
    char *text = json_dumps(message, JSON_COMPACT);

    (void)puts(text);
    (void)fflush(stdout);
    free(text);
    json_decref(message);
}

static inline void say_error(const Error *err) {
    say(json_pack("{s:s, s:s, s:s, s:b}", "error", err->message, "reason", error_reason_name(err->reason), "remedy",
                  err->remedy, "retryable", (int)err->retryable));
}

/* Each that was done is said; the first that fails is the last. */
static inline bool probe_run_steps(Probe *probe, char *const *steps,
                                   bool (*run)(Probe *probe, const char *step, Error *err), Error *err) {
    for (char *const *step = steps; *step != NULL; step++) {
        if (!run(probe, *step, err))
            return false;
        say(json_pack("{s:s}", "done", *step));
    }
    return true;
}
