"""What was given to an extension by hand: CREATE EXTENSION does not make it, so it is told, before and after."""
from support.following import Following
from support.migration import FLAGS, assert_done, findings_of
from support.preflight import of, one

TABLE = """CREATE EXTENSION hstore; CREATE TABLE lookup (id int PRIMARY KEY, v text); INSERT INTO lookup VALUES (1, 'one');
ALTER EXTENSION hstore ADD TABLE lookup; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);"""
FUNCTION = "CREATE FUNCTION {0}() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER EXTENSION {1} ADD FUNCTION {0}();"


def left_of(report):
    return {(item["kind"], item["object"]): item["reason"] for item in report["not_moved"]}


def test_members_are_told(source_db, dest_db, pgcrane):
    """pg_trgm is of another version at the destination, which may well lack a function."""
    source_db.sql(TABLE + "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION pg_trgm VERSION '1.3';"
                  + FUNCTION.format("helper", "citext") + FUNCTION.format("other", "pg_trgm") +
                  """CREATE TABLE bare (id int); ALTER EXTENSION hstore ADD TABLE bare; CREATE TYPE mood AS ENUM ('a');
        ALTER EXTENSION citext ADD TYPE mood; CREATE TABLE conf (id int); INSERT INTO conf VALUES (1);
        ALTER EXTENSION citext ADD TABLE conf;""")
    dest_db.sql("CREATE SCHEMA there; CREATE EXTENSION hstore SCHEMA there; CREATE TABLE there.conf (id int)")
    result = pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--exclude-table", "public.conf")
    filtered = left_of(assert_done(result))
    told = one(findings_of(result), "SOURCE_EXTENSION_TABLE", "WARNING")
    assert told["object"] == "table public.lookup" and told["fix"].startswith("ALTER EXTENSION hstore DROP TABLE public.lookup;")
    assert of(findings_of(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS, "--dry-run", "--schema-only")), "SOURCE_EXTENSION_TABLE") == []
    assert set(filtered) == {("table", "public.lookup"), ("table", "public.bare")}, "under filters, tables"
    for schema in ("public", "ext", "there"):
        dest_db.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    dest_db.sql("CREATE SCHEMA public")

    source_db.sql(told["fix"].partition(";")[0])
    left = left_of(assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS)))
    assert set(left) == {("table", "public.bare"), ("table", "public.conf"), ("function", "public.helper()"), ("type", "public.mood")}
    source_db.sql(left["function", "public.helper()"].partition("before a migration: ")[2])
    assert source_db.sql("SELECT 1 FROM pg_depend WHERE objid = 'helper'::regproc AND deptype = 'e'") == []
    assert dest_db.sql("SELECT * FROM lookup") == [(1, "one")]


def test_a_table_is_told_by_the_run_that_ends(source_db, dest_db, pgcrane):
    """Followed, and behind the promote by another run than the one that promoted."""
    source_db.sql(TABLE)
    following = Following(pgcrane, source_db, dest_db).start(env={"PGCRANE_FAILPOINT": "close.before_remove:kill:1"})
    following.wait_caught_up()
    source_db.sql("INSERT INTO lookup VALUES (2, 'two'); INSERT INTO t VALUES (2)")
    following.wait_applied()
    following.command("promote", "--json", check=False)
    assert following.end() != 0
    following.again()
    assert following.end() == 0, following.said()
    assert dest_db.sql("SELECT id FROM t ORDER BY id") == [(1,), (2,)]
    assert set(left_of(following.bodies("REPORT")[-1])) == {("table", "public.lookup")}
