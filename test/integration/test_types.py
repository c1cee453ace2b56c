"""What a value means depends on more than its bytes: on the labels and attributes of its type, on settings, on oids.

Types that change their meaning while rows come; expressions that the destination computes; partitions by such values."""
import time

import pytest

from support.cluster import wait_until
from support.following import Following
from support.migration import FLAGS

pytestmark = pytest.mark.turns(2)


@pytest.fixture(scope="module", params=(15, 18))
def pair(request, make_cluster):
    return [make_cluster(f"types{request.param}{side}", major=request.param) for side in ("source", "dest")]


@pytest.fixture
def databases(pair):
    made = [cluster.createdb("types") for cluster in pair]
    yield made
    for database in made:
        database.drop()


def following_of(pgcrane, databases, *flags):
    source, dest = databases
    following = Following(pgcrane, source, dest, "--pg-bindir", dest.cluster.bin, *flags).start()
    following.wait_caught_up()
    return following


SWAP = ("BEGIN; ALTER TYPE e RENAME VALUE 'a' TO 'tmp'; ALTER TYPE e RENAME VALUE 'b' TO 'a'; ALTER TYPE e RENAME VALUE 'tmp' TO 'b'; COMMIT")
AGAIN = "ALTER TYPE c DROP ATTRIBUTE x, ADD ATTRIBUTE x int"
ENUM = "CREATE TYPE e AS ENUM ('a', 'b', 'c'); "
COMPOSITE = "CREATE TYPE c AS (x int, y int); "
CHANGES = {  # in a schema of its own: what is there, how the type changes, on both sides, what is written behind that
    "enum": (ENUM + "CREATE TABLE t (id int PRIMARY KEY, v e); INSERT INTO t VALUES (1, 'a'), (2, 'b')", SWAP, "INSERT INTO t VALUES (3, 'a')"),
    "there_and_back": (ENUM + "CREATE TABLE t (id int PRIMARY KEY, v e); INSERT INTO t VALUES (1, 'a'), (2, 'b')",
                       SWAP + "; INSERT INTO t VALUES (3, 'a'); " + SWAP, "INSERT INTO t VALUES (4, 'a')"),
    "domain": (ENUM + "CREATE DOMAIN d AS e; CREATE TABLE t (id int PRIMARY KEY, v d); INSERT INTO t VALUES (1, 'a'), (2, 'b')", SWAP,
               "UPDATE t SET v = 'a' WHERE id = 1"),
    "in_a_composite": (ENUM + "CREATE TYPE c AS (v e[], n int); CREATE TABLE t (id int PRIMARY KEY, v c[]); INSERT INTO t VALUES (1, ARRAY[ROW('{a,b}', 1)::c])",
                       SWAP, "INSERT INTO t VALUES (2, ARRAY[ROW('{a,b}', 2)::c])"),
    "range": (ENUM + "CREATE TYPE r AS RANGE (subtype = e); CREATE TABLE t (id int PRIMARY KEY, v r); INSERT INTO t VALUES (1, '[a,c]')",
              "ALTER TYPE e RENAME VALUE 'b' TO 'tmp'; ALTER TYPE e RENAME VALUE 'c' TO 'b'; ALTER TYPE e RENAME VALUE 'tmp' TO 'c'",
              "INSERT INTO t VALUES (2, '[a,b]')"),
    "composite": (COMPOSITE + "CREATE TABLE t (id int PRIMARY KEY, v c); INSERT INTO t VALUES (1, ROW(10, 20))", AGAIN, "INSERT INTO t VALUES (3, ROW(1, 2))"),
    "composites": (COMPOSITE + "CREATE TABLE t (id int PRIMARY KEY, v c[]); INSERT INTO t VALUES (1, ARRAY[ROW(10, 20)::c])", AGAIN,
                   "UPDATE t SET v = ARRAY[ROW(7, 8)::c] WHERE id = 1"),
}


def rows_of(database, schemas):
    return {schema: database.sql(f"SELECT x::text FROM {schema}.t x ORDER BY id") for schema in schemas}


def run(database, schema, sql):
    with database.connect() as conn:
        conn.execute(f"SET search_path = {schema}")
        for statement in sql.split("; "):
            conn.execute(statement)


def test_types_change_their_meaning(pgcrane, databases):
    """Both catalogues agree in the end, and the rows that came in between would mean something else."""
    source, dest = databases
    for schema, (sql, *_) in CHANGES.items():
        source.sql(f"CREATE SCHEMA {schema}; SET search_path = {schema}; {sql}")
    following = following_of(pgcrane, databases)
    for schema, (_, change, rows) in CHANGES.items():
        run(source, schema, f"{change}; {rows}")
    following.wait_applied()
    time.sleep(5)
    for schema, (_, change, _) in CHANGES.items():
        run(dest, schema, "; ".join(s for s in change.split("; ") if not s.startswith("INSERT")))
    following.promote("--recopy-limit", "1GB")
    assert rows_of(dest, CHANGES) == rows_of(source, CHANGES)


def test_types_made_anew(pgcrane, databases):
    """Under the same names, while rows come by the same statements: the applier's session remembers which types it has used."""
    source, dest = databases
    made = "CREATE TYPE mood AS ENUM ({}); CREATE TYPE place AS (x int{})"
    source.sql(made.format("'a', 'b'", "") + "; CREATE TABLE t (id int PRIMARY KEY, n int, m mood, p place); CREATE TABLE f (n int, m mood);"
               " ALTER TABLE f REPLICA IDENTITY FULL; INSERT INTO f SELECT g, 'a' FROM generate_series(1, 5) g")
    following = following_of(pgcrane, databases, "--ddl")

    def write(first, label, place):
        for i in range(first, first + 4):
            source.sql(f"INSERT INTO t VALUES ({i}, {i}, 'a', {place}); UPDATE t SET m = '{label}', n = n + 1; UPDATE f SET n = n + 1, m = '{label}'")
            following.wait_applied()

    write(1, "b", "ROW(1)")
    with source.connect() as conn:
        for statement in ("ALTER TABLE t DROP m, DROP p; ALTER TABLE f DROP m; DROP TYPE mood, place; " + made.format("'c', 'a'", ", y int")
                          + "; ALTER TABLE t ADD m mood, ADD p place; ALTER TABLE f ADD m mood").split("; "):
            conn.execute(statement)
    write(11, "c", "ROW(1, 2)")
    assert following.promoted(following.promote("--recopy-limit", "1GB"))["proven"]
    for table in "tf":
        rows = f"SELECT x::text FROM {table} x ORDER BY 1"
        assert dest.sql(rows) == source.sql(rows)


def test_a_label_more_changes_nothing(pgcrane, databases):
    """No table is copied again for it, however the label got its place; one that was renamed is told."""
    source, dest = databases
    source.sql(ENUM + "CREATE TABLE t (id int PRIMARY KEY, v e); INSERT INTO t VALUES (1, 'a'); CREATE TABLE u (id int PRIMARY KEY, v e[])")
    following = following_of(pgcrane, databases)
    for label in ("'z'", "'y' BEFORE 'a'", "'x' AFTER 'a'"):
        for side in (dest, source):
            side.sql(f"ALTER TYPE e ADD VALUE {label}")
    source.sql("INSERT INTO t VALUES (2, 'x'), (3, 'y')")
    following.wait_applied()
    time.sleep(12)
    assert dest.sql("SELECT table_name, suspect FROM pgcrane.relation WHERE suspect IS NOT NULL") == []
    assert not any("copying table" in event["text"] for event in following.bodies("EVENT"))
    source.sql("ALTER TYPE e RENAME VALUE 'c' TO 'other'")
    wait_until(lambda: len(dest.sql("SELECT 1 FROM pgcrane.relation WHERE suspect LIKE 'a type of its columns was changed%'")) == 2, 30, "both tables to wait")
    dest.sql("ALTER TYPE e RENAME VALUE 'c' TO 'other'")
    following.promote("--recopy-limit", "1GB")
    assert dest.sql("SELECT x::text FROM t x ORDER BY id") == source.sql("SELECT x::text FROM t x ORDER BY id")


def test_ddl_inside_a_function(pgcrane, databases):
    """With --ddl a command on a type that was run inside a function names no table: those that use the type are found all the same."""
    source, dest = databases
    cases = {name: CHANGES[name] for name in ("enum", "domain", "composite", "composites")}
    for schema, (sql, *_) in cases.items():
        source.sql(f"CREATE SCHEMA {schema}; SET search_path = {schema}; {sql}")
    source.sql("CREATE SCHEMA repeated; SET search_path = repeated; " + ENUM + "CREATE TABLE t (id int PRIMARY KEY, v e); INSERT INTO t VALUES (1, 'a')")
    following = following_of(pgcrane, databases, "--ddl")
    run(source, "repeated", "ALTER TYPE e RENAME VALUE 'a' TO 'first'; INSERT INTO t VALUES (2, 'first')")
    following.wait_applied()
    time.sleep(12)
    assert dest.sql("SELECT table_name, suspect FROM pgcrane.relation WHERE suspect IS NOT NULL") == []
    assert not any("copying table" in event["text"] for event in following.bodies("EVENT"))
    for schema, (_, change, rows) in cases.items():
        body = change.removeprefix("BEGIN; ").removesuffix("; COMMIT")
        with source.connect() as conn:
            conn.execute(f"SET search_path = {schema}")
            conn.execute(f"DO $$BEGIN {body}; END$$")
            conn.execute(rows)
    following.wait_applied()
    time.sleep(5)
    for schema, (_, change, _) in cases.items():
        run(dest, schema, change)
    following.promote("--recopy-limit", "1GB")
    assert rows_of(dest, cases) == rows_of(source, cases)


# --- What the destination computes ---

OUTPUT = ("bytea_output = 'escape'", "extra_float_digits = 0", "TimeZone = 'America/New_York'", "DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'")
COMPUTED = """CREATE FUNCTION day(timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1::date)::text || $1::text';
CREATE TABLE t (id int PRIMARY KEY, b bytea, f float8, i interval, w timestamptz, d date,
                g text GENERATED ALWAYS AS (b::text) STORED, h text GENERATED ALWAYS AS (f::text) STORED, day text GENERATED ALWAYS AS (day(w)) STORED);
CREATE INDEX t_b ON t ((b::text)); CREATE INDEX t_f ON t ((f::text)); CREATE INDEX t_w ON t (day(w));
CREATE TABLE p (id int, b bytea) PARTITION BY LIST ((b::text)); CREATE TABLE p1 PARTITION OF p FOR VALUES IN ('abc'); CREATE TABLE p2 PARTITION OF p DEFAULT"""
ROWS = ("INSERT INTO t (id, b, f, i, w, d) SELECT {0} + g, '\\x00ff' || convert_to(g::text, 'UTF8'), 0.1::float8 + 0.2, '-1 days +2:00:00'::interval * g,"
        " '2024-03-01 03:00:00+00'::timestamptz + g * '1 day'::interval, '2024-02-01'::date + g FROM generate_series(1, 20) g;"
        "INSERT INTO p VALUES ({0}, 'abc'), ({0} + 1, 'xyz')")


def test_computed_as_the_source_does(pgcrane, databases):
    """Generated columns and indexes on expressions: the copied rows, and those of the stream."""
    source, dest = databases
    for setting in OUTPUT:
        source.sql(f'ALTER DATABASE "{source.name}" SET {setting}')
    source.sql(COMPUTED)
    source.sql(ROWS.format(0))
    following = following_of(pgcrane, databases)
    source.sql(ROWS.format(100))
    following.wait_applied()
    following.promote("--recopy-limit", "1GB")
    wait_until(lambda: not following.running(), 60, "the run to end")
    same = "SELECT id, b, f, i::text, w::text, d::text, g, h, day FROM t ORDER BY id"
    assert dest.sql(same) == source.sql(same)
    for where in ("b::text = (SELECT b::text FROM t WHERE id = {0})", "f::text = (SELECT f::text FROM t WHERE id = {0})", "day(w) = (SELECT day(w) FROM t WHERE id = {0})"):
        for row in (3, 103):
            counts = [dest.sql(f"SET enable_seqscan = {way}; SELECT count(*) FROM t WHERE {where.format(row)}") for way in ("on", "off")]
            assert counts[0] == counts[1] and counts[0][0][0] > 0, (where, counts)
    assert dest.sql("SELECT id FROM p WHERE b::text = 'abc' ORDER BY 1") == [(0,), (100,)]


# --- Partitions ---

MOOD = "CREATE TYPE mood AS ENUM ('q', 'r', 's', 't', 'u'); "
LEAVES = "".join(f"; CREATE TABLE h{i} PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER {i})" for i in range(3))
LABEL = "(enum_range(NULL::mood))[1 + g % 5]"
KEYS = {  # the key's type, a value of it for number g
    "array": ("", "mood[]", f"ARRAY[{LABEL}]"),
    "domain": ("CREATE DOMAIN low AS mood; CREATE DOMAIN lower AS low; ", "lower", LABEL),
    "composite": ("CREATE TYPE pair AS (a mood, b int); ", "pair", f"ROW({LABEL}, 1)::pair"),
    "range": ("CREATE TYPE moods AS RANGE (subtype = mood); ", "moods", f"moods({LABEL}, NULL)"),
    "regclass": ("CREATE TABLE a1 (); CREATE TABLE a2 (); CREATE TABLE a3 (); ", "regclass", "('by_regclass.a' || 1 + g % 3)::regclass"),
}


def test_partitions_by_hashes_of_oids(pgcrane, databases):
    """Rows lie in other partitions on the destination: the copy finds theirs, and the promote compares, and copies, the whole."""
    source, dest = databases
    dest.sql("CREATE TYPE filler AS ENUM ('1', '2', '3'); DROP TYPE filler; CREATE TABLE filler (); DROP TABLE filler")
    for name, (types, key, value) in KEYS.items():
        source.sql(f"CREATE SCHEMA by_{name}; SET search_path = by_{name}; {MOOD}{types}"
                   f"CREATE TABLE h (id int, v {key}, PRIMARY KEY (id, v)) PARTITION BY HASH (v){LEAVES};"
                   f"INSERT INTO h SELECT g, {value} FROM generate_series(1, 50) g")
    # the rows' own session is another than the database says
    source.sql("SET bytea_output = 'escape'; CREATE SCHEMA by_text; SET search_path = by_text; CREATE TABLE h (id int, v bytea) PARTITION BY LIST ((v::text));"
               "CREATE TABLE h1 PARTITION OF h FOR VALUES IN ('abc'); CREATE TABLE h2 PARTITION OF h DEFAULT; INSERT INTO h VALUES (1, 'abc'), (2, 'xyz')")
    following = following_of(pgcrane, databases)
    for name, (_, _, value) in KEYS.items():
        source.sql(f"SET search_path = by_{name}; INSERT INTO h SELECT g, {value} FROM generate_series(51, 100) g; DELETE FROM h WHERE id % 7 = 0")
    source.sql("SET bytea_output = 'escape'; INSERT INTO by_text.h VALUES (3, 'abc'), (4, 'u')")
    following.wait_applied()
    following.promote("--recopy-limit", "1GB")
    for name in [*KEYS, "text"]:
        rows = f"SELECT id, v::text FROM by_{name}.h ORDER BY id"
        assert dest.sql(rows) == source.sql(rows), name


def test_refused_by_a_check(pgcrane, databases):
    """A CHECK that calls itself immutable and is not: the copy says what could be done."""
    source, dest = databases
    source.sql("CREATE FUNCTION mine() RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT current_setting(''application_name'') !~ ''pgcrane''';"
               "CREATE TABLE t (id int CHECK (mine())); INSERT INTO t VALUES (1)")
    result = pgcrane("migrate", source.uri, dest.uri, *FLAGS, "--pg-bindir", dest.cluster.bin)
    failed = [line["body"] for line in result.lines if line["type"] == "FAILED"][-1]
    assert failed["reason"] == "BAD_DATA" and "leave the table out" in failed["remedy"], failed
