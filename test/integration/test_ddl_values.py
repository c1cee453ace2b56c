"""DDL that makes values while it is followed (`--ddl`): what is not certain to be the same on both sides is copied again.

Each case has a schema of its own in one database; one migration sees all of them.
"""
import contextlib

import pytest

from support.following import Following
from support.program import Program
from test_ddl import JOB, body, install, make_probe, messages, probe, psql, replay, server_of  # noqa: F401 (fixtures)

FIVE = "INSERT INTO t SELECT g, g FROM generate_series(1, 5) g;"

# Setup, then strings that are each one query; the tables that must be copied again.
CASES = {
    "part": ("CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE c1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
             "CREATE TABLE c2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);"
             "CREATE TABLE c21 PARTITION OF c2 FOR VALUES FROM (10) TO (20); INSERT INTO p SELECT generate_series(0, 19)",
             ["ALTER TABLE p ADD COLUMN r float8 DEFAULT random()", "ALTER TABLE p ADD COLUMN n timestamptz DEFAULT now()"]),
    "part_then_detached": (
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE c1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
        "INSERT INTO p SELECT generate_series(0, 9)",
        ["BEGIN", "ALTER TABLE p ADD COLUMN r float8 DEFAULT random()", "ALTER TABLE p DETACH PARTITION c1", "COMMIT"]),
    "inherited": ("CREATE TABLE p (id int PRIMARY KEY, x text); CREATE TABLE c1 (PRIMARY KEY (id)) INHERITS (p); CREATE TABLE c2 (PRIMARY KEY (id)) INHERITS (c1);"
                  "INSERT INTO p VALUES (1, 'a'); INSERT INTO c1 VALUES (2, 'b'); INSERT INTO c2 VALUES (3, 'c')",
                  ["ALTER TABLE p ADD COLUMN r float8 DEFAULT random()", "INSERT INTO c1 (id) VALUES (22)"]),
    "inherited_type": ("CREATE TABLE p (id int PRIMARY KEY, x text); CREATE TABLE c1 (PRIMARY KEY (id)) INHERITS (p); INSERT INTO p VALUES (1, 'a'); INSERT INTO c1 VALUES (2, 'b')",
                       ["ALTER TABLE p ALTER x TYPE text USING x || random()::text"]),
    "inherited_nested": ("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c1 (PRIMARY KEY (id)) INHERITS (p); INSERT INTO c1 VALUES (2)",
                         ["ALTER TABLE p ADD COLUMN IF NOT EXISTS r timestamptz DEFAULT now()"]),
    "typed": ("CREATE TYPE ct AS (id int, a bytea); CREATE TABLE t OF ct (PRIMARY KEY (id)); INSERT INTO t VALUES (1, '\\x00ff')",
              ["SET bytea_output = escape; ALTER TYPE ct ALTER ATTRIBUTE a TYPE text CASCADE"]),
    "domain": ("CREATE DOMAIN d AS timestamptz DEFAULT now(); CREATE DOMAIN dd AS d; CREATE TABLE t (id int PRIMARY KEY, a int);" + FIVE,
               ["ALTER TABLE t ADD COLUMN created dd"]),
    "domain_setting": ("CREATE DOMAIN dc AS text DEFAULT current_setting('application_name'); CREATE TABLE t (id int PRIMARY KEY, a int);" + FIVE,
                       ["SET application_name = 'myapp'; ALTER TABLE t ADD COLUMN created dc"]),
    "domain_beside_stored": ("CREATE DOMAIN u AS uuid DEFAULT gen_random_uuid(); CREATE TABLE t (id int PRIMARY KEY, a int);" + FIVE,
                             ["ALTER TABLE t ADD COLUMN g int GENERATED ALWAYS AS (a * 2) STORED, ADD COLUMN uid u"]),
    "bytea": ("CREATE TABLE t (id int PRIMARY KEY, b bytea); INSERT INTO t VALUES (1, '\\x0001ff41'), (2, 'abc')",
              ["SET bytea_output = escape; ALTER TABLE t ALTER b TYPE text", "INSERT INTO t VALUES (3, 'x')"]),
    "float": ("CREATE TABLE t (id int PRIMARY KEY, b float8); INSERT INTO t VALUES (1, 0.1::float8 + 0.2), (2, pi())",
              ["SET extra_float_digits = 0; ALTER TABLE t ALTER b TYPE text"]),
    "regclass": ("CREATE TABLE filler (); CREATE TABLE ref (a int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, c regclass); INSERT INTO t VALUES (1, 'regclass.ref')",
                 ["ALTER TABLE t ALTER c TYPE oid"]),
    "now_spaced": ("CREATE TABLE t (id int PRIMARY KEY, a int);" + FIVE, ["ALTER TABLE t ADD COLUMN c timestamptz DEFAULT ' now '", "ALTER TABLE t ALTER c DROP DEFAULT"]),
    "now_dollar": ("CREATE TABLE t (id int PRIMARY KEY, a int);" + FIVE,
                   ["ALTER TABLE t ADD COLUMN c timestamptz NOT NULL DEFAULT $$now$$; ALTER TABLE t ALTER c DROP DEFAULT", "ALTER TABLE t ADD COLUMN e timestamp DEFAULT E'now'; ALTER TABLE t ALTER e DROP DEFAULT"]),
    "default_changed_at_once": ("CREATE TABLE t (id int PRIMARY KEY, a int);" + FIVE, ["ALTER TABLE t ADD COLUMN c float8 DEFAULT random(), ALTER COLUMN c SET DEFAULT 5"]),
    "count_reset": ("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, g FROM generate_series(1, 5) g",
                    ["ALTER TABLE count_reset.t ALTER n TYPE int USING n + 1; RESET ALL; ALTER TABLE count_reset.t ALTER n TYPE int USING n * 10"]),
    "drop_mixed": ("CREATE TABLE kept (id int PRIMARY KEY, a text); CREATE TABLE again (id int PRIMARY KEY, a text); INSERT INTO again VALUES (1, 'old')",
                   ["CREATE TEMP TABLE tt (a int); DROP TABLE tt, again", "CREATE TEMP TABLE kept (a int); CREATE TABLE other (id int PRIMARY KEY); DROP TABLE kept, other"]),
}

CONTENTS = "SELECT x::text FROM ONLY {} x ORDER BY x::text COLLATE \"C\""


def contents(database):
    found = {}
    with database.connect() as conn:
        conn.execute("SET TimeZone = 'UTC'; SET bytea_output = hex; SET extra_float_digits = 3")
        tables = conn.execute("SELECT c.oid::regclass::text FROM pg_class c WHERE relkind = 'r' AND relnamespace::regnamespace::text = ANY (%s)",
                              (list(CASES),)).fetchall()
        for (table,) in tables:
            found[table] = [row[0] for row in conn.execute(CONTENTS.format(table)).fetchall()]
    return found


@pytest.mark.parametrize("major", [15, 18])
def test_values_made_by_definitions_are_the_same_after_the_promote(make_cluster, tmp_path, major):
    clusters = [make_cluster(f"values{major}{side}", major=major, config={"shared_buffers": "32MB"}) for side in ("source", "dest")]
    source, dest = (cluster.createdb() for cluster in clusters)
    dest.sql("CREATE SCHEMA before_us CREATE TABLE one () CREATE TABLE two (); DROP SCHEMA before_us CASCADE")  # other oids here
    for name, (setup, _) in CASES.items():
        source.sql(f"CREATE SCHEMA {name}; SET search_path = {name}; {setup}")
    program = Program(tmp_path / "state")
    try:
        following = Following(program, source, dest, "--ddl", "--pg-bindir", clusters[1].bin).start()
        following.wait_caught_up()
        for name, (_, strings) in CASES.items():
            with source.connect() as conn:
                conn.execute(f"SET search_path = {name}")
                for string in strings:
                    conn.execute(string)
        following.wait_applied()
        promoted = following.command("promote", "--json", "--recopy-limit", "1GB", check=False, timeout=240)
        assert promoted.code == 0, str(promoted)
        following.end(60)
    finally:
        program.end_all()
    here, there = contents(source), contents(dest)
    assert set(here) == set(there)
    assert {table: (rows, there[table]) for table, rows in here.items() if rows != there[table]} == {}


# --- of the capture and the replay alone ---

def reasons(probe):
    replay(probe)
    return [(r["outcome"], sorted(r["rows"])) for r in probe.values("replayed")]


@pytest.mark.parametrize("major", [15, 18])
def test_all_tables_that_a_command_reaches_are_told(make_probe, major):
    probe = make_probe(major, major)
    for side in (probe.source, probe.dest):
        for name in ("part", "inherited", "typed"):
            side.sql(f"CREATE SCHEMA {name}; SET search_path = {name}; {CASES[name][0]}")
    install(probe)
    for name, reached in (("part", ["c1", "c21"]), ("inherited", ["c1", "c2", "p"]), ("typed", ["t"])):
        for string in CASES[name][1]:
            if string.startswith("INSERT"):
                continue
            psql(probe.source, f"SET search_path = {name}; {string}")
            assert reasons(probe) == [("suspect", reached)], string
    psql(probe.source, "ALTER TABLE part.p ADD COLUMN plain int DEFAULT 5, ADD COLUMN none text")
    assert reasons(probe) == [("applied", ["c1", "c21"])]
    psql(probe.source, "DO $$ BEGIN ALTER TABLE inherited.p ADD COLUMN plain int; END $$")
    assert reasons(probe) == [("suspect", ["c1", "c2", "p"])]


def test_a_count_that_began_again_is_noticed(probe):
    for side in (probe.source, probe.dest):
        side.sql("CREATE TABLE t (id int PRIMARY KEY, n int)")
    install(probe)
    for reset in ("RESET ALL", f"SET pgcrane.ddl_pgcrane_{JOB} = ''", "DO $$ BEGIN RESET ALL; END $$"):
        psql(probe.source, f"ALTER TABLE t ADD a int; {reset}; ALTER TABLE t ADD b int; ALTER TABLE t DROP a, DROP b")
        found = replay(probe)
        assert [r[0] for r in found][:2] == ["applied", "suspect"], reset
        assert "has reset the setting" in found[1][2]
        probe.dest.sql("ALTER TABLE t DROP COLUMN IF EXISTS a, DROP COLUMN IF EXISTS b")


def test_the_capture_of_another_migration_says_nothing_to_us(probe):
    install(probe)
    other = f"pgcrane_{JOB}other"
    theirs = messages_of_another(probe, other)
    assert theirs
    probe("replay", text="".join(message + "\n" for message in theirs))
    assert {r["outcome"] for r in probe.values("replayed")} == {"ignored"}
    assert not probe.dest.sql("SELECT 1 FROM pg_class WHERE relname IN ('a', 'b')")


def messages_of_another(probe, other):
    """Both captures count for themselves: the numbers of each are 1, 2."""
    second = type(probe)(probe.program, probe.source, probe.dest)
    second.program(probe.source.uri, probe.dest.cluster.createdb().uri, f"{JOB}other", "install")
    messages(probe)
    psql(probe.source, "CREATE TABLE a (id int); CREATE TABLE b (id int)")
    found = messages(probe)
    assert sorted((m.split()[0], body(m)["ordinal"]) for m in found if "ordinal" in body(m)) == [
        (f"pgcrane_{JOB}", 1), (f"pgcrane_{JOB}", 2), (other, 1), (other, 2)]
    return [m for m in found if m.startswith(other + " ")]


# --- publications ---

def keys(probe):
    return {row[0] for row in probe.source.sql(
        "SELECT r.prrelid::regclass::text FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = %s",
        (f"pgcrane_{JOB}_keys",))}


@pytest.mark.parametrize("major", [15, 18])
def test_an_open_transaction_that_made_a_table_is_in_nobodys_way(make_probe, major):
    probe = make_probe(major, major)
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
    install(probe)
    with contextlib.closing(probe.source.connect(autocommit=False)) as first, contextlib.closing(probe.source.connect()) as second:
        first.execute("CREATE TABLE a (id int PRIMARY KEY)")
        first.execute("ALTER TABLE a ADD COLUMN more int")
        second.execute("SET statement_timeout = '60s'; SET log_lock_waits = on; SET deadlock_timeout = '200ms'")
        size = probe.source.cluster.log_size()
        second.execute("CREATE TABLE b (id int PRIMARY KEY)")
        second.execute("ALTER TABLE t DROP CONSTRAINT t_pkey")
        second.execute("UPDATE t SET v = v + 1")
        first.commit()
    assert "still waiting for" not in probe.source.cluster.log_text(size), "nobody waits for anybody"
    assert keys(probe) == {"b"}
    found = [body(m) for m in messages(probe)]
    late = [m for m in found if "not published at once" in m.get("suspect", "")]
    assert [[row["name"] for row in m["rows"]] for m in late] == [["a"]]
    assert not any("failed" in m for m in found)
