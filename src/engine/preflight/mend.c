/*
 * Findings mended by the service: only statements of the table of safe ones, and exactly those that somebody has seen.
 *
 * No catalogue tells reliably what a role may give, least of all a managed service's: so each is tried first, in a
 * transaction that is rolled back, also when nobody has asked for any. A process that dies in it leaves nothing.
 *
 * All are transactional. Where this may die:
 * - before the first COMMIT: nothing was changed;
 * - between the two: one side is mended, which the next look finds. Each statement gives a right or makes a role: one
 *   side's need nothing of the other's;
 * - behind both, before anybody is told: the next look does not find them any more, and says that the findings changed.
 */
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/preflight/preflight.h"

#include <string.h>

static const char source_name[] = "source", dest_name[] = "destination";

static bool is_found(const FindingVec *findings, const Mend *mend) {
    for (size_t i = 0; i < findings->len; i++) {
        const Finding *finding = &findings->items[i];

        if (finding->mendable && strcmp(finding->side, mend->side) == 0 && strcmp(finding->fix, mend->statement) == 0)
            return true;
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

/* A right that another session is changing is not waited for long. */
static bool run_side(DbConn *conn, const char *side, const MendVec *mends, Error *err) {
    if (!db_exec(conn, "BEGIN READ WRITE; SET LOCAL lock_timeout = '5s'", err))
        return false;
    for (size_t i = 0; i < mends->len; i++) {
        if (strcmp(mends->items[i].side, side) != 0)
            continue;
        log_info("mending the %s: %s", side, mends->items[i].statement);
        if (!db_exec(conn, mends->items[i].statement, err))
            return error_wrap(err, "nothing was changed: %s", mends->items[i].statement);
    }
    return true;
}

static bool has_side(const MendVec *mends, const char *side) {
    for (size_t i = 0; i < mends->len; i++)
        if (strcmp(mends->items[i].side, side) == 0)
            return true;
    return false;
}

static bool run_both(const PreflightInput *input, const MendVec *mends, Error *err) {
    bool source = has_side(mends, source_name), dest = has_side(mends, dest_name);

    return (!source || run_side(input->source, source_name, mends, err)) &&
           (!dest || run_side(input->dest, dest_name, mends, err)) && failpoint("mend.before_commit", err) &&
           (!source || db_exec(input->source, "COMMIT", err)) && failpoint("mend.between", err) &&
           (!dest || db_exec(input->dest, "COMMIT", err));
}

/* Refused: by its server, as a right, or as something that is in the way now. */
static bool try_one(DbConn *conn, Finding *finding, Error *err) {
    finding->mendable =
        db_exec(conn, "BEGIN READ WRITE; SET LOCAL lock_timeout = '2s'", err) && db_exec(conn, finding->fix, err);
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

bool preflight_mend(const PreflightInput *input, const FindingVec *findings, const MendVec *mends, Error *err) {
    if (!check_found(findings, mends, err))
        return false;
    if (run_both(input, mends, err))
        return true;
    db_rollback(input->source);
    db_rollback(input->dest);
    return false;
}
