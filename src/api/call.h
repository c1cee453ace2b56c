/*
 * One request of the API, from its route to its answer: what every method shares.
 *
 * What happens, in order: who asks (api/access.h), query parameters, the name in the path, the body by its message,
 * secrets taken out of it, then the method's function, in one transaction with request id, audit log and operation.
 *
 * Contract of a method's function
 * - It runs as the body of store_write() or store_read() and may run again: it sets call->answer or call->operation and
 *   changes nothing else of the call.
 * - false with *err filled, or with violations added to call->violations: then the answer is INVALID_ARGUMENT and lists
 *   them all.
 */
#pragma once

#include "api/api.h"
#include "api/names.h"
#include "jobs/operation.h"
#include "model/message.h"
#include "model/message_path.h"

/* X(name, query parameter, kind). What Google's API takes and means nothing here is IGNORED. */
#define API_PARAMS(X)                                                                                                  \
    X(PAGE_SIZE, "pageSize", INTEGER)                                                                                  \
    X(PAGE_TOKEN, "pageToken", TEXT)                                                                                   \
    X(FILTER, "filter", TEXT)                                                                                          \
    X(ORDER_BY, "orderBy", TEXT)                                                                                       \
    X(UPDATE_MASK, "updateMask", TEXT)                                                                                 \
    X(REQUEST_ID, "requestId", TEXT)                                                                                   \
    X(VALIDATE_ONLY, "validateOnly", BOOLEAN)                                                                          \
    X(SKIP_VALIDATION, "skipValidation", BOOLEAN)                                                                      \
    X(FORCE, "force", BOOLEAN)                                                                                         \
    X(ETAG, "etag", TEXT)                                                                                              \
    X(PROFILE_ID, "connectionProfileId", TEXT)                                                                         \
    X(JOB_ID, "migrationJobId", TEXT)                                                                                  \
    X(PRIVATE_ID, "privateConnectionId", TEXT)                                                                         \
    X(PARTIAL, "returnPartialSuccess", BOOLEAN)                                                                        \
    X(LOCATION_TYPES, "extraLocationTypes", IGNORED)                                                                   \
    X(RESERVED_IPS, "fetchReservedPublicIps", BOOLEAN)                                                                 \
    X(POLICY_VERSION, "options.requestedPolicyVersion", INTEGER)

typedef enum ApiParam {
#define X(name, text, kind) PARAM_##name,
    API_PARAMS(X)
#undef X
        PARAM_MAX_,
} ApiParam;

typedef enum ParamKind { PARAM_TEXT, PARAM_INTEGER, PARAM_BOOLEAN, PARAM_IGNORED } ParamKind;

typedef struct ParamInfo {
    const char *name;
    ParamKind kind;
} ParamInfo;

extern const ParamInfo param_infos[];

#define PARAM(name) (1U << PARAM_##name)

typedef enum MethodAccess { METHOD_ALONE, METHOD_READS, METHOD_WRITES } MethodAccess;

typedef struct ApiCall ApiCall;
typedef bool (*MethodRun)(ApiCall *call, Error *err);
/* Looks at what was sent before it is read by its message. */
typedef bool (*MethodBefore)(ApiCall *call, json_t *sent, Error *err);

/* One row of api/methods.c. */
typedef struct ApiMethod {
    HttpMethod http;
    const char *path; /* behind the version */
    const char *name; /* "connectionProfiles.create" */
    NameKind kind;    /* what the path names */
    MethodAccess access;
    unsigned params; /* which query parameters it takes */
    const Message *body;
    NameKind makes; /* of a create: what, with the id in id_param. NAME_LOCATION = nothing */
    ApiParam id_param;
    const char *answer; /* name of a message; NULL = an object of its own */
    MethodRun run;
    MethodBefore before; /* NULL = nothing */
    bool has_page;       /* alt=html is answered with a page, too */
    bool for_admins;
} ApiMethod;

extern const ApiMethod api_methods[];
extern const size_t api_methods_count;

typedef struct GivenSecret {
    const char *path;
    char *value; /* overwritten when the call is over; "" = takes away the one before */
} GivenSecret;
typedef VEC(GivenSecret) GivenSecretVec;

struct ApiCall {
    Api *api;
    HttpRequest *request;
    HttpResponse *response;
    Arena *arena;
    const ApiMethod *method;
    const char *version; /* "v1" */
    AccessGrant grant;
    const char *params[PARAM_MAX_]; /* NULL = not given */
    ResourceName name;
    const char *resource; /* full name of what it is about: of a create, what is made */
    const char *parent;   /* what that is below of */
    json_t *body;         /* what message_read() gave, without secrets; NULL = the method has none */
    GivenSecretVec secrets;
    ViolationVec violations;
    const char *new_operation; /* a name for one */
    StoreTx *tx;
    /* Out: */
    json_t *answer;
    const char *answer_text; /* the same as text, in the arena; NULL = answer counts */
    bool is_page;            /* that text is HTML */
    const char *operation;   /* the answer is this operation */
    const char *etag;
    bool wants_stream; /* the answer is the event log of the job, from behind stream_after on */
    int64_t stream_after;
};

/* For HttpRoute.handler; context: Api, route_data: ApiMethod. */
void call_handle(void *context, HttpRequest *request, HttpResponse *response);

bool call_flag(const ApiCall *call, ApiParam param);
const char *call_text(const ApiCall *call, ApiParam param); /* "" when absent */
int64_t call_number(const ApiCall *call, ApiParam param);   /* 0 when absent */

/* Fails with STALE_VERSION when the client said (If-Match, etag=) that it means another version. */
NODISCARD bool call_check_etag(const ApiCall *call, const StoreResource *resource, Error *err);
OperationOrder call_order(const ApiCall *call);
/* An operation that is over already: `answer` (not stolen) is its response. */
NODISCARD bool call_answer_done(ApiCall *call, const char *target, const char *verb, const char *type,
                                const json_t *answer, Error *err);
/* Adds to the violations; false. */
bool call_refuse(ApiCall *call, const char *field, const char *format, ...) PRINTF(3, 4);

/* An operation as whoever asks may see it: text of a server's log, which may hold data of users, is for those who may
 * ask for it, and in no list. New reference. */
json_t *call_render_operation(const ApiCall *call, const Record *operation);

bool call_wants_pretty(const ApiCall *call);
enum { ANSWER_MAX = 64 * 1024 * 1024 };
void call_send_json(ApiCall *call, int status, const json_t *answer);
void call_send_error(ApiCall *call, const Error *err);
