/* Servers that the service makes: with a profile of kind cloudsql or alloydb, and as a collection of its own. */
#pragma once

#include "api/call.h"

/* Looks at the profile's settings; what is wrong is added to the call's violations. */
void instance_check(ApiCall *call, const Record *profile);
/* Makes the instance's resource, CREATING, with its password, and notes its id in the profile, which is not stored yet.
 * NAME_TAKEN when there is one of that id. */
NODISCARD bool instance_create(ApiCall *call, Record *profile, Error *err);

bool instance_delete(ApiCall *call, Error *err);
bool instance_read_log(ApiCall *call, Error *err);
