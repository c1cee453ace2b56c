"""A transaction larger than a batch arrives in pieces of one destination transaction, and a worker dies between them."""
import pytest

from support import compare
from support.following import Following

pytestmark = pytest.mark.turns(3)

CHANGES = """BEGIN;
 INSERT INTO big SELECT n, 'new ' || n FROM generate_series(1001, 150000) n;
 UPDATE big SET a = 'moved' WHERE id % 2 = 0;
 DELETE FROM big WHERE id % 7 = 0;
 COMMIT"""


def test_killed_between_the_pieces(source_db, dest_db, pgcrane):
    source_db.sql("CREATE TABLE big (id int PRIMARY KEY, a text); INSERT INTO big SELECT n, 'old' FROM generate_series(1, 1000) n")
    following = Following(pgcrane, source_db, dest_db)
    following.start(env={"PGCRANE_FAILPOINT": "follow.inside_transaction:kill:3"})
    following.wait_caught_up()
    source_db.sql(CHANGES)
    assert following.end() != 0, "it was never handed over in pieces"
    assert dest_db.sql("SELECT count(*) FROM big") == [(1000,)], "half of a transaction can be seen"
    following.again()
    following.wait_caught_up()
    following.wait_applied()
    assert following.transactions() == 1
    assert following.promoted(following.promote())["proven"]
    problems = [text for text in compare.differences(source_db.uri, dest_db.uri)
                if not text.startswith("settings of the database")]
    assert not problems, problems


def peak_mb(following):
    """Of the worker, since it began."""
    def of(pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    return max(of(pid) for pid in following.pids("worker"))


@pytest.mark.parametrize("changes", (
    # A quarter of a gigabyte that does not compress, and changes of it in the same transaction.
    """BEGIN; INSERT INTO big SELECT i, (SELECT string_agg(md5((i * 1000 + k)::text), '') FROM generate_series(1, 310) k)
         FROM generate_series(1, 25000) i;
       UPDATE big SET a = left(a, 50) WHERE id % 5 = 0; DELETE FROM big WHERE id % 7 = 0; COMMIT""",
    """DO $$ BEGIN FOR i IN 1..100000 LOOP
         BEGIN INSERT INTO big VALUES (i, 'sub'); IF i % 10 = 0 THEN RAISE 'undone'; END IF;
         EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$"""), ids=("quarter-gigabyte", "subtransactions"))
def test_memory_is_bounded(changes, source_db, dest_db, pgcrane):
    source_db.sql("CREATE TABLE big (id int PRIMARY KEY, a text)")
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    source_db.sql(changes)
    following.wait_applied(timeout=300)
    assert following.transactions() == 1
    assert peak_mb(following) < 150
    assert following.promoted(following.promote())["proven"]
    rows = "SELECT count(*), md5(string_agg(id || ' ' || md5(a), ',' ORDER BY id)) FROM big"
    assert source_db.sql(rows) == dest_db.sql(rows)


def test_wide_rows_whose_key_may_wait(source_db, dest_db, pgcrane):
    """A deferrable key identifies no row: only inserts are streamed, twice the same, and the table is copied again."""
    source_db.sql("CREATE TABLE doc (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, body text)")
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    source_db.sql("INSERT INTO doc SELECT i, repeat(md5(i::text), 1000) FROM generate_series(1, 9) i")
    source_db.sql("DELETE FROM doc WHERE id = 3")
    source_db.sql("INSERT INTO doc VALUES (3, repeat('again', 5000))")
    following.wait_applied()
    assert following.promoted(following.promote())["proven"]
    rows = "SELECT id, md5(body) FROM doc ORDER BY id"
    assert source_db.sql(rows) == dest_db.sql(rows)
