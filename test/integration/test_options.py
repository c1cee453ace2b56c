"""Each option of `pgcrane migrate` does what it says."""
import json
import os
import re
import stat

import pytest

from support import compare
from support.cluster import ROOT, find_binaries, wait_until
from support.migration import (FLAGS, OBJECTS, assert_done, assert_fails, assert_nothing_left, bodies, chunks_done,
                               data_file, definitions, failure_of, finding, has_ledger, killed_by_failpoint, migrate_equal, report_of, sessions)

pytestmark = pytest.mark.turns(4)

TABLES = """SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_|^information_schema$' ORDER BY 1"""
# The flag, and the test that shows it.
SHOWN_BY = {
    "jobs": "test_jobs", "index-jobs": "test_jobs", "split-size": "test_split_size", "vacuum": "test_vacuum",
    "no-analyze": "test_analyze", "schema": "test_schema_filters", "exclude-schema": "test_schema_filters",
    "table": "test_table_filters", "exclude-table": "test_table_filters", "schema-only": "test_schema_only",
    "data-only": "test_data_only", "tablespace-map": "test_tablespace_map", "no-owner": "test_no_owner", "no-acl": "test_no_acl", "state-dir": "test_state_dir",
    "pg-bindir": "test_pg_bindir", "snapshot-lease": "test_snapshot_lease", "restart": "test_restart",
    "dry-run": "test_dry_run", "yes": "test_restart_asks", "json": "test_json", "quiet": "test_quiet",
    "no-color": "test_no_colour", "verbose": "test_verbose", "watch": "test_status",
    "source-only": "test_source_only", "listen": "test_of_serve", "config": "test_of_serve",
    "store": "test_of_the_service", "key-file": "test_of_the_service", "api-only": "test_of_serve", "allow-hooks": "test_of_serve",
    "instance-user": "test_of_serve", "role": "test_of_the_service",
    "name": "test_of_the_service", "expires": "test_of_the_service",
    "dest-only": "test_source_only", "tls-cert": "test_of_serve", "tls-key": "test_of_serve",
}
# Of the commands over the API; what they do is in test_cli_service.py.
OF_CLIENTS = {
    "profiles": ["server", "token-file", "ca-file", "project", "location", "output", "filter", "sort-by", "async", "timeout",
                 "host", "port", "user", "database", "password-file", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "side",
                 "provider", "display-name", "label"],
    "jobs": ["type", "all-databases", "parallel", "skip-checks", "allow-non-empty", "fix", "failed", "force", "for", "stream"],
    "objects": ["refresh"],
    "instances": ["pg-version", "tier", "flag", "disk-gb", "network", "require-tls", "regional"],
    "apply": ["file", "secrets"],
}
SHOWN_BY.update({flag: "test_of_clients" for flags in OF_CLIENTS.values() for flag in flags})
# Those that mean something with --follow only: here, that they are refused without it; what they do, in the tests of
# following and promoting.
WITH_FOLLOW = {
    "ddl": "true", "identity-full": "true", "promote": "auto", "max-retained": "1GB", "retry-for": "5", "fence": "none",
    "fence-timeout": "5", "lag-limit": "5", "lag-timeout": "5", "recopy-limit": "1MB", "hook-before": "true",
    "hook-after": "true", "hook-undo": "true", "keep-slot": "true", "accept-ddl": "true",
}


@pytest.fixture
def small(source_db):
    source_db.psql_file(data_file("small.sql"))
    return source_db


@pytest.fixture
def parts(source_db):
    """Three schemas that need each other."""
    source_db.sql('''
        CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA c;
        CREATE TYPE b.kind AS ENUM ('x', 'y');
        CREATE FUNCTION b.start() RETURNS integer LANGUAGE sql AS 'SELECT 5';
        CREATE TABLE a.one (id serial PRIMARY KEY, k b.kind DEFAULT 'x', n integer DEFAULT b.start());
        CREATE TABLE a.two (id integer PRIMARY KEY, one integer REFERENCES a.one, v text);
        CREATE TABLE b.three (id integer PRIMARY KEY, one integer REFERENCES a.one);
        CREATE TABLE c."Four ""4""" (id integer PRIMARY KEY);
        CREATE TABLE c.parted (id integer PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE c.parted_1 PARTITION OF c.parted FOR VALUES FROM (0) TO (100);
        CREATE TABLE c.parted_2 PARTITION OF c.parted FOR VALUES FROM (100) TO (200);
        CREATE VIEW c.over_two AS SELECT * FROM a.two;
        CREATE INDEX two_v ON a.two (v);
        INSERT INTO a.one (k) SELECT 'y' FROM generate_series(1, 10);
        INSERT INTO a.two SELECT g, g, 'v' FROM generate_series(1, 10) g;
        INSERT INTO b.three SELECT g, g FROM generate_series(1, 10) g;
        INSERT INTO c."Four ""4""" SELECT generate_series(1, 10);
        INSERT INTO c.parted SELECT generate_series(0, 199)''')
    return source_db


def tables(database):
    return [name for (name,) in database.sql(TABLES)]


@pytest.mark.turns(1)
def test_every_option_is_shown():
    with open(os.path.join(ROOT, "src", "model", "options.def"), encoding="utf-8") as file:
        flags = set(re.findall(r'^X\(\w+, \w+, "([a-z-]+)"', file.read(), re.M))
    assert flags == set(SHOWN_BY) | set(WITH_FOLLOW) | {"follow"}
    assert all(name in globals() for name in SHOWN_BY.values())


def test_of_serve(pgcrane):
    """What they do is in test_serve.py. A migration takes none of them, from its environment either."""
    for flag in ("store", "listen", "tls-cert", "tls-key", "config", "instance-user"):
        assert f"--{flag}=" in pgcrane("serve", "--help").stdout
        result = pgcrane("migrate", "host=/nowhere", "host=/nowhere", f"--{flag}=x")
        assert result.code == 64 and f"--{flag}" in result.stderr
    for flag in ("api-only", "allow-hooks"):
        assert f"--{flag}" in pgcrane("serve", "--help").stdout
    shown = pgcrane("--help").stdout
    assert all(re.search(rf"^  {name} ", shown, re.M) for name in ("serve", "profiles", "jobs", "objects", "operations", "instances", "apply"))


def test_of_the_service(pgcrane):
    """What they do is in test_tokens.py. A migration takes none of them, and keeps none in its files, from its environment either."""
    for flag in ("store", "key-file", "role", "name", "expires"):
        assert f"--{flag}=" in pgcrane("tokens", "--help").stdout + pgcrane("keys", "--help").stdout
        assert pgcrane("migrate", "host=/nowhere", "host=/nowhere", f"--{flag}=x").code == 64


def test_of_clients(pgcrane):
    """A migration takes none of them."""
    for command, flags in OF_CLIENTS.items():
        shown = pgcrane(command, "--help").stdout
        assert all(re.search(f"--{flag}[= \n]", shown) for flag in flags), shown
    for flag in sum(OF_CLIENTS.values(), []):
        assert pgcrane("migrate", "host=/nowhere", "host=/nowhere", f"--{flag}=x").code == 64, flag


@pytest.mark.parametrize("words, message", [
    (["--tablespace-map=fast"], '"fast" is not OLD=NEW[,OLD=NEW...]'),
    (["--tablespace-map=a=b,a=c"], "names a tablespace of the source twice"),
    (["--tablespace-map=a=b", "--data-only"], "it does not go with --data-only"),
])
def test_tablespace_map(pgcrane, words, message):
    """What is refused; what it does is in test_tablespaces.py."""
    result = pgcrane("migrate", "host=/nowhere", "host=/nowhere", *words)
    assert result.code == 64 and message in result.stderr, result


def test_source_only(pgcrane):
    """`pgcrane abort` alone has them; what they do is in test_follow_commands.py and test_abort_dest.py."""
    for flag in ("--source-only", "--dest-only"):
        assert flag in pgcrane("abort", "--help").stdout
        assert pgcrane("migrate", "host=/nowhere", "host=/nowhere", flag).code == 64


@pytest.mark.parametrize("flag", sorted(WITH_FOLLOW))
def test_needs_follow(pgcrane, flag):
    """Refused before anything is tried: there are no such servers."""
    result = pgcrane("migrate", "host=/nowhere", "host=/nowhere", f"--{flag}={WITH_FOLLOW[flag]}")
    assert result.code == 64, result
    assert f"--{flag} goes with --follow only" in result.stderr


@pytest.mark.parametrize("words, message", [
    (["--follow", "--schema-only"], "it does not go with --schema-only"),
    (["--follow", "--data-only"], "it does not go with --data-only"),
    (["--follow", "--promote=soon"], '--promote: "soon" is not auto or manual'),
    (["--follow", "--fence=half"], '--fence: "half" is not full, locks or none'),
    (["--follow", "--fence-timeout=0"], "--fence-timeout is from 1 to 3600 seconds"),
])
def test_follow_refuses(pgcrane, words, message):
    result = pgcrane("migrate", "host=/nowhere", "host=/nowhere", *words)
    assert result.code == 64, result
    assert message in result.stderr


def test_status(small, dest_db, pgcrane, tmp_path):
    """Of a migration under way, of one that was killed, and of one that is done; then there is nothing to give up."""
    where = ["--state-dir", tmp_path / "state"]
    empty = pgcrane("status", *where)
    assert empty.code == 0 and "There is no migration" in empty.stdout
    running = pgcrane.popen("migrate", small.uri, dest_db.uri, "--yes", "--split-size", "128kB", *where,
                            env={"PGCRANE_FAILPOINT": "copy.before_chunk:sleep=500"})

    def state():
        lines = pgcrane("status", "--json", *where).stdout.splitlines()
        return json.loads(lines[0]) if lines else {}

    wait_until(lambda: state().get("phase") == "FULL_DUMP", what="the copy to begin")
    now = state()
    assert (now["state"], now["running"], now["pid"]) == ("RUNNING", True, running.pid)
    shown = pgcrane("status", now["job_id"][:5], *where)
    assert "State        RUNNING, FULL_DUMP" in shown.stdout and " Copy" in shown.stdout
    watcher = pgcrane.popen("status", "--watch", "--json", *where)
    running.kill()
    running.communicate()
    out, err = watcher.communicate(timeout=30)
    assert watcher.returncode == 0, err
    last = json.loads(out.splitlines()[-1])
    assert (last["state"], last["running"]) == ("STOPPED", False)
    assert last["error"]["reason"] == "WORKER_LOST"

    assert pgcrane("promote", *where).code == 2
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, *where))
    done = state()
    assert (done["state"], done["running"], done["error"]) == ("COMPLETED", False, None)
    assert done["report"]["job_id"] == done["job_id"]
    compare.assert_equal(small.uri, dest_db.uri)
    for command in ("promote", "abort"):
        refused = pgcrane(command, "--yes", *where)
        assert refused.code == 2 and "ALREADY_DONE" in refused.stderr


def test_jobs(small, dest_db, pgcrane):
    """Never more sessions at the source than lanes and a few of the house."""
    result = pgcrane("migrate", small.uri, dest_db.uri, "--yes", "--json", "-j", "1", "--index-jobs", "2")
    report = assert_done(result)
    assert (report["jobs"], report["index_jobs"]) == (1, 2)
    compare.assert_equal(small.uri, dest_db.uri)


def test_split_size(small, source, dest, dest_db, pgcrane):
    coarse = assert_done(pgcrane("migrate", small.uri, dest_db.uri, "--yes", "--json", "--split-size", "1GB"))
    other = dest.createdb()
    try:
        fine = assert_done(pgcrane("migrate", small.uri, other.uri, "--yes", "--json", "--split-size", "128kB"))
        # bank.big has about 3.5 MB
        assert fine["chunks_copied"] - coarse["chunks_copied"] > 20
        compare.assert_equal(small.uri, other.uri)
    finally:
        other.drop()


@pytest.mark.parametrize("wrong", ("--jobs=-1", "--jobs=many", "--split-size=12parsec", "--snapshot-lease=x", "--nonsense"))
def test_wrong_values(wrong, source_db, dest_db, pgcrane):
    result = pgcrane("migrate", source_db.uri, dest_db.uri, wrong)
    assert result.code == 64, result
    assert wrong.split("=")[0] in result.stderr


def test_wrong_combinations(source_db, dest_db, pgcrane):
    result = pgcrane("migrate", source_db.uri, dest_db.uri, "--schema-only", "--data-only")
    assert result.code == 64, result
    assert pgcrane("migrate", source_db.uri).code == 64
    assert pgcrane("migrate", source_db.uri, dest_db.uri, dest_db.uri).code == 64
    assert pgcrane("migrate", "postgresql://[", dest_db.uri).code == 64


QUIET_TABLE = "CREATE TABLE t (id int PRIMARY KEY, v int) WITH (autovacuum_enabled = false); INSERT INTO t SELECT g, g % 10 FROM generate_series(1, 20000) g"


def statistics(database):
    return database.sql("SELECT reltuples::bigint, relallvisible FROM pg_class WHERE oid = 't'::regclass")[0] + database.sql(
        "SELECT count(*) FROM pg_stats WHERE tablename = 't'")[0]


def test_analyze(source_db, dest_db, dest, pgcrane):
    source_db.sql(QUIET_TABLE)
    assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, "--yes", "--json"))
    assert statistics(dest_db)[0] == 20000 and statistics(dest_db)[2] == 2
    other = dest.createdb()
    try:
        assert_done(pgcrane("migrate", source_db.uri, other.uri, "--yes", "--json", "--no-analyze"))
        assert statistics(other)[2] == 0
    finally:
        other.drop()


def test_vacuum(source_db, dest_db, pgcrane):
    source_db.sql(QUIET_TABLE)
    assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, "--yes", "--json", "--vacuum"))
    tuples, visible, columns = statistics(dest_db)
    assert tuples == 20000 and visible > 50 and columns == 2


@pytest.mark.parametrize("flags, expected", (
    (("-n", "a"), ["a.one", "a.two"]),
    (("--schema", "a", "--schema", "c"), ["a.one", "a.two", 'c.Four "4"', "c.parted", "c.parted_1", "c.parted_2"]),
    (("-N", "a"), ['c.Four "4"', "b.three", "c.parted", "c.parted_1", "c.parted_2"]),
    (("--exclude-schema", "?"), []),
))
def test_schema_filters(flags, expected, parts, dest_db, pgcrane):
    result = pgcrane("migrate", parts.uri, dest_db.uri, *FLAGS, *flags)
    assert_done(result)
    assert tables(dest_db) == sorted(expected)
    if "a" in flags and flags[0] != "-N":
        assert dest_db.sql("SELECT count(*), min(k::text), max(n) FROM a.one") == [(10, "y", 5)]
        assert dest_db.sql("SELECT nextval('a.one_id_seq')") == [(11,)]
    assert_nothing_left(pgcrane, parts, dest_db)


@pytest.mark.parametrize("flags, expected", (
    (("-t", "a.two"), ["a.two"]),
    (("--table", "a.*", "--exclude-table", "a.o*"), ["a.two"]),
    (("--table", "two"), ["a.two"]),
    (("-t", 'c."Four ""4"""'), ['c.Four "4"']),
    (("-t", "c.parted"), ["c.parted", "c.parted_1", "c.parted_2"]),
    (("-T", "*.two", "-T", "c.parted*"), ["a.one", "b.three", 'c.Four "4"']),
))
def test_table_filters(flags, expected, parts, dest_db, pgcrane):
    result = pgcrane("migrate", parts.uri, dest_db.uri, *FLAGS, *flags)
    report = assert_done(result)
    assert tables(dest_db) == sorted(expected)
    for name in expected:
        schema, table = name.split(".")
        quoted = '"' + table.replace('"', '""') + '"'
        assert dest_db.sql(f"SELECT count(*) FROM {schema}.{quoted}") == parts.sql(f"SELECT count(*) FROM {schema}.{quoted}")
    if "*.two" in flags:
        # The view goes with its table, and the report says so.
        assert any("over_two" in entry["object"] for entry in report["not_moved"]), report["not_moved"]


def test_filter_takes_the_foreign_key_away(parts, dest_db, pgcrane):
    """A key to a table that stays behind is left out and listed; never a failing ADD CONSTRAINT."""
    report = assert_done(pgcrane("migrate", parts.uri, dest_db.uri, *FLAGS, "--exclude-table", "a.one"))
    assert dest_db.sql("SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == [(0,)]
    assert len([entry for entry in report["not_moved"] if "fkey" in entry["object"]]) == 2


@pytest.mark.parametrize("flags", (("-t", "a.none"), ("-n", "nothing*"), ("-t", 'a."unclosed')))
def test_filter_without_a_match(flags, parts, dest_db, pgcrane):
    result = pgcrane("migrate", parts.uri, dest_db.uri, *FLAGS, *flags)
    assert_fails(result, 64, "USAGE")
    # Nothing that would make the corrected command a mismatch.
    assert tables(dest_db) == [] and not has_ledger(dest_db)
    assert_done(pgcrane("migrate", parts.uri, dest_db.uri, *FLAGS, "-n", "a"))


def test_schema_only(small, dest_db, pgcrane):
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--schema-only"))
    assert definitions(small) == definitions(dest_db)
    assert dest_db.sql("SELECT count(*) FROM bank.big") == [(0,)]
    assert dest_db.sql("SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]
    assert_nothing_left(pgcrane, small, dest_db)


def test_data_only(source_db, dest_db, pgcrane):
    """Into tables that are there, with their keys; sequences too."""
    ddl = ("CREATE TABLE up (id serial PRIMARY KEY, v text); CREATE TABLE down (id int PRIMARY KEY, up int REFERENCES up,"
           " twice int GENERATED ALWAYS AS (id * 2) STORED); CREATE TABLE loose (g int GENERATED ALWAYS AS IDENTITY, x text)")
    for database in (source_db, dest_db):
        database.sql(ddl)
    source_db.sql("INSERT INTO up (v) SELECT 'v' || g FROM generate_series(1, 30000) g;"
                  "INSERT INTO down SELECT g, g FROM generate_series(1, 30000) g; INSERT INTO loose (x) SELECT 'x' FROM generate_series(1, 100)")
    migrate_equal(pgcrane, source_db, dest_db, "--data-only")


def test_data_only_needs_the_tables(source_db, dest_db, pgcrane):
    source_db.sql("CREATE TABLE here (id int)")
    result = pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--data-only")
    assert_fails(result, 2, "PREFLIGHT_FAILED")
    assert not has_ledger(dest_db)


@pytest.fixture
def owned(source, source_db, dest, dest_db):
    """Objects of a role that the destination lacks, or has."""
    source.sql("DO $$ BEGIN IF to_regrole('only_at_source') IS NULL THEN CREATE ROLE only_at_source; END IF; END $$")
    source_db.sql("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO only_at_source; CREATE TABLE mine (id int);"
                  "GRANT SELECT ON mine TO only_at_source")
    return source_db


def test_no_owner(owned, dest_db, pgcrane):
    result = pgcrane("migrate", owned.uri, dest_db.uri, *FLAGS)
    assert_fails(result, 2, "PREFLIGHT_FAILED")
    assert "only_at_source" in str(result.lines)
    assert_done(pgcrane("migrate", owned.uri, dest_db.uri, *FLAGS, "--no-owner", "--no-acl"))
    assert dest_db.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == [("postgres",)]


def test_no_acl(small, dest_db, pgcrane):
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "-x"))
    assert dest_db.sql("SELECT relacl FROM pg_class WHERE oid = 'bank.big'::regclass") == [(None,)]
    assert definitions(small, "--no-acl") == definitions(dest_db, "--no-acl")


def test_state_dir(small, dest_db, pgcrane, tmp_path):
    folder = tmp_path / "elsewhere" / "state"
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--state-dir", folder))
    files = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
    assert files, "no log, no report"
    for path in files:
        assert not os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO), f"others may read {path}"


def test_secrets_stay_secret(own_cluster, dest_db, pgcrane):
    """The password is in no output, no file, no command line and no session's name."""
    source = own_cluster("scram", auth="scram-sha-256")
    secret = "geheim-4711:/@"
    source.sql(f"CREATE ROLE mover LOGIN SUPERUSER PASSWORD '{secret}'")
    database = source.createdb()
    database.psql_file(data_file("small.sql"))
    running = pgcrane.popen("migrate", database.uri_as("mover", secret), dest_db.uri, "--yes", "--verbose", "--split-size", "128kB",
                            env={"PGCRANE_FAILPOINT": "copy.before_chunk:sleep=50,schema.archived:sleep=300"})
    children = ""
    while running.poll() is None:
        children += " ".join(line for pid, line in pgcrane.processes().items() if pid != running.pid)
    out, err = running.communicate()
    assert running.returncode == 0, err
    assert "worker" in children and "pg_dump" in children
    places = {"command lines": children, "standard output": out, "standard error": err, "log of the server": source.log_text()}
    for where, _, names in os.walk(pgcrane.state_dir):
        for name in names:
            with open(os.path.join(where, name), encoding="utf-8", errors="replace") as file:
                places[name] = file.read()
    leaks = [place for place, text in places.items() if "geheim-4711" in text]
    assert not leaks


def test_pg_bindir(small, dest_db, pgcrane, tmp_path):
    folder = find_binaries(15)
    report = assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--pg-bindir", folder))
    assert folder in report["pg_dump"] and "15." in report["pg_dump"]


def test_pg_bindir_without_client(small, dest_db, pgcrane, tmp_path):
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--pg-bindir", tmp_path)
    assert_fails(result, 2, "PREFLIGHT_FAILED")
    finding(result, "CLIENT_MISSING")
    assert not has_ledger(dest_db) and tables(dest_db) == []


def test_client_too_old(small, dest_db, pgcrane, tmp_path):
    for name in ("pg_dump", "pg_restore"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 13.4'\n", encoding="ascii")
        path.chmod(0o755)
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--pg-bindir", tmp_path)
    assert_fails(result, 2, "PREFLIGHT_FAILED")
    words = finding(result, "CLIENT_MISSING")["message"]
    assert "13.4" in words and "15" in words
    assert tables(dest_db) == []


def test_snapshot_lease(small, dest_db, pgcrane):
    """The keeper holds the snapshot for that long after a crash, and no longer."""
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--snapshot-lease", "10",
                     env={"PGCRANE_FAILPOINT": "copy.after_commit:kill:2"})
    killed_by_failpoint(result, "copy.after_commit")
    assert sessions(small), "the keeper should still be there"
    wait_until(lambda: not sessions(small) and not pgcrane.processes(), 40, "the lease to run out")
    report = migrate_equal(pgcrane, small, dest_db)
    assert report["snapshots"] == 2


def interrupted(small, dest_db, pgcrane):
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env={"PGCRANE_FAILPOINT": "index.after_commit:kill:1"})
    killed_by_failpoint(result, "index.after_commit")


def test_restart(small, dest_db, pgcrane):
    """Everything of the earlier run goes, nothing else does; the new run shows a new moment."""
    dest_db.sql("CREATE SCHEMA foreign_to_us; CREATE TABLE foreign_to_us.keep (id int); INSERT INTO foreign_to_us.keep VALUES (1)")
    interrupted(small, dest_db, pgcrane)
    small.sql("INSERT INTO bank.log VALUES ('after the first run'); ALTER TABLE bank.log ADD COLUMN more int")
    report = assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart"))
    assert report["chunks_kept"] == 0
    compare.assert_equal(small.uri, dest_db.uri, except_schemas=["foreign_to_us"])
    assert dest_db.sql("SELECT * FROM foreign_to_us.keep") == [(1,)]
    assert_nothing_left(pgcrane, small, dest_db)


def test_restart_asks(small, dest_db, pgcrane):
    """Without --yes and nobody to ask: nothing is dropped."""
    interrupted(small, dest_db, pgcrane)
    before = dest_db.sql(OBJECTS)
    result = pgcrane("migrate", small.uri, dest_db.uri, "--restart", "--snapshot-lease", "10")
    assert result.code != 0, result
    assert "--yes" in result.stderr
    assert dest_db.sql(OBJECTS) == before


def test_dry_run(small, dest_db, pgcrane):
    before = small.sql(OBJECTS), dest_db.sql(OBJECTS), definitions(small)
    result = pgcrane("migrate", small.uri, dest_db.uri, "--json", "--dry-run", "--split-size", "256kB")
    assert result.code == 0, result
    plan = bodies(result, "PLAN")
    assert len(plan) == 1
    by_table = {row["table"]: row for row in plan[0]["tables"]}
    big = by_table["bank.big"]
    size = small.sql("SELECT pg_table_size('bank.big')")[0][0]
    assert big["chunks"] > 8 and 0.5 * size < big["bytes"] < 2 * size
    # TOAST counts: the main relation alone is one page.
    assert by_table["bank.toasted"]["bytes"] > 500_000
    assert "bank.posting_1" in by_table and plan[0]["bytes"] >= size
    assert (small.sql(OBJECTS), dest_db.sql(OBJECTS), definitions(small)) == before
    assert_nothing_left(pgcrane, small, dest_db)
    # And as a text for people.
    text = pgcrane("migrate", small.uri, dest_db.uri, "--dry-run")
    assert text.code == 0 and "bank.big" in text.stdout


def test_dry_run_with_filters(small, dest_db, pgcrane):
    result = pgcrane("migrate", small.uri, dest_db.uri, "--json", "--dry-run", "-t", "bank.left*")
    assert [row["table"] for row in bodies(result, "PLAN")[0]["tables"]] == ["bank.left_account"]


def test_dry_run_of_a_restart(small, dest_db, pgcrane):
    """Says what it would drop, and drops nothing."""
    interrupted(small, dest_db, pgcrane)
    before = dest_db.sql(OBJECTS), chunks_done(dest_db)
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--dry-run", "--restart")
    assert result.code == 0, result
    assert any("bank" in str(line) for line in bodies(result, "PLAN")[0]["to_drop"])
    assert (dest_db.sql(OBJECTS), chunks_done(dest_db)) == before


def test_json(small, dest_db, pgcrane):
    """Standard output holds JSON lines and nothing else, also when it fails."""
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    assert {line["type"] for line in result.lines} <= {"JOB", "FINDINGS", "PLAN", "EVENT", "PROGRESS", "REPORT", "DONE"}
    report_of(result)
    again = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    assert failure_of(again)["reason"] in ("ALREADY_DONE", "PREFLIGHT_FAILED")
    compare.assert_equal(small.uri, dest_db.uri)


def test_quiet(small, dest_db, dest, pgcrane):
    loud = pgcrane("migrate", small.uri, dest_db.uri, "--yes")
    other = dest.createdb()
    try:
        quiet = pgcrane("migrate", small.uri, other.uri, "--yes", "--quiet")
        assert loud.code == quiet.code == 0
        assert loud.stderr and not quiet.stderr
    finally:
        other.drop()


def test_no_colour(small, dest_db, pgcrane):
    """Plain lines when it is no terminal, with or without the flag: no escape sequence anywhere."""
    result = pgcrane("migrate", small.uri, dest_db.uri, "--yes", "--no-color")
    assert result.code == 0, result
    assert "\x1b" not in result.stdout + result.stderr
    assert "\r" not in result.stderr


def test_verbose(small, dest_db, dest, pgcrane):
    plain = pgcrane("migrate", small.uri, dest_db.uri, "--yes")
    other = dest.createdb()
    try:
        verbose = pgcrane("migrate", small.uri, other.uri, "--yes", "-v")
        assert plain.code == verbose.code == 0
        log = verbose.stderr
        for where, _, names in os.walk(pgcrane.state_dir):
            for name in names:
                with open(os.path.join(where, name), encoding="utf-8", errors="replace") as file:
                    log += file.read()
        assert len(log) > len(plain.stderr) and "bank.big" in log
    finally:
        other.drop()


def test_environment(small, dest_db, pgcrane):
    """PGCRANE_* stand for flags; a flag given wins."""
    env = {"PGCRANE_SOURCE": small.uri, "PGCRANE_DEST": dest_db.uri, "PGCRANE_JOBS": "1", "PGCRANE_INDEX_JOBS": "1",
           "PGCRANE_EXCLUDE_TABLE": "bank.log,bank.toasted", "PGCRANE_YES": "true"}
    report = assert_done(pgcrane("migrate", "--json", "--index-jobs", "2", env=env))
    assert (report["jobs"], report["index_jobs"]) == (1, 2)
    assert "bank.log" not in tables(dest_db) and "bank.toasted" not in tables(dest_db)
    assert "bank.big" in tables(dest_db)


def test_libpq_conventions(small, source, dest, dest_db, pgcrane, tmp_path):
    """key=value strings, service files and PG* variables work as with psql."""
    service = tmp_path / "service.conf"
    service.write_text(f"[origin]\nhost=127.0.0.1\nport={source.port}\ndbname={small.name}\nuser=postgres\n", encoding="utf-8")
    dest_words = f"host={dest.folder} port={dest.port} dbname={dest_db.name} user=postgres"
    assert_done(pgcrane("migrate", "service=origin", dest_words, *FLAGS, env={"PGSERVICEFILE": str(service)}))
    compare.assert_equal(small.uri, dest_db.uri)
