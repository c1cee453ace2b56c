"""How runs of other tools lost something: an error that nobody was told of, a position that went ahead, an end that never
came. Through the real commands; what was lost by whom is in doc/design/losses.md."""
import contextlib
import os
import re
import threading
import time

import psycopg
import pytest

from support import compare
from support.cluster import ROOT, wait_until
from support.following import Following

pytestmark = pytest.mark.turns(4)

ROWS = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 100) i; CREATE TABLE u (id int PRIMARY KEY, n int)"


@pytest.fixture
def followed(pgcrane, source_db, dest_db):
    """Follows two small tables, and is caught up."""
    source_db.sql(ROWS)
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    return following


def assert_promoted_equal(following, *flags):
    promoted = following.promoted(following.promote(*flags))
    assert promoted["ok"] and promoted["proven"]
    problems = [text for text in compare.differences(following.source.uri, following.dest.uri) if not text.startswith("settings of")]
    assert not problems, "\n".join(problems)


def ids(database, table="t"):
    return [row[0] for row in database.sql(f"SELECT id FROM {table} ORDER BY id")]


# --- errors ---

def test_conflict_is_no_success(followed):
    """One row that does not fit, sixty transactions behind it: the run ends with an error, keeps the source's log, and none of
    the sixty-one is lost when the row has been seen to."""
    followed.dest.sql("INSERT INTO t VALUES (200, 'in the way')")
    position = followed.position()
    for i in range(200, 261):
        followed.source.sql(f"INSERT INTO t VALUES ({i}, 'row'); INSERT INTO u VALUES ({i})")
    assert followed.end() == 2
    failed = followed.failure()
    assert failed["reason"] == "CONFLICT" and "200" in failed["message"] and failed["remedy"]
    assert ids(followed.dest)[-1] == 200 and ids(followed.dest, "u") == []
    confirmed = followed.source.sql("SELECT confirmed_flush_lsn <= %s::pg_lsn FROM pg_replication_slots", (followed.position(),))
    assert confirmed == [(True,)] and followed.position() >= position
    followed.dest.sql("DELETE FROM t WHERE id = 200")
    followed.again()
    followed.wait_applied()
    assert ids(followed.dest, "u") == list(range(200, 261))
    assert_promoted_equal(followed)


def test_promote_of_a_failed_run_is_refused(followed):
    """A job that stopped at an error cannot be promoted as if it had caught up."""
    followed.dest.sql("INSERT INTO t VALUES (200, 'in the way')")
    followed.source.sql("INSERT INTO t VALUES (200, 'row')")
    assert followed.process.wait(60) != 0
    result = followed.command("promote", "--json", check=False)
    assert result.code != 0
    assert not followed.source.sql("SELECT 1 FROM pg_db_role_setting WHERE 'default_transaction_read_only=on' = ANY (setconfig)")
    followed.source.sql("INSERT INTO u VALUES (1)")


WEB = """CREATE TABLE customer (id int PRIMARY KEY); CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE log (id serial PRIMARY KEY, what text); INSERT INTO customer SELECT generate_series(1, 10); INSERT INTO orders SELECT i, i FROM generate_series(1, 10) i;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.log (what) VALUES (tg_op); RETURN NULL; END$$;
CREATE TRIGGER note AFTER INSERT OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION note()"""


def test_a_setting_that_is_refused(pgcrane, source_db, dest, dest_db):
    """A role that may not set session_replication_role: keys and triggers would act a second time, so they wait. Elsewhere
    nobody read the refusal."""
    source_db.sql(WEB)
    dest.sql("DROP ROLE IF EXISTS plain_one; CREATE ROLE plain_one LOGIN")
    dest_db.sql(f"GRANT ALL ON SCHEMA public TO plain_one; GRANT ALL ON DATABASE {dest_db.name} TO plain_one")
    following = Following(pgcrane, source_db, dest_db, "--no-owner", "--no-acl", "--ddl", dest_uri=dest_db.uri_as("plain_one")).start()
    following.wait_caught_up()
    assert dest_db.sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders'::regclass") == [(0,)]
    source_db.sql("DELETE FROM customer WHERE id = 1; UPDATE customer SET id = 20 WHERE id = 2; INSERT INTO orders VALUES (30, 20)")
    following.stop()
    following.again()  # what we have on the source, event triggers among them, is nothing that this role would have to make
    following.wait_caught_up()
    following.wait_applied()
    promoted = following.promoted(following.promote())
    assert promoted["ok"] and promoted["proven"]
    for query in ("SELECT * FROM customer ORDER BY 1", "SELECT * FROM orders ORDER BY 1", "SELECT * FROM log ORDER BY 1",
                  "SELECT conname, convalidated, confdeltype FROM pg_constraint WHERE contype = 'f'",
                  "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal"):
        assert source_db.sql(query) == dest_db.sql(query), query
    assert dest_db.sql("SELECT what FROM log ORDER BY id") == [("DELETE",), ("INSERT",)]
    dest_db.sql("DROP OWNED BY plain_one CASCADE")


# --- small and large transactions ---

def test_one_small_transaction_is_there_at_once(followed):
    """Nothing waits in a buffer for the next one. (Elsewhere: not within 15 seconds, while its position said it was.)"""
    for i in range(200, 205):
        followed.source.sql(f"INSERT INTO t VALUES ({i}, 'alone')")
        wait_until(lambda i=i: followed.dest.sql(f"SELECT 1 FROM t WHERE id = {i}"), 14, "one transaction")


def test_many_small_transactions(followed):
    """Elsewhere five per second, or a fixed wait of ten seconds."""
    before = followed.transactions()
    with contextlib.closing(followed.source.connect()) as conn:
        for i in range(1000, 1500):
            conn.execute(f"INSERT INTO t VALUES ({i}, 'one of many')")
    begun = time.monotonic()
    followed.wait_applied()
    assert time.monotonic() - begun < 60
    assert ids(followed.dest)[-500:] == list(range(1000, 1500)) and followed.transactions() == before + 500
    assert_promoted_equal(followed)


def test_large_transaction_and_then_the_end(followed):
    """Twenty thousand rows in one transaction, and a promote before anybody has seen them."""
    followed.source.sql("INSERT INTO u SELECT i, i FROM generate_series(1, 20000) i")
    assert_promoted_equal(followed)
    assert followed.dest.sql("SELECT count(*), sum(n) FROM u") == [(20000, 200010000)]


def test_idle_source_can_be_promoted(followed):
    """No write at all since the copy: the end does not wait for one."""
    begun = time.monotonic()
    assert_promoted_equal(followed)
    assert time.monotonic() - begun < 60


def test_another_databases_log(followed):
    """On a server whose other databases write, an idle one's slot moves on: it would hold all of their log."""
    slot = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()"
    before = followed.source.sql(slot)[0][0]
    followed.source.cluster.sql("CREATE TABLE IF NOT EXISTS noise (v text); INSERT INTO noise SELECT repeat('x', 500) FROM generate_series(1, 10000)")
    written = followed.source.sql("SELECT pg_current_wal_lsn()::text")[0][0]
    wait_until(lambda: followed.source.sql(f"SELECT ({slot})::pg_lsn >= %s::pg_lsn", (written,))[0][0], 60, "the slot to move on")
    assert before != followed.source.sql(slot)[0][0]
    followed.source.cluster.sql("DROP TABLE noise")


@pytest.mark.slow
@pytest.mark.turns(4)
def test_200_megabytes_in_one_value(pgcrane, source_db, dest_db):
    """One text, inserted while following, changed beside, and its row given another key."""
    source_db.sql("CREATE TABLE t (id int PRIMARY KEY, n int, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL")
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    source_db.sql("INSERT INTO t VALUES (1, 1, repeat('0123456789abcdef', 13107200))")
    source_db.sql("UPDATE t SET n = 2")
    source_db.sql("UPDATE t SET id = 5")
    following.wait_applied(timeout=200)
    digest = "SELECT id, n, length(v), md5(v) FROM t"
    assert source_db.sql(digest) == dest_db.sql(digest) and dest_db.sql("SELECT length(v) FROM t") == [(209715200,)]
    following.stop()


# --- ends ---

def test_backend_of_the_copy_killed(pgcrane, source_db, dest_db):
    """The copy's session dies under --follow: tried again, nothing hangs, changes since then are followed."""
    source_db.sql(ROWS + "; INSERT INTO u SELECT i, i FROM generate_series(1, 30000) i")
    following = Following(pgcrane, source_db, dest_db).start(env={"PGCRANE_FAILPOINT": "copy.before_commit:sleep=1000"})

    def killed():
        return source_db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                             " AND application_name LIKE 'pgcrane%%' AND query LIKE 'COPY%%'")
    wait_until(killed, what="a COPY to kill")
    source_db.sql("UPDATE u SET n = -n WHERE id <= 10")
    following.wait_caught_up()
    assert_promoted_equal(following)


def test_stopped_is_stopped(followed):
    """INT ends it within seconds, with everything kept; the same command goes on where it was."""
    followed.source.sql("INSERT INTO t VALUES (300, 'before')")
    begun = time.monotonic()
    assert followed.stop() != 0 and time.monotonic() - begun < 20
    followed.source.sql("INSERT INTO t VALUES (301, 'while it was away')")
    followed.again()
    followed.wait_applied()
    assert ids(followed.dest)[-2:] == [300, 301]
    assert_promoted_equal(followed)


def test_promoted_twice(followed):
    """Two people at once: one does it, the other is told; a third, later, too. Nothing is opened twice or undone."""
    results = []
    followed.source.sql("INSERT INTO t VALUES (400, 'last')")
    threads = [threading.Thread(target=lambda: results.append(followed.command("promote", "--json", check=False))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert followed.end() == 0
    assert 0 in [result.code for result in results]
    assert all(result.code == 0 or "PROMOT" in result.stderr or "ALREADY_DONE" in result.stderr for result in results), results
    later = followed.command("promote", "--json", check=False)
    assert later.code == 2 and "ALREADY_DONE" in later.stderr
    assert ids(followed.dest) == ids(followed.source) and ids(followed.dest)[-1] == 400
    followed.dest.sql("INSERT INTO t VALUES (401, 'on the new one')")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        followed.source.sql("INSERT INTO t VALUES (401, 'on the old one')")


def test_promote_without_a_fence_says_so(followed):
    """It may be asked for; it is not called a proven one."""
    promoted = followed.promoted(followed.promote("--fence", "none", check=False))
    assert promoted["ok"] and not promoted["proven"]
    assert any("unproven" in note or "not proven" in note for note in promoted["notes"]), promoted


# --- slots ---

def test_slot_made_anew_by_somebody(followed):
    """A slot of the same name, made later, lacks what came between: not taken for ours."""
    followed.stop()
    [(slot,)] = followed.source.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    followed.source.sql("SELECT pg_drop_replication_slot(%s)", (slot,))
    followed.source.sql("INSERT INTO t VALUES (500, 'in between')")
    followed.source.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
    followed.again()
    assert followed.end() != 0
    assert followed.failure()["reason"] in ("SLOT_LOST", "DEST_WENT_BACK"), followed.said()
    assert ids(followed.dest)[-1] == 100


def test_slot_moved_on_by_somebody(followed):
    """Another consumer of the slot has taken changes that we have not: a stop, not a gap."""
    followed.stop()
    [(slot,)] = followed.source.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    followed.source.sql("INSERT INTO t VALUES (500, 'taken by somebody else')")
    followed.source.sql("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (slot,))
    followed.again()
    assert followed.end() != 0
    assert followed.failure()["reason"] == "DEST_WENT_BACK", followed.said()
    result = followed.command("promote", "--json", check=False)
    assert result.code != 0 and ids(followed.dest)[-1] == 100


# --- constraints that the replica role does not check ---

DEFERRABLE = """CREATE TABLE d (id int PRIMARY KEY, place int CONSTRAINT one_each UNIQUE DEFERRABLE, r int4range,
CONSTRAINT apart EXCLUDE USING gist (r WITH &&) WHERE (id <> 3) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO d SELECT i, i, int4range(i * 10, i * 10 + 10) FROM generate_series(1, 20) i; INSERT INTO d VALUES (21, NULL, NULL), (22, NULL, NULL)"""
TWICE = {"unique": ("INSERT INTO d VALUES (1000, 50)", "INSERT INTO d VALUES (31, 50)", "constraint one_each does not hold"),
         "exclusion": ("INSERT INTO d VALUES (1000, NULL, '[500,600)')", "INSERT INTO d VALUES (31, NULL, '[550,560)')", "constraint apart does not hold")}


def assert_still_open(following):
    following.source.sql("INSERT INTO d VALUES (99)")
    following.wait_applied()


@pytest.mark.parametrize("kind", TWICE)
def test_deferrable_constraint_that_does_not_hold(kind, pgcrane, source_db, dest_db):
    """A row that somebody wrote to the destination, and one of the source, neither wrong by itself: both are there, and no
    server has checked them together."""
    source_db.sql(DEFERRABLE)
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    at_dest, at_source, said = TWICE[kind]
    dest_db.sql(at_dest)
    source_db.sql(at_source)
    following.wait_applied()
    result = following.command("promote", "--json", check=False)
    assert result.code != 0 and said in result.stderr + result.stdout, result
    assert_still_open(following)
    dest_db.sql("DELETE FROM d WHERE id = 1000")
    assert_promoted_equal(following)


@pytest.mark.parametrize("kind", TWICE)
def test_deferrable_constraint_broken_at_the_last_moment(kind, pgcrane, source_db, dest_db):
    """Behind the look through all of them, just before the fence."""
    source_db.sql(DEFERRABLE)
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    at_dest, at_source, said = TWICE[kind]
    psql = lambda database, text: f'psql -qX -d "{database.uri}" -c "{text}"'  # noqa: E731
    hook = f"{psql(dest_db, at_dest)} && {psql(source_db, at_source)}"
    result = following.command("promote", "--json", "--hook-before", hook, check=False)
    assert result.code != 0 and said in result.stderr + result.stdout, result
    assert_still_open(following)
    dest_db.sql("DELETE FROM d WHERE id = 1000")
    assert_promoted_equal(following)


# --- servers ---

def test_destination_without_room(followed):
    """Its disk is full in the middle of a transaction: nothing of it is there, nothing behind it is, and later all of it is."""
    followed.dest.sql("CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.id = 250 THEN"
                      " RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END IF; RETURN NEW; END$$;"
                      "CREATE TRIGGER full_disk BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION full_disk(); ALTER TABLE t ENABLE ALWAYS TRIGGER full_disk")
    followed.source.sql("INSERT INTO u VALUES (1, 1); INSERT INTO t SELECT i, 'row' FROM generate_series(200, 300) i")
    followed.source.sql("INSERT INTO u VALUES (2, 2)")
    wait_until(lambda: not followed.running() or any("no space left" in body["text"] for body in followed.bodies("EVENT")), 60, "it to notice")
    assert ids(followed.dest)[-1] == 100 and ids(followed.dest, "u") == []
    followed.dest.sql("DROP FUNCTION full_disk CASCADE")
    if not followed.running():
        assert followed.end() == 2 and "no space left" in followed.failure()["message"]
        followed.again()
    followed.wait_applied()
    # A trigger that was seen means that the table is copied again when it is gone.
    wait_until(lambda: len(ids(followed.dest)) == 201 and ids(followed.dest, "u") == [1, 2], 60, "all rows to be there")
    assert_promoted_equal(followed)


def test_destination_crashes_behind_what_is_confirmed(pgcrane, source_db, own_cluster):
    """Its database has asynchronous commit for a default: what is confirmed to the source must have been flushed all the same, or a
    crash takes it from both."""
    server = own_cluster("crashing", config={"fsync": "on", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off"})
    database = server.createdb()
    server.sql(f"ALTER DATABASE {database.name} SET synchronous_commit = off")
    source_db.sql(ROWS)
    following = Following(pgcrane, source_db, database).start()
    following.wait_caught_up()
    source_db.sql("INSERT INTO t VALUES (200, 'confirmed')")
    end = source_db.sql("SELECT pg_current_wal_lsn()::text")[0][0]
    wait_until(lambda: source_db.sql("SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE database = current_database()",
                                     (end,)) == [(True,)], 60, "it to be confirmed")
    server.kill9()
    server.start()
    assert ids(database)[-1] == 200
    source_db.sql("INSERT INTO t VALUES (201, 'behind it')")
    following.wait_applied()
    assert_promoted_equal(following)


def test_password_that_changes(pgcrane, own_cluster, dest_db):
    """While it follows: sessions go on; the first new one is refused, which is no reason to lose the place."""
    server = own_cluster("secret", config={"shared_buffers": "16MB"})
    server.sql("CREATE ROLE mover LOGIN SUPERUSER REPLICATION PASSWORD 'first'")
    source = server.createdb()
    source.sql(ROWS)
    server.set_auth("scram-sha-256")
    following = Following(pgcrane, source, dest_db, "--ddl", source_uri=source.uri_as("mover", "first")).start()
    following.wait_caught_up()
    server.sql("ALTER ROLE mover PASSWORD 'second'")
    source.sql("INSERT INTO t VALUES (700, 'by the old sessions')")
    following.wait_applied()
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mover'")
    source.sql("INSERT INTO t VALUES (701, 'by nobody yet')")
    assert following.end() == 77
    assert following.failure()["reason"] == "LOGIN_REFUSED", following.said()
    following.uris = (source.uri_as("mover", "second"), dest_db.uri)
    following.again()  # what we have on the source belongs to a role that the destination does not know
    following.wait_caught_up()
    following.wait_applied()
    assert ids(dest_db)[-2:] == [700, 701]
    assert_promoted_equal(following)


# --- the list ---

def names_in(file):
    with open(os.path.join(ROOT, "test", "integration", f"test_{file}.py"), encoding="utf-8") as text:
        return set(re.findall(r"^def test_(\w+)", text.read(), re.M))


def test_the_list_names_tests_that_there_are():
    """doc/design/losses.md: each `file::test`, and each further name of the same cell or of the table's own file."""
    with open(os.path.join(ROOT, "doc", "design", "losses.md"), encoding="utf-8") as text:
        lines = text.read().splitlines()
    own, missing, found = None, [], 0
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        heading = re.match(r"Tests(?: \((\w+)\))?$", cells[-1])
        if heading:
            own = heading.group(1)
        if len(cells) != 2 or heading or cells[1].startswith("---"):
            continue
        for part in re.sub(r"\([^)]*\)", "", cells[1]).split(";"):
            file = own
            for name in filter(re.compile(r"(\w+::)?\w+$").match, map(str.strip, part.split(","))):
                file, name = name.split("::") if "::" in name else (file, name)
                found += 1
                if file is None or name not in names_in(file):
                    missing.append(f"{file}::{name}")
    assert not missing and found > 150, (missing, found)
