"""What a role may not see is hidden from it without an error: no check passes for that."""
import contextlib
import functools
import glob
import os
import re

import psycopg
import pytest
from support.cluster import ROOT, wait_until
from support.preflight import of, one, preflight  # noqa: F401 (a fixture)

pytestmark = pytest.mark.turns(3)

BLIND = "ps_blind"
SESSIONS = {"SOURCE_LOCKED_TABLE", "FOLLOW_LONG_TRANSACTION", "FOLLOW_WRAPAROUND_VACUUM"}
# Below src: what reads both servers for the checks.
SOURCES = ["src/engine/preflight/*.c", "src/engine/preflight/check.h", "src/engine/seam/*.c"]
# What is not everybody's, and how the check that reads it says so. doc/design/verify.md has the list.
HIDDEN = {
    "pg_authid": "only its number is asked for", "pg_user_mapping": "only its number is asked for",
    "pg_largeobject": "only its privilege is asked for",
    "data_directory": "DESTINATION_DISK_UNKNOWN",
    "shared_preload_libraries": "CHECK_IMPOSSIBLE, or EXTENSION_PRELOAD",
    "session_preload_libraries": "EXTENSION_PRELOAD",
}


@pytest.fixture
def blind():
    """blind(server, databases where it will own something...): a role that may nothing."""
    made = []

    def make(cluster, *databases):
        cluster.sql(f"CREATE ROLE {BLIND} LOGIN")
        made.append((cluster, databases))
        return BLIND

    yield make
    for cluster, databases in made:
        for database in databases:
            database.sql(f"DROP OWNED BY {BLIND} CASCADE")
        cluster.sql(f"DROP OWNED BY {BLIND}; DROP ROLE {BLIND}")


def impossible(findings):
    return {f["object"].removeprefix("check "): f for f in findings if f["id"] == "CHECK_IMPOSSIBLE"}


@pytest.fixture(scope="module")
def server_of(make_cluster):
    return functools.cache(lambda major: make_cluster(f"sight{major}", major=major))


@pytest.mark.parametrize("major", [13, 15, 18])
def test_sessions_of_others(server_of, dest_db, blind, preflight, major):
    """Without the right to see them each check says so, with what gives the right; with it they find what there is."""
    server = server_of(major)
    database, role = server.createdb(), blind(server)
    database.sql(f"CREATE TABLE held (id int PRIMARY KEY); ALTER ROLE {role} REPLICATION; CREATE TABLE t (id int PRIMARY KEY)")
    with contextlib.closing(database.connect()) as conn:
        conn.execute("BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE; SELECT txid_current()")
        age = "SELECT clock_timestamp() - xact_start > '5 s' FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: server.sql(age, (conn.info.backend_pid,))[0][0], what="the transaction to be old")
        blindly = preflight(database.uri_as(role), dest_db, "--follow")
        told = impossible(blindly)
        assert set(told) == SESSIONS and not {f["id"] for f in blindly} & SESSIONS, blindly
        assert {(f["severity"], f["side"], f["fix"]) for f in told.values()} == \
            {("warning", "source", f"GRANT pg_monitor TO {role};")}
        assert "does not see what sessions of other roles do" in told["FOLLOW_LONG_TRANSACTION"]["message"]
        server.sql(f"GRANT pg_monitor TO {role}")
        seeing = preflight(database.uri_as(role), dest_db, "--follow")
    assert impossible(seeing) == {}
    assert {"FOLLOW_LONG_TRANSACTION", "SOURCE_LOCKED_TABLE"} <= {f["id"] for f in seeing}, seeing
    # Who has it and does not inherit it saw it before 15, and does not since.
    server.sql(f"ALTER ROLE {role} NOINHERIT; REVOKE pg_monitor FROM {role}; GRANT pg_monitor TO {role}")
    conn = psycopg.connect(database.uri_as(role))
    sees = bool(conn.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'checkpointer'").fetchone()[0])
    conn.close()
    assert sees == (major < 15) == (impossible(preflight(database.uri_as(role), dest_db, "--follow")) == {})
    database.drop()


def test_libraries_that_are_not_shown(source_db, dest, dest_db, blind, preflight):
    """Only where it matters."""
    role = blind(dest)
    dest_db.sql(f"ALTER DATABASE {dest_db.name} OWNER TO {role}; ALTER SCHEMA public OWNER TO {role}")
    source_db.sql("CREATE TABLE t (a int)")
    assert impossible(preflight(source_db, dest_db.uri_as(role))) == {}
    source_db.sql("INSERT INTO pg_seclabel VALUES ('t'::regclass, 'pg_class'::regclass, 0, 'guard', 'secret')")
    told = one(preflight(source_db, dest_db.uri_as(role)), "CHECK_IMPOSSIBLE", "WARNING", "destination")
    assert told["object"] == "check SECURITY_LABEL" and told["fix"] == f"GRANT pg_monitor TO {role};"
    disk = one(preflight(source_db, dest_db.uri_as(role)), "DESTINATION_DISK_UNKNOWN", "INFO", "destination")
    assert disk["fix"].startswith(f"GRANT pg_monitor TO {role};")
    dest.sql(f"GRANT pg_monitor TO {role}")
    found = preflight(source_db, dest_db.uri_as(role))
    assert impossible(found) == {} and of(found, "DESTINATION_DISK_UNKNOWN") == []
    assert "guard" in one(found, "SECURITY_LABEL", "WARNING", "destination")["message"]
    dest_db.sql(f"ALTER DATABASE {dest_db.name} OWNER TO postgres; ALTER SCHEMA public OWNER TO postgres")
    dest.sql(f"REVOKE pg_monitor FROM {role}")


def test_a_mapping_of_its_own(source, source_db, dest_db, blind, preflight):
    """Shown to whom it is for only when it may use the server; of one for PUBLIC the server's owner sees the options."""
    role = blind(source, source_db)
    source_db.sql(f"""CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE SERVER own FOREIGN DATA WRAPPER file_fdw; CREATE USER MAPPING FOR PUBLIC SERVER own;
        CREATE USER MAPPING FOR {role} SERVER files""")

    def told():
        return sorted(f["object"] for f in of(preflight(source_db.uri_as(role), dest_db, "--no-acl"), "SOURCE_USER_MAPPING"))

    assert told() == ["user mapping for PUBLIC on server own", f"user mapping for {role} on server files"]
    source_db.sql(f"GRANT USAGE ON FOREIGN SERVER files TO {role}; GRANT USAGE ON FOREIGN DATA WRAPPER file_fdw TO {role}")
    source_db.sql(f"ALTER SERVER own OWNER TO {role}")
    assert told() == []


def test_functions_about_the_server(source, source_db, dest_db, blind, preflight, pgcrane):
    """How fast it writes, and which one it is: without that nothing begins."""
    role = blind(source, source_db)
    source_db.sql("REVOKE EXECUTE ON FUNCTION pg_control_checkpoint() FROM PUBLIC")
    found = impossible(preflight(source_db.uri_as(role), dest_db, "--follow"))
    assert found["ESTIMATE_LOAD"]["fix"] == f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_checkpoint() TO {role};"
    source_db.sql(found["ESTIMATE_LOAD"]["fix"] + "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    assert "ESTIMATE_LOAD" not in impossible(preflight(source_db, dest_db, "--follow"))
    refused = pgcrane("migrate", source_db.uri_as(role), dest_db.uri, "--dry-run", "--json").lines[-1]["body"]
    assert (refused["reason"], refused["remedy"]) == \
        ("NOT_PERMITTED", f'GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO "{role}";')


# --- nothing else that is read is hidden ---


def texts():
    for pattern in SOURCES:
        for path in glob.glob(os.path.join(ROOT, pattern)):
            with open(path, encoding="utf-8") as file:
                yield re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)


def named(pattern):
    return sorted({name for text in texts() for name in re.findall(pattern, text)})


@pytest.mark.parametrize("major", [13, 15, 18])
def test_what_the_checks_read_is_everybodys(server_of, blind, major):
    server = server_of(major)
    role = blind(server)
    names = named(r"pg_catalog\.(\w+)")
    assert len(names) > 60
    closed = server.sql("SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname = ANY(%s)"
                        " AND NOT has_any_column_privilege(%s, c.oid, 'SELECT')", (names, role))
    closed += server.sql("SELECT DISTINCT p.proname FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace"
                         " AND p.proname = ANY(%s) AND NOT has_function_privilege(%s, p.oid, 'EXECUTE')", (names, role))
    settings = named(r"current_setting\('(\w+)'") + named(r"\.name = '(\w+)'") + named(r"'(\w+_\w+)'") + named(r'"(\w+_\w+)"')
    every = {name for name, in server.sql("SELECT name FROM pg_settings WHERE name = ANY(%s)", (settings,))}
    shown = {name for name, in server.sql("SELECT name FROM pg_settings", user=role)}
    assert len(every) > 15
    assert {name for name, in closed} | every - shown <= set(HIDDEN), "a check may be blind: see engine/preflight/sight.c"
