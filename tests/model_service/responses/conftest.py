"""Real servers with `/v1/responses` in front of an engine."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.chat import ChatEngine
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.slot.slot_chat import SlotChatEngine, SlotTuning
from support.chat_fakes import chat_app, fake_engine
from support.servers import run_server

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
UrlFor = Callable[..., str]


@pytest.fixture(scope="session")
def url_for() -> Iterator[UrlFor]:
    """The address of a worker with the given engine."""
    with ExitStack() as stack:

        def make(engine: ChatEngine | None = None, type: ModelType = ModelType.LLM) -> str:
            return stack.enter_context(run_server(chat_app(engine or fake_engine(type), type)))

        yield make


@pytest.fixture(scope="session")
def url(url_for: UrlFor) -> str:
    """A text model that is not there."""
    return url_for()


@pytest.fixture(scope="session")
def sample_url(url_for: UrlFor) -> Iterator[str]:
    """The trained sample that chats, batched."""
    engine = SlotChatEngine(EngineOptions(device="cpu"), ModelType.LLM, SlotTuning(kv_tokens=16384))
    engine.load(SAMPLES / "chat", lambda phase, done: None)
    yield url_for(engine)
    engine.unload()


@pytest.fixture(scope="session")
def sample(sample_url: str) -> Iterator[openai.OpenAI]:
    """The official client of the trained sample."""
    with openai.OpenAI(base_url=f"{sample_url}/v1", api_key="none", max_retries=0) as client:
        yield client
