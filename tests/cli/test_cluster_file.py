"""The cluster's file: what it means, and how mistakes in it are told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from msp_cli.cluster_file import Cluster, ClusterFileError, load


def loaded(folder: Path, text: str) -> Cluster:
    file = folder / "cluster.yaml"
    file.write_text(text)
    return load(file, folder / "run")


def with_services(**services: Any) -> str:
    return yaml.safe_dump({"services": services})


def test_a_program_is_told_where_to_listen_under_its_own_names(tmp_path: Path) -> None:
    cluster = loaded(
        tmp_path,
        with_services(sr={"program": "service-registry", "port": 8081, "env": {"A": 1, "B": True}}),
    )
    service = cluster.services["sr"]
    assert service.module_name == "msp_service_registry"
    assert service.environment("sr") == {
        "SERVICE_REGISTRY_HOST": "127.0.0.1",
        "SERVICE_REGISTRY_PORT": "8081",
        "A": "1",
        "B": "true",
    }


def test_a_worker_is_also_told_who_it_is_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    worker = {"program": "model-service", "port": 8000, "host": "0.0.0.0", "env": {"WORKER_ID": "mine"}}
    service = loaded(tmp_path, with_services(llm=worker)).services["llm"]
    assert service.environment("llm") == {
        "WORKER_HOST": "0.0.0.0",
        "WORKER_PORT": "8000",
        "WORKER_URL": "http://127.0.0.1:8000",
        "WORKER_ID": "mine",
    }


def test_places_are_filled_in_and_a_dollar_can_be_written(tmp_path: Path) -> None:
    text = with_services(
        a={"module": "m", "port": 1, "env": {"X": "${here}/x", "Y": "${run_dir}", "Z": "$$5"}}
    )
    assert loaded(tmp_path, text).services["a"].env == {
        "X": f"{tmp_path}/x",
        "Y": f"{tmp_path}/run",
        "Z": "$5",
    }


def test_waves_follow_what_services_wait_for(tmp_path: Path) -> None:
    text = with_services(
        c={"module": "m", "port": 3, "after": ["a", "b"]},
        b={"module": "m", "port": 2, "after": ["a"]},
        a={"module": "m", "port": 1},
    )
    assert loaded(tmp_path, text).waves() == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {a: {module: m, port: 1, colour: red}}", "services.a.colour: no such key"),
        ("service: {}", "service: no such key"),
        ("services: {}", "services: "),
        ("services: {a: {module: m}}", "services.a.port: Field required"),
        ("services: {a: {module: m, port: 99999}}", "services.a.port: "),
        ("services: {a: {port: 1}}", "services.a: give either program or module"),
        ("services: {a: {program: gateway, module: m, port: 1}}", "give either program or module"),
        ("services: {a: {program: proxy, port: 1}}", "services.a.program: "),
        ("services: {a: {module: m, port: 1, after: [b]}}", "services.a.after: there is no service 'b'"),
        (
            "services: {a: {module: m, port: 1, after: [b]}, b: {module: m, port: 2, after: [a]}}",
            "wait for each other",
        ),
        ("services: {a: {module: m, port: 1}, b: {module: m, port: 1}}", "port 1 is given to both a and b"),
        ("services: {a: {module: m, port: 1}, a: {module: m, port: 2}}", "key 'a' is given twice"),
        ("services: {a: {module: m, port: 1, env: {X: '${home}'}}}", "only ${here}, ${run_dir}"),
        (
            "services: {a: {module: m, port: 1}}\nmodels: {x/y: {folder: /x}}",
            "there is no service 'registry'",
        ),
        ("services: {a: {module: m, port: 1}}\nmodels: {../y: {folder: /x}}", "is no model id"),
        (
            "services: {a: {module: m, port: 1}}\nexample: {service: b, path: /x, body: {}}",
            "there is no service 'b'",
        ),
        ("services: [", "is no YAML"),
        ("", "cluster.yaml"),
    ],
)
def test_mistakes_are_told_by_their_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ClusterFileError) as told:
        loaded(tmp_path, text)
    assert said in str(told.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterFileError, match=r"nowhere\.yaml: cannot be read"):
        load(tmp_path / "nowhere.yaml", tmp_path)


def test_the_quickstart_s_own_file_is_right() -> None:
    repository = Path(__file__).resolve().parents[2]
    cluster = load(repository / "samples/cluster.yaml", repository / ".run")
    assert {name: service.port for name, service in cluster.services.items()} == {
        "registry": 8090,
        "service-registry": 8081,
        "gateway": 8080,
        "llm": 8000,
        "llm-2": 8001,
        "embedding": 8002,
        "multimodal": 8003,
        "transcription": 8004,
    }
    assert [name for name, service in cluster.services.items() if service.host != "127.0.0.1"] == ["gateway"]
