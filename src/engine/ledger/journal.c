/* The journal of what was made on the source, and what the stream is bound to. */
#include "engine/ledger/journal.h"

#include <stdio.h>
#include <string.h>

typedef struct Statement {
    const char *sql;
    int n_params;
    const char *const *params;
} Statement;

/* Fenced, and all or nothing. */
static bool write_journal(DbConn *dest, const Ledger *ledger, const Statement *statements, size_t count, Error *err) {
    if (!ledger_begin(dest, ledger, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!db_query(dest, statements[i].sql, statements[i].n_params, statements[i].params, NULL, err)) {
            db_rollback(dest);
            return error_wrap(err, "writing the journal of objects on the source");
        }
    if (!ledger_commit(dest, err)) {
        db_rollback(dest);
        return false;
    }
    return true;
}

static bool write_object(DbConn *dest, const Ledger *ledger, const char *sql, const char *kind, const char *name,
                         Error *err) {
    const char *const params[] = {kind, name};

    return write_journal(dest, ledger, &(Statement){sql, 2, params}, 1, err);
}

bool journal_intend(DbConn *dest, const Ledger *ledger, const char *kind, const char *name, Error *err) {
    return write_object(dest, ledger,
                        "INSERT INTO pgcrane.source_object (kind, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", kind,
                        name, err);
}

bool journal_made(DbConn *dest, const Ledger *ledger, const char *kind, const char *name, Error *err) {
    return write_object(dest, ledger,
                        "UPDATE pgcrane.source_object SET made = true WHERE kind = $1 AND name = $2 AND NOT made", kind,
                        name, err);
}

bool journal_forget(DbConn *dest, const Ledger *ledger, const char *kind, const char *name, Error *err) {
    return write_object(dest, ledger, "DELETE FROM pgcrane.source_object WHERE kind = $1 AND name = $2", kind, name,
                        err);
}

bool journal_list(DbConn *dest, Arena *arena, JournalObject **ret_objects, size_t *ret_count, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(dest, "SELECT kind, name, made FROM pgcrane.source_object ORDER BY noted_at, kind, name", 0, NULL,
                  &rows, err))
        return error_wrap(err, "reading the journal of objects on the source");
    JournalObject *objects = arena_array(arena, JournalObject, (size_t)db_rows(rows));

    for (int i = 0; i < db_rows(rows); i++)
        objects[i] = (JournalObject){
            .kind = arena_strdup(arena, db_text(rows, i, 0)),
            .name = arena_strdup(arena, db_text(rows, i, 1)),
            .made = db_bool(rows, i, 2),
        };
    *ret_objects = objects;
    *ret_count = (size_t)db_rows(rows);
    return true;
}

bool journal_names(DbConn *dest, Arena *arena, const char *kind, StringVec *ret_names, Error *err) {
    JournalObject *objects = NULL;
    size_t count = 0;

    *ret_names = (StringVec){0};
    if (!journal_list(dest, arena, &objects, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(objects[i].kind, kind) == 0)
            vec_push(arena, ret_names, objects[i].name);
    return true;
}

bool journal_set_stream(DbConn *dest, const Ledger *ledger, const JournalStream *stream, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *const bound[] = {stream->slot, lsn_format(arena, stream->l0), stream->system_identifier,
                                 arena_printf(arena, "%d", stream->timeline)};
    const char *const made[] = {JOURNAL_SLOT, stream->slot};
    const Statement statements[] = {
        {"INSERT INTO pgcrane.stream (slot, l0, system_identifier, timeline)"
         " VALUES ($1, $2::pg_lsn, $3, $4::integer)",
         4, bound},
        {"INSERT INTO pgcrane.source_object (kind, name, made) VALUES ($1, $2, true)"
         " ON CONFLICT (kind, name) DO UPDATE SET made = true",
         2, made},
    };

    return write_journal(dest, ledger, statements, COUNT_OF(statements), err);
}

bool journal_get_stream(DbConn *dest, Arena *arena, bool *ret_found, JournalStream *ret_stream, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    Lsn l0 = 0;

    if (!db_query(dest, "SELECT slot, l0, system_identifier, timeline FROM pgcrane.stream", 0, NULL, &row, err))
        return error_wrap(err, "reading the stream's line in the ledger");
    *ret_found = false;
    if (db_rows(row) == 0)
        return true;
    if (!lsn_parse(db_text(row, 0, 1), &l0))
        return error_set(err, REASON_LEDGER_MISMATCH, "the ledger's stream has no position");
    *ret_found = true;
    *ret_stream = (JournalStream){
        .slot = arena_strdup(arena, db_text(row, 0, 0)),
        .l0 = l0,
        .system_identifier = arena_strdup(arena, db_text(row, 0, 2)),
        .timeline = (int32_t)db_int64(row, 0, 3),
    };
    return true;
}

bool journal_forget_stream(DbConn *dest, const Ledger *ledger, const char *slot, Error *err) {
    const char *const params[] = {JOURNAL_SLOT, slot};
    const Statement statements[] = {
        {"DELETE FROM pgcrane.stream WHERE slot = $1", 1, params + 1},
        {"DELETE FROM pgcrane.source_object WHERE kind = $1 AND name = $2", 2, params},
    };

    return write_journal(dest, ledger, statements, COUNT_OF(statements), err);
}
