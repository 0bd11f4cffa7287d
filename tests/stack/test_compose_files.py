"""The compose files mean what the documents promise, in both launch forms."""

from pathlib import Path
from typing import Any

import pytest

from support.compose_forms import (
    CHATUI,
    CLUSTER,
    CLUSTER_SECRETS,
    FORMS,
    OFFLINE,
    OVERLAY,
    REQUIRED,
    SECRETS,
    STANDARD,
    gpus_of,
    published,
    services_of,
    stack_config,
)
from support.compose_stack import REPOSITORY, ComposeFailed

pytestmark = pytest.mark.stack

CLUSTER_FORMS = pytest.mark.parametrize("files", [CLUSTER, OVERLAY], ids=["alone", "overlay"])
SNIPPET = """\
services:
  my-new-model:
    build: ./model-service
    environment:
      MODEL_NAME: "huggingface/my-model"
      MODEL_TYPE: "llm"
    ports:
      - "8005:8000"
"""


def test_standard_mode_starts_two_workers_unless_more_are_chosen(tmp_path: Path) -> None:
    few = services_of(tmp_path, STANDARD)
    everything = services_of(tmp_path, STANDARD, COMPOSE_PROFILES="all")
    assert {"llm", "embedding"} <= few.keys()
    assert everything.keys() - few.keys() == {"tinyllama", "multimodal", "transcription"}


def test_standard_mode_publishes_the_ports_of_the_users_table(tmp_path: Path) -> None:
    ports = published(services_of(tmp_path, STANDARD, COMPOSE_PROFILES="all"))
    assert ports == {
        "8080": "gateway",
        "8090": "registry",
        "8000": "llm",
        "8001": "tinyllama",
        "8002": "embedding",
        "8003": "multimodal",
        "8004": "transcription",
        "9000": "minio",
        "9001": "minio",
    }


def test_standard_mode_needs_no_secret_but_the_stores(tmp_path: Path) -> None:
    assert "gateway" in stack_config(tmp_path, STANDARD, REQUIRED)["services"]


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("files", FORMS.values(), ids=FORMS)
def test_a_missing_secret_of_the_store_is_named(tmp_path: Path, files: tuple[str, ...], name: str) -> None:
    settings = {k: v for k, v in SECRETS.items() if k != name}
    with pytest.raises(ComposeFailed, match=rf"{name}.*init-env\.sh"):
        stack_config(tmp_path, files, settings)


@CLUSTER_FORMS
@pytest.mark.parametrize("name", CLUSTER_SECRETS)
def test_cluster_mode_names_the_secret_that_it_misses(
    tmp_path: Path, files: tuple[str, ...], name: str
) -> None:
    with pytest.raises(ComposeFailed, match=rf"{name} is missing a value: set it in .env"):
        stack_config(tmp_path, files, {**SECRETS, name: ""})


@CLUSTER_FORMS
def test_cluster_mode_pins_one_gpu_to_each_worker(tmp_path: Path, files: tuple[str, ...]) -> None:
    services = services_of(tmp_path, files, COMPOSE_PROFILES="transcription", EMBEDDING_GPU="GPU-abc")
    assert {name: gpus_of(s) for name, s in services.items() if "deploy" in s} == {
        "llm-primary": ["0"],
        "llm-secondary": ["1"],
        "multimodal": ["2"],
        "embedding": ["GPU-abc"],
        "transcription": ["4"],
    }


@CLUSTER_FORMS
def test_a_pinned_worker_is_not_told_of_another_gpu(tmp_path: Path, files: tuple[str, ...]) -> None:
    services = services_of(tmp_path, files, COMPOSE_PROFILES="all")
    assert not {n for n, s in services.items() if "NVIDIA_VISIBLE_DEVICES" in s.get("environment", {})}


@CLUSTER_FORMS
def test_cluster_mode_has_no_standard_chat_worker_and_keeps_its_names(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    services = services_of(tmp_path, files)
    assert not {"llm", "tinyllama"} & services.keys()
    assert services["llm-primary"]["networks"]["default"]["aliases"] == ["llm"]
    assert services["llm-secondary"]["networks"]["default"]["aliases"] == ["tinyllama"]
    ports = published(services)
    assert (ports["8000"], ports["8001"]) == ("llm-primary", "llm-secondary")
    assert "multimodal" in services
    assert "transcription" not in services


@CLUSTER_FORMS
def test_one_gpu_can_be_shared_by_all_workers(tmp_path: Path, files: tuple[str, ...]) -> None:
    names = ("LLM_PRIMARY", "LLM_SECONDARY", "MULTIMODAL", "EMBEDDING", "TRANSCRIPTION")
    one = {f"{name}_GPU": "0" for name in names}
    services = services_of(
        tmp_path, files, COMPOSE_PROFILES="transcription", GPU_MEMORY_FRACTION="0.18", **one
    )
    pinned = {name: s for name, s in services.items() if "deploy" in s}
    assert len(pinned) == 5
    assert {tuple(gpus_of(s)) for s in pinned.values()} == {("0",)}
    assert {s["environment"]["GPU_MEMORY_FRACTION"] for s in pinned.values()} == {"0.18"}


def _further_worker(number: int, gpu: int) -> str:
    """As the head of the cluster file explains it."""
    return f"""
  llm-{number}:
    <<: *worker
    extends: {{ file: docker-compose.yml, service: llm }}
    environment:
      {{ <<: *pinned, NVIDIA_VISIBLE_DEVICES: !reset null, MODEL_NAME: "org/name", \
WORKER_URL: "http://llm-{number}:8000" }}
    ports: !override ["${{BIND_ADDRESS:-127.0.0.1}}:{8002 + number}:8000"]
    deploy: {{ resources: {{ reservations: {{ devices: [{{ <<: *gpu, device_ids: ["{gpu}"] }}] }} }} }}
"""


@pytest.mark.parametrize("base", [(), STANDARD], ids=["alone", "overlay"])
def test_eight_gpus_take_three_further_workers(tmp_path: Path, base: tuple[str, ...]) -> None:
    text = (REPOSITORY / CLUSTER[0]).read_text()
    further = "".join(_further_worker(number, gpu) for number, gpu in ((3, 5), (4, 6), (5, 7)))
    text = text.replace("\nnetworks:\n", further + "\nnetworks:\n")
    # `extends` looks for its file beside the file that names it.
    text = text.replace("file: docker-compose.yml", f"file: {REPOSITORY / 'docker-compose.yml'}")
    (tmp_path / "cluster.yml").write_text(text)
    files = (*base, str(tmp_path / "cluster.yml"))
    services = services_of(tmp_path, files, COMPOSE_PROFILES="transcription")
    pinned = {name: gpus_of(s) for name, s in services.items() if "deploy" in s}
    assert sorted(gpu for gpus in pinned.values() for gpu in gpus) == [str(i) for i in range(8)]
    assert services["llm-5"]["environment"]["MODEL_NAME"] == "org/name"
    assert [p["published"] for p in services["llm-5"]["ports"]] == ["8007"]


def test_a_further_worker_is_explained_in_the_cluster_file_as_it_was_tried() -> None:
    explained = (REPOSITORY / CLUSTER[0]).read_text().replace("\n#", "\n")
    words = _further_worker(3, 5).replace("llm-3", "my-new-model").split()
    assert all(word in explained.split() for word in words)


def test_both_forms_of_cluster_mode_are_the_same_stack(tmp_path: Path) -> None:
    alone, overlay = (
        stack_config(tmp_path, files, {**SECRETS, "COMPOSE_PROFILES": "all"}) for files in (CLUSTER, OVERLAY)
    )
    for part in ("services", "networks", "volumes"):
        assert alone[part] == overlay[part]


def _with_snippet(folder: Path, **settings: str) -> dict[str, Any]:
    """The user's own five lines beside the standard file's services. Paths count from the first file."""
    snippet = folder / "docker-compose.override.yml"
    snippet.write_text(SNIPPET)
    return services_of(folder, (*STANDARD, str(snippet)), **settings)


def test_a_model_is_added_in_five_lines(tmp_path: Path) -> None:
    services = _with_snippet(tmp_path)
    added = services["my-new-model"]
    assert added["build"]["context"] == str(REPOSITORY / "model-service")
    assert list(added["networks"]) == ["default"]
    # By name, on that network, it finds those that it calls; and the gateway finds it.
    for needed in ("registry", "service-registry", "gateway"):
        assert "default" in services[needed]["networks"], needed


def test_an_added_model_may_register_without_the_token_unless_the_operator_says_otherwise(
    tmp_path: Path,
) -> None:
    services = _with_snippet(tmp_path)
    assert services["gateway"]["environment"]["CLUSTER_TOKEN"]
    assert services["service-registry"]["environment"]["CLUSTER_TOKEN"] == ""
    strict = _with_snippet(tmp_path, REGISTRATION_NEEDS_TOKEN="yes")
    assert strict["service-registry"]["environment"]["CLUSTER_TOKEN"] == SECRETS["CLUSTER_TOKEN"]


@CLUSTER_FORMS
def test_in_cluster_mode_nobody_registers_without_the_token(tmp_path: Path, files: tuple[str, ...]) -> None:
    services = services_of(tmp_path, files, COMPOSE_PROFILES="all")
    told = {n: s["environment"]["CLUSTER_TOKEN"] for n, s in services.items() if "deploy" in s}
    told |= {n: services[n]["environment"]["CLUSTER_TOKEN"] for n in ("service-registry", "gateway")}
    assert set(told.values()) == {SECRETS["CLUSTER_TOKEN"]}


def test_the_chat_engines_settings_go_to_chat_workers_only(tmp_path: Path) -> None:
    services = services_of(
        tmp_path, STANDARD, COMPOSE_PROFILES="all", QUANTIZATION="bnb-4bit", MAX_RUNNING="8"
    )
    told = {name for name, s in services.items() if s.get("environment", {}).get("QUANTIZATION")}
    assert told == {"llm", "tinyllama", "multimodal"}
    assert services["llm"]["environment"]["MAX_RUNNING"] == "8"


def test_files_of_the_operator_are_mounted_and_named_only_when_given(tmp_path: Path) -> None:
    def told(**settings: str) -> tuple[str, str]:
        gateway = services_of(tmp_path, STANDARD, **settings)["gateway"]
        mounts = {v["target"]: v["source"] for v in gateway["volumes"]}
        return gateway["environment"]["GATEWAY_ROUTING_FILE"], mounts["/etc/msp/routing.yaml"]

    assert told() == ("", "/dev/null")
    assert told(GATEWAY_ROUTING_FILE="/srv/routing.yaml") == ("/etc/msp/routing.yaml", "/srv/routing.yaml")


def test_keys_of_external_servers_reach_the_two_programs_that_ask_those_servers(tmp_path: Path) -> None:
    keys = tmp_path / "keys.env"
    keys.write_text("VLLM_API_KEY=sk-far\n")
    services = services_of(tmp_path, STANDARD, EXTERNAL_KEYS_FILE=str(keys))
    told = {n for n, s in services.items() if s.get("environment", {}).get("VLLM_API_KEY") == "sk-far"}
    assert told == {"gateway", "service-registry"}


def test_with_tls_the_gateway_is_asked_by_https(tmp_path: Path) -> None:
    services = services_of(
        tmp_path, (*STANDARD, CHATUI), GATEWAY_TLS_CERT="/srv/c.pem", COMPOSE_PROFILES="chatui-current"
    )
    assert services["gateway"]["healthcheck"]["test"][-1] == "https://127.0.0.1:8080/health"
    assert services["service-registry"]["environment"]["GATEWAY_URL"] == "https://gateway:8080"
    assert services["chatui-current"]["environment"]["OPENAI_BASE_URL"] == "https://gateway:8080/v1"


def _chat_ui_settings() -> dict[str, str]:
    lines = (REPOSITORY / "chatui.env.template").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_chat_ui_reads_its_settings_whenever_it_starts(tmp_path: Path) -> None:
    chatui = services_of(tmp_path, (*STANDARD, CHATUI))["chatui"]
    mounts = {v["target"]: (v["source"], v["read_only"]) for v in chatui["volumes"]}
    assert mounts["/app/.env.local"] == (str(REPOSITORY / "chatui.env.template"), True)
    # What is in its environment would win over the file, and outlive a restart.
    assert not _chat_ui_settings().keys() & chatui["environment"].keys()


def test_chat_interfaces_ask_the_gateway(tmp_path: Path) -> None:
    files = (*STANDARD, CHATUI)
    few = services_of(tmp_path, files)
    services = services_of(tmp_path, files, COMPOSE_PROFILES="chatui-current,open-webui")
    told = _chat_ui_settings()
    assert "http://gateway:8080/v1" in told["MODELS"]
    assert told["MONGODB_URL"] == "mongodb://mongo:27017"
    assert services["chatui"]["image"].endswith(":0.8.4")
    assert services["chatui-current"]["environment"]["OPENAI_BASE_URL"] == "http://gateway:8080/v1"
    assert services["open-webui"]["environment"]["OPENAI_API_BASE_URL"] == "http://gateway:8080/v1"
    assert services.keys() - few.keys() == {"chatui-current", "open-webui"}
    for name in ("chatui", "chatui-current", "open-webui"):
        assert services[name]["depends_on"]["gateway"]["condition"] == "service_healthy"


@pytest.mark.parametrize("files", FORMS.values(), ids=FORMS)
def test_the_offline_form_pulls_and_builds_nothing_and_downloads_no_model(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    services = services_of(tmp_path, (*files, OFFLINE), COMPOSE_PROFILES="all", HF_TOKEN="hf_secret")
    assert {s["pull_policy"] for s in services.values()} == {"never"}
    assert not {name for name, s in services.items() if "build" in s}
    assert services["registry"]["environment"]["REGISTRY_MODE"] == "offline"
    assert services["registry"]["environment"]["HF_TOKEN"] == ""
    assert services["service-registry"]["environment"]["SERVICE_REGISTRY_OFFLINE"] == "true"
