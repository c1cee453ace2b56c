"""A promote that is undone gives the application its source back: all its sessions, and at once."""
import contextlib
import time

import psycopg
import pytest

from support.cluster import quote_ident, wait_until
from support.promote import is_read_only
from support.promote_command import has_locks
from support.trouble import SCHEMA, again, assert_promoted, assert_source_clean, assert_writable, failpoint, make

pytestmark = pytest.mark.turns(2)

HELD = "promote.after_compare:sleep=5000:1"


def begin(following):
    """`pgcrane promote --json`, when writes are stopped."""
    command = following.program.popen("promote", "--json", "--state-dir", following.program.state_dir)
    wait_until(lambda: has_locks(following.source), 60, "the locks")
    return command


@contextlib.contextmanager
def pool(database, *users):
    """Sessions that log in now, and find the database read-only."""
    with contextlib.ExitStack() as stack:
        sessions = []
        for user in users:
            sessions.append(psycopg.connect(database.uri_as(user) if user else database.uri, autocommit=True))
            stack.callback(sessions[-1].close)
            assert sessions[-1].execute("SHOW default_transaction_read_only").fetchone() == ("on",)
        yield sessions


def is_usable(session):
    """As a pool uses it: only one that is broken is made anew."""
    try:
        session.execute("UPDATE item SET n = n + 1 WHERE id = 2")
    except psycopg.errors.ReadOnlySqlTransaction:
        return False
    except psycopg.OperationalError:
        return True
    return True


def test_sessions_of_the_time_without_writes(source_db, dest_db, pgcrane):
    """They read the setting when they logged in, and would keep it."""
    following = make(pgcrane, source_db, dest_db).start(env=failpoint(f"{HELD},promote.after_proof:error:1"))
    following.wait_caught_up()
    command = begin(following)
    with pool(source_db, None, None, None) as sessions:
        command.communicate(timeout=60)
        assert command.returncode == 2
        assert all(is_usable(session) for session in sessions)
    assert_writable(source_db)
    with contextlib.closing(source_db.connect()) as session:  # nobody is ended who began behind the RESET
        session.execute("UPDATE item SET n = n + 1 WHERE id = 3")
        time.sleep(1)
        session.execute("UPDATE item SET n = n + 1 WHERE id = 3")
    assert_promoted(following)


@pytest.mark.parametrize("command", ("again", "abort"))
@pytest.mark.parametrize("point", ("promote.after_proof:kill:1", "promote.after_undo_setting:kill:1"))
def test_sessions_when_the_promote_was_killed(point, command, source_db, dest_db, pgcrane):
    """Since when the setting was on stands in the journal."""
    undone = ",promote.after_proof:error:1" if "undo" in point else ""
    following = make(pgcrane, source_db, dest_db).start(env=failpoint(f"{HELD},{point}{undone}"))
    following.wait_caught_up()
    promoting = begin(following)
    with pool(source_db, None, None) as sessions:
        promoting.communicate(timeout=60)
        following.end()
        if command == "abort":
            following.abort()
            assert_source_clean(following)
        else:
            following.again()
            following.wait_caught_up()
        assert all(is_usable(session) for session in sessions)
    assert_writable(source_db)
    if command == "again":
        assert_promoted(following)


def test_database_with_a_setting_of_its_own(source_db, dest_db, pgcrane):
    """It is set back to that; what a role has of its own stands above it, and stays."""
    source_db.sql(f"ALTER DATABASE {quote_ident(source_db.name)} SET default_transaction_read_only = off")
    following = make(pgcrane, source_db, dest_db).start(env=failpoint(f"{HELD},promote.after_proof:error:1"))
    following.wait_caught_up()
    command = begin(following)
    with pool(source_db, None) as sessions:
        command.communicate(timeout=60)
        assert command.returncode == 2
        assert all(is_usable(session) for session in sessions)
    assert not is_read_only(source_db)
    assert source_db.sql("SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase ="
                         " (SELECT oid FROM pg_database WHERE datname = current_database())") \
        == [("{default_transaction_read_only=off}",)]
    assert_promoted(following)


@pytest.fixture
def moved_by_a_role(own_cluster, pgcrane):
    """The mover owns the source's database, and is no superuser there."""
    source_cluster, dest_cluster = own_cluster("undone"), own_cluster("undone_dest")
    for cluster in (source_cluster, dest_cluster):
        cluster.sql("CREATE ROLE mover LOGIN REPLICATION; CREATE ROLE app LOGIN")
    source_cluster.sql("GRANT pg_monitor, pg_signal_backend TO mover")
    source, dest = source_cluster.createdb(), dest_cluster.createdb()
    for database in (source, dest):
        database.sql(f"ALTER DATABASE {quote_ident(database.name)} OWNER TO mover; ALTER SCHEMA public OWNER TO mover")
    source.sql(SCHEMA, user="mover")
    source.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app")
    return again(pgcrane, source, dest, source_uri=source.uri_as("mover"), dest_uri=dest.uri_as("mover"))


def test_session_that_we_may_not_end(moved_by_a_role):
    """A superuser's: named, with the SQL, and nobody waits for it."""
    following = moved_by_a_role.start(env=failpoint(f"{HELD},promote.after_proof:error:1"))
    following.wait_caught_up()
    command = begin(following)
    with pool(following.source, "app", None) as sessions:
        out, _ = command.communicate(timeout=60)
        assert is_usable(sessions[0]) and not is_usable(sessions[1])
        pid = sessions[1].info.backend_pid
        assert f"WHERE pid IN ({pid})" in out and "which we may not end" in out, out
        assert "PROMOTE_UNDONE" in out
        following.source.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ({pid})")
    assert_writable(following.source)
    assert_promoted(following)


def test_undone_without_a_new_connection(moved_by_a_role):
    """The application takes each place that becomes free: the connections that are there are used."""
    following = moved_by_a_role.start(env=failpoint(f"{HELD},promote.after_proof:error:1"))
    following.wait_caught_up()
    command = begin(following)
    following.source.cluster.sql("ALTER ROLE mover CONNECTION LIMIT 1")
    try:
        wait_until(lambda: not is_read_only(following.source), 60, "the source to be writable")
        out, _ = command.communicate(timeout=60)
    finally:
        following.source.cluster.sql("ALTER ROLE mover CONNECTION LIMIT -1")
    assert command.returncode == 2 and "PROMOTE_UNDONE" in out, out
    assert following.running()
    assert_promoted(following)
