"""A TCP proxy in front of a server that makes trouble on request: cut, reset, stall, delay, half-close.

    with Proxy(cluster) as proxy:
        proxy.fault("reset", after=100_000, times=1)
        pgcrane("migrate", proxy.uri(source_db), ...)

A fault hits a connection once it has carried `after` bytes in `direction` ("down": server to client, "up"), for the first
`times` connections that come so far. `stall` holds the bytes until release(). All connections are also reachable as a
whole: reset_all(), lose_all(), refuse.
"""
import contextlib
import re
import socket
import struct
import threading
import time

LINGER_RESET = struct.pack("ii", 1, 0)  # close() sends RST


class Fault:
    def __init__(self, kind, after, direction, times, seconds, only):
        assert kind in ("reset", "close", "half-close", "stall", "delay")
        self.kind, self.after, self.direction, self.left, self.seconds = kind, after, direction, times, seconds
        self.only = only
        self.hits = 0
        self.lock = threading.Lock()

    def take(self, link, direction, carried):
        """Does it hit now? Counts it."""
        with self.lock:
            if direction != self.direction or carried < self.after or self.left <= 0 or self.only not in link.hello:
                return False
            self.left -= 1
            self.hits += 1
            return True


class Link:
    """One connection through the proxy."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.hello = b""  # the client's first words: they have its application_name
        self.ended = threading.Event()
        self.lost = False  # whatever comes goes nowhere
        self.directions = 2  # still carried
        self.lock = threading.Lock()

    def end(self, reset=False):
        self.ended.set()
        for sock in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
                # shutdown() wakes the thread that reads from it; for a reset only close() may speak.
                sock.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                sock.close()


class Proxy:
    def __init__(self, cluster):
        self.target = ("127.0.0.1", cluster.port)
        self.faults = []
        self.links = []
        self.refuse = False
        self.flowing = threading.Event()
        self.flowing.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.flowing.set()
        self.listener.close()
        self.reset_all()

    def uri(self, database):
        """The database's URI, by way of the proxy."""
        return re.sub(r"@127\.0\.0\.1:\d+/", f"@127.0.0.1:{self.port}/", database.uri)

    def fault(self, kind, after=0, direction="down", times=1, seconds=0.0, only=b""):
        """only: on connections whose application_name has that."""
        fault = Fault(kind, after, direction, times, seconds, only)
        self.faults.append(fault)
        return fault

    def release(self):
        """Stalled bytes flow again."""
        self.flowing.set()

    def reset_all(self):
        with contextlib.suppress(IndexError):  # they may end by themselves meanwhile
            while True:
                self.links.pop().end(reset=True)

    def lose_all(self):
        """As when a firewall forgets the connections that there are: nothing comes through, and nobody is told."""
        for link in list(self.links):
            link.lost = True

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refuse:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
                client.close()
                continue
            try:
                server = socket.create_connection(self.target, 10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            link = Link(client, server)
            self.links.append(link)
            for direction, source, dest in (("down", server, client), ("up", client, server)):
                threading.Thread(target=self._carry, args=(link, direction, source, dest), daemon=True).start()

    def _carry(self, link, direction, source, dest):
        carried = 0
        try:
            while True:
                data = source.recv(65536)
                if link.lost:
                    if not data:
                        return
                    continue
                if not data:
                    with contextlib.suppress(OSError):
                        dest.shutdown(socket.SHUT_WR)
                    return
                carried += len(data)
                if direction == "up" and len(link.hello) < 4096:
                    link.hello += data[:4096]
                if self._trouble(link, direction, dest, carried):
                    return
                dest.sendall(data)
        except OSError:
            link.end()
        finally:
            self._forget_if_over(link)

    def _forget_if_over(self, link):
        """Its sockets are given back when both directions have ended: a soak makes thousands of connections."""
        with link.lock:
            link.directions -= 1
            over = link.directions == 0
        if over:
            link.end()
            with contextlib.suppress(ValueError):
                self.links.remove(link)

    def _trouble(self, link, direction, dest, carried):
        """Applies what hits this connection now; true when it is over for this direction."""
        for fault in self.faults:
            if not fault.take(link, direction, carried):
                continue
            if fault.kind == "delay":
                time.sleep(fault.seconds)
            elif fault.kind == "stall":
                self.flowing.clear()
            elif fault.kind == "half-close":
                with contextlib.suppress(OSError):
                    dest.shutdown(socket.SHUT_WR)
                return True
            else:
                link.end(reset=fault.kind == "reset")
                return True
        while not self.flowing.wait(0.1):
            if link.ended.is_set():
                return True
        return False
