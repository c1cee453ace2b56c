"""More of the pre-flight checks, each provoked once: the way to the servers, states, settings, libraries, estimates."""
import contextlib
import itertools
import os
import socket
import threading
import time

import pytest
from support.cluster import find_binaries, wait_until
from support.preflight import Proxy, errors, of, one, preflight  # noqa: F401 (a fixture)

pytestmark = pytest.mark.turns(3)

READER = "pm_reader"


@pytest.fixture(scope="module")
def reader(source):
    source.sql(f"CREATE ROLE {READER} LOGIN")
    yield READER
    source.sql(f"DROP ROLE {READER}")


# --- the way to the servers ---


def test_two_servers_behind_one_address(source, dest, source_db, dest_db, preflight):
    source_db.sql("CREATE TABLE t (a int)")
    twin = dest.createdb(source_db.name)
    ports = itertools.chain([source.port], itertools.cycle([source.port, dest.port]))
    with contextlib.closing(Proxy(lambda: next(ports))) as proxy:
        found = preflight(proxy.uri(source_db), dest_db)
    twin.drop()
    assert "load balancer" in one(found, "SOURCE_BALANCED", "ERROR")["fix"]
    with contextlib.closing(Proxy(source.port)) as proxy:
        assert preflight(proxy.uri(source_db), dest_db) == []


def own_address():
    """One of this machine that is not the loopback interface's."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
    if address.startswith("127."):
        pytest.skip("this machine has no address but the loopback interface's")
    return address


def test_no_tls_over_a_network(own_cluster, preflight):
    own = own_cluster("plain")
    databases = own.createdb(), own.createdb()
    address = own_address()
    with open(os.path.join(own.data, "pg_hba.conf"), "a", encoding="ascii") as hba:
        hba.write(f"host all all {address}/32 trust\n")
    own.reload()
    with contextlib.closing(Proxy(own.port, address=address)) as proxy:
        found = preflight(*(proxy.uri(database) for database in databases))
    one(found, "SOURCE_PLAINTEXT", "INFO")
    assert "sslmode" in one(found, "DESTINATION_PLAINTEXT", "INFO", "destination")["fix"]


def an_hour_ago(data):
    """The row of the server's clock: 'clock', then microseconds as 16 digits."""
    at = data.find(b"clock\x00\x00\x00\x10")
    if at < 0:
        return data
    digits = slice(at + 9, at + 25)
    return data[:at + 9] + str(int(data[digits]) - 3600 * 1000000).encode() + data[at + 25:]


def test_clocks(dest, source_db, dest_db, preflight):
    with contextlib.closing(Proxy(dest.port, an_hour_ago)) as proxy:
        found = preflight(source_db, proxy.uri(dest_db))
    assert "behind" in one(found, "CLOCK_SKEW", "WARNING", "destination")["message"]


# --- what the source is doing ---


def test_a_table_that_is_locked(source, source_db, dest_db, preflight):
    source_db.sql("CREATE TABLE held (a int); CREATE TABLE free (a int)")
    with contextlib.closing(source_db.connect()) as conn:
        pid = conn.info.backend_pid
        conn.execute("BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        wait_until(lambda: source.sql("SELECT clock_timestamp() - xact_start > '5 s' FROM pg_stat_activity WHERE pid = %s",
                                      (pid,))[0][0], what="the lock to be old")
        # The dry run's plan waits for the lock, as pg_dump would: it is what the check is about. That comes behind the checks.
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'held'::regclass"

        def free():
            with contextlib.suppress(AssertionError):
                wait_until(lambda: source_db.sql(waiting), 60, "somebody who waits")
            source.sql("SELECT pg_terminate_backend(%s)", (pid,))

        end = threading.Thread(target=free)
        end.start()
        found = preflight(source_db, dest_db)
        end.join()
    locked = one(found, "SOURCE_LOCKED_TABLE", "WARNING")
    assert locked["object"] == "table public.held" and f"({pid})" in locked["fix"]


def test_transaction_numbers_run_out(own_cluster, dest_db, preflight):
    own = own_cluster("old", config={"autovacuum": "off"})
    old, young = own.createdb(), own.createdb()
    assert of(preflight(young, dest_db), "SOURCE_WRAPAROUND") == []
    own.sql("UPDATE pg_database SET datfrozenxid = (txid_current() + 4294967296 - 1700000000)::text::xid"
            " WHERE datname = %s", (old.name,))
    found = one(preflight(young, dest_db), "SOURCE_WRAPAROUND", "WARNING")
    assert found["object"] == f"database {old.name}" and "FREEZE" in found["fix"]


def test_autovacuum_against_wraparound(own_cluster, dest_db, preflight):
    """A real one, made slow: 100,000 numbers of transactions are burnt by subtransactions."""
    own = own_cluster("freezing", config={"autovacuum": "on", "autovacuum_freeze_max_age": "100000",
                                          "autovacuum_naptime": "1s", "autovacuum_max_workers": "1",
                                          "wal_level": "logical"})
    database = own.createdb()
    database.sql("""CREATE TABLE t (id int PRIMARY KEY, v text) WITH (autovacuum_enabled = off,
        autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1); INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 5000) i""")
    database.sql("""CREATE TABLE burnt (a int PRIMARY KEY); DO $$ BEGIN FOR i IN 1..101000 LOOP
        BEGIN INSERT INTO burnt VALUES (i); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$""")
    wait_until(lambda: own.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query"
                               " LIKE %s AND datname = %s", ("%public.t (to prevent wraparound)", database.name))[0][0],
               120, "autovacuum to begin with the table")
    found = one(preflight(database, dest_db, "--follow"), "FOLLOW_WRAPAROUND_VACUUM", "WARNING")
    assert "public.t " in found["message"]


# --- objects of the source ---


def test_collation_versions(source_db, dest_db, preflight):
    source_db.sql('CREATE TABLE t (a text COLLATE "de-x-icu" UNIQUE, b text COLLATE "fr-x-icu")')
    source_db.sql("UPDATE pg_collation SET collversion = '0.1' WHERE collname IN ('de-x-icu', 'fr-x-icu')")
    found = one(preflight(source_db, dest_db), "SOURCE_COLLATION_VERSION", "WARNING")
    assert found["object"] == 'collation pg_catalog."de-x-icu"' and "0.1" in found["message"]
    assert of(preflight(source_db, dest_db, "--schema", "none*", "--exclude-table", "t"), "DESTINATION_SETTING") == []


def test_objects_with_a_catch(source_db, dest_db, reader, preflight):
    source_db.sql(f"""CREATE TABLE names (id int, what regclass);
        CREATE FUNCTION looks(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT true';
        CREATE FUNCTION pure(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
        CREATE TABLE checked (a int CONSTRAINT odd CHECK (looks(a)) CHECK (pure(a)));
        CREATE DOMAIN tested AS int CONSTRAINT even CHECK (looks(VALUE));
        CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS a WITH NO DATA; CREATE MATERIALIZED VIEW filled AS SELECT 1 AS a;
        CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE USER MAPPING FOR postgres SERVER files; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}""")
    found = preflight(source_db, dest_db)
    assert one(found, "SOURCE_OID_ALIAS", "INFO")["object"] == "column what of table public.names"
    assert [f["object"] for f in of(found, "SOURCE_CHECK_FUNCTION")] == \
        ["constraint odd of table public.checked", "constraint even of domain public.tested"]
    assert one(found, "SOURCE_UNPOPULATED_VIEW", "INFO")["object"] == "materialized view public.unfilled"
    assert of(found, "SOURCE_USER_MAPPING") == []
    mapping = one(preflight(source_db.uri_as(reader), dest_db, "--no-acl"), "SOURCE_USER_MAPPING", "WARNING")
    source_db.sql(f"DROP OWNED BY {reader}")
    assert mapping["object"] == "user mapping for postgres on server files"
    only = preflight(source_db, dest_db, "--table", "public.checked")
    one(only, "SOURCE_CHECK_FUNCTION", "WARNING")
    assert of(only, "SOURCE_OID_ALIAS") == []


def test_slots_of_others(source_db, dest_db, preflight):
    source_db.sql("SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')")
    found = preflight(source_db, dest_db)
    source_db.sql("SELECT pg_drop_replication_slot('debezium')")
    assert one(found, "SOURCE_OTHER_SLOT", "INFO")["object"] == "replication slot debezium"


def test_foreign_keys_across_the_filters(source_db, dest_db, preflight):
    source_db.sql("""CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
        CREATE TABLE c (a int CONSTRAINT to_a REFERENCES a, b int CONSTRAINT to_b REFERENCES b)""")
    assert of(preflight(source_db, dest_db), "FILTER_FOREIGN_KEY") == []
    found = one(preflight(source_db, dest_db, "--table", "public.c", "--table", "public.b"), "FILTER_FOREIGN_KEY", "WARNING")
    assert found["object"] == "foreign key to_a of table public.c" and "'public.a'" in found["fix"]


# --- settings of the destination ---


def test_settings_that_differ(source_db, dest_db, preflight):
    dest_db.sql(f"ALTER DATABASE {dest_db.name} SET timezone = 'Asia/Tokyo';"
                f"ALTER DATABASE {dest_db.name} SET DateStyle = 'German, DMY'")
    found = {f["object"]: f for f in of(preflight(source_db, dest_db), "DESTINATION_SETTING")}
    assert set(found) == {"setting TimeZone", "setting DateStyle"}
    assert "Asia/Tokyo" in found["setting TimeZone"]["message"]
    dest_db.sql(found["setting DateStyle"]["fix"])
    one(preflight(source_db, dest_db), "DESTINATION_SETTING", "WARNING", "destination")
    # What the source's database sets itself moves.
    source_db.sql(f"ALTER DATABASE {source_db.name} SET timezone = 'Africa/Cairo'")
    assert preflight(source_db, dest_db) == []


def test_default_privileges_of_the_destination(source, dest, source_db, dest_db, preflight):
    """What reaches the objects that are made is told, but for what the source has alike; the fixes take it back."""
    role = dest_db.sql("SELECT quote_ident(current_user)")[0][0]
    for server in {source, dest}:
        server.sql('CREATE ROLE "pf In"')
    alike = "ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO \"pf In\";"
    source_db.sql(alike)
    dest_db.sql(alike + """ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO "pf In"; CREATE SCHEMA "s S";
        ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
        ALTER DEFAULT PRIVILEGES IN SCHEMA "s S" GRANT INSERT, UPDATE ON TABLES TO "pf In" WITH GRANT OPTION;
        ALTER DEFAULT PRIVILEGES FOR ROLE "pf In" GRANT SELECT ON TABLES TO PUBLIC""")
    found = of(preflight(source_db, dest_db), "DESTINATION_DEFAULT_PRIVILEGE")
    of_role = f"default privileges of role {role} on "
    assert {f["object"].removeprefix(of_role): f["message"].partition("source's: ")[2] for f in found} == {
        "functions": "REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        "tables": 'GRANT SELECT ON TABLES TO "pf In"',
        'tables in schema "s S"': 'GRANT INSERT, UPDATE ON TABLES TO "pf In" WITH GRANT OPTION'}
    assert of(preflight(source_db, dest_db, "--no-acl"), "DESTINATION_DEFAULT_PRIVILEGE") == []
    dest_db.sql(found[1]["fix"])
    dest_db.sql(found[2]["fix"])
    last = one(preflight(source_db, dest_db), "DESTINATION_DEFAULT_PRIVILEGE", "WARNING", "destination")
    assert last["fix"].startswith(f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT EXECUTE ON FUNCTIONS TO PUBLIC;")
    dest_db.sql(last["fix"])
    assert of(preflight(source_db, dest_db), "DESTINATION_DEFAULT_PRIVILEGE") == []
    dest_db.sql('DROP OWNED BY "pf In"')
    source_db.sql('DROP OWNED BY "pf In"')
    for server in {source, dest}:
        server.sql('DROP ROLE "pf In"')


def test_providers_of_labels(own_cluster, dest_db, preflight):
    own = own_cluster("preload", config={"shared_preload_libraries": "auto_explain"})
    source_db = own.createdb()
    source_db.sql("CREATE TABLE t (a int)")
    assert of(preflight(source_db, dest_db), "SECURITY_LABEL") == []
    source_db.sql("INSERT INTO pg_seclabel VALUES ('t'::regclass, 'pg_class'::regclass, 0, 'guard', 'secret')")
    assert "guard" in one(preflight(source_db, dest_db), "SECURITY_LABEL", "WARNING", "destination")["message"]


def test_triggers_that_fire_on_rows(source_db, dest_db, preflight):
    both = "CREATE TABLE t (a int); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'begin return new; end'"
    source_db.sql(both)
    dest_db.sql(both + """; CREATE TRIGGER usual BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
        CREATE TRIGGER always BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE t ENABLE ALWAYS TRIGGER always""")
    found = one(preflight(source_db, dest_db, "--data-only"), "DATA_ONLY_TRIGGER", "WARNING", "destination")
    assert found["object"] == "trigger always of table public.t"
    dest_db.sql(found["fix"])
    assert preflight(source_db, dest_db, "--data-only") == []


# --- estimates ---


def test_estimates(source_db, dest_db, pgcrane, preflight):
    source_db.sql("""CREATE TABLE t (id int PRIMARY KEY, v text);
        INSERT INTO t SELECT i, repeat('x', 800) FROM generate_series(1, 20000) i""")
    found = preflight(source_db, dest_db, "--follow", estimates=True)
    assert "lanes" in one(found, "ESTIMATE_LOAD", "INFO", "destination")["message"]
    assert "checkpoint" in one(found, "ESTIMATE_WAL", "INFO")["message"]
    assert "about" in one(found, "ESTIMATE_DISK", "INFO", "destination")["message"]
    assert "at the promote" in one(found, "ESTIMATE_OUTAGE", "INFO")["message"]
    assert errors(found) == []
    run = pgcrane("migrate", source_db.uri, dest_db.uri, "--dry-run", "--json")
    estimate = next(line["body"]["estimate"] for line in run.lines if line["type"] == "FINDINGS")
    size = source_db.sql("SELECT pg_database_size(current_database())")[0][0]
    assert abs(estimate["sourceBytes"] - size) < size / 10
    for name in ("loadSeconds", "diskBytes", "outageSeconds"):
        assert 0 < estimate[name]["low"] < estimate[name]["high"], estimate
    assert estimate["walBytes"] == {"low": 0, "high": 0} and estimate["outageSeconds"] == estimate["loadSeconds"]
    begin = time.monotonic()
    real = pgcrane("migrate", source_db.uri, dest_db.uri, "--json")
    assert real.code == 0 and time.monotonic() - begin < 10 * estimate["loadSeconds"]["high"]
    assert not [f for line in real.lines if line["type"] == "FINDINGS" for f in line["body"]["findings"]], "in a dry run only"


def test_estimates_for_people(source_db, dest_db, pgcrane):
    source_db.sql("CREATE TABLE t (id int PRIMARY KEY)")
    text = pgcrane("migrate", source_db.uri, dest_db.uri, "--dry-run").stdout
    assert "ESTIMATE_LOAD" in text and "without writes" in text
    assert "ESTIMATE" not in pgcrane("migrate", source_db.uri, dest_db.uri, "--dry-run", "--schema-only").stdout


# --- versions ---


def as_version(version):
    """What the server says at the login that it is, by another one that is as long."""
    def change(data):
        at = data.find(b"server_version\x00")
        end = data.find(b"\x00", at + 15) if at >= 0 else -1
        return data if end < 0 else data[:at + 15] + version.encode().ljust(end - at - 15)[:end - at - 15] + data[end:]
    return change


def test_versions_that_nobody_knows(source, dest, source_db, dest_db, preflight):
    with contextlib.closing(Proxy(source.port, as_version("9.6"))) as proxy:
        assert "PostgreSQL 9" in one(preflight(proxy.uri(source_db), dest_db), "SOURCE_VERSION", "ERROR")["message"]
    with contextlib.closing(Proxy(dest.port, as_version("9.6"))) as proxy:
        found = preflight(source_db, proxy.uri(dest_db))
    assert "PostgreSQL 9" in one(found, "DESTINATION_VERSION", "ERROR", "destination")["message"]


def test_client_that_is_newer_than_the_destination(source_db, dest_db, preflight, tmp_path):
    program = tmp_path / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 99.1'\n", encoding="ascii")
    program.chmod(0o755)
    newer = one(preflight(source_db, dest_db, "--pg-bindir", tmp_path), "CLIENT_NEWER", "WARNING")
    assert str(program) in newer["message"] and newer["fix"].startswith("apt-get install postgresql-client-15"), newer
    assert not of(preflight(source_db, dest_db, "--pg-bindir", find_binaries(15)), "CLIENT_NEWER")
    assert not of(preflight(source_db, dest_db, "--pg-bindir", tmp_path, "--data-only"), "CLIENT_NEWER")


def test_minor_releases_with_faults(source, source_db, dest_db, preflight):
    with contextlib.closing(Proxy(source.port, as_version("15.7"))) as proxy:
        found = preflight(proxy.uri(source_db), dest_db, "--follow")
    assert "15.8 or later" in one(found, "FOLLOW_MINOR_SLOT", "WARNING")["fix"]
    assert "15.14 or later" in one(found, "FOLLOW_MINOR_PUBLICATION", "WARNING")["fix"]
