"""A job's whole life by the commands of the real `gcloud database-migration`, against real servers."""
import pytest

from support.api import JOBS, LOCATION, PROFILES
from support.cluster import wait_until
from support.gcloud import Gcloud
from support.service import Service
from support.trouble import SCHEMA, Writer, assert_equal

pytestmark = pytest.mark.turns(3)

PROFILE, JOB, OBJECT, OPERATION = ("connection-profiles",), ("migration-jobs",), ("objects",), ("operations",)


@pytest.fixture(scope="module")
def servers(make_cluster):
    return make_cluster("gcloud_source"), make_cluster("gcloud_dest")


@pytest.fixture
def service(tmp_path, servers):
    with Service(tmp_path / "service") as running:
        yield running


@pytest.fixture
def gcloud(tmp_path, service):
    return Gcloud(tmp_path / "gcloud", service.port)


@pytest.fixture
def pair(servers):
    source, dest = (server.createdb("shop") for server in servers)
    source.sql(SCHEMA)
    yield source, dest
    source.drop()
    dest.drop()


def operation_of(shown):
    """The commands that change something show their operation."""
    assert shown["name"].startswith(LOCATION + "/operations/"), shown
    return shown["name"].rsplit("/", 1)[1]


def profiles(gcloud, servers):
    for name, cluster, role in zip(("old", "new"), servers, ("SOURCE", "DESTINATION")):
        shown = gcloud.json(*PROFILE, "create", "postgresql", name, "--host=127.0.0.1", f"--port={cluster.port}",
                            "--username=postgres", "--password=not asked for", f"--display-name={name}", f"--role={role}")
        assert shown["done"] is True and shown["response"]["state"] == "READY", shown
    assert "ALREADY_EXISTS" in gcloud.refused(*PROFILE, "create", "postgresql", "old", "--host=10.0.0.5", "--port=5432",
                                              "--username=u", "--password=p")
    shown = gcloud.json(*PROFILE, "update", "old", "--display-name=Old shop")
    assert shown["done"] is True and shown["metadata"]["verb"] == "update", shown
    old = gcloud.json(*PROFILE, "describe", "old")
    assert old["name"] == PROFILES + "/old" and old["displayName"] == "Old shop" and old["role"] == "SOURCE"
    assert old["postgresql"]["passwordSet"] is True and "password" not in old["postgresql"]
    listed = {row["CONNECTION_PROFILE_ID"]: row for row in gcloud.rows(*PROFILE, "list")}
    assert set(listed) == {"old", "new"} and listed["new"]["HOSTNAME/IP"] == "127.0.0.1", listed


def job(gcloud, service):
    shown = gcloud.json(*JOB, "create", "move", "--type=CONTINUOUS", "--source=old", "--destination=new",
                        "--databases-filter=shop", "--display-name=Move", "--no-async")
    assert shown is None or shown == [], shown
    assert service.job("move")["objectsConfig"]["sourceObjectsConfig"]["objectsSelectionType"] == "SPECIFIED_OBJECTS"
    said = gcloud.refused(*JOB, "promote", "move")
    assert "FAILED_PRECONDITION" in said and "NOT_STARTED" in said, said
    said = gcloud.good(*JOB, "fetch-source-objects", "move")
    assert "Fetched source objects for migration job move" in said.err and "shop" in said.out, said


def verb(gcloud, service, word):
    """Asks by gcloud, which does not wait for it; waits over the API, so that its many starts need not be waited for as well."""
    operation = operation_of(gcloud.json(*JOB, word, "move"))
    ended = service.end_of({"name": f"{LOCATION}/operations/{operation}"})
    assert "error" not in ended, ended
    return operation


def follows(gcloud):
    shown = gcloud.json(*JOB, "describe", "move")
    following = ("CDC", "READY_FOR_PROMOTE")  # with a writer at work it may be behind for a moment
    assert shown["state"] == "RUNNING" and shown["phase"] in following, shown
    assert shown["source"] == PROFILES + "/old" and shown["progress"]["lagBytes"] >= 0
    (row,) = gcloud.rows(*JOB, "list")
    assert row["MIGRATION_JOB_ID"] == "move" and row["REGION"] == "us-central1" and row["STATUS"] == "RUNNING", row
    (each,) = gcloud.json(*OBJECT, "list", "--migration-job=move")
    found = gcloud.json(*OBJECT, "lookup", "--migration-job=move", "--database=shop")
    assert each["name"] == found["name"] and found["phase"] in following, (each, found)


def removed(gcloud, service):
    gcloud.good(*JOB, "delete", "move")
    wait_until(lambda: service.get(JOBS + "/move").status == 404, 30, "the job to be removed")
    gcloud.good(*PROFILE, "delete", "old")
    assert [p["name"] for p in service.get(PROFILES)["connectionProfiles"]] == [PROFILES + "/new"]
    assert "NOT_FOUND" in gcloud.refused(*PROFILE, "describe", "old")


def test_the_life_of_a_job(gcloud, service, servers, pair):
    source, dest = pair
    profiles(gcloud, servers)
    job(gcloud, service)
    verified = verb(gcloud, service, "verify")
    assert gcloud.json(*OPERATION, "describe", verified)["metadata"]["verb"] == "verify"
    with Writer(source) as writer:
        verb(gcloud, service, "start")
        service.wait_ready("move")
        follows(gcloud)
        verb(gcloud, service, "stop")
        source.sql("INSERT INTO item VALUES (4711, 'while it was stopped')")
        verb(gcloud, service, "resume")
        service.wait_ready("move")
        writer.wait_for(20)
        promoted = verb(gcloud, service, "promote")
    assert service.job("move")["state"] == "COMPLETED"
    assert_equal(source, dest)
    assert source.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []
    listed = {row["ID"]: row for row in gcloud.rows(*OPERATION, "list")}
    assert listed[promoted]["ACTION"] == "promote" and listed[promoted]["DONE"] == "True", listed
    removed(gcloud, service)
