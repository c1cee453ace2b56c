/*
 * Which server this is, and what its WAL descends from.
 *
 * A promoted standby begins a new timeline where it stopped replaying; its history file lists every timeline before and
 * where each was left. So "does this server have what I have up to X of timeline T?" is a question to that list.
 * Relies on: PostgreSQL documentation, "Streaming Replication Protocol": IDENTIFY_SYSTEM, TIMELINE_HISTORY.
 */
#pragma once

#include "common/lsn.h"
#include "pg/query.h"

typedef struct ReplSwitch {
    int64_t timeline; /* left at `lsn` for the next one in the list */
    Lsn lsn;
} ReplSwitch;

typedef struct ReplSystem {
    const char *identifier;
    int64_t timeline;
    Lsn end; /* flushed up to here; of a standby: replayed */
    bool in_recovery;
    const ReplSwitch *switches; /* oldest first; empty for timeline 1 */
    size_t switches_count;
} ReplSystem;

/* Opens a replication connection for the time of the call. Everything in the arena. */
NODISCARD bool repl_identify(const DbTarget *source, const Stop *stop, Arena *arena, ReplSystem *ret_system,
                             Error *err);
/* The lines of a history file. WIRE_BAD for what is none. Pure. */
NODISCARD bool repl_history_parse(Arena *arena, const char *text, ReplSwitch **ret_switches, size_t *ret_count,
                                  Error *err);
