"""Requests over HTTP at a fixed rate, whatever the answers take.

A client that waits for an answer before it asks again asks less just when the server is slow, and so hides it. Here each request
has its time in a schedule, and its latency counts from that time, also when no connection was free to send it on.
"""
import collections
import gc
import select
import socket
import time

from lib.cluster import BenchError

PATIENCE = 30.0  # seconds behind the end of the schedule


class Connection:
    __slots__ = ("sock", "data", "left", "number")

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data, self.left, self.number = b"", None, None

    def fileno(self):
        return self.sock.fileno()

    def take(self):
        """Reads what is there; true when the answer is whole. Only its head is kept."""
        got = self.sock.recv(1 << 18)
        if not got:
            raise BenchError("the service closed a connection")
        if self.left is not None:
            self.left -= len(got)
            return self.left <= 0
        self.data += got
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self.data[:end].lower()
        if head[9:12] != b"200":
            raise BenchError(f"the service answered {head[:200]!r}")
        length = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
        self.left = length - (len(self.data) - end - 4)
        return self.left <= 0


class OpenLoop:
    """requests: [(kind, bytes)], sent in this order, `rate` a second, over at most `connections` at a time."""

    def __init__(self, port, requests, rate, connections):
        self.requests, self.rate = requests, rate
        self.free = collections.deque(Connection(port) for _ in range(connections))  # in turn: none grows old unused
        self.busy = []
        self.next = 0
        self.begin = 0.0
        self.starved = False
        self.latencies = collections.defaultdict(list)  # {kind: [seconds]}
        self.lateness = []  # seconds between a request's time and its being sent, where that was our own doing
        self.waited = 0     # requests that had to wait for a connection

    def due(self):
        return self.begin + self.next / self.rate

    def run(self):
        """Seconds from the first request's time to the last answer."""
        self.begin = time.perf_counter() + 0.05
        end = self.begin + len(self.requests) / self.rate + PATIENCE
        gc.collect()
        gc.disable()
        try:
            while self.next < len(self.requests) or self.busy:
                self.send_due()
                self.receive(self.pause())
                if time.perf_counter() > end:
                    raise BenchError(f"{len(self.requests) - self.next} requests could not be sent, {len(self.busy)} not answered")
        finally:
            gc.enable()
            for connection in [*self.free, *self.busy]:
                connection.sock.close()
        return time.perf_counter() - self.begin

    def send_due(self):
        while self.next < len(self.requests) and self.due() <= time.perf_counter():
            if not self.free:
                self.starved = True
                return
            connection = self.free.popleft()
            connection.data, connection.left, connection.number = b"", None, self.next
            connection.sock.sendall(self.requests[self.next][1])
            if self.starved:
                self.waited += 1
            else:
                self.lateness.append(time.perf_counter() - self.due())
            self.busy.append(connection)
            self.next += 1
        self.starved = False

    def pause(self):
        if self.next >= len(self.requests) or not self.free:
            return 1.0
        return max(0.0, self.due() - time.perf_counter())

    def receive(self, timeout):
        ready, _, _ = select.select(self.busy, [], [], timeout)
        for connection in ready:
            if connection.take():
                now = time.perf_counter()
                kind = self.requests[connection.number][0]
                self.latencies[kind].append(now - self.begin - connection.number / self.rate)
                self.busy.remove(connection)
                self.free.append(connection)


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n".encode()
