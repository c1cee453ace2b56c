"""Processor time of a server's processes during a run: its sessions (walsenders, apply workers), and its helpers."""
import os
import threading

PERIOD = 0.05
TICKS = os.sysconf("SC_CLK_TCK")
HELPERS = ("checkpointer", "background writer", "walwriter", "autovacuum", "logical replication launcher", "startup",
           "stats collector", "archiver", "io worker", "logger")


class ServerCpu(threading.Thread):
    """Looks at all children of the postmaster at 20 Hz; sessions of the harness itself are left out by pid."""

    def __init__(self, cluster, not_these=()):
        super().__init__(daemon=True)
        self.postmaster = postmaster_of(cluster)
        self.not_these = set(not_these)
        self.halt = threading.Event()
        self.first, self.last, self.names = {}, {}, {}

    def start(self):
        self.sample()
        self.first = dict(self.last)
        super().start()

    def run(self):
        while not self.halt.wait(PERIOD):
            self.sample()

    def sample(self):
        for pid in children(self.postmaster):
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
                with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                    self.names[pid] = file.read()
            except OSError:
                continue
            self.last[pid] = (int(fields[11]) + int(fields[12])) / TICKS

    def finish(self):
        """(seconds of sessions, seconds of helpers) since start()."""
        self.halt.set()
        self.join()
        self.sample()
        sessions = helpers = 0.0
        for pid, seconds in self.last.items():
            spent = seconds - self.first.get(pid, 0.0)
            if any(name in self.names.get(pid, "") for name in HELPERS):
                helpers += spent
            elif pid not in self.not_these:
                sessions += spent
        return round(sessions, 2), round(helpers, 2)


def postmaster_of(cluster):
    with open(os.path.join(cluster.data, "postmaster.pid"), encoding="ascii", errors="replace") as file:
        return int(file.readline())


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []
