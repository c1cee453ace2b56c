"""Findings of a dry run, and a way to a server that a pooler or a load balancer would be."""
import contextlib
import socket
import threading

import pytest


@pytest.fixture
def preflight(pgcrane):
    """preflight(source, destination, flags...) gives the findings, what is estimated left out; both may be databases or URIs."""
    def run(source, dest, *flags, estimates=False):
        uris = [getattr(side, "uri", side) for side in (source, dest)]
        result = pgcrane("migrate", *uris, "--dry-run", "--json", *flags)
        bodies = [line["body"] for line in result.lines if line["type"] == "FINDINGS"]
        assert bodies, f"no findings were said\n{result}"
        return [finding for body in bodies for finding in body["findings"]
                if estimates or not finding["id"].startswith("ESTIMATE_")]
    return run


def of(findings, check):
    return [f for f in findings if f["id"] == check]


def one(findings, check, severity, side="source"):
    """The only finding of a check."""
    found = of(findings, check)
    assert len(found) == 1, f"{check}: {findings}"
    assert (found[0]["severity"].upper(), found[0]["side"]) == (severity, side)
    assert found[0]["message"]
    return found[0]


def errors(findings):
    return [f for f in findings if f["severity"].upper() == "ERROR"]


class Proxy:
    """Stands between a client and a server as a pooler does; change(bytes) alters what the server says."""

    def __init__(self, port, change=bytes, address=None):
        """port: of the server, or a function that gives one for each connection. address: where we connect from."""
        self.port, self.change, self.address = port, change, address
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.sockets = [self.listener]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                port = self.port() if callable(self.port) else self.port
                server = socket.create_connection(("127.0.0.1", port),
                                                  source_address=(self.address, 0) if self.address else None)
                self.sockets += [client, server]
                for read, write, change in ((client, server, bytes), (server, client, self.change)):
                    threading.Thread(target=self.forward, args=(read, write, change), daemon=True).start()

    @staticmethod
    def forward(read, write, change):
        with contextlib.suppress(OSError):
            while data := read.recv(65536):
                write.sendall(change(data))
        with contextlib.suppress(OSError):
            write.shutdown(socket.SHUT_WR)

    def close(self):
        for each in self.sockets:
            each.close()

    def uri(self, database):
        return f"postgresql://postgres@127.0.0.1:{self.listener.getsockname()[1]}/{database.name}?sslmode=disable"
