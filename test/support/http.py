"""Driving http_probe, and reading HTTP by hand."""
import json
import os
import re
import signal
import socket
import subprocess
import time

from support.cluster import ROOT, wait_until


def builds():
    """The folders of builds that have the probe: the sanitizers' too, where it was made."""
    found = [b for b in (os.path.dirname(os.environ.get("PGCRANE_BIN", "")), os.path.join(ROOT, "build-test"),
                         os.path.join(ROOT, "build")) if b and os.access(os.path.join(b, "http_probe"), os.X_OK)][:1]
    asan = os.path.dirname(os.environ.get("PGCRANE_ASAN_BIN", "")) or os.path.join(ROOT, "build-asan")
    if os.access(os.path.join(asan, "http_probe"), os.X_OK):
        found.append(asan)
    return [os.path.basename(b) for b in found] if all(os.path.dirname(b) == ROOT for b in found) else found


def parse_responses(answer):
    """[(status, head, body)] of bytes that hold whole responses; a last one without length takes the rest."""
    responses = []
    while answer:
        head, end, answer = answer.partition(b"\r\n\r\n")
        assert end, f"a response without end: {head[:200]!r}"
        first = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        assert first, f"no response: {head[:200]!r}"
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        status = int(first.group(1))
        size = int(length.group(1)) if length else 0 if status in (204, 304) or status < 200 else len(answer)
        assert len(answer) >= size, f"a body of {len(answer)} bytes that should have {size}"
        responses.append((status, head, answer[:size]))
        answer = answer[size:]
    return responses


def statuses(answer):
    return [status for status, _, _ in parse_responses(answer)]


def get(client):
    """(head, body) of the next response on a connection that stays open."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        assert more, f"closed inside a head: {data!r}"
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    while length and len(body) < int(length.group(1)):
        more = client.recv(65536)
        assert more, "closed inside a body"
        body += more
    return head, body


class Probe:
    """A running http_probe. What it says is read from a file, so that it never waits for us."""

    def __init__(self, build, *options, listen=("127.0.0.1:0",), context=None):
        self.command = [os.path.join(ROOT, build, "http_probe"), *[f"listen={a}" for a in listen], *options]
        self.context = context
        self.process = None

    def start(self):
        environment = {**os.environ, "ASAN_OPTIONS": "abort_on_error=0:exitcode=99", "UBSAN_OPTIONS": "print_stacktrace=1"}
        self.out_path = f"/tmp/http_probe.{os.getpid()}.{id(self)}"
        with open(self.out_path, "wb") as out, open(self.out_path + ".err", "wb") as err:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=err, env=environment)
        wait_until(lambda: self.said("listening") or self.process.poll() is not None, 20)
        assert self.said("listening"), self.errors()
        self.addresses = self.said("listening")[0]
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.end()

    def errors(self):
        with open(self.out_path + ".err", encoding="utf-8", errors="replace") as err:
            return err.read()

    def said(self, key):
        """The values of all lines with that key, so far."""
        with open(self.out_path, encoding="utf-8") as out:
            lines = [json.loads(text) for text in out.read().split("\n")[:-1]]
        return [said[key] for said in lines if key in said]

    def stop(self, timeout=20):
        """SIGTERM, and what becomes of it: the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def end(self):
        """It must end by itself, with nothing for the sanitizers to say."""
        try:
            if self.process.poll() is None:
                self.stop()
            assert self.process.returncode == 0, self.errors()
            assert self.said("stopped") and "Sanitizer" not in self.errors(), self.errors()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for path in (self.out_path, self.out_path + ".err"):
                if os.path.exists(path):
                    os.unlink(path)

    def forget(self):
        """It was killed: end() has nothing to ask."""
        self.end = lambda: [os.unlink(path) for path in (self.out_path, self.out_path + ".err")]

    def counters(self):
        before = len(self.said("counters"))
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(self.said("counters")) > before, 10)
        return self.said("counters")[-1]

    def connect(self, index=0, receive_buffer=None, source=None):
        address = self.addresses[index]
        unix = address.startswith("/")
        host, _, port = address.rpartition(":")
        family = socket.AF_UNIX if unix else socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        client = socket.socket(family, socket.SOCK_STREAM)
        client.settimeout(20)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            client.bind((source, 0))
        client.connect(address if unix else (host.strip("[]"), int(port)))
        return self.context.wrap_socket(client, server_hostname="localhost") if self.context else client

    @staticmethod
    def read_all(client):
        answer = b""
        while True:
            try:
                more = client.recv(65536)
            except ConnectionResetError:
                return answer
            if not more:
                return answer
            answer += more

    def talk(self, sent, index=0):
        """All that is answered to these bytes and the end of the input."""
        with self.connect(index) as client:
            try:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it was refused before all of it was sent; the answer is there
            except OSError as error:
                if error.errno != 107:  # ENOTCONN: as above
                    raise
            return self.read_all(client)

    def talk_open(self, sent):
        """As talk(), but our half stays open: of a stream."""
        with self.connect() as client:
            client.sendall(sent)
            return self.read_all(client)

    def talk_slowly(self, sent, step=1):
        """As talk(), in pieces that the server sees one by one."""
        with self.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for at in range(0, len(sent), step):
                    client.sendall(sent[at:at + step])
                    if at % 16 == 0:
                        time.sleep(0.0005)
                client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return self.read_all(client)

    def drip(self, client, piece, pause):
        """Sends a piece every `pause` seconds until something is answered; all that is answered."""
        client.settimeout(pause)
        answer = b""
        for _ in range(int(30 / pause)):
            try:
                client.sendall(piece)
                answer = client.recv(65536)
                break
            except TimeoutError:
                continue
        client.settimeout(20)
        return answer + self.read_all(client)

    def json(self, sent):
        (status, _, body), = parse_responses(self.talk(sent))
        assert status == 200, body
        return json.loads(body)

    def memory(self):
        """Bytes of resident memory."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) * 1024
