"""Servers that pgcrane makes: the contract that every provider keeps, and what is local."""
import os

import pytest

from support.cluster import wait_until
from support.provision import Provisions, shared_memory

FILL = "CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 5000) i"
SUM = "SELECT count(*), sum(hashtext(m)::bigint) FROM t"


@pytest.fixture(params=["local"])
def provisions(request):
    made = Provisions(request.param)
    yield made
    made.end()


@pytest.fixture
def local():
    made = Provisions("local")
    yield made
    made.end()


# --- the contract ---


@pytest.mark.parametrize("major", [15, 18])
def test_life(provisions, major):
    """From nothing through all modes and back to nothing; each asked for twice."""
    spec = provisions.spec(major, mode="LOAD")
    assert provisions.describe(spec["id"])["state"] == "ABSENT"
    first = provisions.create(spec).good()
    assert first["state"] == "RUNNING" and first["mode"] == "LOAD"
    again = provisions.create(spec).good()
    assert again == first
    provisions.sql(first, spec, FILL)
    filled = provisions.sql(first, spec, SUM)
    spec["mode"] = "MIGRATING"
    out = provisions.reconfigure(spec).good()
    assert out["mode"] == "MIGRATING" and out["system_identifier"] == first["system_identifier"]
    assert out["endpoint"] == first["endpoint"]
    assert provisions.sql(out, spec, SUM) == filled
    started = provisions.sql(out, spec, "SELECT pg_postmaster_start_time()")
    assert provisions.reconfigure(spec).good() == out
    assert provisions.sql(out, spec, "SELECT pg_postmaster_start_time()") == started, "left alone, without a restart"
    assert provisions.remove(spec["id"]).good() == {}
    assert provisions.describe(spec["id"])["state"] == "ABSENT"
    provisions.remove(spec["id"]).good()
    assert os.listdir(os.path.dirname(provisions.instance(spec["id"]))) in ([], [".ports.lock"])
