/*
 * Fail points: named places where a test makes the process die, err or wait.
 *
 *     PGCRANE_FAILPOINT="copy.after_chunk:kill:3,keeper.start:error"
 *
 * NAME:ACTION[:N], several with commas. ACTION is kill (SIGKILL to this process), error (the call fails with
 * FAILPOINT), sleep=MS, or retryable (as error, but retryable). With N it happens at the Nth passage only (counted per
 * process), else at each. Built only with -Dfailpoints=true; otherwise failpoint() is constant true. failpoint()
 * returns false with err filled for the error actions. Thread-safe.
 */
#pragma once

#include "common/error.h"

#ifdef PGCRANE_FAILPOINTS
NODISCARD bool failpoint(const char *name, Error *err);
#else
static inline NODISCARD bool failpoint(const char *name, Error *err) {
    (void)name;
    (void)err;
    return true;
}
#endif
