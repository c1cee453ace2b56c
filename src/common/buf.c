/* Growable bytes with a ceiling. */
#include "common/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 256 };

static void resize(Buf *buf, size_t cap) {
    char *data = realloc(buf->data, cap);
    if (data == NULL) {                                                   /* uncovered: needs a full machine */
        fprintf(stderr, "pgcrane: out of memory (buffer of %zu)\n", cap); /* uncovered: as above */
        abort();                                                          /* uncovered: as above */
    }
    buf->data = data;
    buf->cap = cap;
}

void buf_init(Buf *buf, size_t max) {
    /* One byte beyond the ceiling is for the NUL, hence the -1: sizes never wrap. */
    *buf = (Buf){.max = MIN(max, SIZE_MAX / 4 - 1)};
    resize(buf, MIN(buf->max + 1, (size_t)FIRST_CAP));
    buf->data[0] = '\0';
}

void buf_fini(Buf *buf) {
    free(buf->data);
    *buf = (Buf){0};
}

void buf_clear(Buf *buf) {
    buf->len = 0;
    buf->data[0] = '\0';
    buf->overflowed = false;
}

/* Room for `len` bytes and the NUL. */
static bool make_room(Buf *buf, size_t len) {
    if (len > buf->max - buf->len) {
        buf->overflowed = true;
        return false;
    }
    size_t need = buf->len + len + 1;
    if (need > buf->cap)
        resize(buf, MIN(MAX(buf->cap * 2, need), buf->max + 1));
    return true;
}

void buf_append(Buf *buf, const void *bytes, size_t len) {
    if (len == 0 || !make_room(buf, len))
        return;
    memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void buf_append_str(Buf *buf, const char *text) {
    buf_append(buf, text, strlen(text));
}

void buf_append_char(Buf *buf, char c) {
    buf_append(buf, &c, 1);
}

void buf_vprintf(Buf *buf, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len <= 0 || !make_room(buf, (size_t)len))
        return;
    vsnprintf(buf->data + buf->len, (size_t)len + 1, format, args);
    buf->len += (size_t)len;
}

void buf_printf(Buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    buf_vprintf(buf, format, args);
    va_end(args);
}

char *buf_reserve(Buf *buf, size_t len) {
    if (!make_room(buf, len))
        return NULL;
    /* However few of them the caller fills, a NUL stands behind the last one. */
    return memset(buf->data + buf->len, 0, len + 1);
}

void buf_consume(Buf *buf, size_t len) {
    size_t gone = MIN(len, buf->len);
    buf->len -= gone;
    memmove(buf->data, buf->data + gone, buf->len + 1);
}

bool buf_ok(const Buf *buf, const char *what, Error *err) {
    if (buf->overflowed)
        return error_set(err, REASON_SYSTEM, "%s is larger than %zu bytes", what, buf->max);
    return true;
}
