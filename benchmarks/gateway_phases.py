"""What is measured of one gateway; each phase is a function of its own that gives figures by name.

Names end in their unit. Processor time is the gateway's own, so that it holds on a busy machine too.
"""

import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway_targets import Target
from process_usage import memory_mib, processor_s
from wire_tools import Load, Upstream, load, question

CONNECTIONS = (1, 16, 64, 256)
STREAMS = 200
Figures = dict[str, float]


def requests(target: Target, upstream: Upstream, quick: bool) -> Figures:
    """As many as possible at a time."""
    figures: Figures = {}
    for connections in CONNECTIONS:
        ask(target, connections, 0.3)
        before = processor_s(target.pid)
        seen = ask(target, connections, 0.5 if quick else 3)
        used_s = processor_s(target.pid) - before
        figures |= {
            f"c={connections}, requests/s": seen.per_s,
            f"c={connections}, processor us per request": used_s * 1e6 / max(1, seen.done),
            f"c={connections}, errors": seen.errors,
        }
    figures["requests/s, c=256 / c=16"] = figures["c=256, requests/s"] / figures["c=16, requests/s"]
    return figures


def added_time(target: Target, upstream: Upstream, quick: bool) -> Figures:
    """At 300 requests/s (or a third of what it can do), beside the upstream asked directly, in turns."""
    rate = min(300.0, ask(target, 16, 0.3).per_s / 3)
    through: list[Load] = []
    direct: list[Load] = []
    for _ in range(1 if quick else 3):
        direct.append(load(upstream.port, question(), connections=32, seconds=1, rate=rate))
        through.append(ask(target, 32, 1, rate))
    added = {
        name: statistics.median(getattr(x, name) for x in through)
        - statistics.median(getattr(x, name) for x in direct)
        for name in ("p50_us", "p99_us")
    }
    return {"added p50 ms": added["p50_us"] / 1000, "added p99 ms": added["p99_us"] / 1000}


def streams(target: Target, upstream: Upstream, quick: bool) -> Figures:
    """200 streams with an event every 20 ms each: what an event costs and how late it comes."""
    slow = ask(target, 16, 0.3).per_s < 1000
    pause_ms, events = (400, 10) if slow else (20, 50 if quick else 200)
    body = question(stream=True, events=events, pause_ms=pause_ms)
    before = processor_s(target.pid)
    seen = load(target.port, body, connections=STREAMS, seconds=25, rate=-1, key=target.key)
    used_s = processor_s(target.pid) - before
    direct = load(upstream.port, body, connections=STREAMS, seconds=25, rate=-1)
    return {
        "processor us per event": used_s * 1e6 / max(1, seen.events),
        "event delay p50 ms": seen.event_p50_us / 1000,
        "event delay p50 ms, direct": direct.event_p50_us / 1000,
        "lost events": STREAMS * events - seen.events,
    }


def memory(target: Target, upstream: Upstream, quick: bool) -> Figures:
    """Streams that are open and say little."""
    wanted = 200 if quick else 1000
    before = memory_mib(target.pid)
    with sending(target, [question(stream=True, events=10_000, pause_ms=1000)] * wanted):
        open_ = upstream.wait_for(wanted)
        time.sleep(1.5)
        grown = memory_mib(target.pid) - before
    return {
        "memory idle MiB": before,
        "KiB per open stream": grown * 1024 / max(1, open_),
        "streams left open": upstream.wait_for(0),
    }


def cancel(target: Target, upstream: Upstream, quick: bool) -> Figures:
    """How soon the upstream sees that the client left."""
    figures: Figures = {}
    for name, stream in (("stream", True), ("whole answer", False)):
        took_ms = []
        tries = 3 if quick else 10
        for _ in range(tries):
            aborts = upstream.stats()["aborts"]
            with sending(target, [question(stream=stream, events=100_000, pause_ms=20 if stream else 8000)]):
                upstream.wait_for(1, 3)
                time.sleep(0.05)
                left = time.monotonic_ns()
            deadline = time.monotonic() + 2.5
            while (seen := upstream.stats())["aborts"] == aborts and time.monotonic() < deadline:
                time.sleep(0.005)
            if seen["aborts"] > aborts:
                took_ms.append((seen["last_abort_ns"] - left) / 1e6)
            else:
                upstream.wait_for(0, 9)
        figures[f"cancel, {name}, seen of all"] = len(took_ms) / tries
        figures[f"cancel, {name}, longest ms"] = max(took_ms, default=float("inf"))
    return figures


def never_reading(target: Target, upstream: Upstream, quick: bool) -> Figures:
    """Ten clients that ask for endless streams and never read."""
    readers = 10
    before, sent = memory_mib(target.pid), upstream.stats()["bytes_out"]
    most = before
    with sending(target, [question(stream=True, events=400_000)] * readers, receive_buffer=8192):
        for _ in range(4 if quick else 6):
            time.sleep(0.5)
            most = max(most, memory_mib(target.pid))
        pulled = upstream.stats()["bytes_out"] - sent
    return {
        "10 clients that never read, growth MiB": most - before,
        "10 clients that never read, pulled MiB each": pulled / readers / 2**20,
        "10 clients that never read, left open": upstream.wait_for(0, 5),
    }


def large_bodies(target: Target, upstream: Upstream, quick: bool) -> Figures:
    """Requests of 1 MiB."""
    body = question(padding=1 << 20)
    load(target.port, body, connections=4, seconds=0.3, key=target.key)
    before = processor_s(target.pid)
    seen = load(target.port, body, connections=4, seconds=0.5 if quick else 2, key=target.key)
    used_s = processor_s(target.pid) - before
    return {
        "1 MiB body, processor ms per request": used_s * 1000 / max(1, seen.done),
        "1 MiB body, errors": seen.errors,
    }


PHASES = {
    phase.__name__: phase
    for phase in (memory, requests, added_time, streams, cancel, never_reading, large_bodies)
}
ONCE = frozenset({"memory", "cancel", "never_reading"})
"""Of a gateway that has just begun, or the same however often it is measured."""


def ask(target: Target, connections: int, seconds: float, rate: float = 0) -> Load:
    return load(target.port, question(), connections=connections, seconds=seconds, rate=rate, key=target.key)


@contextmanager
def sending(target: Target, bodies: list[bytes], receive_buffer: int | None = None) -> Iterator[None]:
    """Connections on which these were sent and of which nothing is read; closed at the end."""
    socks = []
    try:
        for number, body in enumerate(bodies):
            sock = socket.socket()
            socks.append(sock)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.settimeout(10)
            sock.connect(("127.0.0.1", target.port))
            sock.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"authorization: Bearer %s\r\ncontent-length: %d\r\n\r\n%s"
                % (target.key.encode(), len(body), body)
            )
            if number % 50 == 49:
                time.sleep(0.05)
        yield
    finally:
        for sock in socks:
            sock.close()
