/*
 * REPLICA IDENTITY FULL for a while: set, journalled, set back.
 *
 * The journal's name of a table is `OID SETTING TABLE`, such as `16412 DEFAULT "public"."t"` or
 * `16413 USING INDEX "t_i" "public"."t"`: the oid finds the table again when it was renamed, the rest is for people and
 * for the statement that sets it back.
 *
 * Killed between journal and ALTER: the table is not FULL, setting back finds nothing to do. Killed between ALTER and
 * "made": the line is there, the table is FULL. Run again: a table that is FULL has an identity, and is passed over.
 */
#include "engine/seam/identity_full.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/seam/seam_internal.h"
#include "pg/event_triggers.h"
#include "pg/lock_timeout.h"
#include "pg/quote.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    OIDS_MAX = 16 << 20,
    ALTER_ATTEMPTS = 5,
    RESTORE_ATTEMPTS = 10,
    ALTER_WAIT_MS = 1000,
    GENERATED_VERSION = 120000
};
#define ALTER_PAUSE_US (500 * USEC_PER_MSEC)
/* A commit that waits for no standby. */
#define ALTER_BEGIN_SQL "BEGIN READ WRITE; SET LOCAL synchronous_commit = local"

typedef struct Candidate {
    const char *root, *quoted;
    const char *line; /* of the journal */
    bool has_generated;
} Candidate;

typedef VEC(Candidate) CandidateVec;
typedef VEC(SeamLeft) LeftVec;

typedef struct Setting {
    DbConn *source, *dest;
    const Ledger *ledger;
    Arena *arena;
    LeftVec left;
} Setting;

/* --- Which tables ------------------------------------------------------------------------------------------------- */

/* Tables with rows of their own and without an identity. `i` without its index is the same as NOTHING. */
static const char *candidates_sql(Arena *arena, int version) {
    const char *generated = version >= GENERATED_VERSION
                                ? "EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid"
                                  " AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> '')"
                                : "false";
    /* A tree has no more than a few levels: the topmost ancestor by pg_inherits serves all versions. */
    return arena_printf(
        arena,
        "WITH RECURSIVE up AS (SELECT c.oid AS leaf, c.oid AS top FROM pg_catalog.pg_class c WHERE c.relkind = 'r'"
        "  UNION ALL SELECT up.leaf, h.inhparent FROM up JOIN pg_catalog.pg_class c ON c.oid = up.top"
        "  JOIN pg_catalog.pg_inherits h ON h.inhrelid = up.top WHERE c.relispartition)"
        " SELECT n.nspname, r.relname, i.nspname, i.relname, i.oid,"
        " CASE WHEN c.relreplident = 'd' THEN 'DEFAULT' WHEN x.relname IS NULL THEN 'NOTHING'"
        "  ELSE 'USING INDEX' END, x.relname, %s"
        " FROM (%s) AS i JOIN pg_catalog.pg_class c ON c.oid = i.oid AND c.relkind = 'r' JOIN up ON up.leaf = c.oid"
        " JOIN pg_catalog.pg_class r ON r.oid = up.top AND NOT r.relispartition"
        " JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace"
        " LEFT JOIN (SELECT y.indrelid, z.relname FROM pg_catalog.pg_index y"
        "  JOIN pg_catalog.pg_class z ON z.oid = y.indexrelid WHERE y.indisreplident AND y.indisvalid) AS x"
        "  ON x.indrelid = c.oid AND c.relreplident = 'i'"
        " WHERE NOT i.has_identity ORDER BY i.nspname, i.relname",
        generated, seam_identities_sql(arena, version));
}

typedef struct Reading {
    Arena *arena;
    CandidateVec found;
} Reading;

static bool read_candidate(const DbResult *row, void *context, Error *err) {
    Reading *reading = context;
    Arena *arena = reading->arena;
    const char *index = db_is_null(row, 0, 6) ? "" : sql_ident(arena, db_text(row, 0, 6));
    Candidate candidate = {
        .root = sql_qualified(arena, db_text(row, 0, 0), db_text(row, 0, 1)),
        .quoted = sql_qualified(arena, db_text(row, 0, 2), db_text(row, 0, 3)),
        .has_generated = db_bool(row, 0, 7),
    };

    (void)err;
    candidate.line = arena_printf(arena, "%s %s%s%s %s", db_text(row, 0, 4), db_text(row, 0, 5),
                                  index[0] != '\0' ? " " : "", index, candidate.quoted);
    vec_push(arena, &reading->found, candidate);
    return true;
}

static int compare_names(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The quoted names of those that want one, sorted. */
static const char **wanted_names(Arena *arena, const SeamTable *tables, size_t count, size_t *ret_len) {
    const char **names = arena_array(arena, const char *, count + 1);
    size_t len = 0;

    for (size_t i = 0; i < count; i++)
        if (!tables[i].has_identity)
            names[len++] = tables[i].quoted;
    qsort(names, len, sizeof(*names), compare_names);
    *ret_len = len;
    return names;
}

static bool is_wanted(const char *const *names, size_t len, const char *name) {
    return bsearch(&name, names, len, sizeof(*names), compare_names) != NULL;
}

/* --- Setting ------------------------------------------------------------------------------------------------------ */

static bool is_fatal(DbConn *source, const Error *err) {
    return db_is_broken(source) || err->reason == REASON_CANCELLED;
}

/* The application waits behind us for as long as we wait: longer than a moment only while an autovacuum has the table,
 * and only until it gives way. */
static bool alter_once(DbConn *source, const char *quoted, const char *identity, Error *err) {
    const char *set;

    if (db_exec(source, ALTER_BEGIN_SQL, err) &&
        lock_timeout_set(source, quoted, ALTER_WAIT_MS, LOCK_TIMEOUT_MOST_MS, NULL, err) &&
        event_triggers_silence(source, &set, err) &&
        db_execf(source, err, "ALTER TABLE ONLY %s REPLICA IDENTITY %s", quoted, identity) &&
        db_exec(source, "COMMIT", err))
        return true;
    db_rollback(source);
    return event_triggers_blame(source, "ALTER TABLE", err);
}

/* Between two tries the sessions that queued behind us have their turn. */
static bool alter_patiently(DbConn *source, const char *quoted, const char *identity, int attempts, Error *err) {
    for (int attempt = 1; !alter_once(source, quoted, identity, err); attempt++) {
        bool again = err->reason == REASON_LOCK_BUSY || err->reason == REASON_CONFLICT;

        if (is_fatal(source, err) || !again || attempt == attempts)
            return false;
        if (stop_wait_fd(db_stop(source), -1, 0, clock_now_us() + ALTER_PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped while waiting to alter table %s", quoted);
    }
    return true;
}

static void leave(Setting *job, const char *quoted, const char *why) {
    SeamLeft left = {.quoted = arena_strdup(job->arena, quoted), .why = arena_strdup(job->arena, why)};

    log_warning("table %s keeps its replica identity: %s", quoted, why);
    vec_push(job->arena, &job->left, left);
}

static bool set_full(Setting *job, const Candidate *candidate, Error *err) {
    Error why;

    if (candidate->has_generated) {
        leave(job, candidate->quoted, "it has generated columns, which an identity may not hold");
        return true;
    }
    if (!journal_intend(job->dest, job->ledger, JOURNAL_IDENTITY_FULL, candidate->line, err) ||
        !failpoint("seam.identity_intended", err))
        return false;
    if (alter_patiently(job->source, candidate->quoted, "FULL", ALTER_ATTEMPTS, &why))
        return failpoint("seam.identity_set", err) &&
               journal_made(job->dest, job->ledger, JOURNAL_IDENTITY_FULL, candidate->line, err);
    if (is_fatal(job->source, &why)) {
        *err = why;
        return false;
    }
    leave(job, candidate->quoted, why.message);
    return journal_forget(job->dest, job->ledger, JOURNAL_IDENTITY_FULL, candidate->line, err);
}

bool seam_identity_full_set(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamTable *tables, size_t count,
                            Arena *arena, SeamLeft **ret_left, size_t *ret_left_count, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    Setting job = {.source = source, .dest = dest, .ledger = ledger, .arena = arena};
    Reading reading = {.arena = scratch};
    size_t len = 0;
    const char *const *names = wanted_names(scratch, tables, count, &len);

    if (len > 0 &&
        !db_query_each(source, candidates_sql(scratch, db_version(source)), 0, NULL, read_candidate, &reading, err))
        return error_wrap(err, "looking for tables without a replica identity");
    for (size_t i = 0; i < reading.found.len; i++) {
        const Candidate *candidate = &reading.found.items[i];

        if ((is_wanted(names, len, candidate->root) || is_wanted(names, len, candidate->quoted)) &&
            !set_full(&job, candidate, err))
            return false;
    }
    *ret_left = job.left.items;
    *ret_left_count = job.left.len;
    return true;
}

/* --- Setting back ------------------------------------------------------------------------------------------------- */

/* Behind a quoted identifier; NULL when there is none. */
static const char *skip_quoted(const char *text) {
    if (*text++ != '"')
        return NULL;
    while (*text != '\0') {
        if (*text != '"')
            text++;
        else if (text[1] == '"')
            text += 2;
        else
            return text + 1;
    }
    return NULL;
}

/* SETTING of `OID SETTING TABLE`; NULL when the line is none of ours. */
static const char *line_setting(Arena *arena, const char *line, const char **ret_oid) {
    static const char *const settings[] = {"DEFAULT", "NOTHING", "USING INDEX "};
    size_t digits = strspn(line, "0123456789");
    const char *setting = line + digits + 1;

    if (digits == 0 || line[digits] != ' ')
        return NULL;
    *ret_oid = arena_strndup(arena, line, digits);
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        const char *end = setting + strlen(settings[i]);

        if (strncmp(setting, settings[i], strlen(settings[i])) != 0)
            continue;
        if (end[-1] == ' ')
            end = skip_quoted(end);
        return end != NULL && *end == ' ' ? arena_strndup(arena, setting, (size_t)(end - setting)) : NULL;
    }
    return NULL;
}

const char *seam_identity_full_back_sql(Arena *arena, const char *journal_name) {
    const char *oid = NULL;
    const char *setting = line_setting(arena, journal_name, &oid);

    if (setting == NULL)
        return NULL;
    return arena_printf(arena, "ALTER TABLE ONLY %s REPLICA IDENTITY %s",
                        journal_name + strlen(oid) + strlen(setting) + 2, setting);
}

/* Its name now when it still is FULL, NULL when there is nothing to set back. */
static bool find_full(DbConn *source, Arena *arena, const char *oid, const char **ret_quoted, Error *err) {
    static const char *const sql =
        "SELECT n.nspname, c.relname, (SELECT pg_catalog.min(p.pubname) FROM pg_catalog.pg_publication p"
        "  JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname"
        "  WHERE p.pubname LIKE 'pgcrane\\_%' AND (p.pubupdate OR p.pubdelete)"
        "  AND t.schemaname = n.nspname AND t.tablename = c.relname)"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = $1::oid AND c.relkind = 'r' AND c.relreplident = 'f'";
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(source, sql, 1, &oid, &row, err))
        return false;
    *ret_quoted = NULL;
    if (db_rows(row) == 0)
        return true;
    if (!db_is_null(row, 0, 2))
        return error_set(err, REASON_LOCK_BUSY,
                         "publication %s still publishes updates of it, which would fail without an identity",
                         db_text(row, 0, 2));
    *ret_quoted = sql_qualified(arena, db_text(row, 0, 0), db_text(row, 0, 1));
    return true;
}

bool seam_identity_full_restore(DbConn *source, const char *journal_name, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *oid = NULL, *quoted = NULL;
    const char *setting = line_setting(arena, journal_name, &oid);

    if (setting == NULL)
        return error_set(err, REASON_LEDGER_MISMATCH, "the journal has a line that is none: %s", journal_name);
    if (!find_full(source, arena, oid, &quoted, err))
        return error_wrap(err, "setting back the replica identity of %s", journal_name);
    if (quoted == NULL || alter_patiently(source, quoted, setting, RESTORE_ATTEMPTS, err))
        return true;
    error_remedy(err, "ALTER TABLE %s REPLICA IDENTITY %s;", quoted, setting);
    return error_wrap(err, "setting back the replica identity of table %s", quoted);
}

bool seam_identity_full_undo(DbConn *source, DbConn *dest, const Ledger *ledger, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StringVec lines = {0};
    size_t failures = 0;
    Error first = {0};

    if (!journal_names(dest, arena, JOURNAL_IDENTITY_FULL, &lines, err))
        return false;
    for (size_t i = 0; i < lines.len; i++) {
        Error why = {0};

        if (seam_identity_full_restore(source, lines.items[i], &why) && failpoint("seam.identity_restored", &why) &&
            journal_forget(dest, ledger, JOURNAL_IDENTITY_FULL, lines.items[i], &why))
            continue;
        if (failures++ == 0)
            first = why;
        if (is_fatal(source, &why) || db_is_broken(dest))
            break;
    }
    if (failures == 0)
        return true;
    *err = first;
    return error_wrap(err, "%zu replica identities are not set back, the first", failures);
}

static const char *journalled_oids(DbConn *dest, Arena *arena, Error *err) {
    CLEANUP(buf_fini) Buf oids;
    StringVec lines = {0};

    buf_init(&oids, OIDS_MAX);
    if (!journal_names(dest, arena, JOURNAL_IDENTITY_FULL, &lines, err))
        return NULL;
    for (size_t i = 0; i < lines.len; i++)
        buf_printf(&oids, "%s%.*s", oids.len > 0 ? "," : "", (int)strspn(lines.items[i], "0123456789"), lines.items[i]);
    return buf_ok(&oids, "a list of tables", err) ? arena_printf(arena, "{%s}", oids.data) : NULL;
}

/* What is published is the table, or one of those that it is a partition of. */
static const char *published_sql(Arena *arena, const char *publication) {
    return arena_printf(arena,
                        "WITH RECURSIVE up AS (SELECT c.oid FROM pg_catalog.pg_class c"
                        "  WHERE c.oid = ANY ($1::oid[]) AND c.relreplident = 'f'"
                        " UNION SELECT h.inhparent FROM up JOIN pg_catalog.pg_class c ON c.oid = up.oid"
                        "  JOIN pg_catalog.pg_inherits h ON h.inhrelid = up.oid WHERE c.relispartition)"
                        " SELECT pg_catalog.string_agg('ONLY ' || pg_catalog.quote_ident(n.nspname) || '.' ||"
                        "  pg_catalog.quote_ident(c.relname), ', ') FROM up JOIN pg_catalog.pg_class c USING (oid)"
                        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                        " JOIN pg_catalog.pg_publication_rel r ON r.prrelid = c.oid"
                        " JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE p.pubname = %s",
                        sql_literal(arena, publication));
}

bool seam_identity_full_unpublish(DbConn *source, DbConn *dest, const char *publication, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *oids = journalled_oids(dest, arena, err);
    char *tables = NULL;

    if (oids == NULL || !db_query_value(source, arena, published_sql(arena, publication), 1, &oids, &tables, err))
        return false;
    if (tables == NULL || tables[0] == '\0')
        return true;
    if (seam_begin(source, err) &&
        db_execf(source, err, "ALTER PUBLICATION %s DROP TABLE %s", sql_ident(arena, publication), tables) &&
        db_exec(source, "COMMIT", err))
        return true;
    db_rollback(source);
    return error_wrap(err, "taking tables out of publication %s", publication);
}

/* --- The destination ---------------------------------------------------------------------------------------------- */

/* The copy of a table that was renamed between journal and snapshot is not found, and keeps FULL. */
static bool copy_is_full(DbConn *dest, const char *quoted, bool *ret_is, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest,
                  "SELECT 1 FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1) AND relkind = 'r'"
                  " AND relreplident = 'f'",
                  1, &quoted, &row, err))
        return false;
    *ret_is = db_rows(row) == 1;
    return true;
}

static bool set_copy_back(DbConn *dest, const Ledger *ledger, const char *line, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *oid = NULL;
    const char *setting = line_setting(arena, line, &oid);
    bool full = false;

    if (setting == NULL)
        return error_set(err, REASON_LEDGER_MISMATCH, "the journal has a line that is none: %s", line);
    const char *quoted = line + strlen(oid) + 1 + strlen(setting) + 1;
    if (!copy_is_full(dest, quoted, &full, err))
        return false;
    if (!full ||
        (ledger_begin(dest, ledger, err) &&
         db_execf(dest, err, "ALTER TABLE ONLY %s REPLICA IDENTITY %s", quoted, setting) && ledger_commit(dest, err)))
        return true;
    db_rollback(dest);
    return error_wrap(err, "setting the replica identity of table %s on the destination", quoted);
}

bool seam_identity_full_copies(DbConn *dest, const Ledger *ledger, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StringVec lines = {0};

    if (!journal_names(dest, arena, JOURNAL_IDENTITY_FULL, &lines, err))
        return false;
    for (size_t i = 0; i < lines.len; i++)
        if (!set_copy_back(dest, ledger, lines.items[i], err))
            return false;
    return true;
}
