"""From each major version to each higher one that there is on this machine, and never downwards."""
import contextlib

import pytest

from support import compare
from support.cluster import find_binaries
from support.migration import FLAGS, assert_done, assert_fails, assert_nothing_left, data_file, finding, has_ledger

pytestmark = pytest.mark.turns(2)

UPWARD = ((13, 15), (13, 17), (13, 18), (15, 17), (15, 18), (17, 18), (17, 17), (18, 18))
DOWNWARD = ((15, 13), (17, 15), (18, 17))

# Kinds of objects, counted by name on both sides: the text of pg_dump differs between majors, what is there does not.
CENSUS = """SELECT 'relation', c.relkind::text, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname IN ('shop', 'shop_audit', 'reporting')
 UNION ALL SELECT 'constraint', contype::text || convalidated::text, conrelid::regclass || ' ' || conname || pg_get_constraintdef(oid)
     FROM pg_constraint WHERE contype NOT IN ('t', 'n') AND connamespace::regnamespace::text IN ('shop', 'shop_audit')
 UNION ALL SELECT 'function', prokind::text, oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'shop'::regnamespace
 UNION ALL SELECT 'trigger', tgenabled::text, tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal
 UNION ALL SELECT 'type', typtype::text, typname FROM pg_type WHERE typnamespace = 'shop'::regnamespace AND typtype IN ('e', 'd')
 UNION ALL SELECT 'comment', objsubid::text, description FROM pg_description WHERE description ~ '^(one row|kept by)'
 ORDER BY 1, 2, 3"""


@pytest.fixture(scope="module")
def cluster_of(make_cluster):
    """One server of each side and major, made when first asked for."""
    made = {}

    def get(side, major):
        if (side, major) not in made:
            made[side, major] = make_cluster(f"{side}{major}", major=major, config={"shared_buffers": "16MB"})
        return made[side, major]
    return get


@pytest.fixture
def pair(cluster_of):
    with contextlib.ExitStack() as stack:
        def make(source_major, dest_major):
            databases = cluster_of("from", source_major).createdb(), cluster_of("to", dest_major).createdb()
            for database in databases:
                stack.callback(database.drop)
            return databases
        yield make


def assert_same_rows(source, dest):
    """Rows and sequences, by full comparison."""
    sides = [compare.Side(database.uri, ()) for database in (source, dest)]
    try:
        problems = compare.data_differing(*sides)
        problems += compare.maps_differing("sequence", sides[0].sequences(), sides[1].sequences())
        assert not problems, "\n".join(problems[:20])
    finally:
        for side in sides:
            side.conn.close()


def assert_same_objects(source, dest):
    there, here = set(source.sql(CENSUS)), set(dest.sql(CENSUS))
    assert there == here, sorted(there ^ here)[:20]


@pytest.mark.parametrize("versions", UPWARD, ids=lambda v: f"{v[0]}-{v[1]}")
def test_upward(versions, pair, pgcrane):
    source, dest = pair(*versions)
    source.psql_file(data_file("shop.sql"), variables={"scale": "0.25"})
    result = pgcrane("migrate", source.uri, dest.uri, *FLAGS, "--pg-bindir", find_binaries(max(versions)))
    report = assert_done(result)
    assert report["source_version"].startswith(str(versions[0])) and report["dest_version"].startswith(str(versions[1]))
    assert_same_rows(source, dest)
    assert_same_objects(source, dest)
    assert_nothing_left(pgcrane, source, dest)


@pytest.mark.parametrize("versions", DOWNWARD, ids=lambda v: f"{v[0]}-{v[1]}")
def test_downward_is_refused(versions, pair, pgcrane):
    source, dest = pair(*versions)
    source.sql("CREATE TABLE t (id int)")
    result = pgcrane("migrate", source.uri, dest.uri, *FLAGS, "--pg-bindir", find_binaries(max(versions)))
    assert_fails(result, 2, "PREFLIGHT_FAILED")
    assert finding(result, "DESTINATION_OLDER")["severity"].upper() == "ERROR"
    assert not has_ledger(dest)


@pytest.mark.parametrize("versions", ((15, 18), (13, 17)), ids=lambda v: f"{v[0]}-{v[1]}")
def test_killed_between_versions(versions, pair, pgcrane):
    """Resume works whatever the versions: ranges by TID scan or, before 14, by lists of them."""
    source, dest = pair(*versions)
    source.psql_file(data_file("small.sql"))
    flags = (*FLAGS, "--pg-bindir", find_binaries(max(versions)))
    first = pgcrane("migrate", source.uri, dest.uri, *flags, env={"PGCRANE_FAILPOINT": "copy.after_commit:kill:8"})
    assert first.code != 0
    report = assert_done(pgcrane("migrate", source.uri, dest.uri, *flags))
    assert report["chunks_kept"] >= 8
    assert_same_rows(source, dest)
