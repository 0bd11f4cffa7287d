"""A real server with the fake engine behind it, and the official client."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import openai
import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.fake_chat import FakeChatEngine
from support.chat_fakes import chat_app, fake_engine
from support.servers import run_server

ClientFor = Callable[..., openai.OpenAI]


@pytest.fixture(scope="session")
def client_for() -> Iterator[ClientFor]:
    """An OpenAI client of a worker with the given engine."""
    with ExitStack() as stack:

        def make(engine: FakeChatEngine | None = None, type: ModelType = ModelType.LLM) -> openai.OpenAI:
            url = stack.enter_context(run_server(chat_app(engine or fake_engine(type), type)))
            client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
            return stack.enter_context(client)

        yield make


@pytest.fixture(scope="session")
def client(client_for: ClientFor) -> openai.OpenAI:
    """A client of a text model."""
    return client_for()
