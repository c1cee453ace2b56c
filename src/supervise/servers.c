/*
 * Errands about servers that the service makes: they wait for what provision.c does with the instance's record.
 *
 * PROVISION looks first at the source that the server is made for, when there is one (sourceId), for its encoding and
 * locale; and ends with the profile READY or FAILED. One that goes on failing for what may pass says so, and may be
 * called off between two attempts. DEPROVISION of a profile removes it, and with `force` the server,
 * too; of an instance it is the server alone, whose record says since the request that it shall be gone.
 */
#include "common/log.h"
#include "supervise/endpoint.h"
#include "supervise/errands.h"
#include "supervise/provision.h"

#include <string.h>

typedef struct Ask {
    const Errands *errands;
    Record profile, instance;
    bool has_profile, has_instance;
} Ask;

static void ask_fini(Ask *ask) {
    record_fini(&ask->profile);
    record_fini(&ask->instance);
    *ask = (Ask){.errands = ask->errands};
}

static bool is_about_instance(const Errands *errands) {
    return strstr(errands->action->owner, "/instances/") != NULL;
}

/* One that is gone is none. */
static bool load_if(bool ok, bool *ret_has, const Error *err) {
    *ret_has = ok;
    return ok || err->reason == REASON_NO_RESOURCE;
}

static bool load(StoreTx *tx, void *context, Error *err) {
    Ask *ask = context;
    const Errands *errands = ask->errands;
    const char *name = errands->action->owner;

    ask_fini(ask);
    if (!is_about_instance(errands)) {
        if (!load_if(record_load(tx, STORE_CONNECTION_PROFILE, name, &ask->profile, err), &ask->has_profile, err))
            return false;
        name = ask->has_profile ? profile_instance(errands->arena, &ask->profile) : NULL;
    }
    return name == NULL || load_if(instance_load(tx, name, &ask->instance, err), &ask->has_instance, err);
}

static bool ask_store(Ask *ask, Error *err) {
    return store_read(ask->errands->this->config.store, ask->errands->arena, load, ask, err);
}

/* ---- PROVISION ---- */

/* context: what the profile's state becomes, and its error. */
typedef struct Verdict {
    const char *profile;
    const char *state;
    const char *host;
    json_t *error; /* borrowed; NULL = none */
} Verdict;

static bool note_verdict(StoreTx *tx, void *context, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(record_fini) Record profile = {0};
    const Verdict *verdict = context;

    if (!record_load(tx, STORE_CONNECTION_PROFILE, verdict->profile, &profile, err))
        return err->reason == REASON_NO_RESOURCE;
    profile.resource.state = verdict->state;
    if (json_object_get(profile.api, "cloudsql") != NULL && verdict->host != NULL)
        (void)json_object_set_new(json_object_get(profile.api, "cloudsql"), "privateIp", json_string(verdict->host));
    if (verdict->error != NULL)
        (void)json_object_set(profile.api, "error", verdict->error);
    return record_save(tx, arena, &profile, err);
}

static void conclude(const Errands *errands, const Ask *ask, bool ok, ErrandEnd *end) {
    Verdict *verdict = arena_new_of(errands->arena, Verdict);
    json_t *error = ask->has_instance ? json_object_get(ask->instance.api, "error") : NULL;
    Error gone;

    const json_t *status = json_object_get(ask->instance.run, instance_run_STATUS);
    *verdict = (Verdict){
        .profile = errands->action->owner,
        .state = ok ? "READY" : "FAILED",
        .host =
            ok ? arena_strdup(errands->arena, json_get_string(json_object_get(status, "endpoint"), "host", "")) : NULL};
    *end = (ErrandEnd){.over = true, .say = "", .type = "ConnectionProfile", .extra = note_verdict, .context = verdict};
    if (ok)
        return;
    if (error == NULL) {
        error_set(&gone, REASON_PROVISION_FAILED, "the server of %s is gone", errands->action->owner);
        errand_refuse(&gone, end);
    } else {
        *end = (ErrandEnd){.over = true, .refused = true, .status = json_incref(error)};
    }
    end->say = "";
    end->extra = note_verdict;
    end->context = verdict;
    verdict->error = end->status;
}

/* ---- What the source is like ---- */

typedef struct Likeness {
    Errands *errands;
    const char *instance, *source;
    const json_t *database; /* borrowed; NULL = nothing is known */
} Likeness;

static bool make_look(StoreTx *tx, void *context, Error *err) {
    Likeness *likeness = context;
    Errands *errands = likeness->errands;
    CLEANUP(record_fini) Record source = {0};
    CLEANUP(json_freep) json_t *endpoint = NULL;

    json_freep(&errands->start);
    if (!record_load(tx, STORE_CONNECTION_PROFILE, likeness->source, &source, err) ||
        !endpoint_of(tx, errands->this->config.secrets, &source, NULL, &endpoint, err))
        return false;
    errands->start = json_pack("{s:s, s:i, s:s, s:O, s:o, s:{s:b}}", "name", "source", "run", ERRAND_NUMBER, "action",
                               "instance", "source", endpoint, "state_dir",
                               json_string_lossy(errands->this->config.state_dir), "more", "prepare", 0);
    return true;
}

/* The one that everybody has, or the first. */
static const json_t *choose_database(const json_t *said) {
    const json_t *list = json_get_array(json_get_object(said, "databases"), "databases");

    for (size_t at = 0; at < json_array_size(list); at++)
        if (strcmp(json_get_string(json_array_get(list, at), "name", ""), "postgres") == 0)
            return json_array_get(list, at);
    return json_array_get(list, 0);
}

/* Each database is made with its own all the same: what is not known of the source keeps nothing. */
static bool note_likeness(StoreTx *tx, void *context, Error *err) {
    static const char *const keys[] = {"encoding", "provider", "collate", "ctype", "locale"};
    const Likeness *likeness = context;
    CLEANUP(record_fini) Record instance = {0};

    if (!instance_load(tx, likeness->instance, &instance, err))
        return err->reason == REASON_NO_RESOURCE;
    json_t *spec = json_object_get(instance.run, instance_run_SPEC);
    for (size_t at = 0; at < COUNT_OF(keys); at++)
        if (json_object_get(likeness->database, keys[at]) != NULL)
            (void)json_object_set(spec, keys[at], json_object_get(likeness->database, keys[at]));
    (void)json_object_del(instance.run, instance_run_LIKE);
    return record_save(tx, likeness->errands->arena, &instance, err);
}

static bool settle_likeness(Likeness *likeness, Error *err) {
    return store_write(likeness->errands->this->config.store, likeness->errands->arena, note_likeness, likeness, err);
}

static bool look_at_source(Errands *errands, const Ask *ask, const char *source, Error *err) {
    Likeness likeness = {.errands = errands, .instance = ask->instance.resource.name, .source = source};
    SeatPicture picture = {0};
    Error why;
    bool ok = errand_look_at(errands, "", &picture, err);

    if (ok && !errand_is_begun(&picture)) {
        if (!store_read(errands->this->config.store, errands->arena, make_look, &likeness, &why)) {
            log_warning("%s: nothing is known of %s: %s", likeness.instance, source, why.message);
            ok = settle_likeness(&likeness, err);
        } else {
            ok = errand_launch(errands, "", err);
        }
    } else if (ok && errand_is_over(&picture)) {
        likeness.database = picture.seat.state == SEAT_DONE ? choose_database(picture.said) : NULL;
        ok = settle_likeness(&likeness, err);
    }
    seat_picture_fini(&picture);
    return ok;
}

/* ---- An attempt that failed, and is followed by another ---- */

/* Only of one that was never there: what is changed of a server is not left half done. */
static bool is_waiting(const Record *instance) {
    return json_get_int(instance->run, instance_run_RETRY_AT_US, 0) > 0 && !instance_is(instance, INSTANCE_FAILED) &&
           json_get_int(instance->run, instance_run_DONE, 0) == 0;
}

/* Nothing is under way for it now, and operation_due() has nothing for one that has failed. */
static bool give_up(StoreTx *tx, void *context, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(record_fini) Record instance = {0};

    if (!instance_load(tx, context, &instance, err))
        return err->reason == REASON_NO_RESOURCE;
    if (!is_waiting(&instance))
        return true;
    (void)json_object_del(instance.run, instance_run_RETRY_AT_US);
    instance.resource.state = instance_state_name(INSTANCE_FAILED);
    return record_save(tx, arena, &instance, err);
}

/* NULL = there is nothing to say. */
static const char *say_failure(Arena *arena, const Record *instance) {
    const char *why = json_get_string(json_object_get(instance->api, "error"), "message", NULL);
    CLEANUP(json_freep) json_t *time = record_time(arena, json_get_int(instance->run, instance_run_RETRY_AT_US, 0));

    if (why == NULL || instance_is(instance, INSTANCE_FAILED))
        return NULL;
    return json_is_string(time) ? arena_printf(arena, "%s; tried again at %s", why, json_string_value(time))
                                : arena_printf(arena, "%s; it is being tried again", why);
}

bool provision(Errands *errands, ErrandEnd *end, Error *err) {
    CLEANUP(ask_fini) Ask ask = {.errands = errands};

    if (!ask_store(&ask, err))
        return false;
    const char *like = json_get_string(ask.instance.run, instance_run_LIKE, NULL);
    if (ask.has_instance && like != NULL)
        return look_at_source(errands, &ask, like, err);
    if (ask.has_instance && errands->is_cancelled && is_waiting(&ask.instance))
        return store_write(errands->this->config.store, errands->arena, give_up,
                           arena_strdup(errands->arena, ask.instance.resource.name), err);
    bool made = ask.has_instance && instance_is_settled(&ask.instance);
    if (made || !ask.has_instance || instance_is(&ask.instance, INSTANCE_FAILED))
        conclude(errands, &ask, made, end);
    else
        end->say = say_failure(errands->arena, &ask.instance);
    return true;
}

/* ---- DEPROVISION ---- */

static bool delete_profile(StoreTx *tx, void *context, Error *err) {
    CLEANUP(record_fini) Record profile = {0};

    if (!record_load(tx, STORE_CONNECTION_PROFILE, context, &profile, err))
        return err->reason == REASON_NO_RESOURCE;
    return store_delete(tx, context, profile.resource.version, err);
}

static bool want_removal(StoreTx *tx, void *context, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(record_fini) Record instance = {0};

    if (!instance_load(tx, context, &instance, err))
        return err->reason == REASON_NO_RESOURCE;
    instance_want_removal(&instance);
    return record_save(tx, arena, &instance, err);
}

/* A node that is gone for good removes nothing: who says `force` of a profile whose node does not answer is told so by
 * the operation that does not end, and can cancel it. */
bool deprovision(Errands *errands, ErrandEnd *end, Error *err) {
    CLEANUP(ask_fini) Ask ask = {.errands = errands};
    bool forced = is_about_instance(errands) || json_get_bool(errands->args, "force", false);

    if (!ask_store(&ask, err))
        return false;
    if (forced && ask.has_instance && !json_get_bool(ask.instance.run, instance_run_REMOVE, false))
        return store_write(errands->this->config.store, errands->arena, want_removal,
                           arena_strdup(errands->arena, ask.instance.resource.name), err);
    if (forced && ask.has_instance && !instance_is(&ask.instance, INSTANCE_FAILED))
        return true;
    if (forced && ask.has_instance) {
        *end = (ErrandEnd){
            .over = true, .refused = true, .status = json_incref(json_object_get(ask.instance.api, "error"))};
        return true;
    }
    *end = (ErrandEnd){.over = true};
    if (ask.has_profile) {
        end->extra = delete_profile;
        end->context = arena_strdup(errands->arena, errands->action->owner);
    }
    return true;
}

/* ---- READ_LOG ---- */

/* Only the node that has the instance can; any other one leaves the entry to it. */
bool read_log(Errands *errands, ErrandEnd *end, Error *err) {
    CLEANUP(ask_fini) Ask ask = {.errands = errands};
    SeatPicture picture = {0};

    if (!ask_store(&ask, err))
        return false;
    if (!ask.has_instance)
        return error_set(err, REASON_NO_RESOURCE, "%s is gone", errands->action->owner);
    if (!instance_is_here(errands->this, &ask.instance))
        return true;
    bool ok = errand_look_in(errands, errands->folder, "log", &picture, err);
    if (ok && picture.seat.due != DUE_NOTHING)
        ok = provision_start(errands->this, &ask.instance, "read_log", errands->folder, ERRAND_NUMBER, err);
    else if (ok && picture.seat.state == SEAT_DONE)
        *end = (ErrandEnd){.over = true,
                           .type = "InstanceLog",
                           .answer = json_object(),
                           .apart = json_pack("{s:s}", "log", json_get_string(picture.said, "log", ""))};
    else if (ok && !seat_is_alive(picture.seat.state) && picture.has_error)
        errand_refuse(&picture.error, end);
    seat_picture_fini(&picture);
    return ok;
}
