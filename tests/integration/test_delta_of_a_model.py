"""A newer commit across the gap by its changed files alone, into a registry over a real store."""

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from msp_cli.main import app
from msp_common.contracts.models import ModelInfo
from msp_registry.app import create_app
from msp_registry.settings import RegistrySettings
from support.platform_processes import eventually
from support.registry_files import safetensors, write_folder
from support.registry_minio import run_minio
from support.servers import run_server

OLD = {
    "README.md": b"---\nlicense: mit\n---\n# Old\n",
    "config.json": b'{"model_type": "tiny"}',
    # Large enough for an upload in parts.
    "model.safetensors": safetensors(5_000_000),
    "extra/adapter.safetensors": safetensors(1_000_000),
}
NEW = {
    **OLD,
    "README.md": b"---\nlicense: mit\n---\n# New\n",
    "extra/adapter.safetensors": safetensors(1_500_000),
}


@pytest.fixture(params=["folder", pytest.param("minio", marks=pytest.mark.minio)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """Settings of the registry on the other side."""
    if request.param == "folder":
        yield {"REGISTRY_STORE": f"file://{tmp_path}/there"}
        return
    with run_minio(tmp_path / "s3") as server:
        yield {
            "REGISTRY_STORE": "s3",
            "MINIO_ENDPOINT": f"http://{server.endpoint}",
            "MINIO_SVC_USER": server.root_user,
            "MINIO_SVC_PASSWORD": server.root_password,
        }


@contextmanager
def registry(settings: Mapping[str, str]) -> Iterator[str]:
    loaded = RegistrySettings.load({"REGISTRY_MODE": "offline", "REGISTRY_SCRUB_HOURS": "off", **settings})
    with run_server(create_app(loaded)) as url:
        eventually("the registry knows its jobs", lambda: httpx.get(f"{url}/jobs").status_code == 200, 60)
        yield url


def msp(url: str, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, arguments, env={"REGISTRY_URL": url, "COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.output


def commit_of(url: str, revision: str) -> str:
    answer = httpx.get(f"{url}/models/org/tiny", params={"revision": revision})
    return ModelInfo.model_validate(answer.json()).commit


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, Path]:
    """The old commit as a whole, and of the new one what the old one has not, its weights in parts."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    with registry({"REGISTRY_STORE": f"file://{tmp_path}/here"}) as url:
        for revision, files in (("old", OLD), ("new", NEW)):
            folder = write_folder(tmp_path / revision, files)
            msp(url, "models", "import", "org/tiny", str(folder), "--upload", "--revision", revision)
        msp(url, "models", "export", "org/tiny", str(whole), "--revision", "old")
        left_out = tmp_path / "left-out"
        left_out.write_text("".join(f"{hashlib.sha256(data).hexdigest()}\n" for data in OLD.values()))
        told = msp(
            url,
            *("bundle", "export", "org/tiny", str(part)),
            *("--commit", commit_of(url, "new"), "--leave-out", str(left_out)),
        )
    assert "2 of 4 files" in told
    adapter = part / "extra/adapter.safetensors"
    command = ["split", "-b", "2M", "-a", "3", "--numeric-suffixes", str(adapter), f"{adapter}.part-"]
    subprocess.run(command, check=True)
    adapter.unlink()
    return whole, part


def test_the_changed_files_are_enough_where_the_earlier_commit_is(
    exported: tuple[Path, Path], store: Mapping[str, str]
) -> None:
    whole, part = exported
    carried = {str(path.relative_to(part)) for path in part.rglob("*") if path.is_file()}

    with registry(store) as url:
        msp(url, "models", "import", "org/tiny", str(whole), "--upload")
        msp(url, "models", "import", "org/tiny", str(part), "--upload", "--rest-from-store")
        commit = commit_of(url, "main")
        served = {path: httpx.get(f"{url}/files/org/tiny/{commit}/{path}").content for path in NEW}
        msp(url, "models", "verify", "org/tiny")

    assert carried == {
        ".registry/manifest.json",
        "README.md",
        *(f"extra/adapter.safetensors.part-00{n}" for n in range(3)),
    }
    assert served == NEW


def test_where_it_is_not_the_missing_file_is_named_and_the_model_stays_unseen(
    exported: tuple[Path, Path], store: Mapping[str, str]
) -> None:
    _, part = exported

    with registry(store) as url:
        told = msp(url, "models", "import", "org/tiny", str(part), "--upload", "--rest-from-store", code=4)
        models = httpx.get(f"{url}/models").json()["models"]

    assert "'config.json'" in told
    assert "'model.safetensors'" in told
    assert "did not come" in told
    assert models == []


def test_a_part_that_is_missing_is_noticed_before_a_byte_is_sent(
    exported: tuple[Path, Path], store: Mapping[str, str]
) -> None:
    whole, part = exported
    (part / "extra/adapter.safetensors.part-001").unlink()

    with registry(store) as url:
        msp(url, "models", "import", "org/tiny", str(whole), "--upload")
        told = msp(url, "models", "import", "org/tiny", str(part), "--upload", "--rest-from-store", code=2)

    assert "extra/adapter.safetensors has" in told
