"""A promote in trouble: called off at each step, servers that stay away, hooks that were left, automatic ones."""
import contextlib
import os
import re
import signal
import time

import pytest

from support.cluster import wait_until
from support.promote import is_read_only
from support.promote_command import has_locks, hooks, phase
from support.trouble import (Writer, assert_equal, assert_promoted, assert_source_clean, assert_writable, differences,
                             failpoint, make)

pytestmark = pytest.mark.turns(5)

HELP = {  # as src/engine/promote/promote.h has them
    "LAG": "wait until the destination has caught up",
    "PREPARE": "refresh materialized views, compare both catalogues, tables without identity",
    "HOOK_BEFORE": "run the hook before the fence",
    "FENCE": "stop writes on the source",
    "DRAIN": "apply everything up to the marker",
    "COPY_REST": "sequences, large objects, tables that no stream carries",
    "COMPARE": "compare both catalogues under the fence",
    "PROOF": "nothing changed after the marker",
    "OPEN": "triggers, policies, event triggers: the destination is the database",
    "HOOK_AFTER": "run the hook after the destination is open",
}
BEFORE_OPEN = {  # fail point: the step in which it is
    "promote.after_lag": "LAG", "promote.after_waiting": "PREPARE", "promote.after_prepare": "PREPARE", "promote.after_hook_before": "HOOK_BEFORE",
    "promote.after_fence_journal": "FENCE", "promote.after_fence_setting": "FENCE", "promote.after_lock": "FENCE",
    "promote.after_marker": "FENCE", "promote.after_drain": "DRAIN", "promote.before_recopy_commit": "COPY_REST",
    "promote.after_rest": "COPY_REST", "promote.after_compare": "COMPARE", "promote.after_proof": "PROOF",
    "promote.before_open_commit": "OPEN",
}


@pytest.fixture
def prepared(source_db, dest_db, pgcrane):
    """Not started yet."""
    return make(pgcrane, source_db, dest_db)


@pytest.fixture
def following(prepared):
    prepared.start()
    prepared.wait_caught_up()
    return prepared


def begin(following, *flags):
    """`pgcrane promote`, running."""
    return following.program.popen("promote", *flags, "--state-dir", following.program.state_dir)


def wait_step(following, name):
    wait_until(lambda: following.cdc().get("promote_step") == HELP[name], 60, f"step {name}: {following.cdc()}")


def outcome(command, timeout=120):
    out, err = command.communicate(timeout=timeout)
    return command.returncode, out + err


# --- who is in the way ---


READ_BY = """ALTER TABLE item ENABLE ROW LEVEL SECURITY; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER always BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE part ENABLE ALWAYS TRIGGER always"""


def test_reader_of_the_destination(prepared):
    """OPEN has to lock what he has read: that is told before, and afterwards who it was. Whom it need not lock out is not named."""
    prepared.source.sql(READ_BY)
    prepared.start()
    prepared.wait_caught_up()
    with contextlib.closing(prepared.dest.connect(autocommit=False)) as reader, \
            contextlib.closing(prepared.dest.connect(autocommit=False)) as other:
        reader.execute("SET application_name = 'nightly report'")
        reader.commit()
        pid = reader.execute("SELECT pg_backend_pid(), count(*) FROM item").fetchone()[0]
        other_pid = other.execute("SELECT pg_backend_pid(), count(*) FROM part").fetchone()[0]
        time.sleep(1.2)
        said = "\n".join(prepared.promoted(prepared.promote("--dry-run"))["notes"])
        assert f"session {pid} of postgres (nightly report), idle in transaction since 20" in said and str(other_pid) not in said, said
        assert "has a lock on public.item" in said and f"SELECT pg_terminate_backend({pid})" in said, said
        refused = prepared.promote("--fence-timeout", "3", check=False)
        error = next(line["body"]["error"] for line in refused.lines if line["type"] == "PROMOTED")
        assert error["reason"] == "PROMOTE_UNDONE" and "in step OPEN: on the destination, session" in error["message"], error
        assert "(nightly report), idle in transaction since 20" in error["message"] and "public.item" in error["message"], error
        assert_writable(prepared.source)
        end = re.search(r"SELECT pg_terminate_backend\(\d+\)", error["remedy"]).group()
        prepared.dest.sql(end)
        assert end.endswith(f"({pid})") and prepared.promoted(prepared.promote())["proven"]


def error_of(refused):
    return next(line["body"]["error"] for line in refused.lines if line["type"] == "PROMOTED")


KEYLESS = """CREATE TABLE nk (n int); CREATE TABLE "N k" (n int); INSERT INTO nk VALUES (1); INSERT INTO "N k" VALUES (1);
CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM nk"""
CHANGED = 'UPDATE nk SET n = 2; UPDATE "N k" SET n = 2'


def test_others_on_the_destination(prepared):
    """A reader of tables that are copied again, and of a materialized view, and a prepared transaction: each is named once, with
    what ends it, and the view is no reason to wait."""
    prepared.source.sql(KEYLESS + ";" + READ_BY)
    prepared.start()
    prepared.wait_caught_up()
    prepared.source.sql(CHANGED)
    prepared.dest.sql("REFRESH MATERIALIZED VIEW seen")
    with contextlib.closing(prepared.dest.connect(autocommit=False)) as reader, \
            contextlib.closing(prepared.dest.connect(autocommit=False)) as viewer:
        with contextlib.closing(prepared.dest.connect()) as conn:
            conn.execute("BEGIN; SELECT FROM item; PREPARE TRANSACTION 'it''s \\ left'")
        pid = reader.execute('SELECT pg_backend_pid(), n FROM nk, (SELECT count(*) FROM "N k") AS k').fetchone()[0]
        view_pid = viewer.execute("SELECT pg_backend_pid() FROM seen").fetchone()[0]
        time.sleep(1.2)
        begun = time.monotonic()
        notes = prepared.promoted(prepared.promote("--dry-run"))["notes"]
        assert time.monotonic() - begun < 30 and not any("refreshing them takes" in note for note in notes), notes
        (read,) = (note for note in notes if f"session {pid} of" in note)
        assert 'has a lock on public."N k", public.nk, which' in read and f"SELECT pg_terminate_backend({pid})" in read, read
        (seen,) = (note for note in notes if f"session {view_pid} of" in note)
        assert "view public.seen could not be refreshed" in seen and "has a lock on public.seen" in seen, seen
        (held,) = (note for note in notes if "prepared transaction" in note)
        assert "has a lock on public.item" in held and "ROLLBACK PREPARED E'it''s \\\\ left'" in held, held
        error = error_of(prepared.promote("--fence-timeout", "3", check=False))
        assert error["reason"] == "PROMOTE_UNDONE" and "in step COPY_REST" in error["message"], error
        assert f"on the destination, session {pid} of postgres" in error["message"], error
        prepared.dest.sql(re.search(r"SELECT pg_terminate_backend\(\d+\)", error["remedy"]).group())
        error = error_of(prepared.promote("--fence-timeout", "3", check=False))
        assert error["reason"] == "PROMOTE_UNDONE" and "in step OPEN: on the destination, prepared transaction" in error["message"], error
        prepared.dest.sql(re.search(r"ROLLBACK PREPARED .*left'", error["remedy"]).group())
        promoted = prepared.promoted(prepared.promote())
    assert promoted["proven"] and any("view public.seen" in note for note in promoted["notes"]), promoted
    assert prepared.dest.sql('SELECT n FROM nk UNION SELECT n FROM "N k"') == [(2,)]


# --- what is shown ---


def test_steps_are_told(prepared):
    """Each of them, in order, on both terminals; the one that lasts in status.json; numbers go on meanwhile."""
    prepared.start(env=failpoint("promote.after_prepare:sleep=8000:1"))
    prepared.wait_caught_up()
    with Writer(prepared.source):
        command = begin(prepared, "--json", "--hook-before", "true", "--hook-after", "true")
        wait_step(prepared, "PREPARE")
        before = prepared.cdc()["transactions"]
        wait_until(lambda: prepared.status()[0]["progress"]["cdc"]["promote_step"] == HELP["PREPARE"], what="status.json")
        assert prepared.status()[0]["phase"] == "PROMOTE_IN_PROGRESS"
        wait_until(lambda: prepared.cdc()["transactions"] > before, what="the counters to move")
        assert prepared.cdc()["promote_step"] == HELP["PREPARE"]
        code, said = outcome(command)
    assert code == 0 and prepared.end() == 0, said
    told = []
    for body in prepared.bodies("PROGRESS"):
        step = body.get("cdc", {}).get("promote_step")
        if step and told[-1:] != [step]:
            told.append(step)
    assert told == list(HELP.values())
    assert set(told) <= set(re.findall(r'"promote_step":"([^"]+)"', said)) | {HELP["HOOK_AFTER"]}
    assert prepared.cdc()["promote_step"] == ""


def test_steps_are_told_to_people(prepared):
    prepared.start()
    prepared.wait_caught_up()
    command = begin(prepared)
    _, meanwhile = command.communicate(timeout=120)  # the result, on standard output, has them once more
    assert command.returncode == 0 and HELP["FENCE"] in meanwhile and HELP["OPEN"] in meanwhile, meanwhile


# --- called off ---


@pytest.mark.turns(5)
@pytest.mark.parametrize("point", BEFORE_OPEN)
def test_called_off_at(point, prepared):
    """Ctrl-C in `pgcrane promote`: undone, followed on, promoted later."""
    prepared.start(env=failpoint(f"{point}:sleep=5000:1"))
    prepared.wait_caught_up()
    prepared.source.sql("UPDATE keyless SET v = v + 1")  # there is something to copy in the fence
    command = begin(prepared, "--hook-before", "true")
    wait_step(prepared, BEFORE_OPEN[point])
    command.send_signal(signal.SIGINT)
    code, said = outcome(command, 60)
    assert code == 3 and "CANCELLED" in said, said
    assert prepared.running() and not is_read_only(prepared.source)
    assert_writable(prepared.source)
    assert prepared.dest.sql("SELECT 1 FROM pgcrane.step WHERE name = 'opened'") == []
    assert_promoted(prepared)


def test_called_off_in_a_slow_refresh(prepared):
    """A statement of minutes is not waited for."""
    prepared.source.sql("CREATE TABLE nap (id int PRIMARY KEY, s float8); INSERT INTO nap VALUES (1, 0);"
                        "CREATE MATERIALIZED VIEW slow AS SELECT id, pg_sleep(s)::text FROM nap")
    prepared.start()
    prepared.wait_caught_up()
    prepared.source.sql("UPDATE nap SET s = 100")
    prepared.wait_applied()
    command = begin(prepared)
    wait_until(lambda: prepared.dest.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'REFRESH%slow%'"
                                         " AND state = 'active'"), 60, "the REFRESH")
    begun = time.monotonic()
    command.send_signal(signal.SIGINT)
    code, said = outcome(command)
    assert code == 3 and time.monotonic() - begun < 20, said
    assert_writable(prepared.source)
    prepared.source.sql("UPDATE nap SET s = 0")
    assert_promoted(prepared)


# --- servers that stay away for longer than the way back waits ---


@pytest.mark.parametrize("side", ("source", "destination"))
def test_server_stays_away_and_comes_back(side, own_cluster, source_db, dest_db, pgcrane, tmp_path):
    """Nobody starts anything: the process that follows makes the source writable again as soon as it can."""
    cluster = own_cluster("away")
    source, dest = (cluster.createdb(), dest_db) if side == "source" else (source_db, cluster.createdb())
    following = make(pgcrane, source, dest)
    following.start(env=failpoint("promote.after_marker:sleep=5000:1"))
    following.wait_caught_up()
    flags, ran = hooks(tmp_path)
    command = begin(following, *flags)
    wait_until(lambda: has_locks(source), what="the locks")
    cluster.kill9()
    code, said = outcome(command)
    assert code == 69 and "may still be read-only" in said and "as soon as both servers answer" in said, said
    assert following.running() and ran() == ["before"]
    cluster.start()
    wait_until(lambda: not is_read_only(source), 60, "the source to be writable")
    assert following.running()
    assert_writable(source)
    wait_until(lambda: ran() == ["before", "undo"], what="the hook")
    assert_promoted(following)
    pgcrane.end_all()


def test_destination_opened_and_stays_away(own_cluster, source_db, pgcrane, tmp_path):
    """It committed OPEN and went away with the reply: nothing is followed into it, the migration is brought to its end."""
    cluster = own_cluster("lost")
    following = make(pgcrane, source_db, cluster.createdb())
    following.start(env=failpoint("promote.before_open_commit:sleep=5000"))
    following.wait_caught_up()
    flags, ran = hooks(tmp_path)
    command = begin(following, *flags)
    wait_step(following, "OPEN")
    cluster.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    cluster.reload()
    cluster.sql("CHECKPOINT")  # behind it the checkpointer has read it, too, whom commits ask
    wait_until(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), what="the stall")
    cluster.kill9()
    code, said = outcome(command)
    assert code == 69 and "not known whether the destination was opened" in said, said
    assert is_read_only(source_db) and following.running()
    with open(os.path.join(cluster.data, "postgresql.auto.conf"), "w", encoding="utf-8"):
        pass
    cluster.start()
    assert following.end() == 4, following.said()  # open, but whether the fence stood till then nobody could ask
    assert is_read_only(source_db) and ran() == ["before", "after"]
    assert_equal(source_db, following.dest)
    assert_source_clean(following)


@pytest.mark.parametrize("side", ("source", "destination"))
@pytest.mark.parametrize("fence", ("full", "locks"))
def test_server_dies_when_it_was_open(fence, side, own_cluster, source_db, dest_db, pgcrane):
    """Never undone: what is left is cleared up, by this run or the next."""
    cluster = own_cluster("late")
    source, dest = (cluster.createdb(), dest_db) if side == "source" else (source_db, cluster.createdb())
    following = make(pgcrane, source, dest)
    following.start(env=failpoint("promote.after_open_commit:sleep=1500"))
    following.wait_caught_up()
    command = begin(following, "--fence", fence)
    wait_until(lambda: any(body["text"] == "the destination is open" for body in following.bodies("EVENT")), what="OPEN")
    cluster.kill9()
    cluster.start()
    code, said = outcome(command)
    if following.end() != 0:
        following.again()
        assert following.end() == 0, following.said()
    assert "PROMOTE_UNDONE" not in said and is_read_only(source) == (fence == "full")
    assert dest.sql("SELECT to_regnamespace('pgcrane')") == [(None,)]
    # A server that crashed goes on with its sequences a little farther on.
    assert [text for text in differences(source, dest) if not (side == "source" and text.startswith("sequence"))] == []
    assert_source_clean(following)
    pgcrane.end_all()


# --- the command itself is killed ---


def test_session_is_killed_in_the_fence(prepared):
    """The worker sees that, and undoes by itself; the same command goes on."""
    prepared.start(env=failpoint("promote.after_lock:sleep=5000:1"))
    prepared.wait_caught_up()
    command = begin(prepared)
    wait_until(lambda: has_locks(prepared.source), what="the locks")
    assert prepared.kill("session")
    outcome(command)
    prepared.end()
    wait_until(lambda: not prepared.program.processes(), 60, "the worker to end")
    assert not is_read_only(prepared.source)
    assert_writable(prepared.source)
    prepared.again()
    assert_promoted(prepared)


def test_session_is_killed_in_the_copy(prepared):
    prepared.start(env=failpoint("copy.before_chunk:sleep=1000"))
    wait_until(lambda: phase(prepared, "COPY") == "RUNNING", what="the copy")
    assert prepared.kill("session")
    prepared.end()
    wait_until(lambda: not prepared.pids("worker"), 60, "the worker to end")
    assert_writable(prepared.source)
    prepared.again()
    assert_promoted(prepared)


# --- hooks that were left ---


@pytest.mark.turns(4)
@pytest.mark.parametrize(("point", "due"), (
    ("promote.after_hook_before", "undo"), ("promote.after_fence_setting", "undo"), ("promote.after_marker", "undo"),
    ("promote.before_hook_undo", "undo"), ("promote.after_open_commit", "after"), ("promote.before_hook_after", "after")))
def test_killed_between_hooks(point, due, prepared, tmp_path):
    """The next run runs the one that is due, once, where the first run would have."""
    undone = ",promote.after_lock:error:1" if point == "promote.before_hook_undo" else ""
    prepared.start(env=failpoint(f"{point}:kill{undone}"))
    prepared.wait_caught_up()
    flags, ran = hooks(tmp_path)
    assert prepared.command("promote", *flags, check=False).code == 2
    assert prepared.end() == 2 and prepared.failure()["reason"] == "WORKER_LOST"
    assert ran() == ["before"]
    prepared.again()
    if due == "undo":
        prepared.wait_caught_up()
        assert ran() == ["before", "undo"]
        assert_writable(prepared.source)
        assert_promoted(prepared)
    else:
        assert prepared.end() == 0, prepared.said()
        assert_equal(prepared.source, prepared.dest)
    assert ran() == ["before", due]


def killed_in_promote(prepared, point, *flags):
    """The worker dies there."""
    prepared.start(env=failpoint(f"{point}:kill"))
    prepared.wait_caught_up()
    assert prepared.command("promote", *flags, check=False).code == 2
    prepared.end()


def test_hook_left_fails(prepared, tmp_path):
    """Told as an error, and in the report; the migration comes to its end."""
    flags, ran = hooks(tmp_path, after="exit 9")
    killed_in_promote(prepared, "promote.after_release", *flags)
    prepared.again()
    assert prepared.end() == 0, prepared.said()
    assert ran() == ["before", "after"]
    assert any("run it by hand" in note and "status 9" in note for note in prepared.bodies("REPORT")[0]["notes"])


def test_abort_runs_the_hook_left(prepared, tmp_path):
    flags, ran = hooks(tmp_path)
    killed_in_promote(prepared, "promote.after_marker", *flags)
    prepared.abort()
    assert ran() == ["before", "undo"] and not is_read_only(prepared.source)
    assert_writable(prepared.source)
    assert_source_clean(prepared)


def test_outage_with_hooks(following):
    """From the begin of the first hook to the end of the last: what an application behind a pooler sees."""
    promoted = following.promoted(following.promote("--hook-before", "sleep 1", "--hook-after", "sleep 2"))
    report = following.bodies("REPORT")[0]
    assert promoted["outage_with_hooks_us"] >= promoted["outage_us"] + 3_000_000
    assert 0 < promoted["outage_us"] == report["outage_us"]
    assert report["outage_with_hooks_us"] == promoted["outage_with_hooks_us"]


def test_outage_with_hooks_is_shown(following):
    code, said = outcome(begin(following, "--hook-after", "sleep 2"))
    shown = re.search(r"Writes were away for (\d+) ms \(with the hooks: (\d+) ms\)", said)
    assert code == 0 and shown and int(shown.group(2)) >= int(shown.group(1)) + 2000, said


def test_outage_without_hooks(following):
    assert following.promoted(following.promote())["outage_with_hooks_us"] == 0


# --- automatic ones ---


def test_automatic_with_hooks(source_db, dest_db, pgcrane, tmp_path):
    flags, ran = hooks(tmp_path)
    following = make(pgcrane, source_db, dest_db, "--promote", "auto", *flags)
    with Writer(source_db):
        following.start()
        assert following.end() == 0, following.said()
    assert ran() == ["before", "after"]
    assert following.bodies("REPORT")[0]["outage_with_hooks_us"] > 0
    assert_equal(source_db, dest_db)
    assert_source_clean(following)


@pytest.mark.turns(6)
def test_automatic_that_is_undone_again_and_again(source_db, dest_db, pgcrane, tmp_path):
    """Three times, with pauses; then the run ends, says why and what to do, and the same command goes on."""
    flags, ran = hooks(tmp_path)
    following = make(pgcrane, source_db, dest_db, "--promote", "auto", "--fence", "locks", "--fence-timeout", "1", *flags)
    following.start(env=failpoint("sequences.before:sleep=5000:1"))
    wait_until(lambda: phase(following, "FOREIGN_KEY") == "DONE", what="the copy")
    with source_db.connect(autocommit=False) as conn:
        conn.execute("UPDATE item SET n = -1 WHERE id = 3")
        assert following.end() == 2, following.said()
        failure = following.failure()
        assert failure["reason"] == "PROMOTE_UNDONE" and str(conn.info.backend_pid) in failure["message"], failure
        assert "3 times" in failure["message"] and "--fence-timeout" in failure["remedy"], failure
        assert ran() == ["before", "undo"] * 3
        warnings = [body["text"] for body in following.bodies("EVENT") if "promoting again in" in body["text"]]
        pauses = [int(re.search(r"again in (\d+) s", text).group(1)) for text in warnings]
        assert len(pauses) == 2 and pauses[0] < pauses[1], warnings
        conn.commit()
    assert_writable(source_db)
    following.again()
    assert following.end() == 0, following.said()
    assert_equal(source_db, dest_db)


def test_automatic_that_is_undone_once(source_db, dest_db, pgcrane):
    following = make(pgcrane, source_db, dest_db, "--promote", "auto")
    following.start(env=failpoint("promote.after_lock:error:1"))
    assert following.end() == 0, following.said()
    assert any("promoting again in" in body["text"] for body in following.bodies("EVENT"))
    assert_equal(source_db, dest_db)
    assert_source_clean(following)


# --- lag ---


@pytest.fixture
def held(following):
    """The destination cannot apply what the source wrote last."""
    with following.dest.connect(autocommit=False) as conn:
        conn.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        following.source.sql("UPDATE item SET n = n + 1")
        yield following, conn


def test_lag_timeout(held):
    """Not caught up in time: writes were never stopped."""
    following, conn = held
    with Writer(following.source) as writer:
        refused = writer.refused
        result = following.promote("--lag-timeout", "2", check=False)
        assert result.code == 2, result
        error = following.promoted(result)["error"]
        assert error["reason"] == "PROMOTE_UNDONE" and "--lag-limit" in error["message"], error
        assert "--lag-timeout" in error["remedy"], error
        writer.wait_for(3)
        assert writer.refused == refused
    conn.rollback()
    assert_promoted(following)


def test_waits_for_the_lag(held):
    """It goes on by itself when the destination has caught up."""
    following, conn = held
    command = begin(following)
    wait_until(lambda: any("waiting for the destination to catch up" in body["text"] for body in following.bodies("EVENT")),
               what="the wait")
    assert not is_read_only(following.source) and not has_locks(following.source)
    assert_writable(following.source)
    conn.rollback()
    code, said = outcome(command)
    assert code == 0 and following.end() == 0, said
    assert_equal(following.source, following.dest)


@pytest.mark.parametrize("auto", (False, True))
def test_definitions_that_are_on_their_way(auto, source_db, dest_db, pgcrane):
    """With --ddl a destination that is some seconds behind is so in its tables, too: no difference."""
    following = make(pgcrane, source_db, dest_db, "--ddl", *(("--promote", "auto") if auto else ()))
    following.start(env=failpoint("promote.after_lag:sleep=6000:1"))
    if not auto:
        following.wait_caught_up()
    command = None if auto else begin(following)
    wait_step(following, "LAG")
    time.sleep(1)  # it is within the limit
    with contextlib.closing(dest_db.connect(autocommit=False)) as conn:
        conn.execute("LOCK TABLE item IN SHARE ROW EXCLUSIVE MODE")
        source_db.sql("UPDATE item SET n = n + 1 WHERE id = 1")
        source_db.sql("CREATE TABLE fresh (id int PRIMARY KEY)")
        source_db.sql("INSERT INTO fresh VALUES (1)")
        wait_step(following, "PREPARE")
        time.sleep(2)
        assert dest_db.sql("SELECT to_regclass('fresh')::text") == [(None,)]
        conn.rollback()
    if command is not None:
        code, said = outcome(command)
        assert code == 0, said
    assert following.end() == 0, following.said()
    assert_equal(source_db, dest_db)


@pytest.mark.parametrize("limit", (0, 5))
def test_lag_limit(limit, prepared):
    """A destination that is always half a second behind is near enough, or is not."""
    prepared.start(env=failpoint("follow.before_commit:sleep=500"))
    prepared.wait_caught_up()
    flags = ("--lag-limit", str(limit), "--lag-timeout", "4")
    result = prepared.promote(*flags, check=limit > 0)
    if limit > 0:
        assert prepared.promoted(result)["ok"]
        assert_equal(prepared.source, prepared.dest)
    else:
        assert result.code == 2 and prepared.promoted(result)["error"]["reason"] == "PROMOTE_UNDONE", result
        assert prepared.running()
        assert_writable(prepared.source)


# --- patience ---


def test_a_transaction_that_always_fails_late(source_db, dest_db, pgcrane):
    """Having worked on it for long is no progress: --retry-for counts from the first failure."""
    following = make(pgcrane, source_db, dest_db, "--retry-for", "6")
    following.start(env=failpoint("follow.before_commit:sleep=11000,follow.before_commit:retryable"))
    following.wait_following()
    source_db.sql("UPDATE item SET n = n + 1")
    begun = time.monotonic()
    assert following.end(90) == 2, following.said()
    assert following.failure()["reason"] == "FAILPOINT" and time.monotonic() - begun > 15
    following.again()
    assert_promoted(following)


def test_automatic_goes_on_behind_one_that_was_asked_for(source_db, dest_db, pgcrane):
    """A request that is refused is the asker's affair: neither the run nor the automatic promote end with it."""
    following = make(pgcrane, source_db, dest_db, "--promote", "auto", "--fence", "locks", "--fence-timeout", "1")
    source_db.sql("CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY, v text)")
    source_db.sql("INSERT INTO scratch SELECT i, repeat('x', 100) FROM generate_series(1, 2000) i")
    following.start(env=failpoint("sequences.before:sleep=5000:1"))
    wait_until(lambda: phase(following, "FOREIGN_KEY") == "DONE", what="the copy")

    def ask():
        return following.promote("--recopy-limit", "1kB", "--keep-slot", check=False)

    with source_db.connect(autocommit=False) as conn:
        conn.execute("UPDATE item SET n = -1 WHERE id = 3")
        wait_until(lambda: any("promoting again in" in body["text"] for body in following.bodies("EVENT"))
                   and following.cdc()["state"] == "FOLLOWING", what="the pause behind the first try")
        source_db.sql("UPDATE scratch SET v = 'no stream carries it'")
        refused = ask()
        while "under way already" in refused.stderr:  # the pause was over before we came
            refused = ask()
        assert refused.code != 0 and "PROMOTE_REFUSED" in refused.stderr and "scratch" in refused.stderr, refused
        conn.commit()
    assert following.end() == 0, following.said()
    assert_equal(source_db, dest_db)
    assert_source_clean(following)


def test_source_is_writable_before_anything_is_found(prepared, tmp_path):
    """A promote that was killed, and then a check that refuses to go on: the source does not stay read-only for that."""
    killed_in_promote(prepared, "promote.after_lock")
    assert is_read_only(prepared.source)
    flags = prepared.flags
    prepared.flags = (*flags, "--pg-bindir", str(tmp_path))  # there is no pg_dump
    prepared.again()
    assert prepared.end() != 0 and prepared.failure()["reason"] == "PREFLIGHT_FAILED", prepared.said()
    assert not is_read_only(prepared.source)
    assert_writable(prepared.source)
    prepared.flags = flags
    prepared.again()
    assert_promoted(prepared)


def test_closing_is_not_refused_for_what_is_found(prepared, tmp_path):
    """The destination is open: what is left of the promote is done, whatever a check would say of a copy."""
    killed_in_promote(prepared, "promote.after_open_commit")
    prepared.flags = (*prepared.flags, "--pg-bindir", str(tmp_path))
    prepared.again()
    assert prepared.end() == 0, prepared.said()
    assert_source_clean(prepared)
