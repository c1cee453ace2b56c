"""Driving test/support/seam_probe.c, and looking at what the seam left on the source."""
import contextlib
import json
import os
import threading

import pytest

from support.program import Program, find_program

JOB = "seamtest"
SLOT, ALL, KEYS = "pgcrane_seamtest", "pgcrane_seamtest_all", "pgcrane_seamtest_keys"
MAJORS = (13, 15, 17, 18)
KILLED = -9


class Run:
    """A probe that was started; lines appear as it goes."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def values(self, key):
        return [line[key] for line in list(self.lines) if key in line]

    def saw(self, key, value):
        return any(value in found for found in self.values(key))

    def has_ended(self):
        return self.process.poll() is not None

    def end(self, timeout=60):
        """Waits for it; its exit code."""
        code = self.process.wait(timeout)
        self.reader.join()
        self.stderr = self.process.stderr.read()
        assert "Sanitizer" not in self.stderr, self.stderr
        return code

    def kill(self):
        self.process.kill()
        return self.end()


class Probe:
    """seam_probe between two databases: probe("publish", "slot") runs steps, probe.start(...) only starts them."""

    def __init__(self, program, source, dest):
        self.program, self.source, self.dest = program, source, dest

    def start(self, *steps, env=None, **options):
        return Run(self.program.popen(self.source.uri, self.dest.uri, JOB, *steps, env=env, **options))

    def __call__(self, *steps, env=None, code=0):
        run = self.start(*steps, env=env)
        ended = run.end()
        assert ended == code, f"exit code {ended}\n{run.lines}\n{run.stderr}"
        return run

    def fails(self, *steps, reason, env=None):
        run = self(*steps, env=env, code=1)
        assert run.values("reason") == [reason], run.lines
        return run.values("error")[0]

    def killed_at(self, point, *steps):
        return self(*steps, env={"PGCRANE_FAILPOINT": f"{point}:kill"}, code=KILLED)


def find_probe(tmp_path):
    """The program, with a folder of its own."""
    return Program(tmp_path / "probe", os.path.join(os.path.dirname(find_program()), "seam_probe"))


# --- fixtures: imported by the modules that want them ---


@pytest.fixture(scope="module")
def source_of(make_cluster):
    """One source server of each major, made when first asked for."""
    made = {}

    def get(major):
        if major not in made:
            made[major] = make_cluster(f"seam{major}", major=major, config={"shared_buffers": "16MB"})
        return made[major]
    return get


@pytest.fixture
def make_probe(dest_db, tmp_path):
    with contextlib.ExitStack() as stack:
        program = find_probe(tmp_path)

        def make(cluster):
            database = cluster.createdb()
            stack.callback(database.drop)
            return Probe(program, database, dest_db)

        yield make
        program.end_all()


@pytest.fixture
def probe(make_probe, source_of):
    return make_probe(source_of(15))


@pytest.fixture(params=MAJORS)
def any_probe(request, make_probe, source_of):
    return make_probe(source_of(request.param))


# --- what is there ---


def slots(database):
    return database.sql("SELECT slot_name, plugin, confirmed_flush_lsn::text FROM pg_replication_slots"
                        " WHERE database = current_database() ORDER BY 1")


def publications(database):
    return {row[0]: row[1:] for row in database.sql(
        "SELECT pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_publication")}


def published(database, name):
    return {row[0] for row in database.sql(
        "SELECT r.prrelid::regclass::text FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid"
        " WHERE p.pubname = %s", (name,))}


def journal(probe):
    return set(probe.dest.sql("SELECT kind, name, made FROM pgcrane.source_object"))


def assert_nothing_left(probe):
    assert not slots(probe.source)
    assert not probe.source.sql("SELECT pubname FROM pg_publication")
    assert not journal(probe)
    assert not probe.dest.sql("SELECT 1 FROM pgcrane.stream")


def lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def stream(database, upto=None):
    """(first byte, message) of what the slot delivers now."""
    major = database.cluster.major
    messages = ", 'messages', 'true'" if major >= 14 else ""
    return [(bytes(data)[:1].decode(), bytes(data)) for (data,) in database.sql(
        f"SELECT data FROM pg_logical_slot_peek_binary_changes('{SLOT}', %s, NULL, 'proto_version', '1',"
        f" 'publication_names', '{ALL},{KEYS}'{messages})", (upto,))]


def count(database, kind, upto=None):
    return sum(1 for found, _ in stream(database, upto) if found == kind)
