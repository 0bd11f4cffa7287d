"""`msp models` and `msp status` against services that really listen."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from msp_cli.main import app

COMMIT = "c" * 40
FILE = {"path": "model.safetensors", "size_bytes": 1000, "sha256": "a" * 64, "git_sha1": "b" * 40}
INFO = {
    "id": "acme/chat",
    "commit": COMMIT,
    "revision": "main",
    "manifest": {
        "repo_id": "acme/chat",
        "commit": COMMIT,
        "revision": "main",
        "source": "folder",
        "files": [FILE],
        "total_bytes": 1000,
        "format": "safetensors",
        "licence": {"id": "mit"},
        "tool_version": "0.1.0",
    },
}
SUMMARY = {
    "id": "acme/chat",
    "commit": COMMIT,
    "refs": {"main": COMMIT},
    "total_bytes": 1000,
    "format": "safetensors",
    "parameters": 1234567,
}
WORKER = {
    "name": "llm",
    "kind": "worker",
    "url": "http://llm:8000",
    "status": "loading",
    "progress": 0.5,
    "reason": "reading weights",
    "model": {"id": "acme/chat", "type": "llm"},
}


class FakeServices:
    """Answers as the registry and the gateway would, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None, Any]] = []
        self.states = ["DOWNLOADING", "SUCCEEDED"]
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {
            ("GET", "/models"): (200, {"models": [SUMMARY]}),
            ("GET", "/models/acme/chat"): (200, INFO),
            ("GET", "/services"): (200, {"services": [WORKER]}),
            ("DELETE", "/models/acme/chat"): (200, {}),
        }

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        if path.startswith("/jobs/"):
            return 200, self._job(self.states.pop(0))
        if path.endswith(("/download", "/import")):
            return 202, self._job("REQUESTED")
        missing = {"error": {"message": f"no {path}", "type": "x", "param": None, "code": None}}
        return self.answers.get((method, path), (404, missing))

    def _job(self, state: str) -> dict[str, Any]:
        error = {"code": "no_space", "message": "the disk is full", "retryable": True}
        return {
            "id": "j1",
            "repo_id": "acme/chat",
            "revision": "main",
            "state": state,
            "bytes_done": 5,
            "bytes_total": 10,
            "error": error if state == "FAILED" else None,
            "created_at": 1.0,
            "updated_at": 1.0,
        }


class Served:
    """The fake behind a socket, and `msp` run against it."""

    def __init__(self, fake: FakeServices, url: str) -> None:
        self.fake = fake
        self.url = url

    def msp(self, *arguments: str, code: int = 0, **environ: str) -> str:
        environment = {"REGISTRY_URL": self.url, "GATEWAY_URL": self.url, "COLUMNS": "200", **environ}
        done = CliRunner().invoke(app, arguments, env=environment)
        assert done.exit_code == code, done.output
        return done.output


@pytest.fixture
def served() -> Iterator[Served]:
    fake = FakeServices()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            fake.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
            status, answer = fake.answer(self.command, self.path.partition("?")[0])
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Served(fake, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_models_are_listed_for_people_and_for_programs(served: Served) -> None:
    shown = served.msp("models", "list")
    for part in ("acme/chat", "cccccccccccc", "main", "1.0 kB", "1,234,567"):
        assert part in shown
    assert json.loads(served.msp("models", "list", "--json"))["models"][0]["commit"] == COMMIT


def test_info_shows_the_files_of_the_revision_asked_for(served: Served) -> None:
    shown = served.msp("models", "info", "acme/chat", "--revision", "v2")
    assert "model.safetensors" in shown
    assert "licence: mit" in shown
    assert served.fake.asked[0][1] == "/models/acme/chat?revision=v2"


def test_a_download_is_followed_to_its_end(served: Served) -> None:
    shown = served.msp("models", "download", "acme/chat", "--allow", "*.json", REGISTRY_ADMIN_TOKEN="t0ken")
    assert "acme/chat: downloading 50%" in shown
    assert "job j1: succeeded" in shown
    method, path, authorization, body = served.fake.asked[0]
    assert (method, path, authorization) == ("POST", "/models/acme/chat/download", "Bearer t0ken")
    assert body["allow_patterns"] == ["*.json"]


def test_a_job_that_fails_says_why_and_fails_the_command(served: Served) -> None:
    served.fake.states = ["FAILED"]
    assert "the disk is full" in served.msp("models", "import", "acme/chat", "/data/chat", code=1)
    assert served.fake.asked[0][3] == {"folder": "/data/chat", "revision": "main"}


def test_a_job_need_not_be_waited_for(served: Served) -> None:
    assert "job j1: requested" in served.msp("models", "download", "acme/chat", "--no-wait")
    assert len(served.fake.asked) == 1


def test_deleting_asks_first(served: Served) -> None:
    served.msp("models", "rm", "acme/chat", code=1)
    assert served.fake.asked == []
    served.msp("models", "rm", "acme/chat", "--yes", "--force")
    assert served.fake.asked[0][:2] == ("DELETE", "/models/acme/chat?force=true")


def test_a_refusal_is_shown_in_the_service_s_own_words(served: Served) -> None:
    assert "no /models/other" in served.msp("models", "info", "other", code=1)


def test_a_service_that_is_away_is_named() -> None:
    done = CliRunner().invoke(app, ["models", "list", "--registry", "http://127.0.0.1:9"])
    assert done.exit_code == 1
    assert "http://127.0.0.1:9/models cannot be reached" in done.output


def test_an_answer_that_is_not_understood_is_no_traceback(served: Served) -> None:
    served.fake.answers[("GET", "/models")] = (200, {"modles": []})
    assert "does not understand" in served.msp("models", "list", code=1)


def test_status_tells_what_each_worker_is_doing(served: Served) -> None:
    shown = served.msp("status")
    for part in ("llm", "loading 50%", "acme/chat", "reading weights"):
        assert part in shown
    assert json.loads(served.msp("status", "--json"))["services"][0]["status"] == "loading"
