"""A destination as gcloud asks for one of kind alloydb: made, filled, followed, promoted, deleted."""
import os

import pytest

from support.api import PROFILES
from support.made import INSTANCES, PASSWORD, Makers, ShortFolder, made_database
from support.trouble import SCHEMA, Writer, assert_equal

pytestmark = pytest.mark.turns(2)

ENOUGH_MB = 9000  # AlloyDB's machines have 8 GB a processor


def cluster(machine_mb):
    """As gcloud has it, with a size that this machine has."""
    size = {"machineConfig": {"cpuCount": 1}} if machine_mb > ENOUGH_MB else {}
    return {"clusterId": "shop-cluster", "settings": {
        "databaseVersion": "POSTGRES_15", "initialUser": {"user": "postgres", "password": PASSWORD},
        "vpcNetwork": "projects/my-project/global/networks/default", "labels": {"team": "shop"},
        "primaryInstanceSettings": {"id": "primary", **size, "databaseFlags": {"shared_buffers": "64MB", "work_mem": "7MB"},
                                    "instanceNetworkConfig": {"enablePublicIp": False, "enableOutboundPublicIp": False}}}}


def test_the_life_of_an_alloydb_destination(source):
    """The cluster has an id of its own, which the profile and the instance are known by."""
    shop = source.createdb("shop")
    shop.sql(SCHEMA)
    asked = cluster(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20)
    with ShortFolder() as folder, Makers(os.path.join(folder, "state")) as service:
        service.made(service.ask_for("new", {"displayName": "new", "alloydb": asked}))
        profile = service.good(service.get(f"{PROFILES}/new"))
        del asked["settings"]["initialUser"]["password"]
        asked["settings"]["initialUser"]["passwordSet"] = True
        assert profile["state"] == "READY" and profile["alloydb"] == asked, profile
        assert service.instance("shop-cluster")["connectionProfile"].endswith("/new")
        service.profile("old", source)
        service.create_job("move", "old", "new", ["shop"])
        service.done("move", "start", timeout=90)
        service.wait_ready("move", 90)
        new = made_database(service, "shop-cluster", "shop")
        assert new.sql("SELECT current_setting('work_mem'), current_setting('fsync')") == [("7MB", "on")]
        with Writer(shop) as writer:
            writer.wait_for(20)
            assert service.done("move", "promote")["state"] == "COMPLETED"
        assert_equal(shop, new)
        service.wait(lambda: service.instance("shop-cluster")["mode"] == "PRIMARY", "the instance to be the primary")
        service.remove("move")
        assert service.get(f"{PROFILES}/new").status == 404 and new.sql("SELECT count(*) > 0 FROM item") == [(True,)]
        # An existing one is known by its cluster's id.
        service.finished(service.post(PROFILES, {"postgresql": {"alloydbClusterId": "shop-cluster"}}, connectionProfileId="again"))
        assert service.delete(f"{INSTANCES}/shop-cluster", force=True).status == 400
        service.finished(service.delete(f"{PROFILES}/again"))
        gone = service.end_of(service.good(service.delete(f"{INSTANCES}/shop-cluster", force=True)))
        assert "error" not in gone and service.get(f"{INSTANCES}/shop-cluster").status == 404
        assert not [f for f in os.listdir(os.path.join(service.folder, "instances")) if f.startswith("shop")]
    shop.drop()
