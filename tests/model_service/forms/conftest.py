"""The trained sample behind each engine that chooses tokens itself, and its tokenizer."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from transformers import AutoTokenizer

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.catalogue import engine_maker
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.llguidance_grammar import LlForms
from support.chat_fakes import chat_app
from support.grammars import END, SAMPLE, SIZE
from support.servers import run_server


@pytest.fixture(scope="session", params=["generate", "slot"])
def sample(request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    """An official client of the sample."""
    options = EngineOptions(device="cpu", max_queued=64)
    engine: Any = engine_maker(request.param, ModelType.LLM, options)()
    engine.load(SAMPLE, lambda phase, done: None)
    with (
        run_server(chat_app(engine)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client
    engine.unload()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(SAMPLE, local_files_only=True)


@pytest.fixture(scope="session")
def forms(tokenizer: Any) -> Iterator[LlForms]:
    made = LlForms(tokenizer, vocabulary_size=SIZE, end_ids=frozenset({END, 1457}))
    yield made
    made.close()
