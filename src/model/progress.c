/* Progress and report as JSON: tables of fields, one loop for each direction. */
#include "model/progress.h"

#include <math.h>

static const char *const phase_names[] = {
#define X(name, title, help) #name,
    PHASES(X)
#undef X
};
static const char *const phase_titles[] = {
#define X(name, title, help) title,
    PHASES(X)
#undef X
};
static const char *const phase_helps[] = {
#define X(name, title, help) help,
    PHASES(X)
#undef X
};
static const char *const state_names[] = {"WAITING", "RUNNING", "DONE", "SKIPPED"};
static const char *const cdc_state_names[] = {
#define X(name, help) #name,
    CDC_STATES(X)
#undef X
};
static const char *const cdc_state_helps[] = {
#define X(name, help) help,
    CDC_STATES(X)
#undef X
};

const char *phase_name(Phase phase) {
    return phase_names[phase];
}

const char *phase_title(Phase phase) {
    return phase_titles[phase];
}

const char *phase_help(Phase phase) {
    return phase_helps[phase];
}

bool phase_is_of_follow(Phase phase) {
    return phase == PHASE_SEAM || phase == PHASE_CDC || phase == PHASE_PROMOTE;
}

static bool follows(const Progress *progress) {
    for (Phase phase = 0; phase < PHASE_MAX_; phase++) {
        PhaseState state = progress->phases[phase].state;
        if (phase_is_of_follow(phase) && (state == PHASE_RUNNING || state == PHASE_DONE))
            return true;
    }
    return progress->cdc.state != CDC_NONE;
}

bool progress_has_phase(const Progress *progress, Phase phase) {
    return !phase_is_of_follow(phase) || follows(progress);
}

const char *cdc_state_name(CdcState state) {
    return cdc_state_names[state];
}

const char *cdc_state_help(CdcState state) {
    return cdc_state_helps[state];
}

static size_t find_name(const char *const *names, size_t count, const char *name) {
    size_t i = 0;
    while (i < count && strcmp(names[i], name) != 0)
        i++;
    return i;
}

CdcState cdc_state_from_name(const char *name) {
    size_t state = find_name(cdc_state_names, CDC_STATE_MAX_, name);
    return state == CDC_STATE_MAX_ ? CDC_NONE : (CdcState)state;
}

/* --- fields --- */

typedef enum FieldKind { FIELD_INT, FIELD_TEXT, FIELD_REAL, FIELD_BOOL } FieldKind;

typedef struct Field {
    const char *key;
    size_t offset;
    FieldKind kind;
    int64_t absent; /* what an absent FIELD_INT means */
} Field;

#define FIELD(type, field, kind, absent)                                                                               \
    { #field, offsetof(type, field), kind, absent }
#define INT(type, field) FIELD(type, field, FIELD_INT, 0)
#define KNOWN(type, field) FIELD(type, field, FIELD_INT, -1) /* -1 = not known */
#define TEXT(type, field) FIELD(type, field, FIELD_TEXT, 0)
#define REAL(type, field) FIELD(type, field, FIELD_REAL, 0)
#define BOOL(type, field) FIELD(type, field, FIELD_BOOL, 0)

static const Field phase_fields[] = {INT(PhaseProgress, elapsed_us), INT(PhaseProgress, done),
                                     INT(PhaseProgress, total), INT(PhaseProgress, busy_us)};
static const Field task_fields[] = {TEXT(TaskProgress, kind), TEXT(TaskProgress, object), INT(TaskProgress, done),
                                    INT(TaskProgress, total), INT(TaskProgress, elapsed_us)};
static const Field progress_fields[] = {
    INT(Progress, elapsed_us),   INT(Progress, bytes_done),        INT(Progress, bytes_total),
    INT(Progress, wire_bytes),   INT(Progress, rows_done),         INT(Progress, tables_done),
    INT(Progress, tables_total), INT(Progress, indexes_done),      INT(Progress, indexes_total),
    KNOWN(Progress, eta_us),     REAL(Progress, bytes_per_second),
};
static const Field cdc_fields[] = {
    TEXT(CdcProgress, applied_lsn),
    TEXT(CdcProgress, source_lsn),
    KNOWN(CdcProgress, lag_bytes),
    KNOWN(CdcProgress, lag_us),
    KNOWN(CdcProgress, eta_us),
    INT(CdcProgress, transactions),
    INT(CdcProgress, inserts),
    INT(CdcProgress, updates),
    INT(CdcProgress, deletes),
    INT(CdcProgress, truncates),
    INT(CdcProgress, ddl),
    REAL(CdcProgress, inserts_rate),
    REAL(CdcProgress, updates_rate),
    REAL(CdcProgress, deletes_rate),
    KNOWN(CdcProgress, retained_bytes),
    KNOWN(CdcProgress, limit_bytes),
    KNOWN(CdcProgress, limit_seconds),
    KNOWN(CdcProgress, catalog_age),
    TEXT(CdcProgress, promote_step),
};
static const Field cdc_table_fields[] = {TEXT(CdcTable, name), INT(CdcTable, inserts), INT(CdcTable, updates),
                                         INT(CdcTable, deletes), INT(CdcTable, truncates)};
static const Field report_fields[] = {
    TEXT(Report, job_id),
    TEXT(Report, source),
    TEXT(Report, dest),
    TEXT(Report, source_version),
    TEXT(Report, dest_version),
    TEXT(Report, pg_dump),
    KNOWN(Report, source_bytes),
    KNOWN(Report, dest_bytes),
    INT(Report, jobs),
    INT(Report, index_jobs),
    INT(Report, snapshots),
    INT(Report, chunks_copied),
    INT(Report, chunks_kept),
    INT(Report, retries),
    INT(Report, largest_row),
    BOOL(Report, promoted),
    BOOL(Report, proven),
    INT(Report, outage_us),
    INT(Report, outage_with_hooks_us),
};
static const Field step_fields[] = {TEXT(ReportStep, name), INT(ReportStep, us)};
static const Field not_moved_fields[] = {TEXT(NotMoved, kind), TEXT(NotMoved, object), TEXT(NotMoved, reason),
                                         TEXT(NotMoved, sql)};

static json_t *value_to_json(const void *value, FieldKind kind) {
    switch (kind) {
    case FIELD_INT:
        return json_integer(*(const int64_t *)value);
    case FIELD_TEXT:
        return json_string_lossy(*(const char *const *)value);
    case FIELD_REAL:
        return json_real(isfinite(*(const double *)value) ? *(const double *)value : 0); /* JSON has no NaN */
    case FIELD_BOOL:
        return json_boolean(*(const bool *)value);
    }
    UNREACHABLE(); /* uncovered: every kind returns above */
}

static void put_fields(json_t *object, const void *from, const Field *fields, size_t count) {
    for (size_t i = 0; i < count; i++)
        json_object_set_new(object, fields[i].key,
                            value_to_json((const char *)from + fields[i].offset, fields[i].kind));
}

/* A field that is absent is 0, NULL or unknown: the two sides of a wire may be of different versions. */
static void get_fields(Arena *arena, const json_t *object, void *into, const Field *fields, size_t count) {
    for (size_t i = 0; i < count; i++) {
        void *value = (char *)into + fields[i].offset;
        switch (fields[i].kind) {
        case FIELD_INT:
            *(int64_t *)value = json_get_int(object, fields[i].key, fields[i].absent);
            break;
        case FIELD_TEXT:
            *(const char **)value = arena_strdup(arena, json_get_string(object, fields[i].key, NULL));
            break;
        case FIELD_REAL:
            *(double *)value = json_get_real(object, fields[i].key, 0);
            break;
        case FIELD_BOOL:
            *(bool *)value = json_get_bool(object, fields[i].key, false);
            break;
        }
    }
}

#define PUT(object, from, fields) put_fields((object), (from), (fields), COUNT_OF(fields))
#define GET(arena, object, into, fields) get_fields((arena), (object), (into), (fields), COUNT_OF(fields))

static json_t *texts_to_json(const StringVec *texts) {
    json_t *array = json_array();
    for (size_t i = 0; i < texts->len; i++)
        json_array_append_new(array, json_string_lossy(texts->items[i]));
    return array;
}

static bool texts_from_json(Arena *arena, const json_t *array, const char *what, StringVec *texts, Error *err) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text == NULL)
            return error_set(err, REASON_WIRE_BAD, "%s %zu is no text", what, i);
        vec_push(arena, texts, arena_strdup(arena, text));
    }
    return true;
}

/* --- following --- */

static json_t *cdc_to_json(const CdcProgress *cdc) {
    json_t *object = json_object();
    json_object_set_new(object, "state", json_string(cdc_state_name(cdc->state)));
    PUT(object, cdc, cdc_fields);
    json_t *tables = json_array();
    for (size_t i = 0; i < cdc->tables.len; i++) {
        json_t *table = json_object();
        PUT(table, &cdc->tables.items[i], cdc_table_fields);
        json_array_append_new(tables, table);
    }
    json_object_set_new(object, "tables", tables);
    json_object_set_new(object, "problems", texts_to_json(&cdc->problems));
    return object;
}

static bool cdc_from_json(Arena *arena, const json_t *object, CdcProgress *cdc, Error *err) {
    if (object == NULL)
        return true; /* not following */
    GET(arena, object, cdc, cdc_fields);
    cdc->state = cdc_state_from_name(json_get_string(object, "state", ""));
    const json_t *tables = json_get_array(object, "tables");
    for (size_t i = 0; i < json_array_size(tables); i++) {
        CdcTable table = {0};
        GET(arena, json_array_get(tables, i), &table, cdc_table_fields);
        vec_push(arena, &cdc->tables, table);
    }
    return texts_from_json(arena, json_get_array(object, "problems"), "progress: problem", &cdc->problems, err);
}

/* --- progress --- */

static json_t *phases_to_json(const PhaseProgress *phases) {
    json_t *array = json_array();
    for (size_t i = 0; i < PHASE_MAX_; i++) {
        json_t *object = json_object();
        json_object_set_new(object, "phase", json_string(phase_names[i]));
        json_object_set_new(object, "state", json_string(state_names[phases[i].state]));
        PUT(object, &phases[i], phase_fields);
        json_array_append_new(array, object);
    }
    return array;
}

json_t *progress_to_json(const Progress *progress) {
    json_t *object = json_object();
    PUT(object, progress, progress_fields);
    json_object_set_new(object, "phases", phases_to_json(progress->phases));
    json_t *tasks = json_array();
    for (size_t i = 0; i < progress->tasks.len; i++) {
        json_t *task = json_object();
        PUT(task, &progress->tasks.items[i], task_fields);
        json_array_append_new(tasks, task);
    }
    json_object_set_new(object, "tasks", tasks);
    if (progress->cdc.state != CDC_NONE)
        json_object_set_new(object, "cdc", cdc_to_json(&progress->cdc));
    return object;
}

static bool phases_from_json(Arena *arena, const json_t *array, PhaseProgress *phases, Error *err) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *object = json_array_get(array, i);
        size_t phase = find_name(phase_names, PHASE_MAX_, json_get_string(object, "phase", ""));
        size_t state = find_name(state_names, COUNT_OF(state_names), json_get_string(object, "state", ""));
        if (phase == PHASE_MAX_ || state == COUNT_OF(state_names))
            return error_set(err, REASON_WIRE_BAD, "progress: phase %zu has no known name or state", i);
        GET(arena, object, &phases[phase], phase_fields);
        phases[phase].state = (PhaseState)state;
    }
    return true;
}

bool progress_from_json(Arena *arena, const json_t *json, Progress *ret_progress, Error *err) {
    if (!json_is_object(json))
        return error_set(err, REASON_WIRE_BAD, "progress: not an object");
    Progress progress = {0};
    GET(arena, json, &progress, progress_fields);
    if (!phases_from_json(arena, json_get_array(json, "phases"), progress.phases, err) ||
        !cdc_from_json(arena, json_get_object(json, "cdc"), &progress.cdc, err))
        return false;
    const json_t *tasks = json_get_array(json, "tasks");
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        TaskProgress task = {0};
        GET(arena, json_array_get(tasks, i), &task, task_fields);
        vec_push(arena, &progress.tasks, task);
    }
    *ret_progress = progress;
    return true;
}

/* --- report --- */

json_t *report_to_json(const Report *report) {
    json_t *object = json_object();
    PUT(object, report, report_fields);
    json_object_set_new(object, "progress", progress_to_json(&report->progress));
    json_t *not_moved = json_array();
    for (size_t i = 0; i < report->not_moved.len; i++) {
        json_t *item = json_object();
        PUT(item, &report->not_moved.items[i], not_moved_fields);
        json_array_append_new(not_moved, item);
    }
    json_object_set_new(object, "not_moved", not_moved);
    json_object_set_new(object, "notes", texts_to_json(&report->notes));
    json_t *steps = json_array();
    for (size_t i = 0; i < report->promote_steps.len; i++) {
        json_t *step = json_object();
        PUT(step, &report->promote_steps.items[i], step_fields);
        json_array_append_new(steps, step);
    }
    json_object_set_new(object, "promote_steps", steps);
    return object;
}

bool report_from_json(Arena *arena, const json_t *json, Report *ret_report, Error *err) {
    if (!json_is_object(json))
        return error_set(err, REASON_WIRE_BAD, "report: not an object");
    Report report = {0};
    GET(arena, json, &report, report_fields);
    if (!progress_from_json(arena, json_get_object(json, "progress"), &report.progress, err))
        return error_wrap(err, "report");
    const json_t *not_moved = json_get_array(json, "not_moved");
    for (size_t i = 0; i < json_array_size(not_moved); i++) {
        NotMoved item = {0};
        GET(arena, json_array_get(not_moved, i), &item, not_moved_fields);
        vec_push(arena, &report.not_moved, item);
    }
    const json_t *steps = json_get_array(json, "promote_steps");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        ReportStep step = {0};
        GET(arena, json_array_get(steps, i), &step, step_fields);
        vec_push(arena, &report.promote_steps, step);
    }
    if (!texts_from_json(arena, json_get_array(json, "notes"), "report: note", &report.notes, err))
        return false;
    *ret_report = report;
    return true;
}
