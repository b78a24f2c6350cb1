"""The proxy of the store's tests: it does what it is told, and the same again for a seed."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from faulty_proxy import CUTS, Faults, Proxy

LOST = (http.client.HTTPException, ConnectionError)


class _Objects(BaseHTTPRequestHandler):
    """PUT keeps, GET gives, DELETE removes; a body goes back in chunks below `/chunks/`."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]
    wbufsize = -1  # whole answers

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) == length:
            self.kept[self.path] = body
            self.answer(200, b"")

    def do_GET(self) -> None:
        found = self.kept.get(self.path)
        self.answer(404 if found is None else 200, found or b"")

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        self.kept.pop(self.path, None)
        self.answer(204, None)

    def answer(self, code: int, body: bytes | None) -> None:
        self.send_response(code)
        chunked = body is not None and self.path.startswith("/chunks/")
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not None and self.command != "HEAD":
            end = b"\r\n0\r\n\r\n"
            self.wfile.write(b"%x\r\n%s%s" % (len(body), body, end) if chunked else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def kept() -> dict[str, bytes]:
    """What the server behind the proxy keeps, by path."""
    return {}


@pytest.fixture
def proxy(kept: dict[str, bytes]) -> Iterator[Proxy]:
    handler = type("Handler", (_Objects,), {"kept": kept})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        with Proxy.started(f"127.0.0.1:{server.server_port}") as running:
            yield running
        server.shutdown()
        thread.join()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.port, 10)) as one:
        yield one


def ask(
    client: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    client.request(method, path, body)
    answer = client.getresponse()
    return answer.status, answer.read()


def outcome(client: http.client.HTTPConnection, method: str, path: str) -> int:
    """Return the status of a request; 0 if its connection was cut."""
    try:
        return ask(client, method, path, b"x" * 1000 if method == "PUT" else None)[0]
    except LOST:
        client.close()  # its next request connects again
        return 0


def test_without_faults_all_passes(
    proxy: Proxy, client: http.client.HTTPConnection, kept: dict[str, bytes]
) -> None:
    large = bytes(range(256)) * 20_000
    assert ask(client, "PUT", "/b/one?partNumber=1", large) == (200, b"")
    assert kept == {"/b/one?partNumber=1": large}
    assert ask(client, "GET", "/b/one?partNumber=1") == (200, large)
    assert ask(client, "HEAD", "/b/one?partNumber=1") == (200, b"")
    assert ask(client, "PUT", "/chunks/two", b"") == (200, b"")
    assert ask(client, "PUT", "/chunks/two", b"abc" * 99) == (200, b"")
    assert ask(client, "GET", "/chunks/two") == (200, b"abc" * 99)
    assert ask(client, "DELETE", "/chunks/two") == (204, b"")
    assert ask(client, "GET", "/chunks/two") == (404, b"")
    assert ask(client, "GET", "/none?list-type=2") == (404, b"")
    assert proxy.counts() == {"PUT": 3, "GET": 3, "HEAD": 1, "DELETE": 1, "LIST": 1}


def test_a_body_in_chunks_and_one_that_waits_to_be_asked_for(
    client: http.client.HTTPConnection, kept: dict[str, bytes]
) -> None:
    client.request("PUT", "/a", iter([b"one", b"two"]), encode_chunked=True)
    assert client.getresponse().read() == b""
    client.putrequest("PUT", "/b")
    client.putheader("Expect", "100-continue")
    client.putheader("Content-Length", "5")
    client.endheaders()
    assert client.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"three")
    assert client.getresponse().status == 200
    assert kept == {"/a": b"onetwo", "/b": b"three"}


def test_each_request_is_delayed(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    proxy.set(Faults(delay_s=0.1))
    began = time.monotonic()
    for _ in range(3):
        ask(client, "GET", "/a")
    assert 0.3 <= time.monotonic() - began < 3
    proxy.set(Faults())
    began = time.monotonic()
    ask(client, "GET", "/a")
    assert time.monotonic() - began < 0.1


def test_a_share_fails_and_does_not_arrive(
    proxy: Proxy, client: http.client.HTTPConnection, kept: dict[str, bytes]
) -> None:
    proxy.set(Faults(fail=0.2, seed=3))
    codes = {f"/{number}": outcome(client, "PUT", f"/{number}") for number in range(200)}
    failed = [path for path, code in codes.items() if code == 503]
    assert 20 <= len(failed) <= 60
    assert set(codes.values()) == {200, 503}
    assert kept.keys() == codes.keys() - set(failed)
    assert proxy.counts() == {"PUT": 200, "fail": len(failed)}
    assert outcome(client, "HEAD", failed[0]) in (404, 503)


def test_faults_follow_the_seed_and_not_the_order(
    proxy: Proxy, client: http.client.HTTPConnection
) -> None:
    def outcomes(seed: int, numbers: list[int]) -> dict[tuple[int, int], int]:
        proxy.set(Faults(fail=0.3, cut=0.3, seed=seed))
        asked = [(number, time) for time in range(3) for number in numbers]
        return {each: outcome(client, "GET", f"/{each[0]}") for each in asked}

    numbers = list(range(20))
    first = outcomes(1, numbers)
    assert set(first.values()) == {0, 404, 503}
    assert outcomes(1, numbers[::-1]) == first
    assert outcomes(2, numbers) != first


def test_cuts_before_within_and_after(
    proxy: Proxy, client: http.client.HTTPConnection, kept: dict[str, bytes]
) -> None:
    """Of requests that all fail for the client, some were carried out."""
    faults = Faults(cut=1, seed=5)
    proxy.set(faults)
    fates = {f"/{number}": faults.fate("PUT", f"/{number}", 0) for number in range(12)}
    assert set(fates.values()) == set(CUTS)
    for path in fates:
        with pytest.raises(LOST):
            ask(client, "PUT", path, b"x" * 100_000)
        client.close()
    done = {path for path, fate in fates.items() if fate == "answer"}
    assert kept == dict.fromkeys(done, b"x" * 100_000)
    assert sum(proxy.counts()[fate] for fate in CUTS) == 12
    (cut, *_) = (path for path in done if faults.fate("GET", path, 0) == "answer")
    client.request("GET", cut)
    with pytest.raises(http.client.IncompleteRead) as half:
        client.getresponse().read()
    assert len(half.value.partial) == 50_000


def test_switched_off_and_on(
    proxy: Proxy, client: http.client.HTTPConnection, kept: dict[str, bytes]
) -> None:
    kept["/a"] = b"one"
    assert ask(client, "GET", "/a") == (200, b"one")
    proxy.drop()
    with pytest.raises(LOST):
        ask(client, "GET", "/a")
    client.close()
    assert ask(client, "GET", "/a") == (200, b"one")  # it connects again
    proxy.off()
    with pytest.raises(LOST):
        ask(client, "GET", "/a")
    client.close()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            ask(client, "GET", "/a")
        client.close()
    proxy.on()
    assert ask(client, "GET", "/a") == (200, b"one")
    assert proxy.counts()["GET"] == 3


def test_a_server_that_is_away_is_a_cut_connection(client: http.client.HTTPConnection) -> None:
    with Proxy.started("127.0.0.1:1") as proxy:
        client.port = proxy.port
        assert outcome(client, "GET", "/a") == 0
