"""One trial of the seam: writers at work while publications, slot, barrier, snapshot and marker are made; then a copy under
the snapshot and the slot's changes must come to the source's rows. test/seam-soak runs many."""
import contextlib
import random
import subprocess
import threading
import time

import psycopg

from support import seam_replay as replay
from support.cluster import wait_until
from support.seam import SLOT, Probe

TABLES = """
CREATE TABLE acc (id int PRIMARY KEY, v int, t text);
CREATE TABLE big (id int PRIMARY KEY, v int, t text);
ALTER TABLE big ALTER t SET STORAGE EXTERNAL;
CREATE TABLE img (id int, v int, t text);
ALTER TABLE img REPLICA IDENTITY FULL;
CREATE TABLE log (id int, v int, t text);
CREATE TABLE part (id int, v int, t text, PRIMARY KEY (id, v)) PARTITION BY RANGE (v);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (500);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (500) TO (1000);
INSERT INTO acc SELECT n, n, 'start' FROM generate_series(1, 100) n;
INSERT INTO big SELECT n, n, repeat(md5(n::text), 100) FROM generate_series(1, 30) n;
INSERT INTO img SELECT n, n, 'start' FROM generate_series(1, 100) n;
INSERT INTO part SELECT n, n * 5, 'start' FROM generate_series(1, 100) n;
"""
COPIED = ("acc", "big", "img", "log", "part_1", "part_2")
# What may go wrong for a writer without anybody being at fault; it rolls back and goes on.
EXPECTED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation,
            psycopg.errors.QueryCanceled, psycopg.errors.SerializationFailure)
KINDS = {"plain": 35, "savepoints": 15, "many": 6, "rollback": 10, "prepare": 14, "async": 14, "truncate": 6}


class Writers:
    """The application. kinds: {kind of transaction: weight}; each writer has its own random numbers."""

    def __init__(self, database, seed, count=6, kinds=None, pause=0.004):
        self.database, self.kinds, self.pause = database, kinds or KINDS, pause
        self.stopping = threading.Event()
        self.errors, self.done = [], {}
        self.threads = [threading.Thread(target=self._work, args=(n, random.Random(seed * 100 + n)), daemon=True)
                        for n in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
        assert not self.errors, self.errors

    def _work(self, number, rng):
        try:
            with contextlib.closing(self.database.connect(autocommit=False)) as conn:
                conn.execute("SET lock_timeout = '80ms'")
                conn.commit()
                writer = Writer(conn, number, rng, bool(self.kinds.get("truncate")))
                while not self.stopping.is_set():
                    writer.transaction(rng.choices(list(self.kinds), self.kinds.values())[0])
                    writer.finish_prepared()
                    time.sleep(rng.uniform(0, self.pause))
                writer.finish_prepared(all_of_them=True)
                for kind, done in writer.done.items():
                    self.done[kind] = self.done.get(kind, 0) + done
        except Exception as error:  # noqa: BLE001 (handed to the main thread)
            self.errors.append(error)


class Writer:
    def __init__(self, conn, number, rng, truncates):
        self.conn, self.number, self.rng, self.truncates = conn, number, rng, truncates
        self.prepared = []  # (when to end it, name)
        self.next_name = 0
        self.done = {}

    def transaction(self, kind):
        try:
            getattr(self, "do_" + kind)()
            self.done[kind] = self.done.get(kind, 0) + 1
        except EXPECTED:
            self.conn.rollback()

    def statement(self):
        table = self.rng.choice(("acc", "acc", "big", "img", "log", "part"))
        n, v = self.rng.randint(1, 150), self.rng.randint(0, 999)
        kind = self.rng.choice("iiuuukd") if table != "log" else "i"
        text = f"repeat(md5('{n}.{v}'), 100)" if table == "big" else f"'w{self.number}.{v}'"
        conflict = " ON CONFLICT DO NOTHING" if table not in ("img", "log") else ""
        return {
            "i": f"INSERT INTO {table} VALUES ({n}, {v}, {text}){conflict}",
            "u": f"UPDATE {table} SET v = {v} WHERE id = {n}",  # a move between partitions as well; 'unchanged' of big
            "k": f"UPDATE {table} SET id = {n + 1000}, t = {text} WHERE id = {n}",
            "d": f"DELETE FROM {table} WHERE id = {n} OR id = {n + 1000}",
        }[kind]

    def some(self, least=1, most=5):
        for _ in range(self.rng.randint(least, most)):
            self.conn.execute(self.statement())

    def do_plain(self):
        self.some()
        self.conn.commit()

    def do_rollback(self):
        self.some()
        self.conn.rollback()

    def do_async(self):
        self.conn.execute("SET LOCAL synchronous_commit = off")
        self.some()
        self.conn.commit()

    def do_savepoints(self):
        self.some(0, 2)
        for _ in range(self.rng.randint(1, 6)):
            self.conn.execute("SAVEPOINT s")
            if self.rng.random() < 0.15 and self.truncates:
                self.truncate()
            self.some(1, 2)
            if self.rng.random() < 0.4:
                self.conn.execute("ROLLBACK TO s")
        self.conn.commit()

    def do_many(self):
        """More subtransactions than a session's own list holds."""
        n = self.rng.randint(2000, 9000)
        for i in range(70):
            self.conn.execute(f"SAVEPOINT s{i}; INSERT INTO acc VALUES ({n} * 100 + {i}, {i}, 'sub')"
                              " ON CONFLICT DO NOTHING")
        self.some(0, 1)
        self.conn.commit()

    def truncate(self):
        tables = self.rng.sample(("acc", "big", "img", "log", "part", "part_1"), self.rng.choice((1, 1, 2)))
        self.conn.execute("TRUNCATE " + ", ".join(tables))

    def do_truncate(self):
        self.some(0, 2)
        self.truncate()
        self.some(0, 4)
        self.conn.commit()

    def do_prepare(self):
        if len(self.prepared) >= 2:
            return
        if self.rng.random() < 0.15 and self.truncates:
            self.truncate()
        self.some()
        if self.rng.random() < 0.3:
            self.conn.execute("SAVEPOINT p")
            self.some(1, 2)
        self.next_name += 1
        name = f"w{self.number}_{self.next_name}_{self.conn.info.backend_pid}"
        self.conn.execute(f"PREPARE TRANSACTION '{name}'")
        self.conn.commit()
        self.prepared.append((time.monotonic() + self.rng.uniform(0, 0.3), name))

    def finish_prepared(self, all_of_them=False):
        for due, name in list(self.prepared):
            if all_of_them or time.monotonic() >= due:
                self.conn.rollback()
                self.conn.autocommit = True
                self.conn.execute(("COMMIT" if self.rng.random() < 0.8 else "ROLLBACK") + f" PREPARED '{name}'")
                self.conn.autocommit = False
                self.prepared.remove((due, name))


# --- the protocol from its snapshot on ---


class Snapshot:
    """A held snapshot of the source, with its picture and its W (set by the caller)."""

    def __init__(self, source):
        self.source, self.w = source, None
        self.holder = source.connect(autocommit=False)
        self.holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        picture = "pg_current_snapshot()" if source.cluster.major >= 13 else "txid_current_snapshot()"
        self.picture_sql = f"SELECT {picture}::text"
        [(self.id, self.picture)] = self.holder.execute(
            f"SELECT pg_export_snapshot(), {picture}::text").fetchall()

    def close(self):
        self.holder.close()

    def copy(self, table, check_file=True):
        """(oid, Table), or None when the snapshot does not have it any more."""
        with contextlib.closing(self.source.connect(autocommit=False)) as lane:
            while True:
                try:
                    lane.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    lane.execute(f"SET TRANSACTION SNAPSHOT '{self.id}'")
                    assert lane.execute(self.picture_sql).fetchall() == [(self.picture,)]
                    lane.execute("SET LOCAL lock_timeout = '200ms'")
                    lane.execute(f"LOCK TABLE ONLY {table} IN ACCESS SHARE MODE")
                    return replay.copy_table(lane, table, self.picture, self.w, check_file)
                except psycopg.errors.LockNotAvailable:
                    lane.rollback()


def marker(source):
    """A flushed commit; its end."""
    with contextlib.closing(source.connect(autocommit=False)) as conn:
        conn.execute("SET LOCAL synchronous_commit = local")
        conn.execute("SELECT pg_logical_emit_message(true, 'pgcrane', 'w')")
        conn.commit()
        return conn.execute("SELECT pg_current_wal_flush_lsn()::text").fetchall()[0][0]


def seam(probe):
    """The steps of the program itself, the snapshot between barrier and marker: (its output, Snapshot)."""
    run = probe.start("publish", "slot", "barrier", "wait-stdin", "marker=seam", stdin=subprocess.PIPE)
    wait_until(lambda: run.saw("done", "barrier") or run.has_ended(), 60, "the barrier to be passed")
    assert not run.has_ended(), run.lines
    snapshot = Snapshot(probe.source)
    run.process.stdin.close()
    assert run.end() == 0, run.lines
    [snapshot.w] = run.values("end")
    return run, snapshot


def copy_all(source, snapshot, rng, check_file=True, pause=0.03):
    """Each table under the snapshot; one that was truncated since gets a later one: ({oid: Table}, {oid: name}, voids)."""
    tables, names, voids = {}, {}, 0
    for name in rng.sample(COPIED, len(COPIED)):
        time.sleep(rng.uniform(0, pause))
        copied = snapshot.copy(name, check_file)
        while copied is None:
            voids += 1
            again = Snapshot(source)
            again.w = marker(source)
            copied = again.copy(name)
            again.close()
        tables[copied[0]], names[copied[0]] = copied[1], name
    snapshot.close()
    return tables, names, voids


def all_of_them(questions):
    """A judge that is wrong: applies everything."""
    return [False] * len(questions)


def by_position(questions):
    """A judge that is wrong: what commits before W was in the copy."""
    return [commit < replay.lsn_value(w) for _, w, commit, _ in questions]


JUDGES = {"apply-all": all_of_them, "position": by_position}


def trial(program, source, ledger, seed, broken=None, kinds=None):
    """Counts of what happened; Different when rows were lost or came twice. broken: a rule left out, to see that it shows:
    file (no look at the file of a table), apply-all, position (JUDGES)."""
    rng = random.Random(seed)
    probe = Probe(program, source, ledger)
    source.sql(TABLES)
    with Writers(source, seed, kinds=kinds) as writers:
        time.sleep(rng.uniform(0.02, 0.25))
        run, snapshot = seam(probe)
        tables, names, voids = copy_all(source, snapshot, rng, broken != "file")
        time.sleep(rng.uniform(0.02, 0.25))
    marker(source)
    [begin] = run.values("l0")  # the program reads from here on; the slot itself may be behind
    source.sql("SELECT pg_replication_slot_advance(%s, %s)", (SLOT, begin))
    counts = replay.replay(tables, replay.peek(source), JUDGES.get(broken))
    replay.assert_same(source, tables, names)
    counts.update(voids=voids, slots=run.stderr.count(f"slot {SLOT} made"), listed=snapshot.picture.count(",") +
                  (not snapshot.picture.endswith(":")), transactions=sum(writers.done.values()))
    for kind, done in writers.done.items():
        counts["writers: " + kind] = done
    probe("remove")
    return counts
