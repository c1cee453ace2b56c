/* Archives for the schema tests: read from test/data, or written by hand. */
#pragma once

#include "common/buf.h"
#include "common/fd.h"
#include "engine/schema/toc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ARCHIVE_MAX = 64 * 1024 * 1024 };

static inline void archive_load(const char *name, Buf *buf) {
    char path[1000];
    Error err;
    snprintf(path, sizeof(path), "%s/%s", TEST_DATA_DIR, name);
    buf_init(buf, ARCHIVE_MAX);
    if (!fd_read_file(path, buf, &err))
        fail_msg("%s", err.message);
}

static inline Toc archive_toc(Arena *arena, const Buf *buf) {
    Toc toc;
    Error err;
    if (!toc_parse(arena, buf->data, buf->len, &toc, &err))
        fail_msg("%s", err.message);
    return toc;
}

static inline Toc archive_load_toc(Arena *arena, const char *name) {
    CLEANUP(buf_fini) Buf buf;
    archive_load(name, &buf);
    return archive_toc(arena, &buf);
}

static inline void archive_int(Buf *buf, int value) {
    unsigned size = value < 0 ? 0u - (unsigned)value : (unsigned)value;
    buf_append(buf, value < 0 ? "\1" : "\0", 1);
    for (int i = 0; i < 4; i++)
        buf_append_char(buf, (char)(unsigned char)(size >> (8 * i)));
}

static inline void archive_text(Buf *buf, const char *text) {
    if (text == NULL) {
        archive_int(buf, -1);
        return;
    }
    archive_int(buf, (int)strlen(text));
    buf_append_str(buf, text);
}

/* Everything up to the count of entries. */
static inline void archive_begin(Buf *buf, int version_minor, int entries) {
    buf_append(buf, "PGDMP\1", 6);
    buf_append_char(buf, (char)version_minor);
    buf_append(buf, "\0\4\10\1", 4);
    if (version_minor >= 15)
        buf_append_char(buf, 0);
    else
        archive_int(buf, 0);
    for (int i = 0; i < 7; i++)
        archive_int(buf, 0);
    archive_text(buf, "db");
    archive_text(buf, "15.1");
    archive_text(buf, "16.2");
    archive_int(buf, entries);
}

/* deps: ids, ended by 0; NULL = none. */
static inline void archive_entry(Buf *buf, int version_minor, const TocEntry *entry, const int *deps) {
    archive_int(buf, entry->dump_id);
    archive_int(buf, 0);
    archive_text(buf, "1259");
    archive_text(buf, "16384");
    archive_text(buf, entry->tag);
    archive_text(buf, entry->desc);
    archive_int(buf, (int)entry->section);
    archive_text(buf, entry->defn);
    archive_text(buf, entry->drop_stmt);
    archive_text(buf, entry->copy_stmt);
    archive_text(buf, entry->schema);
    archive_text(buf, entry->tablespace);
    archive_text(buf, entry->table_am);
    if (version_minor >= 16)
        archive_int(buf, entry->relkind);
    archive_text(buf, entry->owner);
    archive_text(buf, "false");
    for (; deps != NULL && *deps != 0; deps++) {
        char number[16];
        snprintf(number, sizeof(number), "%d", *deps);
        archive_text(buf, number);
    }
    archive_text(buf, NULL);
    buf_append(buf, "\3\0\0\0\0\0\0\0\0", 9);
}

/* The only entry of that kind and name; the test fails when there is none. */
static inline const TocEntry *archive_find(const Toc *toc, const char *desc, const char *tag) {
    for (size_t i = 0; i < toc->count; i++)
        if (strcmp(toc->entries[i].desc, desc) == 0 && strcmp(toc->entries[i].tag, tag) == 0)
            return &toc->entries[i];
    fail_msg("the archive has no %s %s", desc, tag);
    return NULL;
}
