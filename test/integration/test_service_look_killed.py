"""Killed in the look at the instance before a promote of a whole job: supervise/instance.c says what the next one sees.

A session of its own compares roles and lists databases before any database's session hears of the promote. Whatever is
killed in it, the promote comes to its end: all databases, all rows, the roles that are new; or to its refusal."""
import os

import pytest

from support.api import JOBS, PROFILES
from support.cluster import Database, wait_until
from support.service import Service
from support.trouble import SCHEMA, Writer, assert_equal, slots_of

pytestmark = pytest.mark.turns(3)

NAMES = ("one", "two")


class Scene:
    """A job of all databases of a server, which follows; with `at`, each look at the instance from now on ends or waits there."""

    def __init__(self, service, source, dest):
        self.service, self.source, self.dest = service, source, dest
        for name in NAMES:
            source.createdb(name).sql(SCHEMA)
        service.profile("from", source)
        service.profile("to", dest)
        body = {"type": "CONTINUOUS", "source": f"{PROFILES}/from", "destination": f"{PROFILES}/to"}
        service.finished(service.post(JOBS, body, migrationJobId="all"))
        service.done("all", "start", timeout=90)
        service.wait_ready("all", 90)
        self.before = set(service.pids("session"))

    def daemon_again(self, at=None):
        if self.service.process.poll() is None:
            self.service.kill()
        self.service.env = {"PGCRANE_FAILPOINT": at} if at else None
        self.service.start()

    def look(self):
        """The process that looks at the instance."""
        return [pid for pid in self.service.pids("session") if pid not in self.before]

    def assert_moved(self, names=NAMES):
        for name in names:
            assert_equal(Database(self.source, name), Database(self.dest, name))
            assert slots_of(Database(self.source, name)) == []
        assert self.dest.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'fresh'") == self.source.sql(
            "SELECT rolpassword FROM pg_authid WHERE rolname = 'fresh'")
        assert {o["phase"] for o in self.service.objects("all").values()} == {"PROMOTED"}
        assert self.service.job("all")["state"] == "COMPLETED"


@pytest.fixture
def scene(tmp_path, own_cluster):
    with Service(tmp_path / "service") as service:
        yield Scene(service, own_cluster("look_from"), own_cluster("look_to"))


def strike_daemon(scene):
    """The look goes on without it, and its result waits."""
    scene.service.kill()
    wait_until(lambda: not scene.look(), what="the look to end")


def strike_both(scene):
    scene.service.kill()
    for pid in scene.look():
        os.kill(pid, 9)
    wait_until(lambda: not scene.look(), what="the look to be gone")


def strike_everything(scene):
    scene.service.kill()
    scene.service.kill_processes("session")
    scene.service.kill_processes("worker")
    wait_until(lambda: not scene.service.pids("session"), what="all sessions to be gone")


def strike_session(scene):
    """The daemon sees it end; those that it begins again die in the same way until it is started anew, which has to be before the
    job is given up: each of them lives for a while first."""
    wait_until(lambda: "WORKER_LOST" in scene.service.log() or "session 3" in scene.service.log(), what="it to be lost")


SLOWLY = "instance.before_commit:sleep=2000"
STRIKES = {"daemon": (strike_daemon, "instance.before_commit:sleep=2500"),
           "both": (strike_both, "instance.before_commit:sleep=20000"),
           "everything": (strike_everything, "instance.after_commit:sleep=20000"),
           "session": (strike_session, f"{SLOWLY},instance.before_commit:kill"),
           "behind its commit": (strike_session, f"{SLOWLY},instance.after_commit:kill")}


@pytest.mark.parametrize("what", STRIKES)
def test_the_promote_comes_to_its_end(what, scene):
    strike, at = STRIKES[what]
    service = scene.service
    scene.daemon_again(at)
    scene.source.sql("CREATE ROLE fresh LOGIN PASSWORD 'new'")
    with Writer(Database(scene.source, "one")) as writer:
        writer.wait_for(10)
        operation = service.verb("all", "promote")
        if not at.endswith("kill"):
            wait_until(scene.look, what="the look at the instance")
        strike(scene)
        scene.daemon_again()
        ended = service.end_of(operation, 120)
    assert "error" not in ended, ended
    scene.assert_moved()


@pytest.mark.parametrize("what", ("daemon", "both"))
def test_the_refusal_outlasts_it(what, scene):
    """A database that the job does not have: the promote is refused all the same, once, and the next one takes all."""
    strike, at = STRIKES[what]
    service = scene.service
    scene.daemon_again(at)
    scene.source.sql("CREATE ROLE fresh LOGIN PASSWORD 'new'")
    scene.source.createdb("late").sql(SCHEMA)
    operation = service.verb("all", "promote")
    wait_until(scene.look, what="the look at the instance")
    strike(scene)
    scene.daemon_again()
    refused = service.end_of(operation, 90)
    assert "late; nothing was promoted" in refused["error"]["message"], refused
    wait_until(lambda: service.objects("all").get("late", {}).get("phase") == "READY_FOR_PROMOTE", 90, "late to follow")
    service.done("all", "promote", timeout=90)
    scene.assert_moved((*NAMES, "late"))
