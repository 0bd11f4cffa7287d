"""The plan counts as the workers will: with what .env says to them, and with their own defaults."""

from pathlib import Path

import pytest

from msp_cli.plan.choices import BadChoice
from msp_cli.plan.memory import GPU_MEMORY_FRACTION, GRAIN, KV_SHARE, need, room
from msp_cli.plan.placement import Rules, Wanted, place
from msp_cli.plan.worker_settings import WorkerSettings, read_settings
from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.slot import kv_budget
from msp_model_service.engines.slot.scheduler import GRAIN as WORKERS_GRAIN
from support.cli_plan import QWEN, gpu, qwen, tinyllama
from support.cli_registry import COMMIT, FILE, INFO, MANIFEST, Served

GIB = 2**30


def test_without_a_word_they_are_the_workers_own_defaults() -> None:
    assert read_settings({"KV_MEMORY_FRACTION": "", "MAX_RUNNING": ""}) == WorkerSettings()
    assert kv_budget.GPU_SHARE == KV_SHARE
    assert EngineOptions().gpu_memory_fraction == GPU_MEMORY_FRACTION
    assert WORKERS_GRAIN == GRAIN


def test_what_env_says_to_workers_is_read() -> None:
    env = {
        "GPU_MEMORY_FRACTION": "0.5",
        "KV_MEMORY_FRACTION": "0.6",
        "MAX_RUNNING": "8",
        "PREFILL_TOKENS": "512",
        "QUANTIZATION": "bnb-4bit",
    }
    assert read_settings(env) == WorkerSettings(0.5, 0.6, 8, 512, "bnb-4bit")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GPU_MEMORY_FRACTION", "90%"),
        ("GPU_MEMORY_FRACTION", "1.5"),
        ("KV_MEMORY_FRACTION", "1"),
        ("KV_MEMORY_FRACTION", "0"),
        ("MAX_RUNNING", "0"),
        ("MAX_RUNNING", "many"),
        ("PREFILL_TOKENS", "8"),
        ("QUANTIZATION", "4bit"),
    ],
)
def test_what_a_worker_would_refuse_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadChoice, match=rf"\.env: {name} is '{value}'"):
        read_settings({name: value})


def test_the_share_for_keys_and_values_makes_the_budget_and_the_least_gpu() -> None:
    its_need = need(tinyllama(), ModelType.LLM, "none", 2048)
    half = room(its_need, 10 * GIB, 0.4)
    assert half.kv_bytes == int(0.4 * (10 * GIB - its_need.weights))
    assert its_need.least(0.01) > 2 * its_need.least(0.8)
    small = its_need.least(0.8) / GIB + 0.7  # and the context of CUDA
    wanted = [Wanted("llm-primary", tinyllama(), ModelType.LLM)]
    assert place(wanted, [gpu(0, small)], Rules(2048)).placed
    (refused,) = place(wanted, [gpu(0, small)], Rules(2048, kv_share=0.01)).refused
    assert refused.needs == its_need.least(0.01)


def test_requests_at_once_and_tokens_of_a_pass_change_what_computing_takes() -> None:
    def planned(**settings: int) -> tuple[int, int]:
        rules = Rules(4096, **settings)
        (placed,) = place([Wanted("llm-primary", qwen(), ModelType.LLM)], [gpu(0, 24)], rules).placed
        return placed.need.activations, placed.room.rows

    usual, rows = planned()
    assert rows == 64
    assert planned(max_rows=4)[1] == 4
    assert planned(prefill_tokens=8192)[0] > usual > planned(prefill_tokens=256, max_rows=4)[0]


@pytest.fixture
def served_qwen(served: Served) -> Served:
    """The registry holds a model of half a billion parameters."""
    files = [FILE, {**FILE, "path": "config.json"}]
    manifest = {**MANIFEST, "files": files, "parameters": 494_032_768, "dtype": "BF16"}
    served.fake.answers["GET", "/models/acme/chat"] = (200, {**INFO, "manifest": manifest})
    served.fake.answers["GET", f"/acme/chat/resolve/{COMMIT}/config.json"] = (200, QWEN)
    return served


def test_the_command_counts_with_all_of_them(served_qwen: Served, tmp_path: Path) -> None:
    (tmp_path / "gpus.csv").write_text("0, GPU-aaaa, NVIDIA L4, 23034, 4\n")
    command = ("plan", "acme/chat", "--gpus", str(tmp_path / "gpus.csv"), "--root", str(tmp_path))
    (usual,) = served_qwen.json(*command)["workers"]
    env = tmp_path / ".env"
    env.write_text("KV_MEMORY_FRACTION=0.4\nMAX_RUNNING=7\nPREFILL_TOKENS=4096\n")
    (told,) = served_qwen.json(*command)["workers"]
    assert told["kv_budget_bytes"] == usual["kv_budget_bytes"] // 2
    assert told["concurrent_requests"] == 7
    assert told["activations_bytes"] > usual["activations_bytes"]
    env.write_text("QUANTIZATION=bnb-4bit\n")
    (told,) = served_qwen.json(*command)["workers"]
    assert (told["quantization"], told["weights_bytes"] < usual["weights_bytes"]) == ("bnb-4bit", True)
    refusal = served_qwen.msp(*command, "--quantization", "acme/chat=none", code=2)
    assert ".env has QUANTIZATION=bnb-4bit for all" in refusal
    env.write_text("KV_MEMORY_FRACTION=most\n")
    assert "KV_MEMORY_FRACTION is 'most'" in served_qwen.msp(*command, code=2)
