/* Unit test of foreign_keys.c against scripted servers: what exists, partitions, violated keys, failures. */
#include "fake_load.h"

static FakeLoad load;
static Error err;

static int set_up(void **state) {
    (void)state;
    fake_load_begin(&load);
    err = (Error){0};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fake_load_end(&load);
    return 0;
}

static bool run(void) {
    return load_foreign_keys(fake_load_params(&load), load.control.conn, load.arena, &err);
}

static size_t add_key(const char *name, const char *sql) {
    return small_toc_add(&load.small, "FK CONSTRAINT", name, sql, NULL, 0);
}

static size_t plain_key(void) {
    return add_key("t f", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.r(id);\n");
}

/* clang-format off */
/* is the table partitioned, is the constraint there, is it validated */
#define LOOK(partitioned, exists, validated)                                                                           \
    FAKE_ROW("WHERE c.oid = pg_catalog.to_regclass($1)", partitioned, exists, validated)
#define ADD(has) FAKE_BEGIN, FAKE_OK(has), FAKE_OK("COMMIT")
#define VALIDATE(has) FAKE_BEGIN, FAKE_OK(has), FAKE_OK("COMMIT")
#define FINISH FAKE_BEGIN, FAKE_OK("SELECT 1"), FAKE_OK("INSERT INTO pgcrane.entry"), FAKE_OK("COMMIT")
/* clang-format on */

static void assert_played(void) {
    fake_side_played(&load.control);
    fake_played(load.dest);
    fake_played(load.source);
}

static PhaseProgress phase(void) {
    Progress progress = {0};

    tracker_read(load.tracker, load.arena, &progress);
    return progress.phases[PHASE_FOREIGN_KEY];
}

static void test_add_and_validate(void **state) {
    (void)state;
    size_t key = plain_key();
    fake_side_play(&load.control, LOOK("f", "f", "f"), LOOK("f", "f", "f"),
                   ADD("ALTER TABLE ONLY public.t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.r(id) NOT VALID"),
                   FINISH);
    fake_play(load.dest, VALIDATE("ALTER TABLE public.t VALIDATE CONSTRAINT f"));
    assert_true(run());
    assert_played();
    assert_true(load.small.done[key]);
    assert_int_equal(phase().done, 1);
    assert_int_equal(phase().total, 1);
}

static void test_nothing_to_do(void **state) {
    (void)state;
    load.small.done[plain_key()] = true;
    load.small.chosen[plain_key()] = false;
    small_toc_table(&load.small, "t", 10, 1, 0);
    assert_true(run());
    assert_played();
    assert_int_equal(phase().done, 1);
    assert_int_equal(phase().total, 1);
}

static void test_added_before(void **state) {
    (void)state;
    plain_key();
    fake_side_play(&load.control, LOOK("f", "t", "f"), LOOK("f", "t", "f"), FINISH);
    fake_play(load.dest, VALIDATE("VALIDATE CONSTRAINT f"));
    assert_true(run());
    assert_played();
}

static void test_validated_before(void **state) {
    (void)state;
    size_t key = plain_key();
    fake_side_play(&load.control, LOOK("f", "t", "t"), LOOK("f", "t", "t"), FINISH);
    assert_true(run());
    assert_played(); /* no lane had anything to do */
    assert_true(load.small.done[key]);
}

static void stays_as_it_was(const char *ending) {
    add_key("t f", arena_printf(load.arena,
                                "ALTER TABLE ONLY public.t\n"
                                "    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.r(id)%s;\n",
                                ending));
    fake_side_play(&load.control, LOOK("f", "f", "f"), LOOK("f", "f", "f"),
                   ADD(arena_printf(load.arena, "REFERENCES public.r(id)%s", ending)), FINISH);
    assert_true(run());
    assert_played();
}

static void test_not_valid_on_the_source(void **state) {
    (void)state;
    stays_as_it_was(" NOT VALID");
}

static void test_not_valid_and_deferrable(void **state) {
    (void)state;
    stays_as_it_was(" ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID");
}

/* PostgreSQL 18: validating it is an error. */
static void test_not_enforced(void **state) {
    (void)state;
    stays_as_it_was(" NOT ENFORCED");
}

static void test_odd_names(void **state) {
    (void)state;
    add_key("t f", "ALTER TABLE ONLY \"s;1\".\"t \"\"x\"\n    ADD CONSTRAINT \"NOT VALID\" FOREIGN KEY (\"a;\")"
                   " REFERENCES public.r(\"NOT\") MATCH FULL;\n");
    fake_side_play(&load.control, LOOK("f", "f", "f"), LOOK("f", "f", "f"),
                   ADD("ALTER TABLE ONLY \"s;1\".\"t \"\"x\" ADD CONSTRAINT \"NOT VALID\" FOREIGN KEY (\"a;\")"
                       " REFERENCES public.r(\"NOT\") MATCH FULL NOT VALID"),
                   FINISH);
    fake_play(load.dest, VALIDATE("ALTER TABLE \"s;1\".\"t \"\"x\" VALIDATE CONSTRAINT \"NOT VALID\""));
    assert_true(run());
    assert_played();
}

static void test_unknown_forms(void **state) {
    static const char *const texts[] = {
        "CREATE SOMETHING;\n",
        "ALTER TABLE ONLY public.t\n    ADD FOREIGN KEY (a) REFERENCES r(id);\n",
        "ALTER TABLE",
        "",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        size_t key = add_key("t f", texts[i]);
        assert_false(run());
        assert_int_equal(err.reason, REASON_ARCHIVE_BAD);
        assert_non_null(strstr(err.message, "foreign key t f"));
        load.small.chosen[key] = false;
    }
    assert_played();
}

static void test_table_is_gone(void **state) {
    (void)state;
    plain_key();
    fake_side_play(&load.control, FAKE_OK("to_regclass"), FAKE_FAIL("to_regclass", "42501", "denied"));
    assert_false(run());
    assert_int_equal(err.reason, REASON_TABLE_CHANGED);
    assert_non_null(strstr(err.message, "table public.t of foreign key f is not on the destination"));
    assert_false(run());
    assert_string_equal(err.message, "looking at foreign key f: denied");
}

/* --- Partitions --- */

static size_t partitioned_key(void) {
    return add_key("p f", "ALTER TABLE public.p\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.r(id);\n");
}

static void test_partitions_before_18(void **state) {
    (void)state;
    partitioned_key();
    fake_side_play(&load.control, LOOK("t", "f", "f"), FAKE_ROWS_OF("pg_partition_tree", 1, "public.p1", "public.p2"),
                   LOOK("f", "f", "f"), ADD("ALTER TABLE ONLY public.p1 ADD CONSTRAINT f FOREIGN KEY"),
                   LOOK("f", "t", "t"), /* of the second: done by an earlier run */
                   FAKE_BEGIN,
                   FAKE_OK("ALTER TABLE public.p\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.r(id);"),
                   FAKE_OK("INSERT INTO pgcrane.entry"), FAKE_OK("COMMIT"));
    fake_play(load.dest, VALIDATE("ALTER TABLE public.p1 VALIDATE CONSTRAINT f"));
    assert_true(run());
    assert_played();
}

static void test_partitions_of_18(void **state) {
    (void)state;
    partitioned_key();
    load.control.fake->version = 180001;
    fake_side_play(&load.control, LOOK("t", "f", "f"), LOOK("t", "f", "f"),
                   ADD("ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.r(id) NOT VALID"), FINISH);
    fake_play(load.dest, VALIDATE("ALTER TABLE public.p VALIDATE CONSTRAINT f"));
    assert_true(run());
    assert_played();
}

static void test_partitions_before_12(void **state) {
    (void)state;
    partitioned_key();
    load.control.fake->version = 110022;
    fake_side_play(&load.control, LOOK("t", "f", "f"), FAKE_BEGIN, FAKE_OK("ALTER TABLE public.p"),
                   FAKE_OK("INSERT INTO pgcrane.entry"), FAKE_OK("COMMIT"));
    assert_true(run());
    assert_played();
}

/* The root's statement was committed, its line was not seen: nothing is added again. */
static void test_root_is_there(void **state) {
    (void)state;
    partitioned_key();
    fake_side_play(&load.control, LOOK("t", "t", "t"), FINISH);
    assert_true(run());
    assert_played();
}

static void test_partitions_cannot_be_listed(void **state) {
    (void)state;
    partitioned_key();
    fake_side_play(&load.control, LOOK("t", "f", "f"), FAKE_FAIL("pg_partition_tree", "57014", "cancelled"));
    assert_false(run());
    assert_string_equal(err.message, "listing the partitions of public.p: cancelled");
}

/* --- Failures --- */

static void test_adding_fails(void **state) {
    (void)state;
    size_t key = plain_key();
    load.control.fake->in_transaction = true;
    fake_side_play(&load.control, LOOK("f", "f", "f"), LOOK("f", "f", "f"), FAKE_BEGIN,
                   FAKE_FAIL("ADD CONSTRAINT", "42830", "no unique constraint matches"), FAKE_OK("ROLLBACK"));
    assert_false(run());
    assert_string_equal(err.message, "adding foreign key f to public.t: no unique constraint matches");
    assert_played();
    assert_false(load.small.done[key]);
}

static void test_adding_is_fenced(void **state) {
    (void)state;
    plain_key();
    fake_side_play(&load.control, LOOK("f", "f", "f"), LOOK("f", "f", "f"), FAKE_OK("FOR SHARE"));
    assert_false(run());
    assert_int_equal(err.reason, REASON_FENCED);
    assert_played();
}

static void test_violated(void **state) {
    (void)state;
    size_t key = plain_key();
    fake_side_play(&load.control, LOOK("f", "t", "f"), LOOK("f", "t", "f"));
    fake_play(load.dest, FAKE_BEGIN, FAKE_FAIL("VALIDATE", "23503", "violates foreign key constraint"));
    assert_false(run());
    assert_int_equal(err.reason, REASON_BAD_DATA);
    assert_non_null(strstr(err.message, "foreign key f of public.t is violated by the rows copied"));
    assert_non_null(strstr(err.remedy, "--restart"));
    assert_false(load.small.done[key]);
    assert_played();
}

static void test_validating_fails_for_good(void **state) {
    (void)state;
    plain_key();
    fake_side_play(&load.control, LOOK("f", "t", "f"), LOOK("f", "t", "f"));
    fake_play(load.dest, FAKE_BEGIN, FAKE_FAIL("VALIDATE", "42501", "must be owner"));
    assert_false(run());
    assert_string_equal(err.message, "validating foreign key f: must be owner");
    assert_string_equal(err.sqlstate, "42501");
}

static void test_validating_is_tried_again(void **state) {
    (void)state;
    plain_key();
    fake_side_play(&load.control, LOOK("f", "t", "f"), LOOK("f", "t", "f"), FINISH);
    fake_play(load.dest, FAKE_BEGIN, FAKE_FAIL("VALIDATE", "40P01", "deadlock detected"), VALIDATE("VALIDATE"));
    assert_true(run());
    assert_played();
    assert_int_equal(tracker_retries(load.tracker), 1);
}

static void test_finishing_fails(void **state) {
    (void)state;
    size_t key = plain_key();
    fake_side_play(&load.control, LOOK("f", "t", "t"), LOOK("f", "t", "t"), FAKE_BEGIN, FAKE_OK("SELECT 1"),
                   FAKE_FAIL("INSERT INTO pgcrane.entry", "23505", "twice"));
    assert_false(run());
    assert_non_null(strstr(err.message, "finishing foreign key t f"));
    assert_false(load.small.done[key]);
}

/* Two keys of one table are not validated at once: the second would wait for the first one's lock on a lane. With one
 * lane this shows in the order only: first of each table, then the rest. */
static void test_keys_of_one_table(void **state) {
    (void)state;
    plain_key();
    add_key("t g", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT g FOREIGN KEY (b) REFERENCES public.r(id);\n");
    fake_side_play(&load.control, LOOK("f", "t", "f"), LOOK("f", "t", "f"), LOOK("f", "t", "f"), LOOK("f", "t", "f"),
                   FINISH, FINISH);
    fake_play(load.dest, VALIDATE("public.t VALIDATE CONSTRAINT f"), VALIDATE("public.t VALIDATE CONSTRAINT g"));
    assert_true(run());
    assert_played();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_add_and_validate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_to_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_added_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_validated_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_valid_on_the_source, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_valid_and_deferrable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_enforced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_odd_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_forms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_table_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_partitions_before_18, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_partitions_of_18, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_partitions_before_12, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_root_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_partitions_cannot_be_listed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_adding_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_adding_is_fenced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_violated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_validating_fails_for_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_validating_is_tried_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_finishing_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_of_one_table, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
