/*
 * Runs transactions of the store for the integration tests:
 *
 *     store_probe sqlite|postgresql WHERE [PATIENCE_MS]
 *
 * Each line of standard input is {"do": [{"op": NAME, ...}, ...], "read": bool}: one transaction, answered by one line,
 * {"results": [...]} or {"error", "reason", "retryable", "remedy"}. {"wait": MS} and {"tidy": true} are lines of their
 * own, as is {"open_keys": FILE}, which opens a key file as the service does. The first line that is written says
 * whether the store could be opened. "try": true in an op turns its failure into a result, and the transaction goes on.
 */
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "store/store.h"
#include "support/probe.h"
#include "vault/vault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *error_to_json(const Error *err) {
    return json_pack("{s:s, s:s, s:b, s:s}", "error", err->message, "reason", error_reason_name(err->reason),
                     "retryable", (int)err->retryable, "remedy", err->remedy);
}

static const char *text_of(const json_t *op, const char *key) {
    return json_get_string(op, key, NULL);
}

static json_t *resource_to_json(const StoreResource *r) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "kind", store_kind_name(r->kind),
                     "name", r->name, "parent", r->parent, "uid", r->uid, "state", r->state, "phase", r->phase,
                     "display_name", r->display_name, "body", r->body, "version", (json_int_t)r->version, "create_us",
                     (json_int_t)r->create_us, "update_us", (json_int_t)r->update_us);
}

static StoreResource resource_of(const json_t *op) {
    return (StoreResource){
        .kind = store_kind_from_name(json_get_string(op, "kind", "MIGRATION_JOB")),
        .name = text_of(op, "name"),
        .parent = text_of(op, "parent"),
        .uid = text_of(op, "uid"),
        .state = text_of(op, "state"),
        .phase = text_of(op, "phase"),
        .display_name = text_of(op, "display_name"),
        .body = text_of(op, "body"),
        .version = json_get_int(op, "version", 0),
    };
}

static bool op_get(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreResource resource;

    if (!store_get(tx, text_of(op, "name"), &resource, err))
        return false;
    *ret = resource_to_json(&resource);
    return true;
}

static json_t *stamp(const StoreResource *r) {
    return json_pack("{s:I, s:I, s:I}", "version", (json_int_t)r->version, "create_us", (json_int_t)r->create_us,
                     "update_us", (json_int_t)r->update_us);
}

static bool op_create(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreResource resource = resource_of(op);

    if (!store_create(tx, &resource, err))
        return false;
    *ret = stamp(&resource);
    return true;
}

static bool op_update(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreResource resource = resource_of(op);

    if (!store_update(tx, &resource, err))
        return false;
    *ret = stamp(&resource);
    return true;
}

/* Reads, adds one to the number in the body, writes: in one transaction, no update may be lost. */
static bool op_increment(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreResource resource;
    char body[32];

    if (!store_get(tx, text_of(op, "name"), &resource, err))
        return false;
    (void)snprintf(body, sizeof(body), "%ld", strtol(resource.body, NULL, 10) + 1);
    resource.body = body;
    if (!store_update(tx, &resource, err))
        return false;
    *ret = json_pack("{s:s, s:I}", "body", body, "version", (json_int_t)resource.version);
    return true;
}

static bool op_delete(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_delete(tx, text_of(op, "name"), json_get_int(op, "version", 0), err);
}

static StoreQuery query_of(const json_t *op) {
    return (StoreQuery){
        .kind = store_kind_from_name(json_get_string(op, "kind", "MIGRATION_JOB")),
        .parent = text_of(op, "parent"),
        .state = text_of(op, "state"),
        .order = json_get_bool(op, "by_time", false) ? STORE_BY_CREATE_TIME : STORE_BY_NAME,
        .descending = json_get_bool(op, "descending", false),
        .page_size = (size_t)json_get_int(op, "page_size", 0),
        .cursor = text_of(op, "cursor"),
    };
}

static bool op_list(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    const StoreQuery query = query_of(op);
    StorePage page;

    if (!store_list(tx, &query, &page, err))
        return false;
    json_t *items = json_array();
    for (size_t i = 0; i < page.count; i++)
        json_array_append_new(items, resource_to_json(&page.items[i]));
    *ret = json_pack("{s:o, s:s}", "items", items, "next", page.next_cursor);
    return true;
}

static bool op_count(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    const StoreQuery query = query_of(op);
    int64_t count = 0;

    if (!store_count(tx, &query, &count, err))
        return false;
    *ret = json_integer(count);
    return true;
}

static bool op_prune_operations(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    int64_t count = 0;

    if (!store_operation_prune(tx, json_get_int(op, "age_us", 0), &count, err))
        return false;
    *ret = json_integer(count);
    return true;
}

static bool op_secret_set(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    const char *value = json_get_string(op, "value", "");

    *ret = json_true();
    return store_secret_set(tx, text_of(op, "owner"), text_of(op, "field"), value, strlen(value), err);
}

static bool op_secret_get(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    const void *bytes = NULL;
    size_t len = 0;

    if (!store_secret_get(tx, text_of(op, "owner"), text_of(op, "field"), &bytes, &len, err))
        return false;
    *ret = json_stringn(bytes, len);
    return true;
}

static bool op_secret_remove(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_secret_remove(tx, text_of(op, "owner"), text_of(op, "field"), err);
}

static bool op_secret_list(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreSecret *secrets = NULL;
    size_t count = 0;

    if (!store_secret_list(tx, text_of(op, "owner"), text_of(op, "field"), (size_t)json_get_int(op, "limit", 0),
                           &secrets, &count, err))
        return false;
    *ret = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(*ret, json_pack("[s, s, o]", secrets[i].owner, secrets[i].field,
                                              json_stringn(secrets[i].bytes, secrets[i].len)));
    return true;
}

static bool op_secret_heads(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreSecretHead *heads = NULL;
    size_t count = 0;

    if (!store_secret_heads(tx, (size_t)json_get_int(op, "len", 0), &heads, &count, err))
        return false;
    *ret = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(
            *ret, json_pack("[o, I]", json_stringn(heads[i].bytes, heads[i].len), (json_int_t)heads[i].count));
    return true;
}

/* A secret that is sealed with the keys of a file: "keys". */
static bool op_vault_set(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    CLEANUP(secrets_freep) Secrets *secrets = NULL;
    const char *value = json_get_string(op, "value", "");

    *ret = json_true();
    return secrets_load(text_of(op, "keys"), &secrets, err) &&
           vault_set(tx, secrets, text_of(op, "owner"), text_of(op, "field"), value, strlen(value), err);
}

static bool op_vault_get(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    CLEANUP(secrets_freep) Secrets *secrets = NULL;
    CLEANUP(secret_wipe) Secret secret = {0};

    if (!secrets_load(text_of(op, "keys"), &secrets, err) ||
        !vault_get(tx, secrets, text_of(op, "owner"), text_of(op, "field"), &secret, err))
        return false;
    *ret = json_stringn(secret.bytes, secret.len);
    return true;
}

static json_t *token_to_json(const StoreToken *t) {
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "id", t->id, "hash", t->hash, "role", t->role, "name",
                     t->name, "create_us", (json_int_t)t->create_us, "expire_us", (json_int_t)t->expire_us, "used_us",
                     (json_int_t)t->used_us, "revoke_us", (json_int_t)t->revoke_us);
}

static bool op_token_create(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreToken token = {.id = text_of(op, "id"),
                        .hash = json_get_string(op, "hash", "h"),
                        .role = json_get_string(op, "role", "viewer"),
                        .name = text_of(op, "name")};

    if (!store_token_create(tx, &token, json_get_int(op, "span_us", 0), err))
        return false;
    *ret = json_pack("{s:I, s:I}", "create_us", (json_int_t)token.create_us, "expire_us", (json_int_t)token.expire_us);
    return true;
}

static bool op_token_get(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreToken token;

    if (!store_token_get(tx, text_of(op, "id"), &token, err))
        return false;
    *ret = token_to_json(&token);
    return true;
}

static bool op_token_list(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreToken *tokens = NULL;
    size_t count = 0;

    (void)op;
    if (!store_token_list(tx, &tokens, &count, err))
        return false;
    *ret = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(*ret, token_to_json(&tokens[i]));
    return true;
}

static bool op_token_revoke(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_token_revoke(tx, text_of(op, "id"), err);
}

static bool op_token_used(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_token_used(tx, text_of(op, "id"), json_get_int(op, "span_us", 0), err);
}

static bool op_token_any(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    bool any = false;

    (void)op;
    if (!store_token_any(tx, &any, err))
        return false;
    *ret = json_boolean(any);
    return true;
}

static bool op_setting_get(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    const char *value = NULL;

    if (!store_setting_get(tx, text_of(op, "name"), &value, err))
        return false;
    *ret = value != NULL ? json_string(value) : json_null();
    return true;
}

static bool op_setting_set(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_setting_set(tx, text_of(op, "name"), text_of(op, "value"), err);
}

static bool op_report_get(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    const char *body = NULL;

    if (!store_report_get(tx, text_of(op, "owner"), &body, err))
        return false;
    *ret = body != NULL ? json_string(body) : json_null();
    return true;
}

static bool op_report_set(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_report_set(tx, text_of(op, "owner"), text_of(op, "body"), err);
}

static bool op_report_remove(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_report_remove(tx, text_of(op, "owner"), err);
}

static bool op_event(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreEvent event = {.job = text_of(op, "job"), .kind = text_of(op, "kind"), .message = text_of(op, "message")};

    if (!store_event_append(tx, &event, err))
        return false;
    *ret = json_integer(event.id);
    return true;
}

static bool op_events(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreEvent *events = NULL;
    size_t count = 0;

    if (!store_event_list(tx, text_of(op, "job"), json_get_int(op, "after", 0),
                          (size_t)json_get_int(op, "limit", STORE_PAGE_MAX), &events, &count, err))
        return false;
    *ret = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(*ret,
                              json_pack("[I, s, s]", (json_int_t)events[i].id, events[i].kind, events[i].message));
    return true;
}

static bool op_prune_events(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    int64_t count = 0;

    if (!store_event_prune(tx, text_of(op, "job"), json_get_int(op, "keep", 0), &count, err))
        return false;
    *ret = json_integer(count);
    return true;
}

static bool op_audit(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreAudit audit = {.who = text_of(op, "who"),
                        .action = text_of(op, "action"),
                        .resource = text_of(op, "resource"),
                        .from = text_of(op, "from"),
                        .request_id = text_of(op, "request_id"),
                        .outcome = text_of(op, "outcome")};

    if (!store_audit_append(tx, &audit, err))
        return false;
    *ret = json_integer(audit.id);
    return true;
}

static bool op_audits(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreAudit *audits = NULL;
    size_t count = 0;

    if (!store_audit_list(tx, text_of(op, "resource"), json_get_int(op, "before", 0),
                          (size_t)json_get_int(op, "limit", STORE_PAGE_MAX), &audits, &count, err))
        return false;
    *ret = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(*ret, json_pack("[I, s, s, s, s, s, s]", (json_int_t)audits[i].id, audits[i].who,
                                              audits[i].action, audits[i].resource, audits[i].from,
                                              audits[i].request_id, audits[i].outcome));
    return true;
}

static bool op_prune_audit(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    int64_t count = 0;

    if (!store_audit_prune(tx, json_get_int(op, "age_us", 0), &count, err))
        return false;
    *ret = json_integer(count);
    return true;
}

static bool op_enqueue(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreAction action = {.owner = text_of(op, "owner"), .action = text_of(op, "action"), .body = text_of(op, "body")};

    if (!store_outbox_add(tx, &action, err))
        return false;
    *ret = json_integer(action.id);
    return true;
}

static bool op_take(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreAction *actions = NULL;
    size_t count = 0;

    if (!store_outbox_take(tx, json_get_string(op, "node", "n"), text_of(op, "owner"),
                           json_get_int(op, "span_us", 60 * USEC_PER_SEC), (size_t)json_get_int(op, "limit", 0),
                           &actions, &count, err))
        return false;
    *ret = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(*ret, json_pack("{s:I, s:s, s:s, s:s, s:I}", "id", (json_int_t)actions[i].id, "owner",
                                              actions[i].owner, "action", actions[i].action, "body", actions[i].body,
                                              "attempt", (json_int_t)actions[i].attempt));
    return true;
}

static bool op_done(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_outbox_done(tx, json_get_int(op, "id", 0), json_get_int(op, "attempt", 0), err);
}

static bool op_postpone(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_outbox_postpone(tx, json_get_int(op, "id", 0), json_get_int(op, "attempt", 0),
                                 json_get_int(op, "delay_us", 0), err);
}

static json_t *lease_to_json(const StoreLease *lease) {
    return json_pack("{s:s, s:s, s:I}", "name", lease->name, "node", lease->node, "epoch", (json_int_t)lease->epoch);
}

static bool op_acquire(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreLease lease;
    bool acquired = false;

    if (!store_lease_acquire(tx, text_of(op, "name"), text_of(op, "node"), json_get_int(op, "ttl_us", 0), &lease,
                             &acquired, err))
        return false;
    *ret = lease_to_json(&lease);
    json_object_set_new(*ret, "acquired", json_boolean(acquired));
    return true;
}

static bool op_renew(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_lease_renew(tx, text_of(op, "name"), text_of(op, "node"), json_get_int(op, "epoch", 0),
                             json_get_int(op, "ttl_us", 0), err);
}

static bool op_release(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_lease_release(tx, text_of(op, "name"), text_of(op, "node"), json_get_int(op, "epoch", 0), err);
}

static bool op_check(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_lease_check(tx, text_of(op, "name"), text_of(op, "node"), json_get_int(op, "epoch", 0), err);
}

static bool op_lease(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreLease lease;

    if (!store_lease_get(tx, text_of(op, "name"), &lease, err))
        return false;
    *ret = lease_to_json(&lease);
    return true;
}

static bool op_expired(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreLease *leases = NULL;
    size_t count = 0;

    if (!store_lease_expired(tx, (size_t)json_get_int(op, "limit", 0), &leases, &count, err))
        return false;
    *ret = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(*ret, lease_to_json(&leases[i]));
    return true;
}

static bool op_beat(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    const StoreNode node = {.id = text_of(op, "id"),
                            .address = text_of(op, "address"),
                            .body = text_of(op, "body"),
                            .ttl_us = json_get_int(op, "ttl_us", 0)};

    *ret = json_true();
    return store_node_beat(tx, &node, err);
}

static bool op_nodes(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    StoreNode *nodes = NULL;
    size_t count = 0;

    (void)op;
    if (!store_node_list(tx, &nodes, &count, err))
        return false;
    *ret = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(
            *ret, json_pack("[s, s, s, b]", nodes[i].id, nodes[i].address, nodes[i].body, (int)nodes[i].is_alive));
    return true;
}

static bool op_forget_node(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    *ret = json_true();
    return store_node_remove(tx, text_of(op, "id"), err);
}

static bool op_claim(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    const char *operation = NULL;
    bool is_new = false;

    if (!store_request_claim(tx, json_get_string(op, "scope", "s"), text_of(op, "id"), text_of(op, "hash"),
                             text_of(op, "operation"), &operation, &is_new, err))
        return false;
    *ret = json_pack("{s:s, s:b}", "operation", operation, "is_new", (int)is_new);
    return true;
}

static bool op_pause(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    (void)tx;
    (void)err;
    clock_sleep_us(json_get_int(op, "us", 0));
    *ret = json_true();
    return true;
}

static const struct {
    const char *name;
    bool (*run)(StoreTx *tx, const json_t *op, json_t **ret, Error *err);
} ops[] = {
    {"get", op_get},
    {"create", op_create},
    {"update", op_update},
    {"increment", op_increment},
    {"delete", op_delete},
    {"list", op_list},
    {"count", op_count},
    {"prune-operations", op_prune_operations},
    {"secret-set", op_secret_set},
    {"secret-get", op_secret_get},
    {"secret-remove", op_secret_remove},
    {"secret-list", op_secret_list},
    {"secret-heads", op_secret_heads},
    {"vault-set", op_vault_set},
    {"vault-get", op_vault_get},
    {"token-create", op_token_create},
    {"token-get", op_token_get},
    {"token-list", op_token_list},
    {"token-revoke", op_token_revoke},
    {"token-used", op_token_used},
    {"token-any", op_token_any},
    {"setting-get", op_setting_get},
    {"setting-set", op_setting_set},
    {"report-get", op_report_get},
    {"report-set", op_report_set},
    {"report-remove", op_report_remove},
    {"event", op_event},
    {"events", op_events},
    {"prune-events", op_prune_events},
    {"audit", op_audit},
    {"audits", op_audits},
    {"prune-audit", op_prune_audit},
    {"enqueue", op_enqueue},
    {"take", op_take},
    {"done", op_done},
    {"postpone", op_postpone},
    {"acquire", op_acquire},
    {"renew", op_renew},
    {"release", op_release},
    {"check", op_check},
    {"lease", op_lease},
    {"expired", op_expired},
    {"beat", op_beat},
    {"nodes", op_nodes},
    {"forget-node", op_forget_node},
    {"claim", op_claim},
    {"pause", op_pause},
};

static bool run_op(StoreTx *tx, const json_t *op, json_t **ret, Error *err) {
    const char *name = json_get_string(op, "op", "");

    for (size_t i = 0; i < COUNT_OF(ops); i++)
        if (strcmp(ops[i].name, name) == 0)
            return ops[i].run(tx, op, ret, err);
    return error_set(err, REASON_USAGE, "unknown op %s", name);
}

typedef struct Line {
    const json_t *ops;
    json_t *results; /* of the last run */
    int runs;
} Line;

static bool run_line(StoreTx *tx, void *context, Error *err) {
    Line *line = context;

    line->runs++;
    json_array_clear(line->results);
    for (size_t i = 0; i < json_array_size(line->ops); i++) {
        const json_t *op = json_array_get(line->ops, i);
        json_t *result = NULL;
        if (!run_op(tx, op, &result, err)) {
            json_decref(result);
            if (!json_get_bool(op, "try", false))
                return false;
            result = error_to_json(err);
        }
        json_array_append_new(line->results, result);
    }
    return true;
}

static bool transact(Store *store, const json_t *command, json_t **ret_answer, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *results = json_array();
    Line line = {json_object_get(command, "do"), results, 0};
    int64_t start = clock_now_us();
    bool good = json_get_bool(command, "read", false) ? store_read(store, arena, run_line, &line, err)
                                                      : store_write(store, arena, run_line, &line, err);

    if (good)
        *ret_answer = json_pack("{s:O, s:i, s:I}", "results", results, "runs", line.runs, "us",
                                (json_int_t)(clock_now_us() - start));
    return good;
}

static bool answer(Store *store, const json_t *command, json_t **ret_answer, Error *err) {
    int64_t wait_ms = json_get_int(command, "wait", -1);
    bool woken = false;

    const char *keys = json_get_string(command, "open_keys", NULL);
    if (keys != NULL) {
        CLEANUP(secrets_freep) Secrets *secrets = NULL;
        *ret_answer = json_pack("{s:b}", "opened", 1);
        return vault_open(store, keys, &secrets, err);
    }
    if (json_get_bool(command, "tidy", false)) {
        *ret_answer = json_pack("{s:b}", "tidied", 1);
        return store_tidy(store, err);
    }
    if (wait_ms < 0)
        return transact(store, command, ret_answer, err);
    if (!store_wait(store, clock_now_us() + wait_ms * USEC_PER_MSEC, &woken, err))
        return false;
    *ret_answer = json_pack("{s:b}", "woken", (int)woken);
    return true;
}

static void serve(Store *store) {
    char *text = NULL;
    size_t size = 0;
    ssize_t len = 0;

    while ((len = getline(&text, &size, stdin)) > 0) {
        CLEANUP(json_freep) json_t *command = NULL;
        json_t *reply = NULL;
        Error err = {0};
        if (!json_parse(text, (size_t)len, &command, &err) || !answer(store, command, &reply, &err)) {
            json_decref(reply);
            reply = error_to_json(&err);
        }
        say(reply);
    }
    free(text);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 64;
    CLEANUP(store_closep) Store *store = NULL;
    Error err = {0};
    const StoreConfig config = {
        .backend = strcmp(argv[1], "sqlite") == 0 ? STORE_SQLITE : STORE_POSTGRESQL,
        .where = argv[2],
        .patience_us = argc > 3 ? strtol(argv[3], NULL, 10) * USEC_PER_MSEC : 0,
    };

    log_init(STDERR_FILENO, LOG_DEBUG);
    if (!store_open(&config, &store, &err)) {
        say(error_to_json(&err));
        return 1;
    }
    say(json_pack("{s:b}", "open", 1));
    serve(store);
    return 0;
}
