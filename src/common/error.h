/*
 * The one error model: a function that can fail returns false and fills an Error.
 *
 * Contract
 * - `bool f(..., Error *err)`: true = success; false = *err is filled and no output was touched.
 * - Lower layers never log; the top (worker, CLI) logs or prints an Error once.
 * - error_set() and error_wrap() return false, so that a failure is one line:
 *       return error_set(err, REASON_TABLE_CHANGED, "table %s was dropped", name);
 * - An Error is a plain value (no ownership): it may be copied and needs no release.
 * - The message says object and cause; the remedy says what to do, with the exact command where there is one. A reason
 *   has a default remedy (errors.def), error_remedy() replaces it.
 * - `err` is never NULL.
 */
#pragma once

#include "common/compiler.h"

/* google.rpc.Code, same numbers: the API answers with them. */
typedef enum ErrorCode {
    ERR_OK = 0,
    ERR_CANCELLED = 1,
    ERR_UNKNOWN = 2,
    ERR_INVALID_ARGUMENT = 3,
    ERR_DEADLINE_EXCEEDED = 4,
    ERR_NOT_FOUND = 5,
    ERR_ALREADY_EXISTS = 6,
    ERR_PERMISSION_DENIED = 7,
    ERR_RESOURCE_EXHAUSTED = 8,
    ERR_FAILED_PRECONDITION = 9,
    ERR_ABORTED = 10,
    ERR_OUT_OF_RANGE = 11,
    ERR_UNIMPLEMENTED = 12,
    ERR_INTERNAL = 13,
    ERR_UNAVAILABLE = 14,
    ERR_DATA_LOSS = 15,
    ERR_UNAUTHENTICATED = 16,
} ErrorCode;

/* Stable reason codes: errors.def lists each with its code, exit code, whether it may be retried, and a remedy. */
typedef enum ErrorReason {
#define X(name, code, exit_code, retryable, remedy) REASON_##name,
#include "common/errors.def"
#undef X
    REASON_MAX_,
} ErrorReason;

enum { ERROR_MESSAGE_MAX = 1000, ERROR_REMEDY_MAX = 600 };

typedef struct Error {
    ErrorReason reason;
    bool retryable;   /* may the same call succeed later without a person? Starts as the reason's default. */
    char sqlstate[6]; /* "" when no server said one */
    const char *file; /* where it was set, for the debug log */
    int line;
    char message[ERROR_MESSAGE_MAX];
    char remedy[ERROR_REMEDY_MAX]; /* "" = nothing better than the message */
} Error;

#define error_set(err, reason_, ...) error_set_at(__FILE__, __LINE__, (err), (reason_), __VA_ARGS__)
#define error_errno(err, reason_, ...) error_errno_at(__FILE__, __LINE__, (err), (reason_), __VA_ARGS__)

bool error_set_at(const char *file, int line, Error *err, ErrorReason reason, const char *format, ...) PRINTF(5, 6);
/* As error_set, with ": " and strerror(errno) behind the message. */
bool error_errno_at(const char *file, int line, Error *err, ErrorReason reason, const char *format, ...) PRINTF(5, 6);
/* Puts "CONTEXT: " before the message that is there. */
bool error_wrap(Error *err, const char *format, ...) PRINTF(2, 3);
/* Replaces the remedy. */
bool error_remedy(Error *err, const char *format, ...) PRINTF(2, 3);

const char *error_reason_name(ErrorReason reason);
/* REASON_MAX_ when there is none of that name. */
ErrorReason error_reason_from_name(const char *name);
ErrorCode error_reason_code(ErrorReason reason);
int error_reason_exit_code(ErrorReason reason);
const char *error_code_name(ErrorCode code);
