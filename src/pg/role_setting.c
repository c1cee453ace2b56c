/* Settings of roles and databases: their lists taken apart and put together. */
#include "pg/role_setting.h"

#include "pg/quote.h"

#include <string.h>
#include <strings.h>

typedef enum SettingKind { KIND_IDENTIFIERS, KIND_TABLESPACES, KIND_TABLESPACE, KIND_LIBRARIES } SettingKind;

static const struct {
    const char *name;
    SettingKind kind;
} kinds[] = {
    {"search_path", KIND_IDENTIFIERS},
    {"temp_tablespaces", KIND_TABLESPACES},
    {"default_tablespace", KIND_TABLESPACE},
    {"local_preload_libraries", KIND_LIBRARIES},
    {"session_preload_libraries", KIND_LIBRARIES},
    {"shared_preload_libraries", KIND_LIBRARIES},
    {"unix_socket_directories", KIND_LIBRARIES},
};

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static const char *skip_space(const char *at) {
    while (is_space(*at))
        at++;
    return at;
}

/* Behind the closing quote; NULL when there is none. */
static const char *take_quoted(Arena *arena, const char *at, StringVec *items) {
    char *item = arena_alloc(arena, strlen(at) + 1);
    size_t len = 0;

    for (at++; *at != '\0'; at++) {
        if (*at == '"' && *++at != '"') {
            item[len] = '\0';
            vec_push(arena, items, item);
            return at;
        }
        item[len++] = *at;
    }
    return NULL;
}

/* Names that are not quoted mean lower case, as in SQL; paths do not. */
static const char *take_plain(Arena *arena, const char *at, bool lower, StringVec *items) {
    size_t len = strcspn(at, ",\" \t\n\r\f");
    char *item = arena_strndup(arena, at, len);

    if (len == 0)
        return NULL;
    for (char *c = item; lower && *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    vec_push(arena, items, item);
    return at + len;
}

/* As PostgreSQL's SplitIdentifierString() and SplitDirectoriesString(); false: it is not such a list. */
static bool split(Arena *arena, const char *text, bool lower, StringVec *items) {
    const char *at = skip_space(text);

    if (*at == '\0')
        return true;
    for (;; at++) {
        at = skip_space(at);
        at = *at == '"' ? take_quoted(arena, at, items) : take_plain(arena, at, lower, items);
        if (at == NULL)
            return false;
        at = skip_space(at);
        if (*at != ',')
            return *at == '\0';
    }
}

static void take_items(Arena *arena, SettingKind kind, RoleSetting *setting) {
    StringVec items = {0};

    if (kind == KIND_TABLESPACE)
        vec_push(arena, &items, setting->text);
    else if (!split(arena, setting->text, kind != KIND_LIBRARIES, &items))
        return;
    setting->is_list = kind != KIND_TABLESPACE;
    setting->is_tablespace = kind == KIND_TABLESPACE || kind == KIND_TABLESPACES;
    setting->items = items;
}

RoleSetting role_setting_parse(Arena *arena, const char *name, const char *text) {
    RoleSetting setting = {.name = name, .text = text};

    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (strcasecmp(name, kinds[i].name) == 0)
            take_items(arena, kinds[i].kind, &setting);
    return setting;
}

char *role_setting_sql(Arena *arena, const RoleSetting *setting) {
    char *sql = NULL;

    for (size_t i = 0; i < setting->items.len; i++)
        sql = arena_printf(arena, "%s%s%s", sql == NULL ? "" : sql, sql == NULL ? "" : ", ",
                           sql_literal(arena, setting->items.items[i]));
    return sql != NULL ? sql : sql_literal(arena, setting->is_list ? "" : setting->text);
}

/* ---- What it names ---- */

static bool look_for_tablespaces(DbConn *conn, Arena *arena, const RoleSetting *setting, const char **ret_why,
                                 Error *err) {
    for (size_t i = 0; i < setting->items.len && *ret_why == NULL; i++) {
        const char *name = setting->items.items[i];
        CLEANUP(db_result_freep) DbResult *row = NULL;

        if (!db_query(conn, "SELECT 1 FROM pg_catalog.pg_tablespace WHERE spcname = $1", 1, &name, &row, err))
            return error_wrap(err, "looking for tablespace %s", name);
        if (name[0] != '\0' && db_rows(row) == 0)
            *ret_why = arena_printf(
                arena, "the destination has no tablespace %s: create it, or name another one with --tablespace-map",
                sql_ident(arena, name));
    }
    return true;
}

/* $1: "" or "/plugins", $2: the name, with or without what its platform has behind it. */
static const char library_sql[] = "SELECT 1 FROM pg_catalog.pg_ls_dir((SELECT setting FROM pg_catalog.pg_config WHERE "
                                  "name = 'PKGLIBDIR') || $1, true,"
                                  " false) AS f WHERE f IN ($2, $2 || '.so', $2 || '.dylib', $2 || '.dll') LIMIT 1";

/* A name without a folder, or in $libdir or its plugins. False for what is elsewhere: nobody looks there. */
static bool is_in_libdir(const char *name, bool local, const char *ret_params[2]) {
    static const char libdir[] = "$libdir/", plugins[] = "plugins/";
    bool named = strncmp(name, libdir, strlen(libdir)) == 0;

    ret_params[0] = local && !named ? "/plugins" : "";
    ret_params[1] = named ? name + strlen(libdir) : name;
    if (named && strncmp(ret_params[1], plugins, strlen(plugins)) == 0) {
        ret_params[0] = "/plugins";
        ret_params[1] += strlen(plugins);
    }
    return ret_params[1][0] != '\0' && strchr(ret_params[1], '/') == NULL;
}

static bool is_missing(DbConn *conn, const char *name, bool local, bool *ret_missing, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *params[2];

    *ret_missing = false;
    if (!is_in_libdir(name, local, params))
        return true;
    if (!db_query(conn, library_sql, 2, params, &rows, err))
        return error_wrap(err, "looking for library %s", name);
    *ret_missing = db_rows(rows) == 0;
    return true;
}

/* Before 11 not even a superuser lists a folder outside of the data folder. */
static bool may_look(DbConn *conn, bool *ret_may, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    *ret_may = false;
    if (db_version(conn) < 110000)
        return true;
    if (!db_query(conn,
                  "SELECT r.rolsuper AND pg_catalog.current_setting('dynamic_library_path') = '$libdir'"
                  " FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
                  0, NULL, &row, err))
        return error_wrap(err, "asking where libraries are");
    *ret_may = db_rows(row) == 1 && db_bool(row, 0, 0);
    return true;
}

static bool look_for_libraries(DbConn *conn, Arena *arena, const RoleSetting *setting, const char **ret_why,
                               Error *err) {
    bool may = false, local = strcasecmp(setting->name, "local_preload_libraries") == 0;

    if (!may_look(conn, &may, err))
        return false;
    for (size_t i = 0; may && i < setting->items.len && *ret_why == NULL; i++) {
        const char *name = setting->items.items[i];
        bool missing = false;

        if (!is_missing(conn, name, local, &missing, err))
            return false;
        if (missing)
            *ret_why = arena_printf(arena,
                                    "the destination has no library %s, and each login with this would fail:"
                                    " install it there first",
                                    sql_ident(arena, name));
    }
    return true;
}

bool role_setting_obstacle(DbConn *conn, Arena *arena, const RoleSetting *setting, const char **ret_why, Error *err) {
    *ret_why = NULL;
    if (setting->is_tablespace)
        return look_for_tablespaces(conn, arena, setting, ret_why, err);
    if (strcasecmp(setting->name, "session_preload_libraries") == 0 ||
        strcasecmp(setting->name, "local_preload_libraries") == 0)
        return look_for_libraries(conn, arena, setting, ret_why, err);
    return true;
}
