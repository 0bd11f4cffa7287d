"""Tokens of servers that send no reports: told by the answer itself, over either way."""

from typing import Any

import httpx
import pytest

from msp_common.contracts.workers import ExternalServer, Worker
from support.fake_worker import Behaviour, Exchange, answers, event, start_stream, streams
from support.gateway_cluster import LLM, worker
from support.kept_worker import KeptWorker
from support.short_way import ShortCluster, short_gateway

USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
WHOLE = b'{"model": "org/chat", "messages": []}'
STREAM = WHOLE[:-1] + b', "stream": true}'
GUESSED = 1 + len(STREAM) // 4
ADMIN = {"Authorization": "Bearer admin-token-of-the-test"}


def external(url: str) -> Worker:
    return worker("ext", url=url).model_copy(update={"external": ExternalServer(served_as=LLM)})


async def streams_with_usage(exchange: Exchange) -> None:
    start_stream(exchange)
    for part in (event("a"), event(None), b'data: {"choices": [], "usage": {"prompt_tokens": 11, "comp'):
        exchange.chunk(part)
    exchange.chunk(b'letion_tokens": 4}}\n\ndata: [DONE]\n\n')
    exchange.end()


async def breaks_off(exchange: Exchange) -> None:
    start_stream(exchange)
    for word in ("", "a", "b"):
        exchange.chunk(event(word))
    exchange.writer.close()


async def told(gateway: ShortCluster, *, stream: bool) -> list[dict[str, Any]]:
    """What `/requests` tells of two requests: the second one finds a kept connection."""
    explained = []
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        for number in range(2):
            body = STREAM if stream else WHOLE
            headers = {"x-request-id": f"r{number}"}
            async with client.stream("POST", "/v1/chat/completions", content=body, headers=headers) as answer:
                try:
                    await answer.aread()
                except httpx.RemoteProtocolError:
                    assert stream
            explained.append((await client.get(f"/requests/r{number}", headers=ADMIN)).json())
    return explained


@pytest.mark.parametrize(
    ("behaviour", "stream", "tokens"),
    [
        pytest.param(answers(200, {"choices": [], "usage": USAGE}), False, (11, 4, False), id="whole"),
        pytest.param(streams_with_usage, True, (11, 4, False), id="stream that was asked for its usage"),
        pytest.param(streams("", "a", "b", "c"), True, (GUESSED, 3, True), id="stream that was not"),
        pytest.param(breaks_off, True, (GUESSED, 1, True), id="stream that broke"),
        pytest.param(answers(200, {"choices": []}), False, (None, None, False), id="no word of it"),
        pytest.param(answers(400, {"error": {"message": "no"}}), False, (None, None, False), id="refused"),
    ],
)
async def test_an_external_servers_tokens_are_those_that_its_answer_tells(
    behaviour: Behaviour, stream: bool, tokens: tuple[int | None, int | None, bool]
) -> None:
    async with KeptWorker(behaviour) as server:
        with short_gateway(external(server.url), admin_token=ADMIN["Authorization"][7:]) as gateway:
            explained = await told(gateway, stream=stream)
    for request in explained:
        seen = request["prompt_tokens"], request["completion_tokens"], request["tokens_estimated"]
        assert seen == tokens


async def test_what_our_own_workers_answers_tell_is_left_to_their_reports() -> None:
    async with KeptWorker(answers(200, {"choices": [], "usage": USAGE})) as one:
        with short_gateway(worker("one", url=one.url), admin_token=ADMIN["Authorization"][7:]) as gateway:
            explained = await told(gateway, stream=False)
    assert [request["prompt_tokens"] for request in explained] == [None, None]
