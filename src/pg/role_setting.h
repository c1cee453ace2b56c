/*
 * Settings of roles and databases (pg_db_role_setting), made into SQL again.
 *
 * One is stored as `name=value`. Those that are lists (search_path, ...) are stored as a list of identifiers;
 * PostgreSQL keeps the names of such settings in its own code (GUC_LIST_QUOTE), and so do we. SET ... FROM CURRENT
 * stores what the configuration file or set_config() had, which needs no quotes where SET wants them ($user, 1st). So
 * each item is taken out and becomes a literal, as "" is no identifier that a statement may hold. What is no such list
 * is one literal: whoever may write to that catalogue must not write our statements.
 */
#pragma once

#include "common/vec.h"
#include "pg/query.h"

/* In SQL; `c` is the stored text. */
#define SQL_SETTING_NAME "pg_catalog.left(c, pg_catalog.strpos(c, '=') - 1)"
#define SQL_SETTING_TEXT "pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)"

typedef struct RoleSetting {
    const char *name, *text;
    bool is_list;       /* and `items` are its own */
    bool is_tablespace; /* of tablespaces: default_tablespace is an item, too */
    StringVec items;    /* may be replaced before it is written */
} RoleSetting;

/* Pure, as role_setting_sql() is: the SQL behind SET name TO. Texts are of the caller, items of the arena. */
RoleSetting role_setting_parse(Arena *arena, const char *name, const char *text);
char *role_setting_sql(Arena *arena, const RoleSetting *setting);

/*
 * What the server accepts with the statement and minds at each login: a tablespace that does not exist costs a warning,
 * and a library that cannot be found the login itself, to everybody whom the setting reaches. *ret_why: the cause, and
 * what to do; NULL = none is known. Where libraries are is looked at for a superuser only, as nobody else may; nobody
 * else may give session_preload_libraries either. Inside a transaction or not.
 */
NODISCARD bool role_setting_obstacle(DbConn *conn, Arena *arena, const RoleSetting *setting, const char **ret_why,
                                     Error *err);
