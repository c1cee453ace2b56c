"""Driving test/support/apply_probe.c: a source and a destination that begin equal, and what the slot has between them."""
import contextlib
import json
import os

from support.compare import Side, data_differing
from support.program import Program, find_program

SLOT, ALL, KEYS = "pgcrane_apply", "pgcrane_apply_all", "pgcrane_apply_keys"
EVERYTHING = 1000000

WITH_IDENTITY = """SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^(pg_|information_schema)'
   AND (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid
        AND CASE c.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate ELSE i.indisreplident END))"""


class Pair:
    """One schema in two databases. run() on the source, then apply(ROWS) and they are equal."""

    def __init__(self, program, source, dest):
        self.program, self.source, self.dest = program, source, dest
        self.dest_uri = dest.uri

    def as_plain_role(self):
        """Applied by a role that may not set session_replication_role, and owns the tables."""
        role = f"plain_{self.dest.name}"
        self.dest.sql(f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {self.dest.name} TO {role}")
        for (table,) in self.dest.sql("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"):
            self.dest.sql(f"ALTER TABLE {table} OWNER TO {role}")
        self.dest_uri = self.dest.uri_as(role)

    def define(self, text):
        self.source.sql(text)
        self.dest.sql(text)

    def start(self):
        """Publications and the slot: what comes from here on is in the stream."""
        self.source.sql(f"CREATE PUBLICATION {ALL} FOR ALL TABLES WITH (publish = 'insert, truncate')")
        tables = [name for (name,) in self.source.sql(WITH_IDENTITY)]
        self.source.sql(f"CREATE PUBLICATION {KEYS} {'FOR TABLE ' + ', '.join(tables) if tables else ''}"
                        " WITH (publish = 'update, delete')")
        self.source.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (SLOT,))

    def run(self, text, params=None):
        return self.source.sql(text, params)

    def apply(self, rows=EVERYTHING, code=0, env=None):
        process = self.program.popen(self.source.uri, self.dest_uri, "apply", SLOT, f"{ALL},{KEYS}", str(rows), env=env)
        out, errors = process.communicate(timeout=120)
        assert "Sanitizer" not in errors, errors
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{errors}"
        self.log = errors
        return json.loads(out.splitlines()[-1]) if out else None

    def fails(self, reason, rows=EVERYTHING):
        found = self.apply(rows, code=1)
        assert found["reason"] == reason, found
        return found["error"]

    def position(self):
        rows = self.dest.sql("SELECT lsn, transactions FROM pgcrane.position WHERE lane = 0")
        return rows[0] if rows else None

    def equal(self):
        """All rows of all tables. Definitions come from one text here; sequences are no part of the stream."""
        with contextlib.ExitStack() as stack:
            source, dest = Side(self.source.uri, ()), Side(self.dest.uri, ())
            stack.callback(source.conn.close)
            stack.callback(dest.conn.close)
            problems = data_differing(source, dest)
        assert not problems, "databases differ:\n" + "\n".join(problems)


def apply_program(tmp_path):
    return Program(tmp_path / "apply", os.path.join(os.path.dirname(find_program()), "apply_probe"))
