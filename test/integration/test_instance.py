"""A whole instance: its databases listed, roles and empty databases made on the destination, killed and repeated."""
import contextlib
import os
import signal
import subprocess
import threading

import psycopg
import pytest

from support.cluster import PASSWORD, SUPERUSER, Cluster, newest_client, quote_ident, wait_until
from support.instance import run_instance
from support.migration import worker_pids
from support.trouble import make_standby

pytestmark = pytest.mark.turns(3)

LONG = "l" + "ö" * 31  # 63 bytes
ODD = 'Ro "le" $1 \\ \'x\'\n äöü; --'
SECRET = "a secret of the application"

ROLES = f"""
CREATE ROLE app LOGIN PASSWORD '{SECRET}' CREATEDB CONNECTION LIMIT 7 VALID UNTIL '2035-01-01 12:00+02';
CREATE ROLE {quote_ident(ODD)} CREATEROLE NOINHERIT PASSWORD 'of nobody';
CREATE ROLE "{LONG}" LOGIN VALID UNTIL 'infinity';
CREATE ROLE second LOGIN SUPERUSER PASSWORD 'second';
CREATE ROLE repl LOGIN REPLICATION BYPASSRLS;
CREATE ROLE readers; CREATE ROLE writers;
COMMENT ON ROLE app IS 'it''s \\the app';
GRANT readers TO app WITH ADMIN OPTION;
GRANT pg_monitor, writers TO app;
GRANT readers TO second;
GRANT writers TO {quote_ident(ODD)};
SET ROLE app; GRANT readers TO "{LONG}"; RESET ROLE;
ALTER ROLE app SET search_path TO "$user", 'My "Schema"', public;
ALTER ROLE app SET work_mem = '8MB';
ALTER ROLE app SET my.custom TO 'a''b\\c';
ALTER ROLE {quote_ident(ODD)} SET search_path TO '';
SET password_encryption = 'md5';
CREATE ROLE old LOGIN PASSWORD 'old';
RESET password_encryption;
"""
GRANTORS = f"""
GRANT writers TO app WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
GRANT writers TO second WITH ADMIN TRUE GRANTED BY app;
GRANT writers TO {quote_ident(ODD)} WITH SET FALSE GRANTED BY second;
"""
PARAMETERS = """
GRANT SET ON PARAMETER log_statement TO app;
GRANT ALTER SYSTEM ON PARAMETER work_mem TO readers WITH GRANT OPTION;
"""
LATIN = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
LOGGING = {"log_statement": "all", "log_min_duration_statement": "0", "log_duration": "on"}
SHOP, DAMAGED = "shop", 'my "data"\n; DROP ROLE app; -- ü'

ROLES_OF = """
SELECT 'role', r.rolname::text, (to_jsonb(r) - 'oid' - 'rolpassword' || jsonb_build_object('comment',
  shobj_description(r.oid, 'pg_authid')))::text FROM pg_roles r WHERE r.rolname !~ '^pg_' AND r.rolname <> 'postgres'
UNION ALL SELECT 'password', rolname, rolpassword FROM pg_authid WHERE rolname <> 'postgres' AND rolname !~ '^pg_'
UNION ALL SELECT 'member', m.rolname || ' in ' || r.rolname,
  (to_jsonb(a) - 'oid' - 'roleid' - 'member' || jsonb_build_object('grantor', g.rolname))::text
  FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
  LEFT JOIN pg_roles g ON g.oid = a.grantor WHERE m.rolname !~ '^pg_'
UNION ALL SELECT 'setting', r.rolname, s.setconfig::text FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
  WHERE s.setdatabase = 0
ORDER BY 1, 2, 3"""
DATABASES_OF = """SELECT d.datname, r.rolname, pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datconnlimit
 FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE NOT d.datistemplate AND d.datallowconn AND d.datname <> 'postgres'
 ORDER BY 1"""


def fill(source):
    """Roles and databases as above."""
    source.sql(ROLES)
    if source.major >= 16:
        source.sql(GRANTORS)
    if source.major >= 15:
        source.sql(PARAMETERS)
    source.createdb(SHOP, "OWNER app CONNECTION LIMIT 20")
    source.createdb(DAMAGED, f"OWNER {quote_ident(ODD)}")
    source.createdb("latin", LATIN)
    if source.major >= 15:
        source.createdb("icu", "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LOCALE 'C'")
    source.createdb("closed", "ALLOW_CONNECTIONS false")
    source.createdb("stamp", "IS_TEMPLATE true")
    source.sql("ALTER ROLE app IN DATABASE shop SET work_mem = '9MB'; ALTER ROLE ALL SET default_statistics_target = 99")


def clean(cluster):
    """As initdb left it."""
    for (name,) in cluster.sql("SELECT datname FROM pg_database WHERE datname !~ '^(postgres|template[01])$'"):
        cluster.sql(f"ALTER DATABASE {quote_ident(name)} IS_TEMPLATE false")
        cluster.sql(f"DROP DATABASE {quote_ident(name)}")
    names = [quote_ident(n) for (n,) in cluster.sql("SELECT rolname FROM pg_roles WHERE oid >= 16384")]
    if names:
        cluster.sql(f"DROP OWNED BY {', '.join(names)} CASCADE; DROP ROLE {', '.join(names)}")
    cluster.sql("ALTER ROLE ALL RESET ALL")


@contextlib.contextmanager
def server(name, **options):
    cluster = Cluster(name, **options)
    try:
        yield cluster.start()
    finally:
        cluster.remove()


# Starting a server costs more than a test: those of a major version are shared, and emptied before each test that fills them.


@pytest.fixture(scope="module")
def old_source():
    with server("inst-source") as cluster:
        fill(cluster)
        yield cluster


@pytest.fixture(scope="module")
def new_source():
    with server("inst-source18", major=18) as cluster:
        fill(cluster)
        yield cluster


@pytest.fixture(scope="module")
def old_dest():
    with server("inst-dest", auth="scram-sha-256", config=LOGGING) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def new_dest():
    with server("inst-dest18", major=18, auth="scram-sha-256", config=LOGGING) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def spare():
    with server("inst-spare", config={"allow_in_place_tablespaces": "on"}) as cluster:
        yield cluster


@pytest.fixture
def empty_dest(old_dest):
    clean(old_dest)
    return old_dest


@pytest.fixture
def empty_new_dest(new_dest):
    clean(new_dest)
    return new_dest


@pytest.fixture
def empty_source(spare):
    clean(spare)
    return spare


def roles_dump(cluster):
    run = subprocess.run([newest_client("pg_dumpall"), "--roles-only", "-h", cluster.folder, "-p", str(cluster.port), "-U",
                          SUPERUSER], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [line for line in run.stdout.splitlines() if not line.startswith(("--", "\\", "ALTER ROLE postgres"))]


def assert_same(source, dest):
    assert dest.sql(ROLES_OF) == source.sql(ROLES_OF)
    assert dest.sql(DATABASES_OF) == source.sql(DATABASES_OF)


def assert_no_verifier_logged(source, dest):
    log = dest.log_text()
    for (verifier,) in source.sql("SELECT rolpassword FROM pg_authid WHERE rolname <> 'postgres' AND rolpassword IS NOT NULL"):
        assert verifier not in log
    assert "pgcrane_verifier" in log or dest.sql("SHOW log_statement") != [("all",)]


def picture(cluster):
    return cluster.sql(ROLES_OF), cluster.sql(DATABASES_OF)


# --- everything ---


def test_instance_moves_and_again_changes_nothing(old_source, empty_dest, pgcrane):
    run = run_instance(pgcrane, old_source.uri(), empty_dest.uri()).done()
    assert_same(old_source, empty_dest)
    assert roles_dump(empty_dest) == roles_dump(old_source)
    assert_no_verifier_logged(old_source, empty_dest)
    made = {SHOP, DAMAGED, "latin", "icu"}
    assert set(run.databases) == made, run
    assert all(d["made"] and not d["exists"] and d["bytes"] > 1e6 for d in run.databases.values()), run
    assert set(run.not_moved) == {"closed", "stamp", "postgres"}, run
    assert set(run.findings) == {"ROLE_MD5", "SETTING_ALL"}, run
    assert 'ALTER ROLE ALL SET "default_statistics_target" TO \'99\';' in run.findings["SETTING_ALL"]["fix"]
    assert not empty_dest.sql("SELECT 1 FROM pg_db_role_setting WHERE setrole = 0 OR setdatabase <> 0")
    with contextlib.closing(psycopg.connect(empty_dest.uri("shop", "app", SECRET), connect_timeout=10)) as conn:
        assert conn.execute("SHOW search_path").fetchone() == ('"$user", "My ""Schema""", public',)
    before = picture(empty_dest)
    again = run_instance(pgcrane, old_source.uri(), empty_dest.uri()).done()
    assert picture(empty_dest) == before
    assert all(d["exists"] and not d["made"] for d in again.databases.values()), again
    assert again.findings == run.findings
    assert not again.bodies("EVENT"), again
    icu = "SELECT datlocprovider, daticulocale FROM pg_database WHERE datname = 'icu'"
    assert empty_dest.sql(icu) == old_source.sql(icu)


@pytest.mark.parametrize("majors", ((18, 18), (13, 18), (10, 15)), ids=("18", "13to18", "10to15"))
def test_between_versions(majors, request, own_cluster, pgcrane):
    source = request.getfixturevalue("new_source") if majors[0] == 18 else own_cluster("source", major=majors[0])
    dest = request.getfixturevalue("empty_new_dest" if majors[1] == 18 else "empty_dest")
    if majors[0] != 18:
        fill(source)
        wrong = run_instance(pgcrane, dest.uri(), source.uri())
        wrong.failed("PREFLIGHT_FAILED")
        assert f"it is PostgreSQL {majors[0]}, and the source is" in wrong.findings["DESTINATION_UNFIT"]["message"], wrong
    run = run_instance(pgcrane, source.uri(), dest.uri()).done()
    assert dest.sql(DATABASES_OF) == source.sql(DATABASES_OF)
    here, there = (dict(((kind, name, ""), text) if kind != "member" else ((kind, name, text), "")
                        for kind, name, text in cluster.sql(ROLES_OF)) for cluster in (source, dest))
    if majors[0] < 16 <= majors[1]:  # who granted what does not mean the same there
        pairs = [{key[1] for key in side if key[0] == "member"} for side in (here, there)]
        assert pairs[0] == pairs[1]
        here, there = ({k: v for k, v in side.items() if k[0] != "member"} for side in (here, there))
        admin = "SELECT 1 FROM pg_auth_members WHERE admin_option AND inherit_option AND set_option"
        assert dest.sql(admin)
    assert there == here
    assert_no_verifier_logged(source, dest)
    assert set(run.findings) == {"ROLE_MD5", "SETTING_ALL"}, run
    before = picture(dest)
    again = run_instance(pgcrane, source.uri(), dest.uri()).done()
    assert picture(dest) == before and not again.bodies("EVENT"), again


# --- what is there already ---


def test_what_is_there_stays(old_source, empty_dest, pgcrane):
    empty_dest.sql("CREATE ROLE app LOGIN PASSWORD 'another' CREATEROLE; ALTER ROLE app SET work_mem = '1MB';"
                   "CREATE ROLE readers; GRANT readers TO app; CREATE ROLE stranger; GRANT readers TO stranger")
    empty_dest.createdb("latin", "OWNER stranger")
    kept = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'"
    before = empty_dest.sql(kept)
    run = run_instance(pgcrane, old_source.uri(), empty_dest.uri()).done()
    assert empty_dest.sql(kept) == before
    assert empty_dest.sql("SELECT rolcreaterole, rolcreatedb, rolconnlimit FROM pg_roles WHERE rolname = 'app'") == [
        (True, False, -1)]
    # The administration of readers is added, and so are settings it had none of; the other setting stays.
    assert empty_dest.sql("SELECT admin_option FROM pg_auth_members WHERE member = 'app'::regrole AND roleid = 'readers'::regrole"
                          ) == [(True,)]
    settings = dict(s.split("=", 1) for s in empty_dest.sql(
        "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'app'::regrole")[0][0])
    assert settings["work_mem"] == "1MB" and settings["my.custom"] == "a'b\\c", settings
    assert empty_dest.sql("SELECT 1 FROM pg_auth_members WHERE member = 'stranger'::regrole")
    found = run.findings
    assert set(found) == {"ROLE_ATTRIBUTES", "ROLE_PASSWORD_CHANGED", "ROLE_MD5", "ROLE_SETTING", "SETTING_ALL", "DATABASE_OWNER"}, run
    changed = found.pop("ROLE_PASSWORD_CHANGED")
    assert "SCRAM-SHA-256" not in str(run) and "md5" not in changed["message"], run
    assert '"app"' in changed["message"] and changed["fix"] == '\\password "app"', run
    assert found["ROLE_ATTRIBUTES"]["fix"] == ('ALTER ROLE "app" CREATEDB NOCREATEROLE CONNECTION LIMIT 7'
                                               " VALID UNTIL '2035-01-01 10:00:00+00';"), run
    assert found["ROLE_SETTING"]["fix"] == "ALTER ROLE \"app\" SET \"work_mem\" TO '8MB';", run
    assert run.databases["latin"]["exists"] and not run.databases["latin"]["made"], run
    # Whoever runs what is told has the same on both sides; an MD5 hash stays one until somebody sets another password.
    del found["ROLE_MD5"]
    for finding in found.values():
        for statement in finding["fix"].split("\n"):
            empty_dest.sql(statement)
    told = {"ROLE_MD5", "ROLE_PASSWORD_CHANGED"}
    assert set(run_instance(pgcrane, old_source.uri(), empty_dest.uri()).done().findings) == told
    # What the source has not, among roles that are on both.
    empty_dest.sql("GRANT writers TO old WITH ADMIN OPTION; GRANT readers TO second WITH ADMIN OPTION")
    found = run_instance(pgcrane, old_source.uri(), empty_dest.uri()).done().findings
    assert set(found) == told | {"ROLE_MEMBERSHIP_LEFT"}, found
    assert sorted(found["ROLE_MEMBERSHIP_LEFT"]["fix"].split("\n")) == [
        'REVOKE "writers" FROM "old";', 'REVOKE ADMIN OPTION FOR "readers" FROM "second";'], found


# --- interrupted ---


@pytest.mark.parametrize("point", ("instance.role:kill:4", "instance.before_commit:kill", "instance.after_commit:kill",
                                   "instance.database:kill:3", "instance.database_made:kill:2"))
def test_killed_and_repeated(point, old_source, empty_dest, pgcrane):
    run = run_instance(pgcrane, old_source.uri(), empty_dest.uri(), env={"PGCRANE_FAILPOINT": point})
    assert run.code == -9 and run.end is None, run
    if point in ("instance.role:kill:4", "instance.before_commit:kill"):
        assert empty_dest.sql("SELECT count(*) FROM pg_roles WHERE oid >= 16384") == [(0,)]
    again = run_instance(pgcrane, old_source.uri(), empty_dest.uri()).done()
    assert_same(old_source, empty_dest)
    assert set(again.findings) == {"ROLE_MD5", "SETTING_ALL"}, again


def test_a_failure_on_the_way_is_tried_again(old_source, empty_dest, pgcrane):
    for point in ("instance.before_commit:retryable:1", "instance.database_made:retryable:2"):
        run = run_instance(pgcrane, old_source.uri(), empty_dest.uri(), env={"PGCRANE_FAILPOINT": point}).done()
        assert all(d["made"] and not d["exists"] for d in run.databases.values()), run
        assert_same(old_source, empty_dest)
        clean(empty_dest)


def test_another_makes_the_same_database(old_source, empty_dest, pgcrane):
    """After this run has looked which there are."""
    def make():
        wait_until(lambda: empty_dest.sql("SELECT 1 FROM pg_roles WHERE rolname = 'app'"), what="the roles")
        empty_dest.createdb("latin", LATIN)

    other = threading.Thread(target=make)
    other.start()
    run = run_instance(pgcrane, old_source.uri(), empty_dest.uri(), env={"PGCRANE_FAILPOINT": "instance.database:sleep=8000:1"})
    other.join()
    run.done()
    assert run.databases["latin"]["exists"] and not run.databases["latin"]["made"], run
    assert run.databases["icu"]["made"], run


def test_killed_while_a_database_is_made(old_source, empty_dest, pgcrane):
    """The server goes on with it, while the next run makes the same one: one of both is refused."""
    def start(env=None):
        thread = threading.Thread(target=lambda: runs.append(run_instance(pgcrane, old_source.uri(), empty_dest.uri(), env=env)))
        thread.start()
        return thread

    def making(count):
        waiting = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%' AND wait_event_type = 'Lock'"
        wait_until(lambda: len(empty_dest.sql(waiting)) == count, what="CREATE DATABASE to wait")

    runs = []
    first = start({"PGCRANE_FAILPOINT": "instance.database:sleep=8000:1"})
    wait_until(lambda: empty_dest.sql("SELECT 1 FROM pg_roles WHERE rolname = 'app'"), what="the roles")
    with contextlib.closing(empty_dest.connect(autocommit=False)) as holder:
        holder.execute("LOCK TABLE pg_database IN EXCLUSIVE MODE")
        making(1)
        os.kill(worker_pids(pgcrane)[0], signal.SIGKILL)
        first.join()
        second = start()
        making(2)
        holder.rollback()
    second.join()
    assert runs[0].end is None, runs[0]
    icu = runs[1].done().databases["icu"]
    assert icu["exists"] != icu["made"], runs[1]
    assert_same(old_source, empty_dest)


def test_template_in_use(old_source, empty_dest, pgcrane):
    """No lock is waited for, and nobody is blamed who has one."""
    def let_go():
        making = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%' AND state = 'active'"
        wait_until(lambda: empty_dest.sql(making), what="CREATE DATABASE")
        wait_until(lambda: not empty_dest.sql(making), what="its end")
        holder.close()

    empty_dest.sql("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
    holder = empty_dest.connect("template0", autocommit=False)
    holder.execute("CREATE ROLE passing")
    other = threading.Thread(target=let_go)
    try:
        other.start()
        run = run_instance(pgcrane, old_source.uri(), empty_dest.uri()).done()
    finally:
        other.join()
        holder.close()
        empty_dest.sql("ALTER DATABASE template0 ALLOW_CONNECTIONS false")
    told = [body["text"] for body in run.bodies("EVENT") if '"template0" is being accessed' in body["text"]]
    assert told and not any("changed by a transaction" in text for text in told), run


# --- without rights ---


# Values of settings with a dot in their names, where applications keep secrets, are in no finding.
def filled_in(fix):
    return fix.replace("'...'; -- the source's value", "'a''b\\c';")


def assert_mended(run, source, dest, again):
    """What a superuser runs, as told, makes both sides the same. (What the first round makes, the second one speaks of.)"""
    told = {"OWN_MEMBERSHIP", "ROLE_PASSWORD", "ROLE_MEMBERSHIP", "ROLE_MD5"}  # does not depend on what was mended alone
    by_hand = {"OWN_MEMBERSHIP", "ROLE_PASSWORD", "ROLE_MD5"}
    for _ in range(2):
        with contextlib.closing(dest.connect()) as conn:
            for name, finding in run.findings.items():
                for statement in filled_in(finding["fix"]).split(";\n") if name not in by_hand else ():
                    conn.execute(statement)
        run = again().done()
    assert set(run.findings) <= told, run
    assert dest.sql(DATABASES_OF) == source.sql(DATABASES_OF)


@pytest.mark.parametrize("major", (15, 18))
def test_lesser_role(major, request, pgcrane):
    """One that may make roles and databases, and no more."""
    source = request.getfixturevalue("old_source" if major == 15 else "new_source")
    dest = request.getfixturevalue("empty_dest" if major == 15 else "empty_new_dest")
    dest.sql("CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'admin'")

    def run():
        return run_instance(pgcrane, source.uri(), dest.uri(user="admin", password="admin"))

    first = run().done()
    found = first.findings
    assert {"ROLE_ATTRIBUTES", "OWN_MEMBERSHIP", "PARAMETER_GRANT", "DATABASE_OWNER"} <= set(found), first
    assert 'ALTER ROLE "second" SUPERUSER;' in found["ROLE_ATTRIBUTES"]["fix"], first
    assert 'ALTER ROLE "repl" REPLICATION BYPASSRLS;' in found["ROLE_ATTRIBUTES"]["fix"], first
    assert 'REVOKE "app" FROM "admin";' in found["OWN_MEMBERSHIP"]["fix"], first
    assert all(d["made"] for d in first.databases.values()), first
    # Owners are set where they are no superusers; passwords came along.
    owners = "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname IN ('shop', 'latin') ORDER BY 1"
    assert dest.sql(owners) == [("latin", "admin"), ("shop", "app")]
    passwords = "SELECT rolname, rolpassword FROM pg_authid WHERE oid >= 16384 AND rolname <> 'admin' ORDER BY 1"
    assert dest.sql(passwords) == source.sql(passwords)
    before = picture(dest)
    again = run().done()
    assert picture(dest) == before
    # Whose password a role has that is there, this role cannot see.
    assert set(again.findings) | {"ROLE_MD5"} == set(found) and again.findings["ROLE_ATTRIBUTES"] == found["ROLE_ATTRIBUTES"], again
    assert_mended(first, source, dest, run)


def test_no_rights(old_source, empty_dest, pgcrane):
    empty_dest.sql("CREATE ROLE nobody LOGIN PASSWORD 'nobody'")

    def run(databases=None):
        return run_instance(pgcrane, old_source.uri(), empty_dest.uri(user="nobody", password="nobody"), databases)

    first = run()
    failed = first.failed("PREFLIGHT_FAILED")
    assert "what could be made was made" in failed["message"], first
    assert {"ROLE_MISSING", "DATABASE_MISSING"} <= set(first.findings), first
    assert 'CREATE ROLE "app" CREATEDB LOGIN CONNECTION LIMIT 7' in first.findings["ROLE_MISSING"]["fix"], first
    assert 'CREATE DATABASE "shop" ' in first.findings["DATABASE_MISSING"]["fix"], first
    assert not any(d["made"] or d["exists"] for d in first.databases.values()), first
    # Somebody makes one; then the database that was asked for is there.
    empty_dest.createdb("shop")
    assert run(["shop"]).end == "DONE"
    empty_dest.sql("DROP DATABASE shop")
    assert_mended(first, old_source, empty_dest, run)


def test_source_role_without_sight_of_passwords(old_source, empty_dest, pgcrane):
    old_source.sql("CREATE ROLE plain LOGIN")
    empty_dest.sql("CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'admin'")
    try:
        run = run_instance(pgcrane, old_source.uri(user="plain"), empty_dest.uri(user="admin", password="admin"), [SHOP]).done()
        found = run.findings["ROLE_PASSWORD"]
        assert '"app"; "l' in found["message"] and "readers" not in found["message"], run
        assert '"postgres"' not in found["message"], run
        assert '\\password "app"' in found["fix"].split("\n"), run
        empty_dest.sql("ALTER ROLE app PASSWORD 'set by somebody'")
        again = run_instance(pgcrane, old_source.uri(user="plain"), empty_dest.uri(), [SHOP]).done()
        assert '"app"' not in again.findings["ROLE_PASSWORD"]["message"], again
    finally:
        old_source.sql("DROP ROLE plain")


def test_password_that_is_refused(old_source, empty_dest, pgcrane):
    """The role may not do what gives them: told, and told again by one who can see which roles have none."""
    empty_dest.sql("CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'admin'; REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC")
    try:
        run = run_instance(pgcrane, old_source.uri(), empty_dest.uri(user="admin", password="admin"), [SHOP]).done()
    finally:
        empty_dest.sql("GRANT USAGE ON LANGUAGE plpgsql TO PUBLIC")
    assert '"app" (permission denied for language plpgsql' in run.findings["ROLE_PASSWORD"]["message"], run
    again = run_instance(pgcrane, old_source.uri(), empty_dest.uri(), [SHOP]).done()
    assert '"app" (it was there before, without one)' in again.findings["ROLE_PASSWORD"]["message"], again
    assert_no_verifier_logged(old_source, empty_dest)


def test_password_that_a_module_refuses(old_source, empty_dest, pgcrane):
    """One by one: the others arrive. The error, which would show the statement, is not in the log."""
    empty_dest.sql("CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'admin'")
    # No module of PostgreSQL's refuses verifiers: a role becomes another's between its making and its password.
    empty_dest.sql("CREATE FUNCTION spoil() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS"
                   " $$ BEGIN EXECUTE 'ALTER ROLE old SUPERUSER'; END $$;"
                   "CREATE EVENT TRIGGER spoil ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION spoil()")
    try:
        run = run_instance(pgcrane, old_source.uri(), empty_dest.uri(user="admin", password="admin"), [SHOP]).done()
    finally:
        empty_dest.sql("DROP EVENT TRIGGER spoil; DROP FUNCTION spoil()")
    message = run.findings["ROLE_PASSWORD"]["message"]
    assert '"old" (must be superuser' in message and '"app"' not in message, run
    assert empty_dest.sql("SELECT rolname FROM pg_authid WHERE rolpassword IS NULL AND rolname IN ('app', 'old')") == [("old",)]
    assert_no_verifier_logged(old_source, empty_dest)


def told_md5(source, dest, pgcrane, **what):
    found = run_instance(pgcrane, source.uri(), dest.uri(), [SHOP], **what).done().findings.get("ROLE_MD5")
    return found and (found["message"].partition(" cannot log in there: ")[2], found["fix"].split("\n")[2:])


def test_password_that_is_an_md5_hash(old_source, empty_dest, empty_source, pgcrane):
    """Told before and after it came along, until it is set anew; not of a role that is there with its own password, and not
    where pg_hba.conf takes it."""
    told = ('"old"', ['\\password "old"'])
    assert told_md5(old_source, empty_dest, pgcrane, prepare=False, check=True) == told
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        assert told_md5(old_source, empty_dest, pgcrane) == told
        psycopg.connect(host="127.0.0.1", port=empty_dest.port, dbname=SHOP, user="old", password="old")
    assert told_md5(old_source, empty_dest, pgcrane) == told
    assert told_md5(old_source, empty_source, pgcrane) is None  # trust
    empty_dest.sql("ALTER ROLE old PASSWORD 'new'")
    assert told_md5(old_source, empty_dest, pgcrane) is None


def test_bootstrap_superuser_of_another_name(own_cluster, empty_dest, pgcrane):
    """What initdb -U made there is a role like others here: it owns what it owned, and logs in."""
    source = own_cluster("boot")
    source.sql("CREATE ROLE helper LOGIN SUPERUSER")
    source.sql("ALTER ROLE postgres RENAME TO admin; CREATE ROLE postgres LOGIN SUPERUSER;"
               "ALTER ROLE admin PASSWORD 'of admin'; CREATE ROLE readers; CREATE ROLE app LOGIN; GRANT readers TO admin",
               user="helper")
    source.sql("GRANT readers TO app", user="admin")
    shop = source.createdb(SHOP, "OWNER admin")
    shop.sql("CREATE TABLE t (id int); ALTER TABLE t OWNER TO admin")
    run_instance(pgcrane, source.uri(), empty_dest.uri(), [SHOP]).done()
    there = empty_dest.sql("SELECT rolsuper, oid <> 10 FROM pg_roles WHERE rolname = 'admin'")
    assert there == [(True, True)]
    assert empty_dest.sql("SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %s", (SHOP,)) == [("admin",)]
    with contextlib.closing(psycopg.connect(empty_dest.uri(SHOP, "admin", "of admin"), connect_timeout=10)) as conn:
        for who in ("admin", "app"):
            assert conn.execute("SELECT pg_has_role(%s, 'readers', 'MEMBER')", (who,)).fetchone() == (True,)
    before = picture(empty_dest)
    run_instance(pgcrane, source.uri(), empty_dest.uri(), [SHOP]).done()
    assert picture(empty_dest) == before


def test_what_is_the_servers_superuser_there(own_cluster, empty_dest, pgcrane):
    """The source's postgres is a role like others, as on a managed service: nothing that is told shuts out the destination's, or
    makes superusers; run, it changes nothing of either."""
    source = own_cluster("ordinary")
    source.sql("CREATE ROLE helper LOGIN SUPERUSER")
    source.sql("ALTER ROLE postgres RENAME TO admin; CREATE ROLE postgres LOGIN CREATEROLE CREATEDB CONNECTION LIMIT 3;"
               "CREATE ROLE app LOGIN; GRANT postgres TO app; ALTER ROLE postgres SET work_mem = '8MB';"
               "ALTER ROLE postgres SET role = 'app'; ALTER ROLE postgres SET default_transaction_read_only = on", user="helper")
    source.sql(f"CREATE DATABASE {SHOP}", user="helper")
    ours = "SELECT rolsuper, rolconnlimit, rolconfig FROM pg_roles WHERE rolname = 'postgres'"
    run = run_instance(pgcrane, source.uri(user="helper"), empty_dest.uri(), [SHOP]).done()
    attributes, settings, members = (run.findings[f"ROLE_{name}"] for name in ("ATTRIBUTES", "SETTING", "MEMBERSHIP"))
    assert "NOSUPERUSER" in attributes["message"] and "there it is the server's own superuser, and is left so" in attributes["message"]
    assert "role of" in settings["message"] and "default_transaction_read_only of" in settings["message"], run
    assert '"app" in "postgres" (a superuser there, and none on the source)' in members["message"], run
    assert not any(finding["fix"] for finding in (attributes, settings, members)), run
    assert empty_dest.sql(ours) == [(True, -1, ["work_mem=8MB"])]
    assert not empty_dest.sql("SELECT 1 FROM pg_auth_members WHERE roleid = 'postgres'::regrole")
    empty_dest.sql("ALTER ROLE postgres RESET ALL")


# --- which databases ---


def test_names_that_cannot_be_moved_are_told_at_once(old_source, empty_dest, pgcrane):
    run = run_instance(pgcrane, old_source.uri(), empty_dest.uri(), ["nowhere", SHOP, "no 'other'", "closed", "stamp", "template1"])
    failed = run.failed("PREFLIGHT_FAILED")
    assert "2 findings" in failed["message"] and "nothing was changed" in failed["message"], run
    assert '"nowhere"; "no \'other\'"' in run.findings["DATABASE_UNKNOWN"]["message"], run
    closed = run.findings["DATABASE_CLOSED"]
    assert '"closed" (it does not allow connections)' in closed["message"] and '"template1" (it is a template)' in closed["message"], run
    assert 'ALTER DATABASE "closed" ALLOW_CONNECTIONS true;' in closed["fix"], run
    assert not empty_dest.sql("SELECT 1 FROM pg_roles WHERE oid >= 16384")


def test_only_what_was_asked_for(old_source, empty_dest, pgcrane):
    run = run_instance(pgcrane, old_source.uri(), empty_dest.uri(), [DAMAGED, DAMAGED, "postgres"]).done()
    assert set(run.databases) == {DAMAGED, "postgres"} and not run.not_moved, run
    assert run.databases["postgres"]["exists"], run
    assert [name for name, *_ in empty_dest.sql(DATABASES_OF)] == [DAMAGED]


def test_list_only(old_source, empty_dest, pgcrane):
    alone = run_instance(pgcrane, old_source.uri("shop"), prepare=False).done()
    assert all(d["exists"] is None and d["made"] is False for d in alone.databases.values()), alone
    assert set(alone.databases) == {SHOP, DAMAGED, "latin", "icu"}, alone
    empty_dest.createdb("latin")
    both = run_instance(pgcrane, old_source.uri("shop"), empty_dest.uri(), prepare=False).done()
    assert {n for n, d in both.databases.items() if d["exists"]} == {"latin"}, both
    assert not empty_dest.sql("SELECT 1 FROM pg_roles WHERE oid >= 16384")
    for start in ([], [""], "shop", [7]):
        wrong = run_instance(pgcrane, old_source.uri(), prepare=False, databases=start)
        assert wrong.end == ("DONE" if start == [] else "FAILED"), wrong
    assert run_instance(pgcrane, old_source.uri(), prepare=True).failed("WIRE_BAD")


def test_postgres_moves_when_somebody_uses_it(old_source, pgcrane):
    table = "CREATE TABLE used (id int)"
    for make, drop in ((table, "DROP TABLE used"), ("SELECT lo_create(99)", "SELECT lo_unlink(99)")):
        old_source.sql(make)
        try:
            assert "postgres" in run_instance(pgcrane, old_source.uri("shop"), prepare=False).done().databases
        finally:
            old_source.sql(drop)
    assert "postgres" not in run_instance(pgcrane, old_source.uri(), prepare=False).done().databases


def test_what_belongs_to_a_provider_stays(empty_source, empty_dest, pgcrane):
    source = empty_source
    source.createdb("rdsadmin")
    source.sql("CREATE ROLE rds_superuser; CREATE ROLE app LOGIN; GRANT rds_superuser TO app")
    # Names alone mean nothing.
    first = run_instance(pgcrane, source.uri(), empty_dest.uri(), prepare=False).done()
    assert set(first.databases) == {"rdsadmin"}, first
    source.sql("CREATE ROLE rdsadmin SUPERUSER")
    source.createdb("theirs", "OWNER rds_superuser")
    run = run_instance(pgcrane, source.uri(), empty_dest.uri()).done()
    assert set(run.databases) == {"theirs"} and "provider" in run.not_moved["rdsadmin"], run
    assert empty_dest.sql("SELECT rolname FROM pg_roles WHERE oid >= 16384") == [("app",)]
    assert set(run.findings) == {"PROVIDER_MEMBERSHIP"}, run
    assert '"app" in "rds_superuser"' in run.findings["PROVIDER_MEMBERSHIP"]["message"], run
    # On the same provider's destination it can be given.
    empty_dest.sql("CREATE ROLE rds_superuser")
    assert not run_instance(pgcrane, source.uri(), empty_dest.uri()).done().findings
    assert empty_dest.sql("SELECT 1 FROM pg_auth_members WHERE member = 'app'::regrole")


def test_database_that_may_not_be_read(old_source, pgcrane):
    old_source.sql("CREATE ROLE plain LOGIN; REVOKE CONNECT ON DATABASE latin FROM PUBLIC")
    try:
        run = run_instance(pgcrane, old_source.uri("shop", "plain"), prepare=False).done()
        assert "may not connect" in run.not_moved["latin"] and "latin" not in run.databases, run
        assert run.findings["DATABASE_UNREADABLE"]["fix"] == 'GRANT CONNECT ON DATABASE "latin" TO "plain";', run
        named = run_instance(pgcrane, old_source.uri("shop", "plain"), databases=["latin"], prepare=False)
        named.failed("PREFLIGHT_FAILED")
        assert '"latin"' in named.findings["DATABASE_CLOSED"]["message"], named
    finally:
        old_source.sql("GRANT CONNECT ON DATABASE latin TO PUBLIC; DROP ROLE plain")


def test_locale_that_the_destination_lacks(empty_source, empty_dest, pgcrane):
    source = empty_source
    source.createdb("good")
    source.createdb("swiss")
    source.sql("UPDATE pg_database SET datcollate = 'gsw_CH.UTF-8' WHERE datname = 'swiss'")
    run = run_instance(pgcrane, source.uri(), empty_dest.uri())
    run.failed("PREFLIGHT_FAILED")
    assert run.findings["DATABASE_MISSING"]["fix"] == (
        'CREATE DATABASE "swiss" OWNER "postgres" TEMPLATE template0 ENCODING \'UTF8\' LC_COLLATE \'gsw_CH.UTF-8\''
        " LC_CTYPE 'C.UTF-8' LOCALE_PROVIDER libc;"), run
    assert run.databases["good"]["made"] and not run.databases["swiss"]["made"], run


def test_tablespace_is_left_out_and_told(empty_source, empty_dest, pgcrane):
    empty_source.sql("CREATE TABLESPACE fast LOCATION ''")
    quick = empty_source.createdb("quick", "TABLESPACE fast")
    try:
        run = run_instance(pgcrane, empty_source.uri(), empty_dest.uri()).done()
    finally:
        quick.drop()
        empty_source.sql("DROP TABLESPACE fast")
    assert run.findings["DATABASE_TABLESPACE"]["fix"] == 'ALTER DATABASE "quick" SET TABLESPACE "fast";', run
    assert run.databases["quick"]["made"], run


# --- servers ---


def test_standby_is_no_destination(old_source, empty_dest, pgcrane):
    with contextlib.ExitStack() as made:
        standby = make_standby(empty_dest, made)
        run = run_instance(pgcrane, old_source.uri(), standby.uri(password=PASSWORD))
    run.failed("PREFLIGHT_FAILED")
    assert "it is a standby" in run.findings["DESTINATION_UNFIT"]["message"], run


def test_lost_connection_is_opened_again(old_source, empty_dest, pgcrane):
    """The destination ends the session once, in the middle of the roles."""
    empty_dest.sql("CREATE SEQUENCE cuts; CREATE FUNCTION cut() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
                   " IF nextval('public.cuts') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; END $$;"
                   "CREATE EVENT TRIGGER cut ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION cut()")
    try:
        run = run_instance(pgcrane, old_source.uri(), empty_dest.uri()).done()
    finally:
        empty_dest.sql("DROP EVENT TRIGGER cut; DROP FUNCTION cut(); DROP SEQUENCE cuts")
    assert any("trying again" in event["text"] for event in run.bodies("EVENT")), run
    assert_same(old_source, empty_dest)
