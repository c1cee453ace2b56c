/*
 * What acts by itself on one side: triggers, rules, policies and row level security, foreign keys where they cannot be
 * left out, and what only a primary may have: event triggers, publications, subscriptions.
 *
 * Named as the archive names them (kind, schema, tag), so that an entry of it is found here. Definitions are text that
 * one server always writes alike; two servers of different versions may not, so "differs" only means "make it anew".
 */
#pragma once

#include "common/vec.h"
#include "pg/query.h"

typedef struct Acting {
    const char *kind;       /* "TRIGGER", "RULE", "POLICY", "ROW SECURITY", "FK CONSTRAINT", "EVENT TRIGGER", ... */
    const char *schema;     /* "" when it has none */
    const char *tag;        /* "orders audit" of a trigger audit on orders */
    const char *relation;   /* bare, "" when it belongs to none */
    const char *quoted;     /* the same, qualified */
    const char *name;       /* bare */
    const char *definition; /* ROW SECURITY: what stands behind ALTER TABLE t to make it so */
    const char *drop;       /* SQL, "" when nothing drops it */
    char relkind;
} Acting;
typedef VEC(Acting) ActingVec;

/* Sorted. Whatever a migration makes on the source for itself is left out, and so is the schema `ignore` (may be NULL).
 */
NODISCARD bool acting_read(DbConn *conn, Arena *arena, const char *ignore, bool foreign_keys, ActingVec *ret_objects,
                           Error *err);
const Acting *acting_find(const ActingVec *objects, const char *kind, const char *schema, const char *tag);
bool acting_same(const Acting *a, const Acting *b);
/* The first that is not in both as it is, NULL when there is none. Both of one server. */
const Acting *acting_difference(const ActingVec *before, const ActingVec *now);
/* "policy p of shop.orders" */
const char *acting_display(Arena *arena, const Acting *object);
