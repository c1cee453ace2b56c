-- A small database for tests that migrate it many times: several ranges of each larger table at --split-size 256kB,
-- keys, foreign keys, partitions, a table without a key, large objects, sequences, a chain of materialized views,
-- triggers that would refuse the rows, and rows that hold each other to an invariant (see transfer).
\set ON_ERROR_STOP 1
SET client_min_messages = warning;
CREATE SCHEMA bank;
CREATE TABLE bank.customer (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE bank.left_account (id integer PRIMARY KEY REFERENCES bank.customer, balance bigint NOT NULL DEFAULT 1000, filler text);
CREATE TABLE bank.right_account (id integer PRIMARY KEY REFERENCES bank.customer, balance bigint NOT NULL DEFAULT 1000, filler text);
CREATE TABLE bank.transfer (id bigserial PRIMARY KEY, from_left integer NOT NULL REFERENCES bank.left_account,
    to_right integer NOT NULL REFERENCES bank.right_account, amount bigint NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE bank.log (line text);
CREATE TABLE bank.nothing ();
CREATE TABLE bank.posting (id integer NOT NULL, month integer NOT NULL, account integer REFERENCES bank.customer, text text,
    PRIMARY KEY (id, month)) PARTITION BY LIST (month);
SELECT format('CREATE TABLE bank.posting_%s PARTITION OF bank.posting FOR VALUES IN (%s)', g, g) FROM generate_series(1, 4) g \gexec
CREATE TABLE bank.big (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k integer, v text, twice integer GENERATED ALWAYS AS (k * 2) STORED);
CREATE TABLE bank.toasted (id integer PRIMARY KEY, body text);
ALTER TABLE bank.toasted ALTER body SET STORAGE EXTERNAL;

INSERT INTO bank.customer SELECT g, 'customer ' || g FROM generate_series(1, 2000) g;
INSERT INTO bank.left_account SELECT g, 1000, repeat('l', 300) FROM generate_series(1, 2000) g;
INSERT INTO bank.right_account SELECT g, 1000, repeat('r', 300) FROM generate_series(1, 2000) g;
INSERT INTO bank.log SELECT 'line ' || g % 100 FROM generate_series(1, 5000) g;
INSERT INTO bank.nothing SELECT FROM generate_series(1, 77);
INSERT INTO bank.posting SELECT g, 1 + g % 4, 1 + g % 2000, 'posting ' || g FROM generate_series(1, 12000) g;
INSERT INTO bank.big (k, v) SELECT g % 1000, md5(g::text) || repeat('x', g % 60) FROM generate_series(1, 40000) g;
INSERT INTO bank.toasted SELECT g, repeat(md5(g::text), 400) FROM generate_series(1, 60) g;
SELECT lo_from_bytea(700000 + g, convert_to(repeat('object ' || g, g), 'UTF8')) FROM generate_series(1, 40) g \g /dev/null

CREATE INDEX big_k ON bank.big (k, v);
CREATE INDEX big_v ON bank.big USING hash (v);
CREATE UNIQUE INDEX big_expression ON bank.big ((id * 2)) WHERE id > 10;
CREATE INDEX posting_text ON bank.posting (text);
ALTER TABLE bank.big CLUSTER ON big_k;
CREATE VIEW bank.total AS SELECT c.id, c.name, sum(l.balance + r.balance) AS total FROM bank.customer c
    JOIN bank.left_account l USING (id) JOIN bank.right_account r USING (id) GROUP BY c.id;
CREATE MATERIALIZED VIEW bank.stored AS SELECT k, count(*) AS n FROM bank.big GROUP BY k;
CREATE UNIQUE INDEX stored_key ON bank.stored (k);
CREATE MATERIALIZED VIEW bank.again AS SELECT n, count(*) AS times FROM bank.stored GROUP BY n;
CREATE FUNCTION bank.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no rows here'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON bank.big FOR EACH ROW EXECUTE FUNCTION bank.refuse();
ALTER TABLE bank.big ENABLE ALWAYS TRIGGER refuse;
COMMENT ON TABLE bank.big IS 'several ranges';
GRANT SELECT ON bank.big TO PUBLIC;
