/*
 * The source of the batch's model test: tables of a few rows, random statements on them, and for each row change the
 * event that a source's decoder would send. Each row has a hidden identity (uid), by which the test tells afterwards
 * what became of it.
 */
#pragma once

#include "unit/engine/apply/rows.h"

enum {
    COLUMNS_MAX = 5,
    ROWS_MAX = 16,
    EVENTS_MAX = 64,
    TABLES = 2,
    CODE_NULL = -1,
    CODE_UNCHANGED = -2,
};

typedef struct Shape {
    const char *what;
    BatchTable table;
    int16_t key_values;  /* a key column has 0 .. this - 1 */
    bool folds;          /* the destination takes 2n and 2n + 1 for equal, as with 1.0 and 1.00 */
    const char *prefix;  /* of every value's text */
    const char *columns; /* k key, K key that is ALWAYS identity, p plain, t TOAST, g generated from p, i ALWAYS */
} Shape;

typedef struct Row {
    uint32_t uid; /* who it is: hidden from the batch */
    int16_t v[COLUMNS_MAX];
    uint8_t sent;           /* columns whose value was in an update, a bit each */
    bool touched;           /* by an update */
    int16_t first_identity; /* in its first update */
} Row;

typedef struct Rows {
    Row items[ROWS_MAX];
    size_t count;
} Rows;

typedef struct Event {
    int table;
    BatchOp op;
    char old_kind;
    int16_t old[COLUMNS_MAX], new[COLUMNS_MAX];
} Event;

typedef struct Model {
    uint64_t seed, rng;
    const Shape *shapes[TABLES];
    BatchTable tables[TABLES];
    Rows start[TABLES], source[TABLES];
    Event events[EVENTS_MAX];
    size_t events_count;
    uint32_t next_uid;
    bool identity_moved[TABLES]; /* an ALWAYS-identity column outside the key changed */
    Batch *batch;
    size_t serial, set_wise, fell_back, rows; /* counted by the test */
} Model;

/* --- shapes --- */

#define KEY                                                                                                            \
    { .name = "k", .is_key = true }
#define ALWAYS_KEY                                                                                                     \
    { .name = "K", .is_key = true, .is_always_identity = true }
#define PLAIN                                                                                                          \
    { .name = "p" }
#define TOAST                                                                                                          \
    { .name = "t" }
#define GENERATED                                                                                                      \
    { .name = "g", .is_generated = true }
#define IDENTITY                                                                                                       \
    { .name = "i", .is_always_identity = true }
#define COLUMNS(...)                                                                                                   \
    (const BatchColumn[]) {                                                                                            \
        __VA_ARGS__                                                                                                    \
    }
#define TABLE(kind, count, ...)                                                                                        \
    { .identity = (kind), .columns_count = (count), .columns = COLUMNS(__VA_ARGS__) }

static const Shape shapes[] = {
    {"key, plain, TOAST", TABLE('d', 3, KEY, PLAIN, TOAST), 6, false, "", "kpt"},
    {"key in the middle, two TOAST", TABLE('i', 4, TOAST, KEY, PLAIN, TOAST), 6, false, "a long prefix ", "tkpt"},
    {"two key columns side by side", TABLE('d', 4, KEY, KEY, PLAIN, TOAST), 3, false, "", "kkpt"},
    {"two key columns apart", TABLE('i', 4, KEY, TOAST, KEY, PLAIN), 3, false, "a prefix ", "ktkp"},
    {"key of all columns", TABLE('d', 2, KEY, KEY), 3, false, "", "kk"},
    {"ALWAYS identity as key", TABLE('d', 3, ALWAYS_KEY, PLAIN, TOAST), 6, false, "", "Kpt"},
    {"ALWAYS identity in the key", TABLE('d', 4, KEY, TOAST, ALWAYS_KEY, PLAIN), 3, false, "", "ktKp"},
    {"ALWAYS identity outside the key", TABLE('d', 3, KEY, IDENTITY, TOAST), 6, false, "", "kit"},
    {"generated", TABLE('d', 4, KEY, GENERATED, PLAIN, TOAST), 6, false, "", "kgpt"},
    {"key not compared by bytes", TABLE('d', 3, KEY, PLAIN, TOAST), 8, true, "", "kpt"},
    {"two such key columns", TABLE('d', 4, KEY, PLAIN, KEY, TOAST), 4, true, "", "kpkt"},
    {"identity FULL", TABLE('f', 2, PLAIN, TOAST), 0, false, "", "pt"},
    {"no identity", TABLE('n', 2, PLAIN, PLAIN), 0, false, "", "pp"},
};

static bool has_key(const Shape *shape) {
    return shape->table.identity == 'd' || shape->table.identity == 'i';
}

static bool is_key(const Shape *shape, int c) {
    return shape->table.columns[c].is_key;
}

static int width(const Shape *shape) {
    return shape->table.columns_count;
}

/* --- chance --- */

static uint32_t below(Model *m, uint32_t limit) {
    m->rng += 0x9e3779b97f4a7c15;
    uint64_t z = m->rng;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (uint32_t)((z ^ (z >> 31)) >> 32) % limit;
}

static bool chance(Model *m, uint32_t percent) {
    return below(m, 100) < percent;
}

/* --- failures --- */

static void print_event(const Model *m, const Event *event) {
    static const char *const names[] = {
        [BATCH_INSERT] = "insert", [BATCH_UPDATE] = "update", [BATCH_DELETE] = "delete"};
    print_error("  table %d %s", event->table, names[event->op]);
    for (int side = 0; side < 2; side++) {
        if (side == 0 ? event->old_kind == 0 : event->op == BATCH_DELETE)
            continue;
        print_error(side == 0 ? " old" : " new");
        for (int c = 0; c < width(m->shapes[event->table]); c++) {
            int16_t code = side == 0 ? event->old[c] : event->new[c];
            print_error(code == CODE_NULL ? " ~" : code == CODE_UNCHANGED ? " -" : " %d", code);
        }
    }
    print_error("\n");
}

static void print_stream(const Model *m) {
    for (int t = 0; t < TABLES; t++) {
        print_error("  table %d: %s (%s), at the start:", t, m->shapes[t]->what, m->shapes[t]->columns);
        for (size_t r = 0; r < m->start[t].count; r++) {
            for (int c = 0; c < width(m->shapes[t]); c++)
                print_error("%s%d", c == 0 ? " " : "|", m->start[t].items[r].v[c]);
        }
        print_error("\n");
    }
    for (size_t i = 0; i < m->events_count; i++)
        print_event(m, &m->events[i]);
}

#define REQUIRE(m, condition, ...)                                                                                     \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            print_error("seed %llu: ", (unsigned long long)(m)->seed);                                                 \
            print_error(__VA_ARGS__);                                                                                  \
            print_error("\n");                                                                                         \
            print_stream(m);                                                                                           \
            fail();                                                                                                    \
        }                                                                                                              \
    } while (0)

/* --- rows --- */

static bool codes_equal(const Shape *shape, int c, int16_t a, int16_t b) {
    return shape->folds && is_key(shape, c) ? a / 2 == b / 2 : a == b;
}

/* Rows whose key is that of `v`; with `exact` every column has to be equal, byte for byte. */
static bool row_matches(const Shape *shape, const Row *row, const int16_t *v, bool exact) {
    for (int c = 0; c < width(shape); c++) {
        if (exact ? row->v[c] != v[c] : is_key(shape, c) && !codes_equal(shape, c, row->v[c], v[c]))
            return false;
    }
    return true;
}

static size_t find_rows(const Shape *shape, const Rows *rows, const int16_t *v, bool exact, size_t *ret_at) {
    size_t found = 0;
    for (size_t r = rows->count; r-- > 0;) {
        if (row_matches(shape, &rows->items[r], v, exact)) {
            *ret_at = r;
            found++;
        }
    }
    return found;
}

static bool key_is_free(const Shape *shape, const Rows *rows, const int16_t *v) {
    size_t at;
    return !has_key(shape) || find_rows(shape, rows, v, false, &at) == 0;
}

static void remove_row(Rows *rows, size_t at) {
    rows->items[at] = rows->items[--rows->count];
}

static void add_row(Rows *rows, const Row *row) {
    assert_true(rows->count < ROWS_MAX);
    rows->items[rows->count++] = *row;
}

/* What a server does for itself. */
static void generate(const Shape *shape, int16_t *v) {
    const char *plain = strchr(shape->columns, 'p');
    const char *generated = strchr(shape->columns, 'g');
    if (generated != NULL && plain != NULL)
        v[generated - shape->columns] = (int16_t)(v[plain - shape->columns] + 1);
}

/* As multisets. */
static bool rows_equal(const Shape *shape, const Rows *a, const Rows *b) {
    bool used[ROWS_MAX] = {false};
    for (size_t i = 0; i < a->count; i++) {
        size_t j = 0;
        while (j < b->count && (used[j] || !row_matches(shape, &b->items[j], a->items[i].v, true)))
            j++;
        if (j == b->count)
            return false;
        used[j] = true;
    }
    return a->count == b->count;
}

/* --- the source --- */

static Event *event_new(Model *m, int t, BatchOp op) {
    assert_true(m->events_count < EVENTS_MAX);
    Event *event = &m->events[m->events_count++];
    *event = (Event){.table = t, .op = op};
    return event;
}

/* As the decoder sends it: the key with NULL elsewhere, or the whole row. */
static void give_old(const Shape *shape, Event *event, const int16_t *v) {
    event->old_kind = shape->table.identity == 'f' ? 'O' : 'K';
    for (int c = 0; c < width(shape); c++)
        event->old[c] = event->old_kind == 'O' || is_key(shape, c) ? v[c] : CODE_NULL;
}

static int16_t any_value(Model *m, const Shape *shape, int c) {
    if (is_key(shape, c))
        return (int16_t)below(m, (uint32_t)shape->key_values);
    if (shape->columns[c] == 'i')
        return (int16_t)(100 + below(m, 3));
    return (int16_t)((int)below(m, 4) - (shape->columns[c] == 'p')); /* NULL now and then */
}

static bool any_free_key(Model *m, int t, int16_t *v) {
    const Shape *shape = m->shapes[t];
    for (int tries = 0; tries < 8; tries++) {
        for (int c = 0; c < width(shape); c++) {
            if (is_key(shape, c))
                v[c] = any_value(m, shape, c);
        }
        if (key_is_free(shape, &m->source[t], v))
            return true;
    }
    return false;
}

static void do_insert_values(Model *m, int t, const int16_t *v) {
    if (m->source[t].count == ROWS_MAX)
        return;
    Row row = {.uid = m->next_uid++};
    memcpy(row.v, v, sizeof(row.v));
    generate(m->shapes[t], row.v);
    add_row(&m->source[t], &row);
    memcpy(event_new(m, t, BATCH_INSERT)->new, row.v, sizeof(row.v));
}

static void do_insert(Model *m, int t) {
    int16_t v[COLUMNS_MAX] = {0};
    for (int c = 0; c < width(m->shapes[t]); c++)
        v[c] = any_value(m, m->shapes[t], c);
    if (any_free_key(m, t, v))
        do_insert_values(m, t, v);
}

static void do_delete(Model *m, int t, size_t at) {
    give_old(m->shapes[t], event_new(m, t, BATCH_DELETE), m->source[t].items[at].v);
    remove_row(&m->source[t], at);
}

/* May this column's value be left out of the new row? Unchanged TOAST; a key's only with the old tuple. */
static bool leave_out(Model *m, const Shape *shape, const Event *event, int c, int16_t before, int16_t after) {
    if (before != after || shape->columns[c] == 'i' || before == CODE_NULL)
        return false;
    if (is_key(shape, c))
        return event->old_kind != 0 && chance(m, 20);
    return shape->columns[c] == 't' ? chance(m, 70) : shape->columns[c] == 'g' && chance(m, 30);
}

static void note_sent(const Shape *shape, Row *row, const Event *event) {
    for (int c = 0; c < width(shape); c++) {
        if (event->new[c] != CODE_UNCHANGED)
            row->sent = (uint8_t)(row->sent | 1 << c);
        if (shape->columns[c] == 'i' && !row->touched)
            row->first_identity = event->new[c];
    }
    row->touched = true;
}

static void do_update(Model *m, int t, size_t at, const int16_t *v) {
    const Shape *shape = m->shapes[t];
    Row *row = &m->source[t].items[at];
    int16_t after[COLUMNS_MAX];
    memcpy(after, v, sizeof(after));
    generate(shape, after);
    bool key_changes = false;
    for (int c = 0; c < width(shape); c++) {
        key_changes |= is_key(shape, c) && row->v[c] != after[c];
        m->identity_moved[t] |= shape->columns[c] == 'i' && row->v[c] != after[c];
    }
    Event *event = event_new(m, t, BATCH_UPDATE);
    if (!has_key(shape) || key_changes || chance(m, 10))
        give_old(shape, event, row->v);
    for (int c = 0; c < width(shape); c++)
        event->new[c] = leave_out(m, shape, event, c, row->v[c], after[c]) ? (int16_t)CODE_UNCHANGED : after[c];
    note_sent(shape, row, event);
    memcpy(row->v, after, sizeof(row->v));
}

/* New values for some columns outside the key. */
static void vary(Model *m, const Shape *shape, int16_t *v) {
    for (int c = 0; c < width(shape); c++) {
        if (!is_key(shape, c) && chance(m, shape->columns[c] == 'i' ? 3 : 40))
            v[c] = any_value(m, shape, c);
    }
}

static void do_key_change(Model *m, int t, size_t at, bool and_back) {
    int16_t before[COLUMNS_MAX], v[COLUMNS_MAX];
    memcpy(before, m->source[t].items[at].v, sizeof(before));
    memcpy(v, before, sizeof(v));
    if (!any_free_key(m, t, v))
        return;
    vary(m, m->shapes[t], v);
    do_update(m, t, at, v);
    if (and_back)
        do_update(m, t, at, before);
}

static void do_swap(Model *m, int t, size_t a, size_t b) {
    int16_t va[COLUMNS_MAX], vb[COLUMNS_MAX], v[COLUMNS_MAX];
    memcpy(va, m->source[t].items[a].v, sizeof(va));
    memcpy(vb, m->source[t].items[b].v, sizeof(vb));
    memcpy(v, va, sizeof(v));
    if (a == b || !any_free_key(m, t, v))
        return;
    do_update(m, t, a, v);
    for (int c = 0; c < width(m->shapes[t]); c++) {
        if (is_key(m->shapes[t], c)) {
            int16_t key = va[c];
            va[c] = vb[c];
            vb[c] = key;
        }
    }
    do_update(m, t, b, vb);
    do_update(m, t, a, va);
}

/* UPDATE ... SET k = k + 1, the highest first. */
static void do_shift(Model *m, int t) {
    const Shape *shape = m->shapes[t];
    int last = width(shape) - 1;
    while (!is_key(shape, last))
        last--;
    for (int16_t value = (int16_t)(shape->key_values - 2); value >= 0; value--) {
        for (size_t r = 0; r < m->source[t].count; r++) {
            int16_t v[COLUMNS_MAX];
            memcpy(v, m->source[t].items[r].v, sizeof(v));
            if (v[last]++ == value && key_is_free(shape, &m->source[t], v))
                do_update(m, t, r, v);
        }
    }
}

static void do_reinsert(Model *m, int t, size_t at) {
    int16_t v[COLUMNS_MAX];
    memcpy(v, m->source[t].items[at].v, sizeof(v));
    do_delete(m, t, at);
    vary(m, m->shapes[t], v);
    do_insert_values(m, t, v);
}

static void do_vary(Model *m, int t, size_t at) {
    int16_t v[COLUMNS_MAX];
    memcpy(v, m->source[t].items[at].v, sizeof(v));
    if (chance(m, 85))
        vary(m, m->shapes[t], v); /* else an update of unchanged columns */
    do_update(m, t, at, v);
}

static void do_statement(Model *m) {
    int t = (int)below(m, TABLES);
    size_t rows = m->source[t].count;
    if (rows == 0 || m->shapes[t]->table.identity == 'n' || chance(m, 20)) {
        do_insert(m, t);
        return;
    }
    size_t at = below(m, (uint32_t)rows);
    uint32_t dice = below(m, has_key(m->shapes[t]) ? 100 : 55);
    if (dice < 30)
        do_vary(m, t, at);
    else if (dice < 45)
        do_delete(m, t, at);
    else if (dice < 55)
        do_reinsert(m, t, at);
    else if (dice < 85)
        do_key_change(m, t, at, dice < 60);
    else if (dice < 95)
        do_swap(m, t, at, below(m, (uint32_t)rows));
    else
        do_shift(m, t);
}

static void make_stream(Model *m, uint64_t seed) {
    m->seed = seed;
    m->rng = seed * 0x2545f4914f6cdd1d;
    m->events_count = 0;
    for (int t = 0; t < TABLES; t++) {
        m->shapes[t] = &shapes[below(m, COUNT_OF(shapes))];
        m->tables[t] = m->shapes[t]->table;
        m->tables[t].relation = (uint32_t)(100 + t);
        m->source[t].count = 0;
        uint32_t rows = below(m, 7);
        for (uint32_t i = 0; i < rows; i++)
            do_insert(m, t);
        m->start[t] = m->source[t];
        m->identity_moved[t] = false;
    }
    m->events_count = 0;
    size_t wanted = 1 + below(m, 24);
    for (int tries = 0; tries < 40 && m->events_count < wanted; tries++) /* a full table takes no more inserts */
        do_statement(m);
}
