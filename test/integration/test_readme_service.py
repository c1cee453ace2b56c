"""What the README says of the service, typed as it stands there: only names of machines are replaced by ones that exist."""
import os
import re
import subprocess
from urllib.parse import quote

import pytest

from support.cluster import ROOT, Database, wait_until
from support.program import Program
from support.trouble import SCHEMA, assert_equal

pytestmark = pytest.mark.turns(2)

PASSWORD = "a secret/:@"


def blocks():
    """What is indented in the section, a text for each."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        section = re.search(r"^## As a service\n(.*?)^## ", file.read(), re.M | re.S).group(1)
    found = re.findall(r"(?:^    .*\n)+", section, re.M)
    return ["".join(line[4:] + "\n" for line in block.splitlines()) for block in found]


def block(word):
    """The one that begins with it."""
    (found,) = [text for text in blocks() if text.startswith(word)]
    return found


class Terminal:
    """Where somebody types."""

    def __init__(self, folder, names=()):
        self.program = Program(folder)
        self.names = dict(names)
        self.env = self.program.environment({"PGCRANE_LISTEN": "127.0.0.1:0"})
        self.env["PATH"] = os.path.dirname(self.program.binary) + ":" + self.env["PATH"]
        os.makedirs(folder, exist_ok=True)

    def words(self, text):
        for name, real in self.names.items():
            text = text.replace(name, real)
        return text

    def type(self, text):
        """Standard output; each command has to succeed."""
        run = subprocess.run(["sh", "-ec", self.words(text)], cwd=self.program.state_dir, env=self.env, capture_output=True, text=True,
                             timeout=100, stdin=subprocess.DEVNULL, check=False)
        assert run.returncode == 0 and "Sanitizer" not in run.stderr, f"{text}\n{run.stdout}\n{run.stderr}"
        return run.stdout

    def serve(self, text):
        """The command that stays. It listens on another port, which everything else is told."""
        log = os.path.join(self.program.state_dir, "serve.log")
        with open(log, "wb") as file:
            process = subprocess.Popen(["sh", "-ec", "exec " + self.words(text)], cwd=self.program.state_dir, env=self.env, stderr=file,
                                       stdin=subprocess.DEVNULL, start_new_session=True)
        self.program.started.append(process)
        said = lambda: re.search(r"listening on [\d.]+:(\d+)", open(log, encoding="utf-8").read())  # noqa: E731
        wait_until(lambda: said() or process.poll() is not None, 30)
        assert process.poll() is None, open(log, encoding="utf-8").read()
        self.port = said().group(1)
        self.env["PGCRANE_SERVER"] = f"http://127.0.0.1:{self.port}"
        return process


@pytest.fixture(scope="module")
def servers(make_cluster):
    """The old one with a shop, the new one without; both want the password of app."""
    old, new = make_cluster("readme_old", auth="scram-sha-256"), make_cluster("readme_new", auth="scram-sha-256")
    for cluster in (old, new):
        cluster.sql(f"CREATE ROLE app SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    old.createdb("shop").sql(SCHEMA)
    return old, new


@pytest.fixture
def terminal(tmp_path, servers):
    names = {f"{name}.example": f"127.0.0.1:{cluster.port}" for name, cluster in zip(("old", "new"), servers)}
    made = Terminal(tmp_path / "home", names)
    for name in ("old.password", "new.password"):
        (tmp_path / "home" / name).write_text(PASSWORD + "\n")
    yield made
    made.program.end_all()


@pytest.fixture
def shop(servers):
    old, new = servers
    source, dest = Database(old, "shop"), Database(new, "shop")
    yield source, dest
    old.sql("ALTER DATABASE shop RESET ALL")  # the promote made it read-only
    dest.drop()


def test_by_commands(terminal, shop):
    terminal.serve(block("pgcrane serve\n"))
    said = terminal.type(block("chmod 600").replace("describe shop --watch", "describe shop"))
    assert "Job shop is RUNNING, READY_FOR_PROMOTE.\n" in said and "Job shop is promoted: COMPLETED" in said, said
    assert terminal.type("pgcrane jobs describe shop --watch")  # ends, as the job is over
    assert_equal(*shop)


def test_by_a_file(terminal, shop):
    terminal.type("chmod 600 *.password")
    with open(os.path.join(terminal.program.state_dir, "shop.yaml"), "w", encoding="utf-8") as file:
        file.write(terminal.words(block("profiles:")))
    process = terminal.serve(block("pgcrane serve\n"))
    apply = block("pgcrane apply")
    terminal.type(apply)
    assert "Plan: 0 to make, 0 to change, 3 as they are" in terminal.type(apply.splitlines()[0])
    terminal.type("pgcrane jobs wait shop --for READY_FOR_PROMOTE")
    process.terminate()  # Ctrl-C ends it, jobs go on
    assert process.wait(20) == 0 and any(" session " in f"{c} " for c in terminal.program.processes().values())
    terminal.serve(block("pgcrane serve\n"))
    terminal.type("pgcrane jobs promote shop --yes")
    assert_equal(*shop)


def test_tokens_and_other_machines(terminal, tmp_path):
    home = tmp_path / "home"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                    home / "service.key", "-out", home / "service.crt", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    (home / "ca.crt").write_bytes((home / "service.crt").read_bytes())
    terminal.type(block("(umask 077; pgcrane tokens"))
    serve, ask = block("pgcrane serve --listen=").splitlines()
    terminal.serve(serve.replace(":8432", ":0"))
    assert "There is no migration job" in terminal.type(ask.replace("crane.example:8432", f"localhost:{terminal.port}"))


def test_nodes(terminal, servers, tmp_path):
    """Two, with one store and one key file, and a profile that both know."""
    old, _ = servers
    store = old.createdb("pgcrane")
    serve = block("pgcrane serve --store=").replace("pgcrane@db.example", f"app:{quote(PASSWORD, safe='')}@127.0.0.1:{old.port}")
    other = Terminal(tmp_path / "other")
    try:
        terminal.serve(serve)
        terminal.type("pgcrane profiles create a postgresql://app@old.example/shop")
        (tmp_path / "other" / "keys").write_bytes((tmp_path / "home" / "keys").read_bytes())
        os.chmod(tmp_path / "other" / "keys", 0o600)
        other.serve(serve)
        assert "a" in other.type("pgcrane profiles list")
    finally:
        other.program.end_all()
        terminal.program.end_all()
        store.drop()
