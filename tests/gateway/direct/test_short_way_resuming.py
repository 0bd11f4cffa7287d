"""A stream on the short way whose worker dies, where another replica may go on with it."""

from collections.abc import Iterator

import httpx
import pytest

from msp_common.contracts.workers import WorkerLoad
from msp_model_service.chat.conversation import Conversation
from support.broken_streams import DONE, asked, heard
from support.chat_fakes import MODEL, chat_app, fake_engine, user
from support.fake_worker import Behaviour, Exchange, start_stream
from support.gateway_clients import settled_metrics
from support.gateway_cluster import worker
from support.kept_worker import KeptWorker
from support.servers import run_server
from support.short_way import ShortCluster, short_gateway

CHAT = "/v1/chat/completions"
BODY = {"messages": [user("x")], "stream": True, "stream_options": {"include_usage": True}}


def say(_: Conversation) -> str:
    return "Héllo 🙂 世界."


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """A real worker, which goes on."""
    with run_server(chat_app(fake_engine(answer=say))) as url:
        yield url


def says(sent: bytes, *, then_dies: bool) -> Behaviour:
    async def behaviour(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(sent)
        if then_dies:
            await exchange.reset()
        else:
            exchange.end()

    return behaviour


async def told(gateway: ShortCluster, client: httpx.AsyncClient) -> bytes:
    answer = await client.post(gateway.url + CHAT, json=BODY)
    assert answer.status_code == 200
    return answer.content


async def test_a_stream_that_breaks_at_any_byte_is_one_stream_for_its_client(other: str) -> None:
    stream = asked(other, CHAT, httpx.Request("POST", other, json=BODY).content)
    right = heard(stream)
    places = [*range(1, len(stream), 211), *(len(stream) - n for n in (1, len(DONE), len(DONE) + 1))]
    script = [
        part
        for place in places
        for part in (says(stream, then_dies=False), says(stream[:place], then_dies=True))
    ]
    async with KeptWorker(*script) as first, httpx.AsyncClient(timeout=30) as client:
        busy = worker("other", MODEL, url=other, load=WorkerLoad(in_flight=5))
        workers = worker("first", MODEL, url=first.url), busy
        with short_gateway(*workers, resume_streams=True, cooldown_s=0) as gateway:
            for number, place in enumerate(places, 1):
                assert await told(gateway, client) == stream
                said = heard(await told(gateway, client))
                assert gateway.taken == (2 * number, number)
                assert len(said.heads) == 1
                said.heads = right.heads
                if said.token_ids != right.token_ids:  # begun anew behind a comment
                    said.token_ids = said.token_ids[-len(right.token_ids) :]
                assert said == right, place
            metrics = await settled_metrics(gateway)
    assert gateway.reports.kinds.count(("first", "reset")) == len(places)
    assert f'what="broken_off"}} {len(places)}.0' in metrics
    assert "answers_incomplete_total{" not in metrics
