"""What the tests of a migration have in common: reading its messages, running it until it is done, looking for what it left."""
import contextlib
import json
import os
import threading

import psycopg

from support import compare
from support.cluster import ROOT, wait_until

DATA = os.path.join(ROOT, "test", "data")
# Small ranges, so that small tables have several; no questions; messages as JSON.
FLAGS = ("--yes", "--json", "--jobs", "3", "--split-size", "256kB")

OURS = "starts_with(application_name, 'pgcrane')"
# Everything that a migration could leave in a database: relations, functions, schemas, publications, settings.
OBJECTS = """SELECT 'relation', oid::regclass::text, relfilenode::text FROM pg_class WHERE oid >= 16384 AND relkind <> 't'
 UNION ALL SELECT 'function', oid::regprocedure::text, '' FROM pg_proc WHERE oid >= 16384
 UNION ALL SELECT 'schema', nspname, '' FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
 UNION ALL SELECT 'publication', pubname, '' FROM pg_publication
 UNION ALL SELECT 'event trigger', evtname, '' FROM pg_event_trigger
 UNION ALL SELECT 'trigger', tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal
 UNION ALL SELECT 'slot', slot_name::text, '' FROM pg_replication_slots WHERE database = current_database()
 UNION ALL SELECT 'setting', setrole::text, setconfig::text FROM pg_db_role_setting
     WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
 UNION ALL SELECT 'large object', oid::text, '' FROM pg_largeobject_metadata
 ORDER BY 1, 2, 3"""


def data_file(name):
    return os.path.join(DATA, name)


def bodies(result, kind):
    return [line["body"] for line in result.lines if line["type"] == kind]


def report_of(result):
    found = bodies(result, "REPORT")
    assert len(found) == 1, f"not one report\n{result}"
    return found[0]


def failure_of(result):
    """Body of the message that a failed run ends with; it says what to do."""
    assert result.code != 0, f"it did not fail\n{result}"
    assert result.lines and result.lines[-1]["type"] == "FAILED", f"the last line is no FAILED\n{result}"
    failed = result.lines[-1]["body"]
    assert failed["message"], result
    return failed


def findings_of(result):
    return [finding for body in bodies(result, "FINDINGS") for finding in body["findings"]]


def finding(result, check):
    found = [f for f in findings_of(result) if f["id"] == check]
    assert found, f"no finding {check}\n{result}"
    return found[0]


def assert_fails(result, code, *reasons):
    """One clear error with a documented exit code; no secrets, no internal words."""
    failed = failure_of(result)
    assert result.code == code, result
    assert failed["reason"] in reasons, result
    assert failed["reason"] != "INTERNAL", result
    return failed


def assert_done(result):
    assert result.code == 0, str(result)
    assert result.lines[-1]["type"] == "DONE", result
    return report_of(result)


def sessions(database):
    return database.cluster.sql(f"SELECT application_name, state, query FROM pg_stat_activity WHERE {OURS} AND datname = %s",
                                (database.name,))


def assert_nothing_left(program, source_db, dest_db=None, within=15):
    """No session, lock or prepared transaction of ours on the source, no process; no ledger when it is done."""
    wait_until(lambda: not sessions(source_db), within, f"our sessions to leave the source: {sessions(source_db)}")
    locks = source_db.sql("SELECT locktype, mode FROM pg_locks WHERE locktype = 'advisory' AND database = "
                          "(SELECT oid FROM pg_database WHERE datname = current_database())")
    assert not locks, locks
    wait_until(lambda: not program.processes(), within, f"our processes to end: {program.processes()}")
    if dest_db is not None:
        assert not has_ledger(dest_db), "the ledger is still there"
        wait_until(lambda: not sessions(dest_db), within, "our sessions to leave the destination")


def definitions(database, *extra):
    """The text of pg_dump, without the keys that each dump has of its own."""
    text = database.dump_schema(extra)
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def has_ledger(database):
    return bool(database.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'pgcrane'"))


def chunks_done(database):
    """{(relation, no)} of the ranges that the ledger calls copied, and the number of all."""
    try:
        rows = database.sql("SELECT relation::text, no, rows IS NOT NULL FROM pgcrane.chunk")
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return set(), 0
    return {(relation, no) for relation, no, done in rows if done}, len(rows)


@contextlib.contextmanager
def unchanged(database):
    """The source has the same objects, with the same files, before and after."""
    before = database.sql(OBJECTS)
    yield
    after = database.sql(OBJECTS)
    assert before == after, (set(before) ^ set(after))


def migrate_equal(program, source_db, dest_db, *flags, **options):
    """Migrates, compares everything, looks for remains; returns the report."""
    with unchanged(source_db):
        result = program("migrate", source_db.uri, dest_db.uri, *FLAGS, *flags, **options)
    report = assert_done(result)
    compare.assert_equal(source_db.uri, dest_db.uri)
    assert_nothing_left(program, source_db, dest_db)
    return report


def ends_equal(program, running, source_db, dest_db, *flags):
    """A run that was disturbed goes on by itself, or says how to go on; then the same command. All is compared."""
    out, err = running.communicate(timeout=180)
    if running.returncode != 0:
        assert running.returncode in (2, 69), out + err
        assert_done(program("migrate", source_db.uri, dest_db.uri, *flags))
    compare.assert_equal(source_db.uri, dest_db.uri)
    assert_nothing_left(program, source_db, dest_db)


def killed_by_failpoint(result, text):
    """The worker died at the fail point (and not of something else)."""
    assert result.code != 0, f"{text} was never reached\n{result}"
    assert failure_of(result)["reason"] == "WORKER_LOST", result


def worker_pids(program, word="worker"):
    """Processes of ours whose sub-command is `word`."""
    return [pid for pid, line in program.processes().items() if word in line.split()[1:2]]


def follow(process):
    """Reads the JSON lines of a running program into a list, by a thread: (list, thread)."""
    lines = []

    def read():
        for line in process.stdout:
            lines.append(json.loads(line))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return lines, thread


class Writers:
    """An application that moves money while the copy runs; each transfer is one transaction over three tables."""

    def __init__(self, database, count=3):
        self.database = database
        self.stopping = threading.Event()
        self.errors = []
        self.done = [0] * count
        self.threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(count)]

    def _work(self, number):
        try:
            with contextlib.closing(self.database.connect(autocommit=False)) as conn:
                turn = number * 7919
                while not self.stopping.is_set():
                    turn += 1
                    source, dest, amount = 1 + turn * 13 % 2000, 1 + turn * 29 % 2000, 1 + turn % 9
                    conn.execute("UPDATE bank.left_account SET balance = balance - %s WHERE id = %s", (amount, source))
                    conn.execute("INSERT INTO bank.transfer (from_left, to_right, amount) VALUES (%s, %s, %s)",
                                 (source, dest, amount))
                    conn.execute("UPDATE bank.right_account SET balance = balance + %s WHERE id = %s", (amount, dest))
                    conn.commit()
                    self.done[number] += 1
        except psycopg.Error as error:
            self.errors.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.errors or min(self.done) > 20, what="writers to be at work")
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
        assert not self.errors, self.errors


def assert_one_moment(database):
    """Each account agrees with the transfers, row by row: all three tables show the same moment."""
    for table, column, sign in (("left_account", "from_left", -1), ("right_account", "to_right", 1)):
        wrong = database.sql(
            f"SELECT a.id, a.balance, t.moved FROM bank.{table} a LEFT JOIN (SELECT {column} AS id, sum(amount) AS moved"
            f" FROM bank.transfer GROUP BY 1) t USING (id) WHERE a.balance <> 1000 + {sign} * coalesce(t.moved, 0)")
        assert not wrong, f"{table}: {len(wrong)} accounts do not agree with the transfers, such as {wrong[:3]}"
