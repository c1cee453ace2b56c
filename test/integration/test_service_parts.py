"""Promotes of some databases, promotes that are called off, removals whose servers are gone, and what a job tells of its
sessions."""
import contextlib
import os
import signal
import time

import pytest

from support.api import JOBS
from support.cluster import Database, wait_until
from support.service import Service
from support.trouble import SCHEMA, Writer, assert_equal, slots_of

pytestmark = pytest.mark.turns(3)


@pytest.fixture(scope="module")
def servers(make_cluster):
    return make_cluster("parts_source"), make_cluster("parts_dest")


@pytest.fixture
def databases(servers):
    """make(NAME...): [(source, dest), ...]"""
    made = []

    def make(*names):
        for name in names:
            made.append(tuple(cluster.createdb(name) for cluster in servers))
            made[-1][0].sql(SCHEMA)
        return made[-len(names):]

    yield make
    for pair in made:
        for database in pair:
            database.drop()


@pytest.fixture
def service(tmp_path, servers):
    with Service(tmp_path / "service") as running:
        yield running


def objects_filter(*names):
    return {"objectsFilter": {"sourceObjectsConfig": {
        "objectsSelectionType": "SPECIFIED_OBJECTS",
        "objectConfigs": [{"objectIdentifier": {"type": "DATABASE", "database": name}} for name in names]}}}


def events(service, name, kind=None):
    listed = service.good(service.get(f"{JOBS}/{name}/events", pageSize=500))["events"]
    return [event for event in listed if kind in (None, event["kind"])]


@contextlib.contextmanager
def stuck(dest):
    """Nothing can be applied there: whoever promotes waits for the lag."""
    with contextlib.closing(dest.connect(autocommit=False)) as conn:
        conn.execute("LOCK TABLE item, part IN ACCESS EXCLUSIVE MODE")
        yield
        conn.rollback()


def status_files(service, name):
    ((uid,),) = service.sql("SELECT uid FROM resource WHERE name = ?", f"{JOBS}/{name}")
    folder = os.path.join(service.folder, "sessions", uid)
    return [os.path.join(where, "status.json") for where, _, names in os.walk(folder)
            if "status.json" in names and os.path.basename(where) != "instance"]


def test_promote_one_by_one(service, servers, databases):
    pairs = databases("one", "two")
    service.job_of("move", *servers, ["one", "two"])
    service.done("move", "start")
    service.wait_ready("move", 90)
    with Writer(pairs[0][0]) as first, Writer(pairs[1][0]) as second:
        first.wait_for(10)
        answer = service.done("move", "promote", objects_filter("one"))
        assert answer["state"] == "RUNNING"
        phases = {name: each["phase"] for name, each in service.objects("move").items()}
        assert phases["one"] == "PROMOTED" and phases["two"] in ("CDC", "READY_FOR_PROMOTE")
        second.wait_for(10)  # the other one is still followed
        service.done("move", "promote", objects_filter("two"))
        service.wait_for("move", "COMPLETED")
    for source, dest in pairs:
        assert_equal(source, dest)
        assert slots_of(source) == []
    service.remove("move")


def test_promote_of_a_database_that_does_not_follow(service, servers, databases):
    databases("one", "two")
    service.job_of("move", *servers, ["one", "two"])
    service.done("move", "start")
    service.wait_ready("move", 90)
    wait_until(lambda: service.objects("move")["two"]["phase"] == "READY_FOR_PROMOTE", what="two")
    refused = service.post(f"{JOBS}/move:promote", objects_filter("three"))
    assert refused.status == 400, refused
    service.done("move", "promote", objects_filter("one"))
    service.done("move", "stop")
    refused = service.post(f"{JOBS}/move:promote", objects_filter("two"))
    assert refused.status == 400 and refused["error"]["status"] == "FAILED_PRECONDITION", refused
    # One that is promoted is the application's: nothing is looked for in it.
    operation = service.end_of(service.verb("move", "verify"))
    assert "error" not in operation, operation
    assert "one" not in {finding["database"] for finding in operation["metadata"]["findings"]}, operation


@pytest.mark.parametrize("part", (False, True))
def test_promote_called_off(part, service, servers, databases):
    """It waits for the lag; taken back, it follows as before; asked for again, it goes through."""
    ((source, dest),) = databases("one")
    service.job_of("move", *servers, ["one"])
    service.done("move", "start")
    service.wait_ready("move")
    with Writer(source) as writer:
        with stuck(dest):
            writer.wait_for(10)
            operation = service.verb("move", "promote", objects_filter("one") if part else None)
            wait_until(lambda: service.objects("move")["one"]["phase"] == "PROMOTE_IN_PROGRESS", what="the promote")
            service.good(service.post(f"{operation['name']}:cancel", {}))
            ended = service.end_of(operation)
        assert ended["error"]["code"] == 1, ended
        assert ended["metadata"]["requestedCancellation"] is True
        writer.wait_for(10)
        assert writer.refused == 0
        service.wait_ready("move")
        service.done("move", "promote")
    assert_equal(source, dest)


def test_verify_called_off(service, servers, databases):
    databases("one")
    service.job_of("move", *servers, ["one"])
    operation = service.verb("move", "verify")
    service.good(service.post(f"{operation['name']}:cancel", {}))
    ended = service.end_of(operation)
    assert ended.get("error", {"code": 1})["code"] == 1, ended  # it may have been over before


@pytest.mark.parametrize("gone", ("source", "dest"))
def test_delete_by_force(gone, service, own_cluster, servers):
    """A server that is gone for good does not keep the job; the other one is tidied, and what is left is said."""
    lost = own_cluster("lost")
    pair = {"source": servers[0], "dest": servers[1], gone: lost}
    source, dest = (pair[side].createdb("forced") for side in ("source", "dest"))
    source.sql(SCHEMA)
    service.job_of("move", pair["source"], pair["dest"], ["forced"])
    service.done("move", "start")
    service.wait_ready("move")
    service.done("move", "stop")
    lost.stop()
    delete = service.good(service.delete(f"{JOBS}/move"))
    wait_until(lambda: "nextRetryTime" in service.job("move"), 90, "the removal to fail")
    if gone == "source":
        again = service.good(service.delete(f"{JOBS}/move", force=True))
        assert again["name"] == delete["name"]
    else:
        shown = service.program.run("jobs", "delete", "move", "--force", "--yes", "--project=my-project", "--location=us-central1",
                                    env={"PGCRANE_SERVER": f"http://127.0.0.1:{service.port}"})
        assert shown.code == 0 and "not everything could be removed" in shown.stderr and "is deleted" in shown.stdout, shown
    ended = service.end_of(delete, 120)
    assert "error" not in ended and "database forced" in ended["metadata"]["statusMessage"], ended
    assert service.get(f"{JOBS}/move").status == 404
    if gone == "dest":
        assert slots_of(source) == []
        source.drop()
    else:
        assert dest.sql("SELECT to_regclass('pgcrane.job') IS NULL") == [(True,)]
        dest.drop()


def test_delete_by_force_of_a_renamed_database(service, servers):
    """The slot and what else is on the source goes all the same."""
    source, _ = [server.createdb("renamed") for server in servers]
    source.sql(SCHEMA)
    service.job_of("move", *servers, ["renamed"])
    service.done("move", "start")
    service.wait_ready("move")
    service.done("move", "stop")
    servers[0].sql("ALTER DATABASE renamed RENAME TO another")
    try:
        ended = service.end_of(service.good(service.delete(f"{JOBS}/move", force=True)), 120)
        assert "error" not in ended and service.get(f"{JOBS}/move").status == 404, ended
        left = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() UNION ALL SELECT pubname FROM pg_publication"
        assert servers[0].sql(left, db="another") == []
    finally:
        servers[0].sql("ALTER DATABASE another RENAME TO renamed")
        for server in servers:
            Database(server, "renamed").drop()


def test_two_jobs_of_the_same_database(service, servers, databases):
    """The second is refused, also when the first is stopped, and deleting it leaves the first whole."""
    ((source, dest),) = databases("one")
    service.job_of("first", *servers, ["one"])
    service.done("first", "start")
    service.wait_ready("first")
    service.done("first", "stop")
    service.create_job("second", "first-from", "first-to", ["one"])
    operation = service.end_of(service.verb("second", "start"))
    assert "another job" in operation["error"]["message"], operation
    service.remove("second")
    assert len(slots_of(source)) == 1
    source.sql("INSERT INTO item VALUES (5001, 'after')")
    service.done("first", "resume")
    service.wait_ready("first")
    service.done("first", "promote")
    assert_equal(source, dest)


@pytest.mark.parametrize("text", ("", "{", "[]", '{"state": 7}', "\0" * 100), ids=("empty", "half", "list", "types", "zeros"))
def test_a_status_file_that_is_damaged(text, service, servers, databases):
    """Of a session that lives it is written again; of one that has ended the job is told, and goes on."""
    databases("one")
    service.job_of("move", *servers, ["one"])
    service.done("move", "start")
    service.wait_ready("move")
    (path,) = status_files(service, "move")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    time.sleep(0.5)
    service.wait_ready("move")
    service.kill()
    service.kill_processes("session")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    service.start()
    service.wait_ready("move")
    service.remove("move")


def test_a_session_that_never_hears(service, servers, databases):
    """Stopped by a signal and never continued: it is ended."""
    ((source, _),) = databases("one")
    service.job_of("move", *servers, ["one"])
    service.done("move", "start")
    service.wait_ready("move")
    for pid in service.pids("session"):
        os.kill(pid, signal.SIGSTOP)
    service.done("move", "stop", timeout=60)
    assert not service.pids("session")
    service.remove("move")
    assert slots_of(source) == []


@pytest.mark.skipif("PGCRANE_SLOW_TESTS" not in os.environ, reason="waits as long as the service does: PGCRANE_SLOW_TESTS=1")
def test_a_worker_that_never_ends(service, servers, databases):
    """The session has heard, and waits for it."""
    ((source, _),) = databases("one")
    service.job_of("move", *servers, ["one"])
    service.done("move", "start")
    service.wait_ready("move")
    halted = service.pids("worker")
    for pid in halted:
        os.kill(pid, signal.SIGSTOP)
    try:
        service.done("move", "stop", timeout=150)
        assert not service.pids("session")
    finally:
        for pid in halted:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    service.remove("move", timeout=90)
    assert slots_of(source) == []


def test_findings_are_the_error(service, servers, databases):
    ((_, dest),) = databases("one")
    dest.sql("CREATE TABLE item (other text)")
    service.job_of("move", *servers, ["one"])
    operation = service.end_of(service.verb("move", "start"))
    for details in (operation["error"]["details"], service.job("move")["error"]["details"]):
        found = [each for each in details if each["@type"].endswith("MigrationJobVerificationError")]
        assert found and any("item" in each["errorMessage"] for each in found), details


def test_what_a_job_tells(service, servers, databases):
    """Counters of tables, head-room and the length of a promote; what its sessions say stands in its log, once."""
    ((source, dest),) = databases("one")
    service.job_of("move", *servers, ["one"])
    service.done("move", "start")
    service.wait_ready("move")
    with Writer(source) as writer:
        writer.wait_for(20)

        def counted():
            tables = {each["name"]: each for each in service.job("move")["progress"].get("tables", [])}
            return tables if tables.get("public.item", {}).get("updates", 0) > 0 else None
        table = wait_until(counted, what="counters")["public.item"]
        assert table["database"] == "one" and table["inserts"] >= 0
        progress = service.job("move")["progress"]
        assert progress["promoteSeconds"] >= 1 and progress["retainedBytes"] >= 0, progress
        service.kill()
        service.start()
        service.wait_ready("move")
        service.done("move", "promote")
    assert service.job("move")["progress"]["promoteSeconds"] < 30
    said = [event["message"] for event in events(service, "move", "WORKER")]
    assert said and all(text.startswith("database one: ") for text in said), said
    assert len(said) == len(set(said)), said
    assert_equal(source, dest)


def test_a_database_is_taken_out_while_its_server_is_away(service, own_cluster, servers):
    """Its removal fails, and is tried again by itself."""
    away = own_cluster("away")
    pairs = [(away.createdb(name), servers[1].createdb(name)) for name in ("stays", "goes")]
    for source, _ in pairs:
        source.sql(SCHEMA)
    service.job_of("move", away, servers[1], ["stays", "goes"])
    service.done("move", "start")
    service.wait_ready("move", 90)
    away.stop()
    only = objects_filter("stays")["objectsFilter"]
    service.end_of(service.good(service.patch(f"{JOBS}/move", {"objectsConfig": only}, updateMask="objectsConfig")))
    wait_until(lambda: service.objects("move")["goes"]["state"] == "REMOVING", 60, "the removal")
    time.sleep(10)
    assert service.objects("move")["goes"]["state"] == "REMOVING"
    away.start()
    wait_until(lambda: service.objects("move")["goes"]["state"] == "NOT_SELECTED", 60, "the end of the removal")
    assert slots_of(pairs[1][0]) == []
    service.wait_ready("move", 90)
    service.remove("move")
    for _, dest in pairs:
        dest.drop()


def test_stop_while_the_instance_is_looked_at(service, servers, databases):
    databases("one")
    service.job_of("move", *servers, ["one"])
    start = service.verb("move", "start")
    stop = service.verb("move", "stop")
    assert "error" in service.end_of(start)
    assert "error" not in service.end_of(stop)
    wait_until(lambda: not service.pids("session"), what="the sessions to end")
    service.done("move", "resume")
    service.wait_ready("move")
    start = service.good(service.delete(f"{JOBS}/move"))
    assert "error" not in service.end_of(start)
    assert not service.pids("session")


@pytest.mark.parametrize("away", (False, True))
def test_delete_by_force_beside_another_job(away, service, own_cluster, servers):
    """Of the same database, and at work: nothing of it is touched, also when the destination cannot be asked."""
    to = own_cluster("beside")
    name = "beside_away" if away else "beside"
    source, dest = servers[0].createdb(name), to.createdb(name)
    source.sql(SCHEMA)
    service.job_of("first", servers[0], to, [name])
    service.done("first", "start")
    service.wait_ready("first")
    service.create_job("second", "first-from", "first-to", [name])
    operation = service.end_of(service.verb("second", "start"), 120)
    assert "error" in operation, operation
    if away:
        to.stop()
    service.end_of(service.good(service.delete(f"{JOBS}/second", force=True)), 120)
    assert len(slots_of(source)) == 1
    if away:
        to.start()
    service.wait_ready("first", 90)
    source.sql("INSERT INTO item VALUES (5001, 'after')")
    service.done("first", "promote")
    assert_equal(source, dest)
    source.drop()
    dest.drop()


def test_commands_of_jobs(service, servers, databases, tmp_path):
    """Whoever may change a job runs no commands here, unless the service was started so."""
    databases("one")
    mark = tmp_path / "mark"
    flags = {"dumpFlags": {"dumpFlags": [{"name": "hook-after", "value": f"touch {mark}"}]}}
    service.job_of("move", *servers, ["one"], **flags)
    operation = service.end_of(service.verb("move", "start"))
    assert "hook-after" in operation["error"]["message"] and "--allow-hooks" in str(operation), operation
    with Service(tmp_path / "hooks", "--allow-hooks") as other:
        other.job_of("move", *servers, ["one"], **flags)
        other.done("move", "start")
        other.wait_ready("move")
        other.done("move", "promote")
        assert mark.exists()


@pytest.mark.parametrize("pause", (0, 0.3))
def test_killed_while_one_is_promoted(pause, service, servers, databases):
    """Everything at once, in the middle of a promote of one database: it comes to its end, and so does the other's."""
    pairs = databases("one", "two")
    service.job_of("move", *servers, ["one", "two"])
    service.done("move", "start")
    service.wait_ready("move", 90)
    with Writer(pairs[0][0]) as first, Writer(pairs[1][0]) as second:
        first.wait_for(10)
        operation = service.verb("move", "promote", objects_filter("one"))
        wait_until(lambda: service.objects("move")["one"].get("phase") in ("PROMOTE_IN_PROGRESS", "PROMOTED"), what="it")
        time.sleep(pause)
        service.kill()
        service.kill_processes("session")
        service.kill_processes("worker")
        service.start()
        assert "error" not in service.end_of(operation, 90)
        second.wait_for(10)
        service.wait_ready("move", 90)
        service.done("move", "promote", timeout=90)
    for source, dest in pairs:
        assert_equal(source, dest)
        assert slots_of(source) == []
