"""Bad input and trouble: each ends in success after a retry or in one clear error, and the next run picks up."""
import contextlib
import os
import re
import shutil
import subprocess
import threading
import time

import psycopg
import pytest

from support import compare
from support.cluster import SUPERUSER, wait_until
from support.migration import (FLAGS, OURS, Writers, assert_done, assert_fails, assert_nothing_left, assert_one_moment,
                               chunks_done, data_file, ends_equal, failure_of, finding, findings_of, follow, has_ledger, killed_by_failpoint,
                               migrate_equal, sessions)
from support.tcp_proxy import Proxy
from support.trouble import Writer, assert_promoted, make

pytestmark = pytest.mark.turns(5)

KEPT_SHORT = ("--snapshot-lease", "10")


@pytest.fixture
def small(source_db):
    source_db.psql_file(data_file("small.sql"))
    return source_db


def failpoint(text):
    return {"PGCRANE_FAILPOINT": text}


def assert_untouched(source_db, dest_db, pgcrane):
    """A run that was refused made nothing at the destination."""
    assert not has_ledger(dest_db)
    assert not dest_db.sql("SELECT 1 FROM pg_class WHERE relkind = 'r' AND oid >= 16384")
    assert_nothing_left(pgcrane, source_db)


# --- wrong words ---


def changed(uri, **parts):
    """The URI with another host, port or database."""
    words = re.fullmatch(r"postgresql://(.*)@(.*):(\d+)/(.*)", uri)
    user, host, port, name = words.groups()
    return f"postgresql://{user}@{parts.get('host', host)}:{parts.get('port', port)}/{parts.get('name', name)}"


@pytest.mark.parametrize("side", ("source", "destination"))
@pytest.mark.parametrize("parts, code, reasons", (
    ({"host": "nowhere.invalid"}, 69, ("UNREACHABLE",)),
    ({"port": 1}, 69, ("UNREACHABLE",)),
    ({"name": "no_such_database"}, 69, ("NO_DATABASE",)),
), ids=("host", "port", "database"))
def test_wrong_address(side, parts, code, reasons, source_db, dest_db, pgcrane):
    uris = [source_db.uri, dest_db.uri]
    at = ("source", "destination").index(side)
    uris[at] = changed(uris[at], **parts)
    result = pgcrane("migrate", *uris, *FLAGS, timeout=60)
    failed = assert_fails(result, code, *reasons)
    assert side in failed["message"] and failed["remedy"]
    assert_untouched(source_db, dest_db, pgcrane)


@pytest.mark.parametrize("secret", ("wrong", None))
def test_wrong_password(secret, own_cluster, dest_db, pgcrane):
    source = own_cluster("secret", auth="scram-sha-256")
    source.sql("CREATE ROLE mover LOGIN SUPERUSER PASSWORD 'right'")
    database = source.createdb()
    result = pgcrane("migrate", database.uri_as("mover", secret), dest_db.uri, *FLAGS)
    failed = assert_fails(result, 77, "LOGIN_REFUSED")
    assert "source" in failed["message"] and "right" not in str(result)
    assert_done(pgcrane("migrate", database.uri_as("mover", "right"), dest_db.uri, *FLAGS))


def test_no_such_user(source_db, dest_db, pgcrane):
    assert_fails(pgcrane("migrate", source_db.uri_as("nobody_here"), dest_db.uri, *FLAGS), 77, "LOGIN_REFUSED")


@pytest.mark.parametrize("mode", ("require", "verify-full"))
def test_no_tls(mode, source_db, dest_db, pgcrane):
    """The server has no TLS: an encrypted connection was asked for, so there is none."""
    result = pgcrane("migrate", f"{source_db.uri}?sslmode={mode}", dest_db.uri, *FLAGS)
    assert_fails(result, 69, "TLS_FAILED")
    assert_untouched(source_db, dest_db, pgcrane)


@pytest.fixture
def tls_source(own_cluster, tmp_path):
    """A server with a certificate that nobody has signed."""
    cluster = own_cluster("tls")
    where = [os.path.join(cluster.data, name) for name in ("server.key", "server.crt")]
    made = [str(tmp_path / name) for name in ("server.key", "server.crt")]
    subprocess.run(["openssl", "req", "-new", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", made[0],
                    "-out", made[1]], check=True, capture_output=True)
    for from_path, to_path in zip(made, where):
        shutil.copy(from_path, to_path)
        os.chmod(to_path, 0o600)
        if cluster.user:
            shutil.chown(to_path, cluster.user, cluster.user)
    cluster.configure({"ssl": "on"})
    cluster.restart()
    return cluster, made[1]


def test_tls(tls_source, dest_db, pgcrane):
    cluster, certificate = tls_source
    database = cluster.createdb()
    database.psql_file(data_file("small.sql"))
    result = pgcrane("migrate", f"{database.uri}?sslmode=verify-full", dest_db.uri, *FLAGS)
    assert_fails(result, 69, "TLS_FAILED")
    uri = database.uri.replace("127.0.0.1", "localhost")
    good = f"{uri}?sslmode=verify-full&sslrootcert={certificate}&hostaddr=127.0.0.1"
    running = pgcrane.popen("migrate", good, dest_db.uri, *FLAGS, env=failpoint("copy.before_chunk:sleep=50"))
    wait_until(lambda: len(sessions(database)) >= 3 or running.poll() is not None, what="our sessions")
    plain = database.sql(f"SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE NOT ssl AND {OURS}")
    assert plain == [(0,)]
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, out + err
    compare.assert_equal(database.uri, dest_db.uri)


def test_tls_followed(tls_source, dest_db, pgcrane):
    """Each session, the replication's too, is encrypted and verified, also when all are made anew."""
    cluster, certificate = tls_source
    database = cluster.createdb()
    uri = database.uri.replace("127.0.0.1", "localhost")
    following = make(pgcrane, database, dest_db,
                     source_uri=f"{uri}?sslmode=verify-full&sslrootcert={certificate}&hostaddr=127.0.0.1")
    with Writer(database) as writer:
        following.start()
        following.wait_caught_up()
        rows = database.sql(f"SELECT ssl, backend_type FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE {OURS}")
        assert len(rows) >= 2 and all(row[0] for row in rows) and "walsender" in [row[1] for row in rows], rows
        cluster.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
        writer.wait_for(10)
        assert_promoted(following)


def test_same_database(small, source, pgcrane):
    """Also when it is written in another way."""
    other_words = f"host={source.folder} port={source.port} dbname={small.name} user={SUPERUSER}"
    for dest in (small.uri, other_words):
        result = pgcrane("migrate", small.uri, dest, *FLAGS)
        assert_fails(result, 2, "PREFLIGHT_FAILED")
        finding(result, "SAME_DATABASE")
    assert not has_ledger(small)


def test_other_database_of_the_same_server(small, source, pgcrane):
    other = source.createdb()
    try:
        assert_done(pgcrane("migrate", small.uri, other.uri, *FLAGS))
        compare.assert_equal(small.uri, other.uri)
        assert_nothing_left(pgcrane, small, other)
    finally:
        other.drop()


def test_clash(small, dest_db, pgcrane):
    """The destination has a table of that name with somebody's rows in it."""
    dest_db.sql("CREATE SCHEMA bank; CREATE TABLE bank.log (precious text); INSERT INTO bank.log VALUES ('keep me')")
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    assert_fails(result, 2, "PREFLIGHT_FAILED")
    assert "bank" in finding(result, "DESTINATION_CLASH")["object"]
    assert dest_db.sql("SELECT * FROM bank.log") == [("keep me",)]
    assert not has_ledger(dest_db)


def test_missing_privileges(small, source, dest_db, pgcrane):
    """All of them at once; what the findings say mends it."""
    source.sql("DO $$ BEGIN IF to_regrole('half_blind') IS NULL THEN CREATE ROLE half_blind LOGIN; END IF; END $$")
    small.sql("REVOKE ALL ON bank.big FROM PUBLIC; GRANT USAGE ON SCHEMA bank TO half_blind;"
              "GRANT SELECT ON ALL TABLES IN SCHEMA bank TO half_blind; GRANT SELECT ON ALL SEQUENCES IN SCHEMA bank TO half_blind;"
              "REVOKE SELECT ON bank.big, bank.toasted FROM half_blind;"
              "DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP"
              " EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO half_blind', o); END LOOP; END $$")
    dest_db.cluster.sql("DO $$ BEGIN IF to_regrole('half_blind') IS NULL THEN CREATE ROLE half_blind LOGIN; END IF; END $$")
    uri = small.uri_as("half_blind")
    result = pgcrane("migrate", uri, dest_db.uri, *FLAGS)
    assert result.code == 2 and failure_of(result)["reason"] == "PREFLIGHT_FAILED"
    missing = [f for f in findings_of(result) if f["id"] == "SOURCE_TABLE_PRIVILEGE"]
    text = str([f["object"] + f["fix"] for f in missing])
    assert "bank.big" in text and "bank.toasted" in text and "bank.log" not in text
    assert_untouched(small, dest_db, pgcrane)
    for row in findings_of(result):
        if row["severity"].upper() == "ERROR":
            small.sql(row["fix"])
    assert_done(pgcrane("migrate", uri, dest_db.uri, *FLAGS))
    compare.assert_equal(small.uri, dest_db.uri)


def test_given_away_by_a_lesser_role(source, dest, pgcrane):
    """Who is no superuser gives objects only to roles with CREATE on the schema, which the schema's grants bring."""
    if dest.major < 15:
        pytest.skip("schema public is everybody's before PostgreSQL 15")
    for cluster in (source, dest):
        cluster.sql("CREATE ROLE keeper; CREATE ROLE worker; CREATE ROLE giver LOGIN; GRANT keeper, worker TO giver")
    source_db, dest_db = source.createdb(), dest.createdb(options="OWNER giver")
    source_db.sql("""CREATE SCHEMA app AUTHORIZATION keeper; CREATE TABLE app.jobs AS SELECT 1 AS a; ALTER TABLE app.jobs OWNER TO worker;
        GRANT USAGE, CREATE ON SCHEMA app TO worker; GRANT CREATE ON SCHEMA public TO worker; REVOKE USAGE, CREATE ON SCHEMA app FROM keeper;
        CREATE TABLE jobs AS SELECT 2 AS a; ALTER TABLE jobs OWNER TO worker""")
    acls = "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname = 'app'"
    try:
        assert_done(pgcrane("migrate", source_db.uri, dest_db.uri_as("giver"), *FLAGS))
        assert dest_db.sql(acls) == source_db.sql(acls)
        assert dest_db.sql("SELECT relname, relowner::regrole::text FROM pg_class WHERE relname = 'jobs'") == [("jobs", "worker")] * 2
        # Those that the source would not let their owners make any more: lent, also in a schema that comes with them.
        dest_db.drop()
        dest_db = dest.createdb(options="OWNER giver")
        source_db.sql("""REVOKE CREATE ON SCHEMA public FROM worker; CREATE SCHEMA "Ven dor" AUTHORIZATION keeper;
            GRANT USAGE ON SCHEMA "Ven dor" TO worker; CREATE TABLE "Ven dor".o (id serial PRIMARY KEY);
            ALTER TABLE "Ven dor".o OWNER TO worker; CREATE TYPE "Ven dor".mood AS ENUM ('a'); ALTER TYPE "Ven dor".mood OWNER TO worker""")
        again = ("migrate", source_db.uri, dest_db.uri_as("giver"), *FLAGS)
        killed_by_failpoint(pgcrane(*again, env=failpoint("entries.after_group:kill:1")), "entries.after_group")
        assert_done(pgcrane(*again))
        acls = acls.replace("= 'app'", "IN ('app', 'Ven dor') ORDER BY 1")
        assert dest_db.sql(acls) == source_db.sql(acls)
        assert dest_db.sql("""SELECT nspname FROM pg_namespace WHERE has_schema_privilege('worker', oid, 'CREATE')""") == [("app",)]
        assert dest_db.sql("""SELECT 'o'::name, relowner::regrole::text FROM pg_class WHERE oid = '"Ven dor".o'::regclass""") == [("o", "worker")]
        # A member without its roles' rights cannot fill their schemas.
        dest_db.drop()
        dest_db = dest.createdb(options="OWNER giver")
        dest_db.sql("GRANT CREATE ON SCHEMA public TO giver, worker")
        dest.sql("ALTER ROLE giver NOINHERIT" if dest.major < 16 else "GRANT keeper TO giver WITH INHERIT FALSE")
        again = ("migrate", source_db.uri, dest_db.uri_as("giver"), *FLAGS)
        failed = assert_fails(pgcrane(*again), 77, "NOT_PERMITTED")
        dest.sql(failed["remedy"].partition("on the destination: ")[2].partition(";")[0])
        assert_done(pgcrane(*again))
        # Where we may not grant, the error says what to grant.
        dest_db.drop()
        dest_db = dest.createdb()
        dest_db.sql(f"GRANT CREATE ON DATABASE {dest_db.name} TO giver; GRANT CREATE ON DATABASE {dest_db.name} TO keeper; GRANT ALL ON SCHEMA public TO giver")
        again = ("migrate", source_db.uri, dest_db.uri_as("giver"), *FLAGS)
        failed = assert_fails(pgcrane(*again), 77, "NOT_PERMITTED")
        assert "TABLE public.jobs" in failed["message"], failed
        (grant,) = re.findall(r"GRANT CREATE, USAGE ON SCHEMA .*?;", failed["remedy"])
        dest_db.sql(grant)
        assert_done(pgcrane(*again))
    finally:
        for database in (source_db, dest_db):
            database.drop()
            database.cluster.sql("DROP ROLE giver; DROP ROLE keeper; DROP ROLE worker")


def test_hidden_rows(small, source, dest_db, pgcrane):
    """Row level security would hide rows without any error: refused instead."""
    source.sql("DO $$ BEGIN IF to_regrole('kept_apart') IS NULL THEN CREATE ROLE kept_apart LOGIN; END IF; END $$")
    small.sql("ALTER TABLE bank.log ENABLE ROW LEVEL SECURITY; CREATE POLICY partly ON bank.log USING (line < 'line 5');"
              "GRANT USAGE ON SCHEMA bank TO kept_apart; GRANT SELECT ON ALL TABLES IN SCHEMA bank TO kept_apart;"
              "GRANT SELECT ON ALL SEQUENCES IN SCHEMA bank TO kept_apart")
    result = pgcrane("migrate", small.uri_as("kept_apart"), dest_db.uri, *FLAGS)
    assert_fails(result, 2, "PREFLIGHT_FAILED")
    assert "bank.log" in str(finding(result, "SOURCE_ROW_SECURITY"))
    assert_untouched(small, dest_db, pgcrane)


# --- the source changes under us ---


def stopped_after_plan(small, dest_db, pgcrane):
    """A run that died when its plan was written; its snapshot is still held."""
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, *KEPT_SHORT, env=failpoint("plan.written:kill")),
                        "plan.written")


def assert_recovers(small, dest_db, pgcrane, result):
    """Success, or one clear error after which --restart succeeds."""
    if result.code != 0:
        failed = assert_fails(result, 2, "TABLE_CHANGED", "TABLE_REWRITTEN")
        assert "bank." in failed["message"] and failed["remedy"]
        result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart")
    assert_done(result)
    for view in ("bank.stored", "bank.again"):  # the destination's are of the rows as they are now
        if small.sql("SELECT to_regclass(%s)", (view,))[0][0]:
            small.sql(f"REFRESH MATERIALIZED VIEW {view}")
    compare.assert_equal(small.uri, dest_db.uri)
    assert_nothing_left(pgcrane, small, dest_db)


@pytest.mark.parametrize("change, restart", (
    ("DROP TABLE bank.log", True),
    ("DROP TABLE bank.log; CREATE TABLE bank.log (line text); INSERT INTO bank.log VALUES ('new')", True),
    ("ALTER TABLE bank.log RENAME TO protocol", True),
    ("ALTER TABLE bank.log ALTER line TYPE varchar(50)", True),
    ("ALTER TABLE bank.toasted ALTER id TYPE bigint", True),
    ("ALTER TABLE bank.log DROP COLUMN line", True),
    ("ALTER TABLE bank.big DROP COLUMN k CASCADE", True),
    ("TRUNCATE bank.log", False),
    ("TRUNCATE bank.log; INSERT INTO bank.log VALUES ('after')", False),
    ("VACUUM FULL bank.big", False),
    ("CLUSTER bank.big", False),
    ("DELETE FROM bank.toasted WHERE id < 30; VACUUM FULL bank.toasted", False),
), ids=lambda v: v.split(";")[0] if isinstance(v, str) else None)
def test_table_changed_before_its_copy(change, restart, small, dest_db, pgcrane):
    """A rewrite or TRUNCATE makes a table look empty under an older snapshot: it must never arrive so."""
    stopped_after_plan(small, dest_db, pgcrane)
    for statement in change.split("; "):
        small.sql(statement)
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    if not restart:
        assert result.code == 0, f"the definition is the same: it should have gone on\n{result}"
    assert_recovers(small, dest_db, pgcrane, result)


def test_column_added_before_its_copy(small, dest_db, pgcrane):
    """Without a rewrite, rows and definition arrive as they were at the snapshot's moment."""
    stopped_after_plan(small, dest_db, pgcrane)
    small.sql("ALTER TABLE bank.log ADD COLUMN more integer DEFAULT 7")
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS))
    small.sql("ALTER TABLE bank.log DROP COLUMN more")
    compare.assert_equal(small.uri, dest_db.uri)


@pytest.mark.parametrize("change", ("VACUUM FULL bank.big", "TRUNCATE bank.big"))
def test_table_rewritten_in_mid_copy(change, small, dest_db, pgcrane):
    """Some of its ranges were copied before, the others would be read from another file."""
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, "--yes", "--json", "--jobs", "1", "--split-size", "256kB",
                                env=failpoint("copy.after_commit:kill:4")), "copy.after_commit")
    assert 4 <= len(chunks_done(dest_db)[0]) < chunks_done(dest_db)[1]
    small.sql(change)
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    assert_done(result)
    small.sql("REFRESH MATERIALIZED VIEW bank.stored; REFRESH MATERIALIZED VIEW bank.again")
    compare.assert_equal(small.uri, dest_db.uri)


def test_table_rewritten_while_we_run(small, dest_db, pgcrane):
    """The same without any crash in between."""
    running = pgcrane.popen("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("copy.before_chunk:sleep=100"))
    wait_until(lambda: len(chunks_done(dest_db)[0]) >= 3, what="some ranges to be copied")
    small.sql("VACUUM FULL bank.big")
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, out + err
    compare.assert_equal(small.uri, dest_db.uri)


def test_table_locked_by_the_application(small, dest_db, pgcrane):
    """An exclusive lock held for a while is waited for with patience, but never with our lock queue behind it."""
    with small.connect(autocommit=False) as conn:
        stopped_after_plan(small, dest_db, pgcrane)
        conn.execute("LOCK TABLE bank.log IN ACCESS EXCLUSIVE MODE")
        running = pgcrane.popen("migrate", small.uri, dest_db.uri, *FLAGS)
        wait_until(lambda: small.sql(f"SELECT 1 FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'")
                   or running.poll() is not None, what="us to wait for the lock")
        conn.rollback()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, out + err
    compare.assert_equal(small.uri, dest_db.uri)


@pytest.mark.slow
@pytest.mark.skipif("PGCRANE_SLOW_TESTS" not in os.environ, reason="waits as long as the program does: PGCRANE_SLOW_TESTS=1")
def test_table_locked_for_good(small, dest_db, pgcrane):
    """A lock that stays: one clear error that names the table; then the same command."""
    stopped_after_plan(small, dest_db, pgcrane)
    with small.connect(autocommit=False) as conn:
        conn.execute("LOCK TABLE bank.log IN ACCESS EXCLUSIVE MODE")
        result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, timeout=200)
        failed = assert_fails(result, 2, "LOCK_BUSY")
        assert "bank.log" in failed["message"]
        conn.rollback()
    migrate_equal(pgcrane, small, dest_db)


# --- settings of the two servers ---


def test_timeouts_of_databases_and_roles(small, dest_db, pgcrane):
    """Time-outs of a second everywhere; our sessions work and sit idle longer than that."""
    for database in (small, dest_db):
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"):
            database.sql(f"ALTER DATABASE \"{database.name}\" SET {setting} = '700ms'")
    migrate_equal(pgcrane, small, dest_db, env=failpoint("copy.after_copy:sleep=1500:2,index.before_commit:sleep=1500:1,"
                                                         "schema.archived:sleep=1500,sequences.before:sleep=1500"))


def test_hostile_settings(small, dest_db, pgcrane):
    """Settings that change the text of values or the way of plans, different on both sides."""
    for database, style in ((small, "SQL, DMY"), (dest_db, "ISO, YMD")):
        for setting in (f"\"DateStyle\" = '{style}'", "\"IntervalStyle\" = 'sql_standard'", "extra_float_digits = -15", "bytea_output = 'escape'",
                        "search_path = ''", "enable_tidscan = off", "parallel_setup_cost = 0", "min_parallel_table_scan_size = 0",
                        "force_parallel_mode = on", "default_transaction_isolation = 'serializable'", "row_security = off",
                        "synchronous_commit = off", "client_min_messages = error", "default_toast_compression = 'pglz'"):
            database.sql(f'ALTER DATABASE "{database.name}" SET {setting}')
    small.sql("CREATE TABLE bank.values (d date, t timestamptz, i interval, f float8, r real, b bytea);"
              "INSERT INTO bank.values SELECT '2024-01-02', '2024-01-02 03:04:05+00', '1 mon -2 days 03:00', pi(), 0.1::real, '\\x00ff5c'")
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS))
    small.sql(f'ALTER DATABASE "{small.name}" SET "DateStyle" = \'SQL, DMY\'')
    compare.assert_equal(small.uri, dest_db.uri)


def test_connection_limit(small, source, dest_db, pgcrane):
    """Fewer connections than lanes: found before anything is changed."""
    source.sql("DO $$ BEGIN IF to_regrole('few') IS NULL THEN CREATE ROLE few LOGIN CONNECTION LIMIT 2; END IF; END $$")
    small.sql("GRANT pg_read_all_data TO few")
    result = pgcrane("migrate", small.uri_as("few"), dest_db.uri, "--yes", "--json", "--jobs", "8", timeout=200)
    assert_fails(result, 69 if failure_of(result)["reason"] == "SERVER_BUSY" else 2, "PREFLIGHT_FAILED", "SERVER_BUSY")


# --- sessions and servers that die ---


class Assassin(threading.Thread):
    """Ends backends of ours that run a matching statement, `count` of them, one after the other."""

    def __init__(self, database, pattern, count=1):
        super().__init__(daemon=True)
        self.database, self.pattern, self.count = database, pattern, count
        self.hits = 0
        self.over = threading.Event()

    def run(self):
        with contextlib.closing(self.database.connect()) as conn:
            while self.hits < self.count and not self.over.is_set():
                rows = conn.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS} AND state = 'active'"
                                    " AND datname = current_database() AND query ~* %s LIMIT 1", (self.pattern,)).fetchall()
                self.hits += len(rows)
                time.sleep(0.3 if rows else 0.002)

    def __exit__(self, *_):
        self.over.set()
        self.join(30)

    def __enter__(self):
        self.start()
        return self


@pytest.mark.parametrize("side", ("source", "destination"))
def test_backend_killed_in_mid_copy(side, source_db, dest_db, pgcrane):
    """Three COPYs are ended by pg_terminate_backend; each is done again."""
    source_db.sql("CREATE TABLE wide (id int PRIMARY KEY, v text); INSERT INTO wide SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 60000) g")
    with Assassin({"source": source_db, "destination": dest_db}[side], "^copy", 3) as assassin:
        result = pgcrane("migrate", source_db.uri, dest_db.uri, "--yes", "--json", "--jobs", "2", "--split-size", "16MB")
    report = assert_done(result)
    assert assassin.hits >= 1 and report["retries"] >= 1
    compare.assert_equal(source_db.uri, dest_db.uri)
    assert_nothing_left(pgcrane, source_db, dest_db)


def test_backend_killed_in_index_build(source_db, dest_db, pgcrane):
    source_db.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 300000) g;"
                  "CREATE INDEX slow ON t (v, id)")
    with Assassin(dest_db, "create.*index", 1) as assassin:
        result = pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS)
    report = assert_done(result)
    assert assassin.hits == 1 and report["retries"] >= 1
    compare.assert_equal(source_db.uri, dest_db.uri)


@pytest.fixture
def own_pair(own_cluster):
    """Servers of this test's own, to be restarted."""
    databases = own_cluster("src").createdb(), own_cluster("dst").createdb()
    databases[0].psql_file(data_file("small.sql"))
    return databases


@pytest.mark.parametrize("side", (0, 1), ids=("source", "destination"))
@pytest.mark.parametrize("mode", ("fast", "immediate"))
def test_server_restarted(side, mode, own_pair, pgcrane):
    """In the middle of the copy. The run goes on by itself, or says how to go on; then the same command."""
    source, dest = own_pair
    running = pgcrane.popen("migrate", source.uri, dest.uri, *FLAGS, env=failpoint("copy.before_chunk:sleep=60"))
    wait_until(lambda: len(chunks_done(dest)[0]) >= 4, what="some ranges to be copied")
    own_pair[side].cluster.restart(mode)
    ends_equal(pgcrane, running, source, dest, *FLAGS)


def test_destination_crash_between_runs(own_pair, pgcrane):
    """What the ledger calls finished is there after a crash of the server (its commits may be lost only together)."""
    source, dest = own_pair
    dest.cluster.configure({"fsync": "on", "synchronous_commit": "off", "wal_writer_delay": "10s"})
    dest.cluster.restart()
    killed_by_failpoint(pgcrane("migrate", source.uri, dest.uri, *FLAGS, env=failpoint("copy.after_commit:kill:12")),
                        "copy.after_commit")
    dest.cluster.stop("immediate")
    dest.cluster.start()
    migrate_equal(pgcrane, source, dest)


@pytest.mark.parametrize("side", ("source", "destination"))
@pytest.mark.parametrize("kind, after", (("reset", 1_200_000), ("close", 1_000_000), ("half-close", 1_400_000), ("reset", 1_500)))
def test_network_cut(side, kind, after, small, source, dest, dest_db, pgcrane):
    """Connections break in the middle of what they do: done again by the run itself."""
    with Proxy(source if side == "source" else dest) as proxy:
        fault = proxy.fault(kind, after=after, direction="down" if side == "source" else "up",
                            times=2 if after > 10_000 else 1)
        uris = (proxy.uri(small), dest_db.uri) if side == "source" else (small.uri, proxy.uri(dest_db))
        result = pgcrane("migrate", *uris, *FLAGS, timeout=180)
        if result.code != 0 and after < 10_000:
            # So early that it may hit the very first connection: a clear error will do.
            assert_fails(result, 69, "UNREACHABLE", "CONNECTION_LOST")
            result = pgcrane("migrate", *uris, *FLAGS, timeout=180)
        assert_done(result)
        assert fault.hits > 0
    compare.assert_equal(small.uri, dest_db.uri)
    assert_nothing_left(pgcrane, small, dest_db)


def test_network_cut_under_pg_dump(small, source, dest_db, pgcrane):
    """The definitions cannot be read to the end: tried again, or one clear error and the same command."""
    with Proxy(source) as proxy:
        fault = proxy.fault("reset", after=150_000)
        result = pgcrane("migrate", proxy.uri(small), dest_db.uri, *FLAGS)
        assert fault.hits
        if result.code != 0:
            assert "pg_dump" in assert_fails(result, 69, "CONNECTION_LOST", "UNREACHABLE")["message"]
            result = pgcrane("migrate", proxy.uri(small), dest_db.uri, *FLAGS)
        assert_done(result)
    compare.assert_equal(small.uri, dest_db.uri)


def test_network_slow(small, source, dest_db, pgcrane):
    """A connection that stalls for two seconds, and answers that come late: nothing breaks, nothing is lost."""
    with Proxy(source) as proxy:
        proxy.fault("delay", after=1, times=6, seconds=0.3)
        stall = proxy.fault("stall", after=1_000_000)
        running = pgcrane.popen("migrate", proxy.uri(small), dest_db.uri, *FLAGS)
        wait_until(lambda: stall.hits or running.poll() is not None, what="the stall")
        assert running.poll() is None
        time.sleep(2)  # the length of the stall is what is tested
        proxy.release()
        out, err = running.communicate(timeout=120)
    assert running.returncode == 0, out + err
    compare.assert_equal(small.uri, dest_db.uri)


def test_stop_while_the_network_stalls(small, source, dest_db, pgcrane):
    """Ctrl-C ends a run that waits for a server that says nothing."""
    with Proxy(source) as proxy:
        stall = proxy.fault("stall", after=1_000_000)
        running = pgcrane.popen("migrate", proxy.uri(small), dest_db.uri, *FLAGS, *KEPT_SHORT)
        wait_until(lambda: stall.hits or running.poll() is not None, what="the stall")
        assert running.poll() is None, running.communicate()
        os.kill(running.pid, 2)
        out, err = running.communicate(timeout=30)
        assert running.returncode == 3, out + err
    migrate_equal(pgcrane, small, dest_db)


# --- sizes ---


def test_huge_value(source_db, dest_db, pgcrane):
    """One value of 500 MB among small ones."""
    source_db.sql("CREATE TABLE huge (id int PRIMARY KEY, v text); INSERT INTO huge SELECT g, 'small' FROM generate_series(1, 100) g;"
                  "INSERT INTO huge VALUES (1000, repeat('0123456789', 50000000))")
    running = pgcrane.popen("migrate", source_db.uri, dest_db.uri, *FLAGS)
    lines, reader = follow(running)  # nobody who does not read: a full pipe would hold it up
    most = 0
    while running.poll() is None:
        most = max(most, resident_bytes(pgcrane))
        time.sleep(0.02)
    reader.join()
    assert running.returncode == 0, f"{lines[-3:]} {running.stderr.read()}"
    rows = "SELECT count(*), sum(length(v)), md5(string_agg(md5(v), '' ORDER BY id)) FROM huge"
    assert source_db.sql(rows) == dest_db.sql(rows)
    assert most < 100e6 + 3 * 500e6, f"{most} bytes resident"


def resident_bytes(program):
    total = 0
    for pid in program.processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
            total += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


@pytest.fixture
def tiny_disk(source, dest):
    """A tablespace that is a file system of 12 MB at the destination; skipped where we may not mount."""
    folders = [os.path.join(cluster.folder, "tiny") for cluster in (source, dest)]
    for folder in folders:
        os.mkdir(folder)
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "pgcrane-test", folders[1]]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        for folder in folders:
            os.rmdir(folder)
        pytest.skip("no right to mount a small file system")
    try:
        for cluster, folder in zip((source, dest), folders):
            os.chmod(folder, 0o700)
            if cluster.user:
                shutil.chown(folder, cluster.user, cluster.user)
            cluster.sql(f"CREATE TABLESPACE tiny LOCATION '{folder}'")
        yield folders[1]
    finally:
        subprocess.run(["umount", "--lazy", folders[1]], capture_output=True, check=False)


@pytest.mark.turns(5)
def test_destination_disk_full(tiny_disk, source_db, dest_db, source, dest, pgcrane):
    """One clear error after a few tries; with more room the same command goes on."""
    source_db.sql("CREATE TABLE t (id int PRIMARY KEY, v text) TABLESPACE tiny;"
                  "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 200000) g")
    try:
        result = pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, timeout=250)
        failed = assert_fails(result, 2, "DISK_FULL")
        assert "public.t" in failed["message"] and "destination" in failed["message"] and failed["remedy"]
        subprocess.run(["mount", "-o", "remount,size=200m", tiny_disk], check=True)
        report = assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS))
        assert report["chunks_kept"] > 0
        compare.assert_equal(source_db.uri, dest_db.uri)
    finally:
        for database in (source_db, dest_db):
            database.sql("DROP TABLE IF EXISTS t")
            database.cluster.sql("DROP TABLESPACE tiny")


# --- definitions that cannot be had at the destination ---


def test_definition_fails(small, dest_db, pgcrane):
    """A constraint that the rows do not meet at the destination: the error names it, and nothing is lost by going on."""
    small.sql("CREATE FUNCTION bank.moody(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS"
              " $$ SELECT current_setting('is_superuser') = 'on' AND coalesce(current_setting('moody.yes', true), '') = 'yes' $$;"
              f"ALTER DATABASE \"{small.name}\" SET moody.yes = 'yes'")
    with small.connect() as conn:
        conn.execute("CREATE UNIQUE INDEX only_some ON bank.big ((CASE WHEN bank.moody(v) THEN id ELSE 1 END))")
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    failed = assert_fails(result, 2, "SQL_FAILED", "BAD_DATA")
    assert "only_some" in failed["message"]
    again = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    assert failure_of(again)["reason"] == failed["reason"]
    # The index may fail while other tables are still copied: what is in by then is kept, whatever it is.
    [(done,)] = dest_db.sql("SELECT count(rows) FROM pgcrane.chunk")
    dest_db.sql(f"ALTER DATABASE \"{dest_db.name}\" SET moody.yes = 'yes'")
    report = assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS))
    assert report["chunks_kept"] == done > 0
    compare.assert_equal(small.uri, dest_db.uri)


def test_violated_foreign_key(small, dest_db, pgcrane):
    """Rows at the source break a key that it calls valid (made with triggers off): the key is named."""
    with small.connect() as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("INSERT INTO bank.transfer (from_left, to_right, amount) VALUES (999999, 1, 1)")
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    failed = assert_fails(result, 2, "SQL_FAILED", "BAD_DATA")
    assert "transfer_from_left_fkey" in failed["message"]
    # Mended at the destination, the same command ends it without copying anything again.
    dest_db.sql("DELETE FROM bank.transfer WHERE from_left = 999999")
    report = assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS))
    assert report["chunks_copied"] == 0


def test_writers_through_trouble(small, source, dest_db, pgcrane):
    """Rows move on the source, connections break, the worker dies: still one moment of the source arrives."""
    with Proxy(source) as proxy, Writers(small) as writers:
        proxy.fault("reset", after=1_200_000, times=3)
        first = pgcrane("migrate", proxy.uri(small), dest_db.uri, *FLAGS, env=failpoint("copy.after_commit:kill:9"), timeout=180)
        assert first.code != 0
        result = pgcrane("migrate", proxy.uri(small), dest_db.uri, *FLAGS, timeout=180)
        assert sum(writers.done) > 100
    report = assert_done(result)
    if report["snapshots"] == 1:
        assert_one_moment(dest_db)
    assert dest_db.sql("SELECT count(*) FROM bank.big") == [(40000,)]
    assert_nothing_left(pgcrane, small, dest_db)


def test_session_role_is_not_ours_to_end(small, dest_db, pgcrane):
    """Sessions of others, also those that merely look like ours, are left alone."""
    with small.connect() as other, psycopg.connect(dest_db.uri, application_name="pgcrane somebody else", autocommit=True) as alike:
        assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS))
        assert other.execute("SELECT 1").fetchone() == (1,)
        assert alike.execute("SELECT 1").fetchone() == (1,)
