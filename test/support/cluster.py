"""Real PostgreSQL servers for the tests: each in its own folder, on its own port, gone afterwards.

A Cluster is one server. It listens on 127.0.0.1 and on a socket in its folder, never runs as root, and does not outlive
the process that started it (it is sent SIGQUIT when that one dies). The harness itself always comes in as superuser
`postgres` through the socket, whatever the authentication of everybody else is.
"""
import contextlib
import fcntl
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from urllib.parse import quote

import psycopg
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SUPERUSER = "postgres"
PASSWORD = "harness secret/:@"

# synchronous_commit stays on: what is committed must survive a killed server, or tests of resuming prove nothing.
# Without fsync that costs next to nothing.
DEFAULTS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_prepared_transactions": "5",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "password_encryption": "scram-sha-256",
    "dynamic_shared_memory_type": "mmap",  # what a killed server leaves is in its own folder then
}


def wait_until(condition, timeout=30, what="condition"):
    """Polls until the condition is true and returns its value; fails after the time-out."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"timed out after {timeout} s waiting for {what}")
        time.sleep(0.02)


def base_folder():
    """Memory when there is plenty, else the folder for temporary files."""
    with contextlib.suppress(OSError):
        room = os.statvfs("/dev/shm")
        if room.f_bavail * room.f_frsize > 2 << 30 and os.access("/dev/shm", os.W_OK):
            return "/dev/shm"
    return tempfile.gettempdir()


FETCHED = set()  # folders of servers that were fetched: their clients count among those of this machine


def has_server(folder):
    return all(os.access(os.path.join(folder, name), os.X_OK) for name in ("postgres", "initdb"))


def fetched_binaries(major):
    tool = os.path.join(ROOT, "..", "shared", "bin", "fetch-postgres")
    if not os.access(tool, os.X_OK):
        return None
    run = subprocess.run([tool, str(major)], capture_output=True, text=True, timeout=280, check=False)
    lines = run.stdout.split()
    return lines[-1] if run.returncode == 0 and lines else None


def find_binaries(major):
    """The bin folder of that major version; skips the test when there is none."""
    folders = [f"/usr/lib/postgresql/{major}/bin"]
    for folder in filter(None, os.environ.get("PGCRANE_TEST_PG_DIRS", "").split(":")):
        folders += [os.path.join(folder, str(major), "bin"), os.path.join(folder, "bin"), folder]
    for folder in folders:
        if has_server(folder) and version_of(os.path.join(folder, "postgres")) == major:
            return folder
    folder = fetched_binaries(major)
    if folder and has_server(folder):
        FETCHED.add(folder)
        return folder
    pytest.skip(f"no PostgreSQL {major} here (folders may be named in PGCRANE_TEST_PG_DIRS)")
    return None


def version_of(program):
    run = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    word = run.stdout.split("(PostgreSQL)")[-1].split()[0]
    return int("".join(c if c.isdigit() else " " for c in word).split()[0])


def newest_client(program):
    """Path of the newest pg_dump, psql, ... on this machine: at least of the newest server that a test has started."""
    found = [p for p in glob.glob(f"/usr/lib/postgresql/*/bin/{program}") if os.access(p, os.X_OK)]
    for folder in filter(None, os.environ.get("PGCRANE_TEST_PG_DIRS", "").split(":")):
        found += [p for p in glob.glob(f"{folder}/*/bin/{program}") if os.access(p, os.X_OK)]
    found += [p for p in (f"{folder}/{program}" for folder in FETCHED) if os.access(p, os.X_OK)]
    if not found:
        pytest.skip(f"no {program} on this machine")
    return max(found, key=version_of)


class PortLock:
    """A port of ours below the ephemeral range, held against other test processes by a locked file."""

    def __init__(self):
        folder = os.path.join(tempfile.gettempdir(), f"pgcrane-test-ports-{os.getuid()}")
        os.makedirs(folder, exist_ok=True)
        for port in range(21000, 29000):
            self.file = open(os.path.join(folder, str(port)), "w", encoding="ascii")
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            except OSError:
                self.file.close()
                continue
            self.port = port
            return
        raise RuntimeError("no free port")

    def release(self):
        self.file.close()


class Cluster:
    """One server. config: settings beside DEFAULTS; initdb_args: such as ["--locale=C.UTF-8"]; auth: "trust" or
    "scram-sha-256", which local and remote users other than the harness have to pass."""

    def __init__(self, name="pg", major=15, config=None, initdb_args=(), auth="trust"):
        self.name = name
        self.major = major
        self.bin = find_binaries(major)
        self.user = SUPERUSER if os.getuid() == 0 else None
        self.folder = tempfile.mkdtemp(prefix=f"pgcrane-test-{name}-", dir=base_folder())
        self.data = os.path.join(self.folder, "data")
        self.log_path = os.path.join(self.folder, "server.log")
        self.process = None
        self.next_name = 0
        self.auth = auth
        self.lock = PortLock()
        self.port = self.lock.port
        try:
            self._create(config or {}, initdb_args)
        except BaseException:
            self.remove()
            raise

    def _create(self, config, initdb_args):
        if self.user:
            shutil.chown(self.folder, self.user, self.user)
        os.chmod(self.folder, 0o755)  # the socket is in here
        args = list(initdb_args)
        if not any("locale" in a for a in args):
            args += ["--locale=C.UTF-8", "--encoding=UTF8"]
        self._run("initdb", "-D", self.data, "-U", SUPERUSER, "-A", "trust", "-N", *args)
        settings = dict(DEFAULTS, **config)
        settings.update(port=self.port, listen_addresses="127.0.0.1", unix_socket_directories=self.folder)
        self.configure(settings)
        self._write_hba()

    def _as_owner(self, *command):
        """setpriv replaces itself by the program, so that the pid we get is the program's."""
        words = ["setpriv"]
        if self.user:
            words += [f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        if threading.current_thread() is threading.main_thread():
            words += ["--pdeathsig", "QUIT"]  # of the thread that started it: only the main one lives long enough
        return [*words, "--", *command]

    def _run(self, program, *args, timeout=120):
        run = subprocess.run(self._as_owner(os.path.join(self.bin, program), *args), cwd=self.folder, timeout=timeout,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f"{program} failed:\n{run.stdout}{run.stderr}")
        return run.stdout

    # --- configuration ---

    def configure(self, settings):
        """Appends settings to postgresql.conf; reload() or restart() to have them."""
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            for key, value in settings.items():
                text = str(value).replace("'", "''")
                file.write(f"{key} = '{text}'\n")

    def _write_hba(self):
        with open(os.path.join(self.data, "pg_hba.conf"), "w", encoding="ascii") as file:
            file.write(f"local all {SUPERUSER} trust\nlocal replication {SUPERUSER} trust\n")
            for where in ("local {} all {}\n", "host {} all 127.0.0.1/32 {}\n"):
                for what in ("all", "replication"):
                    file.write(where.format(what, self.auth))

    def set_auth(self, method):
        self.auth = method
        self._write_hba()
        self.reload()

    def reload(self):
        before = self.sql("SELECT pg_conf_load_time()")[0][0]
        self.sql("SELECT pg_reload_conf()")
        wait_until(lambda: self.sql("SELECT pg_conf_load_time()")[0][0] > before, what="reload")

    # --- life ---

    def start(self, timeout=60):
        assert self.process is None, "already started"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self._as_owner(os.path.join(self.bin, "postgres"), "-D", self.data),
                                            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)

        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} did not start:\n{self.log_text()}")
            with contextlib.suppress(psycopg.OperationalError):
                return bool(self.sql("SELECT 1"))
            return False

        wait_until(ready, timeout, f"{self.name} to accept connections")
        self.sql(f"ALTER ROLE {SUPERUSER} PASSWORD '{PASSWORD}'")
        return self

    def stop(self, mode="fast", timeout=60):
        """mode: smart, fast or immediate, as pg_ctl's."""
        if self.process is None:
            return
        sent = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if self.process.poll() is None:
            self.process.send_signal(sent)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
        self.process = None

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def kill9(self):
        """Kills the postmaster; returns when its backends have noticed and are gone, so that start() works."""
        self.process.send_signal(signal.SIGSTOP)  # no new ones from here on
        backends = children_of(self.process.pid)
        self.process.kill()
        self.process.wait()
        self.process = None
        wait_until(lambda: not any(is_alive(b) for b in backends), what="backends to end")

    def remove(self):
        self.stop("immediate")
        self.lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self, offset=0):
        with contextlib.suppress(OSError), open(self.log_path, "rb") as file:
            file.seek(offset)
            return file.read().decode("utf-8", "replace")
        return ""

    def log_size(self):
        return os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0

    # --- use ---

    def connect(self, db="postgres", user=SUPERUSER, **options):
        """A connection of the harness (autocommit), through the socket."""
        options.setdefault("autocommit", True)
        return psycopg.connect(host=self.folder, port=self.port, dbname=db, user=user, connect_timeout=10,
                               application_name="harness", **options)

    def sql(self, text, params=None, db="postgres", user=SUPERUSER):
        """Runs one or (without params) more statements; rows of the last one that has any."""
        with contextlib.closing(self.connect(db, user)) as conn:
            cursor = conn.execute(text, params)
            rows = []
            while True:
                if cursor.description is not None:
                    rows = cursor.fetchall()
                if not cursor.nextset():
                    return rows

    def psql_file(self, path, db="postgres", user=SUPERUSER, variables=None):
        """Runs a file of SQL through psql, which stops at the first error."""
        words = [newest_client("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path]
        for key, value in (variables or {}).items():
            words += ["-v", f"{key}={value}"]
        run = subprocess.run([*words, "-h", self.folder, "-p", str(self.port), "-U", user, "-d", db],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"psql -f {path}: {run.stderr}"
        return run.stdout

    def uri(self, db="postgres", user=SUPERUSER, password=None):
        """As a user of pgcrane would write it: over TCP."""
        if password is None and user == SUPERUSER and self.auth != "trust":
            password = PASSWORD
        secret = f":{quote(password, safe='')}" if password is not None else ""
        return f"postgresql://{quote(user, safe='')}{secret}@127.0.0.1:{self.port}/{quote(db, safe='')}"

    def dump_schema(self, db="postgres", extra=()):
        run = subprocess.run([newest_client("pg_dump"), "--schema-only", *extra, "-h", self.folder, "-p",
                              str(self.port), "-U", SUPERUSER, "-d", db], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def createdb(self, name=None, options=""):
        """A new database as an object; options is the tail of CREATE DATABASE."""
        if name is None:
            self.next_name += 1
            name = f"t{self.next_name}_{self.name}"
        self.sql(f"CREATE DATABASE {quote_ident(name)} {options}")
        return Database(self, name)


class Database:
    """One database of a cluster."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name

    @property
    def uri(self):
        return self.cluster.uri(self.name)

    def uri_as(self, user, password=None):
        return self.cluster.uri(self.name, user, password)

    def sql(self, text, params=None, user=SUPERUSER):
        return self.cluster.sql(text, params, self.name, user)

    def connect(self, user=SUPERUSER, **options):
        return self.cluster.connect(self.name, user, **options)

    def psql_file(self, path, user=SUPERUSER, variables=None):
        return self.cluster.psql_file(path, self.name, user, variables)

    def dump_schema(self, extra=()):
        return self.cluster.dump_schema(self.name, extra)

    def drop(self):
        """With whatever still holds it: sessions, slots, prepared transactions."""
        if self.cluster.process is None:
            self.cluster.start()
        for (gid,) in self.cluster.sql("SELECT gid FROM pg_prepared_xacts WHERE database = %s", (self.name,)):
            self.sql("ROLLBACK PREPARED " + "'" + gid.replace("'", "''") + "'")

        def gone():
            self.cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (self.name,))
            self.cluster.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                             " WHERE database = %s AND NOT active", (self.name,))
            with contextlib.suppress(psycopg.errors.ObjectInUse):
                self.cluster.sql(f"DROP DATABASE IF EXISTS {quote_ident(self.name)}")
                return True
            return False

        wait_until(gone, what=f"DROP DATABASE {self.name}")


def quote_ident(name):
    return '"' + name.replace('"', '""') + '"'


def children_of(parent):
    """(pid, start time) of the direct children of a process."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        fields = proc_stat(entry)
        if fields and int(fields[1]) == parent:
            found.add((int(entry), fields[19]))
    return found


def proc_stat(pid):
    """Fields of /proc/PID/stat from the state on (0: state, 1: parent, 19: start time); None when it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rsplit(")", 1)[-1].split()
        return fields if fields and fields[0] != "Z" else None
    return None


def is_alive(process):
    pid, started = process
    fields = proc_stat(pid)
    return fields is not None and fields[19] == started
