"""Clients that are slow, silent or endless: they are told, and cost no more than they may."""

import asyncio
import json

from support.fake_worker import Exchange, FakeWorker, start_stream
from support.gateway_cluster import serving_gateway, worker
from support.raw_http import wire_to

PATH = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
CHAT = b'{"model": "org/chat"}'


def error_of(said: bytes) -> tuple[int, str]:
    """Status and the error's message of a whole answer."""
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)["error"]["message"]


async def test_a_head_that_does_not_end_is_given_up() -> None:
    with serving_gateway(head_timeout_s=0.2) as gateway:
        async with wire_to(gateway.url) as wire:
            await wire.say(PATH)
            status, message = error_of(await wire.to_end())
    assert (status, "0.2 s" in message) == (408, True)


async def test_a_connection_on_which_nothing_is_asked_is_closed_without_a_word() -> None:
    with serving_gateway(head_timeout_s=0.2) as gateway:
        async with wire_to(gateway.url) as wire:
            assert await wire.to_end() == b""
        async with wire_to(gateway.url) as wire:
            await wire.say(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n")
            await wire.answer()
            await wire.say(b"\r\n")
            assert await wire.to_end() == b""


async def test_a_body_that_stops_coming_is_given_up() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url), body_gap_s=0.2) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PATH + b"Content-Length: 100\r\n\r\n" + CHAT)
                status, message = error_of(await wire.to_end())
    assert (status, "0.2 s" in message) == (408, True)
    assert one.seen == []


async def test_a_long_answer_after_the_body_is_no_pause_in_it() -> None:
    waited = asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        # Longer than all limits of this test together.
        await asyncio.sleep(0.6)
        waited.set()
        exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with FakeWorker(slowly) as one:
        with serving_gateway(
            worker("one", url=one.url), head_timeout_s=0.2, body_gap_s=0.2, unread_timeout_s=0.2
        ) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PATH + b"Content-Length: %d\r\n\r\n" % len(CHAT) + CHAT)
                assert (await wire.answer())[0] == 200
    assert waited.is_set()


async def test_a_client_that_reads_nothing_is_given_up_and_the_worker_told() -> None:
    async def floods(exchange: Exchange) -> None:
        start_stream(exchange)
        while not exchange.client_gone.is_set():
            exchange.chunk(b"data: " + b"x" * 60_000 + b"\n\n")
            await exchange.writer.drain()

    async with FakeWorker(floods) as one:
        with serving_gateway(worker("one", url=one.url), unread_timeout_s=0.5) as gateway:
            async with wire_to(gateway.url) as wire:
                wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await wire.say(PATH + b"Content-Length: %d\r\n\r\n" % len(CHAT) + CHAT)
                await one.asked.wait()
                await asyncio.wait_for(one.seen[0].client_gone.wait(), 10)


async def test_a_head_of_any_size_is_refused() -> None:
    long = b"X-A: " + b"x" * 70_000 + b"\r\n"
    many = b"X-A: 1\r\n" * 9000
    with serving_gateway() as gateway:
        for fields in (long, many, long + b"\r\n", many + b"\r\n"):
            async with wire_to(gateway.url) as wire:
                await wire.say(PATH + fields)
                assert error_of(await wire.to_end())[0] == 431


async def test_what_is_no_http_is_told_in_the_envelope_and_not_into_an_answer() -> None:
    go = asyncio.Event()

    async def begins(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(b"data: 1\n\n")
        await exchange.writer.drain()
        go.set()
        await exchange.client_gone.wait()

    async with FakeWorker(begins) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(b"nonsense\r\n\r\n")
                assert error_of(await wire.to_end())[0] == 400
            async with wire_to(gateway.url) as wire:
                await wire.say(PATH + b"Content-Length: %d\r\n\r\n" % len(CHAT) + CHAT)
                await wire.until(b"data: 1\n\n")
                await wire.say(b"nonsense\r\n\r\n")
                assert b"HTTP/1.1" not in await wire.to_end()
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
