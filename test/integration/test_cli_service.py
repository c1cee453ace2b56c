"""The commands over the API, against a running service: what they send, show, wait for and refuse."""
import http.server
import json
import os
import pty
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

from support.api import Daemon, make_daemon  # noqa: F401
from support.cluster import wait_until
from support.program import Program

pytestmark = pytest.mark.turns(2)

HERE = "projects/pgcrane/locations/local"
PROFILES, JOBS = HERE + "/connectionProfiles", HERE + "/migrationJobs"
OLD = "postgresql://app@old.example:5433/shop"


class Cli:
    """pgcrane with a service to ask."""

    def __init__(self, program, server, **env):
        self.program, self.env = program, {"PGCRANE_SERVER": server, **env}

    def run(self, *args, **options):
        return self.program(*args, env={**self.env, **options.pop("env", {})}, timeout=60, **options)

    def good(self, *args, **options):
        result = self.run(*args, **options)
        assert result.code == 0, result
        return result.stdout

    def json(self, *args, **options):
        return json.loads(self.good(*args, "-o", "json", **options))

    def refused(self, code, *args, **options):
        """What stands on standard error."""
        result = self.run(*args, **options)
        assert result.code == code, result
        assert "pgcrane: error: " in result.stderr and "\n  do: " in result.stderr, result
        return result.stderr

    def popen(self, *args, **options):
        return self.program.popen(*args, env=self.env, **options)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("service"))
    yield daemon.start()
    daemon.end_all()
    assert "Sanitizer" not in daemon.log(), daemon.log()[-4000:]


@pytest.fixture
def api(shared):
    """A service with nothing in it: one for all, since each start costs as much as a test."""
    for table in ("outbox", "request", "audit", "event", "secret", "resource"):
        shared.sql(f"DELETE FROM {table}")
    return shared


@pytest.fixture
def program(tmp_path):
    """pgcrane, where no service of this test's own is needed."""
    program = Program(tmp_path / "cli")
    yield program
    program.end_all()


@pytest.fixture
def cli(api):
    return Cli(api.program, f"http://127.0.0.1:{api.port}")


@pytest.fixture
def shop(cli):
    """With both profiles and a job."""
    cli.good("profiles", "create", "old", OLD)
    cli.good("profiles", "create", "new", "postgresql://app@new.example/shop")
    cli.good("jobs", "create", "shop", "old", "new")
    return cli


def columns(text):
    """The words of each line."""
    return [line.split() for line in text.splitlines()]


# --- profiles ---


def test_profile_of_a_connection_string(cli, api):
    assert cli.good("profiles", "create", "old", OLD, "--display-name", "Old shop", "--label", "team=shop",
                    "--side", "source") == "Profile old is made.\n"
    made = api.get(PROFILES + "/old").json
    assert made["postgresql"] == {"host": "old.example", "port": 5433, "username": "app", "database": "shop", "ssl": {}}
    assert made["displayName"] == "Old shop" and made["labels"] == {"team": "shop"} and made["role"] == "SOURCE"
    assert cli.json("profiles", "describe", "old") == made
    shown = cli.good("profiles", "describe", "old", "--output=yaml")
    assert "\ndisplayName: Old shop\n" in shown and "\npostgresql:\n" in shown and "\n  port: 5433\n" in shown
    assert cli.json("profiles", "list") == [made]
    header, row = columns(cli.good("profiles", "list"))
    assert header[:3] == ["Profile", "State", "Side"] and row[:4] == ["old", "READY", "SOURCE", "app@old.example:5433/shop"]
    shown = cli.good("profiles", "describe", "old")
    assert "Where     app@old.example:5433/shop\n" in shown and "Password  none\n" in shown and "team=shop" in shown


def test_profile_of_options(cli, api):
    cli.good("profiles", "create", "old", "--host", "10.0.0.5", "--port", "6000", "--user", "mig", "--database", "d",
             "--ssl-mode", "require")
    assert api.get(PROFILES + "/old")["postgresql"] == {
        "host": "10.0.0.5", "port": 6000, "username": "mig", "database": "d",
        "ssl": {"type": "REQUIRED", "sslFlags": {"sslmode": "require"}}}
    assert cli.good("profiles", "update", "old", "--port", "6001", "--label", "a=b") == "Profile old is changed.\n"
    changed = api.get(PROFILES + "/old").json
    assert changed["postgresql"]["port"] == 6001 and changed["postgresql"]["username"] == "mig" and changed["labels"] == {"a": "b"}


def test_passwords(cli, api, tmp_path):
    """By file, by standard input, in a connection string; shown nowhere, and not in the process list."""
    password = tmp_path / "password"
    password.write_text("s3cret-file\n")
    assert "chmod 600" in cli.refused(77, "profiles", "create", "a", OLD, "--password-file", str(password))
    password.chmod(0o600)
    cli.good("profiles", "create", "a", OLD, "--password-file", str(password))
    cli.good("profiles", "create", "b", OLD, "--password-file=-", input="s3cret-stdin\n")
    cli.good("profiles", "create", "c", "postgresql://app:s3cret-uri@old.example/shop")
    for each in "abc":
        assert api.get(f"{PROFILES}/{each}")["postgresql"]["passwordSet"] is True
    assert "s3cret" not in cli.good("profiles", "list", "-o", "json") + api.log()
    assert "Password  set\n" in cli.good("profiles", "describe", "a")


def test_a_password_is_struck_from_the_process_list(cli, api):
    """While the service does not answer, which may be long."""
    api.process.send_signal(signal.SIGSTOP)
    try:
        process = cli.popen("profiles", "create", "c", "postgresql://app:s3cret@old.example/shop")
        path = f"/proc/{process.pid}/cmdline"
        wait_until(lambda: b"******" in open(path, "rb").read(), 10, what="the password to be struck out")
        assert b"s3cret" not in open(path, "rb").read()
    finally:
        api.process.send_signal(signal.SIGCONT)
    assert process.wait(20) == 0


def test_profiles_that_are_refused(shop):
    assert "already exists" in shop.refused(2, "profiles", "create", "old", OLD)
    assert "postgresql://USER@HOST" in shop.refused(64, "profiles", "create", "x")
    stderr = shop.refused(64, "profiles", "create", "Bad_Id", OLD)
    assert "connectionProfileId: must begin with a lower-case letter" in stderr and "do: see pgcrane profiles --help" in stderr
    stderr = shop.refused(2, "profiles", "describe", "none")
    assert "was not found" in stderr and "do: pgcrane profiles list" in stderr
    assert "nothing is said" in shop.refused(64, "profiles", "update", "old")
    assert "used by" in shop.refused(2, "profiles", "delete", "old", "--yes")
    assert "several" in shop.refused(64, "profiles", "create", "x", "postgresql://u@a,b/d")
    assert "caCertificate" in shop.refused(64, "profiles", "create", "x", "postgresql://u@a/d?sslmode=verify-full")
    assert "list does not take --host" in shop.refused(64, "profiles", "list", "--host=x")
    assert "takes ID" in shop.refused(64, "profiles", "describe")
    assert "no verb" in shop.refused(64, "profiles", "frobnicate")
    assert "is no id" in shop.refused(64, "profiles", "describe", "../../x")


def test_several_violations_are_lines(cli):
    stderr = cli.refused(64, "profiles", "create", "x", "--host=-x", "--user=u", "--side=up", "--provider=mine")
    assert "\n    role: " in stderr and "\n    provider: " in stderr


def test_delete_asks(shop, cli):
    cli.good("profiles", "create", "spare", OLD)
    assert "nobody to ask" in shop.refused(3, "profiles", "delete", "spare")
    assert cli.good("profiles", "delete", "spare", "--yes") == "Profile spare is deleted.\n"
    assert [each["name"] for each in cli.json("profiles", "list")] == [PROFILES + "/new", PROFILES + "/old"]


def test_lists(cli):
    assert "pgcrane profiles create" in cli.good("profiles", "list") and cli.json("profiles", "list") == []
    for number in range(3):
        cli.good("profiles", "create", f"p{number}", f"postgresql://u@h{number}/d", "--label", f"n={number}")
    names = lambda *options: [each["name"][-2:] for each in cli.json("profiles", "list", *options)]  # noqa: E731
    assert names() == ["p0", "p1", "p2"] and names("--sort-by", "createTime desc") == ["p2", "p1", "p0"]
    assert names("--filter", "labels.n=1") == ["p1"]
    assert "filter" in cli.refused(64, "profiles", "list", "--filter", "((")
    cli.good("profiles", "create", "far", OLD, "--location", "elsewhere")
    assert len(cli.json("profiles", "list")) == 3
    assert "projects/pgcrane/locations/elsewhere/connectionProfiles/far" in cli.good("profiles", "list", "--location=-")


def test_long_lists_come_in_pages(cli, api):
    cli.good("profiles", "create", "p0", OLD)
    api.sql("INSERT INTO resource WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 519)"
            " SELECT r.name || n, kind, parent, uid || n, state, phase, display_name, body, version, create_us, update_us"
            " FROM resource r, n WHERE r.name = ?", PROFILES + "/p0")
    assert len(cli.json("profiles", "list")) == 520 and len(cli.good("profiles", "list").splitlines()) == 521


# --- jobs ---


def test_the_life_of_a_job(shop, api):
    job = api.get(JOBS + "/shop").json
    assert job["type"] == "CONTINUOUS" and job["source"] == PROFILES + "/old" and job["destination"] == PROFILES + "/new"
    header, row = columns(shop.good("jobs", "list"))
    assert header == ["Job", "State", "Source", "Destination"] and row == ["shop", "NOT_STARTED", "old", "new"]
    assert "Takes now    start, delete\n" in shop.good("jobs", "describe", "shop")
    assert shop.good("jobs", "update", "shop", "--database", "a", "--database", "b", "--display-name", "The shop") == \
        "Job shop is changed: NOT_STARTED.\n"
    assert "Databases    a, b\n" in shop.good("jobs", "describe", "shop")
    started = shop.good("jobs", "start", "shop", "--async", "--skip-checks").strip()
    assert started.startswith("operation-")
    assert api.outbox()[-1][2]["args"] == {"skipValidation": True}
    assert shop.json("operations", "describe", started)["metadata"]["verb"] == "start"
    assert shop.json("jobs", "stop", "shop", "--async")["metadata"]["verb"] == "stop"
    stderr = shop.refused(2, "jobs", "resume", "shop")
    assert "STOPPING" in stderr and "allowed: delete" in stderr and "do: pgcrane jobs describe shop" in stderr
    api.set_state(JOBS + "/shop", "STOPPED", "CDC")
    for verb in ("restart", "promote", "delete"):
        assert "nobody to ask" in shop.refused(3, "jobs", verb, "shop")
    assert shop.json("jobs", "promote", "shop", "--yes", "--async")["metadata"]["verb"] == "promote"
    assert shop.json("jobs", "delete", "shop", "--yes", "--async")["metadata"]["verb"] == "delete"
    assert api.get(JOBS + "/shop")["state"] == "DELETING"


def test_verbs_with_databases(shop, api):
    api.set_state(JOBS + "/shop", "RUNNING", "CDC")
    assert "no database app" in shop.refused(64, "jobs", "promote", "shop", "--database", "app", "--yes")
    assert "exclude" in shop.refused(64, "jobs", "restart", "shop", "--failed", "--database", "a", "--yes")
    shop.good("jobs", "restart", "shop", "--failed", "--yes", "--async")
    assert api.outbox()[-1][1:] == ("RESTART_OBJECTS", {"operation": api.outbox()[-1][2]["operation"],
                                                       "args": {"restartFailedObjects": True}})


def finish(api, name, **outcome):
    """As whoever carries it out would."""
    body = json.loads(api.sql("SELECT body FROM resource WHERE name = ?", name)[0][0])
    body["api"].update(done=True, **outcome)
    api.sql("UPDATE resource SET state = 'DONE', body = ?, version = version + 1000 WHERE name = ?", json.dumps(body), name)


def pending(api, shop, verb):
    found = [each for each in shop.json("operations", "list") if not each["done"] and each["metadata"]["verb"] == verb]
    return found[0]["name"] if found else None


FINDING = {"@type": "type.googleapis.com/google.cloud.clouddms.v1.MigrationJobVerificationError",
           "errorCode": "INVALID_WAL_LEVEL", "errorMessage": "wal_level is replica"}


def test_a_verb_waits_and_fails_as_it_fails(shop, api):
    process = shop.popen("jobs", "verify", "shop")
    wait_until(lambda: pending(api, shop, "verify"), 10, what="the check to be asked for")
    assert process.poll() is None
    finish(api, pending(api, shop, "verify"), error={"code": 9, "message": "1 error", "details": [FINDING]})
    out, err = process.communicate(timeout=20)
    assert process.returncode == 2 and out == "" and "the check of job shop: 1 error\n    INVALID_WAL_LEVEL: wal_level is replica" in err
    assert "Waiting for the check of job shop" in err


def test_a_verb_waits_and_tells_the_end(shop, api):
    process = shop.popen("jobs", "start", "shop")
    wait_until(lambda: pending(api, shop, "start"), 10, what="the start to be asked for")
    finish(api, pending(api, shop, "start"), response={"@type": "x", "state": "RUNNING", "phase": "FULL_DUMP"})
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and out == "Job shop is started: RUNNING, FULL_DUMP.\n"


def test_waiting_ends_by_time_and_by_ctrl_c(shop, api):
    stderr = shop.refused(69, "jobs", "start", "shop", "--timeout", "1")
    name = pending(api, shop, "start").rsplit("/", 1)[1]
    assert f"do: pgcrane operations wait {name}" in stderr and "goes on" in stderr
    process = shop.popen("operations", "wait", name)
    assert "Waiting for" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 3 and f"pgcrane operations wait {name}" in err, err
    shop.good("operations", "cancel", name)
    assert "Cancelled  asked for\n" in shop.good("operations", "describe", name)
    assert "not over yet" in shop.refused(2, "operations", "delete", name)
    finish(api, f"{HERE}/operations/{name}", response={})
    assert "State      done\n" in shop.good("operations", "wait", name)
    assert "is forgotten" in shop.good("operations", "delete", name)
    assert "not found" in shop.refused(2, "operations", "describe", name)


def test_the_service_restarts_while_somebody_waits(shop, api):
    process = shop.popen("jobs", "start", "shop")
    wait_until(lambda: pending(api, shop, "start"), 10, what="the start to be asked for")
    api.listen = f"127.0.0.1:{api.port}"
    api.kill()
    time.sleep(0.5)
    api.start()
    finish(api, pending(api, shop, "start"), response={"state": "RUNNING"})
    out, err = process.communicate(timeout=40)
    assert process.returncode == 0 and out == "Job shop is started: RUNNING.\n", err


def test_wait(shop, api):
    assert "no state and no phase" in shop.refused(64, "jobs", "wait", "shop", "--for", "DONE")
    stderr = shop.refused(2, "jobs", "wait", "shop")
    assert "NOT_STARTED" in stderr and "unless somebody" in stderr and "do: pgcrane jobs describe shop" in stderr
    api.set_state(JOBS + "/shop", "RUNNING", "CDC")
    assert shop.good("jobs", "wait", "shop", "--for", "full-dump,completed") == "Job shop is RUNNING, CDC.\n"
    assert "after 1 s" in shop.refused(69, "jobs", "wait", "shop", "--timeout", "1")
    process = shop.popen("jobs", "wait", "shop", "--for=READY_FOR_PROMOTE")
    time.sleep(0.3)
    api.set_state(JOBS + "/shop", "RUNNING", "READY_FOR_PROMOTE")
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 0 and out == "Job shop is RUNNING, READY_FOR_PROMOTE.\n"
    assert "not found" in shop.refused(2, "jobs", "wait", "none", "--for=DELETED")


def test_logs(shop, api):
    shop.good("jobs", "start", "shop", "--async")
    lines = shop.good("jobs", "logs", "shop").splitlines()
    assert "created" in lines[0] and "-> CREATING" in lines[0] and "by " in lines[0]
    assert "start asked for" in lines[-1] and "-> STARTING" in lines[-1]
    events = [json.loads(line) for line in shop.good("jobs", "logs", "shop", "-o", "json").splitlines()]
    assert len(events) == len(lines) and events[0]["kind"] == "CREATE"
    assert "not found" in shop.refused(2, "jobs", "logs", "none", "-f")


def test_logs_go_on(shop, api):
    """Over a restart of the service, with each event once; Ctrl-C ends it well."""
    process = shop.popen("jobs", "logs", "shop", "-f", "-o", "json")
    seen = []

    def read():
        for line in process.stdout:
            seen.append(json.loads(line))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_until(lambda: len(seen) >= 2, 10, what="what was there already")
    shop.good("jobs", "start", "shop", "--async")
    wait_until(lambda: seen[-1]["message"] == "start asked for", 10, what="the start to be told")
    api.listen = f"127.0.0.1:{api.port}"
    api.restart()
    shop.good("jobs", "stop", "shop", "--async")
    wait_until(lambda: "stop" in seen[-1]["message"], 15, what="the stop to be told")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    reader.join(5)
    ids = [int(each["id"]) for each in seen]
    assert ids == sorted(set(ids))


PROGRESS = {"bytesDone": "1610612736", "bytesTotal": 3221225472, "rowsDone": "1234567", "tablesDone": 12, "tablesTotal": 40,
            "etaSeconds": 95, "lagBytes": "2048", "lagSeconds": 0.4, "retainedBytes": 900, "retainedLimitBytes": 1000,
            "insertsPerSecond": 120, "waitingFor": "two old transactions"}


@pytest.fixture
def canned():
    """A service of fixed answers: {path: (status, headers, text)}; requests are noted."""
    answers, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            found = answers.get(self.path.partition("?")[0], (404, {}, "nothing"))
            status, headers, text = found.pop(0) if isinstance(found, list) else found
            if status is None:  # the connection is lost
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.answers, server.asked = answers, asked
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def other(canned, program):
    return Cli(program, f"http://127.0.0.1:{canned.server_port}")


def test_progress(canned, other):
    job = {"name": JOBS + "/shop", "state": "RUNNING", "phase": "FULL_DUMP", "source": PROFILES + "/old",
           "destination": PROFILES + "/new", "progress": PROGRESS, "newField": [1]}
    failed = {"name": JOBS + "/bad", "state": "FAILED", "source": PROFILES + "/old", "destination": PROFILES + "/new",
              "error": {"code": 9, "message": "it broke\nbadly"}, "nextRetryTime": "2026-11-29T04:00:00Z", "attempts": 3}
    canned.answers["/v1/" + JOBS] = (200, {}, json.dumps({"migrationJobs": [job, failed]}))
    canned.answers["/v1/" + JOBS + "/shop"] = (200, {}, json.dumps(job))
    canned.answers["/v1/" + JOBS + "/bad"] = (200, {}, json.dumps(failed))
    listed = other.good("jobs", "list")
    header, first, second = listed.splitlines()
    assert header.split() == ["Job", "State", "Phase", "Copied", "Left", "Lag", "Source", "Destination", "Trouble"]
    assert "50%" in first and "1m 35s" in first and "2.0 kB, 0.40s" in first and "waits for two old transactions" in first
    assert second.endswith("it broke") and header.index("Source") == first.index("old")
    shown = other.good("jobs", "describe", "shop")
    for line in ("Copied       50%, 1.5 GB of 3.0 GB", "Rows         1,234,567", "Tables       12 of 40",
                 "Left         about 1m 35s", "Lag          2.0 kB, 0.40s", "Applied      120 inserts a second",
                 "WAL kept     900 B of 1000 B", "Waits for    two old transactions"):
        assert line + "\n" in shown, shown
    shown = other.good("jobs", "describe", "bad")
    assert "it broke\n" in shown and "badly" in shown and "2026-11-29 04:00:00Z" in shown


def test_what_is_lost_is_asked_again(canned, other):
    """A create as well, with the same request id."""
    good = (200, {}, json.dumps({"name": "o", "done": True, "response": {}}))
    canned.answers["/v1/" + PROFILES] = [(None, {}, ""), (503, {"Retry-After": "1"}, "{}"), good]
    other.good("profiles", "create", "old", OLD)
    assert len(canned.asked) == 3 and len({path for _, path, _, _ in canned.asked}) == 1
    assert "requestId=" in canned.asked[0][1] and len({body for *_, body in canned.asked}) == 1
    canned.asked.clear()
    canned.answers["/v1/" + JOBS + "/x"] = [(None, {}, ""), (200, {}, '{"name": "x"}')]
    other.good("jobs", "describe", "x")
    assert len(canned.asked) == 2


def test_what_must_not_be_done_twice_is_not(canned, other):
    canned.answers[f"/v1/{HERE}/operations/o:cancel"] = [(None, {}, ""), (200, {}, "{}")]
    assert "127.0.0.1" in other.refused(69, "operations", "cancel", "o") and len(canned.asked) == 1


@pytest.mark.parametrize("status, text, code, part", [
    (200, "<html>", 2, "none of the service's"), (302, "", 2, "302"), (418, "{}", 2, "418"), (200, "[]", 2, "none of"),
    (401, "no", 77, "PGCRANE_TOKEN"), (403, "no", 77, "pgcrane tokens"), (400, '{"error": {"message": "m", "code": 3}}', 64, "m"),
])
def test_answers_of_others(canned, other, status, text, code, part):
    canned.answers["/v1/" + PROFILES] = (status, {"Location": "http://192.0.2.1/"}, text)
    assert part in other.refused(code, "profiles", "list") and len(canned.asked) == 1


def test_hostile_answers_move_no_cursor(canned, other):
    profile = {"name": PROFILES + "/x", "state": "READY\x1b[2J", "displayName": "a\x1b]0;t\x07b", "postgresql": {"host": "\x9b1m"}}
    canned.answers["/v1/" + PROFILES] = (200, {}, json.dumps({"connectionProfiles": [profile]}))
    canned.answers["/v1/" + PROFILES + "/x"] = (200, {}, json.dumps(profile))
    canned.answers["/v1/" + PROFILES + "/y"] = (404, {}, json.dumps({"error": {"code": 5, "message": "a\x1bb"}}))
    shown = other.good("profiles", "list") + other.good("profiles", "describe", "x") + other.refused(2, "profiles", "describe", "y")
    assert "\x1b" not in shown and "\x9b" not in shown and "\x07" not in shown


# --- reaching it ---


def test_nobody_there(program):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began = time.monotonic()
    stderr = Cli(program, f"http://127.0.0.1:{port}").refused(69, "profiles", "list")
    assert "UNREACHABLE" in stderr and "pgcrane serve" in stderr and "--server" in stderr and time.monotonic() - began < 5


def test_a_unix_socket(program, tmp_path):
    """Whatever http_proxy says."""
    path = str(tmp_path / "pgcrane.sock")
    process = program.popen("serve", f"--listen={path}", f"--state-dir={tmp_path}/socket")
    wait_until(lambda: os.path.exists(path), 20)
    cli = Cli(program, "unix:" + path, http_proxy="http://127.0.0.1:1")
    cli.good("profiles", "create", "a", OLD)
    assert len(cli.json("profiles", "list", env={"PGCRANE_SERVER": path})) == 1
    process.terminate()
    assert process.wait(20) == 0


def test_tokens(make_daemon, tmp_path):
    api = make_daemon()
    cli = Cli(api.program, f"http://127.0.0.1:{api.port}")
    made = api.program("tokens", "create", "--role", "viewer", "--state-dir", api.folder)
    token = made.stdout.strip()
    stderr = cli.refused(77, "profiles", "list")
    assert "TOKEN_NEEDED" in stderr and "PGCRANE_TOKEN" in stderr and "pgcrane tokens create" in stderr
    assert cli.json("profiles", "list", env={"PGCRANE_TOKEN": token}) == []
    file = tmp_path / "token"
    file.write_text(token + "\n")
    assert "chmod 600" in cli.refused(77, "profiles", "list", "--token-file", str(file))
    file.chmod(0o600)
    assert cli.json("profiles", "list", "--token-file", str(file)) == []
    assert cli.json("profiles", "list", "--token-file", str(file), env={"PGCRANE_TOKEN": "pgc_wrong"}) == []
    assert cli.json("profiles", "list", env={"PGCRANE_TOKEN_FILE": str(file)}) == []
    assert "both" in cli.refused(64, "profiles", "list", env={"PGCRANE_TOKEN_FILE": str(file), "PGCRANE_TOKEN": token}).lower()
    stderr = cli.refused(77, "profiles", "create", "a", OLD, env={"PGCRANE_TOKEN": token})
    assert "NOT_PERMITTED" in stderr and token not in stderr


def test_a_token_is_not_sent_in_the_clear(program):
    cli = Cli(program, "http://192.0.2.7:8432", PGCRANE_TOKEN="pgc_viewer_x")
    assert "https://" in cli.refused(64, "profiles", "list")


@pytest.fixture
def certificate(tmp_path):
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return cert, key


def test_tls(make_daemon, certificate):
    cert, key = certificate
    daemon = make_daemon(f"--tls-cert={cert}", f"--tls-key={key}", listen="0.0.0.0:0")
    token = daemon.program("tokens", "create", "--role", "operator", "--state-dir", daemon.folder).stdout.strip()
    cli = Cli(daemon.program, f"https://localhost:{daemon.port}", PGCRANE_TOKEN=token)
    stderr = cli.refused(69, "profiles", "list")
    assert "TLS_FAILED" in stderr and "--ca-file" in stderr
    cli.good("profiles", "create", "a", OLD, "--ca-file", cert)
    assert len(cli.json("profiles", "list", env={"PGCRANE_CA_FILE": cert})) == 1
    assert "TLS_FAILED" in cli.refused(69, "profiles", "list", "--ca-file", "/nowhere/ca.pem")


# --- objects ---


def test_objects(shop, api):
    assert "no objects yet" in shop.good("objects", "list", "shop") and shop.json("objects", "list", "shop") == []
    stderr = shop.refused(2, "objects", "describe", "shop", "app")
    assert "database app" in stderr and "do: pgcrane objects list shop" in stderr
    assert "pgcrane jobs list" in shop.refused(2, "objects", "list", "none")
    process = shop.popen("objects", "list", "shop", "--refresh")
    wait_until(lambda: pending(api, shop, "fetchSourceObjects"), 10, what="the list to be asked for")
    finish(api, pending(api, shop, "fetchSourceObjects"), response={})
    assert process.wait(20) == 0


# --- apply ---

FILE = """
profiles:
  old:
    uri: postgresql://app@old.example:5433/shop
    labels: {team: shop}
    passwordFile: %s
  new: {uri: "postgresql://app@new.example/shop"}
jobs:
  shop: {source: old, destination: new, databases: [shop, stats], displayName: The shop}
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "password").chmod(0o600)
    path = tmp_path / "shop.yaml"
    path.write_text(FILE % (tmp_path / "password"))
    return path


def test_apply(cli, api, file):
    path = str(file)
    shown = cli.good("apply", "-f", path, "--dry-run")
    assert "+ profile old  create\n" in shown and "Plan: 3 to make, 0 to change, 0 as they are\n" in shown
    assert cli.json("profiles", "list") == []
    assert "nobody to ask" in cli.refused(3, "apply", "-f", path) and cli.json("profiles", "list") == []
    done = cli.good("apply", "-f", path, "--yes")
    assert "Profile old is made.\nProfile new is made.\nJob shop is made.\n" in done
    job = api.get(JOBS + "/shop").json
    assert job["displayName"] == "The shop" and job["type"] == "CONTINUOUS" and len(
        job["objectsConfig"]["sourceObjectsConfig"]["objectConfigs"]) == 2
    assert api.get(PROFILES + "/old")["postgresql"]["passwordSet"] is True
    # and again: nothing is left to do, nothing is asked
    before = api.sql("SELECT name, version FROM resource WHERE kind != 'OPERATION'")
    assert "Plan: 0 to make, 0 to change, 3 as they are\n" in cli.good("apply", "-f", path)
    assert api.sql("SELECT name, version FROM resource WHERE kind != 'OPERATION'") == before
    assert "s3cret" not in shown + done + api.log()


def test_apply_changes_what_differs(cli, api, file):
    cli.good("apply", "-f", str(file), "--yes")
    cli.good("profiles", "update", "new", "--label", "kept=yes")
    file.write_text(file.read_text().replace("5433", "5444").replace("The shop", "Shop 2"))
    shown = cli.good("apply", "-f", str(file), "--yes")
    assert "~ profile old  change\n      postgresql.port: 5433 -> 5444\n" in shown
    assert "displayName: The shop -> Shop 2" in shown and "= profile new  unchanged\n" in shown
    assert api.get(PROFILES + "/old")["postgresql"]["port"] == 5444 and api.get(JOBS + "/shop")["displayName"] == "Shop 2"
    assert api.get(PROFILES + "/old")["postgresql"]["passwordSet"] is True and api.get(PROFILES + "/new")["labels"] == {"kept": "yes"}
    plan = cli.json("apply", "-f", str(file), "--secrets", "--dry-run")
    assert plan["applied"] is False
    assert [(each["id"], each["changes"]) for each in plan["plan"] if each["action"] == "change"] == [
        ("old", [{"field": "postgresql.password", "after": "(secret)"}])]


def test_apply_tells_beforehand_what_cannot_be(cli, api, file):
    cli.good("apply", "-f", str(file), "--yes")
    file.write_text(file.read_text().replace("5433", "5444").replace("source: old", "type: ONE_TIME, source: old"))
    stderr = cli.refused(2, "apply", "-f", str(file), "--yes")
    assert "type cannot be changed" in stderr and "pgcrane jobs delete shop" in stderr
    assert api.get(PROFILES + "/old")["postgresql"]["port"] == 5433


def test_apply_of_standard_input_and_of_json(cli, api):
    text = json.dumps({"profiles": {"a": {"postgresql": {"host": "h", "username": "u"}}}})
    assert cli.json("apply", "-f", "-", "--yes", input=text)["applied"] is True
    assert api.get(PROFILES + "/a")["postgresql"]["host"] == "h"
    text = json.dumps({"profiles": {"a": cli.json("profiles", "describe", "a")}})
    assert "1 as they are" in cli.good("apply", "-f", "-", input=text)


@pytest.mark.parametrize("text, part", [
    ("profiles: {a: {uri: 5}}\n", "profiles.a.uri"), ("jobs: {a: {}}\n", "jobs.a.source"), ("a: b: c\n", "line 1"),
    ("profiles: {a: {postgresql: {hots: h}}}\n", "profiles.a.postgresql.hots"), ("nonsense: {}\n", "nonsense"),
])
def test_apply_of_what_is_wrong(cli, text, part):
    result = cli.run("apply", "-f", "-", "--yes", input=text)
    assert result.code in (2, 64) and part in result.stderr, result


def test_apply_without_a_file(cli, tmp_path):
    assert "the file is missing" in cli.refused(64, "apply")
    assert "none.yaml" in cli.run("apply", "-f", str(tmp_path / "none.yaml")).stderr


# --- on a terminal ---


def on_terminal(cli, *args, typed=None, react=None, seconds=20):
    """(exit code, what the terminal got) of a run with a terminal of its own. typed: at the question; b"" is Ctrl-C. react: (words,
    what is to happen when they are seen)."""
    master, slave = pty.openpty()
    process = cli.program.popen(*args, env={**cli.env, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen, until = b"", time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            step = os.read(master, 65536)
        except OSError:
            break
        if not step:
            break
        seen += step
        if react is not None and react[0] in seen:
            react[1]()
            react = None
        if typed is not None and b"Type yes" in seen:
            if typed == b"":
                process.send_signal(signal.SIGINT)  # the terminal is not its controlling one
            else:
                os.write(master, typed)
            typed = None
    os.close(master)
    return process.wait(10), seen.decode(errors="replace")


def test_the_question(shop, api):
    code, text = on_terminal(shop, "jobs", "delete", "shop", "--async", typed=b"no\n")
    assert code == 3 and "End job shop" in text and api.get(JOBS + "/shop")["state"] == "NOT_STARTED"
    code, text = on_terminal(shop, "jobs", "delete", "shop", "--async", typed=b"yes\n")
    assert code == 0 and api.get(JOBS + "/shop")["state"] == "DELETING"


def test_the_question_and_ctrl_c(shop, api):
    code, _ = on_terminal(shop, "jobs", "delete", "shop", "--async", typed=b"")
    assert code == 3 and api.get(JOBS + "/shop")["state"] == "NOT_STARTED"


def test_watch(shop, api):
    api.set_state(JOBS + "/shop", "RUNNING", "CDC")
    code, text = on_terminal(shop, "jobs", "describe", "shop", "--watch",
                             react=(b"CDC", lambda: api.set_state(JOBS + "/shop", "COMPLETED")))
    assert code == 0 and "CDC" in text and "COMPLETED" in text and "\x1b[J" in text
    process = shop.popen("jobs", "list", "--watch", "-o", "json")
    wait_until(lambda: select.select([process.stdout], [], [], 0)[0], 20, "the list")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0 and json.loads(out)[0]["state"] == "COMPLETED", err
