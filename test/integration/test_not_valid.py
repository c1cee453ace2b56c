"""Constraints that are NOT VALID: the rows of before need not keep them, and are written to the destination more than once."""
import pytest

from support import compare
from support.cluster import wait_until
from support.following import Following

pytestmark = pytest.mark.turns(2)

TABLES = """CREATE DOMAIN address AS text;
CREATE TABLE keyed (id int PRIMARY KEY, n int, a address); INSERT INTO keyed VALUES (1, -1, 'nowhere'), (2, 2, 'a@b');
CREATE TABLE keyless (n int, a address[]); INSERT INTO keyless VALUES (-1, '{nowhere}'), (2, NULL);
CREATE TABLE root (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10);
CREATE TABLE high PARTITION OF root FOR VALUES FROM (10) TO (20); INSERT INTO root VALUES (1, -1), (11, -11);
CREATE TABLE parent (id int PRIMARY KEY, n int); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); INSERT INTO child VALUES (1, -1);
ALTER DOMAIN address ADD CONSTRAINT has_at CHECK (VALUE LIKE '%@%') NOT VALID; COMMENT ON CONSTRAINT has_at ON DOMAIN address IS 'since 2020';
ALTER TABLE keyed ADD CONSTRAINT above CHECK (n > 0) NOT VALID; COMMENT ON CONSTRAINT above ON keyed IS 'since ''21';
ALTER TABLE keyless ADD CHECK (n > 0) NOT VALID; ALTER TABLE root ADD CONSTRAINT above CHECK (n > 0) NOT VALID;
ALTER TABLE child ADD CONSTRAINT above CHECK (n > 0) NOT VALID; ALTER TABLE parent ADD CONSTRAINT above CHECK (n > 0) NOT VALID;
ALTER TABLE parent ADD CONSTRAINT small CHECK (n < 1000) NO INHERIT NOT VALID"""
VALUES = "ADD COLUMN r float DEFAULT random()"


def assert_equal(following):
    problems = [text for text in compare.differences(following.source.uri, following.dest.uri)
                if not text.startswith("settings of the database")]
    assert not problems, problems


def test_rows_of_before_are_copied_again(pgcrane, source_db, dest_db):
    """Each table, while it is followed; one that has lost updates, under the fence. The constraints are what they were."""
    source_db.sql(TABLES)
    following = Following(pgcrane, source_db, dest_db, "--ddl").start()
    following.wait_caught_up()
    for table in ("keyed", "root", "parent"):
        source_db.sql(f"ALTER TABLE {table} {VALUES}")
    source_db.sql("UPDATE keyless SET n = 3 WHERE n = 2; UPDATE root SET n = 5 WHERE id = 1")
    wait_until(lambda: sum("again" in body["text"] for body in following.bodies("EVENT")) >= 5 and
               not dest_db.sql("SELECT 1 FROM pgcrane.relation WHERE suspect IS NOT NULL"), 90, f"the copies: {following.said()}")
    assert following.promoted(following.promote())["proven"]
    assert_equal(following)
    for statement in ("INSERT INTO low VALUES (2, -2)", "INSERT INTO child VALUES (2, -2)", "UPDATE keyed SET a = 'nowhere' WHERE id = 2"):
        with pytest.raises(Exception, match="violates check constraint"):
            dest_db.sql(statement)


def test_a_value_that_only_the_source_may_keep(pgcrane, source_db, dest_db):
    """What a domain does not allow any more is written anew with each update of its row: it costs a copy, or the constraint."""
    source_db.sql("CREATE DOMAIN address AS text; CREATE TABLE t (id int PRIMARY KEY, a address, n int); INSERT INTO t VALUES (1, 'nowhere', 1);"
                  " ALTER DOMAIN address ADD CONSTRAINT has_at CHECK (VALUE LIKE '%@%') NOT VALID; CREATE TABLE other (id int PRIMARY KEY)")
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    for n in (2, 3):
        source_db.sql("UPDATE t SET n = n + 1; INSERT INTO other SELECT count(*) FROM other")
        wait_until(lambda n=n: dest_db.sql("SELECT a, n FROM t") == [("nowhere", n)], 60, f"the copy: {following.said()}")
    told = [body["text"] for body in following.bodies("EVENT") if "has_at of domain" in body["text"]]
    assert len(told) == 2 and "on both sides" in told[0], following.said()
    for database in (source_db, dest_db):
        database.sql("ALTER DOMAIN address DROP CONSTRAINT has_at")
    source_db.sql("UPDATE t SET n = n + 1")
    assert following.promoted(following.promote())["proven"]
    assert dest_db.sql("SELECT a, n FROM t") == [("nowhere", 4)]
    assert dest_db.sql("SELECT count(*) FROM other") == [(2,)]
