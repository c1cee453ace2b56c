"""Running the program under test, and finding what it left behind."""
import contextlib
import json
import os
import subprocess
import uuid
from dataclasses import dataclass, field

from support.cluster import ROOT, is_alive, proc_stat, wait_until

MARK = "PGCRANE_TEST_MARK"


def find_program():
    """PGCRANE_BIN, else what `make check` or `make` left."""
    candidates = [os.environ.get("PGCRANE_BIN"), os.path.join(ROOT, "build-test", "pgcrane"),
                  os.path.join(ROOT, "build", "pgcrane")]
    for path in filter(None, candidates):
        if os.access(path, os.X_OK):
            return path
    raise RuntimeError("there is no pgcrane to test: make check, or set PGCRANE_BIN")


@dataclass
class Result:
    """What a run of the program came to. lines: the objects of --json."""

    code: int
    stdout: str
    stderr: str
    lines: list = field(default_factory=list)

    def __iter__(self):
        return iter((self.code, self.stdout, self.stderr, self.lines))

    def __str__(self):
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class Program:
    """pgcrane with a state folder of its own. Everything it starts carries a mark in its environment, so that what is
    left can be found and ended by pid."""

    def __init__(self, state_dir, binary=None):
        self.binary = binary or find_program()
        self.state_dir = str(state_dir)
        self.mark = uuid.uuid4().hex
        self.started = []

    def command(self, args):
        words = [self.binary, *map(str, args)]
        if args and args[0] == "migrate" and "--help" not in args and "--state-dir" not in args:
            words += ["--state-dir", self.state_dir]
        return words

    def environment(self, env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "NO_COLOR")) or k == "PGCRANE_TEST_PG_DIRS"}
        clean.update({"LC_ALL": "C.UTF-8", MARK: self.mark, "HOME": self.state_dir})
        clean.setdefault("ASAN_OPTIONS", "abort_on_error=0:exitcode=99")
        clean.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        clean.update(env or {})
        return clean

    def run(self, *args, timeout=120, env=None, input=None):
        """Waits for the end, at most `timeout` seconds."""
        os.makedirs(self.state_dir, exist_ok=True)
        process = self.popen(*args, env=env, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL)
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"pgcrane did not end in {timeout} s\n{Result(-1, out, err)}") from None
        assert "Sanitizer" not in err, err
        return Result(process.returncode, out, err, json_lines(out) if "--json" in args else [])

    __call__ = run

    def popen(self, *args, env=None, **options):
        """Starts it in a session, and so a process group, of its own: os.killpg(process.pid, ...) reaches the group."""
        os.makedirs(self.state_dir, exist_ok=True)
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen(self.command(args), env=self.environment(env), text=True, errors="replace",
                                   start_new_session=True, **options)
        self.started.append(process)
        return process

    def processes(self):
        """{pid: command line} of everything that runs and came from here, whatever its parent is now."""
        needle = f"{MARK}={self.mark}".encode()
        found = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    ours = needle in file.read().split(b"\0")
                if ours and proc_stat(entry):
                    with open(f"/proc/{entry}/cmdline", "rb") as file:
                        found[int(entry)] = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            except OSError:
                continue
        return found

    def end_all(self):
        """Kills what is left."""
        def gone():
            for pid in self.processes():
                fields = proc_stat(pid)
                if fields and is_alive((pid, fields[19])):
                    with contextlib.suppress(ProcessLookupError):  # it may have ended with another one
                        os.kill(pid, 9)
            return not self.processes()

        for process in self.started:
            if process.poll() is None:
                process.kill()
        wait_until(gone, what="processes to end")
        for process in self.started:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()


def json_lines(text):
    """Every line has to be an object."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]
