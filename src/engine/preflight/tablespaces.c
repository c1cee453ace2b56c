/* Tablespaces in use, as --tablespace-map sends them: does the destination have them, and may its role use them? */
#include "engine/preflight/check.h"

#include "model/tablespace_map.h"
#include "pg/quote.h"

/* What is in its database's default tablespace goes to that of the destination, unless the map says something else. */
#define DATABASE_TABLESPACE                                                                                            \
    "(SELECT d.dattablespace FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())"

/* (schema, table, tablespace, in SQL, what, by default) */
static const char used_sql[] =
    "SELECT n.nspname, COALESCE(o.relname, c.relname), s.spcname, pg_catalog.quote_ident(s.spcname),"
    " CASE WHEN c.relkind IN ('i', 'I') THEN 'index ' ELSE 'table ' END"
    " || pg_catalog.format('%I.%I', n.nspname, c.relname), false"
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace"
    " LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = c.oid"
    " LEFT JOIN pg_catalog.pg_class o ON o.oid = x.indrelid"
    " WHERE " SQL_USER_SCHEMA " UNION ALL SELECT NULL, NULL, s.spcname, pg_catalog.quote_ident(s.spcname),"
    " pg_catalog.format('database %I', pg_catalog.current_database()), true"
    " FROM pg_catalog.pg_tablespace s WHERE s.oid = " DATABASE_TABLESPACE " ORDER BY 3, 1 NULLS FIRST, 5";

/* (name, may our role use it?) */
static const char there_sql[] =
    "SELECT s.spcname, pg_catalog.has_tablespace_privilege(s.oid, 'CREATE') OR s.oid = " DATABASE_TABLESPACE
    " FROM pg_catalog.pg_tablespace s";

typedef struct Spaces {
    Preflight *p;
    TablespaceMap map;
    DbResult *used, *there;
    const RowIndex *there_index;
    StringVec reported; /* of the destination */
} Spaces;

/* Where the row's object goes; NULL: to the database's default, which is always there and open. */
static const char *wanted_of(const Spaces *spaces, int row, bool *ret_mapped) {
    const char *from = db_text(spaces->used, row, 2);
    const char *to = tablespace_map_find(&spaces->map, from);

    *ret_mapped = to != NULL;
    if (to == NULL)
        return db_bool(spaces->used, row, 5) ? NULL : from;
    return to[0] == '\0' ? NULL : to;
}

static bool is_reported(Spaces *spaces, const char *name) {
    for (size_t i = 0; i < spaces->reported.len; i++)
        if (strcmp(spaces->reported.items[i], name) == 0)
            return true;
    vec_push(spaces->p->scratch, &spaces->reported, name);
    return false;
}

static void report_missing(const Spaces *spaces, int row, const char *name, bool mapped) {
    Preflight *p = spaces->p;
    const char *what = db_text(spaces->used, row, 4);
    const char *message = mapped ? "{2} is to be in tablespace {1}, as --tablespace-map says, which the destination"
                                   " does not have"
                                 : "{2} is in tablespace {1}, which the destination does not have";
    const char *fix = mapped ? "CREATE TABLESPACE {1} LOCATION '/path/on/the/destination';"
                             : "CREATE TABLESPACE {1} LOCATION '/path/on/the/destination'; -- or --tablespace-map";
    const char *const values[] = {mapped ? sql_ident(p->scratch, name) : db_text(spaces->used, row, 3), what};

    finding_add(p, CHECK_TABLESPACE_MISSING, template_fill(p->scratch, "tablespace {1}", values, 2),
                template_fill(p->scratch, message, values, 2), template_fill(p->scratch, fix, values, 2));
}

static void report_closed(const Spaces *spaces, int row, const char *name, bool mapped) {
    Preflight *p = spaces->p;
    const char *const values[] = {mapped ? sql_ident(p->scratch, name) : db_text(spaces->used, row, 3),
                                  p->dest_role.quoted};

    finding_add(p, CHECK_TABLESPACE_PRIVILEGE, template_fill(p->scratch, "tablespace {1}", values, 2),
                template_fill(p->scratch, "role {2} may not use tablespace {1} of the destination", values, 2),
                template_fill(p->scratch, "GRANT CREATE ON TABLESPACE {1} TO {2};", values, 2));
}

static bool check_row(Spaces *spaces, int row, Error *err) {
    bool mapped = false, passes = db_is_null(spaces->used, row, 0); /* the database's own */
    const char *name = wanted_of(spaces, row, &mapped);

    if (name == NULL)
        return true;
    int found = row_index_find(spaces->there_index, name);
    if (found >= 0 && db_bool(spaces->there, found, 1))
        return true;
    if (!passes &&
        !preflight_passes(spaces->p, db_text(spaces->used, row, 0), db_text(spaces->used, row, 1), &passes, err))
        return false;
    if (!passes || is_reported(spaces, name))
        return true;
    if (found < 0)
        report_missing(spaces, row, name, mapped);
    else
        report_closed(spaces, row, name, mapped);
    return true;
}

/* A name that was mistyped would move nothing, and nobody would be told. */
static bool check_names(Spaces *spaces, Error *err) {
    Preflight *p = spaces->p;
    CLEANUP(db_result_freep) DbResult *ours = NULL;

    if (spaces->map.pairs.len == 0)
        return true;
    if (!preflight_query(p, DB_SOURCE, "SELECT s.spcname FROM pg_catalog.pg_tablespace s", &ours, err))
        return false;
    const RowIndex *index = row_index_new(p->scratch, ours, 0);
    for (size_t i = 0; i < spaces->map.pairs.len; i++) {
        const char *name = spaces->map.pairs.items[i].from;

        if (row_index_find(index, name) < 0)
            finding_add(p, CHECK_TABLESPACE_MAP, arena_printf(p->scratch, "tablespace %s", sql_ident(p->scratch, name)),
                        arena_printf(p->scratch, "--tablespace-map names %s, which the source does not have",
                                     sql_ident(p->scratch, name)),
                        "SELECT spcname FROM pg_tablespace; -- on the source tells which there are");
    }
    return true;
}

static bool check_used(Spaces *spaces, Error *err) {
    for (int row = 0; row < db_rows(spaces->used); row++)
        if (!check_row(spaces, row, err))
            return false;
    return check_names(spaces, err);
}

bool check_tablespaces(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *used = NULL;
    CLEANUP(db_result_freep) DbResult *there = NULL;
    Spaces spaces = {.p = p};

    if (p->input->options->data_only)
        return true;
    if (!tablespace_map_parse(p->scratch, p->input->options->tablespace_map, &spaces.map, err) ||
        !preflight_query(p, DB_SOURCE, used_sql, &used, err) || !preflight_query(p, DB_DEST, there_sql, &there, err))
        return false;
    spaces.used = used;
    spaces.there = there;
    spaces.there_index = row_index_new(p->scratch, there, 0);
    return check_used(&spaces, err);
}
