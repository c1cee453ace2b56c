"""Driving a continuous migration: `pgcrane migrate --follow` in the background, promoted, killed and started again.

    following = Following(pgcrane, source_db, dest_db)      # pgcrane: a Program
    following.start(); following.wait_caught_up()
    following.kill("worker"); following.again()             # the same command
    promoted = following.promote()                          # by `pgcrane promote`
"""
import contextlib
import os
import signal
import time

from support import migration
from support.cluster import is_alive, proc_stat, wait_until
from support.program import json_lines

SMALL_LAG = 64 * 1024
PARTS = ("worker", "keeper", "session", "everything")


class Following:
    """source_uri, dest_uri: other ways to the databases, such as a proxy's."""

    def __init__(self, program, source, dest, *flags, source_uri=None, dest_uri=None):
        self.program, self.source, self.dest = program, source, dest
        self.uris = (source_uri or source.uri, dest_uri or dest.uri)
        self.flags = (*migration.FLAGS, "--follow", *flags)
        self.process, self.lines, self.reader = None, [], None
        self.all_lines = []  # of every run
        self.started = None

    # --- the command ---

    def start(self, env=None):
        if self.process is not None:
            assert self.process.poll() is not None, "it runs already"
            self.reader.join(60)
            self.process.stdout.close()
            self.process.stderr.close()
        self.process = self.program.popen("migrate", *self.uris, *self.flags, env=env)
        self.started = time.monotonic()
        self.lines, self.reader = migration.follow(self.process)
        return self

    again = start

    def end(self, timeout=120):
        """Waits for the end of the run; its exit code."""
        code = self.process.wait(timeout)
        self.reader.join(timeout)
        self.stderr = self.process.stderr.read()
        self.all_lines += self.lines
        assert "Sanitizer" not in self.stderr, self.stderr
        return code

    def stop(self, timeout=60):
        """As by Ctrl-C: keeps what is committed."""
        self.process.send_signal(signal.SIGINT)
        return self.end(timeout)

    def running(self):
        return self.process is not None and self.process.poll() is None

    # --- what it says ---

    def bodies(self, kind):
        return [line["body"] for line in list(self.lines) if line["type"] == kind]

    def cdc(self):
        """The last known state of following, {} before there is any."""
        found = [body["cdc"] for body in self.bodies("PROGRESS") if body.get("cdc")]
        return found[-1] if found else {}

    def failure(self):
        found = self.bodies("FAILED")
        return found[-1] if found else None

    def said(self):
        """For messages of failed assertions."""
        tail = [line for line in list(self.lines) if line["type"] != "PROGRESS"][-8:]
        return f"{tail}\nlast cdc: {self.cdc()}"

    def wait_state(self, *states, timeout=120):
        def there():
            assert self.running() or self.cdc().get("state") in states, f"it has ended:\n{self.said()}\n{self.errors()}"
            return self.cdc().get("state") in states
        wait_until(there, timeout, f"{states}: {self.cdc()}")

    def errors(self):
        if self.running():
            return ""
        with contextlib.suppress(ValueError):
            self.stderr = getattr(self, "stderr", "") + self.process.stderr.read()
        return getattr(self, "stderr", "")

    def wait_following(self, timeout=120):
        """The copy is done, changes are applied, whether caught up or not."""
        self.wait_state("CATCHING_UP", "FOLLOWING", timeout=timeout)

    def wait_caught_up(self, timeout=120, lag_bytes=SMALL_LAG):
        def caught_up():
            cdc = self.cdc()
            assert self.running(), f"it has ended:\n{self.said()}\n{self.errors()}"
            return cdc.get("state") == "FOLLOWING" and 0 <= cdc.get("lag_bytes", -1) <= lag_bytes
        wait_until(caught_up, timeout, f"it to catch up: {self.cdc()}")

    def wait_applied(self, lsn=None, timeout=120):
        """Everything that the source has committed by now (or up to lsn) is durable in the destination."""
        lsn = lsn or self.source.sql("SELECT pg_current_wal_insert_lsn()::text")[0][0]
        wait_until(lambda: self.position() and self.source.sql("SELECT %s::pg_lsn >= %s::pg_lsn", (self.position(), lsn))[0][0],
                   timeout, f"{lsn} to be applied; it is at {self.position()}, {self.cdc()}")

    # --- the ledger ---

    def position(self):
        rows = self.dest.sql("SELECT lsn::text FROM pgcrane.position WHERE lane = 0")
        return rows[0][0] if rows else None

    def transactions(self):
        """Of the source, applied by the stream over all runs."""
        rows = self.dest.sql("SELECT transactions FROM pgcrane.position WHERE lane = 0")
        return rows[0][0] if rows else 0

    def copied_rows(self, table):
        """Of a table, by the copy: (rows, whether all tables show the moment of one snapshot)."""
        return self.dest.sql("SELECT (SELECT coalesce(sum(c.rows), 0)::bigint FROM pgcrane.chunk c JOIN pgcrane.relation r"
                             " ON r.oid = c.relation WHERE r.schema_name || '.' || r.table_name = %s),"
                             " (SELECT count(DISTINCT snapshot) = 1 FROM pgcrane.relation)", (table,))[0]

    # --- other commands ---

    def command(self, name, *args, timeout=120, check=True, env=None):
        result = self.program(name, *args, "--state-dir", self.program.state_dir, timeout=timeout, env=env)
        assert not check or result.code == 0, f"pgcrane {name} failed\n{result}\nmigrate:\n{self.said()}\n{self.errors()}"
        return result

    def promote(self, *flags, timeout=180, check=True, **options):
        """By `pgcrane promote`; the migrate command ends with it, successfully."""
        result = self.command("promote", "--json", *flags, timeout=timeout, check=check, **options)
        if check and "--dry-run" not in flags and self.process is not None:
            code = self.end(timeout)
            assert code == 0, f"migrate ended with {code} after the promote\n{self.said()}\n{self.stderr}"
        return result

    def promoted(self, result):
        """The message PROMOTED of a promote's output."""
        return next(line["body"] for line in result.lines if line["type"] == "PROMOTED")

    def status(self):
        return json_lines(self.command("status", "--json").stdout)

    def abort(self, *flags, **options):
        return self.command("abort", "--yes", *flags, **options)

    # --- blows ---

    def pids(self, part):
        """session: the command itself (the control plane); worker, keeper: its processes."""
        processes = self.program.processes()
        if part == "everything":
            return list(processes)
        word = {"session": "migrate"}.get(part, part)
        return [pid for pid, line in processes.items() if word in line.split()[1:2]]

    def kill(self, part, sent=signal.SIGKILL):
        """False when there was none of that kind."""
        hit = False
        for pid in self.pids(part):
            fields = proc_stat(pid)
            if fields and is_alive((pid, fields[19])):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sent)
                    hit = True
        return hit
