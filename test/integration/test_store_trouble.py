"""The store when things go wrong: races of several daemons, kills, servers that come and go, replies that are lost."""
import contextlib
import random
import signal
import sqlite3
import time

import pytest

from support.cluster import wait_until
from support.store import PARENT, StoreError, in_threads, make_place, place, store_server  # noqa: F401
from support.tcp_proxy import Proxy

pytestmark = pytest.mark.turns(2)

SECOND = 1_000_000
NODES = 4


def job(name, **more):
    return dict({"op": "create", "name": name, "parent": PARENT, "body": "0"}, **more)


def value(probe, name):
    return int(probe.one("get", name=name, read=True)["body"])


@pytest.fixture
def server_place(own_cluster, make_place):
    """A store on a server of its own, to be stopped."""
    cluster = own_cluster("store")
    stopped = make_place("sqlite")
    stopped.backend, stopped.database = "postgresql", cluster.createdb()
    stopped.where = stopped.database.uri
    stopped.cluster = cluster
    return stopped


# --- races ---


def test_one_name_one_version_one_lease(place):
    probes = [place.open() for _ in range(NODES)]
    for turn in range(10):
        won = {"create": [], "update": [], "acquire": []}
        version = probes[0].do(job(f"old{turn}"))[0]["version"]

        def race(number, probe, turn=turn, version=version, won=won):
            for what, op in (("create", job(f"new{turn}")),
                             ("update", {"op": "update", "name": f"old{turn}", "version": version, "body": str(number)})):
                with contextlib.suppress(StoreError):
                    probe.do(op)
                    won[what].append(number)
            if probe.one("acquire", name=f"l{turn}", node=f"n{number}", ttl_us=60 * SECOND)["acquired"]:
                won["acquire"].append(number)

        in_threads([lambda n=n, p=p, r=race: r(n, p) for n, p in enumerate(probes)])
        assert {what: len(numbers) for what, numbers in won.items()} == {"create": 1, "update": 1, "acquire": 1}
        assert probes[0].one("get", name=f"old{turn}")["body"] == str(won["update"][0])


class Daemon:
    """Does this and that at random and keeps what it was told."""

    def __init__(self, number, probe, seed):
        self.node, self.probe, self.random = f"n{number}", probe, random.Random(seed)
        self.counted = []   # (counter, body, version)
        self.guarded = []   # (lease, version, epoch)
        self.epochs = []    # (lease, epoch)
        self.added, self.taken, self.done = [], [], []

    def increment(self):
        name = f"c{self.random.randrange(3)}"
        answer = self.probe.one("increment", name=name)
        self.counted.append((name, int(answer["body"]), answer["version"]))

    def compare_and_set(self):
        name = f"c{self.random.randrange(3)}"
        seen = self.probe.one("get", name=name, read=True)
        body = str(int(seen["body"]) + 1)
        with contextlib.suppress(StoreError):
            answer = self.probe.one("update", name=name, version=seen["version"], body=body)
            self.counted.append((name, int(body), answer["version"]))

    def hold(self):
        lease = f"l{self.random.randrange(2)}"
        got = self.probe.one("acquire", name=lease, node=self.node, ttl_us=self.random.choice([1000, 20_000, 60_000]))
        if not got["acquired"]:
            return
        self.epochs.append((lease, got["epoch"]))
        for _ in range(self.random.randrange(4)):
            try:
                answer = self.probe.do({"op": "check", "name": lease, "node": self.node, "epoch": got["epoch"]},
                                       {"op": "increment", "name": f"held-{lease}"})
            except StoreError as failure:
                assert failure.reason == "LEASE_LOST"
                return
            self.guarded.append((lease, answer[1]["version"], got["epoch"]))
        if self.random.random() < 0.5:
            with contextlib.suppress(StoreError):
                self.probe.one("release", name=lease, node=self.node, epoch=got["epoch"])

    def add(self):
        owner = f"o{self.random.randrange(3)}"
        action, counted = self.probe.do({"op": "enqueue", "owner": owner, "action": "A"}, {"op": "increment", "name": "adds"})
        self.added.append((action, owner))
        self.counted.append(("adds", int(counted["body"]), counted["version"]))

    def take(self):
        for action in self.probe.one("take", node=self.node, span_us=self.random.choice([1, 50_000, 60 * SECOND])):
            self.taken.append(action["id"])
            if self.random.random() < 0.9:
                with contextlib.suppress(StoreError):
                    self.probe.one("done", id=action["id"], attempt=action["attempt"])
                    self.done.append(action["id"])
            else:
                with contextlib.suppress(StoreError):
                    self.probe.one("postpone", id=action["id"], attempt=action["attempt"], delay_us=1000)

    def work(self, steps):
        for _ in range(steps):
            self.random.choice([self.increment, self.compare_and_set, self.hold, self.add, self.take])()


def check_invariants(daemons, probe):
    counted = [c for d in daemons for c in d.counted]
    versions = [c[2] for c in counted] + [g[1] for d in daemons for g in d.guarded]
    assert len(versions) == len(set(versions))
    for name in {c[0] for c in counted}:
        bodies = [body for counter, body, _ in sorted(counted, key=lambda c: c[2]) if counter == name]
        assert bodies == list(range(1, len(bodies) + 1)), f"{name}: an update was lost"
        assert value(probe, name) == len(bodies)
    epochs = [e for d in daemons for e in d.epochs]
    assert len(epochs) == len(set(epochs)), "an epoch was given twice"
    for lease in {e[0] for e in epochs}:
        acted = [g[2] for g in sorted((g for d in daemons for g in d.guarded), key=lambda g: g[1]) if g[0] == lease]
        assert acted == sorted(acted), "an older holder acted behind a newer one"
    added = [a[0] for d in daemons for a in d.added]
    done = [i for d in daemons for i in d.done]
    assert len(added) == len(set(added))
    assert sorted(done) == sorted(added), "each is done once"
    assert set(added) <= {i for d in daemons for i in d.taken}


def finish_outbox(daemon, place):
    # What was taken for a minute by a daemon that then said nothing would keep us waiting for that long.
    place.sql("UPDATE outbox SET taken_until_us = 0")

    def is_empty():
        for action in daemon.probe.one("take", node="last", span_us=60 * SECOND):
            daemon.probe.one("done", id=action["id"], attempt=action["attempt"])
            daemon.taken.append(action["id"])
            daemon.done.append(action["id"])
        return place.sql("SELECT count(*) FROM outbox") == [(0,)]

    wait_until(is_empty, what="the outbox to be empty")


def work_at_random(place, beside=()):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    daemons = [Daemon(i, place.open(), seed + i) for i in range(NODES)]
    daemons[0].probe.do(*(job(name) for name in ("c0", "c1", "c2", "adds", "held-l0", "held-l1")))
    left = list(daemons)

    def work(daemon):
        try:
            daemon.work(60)
        finally:
            left.remove(daemon)

    in_threads([lambda d=d: work(d) for d in daemons] + [lambda f=f: f(left) for f in beside])
    finish_outbox(daemons[0], place)
    check_invariants(daemons, daemons[0].probe)


def test_random_work_of_four_daemons(place):
    work_at_random(place)


@pytest.mark.parametrize("major", ["13", "15", "18"])
def test_random_work_while_sessions_are_ended(make_place, major):
    place = make_place(major)

    def end_sessions(left):
        while left:
            place.database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE random() < 0.3"
                               " AND application_name LIKE 'pgcrane%store%' AND datname = current_database()")
            time.sleep(0.05)

    work_at_random(place, [end_sessions])


# --- kills ---


def test_killed_at_any_moment(place):
    """What was answered is there; what was not is there as a whole or not at all."""
    place.open().do(job("c"), job("twin"))
    answered, chance = 0, random.Random(5)
    for _ in range(6):
        probe = place.open()
        for _ in range(chance.randrange(12)):
            probe.do({"op": "increment", "name": "c"}, {"op": "increment", "name": "twin"})
            answered += 1
        probe.send({"do": [{"op": "increment", "name": "c"}, {"op": "increment", "name": "twin"}]})
        time.sleep(chance.random() * 0.01)
        probe.kill()
        now = place.open()
        assert answered <= value(now, "c") <= answered + 1
        assert value(now, "twin") == value(now, "c")
        answered = value(now, "c")


def test_killed_before_and_after_commit(place):
    place.open().do(job("c"))
    ops = [{"op": "increment", "name": "c"}, {"op": "enqueue", "owner": "c", "action": "START"}]
    place.killed_at("store.before_commit", *ops)
    probe = place.open()
    assert value(probe, "c") == 0 and probe.one("take") == []
    place.killed_at("store.after_commit", *ops)
    assert value(probe, "c") == 1 and [a["action"] for a in probe.one("take")] == ["START"]


def test_killed_while_it_holds_the_lock(place):
    place.open().do(job("c"))
    holder = place.open()
    holder.send({"do": [{"op": "increment", "name": "c"}, {"op": "pause", "us": 60 * SECOND}]})
    time.sleep(0.5)
    holder.kill()
    assert place.open().one("increment", name="c")["body"] == "1"


# --- locks ---


def test_a_stopped_daemon_does_not_keep_the_others_out(make_place):
    place = make_place("15")
    place.open().do(job("c"))
    holder = place.open()
    holder.send({"do": [{"op": "increment", "name": "c"}, {"op": "pause", "us": 2 * SECOND}, {"op": "increment", "name": "c"}]})
    wait_until(lambda: place.database.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
                                          " (SELECT oid FROM pg_database WHERE datname = current_database())"), what="its lock")
    holder.process.send_signal(signal.SIGSTOP)
    try:
        assert place.open(patience_ms=15000).one("increment", name="c")["body"] == "1"
    finally:
        holder.process.send_signal(signal.SIGCONT)
    assert checked_runs(holder) == 2  # its session was ended: once more from the beginning
    assert value(holder, "c") == 3


def checked_runs(probe):
    answer = probe.read()
    assert "results" in answer, answer
    return answer["runs"]


def test_a_store_that_stays_locked(place):
    probe = place.open(patience_ms=300)
    probe.do(job("c"))
    with contextlib.ExitStack() as stack:
        if place.backend == "sqlite":
            other = stack.enter_context(contextlib.closing(sqlite3.connect(place.where, isolation_level=None)))
            other.execute("BEGIN IMMEDIATE")
        else:
            other = stack.enter_context(place.database.connect())
            other.execute("BEGIN; SELECT pg_advisory_xact_lock(8097876301480550000)")
        failure = probe.fails("STORE_LOCKED", "increment", name="c")
        assert failure.retryable and failure.remedy
        assert value(probe, "c") == 0  # reads go on
        other.execute("ROLLBACK")
    assert probe.one("increment", name="c")["body"] == "1"


# --- the server of a PostgreSQL store ---


def test_the_server_is_restarted(server_place):
    probe = server_place.open()
    probe.do(job("c"))
    for mode in ("fast", "immediate"):
        server_place.cluster.restart(mode)
        probe.one("increment", name="c")
    server_place.cluster.kill9()
    server_place.cluster.start()
    assert value(probe, "c") == 2


def test_the_server_is_away(server_place):
    probe = server_place.open(patience_ms=300)
    probe.do(job("c"))
    server_place.cluster.stop()
    failure = probe.fails("STORE_UNAVAILABLE", "increment", name="c")
    assert failure.retryable
    with pytest.raises(StoreError, match="STORE_UNAVAILABLE"):
        server_place.open(patience_ms=300)
    server_place.cluster.start()
    assert probe.one("increment", name="c")["body"] == "1"


INCREMENT = 6  # of the commits: an opening has one for each of the four steps of the schema, then comes the job


@pytest.mark.parametrize("point, runs", [(f"store.commit_unanswered:error:{INCREMENT}", 1), (f"store.commit_unsent:error:{INCREMENT}", 2),
                                         (f"store.commit_unsent:error:{INCREMENT},store.settle_unanswered:retryable:1", 2),
                                         (f"store.commit_unanswered:error:{INCREMENT},store.settle_unanswered:retryable:1", 1)])
def test_a_lost_reply_to_commit_is_settled(make_place, point, runs):
    probe = make_place("15").open(env={"PGCRANE_FAILPOINT": point})
    probe.do(job("c"))
    answer = probe.command(do=[{"op": "increment", "name": "c"}])
    assert (answer["runs"], answer["results"][0]["body"]) == (runs, "1")
    assert value(probe, "c") == 1


def test_replies_that_the_network_loses(make_place):
    """Each increment is answered and done once, wherever the connection breaks."""
    place, chance = make_place("15"), random.Random(7)
    direct = place.open()
    direct.do(job("c"))
    with Proxy(place.database.cluster) as proxy:
        probe = place.open(where=proxy.uri(place.database))
        faults, runs = [], []
        for _ in range(60):
            faults.append(proxy.fault("reset", after=chance.randrange(500, 4000),
                                      direction=chance.choice(("down", "up"))))
            runs.append(probe.command(do=[{"op": "increment", "name": "c"}])["runs"])
    assert value(direct, "c") == 60
    assert sum(fault.hits for fault in faults) > 20
    void = place.sql("SELECT count(*) FROM commit_token WHERE is_void")[0][0]
    print(f"{sum(fault.hits for fault in faults)} resets, {sum(runs) - 60} bodies run again, {void} commits that never came")
    assert sum(runs) > 60


def test_a_commit_that_nobody_can_settle(make_place):
    place = make_place("15")
    probe = place.open(env={"PGCRANE_FAILPOINT": f"store.commit_unanswered:error:{INCREMENT},store.settle:error:1"})
    made = probe.do(job("c"))[0]
    failure = probe.fails("STORE_COMMIT_UNKNOWN", "update", name="c", version=made["version"], body="1")
    assert failure.retryable
    # The same once more tells what happened.
    probe.fails("STALE_VERSION", "update", name="c", version=made["version"], body="1")
    assert value(probe, "c") == 1


def test_a_read_only_server(server_place):
    server_place.open().close()
    server_place.cluster.configure({"default_transaction_read_only": "on"})
    server_place.cluster.reload()
    probe = server_place.open()  # we say READ WRITE, as we may
    probe.do(job("c"))
    server_place.cluster.stop()
    with open(server_place.cluster.data + "/standby.signal", "w", encoding="ascii"):
        pass
    server_place.cluster.configure({"default_transaction_read_only": "off"})
    with contextlib.suppress(Exception):
        server_place.cluster.start()  # its ALTER ROLE fails, as it should
    with pytest.raises(StoreError, match="STORE_READ_ONLY"):
        server_place.open(patience_ms=300)


def test_without_the_right_to_make_the_schema(make_place):
    place = make_place("15")
    place.database.sql("CREATE ROLE store_user LOGIN")
    try:
        with pytest.raises(StoreError, match="NOT_PERMITTED") as caught:
            place.open(where=place.database.uri_as("store_user", "x"))
        assert "CREATE SCHEMA pgcrane_store AUTHORIZATION store_user" in caught.value.remedy
        place.database.sql("CREATE SCHEMA pgcrane_store AUTHORIZATION store_user")
        place.open(where=place.database.uri_as("store_user", "x")).do(job("c"))
        place.database.sql("DROP SCHEMA pgcrane_store CASCADE")
    finally:
        place.database.sql("DROP OWNED BY store_user; DROP ROLE store_user")


def test_a_database_of_another_encoding(make_place):
    place = make_place("15")
    other = place.database.cluster.createdb("latin", "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StoreError, match="STORE_FOREIGN.*LATIN1"):
            place.open(where=other.uri)
    finally:
        other.drop()


# --- how fast ---


@pytest.mark.slow
def test_lists_of_thousands_are_fast(place):
    probe = place.open()
    body = '{"filler":"' + "x" * 1500 + '"}'
    start = time.monotonic()
    for first in range(0, 3000, 500):
        probe.do(*(job(f"{PARENT}/{'jobs' if i < 1000 else 'profiles'}/{i:05}", body=body, state="RUNNING",
                       kind="MIGRATION_JOB" if i < 1000 else "CONNECTION_PROFILE") for i in range(first, first + 500)))
    print(f"{place.backend}: 3000 creates in {time.monotonic() - start:.2f} s")
    queries = {
        "get": {"op": "get", "name": f"{PARENT}/profiles/02500"},
        "first page": {"op": "list", "kind": "CONNECTION_PROFILE", "parent": PARENT},
        "all parents, by time": {"op": "list", "kind": "CONNECTION_PROFILE", "by_time": True, "descending": True},
        "by state": {"op": "list", "kind": "MIGRATION_JOB", "state": "RUNNING"},
        "count": {"op": "count", "kind": "CONNECTION_PROFILE"},
    }
    half = probe.one("list", kind="CONNECTION_PROFILE", page_size=1000)["next"]
    queries["page in the middle"] = {"op": "list", "kind": "CONNECTION_PROFILE", "cursor": half}
    for what, op in queries.items():
        times = sorted(probe.command(do=[op], read=True)["us"] for _ in range(30))
        print(f"{place.backend}: {what}: best {times[0]} us, median {times[15]} us, worst {times[-1]} us")
        assert times[0] < 20_000, what  # the machine may be busy: what is printed is the measure
    times = sorted(probe.command(do=[{"op": "create", "name": f"w{i}"}])["us"] for i in range(30))
    print(f"{place.backend}: one create: best {times[0]} us, median {times[15]} us")
