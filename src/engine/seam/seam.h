/*
 * The seam between snapshot and stream: every committed change of the source arrives exactly once, by copy or by
 * stream.
 *
 * Contract
 * - Order (each step's reason is an experiment that lost rows without it: seam.c): journal, publications, slot,
 * decodable?, barrier, snapshot, flushed marker. Each step may be run again after a crash at any point: names derive
 * from the job's id, the journal is written before the act.
 * - seam_in_copy(): for a change in the stream, was it in the copy already? Pure.
 * - Everything made on the source is in the journal (pgcrane.source_object) and removed by seam_remove().
 * - Nothing here takes a lock that the application could notice: publications never publish UPDATE or DELETE of a table
 * without a replica identity, since the application's own statement would fail.
 */
#pragma once

#include "common/lsn.h"
#include "engine/ledger/ledger.h"

/* Names on the source, by job: at most 63 bytes each. */
typedef struct SeamNames {
    const char *slot;
    const char *publication_all;  /* insert, truncate: FOR ALL TABLES for a superuser, else lists */
    const char *publication_keys; /* update, delete: the tables with a replica identity */
} SeamNames;
SeamNames seam_names(Arena *arena, const char *job_id);
/* Does the text name something that any job has made on a source? Others may follow the same one. */
bool seam_names_a_job(const char *text);
/* The same for a name in SQL: name ~ SEAM_OF_A_JOB. */
#define SEAM_OF_A_JOB "'^pgcrane_[0-9a-f]{16}_'"

/* One table to publish. Roots of partitions (a partition made later is then streamed too), and the leaves that have an
 * identity: what happens to one while it is detached is streamed, too. */
typedef struct SeamTable {
    const char *schema, *name;
    const char *quoted;
    bool has_identity; /* valid immediate key or replica identity index, or FULL; no generated column in it */
} SeamTable;

/* Which tables have an identity now, by the rules of seam.c. */
NODISCARD bool seam_read_identities(DbConn *source, Arena *arena, SeamTable **ret_tables, size_t *ret_count,
                                    Error *err);

/* A query of every table with its identity: oid, nspname, relname, is_listed (stands for itself in
 * seam_read_identities()), has_identity. */
const char *seam_identities_sql(Arena *arena, int server_version);

/* Publications, created and committed before the slot (PostgreSQL 18 silently omits what comes between). While the slot
 * is in use, all_tables is what the publication was made with. */
NODISCARD bool seam_publish(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names,
                            const SeamTable *tables, size_t count, bool all_tables, Error *err);

/* What the two publications are, but for their tables: to be compared only. PUBLICATION_LOST when one is not there. */
NODISCARD bool seam_read_published(DbConn *source, Arena *arena, const SeamNames *names, const char **ret_published,
                                   Error *err);
/* PUBLICATION_LOST when that is something else now: nobody knows what was left out meanwhile. NULL = nothing to
 * compare. */
NODISCARD bool seam_check_published(DbConn *source, const SeamNames *names, const char *published, Error *err);

/* Tables that lost their identity leave the publication of updates, since the application's updates of them fail until
 * then: *ret_tables, for people. What the stream lacks of them from then on is shapes_check()'s to find (shapes.h): the
 * ledger has them as published. Takes a lock only when there is one. */
NODISCARD bool seam_unpublish_keyless(DbConn *source, const SeamNames *names, Arena *arena, StringVec *ret_tables,
                                      Error *err);

/* To be asked before anything is made: FENCED, naming the session, when somebody reads the slot of this name and the
 * ledger never meant to make one. A migration to a physical copy of the destination has the same id, and the same
 * names. Waits a few seconds for a reader that is just ending. */
NODISCARD bool seam_check_unread(DbConn *source, DbConn *dest, const SeamNames *names, Error *err);

/* The slot (adopted when an earlier run made it and it was never read from), and that it can be decoded. Waits for
 * running transactions; `blocked` is called now and then with who is waited for. */
typedef void (*SeamBlocked)(void *context, const char *who);
NODISCARD bool seam_slot(const DbTarget *source_target, DbConn *source, DbConn *dest, const Ledger *ledger,
                         const SeamNames *names, const Stop *stop, SeamBlocked blocked, void *context, Lsn *ret_l0,
                         Error *err);

/* An error of reading the slot's stream. When it is the slot's own (the server read a change and could not go on, as it
 * would each time), it becomes SLOT_UNDECODABLE: nothing but another slot, and another copy, helps. */
void seam_judge_stream(const char *slot, Error *err);

/* Waits until every transaction that was running when it was called, prepared ones included, has ended on the server's
 * own books. */
NODISCARD bool seam_barrier(DbConn *source, const Stop *stop, SeamBlocked blocked, void *context, Error *err);
/* For so long only (0: no limit). *ret_passed false: not yet, and `blocked` was called once, at the end. */
NODISCARD bool seam_barrier_within(DbConn *source, const Stop *stop, int64_t limit_us, SeamBlocked blocked,
                                   void *context, bool *ret_passed, Error *err);
/* In steps, for who has something else to do meanwhile. Once passed it stays so; it is of this server only. */
NODISCARD bool seam_barrier_begin(DbConn *source, uint64_t *ret_barrier, Error *err);
NODISCARD bool seam_barrier_look(DbConn *source, uint64_t barrier, bool *ret_passed, Error *err);
NODISCARD bool seam_barrier_tell(DbConn *source, uint64_t barrier, SeamBlocked blocked, void *context, Error *err);

/* A flushed commit on the source; *ret_end = its end. */
NODISCARD bool seam_marker(DbConn *source, const char *content, Lsn *ret_end, Error *err);

/* What a snapshot shows, to decide by. */
typedef struct SeamPicture {
    uint64_t xmin, xmax;
    const uint64_t *running; /* sorted */
    size_t running_count;
    Lsn w; /* a flushed position at or after the snapshot */
} SeamPicture;
NODISCARD bool seam_picture_parse(Arena *arena, const char *text, Lsn w, SeamPicture *ret_picture, Error *err);
/* True = the copy has it: skip. commit_lsn is of the start of the commit record (Begin's final_lsn), xid the top-level
 * one (32 bits). */
bool seam_in_copy(const SeamPicture *picture, Lsn commit_lsn, uint32_t xid);

/* Drops what the journal names, in any state, and says what it could not. All but the capture of definitions. dest
 * NULL: there is no journal to be had, and only what our names say goes. */
NODISCARD bool seam_remove(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names, Error *err);
