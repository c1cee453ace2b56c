"""Servers that the service makes, and databases in them as tests look at any other."""
import contextlib
import os
import signal
import subprocess
import tempfile
from urllib.parse import quote

import psycopg

from support.api import JOBS, LOCATION, PROFILES
from support.cluster import SUPERUSER, Cluster, Database, base_folder, newest_client, wait_until
from support.service import Service

INSTANCES = LOCATION + "/instances"
PASSWORD = "of the new server"


class MadeServer(Cluster):
    """An instance of a service, which starts and stops it: asked for at each use where it is."""

    def __init__(self, service, instance):  # pylint: disable=super-init-not-called
        self.service, self.instance, self.next_name, self.process = service, instance, 0, service.process

    @property
    def name(self):
        return self.instance

    @property
    def major(self):
        return int(self.service.instance(self.instance)["databaseVersion"].split("_")[1])

    def connect(self, db="postgres", user=SUPERUSER, **options):
        options.setdefault("autocommit", True)
        return psycopg.connect(self.uri(db, user), connect_timeout=10, application_name="harness", **options)

    def uri(self, db="postgres", user=SUPERUSER, password=PASSWORD):
        at = self.service.instance(self.instance)
        return f"postgresql://{user}:{quote(password)}@{at['host']}:{at['port']}/{quote(db, safe='')}"

    def dump_schema(self, db="postgres", extra=()):
        run = subprocess.run([newest_client("pg_dump"), "--schema-only", *extra, "-d", self.uri(db)], capture_output=True,
                             text=True, check=False)
        assert run.returncode == 0, run.stderr
        return run.stdout


def made_database(service, instance, name):
    return Database(MadeServer(service, instance), name)


class Makers(Service):
    """A service that makes servers."""

    token = None  # of whoever asks

    def request(self, method, path, body=None, headers=None, **query):
        headers = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **(headers or {})}
        return super().request(method, path, body, headers, **query)

    def make(self, name, timeout=60, **settings):
        return self.made(self.ask_to_make(name, **settings), timeout)

    def made(self, operation, timeout=60):
        """The profile, when its server is there."""
        over = self.end_of(operation, timeout)
        assert "error" not in over, (over, self.log()[-3000:])
        return over["response"]

    def ask_to_make(self, name, **settings):
        settings = {"databaseVersionName": "POSTGRES_15", "rootPassword": PASSWORD, "tier": "db-custom-1-1024", **settings}
        return self.ask_for(name, {"cloudsql": {"settings": settings}})

    def ask_for(self, name, profile):
        return self.good(self.post(PROFILES, profile, connectionProfileId=name))

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
            with contextlib.suppress(ProcessLookupError):  # they end with their postmaster
                os.kill(pid, signal.SIGKILL)

    def wait(self, condition, what, timeout=90):
        """With the log and how all stands when it does not come to pass."""
        try:
            return wait_until(condition, timeout, what)
        except AssertionError as error:
            stand = [self.get(path).text for path in (INSTANCES, JOBS, LOCATION + "/operations")]
            raise AssertionError(f"{error}\n{stand}\n{self.log()[-6000:]}") from None

    def drop_all(self):
        """In the end nothing of the jobs and instances is left."""
        if self.process.poll() is not None:
            self.start()
        for job in self.good(self.get(JOBS)).get("migrationJobs", []):
            self.end_of(self.good(self.delete(f"{JOBS}/{job['name'].rsplit('/', 1)[1]}", force=True)))
        for item in self.good(self.get(INSTANCES)).get("instances", []):
            name = item["name"].rsplit("/", 1)[1]
            if self.get(f"{PROFILES}/{name}").status == 200:
                self.end_of(self.good(self.delete(f"{PROFILES}/{name}", force=True)))
            else:
                self.end_of(self.good(self.delete(f"{INSTANCES}/{name}", force=True)))


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


class ShortFolder(tempfile.TemporaryDirectory):
    """As the paths of sockets are to be, and open to whom the servers run as."""

    def __init__(self):
        super().__init__(prefix="pgc-", dir=base_folder())
        os.chmod(self.name, 0o755)


@contextlib.contextmanager
def serving(folder, **env):
    """In the end nothing that it made is left."""
    with Makers(os.path.join(folder, "state"), env=env) as running:
        yield running
        running.drop_all()
