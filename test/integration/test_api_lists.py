"""Lists: pages, filter, orderBy, all locations of a project."""
import pytest

from support.api import JOBS, PROFILES, PROJECT, Daemon

pytestmark = pytest.mark.turns(2)

NAMES = [f"p{i:02}" for i in range(23)]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """One for all: nothing is changed here."""
    daemon = Daemon(tmp_path_factory.mktemp("lists")).start()
    for i, name in enumerate(NAMES):
        daemon.make_profile(name, displayName=f"d{i * 7 % 23:02}", labels={"team": "db" if i % 3 else "web"},
                            role="SOURCE" if i % 2 else "DESTINATION")
    daemon.make_profile("far", PROJECT + "/locations/europe-west1")
    daemon.make_profile("other", "projects/my-project2/locations/us-central1")
    yield daemon
    daemon.stop()
    daemon.end_all()


def pages(api, path, **query):
    """[[ids of a page]]"""
    found, token = [], None
    while token != "":
        answer = api.get(path, pageToken=token, **query)
        assert answer.status == 200, answer
        found.append([each["name"].rpartition("/")[2] for each in answer["connectionProfiles"]])
        token = answer.json.get("nextPageToken", "")
    return found


def flat(all_pages):
    return [each for page in all_pages for each in page]


@pytest.mark.parametrize("size", [1, 5, 23, 24, 1000, 100000])
def test_pages(api, size):
    found = pages(api, PROFILES, pageSize=size)
    assert flat(found) == NAMES and all(len(page) <= size for page in found) and [] not in found


@pytest.mark.parametrize("order, expected", [
    ("name", NAMES), ("name asc", NAMES), ("name desc", NAMES[::-1]), ("createTime desc", NAMES[::-1]),
    ("create_time", NAMES), ("displayName", sorted(NAMES, key=lambda n: int(n[1:]) * 7 % 23)),
    ("role, name desc", [n for n in NAMES[::-1] if not int(n[1:]) % 2] + [n for n in NAMES[::-1] if int(n[1:]) % 2]),
])
def test_orders(api, order, expected):
    assert flat(pages(api, PROFILES, orderBy=order, pageSize=4)) == expected
    assert flat(pages(api, PROFILES, orderBy=order)) == expected


@pytest.mark.parametrize("order", ["name", "displayName desc"])
def test_filters(api, order):
    found = pages(api, PROFILES, filter='labels.team = web AND role = SOURCE', orderBy=order, pageSize=2)
    assert sorted(flat(found)) == [n for n in NAMES if int(n[1:]) % 6 == 3]
    assert flat(pages(api, PROFILES, filter="state = FAILED", orderBy=order)) == []
    assert len(flat(pages(api, PROFILES, filter='postgresql.host = "10.0.0.5"', orderBy=order))) == 23


def test_a_token_belongs_to_its_list(api):
    token = api.get(PROFILES, pageSize=2)["nextPageToken"]
    for query in ({"filter": "state = READY"}, {"orderBy": "name desc"}):
        assert api.get(PROFILES, pageToken=token, **query).status == 400, query
    assert api.get(JOBS, pageToken=token).status == 400
    assert api.get(f"{PROJECT}/locations/-/connectionProfiles", pageToken=token).status == 400
    assert len(api.get(PROFILES, pageToken=token, pageSize=30)["connectionProfiles"]) == 21
    for bad in (token[:-1], token + "0", "0" * 16, "0" * 40, token[:16] + "zz"):
        assert api.get(PROFILES, pageToken=bad).status == 400, bad


def test_all_locations_of_one_project(api):
    found = flat(pages(api, f"{PROJECT}/locations/-/connectionProfiles", pageSize=7))
    assert sorted(found) == sorted([*NAMES, "far"])
    assert sorted(flat(pages(api, f"{PROJECT}/locations/-/connectionProfiles", orderBy="displayName"))) == sorted(found)
    assert flat(pages(api, f"{PROJECT}/locations/nowhere/connectionProfiles")) == []
    answer = api.post(f"{PROJECT}/locations/-/connectionProfiles", {"postgresql": {"host": "h"}}, connectionProfileId="x")
    assert answer.status == 400 and "parent" in answer.violations()
