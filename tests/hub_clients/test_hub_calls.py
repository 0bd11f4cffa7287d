"""huggingface_hub 0.36, 1.8 and 2.4 against the registry, with nothing set but what we tell users to set."""

import hashlib
from typing import Any

import pytest

from support.hub_clients import MANY_FILES, TINY, Served
from support.hub_facade import COMMIT, described
from support.registry_files import safetensors

WEIGHTS_SHA256 = hashlib.sha256(TINY["model.safetensors"]).hexdigest()
FOLDERS = ["sub", "sub/deeper"]


@pytest.fixture(scope="module")
def told(served: Served) -> dict[str, Any]:
    """What `drive_hub.py` printed."""
    served.log.clear()
    return served.client.call("drive_hub.py")


def test_the_client_is_the_one_that_is_meant(served: Served, told: dict[str, Any]) -> None:
    assert told["version"].startswith(served.client.version)


def test_a_snapshot_is_whole_and_no_file_is_empty_that_should_not_be(told: dict[str, Any]) -> None:
    """Old clients believe a wrong length of 0 and write empty files without complaint."""
    assert told["downloads"]["commit"] == COMMIT
    assert told["downloads"]["snapshot"] == {
        path: [len(data), hashlib.sha256(data).hexdigest()] for path, data in TINY.items()
    }


def test_weights_come_over_the_network_once(served: Served, told: dict[str, Any]) -> None:
    whole = [
        line
        for line, span in zip(served.log.requests, served.log.ranges, strict=True)
        if line == f"GET /org/tiny/resolve/{COMMIT}/model.safetensors" and span is None
    ]
    assert len(whole) == 1
    assert told["downloads"]["again"]


def test_cached_blobs_are_named_by_sha256_or_gits_sha1(told: dict[str, Any]) -> None:
    assert told["downloads"]["blob"] == WEIGHTS_SHA256
    assert told["downloads"]["small_blob"] == described("", TINY["config.json"]).git_sha1


def test_odd_paths_refs_and_ids_are_found(told: dict[str, Any]) -> None:
    downloads = told["downloads"]
    assert downloads["odd_path"] == "odd"
    assert downloads["by_slashed_ref"] == TINY["config.json"].decode()
    assert (downloads["without_main"], downloads["one_segment"]) == ("{}", "[]")


def test_info_tree_paths_refs_and_commits_are_understood(told: dict[str, Any]) -> None:
    asked = told["questions"]
    assert asked["info"] == {
        "sha": COMMIT,
        "tags": ["safetensors", "en"],
        "pipeline_tag": "text-generation",
        "library_name": "transformers",
        "year": 2026,
        "siblings": {
            path: [len(data), WEIGHTS_SHA256 if path == "model.safetensors" else None]
            for path, data in TINY.items()
        },
    }
    sizes = {path: len(data) for path, data in TINY.items()}
    assert {path: size for path, size in asked["tree"].items() if path not in FOLDERS} == sizes
    assert set(asked["tree"]) == {*TINY, *FOLDERS}
    assert asked["last_commits"] == [COMMIT]
    assert sorted(asked["files"]) == sorted(TINY)
    assert asked["many_files"] == MANY_FILES
    assert asked["paths_info"] == ["config.json", "sub"]
    assert (asked["branches"], asked["pull_requests"]) == ({"main": COMMIT}, ["refs/pr/7"])
    assert asked["commits"] == [COMMIT]
    assert asked["parameters"] == {"F32": 1000}
    assert asked["exists"] == [True, False, True, False, True, False]
    assert asked["whoami"] == "local"


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("info_repo", "RepositoryNotFoundError"),
        ("info_revision", "RevisionNotFoundError"),
        ("file_repo", "RepositoryNotFoundError"),
        ("file_revision", "RevisionNotFoundError"),
        ("file_entry", "EntryNotFoundError"),
        ("tree_entry", "EntryNotFoundError"),
        ("snapshot_repo", "RepositoryNotFoundError"),
        ("quarantined", "HfHubHTTPError"),
        ("dataset", "RepositoryNotFoundError"),
    ],
)
def test_refusals_become_the_exceptions_that_callers_catch(
    told: dict[str, Any], call: str, kind: str
) -> None:
    assert told["refusals"][call][0] == kind, told["refusals"][call]


def test_a_quarantined_file_says_what_is_wrong_and_what_to_do(told: dict[str, Any]) -> None:
    words = told["refusals"]["quarantined"][1]
    assert "one bit has changed" in words
    assert "POST /models/org/damaged/verify" in words


def test_an_unknown_model_says_how_to_bring_it(told: dict[str, Any]) -> None:
    assert "POST /models/org/none/" in told["refusals"]["info_repo"][1]


def test_a_missing_file_is_remembered_by_the_commit(told: dict[str, Any]) -> None:
    assert "none.json" in told["no_exist"]


def test_the_file_system_lists_opens_and_reads_ranges(told: dict[str, Any]) -> None:
    fs = told["file_system"]
    top = ["README.md", "config.json", "empty.txt", "model.safetensors", "sub"]
    assert fs["ls"] == [f"org/tiny/{name}" for name in top]
    assert sorted(path.rpartition("/")[2] for path in fs["ls_folder"]) == ["a b+ü.txt", "deeper"]
    assert fs["find"] == MANY_FILES
    assert fs["glob"] == ["org/tiny/config.json"]
    assert bytes.fromhex(fs["range"]) == safetensors(1000)[8:40]
    assert fs["text"] == TINY["config.json"].decode()
    assert (fs["size"], fs["modified"]) == (len(TINY["config.json"]), 2026)


def test_nothing_but_the_registry_was_asked(served: Served, told: dict[str, Any]) -> None:
    assert served.client.strayed() == []
