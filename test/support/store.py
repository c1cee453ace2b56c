"""Driving test/support/store_probe.c: one process that has a store open, and a store to open."""
import json
import os
import sqlite3
import threading

import pytest

from support.program import Program, find_program

PARENT = "projects/p/locations/l"


class StoreError(Exception):
    def __init__(self, answer):
        super().__init__(f"{answer['reason']}: {answer['error']}")
        self.reason, self.message, self.retryable = answer["reason"], answer["error"], answer["retryable"]
        self.remedy = answer["remedy"]


def checked(answer):
    if "error" in answer:
        raise StoreError(answer)
    return answer


class Probe:
    """A daemon, as far as the store can tell. For one thread at a time."""

    def __init__(self, process):
        self.process = process
        self.opened = None

    def wait_open(self):
        self.opened = self.opened or checked(self.read())
        return self

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(f"the probe has ended: {self.process.wait()} {self.process.stderr.read()}")
        return json.loads(line)

    def send(self, command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def command(self, **command):
        self.send(command)
        return checked(self.read())

    def do(self, *ops, read=False):
        """One transaction; the results of its ops."""
        return self.command(do=ops, read=read)["results"]

    def one(self, op, read=False, **arguments):
        return self.do(dict(arguments, op=op), read=read)[0]

    def fails(self, reason, op, **arguments):
        with pytest.raises(StoreError) as caught:
            self.one(op, **arguments)
        assert caught.value.reason == reason, caught.value
        return caught.value

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        said = self.process.stderr.read()
        assert "Sanitizer" not in said, said


class StorePlace:
    """A store that probes can open: backend "sqlite" or "postgresql"."""

    def __init__(self, program, backend, where, database=None):
        self.program, self.backend, self.where, self.database = program, backend, where, database

    def start(self, env=None, where=None, patience_ms=20000):
        return Probe(self.program.popen(self.backend, where or self.where, str(patience_ms), env=env, stdin=-1))

    def open(self, **options):
        return self.start(**options).wait_open()

    def killed_at(self, point, *ops):
        """Opens a probe that dies at a fail point while it does that."""
        probe = self.open(env={"PGCRANE_FAILPOINT": f"{point}:kill"})
        with pytest.raises(EOFError):
            probe.do(*ops)
        assert probe.process.wait() == -9

    def sql(self, text):
        """Behind the store's back."""
        if self.database:
            return self.database.sql("SET search_path = pgcrane_store; " + text)
        connection = sqlite3.connect(self.where, timeout=20)
        try:
            with connection:
                return connection.execute(text).fetchall()
        finally:
            connection.close()


def in_threads(functions):
    """Runs them at once; the first exception of any is raised."""
    failures = []

    def guarded(function):
        try:
            function()
        except BaseException as failure:  # pylint: disable=broad-except
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def probe_program(tmp_path):
    return Program(tmp_path / "probe", os.path.join(os.path.dirname(find_program()), "store_probe"))


# --- fixtures ---


@pytest.fixture(scope="module")
def store_server(make_cluster):
    """One server of each major, made when first asked for."""
    made = {}

    def get(major):
        if major not in made:
            made[major] = make_cluster(f"store{major}", major=major, config={"shared_buffers": "16MB"})
        return made[major]
    return get


@pytest.fixture
def make_place(store_server, tmp_path):
    program = probe_program(tmp_path)
    databases = []

    def make(backend):
        if backend == "sqlite":
            return StorePlace(program, "sqlite", str(tmp_path / "store.db"))
        databases.append(store_server(int(backend)).createdb())
        return StorePlace(program, "postgresql", databases[-1].uri, databases[-1])

    yield make
    program.end_all()
    for database in databases:
        database.drop()


@pytest.fixture(params=["sqlite", "13", "15", "18"])
def place(request, make_place):
    return make_place(request.param)


@pytest.fixture
def store(place):
    return place.open()
