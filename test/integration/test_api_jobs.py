"""Migration jobs: create, change, verbs in every state, objects, operations, events."""
import http.client
import json

import pytest

from support.api import JOBS, LOCATION, PROFILES, api, make_daemon  # noqa: F401

pytestmark = pytest.mark.turns(2)

JOB = JOBS + "/mj1"
DATABASES = {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS",
                                     "objectConfigs": [{"objectIdentifier": {"type": "DATABASE", "database": "app"}}]}}


def test_create(api):
    made = api.make_job(state="RUNNING", phase="CDC")
    assert made["name"] == JOB and made["state"] == "NOT_STARTED" and "phase" not in made
    assert made["sourceDatabase"] == {"engine": "POSTGRESQL"} and made["allowedActions"] == ["start", "delete"]
    assert api.get(JOB).json == made and api.get(JOBS)["migrationJobs"] == [made]
    answer = api.post(JOBS, {"type": "ONE_TIME", "source": PROFILES + "/src", "destination": PROFILES + "/dst"},
                      migrationJobId="mj1")
    assert answer.status == 409 and answer.error()[0] == "ALREADY_EXISTS"


def test_what_a_job_needs(api):
    api.make_profile("src", role="SOURCE")
    api.make_profile("dst", role="DESTINATION")
    good = {"type": "CONTINUOUS", "source": PROFILES + "/src", "destination": PROFILES + "/dst"}

    def refused(field, **changes):
        answer = api.post(JOBS, {**good, **changes}, migrationJobId="mj1")
        assert answer.status == 400 and field in answer.violations(), answer

    refused("source", source=PROFILES + "/none")
    refused("source", source="src")
    refused("source", source=None)
    refused("source", source=PROFILES + "/dst")
    refused("destination", destination=PROFILES + "/src")
    refused("destination", destination=JOBS + "/src")
    refused("type", type="SOMETIMES")
    refused("type", type="TYPE_UNSPECIFIED")
    refused("type", type=None)
    refused("staticIpConnectivity", staticIpConnectivity={}, vpcPeeringConnectivity={"vpc": "v"})
    refused("objectsConfig", objectsConfig={"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS"}})
    table = {"type": "TABLE", "database": "app", "schema": "s", "table": "t"}
    refused("objectsConfig.sourceObjectsConfig.objectConfigs[0]",
            objectsConfig={"sourceObjectsConfig": {"objectConfigs": [{"objectIdentifier": table}]}})
    assert api.get(JOBS)["migrationJobs"] == []


def test_a_job_whose_destination_is_yet_to_be_made(api):
    api.make_profile("src")
    api.post(PROFILES, {"cloudsql": {"settings": {"databaseVersionName": "POSTGRES_17"}}}, connectionProfileId="dst")
    body = {"type": "CONTINUOUS", "source": PROFILES + "/src", "destination": PROFILES + "/dst"}
    operation = api.good(api.post(JOBS, body, migrationJobId="mj1"))
    assert operation["done"] is False and api.get(JOB)["state"] == "CREATING"
    assert api.outbox()[-1] == (JOB, "PREPARE", {"operation": operation["name"]})


def test_start_is_asked_for_once(api):
    api.make_job()
    first = api.good(api.post(JOB + ":start", {"skipValidation": True}))
    assert first["done"] is False and first["metadata"]["verb"] == "start" and first["metadata"]["target"] == JOB
    for _ in range(3):
        assert api.good(api.post(JOB + ":start", {"skipValidation": False})) == first
    assert api.outbox() == [(JOB, "SPAWN_WORKER", {"operation": first["name"], "args": {"skipValidation": True}})]
    assert api.get(JOB)["state"] == "STARTING"
    stop = api.good(api.post(JOB + ":stop"))
    assert api.get(JOB)["state"] == "STOPPING"
    ended = api.get(first["name"])
    assert ended["done"] and ended["error"]["code"] == 10 and "stop" in ended["error"]["message"]
    assert [action for _, action, _ in api.outbox()] == ["SPAWN_WORKER", "ASK_STOP"]
    assert api.good(api.post(JOB + ":stop")) == stop


VERBS = ("start", "stop", "resume", "restart", "promote", "delete")


@pytest.mark.parametrize("state, phase, allowed", [
    ("CREATING", "NONE", {"delete"}),
    ("NOT_STARTED", "NONE", {"start", "delete"}),
    ("STARTING", "NONE", {"stop", "delete"}),
    ("RUNNING", "FULL_DUMP", {"stop", "delete"}),
    ("RUNNING", "CDC", {"stop", "promote", "delete"}),
    ("RUNNING", "READY_FOR_PROMOTE", {"stop", "promote", "delete"}),
    ("STOPPING", "CDC", {"delete"}),
    ("STOPPED", "FULL_DUMP", {"resume", "restart", "delete"}),
    ("STOPPED", "CDC", {"resume", "restart", "promote", "delete"}),
    ("RESUMING", "CDC", {"stop", "delete"}),
    ("FAILED", "FULL_DUMP", {"resume", "restart", "delete"}),
    ("FAILED", "CDC", {"resume", "restart", "promote", "delete"}),
    ("COMPLETED", "NONE", {"delete"}),
    ("DELETING", "NONE", set()),
])
def test_verbs_in_every_state(api, state, phase, allowed):
    """What is allowed is done, what is met is answered with an operation, the rest is refused with what is allowed."""
    api.make_job()
    met = {"STARTING": {"start", "resume"}, "RUNNING/FULL_DUMP": {"start", "resume"}, "RUNNING/CDC": {"resume"},
           "RUNNING/READY_FOR_PROMOTE": {"resume"}, "STOPPING": {"stop"}, "STOPPED": {"stop"}, "RESUMING": {"resume"},
           "DELETING": {"delete"}, "CREATING": {"resume", "restart"}}
    is_met = met.get(state, set()) | met.get(f"{state}/{phase}", set())
    for verb in VERBS:
        api.set_state(JOB, state, phase)
        job = api.get(JOB)
        assert set(job["allowedActions"]) == allowed
        answer = api.delete(JOB) if verb == "delete" else api.post(f"{JOB}:{verb}")
        if verb in allowed or verb in is_met:
            assert answer.status == 200, (verb, answer)
        else:
            status, message = answer.error()
            assert status == "FAILED_PRECONDITION" and state in message and verb in message
            assert all(word in message for word in allowed), message
        assert (api.get(JOB)["state"] == state) == (verb not in allowed or state == "RUNNING" and verb == "promote"), verb


def test_verbs_of_a_job_that_is_not_there(api):
    for verb in ("start", "stop", "resume", "restart", "promote", "verify", "demoteDestination"):
        assert api.post(f"{JOB}:{verb}").status == 404
    assert api.get(f"{JOB}:fetchSourceObjects").status == 404 and api.delete(JOB).status == 404
    assert api.get(JOB + "/objects").status == 404 and api.get(JOB + "/events").status == 404
    assert api.post(JOB + ":start", {"nonsense": 1}).status == 400
    assert api.post(JOB + ":stop", {"skipValidation": True}).status == 400


def test_errands(api):
    api.make_job()
    verify = api.good(api.post(JOB + ":verify"))
    assert api.good(api.post(JOB + ":verify"))["name"] == verify["name"]
    changed = api.good(api.post(JOB + ":verify", {"migrationJob": {"objectsConfig": DATABASES}, "updateMask": "objectsConfig"}))
    fetch = api.good(api.get(JOB + ":fetchSourceObjects"))
    demote = api.good(api.post(JOB + ":demoteDestination"))
    assert [(action, body["operation"]) for _, action, body in api.outbox()] == [
        ("VERIFY", verify["name"]), ("VERIFY", changed["name"]), ("FETCH_OBJECTS", fetch["name"]),
        ("DEMOTE", demote["name"])]
    assert api.outbox()[1][2]["args"]["migrationJob"]["objectsConfig"] == DATABASES
    assert fetch["metadata"]["verb"] == "fetchSourceObjects" and api.get(JOB)["state"] == "NOT_STARTED"
    assert "objectsConfig" not in api.get(JOB).json
    api.set_state(JOB, "RUNNING", "CDC")
    answer = api.post(JOB + ":verify", {"migrationJob": {"displayName": "b"}})
    assert answer.error()[0] == "FAILED_PRECONDITION" and "NOT_STARTED" in answer.error()[1]
    assert api.post(JOB + ":demoteDestination").error()[0] == "FAILED_PRECONDITION"
    assert api.post(JOB + ":promote", {"failback": True}).status == 501


def test_patch(api):
    job = api.make_job()
    changed = api.finished(api.patch(JOB, {"displayName": "b", "objectsConfig": DATABASES},
                                     updateMask="displayName,objectsConfig.sourceObjectsConfig"))
    assert changed["displayName"] == "b" and changed["objectsConfig"] == DATABASES and changed["etag"] != job["etag"]
    for field, value in (("type", "ONE_TIME"), ("source", PROFILES + "/x"), ("destination", PROFILES + "/x")):
        answer = api.patch(JOB, {field: value}, updateMask=field)
        assert answer.status == 400 and field in answer.violations()
    assert api.patch(JOB, {"state": "RUNNING"}, updateMask="state").status == 200
    assert api.get(JOB)["state"] == "NOT_STARTED"
    # google-cloud-sdk switches connectivity with the whole resource and an empty mask
    for kind, value in (("vpcPeeringConnectivity", {"vpc": "v"}), ("staticIpConnectivity", {}),
                        ("reverseSshConnectivity", {"vm": "v", "vmIp": "10.0.0.1", "vmPort": 5432, "vpc": "v"})):
        now = api.finished(api.patch(JOB, {**api.get(JOB).json, kind: value}, updateMask=""))
        assert now[kind] == value and sum("Connectivity" in key for key in now) == 1


def test_patch_while_it_runs(api):
    api.make_job()
    api.set_state(JOB, "RUNNING", "CDC")
    operation = api.good(api.patch(JOB, {"performanceConfig": {"dumpParallelLevel": "MAX"}}, updateMask="performanceConfig"))
    assert operation["done"] is False
    owner, action, body = api.outbox()[-1]
    assert (owner, action, body["operation"]) == (JOB, "RECONFIGURE", operation["name"])
    assert body["args"]["performanceConfig"] == {"dumpParallelLevel": "MAX"} == api.get(JOB)["performanceConfig"]
    api.set_state(JOB, "COMPLETED")
    answer = api.patch(JOB, {"performanceConfig": {}}, updateMask="performanceConfig")
    assert answer.error()[0] == "FAILED_PRECONDITION" and "COMPLETED" in answer.error()[1]
    assert api.finished(api.patch(JOB, {"labels": {"a": "b"}}, updateMask="labels"))["labels"] == {"a": "b"}


def test_generate_ssh_script(api):
    api.make_job()
    body = {"vm": "u@bastion'; touch /tmp/x; '", "vmPort": 1111, "vmSelectionConfig": {"vmZone": "z"}}
    script = api.good(api.post(JOB + ":generateSshScript", body))["script"]
    assert script.startswith("#!/bin/sh\n") and "*:1111:$source:5432" in script
    assert "bastion='u@bastion'\\''; touch /tmp/x; '\\'''" in script and "source='10.0.0.5'" in script
    assert api.post(JOB + ":generateSshScript", {}).violations() == {"vm": "is required"}
    assert api.post(JOB + ":generateSshScript", {"vm": "-oProxyCommand=x"}).status == 400
    assert api.post(JOB + ":generateSshScript", {"vm": "a", "vmPort": 70000}).status == 400


def add_object(api, database, state="RUNNING", phase="CDC"):
    """As if a worker had reported it."""
    value = 14695981039346656037
    for byte in database.encode():
        value = (value ^ byte) * 1099511628211 % 2**64
    name = f"{JOB}/objects/{value:016x}"
    body = {"api": {"sourceObject": {"type": "DATABASE", "database": database}}, "run": {}}
    api.sql("INSERT INTO resource (name, kind, parent, uid, state, phase, display_name, body, version, create_us, update_us)"
            " VALUES (?, 'MIGRATION_JOB_OBJECT', ?, ?, ?, ?, '', ?, 1, 1, 1)", name, JOB, f"uid of {database}", state, phase,
            json.dumps(body))
    return name


def test_objects(api):
    api.make_job()
    assert api.get(JOB + "/objects").json == {"migrationJobObjects": []}
    app, sales = add_object(api, "app"), add_object(api, "sales", "FAILED", "FULL_DUMP")
    listed = api.get(JOB + "/objects")["migrationJobObjects"]
    assert {each["name"] for each in listed} == {app, sales}
    found = api.good(api.post(JOB + "/objects:lookup", {"sourceObjectIdentifier": {"database": "app", "type": "DATABASE"}}))
    assert found["name"] == app and found["state"] == "RUNNING" and found["phase"] == "CDC"
    assert api.get(app).json == found
    assert api.get(app + ":getIamPolicy").status == 200
    for identifier in ({"database": "none"}, {"database": "app", "type": "TABLE", "schema": "s", "table": "t"}):
        assert api.post(JOB + "/objects:lookup", {"sourceObjectIdentifier": identifier}).status == 404
    assert api.post(JOB + "/objects:lookup", {"sourceObjectIdentifier": {}}).status == 400
    assert api.post(JOB + "/objects:lookup", {}).status == 400


def test_verbs_of_some_databases(api):
    api.make_job()
    add_object(api, "app")
    api.set_state(JOB, "RUNNING", "CDC")
    promote = api.good(api.post(JOB + ":promote", {"objectsFilter": DATABASES}))
    failed = api.good(api.post(JOB + ":restart", {"restartFailedObjects": True}))
    assert [(action, body["operation"]) for _, action, body in api.outbox()] == [
        ("PROMOTE_OBJECTS", promote["name"]), ("RESTART_OBJECTS", failed["name"])]
    assert api.get(JOB)["phase"] == "CDC"
    other = json.loads(json.dumps(DATABASES).replace("app", "none"))
    answer = api.post(JOB + ":promote", {"objectsFilter": other})
    assert answer.status == 400 and "none" in list(answer.violations().values())[0]
    assert api.post(JOB + ":restart", {"objectsFilter": DATABASES, "restartFailedObjects": True}).status == 400


def test_operations(api):
    api.make_job()
    start = api.good(api.post(JOB + ":start"))
    listed = api.get(LOCATION + "/operations", filter="done=false")["operations"]
    assert [each["name"] for each in listed] == [start["name"]]
    assert len(api.get(LOCATION + "/operations")["operations"]) == 4
    assert api.delete(start["name"]).error()[0] == "FAILED_PRECONDITION"
    assert api.good(api.post(start["name"] + ":cancel")) == {}
    assert api.get(start["name"])["metadata"]["requestedCancellation"] is True
    assert api.outbox()[-1] == (JOB, "CANCEL_OPERATION", {"operation": start["name"]})
    over = next(each for each in api.get(LOCATION + "/operations", filter="done=true")["operations"])
    assert api.good(api.delete(over["name"])) == {}
    assert api.get(over["name"]).status == 404 and api.post(over["name"] + ":cancel").status == 404


def test_wait_for_an_operation(api):
    api.make_job()
    start = api.good(api.post(JOB + ":start"))
    assert api.good(api.post(start["name"] + ":wait", {"timeout": "0.2s"})) == start
    stop = api.good(api.post(JOB + ":stop"))  # ends the other one
    assert api.good(api.post(start["name"] + ":wait", {"timeout": "20s"}))["done"] is True
    assert api.post(stop["name"] + ":wait", {"timeout": "soon"}).status == 400
    assert api.post(LOCATION + "/operations/none:wait").status == 404


class Stream:
    """Server-sent events."""

    def __init__(self, api, last_id=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        self.connection.request("GET", f"/v1/{JOB}/events", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200 and self.answer.headers["content-type"].startswith("text/event-stream")

    def next(self):
        """(id, data) of the next event; None at the end."""
        fields = {}
        while True:
            raw = self.answer.readline()
            line = raw.decode().rstrip("\n")
            if raw == b"" or line == "" and fields:
                return (fields["id"], json.loads(fields["data"])) if fields else None
            if ": " in line:
                key, _, value = line.partition(": ")
                fields[key] = value

    def close(self):
        self.connection.close()


def test_the_event_log(api):
    api.make_job()
    listed = api.get(JOB + "/events")["events"]
    assert [each["kind"] for each in listed] == ["CREATE", "PREPARED"]
    stream = Stream(api)
    assert [stream.next()[1]["kind"] for _ in listed] == ["CREATE", "PREPARED"]
    api.post(JOB + ":start")
    last, event = stream.next()
    assert event["kind"] == "USER_START" and event["detail"] == {"from": "NOT_STARTED", "to": "STARTING", "by": "local"}
    stream.close()
    api.post(JOB + ":stop")
    again = Stream(api, last)
    assert again.next()[1]["kind"] == "USER_STOP"
    page = api.get(JOB + "/events", pageSize=2)
    assert len(page["events"]) == 2
    assert [each["kind"] for each in api.get(JOB + "/events", pageToken=page["nextPageToken"])["events"]] == [
        "USER_START", "USER_STOP"]
    api.sql("DELETE FROM resource WHERE name = ?", JOB)
    assert again.next() is None  # the stream ends with its job
    again.close()
    assert api.get(JOB + "/events").status == 404


def test_many_streams_end_with_the_daemon(api):
    api.make_job()
    streams = [Stream(api) for _ in range(20)]
    assert all(stream.next()[1]["kind"] == "CREATE" for stream in streams)
    api.stop(timeout=10)
    for stream in streams:
        assert stream.next()[1]["kind"] == "PREPARED" and stream.next() is None
        stream.close()
