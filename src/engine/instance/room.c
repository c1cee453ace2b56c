/*
 * Room for all databases of a job at once. Each database's own checks (engine/preflight) ask whether there is room for
 * it; that all of them fit at the same time is nothing that one of them sees.
 */
#include "common/clock.h"
#include "engine/instance/prepare.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { SENDERS_PER_DATABASE = 2, SESSIONS_PER_DATABASE = 4 };

typedef struct Room {
    Arena *arena;
    Notes *notes;
    int64_t databases; /* that need it */
} Room;

/* A limit of the source, and how much of it is taken by others than this job's databases. */
typedef struct Limit {
    InstanceNote note;
    const char *setting, *used_sql;
    int64_t each;
} Limit;

static const Limit limits[] = {
    {NOTE_SOURCE_SLOTS, "max_replication_slots", "SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots", 1},
    {NOTE_SOURCE_SENDERS, "max_wal_senders", "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication",
     SENDERS_PER_DATABASE},
};

static bool read_number(DbConn *conn, Arena *arena, const char *sql, int64_t *ret_number, Error *err) {
    char *text = NULL;

    if (!db_query_value(conn, arena, sql, 0, NULL, &text, err))
        return false;
    *ret_number = text != NULL ? strtoll(text, NULL, 10) : 0;
    return true;
}

static bool check_limit(const Room *room, DbConn *source, const Limit *limit, Error *err) {
    Arena *arena = room->arena;
    int64_t most = 0, used = 0, needed = room->databases * limit->each;
    const char *sql = arena_printf(arena, "SELECT pg_catalog.current_setting('%s')", limit->setting);

    if (!read_number(source, arena, sql, &most, err) || !read_number(source, arena, limit->used_sql, &used, err))
        return false;
    if (most - used >= needed)
        return true;
    note_add(room->notes, limit->note,
             arena_printf(arena, "%lld for %lld databases, and of %s = %lld %lld are in use", (long long)needed,
                          (long long)room->databases, limit->setting, (long long)most, (long long)used),
             arena_printf(arena,
                          "ALTER SYSTEM SET %s = %lld; -- then restart the server; a managed service has it among its"
                          " parameters",
                          limit->setting, (long long)(used + needed)));
    return true;
}

/* Sessions of a database that is followed, lanes not counted: those are shared. */
static bool check_sessions(const Room *room, DbConn *conn, InstanceNote note, Error *err) {
    Arena *arena = room->arena;
    int64_t left = 0, most = 0, needed = room->databases * SESSIONS_PER_DATABASE;

    if (!read_number(conn, arena, "SELECT pg_catalog.current_setting('max_connections')", &most, err) ||
        !read_number(
            conn, arena,
            "SELECT pg_catalog.current_setting('max_connections')::int"
            " - pg_catalog.current_setting('superuser_reserved_connections')::int"
            " - (SELECT pg_catalog.count(*)::int FROM pg_catalog.pg_stat_activity a WHERE a.datid IS NOT NULL)",
            &left, err))
        return false;
    if (left >= needed)
        return true;
    note_add(room->notes, note,
             arena_printf(arena,
                          "%lld for %lld databases that are followed at once, and max_connections = %lld leaves"
                          " %lld",
                          (long long)needed, (long long)room->databases, (long long)most, (long long)left),
             arena_printf(arena, "ALTER SYSTEM SET max_connections = %lld; -- then restart the server",
                          (long long)(most - left + needed)));
    return true;
}

/* As engine/preflight/disk.c has it for one: only of a server on this machine is it known. */
static bool check_disk(const Room *room, DbConn *dest, int64_t bytes, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    struct statvfs disk;

    if (!db_query(dest,
                  "SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'data_directory'"
                  " AND (pg_catalog.inet_server_addr() IS NULL OR pg_catalog.host(pg_catalog.inet_server_addr())"
                  "  = pg_catalog.host(pg_catalog.inet_client_addr()))",
                  0, NULL, &rows, err))
        return false;
    if (db_rows(rows) != 1 || statvfs(db_text(rows, 0, 0), &disk) != 0)
        return true;
    int64_t wanted = bytes + bytes / 4, there = (int64_t)(disk.f_bavail * disk.f_frsize);
    if (there < wanted)
        note_add(room->notes, NOTE_DESTINATION_DISK,
                 arena_printf(room->arena, "%s for all databases (1.25 times the source), and %s are free",
                              format_bytes(room->arena, wanted), format_bytes(room->arena, there)),
                 "");
    return true;
}

static bool is_apart(const InstanceInput *input, const char *database) {
    for (size_t i = 0; i < input->apart.len; i++)
        if (strcmp(input->apart.items[i], database) == 0)
            return true;
    return false;
}

static bool has_slot(const DbResult *slots, const char *database) {
    for (int row = 0; row < db_rows(slots); row++)
        if (strcmp(database, db_text(slots, row, 0)) == 0)
            return true;
    return false;
}

/* A slot of ours is there when the job was at work before: it takes no more room. */
static bool count_new(const InstanceInput *input, const InstanceList *list, int64_t *ret_count, int64_t *ret_bytes,
                      Error *err) {
    CLEANUP(db_result_freep) DbResult *slots = NULL;

    if (!db_query(input->source,
                  "SELECT s.database FROM pg_catalog.pg_replication_slots s WHERE s.slot_name ~ '^pgcrane_'", 0, NULL,
                  &slots, err))
        return error_wrap(err, "reading the slots of the source");
    *ret_count = *ret_bytes = 0;
    for (size_t i = 0; i < list->databases.len; i++) {
        const InstanceDatabase *database = &list->databases.items[i];

        if (is_apart(input, database->name) || has_slot(slots, database->name))
            continue;
        ++*ret_count;
        *ret_bytes += MAX(database->bytes, 0);
    }
    return true;
}

static bool check_followed(const Room *room, const InstanceInput *input, Error *err) {
    for (size_t i = 0; i < COUNT_OF(limits); i++)
        if (!check_limit(room, input->source, &limits[i], err))
            return false;
    return check_sessions(room, input->source, NOTE_SOURCE_SESSIONS, err) &&
           (input->dest == NULL || check_sessions(room, input->dest, NOTE_DESTINATION_SESSIONS, err));
}

bool instance_check_room(Arena *arena, const InstanceInput *input, const InstanceList *list, bool follow,
                         FindingVec *findings, Error *err) {
    Notes notes = {.arena = arena};
    Room room = {.arena = arena, .notes = &notes};
    int64_t bytes = 0;

    if (!count_new(input, list, &room.databases, &bytes, err))
        return false;
    if (room.databases < 2) /* its own checks say it */
        return true;
    if ((follow && !check_followed(&room, input, err)) ||
        (input->dest != NULL && !check_disk(&room, input->dest, bytes, err)))
        return error_wrap(err, "looking for room for all databases");
    notes_to_findings(&notes, findings);
    return true;
}
