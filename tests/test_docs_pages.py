"""The GPU guide's examples are what the planner says, and its compose examples what workers understand."""

import json
import math
import os
import re
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from msp_cli.plan.folder_facts import folder_facts
from msp_cli.plan.inventory import PlanGpu
from msp_cli.plan.memory import QUANTIZATIONS, need, room, usable_bytes
from msp_common.contracts.model_type import ModelType
from msp_model_service.settings import WorkerSettings

REPOSITORY = Path(__file__).resolve().parents[1]
GUIDE = (REPOSITORY / "docs/GPU-CLUSTER-GUIDE.md").read_text()
COLUMNS = 124


@dataclass(frozen=True)
class Shape:
    """What a Llama's headers say of it; all in numbers of values."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int = 131_072
    sees: bool = False


SHAPES = {
    "8 B": Shape(32, 4096, 14336, 32, 8, 128_256),
    "7 B": Shape(32, 4096, 11008, 32, 32, 32_064, context=4096, sees=True),
    "32 B": Shape(64, 5120, 27648, 40, 8, 152_064),
    "70 B": Shape(80, 8192, 28672, 64, 8, 128_256),
}
GPUS_MIB = {"16 GB": 15360, "24 GB": 23034, "48 GB": 46068, "80 GB": 81559, "141 GB": 143771}


def folder_of(shape: Shape, folder: Path) -> Path:
    """A model's folder with its configuration and headers in bf16, and a hole where the weights would be."""
    folder.mkdir()
    text: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "max_position_embeddings": shape.context,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocabulary,
    }
    with_eyes = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "torch_dtype": "bfloat16",
        "text_config": text,
        "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024},
    }
    (folder / "config.json").write_text(json.dumps(with_eyes if shape.sees else text))
    kv_width = shape.hidden // shape.heads * shape.kv_heads
    widths = [shape.hidden, kv_width, kv_width, shape.hidden, *[shape.intermediate] * 3, 1, 1]
    sizes = [[shape.vocabulary, shape.hidden]] * 2
    sizes += [[width, shape.hidden] for width in widths] * shape.layers
    sizes += [[300_000, 1024]] if shape.sees else []
    header, offset = {}, 0
    for number, size in enumerate(sizes):
        end = offset + 2 * math.prod(size)
        header[f"t{number}"] = {"dtype": "BF16", "shape": size, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.truncate(8 + len(encoded) + offset)
    return folder


def between(begin: str, end: str) -> str:
    return GUIDE.split(f"<!-- {begin} -->", 1)[1].split(f"<!-- {end} -->", 1)[0]


def example(begin: str) -> str:
    found = re.search(r"```text\n(.*?)```", between(begin, "end output"), re.DOTALL)
    assert found
    return found[1].strip("\n")


def plan(arguments: list[str], tmp_path: Path, inventory: str) -> tuple[int, str]:
    """What `msp plan` says, and its exit code."""
    (tmp_path / "gpus.csv").write_text(inventory)
    folder = folder_of(SHAPES["8 B"], tmp_path / "chat-8b")
    command = [sys.executable, "-m", "msp_cli", "plan", *arguments, "--gpus", str(tmp_path / "gpus.csv")]
    command += ["--root", str(tmp_path), "--folder", f"org/chat-8b={folder}"]
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, env=environment, check=False
    )
    lines = [line.rstrip() for line in (done.stdout + done.stderr).splitlines()]
    return done.returncode, "\n".join(lines).strip("\n")


def inventory() -> str:
    found = re.search(r"```text\n(0, GPU-.*?)```", GUIDE, re.DOTALL)
    assert found
    return found[1]


def test_the_guides_plan_is_what_the_command_prints(tmp_path: Path) -> None:
    arguments = ["org/chat-8b", "org/chat-8b", "samples/embedding"]
    arguments += ["--folder", "samples/embedding=samples/embedding"]
    code, said = plan(arguments, tmp_path, inventory())
    assert code == 0
    assert said == example("output of the plan")


def test_the_guides_refusal_is_what_the_command_prints(tmp_path: Path) -> None:
    lines = [line.removesuffix(", 1") + ", 9000" for line in inventory().splitlines()[:2]]
    code, said = plan(["org/chat-8b"], tmp_path, "\n".join(lines))
    assert code == 4
    assert said == example("output of the refusal")


def test_the_guides_table_of_sizes_is_what_the_planner_works_out(tmp_path: Path) -> None:
    expected = []
    for name, shape in SHAPES.items():
        facts = folder_facts("org/model", folder_of(shape, tmp_path / name.replace(" ", "")))
        for quantization in QUANTIZATIONS:
            kind = ModelType.MULTIMODAL if shape.sees else ModelType.LLM
            needs = need(facts, kind, quantization, 4096)
            row = [quantization, f"{needs.weights / 2**30:.1f}", f"{needs.least() / 2**30:.1f}"]
            for mib in GPUS_MIB.values():
                usable = usable_bytes(PlanGpu(0, "GPU-0", "made up", mib * 2**20, 0), 0.9)
                row.append(str(room(needs, usable).rows) if usable >= needs.least() else "-")
            expected.append(row)
    lines = [line for line in between("table of sizes", "end table").splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0].split("|")[-6:-1]] == list(GPUS_MIB)
    assert [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:]] == expected


BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)]
WORKERS = {
    f"{number}-{name}": service["environment"]
    for number, block in enumerate(BLOCKS)
    for name, service in block["services"].items()
    if "environment" in service
}


def test_the_guide_shows_compose_files() -> None:
    assert len(WORKERS) >= 3


@pytest.mark.parametrize("environment", WORKERS.values(), ids=WORKERS)
def test_the_guides_workers_have_settings_that_a_worker_understands(environment: dict[str, object]) -> None:
    assert set(environment) <= set(WorkerSettings.variables())
    # What compose fills in for `${NAME:?why}`.
    given = {name: re.sub(r"\$\{\w+:\?[^}]*\}", "GPU-0", str(value)) for name, value in environment.items()}
    WorkerSettings.load({"MODEL_NAME": "org/chat", "MODEL_TYPE": "llm", **given})


def test_the_diagram_has_the_ports_of_the_compose_files() -> None:
    shown = set(re.findall(r":(\d{4})\b", (REPOSITORY / "docs/diagram.dot").read_text()))
    table = (REPOSITORY / "docs/DOCKER-COMPOSE-COMMANDS.md").read_text().split("## Ports and networks", 1)[1]
    written = table.split("| network |", 1)[0]
    told = set(re.findall(r"\b\d{4}\b", written)) | {str(port) for port in range(8000, 8005)}
    assert shown <= told
    assert {"8080", "8081", "8090", "9000"} <= shown


def test_the_diagrams_picture_is_small() -> None:
    picture = (REPOSITORY / "docs/Model-Service-Diagram.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 150_000
