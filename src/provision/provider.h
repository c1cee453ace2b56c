/*
 * Servers that pgcrane makes: one interface for whatever they are made with.
 *
 * Contract
 * - A provider makes, changes and removes whole PostgreSQL servers ("instances"). It is asked for what an instance
 * shall be (ProvisionSpec), never for a step: each operation may be called again at any time, after a crash at any
 * moment, and then goes on to the same end. An instance that is already as it shall be is left alone, without a
 * restart.
 * - Every step that leaves something behind is written to the journal before it is made (ProvisionJournal), so that
 *   remove() finds what there may be, also of a create() that never came to its end.
 * - Operations run in a process of their own (`pgcrane provision`), may take minutes, and wait on call->stop. They
 * never write to a database of a user, but for the password of the administrator.
 * - Nothing here is about one kind of place: a provider has no field of its own in these structures. What it needs
 * beside, it is configured with (ProvisionConfig), and keeps in the journal.
 * - Secrets are in the spec only, and never in the journal, a log or an argument list.
 * - Results are in call->arena. One thread per call.
 */
#pragma once

#include "common/buf.h"
#include "common/json.h"
#include "common/stop.h"
#include "common/vec.h"

/*
 * What the instance is for at the moment.
 * X(name, what it means)
 */
#define PROVISION_MODES(X)                                                                                             \
    X(LOAD, "as fast as it can be filled: a crash costs all that is in it")                                            \
    X(MIGRATING, "durable, with everything that an application relies on; no backups yet")                             \
    X(PRIMARY, "an application's, if only in part: backups are made, a standby is kept where availability is "         \
               "REGIONAL")

typedef enum ProvisionMode {
#define X(name, help) PROVISION_##name,
    PROVISION_MODES(X)
#undef X
        PROVISION_MODE_MAX_,
} ProvisionMode;

enum { PROVISION_ID_MAX = 40 }; /* it is part of the path of a socket, which has 107 bytes */

typedef struct ProvisionFlag {
    const char *name, *value; /* a setting of PostgreSQL */
} ProvisionFlag;

typedef struct ProvisionSpec {
    const char *id; /* [a-z0-9-], unique among instances of this service, never used again for another one */
    int major;      /* of PostgreSQL */
    ProvisionMode mode;
    const char *encoding;        /* as PostgreSQL calls it; NULL = UTF8 */
    const char *provider;        /* of the locale: libc, icu, builtin; NULL = libc */
    const char *collate, *ctype; /* NULL = C.UTF-8 */
    const char *locale;          /* of icu and builtin; NULL = none */
    VEC(ProvisionFlag) flags;
    int64_t cpus;       /* 0 = whatever there is */
    int64_t memory_mb;  /* 0 = a quarter of what there is */
    int64_t disk_mb;    /* the limit of what it may take; 0 = what there is */
    StringVec networks; /* CIDR, from where it may be reached beside the machine itself */
    bool require_tls;
    bool regional; /* a standby is kept when it is the primary */
    /* Of the administrator, "postgres". NULL = the one that is there; of an instance that is made, also anew, one is
     * made up, and in the endpoint. Whoever lost that one gives another. */
    const char *password;
} ProvisionSpec;

/* How to reach it. All of it is needed, and nothing else is. */
typedef struct ProvisionEndpoint {
    const char *host;
    int64_t port;
    const char *user;
    const char *password; /* only when one was made up in this call; else NULL */
    const char *ca;       /* certificate (PEM) that the server's is signed by; NULL = it has none */
} ProvisionEndpoint;

/*
 * X(name, what it means)
 */
#define PROVISION_STATES(X)                                                                                            \
    X(ABSENT, "there is none, and nothing is left of one")                                                             \
    X(UNFINISHED, "a create or a remove did not come to its end")                                                      \
    X(RUNNING, "it takes connections, or will in a moment")                                                            \
    X(STOPPED, "all is there, and the server does not run")                                                            \
    X(DAMAGED, "it went down in load mode: what is in it is worth nothing; create() makes it anew, empty")

typedef enum ProvisionState {
#define X(name, help) PROVISION_STATE_##name,
    PROVISION_STATES(X)
#undef X
        PROVISION_STATE_MAX_,
} ProvisionState;

typedef struct ProvisionStatus {
    ProvisionState state;
    ProvisionMode mode;            /* that is in force; of one that runs or is stopped */
    const char *system_identifier; /* another one: it was made anew since; NULL = none yet */
    ProvisionEndpoint endpoint;    /* of one that is not absent */
    int64_t disk_used_mb;          /* -1 = not known */
    const char *trouble;           /* why it does not run, for people; NULL = nothing */
} ProvisionStatus;

typedef struct ProvisionJournal ProvisionJournal; /* journal.h */

typedef struct ProvisionConfig {
    const char *state_dir; /* of the service */
    const char *user;      /* that servers run as when we are root; NULL = "postgres" */
    const char *bindirs;   /* more folders of programs, colon-separated; NULL = none */
} ProvisionConfig;

typedef struct ProvisionCall {
    Arena *arena;
    const ProvisionConfig *config;
    ProvisionJournal *journal; /* of the instance */
    const Stop *stop;
    void (*tell)(void *context, const char *text); /* what it does, for a log; never NULL */
    void *context;
} ProvisionCall;

typedef struct Provider {
    const char *name;
    /* All that is wrong with the spec at once, as an Error of reason PROVISION_REFUSED whose message lists it; changes
     * nothing. */
    bool (*check)(ProvisionCall *call, const ProvisionSpec *spec, Error *err);
    /* From nothing, or from what an earlier call left, to an instance that takes connections and is as `spec` says. */
    bool (*create)(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err);
    /* A few milliseconds; never waits for the server. Fills *ret_status also with what is not well. */
    bool (*describe)(ProvisionCall *call, const char *id, ProvisionStatus *ret_status, Error *err);
    /* The one that is there becomes as `spec` says (flags, size, networks, mode), restarted where that is needed. Out
     * of LOAD: everything is on the disk, and the settings of production are seen to be in force by asking the server,
     * before it succeeds. PROVISION_DAMAGED when the content is lost. */
    bool (*reconfigure)(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err);
    /* reconfigure() to PRIMARY, with what makes it the application's: backups, standby. What of these cannot be had now
     * is the status' trouble, and tend()'s. */
    bool (*promote)(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err);
    /* Everything, also of a create() that never ended. One that is absent is no error. */
    bool (*remove)(ProvisionCall *call, const char *id, Error *err);
    /* What time asks for: a server that went down is started, a backup that is due is made, logs are rotated,
     * certificates that end are followed by others.
     * NULL = the place does that itself. */
    bool (*tend)(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err);
    /* The last lines of the server's log, at most `max` bytes. */
    bool (*read_log)(ProvisionCall *call, const char *id, size_t max, Buf *ret_text, Error *err);
} Provider;

/* NULL-terminated. */
extern const Provider *const providers[];
const Provider *provider_find(const char *name);

const char *provision_mode_name(ProvisionMode mode);
const char *provision_state_name(ProvisionState state);
ProvisionMode provision_mode_from_name(const char *name); /* PROVISION_MODE_MAX_ when there is none of that name */

/* {"id", "major", "mode", ...}, as the fields are called; "password" is in it. New reference. */
json_t *provision_spec_to_json(const ProvisionSpec *spec);
NODISCARD bool provision_spec_from_json(Arena *arena, const json_t *json, ProvisionSpec *ret_spec, Error *err);
json_t *provision_status_to_json(const ProvisionStatus *status);
NODISCARD bool provision_status_from_json(Arena *arena, const json_t *json, ProvisionStatus *ret_status, Error *err);
