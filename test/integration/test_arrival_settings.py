"""Settings of roles and databases that name what the destination may have otherwise: lists, tablespaces, libraries."""
import os
import shutil

import psycopg
import pytest

from support.cluster import Cluster, Database, quote_ident
from support.instance import run_worker, run_instance
from support.migration import assert_done

pytestmark = pytest.mark.turns(2)

SECRET = "the key of the application"
SETTINGS = """
CREATE ROLE own LOGIN; CREATE ROLE raw LOGIN; CREATE ROLE loads LOGIN;
ALTER ROLE own SET default_tablespace = fast; ALTER ROLE own SET temp_tablespaces = fast, 'Slow "1"', '';
ALTER ROLE raw SET temp_tablespaces = 'nowhere';
ALTER ROLE loads SET session_preload_libraries = 'auto_explain', 'no_such_library';
ALTER ROLE loads SET local_preload_libraries = 'no_such_plugin';
"""
# As postgresql.conf and set_config() may have it, and FROM CURRENT takes it: no quotes where SET wants them.
FROM_CURRENT = """DO $$ BEGIN PERFORM set_config('search_path', E'Foo,$user,\\n "b, c" ,1st', false);
 EXECUTE 'ALTER ROLE raw SET search_path FROM CURRENT'; END $$"""
DATABASE = """
ALTER DATABASE big SET default_tablespace = fast; ALTER DATABASE big SET temp_tablespaces = fast, 'Slow "1"';
ALTER DATABASE big SET session_preload_libraries = 'no_such_library';
ALTER ROLE raw IN DATABASE big SET default_tablespace = nowhere;
ALTER ROLE own IN DATABASE big SET search_path = 'x,y', "z W", '';
"""
STORED = """SELECT coalesce(r.rolname, ''), coalesce(d.datname, ''), c FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c
 LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase"""
MAP = 'fast=ssd,"Slow ""1"""=hdd'


@pytest.fixture(scope="module", params=((15, 18), (13, 15)), ids=("15to18", "13to15"))
def servers(request):
    made = [Cluster(f"settings-{side}", major=major, config={"allow_in_place_tablespaces": "on"} if major >= 15 else {})
            for side, major in zip(("source", "dest"), request.param)]
    try:
        for cluster in made:
            cluster.start()
        fill(made)
        yield made
    finally:
        for cluster in made:
            cluster.remove()


def space(cluster, name):
    if cluster.major >= 15:
        cluster.sql(f"CREATE TABLESPACE {quote_ident(name)} LOCATION ''")
    else:
        folder = os.path.join(cluster.folder, f"space_{name[0]}")
        os.mkdir(folder)
        if cluster.user:
            shutil.chown(folder, cluster.user, cluster.user)
        cluster.sql(f"CREATE TABLESPACE {quote_ident(name)} LOCATION '{folder}'")


def fill(servers):
    source, dest = servers
    for name in ("fast", 'Slow "1"', "nowhere"):
        space(source, name)
    for name in ("ssd", "hdd"):
        space(dest, name)
    source.sql(SETTINGS)
    source.sql(FROM_CURRENT)
    source.createdb("big", "OWNER own")
    # They are not looked for before somebody logs in: the harness would not get in any more.
    source.sql(DATABASE)


def stored(cluster):
    return {(role, database, *text.split("=", 1)) for role, database, text in cluster.sql(STORED)}


def instance(pgcrane, source, dest):
    return run_worker(pgcrane, {"action": "instance", "prepare": True, "options": {
        "source": source.uri(), "dest": dest.uri(), "state_dir": pgcrane.state_dir, "verbose": True, "tablespace_map": MAP}}).done()


def assert_roles_arrived(dest, told):
    assert stored(dest) == {("own", "", "default_tablespace", "ssd"), ("own", "", "temp_tablespaces", 'ssd, hdd, ""'),
                            ("raw", "", "search_path", 'foo, "$user", "b, c", "1st"')}
    assert "ALTER ROLE \"raw\" SET \"temp_tablespaces\" TO 'nowhere';" in told["fix"], told
    assert 'no tablespace "nowhere"' in told["message"] and "--tablespace-map" in told["message"], told
    assert told["message"].count("each login with this would fail") == 2, told
    assert "SET \"session_preload_libraries\" TO 'auto_explain', 'no_such_library';" in told["fix"], told
    with psycopg.connect(dest.uri("postgres", "loads"), connect_timeout=10) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_settings_name_what_the_destination_has(servers, pgcrane):
    source, dest = servers
    run = instance(pgcrane, source, dest)
    assert set(run.findings) == {"ROLE_SETTING"}, run
    assert_roles_arrived(dest, run.findings["ROLE_SETTING"])
    before = stored(dest)
    assert instance(pgcrane, source, dest).findings == run.findings and stored(dest) == before, "mapped is as on the source"

    big = Database(dest, "big")
    source.sql("ALTER DATABASE big RESET session_preload_libraries")
    report = assert_done(pgcrane("migrate", source.uri("big"), big.uri, "--yes", "--json", f"--tablespace-map={MAP}"))
    here = {item for item in stored(dest) if item[1]}
    assert here == {("", "big", "default_tablespace", "ssd"), ("", "big", "temp_tablespaces", "ssd, hdd"),
                    ("own", "big", "search_path", '"x,y", "z W", ""')}, here
    left = {item["object"]: item for item in report["not_moved"]}
    assert set(left) == {"ALTER ROLE raw IN DATABASE big SET default_tablespace TO 'nowhere'"}, left
    assert all('no tablespace "nowhere"' in item["reason"] and item["sql"].endswith(";") for item in left.values()), left


def test_a_library_that_is_not_there(servers, pgcrane):
    """Each login with it would fail."""
    source, dest = servers
    one, other = source.createdb("loading"), dest.createdb("loading")
    try:
        one.sql("CREATE TABLE t (id int PRIMARY KEY);"
                "ALTER DATABASE loading SET session_preload_libraries = '$libdir/auto_explain';"
                "ALTER ROLE loads IN DATABASE loading SET session_preload_libraries = '$libdir/plugins/absent'")
        left = assert_done(pgcrane("migrate", one.uri, other.uri, "--yes", "--json"))["not_moved"]
        assert [item["object"] for item in left] == [
            "ALTER ROLE loads IN DATABASE loading SET session_preload_libraries TO '$libdir/plugins/absent'"], left
        assert "install it there first" in left[0]["reason"], left
        assert ("", "loading", "session_preload_libraries", '"$libdir/auto_explain"') in stored(dest)
        assert other.sql("SHOW session_preload_libraries") == [('"$libdir/auto_explain"',)]
    finally:
        for database in (one, other):
            database.drop()


def test_what_an_owner_took_from_itself(servers, pgcrane):
    source, dest = servers
    there = "SELECT ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1) FROM pg_database WHERE datname = 'taken'"
    one = source.createdb("taken")
    try:
        for cluster in servers:
            cluster.sql("CREATE ROLE taker LOGIN CREATEDB")
        one.sql("CREATE TABLE t (id int PRIMARY KEY); ALTER DATABASE taken OWNER TO taker; ALTER TABLE t OWNER TO taker; ALTER SCHEMA public OWNER TO taker;"
                "REVOKE TEMPORARY, CONNECT ON DATABASE taken FROM taker")
        for user, left in (("postgres", []), ("taker", ['REVOKE TEMPORARY ON DATABASE taken FROM taker;', 'REVOKE CONNECT ON DATABASE taken FROM taker;'])):
            other = dest.createdb("taken", "OWNER taker")
            report = assert_done(pgcrane("migrate", one.uri, other.uri if user == "postgres" else other.uri_as(user), "--yes", "--json"))
            assert [item["sql"] for item in report["not_moved"]] == left, report
            for statement in left:
                dest.sql(statement)
            assert dest.sql(there) == source.sql(there) == [(["=Tc/taker", "taker=C/taker"],)]
            other.drop()
    finally:
        for cluster in servers:
            Database(cluster, "taken").drop()
            cluster.sql("DROP ROLE taker")


def logs(program):
    text = ""
    for folder, _, files in os.walk(program.state_dir):
        for name in files:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                text += file.read()
    return text


def test_no_value_of_a_private_setting_is_logged(servers, pgcrane):
    """Refused by a server whose module knows only some of its settings."""
    source, dest = servers
    source.sql(f"CREATE ROLE private; ALTER ROLE private SET \"auto_explain.key\" = '{SECRET}'")
    dest.configure({"shared_preload_libraries": "auto_explain"})
    dest.restart()
    run = run_instance(pgcrane, source.uri(), dest.uri()).done()
    if dest.major >= 15:  # which refuses names that a module has reserved
        assert "auto_explain.key" in run.findings["ROLE_SETTING"]["message"], run
        assert 'refused: ALTER ROLE "private" SET "auto_explain.key"' in logs(pgcrane), run
    assert SECRET not in logs(pgcrane) + run.stderr + str(run.messages)


def test_to_10(own_cluster, pgcrane):
    """Where not even a superuser may look which libraries there are, nobody looks."""
    source, dest = (own_cluster(name, major=10).createdb() for name in ("src10", "dst10"))
    source.sql(f"ALTER DATABASE {quote_ident(source.name)} SET session_preload_libraries = plpgsql")
    assert_done(pgcrane("migrate", source.uri, dest.uri, "--yes", "--json"))
    assert dest.sql("SHOW session_preload_libraries") == [("plpgsql",)]
