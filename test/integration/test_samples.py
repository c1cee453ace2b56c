"""Whole databases arrive: the same definitions, the same rows, the same large objects and settings."""
import pytest

from support import compare
from support.migration import (FLAGS, Writers, assert_done, assert_nothing_left, assert_one_moment, bodies, data_file,
                               findings_of, migrate_equal, report_of, unchanged)

pytestmark = pytest.mark.turns(2)

APPLICATIONS = {"shop": "0.3", "clinic": "0.3"}


def drop_subscriptions(database):
    """DROP DATABASE refuses while there is one."""
    for (name,) in database.sql("SELECT quote_ident(subname) FROM pg_subscription WHERE subdbid = "
                                "(SELECT oid FROM pg_database WHERE datname = current_database())"):
        database.sql(f"DROP SUBSCRIPTION {name}")


@pytest.fixture(scope="module")
def torture_roles(source, dest):
    for cluster in (source, dest):
        cluster.psql_file(data_file("torture_roles.sql"))


@pytest.fixture
def torture(torture_roles, source_db, dest_db):
    source_db.psql_file(data_file("torture.sql"))
    yield source_db, dest_db
    drop_subscriptions(source_db)
    drop_subscriptions(dest_db)


@pytest.fixture
def small(source_db):
    source_db.psql_file(data_file("small.sql"))
    return source_db


def database_privileges(database):
    return database.sql("SELECT pg_get_userbyid(grantee), privilege_type, is_grantable, pg_get_userbyid(grantor) FROM pg_database,"
                        " aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = current_database() ORDER BY 1, 2")


def test_torture(torture, pgcrane):
    source, dest = torture
    report = migrate_equal(pgcrane, source, dest)
    assert report["snapshots"] == 1
    assert database_privileges(source) == database_privileges(dest)
    # pg_dump leaves an invalid index out: it has to be said.
    left_out = [entry["object"] for entry in report["not_moved"]]
    assert any("i_broken" in name for name in left_out), left_out


def test_torture_by_one_lane(torture, pgcrane):
    """The same without any parallel work: the order of things does not rest on luck."""
    source, dest = torture
    result = pgcrane("migrate", source.uri, dest.uri, "--yes", "--json", "--jobs", "1", "--index-jobs", "1")
    assert_done(result)
    compare.assert_equal(source.uri, dest.uri)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_application(name, source_db, dest_db, pgcrane):
    source_db.psql_file(data_file(f"{name}.sql"), variables={"scale": APPLICATIONS[name]})
    report = migrate_equal(pgcrane, source_db, dest_db)
    assert report["snapshots"] == 1 and report["retries"] == 0
    assert report["not_moved"] == []


def test_small(small, dest_db, pgcrane):
    report = migrate_equal(pgcrane, small, dest_db)
    assert report["chunks_copied"] > 20 and report["chunks_kept"] == 0


def test_empty_database(source_db, dest_db, pgcrane):
    migrate_equal(pgcrane, source_db, dest_db)


def test_moving_source(small, dest_db, pgcrane):
    """Writers go on during the copy: what arrives is one moment of the source, in all tables."""
    with Writers(small) as writers:
        result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
        after_migration = sum(writers.done)
    report = assert_done(result)
    assert report["snapshots"] == 1
    arrived = dest_db.sql("SELECT count(*) FROM bank.transfer")[0][0]
    assert 60 < arrived < after_migration, "nobody wrote during the copy"
    assert_one_moment(dest_db)
    # The next value is beyond what arrived.
    dest_db.sql("INSERT INTO bank.transfer (from_left, to_right, amount) VALUES (1, 1, 1)")
    assert_nothing_left(pgcrane, small, dest_db)


def test_writers_are_never_blocked(small, dest_db, pgcrane):
    """No statement of the application waits for a lock of ours longer than an ordinary moment."""
    with Writers(small, 1) as writers, small.connect() as conn:
        conn.execute("SET lock_timeout = '5s'")
        running = pgcrane.popen("migrate", small.uri, dest_db.uri, *FLAGS)
        while running.poll() is None:
            conn.execute("UPDATE bank.customer SET name = name WHERE id = 1")
            conn.execute("SELECT count(*) FROM bank.customer")
        assert running.returncode == 0, running.stderr.read()
        assert min(writers.done) > 20


def test_hash_partitions_by_enum(source_db, dest_db, pgcrane):
    """The hash of an enum depends on OIDs: rows must find their leaf anew."""
    source_db.sql("CREATE TYPE colour AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');"
                  "CREATE TABLE t (c colour, id int) PARTITION BY HASH (c);"
                  "CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 0);"
                  "CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 1);"
                  "CREATE TABLE t2 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 2);"
                  "INSERT INTO t SELECT (enum_range(NULL::colour))[1 + g % 8], g FROM generate_series(1, 800) g")
    # Push the OIDs of the destination apart from the source's.
    dest_db.sql("CREATE TYPE filler AS ENUM ('1', '2', '3'); DROP TYPE filler")
    assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS))
    rows = "SELECT c::text, id FROM t ORDER BY 2"
    assert source_db.sql(rows) == dest_db.sql(rows)
    for colour in "abcdefgh":
        # By the partition key, so that a row in the wrong leaf is not found.
        assert dest_db.sql(f"SELECT count(*) FROM t WHERE c = '{colour}'")[0][0] == 100


def test_names_of_databases(source, dest, pgcrane):
    """Source and destination may be called anything."""
    name = "we\"ird 'db' äö% $1 \\x"
    pair = source.createdb(name), dest.createdb(name)
    try:
        pair[0].sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)")
        pair[0].sql("ALTER DATABASE \"" + name.replace('"', '""') + "\" SET work_mem = '7MB'")
        migrate_equal(pgcrane, *pair)
    finally:
        for database in pair:
            database.drop()


def test_read_only_source(small, dest_db, pgcrane):
    """A source frozen before it moves; the setting moves too, and only after everything else."""
    small.sql(f'ALTER DATABASE "{small.name}" SET default_transaction_read_only = on')
    migrate_equal(pgcrane, small, dest_db)


def test_locale_and_encoding(source, dest, pgcrane):
    """A LATIN1 database goes into a UTF8 one."""
    pair = source.createdb(options="ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"), dest.createdb()
    try:
        with pair[0].connect() as conn:
            conn.execute("CREATE TABLE \"täble\" (id int PRIMARY KEY, v text)")
            conn.execute("INSERT INTO \"täble\" VALUES (1, 'äöüß'), (2, 'é')")
        assert_done(pgcrane("migrate", pair[0].uri, pair[1].uri, *FLAGS))
        assert pair[1].sql('SELECT v FROM "täble" ORDER BY id') == [("äöüß",), ("é",)]
    finally:
        for database in pair:
            database.drop()


def test_roles_without_superuser(source, dest, source_db, dest_db, pgcrane):
    """Owner of its own schema on the source, owner of the database on the destination: no superuser anywhere."""
    for cluster, database in ((source, source_db), (dest, dest_db)):
        cluster.sql("DO $$ BEGIN IF to_regrole('plain_owner') IS NULL THEN CREATE ROLE plain_owner LOGIN; END IF; END $$")
        cluster.sql(f'ALTER DATABASE "{database.name}" OWNER TO plain_owner')
    source_db.sql("CREATE SCHEMA own; CREATE TABLE own.t (id serial PRIMARY KEY, v text, UNIQUE (v));"
                  "INSERT INTO own.t (v) SELECT 'v' || g FROM generate_series(1, 5000) g;"
                  "CREATE TABLE own.child (id int PRIMARY KEY REFERENCES own.t);"
                  "INSERT INTO own.child SELECT id FROM own.t;"
                  "CREATE VIEW own.v AS SELECT * FROM own.t; CREATE MATERIALIZED VIEW own.m AS SELECT count(*) FROM own.t",
                  user="plain_owner")
    result = pgcrane("migrate", source_db.uri_as("plain_owner"), dest_db.uri_as("plain_owner"), *FLAGS)
    assert_done(result)
    compare.assert_equal(source_db.uri, dest_db.uri)
    assert_nothing_left(pgcrane, source_db, dest_db)


def test_many_small_tables(source_db, dest_db, pgcrane):
    """500 tables with a key and a foreign key each."""
    source_db.sql("DO $$ BEGIN FOR i IN 1..500 LOOP"
                  " EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, up int REFERENCES t%s, v text)', i, CASE WHEN i > 1 THEN i - 1 ELSE 1 END);"
                  " EXECUTE format('INSERT INTO t%s (v, up) SELECT g, CASE WHEN %s > 1 THEN g END FROM generate_series(1, 3) g', i, i);"
                  " END LOOP; END $$")
    migrate_equal(pgcrane, source_db, dest_db)


def test_report(small, dest_db, pgcrane):
    """The report counts what was moved, and the messages of --json come in order."""
    with unchanged(small):
        result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    report = assert_done(result)
    rows = sum(small.sql(f"SELECT count(*) FROM ONLY bank.{t}")[0][0]
               for t in ("customer", "left_account", "right_account", "transfer", "log", "nothing", "big", "toasted",
                         "posting_1", "posting_2", "posting_3", "posting_4"))
    progress = report["progress"]
    assert progress["rows_done"] == rows
    assert progress["tables_done"] == progress["tables_total"] > 0
    assert progress["indexes_done"] == progress["indexes_total"] > 0
    assert report_of(result)["source"] and small.cluster.uri(small.name).split(":")[-1].split("/")[0] in report["source"]
    assert "pg_dump" in report["pg_dump"] and "15" in report["source_version"]
    kinds = [line["type"] for line in result.lines]
    assert kinds[-2:] == ["REPORT", "DONE"] and "FAILED" not in kinds
    assert not [f for f in findings_of(result) if f["severity"].upper() == "ERROR"]
    assert bodies(result, "PROGRESS"), "no progress in --json"
