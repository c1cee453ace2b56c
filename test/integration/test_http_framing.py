"""The HTTP server by raw sockets: what is answered to each odd or hostile request, and each limit.

A case passes only when the server still serves afterwards. Where a sanitizer build of the probe is there, every case runs
against it as well.
"""
import json
import re
import select
import socket
import time

import pytest

from support.cluster import wait_until
from support.http import Probe, builds, get, statuses

HOST = b"Host: probe\r\n"
GET = b"GET /echo HTTP/1.1\r\n" + HOST + b"\r\n"
INNER = b"GET /echo?smuggled HTTP/1.1\r\n" + HOST + b"\r\n"


def post(*headers, body=b"", target=b"/echo", version=b"1.1"):
    lines = [b"POST " + target + b" HTTP/" + version, b"Host: probe", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def line(request_line, *headers):
    return b"\r\n".join([request_line, b"Host: probe", *headers]) + b"\r\n\r\n"


@pytest.fixture(scope="module", params=builds())
def build(request):
    return request.param


@pytest.fixture(scope="module")
def shared(build):
    """One server for all cases that leave it as it was."""
    with Probe(build) as probe:
        yield probe


@pytest.fixture
def serve(build):
    """serve("idle_timeout_us=1000000", ...) starts a server of the test's own."""
    started = []

    def start(*options, **more):
        started.append(Probe(build, *options, **more).start())
        return started[-1]

    yield start
    for probe in started:
        probe.end()


# name: (bytes, statuses in their order; 400 and the like close the connection, so that nothing may follow)
FRAMING = {
    # the probe table of the choice of libraries
    "two pipelined requests": (GET + GET, [200, 200]),
    "no Host in HTTP/1.1": (b"GET /echo HTTP/1.1\r\n\r\n" + INNER, [400]),
    "two Host headers": (line(b"GET /echo HTTP/1.1", b"Host: other") + INNER, [400]),
    "two Host headers alike": (line(b"GET /echo HTTP/1.1", b"Host: probe") + INNER, [400]),
    "Content-Length and Transfer-Encoding": (
        post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + INNER), [400]),
    "Transfer-Encoding and Content-Length": (
        post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"0\r\n\r\n" + INNER), [400]),
    "two different Content-Length": (post(b"Content-Length: 0", b"Content-Length: 36", body=INNER), [400]),
    "two Content-Length alike": (post(b"Content-Length: 2", b"Content-Length: 2", body=b"ab" + INNER), [400]),
    "Content-Length: +1": (post(b"Content-Length: +1", body=b"a" + INNER), [400]),
    "Content-Length: -1": (post(b"Content-Length: -1", body=b"a" + INNER), [400]),
    "Content-Length: 0x5": (post(b"Content-Length: 0x5", body=b"abcde" + INNER), [400]),
    "Content-Length: 5, 5": (post(b"Content-Length: 5, 5", body=b"abcde" + INNER), [400]),
    "Content-Length: 5 5": (post(b"Content-Length: 5 5", body=b"abcde" + INNER), [400]),
    "Content-Length empty": (post(b"Content-Length:", body=INNER), [400]),
    "Content-Length over 64 bits": (post(b"Content-Length: 18446744073709551617", body=b"a" + INNER), [400]),
    "blank before the colon": (post(b"Content-Length : 36", body=INNER), [400]),
    "tab before the colon": (post(b"Content-Length\t: 36", body=INNER), [400]),
    "blank before a name": (b"GET /echo HTTP/1.1\r\n Host: probe\r\n\r\n" + INNER, [400]),
    "chunk size 0x1": (post(b"Transfer-Encoding: chunked", body=b"0x1\r\na\r\n0\r\n\r\n" + INNER), [400]),
    "chunk size -0": (post(b"Transfer-Encoding: chunked", body=b"-0\r\n\r\n" + INNER), [400]),
    "chunk size +1": (post(b"Transfer-Encoding: chunked", body=b"+1\r\na\r\n0\r\n\r\n" + INNER), [400]),
    "chunk size empty": (post(b"Transfer-Encoding: chunked", body=b"\r\na\r\n0\r\n\r\n" + INNER), [400]),
    "chunk size over 64 bits": (
        post(b"Transfer-Encoding: chunked", body=b"10000000000000001\r\na\r\n0\r\n\r\n" + INNER), [400]),
    "chunk longer than its size": (
        post(b"Transfer-Encoding: chunked", body=b"1\r\nabc\r\n0\r\n\r\n" + INNER), [400]),
    "chunk size with LF alone": (post(b"Transfer-Encoding: chunked", body=b"1\na\r\n0\r\n\r\n" + INNER), [400]),
    "chunk data with LF alone": (post(b"Transfer-Encoding: chunked", body=b"1\r\na\n0\r\n\r\n" + INNER), [400]),
    "last chunk with LF alone": (post(b"Transfer-Encoding: chunked", body=b"0\n\n" + INNER), [400]),
    "Transfer-Encoding gzip, chunked": (
        post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + INNER), [501]),
    "Transfer-Encoding chunked, gzip": (
        post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n" + INNER), [400]),
    "Transfer-Encoding gzip": (post(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n" + INNER), [501]),
    "Transfer-Encoding identity": (post(b"Transfer-Encoding: identity", body=INNER), [501]),
    "Transfer-Encoding xchunked": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + INNER), [501]),
    "Transfer-Encoding chunked, chunked": (
        post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + INNER), [400]),
    "Transfer-Encoding twice": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + INNER), [400]),
    "Transfer-Encoding empty": (post(b"Transfer-Encoding:", body=b"0\r\n\r\n" + INNER), [501]),
    "Transfer-Encoding by vertical tab": (
        post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + INNER), [400]),
    "Transfer-Encoding in HTTP/1.0": (
        post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + INNER, version=b"1.0"), [400]),
    "NUL in a header value": (line(b"GET /echo HTTP/1.1", b"X: a\0b") + INNER, [400]),
    "NUL in a header name": (line(b"GET /echo HTTP/1.1", b"X\0: a") + INNER, [400]),
    "control character in a value": (line(b"GET /echo HTTP/1.1", b"X: a\x01b") + INNER, [400]),
    "empty header name": (line(b"GET /echo HTTP/1.1", b": x") + INNER, [400]),
    "header without colon": (line(b"GET /echo HTTP/1.1", b"Nonsense") + INNER, [400]),
    "separator in a header name": (line(b"GET /echo HTTP/1.1", b"X(y): z") + INNER, [400]),
    "LF line ends": (b"GET /echo HTTP/1.1\nHost: probe\n\n" + INNER, [400]),
    "LF after a header": (b"GET /echo HTTP/1.1\r\nHost: probe\n\r\n" + INNER, [400]),
    "LF for the empty line": (b"GET /echo HTTP/1.1\r\nHost: probe\r\n\n" + INNER, [400]),
    "CR line ends": (b"GET /echo HTTP/1.1\rHost: probe\r\r" + INNER, [400]),
    "CR inside a value": (line(b"GET /echo HTTP/1.1", b"X: a\rContent-Length: 5") + INNER, [400]),
    "CR CR LF": (b"GET /echo HTTP/1.1\r\r\nHost: probe\r\n\r\n" + INNER, [400]),
    # and further ones
    "folded header": (line(b"GET /echo HTTP/1.1", b"X: a\r\n b") + INNER, [400]),
    "folded header by a tab": (line(b"GET /echo HTTP/1.1", b"X: a\r\n\tContent-Length: 5") + INNER, [400]),
    "folded Transfer-Encoding": (post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + INNER), [400]),
    "one empty line before": (b"\r\n" + GET, [200]),
    "two empty lines before": (b"\r\n\r\n" + GET, [400]),
    "PATCH": (line(b"PATCH /echo HTTP/1.1"), [200]),
    "path with a verb": (line(b"POST /things/a:start HTTP/1.1"), [200]),
    "lower case method": (line(b"get /echo HTTP/1.1") + INNER, [400]),
    "unknown method": (line(b"FETCH /echo HTTP/1.1") + INNER, [400]),
    "method of WebDAV": (line(b"PROPFIND /echo HTTP/1.1") + INNER, [501]),
    "TRACE": (line(b"TRACE /echo HTTP/1.1") + INNER, [501]),
    "CONNECT": (b"CONNECT probe:443 HTTP/1.1\r\nHost: probe:443\r\n\r\n" + INNER, [501]),
    "CONNECT with a body": (
        b"CONNECT probe:443 HTTP/1.1\r\nHost: probe:443\r\nContent-Length: 2\r\n\r\nab" + INNER, [501]),
    "HTTP/0.9": (b"GET /echo\r\n\r\n" + INNER, [400, 505]),
    "HTTP/2.0": (line(b"GET /echo HTTP/2.0") + INNER, [505]),
    "HTTP/1.2": (line(b"GET /echo HTTP/1.2") + INNER, [505]),
    "HTTP/1.10": (line(b"GET /echo HTTP/1.10") + INNER, [400, 505]),
    "http/1.1": (line(b"GET /echo http/1.1") + INNER, [400]),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400, 501, 505]),
    "handshake of TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", [400]),
    "two blanks in the request line": (line(b"GET  /echo HTTP/1.1") + INNER, [400]),
    "tab in the request line": (line(b"GET\t/echo HTTP/1.1") + INNER, [400]),
    "blank in the target": (line(b"GET /ec ho HTTP/1.1") + INNER, [400]),
    "blank behind the version": (line(b"GET /echo HTTP/1.1 ") + INNER, [400]),
    "absolute target": (line(b"GET http://probe/echo HTTP/1.1"), [200]),
    "absolute target, https": (line(b"GET https://PROBE/echo?a HTTP/1.1"), [200]),
    "absolute target without path": (line(b"GET http://probe HTTP/1.1"), [404]),
    "absolute target of another host": (line(b"GET http://other/echo HTTP/1.1") + INNER, [400]),
    "absolute target with a user": (line(b"GET http://a@probe/echo HTTP/1.1") + INNER, [400]),
    "absolute target of another scheme": (line(b"GET ftp://probe/echo HTTP/1.1") + INNER, [400]),
    "target of the server": (line(b"OPTIONS * HTTP/1.1"), [204]),
    "target of the server with GET": (line(b"GET * HTTP/1.1") + INNER, [400]),
    "OPTIONS": (line(b"OPTIONS /echo HTTP/1.1"), [204]),
    "target without slash": (line(b"GET echo HTTP/1.1") + INNER, [400]),
    "fragment": (line(b"GET /echo#x HTTP/1.1") + INNER, [400]),
    "upgrade to a web socket": (
        line(b"GET /echo HTTP/1.1", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: eA==") + GET,
        [200, 200]),
    "upgrade to HTTP/2": (
        line(b"GET /echo HTTP/1.1", b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk")
        + GET, [200, 200]),
    "upgrade with a body": (
        post(b"Upgrade: x", b"Connection: Upgrade", b"Content-Length: 3", body=b"abc") + GET, [200, 200]),
    "empty Host": (b"GET /echo HTTP/1.1\r\nHost:\r\n\r\n" + INNER, [400]),
    "Host with a path": (b"GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n" + INNER, [400]),
    "Host with a user": (b"GET /echo HTTP/1.1\r\nHost: u@a\r\n\r\n" + INNER, [400]),
    "Host is a list": (b"GET /echo HTTP/1.1\r\nHost: a, b\r\n\r\n" + INNER, [400]),
    "Host is an IPv6 address": (b"GET /echo HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", [200]),
    "HTTP/1.0 without Host": (b"GET /echo HTTP/1.0\r\n\r\n" + INNER, [200]),
    "header that is no UTF-8": (line(b"GET /echo HTTP/1.1", b"X: \xff\xfe") + INNER, [400]),
    "header in UTF-8": (line(b"GET /echo HTTP/1.1", b"X: \xc3\xa9"), [200]),
    "bare UTF-8 in the path": (line(b"GET /\xc3\xa9 HTTP/1.1") + INNER, [400]),
    "overlong slash in the path": (line(b"GET /things/%C0%AF HTTP/1.1") + INNER, [400]),
    "no UTF-8 in the path": (line(b"GET /things/%FF HTTP/1.1") + INNER, [400]),
    "surrogate in the path": (line(b"GET /things/%ED%A0%80 HTTP/1.1") + INNER, [400]),
    "NUL in the path": (line(b"GET /things/%00 HTTP/1.1") + INNER, [400]),
    "line break in the path": (line(b"GET /things/a%0d%0ab HTTP/1.1") + INNER, [400]),
    "half an escape": (line(b"GET /things/%2 HTTP/1.1") + INNER, [400]),
    "no escape": (line(b"GET /things/%zz HTTP/1.1") + INNER, [400]),
    "dot segments": (line(b"GET /things/../echo HTTP/1.1") + INNER, [400]),
    "encoded dot segments": (line(b"GET /things/%2e%2E/echo HTTP/1.1") + INNER, [400]),
    "empty segment": (line(b"GET //echo HTTP/1.1") + INNER, [400]),
    "backslash": (line(b"GET /things/a\\b HTTP/1.1") + INNER, [400]),
    "encoded slash is no slash": (line(b"GET /things%2Fa HTTP/1.1"), [404]),
    "NUL in the query": (line(b"GET /echo?a=%00 HTTP/1.1") + INNER, [400]),
    "no UTF-8 in the query": (line(b"GET /echo?a=%C0%80 HTTP/1.1") + INNER, [400]),
    "Expect that nobody knows": (post(b"Expect: 200-ok", b"Content-Length: 2", body=b"ab" + INNER), [417]),
    "unknown path": (line(b"GET /nowhere HTTP/1.1") + GET, [404, 200]),
    "unknown method of a path": (line(b"DELETE /echo HTTP/1.1") + GET, [405, 200]),
    "body of GET": (line(b"GET /echo HTTP/1.1", b"Content-Length: 3") + b"abc" + GET, [200, 200]),
    "chunk extension": (
        post(b"Transfer-Encoding: chunked", body=b"3;a=b\r\nabc\r\n0;x\r\n\r\n") + GET, [200, 200]),
    "chunk extension with LF": (
        post(b"Transfer-Encoding: chunked", body=b"3;a\nb\r\nabc\r\n0\r\n\r\n" + INNER), [400]),
    "chunk extension with CR": (
        post(b"Transfer-Encoding: chunked", body=b"3;a\rb\r\nabc\r\n0\r\n\r\n" + INNER), [400]),
    "chunk extension without end": (
        post(b"Transfer-Encoding: chunked", body=b"3;" + b"a" * 20000 + b"\r\nabc\r\n0\r\n\r\n" + INNER), [413]),
    "chunk size with leading zeros without end": (
        post(b"Transfer-Encoding: chunked", body=b"0" * 20000 + b"3\r\nabc\r\n0\r\n\r\n" + INNER), [413]),
    "trailer": (post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n") + GET, [200, 200]),
    "trailers without end": (
        post(b"Transfer-Encoding: chunked", body=b"0\r\n" + b"X: y\r\n" * 4000 + b"\r\n" + INNER), [413]),
    "Content-Length in a trailer": (
        post(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 50\r\n\r\n") + GET, [200, 200]),
    "Transfer-Encoding in a trailer": (
        post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n" + INNER), [400]),
    "Connection: close": (line(b"GET /echo HTTP/1.1", b"Connection: close") + INNER, [200]),
    "Connection: x, Close": (line(b"GET /echo HTTP/1.1", b"Connection: x, Close") + INNER, [200]),
    "nothing": (b"", []),
    "garbage": (b"\xde\xad\xbe\xef" * 100, [400]),
}


@pytest.mark.parametrize("name", FRAMING)
def test_framing(shared, name):
    sent, expected = FRAMING[name]
    answer = shared.talk(sent)
    got = statuses(answer)
    if len(expected) > 1 and min(expected) >= 400:  # which of these is up to the version of the parser
        assert len(got) == 1 and got[0] in expected, answer
    else:
        assert got == expected, answer
    assert b"smuggled" not in answer
    assert statuses(shared.talk(GET)) == [200]


@pytest.mark.parametrize("name", FRAMING)
def test_framing_byte_by_byte(shared, name):
    """Where the pieces are cut makes no difference to what is understood."""
    sent, _ = FRAMING[name]
    if len(sent) > 1000:
        sent = sent[:1000]
        assert len(statuses(shared.talk_slowly(sent, step=97))) <= 2
        return
    whole = statuses(shared.talk(sent))
    assert statuses(shared.talk_slowly(sent)) == whole


# --- what a request comes to ---


def test_echo(shared):
    body = shared.json(post(b"Content-Length: 5", b"X-Two: a", b"x-two:  b \t", b"X-Empty:",
                            body=b"a\0b\xffc", target=b"/echo?a=1&b=%C3%A9+%2B&a=2&&c"))
    assert body["method"] == "POST" and body["body_len"] == 5 and body["host"] == "probe" and body["tls"] is False
    assert body["query"] == [["a", "1"], ["b", "é +"], ["a", "2"], ["c", ""]]
    assert [h for h in body["headers"] if h[0].startswith("x-")] == [["x-two", "a"], ["x-two", "b"], ["x-empty", ""]]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", body["peer"])


def test_chunks_are_joined_and_trailers_dropped(shared):
    body = shared.json(post(b"Transfer-Encoding: Chunked",
                            body=b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nHost: other\r\nX-Late: 1\r\n\r\n"))
    assert body["body"] == "abc0123456789" and body["host"] == "probe"
    assert "x-late" not in dict(body["headers"])


def test_path_and_params(shared):
    body = shared.json(line(b"POST /things/a%2Fb%3Ac%C3%A9:do-it HTTP/1.1"))
    assert body["segments"] == ["things", "a/b:cé"]
    assert body["params"] == [["id", "a/b:cé"], ["verb", "do-it"]]


def test_very_many_small_chunks(shared):
    count = 20000
    body = shared.json(post(b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n" * count + b"0\r\n\r\n"))
    assert body["body_len"] == count


def test_head(shared):
    for target in (b"/echo", b"/big?bytes=100000"):
        answer = shared.talk(line(b"HEAD " + target + b" HTTP/1.1") + line(b"GET /status HTTP/1.1"))
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert b"200 OK" in head and int(re.search(rb"Content-Length: (\d+)", head).group(1)) > 0
        assert rest.startswith(b"HTTP/1.1 200 OK") and rest.endswith(b"\r\n\r\nstatus")


def test_method_not_allowed(shared):
    answer = shared.talk(line(b"DELETE /echo HTTP/1.1"))
    assert b"\r\nAllow: GET, HEAD, POST, PATCH, OPTIONS\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == 405


def test_errors_are_googles(shared):
    error = json.loads(shared.talk(b"GET /echo HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")[2])["error"]
    assert error == {"code": 400, "message": "the request has no Host header", "status": "INVALID_ARGUMENT"}


@pytest.mark.parametrize("name, value, status", [
    ("X-Good", "fine", 200), ("X-Good", "with%09tab", 200), ("X-Bad", "a%0d%0aSet-Cookie:%20b", 500), ("X-Bad", "a%0ab", 500),
    ("X-Bad", "a%0db", 500), ("X-Bad", "a%01", 500), ("X-Bad%0d%0aX", "a", 500), ("X%20Bad", "a", 500), ("", "a", 500),
    ("X:", "a", 500), ("Content-Length", "3", 500), ("transfer-encoding", "chunked", 500), ("Connection", "close", 500)])
def test_no_response_splitting(shared, name, value, status):
    answer = shared.talk(line(f"GET /header?name={name}&value={value} HTTP/1.1".encode()))
    assert statuses(answer) == [status], answer
    assert b"Set-Cookie" not in answer and answer.count(b"Content-Length") == 1 and b"X-Bad" not in answer


@pytest.mark.parametrize("code, sent, has_body", [
    (204, 204, False), (304, 304, False), (201, 201, True), (503, 503, True), (42, 500, True), (100, 500, True)])
def test_status(shared, code, sent, has_body):
    answer = shared.talk(line(b"GET /status?code=%d HTTP/1.1" % code) + GET)
    assert statuses(answer) == [sent, 200]
    assert (b"Content-Length" in answer.partition(b"\r\n\r\n")[0]) == has_body


# --- connections ---


def test_keep_alive_1_1(shared):
    with shared.connect() as client:
        for _ in range(3):
            client.sendall(GET)
            head, _ = get(client)
            assert b"Connection:" not in head
        client.sendall(line(b"GET /echo HTTP/1.1", b"Connection: close"))
        head, _ = get(client)
        assert b"\r\nConnection: close" in head and client.recv(1) == b""


def test_keep_alive_1_0(shared):
    with shared.connect() as client:
        client.sendall(b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, _ = get(client)
        assert b"\r\nConnection: keep-alive" in head
        client.sendall(b"GET /echo HTTP/1.0\r\n\r\n")
        head, _ = get(client)
        assert b"\r\nConnection: close" in head and client.recv(1) == b""


def test_pipelined_requests_keep_their_order(shared):
    with shared.connect() as client:
        client.sendall(line(b"GET /slow?ms=300 HTTP/1.1") + line(b"GET /status?code=201 HTTP/1.1") + GET * 20)
        client.shutdown(socket.SHUT_WR)
        assert statuses(shared.read_all(client)) == [200, 201] + [200] * 20


def test_half_closed_client_gets_its_answer(shared):
    with shared.connect() as client:
        client.sendall(line(b"GET /slow?ms=300 HTTP/1.1"))
        client.shutdown(socket.SHUT_WR)
        assert statuses(shared.read_all(client)) == [200]


@pytest.mark.parametrize("sent", [GET[:20], post(b"Content-Length: 5", body=b"ab"),
                                  post(b"Transfer-Encoding: chunked", body=b"5\r\nab")], ids=["head", "body", "chunk"])
def test_half_closed_in_the_middle(shared, sent):
    assert statuses(shared.talk(sent)) == [400]


def test_client_that_goes_away_while_handled(serve):
    probe = serve("threads=1")
    with probe.connect() as client:
        client.sendall(line(b"GET /slow?ms=500 HTTP/1.1"))
        time.sleep(0.1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    assert statuses(probe.talk(GET)) == [200]
    wait_until(lambda: len(probe.said("access")) == 2, 10)


def test_continue(shared):
    with shared.connect() as client:
        client.sendall(post(b"Content-Length: 5", b"Expect: 100-continue"))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abcde")
        assert b"200 OK" in get(client)[0]
        # a body that is there already needs no leave, and one that is refused gets none
        client.sendall(post(b"Content-Length: 5", b"Expect: 100-continue", body=b"abcde"))
        assert get(client)[0].startswith(b"HTTP/1.1 200 OK")
        client.sendall(post(b"Content-Length: 5000000", b"Expect: 100-continue"))
        assert get(client)[0].startswith(b"HTTP/1.1 413 ")


def test_no_continue_for_1_0(shared):
    with shared.connect() as client:
        client.sendall(post(b"Content-Length: 2", b"Expect: 100-continue", version=b"1.0"))
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        client.sendall(b"ab")
        assert get(client)[0].startswith(b"HTTP/1.1 200 OK")


def test_body_byte_by_byte(shared):
    answer = shared.talk_slowly(post(b"Content-Length: 30", body=b"abcdefghij" * 3))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["body"] == "abcdefghij" * 3


# --- limits ---

LIMITS = {
    "headers just small enough": (line(b"GET /echo HTTP/1.1", b"X: " + b"a" * 16000), [200]),
    "headers too large": (line(b"GET /echo HTTP/1.1", b"X: " + b"a" * 17000) + INNER, [431]),
    "headers without end": (b"GET /echo HTTP/1.1\r\nX: " + b"a" * 64 * 1024, [431]),
    "many headers": (line(b"GET /echo HTTP/1.1", *[b"X: y"] * 99), [200]),
    "too many headers": (line(b"GET /echo HTTP/1.1", *[b"X: y"] * 100) + INNER, [431]),
    "target just short enough": (line(b"GET /things/" + b"a" * 8184 + b" HTTP/1.1"), [200]),
    "target too long": (line(b"GET /things/" + b"a" * 8185 + b" HTTP/1.1") + INNER, [414]),
    "target without end": (b"GET /" + b"a" * 64 * 1024, [414]),
    "query just short enough": (line(b"GET /echo?" + b"&".join([b"a=b"] * 256) + b" HTTP/1.1"), [200]),
    "too many parameters": (line(b"GET /echo?" + b"&".join([b"a=b"] * 257) + b" HTTP/1.1") + INNER, [400]),
    "body just small enough": (post(b"Content-Length: 1048576", body=b"a" * 1048576), [200]),
    "body too large": (post(b"Content-Length: 1048577", body=b"a" * 1048577), [413]),
    "chunks just small enough": (
        post(b"Transfer-Encoding: chunked", body=b"80000\r\n" + b"a" * 0x80000 + b"\r\n80000\r\n" + b"a" * 0x80000
             + b"\r\n0\r\n\r\n"), [200]),
    "chunks too large": (
        post(b"Transfer-Encoding: chunked", body=b"80000\r\n" + b"a" * 0x80000 + b"\r\n80001\r\n" + b"a" * 0x80001
             + b"\r\n0\r\n\r\n" + INNER), [413]),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limit(shared, name):
    sent, expected = LIMITS[name]
    assert statuses(shared.talk(sent)) == expected
    assert statuses(shared.talk(GET)) == [200]


def test_too_large_is_said_before_the_body_is_there(shared):
    with shared.connect() as client:
        client.sendall(post(b"Content-Length: 100000000000"))
        assert get(client)[0].startswith(b"HTTP/1.1 413 ")


def test_slow_headers(serve):
    probe = serve("head_timeout_us=1000000")
    began = time.monotonic()
    with probe.connect() as client:
        client.sendall(b"GET /echo HTTP/1.1\r\n")
        answer = probe.drip(client, b"X-Slow: ", 0.1)
        assert statuses(answer) == [408] and 0.8 < time.monotonic() - began < 30


def test_slow_body(serve):
    probe = serve("body_timeout_us=1000000")
    with probe.connect() as client:
        began = time.monotonic()
        client.sendall(post(b"Content-Length: 1000"))
        assert statuses(probe.drip(client, b"a", 0.1)) == [408] and 0.8 < time.monotonic() - began < 30


def test_nothing_said(serve):
    probe = serve("head_timeout_us=500000")
    with probe.connect() as client:
        assert client.recv(1) == b""
    assert probe.counters()["timeouts"] == 1


def test_idle(serve):
    probe = serve("idle_timeout_us=1000000", "head_timeout_us=400000")
    with probe.connect() as client:
        began = time.monotonic()
        client.sendall(GET)
        get(client)
        assert client.recv(1) == b"" and 0.7 < time.monotonic() - began < 30


def test_reader_that_never_reads(serve):
    probe = serve("write_timeout_us=1000000")
    with probe.connect(receive_buffer=4096) as client:
        client.sendall(line(b"GET /big?bytes=20000000 HTTP/1.1"))
        wait_until(lambda: probe.said("access"), 10)
        assert probe.said("access")[0]["complete"] is False
    assert probe.counters()["timeouts"] == 1


def test_slow_reader_gets_everything(serve):
    probe = serve("write_timeout_us=3000000")
    with probe.connect(receive_buffer=65536) as client:
        client.sendall(line(b"GET /big?bytes=3000000 HTTP/1.1", b"Connection: close"))
        got = b""
        for _ in range(12):  # for longer than the time-out, but never standing still
            got += client.recv(100000)
            time.sleep(0.3)
        got += probe.read_all(client)
        assert len(got.partition(b"\r\n\r\n")[2]) == 3000000


def test_connections_in_all(serve):
    probe = serve("connections=3", "connections_per_address=0")
    clients = [probe.connect() for _ in range(3)]
    for client in clients:
        client.sendall(GET)
        get(client)
    assert statuses(probe.talk(b"")) == [503]
    clients.pop().close()
    wait_until(lambda: statuses(probe.talk(GET)) == [200], 10)
    assert probe.counters()["connections_refused"] >= 1
    for client in clients:
        client.close()


def test_connections_of_an_address(serve):
    probe = serve("connections_per_address=2")
    clients = [probe.connect(), probe.connect()]
    for client in clients:
        client.sendall(GET)
        get(client)
    assert statuses(probe.talk(b"")) == [503]
    other = probe.connect(source="127.0.0.2")
    other.sendall(GET)
    assert b"200 OK" in get(other)[0]
    for client in [*clients, other]:
        client.close()
    wait_until(lambda: statuses(probe.talk(GET)) == [200], 10)


def test_requests_of_a_connection(serve):
    probe = serve("requests_per_connection=3")
    answer = probe.talk(GET * 5)
    assert statuses(answer) == [200, 200, 200] and answer.count(b"Connection: close") == 1


def test_full_queue(serve):
    probe = serve("threads=1", "queue=2")
    clients = [probe.connect() for _ in range(6)]
    for client in clients:
        client.sendall(line(b"GET /slow?ms=2500 HTTP/1.1"))
        time.sleep(0.05)
    heads = [get(client)[0] for client in clients]
    refused = [h for h in heads if h.startswith(b"HTTP/1.1 503 ")]
    assert len(refused) == 3 and all(b"\r\nRetry-After: 1" in h for h in refused)
    # refused for now, not closed
    clients[-1].sendall(GET)
    assert b"200 OK" in get(clients[-1])[0]
    for client in clients:
        client.close()


def test_loop_does_not_wait_for_handlers(serve):
    probe = serve("threads=1")
    with probe.connect() as slow:
        slow.sendall(line(b"GET /slow?ms=5000 HTTP/1.1"))
        time.sleep(0.2)
        assert statuses(probe.talk(b"GET /x HTTP/1.1\r\n\r\n")) == [400]  # answered by the loop alone
        assert select.select([slow], [], [], 0)[0] == []
        assert b"200 OK" in get(slow)[0]


def test_counters(serve):
    probe = serve()
    probe.talk(GET + line(b"GET /nowhere HTTP/1.1") + line(b"GET /status?code=503 HTTP/1.1"))
    counters = probe.counters()
    assert (counters["requests_2xx"], counters["requests_4xx"], counters["requests_5xx"]) == (1, 1, 1)
    assert counters["connections"] == 1 and counters["connections_open"] == 0 and counters["requests_open"] == 0
    assert counters["bytes_in"] > 100 and counters["bytes_out"] > 200
    access = probe.said("access")[1]
    assert (access["method"], access["target"], access["status"], access["complete"]) == ("GET", "/nowhere", 404, True)
