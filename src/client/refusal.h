/* Refusals of the API (google.rpc.Status with its details) as errors of this program. Pure. */
#pragma once

#include "common/error.h"
#include "common/json.h"

/*
 * The status that an answer other than 2xx holds ({"error": {...}}), or that an operation ended with. Reason and remedy
 * are the service's own where it says them; violations of fields, and what a verification found, are lines of the
 * message. Returns false.
 */
bool refusal_from_status(const json_t *status, Error *err);
/* An answer that is none of the API's (a proxy's page): by its HTTP status alone. Returns false. */
bool refusal_from_http(long http_status, Error *err);
