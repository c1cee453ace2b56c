"""A destination that is guarded among others who do as they like: locks, memberships, SET ROLE, what the source brings."""
import contextlib
import subprocess
import threading

import psycopg
import pytest

from support.cluster import Database, newest_client, wait_until
from support.instance import run_worker
from test_demote import (FRESH, GRANTS, MIG, PLAIN, SHOP, Guard, dest, environment, events, found, guard, image, is_guarded,  # noqa: F401 (fixtures)
                         kept_out, kill, killed, mig, refused_login, servers, setting)

pytestmark = pytest.mark.turns(3)

OLD_LOCK = "SELECT pg_advisory_lock(1885823846, 1735746916)"  # which a guard once waited for


def grants_of(cluster, database, privilege="CONNECT"):
    """{role: may grant it}; PUBLIC is ''."""
    return dict(cluster.sql("SELECT coalesce(r.rolname::text, ''), a.is_grantable FROM pg_database d, LATERAL"
                            " aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a LEFT JOIN pg_roles r ON r.oid = a.grantee"
                            " WHERE d.datname = %s AND a.privilege_type = %s", (database, privilege)))


class AtOnce:
    """A run of a worker beside the test."""

    def __init__(self, function, *args, **more):
        self.run = None
        self.thread = threading.Thread(target=self._run, args=(function, args, more), daemon=True)
        self.thread.start()

    def _run(self, function, args, more):
        self.run = function(*args, **more)

    def end(self):
        self.thread.join(60)
        assert self.run is not None, "it does not end"
        return self.run


def count(cluster, table):
    """Lines of the journal, as they are committed; 0 without one."""
    with contextlib.suppress(psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return cluster.sql(f"SELECT count(*) FROM pgcrane_guard.{table}")[0][0]
    return 0


# --- who can be in the way ---


def test_nobody_holds_it_up(guard, dest):  # noqa: F811
    """No login without rights can lock what a guard locks, whatever default privileges give away; who reads is not in the way."""
    before = image(dest)
    giving = ("ALTER DEFAULT PRIVILEGES {0} ALL ON TABLES {1} PUBLIC; ALTER DEFAULT PRIVILEGES {0} ALL ON SCHEMAS {1} PUBLIC, app")
    dest.sql(giving.format("GRANT", "TO"))
    try:
        with contextlib.closing(dest.connect("postgres", "app")) as app, contextlib.closing(dest.connect(autocommit=False)) as reader:
            app.execute(OLD_LOCK)
            guard.demote().done()
            for mode in ("ACCESS SHARE", "ACCESS EXCLUSIVE"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute(f"BEGIN; LOCK TABLE pgcrane_guard.job IN {mode} MODE")
                app.execute("ROLLBACK")
            reader.execute("SELECT * FROM pgcrane_guard.job, pgcrane_guard.change")
            guard.prepare().done()
            run = guard.release().done()
            assert any("pgcrane_guard" in text and "is left" in text for text in events(run))
            reader.rollback()
    finally:
        dest.sql(giving.format("REVOKE", "FROM"))
    guard.demote().done()
    guard.release().done()
    assert image(dest, FRESH) == before


def test_jobs_at_once(tmp_path, servers, dest):  # noqa: F811
    """Two make the journal at the same time; two drop it, while a third one begins."""
    before = image(dest)
    one, two, three = (Guard(tmp_path / name, *servers, databases=[database], job=name)
                       for name, database in (("one", SHOP), ("two", PLAIN), ("three", SHOP)))
    runs = [AtOnce(job.demote, "demote.journal_made:sleep=700") for job in (one, two)]
    for run in runs:
        run.end().done()
    assert is_guarded(dest, SHOP) and is_guarded(dest, PLAIN)
    runs = [AtOnce(job.release, "release.before_drop:sleep=700") for job in (one, two)]
    wait_until(lambda: count(dest, "change") == 0, what="both to be handed back")
    runs.append(AtOnce(three.demote))
    for run in runs:
        run.end().done()
    assert is_guarded(dest, SHOP)
    three.release().done()
    assert image(dest) == before


def test_behind_a_crash_of_the_server(own_cluster, servers, tmp_path):  # noqa: F811
    """What is said to be guarded, or handed back, is so, also where commits are not waited for."""
    cluster = own_cluster("demote_crash", major=servers[1].major, config={"synchronous_commit": "off", "wal_writer_delay": "10s"})
    cluster.createdb(SHOP)
    job = Guard(tmp_path / "worker", servers[0], cluster, databases=[SHOP])
    job.demote("demote.committed:kill")
    cluster.kill9()
    cluster.start()
    assert is_guarded(cluster, SHOP)
    job.release("release.committed:kill")
    cluster.kill9()
    cluster.start()
    assert not is_guarded(cluster, SHOP)


def test_transactions_that_are_open(guard, dest):  # noqa: F811
    """What is committed between the look and the guard is seen none the less; prepared ones are not waited for."""
    before = image(dest)
    with contextlib.closing(dest.connect(SHOP, "boss", autocommit=False)) as boss:
        boss.execute("CREATE SCHEMA of_boss; CREATE TABLE of_boss.late ()")
        run = AtOnce(guard.demote, "demote.begun:sleep=3000")
        wait_until(lambda: count(dest, "job") == 1, what="the guard to have begun")
        boss.commit()
        failed = run.end()
    assert "nothing was changed" in failed.failed("PREFLIGHT_FAILED")["message"]
    assert ["of_boss.late" in f["message"] for f in found(failed)["NOT_EMPTY"]] == [True]
    assert image(dest) == before
    dest.sql("DROP SCHEMA of_boss CASCADE", db=SHOP)
    with contextlib.closing(dest.connect(SHOP, "boss", autocommit=False)) as boss:
        boss.execute("CREATE SCHEMA of_boss")
        boss.execute("PREPARE TRANSACTION 'later'")
    run = guard.demote()
    run.failed("PREFLIGHT_FAILED")
    assert "'later'" in found(run)["PREPARED"][0]["message"]
    dest.sql("ROLLBACK PREPARED 'later'", db=SHOP)
    guard.demote().done()
    dest.sql("BEGIN READ WRITE; CREATE TABLE late (); COMMIT", db=SHOP)
    refused = guard.demote().failed("CONFLICT")  # so that the service does not forget what is guarded
    assert "stay guarded" in refused["message"] and is_guarded(dest, SHOP)
    guard.release().done()
    assert image(dest) == before


def test_another_name(tmp_path, servers, dest):  # noqa: F811
    """A database that was renamed is still that job's: guarded twice it would be handed back closed."""
    before = image(dest)
    one = Guard(tmp_path / "one", *servers, databases=[SHOP])
    two = Guard(tmp_path / "two", *servers, databases=[FRESH], job="job2")
    one.demote().done()
    dest.sql("ALTER DATABASE shop RENAME TO fresh")
    assert "had before" in two.demote().failed("CONFLICT")["message"]
    mine = one.prepare().failed("CONFLICT")  # another one is to be made in its place: the lines would go
    assert "is called fresh now" in mine["message"] and 'ALTER DATABASE "fresh" RENAME TO "shop"' in mine["remedy"]
    two.release().done()
    one.release().done()
    dest.sql("ALTER DATABASE fresh RENAME TO shop")
    assert image(dest) == before


def test_walsenders(guard, dest):  # noqa: F811
    """Sessions of replication run SQL, too: those that are there are ended, and whom a limit does not count is named."""
    before = image(dest)
    dest.sql("ALTER ROLE app REPLICATION")
    try:
        sender = subprocess.Popen([newest_client("psql"), "-qXAt", f"host={dest.folder} port={dest.port} user=app dbname=shop replication=database"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: dest.sql("SELECT 1 FROM pg_stat_replication"), what="the walsender")
        run = guard.demote().done()
        assert "roles with REPLICATION: app;" in found(run)["REPLICATION"][0]["message"]
        assert "terminat" in sender.communicate("SELECT 1;\n", timeout=10)[1]
        again = subprocess.run([*sender.args, "-c", "SELECT 1"], capture_output=True, text=True, check=False)
        assert again.returncode == 0, again  # which is why it is told
        guard.release().done()
    finally:
        dest.sql("ALTER ROLE app NOREPLICATION")
    assert image(dest) == before


def test_it_guards_postgres(guard, dest):  # noqa: F811
    """The database that the journal is in: its own guard is not taken for a server that is read-only."""
    before = image(dest)
    guard.databases = ["postgres"]
    killed(guard.demote(kill("demote.committed")))
    guard.demote().done()
    assert is_guarded(dest, "postgres")
    guard.release().done()
    assert image(dest) == before


# --- by grants ---


def test_walsenders_of_others(mig, dest):  # noqa: F811
    """Whoever may not see what they do ends them all the same."""
    dest.sql("ALTER ROLE app REPLICATION")
    sender = subprocess.Popen([newest_client("psql"), "-qXAt", f"host={dest.folder} port={dest.port} user=app dbname=shop replication=database"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: dest.sql("SELECT 1 FROM pg_stat_replication"), what="the walsender")
        mig.demote().done()
        assert "terminat" in sender.communicate("SELECT 1;\n", timeout=10)[1]
        mig.release().done()
    finally:
        sender.kill()
        dest.sql("ALTER ROLE app NOREPLICATION")


def as_role(guard, role):
    """The worker logs in as mig, and acts as another role."""
    return {"source": guard.source.uri("postgres"), "dest": guard.dest.uri("postgres", "mig") + f"?options=-c%20role%3D{role}",
            "state_dir": guard.program.state_dir, "verbose": True}


@pytest.mark.parametrize("role", ["boss", "postgres"])
def test_set_role(guard, dest, role):  # noqa: F811
    """It is the login that gets in, and whose sessions are ours; only one that logs in as a superuser closes by the limit."""
    dest.sql(MIG)
    dest.sql("GRANT CREATE ON DATABASE postgres TO boss; GRANT pg_signal_backend TO boss; GRANT postgres TO mig")
    guard.databases = [SHOP]
    before = dest.sql(GRANTS)
    try:
        with psycopg.connect(host=dest.folder, port=dest.port, dbname=SHOP, user="mig", application_name="pgcrane job lane") as ours, \
                contextlib.closing(dest.connect(SHOP, "mig")) as other, contextlib.closing(dest.connect(SHOP, "app")) as app:
            guard.run("demote", options=as_role(guard, role)).done()
            assert ours.execute("SELECT 1").fetchall() == [(1,)]
            for conn in (other, app):
                with pytest.raises(psycopg.OperationalError):
                    conn.execute("SELECT 1")
        dest.connect(SHOP, "mig").close()
        for user in ("app", "boss"):
            kept_out(dest, SHOP, user)
        assert grants_of(dest, SHOP) == {"mig": False} and setting(dest, SHOP)[0] == 7
        guard.run("release", options=as_role(guard, role), databases=None).done()
        assert dest.sql(GRANTS) == before and image(dest)[2] == []
    finally:
        dest.sql("REVOKE CREATE ON DATABASE postgres FROM mig, boss; REVOKE postgres FROM mig")


def test_members_of_our_role(mig, dest):  # noqa: F811
    """They would come in with our own grant: refused, before and while it is guarded. Without inheritance they have none of it."""
    before = dest.sql(GRANTS)
    dest.sql("CREATE ROLE team; GRANT mig TO team; GRANT team TO app")
    try:
        run = mig.demote()
        run.failed("PREFLIGHT_FAILED")
        (member,) = found(run)["MEMBERS"]
        assert member["object"] == "role app" and member["severity"] == "error" and "REVOKE mig FROM app" in member["fix"]
        assert dest.sql(GRANTS) == before
        dest.sql("REVOKE team FROM app; ALTER ROLE app NOINHERIT; GRANT team TO app" + (" WITH INHERIT FALSE" if dest.major >= 16 else ""))
        mig.demote().done()
        kept_out(dest, SHOP, "app")
        dest.sql("REVOKE team FROM app; ALTER ROLE app INHERIT; GRANT team TO app")
        assert "role app has the rights of mig" in mig.prepare().failed("CONFLICT")["message"]
        dest.sql("REVOKE team FROM app; GRANT CONNECT ON DATABASE shop TO app")
        run = mig.prepare().done()
        assert any("role app may connect to database shop" in text for text in events(run))
        dest.sql("REVOKE CONNECT ON DATABASE shop FROM app")
        mig.release().done()
        assert [row for row in dest.sql(GRANTS) if row[0] != FRESH] == before
    finally:
        dest.sql("DROP ROLE team; ALTER ROLE app INHERIT")


def test_another_owner(mig, dest):  # noqa: F811
    """The server only warns when somebody grants what he may not: what was not given back is not said to be."""
    before = grants_of(dest, SHOP)
    mig.databases = [SHOP]
    mig.demote().done()
    dest.sql("ALTER DATABASE shop OWNER TO app")
    failed = mig.release(databases=[SHOP]).failed("NOT_PERMITTED")
    assert "role app, who owns it" in failed["message"] and "GRANT app TO mig" in failed["remedy"]
    dest.sql("GRANT app TO mig")
    mig.release().done()
    assert grants_of(dest, SHOP) == before and image(dest)[2] == []
    dest.sql("ALTER DATABASE shop OWNER TO boss; REVOKE app FROM mig")


# --- what the source brings ---


class Load:
    """The run that loads SHOP, for the job of a guard."""

    def __init__(self, guard, **options):  # noqa: F811
        self.guard = guard
        self.options = {"source": guard.source.uri(SHOP), "dest": guard.dest.uri(SHOP, guard.dest_user),
                        "state_dir": guard.program.state_dir, "verbose": True, **options}

    def run(self, fail=None):
        start = {"action": "migrate", "owner": self.guard.job, "owner_name": "a job", "guarded": True, "options": self.options}
        return run_worker(self.guard.program, start, environment(self.guard.dest, fail))


def not_moved(run):
    """What the report says has to be done by hand."""
    return [item["object"] for _, body in run.messages for item in body.get("not_moved", [])]


HOLD_POINTS = ["demote.hold_commit", "demote.held", "database.before_commit"]


@pytest.fixture
def declared(servers):  # noqa: F811
    """The source's SHOP is what a test has made of it; then as before."""
    source = servers[0]
    yield source
    source.sql("ALTER DATABASE shop RESET ALL; REVOKE ALL ON DATABASE shop FROM app; GRANT CONNECT, TEMPORARY ON DATABASE shop TO PUBLIC")
    source.sql("DO $$BEGIN IF to_regrole('elsewhere') IS NOT NULL THEN DROP OWNED BY elsewhere; DROP ROLE elsewhere; END IF; END$$")


def test_grants_that_arrive(mig, dest, declared):  # noqa: F811
    """PUBLIC comes in at the release if it does on the source, and others do as the load would have granted it: not before."""
    dest.sql("GRANT CONNECT ON DATABASE shop TO PUBLIC; REVOKE CONNECT ON DATABASE shop FROM app")
    declared.sql("CREATE ROLE elsewhere; REVOKE ALL ON DATABASE shop FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE shop TO app;"
                 " GRANT CONNECT ON DATABASE shop TO elsewhere")
    mig.demote().done()
    load = Load(mig, no_owner=True)
    for point in HOLD_POINTS:
        killed(load.run(kill(point)))
    run = load.run().done()
    assert [text for text in not_moved(run) if "elsewhere" in text] == ['GRANT CONNECT ON DATABASE "shop" TO "elsewhere"']
    for user in ("app", "boss"):
        kept_out(dest, SHOP, user)
    killed(mig.release(kill("release.committed")))
    mig.release().done()
    assert grants_of(dest, SHOP) == {"app": False, "boss": False}
    assert "app" in grants_of(dest, SHOP, "TEMPORARY")
    dest.connect(SHOP, "app").close()


def test_grants_that_do_not(mig, dest, declared):  # noqa: F811
    """What was there before comes back."""
    dest.sql("GRANT CONNECT ON DATABASE shop TO PUBLIC")
    before = grants_of(dest, SHOP)
    declared.sql("REVOKE ALL ON DATABASE shop FROM PUBLIC")
    mig.demote().done()
    Load(mig, no_owner=True, no_acl=True).run().done()
    kept_out(dest, SHOP, "app")
    mig.release().done()
    assert grants_of(dest, SHOP) == before and "" in before


@pytest.mark.parametrize("value", ["on", "off", "true"])
def test_read_only_that_arrives(guard, dest, declared, value):  # noqa: F811
    """The guard's own stands until the release; then the source's does. A guard that the source is under does not come along."""
    declared.sql(f"ALTER DATABASE shop SET default_transaction_read_only = {value}; ALTER DATABASE shop SET work_mem = '9MB'")
    guard.databases = [SHOP]
    guard.demote().done()
    killed(Load(guard).run(kill(HOLD_POINTS[2])))
    Load(guard).run().done()
    assert is_guarded(dest, SHOP) and "work_mem=9MB" in setting(dest, SHOP)[1]
    refused_login(dest, SHOP)
    run = guard.release().done()
    assert any("read-only by default" in text for text in events(run)) == (value != "off")
    limit, settings = setting(dest, SHOP)
    assert limit == 7 and f"default_transaction_read_only={value}" in settings and not any("pgcrane" in s for s in settings)


def test_a_source_that_is_guarded(guard, dest, declared):  # noqa: F811
    """As the destination of another migration."""
    declared.sql("ALTER DATABASE shop SET default_transaction_read_only = on; ALTER DATABASE shop SET pgcrane.guard = 'other'")
    Load(guard).run().done()
    assert setting(dest, SHOP) == (7, ["work_mem=5MB", "statement_timeout=1h"])
    assert Database(dest, SHOP).sql("SHOW default_transaction_read_only") == [("off",)]
