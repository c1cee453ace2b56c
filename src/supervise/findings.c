/* What the checks of a session found, as the API's error details show it. */
#include "supervise/findings.h"

#include "model/finding.h"

#include <string.h>

#define ERROR_TYPE "type.googleapis.com/google.cloud.clouddms.v1.MigrationJobVerificationError"

static json_t *detail_of(Arena *arena, const char *database, const Finding *finding) {
    const char *more = arena_printf(arena, "%s%s%s; %s%s%s", database[0] != '\0' ? "database " : "", database,
                                    database[0] != '\0' ? "" : "the instance", finding->id,
                                    finding->fix[0] != '\0' ? "; " : "", finding->fix);

    return json_pack("{s:s, s:s, s:o, s:o}", "@type", ERROR_TYPE, "errorCode",
                     finding->code[0] != '\0' ? finding->code : "ERROR_CODE_UNSPECIFIED", "errorMessage",
                     json_string_lossy(finding->message), "errorDetailMessage", json_string_lossy(more));
}

bool findings_add_details(Arena *arena, const char *database, const json_t *said, json_t *details, size_t *ret_errors,
                          Error *err) {
    const json_t *list = json_get_array(json_get_object(said, "findings"), "findings");
    FindingVec findings = {0};

    *ret_errors = 0;
    if (list != NULL && !findings_from_json(arena, list, &findings, err))
        return false;
    for (size_t at = 0; at < findings.len; at++) {
        if (findings.items[at].severity != SEVERITY_ERROR)
            continue;
        ++*ret_errors;
        if (json_array_size(details) < FINDINGS_DETAILS_MAX)
            (void)json_array_append_new(details, detail_of(arena, database, &findings.items[at]));
    }
    return true;
}

/* What an operation tells is no place for a list of all that an instance has. */
static json_t *shorten(Arena *arena, const char *text) {
    return json_string_lossy(
        strlen(text) <= FINDINGS_TEXT_MAX ? text : arena_printf(arena, "%.*s ...", (int)FINDINGS_TEXT_MAX, text));
}

static json_t *shown_of(Arena *arena, const char *database, const Finding *finding) {
    bool mendable = database[0] != '\0' && finding->mendable && strlen(finding->fix) <= FINDINGS_TEXT_MAX;

    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:b, s:b}", "id", finding->id, "code", finding->code,
                     "severity", severity_name(finding->severity), "side", finding->side, "database",
                     json_string_lossy(database), "object", shorten(arena, finding->object), "message",
                     shorten(arena, finding->message), "fix", shorten(arena, finding->fix), "mendable", (int)mendable,
                     "serverWide", mendable && finding_mends_server(finding));
}

bool findings_add_shown(Arena *arena, const char *database, const json_t *said, json_t *shown, int64_t *left_out,
                        Error *err) {
    const json_t *list = json_get_array(json_get_object(said, "findings"), "findings");
    FindingVec findings = {0};

    if (list != NULL && !findings_from_json(arena, list, &findings, err))
        return false;
    for (size_t at = 0; at < findings.len; at++)
        if (json_array_size(shown) < FINDINGS_SHOWN_MAX)
            (void)json_array_append_new(shown, shown_of(arena, database, &findings.items[at]));
        else
            ++*left_out;
    return true;
}
