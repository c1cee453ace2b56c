"""A transaction larger than a batch arrives in pieces of one destination transaction, and a worker dies between them."""
from support import compare
from support.following import Following

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
