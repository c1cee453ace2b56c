/*
 * An existing destination that is guarded against foreign writes until it is promoted, and handed back as it was.
 *
 * What the guard does to each database of a job (changes.def), where pgcrane's role is a superuser:
 * - CONNECTION LIMIT 0. PostgreSQL lets nobody in then who is no superuser, whatever rights to connect or to own the
 *   database have been granted, and lets superusers in, as whom pgcrane works (CheckMyDatabase, postinit.c).
 * - default_transaction_read_only = on, for superusers, who get in: their transactions write nothing unless they ask
 *   for that. pgcrane's own sessions set it off.
 * - pgcrane.guard = the job, so that whoever looks at the database sees why it is closed.
 * Where it is none, but a member of the roles that own the databases:
 * - CONNECT is taken from all but its login (connect.c). Superusers get in as ever.
 * Then sessions that were there before are ended, but for those of pgcrane's login whose application_name begins with
 * "pgcrane ". What is brought of the source's database and would undo that waits for the end of the guard (hold.c).
 *
 * Kept out is every role that is no superuser, owners and members of superusers among them, and by grants also those
 * with REPLICATION. What no database can keep out:
 * - superusers: they get in, and write when they set default_transaction_read_only off; by grants it is not even on;
 * - whoever has the password of pgcrane's own role, by grants;
 * - roles with REPLICATION, by the limit, which does not count walsenders (CheckMyDatabase, PostgreSQL 13 to 18): those
 *   of a database (replication=database) run SQL, read-only by default;
 * - workers within the server: of subscriptions, which are refused, and of extensions as pg_cron, which are told;
 * - the owner, and whoever may become it or a superuser (SET ROLE): they may change the database from another one. What
 *   they change is left as it is (below), and told.
 * The checks name those that are there.
 *
 * Contract
 * - Everything is journalled in the schema pgcrane_guard of the database `postgres`: what was there before and what was
 *   made of it, in the transaction that makes it. Databases of the job cannot hold it: some do not exist yet.
 * - A release sets back what is still as the guard has made it, to what was there before or what has arrived since.
 * What somebody changed meanwhile stays, and is told.
 * - All of it is idempotent, and may be killed anywhere: guard.c and release.c say why.
 * - `conn` is a session in DEMOTE_DATABASE, as a role that demote_check() finds fit, in no transaction before and
 * after.
 * - A database is of one job; jobs with others do not get into each other's way. One thread per connection.
 */
#pragma once

#include "engine/instance/instance.h"
#include "model/held_back.h"

#define DEMOTE_DATABASE "postgres"
#define DEMOTE_SCHEMA "pgcrane_guard"

typedef struct DemoteJob {
    const char *id;   /* which no other job ever has */
    const char *name; /* for people */
} DemoteJob;

/* X(ID, severity, side, Google's code, help) of findings.def */
typedef struct DemoteFindingInfo {
    const char *id;
    Severity severity;
    const char *side;
    const char *google;
    const char *help;
} DemoteFindingInfo;
extern const DemoteFindingInfo demote_findings[];
extern const size_t demote_findings_count;

typedef struct DemoteInput {
    DbConn *conn;
    const DbTarget *source, *dest; /* to look into their databases */
    const DemoteJob *job;
    const InstanceList *list; /* databases that the job moves */
    bool allow_non_empty;     /* a database may hold what does not clash with what arrives */
} DemoteInput;

/* Reads only. Every finding at once; version and role of the server are instance_list()'s. In `arena`. */
NODISCARD bool demote_check(Arena *arena, const DemoteInput *input, FindingVec *findings, Error *err);

/* May anything be guarded for the job? */
NODISCARD bool demote_is_begun(DbConn *conn, const DemoteJob *job, bool *ret_begun, Error *err);
/* Behind it the journal knows of the job. *ret_new: it did not before. */
NODISCARD bool demote_begin(DbConn *conn, const DemoteJob *job, bool *ret_new, Error *err);
/* Before a database is made, with CONNECTION LIMIT 0: `limit` is what it would have been made with. Nothing when it is
 * there. */
NODISCARD bool demote_intend(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, int64_t limit,
                             Error *err);
/* Guards a database, and ends the sessions of others in it. Those that do not end are named in `left`. One that is not
 * there is left alone. CONFLICT: it is another job's. */
NODISCARD bool demote_guard(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, StringVec *left,
                            Error *err);

/* Before the settings and grants of the source's database are written: what the guard holds back of them, and puts in
 * force when it is lifted. Nothing of a database that is not guarded for the job. */
NODISCARD bool demote_hold(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, HeldBack *held,
                           Error *err);

/* Sets back one database, or with NULL all of the job, which the journal forgets then; with the last job the journal
 * goes. What was left as it is, and why, is in `notes`. *ret_count: databases that were set back. */
NODISCARD bool demote_release(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, StringVec *notes,
                              size_t *ret_count, Error *err);
