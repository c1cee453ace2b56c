/* Reports of resources: one text each, which goes with its resource. */
#include "store/backend.h"

bool store_report_set(StoreTx *tx, const char *owner, const char *body, Error *err) {
    StoreResource resource = {0};

    return store_get(tx, owner, &resource, err) && TX_RUN(tx, NULL, err,
                                                          "INSERT INTO report (owner, body) VALUES ($1, $2)"
                                                          " ON CONFLICT (owner) DO UPDATE SET body = excluded.body",
                                                          owner, tx_text(body));
}

bool store_report_get(StoreTx *tx, const char *owner, const char **ret_body, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "SELECT body FROM report WHERE owner = $1", tx_text(owner)))
        return false;
    *ret_body = rows.count > 0 ? row_text(&rows, 0, 0) : NULL;
    return true;
}

bool store_report_remove(StoreTx *tx, const char *owner, Error *err) {
    return TX_RUN(tx, NULL, err, "DELETE FROM report WHERE owner = $1", tx_text(owner));
}
