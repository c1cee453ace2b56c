"""The daemon itself: where it listens, what it tells of itself, how it ends, and that nothing is lost by that."""
import concurrent.futures
import http.client
import json
import os
import re
import resource
import signal
import socket
import sqlite3

import pytest

from support.api import JOBS, LOCATION, PROFILES, api, make_daemon  # noqa: F401
from support.cluster import wait_until

pytestmark = pytest.mark.turns(2)


def test_what_it_tells_of_itself(api):
    assert api.get("/healthz").text == "ok\n" and api.get("/readyz").text == "ok\n"
    version = api.get("/version").json
    assert re.fullmatch(r"\d+\.\d+\.\d+", version["version"]) and version["api"][0] == "v1"
    assert api.request("HEAD", "/healthz").status == 200


def test_openapi(api):
    """Every reference leads to somewhere, and every method is there."""
    text = api.get("/openapi.json").text
    document = json.loads(text)
    assert document["openapi"].startswith("3.")
    for name in re.findall(r'"\$ref":"#/components/schemas/([^"]+)"', text):
        assert name in document["components"]["schemas"], name
    operations = {item["operationId"]: (method, path, item) for path, methods in document["paths"].items()
                  for method, item in methods.items()}
    for name, method in (("connectionProfiles.patch", "patch"), ("migrationJobs.start", "post"), ("operations.get", "get"),
                         ("migrationJobs.fetchSourceObjects", "get"), ("conversionWorkspaces.list", "get")):
        assert operations[name][0] == method
    create = operations["migrationJobs.create"][2]
    assert {"name": "migrationJobId", "in": "query", "required": True, "schema": {"type": "string"}} in create["parameters"]
    for _, path, item in operations.values():
        named = set(re.findall(r"{(\w+)}", path))
        assert {p["name"] for p in item["parameters"] if p["in"] == "path"} == named, path
    # what it says is taken is taken: a path of each method leads to it
    for name, (method, path, item) in operations.items():
        answer = api.request(method.upper(), re.sub(r"{\w+}", "x", path).replace(":x", ":apply"),
                             {} if method in ("post", "patch") else None)
        assert answer.status != 405 and "no such" not in answer.text.lower(), (name, answer)


def test_a_restart_keeps_everything(api):
    api.make_job()
    start = api.good(api.post(JOBS + "/mj1:start"))
    before = [api.get(path).json for path in (PROFILES, JOBS, LOCATION + "/operations", JOBS + "/mj1/events")]
    api.restart()
    assert [api.get(path).json for path in (PROFILES, JOBS, LOCATION + "/operations", JOBS + "/mj1/events")] == before
    assert api.good(api.post(JOBS + "/mj1:start")) == start
    assert len(api.outbox()) == 1


def test_killed_while_it_writes(api):
    """What was answered is there; of what was not, all or nothing."""
    def create(number):
        try:
            return number, api.post(PROFILES, {"postgresql": {"host": "h"}}, connectionProfileId=f"p{number}").status
        except (OSError, http.client.HTTPException):
            return number, None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(create, number) for number in range(300)]
        wait_until(lambda: sum(f.done() for f in asked) > 40, 20)
        api.kill()
        answers = dict(f.result() for f in asked)
    api.start()
    listed = {each["name"] for each in api.get(PROFILES, pageSize=1000)["connectionProfiles"]}
    targets = {each["metadata"]["target"] for each in api.get(LOCATION + "/operations", pageSize=1000)["operations"]}
    assert {f"{PROFILES}/p{number}" for number, status in answers.items() if status == 200} <= listed
    assert None in answers.values() and listed == targets
    assert {row[0] for row in api.sql("SELECT resource FROM audit")} == listed


def test_requests_under_way_are_answered(api):
    """SIGTERM: a call that waits is answered, then the daemon ends."""
    api.make_job()
    start = api.good(api.post(JOBS + "/mj1:start"))
    waiting = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    waiting.request("POST", f"/v1/{start['name']}:wait", json.dumps({"timeout": "30s"}),
                    {"Content-Type": "application/json"})
    # the request is in the daemon's socket; connections that come later are answered in turns of the same loop
    for _ in range(3):
        assert api.get("/healthz").status == 200
    api.stop(timeout=10)
    answer = waiting.getresponse()
    assert answer.status == 200 and json.loads(answer.read()) == start
    waiting.close()


def test_waiting_calls_leave_room_for_others(api):
    api.make_job()
    start = api.good(api.post(JOBS + "/mj1:start"))
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(api.post, start["name"] + ":wait", {"timeout": "12s"}) for _ in range(12)]
        for _ in range(20):
            assert api.get(JOBS + "/mj1").status == 200
        assert not all(each.done() for each in waiting)
        assert all(each.result(60).json == start for each in waiting)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", ":0", "*:0", "[::]:0", "192.0.2.1:0", "127.0.0.1.example:0"])
def test_other_addresses_are_refused(tmp_path, pgcrane, listen):
    result = pgcrane("serve", f"--listen={listen}", f"--state-dir={tmp_path}")
    assert result.code == 64 and "--tls-cert" in result.stderr and "ssh -L" in result.stderr


@pytest.mark.parametrize("arguments, text", [(["extra"], "options only"), (["--store=mysql://x"], "--store"),
                                             (["--nonsense"], "nonsense"), (["--listen=127.0.0.1:99999"], "99999")])
def test_command_lines_that_are_wrong(tmp_path, pgcrane, arguments, text):
    result = pgcrane("serve", f"--state-dir={tmp_path}", *arguments)
    assert result.code == 64 and text in result.stderr, result


def test_a_port_that_is_taken(api, pgcrane, tmp_path):
    result = pgcrane("serve", f"--listen=127.0.0.1:{api.port}", f"--state-dir={tmp_path}/other")
    assert result.code != 0 and "in use" in result.stderr


def test_a_unix_socket(make_daemon, tmp_path, pgcrane):
    path = tmp_path / "api.sock"
    process = pgcrane.popen("serve", f"--listen={path}", f"--state-dir={tmp_path}/state")
    wait_until(path.exists, 20)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    process.terminate()
    assert process.wait(20) == 0 and not path.exists()


def test_systemd_is_told(tmp_path, pgcrane):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        process = pgcrane.popen("serve", "--listen=127.0.0.1:0", f"--state-dir={tmp_path}",
                                env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(100) == b"READY=1"
        process.send_signal(signal.SIGINT)
        assert manager.recv(100) == b"STOPPING=1"
        assert process.wait(20) == 0


def test_a_store_that_is_damaged_is_told(tmp_path, pgcrane):
    (tmp_path / "store.db").write_bytes(b"no database" * 1000)
    result = pgcrane("serve", "--listen=127.0.0.1:0", f"--state-dir={tmp_path}")
    assert result.code != 0 and "the store" in result.stderr, result


def test_a_store_that_is_full_is_told(tmp_path, make_daemon):
    """A file that cannot grow: 429 with the reason, nothing kept of it, and no signal ends the daemon."""
    daemon = make_daemon()
    size = os.path.getsize(os.path.join(daemon.folder, "store.db"))
    labels = {f"k{i}": "v" * 4000 for i in range(100)}
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size + 2_000_000, resource.RLIM_INFINITY))
    statuses = [daemon.post(PROFILES, {"postgresql": {"host": "h"}, "labels": labels}, connectionProfileId=f"p{i}").status
                for i in range(12)]
    assert statuses[0] == 200 and set(statuses) == {200, 429}, statuses
    kept = len(daemon.get(PROFILES, pageSize=100)["connectionProfiles"])
    assert kept == statuses.count(200)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert daemon.post(PROFILES, {"postgresql": {"host": "h"}}, connectionProfileId="after").status == 200


def test_a_store_in_postgresql(make_daemon, own_cluster):
    """Two daemons on one store; while its server is away the answer is UNAVAILABLE, and nothing is lost."""
    cluster = own_cluster("store")
    first = make_daemon(f"--store={cluster.uri()}", name="first")
    second = make_daemon(f"--store={cluster.uri()}", f"--key-file={first.folder}/keys", name="second")
    profile = first.make_profile("src")
    assert second.get(PROFILES + "/src").json == profile
    assert second.post(PROFILES, {"postgresql": {"host": "h"}}, connectionProfileId="src").status == 409
    cluster.stop("immediate")
    assert second.get("/healthz").status == 200
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        ready = pool.submit(second.get, "/readyz")
        answer = first.post(PROFILES, {"postgresql": {"host": "h"}}, connectionProfileId="other", requestId="r1")
        assert answer.status == 503 and answer.error()[0] == "UNAVAILABLE"
        assert ready.result(20).status == 503
    cluster.start()
    first.finished(first.post(PROFILES, {"postgresql": {"host": "h"}}, connectionProfileId="other", requestId="r1"))
    assert [each["name"] for each in second.get(PROFILES)["connectionProfiles"]] == [PROFILES + "/other", PROFILES + "/src"]


def test_a_store_that_is_locked(api):
    """Another process holds the file: who only reads is answered, who writes is asked to come again."""
    api.make_profile("src")
    other = sqlite3.connect(os.path.join(api.folder, "store.db"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = api.delete(PROFILES + "/src")
    assert answer.status == 503 and answer.error()[0] == "UNAVAILABLE"
    assert api.get(PROFILES + "/src").status == 200
    other.execute("ROLLBACK")
    other.close()
    assert api.delete(PROFILES + "/src").status == 200


def test_the_password_of_the_store_is_not_shown(tmp_path, pgcrane):
    process = pgcrane.popen("serve", "--listen=127.0.0.1:0", f"--state-dir={tmp_path}",
                            "--store=postgresql://u:hunter2@127.0.0.1:1/d?connect_timeout=20")
    with open(f"/proc/{process.pid}/cmdline", "rb") as file:
        wait_until(lambda: file.seek(0) == 0 and b"postgresql://u:*******@" in file.read(), 10)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 69 and "hunter2" not in err
