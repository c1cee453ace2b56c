"""The program is replaced, the machine shut down, the store taken back to a copy, while jobs are at work."""
import contextlib
import os
import shutil
import signal
import sqlite3

import pytest

from support.cluster import wait_until
from support.service import Service
from support.trouble import SCHEMA, Writer, assert_equal

pytestmark = pytest.mark.turns(2)


@pytest.fixture
def shop(source, dest):
    """A database on the source, and one of the same name to move it to."""
    made = [cluster.createdb("shop") for cluster in (source, dest)]
    made[0].sql(SCHEMA)
    yield made
    for database in made:
        database.drop()


def test_the_program_is_replaced(tmp_path, source, dest, shop):
    """Its path is gone: the daemon still starts sessions, those their workers, those their keepers, all of the old program. The
    daemon of the new one finds them."""
    service = Service(tmp_path / "service")
    program = service.program.binary
    installed = str(tmp_path / "pgcrane")
    shutil.copy(program, installed)
    service.program.binary = installed
    with service:
        os.unlink(installed)
        service.job_of("move", source, dest, ["shop"])
        service.done("move", "start")
        service.wait_ready("move")
        session = service.pids("session")
        assert len(session) == 1 and os.readlink(f"/proc/{session[0]}/exe") == installed + " (deleted)"
        shutil.copy(program, installed)
        service.restart()
        with Writer(shop[0]) as writer:
            writer.wait_for(20)
            assert service.pids("session") == session
            service.done("move", "promote")
        assert_equal(*shop)


def test_a_shutdown(tmp_path, source, dest, shop):
    """Daemon and sessions are asked to end; when the machine is there again, the job goes on by itself."""
    with Service(tmp_path / "service") as service, contextlib.ExitStack() as stack:
        service.job_of("move", source, dest, ["shop"])
        service.done("move", "start")
        service.wait_ready("move")
        writer = stack.enter_context(Writer(shop[0]))
        service.stop()
        for pid in service.pids("session"):
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not service.program.processes(), 30, "everything to end")
        writer.wait_for(20)
        service.start()
        wait_until(lambda: service.pids("session"), 30, "the job to go on")
        service.wait_ready("move")
        service.done("move", "promote")
    assert_equal(*shop)


def test_back_to_a_copy_of_the_store(tmp_path, source, dest, shop):
    """As the guide says. The copy was made while the service ran, and knows nothing of a session that was begun since: the job goes
    on from what is committed on its destination."""
    with Service(tmp_path / "service") as service:
        service.job_of("move", source, dest, ["shop"])
        service.done("move", "start")
        service.wait_ready("move")
        store, copy = os.path.join(service.folder, "store.db"), tmp_path / "store.copy"
        with contextlib.closing(sqlite3.connect(store)) as old, contextlib.closing(sqlite3.connect(copy)) as new:
            old.backup(new)
        session = service.pids("session")
        os.kill(session[0], signal.SIGKILL)
        service.wait_anew("session", session)
        service.wait_ready("move")
        service.stop()
        service.program.end_all()
        shutil.rmtree(os.path.join(service.folder, "sessions"))
        for name in ("store.db-wal", "store.db-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(service.folder, name))
        shutil.copy(copy, store)
        with Writer(shop[0]) as writer:
            writer.wait_for(20)
            service.start()
            wait_until(lambda: service.pids("session"), 30, "the job to go on")
            service.wait_ready("move")
            service.done("move", "promote")
    assert_equal(*shop)
