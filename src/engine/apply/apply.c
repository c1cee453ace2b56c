/*
 * Applies a sealed batch to the destination (apply.h).
 *
 * NOTES: crash points
 * Data and position are one transaction, committed durably (the control of synchronous_commit is ours). A crash before
 * COMMIT leaves neither; after it both. A COMMIT whose reply is lost: the next run reads the position from the ledger
 * and goes on from there; what the stream sends again below it is dropped by the receiver. The compare-and-set makes a
 * second applier, or one that lost its place, fail.
 */
#include "engine/apply/apply.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "engine/apply/rows.h"

#include <stdio.h>
#include <string.h>

enum { PARAM_MAX = 1 << 30, COPY_ROWS_MIN = 200, COPY_PIECE = 1 << 20 };

bool apply_session_setup(DbConn *dest, bool *ret_replica, Error *err) {
    Error refused = {0};

    /* Generic plans with index nested loops: a custom plan of a large array may choose to hash the whole table. */
    if (!db_exec(dest,
                 "SET synchronous_commit = on; SET plan_cache_mode = force_generic_plan; SET enable_hashjoin = off;"
                 " SET enable_mergejoin = off; SET enable_seqscan = off",
                 err))
        return error_wrap(err, "setting up the applier's session");
    *ret_replica = db_exec(dest, "SET session_replication_role = replica", &refused);
    if (!*ret_replica)
        log_warning("session_replication_role cannot be set: %s", refused.message);
    return *ret_replica || !db_is_broken(dest) || (*err = refused, false);
}

bool apply_begin(DbConn *dest, const Ledger *ledger, Error *err) {
    return ledger_begin(dest, ledger, err);
}

static const ApplyTable *table_of(const BatchPart *part) {
    return (const ApplyTable *)(const void *)part->table;
}

/* ---- Set-wise ---- */

typedef struct Params {
    Buf *bufs;
    const char **texts;
    int count, max;
} Params;

static Params params_new(Arena *arena, int max) {
    return (Params){.bufs = arena_array(arena, Buf, (size_t)max),
                    .texts = arena_array(arena, const char *, (size_t)max),
                    .max = max};
}

static Buf *params_next(Params *params) {
    Buf *buf = &params->bufs[params->count++];

    buf_init(buf, PARAM_MAX);
    return buf;
}

static bool params_finish(Params *params, Error *err) {
    for (int i = 0; i < params->count; i++) {
        if (!buf_ok(&params->bufs[i], "a batch's column", err))
            return false;
        params->texts[i] = params->bufs[i].data;
    }
    return true;
}

static void params_fini(Params *params) {
    for (int i = 0; i < params->count; i++)
        buf_fini(&params->bufs[i]);
}

static void add_columns(Params *params, const ApplyTable *table, const BatchGroup *group) {
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        bool used = group->op == BATCH_INSERT ? !table->batch.columns[c].is_generated
                                              : group->op == BATCH_UPDATE && group->uses[c] != BATCH_LEAVE;
        if (used)
            rows_append_column_array(params_next(params), group, c);
    }
}

static char *group_sql(Arena *arena, const ApplyTable *table, const BatchGroup *group) {
    switch (group->op) {
    case BATCH_INSERT:
        return apply_insert_sql(arena, table);
    case BATCH_UPDATE:
        return apply_update_sql(arena, table, group->uses);
    case BATCH_DELETE:
        return apply_delete_sql(arena, table);
    }
    UNREACHABLE();
}

static bool run_unnest(DbConn *dest, Arena *arena, const ApplyTable *table, const BatchGroup *group, Error *err) {
    Params params = params_new(arena, table->keys_count + table->batch.columns_count);

    if (group->op != BATCH_INSERT)
        for (uint16_t k = 0; k < table->keys_count; k++)
            rows_append_key_array(params_next(&params), group, k);
    add_columns(&params, table, group);
    bool ok = params_finish(&params, err) && db_exec_rows(dest, group_sql(arena, table, group), params.count,
                                                          params.texts, (int64_t)group->rows_count, err);
    params_fini(&params);
    return ok;
}

static bool run_copy(DbConn *dest, Arena *arena, const ApplyTable *table, const BatchGroup *group, Error *err) {
    CLEANUP(buf_fini) Buf lines;
    int64_t rows = 0;
    bool ok = db_copy_in_begin(dest, apply_copy_sql(arena, table), err);

    buf_init(&lines, PARAM_MAX);
    for (size_t i = 0; ok && i < group->rows_count; i++) {
        rows_append_copy(&lines, table, &group->rows[i]);
        if (lines.len < COPY_PIECE && i + 1 < group->rows_count)
            continue;
        ok = buf_ok(&lines, "a batch's rows", err) && db_copy_in_put(dest, lines.data, lines.len, err);
        buf_clear(&lines);
    }
    if (!ok || !db_copy_in_end(dest, &rows, err))
        return false;
    return rows == (int64_t)group->rows_count ||
           error_set(err, REASON_ROW_COUNT, "%lld rows of table %s arrived, not %zu", (long long)rows, table->display,
                     group->rows_count);
}

static bool run_group(DbConn *dest, const ApplyTable *table, const BatchGroup *group, ApplyCounts *counts, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    bool copy = group->op == BATCH_INSERT && (group->rows_count >= COPY_ROWS_MIN || table->batch.columns_count == 0);

    if (!(copy ? run_copy : run_unnest)(dest, arena, table, group, err))
        return false;
    int64_t rows = (int64_t)group->rows_count;
    counts->inserts += group->op == BATCH_INSERT ? rows : 0;
    counts->updates += group->op == BATCH_UPDATE ? rows : 0;
    counts->deletes += group->op == BATCH_DELETE ? rows : 0;
    return true;
}

/* ---- One by one ---- */

/* What people need to find the row: its key, or the beginning of its values. */
static const char *describe_row(Arena *arena, const ApplyTable *table, const BatchChange *change) {
    const PgoTuple *tuple = change->old_kind != 0 ? &change->old_tuple : &change->new_tuple;
    const char *text = "";

    for (uint16_t c = 0; c < tuple->count && strlen(text) < 300; c++) {
        const PgoValue *value = &tuple->values[c];

        if (table->keys_count > 0 && !table->batch.columns[c].is_key)
            continue;
        text = arena_printf(arena, "%s%s%s = %.*s", text, text[0] == '\0' ? "" : ", ", table->columns[c].quoted,
                            value->bytes == NULL ? 4 : (int)MIN(value->len, 60u),
                            value->bytes == NULL ? "NULL" : value->bytes);
    }
    return text;
}

static bool conflict(Arena *arena, const ApplyTable *table, const BatchChange *change, Error *err) {
    static const char *const verbs[] = {"insert", "update", "delete"};
    char cause[400];

    if (err->retryable || err->reason == REASON_CANCELLED)
        return false;
    (void)snprintf(cause, sizeof(cause), "%.390s", err->message);
    (void)error_set(err, REASON_CONFLICT, "cannot %s the row (%s) of table %s: %s", verbs[change->op],
                    describe_row(arena, table, change), table->display, cause);
    err->retryable = false;
    return error_remedy(err,
                        "something else wrote to the destination: mend that row there, then run the same command again;"
                        " nothing was skipped");
}

static bool run_serial(DbConn *dest, const BatchPart *part, ApplyCounts *counts, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const ApplyTable *table = table_of(part);

    for (size_t i = 0; i < part->changes_count; i++) {
        const BatchChange *change = &part->changes[i];
        ApplySingle single;

        arena_reset(arena);
        if (!apply_single(arena, table, change, &single, err))
            return false;
        if (!db_exec_rows(dest, single.sql, single.params_count, single.params, 1, err))
            return conflict(arena, table, change, err);
        counts->inserts += change->op == BATCH_INSERT;
        counts->updates += change->op == BATCH_UPDATE;
        counts->deletes += change->op == BATCH_DELETE;
    }
    return true;
}

/* ---- A part ---- */

/* Errors that the order of changes may explain: unique and exclusion violation, a count that is not what it must be. */
static bool may_go_serial(const Error *err) {
    return err->reason == REASON_ROW_COUNT || strcmp(err->sqlstate, "23505") == 0 ||
           strcmp(err->sqlstate, "23P01") == 0;
}

static bool run_groups(DbConn *dest, const BatchPart *part, ApplyCounts *counts, Error *err) {
    for (size_t i = 0; i < part->groups_count; i++)
        if (!run_group(dest, table_of(part), &part->groups[i], counts, err))
            return false;
    return true;
}

static bool run_part(DbConn *dest, const BatchPart *part, ApplyCounts *counts, Error *err) {
    ApplyCounts before = *counts;

    if (!part->is_serial) {
        if (part->groups_count == 0)
            return true;
        if (!db_exec(dest, "SAVEPOINT part", err))
            return false;
        if (run_groups(dest, part, counts, err))
            return db_exec(dest, "RELEASE part", err);
        if (!may_go_serial(err))
            return error_wrap(err, "applying changes of table %s", table_of(part)->display);
        log_info("part of table %s goes one by one: %s", table_of(part)->display, err->message);
        *counts = before;
        if (!db_exec(dest, "ROLLBACK TO part; RELEASE part", err))
            return false;
    }
    counts->serial_parts++;
    return run_serial(dest, part, counts, err);
}

bool apply_parts(DbConn *dest, const BatchPart *parts, size_t count, ApplyCounts *counts, Error *err) {
    for (size_t i = 0; i < count; i++)
        if (!run_part(dest, &parts[i], counts, err))
            return false;
    return failpoint("apply.after_parts", err);
}

bool apply_truncate(DbConn *dest, const ApplyTruncate *truncate, ApplyCounts *counts, Error *err) {
    CLEANUP(buf_fini) Buf sql;

    buf_init(&sql, (size_t)16 << 20);
    /* The message names every table the source emptied, cascaded ones too: CASCADE would reach only others, which are
     * none of ours. */
    for (size_t i = 0; i < truncate->count; i++)
        buf_printf(&sql, "%sONLY %s", i == 0 ? "TRUNCATE " : ", ", truncate->tables[i]->quoted);
    if (truncate->restart_identity)
        buf_append_str(&sql, " RESTART IDENTITY");
    if (!buf_ok(&sql, "a TRUNCATE", err) || !db_exec(dest, sql.data, err))
        return error_wrap(err, "truncating %s and %zu more", truncate->tables[0]->display, truncate->count - 1);
    counts->truncates += (int64_t)truncate->count;
    return true;
}

bool apply_commit(DbConn *dest, int lane, Lsn from, Lsn to, int64_t transactions, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *sql = arena_printf(arena,
                                   "UPDATE pgcrane.position SET lsn = '%s', transactions = transactions + %lld"
                                   " WHERE lane = %d AND lsn = '%s'",
                                   lsn_format(arena, to), (long long)transactions, lane, lsn_format(arena, from));

    if (!db_exec_rows(dest, sql, 0, NULL, 1, err)) {
        if (err->reason != REASON_ROW_COUNT)
            return error_wrap(err, "moving the position");
        return error_set(err, REASON_FENCED, "the position of lane %d is not where this run left it", lane);
    }
    return failpoint("apply.before_commit", err) && ledger_commit(dest, err) && failpoint("apply.after_commit", err);
}
