"""HTTP as unusual clients write it, beside requests on the short way and within them."""

import asyncio
import json
from typing import Literal

import pytest

from msp_common.errors import Unauthenticated
from msp_gateway.admission import Identity
from msp_gateway.direct.way import MAX_BODY_BYTES, STRANGERS_BODY_BYTES
from support.fake_worker import Behaviour, Exchange, answers, answers_with_model, event, start_stream, streams
from support.gateway_cluster import LLM, worker
from support.kept_worker import KeptWorker
from support.raw_http import Wire, wire_to
from support.short_way import short_gateway, warm

BODY = b'{"model": "org/chat", "messages": []}'
PATH = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
PLAIN = PATH + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
UNKNOWN = PLAIN.replace(b"org/chat", b"org/none")
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\r\n"
WHOLE_STREAM = event("Once") + event(None) + b"data: [DONE]\n\n"


def with_fields(*fields: bytes, request: bytes = PLAIN) -> bytes:
    return request.replace(b"Host:", b"".join(field + b"\r\n" for field in fields) + b"Host:", 1)


def numbered(n: int, request: bytes = PLAIN) -> bytes:
    return with_fields(b"X-Request-Id: n-%d" % n, request=request)


def long(size: int) -> bytes:
    """A body of so many bytes."""
    start = b'{"model": "org/chat", "messages": ["'
    return start + b"x" * (size - len(start) - 3) + b'"]}'


def id_of(head: bytes) -> bytes:
    return next(line.partition(b": ")[2] for line in head.split(b"\r\n") if line.startswith(b"x-request-id:"))


async def stream(wire: Wire) -> bytes:
    """One chunked answer, without its chunks' frames."""
    await wire.until(b"\r\n\r\n")
    body = b""
    while size := int(await wire.until(b"\r\n"), 16):
        body += (await wire.reader.readexactly(size + 2))[:-2]
    await wire.until(b"\r\n")
    return body


async def test_pipelined_requests_of_all_kinds_are_answered_in_their_order() -> None:
    kinds = [PLAIN, MODELS, UNKNOWN, PLAIN, with_fields(b"Origin: https://a.example"), PLAIN, MODELS, PLAIN]
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(b"".join(numbered(n, kind) for n, kind in enumerate(kinds)))
                told = [await wire.answer() for _ in kinds]
            assert gateway.taken == (4, 0)
    assert [id_of(head) for _, head, _ in told] == [b"n-%d" % n for n in range(len(kinds))]
    assert [status for status, _, _ in told] == [200, 200, 404, 200, 200, 200, 200, 200]


async def test_requests_that_come_while_another_is_answered_wait_for_their_turn() -> None:
    turn = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(event("Once"))
        await turn.wait()
        exchange.chunk(event(None) + b"data: [DONE]\n\n")
        exchange.end()

    async with KeptWorker(answers_with_model, waits, answers_with_model) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                one.asked.clear()
                await wire.say(PLAIN)
                await one.asked.wait()
                await wire.say(numbered(1) + numbered(2, MODELS) + numbered(3)[:-5])
                turn.set()
                assert await stream(wire) == WHOLE_STREAM
                assert id_of((await wire.answer())[1]) == b"n-1"
                assert id_of((await wire.answer())[1]) == b"n-2"
                await wire.say(numbered(3)[-5:])
                assert id_of((await wire.answer())[1]) == b"n-3"
            assert gateway.taken == (2, 0)


async def test_a_connection_stays_open_whatever_way_its_requests_go() -> None:
    broken = answers(500, {"error": {"message": "broken"}})
    script = [answers_with_model, streams("Once"), broken, answers_with_model]
    async with KeptWorker(answers_with_model, *script) as one:
        with short_gateway(worker("one", url=one.url), cooldown_s=0) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN)
                assert (await wire.answer())[0] == 200
                await wire.say(PLAIN)
                assert await stream(wire) == WHOLE_STREAM
                await wire.say(PLAIN)
                assert (await wire.answer())[0] == 500
                await wire.say(UNKNOWN)
                assert (await wire.answer())[0] == 404
                await wire.say(b"\r\n\r\n" + PLAIN)
                assert (await wire.answer())[0] == 200
            assert gateway.taken == (4, 1)


@pytest.mark.parametrize("behaviour", [answers_with_model, streams("Once")])
async def test_a_connection_that_the_client_wants_closed_is_closed_after_the_answer(
    behaviour: Behaviour,
) -> None:
    async with KeptWorker(answers_with_model, behaviour) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(with_fields(b"Connection: close") + PLAIN)
                said = await wire.to_end()
            assert gateway.taken == (1, 0)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.lower().split(b"\r\n").count(b"connection: close") == 1
    assert said.count(b"HTTP/1.1 ") == 1
    assert body.endswith((b"0\r\n\r\n", b"}"))
    assert len(one.seen) == 2


ORDINARY = {
    "http/1.0": PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "origin": with_fields(b"Origin: https://ui.example"),
    "queue events": with_fields(b"X-Msp-Queue-Events: 1"),
    "chunked": PATH + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "a long body": PATH + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1) + long(MAX_BODY_BYTES + 1),
    "a form": PLAIN.replace(b"chat/completions", b"audio/transcriptions"),
    "no post": PLAIN.replace(b"POST", b"PUT"),
}


async def test_what_others_take_care_of_goes_the_ordinary_way() -> None:
    told: dict[str, int] = {}
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url), cors_origins="https://ui.example") as gateway:
            await warm(gateway)
            for name, request in ORDINARY.items():
                async with wire_to(gateway.url) as wire:
                    await wire.say(request)
                    told[name], head, _ = await wire.answer()
                assert (b"access-control-allow-origin: https://ui.example" in head) == (name == "origin")
            assert gateway.taken == (0, 0)
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN)
                assert (await wire.answer())[0] == 200
            assert gateway.taken == (1, 0)
    assert told == {**dict.fromkeys(ORDINARY, 200), "a form": 400, "no post": 405}


@pytest.mark.parametrize("at", [0, 10, -len(BODY), -3])
async def test_who_would_rather_speak_http_2_is_answered_all_the_same(at: int) -> None:
    # As Java's HttpClient writes it.
    wish = (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    )
    request = with_fields(*wish)
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(request[:at])
                await asyncio.sleep(0)
                await wire.say(request[at:] + PLAIN)
                assert [(await wire.answer())[0] for _ in range(2)] == [200, 200]
            assert gateway.taken == (2, 0)
    assert {seen.body for seen in one.seen[1:]} == {BODY}
    assert all("upgrade" not in seen.headers for seen in one.seen)


async def test_a_proxy_is_not_what_this_is() -> None:
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
                assert (await wire.answer())[0] == 400


class OneKey:
    """Knows one key."""

    mode: Literal["off", "on"] = "on"

    def authenticate(self, authorization: str) -> Identity:
        """As the gateway's own."""
        if authorization != "Bearer known":
            raise Unauthenticated("This key is not known.")
        return Identity("known")


async def test_a_stranger_with_a_long_body_is_refused_before_it_is_sent() -> None:
    body = long(STRANGERS_BODY_BYTES + 1)
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url), parts={"authenticator": OneKey()}) as gateway:
            async with wire_to(gateway.url) as wire:
                await wire.say(PATH + length)
                assert (await wire.answer())[0] == 401
            known = PATH + b"Authorization: Bearer known\r\n" + length + body
            for _ in range(2):
                async with wire_to(gateway.url) as wire:
                    await wire.say(known)
                    assert (await wire.answer())[0] == 200
            assert gateway.taken == (2, 0)


async def test_a_client_that_expects_to_be_asked_for_its_body_is_asked() -> None:
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(with_fields(b"Expect: 100-continue")[: -len(BODY)])
                assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
                await wire.say(BODY + PLAIN)
                assert (await wire.answer())[0] == (await wire.answer())[0] == 200
            assert gateway.taken == (1, 0)


@pytest.mark.parametrize("model", [LLM, None])
async def test_the_longest_body_of_this_way_arrives_whole_in_pieces(model: str | None) -> None:
    # With the default's name written in it must still be one that is sent in one go.
    body = long(MAX_BODY_BYTES if model else MAX_BODY_BYTES - 100)
    if model is None:
        body = body.replace(b'"model": "org/chat"', b'"temper": 0.3000000')
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(PATH + b"Content-Length: %d\r\n\r\n" % len(body))
                for at in range(0, len(body), 100_000):
                    await wire.say(body[at : at + 100_000])
                    await asyncio.sleep(0)
                assert (await wire.answer())[0] == 200
            assert gateway.taken == (1, 0)
    assert one.seen[1].json == {**json.loads(body), "model": LLM}
    assert one.seen[1].body == body or model is None


async def test_a_body_longer_than_the_setting_allows_is_refused() -> None:
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url), max_body_bytes=2000) as gateway:
            await warm(gateway)
            for size, status in ((2000, 200), (2001, 413)):
                async with wire_to(gateway.url) as wire:
                    await wire.say(PATH + b"Content-Length: %d\r\n\r\n" % size + long(size))
                    assert (await wire.answer())[0] == status
            assert gateway.taken == (1, 0)
    assert len(one.seen) == 2


async def test_a_body_that_stops_coming_is_given_up() -> None:
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url), body_gap_s=0.2) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN[:-1])
                said = await wire.to_end()
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN[:-1])  # and leaves
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN)
                assert (await wire.answer())[0] == 200
            assert gateway.taken == (1, 0)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert len(one.seen) == 2


MISTAKES = {
    "no json": b"nonsense",
    "an array": b"[1]",
    "nothing": b"",
    "a wrong model": b'{"model": 7}',
    "an unknown model": b'{"model": "org/none"}',
}


async def test_what_is_refused_here_is_refused_in_the_same_words_as_elsewhere() -> None:
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            for name, body in MISTAKES.items():
                request = numbered(1, PATH + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                async with wire_to(gateway.url) as wire:
                    await wire.say(request + with_fields(b"Origin: x", request=request))
                    here, there = await wire.answer(), await wire.answer()
                assert here == there, name
                assert here[0] in (400, 404)
            assert gateway.taken == (0, 0)
    assert len(one.seen) == 1


async def test_nonsense_after_a_request_ends_the_connection_and_no_other() -> None:
    async def begins(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(event("Once"))
        await exchange.client_gone.wait()

    async with KeptWorker(answers_with_model, begins, answers_with_model) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire, wire_to(gateway.url) as other:
                await wire.say(PLAIN)
                await wire.until(b"\n\n")
                await other.say(PLAIN)
                assert (await other.answer())[0] == 200
                await wire.say(b"nonsense\r\n\r\n")
                assert b"HTTP/1.1" not in await wire.to_end()
                await asyncio.wait_for(one.seen[1].client_gone.wait(), 5)
                await other.say(PLAIN)
                assert (await other.answer())[0] == 200
            assert gateway.taken[1] == 0


async def test_endless_pipelining_is_ended() -> None:
    async def waits(exchange: Exchange) -> None:
        await exchange.client_gone.wait()

    async with KeptWorker(answers_with_model, waits) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN * 40)
                assert b"requests are waiting" in await wire.to_end()
            await asyncio.wait_for(one.seen[1].client_gone.wait(), 5)
            assert gateway.taken == (1, 0)
    assert len(one.seen) == 2


async def test_a_workers_informational_answers_and_trailers_stay_behind() -> None:
    async def talks(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 103 Early Hints\r\nLink: </secret>\r\n\r\n")
        start_stream(exchange)
        exchange.chunk(event("Once"))
        exchange.raw(b"0\r\nX-Trailer: secret\r\n\r\n")

    async with KeptWorker(answers_with_model, talks) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(with_fields(b"Connection: close"))
                said = await wire.to_end()
            assert gateway.taken == (1, 0)
    assert b"Once" in said
    assert b"secret" not in said
    assert said.endswith(b"0\r\n\r\n")


async def test_a_body_that_ends_with_its_connection_is_passed_on_whole() -> None:
    async def closes(exchange: Exchange) -> None:
        exchange.raw(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"a": 1}')
        exchange.writer.close()

    async with KeptWorker(answers_with_model, closes, answers_with_model) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN + PLAIN)
                assert await stream(wire) == b'{"a": 1}'
                assert (await wire.answer())[0] == 200
            assert gateway.taken == (2, 0)
    assert one.connections == 2


async def test_a_workers_fields_cannot_add_to_the_answers_head() -> None:
    async def forges(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\nX-A: 1\rX-B: 2\r\nContent-Length: 2\r\n\r\n{}")

    async with KeptWorker(answers_with_model, forges) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await wire.say(PLAIN)
                status, head, _ = await wire.answer()
            assert gateway.taken == (1, 1)
    assert status >= 500
    assert b"x-b" not in head.lower()
