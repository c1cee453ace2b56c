/*
 * A destination whose database is yet to be made: can it be, as the source has it?
 *
 * The connection is to the maintenance database then. What is asked of a database is not asked (preflight.c); what is
 * asked of the server is.
 */
#include "engine/preflight/check.h"
#include "pg/quote.h"

bool check_dest_createdb(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_DESTINATION_CREATEDB,
        .side = DB_DEST,
        .columns = 1,
        .sql = "SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles r WHERE r.rolname = current_user"
               " AND NOT r.rolsuper AND NOT r.rolcreatedb",
        .object = "role {1}",
        .message = "role {1} may not make databases at the destination",
        .fix = "ALTER ROLE {1} CREATEDB; -- as a superuser; or make the database for it",
    };
    return check_by_sql(p, &check, err);
}

typedef struct LibcLocale {
    const char *collate, *ctype;
    bool is_libc;
} LibcLocale;

static bool locale_of_source(Preflight *p, LibcLocale *ret_locale, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = arena_printf(p->scratch,
                                   "SELECT d.datcollate, d.datctype, %s FROM pg_catalog.pg_database d"
                                   " WHERE d.datname = pg_catalog.current_database()",
                                   db_major(p->input->source) >= 15 ? "d.datlocprovider = 'c'" : "true");

    if (!preflight_query(p, DB_SOURCE, sql, &row, err))
        return false;
    *ret_locale = (LibcLocale){arena_strdup(p->scratch, db_text(row, 0, 0)),
                               arena_strdup(p->scratch, db_text(row, 0, 1)), db_bool(row, 0, 2)};
    return true;
}

static bool has_same_encoding(Preflight *p, bool *ret_same, Error *err) {
    static const char sql[] = "SELECT pg_catalog.current_setting('server_encoding')";
    char *source = NULL, *dest = NULL;

    if (!db_query_value(p->input->source, p->scratch, sql, 0, NULL, &source, err) ||
        !db_query_value(p->input->dest, p->scratch, sql, 0, NULL, &dest, err))
        return false;
    *ret_same = strcmp(source, dest) == 0;
    return true;
}

/* Only the system knows which locales it has: tried with a collation, which is rolled back. A standby cannot be asked,
 * and says so elsewhere. With another encoding than the database that we are in has, the answer would be about that. */
bool check_dest_locale_there(Preflight *p, Error *err) {
    DbConn *dest = p->input->dest;
    LibcLocale locale;
    bool same = false;

    if (!locale_of_source(p, &locale, err) || !has_same_encoding(p, &same, err))
        return false;
    if (!locale.is_libc || !same)
        return true;
    const char *collate = sql_literal(p->scratch, locale.collate), *ctype = sql_literal(p->scratch, locale.ctype);
    bool may = db_execf(dest, err,
                        "BEGIN READ WRITE; CREATE COLLATION pg_temp.pgcrane_probe (LC_COLLATE = %s, LC_CTYPE = %s);"
                        " ROLLBACK",
                        collate, ctype);
    db_rollback(dest);
    if (may)
        return true;
    if (strcmp(err->sqlstate, "22023") != 0 && strcmp(err->sqlstate, "42704") != 0)
        return strcmp(err->sqlstate, "25006") == 0; /* read only: a standby */
    finding_add(p, CHECK_DESTINATION_LOCALE_MISSING, arena_printf(p->scratch, "locale %s", locale.collate),
                arena_printf(p->scratch,
                             "the database cannot be made at the destination as the source has it, with LC_COLLATE %s"
                             " and LC_CTYPE %s: %s",
                             collate, ctype, err->message),
                arena_printf(p->scratch,
                             "locale-gen %s # on the destination's machine, then restart the server; or make the"
                             " database with another locale",
                             locale.collate));
    return true;
}
