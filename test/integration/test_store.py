"""The contract of the store, over both backends: what is kept, what is refused, and what a crash leaves."""
import os
import stat

import pytest

from support.cluster import wait_until
from support.store import PARENT, StoreError, in_threads, make_place, place, store, store_server  # noqa: F401

pytestmark = pytest.mark.turns(2)

SECOND = 1_000_000


def job(short, **more):
    return dict({"op": "create", "name": f"{PARENT}/migrationJobs/{short}", "parent": PARENT, "uid": f"u-{short}",
                 "state": "NOT_STARTED", "body": f'{{"n":"{short}"}}'}, **more)


def name_of(short):
    return f"{PARENT}/migrationJobs/{short}"


# --- resources ---


def test_a_resource_comes_back_as_it_was(store):
    body = '{"text":"Zürich \U0001f40d \\"quoted\\" \'single\' $1","n":1.50,"z":null,"a":[ ]}'
    made = store.do(job("a", body=body, display_name="One", phase="FULL_DUMP", kind="CONNECTION_PROFILE"))[0]
    got = store.one("get", name=name_of("a"), read=True)
    assert got == {"kind": "CONNECTION_PROFILE", "name": name_of("a"), "parent": PARENT, "uid": "u-a", "state": "NOT_STARTED",
                   "phase": "FULL_DUMP", "display_name": "One", "body": body, **made}
    assert made["version"] > 0 and made["create_us"] == made["update_us"] > 1_500_000_000 * SECOND


def test_names_are_unique(store):
    first = store.do(job("a"))[0]
    store.fails("NAME_TAKEN", **job("a", body="other"))
    assert store.one("get", name=name_of("a"))["version"] == first["version"]
    assert store.one("get", name=name_of("a"))["body"] == '{"n":"a"}'


def test_an_update_needs_the_version(store):
    made = store.do(job("a"))[0]
    changed = store.one("update", name=name_of("a"), version=made["version"], state="RUNNING", body="2")
    assert changed["version"] > made["version"] and changed["update_us"] >= made["update_us"]
    store.fails("STALE_VERSION", "update", name=name_of("a"), version=made["version"], state="LOST", body="3")
    store.fails("STALE_VERSION", "delete", name=name_of("a"), version=made["version"])
    got = store.one("get", name=name_of("a"))
    assert (got["state"], got["body"], got["create_us"]) == ("RUNNING", "2", made["create_us"])
    store.one("delete", name=name_of("a"), version=changed["version"])
    for op in ("get", "update", "delete"):
        store.fails("NO_RESOURCE", op, name=name_of("a"), version=changed["version"])
    again = store.do(job("a"))[0]
    assert again["version"] > changed["version"]  # an old etag does not fit the new one


def test_a_transaction_is_whole_or_nothing(store):
    with pytest.raises(StoreError, match="NAME_TAKEN"):
        store.do(job("a"), {"op": "enqueue", "owner": "x", "action": "START"}, {"op": "audit", "who": "me"}, job("a"))
    assert store.one("count") == 0 and store.one("audits") == [] and store.one("take") == []
    # What is refused without harm may be met by the body itself.
    results = store.do(job("a"), job("a", **{"try": True}), {"op": "get", "name": "none", "try": True}, job("b"))
    assert [r.get("reason") for r in results] == [None, "NAME_TAKEN", "NO_RESOURCE", None]
    assert store.one("count") == 2


def test_what_cannot_be_kept_is_refused(store):
    for bad in (job("a", name=""), job("a", name="x" * 1025), job("a", body="x" * (1 << 20) + "y"),
                job("a", display_name="y" * 1025), job("a", uid="y" * 1025)):
        assert not store.fails("BAD_DATA", **bad).retryable
    store.do(job("a", body="x" * (1 << 20)))
    assert len(store.one("get", name=name_of("a"))["body"]) == 1 << 20


def test_reads_do_not_write(store):
    with pytest.raises(StoreError, match="INTERNAL"):
        store.do(job("a"), read=True)
    assert store.one("count", read=True) == 0


# --- lists ---


def pages(store, **query):
    names, cursor = [], ""
    while True:
        page = store.one("list", cursor=cursor, read=True, **query)
        names.append([item["name"].rsplit("/", 1)[-1] for item in page["items"]])
        cursor = page["next"]
        if not cursor:
            return names


def test_lists_have_an_order_and_pages(store):
    names = ["b", "a", "B", "é", "a-1", "a1", "_", "Z", "10", "9"]
    store.do(*(job(n) for n in names))
    store.do(job("other", parent="projects/p/locations/m"), job("profile", kind="CONNECTION_PROFILE"))
    by_bytes = sorted(names, key=lambda n: n.encode())
    assert pages(store, parent=PARENT, page_size=3) == [by_bytes[i:i + 3] for i in (0, 3, 6, 9)]
    assert sum(pages(store, parent=PARENT, page_size=3, descending=True), []) == by_bytes[::-1]
    assert pages(store, parent=PARENT, page_size=10) == [by_bytes]  # full, and no empty one behind it
    everywhere = sum(pages(store, page_size=4), [])
    assert sorted(everywhere) == sorted(names + ["other"])
    assert pages(store, parent="projects/none") == [[]]
    assert store.one("count") == 11 and store.one("count", parent=PARENT) == 10
    assert pages(store, kind="CONNECTION_PROFILE") == [["profile"]]


def test_lists_by_time_and_state(store):
    for name in ("c", "a", "b"):
        store.do(job(name, state="RUNNING" if name == "a" else "FAILED"), {"op": "pause", "us": 2000})
    store.do(job("x"), job("w"))
    times = {n: store.one("get", name=name_of(n))["create_us"] for n in "cabxw"}
    expected = sorted(times, key=lambda n: (times[n], n))
    assert sum(pages(store, by_time=True, page_size=2), []) == expected
    assert sum(pages(store, by_time=True, page_size=2, descending=True, parent=PARENT), []) == expected[::-1]
    assert sum(pages(store, state="FAILED", page_size=1), []) == ["b", "c"]
    assert store.one("count", state="RUNNING") == 1


def test_a_page_goes_on_where_the_last_one_ended(store):
    store.do(*(job(f"{i:02}") for i in range(10)))
    first = store.one("list", page_size=4)
    gone = first["items"][3]
    store.do({"op": "delete", "name": gone["name"], "version": gone["version"]}, job("00a"), job("035"))
    rest = store.one("list", page_size=100, cursor=first["next"])["items"]
    assert [r["uid"][2:] for r in rest] == ["035", "04", "05", "06", "07", "08", "09"]


def test_cursors_are_checked(store):
    store.do(*(job(f"{i}") for i in range(5)))
    cursor = store.one("list", page_size=2)["next"]
    for bad in ("x", "00", "zz" * 20, cursor[:-1], cursor[:30], "00" + cursor[2:], "a" * 10000):
        store.fails("BAD_CURSOR", "list", page_size=2, cursor=bad)
    for other in ({"parent": PARENT}, {"descending": True}, {"by_time": True}, {"state": "X"}, {"kind": "OPERATION"}):
        store.fails("BAD_CURSOR", "list", page_size=2, cursor=cursor, **other)
    assert len(store.one("list", page_size=3, cursor=cursor)["items"]) == 3


def test_done_operations_are_pruned_by_age(store):
    store.do(*(job(f"op{i}", kind="OPERATION", state="DONE" if i < 3 else "RUNNING") for i in range(5)), job("j", state="DONE"))
    assert store.one("prune-operations", age_us=3600 * SECOND) == 0
    assert store.do({"op": "pause", "us": 2000}, {"op": "prune-operations", "age_us": 1000})[1] == 3
    assert store.one("count", kind="OPERATION") == 2 and store.one("count") == 1


# --- secrets, logs, requests ---


def test_secrets_belong_to_their_owner(store):
    made = store.do(job("a"))[0]
    store.fails("NO_RESOURCE", "secret-set", owner="none", field="password", value="x")
    store.one("secret-set", owner=name_of("a"), field="password", value="old")
    store.one("secret-set", owner=name_of("a"), field="password", value="né\u0001w")
    store.one("secret-set", owner=name_of("a"), field="key", value="")
    assert store.one("secret-get", owner=name_of("a"), field="password", read=True) == "né\u0001w"
    assert store.one("secret-get", owner=name_of("a"), field="key") == ""
    store.one("secret-remove", owner=name_of("a"), field="key")
    store.fails("NO_RESOURCE", "secret-get", owner=name_of("a"), field="key")
    store.one("delete", name=name_of("a"), version=made["version"])
    store.do(job("a"))
    store.fails("NO_RESOURCE", "secret-get", owner=name_of("a"), field="password")


def test_secrets_are_listed_in_pages(store):
    assert store.one("secret-list", read=True) == []
    store.do(*(job(n) for n in ("a", "b", "a-")))
    kept = [(name_of(n), f, f"{n}{f}") for n in ("a", "b", "a-") for f in ("y", "x", "Z")]
    store.do(*({"op": "secret-set", "owner": o, "field": f, "value": v} for o, f, v in kept))
    everything = [list(k) for k in sorted(kept, key=lambda k: (k[0].encode(), k[1].encode()))]
    assert store.one("secret-list", read=True) == everything
    for size in (1, 4, 9):
        pages, last = [], ["", ""]
        while page := store.one("secret-list", owner=last[0], field=last[1], limit=size):
            assert len(page) <= size
            pages, last = pages + page, page[-1]
        assert pages == everything


def test_secrets_by_how_they_begin(store):
    assert store.one("secret-heads", len=2, read=True) == []
    store.do(job("a"), *({"op": "secret-set", "owner": name_of("a"), "field": str(i), "value": v}
                         for i, v in enumerate(("aab", "aac", "ab", "b", "", "aa"))))
    assert store.one("secret-heads", len=2, read=True) == [["", 1], ["aa", 3], ["ab", 1], ["b", 1]]
    assert store.one("secret-heads", len=1, read=True) == [["", 1], ["a", 4], ["b", 1]]


def test_settings(store):
    assert store.one("setting-get", name="x", read=True) is None
    store.do({"op": "setting-set", "name": "x", "value": "1"}, {"op": "setting-set", "name": "y", "value": ""})
    store.one("setting-set", name="x", value="2")
    assert store.one("setting-get", name="x", read=True) == "2" and store.one("setting-get", name="y") == ""
    store.fails("BAD_DATA", "setting-set", name="", value="1")


# --- reports ---


def test_reports(store):
    """One for a resource; it goes with it, and leaves its version as it is."""
    store.fails("NO_RESOURCE", "report-set", owner=name_of("a"), body="{}")
    store.do(job("a"), job("b"))
    before = store.one("get", name=name_of("a"))
    store.do({"op": "report-set", "owner": name_of("a"), "body": "{}"}, {"op": "report-set", "owner": name_of("b"), "body": "[1]"})
    store.one("report-set", owner=name_of("a"), body='{"x": 1}')
    assert store.one("report-get", owner=name_of("a"), read=True) == '{"x": 1}' and store.one("get", name=name_of("a")) == before
    store.one("delete", name=name_of("a"), version=before["version"])
    assert store.one("report-get", owner=name_of("a")) is None and store.one("report-get", owner=name_of("b")) == "[1]"
    store.do({"op": "report-remove", "owner": name_of("b")}, {"op": "report-remove", "owner": name_of("b")})
    assert store.one("report-get", owner=name_of("b")) is None


# --- tokens ---

DAY = 86400 * SECOND


def test_tokens(store):
    assert store.one("token-any", read=True) is False and store.one("token-list", read=True) == []
    one = store.one("token-create", id="1f", hash="h1", role="viewer", name="né")
    two = store.do({"op": "pause", "us": 2000}, {"op": "token-create", "id": "0a", "hash": "h2", "role": "admin", "span_us": DAY})[1]
    assert one["expire_us"] == 0 and two["expire_us"] == two["create_us"] + DAY > 1_500_000_000 * SECOND
    store.fails("NAME_TAKEN", "token-create", id="1f", hash="h3")
    got = store.one("token-get", id="1f", read=True)
    assert got == {"id": "1f", "hash": "h1", "role": "viewer", "name": "né", "used_us": 0, "revoke_us": 0, **one}
    assert [t["id"] for t in store.one("token-list", read=True)] == ["1f", "0a"] and store.one("token-any") is True
    for bad in ({"id": ""}, {"id": "x", "hash": ""}, {"id": "x", "role": ""}, {"id": "x" * 1025}):
        store.fails("BAD_DATA", "token-create", **bad)
    for op in ("token-get", "token-revoke"):
        store.fails("NO_RESOURCE", op, id="none")


def test_a_token_is_revoked_once(store):
    store.do({"op": "token-create", "id": "a"}, {"op": "token-revoke", "id": "a"}, {"op": "pause", "us": 2000})
    first = store.one("token-get", id="a")["revoke_us"]
    store.one("token-revoke", id="a")
    assert store.one("token-get", id="a")["revoke_us"] == first > 0
    assert store.one("token-any") is True  # it is over, and was there


def test_the_use_of_a_token_is_noted_coarsely(store):
    store.one("token-used", id="none", span_us=1)
    store.do({"op": "token-create", "id": "a"}, {"op": "token-used", "id": "a", "span_us": 3600 * SECOND})
    first = store.one("token-get", id="a")["used_us"]
    assert first > 0
    store.do({"op": "pause", "us": 2000}, {"op": "token-used", "id": "a", "span_us": 3600 * SECOND})
    assert store.one("token-get", id="a")["used_us"] == first
    store.one("token-used", id="a", span_us=1000)
    assert store.one("token-get", id="a")["used_us"] > first


def test_tokens_that_are_over_make_room(store, place):
    store.do(*({"op": "token-create", "id": f"t{i}", "span_us": DAY} for i in range(1000)))
    store.fails("TOKEN_LIMIT", "token-create", id="more")
    assert len(store.one("token-list")) == 1000
    place.sql(f"UPDATE token SET revoke_us = create_us - {91 * DAY} WHERE id = 't1'")
    place.sql(f"UPDATE token SET expire_us = create_us - {91 * DAY} WHERE id = 't2'")
    place.sql(f"UPDATE token SET revoke_us = create_us - {89 * DAY} WHERE id = 't3'")
    store.one("token-create", id="more")
    ids = {t["id"] for t in store.one("token-list")}
    assert len(ids) == 999 and {"more", "t3"} < ids and not {"t1", "t2"} & ids


def test_event_log(store):
    made = store.do(job("a"), job("b"))[0]
    ids = [store.one("event", job=name_of("ab"[i % 2]), kind="STATE", message=f"m{i}") for i in range(6)]
    assert ids == sorted(set(ids))
    assert store.one("events", job=name_of("a"), read=True) == [[ids[i], "STATE", f"m{i}"] for i in (0, 2, 4)]
    assert [e[0] for e in store.one("events", job=name_of("a"), after=ids[0], limit=1)] == [ids[2]]
    store.fails("NO_RESOURCE", "event", job="none", message="x")
    assert store.one("prune-events", job=name_of("a"), keep=1) == 2
    assert [e[0] for e in store.one("events", job=name_of("a"))] == [ids[4]]
    assert store.one("prune-events", job=name_of("a"), keep=0) == 1
    assert store.one("event", job=name_of("a"), message="later") > ids[5]  # ids are not used again
    store.one("delete", name=name_of("a"), version=made["version"])
    assert store.one("events", job=name_of("a")) == [] and len(store.one("events", job=name_of("b"))) == 3


def test_audit_log(store):
    fields = {"who": "ann", "action": "jobs.start", "resource": "r0", "from": "127.0.0.1", "request_id": "q", "outcome": "OK"}
    ids = [store.one("audit", **dict(fields, resource=f"r{i % 2}")) for i in range(5)]
    everything = store.one("audits", read=True)
    assert [a[0] for a in everything] == ids[::-1]
    assert everything[-1] == [ids[0], "ann", "jobs.start", "r0", "127.0.0.1", "q", "OK"]
    assert [a[0] for a in store.one("audits", resource="r0")] == [ids[4], ids[2], ids[0]]
    assert [a[0] for a in store.one("audits", before=ids[3], limit=2)] == [ids[2], ids[1]]
    assert store.one("prune-audit", age_us=3600 * SECOND) == 0
    assert store.do({"op": "pause", "us": 2000}, {"op": "prune-audit", "age_us": 1000})[1] == 5
    assert store.one("audits") == []


def test_request_ids(store, place):
    claim = {"op": "claim", "id": "r1", "hash": "h1", "operation": "op1"}
    assert store.do(claim) == [{"operation": "op1", "is_new": True}]
    assert store.do(dict(claim, operation="op2")) == [{"operation": "op1", "is_new": False}]
    assert store.do(dict(claim, scope="other", hash="h2", operation="op3")) == [{"operation": "op3", "is_new": True}]
    store.fails("REQUEST_REUSED", **dict(claim, hash="h2"))
    place.sql("UPDATE request SET time_us = time_us - 3601000000")
    assert store.do(dict(claim, hash="h2", operation="op4")) == [{"operation": "op4", "is_new": True}]
    store.command(tidy=True)
    assert place.sql("SELECT operation FROM request") == [("op4",)]  # the other one is over


# --- outbox ---


def test_outbox_gives_each_owners_actions_in_order(store):
    ids = [store.one("enqueue", owner=o, action=a, body="{}") for o, a in (("x", "A"), ("x", "B"), ("y", "C"))]
    taken = store.one("take", node="n1")
    assert [(t["id"], t["owner"], t["action"], t["attempt"]) for t in taken] == [(ids[0], "x", "A", 1), (ids[2], "y", "C", 1)]
    assert store.one("take", node="n2") == []
    store.one("done", id=ids[0], attempt=1)
    assert [t["action"] for t in store.one("take", owner="y")] == []
    assert [t["action"] for t in store.one("take", owner="x")] == ["B"]
    store.fails("LEASE_LOST", "done", id=ids[0], attempt=1)


def test_outbox_gives_out_again_what_was_not_done(store):
    first = store.one("enqueue", owner="x", action="A")
    assert store.one("take", span_us=1)[0]["attempt"] == 1
    assert store.do({"op": "pause", "us": 1000}, {"op": "take", "span_us": 60 * SECOND})[1][0]["attempt"] == 2
    store.fails("LEASE_LOST", "done", id=first, attempt=1)  # the first one was too slow
    store.fails("LEASE_LOST", "postpone", id=first, attempt=1, delay_us=0)
    store.one("postpone", id=first, attempt=2, delay_us=3 * SECOND)
    assert store.one("take") == []
    wait_until(lambda: [t["attempt"] for t in store.one("take", span_us=60 * SECOND)] == [3], what="the action")
    store.one("done", id=first, attempt=3)
    assert store.one("take") == []


# --- leases and nodes ---


def test_a_lease_has_one_holder(store):
    lease = {"name": "j", "ttl_us": 60 * SECOND}
    assert store.one("acquire", node="n1", **lease) == {"name": "j", "node": "n1", "epoch": 1, "acquired": True}
    for node in ("n2", "n1"):
        assert store.one("acquire", node=node, **lease) == {"name": "j", "node": "n1", "epoch": 1, "acquired": False}
    store.one("renew", node="n1", epoch=1, **lease)
    store.one("check", name="j", node="n1", epoch=1, read=True)
    for op in ("renew", "release", "check"):
        for wrong in ({"node": "n2", "epoch": 1}, {"node": "n1", "epoch": 2}, {"node": "n1", "epoch": 0}):
            store.fails("LEASE_LOST", op, **lease, **wrong)
        store.fails("LEASE_LOST", op, name="none", node="n1", epoch=1)
    store.one("release", name="j", node="n1", epoch=1)
    store.fails("LEASE_LOST", "check", name="j", node="n1", epoch=1)
    assert store.one("lease", name="j") == {"name": "j", "node": "", "epoch": 1}
    assert store.one("acquire", node="n2", **lease)["epoch"] == 2


def test_a_lease_expires(store):
    store.do({"op": "acquire", "name": "a", "node": "n1", "ttl_us": 3 * SECOND}, {"op": "acquire", "name": "b", "node": "n1", "ttl_us": 60 * SECOND})
    assert store.one("expired") == []
    wait_until(lambda: store.one("expired") == [{"name": "a", "node": "n1", "epoch": 1}], what="the lease to expire")
    store.one("renew", name="a", node="n1", epoch=1, ttl_us=1)  # nobody has taken it: late, but still its own
    store.one("pause", us=1000)
    assert store.one("acquire", name="a", node="n2", ttl_us=60 * SECOND)["epoch"] == 2
    store.fails("LEASE_LOST", "renew", name="a", node="n1", epoch=1, ttl_us=60 * SECOND)


def test_a_clock_that_was_set_back_keeps_no_dead_lease(store, place):
    store.one("acquire", name="a", node="n1", ttl_us=300_000)
    place.sql("UPDATE lease SET expires_us = expires_us + 86400000000")  # as if the clock had been a day ahead
    assert not store.one("acquire", name="a", node="n2", ttl_us=300_000)["acquired"]
    wait_until(lambda: store.one("acquire", name="a", node="n2", ttl_us=300_000)["acquired"], 30, "the lease to end")


def test_nodes(store):
    store.one("beat", id="n1", address="h:1", body="{}", ttl_us=60 * SECOND)
    store.do({"op": "beat", "id": "n2", "address": "h:2", "body": "{}", "ttl_us": 1}, {"op": "pause", "us": 1000})
    assert store.one("nodes", read=True) == [["n1", "h:1", "{}", True], ["n2", "h:2", "{}", False]]
    store.one("beat", id="n2", address="h:3", body="", ttl_us=60 * SECOND)
    store.one("forget-node", id="n1")
    assert store.one("nodes") == [["n2", "h:3", "", True]]


# --- waiting ---


def test_a_commit_wakes(store, place):
    store.command(wait=0)
    assert store.command(wait=0) == {"woken": False}
    other = store if place.backend == "sqlite" else place.open()  # SQLite: only this process
    other.do(job("a"))
    assert store.command(wait=20000) == {"woken": True}
    store.do({"op": "beat", "id": "n", "ttl_us": 1})
    assert store.command(wait=200) == {"woken": False}


# --- opening ---


def test_what_is_there_is_found_again(place):
    first = place.open()
    first.do(job("a"), {"op": "enqueue", "owner": "x", "action": "A"}, {"op": "acquire", "name": "l", "node": "n", "ttl_us": 60 * SECOND})
    first.close()
    second = place.open()
    assert second.one("get", name=name_of("a"))["uid"] == "u-a" and len(second.one("take")) == 1
    assert not second.one("acquire", name="l", node="n2", ttl_us=1)["acquired"]


def test_many_open_a_new_store_at_once(place):
    probes = [place.start() for _ in range(5)]
    for probe in probes:
        probe.wait_open()
    in_threads([lambda p=p, i=i: p.do(job(f"j{i}")) for i, p in enumerate(probes)])
    assert probes[0].one("count") == 5


def test_killed_while_the_schema_is_made(place):
    dying = place.start(env={"PGCRANE_FAILPOINT": "store.migrate:kill"})
    assert dying.process.wait() == -9
    place.open().do(job("a"))


def to_version_1(place):
    """What the first schema was: without the tables of the second and the fourth, and the index of the third."""
    place.sql("DROP TABLE report")
    place.sql("DROP INDEX resource_by_state")
    place.sql("DROP TABLE token")
    place.sql("DROP TABLE setting")
    place.sql("PRAGMA user_version = 1" if place.backend == "sqlite" else "UPDATE store_meta SET version = 1")


def test_an_older_store_is_brought_up_to_date(place):
    first = place.open()
    first.do(job("a"), {"op": "secret-set", "owner": name_of("a"), "field": "f", "value": "v"})
    first.close()
    to_version_1(place)
    dying = place.start(env={"PGCRANE_FAILPOINT": "store.migrate:kill"})
    assert dying.process.wait() == -9
    probes = [place.start() for _ in range(3)]  # and all at once
    for probe in probes:
        probe.wait_open()
    probes[0].do({"op": "token-create", "id": "a"}, {"op": "setting-set", "name": "s", "value": "1"})
    assert probes[1].one("token-any") is True and probes[2].one("setting-get", name="s") == "1"
    assert probes[1].one("secret-get", owner=name_of("a"), field="f") == "v"


def test_a_newer_store_is_refused(place):
    place.open().close()
    place.sql("PRAGMA user_version = 99" if place.backend == "sqlite" else "UPDATE store_meta SET version = 99")
    where = place.where if place.backend == "sqlite" else place.database.uri_as("postgres", "se-cret")
    with pytest.raises(StoreError, match="STORE_NEWER.*99") as caught:
        place.open(where=where)
    assert "se-cret" not in caught.value.message


def test_a_store_of_something_else_is_refused(place):
    if place.backend == "sqlite":
        place.sql("CREATE TABLE theirs (a int)")
        with open(place.where, "rb") as file:
            before = file.read()
    else:
        place.database.sql("CREATE SCHEMA pgcrane_store; CREATE TABLE pgcrane_store.theirs (a int)")
    with pytest.raises(StoreError, match="STORE_FOREIGN"):
        place.open()
    if place.backend == "sqlite":
        with open(place.where, "rb") as file:
            assert file.read() == before
    else:
        place.database.sql("CREATE TABLE pgcrane_store.store_meta (application text, version int)")
        with pytest.raises(StoreError, match="STORE_FOREIGN"):
            place.open()


def test_the_file_is_private(make_place):
    place = make_place("sqlite")
    old = os.umask(0)
    try:
        place.open().do(job("a"))
    finally:
        os.umask(old)
    for name in (place.where, place.where + "-wal", place.where + "-shm"):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600, name
