/* All that is wrong with a spec, at once, before anything is made. */
#include "common/utf8.h"
#include "provision/local/internal.h"
#include "provision/local/local.h"
#include "provision/local/settings.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    MAJOR_LEAST = 13,     /* whose programs have all that is needed here */
    SOCKET_NAME_LEN = 16, /* "/.s.PGSQL.16431" and a NUL */
    MEMORY_LEAST_MB = 128,
    DISK_LEAST_MB = 256,
    PROBLEMS_LEN = 800, /* of an error's message */
};

typedef struct Check {
    const Local *local;
    StringVec problems;
} Check;

static void problem(Check *check, const char *format, ...) PRINTF(2, 3);

static void problem(Check *check, const char *format, ...) {
    va_list args;

    va_start(args, format);
    const char *text = arena_vprintf(check->local->arena, format, args);
    va_end(args);
    vec_push(check->local->arena, &check->problems, text);
}

static bool is_network(const char *text) {
    char address[INET6_ADDRSTRLEN + 1] = "";
    unsigned char bytes[16];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    int bits = strchr(text, ':') != NULL ? 128 : 32;
    char *end = NULL;

    if (len >= sizeof(address))
        return false;
    memcpy(address, text, len);
    if (inet_pton(bits == 128 ? AF_INET6 : AF_INET, address, bytes) != 1)
        return false;
    if (slash == NULL)
        return true;
    long mask = strtol(slash + 1, &end, 10);
    return slash[1] >= '0' && slash[1] <= '9' && *end == '\0' && mask >= 0 && mask <= bits;
}

static void check_networks(Check *check) {
    const StringVec *networks = &check->local->spec->networks;

    for (size_t at = 0; at < networks->len; at++)
        if (!is_network(networks->items[at]))
            problem(check, "\"%.60s\" is no network such as 10.0.0.0/8", networks->items[at]);
}

static bool has_locale(const char *name) {
    locale_t found = newlocale(LC_ALL_MASK, name, (locale_t)0);

    if (found == (locale_t)0)
        return false;
    freelocale(found);
    return true;
}

static void check_locale_name(Check *check, const char *what, const char *name) {
    if (name != NULL && !has_locale(name))
        problem(check, "this machine has no locale \"%.60s\" for %s (locale -a lists those it has)", name, what);
}

static const struct {
    const char *name;
    int since;
    bool needs_locale;
} locale_providers[] = {{"libc", 0, false}, {"icu", 15, true}, {"builtin", 17, true}};

static void check_locale(Check *check) {
    const ProvisionSpec *spec = check->local->spec;
    const char *provider = spec->provider != NULL ? spec->provider : "libc";
    bool known = false;

    for (size_t at = 0; at < COUNT_OF(locale_providers); at++) {
        if (strcmp(locale_providers[at].name, provider) != 0)
            continue;
        known = true;
        if (spec->major < locale_providers[at].since)
            problem(check, "locale provider %s needs PostgreSQL %d", provider, locale_providers[at].since);
        if (locale_providers[at].needs_locale && spec->locale == NULL)
            problem(check, "locale provider %s needs a locale", provider);
    }
    if (!known)
        problem(check, "there is no locale provider \"%.60s\": libc, icu, builtin", provider);
    check_locale_name(check, "collate", spec->collate);
    check_locale_name(check, "ctype", spec->ctype);
}

static void check_size(Check *check) {
    const ProvisionSpec *spec = check->local->spec;
    Machine machine = settings_machine(check->local->call->config->state_dir);

    if (spec->cpus < 0 || spec->memory_mb < 0 || spec->disk_mb < 0)
        problem(check, "a size is negative");
    if (spec->memory_mb > 0 && spec->memory_mb < MEMORY_LEAST_MB)
        problem(check, "%" PRId64 " MB of memory are too little: at least %d", spec->memory_mb, MEMORY_LEAST_MB);
    if (spec->memory_mb > machine.memory_mb)
        problem(check, "%" PRId64 " MB of memory are more than this machine has (%" PRId64 ")", spec->memory_mb,
                machine.memory_mb);
    if (spec->disk_mb > 0 && spec->disk_mb < DISK_LEAST_MB)
        problem(check, "%" PRId64 " MB of disk are too little: at least %d", spec->disk_mb, DISK_LEAST_MB);
    if (!provision_journal_exists(check->local->journal) && spec->disk_mb > machine.disk_mb)
        problem(check, "%s has %" PRId64 " MB free, which is less than %" PRId64, check->local->call->config->state_dir,
                machine.disk_mb, spec->disk_mb);
}

/* libpq and the server would cut it, or refuse it at the start. Quotes would have to be escaped in pg_ctl's words. */
static void check_place(Check *check) {
    const Local *local = check->local;
    const struct sockaddr_un *address = NULL;
    size_t most = sizeof(address->sun_path) - SOCKET_NAME_LEN;

    if (strlen(local->standby.run) > most)
        problem(check, "%s is too long for the path of a socket: at most %zu characters (shorten --state-dir)",
                local->standby.run, most);
    if (local->folder[0] != '/' || strpbrk(local->folder, "'\"\\\n,") != NULL)
        problem(check, "%s has a character that configuration files of PostgreSQL cannot have, or is not absolute",
                local->folder);
    if (access(OPENSSL, X_OK) != 0)
        problem(check, "openssl is not installed (apt-get install openssl)");
}

static bool is_utf8(const char *text) {
    for (size_t len = 0; *text != '\0'; text += len) {
        len = utf8_char_len(text, strlen(text));
        if (len == 0)
            return false;
    }
    return true;
}

static void check_password(Check *check) {
    const char *password = check->local->spec->password;

    if (password != NULL && (password[0] == '\0' || strpbrk(password, "\r\n") != NULL))
        problem(check, "the password is empty or has several lines");
    if (password != NULL && !is_utf8(password))
        problem(check, "the password is not UTF-8");
}

/* What is there stays as it was made. */
static void check_unchanged(Check *check) {
    const json_t *noted = provision_journal_get(check->local->journal, "programs");
    int64_t major = json_get_int(noted, "major", check->local->spec->major);

    if (major != check->local->spec->major)
        problem(check, "the instance is of PostgreSQL %" PRId64 " and is not upgraded to %d here", major,
                check->local->spec->major);
}

static const char *joined(const Check *check) {
    const char *all = "";

    for (size_t at = 0; at < check->problems.len; at++)
        all = arena_printf(check->local->arena, "%s%s%s", all, at > 0 ? "; " : "", check->problems.items[at]);
    size_t len = strlen(all);
    if (len <= PROBLEMS_LEN)
        return all;
    return arena_printf(check->local->arena, "%s ...",
                        arena_strndup(check->local->arena, all, utf8_cut(all, len, PROBLEMS_LEN)));
}

static bool refuse(const Check *check, const char *remedy, Error *err) {
    error_set(err, REASON_PROVISION_REFUSED, "instance %s: %s", check->local->id, joined(check));
    return error_remedy(err, "%s", remedy);
}

/* Which there are to choose from, where this one is none of them. */
static bool remedy_version(Local *local, const char *other, const char **ret_remedy, Error *err) {
    const char *list = "";

    if (!programs_list(local, MAJOR_LEAST, &list, err))
        return false;
    if (list[0] != '\0')
        *ret_remedy = arena_printf(local->arena,
                                   "ask for a major version that is installed here: %s (databaseVersionName, or"
                                   " --pg-version)%s%s",
                                   list, other[0] != '\0' ? "; or: " : "", other);
    else if (other[0] != '\0')
        *ret_remedy = other;
    else
        *ret_remedy = arena_printf(local->arena, "install one of at least %d: apt-get install postgresql", MAJOR_LEAST);
    return true;
}

/* Whether its programs are here, and what the server says to the flags. */
static bool check_version(Check *check, Local *local, const char **remedy, Error *err) {
    int major = local->spec->major;
    Error missing;

    if (major < MAJOR_LEAST) {
        problem(check, "PostgreSQL %d is too old to be made here: at least %d", major, MAJOR_LEAST);
        return remedy_version(local, "", remedy, err);
    }
    if (programs_find(local, major, &missing))
        return flags_check(local, &check->problems, err);
    *err = missing;
    if (missing.reason != REASON_PROVISION_REFUSED)
        return false;
    problem(check, "%s", missing.message);
    return remedy_version(local, arena_strdup(local->arena, missing.remedy), remedy, err);
}

bool check_spec(Local *local, Error *err) {
    Check check = {.local = local};
    const char *remedy = "mend what is listed, and ask again";

    check_unchanged(&check);
    check_place(&check);
    check_size(&check);
    check_locale(&check);
    check_networks(&check);
    check_password(&check);
    return check_version(&check, local, &remedy, err) && (check.problems.len == 0 || refuse(&check, remedy, err));
}

bool local_check(ProvisionCall *call, const ProvisionSpec *spec, Error *err) {
    Local local;

    return local_open(call, spec->id, spec, &local, err) && check_spec(&local, err);
}
