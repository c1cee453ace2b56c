"""A look at the instance and what others do meanwhile: databases that are the application's already, the end of the job,
and locks of the destination that somebody keeps."""
import pytest

from support.cluster import Database, wait_until
from support.trouble import SCHEMA, assert_equal
from test_service_look_killed import scene  # noqa: F401 (fixture)
from test_service_two import filter_of

pytestmark = pytest.mark.turns(3)


def databases_of(cluster):
    return {name for name, in cluster.sql("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'")}


def waiting_for(service):
    return service.job("all").get("progress", {}).get("waitingFor", "")


def test_a_database_that_is_the_applications_is_not_made_again(scene):  # noqa: F811
    """Promoted, and renamed on the destination since: neither a resume nor a promote of all makes it again, empty."""
    service, dest = scene.service, scene.dest
    service.done("all", "promote", {"objectsFilter": filter_of("one")}, timeout=90)
    dest.sql("ALTER DATABASE one RENAME TO one_live")
    service.done("all", "stop")
    service.done("all", "resume")
    service.wait_ready("all", 90)
    scene.source.sql("CREATE ROLE fresh LOGIN PASSWORD 'new'")
    service.done("all", "promote", timeout=90)
    assert service.job("all")["state"] == "COMPLETED"
    assert databases_of(dest) == {"two", "one_live"}
    assert_equal(Database(scene.source, "two"), Database(dest, "two"))
    assert_equal(Database(scene.source, "one"), Database(dest, "one_live"))
    assert dest.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'fresh'") == [(1,)]


def test_a_job_of_all_is_not_complete_before_the_list(scene):  # noqa: F811
    """What is promoted by name is all that the job has: what is new is taken in all the same, or the job would leave a
    database that nobody fills, made by a look that outlives it."""
    service = scene.service
    service.done("all", "stop")
    scene.source.createdb("late").sql(SCHEMA)
    scene.source.sql("CREATE ROLE fresh LOGIN PASSWORD 'new'")
    with scene.dest.connect() as conn:
        conn.execute("BEGIN; CREATE ROLE fresh LOGIN")  # what lists waits for it
        service.done("all", "resume")
        service.wait_ready("all", 90)
        service.done("all", "promote", {"objectsFilter": filter_of("one", "two")}, timeout=90)
        wait_until(lambda: "listed once more" in waiting_for(service), what="the job to wait for the list")
        assert service.job("all")["state"] == "RUNNING" and "late" not in service.objects("all")
        conn.execute("ROLLBACK")
    wait_until(lambda: service.objects("all").get("late", {}).get("phase") == "READY_FOR_PROMOTE", 90, "late to follow")
    service.done("all", "promote", {"objectsFilter": filter_of("late")}, timeout=90)
    assert service.wait_for("all", "COMPLETED")["state"] == "COMPLETED" and scene.look() == []
    assert databases_of(scene.dest) == {"one", "two", "late"}
    for name in ("one", "two", "late"):
        assert_equal(Database(scene.source, name), Database(scene.dest, name))


def test_a_lock_that_somebody_keeps(scene):  # noqa: F811
    """The promote says what it waits for, and who is in the way; called off, its look ends, too."""
    service = scene.service
    scene.source.sql("CREATE ROLE fresh LOGIN PASSWORD 'new'")
    with scene.dest.connect() as conn:
        conn.execute("BEGIN; CREATE ROLE fresh LOGIN")
        operation = service.verb("all", "promote")
        wait_until(lambda: "roles and databases of both servers are compared" in waiting_for(service), what="it to be said")
        wait_until(lambda: "(harness), idle in transaction" in waiting_for(service), what="the holder to be named")
        service.good(service.post(f"{operation['name']}:cancel", {}))
        assert "error" in service.end_of(operation)
        wait_until(lambda: not scene.look(), 10, "the look to end")
        conn.execute("ROLLBACK")
    service.done("all", "promote", timeout=90)
    assert waiting_for(service) == ""
    scene.assert_moved()
