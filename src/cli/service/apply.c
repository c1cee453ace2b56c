/* `pgcrane apply`: looks, shows the plan, asks, does it. */
#include "cli/service/apply.h"

#include "cli/service/change.h"
#include "cli/service/manifest.h"
#include "cli/service/plan.h"
#include "cli/verbs.h"
#include "client/yaml.h"
#include "common/fd.h"

#include <string.h>
#include <unistd.h>

typedef enum StepKind { STEP_CREATE, STEP_CHANGE, STEP_SAME, STEP_KIND_MAX_ } StepKind;

static const struct {
    const char *sign, *word;
    Ink ink;
} step_kinds[] = {
    [STEP_CREATE] = {"+", "create", INK_GREEN},
    [STEP_CHANGE] = {"~", "change", INK_YELLOW},
    [STEP_SAME] = {"=", "unchanged", INK_DIM},
};

typedef struct Step {
    StepKind kind;
    const ManifestItem *item;
    DifferenceVec differences;
    json_t *sent; /* of a change; may hold secrets */
} Step;

typedef struct Plan {
    Manifest manifest;
    Step *steps; /* one for each item */
    size_t count[STEP_KIND_MAX_];
} Plan;

static void plan_fini(Plan *plan) {
    for (size_t at = 0; plan->steps != NULL && at < plan->manifest.len; at++)
        json_freep(&plan->steps[at].sent); /* its texts are the manifest's, which overwrites them */
    manifest_fini(&plan->manifest);
}

static const char *kind_word(const ManifestItem *item) {
    return item->kind == SHOW_PROFILE ? "profile" : "job";
}

/* --- the file --- */

static bool read_all(int fd, Buf *text, Error *err) {
    char step[64 * 1024];
    ssize_t got;

    while ((got = read(fd, step, sizeof(step))) > 0) {
        buf_append(text, step, (size_t)got);
        if (!buf_ok(text, "standard input", err))
            return false;
    }
    explicit_bzero(step, sizeof(step));
    return got == 0 || error_errno(err, REASON_SYSTEM, "standard input");
}

static bool read_manifest(Service *service, Manifest *manifest, Error *err) {
    const char *path = service->options->file;
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, YAML_TEXT_MAX);
    if (path == NULL) {
        error_set(err, REASON_USAGE, "the file is missing");
        return error_remedy(err, "pgcrane apply -f FILE; see pgcrane apply --help");
    }
    bool good = (strcmp(path, "-") == 0 ? read_all(STDIN_FILENO, &text, err) : fd_read_file(path, &text, err)) &&
                (manifest_parse(service->arena, service->parent, text.data, text.len, manifest, err) ||
                 error_wrap(err, "%s", path));
    explicit_bzero(text.data, text.len);
    return good;
}

/* --- the plan --- */

static bool plan_step(Service *service, Step *step, Error *err) {
    CLEANUP(json_freep) json_t *current = NULL;
    const ManifestItem *item = step->item;

    if (!service_get(service, item->name, NULL, &current, err)) {
        step->kind = STEP_CREATE;
        return err->reason == REASON_NO_RESOURCE;
    }
    step->sent = plan_compare(item->message, current, item->wanted, service->options->secrets, service->arena,
                              &step->differences);
    step->kind = step->differences.len > 0 ? STEP_CHANGE : STEP_SAME;
    return true;
}

static bool make_plan(Service *service, Plan *plan, Error *err) {
    size_t count = plan->manifest.len;

    plan->steps = arena_array(service->arena, Step, count + 1);
    for (size_t at = 0; at < count; at++) {
        Step *step = &plan->steps[at];

        step->item = &plan->manifest.items[at];
        if (!plan_step(service, step, err))
            return error_wrap(err, "%s %s", kind_word(step->item), step->item->id);
        plan->count[step->kind]++;
    }
    return true;
}

/* What cannot be done is told before anything is. */
static bool check_fixed(const Plan *plan, Error *err) {
    for (size_t at = 0; at < plan->manifest.len; at++) {
        const Step *step = &plan->steps[at];

        for (size_t n = 0; n < step->differences.len; n++) {
            if (!step->differences.items[n].is_fixed)
                continue;
            const char *word = kind_word(step->item);
            error_set(err, REASON_CONFLICT, "%s %s: %s cannot be changed any more", word, step->item->id,
                      step->differences.items[n].path);
            return error_remedy(err, "pgcrane %ss delete %s, then apply again; or put it back in the file", word,
                                step->item->id);
        }
    }
    return true;
}

/* --- showing it --- */

static void put_difference(const Service *service, const Difference *difference) {
    const char *before = difference->before, *after = difference->after;

    buf_printf(service->out, "      %s: %s%s%s\n", difference->path,
               before != NULL ? text_clean(service->arena, before) : "", before != NULL ? " -> " : "",
               after != NULL ? text_clean(service->arena, after) : "(none)");
}

static void put_step(const Service *service, const Step *step) {
    Line line = {.out = service->out, .width = INT32_MAX, .utf8 = service->tty.utf8, .color = service->tty.color};

    line_put(
        &line, step_kinds[step->kind].ink,
        arena_printf(service->arena, "  %s %s %s", step_kinds[step->kind].sign, kind_word(step->item), step->item->id));
    line_put(&line, INK_DIM, arena_printf(service->arena, "  %s", step_kinds[step->kind].word));
    line_end(&line);
    for (size_t at = 0; at < step->differences.len; at++)
        put_difference(service, &step->differences.items[at]);
}

static void show_plan(const Service *service, const Plan *plan) {
    for (size_t at = 0; at < plan->manifest.len; at++)
        put_step(service, &plan->steps[at]);
    buf_printf(service->out, "%s: %zu to make, %zu to change, %zu as they are\n",
               plan->manifest.len > 0 ? "Plan" : "The file holds nothing", plan->count[STEP_CREATE],
               plan->count[STEP_CHANGE], plan->count[STEP_SAME]);
}

static json_t *step_to_json(const Step *step) {
    json_t *changes = json_array();

    for (size_t at = 0; at < step->differences.len; at++) {
        const Difference *difference = &step->differences.items[at];
        json_t *change =
            json_pack("{s:s, s:o}", "field", difference->path, "after", json_string_lossy(difference->after));
        if (difference->before != NULL)
            (void)json_object_set_new(change, "before", json_string_lossy(difference->before));
        (void)json_array_append_new(changes, change);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "kind", kind_word(step->item), "id", step->item->id, "name",
                     step->item->name, "action", step_kinds[step->kind].word, "changes", changes);
}

/* One document, behind everything: `applied` says whether it was done. */
static void show_result(const Service *service, const Plan *plan, bool applied) {
    json_t *steps = json_array();

    if (service->format == OUTPUT_TABLE) {
        json_decref(steps);
        return;
    }
    for (size_t at = 0; at < plan->manifest.len; at++)
        (void)json_array_append_new(steps, step_to_json(&plan->steps[at]));
    CLEANUP(json_freep) json_t *result = json_pack("{s:o, s:b}", "plan", steps, "applied", applied);
    show_data(service->format, result, service->out);
}

/* --- doing it --- */

static bool do_step(Service *service, const Step *step, Error *err) {
    CLEANUP(json_freep) json_t *operation = NULL;
    const ManifestItem *item = step->item;
    bool create = step->kind == STEP_CREATE, is_job = item->kind == SHOW_JOB;
    const ClientParam created[] = {{is_job ? "migrationJobId" : "connectionProfileId", item->id}, {0}};
    const ClientParam changed[] = {{"updateMask", plan_mask(service->arena, &step->differences)}, {0}};
    const char *path =
        arena_printf(service->arena, "%s/%s", service->parent, is_job ? JOB_COLLECTION : PROFILE_COLLECTION);
    const Change change = {
        .method = create ? CLIENT_POST : CLIENT_PATCH,
        .path = create ? path : item->name,
        .params = create ? created : changed,
        .body = create ? item->wanted : step->sent,
        .what = arena_printf(service->arena, "%s %s %s", create ? "making" : "changing", kind_word(item), item->id),
    };

    if (step->kind == STEP_SAME)
        return true;
    if (!change_ask(service, &change, &operation, err))
        return false;
    if (!service->options->async && !change_follow(service, change.what, &operation, err))
        return false;
    if (service->format == OUTPUT_TABLE)
        buf_printf(service->out, "%s %s is %s.\n", is_job ? "Job" : "Profile", item->id, create ? "made" : "changed");
    return service_flush(service, err);
}

static bool do_plan(Service *service, const Plan *plan, Error *err) {
    for (size_t at = 0; at < plan->manifest.len; at++)
        if (!do_step(service, &plan->steps[at], err))
            return false;
    return true;
}

bool apply_run(Service *service, Error *err) {
    CLEANUP(plan_fini) Plan plan = {0};

    if (!read_manifest(service, &plan.manifest, err) || !make_plan(service, &plan, err))
        return false;
    size_t to_do = plan.count[STEP_CREATE] + plan.count[STEP_CHANGE];
    if (service->format == OUTPUT_TABLE)
        show_plan(service, &plan);
    if (!check_fixed(&plan, err))
        return false;
    bool apply = to_do > 0 && !service->options->dry_run;
    if (apply && !service_confirm(service, "Do this?", err))
        return false;
    if (apply && (!service_flush(service, err) || !do_plan(service, &plan, err)))
        return false;
    show_result(service, &plan, apply);
    return true;
}
