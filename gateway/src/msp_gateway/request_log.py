"""One log line for every request, in the platform's format.

Python's logging takes longer for a line than the relay for its request: a record of 25 fields, a lock, two
system calls. Here a line is one string, and those of a moment are written together.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from msp_common.logs import redact
from msp_gateway.record import Record

WRITTEN_AFTER_S = 0.2
"""So long a line may wait for others; what is killed takes the lines of this time with it."""

_JSON = msgspec.json.Encoder()
_PRINTABLE = bytes(range(0x20, 0x7F))


class RequestLog:
    """`add` each request's record, in the event loop; `flush` at the end."""

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

    def add(self, record: Record, status: int, duration_s: float) -> None:
        """Write a line soon."""
        if not self._lines:
            asyncio.get_running_loop().call_later(WRITTEN_AFTER_S, self.flush)
        self._lines.append(self._line(self._time(), record, status, duration_s))

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


def _json_line(moment: str, record: Record, status: int, duration_s: float) -> str:
    line = {
        "time": moment,
        "level": "info",
        "service": "gateway",
        "logger": __name__,
        "request_id": _without_secrets(record.request_id),
        "message": "request",
        **log_fields(record, status, duration_s),
    }
    return _JSON.encode(line).decode() + "\n"


def _console_line(moment: str, record: Record, status: int, duration_s: float) -> str:
    # A format for each line would take as long as all else that is counted of a request.
    failed = [f"{tried.worker_id}:{tried.what}" for tried in record.failed] if record.failed else []
    waited_s = None if record.waited_s is None else f"{record.waited_s:.4g}"
    first_byte_s = None if record.first_byte is None else f"{record.first_byte - record.started:.4g}"
    line = (
        f"{moment} info    gateway [{_without_secrets(record.request_id)}] request path={record.path} "
        f"status={status} error={record.error} complete={record.complete} stream={record.stream} "
        f"identity={record.identity} requested_model={_asked(record)} model={record.model} "
        f"worker={record.worker} resumed={record.resumed} failed_tries={failed} waited_s={waited_s} "
        f"first_byte_s={first_byte_s} duration_s={duration_s:.4g}"
    )
    return f"{line if _is_one_line(line) else ascii(line)}\n"


def _is_one_line(line: str) -> bool:
    """A client's line end must not begin a line of the log, nor what it wrote speak to a terminal."""
    # `isprintable` looks each character up in a table: as much work as all else of the line.
    return (line.isascii() and not line.encode().translate(None, _PRINTABLE)) or line.isprintable()


def log_fields(record: Record, status: int, duration_s: float) -> dict[str, object]:
    """What is said of a request, by name."""
    first_byte_s = None if record.first_byte is None else round(record.first_byte - record.started, 4)
    return {
        "path": record.path,
        "status": status,
        "error": record.error,
        "complete": record.complete,
        "stream": record.stream,
        "identity": record.identity,
        "requested_model": _asked(record),
        "model": record.model,
        "worker": record.worker,
        "resumed": record.resumed,
        "failed_tries": [f"{tried.worker_id}:{tried.what}" for tried in record.failed],
        "waited_s": None if record.waited_s is None else round(record.waited_s, 4),
        "first_byte_s": first_byte_s,
        "duration_s": round(duration_s, 4),
    }


def _asked(record: Record) -> str | None:
    asked = record.requested_model
    # What is a model's id is no secret.
    return redact(asked) if asked is not None and asked != record.model else asked


def _without_secrets(request_id: str) -> str:
    return request_id if request_id.startswith("req_") else redact(request_id)
