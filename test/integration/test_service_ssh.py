"""Jobs whose servers only a bastion host reaches: through tunnels of ssh, at both ends."""
import contextlib
import glob
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess

import pytest

from support.api import JOBS, LOCATION
from support.cluster import Database, wait_until
from support.service import Service
from support.ssh_server import SshServer, make_key
from support.tcp_proxy import Proxy
from support.trouble import SCHEMA, Writer, assert_equal

PASSWORD = "b4stion 'and\\ more"
USER = "mover"
SOURCE, DEST, OTHER = ("source.internal", 5432), ("dest.internal", 6543), ("other.internal", 5432)
NOWHERE = ("nowhere.internal", 5432)
KEY_MARK = "PRIVATE KEY"
NO_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nbm9uZQ==\n-----END OPENSSH PRIVATE KEY-----\n"


def secure(cluster, folder):
    """The server has a certificate of its name behind the bastion; the text of that."""
    made = [os.path.join(folder, name) for name in ("server.key", "server.crt")]
    subprocess.run(["openssl", "req", "-new", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={SOURCE[0]}", "-keyout",
                    made[0], "-out", made[1]], check=True, capture_output=True)
    for path in made:
        where = os.path.join(cluster.data, os.path.basename(path))
        shutil.copy(path, where)
        os.chmod(where, 0o600)
        if cluster.user:
            shutil.chown(where, cluster.user, cluster.user)
    cluster.configure({"ssl": "on"})
    cluster.reload()
    with open(made[1], encoding="ascii") as file:
        return file.read()


@pytest.fixture(scope="module")
def servers(make_cluster, tmp_path_factory):
    """The source speaks TLS; its certificate."""
    source, dest = make_cluster("ssh_source"), make_cluster("ssh_dest")
    return source, dest, secure(source, str(tmp_path_factory.mktemp("certificate")))


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """(private, public) of the one that the bastion knows, and of one that it does not."""
    folder = tmp_path_factory.mktemp("keys")
    return make_key(folder / "known"), make_key(folder / "unknown")


@pytest.fixture
def bastion(servers, keys):
    source, dest, _ = servers
    aims = {SOURCE: ("127.0.0.1", source.port), OTHER: ("127.0.0.1", source.port), DEST: ("127.0.0.1", dest.port),
            NOWHERE: ("127.0.0.1", 1)}
    with SshServer({USER: PASSWORD}, [(USER, keys[0][1])], aims) as running:
        yield running


@pytest.fixture
def shop(servers):
    source, dest = servers[0].createdb("shop"), servers[1].createdb("shop")
    source.sql(SCHEMA)
    yield source, dest
    for database in (source, dest):
        database.drop()


class Tunnelled(Service):
    """With a folder in memory of its own."""

    def __init__(self, folder, servers, keys, bastion, **env):
        self.memory = os.path.join(folder, "memory")
        os.makedirs(self.memory)
        super().__init__(os.path.join(folder, "service"), env={"RUNTIME_DIRECTORY": self.memory, **env})
        self.source, self.dest, self.certificate = servers
        self.key = keys[0][0]
        self.bastion = bastion

    def way(self, **fields):
        """forwardSshConnectivity"""
        return {"hostname": "127.0.0.1", "port": self.bastion.port, "username": USER, **fields}

    def make_job(self, name="move", **fields):
        """The source by key and with its certificate looked at, the destination by password."""
        self.profile("from", self.source, host=SOURCE[0], port=SOURCE[1], forwardSshConnectivity=self.way(privateKey=self.key),
                     ssl={"type": "SERVER_ONLY", "caCertificate": self.certificate, "sslFlags": {"sslmode": "verify-full"}})
        self.profile("to", self.dest, host=DEST[0], port=DEST[1], forwardSshConnectivity=self.way(password=PASSWORD))
        self.create_job(name, "from", "to", ["shop"], **fields)

    def begin(self, **fields):
        self.make_job(**fields)
        self.done("move", "start")
        self.wait_ready("move")

    def test(self, aim=SOURCE, **way):
        """Tries a profile that is not kept: the operation at its end."""
        body = {"postgresql": {"host": aim[0], "port": aim[1], "username": "postgres", "forwardSshConnectivity": self.way(**way)}}
        return self.end_of(self.good(self.post(LOCATION + "/connectionProfiles", body, connectionProfileId="tried",
                                               validateOnly="true")))

    def refused(self, reason, *parts, **way):
        """The error of a profile that is tried, whose reason and words are as said."""
        error = self.test(**way)["error"]
        assert error["details"][0]["reason"] == reason, error
        for part in parts:
            assert part in str(error), (part, error)
        self.assert_nothing_left()
        return error

    def files(self):
        """In memory: keys and passwords of bastions, certificates."""
        return glob.glob(os.path.join(self.memory, "*", "*.pem"))

    def ssh(self):
        return sorted(pid for pid, command in self.program.processes().items() if "ExitOnForwardFailure" in command)

    def assert_nothing_left(self):
        """Beside the daemon."""
        wait_until(lambda: not self.ssh() and not self.pids("tunnel"), 60, f"tunnels to end: {self.program.processes()}")
        wait_until(lambda: not [f for f in self.files() if "ssh" in f], 60, f"keys to be removed: {self.files()}")

    def assert_no_secrets(self):
        """In command lines, environments and files of the service; but for what is sealed and what stands in memory."""
        secrets = ("b4stion", KEY_MARK)
        for pid, command in self.program.processes().items():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", encoding="utf-8", errors="replace") as file:
                command += file.read()
            assert not any(secret in command for secret in secrets), command
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
                    text = file.read()
                    assert not any(secret.encode() in text for secret in secrets), name


@pytest.fixture
def service(tmp_path, servers, keys, bastion):
    with Tunnelled(str(tmp_path), servers, keys, bastion) as running:
        yield running
    running.assert_nothing_left()


def wait_for_row(service, shop, number):
    shop[0].sql(f"INSERT INTO item VALUES ({number}, 'through the tunnel')")
    wait_until(lambda: shop[1].sql(f"SELECT count(*) FROM item WHERE id = {number}") == [(1,)], 40,
               f"row {number}: {service.log()[-2000:]}")


# --- a whole job ---


def test_from_start_to_promote(service, shop, bastion):
    """Started, cut off in the middle, promoted; each connection has come through the bastion."""
    service.begin()
    assert len(service.ssh()) == len(service.pids("tunnel")) == 2
    rows = shop[0].sql("""SELECT ssl, backend_type FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                          WHERE application_name LIKE 'pgcrane%'""")
    assert all(row[0] for row in rows) and "walsender" in [row[1] for row in rows], rows
    files = service.files()
    assert sorted(os.path.basename(f).rsplit("-", 1)[0] for f in files) == ["dest-sshpassword", "source-ca", "source-sshkey"]
    assert all(stat.S_IMODE(os.stat(f).st_mode) == 0o600 for f in files)
    service.assert_no_secrets()
    with Writer(shop[0]) as writer:
        writer.wait_for(10)
        logins = bastion.logins
        assert bastion.cut() == 2
        wait_until(lambda: bastion.logins >= logins + 2, 20, f"both tunnels to be opened again: {bastion.logins} of {logins}")
        writer.wait_for(10)
        wait_for_row(service, shop, 4711)
        service.wait_ready("move")
        assert service.done("move", "promote")["state"] == "COMPLETED"
    assert_equal(*shop)
    said = " ".join(e.get("text", str(e)) for e in service.good(service.get(f"{JOBS}/move/events"))["events"])
    assert "b4stion" not in said
    wait_until(lambda: not service.pids("session"), what="the sessions to end")
    service.assert_nothing_left()
    assert service.files() == []
    service.assert_no_secrets()


@pytest.mark.turns(3)
def test_checks_and_databases(service, shop):
    """What is found out for a job, and changes nothing."""
    service.make_job()
    service.done("move", "verify")
    operation = service.end_of(service.good(service.get(f"{JOBS}/move:fetchSourceObjects")))
    assert "error" not in operation and "shop" in service.objects("move"), operation
    service.assert_nothing_left()


@pytest.mark.turns(3)
def test_cut_while_copying(tmp_path, servers, keys, bastion, shop):
    """What was being copied is copied again, with the snapshot if that was lost."""
    with Tunnelled(str(tmp_path), servers, keys, bastion, PGCRANE_FAILPOINT="copy.before_chunk:sleep=1500") as service:
        service.make_job(kind="ONE_TIME")
        service.verb("move", "start")
        wait_until(lambda: shop[1].sql("SELECT to_regclass('keyless') IS NOT NULL") == [(True,)], 40, "the copy")
        assert bastion.cut() == 2
        service.wait_for("move", "COMPLETED", timeout=90)
    assert_equal(*shop)


@pytest.mark.turns(6)
def test_a_way_that_is_half_open(tmp_path, servers, keys, bastion, shop):
    """A firewall has forgotten the connections: nobody is told, they are given up for their silence, and the source's old
    walsender still has the slot."""
    with Proxy(bastion) as proxy, Tunnelled(str(tmp_path), servers, keys, proxy) as service:
        service.begin()
        with Writer(shop[0]) as writer:
            writer.wait_for(10)
            logins = bastion.logins
            proxy.lose_all()
            wait_until(lambda: bastion.logins >= logins + 2, 120, f"both to be opened again: {bastion.logins} of {logins}")
            shop[0].sql("INSERT INTO item VALUES (4712, 'behind the silence')")
            wait_until(lambda: shop[1].sql("SELECT count(*) FROM item WHERE id = 4712") == [(1,)], 180, service.log()[-2000:])
            service.wait_ready("move", timeout=120)
            assert service.done("move", "promote")["state"] == "COMPLETED"
        assert_equal(*shop)
        service.assert_nothing_left()


# --- who dies ---


@pytest.mark.turns(2)
def test_killed(service, shop, bastion):
    """ssh, its minder, the session: following goes on; everything at once: nothing is left but the job, which goes on later."""
    service.begin()
    for number, kill in enumerate((service.ssh, lambda: service.pids("tunnel"), lambda: service.pids("session")), 5001):
        pids, before = kill(), set(service.ssh())
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not before & set(service.ssh()), 60, "ssh to end")
        wait_for_row(service, shop, number)
        service.wait_ready("move")
        wait_until(lambda: len(service.ssh()) == len(service.pids("tunnel")) == 2, 60, "two tunnels")
    service.stop()
    assert service.kill_processes("session") == 1
    wait_until(lambda: not service.program.processes(), 20, f"all to end: {service.program.processes()}")
    service.assert_nothing_left()
    service.start()
    service.wait_ready("move")
    wait_for_row(service, shop, 5004)
    service.remove("move")
    assert shop[0].sql("SELECT slot_name FROM pg_replication_slots WHERE database = 'shop'") == []


@pytest.mark.turns(3)
def test_minder_and_session_killed(service, shop):
    """The system ends ssh; files are removed by the next session."""
    service.begin()
    service.stop()
    for pid in service.pids("tunnel") + service.pids("session"):
        os.kill(pid, signal.SIGSTOP)
    for pid in service.pids("tunnel") + service.pids("session"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not service.ssh(), 60, "ssh to end")
    service.start()
    service.wait_ready("move")
    assert len(service.files()) == 3
    service.remove("move")


@pytest.mark.turns(3)
def test_bastion_away(service, shop, bastion):
    """Longer than a run waits: the job names the tunnel, and goes on when the bastion is back."""
    service.begin(dumpFlags={"dumpFlags": [{"name": "retry-for", "value": "2"}]})
    bastion.stop()
    job = wait_until(lambda: (j := service.job("move"))["state"] == "FAILED" and j, 40, "the job to fail")
    assert job["error"]["details"][0]["reason"] == "TUNNEL_FAILED" and "nextRetryTime" in job, job
    assert f"{USER}@127.0.0.1:{bastion.port}" in job["error"]["message"], job
    bastion.start()
    service.wait_ready("move", 60)
    wait_for_row(service, shop, 6001)
    service.remove("move")


# --- what is refused ---


def test_refused(service, keys, bastion):
    """By a profile that is only tried: each error says which bastion, and what ssh said."""
    named = f"{USER}@127.0.0.1:{bastion.port}"
    assert "error" not in service.test(privateKey=service.key)
    assert "error" not in service.test(privateKey=service.key.replace("\n", "\r\n").rstrip())
    assert "error" not in service.test(password=PASSWORD)
    service.refused("TUNNEL_REFUSED", named, "Permission denied", "ssh -v -N", password="wr0ng")
    service.refused("TUNNEL_REFUSED", named, "Permission denied", privateKey=keys[1][0])
    service.refused("TUNNEL_REFUSED", "Load key", "Permission denied", privateKey=NO_KEY)
    service.refused("TUNNEL_REFUSED", "privateKey")
    service.refused("TUNNEL_FAILED", "nowhere.internal:5432", "connect failed", aim=NOWHERE, password=PASSWORD)
    service.refused("TUNNEL_FAILED", "Connection refused", password=PASSWORD, port=1)
    service.refused("TUNNEL_FAILED", "Could not resolve", password=PASSWORD, hostname="no-such-host.invalid")
    bastion.forbids = True
    service.refused("TUNNEL_FAILED", named, "administratively prohibited", password=PASSWORD)
    assert "wr0ng" not in service.log()


def test_another_name_in_the_certificate(service):
    """The tunnel's address does not stand for the server's name."""
    fields = {"forwardSshConnectivity": service.way(password=PASSWORD), "username": "postgres",
              "ssl": {"type": "SERVER_ONLY", "caCertificate": service.certificate, "sslFlags": {"sslmode": "verify-full"}}}
    for aim, good in ((SOURCE, True), (OTHER, False)):
        body = {"postgresql": {"host": aim[0], "port": aim[1], **fields}}
        operation = service.end_of(service.good(service.post(LOCATION + "/connectionProfiles", body, validateOnly="true",
                                                             connectionProfileId="tried")))
        assert ("error" not in operation) == good, operation
        assert good or operation["error"]["details"][0]["reason"] == "TLS_FAILED", operation


def test_another_host_key(service, bastion):
    """Of the bastion that was trusted: refused, until a person has the old one forgotten, as the error says."""
    assert "error" not in service.test(password=PASSWORD)
    bastion.stop()
    bastion.change_host_key()
    bastion.start()
    logins = bastion.logins
    known = os.path.join(service.folder, "ssh_known_hosts")
    error = service.refused("TUNNEL_HOST_KEY", f"line 1 of {known}", password=PASSWORD)
    assert bastion.logins == logins
    remedy = f"ssh-keygen -R '[127.0.0.1]:{bastion.port}' -f {shlex.quote(known)}"
    assert remedy in str(error), error
    subprocess.run(shlex.split(remedy), check=True, capture_output=True)
    assert "error" not in service.test(password=PASSWORD)


def test_no_ssh(tmp_path, servers, keys, bastion):
    """What is to be installed is said."""
    empty = tmp_path / "bin"
    empty.mkdir()
    with Tunnelled(str(tmp_path), servers, keys, bastion, PATH=str(empty)) as service:
        service.refused("SSH_MISSING", "openssh-client", password=PASSWORD)


FIRST_REFUSED = """#!/bin/sh
echo "$*" >>{log}
[ -e {mark} ] && exec /usr/bin/ssh "$@"
touch {mark}
echo "bind [127.0.0.1]:1: Address already in use" >&2
exit 255
"""


def test_port_is_taken(tmp_path, servers, keys, bastion):
    """Another one is taken, at once."""
    folder, log = tmp_path / "bin", tmp_path / "argv"
    folder.mkdir()
    (folder / "ssh").write_text(FIRST_REFUSED.format(log=log, mark=tmp_path / "mark"), encoding="ascii")
    (folder / "ssh").chmod(0o755)
    with Tunnelled(str(tmp_path), servers, keys, bastion, PATH=f"{folder}:/usr/bin:/bin") as service:
        assert "error" not in service.test(password=PASSWORD)
    ports = re.findall(r"-L 127.0.0.1:(\d+):", log.read_text(encoding="ascii"))
    assert len(ports) == len(set(ports)) == 2, ports


# --- the profile ---


def test_key_and_password_exclude_each_other(service, servers):
    """The one that was given last counts."""
    service.profile("from", servers[0], host=SOURCE[0], port=SOURCE[1], forwardSshConnectivity=service.way(password="wr0ng"))
    profile = f"{LOCATION}/connectionProfiles/from"

    def patch(field, value):
        body = {"postgresql": {"forwardSshConnectivity": {field: value}}}
        service.finished(service.patch(profile, body, updateMask=f"postgresql.forwardSshConnectivity.{field}"))
        return service.sql("SELECT field FROM secret WHERE field LIKE '%ssh%' OR field LIKE '%Ssh%'")

    assert patch("privateKey", service.key) == [("postgresql.forwardSshConnectivity.privateKey",)]
    assert patch("password", PASSWORD) == [("postgresql.forwardSshConnectivity.password",)]
    operation = service.end_of(service.good(service.patch(profile, {}, validateOnly="true", updateMask="displayName")))
    assert "error" not in operation, operation


def test_databases_that_are_not_there(service, shop):
    """Behind a tunnel that carries it is the server's error that counts."""
    service.make_job()
    Database(service.source, "shop").drop()
    operation = service.end_of(service.verb("move", "start"))
    assert operation["error"]["details"][0]["reason"] == "PREFLIGHT_FAILED", operation
