"""Driving `pgcrane worker` as whoever supervises it does: one START on descriptor 3, messages until it ends."""
import json
import socket
import struct
import subprocess
from dataclasses import dataclass, field


@dataclass
class Run:
    """What a worker said. code: of the process; negative = the signal that ended it."""

    code: int
    stderr: str
    messages: list = field(default_factory=list)  # (type, body)

    def bodies(self, kind):
        return [body for type_, body in self.messages if type_ == kind]

    @property
    def end(self):
        """Type of the last message; None when it was killed before the last one."""
        return self.messages[-1][0] if self.messages and self.messages[-1][0] in ("DONE", "FAILED") else None

    @property
    def findings(self):
        """{id without INSTANCE_: finding}; each is there once."""
        found = [finding for body in self.bodies("FINDINGS") for finding in body["findings"]]
        assert len({f["id"] for f in found}) == len(found), found
        return {f["id"].removeprefix("INSTANCE_"): f for f in found}

    @property
    def databases(self):
        bodies = self.bodies("DATABASES")
        assert len(bodies) == 1, self
        return {database["name"]: database for database in bodies[0]["databases"]}

    @property
    def not_moved(self):
        return {item["name"]: item["reason"] for item in self.bodies("DATABASES")[0]["not_moved"]}

    def done(self):
        assert self.code == 0 and self.end == "DONE", self
        return self

    def failed(self, reason):
        assert self.code == 0 and self.end == "FAILED", self
        body = self.messages[-1][1]
        assert body["reason"] == reason, self
        return body


def read_exactly(peer, size):
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return data


def read_messages(peer):
    messages = []
    while (head := read_exactly(peer, 4)) is not None:
        data = read_exactly(peer, struct.unpack(">I", head)[0])
        if data is None:
            break
        message = json.loads(data)
        messages.append((message["type"], message["body"]))
    return messages


def run_worker(program, start, env=None, timeout=60):
    """program: a Program, for its environment and clean-up."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(timeout)
        number = theirs.fileno()
        redirect = "" if number == 3 else f"3<&{number} {number}<&-"
        process = subprocess.Popen(["bash", "-c", f'exec "$0" worker {redirect}', program.binary],
                                   env=program.environment(env), pass_fds=(number,), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        program.started.append(process)
        theirs.close()
        data = json.dumps({"type": "START", "body": start}).encode()
        ours.sendall(struct.pack(">I", len(data)) + data)
        messages = read_messages(ours)
    stderr = process.communicate(timeout=timeout)[1]
    assert "Sanitizer" not in stderr, stderr
    return Run(process.returncode, stderr, messages)


def run_instance(program, source, dest=None, databases=None, prepare=True, check=False, env=None):
    """source, dest: connection strings."""
    start = {"action": "instance", "prepare": prepare, "check": check,
             "options": {"source": source, "dest": dest, "state_dir": program.state_dir, "verbose": True}}
    if databases is not None:
        start["databases"] = databases
    return run_worker(program, start, env)
