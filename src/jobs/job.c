/* A migration job and its objects. */
#include "jobs/job.h"

#include "common/clock.h"
#include "common/hash.h"
#include "model/status.h"

#include <inttypes.h>
#include <string.h>

#define X(name, key) const char job_run_##name[] = key;
JOB_RUN_KEYS(X)
#undef X

const char job_new_passwords_field[] = "newPasswords";
const char object_run_followed[] = "followed";
const char object_run_needs_anew[] = "needsAnew";

bool job_load(StoreTx *tx, const char *name, Record *ret_job, Error *err) {
    CLEANUP(record_fini) Record job = {0};

    if (!record_load(tx, STORE_MIGRATION_JOB, name, &job, err))
        return false;
    if (job_state_from_name(job.resource.state) == JOB_STATE_MAX_ ||
        job_phase_from_name(job.resource.phase) == JOB_PHASE_MAX_)
        return error_set(err, REASON_STORE_DAMAGED, "%s has no state that is known: %s", name, job.resource.state);
    *ret_job = job;
    job = (Record){0};
    return true;
}

bool job_save(StoreTx *tx, Arena *arena, Record *job, Error *err) {
    return record_save(tx, arena, job, err);
}

JobView job_view(const Record *job) {
    return (JobView){
        .state = job_state_from_name(job->resource.state),
        .phase = job_phase_from_name(job->resource.phase),
        .is_continuous = strcmp(json_get_string(job->api, "type", ""), "CONTINUOUS") == 0,
        .is_prepared = json_get_bool(job->run, job_run_PREPARED, false),
        .may_retry = json_get_int(job->run, job_run_ATTEMPTS, 0) < JOB_ATTEMPTS_MAX,
        .is_recoverable = json_get_bool(job->run, job_run_RECOVERABLE, false),
        .has_failed = json_get_int(job->run, job_run_SOME_FAILED, 0) > 0,
    };
}

void job_set_state(Record *job, JobState state, JobPhase phase) {
    job->resource.state = job_state_name(state);
    job->resource.phase = job_phase_name(phase);
}

int64_t job_retry_at_us(const Record *job) {
    return json_get_int(job->run, job_run_RETRY_AT_US, 0);
}

const json_t *databases_named(const Record *job) {
    const json_t *config = json_object_get(json_object_get(job->api, "objectsConfig"), "sourceObjectsConfig");
    bool some = strcmp(json_get_string(config, "objectsSelectionType", ""), "SPECIFIED_OBJECTS") == 0;

    return some ? json_get_array(config, "objectConfigs") : NULL;
}

const char *database_at(const json_t *list, size_t at) {
    return json_get_string(json_object_get(json_array_get(list, at), "objectIdentifier"), "database", "");
}

bool job_names(const Record *job, const char *database) {
    const json_t *list = databases_named(job);
    bool found = list == NULL;

    for (size_t at = 0; !found && at < json_array_size(list); at++)
        found = strcmp(database_at(list, at), database) == 0;
    return found;
}

/* ---- Answers ---- */

static json_t *allowed_actions(const JobView *view) {
    json_t *list = json_array();

    for (JobEvent event = 0; event < EVENT_MAX_; event++)
        if (job_event_verb(event) != NULL && job_event_is_allowed(view, event))
            (void)json_array_append_new(list, json_string(job_event_verb(event)));
    return list;
}

static void render_times(const Record *job, Arena *arena, json_t *answer) {
    int64_t began_us = json_get_int(job->run, job_run_BEGAN_AT_US, 0);
    int64_t ended_us = json_get_int(job->run, job_run_ENDED_AT_US, 0);
    int64_t retry_us = job_retry_at_us(job);

    if (ended_us > 0)
        (void)json_object_set_new(answer, "endTime", record_time(arena, ended_us));
    if (ended_us >= began_us && began_us > 0)
        (void)json_object_set_new(
            answer, "duration",
            json_string(arena_printf(arena, "%.3fs", (double)(ended_us - began_us) / (double)USEC_PER_SEC)));
    if (retry_us > 0)
        (void)json_object_set_new(answer, "nextRetryTime", record_time(arena, retry_us));
}

/* The rest of it is the supervisor's. */
static void render_guard(const Record *job, json_t *answer) {
    static const char *const shown[] = {"state", "released", "error"};
    const json_t *guard = json_object_get(job->run, job_run_GUARD);
    json_t *picture = json_object();

    for (size_t at = 0; at < COUNT_OF(shown); at++)
        if (json_object_get(guard, shown[at]) != NULL)
            (void)json_object_set(picture, shown[at], json_object_get(guard, shown[at]));
    if (guard != NULL)
        (void)json_object_set(answer, "destinationGuard", picture);
    json_decref(picture);
}

json_t *job_render(const Record *job, Arena *arena) {
    const JobView view = job_view(job);
    json_t *answer = record_render(job, arena);
    int64_t attempts = json_get_int(job->run, job_run_ATTEMPTS, 0);

    if (view.phase != JOB_PHASE_NONE)
        (void)json_object_set_new(answer, "phase", json_string(job->resource.phase));
    (void)json_object_set_new(answer, "allowedActions", allowed_actions(&view));
    render_times(job, arena, answer);
    render_guard(job, answer);
    if (attempts > 0)
        (void)json_object_set_new(answer, "attempts", json_integer(attempts));
    return answer;
}

/* ---- Event log ---- */

bool job_is_preparing(const Record *job) {
    const json_t *session = json_get_object(job->run, "instance");

    return json_get_int(session, "run", 0) != json_get_int(session, "taken", 0);
}

json_t *job_operation(const Record *job) {
    return json_object_get(job->run, job_run_OPERATION);
}

bool job_is_cancelled(const Record *job) {
    const json_t *operation = job_operation(job);
    const char *cancelled = json_get_string(job->run, job_run_CANCEL, "");

    return cancelled[0] != '\0' && !json_get_bool(operation, "over", false) &&
           strcmp(cancelled, json_get_string(operation, "name", "")) == 0;
}

bool job_log(StoreTx *tx, const char *job, const char *kind, const char *message, const json_t *detail, Error *err) {
    CLEANUP(buf_fini) Buf text;
    int64_t pruned = 0;

    buf_init(&text, STORE_BODY_MAX);
    if (detail != NULL)
        json_print(detail, 0, &text);
    StoreEvent event = {.job = job, .kind = kind, .message = message, .detail = text.overflowed ? "" : text.data};
    if (!store_event_append(tx, &event, err))
        return false;
    /* Counting them each time would cost more than the few that are too many. */
    return event.id % 256 != 0 || store_event_prune(tx, job, JOB_EVENTS_KEPT, &pruned, err);
}

/* ---- Objects ---- */

static const char *const object_states[] = {
#define X(name) #name,
    OBJECT_STATES(X)
#undef X
};

static const char *const object_phases[] = {
#define X(name) #name,
    OBJECT_PHASES(X)
#undef X
};

const char *object_state_name(ObjectState state) {
    return object_states[state];
}

const char *object_phase_name(ObjectPhase phase) {
    return phase == OBJECT_PHASE_NONE ? "" : object_phases[phase];
}

/* A name of a database may hold anything: its hash stands for it, so that telling of it twice finds the same. */
const char *object_name(Arena *arena, const char *job, const char *database) {
    return arena_printf(arena, "%s/objects/%016" PRIx64, job, hash_text64(database));
}

static const char *object_database(const Record *object) {
    return json_get_string(json_object_get(object->api, "sourceObject"), "database", "");
}

void object_note(Record *object, const ObjectNews *news) {
    object->resource.state = object_state_name(news->state);
    object->resource.phase = object_phase_name(news->phase);
    if (news->error == NULL) {
        (void)json_object_del(object->api, "error");
        return;
    }
    json_t *status = status_to_json(news->error, NULL);
    if (news->details != NULL)
        (void)json_array_extend(json_object_get(status, "details"),
                                (json_t *)(uintptr_t)news->details); /* is only read */
    (void)json_object_set_new(object->api, "error", status);
}

static bool create_object(StoreTx *tx, Arena *arena, const char *job, const ObjectNews *news, Error *err) {
    CLEANUP(record_fini)
    Record object = {
        .resource = {.kind = STORE_MIGRATION_JOB_OBJECT,
                     .name = object_name(arena, job, news->database),
                     .parent = job},
        .api = json_pack("{s:{s:s, s:o}}", "sourceObject", "type", "DATABASE", "database",
                         json_string_lossy(news->database)),
        .run = json_object(),
    };

    object_note(&object, news);
    return record_create(tx, arena, &object, err);
}

bool object_put(StoreTx *tx, Arena *arena, const char *job, const ObjectNews *news, Error *err) {
    CLEANUP(record_fini) Record object = {0};
    const char *name = object_name(arena, job, news->database);

    if (!record_load(tx, STORE_MIGRATION_JOB_OBJECT, name, &object, err))
        return err->reason == REASON_NO_RESOURCE && create_object(tx, arena, job, news, err);
    if (strcmp(object_database(&object), news->database) != 0)
        return error_set(err, REASON_INTERNAL, "the databases %s and %s have the same hash", object_database(&object),
                         news->database);
    object_note(&object, news);
    return record_save(tx, arena, &object, err);
}

json_t *object_render(const Record *object, Arena *arena) {
    json_t *answer = record_render(object, arena);

    if (object->resource.phase[0] != '\0')
        (void)json_object_set_new(answer, "phase", json_string(object->resource.phase));
    return answer;
}

bool object_delete_all(StoreTx *tx, const char *job, Error *err) {
    const StoreQuery query = {.kind = STORE_MIGRATION_JOB_OBJECT, .parent = job, .page_size = STORE_PAGE_MAX};
    StorePage page = {0};

    do {
        if (!store_list(tx, &query, &page, err))
            return false;
        for (size_t at = 0; at < page.count; at++)
            if (!store_delete(tx, page.items[at].name, page.items[at].version, err))
                return false;
    } while (page.next_cursor[0] != '\0');
    return true;
}
