"""Triggers, rules, policies and foreign keys that change while a migration is followed: the promote opens with them as they are.

What acts by itself is not on the destination, or is silent there, until the promote; so its changes are in no stream."""
import contextlib

import pytest

from support import compare
from support.cluster import wait_until
from support.following import Following
from support.trouble import again

pytestmark = pytest.mark.turns(3)

ROWS = "CREATE TABLE {0} (id int PRIMARY KEY, v text); INSERT INTO {0} SELECT g, '{0}' FROM generate_series(1, 50) g;"
FUNCTION = """CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.v = NEW.v || '!'; RETURN NEW; END$$;
CREATE TABLE log (id int, v text);"""
ALWAYS = "CREATE TRIGGER mark BEFORE INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION mark(); ALTER TABLE {0} ENABLE ALWAYS TRIGGER mark;"
RULE = "CREATE RULE note AS ON INSERT TO {0} DO ALSO INSERT INTO log VALUES (NEW.id, NEW.v); ALTER TABLE {0} ENABLE ALWAYS RULE note;"
POLICY = "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON {0} USING (id < 10);"
EVERYTHING = ROWS + ALWAYS + RULE + POLICY + "COMMENT ON POLICY few ON {0} IS 'a few'; COMMENT ON TRIGGER mark ON {0} IS 'a mark';"

# A table each: what it has at the copy, what is done to it while it is followed.
CHANGES = {
    "drop_table": (EVERYTHING, "DROP TABLE {0}"),
    "rename_table": (EVERYTHING, "ALTER TABLE {0} RENAME TO {0}_new"),
    "drop_policy": (EVERYTHING, "DROP POLICY few ON {0}"),
    "alter_policy": (EVERYTHING, "ALTER POLICY few ON {0} USING (id < 20)"),
    "rename_policy": (EVERYTHING, "ALTER POLICY few ON {0} RENAME TO a_few"),
    "create_policy": (EVERYTHING, "CREATE POLICY more ON {0} FOR SELECT USING (true)"),
    "first_policy": (ROWS, POLICY + "ALTER TABLE {0} FORCE ROW LEVEL SECURITY"),
    "enable_security": (ROWS + "CREATE POLICY few ON {0} USING (true);", "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY"),
    "disable_security": (EVERYTHING, "ALTER TABLE {0} DISABLE ROW LEVEL SECURITY"),
    "no_force": (EVERYTHING + "ALTER TABLE {0} FORCE ROW LEVEL SECURITY;", "ALTER TABLE {0} NO FORCE ROW LEVEL SECURITY"),
    "security_and_column": (ROWS, "ALTER TABLE {0} ADD w int, ENABLE ROW LEVEL SECURITY"),
    "drop_trigger": (EVERYTHING, "DROP TRIGGER mark ON {0}"),
    "new_trigger": (ROWS, ALWAYS),
    "trigger_made_again": (EVERYTHING, "DROP TRIGGER mark ON {0}; CREATE TRIGGER mark AFTER INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION mark()"),
    "trigger_becomes_always": (ROWS + "CREATE TRIGGER mark BEFORE INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION mark();", "ALTER TABLE {0} ENABLE ALWAYS TRIGGER mark"),
    "trigger_becomes_ordinary": (EVERYTHING, "ALTER TABLE {0} ENABLE TRIGGER mark"),
    "trigger_disabled": (EVERYTHING, "ALTER TABLE {0} DISABLE TRIGGER mark"),
    "drop_rule": (EVERYTHING, "DROP RULE note ON {0}"),
    "new_rule": (ROWS, RULE),
    "comment": (EVERYTHING, "COMMENT ON POLICY few ON {0} IS 'another'; COMMENT ON TRIGGER mark ON {0} IS NULL"),
    "in_a_block": (EVERYTHING, "DO $d$ BEGIN DROP POLICY few ON {0}; CREATE POLICY other ON {0} USING (id > 3); DROP TRIGGER mark ON {0}; END $d$"),
}
PARTITIONED = """CREATE TABLE part (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200); INSERT INTO part SELECT g, 'part' FROM generate_series(1, 150) g WHERE g NOT IN (61, 62);""" + ALWAYS.format("part")

# A partition's trigger that is in another state than its root's; a comment on a key that is there all the time.
STATES = "".join(f"""CREATE TABLE {name} (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE {name}_1 PARTITION OF {name} FOR VALUES FROM (0) TO (100);
{trigger.format(name)} ALTER TABLE {name}_1 DISABLE TRIGGER mark;""" for name, trigger in (("states", ALWAYS), ("ordinary_states", ALWAYS.split("ALTER")[0]))) + """
CREATE TABLE key_child (id int PRIMARY KEY, v text, p int CONSTRAINT child_p REFERENCES new_rule); COMMENT ON CONSTRAINT child_p ON key_child IS 'kept';"""


def promote_equal(following, *flags):
    promoted = following.promoted(following.promote(*flags))
    assert promoted["opened"] and promoted["proven"], promoted
    # the fence's setting is all that may differ
    following.source.cluster.sql(f"ALTER DATABASE {following.source.name} RESET default_transaction_read_only")
    compare.assert_equal(following.source.uri, following.dest.uri)
    return promoted


def refused(following, *flags):
    """The error of a promote that was refused before a write was stopped."""
    result = following.promote(*flags, check=False)
    told = next(line["body"] for line in result.lines if line["type"] == "PROMOTED")
    assert result.code == 2 and told["error"]["reason"] == "PROMOTE_REFUSED", result
    assert following.source.sql("SHOW default_transaction_read_only") == [("off",)]
    return told["error"]["message"]


def write_to_all(database):
    """Each table gets rows that its triggers and rules would change once more."""
    for (name,) in database.sql("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'log'"
                                " AND relnamespace = 'public'::regnamespace"):
        database.sql(f"INSERT INTO {name} (id, v) VALUES (61, 'new'); UPDATE {name} SET v = v || '?' WHERE id < 4; DELETE FROM {name} WHERE id = 50")


def copied_again(following):
    return [e["text"] for e in following.bodies("EVENT") if "copied again" in e["text"] or "need a copy" in e["text"]]


def test_changes_with_ddl(follow):
    schema = FUNCTION + PARTITIONED + "".join(before.format(name) for name, (before, _) in CHANGES.items()) + STATES
    following = follow(schema, "--ddl")
    write_to_all(following.source)
    for name, (_, change) in CHANGES.items():
        for statement in [change] if "$d$" in change else change.split(";"):
            if statement.strip():
                following.source.sql(statement.format(name))
    following.source.sql("DROP TRIGGER mark ON part; " + RULE.format("part"))
    following.source.sql("DELETE FROM log WHERE id = 61; UPDATE rename_table_new SET v = 'renamed' WHERE id = 2")
    write_to_all_again = "INSERT INTO {0} (id, v) VALUES (62, 'newer')"
    for name in ("new_trigger", "new_rule", "first_policy", "trigger_becomes_always", "part"):
        following.source.sql(write_to_all_again.format(name))
    following.wait_applied()
    assert [text for text in copied_again(following) if "in_a_block" not in text] == []
    promote_equal(following)
    assert following.dest.sql("SELECT v FROM trigger_becomes_always WHERE id IN (61, 62) ORDER BY id") == [("new!",), ("newer!",)]


def test_dropped_and_renamed_by_hand(follow):
    """Without --ddl: on both sides, by the application's own scripts."""
    following = follow(FUNCTION + EVERYTHING.format("gone") + EVERYTHING.format("before") + EVERYTHING.format("stays"))
    for database in (following.source, following.dest):
        database.sql("DROP TABLE gone; ALTER TABLE before RENAME TO after")
    following.source.sql("DROP POLICY few ON stays; UPDATE after SET v = 'x' WHERE id = 1")
    promote_equal(following)


POLICIES = ("SELECT tablename, policyname, qual FROM pg_policies ORDER BY 1, 2", "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1",
            "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text !~ '^part_' ORDER BY 1, 2", "SELECT tablename, rulename, definition FROM pg_rules WHERE schemaname = 'public' ORDER BY 1, 2")


@pytest.mark.parametrize("majors", [(13, 18), (15, 18), (17, 17)], ids=lambda pair: "{}to{}".format(*pair))
def test_across_versions(majors, make_cluster, pgcrane):
    """The catalogues of all versions are read; what is written otherwise is made anew, not lost."""
    databases = [make_cluster(f"definitions{major}", major=major, config={"shared_buffers": "32MB"}).createdb() for major in majors]
    databases[0].sql(FUNCTION + EVERYTHING.format("a") + EVERYTHING.format("b") + PARTITIONED)
    following = again(pgcrane, *databases).start()
    following.wait_caught_up()
    databases[0].sql("DROP POLICY few ON a; ALTER POLICY few ON b USING (id < 5); ALTER TABLE a DISABLE ROW LEVEL SECURITY; ALTER TABLE b FORCE ROW LEVEL SECURITY; DROP RULE note ON a")
    assert following.promoted(following.promote())["proven"]
    assert_same(following, *POLICIES[:3])
    assert [row[:2] for row in databases[1].sql(POLICIES[3])] == [("b", "note")]


def test_refused_before_the_fence(follow):
    """What the destination cannot make is found out while the source is still written to."""
    following = follow(FUNCTION + EVERYTHING.format("t"))
    following.source.sql("DROP ROLE IF EXISTS late_reader; CREATE ROLE late_reader; CREATE POLICY late ON t TO late_reader USING (true)")
    try:
        message = refused(following)
        assert 'role "late_reader" does not exist' in message and "POLICY" in message, message
        following.dest.sql("CREATE ROLE late_reader")
        promote_equal(following)
    finally:
        for database in (following.source, following.dest):
            with contextlib.suppress(Exception):
                database.sql("DROP OWNED BY late_reader; DROP ROLE late_reader")


def test_only_on_the_destination(follow):
    """Somebody's own policy there is not dropped without a word."""
    following = follow(ROWS.format("t"))
    following.dest.sql("CREATE POLICY own ON t USING (true)")
    assert "policy own of public.t is on the destination only (there: DROP POLICY" in refused(following)
    following.dest.sql("DROP POLICY own ON t")
    promote_equal(following)


def test_changed_while_the_promote_is_prepared(follow):
    """Seen under the fence: undone, and good the next time."""
    following = follow(FUNCTION + EVERYTHING.format("t"))
    command = "psql -X -q -d '" + following.source.uri + "' -c 'DROP POLICY few ON t'"
    result = following.promote("--hook-before", command, check=False)
    told = next(line["body"] for line in result.lines if line["type"] == "PROMOTED")
    assert told["error"]["reason"] == "PROMOTE_UNDONE" and "policy few of public.t" in told["error"]["message"], told
    following.source.sql("INSERT INTO t VALUES (70, 'writable')")
    promote_equal(following)


# --- what was not repeated ---


def test_not_repeated(follow):
    """A view that a block made is nothing that the stream would miss: it is remembered until both sides have it."""
    following = follow(ROWS.format("t"), "--ddl")
    view, function = "CREATE VIEW seen AS SELECT id FROM t", "CREATE FUNCTION one(mood) RETURNS int LANGUAGE sql AS 'SELECT 1'"
    kind, total, far = "CREATE TYPE mood AS ENUM ('ok')", "CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int)", "CREATE FOREIGN DATA WRAPPER far"
    notes = "GRANT SELECT ON t TO PUBLIC", "COMMENT ON VIEW seen IS 'so'"
    for statement in (view, kind, function, total, far, *notes):
        following.source.sql(f"DO $do$BEGIN {statement}; END$do$")
    following.wait_applied()
    wait_until(lambda: any("view public.seen: CREATE VIEW was not repeated" in p for p in following.cdc().get("problems", [])), 60, "the status to say so")
    message = refused(following)
    for part in ("view public.seen: CREATE VIEW was not repeated on the destination: it was run inside a function",
                 "function public.one(public.mood): CREATE FUNCTION was not repeated", "aggregate public.total(integer)", "--accept-ddl"):
        assert part in message, message
    assert "GRANT" not in message and "COMMENT" not in message, message
    for statement in (view, kind, function.replace("SELECT 1", "SELECT 2"), total, far):
        following.dest.sql(statement)
    message = refused(following)  # what is in it, the comparison says
    assert "public.seen" not in message and "total" not in message and "public.one(public.mood): body" in message, message
    assert "CREATE FUNCTION was not repeated" not in message, message
    following.dest.sql(function.replace("CREATE", "CREATE OR REPLACE"))
    message = refused(following)  # what cannot be compared is left to somebody who knows
    assert "public.one" not in message and "foreign-data wrapper far" in message and "GRANT" not in message and "COMMENT" not in message, message
    for statement in notes:
        following.dest.sql(statement)
    promote_equal(following, "--accept-ddl")


# --- a destination where they cannot be left out ---

KEYS = """CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 20);
CREATE TABLE old (id int PRIMARY KEY, t int CONSTRAINT old_t REFERENCES t ON DELETE CASCADE); INSERT INTO old SELECT g, g FROM generate_series(1, 10) g;
CREATE TABLE bare (id int PRIMARY KEY, t int); INSERT INTO bare SELECT g, g FROM generate_series(1, 10) g; CREATE TABLE log (id int);
CREATE TABLE part (id int, t int CONSTRAINT part_t REFERENCES t, PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (100); INSERT INTO part SELECT g, g FROM generate_series(5, 20) g;
COMMENT ON CONSTRAINT part_t ON part IS 'of a root'; COMMENT ON CONSTRAINT old_t ON old IS 'of a table';
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.log VALUES (OLD.id); RETURN NULL; END$$"""
ACTING = ("SELECT conrelid::regclass::text, conname, convalidated, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace ORDER BY 1, 2",
          "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
          "SELECT tablename, rulename FROM pg_rules WHERE schemaname = 'public' ORDER BY 1, 2")


@pytest.fixture
def follow_plain(follow, dest, dest_db):
    """The destination's role may not set session_replication_role."""
    dest.sql("DROP ROLE IF EXISTS plain_two; CREATE ROLE plain_two LOGIN")
    dest_db.sql(f"GRANT ALL ON SCHEMA public TO plain_two; GRANT ALL ON DATABASE {dest_db.name} TO plain_two")
    yield lambda schema, *flags: follow(schema, "--no-owner", "--no-acl", *flags, dest_uri=dest_db.uri_as("plain_two"))
    with contextlib.suppress(Exception):
        dest_db.sql("DROP OWNED BY plain_two CASCADE")


def assert_same(following, *queries):
    for query in queries:
        assert following.source.sql(query) == following.dest.sql(query), query


def test_keys_made_without_the_replica_role(follow_plain):
    """A key that cascades on the destination takes the rows that the stream deletes, too."""
    following = follow_plain(KEYS, "--ddl")
    for statement in ("CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE)", "ALTER TABLE bare ADD w int, ADD CONSTRAINT bare_t FOREIGN KEY (t) REFERENCES t ON DELETE CASCADE NOT VALID",
                      "ALTER TABLE bare VALIDATE CONSTRAINT bare_t", "ALTER TABLE old DROP CONSTRAINT old_t", "ALTER TABLE old ADD FOREIGN KEY (t) REFERENCES t ON DELETE CASCADE",
                      "CREATE RULE note AS ON DELETE TO bare DO ALSO INSERT INTO log VALUES (OLD.id)", "CREATE TRIGGER note AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION note()",
                      "INSERT INTO child VALUES (1, 1), (2, 2), (3, 3)", "DELETE FROM t WHERE id < 3", "DELETE FROM bare WHERE id = 7"):
        following.source.sql(statement)
    following.wait_applied()
    assert [following.dest.sql(query) for query in ACTING] == [[], [], []]
    assert following.running() and copied_again(following) == [], following.said()
    assert following.promoted(following.promote())["proven"]
    assert_same(following, *ACTING, *(f"SELECT * FROM {name} ORDER BY 1" for name in ("t", "old", "bare", "child", "part", "log")))
    assert following.dest.sql("SELECT count(*) FROM log") == [(5,)]


@pytest.mark.parametrize("fixture", ("follow", "follow_plain"))
def test_rows_in_the_way_of_a_deferrable_key(fixture, request):
    """Such a key is no identity, so deletes are not in the stream. Some of its rows are not inserted, or twice; writes stopped, it is equal."""
    following = request.getfixturevalue(fixture)("CREATE TABLE d (id int PRIMARY KEY DEFERRABLE, email text UNIQUE);"
                                                 " INSERT INTO d SELECT g, 'mail ' || g FROM generate_series(1, 5) g")
    for statement in ("DELETE FROM d WHERE id IN (1, 2); INSERT INTO d VALUES (10, 'mail 1'), (1, 'same key')", "INSERT INTO d VALUES (2, 'again')",
                      "UPDATE d SET email = 'moved' WHERE id = 3; INSERT INTO d VALUES (11, 'mail 3')"):
        following.source.sql(statement)
    following.wait_applied()
    assert following.promoted(following.promote())["proven"]
    assert_same(following, "SELECT * FROM d ORDER BY id", "SELECT conname, condeferrable FROM pg_constraint WHERE conrelid = 'd'::regclass ORDER BY 1")


def test_keys_are_validated_when_it_is_open(follow_plain):
    """Not under the fence; whoever comes after a crash does it."""
    following = follow_plain(KEYS)
    following.stop()
    following.start(env={"PGCRANE_FAILPOINT": "promote.after_open_commit:kill"})
    following.wait_caught_up()
    following.command("promote", "--json", check=False)
    assert following.end() != 0
    keys = following.dest.sql("SELECT conrelid::regclass::text, convalidated FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace ORDER BY 1")
    assert keys == [("old", False), ("part_1", False), ("part_2", False)]
    following.again()
    assert following.end() == 0, following.said()
    assert_same(following, ACTING[0])
    assert following.bodies("REPORT")[-1]["not_moved"] == []


def test_key_whose_tables_are_in_use(follow_plain):
    """Whoever writes to them does not wait behind us, and the key is validated when its turn comes."""
    following = follow_plain(KEYS)
    following.stop()
    following.start(env={"PGCRANE_FAILPOINT": "close.before_remove:sleep=8000:1"})
    following.wait_caught_up()
    promoting = following.program.popen("promote", "--state-dir", following.program.state_dir)
    wait_until(lambda: following.dest.sql("SELECT 1 FROM pgcrane.step WHERE name = 'opened'"), 60, "OPEN")
    with contextlib.closing(following.dest.connect(autocommit=False)) as conn:
        conn.execute("UPDATE t SET id = id WHERE id = 1; LOCK TABLE old IN SHARE UPDATE EXCLUSIVE MODE")
        wait_until(lambda: any("is not validated yet" in body["text"] for body in following.bodies("EVENT")), 60, following.said())
        for number in range(100, 110):
            following.dest.sql(f"SET lock_timeout = '4s'; INSERT INTO t VALUES ({number}); INSERT INTO old VALUES ({number}, {number})")
        conn.rollback()
    promoting.communicate(timeout=60)
    assert following.end() == 0, following.said()
    assert following.dest.sql(ACTING[0]) == following.source.sql(ACTING[0])
    assert following.bodies("REPORT")[-1]["not_moved"] == []


def test_key_that_is_violated(follow_plain):
    """Open is open: that it could not be validated is in the report."""
    following = follow_plain(KEYS)
    following.dest.sql("DELETE FROM t WHERE id = 20; INSERT INTO old VALUES (77, 7777)")
    following.promote()
    left = {item["object"]: item["reason"] for item in following.bodies("REPORT")[-1]["not_moved"]}
    assert sorted(left) == ["foreign key old_t of public.old", "foreign key part_t of public.part"], left
    assert "VALIDATE CONSTRAINT" in left["foreign key old_t of public.old"]
    assert following.dest.sql("SELECT conname, convalidated FROM pg_constraint WHERE conrelid = 'old'::regclass AND contype = 'f'") == [("old_t", False)]


# --- tables that are no tables of the stream ---


def test_root_of_partitions_is_emptied(follow):
    following = follow(FUNCTION + PARTITIONED)
    following.source.sql("TRUNCATE part; INSERT INTO part VALUES (1, 'after'); DELETE FROM log")
    following.wait_applied()
    assert following.dest.sql("SELECT table_name, suspect FROM pgcrane.relation WHERE suspect IS NOT NULL") == []
    promote_equal(following)


CONFIGURATION = """CREATE EXTENSION citext; CREATE TABLE conf (id int PRIMARY KEY, v text); ALTER EXTENSION citext ADD TABLE conf;
UPDATE pg_extension SET extconfig = ARRAY['conf'::regclass::oid], extcondition = ARRAY[''] WHERE extname = 'citext'"""


def test_configuration_of_an_extension(pgcrane, source_db, dest_db):
    """Its rows are no rows of the stream, whether they come before the snapshot or behind it: the promote makes them alike."""
    for database in (source_db, dest_db):
        database.sql(CONFIGURATION)
    source_db.sql(ROWS.format("t") + "INSERT INTO conf VALUES (1, 'before')")
    following = Following(pgcrane, source_db, dest_db).start(env={"PGCRANE_FAILPOINT": "seam.after_slot:sleep=3000:1"})
    wait_until(lambda: source_db.sql("SELECT 1 FROM pg_replication_slots WHERE database = current_database() AND confirmed_flush_lsn IS NOT NULL"), 60, "the slot")
    source_db.sql("INSERT INTO conf VALUES (2, 'between slot and snapshot')")
    following.wait_caught_up()
    source_db.sql("INSERT INTO conf VALUES (3, 'followed'); UPDATE conf SET v = 'changed' WHERE id < 3; UPDATE t SET v = 'x' WHERE id = 1")
    following.wait_applied()
    assert following.running() and following.cdc().get("problems", []) == [], following.said()
    promoted = following.promoted(following.promote())
    assert promoted["proven"]
    assert_same(following, "SELECT * FROM conf ORDER BY id", "SELECT * FROM t ORDER BY id")
    assert dest_db.sql("SELECT count(*) FROM conf") == [(3,)]


def test_configuration_of_an_extension_made_while_followed(pgcrane, source_db, dest_db):
    """It is in no plan, and in no stream: the promote makes it alike, too."""
    source_db.sql(ROWS.format("t"))
    following = Following(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    for database in (source_db, dest_db):
        database.sql(CONFIGURATION.replace("ARRAY['']", "ARRAY['WHERE id < 100']"))
    source_db.sql("INSERT INTO conf VALUES (1, 'followed'), (100, 'of the extension itself')")
    dest_db.sql("INSERT INTO conf VALUES (2, 'default'), (100, 'its own')")
    following.wait_applied()
    promoted = following.promoted(following.promote())
    assert promoted["proven"]
    assert dest_db.sql("SELECT * FROM conf ORDER BY id") == [(1, "followed"), (100, "its own")]


def test_large_objects_made_meanwhile(pgcrane, source_db, dest_db):
    """Their comments, grants and owners come with them, at the promote: nothing is left to do by hand."""
    source_db.sql("CREATE TABLE t (id int PRIMARY KEY)")
    following = Following(pgcrane, source_db, dest_db, "--ddl").start()
    following.wait_caught_up()
    source_db.sql("SELECT lo_from_bytea(4711, 'x'); COMMENT ON LARGE OBJECT 4711 IS 'made late'; GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC;"
                  " ALTER LARGE OBJECT 4711 OWNER TO postgres")
    following.wait_applied()
    assert "not repeated" not in str(following.bodies("EVENT")), following.said()
    promote_equal(following)
    assert dest_db.sql("SELECT obj_description(4711, 'pg_largeobject'), lo_get(4711)") == [("made late", b"x")]
