"""`msp models verify`, `refs`, `promote`, `rm`, `gc` and `cancel` against a registry that really listens."""

import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from msp_cli.exit_codes import ExitCode
from support.cli_registry import COMMIT, OLD_COMMIT, SUMMARY, Served

DELETED = {
    "id": "acme/chat",
    "commits": [COMMIT],
    "refs": ["main", "prod"],
    "objects": 7,
    "freed_bytes": 2000,
    "broke": ["llm-1"],
}
BAD = {"path": "model.safetensors", "reason": "sha256 differs"}
REFS = {"id": "acme/chat", "refs": {"main": COMMIT, "prod": OLD_COMMIT}, "commits": [COMMIT, OLD_COMMIT]}


def test_a_verification_that_finds_nothing_is_done(served: Served) -> None:
    assert "job j1: succeeded" in served.msp("models", "verify", "acme/chat", "--revision", "v2")
    asked = {"kind": "verify", "revision": "v2", "repair": True}
    assert served.fake.body("/models/acme/chat/verify") == asked


def test_bad_bytes_that_stay_bad_have_their_own_exit_code(served: Served) -> None:
    served.fake.scripts["acme/chat"] = [{"state": "SUCCEEDED", "bad_files": [BAD]}]
    shown = served.msp("models", "verify", "acme/chat", "--no-repair", code=ExitCode.CORRUPT)
    assert "model.safetensors: sha256 differs (still bad)" in shown
    assert served.fake.body("/models/acme/chat/verify")["repair"] is False


def test_bad_bytes_that_were_repaired_are_told_of(served: Served) -> None:
    served.fake.scripts["acme/chat"] = [{"state": "SUCCEEDED", "bad_files": [{**BAD, "repaired": True}]}]
    assert "model.safetensors: sha256 differs (repaired)" in served.msp("models", "verify", "acme/chat")


def test_all_models_are_verified_in_one_run(served: Served) -> None:
    served.fake.answers["GET", "/models"] = (200, {"models": [SUMMARY, {**SUMMARY, "id": "acme/own"}]})
    served.fake.scripts["acme/own"] = [{"state": "SUCCEEDED", "bad_files": [BAD]}]
    shown = served.msp("models", "verify", "--all", code=ExitCode.CORRUPT)
    assert "1 of 2 are well, 1 not" in shown
    assert "model.safetensors: sha256 differs (still bad)" in shown


def test_all_commits_of_one_model_are_verified(served: Served) -> None:
    served.fake.answers["GET", "/models/acme/chat/refs"] = (200, REFS)
    results = served.json("models", "verify", "acme/chat", "--all")["results"]
    assert [r["revision"] for r in results] == [COMMIT, OLD_COMMIT]


@pytest.mark.parametrize("arguments", [[], ["acme/chat", "--all", "--revision", "x"], ["--revision", "x"]])
def test_a_verification_is_of_one_thing_or_of_all(served: Served, arguments: list[str]) -> None:
    served.msp("models", "verify", *arguments, code=ExitCode.USAGE)
    assert served.fake.asked == []


def test_refs_are_shown_beside_the_commits_there_are(served: Served) -> None:
    served.fake.answers["GET", "/models/acme/chat/refs"] = (200, REFS)
    rows = served.msp("models", "refs", "acme/chat").splitlines()
    assert [row.split() for row in rows[1:]] == [[COMMIT, "main"], [OLD_COMMIT, "prod"]]


def test_a_ref_can_be_forgotten(served: Served) -> None:
    served.fake.answers["DELETE", "/models/acme/chat/refs/pr%2F7"] = (200, REFS)
    served.msp("models", "refs", "acme/chat", "--remove", "pr/7", REGISTRY_ADMIN_TOKEN="t0ken")
    assert [(m, a) for m, _, a, _ in served.fake.asked] == [("DELETE", "Bearer t0ken")]


def test_a_promotion_says_what_moved_and_how_to_roll_back(served: Served) -> None:
    served.fake.answers["GET", "/models/acme/chat/refs"] = (200, REFS)
    moved = {**REFS, "refs": {"main": COMMIT, "prod": COMMIT}}
    served.fake.answers["PUT", "/models/acme/chat/refs/prod"] = (200, moved)
    shown = served.msp("models", "promote", "acme/chat")
    assert f"acme/chat: prod moved from {OLD_COMMIT} to {COMMIT}" in shown
    assert served.fake.body("/models/acme/chat/refs/prod") == {"commit": None, "revision": "main"}

    back = shown.partition("to roll back: msp ")[2].split()
    served.fake.answers["PUT", "/models/acme/chat/refs/prod"] = (200, REFS)
    served.msp(*back)
    assert served.fake.body("/models/acme/chat/refs/prod") == {"commit": OLD_COMMIT, "revision": None}


@pytest.mark.parametrize(
    ("before", "said"), [({}, "prod is new and names"), ({"prod": COMMIT}, "prod names cccc")]
)
def test_a_promotion_that_moves_nothing_says_so(served: Served, before: dict[str, str], said: str) -> None:
    served.fake.answers["GET", "/models/acme/chat/refs"] = (200, {**REFS, "refs": before})
    served.fake.answers["PUT", "/models/acme/chat/refs/prod"] = (200, {**REFS, "refs": {"prod": COMMIT}})
    shown = served.msp("models", "promote", "acme/chat", "--revision", "v2")
    assert said in shown
    assert "roll back" not in shown
    moved = served.json("models", "promote", "acme/chat")
    assert moved == {"id": "acme/chat", "ref": "prod", "before": before.get("prod"), "after": COMMIT}


def test_without_a_terminal_a_deletion_asks_nothing_and_shows_what_it_broke(served: Served) -> None:
    served.fake.answers["DELETE", "/models/acme/chat"] = (200, DELETED)
    shown = served.msp("models", "rm", "acme/chat", "--revision", "v2", "--force")
    assert served.fake.paths("DELETE") == ["/models/acme/chat?revision=v2&force=true"]
    for part in ("1 commit, 7 objects, 2.0 kB", "refs that are gone: main, prod", "again: llm-1"):
        assert part in shown
    assert served.json("models", "rm", "acme/chat") == DELETED


def test_a_model_in_use_is_not_deleted(served: Served) -> None:
    used = {"error": {"message": "acme/chat is used by llm-1", "code": "model_in_use"}}
    served.fake.answers["DELETE", "/models/acme/chat"] = (409, used)
    assert "is used by llm-1" in served.msp("models", "rm", "acme/chat", code=ExitCode.REFUSED)


def test_on_a_terminal_a_deletion_asks_first(served: Served) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"n\n")
    process = subprocess.run(
        [sys.executable, "-m", "msp_cli", "models", "rm", "acme/chat"],
        env={**os.environ, "REGISTRY_URL": served.url},
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=30,
    )
    os.close(keyboard)
    os.close(terminal)
    assert process.returncode == ExitCode.UNEXPECTED
    assert "Delete acme/chat, all its revisions," in process.stderr
    assert served.fake.asked == []


def report(*, dry_run: bool, items: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    freed = sum(item["freed_bytes"] for item in items)
    return 200, {"dry_run": dry_run, "items": items, "freed_bytes": freed}


UPLOAD = {"kind": "upload", "name": "acme/chat model.safetensors", "objects": 3, "freed_bytes": 5_000_000}


def test_a_collection_only_shows_until_it_is_applied(served: Served) -> None:
    served.fake.answers["POST", "/gc"] = report(dry_run=True, items=[UPLOAD])
    shown = served.msp("models", "gc")
    assert "broken-off upload" in shown
    assert "5.0 MB would be freed; remove it with --apply" in shown
    assert served.fake.body("/gc") == {"dry_run": True, "older_than_s": 86_400, "unreferenced": False}

    served.fake.answers["POST", "/gc"] = report(dry_run=False, items=[UPLOAD])
    shown = served.msp("models", "gc", "--apply", "--older-than", "7d", "--unreferenced")
    assert "removed 1 things, 5.0 MB freed" in shown
    assert served.fake.body("/gc") == {"dry_run": False, "older_than_s": 604_800, "unreferenced": True}


def test_an_empty_collection_says_so(served: Served) -> None:
    served.fake.answers["POST", "/gc"] = report(dry_run=True, items=[])
    assert "there is nothing to remove" in served.msp("models", "gc")
    assert served.json("models", "gc")["items"] == []


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1y", "1h30m"])
def test_an_age_that_is_no_span_of_time_is_a_mistake(served: Served, text: str) -> None:
    served.msp("models", "gc", f"--older-than={text}", code=ExitCode.USAGE)
    assert served.fake.asked == []


@pytest.mark.parametrize(
    ("state", "said"), [("DOWNLOADING", "job j1 is being cancelled"), ("CANCELLED", "job j1: cancelled")]
)
def test_a_job_is_cancelled(served: Served, state: str, said: str) -> None:
    job = {"id": "j1", "repo_id": "acme/chat", "request": {"kind": "download"}, "state": state}
    answer = {**job, "created_at": 1, "updated_at": 1}
    served.fake.answers["POST", "/jobs/j1/cancel"] = (200, answer)
    assert said in served.msp("models", "cancel", "j1", REGISTRY_ADMIN_TOKEN="t0ken")
    assert served.fake.asked[0][2] == "Bearer t0ken"
    assert served.json("models", "cancel", "j1")["state"] == state


def test_a_job_that_has_ended_is_not_cancelled(served: Served) -> None:
    ended = {"error": {"message": "job j1 has ended", "code": "job_ended"}}
    served.fake.answers["POST", "/jobs/j1/cancel"] = (409, ended)
    assert "has ended" in served.msp("models", "cancel", "j1", code=ExitCode.REFUSED)
