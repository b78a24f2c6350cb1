"""An HTTP proxy before a server that delays, fails and cuts requests, and can be switched off.

It runs as a process of its own, so that it can stand on any node (`Proxy.started`); the test gives
it orders through a pipe, and it ends with the pipe. What happens to a request depends on the seed,
the method, the path and how often that method and path came before, never on the time: a search
that asks the same again meets the same faults, whatever runs side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__)
END_S = 20.0
HEAD_BYTES = 1 << 20
# Where a request is cut: unseen by the server, half sent to it, done but half answered.
CUTS = ("before", "request", "answer")
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What the proxy does to requests."""

    delay_s: float = 0.0  # before each request is passed on
    fail: float = 0.0  # share of the requests that are answered 503 and not passed on
    cut: float = 0.0  # share of the requests whose connection is cut
    refused: tuple[str, ...] = ()  # methods that are answered 403 and not passed on
    seed: int = 0

    def fate(self, method: str, path: str, times: int) -> str:
        """Return `pass`, `fail`, `refuse` or one of CUTS for a request after `times` like it."""
        if method in self.refused:
            return "refuse"
        text = f"{self.seed}\n{method}\n{path}\n{times}"
        digest = hashlib.sha256(text.encode()).digest()
        share = int.from_bytes(digest[:8]) / 2**64
        if share < self.fail:
            return "fail"
        return CUTS[digest[8] % len(CUTS)] if share < self.fail + self.cut else "pass"


class Proxy:
    """The test's hold on a proxy that runs in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._answer()["port"])

    @classmethod
    def started(
        cls,
        upstream: str,
        *,
        listen: str = "127.0.0.1:0",
        words: Sequence[str] = (sys.executable, str(FILE)),
        env: Mapping[str, str] | None = None,
    ) -> Proxy:
        """Start a proxy before the server `upstream`, HOST:PORT.

        Args:
            upstream: where requests go.
            listen: where it listens; port 0 takes a free one.
            words: the command that runs this file, on whatever node.
            env: the command's environment; None inherits it.
        """
        command = [*words, "--listen", listen, "--upstream", upstream]
        pipe = subprocess.PIPE
        return cls(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env))

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=END_S)

    def set(self, faults: Faults) -> None:
        """Treat requests so from now on, as if none had come before."""
        self._order(faults=dataclasses.asdict(faults))

    def off(self) -> None:
        """Refuse connections, and cut those that there are."""
        self._order(on=False)

    def on(self) -> None:
        """Accept connections again."""
        self._order(on=True)

    def drop(self) -> None:
        """Cut all connections that there are."""
        self._order(drop=True)

    def counts(self) -> Counter[str]:
        """Return the number of requests so far by method or LIST, and of faults by fate."""
        return Counter(self._order()["counts"])

    def _order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the proxy has ended with exit code {self._process.wait(END_S)}"
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request or an answer, read whole."""

    first: bytes  # the first line
    headers: tuple[tuple[bytes, bytes], ...]  # names in lower case
    body: bytes

    def get(self, name: bytes) -> bytes:
        """Return the value of a header; empty if there is none."""
        return next((value for key, value in self.headers if key == name), b"")

    def raw(self, **changed: bytes) -> bytes:
        """Return its bytes, the body's length stated; `changed` replaces headers."""
        new = {name.replace("_", "-").encode(): value for name, value in changed.items()}
        dropped = {*new, b"transfer-encoding", b"expect", b"connection"}
        kept = [(name, value) for name, value in self.headers if name not in dropped]
        lines = [self.first, *(b"%s: %s" % pair for pair in [*kept, *new.items()])]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


class _Server:
    """The proxy itself, in its own process."""

    def __init__(self, listen: str, upstream: str) -> None:
        self.host, port = _host_port(listen)
        self.port, self.upstream = port, _host_port(upstream)
        self.faults, self.counts = Faults(), Counter[str]()
        self.times: Counter[tuple[str, str]] = Counter()
        self.open: set[asyncio.StreamWriter] = set()
        self.listening: asyncio.Server | None = None

    async def run(self) -> None:
        """Serve and follow orders until the pipe closes."""
        await self.switch(True)
        print(json.dumps({"port": self.port}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            if "faults" in order:
                self.faults = Faults(**order["faults"])
                self.times.clear()
            if "on" in order:
                await self.switch(order["on"])
            if "drop" in order:
                self.drop()
            print(json.dumps({"counts": self.counts}), flush=True)
        await self.switch(False)
        while self.open:  # each connection notices that it was cut
            await asyncio.sleep(0.01)

    async def switch(self, on: bool) -> None:
        if on and self.listening is None:
            self.listening = await asyncio.start_server(
                self.serve, self.host, self.port, limit=HEAD_BYTES
            )
            self.port = self.listening.sockets[0].getsockname()[1]
        elif not on and self.listening is not None:
            self.listening.close()
            self.listening = None
            self.drop()

    def drop(self) -> None:
        for writer in self.open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client, request by request."""
        self.open.add(writer)
        try:
            while await self.pass_on(reader, writer):
                pass
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass  # one side has gone: so does the other
        finally:
            self.open.discard(writer)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Treat one request; False ends the connection."""
        request = await _read(reader, asking=writer)
        method, target, _ = request.first.decode("latin-1").split(" ", 2)
        path, _, query = target.partition("?")
        self.counts["LIST" if "list-type=2" in query else method] += 1
        fate = self.faults.fate(method, path, self.times[method, path])
        self.times[method, path] += 1
        await asyncio.sleep(self.faults.delay_s)
        if fate != "pass":
            self.counts[fate] += 1
        if fate == "before":
            writer.transport.abort()
            return False
        if fate in ("fail", "refuse"):
            busy = fate == "fail"
            first = b"HTTP/1.1 503 Slow Down" if busy else b"HTTP/1.1 403 Forbidden"
            error = Message(first=first, headers=(), body=_BUSY if busy else _DENIED)
            size = len(error.body)
            answer = error.raw(content_length=b"%d" % size, content_type=b"application/xml")
            writer.write(answer[: len(answer) - size] if method == "HEAD" else answer)
            await writer.drain()
            return True
        answer = await self.asked(request, method, half=fate == "request")
        bare = method == "HEAD" or answer.first.split()[1] in (b"204", b"304")
        raw = answer.raw(**({} if bare else {"content_length": b"%d" % len(answer.body)}))
        if fate == "answer":  # half of its body; nothing of an empty one, as half a head may do
            raw = raw[: len(raw) - len(answer.body) // 2] if len(answer.body) > 1 else b""
        writer.write(raw)
        await writer.drain()
        return fate == "pass"

    async def asked(self, request: Message, method: str, *, half: bool) -> Message:
        """Return the server's answer; EOFError if only half of the request was sent."""
        reader, writer = await asyncio.open_connection(*self.upstream, limit=HEAD_BYTES)
        self.open.add(writer)
        try:
            length = b"%d" % len(request.body)
            sized = {"content_length": length} if request.body or request.get(b"expect") else {}
            raw = request.raw(connection=b"close", **sized)
            writer.write(raw[: len(raw) // 2] if half else raw)
            await writer.drain()
            if half:
                raise EOFError
            return await _read(reader, to=method)
        finally:
            self.open.discard(writer)
            writer.close()


async def _read(
    reader: asyncio.StreamReader, *, asking: asyncio.StreamWriter | None = None, to: str = ""
) -> Message:
    """Return one request of the client `asking`, or one answer to a request with method `to`."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    pairs = [line.partition(b":") for line in lines]
    message = Message(
        first=first,
        headers=tuple((name.strip().lower(), value.strip()) for name, _, value in pairs),
        body=b"",
    )
    if asking is not None and message.get(b"expect").lower() == b"100-continue":
        asking.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = message.get(b"content-length")
    if to == "HEAD" or (to and first.split()[1] in (b"204", b"304")):
        body = b""
    elif message.get(b"transfer-encoding").lower() == b"chunked":
        body = await _chunks(reader)
    elif length:
        body = await reader.readexactly(int(length))
    else:
        body = await reader.read() if to else b""  # an answer without a length ends with the line
    return dataclasses.replace(message, body=body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """Return a body that comes in chunks; what may follow the last one is dropped."""
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return body


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--upstream", required=True)
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Server(given.listen, given.upstream).run())
