"""What following means for the source: its application gets no error because of us, whatever we are doing just then; and
what was made there is gone again, or said, whoever may do what by then."""
import contextlib
import re
import threading
import time

import psycopg
import pytest

from support.cluster import Database, wait_until
from support.tcp_proxy import Proxy
from support.trouble import (SCHEMA, Writer, again, assert_equal, assert_promoted, assert_source_clean, failpoint, make, rows_and_sequences)

pytestmark = pytest.mark.turns(4)

NOTICED_S = 30  # the watch looks every two seconds; this machine may be busy
PUBLISHED = "SELECT tablename::text FROM pg_publication_tables WHERE pubname LIKE 'pgcrane%%_keys' ORDER BY 1"


@pytest.fixture
def following(source_db, dest_db, pgcrane):
    return make(pgcrane, source_db, dest_db)


def ended(following, code, reason):
    assert following.end() == code, following.said()
    failed = following.failure()
    assert failed["reason"] == reason and failed["remedy"], failed
    return failed


def events(following):
    return [body["text"] for body in following.bodies("EVENT")]


def copied_again(following, table):
    return any(text.startswith(f"copying table public.{table} again") for text in events(following))


# --- a key that is dropped ---


def works(database, statement):
    try:
        database.sql(statement)
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        assert "replica identity" in str(error)
        return False
    return True


def drop_key(database):
    """And the application goes on: its UPDATE and DELETE work as soon as we have noticed."""
    database.sql("ALTER TABLE part DROP CONSTRAINT part_pkey")
    for statement in ("UPDATE part SET v = v || '!' WHERE id = 1", "DELETE FROM part WHERE id = 2"):
        wait_until(lambda: works(database, statement), NOTICED_S, f"the application's statement to work: {statement}")


def promoted_without_the_key(following):
    """The destination's key goes, too, as without --ddl its owner has to see to that; then the table is copied again."""
    following.wait_caught_up()
    following.dest.sql("ALTER TABLE part DROP CONSTRAINT IF EXISTS part_pkey")
    wait_until(lambda: copied_again(following, "part"), what=f"the copy: {events(following)}")
    following.source.sql("UPDATE part SET v = 'followed in nothing but inserts' WHERE id = 3; INSERT INTO part (item) VALUES (4)")
    assert_promoted(following)


def test_key_dropped_during_the_copy(following):
    following.start(env=failpoint("copy.before_chunk:sleep=25000"))
    wait_until(lambda: following.dest.sql("SELECT to_regclass('pgcrane.chunk')")[0][0]
               and following.dest.sql("SELECT 1 FROM pgcrane.chunk"), 60, "the copy")
    drop_key(following.source)
    assert following.dest.sql("SELECT count(*) FROM pgcrane.chunk WHERE rows IS NOT NULL") == [(0,)], "the copy is still to come"
    promoted_without_the_key(following)


def test_key_dropped_while_the_destination_is_away(source_db, dest_db, pgcrane):
    with Proxy(dest_db.cluster) as proxy:
        following = make(pgcrane, source_db, dest_db, dest_uri=proxy.uri(dest_db)).start()
        following.wait_caught_up()
        proxy.refuse = True
        proxy.reset_all()
        following.wait_state("RETRYING")
        drop_key(source_db)
        # A row under a key that the destination has still: it is not to be applied to the old rows.
        source_db.sql("INSERT INTO part (id, item, v) VALUES (2, 7, 'again')")
        proxy.refuse = False
        promoted_without_the_key(following)


def test_key_dropped_and_made_again_while_the_destination_is_away(source_db, dest_db, pgcrane):
    """Between two looks at the ledger nothing has changed, but updates are missing."""
    with Proxy(dest_db.cluster) as proxy:
        following = make(pgcrane, source_db, dest_db, dest_uri=proxy.uri(dest_db)).start()
        following.wait_caught_up()
        proxy.refuse = True
        proxy.reset_all()
        following.wait_state("RETRYING")
        drop_key(source_db)
        source_db.sql("ALTER TABLE part ADD CONSTRAINT part_pkey PRIMARY KEY (id)")
        proxy.refuse = False
        following.wait_caught_up()
        wait_until(lambda: copied_again(following, "part") and ("part",) in source_db.sql(PUBLISHED),
                   what=f"the table to be followed again: {events(following)}")
        source_db.sql("UPDATE part SET v = 'streamed' WHERE id = 5")
        following.wait_applied()
        assert dest_db.sql("SELECT v FROM part WHERE id = 5") == [("streamed",)]
        assert_promoted(following)


def test_key_dropped_and_made_again_while_another_table_waits_to_be_published(following):
    """Whoever publishes has looked before, and finds a table missing that was published then: it lacks what came between."""
    source = following.source
    source.sql("CREATE TABLE other (id int, v text)")
    following.start()
    following.wait_caught_up()
    with contextlib.closing(source.connect(autocommit=False)) as conn:
        conn.execute("ALTER TABLE other ADD PRIMARY KEY (id)")
        conn.commit()
        conn.execute("LOCK TABLE other IN SHARE UPDATE EXCLUSIVE MODE")
        wait_until(lambda: source.sql("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'other'::regclass"),
                   what=f"it to be published: {events(following)}")
        drop_key(source)
        source.sql("ALTER TABLE part ADD CONSTRAINT part_pkey PRIMARY KEY (id)")
        conn.rollback()
    following.dest.sql("ALTER TABLE other ADD PRIMARY KEY (id)")
    wait_until(lambda: copied_again(following, "part") and ("part",) in source.sql(PUBLISHED),
               what=f"the table to be followed again: {events(following)}")
    assert_promoted(following)


def test_key_dropped_while_a_promote_waits(following):
    """For the lag to become small, which it does not while the destination's table is locked."""
    following.start()
    following.wait_caught_up()
    with contextlib.closing(following.dest.connect(autocommit=False)) as conn:
        conn.execute("LOCK TABLE item IN SHARE MODE")
        following.source.sql("UPDATE item SET v = 'waits' WHERE id = 1")
        promote = following.program.popen("promote", "--json", "--state-dir", following.program.state_dir)
        following.wait_state("PROMOTING")
        drop_key(following.source)
        conn.rollback()
    promote.communicate(timeout=120)
    assert following.running() == (promote.returncode != 0)
    if following.running():  # the key is a difference, which a promote says
        promoted_without_the_key(following)
    else:
        following.end()
        assert_equal(following.source, following.dest)


def test_stopped_says_who_protects_the_application(following):
    """A run that is stopped cannot take the table out: said when it stops."""
    following.start()
    following.wait_caught_up()
    assert following.stop() == 3
    assert "primary key" in following.stderr and "pgcrane abort" in following.stderr
    following.source.sql("ALTER TABLE part DROP CONSTRAINT part_pkey")
    assert not works(following.source, "UPDATE part SET v = 'x' WHERE id = 1"), "what was said is true"
    following.abort()
    assert works(following.source, "UPDATE part SET v = 'x' WHERE id = 1")


# --- options and roles that change ---


@pytest.mark.parametrize("flag", ("--ddl", "--identity-full"))
@pytest.mark.parametrize("begun", ("with", "without"))
def test_option_of_the_beginning(flag, begun, source_db, dest_db, pgcrane):
    """Half of the time with, half without would lose tables that were swapped or made anew meanwhile."""
    runs = {"with": make(pgcrane, source_db, dest_db, flag), "without": again(pgcrane, source_db, dest_db)}
    first = runs.pop(begun).start()
    other, = runs.values()
    first.wait_caught_up()
    first.stop()
    failed = ended(other.start(), 2, "LEDGER_MISMATCH")
    assert f"begun {begun} {flag}" in failed["message"]
    assert f"{begun} {flag}" in failed["remedy"] and "pgcrane abort" in failed["remedy"]
    first.again()
    assert_promoted(first)


def test_source_renamed_and_another_has_its_name(source, dest_db, pgcrane):
    """What the old one has left is removed as the remedy says, and the new one is moved."""
    shop = source.createdb()
    moved = Database(source, f"{shop.name}_moved")
    following = make(pgcrane, shop, dest_db).start()
    following.wait_caught_up()
    following.stop()
    source.sql(f"ALTER DATABASE {shop.name} RENAME TO {moved.name}")
    source.createdb(shop.name).sql(SCHEMA)
    try:
        failed = ended(following.again(), 2, "DATABASE_REPLACED")
        command = re.search("pgcrane abort (--source-only [0-9a-f]+)", failed["remedy"])
        following.abort(*command.group(1).split())
        assert moved.sql("SELECT pubname FROM pg_publication") == [] and source.sql("SELECT slot_name FROM pg_replication_slots") == []
        anew = again(pgcrane, shop, dest_db, "--restart")
        anew.start()
        anew.wait_caught_up()
        assert_promoted(anew)
    finally:
        pgcrane.end_all()
        shop.drop()
        moved.drop()


@pytest.fixture
def mover(source_db):
    """A role that may do everything, and its name in an address."""
    source_db.sql("CREATE ROLE mover LOGIN SUPERUSER REPLICATION")
    yield source_db.uri_as("mover")
    source_db.sql("BEGIN READ WRITE; REASSIGN OWNED BY mover TO postgres; DROP OWNED BY mover; DROP ROLE mover; COMMIT")


def give_all(database, role):
    database.sql("DO $$ DECLARE t text; BEGIN FOR t IN SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname ="
                 f" 'public' LOOP EXECUTE 'ALTER TABLE ' || t || ' OWNER TO {role}'; END LOOP; END $$;"
                 f" ALTER DATABASE {database.name} OWNER TO {role}; GRANT pg_signal_backend TO {role};"
                 f" GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}")


@pytest.mark.parametrize("now", ("NOSUPERUSER", "SUPERUSER"))
def test_role_that_changes(now, mover, source_db, dest_db, pgcrane):
    """What was published stays published: no change is gone."""
    source_db.sql(f"ALTER ROLE mover {'SUPERUSER' if now == 'NOSUPERUSER' else 'NOSUPERUSER'}")
    following = make(pgcrane, source_db, dest_db, "--no-owner", "--no-acl", source_uri=mover)
    give_all(source_db, "mover")
    following.start()
    following.wait_caught_up()
    following.stop()
    source_db.sql(f"ALTER ROLE mover {now}; UPDATE item SET v = 'meanwhile' WHERE id = 9; INSERT INTO part (item) VALUES (9)")
    following.again()
    following.wait_caught_up()
    following.wait_applied()
    assert dest_db.sql("SELECT v FROM item WHERE id = 9") == [("meanwhile",)]
    promoted = following.promoted(following.promote())
    assert promoted["proven"], promoted
    assert_source_clean(following)


def make_event_triggers_anothers(database):
    database.sql("DO $$ DECLARE t text; BEGIN FOR t IN SELECT quote_ident(evtname) FROM pg_event_trigger LOOP"
                 " EXECUTE 'ALTER EVENT TRIGGER ' || t || ' OWNER TO postgres'; END LOOP; END $$")


def test_abort_without_the_right_to_event_triggers(mover, source_db, dest_db, pgcrane):
    """What hurts is gone all the same; of the rest the SQL is said, and helps."""
    following = make(pgcrane, source_db, dest_db, "--ddl", "--no-owner", "--no-acl", source_uri=mover).start()
    give_all(source_db, "mover")
    following.wait_caught_up()
    following.stop()
    make_event_triggers_anothers(source_db)
    source_db.sql("ALTER ROLE mover NOSUPERUSER")
    result = following.abort(check=False)
    assert result.code != 0 and "DROP EVENT TRIGGER" in result.stderr, result
    assert not source_db.sql("SELECT 1 FROM pg_replication_slots WHERE database = current_database()")
    assert not source_db.sql("SELECT 1 FROM pg_publication")
    assert source_db.sql("SELECT 1 FROM pg_event_trigger")
    source_db.sql("ALTER TABLE item ADD COLUMN later int")  # the application's definitions work
    source_db.sql(result.stderr[result.stderr.index("DROP EVENT TRIGGER"):].split("CASCADE;")[0].replace("\n", " ") + "CASCADE")
    following.abort()
    assert_source_clean(following)


# --- replica identities for a while ---


def identities(database):
    return dict(database.sql("SELECT relname::text, relreplident::text FROM pg_class WHERE relkind IN ('r', 'p')"
                             " AND relnamespace = 'public'::regnamespace"))


KEYLESS = """CREATE TABLE nothing (id int PRIMARY KEY, v text); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
INSERT INTO nothing SELECT g, 'x' FROM generate_series(1, 20) g;
CREATE TABLE root (a int, b int) PARTITION BY LIST (a);
CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1);
INSERT INTO root SELECT 1, g FROM generate_series(1, 20) g"""


@pytest.mark.parametrize("keep", (False, True))
def test_identity_full_through_a_promote(keep, source_db, dest_db, pgcrane):
    """Updates of tables without a key are in the stream, nothing is left for the fence, and both sides end with the identities
    that the source had."""
    source_db.sql(KEYLESS)
    following = make(pgcrane, source_db, dest_db, "--identity-full")
    before = identities(source_db)
    following.start()
    following.wait_caught_up()
    assert {name for name, kind in identities(source_db).items() if kind == "f"} == {"keyless", "nothing", "leaf"}
    source_db.sql("UPDATE keyless SET v = v + 1000 WHERE v > 10; DELETE FROM keyless WHERE v = 5;"
                  " UPDATE nothing SET v = 'changed'; UPDATE root SET b = -b")
    following.wait_applied()
    wait_until(lambda: following.cdc().get("updates", 0) >= 50, what=f"updates in the stream: {following.cdc()}")
    promoted = following.promoted(following.promote(*(["--keep-slot"] if keep else [])))
    assert promoted["proven"], promoted
    assert not any("copied again" in note or "compared" in note for note in promoted["notes"]), promoted["notes"]
    assert rows_and_sequences(source_db, dest_db) == []
    assert identities(source_db) == before and identities(dest_db) == before
    if not keep:
        assert_source_clean(following)
        return
    report = following.bodies("REPORT")[-1]
    assert any("--keep-slot" in note and "replica identities" in note for note in report["notes"]), report["notes"]
    assert len(source_db.sql("SELECT 1 FROM pg_publication")) == 2
    assert source_db.sql(PUBLISHED) == [("item",), ("part",)]
    source_db.sql("BEGIN READ WRITE; UPDATE keyless SET v = 0; UPDATE root SET b = 0; COMMIT")  # the application's, if it goes back
    source_db.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")


# --- a slot that cannot be read on ---


def test_undecodable(following):
    """The same twice, with a reason of its own and what helps, and that does help."""
    source = following.source
    following.start()
    following.wait_caught_up()
    keys, = source.sql("SELECT pubname FROM pg_publication WHERE pubupdate")[0]
    source.sql(f"ALTER PUBLICATION {keys} DROP TABLE item; ALTER PUBLICATION {keys} ADD TABLE item WHERE (1 / (id - 7) > 0)")
    source.sql("UPDATE item SET v = 'cannot be decoded' WHERE id = 7")
    for _ in range(2):
        failed = ended(following, 2, "SLOT_UNDECODABLE")
        assert "division by zero" in failed["message"] and "--restart" in failed["remedy"]
        assert failed["retryable"] is False
        following.again()
    following.end()
    anew = again(following.program, source, following.dest, "--restart").start()
    assert_promoted(anew)


# --- tables that are copied again ---


def test_copy_again_locks_one_table_at_a_time(following):
    """What somebody wants of a table that is done is not kept waiting by the next one."""
    source, dest = following.source, following.dest
    source.sql("CREATE TABLE zz (id int PRIMARY KEY, v text); INSERT INTO zz VALUES (1, 'x')")
    following.start(env=failpoint("again.before_commit:sleep=6000"))
    following.wait_caught_up()
    for table in ("item", "zz"):
        source.sql(f"ALTER TABLE {table} ADD COLUMN added int")
    following.wait_applied()
    with dest.connect() as conn:
        conn.execute("ALTER TABLE item ADD COLUMN added int; ALTER TABLE zz ADD COLUMN added int")
    held = []

    def both_begun():
        locks = {name for (name,) in source.sql(
            "SELECT l.relation::regclass::text FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE a.application_name LIKE 'pgcrane%%copy again' AND l.relation IN ('item'::regclass, 'zz'::regclass)")}
        held.append(locks)
        return len([text for text in events(following) if text.startswith("copying table public.")]) >= 2 and locks

    wait_until(both_begun, 60, f"both tables: {events(following)}")
    assert len(held[-1]) == 1 and all(len(locks) <= 1 for locks in held), held
    assert_promoted(following)


# --- what it costs, and what is known of it ---


@pytest.mark.turns(5)
def test_numbers_of_status(source_db, dest_db, pgcrane):
    """Lag, what the slot holds, and how long until --max-retained; rates, and the rows of each table."""
    following = make(pgcrane, source_db, dest_db, "--max-retained", "1GB").start()
    following.wait_caught_up()
    wait_until(lambda: following.cdc()["limit_bytes"] == 1 << 30, what=f"the limit: {following.cdc()}")
    assert following.cdc()["catalog_age"] >= 0 and following.cdc()["lag_us"] < 5_000_000
    with Writer(source_db, pause_s=0.001) as first_writer, contextlib.closing(dest_db.connect(autocommit=False)) as conn:
        conn.execute("LOCK TABLE item")
        wait_until(lambda: following.cdc()["lag_us"] > 4_000_000, 60, "lag")
        first = following.cdc()
        begun = time.monotonic()
        assert first["lag_bytes"] > 0 and first["state"] == "CATCHING_UP", first
        wait_until(lambda: following.cdc()["lag_us"] > first["lag_us"] + 5_000_000, 60, "more lag")
        later = following.cdc()
        assert later["lag_bytes"] > first["lag_bytes"] and later["retained_bytes"] > first["retained_bytes"]
        assert later["retained_bytes"] <= source_db.sql(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots"
            " WHERE database = current_database()")[0][0]

        def is_plausible():
            """The program's rate is one of about a minute, so it needs some time to come near."""
            cdc = following.cdc()
            rate = (cdc["retained_bytes"] - first["retained_bytes"]) / (time.monotonic() - begun)
            expected = ((1 << 30) - cdc["retained_bytes"]) / rate
            return expected / 4 < cdc["limit_seconds"] < expected * 4

        wait_until(is_plausible, 90, f"the time until the limit: {following.cdc()}")
        conn.rollback()
        first_writer.wait_for(5)
    following.wait_caught_up()
    wait_until(lambda: following.cdc()["lag_us"] < 2_000_000, what="no lag")
    following.wait_applied()

    def inserted():
        return {table["name"]: table["inserts"] for table in following.cdc()["tables"]}.get("public.part", 0)

    wait_until(lambda: inserted() == first_writer.committed, what=f"the counts: {following.cdc()['tables']}")
    before = inserted()
    with Writer(source_db) as writer:
        begun, first = time.monotonic(), writer.committed

        def rates_are_right():
            """Each commit updates and inserts a row."""
            rate = (writer.committed - first) / (time.monotonic() - begun)
            return all(rate / 2 < following.cdc()[f"{kind}_rate"] < rate * 2 for kind in ("inserts", "updates"))

        wait_until(lambda: time.monotonic() > begun + 4 and rates_are_right(), 60, f"the rates: {following.cdc()}")
        writer.stop()
        following.wait_caught_up()
        wait_until(lambda: inserted() == before + writer.committed, 30, f"the counts: {following.cdc()['tables']}")
    assert_promoted(following)


def test_without_a_limit_there_is_no_end(following):
    with Writer(following.source):
        following.start()
        following.wait_caught_up()
        wait_until(lambda: following.cdc()["retained_bytes"] > 0, what="the slot's size")
        assert following.cdc()["limit_bytes"] == following.cdc()["limit_seconds"] == -1


def test_age_of_the_catalogues(own_cluster, dest_db, pgcrane):
    """The slot stays behind while a transaction is open; before the server vacuums in earnest, and in vain, it is said."""
    following = make(pgcrane, own_cluster("age", config={"autovacuum_freeze_max_age": 100000}).createdb(), dest_db).start()
    following.wait_caught_up()
    assert 0 <= following.cdc()["catalog_age"] < 75000 and not following.cdc()["problems"], following.cdc()
    with contextlib.closing(following.source.connect(autocommit=False)) as conn:
        conn.execute("CREATE TEMP TABLE burnt (v int); DO $$ BEGIN FOR i IN 1..76000 LOOP"
                     " BEGIN INSERT INTO burnt VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$")
        wait_until(lambda: any("autovacuum_freeze_max_age" in text for text in following.cdc()["problems"]), 30,
                   f"it to be said: {following.cdc()}")
        assert following.cdc()["catalog_age"] >= 75000
        conn.rollback()


def test_idle_database_on_a_busy_server(following):
    """Other databases write without a break, this one not at all: its slot moves on, or it would hold all of their log."""
    server = following.source.cluster
    over = threading.Event()

    def write():
        with contextlib.closing(server.connect()) as conn:
            conn.execute("CREATE TABLE busy (v text)")
            while not over.is_set():
                conn.execute("INSERT INTO busy SELECT repeat('x', 500) FROM generate_series(1, 500)")
            conn.execute("DROP TABLE busy")

    following.start()
    following.wait_caught_up()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            end = following.source.sql("SELECT pg_current_wal_lsn()::text")[0][0]
            wait_until(lambda: following.source.sql(
                "SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots WHERE database = current_database()",
                (end,))[0][0], 60, "the slot to move on")
            assert writer.is_alive()
    finally:
        over.set()
        writer.join(60)


def test_silent_source_is_not_called_caught_up(source_db, dest_db, pgcrane):
    """No connection is closed, and nothing comes: what was heard last says nothing about now."""
    with Proxy(source_db.cluster) as proxy:
        following = make(pgcrane, source_db, dest_db, source_uri=proxy.uri(source_db)).start()
        following.wait_caught_up()
        proxy.flowing.clear()
        wait_until(lambda: any("nothing was heard of the source" in text for text in following.cdc()["problems"]), 60,
                   f"it to be said: {following.cdc()}")
        silent = following.cdc()
        assert silent["state"] == "CATCHING_UP" and silent["lag_us"] > 10_000_000, silent
        wait_until(lambda: following.cdc()["lag_us"] > silent["lag_us"] + 2_000_000, what="the silence to grow")
        proxy.release()
        following.wait_caught_up()
        assert not following.cdc()["problems"], following.cdc()
        assert_promoted(following)


# --- who else writes to the source ---


def test_subscription(following, own_cluster):
    """Its worker is started again after each end and writes in spite of the setting: it is found before, and refused."""
    source = following.source
    upstream = own_cluster("upstream", config={"wal_level": "logical"}).createdb()
    upstream.sql("CREATE TABLE news (id int PRIMARY KEY); CREATE PUBLICATION news FOR TABLE news")
    source.sql("CREATE TABLE news (id int PRIMARY KEY)")
    with source.connect() as conn:
        conn.execute(f"CREATE SUBSCRIPTION news CONNECTION '{upstream.uri}' PUBLICATION news")
    try:
        following.start()
        following.wait_caught_up()
        found = [f for body in following.bodies("FINDINGS") for f in body["findings"] if f["id"] == "FOLLOW_SUBSCRIPTION"]
        assert len(found) == 1 and "DISABLE" in found[0]["fix"], following.bodies("FINDINGS")
        refused = following.promoted(following.promote(check=False))
        assert not refused["opened"] and "ALTER SUBSCRIPTION news DISABLE" in str(refused), refused
        # Why: what the fence sets does not stop the worker.
        source.sql(f"ALTER DATABASE {source.name} SET default_transaction_read_only = on")
        source.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%%'"
                   " AND datname = current_database()")
        upstream.sql("INSERT INTO news VALUES (1)")
        wait_until(lambda: source.sql("SELECT id FROM news"), 60, "the subscription's row")
        source.sql(f"BEGIN READ WRITE; ALTER DATABASE {source.name} RESET default_transaction_read_only; COMMIT")
        with source.connect() as conn:
            conn.execute("ALTER SUBSCRIPTION news DISABLE")
        promoted = following.promoted(following.promote())
        assert promoted["proven"], promoted
        assert following.dest.sql("SELECT id FROM news") == [(1,)]
    finally:
        for database in (source, following.dest):
            with contextlib.closing(database.connect()) as conn:
                conn.execute("SET default_transaction_read_only = off")
                for text in ("ALTER SUBSCRIPTION news DISABLE", "ALTER SUBSCRIPTION news SET (slot_name = NONE)",
                             "DROP SUBSCRIPTION news"):
                    with contextlib.suppress(psycopg.Error):
                        conn.execute(text)
