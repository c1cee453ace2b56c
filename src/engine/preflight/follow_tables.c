/*
 * Following, the tables' part: which cannot be followed in all they do, and what no stream carries.
 *
 * Whether a table has a replica identity is decided in one place, engine/seam; here is said why not.
 */
#include "engine/preflight/follow.h"

#include "engine/seam/seam.h"

enum { GENERATED_VERSION = 120000 };

/* --- Tables without an identity ----------------------------------------------------------------------------------- */

/* 0 name as seam.h quotes it, 1 schema, 2 name, 3 for people, 4 cause, 5 a unique index that would do, 6 key that is
 * deferrable, 7 has generated columns. */
static const char *details_sql(Arena *arena, int version) {
    const char *generated = version >= GENERATED_VERSION ? "a.attgenerated <> ''" : "false";

    return arena_printf(
        arena,
        "SELECT '\"' || pg_catalog.replace(n.nspname, '\"', '\"\"') || '\".\"'"
        "  || pg_catalog.replace(c.relname, '\"', '\"\"') || '\"',"
        " n.nspname, c.relname, pg_catalog.format('%%I.%%I', n.nspname, c.relname),"
        " CASE WHEN c.relkind = 'p' THEN 'leaves' WHEN c.relreplident = 'n' THEN 'nothing'"
        "  WHEN c.relreplident = 'f' THEN 'generated'"
        "  WHEN c.relreplident = 'i' THEN CASE WHEN k.is_identity THEN 'generated' ELSE 'index' END"
        "  WHEN k.primary_key IS NULL THEN 'key' WHEN k.deferrable IS NOT NULL THEN 'deferrable' ELSE 'generated' END,"
        " u.name, pg_catalog.quote_ident(k.deferrable), COALESCE(g.has, false)"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN (SELECT i.indrelid, pg_catalog.bool_or(i.indisreplident AND i.indisvalid) AS is_identity,"
        "   pg_catalog.min(x.relname) FILTER (WHERE i.indisprimary) AS primary_key,"
        "   pg_catalog.min(x.relname) FILTER (WHERE i.indisprimary AND NOT i.indimmediate) AS deferrable"
        "   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid GROUP BY i.indrelid) k"
        "  ON k.indrelid = c.oid"
        " LEFT JOIN (SELECT a.attrelid, true AS has FROM pg_catalog.pg_attribute a WHERE a.attnum > 0"
        "   AND NOT a.attisdropped AND %s GROUP BY a.attrelid) g ON g.attrelid = c.oid"
        " LEFT JOIN LATERAL (SELECT pg_catalog.quote_ident(pg_catalog.min(x.relname)) AS name"
        "   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid"
        "   WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL"
        "   AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid"
        "    AND a.attnum = ANY (i.indkey::int2[]) AND (NOT a.attnotnull OR %s))) u ON true"
        " WHERE c.relkind IN ('r', 'p') AND " SQL_USER_SCHEMA,
        generated, generated);
}

enum { COLUMN_SCHEMA = 1, COLUMN_NAME, COLUMN_SHOWN, COLUMN_CAUSE, COLUMN_UNIQUE, COLUMN_KEY, COLUMN_GENERATED };

/* {1} table, {2} a unique index, {3} the deferrable key */
static const struct {
    const char *cause;
    CheckId check;
    const char *why;
    const char *fix;
    bool full_helps; /* unless there are generated columns */
} identity_rows[] = {
    {"key", CHECK_FOLLOW_NO_IDENTITY, "has no primary key",
     "ALTER TABLE {1} ADD PRIMARY KEY (...); -- or ALTER TABLE {1} REPLICA IDENTITY FULL, or --identity-full", true},
    {"nothing", CHECK_FOLLOW_NO_IDENTITY, "has REPLICA IDENTITY NOTHING",
     "ALTER TABLE {1} REPLICA IDENTITY DEFAULT; -- or FULL when it has no primary key, or --identity-full", true},
    {"index", CHECK_FOLLOW_NO_IDENTITY, "has lost the index that was its replica identity",
     "ALTER TABLE {1} REPLICA IDENTITY DEFAULT; -- or FULL when it has no primary key, or --identity-full", true},
    {"leaves", CHECK_FOLLOW_NO_IDENTITY, "has partitions without a primary key, or none itself",
     "ALTER TABLE {1} ADD PRIMARY KEY (...); -- or --identity-full", true},
    {"deferrable", CHECK_FOLLOW_DEFERRABLE_KEY,
     "has a deferrable primary key ({3}), which identifies no row in a stream",
     "ALTER TABLE {1} REPLICA IDENTITY FULL; -- or --identity-full, or make the key anew without DEFERRABLE", true},
    {"generated", CHECK_FOLLOW_GENERATED_IDENTITY,
     "has a generated column in its replica identity, and no stream carries that",
     "give {1} a unique index without generated columns: ALTER TABLE {1} REPLICA IDENTITY USING INDEX ...;", false},
};

static void report_identity(Preflight *p, const DbResult *rows, int row) {
    bool has_generated = db_bool(rows, row, COLUMN_GENERATED);
    size_t i = 0;

    while (i + 1 < COUNT_OF(identity_rows) && strcmp(identity_rows[i].cause, db_text(rows, row, COLUMN_CAUSE)) != 0)
        i++;
    if (p->input->options->identity_full && identity_rows[i].full_helps && !has_generated)
        return;
    const char *const values[] = {db_text(rows, row, COLUMN_SHOWN), db_text(rows, row, COLUMN_UNIQUE),
                                  db_text(rows, row, COLUMN_KEY)};
    const char *fix = db_is_null(rows, row, COLUMN_UNIQUE) ? identity_rows[i].fix
                                                           : "ALTER TABLE {1} REPLICA IDENTITY USING INDEX {2};";
    const char *message =
        arena_printf(p->scratch,
                     "table {1} %s: its inserts and truncates are followed, updates and deletes are not; the promote is"
                     " refused unless the rows turn out equal",
                     identity_rows[i].why);

    finding_add(p, identity_rows[i].check, template_fill(p->scratch, "table {1}", values, 1),
                template_fill(p->scratch, message, values, COUNT_OF(values)),
                template_fill(p->scratch, fix, values, COUNT_OF(values)));
}

static bool check_identity_of(Preflight *p, const DbResult *rows, int row, Error *err) {
    bool passes = false;

    if (row < 0)
        return true; /* dropped between the two questions */
    if (!preflight_passes(p, db_text(rows, row, COLUMN_SCHEMA), db_text(rows, row, COLUMN_NAME), &passes, err))
        return false;
    if (passes)
        report_identity(p, rows, row);
    return true;
}

bool check_follow_identity(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    DbConn *source = p->input->source;
    SeamTable *tables = NULL;
    size_t count = 0;

    if (!seam_read_identities(source, p->scratch, &tables, &count, err) ||
        !preflight_query(p, DB_SOURCE, details_sql(p->scratch, db_version(source)), &rows, err))
        return false;
    const RowIndex *by_name = row_index_new(p->scratch, rows, 0);
    for (size_t i = 0; i < count; i++)
        if (!tables[i].has_identity && !check_identity_of(p, rows, row_index_find(by_name, tables[i].quoted), err))
            return false;
    return true;
}

/* --- Other people's publications ---------------------------------------------------------------------------------- */

bool check_follow_other_publication(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    SeamTable *tables = NULL;
    size_t count = 0;

    if (!seam_read_identities(p->input->source, p->scratch, &tables, &count, err) ||
        !preflight_query(p, DB_SOURCE,
                         "SELECT '\"' || pg_catalog.replace(t.schemaname, '\"', '\"\"') || '\".\"'"
                         "  || pg_catalog.replace(t.tablename, '\"', '\"\"') || '\"',"
                         " pg_catalog.quote_ident(p.pubname), pg_catalog.format('%I.%I', t.schemaname, t.tablename)"
                         " FROM pg_catalog.pg_publication p"
                         " JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname"
                         " WHERE (p.pubupdate OR p.pubdelete) AND p.pubname !~ '^pgcrane_'",
                         &rows, err))
        return false;
    const RowIndex *by_name = row_index_new(p->scratch, rows, 0);
    for (size_t i = 0; i < count; i++) {
        int row = tables[i].has_identity ? -1 : row_index_find(by_name, tables[i].quoted);

        if (row < 0)
            continue;
        const char *const values[] = {db_text(rows, row, 2), db_text(rows, row, 1)};
        finding_add(p, CHECK_FOLLOW_OTHER_PUBLICATION, template_fill(p->scratch, "table {1}", values, 2),
                    template_fill(p->scratch,
                                  "publication {2} publishes updates or deletes of table {1}, which has no replica"
                                  " identity: they fail already, and pgcrane does not change that",
                                  values, 2),
                    "");
    }
    return true;
}

/* --- Who else writes ---------------------------------------------------------------------------------------------- */

/* Its worker is started again whenever it ends, and no setting of the database keeps it from writing. */
bool check_follow_subscription(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_SUBSCRIPTION,
        .side = DB_SOURCE,
        .columns = 1,
        .sql = "SELECT pg_catalog.quote_ident(s.subname) FROM pg_catalog.pg_subscription s"
               " JOIN pg_catalog.pg_database d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database()"
               " WHERE s.subenabled ORDER BY s.subname",
        .object = "subscription {1}",
        .message = "subscription {1} writes to the source, which no fence stops: the promote is refused while it is"
                   " enabled",
        .fix =
            "before the promote, on the source: ALTER SUBSCRIPTION {1} DISABLE; -- after it, on the destination: ALTER"
            " SUBSCRIPTION {1} ENABLE;",
    };
    return check_by_sql(p, &check, err);
}

/* --- What no stream carries --------------------------------------------------------------------------------------- */

bool check_follow_unlogged(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_UNLOGGED_TABLE,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql =
            "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
            " pg_catalog.pg_size_pretty(pg_catalog.pg_total_relation_size(c.oid))"
            " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND " SQL_USER_SCHEMA " ORDER BY n.nspname, c.relname",
        .object = "table {3}",
        .message = "table {3} ({4}) is unlogged, so no change of it is in the stream: it is copied again while writes"
                   " are stopped",
        .fix = "ALTER TABLE {3} SET LOGGED; -- rewrites it; or leave it out: --exclude-table",
    };
    return check_by_sql(p, &check, err);
}

bool check_follow_large_objects(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_LARGE_OBJECTS,
        .side = DB_SOURCE,
        .columns = 1,
        .sql = "SELECT x.count FROM (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata) x"
               " WHERE x.count > 0",
        .object = "large objects",
        .message = "changes of {1} large objects are in no stream: they are compared, and copied where they differ,"
                   " while writes are stopped",
        .fix = "",
    };
    return p->filtered || check_by_sql(p, &check, err);
}

/* One finding for all: nearly every database has some, and nothing is to be done. */
bool check_follow_sequences(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_SEQUENCES,
        .side = DB_SOURCE,
        .columns = 1,
        .sql = "SELECT x.count FROM (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c"
               " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE c.relkind = 'S' AND " SQL_USER_SCHEMA ") x WHERE x.count > 0",
        .object = "sequences",
        .message = "positions of {1} sequences are in no stream: they are set while writes are stopped",
        .fix = "",
    };
    return check_by_sql(p, &check, err);
}
