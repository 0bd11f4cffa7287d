"""The request that shows that a cluster works: as a curl line, and its real answer."""

import asyncio
import json
import shlex
from typing import Any

import httpx

from msp_cli.cluster_file import Cluster, ExampleSpec

TRIES_S = 15.0
"""How long `503, try again` is taken for an answer: the gateway hears of the last worker a moment later."""


class ExampleFailed(Exception):
    """The request was not answered with 200."""


def curl_line(cluster: Cluster, example: ExampleSpec) -> str:
    """The request for a shell."""
    url = f"{cluster.services[example.service].url}{example.path}".replace("127.0.0.1", "localhost")
    body = shlex.quote(json.dumps(example.body, ensure_ascii=False))
    return f"curl -s {url} -H 'Content-Type: application/json' -d {body}"


async def answer(client: httpx.AsyncClient, cluster: Cluster, example: ExampleSpec) -> Any:
    """The decoded answer. Raises ExampleFailed."""
    url = f"{cluster.services[example.service].url}{example.path}"
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + TRIES_S
    while True:
        try:
            got = await client.post(url, json=example.body, timeout=60)
        except httpx.HTTPError as error:
            raise ExampleFailed(f"{url} gave no answer: {str(error) or type(error).__name__}") from None
        if got.status_code == 200:
            return got.json()
        if got.status_code != 503 or loop.time() > give_up_at:
            raise ExampleFailed(f"{url} answered {got.status_code}: {got.text[:500]}")
        await asyncio.sleep(0.2)
