"""The local provider: crashes of its servers, places that are not as they should be, backups and standbys."""
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import psycopg
import pytest

from support.cluster import is_alive, wait_until
from support.provision import Provisions

pytestmark = pytest.mark.turns(3)

FILL = "CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 5000) i"
SUM = "SELECT count(*), sum(hashtext(m)::bigint) FROM t"


@pytest.fixture
def local():
    made = Provisions("local")
    yield made
    made.end()


def journal(local, id):
    with open(os.path.join(local.instance(id), "journal.json"), encoding="utf-8") as file:
        return json.load(file)["steps"]


def change_marker(local, id, **fields):
    path = os.path.join(local.instance(id), "load")
    with open(path, encoding="utf-8") as file:
        marker = {**json.load(file), **fields}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(marker, file)


# --- crashes ---


def test_crash_in_load(local):
    """What was loaded counts for nothing; made anew at the same place, for the same clients."""
    spec = local.made(mode="LOAD")
    first = local.describe(spec["id"])
    assert local.settings(first, spec, "full_page_writes", "wal_level", "autovacuum", "backend_flush_after") == {
        "full_page_writes": "on", "wal_level": "minimal", "autovacuum": "off", "backend_flush_after": "64"}
    local.sql(first, spec, FILL)
    local.crash(spec["id"])
    damaged = local.describe(spec["id"])
    assert damaged["state"] == "DAMAGED" and "anew" in damaged["trouble"]
    for operation in ("reconfigure", "promote"):
        changed = local.run(operation, spec["id"], {**spec, "mode": "MIGRATING"})
        changed.error("PROVISION_DAMAGED")
        assert changed.said["provision"]["state"] == "DAMAGED"
    with socket.create_server(("127.0.0.1", first["endpoint"]["port"])):
        assert "is taken by" in local.create(spec).error("PROVISION_FAILED")["message"], "clients know that port"
    anew = local.create(spec).good()
    assert anew["state"] == "RUNNING" and anew["endpoint"] == first["endpoint"]
    assert anew["system_identifier"] != first["system_identifier"]
    assert local.sql(anew, spec, "SELECT to_regclass('t')::text") == [(None,)]
    memory = local.memory_of(spec["id"])
    local.crash(spec["id"])
    local.remove_whole(spec["id"], memory)


def test_machine_that_went_down_in_load(local):
    """pg_control says that all is well, and the rest of it need not have come to the disk."""
    spec = local.made(mode="LOAD")
    stop(local, spec)
    assert local.describe(spec["id"])["state"] == "STOPPED"
    change_marker(local, spec["id"], boot="another")
    assert local.describe(spec["id"])["state"] == "DAMAGED"
    local.reconfigure(spec, mode="MIGRATING").error("PROVISION_DAMAGED")
    change_marker(local, spec["id"], synced=True)
    assert local.describe(spec["id"])["state"] == "STOPPED"
    assert local.reconfigure(spec, mode="MIGRATING").good()["mode"] == "MIGRATING"


def stop(local, spec):
    """As the system does when it goes down."""
    server = local.server(spec["id"])
    os.kill(server[0], 2)
    wait_until(lambda: not is_alive(server), what="the server to be gone")


def test_crash_in_production(local):
    spec = local.made()
    status = local.describe(spec["id"])
    local.sql(status, spec, FILL)
    filled = local.sql(status, spec, SUM)
    local.crash(spec["id"])
    assert local.describe(spec["id"])["state"] == "STOPPED"
    assert local.create(spec).good() == status
    assert local.sql(status, spec, SUM) == filled


def test_setting_of_load_that_stays(local):
    """ALTER SYSTEM stands above what pgcrane writes: the instance is not called safe."""
    spec = local.made(mode="LOAD")
    status = local.describe(spec["id"])
    local.sql(status, spec, "ALTER SYSTEM SET fsync = off")
    error = local.reconfigure(spec, mode="MIGRATING").error("PROVISION_FAILED")
    assert "fsync is off" in error["message"] and "ALTER SYSTEM RESET fsync" in error["remedy"]
    assert local.describe(spec["id"])["mode"] == "LOAD"
    local.sql(status, spec, "ALTER SYSTEM RESET fsync")
    assert local.reconfigure(spec, mode="MIGRATING").good()["mode"] == "MIGRATING"


# --- places ---


def test_port(local):
    """A taken one is passed over at first; later it is said who has it, and it stays."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        spec = local.made()
        port = local.describe(spec["id"])["endpoint"]["port"]
        second = local.made()
        assert local.describe(second["id"])["endpoint"]["port"] != port
        stop(local, spec)
        other.bind(("0.0.0.0", port))
        other.listen()
        error = local.create(spec).error("PROVISION_FAILED")
        assert f"port {port} is taken by process {os.getpid()} " in error["message"]
    assert local.create(spec).good()["endpoint"]["port"] == port
    stop(local, spec)
    third = local.made()
    assert local.describe(third["id"])["endpoint"]["port"] != port, "it is the first one's, also when that is stopped"


def test_networks_and_tls(local):
    spec = local.made(networks=["10.1.2.0/24", "fd00::1"], require_tls=True)
    status = local.describe(spec["id"])
    assert local.settings(status, spec, "listen_addresses") == {"listen_addresses": "*"}
    rules = local.sql(status, spec, "SELECT type, address, auth_method FROM pg_hba_file_rules"
                                    " WHERE address NOT IN ('127.0.0.1', '::1')")
    assert rules == [("hostssl", "10.1.2.0", "scram-sha-256"), ("hostssl", "fd00::1", "scram-sha-256")]


def test_old_passwords(local):
    """MD5 verifiers that arrive from old sources are refused, but for whoever asks for them: then both kinds are taken."""
    spec = local.made()
    status = local.describe(spec["id"])
    local.sql(status, spec, "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'old';"
                            "SET password_encryption = 'scram-sha-256'; CREATE ROLE new LOGIN PASSWORD 'new'")

    def log_in(name):
        where = status["endpoint"]
        psycopg.connect(host=where["host"], port=where["port"], dbname="postgres", user=name, password=name).close()

    log_in("new")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        log_in("old")
    local.reconfigure(spec, flags=[{"name": "password_encryption", "value": "md5"}]).good()
    log_in("new")
    log_in("old")


def test_locale(local):
    spec = local.made(major=15, provider="icu", locale="en-US", collate="C", ctype="C.UTF-8", encoding="UTF8")
    status = local.describe(spec["id"])
    found = local.sql(status, spec, "SELECT datlocprovider::text, daticulocale, datcollate, datctype FROM pg_database"
                                    " WHERE datname = 'template1'")
    assert found == [("i", "en-US", "C", "C.UTF-8")]


@pytest.mark.parametrize("wrong, words", [({"encoding": "LATIN1"}, "encoding mismatch"), ({"encoding": "UTF-33"}, "UTF-33"),
                                          ({"provider": "icu", "locale": "@colStrength=nonsense"}, "collator")])
def test_what_initdb_will_never_make(local, wrong, words):
    """Nobody tries that again and again."""
    spec = local.spec(**wrong)
    error = local.create(spec).error("PROVISION_FAILED")
    assert words in error["message"] and not error["retryable"] and "locale -a" in error["remedy"], error
    assert local.describe(spec["id"])["state"] == "UNFINISHED"
    local.remove_whole(spec["id"])


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small file system")
def test_no_space(local):
    """initdb says so; it is made when there is room."""
    os.makedirs(os.path.join(local.state_dir, "instances"))
    place = os.path.join(local.state_dir, "instances")
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", place], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        spec = local.spec()
        error = local.create(spec).error("PROVISION_FAILED")
        assert "No space left on device" in error["message"] and "df -h" in error["remedy"] and error["retryable"]
        assert local.describe(spec["id"])["state"] == "UNFINISHED"
        local.remove(spec["id"]).good()
    finally:
        subprocess.run(["umount", place], check=True)
    assert local.create(local.spec(disk_mb=1 << 40)).error("PROVISION_REFUSED")["message"].count("MB free") == 1


def test_folder_of_somebody_else(local):
    """Nothing is made or removed where there is no journal, or behind a link."""
    spec = local.spec()
    folder = local.instance(spec["id"])
    os.makedirs(folder)
    with open(os.path.join(folder, "precious"), "w", encoding="ascii") as file:
        file.write("data")
    assert "precious" in local.create(spec).error("PROVISION_REFUSED")["message"]
    local.remove(spec["id"]).error("PROVISION_REFUSED")
    assert os.listdir(folder) == ["precious"]
    shutil.move(folder, folder + "-moved")
    os.symlink(folder + "-moved", folder)
    local.create(spec).error("PROVISION_REFUSED")
    os.unlink(folder)
    shutil.rmtree(folder + "-moved")


def test_links_are_not_followed(local):
    """The server's user may put links where he likes; what they lead to stays."""
    spec = local.made()
    elsewhere = os.path.join(local.folder, "elsewhere")
    os.makedirs(elsewhere)
    with open(os.path.join(elsewhere, "precious"), "w", encoding="ascii") as file:
        file.write("data")
    os.symlink(elsewhere, os.path.join(local.instance(spec["id"]), "data", "pg_tblspc", "16400"))
    os.symlink(elsewhere, os.path.join(local.instance(spec["id"]), "log", "zzz"))
    stop(local, spec)
    shutil.rmtree(os.path.join(local.instance(spec["id"]), "run"))
    os.symlink(elsewhere, os.path.join(local.instance(spec["id"]), "run"))
    local.remove(spec["id"]).good()
    assert os.listdir(elsewhere) == ["precious"]


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_as_an_unprivileged_service():
    local = Provisions("local", user="postgres")
    try:
        spec = local.made(mode="LOAD")
        assert local.reconfigure(spec, mode="MIGRATING").good()["state"] == "RUNNING"
        assert os.stat(os.path.join(local.instance(spec["id"]), "tls", "server.key")).st_mode & 0o777 == 0o600
    finally:
        local.end()


def test_no_secret_is_left(local):
    """Neither the journal nor a log nor a file has the password."""
    spec = local.made(flags=[{"name": "log_statement", "value": "all"}])
    local.reconfigure(spec, password="another-secret-1234").good()
    found = subprocess.run(["grep", "-rlaF", "-e", "another-secret-1234", "-e", spec["password"], local.state_dir],
                           capture_output=True, text=True, check=False)
    assert found.stdout == "" and found.returncode == 1


# --- certificates ---


def make_certificate(local, spec, days):
    """One of that many days takes the place of the instance's, as if it were years ago that it was made."""
    folder = os.path.join(local.folder, f"made-{days}")
    os.makedirs(folder)
    with open(os.path.join(folder, "names"), "w", encoding="ascii") as file:
        file.write("subjectAltName = IP:127.0.0.1\n")

    def run(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", "-new", *key, "-days", str(days), "-subj", f"/CN=authority {days}", "-keyout", "ca.key", "-out", "ca.crt")
    run("req", "-new", *key, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    run("x509", "-req", "-days", str(days), "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", "1",
        "-extfile", "names", "-out", "server.crt")
    for name in ("ca.crt", "server.crt", "server.key"):
        with open(os.path.join(folder, name), "rb") as made:
            with open(os.path.join(local.instance(spec["id"]), "tls", name), "r+b") as file:  # of whom it was
                file.truncate()
                file.write(made.read())
    change_journal(local, spec["id"], lambda steps: steps.pop("certificate", None))
    os.kill(local.server(spec["id"])[0], signal.SIGHUP)


def change_journal(local, id, change):
    path = os.path.join(local.instance(id), "journal.json")
    with open(path, encoding="utf-8") as file:
        noted = json.load(file)
    change(noted["steps"])
    with open(path, "w", encoding="utf-8") as file:
        json.dump(noted, file)


def logs_in(local, spec, status):
    try:
        return local.sql(status, spec, "SELECT 1") == [(1,)]
    except psycopg.OperationalError as error:
        assert "certificate verify failed" in str(error), error
        return False


def test_certificate_is_followed_by_another(local):
    """With a year left the next one is told, with two months left it takes the place of the first: without a restart, whatever the
    process dies at, and whoever has taken what was told is never shut out."""
    spec = local.made()
    fresh = local.tend(spec).good()
    assert fresh["endpoint"]["ca"].count("BEGIN CERTIFICATE") == 1 and fresh.get("trouble") is None
    started = local.sql(fresh, spec, "SELECT pg_postmaster_start_time()")
    make_certificate(local, spec, 300)
    old = local.describe(spec["id"])
    wait_until(lambda: logs_in(local, spec, old), what="the server to have the first certificate")
    for step in ("made", "told"):
        assert local.tend(spec, point("renew", step)).code == -9
        assert logs_in(local, spec, old) and logs_in(local, spec, local.describe(spec["id"]))
    told = local.tend(spec).good()
    assert told["endpoint"]["ca"].startswith(old["endpoint"]["ca"]) and told["endpoint"]["ca"].count("BEGIN CERTIFICATE") == 2
    assert "its certificate ends on" in told["trouble"] and logs_in(local, spec, told) and logs_in(local, spec, old)
    assert local.tend(spec).good() == told, "asked again, nothing is done"
    change_journal(local, spec["id"], lambda steps: steps["certificate"].update(end_us=int((time.time() + 59 * 86400) * 1e6)))
    assert local.tend(spec).good()["endpoint"] == told["endpoint"], "both were told today only"
    change_journal(local, spec["id"], lambda steps: steps["authorities"].update(told_us=int((time.time() - 31 * 86400) * 1e6)))
    for step in ("exchanged", "reloaded"):
        assert local.tend(spec, point("renew", step)).code == -9
        assert logs_in(local, spec, told), "before and behind the exchange"
    last = local.tend(spec).good()
    wait_until(lambda: logs_in(local, spec, last), what="the server to have the last certificate")
    assert last.get("trouble") is None and last["endpoint"]["ca"] in told["endpoint"]["ca"]
    assert logs_in(local, spec, told) and not logs_in(local, spec, old)
    assert local.sql(last, spec, "SELECT pg_postmaster_start_time()") == started
    assert sorted(name for name in os.listdir(local.instance(spec["id"])) if name.startswith("tls")) == ["tls"]
    local.remove_whole(spec["id"])


def point(operation, step):
    return {"PGCRANE_FAILPOINT": f"provision.{operation}.{step}:kill"}


# --- the application's ---


def promoted(local, **fields):
    spec = local.made(**fields)
    local.sql(local.describe(spec["id"]), spec, FILL)
    status = local.run("promote", spec["id"], {**spec, "mode": "MIGRATING"}).good()
    assert status["mode"] == "PRIMARY"
    return {**spec, "mode": "PRIMARY"}, status


def backups(local, spec):
    folder = os.path.join(local.instance(spec["id"]), "backups")
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def forget_backup(local, spec):
    """As if a day had passed."""
    change_journal(local, spec["id"], lambda steps: steps.update(backups={}))


def test_backups(local):
    """One a day, whole, seven kept; what a killed one has left is thrown away."""
    spec, status = promoted(local)
    killed = local.tend(spec, {"PGCRANE_FAILPOINT": "provision.backup.copied:kill"})
    assert killed.code == -9
    assert [name.endswith(".part") for name in backups(local, spec)] == [True]
    assert local.tend(spec).good().get("trouble") is None, "tried again in a quarter of an hour"
    forget_backup(local, spec)
    local.tend(spec).good()
    (first,) = backups(local, spec)
    local.tend(spec).good()
    assert backups(local, spec) == [first]
    for day in range(10, 18):
        folder = os.path.join(local.instance(spec["id"]), "backups", f"202501{day}T000000Z")
        shutil.copytree(os.path.join(local.instance(spec["id"]), "backups", first, "global"), folder)
    forget_backup(local, spec)
    time.sleep(1.1)  # their names have seconds
    tended = local.tend(spec)
    kept = backups(local, spec)
    assert tended.good().get("trouble") is None, tended.log
    assert len(kept) == 7 and kept[0] == "20250113T000000Z" and first in kept
    assert local.describe(spec["id"])["disk_used_mb"] > 30
    assert_starts(local, spec, kept[-1], local.sql(status, spec, SUM))


def assert_starts(local, spec, name, filled):
    """A backup is a data folder that a server starts from."""
    folder = os.path.join(local.instance(spec["id"]), "backups", name)
    found = subprocess.run(["runuser", "-u", "postgres", "--", "/usr/lib/postgresql/15/bin/postgres", "--single", "-D", folder,
                            "-c", "hba_file=/dev/null", "-c", "logging_collector=off", "postgres"], input=SUM, text=True,
                           capture_output=True, check=True)
    assert f'count = "{filled[0][0]}"' in found.stdout and f'sum = "{filled[0][1]}"' in found.stdout, found


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small file system")
def test_no_room_for_a_backup(local):
    """A disk that a backup fills takes the server down: there is none then, and that is told."""
    place = os.path.join(local.state_dir, "instances")
    os.makedirs(place)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "none", place], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        spec, status = promoted(local, regional=True)
        assert "needs" in status["trouble"] and "df -h" in status["trouble"], status
        told = local.tend(spec).good()
        assert told["state"] == "RUNNING" and told["trouble"].count("MB free on the disk") == 2, "the standby and the backup"
        assert backups(local, spec) == []
        assert local.sql(told, spec, "SELECT slot_name FROM pg_replication_slots") == [], "it would keep WAL, on such a disk"
        local.remove(spec["id"]).good()
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_promote_restarts_nothing(local):
    """The application's sessions are in it, and those of other databases: what waits for a restart goes on waiting."""
    spec = local.made()
    status = local.describe(spec["id"])
    started = local.sql(status, spec, "SELECT pg_postmaster_start_time()")
    local.sql(status, spec, "ALTER SYSTEM SET max_locks_per_transaction = 100")
    larger = {**spec, "memory_mb": 256}  # as when the machine has got more
    local.run("promote", spec["id"], larger).good()
    assert local.sql(status, spec, "SELECT pg_postmaster_start_time()") == started
    assert ("shared_buffers",) in local.sql(status, spec, "SELECT name FROM pg_settings WHERE pending_restart")
    local.remove_whole(spec["id"])


@pytest.mark.turns(6)
@pytest.mark.parametrize("step", ["place", "room", "slot", "conf", "copy", "include", "made"])
def test_standby(local, step):
    """Made once, whatever a killed attempt has left; follows; comes back by itself, also when it was away too long; goes when it
    is not wanted."""
    spec = local.made(regional=True)
    status = local.describe(spec["id"])
    local.sql(status, spec, FILL)
    killed = local.run("promote", spec["id"], spec, {"PGCRANE_FAILPOINT": f"provision.standby.{step}:kill"})
    assert killed.code == -9
    spec["mode"] = "PRIMARY"
    local.run("promote", spec["id"], spec).good()
    standby = local.server(spec["id"], "standby-data")
    assert standby and local.run("promote", spec["id"], spec).good()["endpoint"] == status["endpoint"]
    assert local.server(spec["id"], "standby-data") == standby, "asked again, nothing is done"
    streams(local, spec)
    local.crash(spec["id"], "standby-data")
    local.tend(spec).good()
    streams(local, spec)
    spec["flags"] = [{"name": "max_connections", "value": "120"}]
    local.reconfigure(spec).good()
    local.tend(spec).good()
    streams(local, spec)
    local.crash(spec["id"], "standby-data")
    local.sql(status, spec, "SELECT pg_drop_replication_slot('pgcrane_standby')")
    pause(local, spec, 0)
    local.tend(spec).good()
    streams(local, spec)
    spec["regional"] = False
    local.tend(spec).good()
    assert not local.server(spec["id"], "standby-data")
    assert local.sql(status, spec, "SELECT count(*) FROM pg_replication_slots") == [(0,)]
    local.remove_whole(spec["id"])


def streams(local, spec):
    """What is committed now comes to the standby."""
    status = local.describe(spec["id"])
    local.sql(status, spec, "INSERT INTO t VALUES (0, clock_timestamp()::text)")
    wanted = local.sql(status, spec, SUM)
    endpoint = {**status["endpoint"], "port": journal(local, spec["id"])["standby"]["port"]}
    standby = {**status, "endpoint": endpoint}
    assert local.sql(standby, spec, "SELECT pg_is_in_recovery()") == [(True,)]
    wait_until(lambda: local.sql(standby, spec, SUM) == wanted, what="the standby to have it")


def pause(local, spec, count):
    """As if it had gone down that often, a moment ago."""
    def change(steps):
        for step in {"starts", "standby_starts"} & set(steps):
            steps[step]["count"] = count
    change_journal(local, spec["id"], change)


def test_tend(local):
    """A server that went down is started, at first at once, then with pauses; the size and the logs are watched."""
    spec = local.made(disk_mb=256)
    assert local.tend(spec).good().get("trouble") is None
    local.crash(spec["id"])
    assert local.tend(spec).good()["state"] == "RUNNING"
    local.crash(spec["id"])
    pause(local, spec, 9)
    waits = local.tend(spec).good()
    assert waits["state"] == "STOPPED" and "again and again" in waits["trouble"]
    assert local.describe(spec["id"])["trouble"] == waits["trouble"]
    pause(local, spec, 0)
    log = os.path.join(local.instance(spec["id"]), "log")
    for i in range(20):
        with open(os.path.join(log, f"postgresql-{i}.log"), "w", encoding="ascii") as file:
            os.utime(file.name, (i, i))
    full = os.path.join(local.instance(spec["id"]), "data", "base", "full")
    with open(full, "wb") as file:
        file.write(b"x" * (260 << 20))
    status = local.tend(spec).good()
    assert status["state"] == "RUNNING" and "more than its limit of 256 MB" in status["trouble"]
    assert status["disk_used_mb"] > 260 and len(os.listdir(log)) == 14
    error = local.reconfigure(spec, mode="LOAD").error("PROVISION_REFUSED")
    assert "more than its limit" in error["message"]
    os.unlink(full)
    assert local.tend(spec).good().get("trouble") is None


def test_why_it_does_not_start(local):
    """Is told also while the next start waits; and nothing else that stands in its log, which may be data of users."""
    spec = local.made()
    local.crash(spec["id"])
    wal = os.path.join(local.instance(spec["id"]), "data", "pg_wal")
    os.rename(wal, wal + ".away")
    with open(os.path.join(local.instance(spec["id"]), "log", "postgresql-newest.log"), "w", encoding="ascii") as file:
        file.write("2026 [1] FATAL:  somebody is missing\n2026 [1] STATEMENT:  INSERT INTO t VALUES ('a secret row')\n")
    os.utime(file.name, (time.time() + 3600,) * 2)
    told = local.tend(spec).good()
    assert told["state"] == "STOPPED" and "somebody is missing" in told["trouble"] and "a secret row" not in told["trouble"], told
    pause(local, spec, 9)
    waits = local.tend(spec).good()
    assert "somebody is missing" in waits["trouble"] and "its next start waits a while" in waits["trouble"], waits
    os.unlink(file.name)
    os.rename(wal + ".away", wal)
    pause(local, spec, 0)
    assert local.tend(spec).good().get("trouble") is None


def test_primary_is_not_loaded_into(local):
    spec, _ = promoted(local)
    assert "application's" in local.reconfigure(spec, mode="LOAD").error("PROVISION_REFUSED")["message"]
    assert local.describe(spec["id"])["mode"] == "PRIMARY"


def test_way_out_of_load_that_died_is_not_gone_by_tend(local):
    """It starts nothing whose settings nobody has looked at."""
    spec = local.made(mode="LOAD")
    spec["mode"] = "MIGRATING"
    assert local.reconfigure(spec, {"PGCRANE_FAILPOINT": "provision.leave.sync:kill"}).code == -9
    status = local.tend(spec).good()
    assert status["state"] == "STOPPED" and "way out of load mode" in status["trouble"]
    assert local.reconfigure(spec).good().get("trouble") is None


@pytest.mark.parametrize("whom", ["initdb", "pgcrane"])
def test_killed_in_initdb(local, whom):
    """Half a data folder is thrown away, and nobody goes on writing to it."""
    spec = local.spec()
    slow = local.start("create", spec["id"], spec)
    initdb = wait_until(lambda: [p for p, c in local.program.processes().items() if c.split()[0].endswith("/initdb")],
                        what="initdb")
    victim = initdb[0] if whom == "initdb" else slow.process.pid
    os.kill(victim, 9)
    slow.wait()
    if whom == "initdb":
        assert "killed by signal 9" in slow.error("PROVISION_FAILED")["message"]
    wait_until(lambda: not any(c.split()[0].endswith("/initdb") for c in local.program.processes().values()),
               what="initdb to be gone")
    assert local.describe(spec["id"])["state"] == "UNFINISHED"
    local.create(spec).good()
    local.remove_whole(spec["id"])
