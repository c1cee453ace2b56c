/*
 * A promote, from the side of following: when it is due, what is shown meanwhile, and how often an automatic one is
 * tried.
 *
 * The main thread walks through the promote, so another one tells the numbers for as long as that lasts. It ends before
 * anything that it reads is touched: before the Follow is ended, and before the loop goes on.
 *
 * An automatic promote that was undone stopped writes for a moment, and ran the hooks; a transaction that never ends
 * would have that happen for ever. So it is tried a few times, with growing pauses, and then the run ends with the
 * reason.
 */
#include "common/clock.h"
#include "common/log.h"
#include "worker/following.h"

#include <string.h>

#define TELL_US (200 * USEC_PER_MSEC)
#define PAUSE_US (5 * USEC_PER_SEC) /* after the first that is undone; five times as long after each further one */

enum { AUTOMATIC_TRIES = 3, PAUSE_GROWS = 5 };

static bool is_automatic(const Following *following) {
    return strcmp(following->run->options.promote, "auto") == 0;
}

bool following_promote_is_due(Following *following) {
    Run *run = following->run;

    (void)pthread_mutex_lock(&run->request.lock);
    bool due = run->request.pending;
    (void)pthread_mutex_unlock(&run->request.lock);
    return due || (is_automatic(following) && following->state == CDC_FOLLOWING &&
                   clock_now_us() >= following->promote_due_us);
}

/* ---- What is shown meanwhile ---- */

static void *tell_thread(void *argument) {
    Following *following = argument;

    log_thread_name("teller");
    while (stop_wait_fd(&following->teller.stop, -1, 0, clock_now_us() + TELL_US) == WAIT_TIMEOUT)
        following_tell(following);
    return NULL;
}

/* Without it the promote goes on as well. */
static void start_teller(Following *following) {
    Teller *teller = &following->teller;
    Error err = {0};

    if (!stop_init(&teller->stop, &err)) {
        log_error_value(LOG_WARNING, &err);
        return;
    }
    teller->running = pthread_create(&teller->thread, NULL, tell_thread, following) == 0;
    if (!teller->running)
        stop_fini(&teller->stop);
}

static void end_teller(Following *following) {
    Teller *teller = &following->teller;

    if (!teller->running)
        return;
    stop_request(&teller->stop);
    (void)pthread_join(teller->thread, NULL);
    stop_fini(&teller->stop);
    teller->running = false;
}

/* Nobody knows how it ended: until that is settled nothing may be followed, since the destination may be open. */
static void on_unsettled(void *context) {
    Following *following = context;

    end_teller(following);
    follow_stopp(&following->follow);
}

/* The last numbers stay, for the report. */
static void on_opened(void *context) {
    Following *following = context;

    end_teller(following);
    if (following->follow == NULL) {
        following_tell_state(following, CDC_PROMOTED);
        return;
    }
    following->state = CDC_PROMOTED;
    following_tell(following);
    follow_stopp(&following->follow);
}

/* ---- An automatic one ---- */

static bool give_up(const Following *following, Error *err) {
    const Run *run = following->run;
    const PromoteResult *last = &run->promoted;

    error_set(err, REASON_PROMOTE_UNDONE, "an automatic promote was undone %d times, the last one: %s", AUTOMATIC_TRIES,
              last->cause != NULL ? last->cause : run->refusal.message);
    return error_remedy(err,
                        "nothing is lost: the source is writable as before, and its slot stays. %s%smend what is named,"
                        " then run the same command again; or without --promote auto, and pgcrane promote when it fits",
                        last->cause_remedy != NULL ? last->cause_remedy : "",
                        last->cause_remedy != NULL && last->cause_remedy[0] != '\0' ? ". Or " : "");
}

/* False: the run ends with it. What is not settled is settled first, whatever the number. */
static bool try_later(Following *following, Error *err) {
    Run *run = following->run;
    int64_t pause = PAUSE_US;

    if (run->refusal.reason != REASON_PROMOTE_UNDONE && !run->promote_unsettled) {
        *err = run->refusal;
        return false;
    }
    following->promotes_undone++;
    if (following->promotes_undone >= AUTOMATIC_TRIES)
        return run->promote_unsettled || give_up(following, err);
    for (int i = 1; i < following->promotes_undone; i++)
        pause *= PAUSE_GROWS;
    following->promote_due_us = clock_now_us() + pause;
    run_event(run, "warning", "%s; promoting again in %lld s (%d of %d)", run->refusal.message,
              (long long)(pause / USEC_PER_SEC), following->promotes_undone + 1, AUTOMATIC_TRIES);
    return true;
}

/* ---- The promote ---- */

static bool walk_through(Following *following, bool *ret_opened, Error *err) {
    const PromoteSubject subject = {
        .follow = following->follow,
        .tables = following->tables,
        .count = following->tables_count,
        .opened = on_opened,
        .unsettled = on_unsettled,
        .context = following,
    };

    following->state = CDC_PROMOTING;
    following_tell(following);
    start_teller(following);
    bool ok = run_promote(following->run, &subject, ret_opened, err);
    end_teller(following);
    return ok;
}

bool following_promote(Following *following, bool *ret_opened, Error *err) {
    Run *run = following->run;

    if (is_automatic(following) && following->promotes_undone >= AUTOMATIC_TRIES)
        return give_up(following, err);
    if (!walk_through(following, ret_opened, err))
        return false;
    following->state = *ret_opened ? CDC_PROMOTED : CDC_CATCHING_UP;
    following->mended_for_promote = false;
    bool refused = run->promote_refused && !run->promote_asked; /* who asked knows, and asks again when it fits */
    return *ret_opened || !is_automatic(following) || !refused || try_later(following, err);
}
