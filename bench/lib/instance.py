"""Servers that pgcrane makes (`pgcrane provision`), as destinations of benchmarks."""
import json
import os
import secrets
import socket
import struct
import subprocess
from urllib.parse import quote

from lib.cluster import BenchError, Cluster


class Instance(Cluster):
    """A server of the provider `local`, made by create(). Looks to others like a cluster of the workspace."""

    def __init__(self, space, pgcrane, name, major, memory_mb):
        self.space, self.pgcrane, self.runs = space, pgcrane, 0
        self.state_dir = os.path.join(space.path, "state")
        self.spec = {"id": name, "major": major, "mode": "MIGRATING", "memory_mb": memory_mb, "password": secrets.token_hex(16)}
        self.endpoint = None
        space.clusters.append(self)

    def ask(self, operation, **changes):
        """Has the provider do it: its status."""
        self.spec.update(changes)
        self.runs += 1
        folder = os.path.join(self.state_dir, "runs", f"{self.spec['id']}-{self.runs}")
        os.makedirs(folder, 0o700)
        message = {"run": self.runs, "provider": "local", "operation": operation, "id": self.spec["id"], "spec": self.spec,
                   "state_dir": self.state_dir, "bindirs": self.space.bindir}
        ours, theirs = socket.socketpair()
        with ours, theirs, open(os.path.join(folder, "log"), "wb") as log:
            words = ["/bin/bash", "-c", f'exec "$@" 3<&{theirs.fileno()}', "bash", self.pgcrane, "provision", folder]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                                       pass_fds=[theirs.fileno()], start_new_session=True)
            text = json.dumps({"type": "START", "body": message}).encode()
            ours.sendall(struct.pack(">I", len(text)) + text)
            process.wait()
        with open(os.path.join(folder, "status.json"), encoding="utf-8") as file:
            said = json.load(file)
        if said["state"] != "COMPLETED":
            raise BenchError(f"{operation} of {self.spec['id']}: {said['error']['message']}")
        return said.get("provision")

    def create(self, mode):
        self.endpoint = self.ask("create", mode=mode)["endpoint"]

    def uri(self, database):
        at = self.endpoint
        return f"postgresql://{at['user']}:{quote(self.spec['password'])}@{at['host']}:{at['port']}/{database}?sslmode=disable"

    def stop(self):
        if self.endpoint:
            self.endpoint = None
            self.ask("remove")
