/* Commands that a refused promote offers: they can be pasted into a shell, and name all databases or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "jobs/anew.h"
#include "jobs/promotable.h"

#include <string.h>

#define JOB "projects/p/locations/l/migrationJobs/"

static void add_lost(PromotableList *list, const char *database) {
    promotable_add(
        list, &(Promotable){.database = database, .state = "FAILED", .phase = "", .error = "", .needs_anew = true});
}

static void add_following(PromotableList *list, const char *database) {
    promotable_add(list, &(Promotable){.database = database, .state = "RUNNING", .phase = "CDC", .error = ""});
}

static void test_names_for_a_shell(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    PromotableList list = {.arena = arena, .job = JOB "move"};
    Error err;

    add_lost(&list, "my db");
    add_following(&list, "it's");
    assert_false(promotable_end(&list, &err));
    assert_string_equal(err.remedy, "begin anew what cannot go on: pgcrane jobs restart move --database 'my db';"
                                    " or promote the others by themselves: pgcrane jobs promote move"
                                    " --database 'it'\\''s'");
    assert_non_null(strstr(err.message, ": my db (FAILED)"));
    assert_string_equal(anew_command(arena, JOB "move", "$x"), "pgcrane jobs restart move --database '$x'");
}

/* With the longest name of a job. */
static void test_many(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char id[64];
    PromotableList list = {.arena = arena};
    Error err;

    memset(id, 'j', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    list.job = arena_printf(arena, JOB "%s", id);
    for (int i = 0; i < 9; i++) {
        add_lost(&list, arena_printf(arena, "lost_database_%d", i));
        add_following(&list, arena_printf(arena, "following_database_%d", i));
    }
    promotable_add(&list, &(Promotable){.database = "ended", .state = "STOPPED", .phase = "", .error = ""});
    assert_false(promotable_end(&list, &err));
    assert_string_equal(err.remedy,
                        arena_printf(arena,
                                     "begin anew what cannot go on: pgcrane jobs restart %s --database NAME ...;"
                                     " mend it and go on: pgcrane jobs resume %s; or promote the others by"
                                     " themselves: pgcrane jobs promote %s --database NAME ...",
                                     id, id, id));
}

/* The longest lists that are still named leave room for all the rest. */
static void test_fits(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char id[64], name[80];
    PromotableList list = {.arena = arena};
    Error err;

    memset(id, 'j', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    list.job = arena_printf(arena, JOB "%s", id);
    add_lost(&list, name);
    add_following(&list, name);
    promotable_add(&list, &(Promotable){.database = "ended", .state = "STOPPED", .phase = "", .error = ""});
    assert_false(promotable_end(&list, &err));
    const char *end = arena_printf(arena, "pgcrane jobs promote %s --database %s", id, name);
    assert_true(strlen(err.remedy) > strlen(end));
    assert_string_equal(err.remedy + strlen(err.remedy) - strlen(end), end);
}

/* Where something else mends it there is no need to begin anew. */
static void test_what_only_a_new_copy_mends(void **state UNUSED) {
    static const ErrorReason reasons[] = {REASON_LEDGER_MISMATCH, REASON_SOURCE_WENT_BACK};
    Error err;

    for (size_t at = 0; at < COUNT_OF(reasons); at++) {
        error_set(&err, reasons[at], "x");
        assert_true(anew_mends(&err));
        error_remedy(&err, "connect to the other server");
        assert_false(anew_mends(&err));
    }
    error_set(&err, REASON_SLOT_LOST, "x");
    error_remedy(&err, "start over with --restart");
    assert_true(anew_mends(&err));
    error_set(&err, REASON_UNREACHABLE, "x");
    assert_false(anew_mends(&err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_for_a_shell),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_fits),
        cmocka_unit_test(test_what_only_a_new_copy_mends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
