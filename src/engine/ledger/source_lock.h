/*
 * The migration's lock on the source: who works there under its id, and ends sessions that were left, is one run.
 *
 * Contract
 * - Session level, in the database of `source`, for as long as its control connection is there; a session may take it
 *   again. Whoever has it may take sessions, slot and publications of the migration's names for its own.
 * - FENCED when another session has it: the message names that session, the remedy the ways out.
 *
 * Relies on: advisory locks are taken on a standby as well (documentation, Hot Standby), and belong to the session.
 */
#pragma once

#include "engine/ledger/ledger.h"

/* `left`: a session that nobody uses any more, as ledger_lock(). `owner`: the service's job, "" = none; with `seizes` a
 * session that has the lock for the same owner is ended, and that of nobody else. */
NODISCARD bool source_lock(DbConn *source, const LedgerIdentity *identity, bool seizes, const LedgerHolder *left,
                           Error *err);
