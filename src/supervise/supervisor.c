/*
 * The supervisor's thread.
 *
 * NOTES
 * The store being away is no reason to end anything: what runs goes on running, each turn tries again, and it is said
 * once. The same for a job whose look fails: the others are looked at all the same.
 *
 * Turns are short of each other while there is something to look at; nothing wakes the thread but time, so that a store
 * that is shared and one that is not behave alike.
 */
#include "supervise/provision.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/heap.h"
#include "common/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { ROUNDS_MAX = 4 };
static const int64_t busy_us = 200 * USEC_PER_MSEC, idle_us = 500 * USEC_PER_MSEC;

struct SupervisorThread {
    Supervisor supervisor;
    pthread_t thread;
};

/* ---- Turns ---- */

/* A job that is gone, or another node's, is not ours to look at; any other trouble is said and tried again. */
static void look_at(Supervisor *this, Held *held) {
    Error err;

    if (job_look(this, held, &err))
        return;
    if (err.reason == REASON_NO_RESOURCE)
        held->at_rest = true;
    else if (err.reason == REASON_LEASE_LOST)
        held_drop(this, held);
    else if (err.reason != REASON_CANCELLED)
        log_warning("%s: %s", held->name, err.message);
}

static void look_at_all(Supervisor *this) {
    for (size_t at = this->held_count; at-- > 0 && !stop_requested(&this->stop);)
        look_at(this, this->held[at]);
}

/* Some at a time: there may always be one that is due again. */
static bool take_actions(Supervisor *this, Error *err) {
    bool some = true;

    for (int round = 0; some && round < ROUNDS_MAX && !stop_requested(&this->stop); round++)
        if (!actions_take(this, &some, err))
            return false;
    return true;
}

static bool turn(Supervisor *this, Error *err) {

    children_reap(this->children);
    if (!leases_renew(this, err) || !take_actions(this, err) || !instances_look(this, err) || !jobs_scan(this, err))
        return false;
    look_at_all(this);
    return leases_release(this, false, err);
}

static void note_store(Supervisor *this, bool ok, const Error *err) {
    if (ok && this->store_away)
        log_info("the store is back");
    if (!ok && !this->store_away && err->reason != REASON_CANCELLED)
        log_error_value(LOG_WARNING, err);
    this->store_away = !ok;
}

static void *work(void *context) {
    Supervisor *this = context;

    while (!stop_requested(&this->stop)) {
        Error err = {0};
        bool ok = turn(this, &err);

        note_store(this, ok, &err);
        int64_t pause_us = this->held_count > 0 ? busy_us : idle_us;
        (void)stop_wait_fd(&this->stop, -1, 0, clock_now_us() + pause_us);
    }
    return NULL;
}

/* ---- Beginning and end ---- */

static const char *random_word(Arena *arena) {
    unsigned char bytes[8];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        abort();
    char *word = arena_alloc(arena, 2 * sizeof(bytes) + 1);
    for (size_t at = 0; at < sizeof(bytes); at++) {
        word[2 * at] = "0123456789abcdef"[bytes[at] >> 4];
        word[2 * at + 1] = "0123456789abcdef"[bytes[at] & 15];
    }
    return word;
}

/* What seats remember of where they are: a folder that is moved stays the same one. */
static bool find_home(Supervisor *this, Error *err) {
    const char *path = arena_printf(this->arena, "%s/node-id", this->config.state_dir);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, 64);
    if (access(path, F_OK) == 0) {
        if (!fd_read_file(path, &text, err))
            return error_wrap(err, "the name of this node");
        this->home = arena_strndup(this->arena, text.data, strcspn(text.data, "\n"));
    }
    if (this->home != NULL && this->home[0] != '\0')
        return true;
    this->home = random_word(this->arena);
    const char *line = arena_printf(this->arena, "%s\n", this->home);
    return fd_write_file(path, line, strlen(line), 0600, err) || error_wrap(err, "the name of this node");
}

bool supervisor_new(const SupervisorConfig *config, Supervisor **ret_supervisor, Error *err) {
    struct SupervisorThread *this = heap_new_of(struct SupervisorThread);
    Supervisor *supervisor = &this->supervisor;

    *supervisor = (Supervisor){.config = *config, .arena = arena_new(), .children = children_new()};
    supervisor->node = random_word(supervisor->arena);
    bool ok = find_home(supervisor, err) && stop_init(&supervisor->stop, err);
    if (ok && pthread_create(&this->thread, NULL, work, supervisor) != 0)
        ok = error_set(err, REASON_SYSTEM, "cannot start a thread");
    if (!ok) {
        children_freep(&supervisor->children);
        arena_free(supervisor->arena);
        heap_free(this);
        return false;
    }
    *ret_supervisor = supervisor;
    return true;
}

void supervisor_freep(Supervisor **supervisor) {
    Supervisor *this = *supervisor;
    Error err;

    if (this == NULL)
        return;
    stop_request(&this->stop);
    (void)pthread_join(((struct SupervisorThread *)this)->thread, NULL);
    if (!leases_release(this, true, &err))
        log_warning("the leases of this node run out by themselves: %s", err.message);
    while (this->held_count > 0)
        held_drop(this, this->held[0]);
    children_freep(&this->children);
    stop_fini(&this->stop);
    arena_free(this->arena);
    heap_free(this);
    *supervisor = NULL;
}
