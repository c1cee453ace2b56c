"""A job of two databases, with sessions that the test plays: what becomes of one of them while the other one works."""
import os
import shutil
import time

import pytest

from support.api import JOBS, PROFILES
from support.service import Service
from support.stage import Stage

STEP_S = 60


def filter_of(*names):
    return {"sourceObjectsConfig": {
        "objectsSelectionType": "SPECIFIED_OBJECTS",
        "objectConfigs": [{"objectIdentifier": {"type": "DATABASE", "database": name}} for name in names]}}


class Two:
    """The databases "one" and "two" of the job "job"."""

    def __init__(self, service, stage, **fields):
        self.service, self.stage = service, stage
        stage.on_start = self.answer
        for name in ("from", "to"):
            service.make_profile(name)
        self.create(**fields)

    def create(self, **fields):
        self.service.create_job("job", "from", "to", ["one", "two"], **fields)

    @staticmethod
    def answer(actor):
        """A look at the instance that is not the first one, such as that before a promote of all: nothing is new."""
        if actor.action == "instance" and actor.run > 1:
            actor.say("databases", names=actor.start["more"]["databases"])

    def until(self, condition, what):
        deadline = time.monotonic() + STEP_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {STEP_S} s for {what}; {self.stage.actors}\n{self.service.log()[-2000:]}"
            self.stage.pump(0.05)

    def session(self, name, number, action="migrate"):
        def there():
            actor = self.stage.of(name, action)
            return actor is not None and actor.run == number
        self.until(there, f"session {number} of {name}, {action}")
        return self.stage.of(name, action)

    def ready(self):
        """Both follow."""
        self.service.verb("job", "start")
        self.until(lambda: self.stage.actors, "the look at the instance")
        self.stage.actors[0].say("databases", names=["one", "two"])
        sessions = []
        for name in ("one", "two"):  # there may be a place for one alone
            sessions.append(self.session(name, 1))
            sessions[-1].say("ready")
        self.until(lambda: self.job().get("phase") == "READY_FOR_PROMOTE", "the job to be ready")
        return sessions

    def job(self):
        return self.service.job("job")

    def events(self, kind):
        events = self.service.good(self.service.get(f"{JOBS}/job/events"))["events"]
        return [event for event in events if event["kind"] == kind]

    def object(self, name):
        return self.service.objects("job")[name]

    def be(self, name, state):
        self.until(lambda: self.object(name)["state"] == state, f"{name} to be {state}")

    def work(self, works):
        """Whether the daemon does more than to take what it is asked for; sessions live on."""
        self.service.stop()
        self.service.options = () if works else ("--api-only",)
        self.service.start()

    def promote(self, *names):
        return self.service.verb("job", "promote", {"objectsFilter": filter_of(*names)})

    def choose(self, *names):
        answer = self.service.patch(f"{JOBS}/job", {"objectsConfig": filter_of(*names)}, updateMask="objectsConfig")
        return self.service.good(answer)

    def end_of(self, operation):
        def over():
            return self.service.good(self.service.get(operation["name"]))["done"]
        self.until(over, f"the end of {operation}")
        return self.service.good(self.service.get(operation["name"]))


class All(Two):
    """... of a job of all databases. Its looks at the instance are played by the test."""

    @staticmethod
    def answer(_):
        pass

    def create(self, **fields):
        body = {"type": "CONTINUOUS", "source": f"{PROFILES}/from", "destination": f"{PROFILES}/to", **fields}
        self.service.finished(self.service.post(JOBS, body, migrationJobId="job"))

    def look(self, number):
        """Under way until the test says more."""
        look = self.session("instance", number, "instance")
        look.say("checking")
        return look

    def ready_stopped(self):
        """Stopped when both followed."""
        sessions = self.ready()
        stop = self.service.verb("job", "stop")
        for session in sessions:
            self.until(lambda session=session: "STOP" in session.heard, "the session to hear of the stop")
            session.say("stopped")
        assert "error" not in self.end_of(stop)

    def ready_again(self):
        """... and resumed: the look that lists once more, and both sessions."""
        self.ready_stopped()
        self.service.verb("job", "resume")
        look, sessions = self.look(2), []
        for name in ("one", "two"):
            sessions.append(self.session(name, 2))
            sessions[-1].say("ready")
        self.until(lambda: self.job().get("phase") == "READY_FOR_PROMOTE", "the job to be ready")
        return look, *sessions

    def promoted(self, *names):
        """Alone, each by its session."""
        operation = self.promote(*names)
        for name in names:
            session = self.stage.of(name, "migrate")
            self.until(lambda session=session: "PROMOTE" in session.heard, "the session to hear of the promote")
            session.say("done")
        assert "error" not in self.end_of(operation)

    def waits(self):
        return self.job().get("progress", {}).get("waitingFor", "")


@pytest.fixture
def two(tmp_path):
    with Stage() as stage, Service(tmp_path / "service", env=stage.environment()) as service:
        yield Two(service, stage)


@pytest.fixture
def everything(tmp_path):
    with Stage() as stage, Service(tmp_path / "service", env=stage.environment()) as service:
        yield All(service, stage)


def test_stopped_by_somebody_else(two):
    """A signal of whoever looks after the machine: it is begun again, as one that was lost."""
    first, _ = two.ready()
    first.say("stopped")
    two.session("one", 2).say("ready")
    two.be("one", "RUNNING")


def test_a_promote_whose_database_is_given_up(two):
    """Lost too often, while the other one works: the operation ends, and what comes after it is carried out."""
    first, _ = two.ready()
    operation = two.promote("one")
    two.until(lambda: "PROMOTE" in first.heard, "the session to hear of the promote")
    two.service.kill()
    two.service.sql("UPDATE resource SET body = json_set(body, '$.run.losses', 5)"
                    " WHERE name LIKE '%/objects/%' AND body LIKE '%\"database\":\"one\"%'")
    first.say("kill")
    two.service.start()
    assert two.end_of(operation)["error"]["message"]
    operation = two.service.verb("job", "restart", {"objectsFilter": filter_of("one")})
    assert "error" not in two.end_of(operation)
    assert two.session("one", 2).is_anew()


def test_chosen_again_while_it_is_removed(two):
    """It is not taken for one that has come to its end: what was begun is removed, then it begins anew."""
    first, second = two.ready()
    two.choose("two")
    two.until(lambda: "STOP" in first.heard, "the session to hear of the stop")
    first.say("stopped")
    removal = two.session("one", 2, "abort")
    removal.say("checks")
    two.choose("one", "two")
    second.say("done")
    two.be("two", "COMPLETED")
    time.sleep(1)  # looks of the daemon
    assert two.job()["state"] == "RUNNING"
    removal.say("done")
    two.until(lambda: two.stage.of("one", "instance").run == 2, "the instance")
    assert two.session("one", 3).is_anew()


def test_taken_out_while_it_is_promoted(two):
    """The promote has ended, and not well, though nothing can be removed."""
    first, _ = two.ready()
    operation = two.promote("one")
    two.until(lambda: "PROMOTE" in first.heard, "the session to hear of the promote")
    two.choose("two")
    two.until(lambda: "STOP" in first.heard, "the session to hear of the stop")
    first.say("stopped")
    assert "taken out" in two.end_of(operation)["error"]["message"]


def test_promoted_stays_promoted(two):
    """Whatever becomes of the files of its session, and whatever the job is asked for."""
    first, second = two.ready()
    operation = two.promote("one")
    two.until(lambda: "PROMOTE" in first.heard, "the session to hear of the promote")
    first.say("done")
    assert "error" not in two.end_of(operation)
    two.service.kill()
    shutil.rmtree(first.folder)
    two.service.start()
    stop = two.service.verb("job", "stop")
    two.until(lambda: "STOP" in second.heard, "the session to hear of the stop")
    second.say("stopped")
    assert "error" not in two.end_of(stop)
    two.service.verb("job", "restart")
    second = two.session("two", 2)
    assert second.is_anew()
    second.say("copying")
    two.until(lambda: two.job()["state"] == "RUNNING", "the job to run")
    assert two.object("one")["phase"] == "PROMOTED"
    two.choose("two")
    two.be("one", "NOT_SELECTED")
    two.choose("one", "two")
    two.be("one", "COMPLETED")
    second.say("ready")
    second.say("done")
    two.until(lambda: two.job()["state"] == "COMPLETED", "the job to be complete")
    assert two.stage.of("one", "migrate") is first and two.stage.of("one", "abort") is None


def test_one_promote_waits_and_the_others_go_on(two):
    """What was asked for later is not kept by a promote that waits."""
    first, second = two.ready()
    waiting = two.promote("one")
    two.until(lambda: "PROMOTE" in first.heard, "the session to hear of the promote")
    operation = two.promote("two")
    two.until(lambda: "PROMOTE" in second.heard, "the other session to hear of its promote")
    refused = two.end_of(two.service.verb("job", "restart", {"objectsFilter": filter_of("one")}))
    assert "is being promoted" in refused["error"]["message"]
    second.say("done")
    assert "error" not in two.end_of(operation)
    assert "done" not in waiting or not waiting["done"]
    first.say("undone")
    assert "error" in two.end_of(waiting)


@pytest.mark.parametrize("part", (False, True))
def test_called_off_when_one_is_promoted(part, two):
    """The operation names the one that is promoted all the same."""
    first, second = two.ready()
    operation = two.promote("one", "two") if part else two.service.verb("job", "promote")
    two.until(lambda: "PROMOTE" in first.heard and "PROMOTE" in second.heard, "the sessions to hear of the promote")
    first.say("done")
    two.be("one", "COMPLETED")
    two.service.good(two.service.post(f"{operation['name']}:cancel", {}))
    time.sleep(1)
    second.say("undone")
    ended = two.end_of(operation)
    assert "error" in ended and ended["metadata"]["statusMessage"] == "promoted all the same: one", ended


def test_called_off_when_one_is_found_promoted(two):
    """Everything went down when it had been opened; that is found out while the job begins its sessions again."""
    sessions = two.ready()
    operation = two.service.verb("job", "promote")
    two.until(lambda: all("PROMOTE" in session.heard for session in sessions), "the sessions to hear of the promote")
    two.service.stop()
    for session in sessions:
        session.say("kill")
    two.until(lambda: all(session.ended for session in sessions), "the sessions to end")
    two.service.start()
    first = two.session("one", 2)
    first.say("ready")
    first.say("done")
    two.be("one", "COMPLETED")
    assert two.job()["state"] == "RESUMING"
    second = two.session("two", 2)
    second.say("ready")
    two.until(lambda: "PROMOTE" in second.heard, "the session to hear of the promote")
    second.say("undone")
    ended = two.end_of(operation)
    assert "error" in ended and ended["metadata"]["statusMessage"] == "promoted all the same: one", ended


@pytest.mark.parametrize("verb", ("promote", "restart"))
def test_a_list_that_is_empty(verb, two):
    """It does not stand for all databases."""
    two.ready()
    refused = two.service.post(f"{JOBS}/job:{verb}", {"objectsFilter": filter_of()})
    assert refused.status == 400 and refused["error"]["status"] == "INVALID_ARGUMENT", refused


def test_removal_by_force_that_cannot_begin(two):
    """A profile that is gone, as a key that is lost, does not keep the job."""
    sessions = two.ready()
    stop = two.service.verb("job", "stop")
    two.until(lambda: all("STOP" in session.heard for session in sessions), "the sessions to hear of the stop")
    for session in sessions:
        session.say("stopped")
    two.end_of(stop)
    two.service.kill()
    two.service.sql("DELETE FROM resource WHERE name LIKE '%/connectionProfiles/from'")
    two.service.start()
    operation = two.service.good(two.service.delete(f"{JOBS}/job", force=True))
    ended = two.end_of(operation)
    assert "error" not in ended and "database one" in ended["metadata"]["statusMessage"], ended


def test_promote_of_all_beside_one_that_failed(two):
    """Refused, and nobody is told: half of an application on either server helps nobody. The others go by their names."""
    first, second = two.ready()
    first.say("fail", reason="SQL_FAILED")
    two.be("one", "FAILED")
    refused = two.service.post(f"{JOBS}/job:promote")
    status, message = refused.error()
    assert status == "FAILED_PRECONDITION" and "nothing was promoted" in message, refused
    assert "one (FAILED" in message and "the stub failed with SQL_FAILED" in message, message
    assert "pgcrane jobs promote job --database two" in str(refused), refused
    assert "PROMOTE" not in second.heard
    operation = two.promote("two")
    two.until(lambda: "PROMOTE" in second.heard, "the session to hear of the promote")
    second.say("done")
    assert "error" not in two.end_of(operation)


def test_one_fails_before_the_promote_of_all_begins(two):
    """The wish is taken, then the state changes: no session is told, and following goes on."""
    first, second = two.ready()
    two.work(False)
    operation = two.service.verb("job", "promote")
    first.say("fail", reason="SQL_FAILED")
    two.until(lambda: first.ended, "the session to end")
    two.work(True)
    error = two.end_of(operation)["error"]
    assert "nothing was promoted" in error["message"] and "one (FAILED" in error["message"], error
    job = two.job()
    assert (job["state"], job["phase"]) == ("RUNNING", "CDC") and job["error"]["message"] == error["message"], job
    assert "PROMOTE" not in second.heard and two.object("two")["state"] == "RUNNING"


def test_one_is_lost_before_the_promote_of_all_begins(two):
    """The others wait for it to follow again."""
    first, second = two.ready()
    two.work(False)
    operation = two.service.verb("job", "promote")
    first.say("kill")
    two.until(lambda: first.ended, "the session to end")
    two.work(True)
    first = two.session("one", 2)
    first.say("checks")
    time.sleep(1)  # looks of the daemon
    two.stage.pump(0.1)
    assert "PROMOTE" not in second.heard
    first.say("ready")
    two.until(lambda: "PROMOTE" in first.heard and "PROMOTE" in second.heard, "the sessions to hear of the promote")
    for session in (first, second):
        session.say("done")
    assert "error" not in two.end_of(operation)


def test_one_has_failed_and_is_resumed(two):
    """The job says so where somebody looks, and what its slot holds grows on; a resume begins that one again, and no other."""
    first, second = two.ready()
    first.say("ready", cdc={"retained_bytes": 100, "source_lsn": "0/1000", "lag_bytes": 7000, "lag_us": 1})
    second.say("ready", cdc={"retained_bytes": 50, "source_lsn": "0/1000", "lag_bytes": 5, "lag_us": 1})
    two.until(lambda: two.job()["progress"].get("lagBytes") == 7000, "the numbers of both")
    assert "resume" not in two.job()["allowedActions"]
    first.say("fail", reason="SQL_FAILED")
    second.say("ready", cdc={"retained_bytes": 60, "source_lsn": "0/3000", "lag_bytes": 5, "lag_us": 1})
    two.until(lambda: two.job()["progress"].get("retainedBytes") == 100 + 0x2000, "what the slot of the failed one holds")
    job = two.job()
    assert job["state"] == "RUNNING" and "resume" in job["allowedActions"] and job["progress"]["lagBytes"] == 5, job
    waits = job["progress"]["waitingFor"]
    assert "database one has FAILED: the stub failed with SQL_FAILED" in waits and "still holds WAL on the source" in waits, waits
    assert [event["message"] for event in two.events("DATABASE_FAILED")] == ["database one has FAILED: the stub failed with SQL_FAILED"]
    assert "error" not in two.end_of(two.service.verb("job", "resume"))
    again = two.session("one", 2)
    assert not again.is_anew()
    again.say("ready")
    two.until(lambda: two.job()["progress"]["waitingFor"] == "" and two.job()["phase"] == "READY_FOR_PROMOTE", "both to follow")
    assert "resume" not in two.job()["allowedActions"] and two.stage.of("two", "migrate") is second
    assert len(two.events("DATABASE_FAILED")) == 1 and two.events("USER_RESUME")[0]["detail"]["to"] == "RUNNING/CDC"


def test_promoted_is_asked_for_no_more(two):
    """A database is added: the look that makes it ready is not for what is the application's already."""
    first, _ = two.ready()
    operation = two.promote("one")
    two.until(lambda: "PROMOTE" in first.heard, "the session to hear of the promote")
    first.say("done")
    assert "error" not in two.end_of(operation)
    two.choose("one", "two", "three")
    two.session("three", 1)
    assert two.stage.of("two", "instance").start["more"]["databases"] == ["two", "three"]
    assert two.object("one")["phase"] == "PROMOTED"


def test_promoted_is_left_out_of_all(everything):
    """The look of a job of all databases is told what is the application's already."""
    look, _, _ = everything.ready_again()
    assert look.start["more"]["over"] == []
    look.say("databases", names=["one", "two"])
    everything.promoted("one")
    everything.service.verb("job", "promote")
    assert everything.look(3).start["more"]["over"] == ["one"]


def test_complete_behind_the_list(everything):
    """All that the job has is promoted by name while it looks for more: it is complete when it is known that there is none."""
    look, _, _ = everything.ready_again()
    everything.promoted("one", "two")
    everything.until(lambda: "listed once more" in everything.waits(), "the job to wait for the list")
    assert everything.job()["state"] == "RUNNING" and "STOP" not in look.heard
    look.say("databases", names=["one", "two", "late"])
    everything.session("late", 1).say("ready")
    everything.be("late", "RUNNING")
    everything.until(lambda: everything.object("late").get("phase") == "READY_FOR_PROMOTE", "late to follow")
    everything.promoted("late")
    everything.until(lambda: everything.job()["state"] == "COMPLETED", "the job to be complete")


def test_complete_without_a_list(everything):
    """The list cannot be had: it is said, and the job is complete."""
    look, _, _ = everything.ready_again()
    everything.promoted("one", "two")
    look.say("fail", reason="SQL_FAILED", retryable=False)
    everything.until(lambda: everything.job()["state"] == "COMPLETED", "the job to be complete")
    assert any("were not taken in" in event["message"] for event in everything.events("WORKER"))


def test_a_list_that_cannot_be_begun(everything):
    """The list has no place on the disk: it is said, and the databases that the job has go on."""
    everything.ready_stopped()
    ((uid,),) = everything.service.sql("SELECT uid FROM resource WHERE name = ?", f"{JOBS}/job")
    folder = os.path.join(everything.service.folder, "sessions", uid, "instance")
    shutil.rmtree(folder)
    with open(folder, "w", encoding="utf-8"):
        everything.service.verb("job", "resume")
    for name in ("one", "two"):
        everything.session(name, 2).say("ready")
    everything.until(lambda: everything.job().get("phase") == "READY_FOR_PROMOTE", "the job to be ready")
    assert sum("were not taken in" in event["message"] for event in everything.events("WORKER")) == 1
    everything.promoted("one", "two")
    everything.until(lambda: everything.job()["state"] == "COMPLETED", "the job to be complete")


def test_failed_behind_its_look(everything):
    """Nothing of a job is at work when it has failed."""
    look, *sessions = everything.ready_again()
    for session in sessions:
        session.say("fail", reason="SQL_FAILED", retryable=False)
    everything.until(lambda: "STOP" in look.heard, "the look to hear that it shall stop")
    assert everything.job()["state"] == "RUNNING"
    look.say("stopped")
    everything.until(lambda: everything.job()["state"] == "FAILED", "the job to fail")


def test_called_off_in_its_look(everything):
    """The look ends with the promote that it was for; another promote has one of its own, and by name none is waited for."""
    sessions = everything.ready()
    operation = everything.service.verb("job", "promote")
    look = everything.look(2)
    everything.until(lambda: "are compared before the promote" in everything.waits(), "the job to say what it waits for")
    everything.service.good(everything.service.post(f"{operation['name']}:cancel", {}))
    everything.until(lambda: "STOP" in look.heard, "the look to hear that it shall stop")
    look.say("stopped")
    for session in sessions:
        everything.until(lambda session=session: session.heard, "the session to hear that it is called off")
        session.say("undone")
    assert "error" in everything.end_of(operation)
    for session in sessions:
        session.say("ready")
    everything.until(lambda: everything.job().get("phase") == "READY_FOR_PROMOTE", "the job to be ready")
    everything.promoted("one", "two")
    everything.until(lambda: everything.job()["state"] == "COMPLETED", "the job to be complete")
    assert everything.stage.of("instance", "instance") is look
