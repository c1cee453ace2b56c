/* Servers that the service makes: with a profile of kind cloudsql or alloydb, and as a collection of its own. */
#pragma once

#include "api/call.h"

/* Looks at the profile's settings; what is wrong is added to the call's violations. */
void instance_check(ApiCall *call, const Record *profile);
/* Makes the instance's resource, CREATING, with its password, and notes its id in the profile, which is not stored yet.
 * NAME_TAKEN when there is one of that id. */
NODISCARD bool instance_create(ApiCall *call, Record *profile, Error *err);

/* The administrator's password in a PATCH of the profile that the instance was made for. */
bool instance_has_password(const Record *profile);
/* Behind patch_note_secrets(): a server is not left without one, as had (it was given before) or the request has it. */
void instance_check_password(ApiCall *call, const Record *profile, bool had);
/* The one that is given becomes the server's: its provider is asked for that, and the call's operation ends with it;
 * *ret_asked, and the profile is saved. Nothing when none is given. RESOURCE_IN_USE while a job works with it. */
NODISCARD bool instance_take_password(ApiCall *call, Record *profile, bool *ret_asked, Error *err);

bool instance_delete(ApiCall *call, Error *err);
bool instance_read_log(ApiCall *call, Error *err);
