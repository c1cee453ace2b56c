/* Objects of jobs, and operations. */
#include "cli/service/show.h"

#include <string.h>

/* --- objects --- */

static const char *database(const json_t *object) {
    return json_get_string(json_get_object(object, "sourceObject"), "database", NULL);
}

static TableCell database_cell(const Service *service UNUSED, const json_t *object) {
    return (TableCell){.text = database(object)};
}

static TableCell phase_cell(const Service *service UNUSED, const json_t *object) {
    return (TableCell){.text = json_get_string(object, "phase", NULL)};
}

static TableCell trouble_cell(const Service *service, const json_t *item) {
    const char *error = json_get_string(json_get_object(item, "error"), "message", NULL);

    return (TableCell){.text = error != NULL ? arena_strndup(service->arena, error, strcspn(error, "\n")) : NULL,
                       .ink = INK_RED};
}

static TableCell changed_cell(const Service *service, const json_t *item) {
    return (TableCell){.text = show_time(service, json_get_string(item, "updateTime", NULL)), .ink = INK_DIM};
}

const ShowColumn show_object_columns[] = {
    {{.title = "Database"}, database_cell}, {{.title = "State"}, show_state_cell}, {{.title = "Phase"}, phase_cell},
    {{.title = "Changed"}, changed_cell},   {{.title = "Trouble"}, trouble_cell},
};
const size_t show_object_columns_count = COUNT_OF(show_object_columns);

void show_object_facts(const Service *service, const json_t *object, FactVec *facts) {
    const char *state = json_get_string(object, "state", "");

    show_fact(service, facts, "Database", INK_BOLD, database(object));
    show_fact(service, facts, "State", show_state_ink(state), state);
    show_fact(service, facts, "Phase", INK_PLAIN, json_get_string(object, "phase", NULL));
    show_fact(service, facts, "Name", INK_PLAIN, json_get_string(object, "name", NULL));
    show_fact(service, facts, "Created", INK_PLAIN, show_time(service, json_get_string(object, "createTime", NULL)));
    show_fact(service, facts, "Changed", INK_PLAIN, show_time(service, json_get_string(object, "updateTime", NULL)));
    show_fact(service, facts, "Error", INK_RED, show_status(service, json_object_get(object, "error")));
}

/* --- operations --- */

static const json_t *metadata(const json_t *operation) {
    return json_get_object(operation, "metadata");
}

static const char *outcome(const json_t *operation) {
    if (!json_get_bool(operation, "done", false))
        return "running";
    return json_object_get(operation, "error") != NULL ? "failed" : "done";
}

static TableCell outcome_cell(const Service *service UNUSED, const json_t *operation) {
    return (TableCell){.text = outcome(operation), .ink = show_state_ink(outcome(operation))};
}

static TableCell verb_cell(const Service *service UNUSED, const json_t *operation) {
    return (TableCell){.text = json_get_string(metadata(operation), "verb", NULL)};
}

static const char *target(const Service *service, const json_t *operation) {
    const char *name = json_get_string(metadata(operation), "target", NULL);

    return name != NULL ? service_id(service, name) : NULL;
}

static TableCell target_cell(const Service *service, const json_t *operation) {
    return (TableCell){.text = target(service, operation)};
}

static const char *time_of(const Service *service, const json_t *operation, const char *key) {
    return show_time(service, json_get_string(metadata(operation), key, NULL));
}

static TableCell began_cell(const Service *service, const json_t *operation) {
    return (TableCell){.text = time_of(service, operation, "createTime"), .ink = INK_DIM};
}

static TableCell ended_cell(const Service *service, const json_t *operation) {
    return (TableCell){.text = time_of(service, operation, "endTime"), .ink = INK_DIM};
}

const ShowColumn show_operation_columns[] = {
    {{.title = "Verb"}, verb_cell},       {{.title = "Of"}, target_cell},   {{.title = "State"}, outcome_cell},
    {{.title = "Began"}, began_cell},     {{.title = "Ended"}, ended_cell}, {{.title = "Operation"}, show_id_cell},
    {{.title = "Trouble"}, trouble_cell},
};
const size_t show_operation_columns_count = COUNT_OF(show_operation_columns);

void show_operation_facts(const Service *service, const json_t *operation, FactVec *facts) {
    bool cancelled = json_get_bool(metadata(operation), "requestedCancellation", false);

    show_fact(service, facts, "Operation", INK_BOLD, service_id(service, json_get_string(operation, "name", "")));
    show_fact(service, facts, "Verb", INK_PLAIN, verb_cell(service, operation).text);
    show_fact(service, facts, "Of", INK_PLAIN, target(service, operation));
    show_fact(service, facts, "State", show_state_ink(outcome(operation)), outcome(operation));
    show_fact(service, facts, "Cancelled", INK_YELLOW, cancelled ? "asked for" : NULL);
    show_fact(service, facts, "Began", INK_PLAIN, time_of(service, operation, "createTime"));
    show_fact(service, facts, "Ended", INK_PLAIN, time_of(service, operation, "endTime"));
    show_fact(service, facts, "Note", INK_YELLOW, json_get_string(metadata(operation), "statusMessage", NULL));
    show_fact(service, facts, "Error", INK_RED, show_status(service, json_object_get(operation, "error")));
}
