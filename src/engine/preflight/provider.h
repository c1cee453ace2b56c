/*
 * Who runs a server, and how a setting is changed there: on a managed service ALTER SYSTEM is no remedy.
 *
 * Recognised by settings and roles that only that service has. One table of wording (provider.c), no branches.
 */
#pragma once

#include "engine/preflight/check.h"

typedef enum Provider { PROVIDER_SELF, PROVIDER_RDS, PROVIDER_CLOUD_SQL, PROVIDER_AZURE, PROVIDER_MAX_ } Provider;

NODISCARD bool provider_of(Preflight *p, DbSide side, Provider *ret_provider, Error *err);
/* How to set `setting` to `value` there. wal_level has names of its own. */
const char *provider_setting(Arena *arena, Provider provider, const char *setting, const char *value, bool restart);
/* How to give a role the right to replicate. */
const char *provider_replication(Arena *arena, Provider provider, const char *quoted_role);
