"""Services that make servers, and what they made."""
import contextlib
import os
import shutil
import signal
import tempfile
from types import SimpleNamespace
from urllib.parse import quote

import psycopg

from support.api import JOBS, LOCATION, PROFILES
from support.cluster import base_folder, wait_until
from support.service import Service

INSTANCES = LOCATION + "/instances"
PASSWORD = "of the new server"


class Made:
    """A database of a server that the service made, as tests look at databases."""

    def __init__(self, service, instance, name):
        self.service, self.instance, self.name = service, instance, name

    @property
    def cluster(self):
        return SimpleNamespace(major=int(self.service.instance(self.instance)["databaseVersion"].split("_")[1]))

    @property
    def uri(self):
        at = self.service.instance(self.instance)
        return f"postgresql://{at['username']}:{quote(PASSWORD)}@{at['host']}:{at['port']}/{self.name}"

    def connect(self):
        return psycopg.connect(self.uri, autocommit=True)

    def sql(self, text, *params):
        with self.connect() as connection:
            cursor = connection.execute(text, params or None)
            return cursor.fetchall() if cursor.description else []


class Makers(Service):
    """A service that makes servers."""

    token = None  # of whoever asks

    def request(self, method, path, body=None, headers=None, **query):
        headers = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **(headers or {})}
        return super().request(method, path, body, headers, **query)

    def make(self, name, timeout=60, **settings):
        operation = self.ask_to_make(name, **settings)
        made = self.end_of(operation, timeout)
        assert "error" not in made, (made, self.log()[-3000:])
        return made["response"]

    def ask_to_make(self, name, **settings):
        settings = {"databaseVersionName": "POSTGRES_15", "rootPassword": PASSWORD, "tier": "db-custom-1-1024", **settings}
        return self.good(self.post(PROFILES, {"cloudsql": {"settings": settings}}, connectionProfileId=name))

    def instance(self, name):
        return self.good(self.get(f"{INSTANCES}/{name}"))

    def place(self, name, *below):
        """Its folder, and what is below of that."""
        root = os.path.join(self.folder, "instances")
        (folder,) = [f for f in os.listdir(root) if f.startswith(name + "-")]
        return os.path.join(root, folder, *below)

    def postmaster(self, name, folder="data"):
        """Its process, by its file."""
        with open(self.place(name, folder, "postmaster.pid"), encoding="ascii") as file:
            return int(file.readline())

    def events(self, job, kind):
        """Messages of that kind in the job's log."""
        events = self.good(self.get(f"{JOBS}/{job}/events", pageSize=1000))["events"]
        return [event["message"] for event in events if event["kind"] == kind]

    def crash(self, name):
        """All of a server at once, as when the machine goes down."""
        leader = self.postmaster(name)
        pids = [leader, *children_of(leader)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def wait(self, condition, what, timeout=90):
        """With the log and how all stands when it does not come to pass."""
        try:
            return wait_until(condition, timeout, what)
        except AssertionError as error:
            stand = [self.get(path).text for path in (INSTANCES, JOBS, LOCATION + "/operations")]
            raise AssertionError(f"{error}\n{stand}\n{self.log()[-6000:]}") from None

    def drop_all(self):
        """In the end nothing of the instances is left."""
        for item in self.good(self.get(INSTANCES)).get("instances", []):
            name = item["name"].rsplit("/", 1)[1]
            if self.get(f"{PROFILES}/{name}").status == 200:
                self.end_of(self.good(self.delete(f"{PROFILES}/{name}", force=True)))
            else:
                self.end_of(self.good(self.delete(f"{INSTANCES}/{name}", force=True)))


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


@contextlib.contextmanager
def short_folder():
    """Short, as the paths of sockets are to be, and open to whom the servers run as."""
    path = tempfile.mkdtemp(prefix="pgc-", dir=base_folder())
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@contextlib.contextmanager
def serving(folder, **env):
    """In the end nothing that it made is left."""
    with Makers(os.path.join(folder, "state"), env=env) as running:
        yield running
        if running.process.poll() is not None:
            running.start()
        for job in running.good(running.get(JOBS)).get("migrationJobs", []):
            running.end_of(running.good(running.delete(f"{JOBS}/{job['name'].rsplit('/', 1)[1]}", force=True)))
        running.drop_all()
