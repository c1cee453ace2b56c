/*
 * Findings mended by the service: only statements of the table of safe ones, and exactly those that somebody has seen.
 *
 * No catalogue tells reliably what a role may give, least of all a managed service's: so each is tried first, in a
 * transaction that is rolled back, also when nobody has asked for any. A process that dies in it leaves nothing.
 *
 * All are transactional. Where this may die, or fail:
 * - before the first COMMIT: nothing was changed;
 * - between the two: one side is mended. Each statement gives a right or makes a role: one side's need nothing of the
 *   other's. The outcome says which it is;
 * - in a COMMIT whose answer does not come: the outcome says that it is not known;
 * - behind any COMMIT, before the outcome was told: that it would be committed was told before. Whoever asked looks
 *   again, and takes what is not found any more as carried out (supervise/mending.c).
 */
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/preflight/preflight.h"

#include <string.h>

static const char source_name[] = "source", dest_name[] = "destination";

static bool is_found(const FindingVec *findings, const Mend *mend) {
    for (size_t i = 0; i < findings->len; i++) {
        const Finding *finding = &findings->items[i];

        if (finding_has_safe_mend(finding) && strcmp(finding->side, mend->side) == 0 &&
            strcmp(finding->fix, mend->statement) == 0)
            return true; /* also when its trial has failed: then the server says why */
    }
    return false;
}

static bool check_found(const FindingVec *findings, const MendVec *mends, Error *err) {
    for (size_t i = 0; i < mends->len; i++)
        if (!is_found(findings, &mends->items[i]))
            return error_set(err, REASON_FINDINGS_CHANGED, "on the %s nothing asks for this any more: %s",
                             mends->items[i].side, mends->items[i].statement);
    return true;
}

/* Who may not give a right on something, and has another one on it, is warned that nothing was granted: no error. */
static bool do_one(DbConn *conn, const char *statement, Error *err) {
    int64_t warnings = db_warnings(conn);

    return db_exec(conn, statement, err) &&
           (db_warnings(conn) == warnings ||
            error_set(err, REASON_NOT_PERMITTED, "the server warns that it did not do all of it"));
}

/* A right that another session is changing is not waited for long, and a standby that is away not at all. */
static bool run_side(DbConn *conn, const char *side, const MendVec *mends, Error *err) {
    if (!db_exec(conn, "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '5s'", err))
        return false;
    for (size_t i = 0; i < mends->len; i++) {
        if (strcmp(mends->items[i].side, side) != 0)
            continue;
        log_info("mending the %s: %s", side, mends->items[i].statement);
        if (!do_one(conn, mends->items[i].statement, err))
            return error_wrap(err, "on the %s, where nothing was changed: %s", side, mends->items[i].statement);
    }
    return true;
}

static bool has_side(const MendVec *mends, const char *side) {
    for (size_t i = 0; i < mends->len; i++)
        if (strcmp(mends->items[i].side, side) == 0)
            return true;
    return false;
}

/* One that the server itself refuses has changed nothing. */
static bool commit_side(DbConn *conn, MendState *ret_state, Error *err) {
    *ret_state = MEND_UNKNOWN;
    if (db_exec(conn, "COMMIT", err)) {
        *ret_state = MEND_DONE;
        return true;
    }
    if (!db_is_broken(conn) && err->reason != REASON_CANCELLED)
        *ret_state = MEND_NOT;
    return false;
}

static bool commit_both(const PreflightInput *input, const MendOutcome *wanted, MendOutcome *outcome, Error *err) {
    return (wanted->source == MEND_NOT || commit_side(input->source, &outcome->source, err)) &&
           failpoint("mend.between", err) &&
           (wanted->dest == MEND_NOT || commit_side(input->dest, &outcome->dest, err));
}

static bool run_both(const PreflightInput *input, const MendOrder *order, MendOutcome *outcome, Error *err) {
    const MendOutcome wanted = {has_side(order->mends, source_name) ? MEND_UNKNOWN : MEND_NOT,
                                has_side(order->mends, dest_name) ? MEND_UNKNOWN : MEND_NOT};

    return (wanted.source == MEND_NOT || run_side(input->source, source_name, order->mends, err)) &&
           (wanted.dest == MEND_NOT || run_side(input->dest, dest_name, order->mends, err)) &&
           failpoint("mend.before_commit", err) && order->tell(order->context, &wanted, err) &&
           commit_both(input, &wanted, outcome, err);
}

/* Refused: by its server, as a right, or as something that is in the way now. */
static bool try_one(DbConn *conn, Finding *finding, Error *err) {
    finding->mendable =
        db_exec(conn, "BEGIN READ WRITE; SET LOCAL lock_timeout = '2s'", err) && do_one(conn, finding->fix, err);
    db_rollback(conn);
    return finding->mendable || (!db_is_broken(conn) && err->reason != REASON_CANCELLED);
}

bool preflight_try_mends(const PreflightInput *input, FindingVec *findings, Error *err) {
    for (size_t i = 0; i < findings->len; i++) {
        Finding *finding = &findings->items[i];
        bool is_source = strcmp(finding->side, source_name) == 0;

        if (finding_has_safe_mend(finding) && !try_one(is_source ? input->source : input->dest, finding, err))
            return false;
    }
    return true;
}

bool preflight_mend(const PreflightInput *input, const FindingVec *findings, const MendOrder *order, Error *err) {
    MendOutcome outcome = {MEND_NOT, MEND_NOT};
    Error untold;

    if (!check_found(findings, order->mends, err))
        return false;
    bool mended = run_both(input, order, &outcome, err) && failpoint("mend.before_told", err);
    if (!mended) {
        db_rollback(input->source);
        db_rollback(input->dest);
    }
    bool told = order->tell(order->context, &outcome, &untold);
    if (mended && !told)
        *err = untold;
    return mended && told;
}
