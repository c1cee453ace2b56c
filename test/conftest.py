"""Fixtures of the integration tests: two servers for each test process, fresh databases for each test."""
import os
import re
import shutil
import sys
import zlib

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support.cluster import ROOT, Cluster  # noqa: E402
from support.following import Following  # noqa: E402
from support.program import Program  # noqa: E402

_clusters = []
_marks = {}


MAJORS = {"13", "15", "17", "18"}  # in the id of a test: "[13]", "[13to18-view]", "[18-17]"


def major_part(item):
    """(what stands before, "13" or "13to18", what stands behind) of a test's id."""
    before, bracket, inside = item.nodeid.partition("[")
    first = re.match(r"[\dto-]*", inside).group()
    return before + bracket, first, inside[len(first):]


def is_of(item, majors):
    return any(word in majors for word in re.split("to|-", major_part(item)[1]))


def other_turns(items, turn):
    """Of tests that differ in the major version alone, all but one. Which one stays is drawn anew for each turn, for a module as
    a whole: servers of one version are enough for it then."""
    same = {}
    for item in items:
        before, first, behind = major_part(item)
        if first.rstrip("-") in MAJORS:
            same.setdefault(before + behind, []).append(item)
    for name, alike in same.items():
        stays = zlib.crc32(f"{name.partition('::')[0]} {turn}".encode()) % len(alike)
        yield from alike[:stays] + alike[stays + 1:]


def other_shares(items, turn):
    """Of tests and modules that are marked turns(N), all but each Nth case; those are others at the next turn. A test of one
    case comes every N turns. A test's own mark counts before its module's."""
    cases = {}
    for item in items:
        if item.get_closest_marker("turns"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, alike in cases.items():
        share = alike[0].get_closest_marker("turns").args[0]
        first = zlib.crc32(name.encode()) + turn
        yield from (item for i, item in enumerate(alike) if (first + i) % share != 0)


def pytest_collection_modifyitems(config, items):
    """PGCRANE_TEST_MAJORS="15 18": no tests of other major versions. PGCRANE_TEST_TURN=N: each test with one of them, and
    of many cases alike a share."""
    wanted = os.environ.get("PGCRANE_TEST_MAJORS", "").split()
    left_out = {item for item in items if wanted and is_of(item, MAJORS.difference(wanted))}
    turn = os.environ.get("PGCRANE_TEST_TURN")
    if turn:
        left_out.update(other_turns([item for item in items if item not in left_out], int(turn)))
        left_out.update(other_shares([item for item in items if item not in left_out], int(turn)))
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def make_cluster():
    """Starts a server for the rest of the session: make_cluster("name", major=16, config={...})."""
    def make(name, **options):
        cluster = Cluster(name, **options)
        _clusters.append(cluster)
        return cluster.start()

    yield make
    while _clusters:
        _clusters.pop().remove()


@pytest.fixture(scope="session")
def source(make_cluster):
    return make_cluster("source")


@pytest.fixture(scope="session")
def dest(make_cluster):
    return make_cluster("dest")


def fresh_database(cluster):
    database = cluster.createdb()
    yield database
    database.drop()


@pytest.fixture
def source_db(source):
    yield from fresh_database(source)


@pytest.fixture
def dest_db(dest):
    yield from fresh_database(dest)


@pytest.fixture
def own_cluster():
    """A server of this test's own, to stop, kill or set up differently: own_cluster("name", config={...})."""
    made = []

    def make(name="own", **options):
        cluster = Cluster(name, **options)
        made.append(cluster)
        _clusters.append(cluster)
        return cluster.start()

    yield make
    for cluster in made:
        cluster.remove()
        _clusters.remove(cluster)


# The databases are asked for first, so that they are dropped last: nothing of pgcrane is connected any more by then.
@pytest.fixture
def pgcrane(request, tmp_path):
    """pgcrane("migrate", src, dst, "--json") runs it; pgcrane.popen(...) only starts it."""
    for name in ("source_db", "dest_db"):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    program = Program(tmp_path / "state")
    yield program
    program.end_all()


@pytest.fixture
def follow(pgcrane, source_db, dest_db):
    """follow(schema, flags...) gives a Following that has caught up."""
    def start(schema, *flags, **options):
        source_db.sql(schema)
        following = Following(pgcrane, source_db, dest_db, *flags, **options).start()
        following.wait_caught_up()
        return following
    return start


@pytest.fixture
def pgcrane_asan(request, tmp_path):
    """As pgcrane, with the sanitizers' build; skipped when there is none."""
    binary = os.environ.get("PGCRANE_ASAN_BIN") or os.path.join(ROOT, "build-asan", "pgcrane")
    if not os.access(binary, os.X_OK):
        pytest.skip("no sanitizer build (PGCRANE_ASAN_BIN)")
    program = Program(tmp_path / "state-asan", binary)
    yield program
    program.end_all()


# --- a failed test shows, and keeps, what the servers said meanwhile ---


def pytest_runtest_setup(item):
    _marks[item.nodeid] = {c.name: c.log_size() for c in _clusters}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for cluster in _clusters:
        since = _marks.get(item.nodeid, {}).get(cluster.name, 0)
        report.sections.append((f"log of server {cluster.name}", cluster.log_text(since)[-8000:]))
        kept = os.path.join(ROOT, "test-logs", "".join(c if c.isalnum() else "_" for c in item.nodeid)[-100:])
        os.makedirs(kept, exist_ok=True)
        with open(os.path.join(kept, f"{cluster.name}.log"), "w", encoding="utf-8") as file:
            file.write(cluster.log_text(since))
    state = item.funcargs.get("pgcrane") or item.funcargs.get("pgcrane_asan")
    if state and os.path.isdir(state.state_dir) and _clusters:
        shutil.copytree(state.state_dir, os.path.join(kept, "state"), dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("control.sock"))  # a socket cannot be copied
