"""`msp plan`, from the command line to the files."""

import shutil
from pathlib import Path

import pytest

from support.cli_plan import QWEN
from support.cli_registry import COMMIT, FILE, INFO, MANIFEST, Served

REPOSITORY = Path(__file__).resolve().parents[3]
CLUSTER_FILE = "docker-compose.gpu-cluster.yml"
SAMPLES = REPOSITORY / "samples"
GPUS = "0, GPU-aaaa, NVIDIA L4, 23034, 4\n1, GPU-bbbb, NVIDIA RTX A2000, 12282, 4\n"


@pytest.fixture
def gpus(tmp_path: Path) -> str:
    path = tmp_path / "gpus.csv"
    path.write_text(GPUS)
    return str(path)


@pytest.fixture
def qwen_served(served: Served) -> Served:
    """The registry holds a model of half a billion parameters."""
    files = [FILE, {**FILE, "path": "config.json", "size_bytes": 700}]
    manifest = {**MANIFEST, "files": files, "parameters": 494_032_768, "dtype": "BF16"}
    served.fake.answers["GET", "/models/acme/chat"] = (200, {**INFO, "manifest": manifest})
    served.fake.answers["GET", f"/acme/chat/resolve/{COMMIT}/config.json"] = (200, QWEN)
    return served


def test_facts_come_from_the_registry(qwen_served: Served, gpus: str) -> None:
    (worker,) = qwen_served.json("plan", "acme/chat", "--gpus", gpus)["workers"]
    assert worker["gpu_uuid"] == "GPU-bbbb"
    assert worker["weights_bytes"] == 2 * 494_032_768
    assert worker["kv_bytes_per_token"] == 12 * 1024
    assert worker["concurrent_requests"] == 64


def test_a_models_file_is_planned_as_models_pull_reads_it(
    qwen_served: Served, gpus: str, tmp_path: Path
) -> None:
    (tmp_path / "models.yaml").write_text("models:\n  - {id: acme/chat, revision: v2}\n")
    qwen_served.json("plan", "--file", str(tmp_path / "models.yaml"), "--gpus", gpus)
    assert "/models/acme/chat?revision=v2" in qwen_served.fake.paths("GET")


def test_local_folders_need_no_registry(served: Served, gpus: str) -> None:
    arguments = ["plan"]
    for name in ("chat", "embedding"):
        arguments += [f"samples/{name}", "--folder", f"samples/{name}={SAMPLES / name}"]
    workers = served.json(*arguments, "--gpus", gpus)["workers"]
    assert {w["service"]: w["type"] for w in workers} == {"llm-primary": "llm", "embedding": "embedding"}
    assert workers[0]["kv_bytes_per_token"] == 1280
    assert not served.fake.asked


@pytest.mark.parametrize(
    ("name", "kind"), [("vision", "multimodal"), ("whisper", "transcription")], ids=["vision", "whisper"]
)
def test_every_sample_has_its_type(served: Served, gpus: str, name: str, kind: str) -> None:
    folder = f"samples/{name}={SAMPLES / name}"
    (worker,) = served.json("plan", f"samples/{name}", "--folder", folder, "--gpus", gpus)["workers"]
    assert worker["type"] == kind


def test_what_does_not_fit_ends_with_4_and_writes_nothing(qwen_served: Served, tmp_path: Path) -> None:
    small = tmp_path / "small.csv"
    small.write_text("0, GPU-aaaa, Old, 1024, 0\n")
    (tmp_path / ".env").write_text("A=1\n")
    root = str(tmp_path)
    told = qwen_served.msp("plan", "acme/chat", "--gpus", str(small), "--write", "--root", root, code=4)
    assert "needs 1." in told
    assert "the largest free GPU has 384 MiB to use" in told
    assert "nothing was written" in told
    assert not (tmp_path / CLUSTER_FILE).exists()


def test_a_model_that_the_registry_lacks_is_named_with_the_remedy(served: Served, gpus: str) -> None:
    told = served.msp("plan", "acme/other", "--gpus", gpus, code=4)
    assert "acme/other at main is not in the registry" in told
    assert "msp models pull acme/other" in told


def test_a_registry_that_is_away_ends_with_3(served: Served, gpus: str) -> None:
    served.fake.silent = 100
    served.msp("plan", "acme/chat", "--gpus", gpus, code=3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name models, or a file"),
        (["acme/chat", "--file", "x.yaml"], "either, not both"),
        (["acme/chat", "--pin", "acme/chat"], "expected MODEL=VALUE"),
        (["acme/chat", "--pin", "acme/chta=0"], "not to be planned; there are acme/chat"),
        (["acme/chat", "--quantization", "acme/chat=4bit"], "none of none, bnb-8bit, bnb-4bit"),
        (["acme/chat", "--type", "acme/chat=chat"], "none of llm, embedding"),
        (["../etc"], "no model id"),
        (["acme/chat", "--gpus", "/nowhere.csv"], "/nowhere.csv"),
    ],
)
def test_mistakes_in_the_command_are_told_and_end_with_2(
    served: Served, gpus: str, arguments: list[str], said: str
) -> None:
    given = arguments if "--gpus" in arguments else [*arguments, "--gpus", gpus]
    assert said in served.msp("plan", *given, code=2)


def test_nothing_that_is_there_is_replaced_without_force(
    qwen_served: Served, gpus: str, tmp_path: Path
) -> None:
    shutil.copy(REPOSITORY / CLUSTER_FILE, tmp_path)
    env = tmp_path / ".env"
    env.write_text("MINIO_ROOT_PASSWORD=very-secret\nLLM_MODEL=old/model\nLLM_PRIMARY_GPU=0\n")
    command = ("plan", "acme/chat", "--gpus", gpus, "--write", "--root", str(tmp_path))
    told = qwen_served.msp(*command, code=4)
    assert "-LLM_MODEL=old/model" in told
    assert "+LLM_MODEL=acme/chat" in told
    assert "very-secret" not in told
    assert "old/model" in env.read_text()
    assert (tmp_path / CLUSTER_FILE).read_text() == (REPOSITORY / CLUSTER_FILE).read_text()

    qwen_served.msp(*command, "--force")
    assert (
        "MINIO_ROOT_PASSWORD=very-secret\nLLM_MODEL=acme/chat\nLLM_PRIMARY_GPU=GPU-bbbb\n" in env.read_text()
    )
    assert "GPU-bbbb" in (tmp_path / CLUSTER_FILE).read_text()
    assert "say this already" in qwen_served.msp(*command)


def test_without_env_the_secrets_come_first(qwen_served: Served, gpus: str, tmp_path: Path) -> None:
    told = qwen_served.msp("plan", "acme/chat", "--gpus", gpus, "--write", "--root", str(tmp_path), code=2)
    assert "./scripts/init-env.sh" in told


def test_outside_the_platforms_folder_nothing_is_written(
    qwen_served: Served, gpus: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    told = qwen_served.msp("plan", "acme/chat", "--gpus", gpus, "--write", "--root", str(tmp_path), code=2)
    assert "name the platform's folder with --root" in told


def test_what_env_pins_is_kept_until_told_otherwise(qwen_served: Served, gpus: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LLM_MODEL=acme/chat\nLLM_PRIMARY_GPU=GPU-aaaa\n")
    command = ("plan", "acme/chat", "--gpus", gpus, "--root", str(tmp_path))
    assert qwen_served.json(*command)["workers"][0]["gpu_uuid"] == "GPU-aaaa"
    assert qwen_served.json(*command, "--repin")["workers"][0]["gpu_uuid"] == "GPU-bbbb"
    assert qwen_served.json(*command, "--pin", "acme/chat=1")["workers"][0]["gpu_uuid"] == "GPU-bbbb"


def test_the_share_in_env_is_what_workers_will_use(qwen_served: Served, gpus: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GPU_MEMORY_FRACTION=0.5\n")
    command = ("plan", "acme/chat", "--gpus", gpus, "--root", str(tmp_path))
    (worker,) = qwen_served.json(*command)["workers"]
    assert worker["usable_bytes"] == 12282 * 2**20 // 2
    (tmp_path / ".env").write_text("GPU_MEMORY_FRACTION=half\n")
    assert "GPU_MEMORY_FRACTION is 'half'" in qwen_served.msp(*command, code=2)


def test_the_same_model_twice_makes_two_workers(qwen_served: Served, gpus: str) -> None:
    workers = qwen_served.json("plan", "acme/chat", "acme/chat", "--gpus", gpus)["workers"]
    assert [w["service"] for w in workers] == ["llm-primary", "llm-secondary"]
    assert len({w["gpu_uuid"] for w in workers}) == 2
