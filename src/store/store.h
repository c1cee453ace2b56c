/*
 * Where the control plane keeps its wishes: resources, secrets, logs, the outbox, leases and request ids, in an SQLite
 * file or in the schema pgcrane_store of a PostgreSQL database that several daemons share.
 *
 * Contract
 * - All work is done by a body: a function that store_write() or store_read() runs inside one transaction. What the
 * body did is committed when it returns true and rolled back when it returns false. There is no begin, no commit and no
 *   rollback to forget.
 * - store_write() may run the body several times: again after the connection was lost or the transaction lost against
 *   another, always from the beginning and only when it is certain that nothing of the run before is in the store. So a
 *   body changes nothing but the store (through its StoreTx) and its own outputs, does not wait for anything, and calls
 *   neither store_write() nor store_read() itself.
 * - Writes happen one after another in both stores, of all daemons: what a body reads stays true until it is committed.
 *   A read sees one moment.
 * - A function that reports NO_RESOURCE, NAME_TAKEN, STALE_VERSION, LEASE_LOST or REQUEST_REUSED has changed nothing,
 * and the body may go on. Behind every other failure the body must return false.
 * - Results live in the arena given to store_write() or store_read(). Strings given to functions are copied. Everything
 *   is UTF-8 (else BAD_DATA) of at most STORE_NAME_MAX or, named body, detail or a secret, STORE_BODY_MAX bytes. NULL
 * is the same as "" where text is kept.
 * - Times are microseconds. Times of records are wall clock (of the database for PostgreSQL). Leases, nodes and the
 * outbox count by the store's own clock: database time, or for SQLite a monotonic clock that goes on over restarts; no
 * node's wall clock has a part in it.
 * - A Store may be used by any number of threads. store_wait() is for one thread at a time.
 * - Errors: STORE_UNAVAILABLE and STORE_LOCKED (try again later), STORE_FULL, STORE_READ_ONLY, STORE_FOREIGN,
 *   STORE_NEWER, STORE_DAMAGED, CANCELLED (config.stop). STORE_COMMIT_UNKNOWN: the connection was lost while committing
 *   and the store has not come back in time to say whether it did. Read the version of what was to change, or repeat
 * the same request: a version that was expected fails with STALE_VERSION if it was committed, a create with NAME_TAKEN.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/stop.h"

typedef struct Store Store;
typedef struct StoreTx StoreTx;

enum { STORE_NAME_MAX = 1024, STORE_BODY_MAX = 1 << 20, STORE_PAGE_MAX = 1000 };

typedef enum StoreBackend { STORE_SQLITE, STORE_POSTGRESQL } StoreBackend;

typedef struct StoreConfig {
    StoreBackend backend;
    const char *where;   /* path of the file, or URI or key=value string of the database */
    const Stop *stop;    /* ends every wait; may be NULL; outlives the Store */
    int64_t patience_us; /* how long a call goes on trying when the store is away or locked; 0 = 5 s */
} StoreConfig;

/* Makes the store when there is none and brings its schema up to date; several daemons may do so at once. */
NODISCARD bool store_open(const StoreConfig *config, Store **ret_store, Error *err);
void store_close(Store *store); /* NULL is fine; nobody is in a call */
void store_closep(Store **store);

typedef bool (*StoreBody)(StoreTx *tx, void *context, Error *err);
NODISCARD bool store_write(Store *store, Arena *arena, StoreBody body, void *context, Error *err);
NODISCARD bool store_read(Store *store, Arena *arena, StoreBody body, void *context, Error *err);

/* Waits until something but a lease's or node's renewal was committed (by any daemon for PostgreSQL, by this Store for
 * SQLite), or the deadline (clock_now_us() scale). A hint to look at once, given also when the connection to
 * the store is new; whoever relies on it looks at the deadline as well. */
NODISCARD bool store_wait(Store *store, int64_t deadline_us, bool *ret_woken, Error *err);

/* To be called every few minutes: forgets request ids older than an hour, and gives back the room of SQLite's log. */
NODISCARD bool store_tidy(Store *store, Error *err);

/* --- Resources ---------------------------------------------------------------------------------------------------- */

#define STORE_KINDS(X)                                                                                                 \
    X(CONNECTION_PROFILE)                                                                                              \
    X(MIGRATION_JOB)                                                                                                   \
    X(MIGRATION_JOB_OBJECT)                                                                                            \
    X(PRIVATE_CONNECTION)                                                                                              \
    X(INSTANCE)                                                                                                        \
    X(OPERATION)

typedef enum StoreKind {
#define X(name) STORE_##name,
    STORE_KINDS(X)
#undef X
        STORE_KIND_MAX_,
} StoreKind;

const char *store_kind_name(StoreKind kind);
StoreKind store_kind_from_name(const char *name); /* STORE_KIND_MAX_ when there is none */

typedef struct StoreResource {
    StoreKind kind;
    const char *name;   /* full resource name: unique in the store, never changed */
    const char *parent; /* projects/P/locations/L, or the job of an object; never changed */
    const char *uid;    /* never changed */
    const char *state;  /* an operation that is over has STORE_DONE */
    const char *phase;
    const char *display_name;
    const char *body; /* JSON text; the store does not look into it. No secrets in here */
    int64_t version;  /* the etag: grows with each change of anything in the store, is never used twice */
    int64_t create_us, update_us;
} StoreResource;

#define STORE_DONE "DONE"

NODISCARD bool store_get(StoreTx *tx, const char *name, StoreResource *ret_resource, Error *err); /* NO_RESOURCE */
/* Sets version and times. NAME_TAKEN. */
NODISCARD bool store_create(StoreTx *tx, StoreResource *resource, Error *err);
/* Sets state, phase, display name and body when the version is still resource->version; that and update_us are set
 * anew. NO_RESOURCE, STALE_VERSION. */
NODISCARD bool store_update(StoreTx *tx, StoreResource *resource, Error *err);
/* With its secrets, event log and report. NO_RESOURCE, STALE_VERSION. */
NODISCARD bool store_delete(StoreTx *tx, const char *name, int64_t version, Error *err);

typedef enum StoreOrder { STORE_BY_NAME, STORE_BY_CREATE_TIME, STORE_ORDER_MAX_ } StoreOrder;

typedef struct StoreQuery {
    StoreKind kind;
    const char *parent; /* NULL = of all parents (locations/-) */
    const char *state;  /* NULL = any */
    StoreOrder order;   /* names by bytes; resources of one moment by name */
    bool descending;
    size_t page_size;   /* 0 = 50; more than STORE_PAGE_MAX are not given */
    const char *cursor; /* next_cursor of the page before; NULL or "" = from the beginning */
} StoreQuery;

typedef struct StorePage {
    StoreResource *items;
    size_t count;
    const char *next_cursor; /* "" on the last page; opaque, good in a URL */
} StorePage;

/* What is created or deleted between two pages is or is not in the later one; nothing else is missed or seen twice.
 * BAD_CURSOR when it is none, or one of another query (the size of the page may differ). */
NODISCARD bool store_list(StoreTx *tx, const StoreQuery *query, StorePage *ret_page, Error *err);
/* Of kind, parent and state. */
NODISCARD bool store_count(StoreTx *tx, const StoreQuery *query, int64_t *ret_count, Error *err);
/* Deletes operations that were done longer ago. */
NODISCARD bool store_operation_prune(StoreTx *tx, int64_t age_us, int64_t *ret_count, Error *err);

/* --- Secrets: encrypted bytes that belong to a resource and go with it ---------------------------------------------
 */

NODISCARD bool store_secret_set(StoreTx *tx, const char *owner, const char *field, const void *bytes, size_t len,
                                Error *err); /* NO_RESOURCE */
NODISCARD bool store_secret_get(StoreTx *tx, const char *owner, const char *field, const void **ret_bytes,
                                size_t *ret_len, Error *err);                                      /* NO_RESOURCE */
NODISCARD bool store_secret_remove(StoreTx *tx, const char *owner, const char *field, Error *err); /* none: no error */

typedef struct StoreSecret {
    const char *owner, *field;
    const void *bytes;
    size_t len;
} StoreSecret;

/* Of all resources, by owner and field, behind (after_owner, after_field); "", "" = from the beginning. */
NODISCARD bool store_secret_list(StoreTx *tx, const char *after_owner, const char *after_field, size_t limit,
                                 StoreSecret **ret_secrets, size_t *ret_count, Error *err);

/* How many secrets begin with the same len bytes (at most 64; or are those bytes, when they are shorter). */
typedef struct StoreSecretHead {
    const void *bytes;
    size_t len;
    int64_t count;
} StoreSecretHead;

NODISCARD bool store_secret_heads(StoreTx *tx, size_t len, StoreSecretHead **ret_heads, size_t *ret_count, Error *err);

/* --- Reports: a JSON text that belongs to a resource and goes with it; its version does not change by it
 * ------------------------------------------------------------------------------------------------------------ */

NODISCARD bool store_report_set(StoreTx *tx, const char *owner, const char *body, Error *err);      /* NO_RESOURCE */
NODISCARD bool store_report_get(StoreTx *tx, const char *owner, const char **ret_body, Error *err); /* NULL = none */
NODISCARD bool store_report_remove(StoreTx *tx, const char *owner, Error *err);                     /* none: no error */

/* --- Event log of a job, audit log -------------------------------------------------------------------------------- */

/* Ids of both logs grow in the order of commits: whoever has read up to an id finds all that is new behind it. */
typedef struct StoreEvent {
    int64_t id, time_us;
    const char *job;
    const char *kind; /* the caller's word for it */
    const char *message;
    const char *detail; /* JSON or "" */
} StoreEvent;

NODISCARD bool store_event_append(StoreTx *tx, StoreEvent *event, Error *err); /* sets id, time; NO_RESOURCE */
NODISCARD bool store_event_list(StoreTx *tx, const char *job, int64_t after_id, size_t limit, StoreEvent **ret_events,
                                size_t *ret_count, Error *err);
/* Leaves the newest `keep` of a job. */
NODISCARD bool store_event_prune(StoreTx *tx, const char *job, int64_t keep, int64_t *ret_count, Error *err);

typedef struct StoreAudit {
    int64_t id, time_us;
    const char *who, *action, *resource, *from, *request_id, *outcome;
} StoreAudit;

NODISCARD bool store_audit_append(StoreTx *tx, StoreAudit *audit, Error *err); /* sets id and time */
/* The newest first. before_id 0 = from the newest on; resource NULL = all. */
NODISCARD bool store_audit_list(StoreTx *tx, const char *resource, int64_t before_id, size_t limit,
                                StoreAudit **ret_audits, size_t *ret_count, Error *err);
NODISCARD bool store_audit_prune(StoreTx *tx, int64_t age_us, int64_t *ret_count, Error *err);

/* --- Outbox: actions that a change of state asks for ---------------------------------------------------------------
 */

/* Each entry is given out at least once and until somebody says done; those of one owner one after the other. */
typedef struct StoreAction {
    int64_t id, create_us;
    const char *owner; /* the job; need not exist (any more) */
    const char *action;
    const char *body;
    int64_t attempt; /* how often it was given out, this time included */
} StoreAction;

NODISCARD bool store_outbox_add(StoreTx *tx, StoreAction *action, Error *err); /* sets id and time */
/* Entries of `owner` (NULL = of all) that nobody has in hand; they are the node's for span_us, then anybody's. */
NODISCARD bool store_outbox_take(StoreTx *tx, const char *node, const char *owner, int64_t span_us, size_t limit,
                                 StoreAction **ret_actions, size_t *ret_count, Error *err);
/* LEASE_LOST when it was given out again meanwhile, or is done. */
NODISCARD bool store_outbox_done(StoreTx *tx, int64_t id, int64_t attempt, Error *err);
/* Not now: it is given out again after delay_us. LEASE_LOST as above. */
NODISCARD bool store_outbox_postpone(StoreTx *tx, int64_t id, int64_t attempt, int64_t delay_us, Error *err);

/* --- Leases and nodes --------------------------------------------------------------------------------------------- */

typedef struct StoreLease {
    const char *name;
    const char *node;   /* "" = free */
    int64_t epoch;      /* grows with each acquisition, and stays when the lease is released */
    int64_t expires_us; /* by the store's clock: only to be compared with others */
} StoreLease;

/* When it is free or expired; *ret_acquired false: somebody holds it (ret_lease says who), the same node included: a
 * node id is to be new at each start of a daemon. */
NODISCARD bool store_lease_acquire(StoreTx *tx, const char *name, const char *node, int64_t ttl_us,
                                   StoreLease *ret_lease, bool *ret_acquired, Error *err);
/* By its holder, also late when nobody has taken it meanwhile. LEASE_LOST. */
NODISCARD bool store_lease_renew(StoreTx *tx, const char *name, const char *node, int64_t epoch, int64_t ttl_us,
                                 Error *err);
NODISCARD bool store_lease_release(StoreTx *tx, const char *name, const char *node, int64_t epoch, Error *err);
/* LEASE_LOST unless it is held by this node and epoch: to be asked by bodies that act for the holder. */
NODISCARD bool store_lease_check(StoreTx *tx, const char *name, const char *node, int64_t epoch, Error *err);
NODISCARD bool store_lease_get(StoreTx *tx, const char *name, StoreLease *ret_lease, Error *err); /* NO_RESOURCE */
/* Leases that a node held and did not renew in time, by name. For store_write(). */
NODISCARD bool store_lease_expired(StoreTx *tx, size_t limit, StoreLease **ret_leases, size_t *ret_count, Error *err);

typedef struct StoreNode {
    const char *id, *address, *body;
    int64_t beat_us, ttl_us;
    bool is_alive; /* set by store_node_list(): its last beat is at most ttl_us ago */
} StoreNode;

NODISCARD bool store_node_beat(StoreTx *tx, const StoreNode *node, Error *err);
NODISCARD bool store_node_list(StoreTx *tx, StoreNode **ret_nodes, size_t *ret_count, Error *err); /* <= 1000 */
NODISCARD bool store_node_remove(StoreTx *tx, const char *id, Error *err);

/* --- Request ids ----------------------------------------------------------------------------------------------------
 */

/* Claims (scope, id) for `operation`, for an hour. *ret_operation: `operation` when it was new (*ret_is_new), else the
 * one of the request before. REQUEST_REUSED when that had another hash. */
NODISCARD bool store_request_claim(StoreTx *tx, const char *scope, const char *id, const char *hash,
                                   const char *operation, const char **ret_operation, bool *ret_is_new, Error *err);

/* --- Tokens of the API: what is kept of them (secrets/tokens.h) -----------------------------------------------------
 */

enum { STORE_TOKENS_MAX = 1000 };
#define STORE_TOKEN_KEPT_US (INT64_C(90) * 86400 * 1000000) /* how long one that is over is still listed */

typedef struct StoreToken {
    const char *id;   /* unique; never changed, as hash, role and name */
    const char *hash; /* the store does not look into it */
    const char *role;
    const char *name;
    int64_t create_us;
    int64_t expire_us; /* these: 0 = never. By the store's store_wall(), as create_us */
    int64_t used_us, revoke_us;
} StoreToken;

/* Sets create_us, and expire_us from span_us (0 = never). Forgets those that are over for longer than
 * STORE_TOKEN_KEPT_US. NAME_TAKEN, TOKEN_LIMIT. */
NODISCARD bool store_token_create(StoreTx *tx, StoreToken *token, int64_t span_us, Error *err);
NODISCARD bool store_token_get(StoreTx *tx, const char *id, StoreToken *ret_token, Error *err); /* NO_RESOURCE */
/* By time of creation; at most STORE_TOKENS_MAX. */
NODISCARD bool store_token_list(StoreTx *tx, StoreToken **ret_tokens, size_t *ret_count, Error *err);
/* Again: nothing. NO_RESOURCE. */
NODISCARD bool store_token_revoke(StoreTx *tx, const char *id, Error *err);
/* It was used now; written only when that was not noted within the last span_us. None of that id: no error. */
NODISCARD bool store_token_used(StoreTx *tx, const char *id, int64_t span_us, Error *err);
/* Is there any, one that is over included? */
NODISCARD bool store_token_any(StoreTx *tx, bool *ret_any, Error *err);

/* --- What the store is to remember about itself ----------------------------------------------------------------------
 */

NODISCARD bool store_setting_get(StoreTx *tx, const char *name, const char **ret_value, Error *err); /* NULL = none */
NODISCARD bool store_setting_set(StoreTx *tx, const char *name, const char *value, Error *err);
