"""Requests that are not let in, or that must wait."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Literal

import httpx

from msp_common.contracts.model_type import ModelType
from msp_common.errors import TooManyRequests, Unauthenticated
from msp_gateway.admission import Ask, Identity, OpenPlace, Place
from msp_gateway.head import Head
from support.fake_worker import FakeWorker
from support.gateway_cluster import LLM, serving_gateway, worker


class OneKey:
    """Knows one key."""

    mode: Literal["off", "on"] = "on"

    def authenticate(self, authorization: str) -> Identity:
        if authorization != "Bearer right":
            raise Unauthenticated("This key is not known.")
        return Identity("someone")


class Gate:
    """Lets requests wait for its opening, or refuses; remembers who came and who is inside."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.came: list[Ask] = []
        self.waiting = 0
        self._refuses = refuses

    def admit(self, ask: Ask) -> Place:
        self.came.append(ask)
        if self._refuses:
            raise TooManyRequests("The queue is full.", retry_after_s=3)
        return WaitsForEver(self)


class WaitsForEver(OpenPlace):
    """A place that is never granted."""

    granted = False

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        gate.waiting += 1

    async def wait(self) -> None:
        await asyncio.Event().wait()

    def __exit__(self, *_: object) -> None:
        self._gate.waiting -= 1


async def test_a_wrong_key_is_refused_before_the_body_is_read() -> None:
    async with FakeWorker() as one, httpx.AsyncClient() as client:
        with serving_gateway(worker("one", url=one.url), authenticator=OneKey()) as gateway:
            url = f"{gateway.url}/v1/chat/completions"
            wrong = await client.post(url, content=b"no JSON", headers={"authorization": "Bearer wrong"})
            right = await client.post(url, json={}, headers={"authorization": "Bearer right"})
            health = (await client.get(f"{gateway.url}/health")).json()
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert wrong.headers["x-request-id"]
    assert right.status_code == 200
    assert health["authentication"] == "on"


async def test_a_full_queue_is_told_with_a_time_to_come_back() -> None:
    gate = Gate(refuses=True)
    async with httpx.AsyncClient() as client:
        with serving_gateway(worker("one"), admission=gate) as gateway:
            answer = await client.post(
                f"{gateway.url}/v1/chat/completions", json={"model": LLM, "stream": True}
            )
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert [(ask.identity, ask.head, ask.model_id) for ask in gate.came] == [
        (Identity("anonymous"), Head(LLM, True), LLM)
    ]


async def test_a_key_is_charged_for_text_however_it_is_sent_and_not_for_the_bytes_of_a_recording() -> None:
    gate = Gate(refuses=True)
    body = json.dumps({"model": LLM, "messages": []}).encode()

    async def in_chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    speech = worker("two", "org/speech", ModelType.TRANSCRIPTION)
    async with httpx.AsyncClient() as client:
        with serving_gateway(worker("one"), speech, admission=gate) as gateway:
            await client.post(f"{gateway.url}/v1/chat/completions", content=body)
            await client.post(f"{gateway.url}/v1/chat/completions", content=in_chunks())
            await client.post(f"{gateway.url}/v1/audio/transcriptions", files={"file": b"RIFF" * 1000})
    assert [ask.body_bytes for ask in gate.came] == [len(body), len(body), 0]


async def test_a_client_that_leaves_while_it_waits_gives_up_its_place() -> None:
    gate = Gate()
    async with httpx.AsyncClient() as client, asyncio.timeout(10):
        with serving_gateway(worker("one"), admission=gate) as gateway:
            asking = asyncio.create_task(client.post(f"{gateway.url}/v1/chat/completions", json={}))
            while not gate.waiting:  # noqa: ASYNC110  (the gateway runs in another thread)
                await asyncio.sleep(0.005)
            asking.cancel()
            while gate.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert len(gate.came) == 1
