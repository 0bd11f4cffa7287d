"""HTTP as hostile or unusual clients and workers write it, byte by byte through the whole gateway."""

import asyncio
import json

from support.fake_worker import Exchange, FakeWorker, answers_with_model, event, start_stream
from support.gateway_cluster import serving_gateway, worker
from support.raw_http import wire_to

CHAT = b'{"model": "org/chat", "messages": []}'
PATH = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
PLAIN = PATH + b"Content-Length: %d\r\n\r\n" % len(CHAT) + CHAT
SECOND = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: evil\r\nContent-Length: 22\r\n\r\n"
    + b'{"model": "org/chat2"}'
)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


async def test_a_chunked_request_reaches_the_worker_with_a_length() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PATH + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(CHAT[:7]))
                await wire.say(chunked(CHAT[7:9], CHAT[9:]) + b"0\r\nX-Trailer: 1\r\n\r\n")
                status, _, _ = await wire.answer()
    assert status == 200
    assert one.seen[0].body == CHAT
    assert one.seen[0].headers["content-length"] == str(len(CHAT))
    assert not {"transfer-encoding", "x-trailer"} & set(one.seen[0].headers)


async def test_a_client_that_expects_to_be_asked_for_its_body_is_asked() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PATH + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(CHAT))
                assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
                await wire.say(CHAT)
                status, _, _ = await wire.answer()
    assert status == 200
    assert "expect" not in one.seen[0].headers


async def test_a_body_that_is_too_large_is_refused_without_being_asked_for() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url), max_body_bytes=2000) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PATH + b"Expect: 100-continue\r\nContent-Length: 2001\r\n\r\n")
                status, _, body = await wire.answer()
    assert (status, json.loads(body)["error"]["code"]) == (413, "payload_too_large")
    assert one.seen == []


async def test_head_of_a_relayed_path_has_no_body() -> None:
    with serving_gateway() as gateway:
        async with wire_to(gateway.url) as wire:
            await wire.say(
                b"HEAD /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
            )
            said = await wire.to_end()
    assert said.startswith(b"HTTP/1.1 405 ")
    assert said.endswith(b"\r\n\r\n")


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    turn = asyncio.Event()

    async def first_waits(exchange: Exchange) -> None:
        if len(one.seen) == 1:
            await turn.wait()
        await answers_with_model(exchange)

    async with FakeWorker(first_waits) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                named = [PLAIN.replace(b"Host:", b"X-Request-Id: n-%d\r\nHost:" % n) for n in range(3)]
                await wire.say(b"".join(named))
                await one.asked.wait()
                turn.set()
                ids = []
                for _ in range(3):
                    status, head, _ = await wire.answer()
                    ids.append((status, next(line for line in head.split(b"\r\n") if b"request-id" in line)))
    assert ids == [(200, b"x-request-id: n-%d" % n) for n in range(3)]
    assert len(one.seen) == 3


async def test_a_client_that_leaves_with_requests_waiting_is_told_to_the_worker() -> None:
    async def waits(exchange: Exchange) -> None:
        await exchange.client_gone.wait()

    async with FakeWorker(waits) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN + PLAIN)
                await one.asked.wait()
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
    assert len(one.seen) == 1


async def test_trailers_without_end_are_refused() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            for trailers in (b"X-A: 1\r\n" * 60_000, b"X-A: " + b"x" * 500_000):
                async with wire_to(gateway.url) as wire:
                    await wire.say(
                        PATH + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(CHAT) + b"0\r\n" + trailers
                    )
                    assert (await wire.to_end()).startswith(b"HTTP/1.1 431 ")
    assert one.seen == []


async def test_endless_pipelining_is_ended() -> None:
    async def waits(exchange: Exchange) -> None:
        await exchange.client_gone.wait()

    async with FakeWorker(waits) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN)
                await one.asked.wait()
                await wire.say(PLAIN * 40)
                assert b"requests are waiting" in await wire.to_end()
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
    assert len(one.seen) == 1


async def test_a_workers_informational_answers_and_trailers_stay_behind() -> None:
    async def talks_first(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 103 Early Hints\r\nLink: </secret>\r\n\r\n")
        start_stream(exchange)
        exchange.chunk(event("Once"))
        exchange.raw(b"0\r\nX-Trailer: secret\r\n\r\n")

    async with FakeWorker(talks_first) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN.replace(b"Host:", b"Connection: close\r\nHost:"))
                said = await wire.to_end()
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"Once" in said
    assert b"secret" not in said
    assert said.endswith(b"0\r\n\r\n")


async def test_a_workers_body_that_ends_with_its_connection_is_passed_on_whole() -> None:
    async def closes(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b'{"a": 1}')

    async with FakeWorker(closes) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN.replace(b"Host:", b"Connection: close\r\nHost:"))
                said = await wire.to_end()
    assert said.endswith(b'8\r\n{"a": 1}\r\n0\r\n\r\n')


TWICE = b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
SMUGGLING = {
    "length and chunked": PATH
    + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunked(CHAT)
    + b"0\r\n\r\n"
    + SECOND,
    "chunked and length": PATH
    + b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n" % (len(CHAT) + len(SECOND))
    + b"0\r\n\r\n"
    + SECOND,
    "two lengths": PATH + TWICE % (len(CHAT), len(CHAT) + len(SECOND)) + CHAT + SECOND,
    "a list of lengths": PATH + b"Content-Length: %d, 0\r\n\r\n" % len(CHAT) + CHAT + SECOND,
    "a signed length": PATH + b"Content-Length: +%d\r\n\r\n" % len(CHAT) + CHAT + SECOND,
    "a length in hexadecimal": PATH + b"Content-Length: 0x%x\r\n\r\n" % len(CHAT) + CHAT + SECOND,
    "chunked twice": PATH
    + b"Transfer-Encoding: chunked, chunked\r\n\r\n"
    + chunked(CHAT)
    + b"0\r\n\r\n"
    + SECOND,
    "an unknown coding": PATH
    + b"Transfer-Encoding: xchunked\r\n\r\n"
    + chunked(CHAT)
    + b"0\r\n\r\n"
    + SECOND,
    "chunked, then identity": PATH
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
    + chunked(CHAT)
    + b"0\r\n\r\n"
    + SECOND,
    "a folded field": PATH
    + b"X-A: 1\r\n Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(CHAT)
    + CHAT
    + SECOND,
    "a space before the colon": PATH + b"Content-Length : %d\r\n\r\n" % len(CHAT) + CHAT + SECOND,
    "a field without a name": PATH + b": 1\r\nContent-Length: %d\r\n\r\n" % len(CHAT) + CHAT + SECOND,
    "bare line feeds": PLAIN.replace(b"\r\n", b"\n") + SECOND,
    "a bare carriage return": PATH + b"X-A: 1\rContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello" + SECOND,
    "a zero byte": PATH + b"X-A: 1\x00\r\nContent-Length: %d\r\n\r\n" % len(CHAT) + CHAT + SECOND,
    "a chunk size that is none": PATH
    + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    + CHAT
    + b"\r\n0\r\n\r\n"
    + SECOND,
    "a negative chunk size": PATH
    + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"
    + CHAT
    + b"\r\n0\r\n\r\n"
    + SECOND,
    "a chunk size beyond all numbers": PATH
    + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000%x\r\n" % len(CHAT)
    + CHAT
    + b"\r\n0\r\n\r\n"
    + SECOND,
    "a chunk longer than its size": PATH
    + b"Transfer-Encoding: chunked\r\n\r\n1\r\n"
    + CHAT
    + b"\r\n0\r\n\r\n"
    + SECOND,
}


async def test_requests_whose_end_is_in_doubt_are_refused_and_hide_no_other() -> None:
    answers: dict[str, bytes] = {}
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url), worker("two", "org/chat2", url=one.url)) as gateway:
            for name, attempt in SMUGGLING.items():
                async with wire_to(gateway.url) as wire:
                    await wire.say(attempt)
                    answers[name] = await wire.to_end()
    assert {name: said[:13] for name, said in answers.items()} == dict.fromkeys(SMUGGLING, b"HTTP/1.1 400 ")
    assert {name: said.count(b"HTTP/1.1 ") for name, said in answers.items()} == dict.fromkeys(SMUGGLING, 1)
    for said in answers.values():
        assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    assert one.seen == []


async def test_what_follows_the_last_request_of_a_connection_is_never_served() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url), worker("two", "org/chat2", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN.replace(b"Host:", b"Connection: close\r\nHost:") + SECOND)
                said = await wire.to_end()
    assert said.count(b"HTTP/1.1 ") == 1
    assert len(one.seen) == 1


async def test_a_workers_fields_cannot_add_to_the_answers_head() -> None:
    async def forges(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\nX-A: 1\rX-B: 2\r\nContent-Length: 2\r\n\r\n{}")

    async with FakeWorker(forges) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN)
                status, head, _ = await wire.answer()
    assert status >= 500
    assert b"x-b" not in head.lower()
