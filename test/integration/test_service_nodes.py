"""Several nodes of one service, on one PostgreSQL store: any may be lost at any moment."""
import contextlib
import random
import time

import pytest

from support.api import JOBS
from support.cluster import wait_until
from support.service import Service
from support.trouble import SCHEMA, Writer, assert_equal

TAKE_OVER_S = 15  # what is promised


@pytest.fixture
def nodes(tmp_path, own_cluster):
    """make(count): that many, each with a folder of its own."""
    store = own_cluster("store")
    with contextlib.ExitStack() as made:
        def make(count):
            first = Service(tmp_path / "node0", f"--store={store.uri()}")
            others = [Service(tmp_path / f"node{n}", f"--store={store.uri()}", f"--key-file={first.folder}/keys")
                      for n in range(1, count)]
            return [made.enter_context(node) for node in (first, *others)]
        yield make


def databases(source, dest, names, made):
    pairs = [(source.createdb(name), dest.createdb(name)) for name in names]
    for pair in pairs:
        pair[0].sql(SCHEMA)
        for database in pair:
            made.callback(database.drop)
    return pairs


def test_a_node_is_lost(nodes, source, dest):
    """The one that has the job is killed, its session as well or not: another goes on within 15 s."""
    with contextlib.ExitStack() as made:
        ((shop, copy),) = databases(source, dest, ["shop"], made)
        first, second = nodes(2)
        first.job_of("move", source, dest, ["shop"])
        first.done("move", "start")
        first.wait_ready("move")
        (owner,) = [node for node in (first, second) if node.pids("session")]
        (other,) = [node for node in (first, second) if node is not owner]
        writer = made.enter_context(Writer(shop))
        owner.kill()
        killed = time.monotonic()
        wait_until(lambda: other.pids("session"), 60, "another node to take over")
        assert time.monotonic() - killed < TAKE_OVER_S
        wait_until(lambda: not owner.pids("session"), 60, "the session of the lost node to be fenced")
        other.wait_ready("move")
        writer.wait_for(20)
        owner.start()  # comes back, and leaves the job alone
        other.done("move", "promote")
        assert not owner.pids("session")
        writer.stop()
        assert_equal(shop, copy)
        assert shop.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []


@pytest.mark.turns(3)
def test_random_kills(nodes, source, dest):
    """Three nodes, five jobs under load; nodes, sessions and workers are killed now and then. All are promoted, all equal."""
    rng = random.Random(7)
    names = [f"shop{n}" for n in range(5)]
    with contextlib.ExitStack() as made:
        pairs = databases(source, dest, names, made)
        all_nodes = nodes(3)
        for name in names:
            all_nodes[0].job_of(name, source, dest, [name])
        writers = [made.enter_context(Writer(pair[0], 0.05)) for pair in pairs]
        for name in names:
            all_nodes[0].verb(name, "start")
        for _ in range(8):
            time.sleep(rng.uniform(0.5, 4))
            node = rng.choice(all_nodes)
            what = rng.choice(("node", "session", "worker"))
            if what == "node":
                node.kill()
                time.sleep(rng.uniform(0, 3))
                node.start()
            else:
                node.kill_processes(what)
        for name in names:
            settled(all_nodes[0], name)
        for name in names:  # what was lost may be found out only now, and a job that is resumed takes no promote
            wait_until(lambda name=name: all_nodes[0].post(f"{JOBS}/{name}:promote").status == 200, 120, f"{name} to take it")
        for name in names:
            all_nodes[0].wait_for(name, "COMPLETED", timeout=120)
        for writer in writers:
            writer.stop()
        for pair in pairs:
            assert_equal(*pair)
        assert source.sql("SELECT slot_name FROM pg_replication_slots WHERE database LIKE 'shop%'") == []


def settled(node, name):
    """Ready; a job that was lost more often than it is begun again by itself is resumed, as a person would."""
    def ready():
        job = node.job(name)
        if job["state"] == "FAILED" and "nextRetryTime" not in job:
            node.verb(name, "resume")
        return job["state"] == "RUNNING" and job.get("phase") == "READY_FOR_PROMOTE"
    wait_until(ready, 120, f"{name} to be ready: {node.log()[-2000:]}")
