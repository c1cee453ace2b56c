"""Draining one and the same backlog: each tool has a slot made before it, and an equal copy of the data before it.

A tool is prepared (slot, copy) while the source is quiet, then waits; drain() starts it, and the clock runs from the
moment its slot, or a copy of it that it reads from, is active until the backlog's last row is visible at the destination. The slot's own position, durable
and confirmed, is noted beside it.
"""
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass

from lib import semaphores
from lib.follower import Follower, can_follow, connect
from lib.measure import MARK, Sampler, end_group, signal_quietly
from lib.servercpu import ServerCpu

POLL = 0.01
PUBLICATION = "bench"


@dataclass
class Scene:
    """One round of one workload."""
    space: object
    source: object
    dest: object
    database: str  # on the source
    template: str  # on the destination: equal to the source before the backlog
    pgcrane: str
    jobs: int
    limit: float  # seconds until a drain counts as failed
    end: str = ""          # end of the backlog
    marker: int = 0        # the row that is written last

    def program(self, name):
        return os.path.join(self.space.bindir, name)


class Drain:
    """What is common to all: subclasses say how to prepare, start, stop."""
    title = ""
    applies = True  # into a database that is then compared

    def __init__(self, scene):
        self.scene = scene
        self.slot = "bench_" + self.name.replace("-", "_")
        self.target = "to_" + self.name.replace("-", "_")
        self.folder = scene.space.folder(self.name)
        self.env = None
        self.child = None

    def prepare(self):
        """Before the backlog."""
        self.make_slot("pgoutput")

    def ready(self):
        """After the backlog, not measured: what the tool needs beside its slot."""
        if self.applies:
            self.copy_template()

    def start(self):
        raise NotImplementedError

    def check(self):
        """Raises when the tool has failed."""
        if self.child and self.child.poll() not in (None, 0):
            raise RuntimeError(f"{self.name} ended with status {self.child.returncode}: {self.last_words()}")

    def stop(self):
        if self.child and self.child.poll() is None:
            end_group(self.child)

    # --- helpers of the subclasses ---

    def make_slot(self, plugin):
        self.scene.source.sql(self.scene.database,
                              f"SELECT pg_create_logical_replication_slot('{self.slot}', '{plugin}');")

    def copy_template(self):
        dest = self.scene.dest
        dest.sql("postgres", f"DROP DATABASE IF EXISTS {self.target} WITH (FORCE);")
        dest.sql("postgres", f"CREATE DATABASE {self.target} TEMPLATE {self.scene.template};")

    def spawn(self, argv):
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.child = subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True)

    def last_words(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"


class Pgcrane(Drain):
    name = "pgcrane"
    title = "pgcrane"

    def prepare(self):
        scene = self.scene
        scene.dest.fresh_database(self.target)
        options = ["--jobs", str(scene.jobs), "--exclude-schema", "pgcopydb"]
        self.follower = Follower(scene.pgcrane, scene.source.uri(scene.database), scene.dest.uri(self.target),
                                 self.folder, options)
        known = self.slots()
        self.follower.start()
        try:
            self.follower.wait_for("FOLLOWING", scene.limit)
        finally:
            self.follower.stop()
        made = self.slots() - known
        if len(made) != 1:
            raise RuntimeError(f"pgcrane left {len(made)} slots when stopped, not one")
        self.slot = made.pop()

    def slots(self):
        rows = self.scene.source.sql(self.scene.database, "SELECT slot_name FROM pg_replication_slots"
                                                          " WHERE database = current_database() AND NOT temporary;")
        return {row[0] for row in rows}

    def ready(self):
        pass

    def start(self):
        self.follower.start(self.env)

    def check(self):
        self.follower.check()

    def stop(self):
        if getattr(self, "follower", None):
            self.follower.stop()


class Native(Drain):
    name = "native"
    title = "CREATE SUBSCRIPTION"

    def ready(self):
        super().ready()
        source = self.scene.source
        conninfo = f"host={source.space.path} port={source.port} user=postgres dbname={self.scene.database}"
        self.scene.dest.sql(self.target, f"CREATE SUBSCRIPTION bench CONNECTION '{conninfo}' PUBLICATION {PUBLICATION}"
                                         f" WITH (create_slot = false, slot_name = '{self.slot}', enabled = false,"
                                         " copy_data = false);")

    def start(self):
        self.scene.dest.sql(self.target, "ALTER SUBSCRIPTION bench ENABLE;")

    def stop(self):
        rows = self.scene.dest.sql("postgres", "SELECT 1 FROM pg_database d JOIN pg_subscription s ON s.subdbid = d.oid"
                                               f" WHERE d.datname = '{self.target}';")
        if rows:
            self.scene.dest.sql(self.target, "ALTER SUBSCRIPTION bench DISABLE;"
                                             "ALTER SUBSCRIPTION bench SET (slot_name = NONE); DROP SUBSCRIPTION bench;")


class Pgcopydb(Drain):
    name = "pgcopydb"
    title = "pgcopydb follow"

    def argv(self, *words):
        """Each database of the source has an origin and a slot of its own."""
        return ["pgcopydb", *words, "--source", self.scene.source.uri(self.scene.database), "--target",
                self.scene.dest.uri(self.target), "--dir", os.path.join(self.folder, "work"), "--slot-name", self.slot,
                "--origin", self.slot]

    def call(self, *argv):
        """A command of pgcopydb, to its end. It leaves semaphores behind."""
        before = semaphores.existing()
        self.spawn(argv)
        status = self.child.wait()
        semaphores.remove_new(before, {self.child.pid})
        if status != 0:
            raise RuntimeError(f"{' '.join(argv[:3])} ended with status {status}: {self.last_words()}")

    def prepare(self):
        self.copy_template()
        self.call(*self.argv("stream", "setup", "--not-consistent"))
        self.call("pgcopydb", "stream", "sentinel", "set", "apply", "--source", self.scene.source.uri(self.scene.database))

    def ready(self):
        pass

    def start(self):
        self.spawn(self.argv("follow", "--resume", "--not-consistent", "--endpos", self.scene.end))


class Ceiling(Drain):
    name = "ceiling"
    title = "ceiling: pg_recvlogical to nowhere"
    applies = False

    def start(self):
        self.spawn([self.scene.program("pg_recvlogical"), "-d", self.scene.source.uri(self.scene.database), "--slot",
                    self.slot, "--start", "-f", "/dev/null", "--no-loop", "-o", "proto_version=1", "-o",
                    f"publication_names={PUBLICATION}", "--endpos", self.scene.end])


TOOLS = {tool.name: tool for tool in (Pgcrane, Native, Pgcopydb, Ceiling)}


def why_missing(name, pgcrane):
    if name == "pgcrane":
        return can_follow(pgcrane)
    if name == "pgcopydb" and not shutil.which("pgcopydb"):
        return "pgcopydb is not installed: run tools/setup.sh bench"
    return None


# --- one drain ---

WARM = """
VACUUM (ANALYZE);
SELECT count(pg_prewarm(c.oid::regclass)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'i', 't') AND n.nspname !~ '^(pg_catalog|information_schema|pgcrane|pgcopydb)$';
"""


def warm_up(cluster, database):
    """Every tool meets its tables in memory, vacuumed and analysed, and a checkpoint just done."""
    for statement in WARM.split(";")[:-1]:
        cluster.sql(database, statement + ";")
    cluster.sql("postgres", "CHECKPOINT;")


class Watch:
    """Our own sessions, which look and are not measured."""

    def __init__(self, drain):
        scene = drain.scene
        self.drain = drain
        self.source = connect(scene.source, scene.database)
        self.dest = connect(scene.dest, drain.target if drain.applies else "postgres")

    def pids(self):
        return self.source.info.backend_pid, self.dest.info.backend_pid

    def active(self):
        """A tool that is through already counts as started. pgcrane may read from a copy of its slot, named after it."""
        return self.source.execute("SELECT bool_or(active OR (slot_name = %s AND confirmed_flush_lsn >= %s::pg_lsn))"
                                   " FROM pg_replication_slots WHERE starts_with(slot_name::text, %s)",
                                   (self.drain.slot, self.drain.scene.end, self.drain.slot)).fetchone()[0]

    def arrived(self):
        if not self.drain.applies:
            return self.drain.child.poll() == 0
        return self.dest.execute("SELECT 1 FROM bench_marker WHERE id = %s", (self.drain.scene.marker,)).fetchone()

    def confirmed(self):
        return self.source.execute("SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots"
                                   " WHERE slot_name = %s", (self.drain.scene.end, self.drain.slot)).fetchone()[0]

    def close(self):
        self.source.close()
        self.dest.close()


def wait_until(drain, condition, deadline, what):
    while not condition():
        drain.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{drain.name}: {what} not within {drain.scene.limit:.0f} s")
        time.sleep(POLL)
    return time.monotonic()


def run(drain):
    """Drains; gives the record. Raises RuntimeError when the tool failed."""
    scene = drain.scene
    drain.ready()
    if drain.applies:
        warm_up(scene.dest, drain.target)
    scene.source.sql("postgres", "CHECKPOINT;")
    mark = f"{drain.name}-{os.getpid()}-{time.monotonic_ns()}"
    drain.env = {**os.environ, MARK: mark, "LC_ALL": "C.UTF-8"}
    semaphores_before = semaphores.existing()
    watch, client = Watch(drain), Sampler(mark)
    servers = [ServerCpu(scene.source, watch.pids()), ServerCpu(scene.dest, watch.pids())]
    try:
        return timed(drain, watch, client, servers)
    finally:
        for thread in (client, *servers):
            thread.halt.set()
        drain.stop()
        for pid in client.alive():  # pgcopydb's processes outlive the first of them
            signal_quietly(os.kill, pid, signal.SIGKILL)
        semaphores.remove_new(semaphores_before, set(client.seen))
        watch.close()


def timed(drain, watch, client, servers):
    for thread in (client, *servers):
        thread.start()
    begin = time.monotonic()
    deadline = begin + drain.scene.limit
    drain.start()
    active = wait_until(drain, watch.active, deadline, "its slot was active")
    arrived = wait_until(drain, watch.arrived, deadline, "the backlog's end was there")
    client.halt.set()
    client.join()
    client.sample()
    (source, source_helpers), (dest, dest_helpers) = (server.finish() for server in servers)
    confirmed = wait_until(drain, watch.confirmed, deadline, "the slot was confirmed") if drain.applies else arrived
    return {
        "seconds": round(arrived - active, 3),
        "start_seconds": round(active - begin, 3),
        "confirmed_seconds": round(confirmed - active, 3),
        "source_cpu": source, "dest_cpu": dest, "helpers_cpu": round(source_helpers + dest_helpers, 2),
        "client_cpu": round(sum(one["cpu"] for one in client.seen.values()), 2),
        "hwm_bytes": sum(one["hwm"] for one in client.seen.values()),
        "largest_bytes": max((one["hwm"] for one in client.seen.values()), default=0),
        "peak_rss_bytes": client.peak_rss,
        "processes": [{"name": one["name"], "hwm_bytes": one["hwm"]} for one in client.seen.values()],
    }
