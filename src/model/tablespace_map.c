/* --tablespace-map as pairs of names. */
#include "model/tablespace_map.h"

#include <string.h>

static const char any[] = "*", standard[] = "pg_default";

static bool fail(const char *text, const char *what, Error *err) {
    error_set(err, REASON_USAGE, "--tablespace-map: \"%s\" %s", text, what);
    return error_remedy(err, "write pairs such as --tablespace-map 'fast=ssd,slow=' (an empty one is the default)");
}

/* Copies what stands between double quotes; false when they are not closed. */
static bool take_quoted(Arena *arena, const char **at, const char **ret_name) {
    char *name = arena_alloc(arena, strlen(*at) + 1);
    size_t len = 0;

    for (const char *c = *at + 1; *c != '\0'; c++) {
        if (*c == '"' && *++c != '"') {
            name[len] = '\0';
            *ret_name = name;
            *at = c;
            return true;
        }
        name[len++] = *c;
    }
    return false;
}

static bool take_name(Arena *arena, const char **at, const char **ret_name) {
    if (**at == '"')
        return take_quoted(arena, at, ret_name);
    size_t len = strcspn(*at, "=,\"");
    *ret_name = arena_strndup(arena, *at, len);
    *at += len;
    return true;
}

static bool is_known(const TablespaceMap *map, const char *from) {
    for (size_t i = 0; i < map->pairs.len; i++)
        if (strcmp(map->pairs.items[i].from, from) == 0)
            return true;
    return strcmp(from, any) == 0 && map->others != NULL;
}

static void add(Arena *arena, TablespaceMap *map, const TablespacePair *pair) {
    if (strcmp(pair->from, any) == 0)
        map->others = pair->to;
    else
        vec_push(arena, &map->pairs, *pair);
}

bool tablespace_map_parse(Arena *arena, const char *text, TablespaceMap *ret_map, Error *err) {
    TablespaceMap map = {0};

    for (const char *at = text; at != NULL && *at != '\0';) {
        TablespacePair pair = {0};

        if (!take_name(arena, &at, &pair.from) || pair.from[0] == '\0' || *at != '=')
            return fail(text, "is not OLD=NEW[,OLD=NEW...]", err);
        at++;
        if (!take_name(arena, &at, &pair.to) || (*at != ',' && *at != '\0') || (*at == ',' && at[1] == '\0'))
            return fail(text, "is not OLD=NEW[,OLD=NEW...]", err);
        if (is_known(&map, pair.from))
            return fail(text, "names a tablespace of the source twice", err);
        add(arena, &map, &pair);
        at += *at == ',';
    }
    *ret_map = map;
    return true;
}

const char *tablespace_map_find(const TablespaceMap *map, const char *from) {
    for (size_t i = 0; i < map->pairs.len; i++)
        if (strcmp(map->pairs.items[i].from, from) == 0)
            return map->pairs.items[i].to;
    return strcmp(from, standard) == 0 ? NULL : map->others;
}

void tablespace_map_names(const TablespaceMap *map, StringVec *names) {
    for (size_t i = 0; i < names->len; i++) {
        const char *to = names->items[i][0] == '\0' ? NULL : tablespace_map_find(map, names->items[i]);

        if (to != NULL)
            names->items[i] = to;
    }
}
