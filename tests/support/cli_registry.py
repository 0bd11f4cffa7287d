"""A registry, and a gateway, that `msp` talks to over a real socket: it says what a test tells it to say.

Jobs follow a script. Each step is the job's next state, or one of the marks below.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from typer.testing import CliRunner, Result

from msp_cli.main import app

CUT = "cut"
"""The event stream breaks; the job goes on with the next step."""
GONE = "gone"
"""The registry is restarted: connections are dropped for a while, then 503 is answered once."""
RESTARTED = "restarted"
"""As GONE, once the event before it has been sent."""
HOLD = "hold"
"""Nothing happens any more; the stream stays open."""

COMMIT = "c" * 40
OLD_COMMIT = "d" * 40
FILE = {"path": "model.safetensors", "size_bytes": 1000, "sha256": "a" * 64, "git_sha1": "b" * 40}
MANIFEST = {
    "repo_id": "acme/chat",
    "commit": COMMIT,
    "revision": "main",
    "source": "folder",
    "files": [FILE],
    "total_bytes": 1000,
    "format": "safetensors",
    "licence": {"id": "mit"},
    "tool_version": "0.1.0",
}
INFO = {
    "id": "acme/chat",
    "commit": COMMIT,
    "revision": "main",
    "refs": {"main": COMMIT, "prod": OLD_COMMIT},
    "manifest": MANIFEST,
}
SUMMARY = {
    "id": "acme/chat",
    "commit": COMMIT,
    "refs": {"main": COMMIT},
    "total_bytes": 1000,
    "format": "safetensors",
    "parameters": 1234567,
}


class FakeRegistry:
    """Answers, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None, Any]] = []
        self.scripts: dict[str, list[Any]] = {}
        """Steps by model id; a job of a model that has none succeeds at once."""
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {
            ("GET", "/models"): (200, {"models": [SUMMARY]}),
            ("GET", "/models/acme/chat"): (200, INFO),
        }
        self.archive = b""
        self.archive_cut_at: int | None = None
        self.uploaded = b""
        self.silent = 0
        """So many further requests get no answer."""
        self.closing = threading.Event()
        self._jobs: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def paths(self, method: str) -> list[str]:
        """What was asked for with this method, in order."""
        return [path for m, path, _, _ in self.asked if m == method]

    def body(self, path: str) -> Any:
        """What was sent there, the last time."""
        return [body for _, p, _, body in self.asked if p == path][-1]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """The answer to a request that is no stream."""
        if (method, path) in self.answers:
            return self.answers[method, path]
        if match := re.fullmatch(r"/models/(.+)/(download|import|verify)", path):
            return 202, self._begin(unquote(match[1]), body)
        if (match := re.fullmatch(r"/jobs/(\w+)", path)) and match[1] in self._jobs:
            return 200, self._jobs[match[1]]
        missing = {"error": {"message": f"no {path}", "type": "x", "param": None, "code": "not_found"}}
        return 404, missing

    def stream(self, job_id: str) -> Iterator[bytes]:
        """The job's events, until its script says that the stream ends."""
        job = self._jobs[job_id]
        steps = self.scripts.get(job["repo_id"], [])
        yield b": keep-alive\n\n" + _event(job)
        while job["state"] not in ("SUCCEEDED", "FAILED", "CANCELLED"):
            step = steps.pop(0) if steps else {"state": "SUCCEEDED", "commit": COMMIT}
            if step == HOLD:
                self.closing.wait(30)
                return
            if step == GONE:
                with self._lock:
                    self.silent = 2
                self.answers["GET", f"/jobs/{job_id}"] = (
                    503,
                    {"error": {"message": "still reading its jobs"}},
                )
            if step in (CUT, GONE):
                return
            job.update(step)
            if steps[:1] == [RESTARTED]:
                steps.pop(0)
                self.silent = 2
            self.answers.pop(("GET", f"/jobs/{job_id}"), None)
            yield _event(job)

    def drops_this(self) -> bool:
        """Whether the request at hand gets no answer."""
        with self._lock:
            self.silent -= 1
            return self.silent >= 0

    def _begin(self, model_id: str, request: dict[str, Any]) -> dict[str, Any]:
        job_id = f"j{len(self._jobs) + 1}"
        self._jobs[job_id] = job = {
            "id": job_id,
            "repo_id": model_id,
            "request": request,
            "state": "REQUESTED",
            "created_at": 1.0,
            "updated_at": 1.0,
        }
        return dict(job)


class Served:
    """The fake behind a socket, and `msp` run against it."""

    def __init__(self, fake: FakeRegistry, url: str) -> None:
        self.fake = fake
        self.url = url

    def run(self, *arguments: str, code: int = 0, **environ: str) -> Result:
        """The command's outputs, apart; `code` is the exit code that it must have."""
        environment = {"REGISTRY_URL": self.url, "GATEWAY_URL": self.url, "COLUMNS": "200", **environ}
        done = CliRunner().invoke(app, arguments, env=environment)
        assert done.exit_code == code, done.output
        return done

    def msp(self, *arguments: str, code: int = 0, **environ: str) -> str:
        """The command's outputs, together."""
        return self.run(*arguments, code=code, **environ).output

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The command's standard output, which must be JSON and nothing else."""
        return json.loads(self.run(*arguments, "--json", code=code).stdout)


@contextmanager
def served_registry() -> Iterator[Served]:
    """A fake that listens until the block ends."""
    fake = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            if fake.drops_this():
                return
            path, _, _ = self.path.partition("?")
            body = self._body(path)
            fake.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
            if path.endswith("/events"):
                self._stream(path.split("/")[-2])
            elif path.endswith("/archive") and self.command == "GET" and fake.archive:
                self._send(200, fake.archive, cut_at=fake.archive_cut_at)
            else:
                status, answer = fake.answer(self.command, path, body)
                if path.endswith("/archive") and not fake.uploaded and status == 201:
                    status, answer = 400, {"error": {"message": "the tar is empty", "code": "bad_archive"}}
                self._send(status, json.dumps(answer).encode())

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def _body(self, path: str) -> Any:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if path.endswith("/archive"):
                fake.uploaded = data
                return None
            return json.loads(data) if data else None

        def _stream(self, job_id: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            # Never reached: a stream that ends early looks broken, as one in chunks does.
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            for data in fake.stream(job_id):
                self.wfile.write(data)
                self.wfile.flush()

        def _send(self, status: int, data: bytes, cut_at: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:cut_at])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Served(fake, f"http://127.0.0.1:{server.server_port}")
    finally:
        fake.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def failed(code: str, message: str, *, retryable: bool) -> dict[str, Any]:
    """The last step of a job that fails."""
    return {"state": "FAILED", "error": {"code": code, "message": message, "retryable": retryable}}


def _event(job: dict[str, Any]) -> bytes:
    return f"event: job\ndata: {json.dumps(job)}\n\n".encode()
