/* New passwords of many roles from one seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "secrets/new_passwords.h"

#include <string.h>

static void test_same_again(void **state UNUSED) {
    CLEANUP(secret_wipe) Secret seed = {0}, other = {0};
    char one[NEW_PASSWORD_SIZE], again[NEW_PASSWORD_SIZE], role[NEW_PASSWORD_SIZE], elsewhere[NEW_PASSWORD_SIZE];
    Error err;

    new_passwords_seed(&seed);
    new_passwords_seed(&other);
    assert_string_not_equal(seed.bytes, other.bytes);
    assert_int_equal(strlen(seed.bytes), NEW_PASSWORD_SEED_LEN);
    assert_true(new_password_of(seed.bytes, "app", one, &err));
    assert_true(new_password_of(seed.bytes, "app", again, &err));
    assert_true(new_password_of(seed.bytes, "App", role, &err));
    assert_true(new_password_of(other.bytes, "app", elsewhere, &err));
    assert_string_equal(one, again);
    assert_string_not_equal(one, role);
    assert_string_not_equal(one, elsewhere);
    assert_int_equal(strlen(one), NEW_PASSWORD_SIZE - 1);
    assert_int_equal(strspn(one, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"),
                     NEW_PASSWORD_SIZE - 1);
}

/* Sessions of one version and the daemon of the next have to agree. */
static void test_fixed(void **state UNUSED) {
    char password[NEW_PASSWORD_SIZE];
    Error err;

    assert_true(
        new_password_of("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "app", password, &err));
    assert_string_equal(password, "j2UBgESp_UJ7VOwNeqKZosos1hlrzZjB");
}

static void test_no_seed(void **state UNUSED) {
    static const char *const bad[] = {"", "00", "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"};
    char password[NEW_PASSWORD_SIZE];
    Error err;

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_false(new_password_of(bad[i], "app", password, &err));
        assert_int_equal(err.reason, REASON_BAD_DATA);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_again), cmocka_unit_test(test_fixed),
                                       cmocka_unit_test(test_no_seed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
