"""`pgcrane abort` and `pgcrane status` of a migration that is followed, whatever state it is in."""
import contextlib
import json
import re

import pytest

from support.cluster import wait_until
from support.following import Following
from support.migration import OBJECTS
from support.promote import is_read_only
from support.program import json_lines
from support.tcp_proxy import Proxy
from support.trouble import SCHEMA, Writer, assert_equal, assert_promoted, assert_writable, failpoint, make

pytestmark = pytest.mark.turns(3)

EVERYTHING = ("--ddl", "--identity-full")
IDENTITIES = ("SELECT oid::regclass::text, relreplident::text FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384"
              " ORDER BY 1")


@pytest.fixture
def following(source_db, dest_db, pgcrane):
    """Not started yet; it makes everything on the source that can be made there."""
    return make(pgcrane, source_db, dest_db, *EVERYTHING)


class Traces:
    """What there was on the source before."""

    def __init__(self, source):
        self.source, self.before = source, self.now(source)

    @staticmethod
    def now(source):
        return source.sql(OBJECTS) + source.sql(IDENTITIES)

    def assert_gone(self, following):
        source = self.source
        now = self.now(source)
        assert now == self.before, set(now) ^ set(self.before)
        wait_until(lambda: not source.sql("SELECT 1 FROM pg_stat_activity WHERE starts_with(application_name, 'pgcrane')"
                                          " AND datname = current_database()"), what="our sessions to end")
        wait_until(lambda: not following.program.processes(), what="our processes to end")
        assert following.dest.sql("SELECT to_regnamespace('pgcrane')") == [(None,)]
        assert not is_read_only(source)
        assert_writable(source)


@pytest.fixture
def traces(following):
    return Traces(following.source)


def aborted(following, traces):
    result = following.abort()
    assert "what was copied stays on the destination" in result.stderr, result
    traces.assert_gone(following)
    assert "There is no migration" in following.command("status").stdout


# --- abort ---


def test_abort_while_following(following, traces):
    following.start()
    following.wait_caught_up()
    assert Traces.now(following.source) != traces.before, "nothing was made: this test shows nothing"
    with Writer(following.source):
        following.abort()
        assert following.end() == 3
    traces.assert_gone(following)
    assert following.dest.sql("SELECT count(*) FROM item") == [(500,)], "what was copied stays"


def test_abort_while_loading(following, traces):
    following.start(env=failpoint("copy.before_chunk:sleep=1000"))
    wait_until(lambda: any("reading the schema" in body["text"] for body in following.bodies("EVENT")), what="the load")
    aborted(following, traces)
    assert following.end() == 3


def test_abort_of_one_that_is_stopped(following, traces):
    following.start()
    following.wait_caught_up()
    following.stop()
    aborted(following, traces)


def test_abort_is_asked_for(following):
    """Without --yes and without a terminal nothing is done."""
    following.start()
    following.wait_caught_up()
    result = following.command("abort", check=False)
    assert result.code == 3 and "nothing was done" in result.stderr, result
    assert_promoted(following)


POINTS = ("ledger.created", "seam.identity_intended", "seam.identity_set", "seam.publication_intended",
          "seam.publication_made", "seam.group_published", "ddl.capture_intended", "ddl.capture_made", "seam.before_slot",
          "seam.slot_intended", "seam.slot_made", "seam.slot_bound", "seam.barrier_passed", "snapshot.exported",
          "snapshot.recorded", "seam.after_marker", "copy.after_commit", "fk.after_add", "follow.after_commit")


@pytest.mark.turns(4)
@pytest.mark.parametrize("point", POINTS)
def test_abort_after_a_kill(point, following, traces):
    """Wherever it died: nothing of ours is left on the source."""
    following.start(env=failpoint(f"{point}:kill"))
    assert following.end() == 2 and following.failure()["reason"] == "WORKER_LOST", following.said()
    aborted(following, traces)


@pytest.mark.turns(3)
@pytest.mark.parametrize("point", ("ddl.capture_removed:kill", *(f"seam.removed:kill:{n}" for n in (1, 2, 3, 4))))
def test_abort_that_is_killed(point, following, traces):
    following.start()
    following.wait_caught_up()
    following.stop()
    killed = following.abort(env=failpoint(point), check=False)
    assert killed.code == 2 and "WORKER_LOST" in killed.stderr, killed
    aborted(following, traces)


def test_abort_after_a_promote_that_was_killed_in_the_fence(following, traces):
    following.start(env=failpoint("promote.after_lock:kill"))
    following.wait_caught_up()
    following.command("promote", check=False)
    following.end()
    aborted(following, traces)


def test_abort_of_an_open_destination(following):
    """There is nothing to go back to: it is closed instead, and the source stays read-only."""
    following.start(env=failpoint("promote.after_open_commit:kill"))
    following.wait_caught_up()
    following.command("promote", check=False)
    following.end()
    assert following.abort(check=False).code == 0
    source, dest = following.source, following.dest
    assert is_read_only(source)
    assert not source.sql("SELECT 1 FROM pg_replication_slots WHERE database = current_database()")
    assert not source.sql("SELECT 1 FROM pg_publication") and not source.sql("SELECT 1 FROM pg_event_trigger")
    assert dest.sql("SELECT to_regnamespace('pgcrane')") == [(None,)]
    assert_equal(source, dest)


def test_abort_without_the_source(source_db, dest_db, pgcrane):
    """One clear error; later it removes everything."""
    with Proxy(source_db.cluster) as proxy:
        following = make(pgcrane, source_db, dest_db, *EVERYTHING, source_uri=proxy.uri(source_db))
        traces = Traces(source_db)
        following.start()
        following.wait_caught_up()
        following.stop()
        proxy.refuse = True
        result = following.abort(check=False)
        assert result.code == 69 and "UNREACHABLE" in result.stderr and "source" in result.stderr, result
        proxy.refuse = False
        aborted(following, traces)


@pytest.mark.parametrize("point", (None, "promote.after_marker"))
def test_abort_of_the_source_alone(point, own_cluster, source_db, pgcrane):
    """The destination is gone for good: what holds WAL goes, what only the destination knew is named with its remedy."""
    cluster = own_cluster("gone")
    following = make(pgcrane, source_db, cluster.createdb(), *EVERYTHING)
    traces = Traces(source_db)
    following.start(env=failpoint(f"{point}:kill") if point else None)
    following.wait_caught_up()
    if point:
        assert following.command("promote", check=False).code == 2 and following.end() == 2
    else:
        following.stop()
    cluster.stop("immediate")
    plain = following.abort(check=False)
    assert plain.code == 69 and "pgcrane abort --source-only" in plain.stderr, plain
    result = following.abort("--source-only")
    assert "the destination was not asked" in result.stderr, result
    assert {row[0] for row in set(traces.now(source_db)) - set(traces.before)} <= {"setting", "keyless"}
    statements = re.findall(r"if so: (.*)", result.stderr)
    assert "ALTER TABLE public.keyless REPLICA IDENTITY DEFAULT" in statements, result
    assert is_read_only(source_db) == bool(point) == any("ALTER DATABASE" in text for text in statements)
    for statement in reversed(statements):  # the database is writable again before its tables are altered
        source_db.sql(statement)
    assert traces.now(source_db) == traces.before and not is_read_only(source_db)
    assert_writable(source_db)
    wait_until(lambda: not pgcrane.processes(), what="our processes to end")
    following.abort("--source-only")  # nothing is left to name: it is off the list
    assert "There is no migration" in following.command("status").stdout


def test_abort_when_the_slot_is_gone(following, traces):
    following.start()
    following.wait_caught_up()
    following.stop()
    following.source.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                         " WHERE database = current_database()")
    aborted(following, traces)


# --- status ---


def status(pgcrane, *words):
    result = pgcrane("status", *words, "--state-dir", pgcrane.state_dir)
    assert result.code == 0, result
    return result.stdout


def test_status_through_a_migration(following):
    pgcrane = following.program
    assert "There is no migration" in status(pgcrane)
    assert pgcrane("status", "--json", "--state-dir", pgcrane.state_dir).stdout == ""
    following.start(env=failpoint("copy.before_chunk:sleep=3000,promote.after_lock:sleep=5000"))
    wait_until(lambda: [s["phase"] for s in following.status()] == ["FULL_DUMP"], what="the copy in the status")
    assert following.status()[0]["state"] == "RUNNING"
    following.wait_caught_up()
    wait_until(lambda: following.status()[0]["phase"] == "CDC", what="following in the status")
    now = following.status()[0]
    assert (now["state"], now["running"], now["pid"]) == ("RUNNING", True, following.process.pid)
    wait_until(lambda: following.status()[0]["progress"].get("cdc", {}).get("state") == "FOLLOWING", what="the lag in the status")
    shown = status(pgcrane)
    assert "State        RUNNING, CDC" in shown and now["job_id"] in shown
    promote = pgcrane.popen("promote", "--state-dir", pgcrane.state_dir)
    wait_until(lambda: following.status()[0]["phase"] == "PROMOTE_IN_PROGRESS", what="the promote in the status")
    _, said = promote.communicate(timeout=60)  # read: a pipe that is full would hold it up
    assert promote.returncode == 0 and following.end() == 0, said
    done = following.status()[0]
    assert (done["state"], done["running"], done["error"]) == ("COMPLETED", False, None)
    assert done["report"]["promoted"] and done["report"]["proven"]
    assert "State        COMPLETED" in status(pgcrane)


def test_status_after_trouble(following):
    """What was the matter stays to be read, and how to go on."""
    following.start()
    following.wait_caught_up()
    following.kill("worker")
    following.end()
    now = following.status()[0]
    assert (now["state"], now["running"], now["error"]["reason"]) == ("FAILED", False, "WORKER_LOST")
    assert "WORKER_LOST" in status(following.program) and "nobody works on it now" in status(following.program)
    following.again()
    following.wait_caught_up()
    wait_until(lambda: following.status()[0]["state"] == "RUNNING", what="the status")
    assert following.status()[0]["error"] is None
    following.kill("session")
    following.end()
    assert (following.status()[0]["running"], following.status()[0]["state"]) == (False, "STOPPED")
    wait_until(lambda: not following.pids("worker"), what="the worker to see it")
    following.again()
    assert_promoted(following)


def test_several(following, source, dest):
    """Two migrations in one folder: a row each, named by a prefix, and no guess which one is meant."""
    pgcrane = following.program
    with contextlib.ExitStack() as stack:
        databases = source.createdb(), dest.createdb()
        for database in databases:
            stack.callback(database.drop)
        databases[0].sql(SCHEMA)
        other = Following(pgcrane, *databases)
        for each in (following, other):
            each.start()
        for each in (following, other):
            each.wait_caught_up()
        jobs = [each.bodies("JOB")[0]["job_id"] for each in (following, other)]
        wait_until(lambda: [s["phase"] for s in following.status()] == ["CDC", "CDC"], what="both in the status")
        rows = status(pgcrane).splitlines()
        assert len(rows) == 3 and all(any(job in row and "RUNNING, CDC" in row for row in rows) for job in jobs)
        length = next(n for n in range(1, 17) if jobs[0][:n] != jobs[1][:n])
        for job in jobs:
            assert json_lines(status(pgcrane, "--json", job[:length]))[0]["job_id"] == job
        for command in ("promote", "abort"):
            result = pgcrane(command, "--yes", "--state-dir", pgcrane.state_dir)
            assert result.code in (2, 64) and all(job in result.stderr for job in jobs), result
        unknown = pgcrane("promote", "nosuchjob", "--state-dir", pgcrane.state_dir)
        assert unknown.code == 2 and "NO_JOB" in unknown.stderr
        assert pgcrane("promote", jobs[1][:length], "--state-dir", pgcrane.state_dir).code == 0
        assert other.end() == 0 and following.running()
        assert_equal(*databases)
        # One of the two is done: the other is meant.
        assert_promoted(following)
        pgcrane.end_all()


def test_watch(following):
    """It ends with the migration, as text and as JSON."""
    pgcrane = following.program
    following.start()
    following.wait_caught_up()
    wait_until(lambda: following.status()[0]["phase"] == "CDC", what="following in the status")
    watchers = [pgcrane.popen("status", "--watch", *words, "--state-dir", pgcrane.state_dir) for words in ((), ("--json",))]
    first = json.loads(watchers[1].stdout.readline())
    assert (first["state"], first["phase"]) == ("RUNNING", "CDC")
    following.promote()
    text, _ = watchers[0].communicate(timeout=30)
    lines, _ = watchers[1].communicate(timeout=30)
    assert [watcher.returncode for watcher in watchers] == [0, 0]
    assert json.loads(lines.splitlines()[-1])["state"] == "COMPLETED"
    assert "State        COMPLETED" in text
