"""DDL while following: what the catalogues say (drift), what event triggers capture, what is run on the destination."""
import contextlib
import json
import os
import subprocess
import time

import psycopg
import pytest

from support.cluster import SUPERUSER, newest_client
from support.migration import unchanged
from support.program import Program, find_program, json_lines

pytestmark = pytest.mark.turns(3)

JOB = "ddltest"
MAJORS = (13, 15, 17, 18)


class Probe:
    """ddl_probe between two databases; its lines by key."""

    def __init__(self, program, source, dest):
        self.program, self.source, self.dest = program, source, dest
        self.lines = []

    def __call__(self, *steps, code=0, user=None, text=None, env=None):
        source = self.source.uri if user is None else self.source.uri_as(user, user)
        result = self.program(source, self.dest.uri, JOB, *steps, input=text, env=env)
        assert result.code == code, str(result)
        self.lines = json_lines(result.stdout)
        return self

    def values(self, key):
        return [line[key] for line in self.lines if key in line]

    def drift(self):
        """{object: [(message, fix)]} of all differences."""
        found = {}
        for drift in self("drift").values("drift"):
            found.setdefault(drift["object"], []).append((drift["message"], drift["fix"]))
        return found


@pytest.fixture(scope="module")
def server_of(make_cluster):
    """One server of each major for a side, made when first asked for."""
    made = {}

    def get(side, major):
        if (side, major) not in made:
            made[side, major] = make_cluster(f"ddl{side}{major}", major=major, config={"shared_buffers": "16MB"})
        return made[side, major]
    return get


@pytest.fixture
def make_probe(server_of, tmp_path):
    with contextlib.ExitStack() as stack:
        program = Program(tmp_path / "probe", os.path.join(os.path.dirname(find_program()), "ddl_probe"))

        def make(source_major, dest_major):
            sides = [server_of("src", source_major).createdb(), server_of("dst", dest_major).createdb()]
            for database in sides:
                stack.callback(database.drop)
            return Probe(program, *sides)

        yield make
        program.end_all()


@pytest.fixture
def probe(make_probe):
    return make_probe(15, 15)


# --- drift ---

CATALOGUE = """
CREATE SCHEMA shop;
CREATE TYPE shop.status AS ENUM ('new', 'paid', 'it''s');
CREATE DOMAIN shop.email AS text CHECK (VALUE ~ '@') DEFAULT 'a@b';
CREATE TYPE shop.address AS (street text, zip varchar(10));
CREATE TYPE shop.span AS RANGE (subtype = float8);
CREATE TABLE shop.customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mail shop.email NOT NULL,
    home shop.address, kind varchar(10) CHECK (kind IN ('a', 'b')) DEFAULT 'a', name text COLLATE "C",
    CONSTRAINT one_mail UNIQUE (mail));
CREATE TABLE shop.orders (id bigserial PRIMARY KEY, customer int REFERENCES shop.customer, at timestamptz DEFAULT now(),
    state shop.status DEFAULT 'new', total numeric(10, 2) CHECK (total >= 0), note text, EXCLUDE USING btree (note WITH =));
CREATE INDEX orders_state ON shop.orders (state, (lower(note))) WHERE state <> 'paid';
CREATE UNLOGGED TABLE shop.cache (k text, v text);
CREATE TABLE shop.event (id int, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.event_1 PARTITION OF shop.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE shop.event_rest PARTITION OF shop.event DEFAULT;
CREATE TABLE shop.line (n int, orders bigint REFERENCES shop.orders) PARTITION BY LIST (n);
CREATE TABLE shop.line_1 PARTITION OF shop.line FOR VALUES IN (1, 2);
CREATE TABLE shop.child (more int) INHERITS (shop.cache);
"""


def dump_schema(database, *flags):
    """By the server's own pg_dump; without the lines that differ from dump to dump."""
    cluster = database.cluster
    run = subprocess.run([os.path.join(cluster.bin, "pg_dump"), "--schema-only", *flags, "-h", cluster.folder, "-p",
                          str(cluster.port), "-U", SUPERUSER, "-d", database.name], capture_output=True, text=True,
                         check=False)
    assert run.returncode == 0, run.stderr
    unwanted = ("\\restrict", "\\unrestrict", "--", "SET transaction_timeout")
    return "\n".join(line for line in run.stdout.splitlines() if line and not line.startswith(unwanted))


def restore(probe):
    """The source's schema on the destination, as pg_dump gives it."""
    probe.dest.sql(dump_schema(probe.source))


@pytest.mark.parametrize(("source_major", "dest_major"), [(13, 18), (15, 15), (15, 18), (17, 17), (18, 18)])
def test_drift_says_nothing_of_a_restored_schema(make_probe, source_major, dest_major):
    probe = make_probe(source_major, dest_major)
    probe.source.sql(CATALOGUE)
    if source_major >= 18:
        probe.source.sql("CREATE TABLE shop.virtual (a int NOT NULL, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)")
    restore(probe)
    assert probe.drift() == {}


# Done on the source: what drift says of which object, and whether its own SQL ends it.
CHANGES = [
    ("ALTER TABLE shop.orders ADD COLUMN more varchar(5) NOT NULL DEFAULT 'x'", "shop.orders",
     "column more is missing on the destination", True),
    ("ALTER TABLE shop.orders DROP COLUMN note", "shop.orders", "column note is on the destination only", True),
    ("ALTER TABLE shop.orders ALTER COLUMN total TYPE numeric(12, 2)", "shop.orders",
     "column total is numeric(12,2) on the source, numeric(10,2) on the destination", True),
    ("ALTER TABLE shop.orders ALTER COLUMN total SET NOT NULL", "shop.orders",
     "column total is NOT NULL on the source only", True),
    ("ALTER TABLE shop.orders ALTER COLUMN state SET DEFAULT 'paid'", "shop.orders",
     "column state: default is 'paid'::shop.status on the source, 'new'::shop.status on the destination", True),
    ("ALTER TABLE shop.customer ALTER COLUMN id SET GENERATED BY DEFAULT", "shop.customer",
     "column id: identity is BY DEFAULT on the source, ALWAYS on the destination", True),
    ("ALTER TABLE shop.customer ALTER COLUMN name TYPE text COLLATE \"POSIX\"", "shop.customer",
     "column name: collation is pg_catalog.\"POSIX\" on the source, pg_catalog.\"C\" on the destination", False),
    ("CREATE INDEX total_idx ON shop.orders (total)", "shop.orders", "index total_idx is missing on the destination", True),
    ("DROP INDEX shop.orders_state", "shop.orders", "index orders_state is on the destination only", True),
    ("ALTER TABLE shop.orders ADD CONSTRAINT big CHECK (id > 0)", "shop.orders",
     "constraint big is missing on the destination", True),
    ("ALTER TABLE shop.orders DROP CONSTRAINT orders_customer_fkey", "shop.orders",
     "constraint orders_customer_fkey is on the destination only", True),
    ("ALTER TYPE shop.status ADD VALUE 'lost, found'", "type shop.status",
     "list of labels is 'new', 'paid', 'it''s', 'lost, found' on the source, 'new', 'paid', 'it''s' on the destination", True),
    ("ALTER TYPE shop.status RENAME VALUE 'it''s' TO 'its'", "type shop.status",
     "list of labels is 'new', 'paid', 'its' on the source, 'new', 'paid', 'it''s' on the destination", False),
    ("ALTER TYPE shop.address ADD ATTRIBUTE city text", "type shop.address",
     "column city is missing on the destination", True),
    ("ALTER DOMAIN shop.email ADD CONSTRAINT short CHECK (length(VALUE) < 80)", "type shop.email",
     "constraint short is missing on the destination", True),
    ("ALTER DOMAIN shop.email SET NOT NULL", "type shop.email", "NOT NULL is NOT NULL on the source, none on the destination",
     False),
    ("ALTER TABLE shop.cache SET LOGGED", "shop.cache", "persistence is logged on the source, unlogged on the destination",
     True),
    ("CREATE TABLE shop.fresh (id int PRIMARY KEY)", "shop.fresh", "table is missing on the destination", False),
    ("DROP TABLE shop.line_1", "shop.line_1", "table is on the destination only", False),
    ("CREATE TYPE shop.mood AS ENUM ('good')", "type shop.mood", "enum is missing on the destination", False),
    ("ALTER TABLE shop.event DETACH PARTITION shop.event_1", "shop.event_1",
     "parent is none on the source, shop.event on the destination", False),
]


@pytest.mark.turns(4)
@pytest.mark.parametrize(("change", "name", "message", "fixable"), CHANGES, ids=[c[0][:40] for c in CHANGES])
def test_drift_tells_each_difference_and_its_end(probe, change, name, message, fixable):
    probe.source.sql(CATALOGUE)
    restore(probe)
    probe.source.sql(change)
    found = probe.drift()
    assert message in [drift[0] for drift in found.pop(name, [])], probe.lines
    assert found == {}, "nothing else differs"
    fixes = [drift["fix"] for drift in probe.values("drift")]
    assert all(fixes) or not fixable
    if fixable:
        for fix in fixes:
            probe.dest.sql(fix)
        assert probe.drift() == {}


def test_drift_of_an_index_of_a_partitioned_table(probe):
    """What is told makes a valid one; one that not all partitions have a part of is no constraint yet, and is told."""
    for side in (probe.source, probe.dest):
        side.sql("CREATE TABLE root (a int, b text) PARTITION BY LIST (a); CREATE TABLE leaf_1 PARTITION OF root FOR VALUES IN (1);"
                 " CREATE TABLE leaf_2 PARTITION OF root FOR VALUES IN (2)")
    probe.source.sql("CREATE UNIQUE INDEX whole ON root (a, b)")
    probe.dest.sql("CREATE UNIQUE INDEX whole ON ONLY root (a, b)")
    assert "public.root" in probe.drift()
    probe.dest.sql("DROP INDEX whole")
    assert "public.root" in probe.drift()
    for fix in [drift["fix"] for drift in probe.values("drift")]:
        with contextlib.suppress(psycopg.errors.DuplicateTable):  # the root's brings those of the partitions
            probe.dest.sql(fix)
    assert probe.drift() == {}
    assert probe.dest.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'whole'::regclass") == [(True,)]


def test_drift_leaves_out_what_is_not_ours(probe):
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE skip_one (a int REFERENCES t)")
    probe.dest.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE skip_two (a int)")
    for side in (probe.source, probe.dest):
        side.sql("CREATE EXTENSION pg_trgm" if has_extension(probe, "pg_trgm") else "SELECT 1")
    assert probe.drift() == {}


def has_extension(probe, name):
    return bool(probe.source.sql("SELECT 1 FROM pg_available_extensions WHERE name = %s", (name,)))


def test_drift_tells_the_order_of_columns_only_when_they_agree(probe):
    probe.source.sql("CREATE TABLE t (a int, b int); CREATE TABLE u (a int, b int)")
    probe.dest.sql("CREATE TABLE t (b int, a int); CREATE TABLE u (b int)")
    assert [m for m, _ in probe.drift()["public.t"]] == ["order of columns is a, b on the source, b, a on the destination"]
    assert [m for m, _ in probe.drift()["public.u"]] == ["column a is missing on the destination"]


def test_drift_of_a_thousand_tables_costs_little_more_than_their_definitions(probe):
    many = """DO $$ BEGIN FOR i IN 1..1000 LOOP
        EXECUTE format('CREATE TABLE t%s (id bigserial PRIMARY KEY, a int CHECK (a > 0), b text, c date DEFAULT now(), '
                       'd varchar(10) CHECK (d IN (''x'', ''y'')), e int, f int, g int, UNIQUE (a))', i);
        EXECUTE format('CREATE INDEX ON t%s (b, c)', i);
        IF i % 100 = 0 THEN COMMIT; END IF;
    END LOOP; END $$"""
    probe.source.sql(many)
    probe.dest.sql(many)
    probe.dest.sql("ALTER TABLE t500 DROP COLUMN e")
    assert list(probe.drift()) == ["public.t500"]
    # Measured against what the definitions alone cost at this moment: the machine may be busy.
    def reference():
        start = time.monotonic()
        for side in (probe.source, probe.dest):
            side.sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint")
            side.sql("SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid > 16384")
            side.sql("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid > 16384")
        return round((time.monotonic() - start) * 1_000_000)

    pairs = [(reference(), probe("drift").values("drift_us")[0]) for _ in range(3)]
    print("drift of 1,000 tables, microseconds: definitions alone, all of it:", pairs)
    assert min(took / least for least, took in pairs) < 3, pairs


# --- capture and replay ---

SLOT = "ddl_reader"
PREFIX = "message: transactional: 1 prefix: pgcrane.ddl, "


def install(probe):
    """The capture, and a slot that reads what it writes."""
    probe("publish", "install")
    probe.source.sql("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (SLOT,))


def messages(probe):
    """What was captured since the last look, as JSON texts."""
    rows = probe.source.sql("SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL)", (SLOT,))
    return [row[0].split(" content:", 1)[1] for row in rows if row[0].startswith(PREFIX)]


def body(message):
    """What is in one: behind the slot's name and the secret."""
    return json.loads(message.split(" ", 2)[2])


def psql(database, text, user=SUPERUSER):
    """One string, as psql -c sends it: several statements are one query."""
    cluster = database.cluster
    run = subprocess.run([newest_client("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", cluster.folder, "-p",
                          str(cluster.port), "-U", user, "-d", database.name, "-c", text],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{text}\n{run.stderr}"
    return run.stdout


def replay(probe):
    """Repeats what was captured: [(outcome, what, reason)]."""
    found = messages(probe)
    assert all("\n" not in message for message in found)
    probe("replay", text="".join(message + "\n" for message in found))
    return [(r["outcome"], r["what"], r["reason"]) for r in probe.values("replayed")]


def assert_same_schema(probe):
    ours = f"--exclude-schema=pgcrane_{JOB}_ddl"
    here = [line for line in dump_schema(probe.source, ours).splitlines()
            if "PUBLICATION" not in line and "ENABLE ROW LEVEL SECURITY" not in line]  # the promote's to enable
    there = dump_schema(probe.dest, "--exclude-schema=pgcrane").splitlines()
    here = [line for line in here if "EVENT TRIGGER" not in line and "EXECUTE FUNCTION pgcrane" not in line
            and line.strip() != "ON ddl_command_end" and "ON sql_drop" not in line and "ON table_rewrite" not in line]
    assert here == there
    assert probe.drift() == {}


# Strings as one query each. Everything here can be repeated.
CATALOGUE_OF_DDL = [
    "CREATE SCHEMA shop",
    "CREATE TYPE shop.status AS ENUM ('new', 'paid')",
    "CREATE TABLE shop.orders (id int PRIMARY KEY, state shop.status, note text)",
    "ALTER TABLE shop.orders ADD COLUMN more varchar(5) NOT NULL DEFAULT 'x'",
    "ALTER TABLE shop.orders RENAME COLUMN more TO \"More; Or \"\"less\"\"\"",
    "ALTER TABLE shop.orders DROP COLUMN note",
    "ALTER TABLE shop.orders ALTER COLUMN id TYPE bigint",
    "CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE TABLE c (id int); DROP TABLE b",
    "/* CREATE TABLE d () */ CREATE TABLE e (t text DEFAULT 'CREATE TABLE f ();'); -- CREATE TABLE g ()\n"
    "CREATE TABLE h (t text DEFAULT $q$it's; CREATE TABLE i ()$q$)",
    "CREATE INDEX CONCURRENTLY a_id ON a (id)",
    "CREATE UNIQUE INDEX c_id ON c (id) WHERE id > 3",
    "ALTER TYPE shop.status ADD VALUE 'lost' BEFORE 'paid'",
    "ALTER TABLE a RENAME TO a_new",
    "ALTER TABLE a_new SET SCHEMA shop",
    "ALTER SCHEMA shop RENAME TO store",
    "ALTER TABLE store.a_new ADD CONSTRAINT positive CHECK (id > 0) NOT VALID, ADD PRIMARY KEY (id)",
    "ALTER TABLE c ADD FOREIGN KEY (id) REFERENCES store.a_new; ALTER TABLE c DROP CONSTRAINT c_id_fkey",
    "CREATE FUNCTION store.f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE nothing (); RETURN 1; END $$",
    "CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    " CREATE TRIGGER t BEFORE INSERT ON c FOR EACH ROW EXECUTE PROCEDURE trg()",
    "CREATE VIEW store.v AS SELECT id FROM store.a_new; CREATE OR REPLACE VIEW store.v AS SELECT id, 1 AS one FROM store.a_new",
    "CREATE MATERIALIZED VIEW mv AS SELECT 1 AS one WITH NO DATA",
    "CREATE SEQUENCE s; ALTER SEQUENCE s INCREMENT 5; COMMENT ON SEQUENCE s IS 'five; at a time'",
    "SET search_path = store, public; CREATE TABLE in_store (id serial PRIMARY KEY); SET TimeZone = 'Asia/Tokyo';"
    " CREATE TABLE when_it (t timestamptz DEFAULT '2024-01-01 00:00')",
    "CREATE TABLE part (id int, at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE part_1 PARTITION OF part"
    " FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    "ALTER TABLE part DETACH PARTITION part_1",
    "CREATE TEMP TABLE temporary_one (id int); CREATE TABLE after_it (id int); DROP TABLE temporary_one",
    "CREATE TABLE IF NOT EXISTS after_it (id int); CREATE TABLE after_that (id int)",
    "CREATE DOMAIN mail AS text; ALTER DOMAIN mail ADD CHECK (VALUE ~ '@')",
    "ALTER TABLE c ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON c USING (id > 0)",
    "GRANT SELECT ON c TO PUBLIC; REVOKE SELECT ON c FROM PUBLIC; GRANT INSERT ON c TO PUBLIC",
    "CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int)",
    "ALTER TABLE c REPLICA IDENTITY FULL",
    "DROP VIEW store.v; DROP INDEX store.a_id; DROP FUNCTION store.f()",
    "CREATE STATISTICS st ON id, at FROM part",
    "ALTER TABLE c ADD COLUMN g int GENERATED ALWAYS AS (id * 2) STORED",
    "CREATE SCHEMA two CREATE TABLE inner_one (id int) CREATE VIEW inner_view AS SELECT * FROM inner_one",
    "BEGIN; CREATE TABLE gone (id int); ROLLBACK; BEGIN; CREATE TABLE kept (id int); COMMIT",
    "DO $$ BEGIN PERFORM 1; END $$; CREATE TABLE last_one (id int)",
]


@pytest.mark.parametrize("major", [15, 17, 18])
def test_commands_are_repeated_and_both_sides_are_equal(make_probe, major):
    probe = make_probe(major, major)
    install(probe)
    for text in CATALOGUE_OF_DDL:
        psql(probe.source, text)
        found = replay(probe)
        assert found, text
        # A table with a key that comes with other statements is published by the program, a moment later.
        suspects = [r for r in found if r[0] != "applied" and "not published at once" not in r[2]]
        if "ADD PRIMARY KEY" in text or "REPLICA IDENTITY" in text:  # what the table did before was not in the stream
            assert len(suspects) == 1 and "got a replica identity" in suspects[0][2], (text, suspects)
        else:
            assert suspects == [], text
    assert_same_schema(probe)
    probe("remove")


BEFORE = """CREATE TABLE t (id int PRIMARY KEY, n int, at timestamptz); INSERT INTO t SELECT i, i FROM generate_series(1, 5) i;
CREATE TABLE u (id int PRIMARY KEY); CREATE FUNCTION volatile_one(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER audit BEFORE INSERT ON t FOR EACH ROW EXECUTE PROCEDURE trg();
CREATE FUNCTION make(name text) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('CREATE TABLE %I (id int)', name); END $$"""

# Command, what the reason says, whether the destination has the new shape all the same.
SUSPECTS = [
    ("SELECT make('inside')", "inside a function", False),
    ("DO $$ BEGIN CREATE TABLE inside (id int); END $$", "inside a function", False),
    ("CREATE TABLE copy AS SELECT * FROM t", "result of a query", False),
    ("SELECT * INTO copy FROM t", "result of a query", False),
    ("ALTER TABLE t ADD COLUMN x timestamptz DEFAULT now()", "other values", True),
    ("ALTER TABLE t ADD COLUMN x timestamptz DEFAULT 'now'", "other values", False),
    ("ALTER TABLE t ADD COLUMN x float DEFAULT random()", "other values", True),
    ("ALTER TABLE t ADD COLUMN x serial", "other values", True),
    ("ALTER TABLE t ADD COLUMN x int GENERATED ALWAYS AS IDENTITY", "other values", True),
    ("ALTER TABLE t ALTER COLUMN n TYPE text USING volatile_one(n)::text", "other values", True),
    ("ALTER TABLE t ALTER COLUMN n TYPE bigint USING n::int * 2 + 1", "other values", True),
    ("ALTER TABLE t ADD COLUMN only_here int", "the destination refused it", False),
]


@pytest.mark.parametrize("major", [15, 18])
def test_what_cannot_be_repeated_is_suspect_and_says_why(make_probe, major):
    probe = make_probe(major, major)
    probe.source.sql(BEFORE)
    probe.dest.sql(BEFORE)
    install(probe)
    table = probe.source.sql("SELECT 't'::regclass::oid::bigint")[0][0]
    for text, reason, done in SUSPECTS:
        probe.source.sql("DROP TABLE IF EXISTS inside, copy; ALTER TABLE t DROP COLUMN IF EXISTS x")
        probe.dest.sql("DROP TABLE IF EXISTS inside, copy; ALTER TABLE t DROP COLUMN IF EXISTS x")
        if "only_here" in text:
            probe.dest.sql("ALTER TABLE t ADD COLUMN only_here int")
        messages(probe)
        psql(probe.source, text)
        found = replay(probe)
        assert [r[0] for r in found] == ["suspect"], (text, found)
        assert reason in found[0][2], (text, found)
        if text.startswith("ALTER TABLE t"):
            assert probe.values("replayed")[0]["tables"] == [table]
        if "only_here" not in text:
            assert (probe.drift() == {}) == done, text


# Made on the source, or not to be made here: what the destination has of it meanwhile is silent.
CALM = [
    ("ALTER TABLE t ENABLE ALWAYS TRIGGER audit", ["applied"]),
    ("ALTER TABLE t DISABLE TRIGGER audit, ENABLE ALWAYS TRIGGER audit, ADD w int", ["applied"]),
    ("CREATE TRIGGER more BEFORE INSERT ON t FOR EACH ROW EXECUTE PROCEDURE trg(); ALTER TABLE t ENABLE REPLICA TRIGGER more", ["applied", "applied"]),
    ("ALTER TABLE t ENABLE ROW LEVEL SECURITY, ADD x int; CREATE POLICY p ON t USING (false)", ["applied", "applied"]),
    ("CREATE RULE r AS ON INSERT TO t DO INSTEAD NOTHING; ALTER TABLE t ENABLE ALWAYS RULE r", ["applied", "applied"]),
    ("DO $$ BEGIN CREATE POLICY inside ON t USING (true); DROP TRIGGER audit ON t; END $$", ["ignored", "ignored"]),
    ("ALTER POLICY inside ON t USING (false); DROP POLICY inside ON t", ["ignored", "ignored"]),
    ("ALTER TABLE u ENABLE TRIGGER here_only", ["ignored"]),
]


def test_what_acts_is_calm_until_the_promote(probe):
    for side in (probe.source, probe.dest):
        side.sql(BEFORE)
    probe.source.sql("CREATE TRIGGER here_only BEFORE INSERT ON u FOR EACH ROW EXECUTE PROCEDURE trg()")
    install(probe)
    for text, outcomes in CALM:
        psql(probe.source, text)
        assert [r[0] for r in replay(probe)] == outcomes, text
        assert probe.dest.sql("SELECT tgname FROM pg_trigger WHERE tgenabled <> 'O' AND NOT tgisinternal AND tgenabled <> 'D'") == [], text
        assert probe.dest.sql("SELECT rulename FROM pg_rewrite WHERE ev_enabled <> 'O'") == [], text
        assert probe.dest.sql("SELECT relname FROM pg_class WHERE relrowsecurity") == [], text
    assert probe.drift() == {}


@pytest.mark.parametrize("text", [
    "ALTER TABLE t ADD COLUMN x int DEFAULT 5 NOT NULL CHECK (volatile_one(x) > 0)",
    "ALTER TABLE t ADD COLUMN x varchar(10) DEFAULT 'a b'::varchar(10), ADD COLUMN y int DEFAULT -1",
    "ALTER TABLE t ALTER COLUMN at SET DEFAULT now()",
    "ALTER TABLE t ALTER COLUMN n TYPE bigint",
    "ALTER TABLE t ADD COLUMN x numeric(8, 2) DEFAULT 1.5, ADD COLUMN y jsonb DEFAULT '{\"a\": [1]}', ADD COLUMN z text[] DEFAULT '{a,b}', ADD COLUMN w boolean DEFAULT true",
    "ALTER TABLE t ADD COLUMN x int GENERATED ALWAYS AS (n + 1) STORED",
    "ALTER TABLE t ADD CONSTRAINT one UNIQUE USING INDEX t_one",
    "ALTER TABLE t CLUSTER ON t_one",
])
def test_rewrites_that_give_the_same_values_are_repeated(probe, text):
    for side in (probe.source, probe.dest):
        side.sql(BEFORE)
        side.sql("CREATE UNIQUE INDEX t_one ON t (n)")
    install(probe)
    psql(probe.source, text)
    assert [r[0] for r in replay(probe)] == ["applied"]
    assert probe.drift() == {}
    rows = "SELECT t::text FROM t ORDER BY id"
    assert probe.source.sql(rows) == probe.dest.sql(rows)


def test_what_was_rolled_back_is_not_repeated(probe):
    install(probe)
    with contextlib.closing(probe.source.connect(autocommit=False)) as conn:
        conn.execute("CREATE TABLE a (id int)")
        conn.execute("SAVEPOINT s")
        conn.execute("CREATE TABLE b (id int)")
        conn.execute("ROLLBACK TO s")
        conn.execute("INSERT INTO a VALUES (1)")
        conn.execute("ALTER TABLE a ADD COLUMN x text")
        conn.commit()
        conn.execute("CREATE TABLE c (id int)")
        conn.rollback()
    assert [r[:2] for r in replay(probe)] == [("applied", "CREATE TABLE public.a"), ("applied", "ALTER TABLE public.a")]
    assert probe.drift() == {}


def test_a_string_that_ends_transactions_goes_by_name_or_not_at_all(probe):
    install(probe)
    psql(probe.source, "BEGIN; CREATE TABLE a (id int); COMMIT; BEGIN; CREATE TABLE b (id int); SAVEPOINT s;"
                       " CREATE TABLE c (id int); ROLLBACK TO s; CREATE TABLE d (id int); COMMIT")
    assert [r[:2] for r in replay(probe)] == [("applied", f"CREATE TABLE public.{t}") for t in "abd"]
    assert probe.drift() == {}
    psql(probe.source, "BEGIN; CREATE TABLE e (id int); ROLLBACK; CREATE TABLE e (id text)")
    assert [r[0] for r in replay(probe)] == ["suspect"]


def test_a_number_is_not_given_to_the_wrong_statement(probe):
    """A function that runs a command of the same tag does not shift the count of those behind it."""
    probe.source.sql(BEFORE)
    probe.dest.sql(BEFORE)
    install(probe)
    psql(probe.source, "SELECT make('inside'); CREATE TABLE outside (id int); SELECT make('more'); CREATE TABLE last (id int)")
    assert [r[:2] for r in replay(probe)] == [
        ("suspect", "CREATE TABLE public.inside"), ("applied", "CREATE TABLE public.outside"),
        ("suspect", "CREATE TABLE public.more"), ("applied", "CREATE TABLE public.last")]
    assert set(probe.drift()) == {"public.inside", "public.more"}


def test_an_enum_label_and_rows_with_it(probe):
    install(probe)
    psql(probe.source, "CREATE TYPE mood AS ENUM ('good')")
    psql(probe.source, "CREATE TABLE m (id int PRIMARY KEY, v mood)")
    psql(probe.source, "ALTER TYPE mood ADD VALUE 'bad'")
    assert [r[0] for r in replay(probe)] == ["applied"] * 3
    probe.dest.sql("INSERT INTO m VALUES (1, 'bad')")
    assert probe.drift() == {}


def test_what_is_not_migrated_is_ignored(probe):
    install(probe)
    psql(probe.source, "CREATE TABLE skip_this (id int); CREATE INDEX ON skip_this (id); CREATE TABLE that (id int)")
    psql(probe.source, "CREATE PUBLICATION theirs; CREATE MATERIALIZED VIEW mv AS SELECT 1 AS one")
    psql(probe.source, "REFRESH MATERIALIZED VIEW mv; DROP TABLE skip_this")
    found = {what: outcome for outcome, what, _ in replay(probe)}
    assert found == {"CREATE TABLE public.skip_this": "ignored", "CREATE INDEX public.skip_this_id_idx": "ignored",
                     "CREATE TABLE public.that": "applied", "CREATE MATERIALIZED VIEW public.mv": "applied",
                     "REFRESH MATERIALIZED VIEW public.mv": "ignored", "DROP TABLE public.skip_this": "ignored"}


def test_the_owner_is_who_ran_it_and_a_missing_role_does_no_harm(probe):
    for side in (probe.source, probe.dest):
        side.sql("DO $$ BEGIN CREATE ROLE ddl_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        side.sql("CREATE SCHEMA ddl_app AUTHORIZATION ddl_app")
    probe.source.sql("DO $$ BEGIN CREATE ROLE ddl_only_source; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    install(probe)
    psql(probe.source, "CREATE TABLE mine (id int)", user="ddl_app")
    psql(probe.source, "CREATE TABLE theirs (id int); ALTER TABLE theirs OWNER TO ddl_only_source; GRANT SELECT ON theirs"
                       " TO ddl_only_source")
    assert [r[0] for r in replay(probe)] == ["applied", "applied", "ignored", "ignored"]
    owner = "SELECT relowner::regrole::text, relnamespace::regnamespace::text FROM pg_class WHERE relname = 'mine'"
    assert probe.source.sql(owner) == probe.dest.sql(owner) == [("ddl_app", "ddl_app")]


# --- what the application notices ---


@pytest.mark.parametrize("major", [15, 18])
def test_an_application_without_rights_on_our_schema_is_not_hindered(make_probe, major):
    probe = make_probe(major, major)
    probe.source.sql("DO $$ BEGIN CREATE ROLE ddl_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    probe.source.sql("CREATE SCHEMA app AUTHORIZATION ddl_app")
    install(probe)
    psql(probe.source, "SET search_path = app; CREATE TABLE mine (id int PRIMARY KEY); ALTER TABLE mine ADD x text;"
                       " CREATE TEMP TABLE mine2 (id int); DROP TABLE mine", user="ddl_app")
    psql(probe.source, "SET session_replication_role = replica; CREATE TABLE quiet (id int)")
    tags = [m["tag"] for m in map(body, messages(probe)) if "suspect" not in m]  # "mine" is published later
    assert tags == ["CREATE TABLE", "ALTER TABLE", "DROP TABLE", "CREATE TABLE"]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        probe.source.sql(f"SELECT pgcrane_{JOB}_ddl.emit('{{}}')", user="ddl_app")


def test_what_goes_wrong_inside_is_told_and_fails_nothing(probe):
    install(probe)
    probe.source.sql(f"ALTER FUNCTION pgcrane_{JOB}_ddl.found_end() RENAME TO broken")
    psql(probe.source, "CREATE TABLE t (id int)")
    probe.source.sql(f"ALTER FUNCTION pgcrane_{JOB}_ddl.note(text, text, boolean, json, json, json, json) RENAME TO broken2")
    psql(probe.source, "DROP TABLE t")
    found = [body(m) for m in messages(probe)]
    assert len([m for m in found if "failed" in m and m["tag"] == "CREATE TABLE"]) == 1, found
    assert any("failed" in m and m["tag"] == "DROP TABLE" for m in found), found


def test_a_long_query_is_not_written_to_the_log_of_changes(probe):
    install(probe)
    psql_text = "CREATE TABLE t (id int); -- " + "x" * 120_000
    probe.source.sql(psql_text + "y" * 150_000)
    message = messages(probe)[0]
    assert body(message)["query"] is None and body(message)["objects"][0]["identity"] == "public.t"
    probe("replay", text=message + "\n")
    assert probe.values("replayed")[0]["outcome"] == "suspect"


def published(probe, suffix):
    return {row[0] for row in probe.source.sql(
        "SELECT r.prrelid::regclass::text FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid"
        " WHERE p.pubname = %s", (f"pgcrane_{JOB}_{suffix}",))}


def apart(database, text):
    """Each statement as a string of its own: a table comes into the publication at once only where it is alone."""
    for statement in text.split(";"):
        psql(database, statement)


@pytest.mark.parametrize("major", [15, 18])
@pytest.mark.parametrize("publish", ["publish", "publish-lists"])
def test_the_publications_follow_in_the_same_transaction(make_probe, publish, major):
    probe = make_probe(major, major)
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); CREATE UNIQUE INDEX t_n ON t (n)")
    probe(publish, "install")
    apart(probe.source, "CREATE TABLE keyed (id int PRIMARY KEY); CREATE TABLE keyless (id int);"
                       " UPDATE keyless SET id = 1; CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id);"
                       " CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1)")
    assert published(probe, "keys") == {"t", "keyed", "p", "p_1"}
    assert published(probe, "all") == ({"t", "keyed", "keyless", "p", "p_1"} if publish == "publish-lists" else set())
    with contextlib.closing(probe.source.connect(autocommit=False)) as conn:
        conn.execute("INSERT INTO t VALUES (1, 1)")
        conn.execute("ALTER TABLE t DROP CONSTRAINT t_pkey")
        conn.execute("UPDATE t SET n = 2")
        conn.commit()
    assert published(probe, "keys") == {"keyed", "p", "p_1"}
    apart(probe.source, "ALTER TABLE t REPLICA IDENTITY USING INDEX t_n; UPDATE t SET n = 3")
    assert published(probe, "keys") == {"t", "keyed", "p", "p_1"}
    apart(probe.source, "DROP INDEX t_n; UPDATE t SET n = 4; ALTER TABLE keyless ADD PRIMARY KEY (id)")
    assert published(probe, "keys") == {"keyless", "keyed", "p", "p_1"}
    apart(probe.source, "ALTER TABLE p DROP CONSTRAINT p_pkey; INSERT INTO p VALUES (1); UPDATE p SET id = 1")  # of the leaf, too
    assert published(probe, "keys") == {"keyless", "keyed"}
    apart(probe.source, "ALTER TABLE p ADD PRIMARY KEY (id); UPDATE p SET id = 1")
    apart(probe.source, "CREATE SCHEMA s; CREATE TABLE s.x (id int PRIMARY KEY); DROP TABLE keyed")
    assert published(probe, "keys") == {"keyless", "p", "s.x"}


# --- coming and going ---


@pytest.mark.parametrize("major", MAJORS)
def test_installing_and_removing_leaves_nothing(make_probe, major):
    probe = make_probe(major, 15)
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    with unchanged(probe.source):
        probe("install", "install")
        assert probe.values("schema") == [f"pgcrane_{JOB}_ddl"]
        assert probe.dest.sql("SELECT kind, name, made FROM pgcrane.source_object") == [
            ("ddl capture", f"pgcrane_{JOB}_ddl", True)]
        assert len(probe.source.sql("SELECT 1 FROM pg_event_trigger WHERE evtenabled = 'A'")) == 3
        psql(probe.source, "CREATE TABLE passing (id int); DROP TABLE passing")
        probe("remove", "remove", "seam-remove")
    assert not probe.dest.sql("SELECT 1 FROM pgcrane.source_object")


@pytest.mark.parametrize("point", ["ddl.capture_intended", "ddl.capture_made", "ddl.capture_removed"])
def test_killed_at_each_step_and_done_again(probe, point):
    with unchanged(probe.source):
        if point == "ddl.capture_removed":
            probe("install")
            probe("remove", env={"PGCRANE_FAILPOINT": f"{point}:kill"}, code=-9)
        else:
            probe("install", env={"PGCRANE_FAILPOINT": f"{point}:kill"}, code=-9)
            assert probe.dest.sql("SELECT kind, made FROM pgcrane.source_object") == [("ddl capture", False)]
            probe("install")
            assert len(probe.source.sql("SELECT 1 FROM pg_event_trigger")) == 3
        probe("remove")
    assert not probe.dest.sql("SELECT 1 FROM pgcrane.source_object")


# --- the stream ---


@pytest.mark.parametrize("major", [15, 18])
def test_a_command_stands_between_the_rows_before_and_after_it(make_probe, major):
    """Also in subtransactions: a message has the position of the record behind it."""
    probe = make_probe(major, major)
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    install(probe)
    with contextlib.closing(probe.source.connect(autocommit=False)) as conn:
        for text in ("INSERT INTO t VALUES (1)", "ALTER TABLE t ADD COLUMN a int DEFAULT 7", "INSERT INTO t VALUES (2, 2)",
                     "ALTER TABLE t ALTER COLUMN a TYPE bigint", "INSERT INTO t VALUES (3, 3)", "CREATE TABLE u (id int)",
                     "INSERT INTO u VALUES (4)", "DROP TABLE t", "INSERT INTO u VALUES (5)", "SAVEPOINT s",
                     "ALTER TABLE u ADD COLUMN b int", "RELEASE s", "INSERT INTO u VALUES (6, 6)"):
            conn.execute(text)
        conn.commit()
    seen = []
    for (data,) in probe.source.sql("SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL)", (SLOT,)):
        if data.startswith(PREFIX):
            seen.append(body(data.split(" content:", 1)[1])["tag"])
        elif data.startswith("table public."):
            seen.append(data.removeprefix("table public."))
    assert seen == ["t: INSERT: id[integer]:1", "ALTER TABLE", "t: INSERT: id[integer]:2 a[integer]:2", "ALTER TABLE",
                    "t: INSERT: id[integer]:3 a[bigint]:3", "CREATE TABLE", "u: INSERT: id[integer]:4", "DROP TABLE",
                    "u: INSERT: id[integer]:5", "ALTER TABLE", "u: INSERT: id[integer]:6 b[integer]:6"]


def test_the_message_is_utf8_whatever_the_database_is(make_probe, server_of):
    probe = make_probe(15, 15)
    latin = server_of("src", 15).createdb(options="ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        probe.source = latin
        probe("publish", "install")
        latin.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (SLOT,))
        psql(latin, "SET client_encoding = 'UTF8'; CREATE TABLE \"gr\u00f6\u00dfe\" (\"\u00e9\" text DEFAULT '\u00fc')")
        rows = latin.sql("SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
                         " 'publication_names', %s, 'messages', 'true')", (SLOT, f"pgcrane_{JOB}_all"))
        parts = [bytes(data).partition(b"pgcrane.ddl\0")[2] for (data,) in rows]  # the length, then slot, secret, JSON
        bodies = [part[4:] for part in parts if b"{" in part]
        assert len(bodies) == 1
        probe("replay", text=bodies[0].decode("utf-8") + "\n")
        assert [r["outcome"] for r in probe.values("replayed")] == ["applied"]
        assert probe.drift() == {}
    finally:
        latin.drop()


def test_a_string_without_standard_conforming_strings(probe):
    install(probe)
    probe.source.sql(f'ALTER DATABASE "{probe.source.name}" SET standard_conforming_strings = off')
    psql(probe.source, "SET escape_string_warning = off; CREATE TABLE plain (t text); CREATE TABLE odd (t text DEFAULT '\\'; CREATE TABLE no (); --')")
    assert [r[0] for r in replay(probe)] == ["suspect", "suspect"]
    psql(probe.source, "CREATE TABLE plainer (t text DEFAULT 'x')")
    assert [r[0] for r in replay(probe)] == ["applied"]
