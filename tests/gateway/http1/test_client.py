"""The gateway's own client against workers of bytes: one exchange, whatever way it goes."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from msp_gateway.http1.connection import BUFFERED_BYTES
from msp_gateway.http1.pool import IDLE_S
from msp_gateway.upstream import UpstreamGarbage, UpstreamRefused, UpstreamReset
from support.http1_talk import ask, http1, post, whole
from support.private_authority import make_authority
from support.raw_worker import Line, answer, answers, raw_worker
from support.servers import free_port

AT_ONCE_S = IDLE_S * 0.6
"""Before a connection would be closed for having waited too long."""

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_the_request_arrives_byte_for_byte() -> None:
    async with raw_worker(answers(answer(b"{}", b"X-Worker: 1"))) as worker, http1() as client:
        response = await client.open(
            post(worker.url, [b'{"a"', b": 1}"], [(b"x-one", b"1"), (b"x-two", b"2")])
        )
        assert (response.status, response.headers[1]) == (200, (b"x-worker", b"1"))
        assert await whole(response) == b"{}"
        response.close()
    host = worker.url.removeprefix("http://").encode()
    assert worker.requests == [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: " + host + b"\r\ncontent-length: 8\r\n"
        b'x-one: 1\r\nx-two: 2\r\n\r\n{"a": 1}'
    ]


async def test_a_body_arrives_piece_by_piece() -> None:
    step = asyncio.Event()

    async def slowly(line: Line) -> None:
        await line.request()
        await line.say(EVENTS + b"2\r\nhe\r\n")
        await step.wait()
        await line.say(b"3\r\nllo\r\n0\r\n\r\n")

    async with raw_worker(slowly) as worker, http1() as client:
        response = await client.open(post(worker.url))
        assert await response.read() == b"he"
        step.set()
        assert [await response.read(), await response.read()] == [b"llo", b""]
        response.close()


async def test_a_body_may_end_with_the_connection() -> None:
    async def closes(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\nhello")

    async with raw_worker(closes) as worker, http1() as client:
        assert await ask(client, worker.url) == (200, b"hello")


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", EVENTS],
)
async def test_an_early_end_is_a_reset_after_what_had_come(said: bytes) -> None:
    async def breaks_off(line: Line) -> None:
        await line.request()
        await line.say(said)

    async with raw_worker(breaks_off) as worker, http1() as client:
        with pytest.raises(UpstreamReset):
            await ask(client, worker.url)
    assert len(worker.requests) == 1


async def test_the_bytes_before_a_break_are_given_first() -> None:
    async def breaks_off(line: Line) -> None:
        await line.request()
        await line.say(EVENTS + b"2\r\nhe\r\nzz")

    async with raw_worker(breaks_off) as worker, http1() as client:
        response = await client.open(post(worker.url))
        await worker.served[0].wait()
        assert await response.read() == b"he"
        with pytest.raises((UpstreamReset, UpstreamGarbage)):
            await response.read()
        response.close()


async def test_what_is_no_http_is_garbage_and_the_connection_ends() -> None:
    async with raw_worker(answers(b"SSH-2.0-OpenSSH\r\n")) as worker, http1() as client:
        with pytest.raises(UpstreamGarbage):
            await ask(client, worker.url)
        await asyncio.wait_for(worker.served[0].wait(), AT_ONCE_S)


async def test_no_connection_is_a_refusal() -> None:
    async with http1() as client:
        for url in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid:80", "ftp://127.0.0.1:1"):
            with pytest.raises(UpstreamRefused):
                await ask(client, url)


async def test_a_connection_that_is_not_accepted_in_time_is_a_refusal() -> None:
    with socket.socket() as listener, ExitStack() as others:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # the queue of a server that never accepts is full then
            waiting = others.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        async with http1(connect_timeout_s=0.05) as client:
            with pytest.raises(UpstreamRefused, match=r"within 0\.05 s"):
                await ask(client, f"http://127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize("said", [b"", EVENTS])
async def test_cancelling_and_closing_end_the_connection_at_once(said: bytes) -> None:
    asked = asyncio.Event()

    async def waits(line: Line) -> None:
        await line.request()
        await line.say(said)
        asked.set()
        await line.left()

    async with raw_worker(waits) as worker, http1() as client:
        if said:
            (await client.open(post(worker.url))).close()
        else:
            asking = asyncio.create_task(client.open(post(worker.url)))
            await asked.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        await asyncio.wait_for(worker.served[0].wait(), AT_ONCE_S)


async def test_a_large_body_goes_out_as_the_worker_takes_it() -> None:
    parts = [bytes([65 + i % 26]) * 100_000 for i in range(300)]
    given = 0

    class Counted:
        size_bytes = 30_000_000

        def chunks(self) -> Iterator[bytes]:
            nonlocal given
            for part in parts:
                given += len(part)
                yield part

    async def waits_then_reads(line: Line) -> None:
        before = 0
        async with asyncio.timeout(10):
            while given == 0 or given != before:  # until no more is taken out of the body
                before = given
                await asyncio.sleep(0.05)
        assert given < 20_000_000
        await line.request()
        await line.say(answer(b"ok"))

    async with raw_worker(waits_then_reads) as worker, http1() as client:
        response = await client.open(post(worker.url, Counted()))
        response.close()
    assert worker.requests[0].endswith(b"\r\n\r\n" + b"".join(parts))


async def test_an_answer_before_the_body_was_sent_stops_the_sending() -> None:
    async def refuses(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.say(answer(b"too large", status=b"413 Content Too Large"))
        await line.left()

    parts = [b"x" * 100_000] * 500
    async with raw_worker(refuses) as worker, http1() as client:
        response = await client.open(post(worker.url, parts))
        assert response.status == 413
        assert await whole(response) == b"too large"
        response.close()
        # The rest of the body was never sent, so the connection is of no further use.
        await asyncio.wait_for(worker.served[0].wait(), AT_ONCE_S)


async def test_an_answer_that_nobody_reads_holds_the_worker_back() -> None:
    sent, blocked = 0, asyncio.Event()

    async def floods(line: Line) -> None:
        nonlocal sent
        await line.request()
        await line.say(EVENTS)
        try:
            while sent < 100_000_000:
                async with asyncio.timeout(0.5):
                    await line.say(b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000))
                sent += 50_000
            await line.say(b"0\r\n\r\n")
        except TimeoutError:
            blocked.set()
            await line.left()

    async with raw_worker(floods) as worker, http1() as client:
        response = await client.open(post(worker.url))
        await asyncio.wait_for(blocked.wait(), 20)
        assert sent < 20_000_000
        first = await response.read()
        assert 0 < len(first) < 2 * BUFFERED_BYTES
        response.close()
        await asyncio.wait_for(worker.served[0].wait(), AT_ONCE_S)


async def test_https_is_verified(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate, authority.key)
    async with raw_worker(answers(answer(b"hello")), tls=context) as worker:
        async with http1(extra_ca_file=authority.ca) as client:
            assert await ask(client, worker.url) == (200, b"hello")
        async with http1() as client:
            with pytest.raises(UpstreamRefused, match="CERTIFICATE_VERIFY_FAILED"):
                await ask(client, worker.url)
        async with http1(extra_ca_file=authority.ca) as client:
            with pytest.raises(UpstreamRefused, match="not valid for"):
                await ask(client, worker.url.replace("127.0.0.1", "localhost"))
    assert len(worker.requests) == 1
