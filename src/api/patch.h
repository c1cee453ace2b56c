/* PATCH, as all kinds have it. */
#pragma once

#include "api/call.h"

/* For ApiMethod.before: of two fields that exclude each other and were both sent back, the one that the resource does
 * not have yet is the one that is meant. */
bool patch_before(ApiCall *call, json_t *sent, Error *err);

/* Into record->api: the fields of updateMask as sent. The result is checked as a new resource would be. `aliases` as
 * for message_patch(). False with violations. */
NODISCARD bool patch_apply(ApiCall *call, const Message *message, Record *record, const char *const *aliases);

/* Notes in `run` which secrets the resource has with this request: those given, without those that the mask names and
 * the request lacks. Stores nothing. */
void patch_note_secrets(ApiCall *call, Record *record);
/* The secret at `path`, if it was sent and the mask has it; its value may be "". NULL = it is not meant. */
const GivenSecret *patch_given(const ApiCall *call, const char *path);
/* The same in the store, for a record that is there. */
NODISCARD bool patch_store_secrets(ApiCall *call, const Record *record, Error *err);
