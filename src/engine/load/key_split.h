/*
 * A key or index in two steps: the index itself, and what must wait until no other index of the table is being built.
 * Pure.
 *
 * `ALTER TABLE t ADD CONSTRAINT k PRIMARY KEY (...)` holds ACCESS EXCLUSIVE while it builds: no other index of t can be
 * built meanwhile. `CREATE UNIQUE INDEX` holds SHARE. The constraint's index always has default operator classes and
 * sort order (PostgreSQL refuses other ones for constraints), so the column list of the constraint's own text is that
 * of the index. Not split: exclusion constraints, WITHOUT OVERLAPS, anything whose text is not understood.
 */
#pragma once

#include "engine/schema/statements.h"

typedef struct KeySplit {
    const char *build; /* NULL: not split, run the entry's text whole */
    const char *complete;
    const char *index; /* quoted and qualified: to see whether an earlier run has built it */
} KeySplit;

KeySplit key_split(Arena *arena, const TocEntry *entry, const RestoreOptions *options);
