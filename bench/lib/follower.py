"""`pgcrane migrate --follow` as the benchmarks use it: started, asked how far it is, stopped and started again."""
import json
import os
import signal
import subprocess
import time

from lib.cluster import BenchError
from lib.pgcrane_report import find_key


class Follower:
    """One continuous migration. Its words go to files in a folder of its own, for whoever looks for a failure."""

    def __init__(self, program, source_uri, dest_uri, folder, options=(), env=None):
        self.state_dir = os.path.join(folder, "state")
        self.argv = [program, "migrate", source_uri, dest_uri, "--follow", "--promote", "manual", "--json", "--yes",
                     "--state-dir", self.state_dir, *options]
        self.program = program
        self.folder = folder
        self.env = env
        self.out = os.path.join(folder, "pgcrane.out")
        self.process = None
        self.offset = 0
        self.progress = {}
        self.failure = None

    def start(self, env=None):
        self.offset = os.path.getsize(self.out) if os.path.exists(self.out) else 0
        self.progress = {}
        with open(self.out, "ab") as out, open(self.out + ".err", "ab") as err:
            self.process = subprocess.Popen(self.argv, env=env or self.env, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=err, start_new_session=True)

    def read(self):
        """Takes what it said since; self.progress is the newest."""
        with open(self.out, "rb") as file:
            file.seek(self.offset)
            text = file.read()
        whole = text[:text.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line):
        try:
            message = json.loads(line)
        except ValueError:
            return
        if message.get("type") == "PROGRESS":
            self.progress = message.get("body", {})
        elif message.get("type") == "FAILED":
            self.failure = find_key(message, "message")

    def cdc(self):
        self.read()
        return self.progress.get("cdc") or {}

    def check(self):
        """A migration that ended by itself is a failure here."""
        status = self.process.poll()
        if status is not None:
            self.read()
            raise RuntimeError(f"pgcrane ended with status {status}: {self.failure or self.last_words()}")

    def last_words(self):
        with open(self.out + ".err", encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    def wait_for(self, state, limit):
        deadline = time.monotonic() + limit
        while self.cdc().get("state") != state:
            self.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"pgcrane was not {state} within {limit} s")
            time.sleep(0.05)

    def stop(self, limit=60):
        """Cleanly: the slot stays, the same command goes on later."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise RuntimeError(f"pgcrane did not stop within {limit} s") from None

    def command(self, *words, limit=120):
        """Another command about the same migration; its standard output."""
        argv = [self.program, *words, "--state-dir", self.state_dir]
        done = subprocess.run(argv, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False, timeout=limit)
        if done.returncode != 0:
            raise RuntimeError(f"pgcrane {words[0]} ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout


def can_follow(program):
    """None when this build can, else the reason."""
    if not os.access(program, os.X_OK):
        return f"{program} is not there: run make"
    said = subprocess.run([program, "migrate", "--help"], capture_output=True, text=True, check=False)
    if "--follow" not in said.stdout:
        return f"{program} has no --follow"
    return None


def connect(cluster, database):
    """A session of the harness (autocommit)."""
    try:
        import psycopg  # only what watches servers needs it
    except ImportError:
        raise BenchError("python3-psycopg is missing: run tools/setup.sh bench") from None
    return psycopg.connect(cluster.uri(database), autocommit=True, application_name="bench")


def drop_slots(source):
    """Whatever was left: a database with slots cannot be dropped."""
    source.sql("postgres", "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active;")
    deadline = time.monotonic() + 10
    while source.sql("postgres", "SELECT 1 FROM pg_replication_slots WHERE active LIMIT 1;"):
        if time.monotonic() > deadline:
            raise BenchError("a replication slot stays active though its session was ended")
        time.sleep(0.05)
    source.sql("postgres", "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots;")
