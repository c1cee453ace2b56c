/*
 * Does the source still have what we hold?
 *
 * What we hold is everything up to `behind` of the timeline the ledger has. A standby that is promoted leaves that
 * timeline at a switch point S: it has what lies before S, and something else after it.
 *
 *     timeline 1   ---------------S----------behind      lost by the fail-over: between S and behind
 *     timeline 2                  `--------------->
 *
 * So every switch from the recorded timeline on has to lie at or after `behind`, and the recorded one has to be an
 * ancestor at all. On the same timeline the end of the WAL says it: a volume or a backup that was restored in place
 * ends before `behind` (what was sent to us had been flushed).
 *
 * After a good fail-over what we apply lies beyond S, so the ledger's timeline must move with it: the caller records
 * the new one before it reads the stream. A crash between the check and the record is harmless: nothing was applied,
 * and the next check says the same. A second fail-over between the check and the stream's connection leaves an older
 * timeline in the ledger, which can only make a later check stricter.
 */
#include "engine/guard/guard.h"
#include "pg/repl_timeline.h"

#include <inttypes.h>
#include <string.h>

static bool fail_back(Arena *arena, const ReplSystem *system, Lsn behind, Lsn fork, Error *err) {
    return error_set(err, REASON_SOURCE_WENT_BACK,
                     "the source is on timeline %" PRId64 " now, which branched off at %s, but the destination has"
                     " changes up to %s: those between are not on the source any more",
                     system->timeline, lsn_format(arena, fork), lsn_format(arena, behind));
}

/* The recorded timeline is an ancestor, and all that we hold is from before the fork. */
static bool check_history(Arena *arena, const ReplSystem *system, int32_t recorded, Lsn behind, Error *err) {
    bool descends = false;

    for (size_t i = 0; i < system->switches_count; i++) {
        descends = descends || system->switches[i].timeline == recorded;
        if (descends && system->switches[i].lsn < behind)
            return fail_back(arena, system, behind, system->switches[i].lsn, err);
    }
    return descends ||
           error_set(err, REASON_SOURCE_WENT_BACK,
                     "the source is on timeline %" PRId64 ", which does not descend from timeline %d that was followed",
                     system->timeline, recorded);
}

static bool check_system(Arena *arena, const ReplSystem *system, const JournalStream *stream, Lsn behind, Error *err) {
    if (strcmp(system->identifier, stream->system_identifier) != 0) {
        error_set(err, REASON_SOURCE_WENT_BACK, "the source is another server: system identifier %s, before it was %s",
                  system->identifier, stream->system_identifier);
        return error_remedy(err, "connect to the server that was followed, or start over with --restart");
    }
    if (system->in_recovery) {
        error_set(err, REASON_SERVER_BUSY, "the source is in recovery: a standby, or a server that is being restored");
        return error_remedy(err, "connect to the primary; after a fail-over it is found when its promotion is done");
    }
    if (system->timeline != stream->timeline && !check_history(arena, system, stream->timeline, behind, err))
        return false;
    return system->end >= behind ||
           error_set(err, REASON_SOURCE_WENT_BACK,
                     "the source's WAL ends at %s, but the destination has changes up to %s: it was restored from a"
                     " backup, or lost its last writes",
                     lsn_format(arena, system->end), lsn_format(arena, behind));
}

bool guard_check_timeline(const DbTarget *source_target, const Stop *stop, JournalStream *stream, Lsn behind,
                          Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ReplSystem system;

    if (!repl_identify(source_target, stop, arena, &system, err) || !check_system(arena, &system, stream, behind, err))
        return false;
    if (system.timeline > INT32_MAX)
        return error_set(err, REASON_UNSUPPORTED, "the source is on timeline %" PRId64, system.timeline);
    stream->timeline = (int32_t)system.timeline;
    return true;
}

bool guard_record_timeline(DbConn *dest, const Ledger *ledger, int32_t timeline, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *text = arena_printf(arena, "%d", timeline);

    if (ledger_begin(dest, ledger, err) &&
        db_exec_rows(dest, "UPDATE pgcrane.stream SET timeline = $1::integer", 1, &text, 1, err) &&
        ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "recording the source's timeline");
}
