"""Definitions that change while rows come (`--ddl`): what other tools lost at the border between the two.

What was lost by whom: doc/design/losses.md. How it is run: test/support/losses.py.
"""
import pytest

from support.losses import MODES, Book, Loss, migrated

pytestmark = pytest.mark.turns(2)

book = Book()


@pytest.fixture(scope="module", params=(15, 18))
def session(request, make_cluster, tmp_path_factory):
    clusters = [make_cluster(f"losses_ddl{request.param}{side}", major=request.param, config={"shared_buffers": "32MB"})
                for side in ("source", "dest")]
    with migrated(book, clusters, tmp_path_factory.mktemp("losses"), "--ddl") as made:
        yield made


@pytest.fixture
def loss(session, request):
    return Loss(session, book.rules[request.node.originalname.removeprefix("test_")])


def test_everything(session):
    """Definitions, too, with nothing of ours left on either side."""
    assert session.promoted["ok"] and session.promoted["proven"]
    assert not session.failed
    assert not session.differences()
    for database in (session.source, session.dest):
        assert not database.sql("SELECT evtname FROM pg_event_trigger")
        assert not database.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pgcrane%'")


ROWS = "CREATE TABLE t (id int PRIMARY KEY, n int, v text); INSERT INTO t SELECT i, i, 'row ' || i FROM generate_series(1, 20) i;"


# --- partitions ---

@book.rule("""CREATE TABLE t (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region); CREATE TABLE eu PARTITION OF t FOR VALUES IN ('eu');
CREATE TABLE us (n int, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region)); INSERT INTO eu VALUES (1, 'eu', 1); INSERT INTO us SELECT i, 'us', i FROM generate_series(1, 10) i""",
           "INSERT INTO us VALUES (11, 'us', 11)", "ALTER TABLE t ATTACH PARTITION us FOR VALUES IN ('us')", "INSERT INTO t VALUES (12, 'us', 12); UPDATE t SET n = -n WHERE region = 'us'",
           "CREATE TABLE asia PARTITION OF t FOR VALUES IN ('asia'); INSERT INTO t VALUES (20, 'asia', 20)", "UPDATE t SET region = 'asia' WHERE id = 3",
           "ALTER TABLE t DETACH PARTITION eu", "UPDATE eu SET n = 5", "INSERT INTO eu VALUES (2, 'eu', 2)",
           "CREATE TABLE sub PARTITION OF t FOR VALUES IN ('au') PARTITION BY RANGE (id); CREATE TABLE sub1 PARTITION OF sub FOR VALUES FROM (0) TO (100)", "INSERT INTO t VALUES (30, 'au', 30)",
           "DROP TABLE asia", "INSERT INTO t VALUES (31, 'us', 31)")
def test_partitions(loss):
    """A partition that is attached, made, detached or dropped while its rows come."""
    loss.equal()
    assert loss.both("SELECT id, n FROM t WHERE id > 10 ORDER BY id") == [(11, -11), (12, -12), (30, 30), (31, 31)] and loss.values("SELECT n FROM eu ORDER BY id") == [5, 2]


# --- tables ---

@book.rule(ROWS, "CREATE TABLE made (id int PRIMARY KEY, v text); INSERT INTO made VALUES (1, 'in the same transaction'); UPDATE made SET v = v || '!'", "INSERT INTO made VALUES (2, 'later')",
           "CREATE TABLE child (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE, m int REFERENCES made)", "INSERT INTO child (t, m) VALUES (1, 1), (2, 2)",
           "DELETE FROM t WHERE id = 1", "CREATE TABLE keyless (v text); INSERT INTO keyless VALUES ('x')", "CREATE SCHEMA IF NOT EXISTS other; CREATE TABLE short_life (id int PRIMARY KEY)",
           "INSERT INTO short_life VALUES (1)", "DROP TABLE short_life")
def test_tables_made_while_following(loss):
    """Tables that nobody published: their rows are in the stream from their first one on."""
    loss.equal()
    assert loss.both("SELECT * FROM made ORDER BY id") == [(1, "in the same transaction!"), (2, "later")] and loss.values("SELECT t FROM child") == [2]


@book.rule(ROWS, "DROP TABLE t; CREATE TABLE t (id text PRIMARY KEY, other numeric); INSERT INTO t VALUES ('a', 1.0)", "UPDATE t SET other = 1.00", "DROP TABLE t",
           "CREATE TABLE t (n int PRIMARY KEY)", "INSERT INTO t VALUES (5)", "TRUNCATE t; INSERT INTO t VALUES (6)")
def test_table_made_again_under_its_name(loss):
    """Another table, whatever its name says."""
    loss.equal()
    assert loss.values("SELECT n FROM t") == [6]


@book.rule("CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, n int, v text); INSERT INTO a VALUES (1, 'a'); INSERT INTO b VALUES (1, 1, 'b'); CREATE TABLE c (id int PRIMARY KEY, x int, y int)",
           "INSERT INTO a VALUES (2, 'a'); ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b; INSERT INTO a VALUES (2, 2, 'was b'); INSERT INTO b VALUES (3, 'was a')",
           "UPDATE a SET n = n + 10", "UPDATE b SET v = v || '!'", "INSERT INTO c VALUES (1, 1, 2)", "ALTER TABLE c RENAME x TO z; ALTER TABLE c RENAME y TO x; ALTER TABLE c RENAME z TO y",
           "INSERT INTO c (id, x, y) VALUES (2, 20, 10)")
def test_names_that_change_hands(loss):
    """Two tables, two columns that swap their names: rows go by what the table is, not by what it was called."""
    loss.equal()
    assert loss.both("SELECT * FROM a ORDER BY id") == [(1, 11, "b"), (2, 12, "was b")] and loss.both("SELECT id, x, y FROM c ORDER BY id") == [(1, 2, 1), (2, 20, 10)]


# --- columns ---

@book.rule(ROWS, "INSERT INTO t VALUES (100, 100, 'before')", "ALTER TABLE t ADD w text DEFAULT 'default', ADD x int", "INSERT INTO t (id, x) VALUES (101, 5)", "UPDATE t SET x = 1, w = NULL WHERE id < 3",
           "ALTER TABLE t DROP v", "INSERT INTO t VALUES (102, 102, 'w', 9)", "ALTER TABLE t ALTER n TYPE bigint", "UPDATE t SET n = 5000000000 WHERE id = 5", "ALTER TABLE t RENAME n TO big; INSERT INTO t (id, big) VALUES (103, 6000000000)",
           "ALTER TABLE t ADD v text; UPDATE t SET v = 'filled ' || id; ALTER TABLE t ALTER v SET NOT NULL", "ALTER TABLE t ADD g bigint GENERATED ALWAYS AS (big * 2) STORED", "UPDATE t SET x = 77 WHERE id = 7")
def test_columns(loss):
    """Added, dropped, renamed and given other types between rows that have them and rows that have not."""
    loss.equal()
    assert loss.both("SELECT id, big, w, x, v FROM t WHERE id IN (1, 5, 101, 103) ORDER BY id") == [
        (1, 1, None, 1, "filled 1"), (5, 5000000000, "default", None, "filled 5"), (101, None, "default", 5, "filled 101"), (103, 6000000000, "default", None, "filled 103")]


@book.rule(ROWS, "DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (3, 3, 'last on disk')", "ALTER TABLE t ADD u uuid DEFAULT gen_random_uuid(), ADD at timestamptz DEFAULT clock_timestamp()", "INSERT INTO t VALUES (200, 1, 'x')",
           "ALTER TABLE t ADD number int GENERATED ALWAYS AS IDENTITY", "ALTER TABLE t ADD another serial", "UPDATE t SET n = 0 WHERE id = 3", "ALTER TABLE t ALTER v TYPE text USING v || (random() * 1000)::int")
def test_values_made_by_a_definition(loss):
    """A random default, the numbers of a new identity: the same command gives other values here."""
    loss.equal()
    assert loss.both("SELECT count(DISTINCT u), count(DISTINCT number), count(DISTINCT another) FROM t") == [(21, 21, 21)]


@book.rule("CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, m mood); INSERT INTO t VALUES (1, 'sad')", "ALTER TYPE mood ADD VALUE 'glad'", "INSERT INTO t VALUES (2, 'glad')",
           "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "INSERT INTO t VALUES (3, 'blue')", "CREATE TYPE couple AS (a int, b mood); ALTER TABLE t ADD b couple; INSERT INTO t VALUES (4, NULL, '(1,glad)')",
           "ALTER TYPE couple ADD ATTRIBUTE c text", "UPDATE t SET b = '(2,blue,x)' WHERE id = 1", "CREATE DOMAIN small AS int CHECK (VALUE < 10); ALTER TABLE t ADD s small DEFAULT 5", "INSERT INTO t (id) VALUES (5)")
def test_types(loss):
    loss.equal()
    assert loss.both("SELECT id, m::text, b::text, s FROM t ORDER BY id") == [(1, "blue", "(2,blue,x)", 5), (2, "glad", None, 5), (3, "blue", None, 5), (4, None, "(1,glad,)", 5), (5, None, None, 5)]


# --- rewrites and identities ---

def vacuum_full(writing):
    with writing.connect() as conn:
        conn.execute("VACUUM FULL t")
        conn.execute("CLUSTER t USING t_pkey")
        conn.execute("ALTER TABLE t SET WITHOUT CLUSTER")


@book.rule(ROWS, "DELETE FROM t WHERE id % 2 = 0", vacuum_full, "UPDATE t SET n = 100 WHERE id > 10", "ALTER TABLE t SET (fillfactor = 50)", vacuum_full, "INSERT INTO t VALUES (500, 1, 'after')")
def test_rewritten_tables(loss):
    loss.equal()
    assert loss.values("SELECT count(*) FROM t") == [11]


@book.rule(ROWS + "CREATE UNIQUE INDEX t_other ON t (n); ALTER TABLE t ALTER n SET NOT NULL; CREATE TABLE keyless (a int, b text); INSERT INTO keyless SELECT i, 'x' FROM generate_series(1, 5) i",
           "UPDATE t SET v = 'one' WHERE id = 1", "ALTER TABLE t REPLICA IDENTITY FULL", "UPDATE t SET v = 'two' WHERE id = 2", "ALTER TABLE t REPLICA IDENTITY USING INDEX t_other; UPDATE t SET n = 300 WHERE id = 3", "ALTER TABLE t REPLICA IDENTITY NOTHING",
           "UPDATE t SET v = 'four' WHERE id = 4; DELETE FROM t WHERE id = 5", "ALTER TABLE t REPLICA IDENTITY DEFAULT", "UPDATE t SET v = 'six' WHERE id = 6", "ALTER TABLE t DROP CONSTRAINT t_pkey", "UPDATE t SET v = 'seven' WHERE id = 7",
           "ALTER TABLE t ADD PRIMARY KEY (n)", "UPDATE t SET v = 'eight' WHERE id = 8", "UPDATE keyless SET b = 'y' WHERE a = 1", "ALTER TABLE keyless ADD PRIMARY KEY (a)", "UPDATE keyless SET b = 'z' WHERE a < 3")
def test_identity_that_changes(loss):
    """Nobody may be told that his UPDATE is not possible; what was not in the stream meanwhile is noticed and copied."""
    loss.equal()
    assert loss.values("SELECT v FROM t WHERE id IN (1, 2, 3, 4, 6, 7, 8) ORDER BY id") == ["one", "two", "row 3", "four", "six", "seven", "eight"]
    assert loss.values("SELECT b FROM keyless ORDER BY a") == ["z", "z", "x", "x", "x"]


@book.rule("CREATE UNLOGGED TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'unlogged')",
           "INSERT INTO t VALUES (2, 'unlogged')", "ALTER TABLE t SET LOGGED", "INSERT INTO t VALUES (3, 'logged'); UPDATE t SET v = 'x' WHERE id = 1")
def test_logged_at_last(loss):
    """What an unlogged table had before is in no stream: from SET LOGGED on it looks like any other."""
    loss.equal()
    assert loss.values("SELECT v FROM t ORDER BY id") == ["x", "unlogged", "logged"]
    assert loss.values("SELECT relpersistence::text FROM pg_class WHERE oid = 't'::regclass") == ["p"]


# --- the rest of the catalogue ---

def create_concurrently(writing):
    with writing.connect() as conn:
        conn.execute("CREATE UNIQUE INDEX CONCURRENTLY t_u ON t (n)")
        conn.execute("INSERT INTO t VALUES (700, 700, 'x') ON CONFLICT (n) DO UPDATE SET v = 'conflict'")
        conn.execute("INSERT INTO t VALUES (701, 700, 'y') ON CONFLICT (n) DO UPDATE SET v = 'conflict'")
        conn.execute("REINDEX INDEX CONCURRENTLY t_u")


@book.rule(ROWS, create_concurrently, "ALTER TABLE t ADD CONSTRAINT named CHECK (n > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT named", "CREATE VIEW seen AS SELECT id, v FROM t WHERE n > 3", "UPDATE seen SET v = 'by view' WHERE id = 4",
           "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$BEGIN INSERT INTO log (what) VALUES (NEW.v); RETURN NEW; END$$; CREATE TABLE log (id serial PRIMARY KEY, what text);"
           "CREATE TRIGGER noted BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION noted()", "INSERT INTO t VALUES (800, 800, 'noted')", "CREATE SEQUENCE own; SELECT setval('own', 500)",
           "ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY none ON t USING (false)", "INSERT INTO t VALUES (801, 801, 'hidden')", "COMMENT ON TABLE t IS 'it''s a table'; GRANT SELECT ON t TO PUBLIC",
           "CREATE MATERIALIZED VIEW m AS SELECT count(*) AS rows FROM t", "REFRESH MATERIALIZED VIEW m")
def test_other_objects(loss):
    """Indexes, views, triggers, policies, sequences that are made meanwhile; a new trigger does its work once."""
    loss.equal()
    assert loss.values("SELECT what FROM log ORDER BY id") == ["noted", "hidden"] and loss.values("SELECT v FROM t WHERE id IN (4, 700) ORDER BY id") == ["by view", "conflict"]
    assert loss.tried("SELECT nextval('own')") == [(501,)]


@book.rule(ROWS, "BEGIN; ALTER TABLE t ADD gone int; UPDATE t SET gone = 1; ROLLBACK", "BEGIN; SAVEPOINT s; ALTER TABLE t DROP v; DELETE FROM t; ROLLBACK TO s; INSERT INTO t VALUES (900, 9, 'kept'); COMMIT",
           "BEGIN; SAVEPOINT s; CREATE TABLE u (id int PRIMARY KEY); RELEASE s; INSERT INTO u VALUES (1); SAVEPOINT s; INSERT INTO u VALUES (2); DROP TABLE t; ROLLBACK TO s; COMMIT")
def test_rolled_back(loss):
    loss.equal()
    assert loss.values("SELECT count(*) FROM t") == [21] and loss.values("SELECT id FROM u") == [1]


def test_both_modes_have_run(session):
    for mode in MODES:
        assert session.dest.sql(f"SELECT n FROM table_made_again_under_its_name_{mode}.t") == [(6,)]
