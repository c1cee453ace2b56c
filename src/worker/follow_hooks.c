/*
 * What the applier asks while it applies: a table that it does not know, a definition that changed. All of it runs in
 * the applier's thread and transaction, so that a mark in the ledger commits with what it is about.
 */
#include "common/log.h"
#include "engine/ddl/unrepeated.h"
#include "engine/ledger/relations.h"
#include "engine/seam/shapes.h"
#include "worker/following.h"

#include <string.h>

bool run_wanted(void *context, const char *schema, const char *name) {
    const Run *run = context;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    bool wanted = false;
    Error ignored; /* the patterns were read before: they are well formed */

    return filter_table_by_name(arena, &run->options, schema, name, &wanted, &ignored) && wanted;
}

typedef struct DestTable {
    bool exists;
    bool is_root;       /* partitioned: the rows are in its leaves */
    bool is_extensions; /* its rows come partly with CREATE EXTENSION: they are compared and copied by the promote */
} DestTable;

static bool look_at_dest(DbConn *dest, const PgoRelation *relation, DestTable *ret_table, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest,
                  "SELECT c.relkind = 'p', EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid"
                  "  AND d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)"
                  " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                  " WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')",
                  2, (const char *const[]){relation->schema, relation->name}, &row, err))
        return error_wrap(err, "looking for table %s.%s", relation->schema, relation->name);
    *ret_table = (DestTable){0};
    if (db_rows(row) == 1)
        *ret_table = (DestTable){.exists = true, .is_root = db_bool(row, 0, 0), .is_extensions = db_bool(row, 0, 1)};
    return true;
}

/* A table that is new on the source. With its CREATE TABLE in the stream all its rows are behind that, and everything
 * applies; without, rows may have come before we looked, and only a copy knows. Or one of the source's extensions,
 * which the destination's need not have: somebody gave it to them, and it is listed at the end. One that has left its
 * extension since we began is found by its shape (seam/shapes.h). */
static bool on_unknown_table(void *context, DbConn *dest, const PgoRelation *relation, bool *ret_apply, Error *err) {
    Following *following = context;
    DestTable table = {0};
    bool known = false;

    *ret_apply = false;
    if (!run_wanted(following->run, relation->schema, relation->name))
        return true;
    if (!relation_is_followed(dest, relation->oid, &known, err) || !look_at_dest(dest, relation, &table, err))
        return false;
    if (table.is_extensions || (table.is_root && !known) || (!known && following_is_member(following, relation->oid)))
        return true;
    *ret_apply = known && table.exists;
    if (*ret_apply)
        return true;
    if (!relation_add_suspect(dest, relation->oid, relation->schema, relation->name,
                              "it was made on the source after the copy", err))
        return false;
    return true;
}

/* Somebody has to make both sides alike; then it is copied again. */
static bool on_table_changed(void *context, DbConn *dest, const PgoRelation *relation, const char *why, Error *err) {
    Following *following = context;

    run_event(following->run, "warning", "table %s.%s is paused: %s; it is copied again when both sides are alike",
              relation->schema, relation->name, why);
    return relation_set_suspect(dest, relation->oid, why, err);
}

/* Those that it names, and whose rows it reaches besides: partitions, inheritors. A root of partitions has no line and
 * needs none. What has rows and is migrated gets a mark in any case, if need be with a line. */
static bool mark_tables(const Following *following, DbConn *dest, const DdlResult *result, Error *err) {
    for (size_t i = 0; i < result->tables_count; i++)
        if (!relation_set_suspect(dest, result->tables[i], result->reason, err))
            return false;
    for (size_t i = 0; i < result->rows_count; i++) {
        const DdlResultTable *table = &result->rows[i];

        if (run_wanted(following->run, table->schema, table->name) &&
            !relation_mark(dest, table->oid, table->schema, table->name, result->reason, err))
            return false;
    }
    return true;
}

/* A table is compared column by column, and copied again; of anything else only the note remembers that it is missing.
 * What the comparison of the catalogues only notes is no reason to wait, however it came about. */
static bool is_to_be_noted(const DdlResult *result) {
    static const char *const compared[] = {"COMMENT", "GRANT", "REVOKE", "ALTER DEFAULT PRIVILEGES"};

    for (size_t i = 0; i < COUNT_OF(compared); i++)
        if (strcmp(result->tag, compared[i]) == 0)
            return false;
    return !result->was_run && (result->tables_count == 0 || strcmp(result->tag, "SECURITY LABEL") == 0);
}

/* A table's beginning is in the stream, so that every change of it applies. No other command says that: a table that it
 * is about and that the ledger does not have (any more: dropped on the source meanwhile, while we are behind; or moved
 * into what is wanted) has rows that nobody copied. */
static bool begins_tables(const char *tag) {
    static const char *const tags[] = {"CREATE TABLE", "CREATE TABLE AS", "SELECT INTO", "CREATE SCHEMA"};

    for (size_t i = 0; i < COUNT_OF(tags); i++)
        if (strcmp(tag, tags[i]) == 0)
            return true;
    return false;
}

/* Once, whatever comes: who writes one may write a million. */
static void tell_forged(Following *following) {
    if (following->forged_told)
        return;
    following->forged_told = true;
    run_event(
        following->run, "warning",
        "the source's stream has a message in the name of the capture of definitions (slot %s) without its secret:"
        " it was not obeyed. Any role may write one by pg_logical_emit_message() (find who does; if nobody else"
        " needs it: REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC); or it was"
        " captured before the event triggers were made anew, and what it was about is compared before the promote",
        following->run->names.slot);
}

static bool on_ddl(Following *following, DbConn *dest, const PgoLogical *message, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    DdlResult result = {0};

    if (!ddl_replay(&following->ddl_stream, dest, arena, message->content, message->len, &result, err))
        return error_wrap(err, "applying a change of definitions");
    switch (result.outcome) {
    case DDL_FORGED:
        tell_forged(following);
        return true;
    case DDL_IGNORED:
        return true;
    case DDL_APPLIED:
        for (size_t i = 0; begins_tables(result.tag) && i < result.tables_count; i++)
            if (!relation_add_followed(dest, result.tables[i], err))
                return false;
        for (size_t i = 0; i < result.shapes_count; i++)
            if (!shape_follow(dest, result.shapes[i].oid, result.shapes[i].schema, result.shapes[i].name,
                              result.shapes[i].shape, err))
                return false;
        (void)atomic_fetch_add(&following->ddl, 1);
        log_info("definition applied: %s", result.what);
        return true;
    case DDL_SUSPECT:
        run_event(following->run, "warning", "%s: %s: %s",
                  result.tables_count > 0 ? "its tables need a copy" : "not repeated on the destination", result.what,
                  result.reason);
        if (is_to_be_noted(&result) && !unrepeated_add(dest, &result, err))
            return false;
        return mark_tables(following, dest, &result, err);
    }
    UNREACHABLE();
}

static bool on_message(void *context, DbConn *dest, const PgoLogical *message, Error *err) {
    return strcmp(message->prefix, "pgcrane.ddl") != 0 || on_ddl(context, dest, message, err);
}

FollowHooks following_hooks(Following *following) {
    Run *run = following->run;

    /* Without --ddl nobody asked for commands: what comes is another migration's. */
    following->ddl_stream = (DdlStream){.slot = run->names.slot,
                                        .secret = following->ddl_secret,
                                        .wanted = run_wanted,
                                        .context = run,
                                        .tablespace_map = run->options.tablespace_map};
    return (FollowHooks){.context = following,
                         .unknown_table = on_unknown_table,
                         .table_changed = on_table_changed,
                         .message = run->options.ddl ? on_message : NULL};
}
