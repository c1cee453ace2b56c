/* What has to be done for a resource and does not change a job's state. */
#include "jobs/errand.h"

#include "common/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define IN(state) (1U << JOB_##state)
#define WORKING (IN(STARTING) | IN(RUNNING) | IN(STOPPING) | IN(RESUMING) | IN(RESTARTING))
#define AT_REST (IN(NOT_STARTED) | IN(STOPPED) | IN(FAILED))

static const struct {
    const char *name, *verb;
} texts[] = {
#define X(name, verb, meaning) {#name, verb},
    ERRANDS(X)
#undef X
};

/* 0 = of no job. */
static const unsigned allowed_in[ERRAND_MAX_] = {
    [ERRAND_VERIFY] = AT_REST,
    [ERRAND_FETCH_OBJECTS] = AT_REST | WORKING | IN(COMPLETED),
    [ERRAND_DEMOTE] = IN(NOT_STARTED),
    [ERRAND_RELEASE] = AT_REST | IN(COMPLETED),
    [ERRAND_RECONFIGURE] = WORKING,
    [ERRAND_PROMOTE_OBJECTS] = IN(RUNNING),
    [ERRAND_RESTART_OBJECTS] = IN(RUNNING),
};

const char *errand_name(Errand errand) {
    return texts[errand].name;
}

const char *errand_verb(Errand errand) {
    return texts[errand].verb;
}

bool errand_is_allowed(Errand errand, const JobView *view, Error *err) {
    char states[300] = "";
    size_t used = 0;

    if ((allowed_in[errand] & 1U << view->state) != 0)
        return true;
    for (JobState state = 0; state < JOB_STATE_MAX_; state++)
        if ((allowed_in[errand] & 1U << state) != 0 && used < sizeof(states))
            used += (size_t)snprintf(states + used, sizeof(states) - used, "%s%s", used > 0 ? ", " : "",
                                     job_state_name(state));
    return error_set(err, REASON_JOB_STATE, "a job that is %s cannot take %s; it is for jobs that are %s",
                     job_state_name(view->state), errand_verb(errand), states);
}

static json_t *errands_of(Record *record) {
    json_t *errands = json_object_get(record->run, job_run_ERRANDS);

    if (errands == NULL) {
        errands = json_object();
        (void)json_object_set_new(record->run, job_run_ERRANDS, errands);
    }
    return errands;
}

/* The body of the outbox entry, whose text also says whether the same was asked before. */
static json_t *entry_args(const json_t *args) {
    return args != NULL ? json_deep_copy(args) : json_object();
}

static bool add_entry(StoreTx *tx, const char *owner, Errand errand, const char *operation, const json_t *args,
                      Error *err) {
    CLEANUP(json_freep) json_t *body = json_pack("{s:s, s:o}", "operation", operation, "args", entry_args(args));
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, STORE_BODY_MAX);
    json_print(body, 0, &text);
    StoreAction action = {.owner = owner, .action = errand_name(errand), .body = text.data};
    return buf_ok(&text, "an action", err) && store_outbox_add(tx, &action, err);
}

/* {"operation", "args"}: what the errand was asked with last, args as a hash of their text. */
static json_t *remember(Arena *arena, const char *operation, const json_t *args) {
    CLEANUP(json_freep) json_t *all = entry_args(args);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, STORE_BODY_MAX);
    json_print(all, 0, &text);
    return json_pack("{s:s, s:s}", "operation", operation, "args",
                     arena_printf(arena, "%016" PRIx64, hash_text64(text.data)));
}

/* *ret_operation: of the one that is under way with the same arguments; "" = none. */
static bool find_under_way(StoreTx *tx, const json_t *before, const json_t *now, const char **ret_operation,
                           Error *err) {
    const char *operation = json_get_string(before, "operation", "");
    bool same = strcmp(json_get_string(before, "args", ""), json_get_string(now, "args", "")) == 0;
    bool running = false;

    if (same && operation[0] != '\0' && !operation_is_running(tx, operation, &running, err))
        return false;
    *ret_operation = running ? operation : "";
    return true;
}

bool errand_ask_apart(StoreTx *tx, Arena *arena, const char *owner, Errand errand, const OperationOrder *asked,
                      const json_t *args, Error *err) {
    OperationOrder order = *asked;

    order.target = owner;
    if (order.verb == NULL)
        order.verb = errand_verb(errand);
    return operation_create(tx, arena, &order, err) && add_entry(tx, owner, errand, order.name, args, err);
}

bool errand_ask(StoreTx *tx, Arena *arena, Record *record, Errand errand, const OperationOrder *asked,
                const json_t *args, const char **ret_operation, Error *err) {
    json_t *errands = errands_of(record);
    CLEANUP(json_freep) json_t *now = remember(arena, asked->name, args);
    const char *under_way = "";

    if (!find_under_way(tx, json_object_get(errands, errand_name(errand)), now, &under_way, err))
        return false;
    *ret_operation = arena_strdup(arena, under_way[0] != '\0' ? under_way : asked->name);
    if (under_way[0] != '\0')
        return true;
    (void)json_object_set(errands, errand_name(errand), now);
    return errand_ask_apart(tx, arena, record->resource.name, errand, asked, args, err) &&
           record_save(tx, arena, record, err);
}

/* It is no longer the one that the resource remembers. */
static bool forget(StoreTx *tx, Arena *arena, StoreKind kind, const char *name, Errand errand, const char *operation,
                   Error *err) {
    CLEANUP(record_fini) Record record = {0};

    if (!record_load(tx, kind, name, &record, err))
        return err->reason == REASON_NO_RESOURCE;
    json_t *errands = errands_of(&record);
    const json_t *last = json_object_get(errands, errand_name(errand));
    if (strcmp(json_get_string(last, "operation", ""), operation) != 0)
        return true;
    (void)json_object_del(errands, errand_name(errand));
    return record_save(tx, arena, &record, err);
}

bool errand_end(StoreTx *tx, Arena *arena, StoreKind kind, const char *name, Errand errand, const char *operation,
                const json_t *error, const char *type, const json_t *response, Error *err) {
    if (!forget(tx, arena, kind, name, errand, operation, err))
        return false;
    return error != NULL ? operation_fail(tx, arena, operation, error, err)
                         : operation_finish(tx, arena, operation, type, response, err);
}
