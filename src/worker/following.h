/* What the files around following share (follow.c has the story); nobody else includes this. */
#pragma once

#include "worker/run.h"

#include <stdatomic.h>

enum { FOLLOWING_SAMPLES = 26 };

typedef struct Sample {
    int64_t at_us, lag_bytes;
    ApplyCounts counts;
} Sample;

/* The thread that tells the numbers while the main one promotes. */
typedef struct Teller {
    pthread_t thread;
    Stop stop;
    bool running;
} Teller;

typedef struct Following {
    Run *run;
    Arena *arena; /* of one start */
    Follow *follow;
    FollowTable *tables;
    size_t tables_count;
    SeamTable *identities; /* as last seen */
    size_t identities_count;
    Arena *identities_arena;
    DriftVec drifts;
    Arena *drifts_arena;
    StringVec suspects; /* for people */
    Arena *suspects_arena;
    int64_t suspects_due_us, identities_due_us, sequences_due_us, drift_due_us;
    Sample samples[FOLLOWING_SAMPLES];
    size_t samples_count;
    CdcState state;
    atomic_int_fast64_t ddl;
    bool mended_for_promote;
    Teller teller;
    int promotes_undone; /* automatic ones */
    int64_t promote_due_us;
    /* Trouble: where the position was when it began, and whether it is behind us. */
    Lsn trouble_at;
    int64_t started_us;
    bool progressed;
    atomic_bool marked; /* a table was marked suspect: look at the ledger */
} Following;

/* --- follow_hooks.c: what the applier asks, in its thread --- */
FollowHooks following_hooks(Following *following);

/* --- follow_tell.c --- */
void following_tell(Following *following);
/* While nothing is followed: the last numbers would be wrong, only the state is true. */
void following_tell_state(Following *following, CdcState state);

/* --- follow_promote.c --- */
bool following_promote_is_due(Following *following);
/* True with *ret_opened false: refused or undone, and told; follow on, unless run->promote_unsettled. */
NODISCARD bool following_promote(Following *following, bool *ret_opened, Error *err);

/* --- follow_look.c: identities, differences of the catalogues, sequences, each when it is due --- */
NODISCARD bool following_look_around(Following *following, Error *err);
/* Tables that became others (engine/seam/shapes.h), now. */
NODISCARD bool following_look_at_shapes(Following *following, Error *err);
void following_look_end(Following *following);
