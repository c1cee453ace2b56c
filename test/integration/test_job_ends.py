"""How a job ends when somebody else speaks at the wrong moment, or the servers are not as they usually are."""
import contextlib
import json
import os
import re
from pathlib import Path

import psycopg
import pytest

from support.cluster import Database, wait_until
from support.migration import FLAGS, assert_done, finding
from support.program import Program
from support.promote import is_read_only
from support.trouble import SCHEMA, again, assert_promoted, assert_source_clean, assert_writable, failpoint, make, make_standby

pytestmark = pytest.mark.turns(3)


def abort(pgcrane, *flags, **options):
    return pgcrane("abort", "--yes", "--state-dir", pgcrane.state_dir, *flags, **options)


# --- a source that is a standby ---


@pytest.mark.parametrize("how", ("abort", "restart"))
def test_one_time_copy_of_a_standby_is_given_up(how, own_cluster, dest_db, pgcrane):
    """A standby takes no DROP PUBLICATION, and has none of ours to drop."""
    primary = own_cluster("primary")
    primary.createdb("shop").sql(SCHEMA)
    with contextlib.ExitStack() as made:
        uri = make_standby(primary, made).uri("shop")
        assert pgcrane("migrate", uri, dest_db.uri, *FLAGS, env=failpoint("acl.before:kill:1")).code == 2
        if how == "restart":
            assert_done(pgcrane("migrate", uri, dest_db.uri, *FLAGS, "--restart"))
            return
        result = abort(pgcrane)
        assert result.code == 0, result
        assert dest_db.sql("SELECT to_regnamespace('pgcrane')") == [(None,)]
        assert "There is no migration" in pgcrane("status", "--state-dir", pgcrane.state_dir).stdout


# --- "done already" ---


def test_aborted_is_not_done(source_db, dest_db, pgcrane):
    """The report is written before the last transaction: without its ledger it would say that all is done."""
    source_db.sql(f"{SCHEMA}; CREATE PUBLICATION own FOR TABLE item")
    assert pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, env=failpoint("finish.before_drop:kill:1")).code == 2
    assert abort(pgcrane).code == 0
    assert dest_db.sql("SELECT pubname FROM pg_publication") == []
    again = pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS)
    assert again.code == 2 and "ALREADY_DONE" not in again.stdout, again


def test_report_of_an_earlier_migration(source_db, dest_db, pgcrane):
    """Moved, emptied, begun anew and given up: what is there now is half a copy."""
    source_db.sql(SCHEMA)
    assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS))
    dest_db.sql("DROP TABLE item, part, keyless CASCADE")
    assert pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, env=failpoint("acl.before:kill:1")).code == 2
    dest_db.sql("DROP SCHEMA pgcrane CASCADE")  # somebody's own way of giving it up
    again = pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS)
    assert again.code == 2 and "ALREADY_DONE" not in again.stdout, again


# --- abort ---


def test_source_only_of_another_server(source_db, dest_db, pgcrane):
    """PGCRANE_SOURCE of another migration: what is not there was not removed."""
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    following.stop()
    (slot,), = source_db.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    result = following.abort("--source-only", env={"PGCRANE_SOURCE": dest_db.cluster.uri("postgres")})
    assert "removed from the source" not in result.stderr and f"pg_drop_replication_slot('{slot}')" in result.stderr, result


def slots_and_publications(cluster, db):
    return cluster.sql("SELECT slot_name::text FROM pg_replication_slots UNION ALL SELECT pubname FROM pg_publication", db=db)


@pytest.mark.parametrize("closed", (False, True))
def test_source_only_of_a_renamed_database(closed, own_cluster, dest_db, pgcrane):
    """The slot is the server's: it goes by whichever database lets us in, and what is left is named."""
    cluster = own_cluster("renamed")
    source_db = cluster.createdb("shop")
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    following.stop()
    cluster.sql(f"ALTER DATABASE shop RENAME TO market; ALTER DATABASE market ALLOW_CONNECTIONS {not closed}")
    if not closed:
        cluster.createdb("shop")  # another one
    assert len(slots_and_publications(cluster, "postgres")) == 1
    result = following.abort("--source-only", check=False)
    assert 'is called "market" now' in result.stderr and (result.code == 0) == (not closed), result
    if closed:
        assert "is dropped; publications pgcrane_" in result.stderr and "in it: DROP PUBLICATION IF EXISTS" in result.stderr, result
        result = following.abort("--source-only")
        assert "no other database that lets us in" in result.stderr and "DROP PUBLICATION IF EXISTS" in result.stderr, result
        cluster.sql("ALTER DATABASE market ALLOW_CONNECTIONS true")
    assert len(slots_and_publications(cluster, "market")) == (2 if closed else 0)
    assert "There is no migration" in following.command("status").stdout


@pytest.fixture
def shop(source):
    """To be renamed to market."""
    yield source.createdb("shop")
    for name in ("shop", "market"):
        Database(source, name).drop()


def test_abort_of_a_renamed_database(source, shop, dest_db, pgcrane):
    """By the ledger's id, which tells a name that was changed from one that is mistyped."""
    following = make(pgcrane, shop, dest_db).start()
    following.wait_caught_up()
    following.stop()
    source.sql("ALTER DATABASE shop RENAME TO market")
    result = following.abort()
    assert 'is called "market" now' in result.stderr, result
    assert slots_and_publications(source, "market") == []
    assert dest_db.sql("SELECT to_regclass('pgcrane.job') IS NULL") == [(True,)]


OURS = """SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()
UNION ALL SELECT pubname::text FROM pg_publication UNION ALL SELECT evtname::text FROM pg_event_trigger
UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^pgcrane'
UNION ALL SELECT relname::text FROM pg_class WHERE relreplident = 'f'
UNION ALL SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = current_database()"""
ALL_OF_IT = ("--identity-full", "--ddl")


def ours(cluster, db="market"):
    return [name for name, in cluster.sql(OURS, db=db)]


def has_ledger(dest_db):
    return dest_db.sql("SELECT to_regclass('pgcrane.job') IS NOT NULL") == [(True,)]


def rename_unslotted(source, *more):
    """As after an abort that was killed, or by hand."""
    source.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'shop'")
    for statement in ("ALTER DATABASE shop RENAME TO market", *more):
        source.sql(statement)


def killed_in_fence(pgcrane, shop, dest_db):
    """A migration whose promote was killed when the source was read-only."""
    following = make(pgcrane, shop, dest_db, *ALL_OF_IT).start(env=failpoint("promote.after_fence_setting:kill"))
    following.wait_caught_up()
    assert following.promote(check=False).code == 2 and following.end() == 2
    assert {"keyless", "default_transaction_read_only=on"} <= set(ours(shop.cluster, "shop"))
    return following


def aborted_twice(passage, pgcrane, shop, dest_db, *flags):
    """Renamed, then an abort that is killed, and another one."""
    following = make(pgcrane, shop, dest_db, *ALL_OF_IT).start()
    following.wait_caught_up()
    following.stop()
    assert "keyless" in ours(shop.cluster, "shop")
    shop.cluster.sql("ALTER DATABASE shop RENAME TO market")
    killed = following.abort(*flags, check=False, env=failpoint(f"seam.removed:kill:{passage}"))
    assert killed.code != 0 and has_ledger(dest_db), killed
    result = following.abort(*flags)
    assert 'is called "market" now' in result.stderr, result
    return following, result


@pytest.mark.parametrize("passage", (1, 2, 3, 4))
def test_abort_of_a_renamed_database_is_killed(passage, source, shop, dest_db, pgcrane):
    """The next one ends it. Behind the slot the database is found by its oid."""
    following, _ = aborted_twice(passage, pgcrane, shop, dest_db)
    assert ours(source) == [] and not has_ledger(dest_db)
    assert "There is no migration" in following.command("status").stdout


@pytest.mark.parametrize("passage", (1, 2, 3))
def test_source_only_of_a_renamed_database_is_killed(passage, source, shop, dest_db, pgcrane):
    """Behind the slot it is found by what has a name; what only the ledger knows is told."""
    _, result = aborted_twice(passage, pgcrane, shop, dest_db, "--source-only")
    assert ours(source) == ["keyless"] and "ALTER TABLE public.keyless REPLICA IDENTITY DEFAULT" in result.stderr, result


def test_abort_of_a_renamed_database_that_was_fenced(source, shop, dest_db, pgcrane):
    """Without a slot that leads there; also when another database has its name."""
    following = killed_in_fence(pgcrane, shop, dest_db)
    rename_unslotted(source, "CREATE DATABASE shop")
    result = following.abort()
    assert 'is called "market" now' in result.stderr and "the source is writable again" in result.stderr, result
    assert ours(source) == [] and not has_ledger(dest_db)


@pytest.mark.parametrize("end", ("opened", "given_up"))
def test_abort_of_a_renamed_database_that_lets_nobody_in(end, source, shop, dest_db, pgcrane):
    """What only the ledger knows keeps it until we are let in, or it is given up: told before it goes, again after a kill."""
    following = killed_in_fence(pgcrane, shop, dest_db)
    rename_unslotted(source, "ALTER DATABASE market ALLOW_CONNECTIONS false")
    refused = following.abort(check=False)
    assert refused.code != 0 and has_ledger(dest_db) and 'called "market" now' in refused.stderr, refused
    assert "abort --dest-only" in refused.stderr and "does harm" not in refused.stderr, refused
    if end == "opened":
        source.sql("ALTER DATABASE market ALLOW_CONNECTIONS true")
        following.abort()
        assert ours(source) == [] and not has_ledger(dest_db)
        return
    for env in (failpoint("abort.before_drop:kill:1"), None):
        result = following.abort("--dest-only", check=False, env=env)
        assert (result.code == 0) == (env is None) and has_ledger(dest_db) == (result.code != 0), result
        for told in ('ALTER TABLE ONLY "public"."keyless" REPLICA IDENTITY DEFAULT;', 'ALTER DATABASE "its name now" RESET default_tr'):
            assert told in result.stderr, result


def test_abort_of_a_dropped_database(source, shop, dest_db, pgcrane):
    """The new one of its name is nobody's to change."""
    following = killed_in_fence(pgcrane, shop, dest_db)
    rename_unslotted(source, "DROP DATABASE market")
    source.createdb("shop").sql("CREATE TABLE own (v int); ALTER TABLE own REPLICA IDENTITY FULL")
    result = following.abort()
    assert "nothing of this migration is left that does harm" in result.stderr and "was not dropped but renamed" in result.stderr, result
    assert ours(source, "shop") == ["own"] and not has_ledger(dest_db)
    assert "There is no migration" in following.command("status").stdout


def test_ledger_of_another_migration(source, source_db, dest_db, pgcrane, tmp_path):
    """The remedy is not to start over what somebody else has begun."""
    following, other_db = make(pgcrane, source_db, dest_db).start(), source.createdb()
    following.wait_caught_up()
    following.stop()
    other = Program(tmp_path / "other")
    try:
        dest_db.sql("DROP SCHEMA pgcrane CASCADE; DROP TABLE item, part, keyless CASCADE")
        other_db.sql(SCHEMA)
        assert other("migrate", other_db.uri, dest_db.uri, *FLAGS, env=failpoint("acl.before:kill:1")).code == 2
        result = following.abort(check=False)
        assert result.code == 2 and "LEDGER_MISMATCH" in result.stderr and "abort --source-only" in result.stderr, result
        following.abort("--source-only")
        assert_source_clean(following)
    finally:
        other.end_all()
        other_db.drop()


# --- promotes ---


@pytest.mark.parametrize("point", ("promote.open_committed", "close.before_remove"))
def test_slot_that_is_kept_stays_after_a_kill(point, source_db, dest_db, pgcrane):
    """--keep-slot was said to the promote, and not to the command that closes it."""
    following = make(pgcrane, source_db, dest_db).start(env=failpoint(f"{point}:kill:1"))
    following.wait_caught_up()
    following.promote("--keep-slot", check=False)
    assert following.end() == 2
    assert following.again().end() in (0, 4)
    (slot,), = source_db.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    notes = following.bodies("REPORT")[0]["notes"]
    assert any(f"pg_drop_replication_slot('{slot}')" in note for note in notes), notes
    assert any("to write to it again: BEGIN READ WRITE" in note for note in notes), notes


def test_open_is_told_when_the_process_is_killed(source_db, dest_db, pgcrane):
    """What came of the promote was said before: it is not unsaid."""
    following = make(pgcrane, source_db, dest_db).start(env=failpoint("close.before_remove:sleep=8000:1"))
    following.wait_caught_up()
    status = os.path.join(os.path.dirname(socket_of(following)), "status.json")
    command = pgcrane.popen("promote", "--state-dir", pgcrane.state_dir)
    wait_until(lambda: following.bodies("PROMOTED"), what="the promote")
    wait_until(lambda: json.loads(Path(status).read_text(encoding="utf-8")).get("promoted"), what="the file")  # behind all who wait
    following.kill("session")
    out, err = command.communicate(timeout=60)
    assert command.returncode == 2 and "the destination is the database now" in out and "the destination is open" in err, (out, err)
    following.end()
    assert following.again().end() == 0


def test_promote_asked_of_an_abort(source_db, dest_db, pgcrane):
    """`pgcrane promote && switch_the_application`: it must not end well because the abort did."""
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    following.stop()
    giving_up = pgcrane.popen("abort", "--yes", "--state-dir", pgcrane.state_dir, env=failpoint("seam.removed:sleep=2000"))
    wait_until(lambda: not source_db.sql("SELECT 1 FROM pg_replication_slots WHERE database = current_database()"), what="the abort")
    result = following.command("promote", check=False)
    assert result.code == 2 and "PROMOTE_REFUSED" in result.stderr, result
    assert giving_up.wait(60) == 0
    assert not is_read_only(source_db)


def test_promote_asked_of_a_dry_run(source_db, dest_db, pgcrane):
    """It is refused, and does not get the answer of the other."""
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    following.stop()
    trying = pgcrane.popen("promote", "--dry-run", "--state-dir", pgcrane.state_dir, env=failpoint("sequences.before:sleep=7000:1"))
    wait_until(lambda: os.path.exists(socket_of(following)), what="the other process")
    result = following.command("promote", check=False)
    assert result.code == 2 and "under way already" in result.stderr, result
    assert trying.wait(60) == 0
    assert_promoted(following.again())


def socket_of(following):
    (job,) = (entry for entry in os.listdir(following.program.state_dir) if "." not in entry)
    return os.path.join(following.program.state_dir, job, "control.sock")


def test_sequence_that_may_not_be_read(source, source_db, dest_db, pgcrane):
    """Found before writes are stopped."""
    source.sql("DROP ROLE IF EXISTS only_follows; CREATE ROLE only_follows LOGIN REPLICATION")
    source.sql(f"GRANT pg_signal_backend TO only_follows; ALTER DATABASE {source_db.name} OWNER TO only_follows")
    try:
        source_db.sql(f"SET ROLE only_follows; CREATE SCHEMA own; SET search_path = own; {SCHEMA}")
        following = again(pgcrane, source_db, dest_db, "--no-owner", source_uri=source_db.uri_as("only_follows")).start()
        following.wait_caught_up()
        source_db.sql("CREATE SEQUENCE public.later")
        dest_db.sql("CREATE SEQUENCE public.later")
        result = following.promote(check=False)
        assert result.code == 2 and "PROMOTE_REFUSED" in result.stdout and "GRANT SELECT" in result.stdout, result
        assert not is_read_only(source_db)
        source_db.sql("GRANT SELECT ON public.later TO only_follows")
        following.promote()
    finally:
        pgcrane.end_all()
        source.sql(f"ALTER DATABASE {source_db.name} OWNER TO postgres; ALTER DATABASE {source_db.name} RESET default_transaction_read_only")
        source_db.sql("REASSIGN OWNED BY only_follows TO postgres; DROP OWNED BY only_follows")
        source.sql("DROP ROLE only_follows")


def test_role_that_becomes_another(source, source_db, dest_db, pgcrane):
    """The slot can be made by whoever logs in, but is dropped by the one that they become."""
    source.sql("CREATE ROLE becomes_it; CREATE ROLE logs_in LOGIN REPLICATION IN ROLE becomes_it; ALTER ROLE logs_in SET role = 'becomes_it';"
               f" GRANT pg_signal_backend TO becomes_it; ALTER DATABASE {source_db.name} OWNER TO becomes_it")
    try:
        source_db.sql(f"SET ROLE becomes_it; CREATE SCHEMA own; SET search_path = own; {SCHEMA}")
        def begin():
            return again(pgcrane, source_db, dest_db, "--no-owner", source_uri=source_db.uri_as("logs_in")).start()
        refused = begin()
        assert refused.end() == 2
        found = [f for body in refused.bodies("FINDINGS") for f in body["findings"] if f["id"] == "FOLLOW_REPLICATION"]
        assert [f["fix"].split(";")[0] for f in found] == ["ALTER ROLE becomes_it REPLICATION"], found
        source.sql(found[0]["fix"])
        following = begin()
        following.wait_caught_up()
        following.stop()
        source.sql("ALTER ROLE becomes_it NOREPLICATION")
        result = following.abort(check=False)
        assert result.code == 77 and "as a role with REPLICATION: SELECT pg_drop_replication_slot" in result.stderr, result
        source.sql("ALTER ROLE becomes_it REPLICATION")
        following.abort()
        assert_source_clean(following)
    finally:
        pgcrane.end_all()
        source_db.cluster.sql(f"ALTER DATABASE {source_db.name} OWNER TO postgres")
        source_db.sql("DROP OWNED BY becomes_it, logs_in CASCADE")
        source.sql("DROP ROLE becomes_it, logs_in")


# --- login triggers, from 17 on ---

LOGIN = """
CREATE TABLE login (who text);
CREATE FUNCTION note_login() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
 BEGIN INSERT INTO public.login VALUES (session_user); END $$;
CREATE EVENT TRIGGER note_login ON login EXECUTE FUNCTION note_login();
ALTER EVENT TRIGGER note_login ENABLE ALWAYS;
"""


@pytest.mark.parametrize("command", ("again", "abort"))
def test_login_trigger_that_writes(command, own_cluster, pgcrane):
    """As in PostgreSQL's manual: nobody can log in to a database that is read-only, but who makes it writable again has to."""
    cluster = own_cluster("login", major=18)
    source, dest = cluster.createdb(), cluster.createdb()
    source.sql(LOGIN)
    following = make(pgcrane, source, dest).start(env=failpoint("promote.after_proof:kill:1"))
    following.wait_caught_up()
    following.promote(check=False)
    assert following.end() == 2
    with pytest.raises(psycopg.OperationalError):
        source.connect()
    if command == "abort":
        following.abort()
    else:
        following.again()
        following.wait_caught_up()
    assert_writable(source)


# --- a destination that is read-only ---


def test_frozen_source_is_told(source_db, dest_db, pgcrane):
    """The setting moves; the application would find out."""
    source_db.sql(f"{SCHEMA}; ALTER DATABASE {source_db.name} SET default_transaction_read_only = on")
    report = assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS))
    (note,) = (note for note in report["notes"] if "read-only by default" in note)
    assert is_read_only(dest_db)
    found = finding(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--dry-run"), "DESTINATION_READ_ONLY")
    for statement in (note[note.index("BEGIN READ WRITE"):], found["fix"]):
        dest_db.sql(f"BEGIN READ WRITE; ALTER DATABASE {dest_db.name} SET default_transaction_read_only = on; COMMIT")
        dest_db.sql(statement)
        assert not is_read_only(dest_db)
        assert_writable(dest_db)


# --- two migrations of one source ---


def test_two_fences(source_db, dest_db, dest, pgcrane, tmp_path):
    """What one sets back, the other would take for what was there before: the source would stay read-only."""
    second_db, second = dest.createdb(), Program(tmp_path / "second")
    try:
        first = make(pgcrane, source_db, dest_db).start(env=failpoint("promote.after_lock:sleep=15000:1,promote.after_proof:error:1"))
        first.wait_caught_up()
        other = again(second, source_db, second_db).start()
        other.wait_caught_up()
        one = pgcrane.popen("promote", "--state-dir", pgcrane.state_dir)
        wait_until(lambda: is_read_only(source_db), what="the first one's fence")
        refused = other.promote(check=False)
        assert refused.code == 2 and "another migration of this source" in refused.stdout, refused
        one.communicate(timeout=60)
        assert one.returncode == 2 and not is_read_only(source_db)
        other.promote()
    finally:
        second.end_all()
        second_db.drop()


def test_a_fence_that_was_interrupted(source_db, dest_db, dest, pgcrane, tmp_path):
    """The other one's would be taken for what was there, and set back when the destination of this one is open."""
    second_db, second = dest.createdb(), Program(tmp_path / "second")
    try:
        first = make(pgcrane, source_db, dest_db).start(env=failpoint("promote.after_fence_setting:kill"))
        first.wait_caught_up()
        other = again(second, source_db, second_db).start()
        other.wait_caught_up()
        assert first.promote(check=False).code == 2 and first.end() == 2 and is_read_only(source_db)
        refused = other.promote(check=False)
        assert refused.code == 2 and "interrupted promote of another migration" in refused.stdout, refused
        assert re.search("pgcrane abort ([0-9a-f]{16})", refused.stdout).group(1) in str(first.status()[0])
        first.abort()
        assert not is_read_only(source_db)
        other.promote()
    finally:
        second.end_all()
        second_db.drop()
