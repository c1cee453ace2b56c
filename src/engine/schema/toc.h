/*
 * The table of contents of a pg_dump custom-format archive, as structs. Pure: bytes in, structs out; fuzzed.
 *
 * Why read it ourselves: pg_restore runs a section as one opaque program. We need each entry's own text and
 * dependencies, so that an entry and its line in the ledger commit together, and indexes start while other tables are
 * still copied. The format is PostgreSQL's (src/bin/pg_dump/pg_backup_archiver.c: ReadHead, ReadToc;
 * pg_backup_custom.c: ReadExtraToc), versions 1.14 (PostgreSQL 12-15), 1.15 (16) and 1.16 (17 and later); another is
 * refused with UNSUPPORTED that names it.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"

typedef enum TocSection {
    TOC_SECTION_NONE = 1,
    TOC_SECTION_PRE_DATA,
    TOC_SECTION_DATA,
    TOC_SECTION_POST_DATA
} TocSection;

typedef struct TocEntry {
    int32_t dump_id;
    uint32_t table_oid;  /* catalogue the object is a row of (pg_class, pg_constraint, ...) */
    uint32_t object_oid; /* its oid on the source */
    const char *tag;     /* object name, "orders orders_pkey" for some kinds */
    const char *desc;    /* "TABLE", "INDEX", "FK CONSTRAINT", ... */
    TocSection section;
    const char *defn;      /* SQL, "" when none */
    const char *drop_stmt; /* "DROP TABLE public.a;\n", "" when none */
    const char *copy_stmt;
    const char *schema;     /* "" when none */
    const char *tablespace; /* "" when default */
    const char *table_am;   /* "" when default */
    char relkind;           /* 0 before archive version 1.16 */
    const char *owner;      /* "" when none */
    const int32_t *deps;    /* dump ids, some not in the archive */
    size_t deps_count;
} TocEntry;

typedef struct Toc {
    int version_major, version_minor; /* of the archive format */
    const char *server_version;       /* of the source, as pg_dump saw it */
    const char *dump_version;
    TocEntry *entries; /* in archive order, which is dependency order within a section */
    size_t count;
    const int32_t *by_id; /* dump_id -> index in entries, -1 = none; for toc_find */
    size_t by_id_count;
} Toc;

/* Strings are copied into `arena`. Everything malformed or truncated is ARCHIVE_BAD. */
NODISCARD bool toc_parse(Arena *arena, const void *bytes, size_t len, Toc *ret_toc, Error *err);
/* NULL when there is none. O(1): toc_parse builds an index. */
const TocEntry *toc_find(const Toc *toc, int32_t dump_id);
