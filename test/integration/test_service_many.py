"""Many jobs at once on one node: started together, followed, promoted together."""
import contextlib
import time

import pytest

from support.api import JOBS
from support.cluster import wait_until
from support.service import Service
from support.trouble import SCHEMA, Writer, assert_equal

pytestmark = pytest.mark.turns(4)

COUNT, WRITTEN = 6, 2
ROOM = {"max_connections": "400", "max_wal_senders": "40", "max_replication_slots": "40"}


@pytest.fixture
def pairs(make_cluster):
    """A database for each job, on both sides."""
    source, dest = (make_cluster(f"many_{side}", config=ROOM) for side in ("source", "dest"))
    source.createdb("many").sql(SCHEMA)
    made = []
    for number in range(COUNT):
        made.append((source.createdb(f"many_{number}", "TEMPLATE many"), dest.createdb(f"many_{number}")))
    yield made


@pytest.fixture
def service(tmp_path, pairs):
    with Service(tmp_path / "service") as running:
        for name, database in zip(("from", "to"), pairs[0]):
            running.profile(name, database.cluster)
        for number, (source, _) in enumerate(pairs):
            running.create_job(f"j{number}", "from", "to", [source.name])
        yield running


def wait_for_all(service, state, phase=None, timeout=150):
    def reached():
        time.sleep(0.3)  # looking costs, too
        jobs = service.good(service.get(JOBS))["migrationJobs"]
        failed = [job for job in jobs if job["state"] == "FAILED"]
        assert not failed, failed
        return len(jobs) == COUNT and all(job["state"] == state and phase in (None, job.get("phase")) for job in jobs)
    wait_until(reached, timeout, f"all jobs to be {state} {phase}")


def test_many_jobs_at_once(service, pairs):
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(Writer(source, 0.1)) for source, _ in pairs[:WRITTEN]]
        for number in range(COUNT):
            service.verb(f"j{number}", "start")
        wait_for_all(service, "RUNNING", "READY_FOR_PROMOTE")
        assert len(service.pids("session")) == COUNT
        for writer in writers:
            writer.wait_for(3)
        for number in range(COUNT):
            service.verb(f"j{number}", "promote")
        wait_for_all(service, "COMPLETED")
    for source, dest in pairs:
        assert_equal(source, dest)
    assert pairs[0][0].cluster.sql("SELECT slot_name FROM pg_replication_slots") == []
    wait_until(lambda: not service.pids("session"), what="the sessions to end")
