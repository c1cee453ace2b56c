"""What a database has besides tables: a difference of any kind is told, stops a promote or is noted there, and is gone when
both sides are made alike. Filters: what is not moved is none of it."""
import contextlib
import os
import threading
import time

import psycopg
import pytest

from support.cluster import wait_until
from support.following import Following
from support.program import Program, find_program, json_lines

pytestmark = pytest.mark.turns(3)

COMMON = """
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('good', 'bad');
CREATE TABLE shop.t (id serial PRIMARY KEY, a int, b varchar(10));
CREATE FUNCTION shop.f(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE FUNCTION shop.body(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE FUNCTION shop.property(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE FUNCTION shop.preset(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE FUNCTION shop.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION shop.watched() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE VIEW shop.v AS SELECT id, a FROM shop.t WHERE b IN ('x', 'y');
CREATE MATERIALIZED VIEW shop.m AS SELECT id, count(*) AS n FROM shop.t GROUP BY id;
CREATE TRIGGER plain BEFORE INSERT ON shop.t FOR EACH ROW WHEN (NEW.b IN ('x', 'y')) EXECUTE FUNCTION shop.noted();
CREATE SEQUENCE shop.free;
"""
# On the source, each for itself, since any of them may be left out: the object, the beginning of what is told, whether it is only a note.
KINDS = {
    "schema": ("CREATE SCHEMA more", "schema more", "it is missing on the destination", False),
    "extension": ("CREATE EXTENSION file_fdw", "extension file_fdw", "it is missing on the destination", False),
    "sequence": ("CREATE SEQUENCE shop.s", "shop.s", "sequence is missing on the destination", False),
    "sequence altered": ("ALTER SEQUENCE shop.free INCREMENT 7", "shop.free", "it is bigint START 1 INCREMENT 7", False),
    "view": ("CREATE VIEW shop.w AS SELECT a FROM shop.t", "shop.w", "view is missing on the destination", False),
    "view replaced": ("CREATE OR REPLACE VIEW shop.v AS SELECT id, a FROM shop.t WHERE b = 'z'", "shop.v", "query differs", False),
    "view option": ("ALTER VIEW shop.v SET (security_barrier)", "shop.v", "options is security_barrier=true", False),
    "matview": ("CREATE MATERIALIZED VIEW shop.n AS SELECT 1 AS one", "shop.n", "materialized view is missing", False),
    "matview index": ("CREATE UNIQUE INDEX m_id ON shop.m (id)", "shop.m", "index m_id is missing on the destination", False),
    "function": ("CREATE FUNCTION shop.g(text, int DEFAULT 3) RETURNS int LANGUAGE sql AS 'SELECT 1'", "shop.g(text, integer)",
                 "function returning integer is missing on the destination", False),
    "overload": ("CREATE FUNCTION shop.f(a text) RETURNS text LANGUAGE sql AS 'SELECT a'", "shop.f(text)",
                 "function returning text is missing", False),
    "function body": ("CREATE OR REPLACE FUNCTION shop.body(a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1'", "shop.body(integer)",
                      "body (its md5) is ", False),
    "function property": ("ALTER FUNCTION shop.property(int) IMMUTABLE SECURITY DEFINER", "shop.property(integer)", "properties is ",
                          False),
    "function default": ("CREATE OR REPLACE FUNCTION shop.preset(a int DEFAULT 5) RETURNS int LANGUAGE sql AS 'SELECT a'",
                         "shop.preset(integer)", "arguments is a integer DEFAULT 5 on the source", False),
    "procedure": ("CREATE PROCEDURE shop.p() LANGUAGE sql AS ''", "shop.p()", "procedure returning ", False),
    "aggregate": ("CREATE AGGREGATE shop.total(int) (sfunc = int4pl, stype = int, initcond = '0')", "shop.total(integer)",
                  "aggregate returning integer is missing", False),
    "operator": ("CREATE OPERATOR shop.#+# (function = int4pl, leftarg = int, rightarg = int)",
                 "operator shop.#+#(integer,integer)", "it is missing", False),
    "statistics": ("CREATE STATISTICS shop.st ON a, b FROM shop.t", "shop.st", "statistics object is missing", True),
    "storage": ("ALTER TABLE shop.t SET (fillfactor = 70)", "shop.t", "storage parameters is missing", True),
    "identity": ("ALTER TABLE shop.t REPLICA IDENTITY FULL", "shop.t", "replica identity is missing", True),
    "comment": ("COMMENT ON COLUMN shop.t.a IS 'A'", "shop.t", "comment a is missing", True),
    "grant": ("GRANT SELECT ON shop.t TO PUBLIC", "shop.t", "grant to PUBLIC is missing on the destination: SELECT", True),
    "column grant": ("GRANT UPDATE (a) ON shop.t TO PUBLIC", "shop.t", "grant to PUBLIC on column a is missing", True),
    "revoked": ("REVOKE EXECUTE ON FUNCTION shop.f(int) FROM PUBLIC", "shop.f(integer)", "grant to PUBLIC is missing", True),
    "schema grant": ("GRANT USAGE ON SCHEMA shop TO PUBLIC", "shop", "grant to PUBLIC is missing", True),
    "owner": ("ALTER VIEW shop.v OWNER TO drift_owner", "shop.v", "owner is drift_owner on the source", True),
    "default privileges": ("ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO PUBLIC",
                           "default privileges of {} on tables in schema shop", "it is missing on the destination: PUBLIC SELECT", True),
    "default privileges of all": ("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO drift_owner;"
                                  "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO drift_reader WITH GRANT OPTION",
                                  "default privileges of {} on tables", "it is missing on the destination: drift_owner DELETE, drift_owner INSERT,"
                                  " drift_owner REFERENCES, drift_owner SELECT, drift_owner TRIGGER, drift_owner TRUNCATE, drift_owner UPDATE,"
                                  " drift_reader DELETE WITH GRANT OPTION, ", True),
    "default privileges taken": ("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", "default privileges of {} on functions",
                                 "it is missing on the destination: not PUBLIC EXECUTE", True),
}
OWNER = "DO $$ BEGIN CREATE ROLE drift_owner; CREATE ROLE drift_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$"


class Drift:
    def __init__(self, folder, source, dest):
        self.program = Program(folder, os.path.join(os.path.dirname(find_program()), "ddl_probe"))
        self.source, self.dest = source, dest

    def __call__(self):
        result = self.program(self.source.uri, self.dest.uri, "drifttest", "drift")
        assert result.code == 0, str(result)
        return [line["drift"] for line in json_lines(result.stdout) if "drift" in line]


@pytest.fixture(scope="module", params=[(15, 15), (18, 18), (13, 18)], ids=lambda p: f"{p[0]}to{p[1]}")
def drift(request, make_cluster, tmp_path_factory):
    databases = [make_cluster(f"drift{major}{side}", major=major, config={"shared_buffers": "16MB"}).createdb()
                 for side, major in zip(("source", "dest"), request.param)]
    for database in databases:
        database.sql(OWNER)
        database.sql(COMMON)
    yield Drift(tmp_path_factory.mktemp("drift"), *databases)
    for database in databases:
        database.drop()


def test_nothing_differs(drift):
    assert drift() == []


@pytest.mark.turns(3)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_until_both_are_alike(drift, kind):
    change, name, message, note = KINDS[kind]
    majors = {side.cluster.major for side in (drift.source, drift.dest)}
    if kind in ("view replaced", "function default") and len(majors) > 1:
        message = None  # printed forms are compared between servers of the same major version only
    name = name.format(drift.source.sql("SELECT current_user")[0][0])
    drift.source.sql(change)
    found = drift()
    told = [d for d in found if d["object"] == name and d["message"].startswith(message or "-")]
    assert bool(told) == (message is not None), found
    assert all(d["note"] == note for d in told)
    assert all(d in told or d["note"] for d in found), found  # an owner comes with what it owns, and the like
    drift.dest.sql(change)
    assert drift() == []


def test_a_written_list_of_grants_is_its_default(drift):
    """GRANT and REVOKE leave a list behind that says what no list says, too; a restore brings none."""
    drift.source.sql("GRANT SELECT ON shop.free TO PUBLIC; REVOKE SELECT ON shop.free FROM PUBLIC;"
                     " GRANT EXECUTE ON FUNCTION shop.noted() TO PUBLIC; GRANT USAGE ON TYPE shop.mood TO PUBLIC")
    assert drift() == []


def test_what_the_destination_prints_differently_is_no_difference(drift):
    """A definition that was restored is printed with other casts and parentheses than the first time."""
    text = "CREATE VIEW shop.casts AS SELECT id FROM shop.t WHERE b IN ('x', 'y') AND (a > 1 OR a < -1)"
    drift.source.sql(text)
    drift.dest.sql("CREATE VIEW shop.casts AS " + drift.source.sql("SELECT pg_get_viewdef('shop.casts'::regclass)")[0][0])
    assert drift() == []


# What both sides make with an expression, that of the source, that of the destination, the beginning of what is told.
OTHER_EXPRESSIONS = {
    "generated": ("CREATE TABLE shop.g (a int, b int, c int, r int GENERATED ALWAYS AS ({}) STORED)", "a * b + c", "a * (b + c)",
                  "column r: default is "),
    "check": ("CREATE TABLE shop.g (a bool, b bool, c bool, CONSTRAINT k CHECK ({}))", "a AND (b OR c)", "(a AND b) OR c",
              "constraint k is "),
    "index": ("CREATE TABLE shop.g (created timestamp); CREATE INDEX i ON shop.g (({}))", "created::date", "created", "index i is "),
    "default": ("CREATE TABLE shop.g (a timestamp DEFAULT {})", "now()::date", "now()", "column a: default is "),
}


@pytest.mark.parametrize("kind", OTHER_EXPRESSIONS)
def test_another_expression_of_the_same_words_is_told(drift, kind):
    table, source, dest, message = OTHER_EXPRESSIONS[kind]
    drift.source.sql(table.format(source))
    drift.dest.sql(table.format(dest))
    found = drift()
    for database in (drift.source, drift.dest):
        database.sql("DROP TABLE shop.g")
    assert [d["message"].startswith(message) for d in found] == [True], found


def test_tables_that_were_restored_are_no_difference(drift):
    """As a dump writes them; a list of a varchar's values, and a BETWEEN before an AND, are printed in another way then."""
    drift.source.sql("CREATE TABLE shop.r (a int DEFAULT -1, b varchar(9) DEFAULT 'x', n numeric(9,2) DEFAULT '1', w text[],"
                     " g bool GENERATED ALWAYS AS (a BETWEEN 1 AND 2 AND b IN ('x', 'y')) STORED,"
                     " CHECK (b IN ('x', 'y') OR n IN (1, 2.5)), CHECK ((a NOT BETWEEN 1 AND 2 OR n > '1'::numeric(9,2)) OR a = 3),"
                     " CHECK (n = ANY (ARRAY[1, a])), CHECK (w <> ARRAY[b, lower('X')]::text[]));"
                     " CREATE INDEX ON shop.r ((b IN ('x', 'y')), (CASE WHEN b IN ('x') THEN a END)) WHERE (a, n) = (1, 2) AND b = 'x';"
                     " CREATE DOMAIN shop.rd AS varchar(9) DEFAULT 'x' CHECK (VALUE IN ('x', 'y'))")
    dump = drift.source.dump_schema(("--table=shop.r",))
    drift.dest.sql("\n".join(line for line in dump.splitlines() if not line.startswith(("\\", "SET ", "SELECT pg_catalog.set_config"))))
    check = drift.source.sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid = 'shop.rd'::regtype")[0][0]
    drift.dest.sql(f"CREATE DOMAIN shop.rd AS varchar(9) DEFAULT 'x'; ALTER DOMAIN shop.rd ADD CONSTRAINT rd_check {check}")
    found = drift()
    for database in (drift.source, drift.dest):
        database.sql("DROP TABLE shop.r; DROP DOMAIN shop.rd")
    assert found == []


# --- databases of their own ---


@pytest.fixture
def make_drift(drift, tmp_path):
    """make_drift(encodings): two empty databases, of these encodings."""
    with contextlib.ExitStack() as stack:
        def make(*encodings):
            databases = [side.cluster.createdb(options=f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
                         for side, encoding in zip((drift.source, drift.dest), encodings or ("UTF8", "UTF8"))]
            for database in databases:
                stack.callback(database.drop)
            return Drift(tmp_path / "drift", *databases)
        yield make


def test_the_maker_of_a_domain_may_have_another_search_path(make_drift):
    drift = make_drift()
    function = "CREATE SCHEMA shop; CREATE FUNCTION shop.one() RETURNS int LANGUAGE sql AS 'SELECT 1'; "
    drift.source.sql(function + "SET search_path = shop; CREATE DOMAIN shop.d AS int DEFAULT one()")
    drift.dest.sql(function + "CREATE DOMAIN shop.d AS int DEFAULT shop.one()")
    assert drift() == []
    drift.dest.sql("ALTER DOMAIN shop.d SET DEFAULT 2")
    assert [d["message"] for d in drift()] == ["default is shop.one() on the source, 2 on the destination"]


def test_plpgsql_is_everywhere(make_drift):
    drift = make_drift()
    drift.source.sql("DROP EXTENSION plpgsql; CREATE EXTENSION plpgsql")
    assert drift() == []


def test_a_schema_of_an_extension_is_the_extensions(make_drift):
    """What somebody made there is not."""
    drift = make_drift()
    for database in (drift.source, drift.dest):
        database.sql("CREATE EXTENSION file_fdw")
    drift.source.sql("CREATE SCHEMA theirs; ALTER EXTENSION file_fdw ADD SCHEMA theirs; GRANT USAGE ON SCHEMA theirs TO PUBLIC")
    assert drift() == []
    drift.source.sql("CREATE SEQUENCE theirs.mine")
    assert [(d["object"], d["message"]) for d in drift()] == [("theirs.mine", "sequence is missing on the destination")]


@pytest.mark.parametrize("encodings, words", [(("LATIN1", "UTF8"), (b"\xe9", b"\xc3\xa9")),
                                              (("SQL_ASCII", "SQL_ASCII"), (b"\xe9", b"\xe9")),
                                              (("SQL_ASCII", "UTF8"), (b"\xc3\xa9", b"\xc3\xa9"))],
                         ids=("latin1", "no encoding", "one encoding"))
def test_a_body_is_the_same_in_every_encoding(make_drift, encodings, words):
    drift = make_drift(*encodings)
    for database, word in zip((drift.source, drift.dest), words):
        with contextlib.closing(database.connect()) as conn:
            conn.execute(b"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''" + word + b"''::text'")
    assert drift() == []
    drift.source.sql("CREATE OR REPLACE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''e''::text'")
    assert [d["object"] for d in drift()] == ["public.f()"]


# --- a whole migration ---


@contextlib.contextmanager
def followed(pgcrane, source_db, dest_db, *flags, env=None):
    following = Following(pgcrane, source_db, dest_db, *flags)
    following.start(env=env)
    try:
        following.wait_caught_up()
        yield following
    finally:
        if following.running():
            following.kill("everything")


def refusal(following):
    """What a promote is refused for, "" = nothing, and its notes."""
    following.lines.clear()
    result = following.promote("--dry-run", check=False)
    body = following.promoted(result)
    return "" if body["ok"] else f"{body['error']['message']} {result.lines} {list(following.lines)}", body["notes"]


BLOCKING = ("sequence", "view", "view replaced", "function", "function body", "extension", "schema")
NOTED = ("statistics", "comment", "grant", "storage")


# More notes than are told one by one, behind which grants must not vanish.
GRANTED = """DO $$ BEGIN FOR i IN 0..6 LOOP EXECUTE format('GRANT SELECT, INSERT ON shop.g%s TO drift_owner', i); END LOOP;
FOR i IN 0..6 LOOP EXECUTE format('COMMENT ON TABLE shop.g%s IS ''%s''; ALTER TABLE shop.g%s SET (fillfactor = %s)', i, i, i, 60 + i); END LOOP;
END $$"""
GRANTABLE = "DO $$ BEGIN FOR i IN 0..6 LOOP EXECUTE format('CREATE TABLE shop.g%s (id int PRIMARY KEY)', i); END LOOP; END $$;"


def test_a_promote_waits_until_both_are_alike(pgcrane, source_db, dest_db):
    """Each change comes into being on the source after the copy, without --ddl. What acts by itself is made at OPEN."""
    source_db.sql(COMMON + GRANTABLE + "ALTER TABLE shop.t ENABLE ROW LEVEL SECURITY; CREATE POLICY early ON shop.t USING (true);"
                           " CREATE TRIGGER always AFTER INSERT ON shop.t FOR EACH ROW EXECUTE FUNCTION shop.noted();"
                           " ALTER TABLE shop.t ENABLE ALWAYS TRIGGER always; CREATE PUBLICATION early")
    with followed(pgcrane, source_db, dest_db) as following:
        assert refusal(following) == ("", []), "what waits for OPEN is no difference"
        for kind in (*BLOCKING, *NOTED):
            source_db.sql(KINDS[kind][0])
        source_db.sql("CREATE POLICY mine ON shop.t USING (a > 0); CREATE RULE quiet AS ON DELETE TO shop.t DO INSTEAD NOTHING;"
                      " CREATE TRIGGER late AFTER UPDATE ON shop.t FOR EACH ROW EXECUTE FUNCTION shop.noted()")
        error, _ = refusal(following)
        for kind in BLOCKING:
            assert f"{KINDS[kind][1]}: {KINDS[kind][2]}" in error, (kind, error)
        for kind in BLOCKING:
            dest_db.sql(KINDS[kind][0])
        error, notes = refusal(following)
        assert error == ""
        for kind in NOTED:
            assert any(note.startswith(f"{KINDS[kind][1]}: {KINDS[kind][2]}") for note in notes), (kind, notes)
        dest_db.sql(OWNER)
        dest_db.sql(GRANTED)
        source_db.sql("GRANT SELECT ON shop.v TO PUBLIC")
        promoted = following.promoted(following.promote())
        assert promoted["proven"]
        assert any("comment a is missing" in note for note in promoted["notes"])
        granted = [note for note in promoted["notes"] if "grant to" in note]
        assert granted == ["grant to PUBLIC is missing on the destination: SELECT, of 2 objects: shop.t, shop.v",
                           "grant to drift_owner is on the destination only: INSERT, SELECT, of 7 objects: "
                           "shop.g0, shop.g1, shop.g2, shop.g3, shop.g4, ..."], promoted["notes"]
    assert dest_db.sql("SELECT polname FROM pg_policy ORDER BY 1") == [("early",), ("mine",)]
    assert dest_db.sql("SELECT rulename FROM pg_rules WHERE schemaname = 'shop'") == [("quiet",)]
    assert ("late",) in dest_db.sql("SELECT tgname FROM pg_trigger")


def test_a_missing_sequence_stops_a_promote(pgcrane, source_db, dest_db):
    """setval of a sequence that is not there does nothing, and says nothing."""
    source_db.sql("CREATE TABLE t (id int PRIMARY KEY)")
    with followed(pgcrane, source_db, dest_db) as following:
        source_db.sql("CREATE SEQUENCE numbers; SELECT nextval('numbers')")
        error, _ = refusal(following)
        assert "public.numbers: sequence is missing on the destination" in error


# --- definitions that change all the time ---


@pytest.mark.turns(4)
def test_definitions_that_change_all_the_time_do_not_end_the_run(pgcrane, source_db, dest_db):
    source_db.sql("CREATE TABLE t (id int PRIMARY KEY)")
    stop, rounds = threading.Event(), []

    def churn(number):
        with contextlib.closing(source_db.connect()) as conn:
            while not stop.is_set():
                conn.execute(f"CREATE TABLE c{number} (id serial PRIMARY KEY, a int CHECK (a > 0), b text DEFAULT 'x');"
                             f" CREATE VIEW cv{number} AS SELECT * FROM c{number};"
                             f" CREATE FUNCTION cf{number}() RETURNS int LANGUAGE sql AS 'SELECT 1'")
                conn.execute(f"DROP FUNCTION cf{number}()")
                with contextlib.suppress(psycopg.Error):  # a deadlock with another of us
                    conn.execute(f"DROP VIEW cv{number}; DROP TABLE c{number}")
                    rounds.append(number)
                    continue
                conn.execute(f"DROP VIEW IF EXISTS cv{number}; DROP TABLE IF EXISTS c{number}")

    threads = [threading.Thread(target=churn, args=(n,), daemon=True) for n in range(3)]
    with followed(pgcrane, source_db, dest_db) as following:
        for thread in threads:
            thread.start()
        end = time.monotonic() + 35  # three looks, ten seconds apart
        while time.monotonic() < end and following.running():
            time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join(30)
        assert following.running(), following.said()
        assert len(rounds) > 20
        following.promote()
    assert dest_db.sql("SELECT count(*) FROM t") == [(0,)]


# --- filters ---

TWO_SCHEMAS = """
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE b.other (id int PRIMARY KEY, v text);
CREATE TABLE a.x (id serial PRIMARY KEY, other int, v text);
CREATE TABLE a.y (id int PRIMARY KEY, v text);
ALTER TABLE a.x ADD FOREIGN KEY (other) REFERENCES b.other;
CREATE VIEW b.seen AS SELECT * FROM a.x;
INSERT INTO b.other SELECT n, 'o' FROM generate_series(1, 50) n;
INSERT INTO a.x (other, v) SELECT n, 'x' FROM generate_series(1, 50) n;
INSERT INTO a.y SELECT n, 'y' FROM generate_series(1, 50) n;
"""


def tables_of(database):
    return [row[0] for row in database.sql("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace IN"
                                           " (SELECT oid FROM pg_namespace WHERE nspname IN ('a', 'b')) ORDER BY 1")]


def same(source_db, dest_db, *tables):
    for table in tables:
        rows = f"SELECT * FROM {table} ORDER BY 1"
        assert source_db.sql(rows) == dest_db.sql(rows), table


@pytest.mark.parametrize("ddl", [False, True], ids=["by hand", "ddl"])
def test_a_schema_is_followed_to_its_promote(pgcrane, source_db, dest_db, ddl):
    """Writes to what is not moved, a TRUNCATE of both, a key to an unwanted table, a table with a sequence of its own made
    meanwhile: the sequence goes on where the source's ended."""
    source_db.sql(TWO_SCHEMAS)
    made = "CREATE TABLE a.made (id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v text)"
    with followed(pgcrane, source_db, dest_db, "-n", "a", *(["--ddl"] if ddl else [])) as following:
        if not ddl:
            dest_db.sql(made)
        source_db.sql(made)
        source_db.sql("CREATE TABLE b.unwanted (id serial PRIMARY KEY); INSERT INTO b.unwanted DEFAULT VALUES")
        source_db.sql("INSERT INTO a.made (v) SELECT 'm' FROM generate_series(1, 20)")
        source_db.sql("INSERT INTO b.other VALUES (100, 'o'); INSERT INTO a.x (other, v) VALUES (100, 'late')")
        source_db.sql("UPDATE b.other SET v = 'p'; UPDATE a.x SET v = v || '!' WHERE id % 2 = 0; DELETE FROM a.y WHERE id < 9")
        following.wait_applied()
        source_db.sql("TRUNCATE a.y, b.other CASCADE")
        source_db.sql("INSERT INTO a.x (v) VALUES ('after')")
        wait_until(lambda: dest_db.sql("SELECT count(*) FROM a.made") == [(20,)], 120, "the new table's rows")
        assert following.promoted(following.promote())["proven"]
    same(source_db, dest_db, "a.x", "a.y", "a.made")
    assert tables_of(dest_db) == ["a.made", "a.x", "a.y"]
    assert dest_db.sql("INSERT INTO a.made (v) VALUES ('new') RETURNING id, n") == [(21, 21)]
    assert dest_db.sql("INSERT INTO a.x (v) VALUES ('new') RETURNING id") == source_db.sql("SELECT last_value + 1 FROM a.x_id_seq")


@pytest.mark.parametrize("flags", [("-t", "a.x"), ("-T", "b.*", "-T", "a.y", "-N", "b")], ids=["table", "excludes"])
def test_one_table_is_followed_to_its_promote(pgcrane, source_db, dest_db, flags):
    source_db.sql(TWO_SCHEMAS)
    with followed(pgcrane, source_db, dest_db, *flags) as following:
        source_db.sql("INSERT INTO a.y VALUES (900, 'z'); UPDATE b.other SET v = 'p'; INSERT INTO a.x (v) VALUES ('late')")
        source_db.sql("CREATE VIEW b.more AS SELECT 1 AS one; CREATE TABLE b.unwanted (id serial PRIMARY KEY)")
        source_db.sql("TRUNCATE a.y, b.other CASCADE; INSERT INTO a.x (v) VALUES ('after'); ALTER TABLE a.y ADD COLUMN n serial")
        assert following.promoted(following.promote())["proven"]
    same(source_db, dest_db, "a.x")
    assert tables_of(dest_db) == ["a.x"]
    assert dest_db.sql("INSERT INTO a.x (v) VALUES ('new') RETURNING id") == source_db.sql("SELECT last_value + 1 FROM a.x_id_seq")
