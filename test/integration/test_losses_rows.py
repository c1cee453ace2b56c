"""Rows as other tools lost them: each rule's tables are changed while they are followed, and compared after the promote.

What was lost by whom: doc/design/losses.md. How it is run: test/support/losses.py.
"""
import pytest

from support.losses import MODES, Book, Loss, migrated

pytestmark = pytest.mark.turns(3)

book = Book()


@pytest.fixture(scope="module", params=(15, 18))
def session(request, make_cluster, tmp_path_factory):
    clusters = [make_cluster(f"rows{request.param}{side}", major=request.param, config={"shared_buffers": "32MB"})
                for side in ("source", "dest")]
    with migrated(book, clusters, tmp_path_factory.mktemp("losses")) as made:
        yield made


@pytest.fixture
def loss(session, request):
    return Loss(session, book.rules[request.node.originalname.removeprefix("test_")])


def test_everything(session):
    """Besides what each test looks at: the two databases are the same, definitions and sequences included."""
    assert session.promoted["ok"] and session.promoted["proven"]
    assert not session.failed
    assert not session.differences()


@pytest.mark.turns(5)
def test_from_13_to_18(make_cluster, tmp_path):
    """The oldest to the newest: every rule's rows, all tables and sequences. The texts of definitions differ between majors."""
    clusters = [make_cluster(name, major=major, config={"shared_buffers": "32MB"}) for name, major in (("rows_old", 13), ("rows_new", 18))]
    with migrated(book, clusters, tmp_path, "--pg-bindir", clusters[1].bin) as made:
        assert made.promoted["ok"] and made.promoted["proven"] and not made.failed
        for rule in made.rules:
            Loss(made, rule).equal()


# --- TOAST ---

DOCS = """CREATE TABLE t (id int PRIMARY KEY, n int, doc text, other text);
ALTER TABLE t ALTER doc SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
INSERT INTO t SELECT i, i, repeat(md5(i::text), 300), repeat(md5((-i)::text), 300) FROM generate_series(1, 20) i;"""


@book.rule(DOCS, "UPDATE t SET n = n + 1", "UPDATE t SET doc = 'short' WHERE id = 1", "UPDATE t SET n = 0 WHERE id IN (1, 2)",
           "UPDATE t SET n = 5 WHERE id = 3; UPDATE t SET other = 'new' WHERE id = 3; UPDATE t SET n = 6 WHERE id = 3",
           "INSERT INTO t VALUES (21, 1, repeat('long', 3000), NULL); UPDATE t SET n = 2 WHERE id = 21; UPDATE t SET n = 3 WHERE id = 21",
           "UPDATE t SET doc = doc || '!' WHERE id = 4", "UPDATE t SET n = 9 WHERE id = 4")
def test_toast_unchanged(loss):
    """A large value that an update leaves alone is not in the stream: neither NULL nor a placeholder may take its place."""
    loss.equal()
    assert loss.both("SELECT id, length(doc), length(other) FROM t WHERE id IN (1, 3, 4, 5, 21) ORDER BY id") == [
        (1, 5, 9600), (3, 9600, 3), (4, 9601, 9600), (5, 9600, 9600), (21, 12000, None)]


@book.rule(DOCS, "UPDATE t SET id = id + 100 WHERE id <= 3", "UPDATE t SET id = id + 100, other = 'x' WHERE id = 4",
           "UPDATE t SET id = 200 WHERE id = 5; UPDATE t SET n = 1 WHERE id = 200; UPDATE t SET id = 201 WHERE id = 200",
           "UPDATE t SET id = 300 WHERE id = 6; UPDATE t SET id = 6 WHERE id = 300",
           "UPDATE t SET id = 400 WHERE id = 7; INSERT INTO t VALUES (7, 7, 'another', 'seven')",
           "UPDATE t SET id = -1 WHERE id = 8; UPDATE t SET id = 8 WHERE id = 9; UPDATE t SET id = 9 WHERE id = -1")
def test_toast_and_key_change(loss):
    """Folded into DELETE and INSERT, the new row would lack the large value. Also through chains and swaps of keys."""
    loss.equal()
    assert loss.values("SELECT count(*) FROM t WHERE length(doc) = 9600") == [20]


@book.rule(DOCS + "ALTER TABLE t REPLICA IDENTITY FULL", "UPDATE t SET n = n + 1", "UPDATE t SET other = NULL WHERE id < 5",
           "UPDATE t SET n = 77 WHERE id = 6; UPDATE t SET n = 78 WHERE id = 6", "DELETE FROM t WHERE id > 17")
def test_toast_with_identity_full(loss):
    loss.equal()
    assert loss.values("SELECT count(*) FROM t WHERE length(doc) = 9600") == [17]


# --- keys ---

KEYS = """CREATE TABLE t (id int PRIMARY KEY, v text, u int UNIQUE);
INSERT INTO t SELECT i, 'row ' || i, i FROM generate_series(1, 50) i;"""


@book.rule(KEYS, "UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2; UPDATE t SET id = 2 WHERE id = -1",
           "UPDATE t SET id = -id; UPDATE t SET id = 1 - id", "UPDATE t SET id = 1000 WHERE id = 10; UPDATE t SET id = 10 WHERE id = 11",
           "UPDATE t SET id = 2000 WHERE id = 12; DELETE FROM t WHERE id = 2000",
           "UPDATE t SET id = 2001 WHERE id = 13; INSERT INTO t VALUES (13, 'new', 1013); DELETE FROM t WHERE id = 2001")
def test_key_swaps_and_chains(loss):
    """A key that one row gives up and another takes, in one transaction."""
    loss.equal()
    assert loss.both("SELECT id, v FROM t WHERE id IN (2, 3, 10, 1000) ORDER BY id") == [
        (2, "row 2"), (3, "row 1"), (10, "row 10"), (1000, "row 9")]


@book.rule(KEYS, "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, NULL, 1)", "DELETE FROM t WHERE id < 10", "INSERT INTO t VALUES (5, 'again', 5)",
           "INSERT INTO t VALUES (100, 'a', 100); DELETE FROM t WHERE id = 100; INSERT INTO t VALUES (100, 'b', 100)",
           "DELETE FROM t WHERE id = 20; INSERT INTO t VALUES (20, 'c', 20); DELETE FROM t WHERE id = 20",
           "INSERT INTO t VALUES (200, 'short life', 200); UPDATE t SET v = 'x' WHERE id = 200; DELETE FROM t WHERE id = 200")
def test_delete_and_insert_again(loss):
    loss.equal()
    assert loss.both("SELECT id, v FROM t WHERE id IN (1, 5, 20, 100, 200) ORDER BY id") == [(5, "again"), (100, "b")]


@book.rule(KEYS, "UPDATE t SET u = -1 WHERE id = 1; UPDATE t SET u = 1 WHERE id = 2; UPDATE t SET u = 2 WHERE id = 1",
           "UPDATE t SET u = -u; UPDATE t SET u = 1 - u", "DELETE FROM t WHERE id = 7; UPDATE t SET u = (SELECT max(u) + 1 FROM t) WHERE id = 8;"
           "INSERT INTO t VALUES (7, 'took the place of 8', 9)")
def test_unique_swaps(loss):
    """A value that is unique besides the key changes hands within one transaction."""
    loss.equal()
    assert loss.values("SELECT u FROM t WHERE id IN (1, 2, 7) ORDER BY id") == [3, 2, 9]


@book.rule("""CREATE TABLE t (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY DEFERRED, r int4range,
EXCLUDE USING gist (r WITH &&) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO t SELECT i, i, int4range(i * 10, i * 10 + 10) FROM generate_series(1, 20) i""",
           "UPDATE t SET place = 21 - place", "UPDATE t SET place = 3 - place, r = int4range((3 - id) * 10, (3 - id) * 10 + 10) WHERE id IN (1, 2)",
           "INSERT INTO t VALUES (30, 5, NULL); UPDATE t SET place = 50 WHERE id = 16")
def test_deferrable_unique(loss):
    """Not checked in the replica role at all: right by what is applied, and checked again after the promote."""
    loss.equal()
    assert loss.values("SELECT count(DISTINCT place) FROM t") == [21]
    with pytest.raises(Exception, match="duplicate key"):
        loss.tried("INSERT INTO t VALUES (31, 5, NULL); SET CONSTRAINTS ALL IMMEDIATE")


@book.rule("""CREATE TABLE apart (id int PRIMARY KEY, r int4range, CONSTRAINT apart_r EXCLUDE USING gist (r WITH &&));
INSERT INTO apart SELECT i, int4range(i * 10, i * 10 + 10) FROM generate_series(1, 20) i""",
           "BEGIN; UPDATE apart SET r = '[1000,1001)' WHERE id = 1; UPDATE apart SET r = '[10,20)' WHERE id = 2; UPDATE apart SET r = '[20,30)' WHERE id = 1; COMMIT",
           "BEGIN; DELETE FROM apart WHERE id = 5; UPDATE apart SET r = '[40,45)' WHERE id = 4; UPDATE apart SET r = '[45,60)' WHERE id = 6; INSERT INTO apart VALUES (5, '[60,70)'); COMMIT")
def test_exclusion_swaps(loss):
    """Rows that hand what they exclude on to one another, within one transaction: any other order is refused."""
    loss.equal()
    assert loss.values("SELECT r::text FROM apart WHERE id < 7 ORDER BY id") == ["[20,30)", "[10,20)", "[30,40)", "[40,45)", "[60,70)", "[45,60)"]


@book.rule("""CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 20) i;
CREATE TABLE twice (id int, v text); INSERT INTO twice SELECT 1, 'same' FROM generate_series(1, 5)""",
           "UPDATE t SET id = id + 1", "UPDATE t SET v = 'new' WHERE id > 15", "DELETE FROM t WHERE id = 5", "INSERT INTO t VALUES (100, 'inserted')",
           "UPDATE twice SET v = 'other' WHERE ctid = (SELECT max(ctid) FROM twice)", "DELETE FROM twice WHERE ctid = (SELECT min(ctid) FROM twice)")
def test_no_identity(loss):
    """A deferrable primary key is no identity, and a table without a key has none: the application's UPDATE and DELETE must go
    on (a publication of updates would stop them), and the rows must be the same in the end."""
    loss.equal()
    assert loss.values("SELECT count(*) FROM t") == [20] and loss.both("SELECT v, count(*) FROM twice GROUP BY 1 ORDER BY 1") == [("other", 1), ("same", 3)]


@book.rule("""CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY NOTHING;
INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 20) i""",
           "UPDATE t SET v = 'new' WHERE id > 15", "DELETE FROM t WHERE id = 5", "INSERT INTO t VALUES (100, 'inserted') ON CONFLICT (id) DO UPDATE SET v = 'x'",
           "INSERT INTO t VALUES (1, 'inserted') ON CONFLICT (id) DO UPDATE SET v = 'conflict'")
def test_identity_nothing(loss):
    loss.equal()
    assert loss.values("SELECT v FROM t WHERE id IN (1, 16, 100) ORDER BY id") == ["conflict", "new", "inserted"]
    assert loss.values("SELECT relreplident::text FROM pg_class WHERE oid = 't'::regclass") == ["n"]


@book.rule("""CREATE TABLE t (code text NOT NULL, k int NOT NULL, v text); CREATE UNIQUE INDEX t_key ON t (k, code);
ALTER TABLE t REPLICA IDENTITY USING INDEX t_key; INSERT INTO t SELECT 'c' || i, i, 'row' FROM generate_series(1, 20) i;
CREATE TABLE after (id int PRIMARY KEY)""",
           "UPDATE t SET v = 'new' WHERE k < 5", "UPDATE t SET code = code || '''' WHERE k < 8", "DELETE FROM t WHERE k = 10", "INSERT INTO after VALUES (1)")
def test_identity_by_index(loss):
    """The index is the identity on the destination as well; nothing behind its first update is lost."""
    loss.equal()
    assert loss.values("SELECT indisreplident FROM pg_index WHERE indexrelid = 't_key'::regclass") == [True]
    assert loss.values("SELECT id FROM after") == [1]


@book.rule("CREATE TABLE n (k numeric PRIMARY KEY, v int); CREATE TABLE f (k float8 PRIMARY KEY, v int); CREATE TABLE c (k char(5) PRIMARY KEY, v int);"
           "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE e (k mood PRIMARY KEY, v int); INSERT INTO n VALUES (1.0, 1), (2, 2); INSERT INTO f VALUES (0, 1), ('NaN', 2);"
           "INSERT INTO c VALUES ('a', 1), ('b', 2); INSERT INTO e VALUES ('sad', 1), ('ok', 2)",
           "UPDATE n SET k = 1.000 WHERE k = 1", "UPDATE n SET v = 10 WHERE k = 1", "UPDATE n SET k = k * 1.00 WHERE k = 1",
           "UPDATE f SET k = '-0' WHERE k = 0", "UPDATE f SET v = 20 WHERE k = 0", "UPDATE f SET k = '-Infinity' WHERE k = 'NaN'", "UPDATE c SET k = 'ab' WHERE k = 'a'",
           "DELETE FROM c WHERE k = 'b'", "DELETE FROM e WHERE k = 'ok'", "UPDATE e SET k = 'ok', v = 5",
           "DELETE FROM n WHERE k = 2; INSERT INTO n VALUES (2.0, 3); UPDATE n SET k = 2.00 WHERE k = 2")
def test_keys_of_several_texts(loss):
    """Keys that are equal and do not look it: 1.0 and 1.000, 0 and -0; padded ones; enums."""
    loss.equal()
    assert loss.values("SELECT k::text FROM n ORDER BY k") == ["1.00000", "2.00"] and loss.values("SELECT k::text FROM f WHERE v = 20") == ["-0"]
    assert loss.both("SELECT k::text, v FROM e") == [("ok", 5)]


@book.rule("""CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE t (k text COLLATE ci PRIMARY KEY, n int);
INSERT INTO t VALUES ('a', 1), ('B', 2), ('c', 3)""",
           "UPDATE t SET k = 'A' WHERE k = 'a'", "UPDATE t SET n = 5 WHERE k = 'a'", "DELETE FROM t WHERE k = 'b'; INSERT INTO t VALUES ('b', 9); UPDATE t SET k = 'B' WHERE k = 'b'",
           "UPDATE t SET k = 'C', n = 30 WHERE k = 'c'; UPDATE t SET k = 'd' WHERE k = 'C'; INSERT INTO t VALUES ('c', 31)")
def test_keys_of_a_collation(loss):
    """Keys that a collation calls equal are one row to the index, and other bytes to the stream."""
    loss.equal()
    assert loss.both("SELECT k, n FROM t ORDER BY n") == [("A", 5), ("B", 9), ("d", 30), ("c", 31)]


# --- identity FULL ---

@book.rule("CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT 1, 'same' FROM generate_series(1, 5); INSERT INTO t VALUES (2, NULL), (2, NULL)",
           "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)", "UPDATE t SET b = 'one of them' WHERE ctid = (SELECT max(ctid) FROM t WHERE b = 'same')",
           "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE b IS NULL)")
def test_full_duplicates(loss):
    """Of several equal rows one is deleted, not all of them."""
    loss.equal()
    assert loss.both("SELECT a, b, count(*) FROM t GROUP BY 1, 2 ORDER BY 1, 2") == [(1, "one of them", 1), (1, "same", 3), (2, None, 1)]


IMAGES = """CREATE TABLE t (f float8, r real, n numeric, i interval, j json, jb jsonb, x xml, p point, c char(4), v text);
ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t VALUES ('-0', '-0', 1.00, '24 hours', '{"a": 1}', '{"a": 1}', '<a/>', '(0,-0)', 'x', 'first'),
 (0, 0, 1.0, '1 day', '{"a":1}', '{"a": 1.0}', '<a></a>', '(0,0)', 'x', 'second'),
 ('NaN', 'NaN', 'NaN', NULL, NULL, NULL, NULL, NULL, NULL, NULL), ('NaN', 'NaN', 'NaN', NULL, NULL, NULL, NULL, NULL, '', ''),
 (0.1::float8 + 0.2, 0.1::real + 0.2, 1e-20, '-1 mon +3 days', 'null', 'null', '', '(1e300,1)', '', '');"""


@book.rule(IMAGES, "UPDATE t SET v = 'was minus nought' WHERE f::text = '-0'", "DELETE FROM t WHERE v = 'second'", "UPDATE t SET v = 'was null' WHERE v IS NULL",
           "UPDATE t SET n = n * 1.000 WHERE v = 'was minus nought'", "UPDATE t SET c = 'y' WHERE r > 0.2 AND f < 1")
def test_full_images(loss):
    """Rows are told apart by what they hold, not by =: -0 and 0, 1.0 and 1.00, a day and 24 hours, json, xml, points, '' and NULL."""
    loss.equal()
    assert loss.both("SELECT f::text, n::text, v FROM t WHERE v LIKE 'was%' ORDER BY v") == [("-0", "1.00000", "was minus nought"), ("NaN", "NaN", "was null")]


@book.rule("""CREATE DOMAIN measure AS float8; CREATE TABLE t (id int, f float8, r real, d measure, fs float8[]); ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t SELECT g, -('NaN'::float8), -('NaN'::real), -('NaN'::float8), ARRAY[-('NaN'::float8), 1] FROM generate_series(1, 4) g; INSERT INTO t VALUES (5, 'NaN', 'NaN', 'NaN', '{NaN}');
CREATE TABLE s (id int, f float8, n text); ALTER TABLE s REPLICA IDENTITY FULL; INSERT INTO s SELECT g, 'Infinity'::float8 - 'Infinity', 'n' FROM generate_series(1, 3) g""",
           "UPDATE t SET r = 1 WHERE id = 1", "DELETE FROM t WHERE id = 2", "BEGIN; UPDATE t SET id = id + 10 WHERE id IN (3, 5); UPDATE s SET n = 'm'; COMMIT", "DELETE FROM s WHERE id > 1")
def test_full_not_a_number(loss):
    """There are many NaN: what arithmetic makes is not the one that 'NaN' is read as, and a binary copy keeps it."""
    loss.equal()
    assert loss.both("SELECT id, r::text FROM t ORDER BY id") == [(1, "1"), (4, "NaN"), (13, "NaN"), (15, "NaN")]


@book.rule("""CREATE TABLE t (gone int, a int, b text, gone_too text); ALTER TABLE t DROP gone; INSERT INTO t VALUES (1, 'x', 'y'), (2, 'x', 'y');
ALTER TABLE t DROP gone_too; ALTER TABLE t ADD later text DEFAULT 'default', ADD c int; ALTER TABLE t REPLICA IDENTITY FULL""",
           "UPDATE t SET b = 'new' WHERE a = 1", "DELETE FROM t WHERE a = 2", "INSERT INTO t VALUES (3, 'z')", "UPDATE t SET later = NULL WHERE a = 3")
def test_full_dropped_and_added_columns(loss):
    """Old rows lack added columns (their default is in the catalogue) and keep dropped ones."""
    loss.equal()
    assert loss.both("SELECT * FROM t ORDER BY a") == [(1, "new", "default", None), (3, "z", None, None)]


# --- values ---

TYPES = """CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'a,b'); CREATE TYPE place AS (street text, no int, spot point);
CREATE DOMAIN percent AS numeric(5, 2) CHECK (VALUE BETWEEN 0 AND 100); CREATE DOMAIN percents AS percent[]; CREATE TYPE textrange AS RANGE (subtype = text);
CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[], p place, ps place[], d percent, ds percents, r int4range, rs daterange[], tr textrange, grid int[][], f float8, r4 real,
 n numeric, money money, b bytea, dt date, tm time, tz timetz, ts timestamp, tts timestamptz, i interval, bits bit(5), vbits varbit, x xml, j json, jb jsonb, u uuid, net inet,
 mac macaddr, pt point, poly polygon, tv tsvector, tq tsquery, l pg_lsn, cls regclass, c char(4), vc varchar(3), nm name, ch "char");
INSERT INTO t (id) SELECT generate_series(1, 5);"""
VALUES = r"""(m, ms, p, ps, d, ds, r, rs, tr, grid, f, r4, n, money, b, dt, tm, tz, ts, tts, i, bits, vbits, x, j, jb, u, net, mac, pt, poly, tv, tq, l, cls, c, vc, nm, ch)
 = ROW('a,b'::mood, '{sad,NULL,"it''s \"ok\""}', '("a ""b"" \\",1,"(1,-0)")', ARRAY[ROW('x', 1, NULL)::place, NULL], 99.50, '{1,NULL}', '[1,5)',
 ARRAY['[2024-01-01,infinity)'::daterange, 'empty'], '["a,b",c]', '[0:1][2:3]={{1,2},{3,NULL}}', 0.1::float8 + 0.2, 1.1, 'NaN', 12.34::numeric::money, '\x00ff5c27',
 '4713-01-01 BC'::date, '24:00', '12:00+05:30', 'infinity', '294276-12-31 23:59:59.999999+00', make_interval(years => 1, days => -2, secs => 3.5), '10101', '', '<a b="c">x</a>', '{"a" : [1,  2]}',
 '{"b": 1.00}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1/8', '08:00:2b:01:02:03', '(1e-300,2)', '((0,0),(1,1),(1,0))', 'a:1 b:2', 'a & !b', '0/16B3748',
 'pg_class'::regclass, 'é', '', repeat('n', 63), 'x')"""


@book.rule(TYPES, f"UPDATE t SET {VALUES} WHERE id = 1", "INSERT INTO t SELECT 10 + id, m, ms, p, ps, d, ds, r, rs, tr, grid, f, r4, n, money, b FROM t WHERE id = 1",
           f"UPDATE t SET {VALUES} WHERE id = 2; UPDATE t SET p = NULL, ms = '{{}}', r = 'empty', f = '-0', n = '1.000' WHERE id = 2",
           "UPDATE t SET f = '-Infinity', r4 = 'NaN', n = '-0.0', dt = 'infinity', b = '' WHERE id = 3", "UPDATE t SET p.no = 5 WHERE id = 1",
           "UPDATE t SET x = 'no document <b/> but content', n = 123456789012345678901234567890.1234567890 WHERE id = 4", "UPDATE t SET id = 500, i = '1 mon -1 day' WHERE id = 5")
def test_types(loss):
    """Under settings of both databases that give other texts for dates, floats, bytea, xml; arrays of composites and domains."""
    loss.equal()
    assert loss.both("SELECT f::text, n::text, b = '' FROM t WHERE id IN (2, 3) ORDER BY id") == [("-0", "1.000", False), ("-Infinity", "0.0", True)]
    assert loss.values("SELECT (p).no FROM t WHERE id = 1") == [5]


@book.rule("CREATE TABLE t (id int PRIMARY KEY, m int4multirange, ms datemultirange[]); INSERT INTO t SELECT generate_series(1, 3)",
           "UPDATE t SET m = '{[1,3),[5,8)}', ms = ARRAY['{}'::datemultirange, '{[2024-01-01,)}'] WHERE id = 1", "UPDATE t SET m = '{}' WHERE id = 2", since=14)
def test_multiranges(loss):
    loss.equal()
    assert loss.values("SELECT m::text FROM t ORDER BY id") == ["{[1,3),[5,8)}", "{}", None]


@book.rule("CREATE TABLE t (id int PRIMARY KEY, a text, b text)",
           r"""INSERT INTO t VALUES (1, '', NULL), (2, NULL, ''), (3, 'NULL', '\N'), (4, E'tab\t nl\n cr\r back\\slash \\.', '\.'), (5, '{"a", b}', ' '),
 (6, 'é 漢字 🐘', E'\x01\x7f')""",
           "UPDATE t SET a = b, b = a WHERE id < 4", "UPDATE t SET a = NULL WHERE id = 5; UPDATE t SET b = '' WHERE id = 5", r"UPDATE t SET a = '\\x' WHERE id = 6")
def test_texts(loss):
    """'' is not NULL, 'NULL' is a text, and so is whatever COPY or JSON takes for a sign."""
    loss.equal()
    assert loss.both("SELECT a, b FROM t WHERE id IN (1, 2, 3) ORDER BY id") == [(None, ""), ("", None), (r"\N", "NULL")]


# --- statements ---

def copy_in(writing):
    with writing.connect() as conn, conn.cursor().copy("COPY t (id, v) FROM STDIN") as copy:
        for i in range(1, 1001):
            copy.write_row((i, f"copied {i}"))


@book.rule("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)", copy_in, "INSERT INTO u SELECT generate_series(1, 3000)", "UPDATE u SET id = -id")
def test_many_rows_of_one_record(loss):
    """COPY writes many rows in one record of the log, with one position: all of them are rows."""
    loss.equal()
    assert loss.values("SELECT count(*) FROM t") == [1000] and loss.values("SELECT count(*) FROM u WHERE id < 0") == [3000]


TWO = """CREATE TABLE a (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, s serial, v text); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE d (id int PRIMARY KEY);
CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
INSERT INTO a (v) SELECT 'row' FROM generate_series(1, 10); INSERT INTO b SELECT i, i FROM generate_series(1, 10) i; INSERT INTO c VALUES (1); INSERT INTO d VALUES (1); INSERT INTO p VALUES (1), (2);"""


@book.rule(TWO, "TRUNCATE a RESTART IDENTITY CASCADE", "INSERT INTO a (v) VALUES ('after'), ('after')", "INSERT INTO b VALUES (1, 1)", "INSERT INTO c VALUES (2); TRUNCATE c, d; INSERT INTO d VALUES (5)",
           "TRUNCATE p1", "INSERT INTO p VALUES (1); TRUNCATE p; INSERT INTO p VALUES (2)")
def test_truncate_of_several(loss):
    """Each table of the statement, with what CASCADE adds; in its place among the rows; the identity starts anew."""
    loss.equal()
    assert loss.both("SELECT id, s, v FROM a ORDER BY id") == [(1, 1, "after"), (2, 2, "after")]
    assert [loss.values(f"SELECT id FROM {table}") for table in "bcdp"] == [[1], [], [5], [2]]


@book.rule(TWO, "BEGIN; TRUNCATE c; ROLLBACK", "BEGIN; SAVEPOINT s; TRUNCATE d; INSERT INTO d VALUES (7); ROLLBACK TO s; INSERT INTO d VALUES (8); COMMIT")
def test_truncate_rolled_back(loss):
    loss.equal()
    assert loss.values("SELECT id FROM c") == [1] and loss.values("SELECT id FROM d ORDER BY 1") == [1, 8]


@book.rule("""CREATE TABLE k (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, doc text, twice int GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE o (id int PRIMARY KEY, seq int GENERATED ALWAYS AS IDENTITY); ALTER TABLE k ALTER doc SET STORAGE EXTERNAL;
INSERT INTO k (n, doc) SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 10) i; INSERT INTO o SELECT generate_series(1, 10)""",
           "UPDATE k SET id = DEFAULT WHERE n = 3", "UPDATE k SET n = 100 WHERE n = 4", "UPDATE k SET id = DEFAULT, doc = 'short' WHERE n = 5",
           "UPDATE k SET id = DEFAULT WHERE n = 8; UPDATE k SET id = DEFAULT WHERE n = 8; UPDATE k SET n = 80 WHERE n = 8", "UPDATE o SET seq = DEFAULT WHERE id IN (2, 3)",
           "DELETE FROM k WHERE n = 9; INSERT INTO k (id, n) OVERRIDING SYSTEM VALUE VALUES (9, 9), (500, 5)", "INSERT INTO k (n) VALUES (7)")
def test_generated_and_identity(loss):
    """Columns that nobody may write: identities keep the source's numbers, generated ones are made anew."""
    loss.equal()
    assert loss.both("SELECT twice, length(doc) FROM k WHERE n IN (80, 100) ORDER BY n") == [(160, 6400), (200, 6400)]
    assert loss.values("SELECT count(*) FROM k WHERE twice <> n * 2") == [0]


@book.rule("CREATE TABLE f (n int, g int GENERATED ALWAYS AS (n * 2) STORED); ALTER TABLE f REPLICA IDENTITY FULL; INSERT INTO f VALUES (1), (2), (2);"
           "CREATE TABLE k (n int NOT NULL, g int GENERATED ALWAYS AS (n % 10) STORED, PRIMARY KEY (g, n)); INSERT INTO k VALUES (1), (11), (2)",
           "INSERT INTO f VALUES (3)", "UPDATE f SET n = 5 WHERE n = 1", "DELETE FROM f WHERE ctid = (SELECT max(ctid) FROM f WHERE n = 2)", "UPDATE k SET n = 21 WHERE n = 11", "DELETE FROM k WHERE n = 2")
def test_generated_column_in_the_identity(loss):
    """It is not in the stream, so that 18 refuses to publish such updates: the application's must go on, and arrive."""
    loss.equal()
    assert loss.values("SELECT n FROM f ORDER BY 1") == [2, 3, 5] and loss.values("SELECT n FROM k ORDER BY 1") == [1, 21]


UPSERTS = "CREATE TABLE t (id int PRIMARY KEY, n int, v text DEFAULT 'default'); INSERT INTO t SELECT i, i FROM generate_series(1, 10) i"


@book.rule(UPSERTS, "INSERT INTO t VALUES (1, 0, 'x'), (50, 0, 'y') ON CONFLICT (id) DO UPDATE SET n = t.n + 100, v = excluded.v", "INSERT INTO t VALUES (2, 0, 'x'), (51, 0, 'y') ON CONFLICT DO NOTHING",
           "WITH moved AS (DELETE FROM t WHERE id = 3 RETURNING *) INSERT INTO t SELECT 300, n, v FROM moved", "UPDATE t SET v = o.v || '!' FROM t o WHERE t.id = 4 AND o.id = 5")
def test_on_conflict(loss):
    loss.equal()
    assert loss.both("SELECT * FROM t WHERE id IN (1, 2, 3, 4, 50, 51, 300) ORDER BY id") == [
        (1, 101, "x"), (2, 2, "default"), (4, 4, "default!"), (50, 0, "y"), (51, 0, "y"), (300, 3, "default")]


@book.rule(UPSERTS, """MERGE INTO t USING (VALUES (7, 'm'), (8, 'd'), (2000, 'i')) v (id, what) ON t.id = v.id
WHEN MATCHED AND what = 'd' THEN DELETE WHEN MATCHED THEN UPDATE SET v = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (v.id, 0, 'merged')""", since=15)
def test_merge(loss):
    loss.equal()
    assert loss.both("SELECT id, v FROM t WHERE id IN (7, 8, 2000) ORDER BY id") == [(7, "merged"), (2000, "merged")]


# --- transactions ---

@book.rule("CREATE TABLE t (id int PRIMARY KEY, n int)", "BEGIN; INSERT INTO t VALUES (1, 0); SAVEPOINT a; INSERT INTO t VALUES (2, 0); SAVEPOINT b; UPDATE t SET n = 9; ROLLBACK TO b; RELEASE a; COMMIT",
           "BEGIN; SAVEPOINT a; INSERT INTO t VALUES (3, 0); ROLLBACK TO a; INSERT INTO t VALUES (3, 33); COMMIT", "BEGIN; INSERT INTO t VALUES (4, 0); ROLLBACK",
           "DO $$BEGIN FOR i IN 100..399 LOOP BEGIN INSERT INTO t VALUES (i, 0); IF i % 3 = 0 THEN RAISE EXCEPTION 'no'; END IF;"
           " EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END$$")
def test_savepoints(loss):
    loss.equal()
    assert loss.both("SELECT * FROM t WHERE id < 100 ORDER BY id") == [(1, 0), (2, 0), (3, 33)] and loss.values("SELECT count(*) FROM t WHERE id >= 100") == [200]


def prepare(writing):
    for word, end in (("one", "COMMIT"), ("two", "ROLLBACK")):
        with writing.connect() as conn:
            conn.execute(f"BEGIN; INSERT INTO t VALUES ('{word}'); SAVEPOINT s; UPDATE t SET id = id || '!' WHERE id = '{word}'; PREPARE TRANSACTION '{writing.schema} {word}'")
            writing.sql(f"INSERT INTO t VALUES ('between {word}')")
            conn.execute(f"{end} PREPARED '{writing.schema} {word}'")


@book.rule("CREATE TABLE t (id text PRIMARY KEY)", prepare, "INSERT INTO t VALUES ('behind')")
def test_prepared_transactions(loss):
    loss.equal()
    assert loss.values("SELECT id FROM t ORDER BY id COLLATE \"C\"") == ["behind", "between one", "between two", "one!"]


def commit_in_other_order(writing):
    """Each begins before the one that is committed before it."""
    with writing.connect(autocommit=False) as one, writing.connect(autocommit=False) as two, writing.connect(autocommit=False) as three:
        for number, conn in enumerate((one, two, three)):
            conn.execute(f"INSERT INTO t VALUES ({number}, 'begun as number {number}')")
        two.execute("UPDATE hot SET n = n * 2")
        two.commit()
        one.execute("UPDATE hot SET n = n + 1")
        three.execute("INSERT INTO t VALUES (30, 'last')")
        one.commit()
        three.execute("UPDATE hot SET n = n * 3")
        three.commit()


@book.rule("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE hot (n int PRIMARY KEY); INSERT INTO hot VALUES (1)", commit_in_other_order)
def test_commits_in_another_order_than_begins(loss):
    """What counts is where a transaction was committed: its rows may stand before those of one that ended earlier."""
    loss.equal()
    assert loss.values("SELECT id FROM t ORDER BY id") == [0, 1, 2, 30] and loss.values("SELECT n FROM hot") == [9]


def hot_row(writing):
    with writing.connect() as conn:
        conn.execute("SET synchronous_commit = off")
        for i in range(300):
            conn.execute("UPDATE t SET n = n + 1")
            if i % 10 == 0:
                conn.execute("INSERT INTO log (n) SELECT n FROM t")


@book.rule("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0); CREATE TABLE log (id serial PRIMARY KEY, n int)", hot_row)
def test_small_transactions_of_one_row(loss):
    """Hundreds of asynchronous commits of one row: none is skipped, none comes twice."""
    loss.equal()
    assert loss.values("SELECT n FROM t") == [300] and loss.values("SELECT sum(n) FROM log") == [sum(range(1, 300, 10))]


# --- tables ---

@book.rule("""CREATE TABLE t (id int, region int, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region); CREATE TABLE t0 PARTITION OF t FOR VALUES IN (0);
CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1) PARTITION BY HASH (id); CREATE TABLE t1a PARTITION OF t1 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE t1b (v text, gone int, region int NOT NULL, id int NOT NULL); ALTER TABLE t1b DROP gone; ALTER TABLE t1 ATTACH PARTITION t1b FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE rest PARTITION OF t DEFAULT; ALTER TABLE t0 ALTER v SET STORAGE EXTERNAL; INSERT INTO t SELECT i, i % 4, repeat(md5(i::text), 200) FROM generate_series(1, 80) i;""",
           "UPDATE t SET region = (region + 1) % 4 WHERE id <= 40", "UPDATE t SET id = id + 1000 WHERE id % 3 = 0", "UPDATE t SET region = 7 WHERE id = 1; UPDATE t SET region = 0 WHERE id = 1",
           "DELETE FROM t WHERE id % 5 = 0", "INSERT INTO t SELECT i, i % 3, 'new' FROM generate_series(5000, 5050) i", "TRUNCATE t0", "UPDATE t SET v = v || '!' WHERE region = 1")
def test_partitions(loss):
    """Rows that move between leaves, of different columns' order, nested, with large values."""
    loss.equal()
    assert all(loss.values(f"SELECT count(*) > 0 FROM {leaf}") == [leaf != "t0"] for leaf in ("t0", "t1a", "t1b", "rest"))


@book.rule("CREATE TABLE base (id int PRIMARY KEY, v text); CREATE TABLE derived (extra int, PRIMARY KEY (id)) INHERITS (base); INSERT INTO base VALUES (1, 'b'); INSERT INTO derived VALUES (2, 'd', 5)",
           "UPDATE base SET v = v || '!'", "INSERT INTO derived VALUES (3, 'e', 6)", "DELETE FROM base WHERE id = 2", "UPDATE ONLY base SET v = 'only'")
def test_inheritance(loss):
    loss.equal()
    assert loss.both("SELECT id, v FROM base ORDER BY id") == [(1, "only"), (3, "e")]


@book.rule('CREATE TABLE "O\'dd ""name"";\n--" ("Key %s" int PRIMARY KEY, "a,b" text, "select" text, "$1" int, "é" int); INSERT INTO "O\'dd ""name"";\n--" VALUES (1, \'a\', \'s\', 1, 1);'
           'CREATE TABLE "UPPER" (id int PRIMARY KEY); CREATE TABLE "upper" (id int PRIMARY KEY)',
           'UPDATE "O\'dd ""name"";\n--" SET "select" = "a,b", "$1" = 2', 'INSERT INTO "O\'dd ""name"";\n--" VALUES (2)', 'DELETE FROM "O\'dd ""name"";\n--" WHERE "Key %s" = 2',
           'INSERT INTO "UPPER" VALUES (1)', 'INSERT INTO "upper" VALUES (2)')
def test_names(loss):
    loss.equal()
    assert loss.values('SELECT id FROM "UPPER"') == [1] and loss.both('SELECT * FROM "O\'dd ""name"";\n--"') == [(1, "a", "a", 2, 1)]


@book.rule("""CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
DO $$BEGIN EXECUTE 'CREATE TABLE wide (id int PRIMARY KEY, ' || (SELECT string_agg(format('c%s int', i), ', ') FROM generate_series(1, 1599) i) || ')'; END$$;
INSERT INTO wide (id, c1, c1599) SELECT i, i, i FROM generate_series(1, 20) i""",
           "INSERT INTO nothing DEFAULT VALUES", "UPDATE wide SET c800 = id", "UPDATE wide SET c1 = NULL, id = id + 100 WHERE id < 5", "DELETE FROM wide WHERE id = 7", "INSERT INTO wide (id, c1599) VALUES (500, 5)")
def test_no_columns_and_1600(loss):
    loss.equal()
    assert loss.both("SELECT count(*), sum(c800), sum(c1599) FROM wide") == [(20, 203, 208)] and loss.values("SELECT count(*) FROM nothing") == [2]


WEB = """CREATE TABLE customer (id int PRIMARY KEY, referrer int REFERENCES customer ON DELETE SET NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customer ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE item (orders int REFERENCES orders ON DELETE CASCADE, line int, PRIMARY KEY (orders, line));
CREATE TABLE hen (id int PRIMARY KEY, egg int); CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY DEFERRED;
INSERT INTO customer SELECT i, NULLIF(i - 1, 0) FROM generate_series(1, 10) i; INSERT INTO orders SELECT i, 1 + i % 10 FROM generate_series(1, 30) i;
INSERT INTO item SELECT i, l FROM generate_series(1, 30) i, generate_series(1, 3) l;"""


@book.rule(WEB, "DELETE FROM customer WHERE id IN (3, 4)", "UPDATE customer SET id = 100 WHERE id = 10", "INSERT INTO hen VALUES (1, 1); INSERT INTO egg VALUES (1, 1)",
           "INSERT INTO egg VALUES (2, 2); INSERT INTO hen VALUES (2, 2); UPDATE hen SET egg = 2 WHERE id = 1", "DELETE FROM orders WHERE id = 1",
           "INSERT INTO customer VALUES (3, 100); INSERT INTO orders VALUES (900, 3); DELETE FROM customer WHERE id = 3")
def test_foreign_keys(loss):
    """What CASCADE and SET NULL do comes through the stream, once; circles and deferred keys hold at the end."""
    loss.equal()
    assert loss.values("SELECT count(*) FROM orders WHERE customer NOT IN (SELECT id FROM customer)") == [0]
    assert loss.both("SELECT id, referrer FROM customer WHERE id IN (5, 100) ORDER BY id") == [(5, None), (100, 9)] and loss.values("SELECT count(*) FROM hen") == [2]
    with pytest.raises(Exception, match="violates foreign key"):
        loss.tried("INSERT INTO orders VALUES (5000, 5000)")


def test_both_modes_have_run(session):
    """What the tests above compare is what was changed: nothing of it was there when the copy was made."""
    for mode in MODES:
        assert session.dest.sql(f"SELECT n FROM small_transactions_of_one_row_{mode}.t") == [(300,)]
