"""The bodies that a fake hub sends: ranges of a file, and everything that goes wrong with them."""

import re
import threading
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread
from fastapi import Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

_CHUNK_BYTES = 64 << 10
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(kw_only=True)
class BodyFaults:
    """Knobs for bodies. A count of None means every time."""

    wrong_bytes: set[str] = field(default_factory=set)
    """Paths of which one byte, the file's first, is changed."""
    wrong_left: int | None = None
    """How many more bodies are changed."""
    cut_after: int | None = None
    """Bodies of large files end, with their connection, after so many bytes."""
    cuts_left: int | None = None
    """How many more bodies are cut."""
    ignore_range: bool = False
    """Every answer is the whole file, with status 200."""
    other_ranges_left: int = 0
    """How many more ranges begin one byte later than asked for, and say so."""
    dead_after: int | None = None
    """Once so many bytes of files were sent, every request for more is answered with 503."""
    told_sizes: dict[str, int] = field(default_factory=dict)
    """Path → the size that answers with its bytes announce."""
    slow_left: int = 0
    """How many more answers with bytes wait for `release` before their first byte."""
    stall_after: int = 0
    stalls_left: int = 0
    """How many more bodies of large files wait for `release` after `stall_after` bytes."""
    release: threading.Event = field(default_factory=threading.Event)
    content_encoding: str | None = None
    """A header that lies about the body."""
    sent: Counter[str] = field(default_factory=Counter)
    """Path → bytes of its content that were sent."""

    async def body(
        self, request: Request, data: bytes, path: str, *, large: bool, headers: dict[str, str]
    ) -> Response:
        """The answer to a request for a file's bytes."""
        if self.slow_left:
            self.slow_left -= 1
            await to_thread.run_sync(self.release.wait)
        if self.dead_after is not None and self.sent.total() >= self.dead_after:
            return Response(status_code=503)
        size = self.told_sizes.get(path, len(data))
        first, last, status = 0, len(data) - 1, 200
        match = _RANGE.fullmatch(request.headers.get("range", ""))
        if match and not self.ignore_range:
            first, last = int(match[1]), min(int(match[2] or last), last)
            if first > last:
                return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
            if self.other_ranges_left:
                self.other_ranges_left -= 1
                first += 1
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        if path in self.wrong_bytes and first == 0 and _spend(self, "wrong_left"):
            data = bytes([data[0] ^ 1]) + data[1:]
        part = memoryview(data)[first : last + 1]
        length = len(part) if status == 206 else size
        headers |= {"Content-Length": str(length), "Accept-Ranges": "bytes"}
        if self.content_encoding:
            headers["Content-Encoding"] = self.content_encoding
        cut = stall = None
        if self.cut_after is not None and large and len(part) > self.cut_after and _spend(self, "cuts_left"):
            cut = self.cut_after
        if self.stalls_left and large and len(part) > self.stall_after:
            self.stalls_left -= 1
            stall = self.stall_after
        return _Body(self, path, part, status, headers, cut=cut, stall=stall, broken=length != len(part))


def _spend(faults: BodyFaults, counter: str) -> bool:
    left = getattr(faults, counter)
    if left is None:
        return True
    setattr(faults, counter, max(0, left - 1))
    return bool(left)


class _Body(StreamingResponse):
    """Sends, counts what it sent, and may announce more than that and then break the connection."""

    def __init__(
        self,
        faults: BodyFaults,
        path: str,
        part: memoryview,
        status: int,
        headers: dict[str, str],
        *,
        cut: int | None,
        stall: int | None,
        broken: bool,
    ) -> None:
        end = len(part) if cut is None else cut
        self._broken = broken or cut is not None

        async def body() -> AsyncGenerator[memoryview, None]:
            position = 0
            while position < end:
                if stall is not None and position == stall:
                    await to_thread.run_sync(faults.release.wait)
                stop = min(end, position + _CHUNK_BYTES)
                if stall is not None and position < stall:
                    stop = min(stop, stall)
                faults.sent[path] += stop - position  # before a client can have it, and ask for the sum
                yield part[position:stop]
                position = stop

        super().__init__(body(), status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def pass_on(message: Any) -> None:
            # The last, empty message would be checked against the announced length by the server, which
            # then logs an error of its own; without it the connection is simply closed.
            if not self._broken or message["type"] != "http.response.body" or message.get("more_body"):
                await send(message)

        await super().__call__(scope, receive, pass_on)
