"""The HTTP server beside its framing: streams of events, TLS, addresses, the stop, and what connections cost."""
import os
import re
import ssl
import subprocess
import threading
import time

import pytest

from support.cluster import wait_until
from support.http import Probe, builds, get, statuses

pytestmark = pytest.mark.turns(2)

HOST = b"Host: probe\r\n"
GET = b"GET /echo HTTP/1.1\r\n" + HOST + b"\r\n"


def line(request_line, *headers):
    return b"\r\n".join([request_line, b"Host: probe", *headers]) + b"\r\n\r\n"


@pytest.fixture(scope="module", params=builds())
def build(request):
    return request.param


@pytest.fixture
def serve(build):
    started = []

    def start(*options, **more):
        started.append(Probe(build, *options, **more).start())
        return started[-1]

    yield start
    for probe in started:
        probe.end()


def read_until(client, wanted, limit=10_000_000):
    data = b""
    while wanted not in data:
        more = client.recv(65536)
        assert more and len(data) < limit, f"no {wanted!r} in {data[-300:]!r}"
        data += more
    return data


# --- streams of events ---


def test_stream(serve):
    probe = serve()
    answer = probe.talk_open(line(b"GET /events?events=3&bytes=2 HTTP/1.1"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: text/event-stream" in head and b"Cache-Control: no-store" in head
    assert b"Content-Length" not in head and b"Connection: close" in head
    assert body == b"data: two\ndata: lines\n\n" + b"".join(
        b"id: %d\nevent: tick\ndata: xx\n\n" % i for i in (1, 2, 3))
    wait_until(lambda: probe.said("stream_closed") == ["ended"], 10)


def test_stream_resumes_behind_the_last_event(serve):
    answer = serve().talk_open(line(b"GET /events?events=5 HTTP/1.1", b"Last-Event-ID: 3"))
    assert re.findall(rb"id: (\d+)", answer) == [b"4", b"5"]


def test_heartbeats(serve):
    probe = serve("heartbeat_us=300000")
    with probe.connect() as client:
        client.sendall(line(b"GET /events?events=1000000000 HTTP/1.1", b"Last-Event-ID: 999999999"))
        data = read_until(client, b"id: 1000000000\n")
        assert b"\n:\n\n" not in data
    with probe.connect() as client:
        client.sendall(line(b"GET /quiet HTTP/1.1"))
        assert read_until(client, b":\n\n:\n\n").endswith(b":\n\n:\n\n")


def test_client_of_a_stream_goes_away(serve):
    probe = serve()
    with probe.connect() as client:
        client.sendall(line(b"GET /events?events=100000000 HTTP/1.1"))
        read_until(client, b"id: 5\n")
        assert probe.counters()["streams_open"] == 1
    wait_until(lambda: probe.said("stream_closed") == ["gone"], 10)
    assert probe.counters()["streams_open"] == 0


def test_what_is_sent_to_a_stream_is_dropped(serve):
    probe = serve()
    with probe.connect() as client:
        client.sendall(line(b"GET /events?events=100000000 HTTP/1.1") + GET * 1000)
        data = read_until(client, b"id: 50\n")
        assert data.count(b"HTTP/1.1 ") == 1


def test_slow_reader_is_dropped_and_resumes(serve):
    probe = serve("stream_bytes=100000")
    with probe.connect(receive_buffer=65536) as client:
        client.sendall(line(b"GET /events?events=100000000&bytes=20000 HTTP/1.1"))
        wait_until(lambda: probe.said("stream_closed") == ["slow"], 30)
        ids = [int(i) for i in re.findall(rb"id: (\d+)\nevent: tick\ndata: x+\n\n", probe.read_all(client))]
    assert ids == list(range(1, len(ids) + 1))  # whole events, in order, none left out
    assert probe.counters()["streams_slow"] == 1
    with probe.connect() as client:
        client.sendall(line(b"GET /events?events=100000000 HTTP/1.1", b"Last-Event-ID: %d" % ids[-1]))
        read_until(client, b"id: %d\n" % (ids[-1] + 1))


def test_streams_in_all(serve):
    probe = serve("streams=2")
    clients = []
    heads = []
    for _ in range(3):
        clients.append(probe.connect())
        clients[-1].sendall(line(b"GET /events?events=100000000 HTTP/1.1"))
        heads.append(read_until(clients[-1], b"\r\n\r\n"))
    assert [h[:12] for h in heads] == [b"HTTP/1.1 200"] * 2 + [b"HTTP/1.1 503"]
    assert b"Retry-After" in heads[2]
    wait_until(lambda: probe.said("stream_closed") == ["stopped"], 10)
    for client in clients:
        client.close()


def test_head_of_a_stream(serve):
    probe = serve()
    answer = probe.talk(line(b"HEAD /events HTTP/1.1"))
    assert b"text/event-stream" in answer and answer.endswith(b"\r\n\r\n")
    wait_until(lambda: probe.said("stream_closed") == ["ended"], 10)


def test_many_streams_and_their_ends(serve):
    """Streams that end, are left and overrun, at the same time: for the sanitizers."""
    probe = serve("stream_bytes=20000")

    def one(number):
        for turn in range(10):
            with probe.connect(receive_buffer=4096) as client:
                client.sendall(line(b"GET /events?events=%d&bytes=%d HTTP/1.1" % (number * turn + 1, 500 * number)))
                for _ in range(turn):
                    client.recv(1000)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(probe.said("stream_closed")) == 80, 30)
    assert probe.counters()["streams_open"] == 0


# --- the stop ---


def test_stop_with_nothing_to_do(serve):
    probe = serve()
    idle = probe.connect()
    idle.sendall(GET)
    get(idle)
    fresh = probe.connect()
    fresh.sendall(b"")
    time.sleep(0.3)
    began = time.monotonic()
    assert probe.stop() == 0 and time.monotonic() - began < 4.5
    assert idle.recv(1) == b"" and fresh.recv(1) == b""


def test_stop_under_load(serve):
    """What was begun is answered, streams end in order, and nothing new is taken."""
    probe = serve("threads=5")
    slow = [probe.connect() for _ in range(4)]
    for client in slow:
        client.sendall(line(b"GET /slow?ms=4000 HTTP/1.1"))
    half = probe.connect()
    half.sendall(b"GET /echo HTTP/1.1\r\n")
    stream = probe.connect()
    stream.sendall(line(b"GET /events?events=100000000 HTTP/1.1"))
    read_until(stream, b"id: 1\n")
    big = probe.connect(receive_buffer=65536)
    big.sendall(line(b"GET /big?bytes=3000000 HTTP/1.1"))
    wait_until(lambda: probe.counters()["requests_open"] == 4, 10)
    probe.process.terminate()
    assert probe.read_all(stream).endswith(b"\n\n")
    wait_until(lambda: probe.said("stream_closed") == ["stopped"], 10)
    with pytest.raises(ConnectionRefusedError):
        probe.connect()
    half.sendall(HOST + b"\r\n")
    for client in [*slow, half]:
        answer = probe.read_all(client)
        assert statuses(answer) == [200] and b"Connection: close" in answer
    assert len(probe.read_all(big).partition(b"\r\n\r\n")[2]) == 3000000
    assert probe.process.wait(10) == 0


def test_stop_does_not_wait_for_ever(serve):
    probe = serve("stop_timeout_us=1000000", "threads=1")
    slow, queued = probe.connect(), probe.connect()
    for client in (slow, queued):
        client.sendall(line(b"GET /slow?ms=60000 HTTP/1.1"))
    half = probe.connect()
    half.sendall(b"GET /echo HTTP/1.1\r\n")
    wait_until(lambda: probe.counters()["requests_open"] == 2, 10)
    began = time.monotonic()
    assert probe.stop() == 0
    assert 0.7 < time.monotonic() - began < 30
    assert "before their requests were answered" in probe.errors()
    for client in (slow, queued, half):
        client.close()


def test_handlers_may_say_much_while_it_stops(serve):
    """Requests come and go on many connections until the port closes."""
    probe = serve()
    wrong = []

    def ask():
        while True:
            try:
                answer = probe.talk(GET)
            except (ConnectionRefusedError, ConnectionResetError):
                return
            if answer and statuses(answer) != [200]:
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(probe.said("access")) > 50, 20)
    assert probe.stop() == 0
    for thread in threads:
        thread.join()
    assert not wrong


# --- addresses ---


def test_addresses(serve, tmp_path):
    path = str(tmp_path / "sock")
    probe = serve(listen=("127.0.0.1:0", "[::1]:0", path))
    assert re.fullmatch(r"127\.0\.0\.1:\d+", probe.addresses[0]) and re.fullmatch(r"\[::1\]:\d+", probe.addresses[1])
    assert [statuses(probe.talk(GET, i)) for i in range(3)] == [[200]] * 3
    peers = [a["peer"] for a in probe.said("access")]
    assert peers[0].startswith("127.0.0.1:") and peers[1].startswith("[::1]:") and peers[2] == "unix"
    assert os.stat(path).st_mode & 0o777 == 0o660
    assert probe.stop() == 0 and not os.path.exists(path)


def test_socket_of_a_server_that_died(serve, tmp_path):
    path = str(tmp_path / "sock")
    first = serve(listen=(path,))
    first.process.kill()
    first.process.wait()
    assert os.path.exists(path)
    second = serve(listen=(path,))
    assert statuses(second.talk(GET)) == [200]
    first.forget()


@pytest.mark.parametrize("address, message", [
    ("nonsense", "is no address"), ("127.0.0.1:", "is no address"), ("127.0.0.1:70000", "is no address"),
    ("::1:80", "is no address"), ("192.0.2.1:0", "cannot listen on"), ("/nowhere/sock", "cannot listen on"),
    ("/" + "x" * 200, "too long"), ("no.such.host.invalid:0", "cannot listen on")])
def test_address_that_cannot_be(build, address, message):
    run = subprocess.run([Probe(build).command[0], f"listen={address}"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and message in run.stderr and "Sanitizer" not in run.stderr


def test_address_in_use(serve, build, tmp_path):
    path = str(tmp_path / "sock")
    probe = serve(listen=("127.0.0.1:0", path))
    for address in probe.addresses:
        run = subprocess.run([probe.command[0], f"listen={address}"], capture_output=True, text=True, timeout=60)
        assert run.returncode == 1 and "Address already in use" in run.stderr
    assert statuses(probe.talk(GET, 1)) == [200]


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def serve_tls(serve, certificate):
    def start(*options, **more):
        context = ssl.create_default_context(cafile=certificate[0])
        return serve(f"cert={certificate[0]}", f"key={certificate[1]}", *options, context=context, **more)

    return start


def test_tls(serve_tls):
    probe = serve_tls()
    with probe.connect() as client:
        for _ in range(3):
            client.sendall(GET)
            _, body = get(client)
            assert b'"tls":true' in body
        client.sendall(line(b"GET /big?bytes=3000000 HTTP/1.1", b"Connection: close"))
        assert len(probe.read_all(client).partition(b"\r\n\r\n")[2]) == 3000000


def test_tls_ends_with_a_goodbye(serve_tls):
    probe = serve_tls()
    probe.context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    with probe.connect() as client:
        client.sendall(line(b"GET /echo HTTP/1.1", b"Connection: close"))
        assert statuses(probe.read_all(client)) == [200]  # an end without goodbye would be an error here


def test_tls_body_and_pipeline(serve_tls):
    probe = serve_tls()
    with probe.connect() as client:
        body = b"x" * 300000
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body + GET * 5
                       + line(b"GET /echo HTTP/1.1", b"Connection: close"))
        assert statuses(probe.read_all(client)) == [200] * 7


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_tls_versions(serve_tls, version):
    probe = serve_tls()
    probe.context.minimum_version = probe.context.maximum_version = getattr(ssl.TLSVersion, version)
    with probe.connect() as client:
        client.sendall(GET)
        assert b"200 OK" in get(client)[0]


def test_tls_too_old(serve_tls):
    probe = serve_tls()
    with pytest.warns(DeprecationWarning):
        probe.context.minimum_version = ssl.TLSVersion.TLSv1
        probe.context.maximum_version = ssl.TLSVersion.TLSv1_1
    probe.context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        probe.connect()


def test_tls_handshake_that_does_not_come(serve_tls):
    probe = serve_tls("head_timeout_us=700000")
    context, probe.context = probe.context, None
    with probe.connect() as silent, probe.connect() as plain:
        plain.sendall(GET)
        assert b"HTTP/1.1 200" not in probe.read_all(plain)
        assert silent.recv(1) == b""
    probe.context = context
    with probe.connect() as client:
        client.sendall(GET)
        assert b"200 OK" in get(client)[0]


def test_tls_stream(serve_tls):
    answer = b""
    probe = serve_tls()
    with probe.connect() as client:
        client.sendall(line(b"GET /events?events=50&bytes=5000 HTTP/1.1"))
        answer = probe.read_all(client)
    assert [int(i) for i in re.findall(rb"id: (\d+)", answer)] == list(range(1, 51))


def test_tls_stream_with_a_slow_reader(serve_tls):
    probe = serve_tls("stream_bytes=100000")
    with probe.connect(receive_buffer=4096) as client:
        client.sendall(line(b"GET /events?events=100000000&bytes=20000 HTTP/1.1"))
        wait_until(lambda: probe.said("stream_closed") == ["slow"], 30)


def test_tls_not_on_unix_sockets(serve, certificate, tmp_path):
    probe = serve(f"cert={certificate[0]}", f"key={certificate[1]}", listen=(str(tmp_path / "sock"),))
    assert statuses(probe.talk(GET)) == [200]


def test_tls_files_that_do_not_fit(build, certificate, tmp_path):
    (tmp_path / "junk").write_text("junk")
    program = Probe(build).command[0]
    for cert, key, message in [(certificate[0], str(tmp_path / "junk"), "private key"), ("/nowhere", certificate[1], "certificate"),
                               (certificate[1], certificate[1], "certificate")]:
        run = subprocess.run([program, "listen=127.0.0.1:0", f"cert={cert}", f"key={key}"], capture_output=True, text=True)
        assert run.returncode == 1 and f"cannot use the {message}" in run.stderr and "Sanitizer" not in run.stderr
    run = subprocess.run([program, "listen=127.0.0.1:0", f"cert={certificate[0]}"], capture_output=True, text=True)
    assert run.returncode == 1 and "both a certificate and a private key" in run.stderr


# --- what connections cost ---


def idle_memory(probe, count):
    """Bytes of the process for each connection that waits after one request."""
    warm = [probe.connect() for _ in range(50)]
    for client in warm:
        client.sendall(GET)
        get(client)
    before = probe.memory()
    clients = []
    for _ in range(count):
        clients.append(probe.connect())
        clients[-1].sendall(GET)
        get(clients[-1])
    each = (probe.memory() - before) / count
    assert probe.counters()["connections_open"] == count + len(warm)
    for client in [*warm, *clients]:
        client.close()
    return each


def plain_build(probe):
    return "asan" not in probe.command[0]


def test_memory_of_idle_connections(serve):
    probe = serve("connections_per_address=0", "idle_timeout_us=600000000")
    each = idle_memory(probe, 2000 if plain_build(probe) else 200)
    print(f"{each:.0f} bytes for an idle connection")
    if plain_build(probe):
        assert each <= 2048


def test_memory_of_idle_tls_connections(serve_tls):
    probe = serve_tls("connections_per_address=0", "idle_timeout_us=600000000")
    each = idle_memory(probe, 500 if plain_build(probe) else 100)
    print(f"{each:.0f} bytes for an idle TLS connection")
    if plain_build(probe):
        assert each <= 20 * 1024


def test_memory_comes_back(serve):
    """Many large requests in turn cost no more than a few."""
    probe = serve()
    ask = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500000
    for _ in range(5):
        assert statuses(probe.talk(ask)) == [200]
    before = probe.memory()
    for _ in range(40 if plain_build(probe) else 5):
        assert statuses(probe.talk(ask)) == [200]
    if plain_build(probe):
        assert probe.memory() - before < 8 * 1024 * 1024
