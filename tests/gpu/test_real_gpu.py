"""What only a real NVIDIA GPU can show. Run with `./scripts/test.sh gpu`."""

from pathlib import Path

import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.chat.conversation import Conversation, Message, Role, Text
from msp_model_service.engines.chat import GenerationRequest, Sampling
from msp_model_service.engines.generate_chat import GenerateChatEngine
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.gpus.nvml import NvmlReader

pytestmark = pytest.mark.gpu

CHAT_SAMPLE = Path(__file__).resolve().parents[2] / "samples/chat"


@pytest.fixture(autouse=True)
def gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")


def test_nvml_tells_of_the_gpu_that_torch_sees() -> None:
    import torch

    report = NvmlReader().read()
    assert report.gpus, report.reason
    assert report.gpus[0].uuid.startswith("GPU-")
    total = report.gpus[0].memory_total_bytes
    assert total is not None
    assert total >= torch.cuda.get_device_properties(0).total_memory


async def answer(device: str) -> str:
    engine = GenerateChatEngine(EngineOptions(device=device), ModelType.LLM)
    engine.load(CHAT_SAMPLE, lambda phase, share: None)
    try:
        question = Message(Role.USER, (Text("What is the capital of France?"),))
        prompt = await engine.prepare_chat(Conversation((question,)))
        generation = engine.generate(GenerationRequest(prompt, Sampling(temperature=0)))
        try:
            return "".join([event.text async for event in generation])
        finally:
            await generation.aclose()
    finally:
        engine.unload()


async def test_the_gpu_gives_the_answer_that_the_cpu_gives() -> None:
    assert await answer("cuda") == await answer("cpu")
