/* What the checks of --follow share. Rows whose id begins with FOLLOW_ are looked at with --follow only. */
#pragma once

#include "engine/preflight/check.h"
#include "engine/preflight/provider.h"

enum { FOLLOW_MINOR_NEVER = 9999 }; /* the repair came after the major version's end */

/* The first minor release with each repair, 0 = this one has it. Pure. */
typedef struct FollowMinor {
    int slot, publication;
} FollowMinor;
FollowMinor follow_minor_wanted(int server_version);

/* An earlier run of this migration has made its slot: what a new one needs is not asked. */
NODISCARD bool follow_slot_is_there(Preflight *p, bool *ret_there, Error *err);
