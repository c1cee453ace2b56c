/* The command `jobs`: what is done to jobs. Waiting and logs have files of their own. */
#include "cli/service/jobs.h"

#include "cli/service/change.h"
#include "cli/service/job_spec.h"
#include "cli/service/main.h"
#include "cli/service/profile_spec.h"
#include "cli/service/watch.h"

#include <string.h>

static const char *jobs_path(const Service *service) {
    return arena_printf(service->arena, "%s/" JOB_COLLECTION, service->parent);
}

bool jobs_name(const Service *service, const char **ret_name, Error *err) {
    return service_name(service, JOB_COLLECTION, service_word(service, 1), ret_name, err);
}

/* Nothing is left of a deleted job to tell of. */
static const ChangeKind jobs = {.noun = "job", .kind = SHOW_JOB, .kind_deleted = SHOW_OPERATION};

/* --- create, update --- */

static bool create(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *job = json_object();
    const char *id = service_word(service, 1), *source = NULL, *destination = NULL;

    if (!service_name(service, PROFILE_COLLECTION, service_word(service, 2), &source, err) ||
        !service_name(service, PROFILE_COLLECTION, service_word(service, 3), &destination, err) ||
        !job_spec_take_options(service->arena, service->options, job, err))
        return false;
    (void)json_object_set_new(job, "source", json_string(source));
    (void)json_object_set_new(job, "destination", json_string(destination));
    if (json_object_get(job, "type") == NULL)
        (void)json_object_set_new(job, "type", json_string("CONTINUOUS"));
    return change_create(service, &jobs, jobs_path(service), (ClientParam){"migrationJobId", id}, job, err);
}

static bool update(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *job = json_object();
    const char *name = NULL;

    return jobs_name(service, &name, err) && job_spec_take_options(service->arena, service->options, job, err) &&
           change_update(service, &jobs, name, job, err);
}

/* --- list, describe --- */

static bool look_at_list(Service *service, void *context UNUSED, Buf *out, bool *ret_over UNUSED, Error *err) {
    CLEANUP(json_freep) json_t *items = NULL;

    if (!service_list(service, jobs_path(service), JOB_COLLECTION, service->options->filter, service->options->sort_by,
                      &items, err))
        return false;
    show_list(service, SHOW_JOB, items, out);
    return true;
}

static bool list(Service *service, Error *err) {
    return watch_run(service, look_at_list, NULL, err);
}

/* *ret_over: it will not change by itself any more. */
static bool look_at_job(Service *service, void *context, Buf *out, bool *ret_over, Error *err) {
    CLEANUP(json_freep) json_t *job = NULL;
    const char *name = context;

    if (!service_get(service, name, NULL, &job, err))
        return false;
    show_one(service, SHOW_JOB, job, out);
    *ret_over = strcmp(json_get_string(job, "state", ""), "COMPLETED") == 0;
    return true;
}

static bool describe(Service *service, Error *err) {
    const char *name = NULL;

    return jobs_name(service, &name, err) && watch_run(service, look_at_job, (char *)(uintptr_t)name, err);
}

/* --- verbs --- */

/* What a verb is called in the API, and what is said of it before, meanwhile and behind. */
typedef struct JobVerb {
    const char *api, *what, *done;
    const char *question; /* NULL = not asked */
} JobVerb;

static bool run_verb(Service *service, const JobVerb *verb, json_t *body, Error *err) {
    CLEANUP(json_freep) json_t *owned = body;
    const char *name = NULL;

    if (!jobs_name(service, &name, err))
        return false;
    const char *id = service_id(service, name);
    const char *question =
        verb->question != NULL ? arena_printf(service->arena, "%s job %s?", verb->question, id) : NULL;
    const Change change = {
        .method = CLIENT_POST,
        .path = arena_printf(service->arena, "%s:%s", name, verb->api),
        .body = owned,
        .what = arena_printf(service->arena, "the %s of job %s", verb->what, id),
        .done = arena_printf(service->arena, "Job %s is %s", id, verb->done),
        .kind = SHOW_JOB,
    };
    return (question == NULL || service_confirm(service, question, err)) && change_make(service, &change, err);
}

static json_t *skipping(const Service *service) {
    return service->options->skip_checks ? json_pack("{s:b}", "skipValidation", 1) : json_object();
}

/* Of the databases that are named, or of all. */
static void put_filter(const Service *service, json_t *body) {
    if (service->options->databases.len > 0)
        (void)json_object_set_new(body, "objectsFilter", job_spec_objects(&service->options->databases));
}

static bool demote(Service *service, Error *err) {
    static const JobVerb verb = {.api = "demoteDestination",
                                 .what = "guard",
                                 .done = "alone in its databases of the destination",
                                 .question = "Keep all others out of the databases of the destination, for"};
    json_t *body = json_object();

    if (service->options->allow_non_empty)
        (void)json_object_set_new(body, "allowNonEmpty", json_true());
    return run_verb(service, &verb, body, err);
}

static bool release(Service *service, Error *err) {
    static const JobVerb verb = {
        .api = "demoteDestination", .what = "release", .done = "no longer guarding its destination"};

    return run_verb(service, &verb, json_pack("{s:b}", "release", 1), err);
}

static bool start(Service *service, Error *err) {
    static const JobVerb verb = {.api = "start", .what = "start", .done = "started"};

    return run_verb(service, &verb, skipping(service), err);
}

static bool stop(Service *service, Error *err) {
    static const JobVerb verb = {.api = "stop", .what = "stop", .done = "stopped"};

    return run_verb(service, &verb, json_object(), err);
}

static bool resume(Service *service, Error *err) {
    static const JobVerb verb = {.api = "resume", .what = "resume", .done = "resumed"};

    return run_verb(service, &verb, skipping(service), err);
}

static bool restart(Service *service, Error *err) {
    static const JobVerb verb = {.api = "restart",
                                 .what = "restart",
                                 .done = "begun anew",
                                 .question = "Empty the destination, and begin anew with"};
    const MigrateOptions *options = service->options;

    if (options->failed && options->databases.len > 0)
        return error_set(err, REASON_USAGE, "--failed and --database exclude each other");
    json_t *body = skipping(service);
    if (options->failed)
        (void)json_object_set_new(body, "restartFailedObjects", json_true());
    put_filter(service, body);
    return run_verb(service, &verb, body, err);
}

static bool promote(Service *service, Error *err) {
    static const JobVerb verb = {.api = "promote",
                                 .what = "promote",
                                 .done = "promoted",
                                 .question = "Stop writes on the source, and open the destination of"};
    json_t *body = json_object();

    put_filter(service, body);
    return run_verb(service, &verb, body, err);
}

static bool remove_job(Service *service, Error *err) {
    const char *name = NULL;

    if (!jobs_name(service, &name, err))
        return false;
    const char *question = arena_printf(service->arena, "End job %s, and remove from the source what it made there?",
                                        service_id(service, name));
    return change_delete(service, &jobs, name, question, err);
}

/* --- what each takes --- */

static const char *const create_takes[] = {"Job", "database", "display-name", "label", "Waiting", NULL};
static const char *const update_takes[] = {"all-databases", "parallel", "database", "display-name",
                                           "label",         "Waiting",  NULL};
static const char *const list_takes[] = {"Lists", "watch", NULL};
static const char *const describe_takes[] = {"watch", NULL};
static const char *const plain_takes[] = {"Waiting", NULL};
static const char *const demote_takes[] = {"allow-non-empty", "yes", "Waiting", NULL};
static const char *const verify_takes[] = {"fix", "yes", "Waiting", NULL};
static const char *const start_takes[] = {"skip-checks", "Waiting", NULL};
static const char *const restart_takes[] = {"skip-checks", "failed", "database", "yes", "Waiting", NULL};
static const char *const promote_takes[] = {"database", "yes", "Waiting", NULL};
static const char *const delete_takes[] = {"force", "yes", "Waiting", NULL};
static const char *const wait_takes[] = {"for", "timeout", NULL};
static const char *const logs_takes[] = {"stream", NULL};
static const char *const report_takes[] = {NULL};
static const char *const passwords_takes[] = {"yes", NULL};

const char *const jobs_takes[] = {
    "Client", "Job", "database", "display-name", "label", "Lists", "Waiting",  "skip-checks",     "failed",
    "force",  "for", "stream",   "watch",        "yes",   "fix",   "no-color", "allow-non-empty", NULL};

const Verb jobs_verbs[] = {
    {.name = "create",
     .args = "ID SOURCE DESTINATION",
     .n_args = 3,
     .takes = create_takes,
     .ask = create,
     .help = "make one, from a profile to another; nothing is started"},
    {.name = "list", .args = "", .takes = list_takes, .ask = list, .help = "show all"},
    {.name = "describe",
     .args = "ID",
     .n_args = 1,
     .takes = describe_takes,
     .ask = describe,
     .help = "show one: how far it is, what is wrong, what it takes now"},
    {.name = "update", .args = "ID", .n_args = 1, .takes = update_takes, .ask = update, .help = "change what is given"},
    {.name = "verify",
     .args = "ID",
     .n_args = 1,
     .takes = verify_takes,
     .ask = jobs_verify,
     .help = "run every check of the start, changing nothing; --fix mends what can be mended safely"},
    {.name = "demote",
     .args = "ID",
     .n_args = 1,
     .takes = demote_takes,
     .ask = demote,
     .help = "see that the destination is empty, and keep others from writing to it until the promote"},
    {.name = "release",
     .args = "ID",
     .n_args = 1,
     .takes = plain_takes,
     .ask = release,
     .help = "hand the destination back as it was before demote, of a job that is not at work"},
    {.name = "start", .args = "ID", .n_args = 1, .takes = start_takes, .ask = start, .help = "begin"},
    {.name = "stop",
     .args = "ID",
     .n_args = 1,
     .takes = plain_takes,
     .ask = stop,
     .help = "stop, keeping what is done; the source keeps WAL meanwhile"},
    {.name = "resume",
     .args = "ID",
     .n_args = 1,
     .takes = start_takes,
     .ask = resume,
     .help = "go on from what is done"},
    {.name = "restart",
     .args = "ID",
     .n_args = 1,
     .takes = restart_takes,
     .ask = restart,
     .help = "empty the destination, and begin anew"},
    {.name = "promote",
     .args = "ID",
     .n_args = 1,
     .takes = promote_takes,
     .ask = promote,
     .help = "make the destination the database"},
    {.name = "wait",
     .args = "ID",
     .n_args = 1,
     .takes = wait_takes,
     .ask = jobs_wait,
     .help = "wait until it is in a state or phase (--for)"},
    {.name = "logs",
     .args = "ID",
     .n_args = 1,
     .takes = logs_takes,
     .ask = jobs_logs,
     .help = "show what happened to it; -f goes on as it happens"},
    {.name = "report",
     .args = "ID",
     .n_args = 1,
     .takes = report_takes,
     .ask = jobs_report,
     .help = "show what was moved, how long it took, and what is left to do; also as a page (--output html)"},
    {.name = "passwords",
     .args = "ID",
     .n_args = 1,
     .takes = passwords_takes,
     .ask = jobs_passwords,
     .help = "show, once, the passwords that roles were given because the source's cannot be read"},
    {.name = "delete",
     .args = "ID",
     .n_args = 1,
     .takes = delete_takes,
     .ask = remove_job,
     .help = "end it, and remove what it made on the source"},
    {0},
};
