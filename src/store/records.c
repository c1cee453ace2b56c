/* What is appended and taken away again: event log, audit log, outbox, request ids. */
#include "common/clock.h"
#include "store/backend.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The id and time of a row that was just added. */
static bool take_id(const StoreRows *rows, int64_t *ret_id, int64_t *ret_time_us, Error *err) {
    if (rows->count != 1)
        return error_set(err, REASON_INTERNAL, "%zu rows instead of one were added to the store", rows->count);
    *ret_id = row_int(rows, 0, 0);
    *ret_time_us = row_int(rows, 0, 1);
    return true;
}

/* --- Event log
 * ------------------------------------------------------------------------------------------------------------ */

bool store_event_append(StoreTx *tx, StoreEvent *event, Error *err) {
    StoreResource job = {0};
    StoreRows rows = {0};

    tx->wake = true;
    return store_get(tx, event->job, &job, err) &&
           TX_RUN(tx, &rows, err,
                  "INSERT INTO event (job, time_us, kind, message, detail) VALUES ($1, store_wall(), $2, $3, $4)"
                  " RETURNING id, time_us",
                  event->job, tx_text(event->kind), tx_text(event->message), tx_text(event->detail)) &&
           take_id(&rows, &event->id, &event->time_us, err);
}

bool store_event_list(StoreTx *tx, const char *job, int64_t after_id, size_t limit, StoreEvent **ret_events,
                      size_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err,
                "SELECT id, time_us, job, kind, message, detail FROM event WHERE job = $1 AND id > $2"
                " ORDER BY id LIMIT $3",
                tx_text(job), tx_int(tx, after_id), tx_int(tx, (int64_t)store_limit(limit))))
        return false;
    StoreEvent *events = arena_array(tx->arena, StoreEvent, MAX(rows.count, 1));
    for (size_t i = 0; i < rows.count; i++)
        events[i] = (StoreEvent){row_int(&rows, i, 0),  row_int(&rows, i, 1),  row_text(&rows, i, 2),
                                 row_text(&rows, i, 3), row_text(&rows, i, 4), row_text(&rows, i, 5)};
    *ret_events = events;
    *ret_count = rows.count;
    return true;
}

bool store_event_prune(StoreTx *tx, const char *job, int64_t keep, int64_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err,
                "DELETE FROM event WHERE job = $1 AND id NOT IN"
                " (SELECT id FROM event WHERE job = $1 ORDER BY id DESC LIMIT $2)",
                tx_text(job), tx_int(tx, MAX(keep, 0))))
        return false;
    *ret_count = rows.affected;
    return true;
}

/* --- Audit log
 * ------------------------------------------------------------------------------------------------------------ */

bool store_audit_append(StoreTx *tx, StoreAudit *audit, Error *err) {
    StoreRows rows = {0};

    return TX_RUN(tx, &rows, err,
                  "INSERT INTO audit (time_us, who, action, resource, origin, request_id, outcome)"
                  " VALUES (store_wall(), $1, $2, $3, $4, $5, $6) RETURNING id, time_us",
                  tx_text(audit->who), tx_text(audit->action), tx_text(audit->resource), tx_text(audit->from),
                  tx_text(audit->request_id), tx_text(audit->outcome)) &&
           take_id(&rows, &audit->id, &audit->time_us, err);
}

static const char *const audit_sql[] = {
    "SELECT id, time_us, who, action, resource, origin, request_id, outcome FROM audit"
    " WHERE id < $1 AND CAST($2 AS text) IS NULL ORDER BY id DESC LIMIT $3",
    "SELECT id, time_us, who, action, resource, origin, request_id, outcome FROM audit"
    " WHERE id < $1 AND resource = $2 ORDER BY id DESC LIMIT $3",
};

bool store_audit_list(StoreTx *tx, const char *resource, int64_t before_id, size_t limit, StoreAudit **ret_audits,
                      size_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, audit_sql[resource != NULL], tx_int(tx, before_id > 0 ? before_id : INT64_MAX),
                resource, tx_int(tx, (int64_t)store_limit(limit))))
        return false;
    StoreAudit *audits = arena_array(tx->arena, StoreAudit, MAX(rows.count, 1));
    for (size_t i = 0; i < rows.count; i++)
        audits[i] =
            (StoreAudit){row_int(&rows, i, 0),  row_int(&rows, i, 1),  row_text(&rows, i, 2), row_text(&rows, i, 3),
                         row_text(&rows, i, 4), row_text(&rows, i, 5), row_text(&rows, i, 6), row_text(&rows, i, 7)};
    *ret_audits = audits;
    *ret_count = rows.count;
    return true;
}

bool store_audit_prune(StoreTx *tx, int64_t age_us, int64_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "DELETE FROM audit WHERE time_us < store_wall() - CAST($1 AS bigint)",
                tx_int(tx, age_us)))
        return false;
    *ret_count = rows.affected;
    return true;
}

/* --- Outbox
 * --------------------------------------------------------------------------------------------------------------- */

bool store_outbox_add(StoreTx *tx, StoreAction *action, Error *err) {
    StoreRows rows = {0};

    tx->wake = true;
    action->attempt = 0;
    return tx_check_name("the owner of an action", action->owner, err) &&
           TX_RUN(tx, &rows, err,
                  "INSERT INTO outbox (create_us, owner, action, body, attempt, taken_by, taken_until_us, span_us)"
                  " VALUES (store_wall(), $1, $2, $3, 0, '', 0, 0) RETURNING id, create_us",
                  action->owner, tx_text(action->action), tx_text(action->body)) &&
           take_id(&rows, &action->id, &action->create_us, err);
}

static int compare_ids(const void *a, const void *b) {
    const StoreAction *left = a, *right = b;

    return (left->id > right->id) - (left->id < right->id);
}

/* Only the first entry of an owner: the second one waits until that is done. One that is taken until a time that no
 * taking could have reached by now was taken before the clock was set back. */
#define TAKE_SQL                                                                                                       \
    "UPDATE outbox SET attempt = attempt + 1, taken_by = $1, span_us = CAST($2 AS bigint),"                            \
    " taken_until_us = store_now() + CAST($2 AS bigint)"                                                               \
    " WHERE id IN (SELECT o.id FROM outbox o WHERE (o.taken_until_us <= store_now()"                                   \
    " OR o.taken_until_us - o.span_us > store_now()) AND (CAST($3 AS text) IS NULL OR o.owner = $3)"                   \
    " AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.owner = o.owner AND e.id < o.id) ORDER BY o.id LIMIT $4)"         \
    " RETURNING id, create_us, owner, action, body, attempt"

bool store_outbox_take(StoreTx *tx, const char *node, const char *owner, int64_t span_us, size_t limit,
                       StoreAction **ret_actions, size_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, TAKE_SQL, tx_text(node), tx_int(tx, span_us), owner,
                tx_int(tx, (int64_t)store_limit(limit))))
        return false;
    StoreAction *actions = arena_array(tx->arena, StoreAction, MAX(rows.count, 1));
    for (size_t i = 0; i < rows.count; i++)
        actions[i] = (StoreAction){.id = row_int(&rows, i, 0),
                                   .create_us = row_int(&rows, i, 1),
                                   .owner = row_text(&rows, i, 2),
                                   .action = row_text(&rows, i, 3),
                                   .body = row_text(&rows, i, 4),
                                   .attempt = row_int(&rows, i, 5)};
    qsort(actions, rows.count, sizeof(*actions), compare_ids); /* RETURNING has no order */
    *ret_actions = actions;
    *ret_count = rows.count;
    return true;
}

static bool taken_by_other(int64_t id, Error *err) {
    return error_set(err, REASON_LEASE_LOST, "action %" PRId64 " was given to somebody else meanwhile, or is done", id);
}

bool store_outbox_done(StoreTx *tx, int64_t id, int64_t attempt, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "DELETE FROM outbox WHERE id = $1 AND attempt = $2", tx_int(tx, id),
                tx_int(tx, attempt)))
        return false;
    if (rows.affected == 0)
        return taken_by_other(id, err);
    tx->wake = true; /* the next one of its owner may be taken */
    return true;
}

bool store_outbox_postpone(StoreTx *tx, int64_t id, int64_t attempt, int64_t delay_us, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err,
                "UPDATE outbox SET taken_by = '', span_us = CAST($3 AS bigint),"
                " taken_until_us = store_now() + CAST($3 AS bigint) WHERE id = $1 AND attempt = $2",
                tx_int(tx, id), tx_int(tx, attempt), tx_int(tx, delay_us)))
        return false;
    return rows.affected > 0 || taken_by_other(id, err);
}

/* --- Request ids
 * ---------------------------------------------------------------------------------------------------------- */

#define REQUEST_KEPT_US "3600000000"

static bool claim_anew(StoreTx *tx, const char *scope, const char *id, const char *hash, const char *operation,
                       Error *err) {
    return TX_RUN(tx, NULL, err,
                  "INSERT INTO request (scope, id, hash, operation, time_us) VALUES ($1, $2, $3, $4, store_wall())"
                  " ON CONFLICT (scope, id) DO UPDATE SET hash = excluded.hash, operation = excluded.operation,"
                  " time_us = excluded.time_us",
                  scope, id, hash, operation);
}

bool store_request_claim(StoreTx *tx, const char *scope, const char *id, const char *hash, const char *operation,
                         const char **ret_operation, bool *ret_is_new, Error *err) {
    StoreRows rows = {0};

    if (!tx_check_name("a request id", id, err) || !tx_check_name("the scope of a request", scope, err) ||
        !TX_RUN(tx, &rows, err,
                "SELECT hash, operation FROM request WHERE scope = $1 AND id = $2"
                " AND time_us > store_wall() - " REQUEST_KEPT_US,
                scope, id))
        return false;
    if (rows.count == 0 && !claim_anew(tx, scope, id, tx_text(hash), tx_text(operation), err))
        return false;
    if (rows.count > 0 && strcmp(row_text(&rows, 0, 0), tx_text(hash)) != 0)
        return error_set(err, REASON_REQUEST_REUSED, "request id %s was used for another request within the last hour",
                         id);
    *ret_is_new = rows.count == 0;
    *ret_operation = rows.count == 0 ? arena_strdup(tx->arena, tx_text(operation)) : row_text(&rows, 0, 1);
    return true;
}
