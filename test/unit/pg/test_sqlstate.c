/* Unit test of the SQLSTATE table. */
#include "pg/sqlstate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *sqlstate;
    ErrorReason reason;
    bool retryable;
} cases[] = {
    {"08000", REASON_CONNECTION_LOST, true}, {"08006", REASON_CONNECTION_LOST, true},
    {"0A000", REASON_UNSUPPORTED, false},    {"22P02", REASON_BAD_DATA, false},
    {"22012", REASON_SQL_FAILED, false},     {"22023", REASON_SQL_FAILED, false},
    {"23505", REASON_BAD_DATA, false},       {"25006", REASON_NOT_PERMITTED, false},
    {"25P02", REASON_SQL_FAILED, false},     {"25P03", REASON_CONNECTION_LOST, true},
    {"25P04", REASON_CONNECTION_LOST, true}, {"28000", REASON_LOGIN_REFUSED, false},
    {"28P01", REASON_LOGIN_REFUSED, false},  {"3D000", REASON_NO_DATABASE, false},
    {"40001", REASON_CONFLICT, true},        {"40P01", REASON_CONFLICT, true},
    {"42501", REASON_NOT_PERMITTED, false},  {"42P01", REASON_SQL_FAILED, false},
    {"42601", REASON_SQL_FAILED, false},     {"53100", REASON_DISK_FULL, true},
    {"53200", REASON_SERVER_BUSY, true},     {"53300", REASON_SERVER_BUSY, true},
    {"53400", REASON_SERVER_BUSY, false},    {"55006", REASON_LOCK_BUSY, true},
    {"55P03", REASON_LOCK_BUSY, true},       {"55000", REASON_SQL_FAILED, false},
    {"57014", REASON_CONFLICT, true},        {"57P01", REASON_CONNECTION_LOST, true},
    {"57P02", REASON_CONNECTION_LOST, true}, {"57P03", REASON_SERVER_BUSY, true},
    {"57P04", REASON_NO_DATABASE, false},    {"57P05", REASON_CONNECTION_LOST, true},
    {"58030", REASON_SQL_FAILED, true},      {"58P01", REASON_SQL_FAILED, false},
    {"72000", REASON_SNAPSHOT_LOST, true},   {"XX000", REASON_SQL_FAILED, false},
    {"XX001", REASON_BAD_DATA, false},       {"XX002", REASON_BAD_DATA, false},
    {"", REASON_SQL_FAILED, false},          {"0", REASON_SQL_FAILED, false},
    {"08", REASON_SQL_FAILED, false},        {"080000", REASON_SQL_FAILED, false},
    {"ZZZZZ", REASON_SQL_FAILED, false},     {NULL, REASON_SQL_FAILED, false},
};

static void test_each_code(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        SqlstateInfo info = sqlstate_info(cases[i].sqlstate);
        if (info.reason != cases[i].reason || info.retryable != cases[i].retryable)
            fail_msg("%s gives %s, retryable %d", cases[i].sqlstate, error_reason_name(info.reason), info.retryable);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_code)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
