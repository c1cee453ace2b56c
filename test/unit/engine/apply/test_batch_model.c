/*
 * The batch against a model of source and destination, on random streams.
 *
 * A stream is made by a small source: tables of a few rows, random statements, and for each row change what the
 * source's decoder would send. It goes three ways:
 *
 *   A  the changes one by one, matched by key: has to end as the source
 *   B  through a batch, its parts as a server would run them: deletes, updates, inserts; a statement's rows are matched
 *      all at once, then changed in a random order with an immediate unique check after each
 *   C  what the parts should be, worked out from the rows' hidden identities at the start and at the end of the stream:
 *      how many deletes, updates and inserts, and whether the part has to be serial
 *
 * B must equal A, without a violation and with every statement's row count right, and be as small as C says. Exceptions
 * are two, and there a violation or a wrong count has to be noticed and the changes one by one have to mend it: tables
 * whose keys the destination compares by something else than their bytes, and an ALWAYS-identity column outside the key
 * that changed unseen.
 *
 * A failing stream prints its seed; PGCRANE_MODEL_SEED=N runs that one alone and prints it.
 */
#include "unit/engine/apply/model.h"

enum { STREAMS = 200 * 1000, TEXT_MAX = 24 };

/* --- one by one --- */

static void apply_event(Model *m, Rows *rows, const Event *event) {
    const Shape *shape = m->shapes[event->table];
    if (event->op == BATCH_INSERT) {
        Row row = {0};
        memcpy(row.v, event->new, sizeof(row.v));
        generate(shape, row.v);
        REQUIRE(m, key_is_free(shape, rows, row.v), "one by one: violation");
        add_row(rows, &row);
        return;
    }
    size_t at = 0;
    size_t found = find_rows(shape, rows, event->old_kind != 0 ? event->old : event->new, event->old_kind == 'O', &at);
    REQUIRE(m, has_key(shape) ? found == 1 : found >= 1, "one by one: %zu rows found", found);
    Row row = rows->items[at];
    remove_row(rows, at);
    if (event->op == BATCH_DELETE)
        return;
    for (int c = 0; c < width(shape); c++)
        row.v[c] = event->new[c] == CODE_UNCHANGED ? row.v[c] : event->new[c];
    generate(shape, row.v);
    REQUIRE(m, key_is_free(shape, rows, row.v), "one by one: violation");
    add_row(rows, &row);
}

/* --- values of the stream --- */

typedef struct Wire { /* one message; the next one overwrites it */
    PgoValue values[2][COLUMNS_MAX];
    char texts[2][COLUMNS_MAX][TEXT_MAX];
} Wire;

static PgoTuple encode(const Shape *shape, const int16_t *codes, PgoValue *values, char (*texts)[TEXT_MAX]) {
    for (int c = 0; c < width(shape); c++) {
        values[c] = (PgoValue){.kind = codes[c] == CODE_NULL ? PGO_NULL : PGO_UNCHANGED};
        if (codes[c] < 0)
            continue;
        int len = snprintf(texts[c], TEXT_MAX, "%s%03d", shape->prefix, codes[c]);
        values[c] = (PgoValue){.kind = PGO_TEXT, .len = (uint32_t)len, .bytes = texts[c]};
    }
    return (PgoTuple){.count = shape->table.columns_count, .values = values};
}

static int16_t decode(Model *m, const Shape *shape, const PgoValue *value) {
    if (value->kind != PGO_TEXT) {
        REQUIRE(m, value->kind == PGO_NULL || value->kind == PGO_UNCHANGED, "a value of kind %c", (char)value->kind);
        return value->kind == PGO_NULL ? CODE_NULL : CODE_UNCHANGED;
    }
    size_t prefix = strlen(shape->prefix);
    REQUIRE(m, value->len == prefix + 3 && memcmp(value->bytes, shape->prefix, prefix) == 0, "a value's bytes");
    REQUIRE(m, value->bytes[value->len] == '\0', "a value without NUL");
    return (int16_t)strtol(value->bytes + prefix, NULL, 10);
}

static void decode_tuple(Model *m, const Shape *shape, const PgoValue *values, int16_t *ret_codes) {
    for (int c = 0; c < width(shape); c++)
        ret_codes[c] = decode(m, shape, &values[c]);
}

static void add_event(Model *m, Wire *wire, const Event *event) {
    static const PgoType types[] = {
        [BATCH_INSERT] = PGO_INSERT, [BATCH_UPDATE] = PGO_UPDATE, [BATCH_DELETE] = PGO_DELETE};
    const Shape *shape = m->shapes[event->table];
    const BatchTable *table = &m->tables[event->table];
    PgoRow row = {.relation = table->relation, .old_kind = event->old_kind};
    if (event->old_kind != 0)
        row.old_tuple = encode(shape, event->old, wire->values[0], wire->texts[0]);
    if (event->op != BATCH_DELETE)
        row.new_tuple = encode(shape, event->new, wire->values[1], wire->texts[1]);
    Error err;
    REQUIRE(m, batch_add(m->batch, table, types[event->op], &row, &err), "refused: %s", err.message);
}

/* --- set-wise, as a server does it --- */

/* Identity FULL: for each row of the statement one of the table's with its image, a different one each time. */
static bool match_images(Model *m, const Shape *shape, const Rows *rows, const BatchGroup *group, size_t *ret_at) {
    bool matched[ROWS_MAX] = {false};
    for (size_t i = 0; i < group->rows_count; i++) {
        int16_t v[COLUMNS_MAX] = {0};
        decode_tuple(m, shape, group->rows[i].key, v);
        size_t r = 0;
        while (r < rows->count && (matched[r] || !row_matches(shape, &rows->items[r], v, true)))
            r++;
        if (r == rows->count)
            return false;
        matched[r] = true;
        ret_at[i] = r;
    }
    return true;
}

/* Where each row of a statement is; false: not each is there exactly once. */
static bool match_all(Model *m, const Shape *shape, const Rows *rows, const BatchGroup *group, size_t *ret_at) {
    if (!has_key(shape))
        return match_images(m, shape, rows, group, ret_at);
    bool matched[ROWS_MAX] = {false};
    for (size_t i = 0; i < group->rows_count; i++) {
        int16_t v[COLUMNS_MAX] = {0};
        int k = 0;
        for (int c = 0; c < width(shape); c++) {
            if (is_key(shape, c))
                v[c] = decode(m, shape, &group->rows[i].key[k++]);
        }
        if (find_rows(shape, rows, v, false, &ret_at[i]) != 1 || matched[ret_at[i]])
            return false;
        for (int c = 0; c < width(shape); c++) {
            if (group->uses != NULL && group->uses[c] == BATCH_MATCH &&
                decode(m, shape, &group->rows[i].values[c]) != rows->items[ret_at[i]].v[c])
                return false;
        }
        matched[ret_at[i]] = true;
    }
    return true;
}

/* Equal images stand side by side. */
static void check_grouped(Model *m, const Shape *shape, const BatchGroup *group) {
    int16_t last[COLUMNS_MAX] = {0};
    for (size_t i = 0; i < group->rows_count; i++) {
        int16_t v[COLUMNS_MAX] = {0}, before[COLUMNS_MAX] = {0};
        decode_tuple(m, shape, group->rows[i].key, v);
        for (size_t j = 0; j < i && memcmp(v, last, sizeof(v)) != 0; j++) {
            decode_tuple(m, shape, group->rows[j].key, before);
            REQUIRE(m, memcmp(v, before, sizeof(v)) != 0, "equal images apart");
        }
        memcpy(last, v, sizeof(last));
    }
}

static void check_sorted(Model *m, const Shape *shape, const BatchGroup *group) {
    if (!has_key(shape)) {
        check_grouped(m, shape, group);
        return;
    }
    size_t keys = keys_of(&shape->table);
    for (size_t i = 1; i < group->rows_count; i++) {
        int order = 0;
        for (size_t k = 0; k < keys && order == 0; k++)
            order = strcmp(group->rows[i - 1].key[k].bytes, group->rows[i].key[k].bytes);
        REQUIRE(m, order < 0, "keys are not sorted");
    }
}

static bool run_delete(Model *m, const Shape *shape, Rows *rows, const BatchGroup *group) {
    size_t at[ROWS_MAX];
    bool gone[ROWS_MAX] = {false};
    if (group->rows_count > rows->count || !match_all(m, shape, rows, group, at))
        return false;
    for (size_t i = 0; i < group->rows_count; i++)
        gone[at[i]] = true;
    for (size_t r = rows->count; r-- > 0;) {
        if (gone[r])
            remove_row(rows, r);
    }
    return true;
}

static void set_columns(Model *m, const Shape *shape, Row *row, const BatchGroup *group, const BatchRow *from) {
    for (int c = 0; c < width(shape); c++) {
        if (group->uses[c] != BATCH_SET)
            continue;
        REQUIRE(m, strchr("Kig", shape->columns[c]) == NULL, "SET of a column that can't be set");
        row->v[c] = decode(m, shape, &from->values[c]);
        REQUIRE(m, row->v[c] != CODE_UNCHANGED, "SET to an unchanged value");
    }
    generate(shape, row->v);
}

/* Matched as of the statement's start; changed in any order, unique after each. */
static bool run_update(Model *m, const Shape *shape, Rows *rows, const BatchGroup *group) {
    size_t at[ROWS_MAX], order[ROWS_MAX];
    if (group->rows_count > rows->count || !match_all(m, shape, rows, group, at))
        return false;
    for (size_t i = 0; i < group->rows_count; i++) {
        size_t j = below(m, (uint32_t)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (size_t i = 0; i < group->rows_count; i++) {
        Row *row = &rows->items[at[order[i]]];
        size_t any;
        set_columns(m, shape, row, group, &group->rows[order[i]]);
        if (has_key(shape) && find_rows(shape, rows, row->v, false, &any) != 1)
            return false;
    }
    return true;
}

static bool run_insert(Model *m, const Shape *shape, Rows *rows, const BatchGroup *group) {
    for (size_t i = 0; i < group->rows_count; i++) {
        Row row = {0};
        decode_tuple(m, shape, group->rows[i].values, row.v);
        for (int c = 0; c < width(shape); c++)
            REQUIRE(m, row.v[c] != CODE_UNCHANGED || shape->columns[c] == 'g', "INSERT of an unchanged value");
        generate(shape, row.v);
        if (!key_is_free(shape, rows, row.v))
            return false;
        add_row(rows, &row);
    }
    return true;
}

static bool run_groups(Model *m, const Shape *shape, Rows *rows, const BatchPart *part) {
    static const int rank[] = {[BATCH_DELETE] = 0, [BATCH_UPDATE] = 1, [BATCH_INSERT] = 2};
    for (size_t g = 0; g < part->groups_count; g++) {
        const BatchGroup *group = &part->groups[g];
        REQUIRE(m, g == 0 || rank[group[-1].op] <= rank[group->op], "statements out of order");
        if (group->op != BATCH_INSERT)
            check_sorted(m, shape, group);
        bool done = group->op == BATCH_DELETE   ? run_delete(m, shape, rows, group)
                    : group->op == BATCH_UPDATE ? run_update(m, shape, rows, group)
                                                : run_insert(m, shape, rows, group);
        if (!done)
            return false;
    }
    return true;
}

/* The part's changes have to be the stream's, as they came. */
static void run_changes(Model *m, int t, Rows *rows, const BatchPart *part) {
    const Shape *shape = m->shapes[t];
    size_t c = 0;
    for (size_t i = 0; i < m->events_count; i++) {
        if (m->events[i].table != t)
            continue;
        REQUIRE(m, c < part->changes_count, "a change is missing");
        const BatchChange *change = &part->changes[c++];
        Event event = {.table = t, .op = change->op, .old_kind = change->old_kind};
        if (change->old_tuple.count > 0)
            decode_tuple(m, shape, change->old_tuple.values, event.old);
        if (change->new_tuple.count > 0)
            decode_tuple(m, shape, change->new_tuple.values, event.new);
        REQUIRE(m, memcmp(&event, &m->events[i], sizeof(event)) == 0, "change %zu is not as it came", c);
        apply_event(m, rows, &event);
    }
    REQUIRE(m, c == part->changes_count, "a change too many");
}

/* --- what the parts should be --- */

typedef struct Expected {
    bool is_serial;
    size_t rows[3]; /* by BatchOp */
} Expected;

typedef enum Fate { FATE_GONE, FATE_STAYS, FATE_UPDATE, FATE_REPLACE, FATE_SERIAL } Fate;

static const Row *row_of(const Rows *rows, uint32_t uid) {
    for (size_t r = 0; r < rows->count; r++) {
        if (rows->items[r].uid == uid)
            return &rows->items[r];
    }
    return NULL;
}

static bool key_differs(const Shape *shape, const Row *a, const Row *b) {
    for (int c = 0; c < width(shape); c++) {
        if (is_key(shape, c) && a->v[c] != b->v[c])
            return true;
    }
    return false;
}

static Fate fate_of(const Shape *shape, const Row *before, const Row *after) {
    if (after == NULL)
        return FATE_GONE;
    if (!after->touched)
        return FATE_STAYS;
    bool replace = false;
    bool complete = true;
    for (int c = 0; c < width(shape); c++) {
        replace |= shape->columns[c] == 'K' && before->v[c] != after->v[c];
        replace |= shape->columns[c] == 'i' && after->first_identity != after->v[c];
        complete &= shape->columns[c] != 't' || (after->sent & 1 << c) != 0;
    }
    return !replace ? FATE_UPDATE : complete ? FATE_REPLACE : FATE_SERIAL;
}

/* One UPDATE takes a key that another UPDATE gives up. */
static bool hands_over(const Shape *shape, const Rows *start, const Rows *end, const Row *before, const Row *after) {
    for (size_t r = 0; r < start->count; r++) {
        const Row *giver = &start->items[r];
        const Row *moved = row_of(end, giver->uid);
        if (giver->uid != before->uid && fate_of(shape, giver, moved) == FATE_UPDATE &&
            !key_differs(shape, giver, after))
            return true;
    }
    return false;
}

static Expected expect_key_table(const Shape *shape, const Rows *start, const Rows *end) {
    Expected expected = {0};
    for (size_t r = 0; r < start->count; r++) {
        const Row *before = &start->items[r];
        const Row *after = row_of(end, before->uid);
        Fate fate = fate_of(shape, before, after);
        expected.rows[BATCH_DELETE] += fate == FATE_GONE || fate == FATE_REPLACE;
        expected.rows[BATCH_INSERT] += fate == FATE_REPLACE;
        expected.rows[BATCH_UPDATE] += fate == FATE_UPDATE;
        expected.is_serial |= fate == FATE_SERIAL || (fate == FATE_UPDATE && key_differs(shape, before, after) &&
                                                      hands_over(shape, start, end, before, after));
    }
    for (size_t r = 0; r < end->count; r++)
        expected.rows[BATCH_INSERT] += row_of(start, end->items[r].uid) == NULL;
    return expected;
}

static Expected expect_keyless(const Model *m, int t) {
    Expected expected = {0};
    for (size_t i = 0; i < m->events_count; i++) {
        if (m->events[i].table == t) {
            expected.rows[BATCH_INSERT]++;
        }
    }
    return expected;
}

static void check_part(Model *m, int t, const BatchPart *part) {
    Expected expected =
        has_key(m->shapes[t]) ? expect_key_table(m->shapes[t], &m->start[t], &m->source[t]) : expect_keyless(m, t);
    REQUIRE(m, part->is_serial == expected.is_serial, "table %d is%s serial", t, part->is_serial ? "" : " not");
    size_t rows[3] = {0};
    for (size_t g = 0; g < part->groups_count; g++) {
        REQUIRE(m, part->groups[g].rows_count > 0, "an empty statement");
        rows[part->groups[g].op] += part->groups[g].rows_count;
        m->rows += part->groups[g].rows_count;
    }
    if (m->shapes[t]->table.identity == 'f') { /* equal rows are nobody: only what they come to is known */
        REQUIRE(m, m->start[t].count + rows[BATCH_INSERT] == m->source[t].count + rows[BATCH_DELETE], "rows of images");
        REQUIRE(m, rows[BATCH_INSERT] + rows[BATCH_UPDATE] + rows[BATCH_DELETE] <= part->changes_count, "images");
        return;
    }
    for (size_t op = 0; op < COUNT_OF(rows) && !part->is_serial; op++)
        REQUIRE(m, rows[op] == expected.rows[op], "table %d: %zu rows of kind %zu, not %zu", t, rows[op], op,
                expected.rows[op]);
}

/* --- one stream --- */

static void run_part(Model *m, int t, const BatchPart *part, Rows *rows) {
    const Shape *shape = m->shapes[t];
    check_part(m, t, part);
    if (!part->is_serial) {
        Rows tried = *rows;
        m->set_wise++;
        if (run_groups(m, shape, &tried, part)) {
            *rows = tried;
            return;
        }
        REQUIRE(m, shape->folds || m->identity_moved[t], "table %d: violation or wrong row count", t);
        m->fell_back++;
    } else {
        m->serial++;
    }
    run_changes(m, t, rows, part);
}

static void check_stream(Model *m) {
    Rows one_by_one[TABLES], set_wise[TABLES];
    memcpy(one_by_one, m->start, sizeof(one_by_one));
    memcpy(set_wise, m->start, sizeof(set_wise));
    Wire wire;
    for (size_t i = 0; i < m->events_count; i++) {
        apply_event(m, &one_by_one[m->events[i].table], &m->events[i]);
        add_event(m, &wire, &m->events[i]);
    }
    const BatchPart *parts = NULL;
    size_t count = 0;
    Error err;
    REQUIRE(m, batch_changes(m->batch) == m->events_count, "changes were not counted");
    REQUIRE(m, batch_seal(m->batch, &parts, &count, &err), "not sealed: %s", err.message);
    REQUIRE(m, count <= TABLES && (count == 0 || parts[0].table == &m->tables[m->events[0].table]), "parts");
    for (size_t i = 0; i < count; i++) {
        int t = (int)(parts[i].table - m->tables);
        run_part(m, t, &parts[i], &set_wise[t]);
    }
    for (int t = 0; t < TABLES; t++) {
        REQUIRE(m, rows_equal(m->shapes[t], &m->source[t], &one_by_one[t]), "table %d: one by one != source", t);
        REQUIRE(m, rows_equal(m->shapes[t], &one_by_one[t], &set_wise[t]), "table %d: set-wise != one by one", t);
    }
    batch_clear(m->batch);
}

static void run_seed(Model *m, uint64_t seed) {
    make_stream(m, seed);
    check_stream(m);
}

static void random_streams_end_as_one_by_one(void **state) {
    (void)state;
    Model m = {.next_uid = 1, .batch = batch_new(1 << 20)};
    const char *only = getenv("PGCRANE_MODEL_SEED");
    uint64_t first = only == NULL ? 1 : strtoull(only, NULL, 10);
    uint64_t last = only == NULL ? STREAMS : first;
    for (uint64_t seed = first; seed <= last; seed++)
        run_seed(&m, seed);
    if (only != NULL)
        print_stream(&m);
    print_message("seeds %llu to %llu: %zu parts set-wise with %zu rows, of them %zu fell back; %zu serial\n",
                  (unsigned long long)first, (unsigned long long)last, m.set_wise, m.rows, m.fell_back, m.serial);
    if (only == NULL) { /* every way was gone often */
        assert_true(m.set_wise > STREAMS && m.serial > STREAMS / 20 && m.fell_back > 100);
        assert_true(m.fell_back < m.set_wise / 20);
    }
    batch_freep(&m.batch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_streams_end_as_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
