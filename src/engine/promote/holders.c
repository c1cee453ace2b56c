/*
 * Sessions of others on the destination that hold what OPEN, or copying a table again, has to lock: somebody who has
 * read a table and sits idle in his transaction, say. He would be waited for under the fence, while nobody can write,
 * and the promote be undone in the end. A prepared transaction holds its locks without any session.
 *
 * So PREPARE and the dry run name them, as a warning: they may be gone when it comes to it. When a lock was not had
 * they are named once more; whoever is in the way then, still is right behind the failure, or has let go.
 *
 * Which lock a statement takes is PostgreSQL's documentation of it: CREATE TRIGGER, ALTER TABLE ... ENABLE TRIGGER and
 * ADD FOREIGN KEY take SHARE ROW EXCLUSIVE, which lets readers be; row security, policies, rules and whatever is
 * dropped take ACCESS EXCLUSIVE, and so do TRUNCATE and REFRESH, which also takes ACCESS SHARE on what its query reads.
 * An autovacuum ends by itself when somebody has waited for deadlock_timeout, but not one that is there to prevent
 * wraparound: nobody is warned of it, and only when nobody else is in the way is it named. It is a session of no role,
 * which is all that every role may see of it; a lesser one may not end it.
 * pg_locks has no pid for a prepared transaction, and for its virtual one that of the session which prepared it, or
 * -1/XID behind a restart: it is found by the lock on its own number, which has the same virtual one.
 */
#include "engine/promote/waiting.h"

#include "common/log.h"

#include <string.h>

/* What is to be done to a table, and how much of a lock keeps us from it. */
typedef enum NeedKind {
    NEED_ALL,    /* ACCESS EXCLUSIVE: any */
    NEED_CHANGE, /* SHARE ROW EXCLUSIVE: whatever is more than a reader's */
    NEED_READ    /* ACCESS SHARE: ACCESS EXCLUSIVE alone */
} NeedKind;

typedef struct Need {
    const char *quoted; /* by us or by the server */
    NeedKind kind;
} Need;
typedef VEC(Need) NeedVec;

enum { HOLDERS_TOLD = 5, TABLES_TOLD = 5 };
#define YOUNG "interval '1 second'" /* a query that is just running is no news */

static void add_need(Arena *arena, NeedVec *needs, const char *quoted, NeedKind kind) {
    Need need = {.quoted = quoted, .kind = kind};

    vec_push(arena, needs, need);
}

static void list_needs(const Promote *promote, const WaitingWork *work, Arena *arena, NeedVec *needs) {
    const Waiting *waiting = &promote->waiting;

    for (size_t i = 0; i < work->drops.len; i++)
        add_need(arena, needs, work->drops.items[i].quoted, NEED_ALL);
    for (size_t i = 0; i < work->security.len; i++)
        add_need(arena, needs, work->security.items[i].table->quoted, NEED_ALL);
    for (size_t i = 0; i < work->keys.len; i++)
        add_need(arena, needs, work->keys.items[i].quoted, NEED_CHANGE);
    for (size_t i = 0; i < waiting->toc.count; i++) {
        const TocEntry *entry = &waiting->toc.entries[i];
        const Acting *found =
            work->chosen[i] ? acting_find(&waiting->source, entry->desc, entry->schema, entry->tag) : NULL;

        if (found != NULL && found->relation[0] != '\0')
            add_need(arena, needs, found->quoted, strcmp(entry->desc, "TRIGGER") == 0 ? NEED_CHANGE : NEED_ALL);
    }
}

/* TRUNCATE; a table that is referred to, or is a part of one, is emptied otherwise, and needs less. */
static void list_rest_needs(const Promote *promote, bool differing, Arena *arena, NeedVec *needs) {
    for (size_t i = 0; i < promote->rest.len; i++) {
        const RestTable *table = &promote->rest.items[i];

        if (table->differs || !differing)
            add_need(arena, needs, table->target, table->condition[0] == '\0' ? NEED_ALL : NEED_CHANGE);
    }
}

/* Columns: the table as the server quotes it; as we do; who it is; the statement that ends it; the NeedKind that is the
 * least of what it keeps others from. Those of one holder follow one another. */
/* clang-format off */
static const char holders_sql[] =
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS t,"
    " pg_catalog.format('\"%s\".\"%s\"', pg_catalog.replace(n.nspname, '\"', '\"\"'),"
    " pg_catalog.replace(c.relname, '\"', '\"\"')),"
    " CASE WHEN l.pid IS NULL THEN pg_catalog.format('prepared transaction %L of %s, prepared at %s', p.gid, p.owner,"
    "   pg_catalog.date_trunc('second', p.prepared))"
    " WHEN a.usesysid IS NULL THEN pg_catalog.format('an autovacuum (process %s)', l.pid)"
    " ELSE pg_catalog.format('session %s of %s%s, %s since %s', l.pid, coalesce(a.usename, '?'),"
    "  CASE WHEN a.application_name <> '' THEN ' (' || a.application_name || ')' ELSE '' END,"
    "  coalesce(a.state, 'connected'),"
    "  pg_catalog.date_trunc('second', coalesce(a.state_change, a.backend_start))) END,"
    " CASE WHEN l.pid IS NULL THEN pg_catalog.format('ROLLBACK PREPARED %L', p.gid)"
    " ELSE pg_catalog.format('SELECT pg_terminate_backend(%s)', l.pid) END,"
    " pg_catalog.max(CASE l.mode WHEN 'AccessShareLock' THEN 0 WHEN 'RowShareLock' THEN 0"
    "  WHEN 'AccessExclusiveLock' THEN 2 ELSE 1 END)"
    " FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
    " LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'"
    "  AND x.virtualtransaction = l.virtualtransaction"
    " LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid"
    " JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
    " AND (a.pid IS NOT NULL OR p.gid IS NOT NULL)"
    " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
    " AND pg_catalog.strpos(coalesce(a.application_name, ''), 'pgcrane ' || $1 || ' ') <> 1"
    " AND (l.pid IS NOT NULL AND a.usesysid IS NULL) = ($2 = 'autovacuum')"
    " AND ($2 <> 'old' OR a.xact_start IS NULL OR a.xact_start < pg_catalog.statement_timestamp() - " YOUNG ")"
    " GROUP BY n.nspname, c.relname, l.pid, a.usesysid, a.usename, a.application_name, a.state, a.state_change, a.backend_start,"
    " p.gid, p.owner, p.prepared"
    " ORDER BY l.pid, p.gid, 1";
/* clang-format on */

/* One of all that he holds of it. */
typedef struct Holder {
    const char *who, *end; /* `end`: SQL */
    const char *tables;
    int tables_count;
} Holder;
typedef VEC(Holder) HolderVec;

static bool is_in_the_way(const NeedVec *needs, const char *table, const char *ours, int64_t kind) {
    for (size_t i = 0; i < needs->len; i++)
        if ((strcmp(needs->items[i].quoted, table) == 0 || strcmp(needs->items[i].quoted, ours) == 0) &&
            needs->items[i].kind <= kind)
            return true;
    return false;
}

static void add_holder(Arena *arena, HolderVec *holders, const DbResult *rows, int row) {
    const char *table = db_text(rows, row, 0), *end = db_text(rows, row, 3);
    Holder *last = holders->len > 0 ? &holders->items[holders->len - 1] : NULL;

    if (last == NULL || strcmp(last->end, end) != 0) {
        Holder holder = {.who = arena_strdup(arena, db_text(rows, row, 2)),
                         .end = arena_strdup(arena, end),
                         .tables = arena_strdup(arena, table),
                         .tables_count = 1};

        vec_push(arena, holders, holder);
        return;
    }
    if (last->tables_count++ < TABLES_TOLD)
        last->tables = arena_printf(arena, "%s, %s", last->tables, table);
}

/* `which`: "all"; "old", not those whose transaction has only begun; "autovacuum", which is in neither of these. */
static bool find(const Promote *promote, const NeedVec *needs, const char *which, Arena *arena, HolderVec *holders,
                 Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *const values[] = {promote->params->job_id, which};

    if (needs->len == 0)
        return true;
    if (!db_query(promote->params->dest, holders_sql, COUNT_OF(values), values, &rows, err))
        return error_wrap(err, "asking who holds locks on the destination");
    for (int i = 0; i < db_rows(rows); i++)
        if (is_in_the_way(needs, db_text(rows, i, 0), db_text(rows, i, 1), db_int64(rows, i, 4)))
            add_holder(arena, holders, rows, i);
    return true;
}

static const char *tables_text(Arena *arena, const Holder *holder) {
    if (holder->tables_count <= TABLES_TOLD)
        return holder->tables;
    return arena_printf(arena, "%s and %d more", holder->tables, holder->tables_count - TABLES_TOLD);
}

/* `when`: what it is waited for. */
static bool warn(Promote *promote, const NeedVec *needs, const char *when, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    HolderVec holders = {0};

    if (!find(promote, needs, "old", scratch, &holders, err))
        return false;
    for (size_t i = 0; i < holders.len && i < HOLDERS_TOLD; i++) {
        const Holder *holder = &holders.items[i];
        const char *text = arena_printf(
            scratch,
            "on the destination, %s, has a lock on %s, which is waited for when %s, while"
            " nobody can write, and after --fence-timeout the promote is undone: end that transaction before, or"
            " there: %s",
            holder->who, tables_text(scratch, holder), when, holder->end);

        promote_event(promote, "warning", "%s", text);
        if (promote->params->options->dry_run)
            promote_note(promote, "%s", text);
    }
    return true;
}

bool holders_warn(Promote *promote, const WaitingWork *work, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    NeedVec needs = {0};

    list_needs(promote, work, scratch, &needs);
    return warn(promote, &needs, "the destination opens", err);
}

bool promote_warn_rest(Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    NeedVec needs = {0};

    list_rest_needs(promote, false, scratch, &needs);
    return warn(promote, &needs, "that has to be copied again", err);
}

static bool name_autovacuum(Arena *arena, const Holder *holder, const char *cause, Error *err) {
    error_set(err, REASON_LOCK_BUSY, "on the destination, %s has a lock on %s (%s)", holder->who,
              tables_text(arena, holder), cause);
    return error_remedy(err, "promote again when it has ended: it gives way to who waits for deadlock_timeout, but not"
                             " when it is there to prevent wraparound of transaction numbers");
}

static bool name_holders(Arena *arena, const HolderVec *holders, const char *cause, Error *err) {
    const char *who = "", *end = "";
    size_t told = MIN(holders->len, (size_t)HOLDERS_TOLD);

    for (size_t i = 0; i < told; i++) {
        const Holder *holder = &holders->items[i];

        who = arena_printf(arena, "%s%s%s, has a lock on %s", who, i > 0 ? "; " : "", holder->who,
                           tables_text(arena, holder));
        end = arena_printf(arena, "%s%s%s", end, i > 0 ? "; " : "", holder->end);
    }
    error_set(err, REASON_LOCK_BUSY, "on the destination, %s (%s)", who, cause);
    return error_remedy(err, "end what holds the lock on the destination, or there: %s; then promote again", end);
}

static bool explain(const Promote *promote, const NeedVec *needs, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    HolderVec holders = {0};
    const Error cause = *err;
    Error trouble = {0};

    db_rollback(promote->params->dest); /* in a failed transaction nothing can be asked */
    if (!find(promote, needs, "all", scratch, &holders, &trouble))
        log_error_value(LOG_WARNING, &trouble);
    if (holders.len > 0)
        return name_holders(scratch, &holders, cause.message, err);
    if (!find(promote, needs, "autovacuum", scratch, &holders, &trouble))
        log_error_value(LOG_WARNING, &trouble);
    if (holders.len > 0)
        return name_autovacuum(scratch, &holders.items[0], cause.message, err);
    error_wrap(err, "on the destination somebody has, or had, a lock on it or on something that it needs");
    return error_remedy(err, "promote again; if it comes again, see pg_stat_activity, pg_prepared_xacts and pg_locks on"
                             " the destination");
}

bool holders_explain(const Promote *promote, const WaitingWork *work, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    NeedVec needs = {0};

    list_needs(promote, work, scratch, &needs);
    return err->reason == REASON_LOCK_BUSY && explain(promote, &needs, err);
}

bool promote_explain_rest(const Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    NeedVec needs = {0};

    list_rest_needs(promote, true, scratch, &needs);
    return err->reason == REASON_LOCK_BUSY && explain(promote, &needs, err);
}

/* What the query of a view reads: through views, down to the partitions of tables. A materialized view is read as it
 * is. */
static bool list_view_needs(const Promote *promote, const char *quoted, Arena *arena, NeedVec *needs, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    static const char sql[] =
        "WITH RECURSIVE edges AS (SELECT r.ev_class AS whole, d.refobjid AS part FROM pg_catalog.pg_rewrite r"
        " JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid"
        " AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class"
        " JOIN pg_catalog.pg_class v ON v.oid = r.ev_class"
        " WHERE r.rulename = '_RETURN' AND (v.relkind = 'v' OR v.oid = pg_catalog.to_regclass($1))"
        " UNION SELECT h.inhparent, h.inhrelid FROM pg_catalog.pg_inherits h),"
        " reads AS (SELECT pg_catalog.to_regclass($1)::oid AS oid"
        " UNION SELECT edges.part FROM reads JOIN edges ON edges.whole = reads.oid)"
        " SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)"
        " FROM reads JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid <> pg_catalog.to_regclass($1)";

    add_need(arena, needs, quoted, NEED_ALL);
    if (!db_query(promote->params->dest, sql, 1, (const char *const[]){quoted}, &rows, err))
        return error_wrap(err, "asking what %s reads", quoted);
    for (int i = 0; i < db_rows(rows); i++)
        add_need(arena, needs, arena_strdup(arena, db_text(rows, i, 0)), NEED_READ);
    return true;
}

bool promote_explain_view(const Promote *promote, const char *quoted, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    NeedVec needs = {0};
    Error trouble = {0};

    if (err->reason != REASON_LOCK_BUSY)
        return false;
    if (!list_view_needs(promote, quoted, scratch, &needs, &trouble))
        log_error_value(LOG_WARNING, &trouble);
    return explain(promote, &needs, err);
}
