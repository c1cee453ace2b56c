/*
 * What else roles have on a server: settings, rights to set parameters, security labels.
 *
 * Settings of a role in one database come with that database (engine/finish/database.c). Those for all roles together
 * (ALTER ROLE ALL) would reach everybody on the destination, whose other databases are none of our business: they are
 * told. So are security labels, which mean something only to the module that gave them.
 */
#include "engine/instance/prepare.h"
#include "engine/instance/provider.h"
#include "model/tablespace_map.h"
#include "pg/quote.h"
#include "pg/role_setting.h"

#include <strings.h>

enum { WITH_PARAMETER_GRANTS = 15 };

/* ---- Settings ---- */

/* Role ("" = all), setting, its text; in the order in which they were set. */
#define SQL_SETTINGS                                                                                                   \
    "SELECT COALESCE(r.rolname, ''), " SQL_SETTING_NAME ", " SQL_SETTING_TEXT                                          \
    " FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL"                                                         \
    " pg_catalog.unnest(s.setconfig) WITH ORDINALITY AS u (c, at)"                                                     \
    " LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole"                                                            \
    " WHERE s.setdatabase = 0 AND (s.setrole = 0 OR r.rolname IS NOT NULL) ORDER BY 1, u.at"

static bool read_settings(DbConn *conn, DbResult **ret_rows, Error *err) {
    return db_query(conn, SQL_SETTINGS, 0, NULL, ret_rows, err) ||
           error_wrap(err, "reading the settings of roles of the %s", db_side_name(db_conn_side(conn)));
}

/* Names of settings that are no built-in ones keep their case. -1 = it has none. */
static int find_setting(const DbResult *rows, const char *role, const char *name) {
    for (int i = 0; i < db_rows(rows); i++)
        if (strcmp(db_text(rows, i, 0), role) == 0 && strcasecmp(db_text(rows, i, 1), name) == 0)
            return i;
    return -1;
}

/* What is sent, and what stands in the statement, of the source's setting: with the tablespaces of the destination. */
typedef struct Setting {
    const char *role; /* "" = all */
    RoleSetting parts;
    const char *value; /* as SQL */
} Setting;

static bool setting_of(Prepare *p, const DbResult *rows, int row, bool mapped, Setting *ret_setting, Error *err) {
    Setting setting = {.role = db_text(rows, row, 0),
                       .parts = role_setting_parse(p->arena, db_text(rows, row, 1), db_text(rows, row, 2))};
    TablespaceMap map;

    if (!tablespace_map_parse(p->arena, mapped ? p->input->tablespace_map : NULL, &map, err))
        return false;
    if (setting.parts.is_tablespace)
        tablespace_map_names(&map, &setting.parts.items);
    setting.value = role_setting_sql(p->arena, &setting.parts);
    *ret_setting = setting;
    return true;
}

static const char *target_of(Arena *arena, const Setting *setting) {
    return setting->role[0] == '\0' ? "ALL" : sql_ident(arena, setting->role);
}

static const char *setting_sql(Arena *arena, const Setting *setting) {
    return arena_printf(arena, "ALTER ROLE %s SET %s TO %s", target_of(arena, setting),
                        sql_ident(arena, setting->parts.name), setting->value);
}

/* A setting of nobody's but the application is where secrets are kept: its value is in no finding. */
static bool is_private(const Setting *setting) {
    return strchr(setting->parts.name, '.') != NULL;
}

static const char *setting_to_show(Arena *arena, const Setting *setting) {
    if (!is_private(setting))
        return arena_printf(arena, "%s;", setting_sql(arena, setting));
    return arena_printf(arena, "ALTER ROLE %s SET %s TO '...'; -- the source's value", target_of(arena, setting),
                        sql_ident(arena, setting->parts.name));
}

static void note_setting(Prepare *p, const Setting *setting, const char *why) {
    note_refused(&p->notes, NOTE_ROLE_SETTING,
                 arena_printf(p->arena, "%s of %s", setting->parts.name, sql_ident(p->arena, setting->role)), why,
                 setting_to_show(p->arena, setting));
}

/* *ret_value: as SQL, NULL when it has none there. */
static bool value_there(Prepare *p, const DbResult *there, const Setting *setting, const char **ret_value, Error *err) {
    int found = find_setting(there, setting->role, setting->parts.name);
    Setting other;

    *ret_value = NULL;
    if (found < 0)
        return true;
    if (!setting_of(p, there, found, false, &other, err))
        return false;
    *ret_value = other.value;
    return true;
}

static bool give_setting(Prepare *p, const Setting *setting, Error *err) {
    const char *why = NULL;
    bool done = false;

    if (!role_setting_obstacle(p->dest, p->arena, &setting->parts, &why, err))
        return false;
    if (why == NULL && !prepare_try(p, setting_sql(p->arena, setting), &done, &why, err))
        return false;
    p->made->settings += done;
    if (!done)
        note_setting(p, setting, why);
    return true;
}

/* Whoever logs in with one of these is another role, or cannot write: no administrator is given one. */
static bool shuts_out(const Prepare *p, const Setting *setting) {
    static const char *const names[] = {"role", "default_transaction_read_only"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcasecmp(setting->parts.name, names[i]) == 0)
            return role_is_administrator(p, setting->role) != NULL;
    return false;
}

static void note_left_out(Prepare *p, const Setting *setting) {
    note_add(&p->notes, NOTE_ROLE_SETTING,
             arena_printf(p->arena, "%s of %s (there it is %s, which could not work so)", setting->parts.name,
                          sql_ident(p->arena, setting->role), role_is_administrator(p, setting->role)),
             "");
}

static bool move_setting(Prepare *p, const Setting *setting, const DbResult *there, Error *err) {
    const char *value = NULL;

    if (shuts_out(p, setting)) {
        note_left_out(p, setting);
        return true;
    }
    if (!value_there(p, there, setting, &value, err))
        return false;
    if (value == NULL)
        return give_setting(p, setting, err);
    if (strcmp(setting->value, value) != 0)
        note_setting(p, setting,
                     is_private(setting) ? "it has another value there"
                                         : arena_printf(p->arena, "it is %s there", value));
    return true;
}

static bool note_for_all(Prepare *p, const Setting *setting, const DbResult *there, Error *err) {
    const char *value = NULL;

    if (!value_there(p, there, setting, &value, err))
        return false;
    if (value == NULL || strcmp(setting->value, value) != 0)
        note_add(&p->notes, NOTE_SETTING_ALL, setting->parts.name, setting_to_show(p->arena, setting));
    return true;
}

/* Roles that were not made are told already. */
static bool is_for_us(const Prepare *p, const char *name) {
    const InstanceRole *role = role_find(&p->source_roles, name);

    return role != NULL && !role->theirs && role_find(&p->dest_roles, name) != NULL;
}

bool role_settings_move(Prepare *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *here = NULL;
    CLEANUP(db_result_freep) DbResult *there = NULL;

    if (!read_settings(p->source, &here, err) || !read_settings(p->dest, &there, err))
        return false;
    for (int i = 0; i < db_rows(here); i++) {
        Setting setting;

        if (!setting_of(p, here, i, true, &setting, err))
            return false;
        if (setting.role[0] == '\0' ? !note_for_all(p, &setting, there, err)
                                    : is_for_us(p, setting.role) && !move_setting(p, &setting, there, err))
            return false;
    }
    return true;
}

/* ---- Rights to set parameters ---- */

/* As statements, which are the same text on both sides when the grant is the same; to the role "" = everybody. */
#define SQL_PARAMETER_GRANTS                                                                                           \
    "SELECT COALESCE(r.rolname, ''), pg_catalog.format('GRANT %s ON PARAMETER %s TO %s%s', a.privilege_type,"          \
    " (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(part), '.' ORDER BY at)"                                    \
    "  FROM pg_catalog.unnest(pg_catalog.string_to_array(g.parname, '.')) WITH ORDINALITY AS u (part, at)),"           \
    " COALESCE(pg_catalog.quote_ident(r.rolname), 'PUBLIC'), CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE " \
    "'' END)"                                                                                                          \
    " FROM pg_catalog.pg_parameter_acl g CROSS JOIN LATERAL pg_catalog.aclexplode(g.paracl) a"                         \
    " LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee"                                                            \
    " WHERE a.grantee = 0 OR (a.grantee <> 10 AND r.rolname IS NOT NULL) ORDER BY 2"

static bool is_among(const DbResult *rows, const char *sql) {
    for (int i = 0; i < db_rows(rows); i++)
        if (strcmp(db_text(rows, i, 1), sql) == 0)
            return true;
    return false;
}

static bool move_parameter_grant(Prepare *p, const char *role, const char *sql, Error *err) {
    const char *why = "it would be everybody's on the destination, whichever database";
    bool done = false;

    if (role[0] != '\0' && !prepare_try(p, sql, &done, &why, err))
        return false;
    if (!done)
        note_refused(&p->notes, NOTE_PARAMETER_GRANT, sql, why, arena_printf(p->arena, "%s;", sql));
    return true;
}

bool parameter_grants_move(Prepare *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *here = NULL;
    CLEANUP(db_result_freep) DbResult *there = NULL;

    if (db_major(p->source) < WITH_PARAMETER_GRANTS)
        return true;
    if (!db_query(p->source, SQL_PARAMETER_GRANTS, 0, NULL, &here, err) ||
        !db_query(p->dest, SQL_PARAMETER_GRANTS, 0, NULL, &there, err))
        return error_wrap(err, "reading rights to set parameters");
    for (int i = 0; i < db_rows(here); i++) {
        const char *role = db_text(here, i, 0);
        const char *sql = db_text(here, i, 1);

        if ((role[0] == '\0' || is_for_us(p, role)) && !is_among(there, sql) &&
            !move_parameter_grant(p, role, sql, err))
            return false;
    }
    return true;
}

/* ---- Security labels ---- */

bool note_labels(Prepare *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(p->source,
                  "SELECT pg_catalog.format('%s by %s',"
                  " pg_catalog.pg_describe_object(l.classoid, l.objoid, 0), l.provider)"
                  " FROM pg_catalog.pg_shseclabel l ORDER BY 1",
                  0, NULL, &rows, err))
        return error_wrap(err, "reading security labels");
    for (int i = 0; i < db_rows(rows); i++)
        note_add(&p->notes, NOTE_SECURITY_LABEL, db_text(rows, i, 0), "");
    return true;
}
