"""The `hf` command line against the registry."""

import pytest

from support.hub_clients import TINY, Served
from support.hub_facade import folder_files


def test_hf_download_brings_a_model_or_some_of_it(served: Served) -> None:
    client = served.client
    folder = client.home / "downloaded"
    ended = client.run("hf", "download", "org/tiny", "--local-dir", folder)
    assert ended.returncode == 0, ended.stderr[-2000:]
    files = folder_files(folder)
    assert {path: data for path, data in files.items() if not path.startswith(".cache/")} == TINY

    some = client.home / "some"
    client.run("hf", "download", "org/tiny", "--include", "*.json", "--local-dir", some)
    assert {path.rpartition("/")[2] for path in folder_files(some) if not path.startswith(".cache/")} == {
        "config.json",
        "vocab.json",
    }


def test_hf_download_shows_why_there_is_no_model(served: Served) -> None:
    ended = served.client.run("hf", "download", "org/none", "config.json")
    assert ended.returncode != 0
    assert "not found" in ended.stderr.lower()


def test_a_model_without_main_is_downloaded_with_a_warning(served: Served) -> None:
    client = served.client
    ended = client.run("hf", "download", "org/prod-only", "a.json", "--local-dir", client.home / "prod")
    assert (client.home / "prod" / "a.json").read_text() == "{}"
    # 0.36 does not know of warnings.
    assert ("'prod' is given instead" in ended.stderr) == (client.version != "0.36")


def test_hf_auth_whoami_takes_any_token(served: Served) -> None:
    ended = served.client.run("hf", "auth", "whoami", token="hf_" + "b" * 34)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "local" in ended.stdout


def test_hf_cache_verify_passes_and_notices_a_changed_file(served: Served) -> None:
    client = served.client
    if client.version == "0.36":
        pytest.skip("came with 1.0")
    folder = client.home / "verified"
    client.run("hf", "download", "org/tiny", "--local-dir", folder)
    ended = client.run("hf", "cache", "verify", "org/tiny", "--local-dir", folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    ended = client.run("hf", "cache", "verify", "org/tiny", "--local-dir", folder)
    assert ended.returncode != 0
    assert "model.safetensors" in ended.stdout + ended.stderr


def test_the_command_line_asks_nothing_but_the_registry(served: Served) -> None:
    served.client.run("hf", "download", "org/tiny", "config.json")
    # 1.8 looks for updates of itself whatever it is told, and bears it that there are none.
    update_check = ["pypi.org:443"] if served.client.version == "1.8" else []
    assert served.client.strayed() == update_check
