/* Unit test of what the receiver makes of the stream's messages: which items it pushes, with which positions. The test
 * plays the applier. */
#include "engine/follow/receiver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { START = 1000, W = 2000, T = 16384, U = 16385, OTHER = 20000, ROWS = 3 };

static Follow follow;
static Receiver receiver;
static Arena *arena;
static Error err;
static Lsn now;

static const BatchColumn columns[] = {{.name = "id", .is_key = true}};
static const PgoColumn pgo_columns[] = {{.is_key = true, .name = "id", .type_oid = 23, .type_modifier = -1}};
static const ApplyTable tables[] = {
    {.batch = {.relation = T, .identity = 'd', .columns_count = 1, .columns = columns}, .display = "t"},
    {.batch = {.relation = U, .identity = 'd', .columns_count = 1, .columns = columns}, .display = "u"}};

/* --- The applier's part ------------------------------------------------------------------------------------------- */

typedef struct Seen {
    ItemKind kind;
    bool commits;
    Lsn to;
    int64_t transactions;
    size_t changes, truncated;
    char content[32];
} Seen;

static Seen next_item(void) {
    assert_true(follow.queue.ready_count > 0);
    Item *item = queue_next(&follow);
    Seen seen = {.kind = item->kind,
                 .commits = item->commits,
                 .to = item->to,
                 .transactions = item->transactions,
                 .changes = batch_changes(item->batch),
                 .truncated = item->truncate.count};
    if (item->message.content != NULL)
        strncpy(seen.content, item->message.content, sizeof(seen.content) - 1);
    queue_done(&follow, item);
    return seen;
}

static void expect_item(ItemKind kind, size_t changes, bool commits) {
    Seen seen = next_item();

    assert_int_equal(seen.kind, kind);
    assert_int_equal(seen.changes, changes);
    assert_int_equal(seen.commits, commits);
}

/* What is committed by itself (behind pieces that were handed over before), or else is handed over now. */
static void expect_commit(ItemKind kind, size_t changes, int64_t transactions, Lsn to) {
    if (follow.queue.ready_count == 0)
        assert_true(receiver_hand_over(&receiver, true, &err));
    Seen seen = next_item();
    assert_int_equal(seen.kind, kind);
    assert_int_equal(seen.changes, changes);
    assert_true(seen.commits);
    assert_int_equal(seen.transactions, transactions);
    assert_true(seen.to == to);
    assert_int_equal(follow.queue.ready_count, 0);
}

/* Committed without being asked for. */
static void expect_committed(ItemKind kind, size_t changes, int64_t transactions, Lsn to) {
    Seen seen = next_item();

    assert_int_equal(seen.kind, kind);
    assert_int_equal(seen.changes, changes);
    assert_true(seen.commits);
    assert_int_equal(seen.transactions, transactions);
    assert_true(seen.to == to);
    assert_int_equal(follow.queue.ready_count, 0);
}

static void expect_nothing(void) {
    assert_int_equal(follow.queue.ready_count, 0);
}

/* What the next question is answered with. */
static void will_answer(const ApplyTable *table) {
    queue_answer(&follow, (Answer){.apply = table != NULL, .table = table});
}

/* --- The source's part -------------------------------------------------------------------------------------------- */

static bool send(PgoMessage message) {
    return receiver_take_message(&receiver, &message, 50, &err);
}

static void begin(Lsn lsn, uint32_t xid) {
    assert_true(send((PgoMessage){.type = PGO_BEGIN, .transaction = {.lsn = lsn, .xid = xid, .time_us = 77}}));
    now = lsn;
}

static void commit(void) {
    assert_true(send((PgoMessage){.type = PGO_COMMIT, .transaction = {.lsn = now, .end_lsn = now + 10}}));
}

static void define(uint32_t oid, const char *name) {
    assert_true(send((PgoMessage){
        .type = PGO_RELATION,
        .relation = {
            .oid = oid, .schema = "s", .name = name, .identity = 'd', .columns_count = 1, .columns = pgo_columns}}));
}

static bool try_insert(uint32_t oid) {
    static char digits[] = "0123456789";
    static size_t next;
    const PgoValue value = {.kind = PGO_TEXT, .len = 1, .bytes = &digits[next++ % 10]};

    return send(
        (PgoMessage){.type = PGO_INSERT, .row = {.relation = oid, .new_tuple = {.count = 1, .values = &value}}});
}

static void insert(uint32_t oid) {
    assert_true(try_insert(oid));
}

static void truncate_both(void) {
    static const uint32_t oids[] = {T, U};

    assert_true(
        send((PgoMessage){.type = PGO_TRUNCATE, .truncate = {.relations_count = COUNT_OF(oids), .relations = oids}}));
}

static void emit(const char *prefix, const char *content, bool transactional) {
    assert_true(send((PgoMessage){.type = PGO_MESSAGE,
                                  .logical = {.transactional = transactional,
                                              .lsn = now,
                                              .prefix = prefix,
                                              .content = content,
                                              .len = (uint32_t)strlen(content)}}));
}

/* A first change of each table; both are resolved afterwards. */
static void resolve_both(void) {
    define(T, "t");
    define(U, "u");
    begin(W, 900);
    will_answer(&tables[0]);
    insert(T);
    expect_item(ITEM_TABLE, 0, false);
    will_answer(&tables[1]);
    insert(U);
    commit();
    expect_item(ITEM_PARTS, 1, false);
    expect_item(ITEM_TABLE, 0, false);
    expect_commit(ITEM_PARTS, 1, 1, W + 10);
}

/* --- Fixture ------------------------------------------------------------------------------------------------------ */

static bool on_message(void *context, DbConn *dest, const PgoLogical *message, Error *error) {
    (void)context;
    (void)dest;
    (void)message;
    (void)error;
    return true;
}

static int set_up(void **state) {
    static FollowTable followed[2];
    static SeamPicture picture;

    (void)state;
    arena = arena_new();
    assert_true(seam_picture_parse(arena, "500:500:", W, &picture, &err));
    followed[0] = (FollowTable){.oid = T, .picture = picture};
    followed[1] = (FollowTable){.oid = U, .picture = picture};
    follow = (Follow){.params = {.tables = followed,
                                 .tables_count = 2,
                                 .batch_rows = ROWS,
                                 .batch_bytes = 1 << 20,
                                 .schema_picture = &picture,
                                 .hooks = {.message = on_message}},
                      .receiver_arena = arena_new()};
    assert_true(stop_init(&follow.stop, &err));
    (void)pthread_mutex_init(&follow.lock, NULL);
    (void)pthread_cond_init(&follow.changed, NULL);
    queue_init(&follow.queue, 1 << 20);
    receiver = (Receiver){.follow = &follow, .decoded = arena, .start = START, .progress = START, .pushed = START};
    receiver_know_tables(&receiver);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    queue_fini(&follow.queue);
    arena_free(follow.receiver_arena);
    arena_free(arena);
    stop_fini(&follow.stop);
    (void)pthread_cond_destroy(&follow.changed);
    (void)pthread_mutex_destroy(&follow.lock);
    return 0;
}

/* --- Tests -------------------------------------------------------------------------------------------------------- */

/* What the destination has by its position comes again after a crash; the definitions in it count. */
static void test_dropped(void **state) {
    (void)state;
    begin(START - 1, 900);
    define(T, "t");
    insert(T);
    truncate_both();
    emit("pgcrane.ddl", "x", true);
    commit();
    expect_nothing();
    assert_true(receiver.progress == START);
    assert_int_equal(receiver.transactions + receiver.skipped + receiver.ignored, 0);
    begin(W, 901);
    will_answer(&tables[0]);
    insert(T);
    commit();
    expect_item(ITEM_TABLE, 0, false);
    expect_commit(ITEM_PARTS, 1, 1, W + 10);
}

/* At the position itself a transaction is the first that is not dropped. */
static void test_first_behind_the_position(void **state) {
    (void)state;
    define(T, "t");
    begin(START, 900);
    will_answer(&tables[0]);
    insert(T);
    commit();
    expect_item(ITEM_TABLE, 0, false);
    expect_commit(ITEM_PARTS, 1, 1, START + 10);
}

static void test_in_the_copy(void **state) {
    (void)state;
    define(T, "t");
    begin(W - 1, 499);
    insert(T);
    insert(T);
    commit();
    expect_nothing();
    assert_int_equal(receiver.skipped, 2);
    assert_int_equal(receiver.transactions, 0);
    assert_true(receiver.progress == W + 9);
    assert_true(atomic_load(&follow.last_change) == 0);
}

static void test_not_migrated(void **state) {
    (void)state;
    define(OTHER, "other");
    begin(W, 900);
    insert(OTHER);
    commit();
    begin(W + 50, 901);
    insert(OTHER);
    commit();
    expect_nothing();
    assert_int_equal(receiver.ignored, 2);
    assert_int_equal(receiver.transactions, 0);
    assert_true(receiver.progress == W + 60);
}

static void test_definitions(void **state) {
    (void)state;
    resolve_both();
    /* Said again, nothing changed: nothing is asked. */
    begin(W + 100, 901);
    define(T, "t");
    insert(T);
    expect_nothing();
    /* Renamed: what was added before goes first, and is not committed. */
    define(T, "renamed");
    will_answer(&tables[0]);
    insert(T);
    expect_item(ITEM_PARTS, 1, false);
    expect_item(ITEM_TABLE, 0, false);
    commit();
    expect_commit(ITEM_PARTS, 1, 1, W + 110);
    /* Behind DDL the same definition may mean something else in the destination. */
    begin(W + 200, 902);
    emit("pgcrane.ddl", "x", true);
    expect_item(ITEM_MESSAGE, 0, false);
    insert(T); /* not said again: it cannot have changed */
    expect_nothing();
    define(T, "renamed");
    will_answer(&tables[0]);
    insert(T);
    expect_item(ITEM_PARTS, 1, false);
    expect_item(ITEM_TABLE, 0, false);
    commit();
    expect_committed(ITEM_PARTS, 1, 1, W + 210);
}

/* Larger than a batch: pieces without a commit, the number and the position with the last. */
static void test_large_transaction(void **state) {
    (void)state;
    resolve_both();
    begin(W + 100, 901);
    insert(T);
    commit();
    begin(W + 200, 902);
    for (int i = 0; i < 2 * ROWS; i++)
        insert(T);
    commit();
    expect_item(ITEM_PARTS, ROWS, false);
    expect_item(ITEM_PARTS, ROWS, false);
    expect_committed(ITEM_PARTS, 1, 2, W + 210); /* at its end, not when it pleases */
}

/* An applier for one item. */
static void *apply_one(void *context) {
    Item *item = queue_next(&follow);

    *(size_t *)context = batch_changes(item->batch);
    queue_done(&follow, item);
    return NULL;
}

/* Each has the memory for itself: the second waits until the first is applied. */
static void test_large_row(void **state) {
    PgoMessage message;
    const PgoValue value = {.kind = PGO_TEXT, .len = 1, .bytes = "1"};

    (void)state;
    resolve_both();
    begin(W + 100, 901);
    message = (PgoMessage){.type = PGO_INSERT, .row = {.relation = T, .new_tuple = {.count = 1, .values = &value}}};
    assert_true(receiver_take_message(&receiver, &message, 64 << 20, &err)); /* larger than all, but the first */
    expect_nothing();
    pthread_t applier;
    size_t applied = 0;
    assert_int_equal(pthread_create(&applier, NULL, apply_one, &applied), 0);
    assert_true(receiver_take_message(&receiver, &message, 64 << 20, &err));
    assert_int_equal(pthread_join(applier, NULL), 0);
    assert_int_equal(applied, 1);
    commit();
    expect_commit(ITEM_PARTS, 1, 1, W + 110);
}

static void test_truncate(void **state) {
    (void)state;
    resolve_both();
    begin(W + 100, 901);
    insert(T);
    commit();
    begin(W + 200, 902);
    truncate_both();
    commit();
    expect_item(ITEM_PARTS, 1, false);
    Seen seen = next_item();
    assert_int_equal(seen.kind, ITEM_TRUNCATE);
    assert_int_equal(seen.truncated, 2);
    assert_false(seen.commits);
    expect_commit(ITEM_ADVANCE, 0, 2, W + 210);
    /* In the copy: nothing is truncated. */
    begin(W - 1, 499);
    truncate_both();
    commit();
    expect_nothing();
    assert_int_equal(receiver.skipped, 2);
}

static void test_messages(void **state) {
    (void)state;
    begin(W + 100, 901);
    emit("pgcrane.ddl", "ALTER", true);
    commit();
    Seen seen = next_item();
    assert_int_equal(seen.kind, ITEM_MESSAGE);
    assert_string_equal(seen.content, "ALTER");
    assert_true(atomic_load(&follow.last_marker) == W + 100);
    expect_committed(ITEM_ADVANCE, 0, 0, W + 110); /* at once, and of no followed table: not counted */
    begin(W - 1, 499);                             /* the copied schema has it */
    emit("pgcrane.ddl", "ALTER", true);
    emit("else", "ALTER", true);
    commit();
    now = W + 300;
    emit("pgcrane", "marker", false);
    expect_nothing();
    assert_true(atomic_load(&follow.last_marker) == W + 300);
}

static void test_pending_time(void **state) {
    (void)state;
    resolve_both();
    begin(W + 100, 901);
    assert_int_equal(atomic_load(&follow.filling_oldest_us), 0);
    insert(T);
    assert_int_equal(atomic_load(&follow.filling_oldest_us), 77);
    commit();
    expect_commit(ITEM_PARTS, 1, 1, W + 110);
    assert_int_equal(atomic_load(&follow.filling_oldest_us), 0);
}

static void refuse(bool sent) {
    assert_false(sent);
    assert_int_equal(err.reason, REASON_WIRE_BAD);
}

static void test_misplaced(void **state) {
    (void)state;
    refuse(send((PgoMessage){.type = PGO_COMMIT}));
    define(T, "t");
    refuse(try_insert(T));
    refuse(send((PgoMessage){.type = PGO_TRUNCATE}));
    refuse(send((PgoMessage){.type = PGO_STREAM_START}));
    refuse(send((PgoMessage){.type = PGO_BEGIN_PREPARE}));
    begin(W, 900);
    refuse(try_insert(U)); /* never defined */
    refuse(send((PgoMessage){.type = PGO_BEGIN}));
    assert_true(send((PgoMessage){.type = PGO_ORIGIN, .origin = "o"}));
    assert_true(send((PgoMessage){.type = PGO_DATA_TYPE}));
    expect_nothing();
}

static void test_oid_map(void **state) {
    OidMap map = {0};
    int values[2];

    (void)state;
    assert_null(oid_map_get(&map, 1));
    for (uint32_t oid = 1; oid < 20000; oid++)
        oid_map_put(&map, arena, oid * 64, &values[oid % 2]);
    for (uint32_t oid = 1; oid < 20000; oid++) {
        assert_ptr_equal(oid_map_get(&map, oid * 64), &values[oid % 2]);
        assert_null(oid_map_get(&map, oid * 64 + 1));
    }
    oid_map_put(&map, arena, 64, &values[0]);
    assert_ptr_equal(oid_map_get(&map, 64), &values[0]);
    assert_int_equal(map.filled, 19999);
}

/* The server says every definition anew behind each command; a table that is as before is asked for again, not kept
 * twice. */
static void test_definitions_said_again(void **state) {
    (void)state;
    begin(W + 100, 700);
    define(T, "t");
    will_answer(&tables[0]);
    insert(T);
    (void)next_item();
    size_t before = arena_used(follow.receiver_arena);

    for (int i = 0; i < 100; i++) {
        emit("pgcrane.ddl", "x", true);
        while (follow.queue.ready_count > 0)
            (void)next_item();
        define(T, "t");
        will_answer(&tables[0]);
        insert(T);
        while (follow.queue.ready_count > 0)
            (void)next_item();
    }
    assert_int_equal(arena_used(follow.receiver_arena), before);
    define(T, "renamed");
    assert_true(arena_used(follow.receiver_arena) > before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_first_behind_the_position, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_the_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_migrated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_definitions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_transaction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_row, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_messages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pending_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_misplaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_definitions_said_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_oid_map, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
