"""How tests ask a gateway: as a plain HTTP client, and as the official one."""

import asyncio

import httpx
from openai import AsyncOpenAI

from support.gateway_cluster import LLM, Cluster

CHAT = {"model": LLM, "messages": [{"role": "user", "content": "Hello!"}]}


def openai_client(gateway: Cluster) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-secret", max_retries=0)


async def post(gateway: Cluster, body: object) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as client:
        return await client.post(f"{gateway.url}/v1/chat/completions", json=body)


async def get(gateway: Cluster, path: str, **fields: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as client:
        return await client.get(f"{gateway.url}{path}", headers=fields)


async def said(client: AsyncOpenAI, words: list[str]) -> list[str]:
    """Fill `words` with a stream's deltas, so that they are there even when the stream breaks."""
    stream = await client.chat.completions.create(**CHAT, stream=True)  # type: ignore[call-overload]
    async for chunk in stream:
        if text := chunk.choices[0].delta.content:
            words.append(text)
    return words


async def settled_metrics(gateway: Cluster) -> str:
    """The metrics once no request is in flight."""
    async with httpx.AsyncClient() as client, asyncio.timeout(10):
        while True:
            page = (await client.get(f"{gateway.url}/metrics")).text
            if 'in_flight{path="/v1/chat/completions"} 0.0' in page:
                return page
