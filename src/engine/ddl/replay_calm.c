/*
 * What must not act while the stream is applied: triggers, rules, policies, foreign keys. Pure.
 *
 * In replica role ordinary triggers, rules and foreign keys are silent; those that fire always or for replicas are not.
 * Without it none is. Row level security could hide rows from whoever applies. The promote makes all of them as the
 * source has them then, so that a command about nothing else may fail here, and what a command made is taken back.
 */
#include "engine/ddl/replay_internal.h"

#include "engine/schema/sqlscan.h"
#include "pg/quote.h"

#include <string.h>
#include <strings.h>

enum { CLONES_VERSION = 130000, PARENT_VERSION = 110000 };

/* --- Commands about nothing else ---------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end) {
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* Takes one of them. */
static bool accept_one_of(SqlScanner *scanner, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (sql_accept_words(scanner, words[i]))
            return true;
    return false;
}

static bool is_foreign_key(SqlScanner scanner) {
    const char *name;
    size_t len;

    if (!sql_accept_word(&scanner, "ADD"))
        return false;
    if (sql_accept_word(&scanner, "CONSTRAINT") && !sql_accept_name(&scanner, &name, &len))
        return false;
    return sql_accept_words(&scanner, "FOREIGN KEY");
}

/* One action of ALTER TABLE. */
static bool action_waits(SqlScanner scanner, bool replica_role) {
    static const char *const switches[] = {"ENABLE TRIGGER", "ENABLE ALWAYS",   "ENABLE REPLICA", "ENABLE RULE",
                                           "ENABLE ROW",     "DISABLE TRIGGER", "DISABLE RULE",   "DISABLE ROW",
                                           "FORCE ROW",      "NO FORCE"};
    static const char *const constraints[] = {"VALIDATE CONSTRAINT", "ALTER CONSTRAINT", "DROP CONSTRAINT",
                                              "RENAME CONSTRAINT"};

    return accept_one_of(&scanner, switches, COUNT_OF(switches)) ||
           (!replica_role && (is_foreign_key(scanner) || accept_one_of(&scanner, constraints, COUNT_OF(constraints))));
}

/* Leaves the scanner behind the comma. False at the end. */
static bool next_action(SqlScanner *scanner) {
    int depth = 0;

    for (SqlToken token = sql_next_token(scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(scanner)) {
        depth += sql_token_is_symbol(&token, '(') ? 1 : 0;
        depth -= sql_token_is_symbol(&token, ')') ? 1 : 0;
        if (depth == 0 && sql_token_is_symbol(&token, ','))
            return true;
    }
    return false;
}

static bool alter_waits(const char *sql, bool replica_role) {
    SqlScanner scanner = {.pos = sql};
    const char *name;
    size_t len;

    if (!sql_accept_words(&scanner, "ALTER TABLE"))
        return false;
    (void)sql_accept_words(&scanner, "IF EXISTS");
    (void)sql_accept_word(&scanner, "ONLY");
    if (!sql_accept_name(&scanner, &name, &len))
        return false;
    (void)sql_accept_symbol(&scanner, '*');
    do {
        if (!action_waits(scanner, replica_role))
            return false;
    } while (next_action(&scanner));
    return true;
}

static bool comment_waits(const char *sql, bool replica_role) {
    static const char *const kinds[] = {"TRIGGER", "RULE", "POLICY", "PUBLICATION", "SUBSCRIPTION"};
    SqlScanner scanner = {.pos = sql};

    return sql_accept_words(&scanner, "COMMENT ON") && (accept_one_of(&scanner, kinds, COUNT_OF(kinds)) ||
                                                        (!replica_role && sql_accept_word(&scanner, "CONSTRAINT")));
}

/* One that was made meanwhile is not there before the promote has compared them (finish/large_objects.c), with owner,
 * comment and grants. */
static bool is_of_large_objects(const DdlMessage *message) {
    for (size_t i = 0; i < message->objects.len; i++)
        if (strcasecmp(message->objects.items[i].kind, "large object") != 0)
            return false;
    return message->objects.len > 0;
}

bool ddl_waits_for_open(const DdlMessage *message, const char *sql, bool replica_role) {
    const char *tag = message->tag;

    if (is_of_large_objects(message))
        return true;
    if (strcmp(tag, "ALTER TABLE") == 0)
        return alter_waits(sql, replica_role);
    if (strcmp(tag, "COMMENT") == 0)
        return comment_waits(sql, replica_role);
    return ends_with(tag, " POLICY") || ends_with(tag, " RULE") ||
           (ends_with(tag, " TRIGGER") && !ends_with(tag, " EVENT TRIGGER"));
}

/* --- Calm ----------------------------------------------------------------------------------------------------------
 */

/* clang-format off */
#define CALM_SQL \
    "WITH rel AS (SELECT c.oid, c.relrowsecurity, pg_catalog.quote_ident(n.nspname) || '.'" \
    "  || pg_catalog.quote_ident(c.relname) AS quoted FROM pg_catalog.pg_class c" \
    "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace" \
    "  WHERE c.relkind IN ('r', 'p') AND (n.nspname, c.relname) IN (%1$s))" \
    " SELECT pg_catalog.string_agg(s.sql, '; ') FROM (" \
    " SELECT 'ALTER TABLE ' || r.quoted || ' DISABLE ROW LEVEL SECURITY' AS sql FROM rel r WHERE r.relrowsecurity"

#define ALWAYS_SQL \
    " UNION ALL SELECT 'ALTER TABLE ' || r.quoted || ' ENABLE TRIGGER ' || pg_catalog.quote_ident(t.tgname)" \
    " FROM rel r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid WHERE t.tgenabled IN ('A', 'R')" \
    " AND NOT t.tgisinternal" \
    " UNION ALL SELECT 'ALTER TABLE ' || r.quoted || ' ENABLE RULE ' || pg_catalog.quote_ident(w.rulename)" \
    " FROM rel r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid WHERE w.ev_enabled IN ('A', 'R')"

#define EVERY_SQL \
    " UNION ALL SELECT 'DROP TRIGGER ' || pg_catalog.quote_ident(t.tgname) || ' ON ' || r.quoted" \
    " FROM rel r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal AND %2$s = 0" \
    " UNION ALL SELECT 'DROP RULE ' || pg_catalog.quote_ident(w.rulename) || ' ON ' || r.quoted" \
    " FROM rel r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid" \
    " UNION ALL SELECT 'ALTER TABLE ' || r.quoted || ' DROP CONSTRAINT ' || pg_catalog.quote_ident(k.conname)" \
    " FROM rel r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid WHERE k.contype = 'f' AND %3$s = 0"
/* clang-format on */

const char *ddl_calm_sql(Arena *arena, const DdlMessage *message, int dest_version, bool replica_role) {
    const char *names = "";

    if (message->tables.len == 0 || strncmp(message->tag, "DROP ", strlen("DROP ")) == 0)
        return NULL;
    for (size_t i = 0; i < message->tables.len; i++)
        names = arena_printf(arena, "%s%s(%s, %s)", names, i > 0 ? ", " : "",
                             sql_literal(arena, message->tables.items[i].schema),
                             sql_literal(arena, message->tables.items[i].name));
    if (replica_role)
        return arena_printf(arena, CALM_SQL ALWAYS_SQL ") s", names);
    return arena_printf(arena, CALM_SQL EVERY_SQL ") s", names, dest_version >= CLONES_VERSION ? "t.tgparentid" : "0",
                        dest_version >= PARENT_VERSION ? "k.conparentid" : "0");
}
