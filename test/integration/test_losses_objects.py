"""What a destination has besides rows must not change them while it follows, and must be there after the promote: triggers,
rules, policies, keys, views, sequences, large objects. What was lost by whom: doc/design/losses.md."""
import os

import pytest

from support.losses import MODES, Book, Loss, migrated

pytestmark = pytest.mark.turns(2)

book = Book()
# Of the whole database. The event triggers note what a restore does, and the tests' changes do not.
WHOLE = ("CREATE TABLE noted (tag text); CREATE TABLE published (id int PRIMARY KEY)",
         "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.noted VALUES (tg_tag); END$$",
         "CREATE EVENT TRIGGER noting ON ddl_command_end WHEN TAG IN ('CREATE INDEX', 'CREATE SCHEMA') EXECUTE FUNCTION note()",
         "CREATE EVENT TRIGGER noting_always ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER', 'CREATE RULE', 'CREATE POLICY') EXECUTE FUNCTION note()",
         "ALTER EVENT TRIGGER noting_always ENABLE ALWAYS",
         "CREATE PUBLICATION theirs FOR TABLE published WITH (publish = 'insert')",
         "CREATE SUBSCRIPTION theirs_too CONNECTION 'dbname=nowhere' PUBLICATION nothing WITH (connect = false, slot_name = 'nowhere')")


@pytest.fixture(scope="module", params=(15, 18))
def session(request, make_cluster, tmp_path_factory):
    clusters = [make_cluster(f"objects{request.param}{side}", major=request.param, config={"shared_buffers": "32MB"})
                for side in ("source", "dest")]
    with migrated(book, clusters, tmp_path_factory.mktemp("losses"), whole=WHOLE) as made:
        yield made


@pytest.fixture
def loss(session, request):
    return Loss(session, book.rules[request.node.originalname.removeprefix("test_")])


def test_everything(session):
    assert session.promoted["ok"] and session.promoted["proven"]
    assert not session.failed
    assert not session.differences()


# --- triggers and rules ---

TRIGGERS = """CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE log (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
INSERT INTO t VALUES (1, 1), (2, 2);
CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$BEGIN NEW.n := NEW.n + 1000; RETURN NEW; END$$;
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'not here'; END$$;
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS
 $$BEGIN INSERT INTO log (what) VALUES (tg_op || coalesce(' of ' || CASE WHEN tg_level = 'ROW' THEN NEW.id END, '')); RETURN NULL; END$$;"""
WRITES = ("INSERT INTO t VALUES (3, 3)", "UPDATE t SET n = 5 WHERE id = 1", "DELETE FROM t WHERE id = 2", "UPDATE t SET id = 30 WHERE id = 3")


def triggers_at_dest(loss):
    return [loss.rows(loss.session.dest, mode, "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal")
            for mode in MODES]


@book.rule(TRIGGERS + """CREATE TRIGGER more BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION more(); ALTER TABLE t ENABLE ALWAYS TRIGGER more;
CREATE TRIGGER log AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION log(); ALTER TABLE t ENABLE ALWAYS TRIGGER log;
CREATE TRIGGER emptied AFTER TRUNCATE ON t EXECUTE FUNCTION log(); ALTER TABLE t ENABLE ALWAYS TRIGGER emptied;
CREATE TRIGGER swallow BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION swallow(); ALTER TABLE t ENABLE REPLICA TRIGGER swallow;
CREATE TRIGGER fail BEFORE INSERT OR UPDATE OR DELETE ON t EXECUTE FUNCTION fail(); ALTER TABLE t DISABLE TRIGGER fail""",
           *WRITES, "TRUNCATE t", "INSERT INTO t VALUES (7, 7)", during=triggers_at_dest)
def test_triggers_that_always_fire(loss):
    """They would fire in the replica role: twice on what the source's own did, or swallow the row. They wait for the promote."""
    loss.equal()
    assert [name for found in loss.seen for name, _ in found if name in ("more", "log", "emptied", "swallow")] == []
    assert loss.both("SELECT * FROM t") == [(7, 1007)]
    assert loss.both("SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = 't'::regclass ORDER BY 1") == [
        ("emptied", "A"), ("fail", "D"), ("log", "A"), ("more", "A"), ("swallow", "R")]
    assert loss.tried("INSERT INTO t VALUES (8, 8); SELECT n FROM t WHERE id = 8") == [(1008,)]


@book.rule(TRIGGERS + """CREATE TRIGGER more BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION more();
CREATE CONSTRAINT TRIGGER log AFTER INSERT OR UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION log()""", *WRITES)
def test_triggers_fire_once(loss):
    """An ordinary trigger's work comes through the stream; the destination's own does not do it again."""
    loss.equal()
    assert loss.both("SELECT what, count(*) FROM log GROUP BY 1 ORDER BY 1") == [("INSERT of 3", 1), ("UPDATE of 1", 1), ("UPDATE of 30", 1)]
    assert loss.tried("INSERT INTO t VALUES (8, 8); SET CONSTRAINTS ALL IMMEDIATE; SELECT what FROM log ORDER BY id DESC LIMIT 1") == [("INSERT of 8",)]


@book.rule(TRIGGERS + """CREATE RULE noted AS ON INSERT TO t DO ALSO INSERT INTO log (what) VALUES ('rule'); ALTER TABLE t ENABLE ALWAYS RULE noted;
CREATE RULE dropped AS ON UPDATE TO t DO INSTEAD NOTHING; ALTER TABLE t ENABLE REPLICA RULE dropped;
CREATE TABLE hidden (id int PRIMARY KEY); CREATE RULE hide AS ON DELETE TO hidden DO INSTEAD NOTHING; ALTER TABLE hidden DISABLE RULE hide; INSERT INTO hidden VALUES (1)""",
           *WRITES, "DELETE FROM hidden")
def test_rules(loss):
    """As with triggers: ALWAYS and REPLICA rules must not rewrite what the applier says."""
    loss.equal()
    assert loss.values("SELECT what FROM log") == ["rule"] and loss.values("SELECT count(*) FROM hidden") == [0]
    assert loss.both("SELECT rulename, ev_enabled::text FROM pg_rewrite WHERE ev_class IN ('t'::regclass, 'hidden'::regclass) ORDER BY 1") == [
        ("dropped", "R"), ("hide", "D"), ("noted", "A")]


@book.rule(TRIGGERS + """CREATE VIEW seen AS SELECT id, n * 2 AS twice FROM t; CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS
$$BEGIN UPDATE t SET n = NEW.twice / 2 WHERE id = NEW.id; RETURN NEW; END$$; CREATE TRIGGER instead INSTEAD OF UPDATE ON seen FOR EACH ROW EXECUTE FUNCTION instead();
CREATE VIEW plain AS SELECT * FROM t WHERE n < 1000 WITH CHECK OPTION""",
           "UPDATE seen SET twice = 200 WHERE id = 1", "INSERT INTO plain VALUES (9, 9)", "DELETE FROM plain WHERE id = 2")
def test_views_that_are_written_to(loss):
    loss.equal()
    assert loss.both("SELECT * FROM t ORDER BY id") == [(1, 100), (9, 9)]


def test_event_triggers(session):
    """The source's fire for nothing that the migration does, neither there nor here; they are there in the end."""
    assert session.source.sql("SELECT tag FROM noted") == session.dest.sql("SELECT tag FROM noted") == []
    assert session.dest.sql("SELECT evtname, evtenabled::text FROM pg_event_trigger ORDER BY 1") == [("noting", "O"), ("noting_always", "A")]


# --- policies, publications, subscriptions ---

@book.rule("""CREATE TABLE t (id int PRIMARY KEY, owner text); INSERT INTO t VALUES (1, 'me'), (2, 'you'); ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON t USING (owner = current_user) WITH CHECK (owner = current_user); CREATE POLICY none ON t AS RESTRICTIVE USING (false)""",
           "INSERT INTO t VALUES (3, 'she')", "UPDATE t SET owner = 'him' WHERE id = 1", "DELETE FROM t WHERE id = 2")
def test_row_security(loss):
    """Rows that a policy hides from everybody are moved as well."""
    loss.equal()
    assert loss.both("SELECT * FROM t ORDER BY id") == [(1, "him"), (3, "she")]
    assert loss.both("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 't'::regclass") == [(True, True)]
    assert loss.values("SELECT polname FROM pg_policy WHERE polrelid = 't'::regclass ORDER BY 1") == ["mine", "none"]


def test_publications_and_subscriptions(session):
    """The source's own are there, the subscription disabled; ours are on neither side, and no slot is left."""
    for database in (session.source, session.dest):
        assert database.sql("SELECT pubname, pubinsert, pubupdate FROM pg_publication") == [("theirs", True, False)]
        assert database.sql("SELECT p.prrelid::regclass::text FROM pg_publication_rel p") == [("published",)]
        assert database.sql("SELECT subname, subenabled FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())") == [("theirs_too", False)]
        assert not database.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    assert not session.dest.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pgcrane%'")


# --- constraints ---

@book.rule("""CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1); CREATE TABLE c (id int PRIMARY KEY, p int); INSERT INTO c VALUES (1, 1), (2, 99);
ALTER TABLE c ADD CONSTRAINT old FOREIGN KEY (p) REFERENCES p NOT VALID; ALTER TABLE c ADD CONSTRAINT high CHECK (p < 50) NOT VALID;
CREATE TABLE part (id int, p int, PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part2 PARTITION OF part FOR VALUES FROM (10) TO (20); ALTER TABLE part ADD FOREIGN KEY (p) REFERENCES p; INSERT INTO part VALUES (1, 1), (11, 1);
ALTER TABLE part2 ADD CONSTRAINT only_here FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE NOT VALID;
CREATE TABLE to_part (part int REFERENCES part, id int PRIMARY KEY); INSERT INTO to_part VALUES (11, 1)""",
           "INSERT INTO p VALUES (2); INSERT INTO c VALUES (3, 2)", "DELETE FROM c WHERE id = 2; INSERT INTO part VALUES (12, 2)", "UPDATE p SET id = 3 WHERE false",
           "ALTER TABLE c DISABLE TRIGGER ALL; INSERT INTO c VALUES (4, 40); ALTER TABLE c ENABLE TRIGGER ALL", "INSERT INTO to_part VALUES (12, 2)")
def test_keys_that_do_not_hold(loss):
    """A NOT VALID key with rows that violate it stays NOT VALID: to validate it would fail for ever, to leave it out would lose it."""
    loss.equal()
    assert loss.both("SELECT conname, convalidated FROM pg_constraint WHERE conrelid = 'c'::regclass AND contype IN ('f', 'c') ORDER BY 1") == [("high", False), ("old", False)]
    # Without the parts that a key to a partitioned table has for each partition: before 18, VALIDATE leaves their mark as it was.
    keys = """SELECT conrelid::regclass::text, conname, convalidated, conparentid <> 0 FROM pg_constraint c WHERE contype = 'f' AND connamespace = current_schema()::regnamespace
 AND NOT EXISTS (SELECT 1 FROM pg_constraint p WHERE p.oid = c.conparentid AND p.conrelid = c.conrelid) ORDER BY 1, 2"""
    for mode in MODES:
        assert loss.rows(loss.session.source, mode, keys) == loss.rows(loss.session.dest, mode, keys)
    with pytest.raises(Exception, match="violates foreign key"):
        loss.tried("INSERT INTO c VALUES (5, 45)")


@book.rule("""CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA public;
CREATE TABLE t (id int, valid daterange, n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL, PRIMARY KEY (id, valid WITHOUT OVERLAPS));
CREATE TABLE c (id int, valid daterange, CONSTRAINT loose FOREIGN KEY (id, PERIOD valid) REFERENCES t (id, PERIOD valid));
CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE q (id int PRIMARY KEY, p int, CONSTRAINT loose FOREIGN KEY (p) REFERENCES p NOT ENFORCED, CONSTRAINT never CHECK (p > 0) NOT ENFORCED,
 v text COLLATE "C" NOT NULL); INSERT INTO t VALUES (1, '[2024-01-01,2024-02-01)', 1); INSERT INTO q VALUES (1, -5, 'x')""",
           "INSERT INTO t VALUES (1, '[2024-02-01,2024-03-01)', 2)", "INSERT INTO c VALUES (1, '[2024-01-15,2024-02-15)')", "UPDATE t SET n = 50 WHERE n = 2",
           "INSERT INTO q VALUES (2, 99, 'y')", "DELETE FROM q WHERE id = 1", since=18)
@pytest.mark.parametrize("session", (18,), indirect=True)
def test_constraints_of_18(loss):
    """WITHOUT OVERLAPS, PERIOD, NOT ENFORCED, virtual columns."""
    loss.equal()
    assert loss.values("SELECT twice FROM t ORDER BY n") == [2, 100]
    assert loss.both("SELECT conname, conenforced FROM pg_constraint WHERE conrelid = 'q'::regclass AND contype IN ('f', 'c') ORDER BY 1") == [("loose", False), ("never", False)]


# --- values that the destination could make itself ---

@book.rule("""CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, u uuid DEFAULT gen_random_uuid(), at timestamptz DEFAULT clock_timestamp(), n serial,
who text DEFAULT current_database(), o oid DEFAULT pg_backend_pid()); INSERT INTO t DEFAULT VALUES""",
           "INSERT INTO t DEFAULT VALUES", "INSERT INTO t (u, who) VALUES (NULL, NULL), (NULL, 'me')", "UPDATE t SET u = DEFAULT WHERE id = 1", "UPDATE t SET at = NULL WHERE id = 2")
def test_defaults(loss):
    """Made by the source, once: the destination's own default would be another value, and NULL is no reason to make one."""
    loss.equal()
    assert loss.both("SELECT n, who IS NULL, u IS NULL FROM t WHERE id > 1 ORDER BY id") == [(2, False, False), (3, True, True), (4, False, True)]


@book.rule("""CREATE SEQUENCE loose INCREMENT 7 CACHE 10; CREATE SEQUENCE down INCREMENT -1 CYCLE MINVALUE -5; CREATE SEQUENCE untouched START 42; CREATE SEQUENCE small AS smallint;
CREATE TABLE t (id serial PRIMARY KEY, i int GENERATED ALWAYS AS IDENTITY (START 100))""",
           "SELECT nextval('loose') FROM generate_series(1, 5)", "SELECT nextval('down') FROM generate_series(1, 7)", "SELECT setval('small', 5, false)", "INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES",
           "BEGIN; SELECT nextval('t_id_seq'); ROLLBACK", "SELECT setval('loose', 3)")
def test_sequences(loss):
    """In no stream: also those that were advanced by nobody's row, set back, or never used. Numbers are not given twice."""
    loss.equal()
    assert loss.tried("INSERT INTO t DEFAULT VALUES RETURNING id, i") == [(4, 102)]
    assert loss.tried("SELECT nextval('untouched'), nextval('small')") == [(42, 5)]


def large_objects(writing):
    first = {"live": 700000, "late": 800000}[writing.mode]
    with writing.connect() as conn:
        conn.execute(f"SELECT lo_from_bytea({first}, 'new'), lo_from_bytea({first + 1}, repeat('long', 100000)::bytea), lo_create({first + 2})")
        conn.execute(f"SELECT lo_put({first + 1}, 5000, 'changed'), lo_unlink({first}); SELECT lo_from_bytea({first}, 'made again')")
        conn.execute(f"COMMENT ON LARGE OBJECT {first} IS 'noted'; GRANT SELECT ON LARGE OBJECT {first} TO PUBLIC")
        conn.execute("SELECT lo_put(old, 3, 'CHANGED') FROM t WHERE id = 1; SELECT lo_unlink(old) FROM t WHERE id = 2; DELETE FROM t WHERE id = 2")
        conn.execute(f"INSERT INTO t VALUES (3, {first})")


@book.rule("CREATE TABLE t (id int PRIMARY KEY, old oid); INSERT INTO t SELECT i, lo_from_bytea(0, convert_to('object ' || i, 'UTF8')) FROM generate_series(1, 2) i", large_objects)
def test_large_objects(loss):
    """In no stream either: made, changed, removed and granted while we follow."""
    loss.equal()
    assert loss.values("SELECT convert_from(lo_get(old), 'UTF8') FROM t ORDER BY id") == ["objCHANGED", "made again"]
    assert loss.session.dest.sql("SELECT count(*) FROM pg_largeobject_metadata") == [(8,)]


@book.rule("""CREATE UNLOGGED TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'row' FROM generate_series(1, 100) i; CREATE UNLOGGED TABLE emptied (v text); INSERT INTO emptied VALUES ('x');
CREATE TABLE logged (id int PRIMARY KEY)""",
           "UPDATE t SET v = 'new' WHERE id < 10", "DELETE FROM t WHERE id > 90", "INSERT INTO t VALUES (1000, 'new')", "TRUNCATE emptied", "INSERT INTO logged SELECT count(*) FROM t")
def test_unlogged_tables(loss):
    """In no stream, and left out of FOR ALL TABLES in silence: they are compared while nobody writes."""
    loss.equal()
    assert loss.values("SELECT count(*) FROM t") == [91] and loss.values("SELECT count(*) FROM t WHERE v = 'new'") == [10]
    assert loss.values("SELECT relpersistence::text FROM pg_class WHERE oid = 't'::regclass") == ["u"]


@book.rule("""CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i % 3 FROM generate_series(1, 30) i; CREATE MATERIALIZED VIEW m AS SELECT n, count(*) AS rows FROM t GROUP BY n;
CREATE UNIQUE INDEX ON m (n); CREATE MATERIALIZED VIEW on_m AS SELECT sum(rows) AS all_rows FROM m; CREATE MATERIALIZED VIEW never AS SELECT * FROM t WITH NO DATA;
CREATE MATERIALIZED VIEW by_key AS SELECT id, n FROM t GROUP BY id; CREATE INDEX ON by_key (n)""",
           "DELETE FROM t WHERE n = 0", "INSERT INTO t VALUES (100, 5)", "REFRESH MATERIALIZED VIEW CONCURRENTLY m", "REFRESH MATERIALIZED VIEW on_m; REFRESH MATERIALIZED VIEW by_key")
def test_materialized_views(loss):
    """Not in the stream: filled from what was moved, in the order they need; what was never filled stays so."""
    loss.equal()
    assert loss.values("SELECT all_rows::int FROM on_m") == [21] and loss.values("SELECT relispopulated FROM pg_class WHERE oid = 'never'::regclass") == [False]


@book.rule("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TEMP TABLE mine (id int PRIMARY KEY); INSERT INTO mine VALUES (1); INSERT INTO t SELECT id FROM mine; DROP TABLE mine",
           "CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 2 AS id; INSERT INTO t SELECT id FROM mine")
def test_temporary_tables(loss):
    """An application's own, made and dropped all the time: of no concern, and no difference of the two catalogues."""
    loss.equal()
    assert loss.values("SELECT id FROM t ORDER BY 1") == [1, 2]


def test_report_names_the_proof(session):
    """The promote says what it has shown, and the command's last word is that it is done."""
    assert session.promoted["opened"] and session.promoted["outage_us"] > 0
    assert session.following.all_lines[-1]["type"] == "DONE"
    assert os.path.isdir(session.program.state_dir)
