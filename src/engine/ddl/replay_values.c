/*
 * Do the rows that are there have the same values on both sides after an ALTER TABLE? Yes, only when it is certain.
 *
 * ALTER TABLE computes values: a new column's default, the USING of a new type, the conversion to it. Repeated later,
 * elsewhere, over rows in another order, under other settings, now(), random(), nextval() or a cast to text give
 * others. Whatever is not certain to be the same is copied again, which is always right and costs time only. Certain
 * are
 *
 * - a new column that has no default, or one that is a constant of a plain type (the source's catalogue says so,
 *   capture_sql.c), unless the same command sets a default: then the catalogue has another than the rows got;
 * - a generated column: a copy would not bring its values either, the destination computes them;
 * - a new type without USING, when the old and the new one are both numbers, both texts, or one type with another
 *   length: these conversions depend on nothing. (What the server does without a rewrite is not certain: regclass
 *   becomes oid without one, and the oids are others here.)
 *
 * Which columns the command may have changed the source says, a few too many. Which of them are new, and what they were
 * before, is read here before and after the command is run. A column that was here before although the command may have
 * added it there (IF NOT EXISTS) has values of its own.
 */
#include "engine/ddl/replay_internal.h"

#include "engine/schema/sqlscan.h"
#include "pg/quote.h"

#include <string.h>

enum { GENERATED_VERSION = 120000, FIRST_OWN_OID = 16384 };

/* --- Reading ------------------------------------------------------------------------------------------------------ */

static bool is_same_table(const DdlObject *a, const DdlObject *b) {
    return strcmp(a->schema, b->schema) == 0 && strcmp(a->name, b->name) == 0;
}

static const char *names_of_tables(Arena *arena, const DdlMessage *message) {
    const char *names = "";

    /* They come table by table. */
    for (size_t i = 0; i < message->columns.len; i++) {
        const DdlObject *column = &message->columns.items[i];

        if (i > 0 && is_same_table(column, column - 1))
            continue;
        names = arena_printf(arena, "%s%s(%s, %s)", names, i > 0 ? ", " : "", sql_literal(arena, column->schema),
                             sql_literal(arena, column->name));
    }
    return names;
}

bool ddl_read_columns(DbConn *dest, Arena *arena, const DdlMessage *message, DdlColumnVec *ret_columns, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    *ret_columns = (DdlColumnVec){0};
    if (message->columns.len == 0)
        return true;
    const char *sql = arena_printf(
        arena,
        "SELECT n.nspname, c.relname, a.attname, a.atttypid, a.attnum, a.atttypmod, %s FROM pg_catalog.pg_attribute a"
        " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE (n.nspname, c.relname) IN (%s) AND a.attnum > 0 AND NOT a.attisdropped",
        db_version(dest) >= GENERATED_VERSION ? "a.attgenerated <> ''" : "false", names_of_tables(arena, message));

    if (!db_query(dest, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the columns that a command changes");
    for (int i = 0; i < db_rows(rows); i++) {
        DdlColumn column = {
            .schema = arena_strdup(arena, db_text(rows, i, 0)),
            .table = arena_strdup(arena, db_text(rows, i, 1)),
            .name = arena_strdup(arena, db_text(rows, i, 2)),
            .type = (uint32_t)db_int64(rows, i, 3),
            .number = db_int64(rows, i, 4),
            .modifier = db_int64(rows, i, 5),
            .generated = db_bool(rows, i, 6),
        };
        vec_push(arena, ret_columns, column);
    }
    return true;
}

static const DdlColumn *find_column(const DdlColumnVec *columns, const DdlObject *wanted) {
    for (size_t i = 0; i < columns->len; i++) {
        const DdlColumn *column = &columns->items[i];

        if (strcmp(column->name, wanted->identity) == 0 && strcmp(column->table, wanted->name) == 0 &&
            strcmp(column->schema, wanted->schema) == 0)
            return column;
    }
    return NULL;
}

/* --- What the command says ---------------------------------------------------------------------------------------- */

typedef struct Said {
    bool sets_default;  /* SET DEFAULT, also where it is no action of its own: too much is no harm */
    bool if_not_exists; /* of a column, or of whatever */
    bool retypes;
    bool has_using; /* of a type, not of an index or a constraint */
} Said;

static bool follows(SqlScanner scanner, const char *words) {
    return sql_accept_words(&scanner, words);
}

static Said what_it_says(const char *sql) {
    SqlScanner scanner = {.pos = sql};
    SqlToken last = {.text = ""};
    Said said = {0};

    while (sql_peek_token(&scanner).kind != SQL_TOKEN_END) {
        said.sets_default = said.sets_default || follows(scanner, "SET DEFAULT");
        said.if_not_exists = said.if_not_exists || follows(scanner, "IF NOT EXISTS");
        said.retypes = said.retypes || follows(scanner, "TYPE");
        said.has_using = said.has_using || (follows(scanner, "USING") && !follows(scanner, "USING INDEX") &&
                                            !sql_token_is_word(&last, "EXCLUDE"));
        last = sql_next_token(&scanner);
    }
    return said;
}

/* --- Judging ------------------------------------------------------------------------------------------------------ */

#define NEW_DIFFERS "the new column's default may have other values in the rows that are there"
#define TYPE_DIFFERS "the new type may give other values"

static bool is_number(uint32_t type) {
    static const uint32_t types[] = {20, 21, 23, 700, 701, 1700}; /* int8, int2, int4, float4, float8, numeric */

    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (types[i] == type)
            return true;
    return false;
}

static bool is_text(uint32_t type) {
    return type == 25 || type == 1042 || type == 1043; /* text, bpchar, varchar */
}

static bool converts_surely(const DdlColumn *before, const DdlColumn *after) {
    return (is_number(before->type) && is_number(after->type)) || (is_text(before->type) && is_text(after->type)) ||
           (before->type == after->type && before->modifier != after->modifier && after->type < FIRST_OWN_OID);
}

static const char *judge(const DdlObject *column, const Said *said, const DdlColumn *before, const DdlColumn *after) {
    if (after == NULL)
        return "the destination has no such column";
    if (after->generated)
        return NULL;
    if (before == NULL || before->number != after->number)
        return strcmp(column->kind, "sure") != 0 || said->sets_default ? NEW_DIFFERS : NULL;
    if (before->generated)
        return "a column that was generated keeps values that each side computed for itself";
    if (said->if_not_exists)
        return NEW_DIFFERS;
    if (said->has_using && said->retypes)
        return "the USING expression may give other values";
    /* 17 names all columns of a table of which one gets another type. */
    if (before->type == after->type && before->modifier == after->modifier)
        return NULL;
    return converts_surely(before, after) ? NULL : TYPE_DIFFERS;
}

const char *ddl_why_values_differ(const DdlMessage *message, const char *sql, const DdlColumnVec *before,
                                  const DdlColumnVec *after) {
    Said said = what_it_says(sql);

    for (size_t i = 0; i < message->columns.len; i++) {
        const DdlObject *column = &message->columns.items[i];
        const char *why = judge(column, &said, find_column(before, column), find_column(after, column));

        if (why != NULL)
            return why;
    }
    if (message->columns.len == 0 && (message->rewrite & (REWRITE_DEFAULT | REWRITE_TYPE)) != 0)
        return "it wrote values anew, and nobody knows of which columns";
    return NULL;
}
