/*
 * The report of a job, from what is kept of its databases (supervise/report.h) and from how they stand now.
 *
 * A page comes from data that others named: it is sent with a policy that forbids scripts and whatever is elsewhere.
 */
#include "api/job_report.h"

#include "api/kinds.h"
#include "common/clock.h"
#include "common/log.h"
#include "jobs/job.h"
#include "model/job_report.h"

#include <stdlib.h>
#include <string.h>

/* *ret_report: an empty object when nothing is kept. */
static bool load_report(const ApiCall *call, const char *owner, json_t **ret_report, Error *err) {
    const char *body = NULL;
    Error why;

    if (!store_report_get(call->tx, owner, &body, err))
        return false;
    *ret_report = NULL;
    if (body != NULL && !json_parse(body, strlen(body), ret_report, &why)) {
        log_warning("what is kept for the report of %s cannot be read: %s", owner, why.message);
        *ret_report = NULL;
    }
    if (*ret_report == NULL)
        *ret_report = json_object();
    return true;
}

typedef struct Gathering {
    const ApiCall *call;
    VEC(json_t *) reports; /* references */
} Gathering;

static bool is_unchosen(const Record *object) {
    return strcmp(object->resource.state, object_state_name(OBJECT_NOT_SELECTED)) == 0;
}

static bool add_database(void *context, const Record *object, Error *err) {
    Gathering *gathering = context;
    json_t *report = NULL;

    if (!load_report(gathering->call, object->resource.name, &report, err))
        return false;
    if (is_unchosen(object) && json_object_get(report, "promote") == NULL) {
        json_decref(report);
        return true;
    }
    database_report_close(report);
    (void)json_object_set(report, "database",
                          json_object_get(json_object_get(object->api, "sourceObject"), "database"));
    (void)json_object_set_new(report, "state", json_string(object->resource.state));
    if (object->resource.phase[0] != '\0')
        (void)json_object_set_new(report, "phase", json_string(object->resource.phase));
    if (json_object_get(object->api, "error") != NULL)
        (void)json_object_set(report, "error", json_object_get(object->api, "error"));
    vec_push(gathering->call->arena, &gathering->reports, report);
    return true;
}

static int by_name(const void *left, const void *right) {
    const json_t *const *one = left, *const *other = right;

    return strcmp(json_get_string(*one, "database", ""), json_get_string(*other, "database", ""));
}

/* Objects come in an order that means nothing. */
static bool gather(const ApiCall *call, json_t *databases, Error *err) {
    Gathering gathering = {.call = call};
    bool ok = kind_each(call->tx, STORE_MIGRATION_JOB_OBJECT, call->resource, add_database, &gathering, err);

    if (gathering.reports.len > 0)
        qsort(gathering.reports.items, gathering.reports.len, sizeof(json_t *), by_name);
    for (size_t at = 0; at < gathering.reports.len; at++)
        (void)json_array_append_new(databases, gathering.reports.items[at]);
    return ok;
}

static json_t *about_job(const ApiCall *call, const Record *job) {
    static const char *const taken[] = {"name",    "displayName", "type",   "state",       "phase", "createTime",
                                        "endTime", "duration",    "source", "destination", "error"};
    CLEANUP(json_freep) json_t *shown = job_render(job, call->arena);
    json_t *report = json_object();
    json_t *began = record_time(call->arena, json_get_int(job->run, job_run_BEGAN_AT_US, 0));

    for (size_t at = 0; at < COUNT_OF(taken); at++)
        if (json_object_get(shown, taken[at]) != NULL)
            (void)json_object_set(report, taken[at], json_object_get(shown, taken[at]));
    if (began != NULL)
        (void)json_object_set_new(report, "startTime", began);
    (void)json_object_set_new(report, "generateTime", record_time(call->arena, clock_wall_us()));
    return report;
}

/* alt= wins over Accept. */
static bool wants_page(const ApiCall *call) {
    const char *accept = http_fields_get(call->request->headers, "accept");
    const char *alt = http_fields_get(call->request->query, "alt");

    if (alt == NULL)
        alt = http_fields_get(call->request->query, "$alt");
    if (alt != NULL)
        return strcmp(alt, "html") == 0;
    return accept != NULL && strstr(accept, "text/html") != NULL;
}

static bool print_page(ApiCall *call, Error *err) {
    CLEANUP(buf_fini) Buf page;

    buf_init(&page, ANSWER_MAX);
    report_html(call->answer, &page);
    if (!buf_ok(&page, "the report", err))
        return false;
    call->answer_text = arena_strndup(call->arena, page.data, page.len);
    call->is_page = true;
    return true;
}

bool job_report(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record job = {0};
    CLEANUP(json_freep) json_t *instance = NULL;
    CLEANUP(json_freep) json_t *databases = json_array();

    call->answer_text = NULL; /* of a run before */
    call->is_page = false;
    if (!kind_load(call, &job, err) || !load_report(call, call->resource, &instance, err) ||
        !gather(call, databases, err))
        return false;
    call->answer = about_job(call, &job);
    (void)json_object_set_new(call->answer, "totals", job_report_totals(databases));
    if (json_object_size(instance) > 0)
        (void)json_object_set(call->answer, "instance", instance);
    (void)json_object_set(call->answer, "databases", databases);
    return !wants_page(call) || print_page(call, err);
}
