"""What a run ends with says what to do: done, the same command goes on (or starts over, where it says so)."""
import pytest

from support.following import Following

pytestmark = pytest.mark.turns(2)

LATIN = "TEMPLATE template0 ENCODING '{}' LC_COLLATE 'C' LC_CTYPE 'C'"
LOOKUP = """CREATE TABLE lookup (id int PRIMARY KEY); INSERT INTO lookup VALUES (1), (2), (3);
CREATE FUNCTION ok(i int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM lookup l WHERE l.id = i)';
CREATE TABLE t (id int PRIMARY KEY, l int, CONSTRAINT zz CHECK (ok(l)));"""
SEARCH_PATH = "ALTER FUNCTION ok(int) SET search_path = public"


def ended(following):
    following.end()
    return following.failure()


def test_function_with_an_unqualified_name(pgcrane, source_db, dest_db):
    source_db.sql(LOOKUP)
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    source_db.sql("INSERT INTO t VALUES (1, 1), (2, 2)")
    failure = ended(following)
    assert failure["reason"] == "CONFLICT" and '"lookup" does not exist' in failure["message"], failure
    assert "ALTER FUNCTION ... SET search_path" in failure["remedy"], failure
    for database in (source_db, dest_db):
        database.sql(SEARCH_PATH)
    following.again()
    following.wait_caught_up()
    following.promote()
    assert dest_db.sql("SELECT id FROM t ORDER BY id") == [(1,), (2,)]


def test_function_with_an_unqualified_name_in_the_copy(pgcrane, source_db, dest_db):
    source_db.sql(LOOKUP + "INSERT INTO t VALUES (1, 1)")
    refused = pgcrane("migrate", source_db.uri, dest_db.uri)
    assert refused.code == 2 and "ALTER FUNCTION ... SET search_path" in refused.stderr, str(refused)


@pytest.mark.parametrize("when", ("copied", "followed"))
@pytest.mark.parametrize("encoding, text", (("SQL_ASCII", "\\xe9"), ("WIN1252", "\\x81")))
def test_text_that_the_destination_cannot_hold(encoding, text, when, pgcrane, source, dest):
    """The row is mended, but what was read of it is not: only a new start helps, and that is what is said."""
    databases = [source.createdb(options=LATIN.format(encoding)), dest.createdb(options=LATIN.format("UTF8"))]
    insert = f"INSERT INTO a VALUES (1, convert_from('{text}', '{encoding}'))"
    try:
        databases[0].sql("CREATE TABLE a (id int PRIMARY KEY, v text)")
        following = Following(pgcrane, *databases)
        if when == "copied":
            databases[0].sql(insert)
        following.start()
        if when == "followed":
            following.wait_caught_up()
            databases[0].sql(insert)
        failure = ended(following)
        assert failure["sqlstate"] in ("22021", "22P05") and "--restart" in failure["remedy"], failure
        databases[0].sql("UPDATE a SET v = 'e'")
        again = Following(pgcrane, *databases, "--restart").start()
        again.wait_caught_up()
        again.promote()
        assert databases[1].sql("SELECT v FROM a") == [("e",)]
    finally:
        pgcrane.end_all()
        for database in databases:
            database.drop()


def test_hash_of_a_text_in_another_encoding(pgcrane, source, dest):
    databases = [source.createdb(options=LATIN.format("LATIN1")), dest.createdb(options=LATIN.format("UTF8"))]
    try:
        databases[0].sql("CREATE TABLE h (k text) PARTITION BY HASH (k); " + "".join(
            f"CREATE TABLE h{i} PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER {i}); " for i in range(3))
            + "INSERT INTO h SELECT chr(192 + g) || g FROM generate_series(1, 60) g")
        refused = pgcrane("migrate", *(database.uri for database in databases))
        assert refused.code == 2 and "make the destination in the source's" in refused.stderr, str(refused)
    finally:
        for database in databases:
            database.drop()


NO_BAD_TABLES = """CREATE FUNCTION no_bad() RETURNS event_trigger LANGUAGE plpgsql AS
'BEGIN IF to_regclass(''public.bad'') IS NOT NULL THEN RAISE ''no table may be bad''; END IF; END';
CREATE EVENT TRIGGER no_bad ON ddl_command_end EXECUTE FUNCTION no_bad()"""
SETTING = "CREATE TABLE t (id int PRIMARY KEY, CONSTRAINT c CHECK ({})); SET my.ok = 'yes'; INSERT INTO t VALUES (1)"


def mended(pgcrane, source_db, dest_db, said, mend, *flags):
    """It is refused; mended on the source alone it is refused again; as the remedy says, it is done."""
    def run(*more):
        return pgcrane("migrate", source_db.uri, dest_db.uri, "--yes", *more)
    refused = run()
    assert refused.code == 2 and said in refused.stderr and "again with --restart" in refused.stderr, str(refused)
    source_db.sql(mend)
    again = run()
    assert again.code == 2 and said in again.stderr, str(again)
    done = run("--restart", *flags)
    assert done.code == 0, str(done)


@pytest.mark.parametrize("where", ("destination", "source"))
def test_definition_that_the_destination_refuses(where, pgcrane, source_db, dest_db):
    source_db.sql("CREATE TABLE bad AS SELECT 1 AS a")
    dest_db.sql(NO_BAD_TABLES)
    if where == "source":
        mended(pgcrane, source_db, dest_db, "no table may be bad", "ALTER TABLE bad RENAME TO good")
        assert dest_db.sql("SELECT a FROM good") == [(1,)]
        return
    refused = pgcrane("migrate", source_db.uri, dest_db.uri, "--yes")
    assert refused.code == 2 and "mend there, then run the same command again" in refused.stderr, str(refused)
    dest_db.sql("DROP EVENT TRIGGER no_bad")
    done = pgcrane("migrate", source_db.uri, dest_db.uri, "--yes")
    assert done.code == 0 and dest_db.sql("SELECT a FROM bad") == [(1,)], str(done)


@pytest.mark.parametrize("check, said", (("current_setting('my.ok') <> ''", "unrecognized configuration parameter"),
                                         ("current_setting('my.ok', true) IS NOT NULL", "violates check constraint")))
def test_row_that_the_destination_refuses(check, said, pgcrane, source_db, dest_db):
    source_db.sql(SETTING.format(check))
    mended(pgcrane, source_db, dest_db, said, "ALTER TABLE t DROP CONSTRAINT c")
    assert dest_db.sql("SELECT id FROM t") == [(1,)]


def test_table_with_a_refused_row_is_left_out(pgcrane, source_db, dest_db):
    source_db.sql(SETTING.format("current_setting('my.ok') <> ''") + "; CREATE TABLE other AS SELECT 1 AS a")
    mended(pgcrane, source_db, dest_db, "--exclude-table", "SELECT 1", "--exclude-table", "public.t")
    assert dest_db.sql("SELECT a FROM other") == [(1,)] and not dest_db.sql("SELECT 1 FROM pg_class WHERE relname = 't'")


def test_unique_index_that_the_rows_do_not_keep(pgcrane, source_db, dest_db):
    """As a damaged index lets them be."""
    source_db.sql("CREATE TABLE t AS SELECT 1 AS a FROM generate_series(1, 2); CREATE INDEX u ON t (a)")
    source_db.sql("UPDATE pg_index SET indisunique = true WHERE indexrelid = 'u'::regclass")
    mended(pgcrane, source_db, dest_db, "REINDEX it there", "DELETE FROM t WHERE ctid = '(0,2)'; REINDEX INDEX u")
    assert dest_db.sql("SELECT a FROM t") == [(1,)]


def test_value_that_names_an_index(pgcrane, source_db, dest_db):
    source_db.sql("CREATE TABLE r (id int PRIMARY KEY, r regclass); INSERT INTO r VALUES (1, 'r_pkey')")
    refused = pgcrane("migrate", source_db.uri, dest_db.uri)
    assert refused.code == 2 and "regclass" in refused.stderr, str(refused)
    source_db.sql("ALTER TABLE r ALTER r TYPE text")
    done = pgcrane("migrate", source_db.uri, dest_db.uri, "--restart", "--yes")
    assert done.code == 0, str(done)
    assert dest_db.sql("SELECT r FROM r") == [("r_pkey",)]


def test_view_that_cannot_be_filled(pgcrane, source_db, dest_db):
    """The load of a run that is followed leaves views empty: said before the promote, listed after it, and what is said fills it."""
    source_db.sql("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1), (2)")
    for name in ("left_so", "mended"):
        source_db.sql(f"CREATE FUNCTION {name}_f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM a';"
                      f" CREATE MATERIALIZED VIEW {name} AS SELECT id, {name}_f() FROM a")
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    notes = following.promoted(following.promote("--dry-run"))["notes"]
    assert [sum("is EMPTY" in note and f"view {name} " in note.replace("public.", "") for note in notes) for name in ("left_so", "mended")] == [1, 1], notes
    for database in (source_db, dest_db):
        database.sql("ALTER FUNCTION mended_f() SET search_path = public")
    following.promote()
    report = following.bodies("REPORT")[-1]
    told = [note for note in report["notes"] if "materialized view" in note]
    assert len(told) == 1 and "is EMPTY" in told[0] and "ALTER FUNCTION ... SET search_path" in told[0], report["notes"]
    listed = [item for item in report["not_moved"] if item["kind"] == "MATERIALIZED VIEW DATA"]
    assert len(listed) == 1 and "left_so" in listed[0]["object"] and "does not exist" in listed[0]["reason"], report["not_moved"]
    assert dest_db.sql("SELECT * FROM mended ORDER BY 1") == [(1, 2), (2, 2)]
    dest_db.sql("ALTER FUNCTION left_so_f() SET search_path = public")
    dest_db.sql(told[0].rsplit("on the destination: ")[-1])
    assert dest_db.sql("SELECT * FROM left_so ORDER BY 1") == [(1, 2), (2, 2)]
