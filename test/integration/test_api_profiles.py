"""Connection profiles, private connections, locations, IAM."""
import contextlib
import json
import os
import sqlite3
import stat

import pytest

from support.api import JOBS, LOCATION, PROFILES, PROJECT, api, make_daemon  # noqa: F401

pytestmark = pytest.mark.turns(2)

PRIVATES = LOCATION + "/privateConnections"


def sealed(api):
    """Who has secrets in the store."""
    with contextlib.closing(sqlite3.connect(os.path.join(api.folder, "store.db"))) as store:
        return [row[0] for row in store.execute("SELECT DISTINCT owner FROM secret ORDER BY owner")]


def test_create_get_delete(api):
    made = api.make_profile("src", labels={"a": "b"}, role="SOURCE", state="CREATING", name="bare")
    assert made["name"] == PROFILES + "/src" and made["state"] == "READY" and made["labels"] == {"a": "b"}
    assert made["postgresql"] == {"host": "10.0.0.5", "port": 5432, "username": "mig", "ssl": {}}
    assert made["createTime"] == made["updateTime"] and made["createTime"].endswith("Z")
    assert api.get(PROFILES + "/src").json == made
    answer = api.post(PROFILES, {"postgresql": {"host": "h"}}, connectionProfileId="src")
    assert answer.status == 409 and answer.error() == ("ALREADY_EXISTS", f"Resource '{PROFILES}/src' already exists")
    operation = api.good(api.delete(PROFILES + "/src", force="False"))
    assert operation["done"] and operation["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert operation["metadata"]["verb"] == "delete" and operation["metadata"]["target"] == PROFILES + "/src"
    assert api.get(PROFILES + "/src").status == 404 and api.delete(PROFILES + "/src").status == 404


def test_ssl_is_always_there(api):
    """google-cloud-sdk falls over a profile without it."""
    made = api.finished(api.post(PROFILES, {"postgresql": {"host": "h"}}, connectionProfileId="src"))
    assert made["postgresql"]["ssl"] == {}
    assert api.get(PROFILES)["connectionProfiles"][0]["postgresql"]["ssl"] == {}


@pytest.mark.parametrize("body, field", [
    ({}, "postgresql"),
    ({"postgresql": {}}, "postgresql.host"),
    ({"postgresql": {"host": "-oProxyCommand=x"}}, "postgresql.host"),
    ({"postgresql": {"host": "a b"}}, "postgresql.host"),
    ({"postgresql": {"host": "h", "port": 0}}, "postgresql.port"),
    ({"postgresql": {"host": "h"}, "cloudsql": {}}, "cloudsql"),
    ({"postgresql": {"host": "h", "ssl": {"type": "SERVER_ONLY"}}}, "postgresql.ssl.caCertificate"),
    ({"postgresql": {"host": "h", "privateConnectivity": {"privateConnection": "x"}}},
     "postgresql.privateConnectivity.privateConnection"),
    ({"postgresql": {"host": "h", "staticIpConnectivity": {}, "forwardSshConnectivity": {"hostname": "b", "username": "u"}}},
     "postgresql.forwardSshConnectivity"),
    *(({"postgresql": {"host": "h", "forwardSshConnectivity": {"hostname": "b", "username": "u", field: value}}},
       f"postgresql.forwardSshConnectivity.{field}")
      for field in ("hostname", "username") for value in ("-oProxyCommand=x", "a b", "a\n", "\x01", "")),
    ({"postgresql": {"host": "h", "forwardSshConnectivity": {"hostname": "b/c", "username": "u"}}},
     "postgresql.forwardSshConnectivity.hostname"),
])
def test_what_does_not_fit_together(api, body, field):
    answer = api.post(PROFILES, body, connectionProfileId="src")
    assert answer.status == 400 and field in answer.violations(), answer
    assert api.get(PROFILES)["connectionProfiles"] == []


def test_secrets_are_sealed(api):
    """In no answer, no log and no file; and taken away when a mask names what the request lacks."""
    api.finished(api.post(PROFILES, {"postgresql": {"host": "h", "password": "hunter2"}}, connectionProfileId="src"))
    answer = api.get(PROFILES + "/src")
    assert answer["postgresql"]["passwordSet"] is True and "hunter2" not in answer.text + api.log()
    for name in os.listdir(api.folder):
        with contextlib.suppress(IsADirectoryError, OSError), open(os.path.join(api.folder, name), "rb") as file:
            assert b"hunter2" not in file.read(), name
    assert stat.S_IMODE(os.stat(os.path.join(api.folder, "keys")).st_mode) == 0o600
    assert sealed(api) == [PROFILES + "/src"]
    api.restart()
    assert api.get(PROFILES + "/src").json == answer.json
    api.finished(api.patch(PROFILES + "/src", {"postgresql": {"host": "h"}}, updateMask="postgresql.password"))
    assert api.get(PROFILES + "/src")["postgresql"].get("passwordSet", False) is False and sealed(api) == []


def test_a_key_file_that_is_lost_is_not_replaced(api):
    api.finished(api.post(PROFILES, {"postgresql": {"host": "h", "password": "hunter2"}}, connectionProfileId="src"))
    api.stop()
    os.rename(os.path.join(api.folder, "keys"), os.path.join(api.folder, "elsewhere"))
    result = api.program("serve", "--listen=127.0.0.1:0", f"--state-dir={api.folder}", timeout=20)
    assert result.code == 2 and "key" in result.stderr and not os.path.exists(os.path.join(api.folder, "keys"))
    os.rename(os.path.join(api.folder, "elsewhere"), os.path.join(api.folder, "keys"))
    api.start()
    assert api.get(PROFILES + "/src").status == 200


def test_patch(api):
    profile = api.make_profile("src", labels={"a": "b"}, role="SOURCE")
    path = profile["name"]
    # a path of the mask that the body lacks is taken away, what the mask does not name stays
    changed = api.finished(api.patch(path, {"postgresql": {"host": "new"}}, updateMask="postgresql.host,postgresql.port"))
    assert changed["postgresql"] == {"host": "new", "username": "mig", "ssl": {}} and changed["labels"] == {"a": "b"}
    # an empty mask means what was sent
    changed = api.finished(api.patch(path, {"labels": {"c": "d"}}, updateMask=""))
    assert changed["labels"] == {"c": "d"} and changed["postgresql"]["host"] == "new"
    # output-only paths and fields mean nothing
    changed = api.finished(api.patch(path, {"state": "FAILED", "name": "x", "createTime": "2001-01-01T00:00:00Z"},
                                     updateMask="state,name"))
    assert changed["state"] == "READY" and changed["name"] == path and changed["createTime"] == profile["createTime"]
    for mask in ("nonsense", "postgresql.nonsense", "postgresql..host", "displayName,what"):
        answer = api.patch(path, {}, updateMask=mask)
        assert answer.status == 400 and "updateMask" in answer.violations(), answer
    # the result is checked as a new one would be
    answer = api.patch(path, {}, updateMask="postgresql.host")
    assert answer.status == 400 and "postgresql.host" in answer.violations()
    assert api.get(path)["postgresql"]["host"] == "new"
    assert api.patch(PROFILES + "/none", {"displayName": "x"}).status == 404


def test_a_new_kind_of_connectivity_takes_the_place_of_the_old(api):
    profile = api.make_profile("src", postgresql={"host": "h", "staticIpConnectivity": {}})
    tunnel = {"hostname": "bastion", "username": "u", "port": 22}
    body = {**profile, "postgresql": {**profile["postgresql"], "forwardSshConnectivity": tunnel}}
    changed = api.finished(api.patch(profile["name"], body, updateMask=""))
    assert changed["postgresql"]["forwardSshConnectivity"] == tunnel
    assert "staticIpConnectivity" not in changed["postgresql"]


def test_what_is_used_is_not_deleted(api):
    api.make_job()
    for force in ("False", "True"):
        answer = api.delete(PROFILES + "/src", force=force)
        assert answer.status == 400 and answer.error()[0] == "FAILED_PRECONDITION" and JOBS + "/mj1" in answer.error()[1]
    assert api.get(PROFILES + "/src").status == 200


def test_a_server_that_is_yet_to_be_made(api):
    settings = {"databaseVersion": "POSTGRES_15", "tier": "db-custom-1-3840", "dataDiskSizeGb": "20",
                "activationPolicy": "SQL_ACTIVATION_POLICY_UNSPECIFIED", "sourceId": PROFILES + "/src"}
    operation = api.good(api.post(PROFILES, {"cloudsql": {"settings": settings}}, connectionProfileId="dst"))
    assert operation["done"] is False and operation["metadata"]["verb"] == "create"
    made = api.get(PROFILES + "/dst")
    assert made["state"] == "CREATING" and made["cloudsql"] == {"settings": settings, "cloudSqlId": "dst"}
    instance = api.get(LOCATION + "/instances/dst").json
    assert (instance["state"], instance["databaseVersion"]) == ("CREATING", "POSTGRES_15")
    assert api.outbox() == [(PROFILES + "/dst", "PROVISION", {"operation": operation["name"], "args": {}})]
    answer = api.patch(PROFILES + "/dst", {"cloudsql": {"settings": {"tier": "x"}}}, updateMask="cloudsql.settings.tier")
    assert answer.status == 400 and "cloudsql.settings.tier" in answer.violations()
    deleting = api.good(api.delete(PROFILES + "/dst", force="true"))
    assert deleting["done"] is False and api.get(PROFILES + "/dst")["state"] == "DELETING"
    assert api.outbox()[-1] == (PROFILES + "/dst", "DEPROVISION", {"operation": deleting["name"], "args": {"force": True}})
    # asked again: the operation under way
    assert api.good(api.delete(PROFILES + "/dst", force="true"))["name"] == deleting["name"]


def test_validate_only_keeps_nothing_and_has_the_connection_tested(api):
    profile = api.make_profile("src")
    body = {**profile, "displayName": "x"}
    operation = api.good(api.patch(profile["name"], body, updateMask="displayName", validateOnly="True"))
    assert operation["done"] is False
    assert api.get(profile["name"]).json == profile
    owner, action, sent = api.outbox()[-1]
    assert (owner, action, sent["operation"]) == (profile["name"], "TEST_CONNECTION", operation["name"])
    assert sent["args"]["profile"]["postgresql"]["host"] == "10.0.0.5" and sent["args"]["profile"]["displayName"] == "x"
    assert api.good(api.get(operation["name"])) == operation
    created = api.good(api.post(PROFILES, {"postgresql": {"host": "h"}}, connectionProfileId="new", validate_only="true"))
    assert created["metadata"]["verb"] == "create" and created["done"] is False
    assert api.get(PROFILES + "/new").status == 404
    answer = api.post(PROFILES, {"postgresql": {}}, connectionProfileId="new", validateOnly="true")
    assert answer.status == 400


def test_private_connections(api):
    body = {"displayName": "pc", "labels": {}, "name": "pc1", "vpcPeeringConfig": {"subnet": "10.1.0.0/29", "vpcName": "v"}}
    made = api.finished(api.post(PRIVATES, body, privateConnectionId="pc1", skipValidation="True"))
    assert made["state"] == "CREATED" and made["name"] == PRIVATES + "/pc1"
    assert made["vpcPeeringConfig"] == body["vpcPeeringConfig"]
    assert api.get(PRIVATES)["privateConnections"] == [made]
    assert api.post(PRIVATES, body, privateConnectionId="pc1").status == 409
    profile = api.make_profile("src", postgresql={"host": "h", "privateConnectivity": {"privateConnection": made["name"]}})
    answer = api.delete(made["name"])
    assert answer.error()[0] == "FAILED_PRECONDITION" and profile["name"] in answer.error()[1]
    api.delete(profile["name"])
    assert api.good(api.delete(made["name"]))["done"] and api.get(made["name"]).status == 404


def test_locations(api):
    assert [each["locationId"] for each in api.get(PROJECT + "/locations")["locations"]] == ["local"]
    api.make_profile("src")
    assert {each["name"] for each in api.get(PROJECT + "/locations")["locations"]} == {PROJECT + "/locations/local", LOCATION}
    assert api.get(LOCATION).json == {"name": LOCATION, "locationId": "us-central1", "displayName": "us-central1"}
    for address in api.get(LOCATION + ":fetchStaticIps")["staticIps"]:
        assert not address.startswith(("127.", "fe80"))


def test_iam(api):
    profile = api.make_profile("src")
    wanted = ["datamigration.connectionprofiles.get", "datamigration.connectionprofiles.delete", "storage.buckets.get"]
    granted = api.good(api.post(profile["name"] + ":testIamPermissions", {"permissions": wanted}))
    assert granted == {"permissions": wanted[:2]}
    policy = api.get(profile["name"] + ":getIamPolicy?options.requestedPolicyVersion=3")
    assert policy["version"] == 1 and policy["bindings"] == []
    answer = api.post(profile["name"] + ":setIamPolicy", {"policy": {}})
    assert answer.status == 501 and "tokens" in answer["error"]["details"][0]["metadata"]["remedy"]
    assert api.get(PROFILES + "/none:getIamPolicy").status == 404
    assert api.post(JOBS + "/none:testIamPermissions", {"permissions": []}).status == 404


def spec_of(api, name):
    return json.loads(api.sql("SELECT body FROM resource WHERE name = ?", f"{LOCATION}/instances/{name}")[0][0])["run"]["spec"]


@pytest.mark.parametrize("settings, spec", [
    ({}, {"major": 17, "cpus": 0, "memory_mb": 0, "disk_mb": 0, "mode": "MIGRATING"}),
    ({"tier": "db-custom-4-16384"}, {"cpus": 4, "memory_mb": 16384}),
    ({"tier": "db-f1-micro"}, {"cpus": 1, "memory_mb": 614}),
    ({"tier": "db-n1-standard-2"}, {"cpus": 2, "memory_mb": 7680}),
    ({"tier": "db-perf-optimized-N-8"}, {"cpus": 8, "memory_mb": 65536}),
    ({"autoStorageIncrease": False, "dataDiskSizeGb": "20"}, {"disk_mb": 20480}),
    ({"autoStorageIncrease": True, "dataDiskSizeGb": "20"}, {"disk_mb": 0}),
    ({"storageAutoResizeLimit": "100"}, {"disk_mb": 102400}),
    ({"databaseFlags": {"work_mem": "8MB"}, "availabilityType": "REGIONAL"},
     {"flags": [{"name": "work_mem", "value": "8MB"}], "regional": True}),
    ({"ipConfig": {"requireSsl": True, "authorizedNetworks": [{"value": "10.0.0.0/8"}]}},
     {"require_tls": True, "networks": ["10.0.0.0/8"]}),
    ({"collation": "en_US.UTF-8"}, {"collate": "en_US.UTF-8", "ctype": "en_US.UTF-8"}),
])
def test_what_a_server_shall_be(api, settings, spec):
    settings = {"databaseVersionName": "POSTGRES_17", **settings}
    api.good(api.post(PROFILES, {"cloudsql": {"settings": settings}}, connectionProfileId="dst"))
    found = spec_of(api, "dst")
    assert {key: found.get(key) for key in spec} == spec and "password" not in found, found


def test_what_an_alloydb_server_shall_be(api):
    alloydb = {"clusterId": "shop", "settings": {
        "databaseVersion": "POSTGRES_16", "initialUser": {"user": "postgres", "password": "hunter2"},
        "primaryInstanceSettings": {"id": "p", "machineConfig": {"cpuCount": 2}, "databaseFlags": {"jit": "off"}}}}
    api.good(api.post(PROFILES, {"alloydb": alloydb}, connectionProfileId="dst"))
    spec = spec_of(api, "shop")
    assert (spec["major"], spec["cpus"], spec["memory_mb"]) == (16, 2, 16384) and "hunter2" not in str(spec)
    taken = api.post(PROFILES, {"alloydb": alloydb}, connectionProfileId="other")
    assert taken.status == 409 and "instances/shop" in taken.error()[1]


@pytest.mark.parametrize("body, field", [
    ({"cloudsql": {}}, "cloudsql.settings"),
    ({"cloudsql": {"settings": {}}}, "cloudsql.settings.databaseVersionName"),
    ({"cloudsql": {"settings": {"databaseVersionName": "POSTGRES_9_6"}}}, "cloudsql.settings.databaseVersionName"),
    ({"cloudsql": {"settings": {"databaseVersionName": "MYSQL_8_0"}}}, "cloudsql.settings.databaseVersionName"),
    ({"cloudsql": {"settings": {"databaseVersionName": "POSTGRES_17", "tier": "db-custom-x"}}}, "cloudsql.settings.tier"),
    ({"cloudsql": {"settings": {"databaseVersionName": "POSTGRES_17", "tier": "db-custom-1-"}}}, "cloudsql.settings.tier"),
    ({"alloydb": {"clusterId": "../x", "settings": {}}}, "alloydb.clusterId"),
    ({"alloydb": {"clusterId": "x", "settings": {"initialUser": {"user": "me"}}}}, "alloydb.settings.initialUser.user"),
])
def test_what_no_server_can_be(api, body, field):
    answer = api.post(PROFILES, body, connectionProfileId="dst")
    assert answer.status == 400 and field in answer.violations(), answer
    assert api.get(PROFILES)["connectionProfiles"] == [] and api.get(LOCATION + "/instances")["instances"] == []
