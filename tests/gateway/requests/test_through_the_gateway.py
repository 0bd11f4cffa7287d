"""`GET /requests` of a whole gateway: what a developer and an operator are told of requests."""

from msp_common.contracts.workers import WorkerLoad
from support.fake_worker import FakeWorker, answers, resets
from support.gateway_clients import CHAT, get, post
from support.gateway_cluster import LLM, serving_gateway, worker

REFUSAL = {"message": "Too long.", "type": "x", "param": "messages", "code": "context_length_exceeded"}


async def test_a_failed_over_request_is_explained_by_its_id() -> None:
    async with FakeWorker(resets) as one, FakeWorker() as two:
        workers = worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        with serving_gateway(*workers) as gateway:
            answer = await post(gateway, CHAT)
            told = (await get(gateway, f"/requests/{answer.headers['x-request-id']}")).json()
    assert [candidate["worker"] for candidate in told["candidates"]] == ["one", "two"]
    assert [(t["worker"], t["what"], t["fault"]) for t in told["tries"]] == [
        ("one", "reset", "worker"),
        ("two", "answered", None),
    ]
    assert (told["status"], told["complete"], told["model"], told["under_way"]) == (200, True, LLM, False)
    assert told["waited_s"] is not None


async def test_a_refused_request_is_explained_by_its_error() -> None:
    async with FakeWorker(answers(400, {"error": REFUSAL})) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            refused = await post(gateway, CHAT)
            unknown = await post(gateway, {**CHAT, "model": "nobody/has-it"})
            listed = (await get(gateway, "/requests")).json()["requests"]
    assert [request["request_id"] for request in listed] == [
        unknown.headers["x-request-id"],
        refused.headers["x-request-id"],
    ]
    assert [request["error"] for request in listed] == ["model_not_found", "context_length_exceeded"]


async def test_with_an_operator_strangers_read_nothing() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url), admin_token="operator-token") as gateway:
            await post(gateway, CHAT)
            told = await get(gateway, "/requests", authorization="Bearer operator-token")
            assert [request["key"] for request in told.json()["requests"]] == ["anonymous"]
            assert (await get(gateway, "/requests")).status_code == 401
