/*
 * Errors as the API answers with them: google.rpc.Status, in an answer or in an operation.
 *
 * Contract
 * - Pure; new json_t references are the caller's.
 * - ErrorInfo has the stable reason (doc/errors.md), the domain STATUS_DOMAIN, and in its metadata what to do, where
 * that is known. Violations of fields come as BadRequest, all of them.
 */
#pragma once

#include "common/error.h"
#include "common/json.h"
#include "model/message.h"

#define STATUS_DOMAIN "pgcrane"

/* {code, message, details}. `violations` may be NULL. */
json_t *status_to_json(const Error *error, const ViolationVec *violations);
/* {"error": {code, message, status, details}}, where code is that of HTTP. */
json_t *status_to_answer(const Error *error, const ViolationVec *violations);
/* As google.rpc.Code says: 400 for INVALID_ARGUMENT and FAILED_PRECONDITION, 409 for ABORTED, ... */
int status_http_code(ErrorCode code);
