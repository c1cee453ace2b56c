"""Random kill -9 of the worker, the keeper or everything, each followed by the same command: always equal in the end.

PGCRANE_KILL_TRIALS trials (test/kill-soak runs many); PGCRANE_KILL_SEED makes them other ones. A trial's moments come
from its own number, so a failed one can be run again alone.
"""
import os
import random
import time

import pytest

from support import compare
from support.cluster import wait_until
from support.migration import FLAGS, assert_done, assert_nothing_left, chunks_done, data_file, sessions, worker_pids

TRIALS = int(os.environ.get("PGCRANE_KILL_TRIALS", "6"))
SEED = int(os.environ.get("PGCRANE_KILL_SEED", "1"))
VICTIMS = ("worker", "keeper", "everything")
# Without it a load of this size is over before a random moment comes; passages at which nothing else is tested.
SLOWLY = {"PGCRANE_FAILPOINT": "copy.before_chunk:sleep=15,index.before_commit:sleep=25,entries.after_group:sleep=15,"
                               "fk.after_add:sleep=15,fk.after_validate:sleep=15"}


@pytest.fixture(scope="module")
def killed_source(source):
    database = source.createdb()
    database.psql_file(data_file("small.sql"))
    yield database
    database.drop()


@pytest.fixture(scope="module")
def duration():
    """[seconds], filled by measure()."""
    return []


def measure(duration, source_db, dest, pgcrane):
    """How long an undisturbed run takes; once for the module, into a database of its own."""
    if not duration:
        database = dest.createdb()
        try:
            start = time.monotonic()
            assert_done(pgcrane("migrate", source_db.uri, database.uri, *FLAGS, env=SLOWLY))
            duration.append(time.monotonic() - start)
        finally:
            database.drop()
    return duration[0]


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass


def strike(pgcrane, victim):
    """Sends SIGKILL; False when there was nobody (not yet, or not any more)."""
    pids = list(pgcrane.processes()) if victim == "everything" else worker_pids(pgcrane, victim)
    kill(pids)
    return bool(pids)


def killed_run(pgcrane, source_db, dest_db, rng, duration):
    """One run with one kill; what the ledger called finished afterwards, and whether the snapshot may be gone."""
    victim = rng.choice(VICTIMS)
    running = pgcrane.popen("migrate", source_db.uri, dest_db.uri, *FLAGS, env=SLOWLY)
    try:
        running.wait(rng.uniform(0.05, duration))
    except Exception:  # the moment has come: TimeoutExpired
        pass
    hit = strike(pgcrane, victim)
    out, err = running.communicate(timeout=120)
    print(f"{victim} hit: {hit}, exit code {running.returncode}: {err.strip()[-200:]}")
    # A lane's session may still commit what it had sent: the ledger counts when they are gone.
    wait_until(lambda: victim == "keeper" or not [s for s in sessions(dest_db)], what="sessions to leave the destination")
    return victim, running.returncode, out


@pytest.mark.turns(3)
@pytest.mark.parametrize("trial", range(TRIALS))
def test_random_kills(trial, killed_source, dest, dest_db, pgcrane, duration):
    length = measure(duration, killed_source, dest, pgcrane)
    rng = random.Random(SEED * 1_000_003 + trial)
    finished, keeper_lost, complete = set(), False, False
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        victim, code, _ = killed_run(pgcrane, killed_source, dest_db, rng, length)
        complete = code == 0
        if complete:
            break
        keeper_lost |= victim != "worker"
        finished = chunks_done(dest_db)[0]
    if not complete:
        result = pgcrane("migrate", killed_source.uri, dest_db.uri, *FLAGS)
        if result.code != 0 and result.lines[-1]["body"]["reason"] == "ALREADY_DONE":
            pass  # the kill came between the last commit and its report
        else:
            report = assert_done(result)
            if not keeper_lost:
                assert report["chunks_kept"] >= len(finished), "finished ranges were copied again"
    compare.assert_equal(killed_source.uri, dest_db.uri)
    assert_nothing_left(pgcrane, killed_source, dest_db)
