"""Tables that are copied again while changes are followed, and a worker that dies in the middle of it."""
import pytest

from support import compare
from support.cluster import wait_until
from support.following import Following

pytestmark = pytest.mark.turns(2)

TABLES = """CREATE TABLE changed (id int PRIMARY KEY, a text);
 INSERT INTO changed SELECT n, 'start' FROM generate_series(1, 2000) n;
 CREATE TABLE other (id int PRIMARY KEY, a text);
 INSERT INTO other SELECT n, 'start' FROM generate_series(1, 2000) n"""


@pytest.mark.parametrize("point", (None, "again.before_snapshot", "again.before_marker", "again.before_commit"))
def test_a_column_added_on_both_sides(point, source_db, dest_db, pgcrane):
    """Paused when the source has it, copied again when the destination has it too; what came meanwhile is there once."""
    source_db.sql(TABLES)
    following = Following(pgcrane, source_db, dest_db)
    following.start(env={"PGCRANE_FAILPOINT": f"{point}:kill"} if point else None)
    following.wait_caught_up()
    source_db.sql("ALTER TABLE changed ADD COLUMN b int DEFAULT 7")
    source_db.sql("UPDATE changed SET b = id WHERE id % 2 = 0; DELETE FROM changed WHERE id % 5 = 0")
    source_db.sql("UPDATE other SET a = 'moved' WHERE id % 3 = 0")
    following.wait_applied()
    assert dest_db.sql("SELECT count(*) FROM other WHERE a = 'moved'") == [(666,)], "the other table does not wait"
    assert dest_db.sql("SELECT suspect IS NOT NULL FROM pgcrane.relation WHERE table_name = 'changed'") == [(True,)]
    dest_db.sql("ALTER TABLE changed ADD COLUMN b int DEFAULT 7")
    source_db.sql("INSERT INTO changed VALUES (10000, 'new', 1)")
    if point:
        assert following.end() != 0, f"{point} was never reached"
        assert following.failure()["reason"] == "WORKER_LOST", following.said()
        source_db.sql("UPDATE changed SET a = 'meanwhile' WHERE id = 1")
        following.again()
        following.wait_caught_up()
    promoted = following.promoted(following.promote())
    assert promoted["proven"], promoted
    assert dest_db.sql("SELECT count(*), sum(b) FROM changed") == source_db.sql("SELECT count(*), sum(b) FROM changed")
    problems = [text for text in compare.differences(source_db.uri, dest_db.uri)
                if not text.startswith("settings of the database")]
    assert not problems, problems


@pytest.mark.turns(4)
def test_a_mark_that_is_committed_late(source_db, dest_db, pgcrane):
    """Who looks at the ledger between the mark and its commit finds none, and looks again."""
    source_db.sql(TABLES)
    following = Following(pgcrane, source_db, dest_db)
    following.start(env={"PGCRANE_FAILPOINT": "apply.before_commit:sleep=1500"})
    following.wait_caught_up()
    source_db.sql("ALTER TABLE changed ADD COLUMN b int; UPDATE changed SET b = id WHERE id < 10")
    wait_until(lambda: dest_db.sql("SELECT 1 FROM pgcrane.relation WHERE suspect IS NOT NULL"), 60, "the mark")
    dest_db.sql("ALTER TABLE changed ADD COLUMN b int")
    wait_until(lambda: any("copying table public.changed again" in body["text"] for body in following.bodies("EVENT")), 60,
               f"the copy: {following.said()}")
    following.wait_caught_up()
    assert following.promoted(following.promote())["proven"]
    assert dest_db.sql("SELECT count(b), sum(b) FROM changed") == [(9, 45)]


def copying(following):
    return [body["text"] for body in following.bodies("EVENT") if "copying table public.changed again" in body["text"]]


def make_suspect(source_db, dest_db):
    source_db.sql("ALTER TABLE changed ADD COLUMN b int; UPDATE changed SET b = id WHERE id < 10")
    wait_until(lambda: dest_db.sql("SELECT 1 FROM pgcrane.relation WHERE suspect IS NOT NULL"), 60, "the mark")
    dest_db.sql("ALTER TABLE changed ADD COLUMN b int")


def test_an_old_transaction_is_waited_for_while_following(source_db, dest_db, pgcrane):
    """The table that is to be copied again waits for it, the others do not, and it is named once."""
    source_db.sql(TABLES)
    following = Following(pgcrane, source_db, dest_db)
    following.start()
    following.wait_caught_up()
    with source_db.connect(autocommit=False) as old:
        old.execute("INSERT INTO other VALUES (9000, 'old')")
        pid = old.info.backend_pid
        make_suspect(source_db, dest_db)

        def told():
            return [body["text"] for body in following.bodies("EVENT") if f"session {pid} " in body["text"]]

        wait_until(told, 60, f"the old transaction to be named: {following.said()}")
        for turn in range(10):
            source_db.sql("UPDATE other SET a = %s WHERE id = 1", (f"turn {turn}",))
            following.wait_applied(timeout=30)
        assert len(told()) == 1 and not copying(following), following.said()
        old.commit()
    wait_until(lambda: copying(following), 60, f"the copy: {following.said()}")
    following.wait_caught_up()
    assert following.promoted(following.promote())["proven"]
    assert dest_db.sql("SELECT count(b), sum(b) FROM changed") == [(9, 45)]
    assert dest_db.sql("SELECT a FROM other WHERE id = 9000") == [("old",)]


def test_a_table_in_use_on_the_destination(source_db, dest_db, pgcrane):
    """Who reads it there keeps it from being copied again, and nobody from the source's table; the run goes on."""
    source_db.sql(TABLES)
    following = Following(pgcrane, source_db, dest_db)
    following.start()
    following.wait_caught_up()
    make_suspect(source_db, dest_db)
    with dest_db.connect(autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM changed")
        wait_until(lambda: dest_db.sql("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'changed'::regclass"), 60,
                   f"the copy to wait: {following.said()}")
        source_db.sql("BEGIN; SET LOCAL lock_timeout = '10s'; LOCK TABLE changed IN ACCESS EXCLUSIVE MODE; COMMIT")
        source_db.sql("UPDATE other SET a = 'meanwhile' WHERE id = 1")
        following.wait_applied(timeout=30)
        assert following.running(), following.said()
    following.wait_caught_up()
    assert following.promoted(following.promote())["proven"]
    assert dest_db.sql("SELECT count(b), sum(b) FROM changed") == [(9, 45)]
