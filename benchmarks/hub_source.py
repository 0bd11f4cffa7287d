"""A hub for benchmarks: real files by sendfile, over one link whose rate may be limited.

Run as `python hub_source.py FOLDER PORT BYTES_PER_S`: each folder below FOLDER is a model `bench/{name}`. 0
means no limit. It speaks as much of the Hub's protocol as a mirror, curl and huggingface_hub ask for.
"""

import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "b" * 40
_PIECE_BYTES = 256 << 10


class Link:
    """A line that all connections share: each piece waits until the line has had time for it."""

    def __init__(self, bytes_per_s: int, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    def carry(self, n_bytes: int) -> None:
        """Return when that many bytes have passed."""
        if not self._bytes_per_s:
            return
        with self._lock:
            self._free_at = max(self._free_at, self._clock()) + n_bytes / self._bytes_per_s
            wait_s = self._free_at - self._clock()
        if wait_s > 0:
            self._sleep(wait_s)


@dataclass(frozen=True)
class Served:
    """One file."""

    place: Path
    size_bytes: int
    sha256: str


def read_models(folder: Path) -> dict[str, dict[str, Served]]:
    """Model id → path → file, hashed once."""
    models: dict[str, dict[str, Served]] = {}
    for place in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, _, path = place.relative_to(folder).as_posix().partition("/")
        with place.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        models.setdefault(f"bench/{name}", {})[path] = Served(place, place.stat().st_size, digest)
    return models


def handler(models: dict[str, dict[str, Served]], link: Link) -> type[BaseHTTPRequestHandler]:
    """The handler for one set of models and one link."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            if match := re.fullmatch(r"/api/models/(.+?)/(revision|tree)/[^/]+", path):
                self._describe(match[1], match[2])
            elif match := re.fullmatch(r"/(.+?)/resolve/[^/]+/(.+)", path):
                self._send(models[match[1]][match[2]], body=body)
            else:
                self._json(404, {"error": "no such thing here"})

        def _describe(self, repo_id: str, what: str) -> None:
            files = models.get(repo_id)
            if files is None:
                self._json(404, {"error": "no such model"})
            elif what == "revision":
                siblings = [{"rfilename": path} for path in files]
                self._json(200, {"id": repo_id, "sha": COMMIT, "siblings": siblings})
            else:
                self._json(200, [_entry(path, file) for path, file in files.items()])

        def _send(self, file: Served, *, body: bool) -> None:
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first = int(match[1]) if match else 0
            last = int(match[2]) if match and match[2] else file.size_bytes - 1
            self.send_response(206 if match else 200)
            if match:
                self.send_header("Content-Range", f"bytes {first}-{last}/{file.size_bytes}")
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{file.sha256}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            self.wfile.flush()
            if body:
                with file.place.open("rb") as source:
                    while first <= last:
                        piece = min(_PIECE_BYTES, last - first + 1)
                        link.carry(piece)
                        first += os.sendfile(self.connection.fileno(), source.fileno(), first, piece)

        def _json(self, status: int, answer: object) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def _entry(path: str, file: Served) -> dict[str, object]:
    lfs = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": 134}
    return {"type": "file", "path": path, "size": file.size_bytes, "oid": "0" * 40, "lfs": lfs}


def main() -> None:
    """Serve until killed."""
    folder, port, bytes_per_s = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    link = Link(bytes_per_s, time.monotonic, time.sleep)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler(read_models(folder), link))
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
