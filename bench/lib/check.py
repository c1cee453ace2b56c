"""Is it really there? Full comparison of two databases: every row of every table, and what was built on them."""
from concurrent.futures import ThreadPoolExecutor

# Tables that hold rows themselves; a tool's own bookkeeping is not data.
TABLES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcrane', 'pgcopydb')
ORDER BY pg_table_size(c.oid) DESC, 1;
"""

# The sum of two 64-bit hashes of each row's text does not depend on the order of the rows.
HASH = """
SET max_parallel_workers_per_gather = 2;
SELECT count(*), coalesce(sum(hashtextextended((whole.*)::text, 0)), 0), coalesce(sum(hashtextextended((whole.*)::text, 1)), 0)
FROM ONLY {table} AS whole;
"""

BUILT = """
SELECT 'index ' || i.indexrelid::regclass::text || ' on ' || i.indrelid::regclass::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisvalid AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcrane', 'pgcopydb');
"""

CONSTRAINTS = """
SELECT 'constraint ' || conname || ' on ' || conrelid::regclass::text || ': ' || pg_get_constraintdef(o.oid)
FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace
WHERE o.convalidated AND o.conrelid <> 0 AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', 'pgcrane', 'pgcopydb');
"""


def fingerprint(cluster, database, jobs):
    """{table: (rows, hash, hash)} of every table, plus the names of indexes and constraints."""
    tables = [row[0] for row in cluster.sql(database, TABLES)]
    with ThreadPoolExecutor(jobs) as pool:
        hashes = list(pool.map(lambda table: tuple(cluster.sql(database, HASH.format(table=table))[0]), tables))
    return {
        "tables": dict(zip(tables, hashes)),
        "indexes": {row[0] for row in cluster.sql(database, BUILT)},
        "constraints": {row[0] for row in cluster.sql(database, CONSTRAINTS)},
    }


def difference(source, dest, with_constraints):
    """None when equal, else the first thing that differs, in words."""
    for table, (rows, *hashes) in source["tables"].items():
        if table not in dest["tables"]:
            return f"table {table} is missing"
        other_rows, *other_hashes = dest["tables"][table]
        if rows != other_rows:
            return f"table {table} has {other_rows} rows, not {rows}"
        if hashes != other_hashes:
            return f"table {table} has other contents"
    for kind in ("indexes", "constraints") if with_constraints else ("indexes",):
        missing = sorted(source[kind] - dest[kind])
        if missing:
            return f"missing: {missing[0]}"
    return None
