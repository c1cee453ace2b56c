"""A backlog that is fetched by SQL before the stream begins (pg/repl_pull.c), on real servers, killed and undisturbed."""
import os
import pathlib
import signal

import pytest

from support import compare
from support.cluster import wait_until
from support.following import Following

pytestmark = pytest.mark.turns(3)

SCHEMA = """CREATE TABLE t (id int PRIMARY KEY, v text, n numeric, at timestamptz DEFAULT now());
 INSERT INTO t SELECT g, 'old', g FROM generate_series(1, 5000) g;
 CREATE TABLE grown (id bigserial PRIMARY KEY, v text);
 CREATE TABLE emptied (id int PRIMARY KEY); INSERT INTO emptied VALUES (1), (2)"""


def many_transactions(source, count):
    """Each of an update, a delete or an insert, some rolled back, some with subtransactions."""
    source.sql(f"""DO $$ BEGIN FOR i IN 1..{count} LOOP
      UPDATE t SET v = 'new ' || i || repeat('x', 200), n = n + 0.5 WHERE id = 1 + i % 5000;
      INSERT INTO grown (v) VALUES (repeat(md5(i::text), 10));
      IF i % 10 = 0 THEN DELETE FROM t WHERE id = i; INSERT INTO t VALUES (i, 'back', i); END IF;
      IF i % 17 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
      END LOOP; END $$""")


def backlog(source):
    many_transactions(source, 6000)
    source.sql("INSERT INTO grown (v) SELECT repeat(md5(g::text), 8) FROM generate_series(1, 60000) g")
    source.sql("TRUNCATE emptied; UPDATE t SET v = 'all' WHERE id % 3 = 0")
    many_transactions(source, 3000)


def behind(program, source, dest):
    """Followed, stopped, and then left behind by some 40 MB."""
    source.sql(SCHEMA)
    following = Following(program, source, dest, "--pg-bindir", source.cluster.bin).start()
    following.wait_caught_up()
    following.stop()
    backlog(source)
    return following


def readers(source):
    return source.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name LIKE '%\\_reader'")


def log_of(following):
    return "".join(path.read_text() for path in pathlib.Path(following.program.state_dir).rglob("*.log"))


def fetched_by_sql(following):
    return "is fetched by SQL" in log_of(following)


def assert_promoted_equal(following, fetched=True):
    following.wait_caught_up()
    following.wait_applied()
    assert fetched_by_sql(following) == fetched
    assert not readers(following.source)
    pg_dump = os.path.join(following.source.cluster.bin, "pg_dump")
    promoted = following.promoted(following.promote())
    assert promoted["proven"]
    problems = [text for text in compare.differences(following.source.uri, following.dest.uri, pg_dump=pg_dump)
                if not text.startswith("settings of the database")]
    assert not problems, problems


@pytest.mark.parametrize("major", (13, 15, 17, 18))
def test_fetched_by_sql(major, make_cluster, pgcrane):
    source = make_cluster(f"backlog{major}", major=major).createdb()
    dest = make_cluster(f"backlogto{major}", major=major).createdb()
    following = behind(pgcrane, source, dest)
    before = following.transactions()
    following.again()
    assert_promoted_equal(following)
    assert before == 0
    source.drop(), dest.drop()


def test_counted_exactly(source_db, dest_db, pgcrane):
    """Each transaction that changed something is applied once, whatever way it came."""
    following = behind(pgcrane, source_db, dest_db)
    following.again()
    following.wait_caught_up()
    following.wait_applied()
    committed = 9000 - 6000 // 17 - 3000 // 17 + 2
    assert following.transactions() == committed
    assert_promoted_equal(following)


@pytest.mark.turns(2)
@pytest.mark.parametrize("point", ("pull.before_chunk:kill:2", "pull.after_chunk:kill:2", "follow.receive:kill:9000",
                                   "follow.after_commit:kill:2"))
def test_killed_while_it_is_fetched(point, source_db, dest_db, pgcrane):
    following = behind(pgcrane, source_db, dest_db)
    following.again(env={"PGCRANE_FAILPOINT": point})
    assert following.end() != 0
    wait_until(lambda: not readers(source_db), what="the reader to go with its session")
    many_transactions(source_db, 100)
    following.again()
    assert_promoted_equal(following)


@pytest.mark.parametrize("side", ("source", "destination"))
def test_server_killed_while_it_is_fetched(side, own_cluster, source_db, dest_db, pgcrane):
    struck = own_cluster("backlogkilled").createdb()
    source, dest = (struck, dest_db) if side == "source" else (source_db, struck)
    following = behind(pgcrane, source, dest)
    following.again(env={"PGCRANE_FAILPOINT": "follow.receive:sleep=3000:9000"})
    wait_until(lambda: readers(source), what="the reader")
    struck.cluster.kill9()
    struck.cluster.start()
    assert_promoted_equal(following)


def test_stopped_while_it_is_fetched(source_db, dest_db, pgcrane):
    """Ctrl-C leaves no reader behind, at once."""
    following = behind(pgcrane, source_db, dest_db)
    following.again(env={"PGCRANE_FAILPOINT": "follow.receive:sleep=500:5000"})
    wait_until(lambda: readers(source_db), what="the reader")
    following.process.send_signal(signal.SIGINT)
    assert following.end() == 3
    assert not readers(source_db)
    following.again()
    assert_promoted_equal(following)


def test_no_slot_left_for_the_reader(own_cluster, dest_db, pgcrane):
    """Then it is streamed."""
    source = own_cluster("backlognoslot", config={"max_replication_slots": 1}).createdb()
    following = behind(pgcrane, source, dest_db)
    following.again()
    assert_promoted_equal(following, fetched=False)


def test_undecodable_behind_a_backlog(source_db, dest_db, pgcrane):
    """What is wrong with the slot is said at once, and not tried again for an hour: the function fails behind the beginning of
    its COPY, with nothing given."""
    if source_db.cluster.major < 15:
        pytest.skip("a filter of rows is what makes it undecodable")
    source_db.sql(SCHEMA)
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    keys, = source_db.sql("SELECT pubname FROM pg_publication WHERE pubupdate")[0]
    following.stop()
    source_db.sql(f"ALTER PUBLICATION {keys} DROP TABLE t; ALTER PUBLICATION {keys} ADD TABLE t WHERE (1 / (id - 7) > 0)")
    source_db.sql("UPDATE t SET v = 'cannot be decoded' WHERE id = 7")
    source_db.sql("INSERT INTO grown (v) SELECT repeat(md5(g::text), 8) FROM generate_series(1, 60000) g")
    following.again()
    assert following.end(60) == 2
    failed = following.bodies("FAILED")[-1]
    assert failed["reason"] == "SLOT_UNDECODABLE" and "division by zero" in failed["message"], failed
    assert "--restart" in failed["remedy"] and failed["retryable"] is False
    log = log_of(following)
    assert "is fetched by SQL" in log and "the backlog is streamed: division by zero" in log
    assert not readers(source_db)


def test_a_temp_file_limit_below_a_chunk(source_db, dest_db, pgcrane):
    """Somebody else's limit is not raised; what no chunk of ours fits into is streamed."""
    following = behind(pgcrane, source_db, dest_db)
    source_db.sql(f"ALTER DATABASE {source_db.name} SET temp_file_limit = '128kB'")
    source_db.sql(f"ALTER DATABASE {source_db.name} SET work_mem = '1MB'")
    following.again()
    following.wait_caught_up()
    following.wait_applied()
    log = log_of(following)
    assert "is fetched by SQL" in log and "the backlog is streamed: temporary file size exceeds temp_file_limit" in log
    assert not readers(source_db)
    for table in ("t", "grown", "emptied"):
        query = f"SELECT count(*), sum(hashtext(x::text)) FROM {table} x"
        assert source_db.sql(query) == dest_db.sql(query), table
