"""A hostile database administrator under a migration that is followed: what he does to tables must never cost a row.

Each test does something that looks like nothing in the stream, promotes, and compares everything."""
import contextlib
import threading

import psycopg
import pytest

from support import compare
from support.cluster import wait_until
from support.following import Following
from support.program import Program
from support.seam import slots

pytestmark = pytest.mark.turns(5)

BATCH = "INSERT INTO {0} SELECT g, '{0}' FROM generate_series(1, 100) g"
TABLE = "CREATE TABLE {0} (id int PRIMARY KEY, v text); " + BATCH


def promote_equal(following, *flags):
    following.promote(*flags)
    # the fence's setting is all that may differ
    following.source.cluster.sql(f"ALTER DATABASE {following.source.name} RESET default_transaction_read_only")
    compare.assert_equal(following.source.uri, following.dest.uri)


def warned(following, text):
    wait_until(lambda: any(text in e["text"] for e in following.bodies("EVENT") if e["level"] == "warning"), 30,
               f"a warning about {text}: {following.said()}")


def test_unique_value_comes_again_without_identity(follow):
    """The delete is not in the stream, the insert is: the old row is in its way."""
    following = follow("CREATE TABLE u (code text UNIQUE, v int); INSERT INTO u SELECT 'c' || g, g FROM generate_series(1, 100) g")
    following.source.sql("DELETE FROM u WHERE code = 'c5'; INSERT INTO u VALUES ('c5', 999), ('new', 1)")
    following.wait_applied()
    promote_equal(following)


@pytest.mark.turns(4)
@pytest.mark.parametrize("change", (
    "DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY, v text)",
    "ALTER TABLE a DROP v; ALTER TABLE a ADD v text",
    "ALTER TABLE a ALTER v TYPE text USING v || '!'",
    "BEGIN; ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b;"
    " ALTER INDEX a_pkey RENAME TO x; ALTER INDEX b_pkey RENAME TO a_pkey; ALTER INDEX x RENAME TO b_pkey; COMMIT;"
    " INSERT INTO a VALUES (1000, 'new'); UPDATE b SET v = 'changed' WHERE id = 7",
), ids=("recreated", "column again", "rewritten", "swapped"))
def test_table_becomes_another(change, follow):
    """Both catalogues say the same afterwards, and the rows are others."""
    following = follow(TABLE.format("a") + ";" + TABLE.format("b"))
    following.source.sql(change)
    promote_equal(following)


def test_swapped_tables_stay_apart(follow):
    """Rows of the one never go to the other, also before anybody looks."""
    following = follow(TABLE.format("a") + "; CREATE TABLE b (LIKE a INCLUDING ALL)")
    following.source.sql("BEGIN; ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; INSERT INTO a VALUES (5, 'new'); COMMIT")
    warned(following, "it was renamed on the source")
    following.source.sql("ALTER TABLE x RENAME TO b; ALTER INDEX a_pkey RENAME TO x; ALTER INDEX b_pkey RENAME TO a_pkey;"
                         " ALTER INDEX x RENAME TO b_pkey")
    promote_equal(following)


def test_identity_comes_while_nobody_follows(follow):
    """Updates before it were not in the stream, and nobody was there to see it come."""
    following = follow(f"CREATE TABLE k (id int, v text); {BATCH.format('k')}")
    following.source.sql("UPDATE k SET v = 'changed' WHERE id < 50")
    following.stop()
    following.source.sql("ALTER TABLE k REPLICA IDENTITY FULL")
    following.again().wait_caught_up()
    warned(following, "its updates and deletes were not published all the time")
    following.source.sql("ALTER TABLE k REPLICA IDENTITY DEFAULT")
    promote_equal(following)


def test_identity_comes_during_the_load(pgcrane, source_db, dest_db):
    source_db.sql(f"CREATE TABLE k (id int, v text); {BATCH.format('k')}; {TABLE.format('a')}")
    following = Following(pgcrane, source_db, dest_db).start(env={"PGCRANE_FAILPOINT": "sequences.before:sleep=2000:1"})

    def copied():
        with contextlib.suppress(Exception):
            return dest_db.sql("SELECT count(*) FROM k")[0][0] == 100
        return False
    wait_until(copied, what="the copy of k")
    source_db.sql("UPDATE k SET v = 'changed' WHERE id < 50; ALTER TABLE k REPLICA IDENTITY FULL")
    following.wait_caught_up()
    source_db.sql("ALTER TABLE k REPLICA IDENTITY DEFAULT")
    promote_equal(following)


LEAVES = ("CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (50);"
          "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (50) TO (101); INSERT INTO p SELECT g, 'old' FROM generate_series(1, 100) g")


@pytest.mark.parametrize("flags", ((), ("--ddl",)), ids=("plain", "ddl"))
@pytest.mark.parametrize("stopped", (False, True), ids=("followed", "stopped"))
def test_leaf_is_no_partition_for_a_moment(stopped, flags, follow):
    """What a root publishes is asked at each change: a leaf has to stand for itself as well."""
    following = follow(LEAVES + ";" + TABLE.format("a"), *flags)
    if stopped:
        following.stop()
    following.source.sql("BEGIN; ALTER TABLE p DETACH PARTITION p1; UPDATE p1 SET v = 'new' WHERE id < 20; DELETE FROM p1 WHERE id = 30;"
                         " INSERT INTO p1 VALUES (0, 'x'); ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (50); COMMIT")
    if stopped:
        following.again().wait_caught_up()
    following.wait_applied()
    promote_equal(following)


def test_root_loses_its_key_with_ddl(follow):
    """Its leaves, too: they leave the publication by the same command, and the application goes on."""
    following = follow(LEAVES, "--ddl")
    following.source.sql("ALTER TABLE p DROP CONSTRAINT p_pkey")
    following.source.sql("UPDATE p SET v = 'new' WHERE id % 3 = 0; DELETE FROM p1 WHERE id = 30")
    following.source.sql("ALTER TABLE p ADD PRIMARY KEY (id)")
    following.wait_applied()
    promote_equal(following)


def test_leaf_may_not_be_unlogged_for_a_moment(follow):
    """The server refuses it for what is published by its own name; a root hides it."""
    following = follow(LEAVES)
    with pytest.raises(psycopg.Error, match="publication"):
        following.source.sql("ALTER TABLE p1 SET UNLOGGED")
    following.source.sql("UPDATE p SET v = 'new'")
    promote_equal(following)


@pytest.mark.parametrize("table", (
    "CREATE TABLE g (id int UNIQUE, n int, twice int GENERATED ALWAYS AS (n * 2) STORED); ALTER TABLE g REPLICA IDENTITY FULL",
    "CREATE TABLE g (id int UNIQUE, n int, half int GENERATED ALWAYS AS (id / 2) STORED, PRIMARY KEY (half, id))",
), ids=("full", "key"))
def test_identity_that_cannot_be_published(table, follow):
    """The stream tells of an identity, and carries no updates or deletes: what is gone on the source is in the way."""
    following = follow(f"{table}; INSERT INTO g SELECT g, g FROM generate_series(1, 100) g; {TABLE.format('a')}")
    following.source.sql("DELETE FROM g WHERE id = 1; INSERT INTO g VALUES (1, 5)")
    following.source.sql("BEGIN; DELETE FROM g WHERE id = 200; INSERT INTO g VALUES (200, 1); DELETE FROM g WHERE id = 200;"
                         " INSERT INTO g VALUES (200, 2); UPDATE g SET n = 3 WHERE id = 200; COMMIT; DELETE FROM a WHERE id = 1")
    following.wait_applied()
    assert following.dest.sql("SELECT count(*) FROM a") == [(99,)] and following.dest.sql("SELECT count(*) FROM g") == [(101,)]
    promote_equal(following)


def test_identity_can_be_published_at_last(follow):
    """Updates come of a table that had none: it stops, and is copied again."""
    following = follow("CREATE TABLE g (id int PRIMARY KEY, n int, v text GENERATED ALWAYS AS ('x') STORED); ALTER TABLE g REPLICA IDENTITY FULL;"
                       f" INSERT INTO g SELECT g, g FROM generate_series(1, 100) g; {TABLE.format('a')}")
    following.source.sql("DELETE FROM g WHERE id < 10; INSERT INTO g VALUES (1, 5)")
    following.source.sql("ALTER TABLE g REPLICA IDENTITY DEFAULT")
    keys = "SELECT 1 FROM pg_publication_tables WHERE pubname LIKE 'pgcrane%keys' AND tablename = 'g'"
    wait_until(lambda: following.source.sql(keys), 60, "g to be published")
    following.source.sql("UPDATE g SET n = -n; DELETE FROM g WHERE id = 20; DELETE FROM a WHERE id = 1")
    following.dest.sql("ALTER TABLE g REPLICA IDENTITY DEFAULT")
    warned(following, "its updates and deletes were not published all the time")
    following.wait_applied()
    promote_equal(following)


PUBLICATION = "pgcrane\\_%\\_all"


def publication(database):
    [(name,)] = database.sql("SELECT quote_ident(pubname) FROM pg_publication WHERE pubname LIKE %s", (PUBLICATION,))
    return name


@pytest.mark.parametrize("stopped", (False, True), ids=("followed", "stopped"))
@pytest.mark.parametrize("change", (
    "ALTER PUBLICATION {0} SET (publish = 'insert')",
    "DROP PUBLICATION {0}",
    "DROP PUBLICATION {0}; CREATE PUBLICATION {0} FOR ALL TABLES WITH (publish = 'insert, truncate')",
), ids=("changed", "dropped", "made again"))
def test_publication_in_other_hands(change, stopped, follow):
    """What it leaves out is in no stream, and no version of the server says so each time: the run ends for good."""
    following = follow(TABLE.format("a"))
    name = publication(following.source)
    if stopped:
        following.stop()
    following.source.sql(change.format(name))
    following.source.sql("INSERT INTO a VALUES (1000, 'lost?')")
    if stopped:
        following.again()
    # before 18 the stream itself may be the first to fail, of a publication that is not there
    reasons = {"PUBLICATION_LOST"} | ({"SLOT_UNDECODABLE"} if change == "DROP PUBLICATION {0}" else set())
    assert following.end() != 0 and following.failure()["reason"] in reasons, following.said()
    assert "--restart" in following.failure()["remedy"], following.failure()


def app_owns(*databases):
    """A role that is no superuser, and may follow: the uris of the two databases."""
    for database in databases:
        with contextlib.suppress(psycopg.Error):
            database.cluster.sql("CREATE ROLE app LOGIN REPLICATION")
        database.cluster.sql(f"ALTER DATABASE {database.name} OWNER TO app")
        database.sql("ALTER SCHEMA public OWNER TO app")
    return dict(zip(("source_uri", "dest_uri"), (database.uri_as("app") for database in databases)))


def test_table_taken_out_of_the_list(source_db, dest_db, follow):
    """It is put in again, and copied again."""
    following = follow("SET ROLE app; " + TABLE.format("a") + ";" + TABLE.format("b"), **app_owns(source_db, dest_db))
    source_db.sql(f"ALTER PUBLICATION {publication(source_db)} DROP TABLE a; INSERT INTO a VALUES (1000, 'lost?')")
    warned(following, "somebody took it out of the publication of inserts")
    wait_until(lambda: dest_db.sql("SELECT count(*) FROM a") == [(101,)], 60, "the copy")
    source_db.sql("INSERT INTO a VALUES (1001, 'b')")
    wait_until(lambda: dest_db.sql("SELECT count(*) FROM a") == [(102,)], 60, "the change")
    promote_equal(following)


def test_unlogged_becomes_logged(follow):
    following = follow(TABLE.format("a").replace("TABLE", "UNLOGGED TABLE"))
    following.source.sql("UPDATE a SET v = 'changed' WHERE id < 50; ALTER TABLE a SET LOGGED")
    following.dest.sql("ALTER TABLE a SET LOGGED")
    promote_equal(following)


def test_types_change_on_the_source_first(follow):
    """What fits only when it is rounded is not applied; the table waits, the others go on."""
    following = follow("CREATE TABLE t (id int PRIMARY KEY, v numeric(10,2), d timestamp(0));"
                       " INSERT INTO t SELECT g, 1 FROM generate_series(1, 100) g;" + TABLE.format("a"))
    following.source.sql("ALTER TABLE t ALTER v TYPE numeric(12,4), ALTER d TYPE timestamp;"
                         " UPDATE t SET v = 1.2345, d = '2020-01-01 10:00:00.123' WHERE id < 50; DELETE FROM a WHERE id = 1")
    following.wait_applied()
    warned(following, "table public.t is paused")
    assert following.dest.sql("SELECT count(*) FROM a") == [(99,)]
    result = following.command("promote", check=False)
    assert result.code != 0 and "column v is numeric(12,4) on the source, numeric(10,2) on the destination" in result.stderr, result
    following.dest.sql("ALTER TABLE t ALTER v TYPE numeric(12,4), ALTER d TYPE timestamp")
    promote_equal(following)


def test_suspect_table_does_not_end_the_next_run(follow):
    """Its rows on the destination may be anything until it is copied again: changes of it must not be tried."""
    following = follow(TABLE.format("a") + ";" + TABLE.format("b"))
    following.source.sql("ALTER TABLE a ADD w int; INSERT INTO a VALUES (200, 'x', 1)")
    warned(following, "table public.a is paused")
    following.wait_applied()
    following.stop()
    following.source.sql("UPDATE a SET w = 2 WHERE id = 200; DELETE FROM a WHERE id = 200; DELETE FROM b WHERE id = 3")
    following.dest.sql("ALTER TABLE a ADD w int")
    following.again()
    following.wait_caught_up()
    promote_equal(following)


def test_new_table_that_is_not_published_at_once(source_db, dest_db, follow):
    """Only a superuser publishes all tables: what is inserted before we look is in no stream."""
    following = follow("SET ROLE app; CREATE TABLE k (id int PRIMARY KEY)", **app_owns(source_db, dest_db))
    source_db.sql("CREATE TABLE n (id int PRIMARY KEY, v text); INSERT INTO n VALUES (1, 'here')", user="app")
    dest_db.sql("CREATE TABLE n (id int PRIMARY KEY, v text)", user="app")
    promote_equal(following)


def test_key_comes_after_updates_with_ddl(follow):
    """As scripts do it: table, rows, changes, then the key. The changes are not in the stream."""
    following = follow(TABLE.format("a"), "--ddl")
    following.source.sql("CREATE TABLE n (id int, v text)")
    following.source.sql("INSERT INTO n SELECT g, 'a' FROM generate_series(1, 10) g")
    following.source.sql("UPDATE n SET v = 'b' WHERE id < 5")
    following.source.sql("ALTER TABLE n ADD PRIMARY KEY (id)")
    following.source.sql("UPDATE n SET v = 'c' WHERE id = 7")
    warned(following, "it got a replica identity")
    promote_equal(following)


def test_forgotten_table_comes_up_again_behind_us(follow):
    """A table that waited for a copy and was dropped on the source is forgotten. What the backlog still says of it later
    is about rows that nobody copied."""
    following = follow(TABLE.format("a"), "--ddl")
    following.source.sql(TABLE.format("n"))
    wait_until(lambda: following.source.sql("SELECT 1 FROM pg_publication_tables WHERE tablename = 'n' AND pubname LIKE '%keys'"), 60,
               "n in the publication")
    following.wait_applied()
    [(oid,)] = following.source.sql("SELECT 'n'::regclass::oid")
    following.stop()
    for text in ("ALTER TABLE n ADD w int", "UPDATE n SET w = 1, v = 'c' WHERE id = 7", "DELETE FROM n WHERE id = 8", "DROP TABLE n"):
        following.source.sql(text)
    # As forget_dropped() leaves it, here before its changes are applied for certain
    following.dest.sql("DELETE FROM n")
    assert following.dest.sql("DELETE FROM pgcrane.relation WHERE oid = %s RETURNING 1", (oid,)) == [(1,)]
    following.again().wait_caught_up()
    following.wait_applied()
    promote_equal(following)


def test_sequences_made_while_followed(follow):
    following = follow(TABLE.format("a"), "--ddl")
    for statement in ("CREATE TABLE n (id serial PRIMARY KEY, v text)", "INSERT INTO n (v) SELECT 'a' FROM generate_series(1, 10)",
                      "CREATE SEQUENCE down INCREMENT -2 MINVALUE -9 MAXVALUE 3 START 3 CYCLE", "SELECT nextval('down')", "SELECT nextval('down')"):
        following.source.sql(statement)
    following.wait_applied()
    promote_equal(following)


def test_sequence_of_nobody_under_a_filter(follow):
    """Made while it was followed, and used by a default, as object-relational mappers do."""
    following = follow("CREATE SCHEMA s; " + TABLE.format("s.a") + "; " + TABLE.format("left_out"), "--ddl", "--schema", "s")
    for statement in ("CREATE SEQUENCE s.number", "CREATE TABLE s.n (id bigint PRIMARY KEY DEFAULT nextval('s.number'))",
                      "INSERT INTO s.n SELECT FROM generate_series(1, 20)"):
        following.source.sql(statement)
    following.wait_applied()
    following.promote()
    following.dest.sql("INSERT INTO s.n DEFAULT VALUES")
    assert following.dest.sql("SELECT max(id), to_regclass('left_out')::text FROM s.n") == [(21, None)]


def test_settings_of_the_database_change_while_followed(follow):
    """They are taken over before the promote; what a fence has set is not."""
    following = follow(TABLE.format("a"))
    source, dest = (d.name for d in (following.source, following.dest))
    following.source.sql(f"ALTER DATABASE {source} SET search_path = a, public; ALTER ROLE postgres IN DATABASE {source} SET work_mem = '5MB';"
                         f" COMMENT ON DATABASE {source} IS 'later'; REVOKE CONNECT ON DATABASE {source} FROM PUBLIC;"
                         f" ALTER DATABASE {source} SET default_transaction_read_only = off")
    following.promote()
    with following.dest.connect() as conn:
        assert conn.execute("SHOW search_path").fetchone() == ("a, public",) and conn.execute("SHOW work_mem").fetchone() == ("5MB",)
        assert conn.execute("SHOW default_transaction_read_only").fetchone() == ("off",)
        assert conn.execute("SELECT shobj_description(oid, 'pg_database'), has_database_privilege('pg_monitor', oid, 'CONNECT')"
                            " FROM pg_database WHERE datname = %s", (dest,)).fetchone() == ("later", False)


def test_owners_and_grants_of_large_objects_change_while_followed(follow):
    following = follow(TABLE.format("a") + "; SELECT lo_from_bytea(7000000 + g, 'object') FROM generate_series(1, 5) g;"
                       " GRANT SELECT ON LARGE OBJECT 7000005 TO pg_monitor WITH GRANT OPTION")
    following.source.sql("GRANT SELECT ON LARGE OBJECT 7000001 TO PUBLIC; ALTER LARGE OBJECT 7000002 OWNER TO pg_read_all_stats;"
                         " COMMENT ON LARGE OBJECT 7000003 IS 'noted'; GRANT UPDATE ON LARGE OBJECT 7000004 TO pg_monitor;"
                         " REVOKE UPDATE ON LARGE OBJECT 7000004 FROM pg_monitor; REVOKE ALL ON LARGE OBJECT 7000005 FROM pg_monitor")
    assert following.promoted(following.promote())["proven"]
    attributes = ("SELECT oid::bigint, pg_get_userbyid(lomowner), obj_description(oid, 'pg_largeobject'), coalesce(lomacl, acldefault('L', lomowner))::text"
                  " FROM pg_largeobject_metadata ORDER BY 1")
    assert following.dest.sql(attributes) == following.source.sql(attributes)
    assert following.dest.sql("SELECT count(*) FROM pg_largeobject_metadata WHERE lo_get(oid) = 'object'") == [(5,)]


def test_many_large_objects_while_followed(follow):
    """More than a transaction of the destination could lock at once."""
    following = follow(TABLE.format("a") + "; SELECT count(lo_from_bytea(0, '\\x00')) FROM generate_series(1, 6000)")
    with following.source.connect() as conn:
        for _ in range(10):
            conn.execute("SELECT count(lo_unlink(oid)) FROM (SELECT oid FROM pg_largeobject_metadata ORDER BY oid LIMIT 580) o")
        conn.execute("SELECT count(lo_from_bytea(0, '\\x01')) FROM generate_series(1, 100)")
    promote_equal(following)


def test_comparing_waits_for_nobody_on_the_destination(follow):
    """A view that is locked there for long cannot be printed: the run goes on meanwhile."""
    following = follow(TABLE.format("a") + "; CREATE VIEW seen AS SELECT id FROM a")
    with contextlib.closing(following.dest.connect()) as conn:
        conn.execute("BEGIN; ALTER VIEW seen SET (security_barrier)")
        wait_until(lambda: following.dest.sql("SELECT 1 FROM pg_locks WHERE relation = 'seen'::regclass AND NOT granted"), 60, "a comparison in the way")
        following.source.sql("INSERT INTO a VALUES (1000, 'meanwhile')")
        wait_until(lambda: following.cdc().get("inserts") == 1, 30, "the main thread to tell of it")
        conn.execute("ROLLBACK")
    promote_equal(following)


@contextlib.contextmanager
def wants_the_table(database, statement):
    """Sends it on a connection of its own, and does not wait for its end."""
    with contextlib.closing(database.connect()) as conn:
        def run():
            with contextlib.suppress(psycopg.Error):
                conn.execute(statement)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield thread
        conn.cancel()
        thread.join(20)


def under_the_fence(database):
    """A full fence ends every session, and so the one that looks, too: then it looks again."""
    def has_lock():
        with contextlib.suppress(psycopg.OperationalError):
            return database.sql("SELECT 1 FROM pg_locks WHERE mode = 'ExclusiveLock' AND granted AND relation = 'k'::regclass")
        return False
    wait_until(has_lock, what="the fence's lock")


@pytest.mark.turns(4)
@pytest.mark.parametrize("fence", ("full", "locks"))
def test_queue_behind_the_fence(fence, pgcrane, source_db, dest_db):
    """VACUUM FULL is no write for the server; it queues for the table, and our own readers queue behind it."""
    source_db.sql(f"CREATE TABLE k (id int, v text); {BATCH.format('k')}")
    following = Following(pgcrane, source_db, dest_db).start(env={"PGCRANE_FAILPOINT": "promote.after_marker:sleep=5000:1"})
    following.wait_caught_up()
    result = []
    promoting = threading.Thread(target=lambda: result.append(
        following.command("promote", "--fence", fence, "--fence-timeout", "10", check=False)), daemon=True)
    promoting.start()
    under_the_fence(source_db)
    with wants_the_table(source_db, "VACUUM FULL k"):
        promoting.join(60)
        assert result, "the promote hangs under its own fence"
    if fence == "full":
        assert result[0].code == 0, result[0]
        following.end()
        return
    assert "lock timeout" in result[0].stderr and "still followed" in result[0].stderr, result[0]
    source_db.sql("INSERT INTO k VALUES (0, 'writable')")
    promote_equal(following)


def test_reader_of_the_destination_in_the_way(follow):
    """What is copied under the fence is emptied first: somebody who reads it there must not make the outage endless."""
    following = follow(f"CREATE TABLE k (id int, v text); {BATCH.format('k')}")
    following.source.sql("UPDATE k SET v = 'changed'")
    with contextlib.closing(following.dest.connect()) as reader:
        reader.execute("BEGIN; SELECT * FROM k")
        result = following.command("promote", "--fence-timeout", "3", timeout=60, check=False)
        assert result.code != 0 and "lock timeout" in result.stderr and "still followed" in result.stderr, result
    following.source.sql("INSERT INTO k VALUES (0, 'writable')")
    promote_equal(following)


def test_partitions_by_the_hash_of_an_enum(follow):
    """The hash is of the label's oid: on the destination a row lies in another partition than the stream says."""
    labels = "(enum_range(NULL::mood))[1 + g % 7]"
    following = follow("CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g');"
                       "CREATE TABLE h (k mood, id int, v text, PRIMARY KEY (k, id)) PARTITION BY HASH (k);"
                       "CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
                       "CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
                       f"INSERT INTO h SELECT {labels}, g, 'x' FROM generate_series(1, 100) g;" + TABLE.format("a"))
    following.source.sql("UPDATE h SET v = 'y'; DELETE FROM h WHERE id % 5 = 0; DELETE FROM a WHERE id = 1;"
                         f"INSERT INTO h SELECT {labels}, g, 'n' FROM generate_series(1001, 1050) g")
    following.wait_applied()
    rows = "SELECT * FROM h ORDER BY k, id"
    following.promote()
    assert following.dest.sql(rows) == following.source.sql(rows)
    assert following.dest.sql("SELECT count(*) FROM a") == [(99,)]


REFUSED = {  # what the table is, what the source makes of it, a row that fits there only, what is said, the destination's turn
    "label": ("CREATE TYPE mood AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, v mood)", "ALTER TYPE mood ADD VALUE 'b'",
              "INSERT INTO t VALUES (1, 'b')", "type public.mood: list of labels", None),
    "label in an array": ("CREATE TYPE mood AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, v mood[])", "ALTER TYPE mood ADD VALUE 'b'",
                          "INSERT INTO t VALUES (1, '{a,b}')", "type public.mood: list of labels", None),
    "column dropped": ("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)", "ALTER TABLE t DROP v",
                       "INSERT INTO t VALUES (1)", "column v is on the destination only", None),
    "not null dropped": ("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)", "ALTER TABLE t ALTER v DROP NOT NULL",
                         "INSERT INTO t VALUES (1, NULL)", "column v is NOT NULL on the destination only", None),
    "check dropped": ("CREATE TABLE t (id int PRIMARY KEY, v int CONSTRAINT small CHECK (v < 10))", "ALTER TABLE t DROP CONSTRAINT small",
                      "INSERT INTO t VALUES (1, 11)", "constraint small is on the destination only", None),
    "unique dropped": ("CREATE TABLE t (id int PRIMARY KEY, v int CONSTRAINT once UNIQUE); INSERT INTO t VALUES (1, 5)",
                       "ALTER TABLE t DROP CONSTRAINT once", "INSERT INTO t VALUES (2, 5)", "constraint once is on the destination only", None),
    "unique index dropped": ("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE UNIQUE INDEX once ON t (v); INSERT INTO t VALUES (1, 5)",
                             "DROP INDEX once", "INSERT INTO t VALUES (2, 5)", "index once is on the destination only", None),
    "exclusion dropped": ("CREATE TABLE t (id int PRIMARY KEY, v int4range, CONSTRAINT apart EXCLUDE USING gist (v WITH &&)); INSERT INTO t VALUES (1, '[1,5]')",
                          "ALTER TABLE t DROP CONSTRAINT apart", "INSERT INTO t VALUES (2, '[3,8]')", "constraint apart is on the destination only", None),
    "domain's check dropped": ("CREATE DOMAIN low AS int CONSTRAINT small CHECK (VALUE < 10); CREATE TABLE t (id int PRIMARY KEY, v low)",
                               "ALTER DOMAIN low DROP CONSTRAINT small", "INSERT INTO t VALUES (1, 11)",
                               "type public.low: constraint small is on the destination only", None),
    "column gone there": ("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)", None, "INSERT INTO t VALUES (2, 2)",
                          "column v is missing on the destination", ("ALTER TABLE t DROP v", "ALTER TABLE t ADD v int")),
}


@pytest.mark.turns(5)
@pytest.mark.parametrize("case", REFUSED)
def test_destination_refuses_what_the_source_takes(case, follow):
    """Its table has another definition: that table waits and says why, the others go on, until both are alike."""
    schema, at_source, row, said, at_dest = REFUSED[case]
    following = follow(f"{schema}; {TABLE.format('a')}")
    following.source.sql("UPDATE a SET v = 'before' WHERE id = 1; UPDATE t SET id = id")
    following.wait_applied()
    following.source.sql(at_source or "SELECT 1")
    if at_dest:
        following.dest.sql(at_dest[0])
    following.source.sql(row)
    following.source.sql("UPDATE a SET v = 'meanwhile' WHERE id = 2; UPDATE t SET id = id + 100")
    warned(following, "table public.t")  # is paused; or the look at definitions came before the row that is refused
    following.wait_applied()
    assert following.dest.sql("SELECT v FROM a WHERE id = 2") == [("meanwhile",)]
    assert "table public.t is paused" not in following.said() or said in following.said(), following.said()
    assert following.dest.sql("SELECT table_name FROM pgcrane.relation WHERE suspect IS NOT NULL") == [("t",)]
    result = following.command("promote", check=False)
    assert result.code != 0 and said in result.stderr, result
    following.source.sql("UPDATE a SET v = 'still' WHERE id = 3")
    following.wait_applied()
    following.dest.sql(at_dest[1] if at_dest else at_source)
    promote_equal(following)


REFERRING = "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p); INSERT INTO p SELECT generate_series(1, 9); INSERT INTO c SELECT g, g FROM generate_series(1, 9) g"


def test_truncate_of_a_table_that_waits(follow):
    """It is emptied with the others on the source, and left out on the destination, where it refers to one of them."""
    following = follow(REFERRING)
    following.source.sql("ALTER TABLE c ADD w int; INSERT INTO c VALUES (10, 1, 1)")
    warned(following, "table public.c is paused")
    following.source.sql("TRUNCATE p CASCADE; INSERT INTO p VALUES (100)")
    following.wait_applied()
    assert following.dest.sql("SELECT id FROM p") == [(100,)] and following.running()
    following.source.sql("INSERT INTO c VALUES (1, 100, 1)")
    following.dest.sql("ALTER TABLE c ADD w int")
    promote_equal(following)


def test_truncate_of_a_table_whose_copy_shows_it(pgcrane, source_db, dest_db):
    """The stream is before the TRUNCATE, the new copy of one of the two tables behind it."""
    source_db.sql(REFERRING)
    following = Following(pgcrane, source_db, dest_db).start(env={"PGCRANE_FAILPOINT": "again.before_snapshot:sleep=4000:1"})
    following.wait_caught_up()
    source_db.sql("ALTER TABLE c ADD w int; INSERT INTO c VALUES (10, 1, 1)")
    warned(following, "table public.c is paused")
    following.wait_applied()
    dest_db.sql("ALTER TABLE c ADD w int")
    following.wait_state("COPYING_AGAIN")
    source_db.sql("TRUNCATE p, c; INSERT INTO p VALUES (100); INSERT INTO c VALUES (1, 100, 1)")
    following.wait_applied()
    assert dest_db.sql("SELECT id FROM p") == [(100,)] and dest_db.sql("SELECT * FROM c") == [(1, 100, 1)]
    promote_equal(following)


def test_row_in_the_way_is_nobodys_definition(follow):
    """The table differs in something else, and a row that somebody wrote to the destination stops the run all the same."""
    following = follow("CREATE TYPE mood AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, v mood, n int NOT NULL CHECK (n > 0), w int UNIQUE)")
    following.source.sql("ALTER TYPE mood ADD VALUE 'b'; ALTER TABLE t ALTER n DROP NOT NULL; ALTER TABLE t DROP CONSTRAINT t_n_check, DROP CONSTRAINT t_w_key")
    following.dest.sql("INSERT INTO t VALUES (1, 'a', 5, 5)")
    following.source.sql("INSERT INTO t VALUES (1, 'a', 1, 1)")
    assert following.end(60) != 0
    failed = following.failure()
    assert failed["reason"] == "CONFLICT" and "something else wrote to the destination" in failed["remedy"], failed
    assert "(id = 1, v = a, n = 1, w = 1)" in failed["message"] and "(1,a,5,5)" in failed["message"], failed
    assert following.dest.sql("SELECT table_name FROM pgcrane.relation WHERE suspect IS NOT NULL") == []


def test_value_refused_for_no_reason_that_is_known(follow):
    """Both definitions are the same: then it is not the definition, and nothing is passed over."""
    function = "CREATE OR REPLACE FUNCTION fine(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$BEGIN {} RETURN true; END$$"
    following = follow(function.format("") + "; CREATE TABLE a (id int PRIMARY KEY, v text CHECK (public.fine(v)))")
    following.dest.sql(function.format("RAISE EXCEPTION 'no' USING ERRCODE = '22000';"))
    following.source.sql("INSERT INTO a VALUES (1000, 'x')")
    assert following.end(60) != 0
    assert following.failure()["reason"] == "CONFLICT", following.failure()


def test_view_whose_owner_may_only_read(source, dest, follow):
    """LOCK of a view locks what it reads, too, and with its owner's rights: a trigger on it is tried without."""
    for cluster in (source, dest):
        with contextlib.suppress(psycopg.Error):
            cluster.sql("CREATE ROLE reader")
    following = follow(TABLE.format("a") + "; GRANT SELECT ON a TO reader; CREATE VIEW seen AS SELECT * FROM a; ALTER VIEW seen OWNER TO reader;"
                       " CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$")
    following.source.sql("CREATE TRIGGER nothing INSTEAD OF INSERT ON seen FOR EACH ROW EXECUTE FUNCTION nothing()")
    promote_equal(following)
    assert following.dest.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 'seen'::regclass") == [("nothing",)]


def test_rules_in_a_circle(follow):
    """A rule of a table reads the view that reads the table: that is no order for REFRESH."""
    following = follow(TABLE.format("a") + "; CREATE TABLE log (n bigint); CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM a;"
                       " CREATE MATERIALIZED VIEW of_m AS SELECT n + 1 AS n FROM m;"
                       " CREATE RULE note AS ON DELETE TO a DO ALSO INSERT INTO log SELECT n FROM m")
    following.source.sql("INSERT INTO a VALUES (1000, 'new'); REFRESH MATERIALIZED VIEW m; REFRESH MATERIALIZED VIEW of_m")
    promote_equal(following, "--lag-timeout", "30")
    assert following.dest.sql("SELECT m.n, of_m.n FROM m, of_m") == [(101, 102)]


@pytest.mark.parametrize("enable", ("ENABLE", "ENABLE ALWAYS"))
def test_event_trigger_that_forbids_to_drop(enable, follow):
    """It is the user's, and there when the destination is open: our own schema goes all the same."""
    following = follow(TABLE.format("a") + "; CREATE FUNCTION keep() RETURNS event_trigger LANGUAGE plpgsql AS"
                       " $$BEGIN RAISE EXCEPTION 'nothing is dropped here'; END$$;"
                       " CREATE EVENT TRIGGER keep ON sql_drop WHEN TAG IN ('DROP SCHEMA', 'DROP TABLE') EXECUTE FUNCTION keep();"
                       f" ALTER EVENT TRIGGER keep {enable}")
    following.promote(check=False)
    if following.end() != 0:  # only 17 can silence one that fires always
        assert enable == "ENABLE ALWAYS" and following.dest.cluster.major < 17, following.said()
        failure = following.failure()
        assert "nothing is dropped here" in failure["message"] and "(keep)" in failure["remedy"], failure
        following.dest.sql("ALTER EVENT TRIGGER keep DISABLE")
        following.again()
        assert following.end() == 0, following.said()
    assert following.dest.sql("SELECT to_regnamespace('pgcrane')::text, evtenabled <> 'D' OR %s FROM pg_event_trigger",
                              (following.dest.cluster.major < 17,)) == [(None, True)]


AUDIT = """CREATE TABLE plain (v int); CREATE TABLE audit (id serial PRIMARY KEY, tag text);
CREATE FUNCTION audited() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.audit (tag) VALUES (tg_tag); END$$;
CREATE FUNCTION refused() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no publications here'; END$$;
CREATE EVENT TRIGGER audited ON ddl_command_end EXECUTE FUNCTION audited();
CREATE EVENT TRIGGER refused ON ddl_command_start WHEN TAG IN ('CREATE PUBLICATION') EXECUTE FUNCTION refused();"""


def test_event_triggers_of_the_source_see_nothing_of_ours(follow):
    """What the application does they see, and so does the capture; what we make and remove there is none of it."""
    following = follow(TABLE.format("a") + ";" + AUDIT + "CREATE EVENT TRIGGER asleep ON sql_drop EXECUTE FUNCTION refused();"
                       "ALTER EVENT TRIGGER asleep DISABLE", "--ddl", "--identity-full")
    following.source.sql("ALTER TABLE a ADD more int; UPDATE a SET more = id; CREATE TABLE b (id int PRIMARY KEY)")
    following.wait_applied()
    assert not [body["text"] for body in following.bodies("EVENT") if "event trigger" in body["text"]], "the capture is as it was made"
    assert following.promoted(following.promote())["proven"]
    assert following.source.sql("SELECT tag FROM audit ORDER BY id") == [("ALTER TABLE",), ("CREATE TABLE",)]
    assert following.source.sql("SELECT count(*) FROM pg_event_trigger") == [(3,)]
    assert [note for note in following.bodies("REPORT")[-1]["notes"] if "event trigger asleep;" in note and "ENABLE ALWAYS" in note], "it does not act"
    assert following.dest.sql("SELECT count(*) FROM b") == [(0,)] and following.dest.sql("SELECT 1 FROM a WHERE more IS NULL") == []


def test_event_trigger_of_the_source_that_cannot_be_silenced(source_db, dest_db, pgcrane):
    """Before 17, one that fires always: it is told before, and who forbids it when it does."""
    if source_db.cluster.major >= 17:
        pytest.skip("all can be silenced there")
    source_db.sql(TABLE.format("a") + ";" + AUDIT + "ALTER EVENT TRIGGER refused ENABLE ALWAYS")
    following = Following(pgcrane, source_db, dest_db).start()
    assert following.end() != 0
    told = [finding["id"] for body in following.bodies("FINDINGS") for finding in body["findings"]]
    assert "FOLLOW_EVENT_TRIGGER" in told, told
    failure = following.failure()
    assert "no publications here" in failure["message"] and "(audited, refused)" in failure["remedy"], failure


@pytest.mark.parametrize("enable", ("ENABLE", "ENABLE ALWAYS"))
def test_event_trigger_of_the_source_that_forbids_to_drop(enable, follow):
    """It means the user's objects: slot, publications and event triggers of ours go all the same, or it is said who forbids it."""
    following = follow(TABLE.format("a"), "--ddl")
    following.source.sql("CREATE FUNCTION keep() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'nothing is dropped here'; END$$;"
                         f" CREATE EVENT TRIGGER keep ON sql_drop EXECUTE FUNCTION keep(); ALTER EVENT TRIGGER keep {enable}")
    result = following.abort(check=False)
    if enable == "ENABLE ALWAYS" and following.source.cluster.major < 17:  # only 17 can silence one that fires always
        assert result.code != 0 and "nothing is dropped here" in result.stderr and "(keep)" in result.stderr, result.stderr
        assert not slots(following.source)
        following.source.sql("ALTER EVENT TRIGGER keep DISABLE")
        result = following.abort(check=False)
    assert result.code == 0, result.stderr
    assert not slots(following.source) and not following.source.sql("SELECT 1 FROM pg_publication")
    assert following.source.sql("SELECT evtname FROM pg_event_trigger") == [("keep",)]


def test_two_migrations_of_one_source(follow, pgcrane, source_db, dest_db, dest, tmp_path):
    """The second copies nothing of what the first has made on the source, and each goes on when the other is done."""
    following = follow(TABLE.format("a"), "--ddl")
    other_db = dest.createdb()
    program = Program(tmp_path / "other")
    try:
        other = Following(program, source_db, other_db, "--ddl").start()
        other.wait_caught_up()
        source_db.sql("CREATE TABLE n (id int PRIMARY KEY)")
        source_db.sql("INSERT INTO n VALUES (1)")
        other.wait_applied()
        following.promote()
        source_db.cluster.sql(f"ALTER DATABASE {source_db.name} RESET default_transaction_read_only")
        source_db.sql("INSERT INTO n VALUES (2)")
        promote_equal(other)
        assert other_db.sql("SELECT count(*) FROM n") == [(2,)] and dest_db.sql("SELECT count(*) FROM n") == [(1,)]
        for database in (dest_db, other_db, source_db):
            assert database.sql("SELECT proname FROM pg_proc p JOIN pg_namespace s ON s.oid = pronamespace WHERE nspname ~ '^pgcrane'") == []
            assert database.sql("SELECT pubname FROM pg_publication") == [] and database.sql("SELECT evtname FROM pg_event_trigger") == []
    finally:
        program.end_all()
        other_db.drop()
