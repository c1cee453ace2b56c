/*
 * Is the capture still the one that was made? An event trigger that was disabled, dropped or replaced for a moment lets
 * commands pass, and nothing in the stream tells of it. So what it consists of is noted in the ledger when it is made:
 * the lines of the catalogue with their oids and the transactions that wrote them last, so that one that was disabled
 * and enabled again is another. Whoever finds it changed marks all tables first, and makes it anew then: a crash in
 * between finds the same again.
 *
 * A session that sets event_triggers = off for itself (17 and later) leaves no trace here; what it did to tables, their
 * shapes tell (seam/shapes.h).
 */
#include "engine/ddl/capture_internal.h"

#include "pg/quote.h"

#include <string.h>

#define NOTE_STEP "capture "

static const char print_sql[] =
    "SELECT pg_catalog.concat_ws(' ',"
    " 'functions=' || pg_catalog.md5(coalesce((SELECT pg_catalog.string_agg(pg_catalog.concat_ws(',', p.oid, p.xmin,"
    "   p.proowner), ' ' ORDER BY p.oid) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n"
    "   ON n.oid = p.pronamespace WHERE n.nspname = $1), '')),"
    " (SELECT pg_catalog.string_agg(suffix || '=' || pg_catalog.md5(coalesce((SELECT pg_catalog.concat_ws(',', e.oid,"
    "   e.xmin, e.evtenabled, e.evtowner, e.evtfoid) FROM pg_catalog.pg_event_trigger e"
    "   WHERE e.evtname = $2 || suffix), '')), ' ')"
    "  FROM pg_catalog.unnest(ARRAY['_end', '_drop', '_rw']) AS suffix),"
    " 'view=' || pg_catalog.md5(coalesce((SELECT pg_catalog.concat_ws(',', c.oid, c.relowner, c.relacl)"
    "   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    "   WHERE n.nspname = $1 AND c.relname = 'secret' AND c.relkind = 'm'), '')),"
    " 'setting=' || pg_catalog.md5(pg_catalog.concat_ws(',', pg_catalog.current_setting('event_triggers', true),"
    "   (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(',', s.setdatabase, s.setrole, setting), ' '"
    "     ORDER BY s.setdatabase, s.setrole) FROM pg_catalog.pg_db_role_setting s,"
    "     pg_catalog.unnest(s.setconfig) AS setting WHERE setting ~* '^event_triggers=' AND s.setdatabase IN (0,"
    "     (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))))),"
    " 'secret=')";

static const struct {
    const char *key, *what;
} parts[] = {
    {"functions=", "its functions"},
    {"_end=", "the event trigger of ddl_command_end"},
    {"_drop=", "the event trigger of sql_drop"},
    {"_rw=", "the event trigger of table_rewrite"},
    {"view=", "the view of its secret"},
    {"secret=", "its secret"},
    {"setting=", "the setting event_triggers, of the server, the database or a role"},
};
enum { HASH_LEN = 32 };

bool capture_print(DbConn *source, Arena *arena, const SeamNames *names, char **ret_print, Error *err) {
    const char *schema = ddl_capture_schema(arena, names), *secret = NULL;
    char *print = NULL, *hash = NULL;

    if (!db_query_value(source, arena, print_sql, 2, (const char *const[]){schema, names->slot}, &print, err) ||
        !ddl_capture_secret(source, arena, names, &secret, err))
        return error_wrap(err, "looking at the capture of definitions");
    /* The server hashes it where it is: as a parameter it would be in logs. */
    if (secret != NULL && !db_query_value(source, arena,
                                          arena_printf(arena, "SELECT pg_catalog.md5(secret) FROM %s",
                                                       sql_qualified(arena, schema, "secret")),
                                          0, NULL, &hash, err))
        return error_wrap(err, "looking at the capture of definitions");
    *ret_print = arena_printf(arena, "%s%s", print, hash == NULL ? "none" : hash);
    return true;
}

bool capture_note(DbConn *dest, const Ledger *ledger, const char *print, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    if (ledger_begin(dest, ledger, err) &&
        db_exec(dest, "DELETE FROM pgcrane.step WHERE name LIKE '" NOTE_STEP "%'", err) &&
        ledger_mark_step(dest, arena_printf(arena, NOTE_STEP "%s", print), err) && ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "noting the capture of definitions");
}

static bool same_part(const char *noted, const char *now, const char *key) {
    const char *a = strstr(noted, key), *b = strstr(now, key);

    return a != NULL && b != NULL && strncmp(a + strlen(key), b + strlen(key), HASH_LEN) == 0;
}

bool ddl_capture_check(DbConn *source, DbConn *dest, Arena *arena, const SeamNames *names, const char **ret_changed,
                       Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    char *now = NULL;

    *ret_changed = NULL;
    if (!db_query(dest, "SELECT name FROM pgcrane.step WHERE name LIKE '" NOTE_STEP "%'", 0, NULL, &row, err))
        return error_wrap(err, "reading the ledger");
    if (!capture_print(source, arena, names, &now, err))
        return false;
    if (db_rows(row) != 1) {
        *ret_changed = "all of it: nothing is known of how it was made";
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (!same_part(db_text(row, 0, 0), now, parts[i].key))
            *ret_changed =
                *ret_changed == NULL ? parts[i].what : arena_printf(arena, "%s, %s", *ret_changed, parts[i].what);
    return true;
}
