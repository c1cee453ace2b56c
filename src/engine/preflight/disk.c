/* How large the source is, and whether the destination has room for it. */
#include "common/clock.h"
#include "engine/preflight/check.h"

#include <sys/statvfs.h>

static bool filtered_bytes(Preflight *p, int64_t *ret_bytes, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (!preflight_query(p, DB_SOURCE,
                         "SELECT n.nspname, c.relname, pg_catalog.pg_total_relation_size(c.oid)"
                         " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                         " WHERE c.relkind IN ('r', 'm') AND " SQL_USER_SCHEMA,
                         &rows, err))
        return false;
    int64_t bytes = 0;
    for (int row = 0; row < db_rows(rows); row++) {
        bool passes = false;
        if (!preflight_passes(p, db_text(rows, row, 0), db_text(rows, row, 1), &passes, err))
            return false;
        bytes += passes ? db_int64(rows, row, 2) : 0;
    }
    *ret_bytes = bytes;
    return true;
}

static bool database_bytes(Preflight *p, DbSide side, int64_t *ret_bytes, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (!preflight_query(p, side, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())", &rows, err))
        return false;
    *ret_bytes = db_int64(rows, 0, 0);
    return true;
}

bool preflight_source_bytes(Preflight *p, int64_t *ret_bytes, Error *err) {
    int64_t bytes = p->source_bytes;
    if (bytes < 0 && !(p->filtered ? filtered_bytes(p, &bytes, err) : database_bytes(p, DB_SOURCE, &bytes, err)))
        return false;
    p->source_bytes = bytes;
    *ret_bytes = bytes;
    return true;
}

/* SQL does not tell free space. The destination's disk can be looked at when its server runs on this machine and tells
 * where its files are: -1 = not so. A port forwarded from a container has other addresses at its two ends. */
static bool dest_free_bytes(Preflight *p, int64_t *ret_bytes, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (!preflight_query(p, DB_DEST,
                         "SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'data_directory'"
                         " AND (pg_catalog.inet_server_addr() IS NULL"
                         "  OR pg_catalog.host(pg_catalog.inet_server_addr())"
                         "   = pg_catalog.host(pg_catalog.inet_client_addr()))",
                         &rows, err))
        return false;
    struct statvfs disk;
    if (db_rows(rows) != 1 || statvfs(db_text(rows, 0, 0), &disk) != 0)
        *ret_bytes = -1;
    else
        *ret_bytes = (int64_t)(disk.f_bavail * disk.f_frsize);
    return true;
}

bool check_dest_disk(Preflight *p, Error *err) {
    static const char df[] = "df -h \"$PGDATA\" # on the destination";
    int64_t source = 0, there = 0, room = 0;
    if (p->input->options->schema_only)
        return true;
    if (!preflight_source_bytes(p, &source, err) || !dest_free_bytes(p, &room, err))
        return false;
    int64_t wanted = source + source / 4;
    /* What an earlier run brought takes no more room. */
    if (p->input->resuming && !database_bytes(p, DB_DEST, &there, err))
        return false;
    wanted = MAX(wanted - there, 0);
    if (room < 0)
        finding_add(
            p, CHECK_DESTINATION_DISK_UNKNOWN, "",
            arena_printf(p->scratch,
                         "free disk of the destination cannot be looked up from here: %s are needed (1.25 times "
                         "the source)",
                         format_bytes(p->scratch, wanted)),
            p->dest_role.sees_settings
                ? df
                : arena_printf(p->scratch, "GRANT pg_monitor TO %s; -- if its server is on this machine; or: %s",
                               p->dest_role.quoted, df));
    else if (room < wanted)
        finding_add(
            p, CHECK_DESTINATION_DISK, "",
            arena_printf(p->scratch, "the destination's disk has %s free and %s are needed (1.25 times the source)",
                         format_bytes(p->scratch, room), format_bytes(p->scratch, wanted)),
            "make room on the disk of the destination's data directory, or move less with --table and --schema");
    return true;
}
