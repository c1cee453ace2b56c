/*
 * Which statement of a query string was it?
 *
 * The event trigger knows the whole string that the client sent, the tag of the command, and its number among those of
 * that tag in this transaction. Counting is exact as long as the string leaves its transaction alone; a string with
 * COMMIT, ROLLBACK or savepoints in it restarts the count or takes it back, so there the name has to decide, and when
 * it does not (two of that name), the command is not repeated. Nor is it when the count began again all the same
 * (RESET ALL, DISCARD, wherever they hide): then it comes with a number that another command of the string had.
 */
#include "engine/ddl/replay_internal.h"

#include "engine/schema/sqlscan.h"

#include <string.h>
#include <strings.h>

/* --- Tags --------------------------------------------------------------------------------------------------------- */

/* What may stand between CREATE and the kind of object. */
static const char *const modifiers[] = {"OR",         "REPLACE",    "UNIQUE",   "TEMP",      "TEMPORARY",
                                        "GLOBAL",     "LOCAL",      "UNLOGGED", "RECURSIVE", "TRUSTED",
                                        "PROCEDURAL", "CONSTRAINT", "DEFAULT"};

static bool accept_modifier(SqlScanner *scanner) {
    for (size_t i = 0; i < COUNT_OF(modifiers); i++)
        if (sql_accept_word(scanner, modifiers[i]))
            return true;
    return false;
}

/* Is there such a word outside of all parentheses? */
static bool has_word(const char *sql, const char *word) {
    SqlScanner scanner = {.pos = sql};
    int depth = 0;

    for (SqlToken token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(&scanner)) {
        depth += sql_token_is_symbol(&token, '(') ? 1 : 0;
        depth -= sql_token_is_symbol(&token, ')') ? 1 : 0;
        if (depth == 0 && sql_token_is_word(&token, word))
            return true;
    }
    return false;
}

static bool starts_with_tag(const char *sql, const char *tag) {
    SqlScanner scanner = {.pos = sql};
    SqlScanner words = {.pos = tag};
    SqlToken wanted = sql_next_token(&words);
    SqlToken token = sql_next_token(&scanner);
    bool is_create = sql_token_is_word(&token, "CREATE");

    for (;;) {
        if (token.kind != SQL_TOKEN_WORD || token.len != wanted.len ||
            strncasecmp(token.text, wanted.text, token.len) != 0)
            return false;
        while (is_create && accept_modifier(&scanner))
            ;
        is_create = false;
        wanted = sql_next_token(&words);
        if (wanted.kind == SQL_TOKEN_END)
            break;
        token = sql_next_token(&scanner);
    }
    /* CREATE OPERATOR CLASS has a tag of its own. */
    token = sql_next_token(&scanner);
    return strstr(tag, " OPERATOR") == NULL || strstr(tag, " OPERATOR ") != NULL ||
           !(sql_token_is_word(&token, "CLASS") || sql_token_is_word(&token, "FAMILY"));
}

bool ddl_statement_has_tag(const char *sql, const char *tag) {
    if (strcmp(tag, "CREATE TABLE AS") == 0)
        return starts_with_tag(sql, "CREATE TABLE") && has_word(sql, "AS");
    if (strcmp(tag, "SELECT INTO") == 0)
        return (starts_with_tag(sql, "SELECT") || starts_with_tag(sql, "WITH")) && has_word(sql, "INTO");
    if (!starts_with_tag(sql, tag))
        return false;
    if (strcmp(tag, "CREATE TABLE") == 0)
        return !has_word(sql, "AS");
    /* Of roles: no command of a database, and no event. */
    if (strcmp(tag, "GRANT") == 0 || strcmp(tag, "REVOKE") == 0)
        return has_word(sql, "ON");
    return true;
}

/* --- The statement ------------------------------------------------------------------------------------------------ */

static bool is_transaction_control(const char *sql) {
    static const char *const words[] = {"BEGIN", "START",     "COMMIT",  "END",     "ROLLBACK",
                                        "ABORT", "SAVEPOINT", "RELEASE", "PREPARE", "CALL"};

    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (starts_with_tag(sql, words[i]))
            return true;
    return false;
}

/* Does the statement name it, as it is written in the catalogue or in any case? */
static bool mentions(Arena *arena, const char *sql, const char *name) {
    SqlScanner scanner = {.pos = sql};

    for (SqlToken token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(&scanner)) {
        DdlObject found = {.identity = arena_strndup(arena, token.text, token.len)};
        if (token.kind == SQL_TOKEN_WORD && strcasecmp(found.identity, name) == 0)
            return true;
        if (token.kind == SQL_TOKEN_IDENT && strcmp(ddl_bare_name(arena, &found), name) == 0)
            return true;
    }
    return false;
}

static const char *only_named(Arena *arena, const DdlMessage *message, const StringVec *candidates) {
    const char *found = NULL;

    if (message->objects.len == 0)
        return NULL;
    const char *name = ddl_bare_name(arena, &message->objects.items[0]);
    for (size_t i = 0; i < candidates->len; i++) {
        if (!mentions(arena, candidates->items[i], name))
            continue;
        if (found != NULL)
            return NULL;
        found = candidates->items[i];
    }
    return found;
}

const char *ddl_find_statement(Arena *arena, const DdlMessage *message, const char **ret_reason) {
    SqlScanner scanner = {.pos = message->query};
    SqlStatement statement;
    StringVec candidates = {0};
    bool controls = false;

    while (sql_next_statement(&scanner, &statement)) {
        const char *sql = arena_strndup(arena, statement.start, (size_t)(statement.semicolon - statement.start));
        controls = controls || is_transaction_control(sql);
        if (ddl_statement_has_tag(sql, message->tag))
            vec_push(arena, &candidates, sql);
    }
    if (candidates.len == 0) {
        *ret_reason = "the query that ran it does not contain it as a statement";
        return NULL;
    }
    if (candidates.len > 1 && controls) {
        const char *found = only_named(arena, message, &candidates);
        if (found == NULL)
            *ret_reason = "the query that ran it has several such statements and ends transactions between them";
        return found;
    }
    if (message->recounted) {
        *ret_reason = "the query that ran it has reset the setting that counts its commands (RESET ALL, DISCARD ALL)";
        return NULL;
    }
    if (message->ordinal < 1 || (size_t)message->ordinal > candidates.len) {
        *ret_reason = "the query that ran it has fewer such statements than were run";
        return NULL;
    }
    return candidates.items[message->ordinal - 1];
}

/* --- As it can be run here ---------------------------------------------------------------------------------------- */

static const char *without_concurrently(Arena *arena, const char *sql) {
    SqlScanner scanner = {.pos = sql};

    for (SqlToken token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(&scanner))
        if (sql_token_is_word(&token, "CONCURRENTLY"))
            return arena_printf(arena, "%.*s%s", (int)(token.text - sql), sql, token.text + token.len);
    return sql;
}

/* A materialized view is filled at the end, not in the applier's way. */
static const char *with_no_data(Arena *arena, const char *sql) {
    SqlScanner scanner = {.pos = sql};
    SqlToken last[3] = {0};

    for (SqlToken token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(&scanner)) {
        last[0] = last[1];
        last[1] = last[2];
        last[2] = token;
    }
    if (last[0].text == NULL)
        return sql;
    const char *end = last[2].text + last[2].len;
    if (sql_token_is_word(&last[2], "DATA") && sql_token_is_word(&last[1], "NO"))
        return sql;
    if (sql_token_is_word(&last[2], "DATA") && sql_token_is_word(&last[1], "WITH"))
        end = last[1].text;
    return arena_printf(arena, "%.*s WITH NO DATA", (int)(end - sql), sql);
}

static bool is_droppable(const char *tag) {
    static const char *const tags[] = {
        "DROP TABLE",  "DROP VIEW",   "DROP MATERIALIZED VIEW", "DROP SEQUENCE", "DROP INDEX",    "DROP TYPE",
        "DROP DOMAIN", "DROP SCHEMA", "DROP FOREIGN TABLE",     "DROP FUNCTION", "DROP PROCEDURE"};

    for (size_t i = 0; i < COUNT_OF(tags); i++)
        if (strcmp(tag, tags[i]) == 0)
            return true;
    return false;
}

/* Temporary ones, those of another schema filter, and what was made without us are not here; the others go. */
const char *ddl_drop_sql(Arena *arena, const DdlMessage *message, const char *sql) {
    SqlScanner scanner = {.pos = sql};
    SqlToken last = {.text = ""};
    bool several = false;
    int depth = 0;

    if (!is_droppable(message->tag) || message->objects.len == 0)
        return NULL;
    for (SqlToken token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(&scanner)) {
        depth += sql_token_is_symbol(&token, '(') ? 1 : 0;
        depth -= sql_token_is_symbol(&token, ')') ? 1 : 0;
        several = several || (depth == 0 && sql_token_is_symbol(&token, ','));
        last = token;
    }
    if (!several)
        return NULL;
    const char *dropping = arena_printf(arena, "%s IF EXISTS ", message->tag);
    for (size_t i = 0; i < message->objects.len; i++)
        dropping = arena_printf(arena, "%s%s%s", dropping, i > 0 ? ", " : "", message->objects.items[i].identity);
    return sql_token_is_word(&last, "CASCADE") ? arena_printf(arena, "%s CASCADE", dropping) : dropping;
}

const char *ddl_adapt(Arena *arena, const char *sql, const char *tag) {
    if (strcmp(tag, "CREATE INDEX") == 0 || strcmp(tag, "DROP INDEX") == 0 || strcmp(tag, "ALTER TABLE") == 0)
        return without_concurrently(arena, sql);
    if (strcmp(tag, "CREATE MATERIALIZED VIEW") == 0)
        return with_no_data(arena, sql);
    return sql;
}
