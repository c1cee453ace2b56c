/* Log lines for operators, one write(2) a line. */
#include "common/log.h"

#include "common/clock.h"
#include "common/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_ = 2048, NAME_MAX_ = 16 };

static const char *const level_names[] = {"debug", "info", "warning", "error"};

/* Process-wide by nature: where the lines of every thread go. */
static atomic_int log_fd = -1;
static atomic_int log_level = LOG_INFO;
static _Thread_local char thread_name[NAME_MAX_];

void log_init(int fd, LogLevel level) {
    atomic_store(&log_level, (int)level);
    atomic_store(&log_fd, fd);
}

void log_thread_name(const char *name) {
    size_t len = utf8_cut(name, strlen(name), NAME_MAX_ - 1);
    memcpy(thread_name, name, len);
    thread_name[len] = '\0';
}

static size_t start_line(char *line, size_t size, LogLevel level) {
    int64_t now = clock_wall_us();
    time_t seconds = (time_t)(now / USEC_PER_SEC);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    size_t len = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
    int more = snprintf(line + len, size - len, ".%03dZ %s %s%s", (int)(now % USEC_PER_SEC / USEC_PER_MSEC),
                        level_names[level], thread_name, thread_name[0] == '\0' ? "" : " ");
    return len + (size_t)more;
}

/* How a byte of the message looks in the line: control bytes escaped, or one event could forge the next line. */
static size_t escape_byte(char *out, size_t size, unsigned char byte) {
    if (byte == '\n' || byte == '\r' || byte == '\t')
        return (size_t)snprintf(out, size, "\\%c", byte == '\n' ? 'n' : byte == '\r' ? 'r' : 't');
    if (byte < 0x20 || byte == 0x7f)
        return (size_t)snprintf(out, size, "\\x%02x", byte);
    out[0] = (char)byte;
    return 1;
}

/* Appends the message as far as it fits before the newline; returns the length of the line. */
static size_t append_message(char *line, size_t len, const char *message) {
    size_t left = strlen(message);
    while (left > 0) {
        size_t whole = MAX(utf8_char_len(message, left), 1);
        char shown[8];
        size_t shown_len = whole;
        if (whole == 1)
            shown_len = escape_byte(shown, sizeof(shown), (unsigned char)*message);
        else
            memcpy(shown, message, whole);
        if (len + shown_len >= LINE_MAX_)
            break;
        memcpy(line + len, shown, shown_len);
        len += shown_len;
        message += whole;
        left -= whole;
    }
    line[len] = '\n';
    return len + 1;
}

void log_write(LogLevel level, const char *format, ...) {
    int fd = atomic_load(&log_fd);
    if (fd < 0 || (int)level < atomic_load(&log_level))
        return;
    int saved = errno; /* logging must not change what the caller is about to report */
    char message[LINE_MAX_ + 1];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);

    char line[LINE_MAX_ + 1];
    size_t len = append_message(line, start_line(line, sizeof(line), level), message);
    /* A log that cannot be written is no reason to stop a migration, and there is nowhere to say so. */
    ssize_t written = write(fd, line, len);
    (void)written;
    errno = saved;
}

void log_error_value(LogLevel level, const Error *err) {
    log_write(level, "reason=%s sqlstate=%s at=%s:%d msg=\"%s\"", error_reason_name(err->reason),
              err->sqlstate[0] == '\0' ? "-" : err->sqlstate, err->file == NULL ? "-" : err->file, err->line,
              err->message);
}
