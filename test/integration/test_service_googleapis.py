"""A job's whole life as an application sees it that uses Google's published client for Node.js, against real servers."""
import contextlib
import time

import pytest

from support.api import JOBS, LOCATION, PROFILES
from support.cluster import Database, wait_until
from support.googleapis import GoogleApis, install
from support.service import Service
from support.trouble import SCHEMA, Writer, assert_equal

JOB = JOBS + "/move"
PAUSE_S = 0.1  # between two looks, as an application would make it
NAMES = ("shop", "It's \"2\"")


@pytest.fixture(scope="module", autouse=True)
def packages():
    install()


@pytest.fixture(scope="module")
def servers(make_cluster):
    return make_cluster("node_source"), make_cluster("node_dest")


@pytest.fixture
def service(tmp_path, servers):
    with Service(tmp_path / "service") as running:
        yield running


@pytest.fixture
def client(service):
    with GoogleApis(service.port) as made:
        yield made


def end_of(client, operation, timeout=60):
    """As applications wait: operations.get until it is done."""
    assert operation["name"].startswith(LOCATION + "/operations/"), operation
    if operation["done"]:
        return operation

    def over():
        time.sleep(PAUSE_S)
        now = client.call("operations.get", name=operation["name"])
        return now if now["done"] else None
    return wait_until(over, timeout, operation["name"])


def done(client, operation, timeout=60):
    """The resource that a finished operation answers with."""
    ended = end_of(client, operation, timeout)
    assert "error" not in ended, ended
    return ended["response"]


def verb(client, word, **body):
    return done(client, client.call(f"migrationJobs.{word}", name=JOB, requestBody=body))


def wait_for_phase(client, phase, timeout=60):
    """Until the job is in the phase; the phases that were seen on the way."""
    seen = []

    def reached():
        time.sleep(PAUSE_S)
        job = client.call("migrationJobs.get", name=JOB)
        assert job["state"] in ("STARTING", "RUNNING", "RESUMING"), job
        if job.get("phase") not in seen:
            seen.append(job.get("phase"))
        return job.get("phase") == phase
    wait_until(reached, timeout, f"{phase}: {seen}")
    return seen


def refused(answer, code, status, *words):
    assert (answer["code"], answer["httpStatus"], answer["status"]) == (code, code, status), answer
    assert all(word in answer["message"] for word in words), answer
    assert answer["details"][0]["domain"] == "pgcrane", answer


def make_profiles(client, source, dest):
    for name, cluster, role in (("old", source, "SOURCE"), ("new", dest, "DESTINATION")):
        body = {"displayName": name, "role": role, "postgresql": {
            "host": "127.0.0.1", "port": cluster.port, "username": "postgres", "password": "not asked for", "ssl": {}}}
        made = done(client, client.call("connectionProfiles.create", parent=LOCATION, connectionProfileId=name,
                                        requestBody=body))
        assert made["state"] == "READY" and made["postgresql"]["passwordSet"] is True
        assert "password" not in made["postgresql"]


def look_at_profiles(client):
    old = client.call("connectionProfiles.get", name=PROFILES + "/old")
    assert old["role"] == "SOURCE" and old["displayName"] == "old"
    listed = client.call("connectionProfiles.list", parent=LOCATION, orderBy="name", pageSize=1)
    assert [p["name"] for p in listed["connectionProfiles"]] == [PROFILES + "/new"]
    rest = client.call("connectionProfiles.list", parent=LOCATION, orderBy="name", pageSize=1,
                       pageToken=listed["nextPageToken"])
    assert rest["connectionProfiles"] == [old] and not rest.get("nextPageToken")
    changed = done(client, client.call("connectionProfiles.patch", name=PROFILES + "/old", updateMask="displayName,labels",
                                       requestBody={"displayName": "Old shop", "labels": {"team": "shop"}}))
    assert changed["displayName"] == "Old shop" and changed["labels"] == {"team": "shop"}
    assert changed["postgresql"] == old["postgresql"]
    twice = client.refused("connectionProfiles.create", parent=LOCATION, connectionProfileId="old",
                           requestBody={"postgresql": {"host": "h"}})
    refused(twice, 409, "ALREADY_EXISTS", PROFILES + "/old")
    wrong = client.refused("connectionProfiles.create", parent=LOCATION, connectionProfileId="other",
                           requestBody={"postgresql": {"host": "h", "port": 0}})
    refused(wrong, 400, "INVALID_ARGUMENT")
    assert [v["field"] for d in wrong["details"] for v in d.get("fieldViolations", [])] == ["postgresql.port"]


def objects_of(names):
    return {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": [
        {"objectIdentifier": {"type": "DATABASE", "database": name}} for name in names]}}


def make_job(client):
    body = {"type": "CONTINUOUS", "source": PROFILES + "/old", "destination": PROFILES + "/new", "displayName": "Move",
            "objectsConfig": objects_of(NAMES[:1])}
    made = done(client, client.call("migrationJobs.create", parent=LOCATION, migrationJobId="move", requestBody=body))
    assert made["name"] == JOB and made["state"] == "NOT_STARTED" and made["sourceDatabase"]["engine"] == "POSTGRESQL"
    refused(client.refused("migrationJobs.create", parent=LOCATION, migrationJobId="move", requestBody=body), 409,
            "ALREADY_EXISTS", JOB)
    changed = done(client, client.call("migrationJobs.patch", name=JOB, updateMask="objectsConfig.sourceObjectsConfig",
                                       requestBody={"objectsConfig": objects_of(NAMES)}))
    assert changed["objectsConfig"] == objects_of(NAMES)
    assert client.call("migrationJobs.list", parent=LOCATION)["migrationJobs"] == [client.call("migrationJobs.get", name=JOB)]


def look_at_objects(client):
    def phases():
        listed = client.call("migrationJobs.objects.list", parent=JOB)["migrationJobObjects"]
        return {o["sourceObject"]["database"]: o["phase"] for o in listed}

    # With writers at work one may be behind for a moment.
    wait_until(lambda: phases() == dict.fromkeys(NAMES, "READY_FOR_PROMOTE"), 60, "both to be ready")
    identifier = {"type": "DATABASE", "database": NAMES[1]}
    found = client.call("migrationJobs.objects.lookup", parent=JOB, requestBody={"sourceObjectIdentifier": identifier})
    assert found["sourceObject"] == identifier and found["state"] == "RUNNING"
    assert client.call("migrationJobs.objects.get", name=found["name"])["name"] == found["name"]
    refused(client.refused("migrationJobs.objects.lookup", parent=JOB,
                           requestBody={"sourceObjectIdentifier": {"type": "DATABASE", "database": "none"}}), 404, "NOT_FOUND")


def stop_and_resume(client, pairs):
    assert verb(client, "stop")["state"] == "STOPPED"
    refused(client.refused("migrationJobs.start", name=JOB, requestBody={}), 400, "FAILED_PRECONDITION", "STOPPED", "resume")
    refused(client.refused("connectionProfiles.delete", name=PROFILES + "/old"), 400, "FAILED_PRECONDITION")
    source, dest = pairs[0]
    source.sql("INSERT INTO item VALUES (4711, 'while it was stopped')")
    assert verb(client, "resume", skipValidation=True)["state"] == "RUNNING"
    wait_for_phase(client, "READY_FOR_PROMOTE")
    wait_until(lambda: dest.sql("SELECT 1 FROM item WHERE id = 4711"), what="the row of the time in between")


def remove(client):
    done(client, client.call("migrationJobs.delete", name=JOB))
    refused(client.refused("migrationJobs.get", name=JOB), 404, "NOT_FOUND", JOB)
    for name in ("old", "new"):
        done(client, client.call("connectionProfiles.delete", name=f"{PROFILES}/{name}"))
    assert client.call("connectionProfiles.list", parent=LOCATION)["connectionProfiles"] == []


def test_the_life_of_a_job(client, service, servers):
    source, dest = servers
    pairs = [(source.createdb(name), dest.createdb(name)) for name in NAMES]
    for each, _ in pairs:
        each.sql(SCHEMA)
    make_profiles(client, source, dest)
    look_at_profiles(client)
    make_job(client)
    refused(client.refused("migrationJobs.promote", name=JOB, requestBody={}), 400, "FAILED_PRECONDITION", "NOT_STARTED", "start")
    fetched = end_of(client, client.call("migrationJobs.fetchSourceObjects", name=JOB))
    assert "error" not in fetched, fetched
    assert verb(client, "verify")["state"] == "NOT_STARTED"
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(Writer(each, 0.05)) for each, _ in pairs]
        assert verb(client, "start")["state"] == "RUNNING"
        assert wait_for_phase(client, "READY_FOR_PROMOTE")[-1] == "READY_FOR_PROMOTE"
        look_at_objects(client)
        refused(client.refused("migrationJobs.restart", name=JOB, requestBody={}), 400, "FAILED_PRECONDITION", "RUNNING", "stop")
        stop_and_resume(client, pairs)
        for writer in writers:
            writer.wait_for(20)
        promoted = verb(client, "promote")
    assert promoted["state"] == "COMPLETED" and "error" not in promoted
    for each, target in pairs:
        assert_equal(each, target)
        assert each.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []
    remove(client)
    wait_until(lambda: not service.pids("session"), what="the sessions to end")


@pytest.mark.turns(2)
def test_an_error_of_an_operation(client, servers):
    """It is no error of the call: the application finds it in the operation."""
    source, dest = servers
    absent = Database(source, "absent")
    make_profiles(client, source, dest)
    body = {"type": "ONE_TIME", "source": PROFILES + "/old", "destination": PROFILES + "/new",
            "objectsConfig": objects_of([absent.name])}
    done(client, client.call("migrationJobs.create", parent=LOCATION, migrationJobId="move", requestBody=body))
    ended = end_of(client, client.call("migrationJobs.verify", name=JOB, requestBody={}))
    assert ended["error"]["code"] == 9 and "absent" in str(ended["error"]["details"]), ended
    assert client.call("migrationJobs.get", name=JOB)["state"] == "NOT_STARTED"


@pytest.mark.turns(2)
def test_tokens(service):
    """What the client sends of an OAuth2 token is what the service takes."""
    made = service.program("tokens", "create", "--role=viewer", "--name=node", "--state-dir", service.folder)
    token = made.stdout.strip()
    assert token.startswith("pgc_viewer_"), made
    with GoogleApis(service.port, token) as client:
        assert client.call("migrationJobs.list", parent=LOCATION)["migrationJobs"] == []
        refused(client.refused("migrationJobs.delete", name=JOB), 403, "PERMISSION_DENIED")
    with GoogleApis(service.port, token[:-1] + "?") as client:
        refused(client.refused("migrationJobs.list", parent=LOCATION), 401, "UNAUTHENTICATED")
