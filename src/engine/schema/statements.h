/*
 * SQL of a TOC entry as we run it: what pg_restore would print for it, and the variants we need. Pure.
 *
 * What pg_restore adds around an entry's text and we too: `SET default_tablespace`, `SET default_table_access_method`
 * (only where the entry has one and it matters), and `ALTER ... OWNER TO` for the kinds that have an owner (from the
 * DROP statement's object description). The session has search_path = '' and check_function_bodies = off,
 * standard_conforming_strings as in the archive's entry. pg_attver (multi-version dossier): `ALTER TABLE ... ALTER
 * COLUMN ... SET (pg_attver=N)` is dropped from a table's text, other options in the same list stay.
 */
#pragma once

#include "common/vec.h"
#include "engine/schema/toc.h"

typedef struct RestoreOptions {
    bool no_owner;
    bool no_acl;
    int server_version; /* of the destination, as PQserverVersion(); 0 = a new one */
    /* Until 15 a subscription writes as its owner; 16 has run_as_owner for that, and it is off (CREATE SUBSCRIPTION).
     * pg_dump of 16 and later says it, one of before cannot. */
    bool subscriptions_run_as_owner;
} RestoreOptions;

/* Of the archive's pg_dump ("15.6 (Debian ...)") and a destination: see there. */
bool restore_owner_runs_subscriptions(const char *dump_version, int server_version);

/* In which pass an entry runs; within a pass in archive order unless its kind runs in parallel. */
typedef enum RestorePass {
    RESTORE_SKIP, /* nothing to run: TABLE DATA, ENCODING, STDSTRINGS, SEARCHPATH, DATABASE, ACLs under no_acl, ... */
    RESTORE_PRE_DATA, /* before data, in order */
    RESTORE_PARALLEL, /* INDEX, CONSTRAINT: as soon as its table is complete and its dependencies have run */
    RESTORE_FOREIGN_KEY,
    RESTORE_POST_DATA, /* triggers, rules, policies, comments on those, index attach..., views moved here; in order */
    RESTORE_ACL,       /* grants and default privileges */
    RESTORE_LAST,      /* REFRESH MATERIALIZED VIEW, event triggers, publications, subscriptions */
} RestorePass;

/* `toc` is for comments and security labels: they run right after what they depend on. */
RestorePass restore_pass(const Toc *toc, const TocEntry *entry, const RestoreOptions *options);

/* The whole text to run for the entry, "" when there is nothing. */
char *restore_sql(Arena *arena, const TocEntry *entry, const RestoreOptions *options);
/* The grants on a schema that its ACL brings, one statement each; none for any other entry. Nor is an entry such an ACL
 * under no_acl.
 *
 * Whoever gives an object away, and is no superuser, can do that only to a role that has CREATE on the object's schema
 * (PostgreSQL checks the new owner's), and the ACL comes in a late pass. So these may be run behind the schema, too:
 * the ACL itself, whose first statements take away and whose last ones give, ends the same with them. What it takes
 * away is not among them: an owner without CREATE on its own schema could not fill it. Nor is what others than the
 * owner granted. */
bool restore_is_schema_acl(const TocEntry *entry, const RestoreOptions *options);
void restore_schema_grants(Arena *arena, const TocEntry *entry, const RestoreOptions *options, StringVec *grants);
/* ALTER ... OWNER TO is part of restore_sql(). */
bool restore_gives_away(const TocEntry *entry, const RestoreOptions *options);
/* `DROP ... IF EXISTS ...` for a start over; "" when the entry goes with another object. */
char *restore_drop_sql(Arena *arena, const TocEntry *entry);
/* FK CONSTRAINT: the same with NOT VALID before its final semicolon (unchanged when it has it already, or is NOT
 * ENFORCED: then there is nothing to validate later). */
char *restore_foreign_key_not_valid_sql(Arena *arena, const TocEntry *entry, const RestoreOptions *options);
/* What follows the first statement of the entry's text (CLUSTER ON, REPLICA IDENTITY, SET STATISTICS, ...), "" when
 * nothing. Quote-aware. */
char *restore_after_first_statement(Arena *arena, const TocEntry *entry);
/* True when the entry's kind is one that a filter on tables removes with its table (INDEX, CONSTRAINT, TRIGGER, ...).
 */
bool toc_kind_is_part_of_table(const char *desc);
