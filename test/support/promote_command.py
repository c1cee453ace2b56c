"""What tests of `pgcrane promote` share."""
from support.trouble import assert_writable


def refused(following, *flags, code=2, reason="PROMOTE_REFUSED", **options):
    """A promote that does not come about, the source being as before; the error."""
    result = following.promote(*flags, check=False, **options)
    assert result.code == code, result
    told = [line["body"] for line in result.lines if line["type"] == "PROMOTED"]
    error = told[-1]["error"] if told else None
    error = error or next(line["body"] for line in result.lines if line["type"] == "FAILED")
    assert error["reason"] == reason and "promote again" in error["remedy"], error
    assert following.running(), following.said()
    assert_writable(following.source)
    return error


def phase(following, name):
    """Its state as last told."""
    told = following.bodies("PROGRESS")
    return next((p["state"] for p in told[-1]["phases"] if p["phase"] == name), None) if told else None


def has_locks(database):
    return database.cluster.sql("SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = %s"
                                " AND l.mode = 'ExclusiveLock' AND l.locktype = 'relation' AND l.granted", (database.name,))


def hooks(tmp_path, **commands):
    """Flags whose hooks also write down that they ran."""
    log = tmp_path / "hooks"
    log.touch()
    flags = []
    for name in ("before", "after", "undo"):
        flags += [f"--hook-{name}", f"echo $PGCRANE_STEP $PGCRANE_JOB >> {log}; {commands.get(name, 'true')}"]
    return flags, lambda: [line.split()[0] for line in log.read_text().splitlines()]
