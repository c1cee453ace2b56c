"""Triggers, rules, policies and foreign keys that change while a migration is followed: the promote opens with them as they are.

What acts by itself is not on the destination, or is silent there, until the promote; so its changes are in no stream."""
import contextlib

import pytest

from support import compare
from support.cluster import wait_until
from support.following import Following

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


@pytest.fixture
def follow(pgcrane, source_db, dest_db):
    """follow(schema, flags...) gives a Following that has caught up."""
    def start(schema, *flags, **options):
        source_db.sql(schema)
        following = Following(pgcrane, source_db, dest_db, *flags, **options).start()
        following.wait_caught_up()
        return following
    return start


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
    schema = FUNCTION + PARTITIONED + "".join(before.format(name) for name, (before, _) in CHANGES.items())
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


def test_refused_before_the_fence(follow):
    """What the destination cannot make is found out while the source is still written to."""
    following = follow(FUNCTION + EVERYTHING.format("t"))
    following.source.sql("CREATE FUNCTION late() RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE POLICY late ON t USING (late())")
    message = refused(following)
    assert "late() does not exist" in message and "POLICY" in message, message
    following.dest.sql("CREATE FUNCTION late() RETURNS boolean LANGUAGE sql AS 'SELECT true'")
    promote_equal(following)


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
