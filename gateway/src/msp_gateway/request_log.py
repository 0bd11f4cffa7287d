"""One log line for every request, in the platform's format.

Python's logging takes longer for a line than the relay for its request: a record of 25 fields, a lock, two
system calls. Here a line is one string, and those of a moment are written together.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal

import msgspec

from msp_common.logs import redact

WRITTEN_AFTER_S = 0.2
"""So long a line may wait for others; what is killed takes the lines of this time with it."""

_JSON = msgspec.json.Encoder()


class RequestLog:
    """Call it with the request's id and fields, in the event loop; `flush` at the end."""

    def __init__(
        self,
        format: Literal["console", "json"],
        *,
        write: Callable[[str], object] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`write` is standard error's unless given; `now` is the time since the epoch."""
        self._line = _json_line if format == "json" else _console_line
        self._write = write
        self._now = now
        self._second, self._moment = -1, ""
        self._lines: list[str] = []

    def __call__(self, request_id: str, fields: Mapping[str, object]) -> None:
        """Write a line soon."""
        if not self._lines:
            asyncio.get_running_loop().call_later(WRITTEN_AFTER_S, self.flush)
        asked = fields.get("requested_model")
        if isinstance(asked, str) and asked != fields.get("model"):  # what is a model's id is no secret
            fields = {**fields, "requested_model": redact(asked)}
        if not request_id.startswith("req_"):
            request_id = redact(request_id)
        self._lines.append(self._line(self._time(), request_id, fields))

    def flush(self) -> None:
        """Write the lines that wait."""
        lines, self._lines = self._lines, []
        if lines:
            write = self._write or sys.stderr.write
            write("".join(lines))
            if self._write is None:
                sys.stderr.flush()

    def _time(self) -> str:
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second, self._moment = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._moment}.{int((now - second) * 1000):03d}Z"


def _json_line(moment: str, request_id: str, fields: Mapping[str, object]) -> str:
    line = {
        "time": moment,
        "level": "info",
        "service": "gateway",
        "logger": __name__,
        "request_id": request_id,
        "message": "request",
        **fields,
    }
    return _JSON.encode(line).decode() + "\n"


def _console_line(moment: str, request_id: str, fields: Mapping[str, object]) -> str:
    line = _console_template(tuple(fields)) % (moment, request_id, *fields.values())
    # A client's line end must not begin a line of the log.
    return f"{line if line.isprintable() else ascii(line)}\n"


@lru_cache(16)
def _console_template(names: tuple[str, ...]) -> str:
    return "%s info    gateway [%s] request" + "".join(f" {name}=%s" for name in names)
