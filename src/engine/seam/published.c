/*
 * Are the publications still what they were made as?
 *
 * The server looks them up by name, at each change: one that is dropped and made again, or that publishes less for a
 * moment, leaves changes out, and from 18 on the stream goes on without a word even when there is none. Their tables
 * are another matter: those change by our own doing, and shapes_check() looks at them.
 */
#include "common/log.h"
#include "engine/seam/seam_internal.h"

#include <string.h>

enum { VIA_ROOT_VERSION = 130000 };

bool seam_read_published(DbConn *source, Arena *arena, const SeamNames *names, const char **ret_published, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *const params[] = {names->publication_all, names->publication_keys};
    int version = db_version(source);
    const char *sql =
        arena_printf(arena,
                     "SELECT pg_catalog.concat_ws(' ', oid, CASE WHEN puballtables THEN 'all' END,"
                     " CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END,"
                     " CASE WHEN pubdelete THEN 'delete' END, %s, %s)"
                     " FROM pg_catalog.pg_publication WHERE pubname IN ($1, $2) ORDER BY pubname = $2",
                     version >= SEAM_TRUNCATE_VERSION ? "CASE WHEN pubtruncate THEN 'truncate' END" : "NULL",
                     version >= VIA_ROOT_VERSION ? "CASE WHEN pubviaroot THEN 'root' END" : "NULL");

    if (!db_query(source, sql, 2, params, &rows, err))
        return error_wrap(err, "looking for the publications");
    if (db_rows(rows) != 2)
        return error_set(err, REASON_PUBLICATION_LOST,
                         "a publication of this migration was dropped on the source: %s or %s", names->publication_all,
                         names->publication_keys);
    *ret_published = arena_printf(arena, "%s, %s", db_text(rows, 0, 0), db_text(rows, 1, 0));
    return true;
}

bool seam_check_published(DbConn *source, const SeamNames *names, const char *published, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *now = NULL;

    if (published == NULL)
        return true;
    if (!seam_read_published(source, arena, names, &now, err))
        return false;
    if (strcmp(now, published) == 0)
        return true;
    log_info("publications: they were %s, they are %s", published, now);
    return error_set(err, REASON_PUBLICATION_LOST,
                     "publication %s or %s on the source was changed, or dropped and made again, while the stream was"
                     " in use",
                     names->publication_all, names->publication_keys);
}
