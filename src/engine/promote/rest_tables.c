/*
 * Tables that no stream carries whole: unlogged ones, updates and deletes of tables without a replica identity, an
 * extension's configuration tables, and those that the ledger marks suspect.
 *
 * They are compared by a sum of their rows' hashes, which no order of rows changes, over text that the same session
 * settings make on both sides, in one encoding (unless a side has none: its bytes travel as they are). Between servers
 * of which one writes floats as before 12, those are compared by their bits. While the source
 * is being written to, a table differs for certain when it reads the same before and after, and the destination, having
 * applied all up to the first reading, reads something else. Under the fence there is nothing to presume.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ddl/capture.h"
#include "engine/ledger/relations.h"
#include "engine/seam/shapes.h"
#include "pg/copy.h"
#include "pg/quote.h"

#include <string.h>

enum { GENERATED_VERSION = 120000, FLOATS_VERSION = 120000 };

/* ---- Which tables ---- */

typedef struct Listing {
    Promote *promote;
    LedgerRelation *relations; /* by oid */
    size_t relations_count;
} Listing;

static const char *suspect_reason(const Listing *listing, uint32_t oid) {
    for (size_t i = 0; i < listing->relations_count; i++)
        if (listing->relations[i].oid == oid)
            return listing->relations[i].suspect;
    return NULL;
}

static const PlanTable *planned(const Promote *promote, uint32_t oid) {
    const Plan *plan = promote->params->load->plan;

    for (size_t i = 0; i < plan->count; i++)
        if (plan->tables[i].oid == oid)
            return &plan->tables[i];
    return NULL;
}

static bool is_wanted(const Promote *promote, const DbResult *row) {
    const DriftParams *drift = &promote->params->drift;

    return drift->wanted == NULL || drift->wanted(drift->context, db_text(row, 0, 1), db_text(row, 0, 2));
}

static bool wanted_by_name(void *context, const char *schema, const char *name) {
    const Promote *promote = context;
    const DriftParams *drift = &promote->params->drift;

    return drift->wanted == NULL || drift->wanted(drift->context, schema, name);
}

/* Leaves written through one root are one. */
static bool is_listed(const Promote *promote, const char *from) {
    for (size_t i = 0; i < promote->rest.len; i++)
        if (strcmp(promote->rest.items[i].from, from) == 0)
            return true;
    return false;
}

static const char *condition_of(const Promote *promote, const DbResult *row, const PlanTable *plan) {
    if (plan == NULL)
        return db_is_null(row, 0, 8) ? "" : arena_strdup(promote->arena, db_text(row, 0, 8));
    return plan->condition == NULL ? "" : plan->condition;
}

static void add_table(Promote *promote, const DbResult *row, const PlanTable *plan, const char *why) {
    const char *quoted = sql_qualified(promote->arena, db_text(row, 0, 1), db_text(row, 0, 2));
    const char *via = plan == NULL ? NULL : plan->via;
    RestTable table = {
        .oid = (uint32_t)db_int64(row, 0, 0),
        .display = via != NULL ? via : sql_display(promote->arena, db_text(row, 0, 1), db_text(row, 0, 2)),
        .from = via != NULL ? via : arena_printf(promote->arena, "ONLY %s", quoted),
        .target = via != NULL ? via : quoted,
        .columns = arena_strdup(promote->arena, db_text(row, 0, 6)),
        .compared = arena_strdup(promote->arena, db_text(row, 0, 9)),
        .condition = condition_of(promote, row, plan),
        .why = why,
        .never_streamed = db_bool(row, 0, 3) || db_bool(row, 0, 7),
        .bytes = db_int64(row, 0, 5),
    };

    if (!is_listed(promote, table.from))
        vec_push(promote->arena, &promote->rest, table);
}

/* Configuration of an extension that was made while it was followed is not in the plan. */
static bool is_left_out(const Promote *promote, const DbResult *row, const PlanTable *plan) {
    if (!db_bool(row, 0, 7))
        return !is_wanted(promote, row);
    return plan == NULL && (promote->params->load->filtered || db_is_null(row, 0, 8));
}

/* Columns: oid, schema, name, is unlogged, updates are published, bytes, columns, is an extension's, the condition of
 * its rows when it is an extension's configuration, what is compared of the columns. */
static bool list_table(const DbResult *row, void *context, Error *err) {
    Listing *listing = context;
    uint32_t oid = (uint32_t)db_int64(row, 0, 0);
    const PlanTable *plan = planned(listing->promote, oid);
    const char *suspect = suspect_reason(listing, oid);

    (void)err;
    if (is_left_out(listing->promote, row, plan))
        return true;
    if (suspect != NULL)
        add_table(listing->promote, row, plan, suspect);
    else if (plan != NULL && plan->via != NULL)
        add_table(
            listing->promote, row, plan,
            "partitioned by the hash of an enum or an oid, or by a value's text: rows lie in other partitions there");
    else if (db_bool(row, 0, 3))
        add_table(listing->promote, row, plan, "unlogged: no stream carries it");
    else if (db_bool(row, 0, 7))
        add_table(listing->promote, row, plan, "configuration of an extension: not followed");
    else if (!db_bool(row, 0, 4))
        add_table(listing->promote, row, plan, "no replica identity: its updates and deletes are not in the stream");
    return true;
}

/* What of a column is compared. Before 12 a float is written with all its digits (0.100000000000000006), since then
 * with as many as it takes: the same value in two texts. */
static const char *compared_sql(const Promote *promote) {
    int source = db_version(promote->params->source), dest = db_version(promote->params->dest);

    if ((source < FLOATS_VERSION) == (dest < FLOATS_VERSION))
        return "pg_catalog.quote_ident(a.attname)";
    return "(SELECT CASE WHEN b.oid = ANY ('{float4,float8,float4[],float8[],point,lseg,path,box,polygon,line,circle}'"
           "::pg_catalog.regtype[]) THEN pg_catalog.format('pg_catalog.%I(%I)', p.proname, a.attname)"
           " ELSE pg_catalog.quote_ident(a.attname) END FROM pg_catalog.pg_type t JOIN pg_catalog.pg_type b"
           " ON b.oid = CASE t.typbasetype WHEN 0 THEN t.oid ELSE t.typbasetype END"
           " JOIN pg_catalog.pg_proc p ON p.oid = b.typsend WHERE t.oid = a.atttypid)";
}

/* Only tables that may be of interest come over: suspect ones are named by oid ($2). */
static const char *list_sql(Arena *arena, const Promote *promote) {
    const char *kept = db_version(promote->params->source) >= GENERATED_VERSION ? " AND a.attgenerated = ''" : "";

    return arena_printf(
        arena,
        "SELECT t.oid, t.nspname, t.relname, t.is_unlogged, t.is_published, pg_catalog.pg_table_size(t.oid), "
        "coalesce((SELECT pg_catalog.string_agg("
        "  pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a"
        "  WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped%s), ''), e.is_extensions, f.condition,"
        " coalesce((SELECT pg_catalog.string_agg(%s, ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a"
        "  WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped%s), '')"
        " FROM (SELECT c.oid, n.nspname, c.relname, c.relpersistence = 'u' AS is_unlogged,"
        "  (n.nspname, c.relname) IN (SELECT p.schemaname, p.tablename FROM pg_catalog.pg_publication_tables p"
        "   WHERE p.pubname = $1) AS is_published"
        "  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        "  WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'"
        "  AND n.nspname NOT IN ('information_schema', 'pgcrane')) AS t"
        " CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = t.oid AND d.deptype = "
        "'e'"
        "  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass) AS is_extensions) AS e"
        " LEFT JOIN (SELECT x.oid, coalesce(x.condition, '') AS condition FROM pg_catalog.pg_extension,"
        "  LATERAL unnest(extconfig, extcondition) AS x (oid, condition)) AS f ON f.oid = t.oid"
        " WHERE t.is_unlogged OR NOT t.is_published OR e.is_extensions OR t.oid = ANY ($2::oid[]) ORDER BY t.oid",
        kept, compared_sql(promote), kept);
}

static const char *suspect_oids(const Listing *listing, Arena *arena) {
    CLEANUP(buf_fini) Buf oids;
    const Plan *plan = listing->promote->params->load->plan;

    buf_init(&oids, (size_t)16 << 20);
    for (size_t i = 0; i < listing->relations_count; i++)
        if (listing->relations[i].suspect != NULL)
            buf_printf(&oids, "%s%u", oids.len == 0 ? "" : ",", listing->relations[i].oid);
    for (size_t i = 0; i < plan->count; i++)
        if (plan->tables[i].via != NULL)
            buf_printf(&oids, "%s%u", oids.len == 0 ? "" : ",", plan->tables[i].oid);
    return arena_printf(arena, "{%s}", oids.data);
}

/* What its event triggers did not see is in no stream: nothing of the tables is certain then. */
static bool check_capture(const Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const PromoteParams *params = promote->params;
    const char *changed = NULL;

    if (!params->options->ddl)
        return true;
    return ddl_capture_check(params->source, params->dest, arena, &params->names, &changed, err) &&
           (changed == NULL || relations_set_all_suspect(params->dest, params->load->ledger,
                                                         "the capture of definitions was changed on the source", err));
}

/* pg_publication_tables names leaves instead of roots: what the stream really carries. (With IN it is computed once;
 * with EXISTS, for each table.) */
bool promote_rest_list(Promote *promote, bool fenced, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const PromoteParams *params = promote->params;
    Listing listing = {.promote = promote};
    const ShapesCheck check = {
        .source = params->source,
        .dest = params->dest,
        .ledger = params->load->ledger,
        .names = &params->names,
        .definitions = !params->options->ddl,
        .repeated = fenced,
        .new_tables = fenced || !params->options->ddl, /* its making may not have been repeated yet */
        .wanted = wanted_by_name,
        .context = promote,
    };
    size_t marked = 0;

    promote->rest.len = 0;
    if (!check_capture(promote, err) || !shapes_check(&check, &marked, err) ||
        !relations_read(params->dest, scratch, &listing.relations, &listing.relations_count, err))
        return false;
    for (size_t i = 0; i < listing.relations_count; i++)
        listing.relations[i].suspect = arena_strdup(promote->arena, listing.relations[i].suspect);
    const char *args[] = {params->names.publication_keys, suspect_oids(&listing, scratch)};

    return db_query_each(params->source, list_sql(scratch, promote), 2, args, list_table, &listing, err) ||
           error_wrap(err, "listing tables that the stream does not carry");
}

/* ---- Comparing ---- */

static bool is_missing(const DbConn *conn, const Error *err) {
    return db_conn_side(conn) == DB_DEST &&
           (strcmp(err->sqlstate, "42P01") == 0 || strcmp(err->sqlstate, "3F000") == 0);
}

static bool read_hash(Promote *promote, DbConn *conn, const RestTable *table, const char **ret_hash, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    char *hash = NULL;
    bool raw = db_is_sql_ascii(promote->params->source) || db_is_sql_ascii(promote->params->dest);
    const char *text =
        arena_printf(scratch, raw ? "ROW(%s)::text" : "pg_catalog.convert_to(ROW(%s)::text, 'UTF8')", table->compared);
    const char *sql = arena_printf(
        scratch,
        "SELECT pg_catalog.count(*) || ' rows, ' || coalesce(pg_catalog.sum(('x' || pg_catalog.substr(pg_catalog.md5("
        "%s), 1, 16))::bit(64)::bigint), 0) FROM %s %s",
        text, table->from, table->condition);

    if (!db_query_value(conn, promote->arena, sql, 0, NULL, &hash, err) && is_missing(conn, err))
        return error_set(err, REASON_PROMOTE_REFUSED,
                         "table %s is not on the destination: it was made on the source after the catalogues were"
                         " compared",
                         table->display);
    if (hash == NULL)
        return error_wrap(err, "comparing table %s on the %s", table->display, db_side_name(db_conn_side(conn)));
    *ret_hash = hash;
    return true;
}

static bool read_source(Promote *promote, Error *err) {
    for (size_t i = 0; i < promote->rest.len; i++) {
        RestTable *table = &promote->rest.items[i];

        if (!read_hash(promote, promote->params->source, table, &table->source_hash, err))
            return false;
    }
    return true;
}

static bool read_dest(Promote *promote, Error *err) {
    for (size_t i = 0; i < promote->rest.len; i++) {
        RestTable *table = &promote->rest.items[i];

        if (!read_hash(promote, promote->params->dest, table, &table->dest_hash, err))
            return false;
        table->differs = strcmp(table->source_hash, table->dest_hash) != 0;
        if (table->differs)
            log_info("promote table=%s source=[%s] dest=[%s]", table->display, table->source_hash, table->dest_hash);
    }
    return true;
}

/* What the source still says after the destination was read. */
static bool read_source_again(Promote *promote, Error *err) {
    for (size_t i = 0; i < promote->rest.len; i++) {
        RestTable *table = &promote->rest.items[i];
        const char *hash = NULL;

        if (!table->differs || table->never_streamed)
            continue;
        if (!read_hash(promote, promote->params->source, table, &hash, err))
            return false;
        table->differs = strcmp(table->source_hash, hash) == 0;
    }
    return true;
}

static bool check_limit(const Promote *promote, StringVec *problems) {
    int64_t limit = promote->params->options->recopy_limit, bytes = 0;
    Arena *arena = promote->arena;

    for (size_t i = 0; i < promote->rest.len; i++)
        bytes += promote->rest.items[i].differs ? promote->rest.items[i].bytes : 0;
    if (bytes <= limit)
        return true;
    for (size_t i = 0; i < promote->rest.len; i++) {
        const RestTable *table = &promote->rest.items[i];

        if (table->differs)
            vec_push(arena, problems,
                     arena_printf(arena,
                                  "table %s (%s) differs and would have to be copied again under the fence: %s; allow"
                                  " it with --recopy-limit %lldMB%s",
                                  table->display, format_bytes(arena, table->bytes), table->why,
                                  (long long)(bytes >> 20) + 1,
                                  table->never_streamed ? ""
                                                        : ", or give it an identity: ALTER TABLE ... REPLICA IDENTITY"
                                                          " FULL and --restart, or --identity-full --restart"));
    }
    return false;
}

bool promote_rest_presume(Promote *promote, StringVec *problems, Error *err) {
    const PromoteParams *params = promote->params;
    int64_t begun = clock_now_us(), waited = 0;
    Lsn lsn = 0;

    if (promote->rest.len == 0)
        return true;
    if (!read_source(promote, err) || !seam_marker(params->source, "compare", &lsn, err))
        return false;
    waited -= clock_now_us();
    if (!promote_wait_applied(promote, lsn, begun + params->options->lag_timeout * USEC_PER_SEC, err))
        return false;
    waited += clock_now_us();
    if (!read_dest(promote, err))
        return false;
    promote->rest_us = clock_now_us() - begun - waited;
    if (!read_source_again(promote, err))
        return false;
    (void)check_limit(promote, problems);
    if (promote->rest_us > params->options->fence_timeout * USEC_PER_SEC)
        vec_push(promote->arena, problems,
                 arena_printf(promote->arena,
                              "comparing %zu tables that the stream does not carry whole (%s the largest) takes %s,"
                              " longer than --fence-timeout: raise it, or give them a replica identity and --restart",
                              promote->rest.len, promote->rest.items[0].display,
                              clock_duration(promote->arena, promote->rest_us)));
    return true;
}

/* ---- Copying again ---- */

/* TRUNCATE is refused for a table that others refer to, in replica role, too. */
static bool empty_table(Promote *promote, const RestTable *table, Error *err) {
    DbConn *dest = promote->params->dest;
    char *referenced = NULL;
    CLEANUP(arena_freep) Arena *scratch = arena_new();

    if (table->condition[0] != '\0')
        return db_execf(dest, err, "DELETE FROM %s %s", table->from, table->condition);
    if (!db_query_value(dest, scratch,
                        "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f'"
                        " AND confrelid = pg_catalog.to_regclass($1))",
                        1, (const char *const[]){table->target}, &referenced, err))
        return false;
    return db_execf(dest, err, "%s %s", strcmp(referenced, "t") == 0 ? "DELETE FROM" : "TRUNCATE", table->from);
}

static bool copy_table(Promote *promote, const RestTable *table, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const char *list = table->columns[0] == '\0' ? "" : arena_printf(scratch, " (%s)", table->columns);
    const DbCopy copy = {
        .source = promote->params->source,
        .dest = promote->params->dest,
        .source_sql = arena_printf(scratch, "COPY (SELECT %s FROM %s %s) TO STDOUT", table->columns, table->from,
                                   table->condition),
        .dest_sql = arena_printf(scratch, "COPY %s%s FROM STDIN", table->target, list),
    };
    DbCopyResult result;
    DbSide failed;
    StringVec back = {0}; /* constraints that go while it is copied */

    if (!finish_not_valid_aside(copy.dest, scratch, table->target, &back, err) || !empty_table(promote, table, err) ||
        !db_copy_pump(&copy, &result, &failed, err) || !finish_not_valid_back(copy.dest, &back, err))
        return error_wrap(err, "copying table %s again", table->display);
    promote->result.tables_copied++;
    promote_event(promote, "info", "copied again: %s, %lld rows (%s)", table->display, (long long)result.rows,
                  table->why);
    return true;
}

static bool copy_tables(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    WriteSettings settings;
    FollowStatus status;

    follow_status(params->follow, &status);
    if (!finish_write_settings(params->source, params->dest, promote->arena, &settings, err) ||
        !ledger_begin(params->dest, params->load->ledger, err))
        return false;
    bool ok = db_exec(params->dest, settings.local, err) &&
              (!status.replica_role || db_exec(params->dest, "SET LOCAL session_replication_role = replica", err));

    for (size_t i = 0; ok && i < promote->rest.len; i++)
        ok = !promote->rest.items[i].differs || copy_table(promote, &promote->rest.items[i], err);
    if (ok && failpoint("promote.before_recopy_commit", err) && ledger_commit(params->dest, err))
        return true;
    db_rollback(params->dest);
    return false;
}

static bool any_differs(const Promote *promote) {
    for (size_t i = 0; i < promote->rest.len; i++)
        if (promote->rest.items[i].differs)
            return true;
    return false;
}

bool promote_rest_settle(Promote *promote, Error *err) {
    StringVec problems = {0};

    /* Listed anew: a table may have become another since. Nor may the stream have lacked something. */
    if (!seam_check_published(promote->params->source, &promote->params->names, promote->params->published, err) ||
        !promote_rest_list(promote, true, err))
        return false;
    if (promote->rest.len == 0)
        return true;
    if (!read_source(promote, err) || !read_dest(promote, err))
        return false;
    if (!check_limit(promote, &problems))
        return promote_refuse(promote, "tables differ under the fence", &problems, err);
    return !any_differs(promote) || copy_tables(promote, err) || promote_explain_rest(promote, err);
}
