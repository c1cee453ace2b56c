"""Servers that the service makes, and sessions that the test plays: what becomes of a server by how its jobs fare."""
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from support.api import PROFILES
from support.cluster import wait_until
from support.made import INSTANCES, ShortFolder, made_database, serving
from support.stage import Stage

pytestmark = pytest.mark.turns(2)

NOWHERE = SimpleNamespace(port=1)  # a source that nobody asks


class Player:
    """Does for all sessions what goes without saying; what is of interest, the test says."""

    def __init__(self):
        self.stage, self.over = Stage(), threading.Event()
        self.stage.on_start, self.stage.on_heard = self.on_start, self.on_heard
        self.prepares, self.source_is_away = True, False
        self.thread = threading.Thread(target=self.pump)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.stage.__exit__()

    def pump(self):
        while not self.over.is_set():
            self.stage.pump(0.1)

    def on_start(self, actor):
        if self.source_is_away:
            actor.say("fail", reason="UNREACHABLE", retryable=True)
        elif actor.action == "instance" and self.prepares:
            actor.say("databases", names=actor.start["more"]["databases"])
        elif actor.action == "instance":
            actor.say("checking")
        elif actor.action == "abort":
            actor.say("done")

    def on_heard(self, actor, what):
        if what == "STOP":
            actor.say("stopped")

    def session(self, database, behind=None):
        """The one of a database that is begun next."""
        def begun():
            actor = self.stage.of(database, "migrate")
            return actor if actor is not behind else None
        return wait_until(begun, 60, f"a session of {database}")


@pytest.fixture
def player():
    with Player() as playing:
        yield playing


@pytest.fixture
def serve(player):
    """serve(**env): a service whose sessions are played."""
    with ShortFolder() as folder:
        yield lambda **env: serving(folder, **player.stage.environment(), **env)


def backups(service):
    folder = service.place("new", "backups")
    return [name for name in os.listdir(folder) if not name.endswith(".part")] if os.path.isdir(folder) else []


def fill(service):
    """As somebody might who knows the password."""
    made_database(service, "new", "postgres").sql("CREATE TABLE mine AS SELECT 42 AS precious")


def is_there(service):
    return made_database(service, "new", "postgres").sql("SELECT precious FROM mine") == [(42,)]


def begin(service, player, job, profile, database):
    service.create_job(job, "old", profile, [database])
    service.verb(job, "start")
    session = player.session(database)
    session.say("copying")
    return session


def ask_promote(service, job, session):
    session.say("ready")
    service.wait_ready(job)
    operation = service.verb(job, "promote")
    service.wait(lambda: "PROMOTE" in session.heard, "the session to hear of it")
    return operation


def test_from_the_first_promote_on(serve, player):
    """A server with something of its own is filled without load mode. What is promoted is the application's: it has backups and a
    standby from then on, though another job still fills the same server, which goes on meanwhile."""
    with serve(PGCRANE_FAILPOINT="provision.standby.conf:sleep=12000") as service:
        service.make("new", availabilityType="REGIONAL")
        fill(service)
        service.profile("old", NOWHERE)
        first = begin(service, player, "first", "new", "shop")
        (told,) = service.events("first", "DESTINATION")
        assert "without load mode" in told and "table public.mine" in told, told
        assert service.instance("new")["mode"] == "MIGRATING" and is_there(service)
        service.finished(service.post(PROFILES, {"postgresql": {"cloudSqlId": "new"}}, connectionProfileId="again"))
        second = begin(service, player, "second", "again", "stats")
        operation = ask_promote(service, "first", first)
        first.say("promoting")
        assert service.instance("new")["mode"] == "MIGRATING" and backups(service) == [], "not within its outage"
        first.say("done")
        assert "error" not in service.end_of(operation)
        service.wait(lambda: service.instance("new")["state"] == "MAINTENANCE", "the standby to be made")
        second.say("kill")
        player.session("stats", behind=second).say("copying")
        assert service.instance("new")["state"] == "MAINTENANCE", "whoever is lost does not wait for the standby"
        service.wait(lambda: backups(service), "a backup")
        at = service.instance("new")
        assert (at["state"], at["mode"], at.get("trouble")) == ("RUNNABLE", "PRIMARY", None), at
        assert service.postmaster("new", "standby-data")
        assert service.job("second")["state"] == "RUNNING"
        service.remove("second", force=True)
        service.finished(service.delete(f"{PROFILES}/again"))


def test_what_may_be_open_stays(serve, player):
    """A promote was asked for, and nobody knows what came of it: the session is lost, the source is away. By force the job goes;
    the server may be the application's."""
    with serve() as service:
        service.make("new")
        fill(service)
        service.profile("old", NOWHERE)
        session = begin(service, player, "move", "new", "shop")
        ask_promote(service, "move", session)
        player.source_is_away = True
        halted = []
        threading.Thread(target=halt_backup, args=(service, halted), daemon=True).start()
        session.say("kill")
        service.remove("move", force=True)
        assert service.get(f"{PROFILES}/new").status == 404
        service.wait(lambda: service.instance("new")["mode"] == "PRIMARY", "it to be kept well")
        assert is_there(service) and service.instance("new")["state"] in ("RUNNABLE", "MAINTENANCE")
        service.wait(lambda: halted, "the first backup to be made")
        gone = service.end_of(service.good(service.delete(f"{INSTANCES}/new", force=True)))
        assert "error" not in gone and os.listdir(os.path.join(service.folder, "instances")) == [".ports.lock"]


def halt_backup(service, halted):
    """As one that takes hours."""
    pid = wait_until(lambda: backup_of(service), 120, "the first backup")
    os.kill(pid, signal.SIGSTOP)
    halted.append(pid)


def backup_of(service):
    return next((pid for pid, words in service.program.processes().items()
                 if "pg_basebackup" in words.split()[0] and service.folder in words), None)


def test_nothing_was_made(serve, player):
    """The server goes down before the session came to anything: whoever deletes the job then needs no session for it, and no source."""
    with serve() as service:
        service.make("new")
        service.profile("old", NOWHERE)
        service.create_job("move", "old", "new", ["shop"])
        service.verb("move", "start")
        session = player.session("shop")
        session.say("checking")
        player.prepares = False
        before = service.instance("new")["systemIdentifier"]
        assert service.instance("new")["mode"] == "LOAD"
        service.crash("new")
        service.wait(lambda: service.events("move", "DEST_LOST"), "the job to hear of it")
        assert "STOP" in session.heard
        service.remove("move")
        assert [actor for actor in player.stage.actors if actor.action == "abort"] == []
        service.wait(lambda: (service.instance("new")["state"], service.instance("new")["mode"]) == ("RUNNABLE", "MIGRATING"),
                     "another server")
        assert service.instance("new")["systemIdentifier"] != before
