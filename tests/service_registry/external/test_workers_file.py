"""The file of external servers: taken as it stands, and mistakes are named with their place."""

from pathlib import Path

import pytest

from msp_common.contracts.model_type import ModelType
from msp_service_registry.external.file import BadWorkersFile, ExternalServerEntry, read_workers_file
from msp_service_registry.external.keeping import usable

GOOD = """
servers:
  - name: big
    url: https://vllm.example:8443/
    api_key_env: VLLM_API_KEY
    metrics_path: /metrics
    when_offline: true
    models:
      - id: org/large
        type: llm
        served_as: large
        aliases: [large]
        context_length: 32768
      - {id: org/eyes, type: vision}
  - name: hosted
    url: https://api.example
    models: [{id: other/model, type: embedding}]
"""


def read(tmp_path: Path, text: str) -> list[ExternalServerEntry]:
    path = tmp_path / "workers.yaml"
    path.write_text(text)
    return read_workers_file(path)


def test_a_server_with_two_models_is_two_workers_that_know_their_names_there(tmp_path: Path) -> None:
    big, hosted = read(tmp_path, GOOD)
    large, eyes = big.models
    assert big.url == "https://vllm.example:8443"
    assert [big.worker_id(model) for model in big.models] == ["big.org--large", "big.org--eyes"]
    assert big.as_external(large).model_dump() == {
        "served_as": "large",
        "api_key_env": "VLLM_API_KEY",
        "metrics_path": "/metrics",
    }
    assert big.as_external(eyes).served_as == "org/eyes"
    assert large.capabilities.context_length == 32768
    assert large.capabilities.paths == list(ModelType.LLM.paths)
    assert eyes.capabilities.input_modalities == ["text", "image"]
    assert not hosted.models[0].capabilities.tools


def test_offline_only_servers_of_the_own_network_are_used(tmp_path: Path) -> None:
    servers = read(tmp_path, GOOD)
    assert [s.name for s in usable(servers, offline=False)] == ["big", "hosted"]
    assert [s.name for s in usable(servers, offline=True)] == ["big"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("api_key_env: VLLM_API_KEY", "api_key: secret"), "servers.0.api_key: no such key"),
        (("VLLM_API_KEY", "CLUSTER_TOKEN"), "servers.0.api_key_env: String should match"),
        (("https://vllm.example:8443/", "https://vllm.example/v1"), "leave /v1 out of"),
        (("type: embedding", "type: music"), "servers.1.models.0.type"),
        (("org/eyes", "org/large"), "named twice: big.org--large"),
        (("name: hosted", "name: hosted\n    name: again"), "'name' is given twice"),
        (("other/model", "not a model"), "servers.1.models.0.id"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(BadWorkersFile) as caught:
        read(tmp_path, GOOD.replace(*change))
    assert said in str(caught.value)
    assert str(tmp_path / "workers.yaml") in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadWorkersFile, match=r"gone\.yaml: cannot be read"):
        read_workers_file(tmp_path / "gone.yaml")
