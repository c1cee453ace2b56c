"""One pair of major versions, by the service: test/version-matrix, and the short one of each day."""
import contextlib
import glob
import os

import pytest

from support.arrived import assert_all_arrived
from support.cluster import FETCHED, Cluster, Database, has_server, newest_client, version_of
from support.migration import data_file
from support.service import Service
from support.trouble import SCHEMA, Writer

ROOM = {"shared_buffers": "32MB", "max_wal_senders": "20", "max_replication_slots": "20"}
SINCE_TORTURE = 15  # what test/data/torture.sql is written for
ROLES = """CREATE ROLE app LOGIN PASSWORD 'of the app'; CREATE ROLE readers; GRANT readers TO app; ALTER ROLE app SET work_mem = '7MB'"""
# While it is followed. The tables of the first that have a key; what has none is told, and is copied under the fence.
TORTURE_WRITES = """
UPDATE torture.triggered SET a = a + 1 WHERE id < 50; DELETE FROM torture.triggered WHERE id > 190;
INSERT INTO torture.serials (d) SELECT nextval('torture.seq_plain') FROM generate_series(1, 40);
INSERT INTO torture.identity_always (v) SELECT 'later ' || g FROM generate_series(1, 15) g;
UPDATE torture."Case" SET id = id + 10000; SELECT nextval('torture.seq_down'), lo_put(900004, 0, 'written later'), lo_unlink(900010);
"""


def existing(stack, major):
    """A server that is there already, with nothing in it."""
    return server(stack, "matrix-to", major)


# What a destination may be: how it is made. One that the service makes itself joins as another row.
KINDS = {"existing": existing}


def server(stack, name, major):
    cluster = Cluster(name, major=major, config=ROOM)
    stack.callback(cluster.remove)
    return cluster.start()


def versions():
    """Majors with a server on this machine, and their pg_dump among those that compare."""
    folders = glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/opt/pg-versions/*/bin")
    for folder in filter(None, os.environ.get("PGCRANE_TEST_PG_DIRS", "").split(":")):
        folders += [os.path.join(folder, "bin"), *glob.glob(f"{folder}/*/bin")]
    found = {}
    for folder in folders:
        if has_server(folder):
            found[version_of(os.path.join(folder, "postgres"))] = folder
            FETCHED.add(folder)
    return {major: folder for major, folder in found.items() if major >= 13}


def upward(same=False):
    found = sorted(versions())
    return [(a, b) for a in found for b in found if a < b or (same and a == b)]


def fill(source):
    """The databases to move, and what is written to the first of them."""
    source.sql(ROLES)
    orders = source.createdb("orders", "OWNER app")
    orders.sql(SCHEMA)
    if source.major >= SINCE_TORTURE:
        source.psql_file(data_file("torture_roles.sql"))
        source.createdb("torture").psql_file(data_file("torture.sql"))
        return ["orders", "torture"]
    source.createdb("shop").psql_file(data_file("shop.sql"), variables={"scale": "0.25"})
    return ["orders", "shop"]


def write(source, names):
    if "torture" in names:
        source.sql(TORTURE_WRITES, db="torture")


def run(service, source, dest, names):
    orders = Database(source, "orders")
    for profile, cluster in (("from", source), ("to", dest)):
        service.profile(profile, cluster)
    service.create_job("move", "from", "to", names)
    service.done("move", "start", timeout=90)
    with Writer(orders, 0.02) as writer:
        service.wait_ready("move", timeout=150)
        write(source, names)
        writer.wait_for(20)
        assert service.done("move", "promote", timeout=150)["state"] == "COMPLETED"
    assert writer.committed > 20
    return service.good(service.get(service.job("move")["name"] + ":report")), writer.committed


def extension_versions(database):
    return dict(database.sql("SELECT extname, extversion FROM pg_extension WHERE extname <> 'plpgsql'"))


def assert_versions_are_told(source, dest, report):
    """Extensions that are of another version on the destination are among the warnings."""
    for told in report["databases"]:
        there, here = (extension_versions(Database(cluster, told["database"])) for cluster in (source, dest))
        other = {f"extension {name}" for name in there if there[name] != here[name]}
        assert other == {w["object"] for w in told["warnings"] if w["id"] == "EXTENSION_VERSION"}, told


def move(source_major, dest_major, folder, kind="existing"):
    """Raises AssertionError where anything differs; else what was measured, in words."""
    if not {source_major, dest_major} <= set(versions()):
        pytest.skip(f"no servers {source_major} and {dest_major} here")
    with contextlib.ExitStack() as stack:
        source, dest = server(stack, "matrix-from", source_major), KINDS[kind](stack, dest_major)
        names = fill(source)
        # The newest pg_dump knows privileges and options that an older one would write otherwise.
        newest = os.path.dirname(newest_client("pg_dump"))
        with Service(folder, env={"PATH": f"{newest}:{os.environ['PATH']}"}) as service:
            report, committed = run(service, source, dest, names)
        assert_all_arrived([(Database(source, name), Database(dest, name)) for name in names])
        assert_versions_are_told(source, dest, report)
    totals = report["totals"]
    assert totals["promoted"] == totals["proven"] == len(names), report
    return (f"equal; {totals['rows']} rows copied, {totals['transactions']} transactions followed ({committed} commits written),"
            f" outage {totals['longestOutageSeconds']:.2f} s")
