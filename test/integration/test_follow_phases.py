"""What strikes a followed migration in its other phases, and what it has to live with from the first to the last."""
import contextlib
import glob
import os
import shutil
import subprocess
import sys

import pytest

from support.cluster import ROOT, Database, find_binaries, wait_until
from support.following import Following
from support.promote_command import phase
from support.trouble import (SCHEMA, Writer, again, assert_equal, assert_promoted, assert_source_clean, failpoint, make,
                             make_standby, promote_standby, wait_for_replay)
from support.tcp_proxy import Proxy

pytestmark = pytest.mark.turns(5)

POINTS = {"copy.after_commit": "COPY", "index.before_commit": "INDEX"}


def goes_on(following, writer):
    """By itself, or by the same command after an end that says so."""
    wait_until(lambda: not following.running() or following.cdc().get("state") == "FOLLOWING", 120, "what comes of it")
    if not following.running():
        following.end()
        assert following.failure()["retryable"], following.failure()
        following.again()
    writer.wait_for(5)
    assert_promoted(following)
    following.program.end_all()


@pytest.mark.turns(5)
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("what", ("source", "destination", "keeper"))
def test_snapshot_lost(what, point, own_cluster, source_db, dest_db, pgcrane):
    """A server, or the holder of the snapshot, is gone in mid-copy: what is copied later shows another moment, and the stream
    fits both."""
    cluster = own_cluster("struck") if what != "keeper" else None
    source = cluster.createdb() if what == "source" else source_db
    dest = cluster.createdb() if what == "destination" else dest_db
    following = make(pgcrane, source, dest)
    with Writer(source) as writer:
        following.start(env=failpoint(f"{point}:sleep=5000:1"))
        wait_until(lambda: phase(following, POINTS[point]) == "RUNNING", what=f"the phase: {following.said()}")
        if what == "keeper":
            assert following.kill("keeper") or POINTS[point] == "INDEX"  # it may have been let go: nothing is left to copy
        else:
            cluster.kill9()
            cluster.start()
        goes_on(following, writer)


def test_changed_when_it_was_copied_and_the_snapshot_is_lost(pgcrane, source_db, dest_db):
    """A table that is complete stays so, whatever has been made of it since: that is in the stream. What is not finished is copied
    under a new snapshot."""
    source_db.sql("""CREATE TABLE c (id int PRIMARY KEY, v text); INSERT INTO c SELECT i, repeat('c', 500) FROM generate_series(1, 2000) i;
                     CREATE TABLE d (id int PRIMARY KEY, v text); INSERT INTO d SELECT i, repeat('d', 500) FROM generate_series(1, 500) i;
                     CREATE TABLE e (id int PRIMARY KEY, v text); INSERT INTO e VALUES (1, 'e')""")
    following = Following(pgcrane, source_db, dest_db, "--ddl", "--jobs", "1")
    following.start(env=failpoint("copy.before_chunk:sleep=4000"))
    copied = "SELECT schema_name FROM pgcrane.relation r WHERE table_name = 'c' AND NOT EXISTS" \
             " (SELECT FROM pgcrane.chunk k WHERE k.relation = r.oid AND k.rows IS NULL)"
    wait_until(lambda: dest_db.sql("SELECT to_regclass('pgcrane.chunk') IS NOT NULL")[0][0] and dest_db.sql(copied), 60, "c")
    source_db.sql("ALTER TABLE c ADD n int DEFAULT 7; UPDATE c SET n = 8 WHERE id < 9; TRUNCATE e; INSERT INTO e VALUES (2, 'new')")
    following.wait_caught_up()
    assert any("new snapshot" in body["text"] for body in following.bodies("EVENT")), following.said()
    assert following.promoted(following.promote())["proven"]
    assert dest_db.sql("SELECT count(*), sum(n) FROM c") == [(2000, 2000 * 7 + 8)]
    assert_equal(source_db, dest_db)


SEAM_POINTS = ("seam.publication_made", "seam.slot_intended", "seam.slot_made", "seam.slot_checked", "seam.slot_bound",
               "seam.before_slot", "seam.after_slot", "seam.barrier_passed", "seam.before_marker", "seam.marked",
               "seam.after_marker")


def sleeps(following, point):
    for name in glob.glob(os.path.join(following.program.state_dir, "**", "worker.log"), recursive=True):
        with open(name, encoding="utf-8") as log:
            if f"fail point {point}: sleeping" in log.read():
                return True
    return False


@pytest.mark.turns(7)
@pytest.mark.parametrize("point", SEAM_POINTS)
@pytest.mark.parametrize("what", ("source", "destination"))
def test_a_server_dies_at_a_step_of_the_seam(what, point, own_cluster, source_db, dest_db, pgcrane):
    """The program lives: it goes on by itself, or says that it can be tried again, and then it can."""
    cluster = own_cluster("dying")
    following = make(pgcrane, cluster.createdb() if what == "source" else source_db,
                     cluster.createdb() if what == "destination" else dest_db)
    with Writer(following.source) as writer:
        following.start(env=failpoint(f"{point}:sleep=5000:1"))
        wait_until(lambda: sleeps(following, point), 30, f"the step: {following.said()}")
        cluster.kill9()
        cluster.start()
        goes_on(following, writer)


def test_source_failed_over_without_the_slot(own_cluster, dest_db, pgcrane):
    """Before 17 no slot goes along: at once, for good, and --restart helps."""
    with contextlib.ExitStack() as made:
        cluster = own_cluster("noslot")
        standby = make_standby(cluster, made)
        proxy = made.enter_context(Proxy(cluster))
        database = cluster.createdb()
        following = make(pgcrane, database, dest_db, source_uri=proxy.uri(database))
        following.start()
        following.wait_caught_up()
        database.sql("UPDATE item SET v = 'both have it' WHERE id < 50")
        following.wait_applied()
        wait_for_replay(cluster, standby)
        cluster.kill9()
        promote_standby(standby)
        proxy.target = ("127.0.0.1", standby.port)
        proxy.reset_all()
        following.source = Database(standby, database.name)
        assert following.end() == 2, following.said()
        failed = following.failure()
        assert failed["reason"] == "SLOT_LOST" and not failed["retryable"] and "--restart" in failed["remedy"], failed
        with Writer(following.source):
            assert_promoted(again(pgcrane, following.source, dest_db, "--restart").start())


TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")


@pytest.mark.parametrize("major", (15, 18))
def test_timeouts_of_databases(major, make_cluster, pgcrane):
    """700 ms for everything, on both sides; each of our sessions works and sits idle for longer."""
    source, dest = (make_cluster(f"timeouts{side}{major}", major=major).createdb() for side in ("source", "dest"))
    following = make(pgcrane, source, dest)
    settings = TIMEOUTS + (("transaction_timeout",) if major >= 17 else ())
    for database in (source, dest):
        for setting in settings:
            database.sql(f"ALTER DATABASE \"{database.name}\" SET {setting} = '700ms'")
    with Writer(source) as writer:
        following.start(env=failpoint("copy.after_copy:sleep=1500:1,follow.before_commit:sleep=1500:1,promote.after_lock:sleep=1500,"
                                      "promote.before_open_commit:sleep=1500"))
        following.wait_caught_up()
        writer.wait_for(20)
        promoted = following.promoted(following.promote())
    assert promoted["ok"] and promoted["proven"], promoted
    for database in (source, dest):  # the comparison's own sessions sit idle, too
        for setting in settings:
            database.cluster.sql(f"ALTER DATABASE \"{database.name}\" RESET {setting}")
    assert_equal(source, dest)
    assert_source_clean(following)
    source.drop(), dest.drop()


LOST = ("folder", "job.json", "status.json", "control.sock")


@pytest.mark.turns(4)
@pytest.mark.parametrize("what", LOST)
def test_state_folder_lost(what, source_db, dest_db, pgcrane):
    """It answers `pgcrane status`; the migration itself is in the databases."""
    following = make(pgcrane, source_db, dest_db)
    with Writer(source_db) as writer:
        following.start()
        following.wait_caught_up()
        following.kill("everything") if what == "control.sock" else following.stop()
        following.end() if what == "control.sock" else None
        found = [os.path.join(folder, name) for folder, _, names in os.walk(pgcrane.state_dir) for name in names if name == what]
        if what == "folder":
            shutil.rmtree(pgcrane.state_dir)
        elif what.endswith(".json"):
            assert found
            for path in found:
                os.truncate(path, os.path.getsize(path) // 2)
        writer.wait_for(5)
        wait_until(lambda: not following.pids("worker"), what="the worker to end")
        following.again()
        assert_promoted(following)


def test_soak_for_a_while(tmp_path):
    """Forty seconds of test/cdc-soak with definitions: everything dies now and then, nothing is lost."""
    command = [sys.executable, os.path.join(ROOT, "test", "cdc-soak"), "40", "--seed", "20261128", "--ddl"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-3000:]
    assert "promoted" in result.stdout


@pytest.mark.parametrize("majors", ((10, 15), (10, 10), (10, 11)), ids=lambda pair: "from{}to{}".format(*pair))
def test_oldest_version(majors, make_cluster, pgcrane):
    """The catalogues of 10, whose oids are no columns, are read and compared; a TRUNCATE, which it does not publish, is seen; 11
    has neither NOT VALID for keys of partitioned tables nor a function that lists partitions."""
    source, dest = (make_cluster(f"oldest{side}{major}", major=major).createdb() for side, major in enumerate(majors))
    source.sql("CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN small AS int CHECK (VALUE < 100) DEFAULT 7;"
               " CREATE FUNCTION one(small) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW v AS SELECT 1 AS a;"
               " CREATE TABLE typed (id int PRIMARY KEY, m mood, s small);"
               " CREATE TABLE emptied (id int PRIMARY KEY, v text); CREATE TABLE filled (id int PRIMARY KEY, v text);"
               " INSERT INTO emptied SELECT g, 'old' FROM generate_series(1, 100) g;"
               " INSERT INTO filled SELECT g, 'old' FROM generate_series(1, 100) g")
    source.sql(SCHEMA)
    following = Following(pgcrane, source, dest, "--pg-bindir", find_binaries(15))
    with Writer(source) as writer:
        following.start()
        following.wait_caught_up()
        source.sql("INSERT INTO typed VALUES (1, 'b', 3); UPDATE typed SET m = 'a'; TRUNCATE emptied; TRUNCATE filled;"
                   " INSERT INTO filled VALUES (5, 'key of old'), (500, 'new')")
        writer.wait_for(10)
        promoted = following.promoted(following.promote())
    assert promoted["ok"] and promoted["proven"], promoted
    for table in ("item", "part", "keyless", "typed", "emptied", "filled"):
        rows = f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t"
        assert source.sql(rows) == dest.sql(rows), table
    source.drop(), dest.drop()
