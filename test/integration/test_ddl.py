"""DDL while following: what the catalogues say (drift), what event triggers capture, what is run on the destination."""
import contextlib
import os
import subprocess

import pytest

from support.cluster import SUPERUSER
from support.program import Program, find_program, json_lines

JOB = "ddltest"
MAJORS = (13, 15, 17, 18)


class Probe:
    """ddl_probe between two databases; its lines by key."""

    def __init__(self, program, source, dest):
        self.program, self.source, self.dest = program, source, dest
        self.lines = []

    def __call__(self, *steps, code=0, user=None):
        source = self.source.uri if user is None else self.source.uri_as(user, user)
        result = self.program(source, self.dest.uri, JOB, *steps)
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


def test_drift_leaves_out_what_is_not_ours(probe):
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE skip_one (a int REFERENCES t)")
    probe.dest.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE SCHEMA pgcrane; CREATE TABLE pgcrane.job (a int)")
    probe.dest.sql("ALTER TABLE t REPLICA IDENTITY FULL")
    probe.source.sql("CREATE EXTENSION pg_trgm" if has_extension(probe, "pg_trgm") else "SELECT 1")
    assert probe.drift() == {}


def has_extension(probe, name):
    return bool(probe.source.sql("SELECT 1 FROM pg_available_extensions WHERE name = %s", (name,)))


def test_drift_tells_the_order_of_columns_only_when_they_agree(probe):
    probe.source.sql("CREATE TABLE t (a int, b int); CREATE TABLE u (a int, b int)")
    probe.dest.sql("CREATE TABLE t (b int, a int); CREATE TABLE u (b int)")
    assert [m for m, _ in probe.drift()["public.t"]] == ["order of columns is a, b on the source, b, a on the destination"]
    assert [m for m, _ in probe.drift()["public.u"]] == ["column a is missing on the destination"]


def test_drift_of_a_thousand_tables_is_read_well_below_a_second(probe):
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
    took = [probe("drift").values("drift_us")[0] for _ in range(3)]
    print("drift of 1,000 tables, microseconds:", took)
    assert min(took) < 2_000_000, "2 s: the machine may be busy"
