"""What a hostile DBA would try: each case ends equal, or in one clear error; never in a success with something missing."""
import contextlib
import glob
import os
import time

import psycopg
import pytest

from support import compare
from support.cluster import SUPERUSER, wait_until
from support.migration import (FLAGS, assert_done, assert_nothing_left, chunks_done, data_file, failure_of, has_ledger,
                               killed_by_failpoint, migrate_equal, report_of, sessions)


@pytest.fixture
def small(source_db):
    source_db.psql_file(data_file("small.sql"))
    return source_db


def failpoint(text):
    return {"PGCRANE_FAILPOINT": text}


# --- the destination loses what it had said was done ---


@pytest.mark.parametrize("victim", ("server", "backend"))
def test_destination_forgets_asynchronous_commits(victim, source_db, own_cluster, pgcrane):
    """Lanes commit without waiting for the disk. After a crash the last ranges and indexes, which this very run has
    seen committed, are not there any more."""
    source_db.sql("""CREATE TABLE a AS SELECT g AS id, repeat('x', 500) AS filler FROM generate_series(1, 4000) g;
                     ALTER TABLE a ADD PRIMARY KEY (id); CREATE INDEX a_filler ON a (filler, id);
                     SELECT lo_from_bytea(0, 'large') FROM generate_series(1, 200)""")
    # The WAL writer sleeps as long as it may, so that a crash loses what was committed in the last seconds.
    dest = own_cluster("forgetful", config={"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "fsync": "on",
                                            "wal_buffers": "16MB"})
    dest_db = dest.createdb()
    process = pgcrane.popen("migrate", source_db.uri, dest_db.uri, "--yes", "--json", "--jobs", "1", "--split-size",
                            "64kB", env=failpoint("copy.before_chunk:sleep=4000:9"))
    wait_until(lambda: len(chunks_done(dest_db)[0]) >= 8, what="some ranges")
    before = len(chunks_done(dest_db)[0])
    if victim == "server":
        dest.restart("immediate")
    else:
        (pid,), = dest_db.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgcrane % control'")
        os.kill(pid, 9)
        time.sleep(0.2)
    wait_until(lambda: _count(dest_db) is not None, what="the server to be back")
    lost = before - _count(dest_db)
    out, err = process.communicate(timeout=100)
    assert lost > 0, "nothing was lost: this test shows nothing"
    assert process.returncode == 0, out + err
    compare.assert_equal(source_db.uri, dest_db.uri)
    assert_nothing_left(pgcrane, source_db, dest_db)


def _count(database):
    with contextlib.suppress(psycopg.OperationalError):
        return len(chunks_done(database)[0])
    return None


# --- start over, in pieces ---


@pytest.mark.parametrize("second", ((), ("--restart",)))
def test_start_over_killed_then_plain(second, small, dest_db, pgcrane):
    """A start over that died half-way has dropped tables whose ranges the ledger still calls copied."""
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("sequences.before:kill")), "first")
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart",
                                env=failpoint("restart.after_drop:kill")), "second")
    migrate_equal(pgcrane, small, dest_db, *second)


def test_start_over_removes_the_report(small, dest_db, pgcrane):
    """The report of a run that died before its end must not make a later one say that all is done."""
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("finish.before_commit:kill")), "1")
    reports = glob.glob(os.path.join(pgcrane.state_dir, "*", "report.json"))
    assert len(reports) == 1
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart",
                                env=failpoint("ledger.created:kill")), "2")
    assert not os.path.exists(reports[0])
    migrate_equal(pgcrane, small, dest_db)


def test_start_over_of_another_kind(small, dest_db, pgcrane):
    """--restart with other options: what is undone comes from the ledger, not from the new command."""
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("sequences.before:kill")), "1")
    failed = failure_of(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart", "--data-only"))
    assert failed["reason"] == "TABLE_CHANGED" and "not on the destination" in failed["message"]
    migrate_equal(pgcrane, small, dest_db, "--restart")


def test_start_over_of_data_only(small, dest_db, pgcrane):
    """The tables were there before the unfinished run: a start over, also one with other options, takes only the rows."""
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--schema-only", "--table", "bank.log"))
    flags = (*FLAGS, "--table", "bank.log")
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *flags, "--restart", "--data-only",
                                env=failpoint("sequences.before:kill")), "1")
    failure_of(pgcrane("migrate", small.uri, dest_db.uri, *flags, "--restart"))
    assert dest_db.sql("SELECT count(*) FROM bank.log") == [(0,)]


def test_start_over_with_many_large_objects(source_db, own_cluster, pgcrane):
    """More of them than one transaction may lock."""
    source_db.sql("SELECT lo_from_bytea(0, 'x') FROM generate_series(1, 4000)")
    dest_db = own_cluster("fewlocks", config={"max_locks_per_transaction": "10", "max_connections": "20",
                                              "max_prepared_transactions": "0"}).createdb()
    killed_by_failpoint(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, env=failpoint("sequences.before:kill")), "1")
    assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--restart"))
    compare.assert_equal(source_db.uri, dest_db.uri)


# --- the source changes under us ---


@pytest.mark.parametrize("change", (
    "ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b",
    "ALTER TABLE t RENAME a TO x; ALTER TABLE t ADD COLUMN a int",
    "ALTER TABLE t DROP COLUMN a", "ALTER TABLE t ADD COLUMN z int DEFAULT 5",
), ids=("swapped", "replaced", "dropped", "added"))
def test_columns_change_in_mid_copy(change, source_db, dest_db, pgcrane):
    """Names are looked up now, rows are those of the snapshot: a column that took another's name has its values."""
    source_db.sql("CREATE TABLE t AS SELECT g AS a, -g AS b, repeat('x', 500) AS filler FROM generate_series(1, 4000) g")
    process = pgcrane.popen("migrate", source_db.uri, dest_db.uri, "--yes", "--json", "--jobs", "1", "--split-size",
                            "256kB", env=failpoint("copy.before_chunk:sleep=3000:4"))
    wait_until(lambda: len(chunks_done(dest_db)[0]) >= 3, what="three ranges")
    source_db.sql(change)
    out, _ = process.communicate(timeout=60)
    if process.returncode == 0:
        wrong = dest_db.sql("SELECT count(*) FROM t WHERE a IS DISTINCT FROM -b OR a < 0")[0][0]
        assert wrong == 0 and dest_db.sql("SELECT count(*) FROM t") == [(4000,)]
    else:
        assert "TABLE_CHANGED" in out


def test_table_dropped_before_the_definitions_are_read(small, dest_db, pgcrane):
    """pg_dump cannot lock a table that its snapshot shows and that is gone."""
    small.sql("CREATE TABLE public.soon_gone (i int)")
    process = pgcrane.popen("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("snapshot.recorded:sleep=2000"))
    wait_until(lambda: has_ledger(dest_db) and dest_db.sql("SELECT 1 FROM pgcrane.snapshot"), what="the snapshot")
    small.sql("DROP TABLE public.soon_gone")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    compare.assert_equal(small.uri, dest_db.uri)


# --- connections ---


def test_destination_away_for_long(small, own_cluster, pgcrane):
    """Away for longer than patience lasts: an error, not a crash of ours."""
    dest = own_cluster("away")
    dest_db = dest.createdb()
    process = pgcrane.popen("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("sequences.before:sleep=2000"))
    wait_until(lambda: has_ledger(dest_db) and dest_db.sql("SELECT 1 FROM pgcrane.step WHERE name = 'copied'"), what="copied")
    time.sleep(0.5)
    dest.stop("immediate")
    out, _ = process.communicate(timeout=500)
    dest.start()
    assert process.returncode != 0 and "WORKER_LOST" not in out, out[-3000:]
    migrate_equal(pgcrane, small, dest_db)
