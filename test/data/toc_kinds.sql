-- One small object of every kind that pg_dump writes an entry for. toc_kinds_VERSION.dump are archives of it:
--
--     psql -X -f toc_kinds.sql DATABASE            (superuser, empty database, PostgreSQL 13 or later)
--     pg_dump -Fc -Z0 -B --section=pre-data --section=post-data DATABASE > toc_kinds_VERSION.dump
\set ON_ERROR_STOP 1
SET client_min_messages = warning;
SELECT current_setting('server_version_num')::integer >= 140000 AS v14,
       current_setting('server_version_num')::integer >= 150000 AS v15,
       current_setting('server_version_num')::integer >= 180000 AS v18 \gset
SELECT format('CREATE ROLE %I', role) FROM (VALUES ('kinds_owner'), ('Kinds "Reader"; --')) AS wanted (role)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

CREATE SCHEMA s AUTHORIZATION kinds_owner;
CREATE SCHEMA "S; ""2""
DROP";
ALTER SCHEMA public OWNER TO kinds_owner;
COMMENT ON SCHEMA public IS 'ours now';
SET search_path = s;
CREATE EXTENSION citext SCHEMA public;
COMMENT ON EXTENSION citext IS 'text; without "case"';
CREATE ACCESS METHOD am2 TYPE TABLE HANDLER heap_tableam_handler;
CREATE FUNCTION lang_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE TRUSTED LANGUAGE lang2 HANDLER lang_handler;
CREATE COLLATION coll FROM "C";
CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;

CREATE TYPE mood AS ENUM ('sad', 'it''s; ok', 'happy');
CREATE TYPE pair AS (a integer, b text);
CREATE TYPE shell;
CREATE TYPE span AS RANGE (subtype = double precision);
CREATE TYPE label;
CREATE FUNCTION label_in(cstring) RETURNS label LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION label_out(label) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE label (INPUT = label_in, OUTPUT = label_out, LIKE = text);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
COMMENT ON CONSTRAINT positive_check ON DOMAIN positive IS 'of a domain';
CREATE DOMAIN lax AS integer;
ALTER DOMAIN lax ADD CONSTRAINT lax_check CHECK (VALUE > 0) NOT VALID;

CREATE FUNCTION f(a integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT a + 1; -- ; ' " $x$ $$;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END; $$;
CREATE FUNCTION quiet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
\if :v14
CREATE FUNCTION atomic(a integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC
    SELECT 1; SELECT CASE WHEN a > 0 THEN 1 ELSE 2 END; END;
\endif
CREATE PROCEDURE "P; 1"(a integer) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE FUNCTION mod_equal(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 10 = $2 % 10';
CREATE OPERATOR ==% (FUNCTION = mod_equal, LEFTARG = integer, RIGHTARG = integer);
CREATE FUNCTION compare_down(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.btint4cmp($2, $1)';
CREATE OPERATOR FAMILY family USING btree;
CREATE OPERATOR CLASS class FOR TYPE integer USING btree FAMILY family AS OPERATOR 1 > (integer, integer),
    OPERATOR 2 >= (integer, integer), OPERATOR 3 = (integer, integer), OPERATOR 4 <= (integer, integer),
    OPERATOR 5 < (integer, integer), FUNCTION 1 compare_down(integer, integer);
CREATE FUNCTION pair_to_text(pair) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).b';
CREATE CAST (pair AS text) WITH FUNCTION pair_to_text(pair);
CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal),
    TO SQL WITH FUNCTION int4recv(internal));

CREATE TEXT SEARCH PARSER parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype);
CREATE TEXT SEARCH TEMPLATE template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY dictionary (TEMPLATE = template);
CREATE TEXT SEARCH CONFIGURATION config (PARSER = parser);
ALTER TEXT SEARCH CONFIGURATION config ADD MAPPING FOR asciiword WITH dictionary;

CREATE FOREIGN DATA WRAPPER fdw;
CREATE SERVER srv FOREIGN DATA WRAPPER fdw OPTIONS (host 'it''s; here');
CREATE USER MAPPING FOR PUBLIC SERVER srv;
CREATE FOREIGN TABLE far (id integer) SERVER srv;

CREATE SEQUENCE seq;
CREATE TABLE plain (id serial PRIMARY KEY, m mood, v public.citext DEFAULT 'x;y' CHECK (v <> ';'), p pair, l positive);
ALTER TABLE plain ALTER m SET (n_distinct = 3), ALTER v SET STATISTICS 50;
CREATE TABLE ident (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, plain_id integer REFERENCES plain,
    x integer UNIQUE DEFERRABLE, during int4range, EXCLUDE USING gist (during WITH &&));
CREATE TABLE odd_am (id integer) USING am2;
CREATE TABLE clustered (id integer NOT NULL, a integer, b integer);
CREATE UNIQUE INDEX clustered_id ON clustered (id);
CREATE INDEX clustered_expr ON clustered (f(a), (a + b)) WHERE b > 0;
ALTER INDEX clustered_expr ALTER COLUMN 1 SET STATISTICS 77;
ALTER TABLE clustered CLUSTER ON clustered_id;
ALTER TABLE clustered REPLICA IDENTITY USING INDEX clustered_id;
ALTER TABLE clustered ADD CONSTRAINT not_checked CHECK (a > 0) NOT VALID;
ALTER TABLE clustered ADD CONSTRAINT not_checked_fk FOREIGN KEY (b) REFERENCES plain NOT VALID;
\if :v18
ALTER TABLE clustered ADD CONSTRAINT not_enforced FOREIGN KEY (a) REFERENCES plain NOT ENFORCED;
\endif
CREATE STATISTICS stats ON a, b FROM clustered;
CREATE TABLE parent (id integer, a text);
CREATE TABLE child (b text) INHERITS (parent);
ALTER TABLE child ALTER a SET DEFAULT 'of child';
CREATE TABLE parted (id integer PRIMARY KEY, v text, plain_id integer REFERENCES plain) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
CREATE TABLE parted_2_11 PARTITION OF parted_2 FOR VALUES IN (11);
CREATE INDEX parted_v ON parted (v);
CREATE TABLE to_parted (id integer PRIMARY KEY, p integer REFERENCES parted);
CREATE TABLE "S; ""2""
DROP"."T; 'x'
$$ -- /* ""y""" ("c; ""1""
" integer PRIMARY KEY, "select" text DEFAULT E'a\\'';b');
CREATE INDEX "i; ""x""" ON "S; ""2""
DROP"."T; 'x'
$$ -- /* ""y""" ("select");

CREATE VIEW v AS SELECT id, m, ';' AS semi FROM plain;
ALTER VIEW v ALTER semi SET DEFAULT 'd';
CREATE VIEW late_view AS SELECT id, m, count(*) FROM plain GROUP BY id;
CREATE MATERIALIZED VIEW mat AS SELECT id FROM plain;
CREATE UNIQUE INDEX mat_id ON mat (id);
CREATE MATERIALIZED VIEW late_mat AS SELECT id, v, count(*) FROM plain GROUP BY id;
CREATE MATERIALIZED VIEW mat_of_mat AS SELECT id FROM mat WITH NO DATA;
CREATE FUNCTION of_row(plain) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT ($1).id';
CREATE INDEX of_row_index ON plain (of_row(plain.*));
CREATE RULE rule AS ON INSERT TO v DO INSTEAD (INSERT INTO plain (m) VALUES ('sad'); SELECT 1);
CREATE RULE off AS ON DELETE TO clustered DO ALSO NOTHING;
ALTER TABLE clustered DISABLE RULE off;
CREATE TRIGGER "trigger; x" BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE plain ENABLE ALWAYS TRIGGER "trigger; x";
ALTER TABLE plain ENABLE ROW LEVEL SECURITY;
CREATE POLICY "policy; x" ON plain USING (id > 0);
CREATE EVENT TRIGGER et ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION quiet();
ALTER EVENT TRIGGER et DISABLE;

COMMENT ON TABLE plain IS 'a ''table''; with $$ "marks"';
COMMENT ON COLUMN plain.m IS 'mood';
COMMENT ON INDEX clustered_expr IS 'an index';
COMMENT ON CONSTRAINT ident_pkey ON ident IS 'a key';
COMMENT ON CONSTRAINT ident_plain_id_fkey ON ident IS 'a foreign key';
COMMENT ON CONSTRAINT plain_v_check ON plain IS 'a check';
COMMENT ON TRIGGER "trigger; x" ON plain IS 'a trigger';
COMMENT ON POLICY "policy; x" ON plain IS 'a policy';
COMMENT ON RULE rule ON v IS 'a rule';
COMMENT ON EVENT TRIGGER et IS 'an event trigger';
COMMENT ON MATERIALIZED VIEW late_mat IS 'a late view';
COMMENT ON STATISTICS stats IS 'statistics';
COMMENT ON FUNCTION f(integer) IS 'a function';

CREATE PUBLICATION pub FOR TABLE plain, clustered;
\if :v15
CREATE PUBLICATION pub_schema FOR TABLES IN SCHEMA s;
\endif
CREATE PUBLICATION pub_all FOR ALL TABLES WITH (publish = 'insert');
COMMENT ON PUBLICATION pub IS 'a publication';
CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere.invalid' PUBLICATION pub WITH (connect = false, slot_name = NONE);

GRANT SELECT ON plain TO "Kinds ""Reader""; --";
GRANT UPDATE (m) ON plain TO "Kinds ""Reader""; --";
GRANT USAGE ON SCHEMA s TO "Kinds ""Reader""; --";
GRANT USAGE ON LANGUAGE lang2 TO kinds_owner;
REVOKE EXECUTE ON FUNCTION f(integer) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE kinds_owner IN SCHEMA s GRANT SELECT ON TABLES TO "Kinds ""Reader""; --";
ALTER DEFAULT PRIVILEGES FOR ROLE kinds_owner GRANT EXECUTE ON FUNCTIONS TO "Kinds ""Reader""; --";
ALTER TABLE plain OWNER TO kinds_owner;
ALTER TABLE parted OWNER TO kinds_owner;
ALTER VIEW v OWNER TO "Kinds ""Reader""; --";
ALTER MATERIALIZED VIEW mat OWNER TO kinds_owner;
ALTER SEQUENCE seq OWNER TO kinds_owner;
ALTER FUNCTION f(integer) OWNER TO kinds_owner;
ALTER AGGREGATE total(integer) OWNER TO kinds_owner;
ALTER OPERATOR ==% (integer, integer) OWNER TO kinds_owner;
ALTER OPERATOR CLASS class USING btree OWNER TO kinds_owner;
ALTER TYPE mood OWNER TO kinds_owner;
ALTER STATISTICS stats OWNER TO kinds_owner;
ALTER LANGUAGE lang2 OWNER TO kinds_owner;
ALTER SERVER srv OWNER TO kinds_owner;
ALTER PUBLICATION pub OWNER TO kinds_owner;
