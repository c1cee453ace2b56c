/* Migration jobs: their methods and verbs, and their objects. */
#pragma once

#include "api/call.h"

bool migration_create(ApiCall *call, Error *err);
bool migration_patch(ApiCall *call, Error *err);
bool migration_delete(ApiCall *call, Error *err);
bool migration_start(ApiCall *call, Error *err);
bool migration_stop(ApiCall *call, Error *err);
bool migration_resume(ApiCall *call, Error *err);
bool migration_restart(ApiCall *call, Error *err);
bool migration_promote(ApiCall *call, Error *err);
bool migration_verify(ApiCall *call, Error *err);
bool migration_demote(ApiCall *call, Error *err);
bool migration_fetch(ApiCall *call, Error *err);
bool migration_ssh_script(ApiCall *call, Error *err);
bool migration_lookup(ApiCall *call, Error *err);
