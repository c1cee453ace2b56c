/* What the files of the promote share; nobody else includes this. */
#pragma once

#include "engine/promote/acting.h"
#include "engine/promote/promote.h"

typedef enum FenceMode { FENCE_NONE, FENCE_LOCKS, FENCE_FULL } FenceMode;

/* A table that no stream carries whole, or that the stream may have missed something of. */
typedef struct RestTable {
    uint32_t oid;
    const char *display;
    const char *from;    /* "ONLY "s"."t"", or a root through which its leaves are written */
    const char *target;  /* for COPY ... FROM */
    const char *columns; /* quoted, comma-separated; "" = none */
    const char
        *compared; /* of them for the comparison: floats by their bits, where the servers write them differently */
    const char *condition; /* of an extension's configuration table, "" = all rows */
    const char *why;
    bool never_streamed; /* unlogged, or an extension's: it differs as soon as it is written to */
    int64_t bytes;
    const char *source_hash, *dest_hash; /* as last read, NULL = not yet */
    bool differs;
} RestTable;

/* A deferrable constraint of the destination: unique, primary key, exclusion. */
typedef struct UniqueRule {
    const char *display, *name; /* table, constraint */
    const char *sql;            /* gives a row when it does not hold */
    int64_t took_us;
    int64_t changes; /* applied to the table before it was looked through */
} UniqueRule;

/* A materialized view whose last REFRESH failed on the destination. */
typedef struct ViewTrouble {
    const char *quoted, *display;
    const char *message; /* the destination's */
    bool is_busy;        /* for want of a lock: it is tried once more behind OPEN */
    bool is_empty;       /* never filled there: nobody can read it */
    bool is_unqualified; /* something that it calls names something without a schema */
} ViewTrouble;

/* What waits for OPEN, as PREPARE found it on the source. */
typedef struct Waiting {
    Arena *arena; /* of this promote alone: an archive is large */
    Toc toc;
    bool *chosen; /* by the migration's filters */
    ActingVec source;
    NotMovedVec not_moved; /* by OPEN: listed when that is committed */
    StringVec dropped;     /* by OPEN, for people: told when that is committed */
    int64_t try_us;        /* how long trying it took, for the estimate */
} Waiting;

typedef struct Promote {
    const PromoteParams *params;
    Arena *arena;
    PromoteResult result;
    FenceMode mode;
    PromoteStep step;
    DbConn *fence;                       /* the session that holds the locks */
    const char *holder;                  /* its transaction: while that lives, the locks are held */
    bool superuser;                      /* on the source */
    bool objects_locked;                 /* pg_largeobject, too: read through `fence` */
    bool setting_touched;                /* the journal has a line about it */
    bool hook_before_ran;                /* begun, at least */
    const Stop *source_stop, *dest_stop; /* of the control connections, as they came */
    int64_t outage_from_us, deadline_us;
    int64_t limit_us;      /* when the step's statements are ended */
    int64_t hooks_from_us; /* the hook before began; 0 = there is none */
    const char *lock_sql;  /* of all tables, made before the fence */
    size_t lock_count;
    VEC(RestTable) rest;
    VEC(UniqueRule) unique;
    VEC(ViewTrouble) views; /* that could not be filled; each once, as its last attempt ended */
    Waiting waiting;
    StringVec sequences; /* as read when they were copied */
    /* Measured, for the estimate of a dry run. */
    int64_t lag_us, round_trip_us, compare_us, rest_us, views_us, objects_us;
    int64_t objects_changed; /* of the last comparison */
    bool views_again;        /* they are quick: refreshed again in the fence */
} Promote;

void promote_event(const Promote *promote, const char *level, const char *format, ...) PRINTF(3, 4);
void promote_note(Promote *promote, const char *format, ...) PRINTF(2, 3);
/* All problems as one PROMOTE_REFUSED, each as an event, too; true when there is none. */
NODISCARD bool promote_refuse(const Promote *promote, const char *what, const StringVec *problems, Error *err);

/* The control connections end at no stop flag until promote_run() returns: a COMMIT of OPEN that is under way is waited
 * for, and so is what must follow it. */
void promote_uninterrupted(const Promote *promote);

/* drain.c */
NODISCARD bool promote_wait_lag(Promote *promote, Error *err);
NODISCARD bool promote_drain(Promote *promote, Error *err);
/* Until what the source has by now is on the destination, told when it lasts; --lag-timeout at most. */
NODISCARD bool promote_wait_now(const Promote *promote, const char *why, Error *err);
NODISCARD bool promote_wait_applied(const Promote *promote, Lsn lsn, int64_t deadline_us, Error *err);

/* prepare.c */
NODISCARD bool promote_prepare(Promote *promote, Error *err);
/* Commands of the source that nobody has repeated on the destination. */
NODISCARD bool promote_unrepeated(Promote *promote, StringVec *problems, Error *err);
/* Triggers and rules of the destination that fire for what we write (strangers.h). `mark`: not in OPEN's transaction.
 */
NODISCARD bool promote_strangers(Promote *promote, bool mark, StringVec *problems, Error *err);
int64_t promote_estimate_us(const Promote *promote);

/* fence.c */
NODISCARD bool promote_fence(Promote *promote, Error *err);
/* After OPEN: whoever waits for our locks is ended, then the locks go. The setting stays. */
void promote_fence_release(Promote *promote);
void promote_end_waiting(const Promote *promote);
/* Are all tables still locked, by the very transaction that locked them? True = they were, without a break, up to now,
 * and no table has been made since that nobody locked. */
NODISCARD bool promote_fence_stands(Promote *promote, Error *err);

/* Sessions of the source's database that are not ours ($1: our job), not walsenders, and their role r; me: our own.
 * A session of no role (autovacuum) is counted only by a superuser, who may end it. */
#define PROMOTE_SESSIONS                                                                                               \
    " FROM pg_catalog.pg_roles me, pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_roles r ON r.oid = "          \
    "a.usesysid"                                                                                                       \
    " WHERE me.rolname = current_user AND a.datname = pg_catalog.current_database()"                                   \
    " AND a.pid <> pg_catalog.pg_backend_pid()"                                                                        \
    " AND pg_catalog.strpos(coalesce(a.application_name, ''), 'pgcrane ' || $1 || ' ') <> 1"                           \
    " AND a.pid NOT IN (SELECT w.pid FROM pg_catalog.pg_stat_replication w)"                                           \
    " AND (a.usesysid IS NOT NULL OR me.rolsuper)"
#define PROMOTE_MAY_END                                                                                                \
    "(me.rolsuper OR (NOT coalesce(r.rolsuper, true) AND (pg_catalog.pg_has_role(a.usesysid, 'USAGE')"                 \
    " OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))))"
#define PROMOTE_WHO                                                                                                    \
    "'session ' || a.pid || ' (' || coalesce(a.usename, '?') || ', ' || coalesce(a.application_name, '')"              \
    " || coalesce(', ' || a.state, '')"                                                                                \
    " || CASE a.wait_event WHEN 'SyncRep' THEN ', waits in its COMMIT for a synchronous standby (SyncRep)' ELSE '' "   \
    "END"                                                                                                              \
    " || ')'"

/* fence_check.c */
/* What would keep the fence from standing: privileges, sessions that we may not end, prepared transactions. */
NODISCARD bool promote_fence_check(Promote *promote, StringVec *problems, Error *err);
/* Fails when a promote of another migration has the source; our fence's session is open. An automatic one tries again.
 */
NODISCARD bool promote_other_fence(const Promote *promote, Error *err);
/* Fills lock_sql. */
NODISCARD bool promote_fence_tables(Promote *promote, Error *err);
NODISCARD bool promote_prepared(const Promote *promote, StringVec *problems, Error *err);

/* fence_setting.c: default_transaction_read_only of the source database. */
NODISCARD bool promote_setting_on(Promote *promote, Error *err);
/* Notes the roles whose own setting beats the database's: they may write to the source afterwards. */
NODISCARD bool promote_setting_exceptions(Promote *promote, Error *err);
/* Pure: since when the setting may have been on, by the source's clock; "-infinity" when the line does not say. */
const char *promote_setting_since(Arena *arena, const char *line);
const char *promote_setting_line(Arena *arena, const char *since, const char *previous); /* previous NULL: none */
/* The journal's line, NULL = none. */
NODISCARD bool promote_setting_read_line(DbConn *dest, Arena *arena, const char **ret_line, Error *err);
/* Without waiting for the source's standbys, and not for long for anybody else who alters the database. */
#define PROMOTE_ALTER_SQL "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '3s'; "

/* rest.c, rest_tables.c, views.c */
NODISCARD bool promote_copy_rest(Promote *promote, Error *err);
NODISCARD bool promote_copy_objects(Promote *promote, Error *err);
/* Inside OPEN's transaction: sequences that have gone on since they were copied. */
NODISCARD bool promote_copy_sequences_again(Promote *promote, Error *err);
/* Large objects that nobody could lock, until a comparison finds nothing. */
NODISCARD bool promote_copy_objects_again(Promote *promote, Error *err);
NODISCARD bool promote_rest_list(Promote *promote, bool fenced, Error *err);
/* Which of them differ for certain, while the source is being written to. */
NODISCARD bool promote_rest_presume(Promote *promote, StringVec *problems, Error *err);
/* Exactly, under the fence: compares, and copies what differs. */
NODISCARD bool promote_rest_settle(Promote *promote, Error *err);
/* All that together take less are refreshed again under the fence. */
#define PROMOTE_VIEWS_QUICK_US (250 * USEC_PER_MSEC)
/* Under the fence not those that somebody has locked before. */
NODISCARD bool promote_refresh_views(Promote *promote, Error *err);
/* The destination is open, and nobody waits: those once more that somebody had locked. What fails is told, and logged.
 */
void promote_refresh_busy_views(Promote *promote);
/* Notes for those that could not be filled: at the end of a dry run, and when the destination is open. Then those that
 * are empty are listed as not moved, too. */
void promote_tell_views(Promote *promote);

/* holders.c */
/* Warns of sessions and prepared transactions of others that hold on the destination what copying a table again has to
 * lock; in a dry run as notes, too. */
NODISCARD bool promote_warn_rest(Promote *promote, Error *err);
/* Of a lock that was not had (LOCK_BUSY) while tables were copied again, or while that materialized view, which reads
 * others, was refreshed: who has it, and how he is ended. Rolls back. Always false. */
bool promote_explain_rest(const Promote *promote, Error *err);
bool promote_explain_view(const Promote *promote, const char *quoted, Error *err);

/* unique.c */
/* Deferrable constraints that do not hold on the destination: all, while the source is written to. */
NODISCARD bool promote_unique_check(Promote *promote, StringVec *problems, Error *err);
/* Under the fence: those of tables that changed since, where it is quick. */
NODISCARD bool promote_unique_settle(Promote *promote, Error *err);

/* proof.c */
NODISCARD bool promote_compare(Promote *promote, Error *err);
NODISCARD bool promote_compare_into(Promote *promote, StringVec *problems, Error *err);
NODISCARD bool promote_prove(Promote *promote, Error *err);

/* limits.c: no wait under the fence is endless. */
/* For a step: what is left of --fence-timeout, for both control connections and the fence's session. */
NODISCARD bool promote_limit(Promote *promote, Error *err);
/* For what cannot be undone, or is only to be known: waits until then at most. */
void promote_deadline(Promote *promote, int64_t us);
/* Says so when a step failed for want of time; false. */
bool promote_explain_late(const Promote *promote, Error *err);
void promote_unlimit(Promote *promote);

/* open.c */
/* *ret_known false: it is not known whether it was committed; nothing may be undone. */
NODISCARD bool promote_open(Promote *promote, bool *ret_known, Error *err);

/* hooks.c */
/* Before the first one runs: for a run that finds this one killed. Called without any, it takes old ones off. */
NODISCARD bool promote_remember_hooks(const Promote *promote, Error *err);
/* They have run. A failure is only logged: one is run once more then, perhaps. */
void promote_forget_hooks(const Promote *promote);
NODISCARD bool promote_hook(const Promote *promote, const char *command, const char *step, const Stop *stop,
                            Error *err);
