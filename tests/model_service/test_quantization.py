"""Weights in few bits: the samples still mean the same, take less memory, and mistakes are told."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Qwen2Config

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerState
from msp_model_service.app import create_app
from msp_model_service.engines import chat_model
from msp_model_service.engines.chat import ChatEngine
from msp_model_service.engines.generate_chat import GenerateChatEngine
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions, Quantization
from msp_model_service.engines.packed_linear import PackedLinear
from msp_model_service.engines.quantization import check_took, is_installed, loading, weight_bytes
from msp_model_service.engines.slot.auto_chat import AutoChatEngine
from msp_model_service.engines.slot.slot_chat import SlotChatEngine, SlotTuning
from support import chat_talk
from support.worker_fakes import GatedEngine, Workbench

SAMPLES = Path(__file__).parents[2] / "samples"
FACTS = {
    "What is the capital of France?": "The capital of France is Paris.",
    "How many days are in a week?": "A week has seven days.",
    "Repeat after me: Hugo Oxford": "Hugo Oxford",
    "What is the capital of Atlantis?": "I do not know that.",
}
CPU = torch.device("cpu")
KINDS: tuple[Quantization, ...] = ("bnb-8bit", "bnb-4bit")


def quiet(phase: str, done: float | None) -> None:
    pass


async def answer(engine: ChatEngine, words: str, *pictures: Image.Image) -> str:
    prompt = await engine.prepare_chat(chat_talk.talk(words, *pictures))
    return chat_talk.text(await chat_talk.events(engine, prompt, max_tokens=40))


@pytest.fixture(scope="module", params=KINDS)
def quantised(request: pytest.FixtureRequest) -> Iterator[SlotChatEngine]:
    options = EngineOptions(device="cpu", quantization=request.param)
    tuning = SlotTuning(kv_tokens=32 * 512, max_rows=16, cpu_dtype=lambda config: torch.float32)
    engine = SlotChatEngine(options, ModelType.LLM, tuning)
    engine.load(SAMPLES / "chat", quiet)
    yield engine
    engine.unload()


async def test_facts_one_after_another(quantised: SlotChatEngine) -> None:
    assert {words: await answer(quantised, words) for words in FACTS} == FACTS


async def test_facts_sixteen_at_once(quantised: SlotChatEngine) -> None:
    asked = list(FACTS) * 4
    said = await asyncio.gather(*(answer(quantised, words) for words in asked))
    assert said == [FACTS[words] for words in asked]


def test_the_engine_tells_how_it_holds_the_weights(quantised: SlotChatEngine) -> None:
    assert quantised.capabilities().quantization == quantised._options.quantization


def test_quantised_layers_are_not_packed_and_the_output_layer_is(quantised: SlotChatEngine) -> None:
    model = quantised._ready().loaded.model
    assert [name for name, module in model.named_modules() if isinstance(module, PackedLinear)] == ["lm_head"]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_plain_engine_takes_them_too(kind: Quantization) -> None:
    engine = GenerateChatEngine(EngineOptions(device="cpu", quantization=kind), ModelType.LLM)
    engine.load(SAMPLES / "chat", quiet)
    assert engine.capabilities().quantization == kind
    assert await answer(engine, "How many days are in a week?") == "A week has seven days."
    engine.unload()


async def test_pictures_are_still_seen_in_four_bits() -> None:
    engine = AutoChatEngine(EngineOptions(device="cpu", quantization="bnb-4bit"), ModelType.MULTIMODAL)
    engine.load(SAMPLES / "vision", quiet)
    assert (engine.name, engine.capabilities().quantization) == ("slot", "bnb-4bit")
    picture = Image.open(SAMPLES / "images" / "red-circle.png").convert("RGB")
    said = await answer(engine, "What is in the picture?", picture)
    assert "red" in said
    assert "circle" in said
    engine.unload()


def size_of(kind: Quantization) -> float:
    options = EngineOptions(device="cpu", quantization=kind)
    loaded = chat_model.load(SAMPLES / "chat", ModelType.LLM, options, quiet)
    assert loaded.quantization == (None if kind == "none" else kind)
    assert loaded.forms is not None
    loaded.forms.close()
    return weight_bytes(loaded.model)


def test_the_weights_take_less_memory() -> None:
    """Of the layers' float32 a quarter is left, and a seventh with the scales of blocks of 64."""
    embeddings = 1461 * 128 * 4  # stay in full
    full, eight, four = (size_of(kind) - embeddings for kind in ("none", *KINDS))
    assert 0.2 < eight / full < 0.27
    assert 0.13 < four / full < 0.16


@pytest.fixture(scope="module", params=KINDS)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as a repository that somebody quantised before."""
    eight = request.param == "bnb-8bit"
    how = BitsAndBytesConfig(load_in_8bit=eight, load_in_4bit=not eight, bnb_4bit_quant_type="nf4")
    folder = Path(tmp_path_factory.mktemp(str(request.param)))
    model = AutoModelForCausalLM.from_pretrained(SAMPLES / "chat", quantization_config=how, device_map="cpu")
    shutil.copytree(SAMPLES / "chat", folder, dirs_exist_ok=True)
    model.save_pretrained(folder)
    return folder


async def test_what_is_stored_quantised_is_served_as_it_is(stored: Path) -> None:
    engine = SlotChatEngine(EngineOptions(device="cpu"), ModelType.LLM, SlotTuning(kv_tokens=32 * 512))
    engine.load(stored, quiet)
    name = engine.capabilities().quantization
    assert name is not None
    assert stored.name.startswith(name)
    said = await asyncio.gather(*(answer(engine, words) for words in FACTS))
    assert dict(zip(FACTS, said, strict=True)) == FACTS
    engine.unload()


def test_quantising_what_is_stored_quantised_is_refused(stored: Path) -> None:
    engine = AutoChatEngine(EngineOptions(device="cpu", quantization="bnb-4bit"), ModelType.LLM)
    with pytest.raises(EngineLoadFailed, match=r"QUANTIZATION is bnb-4bit, but .* quantised already \(bnb-"):
        engine.load(stored, quiet)
    engine.unload()


def stored_in_eight_bit_floats(folder: Path) -> Path:
    """The sample in the form of the published FP8 repositories: a scale for each block of 128 x 128."""
    shutil.copytree(SAMPLES / "chat", folder, dirs_exist_ok=True)
    made = load_file(folder / "model.safetensors")
    for name in [name for name in made if "_proj.weight" in name]:
        rows, columns = made[name].shape
        full = torch.zeros(-(-rows // 128) * 128, -(-columns // 128) * 128)
        full[:rows, :columns] = made[name]
        blocks = full.reshape(full.shape[0] // 128, 128, -1, 128)
        scales = blocks.abs().amax(dim=(1, 3), keepdim=True) / torch.finfo(torch.float8_e4m3fn).max
        packed = (blocks / scales).flatten(2, 3).flatten(0, 1)[:rows, :columns]
        made[name] = packed.to(torch.float8_e4m3fn).contiguous()
        made[f"{name}_scale_inv"] = scales[:, 0, :, 0].contiguous()
    save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
    say_quantised(folder, {"quant_method": "fp8", "weight_block_size": [128, 128]})
    return folder


def say_quantised(folder: Path, how: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": how}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes with them")
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
async def test_what_this_device_cannot_compute_with_is_unpacked(tmp_path: Path, compute: torch.dtype) -> None:
    engine = SlotChatEngine(
        EngineOptions(device="cpu"),
        ModelType.LLM,
        SlotTuning(kv_tokens=4096, cpu_dtype=lambda config: compute),
    )
    engine.load(stored_in_eight_bit_floats(tmp_path), quiet)
    assert engine.capabilities().quantization is None
    assert engine._ready().loaded.model.dtype is compute
    assert await answer(engine, "How many days are in a week?") == "A week has seven days."
    engine.unload()


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq-4bit"),
        ({"quant_method": "awq", "bits": 4}, "awq-4bit"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-4bit"),
        ({"load_in_8bit": True}, "bnb-8bit"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8}, "input_activations": None}},
            },
            "compressed-tensors-8bit",
        ),
    ],
)
def test_what_is_stored_is_called_by_its_name(said: dict[str, Any], name: str) -> None:
    config = Qwen2Config(quantization_config=said)
    assert loading(config, "none", CPU, torch.float32, installed=lambda module: True).name == name


@pytest.mark.parametrize(
    ("said", "missing", "told"),
    [
        (
            {"quant_method": "gptq", "bits": 4},
            {"gptqmodel", "optimum"},
            r"\(gptq-4bit\).* gptqmodel and optimum,",
        ),
        ({"quant_method": "compressed-tensors"}, {"compressed_tensors"}, " compressed-tensors,"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, {"bitsandbytes"}, " bitsandbytes,"),
        ({"quant_method": "sorcery"}, set(), "'sorcery'.*does not know"),
        ({"bits": 4}, set(), "'unknown'"),
    ],
)
def test_a_missing_library_is_named(said: dict[str, Any], missing: set[str], told: str) -> None:
    config = Qwen2Config(quantization_config=said)
    with pytest.raises(EngineLoadFailed, match=told):
        loading(config, "none", CPU, torch.float32, installed=lambda module: module not in missing)


def test_a_wish_without_its_library_is_refused() -> None:
    with pytest.raises(EngineLoadFailed, match=r"QUANTIZATION=bnb-8bit.*bitsandbytes"):
        loading(
            Qwen2Config(), "bnb-8bit", CPU, torch.float32, installed=lambda module: module == "accelerate"
        )


def test_what_this_environment_has_is_found_out_without_importing() -> None:
    assert is_installed("bitsandbytes")
    assert not is_installed("no_such_module")
    assert not is_installed("no_such_package.module")


def test_a_repository_that_needs_an_absent_library_fails_to_load_with_its_name(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "chat", tmp_path, dirs_exist_ok=True)
    say_quantised(tmp_path, {"quant_method": "aqlm"})
    engine = AutoChatEngine(EngineOptions(device="cpu"), ModelType.LLM)
    with pytest.raises(EngineLoadFailed, match="loading needs aqlm, not installed here"):
        engine.load(tmp_path, quiet)
    engine.unload()


class Small(GatedEngine):
    def capabilities(self) -> Capabilities:
        return Capabilities(quantization="bnb-4bit")


async def test_health_tells_how_the_weights_are_held(tmp_path: Path) -> None:
    async with Workbench(tmp_path, engine=Small().open_all()) as bench:
        app = create_app(bench.worker, max_body_bytes=10_000, gpus=bench.monitor.latest)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
            ready = await bench.office.until(lambda lease: lease.state is WorkerState.READY)
            assert ready.capabilities.quantization == "bnb-4bit"
            assert (await http.get("/health")).json()["quantization"] == "bnb-4bit"


def test_a_model_without_layers_to_quantise_is_told() -> None:
    with pytest.raises(EngineLoadFailed, match="no layer that bitsandbytes can quantise"):
        check_took(torch.nn.Sequential(torch.nn.Linear(4, 4)), "bnb-4bit")
    check_took(torch.nn.Sequential(torch.nn.Linear(4, 4)), "none")
