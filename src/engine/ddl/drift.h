/*
 * Do both catalogues still say the same? Tables, columns, types, constraints, indexes, enum labels, identity,
 * persistence, and tables that only one side has; with `objects` also sequences, views, functions and what else
 * drift_objects.def names. What acts by itself is not compared (there).
 *
 * drift_compare() reads both sides and compares in memory; each difference is one line for people, bound to a table
 * where there is one. Used every few seconds while following, and exactly, inside the fence. The two sides are read at
 * the same time, by two threads; `wanted` is called by the caller's.
 */
#pragma once

#include "common/vec.h"
#include "pg/query.h"

typedef enum DriftKind { DRIFT_OBJECT, DRIFT_COLUMN, DRIFT_RULE } DriftKind; /* RULE: a constraint, an index */

typedef struct Drift {
    DriftKind kind;
    uint32_t table;      /* the source's oid, 0 = no table */
    const char *object;  /* "shop.orders", "type shop.status" */
    const char *part;    /* the column's, constraint's, index's name, "" = the object itself */
    const char *message; /* "column note is text on the source, varchar(10) on the destination" */
    const char *fix;     /* SQL for the destination, "" = none */
    bool note;           /* loses neither rows nor behaviour: told, but no reason against a promote */
    bool access;         /* such a note of who may do what: grants, owners, default privileges */
    bool refuses; /* by it the destination may refuse, lose a part of, or take for another, what rows of the source have
                   */
} Drift;
typedef VEC(Drift) DriftVec;

/* Which tables to look at: by the name on the source. */
typedef bool (*DriftWanted)(void *context, const char *schema, const char *name);

/* Does the destination lack it on purpose: it waits for the promote's OPEN, or was not moved? By the archive's words
 * for it ("VIEW", "shop", "totals"). */
typedef bool (*DriftAbsent)(void *context, const char *desc, const char *schema, const char *tag);

typedef struct DriftParams {
    DriftWanted wanted;
    DriftAbsent absent; /* NULL = nothing is */
    void *context;
    bool indexes;              /* indexes and constraints too */
    bool foreign_keys;         /* they are there already */
    bool objects;              /* what is neither table nor type, too */
    bool filtered;             /* options choose what is moved */
    bool no_owner, no_acl;     /* owners, grants are none of ours */
    bool no_identity;          /* replica identities are changed by ourselves */
    const char *ignore_schema; /* ours on the source; NULL = none */
} DriftParams;

NODISCARD bool drift_compare(DbConn *source, DbConn *dest, Arena *arena, const DriftParams *params,
                             DriftVec *ret_drifts, Error *err);
/* Did the comparison meet a catalogue that changed under it (what it was about to print is gone)? The next one will
 * not. */
bool drift_error_passes(const Error *err);
/* Those of `drifts` by which the destination may refuse rows of this table of the source: its own, and those of the
 * types that its columns are made of. */
NODISCARD bool drift_of_table(DbConn *source, Arena *arena, uint32_t oid, const DriftVec *drifts, DriftVec *ret_own,
                              Error *err);
/* Is it what the server's error came from? A duplicate key is explained only by a constraint or
 * an index of that name, a value that does not fit by whatever the destination is stricter in. */
bool drift_explains(const Drift *drift, const char *sqlstate, const char *message);
