/*
 * Finds pg_dump.
 *
 * Debian's /usr/bin/pg_dump is a Perl wrapper that picks a version by the cluster it thinks is meant; what it says to
 * --version need not be what it runs later. It is recognised by where its link leads, and left out: the real programs
 * are found in /usr/lib/postgresql/MAJOR/bin.
 */
#include "pg/client_bins.h"

#include "common/buf.h"
#include "common/proc.h"
#include "common/vec.h"

#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VERSION_OUTPUT_MAX = 4096, VERSION_MAX = 32 };

typedef struct Search {
    Arena *arena;
    const Stop *stop;
    VEC(ClientBin) bins;
} Search;

static bool is_known(const Search *search, const char *path) {
    for (size_t i = 0; i < search->bins.len; i++)
        if (strcmp(search->bins.items[i].path, path) == 0)
            return true;
    return false;
}

/* "pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)": the word after the first ") ". */
static bool parse_version(Arena *arena, const char *output, ClientBin *bin) {
    const char *version = strstr(output, ") ");
    if (version == NULL)
        return false;
    version += 2;
    size_t len = strcspn(version, " \n");
    long major = strtol(version, NULL, 10);
    if (len == 0 || len > VERSION_MAX || major < 8 || major > 999)
        return false;
    bin->version = arena_strndup(arena, version, len);
    bin->major = (int)major;
    return true;
}

/* A program that does not run (wrong machine, missing library) is passed over, a stop is not. */
static bool try_program(Search *search, const char *path, Error *err) {
    const char *const argv[] = {path, "--version", NULL};
    const ProcSpec spec = {.argv = argv, .stderr_fd = 0};
    ClientBin bin = {.path = path};
    Buf out CLEANUP(buf_fini);

    buf_init(&out, VERSION_OUTPUT_MAX);
    if (!proc_capture(&spec, search->stop, &out, err))
        return err->reason != REASON_CANCELLED;
    if (buf_ok(&out, "pg_dump --version", err) && parse_version(search->arena, out.data, &bin))
        vec_push(search->arena, &search->bins, bin);
    return true;
}

static bool try_folder(Search *search, const char *folder, Error *err) {
    char resolved[PATH_MAX];
    const char *path = arena_printf(search->arena, "%s/pg_dump", folder);

    if (folder[0] == '\0' || access(path, X_OK) != 0 || realpath(path, resolved) == NULL)
        return true;
    const char *name = strrchr(resolved, '/');
    if (name == NULL || strcmp(name, "/pg_dump") != 0 || is_known(search, resolved))
        return true;
    return try_program(search, arena_strdup(search->arena, resolved), err);
}

static bool try_list(Search *search, const char *list, Error *err) {
    while (list != NULL && *list != '\0') {
        size_t len = strcspn(list, ":");
        if (!try_folder(search, arena_strndup(search->arena, list, len), err))
            return false;
        list += len + (list[len] == ':');
    }
    return true;
}

static bool try_installed(Search *search, Error *err) {
    glob_t found = {0};
    bool good = true;

    if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) == 0)
        for (size_t i = 0; good && i < found.gl_pathc; i++)
            good = try_folder(search, found.gl_pathv[i], err);
    globfree(&found);
    return good;
}

/* Newest of those that read the source and write what the destination reads. Where there is none, the one that is least
 * ahead of the destination. NULL: none reads the source. */
static const ClientBin *choose(const Search *search, int source_major, int dest_major) {
    const ClientBin *fits = NULL;
    const ClientBin *ahead = NULL;

    for (size_t i = 0; i < search->bins.len; i++) {
        const ClientBin *bin = &search->bins.items[i];

        if (bin->major < source_major)
            continue;
        if (bin->major <= dest_major && (fits == NULL || bin->major > fits->major))
            fits = bin;
        if (bin->major > dest_major && (ahead == NULL || bin->major < ahead->major))
            ahead = bin;
    }
    return fits != NULL ? fits : ahead;
}

static bool fail_missing(const Search *search, const char *bindir, int source_major, int dest_major, Error *err) {
    const char *found = "";

    for (size_t i = 0; i < search->bins.len; i++)
        found = arena_printf(search->arena, "%s%s%s (%s)", found, i > 0 ? ", " : "", search->bins.items[i].path,
                             search->bins.items[i].version);
    error_set(err, REASON_CLIENT_MISSING, "no pg_dump %d or newer was found in %s; found: %s", source_major,
              bindir != NULL ? bindir : "PATH, /usr/lib/postgresql/*/bin and PGCRANE_PG_BINDIRS",
              found[0] != '\0' ? found : "none");
    return error_remedy(err, "apt-get install postgresql-client-%d, or name the folder of a pg_dump with --pg-bindir",
                        MAX(source_major, dest_major));
}

bool client_find_pg_dump(Arena *arena, const char *bindir, int source_major, int dest_major, const Stop *stop,
                         ClientBin *ret_bin, Error *err) {
    Search search = {.arena = arena, .stop = stop};

    if (bindir != NULL) {
        if (!try_folder(&search, bindir, err))
            return false;
    } else if (!try_list(&search, getenv("PATH"), err) || !try_installed(&search, err) ||
               !try_list(&search, getenv("PGCRANE_PG_BINDIRS"), err)) {
        return false;
    }
    const ClientBin *bin = choose(&search, source_major, dest_major);
    if (bin == NULL)
        return fail_missing(&search, bindir, source_major, dest_major, err);
    *ret_bin = *bin;
    return true;
}
