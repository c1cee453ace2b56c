/*
 * Set-wise statements (apply_internal.h).
 *
 * All go through one pipeline: while the server works on one group, the next one's arrays are made. Only COPY is no
 * part of it; it ends the pipeline before it and begins the next one behind it.
 */
#include "common/buf.h"
#include "engine/apply/apply_internal.h"
#include "engine/apply/rows.h"

enum { PARAM_MAX = 1 << 30, COPY_ROWS_MIN = 500, COPY_BYTES_MIN = 256 << 10, COPY_PIECE = 1 << 20 };

/* ---- Parameters ---- */

typedef struct Params {
    Buf *bufs;
    const char **texts;
    int count;
} Params;

static Params params_new(Arena *arena, size_t max) {
    return (Params){.bufs = arena_array(arena, Buf, max), .texts = arena_array(arena, const char *, max)};
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

static bool uses_column(const ApplyTable *table, const BatchGroup *group, uint16_t column) {
    switch (group->op) {
    case BATCH_INSERT:
        return !table->batch.columns[column].is_generated;
    case BATCH_UPDATE:
        return group->uses[column] != BATCH_LEAVE;
    case BATCH_DELETE:
        return false;
    }
    UNREACHABLE();
}

static void add_params(Params *params, const ApplyTable *table, const BatchGroup *group) {
    bool keys = group->op != BATCH_INSERT;

    for (uint16_t k = 0; keys && k < table->keys_count; k++)
        rows_append_key_array(params_next(params), group, k);
    if (keys && table->batch.identity == 'f') {
        Buf *image = params_next(params);

        rows_append_images(image, params_next(params), group, table->keys_count);
    }
    for (uint16_t c = 0; c < table->batch.columns_count; c++)
        if (uses_column(table, group, c))
            rows_append_column_array(params_next(params), group, c);
    if (!keys && table->sent_columns == 0)
        buf_printf(params_next(params), "%zu", group->rows_count);
}

/* ---- Statements ---- */

/* Only values that no row lacks may be compared by =. */
static const char *full_sql(Arena *arena, const ApplyTable *table, const BatchGroup *group) {
    bool *preselect = arena_array(arena, bool, table->keys_count);

    for (uint16_t k = 0; k < table->keys_count; k++) {
        preselect[k] = true;
        for (size_t i = 0; i < group->rows_count && preselect[k]; i++)
            preselect[k] = group->rows[i].key[k].kind != PGO_NULL;
    }
    return apply_full_sql(arena, table, group->uses, preselect);
}

static const char *group_sql(Arena *arena, const ApplyTable *table, const BatchGroup *group) {
    if (group->op == BATCH_INSERT)
        return apply_insert_sql(arena, table);
    if (table->batch.identity == 'f')
        return full_sql(arena, table, group);
    return group->op == BATCH_UPDATE ? apply_update_sql(arena, table, group->uses) : apply_delete_sql(arena, table);
}

static bool plain(DbConn *dest, const char *label, const char *sql, Error *err) {
    return db_pipeline_send(dest, label, sql, 0, NULL, -1, err);
}

/* That no row of the destination is matched by two of the group has to be known, not only that the count is right: one
 * that is matched twice may make up for one that is not matched at all. */
static bool send_twice(DbConn *dest, Arena *arena, const char *label, const ApplyTable *table, const BatchGroup *group,
                       Error *err) {
    const char *sql = group->op != BATCH_INSERT && group->rows_count > 1 ? apply_twice_sql(arena, table) : NULL;

    if (sql == NULL)
        return true;
    Params params = params_new(arena, table->keys_count);
    for (uint16_t k = 0; k < table->keys_count; k++)
        rows_append_key_array(params_next(&params), group, k);
    bool ok = params_finish(&params, err) && db_pipeline_send(dest, label, sql, params.count, params.texts, 0, err);
    params_fini(&params);
    return ok;
}

static bool send_group(DbConn *dest, Arena *arena, const char *label, const ApplyTable *table, const BatchGroup *group,
                       Error *err) {
    if (!send_twice(dest, arena, label, table, group, err))
        return false;
    Params params = params_new(arena, (size_t)table->keys_count + table->batch.columns_count + 2);

    add_params(&params, table, group);
    bool ok = params_finish(&params, err) && db_pipeline_send(dest, label, group_sql(arena, table, group), params.count,
                                                              params.texts, (int64_t)group->rows_count, err);
    params_fini(&params);
    return ok;
}

/* Rows are looked for in the whole table when no index helps: once, by a plan for as many rows as there are. */
static bool send_full(DbConn *dest, Arena *arena, const char *label, const ApplyTable *table, const BatchGroup *group,
                      Error *err) {
#define SEQSCAN_ON                                                                                                     \
    "SELECT pg_catalog.set_config('enable_seqscan', 'on', true), pg_catalog.set_config('enable_hashjoin', 'on', true)"
#define SEQSCAN_OFF                                                                                                    \
    "SELECT pg_catalog.set_config('enable_seqscan', 'off', true), pg_catalog.set_config('enable_hashjoin', 'off', "    \
    "true)"
    bool has_mode = db_version(dest) >= APPLY_PLAN_CACHE_VERSION;
    const char *on =
        has_mode ? SEQSCAN_ON ", pg_catalog.set_config('plan_cache_mode', 'force_custom_plan', true)" : SEQSCAN_ON;
    const char *off =
        has_mode ? SEQSCAN_OFF ", pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)" : SEQSCAN_OFF;

    return plain(dest, label, on, err) && send_group(dest, arena, label, table, group, err) &&
           plain(dest, label, off, err);
}

/* A row that is larger than a piece goes in several: nothing of its size is made once more. */
static bool copy_row(DbConn *dest, Buf *lines, const ApplyTable *table, const BatchRow *row, Error *err) {
    RowCursor cursor = {0};

    for (bool whole = false; !whole;) {
        whole = rows_append_copy(lines, table, row, &cursor, COPY_PIECE);
        if (whole && lines->len < COPY_PIECE)
            return true;
        if (!buf_ok(lines, "a batch's rows", err) || !db_copy_in_put(dest, lines->data, lines->len, err))
            return false;
        buf_clear(lines);
    }
    return true;
}

static bool copy_group(DbConn *dest, Arena *arena, const char *label, const ApplyTable *table, const BatchGroup *group,
                       Error *err) {
    CLEANUP(buf_fini) Buf lines;
    int64_t rows = 0;
    bool ok = db_copy_in_begin(dest, apply_copy_sql(arena, table), err);

    buf_init(&lines, PARAM_MAX);
    for (size_t i = 0; ok && i < group->rows_count; i++)
        ok = copy_row(dest, &lines, table, &group->rows[i], err);
    ok = ok && (lines.len == 0 || db_copy_in_put(dest, lines.data, lines.len, err));
    if (!ok || !db_copy_in_end(dest, &rows, err))
        return error_wrap(err, "%s", label);
    return rows == (int64_t)group->rows_count ||
           error_set(err, REASON_ROW_COUNT, "%s: %lld rows instead of %zu arrived", label, (long long)rows,
                     group->rows_count);
}

/* Many rows, or large ones: an array of those would be taken apart again by the server. */
static bool is_worth_a_copy(const ApplyTable *table, const BatchGroup *group) {
    size_t bytes = 0;

    if (group->op != BATCH_INSERT || table->sent_columns == 0)
        return false;
    if (group->rows_count >= COPY_ROWS_MIN)
        return true;
    for (size_t i = 0; i < group->rows_count && bytes < COPY_BYTES_MIN; i++)
        for (uint16_t c = 0; c < table->batch.columns_count; c++)
            bytes += group->rows[i].values[c].len;
    return bytes >= COPY_BYTES_MIN;
}

static bool run_group(DbConn *dest, Arena *arena, const char *label, const ApplyTable *table, const BatchGroup *group,
                      bool *open, Error *err) {
    /* What is in the way of a loose insert has to be known now: at COMMIT nobody would know whose it was. */
    if (apply_needs_savepoint(table, group->op) && !plain(dest, label, table->immediate_sql, err))
        return false;
    if (is_worth_a_copy(table, group)) {
        *open = false;
        if (!db_pipeline_end(dest, err) || !copy_group(dest, arena, label, table, group, err))
            return false;
        *open = db_pipeline_begin(dest, err);
        return *open;
    }
    bool full = table->batch.identity == 'f' && group->op != BATCH_INSERT;
    bool sent = (full ? send_full : send_group)(dest, arena, label, table, group, err);
    return sent;
}

bool groups_run(DbConn *dest, const BatchPart *parts, size_t count, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(arena_freep) Arena *labels = arena_new();
    bool open = db_pipeline_begin(dest, err);
    bool ok = open && plain(dest, "a savepoint", "SAVEPOINT parts", err);

    for (size_t i = 0; ok && i < count; i++) {
        const ApplyTable *table = table_of(&parts[i]);
        const char *label = arena_printf(labels, "applying changes of table %s", table->display);

        arena_reset(arena);
        for (size_t g = 0; ok && g < parts[i].groups_count; g++)
            ok = run_group(dest, arena, label, table, &parts[i].groups[g], &open, err);
    }
    if (ok) /* a wrong count is known only after the end, so the savepoint stays till then */
        return db_pipeline_end(dest, err) && db_exec(dest, "RELEASE parts", err);
    Error later;
    if (open && !db_is_broken(dest)) /* a group that could not even be sent */
        (void)!db_pipeline_end(dest, &later);
    return false;
}
