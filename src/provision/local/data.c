/*
 * The data folder of the primary.
 *
 * Noted as {"port", "made", "identifier"} under "server": "made" is true only when initdb and all that follows it here
 * have come to their end; anything that is there without it is thrown away, also what an initdb is still writing that
 * was started by a process that is gone.
 *
 * The password goes to initdb as a file that has no name anywhere: memory, seen as /dev/fd/3 by this child alone.
 */
#include "common/failpoint.h"
#include "common/fd.h"
#include "provision/local/internal.h"
#include "provision/local/tree.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum { PASSWORD_LEN = 24, ARGS_MAX = 24 };

char *data_new_password(Arena *arena) {
    static const char digits[] = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789-._~0"; /* 64 */
    unsigned char random[PASSWORD_LEN] = {0};

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return NULL;
    char *password = arena_alloc(arena, PASSWORD_LEN + 1);
    for (size_t at = 0; at < PASSWORD_LEN; at++)
        password[at] = digits[random[at] % (sizeof(digits) - 1)];
    return password;
}

static bool is_made(const Local *local) {
    return json_get_bool(provision_journal_get(local->journal, "server"), "made", false);
}

static bool note_made(Local *local, bool made, const char *identifier, Error *err) {
    json_t *details = json_pack("{s:i, s:b}", "port", local->primary.port, "made", (int)made);

    if (identifier != NULL)
        (void)json_object_set_new(details, "identifier", json_string_lossy(identifier));
    return provision_journal_note(local->journal, "server", details, err);
}

static bool open_password(const char *password, int *ret_fd, Error *err) {
    CLEANUP(fd_close) int fd = memfd_create("password", MFD_CLOEXEC);

    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot have a file in memory");
    if (!fd_write_all(fd, password, strlen(password), err) || !fd_write_all(fd, "\n", 1, err))
        return false;
    *ret_fd = fd;
    fd = -1;
    return true;
}

typedef struct Args {
    Arena *arena;
    const char *items[ARGS_MAX];
    size_t count;
} Args;

/* Nothing for a NULL value. */
static void add(Args *args, const char *option, const char *value) {
    if (value != NULL)
        args->items[args->count++] = arena_printf(args->arena, "%s=%s", option, value);
}

static void add_locale(Args *args, const ProvisionSpec *spec) {
    const char *provider = spec->provider != NULL ? spec->provider : "libc";

    add(args, "--encoding", spec->encoding != NULL ? spec->encoding : "UTF8");
    add(args, "--lc-collate", spec->collate != NULL ? spec->collate : "C.UTF-8");
    add(args, "--lc-ctype", spec->ctype != NULL ? spec->ctype : "C.UTF-8");
    if (strcmp(provider, "libc") == 0)
        return;
    add(args, "--locale-provider", provider);
    add(args, strcmp(provider, "icu") == 0 ? "--icu-locale" : "--builtin-locale", spec->locale);
}

/* Of all majors, in the C locale; what is not here may pass: no room, no memory, a signal. */
static const char *const hopeless[] = {
    "invalid locale name",
    "invalid locale settings",
    "encoding mismatch",
    "is not a valid server encoding name",
    "requires unsupported encoding",
    "unrecognized locale provider",
    "locale must be specified",
    "is not supported in this build",
    "could not open collator for locale",
    "could not convert locale name",
    "unrecognized option",
    "invalid option",
    "needed by initdb but was not found",
};

bool data_is_hopeless(const char *said) {
    for (size_t at = 0; at < COUNT_OF(hopeless); at++)
        if (strstr(said, hopeless[at]) != NULL)
            return true;
    return false;
}

static bool fail_initdb(const Local *local, Error *err) {
    bool is_hopeless = data_is_hopeless(err->message);

    if (err->reason != REASON_CLIENT_FAILED)
        return false;
    err->reason = REASON_PROVISION_FAILED;
    err->retryable = !is_hopeless;
    if (is_hopeless)
        error_remedy(err,
                     "make another one, with a collation of this machine (locale -a) and an encoding that fits it");
    else
        error_remedy(err, "df -h %s shows whether there is room, free -m whether there is memory", local->folder);
    return error_wrap(err, "instance %s", local->id);
}

static bool run_initdb(Local *local, Error *err) {
    Args args = {.arena = local->arena, .items = {"initdb"}, .count = 1};
    CLEANUP(fd_close) int password = -1;

    add(&args, "--pgdata", local->primary.data);
    add(&args, "--username", "postgres");
    add(&args, "--pwfile", "/dev/fd/3");
    add(&args, "--auth", "scram-sha-256");
    add_locale(&args, local->spec);
    args.items[args.count++] = "--data-checksums";
    if (local->spec->mode == PROVISION_LOAD)
        args.items[args.count++] = "--no-sync"; /* it is synchronized as a whole on the way out of LOAD */
    if (!open_password(local->spec->password != NULL ? local->spec->password : local->made_up, &password, err))
        return false;
    return local_run_tied(local, args.items, password, err) || fail_initdb(local, err);
}

bool data_make(Local *local, Error *err) {
    const char *include = arena_printf(local->arena, "include '%s/pgcrane.conf'\n", local->conf);
    const char *file = arena_printf(local->arena, "%s/postgresql.conf", local->primary.data);
    const char *state = NULL, *identifier = NULL;

    if (is_made(local))
        return true;
    if (local->spec->password == NULL && (local->made_up = data_new_password(local->arena)) == NULL)
        return error_errno(err, REASON_SYSTEM, "cannot make up a password");
    if (!note_made(local, false, NULL, err) || !server_end(local, &local->primary, err) ||
        !tree_remove(local->primary.data, err) || !place_make_owned(local, local->primary.data, err) ||
        !failpoint("provision.create.initdb", err))
        return false;
    local_tell(local, "instance %s: initdb of PostgreSQL %d", local->id, local->spec->major);
    return run_initdb(local, err) && failpoint("provision.create.include", err) &&
           local_append(local, file, include, err) &&
           server_control(local, &local->primary, &state, &identifier, err) && note_made(local, true, identifier, err);
}
