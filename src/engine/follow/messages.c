/*
 * The receiver's part that reads messages: transactions, relations and their changes.
 *
 * A relation is resolved (what is it in the destination, is it applied?) when its first change comes that the copy does
 * not have, and again after its definition changed, or was said anew behind a message that may have been DDL. Resolving
 * ends the batch, so a batch never sees two definitions of one table.
 */
#include "engine/follow/receiver.h"

#include <string.h>

#define OUR_PREFIX "pgcrane"

/* --- Relations ---------------------------------------------------------------------------------------------------- */

static Known *know(Receiver *receiver, uint32_t oid, const FollowTable *followed) {
    Arena *arena = receiver->follow->receiver_arena;
    Known *known = arena_new_of(arena, Known);

    *known = (Known){.oid = oid, .followed = followed, .picture = followed == NULL ? NULL : &followed->picture};
    oid_map_put(&receiver->known, arena, oid, known);
    return known;
}

void receiver_know_tables(Receiver *receiver) {
    const FollowParams *params = &receiver->follow->params;

    for (size_t i = 0; i < params->tables_count; i++)
        (void)know(receiver, params->tables[i].oid, &params->tables[i]);
}

static bool same_column(const PgoColumn *a, const PgoColumn *b) {
    return a->is_key == b->is_key && a->type_oid == b->type_oid && a->type_modifier == b->type_modifier &&
           strcmp(a->name, b->name) == 0;
}

static bool same_definition(const PgoRelation *a, const PgoRelation *b) {
    if (a->identity != b->identity || a->columns_count != b->columns_count || strcmp(a->schema, b->schema) != 0 ||
        strcmp(a->name, b->name) != 0)
        return false;
    for (uint16_t i = 0; i < a->columns_count; i++)
        if (!same_column(&a->columns[i], &b->columns[i]))
            return false;
    return true;
}

static const PgoRelation *copy_relation(Arena *arena, const PgoRelation *relation) {
    PgoRelation *copy = arena_new_of(arena, PgoRelation);
    PgoColumn *columns = arena_array(arena, PgoColumn, relation->columns_count);

    for (uint16_t i = 0; i < relation->columns_count; i++) {
        columns[i] = relation->columns[i];
        columns[i].name = arena_strdup(arena, columns[i].name);
    }
    *copy = *relation;
    copy->schema = arena_strdup(arena, relation->schema);
    copy->name = arena_strdup(arena, relation->name);
    copy->columns = columns;
    return copy;
}

/* Comes once a session, and again whenever something may have changed; also inside transactions that are dropped. */
static bool take_relation(Receiver *receiver, const PgoMessage *message, size_t len, Error *err) {
    const PgoRelation *relation = &message->relation;
    Known *known = oid_map_get(&receiver->known, relation->oid);

    (void)len;
    (void)err;
    if (known == NULL)
        known = know(receiver, relation->oid, NULL);
    bool same = known->definition != NULL && same_definition(known->definition, relation);

    if (same && known->ddl == receiver->ddl)
        return true;
    if (!same) /* behind each message all tables come again: a copy of each would fill the memory */
        known->definition = copy_relation(receiver->follow->receiver_arena, relation);
    known->ddl = receiver->ddl;
    known->is_resolved = false;
    return true;
}

static bool resolve(Receiver *receiver, Known *known, Error *err) {
    bool asks = known->picture == NULL;
    Answer answer = {0};

    bool paused = known->followed != NULL && known->followed->is_paused;

    if (!paused && (!asks || receiver->follow->params.hooks.unknown_table != NULL) &&
        !receiver_ask(receiver, known, asks, &answer, err))
        return false;
    known->apply = answer.apply;
    known->table = answer.table;
    known->is_resolved = true;
    return true;
}

/* The table that a change of this relation goes to; NULL: the copy has the change, or nobody wants it. A keyless table
 * of which an update or delete comes has got an identity: what came before is missing, so it stops. */
static bool find_table(Receiver *receiver, uint32_t oid, PgoType type, const ApplyTable **ret_table, Error *err) {
    Known *known = oid_map_get(&receiver->known, oid);

    if (known == NULL || known->definition == NULL)
        return error_set(err, REASON_WIRE_BAD, "the source's stream has a change of relation %u before its definition",
                         oid);
    *ret_table = NULL;
    if (known->picture != NULL && seam_in_copy(known->picture, receiver->commit_lsn, receiver->xid)) {
        receiver->skipped++;
        return true;
    }
    if (!known->is_resolved && !resolve(receiver, known, err))
        return false;
    if (known->table != NULL && known->table->is_keyless && (type == PGO_UPDATE || type == PGO_DELETE)) {
        known->got_keyed = true;
        if (!resolve(receiver, known, err))
            return false;
    }
    receiver->ignored += !known->apply;
    *ret_table = known->table;
    return true;
}

/* --- Transactions ------------------------------------------------------------------------------------------------- */

static bool misplaced(const PgoMessage *message, Error *err) {
    return error_set(err, REASON_WIRE_BAD, "the source's stream has a message %s where there can be none",
                     pgo_type_name(message->type));
}

static bool take_begin(Receiver *receiver, const PgoMessage *message, size_t len, Error *err) {
    const PgoTransaction *transaction = &message->transaction;

    (void)len;
    if (receiver->in_transaction)
        return misplaced(message, err);
    receiver->in_transaction = true;
    receiver->is_dropped = transaction->lsn < receiver->start;
    receiver->has_changes = false;
    receiver->has_messages = false;
    receiver->commit_lsn = transaction->lsn;
    receiver->xid = transaction->xid;
    receiver->time_us = transaction->time_us;
    return true;
}

static bool take_commit(Receiver *receiver, const PgoMessage *message, size_t len, Error *err) {
    const PgoTransaction *transaction = &message->transaction;

    (void)len;
    if (!receiver->in_transaction)
        return misplaced(message, err);
    receiver->in_transaction = false;
    if (receiver->is_dropped)
        return true;
    receiver_note_progress(receiver, transaction->end_lsn);
    if (receiver->has_changes) {
        receiver->transactions++;
        receiver->last_us = transaction->time_us;
        atomic_store(&receiver->follow->last_change, transaction->end_lsn);
    }
    /* What a definition brought can be used by later transactions only: a label of an enum is there for good when the
     * transaction that added it has ended, on the destination as on the source. And what was handed over without a
     * commit (before a TRUNCATE, of a large transaction) is committed as soon as it can be: under a stream of such
     * pieces the destination's transaction would not end. */
    return !(receiver->has_messages || receiver->is_open) || receiver_hand_over(receiver, true, err);
}

/* --- Changes ------------------------------------------------------------------------------------------------------ */

static void note_change(Receiver *receiver) {
    receiver->has_changes = true;
    if (receiver->oldest_us != 0)
        return;
    receiver->oldest_us = receiver->time_us;
    atomic_store(&receiver->follow->filling_oldest_us, receiver->time_us);
}

/* Would the batch be too large with this one? A first change of any size always has room. */
static bool has_room(const Receiver *receiver, size_t len) {
    const FollowParams *params = &receiver->follow->params;
    size_t changes = receiver->item == NULL ? 0 : batch_changes(receiver->item->batch);

    return changes == 0 ||
           (changes < params->batch_rows && batch_bytes(receiver->item->batch) + len < params->batch_bytes);
}

enum { PIECE_ROWS = 10000, PIECE_LOOK = 1024 };
/* Of large rows one is applied while the next is read; of huge ones, one at a time is enough for memory. */
enum { LARGE_ROW = 2 << 20, HUGE_ROW = 32 << 20 };

/* An applier that has nothing to do gets a piece of a large transaction before the batch is full. */
static bool is_piece(const Receiver *receiver) {
    size_t changes = receiver->item == NULL ? 0 : batch_changes(receiver->item->batch);

    return changes >= PIECE_ROWS && changes % PIECE_LOOK == 0 && queue_is_idle(receiver->follow);
}

static bool take_row(Receiver *receiver, const PgoMessage *message, size_t len, Error *err) {
    const ApplyTable *table = NULL;

    if (!receiver->in_transaction)
        return misplaced(message, err);
    if (receiver->is_dropped)
        return true;
    if (!find_table(receiver, message->row.relation, message->type, &table, err))
        return false;
    if (table == NULL)
        return true;
    note_change(receiver);
    /* A transaction larger than a batch: the destination's stays open. */
    if ((!has_room(receiver, len) || is_piece(receiver)) && !receiver_hand_over(receiver, false, err))
        return false;
    if ((len > LARGE_ROW && !receiver_wait_until(receiver, len > HUGE_ROW ? 0 : 1, err)) ||
        !receiver_item(receiver, err))
        return false;
    return batch_add(receiver->item->batch, &table->batch, message->type, &message->row, err) ||
           error_wrap(err, "table %s", table->display);
}

static bool take_truncate(Receiver *receiver, const PgoMessage *message, size_t len, Error *err) {
    const PgoTruncate *truncate = &message->truncate;
    const ApplyTable **tables = arena_array(receiver->decoded, const ApplyTable *, truncate->relations_count);
    size_t count = 0;

    (void)len;
    if (!receiver->in_transaction)
        return misplaced(message, err);
    for (uint32_t i = 0; !receiver->is_dropped && i < truncate->relations_count; i++) {
        if (!find_table(receiver, truncate->relations[i], message->type, &tables[count], err))
            return false;
        count += tables[count] != NULL;
    }
    if (count == 0)
        return true;
    note_change(receiver);
    if (!receiver_hand_over(receiver, false, err) || !receiver_item(receiver, err))
        return false;
    const ApplyTable **kept = arena_array(receiver->item->arena, const ApplyTable *, count);
    memcpy(kept, tables, count * sizeof(*kept));
    receiver->item->truncate = (ApplyTruncate){
        .tables = kept, .count = count, .cascade = truncate->cascade, .restart_identity = truncate->restart_identity};
    return receiver_push(receiver, ITEM_TRUNCATE, false, err);
}

/* A message whose effect the schema was copied with is not for the hook. */
static bool is_for_hook(const Receiver *receiver, const PgoLogical *logical) {
    const FollowParams *params = &receiver->follow->params;

    return logical->transactional && receiver->in_transaction && !receiver->is_dropped &&
           params->hooks.message != NULL &&
           (params->schema_picture == NULL ||
            !seam_in_copy(params->schema_picture, receiver->commit_lsn, receiver->xid));
}

static bool take_logical(Receiver *receiver, const PgoMessage *message, size_t len, Error *err) {
    const PgoLogical *logical = &message->logical;

    (void)len;
    if (strncmp(logical->prefix, OUR_PREFIX, strlen(OUR_PREFIX)) != 0)
        return true;
    atomic_store(&receiver->follow->last_marker, logical->lsn);
    if (!is_for_hook(receiver, logical))
        return true;
    receiver->ddl++;
    receiver->has_messages = true;
    if (!receiver_hand_over(receiver, false, err) || !receiver_item(receiver, err))
        return false;
    Item *item = receiver->item;
    item->message = *logical;
    item->message.prefix = arena_strdup(item->arena, logical->prefix);
    item->message.content = arena_strndup(item->arena, logical->content, logical->len);
    return receiver_push(receiver, ITEM_MESSAGE, false, err);
}

static bool take_nothing(Receiver *receiver, const PgoMessage *message, size_t len, Error *err) {
    (void)receiver;
    (void)message;
    (void)len;
    (void)err;
    return true;
}

typedef bool (*TakeMessage)(Receiver *receiver, const PgoMessage *message, size_t len, Error *err);

/* What is not here was not asked for: streamed transactions, two-phase. */
static const TakeMessage takes[UINT8_MAX + 1] = {
    [PGO_BEGIN] = take_begin,       [PGO_COMMIT] = take_commit,     [PGO_ORIGIN] = take_nothing,
    [PGO_RELATION] = take_relation, [PGO_DATA_TYPE] = take_nothing, [PGO_INSERT] = take_row,
    [PGO_UPDATE] = take_row,        [PGO_DELETE] = take_row,        [PGO_TRUNCATE] = take_truncate,
    [PGO_MESSAGE] = take_logical,
};

bool receiver_take_message(Receiver *receiver, const PgoMessage *message, size_t len, Error *err) {
    TakeMessage take = takes[(uint8_t)message->type];

    return take == NULL ? misplaced(message, err) : take(receiver, message, len, err);
}
