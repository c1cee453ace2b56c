/*
 * A captured command, run on the destination at its place in the stream.
 *
 * Contract
 * - ddl_replay() runs in the applier's open transaction (apply.h): the command and everything around it commit
 * together. A command that was one statement of several is found by its tag and number; one that cannot be repeated as
 * text (inside a function, CREATE TABLE AS) is not run: DDL_SUSPECT tells why, for
 * which table. So is what the destination refuses; only what may succeed later (a deadlock, a lost connection) is an
 * error.
 * - DDL_SUSPECT, too, when it was run but the rows that are there may have got other values (a volatile default, a
 * rewrite by a function): the shape is right, the table is to be copied again.
 * - Triggers, rules, policies, row level security and, without the replica role, foreign keys never act while the
 * stream is applied: what a command made of them that would is taken back. The promote makes them as the source has
 * them then.
 * - A label that ALTER TYPE ... ADD VALUE added cannot be used before its transaction has ended: the applier commits
 * with the source's transaction that has it, before rows of later ones.
 * - Materialized views are made WITH NO DATA.
 * - The session is as it was afterwards (role, search_path, settings), also after a failure inside the savepoint.
 * - Commands on objects that are not migrated (another schema filter, our own objects) are ignored.
 */
#pragma once

#include "engine/ledger/ledger.h"
#include "pg/pgoutput.h"

typedef enum DdlOutcome { DDL_APPLIED, DDL_IGNORED, DDL_SUSPECT } DdlOutcome;

typedef struct DdlResultObject {
    const char *kind, *identity; /* as the source's event trigger says them: "view", shop."My view" */
} DdlResultObject;

typedef struct DdlResult {
    DdlOutcome outcome;
    const char *what;   /* "ALTER TABLE shop.orders", for people */
    const char *reason; /* of DDL_SUSPECT */
    uint32_t *tables;   /* source oids of the tables it is about; may be none */
    size_t tables_count;
    const char *tag, *query; /* query: NULL when it was too long */
    DdlResultObject *objects;
    size_t objects_count;
    bool was_run; /* also when it is suspect */
} DdlResult;

/* Does a table of this name belong to the migration? */
typedef bool (*DdlWanted)(void *context, const char *schema, const char *name);

NODISCARD bool ddl_replay(DbConn *dest, Arena *arena, const char *content, size_t len, DdlWanted wanted, void *context,
                          DdlResult *ret_result, Error *err);
