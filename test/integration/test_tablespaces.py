"""Tablespaces: --tablespace-map, and what is told without it."""
import pytest

from support import compare
from support.cluster import Database, quote_ident
from support.following import Following
from support.migration import FLAGS, assert_done, assert_fails, finding, findings_of
from support.service import Service

pytestmark = pytest.mark.turns(4)

IN_PLACE = {"allow_in_place_tablespaces": "on", "shared_buffers": "16MB"}
ODD = 'a "b",=c'
SCHEMA = f"""
CREATE TABLE plain (id int PRIMARY KEY, v text);
CREATE TABLE t (id int PRIMARY KEY USING INDEX TABLESPACE slow, v text) TABLESPACE fast;
CREATE INDEX t_v ON t (v) TABLESPACE slow;
CREATE TABLE u (id int UNIQUE, v text) TABLESPACE {quote_ident(ODD)};
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id) TABLESPACE fast;
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (500) TABLESPACE slow;
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (500) TO (2000); -- where its root is
CREATE MATERIALIZED VIEW m TABLESPACE fast AS SELECT v, count(*) AS n FROM t GROUP BY 1;
CREATE TABLE explicit (id int PRIMARY KEY) TABLESPACE pg_default;
INSERT INTO plain SELECT g, md5(g::text) FROM generate_series(1, 1000) g;
INSERT INTO t SELECT * FROM plain; INSERT INTO u SELECT * FROM plain; INSERT INTO p SELECT * FROM plain;
REFRESH MATERIALIZED VIEW m;
"""
# {relation: its tablespace, "" for the database's default}
PLACES = """SELECT c.relname, coalesce(s.spcname, '') FROM pg_class c LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i', 'm', 'p', 'I')"""
DEFAULT = "SELECT spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE datname = %s"


@pytest.fixture(scope="module")
def servers(make_cluster):
    source, dest = (make_cluster(f"space_{side}", config=IN_PLACE) for side in ("source", "dest"))
    for name in ("fast", "slow", ODD):
        source.sql(f"CREATE TABLESPACE {quote_ident(name)} LOCATION ''")
    dest.sql("CREATE TABLESPACE ssd LOCATION ''")
    dest.sql("CREATE TABLESPACE \"Disk \"\"2\"\"\" LOCATION ''")
    return source, dest


@pytest.fixture
def pair(servers):
    """pair(options of CREATE DATABASE on the destination...) gives two databases."""
    made = []

    def make(on_source="", on_dest=""):
        made.extend((servers[0].createdb(options=on_source), servers[1].createdb(options=on_dest)))
        made[-2].sql(SCHEMA)
        return made[-2:]

    yield make
    for database in made:
        database.drop()


def places(database):
    return dict(database.sql(PLACES))


def migrate(pgcrane, source, dest, mapping):
    assert_done(pgcrane("migrate", source.uri, dest.uri, *FLAGS, f"--tablespace-map={mapping}"))
    compare.assert_equal(source.uri, dest.uri)
    return places(dest)


def test_each_goes_where_the_map_says(pair, pgcrane):
    source, dest = pair()
    there = migrate(pgcrane, source, dest, 'fast=ssd,slow="Disk ""2""","a ""b"",=c"=')
    assert there["t"] == there["m"] == there["p"] == there["p_2"] == "ssd", there
    assert there["t_pkey"] == there["t_v"] == there["p_1"] == 'Disk "2"', there
    assert there["plain"] == there["u"] == there["plain_pkey"] == "", there


def test_default_one_and_all_others(pair, pgcrane):
    """The destination's own default may not be named for a partitioned table."""
    source, dest = pair(on_dest="TABLESPACE ssd")
    there = migrate(pgcrane, source, dest, 'pg_default="Disk ""2""",*=ssd')
    assert there["plain"] == there["plain_pkey"] == there["explicit"] == 'Disk "2"', there
    assert there["t"] == there["p"] == there["p_2"] == there["t_pkey"] == there["u"] == "", there


def test_database_in_a_tablespace_of_its_own(pair, pgcrane):
    """What names none there is in the database's own."""
    source, dest = pair(on_source="TABLESPACE slow")
    there = migrate(pgcrane, source, dest, "slow=ssd,*=")
    assert there["plain"] == there["t_v"] == there["p_1"] == "ssd", there
    assert there["t"] == there["p_2"] == there["u"] == there["explicit"] == "", there


def test_nothing_is_put_anywhere(pair, pgcrane):
    source, dest = pair()
    assert set(migrate(pgcrane, source, dest, "*=").values()) == {""}


def test_definitions_that_are_followed(pair, pgcrane):
    source, dest = pair()
    following = Following(pgcrane, source, dest, "--ddl", "--tablespace-map=fast=ssd,*=").start()
    following.wait_caught_up()
    source.sql("CREATE TABLE n (id int PRIMARY KEY USING INDEX TABLESPACE fast, v text) TABLESPACE fast; CREATE INDEX n_v ON n (v) TABLESPACE slow;"
               "ALTER TABLE plain SET TABLESPACE fast; INSERT INTO n VALUES (1, 'x')")
    following.wait_caught_up()
    promoted = following.promoted(following.promote())
    assert promoted["opened"] and promoted["proven"], promoted
    source.cluster.sql(f"ALTER DATABASE {source.name} RESET default_transaction_read_only")
    compare.assert_equal(source.uri, dest.uri)
    there = places(dest)
    assert there["n"] == there["n_pkey"] == there["t"] == there["plain"] == "ssd" and there["n_v"] == "", there


def test_what_the_checks_tell(pair, servers, pgcrane):
    source, dest = pair()
    result = pgcrane("migrate", source.uri, dest.uri, *FLAGS)
    assert_fails(result, 2, "PREFLIGHT_FAILED")
    missing = {f["object"]: f for f in findings_of(result) if f["id"] == "TABLESPACE_MISSING"}
    assert set(missing) == {"tablespace fast", "tablespace slow", f"tablespace {quote_ident(ODD)}"}, result
    assert all("--tablespace-map" in f["fix"] for f in missing.values()), result
    result = pgcrane("migrate", source.uri, dest.uri, *FLAGS, "--tablespace-map=fast=nowhere,*=,mistyped=ssd")
    assert_fails(result, 2, "PREFLIGHT_FAILED")
    assert finding(result, "TABLESPACE_MISSING")["object"] == 'tablespace "nowhere"', result
    assert "mistyped" in finding(result, "TABLESPACE_MAP")["message"], result
    servers[1].sql("CREATE ROLE mover LOGIN")
    try:
        dest.sql(f"GRANT ALL ON DATABASE {dest.name} TO mover; GRANT ALL ON SCHEMA public TO mover")
        result = pgcrane("migrate", source.uri, dest.uri_as("mover"), "--dry-run", "--json", "--no-owner",
                         "--tablespace-map=pg_default=ssd,*=")
        closed = finding(result, "TABLESPACE_PRIVILEGE")
        assert closed["fix"] == 'GRANT CREATE ON TABLESPACE "ssd" TO mover;', closed
    finally:
        dest.sql("DROP OWNED BY mover; DROP ROLE mover")


def test_by_the_service(servers, tmp_path):
    """The database's own tablespace as well, and what the promote makes anew."""
    source, dest = servers
    moved, kept = source.createdb("moved", "TABLESPACE slow"), source.createdb("kept", "TABLESPACE fast")
    flags = {"dumpFlags": [{"name": "tablespace-map", "value": f'slow=ssd,pg_default=ssd,"{ODD.replace(chr(34), chr(34) * 2)}"="Disk ""2"""'}]}
    try:
        for database in (moved, kept):
            database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'x' FROM generate_series(1, 100) g;"
                         f"CREATE TABLE u (id int PRIMARY KEY) TABLESPACE {quote_ident(ODD)}; CREATE MATERIALIZED VIEW m AS SELECT * FROM t")
        with Service(tmp_path / "service") as service:
            service.job_of("spaces", source, dest, ["moved", "kept"], dumpFlags=flags)
            service.done("spaces", "start", timeout=60)
            service.wait_ready("spaces", timeout=60)
            moved.sql("INSERT INTO t VALUES (200, 'later')")
            service.done("spaces", "promote", timeout=60)
        assert dest.sql(DEFAULT, ("moved",)) == [("ssd",)] and dest.sql(DEFAULT, ("kept",)) == [("pg_default",)]
        there = places(Database(dest, "moved"))
        assert there["t"] == there["t_pkey"] == "" and there["u"] == 'Disk "2"', there
        assert places(Database(dest, "kept"))["t"] == "", "fast is not mapped, and is not named either"
        assert Database(dest, "moved").sql("SELECT count(*) FROM t") == [(101,)]
    finally:
        for cluster in servers:
            for name in ("moved", "kept"):
                Database(cluster, name).drop()
