"""Rows are the rows of the source, whatever a type of the destination takes for equal, and whatever encoding names are in.

Each test changes tables under a migration that is followed, promotes, and compares everything."""
import pytest

from support import compare
from support.following import Following

pytestmark = pytest.mark.turns(2)

LATIN = "TEMPLATE template0 ENCODING '{}' LC_COLLATE 'C' LC_CTYPE 'C'"
ROWS = "INSERT INTO t VALUES ('a', 1), ('A', 2), ('b', 3), ('B', 4)"
# What makes the table t (k, v), whose identity's index tells 'a' from 'A', as its column's type does not.
FINER = {
    "operator class": "CREATE EXTENSION citext; CREATE TABLE t (k citext NOT NULL, v int); CREATE UNIQUE INDEX tk ON t (k text_ops)",
    "collation": "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
                 "CREATE TABLE t (k text COLLATE ci NOT NULL, v int); CREATE UNIQUE INDEX tk ON t (k COLLATE \"C\")",
    "image": "CREATE EXTENSION citext; CREATE TYPE pair AS (c citext); CREATE TABLE t (k pair NOT NULL, v int);"
             "CREATE UNIQUE INDEX tk ON t (k record_image_ops)",
}


def promote_equal(following, catalog=True):
    promoted = following.promoted(following.promote())
    assert promoted["ok"] and promoted["proven"], promoted
    following.source.cluster.sql(f"ALTER DATABASE {following.source.name} RESET default_transaction_read_only")
    if catalog:
        compare.assert_equal(following.source.uri, following.dest.uri)
    return promoted


@pytest.mark.parametrize("kind", FINER)
def test_identity_of_a_finer_equality(kind, follow):
    """Set-wise, 'a' and 'A' would each match both rows: the right number of rows, with one another's values."""
    rows = ROWS if kind != "image" else ROWS.replace("('", "(ROW('").replace("',", "'),")
    following = follow(FINER[kind] + "; ALTER TABLE t REPLICA IDENTITY USING INDEX tk; " + rows)
    following.source.sql("UPDATE t SET v = v * 10")
    following.wait_applied()
    following.source.sql("DELETE FROM t WHERE v IN (20, 30); UPDATE t SET v = v + 1")
    following.wait_applied()
    promote_equal(following)
    assert following.dest.sql("SELECT k::text, v FROM t ORDER BY v") == [
        ("(a)" if kind == "image" else "a", 11), ("(B)" if kind == "image" else "B", 41)]


def test_index_that_changed_unseen(follow):
    """The destination still has another index: it only helps to find rows, it does not say which they are."""
    following = follow("CREATE EXTENSION citext; CREATE TABLE t (k citext NOT NULL, v int); CREATE UNIQUE INDEX tk ON t (k text_ops);"
                       "CREATE UNIQUE INDEX other ON t (k text_pattern_ops); ALTER TABLE t REPLICA IDENTITY USING INDEX tk; " + ROWS)
    following.dest.sql("ALTER TABLE t REPLICA IDENTITY USING INDEX other")
    following.source.sql("UPDATE t SET v = v * 10")
    following.wait_applied()
    following.dest.sql("ALTER TABLE t REPLICA IDENTITY DEFAULT")
    following.source.sql("UPDATE t SET v = v + 1")
    following.wait_applied()
    following.dest.sql("ALTER TABLE t REPLICA IDENTITY USING INDEX tk")
    promote_equal(following)


@pytest.mark.parametrize("encoding, other", (("LATIN1", "UTF8"), ("WIN1252", "UTF8"), ("UTF8", "UTF8"), ("LATIN1", "SQL_ASCII")))
def test_names_in_another_encoding(encoding, other, pgcrane, source, dest):
    """Names are compared as characters, not as the bytes that each server has for them."""
    databases = [source.createdb(options=LATIN.format(encoding)), dest.createdb(options=LATIN.format(other))]
    try:
        databases[0].sql("CREATE TYPE \"ÿ\" AS ENUM ('ä', 'x'); CREATE TABLE t (id int PRIMARY KEY, \"é\" text, \"a\" int, \"ÿ\" \"ÿ\", \"Ä\" int);"
                         "INSERT INTO t VALUES (1, 'ö', 1, 'ä', 1)")
        following = Following(pgcrane, *databases).start()
        following.wait_caught_up()
        databases[0].sql("UPDATE t SET \"é\" = 'ü'")
        promote_equal(following, catalog=False)
        if other == "UTF8":
            assert databases[1].sql("SELECT \"é\"::bytea FROM t") == [("ü".encode(),)]
    finally:
        pgcrane.end_all()
        for database in databases:
            database.drop()


def test_order_of_an_inherited_tables_columns(follow):
    """pg_dump makes a child with its parent's columns first: no statement can make it as it was. Told, not waited for."""
    following = follow("CREATE TABLE par (id int PRIMARY KEY, v text); CREATE TABLE chi (extra int, PRIMARY KEY (id)) INHERITS (par);"
                       "ALTER TABLE par ADD n int DEFAULT 5; INSERT INTO chi VALUES (1, 'a', 2, 3)")
    following.source.sql("UPDATE chi SET n = 4; INSERT INTO chi (id, v, extra, n) VALUES (2, 'b', 7, 8)")
    following.wait_applied()
    promoted = promote_equal(following, catalog=False)
    assert following.dest.sql("SELECT id, v, extra, n FROM chi ORDER BY id") == [(1, "a", 2, 4), (2, "b", 7, 8)]
    assert any("order of columns" in note and "SELECT *" in note for note in promoted["notes"]), promoted["notes"]
    codes = {finding["id"]: finding for body in following.bodies("FINDINGS") for finding in body["findings"]}
    assert codes["SOURCE_INHERITED_ORDER"]["severity"].lower() == "info", codes


@pytest.mark.parametrize("count", (820, 840, 1600))
def test_identity_full_of_many_columns(count, follow):
    columns = ", ".join(f"c{i} int" for i in range(count))
    values = ", ".join(str(i) for i in range(count))
    following = follow(f"CREATE TABLE w ({columns}); ALTER TABLE w REPLICA IDENTITY FULL; INSERT INTO w VALUES ({values}), ({values})")
    following.source.sql("UPDATE w SET c5 = 7 WHERE ctid = '(0,1)'; UPDATE w SET c6 = 8; DELETE FROM w WHERE c5 = 5")
    following.wait_applied()
    promote_equal(following)
    assert following.dest.sql("SELECT c5, c6 FROM w") == [(7, 8)]
