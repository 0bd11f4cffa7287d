"""How engines are tuned: what is malformed, impossible or without effect is refused at the start."""

import pytest

from msp_common.settings import SettingsError
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.settings import WorkerSettings

TOLD = {"MODEL_NAME": "org/model", "MODEL_TYPE": "llm"}
TUNING = {
    "QUANTIZATION": "bnb-4bit",
    "MAX_RUNNING": "12",
    "PREFILL_TOKENS": "512",
    "QUEUE_DEADLINE_S": "30.5",
    "KV_MEMORY_FRACTION": "0.5",
    "CUDA_GRAPHS": "auto",
}


@pytest.mark.parametrize("type", ["llm", "multimodal"])
@pytest.mark.parametrize("engine", ["auto", "slot"])
def test_what_is_told_reaches_the_engine(type: str, engine: str) -> None:
    told = {
        **TOLD,
        **TUNING,
        "MODEL_TYPE": type,
        "ENGINE": engine,
        "WORKERS_PER_HOST": "3",
        "MAX_QUEUED": "7",
    }
    assert WorkerSettings.load(told).engine_options(threads=2) == EngineOptions(
        threads=2,
        max_queued=7,
        max_running=12,
        prefill_tokens=512,
        queue_deadline_s=30.5,
        kv_memory_fraction=0.5,
        cuda_graphs="auto",
        workers_per_host=3,
        quantization="bnb-4bit",
    )


def test_what_is_not_told_is_left_to_the_engine() -> None:
    assert WorkerSettings.load(TOLD).engine_options(threads=1) == EngineOptions()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUANTIZATION", "int4"),
        ("QUANTIZATION", "4"),
        ("MAX_RUNNING", "0"),
        ("MAX_RUNNING", "2000"),
        ("MAX_RUNNING", "many"),
        ("PREFILL_TOKENS", "1"),
        ("QUEUE_DEADLINE_S", "0"),
        ("KV_MEMORY_FRACTION", "0"),
        ("KV_MEMORY_FRACTION", "1"),
        ("KV_MEMORY_FRACTION", "30%"),
        ("CUDA_GRAPHS", "on"),
        ("WORKERS_PER_HOST", "0"),
    ],
)
def test_a_malformed_or_impossible_value_is_refused_by_its_variables_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: "):
        WorkerSettings.load({**TOLD, name: value})


@pytest.mark.parametrize("name", TUNING)
@pytest.mark.parametrize("type", ["embedding", "transcription"])
def test_what_has_no_effect_on_a_type_is_refused(name: str, type: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is for models of type llm and multimodal.*{type}"):
        WorkerSettings.load({**TOLD, "MODEL_TYPE": type, name: TUNING[name]})


@pytest.mark.parametrize("name", TUNING)
@pytest.mark.parametrize("engine", ["generate", "fake", "openai"])
def test_what_has_no_effect_on_an_engine_is_refused(name: str, engine: str) -> None:
    told = {**TOLD, "ENGINE": engine, name: TUNING[name]}
    if engine == "openai":
        told["ENGINE_COMMAND"] = "vllm serve {model_dir}"
    if (name, engine) == ("QUANTIZATION", "generate"):
        assert WorkerSettings.load(told).quantization == "bnb-4bit"
        return
    with pytest.raises(SettingsError, match=f"{name} is for ENGINE=auto, slot.*ENGINE is {engine}"):
        WorkerSettings.load(told)


def test_none_and_empty_are_no_wish() -> None:
    told = {
        **TOLD,
        "MODEL_TYPE": "embedding",
        "QUANTIZATION": "none",
        "MAX_RUNNING": "",
        "PREFILL_TOKENS": "",
    }
    assert WorkerSettings.load(told).quantization == "none"


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("QUANTISATION", "QUANTIZATION"),
        ("PREFILL_TOKEN", "PREFILL_TOKENS"),
        ("QUEUE_DEADLINE", "QUEUE_DEADLINE_S"),
        ("KV_MEMORY_FRACTOIN", "KV_MEMORY_FRACTION"),
        ("MAX_RUNNNIG", "MAX_RUNNING"),
        ("CUDA_GRAPH", "CUDA_GRAPHS"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_near_one(typo: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"{typo}: no such setting; did you mean {meant}"):
        WorkerSettings.load({**TOLD, typo: "1"})
