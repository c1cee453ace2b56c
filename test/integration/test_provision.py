"""Servers that pgcrane makes: the contract that every provider keeps, through all modes and crashes."""
import os
import signal

import psycopg
import pytest

from support.cluster import wait_until
from support.matrix import can_be_made, versions
from support.provision import PASSWORD, Provisions

pytestmark = pytest.mark.turns(2)

FILL = "CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 5000) i"
SUM = "SELECT count(*), sum(hashtext(m)::bigint) FROM t"
SAFE = {"fsync": "on", "full_page_writes": "on", "wal_level": "replica", "autovacuum": "on", "synchronous_commit": "on"}
PROVIDERS = ["local"]

CREATE_STEPS = ("programs", "place", "machine", "tls", "port", "initdb", "include", "data", "marker", "start", "password",
                "created")
LEAVE_STEPS = ("stop", "clean", "sync", "conf", "synced", "start", "checkpoint", "ask", "note", "marker")
REMOVE_STEPS = ("note", "standby", "server", "standby_data", "data", "backups", "rest", "journal")


@pytest.fixture(params=PROVIDERS)
def provisions(request):
    made = Provisions(request.param)
    yield made
    made.end()


def killed_at(outcome):
    assert outcome.wait().code == -signal.SIGKILL, outcome.log
    return outcome


def point(operation, step, action="kill"):
    return {"PGCRANE_FAILPOINT": f"provision.{operation}.{step}:{action}"}


# --- the contract: whatever provider ---


@pytest.mark.turns(1)
@pytest.mark.parametrize("provisions, major", [(p, m) for p in PROVIDERS for m in (13, 15, 17, 18)], indirect=["provisions"],
                         ids=[f"{m}-{p}" for p in PROVIDERS for m in (13, 15, 17, 18)])
def test_life(provisions, major):
    """From nothing through the modes and back to nothing; each asked for twice."""
    spec = provisions.spec(major, mode="LOAD")
    assert provisions.describe(spec["id"])["state"] == "ABSENT"
    first = provisions.create(spec).good()
    assert first["state"] == "RUNNING" and first["mode"] == "LOAD"
    assert provisions.create(spec).good() == first
    assert provisions.describe(spec["id"]) == first
    provisions.sql(first, spec, FILL)
    filled = provisions.sql(first, spec, SUM)
    spec["mode"] = "MIGRATING"
    out = provisions.reconfigure(spec).good()
    assert out["mode"] == "MIGRATING" and out["system_identifier"] == first["system_identifier"]
    assert out["endpoint"] == first["endpoint"]
    assert provisions.sql(out, spec, SUM) == filled
    assert provisions.settings(out, spec, *SAFE) == SAFE
    started = provisions.sql(out, spec, "SELECT pg_postmaster_start_time()")
    assert provisions.reconfigure(spec).good() == out
    assert provisions.sql(out, spec, "SELECT pg_postmaster_start_time()") == started, "left alone, without a restart"
    text = provisions.run("read_log", spec["id"], max=5000).said["log"]
    assert len(text) <= 5000 and "database system is ready to accept connections" in text
    assert provisions.remove(spec["id"]).good() == {}
    assert provisions.describe(spec["id"])["state"] == "ABSENT"
    provisions.remove(spec["id"]).good()


def test_password(provisions):
    """One is made up when none is given, and told once; another one is set when it is given."""
    spec = provisions.spec(password=None)
    made = provisions.create(spec).good()
    assert provisions.sql(made, spec, "SELECT 1") == [(1,)]
    assert "password" not in provisions.describe(spec["id"])["endpoint"]
    assert provisions.create(spec).good()["endpoint"].get("password") is None
    spec["password"] = PASSWORD
    status = provisions.reconfigure(spec).good()
    assert provisions.sql(status, spec, "SELECT 1") == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        provisions.connect(made, spec)


def test_wrong_spec(provisions):
    """All that is wrong comes at once, and nothing is made."""
    flags = [{"name": "work_mem", "value": "a lot"}, {"name": "no_such_setting", "value": "1"},
             {"name": "fsync", "value": "off"}, {"name": "archive_command", "value": "rm -rf /"},
             {"name": "block_size", "value": "16384"}, {"name": "log_min_duration_statement", "value": "100"},
             {"name": "auto_explain.log_min_duration", "value": "1s"}]
    spec = provisions.spec(flags=flags, networks=["10.0.0.0/8", "10.0.0.0/99", "host"], provider="icu", collate="xx_YY")
    error = provisions.create(spec).error("PROVISION_REFUSED")
    for part in ('flag work_mem: invalid value for parameter "work_mem": "a lot"',
                 'flag no_such_setting: unrecognized configuration parameter "no_such_setting"', "flag fsync: ",
                 "flag archive_command: it runs a program", 'flag block_size: parameter "block_size" cannot be changed',
                 '"10.0.0.0/99" is no network', '"host" is no network', "provider icu needs a locale", 'locale "xx_YY"'):
        assert part in error["message"], (part, error["message"])
    assert "log_min_duration_statement" not in error["message"] and "auto_explain" not in error["message"]
    assert provisions.describe(spec["id"])["state"] == "ABSENT"


def test_missing_major(provisions):
    spec = provisions.spec(major=99)
    error = provisions.run("check", spec["id"], spec, bindirs="/nowhere").error("PROVISION_REFUSED")
    assert "PostgreSQL 99 is not installed" in error["message"] and "apt-get install postgresql-99" in error["remedy"]


@pytest.mark.parametrize("major", [11, 12])
def test_major_that_is_too_old(provisions, major):
    """Also where its programs are here; those that are here and are taken are named."""
    here, spec = versions(), provisions.spec(major=major)
    error = provisions.create(spec, bindirs=":".join(here.values())).error("PROVISION_REFUSED")
    assert f"PostgreSQL {major} is too old to be made here: at least 13" in error["message"], error
    taken = ", ".join(map(str, sorted(can_be_made())))
    assert "not installed" not in error["message"] and f"installed here: {taken} (databaseVersionName" in error["remedy"], error
    assert provisions.describe(spec["id"])["state"] == "ABSENT"


def test_flags_and_size(provisions):
    """What needs no restart is had without; what does is had with one; the size decides what no flag says."""
    spec = provisions.made(flags=[{"name": "max_connections", "value": "33"}])
    status = provisions.describe(spec["id"])
    names = ("max_connections", "work_mem", "shared_buffers", "max_parallel_workers")
    before = provisions.settings(status, spec, *names)
    assert before["max_connections"] == "33" and before["shared_buffers"] == str(32 * 128)
    started = provisions.sql(status, spec, "SELECT pg_postmaster_start_time()")
    spec["flags"].append({"name": "work_mem", "value": "7MB"})
    provisions.reconfigure(spec).good()
    assert provisions.settings(status, spec, "work_mem") == {"work_mem": str(7 * 1024)}
    assert provisions.sql(status, spec, "SELECT pg_postmaster_start_time()") == started
    spec.update(flags=[{"name": "shared_buffers", "value": "48MB"}])
    provisions.reconfigure(spec).good()
    after = provisions.settings(status, spec, *names)
    assert after["shared_buffers"] == str(48 * 128) and after["max_connections"] == "100"
    assert provisions.sql(status, spec, "SELECT pg_postmaster_start_time()") != started


@pytest.mark.parametrize("name, value, words", (
    ("shared_preload_libraries", "pg_stat_statements,no_such_library", 'could not access file "no_such_library"'),
    ("session_preload_libraries", "nope", 'could not access file "nope"'),
    ("superuser_reserved_connections", "2000", "must be less than max_connections"),
    ("ssl_dh_params_file", "/nope", "/nope")))
def test_flag_that_only_a_start_refuses(provisions, name, value, words):
    """The server's own words, and nobody tries it again and again; a way back."""
    spec = provisions.spec(flags=[{"name": "work_mem", "value": "7MB"}, {"name": name, "value": value}])
    error = provisions.create(spec).error("PROVISION_FAILED")
    assert words in error["message"] and name in error["message"] + error["remedy"] and not error["retryable"], error
    assert "without" in error["remedy"] and "pg_hba" not in error["remedy"], error
    assert provisions.describe(spec["id"])["state"] == "UNFINISHED"
    spec["flags"] = []
    assert provisions.create(spec).good()["state"] == "RUNNING"


def test_one_operation_at_a_time(provisions):
    spec = provisions.spec()
    slow = provisions.start("create", spec["id"], spec, point("create", "place", "sleep=8000"))
    wait_until(lambda: "sleeping" in slow.log, what="the first one to be at work")
    assert provisions.describe(spec["id"])["state"] == "UNFINISHED"
    assert provisions.remove(spec["id"]).error("CONFLICT")["retryable"]
    slow.wait().good()


def test_stop(provisions):
    """It ends when it is told to, and goes on when it is asked again."""
    spec = provisions.spec()
    slow = provisions.start("create", spec["id"], spec, point("create", "tls", "sleep=2000"))
    wait_until(lambda: "sleeping" in slow.log, what="it to be at work")
    os.kill(slow.process.pid, signal.SIGTERM)
    slow.wait().error("CANCELLED")
    assert slow.said["provision"]["state"] == "UNFINISHED"
    provisions.create(spec).good()


@pytest.mark.turns(6)
@pytest.mark.parametrize("step", CREATE_STEPS)
def test_killed_create(provisions, step):
    """Another create goes on to the same end, and a removal finds all of it."""
    spec = provisions.spec(mode="LOAD" if CREATE_STEPS.index(step) % 2 else "MIGRATING")
    killed_at(provisions.create(spec, point("create", step)))
    assert provisions.describe(spec["id"])["state"] == ("RUNNING" if step == "created" else "UNFINISHED")
    status = provisions.create(spec).good()
    assert status["state"] == "RUNNING" and status["mode"] == spec["mode"]
    provisions.sql(status, spec, FILL)
    provisions.remove(spec["id"]).good()
    killed_at(provisions.create(spec, point("create", step)))
    provisions.remove_whole(spec["id"])


@pytest.mark.turns(6)
@pytest.mark.parametrize("step", LEAVE_STEPS)
def test_killed_on_the_way_out_of_load(provisions, step):
    spec = provisions.made(mode="LOAD")
    status = provisions.describe(spec["id"])
    provisions.sql(status, spec, FILL)
    filled = provisions.sql(status, spec, SUM)
    spec["mode"] = "MIGRATING"
    killed_at(provisions.reconfigure(spec, point("leave", step)))
    found = provisions.describe(spec["id"])
    assert found["state"] in ("RUNNING", "STOPPED") and found["mode"] == ("MIGRATING" if step == "marker" else "LOAD")
    out = provisions.reconfigure(spec).good()
    assert (out["state"], out["mode"], out["system_identifier"]) == ("RUNNING", "MIGRATING", status["system_identifier"])
    assert provisions.sql(out, spec, SUM) == filled
    assert provisions.settings(out, spec, *SAFE) == SAFE


@pytest.mark.turns(6)
@pytest.mark.parametrize("step", REMOVE_STEPS)
def test_killed_remove(provisions, step):
    spec = provisions.made()
    memory = provisions.memory_of(spec["id"])
    assert memory
    killed_at(provisions.remove(spec["id"], point("remove", step)))
    if step != "journal":
        assert provisions.describe(spec["id"])["state"] == "UNFINISHED"
        assert "being removed" in provisions.create(spec).error("PROVISION_REFUSED")["message"]
    provisions.remove_whole(spec["id"], memory)
