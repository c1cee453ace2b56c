"""`pgcrane serve` as the benchmarks use it: started, asked, measured, ended with all that it started."""
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.parse
import uuid

from lib.cluster import BenchError
from lib.measure import MARK, TICKS, kilobytes

LOCATION = "projects/bench/locations/here"
PROFILES, JOBS = LOCATION + "/connectionProfiles", LOCATION + "/migrationJobs"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """One daemon on 127.0.0.1, with a state folder of its own. Whatever comes from it carries a mark in its environment:
    sessions outlive a daemon, and must not outlive a benchmark."""

    def __init__(self, program, folder, options=(), core=None):
        self.port = free_port()
        self.folder = folder
        self.argv = [program, "serve", f"--listen=127.0.0.1:{self.port}", f"--state-dir={folder}", *options]
        self.core = core
        self.mark = uuid.uuid4().hex
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("PGCRANE_")}, MARK: self.mark, "LC_ALL": "C.UTF-8"}
        self.log = os.path.join(folder, "serve.log")
        self.process = None
        self.connection = None

    # --- its life ---

    def start(self, limit=30):
        """Seconds until /readyz says that it is ready."""
        place = None if self.core is None else lambda: os.sched_setaffinity(0, {self.core})
        begin = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, preexec_fn=place)
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() - begin > limit:
                raise BenchError(f"pgcrane serve is not ready: {self.last_words()}")
            time.sleep(0.002)
        return time.monotonic() - begin

    def is_ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self, limit=30):
        self.hang_up()
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise BenchError(f"pgcrane serve did not end within {limit} s") from None

    def end_all(self):
        """Everything of it, at once."""
        self.hang_up()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        deadline = time.monotonic() + 10
        while self.others() and time.monotonic() < deadline:
            for pid in self.others():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)

    def last_words(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    # --- asking ---

    def hang_up(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def call(self, method, path, body=None, **query):
        """(status, object) over one connection that stays open."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            self.connection.connect()
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        url = f"/v1/{path}" + ("?" + urllib.parse.urlencode(query) if query else "")
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self.connection.request(method, url, None if body is None else json.dumps(body), headers)
            answer = self.connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            self.hang_up()
            raise

    def good(self, method, path, body=None, **query):
        status, answer = self.call(method, path, body, **query)
        if status != 200:
            raise BenchError(f"{method} {path}: {status} {answer.get('error', {}).get('message')}")
        return answer

    # --- its processes ---

    def cpu(self):
        """Processor seconds of the daemon until now."""
        return cpu_of(self.process.pid)

    def resident(self):
        """Bytes of the daemon."""
        return memory_of(self.process.pid)[0]

    def others(self):
        """Pids of what it started, sessions and their workers among them."""
        needle = f"{MARK}={self.mark}".encode()
        found = []
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if needle in file.read().split(b"\0") and pid != self.process.pid:
                        found.append(pid)
            except OSError:
                continue
        return found


def cpu_of(pid):
    """Processor seconds; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pid):
    """(resident, proportional) bytes: what processes share is in the first in full, in the second its share."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return 0, 0
    return kilobytes(fields.get("Rss")), kilobytes(fields.get("Pss"))
