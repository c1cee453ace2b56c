/*
 * Archive entries that run one after the other (serial.h).
 *
 * To give an object away, who is no superuser needs its new owner to have CREATE on the object's schema. A superuser on
 * the source needs not, so that the source may have objects whose owners do not have it, and no grant of the archive
 * brings it. Where the destination refuses such an entry, the group is rolled back and runs again, and lends: CREATE is
 * granted to the new owner just before an entry and revoked just behind it, in the group's transaction. So nobody else
 * ever sees the grant, and a crash at whatever moment leaves neither it nor the entries; what is committed has both
 * the entry's line in the ledger and the schema without the grant. Granted is only to who has no such right, by
 * himself or by a role: so the revoke takes nothing away that was there. It leaves the schema's privileges written out,
 * where they were not and meant the same. Not at once, since to ask and to grant costs three statements for each
 * entry, which hardly any needs.
 */
#include "engine/load/serial.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "pg/quote.h"

#include <string.h>

enum { GROUP_ENTRIES = 100 };

/* What may be refused without making the migration wrong: {kind, beginning of the tag}. */
static const struct {
    const char *desc;
    const char *tag;
} may_be_refused[] = {
    {"COMMENT", "EXTENSION "},   {"COMMENT", "SCHEMA public"}, {"ACL", "SCHEMA public"},
    {"PUBLICATION", ""},         {"PUBLICATION TABLE", ""},    {"PUBLICATION TABLES IN SCHEMA", ""},
    {"SUBSCRIPTION", ""},        {"EVENT TRIGGER", ""},        {"COMMENT", "EVENT TRIGGER "},
    {"COMMENT", "PUBLICATION "}, {"COMMENT", "SUBSCRIPTION "}, {"MATERIALIZED VIEW DATA", ""},
};

static bool is_optional(const TocEntry *entry) {
    for (size_t i = 0; i < COUNT_OF(may_be_refused); i++)
        if (strcmp(entry->desc, may_be_refused[i].desc) == 0 &&
            strncmp(entry->tag, may_be_refused[i].tag, strlen(may_be_refused[i].tag)) == 0)
            return true;
    return false;
}

/* What a materialized view holds can be made at any time. Its query may fail for reasons that are the source's own: a
 * function that finds its tables by a search path, or an owner who lost a privilege. */
static bool is_refusal(const TocEntry *entry, const DbConn *control, const Error *err) {
    if (strcmp(entry->desc, "MATERIALIZED VIEW DATA") == 0)
        return err->sqlstate[0] != '\0' && !err->retryable && err->reason != REASON_CANCELLED && !db_is_broken(control);
    return strcmp(err->sqlstate, "42501") == 0     /* insufficient_privilege */
           || strcmp(err->sqlstate, "42704") == 0; /* what it belongs to was refused itself */
}

/* Not of a subscription: its connection string may hold a password. */
static const char *told_sql(Arena *arena, const TocEntry *entry, const char *sql) {
    return strcmp(entry->desc, "SUBSCRIPTION") == 0 ? NULL : arena_strdup(arena, sql);
}

static bool run_optional(DbConn *control, const TocEntry *entry, const char *sql, NotMovedVec *not_moved, Arena *arena,
                         bool *ret_moved, Error *err) {
    if (!db_exec(control, "SAVEPOINT entry", err))
        return false;
    if (db_exec(control, sql, err))
        return db_exec(control, "RELEASE entry", err);
    if (!is_refusal(entry, control, err))
        return false;
    *ret_moved = false;
    NotMoved item = {.kind = entry->desc,
                     .object = entry->tag,
                     .reason = arena_strdup(arena, err->message),
                     .sql = told_sql(arena, entry, sql)};

    vec_push(arena, not_moved, item);
    log_warning("not moved: %s %s: %s", entry->desc, entry->tag, err->message);
    return db_exec(control, "ROLLBACK TO entry; RELEASE entry", err);
}

/* Of a schema that comes with the migration; else NULL. */
static const char *owner_of_new_schema(const LoadParams *params, const char *schema) {
    for (size_t i = 0; i < params->toc->count; i++) {
        const TocEntry *entry = &params->toc->entries[i];

        if (params->chosen[i] && strcmp(entry->desc, "SCHEMA") == 0 && strcmp(entry->tag, schema) == 0 &&
            restore_gives_away(entry, &params->restore))
            return entry->owner;
    }
    return NULL;
}

/* PostgreSQL names the schema alone, and means the object's new owner. In a schema that comes with the migration, and
 * which the rollback has taken away again, nobody can be granted anything; but there it would have been lent, were we
 * not a member of the schema's owner without its rights (NOINHERIT). Then it means us. */
static void name_missing_grant(Arena *arena, const LoadParams *params, const DbConn *control, const TocEntry *entry,
                               Error *err) {
    enum { GRANT_INHERIT_VERSION = 160000 };

    if (strcmp(err->sqlstate, "42501") != 0 || strstr(err->message, "for schema ") == NULL ||
        entry->schema[0] == '\0' || !restore_gives_away(entry, &params->restore))
        return;
    const char *owner = owner_of_new_schema(params, entry->schema);
    const char *ours = sql_ident(arena, db_user(control));

    if (owner == NULL)
        (void)error_remedy(err,
                           "its owner may not create in that schema of the destination; there: GRANT CREATE, USAGE ON"
                           " SCHEMA %s TO %s; then resume",
                           sql_ident(arena, entry->schema), sql_ident(arena, entry->owner));
    else if (db_version(control) >= GRANT_INHERIT_VERSION)
        (void)error_remedy(err,
                           "role %s needs the rights of the schema's owner; on the destination: GRANT %s TO %s WITH"
                           " INHERIT TRUE; then resume",
                           ours, sql_ident(arena, owner), ours);
    else
        (void)error_remedy(err,
                           "role %s needs the rights of the schema's owner %s; on the destination: ALTER ROLE %s"
                           " INHERIT; then resume",
                           ours, sql_ident(arena, owner), ours);
}

typedef struct Loan {
    bool lends;
    const char *back; /* "": nothing was granted */
} Loan;

static bool may_need_loan(const LoadParams *params, const TocEntry *entry) {
    return entry->schema[0] != '\0' && !is_optional(entry) && restore_gives_away(entry, &params->restore);
}

/* Nothing is granted either where we may not: the entry then says what is missing. Relies on pg_has_role(..., 'USAGE'),
 * which is what PostgreSQL asks of who grants in the name of a schema's owner. */
static bool lend(const LoadParams *params, DbConn *control, const TocEntry *entry, Arena *arena, Loan *loan,
                 Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *const names[] = {entry->schema, entry->owner};

    loan->back = "";
    if (!loan->lends || !may_need_loan(params, entry))
        return true;
    if (!db_query(control,
                  "SELECT 1 FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.rolname = $2"
                  " WHERE n.nspname = $1 AND pg_catalog.pg_has_role(n.nspowner, 'USAGE')"
                  " AND NOT pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')",
                  2, names, &rows, err))
        return error_wrap(err, "asking who may create in schema %s", entry->schema);
    if (db_rows(rows) == 0)
        return true;
    const char *schema = sql_ident(arena, entry->schema), *owner = sql_ident(arena, entry->owner);

    loan->back = arena_printf(arena, "REVOKE CREATE ON SCHEMA %s FROM %s", schema, owner);
    return db_execf(control, err, "GRANT CREATE ON SCHEMA %s TO %s", schema, owner);
}

static bool run_entry(const LoadParams *params, DbConn *control, const TocEntry *entry, bool lends,
                      NotMovedVec *not_moved, Arena *arena, bool *ret_moved, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const char *sql = restore_sql(scratch, entry, &params->restore);
    Loan loan = {.lends = lends, .back = ""};

    *ret_moved = true;
    bool ok = sql[0] == '\0'       ? true
              : is_optional(entry) ? run_optional(control, entry, sql, not_moved, arena, ret_moved, err)
                                   : lend(params, control, entry, scratch, &loan, err) && db_exec(control, sql, err) &&
                                         (loan.back[0] == '\0' || db_exec(control, loan.back, err));

    if (ok)
        return true;
    name_missing_grant(scratch, params, control, entry, err);
    return error_wrap(err, "%s %s%s%s", entry->desc, entry->schema, entry->schema[0] == '\0' ? "" : ".", entry->tag);
}

static bool grant_ahead(DbConn *control, const char *sql, Error *err) {
    if (!db_exec(control, "SAVEPOINT entry", err))
        return false;
    if (db_exec(control, sql, err))
        return db_exec(control, "RELEASE entry", err);
    if (err->sqlstate[0] == '\0' || err->retryable || err->reason == REASON_CANCELLED || db_is_broken(control))
        return error_wrap(err, "granting what a schema grants");
    log_info("not granted yet: %s: %s", sql, err->message);
    return db_exec(control, "ROLLBACK TO entry; RELEASE entry", err);
}

static bool run_grants(const LoadParams *params, DbConn *control, const TocEntry *entry, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    StringVec grants = {0};

    restore_schema_grants(scratch, entry, &params->restore, &grants);
    for (size_t i = 0; i < grants.len; i++)
        if (!grant_ahead(control, grants.items[i], err))
            return false;
    return true;
}

typedef struct Group {
    EntryFilter wanted; /* the others are grants on schemas, run ahead */
    size_t entries[GROUP_ENTRIES];
    size_t count;
    bool lends;
} Group;

static bool run_in_group(const LoadParams *params, DbConn *control, const Group *group, size_t i,
                         NotMovedVec *not_moved, Arena *arena, Error *err) {
    const TocEntry *entry = &params->toc->entries[group->entries[i]];
    bool moved = false;

    if (!group->wanted(params, group->entries[i]))
        return run_grants(params, control, entry, err);
    /* What was refused has no line: a later run asks again, and lists it again. */
    return run_entry(params, control, entry, group->lends, not_moved, arena, &moved, err) &&
           (!moved || ledger_mark_entry(control, entry->dump_id, err));
}

/* Rolled back when anything fails. */
static bool try_group(const LoadParams *params, DbConn *control, const Group *group, NotMovedVec *not_moved,
                      Arena *arena, Error *err) {
    size_t listed = not_moved->len;

    if (!ledger_begin(control, params->ledger, err))
        return false;
    for (size_t i = 0; i < group->count; i++)
        if (!run_in_group(params, control, group, i, not_moved, arena, err)) {
            not_moved->len = listed;
            db_rollback(control);
            return false;
        }
    if (ledger_commit(control, err))
        return true;
    db_rollback(control);
    return false;
}

static bool group_may_need_loan(const LoadParams *params, const Group *group) {
    for (size_t i = 0; i < group->count; i++)
        if (may_need_loan(params, &params->toc->entries[group->entries[i]]))
            return true;
    return false;
}

static bool run_group(const LoadParams *params, DbConn *control, Group *group, NotMovedVec *not_moved, Arena *arena,
                      Error *err) {
    group->lends = false;
    bool ok = try_group(params, control, group, not_moved, arena, err);

    if (!ok && strcmp(err->sqlstate, "42501") == 0 && !db_is_broken(control) && /* insufficient_privilege */
        group_may_need_loan(params, group)) {
        group->lends = true;
        ok = try_group(params, control, group, not_moved, arena, err);
    }
    if (!ok)
        return load_refused_definition(err);
    for (size_t i = 0; i < group->count; i++)
        if (group->wanted(params, group->entries[i]))
            params->entry_done[group->entries[i]] = true;
    return failpoint("entries.after_group", err);
}

typedef struct Serial {
    EntryFilter wanted;
    bool grants_ahead; /* of schemas: they are neither counted nor done */
} Serial;

static bool belongs(const LoadParams *params, const Serial *serial, size_t entry) {
    if (!params->chosen[entry] || params->entry_done[entry])
        return false;
    return serial->wanted(params, entry) ||
           (serial->grants_ahead && restore_is_schema_acl(&params->toc->entries[entry], &params->restore));
}

static void count_entries(const LoadParams *params, EntryFilter wanted, int64_t *ret_done, int64_t *ret_total) {
    for (size_t i = 0; i < params->toc->count; i++)
        if (params->chosen[i] && wanted(params, i)) {
            ++*ret_total;
            *ret_done += params->entry_done[i];
        }
}

static bool run_all(const LoadParams *params, DbConn *control, const Serial *serial, Phase phase,
                    NotMovedVec *not_moved, Arena *arena, Error *err) {
    Group group = {.wanted = serial->wanted};
    int64_t total = 0, done = 0;

    count_entries(params, serial->wanted, &done, &total);
    tracker_phase_total(params->tracker, phase, done, total);
    for (size_t i = 0; i <= params->toc->count; i++) {
        bool last = i == params->toc->count;

        if (!last && belongs(params, serial, i)) {
            group.entries[group.count++] = i;
            done += serial->wanted(params, i);
        }
        if (group.count < GROUP_ENTRIES && !(last && group.count > 0))
            continue;
        if (!run_group(params, control, &group, not_moved, arena, err))
            return false;
        tracker_phase_total(params->tracker, phase, done, total);
        group.count = 0;
    }
    return true;
}

bool serial_run(const LoadParams *params, DbConn *control, EntryFilter wanted, Phase phase, NotMovedVec *not_moved,
                Arena *arena, Error *err) {
    return run_all(params, control, &(Serial){.wanted = wanted}, phase, not_moved, arena, err);
}

bool serial_run_with_grants(const LoadParams *params, DbConn *control, EntryFilter wanted, Phase phase,
                            NotMovedVec *not_moved, Arena *arena, Error *err) {
    return run_all(params, control, &(Serial){.wanted = wanted, .grants_ahead = true}, phase, not_moved, arena, err);
}

bool serial_run_in_transaction(const LoadParams *params, DbConn *control, EntryFilter wanted, NotMovedVec *not_moved,
                               Arena *arena, Error *err) {
    bool moved = false;

    for (size_t i = 0; i < params->toc->count; i++)
        if (params->chosen[i] && !params->entry_done[i] && wanted(params, i) &&
            !run_entry(params, control, &params->toc->entries[i], false, not_moved, arena, &moved, err))
            return false;
    return true;
}
