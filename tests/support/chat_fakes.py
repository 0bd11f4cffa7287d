"""A chat worker's routes around a given engine, and what tests send to them."""

import asyncio
import base64
import io
import threading
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from PIL import Image
from prometheus_client import CollectorRegistry

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import ServedModel
from msp_common.http_app import new_app
from msp_model_service.chat.images import ImageLimits
from msp_model_service.engines.chat import ChatEngine
from msp_model_service.engines.fake_chat import FakeChatEngine
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.routes import chat, completions, responses
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.conversing import Conversing

MODEL = "org/model"


class RecordingUsage:
    """Remembers what every request used."""

    def __init__(self) -> None:
        self.tokens: list[tuple[int, int]] = []

    def observe_tokens(self, prompt: int, completion: int) -> None:
        self.tokens.append((prompt, completion))

    def observe_audio(self, seconds: float) -> None:
        raise AssertionError("a chat route heard sound")


class Gate:
    """Lets a fake engine make tokens only while it is open; remembers how many were asked for."""

    def __init__(self, *, closed: bool = False) -> None:
        self.asked = 0
        self.fail_at: int | None = None
        self._open = threading.Event()
        if not closed:
            self.open()

    def open(self) -> None:
        """Let all through from now on. From any thread."""
        self._open.set()

    async def before_token(self, index: int) -> None:
        self.asked += 1
        if self.fail_at is not None and index >= self.fail_at:
            raise RuntimeError("the engine broke, as told")
        while not self._open.is_set():
            await asyncio.to_thread(self._open.wait, 0.01)


def fake_engine(type: ModelType = ModelType.LLM, *, max_queued: int = 64, **options: Any) -> FakeChatEngine:
    engine = FakeChatEngine(EngineOptions(max_queued=max_queued), type, **options)
    engine.load(Path(), lambda phase, done: None)
    return engine


def chat_app(
    engine: ChatEngine,
    type: ModelType = ModelType.LLM,
    usage: RecordingUsage | None = None,
    limits: ImageLimits | None = None,
) -> FastAPI:
    model = ServedModel(id=MODEL, type=type, aliases=["nick"])
    context: RouteContext[ChatEngine] = RouteContext(
        lambda: engine, lambda: model, 2**26, usage or RecordingUsage()
    )
    app = new_app("test", "test", metrics=CollectorRegistry(), max_body_bytes=64 << 20)
    talk = Conversing(context, limits or ImageLimits())
    for routes in (chat.router(talk), completions.router(context), responses.router(talk)):
        app.include_router(routes)
    return app


def image_bytes(size: tuple[int, int] = (20, 10), color: str = "red", form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, form)
    return file.getvalue()


def data_uri(data: bytes | None = None, label: str = "image/png") -> str:
    return f"data:{label};base64,{base64.b64encode(data or image_bytes()).decode()}"


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def image_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    },
}
