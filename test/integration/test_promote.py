"""The promote on real servers, through test/support/promote_probe.c: the fence and what tries to pass it, the way back
from each step, what no stream carries."""
import contextlib
import os
import signal
import threading

import psycopg
import pytest

from support.cluster import wait_until
from support.promote import (JOB, KILLED, any_promoter, assert_as_before, fence_lines, is_opened,  # noqa: F401
                             is_read_only, make_mover, make_promoter, objects, promoter, rows, source_of,
                             wait_for_locks, wait_for_setting)

pytestmark = pytest.mark.turns(3)

# --- writers ---


class Writer(threading.Thread):
    """Inserts 1, 2, 3, ... each in a transaction of its own, until it fails; `committed` are those it was told of."""

    def __init__(self, database, first=1, setup="", reconnect=False):
        super().__init__()
        self.database, self.first, self.setup, self.reconnect = database, first, setup, reconnect
        self.committed, self.errors, self.ended = [], [], threading.Event()
        self.start()

    def run(self):
        number = self.first
        while not self.ended.is_set():
            try:
                with contextlib.closing(self.database.connect()) as conn:
                    conn.execute(self.setup or "SELECT 1")
                    while not self.ended.is_set():
                        conn.execute("INSERT INTO t VALUES (%s, 'w')", (number,))
                        self.committed.append(number)
                        number += 1
            except psycopg.Error as e:
                self.errors.append(type(e).__name__)
                number += 1  # not known whether it was committed
                if not self.reconnect:
                    return

    def stop(self):
        self.ended.set()
        self.join()


def test_nothing_is_lost_under_writers(any_promoter):
    """Writers of all sorts until the fence: what they were told is committed is on the destination, and what either side
    has, the other has, too."""
    promotion = any_promoter.follow()
    source, dest = any_promoter.source, any_promoter.dest
    writers = [Writer(source, 1_000_000), Writer(source, 2_000_000, reconnect=True),
               Writer(source, 3_000_000, "SET synchronous_commit = off"),
               Writer(source, 4_000_000, "SET default_transaction_read_only = off", reconnect=True)]
    try:
        wait_until(lambda: all(len(w.committed) > 50 for w in writers), what="writers to write")
        answer = promotion.opens()
    finally:
        # One of them turns the setting off: it waits for a lock, or writes after the locks are gone.
        for writer in writers:
            writer.ended.set()
    for writer in writers:
        writer.join()
    there = {row[0] for row in rows(dest)}
    for writer in writers[:3]:
        assert writer.errors
        assert set(writer.committed) <= there
    assert there <= {row[0] for row in rows(source)}
    assert answer["proven"]
    assert answer["outage_us"] < 60_000_000
    assert is_read_only(source) and is_opened(dest) and not fence_lines(dest)
    assert promotion.close() == 0


def test_a_session_that_turns_the_setting_off_is_kept_out(promoter):
    """F8: default_transaction_read_only = off, and BEGIN READ WRITE, pass the setting. The lock stops them: until the
    destination is open, nothing new is on the source."""
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.after_proof:sleep=5000"})
    promoter.source.sql("INSERT INTO t VALUES (1, 'before')")
    promotion.tell()
    wait_for_locks(promoter)
    with contextlib.closing(promoter.source.connect()) as conn:
        conn.execute("SET default_transaction_read_only = off")
        try:
            conn.execute("INSERT INTO t VALUES (2, 'late')")
        except psycopg.Error:
            pass  # whoever waits when the fence goes is ended
        else:
            pytest.fail("a session wrote through the fence")
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1].get("proven"), promotion.lines
    assert rows(promoter.dest) == rows(promoter.source) == [(1, "before")]


def test_prepared_transactions_are_refused(any_promoter):
    """F8: COMMIT PREPARED passes the setting."""
    promotion = any_promoter.follow()
    any_promoter.source.sql("BEGIN; INSERT INTO t VALUES (1, 'p'); PREPARE TRANSACTION 'it''s'")
    error = promotion.fails("PROMOTE_REFUSED")
    assert "COMMIT PREPARED 'it''s'" in error and "ROLLBACK PREPARED 'it''s'" in error
    any_promoter.source.sql("COMMIT PREPARED 'it''s'")
    assert_as_before(any_promoter)
    assert promotion.opens()["proven"]
    assert rows(any_promoter.dest) == [(1, "p")]


def test_prepared_while_the_fence_goes_up(promoter):
    promotion = promoter.follow("fence-timeout=10", env={"PGCRANE_FAILPOINT": "promote.after_fence_setting:sleep=4000"})
    promotion.tell()
    wait_for_setting(promoter)
    promoter.source.sql("BEGIN READ WRITE; INSERT INTO t VALUES (1, 'p');"
                        " PREPARE TRANSACTION 'late'")
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1]["reason"] == "PROMOTE_REFUSED"
    assert "'late'" in promotion.answers()[-1]["error"]
    promoter.source.sql("ROLLBACK PREPARED 'late'")
    assert_as_before(promoter)


def test_a_long_transaction_is_ended_or_waited_for(promoter):
    """full ends it; locks waits, and gives up with who is in the way."""
    promotion = promoter.follow("fence=locks", "fence-timeout=1")
    with contextlib.closing(promoter.source.connect()) as conn:
        conn.execute("BEGIN; INSERT INTO t VALUES (1, 'long')")
        error = promotion.fails("PROMOTE_UNDONE")
        assert "harness" in error and "on public.t" in error
        conn.execute("COMMIT")
    assert_as_before(promoter)
    assert promotion.opens()["proven"]
    assert (1, "long") in rows(promoter.dest)


def test_full_ends_a_transaction_that_sleeps(promoter):
    promotion = promoter.follow()
    with contextlib.closing(promoter.source.connect()) as conn:
        conn.execute("BEGIN; INSERT INTO t VALUES (1, 'never')")
        assert promotion.opens()["proven"]
        with pytest.raises(psycopg.OperationalError):
            conn.execute("COMMIT")
    assert rows(promoter.dest) == []


def test_locks_leave_sessions_alone(promoter):
    promotion = promoter.follow("fence=locks")
    with contextlib.closing(promoter.source.connect()) as conn:
        conn.execute("INSERT INTO t VALUES (1, 'a')")
        answer = promotion.opens()
        conn.execute("INSERT INTO t VALUES (2, 'goes nowhere')")  # the same session
    assert answer["proven"] and not is_read_only(promoter.source)
    assert rows(promoter.dest) == [(1, "a")]


def test_without_a_fence_it_is_unproven(promoter):
    promotion = promoter.follow("fence=none")
    promoter.source.sql("INSERT INTO t VALUES (1, 'a')")
    answer = promotion.opens()
    assert not answer["proven"] and any("unproven" in note for note in answer["notes"])
    assert rows(promoter.dest) == [(1, "a")]


# --- large objects, sequences, tables that no stream carries ---


def test_large_objects_are_made_the_same(any_promoter):
    """F8: large objects pass a read-only session before 16. New, changed, emptied and removed ones; more than a piece."""
    source, dest = any_promoter.source, any_promoter.dest
    base = source.sql("SELECT max(oid::bigint) FROM pg_class")[0][0] + 1_000_000
    promotion = any_promoter.follow("large-objects=yes")
    for database in (source, dest):
        for i in range(4):
            database.sql("SELECT lo_from_bytea(%s::bigint::oid, %s)", (base + i, b"object %d" % i))
    dest.sql("INSERT INTO pgcrane.large_object SELECT oid FROM pg_largeobject_metadata")
    dest.sql("SELECT lo_from_bytea(%s::bigint::oid, 'somebody else''s')", (base + 50,))
    source.sql("SELECT lo_put(%s::bigint::oid, 3, 'XYZ')", (base,))
    source.sql("SELECT lo_unlink(%s::bigint::oid)", (base + 1,))
    source.sql("SELECT lo_from_bytea(%s::bigint::oid, decode(repeat('ab', 20000000), 'hex'))", (base + 7,))
    source.sql("SELECT lo_create(%s::bigint::oid)", (base + 8,))
    answer = promotion.opens()
    there = objects(dest)
    assert [row for row in there if row[0] != str(base + 50)] == objects(source)
    assert (str(base + 50), b"somebody else's") in there
    assert answer["proven"]


def test_a_large_object_made_under_the_fence(promoter):
    """Superuser: the catalogue is locked, so it waits, and is ended with the fence."""
    promotion = promoter.follow("large-objects=yes", env={"PGCRANE_FAILPOINT": "promote.after_rest:sleep=5000"})
    promotion.tell()
    wait_for_locks(promoter)
    with pytest.raises(psycopg.Error):
        promoter.source.sql("SELECT lo_from_bytea(0, 'late')")
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1].get("proven"), promotion.lines
    assert objects(promoter.source) == objects(promoter.dest) == []


def test_sequences_are_exact(promoter):
    promotion = promoter.follow()
    promoter.source.sql("SELECT nextval('numbers') FROM generate_series(1, 42)")
    promotion.opens()
    assert promoter.dest.sql("SELECT nextval('numbers')") == [(43,)]


def test_tables_that_no_stream_carries(any_promoter):
    """F7: unlogged tables, and updates of tables without identity, are in no stream."""
    source, dest = any_promoter.source, any_promoter.dest
    promotion = any_promoter.follow()
    source.sql("INSERT INTO keyless SELECT generate_series(1, 100)")
    source.sql("UPDATE keyless SET v = -v WHERE v % 3 = 0; DELETE FROM keyless WHERE v = 7")
    source.sql("INSERT INTO unlogged SELECT i, i FROM generate_series(1, 50) AS i")
    answer = promotion.opens()
    assert answer["tables_copied"] == 2 and answer["proven"]
    assert rows(dest, "keyless") == rows(source, "keyless")
    assert rows(dest, "unlogged") == rows(source, "unlogged")


def test_equal_tables_are_not_copied_again(promoter):
    promotion = promoter.follow()
    promoter.source.sql("INSERT INTO keyless SELECT generate_series(1, 100)")
    answer = promotion.opens()
    assert answer["tables_copied"] == 0
    assert rows(promoter.dest, "keyless") == rows(promoter.source, "keyless")


@pytest.mark.parametrize("encoding", ("LATIN1", "SQL_ASCII"))
def test_equal_tables_of_two_encodings_are_not_copied_again(make_promoter, source_of, encoding):
    promoter = make_promoter(source_of(15), options=f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    promoter.both("CREATE TABLE words (w text)")
    promotion = promoter.follow()
    promoter.source.sql("SET client_encoding = 'UTF8'; INSERT INTO words VALUES (U&'\\00e9' || 'tude')" if encoding == "LATIN1"
                        else "INSERT INTO words VALUES (E'\\xc3\\xa9tude')")
    assert promotion.opens()["tables_copied"] == 0
    assert rows(promoter.dest, "words") == [("\u00e9tude",)]


def test_large_tables_that_differ_are_refused_early(promoter):
    promotion = promoter.follow("recopy-limit=10kB")
    promoter.source.sql("INSERT INTO keyless SELECT generate_series(1, 10000); UPDATE keyless SET v = 0 WHERE v = 1")
    error = promotion.fails("PROMOTE_REFUSED")
    assert "keyless" in error and "--recopy-limit" in error and "REPLICA IDENTITY FULL" in error
    assert_as_before(promoter)


def test_a_referenced_table_is_copied_again(promoter):
    promoter.both("ALTER TABLE keyless ADD UNIQUE (v); CREATE TABLE child (id int PRIMARY KEY,"
                  " v int REFERENCES keyless (v)); INSERT INTO keyless VALUES (1), (2); INSERT INTO child VALUES (1, 1)")
    promotion = promoter.follow()
    promoter.source.sql("UPDATE keyless SET v = 5 WHERE v = 2")
    assert promotion.opens()["tables_copied"] == 1
    assert rows(promoter.dest, "keyless") == [(1,), (5,)] and rows(promoter.dest, "child") == [(1, 1)]


# --- differences ---


def test_a_difference_of_catalogues_is_refused(any_promoter):
    promotion = any_promoter.follow()
    any_promoter.source.sql("ALTER TABLE t ADD COLUMN added int; CREATE TABLE fresh (id int PRIMARY KEY)")
    error = promotion.fails("PROMOTE_REFUSED")
    assert "added" in error and "fresh" in error
    assert_as_before(any_promoter)


# --- the way back ---

UNDO_POINTS = ("promote.after_lag", "promote.after_prepare", "promote.after_fence_journal",
               "promote.after_fence_setting", "promote.after_lock", "promote.after_marker", "promote.after_drain",
               "promote.after_rest", "promote.after_compare", "promote.after_proof", "promote.before_open_commit")


@pytest.mark.parametrize("point", UNDO_POINTS)
def test_undone_at_each_step(promoter, point):
    """A failure anywhere before OPEN's COMMIT: the source as before, following goes on, the next promote succeeds."""
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": f"{point}:error:1"})
    promoter.source.sql("INSERT INTO t VALUES (1, 'a')")
    error = promotion.fails("PROMOTE_UNDONE")
    assert "called off in step" in error
    assert_as_before(promoter)
    promoter.source.sql("INSERT INTO t VALUES (2, 'b')")
    assert promotion.opens()["proven"]
    assert rows(promoter.dest) == rows(promoter.source)


@pytest.mark.parametrize("point", UNDO_POINTS)
def test_killed_at_each_step(promoter, point):
    """kill -9 before OPEN's COMMIT: the next run makes the source writable again. Twice changes nothing."""
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": f"{point}:kill"})
    promoter.source.sql("INSERT INTO t VALUES (1, 'a')")
    promotion.tell()
    assert promotion.end() == KILLED
    began = UNDO_POINTS.index(point) >= UNDO_POINTS.index("promote.after_fence_journal")
    assert bool(fence_lines(promoter.dest)) == began
    assert promoter.undo() == began
    assert_as_before(promoter)
    assert promoter.undo() is False
    assert_as_before(promoter)


@pytest.mark.parametrize("point", ["promote.after_open_commit", "promote.after_release"])
def test_killed_after_open(promoter, point):
    """From the COMMIT on there is no way back: the source stays closed."""
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": f"{point}:kill"})
    promoter.source.sql("INSERT INTO t VALUES (1, 'a')")
    promotion.tell()
    assert promotion.end() == KILLED
    assert is_opened(promoter.dest) and is_read_only(promoter.source)
    assert promoter.undo() is False
    assert is_read_only(promoter.source)
    assert rows(promoter.dest) == [(1, "a")]


def test_a_lost_reply_of_the_commit(own_cluster, make_promoter, source_of):
    """The destination commits, waits for its standby, and the session dies: a new one asks. The fence stands meanwhile,
    and nothing is undone."""
    cluster = own_cluster("lost")
    promoter = make_promoter(source_of(15), cluster.createdb())
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.before_open_commit:sleep=6000"})
    promoter.source.sql("INSERT INTO t VALUES (1, 'a')")
    promotion.tell()
    wait_for_locks(promoter)
    wait_until(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%source_object WHERE kind%'"
                                   " AND state = 'idle in transaction'"), what="OPEN")
    cluster.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    cluster.reload()
    wait_until(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), what="the stall")
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    cluster.sql("ALTER SYSTEM RESET synchronous_standby_names")
    cluster.reload()
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1].get("proven"), promotion.lines
    assert is_opened(promoter.dest) and is_read_only(promoter.source)


def test_a_session_lost_before_the_commit(own_cluster, make_promoter, source_of):
    """The same, and it was not committed: undone."""
    cluster = own_cluster("lost2")
    promoter = make_promoter(source_of(15), cluster.createdb())
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.before_open_commit:sleep=5000"})
    promotion.tell()
    wait_until(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%source_object WHERE kind%'"
                                   " AND state = 'idle in transaction'"), what="OPEN")
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%source_object WHERE kind%'"
                " AND pid <> pg_backend_pid()")
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1]["reason"] == "PROMOTE_UNDONE", promotion.lines
    assert_as_before(promoter)


@pytest.mark.parametrize("before", ["off", "on"])
def test_a_setting_of_before_comes_back(promoter, before):
    name = promoter.source.name
    promoter.source.cluster.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {before}')
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.after_marker:error"})
    promotion.fails("PROMOTE_UNDONE")
    assert promoter.source.sql(
        "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE datname = current_database()") == [([f"default_transaction_read_only={before}"],)]


def test_a_killed_run_keeps_what_was_before(promoter):
    """Killed twice under the fence, without an undo between: the first line counts, not our own setting."""
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.after_lock:kill"})
    promotion.tell()
    assert promotion.end() == KILLED
    assert fence_lines(promoter.dest) == [("reset",)] and is_read_only(promoter.source)
    # The slot was read from already, and cannot be adopted: the next probe makes a new one.
    promoter.source.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                        " WHERE database = current_database() AND NOT active")
    promoter.dest.sql("DELETE FROM pgcrane.stream; DELETE FROM pgcrane.position;"
                      " DELETE FROM pgcrane.source_object WHERE kind = 'slot'")
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.after_lock:kill"})
    promotion.tell()
    assert promotion.end() == KILLED
    assert fence_lines(promoter.dest) == [("reset",)]
    assert promoter.undo() is True
    assert_as_before(promoter)


def test_killed_on_the_way_back(promoter):
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.after_marker:kill"})
    promotion.tell()
    assert promotion.end() == KILLED
    undo = promoter.start("undo-only=yes", env={"PGCRANE_FAILPOINT": "promote.after_undo_setting:kill"})
    assert undo.end() == KILLED
    assert fence_lines(promoter.dest) == [("reset",)]  # written before, forgotten after
    assert promoter.undo() is True
    assert_as_before(promoter)


def test_taken_over_under_the_fence(promoter):
    """A worker that hangs with its fence up, and another run that takes over: that one ends the old fence. When the old
    worker wakes up it takes nothing back: it might be the other's fence."""
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.after_lock:sleep=5000"})
    promotion.tell()
    wait_for_locks(promoter)
    os.kill(promotion.process.pid, signal.SIGSTOP)
    try:
        # What a dead machine's keepalives do.
        promoter.dest.cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                                  (promoter.dest.name,))
        assert promoter.undo() is True
        assert_as_before(promoter)
        # The other run promotes.
        promoter.dest.sql("INSERT INTO pgcrane.source_object (kind, name) VALUES ('fence', 'reset')")
        promoter.source.sql(f"ALTER DATABASE {promoter.source.name} SET default_transaction_read_only = on")
    finally:
        os.kill(promotion.process.pid, signal.SIGCONT)
    wait_until(promotion.answers, what="the old worker's end")
    assert "reason" in promotion.answers()[-1], promotion.lines
    assert is_read_only(promoter.source) and fence_lines(promoter.dest) == [("reset",)]


def test_stopped_under_the_fence(promoter):
    """The user's stop: the way back does not obey it."""
    promotion = promoter.follow(env={"PGCRANE_FAILPOINT": "promote.after_lock:sleep=300"})
    promotion.source.sql("INSERT INTO t VALUES (1, 'a')")
    promotion.tell("stop")
    wait_until(promotion.answers, what="the promote")
    assert promotion.answers()[-1]["reason"] == "CANCELLED"
    assert_as_before(promoter)


# --- hooks ---


def test_hooks(promoter, tmp_path):
    log = tmp_path / "hooks"
    log.touch()
    os.chmod(log, 0o666)
    say = f"echo $PGCRANE_STEP $PGCRANE_JOB >> {log}"
    promotion = promoter.follow(f"hook-before={say}", f"hook-after={say}", f"hook-undo={say}",
                                env={"PGCRANE_FAILPOINT": "promote.after_drain:error:1"})
    promotion.fails("PROMOTE_UNDONE")
    assert log.read_text().split() == ["before", JOB, "undo", JOB]
    promotion.opens()
    assert log.read_text().split()[4:] == ["before", JOB, "after", JOB]


def test_a_hook_before_that_fails_calls_it_off(promoter):
    promotion = promoter.follow("hook-before=echo no pooler here; exit 3")
    error = promotion.fails("PROMOTE_UNDONE")
    assert "no pooler here" in error and "status 3" in error
    assert_as_before(promoter)


def test_a_hook_after_that_fails_is_told(promoter):
    answer = promoter.follow("hook-after=exit 1").opens()
    assert answer["proven"] and any("hook after" in note for note in answer["notes"])


# --- dry run, privileges ---


def test_dry_run_stops_no_write(promoter):
    promotion = promoter.follow("dry-run=true")
    with contextlib.closing(promoter.source.connect()) as conn:
        conn.execute("BEGIN; INSERT INTO t VALUES (1, 'open')")
        answer = promotion.promote()
        conn.execute("COMMIT")
    assert answer["opened"] is False and 0 < answer["outage_us"] < 60_000_000
    assert_as_before(promoter)


def test_what_a_role_may_not_do_is_named(any_promoter):
    """Not the owner of the database, nor allowed to end sessions, nor to lock a table: refused before anything is done,
    with what to grant; and done with just that."""
    source = any_promoter.source
    make_mover(any_promoter)
    promotion = any_promoter.follow("lists=yes", user="mover")
    any_promoter.both("CREATE TABLE anothers (id int PRIMARY KEY)")
    with contextlib.closing(source.connect(user="stranger")):
        error = promotion.fails("PROMOTE_REFUSED")
        for words in ("ALTER DATABASE", "OWNER TO", "GRANT pg_signal_backend TO", "GRANT UPDATE ON",
                      "--fence locks"):
            assert words in error
    assert_as_before(any_promoter)


def test_a_role_with_just_enough(any_promoter):
    source = any_promoter.source
    make_mover(any_promoter)
    source.cluster.sql(f"ALTER DATABASE {source.name} OWNER TO mover; GRANT pg_signal_backend TO mover")
    try:
        promotion = any_promoter.follow("lists=yes", user="mover")
        source.sql("SET ROLE mover; INSERT INTO t VALUES (1, 'a')")
        with contextlib.closing(source.connect(user="stranger")) as conn:
            assert promotion.opens()["proven"]
            with pytest.raises(psycopg.Error):
                conn.execute("SELECT 1")
    finally:
        source.cluster.sql("REVOKE pg_signal_backend FROM mover")
    assert rows(any_promoter.dest) == [(1, "a")]
    assert is_read_only(source)


def test_a_superusers_session_is_named(promoter):
    source = promoter.source
    make_mover(promoter)
    source.cluster.sql(f"ALTER DATABASE {source.name} OWNER TO mover")
    promotion = promoter.follow("lists=yes", user="mover")
    with contextlib.closing(source.connect()):
        assert "superuser" in promotion.fails("PROMOTE_REFUSED")
    assert_as_before(promoter)
