/*
 * What following costs the source, and whether it still can be followed: the slot, the WAL it holds, the timeline.
 *
 * Contract
 * - guard_read() only reads. A slot that is gone, lost or invalidated is SLOT_LOST, with the server's own reason and
 * the setting that did it: final, nothing is made again. A slot that a process reads which is none of this job's is
 * SERVER_BUSY: what that one confirms is lost to us. A source in recovery is SERVER_BUSY, too.
 * - guard_check_timeline() refuses to go on when the source went back behind what we hold (a fail-over to a standby
 *   that lacked it, a restored backup): another system identifier, or a timeline that forked before `behind`.
 * - Nothing is written to keep the slot of an idle database moving while others of the server write: the server says in
 *   keepalives how far it has read, and that is acknowledged (engine/follow).
 */
#pragma once

#include "common/lsn.h"
#include "engine/ledger/journal.h"

typedef struct GuardReading {
    Lsn current;              /* the source's end of WAL */
    Lsn restart, confirmed;   /* of the slot */
    int64_t retained_bytes;   /* WAL kept because of the slot */
    int64_t limit_bytes;      /* what the server keeps at most: max_slot_wal_keep_size; -1 = no limit */
    int64_t left_bytes;       /* until the slot is lost (safe_wal_size); -1 = no limit or not known (before 13) */
    const char *wal_status;   /* "reserved", "extended", "unreserved", "" before 13 */
    int64_t catalog_xmin_age; /* in transactions: VACUUM keeps rows of the catalogues that died since */
    int64_t freeze_max_age;   /* autovacuum_freeze_max_age: from there on the server vacuums in earnest, and in vain */
    bool active;
} GuardReading;

NODISCARD bool guard_read(DbConn *source, Arena *arena, const char *slot, GuardReading *ret_reading, Error *err);

/* A destination in recovery is SERVER_BUSY, with a remedy: what waits for a fail-over may go on with it. */
NODISCARD bool guard_check_dest(DbConn *dest, Error *err);
/* After a failure: where the destination has refused to write (SQLSTATE 25006), *err says why instead. Waited for is a
 * standby, a fail-over that is just over, a session that is broken; not a setting. True: to be waited for, on a
 * new connection, which may lead to another server. */
bool guard_explain_read_only(DbConn *dest, Error *err);

/* With a limit of ours (--max-retained; 0 = none): what is left is until the nearer of the two. */
void guard_apply_limit(GuardReading *reading, int64_t limit);
/* Three quarters of the way to freeze_max_age. */
bool guard_is_age_high(const GuardReading *reading);

/*
 * `behind` = the furthest of what we hold (applied position, W of every table), got under stream->timeline.
 * On success stream->timeline is the source's now. When that changed, guard_record_timeline() has to be called before
 * the stream is read: what comes from then on lies beyond the fork, and held against the old timeline it would look
 * like a source that went back.
 */
NODISCARD bool guard_check_timeline(const DbTarget *source_target, const Stop *stop, JournalStream *stream, Lsn behind,
                                    Error *err);
NODISCARD bool guard_record_timeline(DbConn *dest, const Ledger *ledger, int32_t timeline, Error *err);

/* A rate over about the last minute: how long the head-room lasts. Plain data; one thread. */
typedef struct GuardRate {
    Lsn first_lsn;
    int64_t first_us;
    double bytes_per_second; /* of WAL written by the source */
} GuardRate;
void guard_rate_add(GuardRate *rate, Lsn current, int64_t now_us);
/* Seconds until left_bytes are used at this rate; -1 = without end or not known. */
int64_t guard_seconds_left(const GuardRate *rate, const GuardReading *reading);
