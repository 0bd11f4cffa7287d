"""A bundle that adds to an earlier one: images that changed, and of models the files that are new."""

import json
from pathlib import Path

import pytest

from support.bundle_host import Carrier, OfflineHost

pytestmark = pytest.mark.stack

BAD_BUNDLE, FAILED = 3, 1
SAME = ("config.json", "tokenizer files/vocab.txt")


def locked(bundle: Path) -> list[list[str]]:
    return [line.split("\t") for line in (bundle / "files.lock").read_text().splitlines()]


def bundle_id(bundle: Path) -> str:
    return str(json.loads((bundle / "bundle.json").read_text())["id"])


@pytest.fixture(scope="module")
def delta(carrier: Carrier) -> Path:
    """`acme/one` has moved, `acme/two` has not; images are the same."""
    carrier.restore_images()
    models = carrier.place / "moved.yaml"
    models.write_text("# main has moved\nmodels:\n  - id: acme/one\n")
    out = carrier.place / "delta"
    carrier.setup("--since", str(carrier.bundle / "bundle.json"), "--models", str(models), out=out)
    return out


def test_it_holds_the_changed_files_and_says_who_brings_the_others(carrier: Carrier, delta: Path) -> None:
    carried = {path.name.partition(".part-")[0] for path in (delta / "models").rglob("*") if path.is_file()}
    brings = {line[5]: line[2] for line in locked(delta)}
    page = json.loads((delta / "bundle.json").read_text())

    assert carried == {"manifest.json", "model.safetensors"}
    assert not list((delta / "images").glob("*"))
    assert brings == {"model.safetensors": "here", **dict.fromkeys(SAME, bundle_id(carrier.bundle))}
    assert page["model_bytes"] == 300_000


def test_the_store_brings_the_rest(carried: Path, host: OfflineHost, delta: Path) -> None:
    host.run(carried)

    done = host.run(delta)

    (commit,) = {line[4] for line in locked(delta)}
    assert f"acme_one@{commit}" in host.stored()
    assert host.in_store("ref-acme_one@main") == commit
    assert "importing acme/one" in done.stderr


def test_a_file_that_the_store_lost_is_named_with_the_bundle_that_brings_it(
    carrier: Carrier, carried: Path, host: OfflineHost, delta: Path
) -> None:
    host.run(carried)
    lost = next(line for line in locked(delta) if line[5] == "tokenizer files/vocab.txt")
    host.lose(f"hash-{lost[0]}")

    done = host.run(delta, check=False)

    assert done.returncode == FAILED
    assert "tokenizer files/vocab.txt is neither here nor in the store" in done.stderr
    assert f"{bundle_id(carrier.bundle)} brings config.json, tokenizer files/vocab.txt" in done.stderr


def test_a_model_that_the_store_lost_as_a_whole_is_named_too(
    carrier: Carrier, carried: Path, host: OfflineHost, tmp_path: Path
) -> None:
    host.run(carried)
    carrier.restore_images()
    same = tmp_path / "same"
    carrier.setup("--since", str(carrier.bundle / "bundle.json"), out=same)
    gone = next(line for line in locked(same) if line[3] == "acme/two")
    host.lose(f"acme_two@{gone[4]}")

    done = host.run(same, check=False)

    assert done.returncode == BAD_BUNDLE
    assert f"no acme/two at {gone[4]}" in done.stderr
    assert f"{bundle_id(carrier.bundle)} brings" in done.stderr
    host.run(carried)
    host.run(same)


def test_a_delta_of_a_delta_names_the_bundle_that_has_the_file(
    carrier: Carrier, delta: Path, tmp_path: Path
) -> None:
    carrier.restore_images()
    models = tmp_path / "models.yaml"
    models.write_text("# main has moved again\nmodels:\n  - id: acme/one\n")
    out = tmp_path / "second"

    carrier.setup("--since", str(delta / "bundle.json"), "--models", str(models), out=out)

    assert {line[5]: line[2] for line in locked(out)} == {
        "model.safetensors": "here",
        **dict.fromkeys(SAME, bundle_id(carrier.bundle)),
    }


def test_without_the_locks_of_the_earlier_bundle_nothing_is_begun(carrier: Carrier, tmp_path: Path) -> None:
    for name in ("bundle.json", "images.lock", "models.lock"):
        (tmp_path / name).write_bytes((carrier.bundle / name).read_bytes())

    done = carrier.setup("--since", str(tmp_path / "bundle.json"), out=tmp_path / "out", check=False)

    assert done.returncode == 2
    assert "files.lock, which is not there" in done.stderr
    assert not (tmp_path / "out").exists()
