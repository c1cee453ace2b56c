"""Following on real servers, driven step by step through test/support/follow_probe.c: nothing is lost, nothing comes
twice, whatever dies in between."""
import contextlib
import os

import pytest

from support.cluster import wait_until
from support.compare import Side, data_differing
from support.program import Program, find_program
from support.seam import JOB, KILLED, SLOT, Probe, find_probe, lsn
from support.tcp_proxy import Proxy

pytestmark = pytest.mark.turns(3)

MAJORS = (13, 15, 17, 18)
SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, v text, n int DEFAULT 0);
CREATE TABLE u (id bigint PRIMARY KEY, v text);
CREATE TABLE keyless (v text);
"""


class Following:
    """A source with a seam, an empty copy of it, and the program that follows between them."""

    def __init__(self, program, seam):
        self.program, self.seam = program, seam
        self.source, self.dest = seam.source, seam.dest

    def prepare(self, schema=SCHEMA):
        self.source.sql(schema)
        self.dest.sql(schema)
        self.l0 = self.seam("publish", "slot").values("l0")[0]
        self.transactions = 0

    def write(self, *statements):
        """Each is a transaction that changes a followed table."""
        with self.source.connect() as conn:
            for statement in statements:
                conn.execute(statement)
        self.transactions += len(statements)

    def probe(self, source_uri=None, dest_uri=None):
        made = Probe(self.program, self.source, self.dest)
        if source_uri or dest_uri:
            made.source = Uri(source_uri or self.source.uri)
            made.dest = Uri(dest_uri or self.dest.uri)
        return made

    def __call__(self, *steps, env=None, code=0, probe=None):
        return (probe or self.probe())(f"position={self.l0}", "tables", *steps, env=env, code=code)

    def start(self, *steps, probe=None, **options):
        return (probe or self.probe()).start(f"position={self.l0}", "tables", *steps, **options)

    def drain(self, *steps):
        run = self("start", "wait-now", "status", *steps)
        self.assert_same()
        return run.values("status")[0]

    def assert_same(self):
        sides = [Side(database.uri, ("pgcrane",)) for database in (self.source, self.dest)]
        problems = data_differing(*sides)
        for side in sides:
            side.conn.close()
        assert not problems, "\n".join(problems)
        assert self.position()[1] == self.transactions

    def position(self):
        return self.dest.sql("SELECT lsn::text, transactions FROM pgcrane.position")[0]

    def confirmed(self):
        return self.source.sql("SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
                               " WHERE database = current_database()")[0][0]


class Uri:
    def __init__(self, uri):
        self.uri = uri


@pytest.fixture(scope="module")
def source_of(make_cluster):
    made = {}

    def get(major):
        if major not in made:
            made[major] = make_cluster(f"follow{major}", major=major, config={"shared_buffers": "16MB"})
        return made[major]
    return get


@pytest.fixture
def make_following(tmp_path):
    with contextlib.ExitStack() as stack:
        folder = os.path.dirname(find_program())
        seam_program = find_probe(tmp_path)
        program = Program(tmp_path / "follow", os.path.join(folder, "follow_probe"))

        def make(source, dest, schema=SCHEMA):
            databases = [cluster.createdb() for cluster in (source, dest)]
            for database in databases:
                stack.callback(database.drop)
            following = Following(program, Probe(seam_program, *databases))
            following.prepare(schema)
            return following

        yield make
        program.end_all()
        seam_program.end_all()


@pytest.fixture
def following(make_following, source_of, dest):
    return make_following(source_of(15), dest)


@pytest.fixture(params=MAJORS)
def any_following(request, make_following, source_of, dest):
    return make_following(source_of(request.param), dest)


MIXED = (
    "INSERT INTO t SELECT i, 'one ' || i FROM generate_series(1, 500) i",
    "UPDATE t SET v = 'two ' || id WHERE id % 3 = 0",
    "DELETE FROM t WHERE id % 7 = 0",
    "INSERT INTO u SELECT i, repeat('x', 3000) FROM generate_series(1, 50) i",
    "INSERT INTO keyless SELECT 'same' FROM generate_series(1, 20)",
    "UPDATE t SET id = id + 10000 WHERE id < 100",
    "UPDATE u SET id = id + 100 WHERE id % 2 = 0",
)


def test_everything_arrives(any_following):
    any_following.write(*MIXED)
    status = any_following.drain()
    assert status["inserts"] > 0 and status["replica"]
    assert status["last_change"] <= status["applied"]
    assert status["skipped"] == status["ignored"] == 0


def noise(following):
    """Transactions that are of no concern."""
    for _ in range(5):
        following.source.sql("CREATE TABLE of_no_concern (); DROP TABLE of_no_concern")


# --- What is in the stream ---


def test_truncate_inside_a_transaction(any_following):
    any_following.write(*MIXED)
    any_following.write("INSERT INTO t VALUES (1000, 'goes')",
                        "BEGIN; INSERT INTO t VALUES (1001, 'goes'); TRUNCATE t, u; INSERT INTO t VALUES (1, 'stays');"
                        " INSERT INTO u VALUES (1, 'stays'); COMMIT",
                        "UPDATE t SET v = 'changed'")
    status = any_following.drain("counts")
    assert status["truncates"] == 2


def test_counts(following):
    following.write(*MIXED)
    following.write("TRUNCATE u")
    run = following("start", "wait-now", "counts")
    counts = {name.replace('"', ""): values for name, *values in run.values("tables")[0]}
    assert counts["public.t"] == [500, 166 + 85, 71, 0]
    assert counts["public.u"] == [50, 25, 0, 1]
    assert counts["public.keyless"] == [20, 0, 0, 0]
    assert next(iter(counts)) == "public.t", "the busiest first"


def test_subtransactions(following):
    with following.source.connect(autocommit=False) as conn:
        for i in range(300):
            conn.execute(f"SAVEPOINT s{i}")
            conn.execute("INSERT INTO t VALUES (%s, 'sub')", (i,))
            if i % 10 == 0:
                conn.execute(f"ROLLBACK TO s{i}")
        conn.commit()
    following.transactions += 1
    assert following.drain()["inserts"] == 270


def test_tables_that_are_not_migrated(following):
    """Without a hook, and when it says no, changes are counted and left; when it says yes they are applied."""
    following.source.sql("CREATE TABLE more (id int PRIMARY KEY)")
    following.dest.sql("CREATE TABLE more (id int PRIMARY KEY)")
    statements = ["INSERT INTO more VALUES (1), (2)", "DELETE FROM t"]  # the second changes nothing

    def follow(*steps):
        for statement in statements:
            following.source.sql(statement)
        # No `tables`: nothing is known.
        run = following.probe()(f"position={following.l0}", *steps, "start", "wait-now", "status")
        return run, run.values("status")[0]

    run, status = follow("hooks=no")
    assert status["ignored"] == 2 and status["transactions"] == 0 and not run.values("unknown")
    statements = ["INSERT INTO more VALUES (3), (4)", "INSERT INTO more VALUES (5)"]
    run, status = follow("unknown=no")
    assert status["ignored"] == 3 and run.values("unknown") == ["more"], "it is asked once"
    assert status["last_change"] == "0/0"
    statements = ["INSERT INTO more VALUES (6), (7)", "INSERT INTO more VALUES (8)"]
    run, status = follow("unknown=yes")
    assert status["ignored"] == 0 and status["transactions"] == 2
    assert following.dest.sql("SELECT id FROM more ORDER BY 1") == [(6,), (7,), (8,)]


def test_what_the_copy_has_is_skipped(any_following):
    """Some transactions are in the picture, one was running then: only that and the later ones are applied."""
    source, dest = any_following.source, any_following.dest
    with source.connect(autocommit=False) as running:
        running.execute("INSERT INTO t VALUES (1, 'running')")
        source.sql("INSERT INTO t VALUES (2, 'copied'), (3, 'copied')")
        picture = source.sql("SELECT txid_current_snapshot()::text")[0][0]
        assert picture.split(":")[2], "nobody runs: the experiment shows nothing"
        running.commit()
    dest.sql("INSERT INTO t VALUES (2, 'copied'), (3, 'copied')")
    w = any_following.seam("marker=W").values("end")[0]
    any_following.write("INSERT INTO t VALUES (4, 'later')", "UPDATE t SET v = 'later' WHERE id = 2")
    any_following.transactions += 1  # the one that ran
    run = any_following.probe()(f"position={any_following.l0}", f"picture={picture},{w}", "tables", "start", "wait-now",
                                "status")
    any_following.assert_same()
    assert run.values("status")[0]["skipped"] == 2


@pytest.mark.parametrize("major", (15, 18))
def test_message_in_order(major, make_following, source_of, dest):
    """A message stands between the changes before and behind it, in one transaction with them; a definition that it
    changes is read again."""
    following = make_following(source_of(major), dest)
    emit = "SELECT pg_logical_emit_message(true, 'pgcrane.sql', '{0}'); {0}"
    following.write("INSERT INTO t VALUES (1, 'a')",
                    "BEGIN; UPDATE t SET v = '7'; " + emit.format("ALTER TABLE public.t ALTER v TYPE int USING v::int") +
                    "; INSERT INTO t VALUES (2, 5); COMMIT",
                    "INSERT INTO t VALUES (3, 9)",
                    "BEGIN; " + emit.format("ALTER TABLE public.t ADD w text") + "; INSERT INTO t VALUES (4, 1, 1, 'new'); COMMIT",
                    "UPDATE t SET w = 'old' WHERE w IS NULL")
    status = following.drain()
    assert following.dest.sql("SELECT sum(v) FROM t") == [(22,)]
    assert lsn(status["last_marker"]) > lsn(following.l0)


def test_message_rolls_back(following):
    """What the hook did is undone with its transaction."""
    following.write("BEGIN; INSERT INTO t VALUES (1, 'a'); SELECT pg_logical_emit_message(true, 'pgcrane.sql',"
                    " 'INSERT INTO public.u VALUES (77, $$by the hook$$)'); INSERT INTO t VALUES (2, 'b'); COMMIT")
    following("start", "wait-now", env={"PGCRANE_FAILPOINT": "follow.before_commit:kill"}, code=KILLED)
    assert not following.dest.sql("SELECT 1 FROM u") and not following.dest.sql("SELECT 1 FROM t")
    following("start", "wait-now")
    assert following.dest.sql("SELECT v FROM u") == [("by the hook",)]
    assert following.dest.sql("SELECT count(*) FROM t") == [(2,)]


# --- Crashes ---

POINTS = ("follow.receive:kill:1", "follow.receive:kill:400", "follow.receive:kill:4000", "follow.after_push:kill:1",
          "follow.after_push:kill:5", "follow.before_apply:kill:1", "follow.before_apply:kill:2",
          "apply.after_parts:kill:3", "follow.inside_transaction:kill:4", "follow.before_commit:kill:1",
          "apply.before_commit:kill:2", "apply.after_commit:kill:1", "apply.after_commit:kill:2",
          "follow.after_commit:kill:2", "follow.after_feedback:kill:1")


@pytest.mark.turns(4)
@pytest.mark.parametrize("major", (15, 18))
@pytest.mark.parametrize("point", POINTS)
def test_killed(point, major, make_following, source_of, dest):
    """A large transaction in several batches between small ones; after the kill, whatever the ledger says is true."""
    following = make_following(source_of(major), dest)
    following.write(*MIXED)
    following.write("BEGIN; INSERT INTO t SELECT i, 'large' FROM generate_series(20000, 22000) i; UPDATE t SET n = n + 1;"
                    " DELETE FROM t WHERE id % 5 = 0; COMMIT", "UPDATE u SET v = 'last'")
    following("rows=100", "start", "wait-now", "wait-failure", env={"PGCRANE_FAILPOINT": point}, code=KILLED)
    assert lsn(following.confirmed()) <= lsn(following.position()[0])
    transactions = following.position()[1]
    assert transactions <= following.transactions
    status = following.drain()
    assert lsn(following.confirmed()) <= lsn(following.position()[0])
    assert status["transactions"] == following.transactions


def test_killed_before_the_position_is_advanced(following):
    noise(following)
    following("start", "wait-now", env={"PGCRANE_FAILPOINT": "follow.before_advance:kill"}, code=KILLED)
    assert following.position() == (following.l0, 0)
    following.drain()


def test_killed_again_and_again(following):
    """Each run gets a little further, or not; the number of transactions is exact in the end."""
    for i in range(1, 60):
        following.write(f"INSERT INTO t VALUES ({i}, 'x')", f"UPDATE t SET n = n + 1 WHERE id <= {i}")
    points = ("follow.after_commit:kill:3", "follow.receive:kill:90", "apply.before_commit:kill:2",
              "apply.after_commit:kill:1")
    for i in range(12):
        run = following.start("rows=5", "start", "wait-now", env={"PGCRANE_FAILPOINT": points[i % len(points)]})
        assert run.end() in (KILLED, 0), run.lines
        assert lsn(following.confirmed()) <= lsn(following.position()[0])
    following.drain()


def test_lost_reply_of_commit(following, dest):
    """The destination has committed, we never hear of it: nothing comes twice."""
    following.drain()  # what the seam itself has written
    following.write(*MIXED)
    with Proxy(dest) as proxy:
        probe = following.probe(dest_uri=proxy.uri(following.dest))
        run = following.start("start", "wait-now", probe=probe,
                              env={"PGCRANE_FAILPOINT": "apply.before_commit:sleep=5000:1"})
        wait_until(lambda: following.dest.sql(
            "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE 'UPDATE pgcrane.position%%'"
            " AND datname = current_database()"), what="the moment before COMMIT")
        before = following.position()[0]
        fault = proxy.fault("stall", direction="down")
        wait_until(lambda: following.position()[0] != before and fault.hits == 1, what="the COMMIT, and its reply held")
        proxy.reset_all()
        assert run.end() == 1
    assert run.values("reason") == ["CONNECTION_LOST"] and run.values("retryable") == [True]
    assert 0 < following.position()[1] <= following.transactions
    following.drain()


def test_old_session_in_the_way(following):
    """A session that was cut off holds a row: the next run ends it first."""
    following.write("INSERT INTO t VALUES (1, 'a')")
    following.drain()
    following.write("UPDATE t SET v = 'b'")
    run = following.start("wait-stdin", "start", "wait-now", stdin=-1)
    wait_until(lambda: run.saw("done", "tables"), what="the probe")
    with following.dest.connect(autocommit=False) as old:
        old.execute(f"SET application_name = 'pgcrane {JOB} apply'")
        old.execute("UPDATE t SET v = 'never committed'")
        old.execute("SELECT 1 FROM pgcrane.position FOR UPDATE")
        run.process.stdin.write("\n")
        run.process.stdin.flush()
        assert run.end() == 0, run.lines
        with contextlib.suppress(Exception):
            old.rollback()
    following.assert_same()


# --- Servers that go away, or are slow ---


@pytest.mark.parametrize("major", (13, 15, 18))
def test_source_shuts_down(major, own_cluster, make_following, dest):
    """Its shutdown waits for us to confirm all, and does not wait long; afterwards all goes on."""
    cluster = own_cluster("stopping", major=major, config={"shared_buffers": "16MB"})
    following = make_following(cluster, dest)
    following.write(*MIXED)
    run = following.start("start", "wait-now", "wait-failure")
    wait_until(lambda: run.saw("done", "wait-now"), what="the drain")
    noise(following)
    size = cluster.log_size()
    cluster.stop("fast", timeout=40)
    assert "database system is shut down" in cluster.log_text(size), "it waited for us"
    assert run.end() == 1
    assert run.values("reason") == ["CONNECTION_LOST"] and run.values("retryable") == [True], run.lines
    cluster.start()
    following.write("INSERT INTO t VALUES (5000, 'after')")
    following.drain()


@pytest.mark.parametrize("major", (min(MAJORS), max(MAJORS)))
def test_source_shuts_down_while_the_destination_waits(major, own_cluster, make_following, dest):
    """What the applier waits for cannot be confirmed: then the stream is left, or the source would stay for as long."""
    cluster = own_cluster("leaving", major=major, config={"shared_buffers": "16MB"})
    following = make_following(cluster, dest)
    following.write(*MIXED)
    following.drain()
    with following.dest.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE t")
        following.write("UPDATE t SET v = 'not yet'")
        run = following.start("start", "wait-failure")
        wait_until(lambda: following.dest.sql("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the applier to wait")
        size = cluster.log_size()
        cluster.stop("fast", timeout=30)
        assert "database system is shut down" in cluster.log_text(size), "it waited for us"
        assert run.end() == 1
        assert run.values("reason") == ["CONNECTION_LOST"] and run.values("retryable") == [True], run.lines
    cluster.start()
    following.drain()


@pytest.mark.parametrize("which", ("source", "destination"))
def test_server_crashes(which, own_cluster, make_following, source_of, dest):
    cluster = own_cluster("crashing", config={"shared_buffers": "16MB", "fsync": "on"})
    following = make_following(cluster if which == "source" else source_of(15), cluster if which != "source" else dest)
    following.write(*MIXED)
    run = following.start("rows=50", "start", "wait-now", "wait-failure",
                          env={"PGCRANE_FAILPOINT": "follow.before_commit:sleep=30"})
    wait_until(lambda: run.saw("done", "start") and following.position()[1] > 0, what="the first commit")
    cluster.kill9()
    if which == "destination":
        following.write("INSERT INTO t VALUES (5000, 'meanwhile')")
    assert run.end() == 1
    assert run.values("retryable") == [True], run.lines
    cluster.start()
    following.drain()


@pytest.mark.parametrize("major", (13, 15, 18))
def test_slow_destination_keeps_the_stream(major, own_cluster, make_following, dest):
    """While there is nowhere to put the changes, the source still hears of us."""
    cluster = own_cluster("impatient", major=major, config={"wal_sender_timeout": "4s", "shared_buffers": "16MB"})
    following = make_following(cluster, dest)
    run = following.start("rows=500", "start", "wait-stdin", "wait-now", "wait-stdin", stdin=-1,
                          env={"PGCRANE_FAILPOINT": "follow.inside_transaction:sleep=9000:3"})
    wait_until(lambda: walsenders(following), what="the stream")
    pids = walsenders(following)
    following.write("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
    run.process.stdin.write("\n")
    run.process.stdin.flush()
    wait_until(lambda: run.saw("done", "wait-now"), 60, what="the drain")
    assert walsenders(following) == pids and "terminating walsender" not in cluster.log_text()
    run.process.stdin.close()
    assert run.end() == 0, run.lines
    following.assert_same()


def walsenders(following):
    return following.source.sql("SELECT pid FROM pg_stat_replication")


def test_stop_while_a_statement_runs(following):
    """A lock on the destination: stopping does not wait for it, and nothing is left."""
    following.write("INSERT INTO t VALUES (1, 'a')")
    following.drain()
    position = following.position()
    following.write("INSERT INTO u VALUES (1, 'b')", "UPDATE t SET v = 'c'")
    with following.dest.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE t")
        run = following.start("start", "wait-stdin", "stop", stdin=-1)
        wait_until(lambda: following.dest.sql("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the applier to wait")
        run.process.stdin.write("\n")
        run.process.stdin.flush()
        assert run.end(timeout=60) == 0, run.lines
        after = following.position()
        assert after == position or after[1] == position[1] + 1, "only whole transactions"
    following.drain()


# --- Positions ---


def test_position_moves_without_changes(any_following):
    """Only what is of no concern was written: the position is written down for whoever waits for it."""
    noise(any_following)
    status = any_following.drain()
    assert status["transactions"] == 0 and status["last_change"] == "0/0"
    assert lsn(status["applied"]) > lsn(any_following.l0)
    assert lsn(any_following.confirmed()) <= lsn(any_following.position()[0])


def test_destination_went_back(following):
    """It lost commits that the source has thrown away since: nothing may go on as if it had them."""
    following.write("INSERT INTO t VALUES (1, 'a')")
    following("start", "wait-now", "stop")
    before = following.position()[0]
    following.write("INSERT INTO t VALUES (2, 'b')")
    following("start", "wait-now", "stop")
    assert lsn(following.confirmed()) > lsn(before)
    following.dest.sql("UPDATE pgcrane.position SET lsn = %s", (before,))
    run = following("start", code=1)
    assert run.values("reason") == ["DEST_WENT_BACK"] and "--restart" in run.values("remedy")[0]
    assert not run.values("retryable")[0]


def test_source_went_back(following):
    following("start", "wait-now", "stop")
    following.dest.sql("UPDATE pgcrane.position SET lsn = '7FFFFFFF/0'")
    assert following("start", code=1).values("reason") == ["SOURCE_WENT_BACK"]


def test_slot_is_gone(following):
    following.source.sql("SELECT pg_drop_replication_slot(%s)", (SLOT,))
    assert following("start", code=1).values("reason") == ["SLOT_LOST"]


def test_conflict_stops_and_skips_nothing(following):
    following.write("INSERT INTO t VALUES (1, 'a'), (2, 'b')", "INSERT INTO t VALUES (3, 'c')")
    following.dest.sql("INSERT INTO t VALUES (3, 'not ours')")
    run = following("start", "wait-now", code=1)
    assert run.values("reason") == ["CONFLICT"] and "t" in run.values("error")[0]
    assert following.position()[1] <= 1
    following.dest.sql("DELETE FROM t WHERE v = 'not ours'")
    following.drain()


def test_fenced(following):
    """Another run has taken the migration: this one commits nothing more."""
    following.write("INSERT INTO t VALUES (1, 'a')")
    run = following.start("wait-stdin", "start", "wait-now", stdin=-1)
    wait_until(lambda: run.saw("done", "tables"), what="the probe")
    following.dest.sql("UPDATE pgcrane.job SET epoch = epoch + 1")
    run.process.stdin.write("\n")
    run.process.stdin.flush()
    assert run.end() == 1
    assert run.values("reason") == ["FENCED"]
    assert not following.dest.sql("SELECT 1 FROM t")


def test_memory(following):
    """A backlog of small rows, in small transactions and in one large."""
    following.write("INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 150000) i", "UPDATE t SET n = 1")
    run = following("start", "wait-now", "memory")
    following.assert_same()
    assert run.values("memory")[0] <= 150 << 20
