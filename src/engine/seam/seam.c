/*
 * The seam between snapshot and stream: names, the flushed marker, and how it all fits together.
 *
 * NOTES: the protocol, and what each step is there for
 *
 * Wanted: each transaction that commits on the source arrives at the destination exactly once, in the copy (made under
 * a snapshot SX) or by the stream (of a slot with start L0). Two questions decide: does SX show it, does the slot
 * deliver it? Shown and delivered is harmless, seam_in_copy() sorts it out by xid. Neither shown nor delivered is a
 * lost row, and no error anywhere tells. All steps exist to make "neither" impossible.
 *
 * A commit is not one moment. First its record is written to WAL, there the stream has it; then, perhaps, it waits for
 * a standby; only then is it taken off the list of running transactions, and other sessions see it:
 *
 *     writer   ...changes...  [commit record at C] .... waits for a standby .... [visible]
 *     WAL      ---------------C----------------------------------------------------------->
 *
 * 1. Publications before the slot.
 *      The stream looks a publication up as the catalogue was at each change. Made after the slot:
 *
 *          slot L0      writer: change, commit      CREATE PUBLICATION
 *                       (no publication then)
 *
 *      up to 17 decoding fails at that change, for ever; 18 leaves the change out without a word. So a publication is
 *      only ever made where no slot of ours is; one that is there already was made before it. Tables may be added
 * later, since what was changed before the addition is in the copy: the addition commits before the barrier below
 * begins.
 *
 * 2. The slot, snapshot 'nothing': L0 is its start. It delivers all transactions with C >= L0.
 *
 * 3. The slot is settled (slot.c): a change of the catalogue by us, a barrier, and L0 is the marker after it. The
 *      server does not note who commits while a new slot waits for the first time:
 *
 *          slot      waits for 730 ..... waits for 731 ..... made
 *          729: TRUNCATE t, commit         ^ transactions that begin here, and all later ones until the next change of
 *                 (not noted)                the catalogue, are decoded as if t were not truncated: every reading fails
 *                                            at the first row of t, or, after ADD COLUMN, the column is left out
 *
 *      Then it is read once up to now, nothing acknowledged: whatever else may be wrong with it costs nothing to find
 *      out now, and a whole copy to find out later. Such a slot is dropped and made again.
 *
 * 4. The barrier. The transactions in danger are those with C < L0 (not delivered) which SX does not show yet:
 *
 *          writer   C ....... stalled on a standby, still running ....... visible
 *          slot         L0
 *          snapshot             SX: not shown      -> lost
 *
 *      So SX has to wait until all that had a record before L0 are visible. Asking who runs now does not do: a
 *      snapshot's list ends below "the newest completed xid plus one", and when the stalled one is the newest of all it
 *      is neither listed nor below. Therefore we take an xid N ourselves, after L0: every transaction with C < L0 had
 *      its xid before, so it is less than N. Our transaction is rolled back (an abort waits for no standby), which
 * makes N a completed xid: from now on everything below N that runs is listed, and xmin > N says that none does.
 * Prepared transactions are listed like running ones; one that nobody remembers keeps us here for ever, so it is shown.
 *
 *      On servers before 16.4, 15.8, 14.13, 13.16 and 12.20 the slot itself may start in the middle of a transaction
 *      (a snapshot builder's state of another slot is taken over): the part before is not delivered. Such a
 *      transaction, too, has an xid < N, is over before SX and is in the copy whole.
 *
 * 5. SX, taken by the keeper (engine/snapshot) after the barrier. It shows everything with C < L0, and some of what
 *      came after.
 *
 * 6. The marker: a commit that is flushed, W = its end, before the first copied row is committed. SX shows transactions
 *      whose records are not on disk yet (synchronous_commit = off, and all aborts). If the server crashes then:
 *
 *          writer   xid 728: commit, visible, not on disk
 *          SX       729:729:                                   copy has 728's rows
 *          crash    ...
 *          writer   xid 728 again: another transaction         "728 is visible in SX" -> skipped -> lost
 *
 *      A flushed commit flushes everything before it. After W is known, what SX showed is durable; a crash or fail-over
 *      that goes back behind W is noticed by the timeline (the ledger has W beside the picture) and voids the copy.
 *
 * 7. In the stream, a change is skipped when its transaction's commit record begins before W and its top-level xid is
 *      visible in SX (seam_in_copy()). From W on nothing can be in SX, and xids are not looked at any more: the 32 bits
 *      that the stream carries come around, after 2^31 transactions "visible in SX" would be true again of new ones.
 *      Below W the nearest 64-bit xid is the right one, since L0, SX and W lie minutes apart.
 *
 * Crashes. Each step is journalled in the destination before it is done, and can be done again:
 *   intent of a publication, no publication      it is made
 *   publication there, not yet marked            adopted when it is as we make it
 *   intent of a slot, no slot                    it is made
 *   slot there, no line of the stream            nobody reads before that line is written, so its confirmed position is
 *                                                L0: adopted, checked again, barrier again
 *   line of the stream, slot there               L0 is the line's
 *   line of the stream, no slot                  SLOT_LOST: never made again, its changes are gone
 *   line of the stream, other publications       PUBLICATION_LOST: what they left out is gone; the slot holds WAL on
 *   killed inside CREATE_REPLICATION_SLOT        the server may still be waiting there with a slot that has no position
 *                                                yet: that session is ended, the slot with it
 * After the slot everything is repeated: barrier, snapshot and marker leave nothing behind. A destination that lost its
 * last commits in a fail-over has perhaps no line at all; the names say whose the objects are.
 */
#include "engine/seam/seam_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "pg/event_triggers.h"
#include "pg/lock_timeout.h"

#include <inttypes.h>
#include <string.h>

#define NAME_PREFIX "pgcrane_"
#define ALL_SUFFIX "_all"
#define KEYS_SUFFIX "_keys"
#define PAUSE_US (200 * USEC_PER_MSEC)

enum { SERVER_NAME_MAX = 63, HASH_LEN = 1 + 16 };
enum { JOB_ID_LEN = 16 };
enum { NAME_ROOM = SERVER_NAME_MAX - (int)sizeof(NAME_PREFIX) + 1 - (int)sizeof(KEYS_SUFFIX) + 1 };

/* FNV-1a, 64 bits: apart from each other is enough. */
static uint64_t hash_name(const char *text) {
    uint64_t hash = UINT64_C(14695981039346656037);

    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * UINT64_C(1099511628211);
    return hash;
}

/* Slots allow a-z, 0-9 and _ only. What does not fit is replaced, and a hash keeps the ids apart which then look alike.
 */
static const char *name_stem(Arena *arena, const char *job_id) {
    size_t len = strlen(job_id);
    char *stem = arena_strndup(arena, job_id, MIN(len, (size_t)NAME_ROOM));
    bool exact = len <= NAME_ROOM;

    for (char *c = stem; *c != '\0'; c++)
        if (strchr("abcdefghijklmnopqrstuvwxyz0123456789_", *c) == NULL) {
            *c = '_';
            exact = false;
        }
    if (exact)
        return stem;
    return arena_printf(arena, "%.*s_%016" PRIx64, NAME_ROOM - HASH_LEN, stem, hash_name(job_id));
}

bool seam_names_a_job(const char *text) {
    for (const char *at = text; (at = strstr(at, NAME_PREFIX)) != NULL;) {
        at += strlen(NAME_PREFIX);
        if (strspn(at, "0123456789abcdef") == JOB_ID_LEN)
            return true;
    }
    return false;
}

SeamNames seam_names(Arena *arena, const char *job_id) {
    const char *stem = name_stem(arena, job_id);

    return (SeamNames){
        .slot = arena_printf(arena, NAME_PREFIX "%s", stem),
        .publication_all = arena_printf(arena, NAME_PREFIX "%s" ALL_SUFFIX, stem),
        .publication_keys = arena_printf(arena, NAME_PREFIX "%s" KEYS_SUFFIX, stem),
    };
}

bool seam_begin(DbConn *source, Error *err) {
    const char *set;

    return db_exec(source, SEAM_BEGIN_SQL, err) &&
           lock_timeout_set(source, NULL, SEAM_LOCK_TIMEOUT_MS, LOCK_TIMEOUT_MOST_MS, NULL, err) &&
           event_triggers_silence(source, &set, err);
}

bool seam_pause(DbConn *source, Error *err) {
    return stop_wait_fd(db_stop(source), -1, 0, clock_now_us() + PAUSE_US) != WAIT_STOPPED ||
           error_set(err, REASON_CANCELLED, "stopped while working on the source");
}

static bool emit_message(DbConn *source, Arena *arena, const char *content, char **ret_message, Error *err) {
    return db_exec(source, SEAM_BEGIN_SQL, err) &&
           db_query_value(source, arena, "SELECT pg_catalog.pg_logical_emit_message(true, 'pgcrane', $1::text)", 1,
                          (const char *const[]){content}, ret_message, err) &&
           db_exec(source, "COMMIT", err);
}

/* The server says how far WAL is flushed after COMMIT came back: with synchronous_commit = local that is behind the
 * commit record. Not taken on trust: the message lies just before it. */
bool seam_emit(DbConn *source, const char *content, Lsn *ret_message, Lsn *ret_end, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *message_text = NULL, *end_text = NULL;
    Lsn message = 0, end = 0;

    if (!emit_message(source, arena, content, &message_text, err)) {
        db_rollback(source);
        return error_wrap(err, "writing a marker on the source");
    }
    if (!db_query_value(source, arena, "SELECT pg_catalog.pg_current_wal_flush_lsn()", 0, NULL, &end_text, err))
        return error_wrap(err, "reading a marker's position");
    if (message_text == NULL || end_text == NULL || !lsn_parse(message_text, &message) || !lsn_parse(end_text, &end))
        return error_set(err, REASON_INTERNAL, "a marker without a position");
    if (end <= message)
        return error_set(err, REASON_BAD_DATA, "the source committed a marker at %s but has flushed only up to %s",
                         message_text, end_text);
    log_debug("marker \"%s\" message=%s flushed=%s", content, message_text, end_text);
    *ret_message = message;
    *ret_end = end;
    return true;
}

bool seam_marker(DbConn *source, const char *content, Lsn *ret_end, Error *err) {
    Lsn message = 0, end = 0;

    if (!seam_emit(source, content, &message, &end, err) || !failpoint("seam.marked", err))
        return false;
    *ret_end = end;
    return true;
}
