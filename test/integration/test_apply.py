"""The applier on real servers: what a source did, through its stream, into a destination that must then be equal."""
import contextlib

import psycopg
import pytest

from support.apply import EVERYTHING, Pair, apply_program

pytestmark = pytest.mark.turns(4)

MAJORS = (13, 15, 17, 18)
SIZES = (1, 10, EVERYTHING)


@pytest.fixture(scope="module")
def server_of(make_cluster):
    made = {}

    def get(major):
        if major not in made:
            made[major] = make_cluster(f"apply{major}", major=major, config={"shared_buffers": "32MB"})
        return made[major]
    return get


@pytest.fixture
def make_pair(server_of, tmp_path):
    with contextlib.ExitStack() as stack:
        program = apply_program(tmp_path)

        def make(major, of_dest=None):
            databases = [server_of(found).createdb() for found in (major, of_dest or major)]
            for database in databases:
                stack.callback(database.drop)
            return Pair(program, *databases)

        yield make
        program.end_all()


@pytest.fixture
def pair(make_pair):
    return make_pair(15)


@pytest.fixture(params=MAJORS)
def any_pair(request, make_pair):
    return make_pair(request.param)


# --- statements of all kinds ---

TABLES = """
CREATE SCHEMA "sh op";
CREATE TABLE plain (id int PRIMARY KEY, n int, t text);
CREATE TABLE two (a int, b text, n int, PRIMARY KEY (b, a));
CREATE TABLE indexed (id int, code text NOT NULL, n int);
CREATE UNIQUE INDEX indexed_code ON indexed (code);
ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_code;
CREATE TABLE "sh op"."Odd ""name" ("the key" int PRIMARY KEY, "a,b" text, "select" text);
CREATE TABLE big (id text PRIMARY KEY, n int, doc text, other text);
ALTER TABLE big ALTER doc SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
CREATE TABLE uniq (id int PRIMARY KEY, pos int UNIQUE);
CREATE TABLE no_key (n int, t text);
CREATE TABLE gone (id int PRIMARY KEY, dropped text, n int);
ALTER TABLE gone DROP dropped;
CREATE TABLE parts (id int, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_high (n int, id int NOT NULL);
ALTER TABLE parts ATTACH PARTITION parts_high FOR VALUES FROM (100) TO (1000);
CREATE TABLE parent (id int PRIMARY KEY, n int);
CREATE TABLE child (extra text, PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE owner (id int PRIMARY KEY);
CREATE TABLE owned (id int PRIMARY KEY, owner int REFERENCES owner ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE nothing ();
CREATE TABLE made (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE only_made (twice int GENERATED ALWAYS AS (1 + 1) STORED);
CREATE FUNCTION noise() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n + 1000; RETURN NEW; END';
CREATE TRIGGER noise BEFORE INSERT OR UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION noise();
"""

BEFORE = """
INSERT INTO plain SELECT i, i, 'row ' || i FROM generate_series(1, 100) i;
INSERT INTO two SELECT i, chr(65 + i % 3), i FROM generate_series(1, 50) i;
INSERT INTO indexed SELECT i, 'c' || i, i FROM generate_series(1, 30) i;
INSERT INTO big SELECT 'k' || i, i, repeat('x' || i, 3000), repeat('y' || i, 3000) FROM generate_series(1, 10) i;
INSERT INTO uniq SELECT i, i FROM generate_series(1, 20) i;
INSERT INTO gone SELECT i, i FROM generate_series(1, 10) i;
INSERT INTO parts SELECT i, i FROM generate_series(50, 150) i;
INSERT INTO parent VALUES (1, 1); INSERT INTO child VALUES (2, 2, 'two');
INSERT INTO owner VALUES (1), (2); INSERT INTO owned VALUES (1, 1), (2, 2);
"""

STATEMENTS = """
INSERT INTO plain VALUES (200, NULL, ''), (201, 5, E'tab\\t nl\\n back\\\\slash quote" \\r {}, NULL \\\\N');
INSERT INTO plain VALUES (202, 1, '\\.'), (203, 2, 'NULL'), (204, 3, 'ünïcödé 漢字');
UPDATE plain SET n = n + 1, t = t || '!' WHERE id % 3 = 0;
UPDATE plain SET t = NULL WHERE id % 7 = 0;
UPDATE plain SET id = id + 1000 WHERE id BETWEEN 10 AND 15;
DELETE FROM plain WHERE id % 5 = 0;
BEGIN; DELETE FROM plain WHERE id = 3; INSERT INTO plain VALUES (3, 33, 'again'); COMMIT;
BEGIN; INSERT INTO plain VALUES (300, 1, 'short life'); UPDATE plain SET n = 2 WHERE id = 300; DELETE FROM plain WHERE id = 300; COMMIT;
BEGIN; UPDATE plain SET id = 9000 WHERE id = 1; UPDATE plain SET id = 1 WHERE id = 2; UPDATE plain SET id = 2 WHERE id = 9000; COMMIT;
BEGIN; UPDATE plain SET id = 500 WHERE id = 4; UPDATE plain SET id = 501 WHERE id = 500; UPDATE plain SET n = 7 WHERE id = 501; COMMIT;
BEGIN; UPDATE plain SET id = 600 WHERE id = 6; INSERT INTO plain VALUES (6, 6, 'another six'); COMMIT;
INSERT INTO plain VALUES (1, 0, 'x'), (700, 0, 'y') ON CONFLICT (id) DO UPDATE SET n = plain.n + 100, t = excluded.t;
INSERT INTO plain VALUES (1, 0, 'x'), (701, 0, 'y') ON CONFLICT DO NOTHING;
BEGIN; INSERT INTO plain VALUES (800, 0, 'a'); SAVEPOINT s; INSERT INTO plain VALUES (801, 0, 'b'); ROLLBACK TO s;
INSERT INTO plain VALUES (802, 0, 'c'); SAVEPOINT t; UPDATE plain SET n = 1 WHERE id = 800; RELEASE t; COMMIT;
BEGIN; INSERT INTO plain VALUES (900, 0, 'never'); ROLLBACK;
WITH moved AS (DELETE FROM plain WHERE id = 21 RETURNING *) INSERT INTO plain SELECT id, 0, 'moved' FROM moved WHERE false;
UPDATE two SET n = -n WHERE b = 'A'; UPDATE two SET b = 'Z' WHERE a < 5; DELETE FROM two WHERE a > 45;
UPDATE two SET a = a + 100, b = b || '"' WHERE a BETWEEN 20 AND 25;
UPDATE indexed SET n = 0 WHERE id < 5; UPDATE indexed SET code = code || '''x' WHERE id > 25; DELETE FROM indexed WHERE id = 10;
INSERT INTO "sh op"."Odd ""name" VALUES (1, 'a', 'b'), (2, 'c', NULL); UPDATE "sh op"."Odd ""name" SET "select" = "a,b";
UPDATE big SET n = n + 1; UPDATE big SET doc = 'short' WHERE n < 4; UPDATE big SET other = repeat('new', 5000) WHERE n = 5;
UPDATE big SET id = id || id WHERE n = 6; UPDATE big SET id = repeat(id, 3), doc = doc || 'z' WHERE n = 7;
BEGIN; UPDATE big SET n = 100 WHERE id = 'k7'; UPDATE big SET doc = 'd' WHERE id = 'k7'; UPDATE big SET n = 101 WHERE id = 'k7'; COMMIT;
BEGIN; UPDATE big SET id = 'tmp' WHERE id = 'k8'; UPDATE big SET id = 'k8' WHERE id = 'k9'; UPDATE big SET id = 'k9' WHERE id = 'tmp'; COMMIT;
BEGIN; DELETE FROM big WHERE id = 'k10'; INSERT INTO big VALUES ('k10', 0, repeat('anew', 3000), NULL); UPDATE big SET n = 1 WHERE id = 'k10'; COMMIT;
BEGIN; UPDATE uniq SET pos = 1000 WHERE id = 1; UPDATE uniq SET pos = 1 WHERE id = 2; UPDATE uniq SET pos = 2 WHERE id = 1; COMMIT;
UPDATE uniq SET pos = pos + 5000; UPDATE uniq SET pos = pos - 4999;
INSERT INTO no_key SELECT i, 'n' FROM generate_series(1, 20) i;
UPDATE gone SET n = n * 2 WHERE id < 5; INSERT INTO gone VALUES (11, 11); DELETE FROM gone WHERE id = 9;
UPDATE parts SET id = id + 60 WHERE id BETWEEN 60 AND 70 AND id NOT IN (SELECT id - 60 FROM parts);
UPDATE parts SET id = id + 500 WHERE id BETWEEN 80 AND 99; UPDATE parts SET n = n + 1; DELETE FROM parts WHERE id % 4 = 0;
UPDATE parent SET n = n + 1; INSERT INTO child VALUES (3, 3, 'three'); DELETE FROM parent WHERE id = 2;
UPDATE owner SET id = 10 WHERE id = 1; DELETE FROM owner WHERE id = 2; BEGIN; INSERT INTO owner VALUES (5); INSERT INTO owned VALUES (5, 5); COMMIT;
INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES; INSERT INTO only_made DEFAULT VALUES; INSERT INTO only_made DEFAULT VALUES;
INSERT INTO made VALUES (1, 1), (2, 2), (3, 3); UPDATE made SET n = 20 WHERE id = 2; UPDATE made SET id = 30 WHERE id = 3;
"""

MERGE = """MERGE INTO plain p USING (VALUES (7, 'm'), (8, 'd'), (2000, 'i')) v (id, what) ON p.id = v.id
 WHEN MATCHED AND what = 'd' THEN DELETE WHEN MATCHED THEN UPDATE SET t = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (v.id, 0, 'merged')"""


def copy_in(pair):
    with pair.source.connect() as conn, conn.cursor().copy("COPY plain FROM STDIN") as copy:
        for i in range(3000, 6000):
            copy.write_row((i, None if i % 3 else i, f"copied\t{i}\n"))


@pytest.mark.parametrize("rows", SIZES)
def test_statements(rows, any_pair):
    pair = any_pair
    pair.define(TABLES)
    pair.define(BEFORE)
    pair.start()
    pair.run(STATEMENTS)
    if pair.source.cluster.major >= 15:
        pair.run(MERGE)
    copy_in(pair)
    found = pair.apply(rows)
    assert found["inserts"] > 3000 and found["updates"] > 0 and found["deletes"] > 0
    assert pair.apply(rows)["inserts"] == 0, "what was applied came again"
    pair.equal()


def test_many_subtransactions(pair):
    pair.define("CREATE TABLE t (id int PRIMARY KEY, n int)")
    pair.start()
    pair.run("DO $$BEGIN FOR i IN 1..300 LOOP BEGIN INSERT INTO t VALUES (i, 0); UPDATE t SET n = n + 1;"
             " IF i % 3 = 0 THEN RAISE EXCEPTION 'no'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END$$")
    assert pair.apply(1000)["serial"] == 0
    assert pair.dest.sql("SELECT count(*) FROM t") == [(200,)]
    pair.equal()


def test_transactions_are_counted(pair):
    pair.define("CREATE TABLE t (id int PRIMARY KEY)")
    pair.start()
    for i in range(7):
        pair.run("INSERT INTO t VALUES (%s)", (i,))
    pair.apply(3)
    assert pair.position()[1] == 7


# --- types ---

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'a,b');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE DOMAIN more AS positive;
CREATE DOMAIN list AS int[];
CREATE DOMAIN lists AS list;
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE TABLE types (id int PRIMARY KEY, a smallint, b bigint, c real, d double precision, e numeric, f numeric(10,2),
 g money, h text, i varchar(5), j char(5), k "char", l name, m bytea, n date, o time, p timetz, q timestamp, r timestamptz,
 s interval, t boolean, u mood, v pair, w positive, x more, y list, z lists, aa int[], ab text[], ac mood[], ad pair[],
 ae int4range, af textrange, ag numrange[], ah regclass, ai bit(3), aj varbit, ak xml, al json, am jsonb, an uuid, ao inet,
 ap cidr, aq macaddr, ar point, at box, au box[], av polygon, aw tsvector, ax tsquery, ay pg_lsn, az oid, ba char(4)[],
 bb bit(3)[], bc numeric(6,3)[], bd timestamptz[], be int2vector, bf bit varying(7)[], bg interval second(2), bh path);
"""

ROWS = """
INSERT INTO types (id) VALUES (1);
INSERT INTO types (id, c, d, e) VALUES (2, 'NaN', 'Infinity', 'NaN'), (3, '-0', '-0', '1.00'), (4, '-Infinity', '1e-300', '1.0'), (5, 1.1, 0.1::float8 + 0.2, 1e100);
INSERT INTO types VALUES (10, 1, 2, 3, 4, 5.50, 6, 7.77, '', '', '', '', '', '', '2000-02-29', '24:00', '12:00+05:30',
 '294276-12-31 23:59:59.999999', '4713-01-01 00:00 BC', '1 year -2 days 03:04:05.6', true, 'it''s "ok"', '(1,"a ""b"" \\\\")', 1, 2,
 '{1,NULL}', '{}', '{{1,2},{3,4}}', '{a,NULL,"NULL","","x,y","\\"q\\\\"}', '{sad,"a,b"}', '{"(1,a)","(,)"}', '[1,5)', '["a,b",c]',
 '{empty,"(,5]"}', 'types', '101', '', '<a b="c">x</a>', '{"a" : [1, 2,  3]}', '{"b": 1.00, "a": null}',
 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '(1.5,-0)', '(1,1),(0,0)',
 '{(1,1),(0,0);(2,2),(1,1)}', '((0,0),(1,1),(1,0))', 'a:1 b:2', 'a & !b', '0/16B3748', 4000000000, '{ab,"  cd"}', '{101,010}',
 '{1.5,-0.001}', '{"2000-01-01 00:00+00",infinity}', '1 2 3', '{1,0101010}', '1.239 s', '[(0,0),(1,1)]');
INSERT INTO types (id, n, q, r, aa, l, k, h, m, ah, am) VALUES (11, 'infinity', '-infinity', 'infinity', '[2:4]={1,2,3}', repeat('n', 63), 'x',
 repeat('long', 100000), decode('00ff5c22', 'hex'), 'pg_catalog.pg_class', '"NULL"');
"""

CHANGES = """
UPDATE types SET (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, ab, ac, ad, ae, af, ag, ah, ai, aj, ak, al,
 am, an, ao, ap, aq, ar, at, au, av, aw, ax, ay, az, ba, bb, bc, bd, be, bf, bg, bh) = (SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, ab, ac, ad, ae, af, ag, ah, ai, aj, ak, al,
 am, an, ao, ap, aq, ar, at, au, av, aw, ax, ay, az, ba, bb, bc, bd, be, bf, bg, bh FROM types WHERE id = 10) WHERE id < 4;
UPDATE types SET d = '-0', h = 'x' WHERE id = 5; UPDATE types SET u = NULL, aa = NULL WHERE id = 10; UPDATE types SET id = id + 100 WHERE id < 3;
"""


@pytest.mark.parametrize("identity", ("DEFAULT", "FULL"))
@pytest.mark.parametrize("rows", (1, EVERYTHING))
def test_types(rows, identity, any_pair):
    pair = any_pair
    pair.define(TYPES + f"ALTER TABLE types REPLICA IDENTITY {identity}")
    if pair.source.cluster.major >= 14:
        pair.define("ALTER TABLE types ADD mr int4multirange, ADD mrs int4multirange[]")
    pair.start()
    pair.run(ROWS)
    if pair.source.cluster.major >= 14:
        pair.run("UPDATE types SET mr = '{[1,3),[5,8)}', mrs = '{\"{[1,2)}\",\"{}\"}' WHERE id = 4")
    pair.run(f"INSERT INTO types (id, j, ba, bb, i) SELECT i, 'ab', '{{abcd}}', '{{111}}', 'abcde' FROM generate_series(1000, 1010) i")
    pair.apply(rows)
    pair.run(CHANGES)
    pair.run("DELETE FROM types WHERE id IN (3, 4, 101, 1000)")
    assert pair.apply(rows)["deletes"] == 4
    pair.equal()


def keyed_by(kind, *values):
    return pytest.param(kind, values, id=kind.split("(")[0])


@pytest.mark.turns(5)
@pytest.mark.parametrize("kind, values", (
    keyed_by("char(6)", "abc", "abcdef"), keyed_by("numeric", "1.0", "2.50"), keyed_by("float8", "-0", "1e-5", "NaN"), keyed_by("bit(3)", "101", "000"),
    keyed_by("int[]", "{1,2}", "{{1},{2}}", "{}"), keyed_by("int4range", "[1,5)", "empty"), keyed_by("mood", "sad", "a,b"),
    keyed_by("pair", "(1,a)", "(,)"), keyed_by("lists", "{1}", "{NULL}"), keyed_by("more", "1", "2"), keyed_by("bytea", "\\x00", "\\x"),
    keyed_by("regclass", "pg_class", "pg_type"), keyed_by("timestamptz", "2000-01-01+00", "infinity"), keyed_by("varchar(4)", "a b", ""),
    keyed_by("jsonb", "{\"a\": 1}", "[]"), keyed_by("\"char\"", "a", ""), keyed_by("interval", "1 day", "24:00:01"), keyed_by("citext", "Aa", "b")))
def test_types_as_key(kind, values, pair):
    if kind == "citext":
        try:
            pair.define("CREATE EXTENSION citext")
        except psycopg.Error:
            pytest.skip("no citext on this server")
    pair.define(TYPES + f"CREATE TABLE t (k {kind} PRIMARY KEY, n int); INSERT INTO t SELECT v::{kind}, 0 FROM unnest(ARRAY{list(values)!r}) v"
                .replace("ARRAY[\"", "ARRAY['"))
    pair.start()
    pair.run("UPDATE t SET n = n + 1")
    assert pair.apply()["serial"] == 0
    pair.run("DELETE FROM t WHERE k = (SELECT k FROM t LIMIT 1)")
    assert pair.apply()["serial"] == 0
    pair.run("UPDATE t SET n = n + 1; UPDATE t SET n = n + 1")
    pair.apply(1)
    pair.equal()


def test_the_index_of_an_extension_type_is_used(pair):
    """citext's = is in no search path of ours; that of text would read the whole table for each row."""
    try:
        pair.define("CREATE EXTENSION citext")
    except psycopg.Error:
        pytest.skip("no citext on this server")
    pair.define("CREATE TABLE t (k citext PRIMARY KEY, n int); INSERT INTO t SELECT 'K' || i, 0 FROM generate_series(1, 5000) i")
    pair.start()
    pair.run("UPDATE t SET n = 1")
    pair.apply()
    with pair.dest.connect() as conn:
        conn.execute("SELECT pg_stat_clear_snapshot()")
    [(seq,)] = pair.dest.sql("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 't'")
    assert seq <= 1, "the primary key's index was not used"
    pair.equal()


# --- identity FULL ---

FULL = """CREATE TABLE f (a int, b float8, c numeric, d text, e json);
ALTER TABLE f REPLICA IDENTITY FULL;
INSERT INTO f VALUES (1, '-0', 1.00, NULL, '{}'), (1, 0, 1.0, '', '{ }'), (1, 0, 1.0, '', '{ }'), (1, 0, 1.0, '', '{ }'),
 (NULL, NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL, NULL);
INSERT INTO f SELECT i, i, i, 'row', '[]' FROM generate_series(2, 400) i;"""


@pytest.mark.parametrize("rows", SIZES)
def test_full(rows, any_pair):
    """Images differ in -0, 1.00, NULL and ''; equal rows are touched as often as on the source."""
    pair = any_pair
    pair.define(FULL)
    pair.start()
    pair.run("UPDATE f SET d = 'minus' WHERE b::text = '-0'")
    pair.run("DELETE FROM f WHERE ctid IN (SELECT ctid FROM f WHERE d = '' LIMIT 2)")
    pair.run("DELETE FROM f WHERE ctid = (SELECT ctid FROM f WHERE a IS NULL LIMIT 1)")
    pair.run("UPDATE f SET c = c + 0.00 WHERE a BETWEEN 10 AND 20; UPDATE f SET a = 5, b = 5, c = 5 WHERE a BETWEEN 5 AND 9")
    pair.run("UPDATE f SET d = 'one of five' WHERE ctid = (SELECT ctid FROM f WHERE a = 5 LIMIT 1); DELETE FROM f WHERE a > 390")
    pair.run("BEGIN; INSERT INTO f VALUES (1000); UPDATE f SET b = 1 WHERE a = 1000; DELETE FROM f WHERE a = 1000; COMMIT")
    pair.run("BEGIN; UPDATE f SET a = -a WHERE a = 30; UPDATE f SET a = -a WHERE a = -30; UPDATE f SET a = 31 WHERE a = 30; COMMIT")
    found = pair.apply(rows)
    assert found["serial"] == 0 and found["deletes"] >= 13
    pair.equal()


def test_full_toast(any_pair):
    pair = any_pair
    other = "" if pair.source.cluster.major >= 18 else ", other text GENERATED ALWAYS AS (left(doc, 3)) STORED"  # 18 refuses the UPDATE
    pair.define(f"CREATE TABLE f (n int, doc text{other});"
                "ALTER TABLE f ALTER doc SET STORAGE EXTERNAL; ALTER TABLE f REPLICA IDENTITY FULL")
    pair.start()
    pair.run("INSERT INTO f SELECT i, repeat(md5(i::text), 1000) FROM generate_series(1, 20) i")
    pair.apply()
    pair.run("UPDATE f SET n = n + 100; UPDATE f SET doc = doc || 'x' WHERE n < 110; DELETE FROM f WHERE n = 120")
    assert pair.apply()["serial"] == 0
    pair.equal()


def test_destination_of_before_12(make_pair):
    """It has no plan_cache_mode."""
    pair = make_pair(15, 10)
    pair.define("CREATE TABLE k (id int PRIMARY KEY, v text); CREATE TABLE f (a int, v text); ALTER TABLE f REPLICA IDENTITY FULL;"
                " INSERT INTO k SELECT g, 'row' FROM generate_series(1, 100) g; INSERT INTO f SELECT g % 50, 'row' FROM generate_series(1, 100) g")
    pair.start()
    pair.run("UPDATE k SET v = 'changed' WHERE id < 50; DELETE FROM k WHERE id > 90; UPDATE f SET v = 'changed' WHERE a < 20; DELETE FROM f WHERE a = 30")
    pair.apply()
    for query in ("SELECT * FROM k ORDER BY id", "SELECT * FROM f ORDER BY a, v"):
        assert pair.dest.sql(query) == pair.run(query)


def test_full_does_not_read_the_table_for_each_row(pair):
    pair.define("CREATE TABLE f (a int, b text); ALTER TABLE f REPLICA IDENTITY FULL;"
                "INSERT INTO f SELECT i, 'b' FROM generate_series(1, 3000) i; ANALYZE f")
    pair.start()
    pair.run("UPDATE f SET b = 'c' WHERE a <= 1000; DELETE FROM f WHERE a > 2000")
    assert pair.apply()["serial"] == 0
    with pair.dest.connect() as conn:
        conn.execute("SELECT pg_stat_clear_snapshot()")
    [(seq,)] = pair.dest.sql("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'f'")
    assert seq < 12
    pair.equal()


def test_full_without_a_comparable_column(any_pair):
    pair = any_pair
    pair.define("CREATE TABLE f (a json, b xml, c point); ALTER TABLE f REPLICA IDENTITY FULL;"
                "INSERT INTO f SELECT to_json(i), '<a/>', '(1,2)' FROM generate_series(1, 50) i; INSERT INTO f SELECT * FROM f WHERE a::text < '3'")
    pair.start()
    pair.run("UPDATE f SET c = '(1,-0)' WHERE a::text > '2'; DELETE FROM f WHERE a::text = '4'; UPDATE f SET b = NULL WHERE ctid IN (SELECT min(ctid::text)::tid FROM f)")
    assert pair.apply()["serial"] == 0
    pair.run("DELETE FROM f WHERE a::text LIKE '1%'")
    pair.apply(1)
    pair.equal()


def test_full_with_unique_swap(pair):
    """Set-wise the unique index is violated: one by one."""
    pair.define("CREATE TABLE f (a int UNIQUE, b int); ALTER TABLE f REPLICA IDENTITY FULL; INSERT INTO f VALUES (1, 1), (2, 2), (3, 3)")
    pair.start()
    pair.run("BEGIN; UPDATE f SET a = 9 WHERE b = 1; UPDATE f SET a = 1 WHERE b = 2; UPDATE f SET a = 2 WHERE b = 1; COMMIT")
    assert pair.apply()["updates"] > 0
    pair.equal()


# --- identity columns ---

ALWAYS = """CREATE TABLE k (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, doc text);
CREATE TABLE o (id int PRIMARY KEY, seq int GENERATED ALWAYS AS IDENTITY, doc text);
CREATE TABLE d (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, n int);
ALTER TABLE k ALTER doc SET STORAGE EXTERNAL; ALTER TABLE o ALTER doc SET STORAGE EXTERNAL;
INSERT INTO k (n, doc) SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 10) i;
INSERT INTO o (id, doc) SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 10) i;
INSERT INTO d (n) SELECT i FROM generate_series(1, 10) i;"""


@pytest.mark.parametrize("rows", SIZES)
def test_identity_columns(rows, any_pair):
    """They cannot be SET, but UPDATE ... SET it = DEFAULT changes them. Unchanged TOAST values stay."""
    pair = any_pair
    pair.define(ALWAYS)
    pair.start()
    pair.run("UPDATE k SET id = DEFAULT WHERE n = 3; UPDATE k SET n = 100 WHERE n = 4; UPDATE k SET id = DEFAULT, doc = 'short' WHERE n = 5")
    pair.run("UPDATE o SET seq = DEFAULT WHERE id IN (2, 3); UPDATE o SET doc = 'x' WHERE id = 4; UPDATE o SET id = 50 WHERE id = 5")
    pair.run("UPDATE d SET id = DEFAULT WHERE n = 3; INSERT INTO k (n) VALUES (7); INSERT INTO o (id) VALUES (70); INSERT INTO d (n) VALUES (7)")
    pair.run("BEGIN; UPDATE k SET id = DEFAULT WHERE n = 8; UPDATE k SET id = DEFAULT WHERE n = 8; UPDATE k SET n = 80 WHERE n = 8; COMMIT")
    pair.run("DELETE FROM k WHERE n = 9; INSERT INTO k (id, n) OVERRIDING SYSTEM VALUE VALUES (9, 9)")
    pair.apply(rows)
    pair.equal()


# --- TRUNCATE ---

FAMILY = """CREATE TABLE a (id int PRIMARY KEY, n serial); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE p (id int, PRIMARY KEY (id)) PARTITION BY LIST (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
CREATE TABLE r (id int PRIMARY KEY, p int REFERENCES p); CREATE TABLE i (id int PRIMARY KEY); CREATE TABLE j () INHERITS (i);
INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1, 1); INSERT INTO c VALUES (1); INSERT INTO p VALUES (1), (2); INSERT INTO r VALUES (1, 1);
INSERT INTO i VALUES (1); INSERT INTO j VALUES (2);"""


@pytest.mark.turns(5)
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("statement", (
    "TRUNCATE a, b", "TRUNCATE a CASCADE", "TRUNCATE a RESTART IDENTITY CASCADE", "TRUNCATE c; TRUNCATE b", "TRUNCATE p CASCADE", "TRUNCATE r, p",
    "TRUNCATE r, p2", "TRUNCATE i", "TRUNCATE ONLY i", "BEGIN; INSERT INTO c VALUES (5); TRUNCATE c; INSERT INTO c VALUES (6); COMMIT",
    "BEGIN; DELETE FROM b; TRUNCATE a CASCADE; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1); COMMIT"))
def test_truncate(statement, rows, pair):
    pair.define(FAMILY)
    pair.start()
    pair.run("INSERT INTO a VALUES (10); INSERT INTO c VALUES (10)")
    pair.run(statement)
    pair.run("INSERT INTO a VALUES (11)")
    found = pair.apply(rows)
    assert found["truncates"] >= 1
    pair.equal()


def test_truncate_partitions_of_all_majors(any_pair):
    any_pair.define(FAMILY)
    any_pair.start()
    any_pair.run("TRUNCATE p CASCADE; INSERT INTO p VALUES (2)")
    any_pair.apply()
    any_pair.equal()


def test_truncate_under_an_unlogged_table(pair):
    """It is in no stream, so the message does not name it; the server refuses TRUNCATE for its foreign key."""
    pair.define("CREATE TABLE a (id int PRIMARY KEY); CREATE UNLOGGED TABLE u (a int REFERENCES a); INSERT INTO a VALUES (1)")
    pair.dest.sql("INSERT INTO u VALUES (1)")
    pair.start()
    pair.run("TRUNCATE a CASCADE; INSERT INTO a VALUES (2)")
    assert pair.apply()["truncates"] == 1
    assert pair.dest.sql("SELECT id FROM a") == [(2,)]


def test_truncate_under_a_table_that_is_not_ours(pair):
    pair.define("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
    pair.dest.sql("CREATE TABLE stranger (a int REFERENCES a); INSERT INTO stranger VALUES (1)")
    pair.start()
    pair.run("TRUNCATE a")
    assert "stranger" in pair.fails("CONFLICT")
    assert pair.dest.sql("SELECT id FROM a") == [(1,)]


# --- what does not fit ---


@pytest.fixture
def conflicting(pair):
    pair.define("CREATE TABLE s (id int PRIMARY KEY, n int UNIQUE, t text); INSERT INTO s SELECT i, i, 'row' FROM generate_series(1, 5) i;"
                "CREATE TABLE other (id int PRIMARY KEY)")
    pair.start()
    pair.run("INSERT INTO other VALUES (1)")
    pair.apply()
    return pair


@pytest.mark.turns(5)
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("at_dest, at_source, words", (
    ("DELETE FROM s WHERE id = 3", "UPDATE s SET t = 'new' WHERE id = 3", ("cannot update row (id = 3) of table public.s", "no row with this key", "t = new")),
    ("DELETE FROM s WHERE id = 3", "DELETE FROM s WHERE id = 3", ("cannot delete row (id = 3)", "no row with this key")),
    ("INSERT INTO s VALUES (7, 70, 'theirs')", "INSERT INTO s VALUES (7, 7, 'ours')",
     ("cannot insert row (id = 7)", "t = ours", "the destination has (7,70,theirs)", "s_pkey")),
    ("UPDATE s SET n = 99 WHERE id = 1", "UPDATE s SET n = 99 WHERE id = 2", ("cannot update row (id = 2)", "(n)=(99)", "the destination has (2,2,row)")),
    ("ALTER TABLE s ADD CHECK (n < 50)", "UPDATE s SET n = 60 WHERE id = 2", ("cannot update row (id = 2)", "n = 60", "check constraint")),
    ("ALTER TABLE s ADD CHECK (length(t) < 5)", "UPDATE s SET t = 'too long' WHERE id = 2", ("cannot update row (id = 2)", "too long"))))
def test_conflict(at_dest, at_source, words, rows, conflicting):
    """Nothing of the transaction is applied, the position stays, the row is named; mended, the same run goes on."""
    pair = conflicting
    before = pair.position()
    pair.dest.sql(at_dest)
    pair.run(f"BEGIN; INSERT INTO other VALUES (2); {at_source}; INSERT INTO other VALUES (3); COMMIT")
    message = pair.fails("CONFLICT", rows)
    for word in words:
        assert word in message, message
    assert pair.position() == before
    assert pair.dest.sql("SELECT id FROM other") == [(1,)]
    pair.fails("CONFLICT", rows)
    pair.dest.sql("ALTER TABLE s DROP CONSTRAINT IF EXISTS s_n_check; ALTER TABLE s DROP CONSTRAINT IF EXISTS s_t_check; TRUNCATE s")
    pair.dest.sql("INSERT INTO s SELECT i, i, 'row' FROM generate_series(1, 5) i")
    pair.apply(rows)
    pair.equal()


@pytest.mark.parametrize("at_source, at_dest", (("numeric(10,4)", "numeric(10,2)"), ("timestamp", "timestamp(0)"), ("text", "varchar(4)")))
def test_types_that_differ_are_refused(at_source, at_dest, pair):
    """A value would be rounded or cut without a word."""
    pair.define(f"CREATE TABLE s (id int PRIMARY KEY, v {at_source})")
    pair.dest.sql(f"ALTER TABLE s ALTER v TYPE {at_dest}")
    pair.start()
    pair.run("INSERT INTO s VALUES (1, NULL)")
    assert "column v of table public.s" in pair.fails("TABLE_CHANGED")


def test_row_in_the_way_in_a_table_without_identity(pair):
    """The source has deleted it, which is not in the stream; the table is compared in the end."""
    pair.define("CREATE TABLE s (code text UNIQUE, v int); INSERT INTO s VALUES ('a', 1), ('b', 2)")
    pair.start()
    pair.run("DELETE FROM s WHERE code = 'a'; INSERT INTO s VALUES ('c', 3), ('a', 9), ('d', 4)")
    pair.apply()
    assert pair.dest.sql("SELECT * FROM s ORDER BY code") == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]


DEFERRABLE = """CREATE TABLE s (id int PRIMARY KEY DEFERRABLE, email text UNIQUE, x int, EXCLUDE USING btree (x WITH =) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO s SELECT g, 'mail ' || g, g FROM generate_series(1, 5) g"""


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("replica", (True, False))
def test_row_in_the_way_and_a_deferrable_constraint(replica, rows, any_pair):
    """ON CONFLICT is refused there. Without the replica role, the constraint itself would be checked at COMMIT only."""
    pair = any_pair
    pair.define(DEFERRABLE)
    if not replica:
        pair.as_plain_role()
    pair.start()
    pair.run("DELETE FROM s; INSERT INTO s VALUES (11, 'mail 1', 11), (12, 'new', 12), (13, 'mail 3', 13); INSERT INTO s VALUES (14, 'more', 14)")
    pair.run("INSERT INTO s VALUES (1, 'same key', 21)")
    pair.run("BEGIN; INSERT INTO s VALUES (15, 'same x', 2); INSERT INTO s VALUES (16, 'last', 16); COMMIT")
    pair.apply(rows)
    new = {row[0] for row in pair.dest.sql("SELECT email FROM s WHERE id > 10 OR email !~ '^mail'")}
    assert new >= {"new", "more", "last"} and not any(word.startswith("mail") for word in new)
    if not replica:
        assert new == {"new", "more", "last"}


def test_conflict_of_identity_full(pair):
    pair.define("CREATE TABLE f (a int, b text); ALTER TABLE f REPLICA IDENTITY FULL; INSERT INTO f VALUES (1, 'x'), (2, 'y')")
    pair.start()
    pair.dest.sql("UPDATE f SET b = 'theirs' WHERE a = 1")
    pair.run("UPDATE f SET b = 'ours'")
    message = pair.fails("CONFLICT")
    assert "(a = 1, b = x)" in message and "no row of the destination has these values" in message
    assert pair.dest.sql("SELECT b FROM f ORDER BY a") == [("theirs",), ("y",)]


def test_conflict_with_long_values(pair):
    pair.define("CREATE TABLE t (id text PRIMARY KEY, doc text)")
    pair.start()
    pair.dest.sql("INSERT INTO t VALUES (repeat('ü', 400), repeat('d', 5000))")
    pair.run("INSERT INTO t VALUES (repeat('ü', 400), repeat('s', 5000))")
    message = pair.fails("CONFLICT")
    assert "cannot insert" in message and "the destination has" in message and len(message) < 1000


def test_column_missing(pair):
    pair.define("CREATE TABLE t (id int PRIMARY KEY, n int)")
    pair.start()
    pair.dest.sql("ALTER TABLE t DROP n")
    pair.run("INSERT INTO t VALUES (1, 1)")
    assert "column n of table public.t" in pair.fails("TABLE_CHANGED")
    pair.dest.sql("DROP TABLE t")
    assert "table public.t is not on the destination" in pair.fails("TABLE_CHANGED")


@pytest.mark.parametrize("identity", ("DEFAULT", "FULL"))
def test_columns_in_another_order_and_more_of_them(identity, pair):
    pair.source.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b int)")
    pair.dest.sql("CREATE TABLE t (b int, more int DEFAULT 5, a text, id int PRIMARY KEY, twice int GENERATED ALWAYS AS (b * 2) STORED)")
    pair.source.sql(f"ALTER TABLE t REPLICA IDENTITY {identity}")
    pair.start()
    pair.run("INSERT INTO t SELECT i, 'a', i FROM generate_series(1, 600) i")
    pair.apply()
    pair.dest.sql("UPDATE t SET more = 6 WHERE id = 2")
    pair.run("UPDATE t SET b = 10 WHERE id < 4; DELETE FROM t WHERE id > 3")
    pair.apply()
    assert pair.dest.sql("SELECT id, a, b, more, twice FROM t ORDER BY id") == [(1, "a", 10, 5, 20), (2, "a", 10, 6, 20), (3, "a", 10, 5, 20)]


def test_generated_columns_of_the_stream(make_pair):
    pair = make_pair(18)
    pair.define("CREATE TABLE t (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) STORED, v int GENERATED ALWAYS AS (n * 3) VIRTUAL);"
                "CREATE TABLE f (n int, g int GENERATED ALWAYS AS (n * 2) STORED); ALTER TABLE f REPLICA IDENTITY FULL")
    pair.start()
    for name in ("all", "keys"):
        pair.run(f"ALTER PUBLICATION pgcrane_apply_{name} SET (publish_generated_columns = stored)")
    pair.run("INSERT INTO t SELECT i, i FROM generate_series(1, 600) i; UPDATE t SET n = n + 1 WHERE id < 5; INSERT INTO f SELECT 1 FROM generate_series(1, 3)")
    pair.apply()
    pair.run("UPDATE f SET n = 2; DELETE FROM t WHERE id = 1")
    pair.apply()
    pair.equal()


# --- position ---


def test_position_moved_by_another(pair):
    pair.define("CREATE TABLE t (id int PRIMARY KEY)")
    pair.start()
    pair.run("INSERT INTO t VALUES (1)")
    pair.apply()
    pair.run("INSERT INTO t VALUES (2)")
    pair.dest.sql("CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE pgcrane.position SET lsn = '0/1'; RETURN NULL; END$$;"
                  "CREATE TRIGGER away AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION away(); ALTER TABLE t ENABLE ALWAYS TRIGGER away")
    assert "position" in pair.fails("FENCED")
    assert pair.dest.sql("SELECT id FROM t") == [(1,)]


@pytest.mark.parametrize("point, applied", (("apply.after_parts", 1), ("apply.before_commit", 1), ("apply.after_commit", 2)))
def test_killed(point, applied, pair):
    pair.define("CREATE TABLE t (id int PRIMARY KEY)")
    pair.start()
    pair.run("INSERT INTO t VALUES (1)")
    pair.apply()
    pair.run("INSERT INTO t VALUES (2)")
    pair.apply(env={"PGCRANE_FAILPOINT": f"{point}:kill"}, code=-9)
    assert len(pair.dest.sql("SELECT id FROM t")) == applied
    pair.apply()
    assert pair.position()[1] == 2
    pair.equal()
