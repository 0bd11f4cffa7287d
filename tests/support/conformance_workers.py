"""Workers of every kind, served by a real server, that tell what their engines were asked."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerState
from msp_model_service.app import create_app
from msp_model_service.chat.conversation import Conversation
from msp_model_service.engines.chat import GenerationRequest, PreparedPrompt
from msp_model_service.engines.embedder import VectorForm
from msp_model_service.engines.fake_chat import FakeChatEngine, FakeGeneration
from msp_model_service.engines.fake_embedder import FakeEmbedder
from msp_model_service.engines.fake_transcriber import FakeTranscriber
from msp_model_service.engines.lifecycle import Engine, EngineOptions
from msp_model_service.engines.model_facts import ModelFacts
from msp_model_service.worker import Worker
from support.servers import run_server
from support.worker_fakes import PATIENCE_S, Workbench, plan

_OPTIONS = EngineOptions(device="cpu")
_OF_THE_MOMENT = re.compile(
    r'"(id|created|created_at|completed_at|item_id|call_id)":\s*("[^"]*"|\d+)|0x[0-9a-fA-F]+'
)


class RecordingChat(FakeChatEngine):
    """Remembers what it was asked."""

    def __init__(self, type: ModelType, lacks: Collection[str] = ()) -> None:
        super().__init__(_OPTIONS, type)
        self.asked: list[Any] = []
        self.lacks = lacks

    def capabilities(self) -> Capabilities:
        return super().capabilities().model_copy(update=dict.fromkeys(self.lacks, False))

    async def prepare_chat(self, conversation: Conversation) -> PreparedPrompt:
        self.asked.append(conversation)
        return await super().prepare_chat(conversation)

    async def prepare_text(self, prompt: str | Sequence[int]) -> PreparedPrompt:
        self.asked.append(prompt)
        return await super().prepare_text(prompt)

    def generate(self, request: GenerationRequest) -> FakeGeneration:
        self.asked.append(request)
        return super().generate(request)


class RecordingTranscriber(FakeTranscriber):
    """Under the name by which the others tell what they were asked."""

    remembered = 1_000_000

    @property
    def asked(self) -> list[Any]:
        return list(self.requests)


class MatryoshkaEmbedder(FakeEmbedder):
    """Says that its vectors may be cut."""

    def form(self) -> VectorForm:
        return VectorForm(dimensions=64, sizes=(32, 64), unit=True)

    def model_facts(self) -> ModelFacts:
        return ModelFacts(shortens=True)


@dataclass
class Outcome:
    """What came of a request."""

    status: int
    answer: str
    """Without what differs from one answer to the next."""
    asked: str
    """What the engine was asked for it, likewise."""
    said: str
    """Of the answer, what is not the request told back."""
    error: Mapping[str, Any]


@dataclass
class Served:
    """A worker that is ready."""

    engine: Engine
    http: httpx.Client

    def card(self) -> dict[str, Any]:
        card: dict[str, Any] = self.http.get("/v1/models").json()["data"][0]["conformance"]
        return card

    def send(self, path: str, body: Mapping[str, Any]) -> Outcome:
        """As JSON, or as a form where there is a recording in it."""
        memory = getattr(self.engine, "asked", [])
        before = len(memory)
        if path.startswith("/v1/audio"):
            file = body.get("file")
            fields = {name: _as_form(value) for name, value in body.items() if not isinstance(value, bytes)}
            files = {"file": ("a.wav", file)} if isinstance(file, bytes) else {"other": ("b", b"")}
            answer = self.http.post(path, data=fields, files=files)
        else:
            answer = self.http.post(path, json=body)
        asked = list(getattr(self.engine, "asked", []))[before:]
        error = answer.json()["error"] if answer.status_code != 200 else {}
        whole = path == "/v1/responses" and answer.headers["content-type"] == "application/json"
        said = json.dumps(answer.json().get("output")) if whole else answer.text
        return Outcome(
            answer.status_code, _lasting(answer.text), _lasting(repr(asked)), _lasting(said), error
        )


def _as_form(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _lasting(text: str) -> str:
    return _OF_THE_MOMENT.sub("", text)


def chat() -> tuple[Engine, ModelType]:
    """All that a chat engine can have."""
    return RecordingChat(ModelType.MULTIMODAL), ModelType.MULTIMODAL


def plain_chat() -> tuple[Engine, ModelType]:
    """A text model whose template and tokenizer allow nothing special."""
    return RecordingChat(ModelType.LLM, ("tools", "json_schema")), ModelType.LLM


def plain_formless_chat() -> tuple[Engine, ModelType]:
    """A text model whose template knows tools, and whose tokenizer allows no grammars."""
    return RecordingChat(ModelType.LLM, ("json_schema",)), ModelType.LLM


def embedding() -> tuple[Engine, ModelType]:
    return FakeEmbedder(_OPTIONS), ModelType.EMBEDDING


def matryoshka() -> tuple[Engine, ModelType]:
    return MatryoshkaEmbedder(_OPTIONS), ModelType.EMBEDDING


def transcription() -> tuple[Engine, ModelType]:
    return RecordingTranscriber(_OPTIONS), ModelType.TRANSCRIPTION


@contextmanager
def serving(folder: Path, make: Callable[[], tuple[Engine, ModelType]]) -> Iterator[Served]:
    """The worker's whole application around an engine that loads from `folder`."""
    engine, type = make()
    settled = threading.Event()
    watching: list[asyncio.Task[None]] = []
    bench = Workbench(folder, engine=engine, plan=plan(type))

    async def settle() -> None:
        await bench.office.until(lambda lease: lease.state in (WorkerState.READY, WorkerState.FAILED))
        settled.set()

    def watch(worker: Worker) -> None:
        watching.append(asyncio.create_task(settle()))

    app = create_app(bench.worker, max_body_bytes=1 << 20, gpus=bench.monitor.latest, on_started=watch)
    with run_server(app) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert settled.wait(6 * PATIENCE_S)
        assert bench.worker.status.state is WorkerState.READY, bench.worker.status
        yield Served(engine, http)
