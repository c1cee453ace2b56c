"""Following on real servers, driven step by step through test/support/follow_probe.c: nothing is lost, nothing comes
twice, whatever dies in between."""
import contextlib
import os

import pytest

from support.cluster import wait_until
from support.compare import Side, data_differing
from support.program import Program, find_program
from support.seam import JOB, KILLED, SLOT, Probe, find_probe, lsn
from support.tcp_proxy import Proxy

MAJORS = (13, 15, 17, 18)
SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, v text, n int DEFAULT 0);
CREATE TABLE u (id bigint PRIMARY KEY, v text);
CREATE TABLE keyless (v text);
"""


class Following:
    """A source with a seam, an empty copy of it, and the program that follows between them."""

    def __init__(self, program, seam):
        self.program, self.seam = program, seam
        self.source, self.dest = seam.source, seam.dest

    def prepare(self, schema=SCHEMA):
        self.source.sql(schema)
        self.dest.sql(schema)
        self.l0 = self.seam("publish", "slot").values("l0")[0]
        self.transactions = 0

    def write(self, *statements):
        """Each is a transaction that changes a followed table."""
        with self.source.connect() as conn:
            for statement in statements:
                conn.execute(statement)
        self.transactions += len(statements)

    def probe(self, source_uri=None, dest_uri=None):
        made = Probe(self.program, self.source, self.dest)
        if source_uri or dest_uri:
            made.source = Uri(source_uri or self.source.uri)
            made.dest = Uri(dest_uri or self.dest.uri)
        return made

    def __call__(self, *steps, env=None, code=0, probe=None):
        return (probe or self.probe())(f"position={self.l0}", "tables", *steps, env=env, code=code)

    def start(self, *steps, probe=None, **options):
        return (probe or self.probe()).start(f"position={self.l0}", "tables", *steps, **options)

    def drain(self, *steps):
        run = self("start", "wait-now", "status", *steps)
        self.assert_same()
        return run.values("status")[0]

    def assert_same(self):
        sides = [Side(database.uri, ("pgcrane",)) for database in (self.source, self.dest)]
        problems = data_differing(*sides)
        for side in sides:
            side.conn.close()
        assert not problems, "\n".join(problems)
        assert self.position()[1] == self.transactions

    def position(self):
        return self.dest.sql("SELECT lsn::text, transactions FROM pgcrane.position")[0]

    def confirmed(self):
        return self.source.sql("SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
                               " WHERE database = current_database()")[0][0]


class Uri:
    def __init__(self, uri):
        self.uri = uri


@pytest.fixture(scope="module")
def source_of(make_cluster):
    made = {}

    def get(major):
        if major not in made:
            made[major] = make_cluster(f"follow{major}", major=major, config={"shared_buffers": "16MB"})
        return made[major]
    return get


@pytest.fixture
def make_following(tmp_path):
    with contextlib.ExitStack() as stack:
        folder = os.path.dirname(find_program())
        seam_program = find_probe(tmp_path)
        program = Program(tmp_path / "follow", os.path.join(folder, "follow_probe"))

        def make(source, dest, schema=SCHEMA):
            databases = [cluster.createdb() for cluster in (source, dest)]
            for database in databases:
                stack.callback(database.drop)
            following = Following(program, Probe(seam_program, *databases))
            following.prepare(schema)
            return following

        yield make
        program.end_all()
        seam_program.end_all()


@pytest.fixture
def following(make_following, source_of, dest):
    return make_following(source_of(15), dest)


@pytest.fixture(params=MAJORS)
def any_following(request, make_following, source_of, dest):
    return make_following(source_of(request.param), dest)


MIXED = (
    "INSERT INTO t SELECT i, 'one ' || i FROM generate_series(1, 500) i",
    "UPDATE t SET v = 'two ' || id WHERE id % 3 = 0",
    "DELETE FROM t WHERE id % 7 = 0",
    "INSERT INTO u SELECT i, repeat('x', 3000) FROM generate_series(1, 50) i",
    "INSERT INTO keyless SELECT 'same' FROM generate_series(1, 20)",
    "UPDATE t SET id = id + 10000 WHERE id < 100",
    "UPDATE u SET id = id + 100 WHERE id % 2 = 0",
)


def test_everything_arrives(any_following):
    any_following.write(*MIXED)
    status = any_following.drain()
    assert status["inserts"] > 0 and status["replica"]
    assert status["last_change"] <= status["applied"]
    assert status["skipped"] == status["ignored"] == 0
