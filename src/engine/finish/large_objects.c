/*
 * Large objects once more: no stream carries them, so those that were made, changed or removed on the source since they
 * were copied are made the same.
 *
 * Both sides are walked by oid in windows. An object's content is compared by the hash of its pieces' hashes, so that
 * no server needs memory for a whole object. On the destination only objects of the ledger are ours; those it does not
 * know are never touched.
 */
#include "engine/finish/finish.h"

#include "common/failpoint.h"
#include "common/log.h"

#include <stdlib.h>
#include <string.h>

/* Objects of a window, and bytes hashed at a time. */
#define WINDOW "500"
#define PIECE "8388608"

/* Owner, comment and grants, as far as they are copied: of the owner's own grants, whether there are any. Only where
 * both owners and grants are moved: grants to who owns it on one side alone would look like a difference for ever. */
#define ATTRIBUTES_SQL                                                                                                 \
    " || ' ' || (SELECT pg_catalog.md5(pg_catalog.concat_ws(',', pg_catalog.pg_get_userbyid(x.lomowner),"              \
    "  pg_catalog.obj_description(x.oid, 'pg_largeobject'), g.own, g.given, g.grantable))"                             \
    "  FROM pg_catalog.pg_largeobject_metadata x, LATERAL (SELECT pg_catalog.bool_or(a.grantee = x.lomowner) AS own,"  \
    "   pg_catalog.string_agg(DISTINCT t.text, ',' ORDER BY t.text) AS given,"                                         \
    "   pg_catalog.string_agg(DISTINCT CASE WHEN a.is_grantable THEN t.text END, ',' ORDER BY"                         \
    "    CASE WHEN a.is_grantable THEN t.text END) AS grantable"                                                       \
    "   FROM pg_catalog.aclexplode(coalesce(x.lomacl, pg_catalog.acldefault('L', x.lomowner))) AS a,"                  \
    "   LATERAL (SELECT CASE WHEN a.grantee <> x.lomowner THEN pg_catalog.concat(a.privilege_type, ' ',"               \
    "    CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END) COLLATE \"C\" END AS text) AS t) "   \
    "AS g"                                                                                                             \
    "  WHERE x.oid = o.oid)"

/* %s: more to be compared, ours on this side, and the bounds of oids. The descriptor of lo_open() is the server's, and
 * given back at once: 262144 = for reading. */
#define HASH_SQL                                                                                                       \
    "SELECT o.oid, s.size || ' ' || (SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(pg_catalog.md5("             \
    "  pg_catalog.lo_get(o.oid, p.i * " PIECE ", " PIECE ")), '' ORDER BY p.i), ''))"                                  \
    "  FROM pg_catalog.generate_series(0, s.size / " PIECE ") AS p (i))%s"                                             \
    " FROM (SELECT m.oid FROM pg_catalog.pg_largeobject_metadata m WHERE %s ORDER BY m.oid%s) AS o,"                   \
    " LATERAL (SELECT pg_catalog.lo_open(o.oid, 262144) AS fd OFFSET 0) AS f,"                                         \
    " LATERAL (SELECT pg_catalog.lo_lseek64(f.fd, 0, 2) AS size OFFSET 0) AS s,"                                       \
    " LATERAL (SELECT pg_catalog.lo_close(f.fd + (0 * s.size)::integer) AS closed OFFSET 0) AS c"                      \
    " WHERE c.closed = 0 ORDER BY o.oid"

enum { MENDED_AT_ONCE = 500 };

typedef struct Comparison {
    const LoadParams *params;
    DbConn *source, *dest;
    Arena *arena;
    bool attributes;
    Buf changed;          /* oids, comma-separated: to be copied */
    Buf gone;             /* to be removed */
    int64_t count, noted; /* in all; since the last commit */
} Comparison;

static const char *attributes(const Comparison *comparison) {
    const LoadParams *params = comparison->params;

    return comparison->attributes && !params->restore.no_owner && !params->restore.no_acl ? ATTRIBUTES_SQL : "";
}

static bool read_source(Comparison *comparison, uint32_t after, DbResult **ret_rows, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const char *sql = arena_printf(scratch, HASH_SQL, attributes(comparison),
                                   arena_printf(scratch, "m.oid > %u::oid", after), " LIMIT " WINDOW);

    return db_query(comparison->source, sql, 0, NULL, ret_rows, err) ||
           error_wrap(err, "reading large objects of the source");
}

/* last = 0: without end. */
static bool read_dest(Comparison *comparison, uint32_t after, uint32_t last, DbResult **ret_rows, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const char *bounds =
        arena_printf(scratch, "m.oid > %u::oid%s AND m.oid IN (SELECT l.oid FROM pgcrane.large_object l)", after,
                     last == 0 ? "" : arena_printf(scratch, " AND m.oid <= %u::oid", last));

    return db_query(comparison->dest, arena_printf(scratch, HASH_SQL, attributes(comparison), bounds, ""), 0, NULL,
                    ret_rows, err) ||
           error_wrap(err, "reading large objects of the destination");
}

static void note(Comparison *comparison, Buf *list, uint32_t oid) {
    buf_printf(list, "%s%u", list->len == 0 ? "" : ",", oid);
    comparison->count++;
    comparison->noted++;
}

/* What was noted so far: each object takes a lock until the commit, and there may be any number of them. */
static bool mend(Comparison *comparison, Error *err) {
    const LoadParams *params = comparison->params;
    const char *comma = comparison->gone.len > 0 && comparison->changed.len > 0 ? "," : "";

    if (!buf_ok(&comparison->changed, "the list of large objects", err) ||
        !buf_ok(&comparison->gone, "the list of large objects", err) ||
        !ledger_begin(comparison->dest, params->ledger, err))
        return false;
    bool ok = db_execf(comparison->dest, err,
                       "SELECT pg_catalog.lo_unlink(m.oid) FROM pg_catalog.pg_largeobject_metadata m JOIN"
                       " pgcrane.large_object l ON l.oid = m.oid WHERE m.oid IN (%s%s%s);"
                       " DELETE FROM pgcrane.large_object WHERE oid IN (%s%s%s)",
                       comparison->gone.data, comma, comparison->changed.data, comparison->gone.data, comma,
                       comparison->changed.data) &&
              (comparison->changed.len == 0 ||
               load_large_objects_again(params, comparison->source, comparison->dest, comparison->changed.data, err));

    if (ok && failpoint("large_objects.before_mend_commit", err) && ledger_commit(comparison->dest, err)) {
        buf_clear(&comparison->gone);
        buf_clear(&comparison->changed);
        comparison->noted = 0;
        return true;
    }
    db_rollback(comparison->dest);
    return error_wrap(err, "mending large objects");
}

/* Two sorted lists. */
static bool merge(Comparison *comparison, const DbResult *source, const DbResult *dest, Error *err) {
    int i = 0, k = 0;

    while (i < db_rows(source) || k < db_rows(dest)) {
        uint32_t there = i < db_rows(source) ? (uint32_t)db_int64(source, i, 0) : UINT32_MAX;
        uint32_t here = k < db_rows(dest) ? (uint32_t)db_int64(dest, k, 0) : UINT32_MAX;

        if (here < there)
            note(comparison, &comparison->gone, here);
        else if (there < here || strcmp(db_text(source, i, 1), db_text(dest, k, 1)) != 0)
            note(comparison, &comparison->changed, there);
        i += there <= here;
        k += here <= there;
        if (comparison->noted >= MENDED_AT_ONCE && !mend(comparison, err))
            return false;
    }
    return true;
}

static bool compare(Comparison *comparison, Error *err) {
    for (uint32_t after = 0;;) {
        CLEANUP(db_result_freep) DbResult *source = NULL;
        CLEANUP(db_result_freep) DbResult *dest = NULL;

        if (!read_source(comparison, after, &source, err))
            return false;
        int rows = db_rows(source);
        uint32_t last = rows == 0 ? 0 : (uint32_t)db_int64(source, rows - 1, 0);
        bool is_end = rows < (int)strtol(WINDOW, NULL, 10);

        if (!read_dest(comparison, after, is_end ? 0 : last, &dest, err) || !merge(comparison, source, dest, err))
            return false;
        if (is_end)
            return comparison->noted == 0 || mend(comparison, err);
        after = last;
    }
}

bool finish_large_objects(const LoadParams *params, DbConn *source, DbConn *dest, bool attributes, Arena *arena,
                          int64_t *ret_changed, Error *err) {
    Comparison comparison = {
        .params = params, .source = source, .dest = dest, .attributes = attributes, .arena = arena};

    buf_init(&comparison.changed, (size_t)1 << 20);
    buf_init(&comparison.gone, (size_t)1 << 20);
    bool ok = compare(&comparison, err);

    buf_fini(&comparison.changed);
    buf_fini(&comparison.gone);
    if (ok)
        *ret_changed = comparison.count;
    return ok;
}
