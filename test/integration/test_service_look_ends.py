"""A look at the instance that comes to another end than its own, with sessions that the test plays: passwords of the roles that
it made, what is told of it, and who waits for it."""
import json
import os
import shutil
import time

import pytest

from support.api import JOBS, LOCATION
from support.service import Service
from support.stage import Stage
from test_service_passwords import FLAGS
from test_service_two import All, Two


class Look:
    """What the tests do with a job beside what test_service_two.py does."""

    def follow(self, *roles):
        """Both databases, behind a look that has made these roles."""
        self.service.verb("job", "start")
        self.until(lambda: self.stage.actors, "the look at the instance")
        self.stage.actors[0].say("roles", names=roles)
        self.stage.actors[0].say("databases", names=["one", "two"])
        return self.be_ready(1)

    def be_ready(self, number):
        sessions = []
        for name in ("one", "two"):  # there may be a place for one alone
            sessions.append(self.session(name, number))
            sessions[-1].say("ready")
        self.until(lambda: self.job().get("phase") == "READY_FOR_PROMOTE", "the job to be ready")
        return sessions

    def be_stopped(self, sessions):
        stop = self.service.verb("job", "stop")
        for session in sessions:
            self.until(lambda session=session: "STOP" in session.heard, "the session to hear of the stop")
            session.say("stopped")
        assert "error" not in self.end_of(stop)

    def fetched(self):
        """Roles whose passwords are given out."""
        answer = self.service.good(self.service.post(f"{JOBS}/job:fetchPasswords"))
        return {item["role"] for item in answer["passwords"]}

    def refusal(self):
        refused = self.service.post(f"{JOBS}/job:fetchPasswords")
        assert refused.status == 400, refused
        return refused.error()[1]

    def stored(self, key):
        ((value,),) = self.service.sql(f"SELECT json_extract(body, '$.run.{key}') FROM resource WHERE name = ?", f"{JOBS}/job")
        return value

    def kept(self):
        """Names of roles in the store; None = there are none."""
        return self.stored("newPasswords")

    def said(self, text):
        return [event["message"] for event in self.events("WORKER") if text in event["message"]]

    def cancel(self, operation):
        self.service.good(self.service.post(f"{operation['name']}:cancel", {}))

    def be_complete(self):
        self.until(lambda: self.job()["state"] == "COMPLETED", "the job to be complete")

    def all_end(self, sessions):
        for session in sessions:
            session.say("kill")
        self.until(lambda: all(session.ended for session in sessions), "the sessions to end")

    def hold(self, state="RUNNABLE", loader=""):
        """The destination is a server that the service made, on another node, and which is so."""
        run = {"home": "elsewhere", "wanted": 1, "done": 1, "spec": {"mode": "PRIMARY"}, "used": True, "promoted": True, "loader": loader}
        self.service.sql("INSERT INTO resource VALUES (?, 'INSTANCE', ?, 'made', ?, '', '', ?, 1, 1, 1)", f"{LOCATION}/instances/made",
                         LOCATION, state, json.dumps({"api": {}, "run": run}))
        self.service.sql("UPDATE resource SET body = json_set(json_remove(body, '$.api.postgresql.host'), '$.api.postgresql.cloudSqlId',"
                         " 'made') WHERE name LIKE '%/connectionProfiles/to'")

    def hold_no_more(self):
        self.service.sql("UPDATE resource SET body = json_set(json_remove(body, '$.api.postgresql.cloudSqlId'), '$.api.postgresql.host',"
                         " '10.0.0.5') WHERE name LIKE '%/connectionProfiles/to'")

    def folder_of_looks(self):
        ((uid,),) = self.service.sql("SELECT uid FROM resource WHERE name = ?", f"{JOBS}/job")
        return os.path.join(self.service.folder, "sessions", uid, "instance")


class Every(Look, All):
    pass


class Named(Look, Two):
    @staticmethod
    def answer(_):
        pass


@pytest.fixture
def staged(tmp_path):
    with Stage() as stage, Service(tmp_path / "service", env=stage.environment()) as service:
        yield lambda kind, **fields: kind(service, stage, **fields)


# --- passwords of roles that it has made ---


def test_passwords_behind_a_look_that_was_called_off(staged):
    """Also those that it told of when it had been called off, which it may have made all the same."""
    job = staged(Every, **FLAGS)
    sessions = job.follow()
    operation = job.service.verb("job", "promote")
    look = job.session("instance", 2, "instance")
    look.say("roles", names=["before"])
    job.until(lambda: job.kept() == '["before"]', "the name to be kept")
    assert "still being made" in job.refusal()
    job.cancel(operation)
    job.until(lambda: "STOP" in look.heard, "the look to hear that it shall stop")
    look.say("roles", names=["before", "behind"])
    job.until(lambda: job.kept() == '["before","behind"]', "the other name to be kept while it stops")
    look.say("roles", names=["before", "behind", "at last"])
    look.say("stopped")
    for session in sessions:
        job.until(lambda session=session: session.heard, "the session to hear that it is called off")
        session.say("undone")
    assert "error" in job.end_of(operation)
    for session in sessions:
        session.say("ready")
    job.until(lambda: job.job().get("phase") == "READY_FOR_PROMOTE", "the job to be ready")
    job.promoted("one", "two")
    job.be_complete()
    assert job.fetched() == {"before", "behind", "at last"}
    assert "were given out" in job.refusal()
    assert job.stage.of("instance", "instance") is look


def test_passwords_behind_a_list_that_cannot_be_begun(staged):
    job = staged(Every, **FLAGS)
    job.be_stopped(job.follow("app"))
    folder = job.folder_of_looks()
    shutil.rmtree(folder)
    with open(folder, "w", encoding="utf-8"):
        job.service.verb("job", "resume")
    job.be_ready(2)
    assert len(job.said("were not taken in")) == 1
    assert job.fetched() == {"app"}


def test_passwords_that_were_given_out_are_not_told_again(staged):
    """The next look has another seed: what the one before has told is no role of that."""
    job = staged(Every, **FLAGS)
    sessions = job.follow("app")
    assert job.fetched() == {"app"}
    job.service.verb("job", "promote")
    look = job.session("instance", 2, "instance")  # has said nothing yet
    time.sleep(1)  # looks of the daemon
    assert job.kept() is None
    look.say("vanish")
    look = job.session("instance", 3, "instance")
    look.say("roles", names=["later"])
    look.say("databases", names=["one", "two"])
    job.until(lambda: all("PROMOTE" in session.heard for session in sessions), "the sessions to hear of the promote")
    assert job.fetched() == {"later"}


def test_passwords_behind_a_database_that_was_taken_out_again(staged):
    """It cannot be made ready; without it nobody waits for that any more."""
    job = staged(Named, **FLAGS)
    job.follow()
    job.choose("one", "two", "three")
    look = job.session("one", 2, "instance")
    look.say("roles", names=["app"])
    look.say("fail", reason="SQL_FAILED")
    job.be("three", "FAILED")
    assert "or that failed" in job.refusal()
    job.choose("one", "two")
    job.until(lambda: job.stored("instance.taken") == 2, "the look to be settled")
    assert job.fetched() == {"app"}


# --- a job that fails while it is at work ---


def test_failed_again_and_again_beside_a_look(staged):
    """Its sessions are lost once too often: it has not failed before the look has ended."""
    job = staged(Every)
    job.be_stopped(job.follow())
    job.service.verb("job", "resume")
    look = job.look(2)
    sessions = job.be_ready(2)
    for session in sessions:
        session.say("behind")
    job.until(lambda: job.job()["phase"] == "CDC", "the job to fall behind")
    job.service.stop()
    job.service.sql("UPDATE resource SET body = json_set(body, '$.run.attempts', 4) WHERE name = ?", f"{JOBS}/job")
    job.all_end(sessions)
    job.service.start()
    job.until(lambda: "STOP" in look.heard or job.job()["state"] == "FAILED", "the look to hear that it shall stop")
    assert job.job()["state"] == "RUNNING"
    look.say("stopped")
    job.until(lambda: job.job()["state"] == "FAILED", "the job to fail")
    assert "again and again" in job.events("WORKER_LOST")[-1]["message"]


@pytest.mark.parametrize("killed", (False, True))
def test_failed_beside_a_look_that_says_nothing_yet(killed, staged):
    """A database that cannot be begun again fails the job at once: the look is asked to stop as soon as it can hear, also by a daemon
    that has begun anew."""
    job = staged(Every)
    job.be_stopped(job.follow())
    job.service.verb("job", "resume")
    look = job.session("instance", 2, "instance")
    first, second = job.be_ready(2)
    job.service.sql("DELETE FROM resource WHERE name LIKE '%/connectionProfiles/from'")
    first.say("kill")
    job.until(lambda: "STOP" in second.heard, "the other session to hear that it shall stop")
    second.say("stopped")
    job.until(lambda: second.ended and job.job()["state"] == "FAILED", "the job to fail")
    time.sleep(1)  # looks of the daemon
    if killed:
        job.service.kill()
    look.say("checking")
    if killed:
        job.service.start()
    job.until(lambda: "STOP" in look.heard, "the look to hear that it shall stop")


# --- what is told of one that failed ---


def test_a_job_that_names_its_databases_takes_none_in(staged):
    """What its log says of a look that failed is about roles."""
    job = staged(Named)
    job.follow()
    operation = job.service.verb("job", "promote")
    job.session("one", 2, "instance").say("fail", reason="SQL_FAILED")
    assert "error" in job.end_of(operation)
    job.until(lambda: job.said("were not compared"), "it to be said")
    assert len(job.said("were not compared")) == 1 and job.said("were not taken in") == []


# --- a job that has come to its end, and waits for one ---


def test_complete_behind_a_list_whose_destination_is_not_ready(staged):
    """It is waited for as long as the server is another job's to load."""
    job = staged(Every)
    job.be_stopped(job.follow())
    job.service.verb("job", "resume")
    look = job.look(2)
    job.be_ready(2)
    job.promoted("one", "two")
    job.until(lambda: "listed once more" in job.waits(), "the job to wait for the list")
    job.hold(loader=f"{JOBS}/other")
    time.sleep(0.5)  # a look that began before
    look.say("kill")
    job.until(lambda: look.ended, "the look to end")
    job.until(lambda: "when its destination is ready" in job.waits() or job.job()["state"] == "COMPLETED", "the job to say what it waits for")
    assert job.job()["state"] == "RUNNING"
    job.hold_no_more()
    job.session("instance", 3, "instance").say("databases", names=["one", "two"])
    job.be_complete()
    assert job.said("were not taken in") == []


def test_complete_without_a_look_whose_destination_has_failed(staged):
    """A promote of all waits for its look when all is promoted by name: it is not waited for, and that is said once."""
    job = staged(Every)
    job.follow()
    operation = job.service.verb("job", "promote")
    look = job.look(2)
    job.promoted("one", "two")
    job.until(lambda: "listed once more" in job.waits(), "the job to wait for the list")
    job.hold(state="FAILED")
    job.until(lambda: "STOP" in look.heard, "the look to hear that it shall stop")
    look.say("stopped")
    job.be_complete()
    assert "error" not in job.end_of(operation) and len(job.said("were not taken in: its destination has failed")) == 1
