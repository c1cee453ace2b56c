/*
 * A captured command, run on the destination at its place in the stream.
 *
 * Contract
 * - ddl_replay() runs in the applier's open transaction (apply.h): the command and everything around it commit
 * together. A command that was one statement of several is found by its tag and number; one that cannot be repeated as
 * text (inside a function, CREATE TABLE AS) is not run: DDL_SUSPECT tells why, for
 * which table. So is what the destination refuses; only what may succeed later (a deadlock, a lost connection) is an
 * error.
 * - DDL_SUSPECT, too, when it was run but it is not certain that the rows that are there have the same values on both
 * sides (replay_values.c): the shape is right, the tables are to be copied again, and so is all that inherits from
 * them.
 * - Triggers, rules, policies, row level security and, without the replica role, foreign keys never act while the
 * stream is applied: what a command made of them that would is taken back. The promote makes them as the source has
 * them then.
 * - A label that ALTER TYPE ... ADD VALUE added cannot be used before its transaction has ended: the applier commits
 * with the source's transaction that has it, before rows of later ones.
 * - Materialized views are made WITH NO DATA.
 * - The session is as it was afterwards (role, search_path, settings), also after a failure inside the savepoint.
 * - Commands on objects that are not migrated (another schema filter, our own objects) are ignored, and so is what the
 * capture of another migration says.
 * - DDL_FORGED: it names our slot and lacks the capture's secret. Any role of the source can write such a message; it
 * is not parsed, and has no effect.
 * - A command runs with no more rights than on the source: as the role that ran it there. When that is not here, or we
 * may not become it, or it may not do it here, the command is not run (DDL_SUSPECT). Only what a superuser of the
 * source ran, or the migration's own role there, may run as our role.
 * - A count of commands that began again inside one query string (RESET ALL) is noticed: that command is not run.
 */
#pragma once

#include "engine/ledger/ledger.h"
#include "pg/pgoutput.h"

typedef enum DdlOutcome { DDL_APPLIED, DDL_IGNORED, DDL_SUSPECT, DDL_FORGED } DdlOutcome;

typedef struct DdlResultObject {
    const char *kind, *identity; /* as the source's event trigger says them: "view", shop."My view" */
} DdlResultObject;

typedef struct DdlResultTable {
    uint32_t oid; /* on the source */
    const char *schema, *name;
    const char *shape; /* behind the command (seam/shapes.h); NULL = not told */
} DdlResultTable;

typedef struct DdlResult {
    DdlOutcome outcome;
    const char *what;   /* "ALTER TABLE shop.orders", for people */
    const char *reason; /* of DDL_SUSPECT */
    uint32_t *tables;   /* source oids of the tables it is about; may be none */
    size_t tables_count;
    DdlResultTable *rows; /* tables with rows that it reaches, whether it names them or not; not all are migrated */
    size_t rows_count;
    DdlResultTable *shapes; /* those of the ones above that have one */
    size_t shapes_count;
    const char *tag, *query; /* query: NULL when it was too long, or when it may hold a password */
    DdlResultObject *objects;
    size_t objects_count;
    bool was_run; /* also when it is suspect */
} DdlResult;

/* Does a table of this name belong to the migration? */
typedef bool (*DdlWanted)(void *context, const char *schema, const char *name);

enum { DDL_TAG_MAX = 64, DDL_STRING_MAX = 96, DDL_COUNTS_MAX = 32 };

typedef struct DdlCount {
    char tag[DDL_TAG_MAX];
    int64_t ordinal; /* the last one seen */
} DdlCount;

/* One reading of the stream, from wherever it begins: made anew when it is read anew. */
typedef struct DdlStream {
    const char *slot;   /* whose capture is ours */
    const char *secret; /* of that capture (ddl_capture_secret()); NULL = none is known: nothing is obeyed */
    DdlWanted wanted;   /* NULL = all are */
    void *context;
    const char *tablespace_map; /* the option; NULL = none */
    /* The replay's own: how far the commands of one query string are counted. */
    char string[DDL_STRING_MAX];
    DdlCount counts[DDL_COUNTS_MAX];
    size_t counts_len;
} DdlStream;

NODISCARD bool ddl_replay(DdlStream *stream, DbConn *dest, Arena *arena, const char *content, size_t len,
                          DdlResult *ret_result, Error *err);
