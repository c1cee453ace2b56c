/*
 * What a database has besides tables and types, as facts: what drift.c compares tables by is not enough for a
 * destination that is to take over.
 *
 * drift_objects.def names each kind: how it is called, what a difference means, and which of its attributes are
 * compared. The texts of one kind are made by one SELECT of drift_objects_read.c.
 *
 * Nobody but the files of the drift includes this.
 */
#pragma once

#include "engine/ddl/drift.h"

typedef enum ObjectKind { /* in the order in which they are compared; the numbers are in the SQL */
#define X(name, ...) OBJECT_##name,
#include "engine/ddl/drift_objects.def"
#undef X
                          OBJECT_KIND_MAX_,
} ObjectKind;

enum { OBJECT_ATTRS = 5 };

typedef struct ObjectFact { /* text lives in the side's result */
    ObjectKind kind;
    const char *schema, *name; /* schema "" = of the database itself; a function's name has its argument types */
    const char *part;          /* the index's, role's, column's name, else "" */
    const char *attrs[OBJECT_ATTRS];
    const char *of_schema, *of_table; /* the table whose column owns the sequence, "" = none */
} ObjectFact;

typedef struct ObjectFacts {
    ObjectFact *items; /* sorted: schema, name, kind, part */
    size_t len;
} ObjectFacts;

/* What both sides have to do alike. */
typedef struct ObjectsWay {
    bool printed; /* with what the server has to print from a parsed form */
    bool as_utf8; /* text is hashed as UTF-8, not as the bytes that the database holds */
} ObjectsWay;

/* One query. *ret_result owns the text. */
NODISCARD bool objects_read(DbConn *conn, Arena *arena, const DriftParams *params, const ObjectsWay *way,
                            ObjectFacts *ret_facts, DbResult **ret_result, Error *err);

/* Order of the facts; 0 = the same thing on both sides. */
int object_compare(const ObjectFact *a, const ObjectFact *b);

/* Differences are added to `drifts`. */
void objects_compare(Arena *arena, const DriftParams *params, const ObjectFacts *source, const ObjectFacts *dest,
                     DriftVec *drifts);
