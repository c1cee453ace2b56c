"""What is found out for a job or a profile, and changes nothing: checks, databases, whether a server can be reached."""
import psycopg
import pytest

from support.api import JOBS, LOCATION, PROFILES
from support.cluster import Database, wait_until
from support.service import Service
from support.trouble import SCHEMA, rows_and_sequences

VERIFICATION = "type.googleapis.com/google.cloud.clouddms.v1.MigrationJobVerificationError"


@pytest.fixture(scope="module")
def servers(make_cluster):
    """A source of two databases, and a destination that has one of them."""
    source, dest = make_cluster("errands_source"), make_cluster("errands_dest")
    for name in ("one", "two"):
        source.createdb(name).sql(SCHEMA)
    dest.createdb("one")
    return source, dest


@pytest.fixture
def service(tmp_path, servers):
    with Service(tmp_path / "service") as running:
        yield running


def test_verify(service, servers):
    """Everything that is wrong at once, and nothing is changed by it."""
    source, dest = servers
    service.job_of("move", source, dest, ["one", "two"])
    assert service.done("move", "verify")["state"] == "NOT_STARTED"
    one = Database(dest, "one")
    one.sql("CREATE TABLE item (other text)")
    operation = service.end_of(service.verb("move", "verify"))
    one.sql("DROP TABLE item")
    details = operation["error"]["details"]
    assert details[0]["reason"] == "PREFLIGHT_FAILED", operation
    found = [d for d in details if d["@type"] == VERIFICATION]
    assert found and all("database one" in d["errorDetailMessage"] for d in found), operation
    assert service.job("move")["state"] == "NOT_STARTED"
    assert one.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'pgcrane'") == [(0,)]
    assert dest.sql("SELECT count(*) FROM pg_database WHERE datname = 'two'") == [(0,)]


def test_verify_of_what_is_not_there(service, servers):
    source, dest = servers
    service.job_of("move", source, dest, ["one", "absent"])
    operation = service.end_of(service.verb("move", "verify"))
    assert "absent" in str(operation["error"]["details"]), operation


def test_databases_of_the_source(service, servers):
    source, dest = servers
    service.job_of("move", source, dest, ["one"])
    operation = service.end_of(service.good(service.get(f"{JOBS}/move:fetchSourceObjects")))
    assert "error" not in operation, operation
    assert {"one", "two"} <= set(service.objects("move"))
    assert service.objects("move")["two"]["state"] == "NOT_SELECTED"


@pytest.mark.turns(1)
@pytest.mark.parametrize("good", (True, False))
def test_connection(good, service, servers):
    source, _ = servers
    body = {"postgresql": {"host": "127.0.0.1", "port": source.port, "username": "postgres" if good else "nobody here",
                           "password": "secret"}}
    operation = service.end_of(service.good(service.post(LOCATION + "/connectionProfiles", body, connectionProfileId="tried",
                                                         validateOnly="true")))
    if good:
        assert operation["response"]["name"] == f"{PROFILES}/tried" and "secret" not in str(operation)
    else:
        assert "nobody here" in operation["error"]["message"], operation
    assert service.get(f"{PROFILES}/tried").status == 404


def test_a_database_is_added(service, servers):
    """To a job at work: its roles and its database are made, and it is followed like the others."""
    source, dest = servers
    service.job_of("move", source, dest, ["one"])
    service.done("move", "start")
    service.wait_ready("move")
    both = [{"objectIdentifier": {"type": "DATABASE", "database": d}} for d in ("one", "two")]
    change = {"objectsConfig": {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": both}}}
    operation = service.end_of(service.good(service.patch(f"{JOBS}/move", change, updateMask="objectsConfig")))
    assert "error" not in operation, operation
    wait_until(lambda: service.objects("move").get("two", {}).get("phase") == "READY_FOR_PROMOTE", 60, "the second database")
    service.wait_ready("move")
    change["objectsConfig"]["sourceObjectsConfig"]["objectConfigs"] = both[1:]
    service.end_of(service.good(service.patch(f"{JOBS}/move", change, updateMask="objectsConfig")))
    wait_until(lambda: service.objects("move")["one"]["state"] == "NOT_SELECTED", 60, "the first one to be taken out")
    assert source.sql("SELECT database FROM pg_replication_slots") == [("two",)]
    service.wait_ready("move")
    service.remove("move")
    assert source.sql("SELECT database FROM pg_replication_slots") == []
    for name in ("one", "two"):
        Database(dest, name).drop()
    dest.createdb("one")


def test_one_database_begins_anew(service, servers):
    """The other one is not touched; a row that only the destination had is gone."""
    source, dest = servers
    for name in ("one", "two"):
        Database(dest, name).drop()
    service.job_of("move", source, dest, ["one", "two"])
    service.done("move", "start")
    service.wait_ready("move")
    Database(dest, "two").sql("INSERT INTO keyless VALUES (4711)")
    only = {"objectsFilter": {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": [
        {"objectIdentifier": {"type": "DATABASE", "database": "two"}}]}}}
    service.done("move", "restart", only)

    def anew():
        try:
            return Database(dest, "two").sql("SELECT count(*) FROM keyless WHERE v = 4711") == [(0,)]
        except psycopg.Error:  # between the old table and the new one
            return False
    wait_until(anew, 60, "it to begin anew")
    wait_until(lambda: service.objects("move")["two"].get("phase") == "READY_FOR_PROMOTE", 60, "the second database")
    assert service.objects("move")["one"]["state"] == "RUNNING"
    service.wait_ready("move")
    service.remove("move")
    for name in ("one", "two"):
        Database(dest, name).drop()
    dest.createdb("one")


def test_killed_while_one_begins_anew(service, servers):
    """Everything at once, right behind the answer: both databases are whole again."""
    source, dest = servers
    for name in ("one", "two"):
        Database(dest, name).drop()
    service.job_of("move", source, dest, ["one", "two"])
    service.done("move", "start")
    service.wait_ready("move")
    Database(dest, "two").sql("INSERT INTO keyless VALUES (4711)")
    only = {"objectsFilter": {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": [
        {"objectIdentifier": {"type": "DATABASE", "database": "two"}}]}}}
    service.verb("move", "restart", only)
    before = service.pids("session")
    wait_until(lambda: set(service.pids("session")) - set(before), 60, "the session that begins anew")
    service.kill()
    assert service.kill_processes("session")
    service.kill_processes("worker")
    service.start()
    for name in ("one", "two"):
        Database(source, name).sql("INSERT INTO keyless VALUES (5)")

    def equal():
        try:
            return all(rows_and_sequences(Database(source, name), Database(dest, name)) == [] for name in ("one", "two"))
        except psycopg.Error:  # between the old tables and the new ones
            return False
    wait_until(equal, 60, "both databases to be equal")
    service.wait_ready("move")
    service.remove("move")
    for name in ("one", "two"):
        Database(dest, name).drop()
    dest.createdb("one")
