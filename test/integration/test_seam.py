"""The seam between snapshot and stream on real servers, driven step by step through test/support/seam_probe.c."""
import subprocess
import threading

import psycopg
import pytest

from support.cluster import wait_until
from support.seam import (ALL, KEYS, KILLED, SLOT, assert_nothing_left, count, journal, lsn, publications, slots, stream)
from support.seam import any_probe, make_probe, probe, source_of  # noqa: F401 (fixtures)

pytestmark = pytest.mark.turns(3)

# --- barrier ---


def picture(database):
    return database.sql("SELECT txid_current_snapshot()::text")[0][0]


def snapshot_xmax(text):
    return int(text.split(":")[1])


def test_barrier_waits_for_a_stalled_commit(own_cluster, make_probe):
    """F1: a commit stalled on a standby has its record in WAL before the slot's start, so the stream lacks it; and it is
    the newest of all, so that no list of running transactions has it."""
    cluster = own_cluster("stalled")
    probe = make_probe(cluster)
    source = probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    probe("publish")
    cluster.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    cluster.reload()
    cluster.sql("CHECKPOINT")  # behind it the checkpointer has read it, too, whom commits ask
    writer = threading.Thread(target=source.sql, args=("INSERT INTO t VALUES (1)",))
    writer.start()
    try:
        wait_until(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), what="the stall")
        # The rule that loses: everything that the list of the moment names has ended.
        before = picture(source)
        assert before.endswith(":"), "somebody else runs: the experiment shows nothing"
        run = probe.start("slot", "barrier", "marker=seam")
        # The slot may wait for it or not: both are right. Passing the barrier is not.
        wait_until(lambda: run.saw("blocked", "SyncRep") or run.has_ended(), what="the one who is waited for")
        assert not run.has_ended() and not run.saw("done", "barrier"), run.lines
        assert not source.sql("SELECT * FROM t")  # what a snapshot now would copy
        assert snapshot_xmax(picture(source)) >= snapshot_xmax(before)
    finally:
        cluster.sql("ALTER SYSTEM RESET synchronous_standby_names")
        cluster.reload()
        writer.join()
    assert run.end() == 0, run.lines
    assert source.sql("SELECT * FROM t") == [(1,)]


def test_barrier_alone_waits_for_a_stalled_commit(own_cluster, make_probe):
    """The same without a slot before it: that one may wait by itself, and the check of it commits something newer, after
    which every list has the stalled one. Nothing of ours itself waits for the standby."""
    cluster = own_cluster("stalled2")
    probe = make_probe(cluster)
    source = probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    cluster.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    cluster.reload()
    cluster.sql("CHECKPOINT")  # behind it the checkpointer has read it, too, whom commits ask
    probe("publish", "slot", "barrier", "marker=x", "remove")
    writer = threading.Thread(target=source.sql, args=("INSERT INTO t VALUES (1)",))
    writer.start()
    try:
        wait_until(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), what="the stall")
        run = probe.start("barrier")
        wait_until(lambda: run.saw("blocked", "SyncRep") or run.has_ended(), what="the one who is waited for")
        assert not run.has_ended(), run.lines
        assert not source.sql("SELECT * FROM t")
    finally:
        cluster.sql("ALTER SYSTEM RESET synchronous_standby_names")
        cluster.reload()
        writer.join()
    assert run.end() == 0, run.lines
    assert source.sql("SELECT * FROM t") == [(1,)]


def test_barrier_does_not_wait_for_later_ones(any_probe):
    """New transactions keep coming: those that began after the barrier are not waited for."""
    source = any_probe.source
    source.sql("CREATE TABLE t (id int)")
    with source.connect(autocommit=False) as old, source.connect(autocommit=False) as young:
        old.execute("INSERT INTO t VALUES (1)")
        run = any_probe.start("barrier")
        wait_until(lambda: run.saw("blocked", f"session {old.info.backend_pid} "), what="the one who is waited for")
        young.execute("INSERT INTO t VALUES (2)")
        old.commit()
        assert run.end() == 0, run.lines
        assert not run.saw("blocked", f"session {young.info.backend_pid} ")
        assert source.sql("SELECT id FROM t") == [(1,)]


@pytest.mark.parametrize("steps", (("barrier",), ("publish", "slot")), ids=("barrier", "slot"))
def test_orphan_prepared_transaction(steps, any_probe):
    """Of another database even: it blocks for ever, and is named."""
    cluster = any_probe.source.cluster
    other = cluster.createdb()
    try:
        other.sql("CREATE TABLE t (id int)")
        with other.connect(autocommit=False) as conn:
            conn.execute("INSERT INTO t VALUES (1)")
            conn.execute("PREPARE TRANSACTION 'an orphan''s'")
            conn.commit()
        run = any_probe.start(*steps)
        wait_until(lambda: run.saw("blocked", "an orphan''s"), what="the prepared transaction to be named")
        assert run.saw("blocked", other.name) and not run.has_ended()
        other.sql("ROLLBACK PREPARED 'an orphan''s'")
        assert run.end() == 0, run.lines
    finally:
        other.drop()


def test_many_subtransactions(probe):
    """More than the 64 that a session lists: its xids are found through the parent."""
    source = probe.source
    source.sql("CREATE TABLE t (id int)")
    with source.connect(autocommit=False) as conn:
        for i in range(70):
            conn.execute(f"SAVEPOINT s{i}; INSERT INTO t VALUES ({i})")
        run = probe.start("barrier")
        wait_until(lambda: run.saw("blocked", f"session {conn.info.backend_pid} "), what="the one who is waited for")
        conn.commit()
    assert run.end() == 0, run.lines


@pytest.mark.parametrize("steps", (("barrier",), ("publish", "slot")), ids=("barrier", "slot"))
def test_stopped_while_waiting(steps, probe):
    """A stop ends the wait at once and leaves no session waiting on the server, no half-made slot."""
    source = probe.source
    source.sql("CREATE TABLE t (id int)")
    with source.connect(autocommit=False) as conn:
        conn.execute("INSERT INTO t VALUES (1)")
        run = probe.start("stop-at-eof", *steps, stdin=subprocess.PIPE)
        wait_until(lambda: run.saw("blocked", f"session {conn.info.backend_pid} "), what="the one who is waited for")
        run.process.stdin.close()
        assert run.end(10) == 1 and run.values("reason") == ["CANCELLED"], run.lines
        wait_until(lambda: not source.sql("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgcrane%'"),
                   what="our sessions to end")
        assert not slots(source)


# --- marker ---


def test_marker_flushes_what_is_visible(any_probe):
    """F3 and F8: commits with synchronous_commit = off are visible before they are in the stream. After the marker all
    of them are, up to its end; and the marker itself is."""
    source = any_probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    any_probe("publish", "slot", "barrier")
    with source.connect() as writer:
        writer.execute("SET synchronous_commit = off")
        for i in range(30):
            writer.execute("INSERT INTO t VALUES (%s)", (i,))
        end = any_probe("marker=the end").values("end")[0]
    assert source.sql("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", (end,)) == [(True,)]
    assert count(source, "I", upto=end) == 30
    if source.cluster.major >= 14:
        assert any(kind == "M" and b"pgcrane\0" in data and b"the end" in data for kind, data in stream(source, end))


def test_marker_survives_a_crash(own_cluster, make_probe):
    """What was visible at the marker is there after an immediate stop."""
    cluster = own_cluster("crash", config={"wal_writer_delay": "10s", "fsync": "on"})
    probe = make_probe(cluster)
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    with probe.source.connect() as writer:
        writer.execute("SET synchronous_commit = off")
        for i in range(30):
            writer.execute("INSERT INTO t VALUES (%s)", (i,))
        end = probe("marker=x").values("end")[0]
        cluster.kill9()
    cluster.start()
    assert probe.source.sql("SELECT count(*) FROM t") == [(30,)]
    assert cluster.sql("SELECT pg_current_wal_lsn() >= %s::pg_lsn", (end,)) == [(True,)]


def test_marker_in_a_read_only_database(probe):
    probe.source.sql(f'ALTER DATABASE "{probe.source.name}" SET default_transaction_read_only = on')
    probe("publish", "slot", "barrier", "marker=x", "remove")
    assert_nothing_left(probe)


# --- slot ---


def test_slot(any_probe):
    source = any_probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    l0 = any_probe("publish", "slot", "barrier", "marker=x").values("l0")[0]
    [(name, plugin, confirmed)] = slots(source)
    assert (name, plugin) == (SLOT, "pgoutput") and lsn(confirmed) <= lsn(l0), "looking at it has moved its position"
    if source.cluster.major >= 17:
        assert source.sql("SELECT failover FROM pg_replication_slots WHERE slot_name = %s", (SLOT,)) == [(True,)]
    assert journal(any_probe) == {("slot", SLOT, True), ("publication", ALL, True), ("publication", KEYS, True)}
    [(system, timeline)] = any_probe.dest.sql("SELECT system_identifier, timeline FROM pgcrane.stream")
    assert system == str(source.sql("SELECT system_identifier FROM pg_control_system()")[0][0]) and timeline == 1
    source.sql("INSERT INTO t VALUES (1); UPDATE t SET id = 2; DELETE FROM t; TRUNCATE t")
    assert [count(source, kind) for kind in "IUDT"] == [1, 1, 1, 1]
    # Again: the same slot, the same position.
    assert any_probe("publish", "slot").values("l0") == [l0]
    any_probe("remove")
    assert_nothing_left(any_probe)


def test_partition_made_later_is_streamed(any_probe):
    """The root is published, not only the leaves that were there."""
    source = any_probe.source
    source.sql("CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)")
    any_probe("publish-lists", "slot", "barrier")
    source.sql("CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10); INSERT INTO root VALUES (1, 'a');"
               "UPDATE root SET v = 'b'; DELETE FROM root")
    assert [count(source, kind) for kind in "IUD"] == [1, 1, 1]


def test_slot_shows_who_it_waits_for(any_probe):
    source = any_probe.source
    source.sql("CREATE TABLE t (id int)")
    with source.connect(autocommit=False) as conn:
        conn.execute("INSERT INTO t VALUES (1)")
        run = any_probe.start("publish", "slot")
        wait_until(lambda: run.saw("blocked", f"session {conn.info.backend_pid} "), what="the one who is waited for")
        assert run.saw("blocked", "harness") and not run.has_ended()
        conn.commit()
    assert run.end() == 0, run.lines


def test_slot_older_than_publications(any_probe):
    """F6: such a slot fails at the first change up to 17, and leaves it out silently from 18. It is thrown away when the
    publications are made."""
    source = any_probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    source.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (SLOT,))
    [(_, _, old)] = slots(source)
    source.sql("INSERT INTO t VALUES (1)")
    l0 = any_probe("publish", "slot", "barrier").values("l0")[0]
    assert lsn(l0) > lsn(old)
    source.sql("INSERT INTO t VALUES (2)")
    assert count(source, "I") == 1


@pytest.mark.parametrize("major", (13, 15, 17))
def test_undecodable_slot_is_made_again(major, make_probe, source_of):
    """F10: found before the load, not after it. The slot is of before the publications, which were made behind the
    tool's back, so it is adopted first."""
    probe = make_probe(source_of(major))
    source = probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    source.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (SLOT,))
    [(_, _, old)] = slots(source)
    source.sql("INSERT INTO t VALUES (1)")
    source.sql(f"CREATE PUBLICATION {ALL} FOR ALL TABLES WITH (publish = 'insert, truncate')")
    source.sql(f"CREATE PUBLICATION {KEYS} WITH (publish = 'update, delete')")
    with pytest.raises(psycopg.Error):
        stream(source)
    run = probe("publish", "slot")
    assert lsn(run.values("l0")[0]) > lsn(old)
    stream(source)


def test_no_slot_can_be_decoded(probe):
    """After three the error is the server's own, and none is left. A row filter that cannot be evaluated stands for
    whatever may be wrong."""
    source = probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY, v int)")
    probe("publish")
    source.sql(f"ALTER PUBLICATION {KEYS} DROP TABLE t; ALTER PUBLICATION {KEYS} ADD TABLE t WHERE (1 / (id - id) > 0);"
               f"INSERT INTO t VALUES (1, 1)")
    done = threading.Event()

    def write():
        with source.connect() as conn:
            while not done.is_set():
                conn.execute("UPDATE t SET v = v + 1")

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: source.sql("SELECT v > 5 FROM t")[0][0], what="the writer")
    try:
        run = probe("slot", env={"PGCRANE_FAILPOINT": "seam.slot_settled:sleep=1500"}, code=1)
    finally:
        done.set()
        writer.join()
    assert "division by zero" in run.values("error")[0] and "3 replication slots" in run.values("error")[0]
    assert run.stderr.count(f"slot {SLOT} made") == 3
    assert not slots(source)
    assert not probe.dest.sql("SELECT 1 FROM pgcrane.stream")


def test_large_backlog_is_passed(probe):
    """An adopted slot may have a lot behind it, which the copy will have: the stream begins after it."""
    source = probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    probe.killed_at("seam.slot_made", "publish", "slot")
    source.sql("INSERT INTO t SELECT n, repeat('x', 400) FROM generate_series(1, 50000) n")
    [(_, _, before)] = slots(source)
    run = probe("slot")
    [l0] = run.values("l0")
    assert lsn(l0) > lsn(before) and f"slot {SLOT} made" not in run.stderr
    source.sql("SELECT pg_replication_slot_advance(%s, %s)", (SLOT, l0))
    assert count(source, "I") == 0


def test_slot_lost(probe):
    """Bound once, it is never made again: what it had not delivered is gone."""
    source = probe.source
    probe("publish", "slot")
    source.sql("SELECT pg_drop_replication_slot(%s)", (SLOT,))
    assert "is gone" in probe.fails("publish", "slot", reason="SLOT_LOST")
    assert not slots(source)
    source.sql("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (SLOT,))
    assert "replaced" in probe.fails("slot", reason="SLOT_LOST")


def test_slot_invalidated(own_cluster, make_probe):
    cluster = own_cluster("invalidated", config={"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB",
                                                 "max_wal_size": "32MB"})
    probe = make_probe(cluster)
    probe("publish", "slot")
    for _ in range(4):
        cluster.sql("SELECT pg_switch_wal(); CREATE TABLE x (); DROP TABLE x; CHECKPOINT")
    assert cluster.sql("SELECT wal_status FROM pg_replication_slots") == [("lost",)]
    assert "invalidated" in probe.fails("slot", reason="SLOT_LOST")
    probe("remove")
    assert_nothing_left(probe)


def test_publication_lost(probe):
    """While the stream is in use a publication is never made anew: what came between would be missing."""
    probe("publish", "slot")
    probe.source.sql(f"DROP PUBLICATION {ALL}")
    assert "dropped" in probe.fails("publish", reason="PUBLICATION_LOST")
    assert set(publications(probe.source)) == {KEYS} and slots(probe.source)
    probe("remove")
    assert_nothing_left(probe)


def test_publication_changed_before_the_slot(probe):
    """Made by an earlier run as no superuser, say: made anew, as long as no stream uses it. Then it stays as it is, whoever its
    role is now; only what it does not publish any more is lost."""
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    probe("publish-lists")
    probe("publish", "slot")
    assert publications(probe.source)[ALL][0] is True
    before = publications(probe.source)
    probe("publish-lists")
    assert publications(probe.source) == before
    probe.source.sql(f"ALTER PUBLICATION {ALL} SET (publish = 'insert')")
    assert "changed" in probe.fails("publish-lists", reason="PUBLICATION_LOST")


def test_other_peoples_slot(probe):
    """One of our name that is not ours is left alone."""
    probe("publish")
    probe.source.sql("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (SLOT,))
    assert SLOT in probe.fails("slot", reason="SQL_FAILED")
    assert slots(probe.source)[0][1] == "test_decoding"


def test_other_source(make_probe, source_of):
    """The ledger's stream belongs to one system."""
    first, second = make_probe(source_of(15)), make_probe(source_of(17))
    first("publish", "slot")
    assert "system" in second.fails("slot", reason="LEDGER_MISMATCH")
    assert not slots(second.source)


# --- crashes ---

POINTS = ("seam.publication_intended", "seam.publication_made", "seam.group_published", "seam.slot_intended",
          "seam.slot_made", "seam.slot_settled", "seam.slot_checked", "seam.slot_bound", "seam.barrier_passed", "seam.marked")


@pytest.mark.parametrize("point", POINTS)
def test_killed_then_goes_on(point, probe):
    source = probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    steps = ("publish-lists", "slot", "barrier", "marker=x")
    probe.killed_at(point, *steps)
    found = slots(source)
    run = probe(*steps)
    [l0] = run.values("l0")
    if found and found[0][2]:
        assert f"slot {SLOT} made" not in run.stderr, "a slot that was there has to be adopted, or it has stopped being ours"
        assert lsn(l0) >= lsn(found[0][2])
    source.sql("INSERT INTO t VALUES (1); UPDATE t SET id = 2")
    assert [count(source, kind) for kind in "IU"] == [1, 1]
    assert journal(probe) == {("slot", SLOT, True), ("publication", ALL, True), ("publication", KEYS, True)}
    probe("remove")
    assert_nothing_left(probe)


@pytest.mark.parametrize("point", POINTS)
def test_killed_then_removed(point, probe):
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    probe.killed_at(point, "publish", "slot", "barrier", "marker=x")
    probe("remove")
    assert_nothing_left(probe)
    probe("remove")  # nothing to do is no error


@pytest.mark.parametrize("nth", (1, 2, 3))
def test_killed_while_removing(nth, probe):
    probe("publish", "slot")
    probe("remove", env={"PGCRANE_FAILPOINT": f"seam.removed:kill:{nth}"}, code=KILLED)
    assert journal(probe), "the line goes after the object"
    probe("remove")
    assert_nothing_left(probe)


def test_killed_while_the_slot_waits(any_probe):
    """The server goes on waiting with a slot that has no position. The next run ends that one and makes its own."""
    source = any_probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    with source.connect(autocommit=False) as conn:
        conn.execute("INSERT INTO t VALUES (1)")
        run = any_probe.start("publish", "slot")
        wait_until(lambda: run.values("blocked"), what="the slot to wait")
        run.kill()
        [(old,)] = source.sql("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (SLOT,))
        run = any_probe.start("slot", "barrier")
        wait_until(lambda: source.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active_pid <> %s",
                                      (SLOT, old)), what="the old walsender to be replaced")
        assert not run.has_ended()
        conn.commit()
    assert run.end() == 0, run.lines
    assert source.sql("SELECT id FROM t") == [(1,)]


def test_killed_while_the_slot_waits_then_removed(any_probe):
    source = any_probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    with source.connect(autocommit=False) as conn:
        conn.execute("INSERT INTO t VALUES (1)")
        run = any_probe.start("publish", "slot")
        wait_until(lambda: run.values("blocked"), what="the slot to wait")
        run.kill()
        any_probe("remove")
        assert_nothing_left(any_probe)


def test_source_killed_after_the_slot(own_cluster, make_probe):
    """The slot outlives a crash of the source, with its position."""
    cluster = own_cluster("killed")
    probe = make_probe(cluster)
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    l0 = probe("publish", "slot", "barrier", "marker=x").values("l0")[0]
    cluster.kill9()
    cluster.start()
    probe.source.sql("INSERT INTO t VALUES (1)")
    assert probe("publish", "slot", "barrier", "marker=y").values("l0") == [l0]
    assert count(probe.source, "I") == 1


def test_journal_lost(probe):
    """The destination failed over and lost its last commits: names find what the journal does not."""
    probe.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    probe("publish", "slot")
    probe.dest.sql("DELETE FROM pgcrane.source_object; DELETE FROM pgcrane.stream")
    probe("remove")
    assert_nothing_left(probe)


def test_remove_says_what_it_could_not(probe):
    """The rest goes all the same."""
    probe("publish", "slot")
    probe.dest.sql("INSERT INTO pgcrane.source_object (kind, name) VALUES ('gadget', 'of a later version')")
    assert "gadget of a later version" in probe.fails("remove", reason="INTERNAL")
    assert not slots(probe.source) and not publications(probe.source)
    assert journal(probe) == {("gadget", "of a later version", False)}


def test_fenced(probe):
    """Another run has taken over: nothing is made any more."""
    run = probe.start("wait-stdin", "publish", stdin=subprocess.PIPE)
    wait_until(lambda: probe.dest.sql("SELECT to_regclass('pgcrane.job') IS NOT NULL")[0][0]
               and probe.dest.sql("SELECT 1 FROM pgcrane.job WHERE epoch > 0"), what="the first run's epoch")
    probe.dest.sql("UPDATE pgcrane.job SET epoch = epoch + 1")
    run.process.stdin.close()
    assert run.end() == 1 and run.values("reason") == ["FENCED"], run.lines
    assert not publications(probe.source)
