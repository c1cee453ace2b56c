"""What is installed for a service under systemd: the unit starts the program, and all that the example says is so."""
import json
import os
import re
import shutil
import socket
import ssl
import subprocess

import pytest

from support.api import Daemon
from support.cluster import ROOT, wait_until
from support.program import find_program

pytestmark = pytest.mark.turns(2)

UNIT = os.path.join(ROOT, "packaging", "pgcrane.service")
EXAMPLE = os.path.join(ROOT, "packaging", "pgcrane.conf")


@pytest.fixture
def unit():
    """{name: [values]} of all its sections."""
    found = {}
    with open(UNIT, encoding="utf-8") as file:
        for line in file:
            if re.match(r"[A-Z]\w*=", line):
                name, value = line.rstrip("\n").split("=", 1)
                found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def example():
    """[(set or only shown, name, value)]"""
    with open(EXAMPLE, encoding="utf-8") as file:
        lines = re.findall(r"^(#?)([a-z-]+) = (.+)$", file.read(), re.M)
    return [(mark == "", name, value) for mark, name, value in lines]


def started(program, folder, *words, **options):
    """Whether it listens: (process, port)."""
    log = os.path.join(folder, "started.log")
    with open(log, "wb") as file:
        process = program.popen(*words, stderr=file, **options)
    wait_until(lambda: "listening on" in open(log, encoding="utf-8").read() or process.poll() is not None, 30)
    text = open(log, encoding="utf-8").read()
    assert process.poll() is None, text
    return process, int(re.search(r"listening on [\d.]+:(\d+)", text).group(1))


def test_the_unit_starts_it(unit, pgcrane, tmp_path):
    """With the words of ExecStart and another file; sessions are left alone in all ways that systemd has."""
    (command,) = unit["ExecStart"]
    words = command.split()
    assert words[0] == "pgcrane" and "--config=/etc/pgcrane/pgcrane.conf" in words
    settings = tmp_path / "pgcrane.conf"
    settings.write_text(f"# of a test\nlisten = 127.0.0.1:0\nstate-dir = {tmp_path}/state\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        process, _ = started(pgcrane, tmp_path, *[f"--config={settings}" if w.startswith("--config=") else w for w in words[1:]],
                             env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"})
        assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        process.terminate()
        while (said := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1" and process.wait(20) == 0
    wanted = {"Type": "notify", "KillMode": "process", "OOMPolicy": "continue", "RuntimeDirectoryPreserve": "yes",
              "RuntimeDirectory": "pgcrane", "StateDirectory": "pgcrane", "StateDirectoryMode": "0700", "RuntimeDirectoryMode": "0700",
              "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "User": "pgcrane"}
    assert {name: unit[name] for name in wanted} == {name: [value] for name, value in wanted.items()}
    assert "WatchdogSec" in unit and "DynamicUser" not in unit and "ProcSubset" not in unit and "ExecReload" not in unit


def test_every_setting_of_the_example(example, pgcrane, tmp_path):
    """All that there are, with their defaults; taken by a daemon that really starts with them, and by tokens and keys."""
    shown = pgcrane("serve", "--help").stdout
    flags = set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", shown, re.M)) - {"config", "help"}
    assert {name for _, name, _ in example} == flags
    assert [name for is_set, name, _ in example if is_set] == ["state-dir"]
    assert (False, "listen", re.search(r"--listen=[^(]*\(default: ([\d.:]+)\)", shown).group(1)) in example

    state, cert, key = tmp_path / "state", tmp_path / "service.crt", tmp_path / "service.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                   check=True, capture_output=True)
    text, seen = "", set()
    for _, name, value in example:
        if name not in seen:  # of several the first is the default
            text += f"{name} = {value}\n"
        seen.add(name)
    for before, after in (("/var/lib/pgcrane", state), ("/etc/pgcrane/service.crt", cert), ("/etc/pgcrane/service.key", key),
                          (":8432", ":0")):
        assert before in text
        text = text.replace(before, str(after))
    settings = tmp_path / "pgcrane.conf"
    settings.write_text(text)
    process, port = started(pgcrane, tmp_path, "serve", f"--config={settings}")
    daemon = Daemon(state, tls=ssl.create_default_context(cafile=cert))
    daemon.port = port
    assert daemon.get("/readyz").text == "ok\n"
    assert pgcrane("tokens", "create", "--role=viewer", f"--config={settings}").stdout.startswith("pgc_viewer_")
    assert "newest" in pgcrane("keys", "list", f"--config={settings}").stdout
    assert {"keys", "store.db"} <= set(os.listdir(state))
    process.terminate()
    assert process.wait(20) == 0


@pytest.mark.parametrize("text, message", [("listen = 127.0.0.1:0\nlisten = 127.0.0.1:0\n", "line 2: listen was set before"),
                                           ("listn = 127.0.0.1:0\n", "line 1: listn is no setting"),
                                           ("jobs = 4\n", "line 1: jobs is no setting"),
                                           ("api-only = maybe\n", 'line 1: --api-only: "maybe" is not true or false'), (None, "No such file")])
def test_settings_that_are_wrong(text, message, pgcrane, tmp_path):
    settings = tmp_path / "pgcrane.conf"
    if text is not None:
        settings.write_text(text)
    result = pgcrane("serve", f"--config={settings}", f"--state-dir={tmp_path}")
    assert result.code == 64 and message in result.stderr and str(settings) in result.stderr, result


def test_systemd_takes_it(tmp_path):
    """No word of it is unknown to systemd, and what it leaves open is little (of ten)."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    run = subprocess.run([analyze, "verify", "--man=no", UNIT], capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in run.stderr.splitlines() if "pgcrane.service:" in line and "Command pgcrane is not executable" not in line]
    assert not said, run.stderr
    run = subprocess.run([analyze, "security", "--no-pager", "--offline=true", "--threshold=20", UNIT], capture_output=True, text=True,
                         timeout=60, check=False)
    assert run.returncode == 0, run.stdout[-300:] + run.stderr


def test_it_is_installed():
    """Where systemd and people look for it."""
    path = os.path.join(os.path.dirname(find_program()), "meson-info", "intro-installed.json")
    if not os.path.exists(path):
        pytest.skip("the program under test stands in no build folder")
    with open(path, encoding="utf-8") as file:
        installed = {os.path.relpath(source, ROOT): target for source, target in json.load(file).items()}
    for source, target in (("packaging/pgcrane.service", "lib/systemd/system/pgcrane.service"),
                           ("packaging/pgcrane.sysusers", "lib/sysusers.d/pgcrane.conf"),
                           ("packaging/pgcrane.conf", "share/doc/pgcrane/pgcrane.conf"),
                           ("doc/pgcrane-serve.1", "share/man/man1/pgcrane-serve.1"),
                           ("packaging/pgcrane.bash-completion", "share/bash-completion/completions/pgcrane")):
        assert installed[source].endswith("/" + target), installed
