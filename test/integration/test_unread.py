"""Standard output that nobody reads for a while: a pager, a terminal stopped by Ctrl-S. The migration does not wait for it."""
import fcntl
import json
import threading
import time

import psycopg
import pytest

from support.cluster import is_alive, proc_stat, wait_until
from support.following import Following

pytestmark = pytest.mark.turns(2)

PIPE_SIZE = 4096
FULL = 25  # seconds until the pipe and the socket behind it hold no further picture

SCHEMA = """CREATE TABLE one (id int PRIMARY KEY, v int); CREATE TABLE two (id int PRIMARY KEY, v int);
CREATE TABLE three (id int PRIMARY KEY, v int);
INSERT INTO one SELECT g, 0 FROM generate_series(1, 100) g; INSERT INTO two TABLE one; INSERT INTO three TABLE one"""


class Unread(Following):
    """`reading` is to be cleared for a pause."""

    def start(self, env=None):
        self.reading = threading.Event()
        self.reading.set()
        self.process = self.program.popen("migrate", *self.uris, *self.flags, env=env)
        fcntl.fcntl(self.process.stdout, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        return self

    def _read(self):
        while self.reading.wait() and (line := self.process.stdout.readline()):
            self.lines.append(json.loads(line))

    def pause(self):
        self.reading.clear()
        time.sleep(FULL)


def make(pgcrane, source, dest):
    source.sql(SCHEMA)
    following = Unread(pgcrane, source, dest).start()
    following.wait_caught_up()
    return following


def updates(source, table):
    """The application's. While the table is in the publication of updates, the server refuses it."""
    try:
        source.sql(f"UPDATE {table} SET v = v + 1")
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return False
    return True


def test_a_pause(source_db, dest_db, pgcrane):
    """Tables that lose their keys leave the publication as fast as ever, changes are applied, and when it is read again it has
    lost no event."""
    following = make(pgcrane, source_db, dest_db)
    following.pause()
    lines = len(following.lines)
    for table in ("one", "two"):
        source_db.sql(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
        wait_until(lambda: updates(source_db, table), 20, f"{table} to leave the publication")
    source_db.sql("UPDATE three SET v = 7")
    following.wait_applied(timeout=30)
    assert dest_db.sql("SELECT count(*) FROM three WHERE v = 7") == [(100,)]
    assert len(following.lines) <= lines + 1
    following.reading.set()

    def told(table):
        return any(f"table public.{table}: it lost" in body["text"] for body in following.bodies("EVENT"))
    wait_until(lambda: told("one") and told("two"), 30, f"the events: {following.bodies('EVENT')}")
    dest_db.sql("ALTER TABLE one DROP CONSTRAINT IF EXISTS one_pkey; ALTER TABLE two DROP CONSTRAINT IF EXISTS two_pkey")
    following.wait_caught_up()
    promoted = following.promoted(following.promote())
    assert promoted["proven"], promoted
    assert dest_db.sql("SELECT DISTINCT v FROM one") == dest_db.sql("SELECT DISTINCT v FROM two") == [(1,)]


def test_sigterm_in_a_pause(source_db, dest_db, pgcrane):
    """The worker ends, with all of its connections."""
    following = make(pgcrane, source_db, dest_db)
    following.pause()
    worker, = following.pids("worker")
    born = proc_stat(worker)[19]
    assert following.kill("worker", 15)
    wait_until(lambda: not source_db.sql("SELECT 1 FROM pg_replication_slots WHERE active"), 20, "the stream to end")
    wait_until(lambda: not is_alive((worker, born)), 20, "the worker to end")
    following.reading.set()
    assert following.end(30) != 0
    again = Following(pgcrane, source_db, dest_db).start()
    again.wait_caught_up()
    assert again.promoted(again.promote())["proven"]
