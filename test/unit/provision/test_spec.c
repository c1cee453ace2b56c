/* Specs, statuses and journals of instances. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/fd.h"
#include "provision/journal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Place {
    Arena *arena;
    char folder[64];
    ProvisionConfig config;
} Place;

static int set_up(void **state) {
    Place *place = test_malloc(sizeof(*place));

    *place = (Place){.arena = arena_new(), .folder = "/tmp/pgcrane-unit-XXXXXX"};
    assert_non_null(mkdtemp(place->folder));
    place->config = (ProvisionConfig){.state_dir = place->folder};
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    Place *place = *state;
    Error err;

    assert_true(fd_remove_tree(place->folder, &err));
    arena_free(place->arena);
    test_free(place);
    return 0;
}

static void test_spec(void **state) {
    Place *place = *state;
    ProvisionSpec spec = {.id = "a-1",
                          .major = 17,
                          .mode = PROVISION_PRIMARY,
                          .provider = "icu",
                          .locale = "de-DE",
                          .cpus = 2,
                          .memory_mb = 512,
                          .require_tls = true,
                          .password = "p\"ä"};
    const ProvisionFlag flag = {"work_mem", "8MB"};
    ProvisionSpec read;
    Error err;

    vec_push(place->arena, &spec.flags, flag);
    vec_push(place->arena, &spec.networks, "10.0.0.0/8");
    CLEANUP(json_freep) json_t *json = provision_spec_to_json(&spec);
    assert_true(provision_spec_from_json(place->arena, json, &read, &err));
    assert_string_equal(read.id, "a-1");
    assert_int_equal(read.major, 17);
    assert_int_equal(read.mode, PROVISION_PRIMARY);
    assert_null(read.collate);
    assert_string_equal(read.locale, "de-DE");
    assert_int_equal(read.memory_mb, 512);
    assert_true(read.require_tls && !read.regional);
    assert_string_equal(read.password, "p\"ä");
    assert_int_equal(read.flags.len, 1);
    assert_string_equal(read.flags.items[0].value, "8MB");
    assert_string_equal(read.networks.items[0], "10.0.0.0/8");
    CLEANUP(json_freep) json_t *again = provision_spec_to_json(&read);
    assert_true(json_equal(json, again));
}

static void test_bad_spec(void **state) {
    static const char *const texts[] = {
        "{}",
        "{\"id\": \"a\"}",
        "{\"id\": \"a\", \"mode\": \"FAST\"}",
        "{\"id\": \"a\", \"mode\": \"LOAD\", \"flags\": [{\"name\": \"x\"}]}",
        "{\"id\": \"a\", \"mode\": \"LOAD\", \"networks\": [1]}",
    };
    Place *place = *state;

    for (size_t at = 0; at < COUNT_OF(texts); at++) {
        CLEANUP(json_freep) json_t *json = NULL;
        ProvisionSpec spec;
        Error err;
        assert_true(json_parse(texts[at], strlen(texts[at]), &json, &err));
        assert_false(provision_spec_from_json(place->arena, json, &spec, &err));
        assert_int_equal(err.reason, REASON_WIRE_BAD);
    }
}

static void test_status(void **state) {
    Place *place = *state;
    const ProvisionStatus status = {.state = PROVISION_STATE_DAMAGED,
                                    .mode = PROVISION_LOAD,
                                    .system_identifier = "712",
                                    .endpoint = {.host = "127.0.0.1", .port = 15432, .user = "postgres", .ca = "PEM"},
                                    .disk_used_mb = 7,
                                    .trouble = "bad"};
    CLEANUP(json_freep) json_t *json = provision_status_to_json(&status);
    CLEANUP(json_freep) json_t *bad = json_pack("{s:s}", "state", "ODD");
    ProvisionStatus read;
    Error err;

    assert_true(provision_status_from_json(place->arena, json, &read, &err));
    assert_int_equal(read.state, PROVISION_STATE_DAMAGED);
    assert_int_equal(read.mode, PROVISION_LOAD);
    assert_int_equal(read.endpoint.port, 15432);
    assert_null(read.endpoint.password);
    assert_string_equal(read.endpoint.ca, "PEM");
    assert_string_equal(read.trouble, "bad");
    assert_false(provision_status_from_json(place->arena, bad, &read, &err));
    assert_string_equal(provision_state_name(PROVISION_STATE_ABSENT), "ABSENT");
    assert_string_equal(provision_mode_name(PROVISION_LOAD), "LOAD");
    assert_int_equal(provision_mode_from_name("MIGRATING"), PROVISION_MIGRATING);
    assert_int_equal(provision_mode_from_name(""), PROVISION_MODE_MAX_);
}

/* ---- The journal ---- */

static void test_journal(void **state) {
    Place *place = *state;
    CLEANUP(provision_journal_closep) ProvisionJournal *journal = NULL, *other = NULL;
    Error err;

    assert_true(provision_journal_open(place->arena, &place->config, "a", &journal, &err));
    assert_false(provision_journal_exists(journal));
    assert_null(provision_journal_get(journal, "port"));
    assert_true(provision_journal_strike(journal, "port", &err));
    assert_false(provision_journal_exists(journal)); /* nothing to strike: nothing written */
    assert_true(provision_journal_note(journal, "port", json_pack("{s:i}", "port", 5), &err));
    assert_true(provision_journal_open(place->arena, &place->config, "a", &other, &err));
    assert_true(provision_journal_exists(other));
    assert_int_equal(json_get_int(provision_journal_get(other, "port"), "port", 0), 5);
    assert_true(provision_journal_strike(other, "port", &err));
    assert_true(provision_journal_end(other, &err));
    assert_int_equal(access(provision_journal_folder(other), F_OK), -1);
}

static void test_bad_ids(void **state) {
    static const char *const ids[] = {"",   "-a",  "A", "a/b",
                                      "..", "a b", "ä", "a2345678901234567890123456789012345678901"};
    Place *place = *state;

    for (size_t at = 0; at < COUNT_OF(ids); at++) {
        ProvisionJournal *journal = NULL;
        Error err;
        assert_false(provision_journal_open(place->arena, &place->config, ids[at], &journal, &err));
        assert_int_equal(err.reason, REASON_PROVISION_REFUSED);
    }
}

static void write_journal(const Place *place, const char *id, const char *text) {
    const char *folder = arena_printf(place->arena, "%s/instances/%s", place->folder, id);
    Error err;

    assert_true(fd_make_dirs(folder, &err));
    assert_true(fd_write_file(arena_printf(place->arena, "%s/journal.json", folder), text, strlen(text), 0600, &err));
}

static bool count_one(const char *id, const ProvisionJournal *journal, void *context, Error *err UNUSED) {
    assert_string_equal(id, "good");
    assert_true(provision_journal_exists(journal));
    *(int *)context += 1;
    return true;
}

static void test_damaged_journals(void **state) {
    static const char *const texts[] = {"", "{", "[]", "{\"id\": \"bad\"}", "{\"id\": \"other\", \"steps\": {}}"};
    Place *place = *state;
    int count = 0;
    Error err;

    assert_true(provision_journals_each(&place->config, count_one, &count, &err)); /* no folder yet */
    for (size_t at = 0; at < COUNT_OF(texts); at++) {
        ProvisionJournal *journal = NULL;
        write_journal(place, "bad", texts[at]);
        assert_false(provision_journal_open(place->arena, &place->config, "bad", &journal, &err));
        assert_int_equal(err.reason, REASON_BAD_DATA);
    }
    write_journal(place, "good", "{\"id\": \"good\", \"steps\": {}}");
    assert_true(provision_journals_each(&place->config, count_one, &count, &err));
    assert_int_equal(count, 1);
}

static void test_lock(void **state) {
    Place *place = *state;
    CLEANUP(provision_journal_closep) ProvisionJournal *journal = NULL, *other = NULL;
    CLEANUP(fd_close) int fd = -1, second = -1;
    Error err;

    assert_true(provision_journal_open(place->arena, &place->config, "a", &journal, &err));
    assert_true(provision_journal_open(place->arena, &place->config, "a", &other, &err));
    assert_true(provision_lock(journal, &fd, &err));
    assert_true(fd >= 0);
    assert_true(provision_lock(other, &second, &err));
    assert_int_equal(second, -1);
    assert_true(provision_journal_note(journal, "x", json_object(), &err));
    fd_close(&fd);
    assert_true(provision_lock(other, &second, &err));
    assert_true(second >= 0 && provision_journal_exists(other)); /* read again */
    assert_true(provision_journal_end(other, &err));
    assert_true(provision_lock(journal, &fd, &err)); /* a new file: the one before has no name any more */
    assert_true(fd >= 0 && !provision_journal_exists(journal));
}

static void test_strangers(void **state) {
    Place *place = *state;
    CLEANUP(provision_journal_closep) ProvisionJournal *journal = NULL;
    int fd = -1;
    Error err;

    assert_true(provision_journal_open(place->arena, &place->config, "a", &journal, &err));
    assert_true(provision_journal_note(journal, "x", json_object(), &err));
    const char *stranger = arena_printf(place->arena, "%s/theirs", provision_journal_folder(journal));
    assert_true(fd_write_file(stranger, "x", 1, 0600, &err));
    assert_false(provision_journal_end(journal, &err));
    assert_non_null(strstr(err.message, "theirs"));
    assert_int_equal(unlink(arena_printf(place->arena, "%s/journal.json", provision_journal_folder(journal))), 0);
    assert_false(provision_lock(journal, &fd, &err)); /* the journal it knew of is gone: what is left is somebody's */
    assert_int_equal(err.reason, REASON_PROVISION_REFUSED);
    assert_int_equal(fd, -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_spec, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_spec, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_journal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_ids, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_journals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_strangers, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
