/* What the files around following share (follow.c has the story); nobody else includes this. */
#pragma once

#include "engine/ddl/replay.h"
#include "worker/run.h"

#include <stdatomic.h>

enum { FOLLOWING_SAMPLES = 26 };

typedef struct Sample {
    int64_t at_us, lag_bytes;
    ApplyCounts counts;
} Sample;

/* follow_standbys.c */
typedef struct StandbyMark {
    Lsn position, wal;
} StandbyMark;

typedef struct Standbys {
    StandbyMark marks[64]; /* oldest first; not yet on every standby */
    size_t count;
    Lsn safe;        /* on every standby */
    int64_t most;    /* so many were there; 0 = none, or given up */
    int64_t seen_us; /* all of them */
    int64_t due_us;
} Standbys;

/* The thread that tells the numbers while the main one promotes. */
typedef struct Teller {
    pthread_t thread;
    Stop stop;
    bool running;
} Teller;

typedef VEC(uint32_t) OidVec;

typedef struct Following {
    Run *run;
    Arena *arena; /* of one start */
    Follow *follow;
    FollowTable *tables;
    size_t tables_count;
    OidVec members;        /* tables, and more, that belonged to the source's extensions at this start; in `arena` */
    SeamTable *identities; /* as last seen */
    size_t identities_count;
    Arena *identities_arena;
    DriftVec drifts;
    Arena *drifts_arena;
    size_t drift_failures; /* in a row */
    StringVec unrepeated;  /* for people */
    Arena *unrepeated_arena;
    StringVec suspects; /* for people */
    Arena *suspects_arena;
    int64_t suspects_due_us, identities_due_us, sequences_due_us, drift_due_us;
    /* Before tables are copied again: what runs on the source, waited for while changes are still followed (0 = not).
     */
    uint64_t barrier;
    int64_t barrier_us;      /* since when */
    int64_t barrier_look_us; /* pause between looks */
    int64_t mend_pause_us;   /* grows while nothing could be copied */
    bool blocked_told;
    int64_t drift_held_due_us; /* earlier: when a table waits for what was found then */
    Sample samples[FOLLOWING_SAMPLES];
    size_t samples_count;
    CdcState state;
    int64_t heard_time_us, heard_us; /* the stream's last clock, and ours when it came */
    atomic_int_fast64_t ddl;
    bool mended_for_promote;
    Teller teller;
    DdlStream ddl_stream;   /* the applier's, of one start */
    const char *ddl_secret; /* of the capture, in `arena` */
    bool capture_renewed;   /* since this start: it has another secret */
    bool forged_told;
    int promotes_undone; /* automatic ones */
    int64_t promote_due_us;
    /* Trouble: where the position was when it began, and whether it is behind us. */
    Lsn trouble_at;
    int64_t started_us;
    bool progressed;
    Standbys standbys;
} Following;

/* --- follow_hooks.c: what the applier asks, in its thread --- */
FollowHooks following_hooks(Following *following);

/* --- follow.c --- */
/* Of the source's extensions, at this start. Also for the applier's thread, while it runs. */
bool following_is_member(const Following *following, uint32_t oid);

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
/* Both catalogues, now. *ret_busy: a lock was in the way, `drifts` are as they were. */
NODISCARD bool following_look_at_drift(Following *following, bool *ret_busy, Error *err);
/* follow_ddl.c: commands that were not repeated */
NODISCARD bool following_look_at_unrepeated(Following *following, Error *err);
void following_look_end(Following *following);

/* --- follow_standbys.c --- */
void standbys_start(Standbys *standbys); /* behind each connection to the destination */
/* When it is due. *ret_limit: what may be confirmed to the source, UINT64_MAX = all that is applied. */
NODISCARD bool standbys_look(Run *run, Standbys *standbys, Lsn *ret_limit, Error *err);

/* --- follow_conflict.c --- */
/* After following failed with *err. True: it was one table that the destination has in another form; it rests now, and
 * following can start again. False: *err says what ends the run, or is retried. */
NODISCARD bool following_rest_table(Following *following, Error *err);
