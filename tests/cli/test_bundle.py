"""`msp bundle`: what the scripts that carry bundles ask of the registry, the hub and the gateway."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from msp_cli.bundle import bom, hub_sizes, smoke_test
from msp_cli.exit_codes import ExitCode
from msp_cli.models_file import DeclaredModel
from msp_common.contracts.models import Licence, Manifest, ManifestFile
from support.cli_registry import COMMIT, INFO, Served
from support.fake_hub import FakeHub, FakeRepo
from support.servers import run_server

CONFIG, WEIGHTS = b"{}", b"w" * 1000


def hub_of(**repos: FakeRepo) -> FakeHub:
    return FakeHub(repos={f"acme/{name}": repo for name, repo in repos.items()}, page_size=2)


def size(hub: FakeHub, model: DeclaredModel, token: str | None = None) -> hub_sizes.HubSize:
    with run_server(hub.app) as url, hub_sizes.hub_client(None) as client:
        return hub_sizes.Hub(client, url, token).size_of(model)


def test_the_registry_says_whether_it_has_a_whole_commit(served: Served) -> None:
    served.msp("bundle", "has", "acme/chat", COMMIT)


def test_a_commit_with_bad_files_does_not_count_as_held(served: Served) -> None:
    answer = {**INFO, "quarantined": {"model.safetensors": "wrong"}}
    served.fake.answers["GET", "/models/acme/chat"] = (200, answer)

    served.msp("bundle", "has", "acme/chat", COMMIT, code=ExitCode.CORRUPT)


def test_a_commit_with_fewer_files_than_the_bundle_has_does_not_count_as_held(served: Served) -> None:
    served.msp("bundle", "has", "acme/chat", COMMIT, "--bytes", "1000")
    told = served.msp("bundle", "has", "acme/chat", COMMIT, "--bytes", "1001", code=ExitCode.REFUSED)

    assert "1000 bytes and not 1001" in told


def test_files_are_told_as_lines_of_their_lock(served: Served, tmp_path: Path) -> None:
    declared = tmp_path / "models.yaml"
    declared.write_text("models:\n  - id: acme/chat\n    revision: main\n")

    told = served.run("bundle", "files", "--file", str(declared)).stdout

    assert told == f"{'a' * 64}\t1000\tacme/chat\t{COMMIT}\tmodel.safetensors\n"


def test_a_list_of_what_is_left_out_holds_hashes_and_nothing_else(served: Served, tmp_path: Path) -> None:
    listed = tmp_path / "left-out"
    listed.write_text(f"{'a' * 64}\nmodel.safetensors\n")

    export = ("bundle", "export", "acme/chat", str(tmp_path / "out"), "--commit", COMMIT)
    told = served.msp(*export, "--leave-out", str(listed), code=ExitCode.CORRUPT)

    assert "'model.safetensors' is no sha256" in told
    assert not (tmp_path / "out").exists()


def test_a_model_all_of_whose_files_are_left_out_is_its_manifest(served: Served, tmp_path: Path) -> None:
    listed = tmp_path / "left-out"
    listed.write_text(f"{'a' * 64}\n")

    export = ("bundle", "export", "acme/chat", str(tmp_path / "out"), "--commit", COMMIT)
    told = served.msp(*export, "--leave-out", str(listed))

    assert "exported 0 of 1 files" in told
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [str(path.relative_to(tmp_path / "out")) for path in files] == [".registry/manifest.json"]
    manifest = Manifest.model_validate_json(files[0].read_bytes())
    assert (manifest.commit, [file.path for file in manifest.files]) == (COMMIT, ["model.safetensors"])


def test_models_are_told_as_lines_of_the_lock(served: Served, tmp_path: Path) -> None:
    declared = tmp_path / "models.yaml"
    declared.write_text("models:\n  - id: acme/chat\n    revision: main\n")

    told = served.run("bundle", "models", "--file", str(declared)).stdout

    assert told == f"acme/chat\tmain\t{COMMIT}\t1000\tmit\n"


def test_only_what_the_registry_would_fetch_counts() -> None:
    files = {
        "config.json": CONFIG,
        "model.safetensors": WEIGHTS,
        "pytorch_model.bin": WEIGHTS,
        "original/model.safetensors": WEIGHTS,
        "modeling.py": WEIGHTS,
    }
    found = size(hub_of(chat=FakeRepo(files)), DeclaredModel(id="acme/chat"))

    assert found.total_bytes == len(CONFIG) + len(WEIGHTS)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (DeclaredModel(id="a/b", include=["*.bin"], allow_pickle=True), ["m.bin"]),
        (DeclaredModel(id="a/b", include=["*.py", "*.json"]), ["c.json", "sub/c.json", "x.py"]),
        (DeclaredModel(id="a/b", exclude=["sub/"]), ["c.json", "m.safetensors"]),
        (DeclaredModel(id="a/b", allow_pickle=True), ["c.json", "m.bin", "m.safetensors", "sub/c.json"]),
    ],
)
def test_patterns_mean_what_they_mean_to_the_registry(model: DeclaredModel, expected: list[str]) -> None:
    names = ["c.json", "m.bin", "m.safetensors", "sub/c.json", "x.py"]

    assert hub_sizes.chosen(names, model) == expected


def test_a_gated_model_says_what_to_do_without_and_with_a_token() -> None:
    hub = hub_of(chat=FakeRepo({"config.json": CONFIG}, gated=True))
    hub.accepted_token = "hf_right"
    model = DeclaredModel(id="acme/chat")

    with pytest.raises(hub_sizes.NotToBeHad, match="set HF_TOKEN"):
        size(hub, model)
    with pytest.raises(hub_sizes.NotToBeHad, match="accept its licence"):
        size(hub, model, "hf_wrong")
    assert size(hub, model, "hf_right").total_bytes == len(CONFIG)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(hub_sizes.NotToBeHad, match="acme/none"):
        size(hub_of(), DeclaredModel(id="acme/none"))


CHAT = {"choices": [{"message": {"content": "hello"}}]}
VECTOR = {"data": [{"embedding": [0.0] * 3}]}


def services(**ready: str) -> dict[str, Any]:
    lines = [{"status": "ready", "model": {"id": i, "type": t}} for t, i in ready.items()]
    return {"services": [{"status": "ok", "name": "registry"}, *lines]}


def smoke(answers: dict[str, Any], key: str | None = None) -> list[str]:
    def answer(request: httpx.Request) -> httpx.Response:
        found = answers[request.url.path]
        if found == "key":
            allowed = request.headers.get("Authorization") == "Bearer right"
            found = {"data": []} if allowed else httpx.Response(401)
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        return list(smoke_test.run(client, "http://gateway", key))


def test_one_question_is_asked_of_each_type() -> None:
    told = smoke(
        {
            "/v1/models": {"data": [{"id": "a/chat"}]},
            "/services": services(llm="a/chat", embedding="a/embed"),
            "/v1/chat/completions": CHAT,
            "/v1/embeddings": VECTOR,
        }
    )

    assert told == ["models: a/chat", "a/embed: a vector of 3 numbers", "a/chat: 'hello'"]


def test_no_ready_worker_fails_the_test() -> None:
    with pytest.raises(smoke_test.SmokeFailed, match="no worker is ready"):
        smoke({"/v1/models": {"data": []}, "/services": services()})


def test_an_error_for_an_answer_fails_the_test() -> None:
    answers = {"/v1/models": {"data": []}, "/services": services(llm="a/chat")}
    with pytest.raises(smoke_test.SmokeFailed, match="500: broken"):
        smoke({**answers, "/v1/chat/completions": httpx.Response(500, text="broken")})


def test_a_gateway_that_wants_a_key_has_answered() -> None:
    (told,) = smoke({"/v1/models": "key"})

    assert "MSP_API_KEY" in told
    with pytest.raises(smoke_test.SmokeFailed, match="401"):
        smoke({"/v1/models": "key"}, "wrong")


MANIFEST = Manifest(
    repo_id="acme/chat",
    commit=COMMIT,
    revision="main",
    source="https://hub",
    files=[ManifestFile(path="model.safetensors", size_bytes=3, sha256="a" * 64, git_sha1="b" * 40)],
    total_bytes=3,
    format="safetensors",
    licence=Licence(id="apache-2.0"),
    tool_version="0",
)


def bundle(place: Path) -> Path:
    digest = f"sha256:{'c' * 64}"
    (place / "images.lock").write_text(f"msp/gateway:1\t-\t-\t{digest}\t{digest}\t10\timages/g.tar\n")
    carried = f"acme/chat\tmain\t{COMMIT}\t3\tapache-2.0\tmodels/acme/chat/{COMMIT}\n"
    (place / "models.lock").write_text(f"{carried}acme/old\tmain\t{COMMIT}\t3\tmit\tbase\n")
    folder = place / "models/acme/chat" / COMMIT / ".registry"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(MANIFEST.model_dump_json())
    packages = [{"name": "Httpx", "version": "1", "expression": "BSD-3-Clause", "licence": ""}]
    (place / "bom").mkdir()
    (place / "bom/msp_gateway.packages.json").write_text(json.dumps(packages))
    return place


def test_bills_of_materials_name_images_packages_models_hashes_and_licences(tmp_path: Path) -> None:
    place = bundle(tmp_path)
    list(bom.write(place, "0.1.0"))

    models = json.loads((place / "bom/models.cdx.json").read_text())["components"]
    (image,) = json.loads((place / "bom/images.cdx.json").read_text())["components"]
    (package,) = json.loads((place / "bom/msp_gateway.cdx.json").read_text())["components"]
    assert [model["name"] for model in models] == ["acme/chat", "acme/old"]
    assert models[0]["licenses"] == [{"license": {"name": "apache-2.0"}}]
    assert models[0]["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert (image["type"], image["hashes"][0]["content"]) == ("container", "c" * 64)
    assert package["purl"] == "pkg:pypi/httpx@1"
    assert package["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert "acme/chat" in (place / "MANIFEST.md").read_text()


def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path) -> None:
    place = bundle(tmp_path)
    first = {path.name: path.read_bytes() for path in bom.write(place, "0.1.0")}

    assert {path.name: path.read_bytes() for path in bom.write(place, "0.1.0")} == first
