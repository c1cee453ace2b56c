/*
 * SQL of a TOC entry as we run it: what pg_restore would print for it, and the variants we need.
 *
 * One table says for each kind of entry in which pass it runs and what is added to its text. A kind that is not in the
 * table (a newer pg_dump's) runs as it is, in the pass of its section.
 */
#include "engine/schema/statements.h"

#include "engine/schema/sqlscan.h"
#include "pg/quote.h"

#include <stdlib.h>
#include <string.h>

enum {
    KIND_OWNER = 1 << 0,   /* ALTER ... OWNER TO follows */
    KIND_PART = 1 << 1,    /* part of a table */
    KIND_STORAGE = 1 << 2, /* is put into default_tablespace */
    KIND_DROP = 1 << 3,    /* has to be dropped by itself in a start over */
    KIND_BY_SECTION = 1 << 4,
};

typedef struct Kind {
    const char *desc;
    RestorePass pass; /* with KIND_BY_SECTION: not used */
    unsigned flags;
} Kind;

#define BY_SECTION RESTORE_SKIP, KIND_BY_SECTION

/*
 * What pg_dump 12 to 18 write. Parts of a table that call functions are dropped by themselves: a function over the
 * table's own row type is made after the table, so dropped before it, and they would hold it. So is a DEFAULT, for the
 * sequence it reads. A CONSTRAINT is not: of a partition, it cannot be.
 */
static const Kind kinds[] = {
    {"ACCESS METHOD", BY_SECTION | KIND_DROP},
    {"ACL LANGUAGE", RESTORE_ACL, 0},
    {"ACL", RESTORE_ACL, 0},
    {"AGGREGATE", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"BLOB COMMENTS", RESTORE_SKIP, 0},
    {"BLOB METADATA", RESTORE_SKIP, 0},
    {"BLOB", RESTORE_SKIP, 0},
    {"BLOBS", RESTORE_SKIP, 0},
    {"CAST", BY_SECTION | KIND_DROP},
    {"CHECK CONSTRAINT", BY_SECTION | KIND_PART | KIND_DROP},
    {"COLLATION", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"COMMENT", BY_SECTION},
    {"CONSTRAINT", RESTORE_PARALLEL, KIND_PART | KIND_STORAGE},
    {"CONVERSION", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"DATABASE PROPERTIES", RESTORE_SKIP, 0},
    {"DATABASE", RESTORE_SKIP, 0},
    {"DEFAULT ACL", RESTORE_ACL, 0},
    {"DEFAULT", BY_SECTION | KIND_PART | KIND_DROP},
    {"DOMAIN", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"ENCODING", RESTORE_SKIP, 0},
    {"EVENT TRIGGER", RESTORE_LAST, KIND_DROP | KIND_OWNER},
    {"EXTENSION", BY_SECTION | KIND_DROP},
    {"FK CONSTRAINT", RESTORE_FOREIGN_KEY, KIND_PART | KIND_DROP},
    {"FOREIGN DATA WRAPPER", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"FOREIGN TABLE", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"FUNCTION", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"INDEX ATTACH", BY_SECTION | KIND_PART},
    {"INDEX", RESTORE_PARALLEL, KIND_PART | KIND_STORAGE | KIND_DROP},
    {"LARGE OBJECT", RESTORE_SKIP, 0},
    {"MATERIALIZED VIEW DATA", RESTORE_LAST, KIND_PART},
    {"MATERIALIZED VIEW", BY_SECTION | KIND_DROP | KIND_OWNER | KIND_STORAGE},
    {"OPERATOR CLASS", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"OPERATOR FAMILY", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"OPERATOR", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"POLICY", BY_SECTION | KIND_PART | KIND_DROP},
    {"PROCEDURAL LANGUAGE", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"PROCEDURE", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"PUBLICATION TABLE", RESTORE_LAST, KIND_PART},
    {"PUBLICATION TABLES IN SCHEMA", RESTORE_LAST, 0},
    {"PUBLICATION", RESTORE_LAST, KIND_DROP | KIND_OWNER},
    {"ROW SECURITY", BY_SECTION | KIND_PART},
    {"RULE", BY_SECTION | KIND_PART | KIND_DROP},
    {"SCHEMA", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"SEARCHPATH", RESTORE_SKIP, 0},
    {"SECURITY LABEL", BY_SECTION},
    {"SEQUENCE OWNED BY", BY_SECTION | KIND_PART},
    {"SEQUENCE SET", RESTORE_SKIP, KIND_PART},
    {"SEQUENCE", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"SERVER", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"SHELL TYPE", BY_SECTION | KIND_DROP},
    {"STATISTICS DATA", RESTORE_SKIP, KIND_PART},
    {"STATISTICS", BY_SECTION | KIND_PART | KIND_DROP | KIND_OWNER},
    {"STDSTRINGS", RESTORE_SKIP, 0},
    {"SUBSCRIPTION TABLE", RESTORE_LAST, 0},
    {"SUBSCRIPTION", RESTORE_LAST, KIND_DROP | KIND_OWNER},
    {"TABLE ATTACH", BY_SECTION | KIND_PART},
    {"TABLE DATA", RESTORE_SKIP, KIND_PART},
    {"TABLE", BY_SECTION | KIND_DROP | KIND_OWNER | KIND_STORAGE},
    {"TEXT SEARCH CONFIGURATION", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"TEXT SEARCH DICTIONARY", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"TEXT SEARCH PARSER", BY_SECTION | KIND_DROP},
    {"TEXT SEARCH TEMPLATE", BY_SECTION | KIND_DROP},
    {"TRANSFORM", BY_SECTION | KIND_DROP},
    {"TRIGGER", BY_SECTION | KIND_PART | KIND_DROP},
    {"TYPE", BY_SECTION | KIND_DROP | KIND_OWNER},
    {"USER MAPPING", BY_SECTION | KIND_DROP},
    {"VIEW", BY_SECTION | KIND_DROP | KIND_OWNER},
};

static const Kind *find_kind(const char *desc) {
    static const Kind unknown = {"", BY_SECTION};
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (strcmp(kinds[i].desc, desc) == 0)
            return &kinds[i];
    return &unknown;
}

static bool is_kind(const TocEntry *entry, const char *desc) {
    return strcmp(entry->desc, desc) == 0;
}

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* --- passes --- */

/* The pass of an entry that is not bound to others; a section-less one counts as pre-data. */
static RestorePass own_pass(const TocEntry *entry) {
    const Kind *kind = find_kind(entry->desc);
    if ((kind->flags & KIND_BY_SECTION) == 0)
        return kind->pass;
    if (entry->section == TOC_SECTION_DATA)
        return RESTORE_SKIP;
    return entry->section == TOC_SECTION_POST_DATA ? RESTORE_POST_DATA : RESTORE_PRE_DATA;
}

/* Comments and security labels: after the last of what they depend on. */
static RestorePass pass_by_dependencies(const Toc *toc, const TocEntry *entry) {
    if (starts_with(entry->tag, "DATABASE ") || starts_with(entry->tag, "LARGE OBJECT "))
        return RESTORE_SKIP;
    if (starts_with(entry->tag, "EVENT TRIGGER "))
        return RESTORE_LAST;
    RestorePass latest = RESTORE_PRE_DATA;
    for (size_t i = 0; i < entry->deps_count; i++) {
        const TocEntry *on = toc_find(toc, entry->deps[i]);
        if (on == NULL || on == entry)
            continue;
        RestorePass pass = own_pass(on);
        if (pass == RESTORE_PARALLEL)
            pass = RESTORE_POST_DATA;
        else if (pass == RESTORE_FOREIGN_KEY)
            pass =
                RESTORE_LAST; /* whether foreign keys run before or after the post-data pass is the caller's affair */
        latest = MAX(latest, pass);
    }
    return latest;
}

RestorePass restore_pass(const Toc *toc, const TocEntry *entry, const RestoreOptions *options) {
    RestorePass pass = own_pass(entry);
    if (pass == RESTORE_ACL && (options->no_acl || starts_with(entry->tag, "DATABASE ")))
        return RESTORE_SKIP;
    if (pass == RESTORE_PRE_DATA && entry->section == TOC_SECTION_NONE)
        return pass_by_dependencies(toc, entry);
    return pass;
}

bool toc_kind_is_part_of_table(const char *desc) {
    return (find_kind(desc)->flags & KIND_PART) != 0;
}

/* --- column options: pg_attver --- */

/* Text under construction: only ever shorter than what it is made from. */
typedef struct Cut {
    char *text;
    size_t len;
} Cut;

static void cut_keep(Cut *cut, const char *from, const char *to) {
    memcpy(cut->text + cut->len, from, (size_t)(to - from));
    cut->len += (size_t)(to - from);
}

static bool is_attver(const SqlToken *token) {
    return (token->kind == SQL_TOKEN_WORD && token->len == 9 && strncmp(token->text, "pg_attver", 9) == 0) ||
           (token->kind == SQL_TOKEN_IDENT && token->len == 11 && strncmp(token->text, "\"pg_attver\"", 11) == 0);
}

/* Is it ALTER ... ALTER COLUMN name SET ( ? Leaves the scanner behind the parenthesis. */
static bool accept_set_column_options(SqlScanner *scanner) {
    const char *name;
    size_t len;
    if (!sql_accept_word(scanner, "ALTER"))
        return false;
    if (!sql_accept_words(scanner, "TABLE") && !sql_accept_words(scanner, "FOREIGN TABLE") &&
        !sql_accept_words(scanner, "MATERIALIZED VIEW") && !sql_accept_words(scanner, "VIEW"))
        return false;
    (void)sql_accept_word(scanner, "ONLY");
    return sql_accept_name(scanner, &name, &len) && sql_accept_words(scanner, "ALTER COLUMN") &&
           sql_accept_name(scanner, &name, &len) && sql_accept_word(scanner, "SET") && sql_accept_symbol(scanner, '(');
}

/* Takes one option of a list: up to its comma or closing parenthesis, which is returned (not part of the item). */
static SqlToken next_option(SqlScanner *scanner, const char **ret_start, const char **ret_end, bool *ret_is_attver) {
    SqlToken token = sql_next_token(scanner);
    *ret_start = token.text;
    *ret_end = token.text;
    *ret_is_attver = is_attver(&token);
    size_t parens = 0;
    while (token.kind != SQL_TOKEN_END) {
        if (parens == 0 && (sql_token_is_symbol(&token, ',') || sql_token_is_symbol(&token, ')')))
            break;
        if (sql_token_is_symbol(&token, '('))
            parens++;
        else if (sql_token_is_symbol(&token, ')'))
            parens--;
        *ret_end = token.text + token.len;
        token = sql_next_token(scanner);
    }
    return token;
}

/* Keeps the statement without its pg_attver. False when nothing of it is worth keeping. */
static bool keep_other_options(Cut *cut, SqlScanner options, const SqlStatement *statement) {
    size_t before = cut->len;
    size_t kept = 0;
    cut_keep(cut, statement->start, options.pos);
    for (;;) {
        const char *start;
        const char *end;
        bool is_attver_item;
        SqlToken delimiter = next_option(&options, &start, &end, &is_attver_item);
        if (!is_attver_item) {
            if (kept++ > 0)
                cut_keep(cut, ", ", strchr(", ", '\0'));
            cut_keep(cut, start, end);
        }
        if (!sql_token_is_symbol(&delimiter, ',')) {
            cut_keep(cut, delimiter.text, statement->end);
            break;
        }
    }
    if (kept == 0)
        cut->len = before;
    return kept > 0;
}

/* "a,b" may become "a, b": the text can grow by one byte for each comma. */
static size_t count_commas(const char *text) {
    size_t commas = 0;
    for (const char *p = strchr(text, ','); p != NULL; p = strchr(p + 1, ','))
        commas++;
    return commas;
}

/*
 * PostgreSQL 15.20 and 17.12 (and other minors of that day) mark each column with pg_attver=N. pg_dump 18.6 writes it
 * down, and no server of another version accepts it.
 */
static const char *without_attver(Arena *arena, const char *text) {
    if (strstr(text, "pg_attver") == NULL)
        return text;
    Cut cut = {.text = arena_alloc(arena, strlen(text) + count_commas(text) + 1)};
    SqlScanner scanner = {.pos = text};
    SqlStatement statement;
    const char *done = text;
    while (sql_next_statement(&scanner, &statement)) {
        cut_keep(&cut, done, statement.start);
        done = statement.end;
        SqlScanner inside = {.pos = statement.start};
        if (!accept_set_column_options(&inside) || inside.pos > statement.end)
            cut_keep(&cut, statement.start, statement.end);
        else if (!keep_other_options(&cut, inside, &statement))
            done += strspn(done, "\n");
    }
    cut_keep(&cut, done, done + strlen(done));
    cut.text[cut.len] = '\0';
    return cut.text;
}

/* --- the text of an entry --- */

/* The schema public is there in a fresh database. */
static const char *with_if_not_exists(Arena *arena, const char *text) {
    SqlScanner scanner = {.pos = text};
    if (!sql_accept_words(&scanner, "CREATE SCHEMA") || sql_accept_word(&scanner, "IF"))
        return text;
    return arena_printf(arena, "%.*s IF NOT EXISTS%s", (int)(scanner.pos - text), text, scanner.pos);
}

static const char *entry_text(Arena *arena, const TocEntry *entry) {
    const char *text = without_attver(arena, entry->defn);
    if (is_kind(entry, "SCHEMA") && strcmp(entry->tag, "public") == 0)
        text = with_if_not_exists(arena, text);
    return text;
}

/* "TABLE public.a", "FUNCTION public.f(integer)": what stands in the DROP statement. NULL when there is none. */
static const char *object_description(Arena *arena, const TocEntry *entry) {
    if (is_kind(entry, "SCHEMA")) /* pg_dump 15's DROP of public is only a comment */
        return arena_printf(arena, "SCHEMA %s", sql_ident(arena, entry->tag));
    SqlScanner scanner = {.pos = entry->drop_stmt};
    SqlStatement statement;
    if (!sql_next_statement(&scanner, &statement))
        return NULL;
    scanner.pos = statement.start;
    if (!sql_accept_word(&scanner, "DROP"))
        return NULL;
    const char *start = sql_peek_token(&scanner).text;
    const char *end = start;
    for (SqlToken token = sql_next_token(&scanner); token.text < statement.semicolon;
         token = sql_next_token(&scanner)) {
        if (sql_token_is_word(&token, "CASCADE")) /* base types, because of their functions */
            break;
        end = token.text + token.len;
    }
    return end == start ? NULL : arena_strndup(arena, start, (size_t)(end - start));
}

bool restore_gives_away(const TocEntry *entry, const RestoreOptions *options) {
    return !options->no_owner && entry->owner[0] != '\0' && entry->drop_stmt[0] != '\0' &&
           (find_kind(entry->desc)->flags & KIND_OWNER) != 0;
}

static const char *owner_text(Arena *arena, const TocEntry *entry, const RestoreOptions *options) {
    if (!restore_gives_away(entry, options))
        return "";
    const char *object = object_description(arena, entry);
    if (object == NULL)
        return "";
    return arena_printf(arena, "ALTER %s OWNER TO %s;\n", object, sql_ident(arena, entry->owner));
}

/* Both settings are written even where they are empty: a role or database may have defaults of its own. */
static const char *storage_text(Arena *arena, const TocEntry *entry) {
    if ((find_kind(entry->desc)->flags & KIND_STORAGE) == 0)
        return "";
    const char *tablespace = entry->tablespace[0] == '\0' ? "''" : sql_ident(arena, entry->tablespace);
    const char *am = "";
    bool holds_rows = is_kind(entry, "TABLE") || is_kind(entry, "MATERIALIZED VIEW");
    if (holds_rows && entry->table_am[0] != '\0' && entry->relkind != 'p')
        am = arena_printf(arena, "SET default_table_access_method = %s;\n", sql_ident(arena, entry->table_am));
    return arena_printf(arena, "SET default_tablespace = %s;\n%s", tablespace, am);
}

/* A partitioned table has no storage; since PostgreSQL 17 it may name the access method of its partitions to come. */
static const char *partitioned_am_text(Arena *arena, const TocEntry *entry) {
    if (!is_kind(entry, "TABLE") || entry->relkind != 'p' || entry->table_am[0] == '\0')
        return "";
    return arena_printf(arena, "ALTER TABLE %s SET ACCESS METHOD %s;\n",
                        sql_qualified(arena, entry->schema, entry->tag), sql_ident(arena, entry->table_am));
}

bool restore_owner_runs_subscriptions(const char *dump_version, int server_version) {
    return dump_version != NULL && strtol(dump_version, NULL, 10) < 16 && server_version >= 160000;
}

static const char *run_as_owner_text(Arena *arena, const TocEntry *entry, const RestoreOptions *options) {
    if (!is_kind(entry, "SUBSCRIPTION") || !options->subscriptions_run_as_owner)
        return "";
    return arena_printf(arena, "ALTER SUBSCRIPTION %s SET (run_as_owner = true);\n", sql_ident(arena, entry->tag));
}

char *restore_sql(Arena *arena, const TocEntry *entry, const RestoreOptions *options) {
    const char *text = entry_text(arena, entry);
    if (text[0] == '\0' || (options->no_acl && own_pass(entry) == RESTORE_ACL))
        return arena_strdup(arena, "");
    size_t len = strlen(text);
    const char *newline = text[len - 1] == '\n' ? "" : "\n";
    return arena_printf(arena, "%s%s%s%s%s%s", storage_text(arena, entry), text, newline,
                        partitioned_am_text(arena, entry), run_as_owner_text(arena, entry, options),
                        owner_text(arena, entry, options));
}

/* --- variants --- */

bool restore_is_schema_acl(const TocEntry *entry, const RestoreOptions *options) {
    return !options->no_acl && is_kind(entry, "ACL") && starts_with(entry->tag, "SCHEMA ");
}

/* As another role a statement stands between SET and RESET SESSION AUTHORIZATION, behind those of the owner. */
void restore_schema_grants(Arena *arena, const TocEntry *entry, const RestoreOptions *options, StringVec *grants) {
    SqlScanner scanner = {.pos = entry->defn};
    SqlStatement statement;

    while (restore_is_schema_acl(entry, options) && sql_next_statement(&scanner, &statement)) {
        SqlScanner inside = {.pos = statement.start};

        if (sql_accept_word(&inside, "SET"))
            return;
        if (sql_accept_word(&inside, "GRANT"))
            vec_push(arena, grants,
                     arena_strndup(arena, statement.start, (size_t)(statement.semicolon - statement.start)));
    }
}

/* NOT is a reserved word, so unquoted it is never a name. */
static bool is_not_valid_already(const SqlStatement *statement) {
    SqlScanner scanner = {.pos = statement->start};
    while (scanner.pos < statement->semicolon) {
        SqlToken token = sql_next_token(&scanner);
        SqlToken next = sql_peek_token(&scanner);
        if (sql_token_is_word(&token, "NOT") &&
            (sql_token_is_word(&next, "VALID") || sql_token_is_word(&next, "ENFORCED")))
            return true;
    }
    return false;
}

char *restore_foreign_key_not_valid_sql(Arena *arena, const TocEntry *entry, const RestoreOptions *options) {
    char *text = restore_sql(arena, entry, options);
    SqlScanner scanner = {.pos = text};
    SqlStatement statement;
    if (!sql_next_statement(&scanner, &statement) || is_not_valid_already(&statement))
        return text;
    size_t before = (size_t)(statement.semicolon - text);
    return arena_printf(arena, "%.*s NOT VALID%s", (int)before, text, text + before);
}

char *restore_after_first_statement(Arena *arena, const TocEntry *entry) {
    const char *text = entry_text(arena, entry);
    SqlScanner scanner = {.pos = text};
    SqlStatement first;
    SqlStatement second;
    if (!sql_next_statement(&scanner, &first) || !sql_next_statement(&scanner, &second))
        return arena_strdup(arena, "");
    return arena_strdup(arena, second.start);
}

/* "DROP TABLE a;" to "DROP TABLE IF EXISTS a;". */
static char *drop_object_sql(Arena *arena, const TocEntry *entry, SqlScanner scanner) {
    if (!sql_accept_words(&scanner, entry->desc) && sql_next_token(&scanner).kind != SQL_TOKEN_WORD)
        return arena_strdup(arena, "");
    const char *text = entry->drop_stmt;
    return arena_printf(arena, "%.*s IF EXISTS%s", (int)(scanner.pos - text), text, scanner.pos);
}

/* "ALTER TABLE ONLY a DROP CONSTRAINT c;" to "ALTER TABLE IF EXISTS ONLY a DROP CONSTRAINT IF EXISTS c;". */
static char *drop_from_table_sql(Arena *arena, const TocEntry *entry, SqlScanner scanner) {
    const char *text = entry->drop_stmt;
    const char *name;
    size_t len;
    if (!sql_accept_words(&scanner, "TABLE") && !sql_accept_words(&scanner, "FOREIGN TABLE"))
        return arena_strdup(arena, "");
    const char *table = scanner.pos;
    (void)sql_accept_word(&scanner, "ONLY");
    if (!sql_accept_name(&scanner, &name, &len))
        return arena_strdup(arena, "");
    const char *if_exists = sql_accept_words(&scanner, "DROP CONSTRAINT") ? " IF EXISTS" : "";
    return arena_printf(arena, "%.*s IF EXISTS%.*s%s%s", (int)(table - text), text, (int)(scanner.pos - table), table,
                        if_exists, scanner.pos);
}

/*
 * A view in a circle of dependencies is made as a dummy, and its real query is the text of a RULE, whose "drop" makes
 * it the dummy again. Which would fail in a half restored database, so the view goes with what hangs on it: those
 * are in the circle, and ours.
 */
static char *drop_circular_view_sql(Arena *arena, SqlScanner scanner) {
    const char *name;
    size_t len;
    if (!sql_accept_words(&scanner, "OR REPLACE VIEW") || !sql_accept_name(&scanner, &name, &len))
        return arena_strdup(arena, "");
    return arena_printf(arena, "DROP VIEW IF EXISTS %.*s CASCADE;\n", (int)len, name);
}

char *restore_drop_sql(Arena *arena, const TocEntry *entry) {
    bool is_public = is_kind(entry, "SCHEMA") && strcmp(entry->tag, "public") == 0;
    SqlScanner scanner = {.pos = entry->drop_stmt};
    if (is_public || (find_kind(entry->desc)->flags & KIND_DROP) == 0)
        return arena_strdup(arena, "");
    if (sql_accept_word(&scanner, "DROP"))
        return drop_object_sql(arena, entry, scanner);
    if (sql_accept_word(&scanner, "ALTER"))
        return drop_from_table_sql(arena, entry, scanner);
    if (sql_accept_word(&scanner, "CREATE"))
        return drop_circular_view_sql(arena, scanner);
    return arena_strdup(arena, "");
}
