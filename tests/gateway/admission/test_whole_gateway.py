"""Keys, limits, queue and usage through a gateway that really listens."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from msp_common.contracts.workers import WorkerLoad
from msp_gateway.access import Stores
from msp_gateway.usage.collector import HttpUsageSource
from support.fake_worker import Exchange, FakeWorker, answers, answers_with_model, send_json, streams
from support.gateway_clients import CHAT
from support.gateway_cluster import LLM, Cluster, FakeDirectory, serving_gateway, worker
from support.gateway_keys import ADMIN_TOKEN, MemoryKeys, database_stores, stored_key
from support.servers import run_server

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


@contextmanager
def gateway_with_keys(folder: Path, *workers: Any, **settings: Any) -> Iterator[httpx.AsyncClient]:
    """A gateway with a database of its own; asked through the client."""
    stores, engine = database_stores(folder)
    cluster = Cluster(FakeDirectory(list(workers)))
    app = cluster.app(stores=stores, admin_token=ADMIN_TOKEN, **settings)
    cluster.clock.now += 60
    with run_server(app) as url:
        yield httpx.AsyncClient(base_url=url, timeout=20)
    engine.dispose()


async def new_key(client: httpx.AsyncClient, **wanted: Any) -> tuple[str, dict[str, str]]:
    answer = await client.post("/admin/keys", json={"name": "team", **wanted}, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], {"authorization": f"Bearer {answer.json()['secret']}"}


async def chat(
    client: httpx.AsyncClient, headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={**CHAT, **more}, headers=headers)


async def test_the_first_key_closes_the_gateway_and_a_revoked_one_opens_nothing(tmp_path: Path) -> None:
    async with FakeWorker() as one:
        with gateway_with_keys(tmp_path, worker("one", url=one.url)) as gateway:
            async with gateway as client:
                assert (await chat(client)).status_code == 200
                assert (await client.get("/health")).json()["authentication"] == "off"
                key_id, own = await new_key(client)
                assert (await client.get("/health")).json()["authentication"] == "on"
                without = await chat(client)
                assert (without.status_code, without.headers["www-authenticate"]) == (401, "Bearer")
                assert (await client.get("/v1/models")).status_code == 401
                assert (await client.get("/v1/models", headers=own)).status_code == 200
                assert (await chat(client, own)).status_code == 200
                assert (await client.delete(f"/admin/keys/{key_id}", headers=ADMIN)).status_code == 200
                assert (await chat(client, own)).status_code == 401
                assert (await chat(client)).status_code == 401


async def test_a_key_may_use_its_models_and_sees_no_others(tmp_path: Path) -> None:
    async with FakeWorker() as one:
        workers = [worker("one", url=one.url), worker("two", "org/other", url=one.url)]
        with gateway_with_keys(tmp_path, *workers) as gateway:
            async with gateway as client:
                _, own = await new_key(client, allowed_models=["org/other"])
                refused = await chat(client, own)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
                assert (await chat(client, own, model="org/other")).status_code == 200
                assert (await chat(client, own, model=None)).json()["model"] == "org/other"
                listed = (await client.get("/v1/models", headers=own)).json()["data"]
                assert [card["id"] for card in listed] == ["org/other"]
                assert (await client.get(f"/v1/models/{LLM}", headers=own)).status_code == 404


async def test_limits_are_told_on_answers_and_a_change_of_them_holds_at_once(tmp_path: Path) -> None:
    async with FakeWorker() as one:
        with gateway_with_keys(tmp_path, worker("one", url=one.url)) as gateway:
            async with gateway as client:
                key_id, own = await new_key(client, requests_per_minute=1)
                answer = await chat(client, own)
                assert answer.headers["x-ratelimit-remaining-requests"] == "0"
                refused = await chat(client, own)
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
                assert refused.headers["x-ratelimit-limit-requests"] == "1"
                assert 0 < int(refused.headers["retry-after"]) <= 120
                changed = await client.patch(
                    f"/admin/keys/{key_id}", json={"requests_per_minute": None}, headers=ADMIN
                )
                assert changed.json()["limits"]["requests_per_minute"] is None
                assert (await chat(client, own)).status_code == 200


async def test_keys_and_usage_outlive_the_gateway(tmp_path: Path) -> None:
    async with FakeWorker() as one:
        with gateway_with_keys(tmp_path, worker("one", url=one.url)) as gateway:
            async with gateway as client:
                key_id, own = await new_key(client)
                assert (await chat(client, own)).status_code == 200
        with gateway_with_keys(tmp_path, worker("one", url=one.url)) as gateway:
            async with gateway as client:
                assert (await chat(client)).status_code == 401
                assert (await chat(client, own)).status_code == 200
                lines = (await client.get("/admin/usage", headers=ADMIN)).json()["lines"]
                nobody = await client.get("/admin/usage?key_id=nobody", headers=ADMIN)
    assert [(line["key_id"], line["key_name"], line["requests"]) for line in lines] == [(key_id, "team", 2)]
    assert nobody.json()["lines"] == []
    secret = own["authorization"].rpartition("-")[2]
    kept = await asyncio.to_thread(lambda: b"".join(file.read_bytes() for file in tmp_path.iterdir()))
    assert key_id.encode() in kept
    assert secret.encode() not in kept


async def test_tokens_of_a_stream_are_known_by_the_workers_own_report(tmp_path: Path) -> None:
    reported = asyncio.Event()

    async def tells_usage(exchange: Exchange) -> None:
        if not exchange.path.startswith("/usage"):
            await streams("Once", "upon")(exchange)
            seen.append(exchange.headers["x-request-id"])
            reported.set()
            return
        await reported.wait()
        if "after=0" not in exchange.path:
            await exchange.client_gone.wait()
        used = {
            "request_id": seen[0],
            "path": "/v1/chat/completions",
            "status": 200,
            "complete": True,
            "stream": True,
            "prompt_tokens": 40,
            "completion_tokens": 2,
            "duration_s": 1,
        }
        send_json(exchange, 200, {"epoch": 1.5, "next": 1, "requests": [used]})

    seen: list[str] = []
    stores, engine = database_stores(tmp_path)
    async with FakeWorker(tells_usage) as one, httpx.AsyncClient() as control:
        cluster = Cluster(FakeDirectory([worker("one", url=one.url)]))
        cluster.clock.now += 60
        source = HttpUsageSource(control)
        app = cluster.app(stores=stores, admin_token=ADMIN_TOKEN, usage_source=source)
        with run_server(app) as url:
            async with httpx.AsyncClient(base_url=url, timeout=20) as client, asyncio.timeout(15):
                _, own = await new_key(client, tokens_per_minute=1000)
                assert (await chat(client, own, stream=True)).status_code == 200
                lines: list[dict[str, Any]] = []
                while not lines or not lines[0]["prompt_tokens"]:
                    lines = (await client.get("/admin/usage", headers=ADMIN)).json()["lines"]
                answer = await chat(client, own, stream=True)
    engine.dispose()
    assert (lines[0]["prompt_tokens"], lines[0]["completion_tokens"]) == (40, 2)
    # 42 for the first, and as many expected for the second.
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(1000 - 42 - 42)


async def test_without_an_admin_token_the_admin_routes_say_how_to_open_them() -> None:
    with serving_gateway() as gateway:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            closed = await client.get("/admin/keys", headers=ADMIN)
    assert closed.status_code == 403
    assert "GATEWAY_ADMIN_TOKEN" in closed.json()["error"]["message"]


async def test_admin_routes_want_their_token_and_say_what_is_wrong(tmp_path: Path) -> None:
    with gateway_with_keys(tmp_path) as gateway:
        async with gateway as client:
            wrong = await client.get("/admin/keys", headers={"authorization": "Bearer wrong"})
            await new_key(client)
            twice = await client.post("/admin/keys", json={"name": "team"}, headers=ADMIN)
            unknown = await client.delete("/admin/keys/nobody", headers=ADMIN)
            misspelt = await client.post("/admin/keys", json={"name": "b", "concurency": 1}, headers=ADMIN)
            listed = await client.get("/admin/keys", headers=ADMIN)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_admin_token")
    assert (twice.status_code, twice.json()["error"]["code"]) == (409, "name_taken")
    assert unknown.status_code == 404
    assert (misspelt.status_code, misspelt.json()["error"]["param"]) == (400, "concurency")
    assert [key["name"] for key in listed.json()["keys"]] == ["team"]
    assert "secret" not in listed.text
    assert "sha256" not in listed.text


async def test_a_gateway_without_a_database_says_why_it_makes_no_keys() -> None:
    with serving_gateway(admin_token=ADMIN_TOKEN) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            refused = await client.post("/admin/keys", json={"name": "a"}, headers=ADMIN)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "keys_read_only")
    assert "GATEWAY_DATABASE_URL" in refused.json()["error"]["message"]


async def test_keys_that_cannot_be_read_are_told_by_the_health_page_while_requests_go_on() -> None:
    key, secret = stored_key()
    store = MemoryKeys({key.id: key})
    async with FakeWorker() as one:
        cluster = Cluster(FakeDirectory([worker("one", url=one.url)]))
        with run_server(cluster.app(stores=Stores(keys=store))) as url:
            store.is_away = True
            async with httpx.AsyncClient(base_url=url) as client, asyncio.timeout(10):
                while (health := (await client.get("/health")).json())["status"] != "degraded":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                answer = await chat(client, {"authorization": f"Bearer {secret}"})
    assert health["parts"]["keys"] == {"status": "degraded", "reason": "the disk is gone"}
    assert answer.status_code == 200


class Holding:
    """A worker that answers when the test lets it."""

    def __init__(self, *after: Any) -> None:
        self.release = asyncio.Event()
        self._after = after[0] if after else answers_with_model

    async def __call__(self, exchange: Exchange) -> None:
        await self.release.wait()
        await self._after(exchange)


async def in_flight(client: httpx.AsyncClient, waiting: int) -> None:
    wanted = f'msp_gateway_queue_waiting{{model="{LLM}"}} {waiting}.0'
    async with asyncio.timeout(10):
        while wanted not in (await client.get("/metrics")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_requests_beyond_the_models_slots_wait_and_are_told_so() -> None:
    holding = Holding()
    async with FakeWorker(holding) as one:
        busy = worker("one", url=one.url, load=WorkerLoad(slots=2))
        with serving_gateway(busy, queue_ahead=0) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
                asking = [asyncio.create_task(chat(client)) for _ in range(3)]
                await in_flight(client, waiting=1)
                assert len(one.seen) == 2
                holding.release.set()
                answered = await asyncio.gather(*asking)
    told = [a.headers["x-msp-queue-position"] for a in answered if "x-msp-queue-position" in a.headers]
    assert [a.status_code for a in answered] == [200] * 3
    assert told == ["1"]


async def test_a_client_that_leaves_the_queue_is_never_sent_to_a_worker() -> None:
    holding = Holding()
    async with FakeWorker(holding) as one:
        busy = worker("one", url=one.url, load=WorkerLoad(slots=2))
        with serving_gateway(busy, queue_ahead=0) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
                inside = [asyncio.create_task(chat(client)) for _ in range(2)]
                await one.asked.wait()
                leaving = asyncio.create_task(chat(client))
                await in_flight(client, waiting=1)
                leaving.cancel()
                await in_flight(client, waiting=0)
                holding.release.set()
                await asyncio.gather(*inside)
    assert len(one.seen) == 2


def events(text: str) -> list[str]:
    return [part for part in text.split("\n\n") if part]


async def waiting_stream(*after: Any, **settings: Any) -> httpx.Response:
    """The answer to a stream that asked for events while it waited; `after` is what its worker does."""
    holding = Holding(*after)
    async with FakeWorker(holding) as one:
        busy = worker("one", url=one.url, load=WorkerLoad(slots=2))
        with serving_gateway(busy, queue_ahead=0, **settings) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
                inside = [asyncio.create_task(chat(client, stream=True)) for _ in range(2)]
                while len(one.seen) < 2:  # noqa: ASYNC110  (another loop's)
                    await asyncio.sleep(0.01)
                wanted = {"x-msp-queue-events": "1"}
                asking = asyncio.create_task(chat(client, wanted, stream=True))
                await in_flight(client, waiting=1)
                if not settings:
                    holding.release.set()
                answer = await asking
                holding.release.set()
                await asyncio.gather(*inside)
                return answer


async def test_comments_tell_of_the_queue_before_the_stream_begins() -> None:
    answer = await waiting_stream(streams("Once"))
    comment, *rest = events(answer.text)
    assert comment == ": queued position=1"
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[0].removeprefix("data: "))["choices"][0]["delta"]["content"] == "Once"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("status", [400, 500])
async def test_an_error_after_comments_is_an_event(status: int) -> None:
    answer = await waiting_stream(answers(status, {"error": {"message": "no good"}}))
    _, error, done = events(answer.text)
    assert answer.status_code == 200
    assert json.loads(error.removeprefix("data: "))["error"]["message"] == "no good"
    assert done == "data: [DONE]"


async def test_the_deadline_after_comments_is_an_event() -> None:
    answer = await waiting_stream(queue_deadline_s=0.2)
    *_, error, done = events(answer.text)
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "service_unavailable"
    assert done == "data: [DONE]"


ORIGIN = {"origin": "https://ui.example"}
PREFLIGHT = {
    **ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type",
}


async def test_pages_of_allowed_origins_may_call_every_route_also_when_it_fails() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url), cors_origins="https://ui.example") as gateway:
            async with httpx.AsyncClient(base_url=gateway.url) as client:
                asked_first = await client.options("/v1/chat/completions", headers=PREFLIGHT)
                answer = await chat(client, ORIGIN)
                wrong = await client.post("/v1/chat/completions", content=b"{", headers=ORIGIN)
                models = await client.get("/v1/models", headers=ORIGIN)
                stranger = await client.options(
                    "/v1/chat/completions", headers={**PREFLIGHT, "origin": "https://evil.example"}
                )
    assert asked_first.status_code == 200
    assert "authorization" in asked_first.headers["access-control-allow-headers"]
    for got in (asked_first, answer, wrong, models):
        assert got.headers["access-control-allow-origin"] == "https://ui.example"
    assert (answer.status_code, wrong.status_code) == (200, 400)
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in stranger.headers


async def test_without_the_setting_no_page_may() -> None:
    with serving_gateway() as gateway:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            asked_first = await client.options("/v1/chat/completions", headers=PREFLIGHT)
    assert asked_first.status_code == 405
    assert "access-control-allow-origin" not in asked_first.headers
