/*
 * The secrets of the store, sealed with the keys of a key file.
 *
 * What the store remembers of its keys is a word that is sealed as a secret is, in the setting CHECK_NAME.
 */
#include "vault/vault.h"

#include "common/failpoint.h"

#include <string.h>

#define CHECK_NAME "secrets.check"
static const char check_word[] = "pgcrane";

enum { BATCH = 50, HEAD_BYTES = 9 }; /* version and key: what secrets_key_of() looks at */

/* --- which keys the store is used with --- */

static const char *to_hex(Arena *arena, const void *bytes, size_t len) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *from = bytes;
    char *text = arena_alloc(arena, 2 * len + 1);

    for (size_t at = 0; at < len; at++) {
        text[2 * at] = digits[from[at] >> 4];
        text[2 * at + 1] = digits[from[at] & 15];
    }
    return text;
}

/* NULL when it is none. */
static const void *from_hex(Arena *arena, const char *text, size_t *ret_len) {
    static const char digits[] = "0123456789abcdef";
    size_t len = strlen(text) / 2;
    unsigned char *bytes = arena_alloc(arena, len + 1);

    for (size_t at = 0; at < 2 * len; at++) {
        const char *digit = strchr(digits, text[at]);
        if (digit == NULL)
            return NULL;
        bytes[at / 2] = (unsigned char)(bytes[at / 2] << 4 | (digit - digits));
    }
    *ret_len = len;
    return bytes;
}

static bool write_check(StoreTx *tx, Arena *arena, Secrets *secrets, Error *err) {
    const void *sealed = NULL;
    size_t len = 0;

    return secrets_seal(secrets, arena, "store", CHECK_NAME, check_word, strlen(check_word), &sealed, &len, err) &&
           store_setting_set(tx, CHECK_NAME, to_hex(arena, sealed, len), err);
}

static bool open_check(Arena *arena, Secrets *secrets, const char *text, Error *err) {
    CLEANUP(secret_wipe) Secret word = {0};
    size_t len = 0;
    const void *sealed = from_hex(arena, text, &len);

    if (sealed == NULL)
        return error_set(err, REASON_STORE_DAMAGED, "what the store remembers of its keys is damaged");
    return secrets_open(secrets, "store", CHECK_NAME, sealed, len, &word, err) ||
           error_wrap(err, "these are not the keys that this store is used with");
}

/* Which key the word is sealed with; "" when that cannot be read. */
static const char *key_of_check(Arena *arena, const char *text) {
    char *id = arena_alloc(arena, SECRETS_KEY_ID_SIZE);
    size_t len = 0;
    const void *sealed = from_hex(arena, text, &len);

    if (sealed != NULL && !secrets_key_of(sealed, len, id))
        id[0] = '\0';
    return id;
}

typedef struct Opening {
    Arena *arena;
    const char *key_file; /* NULL: the keys are there */
    Secrets *secrets;
} Opening;

static bool load(Opening *opening, const char *check, Error *err) {
    if (opening->secrets != NULL || secrets_load(opening->key_file, &opening->secrets, err))
        return true;
    if (err->reason != REASON_KEY_MISSING)
        return false;
    if (check != NULL)
        return error_wrap(err, "the store is used with key %s", key_of_check(opening->arena, check));
    return secrets_create_file(opening->key_file, err) && secrets_load(opening->key_file, &opening->secrets, err);
}

/* Making the file is no change of the store, and yet done in here: of two nodes that begin at once with one folder or
 * one store, the second one finds what the first has made. Run again, it finds the file. */
static bool begin_body(StoreTx *tx, void *context, Error *err) {
    Opening *opening = context;
    const char *check = NULL;

    if (!store_setting_get(tx, CHECK_NAME, &check, err) || !load(opening, check, err))
        return false;
    return check != NULL ? open_check(opening->arena, opening->secrets, check, err)
                         : write_check(tx, opening->arena, opening->secrets, err);
}

static bool look_body(StoreTx *tx, void *context, Error *err) {
    return store_setting_get(tx, CHECK_NAME, context, err);
}

static bool open_with(Store *store, Opening *opening, Error *err) {
    const char *check = NULL;

    if (!store_read(store, opening->arena, look_body, &check, err))
        return false;
    if (check == NULL)
        return store_write(store, opening->arena, begin_body, opening, err);
    return load(opening, check, err) && open_check(opening->arena, opening->secrets, check, err);
}

bool vault_open(Store *store, const char *key_file, Secrets **ret_secrets, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Opening opening = {arena, key_file, NULL};

    if (!open_with(store, &opening, err)) {
        secrets_free(opening.secrets);
        return false;
    }
    *ret_secrets = opening.secrets;
    return true;
}

bool vault_check(Store *store, Secrets *secrets, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Opening opening = {arena, NULL, secrets};

    return open_with(store, &opening, err);
}

/* --- one secret --- */

static bool set_in(StoreTx *tx, Arena *arena, Secrets *secrets, const char *owner, const char *field, const void *bytes,
                   size_t len, Error *err) {
    const void *sealed = NULL;
    size_t sealed_len = 0;

    return secrets_seal(secrets, arena, owner, field, bytes, len, &sealed, &sealed_len, err) &&
           store_secret_set(tx, owner, field, sealed, sealed_len, err);
}

bool vault_set(StoreTx *tx, Secrets *secrets, const char *owner, const char *field, const void *bytes, size_t len,
               Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    return set_in(tx, arena, secrets, owner, field, bytes, len, err);
}

bool vault_get(StoreTx *tx, Secrets *secrets, const char *owner, const char *field, Secret *ret_secret, Error *err) {
    const void *sealed = NULL;
    size_t len = 0;

    return store_secret_get(tx, owner, field, &sealed, &len, err) &&
           secrets_open(secrets, owner, field, sealed, len, ret_secret, err);
}

/* --- sealing anew --- */

/* Where the walk is: a place for the names of the last secret, which outlive the transaction's arena. */
typedef struct Walk {
    Secrets *secrets;
    char newest[SECRETS_KEY_ID_SIZE];
    char owner[SECRETS_NAME_MAX + 1], field[SECRETS_NAME_MAX + 1];
    VaultReseal result;
    bool done;
} Walk;

typedef struct Batch {
    Arena *arena;
    const Walk *from;
    Walk to; /* as it is behind this batch: made anew by each run of the body */
} Batch;

static void note_failure(VaultReseal *result, const Error *err) {
    if (result->failed++ == 0)
        result->first = *err;
}

/* False only when the store fails, or sealing. */
static bool reseal_one(StoreTx *tx, Batch *batch, const StoreSecret *secret, Error *err) {
    CLEANUP(secret_wipe) Secret plain = {0};
    Walk *walk = &batch->to;
    char id[SECRETS_KEY_ID_SIZE];
    Error why;

    if (secrets_key_of(secret->bytes, secret->len, id) && strcmp(id, walk->newest) == 0) {
        walk->result.current++;
        return true;
    }
    if (!secrets_open(walk->secrets, secret->owner, secret->field, secret->bytes, secret->len, &plain, &why)) {
        note_failure(&walk->result, &why);
        return true;
    }
    walk->result.resealed++;
    return set_in(tx, batch->arena, walk->secrets, secret->owner, secret->field, plain.bytes, plain.len, err);
}

/* The store keeps no longer names. */
static void keep_name(char *to, const char *name) {
    size_t len = strnlen(name, SECRETS_NAME_MAX);

    memcpy(to, name, len);
    to[len] = '\0';
}

/* Writers of the store follow one another: nobody changes a secret between our look and our write. */
static bool reseal_body(StoreTx *tx, void *context, Error *err) {
    Batch *batch = context;
    Walk *walk = &batch->to;
    StoreSecret *secrets = NULL;
    size_t count = 0;

    *walk = *batch->from;
    if (!store_secret_list(tx, walk->owner, walk->field, BATCH, &secrets, &count, err))
        return false;
    for (size_t at = 0; at < count; at++)
        if (!reseal_one(tx, batch, &secrets[at], err))
            return false;
    walk->done = count < BATCH;
    if (walk->done)
        return write_check(tx, batch->arena, walk->secrets, err);
    keep_name(walk->owner, secrets[count - 1].owner);
    keep_name(walk->field, secrets[count - 1].field);
    return true;
}

bool vault_reseal(Store *store, Secrets *secrets, VaultReseal *ret_result, Error *err) {
    Walk walk = {.secrets = secrets};
    SecretsKeyIds ids;

    secrets_key_ids(secrets, &ids);
    memcpy(walk.newest, ids.ids[ids.count - 1], sizeof(walk.newest));
    while (!walk.done) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        Batch batch = {.arena = arena, .from = &walk};
        if (!store_write(store, arena, reseal_body, &batch, err) || !failpoint("keys.resealed", err))
            return false;
        walk = batch.to;
    }
    *ret_result = walk.result;
    return true;
}

/* --- which keys are in use --- */

static int64_t *count_of(VaultUsage *usage, const StoreSecretHead *head) {
    unsigned char bytes[SECRETS_OVERHEAD] = {0};
    char id[SECRETS_KEY_ID_SIZE];

    memcpy(bytes, head->bytes, MIN(head->len, sizeof(bytes)));
    if (head->len == HEAD_BYTES && secrets_key_of(bytes, sizeof(bytes), id))
        for (size_t at = 0; at < usage->keys.count; at++)
            if (strcmp(usage->keys.ids[at], id) == 0)
                return &usage->counts[at];
    return &usage->strange;
}

typedef struct Use {
    Arena *arena;
    Secrets *secrets;
    VaultUsage usage;
    size_t dropped;
} Use;

static bool usage_body(StoreTx *tx, void *context, Error *err) {
    Use *use = context;
    StoreSecretHead *heads = NULL;
    size_t count = 0;

    use->usage = (VaultUsage){0};
    secrets_key_ids(use->secrets, &use->usage.keys);
    if (!store_secret_heads(tx, HEAD_BYTES, &heads, &count, err))
        return false;
    for (size_t at = 0; at < count; at++)
        *count_of(&use->usage, &heads[at]) += heads[at].count;
    return true;
}

bool vault_usage(Store *store, Secrets *secrets, VaultUsage *ret_usage, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Use use = {.secrets = secrets};

    if (!store_read(store, arena, usage_body, &use, err))
        return false;
    *ret_usage = use.usage;
    return true;
}

/* Ids are of keys in the file, of which there are at most SECRETS_KEYS_MAX, and each is kept once. */
static void keep_key(SecretsKeyIds *kept, const char *id) {
    for (size_t at = 0; at < kept->count; at++)
        if (strcmp(kept->ids[at], id) == 0)
            return;
    if (kept->count < SECRETS_KEYS_MAX)
        memcpy(kept->ids[kept->count++], id, SECRETS_KEY_ID_SIZE);
}

/* The file is changed while nobody else writes to the store, and this transaction changes nothing in it: whether it is
 * committed does not matter. Run again, it finds nothing more to drop. */
static bool prune_body(StoreTx *tx, void *context, Error *err) {
    Use *use = context;
    SecretsKeyIds kept = {0};
    const char *check = NULL;
    size_t dropped = 0;

    if (!usage_body(tx, context, err) || !store_setting_get(tx, CHECK_NAME, &check, err))
        return false;
    if (check != NULL)
        keep_key(&kept, key_of_check(use->arena, check));
    for (size_t at = 0; at < use->usage.keys.count; at++)
        if (use->usage.counts[at] > 0)
            keep_key(&kept, use->usage.keys.ids[at]);
    if (!secrets_drop_keys(use->secrets, &kept, &dropped, err))
        return false;
    use->dropped += dropped;
    return true;
}

/* The word goes first, in a transaction of its own: its key must not be taken away before that is committed. */
static bool check_body(StoreTx *tx, void *context, Error *err) {
    Use *use = context;

    return write_check(tx, use->arena, use->secrets, err);
}

bool vault_prune(Store *store, Secrets *secrets, size_t *ret_dropped, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Use use = {.arena = arena, .secrets = secrets};

    if (!store_write(store, arena, check_body, &use, err) || !failpoint("keys.prune", err) ||
        !store_write(store, arena, prune_body, &use, err))
        return false;
    *ret_dropped = use.dropped;
    return true;
}
