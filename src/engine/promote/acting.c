/* One side's triggers, rules, policies and the like (acting.h): one query, which is one moment. */
#include "engine/promote/acting.h"

#include "engine/seam/seam.h"
#include "pg/quote.h"

#include <stdlib.h>
#include <string.h>

enum { PARENT_VERSION = 110000, CLONES_VERSION = 130000, SCHEMAS_VERSION = 150000 };

/* clang-format off */
#define SCOPE_SQL \
    "WITH rel AS (" \
    " SELECT c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity," \
    "  pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS quoted" \
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace" \
    " WHERE c.relkind IN ('r', 'p', 'v', 'f') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'" \
    " AND n.nspname NOT IN ('information_schema', 'pgcrane') AND n.nspname IS DISTINCT FROM $1::text" \
    " AND n.nspname !~ " SEAM_OF_A_JOB \
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.objid = c.oid AND e.deptype = 'e'" \
    "  AND e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass))"

/* A clone of a partition's root's trigger goes with it. */
#define TRIGGERS_SQL \
    " SELECT 'TRIGGER', r.nspname, r.relname, r.relkind, r.quoted, t.tgname," \
    " pg_catalog.pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text, 'DROP TRIGGER'" \
    " FROM rel r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal AND %1$s = 0"

#define RULES_SQL \
    " UNION ALL SELECT 'RULE', r.nspname, r.relname, r.relkind, r.quoted, w.rulename," \
    " pg_catalog.pg_get_ruledef(w.oid) || ' ' || w.ev_enabled::text, 'DROP RULE'" \
    " FROM rel r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid WHERE w.rulename <> '_RETURN'"

#define POLICIES_SQL \
    " UNION ALL SELECT 'POLICY', r.nspname, r.relname, r.relkind, r.quoted, p.polname," \
    " pg_catalog.concat_ws(' | ', p.polcmd, p.polpermissive," \
    "  (SELECT pg_catalog.string_agg(coalesce(o.rolname, 'public'), ', ' ORDER BY o.rolname)" \
    "   FROM pg_catalog.unnest(p.polroles) x (oid) LEFT JOIN pg_catalog.pg_roles o ON o.oid = x.oid)," \
    "  'using ' || pg_catalog.pg_get_expr(p.polqual, p.polrelid)," \
    "  'check ' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)), 'DROP POLICY'" \
    " FROM rel r JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid" \
    " UNION ALL SELECT 'ROW SECURITY', r.nspname, r.relname, r.relkind, r.quoted, ''," \
    " CASE WHEN r.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END || ' ROW LEVEL SECURITY, '" \
    " || CASE WHEN r.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END || ' ROW LEVEL SECURITY', ''" \
    " FROM rel r WHERE r.relrowsecurity OR r.relforcerowsecurity"

/* Those that a partition has from its root's key go with it. */
#define KEYS_SQL \
    " UNION ALL SELECT 'FK CONSTRAINT', r.nspname, r.relname, r.relkind, r.quoted, k.conname," \
    " pg_catalog.pg_get_constraintdef(k.oid), ''" \
    " FROM rel r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid" \
    " WHERE k.contype = 'f' AND %2$s = 0 AND $2::boolean"

/* Only the source's are compared, with themselves: any text will do. */
#define PRIMARY_SQL \
    " UNION ALL SELECT 'EVENT TRIGGER', '', '', ' ', '', e.evtname, pg_catalog.to_jsonb(e)::text, ''" \
    " FROM pg_catalog.pg_event_trigger e WHERE e.evtname !~ " SEAM_OF_A_JOB \
    " UNION ALL SELECT 'PUBLICATION', '', '', ' ', '', p.pubname, pg_catalog.to_jsonb(p)::text, ''" \
    " FROM pg_catalog.pg_publication p WHERE p.pubname !~ " SEAM_OF_A_JOB \
    " UNION ALL SELECT 'PUBLICATION TABLE', r.nspname, r.relname, r.relkind, p.pubname, p.pubname," \
    " pg_catalog.to_jsonb(l)::text, '' FROM pg_catalog.pg_publication p" \
    " JOIN pg_catalog.pg_publication_rel l ON l.prpubid = p.oid JOIN rel r ON r.oid = l.prrelid" \
    " WHERE p.pubname !~ " SEAM_OF_A_JOB \
    " UNION ALL SELECT 'SUBSCRIPTION', '', '', ' ', '', s.subname," \
    " pg_catalog.concat_ws(' | ', s.subenabled, s.subslotname, s.subpublications), ''" \
    " FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid" \
    " WHERE d.datname = pg_catalog.current_database()"

#define SCHEMAS_SQL \
    " UNION ALL SELECT 'PUBLICATION TABLES IN SCHEMA', '', n.nspname, ' ', p.pubname, p.pubname, '', ''" \
    " FROM pg_catalog.pg_publication_namespace l JOIN pg_catalog.pg_publication p ON p.oid = l.pnpubid" \
    " JOIN pg_catalog.pg_namespace n ON n.oid = l.pnnspid"
/* clang-format on */

static int compare_objects(const void *a, const void *b) {
    const Acting *left = a, *right = b;
    int order = strcmp(left->kind, right->kind);

    if (order == 0)
        order = strcmp(left->schema, right->schema);
    return order != 0 ? order : strcmp(left->tag, right->tag);
}

static bool is_publication_member(const char *kind) {
    return strncmp(kind, "PUBLICATION TABLE", strlen("PUBLICATION TABLE")) == 0;
}

/* pg_dump's tags: "table trigger", "publication table", the table's name alone, the name alone. */
static const char *make_tag(Arena *arena, const char *kind, const char *relation, const char *name) {
    if (*relation == '\0' || *name == '\0')
        return arena_strdup(arena, *name == '\0' ? relation : name);
    return is_publication_member(kind) ? arena_printf(arena, "%s %s", name, relation)
                                       : arena_printf(arena, "%s %s", relation, name);
}

/* Columns: kind, schema, relation, its kind, quoted, name, definition, how it is dropped. */
static Acting read_object(Arena *arena, const DbResult *rows, int row) {
    const char *kind = arena_strdup(arena, db_text(rows, row, 0));
    const char *name = arena_strdup(arena, db_text(rows, row, 5));
    const char *drop = db_text(rows, row, 7);
    Acting object = {
        .kind = kind,
        .schema = arena_strdup(arena, db_text(rows, row, 1)),
        .tag = make_tag(arena, kind, db_text(rows, row, 2), db_text(rows, row, 5)),
        .relation = is_publication_member(kind) ? "" : arena_strdup(arena, db_text(rows, row, 2)),
        .relkind = db_text(rows, row, 3)[0],
        .quoted = arena_strdup(arena, db_text(rows, row, 4)),
        .name = name,
        .definition = arena_strdup(arena, db_text(rows, row, 6)),
        .drop = "",
    };

    if (strcmp(kind, "FK CONSTRAINT") == 0)
        object.drop = arena_printf(arena, "ALTER TABLE %s DROP CONSTRAINT %s", object.quoted, sql_ident(arena, name));
    else if (*drop != '\0')
        object.drop = arena_printf(arena, "%s %s ON %s", drop, sql_ident(arena, name), object.quoted);
    return object;
}

bool acting_read(DbConn *conn, Arena *arena, const char *ignore, bool foreign_keys, ActingVec *ret_objects,
                 Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    ActingVec objects = {0};
    int version = db_version(conn);
    const char *sql =
        arena_printf(arena, SCOPE_SQL TRIGGERS_SQL RULES_SQL POLICIES_SQL KEYS_SQL PRIMARY_SQL "%3$s",
                     version >= CLONES_VERSION ? "t.tgparentid" : "0",
                     version >= PARENT_VERSION ? "k.conparentid" : "0", version >= SCHEMAS_VERSION ? SCHEMAS_SQL : "");

    if (!db_query(conn, sql, 2, (const char *const[]){ignore, foreign_keys ? "true" : "false"}, &rows, err))
        return error_wrap(err, "reading triggers, rules and policies of the %s", db_side_name(db_conn_side(conn)));
    for (int i = 0; i < db_rows(rows); i++) {
        Acting object = read_object(arena, rows, i);

        if (!seam_names_a_job(object.tag))
            vec_push(arena, &objects, object);
    }
    if (objects.len > 0)
        qsort(objects.items, objects.len, sizeof(Acting), compare_objects);
    *ret_objects = objects;
    return true;
}

const Acting *acting_find(const ActingVec *objects, const char *kind, const char *schema, const char *tag) {
    const Acting wanted = {.kind = kind, .schema = schema, .tag = tag};

    if (objects->len == 0)
        return NULL;
    return bsearch(&wanted, objects->items, objects->len, sizeof(Acting), compare_objects);
}

bool acting_same(const Acting *a, const Acting *b) {
    return strcmp(a->definition, b->definition) == 0;
}

const Acting *acting_difference(const ActingVec *before, const ActingVec *now) {
    for (size_t i = 0; i < before->len || i < now->len; i++) {
        if (i >= before->len)
            return &now->items[i];
        if (i >= now->len)
            return &before->items[i];
        int order = compare_objects(&before->items[i], &now->items[i]);
        if (order != 0)
            return order < 0 ? &before->items[i] : &now->items[i];
        if (!acting_same(&before->items[i], &now->items[i]))
            return &now->items[i];
    }
    return NULL;
}

const char *acting_display(Arena *arena, const Acting *object) {
    static const struct {
        const char *kind, *text;
    } texts[] = {
        {"TRIGGER", "trigger"},
        {"RULE", "rule"},
        {"POLICY", "policy"},
        {"FK CONSTRAINT", "foreign key"},
        {"ROW SECURITY", "row level security"},
        {"EVENT TRIGGER", "event trigger"},
        {"PUBLICATION", "publication"},
        {"SUBSCRIPTION", "subscription"},
    };
    const char *kind = "publication"; /* of its tables */

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (strcmp(texts[i].kind, object->kind) == 0)
            kind = texts[i].text;
    if (*object->relation == '\0')
        return arena_printf(arena, "%s %s", kind, object->tag);
    const char *table = sql_display(arena, object->schema, object->relation);
    return strcmp(object->kind, "ROW SECURITY") == 0 ? arena_printf(arena, "%s of %s", kind, table)
                                                     : arena_printf(arena, "%s %s of %s", kind, object->name, table);
}
