"""An autovacuum gives way only to who has waited for deadlock_timeout: each try of ours waits that long where one is in the
way, and a materialized view that somebody had locked has another chance when the destination is open."""
import contextlib
import os

import pytest

from support.cluster import find_binaries, wait_until
from support.following import Following

pytestmark = pytest.mark.turns(3)

SLOWLY = "autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
AT_ONCE = SLOWLY + ", autovacuum_vacuum_insert_threshold = 10, autovacuum_vacuum_insert_scale_factor = 0"
TABLES = f"""CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 5000) g;
CREATE MATERIALIZED VIEW seen WITH ({AT_ONCE}) AS SELECT id, v FROM t;
CREATE MATERIALIZED VIEW above AS SELECT count(*) AS n FROM seen"""
VACUUM = ("SELECT 1 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.relation = %s::regclass AND l.granted"
          " AND l.mode = 'ShareUpdateExclusiveLock' AND a.backend_type = 'autovacuum worker'")


@pytest.fixture(scope="module")
def server(make_cluster):
    """Source and destination: autovacuums begin at once, and somebody has raised deadlock_timeout."""
    cluster = make_cluster("autovacuum", config={"autovacuum": "on", "autovacuum_naptime": "1s", "deadlock_timeout": "1500ms",
                                                 "shared_buffers": "16MB"})
    cluster.sql("CREATE ROLE mover LOGIN REPLICATION")
    return cluster


@pytest.fixture
def sides(server):
    """Both belong to a role that may do no more than it must."""
    made = [server.createdb() for _ in range(2)]
    for database in made:
        database.sql(f"ALTER DATABASE {database.name} OWNER TO mover; ALTER SCHEMA public OWNER TO mover;"
                     " GRANT EXECUTE ON FUNCTION pg_control_system() TO mover")
    yield made
    for database in made:
        database.drop()


@pytest.fixture(params=("postgres", "mover"))
def prepared(request, sides, pgcrane):
    """By a superuser, who may shorten deadlock_timeout, and by one who has to outwait it; not started yet."""
    def make(*flags):
        uris = [database.uri_as(request.param) for database in sides]
        return Following(pgcrane, *sides, "--pg-bindir", find_binaries(sides[0].cluster.major), "--no-owner", "--no-acl", *flags,
                         source_uri=uris[0], dest_uri=uris[1])

    sides[0].sql(TABLES, user="mover")
    return make


def wait_vacuum(database, table):
    wait_until(lambda: database.sql(VACUUM, (table,)), 20, f"an autovacuum of {table}")


def views(database):
    return database.sql("SELECT (SELECT count(*) FROM seen), (SELECT n FROM above), (SELECT count(*) FROM t)")


def test_of_a_view(prepared, sides):
    """A dry run fills it, which brings the autovacuum; the promote fills it again."""
    following = prepared("--fence", "locks")
    following.start()
    following.wait_caught_up()
    following.promote("--dry-run")
    sides[0].sql("DELETE FROM t WHERE id > 10")
    following.wait_applied()
    wait_vacuum(sides[1], "seen")
    promoted = following.promoted(following.promote())
    assert promoted["proven"] and not any("materialized view" in note for note in promoted["notes"]), promoted
    assert views(sides[1]) == [(10, 10, 10)]


def test_of_a_table_without_key(prepared, sides):
    """Its replica identity is set all the same."""
    sides[0].sql(f"CREATE TABLE nokey (id int, v text) WITH ({SLOWLY}); INSERT INTO nokey SELECT g, repeat('x', 200)"
                 " FROM generate_series(1, 5000) g; DELETE FROM nokey WHERE id % 2 = 0", user="mover")
    following = prepared("--identity-full")
    wait_vacuum(sides[0], "nokey")
    following.start()
    following.wait_caught_up()
    assert sides[0].sql("SELECT relreplident::text FROM pg_class WHERE relname = 'nokey'") == [("f",)]
    assert not [body["text"] for body in following.bodies("EVENT") if "stays as it is" in body["text"]]
    following.abort()


@pytest.mark.parametrize("prepared", ("postgres",), indirect=True)
def test_of_a_view_that_somebody_reads(prepared, sides):
    """PREPARE could not fill it, and he has let go when the destination is open: then it, and what reads it, is filled. Who has
    locked what a view's query reads, is named, too."""
    following = prepared()
    sides[0].sql("CREATE TABLE other (id int PRIMARY KEY); CREATE TABLE part (PRIMARY KEY (id)) INHERITS (other); INSERT INTO part VALUES (1);"
                 " CREATE VIEW between AS SELECT * FROM other; CREATE MATERIALIZED VIEW of_other AS SELECT * FROM between", user="mover")
    following.start()
    following.wait_caught_up()
    with contextlib.closing(sides[1].connect(autocommit=False)) as reader, contextlib.closing(sides[1].connect(autocommit=False)) as writer:
        reader.execute("EXPLAIN SELECT FROM seen")  # it is empty: nobody can read it in earnest
        writer.execute("LOCK TABLE part IN ACCESS EXCLUSIVE MODE")  # no text of a definition waits for it
        pids = [conn.info.backend_pid for conn in (reader, writer)]
        psql = os.path.join(find_binaries(sides[1].cluster.major), "psql")
        end = f"SELECT {', '.join(f'pg_terminate_backend({pid})' for pid in pids)}"
        promoted = following.promoted(following.promote("--hook-after", f"{psql} -Xc '{end}' '{sides[1].uri}'", timeout=60))
    warned = [body["text"] for body in following.bodies("EVENT") if body["text"].startswith("materialized view")]
    for view, pid, holds in (("seen", pids[0], "seen"), ("of_other", pids[1], "part")):
        (said,) = (text for text in warned if text.startswith(f"materialized view public.{view} could not be refreshed, and is empty"))
        assert f"session {pid} of" in said and f"has a lock on public.{holds}" in said, said
        assert f"materialized view public.{view} is refreshed now" in warned, warned
    assert promoted["proven"] and not any("materialized view" in note for note in promoted["notes"]), promoted
    assert views(sides[1]) == [(5000, 5000, 5000)] and sides[1].sql("SELECT * FROM of_other") == [(1,)]
    report = following.bodies("REPORT")[-1]
    assert not [item for item in report["not_moved"] if item["kind"] == "MATERIALIZED VIEW DATA"], report["not_moved"]
