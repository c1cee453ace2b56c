/* Statements of a transaction: what both backends check alike, and values as text. */
#include "store/backend.h"

#include "common/utf8.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_LIMIT = 50 };

static bool is_utf8(const char *text, size_t len) {
    for (size_t at = 0; at < len;) {
        size_t whole = utf8_char_len(text + at, len - at);
        if (whole == 0)
            return false;
        at += whole;
    }
    return true;
}

/* Twice: a secret is kept as hexadecimal digits. */
static bool check_text(const char *text, Error *err) {
    size_t len = strnlen(text, 2 * STORE_BODY_MAX + 1);

    if (len > 2 * STORE_BODY_MAX)
        return error_set(err, REASON_BAD_DATA, "a value for the store is longer than %d bytes", STORE_BODY_MAX);
    return is_utf8(text, len) || error_set(err, REASON_BAD_DATA, "a value for the store is no UTF-8");
}

bool tx_run(StoreTx *tx, const char *sql, size_t n_params, const char *const *params, StoreRows *ret_rows, Error *err) {
    StoreRows rows = {0};

    if (!tx->is_write && strncmp(sql, "SELECT", 6) != 0)
        return error_set(err, REASON_INTERNAL, "store_read() was given a body that writes");
    /* SQLite may have rolled back by itself: what came now would be a transaction of its own. */
    if (tx->has_failed)
        return error_set(err, REASON_INTERNAL, "the transaction of the store has failed before");
    for (size_t i = 0; i < n_params; i++)
        if (params[i] != NULL && !check_text(params[i], err))
            return false;
    if (!tx->store->ops->run(tx->conn, tx->arena, sql, n_params, params, &rows, err)) {
        tx->has_failed = true;
        return false;
    }
    if (ret_rows != NULL)
        *ret_rows = rows;
    return true;
}

const char *tx_int(StoreTx *tx, int64_t number) {
    return arena_printf(tx->arena, "%" PRId64, number);
}

const char *tx_text(const char *text) {
    return text != NULL ? text : "";
}

bool tx_check_name(const char *what, const char *text, Error *err) {
    size_t len = strnlen(tx_text(text), STORE_NAME_MAX + 1);

    if (len == 0)
        return error_set(err, REASON_BAD_DATA, "%s of the store is empty", what);
    return len <= STORE_NAME_MAX ||
           error_set(err, REASON_BAD_DATA, "%s of the store is longer than %d bytes", what, STORE_NAME_MAX);
}

int64_t row_int(const StoreRows *rows, size_t row, size_t column) {
    return strtoll(row_text(rows, row, column), NULL, 10);
}

size_t store_limit(size_t wanted) {
    return wanted == 0 ? DEFAULT_LIMIT : MIN(wanted, (size_t)STORE_PAGE_MAX);
}
