"""A destination that writes no WAL for what is new in it (wal_level = minimal): tables are copied whole, and its crash costs nothing that
was said to be copied."""
import pytest

from support import compare
from support.cluster import wait_until
from support.migration import assert_done, assert_nothing_left, ends_equal, killed_by_failpoint

pytestmark = pytest.mark.turns(4)

FLAGS = ("--yes", "--json", "--jobs", "2")  # ranges as they come of themselves
MB = 2**20
SIZE = 20 * MB  # more than the smallest range

FILL = """
CREATE TABLE big (id int PRIMARY KEY, note text);
INSERT INTO big SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 70000) i;
CREATE INDEX big_note ON big (left(note, 20));
CREATE TABLE small (id int PRIMARY KEY, big int REFERENCES big);
INSERT INTO small SELECT i, i FROM generate_series(1, 1000) i;
"""


@pytest.fixture
def pair(own_cluster):
    source = own_cluster("src").createdb()
    source.sql(FILL)
    settings = {"wal_level": "minimal", "max_wal_senders": "0", "fsync": "on"}
    return source, own_cluster("dst", config=settings).createdb()



def wal_of(dest, work):
    before = dest.sql("SELECT pg_current_wal_insert_lsn()")[0][0]
    work()
    return int(dest.sql("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", (before,))[0][0])


def test_wal_is_spared(pair, own_cluster, pgcrane):
    source, dest = pair
    plain = own_cluster("plain").createdb()
    assert source.sql("SELECT pg_table_size('big')")[0][0] > SIZE
    spared = wal_of(dest, lambda: assert_done(pgcrane("migrate", source.uri, dest.uri, *FLAGS)))
    compare.assert_equal(source.uri, dest.uri)
    written = wal_of(plain, lambda: assert_done(pgcrane("migrate", source.uri, plain.uri, *FLAGS)))
    assert written > SIZE > 5 * spared, (written, spared)
    assert_nothing_left(pgcrane, source, dest)


@pytest.mark.parametrize("point", ("copy.after_copy", "copy.before_commit", "copy.after_commit", "index.after_commit"))
def test_it_crashes(point, pair, pgcrane):
    """While a table is copied, and behind its commit: what its ledger says is there."""
    source, dest = pair
    killed_by_failpoint(pgcrane("migrate", source.uri, dest.uri, *FLAGS, env={"PGCRANE_FAILPOINT": f"{point}:kill"}), point)
    dest.cluster.restart("immediate")
    assert_done(pgcrane("migrate", source.uri, dest.uri, *FLAGS))
    compare.assert_equal(source.uri, dest.uri)
    assert_nothing_left(pgcrane, source, dest)


def test_it_crashes_under_a_run(pair, pgcrane):
    source, dest = pair
    running = pgcrane.popen("migrate", source.uri, dest.uri, *FLAGS, env={"PGCRANE_FAILPOINT": "copy.after_copy:sleep=1500"})
    wait_until(lambda: dest.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY%%big%%'"), what="the copy")
    dest.cluster.kill9()
    dest.cluster.start()
    ends_equal(pgcrane, running, source, dest, *FLAGS)


def test_before_13(own_cluster, pgcrane):
    """There a crash may lose what a transaction wrote without WAL into a table that it had emptied: it is not emptied."""
    source = own_cluster("src", major=12).createdb()
    source.sql(FILL)
    dest = own_cluster("old", major=12, config={"wal_level": "minimal", "max_wal_senders": "0", "fsync": "on"}).createdb()
    written = wal_of(dest, lambda: assert_done(pgcrane("migrate", source.uri, dest.uri, *FLAGS)))
    assert written > SIZE / 2
    dest.cluster.restart("immediate")
    compare.assert_equal(source.uri, dest.uri)
