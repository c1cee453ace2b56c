/* Managed services: how they are recognised, and their wording of remedies. */
#include "engine/preflight/provider.h"

typedef struct Wording {
    const char *is_it;                       /* SQL: true there */
    const char *setting;                     /* {1} setting, {2} value, {3} what has to follow */
    const char *restart;                     /* {3} when the server must start anew */
    const char *reload;                      /* {3} when not */
    const char *wal_level, *wal_level_value; /* what wal_level = logical is called */
    const char *replication;                 /* {1} role */
} Wording;

#define SQL_HAS_SETTING(name) "pg_catalog.current_setting('" name "', true) IS NOT NULL"
#define SQL_HAS_ROLE(name) "EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '" name "')"

static const Wording wordings[PROVIDER_MAX_] = {
    [PROVIDER_SELF] =
        {
            .is_it = "true",
            .setting = "ALTER SYSTEM SET {1} = {2};{3}",
            .restart = " -- then restart the server",
            .reload = " SELECT pg_reload_conf();",
            .wal_level = "wal_level",
            .wal_level_value = "logical",
            .replication = "ALTER ROLE {1} REPLICATION; -- as a superuser",
        },
    [PROVIDER_RDS] =
        {
            .is_it = SQL_HAS_SETTING("rds.logical_replication") " OR " SQL_HAS_ROLE("rds_superuser"),
            .setting = "set {1} = {2} in the DB parameter group (Aurora: the DB cluster parameter group){3}",
            .restart = ", then reboot the instance (Aurora: the writer)",
            .reload = "",
            .wal_level = "rds.logical_replication",
            .wal_level_value = "1",
            .replication = "GRANT rds_replication TO {1};",
        },
    [PROVIDER_CLOUD_SQL] =
        {
            .is_it = SQL_HAS_SETTING("cloudsql.logical_decoding") " OR " SQL_HAS_ROLE("cloudsqlsuperuser"),
            .setting =
                "set the instance's flag {1}={2} (gcloud sql instances patch --database-flags replaces all flags:"
                " name the others too){3}",
            .restart = "; it restarts the instance",
            .reload = "",
            .wal_level = "cloudsql.logical_decoding",
            .wal_level_value = "on",
            .replication = "ALTER USER {1} WITH REPLICATION; -- as a member of cloudsqlsuperuser",
        },
    [PROVIDER_AZURE] =
        {
            .is_it = SQL_HAS_SETTING("azure.extensions") " OR " SQL_HAS_ROLE("azure_pg_admin"),
            .setting = "set the server parameter {1} = {2}{3}",
            .restart = ", then restart the server",
            .reload = "",
            .wal_level = "wal_level",
            .wal_level_value = "LOGICAL",
            .replication = "ALTER ROLE {1} WITH REPLICATION; -- as a member of azure_pg_admin",
        },
};

bool provider_of(Preflight *p, DbSide side, Provider *ret_provider, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    /* Each in a column of its own; PROVIDER_SELF is what is left. */
    const char *sql = arena_printf(p->scratch, "SELECT %s, %s, %s", wordings[PROVIDER_RDS].is_it,
                                   wordings[PROVIDER_CLOUD_SQL].is_it, wordings[PROVIDER_AZURE].is_it);

    if (!preflight_query(p, side, sql, &row, err))
        return false;
    *ret_provider = PROVIDER_SELF;
    for (int i = 0; i + 1 < PROVIDER_MAX_ && db_rows(row) == 1; i++)
        if (db_bool(row, 0, i))
            *ret_provider = (Provider)(PROVIDER_RDS + i);
    return true;
}

const char *provider_setting(Arena *arena, Provider provider, const char *setting, const char *value, bool restart) {
    const Wording *wording = &wordings[provider];
    bool is_level = strcmp(setting, "wal_level") == 0;
    const char *const values[] = {is_level ? wording->wal_level : setting, is_level ? wording->wal_level_value : value,
                                  restart ? wording->restart : wording->reload};

    return template_fill(arena, wording->setting, values, COUNT_OF(values));
}

const char *provider_replication(Arena *arena, Provider provider, const char *quoted_role) {
    return template_fill(arena, wordings[provider].replication, &quoted_role, 1);
}
