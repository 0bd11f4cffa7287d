"""The gateway as a process of its own, over a service registry that the test tells what to say."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from msp_common.contracts.workers import Worker
from support.gateway_service_registry import FakeServiceRegistry
from support.servers import free_port


@asynccontextmanager
async def gateway_process(
    *workers: Worker,
    port: int = 0,
    trusting: ssl.SSLContext | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A gateway that knows these workers and is healthy; its base URL is https where `trusting` is given."""
    port = port or free_port()
    async with FakeServiceRegistry(*workers) as registry:
        environ = {
            **os.environ,
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "SERVICE_REGISTRY_URL": registry.url,
            **(settings or {}),
        }
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "msp_gateway", env=environ)
        url = f"{'https' if trusting else 'http'}://127.0.0.1:{port}"
        try:
            async with asyncio.timeout(60), httpx.AsyncClient(verify=trusting or True) as client:
                while True:
                    try:
                        if (await client.get(f"{url}/health")).status_code == 200:
                            break
                    except httpx.TransportError:
                        assert process.returncode is None, "the gateway ended"
                    await asyncio.sleep(0.05)
            yield url, process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
