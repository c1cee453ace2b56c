/*
 * The decoder of pgoutput: what real servers sent (test/data/pgoutput), each of those messages cut at every byte or
 * with one more, and by hand what no server sends.
 */
#include "common/buf.h"
#include "common/lsn.h"
#include "pg/pgoutput.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LINE_MAX = 64 * 1024, ALL_TYPES = 19 };

static const char *const captures[] = {
    "13_text", "15_text",   "15_binary",   "15_streamed",           "15_two_phase", "15_streamed_two_phase",
    "18_text", "18_binary", "18_streamed", "18_streamed_two_phase", "18_two_phase",
};

static Arena *arena;
static Error err;

static int set_up(void **state) {
    (void)state;
    arena = arena_new();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    arena_freep(&arena);
    return 0;
}

/* --- What a message means, as text (the form of capture.py) ------------------------------------------------------- */

static void show_bytes(Buf *out, const char *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c >= 33 && c <= 126 && strchr("\\,()", c) == NULL)
            buf_append_char(out, (char)c);
        else
            buf_printf(out, "\\%02x", c);
    }
}

static void show_text(Buf *out, const char *text) {
    show_bytes(out, text, strlen(text));
}

static void show_tuple(Buf *out, char kind, const PgoTuple *tuple) {
    buf_printf(out, " %c(", kind);
    for (uint16_t i = 0; i < tuple->count; i++) {
        const PgoValue *value = &tuple->values[i];
        buf_printf(out, "%s%c", i > 0 ? "," : "", (char)value->kind);
        if (value->kind == PGO_TEXT || value->kind == PGO_BINARY) {
            buf_append_char(out, ':');
            show_bytes(out, value->bytes, value->len);
        } else {
            assert_null(value->bytes);
        }
    }
    buf_append_char(out, ')');
}

static void show_row(Buf *out, const PgoMessage *message) {
    buf_printf(out, " oid=%u", message->row.relation);
    if (message->row.old_kind != 0)
        show_tuple(out, message->row.old_kind, &message->row.old_tuple);
    if (message->type != PGO_DELETE)
        show_tuple(out, 'N', &message->row.new_tuple);
}

static void show_relation(Buf *out, const PgoMessage *message) {
    const PgoRelation *relation = &message->relation;

    buf_printf(out, " oid=%u ", relation->oid);
    show_text(out, relation->schema);
    buf_append_char(out, '.');
    show_text(out, relation->name);
    if (message->type == PGO_RELATION)
        buf_printf(out, " identity=%c", relation->identity);
    for (uint16_t i = 0; i < relation->columns_count; i++) {
        const PgoColumn *column = &relation->columns[i];
        buf_append_char(out, ' ');
        show_text(out, column->name);
        buf_printf(out, "%s:%u:%d", column->is_key ? "*" : "", column->type_oid, column->type_modifier);
    }
}

static void show_truncate(Buf *out, const PgoTruncate *truncate) {
    buf_printf(out, " cascade=%d restart=%d oids=", truncate->cascade, truncate->restart_identity);
    for (uint32_t i = 0; i < truncate->relations_count; i++)
        buf_printf(out, "%s%u", i > 0 ? "," : "", truncate->relations[i]);
}

static void show_logical(Buf *out, const PgoLogical *logical) {
    buf_printf(out, " bound=%d lsn=%s ", logical->transactional, lsn_format(arena, logical->lsn));
    show_text(out, logical->prefix);
    buf_append_char(out, ':');
    show_bytes(out, logical->content, logical->len);
}

static void show_transaction(Buf *out, const PgoTransaction *t) {
    buf_printf(out, " lsn=%s end=%s time=%lld xid=%u subxid=%u first=%d gid=", lsn_format(arena, t->lsn),
               lsn_format(arena, t->end_lsn), (long long)t->time_us, t->xid, t->subxid, t->first_segment);
    if (t->gid != NULL)
        show_text(out, t->gid);
}

static const char *show(const PgoMessage *message) {
    Buf out CLEANUP(buf_fini);

    buf_init(&out, LINE_MAX);
    buf_append_char(&out, (char)message->type);
    if (strchr("RYIUDTM", (char)message->type) != NULL)
        buf_printf(&out, " stream=%u", message->stream_xid);
    if (message->type == PGO_RELATION || message->type == PGO_DATA_TYPE)
        show_relation(&out, message);
    else if (message->type == PGO_INSERT || message->type == PGO_UPDATE || message->type == PGO_DELETE)
        show_row(&out, message);
    else if (message->type == PGO_TRUNCATE)
        show_truncate(&out, &message->truncate);
    else if (message->type == PGO_MESSAGE)
        show_logical(&out, &message->logical);
    else if (message->type == PGO_ORIGIN)
        buf_printf(&out, " "), show_text(&out, message->origin);
    else
        show_transaction(&out, &message->transaction);
    return arena_strdup(arena, out.data);
}

/* --- Bytes -------------------------------------------------------------------------------------------------------- */

static size_t from_hex(const char *hex, uint8_t *bytes) {
    size_t len = 0;

    for (; hex[0] != '\0'; hex += 2) {
        while (*hex == ' ')
            hex++;
        unsigned value = 0;
        assert_int_equal(sscanf(hex, "%2x", &value), 1);
        bytes[len++] = (uint8_t)value;
    }
    return len;
}

/* From a copy of exactly that size, so that the sanitizers see each byte read beyond it. */
static bool decode(const uint8_t *bytes, size_t len, bool in_stream, PgoMessage *ret_message) {
    uint8_t *copy = arena_alloc(arena, 0);

    if (len > 0) {
        copy = malloc(len);
        assert_non_null(copy);
        memcpy(copy, bytes, len);
    }
    bool decoded = pgo_decode(arena, copy, len, in_stream, ret_message, &err);
    if (decoded) /* what it points to is compared later */
        decoded = pgo_decode(arena, memcpy(arena_alloc(arena, len), copy, len), len, in_stream, ret_message, &err);
    if (len > 0)
        free(copy);
    return decoded;
}

static void refuse(const uint8_t *bytes, size_t len, bool in_stream) {
    PgoMessage message = {.type = 0};

    if (decode(bytes, len, in_stream, &message))
        fail_msg("%zu bytes of type %c were taken", len, bytes[0]);
    assert_int_equal(err.reason, REASON_WIRE_BAD);
    assert_int_equal(message.type, 0);
}

static void damage(const uint8_t *bytes, size_t len, bool in_stream) {
    enum { ABORT_SHORT = 9 };
    uint8_t longer[LINE_MAX];

    for (size_t cut = 0; cut < len; cut++)
        if (bytes[0] != PGO_STREAM_ABORT || cut != ABORT_SHORT) /* that is version 2 and 3's whole message */
            refuse(bytes, cut, in_stream);
    memcpy(longer, bytes, len);
    longer[len] = 0;
    refuse(longer, len + 1, in_stream);
}

static bool read_line(FILE *file, char *line) {
    if (fgets(line, 2 * LINE_MAX, file) == NULL)
        return false;
    line[strcspn(line, "\n")] = '\0';
    return true;
}

static void replay(const char *name, bool seen[256], bool *seen_value) {
    static char line[2 * LINE_MAX];
    static uint8_t bytes[LINE_MAX];
    char path[512];
    bool in_stream = false;

    snprintf(path, sizeof(path), "%s/pgoutput/%s.txt", TEST_DATA_DIR, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (read_line(file, line)) {
        PgoMessage message;
        size_t len = from_hex(line, bytes);
        assert_true(read_line(file, line));
        if (!decode(bytes, len, in_stream, &message))
            fail_msg("%s: %s: %s", name, line, err.message);
        assert_string_equal(show(&message), line);
        damage(bytes, len, in_stream);
        seen[(unsigned char)message.type] = true;
        if (message.type == PGO_UPDATE)
            for (uint16_t i = 0; i < message.row.new_tuple.count; i++)
                seen_value[message.row.new_tuple.values[i].kind] = true;
        in_stream = message.type == PGO_STREAM_START || (in_stream && message.type != PGO_STREAM_STOP);
    }
    assert_false(in_stream);
    fclose(file);
}

static void test_captures(void **state) {
    bool seen[256] = {false}, seen_value[256] = {false};
    int types = 0;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(captures); i++) {
        replay(captures[i], seen, seen_value);
        arena_reset(arena);
    }
    for (size_t i = 0; i < COUNT_OF(seen); i++)
        types += seen[i];
    assert_int_equal(types, ALL_TYPES);
    assert_true(seen_value['n'] && seen_value['u'] && seen_value['t'] && seen_value['b']);
}

/* --- By hand ------------------------------------------------------------------------------------------------------ */

static PgoMessage good(const char *hex, bool in_stream) {
    static uint8_t bytes[LINE_MAX];
    PgoMessage message;

    if (!decode(bytes, from_hex(hex, bytes), in_stream, &message))
        fail_msg("%s: %s", hex, err.message);
    return message;
}

static void bad(const char *hex, const char *complaint, size_t at) {
    uint8_t bytes[1024];
    char place[32];

    refuse(bytes, from_hex(hex, bytes), false);
    snprintf(place, sizeof(place), "(at byte %zu)", at);
    if (strstr(err.message, complaint) == NULL || strstr(err.message, place) == NULL)
        fail_msg("%s: %s", hex, err.message);
}

static void test_begin_by_hand(void **state) {
    PgoMessage message = good("42 00000016B374D848 FFFFFFFFFFFFFFFF FFFFFFFE", false);

    (void)state;
    assert_int_equal(message.type, PGO_BEGIN);
    assert_true(message.transaction.lsn == UINT64_C(0x16B374D848));
    assert_int_equal(message.transaction.time_us, -1);
    assert_int_equal(message.transaction.xid, UINT32_MAX - 1);
    assert_null(message.transaction.gid);
}

static void test_values_point_into_the_bytes(void **state) {
    static const uint8_t bytes[] = "I\0\0\0\7N\0\3t\0\0\0\2hib\0\0\0\0u";
    PgoMessage message;

    (void)state;
    size_t before = arena_used(arena);
    assert_true(pgo_decode(arena, bytes, sizeof(bytes) - 1, false, &message, &err));
    assert_int_equal(message.row.relation, 7);
    assert_int_equal(message.row.old_kind, 0);
    assert_int_equal(message.row.old_tuple.count, 0);
    assert_int_equal(message.row.new_tuple.count, 3);
    const PgoValue *values = message.row.new_tuple.values;
    assert_ptr_equal(values[0].bytes, bytes + 13);
    assert_int_equal(values[0].len, 2);
    assert_int_equal(values[1].kind, PGO_BINARY);
    assert_int_equal(values[1].len, 0);
    assert_non_null(values[1].bytes);
    assert_int_equal(values[2].kind, PGO_UNCHANGED);
    assert_int_equal(arena_used(arena) - before, 3 * sizeof(PgoValue));
}

static void test_stream_xid_only_inside_a_stream(void **state) {
    const char *truncate = "54 00000001 00000001 00 00000009";

    (void)state;
    assert_int_equal(good("54 0000002A 00000001 00 00000009", true).stream_xid, 42);
    assert_int_equal(good("54 00000001 02 00000009", false).stream_xid, 0);
    bad(truncate, "there is more behind its end", 10);
    /* These have their own place for it. */
    assert_int_equal(good("53 0000002A 01", true).stream_xid, 0);
    assert_int_equal(good("4F 0000000000000001 6100", true).stream_xid, 0);
}

static void test_abort_of_each_version(void **state) {
    PgoMessage message = good("41 00000005 00000006", false);

    (void)state;
    assert_int_equal(message.transaction.subxid, 6);
    assert_int_equal(message.transaction.lsn, 0);
    message = good("41 00000005 00000006 0000000000000007 0000000000000008", false);
    assert_int_equal(message.transaction.lsn, 7);
    assert_int_equal(message.transaction.time_us, 8);
}

static void test_truncate_options(void **state) {
    (void)state;
    PgoTruncate truncate = good("54 00000000 01", false).truncate;
    assert_true(truncate.cascade);
    assert_false(truncate.restart_identity);
    truncate = good("54 00000000 02", false).truncate;
    assert_false(truncate.cascade);
    assert_true(truncate.restart_identity);
    assert_int_equal(truncate.relations_count, 0);
}

static void test_malformed(void **state) {
    (void)state;
    bad("42", "begin of 1 bytes: it ends too early", 1);
    bad("43 01 0000000000000001 0000000000000001 0000000000000001", "commit of 26 bytes: it has unknown flags", 2);
    bad("53 00000001 02", "unknown flags", 6);
    bad("54 00000000 04", "unknown flags", 6);
    bad("4D 02 0000000000000001 00 00000000", "unknown flags", 2);
    bad("4D 00 0000000000000001 7878", "a string has no end", 10);
    bad("4D 00 0000000000000001 00 FFFFFFFF", "it ends too early", 15);
    bad("52 00000001 00 00 78 0000", "replica identity", 8);
    bad("52 00000001 00 00 00 0000", "replica identity", 8);
    bad("52 00000001 00 00 64 FFFF", "fewer columns", 10);
    bad("52 00000001 00 00 64 0001 02 6100 00000017 FFFFFFFF", "unknown flags", 11);
    bad("52 00000001 00 00 64 0001 01 61616161616161616161", "a string has no end", 11);
    bad("49 00000001 4B 0000", "the new row is missing", 6);
    bad("49 00000001 00 0000", "the new row is missing", 6);
    bad("49 00000001 4E FFFF", "fewer values", 8);
    bad("49 00000001 4E 0001 7A", "unknown kind", 9);
    bad("49 00000001 4E 0001 74 FFFFFFFF", "it ends too early", 13);
    bad("49 00000001 4E 0001 74 80000000 00", "it ends too early", 13);
    bad("55 00000001 58 0000", "the old row is missing", 6);
    bad("55 00000001 4B 0000 4B 0000", "the new row is missing", 9);
    bad("44 00000001 4E 0000", "the old row is missing", 6);
    bad("54 FFFFFFFF 00 00000001", "fewer tables", 6);
    bad("45 00", "there is more", 1);
}

static void test_no_such_type(void **state) {
    PgoMessage message;

    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        uint8_t byte = (uint8_t)type;
        if (strcmp(pgo_type_name((PgoType)type), "unknown") != 0)
            continue;
        assert_false(pgo_decode(arena, &byte, 1, false, &message, &err));
        assert_non_null(strstr(err.message, "unknown type"));
    }
    assert_false(pgo_decode(arena, "", 0, false, &message, &err));
    assert_string_equal(err.message, "the source sent an empty message");
}

static void test_names(void **state) {
    (void)state;
    assert_string_equal(pgo_type_name(PGO_ROLLBACK_PREPARED), "rollback prepared");
    assert_string_equal(pgo_type_name(PGO_STREAM_PREPARE), "stream prepare");
    assert_string_equal(pgo_type_name((PgoType)'z'), "unknown");
    assert_string_equal(pgo_type_name((PgoType)-1), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_captures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_begin_by_hand, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_values_point_into_the_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stream_xid_only_inside_a_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_abort_of_each_version, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncate_options, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_malformed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_such_type, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
