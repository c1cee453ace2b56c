-- Every kind of object that PostgreSQL 15 knows, in its odd forms, and every built-in type with its edge values.
--
-- Load with: psql -X -v ON_ERROR_STOP=1 -f torture_roles.sql -f torture.sql DATABASE   (superuser, empty database).
-- Its sections: schemas, extensions, types, functions, operators, text search, foreign data, tables, constraints,
-- indexes, views, rules, triggers, policies, data, large objects, grants, comments, database.
--
-- Rule for additions: `pg_dump` of this database, restored by pg_restore and dumped again, gives the same text.
-- Left out because pg_dump itself cannot carry them: constraints or indexes whose function reads another table
-- (restored before the rows they look at), operator classes marked DEFAULT for built-in types that a second
-- load would clash with, a child attached by ALTER TABLE ... INHERIT whose columns stand in another order than its
-- parent's (pg_dump puts the parent's first), and temporary objects. Hash partitions by enum are a test of their own: the hash depends on
-- OIDs, so rows move between leaves and leaves cannot be compared one by one. Tablespaces and security labels need
-- things outside the database.
\set ON_ERROR_STOP 1
SET client_min_messages = warning;
SET check_function_bodies = on;
SET statement_timeout = 0;

-- ---------------------------------------------------------------- schemas
CREATE SCHEMA torture AUTHORIZATION torture_owner;
CREATE SCHEMA "Weird ""Schema"" $1 %s \n äöü";
CREATE SCHEMA "select" AUTHORIZATION torture_other;
CREATE SCHEMA empty_schema;
CREATE SCHEMA torture_ext;
ALTER SCHEMA public OWNER TO torture_owner;
SET search_path = torture, public;

-- ---------------------------------------------------------------- extensions (each only where contrib has it)
SELECT format('CREATE EXTENSION %I SCHEMA torture_ext', name)
FROM pg_available_extensions
WHERE name IN ('hstore', 'citext', 'pg_trgm', 'btree_gist', 'pgcrypto')
ORDER BY name \gexec
SELECT count(*) = 5 AS have_contrib FROM pg_extension
WHERE extname IN ('hstore', 'citext', 'pg_trgm', 'btree_gist', 'pgcrypto') \gset
\if :have_contrib
COMMENT ON EXTENSION hstore IS 'our own words about hstore';
\endif

-- ---------------------------------------------------------------- access methods, languages
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
CREATE ACCESS METHOD gist2 TYPE INDEX HANDLER gisthandler;
-- Handlers of our own: pg_dump writes a language without them when they belong to an extension or to the system.
CREATE FUNCTION plcrane_call() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION plcrane_inline(internal) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_inline_handler';
CREATE FUNCTION plcrane_validate(oid) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE plcrane HANDLER plcrane_call INLINE plcrane_inline VALIDATOR plcrane_validate;
CREATE LANGUAGE plcrane_untrusted HANDLER plcrane_call;
ALTER LANGUAGE plcrane OWNER TO torture_owner;

-- ---------------------------------------------------------------- collations, conversions
CREATE COLLATION c_libc (provider = libc, locale = 'C');
CREATE COLLATION c_libc_two (provider = libc, lc_collate = 'C', lc_ctype = 'POSIX');
CREATE COLLATION c_copy FROM "C";
CREATE COLLATION c_german (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION c_no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION "C Weird ""Collation""" (provider = icu, locale = 'en-u-kn-true');
CREATE CONVERSION latin_to_utf FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE DEFAULT CONVERSION latin_default FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;

-- ---------------------------------------------------------------- types
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', '', 'it''s "quoted"', 'äöü', 'with, comma', E'line\nbreak');
ALTER TYPE mood ADD VALUE 'between' BEFORE 'ok';
ALTER TYPE mood ADD VALUE 'last';
CREATE TYPE empty_enum AS ENUM ();
CREATE TYPE "Weird ""Schema"" $1 %s \n äöü"."Enum" AS ENUM ('A', 'a', 'B b');
CREATE TYPE point3 AS (x double precision, y double precision, z double precision);
CREATE TYPE nested AS (id integer, at point3, moods mood[], "odd ""name""" text COLLATE "C");
CREATE TYPE empty_composite AS ();
CREATE TYPE address AS (street text, zip varchar(10));
CREATE TYPE shell_only;
CREATE DOMAIN positive AS integer CONSTRAINT positive_check CHECK (VALUE > 0);
CREATE DOMAIN email AS text COLLATE "C" DEFAULT 'nobody@example.com' NOT NULL
    CONSTRAINT has_at CHECK (VALUE ~ '@') CONSTRAINT "short ""enough""" CHECK (length(VALUE) < 100);
CREATE DOMAIN small_email AS email CHECK (length(VALUE) < 50);
CREATE DOMAIN int_list AS integer[] CHECK (array_length(VALUE, 1) < 10);
CREATE DOMAIN point3_above AS point3 CHECK ((VALUE).z >= 0);
CREATE DOMAIN lax AS integer;
CREATE FUNCTION float_diff(a double precision, b double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT AS 'SELECT a - b';
CREATE TYPE float_range AS RANGE (subtype = double precision, subtype_diff = float_diff);
CREATE TYPE text_range AS RANGE (subtype = text, collation = "C", multirange_type_name = text_multirange);
CREATE TYPE mood_range AS RANGE (subtype = mood);
-- A base type made of text's own functions.
CREATE TYPE label;
CREATE FUNCTION label_in(cstring) RETURNS label LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textin';
CREATE FUNCTION label_out(label) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textout';
CREATE FUNCTION label_recv(internal) RETURNS label LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'textrecv';
CREATE FUNCTION label_send(label) RETURNS bytea LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'textsend';
CREATE TYPE label (INPUT = label_in, OUTPUT = label_out, RECEIVE = label_recv, SEND = label_send,
    LIKE = text, CATEGORY = 'S', PREFERRED = false, DEFAULT = 'none', DELIMITER = ';', COLLATABLE = true);
CREATE TYPE tiny;
CREATE FUNCTION tiny_in(cstring) RETURNS tiny LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION tiny_out(tiny) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE tiny (INPUT = tiny_in, OUTPUT = tiny_out, LIKE = integer);

-- ---------------------------------------------------------------- functions, procedures, aggregates
CREATE FUNCTION plain(a integer, b integer DEFAULT 2, OUT total integer) LANGUAGE sql IMMUTABLE LEAKPROOF
    COST 3.5 PARALLEL SAFE AS 'SELECT a + b';
CREATE FUNCTION plain(a text) RETURNS text LANGUAGE sql AS $$ SELECT 'overloaded ' || a || '$1' $$;
CREATE FUNCTION atomic_body(a integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC
    SELECT CASE WHEN a > 0 THEN a * 2 ELSE 0 END;
END;
CREATE FUNCTION returns_expression(a numeric) RETURNS numeric LANGUAGE sql IMMUTABLE RETURN round(a * 1.19, 2);
CREATE FUNCTION variadic_sum(VARIADIC numbers integer[]) RETURNS bigint LANGUAGE sql AS 'SELECT sum(n) FROM unnest(numbers) n';
CREATE FUNCTION rows_of(n integer DEFAULT 3) RETURNS TABLE (i integer, "odd ""column""" text) LANGUAGE plpgsql
    STABLE ROWS 7 SECURITY DEFINER SET search_path = torture, pg_temp SET work_mem = '8MB'
    SET "DateStyle" = 'ISO, DMY' AS $f$
BEGIN
    -- a body with 'quotes', $$dollars$$, a \backslash and a % percent
    RETURN QUERY SELECT g, 'row ' || g FROM generate_series(1, n) g;
END $f$;
CREATE FUNCTION poly(anyelement, anyarray) RETURNS anyarray LANGUAGE sql AS 'SELECT array_prepend($1, $2)';
CREATE FUNCTION "Odd ""Function"" $1"("Odd Arg" integer) RETURNS SETOF integer LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION crlf_body() RETURNS text LANGUAGE sql AS E'SELECT ''a''::text\r\n  -- carriage return above\r\n';
CREATE FUNCTION number_rows() RETURNS bigint LANGUAGE internal WINDOW IMMUTABLE AS 'window_row_number';
CREATE FUNCTION in_plcrane() RETURNS integer LANGUAGE plcrane AS 'BEGIN RETURN 42; END';
CREATE PROCEDURE proc(IN a integer, INOUT b integer DEFAULT 1) LANGUAGE plpgsql AS 'BEGIN b := a + b; COMMIT; END';
CREATE PROCEDURE "Proc "() LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;
CREATE FUNCTION trigger_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.note := coalesce(NEW.note, '') || ' stamped by ' || TG_NAME;
    RETURN NEW;
END $$;
CREATE FUNCTION trigger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % takes no rows any more', TG_TABLE_NAME;
END $$;
CREATE FUNCTION trigger_swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION trigger_count() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    SELECT count(*) INTO n FROM new_rows;
    RETURN NULL;
END $$;
CREATE FUNCTION event_quiet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE AGGREGATE total_of(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0', COMBINEFUNC = int4pl,
    PARALLEL = safe, SORTOP = OPERATOR(pg_catalog.>));
CREATE AGGREGATE total_of(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE moving_total(double precision) (SFUNC = float8pl, STYPE = double precision, INITCOND = '0',
    MSFUNC = float8pl, MINVFUNC = float8mi, MSTYPE = double precision, MINITCOND = '0', FINALFUNC_MODIFY = read_only);
CREATE AGGREGATE my_percentile(double precision ORDER BY anyelement) (SFUNC = ordered_set_transition,
    STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE AGGREGATE my_rank(VARIADIC "any" ORDER BY VARIADIC "any") (SFUNC = ordered_set_transition_multi,
    STYPE = internal, FINALFUNC = rank_final, FINALFUNC_EXTRA, HYPOTHETICAL);
CREATE AGGREGATE "Odd ""Aggregate"""(text, text) (SFUNC = string_agg_transfn, STYPE = internal, FINALFUNC = string_agg_finalfn);
CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal),
    TO SQL WITH FUNCTION int4recv(internal));

-- ---------------------------------------------------------------- operators, classes, families, casts
CREATE FUNCTION mod_equal(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 % 10 = $2 % 10';
CREATE FUNCTION mod_unequal(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 % 10 <> $2 % 10';
CREATE FUNCTION factorial_like(integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 * 2';
CREATE OPERATOR ==% (FUNCTION = mod_equal, LEFTARG = integer, RIGHTARG = integer, COMMUTATOR = ==%,
    NEGATOR = <>%, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
CREATE OPERATOR <>% (FUNCTION = mod_unequal, LEFTARG = integer, RIGHTARG = integer, COMMUTATOR = <>%,
    NEGATOR = ==%, RESTRICT = neqsel, JOIN = neqjoinsel);
CREATE OPERATOR @#@ (FUNCTION = factorial_like, RIGHTARG = integer);
CREATE FUNCTION compare_down(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS 'SELECT pg_catalog.btint4cmp($2, $1)';
CREATE FUNCTION compare_down(integer, bigint) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS 'SELECT pg_catalog.btint84cmp($2, $1)';
CREATE OPERATOR FAMILY down_family USING btree;
CREATE OPERATOR CLASS down_class FOR TYPE integer USING btree FAMILY down_family AS
    OPERATOR 1 > (integer, integer), OPERATOR 2 >= (integer, integer), OPERATOR 3 = (integer, integer),
    OPERATOR 4 <= (integer, integer), OPERATOR 5 < (integer, integer), FUNCTION 1 compare_down(integer, integer);
CREATE OPERATOR FAMILY empty_family USING hash;
ALTER OPERATOR FAMILY down_family USING btree ADD
    OPERATOR 1 > (integer, bigint), OPERATOR 2 >= (integer, bigint), OPERATOR 3 = (integer, bigint),
    OPERATOR 4 <= (integer, bigint), OPERATOR 5 < (integer, bigint), FUNCTION 1 (integer, bigint) compare_down(integer, bigint);
CREATE OPERATOR CLASS "Storage Class" FOR TYPE point USING gist2 AS STORAGE box,
    OPERATOR 11 |>> (point, point), FUNCTION 1 gist_point_consistent(internal, point, smallint, oid, internal),
    FUNCTION 2 gist_box_union(internal, internal), FUNCTION 3 gist_point_compress(internal),
    FUNCTION 5 gist_box_penalty(internal, internal, internal), FUNCTION 6 gist_box_picksplit(internal, internal),
    FUNCTION 7 gist_box_same(box, box, internal);
CREATE FUNCTION point3_to_text(point3) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT ($1).x || '/' || ($1).y $$;
CREATE CAST (point3 AS text) WITH FUNCTION point3_to_text(point3) AS ASSIGNMENT;
CREATE CAST (label AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (text AS label) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (integer AS mood) WITH INOUT;

-- ---------------------------------------------------------------- text search
CREATE TEXT SEARCH PARSER my_parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
    LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE my_template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY my_dictionary (TEMPLATE = my_template, STOPWORDS = english, ACCEPT = false);
CREATE TEXT SEARCH DICTIONARY my_stem (TEMPLATE = snowball, LANGUAGE = german);
CREATE TEXT SEARCH CONFIGURATION my_config (PARSER = my_parser);
ALTER TEXT SEARCH CONFIGURATION my_config ADD MAPPING FOR asciiword, word WITH my_dictionary, my_stem, simple;
CREATE TEXT SEARCH CONFIGURATION german_copy (COPY = german);
ALTER TEXT SEARCH CONFIGURATION german_copy DROP MAPPING FOR email, url;

-- ---------------------------------------------------------------- foreign data
CREATE FOREIGN DATA WRAPPER fdw_plain;
CREATE FOREIGN DATA WRAPPER "Fdw ""Odd""" OPTIONS (dbname 'it''s');
CREATE SERVER srv_plain TYPE 'kind' VERSION '1.2' FOREIGN DATA WRAPPER fdw_plain OPTIONS (host 'nowhere', "odd key" 'v\alue');
CREATE SERVER "Srv ""Odd""" FOREIGN DATA WRAPPER "Fdw ""Odd""" OPTIONS (host 'example.invalid', port '5432');
CREATE USER MAPPING FOR torture_reader SERVER srv_plain OPTIONS (who 'reader', secret 'pass''word');
CREATE USER MAPPING FOR PUBLIC SERVER "Srv ""Odd""";
CREATE FOREIGN TABLE foreign_plain (id integer OPTIONS (column_name 'ID') NOT NULL, v text COLLATE "C" DEFAULT 'x',
    CONSTRAINT foreign_check CHECK (id > 0)) SERVER srv_plain OPTIONS (table_name 'far away', fetch '10');

-- ---------------------------------------------------------------- sequences
CREATE SEQUENCE seq_plain;
CREATE SEQUENCE seq_called; SELECT nextval('seq_called'), nextval('seq_called') \g /dev/null
CREATE SEQUENCE seq_set_not_called; SELECT setval('seq_set_not_called', 77, false) \g /dev/null
CREATE SEQUENCE seq_small AS smallint INCREMENT 5 MINVALUE 10 MAXVALUE 30 START 15 CACHE 3 CYCLE;
SELECT nextval('seq_small') \g /dev/null
CREATE SEQUENCE seq_down INCREMENT -7 MINVALUE -1000000 MAXVALUE -1 START -1;
SELECT nextval('seq_down'), nextval('seq_down') \g /dev/null
CREATE SEQUENCE seq_big MINVALUE -9223372036854775808 MAXVALUE 9223372036854775807 START 9223372036854775807;
SELECT nextval('seq_big') \g /dev/null
CREATE SEQUENCE "Weird ""Schema"" $1 %s \n äöü"."Seq ""1"" 'x'"; SELECT setval('"Weird ""Schema"" $1 %s \n äöü"."Seq ""1"" ''x''"', 5) \g /dev/null

-- ---------------------------------------------------------------- tables: shapes
CREATE TABLE no_columns ();
CREATE TABLE no_columns_left (a integer);
ALTER TABLE no_columns_left DROP COLUMN a;
CREATE TABLE only_generated (a integer GENERATED ALWAYS AS (7) STORED, b text GENERATED ALWAYS AS ('x' || 'y') STORED);
CREATE TABLE no_key (a integer, b text);
CREATE TABLE empty_table (id integer PRIMARY KEY, v text);
CREATE TABLE identity_always (id integer GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 10 CACHE 2) PRIMARY KEY, v text);
CREATE TABLE identity_default (id bigint GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME identity_named_seq CYCLE MAXVALUE 1000) PRIMARY KEY, v text);
CREATE TABLE serials (a smallserial, b serial PRIMARY KEY, c bigserial, d integer DEFAULT nextval('seq_plain'));
ALTER SEQUENCE seq_called OWNED BY serials.d;
CREATE TABLE generated (id integer PRIMARY KEY, a integer, b integer,
    total integer GENERATED ALWAYS AS (a + b) STORED NOT NULL, upper_a text GENERATED ALWAYS AS ((a * 2)::text) STORED);
CREATE UNLOGGED TABLE unlogged (id integer PRIMARY KEY, v text);
CREATE TABLE dropped_columns (gone1 integer, id integer PRIMARY KEY, gone2 text, v text DEFAULT 'd', gone3 jsonb);
INSERT INTO dropped_columns SELECT g, g, 'x', 'v' || g, '{}' FROM generate_series(1, 100) g;
ALTER TABLE dropped_columns DROP COLUMN gone1, DROP COLUMN gone2, DROP COLUMN gone3;
ALTER TABLE dropped_columns ADD COLUMN late integer NOT NULL DEFAULT 5;
CREATE TABLE options (id integer PRIMARY KEY WITH (fillfactor = 70), a text, b text, c bytea, d integer, e text)
    WITH (fillfactor = 60, autovacuum_enabled = false, parallel_workers = 2, toast.autovacuum_enabled = false,
          toast_tuple_target = 512);
ALTER TABLE options ALTER a SET STORAGE EXTERNAL, ALTER b SET STORAGE MAIN, ALTER c SET STORAGE PLAIN,
    ALTER a SET COMPRESSION pglz, ALTER d SET STATISTICS 500, ALTER e SET STATISTICS 0,
    ALTER d SET (n_distinct = -0.5, n_distinct_inherited = 100);
CREATE TABLE on_heap2 (id integer PRIMARY KEY, v text) USING heap2;
CREATE TABLE typed OF address (PRIMARY KEY (street), zip WITH OPTIONS DEFAULT '00000');
CREATE TABLE custom_types (id integer PRIMARY KEY, m mood DEFAULT 'ok', ms mood[], p point3, ps point3[], n nested, ns nested[],
    addr address, dom positive, mail email, mails small_email[], il int_list, up point3_above, lb label, lbs label[], tn tiny,
    fr float_range, frm float_multirange, tr text_range, mr mood_range, rows_of_table dropped_columns, table_rows options[],
    odd "Weird ""Schema"" $1 %s \n äöü"."Enum", lx lax);
CREATE TABLE plain_defaults (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, made timestamptz DEFAULT now(),
    v text DEFAULT E'it''s a \\ "default"\n', n integer DEFAULT plain(1, 2), c text COLLATE c_no_case);
CREATE TABLE "Weird ""Schema"" $1 %s \n äöü"."Table with ""quotes"", 'apostrophes', dots.and\backslash %s $1"
    ("Column ""one""" integer PRIMARY KEY, "select" text, "with space" text, "with.dot" text, "%s" text, "$1" text,
     "back\slash" text, "tab	inside" text, "new
line" text, "äöü 漢字 🐘" text, "a,b" text, "(paren)" text, ";--" text, "UPPER" text, "upper" text, "'" text, "/*" text);
CREATE TABLE "select"."from" ("where" integer PRIMARY KEY, "order" text, "user" text, "table" text);
CREATE TABLE torture."new
line table" ("id
x" integer PRIMARY KEY, v text);
CREATE TABLE torture."漢字 🐘" ("ключ" integer PRIMARY KEY, "価値" text);
CREATE TABLE torture."Case" (id integer PRIMARY KEY);
CREATE TABLE torture."case" (id integer PRIMARY KEY);
CREATE TABLE torture."pg_dump.table.of.dots" (id integer);
CREATE TABLE torture."name of exactly sixty-three bytes, the longest that there may be" (id integer);
CREATE TABLE torture."--comment" (id integer, "\." text);
SELECT format('CREATE TABLE torture.wide (id integer PRIMARY KEY, %s)',
    string_agg(format('c%s %s', g, (ARRAY['integer','smallint','boolean','text','date'])[1 + g % 5]), ', ' ORDER BY g))
FROM generate_series(1, 1200) g \gexec

-- inheritance: several parents, merged columns, local defaults
CREATE TABLE parent_a (id integer NOT NULL, a text DEFAULT 'parent', CONSTRAINT a_short CHECK (length(a) < 100),
    CONSTRAINT only_parent CHECK (id > 0) NO INHERIT);
CREATE TABLE parent_b (id integer NOT NULL, b integer);
CREATE TABLE child_ab (c text, b integer DEFAULT 9) INHERITS (parent_a, parent_b);
CREATE TABLE grandchild (d integer, CONSTRAINT own CHECK (d > 0)) INHERITS (child_ab);
ALTER TABLE child_ab ALTER a SET DEFAULT 'child';
CREATE TABLE late_child (id integer NOT NULL, a text, extra integer, CONSTRAINT a_short CHECK (length(a) < 100));
ALTER TABLE late_child INHERIT parent_a;

-- partitions: range with a column order of its own, list, hash, several levels, defaults, a foreign one
CREATE TABLE by_range (id integer NOT NULL, at date NOT NULL, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE by_range_2023 PARTITION OF by_range FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE by_range_2024 (gone integer, v text, at date NOT NULL, id integer NOT NULL);
ALTER TABLE by_range_2024 DROP COLUMN gone;
ALTER TABLE by_range ATTACH PARTITION by_range_2024 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE by_range_2025 PARTITION OF by_range (v DEFAULT 'of 2025', CONSTRAINT not_bad CHECK (v <> 'bad'))
    FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') WITH (fillfactor = 80);
CREATE TABLE by_range_rest PARTITION OF by_range DEFAULT;
CREATE TABLE by_list (kind text COLLATE "C" NOT NULL, id integer NOT NULL, v text) PARTITION BY LIST (kind);
CREATE TABLE by_list_ab PARTITION OF by_list FOR VALUES IN ('a', 'b', 'it''s');
CREATE TABLE by_list_c PARTITION OF by_list FOR VALUES IN ('c') PARTITION BY HASH (id);
CREATE TABLE by_list_c0 PARTITION OF by_list_c FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE by_list_c1 PARTITION OF by_list_c FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY RANGE (id);
CREATE TABLE by_list_c1_low PARTITION OF by_list_c1 FOR VALUES FROM (0) TO (100);
CREATE TABLE by_list_c1_rest PARTITION OF by_list_c1 DEFAULT;
CREATE TABLE by_list_default PARTITION OF by_list DEFAULT;
CREATE TABLE by_text_hash (k text NOT NULL, v integer) PARTITION BY HASH (k);
CREATE TABLE by_text_hash_0 PARTITION OF by_text_hash FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE by_text_hash_1 PARTITION OF by_text_hash FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE "By Text ""Hash"" 2" PARTITION OF by_text_hash FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE by_text_hash_3 PARTITION OF by_text_hash FOR VALUES WITH (MODULUS 4, REMAINDER 3);
CREATE TABLE by_expression (id integer, at timestamptz, v text) PARTITION BY RANGE ((id % 100), v COLLATE "C");
CREATE TABLE by_expression_1 PARTITION OF by_expression FOR VALUES FROM (MINVALUE, MINVALUE) TO (50, 'm');
CREATE TABLE by_expression_2 PARTITION OF by_expression FOR VALUES FROM (50, 'm') TO (MAXVALUE, MAXVALUE);
CREATE TABLE no_partitions (id integer) PARTITION BY LIST (id);
CREATE TABLE with_foreign (id integer NOT NULL, v text) PARTITION BY RANGE (id);
CREATE TABLE with_foreign_here PARTITION OF with_foreign FOR VALUES FROM (0) TO (1000);
CREATE FOREIGN TABLE with_foreign_there PARTITION OF with_foreign FOR VALUES FROM (1000) TO (2000) SERVER srv_plain;
CREATE UNLOGGED TABLE by_list_unlogged PARTITION OF by_list FOR VALUES IN ('unlogged');

-- ---------------------------------------------------------------- every built-in type
CREATE TABLE all_types (id integer PRIMARY KEY, c_bool boolean, c_int2 smallint, c_int4 integer, c_int8 bigint, c_numeric numeric,
    c_numeric_ps numeric(12, 3), c_numeric_neg numeric(5, -2), c_float4 real, c_float8 double precision, c_money money, c_char "char", c_bpchar char(5),
    c_varchar varchar(20), c_text text, c_name name, c_bytea bytea, c_date date, c_time time, c_timetz timetz, c_time0 time(0),
    c_timestamp timestamp, c_timestamptz timestamptz, c_timestamp3 timestamp(3), c_interval interval, c_interval_ym interval year to month,
    c_interval_s3 interval second(3), c_uuid uuid, c_json json, c_jsonb jsonb, c_jsonpath jsonpath, c_xml xml, c_inet inet, c_cidr cidr, c_macaddr macaddr,
    c_macaddr8 macaddr8, c_bit bit(9), c_varbit varbit, c_point point, c_line line, c_lseg lseg, c_box box, c_path path, c_polygon polygon,
    c_circle circle, c_tsvector tsvector, c_tsquery tsquery, c_int4range int4range, c_int8range int8range, c_numrange numrange,
    c_tsrange tsrange, c_tstzrange tstzrange, c_daterange daterange, c_int4multirange int4multirange, c_nummultirange nummultirange,
    c_tstzmultirange tstzmultirange, c_datemultirange datemultirange, c_pg_lsn pg_lsn, c_txid txid_snapshot, c_snapshot pg_snapshot, c_xid xid, c_xid8 xid8, c_cid cid, c_tid tid,
    c_oid oid, c_regclass regclass, c_regtype regtype, c_regproc regproc, c_regprocedure regprocedure, c_regoper regoper, c_regoperator regoperator,
    c_regrole regrole, c_regnamespace regnamespace, c_regconfig regconfig, c_regdictionary regdictionary, c_regcollation regcollation,
    c_int2vector int2vector, c_oidvector oidvector, c_refcursor refcursor, c_aclitem aclitem,
    a_bool boolean[], a_int4 integer[], a_text text[], a_float8 double precision[], a_numeric numeric[], a_bytea bytea[], a_date date[],
    a_timestamptz timestamptz[], a_interval interval[], a_jsonb jsonb[], a_uuid uuid[], a_inet inet[], a_point point[], a_box box[], a_bit bit(3)[],
    a_range int4range[], a_tsvector tsvector[], a_regclass regclass[], a_xml xml[]);

-- ---------------------------------------------------------------- constraints
CREATE TABLE checks (id integer, a integer CHECK (a > 0), b integer, CONSTRAINT "odd ""check""" CHECK (a + b < 1000),
    CONSTRAINT no_inherit CHECK (b <> 13) NO INHERIT);
INSERT INTO checks VALUES (1, 1, 1), (2, 2, -5), (3, NULL, NULL);
ALTER TABLE checks ADD CONSTRAINT not_valid_check CHECK (b > 0) NOT VALID;
CREATE TABLE uniques (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, a integer, b integer, c text, d integer,
    UNIQUE (a) INCLUDE (c) WITH (fillfactor = 50), CONSTRAINT nulls_once UNIQUE NULLS NOT DISTINCT (b),
    CONSTRAINT later UNIQUE (c, d) DEFERRABLE);
CREATE TABLE exclusions (id integer, during tsrange, at point, EXCLUDE USING gist (during WITH &&) WHERE (id > 0),
    CONSTRAINT not_same_place EXCLUDE USING gist (circle(at, 1) WITH &&) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT not_same_id EXCLUDE (id WITH =) INCLUDE (during));
CREATE TABLE fk_target (a integer, b integer, c text UNIQUE, PRIMARY KEY (a, b));
CREATE TABLE fk_source (id integer PRIMARY KEY, a integer, b integer, c text, self integer REFERENCES fk_source DEFERRABLE INITIALLY DEFERRED,
    set_null_a integer, set_null_b integer,
    CONSTRAINT full_match FOREIGN KEY (a, b) REFERENCES fk_target MATCH FULL ON UPDATE CASCADE ON DELETE RESTRICT,
    CONSTRAINT one_column_null FOREIGN KEY (set_null_a, set_null_b) REFERENCES fk_target ON DELETE SET NULL (set_null_b),
    CONSTRAINT by_unique FOREIGN KEY (c) REFERENCES fk_target (c) ON DELETE SET DEFAULT ON UPDATE NO ACTION DEFERRABLE);
CREATE TABLE circle_a (id integer PRIMARY KEY, b integer);
CREATE TABLE circle_b (id integer PRIMARY KEY, a integer NOT NULL REFERENCES circle_a ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE fk_not_valid (id integer PRIMARY KEY, ref integer);
CREATE TABLE fk_part (id integer NOT NULL, kind text NOT NULL, up_id integer, up_at date, plain integer REFERENCES empty_table,
    PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE fk_part_1 PARTITION OF fk_part FOR VALUES IN ('x');
CREATE TABLE fk_part_2 PARTITION OF fk_part DEFAULT PARTITION BY HASH (id);
CREATE TABLE fk_part_2a PARTITION OF fk_part_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE fk_part_2b PARTITION OF fk_part_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE fk_to_part (id integer, a integer, kind text);

-- ---------------------------------------------------------------- data
INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns SELECT FROM generate_series(1, 6);
INSERT INTO no_columns_left SELECT FROM generate_series(1, 3);
INSERT INTO only_generated SELECT FROM generate_series(1, 4);
INSERT INTO no_key VALUES (1, 'same'), (1, 'same'), (NULL, NULL), (2, ''), (3, '\N'), (4, '\.'), (5, E'\\.\n\\.'), (6, E'tab\there'),
    (7, E'cr\r lf\n crlf\r\n'), (8, E'\b\f\v'), (9, E'\x01\x7f'), (10, 'äöü 漢字 🐘 é'), (11, '\\N'), (12, 'NULL'), (13, '"'), (14, E'trailing \\');
INSERT INTO identity_always (v) SELECT 'row ' || g FROM generate_series(1, 5) g;
INSERT INTO identity_always OVERRIDING SYSTEM VALUE VALUES (-5, 'by hand');
INSERT INTO identity_default (v) VALUES ('a'), ('b'); INSERT INTO identity_default VALUES (500, 'given');
INSERT INTO serials (a) VALUES (DEFAULT), (DEFAULT), (DEFAULT);
INSERT INTO generated SELECT g, g, g * g FROM generate_series(1, 50) g;
INSERT INTO unlogged SELECT g, 'u' FROM generate_series(1, 10) g;
INSERT INTO options SELECT g, repeat('a', g * 300), repeat('b', g * 300), '\x00', g, 'e' FROM generate_series(1, 20) g;
INSERT INTO options VALUES (21, (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 40000) g), repeat('x', 3000000), '', 1, NULL);
INSERT INTO on_heap2 SELECT g, 'h' || g FROM generate_series(1, 500) g;
INSERT INTO typed (street) VALUES ('High Street'); INSERT INTO typed VALUES ('Low Street', '12345');
INSERT INTO custom_types (id) VALUES (1);
INSERT INTO custom_types VALUES (2, 'it''s "quoted"', ARRAY['', 'with, comma', E'line\nbreak', NULL]::mood[], (1, 'NaN', '-infinity'),
    ARRAY[(1, 2, 3), (NULL, -0.0, 1e300), NULL]::point3[], (1, (1, 2, 3), '{sad,ok}', 'a"b\c,(d)'), ARRAY[(NULL, NULL, NULL, NULL), NULL, (2, (0, 0, 0), '{}', '')]::nested[],
    ('x, "y"', NULL), 42, 'a@b', '{a@b,c@d}', '{1,2,3}', (1, 2, 3), 'a label; so', ARRAY['a', 'b;c', NULL]::label[], '-7',
    '[1.5,2.5)', '{[1,2),[3,4)}', '[a,b)', '[sad,happy]', (1, 'v', 2), ARRAY[(1, 'a', 'b', '\x01', 2, 'e')]::options[], 'B b', -1);
ALTER DOMAIN lax ADD CONSTRAINT lax_late CHECK (VALUE > 0) NOT VALID;
INSERT INTO plain_defaults (id, made) VALUES ('00000000-0000-0000-0000-000000000000', '2020-02-29 12:34:56.789012+00'),
    ('ffffffff-ffff-ffff-ffff-ffffffffffff', '-infinity');
INSERT INTO "Weird ""Schema"" $1 %s \n äöü"."Table with ""quotes"", 'apostrophes', dots.and\backslash %s $1"
SELECT g, 'a', 'b', 'c', '%s', '$1', '\', E'\t', E'\n', '🐘', ',', ')', ';--', 'U', 'u', '''', '/*' FROM generate_series(1, 30) g;
INSERT INTO "select"."from" VALUES (1, 'order', 'user', 'table');
INSERT INTO "new
line table" VALUES (1, E'a\nb');
INSERT INTO "漢字 🐘" SELECT g, repeat('価', g) FROM generate_series(1, 20) g;
INSERT INTO "Case" VALUES (1), (2); INSERT INTO "case" VALUES (3);
INSERT INTO "pg_dump.table.of.dots" VALUES (1); INSERT INTO "name of exactly sixty-three bytes, the longest that there may be" VALUES (63);
INSERT INTO "--comment" VALUES (1, '\.'), (2, E'\n\\.\n');
INSERT INTO wide (id, c1, c1200, c4) VALUES (1, 5, 1, '2020-01-01'), (2, NULL, NULL, 'infinity'), (3, -1, -1, '0044-03-15 BC');
INSERT INTO parent_a VALUES (1, 'p'), (2, 'p'); INSERT INTO parent_b VALUES (1, 1);
INSERT INTO child_ab (id, a, b, c) VALUES (3, 'c', 3, 'cc'); INSERT INTO grandchild VALUES (4, 'g', 4, 'gg', 44); INSERT INTO late_child VALUES (5, 'late', 55);
INSERT INTO by_range SELECT g, date '2023-06-01' + g, 'r' || g FROM generate_series(1, 1300) g;
INSERT INTO by_list SELECT (ARRAY['a', 'b', 'c', 'it''s', 'z', 'unlogged'])[1 + g % 6], g, 'l' || g FROM generate_series(1, 600) g;
INSERT INTO by_text_hash SELECT 'key ' || g, g FROM generate_series(1, 400) g;
INSERT INTO by_expression SELECT g, '2024-01-01', chr(97 + g % 26) FROM generate_series(1, 500) g;
INSERT INTO with_foreign SELECT g, 'here' FROM generate_series(1, 99) g;
INSERT INTO uniques VALUES (1, 1, NULL, 'c', 1), (2, NULL, 2, 'c', 2), (3, NULL, 3, 'd', NULL);
INSERT INTO exclusions VALUES (1, '[2024-01-01,2024-01-02)', '(0,0)'), (2, '[2024-01-02,)', '(5,5)'), (-3, '(,)', '(9,9)');
INSERT INTO fk_target SELECT g, g, 'c' || g FROM generate_series(1, 20) g;
INSERT INTO fk_source SELECT g, g, g, 'c' || g, CASE WHEN g < 20 THEN g + 1 END, g, g FROM generate_series(1, 20) g;
BEGIN; INSERT INTO circle_b VALUES (1, 1), (2, 2); INSERT INTO circle_a VALUES (1, 2), (2, 1); COMMIT;
ALTER TABLE circle_a ADD CONSTRAINT around FOREIGN KEY (b) REFERENCES circle_b ON DELETE SET NULL;
INSERT INTO fk_not_valid VALUES (1, 999), (2, NULL);
ALTER TABLE fk_not_valid ADD CONSTRAINT broken FOREIGN KEY (ref) REFERENCES circle_a NOT VALID;
INSERT INTO fk_part SELECT g, CASE WHEN g % 3 = 0 THEN 'x' ELSE 'y' || g END, g, date '2023-06-01' + g FROM generate_series(1, 300) g;
ALTER TABLE fk_part ADD CONSTRAINT both_parted FOREIGN KEY (up_id, up_at) REFERENCES by_range (id, at) ON DELETE CASCADE;
ALTER TABLE fk_part_1 ADD CONSTRAINT leaf_only FOREIGN KEY (up_id) REFERENCES fk_not_valid NOT VALID;
INSERT INTO fk_to_part VALUES (1, 3, 'x'), (2, 1, 'y1'), (3, NULL, 'nothing');
ALTER TABLE fk_to_part ADD CONSTRAINT to_parted FOREIGN KEY (a, kind) REFERENCES fk_part ON UPDATE SET NULL;
-- Columns after "id" in order of the table's definition; a row with NULLs only, then the edges.
INSERT INTO all_types (id) VALUES (1);
INSERT INTO all_types (id, c_bool, c_int2, c_int4, c_int8, c_numeric, c_numeric_ps, c_numeric_neg, c_float4, c_float8, c_money, c_char, c_bpchar, c_varchar,
    c_text, c_name, c_bytea, c_date, c_time, c_timetz, c_time0, c_timestamp, c_timestamptz, c_timestamp3, c_interval, c_interval_ym, c_interval_s3, c_uuid)
VALUES
    (2, true, -32768, -2147483648, -9223372036854775808, 'NaN', 'NaN', -12300, 'NaN', 'NaN', '-92233720368547758.08', 'a', '', '', '', '', '', '4713-01-01 BC', '00:00',
     '00:00:00+15:59:59', '24:00', '4713-01-01 BC', '4713-01-02 00:00:00 BC UTC', '-infinity', '-178000000 years', '-1 year -2 months', '1.2345 s', '00000000-0000-0000-0000-000000000000'),
    (3, false, 32767, 2147483647, 9223372036854775807, 'Infinity', 999999999.999, 'NaN', '-Infinity', 'Infinity', '92233720368547758.07', '\001', 'abc', 'x  ', E'\\N', 'Name "q"',
     (SELECT string_agg(set_byte('\x00', 0, g), '' ORDER BY g) FROM generate_series(0, 255) g), '5874897-12-31', '24:00:00', '24:00:00-15:59:59', '12:00', '294276-12-31 23:59:59.999999',
     '294276-12-31 23:59:59.999999 UTC', 'infinity', '1 mon -1 day 00:00:00.000001', '99 years', '-999 h', 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
    (4, NULL, 0, 0, 0, '-Infinity', -0.001, 0, '-0', '-0', 0, '', '  x', 'äöü', E'\\.\n\\.', 'n', '\x5c2e0a5c4e', 'infinity', '23:59:59.999999', '12:00:00.5+05:45', '00:00:01',
     '-infinity', 'infinity', '2024-02-29 12:00:00.1235', '00:00:00', '0', '0.001 s', '12345678-9abc-def0-1234-56789abcdef0'),
    (5, true, 1, 1, 1, 1e-16383, 0.1, 100, 1.1754944e-38, 5e-324, 0.01, E'\\377', NULL, NULL, repeat('𝄞🐘', 500), NULL, NULL, '-infinity', NULL, NULL, NULL, '0044-03-15 12:00 BC',
     '1883-11-18 12:03:58-04:56', NULL, '1 day', NULL, NULL, NULL),
    (6, true, 1, 1, 1, repeat('9', 4000)::numeric / 7, 0.1, 100, 3.4028235e38, 1.7976931348623157e308, 1, ' ', NULL, NULL, E'\x01\x02\x7f', NULL, NULL, '2000-01-01', NULL, NULL, NULL, NULL,
     '2024-10-27 01:30:00+01', NULL, '-1 day +25:00:00', NULL, NULL, NULL),
    (7, true, 1, 1, 1, 0.10000, 1, 1, 0.1, 0.1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (8, true, 1, 1, 1, -0.00, 1, 1, 1e-45, 4.35, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO all_types (id, c_json, c_jsonb, c_jsonpath, c_xml, c_inet, c_cidr, c_macaddr, c_macaddr8, c_bit, c_varbit, c_point, c_line, c_lseg, c_box, c_path, c_polygon, c_circle)
VALUES
    (20, '{"b" : 1,  "a":1, "b": 2}', '{"z": 1e400, "a": [null, true, "\u00e4 \\u0000", -0, 1.000], "": {}}', '$.a[*] ? (@ > 1 && exists(@.b))', '<a b="c"><![CDATA[x]]></a>', '::1', '::/0', '08:00:2b:01:02:03',
     '08:00:2b:01:02:03:04:05', '101010101', '', '(NaN,Infinity)', '{1,-1,0}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),0>'),
    (21, ' [ ] ', (repeat('[', 400) || '1' || repeat(']', 400))::jsonb, 'strict $', 'only <b>text</b> content', '192.168.0.1/24', '10.0.0.0/8', NULL, NULL, '000000000', repeat('10', 500)::varbit, '(-0,-0)', '{0,1,0}',
     NULL, '(1e300,1e300),(-1e300,-1e300)', '((0,0),(1e-300,1))', '((0,0))', '<(1e10,-1e-10),Infinity>'),
    (22, 'null', 'null', '$', '', 'fe80::1/10', '1.2.3.4', NULL, NULL, NULL, '1', '(1,2)', NULL, NULL, NULL, NULL, NULL, NULL),
    (23, '"\ud83d\udc18"', (SELECT jsonb_object_agg('k' || g, jsonb_build_object('v', repeat('x', g))) FROM generate_series(1, 500) g), NULL, NULL, '0.0.0.0/0', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO all_types (id, c_tsvector, c_tsquery, c_int4range, c_int8range, c_numrange, c_tsrange, c_tstzrange, c_daterange, c_int4multirange, c_nummultirange,
    c_tstzmultirange, c_datemultirange, c_pg_lsn, c_txid, c_snapshot, c_xid, c_xid8, c_cid, c_tid, c_oid, c_regclass, c_regtype, c_regproc, c_regprocedure, c_regoper, c_regoperator,
    c_regnamespace, c_regconfig, c_regdictionary, c_regcollation, c_int2vector, c_oidvector, c_refcursor, c_aclitem)
VALUES
    (30, '''it''''s'':1A,2B a:16383 ''\\ back''', '''a b'' & !(c | d:*AB) <-> e', 'empty', '(,)', '[NaN,NaN]', '[-infinity,infinity]', '(,"2024-01-01 00:00:00+00")', '[2024-01-01,infinity)',
     '{}', '{[1,2),(3,NaN]}', '{(,"2000-01-01 00:00:00+00"),["2001-01-01 00:00:00+00",)}', '{[2024-01-01,2024-01-02)}', 'FFFFFFFF/FFFFFFFF', '10:20:10,14,15', '10:20:', '4294967295', '18446744073709551615', '4294967295',
     '(4294967295,65535)', 4294967295, 'pg_class', 'integer', 'now', 'abs(integer)', '||/', '+(integer,integer)', 'pg_catalog', 'english', 'simple', '"C"', '1 2 3', '23 25', 'cursor "x"', 'torture_reader=r*w/torture_owner'),
    (31, '', '', '[1,2)', '[-9223372036854775808,9223372036854775807)', '[0,)', NULL, NULL, 'empty', '{[1,5),[7,)}', NULL, NULL, NULL, '0/0', NULL, NULL, '0', '0', '0',
     '(0,0)', 0, '-', '-', '-', '-', '0', '0', '-', '-', '-', '-', '', '', '', NULL),
    (32, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     'torture."Case"', 'torture.mood[]', NULL, 'torture.plain(text)', NULL, 'torture.==%(integer,integer)', 'torture', 'torture.my_config', 'torture.my_stem', 'torture.c_german', NULL, NULL, NULL, NULL);
INSERT INTO all_types (id, a_bool, a_int4, a_text, a_float8, a_numeric, a_bytea, a_date, a_timestamptz, a_interval, a_jsonb, a_uuid, a_inet, a_point, a_box, a_bit, a_range, a_tsvector, a_regclass, a_xml)
VALUES
    (40, '{t,f,NULL}', '[-2:0][5:6]={{1,2},{3,NULL},{5,6}}', ARRAY['', NULL, 'NULL', '"', '\', '{', ',', ' ', E'\n', '\.', '🐘'], '{NaN,Infinity,-Infinity,-0,1e-300}', '{NaN,-Infinity,1.10}', ARRAY['\x', '\x00ff5c'::bytea, NULL],
     '{infinity,"0044-03-15 BC"}', '{"2024-01-01 00:00:00+00",-infinity}', '{"1 mon","-00:00:01"}', ARRAY['{"a": "b,c"}', 'null', NULL]::jsonb[], '{00000000-0000-0000-0000-000000000000}', '{::1,10.0.0.0/8}', '{"(1,2)","(NaN,-0)"}',
     '{(1,1),(0,0);(3,3),(2,2)}', '{101,000}', '{empty,"[1,2)",NULL}', ARRAY['a:1', '''b c'':2', NULL]::tsvector[], '{pg_class,"torture.\"Case\""}', ARRAY['<a/>', 'x,y']::xml[]),
    (41, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'),
    (42, '[5:5]={t}', (SELECT array_agg(g) FROM generate_series(1, 5000) g), '{{a,b},{c,d}}', '{{{{{{1}}}}}}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
\if :have_contrib
CREATE TABLE contrib (id integer PRIMARY KEY, h torture_ext.hstore, ci torture_ext.citext UNIQUE, during tstzrange, room integer,
    EXCLUDE USING gist (room torture_ext.gist_int4_ops WITH =, during WITH &&));
INSERT INTO contrib VALUES (1, '"a"=>NULL, "b c"=>"d\"e", ""=>""', 'MixedCase', '[2024-01-01 00:00+00,2024-01-02 00:00+00)', 1), (2, '', 'other', NULL, 1);
CREATE INDEX contrib_trgm ON contrib USING gin ((ci::text) torture_ext.gin_trgm_ops);
CREATE INDEX contrib_trgm_gist ON contrib USING gist ((ci::text) torture_ext.gist_trgm_ops (siglen = 32));
CREATE INDEX contrib_hstore ON contrib USING gist (h torture_ext.gist_hstore_ops (siglen = 64));
CREATE FUNCTION uses_hstore(torture_ext.hstore) RETURNS text LANGUAGE sql AS 'SELECT ''x''';
ALTER FUNCTION uses_hstore(torture_ext.hstore) DEPENDS ON EXTENSION hstore;
\endif

-- ---------------------------------------------------------------- indexes
CREATE TABLE indexed (id integer PRIMARY KEY, a integer, b text, c jsonb, d integer[], e point, f inet, g tsvector, h timestamptz, i text COLLATE c_german, j bigint);
INSERT INTO indexed SELECT g, g % 100, 'text ' || md5(g::text), jsonb_build_object('k', g, 'l', ARRAY[g, g + 1]), ARRAY[g, g * 2], point(g, -g), ('10.0.' || g % 250 || '.1')::inet,
    to_tsvector('simple', 'word' || g % 50), timestamptz '2024-01-01 00:00+00' + g * interval '1 hour', chr(65 + g % 26), g FROM generate_series(1, 3000) g;
CREATE INDEX i_partial ON indexed (a) WHERE b LIKE 'text a%' AND a > 10;
CREATE INDEX i_expression ON indexed (lower(b), (a + 1) DESC NULLS LAST, (c ->> 'k') COLLATE "C" text_pattern_ops) INCLUDE (h, j) WITH (fillfactor = 77, deduplicate_items = off);
ALTER INDEX i_expression ALTER COLUMN 1 SET STATISTICS 400, ALTER COLUMN 2 SET STATISTICS 33;
CREATE INDEX i_gin ON indexed USING gin (c jsonb_path_ops, d) WITH (fastupdate = off, gin_pending_list_limit = 128);
CREATE INDEX i_gin_plain ON indexed USING gin (c);
CREATE INDEX i_gist ON indexed USING gist (e, g tsvector_ops (siglen = 100)) WITH (buffering = off);
CREATE INDEX i_gist2 ON indexed USING gist2 (e "Storage Class");
CREATE INDEX i_spgist ON indexed USING spgist (f) INCLUDE (a);
CREATE INDEX i_brin ON indexed USING brin (h timestamptz_minmax_multi_ops (values_per_range = 16), j int8_bloom_ops (n_distinct_per_range = 100)) WITH (pages_per_range = 8, autosummarize = on);
CREATE INDEX i_hash ON indexed USING hash (b);
CREATE INDEX i_down ON indexed USING btree (a down_class);
CREATE INDEX "i Odd ""name""" ON indexed (i DESC, i COLLATE c_no_case NULLS FIRST);
CREATE UNIQUE INDEX i_nulls_once ON indexed (id, b) NULLS NOT DISTINCT;
CREATE INDEX i_broken ON indexed (a, j);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i_broken'::regclass;
ALTER TABLE indexed CLUSTER ON indexed_pkey;
CREATE UNIQUE INDEX i_identity ON generated (a, id) ;
ALTER TABLE generated ALTER a SET NOT NULL, REPLICA IDENTITY USING INDEX i_identity;
ALTER TABLE no_key REPLICA IDENTITY FULL;
ALTER TABLE empty_table REPLICA IDENTITY NOTHING;
ALTER TABLE options CLUSTER ON options_pkey;
CREATE INDEX by_range_v ON by_range (v) INCLUDE (id);
CREATE INDEX by_range_unattached ON ONLY by_range (lower(v));
CREATE INDEX by_range_2024_lower ON by_range_2024 (lower(v));
CREATE INDEX by_range_made_by_hand ON ONLY by_range (at, v);
CREATE INDEX by_range_part_of_it ON by_range_2023 (at, v);
ALTER INDEX by_range_made_by_hand ATTACH PARTITION by_range_part_of_it;
CREATE INDEX by_list_expression ON by_list (upper(v)) WHERE id > 10;
ALTER TABLE by_range_2025 CLUSTER ON by_range_2025_pkey;
ALTER TABLE by_range REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX ON by_text_hash_0 (v);
CREATE STATISTICS stat_all ON a, j FROM indexed;
CREATE STATISTICS "select"."Stat ""odd""" (ndistinct, mcv) ON a, b FROM indexed;
CREATE STATISTICS stat_expression ON (a % 7), lower(b) FROM indexed;
CREATE STATISTICS stat_one_expression ON (a * 2) FROM indexed;
ALTER STATISTICS stat_all SET STATISTICS 77;

-- ---------------------------------------------------------------- views, materialized views
CREATE VIEW v_plain AS SELECT id, v FROM dropped_columns WHERE id < 50;
CREATE VIEW v_options WITH (security_barrier = true, security_invoker = true) AS SELECT * FROM no_key;
CREATE VIEW v_check WITH (check_option = cascaded) AS SELECT id, v FROM empty_table WHERE id > 0;
CREATE VIEW v_check_local AS SELECT id, v FROM v_check WHERE id < 1000 WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW v_recursive (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM v_recursive WHERE n < 5;
CREATE VIEW v_group_by_key AS SELECT d.id, d.v, d.late, count(*) AS n FROM dropped_columns d JOIN no_key k ON k.a = d.id GROUP BY d.id;
CREATE VIEW v_over_group AS SELECT id, n FROM v_group_by_key;
CREATE VIEW v_columns (one, "two ""2""", three) AS SELECT 1, 'x'::text COLLATE "C", NULL::mood;
ALTER VIEW v_columns ALTER one SET DEFAULT 11;
CREATE VIEW v_circle_1 AS SELECT 1 AS n;
CREATE VIEW v_circle_2 AS SELECT n FROM v_circle_1;
CREATE OR REPLACE VIEW v_circle_1 AS SELECT n FROM v_circle_2;
CREATE VIEW "Weird ""Schema"" $1 %s \n äöü"."View ""v""" AS SELECT * FROM "Weird ""Schema"" $1 %s \n äöü"."Table with ""quotes"", 'apostrophes', dots.and\backslash %s $1";
CREATE VIEW v_functions AS SELECT r.*, number_rows() OVER () AS w, my_percentile(0.5) WITHIN GROUP (ORDER BY r.i) AS middle
    FROM rows_of(2) r GROUP BY r.i, r."odd ""column""";
CREATE MATERIALIZED VIEW m_plain WITH (fillfactor = 90) AS SELECT a % 10 AS k, count(*) AS n, sum(j) AS total FROM indexed GROUP BY 1;
CREATE UNIQUE INDEX m_plain_key ON m_plain (k);
CREATE MATERIALIZED VIEW a_chain AS SELECT k, n * 2 AS twice FROM m_plain;
CREATE INDEX a_chain_index ON a_chain (twice DESC) WHERE k > 2;
CREATE MATERIALIZED VIEW m_over_view AS SELECT * FROM v_over_group;
CREATE UNIQUE INDEX m_over_view_key ON m_over_view (id);
CREATE MATERIALIZED VIEW m_unpopulated AS SELECT * FROM indexed WITH NO DATA;
CREATE INDEX m_unpopulated_index ON m_unpopulated (id);
CREATE MATERIALIZED VIEW m_over_unpopulated AS SELECT id FROM m_unpopulated WITH NO DATA;
ALTER MATERIALIZED VIEW m_plain ALTER n SET STATISTICS 10, ALTER total SET STORAGE MAIN, CLUSTER ON m_plain_key;

-- ---------------------------------------------------------------- rules, triggers
CREATE RULE r_also AS ON INSERT TO empty_table WHERE NEW.id < 0 DO ALSO INSERT INTO no_key VALUES (NEW.id, 'by rule');
CREATE RULE r_nothing AS ON DELETE TO no_key DO INSTEAD NOTHING;
CREATE RULE r_several AS ON UPDATE TO v_plain DO INSTEAD (UPDATE dropped_columns SET v = NEW.v WHERE id = OLD.id; NOTIFY changed);
CREATE RULE "R ""odd""" AS ON INSERT TO v_plain DO INSTEAD INSERT INTO dropped_columns (id, v) VALUES (NEW.id, NEW.v) RETURNING id, v;
CREATE RULE r_disabled AS ON UPDATE TO empty_table DO INSTEAD NOTHING;
CREATE RULE r_always AS ON DELETE TO empty_table DO ALSO SELECT 1;
CREATE RULE r_replica AS ON DELETE TO empty_table DO ALSO SELECT 2;
ALTER TABLE empty_table DISABLE RULE r_disabled, ENABLE ALWAYS RULE r_always, ENABLE REPLICA RULE r_replica;
CREATE TABLE triggered (id integer PRIMARY KEY, note text, a integer);
INSERT INTO triggered SELECT g, 'as loaded', g FROM generate_series(1, 200) g;
CREATE TRIGGER t_row BEFORE INSERT OR UPDATE OF note, a ON triggered FOR EACH ROW WHEN (NEW.a > 0) EXECUTE FUNCTION trigger_stamp();
CREATE TRIGGER t_statement AFTER TRUNCATE ON triggered FOR EACH STATEMENT EXECUTE FUNCTION trigger_swallow('an', 'argument ''quoted''', '\x');
CREATE TRIGGER t_transition AFTER INSERT ON triggered REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION trigger_count();
CREATE TRIGGER t_transition_2 AFTER UPDATE ON triggered REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH ROW EXECUTE FUNCTION trigger_count();
CREATE CONSTRAINT TRIGGER t_constraint AFTER INSERT ON triggered FROM fk_target DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trigger_swallow();
CREATE TRIGGER "T ""odd"" äöü" BEFORE DELETE ON triggered FOR EACH ROW EXECUTE FUNCTION trigger_swallow();
CREATE TRIGGER t_disabled BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION trigger_refuse();
CREATE TRIGGER t_always_swallows BEFORE INSERT ON no_key FOR EACH ROW EXECUTE FUNCTION trigger_swallow();
CREATE TRIGGER t_always_refuses BEFORE INSERT ON indexed FOR EACH ROW EXECUTE FUNCTION trigger_refuse();
CREATE TRIGGER t_replica BEFORE INSERT ON on_heap2 FOR EACH ROW EXECUTE FUNCTION trigger_refuse();
ALTER TABLE triggered DISABLE TRIGGER t_disabled;
ALTER TABLE no_key ENABLE ALWAYS TRIGGER t_always_swallows;
ALTER TABLE indexed ENABLE ALWAYS TRIGGER t_always_refuses;
ALTER TABLE on_heap2 ENABLE REPLICA TRIGGER t_replica;
CREATE TRIGGER t_view INSTEAD OF INSERT OR UPDATE OR DELETE ON v_over_group FOR EACH ROW EXECUTE FUNCTION trigger_swallow();
CREATE TRIGGER t_parted BEFORE INSERT ON by_range FOR EACH ROW EXECUTE FUNCTION trigger_refuse();
CREATE TRIGGER t_parted_after AFTER UPDATE ON by_list FOR EACH ROW EXECUTE FUNCTION trigger_swallow();
ALTER TABLE by_range_2024 DISABLE TRIGGER t_parted;
ALTER TABLE by_range_2025 ENABLE ALWAYS TRIGGER t_parted;
CREATE TRIGGER t_leaf BEFORE INSERT ON by_list_c0 FOR EACH ROW EXECUTE FUNCTION trigger_refuse();
CREATE TRIGGER t_foreign BEFORE INSERT ON foreign_plain FOR EACH ROW EXECUTE FUNCTION trigger_refuse();

-- ---------------------------------------------------------------- policies
CREATE TABLE secured (id integer PRIMARY KEY, owner name, v text);
INSERT INTO secured SELECT g, CASE WHEN g % 2 = 0 THEN 'torture_reader' ELSE 'someone' END, 'secret ' || g FROM generate_series(1, 100) g;
CREATE POLICY p_own ON secured USING (owner = current_user) WITH CHECK (length(v) < 100);
CREATE POLICY p_restrict ON secured AS RESTRICTIVE FOR SELECT TO torture_reader, "Torture ""Role"" $1 äöü" USING (id > 0);
CREATE POLICY "P ""odd""" ON secured FOR INSERT TO PUBLIC WITH CHECK (true);
CREATE POLICY p_update ON secured FOR UPDATE TO torture_writer USING (true) WITH CHECK (false);
CREATE POLICY p_delete ON secured FOR DELETE USING (id < 0);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p_not_enabled ON empty_table USING (false);
ALTER TABLE fk_target ENABLE ROW LEVEL SECURITY;

-- ---------------------------------------------------------------- large objects
SELECT lo_create(900001) \g /dev/null
SELECT lo_from_bytea(900002, (SELECT string_agg(set_byte('\x00', 0, g), '' ORDER BY g) FROM generate_series(0, 255) g)) \g /dev/null
SELECT lo_from_bytea(900003, convert_to((SELECT string_agg(md5(g::text), '') FROM generate_series(1, 80000) g), 'UTF8')) \g /dev/null
SELECT lo_from_bytea(900004, 'x'), lo_put(900004, 500000, 'after a hole') \g /dev/null
SELECT lo_from_bytea(900004 + g, convert_to('object ' || g, 'UTF8')) FROM generate_series(1, 50) g \g /dev/null
ALTER LARGE OBJECT 900002 OWNER TO torture_owner;
GRANT SELECT, UPDATE ON LARGE OBJECT 900003 TO torture_reader WITH GRANT OPTION;
GRANT SELECT ON LARGE OBJECT 900001 TO PUBLIC;
COMMENT ON LARGE OBJECT 900002 IS 'all 256 bytes';

-- ---------------------------------------------------------------- owners
ALTER TABLE no_key OWNER TO torture_owner;
ALTER TABLE by_range OWNER TO torture_other;
ALTER TABLE identity_always OWNER TO "Torture ""Role"" $1 äöü";
ALTER VIEW v_plain OWNER TO torture_owner;
ALTER MATERIALIZED VIEW a_chain OWNER TO torture_other;
ALTER SEQUENCE seq_small OWNER TO torture_owner;
ALTER TYPE mood OWNER TO torture_owner; ALTER DOMAIN positive OWNER TO torture_other;
ALTER FUNCTION plain(text) OWNER TO torture_owner; ALTER PROCEDURE "Proc "() OWNER TO torture_owner;
ALTER AGGREGATE total_of(*) OWNER TO torture_owner;
ALTER OPERATOR <>%(integer, integer) OWNER TO torture_owner;
ALTER OPERATOR CLASS down_class USING btree OWNER TO torture_owner; ALTER OPERATOR FAMILY empty_family USING hash OWNER TO torture_other;
ALTER COLLATION c_german OWNER TO torture_owner; ALTER CONVERSION latin_to_utf OWNER TO torture_owner;
ALTER TEXT SEARCH DICTIONARY my_stem OWNER TO torture_owner; ALTER TEXT SEARCH CONFIGURATION my_config OWNER TO torture_owner;
ALTER SERVER srv_plain OWNER TO torture_owner; ALTER FOREIGN TABLE foreign_plain OWNER TO torture_other;
ALTER STATISTICS stat_all OWNER TO torture_owner;

-- ---------------------------------------------------------------- grants
GRANT USAGE ON SCHEMA torture TO torture_reader, torture_other; GRANT CREATE, USAGE ON SCHEMA torture TO torture_writer WITH GRANT OPTION;
REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO "Torture ""Role"" $1 äöü";
GRANT SELECT ON no_key TO torture_reader WITH GRANT OPTION; GRANT ALL ON no_key TO torture_writer; REVOKE DELETE ON no_key FROM torture_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA "select" TO PUBLIC;
GRANT SELECT (id, v), UPDATE (v) ON dropped_columns TO torture_reader; GRANT INSERT (id), REFERENCES (id) ON dropped_columns TO torture_writer WITH GRANT OPTION;
GRANT SELECT ("Column ""one""") ON "Weird ""Schema"" $1 %s \n äöü"."Table with ""quotes"", 'apostrophes', dots.and\backslash %s $1" TO "Torture ""Role"" $1 äöü";
SET ROLE torture_owner; GRANT SELECT ON v_plain TO torture_other WITH GRANT OPTION; RESET ROLE;
SET ROLE torture_other; GRANT SELECT ON torture.v_plain TO torture_reader; RESET ROLE;
REVOKE ALL ON identity_default FROM postgres;
GRANT USAGE, SELECT ON SEQUENCE seq_plain TO torture_reader; GRANT UPDATE ON SEQUENCE seq_small TO torture_writer;
REVOKE EXECUTE ON FUNCTION plain(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION plain(text) TO torture_reader;
REVOKE ALL ON FUNCTION total_of(integer) FROM PUBLIC; GRANT EXECUTE ON PROCEDURE proc(integer, integer) TO torture_writer;
REVOKE USAGE ON TYPE mood FROM PUBLIC; GRANT USAGE ON TYPE mood TO torture_reader; GRANT USAGE ON TYPE positive TO torture_writer;
REVOKE USAGE ON LANGUAGE plcrane FROM PUBLIC; GRANT USAGE ON LANGUAGE plcrane TO torture_reader;
GRANT USAGE ON FOREIGN DATA WRAPPER fdw_plain TO torture_owner; GRANT USAGE ON FOREIGN SERVER srv_plain TO torture_reader WITH GRANT OPTION;
GRANT SELECT ON foreign_plain TO torture_reader; GRANT TRUNCATE, TRIGGER ON by_range TO torture_reader;
GRANT SELECT ON m_plain, v_check TO torture_reader, torture_other;
GRANT SELECT ON pg_catalog.pg_statistic_ext_data TO torture_reader; GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_reset() TO torture_writer;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep_until(timestamptz) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner GRANT SELECT ON TABLES TO torture_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner GRANT USAGE ON SCHEMAS TO torture_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner REVOKE USAGE ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_other IN SCHEMA torture GRANT ALL ON SEQUENCES TO torture_writer WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE "Torture ""Role"" $1 äöü" IN SCHEMA "Weird ""Schema"" $1 %s \n äöü" GRANT INSERT ON TABLES TO torture_reader;

-- ---------------------------------------------------------------- comments
COMMENT ON SCHEMA torture IS E'comment with ''quotes'', "double", \\backslash, %s, $$ and\na second line\r\nand a third';
COMMENT ON SCHEMA public IS 'not the standard comment';
COMMENT ON TABLE no_key IS 'c'; COMMENT ON COLUMN no_key.a IS E'--\n/* not closed'; COMMENT ON VIEW v_plain IS 'c'; COMMENT ON COLUMN v_plain.id IS 'c';
COMMENT ON MATERIALIZED VIEW m_plain IS 'c'; COMMENT ON COLUMN m_plain.k IS 'c'; COMMENT ON FOREIGN TABLE foreign_plain IS 'c'; COMMENT ON COLUMN foreign_plain.id IS 'c';
COMMENT ON INDEX i_partial IS 'c'; COMMENT ON INDEX m_plain_key IS 'c'; COMMENT ON SEQUENCE seq_small IS 'c'; COMMENT ON SEQUENCE identity_named_seq IS 'c';
COMMENT ON CONSTRAINT full_match ON fk_source IS 'c'; COMMENT ON CONSTRAINT indexed_pkey ON indexed IS 'c'; COMMENT ON CONSTRAINT not_valid_check ON checks IS 'c';
COMMENT ON CONSTRAINT "odd ""check""" ON checks IS 'c'; COMMENT ON CONSTRAINT not_same_place ON exclusions IS 'c'; COMMENT ON CONSTRAINT positive_check ON DOMAIN positive IS 'c';
COMMENT ON CONSTRAINT lax_late ON DOMAIN lax IS 'c';
COMMENT ON TYPE mood IS 'c'; COMMENT ON TYPE point3 IS 'c'; COMMENT ON COLUMN point3.x IS 'c'; COMMENT ON DOMAIN positive IS 'c'; COMMENT ON TYPE float_range IS 'c';
COMMENT ON TYPE label IS 'c'; COMMENT ON TYPE shell_only IS 'c'; COMMENT ON FUNCTION plain(text) IS 'c'; COMMENT ON PROCEDURE proc(integer, integer) IS 'c'; COMMENT ON AGGREGATE total_of(*) IS 'c';
COMMENT ON OPERATOR ==%(integer, integer) IS 'c'; COMMENT ON OPERATOR @#@(NONE, integer) IS 'c'; COMMENT ON OPERATOR CLASS down_class USING btree IS 'c';
COMMENT ON OPERATOR FAMILY down_family USING btree IS 'c'; COMMENT ON CAST (label AS text) IS 'c'; COMMENT ON COLLATION c_german IS 'c'; COMMENT ON CONVERSION latin_to_utf IS 'c';
COMMENT ON TEXT SEARCH PARSER my_parser IS 'c'; COMMENT ON TEXT SEARCH TEMPLATE my_template IS 'c'; COMMENT ON TEXT SEARCH DICTIONARY my_stem IS 'c'; COMMENT ON TEXT SEARCH CONFIGURATION my_config IS 'c';
COMMENT ON LANGUAGE plcrane IS 'c'; COMMENT ON TRANSFORM FOR integer LANGUAGE sql IS 'c'; COMMENT ON ACCESS METHOD heap2 IS 'c';
COMMENT ON FOREIGN DATA WRAPPER fdw_plain IS 'c'; COMMENT ON SERVER srv_plain IS 'c'; COMMENT ON STATISTICS stat_all IS 'c';
COMMENT ON RULE r_also ON empty_table IS 'c'; COMMENT ON TRIGGER t_row ON triggered IS 'c'; COMMENT ON TRIGGER t_parted ON by_range IS 'c'; COMMENT ON POLICY p_own ON secured IS 'c';
COMMENT ON TABLE "Weird ""Schema"" $1 %s \n äöü"."Table with ""quotes"", 'apostrophes', dots.and\backslash %s $1" IS 'ä';
COMMENT ON COLUMN torture."new
line table"."id
x" IS 'c';

-- ---------------------------------------------------------------- publications, subscription, event triggers
CREATE PUBLICATION pub_all FOR ALL TABLES WITH (publish = 'insert, truncate');
CREATE PUBLICATION pub_schema FOR TABLES IN SCHEMA "select", torture;
CREATE PUBLICATION pub_list FOR TABLE ONLY parent_a, by_range, dropped_columns (id, v) WHERE (id > 5), TABLE "Case" WITH (publish_via_partition_root = true);
CREATE PUBLICATION pub_empty WITH (publish = 'delete');
CREATE PUBLICATION "Pub ""odd""" FOR TABLE serials (b, a), generated WHERE (a > 3 AND id <> 7);
ALTER PUBLICATION pub_empty OWNER TO postgres;
SET client_min_messages = error;
CREATE SUBSCRIPTION sub_disabled CONNECTION 'host=nowhere.invalid dbname=''x'' password=''it\''s''' PUBLICATION p1, "P 2"
    WITH (connect = false, slot_name = NONE, binary = true, streaming = true, synchronous_commit = 'off', disable_on_error = true);
RESET client_min_messages;
CREATE EVENT TRIGGER ev_plain ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION event_quiet();
CREATE EVENT TRIGGER "Ev ""odd""" ON sql_drop EXECUTE FUNCTION event_quiet();
CREATE EVENT TRIGGER ev_rewrite ON table_rewrite EXECUTE FUNCTION event_quiet();
CREATE EVENT TRIGGER ev_disabled ON ddl_command_start EXECUTE FUNCTION event_quiet();
ALTER EVENT TRIGGER ev_disabled DISABLE; ALTER EVENT TRIGGER ev_plain ENABLE ALWAYS; ALTER EVENT TRIGGER ev_rewrite ENABLE REPLICA;
COMMENT ON PUBLICATION pub_list IS 'c'; COMMENT ON SUBSCRIPTION sub_disabled IS 'c'; COMMENT ON EVENT TRIGGER ev_plain IS 'c';

-- ---------------------------------------------------------------- the database itself
COMMENT ON DATABASE :"DBNAME" IS E'a database''s "comment"\nof two lines';
GRANT CREATE, TEMPORARY ON DATABASE :"DBNAME" TO torture_writer;
REVOKE TEMPORARY ON DATABASE :"DBNAME" FROM PUBLIC;
ALTER DATABASE :"DBNAME" SET search_path = torture, "Weird ""Schema"" $1 %s \n äöü", public;
ALTER DATABASE :"DBNAME" SET "DateStyle" = 'German, DMY';
ALTER DATABASE :"DBNAME" SET "IntervalStyle" = 'sql_standard';
ALTER DATABASE :"DBNAME" SET "TimeZone" = 'Asia/Kathmandu';
ALTER DATABASE :"DBNAME" SET bytea_output = 'escape';
ALTER DATABASE :"DBNAME" SET extra_float_digits = 0;
ALTER DATABASE :"DBNAME" SET xmloption = 'document';
ALTER DATABASE :"DBNAME" SET standard_conforming_strings = off;
ALTER DATABASE :"DBNAME" SET app.setting = 'it''s "custom"';
ALTER ROLE torture_reader IN DATABASE :"DBNAME" SET work_mem = '33MB';
ALTER ROLE "Torture ""Role"" $1 äöü" IN DATABASE :"DBNAME" SET search_path = "select";
