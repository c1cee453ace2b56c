"""Databases that are renamed, dropped, or lose their slot, while their job is stopped: what becomes of them, of the job, and of
what was made on the source."""
import pytest

from support.api import JOBS
from support.cluster import wait_until
from support.service import Service
from support.trouble import SCHEMA

pytestmark = pytest.mark.turns(3)

LEFT = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() UNION ALL SELECT pubname FROM pg_publication"


@pytest.fixture(scope="module")
def servers(make_cluster):
    return make_cluster("left_source"), make_cluster("left_dest")


@pytest.fixture
def service(tmp_path, servers):
    with Service(tmp_path / "service") as running:
        yield running


@pytest.fixture
def job_of(service, servers):
    """A job that follows, and is stopped. Its databases, under whatever names, are dropped in the end."""
    def make(*names):
        for name in names:
            servers[0].createdb(name).sql(SCHEMA)
            servers[1].createdb(name)
        service.job_of("move", *servers, list(names))
        service.done("move", "start")
        service.wait_ready("move", 90)
        service.done("move", "stop")
    yield make
    service.__exit__()  # nobody uses them any more
    for server in servers:
        server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'logical'")
        for (name,) in server.sql("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"):
            server.sql(f"DROP DATABASE {name} WITH (FORCE)")


def objects_of(*names):
    return {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS",
                                    "objectConfigs": [{"objectIdentifier": {"type": "DATABASE", "database": name}} for name in names]}}


def only(*names):
    return {"objectsFilter": objects_of(*names)}


def state_of(service, name):
    return service.objects("move")[name]["state"]


def drop_slot(source, name):
    source.sql(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{name}'")


def remedy_of(answer):
    return answer["error"]["details"][0]["metadata"]["remedy"]


def failures(service):
    listed = service.good(service.get(f"{JOBS}/move/events", pageSize=500))["events"]
    return [event["message"] for event in listed if event["kind"] == "DATABASE_FAILED"]


def no_ledger(server, *names):
    return all(server.sql("SELECT to_regclass('pgcrane.job') IS NULL", db=name) == [(True,)] for name in names)


def test_left_out(service, servers, job_of):
    """As the remedy of one that is not there says: what was made for it goes, also when the job is over by then."""
    source, dest = servers
    job_of("one", "two", "three", "four")
    source.sql("ALTER DATABASE two RENAME TO zwei; ALTER DATABASE four RENAME TO vier; ALTER DATABASE vier ALLOW_CONNECTIONS false")
    drop_slot(source, "three")
    source.sql("DROP DATABASE three")
    service.done("move", "resume")
    wait_until(lambda: {state_of(service, name) for name in ("two", "three", "four")} == {"FAILED"}, 60, "the failures")
    assert "jobs update JOB" in service.objects("move")["two"]["error"]["details"][0]["metadata"]["remedy"]
    service.wait_for("move", "RUNNING")
    service.end_of(service.good(service.patch(f"{JOBS}/move", {"objectsConfig": objects_of("one")}, updateMask="objectsConfig")))
    wait_until(lambda: state_of(service, "four") == "REMOVING" and "is dropped; publications" in service.job("move")["progress"]["waitingFor"],
               60, "the removal to fail, and the job to say so")
    service.wait_ready("move", 60)
    service.done("move", "promote")
    wait_until(lambda: {state_of(service, name) for name in ("two", "three", "four")} == {"NOT_SELECTED"}, 60, "the removals")
    job = service.job("move")
    assert job["state"] == "COMPLETED" and job["progress"]["waitingFor"] == "" and job["progress"]["tablesDone"] > 0, job
    (told,) = [text for text in failures(service) if "taken out" in text]
    assert "database four" in told and "in it: DROP PUBLICATION IF EXISTS" in told, told
    assert source.sql(LEFT, db="zwei") == [] and source.sql("SELECT 1 FROM pg_replication_slots") == []
    assert no_ledger(dest, "two", "three", "four")
    service.remove("move")


def test_deleted(service, servers, job_of):
    """Without force: one was renamed, of another the name is taken again, and the third is not there any more."""
    source, dest = servers
    job_of("one", "two", "three")
    source.sql("ALTER DATABASE one RENAME TO eins; ALTER DATABASE two RENAME TO zwei")
    source.createdb("two")
    drop_slot(source, "three")
    source.sql("DROP DATABASE three")
    service.remove("move", timeout=60)
    assert source.sql(LEFT, db="eins") == [] and source.sql(LEFT, db="zwei") == []
    assert no_ledger(dest, "one", "two", "three")


def test_slot_is_gone(service, servers, job_of):
    """Nothing is held by it, and what is told to be done mends it."""
    source, dest = servers
    job_of("one", "two")
    drop_slot(source, "two")
    service.done("move", "resume")
    wait_until(lambda: state_of(service, "two") == "FAILED", 60, "two to fail")
    anew = "pgcrane jobs restart move --database two"
    wait_until(lambda: "two has FAILED" in service.job("move")["progress"]["waitingFor"], 20, "the progress")
    waits = service.job("move")["progress"]["waitingFor"]
    assert "does not exist on the source" in waits and "holds WAL" not in waits and anew in waits, waits
    error = service.objects("move")["two"]["error"]
    remedy = error["details"][0]["metadata"]["remedy"]
    assert remedy.startswith(f"the changes since are gone: begin it anew: {anew}") and "--restart" not in remedy, remedy
    assert "pgcrane jobs restart move --database NAME" in remedy_of(service.post(f"{JOBS}/move:restart"))
    refused = service.post(f"{JOBS}/move:promote")
    assert anew in remedy_of(refused) and "resume" not in remedy_of(refused), refused
    assert service.done("move", "stop")["state"] == "STOPPED"  # which has failed nothing
    assert state_of(service, "two") == "FAILED"
    service.done("move", "resume")
    wait_until(lambda: {name: state_of(service, name) for name in ("one", "two")} == {"one": "RUNNING", "two": "FAILED"}, 60, "two to fail")
    service.done("move", "restart", only("two"))
    service.wait_ready("move", 60)
    # What another promote has done before is not this one's.
    service.done("move", "promote", only("one"))
    conn = dest.connect("two", autocommit=False)
    conn.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
    source.sql("INSERT INTO item VALUES (700001, 'late')", db="two")
    operation = service.verb("move", "promote")
    wait_until(lambda: service.objects("move")["two"]["phase"] == "PROMOTE_IN_PROGRESS", what="the promote")
    service.good(service.post(f"{operation['name']}:cancel", {}))
    ended = service.end_of(operation)
    conn.close()
    assert ended["error"]["code"] == 1 and "promoted all the same" not in ended["metadata"].get("statusMessage", ""), ended
    service.done("move", "promote", timeout=60)
    service.remove("move")


def test_publication_is_gone(service, servers, job_of):
    """The slot is still there, and what it holds grows: that is told, whether it was found while following or by a resume.
    What is told to be done mends it."""
    source, _ = servers
    job_of("one", "two")
    service.done("move", "resume")
    service.wait_ready("move", 60)
    [(slot,)] = source.sql("SELECT slot_name::text FROM pg_replication_slots WHERE database = 'two'")
    source.sql(f"DROP PUBLICATION {slot}_all", db="two")
    wait_until(lambda: state_of(service, "two") == "FAILED", 60, "two to fail")
    for _ in range(4):
        source.sql("UPDATE item SET n = n + 1; SELECT pg_switch_wal()", db="one")

    def told(measured):
        wait_until(lambda: "two has FAILED" in service.job("move")["progress"]["waitingFor"], 20, "the progress")
        waits = service.job("move")["progress"]["waitingFor"]
        error = service.objects("move")["two"]["error"]
        anew = "pgcrane jobs restart move --database two"
        assert f"its slot {slot} still holds WAL on the source, {measured}" in waits and "a publication" in waits and anew in waits, waits
        assert error["details"][0]["reason"] == "PUBLICATION_LOST" and f": begin it anew: {anew}" in remedy_of({"error": error}), error
        assert anew in remedy_of(service.post(f"{JOBS}/move:promote"))

    def held():
        source.sql("UPDATE item SET n = n + 1", db="one")
        source.sql("CHECKPOINT")  # what the slot of one needs to let go
        return dict(source.sql("SELECT database::text, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 FROM pg_replication_slots"))

    wait_until(lambda: (now := held())["one"] < now["two"] / 2, 60, "the other slot to let go")
    wait_until(lambda: service.job("move")["progress"].get("retainedBytes", 0) > held()["two"] * 0.9, 20, "what is held to be told")
    told("reckoned from what the others see since")
    service.done("move", "stop")
    service.done("move", "resume")
    wait_until(lambda: {name: state_of(service, name) for name in ("one", "two")} == {"one": "RUNNING", "two": "FAILED"}, 60, "two to fail")
    told("not measured since")  # it does not come so far
    service.done("move", "restart", only("two"))
    service.wait_ready("move", 60)
    service.remove("move", timeout=60)
    assert source.sql("SELECT 1 FROM pg_replication_slots") == [] and source.sql(LEFT, db="two") == []
