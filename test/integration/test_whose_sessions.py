"""A session is ended only when it is one that pgcrane has left: never the application's, never another migration's."""
import contextlib
import os
import subprocess

import pytest

from support.cluster import Database, wait_until
from support.migration import FLAGS, assert_done, assert_fails, bodies
from support.program import Program
from support.trouble import again, assert_promoted, make, make_standby, promote_standby

pytestmark = pytest.mark.turns(3)

# --- sessions whose name is not the one that was asked for ---

NAMES_SESSIONS = """
CREATE FUNCTION names_it() RETURNS event_trigger LANGUAGE plpgsql AS $$
 BEGIN PERFORM pg_catalog.set_config('application_name', 'shop of ' || session_user, false); END $$;
CREATE EVENT TRIGGER names_it ON login EXECUTE FUNCTION names_it();
ALTER EVENT TRIGGER names_it ENABLE ALWAYS;
"""


@pytest.mark.parametrize("side", ("source", "destination"))
def test_login_trigger_that_names_sessions(side, own_cluster, pgcrane):
    """The application's sessions have the same name, and the same role, as ours."""
    cluster = own_cluster("names", major=17)
    source, dest = cluster.createdb(), cluster.createdb()
    source.sql("CREATE TABLE shop (id int PRIMARY KEY); INSERT INTO shop SELECT generate_series(1, 5000)")
    there = source if side == "source" else dest
    there.sql(NAMES_SESSIONS + "CREATE TABLE sales (id int)")
    with contextlib.closing(there.connect(autocommit=False)) as application:
        assert application.execute("SELECT current_setting('application_name')").fetchall() == [("shop of postgres",)]
        application.execute("INSERT INTO sales VALUES (1)")
        result = pgcrane("migrate", source.uri, dest.uri, *FLAGS, "--pg-bindir", cluster.bin)
        application.commit()
    assert_done(result)
    assert dest.sql("SELECT count(*) FROM shop") == [(5000,)]


# --- two migrations of one id ---


@pytest.fixture
def twins(own_cluster):
    """Two servers that are physical copies of each other, and a database's name that both have."""
    first = own_cluster("twin")
    first.createdb("shop")
    with contextlib.ExitStack() as made:
        second = make_standby(first, made)
        promote_standby(second)
        yield [Database(server, "shop") for server in (first, second)]


def slots(source):
    return source.sql("SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = current_database()")


def test_two_destinations_that_are_copies(twins, source_db, pgcrane, tmp_path):
    """Their migrations have one id: the second is refused, and the first is not disturbed."""
    following = make(pgcrane, source_db, twins[0]).start()
    following.wait_caught_up()
    before = slots(source_db)
    second = Program(tmp_path / "second")
    failed = assert_fails(second("migrate", source_db.uri, twins[1].uri, *FLAGS, "--follow"), 2, "FENCED")
    assert "source session" in failed["message"] and "physical copy" in failed["remedy"], failed
    assert slots(source_db) == before and len(before) == 1
    assert_promoted(following)
    # What the remedy says helps.
    assert_done(second("migrate", source_db.uri, twins[1].uri, *FLAGS))


def test_slot_that_another_reads(source_db, dest_db, pgcrane, tmp_path):
    """Its reader has no lock of pgcrane: it may be of an older version, or about to take the lock again."""
    source_db.sql("CREATE TABLE shop (id int PRIMARY KEY)")
    dry = pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--follow", "--dry-run")
    slot = f"pgcrane_{bodies(dry, 'JOB')[0]['job_id']}"
    source_db.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
    reader = subprocess.Popen([os.path.join(source_db.cluster.bin, "pg_recvlogical"), "-d", source_db.uri, "--slot", slot, "--start",
                               "-o", "proto_version=1", "-o", "publication_names=none", "-f", os.devnull])
    try:
        wait_until(lambda: slots(source_db)[0][1], what="the reader")
        before = slots(source_db)
        failed = assert_fails(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--follow"), 2, "FENCED")
        assert f"session {before[0][1]} " in failed["message"] and str(before[0][1]) in failed["remedy"], failed
        assert slots(source_db) == before
        assert source_db.sql("SELECT count(*) FROM pg_publication") == [(0,)]
    finally:
        reader.kill()
        reader.wait()
    wait_until(lambda: not slots(source_db)[0][1], what="the reader to be gone")
    assert_promoted(again(pgcrane, source_db, dest_db).start())
