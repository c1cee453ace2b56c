"""A whole instance by the service: after a real promote everything of it is on the destination, catalogue by catalogue."""
import pytest

from support.arrived import assert_all_arrived
from support.cluster import Database, quote_ident
from support.migration import data_file
from support.service import Service

pytestmark = pytest.mark.turns(2)

ROOM = {"shared_buffers": "32MB", "max_connections": "100", "max_wal_senders": "20", "max_replication_slots": "20"}
ROLES = """
CREATE ROLE arr_owner LOGIN PASSWORD 'of the owner' CONNECTION LIMIT 9;
CREATE ROLE arr_reader LOGIN PASSWORD 'of the reader' VALID UNTIL '2035-01-01';
CREATE ROLE arr_group NOLOGIN;
COMMENT ON ROLE arr_group IS 'who reads';
GRANT arr_group TO arr_reader WITH ADMIN OPTION;
GRANT pg_monitor TO arr_group;
ALTER ROLE arr_reader SET work_mem = '7MB';
ALTER ROLE arr_owner SET search_path TO shop, public;
"""
# What an application does between the copy and the promote; the sequences go on, the views do not.
WRITES = """
UPDATE torture.triggered SET a = a + 1 WHERE id < 50;
DELETE FROM torture.triggered WHERE id > 190;
INSERT INTO torture.serials (d) SELECT nextval('torture.seq_plain') FROM generate_series(1, 40);
INSERT INTO torture.identity_always (v) SELECT 'later ' || g FROM generate_series(1, 15) g;
INSERT INTO torture.dropped_columns (id, v) SELECT g, 'later' FROM generate_series(5001, 5040) g;
UPDATE torture."Case" SET id = id + 10000;
SELECT nextval('torture.seq_down'), nextval('torture.seq_called');
SELECT lo_put(900004, 0, 'written later'), lo_unlink(900010), lo_from_bytea(990001, 'made later');
"""


@pytest.fixture
def instances(own_cluster):
    source, dest = (own_cluster(f"arrive_{side}", config=ROOM) for side in ("source", "dest"))
    source.sql(ROLES)
    source.psql_file(data_file("torture_roles.sql"))
    odd = 'my "odd" data'
    source.createdb(odd, "OWNER arr_owner CONNECTION LIMIT 30 TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
    source.createdb("torture").psql_file(data_file("torture.sql"))
    shop = source.createdb("shop", "OWNER arr_owner")
    shop.psql_file(data_file("shop.sql"), variables={"scale": "0.25"})
    shop.sql("ALTER DATABASE shop SET statement_timeout = '11min'; ALTER ROLE arr_reader IN DATABASE shop SET work_mem = '9MB';"
             "GRANT CONNECT ON DATABASE shop TO arr_group; REVOKE ALL ON DATABASE shop FROM PUBLIC; COMMENT ON DATABASE shop IS 'of shop'")
    Database(source, odd).sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 900) g;"
                              "CREATE MATERIALIZED VIEW m AS SELECT left(v, 1) AS l, count(*) AS n FROM t GROUP BY 1;"
                              "ALTER TABLE t ADD CONSTRAINT late CHECK (id < 800) NOT VALID; CREATE STATISTICS s ON id, v FROM t")
    yield [(Database(source, name), Database(dest, name)) for name in ("shop", "torture", odd)]
    # DROP DATABASE would refuse, and so does a server with sessions
    for cluster in (source, dest):
        for (name,) in cluster.sql("SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = 'torture')"):
            cluster.sql(f"DROP SUBSCRIPTION {quote_ident(name)}", db="torture")


def test_everything_of_an_instance_arrives(instances, tmp_path):
    source, dest = instances[0][0].cluster, instances[0][1].cluster
    with Service(tmp_path / "service") as service:
        for profile, cluster in (("from", source), ("to", dest)):
            service.profile(profile, cluster)
        service.create_job("all", "from", "to", [database.name for database, _ in instances])
        service.done("all", "start", timeout=60)
        service.wait_ready("all", timeout=90)
        instances[1][0].sql(WRITES)
        assert service.done("all", "promote", timeout=120)["state"] == "COMPLETED"
        assert_all_arrived(instances)
