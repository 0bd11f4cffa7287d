"""Requests whose head their connection has had before: they are judged and answered like all others."""

from typing import Literal

import pytest

from msp_common.errors import Unauthenticated
from msp_gateway.admission import Identity
from msp_gateway.direct.known_head import KnownHead, RequestHead
from support.fake_worker import answers, answers_with_model
from support.gateway_cluster import worker
from support.kept_worker import KeptWorker
from support.raw_http import wire_to
from support.short_way import short_gateway, warm

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer key\r\nX-Own: 1\r\n"
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n"


def chat(word: str = "Hi", *, head: bytes = HEAD) -> bytes:
    body = b'{"model": "org/chat", "messages": ["%s"]}' % word.encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies of requests whose heads were known."""
    bodies: list[bytes] = []
    real = KnownHead.request_in

    def request_in(head: KnownHead, data: bytes, max_body_bytes: int) -> tuple[RequestHead, bytes] | None:
        found = real(head, data, max_body_bytes)
        if found is not None:
            bodies.append(found[1])
        return found

    monkeypatch.setattr(KnownHead, "request_in", request_in)
    return bodies


class Keys:
    """Knows one key until it is revoked."""

    mode: Literal["off", "on"] = "on"
    revoked = False

    def authenticate(self, authorization: str) -> Identity:
        """As the gateway's own."""
        if self.revoked or authorization != "Bearer key":
            raise Unauthenticated("This key is not known.")
        return Identity("someone")


async def test_each_request_goes_on_with_its_own_body_and_a_new_id(known: list[bytes]) -> None:
    words = ["one", "two", "three", "four", "x" * 5000, "one"]
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                # The first request of a connection may have come in pieces; of the second all is learnt.
                for word in ["first", *words]:
                    await wire.say(chat(word))
                    assert (await wire.answer())[0] == 200
            assert gateway.taken == (len(words) + 1, 0)
    seen = one.seen[2:]
    assert [exchange.json["messages"] for exchange in seen] == [[word] for word in words]
    assert known == [exchange.body for exchange in seen[1:]]
    assert len({exchange.headers["x-request-id"] for exchange in seen}) == len(words)
    assert {exchange.headers["x-own"] for exchange in seen} == {"1"}
    assert {int(exchange.headers["content-length"]) - len(exchange.body) for exchange in seen} == {0}


async def test_what_differs_or_comes_in_pieces_is_parsed_as_before(known: list[bytes]) -> None:
    other = HEAD.replace(b"X-Own: 1", b"X-Own: 2")
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                for said, answered in (
                    ([chat()], 1),
                    ([chat()], 1),
                    ([chat("piece")[:-4], chat("piece")[-4:]], 1),
                    ([chat("a") + chat("b")], 2),
                    ([MODELS], 1),
                    ([chat("other", head=other)], 1),
                    ([chat("other", head=other)], 1),
                    ([b"\r\n" + chat("line")], 1),
                    ([chat()], 1),
                ):
                    for data in said:
                        await wire.say(data)
                    assert [(await wire.answer())[0] for _ in range(answered)] == [200] * answered
    assert [seen.headers["x-own"] for seen in one.seen[1:]] == ["1"] * 5 + ["2"] * 2 + ["1"] * 2
    assert [seen.json["messages"][0] for seen in one.seen[3:]] == [
        *("piece", "a", "b", "other", "other", "line", "Hi")
    ]
    assert known


async def test_a_key_that_is_revoked_meanwhile_is_refused(known: list[bytes]) -> None:
    keys = Keys()
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url), parts={"authenticator": keys}) as gateway:
            async with wire_to(gateway.url) as wire:
                for revoked, status in ((False, 200), (False, 200), (False, 200), (True, 401), (False, 200)):
                    keys.revoked = revoked
                    await wire.say(chat())
                    assert (await wire.answer())[0] == status
    assert len(known) >= 2


async def test_bodies_are_not_longer_than_the_setting_allows(known: list[bytes]) -> None:
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url), max_body_bytes=2000) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                for size, status in ((5, 200), (5, 200), (1900, 200), (2000, 413)):
                    await wire.say(chat("x" * size))
                    assert (await wire.answer())[0] == status
    assert max(map(len, known)) > 1900
    assert len(one.seen) == 4


async def test_the_ordinary_way_goes_on_with_such_a_request(known: list[bytes]) -> None:
    broken = answers(500, {"error": {"message": "broken"}})
    script = [answers_with_model, answers_with_model, broken, answers_with_model]
    async with KeptWorker(answers_with_model, *script) as one:
        with short_gateway(worker("one", url=one.url), cooldown_s=0) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                for status in (200, 200, 500, 200):
                    await wire.say(chat("again" * status))
                    assert (await wire.answer())[0] == status
            assert gateway.taken == (4, 1)
    assert len(known) >= 2
