/* What the files of the replay share. Nobody else includes this. */
#pragma once

#include "common/json.h"
#include "engine/ddl/replay.h"
#include "model/tablespace_map.h"

/* pg_event_trigger_table_rewrite_reason() */
enum { REWRITE_DEFAULT = 2, REWRITE_TYPE = 4 };

typedef struct DdlObject {
    const char *schema;   /* NULL = it has none */
    const char *name;     /* of a table: bare; of others: NULL */
    const char *kind;     /* "view", "function", ...; "" of a table; of a column: "sure" or "unsure" */
    const char *identity; /* of a column: its bare name */
    const char *shape;    /* of a table with rows: seam/shapes.h; else NULL */
    uint32_t oid;
} DdlObject;

typedef VEC(DdlObject) DdlObjectVec;

typedef struct DdlMessage {
    const char *string; /* which query string of which session; "" = no command */
    bool recounted;     /* the source's count of that string began again: its ordinal says nothing */
    const char *tag;
    const char *query;   /* NULL = too long */
    const char *suspect; /* no command, but a reason why the tables need a copy; NULL = none */
    const char *failed;
    int64_t ordinal, rewrite;
    bool nested;
    const char *role;       /* who ran it; "" = not told */
    bool trusted;           /* ... and may do there what we may do here */
    const json_t *settings; /* NULL = none */
    DdlObjectVec objects, tables;
    DdlObjectVec rows;    /* tables whose rows it may have changed: those named, what inherits from them, typed ones */
    DdlObjectVec columns; /* that it may have changed, and whether its default, if it is new, is surely the same here */
} DdlMessage;

typedef enum DdlSender { DDL_SENDER_OURS, DDL_SENDER_OTHER, DDL_SENDER_FORGED } DdlSender;

/* Who wrote it; of ours *ret_body is the JSON. Pure. */
DdlSender ddl_message_sender(const DdlStream *stream, const char *content, size_t len, const char **ret_body,
                             size_t *ret_len);
/* Text in the arena; *ret_json owns the settings. */
NODISCARD bool ddl_message_parse(Arena *arena, const char *body, size_t len, json_t **ret_json, DdlMessage *ret_message,
                                 Error *err);
/* The bare name of an identity: shop."A b"(int) gives A b. Pure. */
const char *ddl_bare_name(Arena *arena, const DdlObject *object);

/* The one statement of the query that the message is about; NULL with *ret_reason when it cannot be told. Pure. */
const char *ddl_find_statement(Arena *arena, const DdlMessage *message, const char **ret_reason);
/* Is it a statement that gives this command tag? Pure. */
bool ddl_statement_has_tag(const char *sql, const char *tag);
/* The statement as it can be run in a transaction, on its own: not CONCURRENTLY, materialized views WITH NO DATA. */
const char *ddl_adapt(Arena *arena, const char *sql, const char *tag);
/* The statement with tablespaces of the destination; `standard`: its database's, for those that the map sends there.
 * Pure. */
const char *ddl_place(Arena *arena, const char *sql, const TablespaceMap *map, const char *standard);
/* DROP of several objects: of those that were dropped, which may be fewer than it names. NULL: as it is. Pure. */
const char *ddl_drop_sql(Arena *arena, const DdlMessage *message, const char *sql);

/* Then its text is kept nowhere. Pure. */
bool ddl_may_hold_password(const DdlMessage *message);
/* Why it must not be run, NULL = it may. Pure. */
const char *ddl_why_not(const DdlMessage *message, const char *sql, int dest_version);

/* --- replay_values.c --- */

typedef struct DdlColumn {
    const char *schema, *table, *name;
    uint32_t type;
    int64_t number, modifier;
    bool generated;
} DdlColumn;

typedef VEC(DdlColumn) DdlColumnVec;

/* The columns of the tables that the message has columns of, as they are here now. */
NODISCARD bool ddl_read_columns(DbConn *dest, Arena *arena, const DdlMessage *message, DdlColumnVec *ret_columns,
                                Error *err);
/* Why the rows that are there may have other values afterwards, NULL = they certainly have the same. Pure. */
const char *ddl_why_values_differ(const DdlMessage *message, const char *sql, const DdlColumnVec *before,
                                  const DdlColumnVec *after);

/* --- replay_calm.c --- */

/* Is it about nothing but what the promote makes anew (promote/waiting.c)? `sql` "" = not known. Pure. */
bool ddl_waits_for_open(const DdlMessage *message, const char *sql, bool replica_role);
/* A query of one value: the statements that make the message's tables calm, NULL when they are. NULL for a message
 * without tables. Pure. */
const char *ddl_calm_sql(Arena *arena, const DdlMessage *message, int dest_version, bool replica_role);
