/* The checks of --follow: wording by provider, minor releases. Pure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/preflight/follow.h"

static void settings_are_changed_where_the_service_says(void **state) {
    static const struct {
        Provider provider;
        const char *setting, *value;
        bool restart;
        const char *has[3];
    } rows[] = {
        {PROVIDER_SELF, "wal_level", "logical", true, {"ALTER SYSTEM SET wal_level = logical;", "restart", ""}},
        {PROVIDER_SELF, "max_slot_wal_keep_size", "-1", false, {"= -1; SELECT pg_reload_conf();", "", ""}},
        {PROVIDER_RDS, "wal_level", "logical", true, {"rds.logical_replication = 1", "parameter group", "reboot"}},
        {PROVIDER_RDS, "max_wal_senders", "20", true, {"max_wal_senders = 20", "parameter group", "reboot"}},
        {PROVIDER_CLOUD_SQL, "wal_level", "logical", true, {"cloudsql.logical_decoding=on", "flag", "restarts"}},
        {PROVIDER_AZURE, "wal_level", "logical", true, {"wal_level = LOGICAL", "server parameter", "restart"}},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *said = provider_setting(arena, rows[i].provider, rows[i].setting, rows[i].value, rows[i].restart);

        for (size_t j = 0; j < COUNT_OF(rows[i].has); j++)
            if (strstr(said, rows[i].has[j]) == NULL)
                fail_msg("\"%s\" is not in: %s", rows[i].has[j], said);
        if (rows[i].provider != PROVIDER_SELF && strstr(said, "ALTER SYSTEM") != NULL)
            fail_msg("not possible there: %s", said);
    }
    for (Provider provider = PROVIDER_SELF; provider < PROVIDER_MAX_; provider++)
        assert_null(strstr(provider_setting(arena, provider, "wal_sender_timeout", "60s", false), "restart"));
}

static void the_right_to_replicate(void **state) {
    static const char *const wanted[PROVIDER_MAX_] = {
        [PROVIDER_SELF] = "ALTER ROLE \"A b\" REPLICATION;",
        [PROVIDER_RDS] = "GRANT rds_replication TO \"A b\";",
        [PROVIDER_CLOUD_SQL] = "ALTER USER \"A b\" WITH REPLICATION;",
        [PROVIDER_AZURE] = "ALTER ROLE \"A b\" WITH REPLICATION;",
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();

    (void)state;
    for (Provider provider = PROVIDER_SELF; provider < PROVIDER_MAX_; provider++) {
        const char *said = provider_replication(arena, provider, "\"A b\"");

        if (strncmp(said, wanted[provider], strlen(wanted[provider])) != 0)
            fail_msg("%s", said);
    }
}

static void minor_releases(void **state) {
    static const struct {
        int version;
        int slot, publication;
    } rows[] = {
        {100023, FOLLOW_MINOR_NEVER, FOLLOW_MINOR_NEVER},
        {110022, FOLLOW_MINOR_NEVER, FOLLOW_MINOR_NEVER},
        {120019, 20, FOLLOW_MINOR_NEVER},
        {120022, 0, FOLLOW_MINOR_NEVER},
        {130015, 16, 22},
        {130016, 0, 22},
        {130022, 0, 0},
        {140012, 13, 19},
        {140019, 0, 0},
        {150007, 8, 14},
        {150013, 0, 14},
        {150014, 0, 0},
        {160003, 4, 10},
        {160010, 0, 0},
        {170000, 0, 6},
        {170006, 0, 0},
        {180000, 0, 0},
        {190000, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        FollowMinor wanted = follow_minor_wanted(rows[i].version);

        if (wanted.slot != rows[i].slot || wanted.publication != rows[i].publication)
            fail_msg("%d: %d, %d", rows[i].version, wanted.slot, wanted.publication);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_are_changed_where_the_service_says),
        cmocka_unit_test(the_right_to_replicate),
        cmocka_unit_test(minor_releases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
