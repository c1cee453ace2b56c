"""Each pre-flight check is provoked once, and a clean pair of databases provokes none."""
import contextlib
import functools
import os

import psycopg
import pytest
from support.cluster import wait_until
from support.preflight import Proxy, errors, of, one, preflight  # noqa: F401 (a fixture)

pytestmark = pytest.mark.turns(3)

READER = "pf_reader"
WRITER = "pf_writer"


@pytest.fixture(scope="module")
def low_roles(source, dest):
    """A role without any rights on each side."""
    source.sql(f"CREATE ROLE {READER} LOGIN")
    dest.sql(f"CREATE ROLE {WRITER} LOGIN")
    yield
    source.sql(f"DROP ROLE {READER}")
    dest.sql(f"DROP ROLE {WRITER}")


@pytest.fixture(scope="module")
def tight(make_cluster):
    """A server with little room."""
    return make_cluster("tight", config={"old_snapshot_threshold": "60min", "max_connections": "13",
                                         "max_locks_per_transaction": "10", "max_prepared_transactions": "0",
                                         "max_wal_senders": "2"})


# --- nothing to complain about ---


def test_clean_pair_has_no_findings(source_db, dest_db, preflight):
    source_db.sql("""CREATE SCHEMA shop; CREATE TABLE shop.orders (id serial PRIMARY KEY, note text COLLATE "C");
        CREATE TYPE shop.state AS ENUM ('a', 'b'); CREATE TABLE parts (k int, v shop.state) PARTITION BY LIST (k);
        CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1); CREATE EXTENSION hstore;
        CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql AS 'begin return 1; end';
        SELECT lo_from_bytea(0, 'x'); CREATE VIEW v AS SELECT * FROM shop.orders""")
    assert preflight(source_db, dest_db) == []


@pytest.fixture(scope="module")
def server_of(make_cluster):
    """server_of(major): one server of each major version."""
    return functools.cache(lambda major: make_cluster(f"pf{major}", major=major))


@pytest.mark.parametrize("majors", [(13, 15), (15, 18), (18, 18)])
def test_clean_across_versions(server_of, preflight, majors):
    first, second = map(server_of, majors)
    with contextlib.ExitStack() as stack:
        source_db, dest_db = first.createdb(), second.createdb()
        stack.callback(source_db.drop)
        stack.callback(dest_db.drop)
        source_db.sql("CREATE TABLE t (id serial PRIMARY KEY, v text); CREATE DOMAIN d AS text COLLATE \"C\"")
        # The client of that version is beside its server.
        with_client = ("--pg-bindir", second.bin)
        assert preflight(source_db, dest_db, *with_client) == []
        if majors[0] != majors[1]:
            older = one(preflight(dest_db, source_db), "DESTINATION_OLDER", "ERROR", "destination")
            assert f"PostgreSQL {majors[0]}" in older["message"]


# --- the source as a server ---


def other_process_number(data):
    """BackendKeyData ('K', length 12, number, secret) with a number of the pooler's own."""
    at = data.find(b"K\x00\x00\x00\x0c")
    return data if at < 0 else data[:at + 5] + b"\x00\x00\x00\x2a" + data[at + 9:]


def test_pooler_in_session_mode(source, source_db, dest_db, preflight):
    with contextlib.closing(Proxy(source.port, other_process_number)) as proxy:
        found = preflight(proxy.uri(source_db), dest_db)
    one(found, "SOURCE_POOLER", "WARNING")
    assert not errors(found)


def test_pooler_that_loses_settings(source, source_db, dest_db, preflight):
    seen = []

    def forget(data):
        """The first row that says the mark is set_config's own answer, the second the one after a change of session."""
        if b"\x00\x00\x00\x04kept" not in data:
            return data
        seen.append(data)
        return data if len(seen) % 2 else data.replace(b"\x00\x00\x00\x04kept", b"\x00\x00\x00\x04lost")

    with contextlib.closing(Proxy(source.port, forget)) as proxy:
        found = preflight(proxy.uri(source_db), dest_db)
    assert "session" in one(found, "SOURCE_POOLED", "ERROR")["fix"]


def test_little_room_on_the_source(tight, dest_db, preflight):
    source_db = tight.createdb()
    for part in range(4):
        source_db.sql(f"""DO $$ BEGIN FOR i IN 1..40 LOOP EXECUTE format('CREATE TABLE t%s_%s ()', {part}, i);
            END LOOP; END $$""")
    found = preflight(source_db, dest_db, "--jobs", "20")
    assert "160 tables" in one(found, "SOURCE_LOCKS", "ERROR")["message"]
    assert "max_connections" in one(found, "SOURCE_CONNECTIONS", "ERROR")["fix"]
    one(found, "SOURCE_OLD_SNAPSHOT_THRESHOLD", "ERROR")
    source_db.drop()


def test_limits_of_role_and_database(source_db, dest_db, low_roles, dest, preflight):
    dest.sql(f"GRANT CREATE, TEMP ON DATABASE {dest_db.name} TO {WRITER}; ALTER ROLE {WRITER} CONNECTION LIMIT 2;"
             f" ALTER DATABASE {dest_db.name} CONNECTION LIMIT 3")
    found = of(preflight(source_db, dest_db.uri_as(WRITER), "--no-owner"), "DESTINATION_CONNECTIONS")
    dest.sql(f"ALTER ROLE {WRITER} CONNECTION LIMIT -1")
    assert [f["object"] for f in found] == [f"role {WRITER}", f"database {dest_db.name}"]
    assert found[0]["fix"] == f"ALTER ROLE {WRITER} CONNECTION LIMIT -1;"


def test_prepared_transaction(source_db, dest_db, preflight):
    source_db.sql("CREATE TABLE t (a int)")
    with contextlib.closing(source_db.connect()) as conn:
        conn.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s'")
    found = one(preflight(source_db, dest_db), "SOURCE_PREPARED_TRANSACTION", "WARNING")
    assert found["object"] == "prepared transaction it's" and "COMMIT PREPARED 'it''s'" in found["fix"]


def test_standby(own_cluster, source_db, dest_db, preflight):
    standby = own_cluster("standby")
    own_db = standby.createdb()
    standby.stop()
    with open(os.path.join(standby.data, "standby.signal"), "w", encoding="ascii"):
        pass
    # It is up when the harness fails to set its password there.
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        standby.start()
    assert "max_standby_streaming_delay" in one(preflight(own_db, dest_db), "SOURCE_STANDBY", "WARNING")["fix"]
    one(preflight(source_db, own_db), "DESTINATION_STANDBY", "ERROR", "destination")


# --- privileges ---


def test_privileges_are_listed_and_the_fixes_mend_them(source_db, dest_db, low_roles, preflight):
    source_db.sql('''CREATE SCHEMA "Closed"; CREATE TABLE "Closed"."T 1" (id serial, v text);
        CREATE TABLE parts (k int) PARTITION BY LIST (k); CREATE TABLE leaf PARTITION OF parts FOR VALUES IN (1);
        CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent); SELECT lo_from_bytea(0, 'x')''')
    source_db.sql(f"GRANT SELECT ON parts, parent TO {READER}")
    reader = source_db.uri_as(READER)
    found = preflight(reader, dest_db, "--no-acl")
    assert one(found, "SOURCE_SCHEMA_PRIVILEGE", "ERROR")["object"] == 'schema "Closed"'
    assert [f["object"] for f in of(found, "SOURCE_TABLE_PRIVILEGE")] == \
        ['table "Closed"."T 1"', "table public.child", "table public.leaf"]
    assert one(found, "SOURCE_SEQUENCE_PRIVILEGE", "ERROR")["object"] == 'sequence "Closed"."T 1_id_seq"'
    assert "1 large objects" in one(found, "SOURCE_LARGE_OBJECT_PRIVILEGE", "ERROR")["message"]
    for finding in errors(found):
        source_db.sql(finding["fix"])
    found = preflight(reader, dest_db, "--no-acl")
    source_db.sql(f"DROP OWNED BY {READER}")
    assert errors(found) == []


def test_filters_apply_to_privileges(source_db, dest_db, low_roles, preflight):
    source_db.sql(f"CREATE TABLE a (x int); CREATE TABLE b (x int); GRANT SELECT ON a TO {READER}")
    found = preflight(source_db.uri_as(READER), dest_db, "--table", "public.a", "--no-acl")
    assert of(found, "SOURCE_TABLE_PRIVILEGE") == []
    # pg_dump locks b too, though it does not move
    assert one(found, "SOURCE_LOCK_PRIVILEGE", "ERROR")["object"] == "table public.b"


def test_many_findings_are_cut(source_db, dest_db, low_roles, preflight):
    source_db.sql("DO $$ BEGIN FOR i IN 1..73 LOOP EXECUTE format('CREATE TABLE t%s ()', i); END LOOP; END $$")
    found = of(preflight(source_db.uri_as(READER), dest_db), "SOURCE_TABLE_PRIVILEGE")
    assert len(found) == 51
    assert found[-1]["object"] == "" and "23 more" in found[-1]["message"] and "73 in all" in found[-1]["message"]


def test_row_security(source_db, dest_db, low_roles, preflight):
    source_db.sql(f"CREATE TABLE t (a int); GRANT SELECT ON t TO {READER};"
                  "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (a > 1)")
    found = one(preflight(source_db.uri_as(READER), dest_db, "--no-acl"), "SOURCE_ROW_SECURITY", "ERROR")
    assert (found["object"], found["fix"]) == ("table public.t", f"ALTER ROLE {READER} BYPASSRLS;")
    assert of(preflight(source_db, dest_db, "--no-acl"), "SOURCE_ROW_SECURITY") == []


# --- objects of the source ---


def test_objects_that_need_a_word(source_db, dest_db, preflight):
    source_db.sql("""CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1); CREATE UNLOGGED TABLE u (a int);
        CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE FOREIGN TABLE f (a int) SERVER files OPTIONS (filename '/dev/null')""")
    with contextlib.closing(source_db.connect()) as conn, pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (a)")
    found = preflight(source_db, dest_db)
    assert one(found, "SOURCE_INVALID_INDEX", "WARNING")["object"] == "index public.broken"
    assert one(found, "SOURCE_UNLOGGED_TABLE", "INFO")["object"] == "table public.u"
    assert "files" in one(found, "SOURCE_FOREIGN_TABLE", "INFO")["message"]
    assert not errors(found)


# --- the destination as a server ---


def test_same_database(source_db, preflight):
    one(preflight(source_db, source_db), "SAME_DATABASE", "ERROR", "destination")


def test_two_databases_of_one_server(source, source_db, preflight):
    other = source.createdb()
    found = preflight(source_db, other)
    other.drop()
    assert of(found, "SAME_DATABASE") == []


def test_rights_at_the_destination(source_db, dest_db, low_roles, preflight):
    source_db.sql("CREATE TABLE t (a int)")
    dest_db.sql(f"REVOKE TEMP ON DATABASE {dest_db.name} FROM PUBLIC")
    writer = dest_db.uri_as(WRITER)
    found = preflight(source_db, writer, "--no-owner")
    one(found, "DESTINATION_CREATE_PRIVILEGE", "ERROR", "destination")
    one(found, "DESTINATION_TEMP_PRIVILEGE", "WARNING", "destination")
    assert one(found, "DESTINATION_SCHEMA_PRIVILEGE", "ERROR", "destination")["object"] == "schema public"
    replica = one(found, "DESTINATION_REPLICA_ROLE", "INFO", "destination")
    one(found, "DESTINATION_DISK_UNKNOWN", "INFO", "destination")
    for finding in errors(found) + [replica]:
        dest_db.sql(finding["fix"])
    found = preflight(source_db, writer, "--no-owner")
    dest_db.sql(f"DROP OWNED BY {WRITER}; REVOKE SET ON PARAMETER session_replication_role FROM {WRITER}")
    assert errors(found) == [] and of(found, "DESTINATION_REPLICA_ROLE") == []


def test_settings_of_the_destination(source_db, own_cluster, preflight):
    own = own_cluster("settings", config={"max_connections": "8", "max_wal_senders": "2"})
    dest_db = own.createdb()
    dest_db.sql(f"""ALTER DATABASE {dest_db.name} SET default_transaction_read_only = on;
        CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end';
        CREATE EVENT TRIGGER noise ON ddl_command_end EXECUTE FUNCTION e()""")
    own.configure({"synchronous_standby_names": "nobody"})
    own.reload()
    found = preflight(source_db, dest_db, "--jobs", "8")
    one(found, "DESTINATION_READ_ONLY", "WARNING", "destination")
    assert one(found, "DESTINATION_EVENT_TRIGGER", "WARNING", "destination")["object"] == "event trigger noise"
    assert "nobody" in one(found, "DESTINATION_SYNCHRONOUS", "INFO", "destination")["message"]
    one(found, "DESTINATION_CONNECTIONS", "ERROR", "destination")
    assert "function public.e()" in one(found, "DESTINATION_NOT_EMPTY", "WARNING", "destination")["message"]


@pytest.mark.parametrize("ours, theirs, check, severity", [
    ("UTF8", "LATIN1", "DESTINATION_ENCODING", "ERROR"),
    ("SQL_ASCII", "UTF8", "ENCODING_UNCHECKED", "WARNING"),
    ("UTF8", "SQL_ASCII", "ENCODING_UNCHECKED", "WARNING"),
    ("LATIN1", "UTF8", None, None),
])
def test_encodings(source, dest, preflight, ours, theirs, check, severity):
    with contextlib.ExitStack() as stack:
        source_db, dest_db = (cluster.createdb(options=f"TEMPLATE template0 LOCALE 'C' ENCODING '{encoding}'")
                              for cluster, encoding in ((source, ours), (dest, theirs)))
        stack.callback(source_db.drop)
        stack.callback(dest_db.drop)
        found = preflight(source_db, dest_db)
        if check:
            one(found, check, severity, "destination")
        else:
            assert found == []


def test_locale(source_db, dest, preflight):
    other = dest.createdb(options="TEMPLATE template0 LOCALE 'C'")
    found = one(preflight(source_db, other), "DESTINATION_LOCALE", "WARNING", "destination")
    other.drop()
    assert "C.UTF-8" in found["message"] and "LC_COLLATE 'C.UTF-8'" in found["fix"]


def test_disk_and_wal_size(source, source_db, dest, dest_db, preflight):
    """The server counts a file in the database's folder by its length: one with a hole takes no room."""
    oid = source_db.sql("SELECT oid FROM pg_database WHERE datname = current_database()")[0][0]
    disk = os.statvfs(dest.data)
    hole = os.path.join(source.data, "base", str(oid), "hole")
    with open(hole, "wb") as file:
        file.truncate(max(disk.f_bavail * disk.f_frsize, 3 << 30))
    found = preflight(source_db, dest_db)
    one(found, "DESTINATION_DISK", "ERROR", "destination")
    assert "max_wal_size" in one(found, "DESTINATION_WAL_SIZE", "INFO", "destination")["fix"]
    assert of(preflight(source_db, dest_db, "--schema-only"), "DESTINATION_DISK") == []
    os.unlink(hole)
    assert preflight(source_db, dest_db) == []


# --- what is in the destination ---


def test_clashes(source_db, dest_db, preflight):
    source_db.sql("""CREATE SCHEMA s; CREATE TABLE s."T" (a int); CREATE TABLE t (a int); CREATE TYPE y AS (a int);
        CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'""")
    dest_db.sql("""CREATE SCHEMA s; CREATE TABLE s."T" (b int); CREATE VIEW t AS SELECT 1; CREATE DOMAIN y AS int;
        CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SEQUENCE mine""")
    found = preflight(source_db, dest_db)
    assert {f["object"] for f in of(found, "DESTINATION_CLASH")} == \
        {"schema s", 'table s."T"', "view public.t", "domain public.y", "function public.f(integer)"}
    others = one(found, "DESTINATION_NOT_EMPTY", "WARNING", "destination")["message"]
    assert "2 other objects" in others and "sequence public.mine" in others
    clash = of(preflight(source_db, dest_db, "--table", "public.t"), "DESTINATION_CLASH")
    assert [(f["object"], f["fix"]) for f in clash] == [("view public.t", "DROP VIEW public.t; -- on the destination")]
    for finding in [f for f in of(found, "DESTINATION_CLASH") if "schema" not in f["object"]]:
        dest_db.sql(finding["fix"])
    dest_db.sql("DROP SCHEMA s")
    assert errors(preflight(source_db, dest_db)) == []


def test_data_only(source_db, dest_db, low_roles, preflight):
    source_db.sql("""CREATE TABLE same (a int, b text); CREATE TABLE other (a int, b text); CREATE TABLE missing (a int);
        CREATE TABLE filled (a int); CREATE TABLE emptied (a int)""")
    dest_db.sql("""CREATE TABLE same (b text, a int); CREATE TABLE other (a bigint, b text); CREATE TABLE more (a int);
        CREATE TABLE filled (a int); INSERT INTO filled VALUES (1); CREATE TABLE emptied (a int);
        INSERT INTO emptied VALUES (1); DELETE FROM emptied""")
    found = preflight(source_db, dest_db, "--data-only")
    assert one(found, "DATA_ONLY_TABLE_MISSING", "ERROR", "destination")["object"] == "table public.missing"
    columns = one(found, "DATA_ONLY_COLUMNS", "ERROR", "destination")
    assert columns["object"] == "table public.other" and "a bigint" in columns["message"]
    assert one(found, "DATA_ONLY_NOT_EMPTY", "ERROR", "destination")["object"] == "table public.filled"
    assert len(errors(found)) == 3
    found = preflight(source_db, dest_db.uri_as(WRITER), "--data-only", "--table", "public.same")
    assert one(found, "DATA_ONLY_PRIVILEGE", "ERROR", "destination")["object"] == "table public.same"


# --- what the definitions need ---


def pretend_extension(database, name, version):
    """An entry in pg_extension, as no test may write into the server's own folder of extensions."""
    database.sql("INSERT INTO pg_extension SELECT coalesce(max(oid::bigint), 0) + 100000, %s, 10, 2200, false, %s,"
                 " NULL, NULL FROM pg_extension", (name, version))


def test_extensions(source_db, dest_db, low_roles, preflight):
    source_db.sql("CREATE EXTENSION hstore; CREATE EXTENSION file_fdw")
    pretend_extension(source_db, "vector", "0.7")
    source_db.sql("UPDATE pg_extension SET extversion = '1.4' WHERE extname = 'hstore'")
    dest_db.sql(f"GRANT CREATE ON DATABASE {dest_db.name} TO {WRITER}")
    found = preflight(source_db, dest_db.uri_as(WRITER), "--no-owner")
    missing = one(found, "EXTENSION_MISSING", "ERROR", "destination")
    assert missing["object"] == "extension vector" and "postgresql-15-pgvector" in missing["fix"]
    version = one(found, "EXTENSION_VERSION", "WARNING", "destination")
    assert version["object"] == "extension hstore" and "1.4" in version["message"]
    assert one(found, "EXTENSION_PRIVILEGE", "ERROR", "destination")["object"] == "extension file_fdw"
    dest_db.sql("CREATE EXTENSION file_fdw")
    assert of(preflight(source_db, dest_db.uri_as(WRITER), "--no-owner"), "EXTENSION_PRIVILEGE") == []


@pytest.fixture
def more_roles(source, dest):
    """Roles of the source, one of which the destination has. Made before the databases, dropped after them."""
    source.sql('CREATE ROLE pf_owner; CREATE ROLE "pf Grantee" LOGIN; CREATE ROLE pf_policy; CREATE ROLE pf_default')
    dest.sql("CREATE ROLE pf_owner")
    yield
    source.sql('DROP ROLE pf_owner, "pf Grantee", pf_policy, pf_default')
    dest.sql("DROP ROLE pf_owner")


def test_roles(more_roles, low_roles, source_db, dest_db, preflight):
    source_db.sql('''CREATE TABLE t (a int); ALTER TABLE t OWNER TO pf_owner; GRANT SELECT ON t TO "pf Grantee";
        CREATE POLICY p ON t TO pf_policy USING (true);
        ALTER DEFAULT PRIVILEGES FOR ROLE pf_default GRANT SELECT ON TABLES TO PUBLIC''')
    found = preflight(source_db, dest_db)
    missing = {f["object"]: f["fix"] for f in of(found, "ROLE_MISSING")}
    assert missing == {'role "pf Grantee"': 'CREATE ROLE "pf Grantee" LOGIN; -- or --no-acl',
                       "role pf_default": "CREATE ROLE pf_default; -- or --no-acl",
                       "role pf_policy": "CREATE ROLE pf_policy;"}
    assert "table public.t" in next(f for f in found if f["object"] == 'role "pf Grantee"')["message"]
    missing = of(preflight(source_db, dest_db, "--no-acl"), "ROLE_MISSING")
    assert [f["object"] for f in missing] == ["role pf_policy"]
    writer = dest_db.uri_as(WRITER)
    found = of(preflight(source_db, writer), "ROLE_NOT_MEMBER")
    assert {f["object"]: f["fix"] for f in found} == \
        {"role pf_owner": f"GRANT pf_owner TO {WRITER}; -- or --no-owner"}
    assert of(preflight(source_db, writer, "--no-owner"), "ROLE_NOT_MEMBER") == []
    source_db.sql("CREATE TABLE own (a int)")
    assert "role postgres" in {f["object"] for f in of(preflight(source_db, writer), "ROLE_NOT_MEMBER")}
    assert of(preflight(source_db, dest_db, "--exclude-table", "public.t"), "ROLE_MISSING") == []


def test_owner_of_public(low_roles, source_db, dest_db, preflight):
    """Before 15 the bootstrap superuser owns it everywhere; from 15 on, pg_dump tells that it does."""
    writer = dest_db.uri_as(WRITER)
    assert of(preflight(source_db, writer), "ROLE_NOT_MEMBER") == []
    source_db.sql("ALTER SCHEMA public OWNER TO postgres")
    [found] = of(preflight(source_db, writer), "ROLE_NOT_MEMBER")
    assert found["object"] == "role postgres" and "owns schema public" in found["message"]
    assert "--no-owner" in found["fix"] and "GRANT" not in found["fix"], "it would be a superuser"
    assert of(preflight(source_db, writer, "--no-owner"), "ROLE_NOT_MEMBER") == of(preflight(source_db, dest_db), "ROLE_NOT_MEMBER") == []


def test_tablespaces(source, dest, low_roles, preflight):
    name = "pf_space"
    for cluster in (source, dest):
        folder = os.path.join(cluster.folder, name)
        os.mkdir(folder)
        owner = os.stat(cluster.data)
        os.chown(folder, owner.st_uid, owner.st_gid)
    source.sql(f"CREATE TABLESPACE {name} LOCATION '{source.folder}/{name}'")
    source_db, dest_db = source.createdb(), dest.createdb()
    source_db.sql(f"CREATE TABLE t (a int PRIMARY KEY USING INDEX TABLESPACE {name})")
    missing = one(preflight(source_db, dest_db), "TABLESPACE_MISSING", "ERROR", "destination")
    assert missing["object"] == f"tablespace {name}" and "index public.t_pkey" in missing["message"]
    assert of(preflight(source_db, dest_db, "--exclude-table", "public.t"), "TABLESPACE_MISSING") == []
    dest.sql(f"CREATE TABLESPACE {name} LOCATION '{dest.folder}/{name}'")
    assert of(preflight(source_db, dest_db), "TABLESPACE_MISSING") == []
    one(preflight(source_db, dest_db.uri_as(WRITER), "--no-owner"), "TABLESPACE_PRIVILEGE", "ERROR", "destination")
    source_db.drop()
    dest_db.drop()
    source.sql(f"DROP TABLESPACE {name}")
    dest.sql(f"DROP TABLESPACE {name}")


def test_collations(source_db, dest_db, preflight):
    source_db.sql('CREATE TABLE t (a text COLLATE pg_catalog."de-x-icu"); CREATE INDEX i ON t (a COLLATE "C")')
    dest_db.sql("DELETE FROM pg_collation WHERE collname = 'de-x-icu'")
    found = one(preflight(source_db, dest_db), "COLLATION_MISSING", "ERROR", "destination")
    assert found["object"] == 'collation "de-x-icu"' and "column public.t.a" in found["message"]


def test_what_only_a_superuser_makes(source_db, dest_db, low_roles, preflight):
    source_db.sql("""CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end';
        CREATE EVENT TRIGGER et ON sql_drop EXECUTE FUNCTION e(); CREATE FOREIGN DATA WRAPPER w;
        CREATE FUNCTION c(internal) RETURNS oid LANGUAGE c AS '$libdir/file_fdw', 'file_fdw_validator'""")
    found = preflight(source_db, dest_db.uri_as(WRITER), "--no-owner")
    assert {f["object"] for f in of(found, "SUPERUSER_NEEDED")} == \
        {"event trigger et", "foreign-data wrapper w", "function public.c(internal) in language c"}
    found = preflight(source_db, dest_db)
    assert of(found, "SUPERUSER_NEEDED") == []
    assert "$libdir/file_fdw" in one(found, "LIBRARY_NEEDED", "WARNING", "destination")["message"]


def test_a_check_that_cannot_be_made_is_a_finding(source_db, dest_db, low_roles, preflight):
    source_db.sql(f"""CREATE TABLE t (a int); GRANT SELECT ON t TO {READER}; GRANT pg_monitor TO {READER};
        REVOKE SELECT ON pg_catalog.pg_prepared_xacts FROM PUBLIC""")
    found = preflight(source_db.uri_as(READER), dest_db, "--no-acl")
    impossible = one(found, "CHECK_IMPOSSIBLE", "WARNING")
    source_db.sql(f"REVOKE pg_monitor FROM {READER}")
    assert impossible["object"] == "check SOURCE_PREPARED_TRANSACTION" and "pg_prepared_xacts" in impossible["message"]
    assert errors(found) == []


# --- with --follow ---

FOLLOWER = "pf_follower"


@pytest.fixture
def follower(source, source_db):
    """A role of the source that may do nothing but log in."""
    source.sql(f"CREATE ROLE {FOLLOWER} LOGIN")
    yield FOLLOWER
    source_db.sql(f"DROP OWNED BY {FOLLOWER}")
    source.sql(f"DROP ROLE {FOLLOWER}")


@pytest.mark.parametrize("major", [13, 15, 18])
def test_follow_of_a_clean_source(server_of, dest_db, preflight, major):
    source_db = server_of(major).createdb()
    source_db.sql("""CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE f (a int); ALTER TABLE f REPLICA IDENTITY FULL;
        CREATE TABLE parts (k int PRIMARY KEY) PARTITION BY LIST (k);
        CREATE TABLE p1 PARTITION OF parts FOR VALUES IN (1)""")
    found = [f for f in preflight(source_db, dest_db, "--follow", "--ddl") if f["id"].startswith("FOLLOW_")]
    source_db.drop()
    if major < 14:
        version = one(found, "FOLLOW_DDL_VERSION", "ERROR")
        assert "PostgreSQL 13: --ddl needs 14" in version["message"] and "leave out --ddl" in version["fix"]
    assert [f for f in found if f["id"] != "FOLLOW_DDL_VERSION" or major >= 14] == []


def test_follow_rows_only_with_follow(source_db, dest_db, preflight):
    source_db.sql("CREATE TABLE t (a int); CREATE UNLOGGED TABLE u (a int PRIMARY KEY)")
    without = preflight(source_db, dest_db)
    assert [f["id"] for f in without] == ["SOURCE_UNLOGGED_TABLE"]
    found = preflight(source_db, dest_db, "--follow")
    assert {f["id"] for f in found} == {"FOLLOW_NO_IDENTITY", "FOLLOW_UNLOGGED_TABLE"}, "one word about each"
    assert "copied again" in one(found, "FOLLOW_UNLOGGED_TABLE", "WARNING")["message"]


@pytest.fixture(scope="module")
def unfit(make_cluster):
    """A server that cannot be followed at all."""
    return make_cluster("unfit", config={
        "wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "1", "wal_sender_timeout": "2s",
        "max_slot_wal_keep_size": "1GB", "logical_decoding_work_mem": "4MB", "max_locks_per_transaction": "10",
        "max_connections": "20", "max_prepared_transactions": "0"})


def test_follow_settings(unfit, dest_db, preflight):
    unfit.sql("SELECT pg_create_physical_replication_slot('taken')")
    source_db = unfit.createdb()
    for i in range(120):  # one transaction each: its lock table is small
        source_db.sql(f"CREATE TABLE t{i} (a int PRIMARY KEY)")
    found = preflight(source_db, dest_db, "--follow", "--jobs", "2")
    assert one(found, "FOLLOW_WAL_LEVEL", "ERROR")["fix"] == \
        "ALTER SYSTEM SET wal_level = logical; -- then restart the server"
    slots = one(found, "FOLLOW_SLOTS", "ERROR")
    assert "1 are in use" in slots["message"] and "max_replication_slots = 2;" in slots["fix"]
    assert "max_wal_senders = 2;" in one(found, "FOLLOW_SENDERS", "ERROR")["fix"]
    assert "2s" in one(found, "FOLLOW_SENDER_TIMEOUT", "WARNING")["message"]
    keep = one(found, "FOLLOW_KEEP_SIZE", "WARNING")
    assert "1GB" in keep["message"]
    assert keep["fix"] == "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();"
    assert "4MB" in one(found, "FOLLOW_DECODING_MEMORY", "INFO")["message"]
    room = one(found, "FOLLOW_FENCE_ROOM", "WARNING")
    assert "120 tables" in room["message"] and of(found, "SOURCE_LOCKS") == []
    assert of(preflight(source_db, dest_db, "--follow", "--fence", "none"), "FOLLOW_FENCE_ROOM") == []
    unfit.sql("SELECT pg_drop_replication_slot('taken')")
    assert of(preflight(source_db, dest_db, "--follow"), "FOLLOW_SLOTS") == []
    source_db.drop()


@pytest.mark.parametrize("role, wording", [
    ("rds_superuser", "rds.logical_replication = 1 in the DB parameter group"),
    ("cloudsqlsuperuser", "cloudsql.logical_decoding=on"),
    ("azure_pg_admin", "server parameter wal_level = LOGICAL"),
])
def test_follow_on_a_service(unfit, dest_db, preflight, role, wording):
    """Recognised by its role; ALTER SYSTEM is possible at none of them."""
    source_db = unfit.createdb()
    unfit.sql(f"CREATE ROLE {role}")
    found = preflight(source_db, dest_db, "--follow")
    unfit.sql(f"DROP ROLE {role}")
    source_db.drop()
    assert wording in one(found, "FOLLOW_WAL_LEVEL", "ERROR")["fix"]
    assert not [f for f in found if f["id"].startswith("FOLLOW_") and "ALTER SYSTEM SET" in f["fix"]]


def test_follow_on_a_service_known_by_its_setting(own_cluster, dest_db, preflight):
    own = own_cluster("rds", config={"wal_level": "replica", "rds.logical_replication": "0"})
    assert "rds.logical_replication = 1" in one(preflight(own.createdb(), dest_db, "--follow"), "FOLLOW_WAL_LEVEL",
                                                "ERROR")["fix"]


def test_follow_idle_time_out(own_cluster, dest_db, preflight):
    own = own_cluster("idle", major=18, config={"idle_replication_slot_timeout": "2h", "wal_sender_timeout": "0"})
    found = preflight(own.createdb(), dest_db, "--follow")
    idle = one(found, "FOLLOW_IDLE_TIMEOUT", "WARNING")
    assert "2h" in idle["message"] and "idle_replication_slot_timeout = 0;" in idle["fix"]
    assert "does not notice" in one(found, "FOLLOW_SENDER_TIMEOUT", "WARNING")["message"]


def test_follow_waits_for_old_transactions(source, source_db, dest_db, preflight):
    """Of every database; young ones are no word worth."""
    other = source.createdb()
    with contextlib.closing(source_db.connect()) as writer, contextlib.closing(other.connect()) as prepared, \
            contextlib.closing(source_db.connect()) as young:
        source_db.sql("CREATE TABLE t (a int PRIMARY KEY)")
        writer.execute("BEGIN; INSERT INTO t VALUES (1)")
        prepared.execute("BEGIN; CREATE TABLE p (a int); PREPARE TRANSACTION 'it''s old'")
        wait_until(lambda: source.sql("SELECT clock_timestamp() - prepared > '5 s' FROM pg_prepared_xacts")[0][0],
                   what="the transactions to be old")
        young.execute("BEGIN; INSERT INTO t VALUES (2)")
        found = preflight(source_db, dest_db, "--follow")
        pid = writer.info.backend_pid
    waiting = one(found, "FOLLOW_LONG_TRANSACTION", "WARNING")
    assert waiting["object"] == f"process {pid}" and waiting["fix"].startswith(f"SELECT pg_terminate_backend({pid});")
    orphan = one(found, "FOLLOW_PREPARED_TRANSACTION", "ERROR")
    assert other.name in orphan["message"] and of(found, "SOURCE_PREPARED_TRANSACTION") == []
    other.sql(orphan["fix"])
    assert of(preflight(source_db, dest_db, "--follow"), "FOLLOW_PREPARED_TRANSACTION") == []
    other.drop()


def test_follow_refuses_a_standby(own_cluster, dest_db, preflight):
    standby = own_cluster("standby2")
    own_db = standby.createdb()
    standby.stop()
    with open(os.path.join(standby.data, "standby.signal"), "w", encoding="ascii"):
        pass
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        standby.start()
    found = preflight(own_db, dest_db, "--follow")
    assert "primary" in one(found, "FOLLOW_STANDBY", "ERROR")["fix"] and of(found, "SOURCE_STANDBY") == []


def test_follow_rights(source_db, dest_db, follower, preflight):
    """Every fix is run, as the superuser, and mends."""
    source_db.sql(f"""CREATE SCHEMA s; CREATE TABLE s."T" (a int PRIMARY KEY); CREATE TABLE mine (a int PRIMARY KEY);
        ALTER TABLE mine OWNER TO {follower}; REVOKE UPDATE, DELETE, TRUNCATE ON mine FROM {follower};
        GRANT USAGE ON SCHEMA s TO {follower}; GRANT SELECT ON s."T" TO {follower};
        CREATE UNLOGGED TABLE u (a int); GRANT SELECT ON u TO {follower}""")
    uri = source_db.uri_as(follower)
    found = preflight(uri, dest_db, "--follow", "--ddl", "--no-acl", "--no-owner")
    assert one(found, "FOLLOW_REPLICATION", "ERROR")["fix"].startswith(f"ALTER ROLE {follower} REPLICATION;")
    assert one(found, "FOLLOW_PUBLISH", "ERROR")["fix"] == f"GRANT CREATE ON DATABASE {source_db.name} TO {follower};"
    owner = one(found, "FOLLOW_PUBLISH_OWNER", "ERROR")
    assert (owner["object"], owner["fix"]) == ('table s."T"', f"GRANT postgres TO {follower};")
    assert "event triggers" in one(found, "FOLLOW_DDL", "ERROR")["message"]
    assert "one by one" in one(found, "FOLLOW_PUBLISH_ALL", "INFO")["message"]
    assert "--fence full will be refused" in one(found, "FOLLOW_FENCE_DATABASE", "WARNING")["message"]
    signal = one(found, "FOLLOW_FENCE_SIGNAL", "WARNING")
    assert signal["fix"] == f"GRANT pg_signal_backend TO {follower}; -- or --fence locks"
    assert [f["object"] for f in of(found, "FOLLOW_FENCE_LOCK")] == ["table public.mine", "table public.u"]
    locks = preflight(uri, dest_db, "--follow", "--fence", "locks", "--no-acl", "--no-owner")
    assert of(locks, "FOLLOW_FENCE_SIGNAL") == of(locks, "FOLLOW_FENCE_DATABASE") == of(locks, "FOLLOW_DDL") == []
    assert len(of(locks, "FOLLOW_FENCE_LOCK")) == 2
    assert of(preflight(uri, dest_db, "--follow", "--fence", "none"), "FOLLOW_FENCE_LOCK") == []

    owned = [f for f in found if f["id"] in ("FOLLOW_PUBLISH_OWNER", "FOLLOW_FENCE_DATABASE")]
    for finding in found:
        if finding["id"].startswith("FOLLOW_") and finding["severity"].upper() != "INFO" \
                and finding["id"] not in ("FOLLOW_DDL", "FOLLOW_UNLOGGED_TABLE") and finding not in owned:
            source_db.sql(finding["fix"])
    # Not the superuser's rights, as the fix would give them: those of a role that owns both.
    source_db.sql(f"ALTER TABLE s.\"T\" OWNER TO {follower}; ALTER DATABASE {source_db.name} OWNER TO {follower}")
    found = preflight(uri, dest_db, "--follow", "--no-acl", "--no-owner")
    source_db.sql(f"ALTER DATABASE {source_db.name} OWNER TO postgres")
    assert {f["id"] for f in found if f["id"].startswith("FOLLOW_")} == \
        {"FOLLOW_PUBLISH_ALL", "FOLLOW_UNLOGGED_TABLE"}


def test_follow_event_triggers_of_the_source(source_db, dest_db, follower, preflight):
    """Those that our role cannot silence, and that are about what we do there."""
    source_db.sql("""CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE EVENT TRIGGER "Audit" ON ddl_command_end EXECUTE FUNCTION e();
        CREATE EVENT TRIGGER of_tables ON ddl_command_start WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION e();
        CREATE EVENT TRIGGER asleep ON ddl_command_end EXECUTE FUNCTION e(); ALTER EVENT TRIGGER asleep DISABLE""")
    uri = source_db.uri_as(follower)
    found = one(preflight(uri, dest_db, "--follow"), "FOLLOW_EVENT_TRIGGER", "WARNING")
    assert found["object"] == 'event trigger "Audit"' and found["fix"].startswith('ALTER EVENT TRIGGER "Audit" DISABLE;')
    assert len(of(preflight(uri, dest_db, "--follow", "--identity-full"), "FOLLOW_EVENT_TRIGGER")) == 2
    assert of(preflight(source_db, dest_db, "--follow", "--ddl"), "FOLLOW_EVENT_TRIGGER") == [], "a superuser's are silenced"
    assert found["fix"].endswith('ALTER EVENT TRIGGER "Audit" ENABLE;')
    source_db.sql('ALTER EVENT TRIGGER "Audit" ENABLE ALWAYS')
    assert one(preflight(uri, dest_db, "--follow"), "FOLLOW_EVENT_TRIGGER", "WARNING")["fix"].endswith('"Audit" ENABLE ALWAYS;')
    assert len(of(preflight(source_db, dest_db, "--follow"), "FOLLOW_EVENT_TRIGGER")) == (source_db.cluster.major < 17)
    source_db.sql(found["fix"])
    assert of(preflight(uri, dest_db, "--follow"), "FOLLOW_EVENT_TRIGGER") == []


@pytest.mark.parametrize("major", [13, 15, 18])
def test_follow_tables_without_identity(server_of, dest_db, preflight, major):
    source_db = server_of(major).createdb()
    source_db.sql("""CREATE TABLE keyless (a int); CREATE TABLE hidden (a int);
        CREATE TABLE uniq (a int NOT NULL UNIQUE, b int);
        CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
        CREATE TABLE gone (a int NOT NULL); CREATE UNIQUE INDEX gone_i ON gone (a);
        ALTER TABLE gone REPLICA IDENTITY USING INDEX gone_i; DROP INDEX gone_i;
        CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE);
        CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY);
        CREATE TABLE half (a int, b int GENERATED ALWAYS AS (a + 1) STORED);
        CREATE TABLE root (a int) PARTITION BY LIST (a); CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1);
        CREATE PUBLICATION theirs FOR TABLE keyless, nothing WITH (publish = 'insert, update')""")
    found = preflight(source_db, dest_db, "--follow", "--exclude-table", "public.hidden")
    fixes = {f["object"]: f["fix"] for f in of(found, "FOLLOW_NO_IDENTITY")}
    assert set(fixes) == {f"table public.{name}" for name in ("gone", "half", "keyless", "nothing", "root", "uniq")}
    assert "--identity-full" in fixes["table public.keyless"]
    assert one(found, "FOLLOW_DEFERRABLE_KEY", "WARNING")["object"] == "table public.deferred"
    assert "deferred_pkey" in one(found, "FOLLOW_DEFERRABLE_KEY", "WARNING")["message"]
    assert one(found, "FOLLOW_GENERATED_IDENTITY", "WARNING")["object"] == "table public.made"
    assert {f["object"] for f in of(found, "FOLLOW_OTHER_PUBLICATION")} == \
        {"table public.keyless", "table public.nothing"}
    source_db.sql(fixes["table public.uniq"])
    found = preflight(source_db, dest_db, "--follow", "--identity-full")
    assert {f["object"] for f in of(found, "FOLLOW_NO_IDENTITY")} == {"table public.half"}
    assert of(found, "FOLLOW_DEFERRABLE_KEY") == [] and len(of(found, "FOLLOW_GENERATED_IDENTITY")) == 1
    source_db.drop()


def test_follow_what_no_stream_carries(source_db, dest_db, low_roles, preflight):
    source_db.sql("CREATE TABLE t (id serial PRIMARY KEY); SELECT lo_from_bytea(0, 'x'), lo_from_bytea(0, 'y')")
    dest_db.sql(f"GRANT CREATE, TEMP ON DATABASE {dest_db.name} TO {WRITER}; GRANT CREATE ON SCHEMA public TO {WRITER}")
    found = preflight(source_db, dest_db.uri_as(WRITER), "--follow", "--no-owner")
    dest_db.sql(f"DROP OWNED BY {WRITER}")
    assert "2 large objects" in one(found, "FOLLOW_LARGE_OBJECTS", "INFO")["message"]
    assert "1 sequences" in one(found, "FOLLOW_SEQUENCES", "INFO")["message"]
    assert "foreign keys" in one(found, "FOLLOW_REPLICA_ROLE", "WARNING", "destination")["message"]
    assert of(found, "DESTINATION_REPLICA_ROLE") == []


# --- libraries of extensions ---


def test_library_that_is_not_loaded(own_cluster, source_db, dest_db, low_roles, preflight):
    """What is told makes it right: all libraries at once, with those that are loaded already."""
    if not source_db.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_stat_statements'"):
        pytest.skip("no contrib modules here")
    source_db.sql("CREATE EXTENSION pg_stat_statements; CREATE EXTENSION hstore")
    idle = one(preflight(source_db, dest_db), "EXTENSION_IDLE", "WARNING", "destination")
    assert idle["fix"].startswith("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements';"), idle
    hidden = one(preflight(source_db, dest_db.uri_as(WRITER), "--no-owner"), "EXTENSION_IDLE", "WARNING", "destination")
    assert hidden["fix"] == "add to shared_preload_libraries of the destination: pg_stat_statements; then restart it", hidden
    own = own_cluster("preload", config={"shared_preload_libraries": "auto_explain"})
    fix = one(preflight(source_db, own.uri()), "EXTENSION_IDLE", "WARNING", "destination")["fix"]
    own.sql(fix.partition(";")[0])
    own.restart()
    assert own.sql("SHOW shared_preload_libraries") == [("auto_explain, pg_stat_statements",)]
    assert of(preflight(source_db, own.uri()), "EXTENSION_IDLE") == []
    own.sql(f"CREATE ROLE {WRITER} LOGIN")
    found = preflight(source_db, own.uri(user=WRITER), "--no-owner")
    assert of(found, "EXTENSION_IDLE") == [], "its settings show that it is loaded"


def test_extension_that_cannot_be_created(own_cluster, source_db, preflight, tmp_path):
    """18 can be shown extensions that are not installed."""
    own = own_cluster("cron", major=18)
    folder = os.path.join(own.folder, "share", "extension")
    os.makedirs(folder)
    with open(os.path.join(folder, "pg_cron.control"), "w", encoding="utf-8") as file:
        file.write("comment = 'stands for the real one'\ndefault_version = '1.6'\nrelocatable = false\nschema = pg_catalog\n")
    with open(os.path.join(folder, "pg_cron--1.6.sql"), "w", encoding="utf-8") as file:
        file.write("SELECT 1;\n")
    own.sql(f"ALTER SYSTEM SET extension_control_path = '{os.path.dirname(folder)}:$system'")
    own.reload()
    source_db.sql("CREATE EXTENSION citext; UPDATE pg_extension SET extname = 'pg_cron', extversion = '1.6' WHERE extname = 'citext'")
    found = one(preflight(source_db, own.uri()), "EXTENSION_PRELOAD", "ERROR", "destination")
    assert found["object"] == "extension pg_cron" and "ALTER SYSTEM SET shared_preload_libraries = 'pg_cron'" in found["fix"], found
    own.sql("CREATE EXTENSION pg_cron")
    one(preflight(source_db, own.uri()), "EXTENSION_IDLE", "WARNING", "destination")
