"""Where sessions that a test plays itself (stub_session.py) report, and are told what to do."""
import contextlib
import itertools
import json
import os
import selectors
import shutil
import socket
import tempfile

from support.cluster import ROOT, is_alive, proc_stat

STUB = os.path.join(ROOT, "test", "support", "stub_session.py")


class Actor:
    """One process of a session. name: of its database; of an instance's, the first that it is asked for."""

    def __init__(self, stage, sock):
        self.stage, self.sock = stage, sock
        self.start, self.told, self.ended = None, b"", False
        self.heard, self.wish = [], None
        self.spoke = False  # it was told to show something: it has its folder

    def __repr__(self):
        what = f"{self.action} {self.run} of {self.name}" if self.start else "somebody"
        heard = [f"{kind} x{len(list(group))}" for kind, group in itertools.groupby(self.heard)]
        return f"<{what}, heard {heard}{', ended' if self.ended else ''}>"

    def begin(self, start, pid, folder):
        self.start, self.run, self.action, self.folder = start, start["run"], start["action"], folder
        fields = proc_stat(pid)
        self.process = (pid, fields[19] if fields else None)
        named = (start.get("more") or {}).get("databases")
        self.name = named[0] if self.action == "instance" and named else start["name"]
        self.stage.actors.append(self)

    def is_anew(self):
        return self.start["options"]["restart"]

    def lives(self):
        return is_alive(self.process)

    def say(self, do, **more):
        self.spoke = True
        with contextlib.suppress(BrokenPipeError):
            self.sock.sendall(json.dumps({"do": do, **more}).encode() + b"\n")

    def take(self, line):
        told = json.loads(line)
        if "start" in told:
            self.begin(told["start"], told["pid"], told["folder"])
            self.stage.on_start(self)
        else:
            self.heard.append(told["heard"])
            self.wish = told["wish"] or self.wish
            self.stage.on_heard(self, told["heard"])


class Stage:
    """`with` it. The test's one thread calls pump(); on_start and on_heard may answer at once."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="pgcrane-test-stage-")  # an address has 108 bytes: pytest's folders are longer
        self.path = os.path.join(self.folder, "stage")
        self.actors = []
        self.on_start = lambda actor: None
        self.on_heard = lambda actor, what: None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(128)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)

    def environment(self):
        return {"PGCRANE_SESSION_PROGRAM": STUB, "PGCRANE_TEST_STAGE": self.path}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # those that are left end by that
        self.selector.close()
        shutil.rmtree(self.folder)

    def pump(self, seconds):
        """Hears what there is, waiting as long for the first of it."""
        for key, _ in self.selector.select(seconds):
            if key.fileobj is self.listener:
                sock = self.listener.accept()[0]
                self.selector.register(sock, selectors.EVENT_READ, Actor(self, sock))
            else:
                self.hear(key.data)

    def hear(self, actor):
        try:
            part = actor.sock.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            actor.ended = True
            self.selector.unregister(actor.sock)
            actor.sock.close()
            return
        actor.told += part
        while b"\n" in actor.told:
            line, _, actor.told = actor.told.partition(b"\n")
            actor.take(line)

    def of(self, name, *actions):
        """The last one of a database that was begun for one of these."""
        return next((a for a in reversed(self.actors) if a.name == name and a.action in actions), None)
