/*
 * What was begun for an instance: a file STATE_DIR/instances/ID/journal.json, replaced as a whole and fsynced.
 *
 * A step is noted before it is made, with what is needed to take it back. The journal is the last thing that a remove()
 * removes, so an instance without one is absent.
 *
 * Not a word of it is secret. One thread per journal; two processes never write one (provision_lock()).
 */
#pragma once

#include "provision/provider.h"

NODISCARD bool provision_journal_open(Arena *arena, const ProvisionConfig *config, const char *id,
                                      ProvisionJournal **ret_journal, Error *err);
void provision_journal_closep(ProvisionJournal **journal); /* for CLEANUP */
/* Is there a file? */
bool provision_journal_exists(const ProvisionJournal *journal);
/* STATE_DIR/instances/ID; it need not exist yet. */
const char *provision_journal_folder(const ProvisionJournal *journal);
/* What was noted under `step`, borrowed until the next note; NULL = nothing. */
const json_t *provision_journal_get(const ProvisionJournal *journal, const char *step);
/* On the disk when it returns. details: a new reference, taken over. */
NODISCARD bool provision_journal_note(ProvisionJournal *journal, const char *step, json_t *details, Error *err);
NODISCARD bool provision_journal_strike(ProvisionJournal *journal, const char *step, Error *err);
/* The file itself and the folder, when nothing else is left: fails with what there is. */
NODISCARD bool provision_journal_end(ProvisionJournal *journal, Error *err);

/* One operation at a time: -1 = another process has the instance. Closing the descriptor gives it back. Makes the
 * folder, and reads the journal again: it may have been another's until now. A folder in which somebody else keeps
 * something, or that is a link, is PROVISION_REFUSED. */
NODISCARD bool provision_lock(ProvisionJournal *journal, int *ret_fd, Error *err);

/* Called with each instance of this state_dir that has a journal; the journal is open for the call only. One that
 * cannot be read is left out: it is the trouble of whoever asks for that instance. */
typedef bool (*ProvisionVisit)(const char *id, const ProvisionJournal *journal, void *context, Error *err);
NODISCARD bool provision_journals_each(const ProvisionConfig *config, ProvisionVisit visit, void *context, Error *err);
