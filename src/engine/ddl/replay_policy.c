/* What may be repeated as text. Pure. */
#include "engine/ddl/replay_internal.h"

#include "engine/schema/sqlscan.h"

#include <string.h>

typedef struct TagRule {
    const char *tag;
    const char *why_not;
} TagRule;

static const TagRule refused[] = {
    {"CREATE TABLE AS", "its rows are the result of a query, which came before the table in the stream"},
    {"SELECT INTO", "its rows are the result of a query, which came before the table in the stream"},
    {"IMPORT FOREIGN SCHEMA", "what it makes depends on another server"},
};

/* Takes the words, one after the other, anywhere in the statement. */
static bool has_words(const char *sql, const char *words) {
    SqlScanner scanner = {.pos = sql};

    while (sql_peek_token(&scanner).kind != SQL_TOKEN_END) {
        if (sql_accept_words(&scanner, words))
            return true;
        (void)sql_next_token(&scanner);
    }
    return false;
}

static const char *setting(const DdlMessage *message, const char *name) {
    return message->settings != NULL ? json_get_string(message->settings, name, "") : "";
}

bool ddl_may_hold_password(const DdlMessage *message) {
    static const char *const kinds[] = {" USER MAPPING", " SERVER", " FOREIGN TABLE", " SUBSCRIPTION"};

    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (strstr(message->tag, kinds[i]) != NULL)
            return true;
    /* The query string has more than the one command. */
    return message->query != NULL &&
           (strcasestr(message->query, "passw") != NULL || strcasestr(message->query, "user mapping") != NULL);
}

const char *ddl_why_not(const DdlMessage *message, const char *sql, int dest_version) {
    for (size_t i = 0; i < COUNT_OF(refused); i++)
        if (strcmp(message->tag, refused[i].tag) == 0)
            return refused[i].why_not;
    if (strcmp(setting(message, "standard_conforming_strings"), "off") == 0 && strchr(message->query, '\\') != NULL)
        return "it was run with standard_conforming_strings = off";
    if (strcmp(message->tag, "ALTER TYPE") == 0 && has_words(sql, "ADD VALUE") && dest_version < 120000)
        return "before PostgreSQL 12 a label cannot be added inside a transaction";
    return NULL;
}
