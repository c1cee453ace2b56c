"""`pgcrane abort` that cannot know all, or cannot end a process: what it says, what it leaves, how it goes on."""
import os
import re
import signal
import time

import pytest

from support.cluster import wait_until
from support.promote import is_read_only
from support.trouble import assert_writable, failpoint, make

pytestmark = pytest.mark.turns(2)
LEFT = ("SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() UNION ALL SELECT pubname::text"
        " FROM pg_publication UNION ALL SELECT evtname::text FROM pg_event_trigger UNION ALL SELECT nspname::text"
        " FROM pg_namespace WHERE nspname ~ '^pgcrane'")


@pytest.fixture
def following(source_db, dest_db, pgcrane):
    return make(pgcrane, source_db, dest_db, "--ddl", "--identity-full")


def drop_ledger(following):
    following.dest.sql("DROP SCHEMA pgcrane CASCADE")


def test_abort_without_a_ledger(following):
    """A promote was killed in the fence, then somebody dropped the ledger: what only that knew is named, not forgotten."""
    source = following.source
    following.start(env=failpoint("promote.after_fence_setting:kill"))
    following.wait_caught_up()
    assert following.command("promote", check=False).code == 2 and following.end() == 2
    drop_ledger(following)
    result = following.abort()
    assert "everything" not in result.stderr and "has no ledger of it" in result.stderr, result
    assert source.sql(LEFT) == []
    statements = re.findall(r"if so: (.*)", result.stderr)
    assert len(statements) >= 2 and any("ALTER DATABASE" in text for text in statements), result
    assert following.status()[0]["state"] == "STOPPED" and "was left on the source" in following.status()[0]["error"]["message"]
    again = following.abort("--source-only")
    assert re.findall(r"if so: (.*)", again.stderr) == statements, again
    for statement in reversed(statements):
        source.sql(statement)
    assert not is_read_only(source)
    assert_writable(source)
    assert "was left as it is" not in following.abort("--source-only").stderr
    assert "There is no migration" in following.command("status").stdout
    assert following.dest.sql("SELECT to_regnamespace('pgcrane')") == [(None,)]


def test_abort_without_a_ledger_of_one_that_is_clean(source_db, dest_db, pgcrane):
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    following.stop()
    drop_ledger(following)
    following.abort()
    assert source_db.sql(LEFT) == [] and "There is no migration" in following.command("status").stdout


def test_abort_of_a_destination_made_anew(following):
    """Another database of the same name is another migration: the way that is left is named."""
    following.start()
    following.wait_caught_up()
    following.stop()
    dest = following.dest
    dest.cluster.sql(f'DROP DATABASE "{dest.name}" WITH (FORCE)' if dest.cluster.major >= 13 else f'DROP DATABASE "{dest.name}"')
    dest.cluster.sql(f'CREATE DATABASE "{dest.name}"')
    result = following.abort(check=False)
    assert result.code == 2 and "pgcrane abort --source-only" in result.stderr, result
    following.abort("--source-only")
    assert following.source.sql(LEFT) == []


def test_ledger_dropped_while_following(following):
    following.start()
    following.wait_caught_up()
    drop_ledger(following)
    following.source.sql("UPDATE item SET n = n + 1")
    assert following.end() == 2
    failure = following.failure()
    assert failure["reason"] == "LEDGER_MISMATCH" and "ledger" in failure["message"], failure
    assert "pgcrane abort" in failure["remedy"]
    following.abort()
    assert following.source.sql(LEFT) == []


def test_abort_with_a_walsender_that_does_not_end(following):
    """Waited for once; its process id is in the remedy. When it has gone, the same command removes the rest."""
    following.start()
    following.wait_caught_up()
    pid = following.source.sql("SELECT active_pid FROM pg_replication_slots WHERE database = current_database()")[0][0]
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        result = following.abort(check=False, timeout=200)
        took = time.monotonic() - begun
    finally:
        os.kill(pid, signal.SIGCONT)
    assert result.code == 2 and f"process {pid} of the source" in result.stderr and took < 100, (took, result)
    wait_until(lambda: not following.source.sql("SELECT 1 FROM pg_replication_slots WHERE active AND database = current_database()"),
               what="the walsender to end")
    following.abort()
    assert following.source.sql(LEFT) == []
