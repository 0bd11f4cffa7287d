"""The compose file and the .env that a plan becomes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from msp_cli.plan.compose_file import NotAClusterFile, compose_text, env_values
from msp_cli.plan.env_file import read_env, with_values
from msp_cli.plan.inventory import PlanGpu
from msp_cli.plan.memory import Quantization
from msp_cli.plan.placement import Rules, Wanted, place
from msp_cli.plan.services import Service, assign, pinned_in_env
from msp_cli.plan.writing import Change
from msp_common.contracts.model_type import ModelType
from support.cli_plan import facts, gpu, llava, minilm, qwen, tinyllama

REPOSITORY = Path(__file__).resolve().parents[3]
SHIPPED = (REPOSITORY / "docker-compose.gpu-cluster.yml").read_text()
WHISPER = facts("openai/whisper-base", {"architectures": ["WhisperForConditionalGeneration"]}, 70_000_000)
FIVE = [
    (qwen(), ModelType.LLM),
    (tinyllama(), ModelType.LLM),
    (llava(), ModelType.MULTIMODAL),
    (minilm(), ModelType.EMBEDDING),
    (WHISPER, ModelType.TRANSCRIPTION),
]


class _Loader(yaml.SafeLoader):
    """YAML with compose's own tags, which are kept as text."""


_Loader.add_multi_constructor("!", lambda loader, tag, node: f"!{tag}")


def parsed(text: str) -> dict[str, Any]:
    found = yaml.load(text, _Loader)
    assert isinstance(found, dict)
    return found


def made(
    models: list[Any], quantization: Quantization = "none", there: str | None = None
) -> tuple[str, dict[str, str]]:
    services = assign([(m.id, kind) for m, kind in models], {})
    wanted = [Wanted(s.name, m, k, quantization) for s, (m, k) in zip(services, models, strict=True)]
    plan = place(wanted, [gpu(i, 80) for i in range(len(models))], Rules(4096))
    assert not plan.refused
    by_name: dict[str, Service] = {s.name: s for s in services}
    return compose_text(plan, by_name, there or SHIPPED), env_values(plan, by_name)


def test_the_users_five_models_make_the_shipped_file_but_for_models_and_gpus() -> None:
    ours, shipped = parsed(made(FIVE)[0]), parsed(SHIPPED)
    assert ours.keys() == shipped.keys()
    assert {k: v for k, v in ours.items() if k != "services"} == {
        k: v for k, v in shipped.items() if k != "services"
    }
    assert ours["services"].keys() == shipped["services"].keys()
    own = ("environment", "deploy", "profiles")
    pinned = []
    for name, service in ours["services"].items():
        theirs = shipped["services"][name]
        if not isinstance(service, dict) or "deploy" not in service:
            assert service == theirs
            continue
        assert {k: v for k, v in service.items() if k not in own} == {
            k: v for k, v in theirs.items() if k not in own
        }
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        (shipped_device,) = theirs["deploy"]["resources"]["reservations"]["devices"]
        assert device.keys() == shipped_device.keys()
        variable = shipped_device["device_ids"][0].partition(":-")[0]
        assert device["device_ids"][0].startswith(f"{variable}:-GPU-")
        pinned.append(name)
    assert len(pinned) == 5


def test_what_else_is_in_the_file_stays_as_it_is() -> None:
    mine = "  # Mine.\n  notes:\n    image: notes:1\n"
    there = SHIPPED.replace("\nnetworks:", f"\n{mine}\nnetworks:") + "\n# The end.\n"
    text = made(FIVE, there=there)[0]
    assert mine in text
    head = SHIPPED.partition("services:")[0]
    assert text.startswith(head)
    assert text.endswith("\n# The end.\n")
    assert parsed(text)["networks"] == parsed(SHIPPED)["networks"]


def test_a_plan_of_a_planned_file_is_that_file() -> None:
    once = made(FIVE)[0]
    assert made(FIVE, there=once)[0] == once
    fewer = made(FIVE[:1], there=once)[0]
    assert "llm-secondary:" not in fewer
    assert made(FIVE, there=fewer)[0] == once


def test_a_file_without_services_is_refused() -> None:
    with pytest.raises(NotAClusterFile):
        made(FIVE, there="volumes: {}\n")


def test_standard_workers_that_are_not_planned_make_way_in_the_overlay() -> None:
    services = parsed(made(FIVE[:1])[0])["services"]
    assert {n for n, s in services.items() if isinstance(s, str)} == {
        "llm",
        "tinyllama",
        "embedding",
        "multimodal",
        "transcription",
    }
    assert services["llm-primary"]["environment"]["WORKERS_PER_HOST"] == "${WORKERS_PER_HOST:-1}"


def test_what_is_planned_is_not_hidden_behind_a_profile() -> None:
    services = parsed(made(FIVE)[0])["services"]
    assert services["transcription"]["profiles"].startswith("!reset")


def test_further_models_of_a_type_get_services_and_ports_of_their_own() -> None:
    text, values = made([*FIVE, (qwen("acme/third"), ModelType.LLM), (qwen("acme/fourth"), ModelType.LLM)])
    services = parsed(text)["services"]
    assert services["llm-3"]["environment"]["EXTRA_PORT"] == 8005
    assert services["llm-4"]["environment"]["WORKER_URL"] == "http://llm-4:8000"
    assert "8006:8006" in text
    assert values["LLM_3_MODEL"] == "acme/third"
    assert values["LLM_4_GPU"].startswith("GPU-")


def test_a_quantised_worker_and_a_revision_are_told_in_the_file() -> None:
    model = facts("acme/chat", {"architectures": ["QForCausalLM"], "model_type": "llama"}, 10**9)
    other = type(model)(**{**vars(model), "revision": "v1$x"})
    environment = parsed(made([(other, ModelType.LLM)], "bnb-4bit")[0])["services"]["llm-primary"][
        "environment"
    ]
    assert environment["QUANTIZATION"] == "bnb-4bit"
    assert environment["MODEL_REVISION"] == "v1$$x"


def test_every_worker_is_told_which_gpu_it_must_find() -> None:
    services = parsed(made([*FIVE, (qwen("acme/third"), ModelType.LLM)])[0])["services"]
    pinned = {name: s for name, s in services.items() if isinstance(s, dict) and "deploy" in s}
    assert len(pinned) == 6
    for service in pinned.values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert [service["environment"]["EXPECTED_GPU_UUID"]] == device["device_ids"]
    assert services["llm-primary"]["environment"]["EXPECTED_GPU_UUID"].startswith("${LLM_PRIMARY_GPU:-GPU-")


def test_a_slice_of_a_gpu_is_not_compared_with_what_a_worker_sees() -> None:
    services = assign([("acme/a", ModelType.LLM)], {})
    plan = place(
        [Wanted("llm-primary", qwen("acme/a"), ModelType.LLM)],
        [PlanGpu(0, "MIG-1", "A100", 2**35, 0)],
        Rules(4096),
    )
    assert "EXPECTED_GPU_UUID" not in compose_text(plan, {s.name: s for s in services}, SHIPPED)


def test_a_model_stays_with_the_service_that_has_it() -> None:
    models = [("acme/a", ModelType.LLM), ("acme/b", ModelType.LLM)]
    assert [s.name for s in assign(models, {})] == ["llm-primary", "llm-secondary"]
    there = {"TINYLLAMA_MODEL": "acme/a"}
    assert [s.name for s in assign(models, there)] == ["llm-secondary", "llm-primary"]


def test_a_gpu_in_env_is_a_choice_unless_it_is_the_examples_own() -> None:
    (service,) = assign([("acme/a", ModelType.LLM)], {})
    assert pinned_in_env(service, "acme/a", {"LLM_MODEL": "acme/a", "LLM_PRIMARY_GPU": "3"}) == "3"
    assert pinned_in_env(service, "acme/a", {"LLM_MODEL": "acme/a", "LLM_PRIMARY_GPU": "0"}) is None
    assert pinned_in_env(service, "acme/a", {"LLM_MODEL": "acme/b", "LLM_PRIMARY_GPU": "3"}) is None


def test_env_keeps_every_other_line_and_says_each_name_once() -> None:
    old = "# secrets\nMINIO_ROOT_PASSWORD=p#w\n\nLLM_MODEL=old/one # mine\nexport LLM_PRIMARY_GPU='0'\n"
    new = with_values(old, {"LLM_MODEL": "new/one", "LLM_PRIMARY_GPU": "0", "LLM_3_GPU": "GPU-1"})
    assert new.startswith(
        "# secrets\nMINIO_ROOT_PASSWORD=p#w\n\nLLM_MODEL=new/one\nexport LLM_PRIMARY_GPU='0'\n"
    )
    assert read_env(new) == {
        "MINIO_ROOT_PASSWORD": "p#w",
        "LLM_MODEL": "new/one",
        "LLM_PRIMARY_GPU": "0",
        "LLM_3_GPU": "GPU-1",
    }
    assert with_values(new, {"LLM_3_GPU": "GPU-1"}) == new


def test_a_file_is_written_whole_and_stays_as_private_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\n")
    path.chmod(0o640)
    change = Change(path, "A=1\n", "A=2\n", context=0)
    assert change.replaces
    change.write()
    assert path.read_text() == "A=2\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == [".env"]


def test_the_diff_of_a_file_with_secrets_shows_changed_lines_alone() -> None:
    change = Change(Path(".env"), "SECRET=x\nA=1\n", "SECRET=x\nA=2\n", context=0)
    assert "-A=1" in change.diff()
    assert "SECRET" not in change.diff()
