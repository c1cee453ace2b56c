#!/usr/bin/python3 -IS
"""Plays `pgcrane session FOLDER`: a test decides what it says, and no database is there.

The daemon starts it when PGCRANE_SESSION_PROGRAM names it (builds with fail points only). To the daemon it is a session: it
reads START, holds the lock, keeps job.json and status.json, listens on control.sock, and shows that it has heard STOP and
PROMOTE. To the test (support/stage.py, a socket that PGCRANE_TEST_STAGE names) it says what it was started for and what it
has heard, a JSON object a line, and does what the test says:

    {"do": "checking"}                    as a worker that has said nothing of its progress yet; "checks": one that has
    {"do": "copying" | "behind" | "ready" | "promoting"}; with "cdc": {...}, more of what it says of following
    {"do": "undone"}                      the promote that was asked for is taken back
    {"do": "roles", "names": [...]}       an instance has given these roles new passwords
    {"do": "databases", "names": [...]}   the answer of an instance
    {"do": "done" | "stopped"}            the end
    {"do": "fail", "reason": "SQL_FAILED", "retryable": false, "linger": 0}
                                          the process stays that many seconds behind its last word, without the lock
    {"do": "kill" | "vanish"}             the end without a word: by SIGKILL, or by itself

Until the first of these it has neither the lock nor a file. It ends with the test: when the socket to it is closed.
"""
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time

PHASES = ("PREFLIGHT", "SEAM", "SNAPSHOT", "SCHEMA", "COPY", "INDEX", "FOREIGN_KEY", "FINISH", "ANALYZE", "CDC", "PROMOTE")
# state, phase as job.json's readers know it, the phase that runs, state of following
SHOWN = {
    "checking": ("STARTING", "PREPARING_THE_DUMP", None, None),
    "checks": ("STARTING", "PREPARING_THE_DUMP", "PREFLIGHT", None),
    "copying": ("RUNNING", "FULL_DUMP", "COPY", None),
    "behind": ("RUNNING", "CDC", "CDC", "CATCHING_UP"),
    "ready": ("RUNNING", "CDC", "CDC", "FOLLOWING"),
    "promoting": ("RUNNING", "PROMOTE_IN_PROGRESS", "PROMOTE", "PROMOTING"),
}
UNDONE = {"reason": "PROMOTE_UNDONE", "message": "the stub took the promote back", "remedy": "", "sqlstate": "", "retryable": True}


class Wire:
    """4 bytes of length, then {"type", "body"} (src/wire/wire.h)."""

    def __init__(self, sock):
        self.sock, self.received = sock, b""

    def messages(self):
        """All that are there; EOFError when the other end is gone."""
        try:
            part = self.sock.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            raise EOFError
        self.received += part
        while len(self.received) >= 4:
            size = struct.unpack(">I", self.received[:4])[0]
            if len(self.received) < 4 + size:
                return
            message = json.loads(self.received[4:4 + size])
            self.received = self.received[4 + size:]
            yield message["type"], message["body"]

    def send(self, kind, body):
        text = json.dumps({"type": kind, "body": body}).encode()
        self.sock.sendall(struct.pack(">I", len(text)) + text)


def receive_start():
    wire = Wire(socket.socket(fileno=3))
    while True:
        for kind, body in wire.messages():
            assert kind == "START", kind
            wire.sock.close()
            return body


def machine():
    name = os.uname().nodename
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            text = file.read()
    except OSError:
        return name
    return f"{name} ({text[:8]})" if len(text) >= 8 else name


def progress_of(running, following):
    """Phases before the one that runs are done."""
    if running is None:
        return None
    at = PHASES.index(running)
    states = ["DONE" if i < at else "RUNNING" if i == at else "WAITING" for i in range(len(PHASES))]
    progress = {"phases": [{"phase": name, "state": state} for name, state in zip(PHASES, states)], "tasks": []}
    if following is not None:
        progress["cdc"] = {"state": following, "tables": [], "problems": []}
    return progress


class Session:
    def __init__(self, folder):
        self.folder, self.start = folder, receive_start()
        self.stage = socket.socket(socket.AF_UNIX)
        self.stage.connect(os.environ["PGCRANE_TEST_STAGE"])
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.stage, selectors.EVENT_READ, self.on_stage)
        self.lock = None
        self.stopping, self.following = False, None
        self.status = {"job_id": self.start["name"], "state": "STARTING", "phase": "PREPARING_THE_DUMP", "pid": os.getpid(),
                       "machine": machine(), "folder": os.path.realpath(folder), "source": "", "dest": "",
                       "run": self.start["run"], "progress": None, "error": None, "report": None}
        self.told = b""
        self.tell(start=self.start, pid=os.getpid(), folder=folder)

    def tell(self, **what):
        self.stage.sendall(json.dumps(what).encode() + b"\n")

    # --- files ---

    def take_folder(self):
        """Lock, job.json and socket, in the order of the real one."""
        self.lock = os.open(os.path.join(self.folder, "control.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(self.lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError:
            self.tell(heard="BUSY")
            sys.exit(2)
        folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)  # the path may be longer than an address
        path = f"/proc/self/fd/{folder}/control.sock"
        if os.path.lexists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(16)
        self.selector.register(listener, selectors.EVENT_READ, self.on_client)
        self.write("job.json", {"job_id": self.start["name"], "source": "", "dest": "", "created_at": self.now(),
                                "options": {}})

    def now(self):
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.rename(path + ".new", path)

    def write_status(self):
        self.status["updated_at"] = self.now()
        self.write("status.json", self.status)

    # --- what the daemon asks ---

    def on_client(self, listener):
        client = listener.accept()[0]
        self.selector.register(client, selectors.EVENT_READ, self.on_request)

    def on_request(self, client):
        """Each of the daemon's connections brings one request."""
        try:
            for kind, body in Wire(client).messages():
                self.take_request(kind, body)
        except EOFError:
            self.selector.unregister(client)
            client.close()

    def knows(self, wish):
        """The daemon asks to cancel until it has read a result, so it may ask once more after there is one: that stays."""
        return self.status.get("wish") is not None and self.status["wish"]["wish"] == wish

    def take_request(self, kind, body):
        if kind == "STOP" and not self.stopping:
            self.stopping = True
            self.status["state"] = "STOPPING"
        elif kind == "PROMOTE" and not self.stopping and not self.knows(body["wish"]):
            self.status["wish"] = {"wish": body["wish"], "result": None}
        self.write_status()  # before the test knows: it may end us then
        self.tell(heard=kind, wish=body.get("wish"))

    # --- what the test says ---

    def on_stage(self, stage):
        part = stage.recv(65536)
        if not part:
            os._exit(1)  # the test is over, or was killed
        self.told += part
        while b"\n" in self.told:
            line, _, self.told = self.told.partition(b"\n")
            self.do(**json.loads(line))

    def do(self, do, **more):
        if do == "vanish":
            os._exit(1)
        if do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.lock is None:
            self.take_folder()
        if do in SHOWN:
            self.show(*SHOWN[do], **more)
        else:
            {"undone": self.undone, "roles": self.roles, "databases": self.databases, "done": self.done, "stopped": self.stopped,
             "fail": self.fail}[do](**more)

    def show(self, state, phase, running, following, cdc=None):
        self.following = following
        progress = progress_of(running, following)
        if cdc:
            progress["cdc"].update(cdc)
        self.status.update(state="STOPPING" if self.stopping else state, phase=phase, progress=progress)
        self.write_status()

    def undone(self):
        self.status["wish"]["result"] = {"ok": False, "error": UNDONE}
        self.write_status()

    def roles(self, names):
        self.status["databases"] = {"new_passwords": names}
        self.write_status()

    def databases(self, names):
        self.status.setdefault("databases", {}).update(
            databases=[{"name": name, "bytes": 1, "exists": True, "made": False} for name in names], not_moved=[])
        self.end("COMPLETED", None, 0)

    def done(self):
        if self.following is not None:
            self.status.update(phase="PROMOTE_IN_PROGRESS", progress=progress_of("PROMOTE", "PROMOTED"))
        self.end("COMPLETED", None, 0)

    def stopped(self):
        self.end("STOPPED", {"reason": "CANCELLED", "message": "stopped, as the stub was asked to", "remedy": "",
                             "sqlstate": "", "retryable": False}, 3)

    def fail(self, reason, retryable=False, linger=0):
        self.end("FAILED", {"reason": reason, "message": f"the stub failed with {reason}", "remedy": "", "sqlstate": "",
                            "retryable": retryable}, 2, linger)

    def end(self, state, error, code, linger=0):
        """The last word, then the socket, then the lock."""
        self.status.update(state=state, error=error)
        self.write_status()
        os.unlink(os.path.join(self.folder, "control.sock"))
        os.close(self.lock)
        time.sleep(linger)
        os._exit(code)

    def run(self):
        while True:
            for key, _ in self.selector.select():
                key.data(key.fileobj)


if __name__ == "__main__":
    Session(sys.argv[2]).run()
