/*
 * What of a source database's own settings would undo the guard of the destination's (engine/demote), if it were
 * brought while the guard stands. It is not written then, but is what the end of the guard puts in force.
 *
 * Plain data. All texts live in the arena of whoever fills it in.
 */
#pragma once

#include "common/vec.h"

typedef struct HeldBack {
    /* What the source has. NULL = nothing that is to be brought. */
    const char *read_only; /* default_transaction_read_only of the database, for all roles */
    const char *connect;   /* who may connect but its owner: JSON [[role or null = PUBLIC, may grant it?]] */
    /* What the guard's answer is: the caller does not write these. */
    bool holds_read_only, holds_connect;
    StringVec missing; /* roles of `connect` that the destination does not have */
} HeldBack;
