"""The life of a job: asked for over the API, carried out by sessions, against real servers."""
import contextlib
import os

import pytest

from support.api import JOBS, PROFILES
from support.cluster import Database, wait_until
from support.service import Service
from support.trouble import SCHEMA, Writer, assert_equal, rows_and_sequences


class Pair:
    """A database on the source, and the one that it is moved to, of the same name."""

    def __init__(self, source, dest, name):
        self.source, self.dest = source.createdb(name), dest.createdb(name)
        self.name = name
        self.source.sql(SCHEMA)

    def drop(self):
        self.source.drop()
        self.dest.drop()

    def assert_clean(self):
        assert self.source.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []
        assert self.source.sql("SELECT pubname FROM pg_publication") == []


@pytest.fixture
def pairs(source, dest):
    made = []

    def make(*names):
        made.extend(Pair(source, dest, name) for name in names)
        return made[-len(names):]

    yield make
    for pair in made:
        pair.drop()


@pytest.fixture
def service(tmp_path, source, dest):
    with Service(tmp_path / "service") as running:
        yield running


def test_a_job_from_start_to_promote(service, source, dest, pairs):
    (pair,) = pairs("shop")
    service.job_of("move", source, dest, ["shop"])
    assert service.done("move", "start")["state"] == "RUNNING"
    job = service.wait_ready("move")
    assert job["progress"]["lagBytes"] >= 0 and "promote" in job["allowedActions"], job
    with Writer(pair.source) as writer:
        writer.wait_for(20)
        promoted = service.done("move", "promote")
    assert promoted["state"] == "COMPLETED" and "error" not in promoted
    assert service.objects("move")["shop"]["phase"] == "PROMOTED"
    assert_equal(pair.source, pair.dest)
    pair.assert_clean()
    events = [e["kind"] for e in service.good(service.get(f"{JOBS}/move/events"))["events"]]
    for kind in ("USER_START", "WORKER_READY", "DUMP_DONE", "CAUGHT_UP", "USER_PROMOTE", "PROMOTE_DONE"):
        assert kind in events, events
    wait_until(lambda: not service.pids("session"), what="the sessions to end")
    service.remove("move")


@pytest.mark.turns(3)
def test_one_time(service, source, dest, pairs):
    (pair,) = pairs("shop")
    service.job_of("once", source, dest, ["shop"], kind="ONE_TIME")
    service.done("once", "start")
    service.wait_for("once", "COMPLETED")
    assert_equal(pair.source, pair.dest)


@pytest.mark.turns(3)
def test_stop_resume_restart_delete(service, source, dest, pairs):
    (pair,) = pairs("shop")
    service.job_of("move", source, dest, ["shop"])
    service.done("move", "start")
    service.wait_ready("move")
    stopped = service.done("move", "stop")
    assert (stopped["state"], stopped["phase"]) == ("STOPPED", "CDC")
    assert service.objects("move")["shop"]["state"] == "STOPPED"
    pair.source.sql("INSERT INTO item VALUES (1001, 'while it was stopped')")
    service.done("move", "resume")
    service.wait_ready("move")
    wait_until(lambda: pair.dest.sql("SELECT count(*) FROM item WHERE id = 1001") == [(1,)], what="the row")
    service.done("move", "stop")
    pair.dest.sql("INSERT INTO keyless VALUES (4711)")  # a restart empties the destination
    service.done("move", "restart")
    service.wait_ready("move")
    assert rows_and_sequences(pair.source, pair.dest) == []
    service.remove("move")
    pair.assert_clean()
    assert not service.pids("session")


@pytest.mark.turns(4)
@pytest.mark.parametrize("what", ("daemon", "session", "worker", "everything"))
def test_killed_while_following(what, service, source, dest, pairs):
    (pair,) = pairs("shop")
    service.job_of("move", source, dest, ["shop"])
    service.done("move", "start")
    service.wait_ready("move")
    with Writer(pair.source) as writer:
        for _ in range(2):
            writer.wait_for(10)
            before = service.pids("session")
            if what in ("daemon", "everything"):
                service.kill()
            if what in ("session", "everything"):
                assert service.kill_processes("session")
            if what in ("worker", "everything"):
                service.kill_processes("worker")
            if what in ("daemon", "everything"):
                service.start()
            if what == "daemon":
                assert service.pids("session") == before  # adopted
            if what != "daemon":
                service.wait_anew("session", before)
            service.wait_ready("move")
        promoted = service.done("move", "promote")
    assert promoted["state"] == "COMPLETED"
    assert_equal(pair.source, pair.dest)
    pair.assert_clean()


@pytest.mark.turns(3)
def test_goes_on_while_the_daemon_is_down(service, source, dest, pairs):
    (pair,) = pairs("shop")
    service.job_of("move", source, dest, ["shop"])
    service.done("move", "start")
    service.wait_ready("move")
    service.stop()
    pair.source.sql("INSERT INTO item VALUES (2001, 'nobody serves')")
    wait_until(lambda: pair.dest.sql("SELECT count(*) FROM item WHERE id = 2001") == [(1,)], what="the row")
    service.start()
    service.wait_ready("move")
    service.remove("move")
    pair.assert_clean()


@pytest.mark.turns(3)
def test_checks_refuse(service, source, dest, pairs):
    """Nothing is changed, and the job may be started again when it is mended."""
    (pair,) = pairs("shop")
    pair.dest.sql("CREATE TABLE item (other text)")
    service.job_of("move", source, dest, ["shop"])
    operation = service.end_of(service.verb("move", "start"))
    assert operation["error"]["details"][0]["reason"] == "PREFLIGHT_FAILED", operation
    assert service.job("move")["state"] == "NOT_STARTED"
    pair.dest.sql("DROP TABLE item")
    service.done("move", "start")
    service.wait_ready("move")


@pytest.mark.turns(3)
def test_source_away(service, own_cluster, dest, pairs):
    """An error that may pass is tried again, and says when."""
    away = own_cluster("away")
    away.createdb("shop").sql(SCHEMA)
    port = away.port
    away.stop()
    with contextlib.ExitStack() as made:
        target = dest.createdb("shop")
        made.callback(target.drop)
        service.job_of("move", away, dest, ["shop"])
        operation = service.end_of(service.verb("move", "start"))
        assert "error" in operation and f"{port}" in str(operation), operation
        job = service.job("move")
        assert job["state"] == "FAILED" and "nextRetryTime" in job, job
        away.start()
        service.wait_ready("move")
        service.remove("move")


def test_several_databases(service, source, dest, pairs):
    """One of them fails: the others go on; it is begun again by itself when the cause has passed."""
    made = pairs("one", "two", "Three \"3\"")
    service.job_of("move", source, dest, [p.name for p in made])
    service.done("move", "start")
    service.wait_ready("move", 120)
    assert {o["phase"] for o in service.objects("move").values()} == {"READY_FOR_PROMOTE"}
    with contextlib.ExitStack() as stack:
        for pair in made:
            stack.enter_context(Writer(pair.source)).wait_for(5)
        before = service.pids("session")
        assert service.kill_processes("worker") == 3
        service.wait_anew("session", before, 120)
        service.wait_ready("move", 120)
        service.done("move", "promote", timeout=120)
    for pair in made:
        assert_equal(pair.source, pair.dest)
        pair.assert_clean()
    assert {o["phase"] for o in service.objects("move").values()} == {"PROMOTED"}


def test_a_whole_instance(service, own_cluster):
    """All databases of the source, with roles, into a server that has none of them; one more is not there yet."""
    source, dest = own_cluster("whole"), own_cluster("empty")
    source.sql("CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE team; CREATE ROLE locked LOGIN; GRANT team TO app; ALTER ROLE app SET work_mem = '8MB'")
    for name in ("shop", "it's \"odd\""):
        source.createdb(name, "OWNER app").sql(SCHEMA)
    service.profile("from", source)
    service.profile("to", dest)
    body = {"type": "CONTINUOUS", "source": f"{PROFILES}/from", "destination": f"{PROFILES}/to"}
    service.finished(service.post(JOBS, body, migrationJobId="all"))
    service.done("all", "start")
    service.wait_ready("all")
    assert set(service.objects("all")) == {"shop", "it's \"odd\""}
    # Whoever is made later is not left behind: the promote says so, and takes it in; a resume takes it in, too.
    source.createdb("late", "OWNER app").sql(SCHEMA)
    refused = service.end_of(service.verb("all", "promote"))
    assert "late; nothing was promoted" in refused["error"]["message"], refused
    wait_until(lambda: "late" in service.objects("all"), what="late to be taken in")
    service.wait_ready("all")
    service.done("all", "stop")
    source.createdb("later", "OWNER app").sql(SCHEMA)
    service.done("all", "resume")
    wait_until(lambda: "later" in service.objects("all"), what="later to be taken in")
    service.wait_ready("all")
    # Roles of the source that have changed since, too: new ones are made, the others are told.
    source.sql("""CREATE ROLE fresh LOGIN PASSWORD 'new'; ALTER ROLE app PASSWORD 'rotated'; REVOKE team FROM app;
        ALTER ROLE locked NOLOGIN; ALTER DATABASE shop OWNER TO team; ALTER DATABASE shop CONNECTION LIMIT 90""")
    service.done("all", "promote")
    assert dest.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'fresh'") == source.sql(
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'fresh'")
    told = {f["id"]: f for f in service.good(service.get(f"{JOBS}/all:report"))["instance"]["findings"]}
    assert told["INSTANCE_ROLE_PASSWORD_CHANGED"]["fix"] == '\\password "app"', told
    assert told["INSTANCE_ROLE_ATTRIBUTES"]["fix"] == 'ALTER ROLE "locked" NOLOGIN;', told
    assert told["INSTANCE_ROLE_MEMBERSHIP_LEFT"]["fix"] == 'REVOKE "team" FROM "app";', told
    assert told["INSTANCE_DATABASE_OWNER"]["fix"] == 'ALTER DATABASE "shop" OWNER TO "team";', told
    assert told["INSTANCE_DATABASE_LIMIT"]["fix"] == 'ALTER DATABASE "shop" CONNECTION LIMIT 90;', told
    logged = [e["message"] for e in service.good(service.get(f"{JOBS}/all/events", pageSize=500))["events"]]
    assert any("INSTANCE_ROLE_PASSWORD_CHANGED" in line and '"app"' in line for line in logged), logged
    for name in ("shop", "it's \"odd\"", "late", "later"):
        assert_equal(Database(source, name), Database(dest, name))
    assert {o["phase"] for o in service.objects("all").values()} == {"PROMOTED"} and len(service.objects("all")) == 4
    query = """SELECT a.rolname, s.setconfig FROM pg_authid a LEFT JOIN pg_db_role_setting s ON s.setrole = a.oid WHERE a.rolname = 'app'"""
    assert source.sql(query) == dest.sql(query)


def test_password_and_secrets(service, own_cluster):
    """By password; it is in no file of the service but sealed, in no answer and in no command line."""
    password = "s3cret 'and\\ more"
    source, dest = own_cluster("locked", auth="scram-sha-256"), own_cluster("open")
    quoted = password.replace("'", "''")
    source.sql(f"CREATE ROLE mover SUPERUSER LOGIN PASSWORD '{quoted}'")
    source.createdb("shop").sql(SCHEMA)
    service.profile("from", source, user="mover", password=password)
    service.profile("to", dest)
    service.create_job("move", "from", "to", ["shop"])
    service.done("move", "start")
    service.wait_ready("move")
    for _, command in service.program.processes().items():
        assert "s3cret" not in command
    for folder, _, names in os.walk(service.folder):
        for name in names:
            with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
                assert b"s3cret" not in file.read(), name
    service.remove("move")
