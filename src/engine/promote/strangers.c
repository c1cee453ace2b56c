/* Triggers and rules of the destination that fire for what pgcrane writes there (strangers.h). */
#include "engine/promote/strangers.h"

#include "engine/ledger/relations.h"
#include "pg/quote.h"

/* $1: "true" when those fire that the replica role would leave out. The clones that partitions have of their root's
 * trigger fire, too; before 13 they are internal, but unlike the server's own belong to no constraint. */
#define FIRES(column) "(" column " IN ('A', 'R') OR (" column " = 'O' AND $1::boolean))"
#define TABLES                                                                                                         \
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"                          \
    " AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcrane') AND "
#define STRANGERS_SQL                                                                                                  \
    "SELECT 'TRIGGER' AS kind, n.nspname, c.relname, t.tgname AS name,"                                                \
    " t.tgisinternal OR coalesce(pg_catalog.to_jsonb(t) ->> 'tgparentid', '0') <> '0' AS clone"                        \
    " FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid" TABLES                             \
    "(NOT t.tgisinternal OR t.tgconstraint = 0) AND " FIRES(                                                           \
        "t.tgenabled") " UNION ALL SELECT 'RULE', n.nspname, "                                                         \
                       "c.relname, w.rulename, false FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON "      \
                       "c.oid = w.ev_class" TABLES "w.rulename <> '_RETURN' AND " FIRES("w.ev_enabled")

static const char *fires_param(bool replica_role) {
    return replica_role ? "false" : "true";
}

static bool find_relation(DbConn *source, DbConn *dest, Stranger *stranger, bool *ret_found, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    CLEANUP(db_result_freep) DbResult *line = NULL;

    *ret_found = false;
    if (!db_query(source,
                  "SELECT c.oid::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
                  " ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
                  2, (const char *const[]){stranger->schema, stranger->table}, &row, err))
        return error_wrap(err, "looking for a table on the source");
    if (db_rows(row) == 0)
        return true;
    const char *oid = db_text(row, 0, 0);

    if (!db_query(dest, "SELECT suspect IS NOT NULL FROM pgcrane.relation WHERE oid = $1::oid", 1, &oid, &line, err))
        return error_wrap(err, "reading a table's line in the ledger");
    *ret_found = db_rows(line) == 1;
    stranger->oid = (uint32_t)db_int64(row, 0, 0);
    stranger->is_suspect = *ret_found && db_bool(line, 0, 0);
    return true;
}

static Stranger describe(Arena *arena, const DbResult *rows, int i) {
    bool is_rule = db_text(rows, i, 0)[0] == 'R';
    const char *schema = arena_strdup(arena, db_text(rows, i, 1)), *table = arena_strdup(arena, db_text(rows, i, 2));
    const char *name = arena_strdup(arena, db_text(rows, i, 3));

    return (Stranger){
        .what =
            arena_printf(arena, "%s %s of %s", is_rule ? "rule" : "trigger", name, sql_display(arena, schema, table)),
        .schema = schema,
        .table = table,
        .fix = db_bool(rows, i, 4) ? "drop it on the partitioned table that it comes from"
                                   : arena_printf(arena, "DROP %s %s ON %s", db_text(rows, i, 0),
                                                  sql_ident(arena, name), sql_qualified(arena, schema, table)),
    };
}

bool strangers_read(DbConn *source, DbConn *dest, Arena *arena, bool replica_role, StrangerVec *ret_found, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    StrangerVec found = {0};

    if (!db_query(dest, STRANGERS_SQL " ORDER BY 2, 3, 1, 4", 1, (const char *const[]){fires_param(replica_role)},
                  &rows, err))
        return error_wrap(err, "looking for triggers and rules of the destination");
    for (int i = 0; i < db_rows(rows); i++) {
        Stranger stranger = describe(arena, rows, i);
        bool is_ours = false;

        if (!find_relation(source, dest, &stranger, &is_ours, err))
            return false;
        if (is_ours)
            vec_push(arena, &found, stranger);
    }
    *ret_found = found;
    return true;
}

const char *stranger_text(Arena *arena, const Stranger *stranger) {
    return arena_printf(
        arena,
        "%s of the destination fires for what is written there, and may have changed it (there: %s); the"
        " table is copied again when it is gone",
        stranger->what, stranger->fix);
}

static bool mark_all(DbConn *dest, const StrangerVec *found, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();

    for (size_t i = 0; i < found->len; i++)
        if (!found->items[i].is_suspect &&
            !relation_set_suspect(
                dest, found->items[i].oid,
                arena_printf(scratch, "%s of the destination fired for what was written there", found->items[i].what),
                err))
            return false;
    return true;
}

bool strangers_mark(DbConn *dest, const Ledger *ledger, const StrangerVec *found, Error *err) {
    bool any = false;

    for (size_t i = 0; i < found->len; i++)
        any |= !found->items[i].is_suspect;
    if (!any)
        return true;
    if (!ledger_begin(dest, ledger, err))
        return false;
    if (mark_all(dest, found, err) && ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "marking tables that others' triggers fire on");
}

bool strangers_stand(DbConn *dest, const char *schema, const char *table, bool replica_role, bool *ret_stand,
                     Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(dest, "SELECT 1 FROM (" STRANGERS_SQL ") AS s WHERE s.nspname = $2 AND s.relname = $3", 3,
                  (const char *const[]){fires_param(replica_role), schema, table}, &rows, err))
        return error_wrap(err, "looking for triggers and rules of the destination");
    *ret_stand = db_rows(rows) > 0;
    return true;
}
