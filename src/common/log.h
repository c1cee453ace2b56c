/*
 * Log lines for operators: `2026-11-23T13:41:30.123Z info copy table="public.a" msg="..."`, one write(2) a line.
 *
 * Thread-safe after log_init(). Never given secrets: connection strings are logged by their display form only.
 */
#pragma once

#include "common/compiler.h"
#include "common/error.h"

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } LogLevel;

/* fd stays the caller's. Before log_init nothing is written. */
void log_init(int fd, LogLevel level);
/* A name for this thread in its lines: "lane1". Copied, at most 15 bytes. */
void log_thread_name(const char *name);
void log_write(LogLevel level, const char *format, ...) PRINTF(2, 3);
void log_error_value(LogLevel level, const Error *err); /* message, reason, sqlstate, file:line */

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
