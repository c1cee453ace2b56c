"""Throw-away PostgreSQL clusters on unix sockets, owned by an unprivileged user, removed at the end."""
import glob
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile

# One documented configuration for both servers (README.md says why).
SETTINGS = {
    "shared_buffers": "2GB",
    "max_connections": "50",
    "wal_level": "replica",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "8GB",
    "min_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "autovacuum": "off",
    "maintenance_work_mem": "64MB",
    "listen_addresses": "''",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "timezone": "'UTC'",
    "lc_messages": "'C'",
}


class BenchError(Exception):
    """Something the person at the terminal has to know; shown without a traceback."""


def find_bindir(wanted=None):
    """Folder of the newest server installation, or the one asked for."""
    found = [wanted] if wanted else sorted(
        glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(re.search(r"/(\d+)/bin$", path).group(1)))
    if not found or not os.access(os.path.join(found[-1], "initdb"), os.X_OK):
        raise BenchError("no PostgreSQL server programs found: run tools/setup.sh bench, or give --bindir")
    return found[-1]


class Workspace:
    """A temporary folder that everything lives in; stops its clusters and removes itself."""

    def __init__(self, bindir, parent):
        self.bindir = bindir
        self.clusters = []
        self.owner = server_user()
        self.path = tempfile.mkdtemp(prefix="pgcrane-bench-", dir=parent)
        if self.owner:
            os.chown(self.path, self.owner.pw_uid, self.owner.pw_gid)
        warn_if_memory_disk(self.path)

    def __enter__(self):
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, raise_interrupt)
        return self

    def __exit__(self, *_):
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it behind
        for cluster in self.clusters:
            cluster.stop()
        shutil.rmtree(self.path, ignore_errors=True)
        return False

    def folder(self, name):
        path = os.path.join(self.path, name)
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path, 0o700)
        return path

    def cluster(self, name, overrides=None, port=None):
        """port: where it has to be a free one, because the overrides let it listen on the network."""
        cluster = Cluster(self, name, port or 5432 + len(self.clusters), {**SETTINGS, **(overrides or {})})
        self.clusters.append(cluster)
        cluster.start()
        return cluster

    def as_owner(self, argv):
        """PostgreSQL refuses to run as root: then the server's own user runs it."""
        return ["runuser", "-u", self.owner.pw_name, "--"] + argv if self.owner else argv


class Cluster:
    """One server. The port only names its socket: nothing listens on the network, unless the settings say so."""

    def __init__(self, space, name, port, settings):
        self.space = space
        self.port = port
        self.data = os.path.join(space.path, name)
        self.log = os.path.join(space.path, name + ".log")
        self.settings = settings

    def uri(self, database):
        return f"postgresql://postgres@/{database}?host={self.space.path}&port={self.port}"

    def start(self):
        self._run([self._bin("initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                   "--locale=C.UTF-8", "--no-sync"])
        lines = [f"{key} = {value}\n" for key, value in self.settings.items()]
        lines += [f"port = {self.port}\n", f"unix_socket_directories = '{self.space.path}'\n"]
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as conf:
            conf.writelines(lines)
        self._run([self._bin("pg_ctl"), "-D", self.data, "-l", self.log, "-w", "-t", "60", "start"])

    def stop(self):
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            subprocess.run(self.space.as_owner([self._bin("pg_ctl"), "-D", self.data, "-m", "immediate", "-w", "stop"]),
                           cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def sql(self, database, text, variables=None):
        """Runs SQL, gives the rows as lists of text."""
        argv = self.psql_argv(database) + ["-At", "-F", "\x1f", "-R", "\x1e"]
        for key, value in (variables or {}).items():
            argv += ["-v", f"{key}={value}"]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, start_new_session=True)
        if done.returncode != 0:
            raise BenchError(f"psql on {database}: {done.stderr.strip()}")
        out = done.stdout.rstrip("\n")
        return [row.split("\x1f") for row in out.split("\x1e")] if out else []

    def psql_argv(self, database):
        return [self._bin("psql"), "-Xqw", "-v", "ON_ERROR_STOP=1", "-d", self.uri(database)]

    def fresh_database(self, name):
        self.sql("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE);')
        self.sql("postgres", f'CREATE DATABASE "{name}" TEMPLATE template0;')

    def version(self):
        return self.sql("postgres", "SHOW server_version;")[0][0]

    def _bin(self, name):
        return os.path.join(self.space.bindir, name)

    def _run(self, argv):
        done = subprocess.run(self.space.as_owner(argv), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{argv[0]}: {done.stderr.strip()}")


def server_user():
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise BenchError("no user postgres to run servers as: run tools/setup.sh bench") from None


def raise_interrupt(*_):
    raise KeyboardInterrupt


def warn_if_memory_disk(path):
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False).stdout.strip()
    if kind in ("tmpfs", "ramfs"):
        print(f"warning: {path} is in memory; give --tmp a folder on a real disk", file=sys.stderr)
