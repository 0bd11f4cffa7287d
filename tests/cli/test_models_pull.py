"""`msp models pull` against a registry that really listens."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msp_cli.exit_codes import ExitCode
from support.cli_registry import COMMIT, CUT, GONE, HOLD, RESTARTED, Served, failed

HALF = {"state": "DOWNLOADING", "bytes_done": 5, "bytes_total": 10, "files_done": 1, "files_total": 3}
DONE = {"state": "SUCCEEDED", "commit": COMMIT, "bytes_done": 10, "bytes_total": 10}
NO_TOKEN = failed("gated_no_token", "accept the licence and set HF_TOKEN", retryable=False)
NO_ROUTE = failed("hub_unreachable", "the hub cannot be reached", retryable=True)


def test_a_pull_is_followed_to_its_end(served: Served) -> None:
    served.fake.scripts["acme/chat"] = [HALF, DONE]
    done = served.run(
        "models", "pull", "acme/chat", "--include", "*.json", "--exclude", "a*", REGISTRY_ADMIN_TOKEN="t0ken"
    )
    assert "acme/chat: downloading 50% (5 bytes of 10 bytes, 1 of 3 files)" in done.stderr
    assert done.stdout == f"job j1: succeeded {COMMIT}\n"
    method, path, authorization, body = served.fake.asked[0]
    assert (method, path, authorization) == ("POST", "/models/acme/chat/download", "Bearer t0ken")
    assert (body["allow_patterns"], body["ignore_patterns"]) == (["*.json"], ["a*"])
    assert (body["revision"], body["allow_pickle"]) == ("main", False)
    assert served.fake.paths("GET") == ["/jobs/j1/events"]


def test_the_job_is_the_answer_for_programs(served: Served) -> None:
    job = served.json("models", "pull", "acme/chat", "--revision", "v2", "--allow-pickle")
    assert (job["state"], job["revision"]) == ("SUCCEEDED", "v2")
    assert job["request"]["allow_pickle"] is True


@pytest.mark.parametrize("mark", [CUT, GONE])
def test_a_job_is_followed_through_broken_streams_and_restarts(served: Served, mark: str) -> None:
    served.fake.scripts["acme/chat"] = [HALF, mark, {"state": "VERIFYING"}, mark, DONE]
    done = served.run("models", "pull", "acme/chat")
    assert "verifying" in done.stderr
    assert done.stdout == f"job j1: succeeded {COMMIT}\n"
    assert served.fake.paths("POST") == ["/models/acme/chat/download"]
    assert "waiting for the registry" in done.stderr
    assert "the registry is back" in done.stderr


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        (NO_TOKEN, ExitCode.FAILED, "accept the licence and set HF_TOKEN"),
        (NO_ROUTE, ExitCode.FAILED_RETRYABLE, "running the command again carries on"),
        ({"state": "CANCELLED"}, ExitCode.CANCELLED, "job j1: cancelled"),
    ],
)
def test_a_job_that_does_not_succeed_says_why_and_whether_to_try_again(
    served: Served, ending: dict[str, Any], code: ExitCode, said: str
) -> None:
    served.fake.scripts["acme/chat"] = [HALF, ending]
    assert said in served.run("models", "pull", "acme/chat", code=code).stdout


def test_a_refused_pull_begins_no_job(served: Served) -> None:
    offline = {"error": {"message": "The registry is offline; import instead", "code": "registry_offline"}}
    served.fake.answers["POST", "/models/acme/chat/download"] = (409, offline)
    assert "import instead" in served.msp("models", "pull", "acme/chat", code=ExitCode.REFUSED)
    assert served.fake.paths("GET") == []


def test_a_job_need_not_be_waited_for(served: Served) -> None:
    shown = served.msp("models", "pull", "acme/chat", "--no-wait")
    assert "job j1: requested; see it with: msp models jobs j1" in shown
    assert len(served.fake.asked) == 1


@pytest.mark.parametrize(
    "arguments", [[], ["acme/chat", "--file", "m.yaml"], ["--file", "m.yaml", "--revision", "v2"]]
)
def test_a_pull_is_of_one_model_or_of_a_file(served: Served, arguments: list[str]) -> None:
    served.msp("models", "pull", *arguments, code=ExitCode.USAGE)
    assert served.fake.asked == []


def test_ctrl_c_leaves_the_job_running_and_says_how_to_see_and_stop_it(served: Served) -> None:
    served.fake.scripts["acme/chat"] = [HALF, HOLD]
    process = subprocess.Popen(
        # Whoever was started in the background ignores Ctrl-C, and hands that down.
        ["env", "--default-signal=INT", sys.executable, "-m", "msp_cli", "models", "pull", "acme/chat"],
        env={**os.environ, "REGISTRY_URL": served.url},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as lines:
        while "downloading" not in (line := lines.readline()):
            assert line, "msp ended before the job was under way"
        process.send_signal(signal.SIGINT)
        said = lines.read()
    assert process.wait(30) == ExitCode.INTERRUPTED
    assert "acme/chat goes on as job j1" in said
    assert "msp models cancel j1" in said
    assert served.fake.paths("POST") == ["/models/acme/chat/download"]


def test_a_file_s_models_are_all_brought_and_summed_up(served: Served, tmp_path: Path) -> None:
    served.fake.scripts["acme/chat"] = [HALF, DONE]
    file = tmp_path / "models.yaml"
    file.write_text(
        """
models:
  - {id: acme/chat, revision: v2, include: ["*.gguf"]}
  - {id: acme/own, revision: v3, import: /imports/own}
"""
    )
    shown = served.run("models", "pull", "--file", str(file)).stdout
    assert "2 of 2 are well" in shown
    for name in ("acme/chat", "acme/own"):
        (row,) = (line for line in shown.splitlines() if line.startswith(name))
        assert "succeeded" in row
        assert COMMIT[:12] in row
    assert served.fake.body("/models/acme/chat/download")["allow_patterns"] == ["*.gguf"]
    imported = {"kind": "import", "source": "/imports/own", "revision": "v3"}
    assert served.fake.body("/models/acme/own/import") == imported


def test_a_file_s_models_do_not_keep_each_other_from_coming(served: Served, tmp_path: Path) -> None:
    served.fake.scripts["acme/gated"] = [NO_TOKEN]
    served.fake.scripts["acme/far"] = [NO_ROUTE]
    served.fake.answers["POST", "/models/acme/busy/download"] = (409, {"error": {"message": "is deleted"}})
    file = tmp_path / "models.yaml"
    names = ("gated", "far", "busy", "chat")
    file.write_text("models:\n" + "".join(f"  - id: acme/{name}\n" for name in names))
    results = served.json("models", "pull", "--file", str(file), code=ExitCode.FAILED)["results"]
    assert {r["id"]: r["exit_code"] for r in results} == {
        "acme/gated": 6,
        "acme/far": 5,
        "acme/busy": 4,
        "acme/chat": 0,
    }
    shown = served.msp("models", "pull", "--file", str(file), code=ExitCode.REFUSED)
    assert "is deleted" in shown


def test_one_model_s_revisions_come_one_after_another(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("models: [{id: acme/chat, revision: v1}, {id: acme/chat, revision: v2}]")
    served.msp("models", "pull", "--file", str(file))
    assert [path.rsplit("/", 1)[-1] for _, path, _, _ in served.fake.asked] == [
        "download",
        "events",
        "download",
        "events",
    ]


def test_a_restart_between_two_revisions_is_waited_for(served: Served, tmp_path: Path) -> None:
    served.fake.scripts["acme/chat"] = [DONE, RESTARTED]
    file = tmp_path / "models.yaml"
    file.write_text("models: [{id: acme/chat, revision: v1}, {id: acme/chat, revision: v2}]")
    assert "2 of 2 are well" in served.msp("models", "pull", "--file", str(file))


def test_a_file_with_mistakes_brings_nothing(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("models: [{id: acme/chat}, {id: acme/other, revison: v2}]")
    shown = served.msp("models", "pull", "--file", str(file), code=ExitCode.USAGE)
    assert f"{file}: models.1.revison: no such key" in shown
    assert served.fake.asked == []
