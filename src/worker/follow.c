/*
 * Following: the stream is applied by two threads (engine/follow); here is what goes on around them.
 *
 * The main thread starts them, tells the control plane where they are, looks at the source now and then (identities,
 * sequences, differences of the catalogues), takes a request to promote, and starts them again after trouble. What it
 * remembers is thrown away then: position, tables and marks are read from the ledger anew.
 *
 * Trouble. A retryable failure (a server is away, a connection was cut) is tried again for --retry-for seconds, counted
 * from the first failure after the last progress. Before each start the source's history is compared with what the
 * destination holds (run_check_source). Everything else ends the run with its reason; the slot stays, and the same
 * command goes on.
 *
 * Tables that the stream cannot keep right by itself are marked `suspect` in the ledger, in the transaction that would
 * have applied the change: made on the source after the copy, a change of identity, a definition that could not be
 * repeated. As soon as both sides have such a table it is copied again (copy_again.c), with following stopped: what the
 * slot holds from then on is decided by the new snapshot's picture. That needs a barrier with following stopped. One
 * old transaction would hold it for hours, so another barrier is passed first, while changes are followed: only who
 * began after that can be in the way of the second, and for a few seconds.
 */
#include "common/clock.h"
#include "common/log.h"
#include "engine/ddl/capture.h"
#include "engine/ledger/relations.h"
#include "worker/following.h"

#include <string.h>

#define LOOK_US (200 * USEC_PER_MSEC)
#define SUSPECTS_US (5 * USEC_PER_SEC)
#define SUSPECTS_MAX_US (60 * USEC_PER_SEC)
#define BLOCKED_US (10 * USEC_PER_SEC) /* before somebody is told */
#define RETRY_PAUSE_US (1 * USEC_PER_SEC)
#define RECONNECT_US (5 * USEC_PER_SEC) /* short: how long in all is --retry-for's to say */
#define IDLE_RESETS_US (10 * USEC_PER_SEC)

/* ---- The tables ---- */

/* Rows of an extension's configuration table come partly with CREATE EXTENSION: their changes are not followed. */
static bool read_members(Following *following, Error *err) {
    CLEANUP(db_result_freep) DbResult *members = NULL;

    if (!db_query(following->run->source,
                  "SELECT objid FROM pg_catalog.pg_depend WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
                  " AND deptype = 'e'",
                  0, NULL, &members, err))
        return error_wrap(err, "asking for the tables of extensions");
    following->members = (OidVec){0};
    for (int i = 0; i < db_rows(members); i++)
        vec_push(following->arena, &following->members, (uint32_t)db_int64(members, i, 0));
    return true;
}

bool following_is_member(const Following *following, uint32_t oid) {
    for (size_t i = 0; i < following->members.len; i++)
        if (following->members.items[i] == oid)
            return true;
    return false;
}

/* Rows of such a leaf lie in any leaf of the destination: they are compared, and copied, as a whole under the fence. */
static void pause_written_through_root(Following *following) {
    const Plan *plan = &following->run->plan;

    for (size_t i = 0; i < plan->count; i++)
        for (size_t k = 0; plan->tables[i].via != NULL && k < following->tables_count; k++)
            following->tables[k].is_paused |= following->tables[k].oid == plan->tables[i].oid;
}

static bool add_table(Following *following, const LedgerRelation *relation, Error *err) {
    FollowTable *table = &following->tables[following->tables_count];

    if (relation->w == 0)
        return error_set(err, REASON_LEDGER_MISMATCH, "table %s.%s was copied without a position", relation->schema,
                         relation->name);
    *table =
        (FollowTable){.oid = relation->oid, .is_paused = relation->suspect != NULL, .is_keyless = !relation->keyed};
    /* One that was made while we followed has no name in the ledger. */
    if (!following->run->options.ddl && relation->name[0] != '\0') {
        table->schema = relation->schema;
        table->name = relation->name;
    }
    if (!seam_picture_parse(following->arena, relation->picture, relation->w, &table->picture, err))
        return false;
    following->tables_count++;
    return true;
}

static void list_suspects(Following *following, const LedgerRelation *relations, size_t count) {
    arena_reset(following->suspects_arena);
    following->suspects = (StringVec){0};
    for (size_t i = 0; i < count; i++)
        if (relations[i].suspect != NULL)
            vec_push(following->suspects_arena, &following->suspects,
                     arena_printf(following->suspects_arena, "%s.%s: %s", relations[i].schema, relations[i].name,
                                  relations[i].suspect));
}

static bool read_tables(Following *following, Error *err) {
    Run *run = following->run;
    LedgerRelation *relations = NULL;
    size_t count = 0;

    if (!relations_read(run->dest, following->arena, &relations, &count, err) || !read_members(following, err))
        return false;
    following->tables = arena_array(following->arena, FollowTable, MAX(count, 1));
    following->tables_count = 0;
    list_suspects(following, relations, count);
    for (size_t i = 0; i < count; i++) {
        if (relations[i].copied && !(relations[i].is_new && relations[i].suspect != NULL) &&
            !following_is_member(following, relations[i].oid) && !add_table(following, &relations[i], err))
            return false;
    }
    pause_written_through_root(following);
    return true;
}

/* Definitions that the archive has already are in the stream once more, between slot and snapshot. */
static bool read_schema_picture(Following *following, SeamPicture **ret_picture, Error *err) {
    LedgerSnapshot snapshot;

    *ret_picture = NULL;
    if (!ledger_schema_snapshot(following->run->dest, following->arena, &snapshot, err))
        return false;
    if (snapshot.id == 0 || snapshot.w == 0)
        return true;
    *ret_picture = arena_new_of(following->arena, SeamPicture);
    return seam_picture_parse(following->arena, snapshot.picture, snapshot.w, *ret_picture, err);
}

static bool read_secret(Following *following, Error *err) {
    Run *run = following->run;

    following->ddl_secret = NULL;
    following->capture_renewed = false;
    return !run->options.ddl ||
           ddl_capture_secret(run->source, following->arena, &run->names, &following->ddl_secret, err);
}

/* ---- Start and stop ---- */

static bool start(Following *following, Error *err) {
    Run *run = following->run;
    const char **publications = arena_array(following->arena, const char *, 3);

    publications[0] = run->names.publication_all;
    publications[1] = run->names.publication_keys;
    SeamPicture *schema_picture = NULL;
    Lsn limit = UINT64_MAX;

    standbys_start(&following->standbys);
    /* What changed while nothing was followed is not to be applied before it is known. */
    if (!run_check_source(run, err) || !following_look_at_shapes(following, err) || !read_tables(following, err) ||
        !read_schema_picture(following, &schema_picture, err) || !read_secret(following, err) ||
        !standbys_look(run, &following->standbys, &limit, err))
        return false;
    const FollowParams params = {
        .stop = &run->stop,
        .schema_picture = schema_picture,
        .confirm_limit = limit,
        .source_target = &run->source_target,
        .dest_target = &run->apply_target,
        .ledger = &run->ledger,
        .slot = run->names.slot,
        .publications = publications,
        .tables = following->tables,
        .tables_count = following->tables_count,
        .hooks = following_hooks(following),
    };
    return follow_start(&params, &following->follow, err);
}

static void stop_following(Following *following) {
    follow_stopp(&following->follow);
    following->heard_us = 0;
    following->barrier = 0; /* the next source may be another server */
    following->samples_count = 0;
    arena_reset(following->arena);
    following->tables = NULL;
    following->tables_count = 0;
    following->members = (OidVec){0};
    following->ddl_secret = NULL;
}

/* ---- The loop ---- */

static bool list_suspects_again(Following *following, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    LedgerRelation *relations = NULL;
    size_t count = 0;

    if (!relations_read(following->run->dest, arena, &relations, &count, err))
        return false;
    list_suspects(following, relations, count);
    return true;
}

/* Rows that the destination refuses, of a table whose definition came to differ since both catalogues were compared:
 * then it waits like any other. */
static bool wait_for_definitions(Following *following, Error *err) {
    const Error refused = *err;
    bool busy = false, ready = true, held = false;

    if (strncmp(err->sqlstate, "22", 2) != 0 && strncmp(err->sqlstate, "23", 2) != 0)
        return false;
    if (!following_look_at_drift(following, &busy, err) ||
        !run_has_ready_suspects(following->run, &following->drifts, &ready, &held, err))
        return false;
    if (ready && !busy)
        *err = refused;
    return !ready || busy;
}

/* Once for all that waits. */
static void on_blocked(void *context, const char *who) {
    Following *following = context;

    if (!following->blocked_told)
        run_event(following->run, "warning",
                  "a table waits to be copied again until older transactions of the source end: %s", who);
    following->blocked_told = true;
}

/* Has everything ended that ran on the source when it was first asked? If not, it is asked again soon. */
static bool pass_first_barrier(Following *following, bool *ret_passed, Error *err) {
    DbConn *source = following->run->source;

    if (following->barrier == 0) {
        following->barrier_us = clock_now_us();
        following->barrier_look_us = LOOK_US;
        if (!seam_barrier_begin(source, &following->barrier, err))
            return false;
    }
    if (!seam_barrier_look(source, following->barrier, ret_passed, err))
        return false;
    if (*ret_passed)
        return true;
    int64_t now = clock_now_us();
    following->suspects_due_us = now + following->barrier_look_us;
    following->barrier_look_us = MIN(following->barrier_look_us * 2, SUSPECTS_US);
    return now - following->barrier_us < BLOCKED_US || following->blocked_told ||
           seam_barrier_tell(source, following->barrier, on_blocked, following, err);
}

static bool copy_again(Following *following, Error *err) {
    size_t copied = 0;

    following_tell_state(following, CDC_COPYING_AGAIN);
    bool ok =
        run_copy_again(following->run, on_blocked, following, &copied, err) || wait_for_definitions(following, err);
    following->mend_pause_us = copied > 0 ? 0 : MIN(MAX(following->mend_pause_us * 2, SUSPECTS_US), SUSPECTS_MAX_US);
    if (copied > 0)
        following->blocked_told = false;
    following->suspects_due_us = clock_now_us() + MAX(following->mend_pause_us, SUSPECTS_US);
    return ok;
}

/* Stops, copies what is suspect, and leaves it to the caller to start anew. Only when something can be mended: a table
 * that waits for people must not stop the others now and then. at_once: no old transactions are waited for before. */
static bool mend_suspects(Following *following, bool at_once, bool *ret_stopped, Error *err) {
    bool ready = false, held = false, busy = false, has = false, passed = at_once;

    *ret_stopped = false;
    if (clock_now_us() < following->suspects_due_us)
        return true;
    following->suspects_due_us = clock_now_us() + SUSPECTS_US;
    if (!relations_any_suspect(following->run->dest, &has, err))
        return false;
    if (!has && following->suspects.len == 0)
        return true;
    if (!run_has_ready_suspects(following->run, &following->drifts, &ready, &held, err) ||
        !list_suspects_again(following, err))
        return false;
    if (!ready && held && clock_now_us() >= following->drift_held_due_us &&
        (!following_look_at_drift(following, &busy, err) ||
         !run_has_ready_suspects(following->run, &following->drifts, &ready, &held, err)))
        return false;
    if (!ready) {
        following->barrier = 0; /* too old for the next that is */
        return true;
    }
    if (!at_once && !pass_first_barrier(following, &passed, err))
        return false;
    if (!passed)
        return true;
    stop_following(following);
    *ret_stopped = true;
    return copy_again(following, err);
}

/* Once for each request: what became suspect since the last look is copied again while nobody has to wait for it. */
static bool mend_before_promote(Following *following, bool *ret_stopped, Error *err) {
    *ret_stopped = false;
    if (following->mended_for_promote)
        return true;
    following->mended_for_promote = true;
    following->suspects_due_us = 0;
    bool busy = false, has = false;
    return following_look_at_shapes(following, err) && relations_any_suspect(following->run->dest, &has, err) &&
           (!has || following_look_at_drift(following, &busy, err)) && mend_suspects(following, true, ret_stopped, err);
}

/* Trouble is over when the position has moved from where it began, or when nothing has been left to apply for a while.
 * Time alone says nothing: a large transaction that the destination cannot hold fails late, each time anew. */
static void note_progress(Following *following, const FollowStatus *status) {
    bool idle = status->source_end != 0 && status->applied >= status->source_end &&
                clock_now_us() - following->started_us > IDLE_RESETS_US;

    following->progressed |= status->applied > following->trouble_at || idle;
}

/* The stream is to be read with the secret of the capture that was made anew. */
static bool renew(Following *following) {
    if (!following->capture_renewed)
        return false;
    following->mended_for_promote = false;
    stop_following(following);
    return true;
}

static bool look_at_standbys(Following *following, Error *err) {
    Lsn limit = UINT64_MAX;

    if (!standbys_look(following->run, &following->standbys, &limit, err))
        return false;
    follow_limit_confirmed(following->follow, limit);
    return true;
}

/* True with *ret_done: reached what was wanted; else the caller starts again. */
static bool follow_once(Following *following, Lsn until, bool *ret_done, Error *err) {
    Run *run = following->run;
    bool stopped = false;

    for (;;) {
        FollowStatus status;

        switch (follow_wait(following->follow, UINT64_MAX, clock_now_us() + LOOK_US, &run->stop, err)) {
        case FOLLOW_FAILED:
            return false;
        case FOLLOW_STOPPED:
            return watch_check(run, err) && error_set(err, REASON_CANCELLED, "stopped");
        case FOLLOW_REACHED:
        case FOLLOW_TIMEOUT:
            break;
        }
        following_tell(following);
        follow_status(following->follow, &status);
        note_progress(following, &status);
        if (!look_at_standbys(following, err))
            return false;
        if (until != 0 && status.applied >= until) {
            *ret_done = true;
            return true;
        }
        if (until != 0) {
            /* A source that shuts down would wait for a stream that waits for the destination; it ends sessions first.
             */
            if (!db_exec(run->source, "SELECT 1", err))
                return false;
            continue;
        }
        if (!following_look_around(following, err) || !mend_suspects(following, false, &stopped, err))
            return false;
        if (stopped || renew(following))
            return true;
        if (!following_promote_is_due(following))
            continue;
        if (!mend_before_promote(following, &stopped, err))
            return false;
        if (stopped || renew(following))
            return true;
        if (!following_promote(following, ret_done, err))
            return false;
        if (*ret_done || following->follow == NULL) /* ended, to be settled first */
            return true;
    }
}

static bool may_retry(Following *following, int64_t *first_us, const Error *err) {
    Run *run = following->run;
    int64_t now = clock_now_us();

    if (!err->retryable || err->reason == REASON_PROMOTE_UNDONE || stop_requested(&run->stop))
        return false;
    if (*first_us == 0) {
        *first_us = now;
        run_event(run, "warning", "%s; trying again for %lld s", err->message, (long long)run->options.retry_for);
    }
    log_error_value(LOG_WARNING, err);
    if (now - *first_us > run->options.retry_for * USEC_PER_SEC)
        return false;
    following_tell_state(following, CDC_RETRYING);
    tracker_add_retry(run->tracker);
    return stop_wait_fd(&run->stop, -1, 0, now + RETRY_PAUSE_US) != WAIT_STOPPED;
}

/* A promote that nobody could take back, or of which nobody knows whether it opened the destination, is settled before
 * anything is followed: the application cannot write meanwhile, or writes to the destination. */
static bool settle_and_start(Following *following, bool *ret_done, Error *err) {
    Run *run = following->run;

    if (!run_settle_promote(run, err))
        return false;
    *ret_done = run->opened;
    if (!run->opened)
        return start(following, err);
    following_tell_state(following, CDC_PROMOTED);
    return true;
}

static bool begin(Following *following, bool connected, bool *ret_done, Error *err) {
    following->progressed = false;
    if (!connected && !run_reconnect_within(following->run, RECONNECT_US, err))
        return false;
    bool ok = settle_and_start(following, ret_done, err);
    following->started_us = clock_now_us(); /* waiting for a server is no progress */
    return ok;
}

/* Where it ended is where the trouble is. */
static void end_following(Following *following, int64_t *first_failure_us) {
    FollowStatus status;

    if (following->follow != NULL) {
        follow_status(following->follow, &status);
        note_progress(following, &status);
        if (following->progressed || *first_failure_us == 0)
            following->trouble_at = status.applied;
    }
    if (following->progressed)
        *first_failure_us = 0;
    stop_following(following);
}

/* Always false: *err is why the run ends. */
static bool say_end(Run *run, Error *err) {
    Error why = {0};

    if (stop_requested(&run->stop)) {
        if (watch_check(run, &why))
            error_set(err, REASON_CANCELLED, "stopped");
        else
            *err = why; /* it stopped the run */
    }
    if (!run->promote_unsettled)
        return false;
    error_wrap(err, "a promote could not be taken back, and the source may still be read-only");
    return run_remedy_unsettled(run, err);
}

static bool follow_with_patience(Following *following, Lsn until, Error *err) {
    Run *run = following->run;
    int64_t first_failure_us = 0;
    bool connected = true;

    for (bool done = false; !done;) {
        bool ok = begin(following, connected, &done, err) &&
                  (done || follow_once(following, until, &done, err) || following_rest_table(following, err));

        if (done)
            break; /* the caller needs the follow no more */
        connected = ok && !run->promote_unsettled;
        end_following(following, &first_failure_us);
        if (!ok && guard_explain_read_only(run->dest, err))
            db_closep(&run->dest);
        if (!ok && !may_retry(following, &first_failure_us, err))
            return say_end(following->run, err);
    }
    return true;
}

static bool follow_run(Run *run, Lsn until, Error *err) {
    Following following = {.run = run, .arena = arena_new(), .suspects_arena = arena_new()};

    tracker_phase_begin(run->tracker, PHASE_CDC);
    bool ok = follow_with_patience(&following, until, err);
    stop_following(&following);
    tracker_phase_end(run->tracker, PHASE_CDC);
    following_look_end(&following);
    arena_free(following.suspects_arena);
    arena_free(following.arena);
    return ok;
}

bool run_follow_until(Run *run, Lsn until, Error *err) {
    return follow_run(run, until, err);
}

bool run_needs_catching_up(Run *run, Lsn *ret_until, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    LedgerRelation *relations = NULL;
    size_t count = 0;
    Lsn lowest = UINT64_MAX, highest = 0;

    if (!relations_read(run->dest, arena, &relations, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        lowest = MIN(lowest, relations[i].w);
        highest = MAX(highest, relations[i].w);
    }
    *ret_until = highest > lowest ? highest : 0;
    return true;
}

bool step_follow(Run *run, Error *err) {
    run_event(run, "info", "the copy is complete; following the source");
    return follow_run(run, 0, err);
}
