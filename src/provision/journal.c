/*
 * What was begun for an instance.
 *
 * NOTES
 * The folder is made before the first note, and the lock is a file in it. So a folder that holds nothing but a lock is
 * what a crash before the first note leaves, or one behind the last strike: it is as good as none. A folder with
 * anything else and without a journal is not ours, and nothing is made or removed there.
 *
 * The lock is removed by the process that holds it. Another may have opened the file a moment before and get the lock
 * on one that has no name any more: whoever has locked it looks whether it is still the one that is there.
 */
#include "provision/journal.h"

#include "common/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { JOURNAL_MAX = 1024 * 1024, LOCK_TRIES = 100 };

static const char journal_name[] = "journal.json", lock_name[] = "lock";

struct ProvisionJournal {
    Arena *arena;
    const char *id, *folder, *path;
    json_t *json; /* {"id", "steps": {...}} */
    bool exists;
};

static const char *instances_folder(Arena *arena, const ProvisionConfig *config) {
    return arena_printf(arena, "%s/instances", config->state_dir);
}

/* It becomes the name of a folder. */
static bool is_id(const char *id) {
    size_t len = strlen(id);

    return len > 0 && len <= PROVISION_ID_MAX && id[0] != '-' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool parse_journal(ProvisionJournal *journal, const Buf *text, Error *err) {
    json_freep(&journal->json);
    journal->exists = json_parse(text->data, text->len, &journal->json, err) &&
                      strcmp(json_get_string(journal->json, "id", ""), journal->id) == 0 &&
                      json_get_object(journal->json, "steps") != NULL;
    if (journal->exists)
        return true;
    error_set(err, REASON_BAD_DATA, "%s is not the journal of instance %s", journal->path, journal->id);
    return error_remedy(err, "put it back from a backup; without it look through %s, and remove it by hand",
                        journal->folder);
}

static bool read_journal(ProvisionJournal *journal, Error *err) {
    CLEANUP(buf_fini) Buf text;
    struct stat there;

    buf_init(&text, JOURNAL_MAX);
    if (fd_read_file(journal->path, &text, err))
        return parse_journal(journal, &text, err);
    if (lstat(journal->path, &there) == 0 || errno != ENOENT)
        return false;
    json_freep(&journal->json);
    journal->json = json_pack("{s:s, s:{}}", "id", journal->id, "steps");
    journal->exists = false;
    return true;
}

bool provision_journal_open(Arena *arena, const ProvisionConfig *config, const char *id, ProvisionJournal **ret_journal,
                            Error *err) {
    ProvisionJournal *journal = arena_new_of(arena, ProvisionJournal);

    if (!is_id(id)) {
        error_set(err, REASON_PROVISION_REFUSED, "\"%.80s\" cannot be the id of an instance", id);
        return error_remedy(err, "use at most %d of a-z, 0-9 and -", PROVISION_ID_MAX);
    }
    journal->arena = arena;
    journal->id = arena_strdup(arena, id);
    journal->folder = arena_printf(arena, "%s/%s", instances_folder(arena, config), id);
    journal->path = arena_printf(arena, "%s/%s", journal->folder, journal_name);
    if (!read_journal(journal, err)) {
        json_freep(&journal->json);
        return false;
    }
    *ret_journal = journal;
    return true;
}

void provision_journal_closep(ProvisionJournal **journal) {
    if (*journal != NULL)
        json_freep(&(*journal)->json);
    *journal = NULL;
}

bool provision_journal_exists(const ProvisionJournal *journal) {
    return journal->exists;
}

const char *provision_journal_folder(const ProvisionJournal *journal) {
    return journal->folder;
}

const json_t *provision_journal_get(const ProvisionJournal *journal, const char *step) {
    return json_object_get(json_object_get(journal->json, "steps"), step);
}

static bool save(ProvisionJournal *journal, Error *err) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, JOURNAL_MAX);
    json_print(journal->json, 2, &text);
    buf_append_char(&text, '\n');
    if (!buf_ok(&text, "the journal of an instance", err) || !fd_make_dirs(journal->folder, err) ||
        !fd_write_file(journal->path, text.data, text.len, 0600, err))
        return false;
    journal->exists = true;
    return true;
}

bool provision_journal_note(ProvisionJournal *journal, const char *step, json_t *details, Error *err) {
    (void)json_object_set_new(json_object_get(journal->json, "steps"), step, details);
    return save(journal, err);
}

bool provision_journal_strike(ProvisionJournal *journal, const char *step, Error *err) {
    return json_object_del(json_object_get(journal->json, "steps"), step) != 0 || save(journal, err);
}

/* ---- Its folder ---- */

/* The first name in the folder that is none of ours; NULL = there is none. */
static const char *stranger_in(Arena *arena, const char *folder) {
    DIR *list = opendir(folder);
    const char *found = NULL;

    if (list == NULL)
        return NULL;
    for (const struct dirent *entry; found == NULL && (entry = readdir(list)) != NULL;) {
        const char *const known[] = {".", "..", journal_name, "journal.json.tmp", lock_name};
        bool is_known = false;
        for (size_t at = 0; at < COUNT_OF(known); at++)
            is_known = is_known || strcmp(entry->d_name, known[at]) == 0;
        found = is_known ? NULL : arena_strdup(arena, entry->d_name);
    }
    closedir(list);
    return found;
}

bool provision_journal_end(ProvisionJournal *journal, Error *err) {
    const char *stranger = stranger_in(journal->arena, journal->folder);

    if (stranger != NULL) {
        error_set(err, REASON_PROVISION_FAILED, "%s holds %s, which pgcrane has not put there", journal->folder,
                  stranger);
        return error_remedy(err, "move it elsewhere: mv %s/%s ...; then remove again", journal->folder, stranger);
    }
    const char *const names[] = {arena_printf(journal->arena, "%s.tmp", journal->path), journal->path,
                                 arena_printf(journal->arena, "%s/%s", journal->folder, lock_name)};
    for (size_t at = 0; at < COUNT_OF(names); at++)
        if (unlink(names[at]) != 0 && errno != ENOENT)
            return error_errno(err, REASON_SYSTEM, "cannot remove %s", names[at]);
    if (rmdir(journal->folder) != 0 && errno != ENOENT)
        return error_errno(err, REASON_SYSTEM, "cannot remove %s", journal->folder);
    journal->exists = false;
    return true;
}

/* A link would lead all that follows to somewhere else. */
static bool check_folder(const ProvisionJournal *journal, Error *err) {
    struct stat there;

    if (lstat(journal->folder, &there) != 0)
        return error_errno(err, REASON_SYSTEM, "%s", journal->folder);
    const char *stranger = journal->exists ? NULL : stranger_in(journal->arena, journal->folder);
    if (S_ISDIR(there.st_mode) && there.st_uid == geteuid() && stranger == NULL)
        return true;
    error_set(err, REASON_PROVISION_REFUSED, "%s is not pgcrane's%s%s", journal->folder,
              stranger != NULL ? ": it has no journal and holds " : "", stranger != NULL ? stranger : "");
    return error_remedy(err, "move it elsewhere: mv %s ...", journal->folder);
}

/* *ret_fd -1: taken. *ret_again: it is a file that has no name any more. */
static bool try_lock(const char *path, int *ret_fd, bool *ret_again, Error *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat ours, there;

    if (fd < 0 && errno == ENOENT) {
        *ret_again = true;
        return true;
    }
    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot open %s", path);
    bool locked = fcntl(fd, F_OFD_SETLK, &whole) == 0;
    if (!locked && errno != EAGAIN && errno != EACCES) {
        error_errno(err, REASON_SYSTEM, "cannot lock %s", path);
        fd_close(&fd);
        return false;
    }
    *ret_again = locked && (fstat(fd, &ours) != 0 || lstat(path, &there) != 0 || ours.st_ino != there.st_ino);
    if (!locked || *ret_again)
        fd_close(&fd);
    *ret_fd = fd;
    return true;
}

bool provision_lock(ProvisionJournal *journal, int *ret_fd, Error *err) {
    const char *path = arena_printf(journal->arena, "%s/%s", journal->folder, lock_name);

    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        bool again = false;
        int fd = -1;
        if (!fd_make_dirs(journal->folder, err) || !check_folder(journal, err) || !try_lock(path, &fd, &again, err))
            return false;
        if (again)
            continue;
        *ret_fd = fd;
        if (fd < 0 || read_journal(journal, err))
            return true;
        fd_close(ret_fd);
        return false;
    }
    return error_set(err, REASON_INTERNAL, "%s comes and goes", path);
}

static bool visit_one(const ProvisionConfig *config, const char *id, ProvisionVisit visit, void *context, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(provision_journal_closep) ProvisionJournal *journal = NULL;

    if (!is_id(id))
        return true;
    Error unread;
    return !provision_journal_open(arena, config, id, &journal, &unread) || !journal->exists ||
           visit(id, journal, context, err);
}

bool provision_journals_each(const ProvisionConfig *config, ProvisionVisit visit, void *context, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *folder = instances_folder(arena, config);
    DIR *list = opendir(folder);
    bool good = true;

    if (list == NULL)
        return errno == ENOENT || error_errno(err, REASON_SYSTEM, "cannot read %s", folder);
    for (const struct dirent *entry; good && (entry = readdir(list)) != NULL;)
        good = visit_one(config, entry->d_name, visit, context, err);
    closedir(list);
    return good;
}
