"""The tools that are compared. Each is a function of a Setup that gives what to call with the measured Run."""
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass

from lib.floor import Floor

SPLIT = "200 MB"


@dataclass
class Setup:
    """What one run works on."""
    space: object
    source: object
    dest: object
    database: str  # on the source
    target: str    # on the destination: made anew, empty
    jobs: int
    pgcrane: str

    def program(self, name):
        return os.path.join(self.space.bindir, name)

    @property
    def source_uri(self):
        return self.source.uri(self.database)

    @property
    def dest_uri(self):
        return self.dest.uri(self.target)


def prepare_pgcrane(setup):
    argv = [setup.pgcrane, "migrate", setup.source_uri, setup.dest_uri, "--jobs", str(setup.jobs), "--index-jobs",
            str(setup.jobs), "--state-dir", setup.space.folder("state"), "--yes", "--quiet"]
    return lambda run: run.command(argv)


def prepare_dump_restore(setup):
    folder = os.path.join(setup.space.path, "dump")
    shutil.rmtree(folder, ignore_errors=True)
    jobs = ["-j", str(setup.jobs)]

    def work(run):
        run.command([setup.program("pg_dump"), "-Fd", *jobs, "-f", folder, "-d", setup.source_uri])
        run.command([setup.program("pg_restore"), *jobs, "-d", setup.dest_uri, folder])

    return work


def prepare_pgcopydb(setup, extra=()):
    folder = setup.space.folder("pgcopydb")
    argv = ["pgcopydb", "clone", "--source", setup.source_uri, "--target", setup.dest_uri, "--dir", folder,
            "--restart", "--table-jobs", str(setup.jobs), "--index-jobs", str(setup.jobs), *extra]
    return lambda run: run.command(argv)


def prepare_pgcopydb_split(setup):
    return prepare_pgcopydb(setup, ("--split-tables-larger-than", SPLIT))


def prepare_pipe(setup):
    dump = [setup.program("pg_dump"), "-d", setup.source_uri]
    pipe = f"set -o pipefail; {shlex.join(dump)} | {shlex.join(setup.dest.psql_argv(setup.target))}"
    return lambda run: run.command(["bash", "-c", pipe])


def prepare_floor(setup):
    dump = [setup.program("pg_dump"), "--section=pre-data", "-d", setup.source_uri]
    pipe = f"set -o pipefail; {shlex.join(dump)} | {shlex.join(setup.dest.psql_argv(setup.target))}"
    subprocess.run(["bash", "-c", pipe], check=True, stdout=subprocess.DEVNULL)
    return Floor(setup)


@dataclass
class Tool:
    prepare: object
    title: str
    family: str  # of several variants of one family the best one is shown
    constraints: bool = True  # must foreign keys and the like be there?
    program: str = ""


TOOLS = {
    "pgcrane": Tool(prepare_pgcrane, "pgcrane migrate", "pgcrane"),
    "dump-restore": Tool(prepare_dump_restore, "pg_dump -Fd -j, pg_restore -j", "dump-restore"),
    "pgcopydb": Tool(prepare_pgcopydb, "pgcopydb clone", "pgcopydb", program="pgcopydb"),
    "pgcopydb-split": Tool(prepare_pgcopydb_split, "pgcopydb clone, tables split", "pgcopydb", program="pgcopydb"),
    "pipe": Tool(prepare_pipe, "pg_dump \\| psql", "pipe"),
    "floor": Tool(prepare_floor, "floor: raw COPY + bare indexes", "floor", constraints=False),
}


def why_missing(tool, pgcrane):
    """None when the tool can run here, else the reason."""
    if tool.family == "pgcrane" and not os.access(pgcrane, os.X_OK):
        return f"{pgcrane} is not there: run make"
    if tool.program and not shutil.which(tool.program):
        return f"{tool.program} is not installed: run tools/setup.sh bench"
    return None
