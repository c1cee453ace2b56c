/*
 * The table of contents of a pg_dump custom-format archive, as structs.
 *
 * Layout (facts from PostgreSQL's pg_backup_archiver.c and pg_backup_custom.c, checked on archives of 13, 15, 17, 18):
 *
 *     "PGDMP" major minor revision intsize offsize format        one byte each after the magic; format 1 = custom
 *     compression                                                int before 1.15, one byte from 1.15
 *     sec min hour day month year isdst                          ints
 *     database name, server version, pg_dump version             strings
 *     count, then that many entries
 *
 * An int is a sign byte and `intsize` bytes, lowest first. A string is an int length and that many bytes; a negative
 * length is NULL. What follows the entries (data blocks) is not looked at.
 *
 * Everything is checked against the bytes that are left before it is believed: an archive comes from a child process,
 * and a child may be cut off at any byte.
 */
#include "engine/schema/toc.h"

#include "common/vec.h"

#include <limits.h>
#include <string.h>

enum {
    VERSION_OLDEST = 14,           /* 1.14: PostgreSQL 12 */
    VERSION_COMPRESSION_BYTE = 15, /* 1.15: PostgreSQL 16 */
    VERSION_RELKIND = 16,          /* 1.16: PostgreSQL 17 */
    VERSION_NEWEST = 16,
    FORMAT_CUSTOM = 1,
    CREATION_TIME_INTS = 7,
    ENTRY_MIN_BYTES = 20, /* far below a real entry's: only bounds the count that is believed */
    /* pg_dump numbers what it does not write, too (types of tables, members of extensions), so ids are sparse; but an
     * id far beyond this is damage, and by_id would be huge. */
    IDS_SLACK = 4 * 1000 * 1000,
    IDS_PER_ENTRY = 64,
};

typedef struct Reader {
    const unsigned char *bytes;
    size_t len;
    size_t pos;
    unsigned int_size;
    unsigned offset_size;
    Arena *arena;
    Error *err;
} Reader;

typedef VEC(int32_t) IdVec;

static bool archive_bad(const Reader *reader, const char *what) {
    return error_set(reader->err, REASON_ARCHIVE_BAD, "pg_dump's archive is damaged: %s at byte %zu of %zu", what,
                     reader->pos, reader->len);
}

static bool read_byte(Reader *reader, unsigned *ret_byte) {
    if (reader->pos >= reader->len)
        return archive_bad(reader, "it ends too early");
    *ret_byte = reader->bytes[reader->pos++];
    return true;
}

static bool read_int(Reader *reader, int32_t *ret_value) {
    if (reader->len - reader->pos < 1 + (size_t)reader->int_size)
        return archive_bad(reader, "it ends too early");
    bool negative = reader->bytes[reader->pos] != 0;
    uint64_t value = 0;
    for (unsigned i = 0; i < reader->int_size; i++)
        value |= (uint64_t)reader->bytes[reader->pos + 1 + i] << (8 * i);
    if (value > INT32_MAX)
        return archive_bad(reader, "a number is out of range");
    reader->pos += 1 + (size_t)reader->int_size;
    *ret_value = negative ? -(int32_t)value : (int32_t)value;
    return true;
}

/* The string's place in the archive; NULL for a NULL string. Not terminated. */
static bool read_slice(Reader *reader, const char **ret_text, size_t *ret_len) {
    int32_t len;
    if (!read_int(reader, &len))
        return false;
    if (len < 0) {
        *ret_text = NULL;
        *ret_len = 0;
        return true;
    }
    if ((size_t)len > reader->len - reader->pos)
        return archive_bad(reader, "a text is longer than the archive");
    const char *text = (const char *)reader->bytes + reader->pos;
    if (len > 0 && memchr(text, '\0', (size_t)len) != NULL)
        return archive_bad(reader, "a text has a zero byte");
    reader->pos += (size_t)len;
    *ret_text = text;
    *ret_len = (size_t)len;
    return true;
}

static bool skip_string(Reader *reader) {
    const char *text;
    size_t len;
    return read_slice(reader, &text, &len);
}

/* "" for NULL. `previous` is returned instead of a copy when it is the same text: owner, schema and kind repeat from
 * entry to entry, and 100,000 tables would otherwise hold as many copies. */
static bool read_string(Reader *reader, const char *previous, const char **ret_text) {
    const char *text;
    size_t len;
    if (!read_slice(reader, &text, &len))
        return false;
    if (len == 0)
        *ret_text = "";
    else if (previous != NULL && strncmp(previous, text, len) == 0 && previous[len] == '\0')
        *ret_text = previous;
    else
        *ret_text = arena_strndup(reader->arena, text, len);
    return true;
}

/* A number written as text: oids and dependencies. *ret_null when the string is NULL. */
static bool read_number_text(Reader *reader, uint32_t max, uint32_t *ret_number, bool *ret_null) {
    const char *text;
    size_t len;
    if (!read_slice(reader, &text, &len))
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return archive_bad(reader, "a number has other characters");
        number = number * 10 + (uint64_t)(text[i] - '0');
        if (number > max)
            return archive_bad(reader, "a number is out of range");
    }
    *ret_null = text == NULL;
    *ret_number = (uint32_t)number;
    return true;
}

static bool read_oid(Reader *reader, uint32_t *ret_oid) {
    bool is_null;
    return read_number_text(reader, UINT32_MAX, ret_oid, &is_null);
}

static bool read_dependencies(Reader *reader, IdVec *scratch, TocEntry *entry) {
    scratch->len = 0;
    for (;;) {
        uint32_t id;
        bool is_null;
        if (!read_number_text(reader, INT32_MAX, &id, &is_null))
            return false;
        if (is_null)
            break;
        vec_push(reader->arena, scratch, (int32_t)id);
    }
    entry->deps_count = scratch->len;
    if (scratch->len == 0)
        return true;
    int32_t *deps = arena_array(reader->arena, int32_t, scratch->len);
    memcpy(deps, scratch->items, scratch->len * sizeof(*deps));
    entry->deps = deps;
    return true;
}

static bool read_section(Reader *reader, TocSection *ret_section) {
    int32_t section;
    if (!read_int(reader, &section))
        return false;
    if (section < TOC_SECTION_NONE || section > TOC_SECTION_POST_DATA)
        return archive_bad(reader, "an entry has an unknown section");
    *ret_section = (TocSection)section;
    return true;
}

static bool read_relkind(Reader *reader, int version_minor, char *ret_relkind) {
    if (version_minor < VERSION_RELKIND)
        return true;
    int32_t relkind;
    if (!read_int(reader, &relkind))
        return false;
    if (relkind < 0 || relkind > CHAR_MAX)
        return archive_bad(reader, "an entry has an unknown kind of relation");
    *ret_relkind = (char)relkind;
    return true;
}

/* Where the entry's data is in the file: a flag and an offset. We have no data. */
static bool skip_data_offset(Reader *reader) {
    size_t bytes = 1 + (size_t)reader->offset_size;
    if (reader->len - reader->pos < bytes)
        return archive_bad(reader, "it ends too early");
    reader->pos += bytes;
    return true;
}

static bool read_entry(Reader *reader, int version_minor, const TocEntry *previous, IdVec *scratch, TocEntry *entry) {
    int32_t has_data;
    if (!read_int(reader, &entry->dump_id) || !read_int(reader, &has_data) || !read_oid(reader, &entry->table_oid) ||
        !read_oid(reader, &entry->object_oid))
        return false;
    if (entry->dump_id <= 0)
        return archive_bad(reader, "an entry's number is not positive");
    return read_string(reader, NULL, &entry->tag) && read_string(reader, previous->desc, &entry->desc) &&
           read_section(reader, &entry->section) && read_string(reader, NULL, &entry->defn) &&
           read_string(reader, NULL, &entry->drop_stmt) && read_string(reader, NULL, &entry->copy_stmt) &&
           read_string(reader, previous->schema, &entry->schema) &&
           read_string(reader, previous->tablespace, &entry->tablespace) &&
           read_string(reader, previous->table_am, &entry->table_am) &&
           read_relkind(reader, version_minor, &entry->relkind) &&
           read_string(reader, previous->owner, &entry->owner) &&
           skip_string(reader) /* "WITH OIDS", gone since 12 */ && read_dependencies(reader, scratch, entry) &&
           skip_data_offset(reader);
}

static bool read_entries(Reader *reader, Toc *toc) {
    int32_t count;
    if (!read_int(reader, &count))
        return false;
    if (count < 0 || (size_t)count > (reader->len - reader->pos) / ENTRY_MIN_BYTES)
        return archive_bad(reader, "more entries than it has room for");
    toc->count = (size_t)count;
    toc->entries = arena_array(reader->arena, TocEntry, MAX(toc->count, 1));
    IdVec scratch = {0};
    static const TocEntry none;
    for (size_t i = 0; i < toc->count; i++) {
        const TocEntry *previous = i == 0 ? &none : &toc->entries[i - 1];
        if (!read_entry(reader, toc->version_minor, previous, &scratch, &toc->entries[i]))
            return false;
    }
    return true;
}

static bool build_index(Reader *reader, Toc *toc) {
    int32_t highest = 0;
    for (size_t i = 0; i < toc->count; i++)
        highest = MAX(highest, toc->entries[i].dump_id);
    if ((size_t)highest > IDS_SLACK + IDS_PER_ENTRY * toc->count)
        return archive_bad(reader, "an entry's number is out of range");
    toc->by_id_count = (size_t)highest + 1;
    int32_t *by_id = arena_array(reader->arena, int32_t, toc->by_id_count);
    memset(by_id, 0xff, toc->by_id_count * sizeof(*by_id)); /* all -1 */
    for (size_t i = 0; i < toc->count; i++) {
        int32_t id = toc->entries[i].dump_id;
        if (by_id[id] != -1)
            return archive_bad(reader, "two entries have the same number");
        by_id[id] = (int32_t)i;
    }
    toc->by_id = by_id;
    return true;
}

static bool read_version(Reader *reader, Toc *toc) {
    unsigned major = 0, minor = 0, revision = 0;
    if (!read_byte(reader, &major) || !read_byte(reader, &minor) || !read_byte(reader, &revision))
        return false;
    if (major != 1 || minor < VERSION_OLDEST || minor > VERSION_NEWEST) {
        error_set(reader->err, REASON_UNSUPPORTED, "pg_dump wrote archive version %u.%u; known are 1.%d to 1.%d", major,
                  minor, VERSION_OLDEST, VERSION_NEWEST);
        return error_remedy(reader->err, "use pg_dump of PostgreSQL 12 to 18: name its folder with --pg-bindir");
    }
    toc->version_major = (int)major;
    toc->version_minor = (int)minor;
    return true;
}

static bool read_sizes(Reader *reader) {
    unsigned format;
    if (!read_byte(reader, &reader->int_size) || !read_byte(reader, &reader->offset_size) ||
        !read_byte(reader, &format))
        return false;
    if (reader->int_size < 1 || reader->int_size > 8 || reader->offset_size < 1 || reader->offset_size > 16)
        return archive_bad(reader, "unknown size of numbers");
    if (format != FORMAT_CUSTOM)
        return archive_bad(reader, "not the custom format (pg_dump -Fc)");
    return true;
}

static bool read_header(Reader *reader, Toc *toc) {
    static const char magic[] = {'P', 'G', 'D', 'M', 'P'};
    if (reader->len < sizeof(magic) || memcmp(reader->bytes, magic, sizeof(magic)) != 0)
        return archive_bad(reader, "it does not begin with PGDMP");
    reader->pos = sizeof(magic);
    if (!read_version(reader, toc) || !read_sizes(reader))
        return false;
    int32_t number;
    unsigned byte;
    if (toc->version_minor >= VERSION_COMPRESSION_BYTE ? !read_byte(reader, &byte) : !read_int(reader, &number))
        return false;
    for (int i = 0; i < CREATION_TIME_INTS; i++)
        if (!read_int(reader, &number))
            return false;
    return skip_string(reader) /* database name */ && read_string(reader, NULL, &toc->server_version) &&
           read_string(reader, NULL, &toc->dump_version);
}

bool toc_parse(Arena *arena, const void *bytes, size_t len, Toc *ret_toc, Error *err) {
    Reader reader = {.bytes = bytes, .len = len, .arena = arena, .err = err};
    Toc toc = {0};
    if (!read_header(&reader, &toc) || !read_entries(&reader, &toc) || !build_index(&reader, &toc))
        return false;
    *ret_toc = toc;
    return true;
}

const TocEntry *toc_find(const Toc *toc, int32_t dump_id) {
    if (dump_id < 0 || (size_t)dump_id >= toc->by_id_count || toc->by_id[dump_id] < 0)
        return NULL;
    return &toc->entries[toc->by_id[dump_id]];
}
