"""Every row of the table of a job's life, taken by a daemon that works, with sessions that the test plays.

doc/job-states.md has the table, support/job_table.py finds walks through it that take each row, and here each walk is a job: what
brings a row about is done (CAUSES), the job's log has to say exactly that row, and its action has to reach a session. All jobs walk
at the same time. They end in a delete, which is asked for while the daemon only keeps what it is asked for: nothing else happens
then, and the job's log, which goes with the job, can be read.
"""
import os
import time

import pytest

from support.api import JOBS, LOCATION, PROFILES
from support.job_table import (CONTINUOUS, UNPREPARED, is_last, make_walks, read_answers, read_rows)
from support.service import Service
from support.stage import Stage

STEP_S, POLL_S = 30, 0.1

# Rows that no walk here takes: (state, event, condition): why. What can be tried is tried all the same.
_MADE = "it takes a server that the service makes, and that goes down: test_service_destinations.py"
UNREACHABLE = {
    **{(state, "DEST_LOST", condition): _MADE for condition in ("MAY_RETRY", "")
       for state in ("STARTING", "RESTARTING", "RUNNING/FULL_DUMP", "RESUMING/FULL_DUMP")},
    **{(state, "USER_RESUME", "SOME_FAILED"): "it takes a job of two databases: test_service_two.py"
       for state in ("RUNNING/FULL_DUMP", "RUNNING/CDC", "RUNNING/READY_FOR_PROMOTE")},
}


def key_of(row):
    return row.source, row.event, row.condition


def place_of(job):
    return f"{job['state']}/{job['phase']}" if "phase" in job else job["state"]


# --- what brings a row about ---


def shows(*what):
    def cause(acting, _):
        for do in what:
            acting.session.say(do)
    return cause


def whole(acting, _):
    acting.session.say("done" if acting.walk.kind == "ONE_TIME" else "behind")


def going_on(acting, row):
    acting.session.say("behind" if row.to in ("RUNNING/CDC", "RUNNING/PROMOTE_IN_PROGRESS") else "copying")


def failing(acting, _):
    if acting.rows[acting.at + 1].event == "RETRY_DUE":
        acting.session.say("fail", reason="UNREACHABLE", retryable=True)
    else:
        acting.session.say("fail", reason="SQL_FAILED")


def refusing(acting, row):
    """Of a job that goes on only what was added to it is checked as a whole: the source has not a single one of them."""
    if row.source.startswith("RESUMING"):
        acting.play.nothing_there.add(acting.name)
        acting.add_database()
    else:
        acting.session.say("fail", reason="PREFLIGHT_FAILED")


def losing(acting, _):
    """By turns: killed, or ended without a word; and when it has said nothing yet, before it could."""
    acting.session.say("vanish" if acting.losses % 2 else "kill")


def nothing(_acting, _row):
    """Time brings it, or the supervisor alone."""


CAUSES = {
    "PREPARED": nothing, "WORKER_READY": going_on, "DUMP_DONE": whole, "CAUGHT_UP": shows("ready"), "FELL_BEHIND": shows("behind"),
    "PROMOTE_DONE": shows("done"), "PROMOTE_UNDONE": shows("behind", "undone"), "WORKER_STOPPED": shows("stopped"),
    "WORKER_LOST": losing, "FATAL": failing, "VERIFY_REFUSED": refusing, "RETRY_DUE": nothing,
}


# --- one job on its walk ---


class Acting:
    """Its methods that wait are generators of (condition, what it is): Play.run() goes on with all of them in turn."""

    def __init__(self, play, name, walk):
        self.play, self.name, self.walk = play, name, walk
        self.service, self.stage = play.service, play.stage
        self.rows, self.at = walk.rows, 0  # rows that were taken
        self.log, self.etag, self.there = [], None, False
        self.session, self.sessions, self.losses = None, 0, 0
        self.unsettled = False  # the destination is to be emptied, and no session has come to that
        self.operation = None
        late = len(self.rows) - 1
        self.late = late - (late > 0 and self.rows[late].source == "CREATING")  # from here on nobody is to work

    def __str__(self):
        taken = "\n".join(f"    {row}" for row in self.rows[:self.at])
        return f"{self.name}, {self.walk.kind}, {self.session}, behind\n{taken}"

    # --- asking ---

    def request(self, verb):
        path = f"{JOBS}/{self.name}"
        return self.service.delete(path) if verb == "delete" else self.service.post(f"{path}:{verb}")

    def ask(self, verb):
        operation = self.service.good(self.request(verb))
        assert operation["metadata"]["verb"] == verb, operation
        self.operation = operation["name"]

    def create(self):
        objects = {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": [self.database()]}}
        prepared = self.walk.kind != UNPREPARED
        body = {"type": self.walk.kind if prepared else CONTINUOUS, "source": f"{PROFILES}/from",
                "destination": f"{PROFILES}/{'to' if prepared else 'yet-to-be-made'}", "objectsConfig": objects}
        self.operation = self.service.good(self.service.post(JOBS, body, migrationJobId=self.name))["name"]

    def database(self, suffix=""):
        return {"objectIdentifier": {"type": "DATABASE", "database": self.name + suffix}}

    def add_database(self):
        objects = {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS",
                                           "objectConfigs": [self.database(), self.database("_more")]}}
        self.service.good(self.service.patch(f"{JOBS}/{self.name}", {"objectsConfig": objects}, updateMask="objectsConfig"))

    # --- the log ---

    def read_log(self):
        """[(event, from, to, comment)], without the line of its creation."""
        events = self.service.good(self.service.get(f"{JOBS}/{self.name}/events"))["events"]
        assert events[0]["kind"] == "CREATE"
        self.log = [(e["kind"], e["detail"]["from"], e["detail"]["to"], e["message"]) for e in events[1:]]

    def check(self, row):
        """The log has this row at its place."""
        event, source, to, comment = self.log[self.at]
        taken = next((r for r in self.play.rows if (r.event, r.source, r.to, r.comment) == (event, source, to, comment)), None)
        assert taken is not None, f"the log has a line that is no row: {self.log[self.at]}"
        self.play.seen.add(taken)
        assert taken == row, f"{taken} instead of {row}"
        self.losses = self.losses + 1 if event == "WORKER_LOST" else 0
        self.at += 1

    def assert_no_more(self):
        """No row beside those of the walk."""
        self.read_log()
        assert len(self.log) == self.at, f"{self.log[self.at:]} behind the walk"

    # --- walking ---

    def walk_on(self):
        if self.late > 0:
            self.create()
        for row in self.rows[:self.late]:
            yield from self.take(row)

    def take(self, row):
        self.cause(row)
        yield lambda: len(self.log) > self.at, f"the log to say {row}"
        self.check(row)
        yield from self.await_action(row)
        if row.to != "CREATING":  # there it stays for a moment only
            self.play.probe(self, row.to)

    def cause(self, row):
        if row.event.startswith("USER_"):
            self.ask(row.event[5:].lower())
        elif row.source != "CREATING":  # nobody but the daemon makes a destination
            CAUSES[row.event](self, row)

    def await_action(self, row):
        """What the row asks for has reached whom it is for."""
        if row.action in ("SPAWN_WORKER", "SPAWN_ANEW"):
            self.unsettled = self.unsettled or row.action == "SPAWN_ANEW"
            yield from self.await_session("migrate")
            assert self.session.is_anew() == self.unsettled, f"restart: {self.session.is_anew()}"
            self.begin_session()
        if row.event == "WORKER_READY":
            self.unsettled = False
        if row.action == "ASK_STOP":
            yield lambda: "STOP" in self.session.heard, "the session to hear of the stop"
        if row.action == "ASK_PROMOTE":
            yield lambda: self.session.wish == self.operation, "the session to hear of the promote"
        if row.event == "VERIFY_REFUSED" and is_last(row):  # the session of the first database was at work
            yield lambda: "STOP" in self.session.heard, "the session to hear that its job has failed"
            self.session.say("stopped")
            yield lambda: self.session.ended, "the session to end"
        if row.event == "FATAL" and self.walk.kind == UNPREPARED and "nextRetryTime" in self.service.job(self.name):
            self.play.seen.add(self.play.row("FAILED", "RETRY_DUE"))  # it would come

    def begin_session(self):
        """One that is to be lost may be lost before it has its folder."""
        if self.rows[self.at].event != "WORKER_LOST" or self.losses % 3 != 2:
            self.session.say("checking")

    def await_session(self, action):
        """One more, and the one before has ended."""
        before = self.session
        yield lambda: self.has_session(action), f"session {self.sessions + 1}, {action}"
        self.session = self.stage.of(self.name, "migrate", "abort")
        self.sessions += 1
        assert self.session.run == self.sessions, f"{self.session} is not number {self.sessions}"
        yield lambda: before is None or before.ended, f"{before} to end"

    def has_session(self, action):
        last = self.stage.of(self.name, "migrate", "abort")
        return last is not None and last is not self.session and last.action == action

    # --- its end ---

    def delete(self):
        """Nobody works meanwhile."""
        if self.late == 0:
            self.create()
        for row in self.rows[self.late:]:
            self.cause(row)
            self.read_log()
            self.check(row)
            self.play.probe(self, row.to)
        self.assert_no_more()

    def see_it_go(self):
        """What it made is removed, whatever it was at."""
        was_done = self.rows[-1].source == "COMPLETED"
        last = self.session
        if last is not None:
            yield lambda: last.ended or "STOP" in last.heard, "the session to hear that its job is deleted"
            if not last.ended:
                last.say(self.walk.how["end"])
        if self.sessions > 0 and not was_done:
            yield from self.await_session("abort")
            self.assert_no_more()
            yield from self.fail_to_remove()
            self.session.say("done")
        yield lambda: not self.there, "the job to be gone"
        self.see_purged()

    def fail_to_remove(self):
        if "abort" not in self.walk.how:
            return
        self.session.say("fail", reason=self.walk.how["abort"])
        for event in ("FATAL", "RETRY_DUE"):
            yield lambda: len(self.log) > self.at, f"the log to say {event}"
            self.check(self.play.row("DELETING", event))
        yield from self.await_session("abort")

    def see_purged(self):
        """Its log is gone with it: the row was taken when the daemon says so, and the operation ended well."""
        assert f"{JOBS}/{self.name}: PURGED" in self.service.log()
        operation = self.service.good(self.service.get(self.operation))
        assert operation["done"] and "error" not in operation, operation
        self.play.seen.add(self.play.row("DELETING", "PURGED"))


# --- all of them ---


class Play:
    def __init__(self, service, stage):
        self.service, self.stage = service, stage
        self.rows, self.answers = read_rows(), read_answers()
        self.unreachable = {row for row in self.rows if key_of(row) in UNREACHABLE}
        self.seen, self.probed, self.errors, self.wrong_answers = set(), set(), {}, []
        self.nothing_there = set()  # jobs whose source has none of the databases that they name now
        self.next_poll = 0
        stage.on_start = self.play_instance
        walks = make_walks(self.rows, self.unreachable)
        self.actings = [Acting(self, f"w{at:02}", walk) for at, walk in enumerate(walks)]
        for at, walk in enumerate(walks):
            walk.how["end"] = ("stopped", "kill")[at % 2]
        next(a.walk for a in self.actings if a.rows[-1].source == "RUNNING/CDC").how["abort"] = "SQL_FAILED"

    def row(self, source, event):
        return next(row for row in self.rows if (row.source, row.event) == (source, event))

    def play_instance(self, actor):
        """It finds what it is asked for, at once."""
        if actor.action == "instance":
            names = [] if actor.name in self.nothing_there else actor.start["more"]["databases"]
            actor.say("databases", names=names)

    # --- wishes that are no row ---

    def probe(self, acting, place):
        """Once for each state, with the first job that is there."""
        if place in self.probed:
            return
        self.probed.add(place)
        job = self.service.job(acting.name)
        answers = self.answers[place]
        allowed = [verb for verb, to in answers.items() if not to.endswith(("met", "refused"))]
        if (place_of(job), job["allowedActions"]) != (place, allowed):
            self.wrong_answers.append(f"{place}: {job}")
        for verb in answers:
            if verb not in allowed:
                self.probe_verb(acting, place, verb, f"allowed: {', '.join(allowed) or 'nothing'}")
        if place_of(self.service.job(acting.name)) != place:
            self.wrong_answers.append(f"{place} was left by a wish that it has no row for")

    def probe_verb(self, acting, place, verb, allowed):
        answer = acting.request(verb)
        if self.answers[place][verb].endswith("met"):
            right = answer.status == 200 and answer["name"].split("/")[-2] == "operations"
        else:
            right = answer.status == 400 and answer.error()[0] == "FAILED_PRECONDITION" and allowed in answer.error()[1]
        if not right:
            self.wrong_answers.append(f"{verb} in {place}: {answer}")

    # --- running ---

    def poll(self):
        """Logs of jobs that have changed."""
        self.next_poll = time.monotonic() + POLL_S
        jobs = {job["name"]: job for job in self.service.good(self.service.get(JOBS, pageSize=1000))["migrationJobs"]}
        for acting in self.actings:
            job = jobs.get(f"{JOBS}/{acting.name}")
            acting.there = job is not None
            if acting.there and job["etag"] != acting.etag:
                acting.etag = job["etag"]
                try:
                    acting.read_log()
                except AssertionError:  # gone meanwhile
                    acting.etag = None

    def run(self, begin):
        """begin(acting): a generator. One that fails is left where it is; the others go on."""
        waits = {}
        for acting in self.actings:
            if acting.name not in self.errors:
                self.go_on(acting, begin(acting), waits)
        while waits:
            self.stage.pump(0.02)
            if time.monotonic() > self.next_poll:
                self.poll()
            for acting, (steps, (condition, what), deadline) in list(waits.items()):
                if condition():
                    self.go_on(acting, steps, waits)
                elif time.monotonic() > deadline:
                    del waits[acting]
                    self.fail(acting, f"waited {STEP_S} s for {what}")

    def go_on(self, acting, steps, waits):
        waits.pop(acting, None)
        try:
            waits[acting] = (steps, next(steps), time.monotonic() + STEP_S)
        except StopIteration:
            pass
        except Exception as error:  # of whatever kind: the others go on
            self.fail(acting, repr(error))

    def fail(self, acting, why):
        self.errors[acting.name] = f"{why}\n  {acting}\n  log: {acting.log[acting.at:]}"

    def restart(self, works):
        self.service.stop()
        self.service.options = () if works else ("--api-only",)
        self.service.start()
        self.stage.pump(0.1)

    def delete_all(self):
        for acting in self.actings:
            if acting.name not in self.errors:
                try:
                    acting.delete()
                except Exception as error:  # as above
                    self.fail(acting, repr(error))


def make_profiles(service):
    for name in ("from", "to"):
        service.make_profile(name)
    service.good(service.post(f"{LOCATION}/connectionProfiles", {"cloudsql": {"settings": {"databaseVersionName": "POSTGRES_98"}}},
                              connectionProfileId="yet-to-be-made"))


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    with Stage() as stage, Service(tmp_path_factory.mktemp("states"), env=stage.environment()) as service:
        make_profiles(service)
        play = Play(service, stage)
        play.run(Acting.walk_on)
        play.restart(works=False)
        play.delete_all()
        play.restart(works=True)
        play.run(Acting.see_it_go)
        yield play


def test_every_walk(played):
    """A job goes where the table says, its log says so, and its sessions are told."""
    assert not played.errors, "\n".join(f"{name}: {why}" for name, why in played.errors.items())


def test_every_row_is_taken(played):
    missing = [str(row) for row in played.rows if row not in played.seen and row not in played.unreachable]
    assert missing == []


def test_what_is_unreachable(played):
    """The list is true: each is a row, and none of them happened."""
    assert {key_of(row) for row in played.unreachable} == set(UNREACHABLE)
    reached = [str(row) for row in played.unreachable if row in played.seen]
    assert reached == [], "take them off the list, and see that a walk takes them"


def test_wishes_in_every_state(played):
    """What is met is answered with an operation, and what is refused with what is allowed."""
    assert played.wrong_answers == []
    assert played.probed == set(played.answers)


def test_every_operation_ends(played):
    """By its goal, by another end, or by the wish that came after it."""
    assert played.service.good(played.service.get(f"{LOCATION}/operations", filter="done=false"))["operations"] == []


def test_nothing_is_left(played):
    sessions = os.path.join(played.service.folder, "sessions")
    assert [name for name in os.listdir(sessions) if name != "errands"] == []
    assert not played.service.pids("session")


# --- what the walks cannot show ---


class Alone:
    """One job of a daemon of its own, moved on by hand."""

    def __init__(self, service, stage):
        self.service, self.stage = service, stage
        make_profiles(service)
        service.create_job("job", "from", "to", ["shop"])

    def until(self, condition, what):
        deadline = time.monotonic() + STEP_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {STEP_S} s for {what}; {self.stage.actors}\n{self.service.log()[-2000:]}"
            self.stage.pump(0.05)

    def session(self, number, action="migrate", name="shop"):
        """That one, when it is there."""
        def there():
            actor = self.stage.of(name, action)
            return actor is not None and actor.run == number
        self.until(there, f"session {number}, {action}")
        return self.stage.of(name, action)

    def prepared(self):
        """The first session, behind that of the instance."""
        self.service.verb("job", "start")
        self.session(1, "instance").say("databases", names=["shop"])
        return self.session(1)

    def be(self, place):
        self.until(lambda: place_of(self.service.job("job")) == place, f"the job to be {place}")

    def events(self):
        return [e["kind"] for e in self.service.good(self.service.get(f"{JOBS}/job/events"))["events"]]


@pytest.fixture
def alone(tmp_path):
    with Stage() as stage, Service(tmp_path / "service", env=stage.environment()) as service:
        yield Alone(service, stage)


def test_stopped_during_the_checks(alone):
    """Nothing was copied, and the destination is still to be emptied: the job says so, and the next session is told."""
    session = alone.prepared()
    session.say("fail", reason="SQL_FAILED")
    alone.be("FAILED")
    alone.service.verb("job", "restart")
    session = alone.session(2)
    assert session.is_anew()
    session.say("checks")
    alone.service.verb("job", "stop")
    alone.until(lambda: "STOP" in session.heard, "the session to hear of the stop")
    time.sleep(1)  # looks of the daemon
    session.say("stopped")
    alone.until(lambda: alone.service.job("job")["state"] == "STOPPED", "the job to be stopped")
    alone.service.verb("job", "resume")
    assert alone.session(3).is_anew()
    assert "WORKER_READY" not in alone.events()


@pytest.mark.parametrize("wish", ("stop", "delete"))
def test_ended_while_the_instance_is_at_work(alone, wish):
    """What makes roles and databases on the destination has ended when the job has."""
    alone.service.verb("job", "start")
    instance = alone.session(1, "instance")
    instance.say("checking")
    alone.service.good(alone.service.delete(f"{JOBS}/job")) if wish == "delete" else alone.service.verb("job", "stop")
    alone.until(lambda: "STOP" in instance.heard or alone.service.get(f"{JOBS}/job").status == 404
                or alone.service.job("job")["state"] == "STOPPED", "the end of either")
    assert "STOP" in instance.heard and not instance.ended
    assert alone.service.job("job")["state"] in ("STOPPING", "DELETING")


def test_checks_refuse_a_job_that_goes_on(alone):
    session = alone.prepared()
    session.say("copying")
    alone.be("RUNNING/FULL_DUMP")
    session.say("kill")
    alone.session(2).say("fail", reason="PREFLIGHT_FAILED")
    alone.be("FAILED/FULL_DUMP")
    assert alone.events()[-1] == "VERIFY_REFUSED"


def test_a_stop_outlasts_an_error(alone):
    """Who asked for a stop does not find the job at work again a few seconds later."""
    session = alone.prepared()
    session.say("copying")
    alone.be("RUNNING/FULL_DUMP")
    alone.service.verb("job", "stop")
    alone.until(lambda: "STOP" in session.heard, "the session to hear of the stop")
    session.say("fail", reason="UNREACHABLE", retryable=True)
    alone.be("FAILED/FULL_DUMP")
    assert "nextRetryTime" not in alone.service.job("job")


def test_an_end_is_no_lag(alone):
    """A session that was ready, and whose process needs a moment to end, has not fallen behind."""
    session = alone.prepared()
    session.say("behind")
    alone.be("RUNNING/CDC")
    session.say("ready")
    alone.be("RUNNING/READY_FOR_PROMOTE")
    session.say("fail", reason="SQL_FAILED", linger=1)
    alone.until(lambda: alone.service.job("job")["state"] == "FAILED", "the job to fail")
    assert "FELL_BEHIND" not in alone.events()
