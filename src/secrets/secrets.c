/*
 * Secrets at rest: sealing and opening with the keys of a key file.
 *
 * Sealed bytes are: version (1), id of the key (8), nonce (24, random), and what XChaCha20-Poly1305 makes of the
 * secret, its tag behind it. Authenticated beside them: version and id, and the names of resource and field, each with
 * its length so that no two pairs look alike. A random nonce of 192 bits needs no counter that a restored backup could
 * set back.
 */
#include "secrets/secrets.h"

#include "secrets/key_file.h"

#include <assert.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

enum { VERSION = 1, ID_LEN = 8, HEAD_LEN = 1 + ID_LEN };
enum { NONCE_LEN = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, TAG_LEN = crypto_aead_xchacha20poly1305_ietf_ABYTES };
enum { BINDING_MAX = HEAD_LEN + 2 * (2 + SECRETS_NAME_MAX) };

static_assert((int)SECRETS_OVERHEAD == (int)HEAD_LEN + (int)NONCE_LEN + (int)TAG_LEN, "the format has these parts");
static_assert((int)KEY_SIZE == (int)crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "a key of XChaCha20");

struct Secrets {
    Arena *arena;         /* holds this struct */
    const char *path;     /* NULL: the keys came as text */
    pthread_mutex_t lock; /* of what follows */
    Keyring *keyring;
    struct stat seen; /* the file as it was read */
};

/* --- the keys --- */

static Secrets *new_secrets(const char *path) {
    Arena *arena = arena_new();
    Secrets *secrets = arena_new_of(arena, Secrets);

    secrets->arena = arena;
    secrets->path = arena_strdup(arena, path);
    secrets->keyring = keyring_new();
    pthread_mutex_init(&secrets->lock, NULL);
    return secrets;
}

void secrets_free(Secrets *secrets) {
    if (secrets == NULL)
        return;
    keyring_freep(&secrets->keyring);
    pthread_mutex_destroy(&secrets->lock);
    arena_free(secrets->arena);
}

void secrets_freep(Secrets **secrets) {
    secrets_free(*secrets);
    *secrets = NULL;
}

bool secrets_create_file(const char *path, Error *err) {
    CLEANUP(keyring_freep) Keyring *keyring = keyring_new();

    return keyring_add_new(keyring, err) && key_file_create(path, keyring, err);
}

bool secrets_load(const char *path, Secrets **ret_secrets, Error *err) {
    CLEANUP(secrets_freep) Secrets *secrets = new_secrets(path);

    if (!key_file_read(path, secrets->keyring, &secrets->seen, err))
        return false;
    *ret_secrets = secrets;
    secrets = NULL;
    return true;
}

bool secrets_parse(const char *text, size_t len, Secrets **ret_secrets, Error *err) {
    CLEANUP(secrets_freep) Secrets *secrets = new_secrets(NULL);

    if (!keyring_parse(text, len, "the text of keys", secrets->keyring, err))
        return false;
    *ret_secrets = secrets;
    secrets = NULL;
    return true;
}

static bool is_same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Under the lock. What was known stays when the file cannot be read. */
static bool refresh(Secrets *secrets, Error *err) {
    struct stat st;

    if (secrets->path == NULL || (stat(secrets->path, &st) == 0 && is_same_file(&st, &secrets->seen)))
        return true;
    if (!key_file_read(secrets->path, secrets->keyring, &st, err))
        return false;
    secrets->seen = st;
    return true;
}

/* Under the lock. */
static bool find_key(Secrets *secrets, const char *id, const Key **ret_key, Error *err) {
    const Key *key = keyring_find(secrets->keyring, id);

    if (key == NULL && !refresh(secrets, err))
        return false;
    if (key == NULL)
        key = keyring_find(secrets->keyring, id);
    if (key == NULL) {
        const char *where = secrets->path != NULL ? secrets->path : "the text of keys";
        error_set(err, REASON_KEY_WRONG, "it was sealed with key %s, which is not in %s", id, where);
        return error_remedy(err, "put the line \"key %s ...\" of the file that has it into %s", id, where);
    }
    *ret_key = key;
    return true;
}

void secrets_key_ids(Secrets *secrets, SecretsKeyIds *ret_ids) {
    pthread_mutex_lock(&secrets->lock);
    ret_ids->count = secrets->keyring->count;
    for (size_t at = 0; at < ret_ids->count; at++)
        memcpy(ret_ids->ids[at], secrets->keyring->keys[at].id, SECRETS_KEY_ID_SIZE);
    pthread_mutex_unlock(&secrets->lock);
}

/* --- sealing and opening --- */

static size_t put_name(unsigned char *to, const char *name) {
    size_t len = strlen(name);

    to[0] = (unsigned char)(len & 0xff);
    to[1] = (unsigned char)(len >> 8);
    memcpy(to + 2, name, len);
    return len + 2;
}

/* What is authenticated beside the secret; 0 when a name is too long. */
static size_t bind_names(unsigned char *binding, const unsigned char *head, const char *resource, const char *field,
                         Error *err) {
    if (strnlen(resource, SECRETS_NAME_MAX + 1) > SECRETS_NAME_MAX ||
        strnlen(field, SECRETS_NAME_MAX + 1) > SECRETS_NAME_MAX) {
        error_set(err, REASON_BAD_DATA, "the name of a secret is longer than %d bytes", SECRETS_NAME_MAX);
        return 0;
    }
    memcpy(binding, head, HEAD_LEN);
    size_t len = HEAD_LEN;
    len += put_name(binding + len, resource);
    return len + put_name(binding + len, field);
}

static bool put_head(unsigned char *head, Secrets *secrets, Error *err) {
    if (!refresh(secrets, err))
        return false;
    const Key *key = &secrets->keyring->keys[secrets->keyring->count - 1];
    head[0] = VERSION;
    if (sodium_hex2bin(head + 1, ID_LEN, key->id, SECRETS_KEY_ID_SIZE - 1, NULL, NULL, NULL) != 0)
        return error_set(err, REASON_INTERNAL, "the id of a key is none"); /* uncovered: we made it */
    return true;
}

static bool encrypt(Secrets *secrets, unsigned char *sealed, const char *resource, const char *field, const void *plain,
                    size_t len, Error *err) {
    unsigned char binding[BINDING_MAX];

    if (!put_head(sealed, secrets, err))
        return false;
    size_t binding_len = bind_names(binding, sealed, resource, field, err);
    if (binding_len == 0)
        return false;
    randombytes_buf(sealed + HEAD_LEN, NONCE_LEN);
    const Key *key = &secrets->keyring->keys[secrets->keyring->count - 1];
    crypto_aead_xchacha20poly1305_ietf_encrypt(sealed + HEAD_LEN + NONCE_LEN, NULL, plain, len, binding, binding_len,
                                               NULL, sealed + HEAD_LEN, key->bytes);
    return true;
}

bool secrets_seal(Secrets *secrets, Arena *arena, const char *resource, const char *field, const void *plain,
                  size_t len, const void **ret_sealed, size_t *ret_sealed_len, Error *err) {
    if (len > SECRETS_PLAIN_MAX)
        return error_set(err, REASON_BAD_DATA, "a secret of %zu bytes: at most %d are taken", len, SECRETS_PLAIN_MAX);
    unsigned char *sealed = arena_alloc(arena, len + SECRETS_OVERHEAD);
    pthread_mutex_lock(&secrets->lock);
    bool good = encrypt(secrets, sealed, resource, field, plain, len, err);
    pthread_mutex_unlock(&secrets->lock);
    if (!good)
        return error_wrap(err, "secret %s of %s", field, resource);
    *ret_sealed = sealed;
    *ret_sealed_len = len + SECRETS_OVERHEAD;
    return true;
}

bool secrets_key_of(const void *sealed, size_t sealed_len, char ret_id[SECRETS_KEY_ID_SIZE]) {
    const unsigned char *bytes = sealed;

    if (sealed_len < SECRETS_OVERHEAD || sealed_len > SECRETS_PLAIN_MAX + SECRETS_OVERHEAD || bytes[0] != VERSION)
        return false;
    sodium_bin2hex(ret_id, SECRETS_KEY_ID_SIZE, bytes + 1, ID_LEN);
    return true;
}

static bool decrypt(Secrets *secrets, const char *resource, const char *field, const unsigned char *sealed,
                    size_t sealed_len, Secret *plain, Error *err) {
    unsigned char binding[BINDING_MAX];
    char id[SECRETS_KEY_ID_SIZE];
    const Key *key = NULL;

    if (!secrets_key_of(sealed, sealed_len, id))
        return error_set(err, REASON_SECRET_DAMAGED, "these are no sealed bytes, or of a newer version");
    size_t binding_len = bind_names(binding, sealed, resource, field, err);
    if (binding_len == 0 || !find_key(secrets, id, &key, err))
        return false;
    secret_make(plain, sealed_len - SECRETS_OVERHEAD);
    if (crypto_aead_xchacha20poly1305_ietf_decrypt((unsigned char *)plain->bytes, NULL, NULL,
                                                   sealed + HEAD_LEN + NONCE_LEN, sealed_len - HEAD_LEN - NONCE_LEN,
                                                   binding, binding_len, sealed + HEAD_LEN, key->bytes) != 0)
        return error_set(err, REASON_SECRET_DAMAGED, "it does not open: changed, or put where it does not belong");
    return true;
}

bool secrets_open(Secrets *secrets, const char *resource, const char *field, const void *sealed, size_t sealed_len,
                  Secret *ret_plain, Error *err) {
    CLEANUP(secret_wipe) Secret plain = {0};

    pthread_mutex_lock(&secrets->lock);
    bool good = decrypt(secrets, resource, field, sealed, sealed_len, &plain, err);
    pthread_mutex_unlock(&secrets->lock);
    if (!good)
        return error_wrap(err, "secret %.100s of %.400s", field, resource);
    secret_wipe(ret_plain);
    *ret_plain = plain;
    plain = (Secret){0};
    return true;
}

/* --- rotation --- */

static bool change_file(Secrets *secrets, KeyFileChange change, void *context, Error *err) {
    if (secrets->path == NULL)
        return error_set(err, REASON_USAGE, "keys that were given as text can only be changed where they come from");
    pthread_mutex_lock(&secrets->lock);
    bool good = key_file_change(secrets->path, change, context, secrets->keyring, err);
    secrets->seen = (struct stat){0}; /* read again when it is used next */
    pthread_mutex_unlock(&secrets->lock);
    return good;
}

static bool add_new(Keyring *keyring, void *context UNUSED, bool *ret_unchanged UNUSED, Error *err) {
    return keyring_add_new(keyring, err);
}

bool secrets_add_key(Secrets *secrets, Error *err) {
    return change_file(secrets, add_new, NULL, err);
}

typedef struct Drop {
    const SecretsKeyIds *kept;
    size_t dropped;
} Drop;

static bool is_kept(const SecretsKeyIds *kept, const char *id) {
    for (size_t at = 0; at < kept->count; at++)
        if (strcmp(kept->ids[at], id) == 0)
            return true;
    return false;
}

static bool drop(Keyring *keyring, void *context, bool *ret_unchanged, Error *err UNUSED) {
    Drop *job = context;
    size_t left = 0;

    for (size_t at = 0; at < keyring->count; at++)
        if (at + 1 == keyring->count || is_kept(job->kept, keyring->keys[at].id))
            keyring->keys[left++] = keyring->keys[at];
    job->dropped = keyring->count - left;
    *ret_unchanged = job->dropped == 0;
    sodium_memzero(&keyring->keys[left], job->dropped * sizeof(Key));
    keyring->count = left;
    return true;
}

bool secrets_drop_keys(Secrets *secrets, const SecretsKeyIds *kept, size_t *ret_dropped, Error *err) {
    Drop job = {.kept = kept};

    if (!change_file(secrets, drop, &job, err))
        return false;
    *ret_dropped = job.dropped;
    return true;
}
