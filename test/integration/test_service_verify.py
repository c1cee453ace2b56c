"""VERIFY of a job: everything at once, also of databases that are yet to be made, what it may take, and what it mends."""
import contextlib
import json
import os
import shutil

import pytest
from support.api import JOBS, PROFILES
from support.cluster import Database, wait_until
from support.preflight import Proxy
from support.service import Service
from support.trouble import failpoint

pytestmark = pytest.mark.turns(3)

MOVER, KEEPER = "sv_mover", "sv_keeper"
HERE = ("--project", "my-project", "--location", "us-central1")


@pytest.fixture(scope="module")
def servers(make_cluster):
    """A source of two databases, and a destination that has neither."""
    source = make_cluster("verify_source", config={"wal_level": "logical"})
    dest = make_cluster("verify_dest")
    for name in ("one", "two"):
        source.createdb(name).sql("CREATE TABLE item (id int PRIMARY KEY, v text)")
    source.sql(f"CREATE ROLE {MOVER} LOGIN REPLICATION CREATEROLE; ALTER DATABASE one OWNER TO {MOVER}")
    Database(source, "one").sql(f"ALTER TABLE item OWNER TO {MOVER}")
    dest.sql(f"CREATE ROLE {KEEPER} LOGIN; CREATE ROLE {MOVER}")
    return source, dest


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def service(shared):
    yield shared
    for job in shared.good(shared.get(JOBS)).get("migrationJobs", []):
        shared.remove(job["name"].rsplit("/", 1)[1])
    for profile in shared.good(shared.get(JOBS.replace("migrationJobs", "connectionProfiles"))).get("connectionProfiles", []):
        shared.good(shared.delete(profile["name"]))


def verify(service, job, body=None):
    """(found, operation): findings by (database, id), what is estimated left out."""
    operation = service.end_of(service.verb(job, "verify", body))
    metadata = operation["metadata"]
    assert "findings" in metadata, operation
    return {(f["database"], f["id"]): f for f in metadata["findings"] if not f["id"].startswith("ESTIMATE_")}, operation


def errors(found):
    return {key for key, finding in found.items() if finding["severity"] == "error"}


def reason(operation):
    return operation["error"]["details"][0]["reason"]


# --- databases that are yet to be made ---


def test_nothing_in_the_way(service, servers):
    """Of databases that the destination does not have: nothing is found, much is estimated, and nothing is made."""
    source, dest = servers
    service.job_of("move", source, dest, ["one", "two"])
    found, operation = verify(service, "move")
    assert found == {} and "error" not in operation, operation
    estimate = operation["metadata"]["estimate"]
    sizes = [Database(source, name).sql("SELECT pg_database_size(current_database())")[0][0] for name in ("one", "two")]
    assert abs(estimate["sourceBytes"] - sum(sizes)) < sum(sizes) / 10
    assert all(0 < estimate[key]["low"] < estimate[key]["high"] for key in ("loadSeconds", "diskBytes", "outageSeconds"))
    assert {(f["database"], f["id"]) for f in operation["metadata"]["findings"]} == \
        {(name, f"ESTIMATE_{what}") for name in ("one", "two") for what in ("LOAD", "WAL", "DISK", "OUTAGE")}
    assert dest.sql("SELECT count(*) FROM pg_database WHERE datname IN ('one', 'two')") == [(0,)]


def test_all_databases_and_none_may_be_read(service, servers):
    """What would refuse the start is an error of the checks, with what grants it; so it is for the start itself."""
    source, dest = servers
    source.sql("CREATE ROLE sv_outside LOGIN; REVOKE CONNECT ON DATABASE one, two FROM PUBLIC")
    try:
        service.profile("outside", source, user="sv_outside")
        service.profile("to", dest)
        service.finished(service.post(JOBS, {"type": "CONTINUOUS", "source": f"{PROFILES}/outside", "destination": f"{PROFILES}/to"},
                                      migrationJobId="move"))
        found, operation = verify(service, "move")
        assert errors(found) == {("", "INSTANCE_NOTHING_TO_MOVE")} and reason(operation) == "PREFLIGHT_FAILED", operation
        grants = [f"GRANT CONNECT ON DATABASE \"{name}\" TO \"sv_outside\";" for name in ("one", "two")]
        assert found["", "INSTANCE_NOTHING_TO_MOVE"]["fix"].split("\n") == grants, found
        refused = service.end_of(service.verb("move", "start"))
        assert reason(refused) == "PREFLIGHT_FAILED" and grants[0] in str(refused["error"]["details"]), refused
        assert service.job("move")["state"] == "NOT_STARTED"
    finally:
        source.sql("GRANT CONNECT ON DATABASE one, two TO PUBLIC; DROP ROLE sv_outside")


def test_settings_of_what_is_not_there(service, servers):
    """Nothing that a database has to be there for is offered as a mend."""
    source, dest = servers
    dest.sql("ALTER DATABASE postgres SET timezone = 'Asia/Tokyo'")
    service.job_of("move", source, dest, ["two"])
    found, _ = verify(service, "move")
    dest.sql("ALTER DATABASE postgres RESET timezone")
    setting = found["two", "DESTINATION_SETTING"]
    assert setting["fix"].startswith("-- when the database is made: ALTER DATABASE two") and not setting["mendable"]


def test_the_source_is_checked_all_the_same(service, servers):
    source, dest = servers
    one, two = (Database(source, name) for name in ("one", "two"))
    for database in (one, two):
        database.sql("INSERT INTO pg_extension SELECT 99999, 'vector', 10, 2200, false, '0.7', NULL, NULL;"
                     "CREATE TABLE keyless (a int)")
    service.job_of("move", source, dest, ["one", "two"])
    found, operation = verify(service, "move")
    for database in (one, two):
        database.sql("DELETE FROM pg_extension WHERE extname = 'vector'; DROP TABLE keyless")
    assert errors(found) == {("one", "EXTENSION_MISSING"), ("two", "EXTENSION_MISSING")}, found
    assert found["two", "FOLLOW_NO_IDENTITY"]["severity"] == "warning"
    details = [d["errorDetailMessage"] for d in operation["error"]["details"] if "errorDetailMessage" in d]
    assert any("database two" in text for text in details) and any("database one" in text for text in details)


def one(findings, check, severity, side="source"):
    """The finding of a check, of whatever database."""
    found = [f for f in findings.values() if f["id"] == check]
    assert found, f"{check}: {findings}"
    assert (found[0]["severity"].upper(), found[0]["side"]) == (severity, side)
    return found[0]


def another_locale(data):
    return data.replace(b"\x00\x00\x00\x07C.UTF-8", b"\x00\x00\x00\x07x.UTF-8")


def test_what_making_a_database_needs(service, servers):
    """A role that may make none, and a locale that the destination's system does not have."""
    source, dest = servers
    with contextlib.closing(Proxy(source.port, another_locale)) as proxy:
        service.profile("from", source, port=proxy.listener.getsockname()[1])
        service.profile("to", dest, user=KEEPER)
        service.create_job("move", "from", "to", ["two"])
        found, _ = verify(service, "move")
    may = one(found, "DESTINATION_CREATEDB", "ERROR", "destination")
    assert may["fix"].startswith(f"ALTER ROLE {KEEPER} CREATEDB;")
    assert "x.UTF-8" in one(found, "DESTINATION_LOCALE_MISSING", "ERROR", "destination")["message"]
    # Its roles cannot be made, either, and are told.
    assert errors(found) >= {("two", "DESTINATION_CREATEDB"), ("two", "DESTINATION_LOCALE_MISSING"), ("two", "ROLE_NOT_MEMBER")}


def test_changes_that_are_not_kept(service, servers):
    source, dest = servers
    service.job_of("move", source, dest, ["one"])
    before = service.job("move")
    objects = {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": [
        {"objectIdentifier": {"type": "DATABASE", "database": "absent"}}]}}
    found, operation = verify(service, "move", {"updateMask": "objectsConfig", "migrationJob": {"objectsConfig": objects}})
    assert ("", "INSTANCE_DATABASE_UNKNOWN") in errors(found) and reason(operation) == "PREFLIGHT_FAILED"
    flags = {"dumpFlags": {"dumpFlags": [{"name": "jobs", "value": "200"}]}}
    found, _ = verify(service, "move", {"updateMask": "dumpFlags", "migrationJob": flags})
    assert errors(found) == {("one", "SOURCE_CONNECTIONS"), ("one", "DESTINATION_CONNECTIONS")}, found
    changing = ("updateTime", "etag")
    assert {k: v for k, v in service.job("move").items() if k not in changing} == \
        {k: v for k, v in before.items() if k not in changing}
    wrong = service.post(f"{JOBS}/move:verify", {"updateMask": "nonsense", "migrationJob": {"type": "ONE_TIME"}})
    assert wrong.status == 400, wrong


# --- room for all of them ---


@pytest.fixture(scope="module")
def narrow(make_cluster):
    cluster = make_cluster("narrow", config={"wal_level": "logical", "max_replication_slots": "2", "max_wal_senders": "3",
                                             "max_connections": "12", "superuser_reserved_connections": "1"})
    for name in ("a", "b", "c"):
        cluster.createdb(name).sql("CREATE TABLE t (id int PRIMARY KEY)")
    return cluster


def test_room_for_all_databases_at_once(service, servers, narrow):
    """There is room for each of them."""
    service.job_of("move", narrow, servers[1], ["a", "b", "c"])
    found, _ = verify(service, "move")
    assert errors(found) == {("", "INSTANCE_SOURCE_SLOTS"), ("", "INSTANCE_SOURCE_SENDERS")}, found
    assert "max_replication_slots = 3;" in found["", "INSTANCE_SOURCE_SLOTS"]["fix"]
    assert "max_wal_senders = 6;" in found["", "INSTANCE_SOURCE_SENDERS"]["fix"]
    assert found["", "INSTANCE_SOURCE_SESSIONS"]["severity"] == "warning"
    service.remove("move")
    service.create_job("move", "move-from", "move-to", ["a"])
    assert errors(verify(service, "move")[0]) == set()
    service.profile("there", narrow)
    service.profile("from", servers[0])
    service.create_job("back", "from", "there", ["one", "two"])
    Database(servers[0], "one").sql("SELECT 1")
    service.create_job("wide", "move-from", "there", ["a", "b", "c"])
    found, _ = verify(service, "wide")
    assert ("", "INSTANCE_DESTINATION_SESSIONS") in found, found


def test_disk_for_all_databases_at_once(service, servers):
    """Each of the two would fit: a file with a hole has a size, and takes no room."""
    source, dest = servers
    disk = os.statvfs(dest.data)
    holes = [os.path.join(source.data, "base", str(oid), "hole") for oid, in
             source.sql("SELECT oid FROM pg_database WHERE datname IN ('one', 'two')")]
    for hole in holes:
        with open(hole, "wb") as file:
            file.truncate(disk.f_bavail * disk.f_frsize // 2)
    service.job_of("move", source, dest, ["one", "two"])
    found, _ = verify(service, "move")
    for hole in holes:
        os.unlink(hole)
    assert errors(found) == {("", "INSTANCE_DESTINATION_DISK")}, found


def of_another_major(data):
    at = data.find(b"server_version\x00")
    end = data.find(b"\x00", at + 15) if at >= 0 else -1
    return data if end < 0 else data[:at + 15] + b"9.6".ljust(end - at - 15) + data[end:]


def test_a_source_that_is_too_old(service, servers):
    source, dest = servers
    with contextlib.closing(Proxy(source.port, of_another_major)) as proxy:
        service.profile("from", source, port=proxy.listener.getsockname()[1])
        service.profile("to", dest)
        service.create_job("move", "from", "to", ["one"])
        found, operation = verify(service, "move")
    assert ("", "INSTANCE_SOURCE_UNFIT") in errors(found), operation


# --- destinations that others have prepared ---


def with_tables(dest):
    dest.createdb("one").sql("CREATE TABLE item (other text); CREATE TABLE theirs (a int)")


def read_only(dest):
    dest.createdb("one").sql("ALTER DATABASE one SET default_transaction_read_only = on")


def without_rights(dest):
    dest.createdb("one").sql(f"REVOKE CREATE ON SCHEMA public FROM PUBLIC; REVOKE TEMP ON DATABASE one FROM PUBLIC")


def other_encoding(dest):
    dest.createdb("one", options="TEMPLATE template0 LOCALE 'C' ENCODING 'LATIN1'")


def without_collation(dest):
    dest.createdb("one").sql("DELETE FROM pg_collation WHERE collname = 'de-x-icu'")


def few_connections(dest):
    dest.createdb("one").sql(f"ALTER ROLE {KEEPER} CONNECTION LIMIT 4; GRANT ALL ON DATABASE one TO {KEEPER};"
                             f"GRANT ALL ON SCHEMA public TO {KEEPER}")


@pytest.mark.parametrize("prepare, user, expected", [
    (with_tables, "postgres", {"DESTINATION_CLASH": "error", "DESTINATION_NOT_EMPTY": "warning"}),
    (read_only, "postgres", {"DESTINATION_READ_ONLY": "warning"}),
    (without_rights, KEEPER, {"DESTINATION_CREATE_PRIVILEGE": "error", "DESTINATION_SCHEMA_PRIVILEGE": "error",
                              "DESTINATION_TEMP_PRIVILEGE": "warning", "ROLE_NOT_MEMBER": "error"}),
    (other_encoding, "postgres", {"DESTINATION_ENCODING": "error", "DESTINATION_LOCALE": "warning"}),
    (without_collation, "postgres", {"COLLATION_MISSING": "error"}),
    (few_connections, KEEPER, {"DESTINATION_CONNECTIONS": "error"}),
], ids=lambda value: getattr(value, "__name__", None))
def test_a_destination_that_is_there(service, servers, prepare, user, expected):
    source, dest = servers
    database = Database(source, "one")
    database.sql('ALTER TABLE item ADD c text COLLATE "de-x-icu"')
    prepare(dest)
    service.profile("from", source)
    service.profile("to", dest, user=user)
    service.create_job("move", "from", "to", ["one"])
    try:
        found, operation = verify(service, "move")
    finally:
        database.sql("ALTER TABLE item DROP c")
        Database(dest, "one").drop()
        dest.sql(f"ALTER ROLE {KEEPER} CONNECTION LIMIT -1")
    severities = {check: finding["severity"] for (where, check), finding in found.items() if where == "one"}
    assert expected.items() <= severities.items(), severities
    unexpected = {check for check, severity in severities.items() if severity == "error" and check not in expected}
    assert user != "postgres" or not unexpected, severities
    assert ("error" in operation) == ("error" in severities.values())


def test_a_destination_that_is_older_or_a_standby(service, servers, make_cluster, own_cluster):
    source, _ = servers
    newer = make_cluster("verify18", major=18)
    newer.createdb("one").sql("CREATE TABLE item (id int PRIMARY KEY)")
    service.job_of("move", newer, servers[1], ["one"])
    found, _ = verify(service, "move")
    assert ("", "INSTANCE_DESTINATION_UNFIT") in errors(found), found
    standby = own_cluster("verify_standby")
    standby.createdb("one")
    standby.stop()
    with open(os.path.join(standby.data, "standby.signal"), "w", encoding="ascii"):
        pass
    with contextlib.suppress(Exception):  # it is up when the harness fails to set its password there
        standby.start()
    service.job_of("other", source, standby, ["one"])
    found, _ = verify(service, "other")
    assert ("", "INSTANCE_DESTINATION_UNFIT") in errors(found), found


# --- mending ---


@pytest.fixture
def mendable(service, servers):
    """A source whose role may give itself what it lacks, and a destination whose time zone is another."""
    source, dest = servers
    database = dest.createdb("one")
    database.sql(f"ALTER DATABASE one SET timezone = 'Asia/Tokyo'")
    service.profile("from", source, user=MOVER)
    service.profile("to", dest)
    service.create_job("move", "from", "to", ["one"])
    yield source, database
    source.sql(f"REVOKE pg_signal_backend FROM {MOVER}")
    database.drop()


def zone(database):
    return database.sql("SHOW timezone")[0][0]


def told(fixes, state="DONE"):
    """As metadata.mended has them: those of the server are of no database."""
    return [{**fix, "database": "" if "pg_signal_backend" in fix["statement"] else fix["database"], "state": state}
            for fix in fixes]


def in_log(service, statement):
    """Lines of the job's log that say that it was carried out."""
    events = service.good(service.get(f"{JOBS}/move/events", pageSize=1000))["events"]
    return [e["message"] for e in events if e["kind"] == "MENDED" and statement in e["message"]]


def fixes_of(found):
    return [{"database": f["database"], "side": f["side"], "statement": f["fix"]} for f in found.values() if f["mendable"]]


def test_mending(service, mendable):
    source, database = mendable
    utc = Database(source, "one").sql("SHOW timezone")[0][0]
    found, _ = verify(service, "move")
    fixes = fixes_of(found)
    assert {f["id"] for f in found.values() if f["mendable"]} == {"DESTINATION_SETTING", "FOLLOW_FENCE_SIGNAL"}, found
    # Something that nobody has found, however harmless: nothing at all is done.
    for statement in ("DROP TABLE item", "GRANT pg_monitor TO sv_mover;"):
        refused = service.end_of(service.verb("move", "verify", {"fixes": fixes + [
            {"database": "one", "side": "source", "statement": statement}]}))
        assert reason(refused) == "FINDINGS_CHANGED" and statement in refused["error"]["message"], refused
    assert zone(database) == "Asia/Tokyo"
    found, operation = verify(service, "move", {"fixes": fixes})
    assert operation["metadata"]["mended"] == told(fixes) and "error" not in operation, operation
    assert all(len(in_log(service, fix["statement"])) == 1 for fix in fixes)
    assert not {"DESTINATION_SETTING", "FOLLOW_FENCE_SIGNAL"} & {check for _, check in found}, found
    assert zone(database) == utc
    assert source.sql(f"SELECT pg_has_role('{MOVER}', 'pg_signal_backend', 'MEMBER')") == [(True,)]
    audit = [outcome for outcome, in service.sql("SELECT outcome FROM audit WHERE action = 'migrationJobs.verify.fix'")]
    assert all(any(fix["statement"] in line for line in audit) for fix in fixes), audit
    # A second time: what was to be mended is not found any more.
    assert reason(service.end_of(service.verb("move", "verify", {"fixes": fixes}))) == "FINDINGS_CHANGED"


def test_mending_that_the_server_would_refuse(service, mendable):
    """It is tried before it is offered; whoever asks for it all the same gets nothing of it."""
    source, database = mendable
    every = fixes_of(verify(service, "move")[0])
    source.sql(f"ALTER ROLE {MOVER} NOCREATEROLE")
    found, _ = verify(service, "move")
    operation = service.end_of(service.verb("move", "verify", {"fixes": every}))
    source.sql(f"ALTER ROLE {MOVER} CREATEROLE")
    assert len(every) == 2 and [f["statement"].split()[0] for f in fixes_of(found)] == ["ALTER"], found
    assert reason(operation) == "FINDINGS_CHANGED" and "nothing was changed" in operation["error"]["message"], operation
    assert "mended" not in operation["metadata"] and zone(database) == "Asia/Tokyo"


@pytest.fixture
def two(servers, tmp_path):
    """two(failpoint) starts a service with a job of both databases, neither of which has the source's time zone on the other side;
    its source's role may give itself what ends sessions."""
    source, dest = servers
    made = []

    def start(point=None, databases=("one", "two")):
        for name in databases:
            database = dest.createdb(name)
            made.append(database)
            database.sql(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
        service = made_in.enter_context(Service(tmp_path / "service", env=failpoint(point) if point else None))
        service.profile("from", source, user=MOVER)
        service.profile("to", dest)
        service.create_job("move", "from", "to", list(databases))
        return service

    with contextlib.ExitStack() as made_in:
        yield start
    source.sql(f"REVOKE pg_signal_backend FROM {MOVER}; GRANT CREATE ON DATABASE one TO {MOVER}")
    for database in made:
        database.drop()


def may_signal(source):
    return source.sql(f"SELECT pg_has_role('{MOVER}', 'pg_signal_backend', 'MEMBER')")[0][0]


def zones(dest, *names):
    return [zone(Database(dest, name)) for name in names]


SIGNAL = "GRANT pg_signal_backend"


def test_what_is_the_servers_is_mended_once(servers, two):
    """Whichever databases find it; what is a database's is mended in each."""
    source, dest = servers
    service = two()
    found, _ = verify(service, "move")
    fixes = fixes_of(found)
    assert sorted(f["statement"].split()[0] for f in fixes) == ["ALTER", "ALTER", "GRANT", "GRANT"], found
    # Of what belongs to another: a GRANT that gives nothing, and is no error.
    assert not found["two", "FOLLOW_PUBLISH"]["mendable"]
    wide = {f["database"]: f["serverWide"] for f in found.values() if f["mendable"] and f["id"] == "FOLLOW_FENCE_SIGNAL"}
    assert wide == {"one": True, "two": True}
    found, operation = verify(service, "move", {"fixes": fixes})
    mended = operation["metadata"]["mended"]
    (signal,) = [m for m in mended if m["side"] == "source"]
    assert (signal["database"], signal["state"]) == ("", "DONE"), mended
    assert sorted(m["database"] for m in mended if m["side"] == "destination") == ["one", "two"], mended
    assert in_log(service, SIGNAL) == [f"on the source: {signal['statement']}"] and len(in_log(service, "ALTER DATABASE")) == 2
    assert not {"DESTINATION_SETTING", "FOLLOW_FENCE_SIGNAL"} & {check for _, check in found}, found
    assert may_signal(source) and "Asia/Tokyo" not in zones(dest, "one", "two")
    # Asked for by one of the databases, or by none: as good for the other.
    for database in ("two", ""):
        source.sql(f"REVOKE pg_signal_backend FROM {MOVER}")
        assert ("one", "FOLLOW_FENCE_SIGNAL") in verify(service, "move")[0]
        fix = {"database": database, "side": "source", "statement": signal["statement"]}
        found, operation = verify(service, "move", {"fixes": [fix]})
        assert operation["metadata"]["mended"] == told([fix]) and may_signal(source)
        assert "FOLLOW_FENCE_SIGNAL" not in {check for _, check in found}, found


@pytest.mark.parametrize("point, changed", [
    ("mend.before_commit:kill", []), ("mend.between:kill", ["source"]), ("mend.before_told:kill", ["source", "destination"]),
    ("mend.between:error", ["source"])])
def test_cut_off_while_mending(servers, two, point, changed):
    """What was changed is told in any case, also of whoever was killed behind it; what is left is found by the next look, and
    mended then."""
    source, dest = servers
    source.sql(f"GRANT pg_signal_backend TO {MOVER}; REVOKE CREATE ON DATABASE one FROM {MOVER}")
    service = two(point, ["one"])

    def stand():
        may = source.sql(f"SELECT has_database_privilege('{MOVER}', 'one', 'CREATE')")[0][0]
        return may, zones(dest, "one") != ["Asia/Tokyo"]

    fixes = fixes_of(verify(service, "move")[0])
    assert sorted(fix["side"] for fix in fixes) == ["destination", "source"] and stand() == (False, False)
    operation = service.end_of(service.verb("move", "verify", {"fixes": fixes}))
    assert reason(operation) == ("FAILPOINT" if point.endswith("error") else "WORKER_LOST")
    assert operation["metadata"]["mended"] == told([fix for fix in fixes if fix["side"] in changed])
    assert [len(in_log(service, fix["statement"])) for fix in fixes] == [int(fix["side"] in changed) for fix in fixes]
    assert stand() == ("source" in changed, "destination" in changed)
    # What is shown is how it is now.
    left = fixes_of(dict(enumerate(operation["metadata"]["findings"])))
    assert left == [fix for fix in fixes if fix["side"] not in changed]
    if left:
        service.stop()
        service.env = None
        service.start()
        _, operation = verify(service, "move", {"fixes": left})
        assert operation["metadata"]["mended"] == told(left)
    assert stand() == (True, True)


def test_another_node_goes_on_with_the_mending(servers, two):
    """The first was lost, with all that its sessions said: what it changed is told by the second, and what it left is done."""
    source, dest = servers
    service = two("mend.before_told:sleep=60000")
    fixes = fixes_of(verify(service, "move")[0])
    asked = service.verb("move", "verify", {"fixes": fixes})
    wait_until(lambda: may_signal(source), 40, "the first statement")
    noted = service.good(service.get(asked["name"]))["metadata"]["mended"]
    assert {m["state"] for m in noted} == {"UNDER_WAY"}
    assert sorted(m["database"] for m in noted) == ["", "one", "two"], noted
    service.kill()
    service.end_all()
    shutil.rmtree(os.path.join(service.folder, "sessions"))
    assert zones(dest, "one", "two") == ["Asia/Tokyo", "Asia/Tokyo"]
    service.env = None
    service.start()
    operation = service.end_of(asked)
    assert operation["metadata"]["mended"] == [{**m, "state": "DONE"} for m in noted], operation
    assert "Asia/Tokyo" not in zones(dest, "one", "two") and len(in_log(service, SIGNAL)) == 1


def test_mending_from_the_command_line(service, mendable):
    source, database = mendable
    env = {"PGCRANE_SERVER": f"http://127.0.0.1:{service.port}"}

    def cli(*args):
        return service.program("jobs", "verify", "move", *HERE, *args, env=env)

    shown = cli()
    assert shown.code == 0 and "Database one" in shown.stdout and "DESTINATION_SETTING" in shown.stdout, shown
    assert "In all: " in shown.stdout and "nothing is in the way" in shown.stdout
    asked = cli("--fix")
    assert asked.code == 3 and "What the service can mend:" in asked.stdout and "nobody to ask" in asked.stderr, asked
    assert zone(database) == "Asia/Tokyo"
    mended = cli("--fix", "--yes")
    assert mended.code == 0, mended
    assert "source, the server:" in mended.stdout and "destination, database one:" in mended.stdout
    before, after = mended.stdout.split("Carried out:")
    assert "ALTER DATABASE one SET TimeZone" in before and "DESTINATION_SETTING" not in after
    assert zone(database) != "Asia/Tokyo"
    assert source.sql(f"SELECT pg_has_role('{MOVER}', 'pg_signal_backend', 'MEMBER')") == [(True,)]
    assert "Nothing of it is what the service mends" in cli("--fix").stdout
    events = service.program("jobs", "logs", "move", *HERE, env=env).stdout
    assert "GRANT pg_signal_backend" in events, events
    whole = json.loads(cli("-o", "json").stdout)
    assert whole["done"] and "estimate" in whole["metadata"]
    assert cli("--fix", "--async").code == 64
