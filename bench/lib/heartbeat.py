"""How far the destination is behind, seen from outside: a row that changes all the time on the source, read at the other end."""
import math
import threading
import time

from lib.follower import connect

TABLE = "CREATE TABLE bench_heartbeat (id integer PRIMARY KEY, n bigint NOT NULL); INSERT INTO bench_heartbeat VALUES (1, 0);"
WRITE_EVERY = 0.02
READ_EVERY = 0.05


class Heartbeat:
    """The lag at a moment is the age of the oldest beat that was committed on the source and cannot be seen yet."""

    def __init__(self, source, source_db, dest, dest_db):
        self.source, self.dest = connect(source, source_db), connect(dest, dest_db)
        self.first = self.source.execute("SELECT n FROM bench_heartbeat").fetchone()[0]
        self.committed = [time.monotonic()]  # when beat first, first + 1, ... was acknowledged
        self.samples = []  # (moment, lag in seconds)
        self.failure = None
        self.halt = threading.Event()
        self.threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True)
                        for work in (self._write, self._read)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def finish(self):
        self.halt.set()
        for thread in self.threads:
            thread.join()
        self.source.close()
        self.dest.close()
        if self.failure:
            raise RuntimeError(f"heartbeat: {self.failure}")

    def pids(self):
        return self.source.info.backend_pid, self.dest.info.backend_pid

    def _guarded(self, work):
        try:
            work()
        except Exception as problem:  # a thread's exception would be lost
            self.failure = problem
            self.halt.set()

    def _write(self):
        while not self.halt.wait(WRITE_EVERY):
            self.source.execute("UPDATE bench_heartbeat SET n = n + 1 WHERE id = 1")
            self.committed.append(time.monotonic())

    def _read(self):
        while not self.halt.wait(READ_EVERY):
            row = self.dest.execute("SELECT n FROM bench_heartbeat").fetchone()
            now = time.monotonic()
            next_beat = row[0] + 1 - self.first
            lag = now - self.committed[next_beat] if 0 <= next_beat < len(self.committed) else 0.0
            self.samples.append((now, max(lag, 0.0)))


def percentile(values, share):
    """The smallest value that at least `share` of all are at or below."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else None
