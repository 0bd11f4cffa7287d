"""`msp models list`, `info` and `jobs`: what is there, for people and for programs."""

from typing import Any

import pytest

from msp_cli.exit_codes import ExitCode
from support.cli_registry import COMMIT, INFO, MANIFEST, SUMMARY, Served, failed

JOB = {
    "id": "j9",
    "repo_id": "acme/chat",
    "request": {"kind": "download", "revision": "v2"},
    "state": "DOWNLOADING",
    "bytes_done": 500,
    "bytes_total": 1000,
    "rate_bytes_per_s": 100.0,
    "eta_s": 5.0,
    "created_at": 1.0,
    "updated_at": 1.0,
}


def test_models_are_listed_for_people_and_for_programs(served: Served) -> None:
    shown = served.msp("models", "list")
    for part in ("acme/chat", "cccccccccccc", "main", "1.0 kB", "1,234,567"):
        assert part in shown
    assert "state" not in shown
    assert served.json("models", "list")["models"][0]["commit"] == COMMIT


def test_the_list_says_which_models_have_bad_files(served: Served) -> None:
    served.fake.answers["GET", "/models"] = (200, {"models": [{**SUMMARY, "quarantined": True}]})
    assert "has bad files" in served.msp("models", "list")


def test_info_shows_the_files_of_the_revision_asked_for(served: Served) -> None:
    shown = served.msp("models", "info", "acme/chat", "--revision", "v2")
    for part in ("model.safetensors", "mit", "main = cccccccccccc", "prod = dddddddddddd", "1 files"):
        assert part in shown
    assert served.fake.paths("GET") == ["/models/acme/chat?revision=v2"]
    assert served.json("models", "info", "acme/chat")["manifest"]["files"][0]["size_bytes"] == 1000


@pytest.mark.parametrize(
    ("used_by", "shown"), [(None, "not known"), ([], "nobody"), (["llm", "b"], "llm, b")]
)
def test_info_tells_who_uses_it_apart_from_not_knowing(
    served: Served, used_by: list[str] | None, shown: str
) -> None:
    manifest = {**MANIFEST, "dtype": "BF16", "parameters": 12}
    served.fake.answers["GET", "/models/acme/chat"] = (
        200,
        {**INFO, "manifest": manifest, "used_by": used_by},
    )
    (line,) = (s for s in served.msp("models", "info", "acme/chat").splitlines() if s.startswith("used by"))
    assert line.split(maxsplit=2)[2].strip() == shown


def test_info_names_bad_files_and_the_way_out(served: Served) -> None:
    quarantined = {"model.safetensors": "sha256 differs"}
    served.fake.answers["GET", "/models/acme/chat"] = (200, {**INFO, "quarantined": quarantined})
    shown = served.msp("models", "info", "acme/chat")
    assert "model.safetensors is not served: sha256 differs" in shown
    assert "msp models verify acme/chat" in shown


def test_jobs_are_listed_with_what_they_are_doing(served: Served) -> None:
    broken = {**JOB, "id": "j8", **failed("gated_no_token", "set HF_TOKEN", retryable=False)}
    served.fake.answers["GET", "/jobs"] = (200, {"jobs": [JOB, broken]})
    shown = served.msp("models", "jobs")
    for part in ("j9", "download", "v2", "50% of 1.0 kB", "100 bytes/s", "0:05 left", "set HF_TOKEN"):
        assert part in shown
    assert len(served.json("models", "jobs")["jobs"]) == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, ExitCode.DONE),
        ({"state": "SUCCEEDED"}, ExitCode.DONE),
        ({"state": "CANCELLED"}, ExitCode.CANCELLED),
        (failed("hub_unreachable", "no route", retryable=True), ExitCode.FAILED_RETRYABLE),
        (failed("gated_no_token", "set HF_TOKEN", retryable=False), ExitCode.FAILED),
    ],
)
def test_one_job_ends_the_command_as_it_ended_itself(
    served: Served, change: dict[str, Any], code: ExitCode
) -> None:
    served.fake.answers["GET", "/jobs/j9"] = (200, {**JOB, **change})
    assert served.json("models", "jobs", "j9", code=code)["id"] == "j9"


def test_a_refusal_is_shown_in_the_registry_s_own_words(served: Served) -> None:
    assert "no /models/other" in served.msp("models", "info", "other", code=ExitCode.REFUSED)


@pytest.mark.parametrize("name", ["../x", "a/b/c", "a b", "a?b"])
def test_what_is_no_model_id_is_not_asked_for(served: Served, name: str) -> None:
    for command in ("info", "pull", "verify", "rm", "refs"):
        assert "is no model id" in served.msp("models", command, name, code=ExitCode.USAGE)
    assert served.fake.asked == []


def test_a_registry_that_is_away_is_named_and_has_its_own_exit_code(served: Served) -> None:
    shown = served.msp("models", "list", "--registry", "http://127.0.0.1:9", code=ExitCode.AWAY)
    assert "http://127.0.0.1:9/models cannot be reached" in shown
    served.fake.answers["GET", "/models"] = (503, {"error": {"message": "the store does not answer"}})
    assert "the store does not answer" in served.msp("models", "list", code=ExitCode.AWAY)


def test_an_answer_that_is_not_understood_is_no_traceback(served: Served) -> None:
    served.fake.answers["GET", "/models"] = (200, {"modles": []})
    assert "does not understand" in served.msp("models", "list", code=ExitCode.UNEXPECTED)


def test_the_help_says_what_each_exit_code_means(served: Served) -> None:
    shown = served.msp("models", "--help")
    for code in ExitCode:
        assert f"{code.value}: {code.meaning}" in shown
