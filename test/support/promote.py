"""Driving test/support/promote_probe.c."""
import contextlib
import os
import re
import threading

import pytest

from support.cluster import wait_until
from support.program import Program, find_program
from support.seam import Run

JOB = "promotetest"
MAJORS = (13, 15, 17, 18)
KILLED = -9
SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE TABLE keyless (v int);
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, v int);
CREATE SEQUENCE numbers;
"""


class Promotion(Run):
    """A probe that follows source into dest, and promotes when told to."""

    def __init__(self, program, source, dest, *options, env=None, user=None):
        self.source, self.dest = source, dest
        uri = source.uri_as(user) if user else source.uri
        super().__init__(program.popen(uri, dest.uri, JOB, *options, env=env, stdin=-1))
        self.logged = []
        self.log_reader = threading.Thread(target=lambda: self.logged.extend(self.process.stderr))
        self.log_reader.start()

    def wait_ready(self):
        wait_until(lambda: self.values("ready") or self.has_ended(), what="the probe to follow")
        assert self.values("ready"), self.lines
        return self

    def at_failpoint(self):
        """It sleeps there, or has."""
        return any("fail point" in line for line in list(self.logged))

    def end(self, timeout=60):
        code = self.process.wait(timeout)
        self.reader.join()
        self.log_reader.join()
        assert not any("Sanitizer" in line for line in self.logged), "".join(self.logged)
        return code

    def tell(self, word="go"):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def answers(self):
        return [line for line in list(self.lines) if "opened" in line or "reason" in line]

    def promote(self, timeout=60):
        """How the promote ended: a result, or an error."""
        before = len(self.answers())
        self.tell()
        wait_until(lambda: len(self.answers()) > before or self.has_ended(), timeout, "the promote to end")
        assert len(self.answers()) > before, self.lines
        return self.answers()[-1]

    def opens(self):
        answer = self.promote()
        assert answer.get("opened"), answer
        return answer

    def fails(self, reason):
        answer = self.promote()
        assert answer.get("reason") == reason, answer
        return answer["error"]

    def close(self):
        if not self.has_ended():
            self.process.stdin.close()
        return self.end()


class Promoter:
    """Makes Promotions between two databases that have the same tables."""

    def __init__(self, folder, source, dest):
        path = os.path.join(os.path.dirname(find_program()), "promote_probe")
        self.program = Program(folder, path)
        os.makedirs(folder, exist_ok=True)  # where it keeps its hooks
        self.source, self.dest = source, dest
        for database in (source, dest):
            database.sql(SCHEMA)

    def both(self, sql):
        for database in (self.source, self.dest):
            database.sql(sql)

    def start(self, *options, **more):
        return Promotion(self.program, self.source, self.dest, *options, **more)

    def follow(self, *options, **more):
        return self.start(*options, **more).wait_ready()

    def undo(self):
        """What a run after a crash does first."""
        run = self.start("undo-only=yes")
        assert run.end() == 0, run.lines
        return run.values("undone")[0]


def is_read_only(database):
    """Asked from another database: sessions of this one are ended, by the fence and when it is undone."""
    return database.cluster.sql("SELECT 1 FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
                                " WHERE d.datname = %s AND s.setrole = 0"
                                " AND 'default_transaction_read_only=on' = ANY (s.setconfig)", (database.name,)) != []


def wait_for_setting(promoter):
    """Asked from another database: sessions of this one are ended."""
    wait_until(lambda: promoter.source.cluster.sql(
        "SELECT 1 FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE d.datname = %s AND 'default_transaction_read_only=on' = ANY (s.setconfig)", (promoter.source.name,)),
        what="the setting")


def has_locks(database):
    return database.cluster.sql(
        "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = %s"
        " AND l.mode = 'ExclusiveLock' AND l.locktype = 'relation' AND l.granted", (database.name,))


def wait_for_locks(promoter):
    wait_until(lambda: has_locks(promoter.source), what="the locks")


def fence_lines(database):
    """What they set back to; before it stands since when, by the source's clock."""
    lines = database.sql("SELECT name FROM pgcrane.source_object WHERE kind = 'fence'")
    return [(re.sub(r"^since \d{4}-\d\d-\d\d \d\d:\d\d:[^;]+; ", "", line),) for (line,) in lines]


def is_opened(database):
    return bool(database.sql("SELECT 1 FROM pgcrane.step WHERE name = 'opened'"))


def is_proven(database):
    return bool(database.sql("SELECT 1 FROM pgcrane.step WHERE name = 'proven'"))


def assert_as_before(promoter):
    """The source is writable, no lock of ours is left, the journal is clean, the destination is not open."""
    assert not is_read_only(promoter.source)
    promoter.source.sql("SET lock_timeout = '5s'; INSERT INTO t VALUES (777777, 'after'); DELETE FROM t WHERE id = 777777")
    assert not fence_lines(promoter.dest)
    assert not is_opened(promoter.dest)


def rows(database, table="t"):
    return database.sql(f"SELECT * FROM {table} ORDER BY 1")


def objects(database):
    return database.sql("SELECT oid::text, lo_get(oid) FROM pg_largeobject_metadata ORDER BY oid")


def make_mover(promoter):
    """A role that may follow: it owns the tables, and may replicate."""
    cluster = promoter.source.cluster
    if not cluster.sql("SELECT 1 FROM pg_roles WHERE rolname = 'mover'"):
        cluster.sql("CREATE ROLE mover LOGIN REPLICATION; CREATE ROLE stranger LOGIN")
    if not promoter.dest.cluster.sql("SELECT 1 FROM pg_roles WHERE rolname = 'mover'"):
        promoter.dest.cluster.sql("CREATE ROLE mover")  # what it owns can be made there
    promoter.source.sql("GRANT CREATE ON DATABASE " + promoter.source.name + " TO mover;"
                        " ALTER TABLE t OWNER TO mover; ALTER TABLE keyless OWNER TO mover;"
                        " ALTER TABLE unlogged OWNER TO mover; ALTER SEQUENCE numbers OWNER TO mover")


# --- fixtures ---


@pytest.fixture(scope="module")
def source_of(make_cluster):
    made = {}

    def get(major):
        if major not in made:
            made[major] = make_cluster(f"promote{major}", major=major, config={"shared_buffers": "16MB"})
        return made[major]
    return get


@pytest.fixture
def make_promoter(dest_db, tmp_path):
    with contextlib.ExitStack() as stack:
        def make(cluster, into=dest_db, options=""):
            database = cluster.createdb(options=options)
            stack.callback(database.drop)
            promoter = Promoter(tmp_path / "promote", database, into)
            stack.callback(promoter.program.end_all)
            return promoter

        yield make


@pytest.fixture
def promoter(make_promoter, source_of):
    return make_promoter(source_of(15))


@pytest.fixture(params=MAJORS)
def any_promoter(request, make_promoter, source_of):
    return make_promoter(source_of(request.param))
