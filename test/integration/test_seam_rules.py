"""Each rule of the seam, with copy and replay: what the program's steps, a copy under the snapshot and the slot's changes
come to is the source, row by row. doc/design/seam.md says which rule is tested where."""
import contextlib
import os
import subprocess
import threading

import psycopg
import pytest

from support import compare, seam_trial
from support import seam_replay as replay
from support.cluster import Cluster, wait_until
from support.following import Following
from support.seam import ALL, KEYS, SLOT, count, journal
from support.seam import any_probe, make_probe, probe, source_of  # noqa: F401 (fixtures)
from support.workload import Workload

pytestmark = pytest.mark.turns(4)

SIMPLE = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int)"


def read_stream(source, run):
    """From where the program begins to read."""
    seam_trial.marker(source)
    source.sql("SELECT pg_replication_slot_advance(%s, %s)", (SLOT, run.values("l0")[0]))
    return replay.peek(source)


def copied(snapshot, *names):
    tables, by_oid = {}, {}
    for name in names:
        oid, tables_copy = snapshot.copy(name)
        tables[oid], by_oid[oid] = tables_copy, name
    return tables, by_oid


def assert_arrives(source, run, snapshot, *names):
    """Copy now, replay, compare; counts of changes skipped and applied."""
    tables, by_oid = copied(snapshot, *names)
    snapshot.close()
    counts = replay.replay(tables, read_stream(source, run))
    replay.assert_same(source, tables, by_oid)
    return counts


def start_seam(probe):
    return probe.start("publish", "slot", "barrier", "wait-stdin", "marker=seam", stdin=subprocess.PIPE)


def finish_seam(probe, run, before_marker=None):
    """Snapshot, then the marker; before_marker: what the application does in between."""
    wait_until(lambda: run.saw("done", "barrier") or run.has_ended(), 60, "the barrier to be passed")
    assert not run.has_ended(), run.lines
    snapshot = seam_trial.Snapshot(probe.source)
    if before_marker:
        before_marker()
    run.process.stdin.close()
    assert run.end() == 0, run.lines
    [snapshot.w] = run.values("end")
    return snapshot


def waits_for(source, connection):
    """Somebody waits for the end of the connection's transaction."""
    xid = connection.execute("SELECT txid_current() % 4294967296").fetchall()[0][0]
    wait_until(lambda: source.sql("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
                                  " AND transactionid::text = %s", (str(xid),)), what=f"the wait for transaction {xid}")


# --- F10: the catalogue as the first transactions of a slot see it ---


def make_slot_around(probe, change):
    """Begins the seam and lets `change` commit where the server does not look: after the slot's first look at who runs,
    before its second one. Returns when the slot is made; the run goes on by itself."""
    source = probe.source
    first, second = source.connect(autocommit=False), source.connect(autocommit=False)
    with contextlib.closing(first), contextlib.closing(second):
        first.execute("INSERT INTO other VALUES (1)")
        run = start_seam(probe)
        waits_for(source, first)
        second.execute("INSERT INTO other VALUES (2)")  # older than the change, and open at the second look
        source.sql(change)
        first.commit()
        waits_for(source, second)
        source.sql("INSERT INTO other VALUES (3)")  # the first to be decoded: its picture of the catalogue stays
        second.commit()
    return run


@pytest.mark.parametrize("change, insert", (
    ("TRUNCATE t", "INSERT INTO t VALUES (2, 'b')"),
    ("ALTER TABLE t ADD COLUMN w int", "INSERT INTO t VALUES (2, 'b', 42)"),
    ("ALTER TABLE t ALTER id TYPE bigint", "INSERT INTO t VALUES (5000000000, 'b')"),
), ids=("truncate", "add-column", "rewrite"))
def test_f10_catalogue_changed_while_the_slot_is_made(change, insert, any_probe):
    """Without a cure, on all versions: after TRUNCATE the slot can never be decoded; after ADD COLUMN the new column is
    missing in the stream, without an error."""
    source = any_probe.source
    source.sql(SIMPLE + "; INSERT INTO t VALUES (1, 'a')")
    run = make_slot_around(any_probe, change)
    snapshot = finish_seam(any_probe, run)
    source.sql(insert)
    counts = assert_arrives(source, run, snapshot, "t", "other")
    assert counts["applied"] == 1
    assert run.stderr.count(f"slot {SLOT} made") == 1


def test_f10_the_danger_is_real(any_probe):
    """What the test above would find: read from the slot's own start, the same slot loses the column."""
    source = any_probe.source
    source.sql(SIMPLE + "; CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert, truncate')")
    first, second = source.connect(autocommit=False), source.connect(autocommit=False)
    with contextlib.closing(first), contextlib.closing(second):
        first.execute("INSERT INTO other VALUES (1)")
        maker = threading.Thread(target=source.sql, args=("SELECT pg_create_logical_replication_slot('x', 'pgoutput')",))
        maker.start()
        waits_for(source, first)
        second.execute("INSERT INTO other VALUES (2)")
        source.sql("ALTER TABLE t ADD COLUMN w int")
        first.commit()
        waits_for(source, second)
        source.sql("INSERT INTO other VALUES (3)")
        second.commit()
        maker.join()
    source.sql("INSERT INTO t VALUES (2, 'b', 42)")
    # And, once described without the column, so for as long as this reader lives, whatever changes in the catalogue.
    source.sql("COMMENT ON PUBLICATION p IS 'a change of the catalogue'")
    source.sql("INSERT INTO t VALUES (3, 'c', 43)")
    changes = [change.new for transaction in replay.peek(source, "x", "p") for change in transaction.changes]
    assert changes[-2:] == [("2", "b"), ("3", "c")]
    # A reader that begins behind such a change, and behind all that was open then, has it.
    [(begin,)] = source.sql("SELECT pg_current_wal_lsn()::text")
    source.sql("INSERT INTO t VALUES (4, 'd', 44)")
    source.sql("SELECT pg_replication_slot_advance('x', %s)", (begin,))
    changes = [change.new for transaction in replay.peek(source, "x", "p") for change in transaction.changes]
    assert changes == [("4", "d", "44")]


# --- F1, W11: transactions that are open across the steps ---


def test_f1_stalled_commit_arrives(own_cluster, make_probe):
    """Its record lies before the slot, it becomes visible after it: only the copy can have it."""
    cluster = own_cluster("stall")
    probe = make_probe(cluster)
    source = probe.source
    source.sql(SIMPLE)
    probe("publish")
    cluster.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    cluster.reload()
    cluster.sql("CHECKPOINT")  # behind it the checkpointer has read it, too, whom commits ask
    writer = threading.Thread(target=source.sql, args=("INSERT INTO t VALUES (1, 'stalled')",))
    writer.start()
    try:
        wait_until(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), what="the stall")
        run = start_seam(probe)
        wait_until(lambda: run.saw("blocked", "SyncRep") or run.has_ended(), what="the one who is waited for")
        assert not run.saw("done", "barrier"), run.lines
    finally:
        cluster.sql("ALTER SYSTEM RESET synchronous_standby_names")
        cluster.reload()
        writer.join()
    snapshot = finish_seam(probe, run)
    source.sql("INSERT INTO t VALUES (2, 'later')")
    assert assert_arrives(source, run, snapshot, "t")["applied"] == 1


def end_plain(connection):
    connection.commit()


def end_prepared(connection):
    connection.execute("PREPARE TRANSACTION 'across'")
    connection.commit()
    connection.autocommit = True
    connection.execute("COMMIT PREPARED 'across'")


@pytest.mark.parametrize("rows", (1, 70), ids=("one", "70-subtransactions"))
@pytest.mark.parametrize("end", (end_plain, end_prepared), ids=("commit", "prepared"))
def test_w11_transaction_begun_while_the_slot_is_made(end, rows, any_probe):
    """It writes before and after the slot's start, is open when the slot is there, and commits before the barrier: the
    stream may have a part of it, the copy has all."""
    source = any_probe.source
    source.sql(SIMPLE)
    first, second, long = (source.connect(autocommit=False) for _ in range(3))
    with contextlib.closing(first), contextlib.closing(second), contextlib.closing(long):
        first.execute("INSERT INTO other VALUES (1)")
        run = start_seam(any_probe)
        waits_for(source, first)
        second.execute("INSERT INTO other VALUES (2)")
        first.commit()
        waits_for(source, second)
        for i in range(rows):
            long.execute(f"SAVEPOINT s{i}; INSERT INTO t VALUES ({i}, 'before')")
        second.commit()
        wait_until(lambda: run.saw("blocked", f"session {long.info.backend_pid} "), what="the long one to be waited for")
        long.execute("INSERT INTO t VALUES (1000, 'after')")
        end(long)
    snapshot = finish_seam(any_probe, run)
    counts = assert_arrives(source, run, snapshot, "t", "other")
    assert counts["applied"] == 0
    assert source.sql("SELECT count(*) FROM t") == [(rows + 1,)]


@pytest.mark.parametrize("rows", (1, 70), ids=("one", "70-subtransactions"))
@pytest.mark.parametrize("end", (end_plain, end_prepared), ids=("commit", "prepared"))
def test_transaction_open_at_the_snapshot(end, rows, any_probe):
    """Begun after the barrier, open when the snapshot is taken, committed before or after W: only the stream has it. The
    xids of its subtransactions are not in the snapshot's list, its own is."""
    source = any_probe.source
    source.sql(SIMPLE)
    with contextlib.closing(source.connect(autocommit=False)) as early, \
            contextlib.closing(source.connect(autocommit=False)) as late:
        def begin():
            for connection, base in ((early, 0), (late, 1000)):
                for i in range(rows):
                    connection.execute(f"SAVEPOINT s{i}; INSERT INTO t VALUES ({base + i}, 'open')")

        run = start_seam(any_probe)
        wait_until(lambda: run.saw("done", "barrier"), what="the barrier")
        begin()
        snapshot = finish_seam(any_probe, run, before_marker=lambda: end(early))
        end(late)
    assert assert_arrives(source, run, snapshot, "t")["applied"] == 2 * rows


def test_visible_between_slot_and_snapshot(any_probe):
    """The stream has it and the copy has it: it comes once. A judge that forgets the picture finds it twice."""
    source = any_probe.source
    source.sql(SIMPLE)
    any_probe("publish", "slot")
    source.sql("INSERT INTO t VALUES (1, 'both')")
    run = start_seam(any_probe)
    snapshot = finish_seam(any_probe, run)
    tables, _ = copied(snapshot, "t")
    transactions = read_stream(source, run)
    with pytest.raises(replay.Different, match="twice"):
        replay.replay(tables, transactions, seam_trial.all_of_them)
    assert assert_arrives(source, run, snapshot, "t")["skipped"] == 1


# --- F2: xids around 2^32 ---

XIDS_A_SEGMENT = 32 * 8192 * 4


def cluster_near_wrap(own_cluster, major, left):
    """A server whose next xid is 2^32 - left, in its 6th round."""
    cluster = own_cluster(f"wrap{major}", major=major, config={"autovacuum": "off", "max_prepared_transactions": 20})
    cluster.sql("VACUUM FREEZE")
    cluster.stop()
    next_xid = 2 ** 32 - left
    segment = os.path.join(cluster.data, "pg_xact", f"{next_xid // XIDS_A_SEGMENT:04X}")
    oldest = ["-u", str(next_xid - 10 ** 9)] if major >= 14 else []  # before, -x sets it as well
    cluster._run("pg_resetwal", "-x", str(next_xid), "-e", "5", *oldest, "-D", cluster.data)
    if not os.path.exists(segment):
        with open(segment, "wb") as file:
            file.write(bytes(32 * 8192))
        owner = os.stat(cluster.data)
        os.chown(segment, owner.st_uid, owner.st_gid)
    return cluster.start()


def burn_to_wrap(source, beyond=20):
    with contextlib.closing(source.connect()) as conn:
        while conn.execute("SELECT txid_current()").fetchall()[0][0] < 6 * 2 ** 32 + beyond:
            pass


@pytest.mark.parametrize("major", (13, 15, 18))
def test_f2_wrap_between_snapshot_and_w(major, own_cluster, make_probe):
    """The snapshot just below 2^32, xids 3, 4, ... of the next round before W and after it."""
    probe = make_probe(cluster_near_wrap(own_cluster, major, 300))
    source = probe.source
    source.sql(SIMPLE + "; INSERT INTO t VALUES (1, 'old')")

    def wrap():
        source.sql("INSERT INTO t VALUES (2, 'below')")
        burn_to_wrap(source)
        source.sql("INSERT INTO t VALUES (3, 'next round, before W')")

    run = start_seam(probe)
    snapshot = finish_seam(probe, run, before_marker=wrap)
    assert int(snapshot.picture.split(":")[1]) < 6 * 2 ** 32 < source.sql("SELECT txid_current()")[0][0]
    source.sql("INSERT INTO t VALUES (4, 'next round, after W')")
    assert assert_arrives(source, run, snapshot, "t")["applied"] == 3


def test_f2_wrap_under_writers(own_cluster, make_probe, dest_db):
    """The whole trial of the soak, over the wrap."""
    cluster = cluster_near_wrap(own_cluster, 15, 500)
    probe = make_probe(cluster)
    seam_trial.trial(probe.program, probe.source, dest_db, seed=2)
    assert cluster.sql("SELECT txid_current() > 6 * 4294967296") == [(True,)]


def test_f2_xid_comes_again(any_probe):
    """From W on the xid is not looked at: 2^31 transactions later each looks like one of before the snapshot."""
    picture, w = "730:745:730,744", "0/5000"
    assert replay.decide([(picture, w, 0x4FFF, 729), (picture, w, 0x5000, 729), (picture, w, 0x9000, 729),
                          (picture, w, 0x4FFF, 730), (picture, w, 0x4FFF, 745)]) == [True, False, False, False, False]


# --- F3: the source crashes after the snapshot ---


def crash_cluster(own_cluster):
    return own_cluster("crash", config={"wal_writer_delay": "10s", "wal_writer_flush_after": "100MB"})


def write_asynchronously(source, first):
    with contextlib.closing(source.connect()) as writer:
        writer.execute("SET synchronous_commit = off")
        for i in range(first, first + 20):
            writer.execute("INSERT INTO t VALUES (%s, 'asynchronous')", (i,))


def test_f3_crash_after_the_marker(own_cluster, make_probe):
    """What the snapshot shows is durable then: the copied rows exist, their xids are not given again."""
    cluster = crash_cluster(own_cluster)
    probe = make_probe(cluster)
    source = probe.source
    source.sql(SIMPLE)
    run = start_seam(probe)
    wait_until(lambda: run.saw("done", "barrier"), what="the barrier")
    write_asynchronously(source, 0)
    snapshot = finish_seam(probe, run)
    tables, names = copied(snapshot, "t")
    snapshot.close()
    write_asynchronously(source, 100)  # not in the copy; may be lost
    cluster.kill9()
    cluster.start()
    source.sql("INSERT INTO t VALUES (1000, 'after the crash')")
    assert source.sql("SELECT count(*) FROM t WHERE id < 20") == [(20,)]
    replay.replay(tables, read_stream(source, run))
    replay.assert_same(source, tables, names)


def test_f3_the_danger_is_real(own_cluster, make_probe):
    """The same without the marker: the copy has rows that the source does not."""
    cluster = crash_cluster(own_cluster)
    probe = make_probe(cluster)
    source = probe.source
    source.sql(SIMPLE)
    probe("publish", "slot", "barrier")
    write_asynchronously(source, 0)
    snapshot = seam_trial.Snapshot(source)
    snapshot.w = "FFFFFFFF/0"
    tables, names = copied(snapshot, "t")
    xmax = int(snapshot.picture.split(":")[1])
    snapshot.close()
    cluster.kill9()
    cluster.start()
    assert source.sql("SELECT count(*) FROM t")[0][0] < 20, "nothing was lost: the experiment shows nothing"
    assert source.sql("SELECT txid_current()")[0][0] < xmax, "xids that the snapshot shows are given again"
    with pytest.raises(replay.Different):
        replay.assert_same(source, tables, names)


# --- F4, F5: pictures and positions are each table's own ---


@pytest.mark.parametrize("change", ("TRUNCATE t", "ALTER TABLE t ALTER n TYPE bigint", "VACUUM FULL t",
                                    "CLUSTER t USING t_pkey"))
def test_f4_rewrite_after_the_snapshot(change, any_probe):
    """Such a table looks empty under the snapshot, or has other places for its rows; neither is an error, and no stream
    carries a rewrite's rows. It is seen by its file, and gets a later snapshot of its own."""
    source = any_probe.source
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT n, n FROM generate_series(1, 100) n")
    run, snapshot = seam_trial.seam(any_probe)
    source.sql(change)
    assert snapshot.copy("t") is None
    if "VACUUM" not in change and "CLUSTER" not in change:
        assert snapshot.copy("t", check_file=False)[1].contents().total() == 0, "the danger"
    snapshot.close()
    source.sql("INSERT INTO t VALUES (1000, 1)")
    later = seam_trial.Snapshot(source)
    later.w = seam_trial.marker(source)
    source.sql("INSERT INTO t VALUES (1001, 1)")
    assert_arrives(source, run, later, "t")


def test_f5_table_copied_later(any_probe):
    """Two tables, two snapshots, one stream, transactions that touch both: each change by its own table's picture."""
    source = any_probe.source
    source.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")

    def both(n):
        source.sql(f"BEGIN; INSERT INTO a VALUES ({n}); INSERT INTO b VALUES ({n}); COMMIT")

    both(1)
    run, first = seam_trial.seam(any_probe)
    both(2)
    tables, names = copied(first, "a")
    first.close()
    both(3)
    later = seam_trial.Snapshot(source)
    both(4)
    later.w = seam_trial.marker(source)
    more, more_names = copied(later, "b")
    later.close()
    both(5)
    tables.update(more)
    names.update(more_names)
    counts = replay.replay(tables, read_stream(source, run))
    replay.assert_same(source, tables, names)
    assert counts == {"applied": 4 + 2, "skipped": 2}  # a: 2 to 5; b: 4 and 5, not 2 and 3


# --- W6 ---


def test_w6_snapshot_ids_come_again(own_cluster):
    """After a restart an id may mean somebody else's snapshot: importers compare the picture."""
    cluster = own_cluster("ids")

    def ids():
        """Of several sessions at once: an id has the number of its session's place, and which places are free is chance."""
        found = {}
        with contextlib.ExitStack() as stack:
            for conn in [stack.enter_context(contextlib.closing(cluster.connect(autocommit=False))) for _ in range(10)]:
                for _ in range(30):
                    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()")
                    [(name, picture)] = conn.execute("SELECT pg_export_snapshot(), txid_current_snapshot()::text").fetchall()
                    found[name] = picture
                    conn.commit()
        return found

    before = ids()
    cluster.sql("CREATE TABLE committed ()")  # flushed with all before it: their xids are not given once more
    cluster.restart("immediate")
    after = ids()
    assert [name for name in before if name in after and before[name] != after[name]]


# --- whole trials, and either side killed ---


def test_trials(any_probe):
    """A few of test/seam-soak."""
    source = any_probe.source
    if source.sql("SELECT current_setting('max_prepared_transactions')::int")[0][0] < 12:
        source.cluster.configure({"max_prepared_transactions": 20})
        source.cluster.restart()
    for seed in (1, 2):
        counts = seam_trial.trial(any_probe.program, source, any_probe.dest, seed)
        assert counts["applied"] and counts["skipped"]
        source.sql("DROP TABLE acc, big, img, log, part")


@pytest.mark.parametrize("rule", ("apply-all", "position"))
def test_a_broken_rule_shows(rule, probe):
    """The trial has teeth: with the rule left out it finds rows lost or doubled, within a few tries."""
    source = probe.source
    source.cluster.configure({"max_prepared_transactions": 20})
    source.cluster.restart()
    for seed in range(1, 30):
        try:
            seam_trial.trial(probe.program, source, probe.dest, seed, broken=rule)
        except replay.Different:
            return
        source.sql("DROP TABLE acc, big, img, log, part")
    raise AssertionError("it was never noticed")


POINTS = ("seam.publication_made", "seam.slot_intended", "seam.slot_made", "seam.slot_checked", "seam.slot_bound",
          "seam.barrier_passed", "seam.marked")


@pytest.fixture(scope="module")
def victims():
    """Two servers of their own, to be killed again and again: (source, destination)."""
    made = [Cluster(name, config={"shared_buffers": "16MB"}) for name in ("victim-source", "victim-dest")]
    try:
        yield [cluster.start() for cluster in made]
    finally:
        for cluster in made:
            cluster.remove()


@pytest.mark.parametrize("side", (0, 1), ids=("source", "destination"))
@pytest.mark.parametrize("point", POINTS)
def test_server_killed_at(point, side, victims, make_probe):
    """kill -9 of the program at a step and of either server then; the same steps again come to the same."""
    probe = make_probe(victims[0])
    probe.dest = victims[1].createdb()
    source = probe.source
    source.sql(SIMPLE)
    try:
        probe.killed_at(point, "publish", "slot", "barrier", "marker=x")
        victims[side].kill9()
        victims[side].start()
        again = probe("publish", "slot", "barrier", "marker=x")
        source.sql("INSERT INTO t VALUES (1, 'a'); UPDATE t SET id = 2")
        source.sql("SELECT pg_replication_slot_advance(%s, %s)", (SLOT, again.values("l0")[0]))
        assert [count(source, kind) for kind in "IU"] == [1, 1]
        assert journal(probe) == {("slot", SLOT, True), ("publication", ALL, True), ("publication", KEYS, True)}
        probe("remove")
    finally:
        with contextlib.suppress(psycopg.Error):
            probe.dest.drop()


# --- the same through the whole program ---

SEAM_POINTS = ("seam.publication_made", "seam.slot_intended", "seam.slot_made", "seam.slot_checked", "seam.slot_bound",
               "seam.before_slot", "seam.after_slot", "seam.barrier_passed", "seam.before_marker", "seam.marked",
               "seam.after_marker")
QUIET = dict(writers=2, rows=60, truncate=False, pause_s=0.03)


@pytest.fixture
def followed(pgcrane, source_db, dest_db):
    """A database with a workload on it, and the command that is to move it."""
    workload = Workload(source_db, seed=5, **QUIET).create()
    return workload, Following(pgcrane, source_db, dest_db)


def assert_moved(workload, following):
    """Caught up, at rest, all applied, counted, promoted, equal."""
    following.wait_caught_up()
    workload.pause()
    following.wait_applied()
    copied_rows, one_snapshot = following.copied_rows("workload.commit_log")
    if one_snapshot:
        assert following.transactions() == workload.committed - copied_rows
    assert workload.logged(following.dest) == workload.committed == workload.logged(following.source)
    promoted = following.promoted(following.promote())
    assert promoted["ok"] and promoted["proven"]
    problems = [text for text in compare.differences(following.source.uri, following.dest.uri)
                if not text.startswith("settings of the database")]
    assert not problems, "\n".join(problems)
    workload.switch(following.dest)
    workload.resume()
    workload.wait_for(5)
    workload.stop()


@pytest.mark.parametrize("point", SEAM_POINTS)
def test_killed_at_a_step_of_the_seam(point, followed):
    """The worker dies there while the application writes; the same command goes on."""
    workload, following = followed
    with workload:
        workload.wait_for(5)
        following.start(env={"PGCRANE_FAILPOINT": f"{point}:kill"})
        assert following.end() != 0 and following.failure()["reason"] == "WORKER_LOST", following.said()
        workload.wait_for(5)
        following.again()
        assert_moved(workload, following)


@pytest.mark.parametrize("change", ("BEGIN; TRUNCATE {0}; INSERT INTO {0} VALUES (-1, 'new', 1); COMMIT", "VACUUM FULL {0}"),
                         ids=("truncate", "vacuum-full"))
def test_f4_table_rewritten_after_the_snapshot(change, followed):
    """It is copied under a snapshot of its own, and the stream is filtered by each table's own."""
    workload, following = followed
    source = following.source
    source.sql("CREATE TABLE rewritten (id bigint PRIMARY KEY, v text, n int);"
               "INSERT INTO rewritten SELECT n, 'old', n FROM generate_series(1, 1000) n")
    with workload:
        following.start(env={"PGCRANE_FAILPOINT": "seam.after_marker:sleep=6000"})
        wait_until(lambda: following.dest.sql("SELECT to_regclass('pgcrane.snapshot') IS NOT NULL")[0][0]
                   and following.dest.sql("SELECT 1 FROM pgcrane.snapshot"), what="the snapshot")
        source.sql(change.format("rewritten"))
        following.wait_following()
        assert following.dest.sql("SELECT count(DISTINCT snapshot) FROM pgcrane.relation")[0][0] == 2
        source.sql("UPDATE rewritten SET v = 'newer' WHERE id % 2 = 1")
        assert_moved(workload, following)


@pytest.mark.parametrize("prepared", (False, True), ids=("open", "prepared"))
def test_long_transaction_is_waited_for_and_named(prepared, followed):
    """One of 70 subtransactions, open since before the slot: nothing goes on without it, and it arrives whole."""
    workload, following = followed
    source = following.source
    source.sql("CREATE TABLE long (id int PRIMARY KEY, v text)")
    with workload, contextlib.closing(source.connect(autocommit=False)) as conn:
        for i in range(70):
            conn.execute(f"SAVEPOINT s{i}; INSERT INTO long VALUES ({i}, 'long')")
        name = f"session {conn.info.backend_pid} "
        if prepared:
            conn.execute("PREPARE TRANSACTION 'long one'")
            conn.commit()
            name = "long one"
        following.start()
        wait_until(lambda: any(name in body["text"] for body in following.bodies("EVENT")), what="who is waited for")
        assert not following.dest.sql("SELECT 1 FROM pgcrane.snapshot")
        conn.commit()
        if prepared:
            source.sql("COMMIT PREPARED 'long one'")
        following.wait_following()
        assert following.dest.sql("SELECT count(*) FROM long") == [(70,)]
        assert_moved(workload, following)
