"""A tiny program in a service's place: answers `/health`, and misbehaves as its environment says.

STANDIN_LOADING_ASKS   so many health questions are answered 503 with progress before it is healthy
STANDIN_EXIT_CODE      ends with this code at once, after writing a line
STANDIN_IGNORE_TERM    does not end at SIGTERM
STANDIN_CHILD          has a child process that ignores SIGTERM; its pid is written to this file
STANDIN_NOTES          every start is noted in this file, with its arguments' environment
"""

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOADING_ASKS = int(os.environ.get("STANDIN_LOADING_ASKS", "0"))


class Handler(BaseHTTPRequestHandler):
    """Health, a job of a registry that takes two looks, and an echo."""

    asked = 0
    job_looks = 0

    def do_GET(self) -> None:
        cls = type(self)
        if self.path.endswith("/events"):
            # The stream of a proxy that cuts it at once: whoever follows must go on by asking.
            self._answer(200, {})
            return
        if self.path.startswith("/jobs/"):
            cls.job_looks += 1
            self._answer(200, job("SUCCEEDED" if cls.job_looks > 1 else "VERIFYING"))
            return
        cls.asked += 1
        if cls.asked <= LOADING_ASKS:
            self._answer(503, {"status": "down", "state": "loading", "progress": cls.asked / LOADING_ASKS})
        else:
            self._answer(200, {"status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/import"):
            note({"imported": body["source"], "path": self.path})
            self._answer(202, job("REQUESTED"))
        elif "fail" in body:
            self._answer(500, {"error": {"message": "as asked"}})
        else:
            self._answer(200, {"echo": body})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def job(state: str) -> dict[str, object]:
    return {
        "id": "1",
        "repo_id": "samples/x",
        "request": {"kind": "import", "source": "/models/x"},
        "state": state,
        "created_at": 1.0,
        "updated_at": 1.0,
    }


def note(what: dict[str, object]) -> None:
    if path := os.environ.get("STANDIN_NOTES"):
        with Path(path).open("a") as notes:
            notes.write(json.dumps(what) + "\n")


def main() -> None:
    note({"started": os.environ["PORT"]})
    if code := os.environ.get("STANDIN_EXIT_CODE"):
        sys.stderr.write("the engine is on fire\n")
        raise SystemExit(int(code))
    if child_file := os.environ.get("STANDIN_CHILD"):
        script = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", script])
        Path(child_file).write_text(str(child.pid))
    server = ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler)
    if os.environ.get("STANDIN_IGNORE_TERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stderr.write("standing in\n")
    server.serve_forever()


if __name__ == "__main__":
    main()
