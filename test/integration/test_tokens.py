"""`pgcrane tokens` and `pgcrane keys`: on the store itself, over both backends."""
import os
import re
import stat
import time

import pytest

from support.program import Program
from support.store import PARENT, make_place, store_server  # noqa: F401

pytestmark = pytest.mark.turns(2)

TOKEN = re.compile(r"pgc_(viewer|operator|admin)_[0-9A-Za-z]{43}")
NAME = f"{PARENT}/connectionProfiles/a"


class Service:
    """A state folder and a store, for the command and for the probe."""

    def __init__(self, program, place):
        self.program, self.place = program, place
        self.keys = os.path.join(program.state_dir, "keys")

    def __call__(self, *args, env=None):
        store = "sqlite:" + self.place.where if self.place.backend == "sqlite" else self.place.where
        return self.program(*args, "--state-dir", self.program.state_dir, env={"PGCRANE_STORE": store, **(env or {})})

    def must(self, *args, **options):
        result = self(*args, **options)
        assert result.code == 0, result
        return result

    def tokens(self):
        return self.must("tokens", "list", "--json").lines

    def secrets(self, probe, count):
        """Kept as the service does."""
        probe.command(open_keys=self.keys)
        probe.do({"op": "create", "kind": "CONNECTION_PROFILE", "name": NAME, "parent": PARENT},
                 *({"op": "vault-set", "keys": self.keys, "owner": NAME, "field": f"f{i:03}", "value": f"secret {i}"} for i in range(count)))

    def check(self, probe, count):
        got = probe.do(*({"op": "vault-get", "keys": self.keys, "owner": NAME, "field": f"f{i:03}"} for i in range(count)), read=True)
        assert got == [f"secret {i}" for i in range(count)]


@pytest.fixture(params=["sqlite", "15"])
def service(request, make_place, tmp_path):
    program = Program(tmp_path / "state")
    os.makedirs(program.state_dir)
    yield Service(program, make_place(request.param))
    program.end_all()


@pytest.fixture
def alone(tmp_path):
    """Without --store."""
    program = Program(tmp_path / "state")
    yield program
    program.end_all()


# --- tokens ---


def test_a_token_from_beginning_to_end(service):
    assert service.must("tokens", "list").stdout == "There is no token.\n"
    made = service.must("tokens", "create", "--role", "operator", "--name", "ci of né", "--expires", "90d")
    assert TOKEN.fullmatch(made.stdout.strip()).group(1) == "operator" and "is shown this once" in made.stderr
    text = made.stdout.strip()
    assert text not in made.stderr
    (listed,) = service.tokens()
    assert (listed["role"], listed["name"], listed["state"]) == ("operator", "ci of né", "good")
    assert listed["id"] in made.stderr and "lastUseTime" not in listed
    assert "ci of né" in service.must("tokens", "list").stdout
    gone = service.must("tokens", "revoke", listed["id"][:6], "--json").lines[0]
    assert gone["state"] == "revoked" and gone["revokeTime"]
    again = service.must("tokens", "revoke", listed["id"], "--json").lines[0]
    assert again["revokeTime"] == gone["revokeTime"]
    probe = service.place.open()
    assert [(a[2], a[3], a[6]) for a in probe.one("audits")] == [
        ("tokens.revoke", f"tokens/{listed['id']}", "OK"), ("tokens.create", f"tokens/{listed['id']}", "OK")]
    assert probe.one("audits")[0][1].startswith("cli:")
    # Nothing of the text is anywhere.
    assert not any(text[-43:] in str(row) for row in service.place.sql("SELECT * FROM token"))


def test_create_as_json(service):
    made = service.must("tokens", "create", "--role=viewer", "--json").lines[0]
    assert TOKEN.fullmatch(made["token"]) and made["role"] == "viewer" and "expireTime" not in made
    assert "token" not in service.tokens()[0]


def test_an_expired_token_is_shown_as_one(service):
    service.must("tokens", "create", "--role", "viewer", "--expires", "1m")
    service.place.sql("UPDATE token SET expire_us = create_us - 1")
    assert service.tokens()[0]["state"] == "expired"


@pytest.mark.parametrize("words", [
    ["tokens"], ["tokens", "make"], ["tokens", "create"], ["tokens", "create", "--role", "root"],
    ["tokens", "create", "--role", "viewer", "--expires", "soon"], ["tokens", "create", "viewer"], ["tokens", "revoke"],
    ["tokens", "list", "--role"], ["tokens", "list", "--jobs=3"], ["tokens", "list", "all"], ["keys"], ["keys", "rotate", "now"], ["tokens", "list", "--store", "nonsense"],
])
def test_wrong_use(alone, words):
    result = alone(*words, "--state-dir", alone.state_dir)
    assert result.code == 64 and result.stdout == "", result
    assert not os.path.exists(os.path.join(alone.state_dir, "store.db"))


def test_names_and_ids_that_are_refused(alone):
    place = ["--state-dir", alone.state_dir]
    for name in ("x" * 101, "a\nb", "a\x7fb"):
        result = alone("tokens", "create", "--role", "viewer", "--name", name, *place)
        assert result.code == 2 and "BAD_DATA" in result.stderr, result
    assert alone("tokens", "revoke", "ffff", *place).code == 2
    for part in ("3f9", "a" * 17, ""):
        assert alone("tokens", "revoke", part, *place).code == 64
    assert alone("tokens", "list", "--json", *place).lines == []
    alone("tokens", "create", "--role", "viewer", "--name", "\x1b[31mred", *place)
    assert "\x1b" not in alone("tokens", "list", *place).stdout


def test_the_store_of_a_state_folder(alone):
    assert alone("tokens", "create", "--role", "admin", "--state-dir", alone.state_dir).code == 0
    path = os.path.join(alone.state_dir, "store.db")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert len(alone("tokens", "list", "--json", "--state-dir", alone.state_dir, "--store", f"sqlite:{path}").lines) == 1


def test_the_store_by_a_file(alone, tmp_path):
    path = tmp_path / "where"
    path.write_text(f"sqlite:{tmp_path}/other.db\n")
    path.chmod(0o600)
    env = {"PGCRANE_STORE_FILE": str(path)}
    assert alone("tokens", "create", "--role", "admin", "--state-dir", alone.state_dir, env=env).code == 0
    assert (tmp_path / "other.db").exists()
    path.chmod(0o644)
    result = alone("tokens", "list", "--state-dir", alone.state_dir, env=env)
    assert result.code == 77 and f"chmod 600 '{path}'" in result.stderr
    path.chmod(0o600)
    result = alone("tokens", "list", "--state-dir", alone.state_dir, env={**env, "PGCRANE_STORE": "sqlite"})
    assert result.code == 64 and "both PGCRANE_STORE and PGCRANE_STORE_FILE" in result.stderr


def test_a_password_in_store_is_told_nobody(alone):
    uri = "postgresql://u:se-cret@127.0.0.1:1/none"
    process = alone.popen("tokens", "list", "--state-dir", alone.state_dir, f"--store={uri}")
    shown = ""
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/cmdline", "rb") as file:
                shown = file.read().decode() or shown
        except OSError:
            break
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 69 and "se-cret" not in out + err, (out, err)
    assert "******" in shown and "se-cret" not in shown


# --- keys ---


def test_a_rotation(service):
    probe = service.place.open()
    service.secrets(probe, 60)
    (before,) = service.must("keys", "list", "--json").lines
    assert before["secrets"] == 60 and before["newest"]
    assert stat.S_IMODE(os.stat(service.keys).st_mode) == 0o600
    rotated = service.must("keys", "rotate", "--json")
    assert rotated.lines == [{"newest": rotated.lines[0]["newest"], "resealed": 60, "current": 0}]
    assert rotated.lines[0]["newest"] != before["id"] and service.keys in rotated.stderr
    assert [(k["secrets"], k["newest"]) for k in service.must("keys", "list", "--json").lines] == [(0, False), (60, True)]
    service.check(probe, 60)
    assert service.must("keys", "reseal", "--json").lines[0]["resealed"] == 0
    assert service.must("keys", "prune", "--json").lines == [{"dropped": 1}]
    assert "1" not in service.must("keys", "prune").stdout[:1]
    service.check(probe, 60)
    probe.command(open_keys=service.keys)
    assert [a[2] for a in probe.one("audits")] == ["keys.prune", "keys.prune", "keys.reseal", "keys.rotate"]
    text = open(service.keys, encoding="utf-8").read().split()[-1]
    for args in (("keys", "list"), ("keys", "rotate"), ("keys", "prune")):
        result = service.must(*args)
        assert text not in result.stdout + result.stderr


def test_a_rotation_that_is_killed(service):
    probe = service.place.open()
    service.secrets(probe, 120)
    for point in ("keys.replace", "store.before_commit:kill:2", "keys.resealed", "store.before_commit:kill:3", "keys.resealed:kill:2"):
        env = {"PGCRANE_FAILPOINT": point if ":" in point else f"{point}:kill"}
        assert service("keys", "rotate", env=env).code == -9, point
        service.check(probe, 120)
    assert service.must("keys", "reseal", "--json").lines[0]["current"] > 0
    service.check(probe, 120)
    keys = service.must("keys", "list", "--json").lines
    assert len(keys) == 5 and [k["secrets"] for k in keys] == [0, 0, 0, 0, 120]
    assert service.must("keys", "prune", "--json").lines == [{"dropped": 4}]
    service.check(probe, 120)
    assert sorted(n for n in os.listdir(service.program.state_dir) if n.startswith("keys")) == ["keys"]


def test_keys_that_are_not_there(service, tmp_path):
    probe = service.place.open()
    service.secrets(probe, 1)
    os.rename(service.keys, tmp_path / "moved")
    result = service("keys", "rotate")
    assert result.code == 2 and "KEY_MISSING" in result.stderr and not os.path.exists(service.keys)
    service.must("keys", "list", env={"PGCRANE_KEY_FILE": str(tmp_path / "moved")})
    service.must("keys", "list", env={"PGCRANE_KEY": (tmp_path / "moved").read_text()})
    result = service("keys", "rotate", env={"PGCRANE_KEY": (tmp_path / "moved").read_text()})
    assert result.code == 64, result  # they are to be changed where they come from
    other = Program(tmp_path / "other")
    other("keys", "list", "--state-dir", other.state_dir)
    result = service("keys", "list", env={"PGCRANE_KEY_FILE": f"{other.state_dir}/keys"})
    assert result.code == 2 and "KEY_WRONG" in result.stderr, result
    os.chmod(tmp_path / "moved", 0o644)
    result = service("keys", "list", env={"PGCRANE_KEY_FILE": str(tmp_path / "moved")})
    assert result.code == 77 and "chmod 600" in result.stderr
    service.check(probe, 0)


def test_what_does_not_open_is_told(service):
    probe = service.place.open()
    service.secrets(probe, 3)
    service.place.sql("UPDATE secret SET value = value || 'ff' WHERE field = 'f001'")
    result = service("keys", "rotate")
    assert result.code == 2 and "SECRET_DAMAGED" in result.stderr and "2 secrets were sealed anew, 1 do not open" in result.stderr
    assert "f001" in result.stderr and "keys reseal" in result.stderr
    service.check(probe, 1)
