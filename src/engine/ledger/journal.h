/*
 * The journal of what was made on the source, and what the stream is bound to.
 *
 * Contract
 * - journal_intend() commits *before* the act, journal_made() after it. A line that says "not made" therefore means
 * "maybe there": whoever finds one looks at the source. No line means nothing of that name was made by this job, unless
 * the destination lost its last commits in a fail-over: that is why names derive from the job's id.
 * - Each call is a transaction of its own, fenced by the ledger's epoch. Doing one twice changes nothing.
 * - The stream's line is written once, with the slot's "made", when the slot is known to be good. From then on the slot
 * is never made again: what it had not delivered is gone with it.
 */
#pragma once

#include "common/lsn.h"
#include "engine/ledger/ledger.h"

#define JOURNAL_SLOT "slot"
#define JOURNAL_PUBLICATION "publication"
#define JOURNAL_DDL_CAPTURE "ddl capture" /* ddl_capture_remove() removes it */

typedef struct JournalObject {
    const char *kind;
    const char *name;
    bool made;
} JournalObject;

NODISCARD bool journal_intend(DbConn *dest, const Ledger *ledger, const char *kind, const char *name, Error *err);
NODISCARD bool journal_made(DbConn *dest, const Ledger *ledger, const char *kind, const char *name, Error *err);
/* After the object is known to be gone. */
NODISCARD bool journal_forget(DbConn *dest, const Ledger *ledger, const char *kind, const char *name, Error *err);
/* Both in the order of their making; journal_names() only those of the kind. */
NODISCARD bool journal_list(DbConn *dest, Arena *arena, JournalObject **ret_objects, size_t *ret_count, Error *err);
NODISCARD bool journal_names(DbConn *dest, Arena *arena, const char *kind, StringVec *ret_names, Error *err);

typedef struct JournalStream {
    const char *slot;
    Lsn l0;
    const char *system_identifier;
    int32_t timeline; /* when the slot was made */
} JournalStream;

NODISCARD bool journal_set_stream(DbConn *dest, const Ledger *ledger, const JournalStream *stream, Error *err);
NODISCARD bool journal_get_stream(DbConn *dest, Arena *arena, bool *ret_found, JournalStream *ret_stream, Error *err);
/* Together with the slot's line in the journal: the slot is gone for good. */
NODISCARD bool journal_forget_stream(DbConn *dest, const Ledger *ledger, const char *slot, Error *err);
