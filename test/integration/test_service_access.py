"""Who may ask the service: on this machine, by tokens, and from elsewhere over TLS."""
import os
import sqlite3
import ssl
import subprocess

import pytest

from support.api import PROFILES, PROJECT, api, make_daemon  # noqa: F401

BODY = {"postgresql": {"host": "10.0.0.5", "username": "mig"}}


def make_token(api, role, *options):
    result = api.program("tokens", "create", "--role", role, "--state-dir", api.folder, *options)
    assert result.code == 0, result
    return result.stdout.strip()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def refusal(answer):
    """(status, reason) of it."""
    return answer.status, answer.json["error"]["details"][0]["reason"]


def test_the_first_token_shuts_the_door(api):
    """Until then whoever is on this machine may do everything; what a role may not do is told."""
    assert api.post(PROFILES, BODY, connectionProfileId="a").status == 200
    viewer, operator = make_token(api, "viewer"), make_token(api, "operator")
    answer = api.get(PROFILES)
    assert refusal(answer) == (401, "TOKEN_NEEDED") and answer.headers["www-authenticate"].startswith("Bearer")
    assert "pgcrane tokens create" in answer.text
    assert api.get(PROFILES, headers=bearer(viewer)).status == 200
    assert refusal(api.post(PROFILES, BODY, headers=bearer(viewer), connectionProfileId="b")) == (403, "NOT_PERMITTED")
    assert refusal(api.delete(PROFILES + "/a", headers=bearer(viewer))) == (403, "NOT_PERMITTED")
    assert api.get(PROFILES + "/a", headers=bearer(operator)).status == 200
    assert api.post(PROFILES, BODY, headers=bearer(operator), connectionProfileId="b").status == 200
    result = api.program("tokens", "revoke", viewer_id(api, "viewer"), "--state-dir", api.folder)
    assert result.code == 0, result
    assert refusal(api.get(PROFILES, headers=bearer(viewer))) == (401, "TOKEN_NEEDED")
    for each in (viewer, operator):
        assert each not in api.log()


def viewer_id(api, role):
    lines = api.program("tokens", "list", "--json", "--state-dir", api.folder).lines
    return next(line["id"] for line in lines if line["role"] == role)


def test_what_a_role_may_is_what_it_is_told(api):
    api.make_profile("src")
    wanted = {"permissions": ["datamigration.connectionprofiles.get", "datamigration.connectionprofiles.delete"]}
    viewer, operator = make_token(api, "viewer"), make_token(api, "operator")
    path = PROFILES + "/src:testIamPermissions"
    assert api.post(path, wanted, headers=bearer(viewer)).json == {"permissions": wanted["permissions"][:1]}
    assert api.post(path, wanted, headers=bearer(operator)).json == wanted


def test_guessing_is_slowed_down(api):
    token = make_token(api, "viewer")
    assert api.get(PROFILES, headers=bearer(token)).status == 200
    answers = []
    while len(answers) < 60 and (not answers or answers[-1].status != 429):  # one more is let through from time to time
        answers.append(api.get(PROFILES, headers=bearer("pgc_viewer_" + "A" * 43)))
    assert {answer.status for answer in answers} == {401, 429} and refusal(answers[-1]) == (429, "TOO_MANY_FAILURES")
    assert int(answers[-1].headers["retry-after"]) > 0
    assert api.get(PROFILES, headers=bearer(token)).status == 200  # was good a moment ago


def test_who_did_it_is_in_the_audit_log(api):
    token = make_token(api, "operator", "--name", "pipeline")
    assert api.post(PROFILES, BODY, headers=bearer(token), connectionProfileId="b").status == 200
    with sqlite3.connect(os.path.join(api.folder, "store.db")) as store:
        who = [row[0] for row in store.execute("SELECT who FROM audit WHERE resource = ?", (PROFILES + "/b",))]
    assert who == ["token:" + viewer_id(api, "operator")]


@pytest.fixture
def certificate(tmp_path):
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return cert, key


def test_other_addresses_take_tls_and_tokens(make_daemon, certificate):
    cert, key = certificate
    daemon = make_daemon(f"--tls-cert={cert}", f"--tls-key={key}", listen="0.0.0.0:0",
                         tls=ssl.create_default_context(cafile=cert))
    assert refusal(daemon.get(PROFILES)) == (401, "TOKEN_NEEDED")  # though it comes over loopback, and there is no token
    token = make_token(daemon, "operator")
    assert daemon.get(PROFILES, headers=bearer(token)).status == 200
    daemon.tls = None
    with pytest.raises(OSError):
        daemon.get(PROJECT + "/locations")


def test_certificate_and_key_belong_together(pgcrane, certificate, tmp_path):
    result = pgcrane("serve", "--listen=127.0.0.1:0", f"--state-dir={tmp_path}", f"--tls-cert={certificate[0]}")
    assert result.code == 64 and "--tls-key" in result.stderr
    result = pgcrane("serve", "--listen=127.0.0.1:0", f"--state-dir={tmp_path}", f"--tls-cert={certificate[0]}",
                     f"--tls-key={tmp_path}/none")
    assert result.code == 64 and "none: No such file" in result.stderr, result
