/*
 * Following, the server's part: may a slot be made, will it live, and what keeps it waiting.
 *
 * A later run of the same migration finds its slot there: what is asked of a server that is to make one is then left
 * out (slot_is_there()).
 */
#include "engine/preflight/follow.h"

enum {
    SENDERS_NEEDED = 2,         /* the stream, and who asks for the timeline */
    LOGICAL_ON_DEMAND = 190000, /* from 19 a slot raises wal_level = replica by itself */
    SENDER_TIMEOUT_MIN_MS = 10000,
    DECODING_MEMORY_MIN_KB = 65536,
};
/* A prepared transaction or a writer that is older than this is not about to end by itself. */
#define SQL_OLD "interval '5 seconds'"
#define KEEP_SIZE_MIN_BYTES (INT64_C(10) << 30)

bool follow_slot_is_there(Preflight *p, bool *ret_there, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    *ret_there = false;
    if (!p->input->resuming)
        return true;
    if (!preflight_query(p, DB_SOURCE,
                         "SELECT FROM pg_catalog.pg_replication_slots s WHERE s.slot_name ~ '^pgcrane_'"
                         " AND s.database = pg_catalog.current_database()",
                         &rows, err))
        return false;
    *ret_there = db_rows(rows) > 0;
    return true;
}

/* --- Settings ----------------------------------------------------------------------------------------------------- */

/* The setting's number in its own unit and as people write it. *ret_number = -1 when this version has none. */
static bool read_setting(Preflight *p, const char *name, int64_t *ret_number, const char **ret_text, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(p->input->source,
                  "SELECT s.setting, pg_catalog.current_setting(s.name) FROM pg_catalog.pg_settings s"
                  " WHERE s.name = $1",
                  1, &name, &rows, err))
        return false;
    *ret_number = db_rows(rows) == 1 ? db_int64(rows, 0, 0) : -1;
    *ret_text = db_rows(rows) == 1 ? arena_strdup(p->scratch, db_text(rows, 0, 1)) : "";
    return true;
}

typedef struct SettingRemedy {
    CheckId check;
    const char *setting, *value;
    bool restart;
} SettingRemedy;

static bool report_setting(Preflight *p, const SettingRemedy *remedy, const char *message, Error *err) {
    Provider provider = PROVIDER_SELF;

    if (!provider_of(p, DB_SOURCE, &provider, err))
        return false;
    finding_add(p, remedy->check, "", message,
                provider_setting(p->scratch, provider, remedy->setting, remedy->value, remedy->restart));
    return true;
}

bool check_follow_wal_level(Preflight *p, Error *err) {
    static const SettingRemedy remedy = {CHECK_FOLLOW_WAL_LEVEL, "wal_level", "logical", true};
    const char *level = NULL;
    int64_t ignored = 0;

    if (!read_setting(p, "wal_level", &ignored, &level, err))
        return false;
    bool on_demand = db_version(p->input->source) >= LOGICAL_ON_DEMAND && strcmp(level, "replica") == 0;
    if (strcmp(level, "logical") == 0 || on_demand)
        return true;
    return report_setting(
        p, &remedy, arena_printf(p->scratch, "wal_level is %s: changes cannot be read from the source's WAL", level),
        err);
}

/* Room in a limited thing of the server: how many are in use. */
typedef struct RoomCheck {
    CheckId check;
    const char *setting;
    const char *sql; /* how many are used */
    int64_t needed;
    const char *what;
} RoomCheck;

static bool check_room(Preflight *p, const RoomCheck *room, Error *err) {
    CLEANUP(db_result_freep) DbResult *used = NULL;
    const char *text = NULL;
    int64_t limit = 0;
    bool there = false;

    if (!follow_slot_is_there(p, &there, err) || !read_setting(p, room->setting, &limit, &text, err) ||
        !preflight_query(p, DB_SOURCE, room->sql, &used, err))
        return false;
    int64_t taken = db_rows(used) == 1 ? db_int64(used, 0, 0) : 0;
    if (there || limit - taken >= room->needed)
        return true;
    const char *wanted = arena_printf(p->scratch, "%lld", (long long)(taken + room->needed));
    const SettingRemedy remedy = {room->check, room->setting, wanted, true};
    return report_setting(p, &remedy,
                          arena_printf(p->scratch, "following needs %lld more %s; of %s = %s %lld are in use",
                                       (long long)room->needed, room->what, room->setting, text, (long long)taken),
                          err);
}

bool check_follow_slots(Preflight *p, Error *err) {
    static const RoomCheck room = {CHECK_FOLLOW_SLOTS, "max_replication_slots",
                                   "SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots", 1,
                                   "replication slot"};
    return check_room(p, &room, err);
}

bool check_follow_senders(Preflight *p, Error *err) {
    static const RoomCheck room = {CHECK_FOLLOW_SENDERS, "max_wal_senders",
                                   "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication", SENDERS_NEEDED,
                                   "walsenders"};
    return check_room(p, &room, err);
}

/* The slot holds WAL for as long as the load takes. */
bool check_follow_keep_size(Preflight *p, Error *err) {
    static const SettingRemedy remedy = {CHECK_FOLLOW_KEEP_SIZE, "max_slot_wal_keep_size", "-1", false};
    const char *text = NULL;
    int64_t megabytes = 0, source_bytes = 0;

    if (!read_setting(p, remedy.setting, &megabytes, &text, err) || !preflight_source_bytes(p, &source_bytes, err))
        return false;
    if (megabytes < 0 || megabytes >= MAX(source_bytes, KEEP_SIZE_MIN_BYTES) >> 20)
        return true;
    return report_setting(p, &remedy,
                          arena_printf(p->scratch,
                                       "max_slot_wal_keep_size = %s: when more than that is written while the load"
                                       " runs, the slot is lost and the migration starts over",
                                       text),
                          err);
}

/* Nobody reads the slot while the tables are copied. The setting exists from 18 on. */
bool check_follow_idle_timeout(Preflight *p, Error *err) {
    static const SettingRemedy remedy = {CHECK_FOLLOW_IDLE_TIMEOUT, "idle_replication_slot_timeout", "0", false};
    const char *text = NULL;
    int64_t seconds = 0;

    if (!read_setting(p, remedy.setting, &seconds, &text, err))
        return false;
    if (seconds <= 0)
        return true;
    return report_setting(p, &remedy,
                          arena_printf(p->scratch,
                                       "idle_replication_slot_timeout = %s: nobody reads the slot while tables are"
                                       " copied, and a load that takes longer loses it",
                                       text),
                          err);
}

bool check_follow_sender_timeout(Preflight *p, Error *err) {
    static const SettingRemedy remedy = {CHECK_FOLLOW_SENDER_TIMEOUT, "wal_sender_timeout", "60s", false};
    const char *text = NULL;
    int64_t milliseconds = 0;

    if (!read_setting(p, remedy.setting, &milliseconds, &text, err))
        return false;
    if (milliseconds >= SENDER_TIMEOUT_MIN_MS)
        return true;
    const char *message =
        milliseconds == 0 ? "wal_sender_timeout = 0: after a cut of the network the source does not notice, and the"
                            " slot stays in use"
                          : arena_printf(p->scratch,
                                         "wal_sender_timeout = %s: the source ends the stream whenever the destination"
                                         " or the network pauses for so long",
                                         text);
    return report_setting(p, &remedy, message, err);
}

bool check_follow_decoding_memory(Preflight *p, Error *err) {
    static const SettingRemedy remedy = {CHECK_FOLLOW_DECODING_MEMORY, "logical_decoding_work_mem", "64MB", false};
    const char *text = NULL;
    int64_t kilobytes = 0;

    if (!read_setting(p, remedy.setting, &kilobytes, &text, err))
        return false;
    if (kilobytes < 0 || kilobytes >= DECODING_MEMORY_MIN_KB)
        return true;
    return report_setting(p, &remedy,
                          arena_printf(p->scratch,
                                       "logical_decoding_work_mem = %s: transactions with more changes are written to"
                                       " the source's disk before they are sent",
                                       text),
                          err);
}

/* --- State -------------------------------------------------------------------------------------------------------- */

bool check_follow_standby(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_STANDBY,
        .side = DB_SOURCE,
        .columns = 1,
        .sql = "SELECT 1 WHERE pg_catalog.pg_is_in_recovery()",
        .object = "",
        .message = "the source is a standby: what runs on its primary cannot be seen from here, so no copy of it can be"
                   " joined to a stream without a gap",
        .fix = "give the primary as SOURCE",
    };
    return check_by_sql(p, &check, err);
}

/* Of any database: the slot and the barrier wait for all transactions of the server. */
bool check_follow_prepared(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_PREPARED_TRANSACTION,
        .side = DB_SOURCE,
        .columns = 5,
        .sql = "SELECT x.gid, pg_catalog.date_trunc('second', x.prepared), x.owner, pg_catalog.quote_literal(x.gid),"
               " pg_catalog.quote_ident(x.database) FROM pg_catalog.pg_prepared_xacts x"
               " WHERE x.prepared < pg_catalog.clock_timestamp() - " SQL_OLD " ORDER BY x.prepared",
        .object = "prepared transaction {1}",
        .message = "it was prepared by {3} at {2} in database {5} and never ended: the replication slot waits for it"
                   " for ever",
        .fix = "ROLLBACK PREPARED {4}; -- in database {5}; or COMMIT PREPARED",
    };
    bool there = false;

    return follow_slot_is_there(p, &there, err) && (there || check_by_sql(p, &check, err));
}

bool check_follow_long_transaction(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_LONG_TRANSACTION,
        .side = DB_SOURCE,
        .columns = 5,
        .sql = "SELECT a.pid, pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start),"
               " COALESCE(a.usename, ''), COALESCE(a.datname, ''), COALESCE(a.state, '')"
               " FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL"
               " AND a.xact_start < pg_catalog.clock_timestamp() - " SQL_OLD " ORDER BY a.xact_start",
        .object = "process {1}",
        .message = "a transaction of {3} in database {4} is open for {2} ({5}): the replication slot waits until it"
                   " ends",
        .fix = "SELECT pg_terminate_backend({1}); -- or wait for it",
    };
    bool there = false;

    return follow_slot_is_there(p, &there, err) &&
           (there || (check_by_sql(p, &check, err) && sight_of_sessions(p, DB_SOURCE, err)));
}

/* --- Versions ----------------------------------------------------------------------------------------------------- */

/*
 * Minor releases with two repairs of logical decoding. August 2024: a new slot could take over the state of another one
 * and begin inside a transaction (our barrier makes good for it). 2025: what a transaction changed that was open while
 * a publication was altered could be left out; the first repair, of May, had a fault of its own.
 */
static const struct {
    int major;
    int slot_fixed;        /* first minor release with the repair; MINOR_NEVER */
    int publication_fixed; /* the same */
} releases[] = {
    {10, FOLLOW_MINOR_NEVER, FOLLOW_MINOR_NEVER},
    {11, FOLLOW_MINOR_NEVER, FOLLOW_MINOR_NEVER},
    {12, 20, FOLLOW_MINOR_NEVER},
    {13, 16, 22},
    {14, 13, 19},
    {15, 8, 14},
    {16, 4, 10},
    {17, 0, 6},
};

FollowMinor follow_minor_wanted(int version) {
    int major = version / 10000, minor = version % 10000;

    for (size_t i = 0; i < COUNT_OF(releases); i++)
        if (releases[i].major == major)
            return (FollowMinor){
                .slot = minor < releases[i].slot_fixed ? releases[i].slot_fixed : 0,
                .publication = minor < releases[i].publication_fixed ? releases[i].publication_fixed : 0,
            };
    return (FollowMinor){0};
}

static void report_minor(Preflight *p, CheckId check, const char *fault, int wanted) {
    int version = db_version(p->input->source), major = version / 10000;
    const char *message = arena_printf(p->scratch, "PostgreSQL %d.%d %s", major, version % 10000, fault);
    const char *fix = wanted == FOLLOW_MINOR_NEVER
                          ? arena_printf(p->scratch, "no release of %d has the repair", major)
                          : arena_printf(p->scratch, "update the source to %d.%d or later", major, wanted);

    finding_add(p, check, "", message, fix);
}

bool check_follow_minor_version(Preflight *p, Error *err) {
    FollowMinor wanted = follow_minor_wanted(db_version(p->input->source));

    (void)err;
    if (wanted.slot != 0)
        report_minor(p, CHECK_FOLLOW_MINOR_SLOT,
                     "may begin a new slot inside a transaction: made good for by waiting for all transactions",
                     wanted.slot);
    if (wanted.publication != 0)
        report_minor(
            p, CHECK_FOLLOW_MINOR_PUBLICATION,
            "may leave out changes of transactions that are open while a publication is altered: add and drop no"
            " keys while the migration runs",
            wanted.publication);
    return true;
}
