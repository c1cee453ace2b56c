/* Operations: cancel, delete, wait. */
#include "api/others.h"

#include "api/kinds.h"
#include "api/watch.h"
#include "common/clock.h"

#include <stdlib.h>

static const Field wait_fields[] = {{.name = "timeout", .kind = FIELD_DURATION}};
const Message message_wait = {"WaitOperationRequest", wait_fields, COUNT_OF(wait_fields)};

static const double wait_default_s = 10, wait_most_s = 30;

bool operations_get(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record operation = {0};

    if (!kind_load(call, &operation, err))
        return false;
    call->answer = call_render_operation(call, &operation);
    call->etag = record_etag(call->arena, &operation.resource);
    return true;
}

bool operations_delete(ApiCall *call, Error *err) {
    call->answer = json_object();
    return operation_delete(call->tx, call->resource, err);
}

bool operations_cancel(ApiCall *call, Error *err) {
    call->answer = json_object();
    return operation_cancel(call->tx, call->arena, call->resource, err);
}

static bool read_operation(StoreTx *tx, void *context, Error *err) {
    ApiCall *call = context;
    CLEANUP(record_fini) Record operation = {0};

    if (!record_load(tx, STORE_OPERATION, call->resource, &operation, err))
        return false;
    json_freep(&call->answer);
    call->answer = call_render_operation(call, &operation);
    return true;
}

/* "3.5s" */
static int64_t deadline_of(const ApiCall *call) {
    double seconds = strtod(json_get_string(call->body, "timeout", "0"), NULL);

    if (!(seconds > 0))
        seconds = wait_default_s;
    return clock_now_us() + (int64_t)(MIN(seconds, wait_most_s) * (double)USEC_PER_SEC);
}

bool operations_wait(ApiCall *call, Error *err) {
    Watch *watch = api_watch(call->api);
    int64_t deadline_us = deadline_of(call);
    bool may_wait = watch_enter(watch), ok = true, more = may_wait;

    do {
        uint64_t seen = watch_turn(watch);
        ok = store_read(api_store(call->api), call->arena, read_operation, call, err);
        more = more && ok && !json_get_bool(call->answer, "done", false) &&
               watch_wait(watch, seen, deadline_us, call->request->stop);
    } while (more);
    if (may_wait)
        watch_leave(watch);
    return ok;
}
