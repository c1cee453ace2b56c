"""Are two databases equal? By content, never by counts alone.

assert_equal() compares definitions (the text of pg_dump), the rows of every table and materialized view, sequences,
large objects, and settings and comment of the database. It connects with the given URIs, which must be superusers'.
"""
import contextlib
import difflib
import re
import subprocess
from collections import Counter

import psycopg

from support.cluster import newest_client, quote_ident

# Rows must have one text whatever the settings of server, database and role are.
SESSION = ("SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 3;"
           " SET bytea_output = 'hex'; SET xmloption = 'content'; SET lc_monetary = 'C'; SET row_security = off;"
           " SET search_path = pg_catalog; SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN"
           " ('statement_timeout', 'lock_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')")
OWN_SCHEMA = "pgcrane"
SHOWN = 5

# What pg_dump writes around the definitions: its own notes and the session's settings.
NOISE = re.compile(r"^(--$|-- (Name:|Dumped |PostgreSQL database dump)|SET [a-z_]+ = |\\(un)?restrict |"
                   r"SELECT pg_catalog\.set_config\('search_path')")

# What some builds of pg_dump say of servers before 18, of each column: a version of the attribute, nothing of the user's.
IDENT = r'(?:"(?:[^"]|"")*"|[\w$]+)'
VERSION = re.compile(rf"ALTER (?:FOREIGN )?TABLE (?:ONLY )?{IDENT}(?:\.{IDENT})? ALTER COLUMN {IDENT} SET \(pg_attver=\d+\);\n|pg_attver=\d+, |, pg_attver=\d+")

# The roles of a policy come in the order in which the server has them, which says nothing.
POLICY = re.compile(r"(CREATE POLICY .*? TO )(.*?)( USING | WITH CHECK |;$)")
NAME = re.compile(r'"(?:[^"]|"")*"|[^",\s]+')

# Everything in a schema of the user's; what an extension owns too, its configuration tables hold the user's rows.
USER_SCHEMA = """ n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT n.nspname = ANY (%s) """

TABLES = """SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relispopulated
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND """ + USER_SCHEMA + " ORDER BY 2, 3"

COLUMNS = """SELECT attname, atttypid = 'bytea'::regtype FROM pg_attribute
 WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""

SEQUENCES = """SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND """ + USER_SCHEMA + " ORDER BY 1, 2"

LARGE_OBJECTS = """SELECT m.oid::text, md5(lo_get(m.oid)), pg_get_userbyid(m.lomowner),
       ARRAY(SELECT a::text FROM unnest(coalesce(m.lomacl, acldefault('L', m.lomowner))) a ORDER BY 1),
       obj_description(m.oid, 'pg_largeobject')
  FROM pg_largeobject_metadata m ORDER BY m.oid"""

SETTINGS = """SELECT coalesce(r.rolname, ''), ARRAY(SELECT c FROM unnest(s.setconfig) c ORDER BY 1)
  FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
 WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1"""

COMMENT = """SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"""


def without_order(line):
    policy = POLICY.match(line)
    return line if not policy else f"{policy[1]}{', '.join(sorted(NAME.findall(policy[2])))}{policy[3]}{line[policy.end():]}"


class Side:
    """One of the two databases, with what is left out of it."""

    def __init__(self, uri, except_schemas):
        self.uri = uri
        self.skipped = [OWN_SCHEMA, *except_schemas]
        self.conn = psycopg.connect(uri, autocommit=True, connect_timeout=10, application_name="compare")
        self.conn.execute(SESSION)

    def rows(self, text, params=None):
        return self.conn.execute(text, params).fetchall()

    def schema(self, pg_dump):
        words = [pg_dump, "--schema-only", "-d", self.uri]
        for name in self.skipped:
            words += ["-N", quote_ident(name)]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"pg_dump: {run.stderr}"
        return [without_order(line) for line in VERSION.sub("", run.stdout).splitlines() if line and not NOISE.match(line)]

    def tables(self):
        return {(schema, name, kind): (oid, populated)
                for oid, schema, name, kind, populated in self.rows(TABLES, (self.skipped,))}

    def row_text(self, oid):
        """An expression for a whole row as text: NULL and '' differ in it, and bytea stays short."""
        columns = []
        for name, is_bytea in self.rows(COLUMNS, (oid,)):
            column = "r." + quote_ident(name)
            columns.append(f"md5({column})" if is_bytea else column)
        return f"ROW({', '.join(columns)})::text"

    def source(self, key, oid):
        schema, name, kind = key
        only = "" if kind == "m" else "ONLY "
        return f"(SELECT {self.row_text(oid)} AS t FROM {only}{quote_ident(schema)}.{quote_ident(name)} r) x"

    def digest(self, key, oid):
        return self.rows("SELECT count(*), md5(string_agg(md5(t), '' ORDER BY md5(t) COLLATE \"C\")) FROM "
                         + self.source(key, oid))[0]

    def hashes(self, key, oid):
        return Counter(h for (h,) in self.rows("SELECT md5(t) FROM " + self.source(key, oid)))

    def texts(self, key, oid, hashes):
        return [t for (t,) in self.rows(f"SELECT left(t, 400) FROM {self.source(key, oid)} WHERE md5(t) = ANY (%s)"
                                        f" ORDER BY 1 LIMIT {SHOWN}", (list(hashes),))]

    def sequences(self):
        found = {}
        for schema, name in self.rows(SEQUENCES, (self.skipped,)):
            text = f"SELECT last_value, is_called FROM {quote_ident(schema)}.{quote_ident(name)}"
            found[(schema, name)] = self.rows(text)[0]
        return found


def lines_differing(kind, left, right):
    diff = list(difflib.unified_diff(left, right, "source", "destination", lineterm="", n=2))
    return [f"{kind} differ:", *diff[:60]] if diff else []


def value_of(value):
    return "" if value is None else f": {value}"


def maps_differing(kind, left, right):
    """Two dictionaries, key by key."""
    problems = []
    for key in sorted(left.keys() | right.keys(), key=str):
        if key not in right:
            problems.append(f"{kind} {key}: missing at the destination{value_of(left[key])}")
        elif key not in left:
            problems.append(f"{kind} {key}: only at the destination{value_of(right[key])}")
        elif left[key] != right[key]:
            problems.append(f"{kind} {key}: {left[key]} at the source, {right[key]} at the destination")
    return problems


def rows_differing(source, dest, key, source_oid, dest_oid):
    left, right = source.hashes(key, source_oid), dest.hashes(key, dest_oid)
    problems = []
    for side, oid, hashes, what in ((source, source_oid, left - right, "only at the source"),
                                    (dest, dest_oid, right - left, "only at the destination")):
        if hashes:
            shown = "\n".join("    " + text for text in side.texts(key, oid, list(hashes)[:SHOWN]))
            problems.append(f"table {key[0]}.{key[1]}: {sum(hashes.values())} rows {what}, such as\n{shown}")
    return problems or [f"table {key[0]}.{key[1]}: contents differ"]


def data_differing(source, dest):
    left, right = source.tables(), dest.tables()
    problems = maps_differing("table", dict.fromkeys(left), dict.fromkeys(right))
    for key in sorted(left.keys() & right.keys()):
        (source_oid, source_full), (dest_oid, dest_full) = left[key], right[key]
        if source_full != dest_full:
            problems.append(f"materialized view {key[0]}.{key[1]}: populated {source_full} at the source, {dest_full} "
                            "at the destination")
        elif source_full and source.digest(key, source_oid) != dest.digest(key, dest_oid):
            problems += rows_differing(source, dest, key, source_oid, dest_oid)
    return problems


def differences(src_uri, dst_uri, except_schemas=(), pg_dump=None, definitions_uri=None):
    """Every difference as a text; an empty list means equal. pg_dump: which one, else the newest of this machine.
    definitions_uri: a database whose definitions stand for the source's, of a server that prints them as the destination does."""
    with contextlib.ExitStack() as stack:
        source, dest = Side(src_uri, except_schemas), Side(dst_uri, except_schemas)
        stack.callback(source.conn.close)
        stack.callback(dest.conn.close)
        pg_dump = pg_dump or newest_client("pg_dump")
        printed = Side(definitions_uri, except_schemas) if definitions_uri else source
        stack.callback(printed.conn.close)
        problems = lines_differing("definitions", printed.schema(pg_dump), dest.schema(pg_dump))
        problems += data_differing(source, dest)
        problems += maps_differing("sequence", source.sequences(), dest.sequences())
        for kind, query in (("large object", LARGE_OBJECTS), ("settings of the database for role", SETTINGS)):
            left, right = ({row[0]: row[1:] for row in side.rows(query)} for side in (source, dest))
            problems += maps_differing(kind, left, right)
        left, right = source.rows(COMMENT), dest.rows(COMMENT)
        if left != right:
            problems.append(f"comment of the database: {left[0][0]!r} at the source, {right[0][0]!r} at the destination")
        return problems


def assert_equal(src_uri, dst_uri, except_schemas=()):
    problems = differences(src_uri, dst_uri, except_schemas)
    assert not problems, "databases differ:\n" + "\n".join(problems[:40])
