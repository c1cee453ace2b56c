"""What requests of the API may hold: everything that is wrong is told at once, in Google's shape, and changes nothing."""
import contextlib
import http.client
import json

import pytest

from support.api import JOBS, LOCATION, PROFILES, api, make_daemon  # noqa: F401

pytestmark = pytest.mark.turns(2)

GOOD = {"postgresql": {"host": "db.example", "port": 5432, "username": "u"}}


def test_malformed_json(api):
    for body in (b"{", b"[1,", b"{\"a\":1}}", b"nonsense", b"{\"a\":1,\"a\":2}", b"\xff\xfe", b"{\"displayName\":\"\xc3\"}"):
        answer = api.request("POST", PROFILES, body, connectionProfileId="src")
        assert answer.status == 400 and answer.error()[0] == "INVALID_ARGUMENT", (body, answer)
    for body in (b"[]", b"7", b"\"text\"", b"null"):
        assert api.request("POST", PROFILES, body, connectionProfileId="src").status == 400, body
    assert api.get(PROFILES).json == {"connectionProfiles": []}


def test_all_that_is_wrong_is_told_at_once(api):
    body = {"postgresql": {"host": 7, "port": "seventy", "username": ["u"], "ssl": {"type": "MAYBE"}}, "nonsense": 1,
            "role": "BOTH", "labels": {"a": 1}}
    answer = api.post(PROFILES, body, connectionProfileId="Bad_Name")
    assert answer.status == 400 and answer.error()[0] == "INVALID_ARGUMENT"
    assert set(answer.violations()) >= {"postgresql.host", "postgresql.port", "postgresql.username", "postgresql.ssl.type",
                                        "nonsense", "role", "connectionProfileId"}
    assert "SERVER_ONLY" in answer.violations()["postgresql.ssl.type"]


def test_bodies_that_are_too_large(api):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)) as connection:
        connection.putrequest("POST", f"/v1/{PROFILES}?connectionProfileId=src")
        connection.putheader("Content-Length", str(20_000_000))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413 and json.loads(answer.read())["error"]["code"] == 413
    labels = {f"k{i}": "v" * 4000 for i in range(120)}
    assert api.post(PROFILES, {**GOOD, "labels": labels}, connectionProfileId="src").status == 200
    assert api.post(PROFILES, {**GOOD, "displayName": "x" * 300}, connectionProfileId="long").status == 400
    deep = b'{"labels":' * 3000 + b"1" + b"}" * 3000
    assert api.request("POST", PROFILES, deep, connectionProfileId="deep").status == 400


def test_what_changes_while_it_is_stored_stays_whole(api):
    """A body that fits a request and would not fit the store is refused, and nothing of it is kept."""
    job = api.make_job()
    objects = [{"objectIdentifier": {"type": "DATABASE", "database": f"d{i}"}} for i in range(4000)]
    config = {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": objects}}
    answer = api.patch(job["name"], {"objectsConfig": config}, updateMask="objectsConfig")
    assert answer.status == 200, answer
    assert len(api.get(job["name"])["objectsConfig"]["sourceObjectsConfig"]["objectConfigs"]) == 4000


@pytest.mark.parametrize("query", ["nonsense=1", "pageSize=-1", "pageSize=x", "pageSize=1&pageSize=2", "alt=media",
                                   "pageToken=zzz", "filter=state+%3D%3D%3D", "filter=(", "orderBy=name+sideways",
                                   "validateOnly=true"])
def test_query_parameters_that_are_wrong(api, query):
    answer = api.get(f"/v1/{PROFILES}?{query}")
    assert answer.status == 400 and answer.error()[0] == "INVALID_ARGUMENT", answer


def test_query_parameters_that_all_methods_take(api):
    for query in ("alt=json", "prettyPrint=true&fields=x&key=k&quotaUser=u&access_token=t&$.xgafv=2", "$alt=json",
                  "page_size=3&order_by=name", "callback=f"):
        assert api.get(f"/v1/{PROFILES}?{query}").json == {"connectionProfiles": []}, query


def test_paths(api):
    for path in ("/", "/v1", "/v2/" + PROFILES, "/v1/projects", "/v1/" + PROFILES + "/a/b", "/v1/" + PROFILES + "/a:nonsense",
                 "/v1/" + JOBS + "/j/objects/o/p", "/v1/projects//locations/l/migrationJobs"):
        answer = api.get(path)
        assert answer.status in (400, 404) and "error" in answer.json, (path, answer)
    assert api.get(PROFILES + "/none").error()[0] == "NOT_FOUND"
    assert "was not found" in api.get(PROFILES + "/none").error()[1]
    for path in ("/v1/projects/my%20project/locations/l/migrationJobs", "/v1/projects/p/locations/l%2Fx/migrationJobs",
                 "/v1/projects/p/locations/%2e%2e/migrationJobs"):
        assert api.get(path).status in (400, 404), path
    answer = api.request("PUT", PROFILES + "/x", {})
    assert answer.status == 405 and "GET" in answer.headers["allow"]


def test_a_project_may_have_a_colon(api):
    location = "projects/example.com:shop/locations/europe-west1"
    made = api.make_profile("src", location)
    assert made["name"] == location + "/connectionProfiles/src"
    assert api.get(location + "/connectionProfiles/src").json["name"] == made["name"]
    assert len(api.get(location + "/connectionProfiles")["connectionProfiles"]) == 1


@pytest.mark.parametrize("version", ["v1", "v1alpha2", "v1beta1"])
def test_versions(api, version):
    operation = api.good(api.post(f"/{version}/{PROFILES}", GOOD, connectionProfileId="src"))
    assert operation["metadata"]["apiVersion"] == version
    assert api.get(f"/{version}/{PROFILES}/src").status == 200


def test_what_is_for_other_engines_is_not_served(api):
    for method, path in (("GET", "conversionWorkspaces"), ("POST", "conversionWorkspaces"),
                         ("GET", "conversionWorkspaces/w"), ("POST", "conversionWorkspaces/w:apply"),
                         ("GET", "conversionWorkspaces/w:describeDatabaseEntities"),
                         ("DELETE", "conversionWorkspaces/w"), ("GET", "conversionWorkspaces/w/mappingRules"),
                         ("POST", "conversionWorkspaces/w/mappingRules:import"),
                         ("POST", "migrationJobs/j:generateTcpProxyScript")):
        answer = api.request(method, f"{LOCATION}/{path}", {} if method == "POST" else None)
        status, message = answer.error()
        assert (answer.status, status) == (501, "UNIMPLEMENTED") and "not served" in message, answer


def test_web_pages_may_not_ask(api):
    """Whoever is on this machine may do everything; a page that its browser shows may not."""
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example:8432"}, {"Origin": "null"},
                    {"Host": "127.0.0.1.evil.example"}, {"Origin": "http://localhost.evil.example"}):
        for answer in (api.get(PROFILES, headers=headers),
                       api.post(PROFILES, GOOD, headers=headers, connectionProfileId="src")):
            assert answer.status == 401 and answer.error()[0] == "UNAUTHENTICATED", (headers, answer)
    for headers in ({"Host": "localhost:8432"}, {"Host": "[::1]:8432"}, {"Origin": f"http://127.0.0.1:{api.port}"}):
        assert api.get(PROFILES, headers=headers).json == {"connectionProfiles": []}, headers


def test_request_ids(api):
    """A client that repeats its request gets the operation of the first one, and nothing is done twice."""
    first = api.good(api.post(PROFILES, GOOD, connectionProfileId="src", requestId="4f1c-a"))
    assert api.good(api.post(PROFILES, GOOD, connectionProfileId="src", requestId="4f1c-a")) == first
    other = api.post(PROFILES, {**GOOD, "displayName": "x"}, connectionProfileId="src", requestId="4f1c-a")
    assert other.status == 400 and "4f1c-a" in other.error()[1]
    assert api.post(PROFILES, GOOD, connectionProfileId="src", requestId="4f1c-b").status == 409
    api.restart()
    assert api.good(api.post(PROFILES, GOOD, connectionProfileId="src", requestId="4f1c-a")) == first
    for bad in ("a" * 41, "a b", "a/b"):
        assert api.post(PROFILES, GOOD, connectionProfileId="s2", requestId=bad).status == 400
    # what was refused is not remembered
    refused = api.delete(PROFILES + "/none", requestId="d1")
    api.make_profile("none")
    assert refused.status == 404 and api.delete(PROFILES + "/none", requestId="d1").status == 200


def test_etags(api):
    profile = api.make_profile("src")
    answer = api.get(profile["name"])
    assert answer.headers["etag"] == f'"{answer["etag"]}"' and answer["etag"] == profile["etag"]
    changed = api.finished(api.patch(profile["name"], {"displayName": "b"}, updateMask="displayName",
                                     headers={"If-Match": answer.headers["etag"]}))
    assert changed["displayName"] == "b" and changed["etag"] != profile["etag"]
    for stale in (api.patch(profile["name"], {"displayName": "c"}, headers={"If-Match": answer.headers["etag"]}),
                  api.delete(profile["name"], etag=profile["etag"])):
        assert stale.status == 409 and stale.error()[0] == "ABORTED"
    assert api.get(profile["name"])["displayName"] == "b"
    # clients send back what they were given: an old etag in a body means nothing
    assert api.patch(profile["name"], {**answer.json, "displayName": "d"}).status == 200
    assert api.delete(profile["name"], headers={"If-Match": "*"}).status == 200


def test_every_change_is_in_the_audit_log(api):
    api.post(PROFILES, GOOD, connectionProfileId="src", requestId="r1")
    api.patch(PROFILES + "/src", {"displayName": "b"}, validateOnly="True", skipValidation="True")
    api.get(PROFILES + "/src")
    api.post(PROFILES, GOOD, connectionProfileId="src")
    api.delete(PROFILES + "/src")
    rows = api.sql("SELECT who, action, resource, request_id, outcome, origin FROM audit ORDER BY id")
    assert [row[:5] for row in rows] == [
        ("local", "connectionProfiles.create", PROFILES + "/src", "r1", "OK"),
        ("local", "connectionProfiles.patch", PROFILES + "/src", "", "VALIDATED"),
        ("local", "connectionProfiles.delete", PROFILES + "/src", "", "OK")]
    assert all(row[5].startswith("127.0.0.1:") for row in rows)
