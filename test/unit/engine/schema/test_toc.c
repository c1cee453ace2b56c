/* Archives of several pg_dump versions, hand-made ones, and damaged ones. */
#include "unit/engine/schema/archive.h"

#include "common/clock.h"

static void parses_archives_of_each_major(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int minor;
        const char *dump_version; /* prefix */
        size_t count;
    } archives[] = {
        {"toc_kinds_13.dump", 14, "13.", 137},
        {"toc_kinds_15.dump", 14, "15.", 144},
        {"toc_kinds_17.dump", 16, "17.", 144},
        {"toc_kinds_18.dump", 16, "18.", 145},
    };
    for (size_t i = 0; i < COUNT_OF(archives); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        Toc toc = archive_load_toc(arena, archives[i].name);
        assert_int_equal(toc.version_major, 1);
        assert_int_equal(toc.version_minor, archives[i].minor);
        assert_true(strncmp(toc.dump_version, archives[i].dump_version, 3) == 0);
        assert_int_equal(toc.count, archives[i].count);
    }
}

static void reads_each_field(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Toc toc = archive_load_toc(arena, "toc_kinds_18.dump");
    const TocEntry *plain = archive_find(&toc, "TABLE", "plain");
    assert_string_equal(plain->schema, "s");
    assert_string_equal(plain->owner, "kinds_owner");
    assert_string_equal(plain->table_am, "heap");
    assert_string_equal(plain->tablespace, "");
    assert_string_equal(plain->drop_stmt, "DROP TABLE s.plain;\n");
    assert_true(strncmp(plain->defn, "CREATE TABLE s.plain (", 22) == 0);
    assert_int_equal(plain->section, TOC_SECTION_PRE_DATA);
    assert_int_equal(plain->table_oid, 1259);
    assert_true(plain->object_oid >= 16384);
    assert_int_equal(plain->relkind, 'r');
    assert_int_equal(archive_find(&toc, "TABLE", "parted")->relkind, 'p');
    const TocEntry *key = archive_find(&toc, "CONSTRAINT", "plain plain_pkey");
    assert_int_equal(key->section, TOC_SECTION_POST_DATA);
    assert_ptr_equal(toc_find(&toc, key->deps[0]), plain);
    const TocEntry *odd = archive_find(&toc, "TABLE", "T; 'x'\n$$ -- /* \"y\"");
    assert_string_equal(odd->schema, "S; \"2\"\nDROP");
    assert_string_equal(archive_find(&toc, "STDSTRINGS", "STDSTRINGS")->defn,
                        "SET standard_conforming_strings = 'on';\n");
}

static void find_knows_each_id_and_no_other(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Toc toc = archive_load_toc(arena, "toc_kinds_15.dump");
    for (size_t i = 0; i < toc.count; i++)
        assert_ptr_equal(toc_find(&toc, toc.entries[i].dump_id), &toc.entries[i]);
    assert_null(toc_find(&toc, -1));
    assert_null(toc_find(&toc, 0));
    assert_null(toc_find(&toc, INT32_MAX));
    assert_null(toc_find(&toc, (int32_t)toc.by_id_count));
}

/* The entries end before the archive does: behind them only data blocks come, and none here. */
static size_t end_of_entries(const Buf *whole) {
    size_t len = whole->len;
    Error err;
    Toc toc;
    for (;;) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        if (!toc_parse(arena, whole->data, len - 1, &toc, &err))
            return len;
        len--;
    }
}

static void truncation_at_every_byte_is_an_error(void **state) {
    (void)state;
    static const char *const names[] = {"toc_kinds_15.dump", "toc_kinds_18.dump"};
    for (size_t n = 0; n < COUNT_OF(names); n++) {
        CLEANUP(buf_fini) Buf whole;
        archive_load(names[n], &whole);
        CLEANUP(arena_freep) Arena *arena = arena_new();
        size_t end = end_of_entries(&whole);
        assert_true(end > whole.len - 400);
        for (size_t len = 0; len < end; len += len < 1000 ? 1 : 7) {
            Toc toc = {.count = 42};
            Error err;
            arena_reset(arena);
            char *exact = arena_alloc(arena, len + 1); /* so that a sanitizer sees a read behind it */
            memcpy(exact, whole.data, len);
            assert_false(toc_parse(arena, exact, len, &toc, &err));
            assert_int_equal(err.reason, REASON_ARCHIVE_BAD);
            assert_int_equal(toc.count, 42);
        }
    }
}

static void assert_bad(const Buf *buf, ErrorReason reason, const char *part_of_message) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Toc toc;
    Error err;
    assert_false(toc_parse(arena, buf->data, buf->len, &toc, &err));
    assert_int_equal(err.reason, reason);
    if (strstr(err.message, part_of_message) == NULL)
        fail_msg("'%s' is not in: %s", part_of_message, err.message);
}

static const TocEntry table = {.dump_id = 7, .tag = "t", .desc = "TABLE", .section = TOC_SECTION_PRE_DATA};

static void hand_made_archives_of_each_format(void **state) {
    (void)state;
    for (int minor = 14; minor <= 16; minor++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        CLEANUP(buf_fini) Buf buf;
        buf_init(&buf, ARCHIVE_MAX);
        TocEntry entry = table;
        entry.relkind = 'r';
        archive_begin(&buf, minor, 1);
        archive_entry(&buf, minor, &entry, (const int[]){3, 7, 900, 0});
        Toc toc = archive_toc(arena, &buf);
        assert_int_equal(toc.count, 1);
        assert_string_equal(toc.server_version, "15.1");
        assert_string_equal(toc.dump_version, "16.2");
        assert_string_equal(toc.entries[0].tag, "t");
        assert_string_equal(toc.entries[0].defn, ""); /* NULL in the archive */
        assert_string_equal(toc.entries[0].owner, "");
        assert_int_equal(toc.entries[0].relkind, minor >= 16 ? 'r' : 0);
        assert_int_equal(toc.entries[0].deps_count, 3);
        assert_int_equal(toc.entries[0].deps[2], 900);
    }
}

static void unknown_versions_and_formats_are_refused(void **state) {
    (void)state;
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, ARCHIVE_MAX);
    archive_begin(&buf, 17, 0);
    assert_bad(&buf, REASON_UNSUPPORTED, "1.17");
    buf.data[6] = 13;
    assert_bad(&buf, REASON_UNSUPPORTED, "1.13");
    buf.data[6] = 16;
    buf.data[10] = 3; /* tar */
    assert_bad(&buf, REASON_ARCHIVE_BAD, "custom");
    buf.data[0] = 'X';
    assert_bad(&buf, REASON_ARCHIVE_BAD, "PGDMP");
    buf_clear(&buf);
    assert_bad(&buf, REASON_ARCHIVE_BAD, "PGDMP");
}

static void damage_is_named(void **state) {
    (void)state;
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, ARCHIVE_MAX);
    archive_begin(&buf, 16, 2);
    archive_entry(&buf, 16, &table, NULL);
    archive_entry(&buf, 16, &table, NULL);
    assert_bad(&buf, REASON_ARCHIVE_BAD, "same number");

    buf_clear(&buf);
    archive_begin(&buf, 16, 2000000);
    archive_entry(&buf, 16, &table, NULL);
    assert_bad(&buf, REASON_ARCHIVE_BAD, "more entries");

    TocEntry wrong = table;
    wrong.dump_id = 2000000000;
    buf_clear(&buf);
    archive_begin(&buf, 16, 1);
    archive_entry(&buf, 16, &wrong, NULL);
    assert_bad(&buf, REASON_ARCHIVE_BAD, "number is out of range");

    wrong = table;
    wrong.section = (TocSection)9;
    buf_clear(&buf);
    archive_begin(&buf, 16, 1);
    archive_entry(&buf, 16, &wrong, NULL);
    assert_bad(&buf, REASON_ARCHIVE_BAD, "section");

    buf_clear(&buf);
    archive_begin(&buf, 16, 1);
    archive_entry(&buf, 16, &table, NULL);
    char *tag = memchr(buf.data, 't', buf.len);
    *tag = '\0';
    assert_bad(&buf, REASON_ARCHIVE_BAD, "zero byte");
}

/* 100,000 tables: linear in time (a quadratic reader takes minutes), memory about the archive's size. */
static void large_archives(void **state) {
    (void)state;
    enum { TABLES = 100000 };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, ARCHIVE_MAX);
    archive_begin(&buf, 16, TABLES);
    for (int i = 1; i <= TABLES; i++) {
        char tag[32], defn[200], drop[64];
        snprintf(tag, sizeof(tag), "table_%d", i);
        snprintf(defn, sizeof(defn),
                 "CREATE TABLE public.%s (\n    id integer NOT NULL,\n    v text,\n    at date\n);\n", tag);
        snprintf(drop, sizeof(drop), "DROP TABLE public.%s;\n", tag);
        TocEntry entry = {.dump_id = i,
                          .tag = tag,
                          .desc = "TABLE",
                          .section = TOC_SECTION_PRE_DATA,
                          .defn = defn,
                          .drop_stmt = drop,
                          .schema = "public",
                          .table_am = "heap",
                          .owner = "postgres"};
        archive_entry(&buf, 16, &entry, (const int[]){i == 1 ? 2 : 1, 0});
    }
    int64_t begun = clock_now_us();
    Toc toc = archive_toc(arena, &buf);
    assert_int_equal(toc.count, TABLES);
    assert_string_equal(toc_find(&toc, TABLES)->tag, "table_100000");
    assert_true(arena_used(arena) < 2 * buf.len);
    assert_true(clock_now_us() - begun < 10 * USEC_PER_SEC);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_archives_of_each_major),
        cmocka_unit_test(reads_each_field),
        cmocka_unit_test(find_knows_each_id_and_no_other),
        cmocka_unit_test(truncation_at_every_byte_is_an_error),
        cmocka_unit_test(hand_made_archives_of_each_format),
        cmocka_unit_test(unknown_versions_and_formats_are_refused),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(large_archives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
