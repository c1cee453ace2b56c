/*
 * The receiver: the source's stream to items of the queue (follow.c tells the protocol).
 *
 * Per change there is no lock, no clock and no allocation but the batch's own. What has to be looked at now and then
 * (is it time to cut, to acknowledge, to advance) is looked at between transactions, and when the stream is silent.
 */
#include "engine/follow/receiver.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"

#include <string.h>

/* While something waits for the applier to become idle. */
#define PENDING_WAIT_US (5 * USEC_PER_MSEC)
#define IDLE_WAIT_US (20 * USEC_PER_MSEC)
/* A batch this old or large goes out when the applier is idle, though more can be read at once: else it would have to
 * wait for a pause of the stream. */
#define CUT_AGE_US (10 * USEC_PER_MSEC)
#define BEHIND_US USEC_PER_SEC
#define BEHIND_AGE_US (150 * USEC_PER_MSEC)
enum { CUT_ROWS = 2000, BEHIND_ROWS = 20000 };
/* The position of a stream that says nothing to us: how often it is written down. */
#define ADVANCE_INTERVAL_US (10 * USEC_PER_SEC)
#define ADVANCE_ASKED_INTERVAL_US (200 * USEC_PER_MSEC)
#define CONFIRM_INTERVAL_US USEC_PER_SEC
#define ASK_INTERVAL_US (100 * USEC_PER_MSEC)
#define FULL_SLICE_US (100 * USEC_PER_MSEC)

/* --- Handing over ------------------------------------------------------------------------------------------------- */

static bool stopped(Error *err) {
    return error_set(err, REASON_CANCELLED, "stopped");
}

static Lsn confirmable(const Follow *follow) {
    return MIN(atomic_load(&follow->durable), atomic_load(&follow->confirm_limit));
}

/* Meanwhile the source must hear of us, or it ends the connection. */
static bool stay_alive(Receiver *receiver, Error *err) {
    if (stop_requested(&receiver->follow->stop))
        return stopped(err);
    repl_acknowledge(receiver->stream, confirmable(receiver->follow));
    return repl_stay_alive(receiver->stream, err);
}

bool receiver_item(Receiver *receiver, Error *err) {
    while (receiver->item == NULL) {
        receiver->item = queue_take_free(receiver->follow, clock_now_us() + FULL_SLICE_US);
        if (receiver->item == NULL && !stay_alive(receiver, err))
            return false;
    }
    return true;
}

bool receiver_wait_until(Receiver *receiver, size_t most, Error *err) {
    while (!queue_wait_until(receiver->follow, most, clock_now_us() + FULL_SLICE_US))
        if (!stay_alive(receiver, err))
            return false;
    return true;
}

bool receiver_push(Receiver *receiver, ItemKind kind, bool commits, Error *err) {
    Item *item = receiver->item;

    item->kind = kind;
    item->commits = commits;
    item->oldest_us = receiver->oldest_us;
    if (commits) {
        item->to = receiver->progress;
        item->transactions = receiver->transactions;
        item->time_us = receiver->last_us;
        receiver->pushed = receiver->progress;
        receiver->transactions = 0;
        receiver->oldest_us = 0;
        receiver->last_us = 0;
        atomic_store(&receiver->follow->filling_oldest_us, 0);
    }
    receiver->is_open = !commits && (receiver->is_open || kind != ITEM_TABLE || item->asks);
    receiver->item = NULL;
    queue_push(receiver->follow, item);
    return failpoint("follow.after_push", err);
}

static size_t changes_waiting(const Receiver *receiver) {
    return receiver->item == NULL ? 0 : batch_changes(receiver->item->batch);
}

/* What was applied, or will be, without a position that says so. */
static bool is_pending(const Receiver *receiver) {
    return receiver->is_open || changes_waiting(receiver) > 0;
}

bool receiver_hand_over(Receiver *receiver, bool commits, Error *err) {
    bool empty = changes_waiting(receiver) == 0;

    if (empty && !commits)
        return true;
    return receiver_item(receiver, err) && receiver_push(receiver, empty ? ITEM_ADVANCE : ITEM_PARTS, commits, err);
}

bool receiver_ask(Receiver *receiver, const Known *known, bool asks, Answer *ret_answer, Error *err) {
    if (!receiver_hand_over(receiver, false, err) || !receiver_item(receiver, err))
        return false;
    receiver->item->relation = known->definition;
    receiver->item->followed = known->followed;
    receiver->item->before = known->table;
    receiver->item->asks = asks;
    receiver->item->got_keyed = known->got_keyed;
    if (!receiver_push(receiver, ITEM_TABLE, false, err))
        return false;
    while (!queue_take_answer(receiver->follow, clock_now_us() + FULL_SLICE_US, ret_answer))
        if (!stay_alive(receiver, err))
            return false;
    return true;
}

/* --- Between transactions ----------------------------------------------------------------------------------------- */

static bool is_full(const Receiver *receiver) {
    const FollowParams *params = &receiver->follow->params;

    return receiver->item != NULL && (batch_changes(receiver->item->batch) >= params->batch_rows ||
                                      batch_bytes(receiver->item->batch) >= params->batch_bytes);
}

/* Behind a backlog the oldest change that waits is old already: what it waits here for company does not show, and large
 * batches are what catches up. */
static bool is_behind(const Receiver *receiver) {
    int64_t server_time = atomic_load_explicit(&receiver->follow->server_time_us, memory_order_relaxed);

    return receiver->oldest_us != 0 && server_time - receiver->oldest_us > BEHIND_US;
}

static bool is_worth_a_batch(const Receiver *receiver, int64_t now) {
    bool behind = is_behind(receiver);

    return changes_waiting(receiver) >= (behind ? BEHIND_ROWS : CUT_ROWS) ||
           now - receiver->pending_since_us >= (behind ? BEHIND_AGE_US : CUT_AGE_US);
}

/* silent: nothing more could be read at once. */
static bool is_time_to_cut(Receiver *receiver, bool silent, int64_t now) {
    if (!is_pending(receiver))
        return false;
    if (is_full(receiver))
        return true;
    if (receiver->pending_since_us == 0)
        receiver->pending_since_us = now;
    return queue_is_idle(receiver->follow) && (silent || is_worth_a_batch(receiver, now));
}

static bool cut(Receiver *receiver, bool silent, int64_t now, Error *err) {
    if (!is_time_to_cut(receiver, silent, now))
        return true;
    receiver->pending_since_us = 0;
    return receiver_hand_over(receiver, true, err);
}

static bool is_time_to_advance(const Receiver *receiver, int64_t now) {
    Lsn wanted = atomic_load(&receiver->follow->wanted);
    int64_t since = now - receiver->advanced_us;

    if (is_pending(receiver) || receiver->progress <= receiver->pushed)
        return false;
    if (wanted > receiver->pushed && wanted <= receiver->progress)
        return true;
    return queue_is_idle(receiver->follow) &&
           (since >= ADVANCE_INTERVAL_US || (receiver->asked > receiver->pushed && since >= ADVANCE_ASKED_INTERVAL_US));
}

static bool advance(Receiver *receiver, int64_t now, Error *err) {
    if (!is_time_to_advance(receiver, now))
        return true;
    receiver->advanced_us = now;
    return receiver_hand_over(receiver, true, err);
}

/* Tells the source what is durable; at once when it has asked (a server that shuts down waits for it), and asks it for
 * its position when somebody waits for one that was not heard of. */
static bool talk(Receiver *receiver, int64_t now, Error *err) {
    Lsn durable = confirmable(receiver->follow);
    bool ask = atomic_load(&receiver->follow->wanted) > receiver->progress && now >= receiver->ask_due_us;
    bool confirm =
        durable > receiver->confirmed && (receiver->asked > receiver->confirmed || now >= receiver->confirm_due_us);

    if (!ask && !confirm)
        return true;
    repl_acknowledge(receiver->stream, durable);
    receiver->confirmed = durable;
    receiver->confirm_due_us = now + CONFIRM_INTERVAL_US;
    if (ask)
        receiver->ask_due_us = now + ASK_INTERVAL_US;
    return repl_send_feedback(receiver->stream, ask, err) && failpoint("follow.after_feedback", err);
}

static bool settle(Receiver *receiver, bool silent, Error *err) {
    int64_t now = clock_now_us();

    atomic_store(&receiver->follow->skipped, receiver->skipped);
    atomic_store(&receiver->follow->ignored, receiver->ignored);
    return cut(receiver, silent, now, err) && advance(receiver, now, err) && talk(receiver, now, err);
}

/* --- Messages ----------------------------------------------------------------------------------------------------- */

static void raise_lsn(_Atomic Lsn *lsn, Lsn to) {
    if (atomic_load(lsn) < to)
        atomic_store(lsn, to);
}

void receiver_note_progress(Receiver *receiver, Lsn lsn) {
    receiver->progress = MAX(receiver->progress, lsn);
    raise_lsn(&receiver->follow->received, lsn);
    raise_lsn(&receiver->follow->source_end, lsn);
}

static bool take_keepalive(Receiver *receiver, const ReplData *data) {
    raise_lsn(&receiver->follow->source_end, data->end_lsn);
    if (data->reply_requested)
        receiver->asked = MAX(receiver->asked, data->end_lsn);
    if (!receiver->in_transaction)
        receiver_note_progress(receiver, data->end_lsn);
    return true;
}

static bool take_data(Receiver *receiver, const ReplData *data, Error *err) {
    PgoMessage message;

    atomic_store_explicit(&receiver->follow->server_time_us, data->server_time_us, memory_order_relaxed);
    if (data->server_lsn != 0)
        raise_lsn(&receiver->follow->source_end, data->server_lsn);
    if (data->is_keepalive)
        return take_keepalive(receiver, data);
    arena_reset(receiver->decoded);
    if (!failpoint("follow.receive", err))
        return false;
    if (!pgo_decode(receiver->decoded, data->bytes, data->len, false, &message, err))
        return error_wrap(err, "the source's stream at %s", lsn_format(receiver->decoded, data->start_lsn));
    return receiver_take_message(receiver, &message, data->len, err);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static int64_t receive_deadline(const Receiver *receiver) {
    if (receiver->in_transaction || !is_pending(receiver))
        return clock_now_us() + IDLE_WAIT_US;
    return queue_is_idle(receiver->follow) ? 1 : clock_now_us() + PENDING_WAIT_US;
}

static bool receive_all(Receiver *receiver, Error *err) {
    int64_t deadline = receive_deadline(receiver);

    for (;;) {
        ReplData data;
        ReplResult result = repl_receive(receiver->stream, deadline, &data, err);
        if (result == REPL_STOPPED)
            return true;
        if (result == REPL_FAILED)
            seam_judge_stream(receiver->follow->params.slot, err);
        if (result == REPL_FAILED || (result == REPL_DATA && !take_data(receiver, &data, err)))
            return false;
        /* Inside a transaction everything waits for its end; the deadline, passed or not, does no harm. */
        if (receiver->in_transaction && result == REPL_DATA)
            continue;
        repl_acknowledge(receiver->stream, confirmable(receiver->follow));
        if (!receiver->in_transaction && !settle(receiver, result == REPL_TIMEOUT, err))
            return false;
        deadline = receive_deadline(receiver);
    }
}

static bool wait_for_position(Follow *follow) {
    (void)pthread_mutex_lock(&follow->lock);
    while (!follow->has_position && !stop_requested(&follow->stop))
        follow_wait_changed(follow, 0);
    bool has = follow->has_position;
    (void)pthread_mutex_unlock(&follow->lock);
    return has;
}

static bool open_stream(Receiver *receiver, Error *err) {
    Follow *follow = receiver->follow;
    ReplStart start = {.slot = follow->params.slot,
                       .publications = follow->params.publications,
                       .lsn = follow->start.lsn,
                       .messages = true,
                       .unconfirmed = confirmable(follow) < follow->start.lsn,
                       .pull = true};

    if (!repl_stream_open(follow->params.source_target, &start, &follow->stop, &receiver->stream, err))
        return false;
    (void)pthread_mutex_lock(&follow->lock);
    follow->is_streaming = true;
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->lock);
    return true;
}

static void init(Receiver *receiver) {
    Lsn start = receiver->follow->start.lsn;

    receiver->start = start;
    receiver->progress = start;
    receiver->pushed = start;
    receiver->confirmed = start;
    receiver->advanced_us = clock_now_us();
    receiver_note_progress(receiver, start);
    receiver_know_tables(receiver);
}

void *receiver_main(void *context) {
    Receiver receiver = {.follow = context, .decoded = arena_new()};
    Error err = {0};

    log_thread_name("receive");
    if (wait_for_position(receiver.follow)) {
        init(&receiver);
        if (!open_stream(&receiver, &err) || !receive_all(&receiver, &err))
            follow_fail(receiver.follow, &err);
    }
    if (receiver.stream != NULL)
        repl_acknowledge(receiver.stream, confirmable(receiver.follow));
    repl_stream_closep(&receiver.stream);
    arena_free(receiver.decoded);
    return NULL;
}
