/* Keys, sealing and opening: what opens, and what does not any more once anything about it was changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/fd.h"
#include "secrets/secrets.h"
#include "support/leaks.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static char folder[64];

static int begin(void **state) {
    snprintf(folder, sizeof(folder), "/tmp/pgcrane-test-secrets-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : leaks_begin(state);
}

static int end(void **state) {
    Error err;
    return fd_remove_tree(folder, &err) ? leaks_end(state) : -1;
}

typedef struct Fixture {
    Arena *arena;
    const char *path;
    Secrets *secrets;
} Fixture;

static int set_up(void **state) {
    static int number;
    Fixture *f = calloc(1, sizeof(*f));
    Error err;

    f->arena = arena_new();
    f->path = arena_printf(f->arena, "%s/keys%d", folder, number++);
    if (!secrets_create_file(f->path, &err) || !secrets_load(f->path, &f->secrets, &err))
        fail_msg("%s", err.message);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;

    secrets_free(f->secrets);
    arena_free(f->arena);
    free(f);
    return 0;
}

typedef struct Sealed {
    unsigned char *bytes;
    size_t len;
} Sealed;

static Sealed seal(Fixture *f, Secrets *secrets, const char *resource, const char *field, const char *plain,
                   size_t len) {
    const void *bytes = NULL;
    Sealed sealed = {0};
    Error err;

    if (!secrets_seal(secrets, f->arena, resource, field, plain, len, &bytes, &sealed.len, &err))
        fail_msg("%s", err.message);
    sealed.bytes = arena_alloc(f->arena, sealed.len);
    memcpy(sealed.bytes, bytes, sealed.len);
    return sealed;
}

static void opens(Secrets *secrets, const char *resource, const char *field, Sealed sealed, const char *plain,
                  size_t len) {
    CLEANUP(secret_wipe) Secret got = {0};
    Error err;

    if (!secrets_open(secrets, resource, field, sealed.bytes, sealed.len, &got, &err))
        fail_msg("%s", err.message);
    assert_int_equal(got.len, len);
    assert_memory_equal(got.bytes, plain, len);
    assert_int_equal(got.bytes[len], 0);
}

static void fails(Secrets *secrets, const char *resource, const char *field, Sealed sealed, ErrorReason reason) {
    CLEANUP(secret_wipe) Secret got = {0};
    Error err = {0};

    secret_make(&got, 3);
    memcpy(got.bytes, "old", 3);
    assert_false(secrets_open(secrets, resource, field, sealed.bytes, sealed.len, &got, &err));
    assert_string_equal(error_reason_name(err.reason), error_reason_name(reason));
    assert_string_equal(got.bytes, "old"); /* untouched */
}

static void test_there_and_back(void **state) {
    Fixture *f = *state;
    char *large = arena_alloc(f->arena, SECRETS_PLAIN_MAX + 1);
    const void *bytes = NULL;
    size_t len = 0;
    Error err;

    memset(large, 'x', SECRETS_PLAIN_MAX);
    opens(f->secrets, "r", "f", seal(f, f->secrets, "r", "f", "s3cret\0\n\xff", 9), "s3cret\0\n\xff", 9);
    opens(f->secrets, "r", "f", seal(f, f->secrets, "r", "f", "", 0), "", 0);
    Sealed most = seal(f, f->secrets, "r", "f", large, SECRETS_PLAIN_MAX);
    assert_int_equal(most.len, SECRETS_PLAIN_MAX + SECRETS_OVERHEAD);
    opens(f->secrets, "r", "f", most, large, SECRETS_PLAIN_MAX);
    assert_false(secrets_seal(f->secrets, f->arena, "r", "f", large, SECRETS_PLAIN_MAX + 1, &bytes, &len, &err));
    assert_int_equal(err.reason, REASON_BAD_DATA);
}

/* Sealed by another program, which was written from the description at the head of secrets.c: what was sealed once
 * must open for ever. */
static void test_the_format_stays(void **state UNUSED) {
    static const char keys[] =
        "key e8177564b7e792cc 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    static const unsigned char bytes[] = {0x01, 0xe8, 0x17, 0x75, 0x64, 0xb7, 0xe7, 0x92, 0xcc, 0x64, 0x65,
                                          0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70,
                                          0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x7b,
                                          0x0f, 0x40, 0x9a, 0xc2, 0x9a, 0x5a, 0xb8, 0xb9, 0xda, 0x1a, 0x3a,
                                          0x26, 0xe3, 0x90, 0x18, 0x1e, 0xc1, 0x5c, 0xfe, 0xf7, 0x3c, 0x5b};
    CLEANUP(secrets_freep) Secrets *secrets = NULL;
    Error err;

    assert_true(secrets_parse(keys, strlen(keys), &secrets, &err));
    unsigned char copy[sizeof(bytes)];
    memcpy(copy, bytes, sizeof(copy));
    opens(secrets, "profiles/a", "password", (Sealed){copy, sizeof(copy)}, "s3cret", 6);
}

static void test_it_is_encrypted_and_never_alike(void **state) {
    Fixture *f = *state;
    Sealed one = seal(f, f->secrets, "r", "f", "a password", 10), two = seal(f, f->secrets, "r", "f", "a password", 10);

    assert_null(memmem(one.bytes, one.len, "password", 8));
    assert_memory_equal(one.bytes, two.bytes, 9); /* version and key */
    assert_memory_not_equal(one.bytes + 9, two.bytes + 9, one.len - 9);
}

static void test_every_changed_bit_is_noticed(void **state) {
    Fixture *f = *state;
    Sealed sealed = seal(f, f->secrets, "r", "f", "secret", 6);

    for (size_t bit = 0; bit < sealed.len * 8; bit++) {
        bool is_key = bit / 8 >= 1 && bit / 8 < 9;
        sealed.bytes[bit / 8] ^= (unsigned char)(1U << (bit % 8));
        fails(f->secrets, "r", "f", sealed, is_key ? REASON_KEY_WRONG : REASON_SECRET_DAMAGED);
        sealed.bytes[bit / 8] ^= (unsigned char)(1U << (bit % 8));
    }
    opens(f->secrets, "r", "f", sealed, "secret", 6);
}

static void test_every_length_is_checked(void **state) {
    Fixture *f = *state;
    Sealed sealed = seal(f, f->secrets, "r", "f", "secret", 6);
    Sealed longer = {arena_alloc(f->arena, SECRETS_PLAIN_MAX + 200), 0};

    memcpy(longer.bytes, sealed.bytes, sealed.len);
    for (size_t len = 0; len < sealed.len; len++) {
        Sealed cut = {arena_alloc(f->arena, len + 1), len};
        memcpy(cut.bytes, sealed.bytes, len);
        fails(f->secrets, "r", "f", cut, REASON_SECRET_DAMAGED);
    }
    longer.len = sealed.len + 1;
    fails(f->secrets, "r", "f", longer, REASON_SECRET_DAMAGED);
    longer.len = SECRETS_PLAIN_MAX + SECRETS_OVERHEAD + 1;
    fails(f->secrets, "r", "f", longer, REASON_SECRET_DAMAGED);
}

static void test_it_belongs_to_its_field(void **state) {
    Fixture *f = *state;
    Sealed sealed = seal(f, f->secrets, "profiles/a", "password", "secret", 6);
    char *longest = arena_alloc(f->arena, SECRETS_NAME_MAX + 2);
    const void *bytes = NULL;
    size_t len = 0;
    Error err;

    fails(f->secrets, "profiles/b", "password", sealed, REASON_SECRET_DAMAGED);
    fails(f->secrets, "profiles/a", "key", sealed, REASON_SECRET_DAMAGED);
    fails(f->secrets, "profiles/ap", "assword", sealed, REASON_SECRET_DAMAGED);
    fails(f->secrets, "profiles/", "apassword", sealed, REASON_SECRET_DAMAGED);
    opens(f->secrets, "profiles/a", "password", sealed, "secret", 6);
    memset(longest, 'n', SECRETS_NAME_MAX);
    opens(f->secrets, longest, longest, seal(f, f->secrets, longest, longest, "s", 1), "s", 1);
    longest[SECRETS_NAME_MAX] = 'n';
    fails(f->secrets, longest, "password", sealed, REASON_BAD_DATA);
    assert_false(secrets_seal(f->secrets, f->arena, "r", longest, "", 0, &bytes, &len, &err));
    assert_int_equal(err.reason, REASON_BAD_DATA);
}

static void test_another_key_is_told_from_damage(void **state) {
    Fixture *f = *state;
    CLEANUP(secrets_freep) Secrets *other = NULL;
    const char *path = arena_printf(f->arena, "%s.other", f->path);
    char id[SECRETS_KEY_ID_SIZE];
    SecretsKeyIds ids;
    Error err;

    assert_true(secrets_create_file(path, &err));
    assert_true(secrets_load(path, &other, &err));
    Sealed sealed = seal(f, f->secrets, "r", "f", "secret", 6);
    fails(other, "r", "f", sealed, REASON_KEY_WRONG);
    secrets_key_ids(f->secrets, &ids);
    assert_true(secrets_key_of(sealed.bytes, sealed.len, id));
    assert_int_equal(ids.count, 1);
    assert_string_equal(ids.ids[0], id);
}

/* --- the key file --- */

static const char *read_text(Fixture *f, const char *path) {
    CLEANUP(buf_fini) Buf text;
    Error err;

    buf_init(&text, 100000);
    assert_true(fd_read_file(path, &text, &err));
    return arena_strdup(f->arena, text.data);
}

static void test_the_key_file_is_made_once(void **state) {
    Fixture *f = *state;
    const char *before = read_text(f, f->path);
    struct stat st;
    Error err;

    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_nlink, 1); /* the draft is gone */
    assert_false(secrets_create_file(f->path, &err));
    assert_int_equal(err.reason, REASON_NAME_TAKEN);
    assert_string_equal(read_text(f, f->path), before);
    assert_false(secrets_create_file(arena_printf(f->arena, "%s/none/keys", folder), &err));
    assert_int_equal(err.reason, REASON_SYSTEM);
}

static void load_fails(const char *path, ErrorReason reason, const char *said, const char *remedy) {
    Secrets *secrets = NULL;
    Error err = {0};

    assert_false(secrets_load(path, &secrets, &err));
    assert_null(secrets);
    assert_string_equal(error_reason_name(err.reason), error_reason_name(reason));
    assert_non_null(strstr(err.message, said));
    assert_non_null(strstr(err.remedy, remedy));
}

static void test_key_files_that_are_refused(void **state) {
    Fixture *f = *state;
    const mode_t exposed[] = {0604, 0602, 0610, 0660, 04600};
    Error err;
    Secrets *secrets = NULL;

    for (size_t at = 0; at < COUNT_OF(exposed); at++) {
        assert_int_equal(chmod(f->path, exposed[at]), 0);
        load_fails(f->path, REASON_FILE_EXPOSED, "mode", arena_printf(f->arena, "chmod 600 '%s'", f->path));
    }
    assert_int_equal(chmod(f->path, 0400), 0);
    assert_true(secrets_load(f->path, &secrets, &err));
    secrets_freep(&secrets);
    load_fails(arena_printf(f->arena, "%s/none", folder), REASON_KEY_MISSING, "/none", "copy");
    load_fails(folder, REASON_BAD_DATA, "no regular file", "");
    if (geteuid() == 0) {
        assert_int_equal(chown(f->path, 12345, 12345), 0);
        load_fails(f->path, REASON_FILE_EXPOSED, "12345", "chown 0 ");
    }
}

static void test_damaged_key_files(void **state) {
    Fixture *f = *state;
    const char *good = strstr(read_text(f, f->path), "key ");
    size_t len = strlen(good);
    Secrets *secrets = NULL;
    Error err = {0};

    assert_true(secrets_parse(good, len, &secrets, &err));
    secrets_freep(&secrets);
    assert_true(secrets_parse(good, len - 1, &secrets, &err)); /* without a line end */
    secrets_freep(&secrets);
    for (size_t at = 0; at < len - 1; at++) {
        char *bad = arena_strdup(f->arena, good);
        bad[at] = bad[at] == '1' ? '2' : '1';
        assert_false(secrets_parse(bad, len, &secrets, &err));
        assert_int_equal(err.reason, REASON_KEY_DAMAGED);
        assert_non_null(strstr(err.message, "line 1 "));
        assert_null(strstr(err.message, bad + len - 30)); /* nothing of the key */
    }
    for (size_t cut = 0; cut < len - 1; cut++)
        assert_false(secrets_parse(good, cut, &secrets, &err));
    const char *twice = arena_printf(f->arena, "%s%s", good, good);
    assert_false(secrets_parse(twice, strlen(twice), &secrets, &err));
    assert_false(secrets_parse("", 0, &secrets, &err));
    assert_non_null(strstr(err.message, "no key"));
}

/* --- rotation --- */

static void test_rotation(void **state) {
    Fixture *f = *state;
    CLEANUP(secrets_freep) Secrets *daemon = NULL;
    SecretsKeyIds ids, none = {.count = 0}, first = {.count = 1};
    char id[SECRETS_KEY_ID_SIZE];
    size_t dropped = 0;
    Error err;

    assert_true(secrets_load(f->path, &daemon, &err));
    Sealed old = seal(f, daemon, "r", "f", "old", 3);
    assert_true(secrets_add_key(f->secrets, &err));
    secrets_key_ids(f->secrets, &ids);
    assert_int_equal(ids.count, 2);
    Sealed new = seal(f, f->secrets, "r", "f", "new", 3);
    assert_true(secrets_key_of(new.bytes, new.len, id));
    assert_string_equal(id, ids.ids[1]);
    opens(daemon, "r", "f", new, "new", 3); /* it looks into the file again */
    opens(daemon, "r", "f", old, "old", 3);
    Sealed later = seal(f, daemon, "r", "f", "later", 5);
    assert_true(secrets_key_of(later.bytes, later.len, id));
    assert_string_equal(id, ids.ids[1]);
    memcpy(first.ids[0], ids.ids[0], sizeof(first.ids[0]));
    assert_true(secrets_drop_keys(f->secrets, &first, &dropped, &err));
    assert_int_equal(dropped, 0);
    assert_true(secrets_drop_keys(f->secrets, &none, &dropped, &err));
    assert_int_equal(dropped, 1);
    fails(f->secrets, "r", "f", old, REASON_KEY_WRONG);
    opens(f->secrets, "r", "f", new, "new", 3);
}

static void test_sealing_looks_before(void **state) {
    Fixture *f = *state;
    CLEANUP(secrets_freep) Secrets *daemon = NULL;
    char id[SECRETS_KEY_ID_SIZE];
    const void *bytes = NULL;
    size_t len = 0;
    SecretsKeyIds ids;
    Error err;

    assert_true(secrets_load(f->path, &daemon, &err));
    assert_true(secrets_add_key(f->secrets, &err));
    Sealed sealed = seal(f, daemon, "r", "f", "x", 1);
    secrets_key_ids(f->secrets, &ids);
    assert_true(secrets_key_of(sealed.bytes, sealed.len, id));
    assert_string_equal(id, ids.ids[1]);
    assert_int_equal(unlink(f->path), 0); /* what is sealed now could not be read tomorrow */
    assert_false(secrets_seal(daemon, f->arena, "r", "f", "x", 1, &bytes, &len, &err));
    assert_int_equal(err.reason, REASON_KEY_MISSING);
    opens(daemon, "r", "f", sealed, "x", 1);
}

static void test_a_file_has_so_many_keys(void **state) {
    Fixture *f = *state;
    CLEANUP(secrets_freep) Secrets *from_text = NULL;
    Error err;

    for (size_t at = 1; at < SECRETS_KEYS_MAX; at++)
        assert_true(secrets_add_key(f->secrets, &err));
    assert_false(secrets_add_key(f->secrets, &err));
    assert_int_equal(err.reason, REASON_KEY_LIMIT);
    const char *text = read_text(f, f->path);
    assert_true(secrets_parse(text, strlen(text), &from_text, &err));
    assert_false(secrets_add_key(from_text, &err));
    assert_int_equal(err.reason, REASON_USAGE);
}

static void *add_keys(void *path) {
    CLEANUP(secrets_freep) Secrets *secrets = NULL;
    Error err;

    for (int turn = 0; turn < 3; turn++)
        if ((secrets == NULL && !secrets_load(path, &secrets, &err)) || !secrets_add_key(secrets, &err))
            return NULL;
    return path;
}

static void test_no_key_is_lost_when_two_rotate(void **state) {
    Fixture *f = *state;
    pthread_t threads[5];
    SecretsKeyIds ids;
    char *path = arena_strdup(f->arena, f->path);

    for (size_t at = 0; at < COUNT_OF(threads); at++)
        assert_int_equal(pthread_create(&threads[at], NULL, add_keys, path), 0);
    for (size_t at = 0; at < COUNT_OF(threads); at++) {
        void *result = NULL;
        pthread_join(threads[at], &result);
        assert_ptr_equal(result, path);
    }
    (void)seal(f, f->secrets, "r", "f", "x", 1); /* reads it again */
    secrets_key_ids(f->secrets, &ids);
    assert_int_equal(ids.count, 1 + 3 * COUNT_OF(threads));
}

static void test_a_rotation_keeps_link_mode_and_owner(void **state) {
    Fixture *f = *state;
    CLEANUP(secrets_freep) Secrets *linked = NULL;
    const char *name = arena_printf(f->arena, "%s.link", f->path);
    struct stat st;
    Error err;

    assert_int_equal(chmod(f->path, 0400), 0);
    if (geteuid() == 0)
        assert_int_equal(chmod(f->path, 0440) + chown(f->path, 0, 12345), 0);
    assert_int_equal(symlink(f->path, name), 0);
    assert_true(secrets_load(name, &linked, &err));
    assert_true(secrets_add_key(linked, &err));
    assert_int_equal(lstat(name, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, geteuid() == 0 ? 0440 : 0400);
    assert_int_equal(st.st_gid, geteuid() == 0 ? 12345 : getegid());
}

/* --- memory --- */

/* The flags of the mapping that holds an address, from /proc/self/smaps. */
static bool mapping_has(const void *address, const char *flag) {
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    bool inside = false, has = false;

    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long from = 0, to = 0;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            has = strstr(line, flag) != NULL;
    }
    fclose(file);
    return has;
}

/* Not everybody may, and AddressSanitizer makes mlock() do nothing. */
static bool may_lock(void) {
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(page, MAP_FAILED);
    bool locked = mlock(page, size) == 0 && mapping_has(page, " lo");
    munmap(page, size);
    return locked;
}

static void test_memory_is_not_dumped(void **state UNUSED) {
    CLEANUP(secret_wipe) Secret secret = {0};

    secret_make(&secret, 100);
    for (size_t at = 0; at <= 100; at++)
        assert_int_equal(secret.bytes[at], 0);
    assert_true(mapping_has(secret.bytes, " dd"));
    if (may_lock())
        assert_true(mapping_has(secret.bytes, " lo"));
    memcpy(secret.bytes, "abcdef", 6);
    secret_cut(&secret, 3);
    assert_int_equal(secret.len, 3);
    assert_memory_equal(secret.bytes, "abc\0\0\0", 6);
    secret_cut(&secret, 50); /* never longer */
    assert_int_equal(secret.len, 3);
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_FILE(test_there_and_back),
        cmocka_unit_test(test_the_format_stays),
        WITH_FILE(test_it_is_encrypted_and_never_alike),
        WITH_FILE(test_every_changed_bit_is_noticed),
        WITH_FILE(test_every_length_is_checked),
        WITH_FILE(test_it_belongs_to_its_field),
        WITH_FILE(test_another_key_is_told_from_damage),
        WITH_FILE(test_the_key_file_is_made_once),
        WITH_FILE(test_key_files_that_are_refused),
        WITH_FILE(test_damaged_key_files),
        WITH_FILE(test_rotation),
        WITH_FILE(test_sealing_looks_before),
        WITH_FILE(test_a_file_has_so_many_keys),
        WITH_FILE(test_no_key_is_lost_when_two_rotate),
        WITH_FILE(test_a_rotation_keeps_link_mode_and_owner),
        cmocka_unit_test(test_memory_is_not_dumped),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
