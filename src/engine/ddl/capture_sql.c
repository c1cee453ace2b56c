/*
 * The functions and event triggers of the capture, as SQL for the source.
 *
 * Who runs as whom. An event trigger runs in the application's session, whoever that is. on_end, on_drop and on_rewrite
 * are SECURITY DEFINER (the application has no right on our schema), but have no search_path of their own: the
 * application's is what they have to note. So they do next to nothing, all names in them are qualified and all argument
 * types exact, and they call note(), keep_publications() and count_up(), whose search_path is pinned.
 *
 * One command, one message. sql_drop comes before ddl_command_end: DROP commands are noted by the first (only there it
 * is told what was dropped), all others by the second. A rewrite is told before either, and is remembered in the
 * setting until the command's end. The transaction's own setting "pgcrane.ddl_SLOT" also counts the commands of each
 * tag in one query string, so that the receiving side finds the n-th; a subtransaction that is rolled back takes its
 * counts and its messages along. RESET ALL clears the setting: the receiving side sees the count begin again, since
 * each message says which string it is of. A command inside a function is known by its context: more than our own line.
 * All of it has the slot's name in it: another migration of this database has a capture of its own.
 *
 * Rows. A command reaches more tables than the one it names: partitions and other inheritors at any depth, as they are
 * at its end (ALTER TABLE neither attaches nor detaches together with what changes columns), and tables of the
 * composite type it names. They are told ("rows"), and so are the columns that this transaction wrote to the catalogue
 * of the named ones ("columns": their age is none), each with whether the rows that are there certainly got the same
 * value everywhere, should it be a new one: it has no default, also none of a domain's, or one that is a constant of a
 * plain type. That is read from the expression's tree, so that no spelling of a literal matters.
 *
 * Shapes. Each of these tables is told with its shape at the command's end (seam/shapes.h), which becomes the ledger's
 * with the command: so what the stream has led to can be compared with what the source has, and a command that no event
 * trigger saw is found.
 *
 * Publications. In 15 and later ALTER PUBLICATION holds a lock until the application's transaction ends, and every
 * other one waits for it. So a table comes in here only in a transaction of this one statement; in any other the
 * program publishes it a moment later, and the table is suspect, since its updates until then are not in the stream. A
 * table that lost its identity leaves here in any case, since UPDATE would fail: two open transactions that both do
 * that are in each other's way, and the second one's table leaves by the program (watch.c) when the first has ended.
 *
 * Nothing in here may fail the application's command: what raises an error is caught (its subtransaction is rolled
 * back) and told in a message; should that fail too, the comparison of the catalogues finds it (drift.h). Only a cancel
 * passes, as it would without us.
 *
 * Order. The server files a message under the position where its record ends, which is where the next record begins: a
 * row changed right behind the command has the same position. Within one subtransaction the order of arrival decides,
 * but our exception blocks are subtransactions, and so is a savepoint of the application: seen, the row came before the
 * command. Therefore a second, empty message follows each, of a prefix that nobody listens to: it takes the tie.
 *
 * The message is UTF-8 whatever the database's encoding is: pgoutput sends its bytes as they are.
 *
 * Who may speak. Any role may call pg_logical_emit_message() with our prefix and the slot's name, and what we say is
 * run on the destination by a role that may do much there. So each message has a secret in front, and one without is
 * not even read further (replay.c). The server makes it (gen_random_uuid(), twice 122 random bits) when the capture is
 * made, so that it stands in no statement, log, argument or setting; it is in a materialized view, whose definition
 * does not tell it, and not in a table, which would be listed, published, compared and copied like any of the
 * application's. Its owner alone may read it, whatever default privileges say; on_... run as him. Who else can get it:
 * superusers, members of pg_read_all_data, who read all passwords' hashes as well, and whoever may read WAL or has
 * REPLICATION, who can take a copy of the whole server.
 *
 * Whose rights. "role" is who ran the command, "trusted" that nobody's rights are wider for it if the destination's own
 * role runs it: a superuser, or the role that the migration itself uses on the source.
 */
#include "engine/ddl/capture_internal.h"

#include "engine/seam/shapes.h"
#include "pg/quote.h"

#include <string.h>

/* The receiver would have to keep it, and a script of many commands is sent once for each of them. */
#define QUERY_MAX "262144"
#define DDL_PREFIX "pgcrane.ddl"

/* clang-format off */
/* %1$s: schema, quoted; %2$s: names of the event triggers, a prefix; %3$s, %4$s: publications as literals;
 * %5$s: the identities' query; %6$s: schema as a literal; %7$s: slot as a literal; %8$s: our setting as a literal. */
#define HEAD "'v', 3, 'tag', "
#define SECRET_SQL \
    "CREATE MATERIALIZED VIEW %1$s.secret AS SELECT pg_catalog.replace(pg_catalog.concat(" \
    "pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid()), '-', '') AS secret;\n" \
    "DO $d$ DECLARE who text;" \
    " BEGIN" \
    "  FOR who IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC'" \
    "    ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END" \
    "   FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a" \
    "   WHERE c.oid = '%1$s.secret'::pg_catalog.regclass AND a.grantee <> c.relowner LOOP" \
    "   EXECUTE 'REVOKE ALL ON TABLE %1$s.secret FROM ' OPERATOR(pg_catalog.||) who;" \
    "  END LOOP;" \
    " END $d$;\n"
#define NOTE_SQL \
    "CREATE FUNCTION %1$s.emit(message json) RETURNS void LANGUAGE plpgsql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " DECLARE our_secret text;" \
    " BEGIN" \
    "  SELECT s.secret INTO STRICT our_secret FROM %1$s.secret s;" \
    "  PERFORM pg_logical_emit_message(true, '" DDL_PREFIX "'," \
    "   convert_to(concat_ws(' ', %7$s, our_secret, message), 'UTF8'));" \
    "  PERFORM pg_logical_emit_message(true, 'after " DDL_PREFIX "', '');" \
    " END $f$;\n" \
    "CREATE FUNCTION %1$s.failed(tag text, why text) RETURNS void LANGUAGE plpgsql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " BEGIN" \
    "  PERFORM %1$s.emit(json_build_object(" HEAD "tag, 'failed', why));" \
    " EXCEPTION WHEN OTHERS THEN NULL;" \
    " END $f$;\n" \
    "CREATE FUNCTION %1$s.state() RETURNS jsonb LANGUAGE plpgsql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " DECLARE" \
    "  string text := concat_ws('-', pg_backend_pid(), extract(epoch FROM statement_timestamp())," \
    "   md5(coalesce(current_query(), '')));" \
    "  state jsonb := coalesce(nullif(current_setting(%8$s, true), ''), '{}')::jsonb;" \
    " BEGIN" \
    "  IF state->>'string' IS DISTINCT FROM string THEN" \
    "   state := jsonb_build_object('string', string);" \
    "  END IF;" \
    "  RETURN state;" \
    " END $f$;\n" \
    "CREATE FUNCTION %1$s.note(command text, path text, nested boolean, objects json, tables json," \
    "  below json, columns json) RETURNS void" \
    " LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$" \
    " DECLARE" \
    "  state jsonb := %1$s.state();" \
    "  query text := current_query();" \
    "  who text := CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END;" \
    " BEGIN" \
    "  PERFORM %1$s.emit(json_build_object(" HEAD "command," \
    "   'string', state->>'string', 'query', CASE WHEN octet_length(query) <= " QUERY_MAX " THEN query END," \
    "   'ordinal', coalesce((state->>command)::int, 0) + 1, 'nested', nested," \
    "   'rewrite', coalesce((state->>'rewrite')::int, 0)," \
    "   'role', who, 'trusted', who = current_user OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = who" \
    "    AND r.rolsuper)," \
    "   'settings', json_build_object('search_path', path," \
    "    'TimeZone', current_setting('TimeZone'), 'DateStyle', current_setting('DateStyle')," \
    "    'IntervalStyle', current_setting('IntervalStyle')," \
    "    'standard_conforming_strings', current_setting('standard_conforming_strings')," \
    "    'transform_null_equals', current_setting('transform_null_equals')," \
    "    'array_nulls', current_setting('array_nulls'), 'xmloption', current_setting('xmloption')," \
    "    'default_text_search_config', current_setting('default_text_search_config'))," \
    "   'objects', objects, 'tables', tables, 'rows', below, 'columns', columns));" \
    " END $f$;\n"

/* What a command is about, and which tables. Commands of an extension's script are the extension's. */
#define FOUND_SQL \
    "CREATE FUNCTION %1$s.shape_of(relation oid) RETURNS text LANGUAGE sql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " SELECT concat_ws(' ', c.relfilenode, coalesce(a.hash, '-'), coalesce(a.altered, '-')) FROM pg_class c," \
    "  LATERAL (SELECT " SHAPE_COLUMNS_SQL("a.attgenerated::text") " AS hash, " SHAPE_ALTERED_SQL " AS altered" \
    "   FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS a" \
    " WHERE c.oid = relation AND c.relkind = 'r'" \
    " $f$;\n" \
    "CREATE FUNCTION %1$s.found_end(OUT objects json, OUT tables json, OUT oids oid[], OUT of_extension boolean)" \
    " LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$" \
    " BEGIN" \
    "  SELECT json_agg(json_build_object('type', c.object_type, 'schema', c.schema_name," \
    "    'identity', c.object_identity, 'oid', c.objid::bigint)) FILTER (WHERE NOT out)," \
    "   array_agg(DISTINCT c.relation) FILTER (WHERE NOT out AND c.relation <> 0), bool_and(c.in_extension)" \
    "  INTO objects, oids, of_extension FROM (" \
    "   SELECT d.*, coalesce(d.in_extension, false) OR coalesce(d.schema_name IN ('pg_temp', %6$s), false) AS out," \
    "    coalesce(CASE d.classid" \
    "     WHEN 'pg_class'::regclass THEN coalesce((SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = d.objid)," \
    "      d.objid)" \
    "     WHEN 'pg_constraint'::regclass THEN (SELECT k.conrelid FROM pg_constraint k WHERE k.oid = d.objid)" \
    "     WHEN 'pg_trigger'::regclass THEN (SELECT t.tgrelid FROM pg_trigger t WHERE t.oid = d.objid)" \
    "     WHEN 'pg_policy'::regclass THEN (SELECT p.polrelid FROM pg_policy p WHERE p.oid = d.objid)" \
    "     WHEN 'pg_rewrite'::regclass THEN (SELECT r.ev_class FROM pg_rewrite r WHERE r.oid = d.objid)" \
    "    END, 0::oid) AS relation" \
    "   FROM pg_event_trigger_ddl_commands() d) c;" \
    "  SELECT json_agg(json_build_object('oid', t.oid::bigint, 'schema', n.nspname, 'name', t.relname," \
    "   'shape', %1$s.shape_of(t.oid)))" \
    "  INTO tables FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace" \
    "  WHERE t.oid = ANY (oids) AND t.relkind IN ('r', 'p');" \
    " END $f$;\n"

/* Types whose constants are read the same way always and everywhere: bool, bytea, char, name, integers, text, json,
 * floats, bpchar, varchar, numeric, uuid, jsonb, arrays of some. No dates, no reg..., nothing of the user's. */
#define PLAIN_TYPES \
    "16,17,18,19,20,21,23,25,114,700,701,1042,1043,1700,2950,3802,1000,1005,1007,1009,1015,1016,1231"

/* No backslashes in patterns: the application may have standard_conforming_strings off. */
#define ROWS_SQL \
    "CREATE FUNCTION %1$s.is_constant(tree text) RETURNS boolean LANGUAGE sql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " SELECT strpos(tree, ':funcformat 0') = 0" \
    "  AND NOT EXISTS (SELECT FROM regexp_matches(tree, '[{]([A-Z]+)', 'g') AS m" \
    "   WHERE m[1] NOT IN ('CONST', 'FUNCEXPR', 'RELABELTYPE'))" \
    "  AND NOT EXISTS (SELECT FROM regexp_matches(tree, ':(?:consttype|funcresulttype|resulttype) ([0-9]+)', 'g') AS m" \
    "   WHERE NOT m[1]::bigint = ANY (ARRAY[" PLAIN_TYPES "]::bigint[]))" \
    "  AND NOT EXISTS (SELECT FROM regexp_matches(tree, ':funcid ([0-9]+)', 'g') AS m" \
    "   WHERE NOT EXISTS (SELECT FROM pg_proc p WHERE p.oid = m[1]::oid AND p.oid < 16384 AND p.provolatile = 'i'))" \
    " $f$;\n" \
    "CREATE FUNCTION %1$s.rows_of(command text, oids oid[], OUT below json, OUT columns json)" \
    " LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$" \
    " DECLARE named oid[];" \
    " BEGIN" \
    "  IF command NOT IN ('ALTER TABLE', 'ALTER FOREIGN TABLE', 'ALTER TYPE') THEN" \
    "   RETURN;" \
    "  END IF;" \
    "  named := ARRAY(SELECT unnest(oids) UNION SELECT t.oid FROM pg_class k JOIN pg_class t ON t.reloftype = k.reltype" \
    "   WHERE k.oid = ANY (oids) AND k.relkind = 'c');" \
    "  WITH RECURSIVE down AS (SELECT unnest(named) AS oid" \
    "   UNION SELECT h.inhrelid FROM down JOIN pg_inherits h ON h.inhparent = down.oid)" \
    "  SELECT json_agg(json_build_object('oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname," \
    "   'shape', %1$s.shape_of(c.oid)))" \
    "  INTO below FROM down JOIN pg_class c ON c.oid = down.oid JOIN pg_namespace n ON n.oid = c.relnamespace" \
    "  WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM pg_depend d" \
    "   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e');" \
    "  SELECT json_agg(json_build_object('schema', n.nspname, 'name', c.relname, 'identity', a.attname, 'type'," \
    "   CASE WHEN a.attidentity <> '' THEN 'unsure'" \
    "    WHEN a.atthasdef THEN CASE WHEN %1$s.is_constant((SELECT d.adbin::text FROM pg_attrdef d" \
    "     WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)) THEN 'sure' ELSE 'unsure' END" \
    "    WHEN EXISTS (WITH RECURSIVE chain AS (SELECT a.atttypid AS oid" \
    "     UNION SELECT t.typbasetype FROM chain JOIN pg_type t ON t.oid = chain.oid WHERE t.typtype = 'd')" \
    "     SELECT FROM chain JOIN pg_type t ON t.oid = chain.oid" \
    "     WHERE t.typdefault IS NOT NULL OR t.typdefaultbin IS NOT NULL) THEN 'unsure' ELSE 'sure' END))" \
    "  INTO columns FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid" \
    "  JOIN pg_namespace n ON n.oid = c.relnamespace" \
    "  WHERE a.attrelid = ANY (named) AND c.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped" \
    "  AND age(a.xmin) <= 0;" \
    " END $f$;\n"

#define END_SQL \
    "CREATE FUNCTION %1$s.end_of(command text, path text, context text) RETURNS void LANGUAGE plpgsql" \
    " SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $f$" \
    " DECLARE" \
    "  nested boolean := strpos(context, chr(10)) > 0;" \
    "  the_objects json;" \
    "  the_tables json;" \
    "  touched oid[];" \
    "  is_extension boolean;" \
    "  reached record;" \
    " BEGIN" \
    "  IF command LIKE '%% PUBLICATION' OR command LIKE '%% SUBSCRIPTION' THEN" \
    "   RETURN;" \
    "  END IF;" \
    "  BEGIN" \
    "   SELECT objects, tables, oids, of_extension INTO the_objects, the_tables, touched, is_extension"                                                            \
    "   FROM %1$s.found_end();" \
    "   IF is_extension THEN" \
    "    RETURN;" \
    "   END IF;" \
    "   IF command NOT LIKE 'DROP %%' AND the_objects IS NOT NULL THEN" \
    "    SELECT * INTO reached FROM %1$s.rows_of(command, touched);" \
    "    PERFORM %1$s.note(command, path, nested, the_objects, the_tables, reached.below, reached.columns);" \
    "   END IF;" \
    "  EXCEPTION WHEN OTHERS THEN" \
    "   PERFORM %1$s.failed(command, SQLERRM);" \
    "  END;" \
    "  BEGIN" \
    "   PERFORM %1$s.count_up(command, nested);" \
    "   PERFORM %1$s.keep_publications(command, touched, nested);" \
    "  EXCEPTION WHEN OTHERS THEN" \
    "   PERFORM %1$s.failed(command, SQLERRM);" \
    "  END;" \
    " END $f$;\n" \
    "CREATE FUNCTION %1$s.count_up(command text, nested boolean) RETURNS void LANGUAGE plpgsql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " DECLARE state jsonb := %1$s.state() - 'rewrite';" \
    " BEGIN" \
    "  IF NOT nested THEN" \
    "   state := jsonb_set(state, ARRAY[command], to_jsonb(coalesce((state->>command)::int, 0) + 1));" \
    "  END IF;" \
    "  PERFORM set_config(%8$s, state::text, true);" \
    " END $f$;\n"

#define DROP_SQL \
    "CREATE FUNCTION %1$s.dropped(command text, path text, context text) RETURNS void LANGUAGE plpgsql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " DECLARE" \
    "  objects json;" \
    "  tables json;" \
    " BEGIN" \
    "  IF command NOT LIKE 'DROP %%' OR command LIKE '%% PUBLICATION' OR command LIKE '%% SUBSCRIPTION' THEN" \
    "   RETURN;" \
    "  END IF;" \
    "  SELECT json_agg(json_build_object('type', d.object_type, 'schema', d.schema_name," \
    "    'identity', d.object_identity, 'oid', d.objid::bigint)) FILTER (WHERE d.original)," \
    "   json_agg(json_build_object('oid', d.objid::bigint, 'schema', d.schema_name, 'name', d.object_name))" \
    "   FILTER (WHERE d.object_type = 'table')" \
    "  INTO objects, tables FROM pg_event_trigger_dropped_objects() d" \
    "  WHERE NOT d.is_temporary AND d.schema_name IS DISTINCT FROM %6$s;" \
    "  IF objects IS NOT NULL THEN" \
    "   PERFORM %1$s.note(command, path, strpos(context, chr(10)) > 0, objects, tables, NULL, NULL);" \
    "  END IF;" \
    " EXCEPTION WHEN OTHERS THEN" \
    "  PERFORM %1$s.failed(command, SQLERRM);" \
    " END $f$;\n"

#define REWRITE_SQL \
    "CREATE FUNCTION %1$s.rewritten(reason int) RETURNS void LANGUAGE plpgsql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " DECLARE state jsonb := %1$s.state();" \
    " BEGIN" \
    "  PERFORM set_config(%8$s, jsonb_set(state, '{rewrite}'," \
    "   to_jsonb(coalesce((state->>'rewrite')::int, 0) | reason))::text, true);" \
    " EXCEPTION WHEN OTHERS THEN" \
    "  PERFORM %1$s.failed('ALTER TABLE', SQLERRM);" \
    " END $f$;\n"

/* Only tables that this very command has locked already, and the roots of partitions among them; after DROP INDEX those
 * that lost their identity, which it has locked, too, and so for what is below a table that was altered.
 *
 * alone: this statement is the whole transaction, as far as can be told; the lock of the publication is short. In the
 * extended protocol it cannot be told. */
#define PUBLICATIONS_SQL \
    "CREATE FUNCTION %1$s.needs_copy(command text, the_table oid, why text) RETURNS void LANGUAGE plpgsql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " BEGIN" \
    "  PERFORM %1$s.emit(json_build_object(" HEAD "command, 'suspect', why," \
    "   'tables', (SELECT json_agg(json_build_object('oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname))" \
    "    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace" \
    "    WHERE c.oid = the_table OR c.oid IN (SELECT relid FROM pg_partition_tree(the_table)))," \
    "   'rows', (SELECT json_agg(json_build_object('oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname))" \
    "    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace" \
    "    WHERE c.relkind = 'r' AND (c.oid = the_table" \
    "     OR c.oid IN (SELECT relid FROM pg_partition_tree(the_table))))));" \
    " END $f$;\n" \
    "CREATE FUNCTION %1$s.keep_one(command text, publication text, the_table oid, quoted text, wanted boolean," \
    "  alone boolean) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$" \
    " BEGIN" \
    "  IF alone OR NOT wanted THEN" \
    "   BEGIN" \
    "    EXECUTE format('ALTER PUBLICATION %%I %%s TABLE ONLY %%s', publication," \
    "     CASE WHEN wanted THEN 'ADD' ELSE 'DROP' END, quoted);" \
    "    IF wanted AND publication = %4$s AND command NOT LIKE 'CREATE %%' THEN" \
    "     PERFORM %1$s.needs_copy(command, the_table," \
    "      'it got a replica identity: earlier updates and deletes were not in the stream');" \
    "    END IF;" \
    "    RETURN;" \
    "   EXCEPTION WHEN lock_not_available THEN NULL;" \
    "   END;" \
    "  END IF;" \
    "  IF NOT wanted OR command NOT LIKE 'CREATE %%' OR NOT EXISTS (SELECT FROM pg_partition_ancestors(the_table) AS a" \
    "   JOIN pg_publication_rel r ON r.prrelid = a.relid JOIN pg_publication p ON p.oid = r.prpubid" \
    "   WHERE p.pubname = publication) THEN" \
    "   PERFORM %1$s.needs_copy(command, the_table, CASE WHEN wanted AND command NOT LIKE 'CREATE %%'" \
    "    THEN 'it got a replica identity: earlier updates and deletes were not in the stream'" \
    "    ELSE 'it was not published at once, since a transaction was open' END);" \
    "  END IF;" \
    " END $f$;\n" \
    "CREATE FUNCTION %1$s.keep_publications(command text, oids oid[], nested boolean) RETURNS void LANGUAGE plpgsql" \
    " SET search_path = pg_catalog, pg_temp AS $f$" \
    " DECLARE" \
    "  alone boolean := NOT nested AND statement_timestamp() = transaction_timestamp()" \
    "   AND strpos(rtrim(current_query(), concat('; ', chr(9), chr(10), chr(13))), ';') = 0;" \
    " BEGIN" \
    "  IF command NOT IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER TABLE'," \
    "   'CREATE INDEX', 'DROP INDEX', 'ALTER INDEX') THEN" \
    "   RETURN;" \
    "  END IF;" \
    "  PERFORM %1$s.keep_one(command, k.pubname, k.oid, k.quoted, k.wanted, alone) FROM (" \
    "   SELECT p.pubname::text, i.oid, format('%%I.%%I', i.nspname, i.relname) AS quoted," \
    "    i.is_listed AND (i.has_identity OR p.pubname = %3$s) AS wanted" \
    "   FROM (%5$s) AS i JOIN pg_publication p ON p.pubname IN (%3$s, %4$s) AND NOT p.puballtables" \
    "   LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = i.oid" \
    "   WHERE (r.prrelid IS NOT NULL) <> (i.is_listed AND (i.has_identity OR p.pubname = %3$s))" \
    "    AND CASE WHEN command = 'DROP INDEX' THEN r.prrelid IS NOT NULL" \
    "     ELSE i.oid = ANY (oids) OR i.oid IN (SELECT h.inhparent FROM pg_inherits h WHERE h.inhrelid = ANY (oids))" \
    "      OR (r.prrelid IS NOT NULL AND i.oid IN (WITH RECURSIVE down AS (SELECT h.inhrelid FROM pg_inherits h" \
    "        WHERE h.inhparent = ANY (oids) UNION SELECT h.inhrelid FROM down JOIN pg_inherits h" \
    "        ON h.inhparent = down.inhrelid) SELECT inhrelid FROM down)) END" \
    "   OFFSET 0) AS k;" \
    " END $f$;\n"

/* The triggers' own functions: in the application's search_path, so as bare as can be. */
#define TRIGGER_SQL(event, suffix, body) \
    "CREATE FUNCTION %1$s.on_" suffix "() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $f$" \
    " DECLARE context pg_catalog.text;" \
    " BEGIN" \
    "  GET DIAGNOSTICS context = PG_CONTEXT;" \
    "  PERFORM %1$s." body ";" \
    " END $f$;\n" \
    "CREATE EVENT TRIGGER %2$s_" suffix "\" ON " event " EXECUTE PROCEDURE %1$s.on_" suffix "();\n" \
    "ALTER EVENT TRIGGER %2$s_" suffix "\" ENABLE ALWAYS;\n"

#define TRIGGERS_SQL \
    TRIGGER_SQL("ddl_command_end", "end", "end_of(TG_TAG, pg_catalog.current_setting('search_path'), context)") \
    TRIGGER_SQL("sql_drop", "drop", "dropped(TG_TAG, pg_catalog.current_setting('search_path'), context)") \
    TRIGGER_SQL("table_rewrite", "rw", "rewritten(pg_catalog.pg_event_trigger_table_rewrite_reason())")
/* clang-format on */

/* A quoted name without its last quote, for suffixes: the schema's name holds nothing that would have to be doubled,
 * sql_ident would double it anyway. */
static const char *open_ident(Arena *arena, const char *name) {
    const char *quoted = sql_ident(arena, name);

    return arena_strndup(arena, quoted, strlen(quoted) - 1);
}

const char *capture_create_sql(Arena *arena, const SeamNames *names, int server_version) {
    const char *schema = ddl_capture_schema(arena, names);

    return arena_printf(
        arena,
        "CREATE SCHEMA %1$s;\n" SECRET_SQL NOTE_SQL FOUND_SQL ROWS_SQL END_SQL DROP_SQL REWRITE_SQL PUBLICATIONS_SQL
        "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %1$s FROM PUBLIC;\n" TRIGGERS_SQL,
        sql_ident(arena, schema), open_ident(arena, names->slot), sql_literal(arena, names->publication_all),
        sql_literal(arena, names->publication_keys), seam_identities_sql(arena, server_version),
        sql_literal(arena, schema), sql_literal(arena, names->slot),
        sql_literal(arena, arena_printf(arena, DDL_PREFIX "_%s", names->slot)));
}

const char *capture_drop_sql(Arena *arena, const SeamNames *names) {
    const char *prefix = open_ident(arena, names->slot);

    return arena_printf(arena,
                        "DROP EVENT TRIGGER IF EXISTS %1$s_end\"; DROP EVENT TRIGGER IF EXISTS %1$s_drop\";"
                        " DROP EVENT TRIGGER IF EXISTS %1$s_rw\"; DROP SCHEMA IF EXISTS %2$s CASCADE;",
                        prefix, sql_ident(arena, ddl_capture_schema(arena, names)));
}
