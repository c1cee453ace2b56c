"""Trouble with --state-dir: a disk that is full, a folder that was copied."""
import contextlib
import os
import shutil
import socket
import subprocess

import pytest

from support.cluster import wait_until
from support.program import json_lines
from support.trouble import assert_promoted, make

pytestmark = pytest.mark.turns(2)


@pytest.fixture
def small_disk(pgcrane):
    """--state-dir on a file system of its own."""
    folder = str(pgcrane.state_dir)
    os.makedirs(folder, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount")
    yield folder
    pgcrane.end_all()
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    with contextlib.suppress(OSError), open(f"{folder}/fill", "wb") as file:
        while True:
            file.write(b"x" * 1024)
            file.flush()


def told(following, words):
    return [event["text"] for event in following.bodies("EVENT") if words in event["text"]]


def test_full_disk(small_disk, source_db, dest_db, pgcrane):
    """Who follows is still reached, and says once that it cannot write, and once that it can again."""
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    fill(small_disk)
    wait_until(lambda: told(following, "is out of date"), what="the warning")
    shown = following.command("status").stdout
    assert f"Process      {following.process.pid}" in shown and "nobody works on it" not in shown, shown
    assert following.promoted(following.promote("--dry-run"))["ok"]
    os.unlink(f"{small_disk}/fill")
    wait_until(lambda: told(following, "up to date again"), what="the second word")
    assert len(told(following, "is out of date")) == len(told(following, "up to date again")) == 1
    assert following.status()[0]["running"] is True
    assert_promoted(following)


def test_full_disk_from_the_beginning(small_disk, source_db, dest_db, pgcrane):
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    fill(small_disk)
    following.stop()
    following.again()
    following.wait_caught_up()
    assert "nobody works on it" not in following.command("status").stdout
    assert following.promoted(following.promote("--dry-run"))["ok"]
    os.unlink(f"{small_disk}/fill")
    assert_promoted(following)


def test_status_of_a_copy(source_db, dest_db, pgcrane, tmp_path):
    """It has the words of a process that may well live."""
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    copy = tmp_path / "copy"
    shutil.copytree(pgcrane.state_dir, copy, ignore=shutil.ignore_patterns("*.sock"))
    shown = pgcrane("status", "--state-dir", copy).stdout
    assert "not known here" in shown and f"process {following.process.pid} on {socket.gethostname()}" in shown, shown
    assert "WORKER_LOST" not in shown and "nobody works on it" not in shown, shown
    now = json_lines(pgcrane("status", "--json", "--state-dir", copy).stdout)[0]
    assert (now["running"], now["state"], now["error"]) == (None, "RUNNING", None)
    following.kill("everything")
    following.process.wait()
    assert "WORKER_LOST" in following.command("status").stdout


def test_status_when_the_lock_is_lost(source_db, dest_db, pgcrane):
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    os.unlink(f"{pgcrane.state_dir}/{following.status()[0]['job_id']}/control.lock")
    shown = following.command("status").stdout
    assert "lives but has not the lock" in shown and "WORKER_LOST" not in shown, shown
