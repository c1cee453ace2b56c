/*
 * Foreign keys: added NOT VALID one after the other, validated in parallel.
 *
 * Adding takes SHARE ROW EXCLUSIVE on both tables, but NOT VALID looks at no row: quick, on the control connection.
 * Validating takes SHARE UPDATE EXCLUSIVE on the referencing table (one at a time for each table) and reads everything:
 * on the lanes.
 *
 * Partitioned referencing tables before PostgreSQL 18 refuse NOT VALID. There, each leaf gets the constraint NOT VALID
 * under the root's name, leaves are validated in parallel, and then the root's own statement finds matching, validated
 * constraints on the leaves and takes them over without looking at a row.
 *
 * Crash points: an entry's line is written when the whole of it is done. Before that, what exists is seen in the
 * destination's catalogue (nobody else writes there): a constraint that exists is not added again, one that is
 * validated is not validated again.
 */
#include "engine/load/load.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "engine/schema/sqlscan.h"
#include "pg/quote.h"

#include <stdio.h>
#include <string.h>

typedef struct Unit {
    size_t entry;
    const char *table; /* quoted */
    const char *name;  /* quoted constraint */
    bool started, finished;
} Unit;

typedef VEC(Unit) UnitVec;

typedef struct ForeignKeys {
    const LoadParams *params;
    DbConn *control;
    Arena *arena;
    UnitVec units;   /* to validate */
    int32_t *left;   /* per entry: units not validated */
    bool *by_leaves; /* per entry: the root's own statement runs at the end */
} ForeignKeys;

typedef struct KeyParts {
    const char *table, *name;
    const char *definition; /* FOREIGN KEY ... without the final semicolon */
    bool not_valid;         /* or NOT ENFORCED: stays as it is on the source */
} KeyParts;

/* ALTER TABLE [ONLY] t ADD CONSTRAINT n FOREIGN KEY ... [NOT VALID | NOT ENFORCED]; */
static bool parse_key(Arena *arena, const TocEntry *entry, KeyParts *ret_parts, Error *err) {
    SqlScanner scanner = {.pos = entry->defn};
    const char *table = NULL, *name = NULL;
    size_t table_len = 0, name_len = 0;
    SqlToken token = {0};
    SqlToken last[2] = {0};

    if (!sql_accept_words(&scanner, "ALTER TABLE"))
        return error_set(err, REASON_ARCHIVE_BAD, "foreign key %s has an unknown form", entry->tag);
    (void)sql_accept_word(&scanner, "ONLY");
    if (!sql_accept_name(&scanner, &table, &table_len) || !sql_accept_words(&scanner, "ADD CONSTRAINT") ||
        !sql_accept_name(&scanner, &name, &name_len))
        return error_set(err, REASON_ARCHIVE_BAD, "foreign key %s has an unknown form", entry->tag);
    SqlToken first = sql_peek_token(&scanner);
    for (token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END && !sql_token_is_symbol(&token, ';');
         token = sql_next_token(&scanner)) {
        last[0] = last[1];
        last[1] = token;
    }
    const char *end = last[1].text == NULL ? first.text : last[1].text + last[1].len;
    *ret_parts = (KeyParts){
        .table = arena_strndup(arena, table, table_len),
        .name = arena_strndup(arena, name, name_len),
        .definition = arena_strndup(arena, first.text, (size_t)(end - first.text)),
        .not_valid = last[0].text != NULL && sql_token_is_word(&last[0], "NOT") &&
                     (sql_token_is_word(&last[1], "VALID") || sql_token_is_word(&last[1], "ENFORCED")),
    };
    return true;
}

/* ---- Adding ---- */

typedef struct DestTable {
    bool partitioned;
    bool exists, validated; /* of the constraint */
} DestTable;

static bool look_at_dest(ForeignKeys *keys, const char *table, const char *name, DestTable *ret_table, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = "SELECT c.relkind = 'p', k.oid IS NOT NULL, coalesce(k.convalidated, false)"
                      " FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_constraint k"
                      " ON k.conrelid = c.oid AND k.contype = 'f' AND pg_catalog.quote_ident(k.conname) = $2"
                      " WHERE c.oid = pg_catalog.to_regclass($1)";

    if (!db_query(keys->control, sql, 2, (const char *const[]){table, name}, &row, err))
        return error_wrap(err, "looking at foreign key %s", name);
    if (db_rows(row) != 1)
        return error_set(err, REASON_TABLE_CHANGED, "table %s of foreign key %s is not on the destination", table,
                         name);
    *ret_table =
        (DestTable){.partitioned = db_bool(row, 0, 0), .exists = db_bool(row, 0, 1), .validated = db_bool(row, 0, 2)};
    return true;
}

static bool run_fenced(const LoadParams *params, DbConn *dest, const char *sql, int32_t mark, Error *err) {
    if (!ledger_begin(dest, params->ledger, err))
        return false;
    if (db_exec(dest, sql, err) && (mark == 0 || ledger_mark_entry(dest, mark, err)) && ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return false;
}

/* One table's constraint NOT VALID, and its validation on the list. */
static bool add_unit(ForeignKeys *keys, size_t entry, const char *table, const KeyParts *parts, Error *err) {
    DestTable dest = {0};

    if (!look_at_dest(keys, table, parts->name, &dest, err))
        return false;
    /* A partitioned table refuses ONLY: the key is for its partitions too. */
    const char *sql =
        arena_printf(keys->arena, "ALTER TABLE %s%s ADD CONSTRAINT %s %s%s", dest.partitioned ? "" : "ONLY ", table,
                     parts->name, parts->definition, parts->not_valid ? "" : " NOT VALID");
    if (!dest.exists && !run_fenced(keys->params, keys->control, sql, 0, err)) {
        (void)load_refused_definition(err);
        return error_wrap(err, "adding foreign key %s to %s", parts->name, table);
    }
    if (dest.validated || parts->not_valid)
        return true;
    Unit unit = {.entry = entry, .table = table, .name = parts->name};

    vec_push(keys->arena, &keys->units, unit);
    keys->left[entry]++;
    return true;
}

static bool add_to_leaves(ForeignKeys *keys, size_t entry, const KeyParts *parts, Error *err) {
    CLEANUP(db_result_freep) DbResult *leaves = NULL;
    /* quote_ident as pg_dump writes names: the session's quoting setting is fixed. */
    const char *sql =
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)"
        " FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) t"
        " JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE t.isleaf AND c.relkind = 'r' ORDER BY c.oid";

    keys->by_leaves[entry] = true;
    if (db_version(keys->control) < 120000) /* no pg_partition_tree: the root's statement does it all */
        return true;
    if (!db_query(keys->control, sql, 1, (const char *const[]){parts->table}, &leaves, err))
        return error_wrap(err, "listing the partitions of %s", parts->table);
    for (int i = 0; i < db_rows(leaves); i++)
        if (!add_unit(keys, entry, arena_strdup(keys->arena, db_text(leaves, i, 0)), parts, err))
            return false;
    return true;
}

static bool finish_entry(ForeignKeys *keys, DbConn *dest, size_t entry, Error *err) {
    const TocEntry *key = &keys->params->toc->entries[entry];
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *sql = keys->by_leaves[entry] ? restore_sql(arena, key, &keys->params->restore) : "SELECT 1";

    if (!run_fenced(keys->params, dest, sql, key->dump_id, err))
        return error_wrap(err, "finishing foreign key %s", key->tag);
    return true;
}

static bool add_entry(ForeignKeys *keys, size_t entry, Error *err) {
    KeyParts parts = {0};
    DestTable dest = {0};

    if (!parse_key(keys->arena, &keys->params->toc->entries[entry], &parts, err) ||
        !look_at_dest(keys, parts.table, parts.name, &dest, err))
        return false;
    if (dest.partitioned && db_version(keys->control) < 180000) {
        if (!dest.exists && !add_to_leaves(keys, entry, &parts, err))
            return false;
    } else if (dest.partitioned) {
        if (!add_unit(keys, entry, parts.table, &parts, err))
            return false;
    } else if (!add_unit(keys, entry, parts.table, &parts, err)) {
        return false;
    }
    return failpoint("fk.after_add", err);
}

/* ---- Validating (work list of the lanes) ---- */

static bool table_is_busy(const ForeignKeys *keys, const char *table) {
    for (size_t i = 0; i < keys->units.len; i++) {
        const Unit *unit = &keys->units.items[i];

        if (unit->started && !unit->finished && strcmp(unit->table, table) == 0)
            return true;
    }
    return false;
}

static bool keys_next(void *context, PoolTask *ret_task) {
    ForeignKeys *keys = context;

    for (size_t i = 0; i < keys->units.len; i++) {
        Unit *unit = &keys->units.items[i];

        if (unit->started || table_is_busy(keys, unit->table))
            continue;
        unit->started = true;
        *ret_task = (PoolTask){.item = i};
        return true;
    }
    return false;
}

static bool keys_run(void *context, Lane *lane, PoolTask *task, Error *err) {
    ForeignKeys *keys = context;
    const Unit *unit = &keys->units.items[task->item];
    TaskSlot *slot = tracker_task_begin(keys->params->tracker, PHASE_FOREIGN_KEY, "validate",
                                        keys->params->toc->entries[unit->entry].tag, 0);
    DbConn *dest = NULL;
    const char *sql = arena_printf(lane->arena, "ALTER TABLE %s VALIDATE CONSTRAINT %s", unit->table, unit->name);
    bool ok = lane_dest(lane, &dest, err) && run_fenced(keys->params, dest, sql, 0, err) &&
              failpoint("fk.after_validate", err);

    tracker_task_end(keys->params->tracker, slot, false);
    if (!ok && strcmp(err->sqlstate, "23503") == 0) {
        (void)error_wrap(err, "foreign key %s of %s is violated by the rows copied", unit->name, unit->table);
        return error_remedy(
            err,
            "the source's own rows violate it, or they show more than one moment, because a snapshot was lost: mend"
            " them there, or make the key there with ADD CONSTRAINT ... NOT VALID; then " LOAD_START_OVER);
    }
    return ok || error_wrap(err, "validating foreign key %s", unit->name);
}

static void keys_finished(void *context, const PoolTask *task) {
    ForeignKeys *keys = context;

    keys->units.items[task->item].finished = true;
    keys->left[keys->units.items[task->item].entry]--;
}

/* ---- The whole ---- */

static bool is_foreign_key(const LoadParams *params, size_t i) {
    return params->chosen[i] &&
           restore_pass(params->toc, &params->toc->entries[i], &params->restore) == RESTORE_FOREIGN_KEY;
}

static bool validate_all(ForeignKeys *keys, Error *err) {
    PoolWork work = {.context = keys, .next = keys_next, .run = keys_run, .finished = keys_finished};

    return keys->units.len == 0 || pool_run(keys->params->pool, &work, keys->params->stop, err);
}

bool load_foreign_keys(const LoadParams *params, DbConn *control, Arena *arena, Error *err) {
    ForeignKeys keys = {.params = params, .control = control, .arena = arena};
    int64_t total = 0, done = 0;

    keys.left = arena_array(arena, int32_t, MAX(params->toc->count, 1));
    keys.by_leaves = arena_array(arena, bool, MAX(params->toc->count, 1));
    for (size_t i = 0; i < params->toc->count; i++) {
        if (!is_foreign_key(params, i))
            continue;
        total++;
        done += params->entry_done[i];
        if (!params->entry_done[i] && !add_entry(&keys, i, err))
            return false;
    }
    tracker_phase_total(params->tracker, PHASE_FOREIGN_KEY, done, total);
    if (!validate_all(&keys, err))
        return false;
    for (size_t i = 0; i < params->toc->count; i++) {
        if (!is_foreign_key(params, i) || params->entry_done[i])
            continue;
        if (keys.left[i] != 0)
            return error_set(err, REASON_INTERNAL, "foreign key %s was not validated", params->toc->entries[i].tag);
        if (!finish_entry(&keys, control, i, err))
            return false;
        params->entry_done[i] = true;
        tracker_phase_total(params->tracker, PHASE_FOREIGN_KEY, ++done, total);
    }
    return true;
}
