"""New passwords for roles whose passwords the source does not give away: set, given out once, and nowhere else."""
import glob
import json
import os
import shutil

import psycopg
import pytest

from support.api import JOBS, PROJECT
from support.cluster import wait_until
from support.service import Service

pytestmark = pytest.mark.turns(4)

FLAGS = {"dumpFlags": {"dumpFlags": [{"name": "new-passwords", "value": "true"}]}}
LOGGING = {"log_statement": "all", "log_min_duration_statement": "0", "log_min_error_statement": "info"}
ODD = "o'dd \"role\" ü"


@pytest.fixture
def servers(own_cluster):
    """A source like a provider's: its migrating role reads no verifiers."""
    source, dest = own_cluster("pass_source"), own_cluster("pass_dest", auth="scram-sha-256", config=LOGGING)
    source.sql(f"""CREATE ROLE app LOGIN PASSWORD 'of the source'; CREATE ROLE "{ODD.replace('"', '""')}" LOGIN PASSWORD 'other';
        CREATE ROLE there LOGIN; CREATE ROLE nobody; CREATE ROLE mover LOGIN REPLICATION; GRANT app TO mover""")
    source.createdb("shop", "OWNER app").sql("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO app")
    source.createdb("late", "OWNER app").sql("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO app")
    dest.sql("CREATE ROLE there LOGIN PASSWORD 'kept'")
    yield source, dest


@pytest.fixture
def service(tmp_path, servers):
    with Service(tmp_path / "service") as running:
        running.profile("from", servers[0], user="mover")
        running.profile("to", servers[1], password="harness secret/:@")
        running.create_job("moved", "from", "to", ["shop"], **FLAGS)
        yield running


def fetch(service, *words):
    return service.program("jobs", "passwords", "moved", *words, "--project", PROJECT.split("/")[1], "--location", "us-central1",
                           env={"PGCRANE_SERVER": f"http://127.0.0.1:{service.port}"})


def log_in(cluster, role, password):
    with psycopg.connect(host="127.0.0.1", port=cluster.port, dbname="shop", user=role, password=password, connect_timeout=10) as conn:
        return conn.execute("SELECT current_user").fetchone()[0]


def files_with(service, text):
    """Of the daemon: store, logs, sessions."""
    found = []
    for path in glob.glob(os.path.join(service.folder, "**"), recursive=True):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                if text.encode() in file.read():
                    found.append(path)
    return found


def assert_given_out_once(service, dest, roles):
    refused = fetch(service)  # nobody to ask
    assert refused.code != 0 and "--yes" in refused.stderr, refused
    given = fetch(service, "--yes", "-o", "json")
    assert given.code == 0, given
    passwords = {item["role"]: item["password"] for item in json.loads(given.stdout)}
    assert set(passwords) == roles, passwords
    for role, password in passwords.items():
        assert log_in(dest, role, password) == role and len(password) == 32
        assert password not in dest.log_text() and not files_with(service, password)
    assert "SCRAM-SHA-256$" not in dest.log_text()
    again = service.post(f"{JOBS}/moved:fetchPasswords")
    assert again.status == 400 and "given out" in again.error()[1], again
    return passwords


def test_given_out_once(service, servers):
    source, dest = servers
    service.done("moved", "start", timeout=60)
    service.wait_ready("moved", timeout=60)
    assert log_in(dest, "there", "kept") == "there", "what somebody has set stays"
    first = assert_given_out_once(service, dest, {"app", ODD, "mover"})
    kinds = [e["kind"] for e in service.good(service.get(f"{JOBS}/moved/events"))["events"]]
    assert kinds.count("PASSWORDS_FETCHED") == 1
    assert service.sql("SELECT count(*) FROM audit WHERE action = 'migrationJobs.fetchPasswords' AND outcome = 'OK'") == [(1,)]
    assert service.sql("SELECT count(*) FROM secret WHERE field = 'newPasswords'") == [(0,)]
    told = service.good(service.get(f"{JOBS}/moved:report"))["instance"]["findings"]
    assert any(f["id"] == "INSTANCE_NEW_PASSWORD" and '"app"' in f["message"] for f in told), told

    # A database, and a role, that come later get a password of another seed.
    source.sql("CREATE ROLE later LOGIN PASSWORD 'x'")
    objects = {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": [
        {"objectIdentifier": {"type": "DATABASE", "database": name}} for name in ("shop", "late")]}}
    service.end_of(service.good(service.patch(f"{JOBS}/moved", {"objectsConfig": objects}, updateMask="objectsConfig")))
    wait_until(lambda: "late" in service.objects("moved") and service.objects("moved")["late"].get("phase") == "READY_FOR_PROMOTE",
               60, "the database that was added")
    second = assert_given_out_once(service, dest, {"later"})
    assert not set(first.values()) & set(second.values())


@pytest.mark.parametrize("where", ["instance.before_commit:kill", "instance.after_commit:kill"])
def test_killed_around_the_commit(servers, tmp_path, where):
    """The session that goes on gives the same passwords, or knows of those that are set."""
    source, dest = servers
    with Service(tmp_path / "service", env={"PGCRANE_FAILPOINT": where}) as service:
        service.profile("from", source, user="mover")
        service.profile("to", dest, password="harness secret/:@")
        service.create_job("moved", "from", "to", ["shop"], **FLAGS)
        operation = service.verb("moved", "start")
        wait_until(lambda: "WORKER_LOST" in service.log() or service.good(service.get(f"{JOBS}/moved"))["state"] == "FAILED" or
                   "session 2" in service.log(), 40, "the worker to be lost")
        service.stop()
        service.env = None
        service.start()
        service.end_of(operation, 60)
        if service.job("moved")["state"] == "FAILED":
            service.done("moved", "resume", timeout=60)
        service.wait_ready("moved", timeout=60)
        assert_given_out_once(service, dest, {"app", ODD, "mover"})


def test_a_node_is_lost_when_they_are_told(servers, tmp_path):
    """Between the roles' commit and the databases, with the files of its sessions: whoever goes on finds the roles there, and would
    tell of none."""
    source, dest = servers
    with Service(tmp_path / "service", env={"PGCRANE_FAILPOINT": "instance.database:sleep=60000"}) as service:
        service.profile("from", source, user="mover")
        service.profile("to", dest, password="harness secret/:@")
        service.create_job("moved", "from", "to", ["shop"], **FLAGS)
        operation = service.verb("moved", "start")
        wait_until(lambda: dest.sql("SELECT FROM pg_roles WHERE rolname = 'app'"), 40, "the roles")
        wait_until(lambda: service.sql("SELECT json_extract(body, '$.run.newPasswords') FROM resource WHERE name = ?",
                                       f"{JOBS}/moved") != [(None,)], 40, "the names in the store")
        service.kill()
        for word in ("session", "worker"):
            service.kill_processes(word)
        shutil.rmtree(os.path.join(service.folder, "sessions"))
        service.env = None
        service.start()
        service.end_of(operation, 60)
        service.wait_ready("moved", timeout=60)
        assert_given_out_once(service, dest, {"app", ODD, "mover"})


def test_only_for_admins_and_gone_with_the_job(service, servers):
    service.done("moved", "start", timeout=60)
    token = json.loads(service.program("tokens", "create", "--role", "operator", "--name", "op", "--json",
                                       f"--state-dir={service.folder}").stdout.splitlines()[0])["token"]
    answer = service.request("POST", f"{JOBS}/moved:fetchPasswords", {}, {"Authorization": f"Bearer {token}"})
    assert answer.status == 403, answer
    assert service.sql("SELECT count(*) FROM secret WHERE field = 'newPasswords'") == [(1,)]
