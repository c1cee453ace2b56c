"""Did everything of an instance arrive? Both servers' catalogues, database by database and for the whole.

What two databases hold is compared by compare.py: definitions as pg_dump writes them (owners, grants, default privileges,
policies among them), rows, sequences, large objects, settings, comments. Here is what pg_dump does not tell.
"""
import contextlib
import re
import subprocess

import psycopg

from support import compare
from support.cluster import SUPERUSER, newest_client, quote_ident

# Lines of pg_dumpall that say nothing about the roles, and those about the harness' own role.
NOISE = re.compile(r"^(--|SET |\\(un)?restrict |$)")
OWN = re.compile(rf'(CREATE|ALTER) ROLE "?{SUPERUSER}"?( WITH |;)')

# What a membership is since 16, and cannot be before.
SINCE_16 = re.compile(r"(GRANT .* TO .*?)( WITH (ADMIN OPTION)?.*)?( GRANTED BY .*)?;$")

EXTENSIONS = """SELECT e.extname, e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname <> 'plpgsql'"""

# 18 has one for each NOT NULL, whatever it came from.
# Those of a key for each partition that it leads to are marked by no VALIDATE before 18, and are not looked at: the key's own is.
CONSTRAINTS = """SELECT contypid::regtype::text || conrelid::regclass::text || ' ' || conname, contype::text || ' validated ' || convalidated::text
 FROM pg_constraint WHERE contype NOT IN ('n', 't') AND (contype <> 'f' OR {of_no_other}) AND connamespace::regnamespace::text !~ '^(pg_|information_schema|pgcrane)'"""

DATABASE = """SELECT d.datname, pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datconnlimit,
  ARRAY(SELECT a::text FROM unnest(coalesce(d.datacl, acldefault('d', d.datdba))) a ORDER BY 1)
 FROM pg_database d WHERE d.datname = current_database()"""

# Tables and filled views that hold rows and have columns to know something about.
UNKNOWN = """SELECT c.oid::regclass::text, c.reltuples FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm', 'p') AND c.relispopulated AND c.relpersistence <> 't' AND n.nspname !~ '^(pg_|information_schema|pgcrane)'
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget IS DISTINCT FROM 0)
   AND (c.reltuples < 0 OR NOT EXISTS (SELECT FROM pg_statistic s WHERE s.starelid = c.oid)) ORDER BY 1"""

EXTENDED = """SELECT s.stxnamespace::regnamespace || '.' || s.stxname, s.stxrelid::regclass::text FROM pg_statistic_ext s
 WHERE NOT EXISTS (SELECT FROM pg_statistic_ext_data d WHERE d.stxoid = s.oid) ORDER BY 1"""


def globals_of(cluster):
    """What pg_dumpall says of roles: attributes, verifiers of passwords, memberships, settings."""
    run = subprocess.run([newest_client("pg_dumpall"), "--roles-only", "-d", cluster.uri()],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return sorted(line for line in run.stdout.splitlines() if not NOISE.match(line) and not OWN.match(line))


def named(rows):
    return {row[0]: row[1:] for row in rows}


def constraints(database):
    return named(database.sql(CONSTRAINTS.format(of_no_other="conparentid = 0" if database.cluster.major >= 11 else "true")))


def is_empty(database, relation):
    try:
        return not database.sql(f"SELECT 1 FROM {relation} LIMIT 1")
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return True  # a partition is on another server, which is nowhere: ANALYZE cannot read it either


def without_statistics(database):
    """Relations that hold rows, and of which the planner knows nothing; statistics objects without values."""
    unknown = [name for name, _ in database.sql(UNKNOWN) if not is_empty(database, name)]
    return unknown + [name for name, relation in database.sql(EXTENDED) if not is_empty(database, relation)]


@contextlib.contextmanager
def printed_alike(source, dest):
    """A database that prints its definitions as the destination does: the source; or where that is of another version, what psql
    makes of the source's dump on the destination's server."""
    if source.cluster.major == dest.cluster.major:
        yield source
        return
    text = compare.VERSION.sub("", source.dump_schema()).replace("SET transaction_timeout = 0;", "")  # which 17 has first
    made = dest.cluster.createdb(f"printed_{dest.cluster.next_name}")
    dest.cluster.next_name += 1
    try:
        run = subprocess.run([newest_client("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", made.uri], input=text,
                             capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        yield made
    finally:
        for (name,) in made.sql("SELECT quote_ident(subname) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database"
                                " WHERE datname = current_database())"):
            made.sql(f"DROP SUBSCRIPTION {name}")
        made.drop()


def differences(source, dest):
    """Of two databases, as texts. What the fence has set on the source is taken back first."""
    source.cluster.sql(f"ALTER DATABASE {quote_ident(source.name)} RESET default_transaction_read_only")
    with printed_alike(source, dest) as printed:
        problems = compare.differences(source.uri, dest.uri, definitions_uri=printed.uri)
    problems += compare.maps_differing("constraint", constraints(source), constraints(dest))
    problems += compare.maps_differing("database", named(source.sql(DATABASE)), named(dest.sql(DATABASE)))
    # A server of another version brings other versions of them: told by the checks.
    at = 1 if source.cluster.major == dest.cluster.major else 2
    problems += compare.maps_differing("extension", *({row[0]: row[at:] for row in side.sql(EXTENSIONS)} for side in (source, dest)))
    return problems + [f"no planner statistics of {name}" for name in without_statistics(dest)]


def assert_all_arrived(pairs):
    """pairs: (database of the source, the same on the destination), all of the same two servers."""
    problems = []
    for source, dest in pairs:
        problems += [f"{source.name}: {problem}" for problem in differences(source, dest)]
    source, dest = (globals_of(database.cluster) for database in pairs[0])
    if pairs[0][0].cluster.major < 16 <= pairs[0][1].cluster.major:
        source, dest = ([SINCE_16.sub(r"\1 \3;", line) for line in side] for side in (source, dest))
    problems += compare.lines_differing("roles", source, dest)
    assert not problems, "the instances differ:\n" + "\n".join(problems[:60])
