"""Driving `pgcrane serve`, and asking its API as clients do."""
import contextlib
import http.client
import json
import os
import re
import signal
import sqlite3
import urllib.parse

import pytest

from support.cluster import wait_until
from support.program import Program

PROJECT = "projects/my-project"
LOCATION = PROJECT + "/locations/us-central1"
PROFILES = LOCATION + "/connectionProfiles"
JOBS = LOCATION + "/migrationJobs"


class Answer:
    def __init__(self, status, headers, text):
        self.status, self.headers, self.text = status, headers, text
        self.json = json.loads(text) if "json" in headers.get("content-type", "") else None

    def __getitem__(self, key):
        return self.json[key]

    def __repr__(self):
        return f"{self.status} {self.text[:2000]}"

    def error(self):
        """(google.rpc code by name, message) of a refusal; its shape is checked."""
        error = self.json["error"]
        assert error["code"] == self.status
        info = error["details"][0]
        assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo" and info["domain"] == "pgcrane"
        assert re.fullmatch("[A-Z_]+", info["reason"])
        return error["status"], error["message"]

    def violations(self):
        """{field: what is wrong} of a BadRequest."""
        details = [d for d in self.json["error"]["details"] if d["@type"].endswith("google.rpc.BadRequest")]
        return {v["field"]: v["description"] for v in details[0]["fieldViolations"]} if details else {}


class Daemon:
    """A running `pgcrane serve` with a folder of its own. One that does not work only keeps what it is asked for."""

    def __init__(self, folder, *options, env=None, listen="127.0.0.1:0", tls=None, works=False):
        self.folder = str(folder)
        self.program = Program(folder)
        self.options, self.env, self.process = options + (() if works else ("--api-only",)), env, None
        self.listen, self.tls = listen, tls  # tls: an ssl.SSLContext
        self.log_path = os.path.join(self.folder, "serve.log")

    def start(self):
        os.makedirs(self.folder, exist_ok=True)
        with open(self.log_path, "ab") as log:
            before = log.tell()
            self.process = self.program.popen("serve", f"--listen={self.listen}", f"--state-dir={self.folder}", *self.options,
                                              env=self.env, stderr=log)
        wait_until(lambda: self.listening(before) or self.process.poll() is not None, 30, what="the daemon to listen")
        assert self.process.poll() is None, self.log()
        self.port = int(self.listening(before).group(1))
        return self

    def listening(self, start):
        return re.search(r"listening on [\d.]+:(\d+)", self.log()[start:])

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self, timeout=20):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        assert code == 0 and "Sanitizer" not in self.log(), self.log()[-4000:]

    def why_away(self):
        code = self.process.poll()
        return "the daemon does not listen" if code is None else f"the daemon ended with {code}\n{self.log()[-8000:]}"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self):
        self.stop()
        return self.start()

    # --- asking ---

    def request(self, method, path, body=None, headers=None, **query):
        """body: an object to send as JSON, or bytes. query: as given, None left out."""
        query = {k: v for k, v in query.items() if v is not None}
        url = (path if path.startswith("/") else "/v1/" + path) + ("?" + urllib.parse.urlencode(query) if query else "")
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        all_headers = {"Accept": "application/json", **({"Content-Type": "application/json"} if content else {}),
                       **(headers or {})}
        made = (http.client.HTTPSConnection("localhost", self.port, timeout=40, context=self.tls) if self.tls
                else http.client.HTTPConnection("127.0.0.1", self.port, timeout=40))
        with contextlib.closing(made) as connection:
            try:
                connection.request(method, url, content, all_headers)
            except ConnectionRefusedError as error:
                raise ConnectionRefusedError(self.why_away()) from error
            answer = connection.getresponse()
            text = answer.read().decode()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)

    def get(self, path, **query):
        return self.request("GET", path, **query)

    def post(self, path, body=None, **query):
        return self.request("POST", path, {} if body is None else body, **query)

    def patch(self, path, body, **query):
        return self.request("PATCH", path, body, **query)

    def delete(self, path, **query):
        return self.request("DELETE", path, **query)

    def good(self, answer):
        assert answer.status == 200, answer
        return answer.json

    def finished(self, answer):
        """The response of an operation that is over at once, without its type."""
        operation = self.good(answer)
        assert operation["done"] is True and "error" not in operation, operation
        assert re.fullmatch(r"projects/.*/operations/operation-\d+-[0-9a-f]+-[0-9a-f]{8}-[0-9a-f]{8}", operation["name"])
        return {k: v for k, v in operation["response"].items() if k != "@type"}

    # --- what most tests begin with ---

    def make_profile(self, profile_id, location=LOCATION, **fields):
        body = {"displayName": profile_id, "postgresql": {"host": "10.0.0.5", "port": 5432, "username": "mig", "ssl": {}}, **fields}
        return self.finished(self.post(location + "/connectionProfiles", body, connectionProfileId=profile_id))

    def make_job(self, name="mj1", **fields):
        """With both its profiles."""
        for profile in ("src", "dst"):
            if self.get(f"{PROFILES}/{profile}").status == 404:
                self.make_profile(profile)
        body = {"type": "CONTINUOUS", "source": PROFILES + "/src", "destination": PROFILES + "/dst", **fields}
        return self.finished(self.post(JOBS, body, migrationJobId=name))

    # --- behind its back ---

    def sql(self, text, *values):
        connection = sqlite3.connect(os.path.join(self.folder, "store.db"), timeout=20)
        try:
            with connection:
                return connection.execute(text, values).fetchall()
        finally:
            connection.close()

    def outbox(self):
        """[(owner, action, body)] in the order they were asked for."""
        return [(owner, action, json.loads(body)) for owner, action, body in
                self.sql("SELECT owner, action, body FROM outbox ORDER BY id")]

    def set_state(self, name, state, phase="NONE"):
        """As if a worker had reported it."""
        self.sql("UPDATE resource SET state = ?, phase = ?, version = version + 1000 WHERE name = ?", state, phase, name)

    def end_all(self):
        self.program.end_all()


# --- fixtures ---


@pytest.fixture
def make_daemon(tmp_path):
    """make_daemon("--store=...") starts one; all are ended with the test."""
    made = []

    def make(*options, name="state", **settings):
        made.append(Daemon(tmp_path / name, *options, **settings))
        return made[-1].start()

    yield make
    for daemon in made:
        daemon.end_all()
        assert "Sanitizer" not in daemon.log(), daemon.log()[-4000:]


@pytest.fixture
def api(make_daemon):
    return make_daemon()
