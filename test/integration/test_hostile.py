"""What a hostile DBA would try: each case ends equal, or in one clear error; never in a success with something missing."""
import contextlib
import glob
import os
import time

import psycopg
import pytest

from support import compare
from support.cluster import wait_until
from support.migration import (FLAGS, assert_done, assert_nothing_left, chunks_done, data_file, failure_of, findings_of, has_ledger,
                               killed_by_failpoint, migrate_equal, sessions, worker_pids)

pytestmark = pytest.mark.turns(5)


@pytest.fixture
def small(source_db):
    source_db.psql_file(data_file("small.sql"))
    return source_db


def failpoint(text):
    return {"PGCRANE_FAILPOINT": text}


def is_gone(connection):
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


# --- the destination loses what it had said was done ---


@pytest.mark.turns(4)
@pytest.mark.parametrize("victim", ("server", "backend"))
def test_destination_forgets_asynchronous_commits(victim, source_db, own_cluster, pgcrane):
    """Lanes commit without waiting for the disk. After a crash the last ranges and indexes, which this very run has
    seen committed, are not there any more."""
    source_db.sql("""CREATE TABLE a AS SELECT g AS id, repeat('x', 500) AS filler FROM generate_series(1, 4000) g;
                     ALTER TABLE a ADD PRIMARY KEY (id); CREATE INDEX a_filler ON a (filler, id);
                     SELECT lo_from_bytea(0, 'large') FROM generate_series(1, 200)""")
    # The WAL writer sleeps as long as it may, so that a crash loses what was committed in the last seconds.
    dest = own_cluster("forgetful", config={"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "fsync": "on",
                                            "wal_buffers": "16MB"})
    dest_db = dest.createdb()
    process = pgcrane.popen("migrate", source_db.uri, dest_db.uri, "--yes", "--json", "--jobs", "1", "--split-size",
                            "64kB", env=failpoint("copy.before_chunk:sleep=10000:9"))
    wait_until(lambda: len(chunks_done(dest_db)[0]) >= 8, what="some ranges")
    before = len(chunks_done(dest_db)[0])
    if victim == "server":
        dest.restart("immediate")
    else:
        (pid,), = dest_db.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgcrane % control'")
        held = dest_db.connect()
        os.kill(pid, 9)
        wait_until(lambda: is_gone(held), what="the crash")
    wait_until(lambda: _count(dest_db) is not None, what="the server to be back")
    lost = before - _count(dest_db)
    out, err = process.communicate(timeout=100)
    assert lost > 0, "nothing was lost: this test shows nothing"
    assert process.returncode == 0, out + err
    compare.assert_equal(source_db.uri, dest_db.uri)
    assert_nothing_left(pgcrane, source_db, dest_db)


def _count(database):
    with contextlib.suppress(psycopg.OperationalError):
        return len(chunks_done(database)[0])
    return None


# --- start over, in pieces ---


@pytest.mark.parametrize("second", ((), ("--restart",)))
def test_start_over_killed_then_plain(second, small, dest_db, pgcrane):
    """A start over that died half-way has dropped tables whose ranges the ledger still calls copied."""
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("sequences.before:kill")), "first")
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart",
                                env=failpoint("restart.after_drop:kill")), "second")
    migrate_equal(pgcrane, small, dest_db, *second)


def test_start_over_removes_the_report(small, dest_db, pgcrane):
    """The report of a run that died before its end must not make a later one say that all is done."""
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("finish.before_commit:kill")), "1")
    reports = glob.glob(os.path.join(pgcrane.state_dir, "*", "report.json"))
    assert len(reports) == 1
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart",
                                env=failpoint("ledger.created:kill")), "2")
    assert not os.path.exists(reports[0])
    migrate_equal(pgcrane, small, dest_db)


def test_start_over_of_another_kind(small, dest_db, pgcrane):
    """--restart with other options: what is undone comes from the ledger, not from the new command."""
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("sequences.before:kill")), "1")
    failed = failure_of(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--restart", "--data-only"))
    assert failed["reason"] == "TABLE_CHANGED" and "not on the destination" in failed["message"]
    migrate_equal(pgcrane, small, dest_db, "--restart")


def test_start_over_of_data_only(small, dest_db, pgcrane):
    """The tables were there before the unfinished run: a start over, also one with other options, takes only the rows."""
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--schema-only", "--table", "bank.log"))
    flags = (*FLAGS, "--table", "bank.log")
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *flags, "--restart", "--data-only",
                                env=failpoint("sequences.before:kill")), "1")
    failure_of(pgcrane("migrate", small.uri, dest_db.uri, *flags, "--restart"))
    assert dest_db.sql("SELECT count(*) FROM bank.log") == [(0,)]


def test_start_over_with_many_large_objects(source_db, own_cluster, pgcrane):
    """More of them than one transaction may lock."""
    source_db.sql("SELECT lo_from_bytea(0, 'x') FROM generate_series(1, 4000)")
    dest_db = own_cluster("fewlocks", config={"max_locks_per_transaction": "10", "max_connections": "20",
                                              "max_prepared_transactions": "0"}).createdb()
    killed_by_failpoint(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, env=failpoint("sequences.before:kill")), "1")
    assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--restart"))
    compare.assert_equal(source_db.uri, dest_db.uri)


# --- the source changes under us ---


@pytest.mark.turns(4)
@pytest.mark.parametrize("change", (
    "ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b",
    "ALTER TABLE t RENAME a TO x; ALTER TABLE t ADD COLUMN a int",
    "ALTER TABLE t DROP COLUMN a", "ALTER TABLE t ADD COLUMN z int DEFAULT 5",
), ids=("swapped", "replaced", "dropped", "added"))
def test_columns_change_in_mid_copy(change, source_db, dest_db, pgcrane):
    """Names are looked up now, rows are those of the snapshot: a column that took another's name has its values."""
    source_db.sql("CREATE TABLE t AS SELECT g AS a, -g AS b, repeat('x', 500) AS filler FROM generate_series(1, 4000) g")
    process = pgcrane.popen("migrate", source_db.uri, dest_db.uri, "--yes", "--json", "--jobs", "1", "--split-size",
                            "256kB", env=failpoint("copy.before_chunk:sleep=3000:4"))
    wait_until(lambda: len(chunks_done(dest_db)[0]) >= 3, what="three ranges")
    source_db.sql(change)
    out, _ = process.communicate(timeout=60)
    if process.returncode == 0:
        wrong = dest_db.sql("SELECT count(*) FROM t WHERE a IS DISTINCT FROM -b OR a < 0")[0][0]
        assert wrong == 0 and dest_db.sql("SELECT count(*) FROM t") == [(4000,)]
    else:
        assert "TABLE_CHANGED" in out


def test_table_dropped_before_the_definitions_are_read(small, dest_db, pgcrane):
    """pg_dump cannot lock a table that its snapshot shows and that is gone."""
    small.sql("CREATE TABLE public.soon_gone (i int)")
    process = pgcrane.popen("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("snapshot.recorded:sleep=6000"))
    wait_until(lambda: has_ledger(dest_db) and dest_db.sql("SELECT 1 FROM pgcrane.snapshot"), what="the snapshot")
    small.sql("DROP TABLE public.soon_gone")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    compare.assert_equal(small.uri, dest_db.uri)


# --- connections ---


@pytest.mark.skipif("PGCRANE_SLOW" not in os.environ, reason="five minutes: PGCRANE_SLOW=1")
def test_destination_away_for_long(small, own_cluster, pgcrane):
    """Away for longer than patience lasts: an error, not a crash of ours."""
    dest = own_cluster("away")
    dest_db = dest.createdb()
    process = pgcrane.popen("migrate", small.uri, dest_db.uri, *FLAGS, env=failpoint("sequences.before:sleep=2000"))
    wait_until(lambda: has_ledger(dest_db) and dest_db.sql("SELECT 1 FROM pgcrane.step WHERE name = 'copied'"), what="copied")
    time.sleep(0.5)
    dest.stop("immediate")
    out, _ = process.communicate(timeout=500)
    dest.start()
    assert process.returncode != 0 and "WORKER_LOST" not in out, out[-3000:]
    migrate_equal(pgcrane, small, dest_db)


# --- contents that depend on more than rows ---


def test_materialized_view_depends_on_settings(source_db, dest_db, pgcrane):
    """It was filled under the source's time zone and text search configuration; the destination's default is another."""
    source_db.sql(f"""ALTER DATABASE {source_db.name} SET timezone = 'Asia/Tokyo';
                     ALTER DATABASE {source_db.name} SET datestyle = 'German';
                     ALTER DATABASE {source_db.name} SET intervalstyle = 'iso_8601';
                     ALTER DATABASE {source_db.name} SET bytea_output = 'escape';
                     ALTER DATABASE {source_db.name} SET default_text_search_config = 'pg_catalog.french'""")
    source_db.sql("""CREATE TABLE t AS SELECT timestamptz '2020-01-01 20:00+00' AS at, interval '1 day 2 hours' AS i,
                         'mangerons des pommes'::text AS w, '\\x00ff'::bytea AS b;
                     CREATE MATERIALIZED VIEW m AS SELECT at::date AS day, at::text AS t, i::text AS i, to_tsvector(w) AS v, b::text AS b FROM t""")
    migrate_equal(pgcrane, source_db, dest_db)


def test_materialized_view_that_cannot_be_filled(small, dest_db, pgcrane):
    """Its function finds its table by a search path. It is listed; everything else arrives."""
    small.sql("""CREATE TABLE public.rate (r int); INSERT INTO public.rate VALUES (7);
                 CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT max(r) FROM rate); END';
                 CREATE MATERIALIZED VIEW public.m AS SELECT public.f() AS f;
                 CREATE MATERIALIZED VIEW public.m2 AS SELECT f FROM public.m""")
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    report = assert_done(result)
    assert {("MATERIALIZED VIEW DATA", "m"), ("MATERIALIZED VIEW DATA", "m2")} <= {(n["kind"], n["object"].split(".")[-1]) for n in report["not_moved"]}
    assert dest_db.sql("SELECT count(*) FROM bank.again") == small.sql("SELECT count(*) FROM bank.again")


def test_setting_that_the_destination_refuses(small, dest_db, pgcrane):
    small.sql("INSERT INTO pg_db_role_setting SELECT oid, 0, ARRAY['lc_messages=xx_YY', 'work_mem=7MB', 'no_such=1', 'log_parser_stats=maybe']"
              " FROM pg_database WHERE datname = current_database()")
    report = assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS))
    assert {n["object"].split(" SET ")[1].split(" ")[0] for n in report["not_moved"]} == {"lc_messages", "no_such", "log_parser_stats"}


def test_lists_in_settings(small, dest_db, pgcrane):
    """An empty list is one empty name, which is no identifier of a statement."""
    small.sql(f"""ALTER DATABASE {small.name} SET search_path = '';
                  ALTER ROLE postgres IN DATABASE {small.name} SET search_path = "$user", 'a "b"'', c', public""")
    migrate_equal(pgcrane, small, dest_db)


def test_setting_that_holds_a_statement(small, dest_db, pgcrane):
    """Somebody has written to the source's catalogue what becomes no part of a statement."""
    small.sql("INSERT INTO pg_db_role_setting SELECT oid, 0, ARRAY['search_path=a, b; CREATE TABLE public.injected ()',"
              " 'my.x; CREATE TABLE public.injected (); --=1'] FROM pg_database WHERE datname = current_database()")
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS))
    assert not dest_db.sql("SELECT 1 FROM pg_class WHERE relname = 'injected'")


# --- names, secrets ---


@pytest.mark.turns(5)
@pytest.mark.parametrize("password", (" starts", "q'u\"o\\te", "#;=%&?@:/", "tab\there", "ümläut", "x" * 900),
                         ids=range(6))
def test_odd_passwords(password, own_cluster, dest_db, pgcrane):
    source = own_cluster("odd", auth="scram-sha-256")
    conn = source.connect()
    conn.execute("CREATE ROLE mover LOGIN SUPERUSER PASSWORD " + psycopg.sql.Literal(password).as_string(conn))
    conn.close()
    database = source.createdb()
    database.sql("CREATE TABLE t AS SELECT 1 AS a")
    result = pgcrane("migrate", database.uri_as("mover", password), dest_db.uri, *FLAGS)
    assert_done(result)
    assert dest_db.sql("SELECT a FROM t") == [(1,)]
    for folder, _, names in os.walk(pgcrane.state_dir):
        for name in names:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                assert password not in file.read(), name


def test_bytes_that_are_no_text(source, dest, pgcrane):
    """A database without an encoding has names and values of any bytes."""
    options = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    source_db, dest_db = source.createdb(options=options), dest.createdb(options=options)
    with contextlib.closing(psycopg.connect(source_db.uri, autocommit=True)) as conn:
        conn.execute(b"CREATE TABLE \"t\xe9\xff\" AS SELECT '\xff\xfe'::text AS \"c\xe9\"")
        conn.execute(b"CREATE TYPE \"e\xe9\" AS ENUM ('v\xe9'); CREATE TABLE u (\"x\xe9\" \"e\xe9\"); INSERT INTO u VALUES ('v\xe9');"
                     b" CREATE INDEX \"i\xe9\" ON u (\"x\xe9\"); COMMENT ON TABLE u IS 'k\xe9'; CREATE SEQUENCE \"s\xe9\"; SELECT nextval('\"s\xe9\"')")
    result = pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS)
    assert_done(result)
    with contextlib.closing(psycopg.connect(dest_db.uri, autocommit=True)) as conn:
        assert conn.execute(b"SELECT \"c\xe9\"::bytea FROM \"t\xe9\xff\"", binary=True).fetchall() == [(b"\xff\xfe",)]
        assert conn.execute(b"SELECT count(*) FROM u WHERE \"x\xe9\" = 'v\xe9'").fetchall() == [(1,)]
        assert conn.execute(b"SELECT last_value, is_called FROM \"s\xe9\"").fetchall() == [(1, True)]
    source_db.drop()
    dest_db.drop()


@pytest.mark.parametrize("side", (0, 1), ids=("source", "destination"))
def test_schema_of_our_name(side, small, dest_db, pgcrane):
    """Somebody else's schema pgcrane."""
    (small, dest_db)[side].sql("CREATE SCHEMA pgcrane; CREATE TABLE pgcrane.mine AS SELECT 1 AS a")
    result = pgcrane("migrate", small.uri, dest_db.uri, *FLAGS)
    if side == 0:  # it would not be moved
        assert "SOURCE_RESERVED_SCHEMA" in {finding["id"] for finding in findings_of(result)}, result
    assert "pgcrane" in failure_of(result)["message"] + str(findings_of(result))
    assert (small, dest_db)[side].sql("SELECT a FROM pgcrane.mine") == [(1,)]


# --- data only ---


def test_data_only_leaves_other_sequences_alone(source_db, dest_db, pgcrane):
    for db, n in ((source_db, 5), (dest_db, 1000)):
        db.sql("CREATE TABLE a (id serial); CREATE TABLE b (id serial); CREATE SEQUENCE free")
        db.sql(f"SELECT setval('b_id_seq', {n}), setval('free', {n}), setval('a_id_seq', {n})")
    source_db.sql("INSERT INTO a VALUES (1)")
    assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--data-only", "--table", "public.a"))
    assert dest_db.sql("SELECT last_value FROM a_id_seq") == [(5,)]
    assert dest_db.sql("SELECT last_value FROM b_id_seq") == [(1000,)]


def test_data_only_into_a_complete_schema(source_db, dest_db, pgcrane):
    """Keys and triggers are there already: rows arrive in any order, and no trigger makes more of them."""
    ddl = """CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent, pad text);
             CREATE TABLE audit (what text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.audit VALUES ('x'); RETURN NEW; END$$;"""
    for db in (source_db, dest_db):
        db.sql(ddl)
    source_db.sql("INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child SELECT 1 + g % 10, repeat('x', 100) FROM generate_series(1, 9000) g")
    for db in (source_db, dest_db):
        db.sql("CREATE TRIGGER t AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION note()")
    result = pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--data-only")
    assert_done(result)
    compare.assert_equal(source_db.uri, dest_db.uri)


def test_data_only_table_made_after_the_copy(small, dest_db, pgcrane):
    """Resumed after the copy was complete: a newer table of the source is not called copied."""
    assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS, "--schema-only", "--table", "bank.log"))
    flags = (*FLAGS, "--data-only", "--table", "bank.l*g")
    killed_by_failpoint(pgcrane("migrate", small.uri, dest_db.uri, *flags, "--restart", env=failpoint("sequences.before:kill")), "1")
    for db in (small, dest_db):
        db.sql("CREATE TABLE bank.lag (a int)")
    small.sql("INSERT INTO bank.lag VALUES (1)")
    result = pgcrane("migrate", small.uri, dest_db.uri, *flags)
    report = assert_done(result)
    assert report["progress"]["tables_total"] == 1, report


# --- little room ---


@pytest.mark.turns(5)
def test_few_locks(own_cluster, pgcrane):
    """A lock table of the smallest size at the destination, many tables, and a snapshot lost on the way."""
    config = {"max_locks_per_transaction": "10", "max_connections": "20", "max_prepared_transactions": "0"}
    source_db = own_cluster("locky", config={"max_locks_per_transaction": "256"}).createdb()
    dest_db = own_cluster("fewer", config=config).createdb()
    source_db.sql("DO $$BEGIN FOR i IN 1..1500 LOOP EXECUTE format('CREATE TABLE t%s (a text PRIMARY KEY)', i);"
                  " EXECUTE format('INSERT INTO t%s VALUES (''x'')', i); END LOOP; END$$")
    killed_by_failpoint(pgcrane("migrate", source_db.uri, dest_db.uri, "--yes", "--json", "--jobs", "2", "--snapshot-lease", "10",
                                env=failpoint("copy.before_chunk:kill:3")), "1")
    wait_until(lambda: not sessions(source_db), 30, "the keeper to leave")
    assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, "--yes", "--json", "--jobs", "2"))
    dest_db.cluster.configure({"max_locks_per_transaction": "256"})  # for the pg_dump of the comparison
    dest_db.cluster.restart()
    compare.assert_equal(source_db.uri, dest_db.uri)


# --- a hostile database ---


def test_functions_and_operators_of_ours_shadowed(small, dest_db, pgcrane):
    """Search paths that put other functions, operators, types and relations before the built-in ones."""
    for db in (small, dest_db):
        db.sql(f"""CREATE SCHEMA evil;
            CREATE FUNCTION evil.boom() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
            CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
            CREATE FUNCTION evil.eq(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
            CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
            CREATE FUNCTION evil.eq(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
            CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
            CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.eq);
            CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.eq);
            CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.eq);
            CREATE FUNCTION evil.md5(text) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$;
            CREATE FUNCTION evil.unnest(anyarray) RETURNS int LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION evil.format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_format';
            CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$SELECT evil.boom()::text$$;
            CREATE VIEW evil.pg_class AS SELECT 1 AS oid; CREATE VIEW evil.pg_settings AS SELECT 1 AS name;
            ALTER DATABASE "{db.name}" SET search_path = evil, pg_catalog, public""")
    dest_db.sql("DROP SCHEMA evil CASCADE")
    report = assert_done(pgcrane("migrate", small.uri, dest_db.uri, *FLAGS))
    assert not report["not_moved"]
    for table in ("bank.big", "bank.transfer", "bank.posting", "bank.stored"):
        assert dest_db.sql(f"SELECT pg_catalog.count(*) FROM {table}") == small.sql(f"SELECT pg_catalog.count(*) FROM {table}")


def test_alter_waiting_behind_us(source_db, dest_db, pgcrane):
    """An ALTER TABLE of the application gets its turn between two ranges, and readers behind it with it."""
    source_db.sql("CREATE TABLE t AS SELECT g AS a, repeat('x', 500) AS pad FROM generate_series(1, 8000) g")
    process = pgcrane.popen("migrate", source_db.uri, dest_db.uri, "--yes", "--json", "--jobs", "2", "--split-size", "64kB",
                            env=failpoint("copy.after_copy:sleep=150"))
    wait_until(lambda: len(chunks_done(dest_db)[0]) >= 4, what="some ranges")
    start = time.monotonic()
    source_db.sql("ALTER TABLE t ALTER COLUMN pad SET STATISTICS 100")
    waited = time.monotonic() - start
    assert process.poll() is None
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert waited < 10, f"the application waited {waited:.1f} s"
    assert dest_db.sql("SELECT count(*) FROM t") == [(8000,)]


@pytest.mark.turns(5)
@pytest.mark.parametrize("name", ('a"b', "sp ace", "new\nline", "ünï", "%s%n", "a'b", "back\\slash", "{a,b}", "semi;--", "$x$"))
def test_odd_names(name, source_db, dest_db, pgcrane):
    """The same name for everything that has one."""
    n = '"' + name.replace('"', '""') + '"'
    source_db.sql(f"""CREATE SCHEMA {n}; CREATE TYPE {n}.{n} AS ENUM ('{name.replace("'", "''")}');
        CREATE TABLE {n}.{n}_p ({n} int PRIMARY KEY) PARTITION BY LIST ({n});""".replace(f"{n}_p", '"p' + n[1:]) + f"""
        CREATE TABLE {n}."l{n[1:]} PARTITION OF {n}."p{n[1:]} FOR VALUES IN (1, 2, 3);
        CREATE TABLE {n}."t{n[1:]} ({n} serial CONSTRAINT {n} PRIMARY KEY, "f{n[1:]} int CONSTRAINT "fk{n[1:]} REFERENCES {n}."p{n[1:]} DEFERRABLE,
            e {n}.{n}, EXCLUDE USING btree (e WITH =));
        CREATE TABLE {n}."c{n[1:]} ({n} int, FOREIGN KEY ({n}) REFERENCES {n}."t{n[1:]}) PARTITION BY HASH ({n});
        CREATE TABLE {n}."c0{n[1:]} PARTITION OF {n}."c{n[1:]} FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY RANGE ({n});
        CREATE TABLE {n}."c00{n[1:]} PARTITION OF {n}."c0{n[1:]} DEFAULT;
        CREATE TABLE {n}."c1{n[1:]} PARTITION OF {n}."c{n[1:]} FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE INDEX "i{n[1:]} ON {n}."t{n[1:]} (e, {n}); ALTER TABLE {n}."t{n[1:]} CLUSTER ON "i{n[1:]};
        CREATE UNIQUE INDEX "r{n[1:]} ON {n}."t{n[1:]} ({n}, "f{n[1:]}) ; 
        INSERT INTO {n}."p{n[1:]} VALUES (1), (2); INSERT INTO {n}."t{n[1:]} ("f{n[1:]}, e) VALUES (1, '{name.replace("'", "''")}');
        INSERT INTO {n}."c{n[1:]} VALUES (1), (1), (NULL);
        CREATE MATERIALIZED VIEW {n}."m{n[1:]} AS SELECT * FROM {n}."t{n[1:]}; CREATE SEQUENCE {n}."s{n[1:]}; SELECT nextval('{n.replace("'", "''")}."s{n[1:].replace("'", "''")}')""")
    killed_by_failpoint(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, env=failpoint("fk.after_add:kill:2")), "fk")
    migrate_equal(pgcrane, source_db, dest_db)
    source_db.sql(f"DROP SCHEMA {n} CASCADE")


def test_password_after_a_crash_in_pg_dump(own_cluster, dest_db, pgcrane):
    """pg_dump reads the password from a file. Neither it nor pg_dump outlives the migration."""
    source = own_cluster("secret", auth="scram-sha-256")
    source.sql("CREATE ROLE mover LOGIN SUPERUSER PASSWORD 'MarkerPassword'")
    database = source.createdb()
    database.sql("CREATE TABLE t AS SELECT 1 AS a")
    with contextlib.closing(database.connect(autocommit=False)) as holder:
        process = pgcrane.popen("migrate", database.uri_as("mover", "MarkerPassword"), dest_db.uri, *FLAGS)
        wait_until(lambda: has_ledger(dest_db) and dest_db.sql("SELECT 1 FROM pgcrane.snapshot"), what="the snapshot")
        holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        wait_until(lambda: database.sql("SELECT 1 FROM pg_locks WHERE NOT granted"), what="pg_dump to wait")
        for pid in pgcrane.processes():
            with open(f"/proc/{pid}/cmdline", "rb") as cmdline, open(f"/proc/{pid}/environ", "rb") as environ:
                assert b"MarkerPassword" not in cmdline.read() + environ.read()
        for pid in worker_pids(pgcrane):
            os.kill(pid, 9)
        process.communicate(timeout=30)
    # It has the lock now, and nobody to write to.
    wait_until(lambda: not any("pg_dump" in line for line in pgcrane.processes().values()), 10, "pg_dump to end")
    assert not database.sql("SELECT 1 FROM pg_stat_activity WHERE application_name = 'pg_dump'")
    assert_done(pgcrane("migrate", database.uri_as("mover", "MarkerPassword"), dest_db.uri, *FLAGS))
    for folder, _, names in os.walk(pgcrane.state_dir):
        for name in names:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                assert "MarkerPassword" not in file.read(), name
