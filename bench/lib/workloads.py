"""What the source does while nobody listens: tables to begin with, and the backlog that is then drained."""
import os
import subprocess
from dataclasses import dataclass

PGBENCH_SCALE = 60
CLIENTS = 4

# Every workload ends with a row here: where it is visible, everything before it is.
MARKER = "CREATE TABLE bench_marker (id integer PRIMARY KEY);"


@dataclass
class Workload:
    title: str
    prepare: object  # (source, database, scale): tables and rows to begin with
    backlog: object  # (source, database, scale)


def count(number, scale):
    return max(1, round(number * scale))


def pgbench(source, database, arguments):
    """pgbench without waiting for the disk: what the stream carries is the same."""
    env = {**os.environ, "PGOPTIONS": "-c synchronous_commit=off", "LC_ALL": "C.UTF-8"}
    argv = [os.path.join(source.space.bindir, "pgbench"), *arguments, source.uri(database)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, start_new_session=True)
    if done.returncode != 0:
        raise RuntimeError(f"pgbench: {done.stderr.strip()[-300:]}")


def transactions(number):
    return ["-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-t", str(max(1, number // CLIENTS))]


def script(source, database, name, text, number):
    """`number` transactions of a script of pgbench."""
    path = os.path.join(source.space.path, name + ".pgbench")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    pgbench(source, database, ["-f", path, *transactions(number)])


def quick(source, database, text, variables=None):
    source.sql(database, "SET synchronous_commit = off;\n" + text, variables)


# --- pgbench's own tables: its mix, and updates by key ---

def prepare_pgbench(source, database, scale):
    pgbench(source, database, ["-i", "-q", "-s", str(count(PGBENCH_SCALE, scale))])


def backlog_pgbench(source, database, scale):
    pgbench(source, database, transactions(count(200_000, scale)))


def backlog_updates(source, database, scale):
    """Distinct keys in the order of a hash table: random for the index. One transaction."""
    quick(source, database, """
SET enable_sort = off; SET work_mem = '256MB'; SET max_parallel_workers_per_gather = 0;
UPDATE pgbench_accounts AS a SET abalance = abalance + 1
FROM (SELECT DISTINCT 1 + (hashint8extended(i, 42) & 2147483647) % :keys AS aid
      FROM generate_series(1, :wanted * 2) AS i LIMIT :wanted) AS s
WHERE a.aid = s.aid;""", {"keys": count(PGBENCH_SCALE, scale) * 100_000, "wanted": count(1_000_000, scale)})


# --- plain rows ---

PLAIN = "CREATE TABLE plain (id bigint PRIMARY KEY, n integer, t text, made timestamptz, amount numeric(12,2));\n"
PLAIN_ROWS = """
INSERT INTO plain SELECT i, i * 7 % 100003, 'row ' || md5(i::text), timestamptz '2026-01-01' + i * interval '1 second',
       (i % 1000003) / 100.0
FROM generate_series(1, :rows) AS i;"""


def prepare_empty(source, database, _scale):
    quick(source, database, PLAIN)


def backlog_inserts(source, database, scale):
    quick(source, database, PLAIN_ROWS, {"rows": count(1_000_000, scale)})


def prepare_deletes(source, database, scale):
    quick(source, database, PLAIN + PLAIN_ROWS, {"rows": count(1_000_000, scale)})


def backlog_deletes(source, database, _scale):
    quick(source, database, "DELETE FROM plain WHERE id % 2 = 0;")


# --- very many transactions of one row ---

def backlog_tiny(source, database, scale):
    rows = count(1_000_000, scale)
    script(source, database, "tiny", f"\\set id random(1, {rows})\nUPDATE plain SET n = n + 1 WHERE id = :id;\n",
           count(100_000, scale))


# --- every kind of identity ---

IDENTITIES = """
CREATE TABLE two_columns (a integer, b text, n integer, PRIMARY KEY (a, b));
CREATE TABLE by_index (id integer NOT NULL, code text NOT NULL, n integer);
CREATE UNIQUE INDEX by_index_code ON by_index (code);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code;
CREATE TABLE whole (id integer, n integer, t text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE moving (id integer PRIMARY KEY, n integer);
CREATE TABLE only_inserts (id integer, t text);
INSERT INTO two_columns SELECT i, 'b' || i % 10, 0 FROM generate_series(1, :rows) AS i;
INSERT INTO by_index SELECT i, 'code ' || i, 0 FROM generate_series(1, :rows) AS i;
INSERT INTO whole SELECT i, 0, 'row ' || i FROM generate_series(1, 1000) AS i;
INSERT INTO moving SELECT i, 0 FROM generate_series(1, :rows) AS i;
"""

IDENTITIES_SCRIPT = """
\\set id random(1, {rows})
\\set few random(1, 1000)
BEGIN;
UPDATE two_columns SET n = n + 1 WHERE a = :id;
UPDATE by_index SET n = n + 1 WHERE id = :id AND code = 'code ' || :id;
UPDATE whole SET n = n + 1 WHERE id = :few;
UPDATE moving SET id = -id WHERE id IN (:id, 0 - :id);
INSERT INTO only_inserts VALUES (:id, 'noted');
COMMIT;
"""


def prepare_identities(source, database, scale):
    quick(source, database, IDENTITIES, {"rows": count(100_000, scale)})


def backlog_identities(source, database, scale):
    script(source, database, "identities", IDENTITIES_SCRIPT.format(rows=count(100_000, scale)), count(40_000, scale))


# --- big rows ---

DOCS = """
CREATE TABLE doc (id integer PRIMARY KEY, n integer NOT NULL, body text);
ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
INSERT INTO doc SELECT i, 0, repeat(md5(i::text), 3200) FROM generate_series(1, :rows) AS i;
"""

# New rows of 100 kB; some of 20 MB; updates that leave the big value alone; values replaced.
DOCS_BACKLOG = """
INSERT INTO doc SELECT i, 0, repeat(md5(i::text), 3200) FROM generate_series(1000001, 1000000 + 2 * :rows) AS i;
INSERT INTO doc SELECT i, 0, repeat(md5(i::text), 655360) FROM generate_series(2000001, 2000000 + :huge) AS i;
SELECT format('UPDATE doc SET n = n + 1 WHERE id BETWEEN %s AND %s', 1 + i * 100 % :rows, 100 + i * 100 % :rows)
FROM generate_series(1, :rows / 5) AS i \\gexec
UPDATE doc SET body = repeat(md5((-id)::text), 3000) WHERE id <= :rows / 2;
"""


def prepare_docs(source, database, scale):
    quick(source, database, DOCS, {"rows": count(1000, scale)})


def backlog_docs(source, database, scale):
    quick(source, database, DOCS_BACKLOG, {"rows": count(1000, scale), "huge": count(10, scale)})


WORKLOADS = {
    "pgbench": Workload("200,000 transactions of pgbench", prepare_pgbench, backlog_pgbench),
    "inserts": Workload("1,000,000 inserts, one transaction", prepare_empty, backlog_inserts),
    "updates": Workload("1,000,000 updates by random key, one transaction", prepare_pgbench, backlog_updates),
    "deletes": Workload("500,000 deletes, one transaction", prepare_deletes, backlog_deletes),
    "tiny": Workload("100,000 transactions of one update", prepare_deletes, backlog_tiny),
    "identities": Workload("40,000 transactions over all kinds of identity", prepare_identities, backlog_identities),
    "docs": Workload("rows of 100 kB and 20 MB", prepare_docs, backlog_docs),
}
