/*
 * Leases and nodes.
 *
 * Only the store's clock is read, so that the clocks of the nodes have no part in it. Should the clock of a PostgreSQL
 * store itself be set back, or another server with another clock be promoted, a lease could seem to live for long: no
 * lease may end later than its own length from now, and whoever looks for expired ones cuts what does. Set forward, it
 * takes leases from their holders early; that costs a restart of their jobs, and the epochs keep them apart.
 */
#include "store/backend.h"

#include <inttypes.h>
#include <string.h>

#define LEASE_COLUMNS "name, node, epoch, expires_us"

static void read_lease(const StoreRows *rows, size_t row, StoreLease *ret) {
    *ret = (StoreLease){
        .name = row_text(rows, row, 0),
        .node = row_text(rows, row, 1),
        .epoch = row_int(rows, row, 2),
        .expires_us = row_int(rows, row, 3),
    };
}

/* NULL = of all. */
static bool cut_leaps(StoreTx *tx, const char *name, Error *err) {
    return TX_RUN(tx, NULL, err,
                  "UPDATE lease SET expires_us = store_now() + ttl_us WHERE expires_us > store_now() + ttl_us"
                  " AND (CAST($1 AS text) IS NULL OR name = $1)",
                  name);
}

bool store_lease_get(StoreTx *tx, const char *name, StoreLease *ret_lease, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "SELECT " LEASE_COLUMNS " FROM lease WHERE name = $1", tx_text(name)))
        return false;
    if (rows.count == 0)
        return error_set(err, REASON_NO_RESOURCE, "there is no lease %s", tx_text(name));
    read_lease(&rows, 0, ret_lease);
    return true;
}

bool store_lease_acquire(StoreTx *tx, const char *name, const char *node, int64_t ttl_us, StoreLease *ret_lease,
                         bool *ret_acquired, Error *err) {
    StoreRows rows = {0};

    if (!tx_check_name("the name of a lease", name, err) || !tx_check_name("the id of a node", node, err) ||
        !cut_leaps(tx, name, err) ||
        !TX_RUN(tx, &rows, err,
                "INSERT INTO lease (name, node, epoch, ttl_us, expires_us)"
                " VALUES ($1, $2, 1, CAST($3 AS bigint), store_now() + CAST($3 AS bigint))"
                " ON CONFLICT (name) DO UPDATE SET node = excluded.node, epoch = lease.epoch + 1,"
                " ttl_us = excluded.ttl_us, expires_us = excluded.expires_us"
                " WHERE lease.expires_us <= store_now() RETURNING " LEASE_COLUMNS,
                name, node, tx_int(tx, ttl_us)))
        return false;
    if (rows.count == 0 && !store_lease_get(tx, name, ret_lease, err))
        return false;
    *ret_acquired = rows.count > 0;
    if (*ret_acquired)
        read_lease(&rows, 0, ret_lease);
    tx->wake = tx->wake || *ret_acquired;
    return true;
}

static bool lost(StoreTx *tx, const char *name, int64_t epoch, Error *err) {
    StoreLease now = {0};

    if (!store_lease_get(tx, name, &now, err))
        return err->reason == REASON_NO_RESOURCE &&
               error_set(err, REASON_LEASE_LOST, "nobody ever had the lease %s", name);
    return error_set(err, REASON_LEASE_LOST, "the lease %s of epoch %" PRId64 " is lost: epoch %" PRId64 " %s%s", name,
                     epoch, now.epoch, now.node[0] != '\0' ? "is with " : "was released", now.node);
}

bool store_lease_renew(StoreTx *tx, const char *name, const char *node, int64_t epoch, int64_t ttl_us, Error *err) {
    StoreRows rows = {0};

    if (!tx_check_name("the id of a node", node, err) ||
        !TX_RUN(tx, &rows, err,
                "UPDATE lease SET ttl_us = CAST($4 AS bigint), expires_us = store_now() + CAST($4 AS bigint)"
                " WHERE name = $1 AND node = $2 AND epoch = $3",
                tx_text(name), node, tx_int(tx, epoch), tx_int(tx, ttl_us)))
        return false;
    return rows.affected > 0 || lost(tx, tx_text(name), epoch, err);
}

bool store_lease_release(StoreTx *tx, const char *name, const char *node, int64_t epoch, Error *err) {
    StoreRows rows = {0};

    if (!tx_check_name("the id of a node", node, err) ||
        !TX_RUN(tx, &rows, err,
                "UPDATE lease SET node = '', expires_us = 0 WHERE name = $1 AND node = $2 AND epoch = $3",
                tx_text(name), node, tx_int(tx, epoch)))
        return false;
    if (rows.affected == 0)
        return lost(tx, tx_text(name), epoch, err);
    tx->wake = true;
    return true;
}

bool store_lease_check(StoreTx *tx, const char *name, const char *node, int64_t epoch, Error *err) {
    StoreLease now = {0};

    if (store_lease_get(tx, name, &now, err) && strcmp(now.node, tx_text(node)) == 0 && now.epoch == epoch &&
        now.node[0] != '\0')
        return true;
    return !tx->has_failed && lost(tx, tx_text(name), epoch, err);
}

bool store_lease_expired(StoreTx *tx, size_t limit, StoreLease **ret_leases, size_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!cut_leaps(tx, NULL, err) ||
        !TX_RUN(tx, &rows, err,
                "SELECT " LEASE_COLUMNS " FROM lease WHERE node <> '' AND expires_us <= store_now()"
                " ORDER BY name LIMIT $1",
                tx_int(tx, (int64_t)store_limit(limit))))
        return false;
    StoreLease *leases = arena_array(tx->arena, StoreLease, MAX(rows.count, 1));
    for (size_t i = 0; i < rows.count; i++)
        read_lease(&rows, i, &leases[i]);
    *ret_leases = leases;
    *ret_count = rows.count;
    return true;
}

/* --- Nodes
 * ---------------------------------------------------------------------------------------------------------------- */

bool store_node_beat(StoreTx *tx, const StoreNode *node, Error *err) {
    return tx_check_name("the id of a node", node->id, err) &&
           TX_RUN(tx, NULL, err,
                  "INSERT INTO node (id, address, body, beat_us, ttl_us) VALUES ($1, $2, $3, store_now(), $4)"
                  " ON CONFLICT (id) DO UPDATE SET address = excluded.address, body = excluded.body,"
                  " beat_us = excluded.beat_us, ttl_us = excluded.ttl_us",
                  node->id, tx_text(node->address), tx_text(node->body), tx_int(tx, node->ttl_us));
}

/* A beat of the future is one from before the clock was set back: alive at its next beat. */
bool store_node_list(StoreTx *tx, StoreNode **ret_nodes, size_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err,
                "SELECT id, address, body, beat_us, ttl_us, CASE WHEN beat_us + ttl_us > store_now()"
                " AND beat_us <= store_now() THEN 1 ELSE 0 END FROM node ORDER BY id LIMIT $1",
                tx_int(tx, STORE_PAGE_MAX)))
        return false;
    StoreNode *nodes = arena_array(tx->arena, StoreNode, MAX(rows.count, 1));
    for (size_t i = 0; i < rows.count; i++)
        nodes[i] = (StoreNode){row_text(&rows, i, 0), row_text(&rows, i, 1), row_text(&rows, i, 2),
                               row_int(&rows, i, 3),  row_int(&rows, i, 4),  row_int(&rows, i, 5) == 1};
    *ret_nodes = nodes;
    *ret_count = rows.count;
    return true;
}

bool store_node_remove(StoreTx *tx, const char *id, Error *err) {
    return TX_RUN(tx, NULL, err, "DELETE FROM node WHERE id = $1", tx_text(id));
}
