/*
 * Base backups of a primary, in backups/: folders named by their time, each a whole data folder that pg_ctl can start
 * from, with the WAL that it needs. One a day, the last seven are kept.
 *
 * One is written under NAME.part, verified (pg_verifybackup, where it is installed), and then gets its name. So what
 * has no .part is whole; what has is of a process that died, or of a backup that failed, and is thrown away by the
 * next. The oldest are removed only when there is a new one: a server whose backups fail keeps those it has.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "provision/local/internal.h"
#include "provision/local/tree.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT = 7 };

static const int64_t period_us = 24 * 3600 * USEC_PER_SEC, again_us = 900 * USEC_PER_SEC;
static const char part[] = ".part";

static bool is_part(const char *name) {
    size_t len = strlen(name);

    return len > sizeof(part) - 1 && strcmp(name + len - (sizeof(part) - 1), part) == 0;
}

/* One of the future was noted under a clock that was wrong: not counted. */
static bool is_past(int64_t at_us, int64_t now_us, int64_t pause_us) {
    return at_us > now_us || now_us - at_us >= pause_us;
}

static bool is_due(const Local *local, int64_t now_us) {
    const json_t *noted = provision_journal_get(local->journal, "backups");

    return is_past(json_get_int(noted, "last_us", 0), now_us, period_us) &&
           is_past(json_get_int(noted, "tried_us", 0), now_us, again_us);
}

static bool note(Local *local, int64_t last_us, int64_t tried_us, Error *err) {
    return provision_journal_note(
        local->journal, "backups",
        json_pack("{s:I, s:I}", "last_us", (json_int_t)last_us, "tried_us", (json_int_t)tried_us), err);
}

/* 20261129T121336Z: sorts by time. */
static const char *name_of(Arena *arena, int64_t now_us) {
    const char *time = clock_rfc3339(arena, now_us);
    char *name = arena_strdup(arena, time);
    size_t used = 0;

    for (const char *at = time; *at != '\0' && *at != '.'; at++)
        if (*at != '-' && *at != ':')
            name[used++] = *at;
    name[used] = '\0';
    return arena_printf(arena, "%sZ", name);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const TreeFile *)a)->name, ((const TreeFile *)b)->name);
}

static bool list_whole(const Local *local, TreeFile **ret_files, size_t *ret_count, Error *err) {
    size_t count = 0, whole = 0;
    TreeFile *files = NULL;

    if (!tree_list(local->arena, local->backups, true, &files, &count, err))
        return false;
    for (size_t at = 0; at < count; at++)
        if (!is_part(files[at].name))
            files[whole++] = files[at];
    if (whole > 1)
        qsort(files, whole, sizeof(*files), by_name);
    *ret_files = files;
    *ret_count = whole;
    return true;
}

static bool remove_parts(const Local *local, Error *err) {
    TreeFile *files = NULL;
    size_t count = 0;

    if (!tree_list(local->arena, local->backups, true, &files, &count, err))
        return false;
    for (size_t at = 0; at < count; at++)
        if (is_part(files[at].name) && !tree_remove_in(local->backups, files[at].name, err))
            return false;
    return true;
}

static bool remove_oldest(const Local *local, Error *err) {
    TreeFile *files = NULL;
    size_t count = 0;

    if (!list_whole(local, &files, &count, err))
        return false;
    for (size_t at = 0; at + KEPT < count; at++)
        if (!tree_remove_in(local->backups, files[at].name, err))
            return false;
    return true;
}

static bool verify(const Local *local, const char *path, Error *err) {
    /* WAL can only be parsed by pg_waldump; without it files are compared with the manifest all the same. */
    const char *const argv[] = {"pg_verifybackup", "-q", path, programs_have(local, "pg_waldump") ? NULL : "-n", NULL};

    if (!programs_have(local, "pg_verifybackup")) {
        local_tell(local, "instance %s: there is no pg_verifybackup, so a backup is not verified", local->id);
        return true;
    }
    return local_run(local, argv, err);
}

static bool make(Local *local, const char *name, Error *err) {
    const char *unfinished = arena_printf(local->arena, "%s%s", name, part);
    const char *path = arena_printf(local->arena, "%s/%s", local->backups, unfinished);

    local_tell(local, "instance %s: backup %s", local->id, name);
    if (!place_make_owned(local, local->backups, err) || !remove_parts(local, err) ||
        !server_copy(local, path, NULL, err) || !failpoint("provision.backup.copied", err) || !verify(local, path, err))
        return false;
    return tree_rename_in(local->backups, unfinished, name, err) && failpoint("provision.backup.named", err) &&
           remove_oldest(local, err);
}

bool backup_make(Local *local, Error *err) {
    int64_t now_us = clock_wall_us();
    int64_t last_us = json_get_int(provision_journal_get(local->journal, "backups"), "last_us", 0);

    if (!is_due(local, now_us))
        return true;
    if (!note(local, last_us, now_us, err))
        return false;
    if (make(local, name_of(local->arena, now_us), err))
        return note(local, now_us, now_us, err);
    return error_wrap(err, "the backup of instance %s failed, and is tried again in a quarter of an hour", local->id);
}
