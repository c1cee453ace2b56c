/* Operations, from asking to telling. */
#include "cli/service/change.h"

#include "cli/service/profile_spec.h"
#include "cli/verbs.h"
#include "client/refusal.h"
#include "common/clock.h"

#include <ctype.h>
#include <string.h>

/* The service waits for at most half a minute, and at once when too many wait already. */
static const int64_t wait_us = 25 * USEC_PER_SEC, answer_us = 60 * USEC_PER_SEC, pause_us = USEC_PER_SEC;

bool change_ask(Service *service, const Change *change, json_t **ret_operation, Error *err) {
    ClientParam params[CHANGE_PARAMS_MAX + 2] = {0};
    const char *id = NULL;
    size_t count = 0;

    if (!service_request_id(service, &id, err))
        return false;
    for (const ClientParam *param = change->params; param != NULL && param->name != NULL; param++)
        params[count++] = *param;
    params[count] = (ClientParam){"requestId", id};
    const ClientRequest request = {
        .method = change->method, .path = change->path, .params = params, .body = change->body, .may_repeat = true};
    return client_send(service->client, &request, ret_operation, err) || error_wrap(err, "%s", change->what);
}

static bool is_over(const json_t *operation) {
    return json_get_bool(operation, "done", false);
}

/* Replaces *operation by how it is `most_us` later, or earlier if it is over. */
static bool wait_some(Service *service, int64_t most_us, json_t **operation, Error *err) {
    const char *name = json_get_string(*operation, "name", "");
    const char *seconds = arena_printf(service->arena, "%.3fs", (double)most_us / (double)USEC_PER_SEC);
    CLEANUP(json_freep) json_t *body = json_pack("{s:s}", "timeout", seconds);
    json_t *later = NULL;
    const ClientRequest request = {.method = CLIENT_POST,
                                   .path = arena_printf(service->arena, "%s:wait", name),
                                   .body = body,
                                   .may_repeat = true,
                                   .answer_us = answer_us};

    if (!client_send(service->client, &request, &later, err))
        return false;
    json_decref(*operation);
    *operation = later;
    return true;
}

static bool still_under_way(const Service *service, ErrorReason reason, const char *what, const char *name,
                            Error *err) {
    const char *ended = reason == REASON_CANCELLED ? "stopped waiting" : "--timeout is over";

    error_set(err, reason, "%s: %s is still under way, and goes on", ended, what);
    return error_remedy(err, "pgcrane operations wait %s", service_typed(service, name));
}

static bool wait_for_end(Service *service, const char *what, json_t **operation, Error *err) {
    const char *name = arena_strdup(service->arena, json_get_string(*operation, "name", ""));
    int64_t limit_us = service->options->timeout * USEC_PER_SEC, until_us = clock_now_us() + limit_us;

    while (!is_over(*operation)) {
        int64_t begin_us = clock_now_us(), left_us = limit_us > 0 ? until_us - begin_us : wait_us;

        if (left_us <= 0)
            return still_under_way(service, REASON_TIMED_OUT, what, name, err);
        bool good = wait_some(service, MIN(left_us, wait_us), operation, err);
        if (good && !is_over(*operation) && clock_now_us() - begin_us < pause_us)
            good = client_pause(service->client, MIN(left_us, pause_us), err);
        if (!good)
            return err->reason == REASON_CANCELLED ? still_under_way(service, err->reason, what, name, err)
                                                   : error_wrap(err, "%s", what);
    }
    return true;
}

/* It went well, and there is something to know of it all the same: what a removal by force left where, say. */
static void note_message(const json_t *operation) {
    const char *message = json_get_string(json_get_object(operation, "metadata"), "statusMessage", "");

    if (message[0] != '\0')
        verb_note("Note: %s", message);
}

bool change_follow(Service *service, const char *what, json_t **operation, Error *err) {
    const char *target = json_get_string(json_get_object(*operation, "metadata"), "target", "");
    const char *job = strstr(target, "/" JOB_COLLECTION "/") != NULL ? arena_strdup(service->arena, target) : NULL;

    if (!is_over(*operation))
        verb_note("Waiting for %s. Ctrl-C stops the waiting, not what is under way.", what);
    if (!wait_for_end(service, what, operation, err))
        return false;
    const json_t *error = json_get_object(*operation, "error");
    if (error == NULL) {
        note_message(*operation);
        return true;
    }
    refusal_from_status(error, err);
    if (err->remedy[0] == '\0' && job != NULL)
        error_remedy(err, "pgcrane jobs logs %s shows what led to it", service_typed(service, job));
    return error_wrap(err, "%s", what);
}

/* What came out of it, without the name of its type. New reference. */
static json_t *response_of(const json_t *operation) {
    json_t *response = json_copy(json_object_get(operation, "response"));

    if (response == NULL)
        response = json_object();
    (void)json_object_del(response, "@type");
    return response;
}

/* "Job shop is started: RUNNING, FULL_DUMP." */
static void tell(const Service *service, const Change *change, const json_t *response) {
    const char *state = json_get_string(response, "state", NULL), *phase = json_get_string(response, "phase", NULL);
    bool is_job = change->kind == SHOW_JOB && state != NULL;

    buf_printf(service->out, "%s%s%s%s%s.\n", change->done, is_job ? ": " : "", is_job ? state : "",
               is_job && phase != NULL ? ", " : "", is_job && phase != NULL ? phase : "");
}

bool change_tell_operation(const Service *service, const json_t *operation) {
    if (service->format != OUTPUT_TABLE)
        show_data(service->format, operation, service->out);
    else
        buf_printf(service->out, "%s\n", service_id(service, json_get_string(operation, "name", "")));
    return true;
}

bool change_make(Service *service, const Change *change, Error *err) {
    CLEANUP(json_freep) json_t *operation = NULL;

    if (!change_ask(service, change, &operation, err))
        return false;
    if (service->options->async)
        return change_tell_operation(service, operation);
    if (!change_follow(service, change->what, &operation, err))
        return false;
    CLEANUP(json_freep) json_t *response = response_of(operation);
    if (service->format != OUTPUT_TABLE)
        show_data(service->format, response, service->out);
    else
        tell(service, change, response);
    return true;
}

/* ---- The usual ones ---- */

static void put_texts(const Service *service, const ChangeKind *of, const char *doing, const char *done, const char *id,
                      Change *change) {
    int first = toupper((unsigned char)of->noun[0]);

    change->what = arena_printf(service->arena, "%s %s %s", doing, of->noun, id);
    change->done = arena_printf(service->arena, "%c%s %s is %s", first, of->noun + 1, id, done);
}

bool change_create(Service *service, const ChangeKind *of, const char *collection, ClientParam id, const json_t *body,
                   Error *err) {
    const ClientParam params[] = {id, {0}};
    Change change = {.method = CLIENT_POST, .path = collection, .params = params, .body = body, .kind = of->kind};

    put_texts(service, of, "making", "made", id.value, &change);
    return change_make(service, &change, err);
}

bool change_update(Service *service, const ChangeKind *of, const char *name, const json_t *body, Error *err) {
    if (json_object_size(body) == 0) {
        error_set(err, REASON_USAGE, "nothing is said that is to be changed");
        return error_remedy(err, "see pgcrane %ss --help", of->noun);
    }
    const ClientParam params[] = {{"updateMask", spec_mask(service->arena, body)}, {0}};
    Change change = {.method = CLIENT_PATCH, .path = name, .params = params, .body = body, .kind = of->kind};

    put_texts(service, of, "changing", "changed", service_id(service, name), &change);
    return change_make(service, &change, err);
}

bool change_delete(Service *service, const ChangeKind *of, const char *name, const char *question, Error *err) {
    const ClientParam params[] = {{"force", service->options->force ? "true" : NULL}, {0}};
    Change change = {.method = CLIENT_DELETE, .path = name, .params = params, .kind = of->kind_deleted};

    put_texts(service, of, "deleting", "deleted", service_id(service, name), &change);
    return service_confirm(service, question, err) && change_make(service, &change, err);
}
