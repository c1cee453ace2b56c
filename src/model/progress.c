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

const char *phase_name(Phase phase) {
    return phase_names[phase];
}

const char *phase_title(Phase phase) {
    return phase_titles[phase];
}

const char *phase_help(Phase phase) {
    return phase_helps[phase];
}

/* --- fields --- */

typedef struct Field {
    const char *key;
    size_t offset;
    bool is_text; /* const char *, else int64_t */
} Field;

#define INT(type, field)                                                                                               \
    { #field, offsetof(type, field), false }
#define TEXT(type, field)                                                                                              \
    { #field, offsetof(type, field), true }

static const Field phase_fields[] = {INT(PhaseProgress, elapsed_us), INT(PhaseProgress, done),
                                     INT(PhaseProgress, total), INT(PhaseProgress, busy_us)};
static const Field task_fields[] = {TEXT(TaskProgress, kind), TEXT(TaskProgress, object), INT(TaskProgress, done),
                                    INT(TaskProgress, total), INT(TaskProgress, elapsed_us)};
static const Field progress_fields[] = {
    INT(Progress, elapsed_us),    INT(Progress, bytes_done),  INT(Progress, bytes_total),  INT(Progress, wire_bytes),
    INT(Progress, rows_done),     INT(Progress, tables_done), INT(Progress, tables_total), INT(Progress, indexes_done),
    INT(Progress, indexes_total), INT(Progress, eta_us),
};
static const Field report_fields[] = {
    TEXT(Report, job_id),       TEXT(Report, source),       TEXT(Report, dest),       TEXT(Report, source_version),
    TEXT(Report, dest_version), TEXT(Report, pg_dump),      INT(Report, jobs),        INT(Report, index_jobs),
    INT(Report, snapshots),     INT(Report, chunks_copied), INT(Report, chunks_kept), INT(Report, retries),
    INT(Report, largest_row),
};
static const Field not_moved_fields[] = {TEXT(NotMoved, kind), TEXT(NotMoved, object), TEXT(NotMoved, reason)};

static void put_fields(json_t *object, const void *from, const Field *fields, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const void *value = (const char *)from + fields[i].offset;
        json_object_set_new(object, fields[i].key,
                            fields[i].is_text ? json_string_lossy(*(const char *const *)value)
                                              : json_integer(*(const int64_t *)value));
    }
}

/* A field that is absent is 0 or NULL: the two sides of a wire may be of different versions. */
static void get_fields(Arena *arena, const json_t *object, void *into, const Field *fields, size_t count) {
    for (size_t i = 0; i < count; i++) {
        void *value = (char *)into + fields[i].offset;
        if (fields[i].is_text)
            *(const char **)value = arena_strdup(arena, json_get_string(object, fields[i].key, NULL));
        else
            *(int64_t *)value = json_get_int(object, fields[i].key, 0);
    }
}

#define PUT(object, from, fields) put_fields((object), (from), (fields), COUNT_OF(fields))
#define GET(arena, object, into, fields) get_fields((arena), (object), (into), (fields), COUNT_OF(fields))

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
    double speed = progress->bytes_per_second;
    json_object_set_new(object, "bytes_per_second", json_real(isfinite(speed) ? speed : 0)); /* JSON has no NaN */
    json_object_set_new(object, "phases", phases_to_json(progress->phases));
    json_t *tasks = json_array();
    for (size_t i = 0; i < progress->tasks.len; i++) {
        json_t *task = json_object();
        PUT(task, &progress->tasks.items[i], task_fields);
        json_array_append_new(tasks, task);
    }
    json_object_set_new(object, "tasks", tasks);
    return object;
}

static size_t find_name(const char *const *names, size_t count, const char *name) {
    size_t i = 0;
    while (i < count && strcmp(names[i], name) != 0)
        i++;
    return i;
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
    progress.eta_us = json_get_int(json, "eta_us", -1);
    progress.bytes_per_second = json_get_real(json, "bytes_per_second", 0);
    if (!phases_from_json(arena, json_get_array(json, "phases"), progress.phases, err))
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
    json_t *notes = json_array();
    for (size_t i = 0; i < report->notes.len; i++)
        json_array_append_new(notes, json_string_lossy(report->notes.items[i]));
    json_object_set_new(object, "notes", notes);
    return object;
}

static bool notes_from_json(Arena *arena, const json_t *array, StringVec *notes, Error *err) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *note = json_string_value(json_array_get(array, i));
        if (note == NULL)
            return error_set(err, REASON_WIRE_BAD, "report: note %zu is no text", i);
        vec_push(arena, notes, arena_strdup(arena, note));
    }
    return true;
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
    if (!notes_from_json(arena, json_get_array(json, "notes"), &report.notes, err))
        return false;
    *ret_report = report;
    return true;
}
