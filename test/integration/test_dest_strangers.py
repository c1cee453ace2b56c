"""Triggers and rules that somebody makes on the destination while it is followed, and which change what is written there."""
import pytest

from support.cluster import wait_until
from support.promote_command import refused
from support.trouble import assert_equal, make

pytestmark = pytest.mark.turns(2)

FUNCTION = """CREATE FUNCTION changes() RETURNS trigger LANGUAGE plpgsql
 AS $$BEGIN NEW.v := 'changed by a trigger'; RETURN NEW; END$$;"""
TRIGGER = FUNCTION + """CREATE TRIGGER strange BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION changes();
 ALTER TABLE item ENABLE {when} TRIGGER strange"""
RULE = """CREATE RULE strange AS ON UPDATE TO item DO INSTEAD NOTHING; ALTER TABLE item ENABLE ALWAYS RULE strange"""


def suspects(following):
    return following.dest.sql("SELECT table_name, suspect FROM pgcrane.relation WHERE suspect IS NOT NULL")


@pytest.mark.parametrize("ddl", (False, True))
@pytest.mark.parametrize(("made", "drop"), (
    (TRIGGER.format(when="ALWAYS"), 'DROP TRIGGER "strange" ON "public"."item"'),
    (TRIGGER.format(when="REPLICA"), 'DROP TRIGGER "strange" ON "public"."item"'),
    (RULE, 'DROP RULE "strange" ON "public"."item"')), ids=("always", "replica", "rule"))
@pytest.mark.turns(3)
def test_one_that_fires(made, drop, ddl, source_db, dest_db, pgcrane):
    """The table waits, the promote is refused, with the SQL; when it is gone the table is copied again."""
    following = make(pgcrane, source_db, dest_db, *(("--ddl",) if ddl else ())).start()
    following.wait_caught_up()
    dest_db.sql(made)
    source_db.sql("UPDATE item SET n = n + 1 WHERE id <= 50")
    following.wait_applied()
    error = refused(following)
    assert drop in error["message"], error
    assert [table for table, why in suspects(following) if "strange" in why] == ["item"]
    assert any("strange" in body["text"] and drop in body["text"] for body in following.bodies("EVENT"))
    dest_db.sql(drop)
    promoted = following.promoted(following.promote())
    assert promoted["proven"], promoted
    assert dest_db.sql("SELECT count(*) FROM item WHERE v LIKE 'changed%'") == [(0,)]
    dest_db.sql("DROP FUNCTION IF EXISTS changes()")
    assert_equal(source_db, dest_db)


@pytest.mark.turns(2)
def test_one_that_is_gone_before_the_promote(source_db, dest_db, pgcrane):
    """Seen while following: that is enough."""
    following = make(pgcrane, source_db, dest_db).start()
    following.wait_caught_up()
    dest_db.sql(TRIGGER.format(when="ALWAYS"))
    source_db.sql("UPDATE item SET n = n + 1 WHERE id <= 50")
    following.wait_applied()
    wait_until(lambda: suspects(following), what="the look")
    dest_db.sql("DROP TRIGGER strange ON item; DROP FUNCTION changes()")
    wait_until(lambda: not suspects(following), 60, "the copy")
    assert following.promoted(following.promote())["proven"]
    assert_equal(source_db, dest_db)


@pytest.mark.turns(2)
def test_one_that_does_not_fire_is_dropped_and_told(source_db, dest_db, pgcrane):
    """With --ddl what only the destination has goes with OPEN; nobody should have to miss it first."""
    following = make(pgcrane, source_db, dest_db, "--ddl").start()
    following.wait_caught_up()
    dest_db.sql(FUNCTION + "CREATE TRIGGER calm BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION changes()")
    source_db.sql("UPDATE item SET n = n + 1 WHERE id <= 50")
    following.wait_applied()
    promoted = following.promoted(following.promote())
    assert promoted["proven"] and any("trigger calm of public.item was on the destination only" in note
                                      for note in promoted["notes"]), promoted
    dest_db.sql("DROP FUNCTION changes()")
    assert_equal(source_db, dest_db)
