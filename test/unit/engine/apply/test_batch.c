/* One test for each rule of engine/apply/batch.h. */
#include "unit/engine/apply/rows.h"

/* key, two plain columns (either may be unchanged TOAST) */
static const BatchColumn plain_columns[] = {{.name = "id", .is_key = true}, {.name = "a"}, {.name = "doc"}};
static const BatchTable plain = {.relation = 10, .identity = 'd', .columns_count = 3, .columns = plain_columns};

/* a key of two columns that do not stand side by side */
static const BatchColumn pair_columns[] = {{.name = "a", .is_key = true}, {.name = "v"}, {.name = "b", .is_key = true}};
static const BatchTable pair = {.relation = 11, .identity = 'i', .columns_count = 3, .columns = pair_columns};

static const BatchColumn always_columns[] = {
    {.name = "id", .is_key = true, .is_always_identity = true}, {.name = "a"}, {.name = "doc"}};
static const BatchTable always = {.relation = 12, .identity = 'd', .columns_count = 3, .columns = always_columns};

static const BatchColumn counter_columns[] = {
    {.name = "id", .is_key = true}, {.name = "seq", .is_always_identity = true}, {.name = "doc"}};
static const BatchTable counter = {.relation = 13, .identity = 'd', .columns_count = 3, .columns = counter_columns};

static const BatchColumn generated_columns[] = {
    {.name = "id", .is_key = true}, {.name = "twice", .is_generated = true}, {.name = "doc"}};
static const BatchTable generated = {.relation = 14, .identity = 'd', .columns_count = 3, .columns = generated_columns};

static const BatchColumn keyless_columns[] = {{.name = "a"}, {.name = "b"}};
/* as the stream marks it: every column is of the identity */
static const BatchColumn full_columns[] = {{.name = "a", .is_key = true}, {.name = "b", .is_key = true}};
static const BatchTable full = {.relation = 15, .identity = 'f', .columns_count = 2, .columns = full_columns};
static const BatchTable nothing = {.relation = 16, .identity = 'n', .columns_count = 2, .columns = keyless_columns};
static const BatchTable no_key = {.relation = 17, .identity = 'd', .columns_count = 2, .columns = keyless_columns};

#define WITH_FIXTURE(f)                                                                                                \
    (void)state;                                                                                                       \
    CLEANUP(fixture_end) Fixture f##_ = fixture_new(1 << 20);                                                          \
    Fixture *f = &f##_

static void expect_refused(Fixture *f, ErrorReason reason, const char *part_of_message) {
    assert_string_equal(error_reason_name(f->err.reason), error_reason_name(reason));
    assert_non_null(strstr(f->err.message, part_of_message));
}

/* --- rule 1: keys --- */

static void rule_1_rows_are_known_by_bytes(void **state) {
    WITH_FIXTURE(f);
    update(f, &plain, "1.0|x|d");
    update(f, &plain, "1.00|y|d");
    update(f, &plain, "1.0|z|d");
    EXPECT(f, "U 1.0: |z|d; U 1.00: |y|d.");
}

static void rule_1_key_change_is_one_update_of_the_original_key(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "1|~|~", "2|x|d");
    update_key(f, &plain, "2|~|~", "3|y|d");
    update(f, &plain, "3|z|d");
    EXPECT(f, "U 1: 3|z|d.");
}

static void rule_1_key_there_and_back_is_no_key_change(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "1|~|~", "2|x|d");
    update_key(f, &plain, "2|~|~", "1|y|d");
    EXPECT(f, "U 1: |y|d.");
}

static void rule_1_old_key_that_equals_the_new_one_is_no_key_change(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "1|~|~", "1|x|-");
    drop(f, &plain, "1|~|~");
    EXPECT(f, "D 1.");
}

static void rule_1_swap_is_serial(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "1|~|~", "0|x|d");
    update_key(f, &plain, "2|~|~", "1|y|d");
    update_key(f, &plain, "0|~|~", "2|x|d");
    EXPECT(f, "serial.");
}

static void rule_1_chain_is_serial(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "2|~|~", "3|x|d");
    update_key(f, &plain, "1|~|~", "2|y|d");
    EXPECT(f, "serial.");
}

static void rule_1_cycle_of_three_is_serial(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "3|~|~", "0|c|d");
    update_key(f, &plain, "2|~|~", "3|b|d");
    update_key(f, &plain, "1|~|~", "2|a|d");
    update_key(f, &plain, "0|~|~", "1|c|d");
    EXPECT(f, "serial.");
}

static void rule_1_insert_takes_a_key_that_an_update_gave_up(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "1|~|~", "2|x|d");
    insert(f, &plain, "1|new|d");
    update(f, &plain, "1|newer|-");
    EXPECT(f, "U 1: 2|x|d. I 1|newer|d.");
}

static void rule_1_update_takes_a_key_that_a_delete_gave_up(void **state) {
    WITH_FIXTURE(f);
    drop(f, &plain, "2|~|~");
    update_key(f, &plain, "1|~|~", "2|x|-");
    EXPECT(f, "D 2. U 1: 2|x|.");
}

static void rule_1_update_takes_a_key_of_a_row_that_moved_and_was_deleted(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "2|~|~", "9|x|d");
    update_key(f, &plain, "1|~|~", "2|y|d");
    drop(f, &plain, "9|~|~");
    EXPECT(f, "D 2. U 1: 2|y|d.");
}

static void rule_1_delete_after_key_change_deletes_the_original_key(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "1|~|~", "2|x|d");
    drop(f, &plain, "2|~|~");
    EXPECT(f, "D 1.");
}

static void rule_1_key_change_of_an_inserted_row_is_its_insert(void **state) {
    WITH_FIXTURE(f);
    insert(f, &plain, "1|x|d");
    update_key(f, &plain, "1|~|~", "2|y|-");
    insert(f, &plain, "1|z|e");
    EXPECT(f, "I 2|y|d; I 1|z|e.");
}

static void rule_1_keys_of_several_columns(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &pair, "ab|~|c", "ab|x|d");
    update(f, &pair, "a|y|bc");
    drop(f, &pair, "a|~|bc");
    EXPECT(f, "D a|bc. U ab|c: |x|d."); /* the key column that keeps its bytes is not set */
}

static void rule_1_equal_keys_of_two_tables_are_two_rows(void **state) {
    WITH_FIXTURE(f);
    update(f, &plain, "1|x|d");
    drop(f, &always, "1|~|~");
    const BatchPart *parts = seal_parts(f, 2);
    assert_string_equal(print_part(f->text, &parts[0]), "U 1: |x|d.");
    assert_string_equal(print_part(f->text, &parts[1]), "D 1.");
}

/* F9: to fold this into DELETE 1 + INSERT 2 would lose the document, which is not in the stream. */
static void f9_key_change_with_unchanged_toast_stays_an_update(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &plain, "1|~|~", "2|x|-");
    EXPECT(f, "U 1: 2|x|.");
    update(f, &plain, "1|x|doc");
    update_key(f, &plain, "1|~|~", "2|y|-"); /* known from the first */
    EXPECT(f, "U 1: 2|y|doc.");
}

/* --- rule 2: pairs of changes --- */

static void rule_2_insert_delete_is_nothing(void **state) {
    WITH_FIXTURE(f);
    insert(f, &plain, "1|x|d");
    update(f, &plain, "1|y|-");
    drop(f, &plain, "1|~|~");
    EXPECT(f, "");
}

static void rule_2_delete_insert_is_replace(void **state) {
    WITH_FIXTURE(f);
    drop(f, &plain, "1|~|~");
    insert(f, &plain, "1|x|d");
    EXPECT(f, "D 1. I 1|x|d.");
    drop(f, &plain, "1|~|~");
    insert(f, &plain, "1|x|d");
    update(f, &plain, "1|y|-"); /* the new row's document, not the destination's */
    EXPECT(f, "D 1. I 1|y|d.");
    drop(f, &plain, "1|~|~");
    insert(f, &plain, "1|x|d");
    drop(f, &plain, "1|~|~");
    EXPECT(f, "D 1.");
}

static void rule_2_insert_update_is_insert_of_the_new_values(void **state) {
    WITH_FIXTURE(f);
    insert(f, &plain, "1|x|d");
    update(f, &plain, "1|~|-");
    EXPECT(f, "I 1|~|d.");
}

static void rule_2_update_update_is_the_later_value(void **state) {
    WITH_FIXTURE(f);
    update(f, &plain, "1|x|d");
    update(f, &plain, "1|y|e");
    EXPECT(f, "U 1: |y|e.");
}

static void rule_2_unchanged_keeps_the_earlier_value(void **state) {
    WITH_FIXTURE(f);
    update(f, &plain, "1|x|d");
    update(f, &plain, "1|y|-");
    EXPECT(f, "U 1: |y|d.");
}

static void rule_2_unchanged_twice_stays_unchanged(void **state) {
    WITH_FIXTURE(f);
    update(f, &plain, "1|x|-");
    update(f, &plain, "1|y|-");
    EXPECT(f, "U 1: |y|.");
    update(f, &plain, "1|x|-");
    update(f, &plain, "1|y|e"); /* and a later value counts */
    EXPECT(f, "U 1: |y|e.");
}

static void rule_2_update_delete_is_delete(void **state) {
    WITH_FIXTURE(f);
    update(f, &plain, "1|x|d");
    drop(f, &plain, "1|~|~");
    EXPECT(f, "D 1.");
}

static void rule_2_unchanged_key_column_is_the_old_tuples(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &pair, "long|~|1", "-|x|2");
    update_key(f, &pair, "long|~|2", "-|y|3");
    EXPECT(f, "U long|1: |y|3.");
}

static void rule_2_unchanged_key_without_old_tuple_is_refused(void **state) {
    WITH_FIXTURE(f);
    assert_false(try_add(f, &plain, 'U', 0, NULL, "-|x|d"));
    expect_refused(f, REASON_BAD_DATA, "update of relation 10 does not say its key");
    assert_false(try_add(f, &plain, 'U', 'K', "-|~|~", "-|x|d"));
    expect_refused(f, REASON_BAD_DATA, "does not say its key");
    assert_false(try_add(f, &plain, 'D', 'K', "-|~|~", NULL));
    expect_refused(f, REASON_BAD_DATA, "does not say its key");
    assert_int_equal(batch_changes(f->batch), 0);
}

static void rule_2_null_key_is_refused(void **state) {
    WITH_FIXTURE(f);
    assert_false(try_add(f, &pair, 'I', 0, NULL, "1|x|~"));
    expect_refused(f, REASON_BAD_DATA, "insert of relation 11 has NULL in its key");
    assert_false(try_add(f, &pair, 'U', 0, NULL, "~|x|1"));
    expect_refused(f, REASON_BAD_DATA, "has NULL in its key");
    assert_false(try_add(f, &pair, 'D', 'K', "1|~|~", NULL));
    expect_refused(f, REASON_BAD_DATA, "has NULL in its key");
}

static void rule_2_insert_with_unchanged_value_is_refused(void **state) {
    WITH_FIXTURE(f);
    assert_false(try_add(f, &plain, 'I', 0, NULL, "1|x|-"));
    expect_refused(f, REASON_BAD_DATA, "lacks a value");
    assert_false(try_add(f, &nothing, 'I', 0, NULL, "1|-"));
    expect_refused(f, REASON_BAD_DATA, "lacks a value");
}

/* --- rule 3: what an update sets --- */

static void rule_3_one_statement_a_set_of_columns(void **state) {
    WITH_FIXTURE(f);
    update(f, &plain, "1|a|-");
    update(f, &plain, "2|-|b");
    update(f, &plain, "3|c|-");
    update(f, &plain, "4|d|d");
    update(f, &plain, "5|-|e");
    const BatchPart *part = &seal_parts(f, 1)[0];
    assert_int_equal(part->groups_count, 3);
    const char *text = print_part(f->text, part);
    assert_non_null(strstr(text, "U 1: |a|; U 3: |c|."));
    assert_non_null(strstr(text, "U 2: ||b; U 5: ||e."));
    assert_non_null(strstr(text, "U 4: |d|d."));
}

static void rule_3_null_is_a_value(void **state) {
    WITH_FIXTURE(f);
    update(f, &plain, "1|~|~");
    EXPECT(f, "U 1: |~|~.");
}

static void rule_3_generated_is_never_set(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &generated, "1|~|~", "3|6|d");
    update(f, &generated, "2|4|d");
    update(f, &generated, "2|-|e");
    const char *text = print_part(f->text, &seal_parts(f, 1)[0]);
    assert_non_null(strstr(text, "U 2: ||e."));
    assert_non_null(strstr(text, "U 1: 3||d."));
}

static void rule_3_update_that_sets_nothing_still_counts_its_row(void **state) {
    WITH_FIXTURE(f);
    update(f, &plain, "1|-|-");
    EXPECT(f, "U 1: 1||.");
    update(f, &pair, "1|-|2");
    EXPECT(f, "U 1|2: ||2.");
    update(f, &always, "1|-|-"); /* its key can't be set: nothing to do */
    EXPECT(f, "");
}

static void rule_3_always_identity_key_is_not_set(void **state) {
    WITH_FIXTURE(f);
    update(f, &always, "1|x|d");
    EXPECT(f, "U 1: |x|d.");
}

static void rule_3_changed_always_identity_is_replace(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &always, "1|~|~", "2|x|d");
    EXPECT(f, "D 1. I 2|x|d.");
}

static void rule_3_changed_always_identity_with_unchanged_toast_is_serial(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &always, "1|~|~", "2|x|-");
    EXPECT(f, "serial.");
}

/* An unchanged generated value is none that an INSERT needs. */
static void rule_3_replace_needs_no_generated_value(void **state) {
    WITH_FIXTURE(f);
    static const BatchColumn columns[] = {{.name = "id", .is_key = true, .is_always_identity = true},
                                          {.name = "g", .is_generated = true}};
    static const BatchTable table = {.relation = 20, .identity = 'd', .columns_count = 2, .columns = columns};
    update_key(f, &table, "1|~", "2|-");
    EXPECT(f, "D 1. I 2|-.");
}

/* A replace frees its key by its DELETE, so a chain through it is none. */
static void rule_3_replace_hands_its_key_over(void **state) {
    WITH_FIXTURE(f);
    update_key(f, &always, "2|~|~", "3|x|d");
    update_key(f, &always, "1|~|~", "2|y|d");
    EXPECT(f, "D 1; D 2. I 3|x|d; I 2|y|d."); /* inserts in the order of the rows' first change */
}

static void rule_3_always_identity_outside_the_key_is_matched(void **state) {
    WITH_FIXTURE(f);
    update(f, &counter, "1|100|d");
    update(f, &counter, "1|100|e");
    EXPECT(f, "U 1: |=100|e.");
    update(f, &counter, "1|100|-"); /* nothing to set, but to compare */
    EXPECT(f, "U 1: 1|=100|.");
}

static void rule_3_always_identity_outside_the_key_seen_to_change(void **state) {
    WITH_FIXTURE(f);
    update(f, &counter, "1|100|d");
    update(f, &counter, "1|101|-");
    EXPECT(f, "D 1. I 1|101|d.");
    update(f, &counter, "1|100|-");
    update(f, &counter, "1|101|-");
    EXPECT(f, "serial.");
}

static void rule_3_nothing_to_set_but_to_compare_is_serial(void **state) {
    WITH_FIXTURE(f);
    static const BatchColumn columns[] = {{.name = "id", .is_key = true, .is_always_identity = true},
                                          {.name = "seq", .is_always_identity = true}};
    static const BatchTable table = {.relation = 20, .identity = 'd', .columns_count = 2, .columns = columns};
    update(f, &table, "1|100");
    EXPECT(f, "serial.");
}

/* --- rule 4: tables without a key --- */

static void rule_4_full_with_inserts_only_is_set_wise(void **state) {
    WITH_FIXTURE(f);
    insert(f, &full, "1|x");
    insert(f, &full, "1|x"); /* a multiset */
    insert(f, &full, "~|x"); /* of images, NULLs included */
    EXPECT(f, "I 1|x; I 1|x; I ~|x.");
}

static void rule_4_full_knows_rows_by_their_image(void **state) {
    WITH_FIXTURE(f);
    insert(f, &full, "1|x");
    drop(f, &full, "1|x"); /* the one just inserted, as good as any */
    EXPECT(f, "");
    insert(f, &full, "1|x");
    assert_true(try_add(f, &full, 'U', 'O', "1|x", "2|-"));
    EXPECT(f, "I 2|x.");
    assert_true(try_add(f, &full, 'U', 'O', "1|x", "2|-"));
    assert_true(try_add(f, &full, 'U', 'O', "2|x", "3|y"));
    EXPECT(f, "U 1|x: 3|y.");
}

static void rule_4_full_touches_as_many_as_were(void **state) {
    WITH_FIXTURE(f);
    drop(f, &full, "1|x");
    drop(f, &full, "~|x");
    drop(f, &full, "1|x");
    assert_true(try_add(f, &full, 'U', 'O', "1|x", "1|y"));
    assert_true(try_add(f, &full, 'U', 'O', "1|x", "1|z"));
    assert_true(try_add(f, &full, 'D', 'O', "1|z", NULL));
    const BatchPart *part = &seal_parts(f, 1)[0];
    assert_int_equal(part->groups_count, 2);
    assert_int_equal(part->groups[0].rows_count, 4); /* side by side: three of 1|x */
    assert_int_equal(part->groups[1].rows_count, 1);
}

static void rule_4_full_tells_null_from_empty(void **state) {
    WITH_FIXTURE(f);
    drop(f, &full, "|x");
    drop(f, &full, "~|x");
    drop(f, &full, "|x");
    EXPECT(f, "D ~|x; D |x; D |x.");
}

static void rule_4_full_needs_the_whole_old_row(void **state) {
    WITH_FIXTURE(f);
    assert_false(try_add(f, &full, 'U', 0, NULL, "1|x"));
    expect_refused(f, REASON_BAD_DATA, "update of relation 15 with identity FULL has no old row");
    assert_false(try_add(f, &full, 'D', 'K', "1|x", NULL));
    expect_refused(f, REASON_BAD_DATA, "has no old row");
    assert_false(try_add(f, &full, 'D', 'O', "1|-", NULL));
    expect_refused(f, REASON_BAD_DATA, "lacks a value");
}

static void rule_4_without_identity_only_inserts(void **state) {
    WITH_FIXTURE(f);
    const BatchTable *tables[] = {&nothing, &no_key};
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        insert(f, tables[i], "1|x");
        insert(f, tables[i], "~|x"); /* NULL is only a matter of keys */
        assert_false(try_add(f, tables[i], 'U', 0, NULL, "1|x"));
        expect_refused(f, REASON_BAD_DATA, "no replica identity");
        assert_false(try_add(f, tables[i], 'D', 'K', "1|~", NULL));
        expect_refused(f, REASON_BAD_DATA, "no replica identity");
        EXPECT(f, "I 1|x; I ~|x.");
    }
}

/* --- rule 5: the changes as they came --- */

static void expect_change(Fixture *f, const BatchChange *change, BatchOp op, char old_kind, const char *old,
                          const char *new) {
    assert_int_equal(change->op, op);
    assert_int_equal(change->old_kind, old_kind);
    assert_string_equal(print_values(f->text, change->old_tuple.values, change->old_tuple.count, NULL), old);
    assert_string_equal(print_values(f->text, change->new_tuple.values, change->new_tuple.count, NULL), new);
}

static void rule_5_changes_stay_as_they_came(void **state) {
    WITH_FIXTURE(f);
    update(f, &pair, "a|x|b");
    update(f, &pair, "a|-|b");
    update_key(f, &pair, "a|~|b", "-|y|c");
    insert(f, &pair, "1||1"); /* an empty string is not NULL */
    drop(f, &pair, "1|~|1");
    const BatchPart *part = &seal_parts(f, 1)[0];
    assert_false(part->is_serial);
    assert_ptr_equal(part->table, &pair);
    assert_int_equal(part->changes_count, 5);
    expect_change(f, &part->changes[0], BATCH_UPDATE, 0, "", "a|x|b");
    expect_change(f, &part->changes[1], BATCH_UPDATE, 0, "", "a|-|b");
    expect_change(f, &part->changes[2], BATCH_UPDATE, 'K', "a|~|b", "-|y|c");
    expect_change(f, &part->changes[3], BATCH_INSERT, 0, "", "1||1");
    expect_change(f, &part->changes[4], BATCH_DELETE, 'K', "1|~|1", "");
    assert_non_null(part->changes[3].new_tuple.values[1].bytes);
}

static void rule_5_serial_parts_go_on_collecting(void **state) {
    WITH_FIXTURE(f);
    insert(f, &plain, "1|x|d");
    insert(f, &plain, "1|x|d");
    drop(f, &plain, "1|~|~");
    insert(f, &plain, "2|y|d");
    const BatchPart *part = &seal_parts(f, 1)[0];
    assert_true(part->is_serial);
    assert_int_equal(part->changes_count, 4);
    expect_change(f, &part->changes[2], BATCH_DELETE, 'K', "1|~|~", "");
    expect_change(f, &part->changes[3], BATCH_INSERT, 0, "", "2|y|d");
}

/* --- rule 6: order --- */

static void rule_6_inserts_keep_their_order(void **state) {
    WITH_FIXTURE(f);
    insert(f, &plain, "9|a|d");
    insert(f, &plain, "10|b|d");
    insert(f, &plain, "1|c|d");
    EXPECT(f, "I 9|a|d; I 10|b|d; I 1|c|d.");
}

static void rule_6_updates_and_deletes_are_sorted_by_key_bytes(void **state) {
    WITH_FIXTURE(f);
    static const char *const keys[] = {"long key 2", "b", "long key 1", "long key", "a", "long kez", "\xff", "ab"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        update(f, &plain, arena_printf(f->text, "%s|x|d", keys[i]));
        drop(f, &plain, arena_printf(f->text, "%s!|~|~", keys[i]));
    }
    EXPECT(f, "D a!; D ab!; D b!; D long key 1!; D long key 2!; D long key!; D long kez!; D \xff!. "
              "U a: |x|d; U ab: |x|d; U b: |x|d; U long key: |x|d; U long key 1: |x|d; U long key 2: |x|d; "
              "U long kez: |x|d; U \xff: |x|d.");
}

static void rule_6_sorted_by_the_second_column_where_the_first_is_equal(void **state) {
    WITH_FIXTURE(f);
    drop(f, &pair, "b|~|1");
    drop(f, &pair, "a|~|2");
    drop(f, &pair, "a|~|1");
    drop(f, &pair, "|~|9");
    EXPECT(f, "D |9; D a|1; D a|2; D b|1.");
}

/* --- rule 7: contradictions --- */

static void rule_7_contradictions_are_serial(void **state) {
    WITH_FIXTURE(f);
    insert(f, &plain, "1|x|d");
    insert(f, &plain, "1|y|d");
    EXPECT(f, "serial.");
    drop(f, &plain, "1|~|~");
    update(f, &plain, "1|y|d");
    EXPECT(f, "serial.");
    drop(f, &plain, "1|~|~");
    drop(f, &plain, "1|~|~");
    EXPECT(f, "serial.");
    update_key(f, &plain, "1|~|~", "2|x|d");
    drop(f, &plain, "1|~|~");
    EXPECT(f, "serial.");
    update(f, &plain, "2|x|d");
    update_key(f, &plain, "1|~|~", "2|x|d");
    EXPECT(f, "serial.");
    insert(f, &plain, "2|x|d");
    update_key(f, &plain, "1|~|~", "2|x|d");
    EXPECT(f, "serial.");
    insert(f, &plain, "1|x|d");
    drop(f, &plain, "1|~|~");
    drop(f, &plain, "1|~|~");
    EXPECT(f, "serial.");
}

/* --- the contract --- */

static void refuses_what_is_not_of_the_table(void **state) {
    WITH_FIXTURE(f);
    assert_false(try_add(f, &plain, 'I', 0, NULL, "1|x"));
    expect_refused(f, REASON_BAD_DATA, "insert of relation 10 has not the columns of its relation");
    assert_false(try_add(f, &plain, 'U', 'K', "1|~", "1|x|d"));
    expect_refused(f, REASON_BAD_DATA, "has not the columns");
    assert_false(try_add(f, &plain, 'D', 'K', "1|~|~", "1|x|d"));
    expect_refused(f, REASON_BAD_DATA, "has not the columns");
    assert_false(try_add(f, &plain, 'I', 'K', "1|~|~", "1|x|d"));
    expect_refused(f, REASON_BAD_DATA, "has an old row");
    assert_false(try_add(f, &plain, 'D', 0, NULL, NULL));
    expect_refused(f, REASON_BAD_DATA, "delete of relation 10 has no old row");
    assert_false(try_add(f, &plain, 'T', 0, NULL, NULL));
    expect_refused(f, REASON_INTERNAL, "message T");
    seal_parts(f, 0);
}

static void refuses_a_second_definition_of_a_relation(void **state) {
    WITH_FIXTURE(f);
    BatchTable changed = plain;
    insert(f, &plain, "1|x|d");
    assert_false(try_add(f, &changed, 'I', 0, NULL, "2|x|d"));
    expect_refused(f, REASON_INTERNAL, "relation 10 changed in the middle of a batch");
    EXPECT(f, "I 1|x|d.");
    insert(f, &changed, "2|x|d"); /* in the next batch it is welcome */
    EXPECT(f, "I 2|x|d.");
}

static void sealed_once_and_then_closed(void **state) {
    WITH_FIXTURE(f);
    insert(f, &plain, "1|x|d");
    const BatchPart *parts = seal_parts(f, 1);
    size_t count = 77;
    assert_false(batch_seal(f->batch, &parts, &count, &f->err));
    expect_refused(f, REASON_INTERNAL, "sealed twice");
    assert_int_equal(count, 77);
    assert_false(try_add(f, &plain, 'I', 0, NULL, "2|x|d"));
    expect_refused(f, REASON_INTERNAL, "message I");
}

static void parts_in_the_order_of_their_first_change(void **state) {
    WITH_FIXTURE(f);
    enum { TABLES = 300 };
    BatchTable tables[TABLES];
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < TABLES; i++) {
            tables[i] = plain;
            tables[i].relation = 1000 + i * 7919 % TABLES;
            insert(f, &tables[i], round == 0 ? "1|x|d" : "2|x|d");
        }
    }
    const BatchPart *parts = seal_parts(f, TABLES);
    for (uint32_t i = 0; i < TABLES; i++) {
        assert_ptr_equal(parts[i].table, &tables[i]);
        assert_string_equal(print_part(f->text, &parts[i]), "I 1|x|d; I 2|x|d.");
    }
}

static void ceiling_holds_but_for_the_first_change(void **state) {
    (void)state;
    CLEANUP(fixture_end) Fixture f = fixture_new(64 * 1024);
    char *huge = arena_alloc(f.text, 100 * 1000 + 1);
    memset(huge, 'x', 100 * 1000);
    insert(&f, &plain, arena_printf(f.text, "1|%s|d", huge));
    assert_true(batch_bytes(f.batch) > 100 * 1000);
    assert_false(try_add(&f, &plain, 'D', 'K', "2|~|~", NULL));
    expect_refused(&f, REASON_INTERNAL, "a batch of 65536 bytes is full");
    assert_int_equal(batch_changes(f.batch), 1);
    batch_clear(f.batch);
    assert_int_equal(batch_bytes(f.batch), 0);

    size_t added = 0;
    while (try_add(&f, &plain, 'I', 0, NULL, arena_printf(f.text, "%zu|x|d", added)))
        added++;
    assert_true(added > 50);
    assert_int_equal(batch_changes(f.batch), added);
    assert_int_equal(seal_parts(&f, 1)[0].groups[0].rows_count, added);
}

/* As a line of COPY, or in an array, it may come to twice its size: more than a server takes. */
static void row_beyond_the_ceiling_goes_alone(void **state) {
    (void)state;
    for (int beyond = 0; beyond < 2; beyond++) {
        CLEANUP(fixture_end) Fixture f = fixture_new(64 * 1024);
        size_t len = beyond ? 100 * 1000 : 50 * 1000;
        char *value = arena_alloc(f.text, len + 1);
        memset(value, '\\', len);
        insert(&f, &plain, arena_printf(f.text, "1|%s|d", value));
        const BatchPart *part = seal_parts(&f, 1);
        assert_int_equal(part->is_serial, beyond);
        assert_int_equal(part->groups_count, !beyond);
        assert_int_equal(part->changes_count, 1);
    }
}

static void many_keys_are_all_found_again(void **state) {
    (void)state;
    CLEANUP(fixture_end) Fixture f = fixture_new(64 * 1024 * 1024);
    enum { KEYS = 20000 };
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < KEYS; i++) {
            arena_reset(f.text);
            update(&f, &plain, arena_printf(f.text, "a key that is long: %d|%d|-", i, round));
        }
    }
    const BatchPart *part = &seal_parts(&f, 1)[0];
    assert_int_equal(part->changes_count, 2 * KEYS);
    assert_int_equal(part->groups_count, 1);
    assert_int_equal(part->groups[0].rows_count, KEYS);
    for (size_t i = 0; i < KEYS; i++)
        assert_string_equal(part->groups[0].rows[i].values[1].bytes, "1");
    for (size_t i = 1; i < KEYS; i++)
        assert_true(strcmp(part->groups[0].rows[i - 1].key[0].bytes, part->groups[0].rows[i].key[0].bytes) < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rule_1_rows_are_known_by_bytes),
        cmocka_unit_test(rule_1_key_change_is_one_update_of_the_original_key),
        cmocka_unit_test(rule_1_key_there_and_back_is_no_key_change),
        cmocka_unit_test(rule_1_old_key_that_equals_the_new_one_is_no_key_change),
        cmocka_unit_test(rule_1_swap_is_serial),
        cmocka_unit_test(rule_1_chain_is_serial),
        cmocka_unit_test(rule_1_cycle_of_three_is_serial),
        cmocka_unit_test(rule_1_insert_takes_a_key_that_an_update_gave_up),
        cmocka_unit_test(rule_1_update_takes_a_key_that_a_delete_gave_up),
        cmocka_unit_test(rule_1_update_takes_a_key_of_a_row_that_moved_and_was_deleted),
        cmocka_unit_test(rule_1_delete_after_key_change_deletes_the_original_key),
        cmocka_unit_test(rule_1_key_change_of_an_inserted_row_is_its_insert),
        cmocka_unit_test(rule_1_keys_of_several_columns),
        cmocka_unit_test(rule_1_equal_keys_of_two_tables_are_two_rows),
        cmocka_unit_test(f9_key_change_with_unchanged_toast_stays_an_update),
        cmocka_unit_test(rule_2_insert_delete_is_nothing),
        cmocka_unit_test(rule_2_delete_insert_is_replace),
        cmocka_unit_test(rule_2_insert_update_is_insert_of_the_new_values),
        cmocka_unit_test(rule_2_update_update_is_the_later_value),
        cmocka_unit_test(rule_2_unchanged_keeps_the_earlier_value),
        cmocka_unit_test(rule_2_unchanged_twice_stays_unchanged),
        cmocka_unit_test(rule_2_update_delete_is_delete),
        cmocka_unit_test(rule_2_unchanged_key_column_is_the_old_tuples),
        cmocka_unit_test(rule_2_unchanged_key_without_old_tuple_is_refused),
        cmocka_unit_test(rule_2_null_key_is_refused),
        cmocka_unit_test(rule_2_insert_with_unchanged_value_is_refused),
        cmocka_unit_test(rule_3_one_statement_a_set_of_columns),
        cmocka_unit_test(rule_3_null_is_a_value),
        cmocka_unit_test(rule_3_generated_is_never_set),
        cmocka_unit_test(rule_3_update_that_sets_nothing_still_counts_its_row),
        cmocka_unit_test(rule_3_always_identity_key_is_not_set),
        cmocka_unit_test(rule_3_changed_always_identity_is_replace),
        cmocka_unit_test(rule_3_changed_always_identity_with_unchanged_toast_is_serial),
        cmocka_unit_test(rule_3_replace_needs_no_generated_value),
        cmocka_unit_test(rule_3_replace_hands_its_key_over),
        cmocka_unit_test(rule_3_always_identity_outside_the_key_is_matched),
        cmocka_unit_test(rule_3_always_identity_outside_the_key_seen_to_change),
        cmocka_unit_test(rule_3_nothing_to_set_but_to_compare_is_serial),
        cmocka_unit_test(rule_4_full_with_inserts_only_is_set_wise),
        cmocka_unit_test(rule_4_full_knows_rows_by_their_image),
        cmocka_unit_test(rule_4_full_touches_as_many_as_were),
        cmocka_unit_test(rule_4_full_tells_null_from_empty),
        cmocka_unit_test(rule_4_full_needs_the_whole_old_row),
        cmocka_unit_test(rule_4_without_identity_only_inserts),
        cmocka_unit_test(rule_5_changes_stay_as_they_came),
        cmocka_unit_test(rule_5_serial_parts_go_on_collecting),
        cmocka_unit_test(rule_6_inserts_keep_their_order),
        cmocka_unit_test(rule_6_updates_and_deletes_are_sorted_by_key_bytes),
        cmocka_unit_test(rule_6_sorted_by_the_second_column_where_the_first_is_equal),
        cmocka_unit_test(rule_7_contradictions_are_serial),
        cmocka_unit_test(refuses_what_is_not_of_the_table),
        cmocka_unit_test(refuses_a_second_definition_of_a_relation),
        cmocka_unit_test(sealed_once_and_then_closed),
        cmocka_unit_test(parts_in_the_order_of_their_first_change),
        cmocka_unit_test(ceiling_holds_but_for_the_first_change),
        cmocka_unit_test(row_beyond_the_ceiling_goes_alone),
        cmocka_unit_test(many_keys_are_all_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
