/*
 * What was begun for an instance: a file STATE_DIR/instances/ID/journal.json, replaced as a whole and fsynced.
 *
 * A step is noted before it is made, with what is needed to take it back. The journal is the last thing that a remove()
 * removes, so an instance without one is absent.
 */
#pragma once

#include "provision/provider.h"

NODISCARD bool provision_journal_open(Arena *arena, const ProvisionConfig *config, const char *id,
                                      ProvisionJournal **ret_journal, Error *err);
/* Is there a file? */
bool provision_journal_exists(const ProvisionJournal *journal);
/* STATE_DIR/instances/ID; it need not exist yet. */
const char *provision_journal_folder(const ProvisionJournal *journal);
/* What was noted under `step`, borrowed until the next note; NULL = nothing. */
const json_t *provision_journal_get(const ProvisionJournal *journal, const char *step);
/* On the disk when it returns. details: a new reference, taken over. */
NODISCARD bool provision_journal_note(ProvisionJournal *journal, const char *step, json_t *details, Error *err);
NODISCARD bool provision_journal_strike(ProvisionJournal *journal, const char *step, Error *err);
/* The file itself, when nothing is left. */
NODISCARD bool provision_journal_end(ProvisionJournal *journal, Error *err);
