/*
 * A finding of the pre-flight checks: what is wrong, where, and the SQL or command that mends it.
 *
 * Plain data in an arena. Ids are stable (engine/preflight/checks.def lists them).
 */
#pragma once

#include "common/arena.h"
#include "common/json.h"
#include "common/vec.h"

typedef enum Severity { SEVERITY_ERROR, SEVERITY_WARNING, SEVERITY_INFO } Severity;

typedef struct Finding {
    const char *id; /* "SOURCE_TABLE_PRIVILEGE" */
    Severity severity;
    const char *code;    /* of Google's MigrationJobVerificationError that is nearest; "" = none */
    const char *side;    /* "source" or "destination" */
    const char *object;  /* "table public.orders", "" when it is the whole server */
    const char *message; /* object and cause in one sentence */
    const char *fix;     /* SQL or shell command, "" when there is none */
    bool mendable;       /* the service's own role may carry it out (preflight_try_mends()) */
} Finding;

typedef VEC(Finding) FindingVec;

const char *severity_name(Severity severity);
/* Is its fix SQL that the service may carry out (mends.def)? */
bool finding_has_safe_mend(const Finding *finding);
/* Does that change the server, so that it is to be done once for all databases that find the same? */
bool finding_mends_server(const Finding *finding);
/* Are these fixes of the server the same, whatever comments say behind the statement? */
bool mend_is_same(const char *left, const char *right);
size_t findings_count(const FindingVec *findings, Severity severity);
json_t *findings_to_json(const FindingVec *findings); /* array, new reference */
NODISCARD bool findings_from_json(Arena *arena, const json_t *json, FindingVec *ret_findings, Error *err);
