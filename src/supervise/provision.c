/*
 * Looks after the servers that this node has made.
 *
 * NOTES
 * An instance is looked at as a job is: what it shall be stands in the store (`spec`, `remove`, and the number
 * `wanted`, which grows with each change of them), what was brought about stands there too (`done`), and in between
 * there is one process at a time, known by its number (`run`), which is in the store before the process begins.
 *
 *   the number is committed, no process yet      a folder without a word and no child: the process is begun again
 *   the process dies                             its folder says nothing of an end: it counts as lost, begun again
 *   its result stands in its file, not in here   `taken` is behind `run`: it is taken by the next look
 *   what is wanted changes meanwhile             `order` has the number that it was begun for; `done` becomes that, so
 *                                                the newer wish is still due
 *
 * All that a process does may be repeated (provision/provider.h), so each of these costs time and nothing else.
 *
 * An instance that went down in load mode is DAMAGED: what was in it is worth nothing. Nobody here makes it anew by
 * itself: the job that filled it has to hear of it in the same transaction, or it would go on with an empty server
 * (destination.c).
 */
#include "supervise/provision.h"
#include "supervise/look.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "model/status.h"
#include "provision/journal.h"
#include "vault/vault.h"

#include <string.h>
#include <unistd.h>

static const int64_t look_us = 1 * USEC_PER_SEC, tend_us = 60 * USEC_PER_SEC, pause_first_us = 5 * USEC_PER_SEC,
                     pause_most_us = 300 * USEC_PER_SEC;

typedef struct Care {
    Supervisor *this;
    Arena *arena;
    Record instance;
    SeatPicture picture; /* of its process */
    const char *folder;
} Care;

bool instance_is_here(const Supervisor *this, const Record *instance) {
    return strcmp(json_get_string(instance->run, instance_run_HOME, ""), this->home) == 0;
}

static int64_t number(const Record *instance, const char *key) {
    return json_get_int(instance->run, key, 0);
}

static void set_number(const Record *instance, const char *key, int64_t value) {
    (void)json_object_set_new(instance->run, key, json_integer(value));
}

static void set_state(Record *instance, InstanceState state) {
    instance->resource.state = instance_state_name(state);
}

/* ---- What is done next ---- */

/* Is it what the process was asked for? */
static bool is_order(const Care *care, const char *operation) {
    const json_t *order = json_object_get(care->instance.run, instance_run_ORDER);

    return strcmp(json_get_string(order, "operation", ""), operation) == 0;
}

static bool is_tending(const Care *care) {
    return is_order(care, "tend");
}

/* To what it shall be, from what it is. */
static const char *operation_towards(const Record *instance) {
    const json_t *run = instance->run;

    if (json_get_bool(run, instance_run_REMOVE, false))
        return "remove";
    if (number(instance, instance_run_DONE) == 0 ||
        strcmp(json_get_string(json_object_get(run, instance_run_STATUS), "state", ""), "RUNNING") != 0)
        return "create";
    return strcmp(instance_wanted_mode(instance), "PRIMARY") == 0 ? "promote" : "reconfigure";
}

/* NULL = nothing is due now. */
static const char *operation_due(const Record *instance) {
    int64_t now_us = clock_wall_us(), retry_us = number(instance, instance_run_RETRY_AT_US);

    bool removes = json_get_bool(instance->run, instance_run_REMOVE, false);

    if (retry_us > now_us || (!removes && json_object_get(instance->run, instance_run_LIKE) != NULL))
        return NULL;
    if (!removes && instance_is(instance, INSTANCE_DAMAGED)) /* the job has to hear of it first (destination.c) */
        return NULL;
    if (number(instance, instance_run_WANTED) > number(instance, instance_run_DONE) &&
        (!instance_is(instance, INSTANCE_FAILED) || retry_us != 0))
        return operation_towards(instance);
    if (removes || number(instance, instance_run_DONE) == 0)
        return NULL;
    bool is_due = number(instance, instance_run_TEND_AT_US) <= now_us;
    return is_due || instance_is(instance, INSTANCE_STOPPED) ? "tend" : NULL;
}

/* ---- Its process ---- */

static bool load(StoreTx *tx, void *context, Error *err) {
    Care *care = context;
    const char *name = care->instance.resource.name;

    record_fini(&care->instance);
    care->instance = (Record){.resource = {.name = name}};
    return instance_load(tx, name, &care->instance, err);
}

static json_t *message_of(const Supervisor *this, const Record *instance, const char *operation, int64_t run,
                          const json_t *spec) {
    return json_pack("{s:I, s:s, s:s, s:s, s:O, s:s, s:s*}", "run", (json_int_t)run, "provider",
                     json_get_string(instance->api, "provider", ""), "operation", operation, "id",
                     json_get_string(json_object_get(instance->run, instance_run_SPEC), "id", ""), "spec", spec,
                     "state_dir", this->config.state_dir, "user", this->config.instance_user);
}

/* *ret_start has the password: to be given back soon. */
static bool make_message(const Supervisor *this, StoreTx *tx, const Record *instance, const char *operation,
                         int64_t run, json_t **ret_start, Error *err) {
    CLEANUP(secret_wipe) Secret password = {0};
    CLEANUP(json_freep) json_t *spec = json_deep_copy(json_object_get(instance->run, instance_run_SPEC));

    if (!vault_get(tx, this->config.secrets, instance->resource.name, INSTANCE_PASSWORD, &password, err))
        return error_wrap(err, "the password of %s", instance->resource.name);
    (void)json_object_set_new(spec, "password", json_string_lossy(password.bytes));
    *ret_start = message_of(this, instance, operation, run, spec);
    return true;
}

typedef struct Beginning {
    Care *care;
    const char *operation;
    int64_t run;
    json_t *start;
} Beginning;

static void note_beginning(Record *instance, const char *operation, int64_t run) {
    static const struct {
        const char *operation;
        InstanceState state;
    } states[] = {{"create", INSTANCE_CREATING},
                  {"reconfigure", INSTANCE_MAINTENANCE},
                  {"promote", INSTANCE_MAINTENANCE},
                  {"remove", INSTANCE_DELETING}};

    set_number(instance, instance_run_RUN, run);
    (void)json_object_set_new(
        instance->run, instance_run_ORDER,
        json_pack("{s:s, s:I}", "operation", operation, "wanted", (json_int_t)number(instance, instance_run_WANTED)));
    (void)json_object_del(instance->run, instance_run_RETRY_AT_US);
    set_number(instance, instance_run_TEND_AT_US, clock_wall_us() + tend_us);
    for (size_t at = 0; at < COUNT_OF(states); at++)
        if (strcmp(states[at].operation, operation) == 0)
            set_state(instance, states[at].state);
}

static bool begin(StoreTx *tx, void *context, Error *err) {
    Beginning *beginning = context;
    Care *care = beginning->care;

    json_freep(&beginning->start);
    if (!load(tx, care, err))
        return false;
    beginning->operation = operation_due(&care->instance);
    if (beginning->operation == NULL || !instance_is_here(care->this, &care->instance))
        return true;
    beginning->run = number(&care->instance, instance_run_RUN) + 1;
    note_beginning(&care->instance, beginning->operation, beginning->run);
    return make_message(care->this, tx, &care->instance, beginning->operation, beginning->run, &beginning->start,
                        err) &&
           record_save(tx, care->arena, &care->instance, err);
}

static bool start(Care *care, Error *err) {
    Beginning beginning = {.care = care};
    bool ok = store_write(care->this->config.store, care->arena, begin, &beginning, err);

    if (ok && beginning.start != NULL) {
        if (strcmp(beginning.operation, "tend") != 0)
            log_info("%s: %s", care->instance.resource.name, beginning.operation);
        ok = launch_provision(care->this->children, care->folder, beginning.run, beginning.start, err);
    }
    json_freep(&beginning.start);
    return ok;
}

typedef struct Reading {
    const Supervisor *this;
    const Record *instance;
    const char *operation;
    int64_t run;
    json_t *start;
} Reading;

static bool make_reading(StoreTx *tx, void *context, Error *err) {
    Reading *reading = context;

    json_freep(&reading->start);
    return make_message(reading->this, tx, reading->instance, reading->operation, reading->run, &reading->start, err);
}

bool provision_start(Supervisor *this, const Record *instance, const char *operation, const char *folder, int64_t run,
                     Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Reading reading = {.this = this, .instance = instance, .operation = operation, .run = run};
    bool ok = store_read(this->config.store, arena, make_reading, &reading, err) &&
              launch_provision(this->children, folder, run, reading.start, err);

    json_freep(&reading.start);
    return ok;
}

/* ---- Its result ---- */

static int64_t pause_us(int64_t failures) {
    int64_t pause = pause_first_us;

    for (int64_t at = 1; at < failures && pause < pause_most_us; at++)
        pause *= 2;
    return MIN(pause, pause_most_us);
}

static void note_status(Record *instance, const json_t *said) {
    json_t *status = json_object_get(said, "provision");

    if (json_is_object(status))
        (void)json_object_set(instance->run, instance_run_STATUS, status);
}

/* Where the server stands by what the provider said. */
static InstanceState state_of_status(const Record *instance) {
    const char *state = json_get_string(json_object_get(instance->run, instance_run_STATUS), "state", "");

    return strcmp(state, "RUNNING") == 0   ? INSTANCE_RUNNABLE
           : strcmp(state, "DAMAGED") == 0 ? INSTANCE_DAMAGED
                                           : INSTANCE_STOPPED;
}

static void note_success(const Care *care, Record *instance) {
    const json_t *order = json_object_get(instance->run, instance_run_ORDER);
    int64_t wanted = json_get_int(order, "wanted", 0);

    (void)json_object_del(instance->run, instance_run_FAILURES);
    (void)json_object_del(instance->api, "error");
    if (!is_tending(care))
        set_number(instance, instance_run_DONE, wanted);
    if (number(instance, instance_run_WANTED) == number(instance, instance_run_DONE))
        set_state(instance, state_of_status(instance));
    if (is_order(care, "promote")) /* its first backup is due */
        set_number(instance, instance_run_TEND_AT_US, clock_wall_us());
}

/* What cannot pass by itself waits for another wish; looking after it goes on all the same. */
static void note_failure(const Care *care, Record *instance) {
    const Error *error = &care->picture.error;
    bool lost = care->picture.seat.state == SEAT_LOST || care->picture.seat.state == SEAT_STOPPED;
    int64_t failures = number(instance, instance_run_FAILURES) + 1;
    bool is_primary = strcmp(instance_wanted_mode(instance), "PRIMARY") == 0; /* nobody waits who could ask again */
    if (is_tending(care) && error->reason == REASON_CANCELLED) /* something else is wanted of it (end_tending()) */
        return;
    bool again = is_tending(care) || error->retryable || is_primary || (lost && failures < SEAT_LOSSES_MAX);

    set_number(instance, instance_run_FAILURES, failures);
    (void)json_object_set_new(instance->api, "error", status_to_json(error, NULL));
    if (again)
        set_number(instance, instance_run_RETRY_AT_US, clock_wall_us() + pause_us(failures));
    if (error->reason == REASON_PROVISION_DAMAGED)
        set_state(instance, INSTANCE_DAMAGED);
    else if (is_tending(care) && !instance_is(instance, INSTANCE_FAILED))
        set_state(instance, state_of_status(instance));
    else if (!again)
        set_state(instance, INSTANCE_FAILED);
    log_warning("%s: %s", instance->resource.name, error->message);
}

static bool take(StoreTx *tx, void *context, Error *err) {
    Care *care = context;

    if (!load(tx, care, err))
        return false;
    Record *instance = &care->instance;
    if (number(instance, instance_run_RUN) != care->picture.run ||
        number(instance, instance_run_TAKEN) == care->picture.run)
        return true;
    set_number(instance, instance_run_TAKEN, care->picture.run);
    note_status(instance, care->picture.said);
    bool done = care->picture.seat.state == SEAT_DONE;
    if (done && json_get_bool(instance->run, instance_run_REMOVE, false) && !is_tending(care) &&
        number(instance, instance_run_WANTED) ==
            json_get_int(json_object_get(instance->run, instance_run_ORDER), "wanted", 0))
        return store_delete(tx, instance->resource.name, instance->resource.version, err);
    if (done)
        note_success(care, instance);
    else
        note_failure(care, instance);
    return record_save(tx, care->arena, instance, err);
}

/* ---- Looking ---- */

static bool look_at_process(Care *care, Error *err) {
    const Process process = {.name = "instance", .run = care->instance.run, .folder = care->folder};

    if (!process_look(care->this, care->arena, &process, &care->picture, err))
        return false;
    if (care->picture.seat.state == SEAT_IDLE) { /* its number is in the store, and it was never begun */
        care->picture.seat.state = SEAT_LOST;
        error_set(&care->picture.error, REASON_WORKER_LOST, "it was not begun");
    }
    return true;
}

static void tell_nobody(void *context UNUSED, const char *text UNUSED) {
}

/* What the machine shows of the server, now and then. */
static bool describe(const Care *care, ProvisionStatus *ret_status, Error *err) {
    const ProvisionConfig config = {.state_dir = care->this->config.state_dir,
                                    .user = care->this->config.instance_user};
    const char *id = json_get_string(json_object_get(care->instance.run, instance_run_SPEC), "id", "");
    const Provider *provider = provider_find(json_get_string(care->instance.api, "provider", ""));
    CLEANUP(provision_journal_closep) ProvisionJournal *journal = NULL;
    ProvisionCall call = {.arena = care->arena, .config = &config, .stop = &care->this->stop, .tell = tell_nobody};

    if (provider == NULL)
        return error_set(err, REASON_NOT_SERVED, "%s is made with something that this version does not know",
                         care->instance.resource.name);
    if (!provision_journal_open(care->arena, &config, id, &journal, err))
        return false;
    call.journal = journal;
    return provider->describe(&call, id, ret_status, err);
}

typedef struct Seen {
    Care *care;
    const ProvisionStatus *status;
} Seen;

static bool note_seen(StoreTx *tx, void *context, Error *err) {
    Seen *seen = context;
    Care *care = seen->care;

    if (!load(tx, care, err))
        return false;
    if (!instance_is_settled(&care->instance))
        return true;
    (void)json_object_set_new(care->instance.run, instance_run_STATUS, provision_status_to_json(seen->status));
    set_state(&care->instance, state_of_status(&care->instance));
    return instance_is(&care->instance, INSTANCE_RUNNABLE) || record_save(tx, care->arena, &care->instance, err);
}

static bool see(Care *care, Error *err) {
    ProvisionStatus status = {0};
    Seen seen = {.care = care, .status = &status};
    Error why;

    if (!instance_is_settled(&care->instance))
        return true;
    if (!describe(care, &status, &why)) {
        log_warning("%s: %s", care->instance.resource.name, why.message);
        return true;
    }
    return status.state == PROVISION_STATE_RUNNING ||
           store_write(care->this->config.store, care->arena, note_seen, &seen, err);
}

static bool is_begun(const Care *care) {
    int64_t run = number(&care->instance, instance_run_RUN);

    return run > 0 && number(&care->instance, instance_run_TAKEN) < run;
}

/* The folder of one that is gone: whoever dies before it is removed leaves a log, and nothing else. */
static void tidy(const Care *care) {
    Error why;

    if (access(care->folder, F_OK) == 0 && !fd_remove_tree(care->folder, &why))
        log_warning("%s is removed, its log is not: %s", care->instance.resource.name, why.message);
}

/* A backup may take hours: nobody waits for that of a server that is to be gone. */
static void end_tending(const Care *care) {
    if (is_tending(care) && json_get_bool(care->instance.run, instance_run_REMOVE, false))
        (void)launch_stop_provision(care->folder, care->picture.status.pid);
}

static bool follow_up(Care *care, Error *err) {
    if (is_begun(care)) {
        if (!look_at_process(care, err))
            return false;
        if (seat_is_alive(care->picture.seat.state)) {
            end_tending(care);
            return true;
        }
        if (!store_write(care->this->config.store, care->arena, take, care, err))
            return false;
    } else if (!see(care, err)) {
        return false;
    }
    return operation_due(&care->instance) == NULL || start(care, err);
}

typedef struct Claim {
    Care *care;
} Claim;

static bool claim(StoreTx *tx, void *context, Error *err) {
    Care *care = context;

    if (!load(tx, care, err))
        return false;
    if (json_get_string(care->instance.run, instance_run_HOME, "")[0] != '\0')
        return true;
    (void)json_object_set_new(care->instance.run, instance_run_HOME, json_string(care->this->home));
    return record_save(tx, care->arena, &care->instance, err);
}

static bool look_at(Supervisor *this, Arena *arena, const StoreResource *resource, Error *err) {
    Care care = {.this = this, .arena = arena, .instance = {.resource = {.name = resource->name}}};
    const char *home;

    care.folder = arena_printf(arena, "%s/provision/%s", this->config.state_dir, resource->uid);
    bool ok = store_read(this->config.store, arena, load, &care, err);
    home = ok ? json_get_string(care.instance.run, instance_run_HOME, "") : "";
    if (ok && home[0] == '\0')
        ok = store_write(this->config.store, arena, claim, &care, err);
    if (ok && instance_is_here(this, &care.instance))
        ok = follow_up(&care, err);
    if (!ok && err->reason == REASON_NO_RESOURCE) {
        tidy(&care);
        ok = true;
    }
    seat_picture_fini(&care.picture);
    record_fini(&care.instance);
    return ok;
}

typedef struct Listing {
    StoreResource *items;
    size_t count;
} Listing;

static bool list(StoreTx *tx, void *context, Error *err) {
    Listing *listing = context;
    const StoreQuery query = {.kind = STORE_INSTANCE, .page_size = STORE_PAGE_MAX};
    StorePage page = {0};

    if (!store_list(tx, &query, &page, err))
        return false;
    *listing = (Listing){.items = page.items, .count = page.count};
    return true;
}

/* What one instance needs does not keep others waiting, unless the store is away. */
bool instances_look(Supervisor *this, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Listing listing = {0};
    Error why;

    if (clock_now_us() < this->next_instances_us)
        return true;
    if (!store_read(this->config.store, arena, list, &listing, err))
        return false;
    this->next_instances_us = clock_now_us() + look_us;
    for (size_t at = 0; at < listing.count; at++)
        if (!look_at(this, arena, &listing.items[at], &why)) {
            log_warning("%s: %s", listing.items[at].name, why.message);
            if (is_of_the_store(&why)) {
                *err = why;
                return false;
            }
        }
    return true;
}
