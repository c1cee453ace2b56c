/* Unit test of the seam's pure parts: names, pictures of snapshots, and what they decide. */
#include "engine/seam/seam.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define EPOCH (UINT64_C(1) << 32)
enum { W = 1000, BELOW = 999 };

static int set_up(void **state) {
    *state = arena_new();
    return 0;
}

static int tear_down(void **state) {
    arena_free(*state);
    return 0;
}

static SeamPicture parse(Arena *arena, const char *text) {
    SeamPicture picture = {0};
    Error err = {0};

    assert_true(seam_picture_parse(arena, text, W, &picture, &err));
    return picture;
}

static void test_parse(void **state) {
    SeamPicture picture = parse(*state, "730:745:730,735,744");

    assert_int_equal(picture.xmin, 730);
    assert_int_equal(picture.xmax, 745);
    assert_int_equal(picture.running_count, 3);
    assert_int_equal(picture.running[0], 730);
    assert_int_equal(picture.running[1], 735);
    assert_int_equal(picture.running[2], 744);
    assert_int_equal(picture.w, W);
    picture = parse(*state, "741:741:");
    assert_int_equal(picture.running_count, 0);
    picture = parse(*state, "18446744073709551614:18446744073709551615:18446744073709551614");
    assert_true(picture.running[0] == UINT64_MAX - 1);
}

static void test_parse_refuses(void **state) {
    static const char *const bad[] = {
        "",
        ":",
        "730",
        "730:745",
        "730:745;",
        "730;745:",
        "a:745:",
        "730:b:",
        "745:730:",
        "730:745:x",
        "730:745:735,",
        "730:745:,735",
        "730:745:73",
        "730:745:745",
        "-1:745:",
        "730:745:730 ",
        " 730:745:",
        "730:745:735,731",
        "1:2:1,1",
        "1:9:2,,3",
        "730:745:735x",
        "1:18446744073709551616:",
    };

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        SeamPicture picture = {.xmin = 42};
        Error err = {0};

        if (seam_picture_parse(*state, bad[i], W, &picture, &err))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_int_equal(err.reason, REASON_BAD_DATA);
        assert_int_equal(picture.xmin, 42);
    }
}

/* Below W the xid decides, at W and above it is not looked at. */
static void test_w_decides_first(void **state) {
    SeamPicture picture = parse(*state, "730:745:");

    assert_true(seam_in_copy(&picture, 0, 700));
    assert_true(seam_in_copy(&picture, W - 1, 700));
    assert_false(seam_in_copy(&picture, W, 700)); /* the commit record begins where the marker ended */
    assert_false(seam_in_copy(&picture, W + 1, 700));
    assert_false(seam_in_copy(&picture, UINT64_MAX, 700));
    /* After a crash xids are used again: visible by its number, but new. */
    assert_false(seam_in_copy(&picture, W + 500, 729));
}

static void test_running(void **state) {
    SeamPicture picture = parse(*state, "730:745:730,735,744");

    assert_true(seam_in_copy(&picture, BELOW, 3));
    assert_true(seam_in_copy(&picture, BELOW, 729));
    assert_false(seam_in_copy(&picture, BELOW, 730));
    assert_true(seam_in_copy(&picture, BELOW, 731));
    assert_true(seam_in_copy(&picture, BELOW, 734));
    assert_false(seam_in_copy(&picture, BELOW, 735));
    assert_true(seam_in_copy(&picture, BELOW, 736));
    assert_true(seam_in_copy(&picture, BELOW, 743));
    assert_false(seam_in_copy(&picture, BELOW, 744));
    assert_false(seam_in_copy(&picture, BELOW, 745));
    assert_false(seam_in_copy(&picture, BELOW, 746));
    assert_false(seam_in_copy(&picture, BELOW, 100000));
}

/* Each xid around a long list, against the definition. */
static void test_long_list(void **state) {
    char text[2048] = "1000:1400:";

    for (int xid = 1000; xid < 1400; xid += 7) {
        char item[16];
        (void)snprintf(item, sizeof(item), "%s%d", xid > 1000 ? "," : "", xid);
        assert_true(strlen(text) + strlen(item) < sizeof(text));
        (void)strncat(text, item, sizeof(text) - strlen(text) - 1);
    }
    SeamPicture picture = parse(*state, text);

    assert_int_equal(picture.running_count, 58);
    for (uint32_t xid = 900; xid < 1500; xid++) {
        bool visible = xid < 1000 || (xid < 1400 && (xid - 1000) % 7 != 0);
        assert_int_equal(seam_in_copy(&picture, BELOW, xid), visible);
    }
}

/* The snapshot just below 2^32: after the wrap xids are small, but young. */
static void test_wrap_above(void **state) {
    SeamPicture picture = parse(*state, "4294967290:4294967294:4294967290,4294967292");

    assert_true(seam_in_copy(&picture, BELOW, UINT32_C(4294967289)));
    assert_false(seam_in_copy(&picture, BELOW, UINT32_C(4294967290)));
    assert_true(seam_in_copy(&picture, BELOW, UINT32_C(4294967291)));
    assert_false(seam_in_copy(&picture, BELOW, UINT32_C(4294967292)));
    assert_true(seam_in_copy(&picture, BELOW, UINT32_C(4294967293)));
    assert_false(seam_in_copy(&picture, BELOW, UINT32_C(4294967294)));
    assert_false(seam_in_copy(&picture, BELOW, UINT32_MAX));
    assert_false(seam_in_copy(&picture, BELOW, 3)); /* F2: xid 5 "in the snapshot's epoch" would be visible */
    assert_false(seam_in_copy(&picture, BELOW, 5));
    assert_false(seam_in_copy(&picture, BELOW, 1000000));
}

/* The snapshot just above 2^32: large xids are of the epoch before. */
static void test_wrap_below(void **state) {
    SeamPicture picture = parse(*state, "4294967294:4294967310:4294967294,4294967300");

    assert_true(seam_in_copy(&picture, BELOW, UINT32_C(4294967293)));
    assert_false(seam_in_copy(&picture, BELOW, UINT32_C(4294967294)));
    assert_true(seam_in_copy(&picture, BELOW, UINT32_MAX));
    assert_true(seam_in_copy(&picture, BELOW, 3));
    assert_false(seam_in_copy(&picture, BELOW, 4)); /* 2^32 + 4 runs */
    assert_true(seam_in_copy(&picture, BELOW, 13));
    assert_false(seam_in_copy(&picture, BELOW, 14)); /* xmax */
    assert_false(seam_in_copy(&picture, BELOW, 15));
}

/* The nearest epoch, up to half a circle in each direction. */
static void test_half_circle(void **state) {
    const uint64_t xmax = 7 * EPOCH + 1000;
    SeamPicture picture = {.xmin = xmax, .xmax = xmax, .w = W};

    (void)state;
    assert_false(seam_in_copy(&picture, BELOW, 1000));
    assert_true(seam_in_copy(&picture, BELOW, 999));
    assert_true(seam_in_copy(&picture, BELOW, (uint32_t)(xmax - (UINT64_C(1) << 31))));
    assert_false(seam_in_copy(&picture, BELOW, (uint32_t)(xmax + (UINT64_C(1) << 31) - 1)));
    /* 2^31 transactions later the number alone would say "visible": only W keeps it. */
    assert_true(seam_in_copy(&picture, BELOW, (uint32_t)(xmax + (UINT64_C(1) << 31) + 1)));
    assert_false(seam_in_copy(&picture, W, (uint32_t)(xmax + (UINT64_C(1) << 31) + 1)));
}

/* In a young cluster there is nothing half a circle back: such a number is one to come. */
static void test_before_the_first(void **state) {
    SeamPicture picture = parse(*state, "740:740:");

    assert_true(seam_in_copy(&picture, BELOW, 3));
    assert_false(seam_in_copy(&picture, BELOW, (uint32_t)(740 + (UINT64_C(1) << 31) + 5)));
    assert_false(seam_in_copy(&picture, BELOW, UINT32_MAX));
}

static void check_name(const char *name, const char *allowed) {
    assert_true(strlen(name) <= 63);
    assert_int_equal(strspn(name, allowed), strlen(name));
}

static void check_names(SeamNames names) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_";

    check_name(names.slot, allowed);
    check_name(names.publication_all, allowed);
    check_name(names.publication_keys, allowed);
    assert_string_not_equal(names.slot, names.publication_all);
    assert_string_not_equal(names.slot, names.publication_keys);
    assert_string_not_equal(names.publication_all, names.publication_keys);
}

static void test_names(void **state) {
    SeamNames names = seam_names(*state, "0af31c22");

    assert_string_equal(names.slot, "pgcrane_0af31c22");
    assert_string_equal(names.publication_all, "pgcrane_0af31c22_all");
    assert_string_equal(names.publication_keys, "pgcrane_0af31c22_keys");
    check_names(names);
    assert_string_equal(seam_names(*state, "0af31c22").slot, names.slot);
}

/* Any id gives names that the server takes, and ids that differ give names that differ. */
static void test_odd_names(void **state) {
    static const char *const ids[] = {
        "",
        "Job",
        "job",
        "my-job",
        "my.job",
        "my_job",
        "größe",
        "a\"b'c; DROP",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx2",
    };

    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        SeamNames names = seam_names(*state, ids[i]);

        check_names(names);
        for (size_t other = 0; other < i; other++)
            assert_string_not_equal(names.slot, seam_names(*state, ids[other]).slot);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_parse, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parse_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_w_decides_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_running, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrap_above, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrap_below, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_half_circle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_before_the_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_odd_names, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
