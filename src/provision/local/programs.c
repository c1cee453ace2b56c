/*
 * The programs of a major version: a server's own, all in one folder.
 *
 * Looked in: the configured folders, PATH, those of PGCRANE_PG_BINDIRS (as pg/client_bins.h does),
 * /usr/lib/postgresql/MAJOR/bin (Debian), /usr/pgsql-MAJOR/bin (PGDG's packages for RPM). Debian's wrappers in /usr/bin
 * have no `postgres` beside them and are passed over so.
 */
#include "common/proc.h"
#include "provision/local/internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VERSION_OUTPUT_MAX = 4096, MAJOR_MOST = 19 /* that is known */ };

static const char *const needed[] = {"initdb", "pg_ctl", "postgres", "pg_controldata", "pg_basebackup"};

const char *programs_path(const Local *local, const char *name) {
    return arena_printf(local->arena, "%s/%s", local->bindir, name);
}

bool programs_have(const Local *local, const char *name) {
    return access(programs_path(local, name), X_OK) == 0;
}

/* "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", "postgres (PostgreSQL) 19rc1" */
static int major_of(const char *output) {
    const char *version = strstr(output, ") ");

    return version != NULL ? (int)strtol(version + 2, NULL, 10) : 0;
}

/* One that does not run (wrong machine, missing library) is passed over, a stop is not. */
static bool version_is(const Local *local, const char *folder, int major, bool *ret_is, Error *err) {
    const char *const argv[] = {arena_printf(local->arena, "%s/postgres", folder), "--version", NULL};
    CLEANUP(buf_fini) Buf out;

    buf_init(&out, VERSION_OUTPUT_MAX);
    *ret_is = false;
    if (!proc_capture(&(ProcSpec){.argv = argv}, local->call->stop, &out, err))
        return err->reason != REASON_CANCELLED;
    *ret_is = major_of(out.data) == major;
    return true;
}

static bool is_complete(const Local *local, const char *folder, StringVec *missing) {
    size_t before = missing->len;

    for (size_t at = 0; at < COUNT_OF(needed); at++) {
        const char *path = arena_printf(local->arena, "%s/%s", folder, needed[at]);
        if (access(path, X_OK) != 0)
            vec_push(local->arena, missing, path);
    }
    return missing->len == before;
}

/* Leaves local->bindir NULL when it is none. missing: programs that lack in folders of that version. */
static bool try_folder(Local *local, const char *folder, int major, StringVec *missing, Error *err) {
    StringVec lacks = {0};
    bool is = false;

    if (folder[0] != '/' || access(arena_printf(local->arena, "%s/postgres", folder), X_OK) != 0)
        return true;
    if (!version_is(local, folder, major, &is, err))
        return false;
    if (is && is_complete(local, folder, &lacks))
        local->bindir = arena_strdup(local->arena, folder);
    for (size_t at = 0; is && at < lacks.len; at++)
        vec_push(local->arena, missing, lacks.items[at]);
    return true;
}

static bool try_list(Local *local, const char *list, int major, StringVec *missing, Error *err) {
    while (list != NULL && *list != '\0' && local->bindir == NULL) {
        size_t len = strcspn(list, ":");
        if (!try_folder(local, arena_strndup(local->arena, list, len), major, missing, err))
            return false;
        list += len + (list[len] == ':');
    }
    return true;
}

static bool fail_missing(int major, const StringVec *missing, Error *err) {
    if (missing->len > 0) {
        error_set(err, REASON_PROVISION_REFUSED, "PostgreSQL %d is here, but without %s", major, missing->items[0]);
        return error_remedy(err, "install the whole of it: apt-get install postgresql-%d", major);
    }
    error_set(err, REASON_PROVISION_REFUSED, "PostgreSQL %d is not installed on this machine", major);
    return error_remedy(err,
                        "apt-get install postgresql-%d (packages of every major version: apt.postgresql.org), or name "
                        "the folder of its programs",
                        major);
}

bool programs_find(Local *local, int major, Error *err) {
    const char *installed = arena_printf(local->arena, "/usr/lib/postgresql/%d/bin:/usr/pgsql-%d/bin", major, major);
    const char *const lists[] = {local->call->config->bindirs, getenv("PATH"), getenv("PGCRANE_PG_BINDIRS"), installed};
    StringVec missing = {0};

    local->bindir = NULL;
    for (size_t at = 0; at < COUNT_OF(lists); at++)
        if (!try_list(local, lists[at], major, &missing, err))
            return false;
    return local->bindir != NULL || fail_missing(major, &missing, err);
}

bool programs_list(Local *local, int least, const char **ret_list, Error *err) {
    const char *list = "";

    for (int major = least; major <= MAJOR_MOST; major++) {
        if (programs_find(local, major, err))
            list = arena_printf(local->arena, "%s%s%d", list, list[0] != '\0' ? ", " : "", major);
        else if (err->reason != REASON_PROVISION_REFUSED)
            return false;
    }
    local->bindir = NULL;
    *ret_list = list;
    return true;
}

bool programs_known(Local *local, Error *err) {
    const json_t *noted = provision_journal_get(local->journal, "programs");
    int major = (int)json_get_int(noted, "major", 0);
    StringVec missing = {0};

    local->bindir = NULL;
    if (!try_folder(local, json_get_string(noted, "folder", ""), major, &missing, err))
        return false;
    return local->bindir != NULL || programs_find(local, major, err);
}
