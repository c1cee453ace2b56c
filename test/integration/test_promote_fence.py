"""What might pass the promote's fence, or bring it down: see test_promote.py for how it is walked through."""
import contextlib
import os
import signal
import threading
import time

import psycopg
import pytest

# pylint: disable=unused-import
from support.cluster import wait_until
from support.promote import (KILLED, assert_as_before, has_locks, is_opened, is_proven,  # noqa: F401
                             make_mover, make_promoter, objects, promoter, rows, source_of, wait_for_locks)

pytestmark = pytest.mark.turns(4)


# --- the fence falls ---


def end_fence(database):
    """What a time-out for idle transactions does, or an administrator."""
    assert database.cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                                " AND application_name LIKE 'pgcrane %% fence'", (database.name,)) == [(True,)]
    wait_until(lambda: not has_locks(database), what="the locks to go")


def fence_falls(promoter, promotion):
    """Then somebody writes, who would have been kept out; the answer."""
    promotion.tell()
    wait_for_locks(promoter)
    wait_until(promotion.at_failpoint, what="the promote to come to its fail point")
    end_fence(promoter.source)
    promoter.source.sql("BEGIN READ WRITE; INSERT INTO t VALUES (1, 'late'); COMMIT")
    wait_until(promotion.answers, what="the promote")
    return promotion.answers()[-1]


@pytest.mark.parametrize("fence", ["locks", "full"])
@pytest.mark.parametrize("point", ["promote.after_proof", "promote.before_open_commit"])
def test_the_fence_falls_before_open(promoter, point, fence):
    """Nothing tells us that its session is gone: it is asked."""
    promotion = promoter.follow(f"fence={fence}", env={"PGCRANE_FAILPOINT": f"{point}:sleep=5000:1"})
    answer = fence_falls(promoter, promotion)
    assert answer.get("reason") == "PROMOTE_UNDONE", promotion.lines
    assert "the fence has fallen" in answer["error"] and "idle_in_transaction_session_timeout" in answer["remedy"]
    assert_as_before(promoter)
    assert promotion.opens()["proven"]
    assert rows(promoter.dest) == [(1, "late")]


def test_the_fence_falls_while_it_is_opened(promoter):
    """After the last question before the COMMIT: too late to undo, but never called proven."""
    promotion = promoter.follow("fence=locks", env={"PGCRANE_FAILPOINT": "promote.open_asked:sleep=5000"})
    answer = fence_falls(promoter, promotion)
    assert answer["opened"] and not answer["proven"], promotion.lines
    assert any("unproven" in note and "the fence has fallen" in note for note in answer["notes"])
    assert is_opened(promoter.dest) and not is_proven(promoter.dest)


def test_the_fence_falls_before_the_proof(promoter):
    """What passed it is in the stream, after the marker."""
    promotion = promoter.follow("fence=locks", env={"PGCRANE_FAILPOINT": "promote.after_rest:sleep=5000:1"})
    answer = fence_falls(promoter, promotion)
    assert answer.get("reason") == "PROMOTE_UNDONE", promotion.lines
    assert "called off in step PROOF" in answer["error"] and "the fence does not hold" in answer["error"]
    assert_as_before(promoter)
    assert promotion.opens()["proven"]
    assert rows(promoter.dest) == [(1, "late")]


def test_killed_before_the_last_question(promoter):
    """Open, but nobody knows whether the fence stood until then: the ledger does not say proven."""
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.open_committed:kill"})
    promotion.tell()
    assert promotion.end() == KILLED
    assert is_opened(promoter.dest) and not is_proven(promoter.dest)


def test_killed_after_the_last_question(promoter):
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.after_open_commit:kill"})
    promotion.tell()
    assert promotion.end() == KILLED
    assert is_opened(promoter.dest) and is_proven(promoter.dest)


def test_the_source_crashes_before_open(own_cluster, make_promoter):
    cluster = own_cluster("crashes")
    promoter = make_promoter(cluster)
    promotion = promoter.follow("fence=locks", env={"PGCRANE_FAILPOINT": "promote.before_open_commit:sleep=4000"})
    promotion.tell()
    wait_for_locks(promoter)
    wait_until(promotion.at_failpoint, what="OPEN")
    cluster.restart("immediate")
    promoter.source.sql("INSERT INTO t VALUES (1, 'late')")
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1].get("reason") == "PROMOTE_UNDONE", promotion.lines
    assert_as_before(promoter)


# --- tables made under the fence ---


@contextlib.contextmanager
def waiting_for_locks(promoter, promotion):
    """The fence waits for t, which somebody has."""
    with contextlib.closing(promoter.source.connect(autocommit=False)) as conn:
        conn.execute("LOCK t IN ROW EXCLUSIVE MODE")
        promotion.tell()
        wait_until(lambda: promoter.source.cluster.sql(
            "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'pgcrane %% fence'"
            " AND wait_event_type = 'Lock'", (promoter.source.name,)), what="the fence to wait for t")
        yield conn


def assert_kept_out(promoter, table):
    with pytest.raises(psycopg.errors.LockNotAvailable):
        promoter.source.sql(f"SET lock_timeout = '300ms'; INSERT INTO {table} VALUES (1)")


def test_a_table_made_while_locks_are_waited_for(promoter):
    promotion = promoter.follow("fence=locks", env={"PGCRANE_FAILPOINT": "promote.after_proof:sleep=5000"})
    with waiting_for_locks(promoter, promotion) as conn:
        promoter.both("CREATE TABLE fresh (id int PRIMARY KEY)")
        conn.rollback()
    wait_until(promotion.at_failpoint, what="the proof")
    assert_kept_out(promoter, "fresh")
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1].get("proven"), promotion.lines


def test_a_table_made_by_a_transaction_that_is_waited_for(promoter):
    """It locks nothing of ours, and its table is in no list until it commits."""
    promotion = promoter.follow("fence=locks", env={"PGCRANE_FAILPOINT": "promote.after_proof:sleep=5000"})
    with contextlib.closing(promoter.source.connect(autocommit=False)) as conn:
        conn.execute("CREATE TABLE fresh (id int PRIMARY KEY)")
        promotion.tell()
        wait_for_locks(promoter)
        promoter.dest.sql("CREATE TABLE fresh (id int PRIMARY KEY)")
        conn.commit()
    wait_until(promotion.at_failpoint, what="the proof")
    assert_kept_out(promoter, "fresh")
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1].get("proven"), promotion.lines


@pytest.mark.parametrize("point,proven", [("promote.before_open_commit", None), ("promote.open_asked", False)])
def test_a_table_made_after_the_comparison(promoter, point, proven):
    """No lock keeps anybody from making one: it is looked for as long as it can be undone, and once more."""
    promotion = promoter.follow("fence=locks", env={"PGCRANE_FAILPOINT": f"{point}:sleep=5000:1"})
    promotion.tell()
    wait_until(promotion.at_failpoint, what="OPEN")
    promoter.source.sql("CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh VALUES (1)")
    wait_until(promotion.answers, what="the promote")
    answer = promotion.answers()[-1]
    assert answer.get("proven") is proven, promotion.lines
    text = answer["error"] if proven is None else " ".join(answer["notes"])
    assert "a table was made on the source" in text
    assert is_opened(promoter.dest) == (proven is False)


@pytest.mark.parametrize("statement,table,options", [("SELECT * FROM t FOR UPDATE", "public.t", ()),
                                                     ("SELECT lo_from_bytea(0, 'here')", "pg_largeobject", ("large-objects=yes",))])
def test_who_is_in_the_way_is_named(promoter, statement, table, options):
    """Rows that are only locked keep the fence out, too, and so do large objects; a number that was taken does not."""
    promotion = promoter.follow("fence=locks", "fence-timeout=1", *options)
    with contextlib.closing(promoter.source.connect(autocommit=False)) as conn:
        conn.execute(f"SELECT nextval('numbers'); {statement}")
        error = promotion.fails("PROMOTE_UNDONE")
        assert f"session {conn.info.backend_pid} " in error and f" on {table}" in error and "numbers" not in error, error
    assert_as_before(promoter)


def test_locks_that_took_long_leave_time_to_drain(promoter):
    """What --fence-timeout has left is used up by somebody else; the destination needs a moment all the same."""
    promotion = promoter.follow("fence=locks", "fence-timeout=2", "lag-limit=5", env={"PGCRANE_FAILPOINT": "follow.before_commit:sleep=1200"})
    for _ in range(4):  # on a busy machine the locks, or the drain, may really come too late; without that moment all would
        told = len(promotion.answers())
        with waiting_for_locks(promoter, promotion) as conn:
            time.sleep(1.2)
            conn.rollback()
        wait_until(lambda told=told: len(promotion.answers()) > told, what="the promote")
        if promotion.answers()[-1].get("proven"):
            break
    assert promotion.answers()[-1].get("proven"), promotion.lines


# --- what no lock holds ---


@pytest.mark.parametrize("fence", ["locks", "full"])
def test_a_large_object_made_late_by_a_role_that_cannot_lock(promoter, fence):
    """No superuser: nobody may lock the catalogue, and before 16 a read-only session may write to it. So they are compared
    again, after the proof's marker."""
    source = promoter.source
    make_mover(promoter)
    source.cluster.sql(f"ALTER DATABASE {source.name} OWNER TO mover")
    promotion = promoter.follow("large-objects=yes", "lists=yes", f"fence={fence}", user="mover",
                                env={"PGCRANE_FAILPOINT": "promote.after_rest:sleep=5000:1"})
    promotion.tell()
    wait_until(promotion.at_failpoint, what="the copy of large objects")
    with contextlib.closing(source.connect(user="mover")) as conn:
        conn.execute("SET default_transaction_read_only = off")
        conn.execute("SELECT lo_from_bytea(0, 'late')")
    wait_until(promotion.answers, what="the promote")
    answer = promotion.answers()[-1]
    assert answer.get("proven") and answer["large_objects"] == 1, promotion.lines
    assert objects(source) == objects(promoter.dest) != []
    assert any("large objects could not be locked" in note for note in answer["notes"])


def test_large_objects_that_never_rest(promoter):
    source = promoter.source
    make_mover(promoter)
    source.cluster.sql(f"ALTER DATABASE {source.name} OWNER TO mover")
    promotion = promoter.follow("large-objects=yes", "lists=yes", "fence=locks", user="mover",
                                env={"PGCRANE_FAILPOINT": "large_objects.before_mend_commit:sleep=1000"})
    with contextlib.closing(source.connect(user="mover")) as conn:
        promotion.tell()
        while not promotion.answers():
            conn.execute("SELECT lo_from_bytea(0, 'one more'), pg_sleep(0.05)")
    answer = promotion.answers()[-1]
    assert answer.get("reason") == "PROMOTE_UNDONE" and "written to under the fence" in answer["error"], promotion.lines


@pytest.mark.parametrize("point", ["promote.after_rest", "promote.after_proof"])
def test_numbers_taken_late_are_not_given_again(promoter, point):
    """No lock holds a sequence: with locks, nextval() goes on. It is read once more, just before the destination opens."""
    promotion = promoter.follow("fence=locks", env={"PGCRANE_FAILPOINT": f"{point}:sleep=5000:1"})
    promotion.tell()
    wait_until(promotion.at_failpoint, what="the fail point")
    assert promoter.source.sql("SELECT max(nextval('numbers')) FROM generate_series(1, 42)") == [(42,)]
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1].get("proven"), promotion.lines
    assert promoter.dest.sql("SELECT nextval('numbers')") == [(43,)]
    assert any("numbers taken there from now on" in note for note in promotion.answers()[-1]["notes"])


# --- differences ---


@pytest.mark.parametrize("change", ["ALTER TABLE t ALTER v SET DEFAULT 'x'", "CREATE INDEX ON t (v)",
                                    "ALTER TABLE t ADD CONSTRAINT positive CHECK (id > 0)"])
def test_a_difference_that_comes_before_the_fence(promoter, change):
    """After the first comparison: the one under the fence is exact."""
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.after_prepare:sleep=5000:1"})
    promotion.tell()
    wait_until(promotion.at_failpoint, what="the end of PREPARE")
    promoter.source.sql(change)
    wait_until(promotion.answers, what="the promote")
    answer = promotion.answers()[-1]
    assert answer.get("reason") == "PROMOTE_REFUSED" and "called off in step COMPARE" in answer["error"], promotion.lines
    assert_as_before(promoter)
    promoter.dest.sql(change)
    assert promotion.opens()["proven"]


@pytest.mark.parametrize("change,step", [("CREATE TYPE kind AS ENUM ('a', 'b')", "COMPARE"),
                                         ("CREATE TABLE kind (id int PRIMARY KEY)", "COPY_REST")])
@pytest.mark.parametrize("fence", ["locks", "full"])
def test_a_difference_that_comes_under_the_fence(promoter, fence, change, step):
    """The locks keep what is locked as it is: ALTER waits. What is new they cannot keep out."""
    promotion = promoter.follow(f"fence={fence}", env={"PGCRANE_FAILPOINT": "promote.after_marker:sleep=5000:1"})
    promotion.tell()
    wait_until(promotion.at_failpoint, what="the end of FENCE")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        promoter.source.sql("BEGIN READ WRITE; SET lock_timeout = '200ms'; ALTER TABLE t ALTER v SET DEFAULT 'x'")
    promoter.source.sql(f"BEGIN READ WRITE; {change}; COMMIT")
    wait_until(promotion.answers, what="the promote")
    answer = promotion.answers()[-1]
    assert answer.get("reason") == "PROMOTE_REFUSED" and f"called off in step {step}" in answer["error"], promotion.lines
    assert "kind" in answer["error"]
    assert_as_before(promoter)


# --- servers that do not answer ---


@contextlib.contextmanager
def no_standby(cluster):
    """Every COMMIT of it waits for a standby that is not there."""
    cluster.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    cluster.reload()
    cluster.sql("CHECKPOINT")  # behind it the checkpointer has read it, too, whom commits ask
    try:
        yield
    finally:
        cluster.sql("ALTER SYSTEM RESET synchronous_standby_names")
        cluster.reload()


def is_stalled(cluster, count=1):
    return cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")[0][0] >= count


class Stalled(threading.Thread):
    """An INSERT whose COMMIT is written, and waits."""

    def __init__(self, database):
        super().__init__()
        self.database = database
        self.start()
        wait_until(lambda: is_stalled(database.cluster), what="the stall")

    def run(self):
        with contextlib.suppress(psycopg.Error), contextlib.closing(self.database.connect()) as conn:
            conn.execute("INSERT INTO t VALUES (1, 'stalled')")


def test_a_stalled_commit_of_the_source(own_cluster, make_promoter):
    """full ends the session, and its row is there; it lies before the marker."""
    cluster = own_cluster("stalled")
    promoter = make_promoter(cluster)
    promotion = promoter.follow()
    with no_standby(cluster):
        stalled = Stalled(promoter.source)
        answer = promotion.opens()
    stalled.join()
    assert answer["proven"]
    assert rows(promoter.dest) == rows(promoter.source) == [(1, "stalled")]


def test_a_stalled_commit_is_named(own_cluster, make_promoter):
    """locks ends nobody: it says who is in the way, and what for."""
    cluster = own_cluster("stalled2")
    promoter = make_promoter(cluster)
    promotion = promoter.follow("fence=locks", "fence-timeout=1")
    with no_standby(cluster):
        stalled = Stalled(promoter.source)
        error = promotion.fails("PROMOTE_UNDONE")
    stalled.join()
    assert "harness" in error and "SyncRep" in error and "on public.t" in error
    assert_as_before(promoter)
    assert promotion.opens()["proven"]
    assert rows(promoter.dest) == [(1, "stalled")]


def test_a_destination_that_does_not_commit(own_cluster, make_promoter, source_of):
    """COPY_REST's COMMIT waits for a standby of the destination: the source is not kept closed for that."""
    cluster = own_cluster("stalled3")
    promoter = make_promoter(source_of(15), cluster.createdb())
    promotion = promoter.follow("fence-timeout=8", env={"PGCRANE_FAILPOINT": "promote.after_drain:sleep=5000:1"})
    promotion.tell()
    wait_until(promotion.at_failpoint, what="the end of DRAIN")
    with no_standby(cluster):
        wait_until(promotion.answers, what="the promote")
        answer = promotion.answers()[-1]
        assert answer.get("reason") == "PROMOTE_UNDONE", promotion.lines
        assert "called off in step COPY_REST" in answer["error"] and "--fence-timeout" in answer["error"]
        assert "standby" in answer["remedy"]
        assert_as_before(promoter)
    assert promotion.opens()["proven"]


def test_a_destination_that_does_not_confirm_that_it_is_open(own_cluster, make_promoter, source_of):
    """OPEN's COMMIT cannot be taken back: it is asked for, and told."""
    cluster = own_cluster("stalled4")
    promoter = make_promoter(source_of(15), cluster.createdb())
    promotion = promoter.follow("fence=locks", env={"PGCRANE_FAILPOINT": "promote.before_open_commit:sleep=1000:1"})
    promotion.tell()
    wait_until(promotion.at_failpoint, what="OPEN")
    with no_standby(cluster):
        wait_until(promotion.answers, 60, "the promote")
        answer = promotion.answers()[-1]
        assert answer.get("opened") and answer["proven"], promotion.lines
        assert is_opened(promoter.dest) and is_proven(promoter.dest)
        assert any("standby" in note for note in answer["notes"])


def test_a_source_that_says_nothing(promoter):
    """Its session stands still at the question before OPEN: given up, and nothing is concluded from silence."""
    promotion = promoter.follow("fence=locks", "fence-timeout=6",
                                env={"PGCRANE_FAILPOINT": "promote.before_open_commit:sleep=4000:1"})
    promotion.tell()
    wait_until(promotion.at_failpoint, what="OPEN")
    (pid,), = promoter.source.cluster.sql("SELECT pid FROM pg_stat_activity WHERE datname = %s"
                                          " AND application_name LIKE 'pgcrane %% fence'", (promoter.source.name,))
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: promotion.answers() or "has fallen" in "".join(promotion.logged), what="the promote")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1].get("reason") == "PROMOTE_UNDONE", promotion.lines
    assert_as_before(promoter)


# --- settings that go before ours ---


@pytest.mark.parametrize("scope", ["", " IN DATABASE {name}"], ids=["role", "role-in-database"])
def test_a_setting_that_goes_before_the_fences_is_told(promoter, scope):
    """It beats the database's: "the source stays read-only" would not be true for that role."""
    cluster, words = promoter.source.cluster, f"ALTER ROLE writer{scope}".format(name=promoter.source.name)
    cluster.sql("CREATE ROLE writer LOGIN; CREATE ROLE reader LOGIN")
    try:
        cluster.sql(f"{words} SET default_transaction_read_only = 'no';"
                    " ALTER ROLE reader SET default_transaction_read_only = on")
        notes = promoter.follow().opens()["notes"]
        assert [note for note in notes if f"{words} RESET default_transaction_read_only" in note]
        assert not any("reader" in note for note in notes)
    finally:
        cluster.sql(f"{words} RESET ALL; DROP ROLE writer; DROP ROLE reader")
