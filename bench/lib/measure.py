"""Runs one command and measures it: wall time, processor time and memory of all its processes.

Every process of a run carries one variable in its environment, so that one that left its parent (a keeper in its own
session) still counts. Memory is read at 20 Hz, for each tool alike.
"""
import os
import resource
import signal
import subprocess
import threading
import time
import uuid

from lib import semaphores

MARK = "PGCRANE_BENCH_RUN"
PERIOD = 0.05
TRIES = 4  # a process just made shows its parent's environment until it has exec'd
TICKS = os.sysconf("SC_CLK_TCK")


class Sampler(threading.Thread):
    """Watches all processes whose environment holds our mark."""

    def __init__(self, mark):
        super().__init__(daemon=True)
        self.needle = f"{MARK}={mark}".encode()
        self.halt = threading.Event()
        self.foreign = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self.tries = {}
        self.seen = {}  # pid -> {name, hwm, rss, cpu, parent}
        self.peak_rss = 0

    def run(self):
        while not self.halt.wait(PERIOD):
            self.sample()

    def sample(self):
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self.foreign &= pids
        for pid in pids - self.foreign - self.seen.keys():
            self._look_at(pid)
        total = 0
        for pid in pids & self.seen.keys():
            self._read(pid)
            total += self.seen[pid]["rss"]
        self.peak_rss = max(self.peak_rss, total)

    def alive(self):
        return [pid for pid in self.seen if self._marked(pid)]

    def _look_at(self, pid):
        if self._marked(pid):
            self.seen[pid] = {"name": "", "hwm": 0, "rss": 0, "cpu": 0.0, "parent": 0}
            return
        self.tries[pid] = self.tries.get(pid, 0) + 1
        if self.tries[pid] >= TRIES:
            self.foreign.add(pid)

    def _marked(self, pid):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                return self.needle in file.read()
        except OSError:
            return False

    def _read(self, pid):
        entry = self.seen[pid]
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                after_name = file.read().rsplit(")", 1)[1].split()
        except OSError:
            entry["rss"] = 0
            return
        entry["rss"] = kilobytes(fields.get("VmRSS"))
        if entry["rss"]:
            entry["name"] = fields["Name"].strip()
        entry["hwm"] = max(entry["hwm"], kilobytes(fields.get("VmHWM")))
        entry["cpu"] = (int(after_name[11]) + int(after_name[12])) / TICKS
        entry["parent"] = int(after_name[1])


class Run:
    """A shell command or a function of ours, measured."""

    def __init__(self, log_path):
        self.mark = uuid.uuid4().hex
        self.env = {**os.environ, MARK: self.mark, "LC_ALL": "C.UTF-8"}
        self.log_path = log_path
        self.children = []
        self.stopped = False
        self.sampler = Sampler(self.mark)

    def command(self, argv, stdout=None):
        """Starts and waits; the status is checked. Its words go to the log. Any thread may call it."""
        if self.stopped:
            raise RuntimeError("stopped")
        with open(self.log_path, "ab") as log:
            child = subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                                     start_new_session=True)
            self.children.append(child)
            status = child.wait()
        if status != 0:
            raise RuntimeError(f"{os.path.basename(argv[0])} ended with status {status}: {self.last_words()}")

    def last_words(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            lines = [line.strip() for line in log if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    def measure(self, work):
        """Calls work(self); gives the record of the run. Raises RuntimeError when the tool failed."""
        before = children_cpu()
        semaphores_before = semaphores.existing()
        self.sampler.start()
        begin = time.monotonic()
        try:
            work(self)
            seconds = time.monotonic() - begin
        finally:
            self.sampler.halt.set()
            self.sampler.join()
            left_behind = self.end_leftovers()
            semaphores.remove_new(semaphores_before, set(self.sampler.seen))
        seen = self.sampler.seen
        ours = set(seen) | {os.getpid()}
        orphans = sum(entry["cpu"] for entry in seen.values() if entry["parent"] not in ours)
        return {
            "seconds": round(seconds, 3),
            "cpu_seconds": round(children_cpu() - before + orphans, 2),
            "hwm_bytes": sum(entry["hwm"] for entry in seen.values()),
            "peak_rss_bytes": self.sampler.peak_rss,
            "processes": [{"name": entry["name"], "hwm_bytes": entry["hwm"]} for entry in seen.values()],
            "left_behind": left_behind,
        }

    def end_leftovers(self):
        """Processes of the run that still live 2 s after its end are named and ended."""
        self.stopped = True
        for child in self.children:
            if child.poll() is None:
                end_group(child)
        deadline = time.monotonic() + 2
        while self.sampler.alive() and time.monotonic() < deadline:
            time.sleep(PERIOD)
        alive = self.sampler.alive()
        for pid in alive:
            signal_quietly(os.kill, pid, signal.SIGKILL)
        return [self.sampler.seen[pid]["name"] for pid in alive]


def end_group(child):
    """First politely: some tools hold semaphores that only they can remove."""
    signal_quietly(os.killpg, child.pid, signal.SIGTERM)
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        signal_quietly(os.killpg, child.pid, signal.SIGKILL)
        child.wait()


def signal_quietly(call, pid, number):
    try:
        call(pid, number)
    except ProcessLookupError:
        pass


def kilobytes(text):
    return int(text.split()[0]) * 1024 if text else 0


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
