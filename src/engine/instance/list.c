/*
 * Which databases of an instance move: those that allow connections and are no templates, without those that a provider
 * keeps for itself, and `postgres` only when somebody has put something into it.
 *
 * pg_database is shared: one connection sees all of them. Only `postgres` may have to be looked into, by a connection
 * of its own.
 */
#include "engine/instance/instance.h"

#include "common/utf8.h"
#include "engine/instance/prepare.h"
#include "engine/instance/provider.h"
#include "model/tablespace_map.h"
#include "pg/quote.h"

enum { MAJOR_MIN = 10, MAJOR_MAX = 19, LIMIT_OF_INVALID = -2 };

typedef struct Candidate {
    InstanceDatabase database;
    bool open, is_template, may_connect, theirs;
    const char *apart; /* why `postgres` is left alone: it is empty, or cannot be looked into; NULL = it is not */
} Candidate;

typedef VEC(Candidate) CandidateVec;

/* ---- What there is ---- */

static const char *candidates_sql(Arena *arena, int major) {
    const char *provider =
        major >= 15 ? "CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END" : "'libc'";
    const char *locale = major >= 17 ? "d.datlocale" : major >= 15 ? "d.daticulocale" : "NULL";
    const char *rules = major >= 16 ? "d.daticurules" : "NULL";

    return arena_printf(arena,
                        "SELECT d.datname, a.rolname, %s,"
                        " pg_catalog.pg_encoding_to_char(d.encoding), %s, d.datcollate, d.datctype, %s, %s,"
                        " CASE WHEN t.spcname <> 'pg_default' THEN t.spcname END, d.datconnlimit, d.datallowconn,"
                        " d.datistemplate, pg_catalog.has_database_privilege(d.oid, 'CONNECT'),"
                        " %s,"
                        " CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')"
                        "  THEN pg_catalog.pg_database_size(d.oid) END"
                        " FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace"
                        " LEFT JOIN pg_catalog.pg_roles a ON a.oid = d.datdba"
                        " WHERE d.datname NOT IN ('template0', 'template1') ORDER BY d.datname",
                        provider_role_sql(arena, "a.rolname"), provider, locale, rules,
                        provider_database_sql(arena, "d.datname"));
}

static const char *text_or_null(Arena *arena, const DbResult *rows, int row, int column) {
    return db_is_null(rows, row, column) ? NULL : arena_strdup(arena, db_text(rows, row, column));
}

static Candidate candidate_of(Arena *arena, const DbResult *rows, int row) {
    return (Candidate){
        .database =
            {
                .name = arena_strdup(arena, db_text(rows, row, 0)),
                .owner = arena_strdup(arena, db_text(rows, row, 1)),
                .owner_is_theirs = db_bool(rows, row, 2),
                .encoding = arena_strdup(arena, db_text(rows, row, 3)),
                .provider = arena_strdup(arena, db_text(rows, row, 4)),
                .collate = arena_strdup(arena, db_text(rows, row, 5)),
                .ctype = arena_strdup(arena, db_text(rows, row, 6)),
                .locale = text_or_null(arena, rows, row, 7),
                .rules = text_or_null(arena, rows, row, 8),
                .tablespace = text_or_null(arena, rows, row, 9),
                .limit = db_int64(rows, row, 10),
                .bytes = db_is_null(rows, row, 15) ? -1 : db_int64(rows, row, 15),
            },
        .open = db_bool(rows, row, 11),
        .is_template = db_bool(rows, row, 12),
        .may_connect = db_bool(rows, row, 13),
        .theirs = db_bool(rows, row, 14),
    };
}

static bool read_candidates(Arena *arena, DbConn *source, CandidateVec *ret_found, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(source, candidates_sql(arena, db_major(source)), 0, NULL, &rows, err))
        return error_wrap(err, "listing the databases of the source");
    for (int i = 0; i < db_rows(rows); i++)
        vec_push(arena, ret_found, candidate_of(arena, rows, i));
    return true;
}

/* ---- Is there anything in it? ---- */

/* Anything that initdb did not make, and no extension brought. */
#define SQL_HOLDS(catalog, alias, schema, condition)                                                                   \
    " OR EXISTS (SELECT FROM pg_catalog." catalog " " alias " JOIN pg_catalog.pg_namespace n ON n.oid = " alias        \
    "." schema " WHERE " alias ".oid >= 16384 AND " condition                                                          \
    " AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcrane')"                                  \
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend m WHERE m.classid = 'pg_catalog." catalog                       \
    "'::pg_catalog.regclass AND m.objid = " alias ".oid AND m.deptype = 'e'))"
#define SQL_HOLDS_OBJECTS                                                                                              \
    SQL_HOLDS("pg_class", "c", "relnamespace", "c.relkind <> 't'")                                                     \
    SQL_HOLDS("pg_proc", "p", "pronamespace", "true")                                                                  \
    SQL_HOLDS("pg_type", "t", "typnamespace", "true")                                                                  \
    SQL_HOLDS("pg_namespace", "s", "oid", "true")

/* Extensions count when they keep rows for their users (pg_cron's jobs): those are moved. */
static const char holds_objects_sql[] =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"
    " OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extconfig IS NOT NULL)" SQL_HOLDS_OBJECTS;

static bool ask_whether_used(DbConn *conn, bool *ret_used, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn, holds_objects_sql, 0, NULL, &row, err))
        return error_wrap(err, "looking for objects in database postgres");
    *ret_used = db_bool(row, 0, 0);
    return true;
}

/* By the connection that we have, or by one more. */
static bool look_inside(const InstanceInput *input, const char *name, bool *ret_used, Error *err) {
    CLEANUP(db_closep) DbConn *other = NULL;
    DbTarget target = *input->source_target;

    if (strcmp(db_name(input->source), name) == 0)
        return ask_whether_used(input->source, ret_used, err);
    target.database = name;
    return db_open(&target, "instance", db_stop(input->source), &other, err) && ask_whether_used(other, ret_used, err);
}

static bool look_at_postgres(Arena *arena, const InstanceInput *input, Candidate *candidate, Error *err) {
    bool used = false;

    if (!candidate->open || !candidate->may_connect || strcmp(candidate->database.name, "postgres") != 0)
        return true;
    if (look_inside(input, candidate->database.name, &used, err)) {
        candidate->apart = used ? NULL : "it holds nothing of its users";
        return true;
    }
    if (err->retryable || err->reason == REASON_CANCELLED || db_is_broken(input->source))
        return false;
    candidate->may_connect = false; /* refused for another reason than a missing right, such as pg_hba.conf */
    candidate->apart = arena_strdup(arena, err->message);
    return true;
}

/* ---- What moves ---- */

static bool is_utf8(const char *text) {
    size_t left = strlen(text);

    while (left > 0) {
        size_t len = utf8_char_len(text, left);
        if (len == 0)
            return false;
        text += len;
        left -= len;
    }
    return true;
}

/* Why it cannot be moved, also when somebody asks for it; NULL: it can. */
static const char *obstacle(const Candidate *c) {
    if (c->is_template)
        return "it is a template";
    if (c->database.limit == LIMIT_OF_INVALID)
        return "it is invalid, as a DROP DATABASE of it was interrupted";
    if (!c->open)
        return "it does not allow connections";
    if (!c->may_connect)
        return c->apart != NULL ? c->apart : "the source's role may not connect to it";
    if (!is_utf8(c->database.name))
        return "its name is not valid UTF-8";
    return NULL;
}

static const char *obstacle_fix(Arena *arena, const InstanceInput *input, const Candidate *c) {
    const char *name = sql_ident(arena, c->database.name);

    if (c->is_template)
        return arena_printf(arena, "ALTER DATABASE %s IS_TEMPLATE false;", name);
    if (c->database.limit == LIMIT_OF_INVALID)
        return arena_printf(arena, "DROP DATABASE %s;", name);
    if (!c->open)
        return arena_printf(arena, "ALTER DATABASE %s ALLOW_CONNECTIONS true;", name);
    if (!c->may_connect && c->apart == NULL)
        return arena_printf(arena, "GRANT CONNECT ON DATABASE %s TO %s;", name,
                            sql_ident(arena, db_user(input->source)));
    return "";
}

static bool has_name(const StringVec *names, const char *name) {
    for (size_t i = 0; i < names->len; i++)
        if (strcmp(names->items[i], name) == 0)
            return true;
    return false;
}

static void take_unasked(const InstanceInput *input, const Candidate *c, InstanceList *list, Notes *notes) {
    const char *reason = c->theirs ? "the source's provider keeps it for itself" : obstacle(c);

    if (has_name(&input->over, c->database.name))
        reason = "it is moved already";
    if (reason == NULL)
        reason = c->apart;
    if (reason == NULL) {
        vec_push(notes->arena, &list->databases, c->database);
        return;
    }
    InstanceNotMoved item = {c->database.name, reason};
    vec_push(notes->arena, &list->not_moved, item);
    if (!c->theirs && c->open && !c->is_template && !c->may_connect && !has_name(&input->over, c->database.name))
        note_refused(notes, NOTE_DATABASE_UNREADABLE, sql_ident(notes->arena, c->database.name), reason,
                     obstacle_fix(notes->arena, input, c));
}

static void take_asked(const InstanceInput *input, const Candidate *c, InstanceList *list, Notes *notes) {
    const char *reason = obstacle(c);

    if (reason == NULL)
        vec_push(notes->arena, &list->databases, c->database);
    else
        note_refused(notes, NOTE_DATABASE_CLOSED, sql_ident(notes->arena, c->database.name), reason,
                     obstacle_fix(notes->arena, input, c));
}

static bool is_found(const CandidateVec *found, const char *name) {
    for (size_t i = 0; i < found->len; i++)
        if (strcmp(found->items[i].database.name, name) == 0)
            return true;
    return false;
}

static void note_unknown(const InstanceInput *input, const CandidateVec *found, Notes *notes) {
    for (size_t i = 0; i < input->names.len; i++) {
        const char *name = input->names.items[i];

        if (strcmp(name, "template0") == 0 || strcmp(name, "template1") == 0)
            note_refused(notes, NOTE_DATABASE_CLOSED, sql_ident(notes->arena, name), "it is a template", "");
        else if (!is_found(found, name))
            note_add(notes, NOTE_DATABASE_UNKNOWN, sql_ident(notes->arena, name), "");
    }
}

static bool choose(const InstanceInput *input, CandidateVec *found, InstanceList *list, Notes *notes, Error *err) {
    for (size_t i = 0; i < found->len; i++) {
        Candidate *candidate = &found->items[i];

        if (!input->all && has_name(&input->names, candidate->database.name))
            take_asked(input, candidate, list, notes);
        if (!input->all)
            continue;
        if (!look_at_postgres(notes->arena, input, candidate, err))
            return false;
        take_unasked(input, candidate, list, notes);
    }
    if (!input->all)
        note_unknown(input, found, notes);
    return true;
}

/* Whoever begins with all of no databases ends there: then what was left out is no warning. Listed alone it is no
 * error, and an empty instance may have roles to be made. */
static void note_nothing_to_move(const InstanceInput *input, const InstanceList *list, Notes *notes) {
    NoteList *left_out = &notes->lists[NOTE_DATABASE_UNREADABLE];

    if (!input->all || list->databases.len > 0)
        return;
    if (left_out->count > 0 && (input->check || input->prepare)) {
        notes->lists[NOTE_NOTHING_TO_MOVE] = *left_out;
        *left_out = (NoteList){0};
    } else if (input->check) {
        note_add(notes, NOTE_NOTHING_TO_MOVE, "there are templates and what its users have not filled", "");
    }
}

/* ---- The servers ---- */

static bool note_standby(Notes *notes, DbConn *dest, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest, "SELECT pg_catalog.pg_is_in_recovery()", 0, NULL, &row, err))
        return error_wrap(err, "asking the destination whether it is a standby");
    if (db_bool(row, 0, 0))
        note_add(notes, NOTE_DESTINATION_UNFIT, "it is a standby", "SELECT pg_promote(); -- or connect to the primary");
    return true;
}

static bool is_known(int major) {
    return major >= MAJOR_MIN && major <= MAJOR_MAX;
}

static bool note_unfit(Notes *notes, const InstanceInput *input, Error *err) {
    int source = db_major(input->source);
    int dest = input->dest == NULL ? source : db_major(input->dest);

    if (!is_known(source))
        note_add(notes, NOTE_SOURCE_UNFIT, arena_printf(notes->arena, "it is PostgreSQL %d, not 10 to 19", source), "");
    if (input->dest == NULL)
        return true;
    if (!is_known(dest))
        note_add(notes, NOTE_DESTINATION_UNFIT, arena_printf(notes->arena, "it is PostgreSQL %d, not 10 to 19", dest),
                 "");
    else if (dest < source)
        note_add(notes, NOTE_DESTINATION_UNFIT,
                 arena_printf(notes->arena, "it is PostgreSQL %d, and the source is %d", dest, source), "");
    return note_standby(notes, input->dest, err);
}

static bool is_unfit(const Notes *notes) {
    return notes->lists[NOTE_SOURCE_UNFIT].count + notes->lists[NOTE_DESTINATION_UNFIT].count > 0;
}

bool instance_database_names(Arena *arena, DbConn *conn, StringVec *ret_names, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(conn, "SELECT datname FROM pg_catalog.pg_database", 0, NULL, &rows, err))
        return error_wrap(err, "listing the databases of the %s", db_side_name(db_conn_side(conn)));
    for (int i = 0; i < db_rows(rows); i++)
        vec_push(arena, ret_names, arena_strdup(arena, db_text(rows, i, 0)));
    return true;
}

static bool note_existing(Arena *arena, DbConn *dest, InstanceList *list, Error *err) {
    StringVec names = {0};

    if (!instance_database_names(arena, dest, &names, err))
        return false;
    for (size_t i = 0; i < list->databases.len; i++)
        for (size_t k = 0; k < names.len && !list->databases.items[i].exists; k++)
            list->databases.items[i].exists = strcmp(list->databases.items[i].name, names.items[k]) == 0;
    return true;
}

static bool place(Arena *arena, const InstanceInput *input, InstanceList *list, Error *err) {
    TablespaceMap map;

    if (!tablespace_map_parse(arena, input->tablespace_map, &map, err))
        return false;
    for (size_t i = 0; i < list->databases.len; i++) {
        InstanceDatabase *database = &list->databases.items[i];
        const char *to = tablespace_map_find(&map, database->tablespace == NULL ? "pg_default" : database->tablespace);

        database->placed = to != NULL;
        database->place = to == NULL || to[0] == '\0' ? NULL : to;
    }
    return true;
}

bool instance_list(Arena *arena, const InstanceInput *input, InstanceList *ret_list, FindingVec *findings, Error *err) {
    Notes notes = {.arena = arena};
    InstanceList list = {0};
    CandidateVec found = {0};

    if (!note_unfit(&notes, input, err))
        return false;
    if (!is_unfit(&notes) &&
        (!read_candidates(arena, input->source, &found, err) || !choose(input, &found, &list, &notes, err) ||
         !place(arena, input, &list, err) || (input->dest != NULL && !note_existing(arena, input->dest, &list, err))))
        return false;
    if (!is_unfit(&notes))
        note_nothing_to_move(input, &list, &notes);
    notes_to_findings(&notes, findings);
    *ret_list = list;
    return true;
}

/* ---- As JSON ---- */

static json_t *database_to_json(const InstanceDatabase *database, bool has_dest) {
    return json_pack("{s:o, s:o, s:o, s:b, s:s*, s:s*, s:s*, s:s*, s:s*}", "name", json_string_lossy(database->name),
                     "bytes", database->bytes < 0 ? json_null() : json_integer(database->bytes), "exists",
                     has_dest ? json_boolean(database->exists) : json_null(), "made", (int)database->made, "encoding",
                     database->encoding, "provider", database->provider, "collate", database->collate, "ctype",
                     database->ctype, "locale", database->locale);
}

json_t *instance_list_to_json(const InstanceList *list, bool has_dest) {
    json_t *databases = json_array();
    json_t *not_moved = json_array();

    for (size_t i = 0; i < list->databases.len; i++)
        (void)json_array_append_new(databases, database_to_json(&list->databases.items[i], has_dest));
    for (size_t i = 0; i < list->not_moved.len; i++)
        (void)json_array_append_new(not_moved,
                                    json_pack("{s:o, s:o}", "name", json_string_lossy(list->not_moved.items[i].name),
                                              "reason", json_string_lossy(list->not_moved.items[i].reason)));
    return json_pack("{s:o, s:o}", "databases", databases, "not_moved", not_moved);
}
