/* What showing resources has in common. */
#include "cli/service/show.h"

#include "client/refusal.h"
#include "client/yaml.h"

#include <string.h>

static const struct {
    const ShowColumn *columns;
    const size_t *count;
    void (*facts)(const Service *service, const json_t *item, FactVec *facts);
    const char *nothing;
} kinds[SHOW_KIND_MAX_] = {
    [SHOW_PROFILE] = {show_profile_columns, &show_profile_columns_count, show_profile_facts,
                      "There is no connection profile. One is made with: pgcrane profiles create ID URI\n"},
    [SHOW_JOB] = {show_job_columns, &show_job_columns_count, show_job_facts,
                  "There is no migration job. One is made with: pgcrane jobs create ID SOURCE DESTINATION\n"},
    [SHOW_OBJECT] = {show_object_columns, &show_object_columns_count, show_object_facts,
                     "The job has no objects yet: they are listed when it starts, or with --refresh.\n"},
    [SHOW_OPERATION] = {show_operation_columns, &show_operation_columns_count, show_operation_facts,
                        "There is no operation.\n"},
    [SHOW_INSTANCE] =
        {show_instance_columns, &show_instance_columns_count, show_instance_facts,
         "The service has made no server. One is made with: pgcrane instances create ID --pg-version N\n"},
};

/* A pipe takes lines of any length. */
static TableStyle style_of(const Service *service) {
    return (TableStyle){.width = service->tty.is_terminal ? service->tty.columns : 0,
                        .utf8 = service->tty.utf8,
                        .color = service->tty.color};
}

void show_data(OutputFormat format, const json_t *data, Buf *out) {
    enum { INDENT = 2 };

    if (format == OUTPUT_YAML) {
        yaml_print(data, out);
        return;
    }
    json_print(data, INDENT, out);
    buf_append_char(out, '\n');
}

void show_list(const Service *service, ShowKind kind, const json_t *items, Buf *out) {
    const ShowColumn *columns = kinds[kind].columns;
    size_t count = *kinds[kind].count, rows = json_array_size(items);
    const TableStyle style = style_of(service);

    if (service->format != OUTPUT_TABLE) {
        show_data(service->format, items, out);
        return;
    }
    if (rows == 0) {
        buf_append_str(out, kinds[kind].nothing);
        return;
    }
    TableColumn *titles = arena_array(service->arena, TableColumn, count);
    TableCell *cells = arena_array(service->arena, TableCell, count * rows);
    for (size_t at = 0; at < count; at++)
        titles[at] = columns[at].column;
    for (size_t at = 0; at < count * rows; at++)
        cells[at] = columns[at % count].cell(service, json_array_get(items, at / count));
    table_render(out, &style, titles, count, cells, rows);
}

void show_one(const Service *service, ShowKind kind, const json_t *item, Buf *out) {
    TableStyle style = style_of(service);
    FactVec facts = {0};

    if (service->format != OUTPUT_TABLE) {
        show_data(service->format, item, out);
        return;
    }
    kinds[kind].facts(service, item, &facts);
    if (!service->options->watch) /* nothing is drawn over it: whole, since somebody may want to copy it */
        style.width = 0;
    facts_render(out, &style, &facts);
}

/* --- what they share --- */

void show_fact(const Service *service, FactVec *facts, const char *label, Ink ink, const char *text) {
    const Fact fact = {.label = label, .text = text, .ink = ink};

    if (text != NULL && text[0] != '\0')
        vec_push(service->arena, facts, fact);
}

const char *show_labels(const Service *service, const json_t *item) {
    json_t *labels = json_object_get(item, "labels");
    const char *text = NULL, *key;
    json_t *value;

    json_object_foreach(labels, key, value) {
        text = arena_printf(service->arena, "%s%s%s=%s", text != NULL ? text : "", text != NULL ? ", " : "", key,
                            json_is_string(value) ? json_string_value(value) : "");
    }
    return text;
}

const char *show_time(const Service *service, const char *rfc3339) {
    enum { DATE = 10, TIME = 8 };

    if (rfc3339 == NULL || strlen(rfc3339) < DATE + 1 + TIME)
        return rfc3339;
    return arena_printf(service->arena, "%.*s %.*sZ", DATE, rfc3339, TIME, rfc3339 + DATE + 1);
}

const char *show_status(const Service *service, const json_t *status) {
    Error error;

    if (!json_is_object(status))
        return NULL;
    refusal_from_status(status, &error);
    return arena_printf(service->arena, "%s%s%s", error.message, error.remedy[0] != '\0' ? "\ndo: " : "", error.remedy);
}

Ink show_state_ink(const char *state) {
    static const struct {
        const char *state;
        Ink ink;
    } inks[] = {
        {"READY", INK_GREEN},   {"RUNNING", INK_GREEN},    {"COMPLETED", INK_GREEN}, {"done", INK_GREEN},
        {"FAILED", INK_RED},    {"failed", INK_RED},       {"STOPPED", INK_YELLOW},  {"STOPPING", INK_YELLOW},
        {"DELETING", INK_DIM},  {"NOT_SELECTED", INK_DIM}, {"running", INK_CYAN},    {"STARTING", INK_CYAN},
        {"RESUMING", INK_CYAN}, {"RESTARTING", INK_CYAN},  {"CREATING", INK_CYAN},
    };

    for (size_t at = 0; at < COUNT_OF(inks); at++)
        if (strcmp(inks[at].state, state) == 0)
            return inks[at].ink;
    return INK_PLAIN;
}

TableCell show_id_cell(const Service *service, const json_t *item) {
    return (TableCell){.text = service_id(service, json_get_string(item, "name", ""))};
}

TableCell show_state_cell(const Service *service UNUSED, const json_t *item) {
    const char *state = json_get_string(item, "state", "");

    return (TableCell){.text = state, .ink = show_state_ink(state)};
}
