/* What is kept of a job's sessions, and the page that is made of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/job_report.h"

#include <string.h>

static json_t *parse(const char *text) {
    json_error_t where;
    json_t *json = json_loads(text, 0, &where);

    if (json == NULL)
        fail_msg("%s: %s", text, where.text);
    return json;
}

static json_t *merged(json_t *before, const char *text, int64_t run, bool is_anew) {
    CLEANUP(json_freep) json_t *said = parse(text);
    CLEANUP(json_freep) json_t *owned = before;

    return database_report_merge(owned, said, run, is_anew);
}

#define COPYING(us, rows)                                                                                              \
    "{\"updated_at\": \"t\", \"progress\": {\"rows_done\": " #rows                                                     \
    ", \"wire_bytes\": 10, \"tables_done\": 2, \"phases\":"                                                            \
    " [{\"phase\": \"COPY\", \"elapsed_us\": " #us ", \"done\": 3}, {\"phase\": \"INDEX\", \"elapsed_us\": 0}]}}"
#define PROMOTED                                                                                                       \
    "{\"progress\": {\"rows_done\": 0, \"cdc\": {\"transactions\": 9, \"inserts\": 4}, \"phases\": [{\"phase\": "      \
    "\"COPY\","                                                                                                        \
    " \"elapsed_us\": 0}, {\"phase\": \"CDC\", \"elapsed_us\": 2000000}]}, \"promoted\": {\"ok\": true, \"opened\": "  \
    "true,"                                                                                                            \
    " \"proven\": true, \"outage_us\": 250000, \"marker\": \"0/1\", \"sequences\": 2, \"steps\": [{\"name\": "         \
    "\"fence\","                                                                                                       \
    " \"us\": 1000}]}}"
#define ENDED                                                                                                          \
    "{\"progress\": {\"phases\": []}, \"report\": {\"source\": \"here\", \"source_version\": \"15.2\", "               \
    "\"dest_version\":"                                                                                                \
    " \"18.1\", \"source_bytes\": 100, \"dest_bytes\": -1, \"promoted\": true, \"proven\": true, \"notes\": "          \
    "[\"look\"],"                                                                                                      \
    " \"not_moved\": [{\"kind\": \"PUBLICATION\", \"object\": \"p\", \"reason\": \"no\", \"sql\": \"CREATE "           \
    "PUBLICATION"                                                                                                      \
    " p;\"}, {\"kind\": \"database setting\", \"object\": \"ALTER DATABASE d SET app.key TO 'geheim'\", \"reason\":"   \
    " \"no\", \"sql\": \"ALTER ROLE \\\"x SET y TO z\\\" IN DATABASE d SET app.key TO 'geheim';\"}]}}"

static double seconds_of(const json_t *report, size_t phase) {
    return json_get_real(json_array_get(json_get_array(report, "phases"), phase), "seconds", -1);
}

/* Two sessions that copy, and the same one looked at twice. */
static void test_sessions_add_up(void **state UNUSED) {
    json_t *report = merged(NULL, COPYING(1000000, 50), 1, false);
    report = merged(report, COPYING(2000000, 70), 1, false);
    assert_float_equal(seconds_of(report, 0), 2.0, 1e-9);
    report = merged(report, COPYING(500000, 60), 2, false);
    report = merged(report, COPYING(600000, 60), 2, false);
    CLEANUP(json_freep) json_t *last = report;
    assert_float_equal(seconds_of(last, 0), 2.6, 1e-9);
    assert_int_equal(json_array_size(json_get_array(last, "phases")), 1);
    const json_t *copied = json_get_object(last, "copied");
    assert_int_equal(json_get_int(copied, "rows", 0), 70);
    assert_int_equal(json_get_int(copied, "wireBytes", 0), 20);
    database_report_close(last);
    assert_null(json_object_get(last, "sums"));
}

/* A destination that was emptied holds nothing of what was before. */
static void test_begun_anew(void **state UNUSED) {
    json_t *report = merged(NULL, COPYING(1000000, 50), 1, false);
    CLEANUP(json_freep) json_t *anew = merged(report, COPYING(1000000, 5), 2, true);

    assert_int_equal(json_get_int(json_get_object(anew, "copied"), "rows", 0), 5);
    assert_float_equal(seconds_of(anew, 0), 1.0, 1e-9);
}

/* The session that promoted died before its report: another one closed what was left. */
static void test_promote_is_kept(void **state UNUSED) {
    json_t *report = merged(merged(NULL, COPYING(1000000, 50), 1, false), PROMOTED, 2, false);
    CLEANUP(json_freep) json_t *last = merged(report, ENDED, 3, false);
    const json_t *promote = json_get_object(last, "promote");
    CLEANUP(arena_freep) Arena *arena = arena_new();

    assert_float_equal(json_get_real(promote, "outageSeconds", -1), 0.25, 1e-9);
    assert_int_equal(json_array_size(json_get_array(promote, "steps")), 1);
    assert_non_null(strstr(report_proof_text(arena, promote), "marker at 0/1"));
    assert_int_equal(json_get_int(json_get_object(last, "followed"), "transactions", 0), 9);
    assert_int_equal(json_get_int(json_get_object(last, "followed"), "inserts", 0), 4);
    assert_int_equal(json_get_int(json_get_object(last, "source"), "bytes", 0), 100);
    assert_null(json_object_get(json_get_object(last, "destination"), "bytes"));
    assert_true(json_get_bool(last, "complete", false));
}

/* The value of an application's own setting may be a secret. */
static void test_no_values_of_settings(void **state UNUSED) {
    CLEANUP(json_freep) json_t *report = merged(NULL, ENDED, 1, false);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, 1 << 20);
    json_print(report, 0, &text);
    assert_null(strstr(text.data, "geheim"));
    assert_non_null(strstr(text.data, "ALTER DATABASE d SET app.key TO '...'"));
    assert_non_null(strstr(text.data, "x SET y TO z\\\" IN DATABASE d SET app.key TO '...'"));
    assert_non_null(strstr(text.data, "CREATE PUBLICATION p;"));
}

/* Cut between two characters, and counted. */
static void test_lists_are_bounded(void **state UNUSED) {
    CLEANUP(json_freep) json_t *list = json_array();
    CLEANUP(buf_fini) Buf name;

    buf_init(&name, 1 << 20);
    buf_append_char(&name, 'x');
    for (int i = 0; i < REPORT_TEXT_MAX; i++)
        buf_append_str(&name, "ä");
    for (int i = 0; i < REPORT_ITEMS_MAX + 5; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:s}", "kind", "INDEX", "object", name.data));
    CLEANUP(json_freep) json_t *said = json_pack("{s:{s:O}}", "report", "not_moved", list);
    CLEANUP(json_freep) json_t *report = database_report_merge(NULL, said, 1, false);
    const json_t *kept = json_get_array(report, "notMoved");
    assert_int_equal(json_array_size(kept), REPORT_ITEMS_MAX);
    assert_int_equal(json_get_int(report, "notMovedMore", 0), 5);
    assert_int_equal(strlen(json_get_string(json_array_get(kept, 0), "object", "")), REPORT_TEXT_MAX - 1);
    report_shorten(report);
    assert_null(json_object_get(report, "notMoved"));
    assert_int_equal(json_get_int(report, "notMovedMore", 0), REPORT_ITEMS_MAX + 5);
    CLEANUP(json_freep) json_t *databases = json_pack("[O]", report);
    CLEANUP(json_freep) json_t *totals = job_report_totals(databases);
    assert_int_equal(json_get_int(totals, "notMoved", 0), REPORT_ITEMS_MAX + 5);
}

#define EVIL "<script>alert('x\\\"&')</script>"
static const char evil_report[] =
    "{\"name\": \"" EVIL "\", \"displayName\": \"" EVIL "\", \"state\": \"" EVIL "\", \"source\": \"" EVIL
    "\", \"totals\": {}, \"instance\": {\"databasesLeftOut\": [{\"database\": \"" EVIL "\", \"reason\": \"" EVIL
    "\"}], \"findings\": [{\"id\": \"" EVIL "\", \"object\": \"" EVIL "\", \"message\": \"" EVIL "\", \"fix\": \"" EVIL
    "\"}]}, \"databases\": [{\"database\": \"" EVIL "\", \"phase\": \"" EVIL "\", \"error\": {\"message\": \"" EVIL
    "\"}, \"source\": {\"server\": \"" EVIL "\", \"version\": \"" EVIL "\"}, \"notes\": [\"" EVIL
    "\"], \"notMoved\": [{\"kind\": \"" EVIL "\", \"object\": \"" EVIL "\", \"reason\": \"" EVIL "\", \"sql\": \"" EVIL
    "\"}], \"warnings\": [{\"id\": \"" EVIL "\", \"message\": \"" EVIL "\"}], \"phases\": [{\"phase\": \"" EVIL
    "\", \"seconds\": 1}], \"promote\": {\"proven\": true, \"marker\": \"" EVIL "\", \"steps\": [{\"name\": \"" EVIL
    "\", \"seconds\": 1}]}}]}";

static size_t count_of(const char *text, const char *what) {
    size_t count = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

static void test_page_is_escaped(void **state UNUSED) {
    CLEANUP(json_freep) json_t *report = parse(evil_report);
    CLEANUP(buf_fini) Buf page;

    buf_init(&page, 1 << 20);
    report_html(report, &page);
    assert_null(strstr(page.data, "<script"));
    assert_null(strstr(page.data, "alert('"));
    assert_true(count_of(page.data, "&lt;script&gt;alert(&#39;x&quot;&amp;&#39;)&lt;/script&gt;") > 15);
    assert_null(strstr(page.data, "http"));
    assert_null(strstr(page.data, "src="));
}

/* A job of which nothing is known yet has a page, too. */
static void test_empty(void **state UNUSED) {
    CLEANUP(json_freep) json_t *report = parse("{}");
    CLEANUP(json_freep) json_t *totals = job_report_totals(NULL);
    CLEANUP(buf_fini) Buf page;

    buf_init(&page, 1 << 20);
    report_html(report, &page);
    assert_non_null(strstr(page.data, "</html>"));
    assert_int_equal(json_get_int(totals, "databases", -1), 0);
    assert_null(json_object_get(totals, "longestOutageSeconds"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions_add_up),
        cmocka_unit_test(test_begun_anew),
        cmocka_unit_test(test_promote_is_kept),
        cmocka_unit_test(test_no_values_of_settings),
        cmocka_unit_test(test_lists_are_bounded),
        cmocka_unit_test(test_page_is_escaped),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
