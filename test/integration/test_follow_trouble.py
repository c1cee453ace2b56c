"""Following in bad weather, through the real commands: it goes on by itself, or there is one clear error; nothing is lost."""
import contextlib
import time

import pytest

from support.cluster import Database, wait_until
from support.following import Following
from support.tcp_proxy import Proxy
from support.trouble import (Writer, again, assert_equal, assert_promoted, assert_source_clean, cut_off, failpoint, make, make_standby,
                             promote_standby, wait_for_replay)

pytestmark = pytest.mark.turns(5)

SIDES = ("source", "destination")


@pytest.fixture
def following(source_db, dest_db, pgcrane):
    return make(pgcrane, source_db, dest_db)


@contextlib.contextmanager
def through_proxy(pgcrane, side, source, dest, *flags):
    """A migration whose way to one side can be disturbed."""
    with Proxy((source if side == "source" else dest).cluster) as proxy:
        uris = {"source_uri": proxy.uri(source)} if side == "source" else {"dest_uri": proxy.uri(dest)}
        yield proxy, make(pgcrane, source, dest, *flags, **uris)


def ended(following, code, reason):
    """It ended by itself with that error; the body of FAILED."""
    assert following.end() == code, following.said()
    failed = following.failure()
    assert failed["reason"] == reason and failed["remedy"], failed
    return failed


def begun_anew(following, **uris):
    """What the remedy says helps."""
    assert_promoted(again(following.program, following.source, following.dest, "--restart", **uris).start())


def slot_of(source):
    return source.sql("SELECT slot_name, restart_lsn, confirmed_flush_lsn::text, active_pid FROM pg_replication_slots"
                      " WHERE database = current_database()")[0]


# --- the network ---


@pytest.mark.parametrize("side", SIDES)
def test_network_cut(side, source_db, dest_db, pgcrane):
    """All connections are reset and none can be made for a while: it waits, says so, and goes on by itself."""
    with through_proxy(pgcrane, side, source_db, dest_db) as (proxy, following), Writer(source_db) as writer:
        following.start()
        following.wait_caught_up()
        proxy.refuse = True
        proxy.reset_all()
        following.wait_state("RETRYING")
        writer.wait_for(30)
        proxy.refuse = False
        assert_promoted(following)
        assert any("trying again for 3600 s" in body["text"] for body in following.bodies("EVENT"))


@pytest.mark.parametrize("side", SIDES)
def test_network_silent(side, source_db, dest_db, pgcrane):
    """Bytes are held back, no connection is closed; later they flow again."""
    with through_proxy(pgcrane, side, source_db, dest_db) as (proxy, following), Writer(source_db) as writer:
        following.start()
        following.wait_caught_up()
        proxy.flowing.clear()
        before = following.position()
        writer.wait_for(50)
        assert following.running()
        assert side == "source" or following.position() == before
        proxy.release()
        assert_promoted(following)


@pytest.mark.turns(4)
@pytest.mark.parametrize("direction", ("up", "down"))
@pytest.mark.parametrize("side", SIDES)
def test_network_half_open(side, direction, source_db, dest_db, pgcrane):
    """One direction of each connection is closed, the other is not."""
    with through_proxy(pgcrane, side, source_db, dest_db) as (proxy, following), Writer(source_db) as writer:
        following.start()
        following.wait_caught_up()
        fault = proxy.fault("half-close", direction=direction, times=3)
        writer.wait_for(10)
        wait_until(lambda: fault.hits == 3, what="the closings")
        assert_promoted(following)


@pytest.mark.parametrize("side", SIDES)
def test_network_slow(side, source_db, dest_db, pgcrane):
    """Every packet takes its time: it falls behind, then catches up."""
    with through_proxy(pgcrane, side, source_db, dest_db) as (proxy, following), Writer(source_db) as writer:
        following.start()
        following.wait_caught_up()
        told = len(following.bodies("PROGRESS"))
        fault = proxy.fault("delay", seconds=0.5, times=30, only=b" stream\0" if side == "source" else b" apply\0")
        # What a slow source has sent says when it was sent: how late it is, only the position tells.
        shows = (lambda cdc: cdc["lag_bytes"] > 5_000) if side == "source" else (lambda cdc: cdc["lag_us"] > 400_000)
        wait_until(lambda: any(shows(body["cdc"]) for body in following.bodies("PROGRESS")[told:]), what="a lag")
        writer.wait_for(50)
        wait_until(lambda: fault.hits == 30, what="the delays")
        assert_promoted(following)


def test_lost_reply_of_commit(source_db, dest_db, pgcrane):
    """The destination has committed, nobody hears of it: nothing is lost, and nothing is applied twice."""
    source_db.sql("CREATE TABLE added (n int); ALTER TABLE added REPLICA IDENTITY FULL")
    with through_proxy(pgcrane, "destination", source_db, dest_db) as (proxy, following):
        following.start(env=failpoint("apply.before_commit:sleep=3000"))
        following.wait_caught_up()
        before = following.transactions()
        source_db.sql("INSERT INTO added VALUES (1)")  # twice would be a row too many
        wait_until(lambda: dest_db.sql("SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation ="
                                       " 'added'::regclass AND a.state = 'idle in transaction'"
                                       " AND a.query LIKE 'UPDATE pgcrane.position%%'"), what="the moment before COMMIT")
        fault = proxy.fault("stall", direction="down", only=b" apply\0")
        wait_until(lambda: following.transactions() == before + 1 and fault.hits == 1, what="the COMMIT, and its reply held")
        proxy.release()
        proxy.reset_all()
        source_db.sql("INSERT INTO added VALUES (2)")
        following.wait_applied()
        assert following.transactions() == before + 2
        assert dest_db.sql("SELECT n FROM added ORDER BY n") == [(1,), (2,)]
        assert_promoted(following, "--lag-limit", "20", "--fence-timeout", "30")  # each COMMIT still takes three seconds


@pytest.mark.parametrize("side", ("source", "destination"))
def test_killed_behind_a_way_that_was_forgotten(side, source_db, dest_db, pgcrane):
    """The server still takes our sessions for alive, with their locks, and the slot. The next run knows that nobody uses them, and
    does not wait for a time-out, which here is not to come."""
    source_db.sql("ALTER DATABASE %s SET wal_sender_timeout = 0" % source_db.name)
    with through_proxy(pgcrane, side, source_db, dest_db) as (proxy, following):
        following.start()
        following.wait_caught_up()
        proxy.lose_all()
        assert following.kill("session")
        following.end()
        source_db.sql("INSERT INTO item VALUES (9990, 'meanwhile')")
        following.again().wait_caught_up()
        assert_promoted(following)


def test_retry_for(source_db, dest_db, pgcrane):
    """A server that stays away longer than that: one clear error, and the same command goes on when it is back."""
    with through_proxy(pgcrane, "destination", source_db, dest_db, "--retry-for", "3") as (proxy, following):
        following.start()
        following.wait_caught_up()
        proxy.refuse = True
        proxy.reset_all()
        source_db.sql("INSERT INTO item VALUES (9998, 'it is noticed when there is something to apply')")
        assert following.end() == 69, following.said()
        assert following.failure()["reason"] in ("UNREACHABLE", "CONNECTION_LOST"), following.said()
        assert following.failure()["remedy"] and "destination" in following.failure()["message"]
        source_db.sql("INSERT INTO item VALUES (9999, 'meanwhile')")
        proxy.refuse = False
        following.again()
        assert_promoted(following)


# --- servers ---


@pytest.mark.turns(4)
@pytest.mark.parametrize("how", ("fast", "immediate", "kill9"))
@pytest.mark.parametrize("side", SIDES)
def test_server_restarts(side, how, own_cluster, source_db, dest_db, pgcrane):
    cluster = own_cluster("restarted")
    source, dest = (cluster.createdb(), dest_db) if side == "source" else (source_db, cluster.createdb())
    following = make(pgcrane, source, dest)
    with Writer(source) as writer:
        following.start()
        following.wait_caught_up()
        if how == "kill9":
            cluster.kill9()
        else:
            cluster.stop(how)
        following.wait_state("RETRYING")
        cluster.start()
        writer.wait_for(10)
        assert_promoted(following)
        pgcrane.end_all()


def test_source_shuts_down_while_the_destination_waits(own_cluster, dest_db, pgcrane):
    """What the applier waits for cannot be confirmed: the source's shutdown does not wait for it."""
    cluster = own_cluster("leaving")
    following = make(pgcrane, cluster.createdb(), dest_db).start()
    following.wait_caught_up()
    with dest_db.connect(autocommit=False) as conn:
        conn.execute("LOCK TABLE item IN EXCLUSIVE MODE")
        following.source.sql("UPDATE item SET v = 'not yet'")
        wait_until(lambda: dest_db.sql("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'item'::regclass"), 30,
                   "the applier to wait")
        size = cluster.log_size()
        cluster.stop("fast", timeout=30)
        assert "database system is shut down" in cluster.log_text(size), "it waited for us"
        following.wait_state("RETRYING")
        cluster.start()
    assert_promoted(following)
    pgcrane.end_all()


class Pair:
    """A server, a standby of it, and an address that leads to the one or the other."""

    def __init__(self, made, cluster):
        self.cluster, self.standby = cluster, make_standby(cluster, made)
        self.proxy = made.enter_context(Proxy(cluster))
        self.database = cluster.createdb()

    def uri(self):
        return self.proxy.uri(self.database)

    def fail_over(self):
        """The first is gone at once; the database of the other."""
        self.cluster.kill9()
        promote_standby(self.standby)
        self.proxy.target = ("127.0.0.1", self.standby.port)
        self.proxy.reset_all()
        return Database(self.standby, self.database.name)


@pytest.mark.parametrize("major", (15, 18))
def test_destination_failed_over(major, own_cluster, source_db, pgcrane):
    """The standby lacks the last commits, and the source was never told of them: it streams again from there."""
    with contextlib.ExitStack() as made:
        pair = Pair(made, own_cluster("failover", major=major))
        following = make(pgcrane, source_db, pair.database, dest_uri=pair.uri())
        following.start()
        following.wait_caught_up()
        following.stop()
        following.again(env=failpoint("follow.after_commit:kill:2"))
        following.wait_caught_up()
        source_db.sql("UPDATE item SET v = 'both have it' WHERE id < 100")
        following.wait_applied()
        wait_for_replay(pair.cluster, pair.standby)
        cut_off(pair.cluster, pair.standby)
        source_db.sql("UPDATE item SET v = 'the standby lacks it' WHERE id < 50")
        ended(following, 2, "WORKER_LOST")
        lost = following.position()
        following.dest = pair.fail_over()
        assert lost != following.position(), "nothing was lost: this test shows nothing"
        with Writer(source_db):
            following.again()
            assert_promoted(following)


def test_what_a_standby_lacks_is_not_confirmed(own_cluster, source_db, pgcrane):
    """The standby confirms no commit, and is cut off: what it lacks stays on the source, and the fail-over costs nothing."""
    with contextlib.ExitStack() as made:
        pair = Pair(made, own_cluster("notconfirmed"))
        following = make(pgcrane, source_db, pair.database, dest_uri=pair.uri())
        following.start()
        following.wait_caught_up()
        source_db.sql("UPDATE item SET v = 'both have it' WHERE id < 100")
        following.wait_applied()
        end = source_db.sql("SELECT pg_current_wal_insert_lsn()::text")[0][0]
        confirmed = ("SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE database = current_database()")
        wait_until(lambda: source_db.sql(confirmed, (end,))[0][0], what="the acknowledgement of what both have")
        cut_off(pair.cluster, pair.standby)
        source_db.sql("UPDATE item SET v = 'the standby lacks it' WHERE id < 50")
        following.wait_applied()
        end = source_db.sql("SELECT pg_current_wal_insert_lsn()::text")[0][0]
        time.sleep(3)  # three times as long as it takes to be confirmed without a standby
        assert not source_db.sql(confirmed, (end,))[0][0]
        lost = following.position()
        following.dest = pair.fail_over()
        assert lost != following.position(), "nothing was lost: this test shows nothing"
        assert_promoted(following)


def test_a_standby_lacks_that_it_was_opened(own_cluster, source_db, pgcrane):
    """A fail-over right behind a promote takes it back: the source has all that is needed to follow, and to promote again."""
    with contextlib.ExitStack() as made:
        pair = Pair(made, own_cluster("openedalone"))
        following = make(pgcrane, source_db, pair.database, dest_uri=pair.uri())
        following.start()
        following.wait_caught_up()
        wait_until(lambda: following.position() is not None and len(pair.cluster.sql("SELECT 1 FROM pg_stat_replication")) == 1,
                   what="the standby")
        time.sleep(2)  # it is looked for once a second
        cut_off(pair.cluster, pair.standby)
        promoting = pgcrane.popen("promote", "--json", "--state-dir", pgcrane.state_dir)
        wait_until(lambda: pair.database.sql("SELECT 1 FROM pgcrane.step WHERE name = 'opened'"), what="the destination to be opened")
        time.sleep(2)
        assert slot_of(source_db)
        following.dest = pair.fail_over()
        following.end()
        promoting.communicate(timeout=60)
        assert following.dest.sql("SELECT 1 FROM pgcrane.step WHERE name = 'opened'") == []
        following.again()
        assert_promoted(following)


def test_killed_while_it_waits_for_a_standby(own_cluster, source_db, pgcrane):
    """The destination is open, the source not cleared up yet: the same command does that, once the standby is back."""
    with contextlib.ExitStack() as made:
        pair = Pair(made, own_cluster("killedwaiting"))
        following = make(pgcrane, source_db, pair.database, dest_uri=pair.uri())
        following.start()
        following.wait_caught_up()
        time.sleep(2)  # standbys are looked for once a second
        cut_off(pair.cluster, pair.standby)
        promoting = pgcrane.popen("promote", "--json", "--state-dir", pgcrane.state_dir)
        wait_until(lambda: pair.database.sql("SELECT 1 FROM pgcrane.step WHERE name = 'opened'"), what="the destination to be opened")
        time.sleep(1)
        assert following.kill("everything") and slot_of(source_db)
        following.end()
        promoting.communicate(timeout=60)
        pair.standby.sql("ALTER SYSTEM RESET primary_conninfo")
        pair.standby.reload()
        assert following.again().end() == 0, following.said()
        assert_equal(source_db, pair.database)
        assert_source_clean(following)


def test_one_of_two_standbys_is_away(own_cluster, source_db, pgcrane):
    """It may be the one that is failed over to: what it lacks is kept, though the other has everything."""
    with contextlib.ExitStack() as made:
        pair = Pair(made, own_cluster("twostandbys"))
        other = make_standby(pair.cluster, made)
        following = make(pgcrane, source_db, pair.database, dest_uri=pair.uri())
        following.start()
        following.wait_caught_up()
        confirmed = ("SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE database = current_database()")

        def written(text):
            source_db.sql("UPDATE item SET v = %s WHERE id < 50", (text,))
            following.wait_applied()
            return source_db.sql("SELECT pg_current_wal_insert_lsn()::text")[0][0]

        end = written("all have it")
        wait_until(lambda: source_db.sql(confirmed, (end,))[0][0], what="the acknowledgement of what all have")
        pair.standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
        pair.standby.reload()
        wait_until(lambda: len(pair.cluster.sql("SELECT 1 FROM pg_stat_replication")) == 1, what="the standby to let go")
        end = written("one lacks it")
        wait_for_replay(pair.cluster, other)
        time.sleep(3)  # three times as long as it takes to be confirmed without standbys
        assert not source_db.sql(confirmed, (end,))[0][0]
        following.dest = pair.fail_over()
        assert_promoted(following)


@pytest.mark.turns(6)
def test_destination_went_back(own_cluster, source_db, pgcrane):
    """As above, but the source has thrown away what is missing: it says so, at once and for good; --restart helps."""
    with contextlib.ExitStack() as made:
        pair = Pair(made, own_cluster("wentback"))
        following = make(pgcrane, source_db, pair.database, dest_uri=pair.uri())
        following.start()
        following.wait_caught_up()
        wait_for_replay(pair.cluster, pair.standby)
        cut_off(pair.cluster, pair.standby)
        source_db.sql("UPDATE item SET v = 'the standby lacks it' WHERE id < 50")
        end = source_db.sql("SELECT pg_current_wal_insert_lsn()::text")[0][0]
        wait_until(lambda: source_db.sql("SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots"
                                         " WHERE database = current_database()", (end,))[0][0], 120, "the end of the minute that a standby is waited for")
        following.dest = pair.fail_over()
        source_db.sql("UPDATE item SET v = 'after it'")
        failed = ended(following, 2, "DEST_WENT_BACK")
        assert "--restart" in failed["remedy"] and "between are gone" in failed["message"]
        following.again()
        ended(following, 2, "DEST_WENT_BACK")
        begun_anew(following, dest_uri=pair.uri())


@pytest.mark.parametrize("lacks", (False, True), ids=("complete", "lacks-commits"))
def test_source_failed_over(lacks, own_cluster, pgcrane):
    """17 and later take the slot along. A standby that has everything is followed on; one that lacks what is at the
    destination is refused for good."""
    with contextlib.ExitStack() as made:
        cluster = own_cluster("primary", major=18, config={"hot_standby_feedback": "on"})
        cluster.sql("SELECT pg_create_physical_replication_slot('standby')")
        pair = Pair(made, cluster)
        pair.standby.sql("ALTER SYSTEM SET primary_slot_name = 'standby'")
        pair.standby.sql("ALTER SYSTEM SET hot_standby_feedback = on")
        info = pair.standby.sql("SHOW primary_conninfo")[0][0]
        pair.standby.sql("ALTER SYSTEM SET primary_conninfo = '%s'" % (info + " dbname=postgres").replace("'", "''"))
        pair.standby.reload()
        following = make(pgcrane, pair.database, own_cluster("dest18", major=18).createdb(), source_uri=pair.uri())
        following.start()
        following.wait_caught_up()
        pair.standby.sql("ALTER SYSTEM SET sync_replication_slots = on")  # now: it looks rarely when there is none
        pair.standby.reload()
        name = slot_of(pair.database)[0]
        wait_until(lambda: pair.standby.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND synced"
                                            " AND NOT temporary", (name,)), 60, "the slot on the standby")
        if lacks:
            cut_off(cluster, pair.standby)
            pair.database.sql("UPDATE item SET v = 'only the primary had it' WHERE id < 50")
            following.wait_applied()
        else:
            pair.database.sql("UPDATE item SET v = 'both have it' WHERE id < 50")
            following.wait_applied()
            wait_for_replay(cluster, pair.standby)
        following.source = pair.fail_over()
        if lacks:
            failed = ended(following, 2, "SOURCE_WENT_BACK")
            assert "timeline 2" in failed["message"] and "--restart" in failed["remedy"]
        else:
            following.source.sql("UPDATE item SET v = 'the new primary' WHERE id < 20")
            assert_promoted(following)
            assert following.dest.sql("SELECT count(*) FROM item WHERE v = 'both have it'") == [(30,)]


# --- the slot ---


@pytest.mark.parametrize("running", (True, False), ids=("while-following", "while-stopped"))
def test_slot_dropped_by_somebody(running, following):
    following.start()
    following.wait_caught_up()
    if not running:
        following.stop()
    name = slot_of(following.source)[0]
    if running:  # the stream is opened again faster than anybody can drop it: in one go
        following.source.sql(f"""DO $$ BEGIN LOOP BEGIN
            PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{name}';
            PERFORM pg_drop_replication_slot('{name}'); EXIT;
            EXCEPTION WHEN object_in_use THEN NULL; END; END LOOP; END $$""")
    else:
        following.source.sql("SELECT pg_drop_replication_slot(%s)", (name,))
        following.again()
    failed = ended(following, 2, "SLOT_LOST")
    assert name in failed["message"] and "--restart" in failed["remedy"]
    following.again()
    ended(following, 2, "SLOT_LOST")  # for good: no slot is made in its place
    assert not following.source.sql("SELECT 1 FROM pg_replication_slots WHERE database = current_database()")
    begun_anew(following)


def fill_wal(source, segments):
    for _ in range(segments):
        source.sql("SELECT pg_logical_emit_message(false, 'x', 'x'); SELECT pg_switch_wal()")
    source.sql("CHECKPOINT")


@pytest.mark.parametrize("major", (15, 18))
def test_slot_invalidated(major, own_cluster, pgcrane):
    """The destination is away for too long: clear, immediate, final, and it says which setting did it."""
    cluster = own_cluster("tiny", major=major, config={"max_slot_wal_keep_size": "16MB", "min_wal_size": "32MB",
                                                       "max_wal_size": "32MB"})
    following = make(pgcrane, cluster.createdb(), own_cluster("dest", major=major).createdb())
    following.start()
    following.wait_caught_up()
    following.stop()
    fill_wal(following.source, 6)
    wait_until(lambda: following.source.sql("SELECT wal_status = 'lost' FROM pg_replication_slots")[0][0], what="the loss")
    following.again()
    failed = ended(following, 2, "SLOT_LOST")
    assert "max_slot_wal_keep_size" in failed["message"] + failed["remedy"], failed
    begun_anew(following)


def test_slot_invalidated_while_following(own_cluster, source_db, dest_db, pgcrane):
    """Somebody holds a lock on the destination, and the source gives the slot up: it does not wait for the lock."""
    cluster = own_cluster("tiny", config={"max_slot_wal_keep_size": "16MB", "min_wal_size": "32MB", "max_wal_size": "32MB"})
    following = make(pgcrane, cluster.createdb(), dest_db)
    following.start()
    following.wait_caught_up()
    with contextlib.closing(dest_db.connect(autocommit=False)) as conn:
        conn.execute("LOCK TABLE item")
        following.source.sql("UPDATE item SET n = 5")
        wait_until(lambda: dest_db.sql("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the applier to wait")
        fill_wal(following.source, 6)
        failed = ended(following, 2, "SLOT_LOST")
    assert "max_slot_wal_keep_size" in failed["message"] + failed["remedy"], failed


def test_max_retained(own_cluster, dest_db, pgcrane):
    """The slot goes before the source's disk is full; what it did is said, and nothing is left there."""
    cluster = own_cluster("retained")
    following = make(pgcrane, cluster.createdb(), dest_db, "--max-retained", "32MB")
    following.start()
    following.wait_caught_up()
    with contextlib.closing(dest_db.connect(autocommit=False)) as conn:
        conn.execute("LOCK TABLE item")
        following.source.sql("UPDATE item SET n = 5")
        wait_until(lambda: dest_db.sql("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the applier to wait")
        fill_wal(following.source, 4)
        failed = ended(following, 2, "RETAINED_LIMIT")
    assert "--max-retained" in failed["message"]
    assert_source_clean(following)
    following.again()
    ended(following, 2, "SLOT_LOST")
    begun_anew(following)


@pytest.mark.parametrize("reason", ("RETAINED_LIMIT", "SLOT_LOST"))
def test_slot_is_watched_during_the_copy(reason, source_db, dest_db, pgcrane):
    """A copy that can end in nothing but a lost slot is not carried on with."""
    following = make(pgcrane, source_db, dest_db, "--max-retained", "32MB")
    following.start(env=failpoint("copy.before_chunk:sleep=15000"))
    wait_until(lambda: dest_db.sql("SELECT to_regclass('pgcrane.chunk')")[0][0] and dest_db.sql("SELECT 1 FROM pgcrane.chunk"),
               what="the copy")
    if reason == "SLOT_LOST":
        source_db.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                      " WHERE database = current_database()")
    else:
        fill_wal(source_db, 4)
    ended(following, 2, reason)
    assert reason == "SLOT_LOST" or not source_db.sql("SELECT 1 FROM pg_publication")
    assert dest_db.sql("SELECT count(*) FROM pgcrane.chunk WHERE rows IS NOT NULL") == [(0,)], "the copy went on"
    begun_anew(following)


# --- somebody writes to the destination ---

CONFLICTS = {
    "a key that is there": ("INSERT INTO item VALUES (7000, 'by hand')", "INSERT INTO item VALUES (7000, 'by the source')",
                            "DELETE FROM item WHERE id = 7000", ("item", "7000", "by hand", "by the source")),
    "a row that is gone": ("DELETE FROM part WHERE id = 5", "UPDATE part SET v = 'changed' WHERE id = 5",
                           "INSERT INTO part (id, item, v) VALUES (5, 6, 'part 5')", ("part", "5", "changed")),
    "a row to delete is gone": ("DELETE FROM part WHERE id = 6", "DELETE FROM part WHERE id = 6",
                                "INSERT INTO part (id, item, v) VALUES (6, 7, 'part 6')", ("part", "6")),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_writes_on_the_destination(name, following):
    """A real conflict stops at exactly that change, with table, key and both rows; mended by hand, the same command goes
    on, and nothing was skipped."""
    by_hand, on_source, mend, words = CONFLICTS[name]
    following.start()
    following.wait_caught_up()
    following.dest.sql(by_hand)
    following.source.sql("INSERT INTO item VALUES (8001, 'before it')")
    following.source.sql(on_source)
    following.source.sql("INSERT INTO item VALUES (8002, 'after it')")
    failed = ended(following, 2, "CONFLICT")
    assert all(word in failed["message"] for word in words), failed
    assert not following.dest.sql("SELECT 1 FROM item WHERE id = 8002"), "something was applied behind it"
    following.again()
    ended(following, 2, "CONFLICT")
    following.dest.sql(mend)
    following.again()
    assert_promoted(following)


# --- two of them ---


def test_two_processes_for_one_migration(following, tmp_path):
    """Also one with another state folder, which knows of the first only what the destination says."""
    following.start()
    following.wait_caught_up()
    others = [Following(following.program, following.source, following.dest, *flags).start()
              for flags in ((), ("--state-dir", tmp_path / "other"))]
    with Writer(following.source):
        for other in others:
            assert "let it finish" in ended(other, 2, "FENCED")["remedy"]
        assert_promoted(following)


# --- stopped, killed, other options ---


def test_stopped_and_again(following):
    """Ctrl-C ends with 3 and keeps everything; the source is followed from there."""
    with Writer(following.source) as writer:
        following.start()
        following.wait_caught_up()
        assert following.stop() == 3
        assert following.failure()["reason"] == "CANCELLED"
        assert "pgcrane abort" in following.stderr and "go on with" in following.stderr
        writer.wait_for(20)
        following.again()
        assert_promoted(following)


def test_other_options_are_refused(following):
    following.start()
    following.wait_caught_up()
    following.stop()
    for flags in (("--table", "item"), ("--no-owner",)):
        other = Following(following.program, following.source, following.dest, *flags).start()
        failed = ended(other, 2, "LEDGER_MISMATCH")
        assert "--restart" in failed["remedy"]
    plain = following.program("migrate", *following.uris, "--yes", "--json")
    assert plain.lines[-1]["body"]["reason"] == "LEDGER_MISMATCH", plain
    following.again()
    assert_promoted(following)


def test_start_over(following):
    """--restart of a followed migration: the old slot goes, another is made, what was copied is copied anew."""
    following.start()
    following.wait_caught_up()
    following.stop()
    before = slot_of(following.source)
    following.source.sql("UPDATE item SET v = 'newer'")
    again = Following(following.program, following.source, following.dest, "--restart").start()
    again.wait_caught_up()
    after = slot_of(following.source)
    assert before[2] != after[2] and before[1] != after[1]
    assert len(following.source.sql("SELECT pubname FROM pg_publication")) == 2
    assert_promoted(again)


LOAD_POINTS = ("ledger.created", "seam.slot_made", "snapshot.recorded", "schema.archived", "seam.shapes_noted", "plan.written",
               "copy.before_commit", "copy.after_commit", "index.before_commit", "fk.after_add", "fk.after_validate",
               "sequences.before")
FOLLOW_POINTS = ("follow.before_apply", "follow.before_commit", "follow.after_commit", "follow.after_feedback",
                 "follow.inside_transaction")


@pytest.mark.turns(5)
@pytest.mark.parametrize("point", LOAD_POINTS + FOLLOW_POINTS)
def test_killed_then_again(point, following):
    """In whatever phase it was: the same command goes on, and the application's writes of all the time are there."""
    with Writer(following.source) as writer:
        following.start(env=failpoint(f"{point}:kill"))
        ended(following, 2, "WORKER_LOST")
        writer.wait_for(5)
        following.again()
        assert_promoted(following)


@pytest.mark.parametrize("part", ("session", "everything"))
def test_killed_while_following(part, following):
    with Writer(following.source) as writer:
        following.start()
        following.wait_caught_up()
        assert following.kill(part)
        following.end()
        writer.wait_for(5)
        wait_until(lambda: not following.pids("worker"), what="the worker to see it")
        following.again()
        assert_promoted(following)
