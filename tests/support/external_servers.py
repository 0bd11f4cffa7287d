"""External engines over the fake server, and a worker's application around them."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import WorkerState
from msp_model_service.app import create_app
from msp_model_service.engines.external.openai_engine import OpenAiEngine
from msp_model_service.engines.external.server_plan import Pace, ServerPlan
from support.worker_fakes import PATIENCE_S, Workbench, plan

SERVER = Path(__file__).with_name("fake_openai_server.py")
FAST = Pace(look_every_s=0.05, unhealthy_after_s=0.2, answer_within_s=5, stop_within_s=3)


def fake_plan(memory: Path | None = None, *faults: str, **changes: Any) -> ServerPlan:
    """A plan that starts the fake server, which remembers into `memory`."""
    remembered = ("--memory", str(memory)) if memory else ()
    command = (sys.executable, str(SERVER), "--port", "{port}", *remembered, *faults)
    return replace(ServerPlan("org/model", command, pace=FAST, start_timeout_s=30), **changes)


def memories(memory: Path) -> list[dict[str, Any]]:
    """What the fake server saw, in order."""
    return [json.loads(line) for line in memory.read_text().splitlines()] if memory.exists() else []


def wait_until(happened: Callable[[], object]) -> None:
    """For what another process does."""
    until = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


async def until(happened: Callable[[], object]) -> None:
    """The same on an event loop."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():  # noqa: ASYNC110 - another process, which sets no events
            await asyncio.sleep(0.01)


@dataclass
class Serving:
    """A worker whose external server is ready."""

    bench: Workbench
    engine: OpenAiEngine
    http: httpx.AsyncClient
    memory: Path
    app: Any

    def asked(self) -> list[dict[str, Any]]:
        """The requests that the server was sent."""
        return [one for one in memories(self.memory) if "path" in one]

    def saw(self, name: str) -> bool:
        """Whether the server remembers such a thing."""
        return any(name in one for one in memories(self.memory))


@asynccontextmanager
async def serving(
    folder: Path, *faults: str, type: ModelType = ModelType.LLM, **changes: Any
) -> AsyncIterator[Serving]:
    """A worker with the fake server behind it, asked in the same process."""
    memory = folder / "memory"
    engine = OpenAiEngine(fake_plan(memory, *faults, **changes), type)
    bench = Workbench(folder, engine=engine, plan=plan(type, speaks_wire=True))
    app = create_app(bench.worker, max_body_bytes=1_000_000, gpus=bench.monitor.latest)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with bench, httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        lease = await bench.office.until(lambda lease: lease.state in (WorkerState.READY, WorkerState.FAILED))
        assert lease.state is WorkerState.READY, lease.reason
        yield Serving(bench, engine, http, memory, app)


def say(text: str, **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "org/model", "messages": [{"role": "user", "content": text}], **more}


def without_life(app: Any) -> Any:
    """The same routes for a real server, without the life of the worker, which goes on elsewhere."""

    async def routes(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        await app(scope, receive, send)

    return routes
