/*
 * One side's objects as facts: one query, which is one moment.
 *
 * Each kind is one SELECT: number, schema, name, part, attributes, and for a sequence the table that owns it. Left out:
 * what extensions own (what somebody made in a schema of theirs is not), our own schemas, temporary things, what the
 * server makes by itself (the constructors of a range), whose the schema public is (that came with the server, and
 * changed with 15), and the extension plpgsql, which each database has, though it may be made anew there.
 *
 * Text is hashed in one encoding, or the databases of two never have the same body of a function. Bytes of a database
 * without an encoding cannot be converted, and are not when they travel: then they are hashed as they are.
 *
 * Grants are those to others than the owner. What PUBLIC has by default is no grant, and its absence is: so a list that
 * is written out and the same list left to its default are alike. MAINTAIN is left out: 17 has it in ALL, 16 does not.
 */
#include "engine/ddl/drift_objects.h"
#include "engine/seam/seam.h"

#include <stdlib.h>
#include <string.h>

enum { PROCEDURE_VERSION = 110000, BODY_VERSION = 140000 };

/* The first column of each SELECT is the place of its kind in drift_objects.def. */
#define REGCLASS(name) "'pg_catalog." name "'::pg_catalog.regclass"
#define NOT_OWNED(class, oid) oid " NOT IN (SELECT objid FROM ext WHERE classid = " REGCLASS(class) ")"

/* clang-format off */
#define SCOPE_SQL \
    "WITH ns AS (" \
    " SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n" \
    " WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'pgcrane')" \
    " AND nspname !~ " SEAM_OF_A_JOB " AND nspname IS DISTINCT FROM $1::text)," \
    " ext AS (" \
    " SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'" \
    " OR (deptype = 'i' AND classid = " REGCLASS("pg_proc") "))," \
    " rel AS (" \
    " SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind, c.relowner, c.relacl, c.reloptions," \
    " c.relreplident" \
    " FROM pg_catalog.pg_class c JOIN ns n ON n.oid = c.relnamespace" \
    " WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND c.relpersistence <> 't'" \
    " AND " NOT_OWNED("pg_class", "c.oid") ")," \
    " fun AS (" /* before 12 an oid is a system column, which * does not have: hence the id */ \
    " SELECT n.nspname::text AS schema, p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' AS name, p.oid AS id, p.*" \
    " FROM pg_catalog.pg_proc p JOIN ns n ON n.oid = p.pronamespace" \
    " WHERE " NOT_OWNED("pg_proc", "p.oid") ")," \
    " typ AS (" \
    " SELECT t.oid, n.nspname::text AS schema, t.typname::text AS name, t.typowner, t.typacl" \
    " FROM pg_catalog.pg_type t JOIN ns n ON n.oid = t.typnamespace" \
    " LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid" \
    " WHERE (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c') AND " NOT_OWNED("pg_type", "t.oid") ")," \
    " obj (classid, oid, schema, name, owner, acl, by_default) AS (" \
    " SELECT " REGCLASS("pg_class") "::oid, oid, schema, name, relowner, relacl, false FROM rel" \
    " UNION ALL SELECT " REGCLASS("pg_proc") ", id, schema, name, proowner, proacl, true FROM fun" \
    " UNION ALL SELECT " REGCLASS("pg_type") ", oid, schema, name, typowner, typacl, true FROM typ" \
    " UNION ALL SELECT " REGCLASS("pg_namespace") ", oid, '', nspname::text, nspowner, nspacl, false FROM ns" \
    "  WHERE nspname <> 'public' AND " NOT_OWNED("pg_namespace", "oid") ")"

#define NOTHING ", NULL, NULL, NULL"

#define PRESENCE_SQL \
    " SELECT 0, o.schema, o.name, '', CASE WHEN $2::boolean THEN r.rolname::text END, NULL, NULL, NULL, NULL" \
    ", NULL, NULL FROM obj o JOIN pg_catalog.pg_roles r ON r.oid = o.owner"

#define NAMESPACES_SQL \
    " UNION ALL SELECT 1, '', nspname::text, '', NULL, NULL" NOTHING ", NULL, NULL FROM ns" \
    " WHERE " NOT_OWNED("pg_namespace", "oid") \
    " UNION ALL SELECT 2, '', extname::text, '', NULL, NULL" NOTHING ", NULL, NULL" \
    " FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'"

#define SEQUENCES_SQL \
    " UNION ALL SELECT 3, r.schema, r.name, ''," \
    " pg_catalog.concat(pg_catalog.format_type(r.seqtypid, NULL), ' START ', r.seqstart, ' INCREMENT ', r.seqincrement," \
    "  ' MINVALUE ', r.seqmin, ' MAXVALUE ', r.seqmax, ' CACHE ', r.seqcache, CASE WHEN r.seqcycle THEN ' CYCLE' END)," \
    " pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(o.relname) || '.' ||" \
    "  pg_catalog.quote_ident(a.attname)" NOTHING ", n.nspname::text, o.relname::text" \
    " FROM (SELECT rel.schema, rel.name, s.* FROM rel JOIN pg_catalog.pg_sequence s ON s.seqrelid = rel.oid OFFSET 0) AS r" \
    " LEFT JOIN pg_catalog.pg_depend d ON d.classid = " REGCLASS("pg_class") " AND d.objid = r.seqrelid" \
    "  AND d.objsubid = 0 AND d.refclassid = " REGCLASS("pg_class") " AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')" \
    " LEFT JOIN pg_catalog.pg_class o ON o.oid = d.refobjid" \
    " LEFT JOIN pg_catalog.pg_namespace n ON n.oid = o.relnamespace" \
    " LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"

#define VIEWS_SQL \
    " UNION ALL SELECT CASE r.relkind WHEN 'v' THEN 4 ELSE 5 END, r.schema, r.name, ''," \
    " (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || ' ' ||" \
    "  pg_catalog.format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)" \
    "  FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped)," \
    " (SELECT pg_catalog.string_agg(x, ', ' ORDER BY x) FROM pg_catalog.unnest(r.reloptions) AS x)," \
    " CASE WHEN $3::boolean THEN pg_catalog.pg_get_viewdef(r.oid) END, NULL, NULL, NULL, NULL" \
    " FROM rel r WHERE r.relkind IN ('v', 'm')" \
    " UNION ALL SELECT 6, r.schema, r.name, c.relname::text, pg_catalog.pg_get_indexdef(c.oid), NULL" NOTHING \
    ", NULL, NULL FROM rel r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid AND i.indisvalid" \
    " JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE r.relkind = 'm'"

/* The language 'internal' and aggregates have a name as their text: it is theirs. */
#define FUNCTIONS_SQL \
    " UNION ALL SELECT 7, f.schema, f.name, ''," \
    " %1$s || CASE WHEN f.proretset THEN ' returning setof ' ELSE ' returning ' END ||" \
    "  pg_catalog.format_type(f.prorettype, NULL)," \
    " pg_catalog.concat_ws(' ', l.lanname, f.provolatile, f.proparallel, CASE WHEN f.proisstrict THEN 'strict' END," \
    "  CASE WHEN f.prosecdef THEN 'security definer' END, CASE WHEN f.proleakproof THEN 'leakproof' END," \
    "  CASE WHEN f.provariadic <> 0 THEN 'variadic' END, 'cost', f.procost, 'rows', f.prorows," \
    "  pg_catalog.array_to_string(f.proconfig, ' '), g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.agginitval)," \
    " CASE WHEN $6::boolean THEN pg_catalog.md5(pg_catalog.convert_to(b.body, 'UTF8')) ELSE pg_catalog.md5(b.body) END," \
    " CASE WHEN $3::boolean AND (f.pronargdefaults > 0 OR f.proallargtypes IS NOT NULL OR f.proargnames IS NOT NULL)" \
    "  THEN pg_catalog.pg_get_function_arguments(f.id) END," \
    " CASE WHEN $3::boolean THEN %2$s END, NULL, NULL" \
    " FROM fun f JOIN pg_catalog.pg_language l ON l.oid = f.prolang" \
    " LEFT JOIN pg_catalog.pg_aggregate g ON g.aggfnoid = f.id" \
    " CROSS JOIN LATERAL (SELECT pg_catalog.concat_ws(' ', f.probin, f.prosrc) AS body) AS b"

#define DATABASE_SQL \
    " UNION ALL SELECT 8, '', i.type || ' ' || i.identity, '', NULL, NULL" NOTHING ", NULL, NULL FROM (" \
    "  SELECT " REGCLASS("pg_cast") "::oid AS classid, oid FROM pg_catalog.pg_cast" \
    "  UNION ALL SELECT " REGCLASS("pg_operator") ", o.oid FROM pg_catalog.pg_operator o JOIN ns ON ns.oid = oprnamespace" \
    "  UNION ALL SELECT " REGCLASS("pg_opclass") ", o.oid FROM pg_catalog.pg_opclass o JOIN ns ON ns.oid = opcnamespace" \
    "  UNION ALL SELECT " REGCLASS("pg_collation") ", o.oid FROM pg_catalog.pg_collation o" \
    "   JOIN ns ON ns.oid = collnamespace" \
    "  UNION ALL SELECT " REGCLASS("pg_ts_config") ", o.oid FROM pg_catalog.pg_ts_config o" \
    "   JOIN ns ON ns.oid = cfgnamespace" \
    "  UNION ALL SELECT " REGCLASS("pg_ts_dict") ", o.oid FROM pg_catalog.pg_ts_dict o JOIN ns ON ns.oid = dictnamespace" \
    " ) AS x, LATERAL pg_catalog.pg_identify_object(x.classid, x.oid, 0) AS i" \
    " WHERE x.oid >= 16384 AND (x.classid, x.oid) NOT IN (SELECT classid, objid FROM ext)"

#define NOTES_SQL \
    " UNION ALL SELECT 9, n.nspname::text, s.stxname::text, ''," \
    " CASE WHEN $3::boolean THEN pg_catalog.pg_get_statisticsobjdef(s.oid) END, NULL" NOTHING ", NULL, NULL" \
    " FROM pg_catalog.pg_statistic_ext s JOIN ns n ON n.oid = s.stxnamespace" \
    " UNION ALL SELECT 10, r.schema, r.name, ''," \
    " (SELECT pg_catalog.string_agg(x, ', ' ORDER BY x) FROM pg_catalog.unnest(r.reloptions) AS x), NULL" NOTHING \
    ", NULL, NULL FROM rel r WHERE r.relkind IN ('r', 'm') AND r.reloptions IS NOT NULL" \
    " UNION ALL SELECT 11, r.schema, r.name, '', CASE r.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'" \
    "  ELSE 'an index' END, NULL" NOTHING ", NULL, NULL FROM rel r WHERE r.relkind IN ('r', 'p')" \
    " AND r.relreplident <> 'd' AND $4::boolean" \
    " UNION ALL SELECT 12, o.schema, o.name, coalesce(a.attname::text, ''), d.description, NULL" NOTHING ", NULL, NULL" \
    " FROM obj o JOIN pg_catalog.pg_description d ON d.classoid = o.classid AND d.objoid = o.oid" \
    " LEFT JOIN pg_catalog.pg_attribute a ON d.objsubid > 0 AND a.attrelid = d.objoid AND a.attnum = d.objsubid"

/* Default privileges that are everybody's begin with what a server gives without any; those of a schema with none. What
 * is said of them is how they differ from that. */
#define ACL_OF(acl) "SELECT e.grantee, e.privilege_type, e.is_grantable FROM pg_catalog.aclexplode(" acl ") AS e "
#define BUILT_IN_ACL \
    ACL_OF("pg_catalog.acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)") \
    "WHERE d.defaclnamespace = 0 "

#define GRANTS_SQL \
    " UNION ALL SELECT 13, g.schema, g.name, coalesce(r.rolname::text, 'PUBLIC') || g.on_what," \
    " pg_catalog.string_agg(e.privilege_type || CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, ', '" \
    "  ORDER BY e.privilege_type), NULL" NOTHING ", NULL, NULL" \
    " FROM (SELECT schema, name, owner, acl, by_default, '' AS on_what FROM obj WHERE acl IS NOT NULL" \
    "  UNION ALL SELECT o.schema, o.name, o.relowner, a.attacl, false, ' on column ' || a.attname::text" \
    "  FROM rel o JOIN pg_catalog.pg_attribute a ON a.attrelid = o.oid WHERE a.attacl IS NOT NULL) AS g" \
    " CROSS JOIN LATERAL pg_catalog.aclexplode(g.acl) AS e LEFT JOIN pg_catalog.pg_roles r ON r.oid = e.grantee" \
    " WHERE $5::boolean AND e.grantee <> g.owner AND NOT (g.by_default AND e.grantee = 0)" \
    "  AND e.privilege_type <> 'MAINTAIN' GROUP BY 2, 3, 4" \
    " UNION ALL SELECT 13, o.schema, o.name, 'PUBLIC', 'nothing', NULL" NOTHING ", NULL, NULL FROM obj o" \
    " WHERE $5::boolean AND o.by_default AND o.acl IS NOT NULL AND NOT EXISTS" \
    "  (SELECT FROM pg_catalog.aclexplode(o.acl) AS e WHERE e.grantee = 0)" \
    " UNION ALL SELECT 14, '', r.rolname::text, (CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences'" \
    "  WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END)" \
    "  || coalesce(' in schema ' || pg_catalog.quote_ident(n.nspname), '')," \
    " (SELECT pg_catalog.string_agg(w.is_not || coalesce(x.rolname::text, 'PUBLIC') || ' ' || w.privilege_type" \
    "   || CASE WHEN w.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, ', '" \
    "   ORDER BY x.rolname, w.is_not COLLATE \"C\", w.privilege_type COLLATE \"C\")" \
    "  FROM (SELECT '' AS is_not, g.* FROM (" ACL_OF("d.defaclacl") "EXCEPT " BUILT_IN_ACL ") g" \
    "   UNION ALL SELECT 'not ', g.* FROM (" BUILT_IN_ACL "EXCEPT " ACL_OF("d.defaclacl") ") g) w" \
    "  LEFT JOIN pg_catalog.pg_roles x ON x.oid = w.grantee WHERE w.privilege_type <> 'MAINTAIN'), NULL" NOTHING \
    ", NULL, NULL FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole" \
    " LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace WHERE $5::boolean"
/* clang-format on */

static const char *query_text(Arena *arena, int version) {
    return arena_printf(
        arena,
        SCOPE_SQL PRESENCE_SQL NAMESPACES_SQL SEQUENCES_SQL VIEWS_SQL FUNCTIONS_SQL DATABASE_SQL NOTES_SQL GRANTS_SQL,
        version >= PROCEDURE_VERSION
            ? "CASE f.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' WHEN 'w' THEN 'window function'"
              " ELSE 'function' END"
            : "CASE WHEN f.proisagg THEN 'aggregate' WHEN f.proiswindow THEN 'window function' ELSE 'function' END",
        version >= BODY_VERSION ? "CASE WHEN f.prosqlbody IS NOT NULL THEN pg_catalog.pg_get_function_sqlbody(f.id) END"
                                : "NULL");
}

int object_compare(const ObjectFact *a, const ObjectFact *b) {
    int order = strcmp(a->schema, b->schema);

    if (order == 0)
        order = strcmp(a->name, b->name);
    if (order == 0)
        order = (int)a->kind - (int)b->kind;
    return order != 0 ? order : strcmp(a->part, b->part);
}

static int compare_items(const void *a, const void *b) {
    return object_compare(a, b);
}

static ObjectFact read_fact(const DbResult *rows, int row) {
    enum { FIRST_ATTR = 4 };
    ObjectFact fact = {
        .kind = (ObjectKind)db_int64(rows, row, 0),
        .schema = db_text(rows, row, 1),
        .name = db_text(rows, row, 2),
        .part = db_text(rows, row, 3),
        .of_schema = db_text(rows, row, FIRST_ATTR + OBJECT_ATTRS),
        .of_table = db_text(rows, row, FIRST_ATTR + OBJECT_ATTRS + 1),
    };

    for (int i = 0; i < OBJECT_ATTRS; i++)
        fact.attrs[i] = db_text(rows, row, FIRST_ATTR + i);
    return fact;
}

static const char *boolean(bool value) {
    return value ? "true" : "false";
}

bool objects_read(DbConn *conn, Arena *arena, const DriftParams *params, const ObjectsWay *way, ObjectFacts *ret_facts,
                  DbResult **ret_result, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    ObjectFacts facts = {0};
    const char *const values[] = {params->ignore_schema,         boolean(!params->no_owner), boolean(way->printed),
                                  boolean(!params->no_identity), boolean(!params->no_acl),   boolean(way->as_utf8)};

    if (!db_query(conn, query_text(arena, db_version(conn)), (int)COUNT_OF(values), values, &rows, err))
        return error_wrap(err, "reading the objects of the %s", db_side_name(db_conn_side(conn)));
    facts.items = arena_array(arena, ObjectFact, (size_t)db_rows(rows) + 1);
    for (int i = 0; i < db_rows(rows); i++)
        facts.items[facts.len++] = read_fact(rows, i);
    qsort(facts.items, facts.len, sizeof(ObjectFact), compare_items);
    *ret_facts = facts;
    *ret_result = rows;
    rows = NULL;
    return true;
}
