"""Which tables can be followed, and the publications of a job: on real servers, by test/support/seam_probe.c."""
import psycopg
import pytest

from support.cluster import wait_until
from support.seam import ALL, KEYS, assert_nothing_left, count, publications, published
from support.seam import any_probe, make_probe, probe, source_of  # noqa: F401 (fixtures)

pytestmark = pytest.mark.turns(2)

# Every kind of identity there is, with whether updates can be published. The leaf of a partitioned table stands for
# itself only where its root cannot stand for it.
TABLES = """
CREATE TABLE with_key (id int PRIMARY KEY, v text);
CREATE TABLE with_include (id int, v text, PRIMARY KEY (id) INCLUDE (v));
CREATE TABLE keyless (id int, v text);
CREATE TABLE keyless_unique (id int UNIQUE, v text);
CREATE TABLE deferrable_key (id int PRIMARY KEY DEFERRABLE, v text);
CREATE TABLE by_index (id int NOT NULL, v text);
CREATE UNIQUE INDEX by_index_i ON by_index (id);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_i;
CREATE TABLE index_dropped (id int NOT NULL, v text);
CREATE UNIQUE INDEX index_dropped_i ON index_dropped (id);
ALTER TABLE index_dropped REPLICA IDENTITY USING INDEX index_dropped_i;
DROP INDEX index_dropped_i;
CREATE TABLE by_full (id int, v text);
ALTER TABLE by_full REPLICA IDENTITY FULL;
CREATE TABLE by_nothing (id int PRIMARY KEY, v text);
ALTER TABLE by_nothing REPLICA IDENTITY NOTHING;
CREATE TABLE generated_key (id int, v text, g int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY);
CREATE TABLE generated_beside (id int PRIMARY KEY, v text, g int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE generated_full (id int, v text, g int GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE generated_full REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, v text);
CREATE TABLE parent (id int PRIMARY KEY, v text);
CREATE TABLE child (LIKE parent INCLUDING ALL) INHERITS (parent);
CREATE TABLE "Odd ""x"" name" (id int PRIMARY KEY, v text);

CREATE TABLE root_key (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE root_key_1 PARTITION OF root_key FOR VALUES FROM (0) TO (100);
CREATE TABLE root_key_2 PARTITION OF root_key FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
CREATE TABLE root_key_2_1 PARTITION OF root_key_2 FOR VALUES FROM (100) TO (200);
CREATE TABLE root_bare (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE root_bare_1 PARTITION OF root_bare (PRIMARY KEY (id)) FOR VALUES FROM (0) TO (100);
CREATE TABLE root_bare_2 PARTITION OF root_bare FOR VALUES FROM (100) TO (200);
CREATE TABLE root_mixed (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE root_mixed_1 PARTITION OF root_mixed FOR VALUES FROM (0) TO (100);
CREATE TABLE root_mixed_2 PARTITION OF root_mixed FOR VALUES FROM (100) TO (200);
ALTER TABLE root_mixed_2 REPLICA IDENTITY NOTHING;
CREATE TABLE root_full (id int, v text) PARTITION BY RANGE (id);
ALTER TABLE root_full REPLICA IDENTITY FULL;
CREATE TABLE root_full_1 PARTITION OF root_full FOR VALUES FROM (0) TO (200);
ALTER TABLE root_full_1 REPLICA IDENTITY FULL;
"""

TABLES_18 = """
CREATE TABLE virtual_full (id int, v text, g int GENERATED ALWAYS AS (id * 2) VIRTUAL);
ALTER TABLE virtual_full REPLICA IDENTITY FULL;
CREATE TABLE virtual_beside (id int PRIMARY KEY, v text, g int GENERATED ALWAYS AS (id * 2) VIRTUAL);
"""

IDENTITIES = {
    "with_key": True, "with_include": True, "keyless": False, "keyless_unique": False, "deferrable_key": False,
    "by_index": True, "index_dropped": False, "by_full": True, "by_nothing": False, "generated_key": False,
    "generated_beside": True, "generated_full": False, "parent": True, "child": True, 'Odd "x" name': True,
    "root_key": True, "root_key_1": True, "root_key_2_1": True, "root_bare": False, "root_bare_1": True, "root_mixed": False, "root_mixed_1": True,
    "root_full": False, "root_full_1": True,
}
IDENTITIES_18 = {"virtual_full": False, "virtual_beside": True}


def make_tables(database):
    database.sql(TABLES)
    if database.cluster.major >= 18:
        database.sql(TABLES_18)


def expected_identities(database):
    return dict(IDENTITIES, **(IDENTITIES_18 if database.cluster.major >= 18 else {}))


def quoted(name):
    return '"public"."' + name.replace('"', '""') + '"'


def test_identities(any_probe):
    make_tables(any_probe.source)
    found = any_probe("identities").values("identities")[0]
    assert found == {quoted(name): has for name, has in expected_identities(any_probe.source).items()}


def test_identity_comes_and_goes(probe):
    probe.source.sql("CREATE TABLE t (id int NOT NULL)")

    def has_identity():
        return probe("identities").values("identities")[0][quoted("t")]

    assert not has_identity()
    probe.source.sql("ALTER TABLE t ADD CONSTRAINT t_pkey PRIMARY KEY (id)")
    assert has_identity()
    probe.source.sql("ALTER TABLE t DROP CONSTRAINT t_pkey")
    assert not has_identity()


def test_partitions_before_13(make_probe, source_of):
    """A root cannot be published then: its leaves are."""
    cluster = source_of(10)
    probe = make_probe(cluster)
    probe.source.sql("CREATE TABLE root (id int, v text) PARTITION BY RANGE (id);"
                     "CREATE TABLE leaf PARTITION OF root (PRIMARY KEY (id)) FOR VALUES FROM (0) TO (10);"
                     "CREATE TABLE bare PARTITION OF root FOR VALUES FROM (10) TO (20)")
    run = probe("identities", "publish-lists", "slot", "barrier", "marker=x")
    assert run.values("identities")[0] == {quoted("leaf"): True, quoted("bare"): False}
    assert published(probe.source, ALL) == {"leaf", "bare"} and published(probe.source, KEYS) == {"leaf"}
    probe.source.sql("INSERT INTO root VALUES (1, 'a'), (11, 'b'); UPDATE root SET v = 'c'; DELETE FROM root")
    assert count(probe.source, "I") == 2 and count(probe.source, "U") == 1 and count(probe.source, "D") == 1
    probe("remove")
    assert_nothing_left(probe)


@pytest.mark.parametrize("step", ("publish", "publish-lists"))
def test_root_and_leaf_are_published_once(step, any_probe):
    """Both are in one publication: each change comes once, also while the leaf is none."""
    source = any_probe.source
    source.sql("CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
               "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10); INSERT INTO root VALUES (1, 'a'), (2, 'a')")
    any_probe(step, "slot", "barrier", "marker=x")
    assert published(source, KEYS) == {"root", "leaf"}
    assert published(source, ALL) == ({"root", "leaf"} if step == "publish-lists" else set())
    source.sql("INSERT INTO root VALUES (3, 'b'); UPDATE root SET v = 'c' WHERE id = 1; DELETE FROM root WHERE id = 2")
    assert [count(source, kind) for kind in "IUD"] == [1, 1, 1]
    source.sql("BEGIN; ALTER TABLE root DETACH PARTITION leaf; INSERT INTO leaf VALUES (4, 'b'); UPDATE leaf SET v = 'd' WHERE id = 1;"
               " DELETE FROM leaf WHERE id = 3; ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (10); COMMIT")
    assert [count(source, kind) for kind in "IUD"] == [2, 2, 2]
    source.sql("TRUNCATE root")
    assert count(source, "T") == 1
    source.sql("ALTER TABLE root DROP CONSTRAINT root_pkey")
    any_probe(step)
    assert published(source, KEYS) == set()
    source.sql("INSERT INTO root VALUES (5, 'e'); UPDATE root SET v = 'f'")


# Leaves take only ids of their range, and none that came in through their root.
FIRST_IDS = {"root_key_1": 30, "root_bare_1": 30, "root_mixed_1": 30, "root_full_1": 30, "root_key_2": 130,
             "root_key_2_1": 150, "root_bare_2": 150, "root_mixed_2": 150}


def application(database):
    """What an application does to each table; nothing of it may fail because of us."""
    tables = [name for (name,) in database.sql(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace")]
    with database.connect() as app:
        for name in tables:
            at = FIRST_IDS.get(name, 110)
            app.execute(f"INSERT INTO {name} (id, v) SELECT n, 'a' FROM generate_series({at}, {at + 5}) n")
            app.execute(f"UPDATE {name} SET v = 'b' WHERE id = {at}")
            app.execute(f"UPDATE {name} SET id = {at + 10} WHERE id = {at + 1}")
            app.execute(f"DELETE FROM {name} WHERE id = {at + 2}")
            if database.cluster.major >= 15:
                app.execute(f"MERGE INTO {name} AS t USING (VALUES ({at + 3}, 'm'), ({at + 9}, 'n')) AS s (id, v)"
                            " ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v"
                            " WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v)")
        for name in ("with_key", "keyless_unique", "by_nothing", "by_index", "root_mixed"):
            app.execute(f"INSERT INTO {name} (id, v) VALUES (114, 'x') ON CONFLICT (id) DO UPDATE SET v = 'c'")
        app.execute("TRUNCATE keyless, by_full")
        app.execute("UPDATE keyless SET v = v; DELETE FROM keyless_unique")


@pytest.mark.parametrize("step", ("publish", "publish-lists"))
def test_application_is_not_disturbed(step, any_probe):
    """Keyless tables above all: publishing their updates makes the application's own statement fail."""
    source = any_probe.source
    make_tables(source)
    any_probe(step)
    tables = expected_identities(source)

    def plain(names):
        return {name.strip('"').replace('""', '"') for name in names}

    assert plain(published(source, ALL)) == (set() if step == "publish" else set(tables))
    assert plain(published(source, KEYS)) == {name for name, has in tables.items() if has}
    assert publications(source) == {ALL: (step == "publish", True, False, False, True),
                                    KEYS: (False, False, True, True, False)}
    application(source)
    # Of a table that was made since, too.
    source.sql("CREATE TABLE later (id int, v text); INSERT INTO later VALUES (1, 'a'); UPDATE later SET v = 'b'")


def test_the_danger_is_real(any_probe):
    """What the test above would find: each table that is said to have no identity does fail when its updates are
    published. (By a statement that touches a row; the two kinds with generated columns only from 18.)"""
    source = any_probe.source
    make_tables(source)
    tolerated = set() if source.cluster.major >= 18 else {"generated_key", "generated_full"}
    for name in [t for t, has in expected_identities(source).items() if not has and not t.startswith("root")]:
        source.sql(f"INSERT INTO {name} (id, v) VALUES (1, 'a')")
        source.sql(f"CREATE PUBLICATION danger FOR TABLE {name} WITH (publish = 'update, delete')")
        if name in tolerated:
            source.sql(f"UPDATE {name} SET v = 'b'")
        else:
            with pytest.raises(psycopg.Error):
                source.sql(f"UPDATE {name} SET v = 'b'")
        source.sql("DROP PUBLICATION danger")


@pytest.mark.parametrize("step", ("publish", "publish-lists"))
def test_published_again(step, probe):
    """A second run adds what is new, takes out what has lost its key, and makes nothing anew."""
    source = probe.source
    source.sql("CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int);"
               "INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1)")
    probe(step, "slot")
    oids = source.sql("SELECT oid FROM pg_publication ORDER BY oid")
    source.sql("CREATE TABLE c (id int PRIMARY KEY, v int); ALTER TABLE a DROP CONSTRAINT a_pkey")
    with pytest.raises(psycopg.Error):
        source.sql("UPDATE a SET v = 2")  # the moment before the poll
    probe(step, "slot")
    assert published(source, KEYS) == {"b", "c"}
    assert published(source, ALL) == (set() if step == "publish" else {"a", "b", "c"})
    assert source.sql("SELECT oid FROM pg_publication ORDER BY oid") == oids
    source.sql("UPDATE a SET v = 2; UPDATE b SET v = 2; INSERT INTO c VALUES (1, 1); UPDATE c SET v = 2")
    # b's and c's; the one of a is of the time when it was not in the list.
    assert count(source, "U") == 2


def test_identity_lost_while_publishing(probe):
    """Between the look and the lock: found before the transaction that would have hurt the application commits."""
    source = probe.source
    source.sql("CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int);"
               "INSERT INTO a VALUES (1, 1)")
    with source.connect(autocommit=False) as changer:
        changer.execute("ALTER TABLE a DROP CONSTRAINT a_pkey")  # not committed: the look still finds the key
        run = probe.start("identities", "publish")
        wait_until(lambda: source.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                                      " AND query LIKE 'ALTER PUBLICATION%%' AND datname = %s", (source.name,)),
                   what="the addition to wait for the table")
        assert run.values("identities")[0][quoted("a")] is True
        changer.commit()
    assert run.end() == 0, run.lines
    assert published(source, KEYS) == {"b"}
    source.sql("UPDATE a SET v = 2")


def test_table_dropped_while_publishing(probe):
    source = probe.source
    source.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    with source.connect(autocommit=False) as changer:
        changer.execute("DROP TABLE a")
        run = probe.start("identities", "publish-lists")
        wait_until(lambda: source.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                                      " AND query LIKE 'ALTER PUBLICATION%%' AND datname = %s", (source.name,)),
                   what="the addition to wait for the table")
        changer.commit()
    assert run.end() == 0, run.lines
    assert published(source, ALL) == published(source, KEYS) == {"b"}


def test_locked_table(probe):
    """A table that somebody has locked: given up after lock_timeout and tried again, so that nobody queues behind us for
    long; readers and writers of the other tables of the group never wait."""
    source = probe.source
    source.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
    with source.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE b IN SHARE UPDATE EXCLUSIVE MODE")
        run = probe.start("publish-lists")
        wait_until(lambda: "canceling statement due to lock timeout" in source.cluster.log_text()
                   or run.has_ended(), what="the first try to be given up")
        assert not run.has_ended()
        source.sql("SET statement_timeout = '2s'; UPDATE a SET id = 2; UPDATE b SET id = id; SELECT * FROM b")
        holder.rollback()
    assert run.end() == 0, run.lines
    assert published(source, KEYS) == {"a", "b"}


def test_many_tables(probe):
    """More than one group of 1,000, killed after the first: the next run goes on."""
    probe.source.sql("DO $$ BEGIN FOR i IN 1..1050 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', i);"
                     " END LOOP; END $$")
    probe.killed_at("seam.group_published", "publish-lists")
    assert len(published(probe.source, ALL)) == 1000
    probe("publish-lists")
    assert len(published(probe.source, ALL)) == len(published(probe.source, KEYS)) == 1050
    probe("remove")
    assert_nothing_left(probe)
