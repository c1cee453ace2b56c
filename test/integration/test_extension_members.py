"""What was given to an extension by hand: CREATE EXTENSION does not make it, so it is told, before and after."""
import pytest

from support.following import Following
from support.migration import FLAGS, assert_done, findings_of
from support.preflight import of, one

TABLE = """CREATE EXTENSION hstore; CREATE TABLE lookup (id int PRIMARY KEY, v text); INSERT INTO lookup VALUES (1, 'one');
ALTER EXTENSION hstore ADD TABLE lookup; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);"""
FUNCTION = "CREATE FUNCTION {0}() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER EXTENSION {1} ADD FUNCTION {0}();"


def left_of(report):
    return {(item["kind"], item["object"]): item["reason"] for item in report["not_moved"]}


def test_members_are_told(source_db, dest_db, pgcrane):
    """pg_trgm is of another version at the destination: what it lacks is told, as what either may have happened to."""
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
    assert set(left) == {("table", "public.bare"), ("table", "public.conf"), ("function", "public.helper()"), ("type", "public.mood"),
                         ("function", "public.other()")}
    assert "1.3 on the source: either" in left["function", "public.other()"]
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
    assert dest_db.sql("SELECT table_name, suspect FROM pgcrane.relation WHERE suspect IS NOT NULL") == [], "it was not made meanwhile"
    following.command("promote", "--json", check=False)
    assert following.end() != 0
    following.again()
    assert following.end() == 0, following.said()
    assert dest_db.sql("SELECT id FROM t ORDER BY id") == [(1,), (2,)]
    assert set(left_of(following.bodies("REPORT")[-1])) == {("table", "public.lookup")}


# Of what the catalogue has in other words than ALTER EXTENSION.
OTHER_WORDS = """CREATE EXTENSION citext; CREATE FOREIGN DATA WRAPPER "own w"; ALTER EXTENSION citext ADD FOREIGN DATA WRAPPER "own w";
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
ALTER EXTENSION citext ADD TRANSFORM FOR int LANGUAGE sql;"""


def test_what_is_told_can_be_run(source_db, dest_db, pgcrane):
    source_db.sql(OTHER_WORDS)
    left = left_of(assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS)))
    assert {kind for kind, _ in left} == {"foreign-data wrapper", "transform"}, left
    for reason in left.values():
        source_db.sql(reason[reason.index("ALTER EXTENSION"):])
    assert source_db.sql("SELECT count(*) FROM pg_depend WHERE deptype = 'e' AND classid IN"
                         " ('pg_foreign_data_wrapper'::regclass, 'pg_transform'::regclass)") == [(0,)]


# What is the extension's own in an earlier version, and gone in a later one: functions, operators, casts.
PLAIN = """btree_gin btree_gist citext cube dblink dict_int earthdistance file_fdw fuzzystrmatch hstore intarray isn lo ltree pageinspect pg_buffercache
 pg_freespacemap pg_prewarm pg_stat_statements pg_trgm pg_visibility pgcrypto pgrowlocks pgstattuple postgres_fdw seg sslinfo tablefunc tsm_system_rows
 unaccent uuid-ossp xml2""".split()
BY_HAND = """CREATE SCHEMA app; CREATE FUNCTION app.myfn(hstore) RETURNS int LANGUAGE sql AS 'SELECT 42'; ALTER EXTENSION hstore ADD FUNCTION app.myfn(hstore);
CREATE VIEW seen AS SELECT 1 AS one; ALTER EXTENSION citext ADD VIEW seen; CREATE TYPE mood AS ENUM ('a'); ALTER EXTENSION citext ADD TYPE mood;
CREATE FUNCTION same(citext, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR === (PROCEDURE = same, LEFTARG = citext, RIGHTARG = int);
ALTER EXTENSION cube ADD FUNCTION same(citext, int); ALTER EXTENSION cube ADD OPERATOR === (citext, int); CREATE SEQUENCE counter; ALTER EXTENSION cube ADD SEQUENCE counter;
CREATE FUNCTION latest(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; CREATE AGGREGATE low(int) (SFUNC = int4smaller, STYPE = int);
CREATE CAST (citext AS json) WITH INOUT; ALTER EXTENSION pageinspect ADD FUNCTION latest(int); ALTER EXTENSION pageinspect ADD AGGREGATE low(int);
ALTER EXTENSION pageinspect ADD CAST (citext AS json);"""

GIVEN = ("function app.myfn(public.hstore)", "view public.seen", "type public.mood", "function public.same(public.citext,integer)", "sequence public.counter",
         "operator public.===(public.citext,integer)", "function public.latest(integer)", "aggregate public.low(integer)", "cast (public.citext AS ")


@pytest.mark.turns(2)
@pytest.mark.parametrize("majors", [(13, 17), (15, 18)], ids=["13to17", "15to18"])
def test_members_of_another_version(make_cluster, pgcrane, majors):
    """Between majors extensions are of other versions. What they lost of themselves is no news, what was given by hand is."""
    sides = [make_cluster(f"members{major}", major=major).createdb() for major in majors]
    source_db, dest_db = sides
    there = {name for name, in source_db.sql("SELECT name FROM pg_available_extensions")}
    try:
        source_db.sql("".join(f'CREATE EXTENSION "{name}" CASCADE;' for name in PLAIN if name in there))
        assert assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS))["not_moved"] == []
        dest_db.drop()
        dest_db.cluster.sql(f'CREATE DATABASE "{dest_db.name}"')
        source_db.sql(BY_HAND)
        left = left_of(assert_done(pgcrane("migrate", source_db.uri, dest_db.uri, *FLAGS)))
    finally:
        for side in sides:
            side.drop()
    told = " ".join(f"{kind} {name} {reason}" for (kind, name), reason in left.items())
    missing = [name for name in GIVEN if name not in told]
    assert missing == [], left
    assert len([kind for kind, _ in left if kind != "value of sequence"]) <= len(GIVEN), list(left)
