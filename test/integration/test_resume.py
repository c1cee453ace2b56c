"""A run that dies at a named place is followed by the same command, which goes on and ends with equal databases."""
import contextlib
import glob
import os
import re

import pytest

from support import compare
from support.cluster import ROOT, wait_until
from support.migration import (FLAGS, assert_done, assert_nothing_left, bodies, chunks_done, data_file, failure_of,
                               has_ledger, killed_by_failpoint, migrate_equal, sessions, worker_pids)

pytestmark = pytest.mark.turns(5)

# Every fail point of src/, and at which passages it is tried (a number: that passage; 1 where there is but one).
POINTS = {
    "ledger.created": (1,),
    "snapshot.exported": (1,),
    "snapshot.recorded": (1,),
    "schema.archived": (1,),
    "plan.written": (1,),
    "entries.after_group": (1, 2),
    "copy.before_chunk": (1, 9),
    "copy.after_copy": (1, 12),
    "copy.before_commit": (7,),
    "copy.after_commit": (1, 15),
    "large_objects.before_commit": (1,),
    "index.before_commit": (1, 4),
    "index.after_commit": (1, 4),
    "fk.after_add": (1,),
    "fk.after_validate": (1, 2),
    "copied.before_release": (1,),
    "sequences.before": (1,),
    "acl.before": (1,),
    "database.before": (1,),
    "database.before_commit": (1,),
    "finish.before_drop": (1,),
    "finish.before_commit": (1,),
}
# Reached only when changes are followed, or a destination is guarded: tests of their own (test_seam_rules, test_copy_again, test_promote,
# test_demote).
OF_FOLLOWING = ("seam.", "again.", "close.", "abort.", "ddl.", "demote.", "large_objects.before_mend_commit")
IN_RESTART = "restart.after_drop"  # reached by --restart only
# Where a load is made.
LOAD = ("engine/ledger", "engine/snapshot", "engine/plan", "engine/schema", "engine/load", "engine/finish", "worker")
CASES = [(point, passage) for point, passages in POINTS.items() for passage in passages]
RETRIED = ("copy.before_chunk", "copy.after_copy", "copy.before_commit", "copy.after_commit", "index.before_commit",
           "index.after_commit", "large_objects.before_commit")


@pytest.fixture
def small(source_db):
    source_db.psql_file(data_file("small.sql"))
    return source_db


def failing(action, point, passage=1):
    return {"PGCRANE_FAILPOINT": f"{point}:{action}:{passage}"}


@pytest.mark.turns(1)
def test_every_fail_point_is_tried():
    """A new fail point of the load needs a line above (those of following the source have tests of their own)."""
    found = set()
    for path in (path for folder in LOAD for path in glob.glob(os.path.join(ROOT, "src", folder, "*.c"))):
        with open(path, encoding="utf-8") as file:
            found |= set(re.findall(r'failpoint\("([^"]+)"', file.read()))
    assert {point for point in found if not point.startswith(OF_FOLLOWING)} == {*POINTS, IN_RESTART}


@pytest.mark.parametrize("point, passage", CASES)
def test_killed(point, passage, small, dest_db, pgcrane):
    """kill -9 of the worker by itself."""
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failing("kill", point, passage))
    killed_by_failpoint(result, point)
    done, _ = chunks_done(dest_db)
    report = migrate_equal(pgcrane, small, dest_db)
    # The keeper outlived the worker: what was finished is not repeated.
    assert report["chunks_kept"] >= len(done)
    if done:
        assert report["snapshots"] == 1
    if point.startswith(("copied", "fk", "sequences", "acl", "database", "finish")):
        assert report["chunks_copied"] == 0 and report["chunks_kept"] > 20


@pytest.mark.parametrize("point", ("ledger.created", "snapshot.exported", "schema.archived", "copy.before_commit",
                                   "index.after_commit", "copied.before_release", "fk.after_add", "finish.before_commit"))
def test_error(point, small, dest_db, pgcrane):
    """The step fails with an error: a clean end with that error, then the same command."""
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failing("error", point))
    assert failure_of(result)["reason"] == "FAILPOINT", result
    assert result.code == 2
    migrate_equal(pgcrane, small, dest_db)


@pytest.mark.parametrize("point", RETRIED)
def test_retried_within_the_run(point, small, dest_db, pgcrane):
    """A passing failure of a lane's work is tried again by the run itself."""
    report = migrate_equal(pgcrane, small, dest_db, env=failing("retryable", point))
    assert report["retries"] >= 1


@pytest.mark.turns(6)
def test_retries_are_bounded(small, dest_db, pgcrane):
    """What fails for ever ends the run with its own error, not never."""
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env={"PGCRANE_FAILPOINT": "copy.before_commit:retryable"},
                     timeout=120)
    assert failure_of(result)["reason"] == "FAILPOINT", result
    migrate_equal(pgcrane, small, dest_db)


def test_killed_again_and_again(small, dest_db, pgcrane):
    """One command after the other, each killed later than the last one; every one goes on from where it was."""
    kept = 0
    for point, passage in (("schema.archived", 1), ("copy.after_commit", 3), ("copy.after_copy", 5), ("copy.after_commit", 9),
                           ("index.after_commit", 2), ("index.before_commit", 2), ("fk.after_validate", 1),
                           ("sequences.before", 1)):
        result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failing("kill", point, passage))
        killed_by_failpoint(result, point)
        now = len(chunks_done(dest_db)[0])
        assert now >= kept, "finished ranges were thrown away"
        kept = now
    report = migrate_equal(pgcrane, small, dest_db)
    assert report["chunks_kept"] == kept


def end_keeper(source_db, pgcrane):
    for pid in worker_pids(pgcrane, "keeper"):
        os.kill(pid, 9)
    wait_until(lambda: not pgcrane.processes() and not sessions(source_db), what="the keeper to end")


@pytest.mark.parametrize("point, passage", (("copy.after_commit", 1), ("copy.after_commit", 15), ("index.after_commit", 1),
                                            ("fk.after_add", 1), ("sequences.before", 1)))
def test_keeper_gone(point, passage, small, dest_db, pgcrane):
    """The snapshot is lost and the source has moved on: finished tables stay, the others are copied anew."""
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failing("kill", point, passage))
    killed_by_failpoint(result, point)
    end_keeper(small, pgcrane)
    small.sql("UPDATE bank.toasted SET body = body WHERE id < 5")  # moves rows, changes none
    report = migrate_equal(pgcrane, small, dest_db)
    if point.startswith("copy"):
        assert report["snapshots"] == 2


def test_keeper_gone_half_copied_table(small, dest_db, pgcrane):
    """Rows changed after the first snapshot: a table copied in part under it must not keep any of them."""
    result = pgcrane("migrate", small.uri, dest_db.uri, "--yes", "--json", "--jobs", "1", "--split-size", "256kB",
                     env=failing("kill", "copy.after_commit", 4))
    killed_by_failpoint(result, "copy.after_commit")
    finished = {r for (r,) in dest_db.sql("SELECT relation::text FROM pgcrane.chunk GROUP BY 1 HAVING bool_and(rows IS NOT NULL)")}
    end_keeper(small, pgcrane)
    tables = small.sql("SELECT oid::text, oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid::regclass::text IN"
                       " ('bank.big', 'bank.log', 'bank.customer', 'bank.toasted')")
    unfinished = [name for oid, name in tables if oid not in finished]
    assert "bank.big" in unfinished, "the biggest table should not be done after four ranges"
    small.sql("UPDATE bank.big SET v = 'changed' WHERE id % 3 = 0; DELETE FROM bank.big WHERE id % 7 = 0")
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS))
    rows = "SELECT count(*), md5(string_agg(big::text, ',' ORDER BY id)) FROM bank.big"
    assert small.sql(rows) == dest_db.sql(rows)


def test_both_gone_at_once(small, dest_db, pgcrane):
    """Worker, keeper and command die together: as a machine that loses power."""
    running = pgcrane.popen("migrate", small.uri, dest_db.uri, *FLAGS, env={"PGCRANE_FAILPOINT": "copy.after_commit:sleep=1500"})
    wait_until(lambda: len(chunks_done(dest_db)[0]) >= 3, what="some ranges to be copied")
    for pid in pgcrane.processes():
        with contextlib.suppress(ProcessLookupError):  # one ends with the other
            os.kill(pid, 9)
    running.communicate()
    wait_until(lambda: not sessions(small), what="sessions to end")
    migrate_equal(pgcrane, small, dest_db)


def test_interrupt(small, dest_db, pgcrane):
    """Ctrl-C: a clean end, its exit code, and the words how to go on."""
    running = pgcrane.popen("migrate", small.uri, dest_db.uri, "--yes", "--split-size", "256kB", "--snapshot-lease", "60",
                            env={"PGCRANE_FAILPOINT": "copy.after_commit:sleep=1500"})
    wait_until(lambda: len(chunks_done(dest_db)[0]) >= 3, what="some ranges to be copied")
    os.kill(running.pid, 2)
    _, words = running.communicate(timeout=30)
    assert running.returncode == 3, words
    assert "go on with: pgcrane migrate" in words and dest_db.name in words
    wait_until(lambda: not sessions(dest_db), what="sessions to end")
    assert has_ledger(dest_db)
    done, total = chunks_done(dest_db)
    assert 0 < len(done) < total
    report = migrate_equal(pgcrane, small, dest_db)
    assert report["chunks_kept"] == len(done)


def start_and_wait_for_plan(small, dest_db, pgcrane, pause_ms):
    running = pgcrane.popen("migrate", small.uri, dest_db.uri, *FLAGS,
                            env={"PGCRANE_FAILPOINT": f"copy.before_chunk:sleep={pause_ms}"})
    wait_until(lambda: chunks_done(dest_db)[1] > 0, what="the plan")
    return running


def assert_first_one_won(first, small, dest_db, pgcrane):
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, out + err
    compare.assert_equal(small.uri, dest_db.uri)
    assert_nothing_left(pgcrane, small, dest_db)


def test_two_commands_at_once(small, dest_db, pgcrane):
    """The second one waits a little, says who is at work and changes nothing; the first one is not disturbed."""
    first = start_and_wait_for_plan(small, dest_db, pgcrane, 2200)
    second = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    assert first.poll() is None, "the first one was too fast for this test"
    assert failure_of(second)["reason"] == "FENCED", second
    assert_first_one_won(first, small, dest_db, pgcrane)


def test_second_command_as_the_first_one_ends(small, dest_db, pgcrane):
    """It was waiting for the lock when the work was finished: it must see that, and not begin again."""
    first = start_and_wait_for_plan(small, dest_db, pgcrane, 400)
    second = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    assert failure_of(second)["reason"] in ("ALREADY_DONE", "FENCED", "PREFLIGHT_FAILED"), second
    assert_first_one_won(first, small, dest_db, pgcrane)


@pytest.mark.parametrize("action", ("kill", "error"))
def test_restart_interrupted(action, small, dest_db, pgcrane):
    """Dies between dropping what was there and beginning anew."""
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failing("kill", "index.after_commit", 3)), "index")
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart", env=failing(action, IN_RESTART))
    assert failure_of(result)["reason"] == ("WORKER_LOST" if action == "kill" else "FAILPOINT")
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    if result.code != 0:
        result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart")
    assert_done(result)
    compare.assert_equal(small.uri, dest_db.uri)
    assert_nothing_left(pgcrane, small, dest_db)


def test_other_options_refused(small, dest_db, pgcrane):
    """The work of a run with other filters is not gone on with."""
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failing("kill", "copy.after_commit", 3))
    killed_by_failpoint(result, "copy.after_commit")
    other = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--exclude-table", "bank.log")
    assert failure_of(other)["reason"] == "LEDGER_MISMATCH", other
    migrate_equal(pgcrane, small, dest_db)


def test_other_source_refused(small, source, dest_db, pgcrane):
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failing("kill", "copy.after_commit", 3))
    killed_by_failpoint(result, "copy.after_commit")
    other = source.createdb()
    try:
        refused = pgcrane("migrate", other.uri, dest_db.uri, *FLAGS)
        assert failure_of(refused)["reason"] == "LEDGER_MISMATCH", refused
    finally:
        other.drop()
    migrate_equal(pgcrane, small, dest_db)


def test_source_made_anew_is_refused(source, dest_db, pgcrane):
    """It has the name of the one that the unfinished run was about, and rows of its own: those of the ledger are not its."""
    old = source.createdb()
    old.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'old' FROM generate_series(1, 300) g")
    killed_by_failpoint(pgcrane("migrate", old.uri, dest_db.uri, *FLAGS, env=failing("kill", "acl.before")), "acl.before")
    old.drop()
    new = source.createdb(old.name)
    try:
        new.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'new' FROM generate_series(1, 700) g")
        refused = failure_of(pgcrane("migrate", new.uri, dest_db.uri, *FLAGS))
        assert refused["reason"] == "DATABASE_REPLACED" and "--restart" in refused["remedy"], refused
        migrate_equal(pgcrane, new, dest_db, "--restart")
        assert_nothing_left(pgcrane, new, dest_db)
    finally:
        new.drop()


def test_moving_source_resumed(small, dest_db, pgcrane):
    """The second run still shows the moment of the first one's snapshot."""
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failing("kill", "copy.after_commit", 4))
    killed_by_failpoint(result, "copy.after_commit")
    small.sql("UPDATE bank.left_account SET balance = 0; INSERT INTO bank.log VALUES ('late'); DELETE FROM bank.big WHERE id < 100")
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    assert assert_done(result)["snapshots"] == 1
    assert dest_db.sql("SELECT count(*) FROM bank.left_account WHERE balance <> 1000") == [(0,)]
    assert dest_db.sql("SELECT count(*) FROM bank.log") == [(5000,)]
    assert dest_db.sql("SELECT count(*) FROM bank.big") == [(40000,)]
    assert bodies(result, "REPORT")
