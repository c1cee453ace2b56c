/*
 * Settings of roles and databases (pg_db_role_setting), as SQL that writes SQL.
 *
 * One is stored as `name=value`. Those that are lists (search_path, ...) are stored as a list of identifiers;
 * PostgreSQL keeps the names of such settings in its own code (GUC_LIST_QUOTE), and so do we. Quoted items become
 * literals, as "" is no identifier that a statement may hold. What is no such list is one literal: whoever may write to
 * that catalogue must not write our statements. In both expressions `c` is the stored text.
 */
#pragma once

#define SQL_LIST_SETTINGS                                                                                              \
    "'local_preload_libraries','search_path','session_preload_libraries','shared_preload_libraries',"                  \
    "'temp_tablespaces','unix_socket_directories'"
#define SQL_LIST_QUOTED "\"(([^\"]|\"\")*)\""
#define SQL_LIST_ITEM "(" SQL_LIST_QUOTED "|[A-Za-z_][A-Za-z0-9_]*)"

/* The name, and what stands behind SET name TO. */
#define SQL_SETTING_NAME "pg_catalog.left(c, pg_catalog.strpos(c, '=') - 1)"
#define SQL_SETTING_TEXT "pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)"
#define SQL_SETTING_VALUE                                                                                              \
    "CASE WHEN pg_catalog.lower(" SQL_SETTING_NAME ") IN (" SQL_LIST_SETTINGS ")"                                      \
    " AND " SQL_SETTING_TEXT " ~ '^" SQL_LIST_ITEM "( *, *" SQL_LIST_ITEM ")*$'"                                       \
    " THEN pg_catalog.replace(pg_catalog.regexp_replace(pg_catalog.replace(" SQL_SETTING_TEXT ", '''', ''''''), "      \
    "'" SQL_LIST_QUOTED "', '''\\1''', 'g'), '\"\"', '\"')"                                                            \
    " ELSE pg_catalog.quote_literal(" SQL_SETTING_TEXT ") END"
