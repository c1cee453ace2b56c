"""Small databases under a small application, for tests of what goes wrong while a migration is followed or promoted."""
import contextlib
import subprocess
import threading
import time

import psycopg

from support import compare
from support.cluster import Cluster, find_binaries, newest_client, version_of, wait_until
from support.following import Following

SCHEMA = """
CREATE TABLE item (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);
CREATE TABLE part (id serial PRIMARY KEY, item int NOT NULL REFERENCES item, v text);
CREATE TABLE keyless (v int);
CREATE INDEX item_v ON item (v);
INSERT INTO item SELECT g, 'item ' || g FROM generate_series(1, 500) g;
INSERT INTO part (item, v) SELECT 1 + g % 500, 'part ' || g FROM generate_series(1, 500) g;
INSERT INTO keyless SELECT g FROM generate_series(1, 20) g;
"""
EXCEPT_SETTINGS = "settings of the database"  # what a fence has set on the source stays there


def failpoint(text):
    return {"PGCRANE_FAILPOINT": text}


class Writer:
    """An application that writes to a database all the time, and connects again when it has lost it."""

    def __init__(self, database, pause_s=0.01):
        self.database, self.pause_s = database, pause_s
        self.stopping = threading.Event()
        self.committed = 0
        self.refused = 0  # by a read-only or an absent server
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.stopping.is_set() and self.error is None:
            with contextlib.suppress(psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction):
                self._write()
            self.refused += 1
            time.sleep(0.02)

    def _write(self):
        with contextlib.closing(self.database.connect(autocommit=False)) as conn:
            turn = 0
            while not self.stopping.wait(self.pause_s):
                turn += 1
                try:
                    conn.execute("UPDATE item SET n = n + 1, v = 'written ' || n WHERE id = %s", (1 + turn % 500,))
                    conn.execute("INSERT INTO part (item, v) VALUES (%s, 'new')", (1 + turn * 7 % 500,))
                    conn.execute("DELETE FROM part WHERE id = %s", (1 + turn % 500,))
                    conn.commit()
                except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction):
                    raise
                except psycopg.Error as error:
                    self.error = error
                    return
                self.committed += 1

    def wait_for(self, count, timeout=30):
        """So many more commits."""
        goal = self.committed + count
        wait_until(lambda: self.committed >= goal or self.error, timeout, f"{count} commits of the application")
        assert self.error is None, self.error

    def stop(self):
        self.stopping.set()
        self.thread.join(30)
        assert self.error is None, self.error

    def __enter__(self):
        self.thread.start()
        self.wait_for(3)
        return self

    def __exit__(self, *_):
        self.stop()


def rows_and_sequences(source, dest):
    with contextlib.ExitStack() as stack:
        sides = [compare.Side(database.uri, ()) for database in (source, dest)]
        for side in sides:
            stack.callback(side.conn.close)
        return compare.data_differing(*sides) + compare.maps_differing("sequence", *(side.sequences() for side in sides))


def differences(source, dest):
    """Of everything; without the text of definitions for servers that are newer than the pg_dump of this machine."""
    if max(source.cluster.major, dest.cluster.major) > version_of(newest_client("pg_dump")):
        return rows_and_sequences(source, dest)
    return [text for text in compare.differences(source.uri, dest.uri) if not text.startswith(EXCEPT_SETTINGS)]


def assert_equal(source, dest):
    problems = differences(source, dest)
    assert not problems, "\n".join(problems[:30])


def assert_promoted(following, *flags):
    """It follows still, or again: promoted, it is equal, and nothing of ours is left on the source."""
    following.wait_caught_up()
    promoted = following.promoted(following.promote(*flags))
    assert promoted["ok"] and promoted["opened"] and promoted["proven"], promoted
    assert_equal(following.source, following.dest)
    assert_source_clean(following)


def assert_source_clean(following):
    source = following.source
    assert source.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []
    assert source.sql("SELECT pubname FROM pg_publication") == []
    assert source.sql("SELECT evtname FROM pg_event_trigger") == []
    wait_until(lambda: not following.program.processes(), what="our processes to end")


def assert_writable(database):
    """At once: no lock, no setting of ours is in the way."""
    database.sql("SET lock_timeout = '5s'; UPDATE item SET n = n + 1 WHERE id = 1;"
                 " INSERT INTO part (item, v) VALUES (1, 'writable')")


def slots_of(database):
    return database.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")


def make_standby(primary, made, config=None):
    """A streaming standby on a port of its own."""
    standby = Cluster(f"standby{primary.major}", major=primary.major, config=config)
    made.callback(standby.remove)
    subprocess.run(["rm", "-rf", standby.data], check=True)
    standby._run("pg_basebackup", "-D", standby.data, "-h", primary.folder, "-p", str(primary.port), "-U", "postgres",
                 "-X", "stream", "-R", "-c", "fast")
    standby.configure({"port": standby.port, "unix_socket_directories": standby.folder})
    with contextlib.suppress(psycopg.errors.ReadOnlySqlTransaction):
        standby.start()  # it is up when the harness fails to set its password there
    return standby


def cut_off(primary, standby):
    """The standby hears no more of the primary."""
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''")  # stronger than postgresql.conf: -R wrote it there
    standby.reload()
    wait_until(lambda: not primary.sql("SELECT 1 FROM pg_stat_replication WHERE application_name = 'walreceiver'"),
               what="the standby to let go")


def wait_for_replay(primary, standby):
    end = primary.sql("SELECT pg_current_wal_insert_lsn()::text")[0][0]
    wait_until(lambda: standby.sql("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (end,))[0][0],
               what="the standby to catch up")


def promote_standby(standby):
    standby.sql("SELECT pg_promote()")
    wait_until(lambda: not standby.sql("SELECT pg_is_in_recovery()")[0][0], what="the promotion")


def make(program, source, dest, *flags, **uris):
    """A small database, and the command that is to move it."""
    source.sql(SCHEMA)
    return again(program, source, dest, *flags, **uris)


def again(program, source, dest, *flags, **uris):
    clients = find_binaries(max(source.cluster.major, dest.cluster.major))
    return Following(program, source, dest, "--pg-bindir", clients, *flags, **uris)
