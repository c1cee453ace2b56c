/*
 * Do both catalogues still say the same? Tables, columns, types, constraints, indexes, enum labels, identity,
 * persistence, and tables that only one side has.
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
    bool refuses;        /* by it the destination may refuse, or lose a part of, what the source has in its rows */
} Drift;
typedef VEC(Drift) DriftVec;

/* Which tables to look at: by the name on the source. */
typedef bool (*DriftWanted)(void *context, const char *schema, const char *name);

typedef struct DriftParams {
    DriftWanted wanted;
    void *context;
    bool indexes;              /* indexes and constraints too */
    bool foreign_keys;         /* they are there already */
    const char *ignore_schema; /* ours on the source; NULL = none */
} DriftParams;

NODISCARD bool drift_compare(DbConn *source, DbConn *dest, Arena *arena, const DriftParams *params,
                             DriftVec *ret_drifts, Error *err);
/* Those of `drifts` by which the destination may refuse rows of this table of the source: its own, and those of the
 * types that its columns are made of. */
NODISCARD bool drift_of_table(DbConn *source, Arena *arena, uint32_t oid, const DriftVec *drifts, DriftVec *ret_own,
                              Error *err);
/* Is it what the server's error came from? A duplicate key is explained only by a constraint or
 * an index of that name, a value that does not fit by whatever the destination is stricter in. */
bool drift_explains(const Drift *drift, const char *sqlstate, const char *message);
