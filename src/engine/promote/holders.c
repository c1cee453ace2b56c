/*
 * Sessions of others on the destination that hold what OPEN has to lock: somebody who has read a table and sits idle in
 * his transaction, say. OPEN would wait for him under the fence, while nobody can write, and be undone in the end.
 *
 * So PREPARE and the dry run name them, as a warning: they may be gone when it comes to it. When OPEN has failed for a
 * lock they are named once more; whoever is in the way then, still is right behind the failure, or has let go.
 *
 * Which lock a statement takes is PostgreSQL's documentation of it: CREATE TRIGGER, ALTER TABLE ... ENABLE TRIGGER and
 * ADD FOREIGN KEY take SHARE ROW EXCLUSIVE, which lets readers be; row security, policies, rules and whatever is
 * dropped take ACCESS EXCLUSIVE. An autovacuum that is in the way ends by itself.
 */
#include "engine/promote/waiting.h"

#include "common/log.h"

#include <string.h>

/* A table that OPEN locks, against readers, too? */
typedef struct Need {
    const char *quoted;
    bool from_readers;
} Need;
typedef VEC(Need) NeedVec;

enum { HOLDERS_TOLD = 5 };
#define YOUNG "interval '1 second'" /* a query that is just running is no news */

static void add_need(Arena *arena, NeedVec *needs, const char *quoted, bool from_readers) {
    Need need = {.quoted = quoted, .from_readers = from_readers};

    vec_push(arena, needs, need);
}

static void list_needs(const Promote *promote, const WaitingWork *work, Arena *arena, NeedVec *needs) {
    const Waiting *waiting = &promote->waiting;

    for (size_t i = 0; i < work->drops.len; i++)
        add_need(arena, needs, work->drops.items[i].quoted, true);
    for (size_t i = 0; i < work->security.len; i++)
        add_need(arena, needs, work->security.items[i].table->quoted, true);
    for (size_t i = 0; i < work->keys.len; i++)
        add_need(arena, needs, work->keys.items[i].quoted, false);
    for (size_t i = 0; i < waiting->toc.count; i++) {
        const TocEntry *entry = &waiting->toc.entries[i];
        const Acting *found =
            work->chosen[i] ? acting_find(&waiting->source, entry->desc, entry->schema, entry->tag) : NULL;

        if (found != NULL && found->relation[0] != '\0')
            add_need(arena, needs, found->quoted, strcmp(entry->desc, "TRIGGER") != 0);
    }
}

/* Columns: the table, quoted; the session's number; who it is; does it hold more than a reader does? */
/* clang-format off */
static const char holders_sql[] =
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS t, l.pid,"
    " pg_catalog.format('session %s of %s%s, %s since %s', l.pid, coalesce(a.usename, '?'),"
    "  CASE WHEN a.application_name <> '' THEN ' (' || a.application_name || ')' ELSE '' END,"
    "  coalesce(a.state, 'connected'),"
    "  pg_catalog.date_trunc('second', coalesce(a.state_change, a.backend_start))),"
    " pg_catalog.bool_or(l.mode NOT IN ('AccessShareLock', 'RowShareLock'))"
    " FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
    " JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()"
    " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
    " AND pg_catalog.strpos(coalesce(a.application_name, ''), 'pgcrane ' || $1 || ' ') <> 1"
    " AND coalesce(a.backend_type, '') <> 'autovacuum worker'"
    " AND ($2::boolean OR a.xact_start IS NULL OR a.xact_start < pg_catalog.statement_timestamp() - " YOUNG ")"
    " GROUP BY n.nspname, c.relname, l.pid, a.usename, a.application_name, a.state, a.state_change, a.backend_start"
    " ORDER BY l.pid, 1";
/* clang-format on */

typedef struct Holder {
    const char *table, *pid, *who;
} Holder;
typedef VEC(Holder) HolderVec;

static bool is_in_the_way(const NeedVec *needs, const char *table, bool is_reader) {
    for (size_t i = 0; i < needs->len; i++)
        if (strcmp(needs->items[i].quoted, table) == 0 && (needs->items[i].from_readers || !is_reader))
            return true;
    return false;
}

/* `young`: those, too, whose transaction has only begun. */
static bool find(const Promote *promote, const WaitingWork *work, bool young, Arena *arena, HolderVec *holders,
                 Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *const values[] = {promote->params->job_id, young ? "true" : "false"};
    NeedVec needs = {0};

    list_needs(promote, work, arena, &needs);
    if (needs.len == 0)
        return true;
    if (!db_query(promote->params->dest, holders_sql, COUNT_OF(values), values, &rows, err))
        return error_wrap(err, "asking who holds locks on the destination");
    for (int i = 0; i < db_rows(rows); i++) {
        Holder holder = {.table = arena_strdup(arena, db_text(rows, i, 0)),
                         .pid = arena_strdup(arena, db_text(rows, i, 1)),
                         .who = arena_strdup(arena, db_text(rows, i, 2))};

        if (is_in_the_way(&needs, holder.table, !db_bool(rows, i, 3)))
            vec_push(arena, holders, holder);
    }
    return true;
}

bool holders_warn(Promote *promote, const WaitingWork *work, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    HolderVec holders = {0};

    if (!find(promote, work, false, scratch, &holders, err))
        return false;
    for (size_t i = 0; i < holders.len && i < HOLDERS_TOLD; i++) {
        const Holder *holder = &holders.items[i];
        const char *text = arena_printf(
            scratch,
            "on the destination, %s, has a lock on %s, which is waited for when the destination opens, while"
            " nobody can write, and after --fence-timeout the promote is undone: end that transaction before, or"
            " there: SELECT pg_terminate_backend(%s)",
            holder->who, holder->table, holder->pid);

        promote_event(promote, "warning", "%s", text);
        if (promote->params->options->dry_run)
            promote_note(promote, "%s", text);
    }
    return true;
}

static bool is_before(const HolderVec *holders, size_t at) {
    return at > 0 && strcmp(holders->items[at - 1].pid, holders->items[at].pid) == 0;
}

static bool name_holders(Arena *arena, const HolderVec *holders, const char *cause, Error *err) {
    const char *who = "", *end = "";
    size_t told = MIN(holders->len, (size_t)HOLDERS_TOLD);

    for (size_t i = 0; i < told; i++) {
        const Holder *holder = &holders->items[i];
        const char *comma = i > 0 ? "; " : "";

        who = arena_printf(arena, "%s%s%s, has a lock on %s", who, comma, holder->who, holder->table);
        if (!is_before(holders, i))
            end = arena_printf(arena, "%s%spg_terminate_backend(%s)", end, i > 0 ? ", " : "", holder->pid);
    }
    error_set(err, REASON_LOCK_BUSY, "on the destination, %s (%s)", who, cause);
    return error_remedy(err, "end what holds the lock on the destination, or there: SELECT %s; then promote again",
                        end);
}

bool holders_explain(const Promote *promote, const WaitingWork *work, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    HolderVec holders = {0};
    const Error cause = *err;
    Error trouble = {0};

    if (cause.reason != REASON_LOCK_BUSY)
        return false;
    db_rollback(promote->params->dest); /* in a failed transaction nothing can be asked */
    if (!find(promote, work, true, scratch, &holders, &trouble))
        log_error_value(LOG_WARNING, &trouble);
    if (holders.len > 0)
        return name_holders(scratch, &holders, cause.message, err);
    error_wrap(err, "on the destination somebody held a lock that is let go by now");
    return error_remedy(err, "promote again; if it comes again, see pg_stat_activity and pg_locks on the destination");
}
