/* `pgcrane jobs verify`: what the checks found, and with --fix the mending of it. */
#include "cli/service/change.h"
#include "cli/service/jobs.h"

#include "cli/report.h"
#include "cli/tty.h"
#include "cli/verbs.h"
#include "common/clock.h"
#include "model/estimate.h"
#include "model/finding.h"

#include <string.h>

static const json_t *findings_of(const json_t *operation) {
    return json_get_array(json_get_object(operation, "metadata"), "findings");
}

/* ---- Showing ---- */

static bool is_first_of(const json_t *list, size_t at) {
    const char *database = json_get_string(json_array_get(list, at), "database", "");

    for (size_t before = 0; before < at; before++)
        if (strcmp(json_get_string(json_array_get(list, before), "database", ""), database) == 0)
            return false;
    return true;
}

static bool show_database(const Service *service, const json_t *list, const char *database, Error *err) {
    CLEANUP(json_freep) json_t *own = json_array();
    FindingVec findings = {0};

    for (size_t at = 0; at < json_array_size(list); at++)
        if (strcmp(json_get_string(json_array_get(list, at), "database", ""), database) == 0)
            (void)json_array_append(own, json_array_get(list, at));
    if (!findings_from_json(service->arena, own, &findings, err))
        return false;
    buf_printf(service->out, "%s%s\n\n", database[0] != '\0' ? "Database " : "The instance",
               text_clean(service->arena, database));
    findings_render(service->out, &findings);
    buf_append_char(service->out, '\n');
    return true;
}

/* What stands in each database's findings, in all. */
static void show_estimate(const Service *service, const json_t *operation) {
    Estimate estimate;

    estimate_from_json(json_get_object(json_get_object(operation, "metadata"), "estimate"), &estimate);
    if (!estimate.is_known)
        return;
    buf_printf(service->out,
               "In all: %s of the source, about %lld to %lld s of load, %s to %s of disk at the destination\n\n",
               format_bytes(service->arena, estimate.bytes), (long long)estimate.load.low,
               (long long)estimate.load.high + 1, format_bytes(service->arena, (int64_t)estimate.disk.low),
               format_bytes(service->arena, (int64_t)estimate.disk.high));
}

static bool show_findings(const Service *service, const json_t *operation, Error *err) {
    const json_t *list = findings_of(operation);

    if (service->format != OUTPUT_TABLE) {
        show_data(service->format, operation, service->out);
        return true;
    }
    for (size_t at = 0; at < json_array_size(list); at++)
        if (is_first_of(list, at) &&
            !show_database(service, list, json_get_string(json_array_get(list, at), "database", ""), err))
            return false;
    show_estimate(service, operation);
    return true;
}

/* ---- Asking ---- */

/* What stands on standard output is not said once more. */
static bool fail_shortly(const json_t *operation, const char *what, const Error *why, Error *err) {
    const json_t *status = json_get_object(operation, "error");
    Error short_one = *why;

    if (status != NULL && json_array_size(findings_of(operation)) > 0)
        error_set(&short_one, why->reason, "%s: %s", what, json_get_string(status, "message", ""));
    if (short_one.remedy[0] == '\0' && why->remedy[0] != '\0')
        error_remedy(&short_one, "%s", why->remedy);
    *err = short_one;
    return false;
}

/* *ret_operation also when the checks found errors: *ret_good says whether they did, `why` what it ended with. */
static bool ask(Service *service, const char *name, json_t *body, json_t **ret_operation, bool *ret_good, Error *why) {
    CLEANUP(json_freep) json_t *owned = body;
    const Change change = {
        .method = CLIENT_POST,
        .path = arena_printf(service->arena, "%s:verify", name),
        .body = owned,
        .what = arena_printf(service->arena, "the check of job %s", service_id(service, name)),
    };

    if (!change_ask(service, &change, ret_operation, why))
        return false;
    *ret_good = service->options->async || change_follow(service, change.what, ret_operation, why);
    return *ret_good || json_get_object(*ret_operation, "error") != NULL;
}

/* ---- Mending ---- */

static bool is_same_fix(const json_t *left, const json_t *right) {
    const char *database = json_get_string(left, "database", ""), *statement = json_get_string(left, "statement", "");
    const char *other = json_get_string(right, "statement", "");

    if (strcmp(database, json_get_string(right, "database", "")) != 0 ||
        strcmp(json_get_string(left, "side", ""), json_get_string(right, "side", "")) != 0)
        return false;
    return database[0] == '\0' ? mend_is_same(statement, other) : strcmp(statement, other) == 0;
}

/* One of the server is none of a database. */
static json_t *fix_of(const json_t *finding) {
    bool of_server = json_get_bool(finding, "serverWide", false);

    return json_pack("{s:s, s:s, s:s}", "database", of_server ? "" : json_get_string(finding, "database", ""), "side",
                     json_get_string(finding, "side", ""), "statement", json_get_string(finding, "fix", ""));
}

/* [{database, side, statement}], each once. New reference. */
static json_t *fixes_in(const json_t *findings) {
    json_t *fixes = json_array();

    for (size_t at = 0; at < json_array_size(findings); at++) {
        const json_t *finding = json_array_get(findings, at);
        CLEANUP(json_freep) json_t *fix = fix_of(finding);
        bool known = !json_get_bool(finding, "mendable", false);

        for (size_t before = 0; before < json_array_size(fixes); before++)
            known = known || is_same_fix(json_array_get(fixes, before), fix);
        if (!known)
            (void)json_array_append(fixes, fix);
    }
    return fixes;
}

static void show_fixes(const Service *service, const json_t *fixes, const char *lead) {
    buf_printf(service->out, "%s\n", lead);
    for (size_t at = 0; at < json_array_size(fixes); at++) {
        const json_t *fix = json_array_get(fixes, at);
        const char *database = json_get_string(fix, "database", "");
        bool is_open = strcmp(json_get_string(fix, "state", ""), "UNKNOWN") == 0;

        buf_printf(service->out, "  %s, %s%s%s:\n      %s\n", json_get_string(fix, "side", ""),
                   database[0] != '\0' ? "database " : "the server", text_clean(service->arena, database),
                   is_open ? " (not known whether it was)" : "",
                   text_clean(service->arena, json_get_string(fix, "statement", "")));
    }
    buf_append_char(service->out, '\n');
}

static bool mend(Service *service, const char *name, json_t *fixes, json_t **operation, bool *ret_good, Error *why,
                 Error *err) {
    size_t count = json_array_size(fixes);
    const char *question = arena_printf(service->arena, "Carry out %zu statement%s for job %s?", count,
                                        count == 1 ? "" : "s", service_id(service, name));

    if (service->format == OUTPUT_TABLE)
        show_fixes(service, fixes, "What the service can mend:");
    if (!service_confirm(service, question, err))
        return false;
    json_freep(operation);
    if (!ask(service, name, json_pack("{s:O}", "fixes", fixes), operation, ret_good, why)) {
        *err = *why;
        return false;
    }
    const json_t *mended = json_get_array(json_get_object(*operation, "metadata"), "mended");
    if (service->format == OUTPUT_TABLE && json_array_size(mended) > 0)
        show_fixes(service, mended, "Carried out:");
    return show_findings(service, *operation, err);
}

bool jobs_verify(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *operation = NULL;
    CLEANUP(json_freep) json_t *fixes = NULL;
    const MigrateOptions *options = service->options;
    const char *name = NULL;
    bool good = false;
    Error why;

    if (options->fix && options->async)
        return error_set(err, REASON_USAGE, "--fix and --async exclude each other: what is found is to be seen first");
    if (!jobs_name(service, &name, err))
        return false;
    if (!ask(service, name, json_object(), &operation, &good, &why)) {
        *err = why;
        return false;
    }
    if (options->async)
        return change_tell_operation(service, operation);
    fixes = fixes_in(findings_of(operation));
    bool mends = options->fix && json_array_size(fixes) > 0;
    if (!(mends && service->format != OUTPUT_TABLE) && !show_findings(service, operation, err))
        return false;
    if (mends && !mend(service, name, fixes, &operation, &good, &why, err))
        return false;
    if (options->fix && !mends && service->format == OUTPUT_TABLE)
        buf_append_str(service->out, "Nothing of it is what the service mends by itself.\n");
    const char *what = arena_printf(service->arena, "the check of job %s", service_id(service, name));
    if (!good)
        return fail_shortly(operation, what, &why, err);
    if (service->format == OUTPUT_TABLE)
        buf_printf(service->out, "Job %s is checked, and nothing is in the way%s%s.\n", service_id(service, name),
                   json_get_string(json_get_object(operation, "response"), "state", "")[0] != '\0' ? ": " : "",
                   json_get_string(json_get_object(operation, "response"), "state", ""));
    return true;
}
