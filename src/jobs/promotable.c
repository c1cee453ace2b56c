/* May a promote of a whole job begin? */
#include "jobs/promotable.h"

#include "common/shell.h"
#include "jobs/anew.h"

#include <string.h>

enum {
    NAMES_MAX = 400,  /* of a message that has room for the cause, too */
    OPTIONS_MAX = 100 /* of a remedy that has room for two commands more */
};

static bool is_state(const Promotable *one, ObjectState state) {
    return strcmp(one->state, object_state_name(state)) == 0;
}

static bool is_phase(const Promotable *one, ObjectPhase phase) {
    return strcmp(one->phase, object_phase_name(phase)) == 0;
}

static bool follows(const Promotable *one) {
    return is_state(one, OBJECT_RUNNING) &&
           (is_phase(one, OBJECT_PHASE_CDC) || is_phase(one, OBJECT_PHASE_READY_FOR_PROMOTE) ||
            is_phase(one, OBJECT_PHASE_PROMOTE_IN_PROGRESS) || one->has_followed);
}

void promotable_add(PromotableList *list, const Promotable *one) {
    if (is_state(one, OBJECT_COMPLETED))
        return;
    if (follows(one)) {
        vec_push(list->arena, &list->fit, arena_strdup(list->arena, one->database));
        return;
    }
    const char *place = one->phase[0] != '\0' ? arena_printf(list->arena, "%s/%s", one->state, one->phase) : one->state;
    vec_push(list->arena, &list->out, arena_printf(list->arena, "%s (%s)", one->database, place));
    if (one->needs_anew)
        vec_push(list->arena, &list->anew, arena_strdup(list->arena, one->database));
    else
        list->is_over = list->is_over || is_state(one, OBJECT_FAILED) || is_state(one, OBJECT_STOPPED);
    if (list->why == NULL && one->error[0] != '\0')
        list->why = arena_printf(list->arena, "%s: %s", one->database, one->error);
}

/* Of many, the first. */
static const char *names_of(Arena *arena, const StringVec *names) {
    CLEANUP(buf_fini) Buf text;
    size_t at = 0;

    buf_init(&text, NAMES_MAX * 2);
    for (; at < names->len && text.len + strlen(names->items[at]) < NAMES_MAX; at++)
        buf_printf(&text, "%s%s", at > 0 ? ", " : "", names->items[at]);
    if (at < names->len)
        buf_printf(&text, ", %zu more", names->len - at);
    return arena_strdup(arena, text.data);
}

/* A command names all of them, or none: part of a list would leave some behind without a word. */
static const char *options_of(Arena *arena, const StringVec *databases) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, OPTIONS_MAX);
    for (size_t at = 0; at < databases->len; at++)
        buf_printf(&text, " --database %s", shell_quote(arena, databases->items[at]));
    return text.overflowed || text.len == 0 ? " --database NAME ..." : arena_strdup(arena, text.data);
}

/* What is to be begun anew would fail the same way when it is resumed. */
static const char *mend_of(const PromotableList *list, const char *id) {
    const char *anew = list->anew.len == 0
                           ? ""
                           : arena_printf(list->arena, "begin anew what cannot go on: pgcrane jobs restart %s%s", id,
                                          options_of(list->arena, &list->anew));

    if (list->is_over)
        return arena_printf(list->arena, "%s%smend it and go on: pgcrane jobs resume %s", anew,
                            anew[0] != '\0' ? "; " : "", id);
    return anew[0] != '\0' ? anew : arena_printf(list->arena, "wait: pgcrane jobs wait %s --for READY_FOR_PROMOTE", id);
}

bool promotable_end(const PromotableList *list, Error *err) {
    const char *id = anew_job_id(list->job);

    if (list->out.len == 0)
        return true;
    error_set(err, REASON_JOB_STATE, "nothing was promoted, since not all databases follow their source: %s%s%s",
              names_of(list->arena, &list->out), list->why != NULL ? "; " : "", list->why != NULL ? list->why : "");
    return error_remedy(err, "%s; or promote the others by themselves: pgcrane jobs promote %s%s", mend_of(list, id),
                        id, options_of(list->arena, &list->fit));
}

static bool add_stored(PromotableList *list, const Record *job, const StoreResource *resource, Error *err) {
    CLEANUP(record_fini) Record object = {0};

    if (!record_open(resource, &object, err))
        return false;
    const json_t *error = json_object_get(object.api, "error");
    const Promotable one = {
        .database = json_get_string(json_object_get(object.api, "sourceObject"), "database", ""),
        .state = resource->state,
        .phase = resource->phase,
        .error = json_get_string(error, "message", ""),
        .needs_anew = json_get_bool(object.run, object_run_needs_anew, false),
        .has_followed = json_get_bool(object.run, object_run_followed, false),
    };
    if (job_names(job, one.database))
        promotable_add(list, &one);
    return true;
}

bool promotable_check(StoreTx *tx, Arena *arena, const Record *job, Error *err) {
    const StoreQuery query = {
        .kind = STORE_MIGRATION_JOB_OBJECT, .parent = job->resource.name, .page_size = JOB_OBJECTS_MAX};
    PromotableList list = {.arena = arena, .job = job->resource.name};
    StorePage page = {0};

    if (!store_list(tx, &query, &page, err))
        return false;
    for (size_t at = 0; at < page.count; at++)
        if (!add_stored(&list, job, &page.items[at], err))
            return false;
    return promotable_end(&list, err);
}
