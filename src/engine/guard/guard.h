/*
 * What following costs the source, and whether it still can be followed: the slot, the WAL it holds, the timeline.
 *
 * Contract
 * - guard_read() only reads. A slot that is gone, lost or invalidated is SLOT_LOST, with the server's own reason and
 * the setting that did it: final, nothing is made again.
 * - guard_check_timeline() refuses to go on when the source went back behind what we hold (a fail-over to a standby
 *   that lacked it, a restored backup): another system identifier, or a timeline that forked before `behind`.
 * - guard_heartbeat() writes one small record (a logical message, not transactional), so that the slot of an idle
 *   database can move on while other databases of the server write.
 */
#pragma once

#include "common/lsn.h"
#include "engine/ledger/journal.h"

typedef struct GuardReading {
    Lsn current;            /* the source's end of WAL */
    Lsn restart, confirmed; /* of the slot */
    int64_t retained_bytes; /* WAL kept because of the slot */
    int64_t limit_bytes;    /* what the server keeps at most: max_slot_wal_keep_size; -1 = no limit */
    int64_t left_bytes;     /* until the slot is lost (safe_wal_size); -1 = no limit or not known (before 13) */
    const char *wal_status; /* "reserved", "extended", "unreserved", "" before 13 */
    int64_t catalog_xmin_age;
    bool active;
} GuardReading;

NODISCARD bool guard_read(DbConn *source, Arena *arena, const char *slot, GuardReading *ret_reading, Error *err);
NODISCARD bool guard_check_timeline(const DbTarget *source_target, const Stop *stop, const JournalStream *stream,
                                    Lsn behind, Error *err);
NODISCARD bool guard_heartbeat(DbConn *source, Error *err);

/* A rate over the last readings: how long the head-room lasts. Plain data; one thread. */
typedef struct GuardRate {
    Lsn first_lsn;
    int64_t first_us;
    double bytes_per_second; /* of WAL written by the source */
} GuardRate;
void guard_rate_add(GuardRate *rate, Lsn current, int64_t now_us);
/* Seconds until left_bytes are used at this rate; -1 = without end or not known. */
int64_t guard_seconds_left(const GuardRate *rate, const GuardReading *reading);
