/*
 * REPLICA IDENTITY FULL for tables without a key, for the time of the migration (--identity-full).
 *
 * Contract
 * - seam_identity_full_set() runs before seam_publish(): a table that has no identity, and whose identity FULL would be
 *   one, gets it. What it was is in the journal first (kind JOURNAL_IDENTITY_FULL).
 * - The lock that ALTER TABLE takes stops the application's reads and writes: it is waited for a second at a time, with
 *   pauses, a few times; a table that cannot be had, or not be altered, stays as it is and is listed. It is followed in
 *   its inserts and truncates as without the option.
 * - Not for tables with generated columns: FULL would hold them, and from 18 on the application's UPDATE would fail.
 * - Partitions: the leaves get it (the setting is not inherited, and a root's own counts for nothing).
 * - Setting back comes after the publication of updates and deletes is gone: a published table without an identity
 *   makes the application's UPDATE fail. seam_remove() does both in this order.
 */
#pragma once

#include "engine/ledger/journal.h"
#include "engine/seam/seam.h"

#define JOURNAL_IDENTITY_FULL "identity full"

typedef struct SeamLeft {
    const char *quoted; /* the table (a leaf, of a partitioned one) */
    const char *why;
} SeamLeft;

/* `tables`: those of seam_read_identities() that migrate; the ones with an identity are passed over. May run again.
 * Fails only with the connection, the journal, or a stop. */
NODISCARD bool seam_identity_full_set(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamTable *tables,
                                      size_t count, Arena *arena, SeamLeft **ret_left, size_t *ret_left_count,
                                      Error *err);
/* Sets back what the journal names. All are tried; the error says the first that failed and how many did. */
NODISCARD bool seam_identity_full_undo(DbConn *source, DbConn *dest, const Ledger *ledger, Error *err);
/* For a publication of updates that stays (--keep-slot): the tables that are to be set back leave it before. */
NODISCARD bool seam_identity_full_unpublish(DbConn *source, DbConn *dest, const char *publication, Error *err);
/* On the destination, whose definitions were read from the source after the setting: as it was before. Once indexes are
 * there. May run again. */
NODISCARD bool seam_identity_full_copies(DbConn *dest, const Ledger *ledger, Error *err);
/* The same for people, of one line of the journal, by the name that the table had. NULL: it is none of ours. */
const char *seam_identity_full_back_sql(Arena *arena, const char *journal_name);
/* One line of the journal. A table that is gone, or that somebody gave another identity since, is fine. */
NODISCARD bool seam_identity_full_restore(DbConn *source, const char *journal_name, Error *err);
