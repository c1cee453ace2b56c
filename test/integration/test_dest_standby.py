"""A fail-over of the destination: for a while its address answers from a server that is still a standby."""
import contextlib
import os
import shutil
import time

import psycopg
import pytest

from support.cluster import wait_until
from support.trouble import assert_promoted, assert_source_clean, assert_writable, make

pytestmark = pytest.mark.turns(2)


def make_it_a_standby(cluster):
    """It comes back at its address, and takes no writes until it is promoted."""
    cluster.stop()
    signal = os.path.join(cluster.data, "standby.signal")
    with open(signal, "w", encoding="utf-8"):
        pass
    with contextlib.suppress(LookupError):
        shutil.chown(signal, "postgres")
    with contextlib.suppress(psycopg.errors.ReadOnlySqlTransaction):
        cluster.start()  # it is up when the harness fails to set its password there


@pytest.fixture
def following(own_cluster, source_db, pgcrane):
    following = make(pgcrane, source_db, own_cluster("failing-over").createdb())
    yield following
    pgcrane.end_all()


def test_waits_for_the_promotion(following):
    following.start()
    following.wait_caught_up()
    cluster = following.dest.cluster
    make_it_a_standby(cluster)
    following.source.sql("UPDATE item SET n = n + 1")
    wait_until(lambda: following.cdc().get("state") == "RETRYING" or not following.running(), 60, "the trouble")
    time.sleep(6)  # by then it has met the standby, several times
    assert following.running(), following.said()
    cluster.sql("SELECT pg_promote()")
    assert_promoted(following)


def test_patience_is_over(following):
    """Then it ends with what to do, and says nothing of a source that nobody had fenced; abort says the same."""
    following.flags = (*following.flags, "--retry-for", "12")
    following.start()
    following.wait_caught_up()
    cluster = following.dest.cluster
    make_it_a_standby(cluster)
    assert following.end() == 69, following.said()
    failure = following.failure()
    assert failure["reason"] == "SERVER_BUSY" and "is a standby" in failure["message"], failure
    assert "pg_promote" in failure["remedy"] and "writable" not in failure["message"], failure
    assert_writable(following.source)
    aborted = following.abort(check=False)
    assert aborted.code == 69 and "is a standby" in aborted.stderr and "--source-only" in aborted.stderr, aborted
    following.again()
    assert following.end() == 69 and "pg_promote" in following.failure()["remedy"], following.said()
    cluster.sql("SELECT pg_promote()")
    wait_until(lambda: not cluster.sql("SELECT pg_is_in_recovery()")[0][0], what="the promotion")
    following.abort()
    assert_source_clean(following)
