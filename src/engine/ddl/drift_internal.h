/* What the files of the drift share: facts, one line of a catalogue each. Nobody else includes this. */
#pragma once

#include "engine/ddl/drift.h"
#include "engine/schema/sqlscan.h"

typedef enum FactKind { /* in the order in which they are compared; the numbers are in the SQL */
                        FACT_RELATION = 1,
                        FACT_TYPE = 2,
                        FACT_COLUMN = 3,
                        FACT_ORDER = 4,
                        FACT_CONSTRAINT = 5,
                        FACT_INDEX = 6,
} FactKind;

enum { FACT_ATTRS = 6 };

/* Attributes of a relation, a column, ...: drift.c has their words. */
enum { RELATION_KIND, RELATION_PERSISTENCE, RELATION_PARENT, RELATION_BOUND, RELATION_KEY };
enum { TYPE_KIND, TYPE_LABELS, TYPE_BASE, TYPE_NOT_NULL, TYPE_DEFAULT, TYPE_COLLATION };
enum { COLUMN_TYPE, COLUMN_COLLATION, COLUMN_NOT_NULL, COLUMN_GENERATED, COLUMN_IDENTITY, COLUMN_DEFAULT };
enum { DEFINITION, REFERENCED_SCHEMA, REFERENCED_NAME };
enum { ORDER_INHERITS = 1 }; /* beside DEFINITION: of a table that has parents, and is no partition */

typedef struct Fact { /* text lives in the side's result */
    FactKind kind;
    uint32_t oid;              /* of the relation or type */
    const char *schema, *name; /* of the relation or type: tables and types share one space of names */
    const char *part;          /* the column's, constraint's, index's name, else "" */
    bool of_type;              /* an enum, domain, range or composite type, not a table */
    const char *attrs[FACT_ATTRS];
} Fact;

typedef struct FactList {
    Fact *items; /* sorted: schema, name, kind, part */
    size_t len;
} FactList;

/* One query. *ret_result owns the text. */
NODISCARD bool drift_read(DbConn *conn, Arena *arena, const DriftParams *params, FactList *ret_facts,
                          DbResult **ret_result, Error *err);

/* Leaves those that are wanted, in their order. */
void drift_filter(const DriftParams *params, FactList *facts);

/* Order of the facts; 0 = the same thing on both sides. */
int fact_compare(const Fact *a, const Fact *b);

/* Are two expressions of the catalogue the same, but for what restoring a definition moves in its text (status IN
 * ('a', 'b') of a varchar is written in two ways)? */
bool drift_same_text(const char *a, const char *b);
/* Two lists of `len` tokens each: are those at i the same, or constants of the same value? */
bool drift_same_token(const SqlToken *left, const SqlToken *right, size_t len, size_t i);

/* SQL that makes attribute `attr` of the destination's fact as the source's, "" when that is not simple. */
const char *drift_fix_changed(Arena *arena, const Fact *source, const Fact *dest, int attr);
const char *drift_fix_missing(Arena *arena, const Fact *source);
const char *drift_fix_extra(Arena *arena, const Fact *dest);
