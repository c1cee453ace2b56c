/* Where following stands, for the control plane: lag, rates, the busiest tables, what is wrong. */
#include "common/clock.h"
#include "worker/following.h"

#define CAUGHT_UP_LAG_US (2 * USEC_PER_SEC)

enum { TABLES_SHOWN = 20, PROBLEMS_SHOWN = 20, CAUGHT_UP_BYTES = 16 << 20 };

/* The stream's clock is the source's, as of its last word. One that says nothing while the source writes is deaf. */
static int64_t silence_us(Following *following, const FollowStatus *status) {
    int64_t now = clock_now_us();

    if (status->server_time_us != following->heard_time_us || following->heard_us == 0) {
        following->heard_time_us = status->server_time_us;
        following->heard_us = now;
        if (status->server_time_us != 0)
            atomic_store(&following->run->heard_us, now);
    }
    int64_t silence = now - following->heard_us;
    return silence > RUN_SILENCE_US && status->received < watch_current(following->run) ? silence : 0;
}

static int64_t lag_us(const FollowStatus *status) {
    if (status->pending_time_us != 0)
        return MAX(status->server_time_us - status->pending_time_us, 0);
    if (status->applied_time_us != 0 && status->received + CAUGHT_UP_BYTES < status->source_end)
        return MAX(status->server_time_us - status->applied_time_us, 0);
    return 0;
}

static const Sample *oldest_sample(const Following *following) {
    return &following
                ->samples[following->samples_count > FOLLOWING_SAMPLES ? following->samples_count % FOLLOWING_SAMPLES
                                                                       : 0];
}

static void add_sample(Following *following, const FollowStatus *status, int64_t lag_bytes) {
    following->samples[following->samples_count++ % FOLLOWING_SAMPLES] =
        (Sample){.at_us = clock_now_us(), .lag_bytes = lag_bytes, .counts = status->counts};
}

static void fill_rates(const Following *following, const FollowStatus *status, CdcProgress *cdc) {
    const Sample *old = oldest_sample(following);
    double seconds = (double)(clock_now_us() - old->at_us) / USEC_PER_SEC;

    cdc->eta_us = cdc->state == CDC_FOLLOWING ? 0 : -1;
    if (following->samples_count < 2 || seconds < 0.1)
        return;
    cdc->inserts_rate = (double)(status->counts.inserts - old->counts.inserts) / seconds;
    cdc->updates_rate = (double)(status->counts.updates - old->counts.updates) / seconds;
    cdc->deletes_rate = (double)(status->counts.deletes - old->counts.deletes) / seconds;
    double gained = (double)(old->lag_bytes - cdc->lag_bytes) / seconds;
    if (cdc->eta_us < 0 && gained > 1)
        cdc->eta_us = (int64_t)((double)cdc->lag_bytes / gained * USEC_PER_SEC);
}

static void fill_tables(const Following *following, Arena *arena, CdcProgress *cdc) {
    FollowTableCount *counts = NULL;
    size_t count = 0;

    follow_tables(following->follow, arena, &counts, &count);
    for (size_t i = 0; i < MIN(count, (size_t)TABLES_SHOWN); i++) {
        CdcTable table = {.name = counts[i].display,
                          .inserts = counts[i].inserts,
                          .updates = counts[i].updates,
                          .deletes = counts[i].deletes,
                          .truncates = counts[i].truncates};

        vec_push(arena, &cdc->tables, table);
    }
}

static void fill_problems(const Following *following, Arena *arena, CdcProgress *cdc) {
    for (size_t i = 0; i < following->suspects.len && cdc->problems.len < PROBLEMS_SHOWN; i++)
        vec_push(arena, &cdc->problems, following->suspects.items[i]);
    for (size_t i = 0; i < following->unrepeated.len && cdc->problems.len < PROBLEMS_SHOWN; i++)
        vec_push(arena, &cdc->problems, following->unrepeated.items[i]);
    for (size_t i = 0; i < following->drifts.len && cdc->problems.len < PROBLEMS_SHOWN; i++)
        if (!following->drifts.items[i].note)
            vec_push(
                arena, &cdc->problems,
                arena_printf(arena, "%s: %s", following->drifts.items[i].object, following->drifts.items[i].message));
}

static CdcState judge_state(const Following *following, const CdcProgress *cdc) {
    if (following->state == CDC_PROMOTING || following->state == CDC_PROMOTED)
        return following->state;
    return cdc->lag_us <= CAUGHT_UP_LAG_US && cdc->lag_bytes <= CAUGHT_UP_BYTES ? CDC_FOLLOWING : CDC_CATCHING_UP;
}

void following_tell(Following *following) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    FollowStatus status;

    follow_status(following->follow, &status);
    /* Behind a backlog the stream only tells how far it is itself. */
    status.source_end = MAX(status.source_end, watch_current(following->run));
    CdcProgress cdc = {
        .applied_lsn = lsn_format(arena, status.applied),
        .source_lsn = lsn_format(arena, status.source_end),
        .lag_bytes = status.source_end > status.applied ? (int64_t)(status.source_end - status.applied) : 0,
        .lag_us = lag_us(&status) + silence_us(following, &status),
        .transactions = status.transactions,
        .inserts = status.counts.inserts,
        .updates = status.counts.updates,
        .deletes = status.counts.deletes,
        .truncates = status.counts.truncates,
        .ddl = (int64_t)atomic_load(&following->ddl),
    };
    cdc.state = status.source_end == 0 ? CDC_CATCHING_UP : judge_state(following, &cdc);
    following->state = cdc.state;
    fill_rates(following, &status, &cdc);
    add_sample(following, &status, cdc.lag_bytes);
    watch_fill(following->run, arena, &cdc);
    fill_tables(following, arena, &cdc);
    fill_problems(following, arena, &cdc);
    tracker_set_cdc(following->run->tracker, &cdc);
}

void following_tell_state(Following *following, CdcState state) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CdcProgress cdc = {
        .state = state, .lag_bytes = -1, .lag_us = -1, .eta_us = -1, .applied_lsn = "", .source_lsn = ""};

    following->state = state;
    watch_fill(following->run, arena, &cdc);
    tracker_set_cdc(following->run->tracker, &cdc);
}
