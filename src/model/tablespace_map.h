/*
 * --tablespace-map: which tablespace of the destination takes the place of one of the source.
 *
 * OLD=NEW[,OLD=NEW...]. Names are taken as they are written, with upper and lower case; one with a comma, an equals
 * sign or a double quote in it stands in double quotes, which are doubled inside. A NEW that is empty is the default
 * tablespace of the destination's database. An OLD that is * is every tablespace that is not named, but for pg_default,
 * which takes a pair of its own. Pure; strings are of the arena given, or of the text.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/vec.h"

typedef struct TablespacePair {
    const char *from, *to; /* to "": the database's default */
} TablespacePair;

typedef struct TablespaceMap {
    VEC(TablespacePair) pairs;
    const char *others; /* of "*"; NULL = they keep their names */
} TablespaceMap;

/* text NULL: a map of nothing. USAGE says what is wrong with it. */
NODISCARD bool tablespace_map_parse(Arena *arena, const char *text, TablespaceMap *ret_map, Error *err);
/* NULL: it is not mapped. */
const char *tablespace_map_find(const TablespaceMap *map, const char *from);
/* Names as a setting has them (default_tablespace, temp_tablespaces): those that are mapped are replaced. "" stays. */
void tablespace_map_names(const TablespaceMap *map, StringVec *names);
