"""`pgcrane promote`, through the real commands, when things go wrong: still following with a writable source, or finished."""
import contextlib
import os
import re
import signal
import time

import pytest

from support.cluster import wait_until
from support.promote import is_read_only
from support.promote_command import has_locks, hooks, phase, refused
from support.tcp_proxy import Proxy
from support.trouble import (Writer, assert_equal, assert_promoted, assert_source_clean, assert_writable, failpoint, make,
                             rows_and_sequences)

pytestmark = pytest.mark.turns(5)


@pytest.fixture
def prepared(source_db, dest_db, pgcrane):
    """Not started yet."""
    return make(pgcrane, source_db, dest_db)


@pytest.fixture
def following(prepared):
    prepared.start()
    prepared.wait_caught_up()
    return prepared


# --- it does what it should ---


def test_dry_run(following):
    """Tells how long writes would be away, and stops none."""
    with Writer(following.source) as writer:
        before = writer.refused
        result = following.promote("--dry-run")
        told = following.promoted(result)
        assert told["ok"] and told["dry_run"] and not told["opened"] and 0 < told["outage_us"] < 60_000_000
        writer.wait_for(10)
        assert writer.refused == before, "a write was refused"
        assert_promoted(following)


def test_under_writers(following):
    """The application is turned away for a moment only, and the outage is told."""
    with Writer(following.source) as writer:
        writer.wait_for(20)
        promoted = following.promoted(following.promote())
        writer.stop()
    assert 0 < promoted["outage_us"] < 60_000_000 and promoted["proven"] and is_read_only(following.source)
    remedy = next(note for note in promoted["notes"] if "stays read-only" in note).split("to write to it again: ")[1]
    assert_equal(following.source, following.dest)
    assert_source_clean(following)
    assert following.dest.sql("SELECT to_regnamespace('pgcrane')") == [(None,)]
    assert_writable(following.dest)
    following.dest.sql("INSERT INTO part (item, v) VALUES (1, 'the sequence goes on')")
    following.source.sql(remedy)
    assert_writable(following.source)


def test_automatic(source_db, dest_db, pgcrane):
    following = make(pgcrane, source_db, dest_db, "--promote", "auto")
    with Writer(source_db):
        following.start()
        assert following.end() == 0, following.said()
    assert_equal(source_db, dest_db)
    assert_source_clean(following)


def test_automatic_that_is_refused(source_db, dest_db, pgcrane):
    """It does not try for ever what cannot be done without somebody."""
    following = make(pgcrane, source_db, dest_db, "--promote", "auto")
    following.start(env=failpoint("sequences.before:sleep=6000:1"))
    wait_until(lambda: phase(following, "FOREIGN_KEY") == "DONE", what="the copy")
    source_db.sql("BEGIN; INSERT INTO item VALUES (4000, 'prepared'); PREPARE TRANSACTION 'in the way'")
    assert following.end() == 2, following.said()
    assert following.failure()["reason"] == "PROMOTE_REFUSED" and "in the way" in following.failure()["message"]
    assert_writable(source_db)
    source_db.sql("COMMIT PREPARED 'in the way'")
    following.again()
    assert following.end() == 0, following.said()
    assert_equal(source_db, dest_db)


def test_asked_for_during_the_copy(prepared):
    """It waits for the end of the copy, and then does it."""
    prepared.start(env=failpoint("copy.before_chunk:sleep=3000"))
    wait_until(lambda: phase(prepared, "COPY") == "RUNNING", what="the copy")
    with Writer(prepared.source):
        promoted = prepared.promoted(prepared.promote())
    assert promoted["ok"] and promoted["proven"]
    assert_equal(prepared.source, prepared.dest)
    assert_source_clean(prepared)


def test_without_a_process(following):
    """It goes on with the migration itself, then promotes."""
    following.stop()
    following.source.sql("UPDATE item SET v = 'meanwhile'")
    following.process = None
    dry = following.promote("--dry-run")
    assert following.promoted(dry)["dry_run"] and not is_read_only(following.source)
    promoted = following.promoted(following.promote())
    assert promoted["ok"] and promoted["proven"]
    assert_equal(following.source, following.dest)
    assert_source_clean(following)
    again = following.promote(check=False)
    assert again.code == 2 and "ALREADY_DONE" in again.stderr


def test_keep_slot(following):
    promoted = following.promoted(following.promote("--keep-slot"))
    assert promoted["ok"]
    source = following.source
    (slot,), = source.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    assert len(source.sql("SELECT pubname FROM pg_publication")) == 2
    notes = following.bodies("REPORT")[0]["notes"]
    assert any(f"pg_drop_replication_slot('{slot}')" in note for note in notes), notes
    source.sql("SELECT pg_drop_replication_slot(%s)", (slot,))
    assert not rows_and_sequences(source, following.dest)


# --- fences ---


def test_fence_locks(following):
    """Sessions live on; writers wait, and write to the source again afterwards: that is said."""
    with Writer(following.source) as writer:
        promoted = following.promoted(following.promote("--fence", "locks"))
        assert promoted["ok"] and promoted["proven"]
        assert any("accepts writes again" in note for note in promoted["notes"]), promoted
        refusals = writer.refused
        writer.wait_for(5)
        assert writer.refused == refusals == 0 and not is_read_only(following.source)


def test_fence_none(following):
    """Done, but called unproven: in the exit codes of both commands, the result and the report."""
    result = following.promote("--fence", "none", check=False)
    assert result.code == 4, result
    assert following.promoted(result)["ok"] and not following.promoted(result)["proven"]
    assert following.end() == 4
    report = following.bodies("REPORT")[0]
    assert report["promoted"] and not report["proven"] and any("unproven" in note for note in report["notes"])
    assert_equal(following.source, following.dest)
    assert_source_clean(following)


def test_fence_that_falls_at_the_last_moment(prepared):
    """Its session is ended after the last question before the COMMIT: open, with the exit code of what is not proven."""
    prepared.start(env=failpoint("promote.open_asked:sleep=6000:1"))
    prepared.wait_caught_up()
    source, dest = prepared.source, prepared.dest
    command = prepared.program.popen("promote", "--fence", "locks", "--fence-timeout", "60", "--state-dir",
                                     prepared.program.state_dir)
    wait_until(lambda: dest.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%source_object WHERE kind%'"
                                " AND state = 'idle in transaction'")
               and source.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%UPDATE, DELETE, TRUNCATE%'"
                              " AND application_name LIKE 'pgcrane %'"), what="OPEN")
    assert source.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                      " WHERE application_name LIKE 'pgcrane % fence'") == [(True,)]
    out, err = command.communicate(timeout=100)
    assert command.returncode == 4 and "not proven" in out and "the fence has fallen" in out, out + err
    assert prepared.end() == 4
    report = prepared.bodies("REPORT")[0]
    assert report["promoted"] and not report["proven"]


# --- refused, with a remedy that helps ---


def test_refused_for_a_difference(following):
    """The message has the statement that helps."""
    following.source.sql("CREATE INDEX part_v ON part (v, id)")
    error = refused(following)
    fix = re.search(r"part_v.*\(on the destination: (CREATE INDEX .*)\)", error["message"])
    assert fix, error
    following.dest.sql(fix.group(1))
    assert_promoted(following)


def test_refused_for_a_prepared_transaction(following):
    following.source.sql("BEGIN; INSERT INTO part (item, v) VALUES (5, 'prepared'); PREPARE TRANSACTION 'in the way'")
    error = refused(following)
    fix = re.search(r"COMMIT PREPARED 'in the way'", error["message"])
    following.source.sql(fix.group(0))
    assert_promoted(following)
    assert following.dest.sql("SELECT 1 FROM part WHERE v = 'prepared'")


def test_refused_for_a_table_without_a_key(following):
    """Its update was in no stream, and it is too large to be copied in the fence, says the limit."""
    following.source.sql("UPDATE keyless SET v = v + 1")
    error = refused(following, "--recopy-limit", "1kB")
    fix = re.search(r"public.keyless .* allow it with (--recopy-limit) (\d+MB)", error["message"])
    assert_promoted(following, *fix.groups())


def test_refused_for_a_long_transaction(following):
    """With --fence=locks a writer that does not end is named, and is not ended."""
    with following.source.connect(autocommit=False) as conn:
        conn.execute("UPDATE item SET n = -1 WHERE id = 3")
        result = following.promote("--fence", "locks", "--fence-timeout", "1", check=False)
        assert result.code == 2, result
        told = following.promoted(result)
        assert told["error"]["reason"] == "PROMOTE_UNDONE" and str(conn.info.backend_pid) in told["error"]["message"]
        assert "--fence-timeout" in told["error"]["remedy"]
        conn.commit()
    assert_writable(following.source)
    assert_promoted(following)


# --- twice, called off ---


def test_asked_twice(following):
    first = following.program.popen("promote", "--json", "--state-dir", following.program.state_dir, "--hook-before", "sleep 8")
    wait_until(lambda: following.cdc().get("state") == "PROMOTING", what="the promote")
    second = following.promote(check=False)
    assert second.code == 2 and "under way already" in str(second)
    _, said = first.communicate(timeout=60)  # read: a pipe that is full would hold it up
    assert first.returncode == 0, said
    assert following.end() == 0
    assert_equal(following.source, following.dest)
    late = following.command("promote", check=False)
    assert late.code == 2 and "ALREADY_DONE" in late.stderr


@pytest.mark.parametrize("where", ("before-the-fence", "in-the-fence"))
def test_called_off(where, prepared):
    """Ctrl-C in `pgcrane promote`: undone; the migration goes on."""
    prepared.start(env=failpoint("promote.after_lock:sleep=6000:1"))
    prepared.wait_caught_up()
    hook = ("--hook-before", "sleep 60") if where == "before-the-fence" else ()
    command = prepared.program.popen("promote", *hook, "--state-dir", prepared.program.state_dir)
    if hook:
        wait_until(lambda: any("hook before" in body["text"] for body in prepared.bodies("EVENT")), what="the hook")
    else:
        wait_until(lambda: has_locks(prepared.source), what="the locks")
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 3, out + err
    assert "CANCELLED" in err and prepared.running()
    assert not is_read_only(prepared.source)
    assert_writable(prepared.source)
    assert_promoted(prepared)


@pytest.mark.parametrize("called_off", (False, True), ids=("waits", "called-off"))
def test_asked_while_a_server_is_away(called_off, source_db, dest_db, pgcrane):
    """It waits for the server; Ctrl-C in the meantime takes the request back, once and for all."""
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy(dest_db.cluster))
        following = make(pgcrane, source_db, dest_db, dest_uri=proxy.uri(dest_db))
        stack.enter_context(Writer(source_db))
        following.start()
        following.wait_caught_up()
        proxy.refuse = True
        proxy.reset_all()
        following.wait_state("RETRYING")
        command = pgcrane.popen("promote", "--json", "--state-dir", pgcrane.state_dir)
        assert command.stdout.readline()  # it is connected
        if called_off:
            command.send_signal(signal.SIGINT)
            out, err = command.communicate(timeout=30)
            assert command.returncode == 3 and "called off before it began" in err, out + err
        proxy.refuse = False
        if called_off:
            following.wait_caught_up()
            assert not any(body["text"] == "the destination is open" for body in following.bodies("EVENT"))
            assert_promoted(following)
        else:
            _, said = command.communicate(timeout=60)  # read: a pipe that is full would hold it up
            assert command.returncode == 0 and following.end() == 0, said
    assert_equal(source_db, dest_db)


def test_called_off_in_one_breath(following):
    """The worker, being late, reads the request and its end at once."""
    worker = following.pids("worker")[0]
    os.kill(worker, signal.SIGSTOP)
    command = following.program.popen("promote", "--json", "--hook-before", "sleep 5", "--state-dir", following.program.state_dir)
    assert command.stdout.readline()
    command.send_signal(signal.SIGINT)
    time.sleep(0.5)  # both are on their way
    os.kill(worker, signal.SIGCONT)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 3 and "CANCELLED" in err, out + err
    assert_promoted(following)


def test_the_asking_terminal_is_killed(following):
    """What was asked for goes on by itself."""
    command = following.program.popen("promote", "--hook-before", "sleep 6", "--state-dir", following.program.state_dir)
    wait_until(lambda: following.cdc().get("state") == "PROMOTING", what="the promote")
    command.kill()
    assert following.end() == 0
    assert_equal(following.source, following.dest)
    assert_source_clean(following)


def test_migrate_is_stopped_in_the_fence(prepared):
    """Ctrl-C in `pgcrane migrate` while it promotes: undone, ended with 3; the same command goes on."""
    prepared.start(env=failpoint("promote.after_lock:sleep=2000:1"))
    prepared.wait_caught_up()
    command = prepared.program.popen("promote", "--state-dir", prepared.program.state_dir)
    wait_until(lambda: has_locks(prepared.source), what="the locks")
    assert prepared.stop() == 3
    assert command.wait(60) == 3
    assert not is_read_only(prepared.source)
    assert_writable(prepared.source)
    prepared.again()
    assert_promoted(prepared)


# --- killed at each step ---

BEFORE_OPEN = ("promote.after_lag", "promote.after_waiting", "promote.after_prepare", "promote.after_hook_before", "promote.after_fence_journal",
               "promote.after_fence_setting", "promote.after_lock", "promote.after_marker", "promote.after_drain",
               "promote.before_recopy_commit", "promote.after_rest", "promote.after_compare", "promote.after_proof",
               "promote.before_open_commit")
AFTER_OPEN = ("promote.after_open_commit", "promote.after_release", "close.before_remove", "seam.removed",
              "finish.before_drop")


def killed_in_promote(following, point):
    """The worker dies there; what the promote says, and the end of migrate."""
    following.start(env=failpoint(f"{point}:kill"))
    following.wait_caught_up()
    following.source.sql("UPDATE keyless SET v = v + 1")  # there is something to copy in the fence
    result = following.command("promote", "--hook-before", "true", check=False)
    assert result.code == 2 and "WORKER_LOST" in result.stderr, result
    assert following.end() == 2 and following.failure()["reason"] == "WORKER_LOST"


@pytest.mark.turns(5)
@pytest.mark.parametrize("point", BEFORE_OPEN)
def test_killed_before_open(point, prepared):
    """The same command again makes the source writable and follows it."""
    killed_in_promote(prepared, point)
    prepared.again()
    prepared.wait_caught_up()
    assert not is_read_only(prepared.source)
    assert_writable(prepared.source)
    assert_promoted(prepared)


@pytest.mark.turns(4)
@pytest.mark.parametrize("point", AFTER_OPEN)
def test_killed_after_open(point, prepared):
    """The destination is the database: the same command only clears up."""
    killed_in_promote(prepared, point)
    assert is_read_only(prepared.source)
    prepared.dest.sql("INSERT INTO item VALUES (12345, 'the application is here now')")
    prepared.again()
    assert prepared.end() == 0, prepared.said()
    assert_source_clean(prepared)
    assert is_read_only(prepared.source)
    assert prepared.dest.sql("SELECT to_regnamespace('pgcrane')") == [(None,)]
    assert prepared.dest.sql("SELECT v FROM item WHERE id = 12345") == [("the application is here now",)]
    prepared.dest.sql("DELETE FROM item WHERE id = 12345")
    assert_equal(prepared.source, prepared.dest)


def test_killed_then_promote_goes_on(prepared):
    """`pgcrane promote` again, without `migrate`: it undoes, follows, promotes."""
    killed_in_promote(prepared, "promote.after_marker")
    prepared.process = None
    promoted = prepared.promoted(prepared.promote())
    assert promoted["ok"] and promoted["proven"]
    assert_equal(prepared.source, prepared.dest)
    assert_source_clean(prepared)


# --- servers go away meanwhile ---


@pytest.mark.parametrize("how", ("fast", "immediate", "kill9"))
@pytest.mark.parametrize("side", ("source", "destination"))
def test_server_restarts_in_the_fence(side, how, own_cluster, source_db, dest_db, pgcrane):
    """Undone as soon as the server is back: still following, the source writable; the next promote succeeds."""
    cluster = own_cluster("away")
    source, dest = (cluster.createdb(), dest_db) if side == "source" else (source_db, cluster.createdb())
    following = make(pgcrane, source, dest)
    following.start(env=failpoint("promote.after_marker:sleep=5000:1"))
    following.wait_caught_up()
    command = pgcrane.popen("promote", "--state-dir", pgcrane.state_dir)
    wait_until(lambda: has_locks(source), what="the locks")
    if how == "kill9":
        cluster.kill9()
    else:
        cluster.stop(how)
    cluster.start()
    out, err = command.communicate(timeout=100)
    assert command.returncode == 2 and "PROMOTE_UNDONE" in err, out + err
    assert following.running()
    assert not is_read_only(source)
    assert_writable(source)
    assert_promoted(following)
    pgcrane.end_all()


@pytest.mark.parametrize("side", ("source", "destination"))
def test_network_cut_in_the_fence(side, source_db, dest_db, pgcrane):
    with Proxy((source_db if side == "source" else dest_db).cluster) as proxy:
        uris = {"source_uri": proxy.uri(source_db)} if side == "source" else {"dest_uri": proxy.uri(dest_db)}
        following = make(pgcrane, source_db, dest_db, **uris)
        following.start(env=failpoint("promote.after_marker:sleep=5000:1"))
        following.wait_caught_up()
        command = pgcrane.popen("promote", "--state-dir", pgcrane.state_dir)
        wait_until(lambda: has_locks(source_db), what="the locks")
        proxy.reset_all()
        out, err = command.communicate(timeout=100)
        assert command.returncode == 2 and "PROMOTE_UNDONE" in err, out + err
        assert not is_read_only(source_db)
        assert_writable(source_db)
        assert_promoted(following)


@pytest.mark.turns(6)
def test_source_stays_away_in_the_fence(own_cluster, dest_db, pgcrane):
    """Nobody can make it writable again now: that is said, with what to do by hand; the migration does it when the
    source is back."""
    cluster = own_cluster("gone")
    following = make(pgcrane, cluster.createdb(), dest_db, "--retry-for", "5")
    following.start(env=failpoint("promote.after_marker:sleep=5000:1"))
    following.wait_caught_up()
    command = pgcrane.popen("promote", "--state-dir", pgcrane.state_dir)
    wait_until(lambda: has_locks(following.source), what="the locks")
    cluster.kill9()
    out, err = command.communicate(timeout=100)
    assert command.returncode == 69 and "may still be read-only" in err, out + err
    assert f'ALTER DATABASE "{following.source.name}" RESET default_transaction_read_only' in err
    assert following.end() == 69
    cluster.start()
    assert is_read_only(following.source)
    following.again()
    following.wait_caught_up()
    assert not is_read_only(following.source)
    assert_writable(following.source)
    assert_promoted(following)


def test_lost_reply_of_open(own_cluster, source_db, pgcrane):
    """The destination has committed OPEN and the session dies with the reply: it is asked, and the promote is done."""
    cluster = own_cluster("lost")
    following = make(pgcrane, source_db, cluster.createdb())
    following.start(env=failpoint("promote.before_open_commit:sleep=5000"))
    following.wait_caught_up()
    command = pgcrane.popen("promote", "--fence-timeout", "60", "--state-dir", pgcrane.state_dir)
    wait_until(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%source_object WHERE kind%'"
                                   " AND state = 'idle in transaction'"), what="OPEN")
    cluster.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    cluster.reload()
    wait_until(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), what="the stall")
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    cluster.sql("ALTER SYSTEM RESET synchronous_standby_names")
    cluster.reload()
    out, err = command.communicate(timeout=100)
    assert command.returncode == 0 and "the destination is the database now" in out, out + err
    assert following.end() == 0
    assert_equal(source_db, following.dest)
    assert_source_clean(following)


# --- hooks ---


def test_hooks(following, tmp_path):
    flags, ran = hooks(tmp_path)
    assert following.promoted(following.promote(*flags))["ok"]
    assert ran() == ["before", "after"]
    assert_equal(following.source, following.dest)


def test_hook_before_fails(following, tmp_path):
    flags, ran = hooks(tmp_path, before="echo the pooler is away >&2; exit 7")
    error = refused(following, *flags, reason="PROMOTE_UNDONE")
    assert "status 7" in error["message"] and "the pooler is away" in error["message"]
    assert ran() == ["before", "undo"]
    assert_promoted(following)


def test_hook_after_fails(following, tmp_path):
    """The destination is open: that is not taken back, and what is to be done by hand is said."""
    flags, ran = hooks(tmp_path, after="exit 9")
    promoted = following.promoted(following.promote(*flags))
    assert promoted["ok"] and any("run it by hand" in note and "status 9" in note for note in promoted["notes"])
    assert ran() == ["before", "after"]
    assert_equal(following.source, following.dest)
    assert_source_clean(following)


def test_hook_undo(prepared, tmp_path):
    """After the hook before, something else fails: it is undone by the third one, once writes are possible again."""
    prepared.start(env=failpoint("promote.after_lock:error:1"))
    prepared.wait_caught_up()
    flags, ran = hooks(tmp_path)
    refused(prepared, *flags, reason="PROMOTE_UNDONE")
    assert ran() == ["before", "undo"]
    assert prepared.dest.sql("SELECT step FROM pgcrane.hook") == []
    assert_promoted(prepared)
    assert ran() == ["before", "undo"]


def test_no_hook_when_it_is_refused_before(following, tmp_path):
    following.source.sql("ALTER TABLE item ALTER v SET DEFAULT 'x'")
    flags, ran = hooks(tmp_path)
    refused(following, *flags)
    assert ran() == []


# --- other majors ---


@pytest.mark.parametrize("major", (13, 18))
def test_other_majors(major, own_cluster, pgcrane):
    """Killed in the fence, undone, killed when it was open: as on 15."""
    following = make(pgcrane, *(own_cluster(f"{side}{major}", major=major).createdb() for side in ("from", "to")))
    with Writer(following.source) as writer:
        killed_in_promote(following, "promote.after_lock")
        following.again(env=failpoint("promote.after_open_commit:kill"))
        following.wait_caught_up()
        writer.wait_for(5)
        assert following.command("promote", check=False).code == 2
        assert following.end() == 2
        following.again()
        assert following.end() == 0, following.said()
    assert_equal(following.source, following.dest)
    assert_source_clean(following)
