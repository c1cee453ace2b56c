/*
 * Which jobs are this node's.
 *
 * NOTES
 * A lease is acquired and renewed in the store, and asked for (lease_check()) in every transaction that acts for a job;
 * what this node remembers of it is only a reason to try. A node that slept longer than its leases last therefore
 * changes nothing in the store behind its successor. It may still have started a session between its last transaction
 * and its sleep: that session and the successor's take the ledger's epoch on the destination from each other, and the
 * node that has the lease begins its own again (a seat that was FENCED is LOST), the other does not.
 */
#include "common/clock.h"
#include "common/heap.h"
#include "common/log.h"
#include "jobs/instance.h"
#include "supervise/supervisor_internal.h"

#include <string.h>

static const int64_t beat_us = 3 * USEC_PER_SEC;

Held *held_find(const Supervisor *this, const char *job) {
    for (size_t at = 0; at < this->held_count; at++)
        if (strcmp(this->held[at]->name, job) == 0)
            return this->held[at];
    return NULL;
}

static const char *lease_name(Arena *arena, const char *job) {
    return arena_printf(arena, "job:%s", job);
}

/* A server that was made on another node is that node's to fill: only there it can be reached for certain. A job that
 * is to go by force is anybody's, since that node may be gone for good. */
static bool is_elsewhere(const Supervisor *this, StoreTx *tx, Arena *arena, const char *job, bool *ret_is, Error *err) {
    CLEANUP(record_fini) Record record = {0}, profile = {0}, instance = {0};

    *ret_is = false;
    if (!job_load(tx, job, &record, err) ||
        !record_load(tx, STORE_CONNECTION_PROFILE, json_get_string(record.api, "destination", ""), &profile, err))
        return err->reason == REASON_NO_RESOURCE;
    const char *name = profile_instance(arena, &profile);
    bool forced = job_view(&record).state == JOB_DELETING &&
                  json_get_bool(json_object_get(record.run, job_run_WISH), "force", false);
    if (name == NULL || forced)
        return true;
    if (!instance_load(tx, name, &instance, err))
        return err->reason == REASON_NO_RESOURCE;
    const char *home = json_get_string(instance.run, instance_run_HOME, "");
    *ret_is = home[0] != '\0' && strcmp(home, this->home) != 0;
    return true;
}

bool lease_take(const Supervisor *this, StoreTx *tx, const char *job, int64_t *ret_epoch, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Held *held = held_find(this, job);
    StoreLease lease = {0};
    bool acquired = false, elsewhere = false;

    *ret_epoch = 0;
    if (held != NULL && lease_check(this, tx, held, err)) {
        *ret_epoch = held->epoch;
        return true;
    }
    if (held != NULL && err->reason != REASON_LEASE_LOST)
        return false;
    if (!is_elsewhere(this, tx, arena, job, &elsewhere, err))
        return false;
    if (elsewhere)
        return true;
    if (!store_lease_acquire(tx, lease_name(arena, job), this->node, SUPERVISOR_LEASE_US, &lease, &acquired, err))
        return false;
    *ret_epoch = acquired ? lease.epoch : 0;
    return true;
}

bool lease_give_back(const Supervisor *this, StoreTx *tx, const char *job, int64_t epoch, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    return store_lease_release(tx, lease_name(arena, job), this->node, epoch, err);
}

Held *held_add(Supervisor *this, const char *job, int64_t epoch) {
    Held *held = held_find(this, job);

    if (held == NULL) {
        if (this->held_count == this->held_room) {
            size_t room = this->held_room == 0 ? 64 : this->held_room * 2;
            Held **more = arena_array(this->arena, Held *, room);
            for (size_t at = 0; at < this->held_count; at++)
                more[at] = this->held[at];
            this->held = more;
            this->held_room = room;
        }
        held = heap_alloc(sizeof(*held));
        *held = (Held){.asked = json_object()};
        (void)snprintf(held->name, sizeof(held->name), "%s", job);
        this->held[this->held_count++] = held;
        log_info("%s is this node's", job);
    }
    held->epoch = epoch;
    held->at_rest = false;
    return held;
}

void held_drop(Supervisor *this, Held *held) {
    for (size_t at = 0; at < this->held_count; at++)
        if (this->held[at] == held) {
            this->held[at] = this->held[--this->held_count];
            json_freep(&held->progress);
            json_freep(&held->asked);
            heap_free(held);
            return;
        }
}

bool lease_check(const Supervisor *this, StoreTx *tx, const Held *held, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    return store_lease_check(tx, lease_name(arena, held->name), this->node, held->epoch, err);
}

/* ---- Renewal ---- */

typedef struct Renewal {
    const Supervisor *this;
    bool *lost;
} Renewal;

static bool renew(StoreTx *tx, void *context, Error *err) {
    const Renewal *renewal = context;
    const Supervisor *this = renewal->this;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const StoreNode node = {
        .id = this->node, .address = this->config.address, .body = "{}", .ttl_us = SUPERVISOR_LEASE_US};

    if (!store_node_beat(tx, &node, err))
        return false;
    for (size_t at = 0; at < this->held_count; at++) {
        const Held *held = this->held[at];

        renewal->lost[at] =
            !store_lease_renew(tx, lease_name(arena, held->name), this->node, held->epoch, SUPERVISOR_LEASE_US, err);
        if (renewal->lost[at] && err->reason != REASON_LEASE_LOST)
            return false;
    }
    return true;
}

bool leases_renew(Supervisor *this, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Renewal renewal = {.this = this, .lost = arena_array(arena, bool, this->held_count + 1)};

    if (clock_now_us() < this->next_beat_us)
        return true;
    if (!store_write(this->config.store, arena, renew, &renewal, err))
        return false;
    this->next_beat_us = clock_now_us() + beat_us;
    for (size_t at = this->held_count; at-- > 0;)
        if (renewal.lost[at]) {
            log_warning("%s is another node's now", this->held[at]->name);
            held_drop(this, this->held[at]);
        }
    return true;
}

/* ---- Giving back ---- */

typedef struct Release {
    const Supervisor *this;
    bool all;
} Release;

static bool release(StoreTx *tx, void *context, Error *err) {
    const Release *wanted = context;
    const Supervisor *this = wanted->this;
    CLEANUP(arena_freep) Arena *arena = arena_new();

    for (size_t at = 0; at < this->held_count; at++) {
        const Held *held = this->held[at];

        if ((wanted->all || held->at_rest) &&
            !store_lease_release(tx, lease_name(arena, held->name), this->node, held->epoch, err) &&
            err->reason != REASON_LEASE_LOST)
            return false;
    }
    return !wanted->all || store_node_remove(tx, this->node, err);
}

bool leases_release(Supervisor *this, bool all, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Release wanted = {.this = this, .all = all};
    bool any = all;

    for (size_t at = 0; at < this->held_count; at++)
        any = any || this->held[at]->at_rest;
    if (!any)
        return true;
    if (!store_write(this->config.store, arena, release, &wanted, err))
        return false;
    for (size_t at = this->held_count; at-- > 0;)
        if (all || this->held[at]->at_rest)
            held_drop(this, this->held[at]);
    return true;
}
