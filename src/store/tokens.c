/* Tokens of the API, and what the store is to remember about itself. */
#include "store/backend.h"

#include <stdlib.h>

#define COLUMNS "id, hash, role, name, create_us, expire_us, used_us, revoke_us"

static void read_token(const StoreRows *rows, size_t row, StoreToken *ret) {
    *ret = (StoreToken){
        .id = row_text(rows, row, 0),
        .hash = row_text(rows, row, 1),
        .role = row_text(rows, row, 2),
        .name = row_text(rows, row, 3),
        .create_us = row_int(rows, row, 4),
        .expire_us = row_int(rows, row, 5),
        .used_us = row_int(rows, row, 6),
        .revoke_us = row_int(rows, row, 7),
    };
}

/* Only when another is made: the last one that is over stays, so that "there was never one" does not come true again.
 */
static bool make_room(StoreTx *tx, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, NULL, err,
                "DELETE FROM token WHERE (revoke_us <> 0 AND revoke_us < store_wall() - CAST($1 AS bigint))"
                " OR (expire_us <> 0 AND expire_us < store_wall() - CAST($1 AS bigint))",
                tx_int(tx, STORE_TOKEN_KEPT_US)) ||
        !tx_run(tx, "SELECT count(*) FROM token", 0, NULL, &rows, err))
        return false;
    return row_int(&rows, 0, 0) < STORE_TOKENS_MAX ||
           error_set(err, REASON_TOKEN_LIMIT, "there are %d tokens already", STORE_TOKENS_MAX);
}

/* The clock is read once: PostgreSQL's goes on within a statement. */
static bool read_clock(StoreTx *tx, int64_t *ret_wall_us, Error *err) {
    StoreRows rows = {0};

    if (!tx_run(tx, "SELECT store_wall()", 0, NULL, &rows, err))
        return false;
    *ret_wall_us = row_int(&rows, 0, 0);
    return true;
}

bool store_token_create(StoreTx *tx, StoreToken *token, int64_t span_us, Error *err) {
    StoreRows rows = {0};
    int64_t now_us = 0;

    if (!tx_check_name("the id of a token", token->id, err) ||
        !tx_check_name("the role of a token", token->role, err) ||
        !tx_check_name("the hash of a token", token->hash, err) || !make_room(tx, err) || !read_clock(tx, &now_us, err))
        return false;
    int64_t expire_us = span_us != 0 ? now_us + span_us : 0;
    if (!TX_RUN(tx, &rows, err,
                "INSERT INTO token (" COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, 0, 0)"
                " ON CONFLICT DO NOTHING RETURNING id",
                token->id, token->hash, token->role, tx_text(token->name), tx_int(tx, now_us), tx_int(tx, expire_us)))
        return false;
    if (rows.count == 0)
        return error_set(err, REASON_NAME_TAKEN, "there is a token %s already", token->id);
    token->create_us = now_us;
    token->expire_us = expire_us;
    return true;
}

static bool no_token(const char *id, Error *err) {
    return error_set(err, REASON_NO_RESOURCE, "there is no token %s", tx_text(id));
}

bool store_token_get(StoreTx *tx, const char *id, StoreToken *ret_token, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "SELECT " COLUMNS " FROM token WHERE id = $1", tx_text(id)))
        return false;
    if (rows.count == 0)
        return no_token(id, err);
    read_token(&rows, 0, ret_token);
    return true;
}

bool store_token_list(StoreTx *tx, StoreToken **ret_tokens, size_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "SELECT " COLUMNS " FROM token ORDER BY create_us, id LIMIT $1",
                tx_int(tx, STORE_TOKENS_MAX)))
        return false;
    StoreToken *tokens = arena_array(tx->arena, StoreToken, MAX(rows.count, 1));
    for (size_t i = 0; i < rows.count; i++)
        read_token(&rows, i, &tokens[i]);
    *ret_tokens = tokens;
    *ret_count = rows.count;
    return true;
}

bool store_token_revoke(StoreTx *tx, const char *id, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err,
                "UPDATE token SET revoke_us = CASE WHEN revoke_us = 0 THEN store_wall() ELSE revoke_us END"
                " WHERE id = $1",
                tx_text(id)))
        return false;
    return rows.affected > 0 || no_token(id, err);
}

bool store_token_used(StoreTx *tx, const char *id, int64_t span_us, Error *err) {
    return TX_RUN(tx, NULL, err,
                  "UPDATE token SET used_us = store_wall()"
                  " WHERE id = $1 AND used_us <= store_wall() - CAST($2 AS bigint)",
                  tx_text(id), tx_int(tx, span_us));
}

bool store_token_any(StoreTx *tx, bool *ret_any, Error *err) {
    StoreRows rows = {0};

    if (!tx_run(tx, "SELECT id FROM token LIMIT 1", 0, NULL, &rows, err))
        return false;
    *ret_any = rows.count > 0;
    return true;
}

/* --- settings --- */

bool store_setting_get(StoreTx *tx, const char *name, const char **ret_value, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "SELECT value FROM setting WHERE name = $1", tx_text(name)))
        return false;
    *ret_value = rows.count > 0 ? row_text(&rows, 0, 0) : NULL;
    return true;
}

bool store_setting_set(StoreTx *tx, const char *name, const char *value, Error *err) {
    return tx_check_name("the name of a setting", name, err) &&
           TX_RUN(tx, NULL, err,
                  "INSERT INTO setting (name, value) VALUES ($1, $2)"
                  " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                  name, tx_text(value));
}
