/* WAL positions: "16/B374D848" as uint64_t. 0 = none. */
#pragma once

#include "common/arena.h"

typedef uint64_t Lsn;

NODISCARD bool lsn_parse(const char *text, Lsn *ret_lsn);
char *lsn_format(Arena *arena, Lsn lsn);
