"""Conversations that come back to the replica which knows them."""

from collections import Counter

import httpx
import pytest

from msp_gateway.conversations import FIELDS, MAX_LENGTH, conversation_of
from support.fake_worker import FakeWorker
from support.gateway_clients import CHAT
from support.gateway_cluster import serving_gateway, worker


@pytest.mark.parametrize("field", FIELDS)
def test_a_conversation_is_told_by_a_header_field(field: str) -> None:
    assert conversation_of({field.encode(): b"abc"}) == "abc"


def test_a_name_is_taken_up_to_a_length_and_none_is_none() -> None:
    assert conversation_of({FIELDS[0].encode(): b"x" * 1000}) == "x" * MAX_LENGTH
    assert conversation_of({FIELDS[0].encode(): b"", b"user-agent": b"x"}) is None


async def test_a_conversation_stays_where_it_began_and_others_go_around() -> None:
    async with FakeWorker() as one, FakeWorker() as two:
        with serving_gateway(worker("one", url=one.url), worker("two", url=two.url)) as gateway:
            async with httpx.AsyncClient() as client:
                for name in [*("first",) * 6, *("",) * 6]:
                    await client.post(
                        f"{gateway.url}/v1/chat/completions",
                        json=CHAT,
                        headers={"ChatUI-Conversation-ID": name},
                    )
    seen = Counter(
        (number, exchange.headers["chatui-conversation-id"])
        for number, asked in enumerate((one, two))
        for exchange in asked.seen
    )
    assert sorted(count for (_, name), count in seen.items() if name == "first") == [6]
    assert sorted(count for (_, name), count in seen.items() if name == "") == [3, 3]
