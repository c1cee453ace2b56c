/*
 * What to do about what a server refuses of a load.
 *
 * Two ways lead on. What the destination lacks or forbids (a role, a privilege, an event trigger that raises) is mended
 * there, and the same command goes on. What does not fit by itself, a definition or a row, has to be another one on the
 * source; but definitions were read once, into the ledger, and rows are read under the one snapshot for as long as that
 * is held: the same command would meet the old ones again. Then only a new start helps.
 */
#include "engine/load/load.h"

#include "pg/sqlstate.h"

#include <string.h>

bool load_is_refusal(const Error *err) {
    return err->sqlstate[0] != '\0' && !err->retryable && err->reason != REASON_CANCELLED && err->remedy[0] == '\0';
}

static bool is_double(const Error *err) {
    return strcmp(err->sqlstate, "23505") == 0 || strcmp(err->sqlstate, "23P01") == 0;
}

bool load_refused_definition(Error *err) {
    if (!load_is_refusal(err))
        return false;
    if (sqlstate_is_unqualified(err->sqlstate, err->message))
        return error_remedy(err,
                            "if a function that it calls names that without its schema: ALTER FUNCTION ... SET"
                            " search_path = ... (the schemas it needs) on the source; if the destination lacks"
                            " it, change the definition there; then " LOAD_START_OVER ", as definitions are read once");
    if (is_double(err))
        return error_remedy(err, "the source's rows do not keep it, though it has that index: it is damaged there, or"
                                 " was made under another collation; mend the rows on the source, REINDEX it there,"
                                 " then " LOAD_START_OVER ", as rows are read once");
    return error_remedy(err,
                        "what the destination lacks or forbids (a role, a privilege, an event trigger), mend there,"
                        " then run the same command again; what is to be another definition, mend on the source,"
                        " then " LOAD_START_OVER ", as definitions are read once");
}
