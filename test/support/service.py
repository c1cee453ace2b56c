"""Driving jobs of `pgcrane serve` against real servers, the way a client of the API does."""
import contextlib
import os
import signal

from support.api import JOBS, LOCATION, PROFILES, Daemon
from support.cluster import SUPERUSER, wait_until

OVER = ("NOT_STARTED", "STOPPED", "FAILED", "COMPLETED")


class Service(Daemon):
    """A daemon that works. `with` it: in the end nothing of it runs any more, sessions included."""

    def __init__(self, folder, *options, **others):
        super().__init__(folder, *options, works=True, **others)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        self.program.end_all()

    # --- resources ---

    def profile(self, name, cluster, user=SUPERUSER, password=None, **fields):
        postgresql = {"host": "127.0.0.1", "port": cluster.port, "username": user, **fields}
        if password is not None:
            postgresql["password"] = password
        return self.finished(self.post(LOCATION + "/connectionProfiles", {"postgresql": postgresql},
                                       connectionProfileId=name))

    def job_of(self, name, source, dest, databases, kind="CONTINUOUS", **fields):
        """A job of some databases of one server to another."""
        for profile, cluster in ((f"{name}-from", source), (f"{name}-to", dest)):
            self.profile(profile, cluster)
        return self.create_job(name, f"{name}-from", f"{name}-to", databases, kind, **fields)

    def create_job(self, name, source, dest, databases, kind="CONTINUOUS", **fields):
        objects = {"sourceObjectsConfig": {
            "objectsSelectionType": "SPECIFIED_OBJECTS",
            "objectConfigs": [{"objectIdentifier": {"type": "DATABASE", "database": d}} for d in databases]}}
        body = {"type": kind, "source": f"{PROFILES}/{source}", "destination": f"{PROFILES}/{dest}",
                "objectsConfig": objects, **fields}
        return self.finished(self.post(JOBS, body, migrationJobId=name))

    # --- verbs ---

    def verb(self, name, verb, body=None):
        """Asks; the operation as it is answered."""
        return self.good(self.post(f"{JOBS}/{name}:{verb}", body))

    def job(self, name):
        return self.good(self.get(f"{JOBS}/{name}"))

    def objects(self, name):
        """{database: object}"""
        listed = self.good(self.get(f"{JOBS}/{name}/objects")).get("migrationJobObjects", [])
        return {o["sourceObject"]["database"]: o for o in listed}

    def end_of(self, operation, timeout=40):
        """Waits until it is over: the operation."""
        name = operation["name"]
        try:
            wait_until(lambda: self.good(self.get(name))["done"], timeout, f"the end of {name}")
        except AssertionError as error:
            jobs = self.good(self.get(JOBS))
            raise AssertionError(f"{error}\n{self.good(self.get(name))}\n{jobs}\n{self.log()[-3000:]}") from None
        return self.good(self.get(name))

    def done(self, name, verb, body=None, timeout=40):
        """Asks, waits, and it went well: the answer."""
        operation = self.end_of(self.verb(name, verb, body), timeout)
        assert "error" not in operation, operation
        return operation["response"]

    def wait_for(self, name, state, phase=None, timeout=40):
        """A job that is over in another way is not waited for."""
        def reached():
            job = self.job(name)
            if job["state"] == state and (phase is None or job.get("phase") == phase):
                return job
            over = job["state"] in OVER and job["state"] != state and "nextRetryTime" not in job
            assert not over, f"{job}\n{self.log()[-4000:]}"
            return None
        return wait_until(reached, timeout, f"{name} to be {state} {phase or ''}: {self.log()[-3000:]}")

    def wait_ready(self, name, timeout=40):
        return self.wait_for(name, "RUNNING", "READY_FOR_PROMOTE", timeout)

    def remove(self, name, force=False, timeout=40):
        operation = self.end_of(self.good(self.delete(f"{JOBS}/{name}", force=force or None)), timeout)
        assert "error" not in operation, operation
        assert self.get(f"{JOBS}/{name}").status == 404

    # --- processes ---

    def pids(self, word):
        return sorted(pid for pid, command in self.program.processes().items() if f" {word}" in f" {command}")

    def wait_anew(self, word, before, timeout=40):
        """Until there are as many, none of which is of `before`."""
        def others():
            return [pid for pid in self.pids(word) if pid not in before]
        try:
            wait_until(lambda: len(others()) == len(before), timeout, f"other processes {word}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{before} {self.program.processes()}\n{self.log()[-4000:]}") from None

    def kill_processes(self, word):
        """-9 to every "session" or "worker"; how many there were."""
        pids = self.pids(word)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it may have ended with another one
                os.kill(pid, signal.SIGKILL)
        return len(pids)
