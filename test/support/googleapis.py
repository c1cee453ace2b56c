"""The npm package `googleapis`: installed once, and driven as a Node.js application drives it (test/clients/googleapis)."""
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess

from support.cluster import ROOT

CLIENT = os.path.join(ROOT, "test", "clients", "googleapis")
FOLDER = os.path.join(ROOT, "build-googleapis")
FILES = ("package.json", "package-lock.json")
INSTALL_SECONDS = 240


def digest():
    whole = hashlib.sha256()
    for name in FILES:
        with open(os.path.join(CLIENT, name), "rb") as file:
            whole.update(file.read())
    return whole.hexdigest()


@contextlib.contextmanager
def alone():
    """One test process at a time."""
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_installed(done):
    with contextlib.suppress(OSError), open(done, encoding="ascii") as file:
        return file.read() == digest()
    return False


def run_npm():
    npm = shutil.which("npm")
    assert npm and shutil.which("node"), "node or npm is missing: tools/setup.sh test installs them"
    for name in FILES:
        shutil.copy(os.path.join(CLIENT, name), FOLDER)
    run = subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=FOLDER, stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    assert run.returncode == 0, f"npm ci in {FOLDER}: {run.stdout}{run.stderr}"


def install():
    """The folder of the packages. It fails where they cannot be installed: a client that is not tried is no pass."""
    done = os.path.join(FOLDER, "installed")
    with alone():
        if not is_installed(done):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(done)
            run_npm()
            with open(done, "w", encoding="ascii") as file:
                file.write(digest())
    return os.path.join(FOLDER, "node_modules")


class GoogleApis:
    """A Node.js process with the client. `with` it."""

    def __init__(self, port, token=None):
        options = {"rootUrl": f"http://127.0.0.1:{port}/"}
        if token is not None:
            options["token"] = token
        env = {k: v for k, v in os.environ.items() if not k.upper().endswith("_PROXY") and not k.startswith("GOOGLE_")}
        self.process = subprocess.Popen(["node", os.path.join(CLIENT, "client.js"), json.dumps(options)],
                                        env={**env, "NODE_PATH": install()}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()
        _, said = self.process.communicate(timeout=20)
        assert kind is not None or self.process.returncode == 0, said

    def ask(self, method, params):
        self.process.stdin.write(json.dumps({"method": "projects.locations." + method, "params": params}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"{method}: {self.process.stderr.read()}"
        return json.loads(line)

    def call(self, method, **params):
        answer = self.ask(method, params)
        assert "error" not in answer, (method, params, answer)
        return answer["data"]

    def refused(self, method, **params):
        """What an application sees of the refusal: {"code", "httpStatus", "message", "status", "details"}."""
        answer = self.ask(method, params)
        assert "error" in answer, (method, params, answer)
        return answer["error"]
