/*
 * Resources, their lists and their secrets.
 *
 * Versions come from one counter of the whole store: a resource that is deleted and made again never has a version that
 * it had before, so that an old etag cannot fit by chance.
 *
 * A list goes by key, not by offset: a page begins behind the last row of the page before. The first page begins behind
 * a key that is before all others, so that there is one statement for both.
 */
#include "common/clock.h"
#include "common/hash.h"
#include "store/backend.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {
#define X(name) #name,
    STORE_KINDS(X)
#undef X
};

const char *store_kind_name(StoreKind kind) {
    return (unsigned)kind < STORE_KIND_MAX_ ? kind_names[kind] : "UNKNOWN";
}

StoreKind store_kind_from_name(const char *name) {
    unsigned kind = 0;

    while (kind < STORE_KIND_MAX_ && strcmp(kind_names[kind], name) != 0)
        kind++;
    return (StoreKind)kind;
}

/* --- One resource
 * -------------------------------------------------------------------------------------------------------- */

#define COLUMNS "name, kind, parent, uid, state, phase, display_name, body, version, create_us, update_us"

static void read_resource(const StoreRows *rows, size_t row, StoreResource *ret) {
    *ret = (StoreResource){
        .name = row_text(rows, row, 0),
        .kind = store_kind_from_name(row_text(rows, row, 1)),
        .parent = row_text(rows, row, 2),
        .uid = row_text(rows, row, 3),
        .state = row_text(rows, row, 4),
        .phase = row_text(rows, row, 5),
        .display_name = row_text(rows, row, 6),
        .body = row_text(rows, row, 7),
        .version = row_int(rows, row, 8),
        .create_us = row_int(rows, row, 9),
        .update_us = row_int(rows, row, 10),
    };
}

static bool no_resource(const char *name, Error *err) {
    return error_set(err, REASON_NO_RESOURCE, "there is no %s", name);
}

bool store_get(StoreTx *tx, const char *name, StoreResource *ret_resource, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "SELECT " COLUMNS " FROM resource WHERE name = $1", tx_text(name)))
        return false;
    if (rows.count == 0)
        return no_resource(tx_text(name), err);
    read_resource(&rows, 0, ret_resource);
    return true;
}

/* What a change is known by: its version and its time, as parameters. */
typedef struct Mark {
    const char *version, *now_us;
} Mark;

static bool next_mark(StoreTx *tx, Mark *ret_mark, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "UPDATE revision SET value = value + CAST($1 AS bigint) RETURNING value, store_wall()",
                "1"))
        return false;
    if (rows.count != 1)
        return error_set(err, REASON_STORE_DAMAGED, "the store has lost its counter of versions");
    *ret_mark = (Mark){row_text(&rows, 0, 0), row_text(&rows, 0, 1)};
    return true;
}

static bool check_texts(const StoreResource *resource, Error *err) {
    if (strnlen(tx_text(resource->body), STORE_BODY_MAX + 1) > STORE_BODY_MAX)
        return error_set(err, REASON_BAD_DATA, "the body of %s is longer than %d bytes", resource->name,
                         STORE_BODY_MAX);
    const char *shorts[] = {resource->parent, resource->uid, resource->state, resource->phase, resource->display_name};
    for (size_t i = 0; i < COUNT_OF(shorts); i++)
        if (strnlen(tx_text(shorts[i]), STORE_NAME_MAX + 1) > STORE_NAME_MAX)
            return error_set(err, REASON_BAD_DATA, "a field of %s is longer than %d bytes", resource->name,
                             STORE_NAME_MAX);
    return true;
}

bool store_create(StoreTx *tx, StoreResource *r, Error *err) {
    StoreRows rows = {0};
    Mark mark = {0};

    if ((unsigned)r->kind >= STORE_KIND_MAX_)
        return error_set(err, REASON_INTERNAL, "%d is no kind of resource", (int)r->kind);
    if (!tx_check_name("the name of a resource", r->name, err) || !check_texts(r, err) || !next_mark(tx, &mark, err) ||
        !TX_RUN(tx, &rows, err,
                "INSERT INTO resource (" COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
                " $10) ON CONFLICT DO NOTHING RETURNING version, create_us, update_us",
                r->name, store_kind_name(r->kind), tx_text(r->parent), tx_text(r->uid), tx_text(r->state),
                tx_text(r->phase), tx_text(r->display_name), tx_text(r->body), mark.version, mark.now_us))
        return false;
    if (rows.count == 0)
        return error_set(err, REASON_NAME_TAKEN, "%s exists already", r->name);
    r->version = row_int(&rows, 0, 0);
    r->create_us = row_int(&rows, 0, 1);
    r->update_us = row_int(&rows, 0, 2);
    tx->wake = true;
    return true;
}

/* Why a compare-and-set met no row. */
static bool explain_miss(StoreTx *tx, const char *name, int64_t version, Error *err) {
    StoreResource now = {0};

    if (!store_get(tx, name, &now, err))
        return false;
    return error_set(err, REASON_STALE_VERSION, "%s has version %" PRId64 " by now, not %" PRId64, name, now.version,
                     version);
}

bool store_update(StoreTx *tx, StoreResource *r, Error *err) {
    StoreRows rows = {0};
    Mark mark = {0};

    /* A clock that was set back does not make a resource older. */
    if (!check_texts(r, err) || !next_mark(tx, &mark, err) ||
        !TX_RUN(tx, &rows, err,
                "UPDATE resource SET state = $3, phase = $4, display_name = $5, body = $6, version = $7,"
                " update_us = CASE WHEN update_us > CAST($8 AS bigint) THEN update_us ELSE CAST($8 AS bigint) END"
                " WHERE name = $1 AND version = $2 RETURNING version, update_us",
                tx_text(r->name), tx_int(tx, r->version), tx_text(r->state), tx_text(r->phase),
                tx_text(r->display_name), tx_text(r->body), mark.version, mark.now_us))
        return false;
    if (rows.count == 0)
        return explain_miss(tx, tx_text(r->name), r->version, err);
    r->version = row_int(&rows, 0, 0);
    r->update_us = row_int(&rows, 0, 1);
    tx->wake = true;
    return true;
}

bool store_delete(StoreTx *tx, const char *name, int64_t version, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err, "DELETE FROM resource WHERE name = $1 AND version = $2", tx_text(name),
                tx_int(tx, version)))
        return false;
    if (rows.affected == 0)
        return explain_miss(tx, tx_text(name), version, err);
    tx->wake = true;
    return true;
}

/* --- Lists
 * --------------------------------------------------------------------------------------------------------------- */

/* $1 kind, $2 parent, $3 state, $4 and $5 the key of the row before, $6 limit. Every one stands in every text. */
#define OF_KIND " FROM resource WHERE kind = $1 AND (CAST($3 AS text) IS NULL OR state = $3)"
#define OF_ALL OF_KIND " AND CAST($2 AS text) IS NULL"
#define OF_PARENT OF_KIND " AND parent = $2"
#define BY_NAME(from, than, way)                                                                                       \
    "SELECT " COLUMNS from " AND CAST($4 AS bigint) IS NOT NULL AND name " than " $5 ORDER BY name" way " LIMIT $6"
#define BY_TIME(from, than, way)                                                                                       \
    "SELECT " COLUMNS from " AND (create_us, name) " than " ($4, $5) ORDER BY create_us" way ", name" way " LIMIT $6"

static const char *const list_sql[STORE_ORDER_MAX_][2][2] = {
    /* order, descending, of one parent */
    [STORE_BY_NAME] = {{BY_NAME(OF_ALL, ">", ""), BY_NAME(OF_PARENT, ">", "")},
                       {BY_NAME(OF_ALL, "<", " DESC"), BY_NAME(OF_PARENT, "<", " DESC")}},
    [STORE_BY_CREATE_TIME] = {{BY_TIME(OF_ALL, ">", ""), BY_TIME(OF_PARENT, ">", "")},
                              {BY_TIME(OF_ALL, "<", " DESC"), BY_TIME(OF_PARENT, "<", " DESC")}},
};

/* Greater than every name: the last character there is. */
#define BEHIND_ALL "\xf4\x8f\xbf\xbf"

typedef struct Key {
    int64_t time_us;
    const char *name;
} Key;

/* Of what the pages of one list have in common. */
static uint64_t hash_query(Arena *arena, const StoreQuery *query) {
    return hash_text64(arena_printf(arena, "%s|%d%s|%d%s|%d|%d", store_kind_name(query->kind), query->parent != NULL,
                                    tx_text(query->parent), query->state != NULL, tx_text(query->state),
                                    (int)query->order, (int)query->descending));
}

static char *to_hex(Arena *arena, const void *bytes, size_t len) {
    char *text = arena_alloc(arena, 2 * len + 1);

    for (size_t i = 0; i < len; i++) {
        text[2 * i] = "0123456789abcdef"[((const unsigned char *)bytes)[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[((const unsigned char *)bytes)[i] & 15];
    }
    return text;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* NULL when it is none. A NUL stands behind the bytes. */
static char *from_hex(Arena *arena, const char *text, size_t *ret_len) {
    size_t len = strlen(text);
    char *bytes = arena_alloc(arena, len / 2 + 1);

    for (size_t i = 0; i < len; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0 || len % 2 != 0)
            return NULL;
        bytes[i / 2] = (char)((unsigned char)bytes[i / 2] << 4 | digit);
    }
    *ret_len = len / 2;
    return bytes;
}

static const char *make_cursor(Arena *arena, const StoreQuery *query, const StoreResource *last) {
    const char *text =
        arena_printf(arena, "%016" PRIx64 "%" PRId64 "|%s", hash_query(arena, query), last->create_us, last->name);

    return to_hex(arena, text, strlen(text));
}

static bool read_cursor(Arena *arena, const StoreQuery *query, Key *ret_key, Error *err) {
    size_t len = 0;
    char *text =
        strnlen(query->cursor, 4 * STORE_NAME_MAX) < 4 * STORE_NAME_MAX ? from_hex(arena, query->cursor, &len) : NULL;
    const char *expected = arena_printf(arena, "%016" PRIx64, hash_query(arena, query));

    if (text == NULL || strlen(text) != len || len < 18)
        return error_set(err, REASON_BAD_CURSOR, "this is no page token");
    if (strncmp(text, expected, 16) != 0)
        return error_set(err, REASON_BAD_CURSOR, "the page token belongs to another list");
    char *bar = NULL;
    ret_key->time_us = strtoll(text + 16, &bar, 10);
    if (*bar != '|')
        return error_set(err, REASON_BAD_CURSOR, "this is no page token");
    ret_key->name = bar + 1;
    return true;
}

static bool first_key(Arena *arena, const StoreQuery *query, Key *ret_key, Error *err) {
    if (query->cursor != NULL && query->cursor[0] != '\0')
        return read_cursor(arena, query, ret_key, err);
    *ret_key = query->descending ? (Key){INT64_MAX, BEHIND_ALL} : (Key){-1, ""};
    return true;
}

bool store_list(StoreTx *tx, const StoreQuery *query, StorePage *ret_page, Error *err) {
    size_t limit = store_limit(query->page_size);
    StoreRows rows = {0};
    Key key = {0};

    if ((unsigned)query->order >= STORE_ORDER_MAX_)
        return error_set(err, REASON_INTERNAL, "%d is no order", (int)query->order);
    const char *sql = list_sql[query->order][query->descending][query->parent != NULL];
    /* One more than is wanted: is there another page? */
    if (!first_key(tx->arena, query, &key, err) ||
        !TX_RUN(tx, &rows, err, sql, store_kind_name(query->kind), query->parent, query->state, tx_int(tx, key.time_us),
                key.name, tx_int(tx, (int64_t)limit + 1)))
        return false;
    size_t count = MIN(rows.count, limit);
    StoreResource *items = arena_array(tx->arena, StoreResource, MAX(count, 1));
    for (size_t i = 0; i < count; i++)
        read_resource(&rows, i, &items[i]);
    *ret_page = (StorePage){items, count, rows.count > limit ? make_cursor(tx->arena, query, &items[count - 1]) : ""};
    return true;
}

bool store_count(StoreTx *tx, const StoreQuery *query, int64_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err,
                "SELECT count(*) FROM resource WHERE kind = $1 AND (CAST($2 AS text) IS NULL OR parent = $2)"
                " AND (CAST($3 AS text) IS NULL OR state = $3)",
                store_kind_name(query->kind), query->parent, query->state))
        return false;
    *ret_count = row_int(&rows, 0, 0);
    return true;
}

bool store_operation_prune(StoreTx *tx, int64_t age_us, int64_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err,
                "DELETE FROM resource WHERE kind = 'OPERATION' AND state = '" STORE_DONE "'"
                " AND update_us < store_wall() - CAST($1 AS bigint)",
                tx_int(tx, age_us)))
        return false;
    *ret_count = rows.affected;
    return true;
}

/* --- Secrets
 * ------------------------------------------------------------------------------------------------------------- */

bool store_secret_set(StoreTx *tx, const char *owner, const char *field, const void *bytes, size_t len, Error *err) {
    StoreResource resource = {0};

    if (len > STORE_BODY_MAX)
        return error_set(err, REASON_BAD_DATA, "a secret of %zu bytes is too long", len);
    return tx_check_name("the field of a secret", field, err) && store_get(tx, owner, &resource, err) &&
           TX_RUN(tx, NULL, err,
                  "INSERT INTO secret (owner, field, value) VALUES ($1, $2, $3)"
                  " ON CONFLICT (owner, field) DO UPDATE SET value = excluded.value",
                  owner, field, to_hex(tx->arena, bytes, len));
}

bool store_secret_get(StoreTx *tx, const char *owner, const char *field, const void **ret_bytes, size_t *ret_len,
                      Error *err) {
    StoreRows rows = {0};
    size_t len = 0;

    if (!TX_RUN(tx, &rows, err, "SELECT value FROM secret WHERE owner = $1 AND field = $2", tx_text(owner),
                tx_text(field)))
        return false;
    if (rows.count == 0)
        return error_set(err, REASON_NO_RESOURCE, "%s has no secret %s", tx_text(owner), tx_text(field));
    const void *bytes = from_hex(tx->arena, row_text(&rows, 0, 0), &len);
    if (bytes == NULL)
        return error_set(err, REASON_STORE_DAMAGED, "the secret %s of %s is damaged", field, owner);
    *ret_bytes = bytes;
    *ret_len = len;
    return true;
}

bool store_secret_remove(StoreTx *tx, const char *owner, const char *field, Error *err) {
    return TX_RUN(tx, NULL, err, "DELETE FROM secret WHERE owner = $1 AND field = $2", tx_text(owner), tx_text(field));
}

static bool read_secret(StoreTx *tx, const StoreRows *rows, size_t row, StoreSecret *ret, Error *err) {
    *ret = (StoreSecret){.owner = row_text(rows, row, 0), .field = row_text(rows, row, 1)};
    ret->bytes = from_hex(tx->arena, row_text(rows, row, 2), &ret->len);
    return ret->bytes != NULL ||
           error_set(err, REASON_STORE_DAMAGED, "the secret %s of %s is damaged", ret->field, ret->owner);
}

bool store_secret_list(StoreTx *tx, const char *after_owner, const char *after_field, size_t limit,
                       StoreSecret **ret_secrets, size_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err,
                "SELECT owner, field, value FROM secret WHERE (owner, field) > ($1, $2) ORDER BY owner, field LIMIT $3",
                tx_text(after_owner), tx_text(after_field), tx_int(tx, (int64_t)store_limit(limit))))
        return false;
    StoreSecret *secrets = arena_array(tx->arena, StoreSecret, MAX(rows.count, 1));
    for (size_t i = 0; i < rows.count; i++)
        if (!read_secret(tx, &rows, i, &secrets[i], err))
            return false;
    *ret_secrets = secrets;
    *ret_count = rows.count;
    return true;
}

bool store_secret_heads(StoreTx *tx, size_t len, StoreSecretHead **ret_heads, size_t *ret_count, Error *err) {
    StoreRows rows = {0};

    if (!TX_RUN(tx, &rows, err,
                "SELECT substr(value, 1, CAST($1 AS integer)) AS head, count(*) FROM secret GROUP BY 1 ORDER BY 1",
                tx_int(tx, 2 * (int64_t)MIN(len, (size_t)64))))
        return false;
    StoreSecretHead *heads = arena_array(tx->arena, StoreSecretHead, MAX(rows.count, 1));
    for (size_t i = 0; i < rows.count; i++) {
        heads[i].bytes = from_hex(tx->arena, row_text(&rows, i, 0), &heads[i].len);
        heads[i].count = row_int(&rows, i, 1);
        if (heads[i].bytes == NULL)
            return error_set(err, REASON_STORE_DAMAGED, "a secret in the store is damaged");
    }
    *ret_heads = heads;
    *ret_count = rows.count;
    return true;
}
