/* --tablespace-map applied to an archive's entries. */
#include "engine/schema/tablespaces.h"

#include "model/tablespace_map.h"

#include <string.h>

static bool read_default(Arena *arena, DbConn *conn, const char **ret_name, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn,
                  "SELECT t.spcname FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t"
                  " ON t.oid = d.dattablespace WHERE d.datname = pg_catalog.current_database()",
                  0, NULL, &row, err))
        return error_wrap(err, "asking for the database's tablespace");
    *ret_name = arena_strdup(arena, db_rows(row) > 0 ? db_text(row, 0, 0) : "pg_default");
    return true;
}

static bool any_named(const Toc *toc) {
    for (size_t i = 0; i < toc->count; i++)
        if (toc->entries[i].tablespace[0] != '\0')
            return true;
    return false;
}

bool schema_map_tablespaces(Arena *arena, DbConn *source, DbConn *dest, const MigrateOptions *options, Toc *toc,
                            Error *err) {
    const char *ours, *theirs;
    TablespaceMap map;

    if (options->tablespace_map == NULL && !any_named(toc))
        return true;
    if (!tablespace_map_parse(arena, options->tablespace_map, &map, err) || !read_default(arena, source, &ours, err) ||
        !read_default(arena, dest, &theirs, err))
        return false;
    for (size_t i = 0; i < toc->count; i++) {
        TocEntry *entry = &toc->entries[i];
        const char *to = tablespace_map_find(&map, entry->tablespace[0] != '\0' ? entry->tablespace : ours);

        if (to != NULL)
            entry->tablespace = to;
        if (strcmp(entry->tablespace, theirs) == 0)
            entry->tablespace = "";
    }
    return true;
}
