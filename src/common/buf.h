/*
 * Growable bytes with a ceiling.
 *
 * Contract
 * - Owns its memory (malloc): buf_init, then buf_fini exactly once (or CLEANUP(buf_fini)).
 * - The ceiling is given at init. An append that would pass it, drops the append and sets `overflowed`, which sticks;
 *   whoever uses the content asks buf_ok() first. Out of memory ends the process.
 * - data[len] is always NUL after buf_init, so that data may be read as a C string.
 */
#pragma once

#include "common/compiler.h"
#include "common/error.h"

#include <stdarg.h>

typedef struct Buf {
    char *data;
    size_t len;
    size_t cap;
    size_t max;
    bool overflowed;
} Buf;

void buf_init(Buf *buf, size_t max);
void buf_fini(Buf *buf);
void buf_clear(Buf *buf); /* keeps the memory */
void buf_append(Buf *buf, const void *bytes, size_t len);
void buf_append_str(Buf *buf, const char *text);
void buf_append_char(Buf *buf, char c);
void buf_printf(Buf *buf, const char *format, ...) PRINTF(2, 3);
void buf_vprintf(Buf *buf, const char *format, va_list args) PRINTF(2, 0);
/* Makes room for `len` more bytes and returns where they go, NULL past the ceiling; the caller adds to len. */
char *buf_reserve(Buf *buf, size_t len);
/* Removes `len` bytes at the front. */
void buf_consume(Buf *buf, size_t len);
NODISCARD bool buf_ok(const Buf *buf, const char *what, Error *err);
