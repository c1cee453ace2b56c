/*
 * Entries of the outbox.
 *
 * NOTES
 * What an action of a job asks for stands in the job itself, since the same transaction: its state, and its launch,
 * which says which sessions are due (seat.c). So a look that comes before the entry sees the same as one that comes
 * after it, and all the entry does is to bring the job to a node. Errands stand nowhere else.
 *
 * An entry of a job that another node has is put back: that node takes it within a second.
 */
#include "common/clock.h"
#include "common/log.h"
#include "jobs/errand.h"
#include "jobs/fact.h"
#include "jobs/instance.h"
#include "model/status.h"
#include "supervise/supervisor_internal.h"

#include <string.h>

enum { TAKEN_MAX = 32 };
static const int64_t span_us = 30 * USEC_PER_SEC, put_back_us = 200 * USEC_PER_MSEC,
                     look_again_us = 500 * USEC_PER_MSEC, look_soon_us = 100 * USEC_PER_MSEC;

typedef struct Entry {
    Supervisor *this;
    const StoreAction *action;
    int64_t epoch; /* of the lease; 0 = another node has it, or there is none to have */
    bool is_errand;
    bool later; /* it is not over yet */
    ErrandEnd end;
} Entry;

/* ---- What each action asks for ---- */

/* A server that the service makes is made with its profile; a job only waits for that. */
static bool see_profile(StoreTx *tx, Arena *arena, const char *job, bool *ret_later, Error *err) {
    CLEANUP(record_fini) Record record = {0}, profile = {0};
    Error why;
    bool taken = false;

    if (!job_load(tx, job, &record, err))
        return false;
    const char *name = json_get_string(record.api, "destination", "");
    if (!record_load(tx, STORE_CONNECTION_PROFILE, name, &profile, err))
        return false;
    *ret_later = strcmp(profile.resource.state, "CREATING") == 0;
    if (*ret_later)
        return true;
    if (strcmp(profile.resource.state, "READY") == 0)
        return job_fact(tx, arena, job, &(Fact){.event = EVENT_PREPARED}, &taken, err);
    error_set(&why, REASON_PROVISION_FAILED, "the server of %s could not be made: %s", name,
              json_get_string(json_object_get(profile.api, "error"), "message", "it is gone"));
    error_remedy(&why, "mend the cause, make another profile, and name it as the job's destination");
    why.retryable = false;
    return job_fact(tx, arena, job, &(Fact){.event = EVENT_FATAL, .error = &why}, &taken, err);
}

static bool prepare(StoreTx *tx, const char *job, bool *ret_later, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    return see_profile(tx, arena, job, ret_later, err);
}

static bool nothing(StoreTx *tx UNUSED, const char *job UNUSED, bool *ret_later UNUSED, Error *err UNUSED) {
    return true;
}

/* *ret_later: it is to be looked at once more. */
static bool (*const job_actions[ACTION_MAX_])(StoreTx *tx, const char *job, bool *ret_later, Error *err) = {
    [ACTION_NOTHING] = nothing,
    [ACTION_PREPARE] = prepare,
    [ACTION_SPAWN_WORKER] = nothing, /* the job's launch says it */
    [ACTION_SPAWN_ANEW] = nothing,   /* so it does */
    [ACTION_SPAWN_FAILED] = objects_begin_failed,
    [ACTION_ASK_STOP] = nothing,    /* the state says it */
    [ACTION_ASK_PROMOTE] = nothing, /* so it does */
    [ACTION_TIDY_SOURCE] = nothing, /* a session that is done has tidied up */
    [ACTION_PURGE] = nothing,       /* the state and the launch say it */
};

static bool find_action(const char *name, JobAction *ret_action) {
    for (JobAction action = 0; action < ACTION_MAX_; action++)
        if (strcmp(job_action_name(action), name) == 0) {
            *ret_action = action;
            return true;
        }
    return false;
}

/* One that was overtaken: the job is gone. */
static bool run_action(StoreTx *tx, Entry *entry, JobAction action, Error *err) {
    return job_actions[action](tx, entry->action->owner, &entry->later, err) || err->reason == REASON_NO_RESOURCE;
}

/* ---- Cancelling ---- */

static StoreKind kind_of(const StoreAction *action) {
    return strstr(action->owner, "/migrationJobs/") != NULL ? STORE_MIGRATION_JOB
           : strstr(action->owner, "/instances/") != NULL   ? STORE_INSTANCE
                                                            : STORE_CONNECTION_PROFILE;
}

/* Only a promote of the whole job is taken back here. Errands see for themselves that they are called off (errands.c);
 * what else a job is asked for, another verb takes back. */
static bool cancel(StoreTx *tx, const StoreAction *action, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *body = NULL;
    CLEANUP(record_fini) Record job = {0};

    if (kind_of(action) != STORE_MIGRATION_JOB || !json_parse(action->body, strlen(action->body), &body, err) ||
        !job_load(tx, action->owner, &job, err))
        return kind_of(action) != STORE_MIGRATION_JOB || err->reason == REASON_NO_RESOURCE;
    const char *wanted = json_get_string(body, "operation", "");
    const json_t *last = job_operation(&job);
    if (strcmp(json_get_string(last, "name", ""), wanted) != 0 ||
        strcmp(json_get_string(last, "verb", ""), job_event_verb(EVENT_USER_PROMOTE)) != 0)
        return true;
    (void)json_object_set_new(job.run, job_run_CANCEL, json_string(wanted));
    return job_log(tx, action->owner, "CANCEL", "the promote is to be taken back", NULL, err) &&
           job_save(tx, arena, &job, err);
}

/* ---- Errands ---- */

static bool find_errand(const char *name, Errand *ret_errand) {
    for (Errand errand = 0; errand < ERRAND_MAX_; errand++)
        if (strcmp(errand_name(errand), name) == 0) {
            *ret_errand = errand;
            return true;
        }
    return false;
}

/* What an operation is answered with; new reference, NULL = the resource is gone. */
static bool render_owner(StoreTx *tx, Arena *arena, const StoreAction *action, json_t **ret_answer, Error *err) {
    CLEANUP(record_fini) Record record = {0};

    *ret_answer = NULL;
    if (!record_load(tx, kind_of(action), action->owner, &record, err))
        return err->reason == REASON_NO_RESOURCE;
    *ret_answer = kind_of(action) == STORE_MIGRATION_JOB ? job_render(&record, arena)
                  : kind_of(action) == STORE_INSTANCE    ? instance_render(&record, arena)
                                                         : record_render(&record, arena);
    return true;
}

static bool note_metadata(StoreTx *tx, Arena *arena, json_t *metadata, const char *operation, Error *err) {
    const char *key;
    json_t *value;

    json_object_foreach(metadata, key, value) {
        if (!operation_note(tx, arena, operation, key, value, err))
            return false;
    }
    return true;
}

static bool end_errand(StoreTx *tx, const Entry *entry, Errand errand, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *body = NULL;
    CLEANUP(json_freep) json_t *answer = NULL;
    const StoreAction *action = entry->action;
    const ErrandEnd *end = &entry->end;

    if (!json_parse(action->body, strlen(action->body), &body, err) ||
        (end->extra != NULL && !end->extra(tx, end->context, err)))
        return false;
    const char *operation = json_get_string(body, "operation", "");
    if (!note_metadata(tx, arena, end->metadata, operation, err) ||
        (end->apart != NULL && !operation_keep_apart(tx, arena, operation, end->apart, err)))
        return false;
    answer = json_incref(end->answer);
    if (!end->refused && end->type != NULL && answer == NULL && !render_owner(tx, arena, action, &answer, err))
        return false;
    return errand_end(tx, arena, kind_of(action), action->owner, errand, operation, end->refused ? end->status : NULL,
                      answer != NULL ? end->type : NULL, answer, err);
}

/* ---- One entry ---- */

static bool carry_out(StoreTx *tx, Entry *entry, Error *err) {
    JobAction action;
    Errand errand;

    if (find_action(entry->action->action, &action))
        return run_action(tx, entry, action, err);
    if (find_errand(entry->action->action, &errand))
        return end_errand(tx, entry, errand, err);
    if (strcmp(entry->action->action, OPERATION_CANCEL) == 0)
        return cancel(tx, entry->action, err);
    log_warning("%s: nobody knows the action %s", entry->action->owner, entry->action->action);
    return true;
}

/* Behind all else of its owner, which would wait as long as this does: a promote may wait for hours. */
static bool look_again(StoreTx *tx, const StoreAction *action, bool soon, Error *err) {
    int64_t pause_us = soon ? look_soon_us : look_again_us;
    StoreAction again = {.owner = action->owner, .action = action->action, .body = action->body};

    return store_outbox_add(tx, &again, err) && store_outbox_postpone(tx, again.id, 0, pause_us, err) &&
           store_outbox_done(tx, action->id, action->attempt, err);
}

static bool say(StoreTx *tx, const Entry *entry, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *body = NULL;

    return entry->end.say == NULL ||
           (json_parse(entry->action->body, strlen(entry->action->body), &body, err) &&
            operation_say(tx, arena, json_get_string(body, "operation", ""), entry->end.say, err));
}

static bool settle(StoreTx *tx, Entry *entry, Error *err) {
    const StoreAction *action = entry->action;

    entry->later = false;
    if (entry->is_errand && !say(tx, entry, err))
        return false;
    if (entry->is_errand && !entry->end.over)
        return look_again(tx, action, entry->end.soon, err);
    if (!carry_out(tx, entry, err))
        return false;
    return entry->later ? look_again(tx, action, false, err) : store_outbox_done(tx, action->id, action->attempt, err);
}

/* An errand needs the job for the moment: nobody has it, or this node does. */
static bool give_back(StoreTx *tx, Entry *entry, Error *err) {
    int64_t epoch = entry->epoch;

    if (epoch == 0 || !entry->is_errand || held_find(entry->this, entry->action->owner) != NULL)
        return true;
    entry->epoch = 0;
    return lease_give_back(entry->this, tx, entry->action->owner, epoch, err);
}

/* Another node may have been given the entry meanwhile: then nothing of this stays. */
static bool handle(StoreTx *tx, void *context, Error *err) {
    Entry *entry = context;
    const StoreAction *action = entry->action;

    entry->epoch = 0;
    if (strstr(action->owner, "/migrationJobs/") != NULL &&
        !lease_take(entry->this, tx, action->owner, &entry->epoch, err))
        return false;
    if (strstr(action->owner, "/migrationJobs/") != NULL && entry->epoch == 0)
        return store_outbox_postpone(tx, action->id, action->attempt, put_back_us, err);
    return settle(tx, entry, err) && give_back(tx, entry, err);
}

typedef struct Taken {
    const Supervisor *this;
    StoreAction *actions;
    size_t count;
} Taken;

static bool take(StoreTx *tx, void *context, Error *err) {
    Taken *taken = context;

    return store_outbox_take(tx, taken->this->node, NULL, span_us, TAKEN_MAX, &taken->actions, &taken->count, err);
}

static bool take_entry(Supervisor *this, const StoreAction *action, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Errand errand;
    Entry entry = {.this = this, .action = action, .is_errand = find_errand(action->action, &errand)};

    if (entry.is_errand && !errand_look(this, arena, action, &entry.end, err))
        return false;
    bool ok = store_write(this->config.store, arena, handle, &entry, err);
    json_freep(&entry.end.status);
    json_freep(&entry.end.answer);
    json_freep(&entry.end.apart);
    json_freep(&entry.end.metadata);
    if (ok && entry.is_errand && entry.end.over)
        errand_tidy(this, action);
    if (ok && entry.epoch > 0)
        (void)held_add(this, action->owner, entry.epoch);
    return ok || err->reason == REASON_LEASE_LOST || error_wrap(err, "%s of %s", action->action, action->owner);
}

bool actions_take(Supervisor *this, bool *ret_some, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Taken taken = {.this = this};

    if (!store_write(this->config.store, arena, take, &taken, err))
        return false;
    *ret_some = taken.count > 0;
    for (size_t at = 0; at < taken.count; at++)
        if (!take_entry(this, &taken.actions[at], err))
            return false;
    return true;
}
