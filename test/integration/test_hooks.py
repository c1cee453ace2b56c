"""Hooks that a promote has left: what the destination may make this machine run, which is nothing of its own."""

import os
import shutil

import pytest

from support.cluster import wait_until
from support.promote_command import hooks
from support.trouble import assert_promoted, assert_writable, failpoint, make

pytestmark = pytest.mark.turns(2)


@pytest.fixture
def prepared(source_db, dest_db, pgcrane):
    return make(pgcrane, source_db, dest_db)


def hooks_file(following):
    return f"{following.program.state_dir}/{following.status()[0]['job_id']}/hooks.json"


def killed_in_promote(prepared, point, *flags):
    (prepared.again if prepared.lines else prepared.start)(env=failpoint(f"{point}:kill"))
    prepared.wait_caught_up()
    assert prepared.command("promote", *flags, check=False).code == 2
    prepared.end()


def told(following):
    return [event["text"] for event in following.bodies("EVENT") if event["level"] == "error"]


def test_ledger_has_no_command(prepared, tmp_path):
    flags, _ = hooks(tmp_path)
    killed_in_promote(prepared, "promote.after_hook_before", *flags)
    lines = prepared.dest.sql("SELECT h::text FROM pgcrane.hook h")
    assert len(lines) == 2 and not any("echo" in line for line, in lines), lines
    assert oct(os.stat(hooks_file(prepared)).st_mode)[-3:] == "600"


@pytest.mark.parametrize("step", ("undo", "after"))
def test_command_from_the_ledger_is_not_run(step, prepared, tmp_path):
    """Whoever owns the destination, or restored it, writes a hook into the ledger in whatever form it may have."""
    mark = tmp_path / "mark"
    prepared.start()
    prepared.wait_caught_up()
    prepared.stop()
    columns = [name for name, in prepared.dest.sql(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = 'pgcrane.hook'::regclass AND attnum > 1 AND atttypid = 'text'::regtype")]
    values = ", ".join(f"'touch {mark}'" for _ in columns)
    prepared.dest.sql(f"INSERT INTO pgcrane.hook (step, {', '.join(columns)}) VALUES ('{step}', {values})")
    prepared.again()
    prepared.wait_caught_up()
    assert_promoted(prepared)
    assert not mark.exists()
    said = [text for text in told(prepared) if f"the hook {step} " in text]
    assert len(said) == (step == "undo") and all("run it by hand" in text and " UTC" in text for text in said), said


@pytest.mark.parametrize("what", ("gone", "edited"))
def test_without_the_file_it_is_told(what, prepared, tmp_path):
    """Another machine: the source is writable again, the hook is named, its line stays for the machine that has it."""
    flags, ran = hooks(tmp_path)
    killed_in_promote(prepared, "promote.after_marker", *flags)
    path = hooks_file(prepared)
    shutil.copy(path, tmp_path / "kept")
    if what == "gone":
        os.unlink(path)
    else:
        text = (tmp_path / "kept").read_text().replace("true", "false")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    prepared.again()
    prepared.wait_caught_up()
    assert ran() == ["before"] and len([text for text in told(prepared) if "hook undo" in text]) == 1
    assert_writable(prepared.source)
    prepared.stop()
    shutil.copy(tmp_path / "kept", path)
    prepared.again()
    prepared.wait_caught_up()
    assert ran() == ["before", "undo"] and not os.path.exists(path)
    assert prepared.dest.sql("SELECT step FROM pgcrane.hook") == []
    assert_promoted(prepared)


def test_open_without_the_file_is_in_the_report(prepared, tmp_path):
    flags, ran = hooks(tmp_path)
    killed_in_promote(prepared, "promote.before_hook_after", *flags)
    os.unlink(hooks_file(prepared))
    prepared.again()
    assert prepared.end() == 0, prepared.said()
    assert ran() == ["before"]
    assert any("hook after" in note and "run it by hand" in note for note in prepared.bodies("REPORT")[0]["notes"])


def test_old_line_means_nothing(prepared, tmp_path):
    """A destination restored with the line of a promote that is long over: its id is not that of the file."""
    flags, ran = hooks(tmp_path)
    killed_in_promote(prepared, "promote.after_marker", *flags)
    line = prepared.dest.sql("SELECT step, id, digest FROM pgcrane.hook WHERE step = 'undo'")[0]
    prepared.again()
    prepared.wait_caught_up()
    assert ran() == ["before", "undo"]
    prepared.stop()
    killed_in_promote(prepared, "promote.after_marker", *flags)
    prepared.dest.sql(f"UPDATE pgcrane.hook SET id = '{line[1]}', digest = '{line[2]}' WHERE step = 'undo'")
    prepared.again()
    prepared.wait_caught_up()
    assert ran() == ["before", "undo", "before"]


def test_killed_behind_the_file(prepared, tmp_path):
    """Nothing is due before the ledger says so."""
    flags, ran = hooks(tmp_path)
    killed_in_promote(prepared, "promote.after_hooks_file", *flags)
    assert os.path.exists(hooks_file(prepared)) and prepared.dest.sql("SELECT 1 FROM pgcrane.hook") == []
    prepared.again()
    prepared.wait_caught_up()
    assert ran() == [] and not told(prepared)
    assert_promoted(prepared)


def test_file_that_cannot_be_written(prepared, tmp_path):
    """Before anything was stopped."""
    flags, ran = hooks(tmp_path)
    prepared.start()
    prepared.wait_caught_up()
    path = hooks_file(prepared)
    os.makedirs(f"{path}.tmp")
    error = prepared.promote(*flags, check=False)
    assert error.code == 2 and "hooks.json" in error.stderr + error.stdout and ran() == [], error
    assert_writable(prepared.source)
    os.rmdir(f"{path}.tmp")
    assert prepared.promoted(prepared.promote(*flags))["ok"]
    wait_until(lambda: ran() == ["before", "after"], what="the hooks")
