"""Jobs into servers that the service makes: the whole life of one, load mode, and what may happen to it."""
import glob
import json
import os

import psycopg
import pytest

from support.api import JOBS, PROFILES
from support.job_table import read_rows
from support.made import INSTANCES, ShortFolder, made_database, serving
from support.trouble import SCHEMA, Writer, assert_equal

PRODUCTION = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "wal_level": "replica"}


@pytest.fixture
def folder():
    with ShortFolder() as path:
        yield path


@pytest.fixture
def service(folder, source):
    with serving(folder) as running:
        yield running


@pytest.fixture
def slow_service(folder, source):
    """Its copies take long enough to be met."""
    with serving(folder, PGCRANE_FAILPOINT="copy.before_chunk:sleep=4000") as running:
        yield running


@pytest.fixture
def shop(source):
    database = source.createdb("shop")
    database.sql(SCHEMA)
    yield database
    database.drop()


def test_from_nothing_to_the_primary(service, source, shop):
    """Made, filled in load mode, followed, promoted; it stays when job and profile are gone, until it is removed by name."""
    profile = service.make("new")
    assert profile["state"] == "READY" and profile["cloudsql"]["cloudSqlId"] == "new"
    assert "password" not in str(service.instance("new")).lower()
    assert service.instance("new")["mode"] == "MIGRATING"
    service.profile("old", source)
    service.create_job("move", "old", "new", ["shop"])
    service.verb("move", "start")
    modes = set()
    service.wait(lambda: modes.add(service.instance("new").get("mode")) or
                 service.job("move").get("phase") == "READY_FOR_PROMOTE", "the job to be ready")
    assert "LOAD" in modes, modes
    new = made_database(service, "new", "shop")
    settings = dict(new.sql("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", (list(PRODUCTION),)))
    assert settings == PRODUCTION and service.instance("new")["mode"] == "MIGRATING"
    body, mask = {"cloudsql": {"settings": {"rootPassword": "x"}}}, "cloudsql.settings.rootPassword"
    assert "works with the password" in service.patch(f"{PROFILES}/new", body, updateMask=mask).text
    with Writer(shop) as writer:
        writer.wait_for(20)
        assert service.done("move", "promote")["state"] == "COMPLETED"
    assert_equal(shop, new)
    service.wait(lambda: service.instance("new")["mode"] == "PRIMARY" and service.instance("new")["state"] == "RUNNABLE",
                 "the instance to be the primary")
    service.remove("move", force=True)  # which removes servers, but none that was promoted
    assert service.get(f"{PROFILES}/new").status == 404 and service.instance("new")["state"] == "RUNNABLE"
    assert new.sql("SELECT count(*) > 0 FROM item") == [(True,)]
    refused = service.delete(f"{INSTANCES}/new")
    assert refused.status == 400 and "force" in refused.text
    gone = service.end_of(service.good(service.delete(f"{INSTANCES}/new", force=True)))
    assert "error" not in gone and service.get(f"{INSTANCES}/new").status == 404
    assert not [f for f in os.listdir(os.path.join(service.folder, "instances")) if f.startswith("new")]


def test_it_goes_down_while_it_is_filled(service, source, shop):
    """What was in it is worth nothing: it is made anew, the copy begins anew, and nothing of the first one is left on the
    source."""
    service.make("new")
    service.profile("old", source)
    service.create_job("move", "old", "new", ["shop"])
    with shop.connect() as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        service.verb("move", "start")
        service.wait(lambda: service.instance("new")["mode"] == "LOAD" and service.pids("worker"), "the load")
        before = service.instance("new")["systemIdentifier"]
        service.crash("new")
        service.wait(lambda: service.instance("new").get("systemIdentifier") != before, "another server")
        blocker.execute("COMMIT")
    service.wait_ready("move", 120)
    events = [e["kind"] for e in service.good(service.get(f"{JOBS}/move/events"))["events"]]
    assert "DEST_LOST" in events, events
    assert len(source.sql("SELECT slot_name FROM pg_replication_slots")) == 1
    assert service.done("move", "promote")["state"] == "COMPLETED"
    assert_equal(shop, made_database(service, "new", "shop"))


def test_it_goes_down_later(service, source, shop):
    """A durable one is started again, with the daemon or without, and the job goes on."""
    service.make("new")
    service.profile("old", source)
    service.create_job("move", "old", "new", ["shop"])
    service.done("move", "start", timeout=90)
    service.wait_ready("move", 90)
    before = service.postmaster("new")
    with Writer(shop) as writer:
        writer.wait_for(10)
        service.crash("new")
        service.wait(lambda: service.instance("new")["state"] == "RUNNABLE" and service.postmaster("new") != before,
                     "the server to run again")
        writer.wait_for(20)
        service.stop()
        service.crash("new")
        service.start()
        service.wait(lambda: service.instance("new")["state"] == "RUNNABLE", "the server to run with the daemon")
        writer.wait_for(30)
        service.wait_ready("move", 90)
        assert service.done("move", "promote")["state"] == "COMPLETED"
    assert_equal(shop, made_database(service, "new", "shop"))


@pytest.mark.turns(2)
def test_it_is_lost_on_the_way_out_of_load(folder, source, shop):
    """The machine goes down when the server was stopped and nothing synchronized: as lost as in the middle of the load."""
    with serving(folder, PGCRANE_FAILPOINT="provision.leave.stop:sleep=8000") as service:
        service.make("new")
        service.profile("old", source)
        service.create_job("move", "old", "new", ["shop"])
        service.verb("move", "start")
        service.wait(lambda: "sleeping" in provision_log(service), "the server to be stopped")
        before = service.instance("new")["systemIdentifier"]
        with open(service.place("new", "load"), encoding="utf-8") as file:
            marker = json.load(file)
        with open(service.place("new", "load"), "w", encoding="utf-8") as file:
            json.dump({**marker, "boot": "another"}, file)
        service.wait(lambda: service.events("move", "DEST_LOST"), "the job to hear of it")
        service.wait_ready("move", 120)
        assert service.instance("new")["systemIdentifier"] != before and service.instance("new")["mode"] == "MIGRATING"
        assert len(source.sql("SELECT slot_name FROM pg_replication_slots")) == 1
        assert service.done("move", "promote")["state"] == "COMPLETED"
        assert_equal(shop, made_database(service, "new", "shop"))


def provision_log(service):
    (path,) = glob.glob(os.path.join(service.folder, "provision", "*", "session.log"))
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


@pytest.mark.parametrize("settings, words", [
    ({"databaseVersionName": "POSTGRES_98"}, ["98"]),
    ({"databaseVersionName": "POSTGRES_12"}, ["too old", "at least 13"]),
    ({"databaseFlags": {"no_such_setting": "1", "work_mem": "much"}}, ["no_such_setting", "work_mem"]),
])
def test_what_cannot_be_made(service, source, settings, words):
    """All that is wrong at once; a job that waits for it says so, and nothing is left."""
    operation = service.end_of(service.ask_to_make("new", **settings))
    for word in words:
        assert word in operation["error"]["message"], operation
    assert operation["error"]["details"][0]["reason"] == "PROVISION_REFUSED"
    assert service.good(service.get(f"{PROFILES}/new"))["state"] == "FAILED"
    service.profile("old", source)
    body = {"type": "CONTINUOUS", "source": f"{PROFILES}/old", "destination": f"{PROFILES}/new"}
    made = service.end_of(service.good(service.post(JOBS, body, migrationJobId="move")))
    assert words[0] in made["error"]["message"] and service.job("move")["state"] == "FAILED"
    service.remove("move")


def test_what_no_server_starts_with(service):
    """It ends, with the server's words; what only memory is missing for goes on, says so, and can be called off."""
    operation = service.end_of(service.ask_to_make("new", databaseFlags={"shared_preload_libraries": "no_such_library"}))
    message = operation["error"]["message"]
    assert 'could not access file "no_such_library"' in message and "(flag shared_preload_libraries)" in message, operation
    assert service.instance("new")["state"] == "FAILED" and service.good(service.get(f"{PROFILES}/new"))["state"] == "FAILED"
    name = service.ask_to_make("big", databaseFlags={"shared_buffers": "7000GB"})["name"]
    service.wait(lambda: "tried again at 20" in service.good(service.get(name))["metadata"].get("statusMessage", ""), "what it says")
    assert "memory" in service.good(service.get(name))["metadata"]["statusMessage"]
    service.good(service.post(f"{name}:cancel"))
    over = service.end_of({"name": name})
    assert "memory" in over["error"]["message"] and service.instance("big")["state"] == "FAILED", over


def logs_in(service, password):
    try:
        at = service.instance("new")
        psycopg.connect(host=at["host"], port=at["port"], user=at["username"], password=password, dbname="postgres").close()
    except psycopg.OperationalError as error:
        assert "password authentication failed" in str(error)
        return False
    return True


def test_its_password_is_changed(service):
    """By the profile: the operation ends when it is the server's."""
    def patch(settings, mask="cloudsql.settings.rootPassword"):
        return service.patch(f"{PROFILES}/new", {"cloudsql": {"settings": settings}}, updateMask=mask)

    service.make("new")
    old, new = "of the new server", "another one's 'too'"
    assert logs_in(service, old) and not logs_in(service, new)
    operation = service.end_of(service.good(patch({"rootPassword": new})))
    assert operation["metadata"]["verb"] == "update" and operation["response"]["state"] == "READY", operation
    assert logs_in(service, new) and not logs_in(service, old)
    at = service.instance("new")
    assert at["state"] == "RUNNABLE" and new not in str([at, operation]) + service.log()
    profile = service.good(service.get(f"{PROFILES}/new"))
    whole = profile["cloudsql"]["settings"]
    assert "error" not in service.end_of(service.good(patch(whole, "cloudsql")))
    assert service.good(service.get(f"{PROFILES}/new"))["cloudsql"] == profile["cloudsql"]
    for refused in (patch({"rootPassword": ""}), patch({}), patch({"databaseFlags": {"work_mem": "7MB"}}, "cloudsql.settings"),
                    patch({**whole, "databaseFlags": {"work_mem": "7MB"}}, "cloudsql")):
        assert refused.status == 400 and logs_in(service, new), refused


def test_its_log_can_be_read(service):
    """By those who may ask for it, by the operation's name; it may have data of users, so no viewer and no list has it."""
    service.make("new")
    operation = service.end_of(service.good(service.post(f"{INSTANCES}/new:readLog")))
    assert "ready to accept connections" in operation["response"]["log"], operation
    tokens = {role: make_token(service, role) for role in ("viewer", "operator")}
    name, found = operation["name"], {}
    for role, service.token in tokens.items():
        shown = [service.good(service.get(name)), service.good(service.post(f"{name}:wait"))]
        listed = [service.get(name.rsplit("/", 1)[0], **query) for query in (
            {}, {"filter": "done = true"}, {"filter": 'response.log:"ready"'}, {"orderBy": "done"}, {"prettyPrint": "true"})]
        assert {answer.status for answer in listed} == {200} and not any("accept connections" in answer.text for answer in listed)
        assert name in listed[0].text and name not in listed[2].text
        found[role] = ["accept connections" in answer["response"].get("log", "") for answer in shown]
        assert service.post(f"{INSTANCES}/new:readLog").status == (403 if role == "viewer" else 200)
    assert found == {"viewer": [False, False], "operator": [True, True]}


def make_token(service, role):
    made = service.program("tokens", "create", "--role", role, "--state-dir", service.folder)
    assert made.code == 0, made
    return made.stdout.strip()


@pytest.mark.turns(2)
def test_what_another_job_left_is_not_risked(service, source, shop):
    """Load mode is for a server that nobody has used: not even a job that is gone."""
    stats = source.createdb("stats")
    stats.sql(SCHEMA)
    service.make("new")
    service.profile("old", source)
    service.create_job("move", "old", "new", ["shop"])
    service.done("move", "start", timeout=90)
    service.wait_ready("move", 90)
    service.remove("move")
    assert source.sql("SELECT slot_name FROM pg_replication_slots") == []
    service.finished(service.post(PROFILES, {"postgresql": {"cloudSqlId": "new"}}, connectionProfileId="again"))
    service.create_job("second", "old", "again", ["stats"])
    service.verb("second", "start")
    modes = set()
    service.wait(lambda: modes.add(service.instance("new").get("mode")) or
                 service.job("second").get("phase") == "READY_FOR_PROMOTE", "the second job to be ready")
    assert modes == {"MIGRATING"}
    assert service.delete(f"{INSTANCES}/new", force=True).status == 400  # a profile leads to it
    service.remove("second", force=True)
    assert made_database(service, "new", "shop").sql("SELECT count(*) > 0 FROM item") == [(True,)]
    service.finished(service.delete(f"{PROFILES}/again"))
    stats.drop()


@pytest.mark.turns(2)
def test_it_goes_down_again_and_again(slow_service, source, shop):
    """While the job is stopped, while it begins anew, and too often; whoever resumes it then has it go on, with both databases."""
    service, stats = slow_service, source.createdb("stats")
    stats.sql(SCHEMA)
    service.make("new")
    service.profile("old", source)
    service.create_job("move", "old", "new", ["shop", "stats"])
    seen = []

    def loads():
        there = service.instance("new")
        return there["state"] == "RUNNABLE" and there["mode"] == "LOAD" and there["systemIdentifier"] not in seen

    def crash():
        seen.append(service.instance("new")["systemIdentifier"])
        service.crash("new")

    def has_given_up():
        job = service.job("move")
        return job["state"] == "FAILED" and "nextRetryTime" not in job

    service.verb("move", "start")
    service.wait(lambda: loads() and service.job("move").get("phase") == "FULL_DUMP", "the load")
    assert service.done("move", "stop")["phase"] == "FULL_DUMP"
    crash()
    service.verb("move", "resume")
    for _ in range(6):
        service.wait(lambda: loads() or has_given_up(), "another server, or the end")
        if has_given_up():
            break
        crash()
    assert has_given_up() and "went down" in service.job("move")["error"]["message"], service.job("move")
    service.verb("move", "resume")
    service.wait_ready("move", 120)
    told = {e["message"] for e in service.good(service.get(f"{JOBS}/move/events", pageSize=1000))["events"] if e["kind"] == "DEST_LOST"}
    assert told == {row.comment for row in read_rows() if row.event == "DEST_LOST"}
    assert source.sql("SELECT database FROM pg_replication_slots ORDER BY 1") == [("shop",), ("stats",)]
    assert service.done("move", "promote")["state"] == "COMPLETED"
    for database in (shop, stats):
        assert_equal(database, made_database(service, "new", database.name))
    stats.drop()


def test_on_the_command_line(service, tmp_path):
    """Made, shown, read, and removed only when one says so."""
    env = {"PGCRANE_SERVER": f"http://127.0.0.1:{service.port}"}
    options = ("--project=my-project", "--location=us-central1")
    password = tmp_path / "password"
    password.write_text("of my own\n", encoding="ascii")
    password.chmod(0o600)

    def run(*words):
        return service.program.run("instances", *words, *options, env=env)

    assert run("create", "crane").code == 64
    made = run("create", "crane", "--pg-version=15", "--tier=db-custom-1-512", "--flag=work_mem=7MB", f"--password-file={password}")
    assert made.code == 0 and "of my own" not in made.stdout + made.stderr, made
    listed = run("list")
    assert "crane" in listed.stdout and "RUNNABLE" in listed.stdout and "POSTGRES_15" in listed.stdout, listed
    shown = run("describe", "crane")
    at = service.instance("crane")
    assert f"127.0.0.1:{at['port']}" in shown.stdout, shown
    with psycopg.connect(host=at["host"], port=at["port"], user=at["username"], password="of my own", dbname="postgres") as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
    assert "ready to accept connections" in run("logs", "crane").stdout
    assert run("delete", "crane", "--yes").code != 0  # its profile leads to it
    gone = service.program.run("profiles", "delete", "crane", "--yes", *options, env=env)
    assert gone.code == 0 and service.instance("crane")["state"] == "RUNNABLE", gone
    assert run("delete", "crane", "--yes").code != 0
    assert run("delete", "crane", "--yes", "--force").code == 0 and service.get(f"{INSTANCES}/crane").status == 404
