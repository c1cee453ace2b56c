"""The harness itself: a comparison that finds nothing wrong is worth as much as what it would have found."""
import os
import subprocess
import threading

import psycopg
import pytest

from support.cluster import PASSWORD, wait_until
from support.compare import assert_equal, differences
from support.program import Program

SAMPLE = r'''
CREATE SCHEMA "odd ""name""";
CREATE TABLE plain (id int PRIMARY KEY, t text, r text, b bytea, f float8, at timestamptz);
INSERT INTO plain SELECT i, 'v' || i, nullif(i % 3, 0)::text, decode(md5(i::text), 'hex'), i / 3.0,
       '2024-01-01'::timestamptz + i * interval '1 h' FROM generate_series(1, 500) i;
CREATE TABLE "odd ""name""".no_key (t text);
INSERT INTO "odd ""name""".no_key VALUES ('a'), ('a'), ('b'), (NULL), ('');
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE parent (a int);
CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2, 3);
CREATE TABLE parts (k int, v text) PARTITION BY LIST (k);
CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE part2 PARTITION OF parts FOR VALUES IN (2);
INSERT INTO parts VALUES (1, 'x'), (2, 'y');
CREATE SEQUENCE counter;
SELECT setval('counter', 42, true);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n, max(t) AS m FROM plain;
SELECT lo_from_bytea(70001, '\x00ff10');
COMMENT ON LARGE OBJECT 70001 IS 'a note';
CREATE FUNCTION body() RETURNS int LANGUAGE sql AS 'SELECT 1';
'''

CHANGES = {
    "one value": ("UPDATE plain SET t = 'other' WHERE id = 77", "plain"),
    "one byte of bytea": ("UPDATE plain SET b = set_byte(b, 3, 1) WHERE id = 200", "plain"),
    "last digit of a float": ("UPDATE plain SET f = f + 1e-13 WHERE id = 100", "plain"),
    "NULL for empty": ("UPDATE \"odd \"\"name\"\"\".no_key SET t = NULL WHERE t = ''", "no_key"),
    "missing row": ("DELETE FROM plain WHERE id = 500", "plain"),
    "extra row": ("INSERT INTO plain (id) VALUES (501)", "plain"),
    "a duplicate less, another more": (
        "DELETE FROM \"odd \"\"name\"\"\".no_key WHERE ctid IN (SELECT ctid FROM \"odd \"\"name\"\"\".no_key"
        " WHERE t = 'a' LIMIT 1); INSERT INTO \"odd \"\"name\"\"\".no_key VALUES ('b')", "no_key"),
    "row without columns": ("INSERT INTO no_columns DEFAULT VALUES", "no_columns"),
    "row in parent for child": ("INSERT INTO parent SELECT a FROM child; DELETE FROM child", "parent"),
    "row in another partition": ("DELETE FROM part1; INSERT INTO part2 VALUES (2, 'x')", "part1"),
    "sequence value": ("SELECT setval('counter', 43, true)", "counter"),
    "sequence not called": ("SELECT setval('counter', 42, false)", "counter"),
    "large object content": ("SELECT lo_put(70001, 1, '\\x01')", "70001"),
    "large object missing": ("SELECT lo_unlink(70001)", "70001"),
    "large object comment": ("COMMENT ON LARGE OBJECT 70001 IS 'another'", "70001"),
    "large object grant": ("GRANT SELECT ON LARGE OBJECT 70001 TO PUBLIC", "70001"),
    "materialized view stale": ("CREATE TABLE plain_old AS TABLE plain; DELETE FROM plain WHERE id = 99;"
                                " REFRESH MATERIALIZED VIEW totals; INSERT INTO plain SELECT * FROM plain_old WHERE"
                                " id = 99; DROP TABLE plain_old", "totals"),
    "materialized view empty": ("REFRESH MATERIALIZED VIEW totals WITH NO DATA", "totals"),
    "missing index": ("ALTER TABLE plain DROP CONSTRAINT plain_pkey", "plain_pkey"),
    "other default": ("ALTER TABLE plain ALTER t SET DEFAULT 'x'", "DEFAULT"),
    "function body": ("CREATE OR REPLACE FUNCTION body() RETURNS int LANGUAGE sql AS 'SELECT 2'", "SELECT 2"),
    "grant": ("GRANT SELECT ON plain TO PUBLIC", "GRANT SELECT"),
    "extra table": ("CREATE TABLE surplus (a int)", "surplus"),
}


@pytest.fixture
def twins(source_db, dest_db):
    for database in (source_db, dest_db):
        database.sql(SAMPLE)
    return source_db, dest_db


def test_equal_databases_pass(twins):
    assert_equal(twins[0].uri, twins[1].uri)


def test_other_order_on_disk_is_equal(twins):
    twins[1].sql("UPDATE plain SET t = t WHERE id < 100")
    twins[1].sql("VACUUM FULL plain")
    assert_equal(twins[0].uri, twins[1].uri)


@pytest.mark.turns(2)
@pytest.mark.parametrize("change", CHANGES)
def test_comparison_finds(twins, change):
    statement, named = CHANGES[change]
    for text in statement.split("; "):
        twins[1].sql(text)
    found = "\n".join(differences(twins[0].uri, twins[1].uri))
    assert named in found
    with pytest.raises(AssertionError):
        assert_equal(twins[0].uri, twins[1].uri)


def test_comparison_finds_database_settings(twins):
    name = twins[1].name
    twins[1].sql(f"ALTER DATABASE {name} SET work_mem = '8MB'")
    twins[1].sql(f"COMMENT ON DATABASE {name} IS 'hello'")
    found = "\n".join(differences(twins[0].uri, twins[1].uri))
    assert "work_mem=8MB" in found
    assert "'hello'" in found


def test_only_named_differences_are_left_out(twins):
    twins[1].sql("CREATE SCHEMA pgcrane; CREATE TABLE pgcrane.ledger (a int); CREATE SCHEMA mine;"
                 " CREATE TABLE mine.t (a int)")
    assert "mine" in "\n".join(differences(twins[0].uri, twins[1].uri))
    assert_equal(twins[0].uri, twins[1].uri, except_schemas=["mine"])


def test_differing_rows_are_shown(twins):
    twins[1].sql("UPDATE plain SET t = 'needle' WHERE id = 250")
    found = "\n".join(differences(twins[0].uri, twins[1].uri))
    assert "(250,v250," in found and "(250,needle," in found
    assert "1 rows only at the source" in found


def test_uri_reaches_its_database(source_db):
    with psycopg.connect(source_db.uri) as conn:
        assert conn.execute("SELECT current_database()").fetchone()[0] == source_db.name


def test_databases_are_fresh(source, source_db, dest_db):
    other = source.createdb()
    assert other.name != source_db.name
    assert other.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]
    slot = other.name + "_slot"
    other.sql(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    held = other.connect()
    other.drop()
    held.close()
    assert source.sql("SELECT count(*) FROM pg_database WHERE datname = %s", (other.name,)) == [(0,)]
    assert source.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", (slot,)) == [(0,)]


def test_cluster_life(own_cluster):
    cluster = own_cluster("life", auth="scram-sha-256", config={"work_mem": "5MB"})
    assert cluster.sql("SHOW work_mem") == [("5MB",)]
    assert cluster.sql("SHOW data_directory")[0][0].startswith(cluster.folder)
    database = cluster.createdb('na"me of\nmany ünits')
    database.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    database.sql("CREATE ROLE someone LOGIN PASSWORD 'right'")
    with psycopg.connect(database.uri_as("someone", "right")) as conn:
        assert conn.execute("SELECT current_user").fetchone()[0] == "someone"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database.uri_as("someone", "wrong"))
    assert PASSWORD not in database.uri  # quoted in it
    with psycopg.connect(database.uri) as conn:
        assert conn.execute("TABLE t").fetchall() == [(1,)]
    cluster.restart("immediate")
    assert database.sql("TABLE t") == [(1,)]
    cluster.kill9()
    cluster.start()
    assert "not properly shut down" in cluster.log_text()
    assert database.sql("SELECT 1") == [(1,)]


def test_cluster_started_from_a_thread_stays(own_cluster):
    cluster = own_cluster("thread")
    thread = threading.Thread(target=cluster.restart)
    thread.start()
    thread.join()
    for _ in range(3):
        assert cluster.sql("SELECT 1") == [(1,)]
    assert cluster.process.poll() is None


def test_servers_do_not_run_as_root(source):
    with open(f"/proc/{source.process.pid}/status", encoding="ascii") as file:
        uid = next(line for line in file if line.startswith("Uid:")).split()[1]
    assert uid != "0"
    name = os.readlink(f"/proc/{source.process.pid}/exe")
    assert name.endswith("/postgres")


def test_program_is_marked_and_ended(tmp_path):
    program = Program(tmp_path / "state", "/bin/sh")
    process = program.popen("-c", "setsid sleep 300 & echo started; wait")
    assert process.stdout.readline() == "started\n"
    wait_until(lambda: any("sleep 300" in c for c in program.processes().values()), what="sleep")
    process.kill()
    assert any("sleep 300" in c for c in program.processes().values())
    program.end_all()
    assert program.processes() == {}


def test_program_result(tmp_path):
    program = Program(tmp_path / "state", "/bin/sh")
    code, out, err, lines = program("-c", 'echo \'{"a": 1}\'; echo oops >&2; exit 3', "--json")
    assert (code, err, lines) == (3, "oops\n", [{"a": 1}])
    assert out == '{"a": 1}\n'
    with pytest.raises(AssertionError, match="did not end"):
        program("-c", "exec sleep 60", timeout=0.3)


def test_the_program_under_test_starts(pgcrane):
    run = subprocess.run([pgcrane.binary, "--version"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "0.1.0" in run.stdout
