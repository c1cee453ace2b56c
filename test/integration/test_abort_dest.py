"""`pgcrane abort --dest-only`: the source is gone for good, and the destination is all there is."""
import re

import pytest

from support.tcp_proxy import Proxy
from support.trouble import failpoint, make, rows_and_sequences

pytestmark = pytest.mark.turns(2)
KEYS = "SELECT bool_and(convalidated) FROM pg_constraint WHERE contype = 'f'"
LEDGER = "SELECT to_regnamespace('pgcrane') IS NOT NULL"


@pytest.fixture
def lost(source_db, dest_db, pgcrane):
    """A migration; `proxy` is the way to the source. Its role on the destination may not leave foreign keys unchecked, so
    they come with the promote, and are validated behind it."""
    dest_db.cluster.sql("DO $$ BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    dest_db.sql(f"ALTER DATABASE {dest_db.name} OWNER TO plain")
    with Proxy(source_db.cluster) as proxy:
        following = make(pgcrane, source_db, dest_db, "--no-owner", "--no-acl", source_uri=proxy.uri(source_db),
                         dest_uri=dest_db.uri.replace("postgres@", "plain@"))
        following.proxy = proxy
        yield following


def lose_source(following):
    following.proxy.refuse = True
    following.proxy.reset_all()


def refused(following, *args, **options):
    result = following.command("abort", "--yes", *args, check=False, **options)
    assert result.code != 0, result
    return result


def open_and_lose(following, env):
    following.start(env=env)
    following.wait_caught_up()
    following.command("promote", check=False)
    assert following.end() == 2
    lose_source(following)


def test_lost_after_the_destination_was_opened(lost):
    """What a promote leaves for afterwards is done without the source."""
    open_and_lose(lost, failpoint("close.before_remove:kill"))
    assert lost.dest.sql(KEYS) == [(False,)] and lost.dest.sql(LEDGER) == [(True,)]
    assert "--dest-only" in refused(lost).stderr and lost.dest.sql(LEDGER) == [(True,)]
    result = lost.abort("--dest-only")
    assert "the destination had been opened, and is closed now" in result.stderr, result
    assert lost.dest.sql(KEYS) == [(True,)] and lost.dest.sql(LEDGER) == [(False,)]
    assert "There is no migration" in lost.command("status").stdout
    assert rows_and_sequences(lost.source, lost.dest) == []


def test_killed_before_the_ledger_goes(lost):
    """Asked again, it does again what may be done twice."""
    open_and_lose(lost, failpoint("close.before_remove:kill"))
    assert refused(lost, "--dest-only", env=failpoint("abort.before_drop:kill")).code == 2
    assert lost.dest.sql(LEDGER) == [(True,)]
    lost.abort("--dest-only")
    assert lost.dest.sql(KEYS) == [(True,)] and lost.dest.sql(LEDGER) == [(False,)]


def test_lost_before(lost):
    """It says what is there, and what is not; what it names for the source is right."""
    lost.flags += ("--identity-full",)
    lost.start()
    lost.wait_caught_up()
    lost.wait_applied()
    lost.stop()
    position = lost.position()
    lose_source(lost)
    result = lost.abort("--dest-only")
    assert f"committed up to {position}" in result.stderr and "foreign keys" in result.stderr, result
    assert lost.dest.sql(LEDGER) == [(False,)]
    for statement in re.search(r"there: (SELECT .*?); (DROP PUBLICATION .*?);", result.stderr, re.S).groups():
        lost.source.sql(statement)
    lost.source.sql(re.search(r"when its publications are dropped: (.*)", result.stderr).group(1))  # which only the ledger knew
    assert lost.source.sql("SELECT count(*) FROM pg_class WHERE relreplident = 'f'") == [(0,)]
    assert lost.source.sql("SELECT count(*) FROM pg_publication") == [(0,)]
    assert lost.source.sql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == [(0,)]


def test_of_another_database(lost, dest_db):
    lost.start()
    lost.wait_caught_up()
    lost.stop()
    other = dest_db.cluster.createdb("not_the_one")
    result = refused(lost, "--dest-only", env={"PGCRANE_DEST": other.uri})
    assert "has no ledger of migration" in result.stderr and lost.dest.sql(LEDGER) == [(True,)]
    assert refused(lost, "--dest-only", "--source-only").code == 64
    lost.abort()
