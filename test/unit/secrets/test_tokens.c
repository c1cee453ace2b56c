/* Tokens: their text, what is known of it, and for how long one is good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "secrets/tokens.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Computed by another program (Python's hashlib.blake2b): what it is known by must never change, or no token would be
 * known any more. */
#define KNOWN "pgc_operator_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"
#define KNOWN_ID "36ad3f9a2b28d917"
#define KNOWN_HASH "78ccf0e7ac91884ceb8b34e97f436665672829ac2dbfbcd6b372f87940722906"

static void test_one_is_made(void **state UNUSED) {
    int seen[128] = {0};
    size_t kinds = 0;
    TokenMark mark, again;
    Error err;

    for (int turn = 0; turn < 100; turn++) {
        CLEANUP(secret_wipe) Secret text = {0};
        assert_true(token_make(TOKEN_OPERATOR, &text, &mark, &err));
        assert_int_equal(text.len, strlen("pgc_operator_") + 43);
        assert_int_equal(strlen(text.bytes), text.len);
        assert_memory_equal(text.bytes, "pgc_operator_", 13);
        for (const char *c = text.bytes + 13; *c != '\0'; c++) {
            assert_true(isalnum((unsigned char)*c));
            seen[(unsigned char)*c]++;
        }
        assert_true(token_read(text.bytes, text.len, &again));
        assert_memory_equal(&mark, &again, sizeof(mark));
        assert_int_equal(strlen(mark.id), 16);
        assert_int_equal(strlen(mark.hash), 64);
        assert_null(strstr(mark.hash, mark.id));
    }
    for (size_t c = 0; c < COUNT_OF(seen); c++)
        kinds += seen[c] > 0;
    assert_int_equal(kinds, 62); /* all digits occur; that one does not in 4300 draws: 1 in 10^28 */
}

static void test_no_two_are_alike(void **state UNUSED) {
    CLEANUP(secret_wipe) Secret one = {0}, two = {0};
    TokenMark first, second;
    Error err;

    assert_true(token_make(TOKEN_ADMIN, &one, &first, &err));
    assert_true(token_make(TOKEN_ADMIN, &two, &second, &err));
    assert_string_not_equal(one.bytes, two.bytes);
    assert_string_not_equal(first.id, second.id);
    assert_true(token_is_hash(&first, first.hash));
    assert_false(token_is_hash(&first, second.hash));
    assert_false(token_make(TOKEN_NOBODY, &one, &first, &err));
    assert_false(token_make(TOKEN_ROLE_MAX_, &one, &first, &err));
}

static void test_the_hash_stays_the_same(void **state UNUSED) {
    TokenMark mark;

    assert_true(token_read(KNOWN, strlen(KNOWN), &mark));
    assert_string_equal(mark.id, KNOWN_ID);
    assert_string_equal(mark.hash, KNOWN_HASH);
}

static void test_every_character_counts(void **state UNUSED) {
    TokenMark mark, other;
    char text[sizeof(KNOWN)];

    assert_true(token_read(KNOWN, strlen(KNOWN), &mark));
    for (size_t at = 0; at < strlen(KNOWN); at++) {
        memcpy(text, KNOWN, sizeof(text));
        text[at] = text[at] == 'x' ? 'y' : 'x';
        bool readable = token_read(text, strlen(text), &other);
        assert_int_equal(readable, at >= strlen("pgc_operator_"));
        if (readable) {
            assert_string_not_equal(other.id, mark.id);
            assert_false(token_is_hash(&other, mark.hash));
        }
    }
}

static void test_what_is_no_token(void **state UNUSED) {
    static const char *const bad[] = {
        "",
        "pgc_",
        "pgc_admin",
        "pgc_admin_",
        "pgc__0123456789012345678901234567890123456789012",
        "Bearer " KNOWN,
        KNOWN "1",
        " " KNOWN,
        KNOWN "\n",
        "pgc_root_0123456789012345678901234567890123456789012",
        "pgc_admin_01234567890123456789012345678901234567890-2",
        "pgc_admin_\xc3\xa9"
        "12345678901234567890123456789012345678901",
        "ya29.a0AfH6SMBx",
        "PGC_ADMIN_0123456789012345678901234567890123456789012",
    };
    TokenMark mark;

    for (size_t at = 0; at < COUNT_OF(bad); at++)
        assert_false(token_read(bad[at], strlen(bad[at]), &mark));
    for (size_t len = 0; len < strlen(KNOWN); len++)
        assert_false(token_read(KNOWN, len, &mark));
    assert_false(token_read("pgc_admin_01234567890123456789\0"
                            "123456789012345678901",
                            53, &mark));
    assert_true(token_read(KNOWN " and more", strlen(KNOWN), &mark));
}

static void test_a_hash_that_is_none(void **state UNUSED) {
    TokenMark mark;
    char longer[TOKEN_HASH_SIZE + 1] = "";

    assert_true(token_read(KNOWN, strlen(KNOWN), &mark));
    memcpy(longer, mark.hash, TOKEN_HASH_SIZE - 1);
    longer[TOKEN_HASH_SIZE - 1] = '0';
    assert_false(token_is_hash(&mark, longer));
    assert_false(token_is_hash(&mark, ""));
    longer[TOKEN_HASH_SIZE - 2] = '\0';
    assert_false(token_is_hash(&mark, longer));
}

static void test_roles(void **state UNUSED) {
    assert_true(TOKEN_NOBODY < TOKEN_VIEWER && TOKEN_VIEWER < TOKEN_OPERATOR && TOKEN_OPERATOR < TOKEN_ADMIN);
    for (unsigned role = TOKEN_VIEWER; role < TOKEN_ROLE_MAX_; role++) {
        assert_int_equal(token_role_from_name(token_role_name((TokenRole)role)), role);
        assert_true(strlen(token_role_help((TokenRole)role)) > 0);
    }
    assert_int_equal(token_role_from_name("nobody"), TOKEN_NOBODY);
    assert_int_equal(token_role_from_name("Admin"), TOKEN_NOBODY);
    assert_int_equal(token_role_from_name(""), TOKEN_NOBODY);
    assert_string_equal(token_role_name((TokenRole)99), "nobody");
}

static void test_expiry(void **state UNUSED) {
    static const struct {
        const char *text;
        int64_t seconds; /* -1 = refused */
    } rows[] = {
        {"90d", 90 * 86400},
        {"12h", 12 * 3600},
        {"1m", 60},
        {"2w", 14 * 86400},
        {"1y", 365 * 86400},
        {"10y", 3650 * INT64_C(86400)},
        {"never", 0},
        {"11y", -1},
        {"3651d", -1},
        {"", -1},
        {"0d", -1},
        {"-1d", -1},
        {"90", -1},
        {"d", -1},
        {"90 d", -1},
        {"90dd", -1},
        {"+9d", -1},
        {" 9d", -1},
        {"9D", -1},
        {"1.5d", -1},
        {"99999999999999999999d", -1},
        {"NEVER", -1},
    };

    for (size_t at = 0; at < COUNT_OF(rows); at++) {
        int64_t us = -1;
        Error err = {0};
        assert_int_equal(token_parse_expiry(rows[at].text, &us, &err), rows[at].seconds >= 0);
        if (rows[at].seconds >= 0)
            assert_int_equal(us, rows[at].seconds * USEC_PER_SEC);
        else
            assert_int_equal(err.reason, REASON_USAGE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_is_made),
        cmocka_unit_test(test_no_two_are_alike),
        cmocka_unit_test(test_the_hash_stays_the_same),
        cmocka_unit_test(test_every_character_counts),
        cmocka_unit_test(test_what_is_no_token),
        cmocka_unit_test(test_a_hash_that_is_none),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_expiry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
