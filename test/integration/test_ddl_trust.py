"""Whose commands `--ddl` repeats on the destination, and with whose rights: a role of the source gets no more by it."""
import json

import pytest

from support.cluster import find_binaries, wait_until
from support.following import Following
from support.trouble import differences
from test_ddl import body, install, make_probe, messages, probe, psql, replay, server_of  # noqa: F401 (fixtures)

pytestmark = pytest.mark.turns(2)


def warnings(following):
    return [event["text"] for event in following.bodies("EVENT") if event["level"] == "warning"]


def make_role(*databases, name="ddl_evil"):
    for database in databases:
        database.sql(f"DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")


def test_a_role_of_the_source_cannot_speak_for_the_capture(pgcrane, make_cluster):
    """It knows the prefix, the slot's name and the format; not the secret, whatever it is granted by default."""
    source, dest = make_cluster("trust-s").createdb("src"), make_cluster("trust-d").createdb("dst")
    make_role(source, dest)
    source.sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO ddl_evil; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO"
               " ddl_evil; ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO ddl_evil")
    source.sql("CREATE TABLE item (id int PRIMARY KEY, v text); INSERT INTO item SELECT g, 'a' FROM generate_series(1, 9) g;"
               " CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM item")
    following = Following(pgcrane, source, dest, "--ddl").start()
    following.wait_caught_up()
    slot = source.sql("SELECT slot_name FROM pg_replication_slots", user="ddl_evil")[0][0]
    with pytest.raises(Exception, match="permission denied"):
        source.sql(f"SELECT * FROM {slot}_ddl.secret", user="ddl_evil")
    with pytest.raises(Exception, match="permission denied"):
        source.sql(f"SELECT {slot}_ddl.emit('{{}}')", user="ddl_evil")
    forged = {"v": 3, "slot": slot, "string": "x", "ordinal": 1, "nested": False, "role": "postgres", "trusted": True,
              "objects": [], "tables": [], "rows": [], "columns": []}
    for tag, query in (("GRANT", "GRANT pg_read_all_data TO ddl_evil"),
                       ("ALTER TABLE", "ALTER TABLE public.item ALTER v TYPE text USING 'pwned'")):
        text = json.dumps({**forged, "tag": tag, "query": query})
        for content in (text, f"{slot} {text}", f"{slot}  {text}", f"{slot} {'0' * 64} {text}", f"{slot} {{}}", slot, "{"):
            source.sql("SELECT pg_logical_emit_message(true, 'pgcrane.ddl', %s)", (content,), user="ddl_evil")
    source.sql("ALTER TABLE item ADD COLUMN w int DEFAULT 7")  # ours is heard all the same
    following.wait_applied()
    assert dest.sql("SELECT DISTINCT v, w FROM item") == [("a", 7)]
    assert not dest.sql("SELECT pg_has_role('ddl_evil', 'pg_read_all_data', 'MEMBER')")[0][0]
    told = [text for text in warnings(following) if "without its secret" in text]
    assert len(told) == 1 and "REVOKE EXECUTE" in told[0], warnings(following)
    secret = source.sql(f"SELECT secret FROM {slot}_ddl.secret")[0][0]
    assert not dest.sql("SELECT 1 FROM pg_namespace WHERE nspname ~ '^pgcrane_'")
    for cluster in (source.cluster, dest.cluster):
        assert secret not in cluster.log_text()
    assert following.promoted(following.promote())["proven"]
    assert not differences(source, dest)


def test_a_command_gains_no_rights_on_the_destination(probe):
    """The role that ran it is missing there, or may do less: it is not run by our own role instead."""
    make_role(probe.source, name="ddl_only_source")
    make_role(probe.source, probe.dest, name="ddl_less")
    for name in ("ddl_only_source", "ddl_less"):
        probe.source.sql(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
        probe.dest.sql(f"CREATE SCHEMA {name}")
    install(probe)
    for name in ("ddl_only_source", "ddl_less"):
        psql(probe.source, f"CREATE TABLE {name}.t (id int PRIMARY KEY)", user=name)
    found = replay(probe)
    assert [r[0] for r in found if "was not published" not in r[2]] == ["suspect", "suspect"], found
    assert "role ddl_only_source, which the destination does not have" in found[0][2], found
    assert "permission denied" in found[-1][2], found
    assert not probe.dest.sql("SELECT 1 FROM pg_class WHERE relname = 't' AND relkind = 'r'")


def test_what_a_superuser_ran_is_run_by_our_role(probe):
    """Nobody gains by that: also where his name is not known."""
    probe.source.sql("DO $$ BEGIN CREATE ROLE ddl_root SUPERUSER LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    install(probe)
    psql(probe.source, "CREATE TABLE t (id int)", user="ddl_root")
    assert [body(m)["trusted"] for m in messages_again(probe)] == [True]
    assert [r["outcome"] for r in probe.values("replayed")] == ["applied"]


def messages_again(probe):
    """What was captured, and repeats it."""
    found = messages(probe)
    probe("replay", text="".join(message + "\n" for message in found))
    return found


# --- texts with a password ---

def test_a_password_is_kept_nowhere(probe):
    """Of a definition that the destination refuses: not in its log, and not in the text that is handed on."""
    for side in (probe.source, probe.dest):
        side.sql("CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw")
    install(probe)
    probe.dest.sql("CREATE USER MAPPING FOR PUBLIC SERVER far")
    offset = probe.dest.cluster.log_size()
    psql(probe.source, "CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (password 'verysecret')")
    assert [r[0] for r in replay(probe)] == ["suspect"]
    assert "already exists" in probe.dest.cluster.log_text(offset)
    assert "verysecret" not in probe.dest.cluster.log_text(offset)
    assert [v["query"] for v in probe.values("replayed")] == [""]


# --- event triggers that are silenced ---

TWO = ("CREATE TABLE {0} (id int PRIMARY KEY, v text DEFAULT 'new'); INSERT INTO {0} SELECT g, '{0}' FROM generate_series(1, 50) g;")
UNSEEN = ("BEGIN; ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b; ALTER INDEX a_pkey RENAME"
          " TO x; ALTER INDEX b_pkey RENAME TO a_pkey; ALTER INDEX x RENAME TO b_pkey; COMMIT;"
          " ALTER TABLE c ALTER v TYPE text USING v || '!'; ALTER TABLE d DROP v; ALTER TABLE d ADD v text DEFAULT 'new';"
          " UPDATE a SET v = v || '1' WHERE id = 5; UPDATE c SET v = v || '1' WHERE id = 5;")


@pytest.mark.turns(3)
@pytest.mark.parametrize(("how", "major"), [("guc", 17), ("disable", 15), ("drop", 15)])
def test_what_event_triggers_did_not_see_is_copied_again(pgcrane, make_cluster, how, major):
    source = make_cluster(f"silent-s{how}", major=major).createdb("src")
    dest = make_cluster(f"silent-d{how}", major=major).createdb("dst")
    source.sql("".join(TWO.format(name) for name in "abcde"))
    following = Following(pgcrane, source, dest, "--pg-bindir", find_binaries(major), "--ddl").start()
    following.wait_caught_up()
    # What was seen is no reason to copy anything again.
    source.sql("ALTER TABLE e ADD COLUMN w int; ALTER TABLE e ALTER id TYPE bigint; ALTER TABLE e RENAME TO f")
    following.wait_applied()
    triggers = [row[0] for row in source.sql("SELECT evtname FROM pg_event_trigger")]
    off = {"guc": "SET event_triggers = off;",
           "disable": "".join(f"ALTER EVENT TRIGGER {name} DISABLE;" for name in triggers),
           "drop": "".join(f"DROP EVENT TRIGGER {name};" for name in triggers)}[how]
    on = "".join(f"ALTER EVENT TRIGGER {name} ENABLE ALWAYS;" for name in triggers) if how == "disable" else ""
    (slot,), = source.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    secret = source.sql(f"SELECT secret FROM {slot}_ddl.secret")
    unseen = UNSEEN.replace("BEGIN;", "").replace("COMMIT;", "") if how == "disable" else UNSEEN  # nobody looks in between
    source.sql(off + unseen + on)
    if how != "guc":
        wait_until(lambda: source.sql(f"SELECT secret FROM {slot}_ddl.secret") != secret, 60, "a new capture")
        wait_until(lambda: any("was changed on the source" in text for text in warnings(following)), 60, "a warning")
        wait_until(lambda: not dest.sql("SELECT 1 FROM pgcrane.relation WHERE suspect IS NOT NULL"), 120, "all copies")
        assert [row[0] for row in source.sql("SELECT evtname FROM pg_event_trigger ORDER BY 1")] == sorted(triggers)
        source.sql("ALTER TABLE f ADD COLUMN again int DEFAULT 1")  # it is captured again
        following.wait_applied()
        assert dest.sql("SELECT 1 FROM pg_attribute WHERE attname = 'again'")
        assert not [text for text in warnings(following) if "without its secret" in text]
        assert len([text for text in warnings(following) if "was changed on the source" in text]) == 1
    assert following.promoted(following.promote())["proven"]
    assert not differences(source, dest)


@pytest.mark.turns(3)
def test_killed_between_the_marks_and_a_new_capture(follow):
    """All tables are marked, the triggers are still gone: the next start finds both, and nothing is taken for seen."""
    following = follow("".join(TWO.format(name) for name in "ab"), "--ddl")
    source, dest = following.source, following.dest
    following.stop()
    following.start(env={"PGCRANE_FAILPOINT": "ddl.capture_marked:kill:1"}).wait_caught_up()
    source.sql("".join(f"DROP EVENT TRIGGER {name};" for (name,) in source.sql("SELECT evtname FROM pg_event_trigger")) +
               "ALTER TABLE a ALTER v TYPE text USING v || '!'; DELETE FROM a WHERE id = 3;"
               " ALTER TABLE b DROP v; ALTER TABLE b ADD v text; UPDATE b SET v = 'x' WHERE id < 9")
    assert following.end() != 0 and following.failure()["reason"] == "WORKER_LOST", following.said()
    source.sql("UPDATE a SET v = 'later' WHERE id = 4; INSERT INTO b VALUES (1000, 'new')")
    following.again().wait_caught_up()
    following.wait_applied()
    dest.sql("ALTER TABLE b ALTER v DROP DEFAULT")  # what nobody captured somebody has to repeat, if the copy has not
    assert following.promoted(following.promote())["proven"]
    assert not differences(source, dest)
    for name in "ab":
        assert sorted(source.sql(f"SELECT * FROM {name}", ()), key=str) == sorted(dest.sql(f"SELECT * FROM {name}", ()), key=str)
