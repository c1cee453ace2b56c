"""One thing that versions write in two ways is no difference: what a promote between them compares is the same. And what an
old source has that no newer server knows is told before anything is moved."""
import pytest

from support import compare
from support.following import Following

pytestmark = pytest.mark.turns(2)

FLOATS = """CREATE TABLE f (id int PRIMARY KEY, x float8 DEFAULT '0.1'::float8 CHECK (x < '0.7'::float8), m bit(3) DEFAULT B'101',
    a float8[] DEFAULT '{0.1,0.7}', r real DEFAULT '0.1'::real, p point DEFAULT '(0.1,0.7)', v bit varying DEFAULT B'1');
CREATE INDEX ON f ((x * '0.7'::float8)) WHERE r > '0.3'::real;
CREATE DOMAIN part AS float8 DEFAULT '0.1'::float8 CHECK (VALUE < '0.7'::float8);
CREATE TABLE ranges (x float8) PARTITION BY RANGE (x); CREATE TABLE low PARTITION OF ranges FOR VALUES FROM (0.1) TO (0.7);
CREATE TABLE no_key (x float8, r real, d part, a float8[], p point, b box, t text);
INSERT INTO no_key VALUES (0.1, 0.1, 0.3, '{0.1,NULL,1e-7}', '(0.1,0.7)', '((0.1,0.7),(0.3,1e300))', 'x'), (NULL, '-0', NULL, NULL, NULL, NULL, NULL);
INSERT INTO f SELECT i, i / 30.0 FROM generate_series(1, 10) i;"""
XML = "CREATE TABLE f (id int PRIMARY KEY, x text DEFAULT xmlserialize(content '<a/>' as text)); CREATE TABLE no_key (x float8); INSERT INTO no_key VALUES (0.1)"


@pytest.fixture
def pair(own_cluster):
    def make(source, dest):
        config = {"shared_buffers": "16MB"}
        return own_cluster(f"from{source}", major=source, config=config), own_cluster(f"to{dest}", major=dest, config=config)
    return make


def copied(following):
    """What the promote copied again."""
    return [event["text"] for event in following.bodies("EVENT") if event["text"].startswith("copied again")]


@pytest.mark.parametrize("source, dest", ((10, 18), (11, 15), (15, 18)), ids=lambda major: str(major))
def test_written_by_another_version(source, dest, pair, pgcrane):
    """Else each promote is refused, with SQL that changes nothing, and tables without identity are copied again each time."""
    clusters = pair(source, dest)
    databases = [cluster.createdb() for cluster in clusters]
    databases[0].sql(FLOATS if source < 12 else XML)
    following = Following(pgcrane, *databases, "--pg-bindir", clusters[1].bin).start()
    following.wait_caught_up()
    databases[0].sql("INSERT INTO f (id) VALUES (100); INSERT INTO no_key (x) VALUES (0.7)")
    following.wait_applied()
    promoted = following.promoted(following.promote())
    assert promoted["ok"] and promoted["proven"] and not copied(following), promoted
    sides = [compare.Side(database.uri, ()) for database in databases]
    for side in sides:
        side.conn.execute("SET extra_float_digits = 0")
    assert not compare.data_differing(*sides)
    for side in sides:
        side.conn.close()


def test_a_default_that_differs_still_refuses(pair, pgcrane):
    clusters = pair(11, 15)
    databases = [cluster.createdb() for cluster in clusters]
    databases[0].sql(FLOATS)
    following = Following(pgcrane, *databases, "--pg-bindir", clusters[1].bin).start()
    following.wait_caught_up()
    databases[1].sql("ALTER TABLE f ALTER x SET DEFAULT 0.10000000000000002; UPDATE no_key SET x = 0.10000000000000002 WHERE x = 0.1")
    refused = following.command("promote", "--dry-run", check=False)
    assert refused.code == 2 and "column x: default is" in refused.stderr and "column m" not in refused.stderr, str(refused)
    databases[1].sql("ALTER TABLE f ALTER x SET DEFAULT '0.1'::float8")
    assert following.promoted(following.promote())["ok"] and len(copied(following)) == 1


# --- what a newer server does not have ---

def findings(pgcrane, source, dest, *flags):
    result = pgcrane("migrate", source.uri, dest.uri, "--dry-run", "--json", *flags)
    found = [f for line in result.lines if line["type"] == "FINDINGS" for f in line["body"]["findings"]]
    return {f["id"]: f for f in found}, [(f["id"], f["object"]) for f in found if f["id"].startswith("SOURCE_")]


def one(pgcrane, source, dest, name, *flags):
    result = pgcrane("migrate", source.uri, dest.uri, "--dry-run", "--json", *flags)
    [found] = [f for line in result.lines if line["type"] == "FINDINGS" for f in line["body"]["findings"] if f["object"] == name]
    return found


def test_what_is_gone(pair, pgcrane):
    clusters = pair(11, 15)
    source, dest = (cluster.createdb() for cluster in clusters)
    source.sql("CREATE TABLE o (id int PRIMARY KEY, v text) WITH OIDS; CREATE TABLE plain (id int PRIMARY KEY);"
               "CREATE TABLE k (v text) WITH OIDS; ALTER TABLE k ADD CONSTRAINT by_oid PRIMARY KEY (oid);"
               "CREATE TABLE old (id int PRIMARY KEY, a abstime, r reltime, t tinterval);"
               "CREATE AGGREGATE arr (anyelement) (sfunc = array_append, stype = anyarray, initcond = '{}');"
               "CREATE OPERATOR @>> (leftarg = anyarray, rightarg = anyelement, procedure = array_append);"
               "CREATE FUNCTION own(anyarray, anyarray) RETURNS anyarray LANGUAGE sql AS 'SELECT $1';"
               "CREATE AGGREGATE merged (anyarray) (sfunc = own, stype = anyarray, combinefunc = array_cat, initcond = '{}');"
               "CREATE AGGREGATE moving (anyarray) (sfunc = own, stype = anyarray, msfunc = array_cat, minvfunc = own, mstype = anyarray);"
               "CREATE VIEW uses AS SELECT merged(ARRAY[id]), arr(id) FROM plain;"
               "CREATE AGGREGATE ints (int) (sfunc = array_append, stype = int[], initcond = '{}');"
               "CREATE FUNCTION body(anyarray, anyelement) RETURNS anyarray LANGUAGE sql AS 'SELECT array_append($1, $2)'")
    by_id, found = findings(pgcrane, source, dest, "--pg-bindir", clusters[1].bin)
    assert found == [("SOURCE_OIDS", "table public.k"), ("SOURCE_OIDS", "table public.o"), ("SOURCE_OID_INDEX", "index public.by_oid"),
                     *(("SOURCE_GONE_TYPE", f"column {c} of table public.old") for c in "art"),
                     ("SOURCE_OLD_POLYMORPHIC", "operator public.@>>(anyarray,anyelement)"),
                     *(("SOURCE_OLD_POLYMORPHIC", f"aggregate public.{a}") for a in ("arr(anyelement)", "merged(anyarray)", "moving(anyarray)"))], found
    assert "anycompatiblearray" in by_id["SOURCE_OLD_POLYMORPHIC"]["fix"] and by_id["SOURCE_OLD_POLYMORPHIC"]["severity"].upper() == "ERROR"
    assert by_id["SOURCE_OIDS"]["severity"].upper() == "WARNING" and by_id["SOURCE_OID_INDEX"]["severity"].upper() == "ERROR"
    assert "view" not in by_id["SOURCE_OLD_POLYMORPHIC"]["fix"]
    merged = one(pgcrane, source, dest, "aggregate public.merged(anyarray)", "--pg-bindir", clusters[1].bin)
    assert "array_cat" in merged["message"] and "first what uses it, which is made again behind it: view public.uses; and make" in merged["fix"]
    source.sql("DROP VIEW uses; DROP AGGREGATE public.arr(anyelement);" + merged["fix"])
    for fix in {f["fix"].split(" --")[0] for f in by_id.values() if f["id"].startswith("SOURCE_O")}:
        source.sql(fix)
    source.sql("ALTER TABLE k SET WITHOUT OIDS; DROP OPERATOR public.@>>(anyarray,anyelement)")
    for column, kind in (("a", "timestamptz"), ("r", "interval"), ("t", "text USING t::text")):
        source.sql(f"ALTER TABLE public.old ALTER COLUMN {column} TYPE {kind};")
    assert by_id["SOURCE_GONE_TYPE"]["fix"] == "ALTER TABLE public.old ALTER COLUMN t TYPE text USING t::text;"
    assert findings(pgcrane, source, dest, "--pg-bindir", clusters[1].bin)[1] == []
    done = pgcrane("migrate", source.uri, dest.uri, "--yes", "--pg-bindir", clusters[1].bin)
    assert done.code == 0, str(done)
    dest.sql("CREATE AGGREGATE arr (anycompatible) (sfunc = array_append, stype = anycompatiblearray, initcond = '{}')")


def test_schema_named_as_ours(pgcrane, source_db, dest_db):
    source_db.sql("CREATE SCHEMA pgcrane; CREATE TABLE pgcrane.mine (id int PRIMARY KEY); CREATE TABLE k (id int PRIMARY KEY);"
                  "CREATE SCHEMA pgcrane_0123456789abcdef_x; CREATE VIEW pgcrane_0123456789abcdef_x.v AS SELECT 1")
    by_id, found = findings(pgcrane, source_db, dest_db)
    assert found == [("SOURCE_RESERVED_SCHEMA", "pgcrane.mine"), ("SOURCE_RESERVED_SCHEMA", "pgcrane_0123456789abcdef_x.v")]
    assert by_id["SOURCE_RESERVED_SCHEMA"]["severity"].upper() == "ERROR"
    assert findings(pgcrane, source_db, dest_db, "--exclude-schema", "pgcrane*")[1] == []
    source_db.sql("ALTER SCHEMA pgcrane RENAME TO mine; DROP SCHEMA pgcrane_0123456789abcdef_x CASCADE")
    assert findings(pgcrane, source_db, dest_db)[1] == []
