"""Servers that pgcrane makes, through the internal command `pgcrane provision`, as the service asks for them."""
import glob
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import uuid

import psycopg

from support.cluster import base_folder, find_binaries, is_alive, proc_stat, wait_until
from support.program import Program

PASSWORD = "the administrator's \\ secret"


class Outcome:
    """code: of the process, None while it runs. said: status.json."""

    def __init__(self, process, folder):
        self.process, self.folder = process, folder

    def wait(self, timeout=120):
        self.process.wait(timeout)
        return self

    @property
    def code(self):
        return self.process.poll()

    @property
    def said(self):
        with open(os.path.join(self.folder, "status.json"), encoding="utf-8") as file:
            return json.load(file)

    @property
    def log(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
            text = file.read()
        assert "Sanitizer" not in text, text
        return text

    def good(self):
        assert self.code == 0, self.log
        assert self.said["state"] == "COMPLETED", self.said
        return self.said.get("provision", {})

    def error(self, reason):
        assert self.code and self.said["state"] == "FAILED", self.log
        error = self.said["error"]
        assert error["reason"] == reason, error
        return error


class Provisions:
    """A state folder of instances, and one provider. Everything of it is gone in the end."""

    def __init__(self, provider="local", user=None):
        self.provider = provider
        self.folder = tempfile.mkdtemp(prefix="pgc-prov-", dir=base_folder())
        os.chmod(self.folder, 0o755)
        self.state_dir = os.path.join(self.folder, "state")
        os.makedirs(self.state_dir, 0o700)
        self.program = Program(self.state_dir)
        self.user, self.runs, self.specs = user, 0, {}
        if user:
            shutil.chown(self.state_dir, user)

    # --- operations ---

    def spec(self, major=15, **fields):
        name = "i" + uuid.uuid4().hex[:8]
        spec = {"id": name, "major": major, "mode": "MIGRATING", "memory_mb": 128, "cpus": 1, "password": PASSWORD}
        return {**spec, **fields}

    def instance(self, id):
        return os.path.join(self.state_dir, "instances", id)

    def start(self, operation, id, spec=None, env=None, **more):
        self.runs += 1
        folder = os.path.join(self.state_dir, "runs", str(self.runs))
        os.makedirs(folder, 0o700)
        message = {"run": self.runs, "provider": self.provider, "operation": operation, "id": id,
                   "state_dir": self.state_dir, **more}
        if spec is not None:
            message["spec"] = spec
            self.specs[id] = spec
            if not os.path.isdir(f"/usr/lib/postgresql/{spec['major']}") and "bindirs" not in more:
                message["bindirs"] = find_binaries(spec["major"])
        ours, theirs = socket.socketpair()
        with ours, theirs, open(os.path.join(folder, "log"), "wb") as log:
            process = self._spawn(folder, theirs, log, env)
            text = json.dumps({"type": "START", "body": message}).encode()
            ours.sendall(struct.pack(">I", len(text)) + text)
        self.program.started.append(process)
        return Outcome(process, folder)

    def _spawn(self, folder, fd, log, env):
        words = [self.program.binary, "provision", folder]
        if self.user:
            shutil.chown(folder, self.user)
            shutil.chown(os.path.dirname(folder), self.user)
            words = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", "--", *words]
        # The program has it as descriptor 3, whatever it is here.
        words = ["/bin/bash", "-c", f'exec "$@" 3<&{fd.fileno()}', "bash", *words]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                                pass_fds=[fd.fileno()], env=self.program.environment(env), start_new_session=True)

    def run(self, operation, id, spec=None, env=None, **more):
        return self.start(operation, id, spec, env, **more).wait()

    def create(self, spec, env=None, **more):
        return self.run("create", spec["id"], spec, env, **more)

    def made(self, **fields):
        spec = self.spec(**fields)
        self.create(spec).good()
        return spec

    def reconfigure(self, spec, env=None, **changes):
        return self.run("reconfigure", spec["id"], {**spec, **changes}, env)

    def tend(self, spec, env=None, **changes):
        return self.run("tend", spec["id"], {**spec, **changes}, env)

    def describe(self, id):
        return self.run("describe", id).good()

    def remove(self, id, env=None):
        return self.run("remove", id, env=env)

    # --- what it is like ---

    def connect(self, status, spec, database="postgres"):
        """As an application does, with what the endpoint says and nothing else."""
        endpoint = status["endpoint"]
        authority = os.path.join(self.folder, spec["id"] + ".crt")
        with open(authority, "w", encoding="ascii") as file:
            file.write(endpoint["ca"])
        return psycopg.connect(host=endpoint["host"], port=endpoint["port"], user=endpoint["user"], dbname=database,
                               password=endpoint.get("password", spec["password"]), sslmode="verify-full",
                               sslrootcert=authority, autocommit=True, connect_timeout=10)

    def sql(self, status, spec, text, *params):
        with self.connect(status, spec) as connection:
            cursor = connection.execute(text, params)
            return cursor.fetchall() if cursor.description else []

    def settings(self, status, spec, *names):
        rows = self.sql(status, spec, "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", list(names))
        return dict(rows)

    def server(self, id, folder="data"):
        """(pid, start time) of what serves that folder; None when nothing does."""
        try:
            with open(os.path.join(self.instance(id), folder, "postmaster.pid"), encoding="ascii") as file:
                pid = int(file.readline())
        except FileNotFoundError:
            return None
        fields = proc_stat(pid)
        return (pid, fields[19]) if fields else None

    def crash(self, id, folder="data"):
        """-9 to the server, and waits until what it has left is gone, too."""
        server = self.server(id, folder)
        os.kill(server[0], signal.SIGKILL)
        wait_until(lambda: not is_alive(server) and not self.of_server(id, folder), what="the server to be gone")

    def of_server(self, id, folder="data"):
        """Numbers of all processes that work in a folder of the instance."""
        path, found = os.path.join(self.instance(id), folder), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)").startswith(path) and proc_stat(pid):
                    found.append(int(pid))
            except OSError:
                continue
        return found

    def memory_of(self, id):
        """Shared memory that its processes have: names of files in /dev/shm, and System V's numbers."""
        found = set()
        for pid in self.of_server(id, ""):
            try:
                with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
                    fields = [line.split(None, 5) for line in file]
            except OSError:
                continue
            for inode, name in ((f[4], f[5].strip()) for f in fields if len(f) == 6):
                if name.startswith("/dev/shm/PostgreSQL."):
                    found.add(name)
                elif name.startswith("/SYSV"):
                    found.add(inode)
        return found

    def remove_whole(self, id, memory=()):
        """Removes it, and nothing is left: files, processes, shared memory."""
        memory = {*memory, *self.memory_of(id)}
        self.remove(id).good()
        assert not os.path.exists(self.instance(id)) and not self.of_server(id, "")
        with open("/proc/sysvipc/shm", encoding="ascii") as file:
            left = {*glob.glob("/dev/shm/PostgreSQL.*"), *(line.split()[1] for line in file.readlines()[1:])}
        assert not left & memory

    # --- the end ---

    def end(self):
        for id in {os.path.basename(path) for path in glob.glob(os.path.join(self.state_dir, "instances", "*"))}:
            self.remove(id)
        self.program.end_all()
        shutil.rmtree(self.folder)
