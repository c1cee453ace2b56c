"""The floor: what the two servers themselves need. Raw COPY out into COPY in, then bare index builds.

One queue of tasks for N sessions, biggest first: ranges of tables, and the indexes of a table as soon as its last range
is in. No foreign keys, no checks, no statistics, no bookkeeping. The tables are made beforehand and not counted.
"""
import shlex
import threading

RANGES_PER_LANE = 4
SMALLEST_RANGE_BLOCKS = 4096  # 32 MB

TABLES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), pg_relation_size(c.oid) / 8192, pg_table_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';
"""

INDEXES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), pg_relation_size(i.indexrelid), pg_get_indexdef(i.indexrelid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';
"""


class Floor:
    def __init__(self, setup):
        self.setup = setup
        self.ready = threading.Condition()
        self.tasks = []  # (weight, kind, table, SQL)
        self.waiting = {}  # table -> its index tasks
        self.ranges_left = {}
        self.failure = None
        self.plan()

    def plan(self):
        source, database = self.setup.source, self.setup.database
        for table, weight, statement in source.sql(database, INDEXES):
            self.waiting.setdefault(table, []).append((int(weight), "index", table, statement))
        for table, blocks, size in source.sql(database, TABLES):
            queries = ranges(table, int(blocks), self.setup.jobs)
            self.ranges_left[table] = len(queries)
            for query in queries:
                self.tasks.append((int(size) // len(queries), "copy", table, query))
        self.tasks.sort(key=lambda task: (task[1] == "copy", task[0]))

    def __call__(self, run):
        threads = [threading.Thread(target=self.lane, args=(run,), daemon=True) for _ in range(self.setup.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # with a time limit, so that Ctrl-C gets through
        if self.failure:
            raise RuntimeError(self.failure)

    def lane(self, run):
        task = self.next_task()
        while task:
            try:
                self.perform(run, task)
            except RuntimeError as problem:
                with self.ready:
                    self.failure = str(problem)
                    self.ready.notify_all()
                return
            self.complete(task)
            task = self.next_task()

    def next_task(self):
        with self.ready:
            while not self.tasks and any(self.ranges_left.values()) and not self.failure:
                self.ready.wait()
            return None if self.failure or not self.tasks else self.tasks.pop()

    def complete(self, task):
        _, kind, table, _ = task
        with self.ready:
            if kind == "copy":
                self.ranges_left[table] -= 1
                if self.ranges_left[table] == 0:
                    self.tasks += sorted(self.waiting.pop(table, []), key=lambda index: index[0])
            self.ready.notify_all()

    def perform(self, run, task):
        _, kind, table, text = task
        into = self.setup.dest.psql_argv(self.setup.target)
        if kind == "index":
            run.command(into + ["-c", text])
            return
        out = self.setup.source.psql_argv(self.setup.database) + ["-c", f"COPY ({text}) TO STDOUT"]
        into += ["-c", f"COPY {table} FROM STDIN"]
        run.command(["bash", "-c", f"set -o pipefail; {shlex.join(out)} | {shlex.join(into)}"])


def ranges(table, blocks, jobs):
    """The table as queries over ranges of blocks, the last one open."""
    step = max(SMALLEST_RANGE_BLOCKS, -(-blocks // (jobs * RANGES_PER_LANE)))
    starts = list(range(0, max(blocks, 1), step))
    if len(starts) == 1:
        return [f"SELECT * FROM ONLY {table}"]
    queries = []
    for start in starts:
        upper = "" if start == starts[-1] else f" AND ctid < '({start + step},0)'"
        queries.append(f"SELECT * FROM ONLY {table} WHERE ctid >= '({start},0)'{upper}")
    return queries
