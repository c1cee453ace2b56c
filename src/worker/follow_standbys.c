/*
 * What may be confirmed to the source when the destination has standbys that do not confirm each commit.
 *
 * A fail-over of the destination to such a standby loses the last commits, the ledger's position with them. That is no
 * harm as long as the source still has what is missing: it streams again from there. So the slot must not pass what
 * the standbys have. Once a second the ledger's position and the destination's WAL position behind it are noted as a
 * pair; a position may be confirmed when every standby has flushed the WAL of its pair.
 *
 * A standby that goes away, also one of several, may be the one that is failed over to: for a while it is waited for.
 * Not for ever, since the source keeps its WAL for that long. The pairs end with the connection: behind a fail-over the
 * WAL positions are those of another timeline. Standbys that commits wait for (synchronous_standby_names) are there in
 * any case.
 */
#include "common/clock.h"
#include "worker/following.h"

#define LOOK_US (1 * USEC_PER_SEC)
#define CLOSE_LOOK_US (100 * USEC_PER_MSEC)
#define AWAY_US (60 * USEC_PER_SEC)
#define ANSWER_US (30 * USEC_PER_SEC) /* a destination that is silent for longer is away */

typedef struct Seen {
    Lsn position, wal; /* ours, and the destination's own, which is at or behind its commit */
    Lsn flushed;       /* by the slowest standby */
    int64_t visible;   /* standbys, by their position */
} Seen;

/* Physical ones. Without the right to see more, their positions are NULL, and nothing is limited. */
static bool look(DbConn *dest, Seen *ret_seen, Error *err) {
    static const char *const sql =
        "WITH s AS (SELECT r.flush_lsn FROM pg_catalog.pg_stat_replication r"
        " LEFT JOIN pg_catalog.pg_replication_slots l ON l.active_pid = r.pid"
        " WHERE l.slot_type IS DISTINCT FROM 'logical' AND (r.state IS NULL OR r.state IN ('streaming', 'catchup')))"
        " SELECT p.lsn, pg_catalog.pg_current_wal_insert_lsn(),"
        " COALESCE((SELECT flush_lsn FROM s ORDER BY flush_lsn LIMIT 1), '0/0'),"
        " (SELECT pg_catalog.count(flush_lsn) FROM s)"
        " FROM pgcrane.position p WHERE p.lane = 0";
    CLEANUP(db_result_freep) DbResult *row = NULL;
    Seen seen = {0};

    db_set_deadline(dest, clock_now_us() + ANSWER_US);
    bool ok = db_query(dest, sql, 0, NULL, &row, err);
    db_set_deadline(dest, 0);
    if (!ok)
        return error_wrap(err, "looking for the destination's standbys");
    if (db_rows(row) == 1) {
        seen.visible = db_int64(row, 0, 3);
        if (!lsn_parse(db_text(row, 0, 0), &seen.position) || !lsn_parse(db_text(row, 0, 1), &seen.wal) ||
            !lsn_parse(db_text(row, 0, 2), &seen.flushed))
            return error_set(err, REASON_INTERNAL, "the destination's positions are none");
    }
    *ret_seen = seen;
    return true;
}

/* When there is no room every other one goes: what is confirmed is a little older then. */
static void note(Standbys *standbys, const Seen *seen) {
    if (standbys->count > 0 && standbys->marks[standbys->count - 1].position == seen->position)
        return;
    if (standbys->count == COUNT_OF(standbys->marks)) {
        for (size_t i = 0; i < COUNT_OF(standbys->marks) / 2; i++)
            standbys->marks[i] = standbys->marks[2 * i];
        standbys->count /= 2;
    }
    standbys->marks[standbys->count++] = (StandbyMark){.position = seen->position, .wal = seen->wal};
}

static void judge(Standbys *standbys, Lsn flushed) {
    size_t passed = 0;

    while (passed < standbys->count && standbys->marks[passed].wal <= flushed)
        standbys->safe = standbys->marks[passed++].position;
    for (size_t i = passed; i < standbys->count; i++)
        standbys->marks[i - passed] = standbys->marks[i];
    standbys->count -= passed;
}

static void tell_away(Run *run) {
    run_event(
        run, "warning",
        "a standby of the destination has been away for a minute: from now on it may lack what the source does not"
        " keep for it");
}

/* Fewer than there were: one is away, and what it lacks is not known. One that has just come back has no position until
 * its first answer, and is away until then. */
static void weigh(Run *run, Standbys *standbys, const Seen *seen, int64_t now) {
    bool is_away = seen->visible < standbys->most;

    if (is_away && now - standbys->seen_us <= AWAY_US) {
        note(standbys, seen);
        return;
    }
    if (is_away)
        tell_away(run);
    if (seen->visible == 0) {
        *standbys = (Standbys){0};
        return;
    }
    standbys->most = seen->visible;
    standbys->seen_us = now;
    note(standbys, seen);
    judge(standbys, seen->flushed);
}

void standbys_start(Standbys *standbys) {
    standbys->count = 0;
    standbys->due_us = 0;
    /* Nobody has looked meanwhile: one that comes back more slowly than its primary has not been away for a minute. */
    standbys->seen_us = clock_now_us();
}

/* Nothing at all is 0/1, since 0 would mean that there is no limit. */
static Lsn limit_of(const Standbys *standbys) {
    return standbys->most == 0 ? UINT64_MAX : MAX(standbys->safe, 1);
}

bool standbys_look(Run *run, Standbys *standbys, Lsn *ret_limit, Error *err) {
    int64_t now = clock_now_us();
    Seen seen = {0};

    *ret_limit = limit_of(standbys);
    if (now < standbys->due_us)
        return true;
    if (!look(run->dest, &seen, err))
        return false;
    weigh(run, standbys, &seen, now);
    standbys->due_us = now + LOOK_US;
    run->dest_standbys = standbys->most;
    *ret_limit = limit_of(standbys);
    return true;
}

/* What opened the destination is a commit like the others: a fail-over to a standby without it needs the slot again,
 * and finds it, and the source is followed as before. */
bool run_wait_for_standbys(Run *run, Error *err) {
    int64_t deadline = clock_now_us() + AWAY_US;
    Seen opened, seen;

    if (!look(run->dest, &opened, err))
        return false;
    seen = opened;
    while (seen.visible < run->dest_standbys || (seen.visible > 0 && seen.flushed < opened.wal)) {
        if (clock_now_us() >= deadline) {
            run_event(run, "warning",
                      "a standby of the destination has not had for a minute that the destination was opened: do not"
                      " fail over to it as it is, what could bring it up goes from the source now");
            return true;
        }
        if (stop_wait_fd(&run->stop, -1, 0, clock_now_us() + CLOSE_LOOK_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
        if (!look(run->dest, &seen, err))
            return false;
    }
    return true;
}
