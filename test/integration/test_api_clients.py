"""What google-cloud-sdk (528) and Terraform's google provider send, request by request, and what they need in the answers.

Each request stands here as it was seen: with alt=json, Python's True and False, whole resources in PATCH, masks that lack
labels or name fields that do not exist, and states that only the service may set."""
import re
import uuid

import pytest

from support.api import JOBS, LOCATION, PROFILES, PROJECT, api, make_daemon  # noqa: F401

pytestmark = pytest.mark.turns(2)

AGENT = {"User-Agent": "google-cloud-sdk gcloud/528.0.0 command/gcloud.database-migration", "Accept-Encoding": "gzip, deflate"}


class Gcloud:
    def __init__(self, api, version="v1"):
        self.api, self.version = api, version

    def send(self, method, path, body=None, **query):
        answer = self.api.request(method, f"/{self.version}/{path}", body, headers=AGENT, alt="json", **query)
        assert answer.status == 200, (method, path, answer)
        return answer.json

    def mutate(self, method, path, body=None, **query):
        """As gcloud does: one GET of the operation behind it."""
        operation = self.send(method, path, body, requestId=str(uuid.uuid4()), **query)
        assert self.send("GET", operation["name"])["name"] == operation["name"]
        return operation

    def waited(self, method, path, body=None, **query):
        """--no-async: until it is done, then the resource."""
        operation = self.mutate(method, path, body, **query)
        done = self.send("GET", operation["name"])
        assert done["done"] is True and "error" not in done
        return self.send("GET", done["response"]["name"])

    def profile(self, name, **postgresql):
        body = {"displayName": name, "labels": {"a": "b"}, "postgresql": {"ssl": {}, **postgresql}, "state": "CREATING"}
        return self.waited("POST", PROFILES, body, connectionProfileId=name)

    def job(self, **fields):
        body = {"destination": PROFILES + "/dst", "source": PROFILES + "/src", "state": "CREATING", "type": "CONTINUOUS",
                **fields}
        return self.waited("POST", JOBS, body, migrationJobId="mj1")


@pytest.fixture
def gcloud(api):
    return Gcloud(api)


@pytest.fixture
def job(gcloud):
    gcloud.profile("src", host="10.0.0.5", port=5432, username="mig")
    gcloud.profile("dst", cloudSqlId="i1")
    return gcloud.job()


def test_connection_profiles(gcloud):
    made = gcloud.profile("src", host="10.0.0.5", port=5432, username="mig")
    assert made["state"] == "READY" and made["postgresql"]["ssl"] == {}
    for name, how in (("d1", {"cloudSqlId": "i1"}), ("d2", {"alloydbClusterId": "c"}),
                      ("s2", {"host": "h", "privateServiceConnectConnectivity": {"serviceAttachment": "x"}}),
                      ("s3", {"host": "h", "staticIpConnectivity": {}})):
        assert gcloud.profile(name, **how)["postgresql"] == {**how, "ssl": {}}
    listed = gcloud.send("GET", f"{PROJECT}/locations/-/connectionProfiles", filter="state=READY", orderBy="displayName",
                         pageSize=3)
    assert [each["displayName"] for each in listed["connectionProfiles"]] == ["d1", "d2", "s2"]
    more = gcloud.send("GET", f"{PROJECT}/locations/-/connectionProfiles", filter="state=READY", orderBy="displayName",
                       pageSize=3, pageToken=listed["nextPageToken"])
    assert [each["displayName"] for each in more["connectionProfiles"]] == ["s3", "src"] and "nextPageToken" not in more
    gone = gcloud.send("DELETE", PROFILES + "/src", force="False")
    assert gone["name"].startswith(LOCATION + "/operations/operation-")


def test_connection_profiles_of_servers_to_be_made(gcloud):
    settings = {"activationPolicy": "SQL_ACTIVATION_POLICY_UNSPECIFIED", "autoStorageIncrease": True,
                "availabilityType": "SQL_AVAILABILITY_TYPE_UNSPECIFIED", "dataDiskSizeGb": "20",
                "dataDiskType": "SQL_DATA_DISK_TYPE_UNSPECIFIED", "databaseVersion": "POSTGRES_15",
                "ipConfig": {"enableIpv4": True, "requireSsl": False}, "sourceId": PROFILES + "/src", "tier": "db-g1-small"}
    body = {"cloudsql": {"settings": settings}, "displayName": "dst", "provider": "DATABASE_PROVIDER_UNSPECIFIED",
            "state": "CREATING"}
    assert gcloud.mutate("POST", PROFILES, body, connectionProfileId="dst")["done"] is False
    assert gcloud.send("GET", PROFILES + "/dst")["cloudsql"]["settings"] == settings
    network = {"enablePublicIp": False, "enableOutboundPublicIp": False}
    alloydb = {"clusterId": "adst", "settings": {
        "initialUser": {"user": "postgres"}, "vpcNetwork": "projects/p/global/networks/default",
        "primaryInstanceSettings": {"id": "primary", "machineConfig": {"cpuCount": 2}, "instanceNetworkConfig": network}}}
    gcloud.mutate("POST", PROFILES, {"alloydb": alloydb, "state": "CREATING"}, connectionProfileId="adst")
    assert gcloud.send("GET", PROFILES + "/adst")["alloydb"] == alloydb


def test_updates_of_connection_profiles(gcloud):
    path = PROFILES + "/src"
    gcloud.profile("src", host="10.0.0.5", port=5432, username="mig")

    def update(mask, change):
        whole = gcloud.send("GET", path)
        change(whole)
        return gcloud.waited("PATCH", path, whole, updateMask=mask)

    changed = update("displayName,postgresql.host", lambda p: (p.update(displayName="new"), p["postgresql"].update(host="h2"),
                                                             p.update(labels={"c": "d"})))
    assert changed["displayName"] == "new" and changed["postgresql"]["host"] == "h2"
    assert changed["labels"] == {"a": "b"}  # gcloud's own mistake: labels in the body, not in the mask
    assert update("", lambda p: p.update(labels={"c": "d"}))["labels"] == {"c": "d"}  # --update-labels alone
    mask = "postgresql.ssl.caCertificate,postgresql.ssl.clientCertificate,postgresql.ssl.clientKey,postgresql.ssl.type"
    assert update(mask, lambda p: p["postgresql"]["ssl"].update(type="REQUIRED"))["postgresql"]["ssl"] == {"type": "REQUIRED"}
    assert update("postgresql.instance", lambda p: p["postgresql"].update(cloudSqlId="i2"))["postgresql"]["cloudSqlId"] == "i2"
    changed = update("postgresql.alloydb_cluster", lambda p: p["postgresql"].update(alloydbClusterId="c2"))
    assert changed["postgresql"]["alloydbClusterId"] == "c2"


def test_connection_profiles_test(gcloud, api):
    """`connection-profiles test`: the whole profile as it is, with validateOnly=True."""
    gcloud.profile("src", host="10.0.0.5", port=5432, username="mig")
    whole = gcloud.send("GET", PROFILES + "/src")
    operation = gcloud.mutate("PATCH", PROFILES + "/src", whole, updateMask="displayName", validateOnly="True")
    assert gcloud.send("GET", PROFILES + "/src") == whole
    assert api.outbox()[-1][1:] == ("TEST_CONNECTION", {"operation": operation["name"], "args": {
        "profile": {key: whole[key] for key in ("displayName", "labels", "postgresql")}, "secrets": {}, "stored": []}})


def test_migration_jobs_create(gcloud, job):
    assert job["state"] == "NOT_STARTED" and not [key for key in job if key.endswith("Connectivity")]
    gcloud.send("DELETE", JOBS + "/mj1", force="False")
    databases = [{"objectIdentifier": {"database": name, "type": "DATABASE"}} for name in ("app", "sales")]
    for number, fields in enumerate((
            {"staticIpConnectivity": {}}, {"vpcPeeringConnectivity": {"vpc": "v"}},
            {"reverseSshConnectivity": {"vm": "vm", "vmIp": "10.0.0.9", "vmPort": 1111, "vpc": "v"}},
            {"objectsConfig": {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS",
                                                       "objectConfigs": databases}}},
            {"objectsConfig": {"sourceObjectsConfig": {"objectsSelectionType": "ALL_OBJECTS"}}},
            {"performanceConfig": {"dumpParallelLevel": "MAX"}},
            {"dumpFlags": {"dumpFlags": [{"name": "f", "value": "v"}]}}, {"dumpPath": "gs://bucket/object"})):
        body = {"destination": PROFILES + "/dst", "source": PROFILES + "/src", "state": "CREATING", "type": "ONE_TIME", **fields}
        made = gcloud.waited("POST", JOBS, body, migrationJobId=f"j{number}")
        assert {key: made[key] for key in fields} == fields
    listed = gcloud.send("GET", JOBS, pageSize=5)
    assert len(listed["migrationJobs"]) == 5
    assert len(gcloud.send("GET", JOBS, pageSize=5, pageToken=listed["nextPageToken"])["migrationJobs"]) == 4


@pytest.mark.parametrize("version", ["v1", "v1alpha2"])
def test_the_way_of_a_job(api, job, version):
    """Verbs print the operation at once, carry no requestId, and are repeated up to five times behind a 5xx."""
    gcloud = Gcloud(api, version)
    path = JOBS + "/mj1"
    for verb, body in (("verify", {}), ("demoteDestination", {}), ("start", {"skipValidation": False})):
        first = gcloud.send("POST", f"{path}:{verb}", body)
        assert [gcloud.send("POST", f"{path}:{verb}", body)["name"] for _ in range(4)] == [first["name"]] * 4
        assert first["metadata"]["verb"] == verb and first["metadata"]["requestedCancellation"] is False
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", first["metadata"]["createTime"])
        if verb == "demoteDestination":  # nobody carries it out here, and a start waits for its end
            assert api.post(f"{path}:start").error()[0] == "FAILED_PRECONDITION"
            api.sql("UPDATE resource SET body = json_remove(body, '$.run.errands.DEMOTE') WHERE name = ?", path)
    api.set_state(path, "RUNNING", "CDC")
    assert gcloud.send("POST", path + ":stop", {})["metadata"]["verb"] == "stop"
    api.set_state(path, "STOPPED", "CDC")
    assert gcloud.send("POST", path + ":resume", {"skipValidation": True})["metadata"]["verb"] == "resume"
    api.set_state(path, "FAILED", "CDC")
    assert gcloud.send("POST", path + ":restart", {"skipValidation": True})["metadata"]["verb"] == "restart"
    api.set_state(path, "RUNNING", "READY_FOR_PROMOTE")
    assert gcloud.send("POST", path + ":promote", {})["metadata"]["verb"] == "promote"
    assert gcloud.send("GET", path)["phase"] == "PROMOTE_IN_PROGRESS"
    api.set_state(path, "COMPLETED")
    assert gcloud.send("DELETE", path, force="True")["metadata"]["verb"] == "delete"
    listed = gcloud.send("GET", LOCATION + "/operations")["operations"]
    assert {each["metadata"]["target"] for each in listed} >= {path}
    assert gcloud.send("DELETE", next(each["name"] for each in listed if each["done"])) == {}


def test_updates_of_jobs(gcloud, job):
    path = JOBS + "/mj1"
    databases = {"sourceObjectsConfig": {"objectsSelectionType": "ALL_OBJECTS"}}
    whole = {**gcloud.send("GET", path), "displayName": "n", "performanceConfig": {"dumpParallelLevel": "MIN"},
             "objectsConfig": databases, "labels": {"only": "these"}}
    mask = "displayName,performanceConfig.dumpParallelLevel,objectsConfig.sourceObjectsConfig,labels"
    changed = gcloud.waited("PATCH", path, whole, updateMask=mask)
    assert {key: changed[key] for key in ("displayName", "performanceConfig", "objectsConfig", "labels")} == {
        key: whole[key] for key in ("displayName", "performanceConfig", "objectsConfig", "labels")}
    whole = {**gcloud.send("GET", path), "staticIpConnectivity": {}}
    assert gcloud.waited("PATCH", path, whole, updateMask="")["staticIpConnectivity"] == {}
    whole = {**gcloud.send("GET", path), "vpcPeeringConnectivity": {"vpc": "v"}}
    changed = gcloud.waited("PATCH", path, whole, updateMask="vpcPeeringConnectivity.vpc")
    assert changed["vpcPeeringConnectivity"] == {"vpc": "v"} and "staticIpConnectivity" not in changed


def test_the_rest_of_a_job(gcloud, job):
    path = JOBS + "/mj1"
    body = {"vm": "vm", "vmPort": 1111, "vmCreationConfig": {"subnet": "s", "vmMachineType": "m", "vmZone": "z"}}
    assert "ssh" in gcloud.send("POST", path + ":generateSshScript", body)["script"]
    assert gcloud.send("GET", path + ":fetchSourceObjects")["metadata"]["verb"] == "fetchSourceObjects"
    assert gcloud.send("GET", path + "/objects") == {"migrationJobObjects": []}


def test_private_connections(gcloud):
    body = {"displayName": "pc1", "labels": {}, "name": "pc1", "vpcPeeringConfig": {"subnet": "s", "vpcName": "v"}}
    gcloud.waited("POST", LOCATION + "/privateConnections", body, privateConnectionId="pc1", skipValidation="True")
    gcloud.mutate("DELETE", LOCATION + "/privateConnections/pc1")
    assert gcloud.send("GET", LOCATION + "/privateConnections") == {"privateConnections": []}


def test_terraform(api):
    """apply, plan without drift, apply of a change, destroy."""
    def wait(answer):
        operation = api.good(answer)
        assert api.good(api.get(operation["name"], alt="json"))["done"] is True
        return operation

    source = {"displayName": "my-source_display", "labels": {"foo": "bar", "goog-terraform-provisioned": "true"},
              "postgresql": {"host": "10.0.0.5", "port": 5432, "username": "mig", "database": "shop"}}
    wait(api.post(PROFILES, source, connectionProfileId="my-source", alt="json"))
    wait(api.post(PROFILES, {"postgresql": {"cloudSqlId": "my-dest"}}, connectionProfileId="my-dest", alt="json"))
    job = {"displayName": "my-job_display", "labels": {"foo": "bar"}, "type": "CONTINUOUS", "staticIpConnectivity": {},
           "source": PROFILES + "/my-source", "destination": PROFILES + "/my-dest",
           "performanceConfig": {"dumpParallelLevel": "MAX"}, "postgresHomogeneousConfig": {"isNativeLogical": True}}
    wait(api.post(JOBS, job, migrationJobId="my-job", alt="json"))
    for path, declared in ((PROFILES + "/my-source", source), (JOBS + "/my-job", job)):
        read = api.good(api.get(path, alt="json"))
        for key, value in declared.items():
            assert (read[key] if key != "postgresql" else {k: read[key][k] for k in value}) == value
    assert api.get(JOBS + "/my-job")["state"] == "NOT_STARTED"
    changed = {**source, "postgresql": {**source["postgresql"], "host": "10.0.0.6"}}
    wait(api.patch(PROFILES + "/my-source", changed, updateMask="labels,displayName,postgresql", alt="json"))
    assert api.get(PROFILES + "/my-source")["postgresql"]["host"] == "10.0.0.6"
    api.good(api.delete(JOBS + "/my-job", alt="json"))
    assert api.get(JOBS + "/my-job")["state"] == "DELETING"
