/* Connection profiles. */
#pragma once

#include "api/call.h"

/* With what is known of its secrets, and `ssl` always there: google-cloud-sdk falls over one that is missing. */
json_t *profile_render(const Record *profile, Arena *arena);

bool profile_create(ApiCall *call, Error *err);
bool profile_patch(ApiCall *call, Error *err);
bool profile_delete(ApiCall *call, Error *err);
