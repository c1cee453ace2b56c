"""A destination that is there already: looked at, guarded against others' writes until the promote, handed back as it was."""
import contextlib
import os
import shutil
import subprocess
import time

import psycopg
import pytest

from support.api import JOBS
from support.cluster import Database, newest_client, quote_ident, wait_until
from support.instance import run_worker
from support.program import Program
from support.service import Service
from support.trouble import SCHEMA, assert_equal, failpoint

pytestmark = pytest.mark.turns(3)

VERIFICATION = "type.googleapis.com/google.cloud.clouddms.v1.MigrationJobVerificationError"
SHOP, PLAIN, FRESH = "shop", 'pl"ain', "fresh"
IMAGE = """
SELECT d.oid, d.datname::text, d.datdba, d.datconnlimit, d.datacl::text, d.datallowconn, shobj_description(d.oid, 'pg_database'),
 (SELECT string_agg(s.setrole || s.setconfig::text, '; ' ORDER BY s.setrole) FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)
FROM pg_database d ORDER BY d.datname"""


def image(cluster, *but):
    """All that a guard could leave behind: databases, settings, roles, schemas where the journal was."""
    run = subprocess.run([newest_client("pg_dumpall"), "--globals-only", "-h", cluster.folder, "-p", str(cluster.port), "-U", "postgres"],
                         capture_output=True, text=True, check=True)
    lines = [line for line in run.stdout.splitlines() if not line.startswith(("--", "\\", "ALTER ROLE postgres"))]
    rows = [row for row in cluster.sql(IMAGE) if row[1] not in but]
    return rows, lines, cluster.sql("SELECT nspname FROM pg_namespace WHERE nspname = 'pgcrane_guard'")


def setting(cluster, database):
    """(limit, settings for all roles)"""
    return cluster.sql("SELECT d.datconnlimit, (SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND"
                       " s.setrole = 0) FROM pg_database d WHERE d.datname = %s", (database,))[0]


def is_guarded(cluster, database):
    limit, settings = setting(cluster, database)
    settings = settings or []
    return limit == 0 and "default_transaction_read_only=on" in settings and any(s.startswith("pgcrane.guard=") for s in settings)


def fill(cluster):
    """What somebody has declared there: limits, grants, settings; and what nobody has touched."""
    cluster.sql("CREATE ROLE app LOGIN; CREATE ROLE boss LOGIN; CREATE ROLE other LOGIN SUPERUSER")
    cluster.createdb(SHOP, "OWNER boss CONNECTION LIMIT 7")
    cluster.createdb(PLAIN)
    cluster.sql(f"""
        REVOKE ALL ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO app WITH GRANT OPTION;
        ALTER DATABASE shop SET work_mem = '5MB'; ALTER ROLE app IN DATABASE shop SET work_mem = '6MB';
        ALTER DATABASE shop SET statement_timeout = '1h'; COMMENT ON DATABASE shop IS 'as declared'""")


def clean(cluster):
    for (name,) in cluster.sql("SELECT datname FROM pg_database WHERE datname !~ '^(postgres|template[01])$'"):
        Database(cluster, name).drop()
    cluster.sql("DROP SCHEMA IF EXISTS pgcrane_guard CASCADE; DROP ROLE IF EXISTS app, boss, other, mig")


@pytest.fixture(scope="module", params=(13, 15, 17, 18))
def servers(request, make_cluster):
    """A source with three databases."""
    major = request.param
    source, dest = make_cluster(f"demote_source_{major}", major=major), make_cluster(f"demote_dest_{major}", major=major)
    source.sql("CREATE ROLE app LOGIN")
    for name in (SHOP, PLAIN):
        source.createdb(name).sql(SCHEMA)
    source.sql("COMMENT ON DATABASE shop IS 'as declared'")
    source.createdb(FRESH, "CONNECTION LIMIT 20").sql(SCHEMA)
    return source, dest


@pytest.fixture
def dest(servers):
    fill(servers[1])
    yield servers[1]
    clean(servers[1])


def environment(cluster, fail=None):
    return {"PGCRANE_PG_BINDIRS": cluster.bin, **(failpoint(fail) if fail else {})}


@pytest.fixture
def service(tmp_path, servers):
    with Service(tmp_path / "service", env=environment(servers[1])) as running:
        yield running


def refused_login(cluster, database, user="app"):
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        cluster.connect(database, user).close()


# --- the worker alone ---


class Guard:
    """Runs of a worker for a job of some databases."""

    def __init__(self, folder, source, dest, databases=[SHOP, PLAIN, FRESH], job="job1"):
        self.program = Program(folder)
        self.source, self.dest, self.databases, self.job = source, dest, databases, job
        self.dest_user = "postgres"

    def run(self, action, fail=None, user=None, **more):
        start = {"action": action, "owner": self.job, "owner_name": f"name of {self.job}", "databases": more.pop("databases", self.databases),
                 "options": {"source": self.source.uri("postgres"), "dest": self.dest.uri("postgres", user or self.dest_user),
                             "state_dir": self.program.state_dir, "verbose": True}, **more}
        return run_worker(self.program, {k: v for k, v in start.items() if v is not None}, failpoint(fail) if fail else None)

    def demote(self, fail=None, **more):
        return self.run("demote", fail, **more)

    def prepare(self, fail=None):
        """What comes before the first session of a database."""
        return self.run("instance", fail, prepare=True, guarded=True)

    def release(self, fail=None, databases=None):
        """Of all, unless some are named."""
        return self.run("release", fail, databases=databases)


def found(run, prefix="DEMOTE_"):
    """{id: [finding]}"""
    all_of = [f for body in run.bodies("FINDINGS") for f in body["findings"]]
    return {f["id"].removeprefix(prefix): [g for g in all_of if g["id"] == f["id"]] for f in all_of}


def events(run):
    return [body["text"] for body in run.bodies("EVENT")]


@pytest.fixture
def guard(tmp_path, servers, dest):
    return Guard(tmp_path / "worker", servers[0], dest)


def test_guard_and_release(guard, dest):
    """Who is there is ended, who is not gets in no more; a superuser writes only when he says so. Twice is once."""
    before = image(dest)
    app, boss = dest.connect(SHOP, "app"), dest.connect(SHOP, "boss")
    run = guard.demote().done()
    assert set(found(run)) == {"SUPERUSERS"} and "other" in found(run)["SUPERUSERS"][0]["message"]
    for conn in (app, boss):
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
    for user in ("app", "boss"):
        refused_login(dest, SHOP, user)
    with contextlib.closing(dest.connect(SHOP, "other")) as other:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            other.execute("CREATE TABLE t ()")
        assert other.execute("SHOW pgcrane.guard").fetchall() == [("name of job1",)]
        guard.demote().done()
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")
    assert not dest.sql("SELECT 1 FROM pg_database WHERE datname = %s", (FRESH,))
    assert is_guarded(dest, SHOP) and is_guarded(dest, PLAIN)
    with contextlib.closing(dest.connect(SHOP, "other")) as other:
        guard.release().done()
        with pytest.raises(psycopg.OperationalError):  # it would stay read-only
            other.execute("SELECT 1")
    assert image(dest) == before
    guard.release().done()
    assert image(dest) == before
    dest.connect(SHOP, "app").close()


def test_databases_that_are_made(guard, dest):
    """Closed from the first moment, and in the end as on the source; one by one."""
    before = image(dest)
    guard.demote().done()
    guard.prepare().done()
    assert is_guarded(dest, FRESH)
    refused_login(dest, FRESH)
    guard.release(databases=[FRESH]).done()
    assert setting(dest, FRESH) == (20, None) and is_guarded(dest, SHOP) and is_guarded(dest, PLAIN)
    guard.release().done()
    assert image(dest, FRESH) == before


DEMOTE_POINTS = ["demote.journal_made", "demote.begin_commit", "demote.begun", "demote.before_commit", "demote.before_commit:kill:2", "demote.committed",
                 "demote.committed:kill:2", "demote.look_again"]
PREPARE_POINTS = ["demote.begin_commit", "demote.begun", "demote.intended", "instance.database", "instance.database_made",
                  "demote.before_commit:kill:3", "demote.committed:kill:3"]
RELEASE_POINTS = ["release.before_commit", "release.committed", "release.before_forget", "release.forgotten",
                  "release.committed:kill:2", "release.before_drop", "release.dropped"]


def kill(point):
    return point if ":" in point else point + ":kill"


def killed(run):
    assert run.end is None and run.code == -9, run


def test_killed_while_guarding(guard, dest):
    """At each step: a release gives back what there is; or the same again guards all."""
    before = image(dest)
    for point in DEMOTE_POINTS:
        killed(guard.demote(kill(point)))
        guard.release().done()
        assert image(dest) == before, point
        killed(guard.demote(kill(point)))
        guard.demote().done()
        assert is_guarded(dest, SHOP) and is_guarded(dest, PLAIN), point
        guard.release().done()
        assert image(dest) == before, point


def test_killed_while_databases_are_made(guard, dest):
    before = image(dest)
    for point in PREPARE_POINTS:
        guard.demote().done()
        killed(guard.prepare(kill(point)))
        if dest.sql("SELECT 1 FROM pg_database WHERE datname = %s", (FRESH,)):
            refused_login(dest, FRESH)
        guard.prepare().done()
        assert is_guarded(dest, FRESH), point
        guard.release().done()
        assert setting(dest, FRESH) == (20, None) and image(dest, FRESH) == before, point
        Database(dest, FRESH).drop()
    for point in ("demote.intended", "instance.database_made"):
        guard.demote().done()
        killed(guard.prepare(kill(point)))
        guard.release().done()
        made = dest.sql("SELECT 1 FROM pg_database WHERE datname = %s", (FRESH,)) != []
        assert made == (point == "instance.database_made") and image(dest, FRESH) == before
        assert not made or setting(dest, FRESH) == (20, None)


def test_killed_while_handing_back(guard, dest):
    before = image(dest)
    for point in RELEASE_POINTS:
        guard.demote().done()
        killed(guard.release(kill(point)))
        guard.release().done()
        assert image(dest) == before, point


def test_changes_meanwhile(guard, dest):
    """What somebody has set to something else stays, and is told; what is as before is; a new name does not matter."""
    guard.demote().done()
    dest.sql(f"""ALTER DATABASE shop CONNECTION LIMIT 3; ALTER DATABASE shop SET work_mem = '7MB';
        GRANT CONNECT ON DATABASE shop TO PUBLIC; ALTER DATABASE {quote_ident(PLAIN)} CONNECTION LIMIT -1;
        ALTER DATABASE {quote_ident(PLAIN)} RENAME TO renamed""")
    dest.createdb(PLAIN, "CONNECTION LIMIT 0")
    run = guard.release().done()
    (told,) = [text for text in events(run) if "changed meanwhile" in text]
    assert "connection limit of database shop" in told and "'3'" in told and "'7'" in told
    assert setting(dest, SHOP) == (3, ["work_mem=7MB", "statement_timeout=1h"])
    assert setting(dest, "renamed") == (-1, None) and setting(dest, PLAIN) == (0, None)
    assert dest.sql("SELECT count(*) FROM pg_database d, aclexplode(d.datacl) a WHERE datname = 'shop' AND grantee = 0") == [(1,)]
    assert image(dest)[2] == []
    guard.demote().done()
    Database(dest, SHOP).drop()
    guard.prepare().done()
    assert is_guarded(dest, SHOP)
    guard.release().done()
    assert setting(dest, SHOP) == (-1, None) and image(dest)[2] == []


def test_a_journal_with_others_things(guard, dest):
    guard.demote().done()
    dest.sql("CREATE TABLE pgcrane_guard.mine ()")
    run = guard.release().done()
    assert any("pgcrane_guard" in text and "left" in text for text in events(run))
    assert setting(dest, PLAIN) == (-1, None)
    guard.demote().done()
    dest.sql("DROP TABLE pgcrane_guard.mine")
    guard.release().done()
    assert image(dest)[2] == []


# --- a role that is no superuser ---

MIG = """CREATE ROLE mig LOGIN CREATEDB; GRANT boss TO mig; GRANT CREATE ON DATABASE postgres TO mig; GRANT pg_signal_backend TO mig"""
GRANTS = """SELECT d.datname, d.datconnlimit, a.grantee, a.privilege_type, a.is_grantable FROM pg_database d,
 aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a ORDER BY 1, 3, 4"""


def unmake_mig(cluster):
    cluster.sql("REVOKE CREATE ON DATABASE postgres FROM mig")


@pytest.fixture
def mig(guard, dest):
    """Runs as that role, of a database that its role owns and one that it makes."""
    dest.sql(MIG)
    guard.databases, guard.dest_user = [SHOP, FRESH], "mig"
    yield guard
    unmake_mig(dest)


def kept_out(cluster, database, user):
    with pytest.raises(psycopg.OperationalError, match="CONNECT privilege|too many connections"):
        cluster.connect(database, user).close()


def test_an_owner(mig, dest):
    """It keeps out whoever may connect, the owner himself too, and gives back what each of them had."""
    before = dest.sql(GRANTS)
    app, boss = dest.connect(SHOP, "app"), dest.connect(SHOP, "boss")
    assert set(found(mig.demote().done())) == {"SUPERUSERS"}
    for conn in (app, boss):
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
    mig.prepare().done()
    for database in (SHOP, FRESH):
        for user in ("app", "boss"):
            kept_out(dest, database, user)
        dest.connect(database, "mig").close()
    dest.sql("GRANT CONNECT ON DATABASE shop TO other")
    run = mig.release().done()
    assert [text for text in events(run) if "grants to connect to database shop" in text]
    dest.sql("REVOKE CONNECT ON DATABASE shop FROM other")
    assert [row for row in dest.sql(GRANTS) if row[0] != FRESH] == before
    assert setting(dest, FRESH) == (20, None)
    dest.connect(FRESH, "app").close()


def test_an_owner_is_killed(mig, dest):
    before = dest.sql(GRANTS)
    for point in ("demote.begun", "demote.before_commit", "demote.committed", "instance.database_made", "demote.committed:kill:2"):
        first = mig.prepare if point.startswith("instance") or point.endswith("2") else mig.demote
        killed(first(kill(point)))
        mig.prepare().done()
        kept_out(dest, FRESH, "app")
        for broken in ("release.before_commit", "release.committed", "release.forgotten"):
            killed(mig.release(kill(broken)))
        mig.release().done()
        assert [row for row in dest.sql(GRANTS) if row[0] != FRESH] == before and setting(dest, FRESH) == (20, None), point
        Database(dest, FRESH).drop()
    assert image(dest)[2] == []


def test_an_owner_without_rights(mig, dest):
    """Each of them is told, with what would help."""
    dest.sql("REVOKE boss FROM mig; REVOKE CREATE ON DATABASE postgres FROM mig; REVOKE pg_signal_backend FROM mig")
    dest.sql("SET ROLE app; GRANT CONNECT ON DATABASE shop TO other")
    run = mig.demote()
    run.failed("PREFLIGHT_FAILED")
    fixes = " ".join(f["fix"] for f in found(run)["RIGHTS"])
    assert "GRANT boss TO mig" in fixes and "GRANT CREATE ON DATABASE postgres TO mig" in fixes
    assert "app" in found(run)["GRANTORS"][0]["message"] and "SIGNALS" in found(run)


# --- the checks ---


def test_not_empty(guard, dest):
    """Everything at once, in databases of the job and in others; and nothing was changed."""
    dest.createdb("more").sql("CREATE TABLE b (); SELECT lo_create(4711); CREATE PUBLICATION p")
    dest.sql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE mood AS ENUM ('a')", db=PLAIN)
    before = image(dest)
    run = guard.demote()
    assert "nothing was changed" in run.failed("PREFLIGHT_FAILED")["message"]
    told = {f["object"]: f["message"] for f in found(run)["NOT_EMPTY"]}
    assert set(told) == {"database more", f"database {PLAIN}"}
    assert all(word in told["database more"] for word in ("table public.b", "large object 4711", "publication p"))
    assert "function public.f()" in told[f"database {PLAIN}"] and "type public.mood" in told[f"database {PLAIN}"]
    assert {f["code"] for f in found(run)["NOT_EMPTY"]} == {"EXISTING_DATA"}
    assert image(dest) == before
    dest.sql("DROP FUNCTION f(); DROP TYPE mood", db=PLAIN)
    Database(dest, "more").drop()
    guard.demote().done()


def test_clashes(guard, dest):
    """allowNonEmpty: what has the name of what arrives is listed, what has not is fine."""
    dest.sql("CREATE TABLE item (); CREATE TABLE of_their_own (); CREATE SEQUENCE part_id_seq", db=SHOP)
    dest.createdb("more").sql("CREATE TABLE b ()")
    run = guard.demote(allow_non_empty=True)
    run.failed("PREFLIGHT_FAILED")
    (clash,) = found(run)["CLASH"]
    assert clash["object"] == "database shop" and clash["code"] == "EXISTING_CONFLICTING_DATABASES"
    assert "table public.item" in clash["message"] and "part_id_seq" in clash["message"] and "their_own" not in clash["message"]
    dest.sql("DROP TABLE item; DROP SEQUENCE part_id_seq", db=SHOP)
    guard.demote(allow_non_empty=True).done()
    guard.release().done()
    guard.demote().failed("PREFLIGHT_FAILED")


def test_settings_of_the_server(guard, dest, tmp_path):
    """Read-only, a role without rights, subscriptions; replicas are told only."""
    dest.sql("CREATE ROLE mig LOGIN CREATEDB; ALTER ROLE mig SET default_transaction_read_only = on")
    dest.sql("CREATE SUBSCRIPTION sub CONNECTION '' PUBLICATION p WITH (connect = false)", db=SHOP)
    run = guard.demote(user="mig")
    run.failed("PREFLIGHT_FAILED")
    assert {"RIGHTS", "READ_ONLY", "SUBSCRIPTION"} <= set(found(run))
    assert "sub" in found(run)["SUBSCRIPTION"][0]["message"]
    dest.sql("ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub", db=SHOP)
    folder = tmp_path / "received"
    folder.mkdir()
    receiver = subprocess.Popen([newest_client("pg_receivewal"), "-h", dest.folder, "-p", str(dest.port), "-U", "postgres", "-D", folder,
                                 "--no-loop"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: dest.sql("SELECT 1 FROM pg_stat_replication"), what="the receiver")
        run = guard.demote().done()
    finally:
        receiver.terminate()
        receiver.wait()
    assert "pg_receivewal" in found(run)["STANDBYS"][0]["message"]


def test_what_a_load_would_meet(guard, servers, dest, own_cluster, tmp_path):
    """A commit that waits for a standby; pgaudit and pg_cron, whose names others' libraries have here."""
    dest.sql("CREATE TABLE t ()", db=PLAIN)  # so that nothing is committed by what follows
    dest.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    dest.reload()
    try:
        run = guard.demote()
    finally:
        dest.sql("ALTER SYSTEM RESET synchronous_standby_names")
        dest.reload()
    run.failed("PREFLIGHT_FAILED")
    assert set(found(run)) == {"NOT_EMPTY", "SYNCHRONOUS", "SUPERUSERS"} and "nobody" in found(run)["SYNCHRONOUS"][0]["message"]
    ((folder,),) = dest.sql("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'")
    cluster = own_cluster("demote_own", major=dest.major)
    for name, library in (("pgaudit", "auto_explain"), ("pg_cron", "passwordcheck")):
        if not os.path.exists(os.path.join(folder, f"{library}.so")):
            pytest.skip("no libraries to preload")
        shutil.copy(os.path.join(folder, f"{library}.so"), os.path.join(cluster.folder, f"{name}.so"))
    cluster.configure({"shared_preload_libraries": f"{cluster.folder}/pgaudit,{cluster.folder}/pg_cron"})
    cluster.restart()
    run = Guard(tmp_path / "own", servers[0], cluster).demote().done()
    assert set(found(run)) == {"PGAUDIT", "PG_CRON"} and {f["severity"] for k in found(run).values() for f in k} == {"warning"}


def test_older_server(tmp_path, own_cluster, servers):
    """Told with all that is told of an instance: version, and (there) a standby."""
    source, _ = servers
    if source.major <= 15:
        pytest.skip("nothing older here")
    older = own_cluster("demote_older", major=15)
    run = Guard(tmp_path / "worker", source, older).demote()
    run.failed("PREFLIGHT_FAILED")
    (unfit,) = found(run, "INSTANCE_")["DESTINATION_UNFIT"]
    assert unfit["code"] == "VERSION_INCOMPATIBILITY" and "PostgreSQL 15" in unfit["message"]
    assert older.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'pgcrane_guard'") == []


def test_two_jobs(tmp_path, servers, dest):
    """On one instance, as long as their databases are different ones; what is of the other is not looked at."""
    before = image(dest)
    one = Guard(tmp_path / "one", *servers, databases=[SHOP])
    two = Guard(tmp_path / "two", *servers, databases=[PLAIN], job="job2")
    both = Guard(tmp_path / "both", *servers, databases=[SHOP, PLAIN], job="job3")
    one.demote().done()
    dest.sql("BEGIN READ WRITE; CREATE TABLE arrived (); COMMIT", db=SHOP)
    two.demote().done()
    run = both.demote()
    run.failed("PREFLIGHT_FAILED")
    told = {f["object"]: f["message"] for f in found(run)["GUARDED"]}
    assert "name of job1" in told["database shop"] and "name of job2" in told[f"database {PLAIN}"]
    both.release().done()
    one.release().done()
    assert not is_guarded(dest, SHOP) and is_guarded(dest, PLAIN)
    two.release().done()
    assert image(dest) == before


# --- jobs ---


def verification(operation):
    """{code} of the findings."""
    return {d["errorCode"]: d["errorMessage"] for d in operation["error"]["details"] if d["@type"] == VERIFICATION}


def only(*names):
    return {"objectsFilter": {"sourceObjectsConfig": {"objectsSelectionType": "SPECIFIED_OBJECTS", "objectConfigs": [
        {"objectIdentifier": {"type": "DATABASE", "database": name}} for name in names]}}}


def logged(service, name):
    return [e["message"] for e in service.good(service.get(f"{JOBS}/{name}/events", pageSize=500))["events"] if e["kind"] == "GUARD"]


def test_the_way_of_a_job(service, servers, dest):
    """Nobody else writes until the promote; each database is handed back with its own; in the end all is as it was declared."""
    source, _ = servers
    before = image(dest)
    service.job_of("move", source, dest, [SHOP, PLAIN])
    service.done("move", "demoteDestination")
    assert service.job("move")["destinationGuard"] == {"state": "GUARDED"}
    assert any("DEMOTE_SUPERUSERS" in text for text in logged(service, "move"))
    service.restart()
    service.done("move", "start")
    service.wait_ready("move", 90)
    for name in (SHOP, PLAIN):
        assert is_guarded(dest, name)
        refused_login(dest, name)
    service.done("move", "promote", only(SHOP), timeout=60)
    assert setting(dest, SHOP) == (7, ["work_mem=5MB", "statement_timeout=1h"])  # at once
    with contextlib.closing(dest.connect(SHOP, "boss")) as boss:
        boss.execute("CREATE SCHEMA mine")
        boss.execute("DROP SCHEMA mine")
    wait_until(lambda: service.job("move")["destinationGuard"].get("released") == [SHOP], what="the job to know")
    change = {"objectsConfig": only(SHOP, PLAIN, FRESH)["objectsFilter"]}
    assert "error" not in service.end_of(service.good(service.patch(f"{JOBS}/move", change, updateMask="objectsConfig")))
    wait_until(lambda: service.objects("move").get(FRESH, {}).get("phase") == "READY_FOR_PROMOTE", 60, "one that is added")
    service.wait_ready("move")
    assert is_guarded(dest, PLAIN) and is_guarded(dest, FRESH) and not is_guarded(dest, SHOP)
    refused_login(dest, FRESH)
    service.done("move", "promote", timeout=60)
    service.wait_for("move", "COMPLETED")
    wait_until(lambda: "destinationGuard" not in service.job("move"), what="the guard to be gone")
    assert image(dest, FRESH) == before and setting(dest, FRESH) == (20, None)
    for name in (SHOP, PLAIN, FRESH):
        assert_equal(Database(source, name), Database(dest, name))
    service.remove("move")
    for name in (SHOP, PLAIN, FRESH):
        source.sql(f"ALTER DATABASE {quote_ident(name)} RESET ALL")


def test_refused(service, servers, dest):
    """As VERIFY is; nothing is remembered, and the job goes when it is deleted. Asked with allowNonEmpty it is taken."""
    dest.sql("CREATE TABLE their_own ()", db=PLAIN)
    before = image(dest)
    service.job_of("move", servers[0], dest, [SHOP])
    told = verification(service.end_of(service.verb("move", "demoteDestination")))
    assert set(told) == {"EXISTING_DATA"} and "their_own" in told["EXISTING_DATA"]
    assert "destinationGuard" not in service.job("move") and image(dest) == before
    service.done("move", "demoteDestination", {"allowNonEmpty": True})
    assert is_guarded(dest, SHOP) and not is_guarded(dest, PLAIN)
    refused = service.post(f"{JOBS}/move:demoteDestination", {"allowNonEmpty": True, "release": True})
    assert refused.status == 400 and "allowNonEmpty" in refused.violations()
    service.done("move", "demoteDestination", {"release": True})
    assert "destinationGuard" not in service.job("move") and image(dest) == before
    service.done("move", "demoteDestination", {"allowNonEmpty": True})
    service.remove("move")
    assert image(dest) == before


def test_on_the_command_line(service, servers, dest):
    def jobs(*args):
        return service.program.run("jobs", *args, "--project", "my-project", "--location", "us-central1",
                                   env={"PGCRANE_SERVER": f"http://127.0.0.1:{service.port}"})
    before = image(dest)
    service.job_of("move", servers[0], dest, [SHOP])
    dest.sql("CREATE TABLE their_own ()", db=PLAIN)
    refused = jobs("demote", "move", "--yes")
    assert refused.code == 2 and "EXISTING_DATA" in refused.stderr and "their_own" in refused.stderr, refused
    taken = jobs("demote", "move", "--allow-non-empty", "--yes")
    assert taken.code == 0 and is_guarded(dest, SHOP), taken
    assert "kept out of the destination" in jobs("describe", "move").stdout
    given_back = jobs("release", "move")
    assert given_back.code == 0 and "kept out" not in jobs("describe", "move").stdout, given_back
    assert image(dest) == before


def test_deleted_while_the_server_is_away(service, servers, dest):
    """The job stays until its destination is handed back. By force it goes, and says what is left."""
    before = image(dest)
    for name, databases in (("move", [SHOP]), ("other", [PLAIN])):
        service.job_of(name, servers[0], dest, databases)
        service.done(name, "demoteDestination")
    dest.stop()
    deleted = service.good(service.delete(f"{JOBS}/move"))
    wait_until(lambda: any("not handed back" in text for text in logged(service, "move")), 60, "the first attempt")
    forced = service.end_of(service.good(service.delete(f"{JOBS}/other", force="true")), 60)
    told = forced["metadata"]["statusMessage"]
    assert "error" not in forced and "still guarded" in told, forced
    by_hand = ("CONNECTION LIMIT before", "RESET default_transaction_read_only", "RESET pgcrane.guard", "GRANT CONNECT ON DATABASE name TO role",
               "WITH GRANT OPTION", "REVOKE CONNECT ON DATABASE name FROM", "DELETE FROM pgcrane_guard.job WHERE id = '")
    assert [text for text in by_hand if text not in told] == []
    service.kill()
    service.start()
    assert service.job("move")["state"] == "DELETING"
    dest.start()
    assert "error" not in service.end_of(deleted, 60)
    assert not is_guarded(dest, SHOP) and is_guarded(dest, PLAIN)
    ((job,),) = dest.sql("SELECT id FROM pgcrane_guard.job")
    assert f"WHERE job = '{job}' AND NOT undone" in told
    Guard(service.folder, *servers, databases=None, job=job).release().done()
    assert image(dest) == before


def test_deleted_while_it_is_being_guarded(service, servers, dest):
    """Whatever comes first, nothing is left; nor when it was asked for twice, in other words."""
    before = image(dest)
    for pause in (0, 0.4, 0.8, 1.2):
        service.job_of(f"move{int(pause * 10)}", servers[0], dest, [SHOP])
        service.verb(f"move{int(pause * 10)}", "demoteDestination")
        service.verb(f"move{int(pause * 10)}", "demoteDestination", {"allowNonEmpty": True})
        time.sleep(pause)
        service.remove(f"move{int(pause * 10)}", timeout=60)
        assert image(dest) == before, pause


def test_failed_job(service, servers, dest):
    """It stays guarded until somebody asks for it back."""
    before = image(dest)
    service.job_of("move", servers[0], dest, [SHOP])
    service.done("move", "demoteDestination")
    service.done("move", "start")
    service.wait_ready("move", 60)
    service.done("move", "stop")
    assert is_guarded(dest, SHOP)
    service.done("move", "demoteDestination", {"release": True})
    assert image(dest) == before
    dest.connect(SHOP, "app").close()
    service.remove("move")


def test_sessions_killed(service, servers, dest):
    """The one that guards, with the daemon; and those that hand back after the end."""
    before = image(dest)
    service.job_of("move", servers[0], dest, [SHOP], kind="ONE_TIME")
    service.stop()
    service.env = environment(dest, "demote.committed:kill:1")
    service.start()
    operation = service.end_of(service.verb("move", "demoteDestination"))
    assert "error" in operation and service.job("move")["destinationGuard"]["state"] == "DEMOTING" and is_guarded(dest, SHOP)
    service.stop()
    service.env = environment(dest, "release.before_commit:kill")
    service.start()
    service.done("move", "demoteDestination")
    service.done("move", "start")
    service.wait_for("move", "COMPLETED", timeout=90)
    wait_until(lambda: "error" in service.job("move")["destinationGuard"], what="a session that dies")
    assert is_guarded(dest, SHOP)
    service.kill()
    service.env = environment(dest)
    service.start()
    wait_until(lambda: "destinationGuard" not in service.job("move"), 60, "the guard to be gone")
    assert image(dest) == before
    assert_equal(Database(servers[0], SHOP), Database(dest, SHOP))
    service.remove("move")


def test_a_job_of_an_owner(service, servers, dest):
    """The source's grants do not open what the guard has closed; with the promote they are what counts."""
    source, _ = servers
    dest.sql(MIG)
    dest.sql("GRANT CONNECT ON DATABASE shop TO PUBLIC; REVOKE CONNECT ON DATABASE shop FROM app")
    source.sql("REVOKE ALL ON DATABASE shop FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE shop TO app")
    service.profile("from", source)
    service.profile("to", dest, user="mig")
    service.create_job("move", "from", "to", [SHOP], dumpFlags={"dumpFlags": [{"name": "no-owner", "value": "true"}]})
    service.done("move", "demoteDestination")
    service.done("move", "start")
    service.wait_ready("move", 90)
    kept_out(dest, SHOP, "app")
    service.done("move", "promote", timeout=60)
    dest.connect(SHOP, "app").close()
    service.wait_for("move", "COMPLETED")
    wait_until(lambda: "destinationGuard" not in service.job("move"), what="the guard to be gone")
    may = "SELECT r.rolname, has_database_privilege(r.rolname, 'shop', 'CONNECT') FROM pg_roles r WHERE rolname IN ('app', 'boss') ORDER BY 1"
    assert dest.sql(may) == [("app", True), ("boss", True)] and image(dest)[2] == []
    ((public,),) = dest.sql("SELECT count(*) FROM pg_database d, aclexplode(d.datacl) a WHERE datname = 'shop' AND grantee = 0")
    assert public == 0
    source.sql("ALTER DATABASE shop RESET ALL; GRANT CONNECT, TEMPORARY ON DATABASE shop TO PUBLIC; REVOKE ALL ON DATABASE shop FROM app")
    service.remove("move")
    unmake_mig(dest)
