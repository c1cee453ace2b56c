/*
 * Changes one by one (apply_internal.h).
 *
 * First all through pipelines: each must touch one row, and usually does. If not, or if it takes a look at the row to
 * choose the statement (a column GENERATED ALWAYS AS IDENTITY), again from the start of the part and with a round trip
 * each; then the one that fails is known, and the destination's row can be shown beside it.
 */
#include "common/utf8.h"
#include "engine/apply/apply_internal.h"
#include "pg/sqlstate.h"

#include <stdio.h>
#include <string.h>

enum { PIECE = 500, CAUSE_MAX = 250, ROW_MAX = 180, VALUE_MAX = 60 };

static bool is_of_class(const Error *err, const char *class) {
    return strncmp(err->sqlstate, class, 2) == 0;
}

/* A column, a type or the table itself is gone, or is something else. */
static bool is_definition(const Error *err) {
    return is_of_class(err, "42") && strcmp(err->sqlstate, "42501") != 0;
}

/* Unique and exclusion violations and wrong counts may come from the order within a statement. What else is wrong with
 * a row's values, or with the table, is so one by one as well, but then the row has a name. A limit of the server (54)
 * may be one of the larger statement only. */
bool one_by_one_may_help(const DbConn *dest, const Error *err) {
    return !db_is_broken(dest) && (err->reason == REASON_ROW_COUNT || is_of_class(err, "23") ||
                                   is_of_class(err, "22") || is_of_class(err, "54") || is_definition(err));
}

/* ---- The error ---- */

/* The beginning of a text, whole characters. */
static const char *shorten(Arena *arena, const char *text, size_t len, size_t max) {
    size_t kept = utf8_cut(text, len, max);

    return arena_printf(arena, "%.*s%s", (int)kept, text, kept < len ? "..." : "");
}

static const char *show(Arena *arena, const PgoValue *value) {
    if (value->kind == PGO_NULL)
        return "NULL";
    return value->kind == PGO_UNCHANGED ? "(unchanged)" : shorten(arena, value->bytes, value->len, VALUE_MAX);
}

/* "(id = 7, n = NULL)" of the key, or of the row. */
static const char *describe(Arena *arena, const ApplyTable *table, const PgoTuple *tuple, bool only_key) {
    const char *text = "";

    for (uint16_t c = 0; c < tuple->count && strlen(text) < ROW_MAX; c++)
        if (!only_key || table->batch.columns[c].is_key)
            text = arena_printf(arena, "%s%s%s = %s", text, text[0] == '\0' ? "" : ", ", table->batch.columns[c].name,
                                show(arena, &tuple->values[c]));
    return arena_printf(arena, "(%s)", shorten(arena, text, strlen(text), ROW_MAX));
}

/* What the destination has instead. The transaction is lost anyway; it only has to be able to read again. */
static const char *row_there(DbConn *dest, Arena *arena, const ApplyTable *table, const BatchChange *change) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    ApplySingle find;
    Error ignored;

    if (table->batch.identity == 'f')
        return "no row of the destination has these values";
    if (table->keys_count == 0)
        return "";
    if (!db_exec(dest, "ROLLBACK TO parts", &ignored) || !apply_find(arena, table, change, &find, &ignored) ||
        !db_query(dest, find.sql, find.params_count, find.params, &row, &ignored))
        return "the destination's row could not be read";
    if (db_rows(row) == 0)
        return "the destination has no row with this key";
    return arena_printf(arena, "the destination has %s",
                        shorten(arena, db_text(row, 0, 0), db_length(row, 0, 0), ROW_MAX));
}

static bool conflict(DbConn *dest, Arena *arena, const ApplyTable *table, const BatchChange *change, Error *err) {
    static const char *const verbs[] = {"insert", "update", "delete"};
    bool keyless = table->batch.identity == 'f' || table->keys_count == 0;
    const PgoTuple *old = change->old_kind != 0 ? &change->old_tuple : &change->new_tuple;
    const char *source = "";
    char sqlstate[sizeof(err->sqlstate)];

    if (err->retryable || err->reason == REASON_CANCELLED || db_is_broken(dest))
        return error_wrap(err, "applying changes of table %s", table->display);
    memcpy(sqlstate, err->sqlstate, sizeof(sqlstate));
    bool is_encoding = sqlstate_is_encoding(sqlstate); /* has its remedy */
    bool is_unqualified = sqlstate_is_unqualified(sqlstate, err->message);
    bool is_value = is_of_class(err, "22") || is_of_class(err, "54") || is_definition(err);
    bool is_check = strcmp(sqlstate, "23514") == 0;
    const char *remedy = arena_strdup(arena, err->remedy);
    const char *cause = shorten(arena, err->message, strlen(err->message), CAUSE_MAX);
    (void)snprintf(table->trouble->refused, sizeof(table->trouble->refused), "%s", cause);
    if (change->op != BATCH_DELETE)
        source = arena_printf(arena, "; the source has %s", describe(arena, table, &change->new_tuple, false));
    (void)error_set(err, REASON_CONFLICT, "cannot %s row %s of table %s: %s%s; %s", verbs[change->op],
                    describe(arena, table, old, !keyless), table->display, cause, source,
                    row_there(dest, arena, table, change));
    err->retryable = false;
    memcpy(err->sqlstate, sqlstate, sizeof(sqlstate));
    if (is_encoding)
        return error_remedy(err, "%s", remedy);
    if (is_unqualified)
        return error_remedy(err, SQLSTATE_UNQUALIFIED_REMEDY "; nothing was skipped");
    if (is_check)
        return error_remedy(err,
                            "the destination checks what the source did not, as a NOT VALID constraint of a domain does"
                            " with values of before: drop that constraint on both sides until the promote is done, or"
                            " make it what it is on the source; then run the same command again; nothing was skipped");
    if (is_value)
        return error_remedy(err,
                            "the table has another definition on the destination: make it what it is on the source,"
                            " then run the same command again; nothing was skipped");
    return error_remedy(err,
                        "something else wrote to the destination: mend that row there, then run the same command again;"
                        " nothing was skipped, and nothing of this transaction has been applied");
}

/* ---- Running ---- */

static bool is_in_the_way(const DbConn *dest, const Error *err) {
    return !db_is_broken(dest) && (strcmp(err->sqlstate, "23505") == 0 || strcmp(err->sqlstate, "23P01") == 0);
}

/* What ON CONFLICT DO NOTHING does, where it is refused. */
static bool insert_or_leave(DbConn *dest, const ApplySingle *single, Error *err) {
    if (!db_exec(dest, "SAVEPOINT row", err))
        return false;
    if (!db_query(dest, single->sql, single->params_count, single->params, NULL, err) &&
        (!is_in_the_way(dest, err) || !db_exec(dest, "ROLLBACK TO row", err)))
        return false;
    return db_exec(dest, "RELEASE row", err);
}

static bool run_one(DbConn *dest, Arena *arena, const ApplyTable *table, const BatchChange *change, Error *err) {
    ApplySingle single;

    if (!apply_single(arena, table, change, &single, err))
        return false;
    if (apply_needs_savepoint(table, change->op))
        return insert_or_leave(dest, &single, err);
    if (apply_is_loose(table, change->op) ? db_query(dest, single.sql, single.params_count, single.params, NULL, err)
                                          : db_exec_rows(dest, single.sql, single.params_count, single.params, 1, err))
        return true;
    /* The row is there, but a column that cannot be SET has another value: the one case with two statements. */
    if (change->op != BATCH_UPDATE || !table->has_always_identity || err->reason != REASON_ROW_COUNT)
        return false;
    return apply_replace(arena, table, change, &single, err) &&
           db_exec_rows(dest, single.sql, single.params_count, single.params, 1, err);
}

static bool run_careful(DbConn *dest, const BatchPart *part, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    for (size_t i = 0; i < part->changes_count; i++) {
        arena_reset(arena);
        if (!run_one(dest, arena, table_of(part), &part->changes[i], err))
            return conflict(dest, arena, table_of(part), &part->changes[i], err);
    }
    return true;
}

static bool run_piece(DbConn *dest, const BatchPart *part, size_t from, size_t to, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    bool ok = db_pipeline_begin(dest, err);
    bool open = ok;

    for (size_t i = from; ok && i < to; i++) {
        ApplySingle single;

        arena_reset(arena);
        ok = apply_single(arena, table_of(part), &part->changes[i], &single, err) &&
             db_pipeline_send(dest, "one change", single.sql, single.params_count, single.params,
                              apply_is_loose(table_of(part), part->changes[i].op) ? -1 : 1, err);
    }
    if (ok)
        return db_pipeline_end(dest, err);
    Error later;
    if (open && !db_is_broken(dest))
        (void)!db_pipeline_end(dest, &later);
    return false;
}

/* Behind its earlier changes of the same transaction, of which each has been checked, so that it fails for none. */
static bool make_immediate(DbConn *dest, const ApplyTable *table, Error *err) {
    return !apply_needs_savepoint(table, BATCH_INSERT) || db_exec(dest, table->immediate_sql, err) ||
           error_wrap(err, "checking the constraints of table %s at once", table->display);
}

static bool run_quick(DbConn *dest, const BatchPart *part, Error *err) {
    for (size_t i = 0; i < part->changes_count; i += PIECE)
        if (!run_piece(dest, part, i, MIN(i + PIECE, part->changes_count), err))
            return false;
    return true;
}

bool one_by_one_run(DbConn *dest, const BatchPart *part, Error *err) {
    if (!make_immediate(dest, table_of(part), err) || !db_exec(dest, "SAVEPOINT parts", err))
        return false;
    if (!table_of(part)->has_always_identity && part->changes_count > 1) {
        if (run_quick(dest, part, err))
            return db_exec(dest, "RELEASE parts", err);
        if (!one_by_one_may_help(dest, err))
            return error_wrap(err, "applying changes of table %s", table_of(part)->display);
        if (!db_exec(dest, "ROLLBACK TO parts", err))
            return false;
    }
    return run_careful(dest, part, err) && db_exec(dest, "RELEASE parts", err);
}
