"""The guard: slots that hold WAL, are lost or somebody else's; a source that went back; identities set for a while."""
import contextlib
import functools
import os
import subprocess

import psycopg
import pytest
from support.cluster import Cluster, wait_until
from support.program import Program, find_program
from support.seam import JOB, SLOT, Probe, find_probe, lsn

pytestmark = pytest.mark.turns(2)

MAJORS = (13, 15, 18)
TINY = {"shared_buffers": "16MB", "min_wal_size": "32MB", "max_wal_size": "32MB", "autovacuum": "off"}
ONE_SEGMENT = 16 << 20


@pytest.fixture(scope="module")
def server_of(make_cluster):
    return functools.cache(lambda major: make_cluster(f"guard{major}", major=major, config=TINY))


@pytest.fixture
def make_probe(dest_db, tmp_path):
    with contextlib.ExitStack() as stack:
        program = Program(tmp_path / "probe", os.path.join(os.path.dirname(find_program()), "guard_probe"))

        def make(cluster):
            database = cluster.createdb()
            stack.callback(database.drop)
            return Probe(program, database, dest_db)

        yield make
        program.end_all()


@pytest.fixture(params=MAJORS)
def probe(request, make_probe, server_of):
    return make_probe(server_of(request.param))


@pytest.fixture
def own_probe(own_cluster, make_probe):
    """A server of the test's own."""
    return lambda major, **config: make_probe(own_cluster(f"own{major}", major=major, config=dict(TINY, **config)))


def make_slot(database):
    database.sql(f"SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")


def one_slot(probe):
    make_slot(probe.source)
    return probe


def read(probe):
    return probe("read").values("reading")[0]


def write_segments(database, count):
    for _ in range(count):
        database.sql("SELECT pg_logical_emit_message(false, 'x', 'x'); SELECT pg_switch_wal()")


def refused(probe, *steps):
    """The last line of a probe that failed."""
    return probe(*steps, code=1).lines[-1]


# --- the slot ---


def test_reading(probe):
    found = read(one_slot(probe))
    assert lsn(found["restart"]) <= lsn(found["confirmed"]) <= lsn(found["current"])
    assert (found["status"], found["limit"], found["left"], found["active"]) == ("reserved", -1, -1, False)
    before = found["retained"]
    write_segments(probe.source, 2)
    found = read(probe)
    assert found["retained"] > before + ONE_SEGMENT
    assert found["retained"] == lsn(found["current"]) - lsn(found["restart"])
    assert found["age"] >= 0


def test_no_slot(probe):
    failure = refused(probe, "read")
    assert (failure["reason"], failure["retryable"]) == ("SLOT_LOST", False)
    assert SLOT in failure["error"] and "does not exist" in failure["error"]


def test_another_slot_of_that_name(probe):
    probe.source.sql(f"SELECT pg_create_physical_replication_slot('{SLOT}')")
    failure = refused(probe, "read")
    probe.source.sql(f"SELECT pg_drop_replication_slot('{SLOT}')")
    assert failure["reason"] == "SLOT_LOST" and "replaced" in failure["error"]


@pytest.mark.parametrize("major", MAJORS)
def test_head_room_and_loss(own_probe, major):
    probe = one_slot(own_probe(major, max_slot_wal_keep_size="64MB", max_wal_size="2GB", checkpoint_timeout="1h"))
    found = read(probe)
    assert found["limit"] == 64 << 20 and 0 < found["left"] <= 96 << 20
    before = found["left"]
    write_segments(probe.source, 2)
    assert read(probe)["left"] < before
    write_segments(probe.source, 8)
    found = read(probe)
    assert (found["status"], found["left"]) == ("unreserved", 0), "not lost yet, but the next checkpoint takes it"
    probe.source.sql("CHECKPOINT")
    failure = refused(probe, "read")
    assert (failure["reason"], failure["retryable"]) == ("SLOT_LOST", False)
    assert "max_slot_wal_keep_size = 64MB" in failure["error"] and "for good" in failure["error"]
    assert "max_slot_wal_keep_size = -1" in failure["remedy"] and "--restart" in failure["remedy"]


def stream_as(probe, name):
    """pg_recvlogical of the slot, under a name."""
    cluster = probe.source.cluster
    process = subprocess.Popen(
        [os.path.join(cluster.bin, "pg_recvlogical"), "--start", "-S", SLOT, "-f", "-", "-o", "proto_version=1", "-o",
         "publication_names=p", "-d", f"{probe.source.uri}?application_name={name}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: probe.source.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active", (SLOT,)),
               what="the slot to be in use")
    return process


def test_slot_in_use(probe):
    one_slot(probe).source.sql("CREATE PUBLICATION p")
    ours = stream_as(probe, f"pgcrane%20{JOB}%20stream")
    try:
        assert read(probe)["active"]
    finally:
        ours.terminate()
        ours.wait(30)
    wait_until(lambda: not probe.source.sql("SELECT 1 FROM pg_replication_slots WHERE active"), what="the slot's end")
    stranger = stream_as(probe, "somebody")
    try:
        failure = refused(probe, "read")
        pid, = probe.source.sql("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (SLOT,))[0]
        assert failure["reason"] == "SERVER_BUSY"
        assert "somebody" in failure["error"] and f"pg_terminate_backend({pid})" in failure["remedy"]
    finally:
        stranger.terminate()
        stranger.wait(30)


def test_idle_time_out(own_probe):
    """18 on: nobody reads while the tables are copied. The server looks at checkpoints, with minutes or seconds."""
    probe = one_slot(own_probe(18, idle_replication_slot_timeout="1s"))

    def is_lost():
        probe.source.sql("CHECKPOINT")
        return probe.source.sql("SELECT invalidation_reason FROM pg_replication_slots WHERE slot_name = %s",
                                (SLOT,)) == [("idle_timeout",)]

    wait_until(is_lost, what="the slot to time out")
    failure = refused(probe, "read")
    assert failure["reason"] == "SLOT_LOST" and "idle_replication_slot_timeout = 1s" in failure["error"]
    assert "idle_replication_slot_timeout = 0" in failure["remedy"]


# --- the timeline ---


def system_of(cluster):
    return cluster.sql("SELECT system_identifier::text FROM pg_control_system()")[0][0]


def end_of(cluster):
    return cluster.sql("SELECT pg_current_wal_insert_lsn()::text")[0][0]


def make_standby(primary, made):
    """A streaming standby on a port of its own."""
    standby = Cluster(f"standby{primary.major}", major=primary.major, config=TINY)
    made.callback(standby.remove)
    subprocess.run(["rm", "-rf", standby.data], check=True)
    standby._run("pg_basebackup", "-D", standby.data, "-h", primary.folder, "-p", str(primary.port), "-U", "postgres",
                 "-X", "stream", "-R", "-c", "fast")
    standby.configure({"port": standby.port, "unix_socket_directories": standby.folder})
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        standby.start()  # it is up when the harness fails to set its password there
    return standby


def wait_for_replay(standby, position):
    wait_until(lambda: standby.sql("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,))[0][0],
               what="the standby to catch up")


def promote(standby):
    standby.sql("SELECT pg_promote()")
    wait_until(lambda: not standby.sql("SELECT pg_is_in_recovery()")[0][0], what="the promotion")
    standby.sql("CHECKPOINT")  # only then the control file names the new timeline


def asked(probe, cluster, system, timeline, behind, code=0):
    """guard_check_timeline() on any server."""
    other = Probe(probe.program, cluster.uri(), probe.dest)
    other.source = type("Source", (), {"uri": cluster.uri()})
    return other(f"timeline={system},{timeline},{behind}", code=code)


@pytest.mark.parametrize("major", MAJORS)
def test_fail_over(own_cluster, make_probe, major):
    with contextlib.ExitStack() as made:
        primary = own_cluster(f"primary{major}", major=major, config=TINY)
        probe = make_probe(primary)
        system = system_of(primary)
        primary.sql("CREATE TABLE t (a int)")
        standby = make_standby(primary, made)
        shared = end_of(primary)
        wait_for_replay(standby, shared)

        assert asked(probe, primary, system, 1, shared).values("timeline") == [1]
        busy = asked(probe, standby, system, 1, shared, code=1).lines[-1]
        assert (busy["reason"], busy["retryable"]) == ("SERVER_BUSY", True) and "recovery" in busy["error"]

        # A commit that only the primary has.
        standby.sql("ALTER SYSTEM SET primary_conninfo = ''")  # stronger than postgresql.conf: -R wrote it there
        standby.reload()
        wait_until(lambda: not primary.sql("SELECT 1 FROM pg_stat_replication"), what="the standby to let go")
        primary.sql("INSERT INTO t VALUES (1)")
        alone = end_of(primary)
        promote(standby)
        while lsn(end_of(standby)) <= lsn(alone):
            standby.sql("SELECT pg_switch_wal(); CREATE TABLE IF NOT EXISTS u (a int)")

        back = asked(probe, standby, system, 1, alone, code=1).lines[-1]
        assert (back["reason"], back["retryable"]) == ("SOURCE_WENT_BACK", False)
        assert "timeline 2" in back["error"] and "branched off" in back["error"]
        assert asked(probe, standby, system, 1, shared).values("timeline") == [2], "all that was held is there"
        # What is applied from then on lies beyond the fork: only with the new timeline recorded it is right.
        assert asked(probe, standby, system, 2, alone).values("timeline") == [2]
        old = asked(probe, primary, system, 2, alone, code=1).lines[-1]
        assert old["reason"] == "SOURCE_WENT_BACK" and "does not descend" in old["error"], "the old primary came back"


def test_another_server(probe):
    system = system_of(probe.source.cluster)
    failure = asked(probe, probe.source.cluster, "42", 1, "0/1", code=1).lines[-1]
    assert failure["reason"] == "SOURCE_WENT_BACK"
    assert system in failure["error"] and "42" in failure["error"]


def test_restored(probe):
    """The same timeline, and less WAL than we have seen."""
    cluster = probe.source.cluster
    failure = asked(probe, cluster, system_of(cluster), 1, "7F/0", code=1).lines[-1]
    assert failure["reason"] == "SOURCE_WENT_BACK" and "restored" in failure["error"]


def test_timeline_is_recorded(probe):
    probe("record=7")
    assert probe.dest.sql("SELECT timeline FROM pgcrane.stream") == [(7,)]


# --- replica identity full ---

TABLES = '''
CREATE TABLE keyless (a int, b text);
CREATE TABLE "Nothing ""1""" (a int PRIMARY KEY); ALTER TABLE "Nothing ""1""" REPLICA IDENTITY NOTHING;
CREATE TABLE gone (a int NOT NULL); CREATE UNIQUE INDEX gone_i ON gone (a);
ALTER TABLE gone REPLICA IDENTITY USING INDEX gone_i; DROP INDEX gone_i;
CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE);
CREATE TABLE keyed (a int PRIMARY KEY);
CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a + 1) STORED);
CREATE TABLE root (a int, b int) PARTITION BY LIST (a);
CREATE TABLE mid PARTITION OF root FOR VALUES IN (1, 2) PARTITION BY LIST (b);
CREATE TABLE leaf PARTITION OF mid FOR VALUES IN (1);
CREATE TABLE keyed_leaf PARTITION OF root FOR VALUES IN (3); ALTER TABLE keyed_leaf ADD PRIMARY KEY (a, b);
CREATE UNLOGGED TABLE unlogged (a int)
'''
SETTABLE = {"keyless", '"Nothing ""1"""', "gone", "deferred", "leaf"}


def full(database):
    return {name for (name,) in database.sql("SELECT oid::regclass::text FROM pg_class WHERE relreplident = 'f'"
                                             " AND relkind IN ('r', 'p')")}


def identities(database):
    return dict(database.sql("SELECT oid::regclass::text, relreplident::text FROM pg_class WHERE relkind IN ('r', 'p')"
                             " AND relnamespace = 'public'::regnamespace"))


def lines(probe):
    return probe.dest.sql("SELECT name, made FROM pgcrane.source_object WHERE kind = 'identity full' ORDER BY name")


def test_identity_full(probe):
    probe.source.sql(TABLES)
    before = identities(probe.source)
    run = probe("identity-full")
    assert full(probe.source) == SETTABLE
    assert run.values("left") == [{'"public"."made"': "it has generated columns, which an identity may not hold"}]
    assert len(lines(probe)) == len(SETTABLE) and all(made for _, made in lines(probe))
    probe("identity-full")  # again: nothing more
    assert len(lines(probe)) == len(SETTABLE)
    probe.source.sql("ALTER TABLE keyless RENAME TO renamed; DROP TABLE deferred")
    probe("identity-undo")
    after = identities(probe.source)
    before["renamed"] = before.pop("keyless")
    del before["deferred"]
    before["gone"] = "n"  # what `i` without its index means
    assert after == before
    assert lines(probe) == []


def test_identity_full_updates_go_on(probe):
    """What the server refuses for a published table without identity works meanwhile, and is refused no more after."""
    probe.source.sql("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x')")
    probe("identity-full")
    probe.source.sql(f"CREATE PUBLICATION {SLOT}_keys FOR TABLE t WITH (publish = 'update, delete');"
                     " UPDATE t SET b = 'y'")
    failure = refused(probe, "identity-undo")
    assert f"{SLOT}_keys still publishes" in failure["error"]
    probe.source.sql("UPDATE t SET b = 'z'")  # not set back: the application does not notice
    probe.source.sql(f"DROP PUBLICATION {SLOT}_keys")
    probe("identity-undo")
    probe.source.sql("UPDATE t SET b = 'end'")
    assert identities(probe.source) == {"t": "d"} and lines(probe) == []


def test_identity_full_of_a_table_in_use(probe):
    """The lock is not had: the table stays, is listed, and others are set."""
    probe.source.sql("CREATE TABLE busy (a int); CREATE TABLE free (a int)")
    with contextlib.closing(probe.source.connect()) as conn:
        conn.execute("BEGIN; INSERT INTO busy VALUES (1)")
        left = probe("identity-full").values("left")[0]
    assert list(left) == ['"public"."busy"'] and "lock" in left['"public"."busy"']
    assert full(probe.source) == {"free"}
    assert [name.split(" ", 1)[1] for name, _ in lines(probe)] == ['DEFAULT "public"."free"']


@pytest.mark.parametrize("point", ["seam.identity_intended", "seam.identity_set"])
def test_identity_full_killed(probe, point):
    probe.source.sql("CREATE TABLE one (a int); CREATE TABLE two (a int NOT NULL); CREATE UNIQUE INDEX i ON two (a);"
                     "ALTER TABLE two REPLICA IDENTITY NOTHING")
    probe.killed_at(point, "identity-full")
    probe("identity-undo")
    assert identities(probe.source) == {"one": "d", "two": "n"} and lines(probe) == []
    probe.killed_at(point, "identity-full")
    probe("identity-full")
    assert full(probe.source) == {"one", "two"}
    probe.killed_at("seam.identity_restored", "identity-undo")
    probe("identity-undo")
    assert identities(probe.source) == {"one": "d", "two": "n"} and lines(probe) == []


def test_identity_full_goes_with_the_rest(probe, tmp_path):
    """The seam's own removal: publications first, then identities."""
    probe.source.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    probe("identity-full")
    Probe(find_probe(tmp_path), probe.source, probe.dest)("publish", "remove")
    assert identities(probe.source) == {"t": "d"} and lines(probe) == []
    probe.source.sql("UPDATE t SET a = 2")
