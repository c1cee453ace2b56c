/* The one error model: a function that can fail returns false and fills an Error. */
#include "common/error.h"

#include "common/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct ReasonInfo {
    const char *name;
    ErrorCode code;
    int exit_code;
    bool retryable;
    const char *remedy;
} ReasonInfo;

static const ReasonInfo reasons[REASON_MAX_] = {
#define X(name, code, exit_code, retryable, remedy) {#name, code, exit_code, retryable, remedy},
#include "common/errors.def"
#undef X
};

static const char *const code_names[] = {
    [ERR_OK] = "OK",
    [ERR_CANCELLED] = "CANCELLED",
    [ERR_UNKNOWN] = "UNKNOWN",
    [ERR_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
    [ERR_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
    [ERR_NOT_FOUND] = "NOT_FOUND",
    [ERR_ALREADY_EXISTS] = "ALREADY_EXISTS",
    [ERR_PERMISSION_DENIED] = "PERMISSION_DENIED",
    [ERR_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
    [ERR_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
    [ERR_ABORTED] = "ABORTED",
    [ERR_OUT_OF_RANGE] = "OUT_OF_RANGE",
    [ERR_UNIMPLEMENTED] = "UNIMPLEMENTED",
    [ERR_INTERNAL] = "INTERNAL",
    [ERR_UNAVAILABLE] = "UNAVAILABLE",
    [ERR_DATA_LOSS] = "DATA_LOSS",
    [ERR_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

/* Copies what fits of `text`, never half a character: messages go into JSON. */
static void store_text(char *into, size_t size, const char *text) {
    size_t len = utf8_cut(text, strlen(text), size - 1);
    memcpy(into, text, len);
    into[len] = '\0';
}

/* Room for what is formatted before it is cut: the cut, not vsnprintf, has to see where the last character ends. */
enum { SCRATCH = ERROR_MESSAGE_MAX * 2 };

/* `scratch` first: the arguments may point into the Error that is being replaced. */
static void begin_error(const char *file, int line, Error *err, ErrorReason reason, const char *scratch) {
    err->reason = reason;
    err->retryable = reasons[reason].retryable;
    err->sqlstate[0] = '\0';
    err->file = file;
    err->line = line;
    store_text(err->message, sizeof(err->message), scratch);
    store_text(err->remedy, sizeof(err->remedy), reasons[reason].remedy);
}

bool error_set_at(const char *file, int line, Error *err, ErrorReason reason, const char *format, ...) {
    char scratch[SCRATCH];
    va_list args;
    va_start(args, format);
    vsnprintf(scratch, sizeof(scratch), format, args);
    va_end(args);
    begin_error(file, line, err, reason, scratch);
    return false;
}

bool error_errno_at(const char *file, int line, Error *err, ErrorReason reason, const char *format, ...) {
    int saved = errno; /* before anything below changes it */
    char scratch[SCRATCH];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(scratch, sizeof(scratch), format, args);
    va_end(args);

    /* The cause is worth more than the end of a long message: it always gets its room. */
    char cause[128];
    const char *text = strerror_r(saved, cause, sizeof(cause));
    size_t room = ERROR_MESSAGE_MAX - 1 - MIN(strlen(text) + 2, ERROR_MESSAGE_MAX / 2);
    size_t used = utf8_cut(scratch, len < 0 ? 0 : strlen(scratch), room);
    snprintf(scratch + used, sizeof(scratch) - used, ": %s", text);
    begin_error(file, line, err, reason, scratch);
    errno = saved;
    return false;
}

bool error_wrap(Error *err, const char *format, ...) {
    char scratch[SCRATCH + ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(scratch, SCRATCH, format, args);
    va_end(args);
    size_t used = strlen(scratch);
    snprintf(scratch + used, sizeof(scratch) - used, ": %s", err->message);
    store_text(err->message, sizeof(err->message), scratch);
    return false;
}

bool error_remedy(Error *err, const char *format, ...) {
    char scratch[SCRATCH];
    va_list args;
    va_start(args, format);
    vsnprintf(scratch, sizeof(scratch), format, args);
    va_end(args);
    store_text(err->remedy, sizeof(err->remedy), scratch);
    return false;
}

const char *error_reason_name(ErrorReason reason) {
    return (unsigned)reason < REASON_MAX_ ? reasons[reason].name : "UNKNOWN";
}

ErrorReason error_reason_from_name(const char *name) {
    for (unsigned i = 0; i < REASON_MAX_; i++) {
        if (strcmp(reasons[i].name, name) == 0)
            return (ErrorReason)i;
    }
    return REASON_MAX_;
}

ErrorCode error_reason_code(ErrorReason reason) {
    return (unsigned)reason < REASON_MAX_ ? reasons[reason].code : ERR_UNKNOWN;
}

int error_reason_exit_code(ErrorReason reason) {
    return (unsigned)reason < REASON_MAX_ ? reasons[reason].exit_code : 2;
}

const char *error_code_name(ErrorCode code) {
    return (size_t)code < COUNT_OF(code_names) ? code_names[code] : "UNKNOWN";
}
