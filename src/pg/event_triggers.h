/*
 * The user's event triggers, where we make or drop what is ours.
 *
 * One that forbids DROP does not mean our objects, and would end the clearing up and every later try of it; one that
 * writes down what is done would have lines of ours in the application's tables. In a
 * session that replays (session_replication_role = replica) none fires but those that are ENABLE ALWAYS; from
 * PostgreSQL 17 on event_triggers = off silences these, too, and is a superuser's.
 */
#pragma once

#include "pg/conn.h"

/* How one that acts is made to act as it did: "ENABLE ALWAYS". */
#define SQL_EVENT_TRIGGER_ENABLE(alias)                                                                                \
    "CASE " alias ".evtenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END"

/* Set by event_triggers_silence(), before anything: where a transaction that failed behind it may go back to. */
#define EVENT_TRIGGERS_SAVEPOINT "pgcrane_silence"

/* Inside a transaction: no event trigger fires until it ends, where our role has a say in that. *ret_set = the setting
 * to set back to DEFAULT when there is more to come in this transaction, NULL when our role may set neither. */
NODISCARD bool event_triggers_silence(DbConn *conn, const char **ret_set, Error *err);
/* Those of others that fire on this command ("DROP SCHEMA"), quoted and separated by commas; "" when there are none, or
 * nobody knows. Not inside a transaction that has failed. */
const char *event_triggers_on(DbConn *conn, Arena *arena, const char *command);
/* Behind a statement of this command that failed: where there are such, and nothing else is known to help, the remedy
 * names them. Always false. */
bool event_triggers_blame(DbConn *conn, const char *command, Error *err);
