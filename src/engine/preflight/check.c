/* What the checks share: reporting, templates, rows as findings, rows by key. */
#include "engine/preflight/check.h"

#include "engine/schema/filter.h"

#include <stdlib.h>

enum { TEMPLATE_VALUES = 9 };

void finding_add(Preflight *p, CheckId check, const char *object, const char *message, const char *fix) {
    if (++p->counts[check] > FINDINGS_PER_CHECK)
        return;
    Finding finding = {
        .id = preflight_checks[check].id,
        .code = preflight_checks[check].google,
        .severity = preflight_checks[check].severity,
        .side = preflight_checks[check].side,
        .object = arena_strdup(p->arena, object),
        .message = arena_strdup(p->arena, message),
        .fix = arena_strdup(p->arena, fix),
    };
    vec_push(p->arena, p->findings, finding);
}

DbConn *preflight_conn(const Preflight *p, DbSide side) {
    return side == DB_SOURCE ? p->input->source : p->input->dest;
}

bool preflight_query(Preflight *p, DbSide side, const char *sql, DbResult **ret_result, Error *err) {
    return db_query(preflight_conn(p, side), sql, 0, NULL, ret_result, err);
}

bool preflight_passes(Preflight *p, const char *schema, const char *name, bool *ret_passes, Error *err) {
    if (p->filtered)
        return filter_table_by_name(p->scratch, p->input->options, schema, name, ret_passes, err);
    *ret_passes = true;
    return true;
}

/* The value that `text` names when it starts with {1}..{9}; NULL when it does not. */
static const char *template_value(const char *text, const char *const *values, size_t count) {
    if (text[0] != '{' || text[1] < '1' || text[1] > '0' + TEMPLATE_VALUES || text[2] != '}')
        return NULL;
    size_t index = (size_t)(text[1] - '1');
    return index < count ? values[index] : "";
}

/* Appends at `at` unless `out` is NULL; returns where the next goes. */
static size_t template_put(char *out, size_t at, const char *text, size_t len) {
    if (out != NULL)
        memcpy(out + at, text, len);
    return at + len;
}

static size_t template_expand(char *out, const char *text, const char *const *values, size_t count) {
    size_t at = 0;
    while (*text != '\0') {
        const char *value = template_value(text, values, count);
        if (value != NULL) {
            at = template_put(out, at, value, strlen(value));
            text += strlen("{1}");
        } else {
            at = template_put(out, at, text++, 1);
        }
    }
    return at;
}

char *template_fill(Arena *arena, const char *text, const char *const *values, size_t count) {
    size_t len = template_expand(NULL, text, values, count);
    char *out = arena_alloc(arena, len + 1);
    template_expand(out, text, values, count);
    return out;
}

static void report_row(Preflight *p, const SqlCheck *check, const DbResult *rows, int row, size_t columns) {
    const char *values[TEMPLATE_VALUES];
    for (size_t i = 0; i < columns; i++)
        values[i] = db_text(rows, row, (int)i);
    finding_add(p, check->check, template_fill(p->scratch, check->object, values, columns),
                template_fill(p->scratch, check->message, values, columns),
                template_fill(p->scratch, check->fix, values, columns));
}

bool check_by_sql(Preflight *p, const SqlCheck *check, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (!preflight_query(p, check->side, check->sql, &rows, err))
        return false;
    for (int row = 0; row < db_rows(rows); row++) {
        bool passes = true;
        if (check->by_table && !preflight_passes(p, db_text(rows, row, 0), db_text(rows, row, 1), &passes, err))
            return false;
        if (passes)
            report_row(p, check, rows, row, check->columns);
    }
    return true;
}

typedef struct RowKey {
    const char *key;
    int row;
} RowKey;

struct RowIndex {
    RowKey *keys;
    size_t count;
};

static int row_key_compare(const void *left, const void *right) {
    return strcmp(((const RowKey *)left)->key, ((const RowKey *)right)->key);
}

RowIndex *row_index_new(Arena *arena, const DbResult *rows, int column) {
    RowIndex *index = arena_new_of(arena, RowIndex);
    index->count = (size_t)db_rows(rows);
    index->keys = arena_array(arena, RowKey, index->count + 1);
    for (size_t i = 0; i < index->count; i++)
        index->keys[i] = (RowKey){db_text(rows, (int)i, column), (int)i};
    qsort(index->keys, index->count, sizeof(RowKey), row_key_compare);
    return index;
}

int row_index_find(const RowIndex *index, const char *key) {
    RowKey wanted = {.key = key};
    const RowKey *found = bsearch(&wanted, index->keys, index->count, sizeof(RowKey), row_key_compare);
    return found == NULL ? -1 : found->row;
}
