/*
 * Databases of an instance on the destination, empty, as the source has them.
 *
 * CREATE DATABASE is in no transaction: the server makes it whole or, when it dies meanwhile, not at all. Where a
 * process or a server can die:
 * - Before, or while it runs: when our process is gone the server still makes it, or never had it. The next run sees
 *   which; when it is being made at that moment, a second attempt waits for the first, is refused as the name is taken,
 *   and counts it as being there.
 * - Behind it: the next run finds it. Whether it was made by this run or one before is in no decision.
 * All that a database is made with stands in the one statement; nothing has to follow.
 */
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/instance/prepare.h"
#include "pg/quote.h"

enum { WITH_PROVIDERS = 15, WITH_RULES = 16 };

/* template1 of the destination may hold anything, and fixes encoding and locale. */
static char *locale_sql(Arena *arena, const InstanceDatabase *database, int dest_major) {
    char *sql = arena_printf(arena, " LC_COLLATE %s LC_CTYPE %s", sql_literal(arena, database->collate),
                             sql_literal(arena, database->ctype));

    if (dest_major < WITH_PROVIDERS) /* all is libc there */
        return sql;
    /* Said also when it is libc: the template's is another's on a server that was made so. */
    sql = arena_printf(arena, "%s LOCALE_PROVIDER %s", sql, database->provider);
    if (strcmp(database->provider, "libc") != 0 && database->locale != NULL)
        sql = arena_printf(arena, "%s %s %s", sql,
                           strcmp(database->provider, "icu") == 0 ? "ICU_LOCALE" : "BUILTIN_LOCALE",
                           sql_literal(arena, database->locale));
    if (dest_major >= WITH_RULES && database->rules != NULL)
        sql = arena_printf(arena, "%s ICU_RULES %s", sql, sql_literal(arena, database->rules));
    return sql;
}

char *database_create_sql(Arena *arena, const InstanceDatabase *database, int dest_major, bool with_owner) {
    char *sql = arena_printf(arena, "CREATE DATABASE %s", sql_ident(arena, database->name));

    if (with_owner)
        sql = arena_printf(arena, "%s OWNER %s", sql, sql_ident(arena, database->owner));
    sql = arena_printf(arena, "%s TEMPLATE template0 ENCODING %s%s", sql, sql_literal(arena, database->encoding),
                       locale_sql(arena, database, dest_major));
    if (database->place != NULL)
        sql = arena_printf(arena, "%s TABLESPACE %s", sql, sql_ident(arena, database->place));
    if (database->limit >= 0)
        sql = arena_printf(arena, "%s CONNECTION LIMIT %lld", sql, (long long)database->limit);
    return sql;
}

/* ---- One database ---- */

typedef struct Create {
    Arena *arena;
    DbConn *dest;
    InstanceMade *made;
    Notes notes;
    InstanceRoleVec roles;
    bool closed;
} Create;

/* The name is taken: another session was faster, which may be that of a run that was killed. */
static bool is_taken(const Error *err) {
    return strcmp(err->sqlstate, "42P04") == 0 || strcmp(err->sqlstate, "23505") == 0;
}

static InstanceDatabase wanted(const Create *create, const InstanceDatabase *database) {
    InstanceDatabase as_made = *database;

    if (create->closed)
        as_made.limit = 0;
    return as_made;
}

/* *ret_why NULL: it is there now. */
static bool attempt(Create *create, InstanceDatabase *database, bool with_owner, const char **ret_why, Error *err) {
    const InstanceDatabase as_made = wanted(create, database);
    const char *sql = database_create_sql(create->arena, &as_made, db_major(create->dest), with_owner);

    *ret_why = NULL;
    if (db_exec(create->dest, sql, err)) {
        database->made = true;
        create->made->databases++;
        return failpoint("instance.database_made", err);
    }
    database->exists = is_taken(err);
    if (database->exists)
        return true;
    if (!prepare_is_refusal(create->dest, err))
        return error_wrap(err, "%s", sql);
    log_info("refused: %s: %s", sql, err->message);
    *ret_why = arena_strdup(create->arena, err->message);
    return true;
}

static bool make_database(Create *create, InstanceDatabase *database, Error *err) {
    bool has_owner = role_find(&create->roles, database->owner) != NULL;
    const char *why = NULL;

    if (!failpoint("instance.database", err) || !attempt(create, database, has_owner, &why, err))
        return false;
    const char *first = why;
    if (why != NULL && has_owner && !attempt(create, database, false, &why, err))
        return false;
    if (why != NULL)
        note_refused(&create->notes, NOTE_DATABASE_MISSING, sql_ident(create->arena, database->name), first,
                     arena_printf(create->arena, "%s;",
                                  database_create_sql(create->arena, database, db_major(create->dest),
                                                      !database->owner_is_theirs)));
    return true;
}

/* ---- All of them ---- */

/* Row of the database in what note_differences() read, -1 = it is not there. */
static int find_row(const DbResult *rows, const char *name) {
    for (int i = 0; i < db_rows(rows); i++)
        if (strcmp(db_text(rows, i, 0), name) == 0)
            return i;
    return -1;
}

static void note_owner(Create *create, const InstanceDatabase *database, const char *owner) {
    Arena *arena = create->arena;
    const char *name = sql_ident(arena, database->name);
    const char *wanted = sql_ident(arena, database->owner);

    if (!database->owner_is_theirs && strcmp(owner, database->owner) != 0)
        note_add(&create->notes, NOTE_DATABASE_OWNER,
                 arena_printf(arena, "%s belongs to %s, on the source to %s", name, sql_ident(arena, owner), wanted),
                 arena_printf(arena, "ALTER DATABASE %s OWNER TO %s;", name, wanted));
}

/* One that is guarded (engine/demote) gets back what it was to have when it is handed back. */
static void note_limit(Create *create, const InstanceDatabase *database, int64_t limit) {
    Arena *arena = create->arena;
    const char *name = sql_ident(arena, database->name);

    if (limit == database->limit || (create->closed && limit == 0))
        return;
    note_add(&create->notes, NOTE_DATABASE_LIMIT,
             arena_printf(arena, "%s has %lld, on the source %lld", name, (long long)limit, (long long)database->limit),
             arena_printf(arena, "ALTER DATABASE %s CONNECTION LIMIT %lld;", name, (long long)database->limit));
}

static void note_tablespace(Create *create, const InstanceDatabase *database, const char *tablespace) {
    Arena *arena = create->arena;

    const char *place = database->placed ? database->place : database->tablespace;
    if (place == NULL || strcmp(tablespace, place) == 0)
        return;
    const char *name = sql_ident(arena, database->name);
    const char *wanted = sql_ident(arena, place);
    note_add(&create->notes, NOTE_DATABASE_TABLESPACE, arena_printf(arena, "%s in %s", name, wanted),
             arena_printf(arena, "ALTER DATABASE %s SET TABLESPACE %s;", name, wanted));
}

static bool note_differences(Create *create, const InstanceList *list, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(create->dest,
                  "SELECT d.datname, r.rolname, t.spcname, d.datconnlimit FROM pg_catalog.pg_database d"
                  " JOIN pg_catalog.pg_roles r ON r.oid = d.datdba"
                  " JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace",
                  0, NULL, &rows, err))
        return error_wrap(err, "reading the databases of the destination");
    for (size_t i = 0; i < list->databases.len; i++) {
        const InstanceDatabase *database = &list->databases.items[i];
        int row = find_row(rows, database->name);

        if (row < 0)
            continue;
        note_owner(create, database, db_text(rows, row, 1));
        note_tablespace(create, database, db_text(rows, row, 2));
        note_limit(create, database, db_int64(rows, row, 3));
    }
    return true;
}

/* What was there before this step ran for the first time: a step that is tried again must not take its own for that. */
static bool note_existing(Create *create, InstanceList *list, Error *err) {
    StringVec names = {0};

    if (!instance_database_names(create->arena, create->dest, &names, err))
        return false;
    for (size_t i = 0; i < list->databases.len; i++) {
        InstanceDatabase *database = &list->databases.items[i];

        for (size_t k = 0; k < names.len && !database->made; k++)
            database->exists = database->exists || strcmp(database->name, names.items[k]) == 0;
    }
    return true;
}

/* The template has sessions: nobody holds a lock then. */
static bool blame_others(Create *create, Error *err) {
    if (strcmp(err->sqlstate, "55006") == 0)
        return error_remedy(err, "on the destination: SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                                 " datname = 'template0';");
    return prepare_name_holders(create->arena, create->dest, err);
}

static bool make_all(Create *create, InstanceList *list, Error *err) {
    if (!db_exec(create->dest, "SET lock_timeout = '" PREPARE_LOCK_TIMEOUT "'", err))
        return false;
    for (size_t i = 0; i < list->databases.len; i++) {
        InstanceDatabase *database = &list->databases.items[i];

        if (!database->exists && !database->made && !make_database(create, database, err))
            return blame_others(create, err);
    }
    return db_exec(create->dest, "SET lock_timeout = 0", err);
}

bool instance_make_databases(Arena *arena, const InstanceInput *input, InstanceList *list, InstanceMade *made,
                             FindingVec *findings, Error *err) {
    Create create = {
        .arena = arena, .dest = input->dest, .made = made, .notes = {.arena = arena}, .closed = input->closed};

    if (!roles_read(arena, input->dest, &create.roles, err) || !note_existing(&create, list, err) ||
        !make_all(&create, list, err) || !note_differences(&create, list, err))
        return false;
    notes_to_findings(&create.notes, findings);
    return true;
}
