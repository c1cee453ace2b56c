/*
 * The slot as the server sees it: what it holds, what is left, and why it is lost.
 *
 * How a lost slot shows, by version. 13 to 15 say wal_status = 'lost' and know one cause on a primary, the limit on
 * WAL. 16 has more causes and a column for one kind of them (`conflicting`: rows were removed, or wal_level lowered).
 * From 17 there is a word for the cause. Before 13 no slot is ever lost, and what it holds is counted from restart_lsn.
 */
#include "engine/guard/guard.h"

#include "common/clock.h"

#include <stdio.h>
#include <string.h>

enum { STATUS_VERSION = 130000, CONFLICTING_VERSION = 160000, REASON_VERSION = 170000, IDLE_VERSION = 180000 };
enum { BYTES_PER_MB = 1 << 20, AGE_PARTS = 4 };

/* --- Why a slot was lost ------------------------------------------------------------------------------------------ */

/* By the server's word for it. */
static const struct {
    const char *cause;
    const char *setting; /* NULL = none did it */
    const char *meaning;
    const char *remedy;
} causes[] = {
    {"wal_removed", "max_slot_wal_keep_size", "it held back more WAL than the source keeps for a slot",
     "on the source: ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();"},
    {"idle_timeout", "idle_replication_slot_timeout", "nobody read it for longer than the source allows",
     "on the source: ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();"},
    {"wal_level_insufficient", "wal_level", "the source, or the primary it replays from, no longer writes logical WAL",
     "set wal_level = logical on the source and restart it;"},
    {"rows_removed", NULL, "catalogue rows that it needs were removed",
     "set hot_standby_feedback = on where the slot is on a standby;"},
    {"conflict", NULL, "catalogue rows that it needs were removed, or wal_level was lowered",
     "look at wal_level on the source;"},
};

static bool fail_lost(const char *slot, const DbResult *row, Error *err) {
    const char *cause = db_text(row, 0, 9), *limit = db_text(row, 0, 6);
    size_t i = 0;

    while (i < COUNT_OF(causes) && strcmp(causes[i].cause, cause) != 0)
        i++;
    if (i == COUNT_OF(causes))
        return error_set(err, REASON_SLOT_LOST, "the source has invalidated replication slot \"%s\" for good: %s", slot,
                         cause[0] != '\0' ? cause : "it does not say why");
    const char *value = strcmp(cause, "wal_removed") == 0    ? limit
                        : strcmp(cause, "idle_timeout") == 0 ? db_text(row, 0, 10)
                                                             : db_text(row, 0, 11);
    if (causes[i].setting == NULL)
        error_set(err, REASON_SLOT_LOST, "the source has invalidated replication slot \"%s\" for good: %s", slot,
                  causes[i].meaning);
    else
        error_set(err, REASON_SLOT_LOST, "the source has invalidated replication slot \"%s\" for good: %s (%s = %s)",
                  slot, causes[i].meaning, causes[i].setting, value);
    return error_remedy(err, "the changes since are gone. %s then start over with --restart", causes[i].remedy);
}

/* --- Reading ------------------------------------------------------------------------------------------------------ */

/* Columns: 0 current, 1 restart, 2 confirmed, 3 retained, 4 status, 5 safe size, 6 limit as text, 7 limit in MB,
 * 8 is lost, 9 cause, 10 idle time-out, 11 wal_level, 12 age, 13 active, 14 a stranger's pid, 15 in recovery,
 * 16 is ours by kind, 17 the stranger's name, 18 autovacuum_freeze_max_age. */
static const char *read_sql(Arena *arena, int version) {
    bool status = version >= STATUS_VERSION;
    const char *cause = version >= REASON_VERSION        ? "s.invalidation_reason"
                        : version >= CONFLICTING_VERSION ? "CASE WHEN s.conflicting THEN 'conflict'"
                                                           " WHEN s.wal_status = 'lost' THEN 'wal_removed' END"
                        : status                         ? "CASE WHEN s.wal_status = 'lost' THEN 'wal_removed' END"
                                                         : "NULL";

    return arena_printf(
        arena,
        "SELECT w.lsn, COALESCE(s.restart_lsn, '0/0'), COALESCE(s.confirmed_flush_lsn, '0/0'),"
        " COALESCE(pg_catalog.pg_wal_lsn_diff(w.lsn, s.restart_lsn), 0)::bigint, %s, %s,"
        " pg_catalog.current_setting('max_slot_wal_keep_size', true),"
        " (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'), %s, %s,"
        " pg_catalog.current_setting('idle_replication_slot_timeout', true),"
        " pg_catalog.current_setting('wal_level'), pg_catalog.age(s.catalog_xmin), s.active,"
        " CASE WHEN a.application_name <> '' AND pg_catalog.split_part(a.application_name, ' ', 2) <>"
        "  pg_catalog.split_part(pg_catalog.current_setting('application_name'), ' ', 2) THEN s.active_pid END,"
        " w.in_recovery, COALESCE(s.plugin = 'pgoutput' AND s.database = pg_catalog.current_database(), false),"
        " a.application_name, pg_catalog.current_setting('autovacuum_freeze_max_age')::bigint"
        " FROM (SELECT r.in_recovery, CASE WHEN r.in_recovery THEN pg_catalog.pg_last_wal_replay_lsn()"
        "   ELSE pg_catalog.pg_current_wal_lsn() END AS lsn"
        "  FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery) AS r) AS w"
        " LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1"
        " LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid",
        status ? "s.wal_status" : "NULL", status ? "s.safe_wal_size" : "NULL",
        status ? "COALESCE(s.wal_status = 'lost', false)" : "false", cause);
}

/* What forbids to go on. */
static bool judge(const char *slot, const DbResult *row, Error *err) {
    if (db_bool(row, 0, 15)) {
        error_set(err, REASON_SERVER_BUSY, "the source is in recovery: a standby, or a server that is being restored");
        return error_remedy(err, "connect to the primary; after a fail-over it is found when its promotion is done");
    }
    if (db_is_null(row, 0, 13))
        return error_set(err, REASON_SLOT_LOST, "replication slot \"%s\" does not exist on the source any more", slot);
    if (!db_bool(row, 0, 16))
        return error_set(err, REASON_SLOT_LOST,
                         "replication slot \"%s\" was replaced by another: it is none of pgoutput in this database",
                         slot);
    if (db_bool(row, 0, 8))
        return fail_lost(slot, row, err);
    if (!db_is_null(row, 0, 14)) {
        error_set(err, REASON_SERVER_BUSY,
                  "replication slot \"%s\" is read by process %lld of the source (%s), which is none of this migration",
                  slot, (long long)db_int64(row, 0, 14), db_text(row, 0, 17));
        return error_remedy(err, "end it: SELECT pg_terminate_backend(%lld); what it confirmed is lost to us",
                            (long long)db_int64(row, 0, 14));
    }
    return true;
}

bool guard_read(DbConn *source, Arena *arena, const char *slot, GuardReading *ret_reading, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    CLEANUP(db_result_freep) DbResult *row = NULL;
    GuardReading reading = {.limit_bytes = -1, .left_bytes = -1};

    if (!db_query(source, read_sql(scratch, db_version(source)), 1, &slot, &row, err))
        return error_wrap(err, "looking at replication slot \"%s\"", slot);
    if (db_rows(row) != 1)
        return error_set(err, REASON_INTERNAL, "replication slot \"%s\" gave %d rows", slot, db_rows(row));
    if (!judge(slot, row, err))
        return false;
    if (!lsn_parse(db_text(row, 0, 0), &reading.current) || !lsn_parse(db_text(row, 0, 1), &reading.restart) ||
        !lsn_parse(db_text(row, 0, 2), &reading.confirmed))
        return error_set(err, REASON_INTERNAL, "replication slot \"%s\" has positions that are none", slot);
    reading.retained_bytes = MAX(db_int64(row, 0, 3), 0);
    reading.wal_status = arena_strdup(arena, db_text(row, 0, 4));
    if (!db_is_null(row, 0, 5)) /* it goes below zero when the next checkpoint will take the WAL */
        reading.left_bytes = MAX(db_int64(row, 0, 5), 0);
    if (!db_is_null(row, 0, 7) && db_int64(row, 0, 7) >= 0)
        reading.limit_bytes = db_int64(row, 0, 7) * BYTES_PER_MB;
    reading.catalog_xmin_age = db_int64(row, 0, 12);
    reading.freeze_max_age = db_int64(row, 0, 18);
    reading.active = db_bool(row, 0, 13);
    *ret_reading = reading;
    return true;
}

void guard_apply_limit(GuardReading *reading, int64_t limit) {
    if (limit <= 0)
        return;
    int64_t left = MAX(limit - reading->retained_bytes, 0);

    reading->limit_bytes = reading->limit_bytes < 0 ? limit : MIN(reading->limit_bytes, limit);
    reading->left_bytes = reading->left_bytes < 0 ? left : MIN(reading->left_bytes, left);
}

bool guard_is_age_high(const GuardReading *reading) {
    return reading->freeze_max_age > 0 &&
           reading->catalog_xmin_age >= reading->freeze_max_age / AGE_PARTS * (AGE_PARTS - 1);
}

/* --- Rate --------------------------------------------------------------------------------------------------------- */

#define RATE_MEMORY_US ((double)(60 * USEC_PER_SEC))
#define RATE_STEP_US (USEC_PER_SEC / 2)

void guard_rate_add(GuardRate *rate, Lsn current, int64_t now_us) {
    int64_t elapsed = now_us - rate->first_us;

    if (rate->first_us == 0 || current < rate->first_lsn || elapsed < 0) {
        *rate = (GuardRate){.first_lsn = current, .first_us = now_us};
        return;
    }
    if (elapsed < RATE_STEP_US)
        return;
    double now = (double)(current - rate->first_lsn) * (double)USEC_PER_SEC / (double)elapsed;
    /* The first one counts whole, later ones by their share of the last minute. */
    double share = rate->bytes_per_second > 0 ? (double)elapsed / ((double)elapsed + RATE_MEMORY_US) : 1;
    *rate = (GuardRate){.first_lsn = current,
                        .first_us = now_us,
                        .bytes_per_second = rate->bytes_per_second + share * (now - rate->bytes_per_second)};
}

int64_t guard_seconds_left(const GuardRate *rate, const GuardReading *reading) {
    if (reading->left_bytes < 0 || rate->bytes_per_second <= 0)
        return -1;
    double seconds = (double)reading->left_bytes / rate->bytes_per_second;
    return seconds < (double)INT32_MAX ? (int64_t)seconds : -1;
}
