"""The two registries as a worker meets them over HTTP: small FastAPI applications that remember what came."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from msp_common.contracts.models import FileUrl, Manifest, ManifestFile, ModelInfo

COMMIT = "a1" * 20
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


class FakeModelRegistry:
    """One model, served as the registry serves it, with knobs for what can go wrong on the way."""

    def __init__(self, files: dict[str, bytes], model_id: str = "org/model") -> None:
        self.model_id = model_id
        self.commit = COMMIT
        self.files = dict(files)
        self.manifest_files = [manifest_file(path, data) for path, data in files.items()]
        self.absolute_urls_for: set[str] = set()
        self.quarantined: dict[str, str] = {}
        self.signature = ""
        """What addresses must carry; others are refused with `refused_as`. Empty: they need none."""
        self.refused_as = 403
        self.hand_out: list[tuple[str, float | None]] = []
        """Signature and end of the addresses in each answer; the last one goes on."""
        self.quotes_addresses = True
        self.redirect_to: str | None = None
        """Where requests for files are sent on to."""
        self.down = False
        self.absent = False
        self.ignores_ranges = False
        self.cut_after: dict[str, int] = {}
        """Path → bytes after which the connection breaks, once."""
        self.fails_at: set[tuple[str, int]] = set()
        """Path and offset of ranges that are answered 503."""
        self.hold = threading.Event()
        self.hold.set()
        self.answers_before_hold = 0
        """Requests for files that are answered even while `hold` is clear."""
        self.asked: list[tuple[str, int]] = []
        """Every request for a file: path and offset, in order of arrival."""
        self.resolved: list[str] = []
        """Every revision that was asked for."""
        self.served_bytes = 0
        self._news = threading.Condition()
        self.app = FastAPI()
        self.app.add_api_route("/models/{name:path}", self._model, response_model=None)
        self.app.add_api_route("/files/{path:path}", self._file, response_model=None)

    def manifest(self) -> Manifest:
        return Manifest(
            repo_id=self.model_id,
            commit=self.commit,
            revision="main",
            source="folder",
            files=self.manifest_files,
            total_bytes=sum(f.size_bytes for f in self.manifest_files),
            format="safetensors",
            tool_version="test",
        )

    def wait_asked(self, count: int, timeout_s: float = 20) -> None:
        """Block until this many requests for files have come."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.asked) >= count, timeout_s), self.asked

    def _model(self, name: str, revision: str, request: Request) -> Response:
        if self.down:
            return Response(status_code=503)
        self.resolved.append(revision)
        signature, expires_at = ("", None) if not self.hand_out else self.hand_out[0]
        del self.hand_out[: len(self.hand_out) > 1]
        if self.absent or name != self.model_id:
            return Response('{"error": {"message": "no such model"}}', status_code=404)
        base = str(request.base_url)
        info = ModelInfo(
            id=self.model_id,
            commit=self.commit,
            revision=revision,
            refs={"main": self.commit},
            manifest=self.manifest(),
            urls=[
                FileUrl(
                    path=f.path,
                    url=f"{base if f.path in self.absolute_urls_for else '/'}"
                    f"files/{self.model_id}/{self.commit}/"
                    f"{quote(f.path) if self.quotes_addresses else f.path}"
                    f"{'?signature=' if signature else ''}{signature}",
                    expires_at=expires_at,
                )
                for f in self.manifest_files
            ],
            quarantined=self.quarantined,
        )
        return Response(info.model_dump_json(), media_type="application/json")

    def _file(self, path: str, request: Request) -> Response:
        name = path.removeprefix(f"{self.model_id}/{self.commit}/")
        match = _RANGE.match(request.headers.get("range", ""))
        asked_from = int(match[1]) if match else 0
        with self._news:
            self.asked.append((name, asked_from))
            held = len(self.asked) > self.answers_before_hold
            self._news.notify_all()
        if self.redirect_to is not None:
            return RedirectResponse(f"{self.redirect_to}{request.url.path}", status_code=307)
        if self.signature != request.query_params.get("signature", ""):
            return Response(status_code=self.refused_as)
        if self.down or (name, asked_from) in self.fails_at:
            return Response(status_code=503)
        if name not in self.files:
            return Response(status_code=404)
        data = self.files[name]
        ranged = match is not None and not self.ignores_ranges
        first = asked_from if ranged else 0
        last = int(match[2]) if match and ranged and match[2] else len(data) - 1
        if first >= len(data) > 0:
            return Response(status_code=416)
        body = data[first : last + 1]
        headers = {"Content-Length": str(len(body))}
        if ranged:
            headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(data)}"
        return StreamingResponse(
            self._chunks(body, self.cut_after.pop(name, None), held),
            status_code=206 if ranged else 200,
            headers=headers,
        )

    def _chunks(self, data: bytes, cut_after: int | None, held: bool) -> Iterator[bytes]:
        if held and not self.hold.wait(10):
            raise TimeoutError("nobody let the held answer go")
        if cut_after is not None:
            yield data[:cut_after]
            raise ConnectionError("cut, as the test asked")
        with self._news:
            self.served_bytes += len(data)
        yield data


def manifest_file(path: str, data: bytes) -> ManifestFile:
    return ManifestFile(
        path=path,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        git_sha1=hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
    )


class FakeServiceRegistry:
    """Takes leases and remembers every call: method, worker, body, and the Authorization it came with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.tokens: set[str | None] = set()
        self.answer_with = 200
        self._news = threading.Condition()
        self.app = FastAPI()
        self.app.add_api_route("/workers/{worker_id}", self._call, methods=["PUT", "DELETE"])

    async def _call(self, worker_id: str, request: Request) -> Response:
        body = await request.body()
        with self._news:
            self.tokens.add(request.headers.get("authorization"))
            self.calls.append((request.method, worker_id, json.loads(body) if body else None))
            self._news.notify_all()
        if self.answer_with != 200:
            return Response("no", status_code=self.answer_with)
        if request.method == "DELETE":
            return Response(status_code=204)
        return Response('{"lease_s": 10, "heartbeat_s": 2, "generation": 1}', media_type="application/json")

    def states(self) -> list[str]:
        """The states in the order they were told, repetitions left out; `gone` for a DELETE."""
        told = [call[2]["state"] if call[0] == "PUT" else "gone" for call in self.calls]
        return [s for i, s in enumerate(told) if i == 0 or told[i - 1] != s]

    def wait_for(self, state: str, timeout_s: float = 60) -> None:
        """Block until the state was told."""
        with self._news:
            assert self._news.wait_for(lambda: state in self.states(), timeout_s), self.states()

    def wait_for_lease(self, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = 60) -> None:
        """Block until a lease was told of which `wanted` is true."""
        with self._news:
            assert self._news.wait_for(
                lambda: any(call[2] and wanted(call[2]) for call in self.calls), timeout_s
            ), self.calls[-1:]
