"""The report of a job: from before its start until it is deleted, as JSON, as a page, and on the terminal."""
import json
import os
import re
import shutil

import pytest

from support.api import JOBS, PROJECT
from support.cluster import Database, quote_ident, wait_until
from support.service import Service

pytestmark = pytest.mark.turns(2)

EVIL = "<script>alert('x')</script>\"&"
SCHEMA = f"""
CREATE TABLE {quote_ident(EVIL)} (id int PRIMARY KEY, v text);
INSERT INTO {quote_ident(EVIL)} SELECT g, md5(g::text) FROM generate_series(1, 700) g;
CREATE TABLE keyless (v int); INSERT INTO keyless SELECT generate_series(1, 30);
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
CREATE FOREIGN TABLE {quote_ident('far <b>')} (id int) SERVER s;
"""


@pytest.fixture
def databases(source, dest):
    made = [source.createdb(EVIL), source.createdb("plain")]
    made[0].sql(SCHEMA)
    made[1].sql("CREATE TABLE t (id int PRIMARY KEY)")
    yield made
    for database in made:
        database.drop()
        Database(dest, database.name).drop()


def report_of(service):
    return service.good(service.get(f"{JOBS}/told:report"))


def by_name(report):
    return {database["database"]: database for database in report["databases"]}


def schema_of(service, name):
    return service.good(service.get("/openapi.json"))["components"]["schemas"][name]["properties"]


def assert_as_described(service, report):
    """Nothing stands in it that the OpenAPI document does not know."""
    assert set(report) <= set(schema_of(service, "JobReport")), report
    for database in report["databases"]:
        assert set(database) <= set(schema_of(service, "DatabaseReport")), database


def cli(service, *words):
    result = service.program("jobs", "report", "told", *words, "--project", PROJECT.split("/")[1], "--location", "us-central1",
                             env={"PGCRANE_SERVER": f"http://127.0.0.1:{service.port}"})
    assert result.code == 0, result
    return result.stdout


def assert_page_is_safe(page):
    assert page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>"), page[:200]
    assert not re.search(r"<script|<b>|<img|src=|https?://", page), page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;" in page, page


def assert_complete(service):
    report = report_of(service)
    assert_as_described(service, report)
    evil, plain = by_name(report)[EVIL], by_name(report)["plain"]
    assert report["state"] == "COMPLETED" and report["endTime"] >= report["startTime"], report
    assert evil["complete"] and evil["phase"] == "PROMOTED" and plain["complete"], report
    assert evil["copied"]["rows"] == 730 and evil["copied"]["tables"] == 2, evil
    assert evil["followed"]["transactions"] >= 1 and evil["followed"]["inserts"] == 5, evil
    promote = evil["promote"]
    assert promote["proven"] and 0 < promote["outageSeconds"] < 60 and "/" in promote["marker"], promote
    assert {"stop writes on the source"} <= {step["name"] for step in promote["steps"]}, promote
    assert {"COPY", "SCHEMA", "CDC", "PROMOTE"} <= {phase["phase"] for phase in evil["phases"]}, evil
    assert [(n["kind"], n["object"]) for n in evil["notMoved"]] == [("foreign table", "public.far <b>")], evil
    assert any(w["id"] == "FOLLOW_NO_IDENTITY" and w["fix"] for w in evil["warnings"]), evil
    assert evil["source"]["version"].startswith("15.") and evil["source"]["bytes"] > 1 << 20 < evil["destination"]["bytes"], evil
    totals = report["totals"]
    assert (totals["databases"], totals["promoted"], totals["proven"], totals["notMoved"]) == (2, 2, 2, 1), totals
    assert totals["rows"] == 730 and totals["longestOutageSeconds"] >= promote["outageSeconds"], totals
    return report


def test_a_report_from_begin_to_end(service_with_job, databases):
    service = service_with_job
    report = report_of(service)
    assert report["state"] == "NOT_STARTED" and report["databases"] == [] and report["totals"]["databases"] == 0, report
    service.done("told", "start", timeout=60)
    service.wait_ready("told", timeout=60)
    database = by_name(report_of(service))[EVIL]
    assert database["phase"] == "READY_FOR_PROMOTE" and database["copied"]["rows"] == 730 and "promote" not in database, database
    assert "notMoved" not in database, "that is known in the end"
    databases[0].sql(f"INSERT INTO {quote_ident(EVIL)} SELECT g, 'later' FROM generate_series(2001, 2005) g")
    service.restart()
    service.done("told", "promote", timeout=60)
    report = assert_complete(service)

    wait_until(lambda: not service.pids("session"), what="the sessions to end")
    service.restart()
    shutil.rmtree(os.path.join(service.folder, "sessions"))
    assert by_name(assert_complete(service)) == by_name(report)

    for answer in (service.get(f"{JOBS}/told:report", alt="html"),
                   service.request("GET", f"{JOBS}/told:report", headers={"Accept": "text/html,*/*;q=0.8"})):
        assert answer.status == 200 and answer.headers["content-type"] == "text/html; charset=UTF-8"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert_page_is_safe(answer.text)
        assert "everything up to the marker at" in answer.text and "foreign table public.far &lt;b&gt;" in answer.text
    refused = service.get(f"{JOBS}/told", alt="html")
    assert refused.status == 400 and service.get(f"{JOBS}/told:report", alt="xml").status == 400
    assert by_name(json.loads(cli(service, "-o", "json"))) == by_name(report)
    assert_page_is_safe(cli(service, "-o", "html"))
    text = cli(service)
    assert "not moved: foreign table public.far <b>" in text and re.search(r"plain +COMPLETED.* yes", text), text
    service.remove("told")
    assert service.get(f"{JOBS}/told:report").status == 404
    assert service.sql("SELECT count(*) FROM report") == [(0,)]


@pytest.fixture
def service_with_job(tmp_path, source, dest, databases):
    with Service(tmp_path / "service") as running:
        running.job_of("told", source, dest, [database.name for database in databases])
        yield running
