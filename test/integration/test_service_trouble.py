"""What stands in the way of a job on its own node: it is said, tried again after a pause, and keeps nobody else waiting."""
import contextlib
import os
import signal
import time

import pytest

from support.api import JOBS
from support.cluster import wait_until
from support.program import Program
from support.service import Service
from support.trouble import SCHEMA, slots_of

pytestmark = pytest.mark.turns(3)


@pytest.fixture(scope="module")
def servers(make_cluster):
    return make_cluster("trouble_source"), make_cluster("trouble_dest")


@pytest.fixture
def shop(servers):
    source, dest = (cluster.createdb("shop") for cluster in servers)
    source.sql(SCHEMA)
    yield source, dest
    for database in (source, dest):
        database.drop()


@pytest.fixture
def service(tmp_path, servers):
    with Service(tmp_path / "service") as running:
        yield running


def job_folder(service, name):
    ((uid,),) = service.sql("SELECT uid FROM resource WHERE name = ?", f"{JOBS}/{name}")
    return os.path.join(service.folder, "sessions", uid)


@contextlib.contextmanager
def halted(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_session_that_is_halted(service, servers, shop):
    """It hears of the stop when it goes on; asking it again and again keeps no other job waiting."""
    service.job_of("move", *servers, ["shop"])
    service.done("move", "start")
    service.wait_ready("move")
    with halted(service.pids("session")):
        stop = service.verb("move", "stop")
        time.sleep(6)  # as many questions as fill the socket's queue
        service.create_job("other", "move-from", "move-to", ["absent"])
        assert "error" in service.end_of(service.verb("other", "start"), 20)
    assert "error" not in service.end_of(stop)
    service.remove("move")


def test_flags_that_are_wrong_do_not_keep_it(service, servers, shop):
    service.job_of("move", *servers, ["shop"])
    service.done("move", "start")
    service.wait_ready("move")
    service.done("move", "stop")
    service.finished(service.patch(f"{JOBS}/move", {"dumpFlags": {"dumpFlags": [{"name": "nonsense"}]}},
                                   updateMask="dumpFlags"))
    service.remove("move")
    assert slots_of(shop[0]) == []


def test_the_pause_between_removals(service, servers, shop):
    """Nothing is begun before it is over, and its error is told once."""
    service.job_of("move", *servers, ["shop"])
    service.done("move", "start")
    service.wait_ready("move")
    service.done("move", "stop")
    folder = job_folder(service, "move")
    os.rename(folder, folder + ".away")
    with open(folder, "w", encoding="ascii"):
        delete = service.good(service.delete(f"{JOBS}/move"))
        wait_until(lambda: "nextRetryTime" in service.job("move"), 20, "the pause")
        time.sleep(3)
        events = [e["kind"] for e in service.good(service.get(f"{JOBS}/move/events"))["events"]]
        assert events.count("FATAL") == 1, events
    os.remove(folder)
    assert "error" not in service.end_of(delete)
    assert slots_of(shop[0]) == []


def test_no_session_can_be_begun(service, servers, shop):
    """Nobody may write to its folder: the job says so, and goes on by itself when that has passed."""
    service.job_of("move", *servers, ["shop"])
    folder = job_folder(service, "move")
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with open(folder, "w", encoding="ascii"):
        operation = service.end_of(service.verb("move", "start"), 20)
    assert folder in operation["error"]["message"], operation
    assert "nextRetryTime" in service.job("move")
    os.remove(folder)
    service.wait_ready("move")


def test_a_pipe_instead_of_a_file(service, servers, shop):
    service.job_of("move", *servers, ["shop"])
    service.done("move", "start")
    service.wait_ready("move")
    service.done("move", "stop")
    for folder, _, names in os.walk(job_folder(service, "move")):
        if "status.json" in names:
            os.remove(os.path.join(folder, "status.json"))
            os.mkfifo(os.path.join(folder, "status.json"))
    service.verb("move", "resume")
    time.sleep(1)
    service.create_job("other", "move-from", "move-to", ["absent"])
    assert "error" in service.end_of(service.verb("other", "start"), 20)


def test_nothing_is_left_in_the_folder(service, servers, shop):
    service.job_of("move", *servers, ["shop"])
    service.done("move", "verify")
    service.done("move", "start")
    service.wait_ready("move")
    service.remove("move")
    wait_until(lambda: not service.pids("session"), what="the sessions to end")
    left = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(service.folder, "sessions"))
            for name in names]
    assert left == []


def test_two_jobs_of_the_same_databases(service, servers, shop):
    """The second is refused by the first's ledger; its removal touches nothing of the first."""
    service.job_of("first", *servers, ["shop"])
    service.create_job("second", "first-from", "first-to", ["shop"])
    service.done("first", "start")
    service.wait_ready("first")
    sessions = service.pids("session")
    operation = service.end_of(service.verb("second", "start"), 120)
    assert operation["error"]["details"][0]["reason"] == "FENCED", operation
    slots = slots_of(shop[0])
    service.remove("second")
    assert slots_of(shop[0]) == slots and len(slots) == 1
    assert set(sessions) <= set(service.pids("session"))
    service.wait_ready("first")
    service.done("first", "promote")


def test_what_was_added_is_not_there(service, servers, shop):
    """The object says why; a promote of all is refused, and one of the others by name is not taken for one of all."""
    service.job_of("move", *servers, ["shop"])
    service.done("move", "start")
    service.wait_ready("move")
    listed = [{"objectIdentifier": {"type": "DATABASE", "database": name}} for name in ("shop", "absent")]
    objects = {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": listed}}
    service.good(service.patch(f"{JOBS}/move", {"objectsConfig": objects}, updateMask="objectsConfig"))
    wait_until(lambda: service.objects("move").get("absent", {}).get("state") == "FAILED", 30, "the object to fail")
    assert service.objects("move")["absent"]["error"]["details"][0]["reason"] == "PREFLIGHT_FAILED"
    assert service.job("move")["state"] == "RUNNING"
    status, message = service.post(f"{JOBS}/move:promote").error()
    assert status == "FAILED_PRECONDITION" and "absent (FAILED)" in message, message
    service.done("move", "promote", {"objectsFilter": {"sourceObjectsConfig": {
        "objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": listed[:1]}}}, timeout=60)
    assert service.objects("move")["shop"]["phase"] == "PROMOTED" and service.job("move")["state"] != "COMPLETED"


def test_a_link_instead_of_the_certificates_folder(tmp_path):
    """Somebody else made it, where anybody may: what it leads to is not ours to tidy."""
    kept = tmp_path / "kept" / "backup-4194000.tar"
    kept.parent.mkdir()
    kept.touch()
    folder, number = str(tmp_path / "session"), 0xcbf29ce484222325
    for byte in folder.encode():
        number = ((number ^ byte) * 0x100000001b3) % 2**64
    (tmp_path / f"pgcrane-tls-{os.getuid()}-{number:016x}").symlink_to(kept.parent)
    Program(tmp_path / "state").run("session", folder, env={"RUNTIME_DIRECTORY": str(tmp_path)})
    assert kept.exists()
