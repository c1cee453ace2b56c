"""Slots and replication streams against real servers: runs the C test test_repl_live with servers to talk to."""
import os
import subprocess

import pytest

from support.cluster import Cluster
from support.program import find_program


def live_test():
    path = os.path.join(os.path.dirname(find_program()), "unit-pg-test_repl_live")
    if not os.access(path, os.X_OK):
        pytest.skip("the unit tests are not built beside the program")
    return path


@pytest.mark.parametrize("major", [10, 13, 14, 15, 16, 17, 18, 19])
def test_slots_and_streams(major):
    program = live_test()
    source = Cluster("repl", major, {"max_replication_slots": 7, "max_wal_senders": 4})
    try:
        replica = Cluster("replica", major, {"wal_level": "replica"})
        try:
            source.start()
            replica.start()
            env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
            env.update(PGCRANE_TEST_SOURCE=source.uri() + "?sslmode=disable",
                       PGCRANE_TEST_REPLICA=replica.uri() + "?sslmode=disable", CMOCKA_MESSAGE_OUTPUT="TAP")
            run = subprocess.run([program], env=env, capture_output=True, text=True, timeout=110, check=False)
        finally:
            replica.remove()
    finally:
        source.remove()
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# SKIP" not in run.stdout, run.stdout
    assert run.stdout.count("\nok ") == 15, run.stdout
