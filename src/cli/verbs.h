/* What the commands with verbs have in common: pgcrane tokens ..., pgcrane keys ... */
#pragma once

#include "cli/arguments.h"
#include "store/store.h"
#include "vault/door.h"

/* A verb appends its results to `out`, which is overwritten behind it, and says what is beside them (for people, also
 * with --json) through this: a line on standard error. */
void verb_note(const char *format, ...) PRINTF(1, 2);
/* The verb that the first word names, when the words behind it are as many as it takes, and each option that was given
 * by a flag is one of its own. USAGE. */
NODISCARD bool verb_find(Arena *arena, const Command *command, const Arguments *arguments, const Verb **ret_verb,
                         Error *err);
NODISCARD bool verb_open_store(Arena *arena, const Arguments *arguments, Store **ret_store, Error *err);
/* Who runs this command, for the audit log: "cli:NAME". */
DoorCaller verb_caller(Arena *arena);
/* A line of --json, appended. Takes over the reference. */
void verb_json(Buf *out, json_t *line);
